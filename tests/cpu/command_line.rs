//! The program from outside: commands, exit codes, what goes to standard output and what does not.

use std::io::Read;

use crate::cli::{Task, finish, jurist, lines, succeed};
use crate::messages::Messages;
use serde_json::Value;

#[test]
fn doctor_lists_adapters() {
    let done = succeed(jurist(&["doctor", "--list"]));
    let mut text = done.out.lines();
    assert_eq!(text.next(), Some("adapters"));
    assert!(text.next().unwrap().starts_with("  0: "), "{}", done.out);
    let chosen = done.out.lines().find(|l| l.starts_with("chosen: ")).unwrap();
    assert!(["software", "integrated", "discrete"].iter().any(|class| chosen.contains(class)), "{chosen}");
    for limit in ["storage binding (bytes)", "workgroup memory (bytes)", "workgroups per dimension"] {
        let line = done.out.lines().find(|l| l.trim_start().starts_with(limit)).unwrap();
        assert!(line.split_whitespace().last().unwrap().parse::<u64>().unwrap() > 0, "{line}");
    }
    // The number in the list chooses.
    let number = succeed(jurist(&["doctor", "--list", "--adapter", "0"]));
    let first = done.out.lines().nth(1).unwrap().trim_start_matches("  0: ");
    assert!(number.out.contains(&format!("chosen: {first}")), "{}", number.out);
}

#[test]
fn doctor_exit_codes() {
    assert_eq!(finish(jurist(&["doctor", "--list", "--adapter", "voodoo"])).code, Some(1));
    assert_eq!(finish(jurist(&["doctor", "--against", "nowhere"])).code, Some(1));
    assert_eq!(finish(jurist(&["doctor", "--list", "--against", "x"])).code, Some(2));
}

#[test]
fn help_and_version() {
    let version = succeed(jurist(&["--version"]));
    assert_eq!(version.out.trim(), format!("jurist {}", env!("CARGO_PKG_VERSION")));
    for command in ["train", "score", "eval", "agree", "export", "serve", "doctor", "demo", "bench"] {
        let done = succeed(jurist(&[command, "--help"]));
        assert!(done.out.contains("Example") && done.err.is_empty(), "{command}: {}", done.err);
    }
    let none = finish(jurist(&[]));
    assert_eq!((none.code, none.out.as_str()), (Some(2), ""));
}

/// The ceilings alone, as JSON: figures that any machine would have, and nothing else on standard output.
#[test]
fn bench_measures_ceilings() {
    let done = succeed(jurist(&["bench", "--only", "ceilings", "--quick", "--repeat", "2", "--json"]));
    let found: Value = serde_json::from_str(&done.out).unwrap();
    assert!(done.err.contains("adapter: "), "{}", done.err);
    assert_eq!(found["rows"], Value::Array(Vec::new()));
    assert_eq!((&found["shape"]["hidden"], &found["samples"]), (&Value::from(256), &Value::from(2)));
    assert!(found["adapter"]["name"].is_string() && found["first_step"].is_null(), "{found}");
    let ceiling = |name: &str| found["ceilings"][name].as_f64().unwrap();
    assert!((1e8..1e16).contains(&ceiling("flops")), "{found}");
    assert!((1e7..1e14).contains(&ceiling("bandwidth")) && ceiling("kernel_bandwidth") <= ceiling("bandwidth"), "{found}");
    assert!(ceiling("round_trip") > 0.0 && ceiling("round_trip") < 1.0 && ceiling("dispatch") < 0.1, "{found}");
}

