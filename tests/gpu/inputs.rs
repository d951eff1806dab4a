//! What the program says to input that it cannot use: one line that names the thing and what to do, an exit code, and
//! nothing lost. Never a panic.

use std::process::Command;

use crate::cli::{Done, Task, finish, last_of_each, skip, succeed, tiny_config};
use crate::messages::Messages;
use serde_json::{Value, json};

/// A folder with data, and `judge/`: a trained one.
struct Ground {
    task: Task,
    failures: Vec<String>,
    /// What was said in each case that is compared whole.
    said: Vec<(String, String)>,
    cases: usize,
}

/// The weights of `judge/model.safetensors`, changed: tensor by tensor as f32.
fn change_weights(file: &std::path::Path, change: impl Fn(&str, &mut Vec<f32>)) {
    let bytes = std::fs::read(file).unwrap();
    let found = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let mut tensors = Vec::new();
    for (name, view) in found.tensors() {
        let mut values: Vec<f32> = view.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
        change(&name, &mut values);
        let data: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        tensors.push((name, view.shape().to_vec(), data));
    }
    let views = tensors.iter().map(|(name, shape, data)| {
        (name.as_str(), safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.clone(), data).unwrap())
    });
    std::fs::write(file, safetensors::serialize(views, None).unwrap()).unwrap();
}

impl Ground {
    fn new() -> Self {
        let task = Task::new(6, 4, false);
        succeed(task.train("judge", &["--max-steps", "2", "--save-steps", "1"]));
        Ground { task, failures: Vec::new(), said: Vec::new(), cases: 0 }
    }

    /// A copy of the judge's folder, to be spoilt.
    fn model(&self, name: &str) -> std::path::PathBuf {
        let dir = self.task.at(name);
        std::fs::create_dir(&dir).unwrap();
        for file in ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "judge.json"] {
            std::fs::copy(self.task.at("judge").join(file), dir.join(file)).unwrap();
        }
        dir
    }

    /// A model whose config says something else.
    fn config(&self, name: &str, change: Value) {
        let dir = self.model(name);
        let mut config: Value = serde_json::from_str(&std::fs::read_to_string(dir.join("config.json")).unwrap()).unwrap();
        for (key, value) in change.as_object().unwrap() {
            config[key] = value.clone();
        }
        std::fs::write(dir.join("config.json"), config.to_string()).unwrap();
    }

    /// `jurist train` from the model in `model`.
    fn starting_from(&self, model: &str, more: &[&str]) -> Command {
        let args =
            ["train", "--model-name-or-path", model, "--train-file", "train.jsonl", "--output-dir", "out", "--phrase", "score"];
        self.task.jurist(&last_of_each(&[&args[..], &["--max-steps", "1"], more].concat()))
    }

    /// `jurist train` from scratch.
    fn scratch(&self, more: &[&str]) -> Command {
        self.task.train("out", &[&["--max-steps", "1"], more].concat())
    }

    fn score(&self, model: &str, more: &[&str]) -> Command {
        self.task.jurist(&last_of_each(&[&["score", "--model", model, "--input", "dev.jsonl"], more].concat()))
    }

    /// The command must end with `code` and one line that has all of `says`.
    fn case(&mut self, name: &str, command: Command, code: i32, says: &[&str]) -> Done {
        let done = finish(command);
        self.judge(name, &done, code, says);
        done
    }

    /// The command must end with `code`, and with the message in the table.
    fn said(&mut self, name: &str, command: Command, code: i32) {
        let done = self.case(name, command, code, &[]);
        self.said.push((name.into(), error_of(&done).into()));
    }

    /// Compares all that was [said](Ground::said) with the table that was reviewed.
    fn check(&mut self, table: &'static str) {
        let mut messages = Messages::new(table).place(self.task.dir.path(), "[folder]");
        self.said.drain(..).for_each(|(name, said)| messages.add(name, &said));
        messages.check();
    }

    fn judge(&mut self, name: &str, done: &Done, code: i32, says: &[&str]) {
        self.cases += 1;
        let told = error_of(done);
        println!("{name}\n    [{:?}] {}", done.code, told.trim_end().replace('\n', "\n    "));
        let mut faults = Vec::new();
        if done.code != Some(code) {
            faults.push(format!("exit code {:?}, not {code}", done.code));
        }
        faults.extend(says.iter().filter(|s| !told.contains(**s)).map(|s| format!("does not say {s:?}")));
        if done.err.contains("panicked") || !done.out.is_empty() {
            faults.push("a panic, or output before the error".into());
        }
        if self.task.at("out").is_dir() {
            faults.push("an output folder was made".into());
            std::fs::remove_dir_all(self.task.at("out")).unwrap();
        }
        if !faults.is_empty() {
            self.failures.push(format!("{name}: {}\n{}", faults.join("; "), done.err));
        }
    }

    fn end(self) {
        println!("{} malformed inputs", self.cases);
        assert!(self.failures.is_empty(), "{}", self.failures.join("\n"));
    }
}

