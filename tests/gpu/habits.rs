//! Training habits: early stopping and TensorBoard's event file, also of runs that are killed and resumed.

use std::path::Path;

use serde_json::Value;

use crate::cli::{Task, finish, lines, succeed};
use crate::resume::same_run;

/// 20 rows, 4 a step, 10 epochs: 50 steps, an evaluation every 2.
const RUN: [&str; 14] = [
    "--per-device-train-batch-size",
    "4",
    "--num-train-epochs",
    "10",
    "--eval-file",
    "dev.jsonl",
    "--eval-steps",
    "2",
    "--save-steps",
    "4",
    "--report-to",
    "tensorboard",
    "--metric-for-best-model",
    "rmse",
];

/// No metric improves by so much: the run stops after the first evaluation and two more.
const STOPS: [&str; 4] = ["--early-stopping-patience", "2", "--early-stopping-threshold", "1000"];

/// The scalars of an event file: step, tag and value, without what a clock decides. Every record must be whole.
pub fn scalars(mut bytes: &[u8]) -> Vec<(u64, String, f32)> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let (head, rest) = bytes.split_at(12);
        let (event, rest) = rest.split_at(length);
        for (part, stored) in [(&head[..8], &head[8..]), (event, &rest[..4])] {
            assert_eq!(masked_crc(part), u32::from_le_bytes(stored.try_into().unwrap()));
        }
        bytes = &rest[4..];
        let (mut step, mut values) = (0, Vec::new());
        for (field, value) in fields(event) {
            match (field, value) {
                (2, Field::Number(number)) => step = number,
                (5, Field::Bytes(summary)) => values.extend(fields(summary).into_iter().map(|(_, value)| scalar(&value))),
                _ => {}
            }
        }
        found.extend(values.into_iter().filter(|(tag, _)| tag != "train/step_time").map(|(tag, value)| (step, tag, value)));
    }
    found
}

enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    Float(f32),
}

fn fields(mut message: &[u8]) -> Vec<(u64, Field<'_>)> {
    let mut found = Vec::new();
    while !message.is_empty() {
        let key = varint(&mut message);
        let field = match key & 7 {
            0 => Field::Number(varint(&mut message)),
            1 => Field::Number(u64::from_le_bytes(take(&mut message, 8).try_into().unwrap())),
            2 => {
                let length = varint(&mut message) as usize;
                Field::Bytes(take(&mut message, length))
            }
            5 => Field::Float(f32::from_le_bytes(take(&mut message, 4).try_into().unwrap())),
            other => panic!("wire type {other}"),
        };
        found.push((key >> 3, field));
    }
    found
}

fn take<'a>(bytes: &mut &'a [u8], n: usize) -> &'a [u8] {
    let (taken, rest) = bytes.split_at(n);
    *bytes = rest;
    taken
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let byte = take(bytes, 1)[0];
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
    }
    number
}

fn scalar(value: &Field) -> (String, f32) {
    let Field::Bytes(value) = value else { panic!("a value is a message") };
    match fields(value).as_slice() {
        [(1, Field::Bytes(tag)), (2, Field::Float(value))] => (String::from_utf8(tag.to_vec()).unwrap(), *value),
        _ => panic!("a scalar has a tag and a value"),
    }
}

/// Bit by bit, from the polynomial.
fn masked_crc(bytes: &[u8]) -> u32 {
    let step = |crc: u32| if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 };
    let crc = !bytes.iter().fold(!0_u32, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc)));
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

fn metrics(dir: &Path) -> Vec<Value> {
    lines(&std::fs::read_to_string(dir.join("metrics.jsonl")).unwrap())
}