/// A product, held against an earlier run of itself, and a trace of a tiny model's step.
#[test]
fn bench_compares_and_traces() {
    let task = Task::new(1, 1, false);
    let tiny = "--quick --repeat 1 --hidden 32 --layers 1 --heads 2 --kv-heads 1 --head-dim 16 --ffn 48 --vocab 64 --batch 2 \
                --tokens 8 --prompt 4 --samples 2 --new-tokens 2 --rows 3 --row-tokens 6 --lora-rows 2 --square 32";
    let bench = |more: &str| {
        let words: Vec<&str> = std::iter::once("bench").chain(tiny.split_whitespace()).chain(more.split_whitespace()).collect();
        succeed(task.jurist(&words)).out
    };
    let before = bench("--json");
    let rows: Value = serde_json::from_str::<Value>(&before).unwrap()["rows"].take();
    let groups = ["matmul", "attention", "norm", "swiglu", "loss", "step", "rollout", "decode", "score", "lora"];
    for group in groups {
        let row = rows.as_array().unwrap().iter().find(|r| r["group"] == group).unwrap_or_else(|| panic!("{group}: {rows}"));
        let share = row["share"].as_f64().unwrap();
        assert!(row["seconds"].as_f64().unwrap() > 0.0 && share > 0.0 && share.is_finite(), "{row}");
    }
    task.write("before.json", &before);
    let text = bench("--only step --baseline before.json --trace trace.json");
    let ours = format!("x jurist {}", env!("CARGO_PKG_VERSION"));
    assert!(text.contains("first step") && text.contains("training step 2x8") && text.contains(&ours), "{text}");
    assert!(!text.contains("rollout 2 samples"), "only what was asked for: {text}");
    let trace: Value = serde_json::from_str(&task.read("trace.json")).unwrap();
    let events = trace["traceEvents"].as_array().unwrap();
    let kernels: Vec<&Value> = events.iter().filter(|e| e["ph"] == "X").collect();
    assert!(kernels.iter().any(|k| k["name"].as_str().unwrap().starts_with("attention:")), "{trace}");
    assert!(kernels.iter().all(|k| k["ts"].as_f64().unwrap() >= 0.0 && k["dur"].as_f64().unwrap() >= 0.0), "{trace}");
}

