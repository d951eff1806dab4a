//! A run that is stopped, killed or interrupted at any moment ends with the same bytes as one that was not.
#![cfg(unix)]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::cli::{Done, Task, finish, lines, succeed};
use jurist::random::Stream;
use serde_json::Value;

/// 20 rows, 2 x 2 rows a step, 6 epochs: 30 steps; a checkpoint every 4, an evaluation every 6.
const RUN: [&str; 14] = [
    "--per-device-train-batch-size",
    "2",
    "--gradient-accumulation-steps",
    "2",
    "--num-train-epochs",
    "6",
    "--eval-file",
    "dev.jsonl",
    "--eval-steps",
    "6",
    "--save-steps",
    "4",
    "--warmup-steps",
    "3",
];
const STEPS: u64 = 30;

fn task() -> Task {
    Task::new(20, 4, false)
}

fn train(task: &Task, output: &str, more: &[&str]) -> Command {
    task.train(output, &[&RUN[..], more].concat())
}

/// All files of a folder, by name; of its checkpoints the last one only, because killed runs keep the same ones anyway.
pub fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_string();
        if path.is_dir() {
            found.extend(files(&path).into_iter().map(|(file, bytes)| (format!("{name}/{file}"), bytes)));
        } else {
            found.insert(name, std::fs::read(path).unwrap());
        }
    }
    found
}

/// A line without what a clock decides.
fn timeless(mut line: Value) -> Value {
    line.as_object_mut().unwrap().shift_remove("step_time");
    line
}

fn metrics(dir: &Path) -> Vec<Value> {
    lines(&std::fs::read_to_string(dir.join("metrics.jsonl")).unwrap()).into_iter().map(timeless).collect()
}

/// Two output folders hold the same run: every weight, moment and setting byte for byte, every log line but its times.
#[track_caller]
pub fn same_run(a: &Path, b: &Path) {
    assert_eq!(metrics(a), metrics(b), "metrics.jsonl");
    let (a, b) = (files(a), files(b));
    assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>(), "the folders hold other files");
    for (name, bytes) in &a {
        match name.rsplit('/').next().unwrap() {
            "metrics.jsonl" => {}
            "events.out.tfevents.jurist" => assert_eq!(crate::habits::scalars(bytes), crate::habits::scalars(&b[name]), "{name}"),
            // The output folder's own name is in it.
            "jurist.toml" => {}
            "trainer_state.json" => assert_eq!(state(bytes), state(&b[name]), "{name}"),
            _ => assert!(*bytes == b[name], "{name} differs"),
        }
    }
}

/// A trainer state without what a clock decides.
fn state(bytes: &[u8]) -> Value {
    let mut state: Value = serde_json::from_slice(bytes).unwrap();
    let history = state["log_history"].as_array().unwrap().iter().cloned().map(timeless).collect();
    state["log_history"] = Value::Array(history);
    // The digits of the times are part of the length.
    state["jurist"]["metrics_bytes"] = Value::Null;
    state
}

/// Each step once, in order, and each evaluation once.
#[track_caller]
fn complete_log(dir: &Path, all: u64) {
    let steps = |key: &str| -> Vec<u64> {
        metrics(dir).iter().filter(|l| l.get(key).is_some()).map(|l| l["step"].as_u64().unwrap()).collect()
    };
    assert_eq!(steps("loss"), (1..=all).collect::<Vec<_>>());
    assert_eq!(steps("eval_loss"), (1..=all / 6).map(|e| e * 6).collect::<Vec<_>>());
}

#[test]
fn one_seed_one_run() {
    let task = task();
    succeed(train(&task, "a", &[]));
    succeed(train(&task, "b", &[]));
    same_run(&task.at("a"), &task.at("b"));
    complete_log(&task.at("a"), STEPS);
    succeed(train(&task, "c", &["--seed", "8", "--max-steps", "4"]));
    let weights = |dir: &str| std::fs::read(task.at(dir).join("checkpoint-4/model.safetensors")).unwrap();
    assert_ne!(weights("a"), weights("c"), "another seed is another run");
}

