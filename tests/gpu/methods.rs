//! Every training method from the command line, on a tiny task: it trains, it is a judge afterwards, and a run that is
//! interrupted ends as one that was not. That each gradient is right is shown in `enumeration/`.

use crate::cli::{Task, finish, lines, succeed};
use jurist::train::config::Method;
use serde_json::{Value, json};

const SHORT: [&str; 12] = [
    "--max-steps",
    "3",
    "--per-device-train-batch-size",
    "4",
    "--num-generations",
    "4",
    "--max-completion-length",
    "12",
    "--logging-steps",
    "1",
    "--save-steps",
    "0",
];

fn with<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&SHORT[..], more].concat()
}

fn last(task: &Task, run: &str) -> Value {
    lines(&task.read(&format!("{run}/metrics.jsonl"))).into_iter().rfind(|l| l.get("grad_norm").is_some()).unwrap()
}

#[test]
fn every_method_trains_a_judge() {
    let task = Task::new(12, 4, true);
    for method in Method::ALL {
        // With scores drawn by an untrained model, a group may have no right one, and then nothing to learn from.
        let may_rest = matches!(method, Method::Reinforce | Method::Grpo);
        let chains = *method != Method::Raft;
        let method = method.word();
        succeed(task.train(method, &with(&["--method", method])));
        let line = last(&task, method);
        let norm = line["grad_norm"].as_f64().unwrap();
        assert!((norm > 0.0 || may_rest) && line["loss"].as_f64().unwrap().is_finite(), "{method}: {line}");
        let scored = succeed(task.jurist(&["score", "--model", method, "--input", "dev.jsonl"])).out;
        for row in lines(&scored) {
            let expected = row["judge"]["expected"].as_f64().unwrap_or_else(|| panic!("{method}: {row}"));
            assert!((1.0..=5.0).contains(&expected));
        }
        let settings: Value = serde_json::from_str(&task.read(&format!("{method}/judge.json"))).unwrap();
        assert_eq!(settings["chain"], json!(chains), "{method}");
    }
}

/// What rows share is computed once, with the losses and gradients that they have alone.
#[test]
fn rows_that_share_a_prefix_train_as_they_do_alone() {
    let task = Task::new(8, 2, true);
    let shared = "the a of and really quite here also the a of and";
    let rows = lines(&task.read("train.jsonl")).into_iter().map(|mut row| {
        row["prompt"] = json!(format!("{shared} {}", row["prompt"].as_str().unwrap()));
        row.to_string() + "\n"
    });
    task.write("train.jsonl", rows.collect::<String>());
    // All rows are in every batch, so the order is no difference.
    let whole = ["--per-device-train-batch-size", "8"];
    for method in ["sft", "cot-raft", "raft"] {
        let measured = |run: &str, share: &str| {
            succeed(task.train(run, &with(&[&["--method", method, "--share-prefixes", share], &whole[..]].concat())));
            lines(&task.read(&format!("{run}/metrics.jsonl"))).into_iter().filter(|l| l.get("grad_norm").is_some()).collect()
        };
        let alone: Vec<Value> = measured(&format!("{method}-alone"), "false");
        let together: Vec<Value> = measured(&format!("{method}-together"), "true");
        for (alone, together) in alone.iter().zip(&together) {
            let value = |line: &Value, key: &str| line[key].as_f64().unwrap();
            for (key, tolerance) in [("loss", 1e-5), ("grad_norm", 1e-4)] {
                let (a, b) = (value(alone, key), value(together, key));
                assert!((a - b).abs() <= tolerance * a.abs(), "{method}: {key} {a} alone, {b} together");
            }
        }
        // Twelve words and <bos> are shared by eight rows; their last one stays each row's own where it differs.
        let tokens = |run: &[Value]| run[0]["num_tokens"].as_u64().unwrap();
        assert!(tokens(&alone) - tokens(&together) >= 7 * 12, "{method}: {} and {}", tokens(&alone), tokens(&together));
    }
}