/// What is said behind the notes.
fn error_of(done: &Done) -> &str {
    done.err.find("error: ").map_or("", |at| &done.err[at..])
}

#[test]
fn models() {
    let mut g = Ground::new();
    g.said("no such model", g.starting_from("nowhere", &[]), 1);

    let dir = g.model("truncated");
    let bytes = std::fs::read(dir.join("model.safetensors")).unwrap();
    std::fs::write(dir.join("model.safetensors"), &bytes[..bytes.len() - 100]).unwrap();
    g.said("truncated weights", g.starting_from("truncated", &[]), 1);
    g.said("truncated weights, score", g.score("truncated", &[]), 1);

    std::fs::write(g.model("header").join("model.safetensors"), b"not safetensors at all").unwrap();
    g.said("weights that are none", g.starting_from("header", &[]), 1);

    std::fs::remove_file(g.model("weightless").join("model.safetensors")).unwrap();
    g.said("no weights", g.starting_from("weightless", &[]), 1);

    g.config("shape", json!({"intermediate_size": 40}));
    g.said("weights of another shape", g.starting_from("shape", &[]), 1);

    g.config("layers", json!({"num_hidden_layers": 3}));
    g.said("a layer too few", g.starting_from("layers", &[]), 1);

    let spoil = |v: &mut Vec<f32>, x: f32| v[3] = x;
    change_weights(&g.model("nan").join("model.safetensors"), |n, v| {
        if n.contains("layers.1.mlp.up") {
            spoil(v, f32::NAN)
        }
    });
    g.said("NaN in the weights", g.starting_from("nan", &[]), 1);
    g.said("NaN in the weights, score", g.score("nan", &[]), 1);

    let yarn = json!({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}});
    g.config("yarn", yarn);
    g.said("yarn", g.starting_from("yarn", &[]), 1);
    for (key, value) in [("attention_bias", json!(true)), ("hidden_act", json!("gelu")), ("num_local_experts", json!(8))] {
        g.config(key, json!({key: value}));
        g.said(key, g.starting_from(key, &[]), 1);
    }
    g.config("gpt", json!({"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]}));
    g.said("an unknown architecture", g.starting_from("gpt", &[]), 1);

    let dir = g.model("broken");
    std::fs::write(dir.join("config.json"), "{\"hidden_size\": ").unwrap();
    g.said("a config that is no JSON", g.starting_from("broken", &[]), 1);

    std::fs::write(g.model("tokenizer").join("tokenizer.json"), "{}").unwrap();
    g.said("a tokenizer that is none", g.starting_from("tokenizer", &[]), 1);

    std::fs::write(g.model("settings").join("judge.json"), "{\"format\": 1}").unwrap();
    g.said("a damaged judge.json", g.score("settings", &[]), 1);
    std::fs::create_dir(g.task.at("empty")).unwrap();
    g.said("a folder that is no model", g.score("empty", &[]), 1);
    g.said("golden values from nowhere", g.task.jurist(&["doctor", "--against", "nowhere"]), 1);

    // From scratch.
    g.task.write(
        "small.json",
        json!({"vocab_size": 50})
            .as_object()
            .unwrap()
            .iter()
            .fold(tiny_config(), |mut c, (k, v)| {
                c[k] = v.clone();
                c
            })
            .to_string(),
    );
    g.said("a vocabulary smaller than the tokenizer's", g.scratch(&["--init", "small.json"]), 1);
    g.said("no such config", g.scratch(&["--init", "no.json"]), 1);
    g.task.write("headless.json", "{\"model_type\": \"llama\"}");
    g.said("a config without sizes", g.scratch(&["--init", "headless.json"]), 1);
    g.check("inputs-models");
    g.end();
}

#[test]
fn rows() {
    let mut g = Ground::new();
    let row = "{\"prompt\": \"rubric tone major plain response voice good judge\", \"score\": 3}\n";
    let cases: &[(&str, &[u8])] = &[
        ("empty.jsonl", b""),
        ("blank.jsonl", b"\n \n"),
        ("latin1.jsonl", b"{\"prompt\": \"caf\xe9\", \"score\": 3}\n"),
        ("utf16.jsonl", b"\xff\xfe{\0}\0"),
        ("text.jsonl", b"This is no JSON.\n"),
        ("cut.json", b"[{\"prompt\": \"x\", \"score\": 1}"),
        ("list.jsonl", b"[1, 2]\n"),
        ("gzip.jsonl.gz", b"\x1f\x8b\x08\x00garbage"),
        ("cut.jsonl.gz", b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xab\x56"),
        ("page.jsonl", b"<!DOCTYPE html>\n<html>"),
        ("lfs.jsonl", b"version https://git-lfs"),
        ("rows.jsonl.zst", b"\x28\xb5\x2f\xfd\0"),
        ("sheet.csv", b"PK\x03\x04\0"),
        ("header.csv", b"prompt,score\n"),
        ("ragged.csv", b"prompt,score\nok,2\nok,ok,2\n"),
        ("quote.csv", b"prompt,score\n\"ok,2\n"),
        ("latin.csv", b"prompt,score\n\xfc,2\n"),
        ("nan.csv", b"prompt,score\nok,NaN\n"),
        ("nolabel.csv", b"prompt,score\nok,\n"),
        ("noheader.csv", b"ok,2\n"),
        ("truth.jsonl", b"{\"prompt\": \"ok\", \"reward_model\": {\"ground_truth\": \"yes\"}}\n"),
        ("nan.jsonl", b"{\"prompt\": \"x\", \"score\": NaN}\n"),
        ("nantext.jsonl", b"{\"prompt\": \"x\", \"score\": \"NaN\"}\n"),
        ("abc.jsonl", b"{\"prompt\": \"x\", \"score\": \"abc\"}\n"),
        ("null.jsonl", b"{\"prompt\": \"x\", \"score\": null}\n"),
        ("other.jsonl", b"{\"prompt\": \"x\", \"grade\": 2}\n"),
        ("noprompt.jsonl", b"{\"question\": \"x\", \"score\": 2}\n"),
        ("number.jsonl", b"{\"prompt\": 7, \"score\": 2}\n"),
        ("high.jsonl", b"{\"prompt\": \"ok\", \"score\": 7}\n"),
        ("both.jsonl", b"{\"prompt\": \"ok\", \"chain\": \"a\", \"feedback\": \"b\", \"score\": 2}\n"),
    ];
    for (file, bytes) in cases {
        g.task.write(file, bytes);
        g.said(file, g.scratch(&["--train-file", file]), 1);
    }
    g.task.write("second.jsonl", format!("{row}{{\"prompt\": \"ok\"}}\n"));
    g.said("the second row", g.scratch(&["--train-file", "second.jsonl"]), 1);
    g.said("all bad", g.scratch(&["--train-file", "abc.jsonl", "--skip-bad"]), 1);
    g.said("all off the scale", g.scratch(&["--train-file", "high.jsonl", "--skip-bad"]), 1);
    g.said("no such file", g.scratch(&["--train-file", "no.jsonl"]), 1);
    g.said("a folder", g.scratch(&["--train-file", "words"]), 1);
    g.said("all too long", g.scratch(&["--max-length", "5"]), 1);
    let long = format!("{{\"prompt\": \"{}\", \"score\": 3}}\n", "ok ".repeat(300));
    g.task.write("long.jsonl", &long);
    g.said("longer than the context", g.scratch(&["--train-file", "long.jsonl"]), 1);
    g.said("nothing to evaluate on", g.scratch(&["--eval-file", "long.jsonl"]), 1);
    g.said("no such chain", g.scratch(&["--chain-column", "why"]), 1);

    g.said("no file to score", g.score("judge", &["--input", "no.jsonl"]), 1);
    g.said("eval of rows that are not scored", g.task.jurist(&["eval", "dev.jsonl"]), 1);
    let high = ["eval", "--model", "judge", "--input", "high.jsonl"];
    g.said("eval of labels off the scale", g.task.jurist(&high), 1);
    g.task.write("unlabelled.jsonl", "{\"prompt\": \"ok\"}\n{\"prompt\": \"no\", \"score\": null}\n");
    g.task.write("words.jsonl", "{\"prompt\": \"ok\", \"score\": \"pass\"}\n");
    let named = |id: &str, prompt: &str| format!("{{\"id\": \"{id}\", \"prompt\": \"{prompt}\", \"score\": 3}}\n");
    g.task.write("twice.jsonl", [named("a", "ok"), named("a", "no"), named("b", "ok"), named("a", "ok")].concat());
    for command in ["eval", "calibrate"] {
        for input in ["unlabelled.jsonl", "words.jsonl", "twice.jsonl"] {
            g.said(&format!("{command} of {input}"), g.task.jurist(&[command, "--model", "judge", "--input", input]), 1);
        }
    }
    g.check("inputs-rows");
    g.end();
}

#[test]
fn settings() {
    let mut g = Ground::new();
    let config = |g: &Ground, text: &str| {
        g.task.write("run.toml", text);
        g.scratch(&["--config", "run.toml"])
    };
    g.said("an unknown key", config(&g, "learning_rat = 1e-3\n"), 2);
    g.said("no TOML", config(&g, "seed = = 1\n"), 2);
    g.said("another type", config(&g, "num_train_epochs = [3]\n"), 2);
    g.said("no config file", g.scratch(&["--config", "no.toml"]), 2);
    g.said("a rate out of range", g.scratch(&["--learning-rate", "1e30"]), 2);
    g.said("an empty batch", g.scratch(&["--per-device-train-batch-size", "0"]), 2);
    g.said("a word that is none", g.scratch(&["--lr-scheduler-type", "cosin"]), 2);
    g.said("an unknown flag", g.scratch(&["--lerning-rate", "1"]), 2);
    let mut env = g.scratch(&[]);
    env.env("JURIST_MAX_LENGTH", "long");
    g.said("the environment", env, 2);
    g.said("model and scratch", g.scratch(&["--model-name-or-path", "judge"]), 2);
    g.said("a best without an eval_file", g.scratch(&["--load-best-model-at-end"]), 2);

    g.said("a scale upside down", g.scratch(&["--scale", "5..1"]), 2);
    g.said("one score", g.scratch(&["--scale", "3"]), 2);
    g.said("a score twice", g.scratch(&["--scale", "1,2,2"]), 2);
    g.said("values that are none", g.scratch(&["--scale", "a,b=0,inf"]), 2);
    let bpe = ["train", "--init", "config.json", "--vocab-size", "300", "--train-file", "train.jsonl", "--output-dir", "out"];
    let begun = g.scratch(&["--scale", "1,1 2,3=1,2,3"]);
    g.said("a score that begins another", begun, 1);
    g.said("a score that is no word", g.scratch(&["--scale", "0..5"]), 1);
    g.said("a score of two tokens, score", g.score("judge", &["--scale", "1..6"]), 1);
    g.said("a small vocabulary", g.task.jurist(&[&bpe[..4], &["100"], &bpe[5..]].concat()), 1);

    g.said("no such template", g.scratch(&["--template", "no.jinja"]), 1);
    g.task.write("bad.jinja", "{% if %}");
    g.said("a template that is none", g.scratch(&["--template", "bad.jinja"]), 1);
    g.task.write("other.jinja", "{{ answer }}");
    g.said("a template of other rows", g.scratch(&["--template", "other.jinja"]), 1);
    g.said("the judge's template", g.scratch(&["--template", "judge"]), 1);
    g.said("no chat template", g.scratch(&["--chat", "always"]), 1);

    g.said("resume from nowhere", g.scratch(&["--resume", "nowhere/checkpoint-3"]), 1);
    let state = g.task.at("judge/checkpoint-2/training_state.safetensors");
    let bytes = std::fs::read(&state).unwrap();
    std::fs::write(&state, &bytes[..bytes.len() / 2]).unwrap();
    g.said("half a checkpoint", g.scratch(&["--resume", "judge/checkpoint-2"]), 1);
    g.task.write("file", "");
    g.said("the output is a file", g.scratch(&["--output-dir", "file"]), 1);
    g.said("no folder for the scores", g.score("judge", &["--output", "nowhere/scored.jsonl"]), 1);
    g.said("the scores' file is a folder", g.score("judge", &["--output", "words"]), 1);
    if cfg!(target_os = "linux") {
        g.said("a folder nobody can write", g.scratch(&["--output-dir", "/proc/jurist/out"]), 1);
    }
    g.check("inputs-settings");
    g.end();
}

#[test]
fn no_adapter() {
    let mut g = Ground::new();
    let mut blind = g.scratch(&[]);
    for name in ["VK_DRIVER_FILES", "VK_ICD_FILENAMES", "__EGL_VENDOR_LIBRARY_FILENAMES"] {
        blind.env(name, "/nonexistent");
    }
    blind.env_remove("JURIST_ADAPTER");
    let done = finish(blind);
    if !cfg!(target_os = "linux") || done.code == Some(0) {
        let adapter = done.err.lines().next().unwrap_or_default();
        return skip(format!("an adapter answers even without Vulkan and EGL: {adapter}"));
    }
    g.judge("no adapter", &done, 1, &["no GPU adapter was found", "apt-get install mesa-vulkan-drivers"]);
    g.end();
}

#[test]
fn machines() {
    let mut g = Ground::new();
    let says = ["no adapter matches `voodoo`; the adapters here are:", "0: ", "--adapter"];
    g.case("an unknown adapter", g.scratch(&["--adapter", "voodoo"]), 1, &says);
    g.case("an adapter number too high", g.score("judge", &["--adapter", "99"]), 1, &["no adapter matches `99`"]);

    // A binding that no adapter here has, and more buffers than memory.
    let large = |g: &Ground, name: &str, changes: Value| {
        let mut config = tiny_config();
        changes.as_object().unwrap().iter().for_each(|(k, v)| config[k] = v.clone());
        g.task.write(name, config.to_string());
        g.scratch(&["--init", name])
    };
    let wide = json!({"vocab_size": 34_000_000}); // logits of one row take more than a binding of 128 MiB
    // The table would be cut; the logits of one row cannot be.
    g.case("a tensor too large", large(&g, "wide.json", wide), 1, &["logits of a chunk", "use a smaller model"]);
    let deep = json!({"hidden_size": 2048, "intermediate_size": 4096, "num_attention_heads": 16, "head_dim": 128, "num_hidden_layers": 4000});
    if cfg!(target_os = "linux") {
        g.case("more than the memory", large(&g, "deep.json", deep), 1, &["GiB of memory", "a smaller model"]);
    }
    g.end();
}

/// A model on the edge: the gradient overflows, steps are skipped, the run ends, and what was there stays.
#[test]
fn gradients_that_are_not_finite() {
    let mut g = Ground::new();
    change_weights(&g.model("edge").join("model.safetensors"), |name, values| {
        if name == "model.norm.weight" {
            values.iter_mut().for_each(|v| *v = 3e38);
        }
    });
    let more = ["--max-steps", "20", "--max-nonfinite-steps", "3", "--save-steps", "1", "--per-device-train-batch-size", "2"];
    let done = finish(g.starting_from("edge", &[&more[..], &["--output-dir", "edge-out"]].concat()));
    let says = ["the gradient was not finite in 3 steps in a row, up to step 3", "Lower learning_rate"];
    g.judge("a gradient that is not finite", &done, 1, &says);
    let weights = |dir: &str| {
        let mut all = Vec::new();
        let bytes = std::fs::read(g.task.at(dir).join("model.safetensors")).unwrap();
        // Names and values; the order in the file is the writer's.
        for (name, view) in safetensors::SafeTensors::deserialize(&bytes).unwrap().tensors() {
            all.push((name, view.data().to_vec()));
        }
        all.sort();
        all
    };
    assert!(weights("edge") == weights("edge-out/checkpoint-2"), "a skipped step changed the model");
    let log = crate::cli::lines(&g.task.read("edge-out/metrics.jsonl"));
    assert_eq!(log.iter().map(|l| l["nonfinite_steps"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 2, 3]);
    g.end();
}

/// A disk that fills up: the message says so, and the last whole checkpoint stays.
#[cfg(target_os = "linux")]
#[test]
fn full_disk() {
    let mut g = Ground::new();
    std::fs::create_dir(g.task.at("disk")).unwrap();
    std::fs::create_dir(g.task.at("copy")).unwrap();
    let train = g.task.train("disk/run", &["--max-steps", "20", "--save-steps", "1"]);
    let words: Vec<_> = train.get_args().map(|a| a.to_str().unwrap().to_string()).collect();
    // A namespace of its own: nothing is mounted for anybody else.
    let script = "mount -t tmpfs -o size=300k none disk && { \"$@\"; code=$?; cp -r disk/. copy; exit $code; } || exit $?";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, "sh", env!("CARGO_BIN_EXE_jurist")]).args(&words);
    command.current_dir(g.task.dir.path());
    let done: Done = match command.output() {
        Ok(output) => output.into(),
        Err(e) => return skip(format!("no unshare here ({e})")),
    };
    if done.err.contains("unshare") || done.err.contains("mount:") {
        return skip(format!("a small file system cannot be mounted here: {}", done.err.trim()));
    }
    g.judge("a full disk", &done, 1, &["disk/run", "o space left on"]);
    let left: Vec<String> =
        std::fs::read_dir(g.task.at("copy/run")).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    let whole = left.iter().filter(|n| n.starts_with("checkpoint-")).count();
    assert!(whole >= 1 && left.iter().all(|n| !n.contains(".jurist-")), "{left:?}");
    // With room again, the run goes on.
    std::fs::rename(g.task.at("copy/run"), g.task.at("again")).unwrap();
    let done = succeed(g.task.train("again", &["--max-steps", "20", "--save-steps", "0", "--resume"]));
    assert!(done.err.contains("resumed from"), "{}", done.err);
    g.end();
}