fn spawn(mut command: Command) -> Child {
    command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Waits until `ready` holds or the child ends; true if it still runs.
pub fn wait_until(child: &mut Child, ready: impl Fn() -> bool) -> bool {
    let began = Instant::now();
    while !ready() {
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        assert!(began.elapsed() < Duration::from_secs(120), "the run hangs");
        std::thread::sleep(Duration::from_micros(50));
    }
    true
}

/// Where a run can be killed such that the disk holds something else (`files::crash_point`), and at which time.
const POINTS: [&str; 13] = [
    "config",
    "step",
    "metrics",
    "step:5",
    "metrics:5",
    "folder-filled",
    "folder-named",
    "folder-filled:2",
    "folder-named:2",
    "folder-set-aside",
    "files-filled",
    "files-but-the-last",
    "files-moved",
];

/// Checkpoints after steps 3, 6 and 8, of which one is kept; evaluations after 4 and 8.
#[test]
fn killed_at_each_point() {
    let task = task();
    let run = |output: &str| {
        let more = ["--max-steps", "8", "--save-steps", "3", "--save-total-limit", "1", "--eval-steps", "4", "--resume"];
        train(&task, output, &more)
    };
    succeed(run("whole"));
    for point in POINTS {
        let output = point.replace(':', "-");
        let mut killed = run(&output);
        killed.env("JURIST_CRASH_AT", point);
        let done = finish(killed);
        assert_eq!(done.code, None, "{point} was not passed: {}", done.err);
        succeed(run(&output));
        same_run(&task.at("whole"), &task.at(&output));
    }
}

/// Moments of chance besides, where nobody thought of a point: some milliseconds after the first step of each try.
#[test]
fn killed_at_any_moment() {
    let task = task();
    let long = ["--num-train-epochs", "12"]; // 60 steps
    succeed(train(&task, "whole", &long));
    let (output, log) = (task.at("killed"), task.at("killed").join("metrics.jsonl"));
    let mut stream = Stream::new(5, 5);
    let mut kills = 0;
    for round in 0.. {
        assert!(round < 100, "no end");
        let mut child = spawn(train(&task, "killed", &[&long[..], &["--resume"]].concat()));
        let length = |p: &Path| std::fs::metadata(p).map_or(0, |m| m.len());
        let before = length(&log);
        // The log is cut back on resume, then grows.
        if kills < 8 && wait_until(&mut child, || !log.exists() || length(&log) != before) {
            std::thread::sleep(Duration::from_millis(stream.below(80) as u64));
            if child.try_wait().unwrap().is_none() {
                child.kill().unwrap();
                child.wait().unwrap();
                kills += 1;
                continue;
            }
        }
        let done: crate::cli::Done = child.wait_with_output().unwrap().into();
        assert_eq!(done.code, Some(0), "{}", done.err);
        break;
    }
    println!("{kills} kills");
    assert!(kills >= 5, "only {kills} kills");
    complete_log(&output, 60);
    same_run(&task.at("whole"), &output);
}

pub fn interrupt(child: &Child) {
    let id = child.id().to_string();
    assert!(Command::new("kill").args([crate::cli::ctrl_c(), &id]).status().unwrap().success());
}

#[test]
fn interrupted_and_resumed() {
    let task = task();
    succeed(train(&task, "whole", &[]));
    let log = task.at("stopped").join("metrics.jsonl");
    let mut child = train(&task, "stopped", &[]).spawn().unwrap();
    let written = || std::fs::read_to_string(&log).map_or(0, |t| t.lines().count());
    assert!(wait_until(&mut child, || written() >= 6), "it ended before it was interrupted");
    interrupt(&child);
    let done: Done = child.wait_with_output().unwrap().into();
    assert_eq!(done.code, Some(130), "{}", done.err);
    let last = done.err.lines().last().unwrap();
    assert!(last.starts_with("error: interrupted; the run continues from stopped/checkpoint-"), "{last}");
    let checkpoint = last.split(' ').find(|w| w.starts_with("stopped/")).unwrap();
    assert!(task.at(checkpoint).join("trainer_state.json").is_file());
    let step: u64 = checkpoint.rsplit('-').next().unwrap().parse().unwrap();
    assert!(step < STEPS);
    assert!(!task.at("stopped/model.safetensors").exists(), "no final model before the end");

    let done = succeed(train(&task, "stopped", &["--resume"]));
    assert!(done.err.contains(&format!("resumed from {checkpoint}")), "{}", done.err);
    complete_log(&task.at("stopped"), STEPS);
    if !step.is_multiple_of(4) {
        std::fs::remove_dir_all(task.at(checkpoint)).unwrap(); // the one checkpoint that the whole run has no reason to write
    }
    same_run(&task.at("whole"), &task.at("stopped"));
}

/// From the first, from a checkpoint at the end of an epoch (20 rows are 5 steps), and after the last step.
#[test]
fn resumed_at_an_epochs_end_and_after_the_end() {
    let task = task();
    let five = |output, more: &[&str]| train(&task, output, &[&["--save-steps", "5"], more].concat());
    succeed(five("whole", &[]));
    let state: Value = serde_json::from_str(&task.read("whole/checkpoint-10/trainer_state.json")).unwrap();
    assert_eq!((state["epoch"].as_f64(), state["jurist"]["order"]["position"].as_u64()), (Some(2.0), Some(0)));
    // Which optional kernels were used, by name.
    assert!(state["jurist"]["tuning"].as_str().is_some_and(|t| t.contains("variants: {")), "{}", state["jurist"]);

    let copied = task.at("copied");
    succeed({
        let mut copy = Command::new("cp");
        copy.arg("-r").arg(task.at("whole")).arg(&copied);
        copy
    });
    for step in [15, 20, 25, 30] {
        std::fs::remove_dir_all(copied.join(format!("checkpoint-{step}"))).unwrap();
    }
    for name in ["model.safetensors", "judge.json"] {
        std::fs::remove_file(copied.join(name)).unwrap();
    }
    let done = succeed(five("copied", &["--resume"]));
    assert!(done.err.contains("checkpoint-10"), "{}", done.err);
    complete_log(&copied, STEPS);
    same_run(&task.at("whole"), &copied);

    // Everything is done: nothing is written, and it says so.
    let before = files(&copied);
    let written = || std::fs::metadata(copied.join("model.safetensors")).unwrap().modified().unwrap();
    let at = written();
    let done = succeed(five("copied", &["--resume"]));
    assert!(done.err.contains("nothing is left to do"), "{}", done.err);
    assert!(before == files(&copied));
    assert_eq!(at, written());

    // The settings that are kept are those that the run was trained with.
    let done = succeed(train(&task, "copied", &["--save-steps", "10", "--resume"]));
    assert!(done.err.contains("a setting changed") && done.err.contains("nothing is left to do"), "{}", done.err);
    assert!(before == files(&copied));
}

#[test]
fn a_used_folder_is_refused() {
    let task = task();
    succeed(train(&task, "used", &["--max-steps", "2"]));
    let before = files(&task.at("used"));
    let refused = |output: &str, more: &[&str], said: &str| {
        let done = finish(train(&task, output, more));
        assert_eq!(done.code, Some(1), "{}", done.err);
        assert!(done.err.contains(said), "{}", done.err);
    };
    refused("used", &["--max-steps", "2"], "a run was here before; continue with --resume, or choose another output_dir");
    // Resumed with what does not fit the checkpoint.
    refused("used", &["--max-steps", "3", "--resume"], "the run was planned for 2 steps, and now is for 3");
    refused("used", &["--max-steps", "2", "--resume", "--seed", "9"], "the checkpoint was made with seed 7, not 9");
    assert!(before == files(&task.at("used")), "a refused run leaves everything as it was");
    // A finished judge whose checkpoints were thrown away is worth as much.
    std::fs::remove_dir_all(task.at("used/checkpoint-2")).unwrap();
    let before = files(&task.at("used"));
    refused("used", &["--max-steps", "2"], "choose another output_dir");
    refused("used", &["--max-steps", "2", "--resume"], "choose another output_dir");
    assert!(before == files(&task.at("used")));
}

fn checkpoints(dir: &Path) -> Vec<u64> {
    let names = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    let mut steps: Vec<u64> = names.filter_map(|n| n.strip_prefix("checkpoint-")?.parse().ok()).collect();
    steps.sort_unstable();
    steps
}

/// The evaluation after which the judge was best is the model that is left, whether or not a checkpoint was due there.
#[test]
fn the_best_is_kept() {
    let task = task();
    // It learns to say 5 where 1 is right: after the first steps, which teach that a score comes, it gets worse.
    for (file, label) in [("train.jsonl", 5), ("dev.jsonl", 1)] {
        let rows = lines(&task.read(file)).into_iter().map(|mut row| {
            row["score"] = label.into();
            row.to_string() + "\n"
        });
        task.write(file, rows.collect::<String>());
    }
    let best = ["--load-best-model-at-end", "--eval-steps", "3", "--save-steps", "9", "--save-total-limit", "2"];
    let fast = ["--learning-rate", "0.03", "--lr-scheduler-type", "constant", "--warmup-steps", "0", "--max-steps", "18"];
    succeed(train(&task, "best", &[&best[..], &fast[..]].concat()));
    let dir = task.at("best");
    let losses: Vec<(u64, f64)> =
        metrics(&dir).iter().filter_map(|l| Some((l["step"].as_u64()?, l.get("eval_loss")?.as_f64()?))).collect();
    let (step, _) = losses.iter().copied().reduce(|a, b| if b.1 < a.1 { b } else { a }).unwrap();
    println!("best of {losses:?}: {step}");
    let left = checkpoints(&dir);
    assert!(left.contains(&step) && left.contains(&18) && left.len() <= 3, "{left:?}, best {step}");
    let state: Value = serde_json::from_str(&task.read("best/checkpoint-18/trainer_state.json")).unwrap();
    assert_eq!(state["best_global_step"].as_u64(), Some(step));
    assert_eq!(state["best_model_checkpoint"].as_str(), Some(format!("checkpoint-{step}").as_str()));
    let weights = |name: &str| std::fs::read(dir.join(name)).unwrap();
    assert!(weights("model.safetensors") == weights(&format!("checkpoint-{step}/model.safetensors")));
    assert!(!dir.join("training_state.safetensors").exists() && dir.join("judge.json").is_file());
}

#[test]
fn old_checkpoints_go() {
    let task = task();
    succeed(train(&task, "few", &["--save-total-limit", "2", "--save-steps", "2", "--max-steps", "9"]));
    assert_eq!(checkpoints(&task.at("few")), [8, 9]);
    succeed(train(&task, "all", &["--save-steps", "2", "--max-steps", "9"]));
    assert_eq!(checkpoints(&task.at("all")), [2, 4, 6, 8, 9]);
    succeed(train(&task, "end", &["--save-steps", "0", "--max-steps", "9"]));
    assert_eq!(checkpoints(&task.at("end")), [9]);
}