/// The second stage learns from chains that the first stage's judge wrote, with the labels as they were.
#[test]
fn tract_is_two_stages() {
    let task = Task::new(12, 2, true);
    succeed(task.train("whole", &with(&["--method", "tract"])));
    let (given, own) = (lines(&task.read("train.jsonl")), lines(&task.read("whole/chains.jsonl")));
    assert_eq!(given.len(), own.len());
    for (given, own) in given.iter().zip(&own) {
        assert_eq!((&given["prompt"], &given["score"]), (&own["prompt"], &own["score"]));
        assert!(own["chain"].is_string());
    }
    assert!(given.iter().zip(&own).any(|(given, own)| given["chain"] != own["chain"]), "an untrained judge copies its teacher");
    // With the first stage given, the same chains and the same judge.
    succeed(task.train("short", &with(&["--method", "tract", "--chains-from", "whole/stage-1"])));
    assert_eq!(task.read("short/chains.jsonl"), task.read("whole/chains.jsonl"));
    let bytes = |run: &str| std::fs::read(task.at(run).join("model.safetensors")).unwrap();
    assert!(bytes("short") == bytes("whole"));
    // Stopped after the first stage and gone on with.
    std::fs::create_dir_all(task.at("again")).unwrap();
    copy(&task.at("whole/stage-1"), &task.at("again/stage-1"));
    succeed(task.train("again", &with(&["--method", "tract", "--resume"])));
    assert!(bytes("again") == bytes("whole"));
    // Stopped among the chains, with whole lines and a half one; and behind them, before the second stage.
    let (chains, record) = (task.read("whole/chains.jsonl"), task.read("whole/chains.json"));
    let some = chains.split_inclusive('\n').take(5).collect::<String>() + &chains.lines().nth(5).unwrap()[..20];
    for (run, files) in [
        ("begun", &[("chains.jsonl.part", "{\"cut off in the mid"), ("chains.jsonl.unfinished", &record)][..]),
        ("among", &[("chains.jsonl.part", &some), ("chains.jsonl.unfinished", &record)]),
        ("stopped", &[("chains.jsonl", &some), ("chains.jsonl.unfinished", &record)]),
        ("almost", &[("chains.jsonl", &chains), ("chains.jsonl.unfinished", &record), ("chains.json", &record)]),
        ("behind", &[("chains.jsonl", &chains), ("chains.json", &record)]),
        ("bare", &[("chains.jsonl", &chains)]),
    ] {
        copy(&task.at("whole/stage-1"), &task.at(run).join("stage-1"));
        files.iter().for_each(|(file, text)| drop(task.write(&format!("{run}/{file}"), text)));
        succeed(task.train(run, &with(&["--method", "tract", "--resume"])));
        assert!(bytes(run) == bytes("whole") && task.read(&format!("{run}/chains.jsonl")) == chains, "{run}");
        assert!(!task.at(run).join("chains.jsonl.unfinished").exists() && !task.at(run).join("chains.jsonl.part").exists());
    }
    // Chains of other rows, of another judge or with other settings are not learned from, nor is what has no record.
    let other = record.replacen("\"judge\": \"", "\"judge\": \"0", 1);
    let rows = chains.replacen("rubric", "other", 1);
    let no_chain = "{}\n".to_string();
    for (run, files, more, says) in [
        ("rows", &[("chains.jsonl.part", &rows), ("chains.jsonl.unfinished", &record)][..], &[][..], "these are not the rows"),
        ("bare rows", &[("chains.jsonl.part", &no_chain), ("chains.jsonl.unfinished", &record)], &[], "these are not the rows"),
        ("other", &[("chains.jsonl.part", &some), ("chains.jsonl.unfinished", &other)], &[], "judge was \"0"),
        ("done", &[("chains.jsonl", &chains), ("chains.json", &other)], &[], "judge was \"0"),
        (
            "seed",
            &[("chains.jsonl.part", &some), ("chains.jsonl.unfinished", &record)],
            &["--seed", "8"],
            "seed was 7 and is now 8",
        ),
        ("foreign", &[("chains.jsonl.part", &some)], &[], "jurist did not write it"),
    ] {
        copy(&task.at("whole/stage-1"), &task.at(run).join("stage-1"));
        files.iter().for_each(|(file, text)| drop(task.write(&format!("{run}/{file}"), text)));
        let done = finish(task.train(run, &with(&[&["--method", "tract", "--resume"], more].concat())));
        assert!(done.code == Some(1) && done.err.contains(says), "{run}: {}", done.err);
        assert!(files.iter().all(|(file, text)| task.read(&format!("{run}/{file}")) == **text), "{run}");
    }
    let done = finish(task.train("again", &with(&["--method", "tract"])));
    assert_eq!(done.code, Some(1), "{}", done.err);
    assert!(done.err.contains("which a new run would overwrite") || done.err.contains("continue with --resume"), "{}", done.err);
}

