//! `jurist data split`: whole clusters in files, the same ones each time. No GPU is needed.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::agree::Ground;
use crate::cli::{Done, finish, jurist, lines, succeed};
use crate::messages::Messages;

fn split(ground: &Ground, line: &str) -> Done {
    let mut command = jurist(&["data", "split"]);
    command.args(line.split_whitespace()).current_dir(ground.0.path());
    finish(command)
}

fn read(ground: &Ground, name: &str) -> String {
    std::fs::read_to_string(ground.0.path().join(name)).unwrap()
}

/// 300 rows of 60 prompts, with numbers as they were written.
fn rows() -> String {
    let row = |k: usize| {
        format!(
            "{{\"instruction\":\"Say {}!\",\"response\":\"answer {k}\",\"score\":{}.50,\"prompt_id\":\"p{}\"}}\n",
            k % 60,
            k % 5,
            k % 60
        )
    };
    (0..300).map(row).collect()
}

#[test]
fn parts_hold_whole_clusters_and_every_row() {
    let ground = Ground::new();
    ground.write("rows.jsonl", rows());
    let done = split(&ground, "rows.jsonl --output-dir parts --json");
    assert_eq!(done.code, Some(0), "{}", done.err);
    let found: Value = serde_json::from_str(&done.out).unwrap();
    assert_eq!((&found["rows"], &found["clusters"], &found["cluster"]), (&json!(300), &json!(60), &json!("prompt_id")));
    let sizes: Vec<u64> = found["parts"].as_array().unwrap().iter().map(|part| part["rows"].as_u64().unwrap()).collect();
    assert_eq!(sizes, [240, 30, 30]);
    let parts = ["train", "dev", "test"].map(|name| read(&ground, &format!("parts/{name}.jsonl")));
    // Every row as it was written, once.
    let sorted = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(String::from).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(&parts.concat()), sorted(&rows()));
    let prompts = |part: &String| -> BTreeSet<String> { lines(part).iter().map(|row| row["prompt_id"].to_string()).collect() };
    assert!(prompts(&parts[0]).is_disjoint(&prompts(&parts[1])) && prompts(&parts[0]).is_disjoint(&prompts(&parts[2])));

    // The same rows in another order, without the column: the same instructions decide, and nothing else.
    let without = rows().replace(",\"prompt_id\":\"p", ",\"other\":\"p");
    ground.write("without.jsonl", &without);
    ground.write("reversed.jsonl", without.lines().rev().map(|line| line.to_string() + "\n").collect::<String>());
    for (file, folder) in [("without.jsonl", "a"), ("without.jsonl", "b"), ("reversed.jsonl", "c")] {
        let done = split(&ground, &format!("{file} --output-dir {folder} --seed 4 --parts train=0.7,test=0.3"));
        assert!(done.code == Some(0) && done.out.contains("60 clusters by instruction or prompt"), "{}{}", done.out, done.err);
        assert!(done.out.contains("train   210  70.0 %  70.0 %"), "{}", done.out);
    }
    assert_eq!(read(&ground, "a/test.jsonl"), read(&ground, "b/test.jsonl"));
    assert_eq!(sorted(&read(&ground, "a/test.jsonl")), sorted(&read(&ground, "c/test.jsonl")));
    // What was split can be checked with the command for it.
    let check = succeed({
        let mut command = jurist(&["data", "check", "a/train.jsonl", "--against", "a/test.jsonl", "--scale", "0..5", "--json"]);
        command.current_dir(ground.0.path());
        command
    });
    let check: Value = serde_json::from_str(&check.out).unwrap();
    assert_eq!(check["against"]["shared"]["loosely"]["rows"], 0);
}

#[test]
fn splits_that_cannot_be_made_say_why() {
    let ground = Ground::new();
    ground.write("rows.jsonl", rows());
    ground.write("one.jsonl", "{\"prompt\":\"p\"}\n{\"prompt\":\"P\"}\n{\"prompt\":\"q\"}\n");
    ground.write("bad.jsonl", "{\"prompt\":\"p\"}\nnothing\n{\"prompt\":\"q\"}\n");
    assert_eq!(split(&ground, "rows.jsonl --output-dir taken").code, Some(0));
    let mut messages = Messages::new("split").place(ground.0.path(), "[folder]");
    for (line, code) in [
        ("rows.jsonl --output-dir taken", 1),
        ("one.jsonl --output-dir few", 1),
        ("rows.jsonl --output-dir named --cluster topic", 1),
        ("bad.jsonl --output-dir bad --parts a=0.5,b=0.5", 1),
        ("rows.jsonl --output-dir x --parts train=0.8,dev=0.1", 2),
        ("rows.jsonl --output-dir x --parts train", 2),
        ("nowhere.jsonl --output-dir x", 1),
    ] {
        let done = split(&ground, line);
        assert_eq!((done.code, done.out.as_str()), (Some(code), ""), "{line}: {}", done.err);
        messages.add(format!("jurist data split {line}"), &done.err);
    }
    messages.check();
    assert!(!ground.0.path().join("few").exists(), "nothing is written before the split is known");
    let done = split(&ground, "bad.jsonl --output-dir bad --parts a=0.5,b=0.5 --skip-bad");
    assert!(done.code == Some(0) && done.err.contains("1 bad row left out"), "{}", done.err);
}
