//! `jurist compare` on files of rows and a pretrained base: methods with an adapter, judged in several ways, interrupted and made
//! again.

use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::cli::*;

const PROTOCOL: &str = r#"
seeds = [1]
tuning = { seed = 9, settings = { max_steps = 2 } }
imitation = { max_steps = 4, per_device_train_batch_size = 4, save_steps = 1 }
policy = { max_steps = 2, per_device_train_batch_size = 2, num_generations = 2 }
rates = { training = 100, sampling = 100, reading = 300 }
[base]
model = "base.gguf"
adapter = { lora_r = 2 }
[[task]]
name = "qa"
title = "Questions"
train = "train.jsonl"
validation = "validation.jsonl"
template = "qa.jinja"
settings = { scale = "0..2=0..1", chat = "never", max_completion_length = 6, per_device_eval_batch_size = 4 }
[[task.test]]
name = "near"
title = "answers to known questions"
file = "near.jsonl"
cluster = "question_id"
also_without = "empty"
[[task.test]]
name = "far"
title = "other questions"
file = "far.jsonl"
methods = ["zero-shot", "real"]
[[way]]
name = "greedy"
title = "greedy chain"
temperature = 0.0
[[way]]
name = "five"
title = "five chains averaged"
temperature = 1.0
chains = 5
rows = 6
sets = ["near"]
methods = ["sft", "real"]
[[method]]
name = "zero-shot"
title = "zero-shot"
trained = false
[[method]]
name = "sft"
title = "SFT"
settings = { method = "sft" }
learning_rates = [1e-3, 1e-2]
[[method]]
name = "raft"
title = "RAFT"
settings = { method = "raft", max_completion_length = 0 }
rate_of = "sft"
[[method]]
name = "real"
title = "REAL"
settings = { method = "real" }
start = "sft"
learning_rates = [1e-3]
[[group]]
name = "all"
title = "All"
tasks = ["qa"]
methods = ["zero-shot", "sft", "raft", "real"]
champion = "real"
"#;

fn rows(from: usize, count: usize) -> String {
    let answers = ["yes", "no", "hello world", "a b c", ""];
    let row = |n: usize| {
        let (answer, question) = (answers[n % answers.len()], ["a?", "b?", "c?"][n % 3]);
        json!({"id": format!("r{n}"), "question_id": (n % 3).to_string(), "instruction": question,
            "reference": "yes it is", "response": answer, "feedback": "ok so", "score": (n % 5) as f64 / 4.0,
            "empty": answer.is_empty()})
        .to_string()
            + "\n"
    };
    (from..from + count).map(row).collect()
}

/// A folder with a protocol, its rows and its base model.
fn folder(protocol: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    for (name, from, count) in [("train", 0, 12), ("validation", 20, 5), ("near", 30, 8), ("far", 40, 6)] {
        write(at(&format!("{name}.jsonl")), rows(from, count));
    }
    write(at("qa.jinja"), "Q {{ instruction }} R {{ reference }} A {{ response }}\n");
    write(at("protocol.toml"), protocol);
    std::fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/gguf/llama.gguf"), at("base.gguf")).unwrap();
    dir
}

fn compare(dir: &TempDir, more: &[&str]) -> std::process::Command {
    let (protocol, work) = (dir.path().join("protocol.toml"), dir.path().join("work"));
    jurist(&[&["compare", "--config", path(&protocol), "--work", path(&work)][..], more].concat())
}

fn cell(dir: &TempDir, name: &str) -> Vec<u8> {
    std::fs::read(dir.path().join(format!("cells/qa/{name}.json"))).unwrap_or_else(|e| panic!("{name}: {e}"))
}

const CELLS: [&str; 6] = ["zero-shot/seed-1", "sft/rate-1e-3", "sft/rate-1e-2", "sft/seed-1", "raft/seed-1", "real/seed-1"];