/// The event file says what `metrics.jsonl` says.
#[track_caller]
fn same_log(dir: &Path) {
    let mut expected = Vec::new();
    for line in metrics(dir) {
        let fields = line.as_object().unwrap();
        let evaluation = fields.keys().any(|name| name.starts_with("eval_"));
        for (name, value) in fields {
            let tag = match name.strip_prefix("eval_") {
                Some(name) => format!("eval/{name}"),
                None if evaluation || name == "step" || name == "step_time" => continue,
                None => format!("train/{name}"),
            };
            if let Some(value) = value.as_f64() {
                expected.push((line["step"].as_u64().unwrap(), tag, value as f32));
            }
        }
    }
    assert_eq!(scalars(&std::fs::read(dir.join("events.out.tfevents.jurist")).unwrap()), expected);
    assert!(expected.iter().any(|(_, tag, _)| tag == "eval/pearson" || tag == "eval/rmse"), "{expected:?}");
}

fn counter(task: &Task, checkpoint: &str) -> Value {
    let state: Value = serde_json::from_str(&task.read(&format!("{checkpoint}/trainer_state.json"))).unwrap();
    state["stateful_callbacks"]["EarlyStoppingCallback"].clone()
}

#[test]
fn a_run_stops_early_and_can_be_resumed() {
    let task = Task::new(20, 4, false);
    let run = |output: &str, more: &[&str]| task.train(output, &[&RUN[..], &STOPS, more].concat());
    let done = succeed(run("whole", &[]));
    assert!(done.err.contains("stopped early after 6 steps: rmse has not improved for 2 evaluations"), "{}", done.err);
    assert!(done.err.contains("early_stopping_patience without load_best_model_at_end"), "{}", done.err);
    assert!(done.err.contains("6 steps in "), "{}", done.err);
    let log = metrics(&task.at("whole"));
    assert_eq!(log.last().unwrap()["step"], 6);
    same_log(&task.at("whole"));
    let state = counter(&task, "whole/checkpoint-6");
    assert_eq!(state["attributes"]["early_stopping_patience_counter"], 2);
    assert_eq!(state["args"]["early_stopping_patience"], 2);
    assert!(task.at("whole/judge.json").is_file() && !task.at("whole/checkpoint-50").exists());

    // Killed where the disk holds something else, and resumed: the same bytes.
    for point in ["step:3", "metrics:4", "metrics:8", "folder-named", "files-filled"] {
        let output = point.replace(':', "-");
        let mut killed = run(&output, &["--resume"]);
        killed.env("JURIST_CRASH_AT", point);
        assert_eq!(finish(killed).code, None, "{point} was not passed");
        succeed(run(&output, &["--resume"]));
        same_run(&task.at("whole"), &task.at(&output));
        same_log(&task.at(&output));
    }
    // A run that has stopped has nothing left to do; with more patience it goes on.
    let done = succeed(run("whole", &["--resume"]));
    assert!(done.err.contains("the run was finished before, after 6 steps"), "{}", done.err);
    let done = succeed(task.train("whole", &[&RUN[..], &STOPS[2..], &["--early-stopping-patience", "3", "--resume"]].concat()));
    assert!(done.err.contains("stopped early after 8 steps: rmse has not improved for 3 evaluations"), "{}", done.err);
    assert_eq!(counter(&task, "whole/checkpoint-8")["attributes"]["early_stopping_patience_counter"], 3);
    same_log(&task.at("whole"));
}

/// Resumed without TensorBoard, a run keeps what was in its event file. Resumed with another metric, it compares with no best
/// value of the earlier one.
#[test]
fn a_run_is_resumed_with_other_habits() {
    let task = Task::new(20, 4, false);
    let run = |patience: &str, more: &[&str]| {
        let stops = ["--early-stopping-patience", patience, "--early-stopping-threshold", "1000", "--resume"];
        succeed(task.train("judge", &[&RUN[..], &stops, more].concat()))
    };
    let steps = || -> Vec<u64> {
        let events = scalars(&std::fs::read(task.at("judge/events.out.tfevents.jurist")).unwrap());
        events.iter().filter(|(_, tag, _)| tag == "eval/rmse").map(|(step, ..)| *step).collect()
    };
    run("2", &[]);
    assert_eq!(steps(), [2, 4, 6]);
    run("3", &["--report-to", "none"]);
    run("4", &[]);
    assert_eq!(steps(), [2, 4, 6, 10]);
    let done = run("1", &["--metric-for-best-model", "mae"]);
    assert!(done.err.contains("the best checkpoint was that of rmse: it is forgotten, and mae begins anew"), "{}", done.err);
    // The first evaluation of the new metric is an improvement, the second is none.
    assert!(done.err.contains("stopped early after 14 steps: mae has not improved for 1 evaluation"), "{}", done.err);
}