/// Rows come out of the first stage as they were written: ids beyond 64 bits, zeros behind a point, labels of an answer.
#[test]
fn chains_keep_the_text_of_their_rows() {
    let task = Task::new(4, 2, true);
    let rows = task.read("train.jsonl");
    let wide = |(n, row): (usize, &str)| format!("{{\"wide\":1234567890123456789012{n},\"x\":1.50,{}\n", &row[1..]);
    task.write("train.jsonl", rows.lines().enumerate().map(wide).collect::<String>());
    succeed(task.train("wide", &with(&["--method", "tract"])));
    for (n, line) in task.read("wide/chains.jsonl").lines().enumerate() {
        assert!(line.starts_with(&format!("{{\"wide\":1234567890123456789012{n},\"x\":1.50,")), "{line}");
        assert!(line.matches("\"chain\":").count() == 1 && line.contains("\"score\":"), "{line}");
    }
    std::fs::remove_dir_all(task.at("wide/stage-1")).unwrap();
    std::fs::remove_file(task.at("wide/judge.json")).unwrap();
    succeed(task.train("wide", &with(&["--method", "tract", "--resume"])));
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            std::fs::copy(&path, target).unwrap();
        }
    }
}

/// Steps on the same chains: the ratio is logged, and one step is what it was without the setting.
#[test]
fn several_steps_on_the_same_chains() {
    let task = Task::new(12, 2, true);
    for (run, steps) in [("one", "1"), ("three", "3")] {
        succeed(task.train(run, &with(&["--method", "real", "--num-iterations", steps])));
    }
    let (one, three) = (last(&task, "one"), last(&task, "three"));
    assert!(one.get("ratio/mean").is_none());
    let ratio = three["ratio/mean"].as_f64().unwrap();
    assert!(ratio > 0.0 && ratio != 1.0 && three["ratio/max"].as_f64().unwrap() >= ratio, "{three}");
    let state: Value = serde_json::from_str(&task.read("three/checkpoint-3/trainer_state.json")).unwrap();
    assert_eq!(state["jurist"]["optimizer_steps"], json!(9), "Adam counts every step");
    assert_ne!(one["loss"], three["loss"]);
}

/// A score that reads the chain alone does not see the prompt, in training, in judging and after a restart.
#[test]
fn a_score_that_reads_the_chain() {
    let task = Task::new(12, 2, true);
    for method in ["sft", "cot-raft", "real"] {
        succeed(task.train(method, &with(&["--method", method, "--score-reads", "chain"])));
        let row = |prompt: &str| json!({"prompt": prompt, "chain": "tone ok safety bad", "score": 3}).to_string() + "\n";
        task.write(
            "two.jsonl",
            row("rubric tone major response lunch fine , judge") + &row("rubric safety minor response voice weak , judge"),
        );
        let judged = |reads: &str| -> Vec<f64> {
            let done = succeed(task.jurist(&["score", "--model", reads, "--input", "two.jsonl", "--given-chains"]));
            lines(&done.out).iter().map(|l| l["judge"]["expected"].as_f64().unwrap()).collect()
        };
        let scores = judged(method);
        // Equal but for rounding, since the two rows lie at different places of a tile.
        assert!((scores[0] - scores[1]).abs() < 1e-6, "{method}: the prompt shows through, {scores:?}");
    }
    succeed(task.train("usual", &with(&["--method", "sft"])));
    let done = succeed(task.jurist(&["score", "--model", "usual", "--input", "two.jsonl", "--given-chains"]));
    let scores: Vec<f64> = lines(&done.out).iter().map(|l| l["judge"]["expected"].as_f64().unwrap()).collect();
    assert!((scores[0] - scores[1]).abs() > 1e-4, "or the test shows nothing: {scores:?}");
}