#[test]
fn cells_of_files_are_resumed_and_repeat() {
    let dir = folder(PROTOCOL);
    let planned = succeed(compare(&dir, &["--estimate"]));
    assert!(planned.out.contains("6 cells to run") && planned.out.contains("qa/real/seed-1"), "{}", planned.out);

    // Killed in the training of the second cell, after its first checkpoint.
    let mut killed = compare(&dir, &[]).spawn().unwrap();
    while !dir.path().join("work/qa/sft/rate-1e-3/checkpoint-1").exists() {
        assert!(killed.try_wait().unwrap().is_none(), "ended before its first checkpoint");
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    killed.kill().unwrap();
    killed.wait().unwrap();
    let resumed = succeed(compare(&dir, &[]));
    for part in ["6 of 6 cells are done", "**REAL minus each**", "*log response length*", "*word overlap*", "are `empty`"] {
        assert!(resumed.out.contains(part), "{part} is missing: {}", resumed.out);
    }
    let page = std::fs::read_to_string(dir.path().join("index.html")).unwrap();
    assert!(page.contains("<svg") && page.contains("answers to known questions") && !page.contains("NaN"));

    // Which sets were judged in which ways: validation alone for a rate, no second way without chains.
    let judged = |name: &str| {
        let result: Value = serde_json::from_slice(&cell(&dir, name)).unwrap();
        let sets = result["sets"].as_array().unwrap().iter();
        sets.map(|s| format!("{} {}", s["name"].as_str().unwrap(), s["way"].as_str().unwrap())).collect::<Vec<_>>().join(", ")
    };
    assert_eq!(judged("sft/rate-1e-2"), "validation greedy");
    assert_eq!(judged("zero-shot/seed-1"), "validation greedy, near greedy, far greedy");
    assert_eq!(judged("sft/seed-1"), "validation greedy, near greedy, near five");
    assert_eq!(judged("raft/seed-1"), "validation greedy, near greedy");
    assert_eq!(judged("real/seed-1"), "validation greedy, near greedy, far greedy, near five");

    // The same in another folder, without an interruption.
    let again = folder(PROTOCOL);
    succeed(compare(&again, &[]));
    for name in CELLS {
        assert!(cell(&dir, name) == cell(&again, name), "{name} has two results");
    }
    let rows = |dir: &TempDir| std::fs::read(dir.path().join("cells/qa/rows.json")).unwrap();
    assert!(rows(&dir) == rows(&again));

    // A judge of other settings is not taken for one of this protocol.
    write(
        again.path().join("protocol.toml"),
        PROTOCOL.replace("learning_rates = [1e-3]\n[[group]]", "learning_rates = [2e-3]\n[[group]]"),
    );
    std::fs::remove_file(again.path().join("cells/qa/real/seed-1.json")).unwrap();
    let other = finish(compare(&again, &["--cell", "qa/real/seed-1"]));
    assert_eq!(other.code, Some(1));
    assert!(other.err.contains("learning_rate = 0.001") && other.err.contains("--work"), "{}", other.err);

    // Tables need no rows. Rows that have changed are noticed before a cell is made of them.
    std::fs::remove_file(dir.path().join("near.jsonl")).unwrap();
    assert!(succeed(compare(&dir, &["--tables"])).out.contains("6 of 6 cells"));
    write(dir.path().join("near.jsonl"), self::rows(31, 8));
    std::fs::remove_file(dir.path().join("cells/qa/raft/seed-1.json")).unwrap();
    let changed = finish(compare(&dir, &["--cell", "qa/raft/seed-1"]));
    assert_eq!(changed.code, Some(1));
    assert!(changed.err.contains("rows.json") && changed.err.contains("test set near"), "{}", changed.err);

    // A damaged result is no finished cell.
    write(dir.path().join("cells/qa/raft/seed-1.json"), "{");
    let damaged = finish(compare(&dir, &["--estimate"]));
    assert_eq!(damaged.code, Some(1));
    assert!(damaged.err.contains("raft/seed-1.json") && damaged.err.contains("remove it"), "{}", damaged.err);
}

#[test]
fn protocols_of_files_that_cannot_be_used() {
    for (from, to, message) in [
        ("lora_r = 2", "lora_rank = 2", "base: `lora_rank` is no setting"),
        ("[base]\nmodel = \"base.gguf\"\nadapter = { lora_r = 2 }", "", "needs a [base]"),
        ("tasks = [\"qa\"]", "tasks = [\"qb\"]", "`qb` is no [[task]]"),
        ("methods = [\"sft\", \"real\"]", "methods = [\"sft\", \"ppo\"]", "way `five` names `ppo`"),
        ("sets = [\"near\"]", "sets = [\"nearer\"]", "way `five` names `nearer`"),
        ("name = \"far\"", "name = \"near\"", "test set `near`"),
        ("trained = false", "trained = false\nlearning_rates = [1e-3]", "`zero-shot` is not trained"),
        ("start = \"sft\"", "start = \"zero-shot\"", "not a trained method"),
    ] {
        assert!(PROTOCOL.contains(from), "{from}");
        let done = finish(compare(&folder(&PROTOCOL.replacen(from, to, 1)), &[]));
        assert_eq!(done.code, Some(2), "{}", done.err);
        assert!(done.err.contains(message), "{}\nexpected {message}", done.err);
    }
    for (from, to, message) in [
        ("base.gguf", "none.gguf", "none.gguf is not there"),
        ("near.jsonl", "none.jsonl", "none.jsonl"),
        ("cluster = \"question_id\"", "cluster = \"topic\"", "no column `topic`"),
    ] {
        let done = finish(compare(&folder(&PROTOCOL.replacen(from, to, 1)), &["--cell", "qa/sft/rate-1e-3"]));
        assert_eq!(done.code, Some(1), "{}", done.err);
        assert!(done.err.contains(message), "{}\nexpected {message}", done.err);
    }
}