/// With the best checkpoint loaded at the end, as transformers wants it.
#[test]
fn the_best_of_a_stopped_run_is_kept() {
    let task = Task::new(20, 4, false);
    let best = ["--load-best-model-at-end", "--save-steps", "2"];
    let done = succeed(task.train("judge", &[&RUN[..], &STOPS, &best].concat()));
    assert!(!done.err.contains("without load_best_model_at_end"), "{}", done.err);
    let state: Value = serde_json::from_str(&task.read("judge/checkpoint-6/trainer_state.json")).unwrap();
    let best = state["best_model_checkpoint"].as_str().unwrap();
    let read = |path: String| std::fs::read(task.at(&path)).unwrap();
    assert_eq!(read("judge/model.safetensors".into()), read(format!("judge/{best}/model.safetensors")));
    // Without a rule the run goes to its last step, and its state names no callback.
    succeed(task.train("long", &[&RUN[..], &["--max-steps", "8"]].concat()));
    assert!(task.at("long/checkpoint-8").is_dir() && counter(&task, "long/checkpoint-8").is_null());
}

/// Labels that are words from training to figures: the scale says once what they stand for.
#[test]
fn labels_that_are_words_are_learned_and_measured() {
    let task = Task::new(24, 12, false);
    for file in ["train.jsonl", "dev.jsonl"] {
        let word = |row: &Value| if row["score"].as_f64().unwrap() > 3.0 { "ok" } else { "bad" };
        let relabelled = |mut row: Value| {
            row["score"] = word(&row).into();
            row.as_object_mut().unwrap().shift_remove("labels");
            row.to_string() + "\n"
        };
        task.write(file, lines(&task.read(file)).into_iter().map(relabelled).collect::<String>());
    }
    succeed(task.train("judge", &["--scale", "bad,ok", "--max-steps", "3", "--eval-file", "dev.jsonl"]));
    // The judge's own scale has the words.
    let eval = ["eval", "--model", "judge", "--input", "dev.jsonl", "--json", "--resamples", "100", "--require", "recall(ok)>=0"];
    let done = finish(task.jurist(&eval));
    let found: Value = serde_json::from_str(&done.out).unwrap_or_else(|e| panic!("{e}: {}", done.err));
    let people = &found["decoded score"]["per_label"]["ok"]["people"];
    let expected = lines(&task.read("dev.jsonl")).iter().filter(|row| row["score"] == "ok").count();
    assert_eq!((people, done.code), (&Value::from(expected), Some(0)), "{found} {}", done.err);
    succeed(task.jurist(&["score", "--model", "judge", "--input", "dev.jsonl", "--output", "scored.jsonl"]));
    succeed(task.jurist(&["eval", "scored.jsonl", "--scale", "bad,ok", "--resamples", "100"]));
    succeed(task.jurist(&["data", "check", "dev.jsonl", "--model", "judge"]));
    let refused = finish(task.train("other", &["--scale", "1..5", "--max-steps", "1"]));
    assert!(refused.code == Some(1) && refused.err.contains("make it a finite number"), "{}", refused.err);
}

#[test]
fn an_event_file_of_somebody_else_is_left_alone() {
    let task = Task::new(8, 4, false);
    std::fs::create_dir(task.at("judge")).unwrap();
    task.write("judge/events.out.tfevents.jurist", "notes of mine, which no run wrote, and which are worth keeping");
    let done = finish(task.train("judge", &[&RUN[..], &["--max-steps", "2"]].concat()));
    assert!(done.code == Some(1) && done.err.contains("events.out.tfevents.jurist is in the way"), "{}", done.err);
    // One that begins elsewhere in the log is another run's.
    succeed(task.train("other", &[&RUN[..], &["--max-steps", "2"]].concat()));
    same_log(&task.at("other"));
}
