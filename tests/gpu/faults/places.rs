//! Outputs that are inputs, outputs that are one, and what stays when nothing came of the work.
#![cfg(unix)]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::cli::{finish, lines, path, succeed};
use crate::faults::outputs::{begun, copy, ground, names, refused, score};

#[test]
fn no_output_is_an_input() {
    let task = ground();
    let root = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name);
    copy(&task.at("other"), &at("model"));
    fs::copy(task.at("dev.jsonl"), at("in.jsonl")).unwrap();
    fs::copy(task.at("dev.jsonl"), at("rows.part")).unwrap();
    fs::write(at("template.jinja"), "{{ prompt }}").unwrap();
    let text = succeed(task.jurist(&["score", "--model", "other", "--input", "dev.jsonl"])).out;
    fs::write(at("scored.jsonl"), text).unwrap();
    let run = |args: &str| {
        let mut command = task.jurist(&args.split_whitespace().collect::<Vec<_>>());
        command.current_dir(root.path());
        command
    };
    for (command, says) in [
        ("eval --model model --input in.jsonl --report model/judge.json", "a file of --model"),
        ("eval --model model --input in.jsonl --report model/checkpoint-3/config.json", "a file of --model"),
        ("score --model model --input in.jsonl --output ./model/checkpoint-3/config.json", "a file of --model"),
        ("score --model model --input rows.part --output rows", "--input"),
        ("score --model model --input in.jsonl --template template.jinja --output template.jinja", "--template"),
        ("eval --model model --input in.jsonl --template template.jinja --report template.jinja", "--template"),
        ("eval scored.jsonl --report ./model/../scored.jsonl", "the scored rows"),
    ] {
        refused(run(command), root.path(), &["the same file as", says]);
    }
    symlink("later", at("link")).unwrap();
    for report in ["out", "./out", "model/../out", "out.part", "./out.unfinished"] {
        let done = finish(run(&format!("eval --model model --input in.jsonl --output out --report {report}")));
        assert!(done.code == Some(2) && done.err.contains("name the same file"), "{report}: {}", done.err);
    }
    for command in ["score --model model --input in.jsonl --output -", "eval scored.jsonl --report -"] {
        let done = finish(run(command));
        assert!(done.code == Some(2) && done.err.contains("/dev/stdout"), "{command}: {}", done.err);
    }
    let done = finish(run("eval --model model --input in.jsonl --output link --report later"));
    assert!(done.code == Some(2) && done.err.contains("name the same file"), "{}", done.err);
    assert_eq!(names(root.path()), ["in.jsonl", "link", "model", "rows.part", "scored.jsonl", "template.jinja"]);
}

/// The base of an adapter is read as well, whether the adapter names it or the command does.
#[test]
fn the_base_of_an_adapter_is_an_input() {
    let task = ground();
    let root = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name);
    copy(&task.at("other"), &at("base"));
    let (base, adapter, rows) = (at("base"), at("adapter"), task.at("train.jsonl"));
    let train = ["train", "--model-name-or-path", path(&base), "--train-file", path(&rows), "--output-dir", path(&adapter)];
    succeed(task.jurist(&[&train[..], &["--lora-r", "2", "--max-steps", "1", "--learning-rate", "1e-3"]].concat()));
    let output = at("base/config.json");
    let score = ["score", "--model", path(&adapter), "--input", path(&rows), "--output", path(&output)];
    refused(task.jurist(&score), root.path(), &["the same file as"]);
    refused(task.jurist(&[&score[..], &["--base", path(&base)]].concat()), root.path(), &["the same file as"]);
}

/// Rows without one score do not take the place of good ones.
#[test]
fn an_earlier_output_outlives_a_failure() {
    let task = ground();
    let root = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name);
    let bad = json!({"prompt": "ok ".repeat(300), "score": 3}).to_string() + "\n";
    fs::write(at("bad.jsonl"), bad.repeat(3)).unwrap();
    let run = |command: &str, output: &str| {
        let (input, output) = (at("bad.jsonl"), at(output));
        task.jurist(&[command, "--model", "other", "--input", path(&input), "--output", path(&output)])
    };
    fs::write(at("good"), "good rows\n").unwrap();
    for command in ["score", "eval"] {
        refused(run(command, "good"), root.path(), &["none of 3 rows could be judged", "good stays as it was"]);
    }
    let done = finish(run("score", "new"));
    assert_eq!((done.code, lines(&fs::read_to_string(at("new")).unwrap()).len()), (Some(1), 3), "{}", done.err);
}

/// A finished run is held against its last checkpoint: what is missing is written again, what is damaged is named.
#[test]
fn a_finished_judge_is_looked_at() {
    let task = ground();
    let root = tempfile::tempdir().unwrap();
    let out = root.path().join("out");
    copy(&task.at("judge"), &out);
    let more =
        ["--max-steps", "6", "--per-device-train-batch-size", "8", "--save-steps", "3", "--learning-rate", "1e-2", "--resume"];
    let train = || task.train(path(&out), &more);
    assert!(succeed(train()).err.contains("nothing is left to do"));
    for name in ["model.safetensors", "config.json", "tokenizer.json", "judge.json"] {
        fs::remove_file(out.join(name)).unwrap();
        let done = succeed(train());
        assert!(done.err.contains("its judge is not complete"), "{name}: {}", done.err);
        assert!(fs::read(out.join(name)).unwrap() == fs::read(task.at("judge").join(name)).unwrap(), "{name}");
    }
    let mut bytes = fs::read(out.join("model.safetensors")).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(out.join("model.safetensors"), bytes).unwrap();
    refused(train(), root.path(), &["model.safetensors is in the way", "damaged", "move it away"]);
    fs::remove_file(out.join("model.safetensors")).unwrap();
    succeed(train());
    assert!(Path::new(&out.join("model.safetensors")).is_file());
}

/// What was told to ignore a signal (`nohup`, a shell's background) goes on.
#[test]
fn ignored_signals_stay_ignored() {
    let task = ground();
    let root = tempfile::tempdir().unwrap();
    let output = root.path().join("x");
    let inner = score(task, &output, &[]);
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' HUP INT; exec \"$@\"", "sh"]).arg(inner.get_program()).args(inner.get_args());
    command.current_dir(task.dir.path()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    begun(&mut child, &root.path().join("x.part"));
    for signal in ["-HUP", "-INT"] {
        assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
    }
    let done: crate::cli::Done = child.wait_with_output().unwrap().into();
    assert_eq!(done.code, Some(0), "{}", done.err);
    assert_eq!(fs::read_to_string(&output).unwrap().lines().count(), 300);
    assert_eq!(names(root.path()), ["x"]);
}