/// The sizes of a model's own config, and the profiles of what was asked for.
#[test]
fn bench_takes_the_sizes_of_a_model() {
    let task = Task::new(1, 1, false);
    let config: Value = serde_json::from_str(&task.read("config.json")).unwrap();
    let line = "bench --quick --repeat 1 --model . --only score,lora --profile --rows 3 --row-tokens 6 --lora-rows 2 --json";
    let found: Value = serde_json::from_str(&succeed(task.jurist(&line.split(' ').collect::<Vec<_>>())).out).unwrap();
    for (ours, theirs) in [("hidden", "hidden_size"), ("layers", "num_hidden_layers"), ("ffn", "intermediate_size")] {
        assert_eq!(found["shape"][ours], config[theirs], "{ours}");
    }
    let names: Vec<&str> = found["profiles"].as_array().unwrap().iter().map(|p| p["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["scoring pass 3x6 tokens", "LoRA step 2x6"]);
    let missing = finish(task.jurist(&["bench", "--model", "nowhere.gguf"]));
    assert!(missing.code == Some(1) && missing.out.is_empty() && missing.err.contains("nowhere.gguf"), "{}", missing.err);
}

/// Command lines that cannot be used: exit code 2 and what would do, before anything is measured.
#[test]
fn bench_refuses() {
    let mut messages = Messages::new("bench");
    for line in [
        "--only voodoo",
        "--hidden 0",
        "--heads 6",
        "--baseline nowhere.json",
        "--json --report x.md",
        "--model x.gguf --hidden 64",
    ] {
        let done = finish(jurist(&std::iter::once("bench").chain(line.split(' ')).collect::<Vec<_>>()));
        assert_eq!((done.code, done.out.as_str()), (Some(2), ""), "{line}: {}", done.err);
        messages.add(format!("jurist bench {line}"), &done.err);
    }
    messages.check();
}

/// A whole life: train from scratch with a tokenizer learned from the data, score, measure.
#[test]
fn from_rows_to_figures() {
    let task = Task::new(40, 8, false);
    task.write(
        "run.toml",
        "init = \"config.json\"\nvocab_size = 320\ntrain_file = \"train.jsonl\"\neval_file = \"dev.jsonl\"\n\
         learning_rate = 3e-3\nmax_steps = 6\nper_device_train_batch_size = 8\nsave_total_limit = 1\n",
    );
    let printed = succeed(task.jurist(&["train", "--config", "run.toml", "--output-dir", "judge", "--print-config"]));
    assert!(printed.out.contains("max_steps = 6\n") && printed.out.contains("output_dir = \"judge\"\n"), "{}", printed.out);
    assert!(!task.at("judge").exists());

    let done = succeed(task.jurist(&["train", "--config", "run.toml", "--output-dir", "judge", "--seed", "3"]));
    assert!(done.out.is_empty(), "results only: {}", done.out);
    assert!(done.err.contains("adapter: ") && done.err.contains("the judge is in judge"), "{}", done.err);
    for file in [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "judge.json",
        "jurist.toml",
        "metrics.jsonl",
    ] {
        assert!(task.at("judge").join(file).is_file(), "{file}");
    }
    assert_eq!(std::fs::read_to_string(task.at("judge/jurist.toml")).unwrap().lines().filter(|l| *l == "seed = 3").count(), 1);
    let log = lines(&task.read("judge/metrics.jsonl"));
    let steps: Vec<&Value> = log.iter().filter(|l| l.get("loss").is_some()).collect();
    assert_eq!(steps.len(), 6);
    assert!(steps[5]["loss"].as_f64().unwrap() < steps[0]["loss"].as_f64().unwrap(), "it learns");
    for key in ["grad_norm", "learning_rate", "num_tokens", "entropy", "epoch", "step_time"] {
        assert!(steps[5][key].as_f64().unwrap() > 0.0, "{key}");
    }
    let evaluation = log.iter().find(|l| l.get("eval_loss").is_some()).expect("an evaluation at the end");
    assert!(evaluation["eval_rmse"].is_number() && evaluation["eval_judge/score_mass"].is_number(), "{evaluation}");

    let scored = succeed(task.jurist(&["score", "--model", "judge", "--input", "dev.jsonl", "--output", "scored.jsonl"]));
    assert!(scored.out.is_empty());
    let json = succeed(task.jurist(&["eval", "scored.jsonl", "--json", "--quiet"]));
    assert!(json.err.is_empty(), "quiet: {}", json.err);
    let figures: Value = serde_json::from_str(&json.out).unwrap();
    assert!(figures["expected score"].is_object(), "{figures}");
    // What the run measured at its end is what `eval` measures.
    let (at_the_end, now) = (evaluation["eval_rmse"].as_f64().unwrap(), figures["expected score"]["rmse"].as_f64().unwrap());
    assert!((at_the_end - now).abs() < 1e-6, "{at_the_end} {now}");
}

/// `jurist score ... | head`: who reads no further is no error.
#[cfg(unix)]
#[test]
fn a_reader_may_leave() {
    let task = Task::new(8, 400, false);
    succeed(task.train("judge", &["--max-steps", "1"]));
    let mut child = task.jurist(&["score", "--model", "judge", "--input", "dev.jsonl"]).spawn().unwrap();
    let mut out = child.stdout.take().unwrap();
    out.read_exact(&mut [0; 10]).unwrap();
    drop(out);
    let done: crate::cli::Done = child.wait_with_output().unwrap().into();
    assert_eq!(done.code, Some(0), "{}", done.err);
    assert!(!done.err.contains("error"), "{}", done.err);
}

#[test]
fn settings_of_every_layer() {
    let task = Task::new(8, 2, false);
    task.write("run.toml", "seed = 1\nmax_steps = 1\nlearning_rate = 1e-3\n");
    let mut command = task.train("judge", &["--config", "run.toml", "--print-config", "--set", "weight_decay=0.5"]);
    command.env("JURIST_MAX_STEPS", "2").env("JURIST_WARMUP_STEP", "3");
    let done = succeed(command);
    for line in ["seed = 7", "max_steps = 2", "weight_decay = 0.5", "learning_rate = 0.003"] {
        assert!(done.out.lines().any(|l| l == line), "{line} in\n{}", done.out);
    }
    assert!(
        done.err.contains("JURIST_WARMUP_STEP is set but names no setting; did you mean JURIST_WARMUP_STEPS?"),
        "{}",
        done.err
    );
    // What is printed is a config file that says the same.
    task.write("printed.toml", &done.out);
    let again = succeed(task.jurist(&["train", "--config", "printed.toml", "--print-config"]));
    assert_eq!(done.out, again.out);
}