/// A scale of words, one with an offset, and one whose scores have several tokens, through training and judging.
#[test]
fn other_scales() {
    let task = Task::new(12, 2, true);
    let text: String = task.read("train.jsonl");
    // Param tokens: `1 2` is a score of two tokens, and `1` begins it, so that the scale needs an end.
    for (run, scale) in [("in-words", "bad,not,ok=1,3,5"), ("offset", "1..5=0..100"), ("two-tokens", "1,1 2,2,3,4=1,2,3,4,5")] {
        let value = |row: Value| {
            let mut row = row;
            if run == "offset" {
                row["score"] = json!((row["score"].as_f64().unwrap() - 1.0) * 25.0);
            }
            row.to_string() + "\n"
        };
        let rows: String = lines(&text).into_iter().map(value).collect();
        task.write("scaled.jsonl", rows);
        let more = ["--method", "cot-raft", "--scale", scale, "--train-file", "scaled.jsonl"];
        let done = finish(task.train(run, &with(&more)));
        if run == "two-tokens" {
            // The word tokenizer has no EOS: it is said which score needs one, and how to give it.
            assert_eq!(done.code, Some(1), "{}", done.err);
            assert!(done.err.contains("beginning of another score") && done.err.contains("eos_token"), "{}", done.err);
            continue;
        }
        assert_eq!(done.code, Some(0), "{run}: {}", done.err);
        let scored = succeed(task.jurist(&["score", "--model", run, "--input", "dev.jsonl"])).out;
        let (low, high) = if run == "offset" { (0.0, 100.0) } else { (1.0, 5.0) };
        for row in lines(&scored) {
            assert!((low..=high).contains(&row["judge"]["expected"].as_f64().unwrap()), "{run}: {row}");
        }
    }
}

/// Scores from 1 to 10 with a tokenizer that writes digits one by one: told apart, trained, judged.
#[test]
fn one_and_ten_are_told_apart() {
    let task = Task::new(24, 4, true);
    let tenfold = |name: &str| -> String {
        let rows = lines(&task.read(name)).into_iter().map(|mut row| {
            row["score"] = json!((row["score"].as_f64().unwrap() * 2.0).round());
            row.to_string() + "\n"
        });
        rows.collect()
    };
    task.write("ten.jsonl", tenfold("train.jsonl"));
    task.write("ten-dev.jsonl", tenfold("dev.jsonl"));
    // Long texts for a tokenizer that is trained on them: sizes are those of the tiny model but for the vocabulary.
    let train = |output: &str, method: &str, more: &[&str]| {
        let mut args =
            vec!["train", "--init", "config.json", "--vocab-size", "400", "--train-file", "ten.jsonl", "--output-dir", output];
        args.extend(["--scale", "1..10", "--phrase", "score: ", "--learning-rate", "3e-3", "--method", method]);
        args.extend(with(&["--max-completion-length", "16"]));
        args.extend(more);
        task.jurist(&crate::cli::last_of_each(&args))
    };
    succeed(train("sft", "sft", &["--max-steps", "30"]));
    let scored = succeed(task.jurist(&["score", "--model", "sft", "--input", "ten-dev.jsonl"])).out;
    for row in lines(&scored) {
        let probs = row["judge"]["probs"].as_object().unwrap();
        assert_eq!(probs.len(), 10);
        let sum: f64 = probs.values().map(|p| p.as_f64().unwrap()).sum();
        assert!((sum - 1.0).abs() < 1e-9 && (1.0..=10.0).contains(&row["judge"]["expected"].as_f64().unwrap()));
        assert!(probs["1"] != probs["10"]);
    }
    for method in ["real", "rl-prob", "rl-ranked"] {
        let done = finish({
            let mut args = vec!["train", "--model-name-or-path", "sft", "--train-file", "ten.jsonl", "--output-dir", method];
            args.extend(["--scale", "1..10", "--phrase", "score: ", "--method", method]);
            args.extend(with(&["--max-completion-length", "16"]));
            task.jurist(&crate::cli::last_of_each(&args))
        });
        assert_eq!(done.code, Some(0), "{method}: {}", done.err);
        assert!(last(&task, method)["grad_norm"].as_f64().unwrap() > 0.0);
    }
}
