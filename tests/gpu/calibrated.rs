//! A calibrated judge: `jurist calibrate --model` writes it, and score, bundles and GGUF files carry it.

use crate::cli::{Task, finish, lines, succeed};
use serde_json::{Value, json};

#[test]
fn a_calibration_travels_with_its_judge() {
    let task = Task::new(64, 60, true);
    let more = ["--num-train-epochs", "4", "--per-device-train-batch-size", "8", "--save-steps", "0", "--learning-rate", "1e-2"];
    succeed(task.train("judge", &[&more[..], &["--chain-column", "none"]].concat()));
    let before = task.read("judge/judge.json");
    let score = |model: &str, more: &[&str]| {
        lines(&succeed(task.jurist(&[&["score", "--model", model, "--input", "dev.jsonl"], more].concat())).out)
    };
    let raw = score("judge", &[]);
    assert!(raw.iter().all(|row| row["judge"].get("calibrated").is_none()));

    let done = succeed(task.jurist(&["calibrate", "--model", "judge", "--input", "dev.jsonl", "--level", "0.8", "--json"]));
    let fitted: Value = serde_json::from_str(&done.out).unwrap();
    assert!(done.err.contains("judge.json: score and serve add the calibrated score"), "{}", done.err);
    let kept: Value = serde_json::from_str(&task.read("judge/judge.json")).unwrap();
    assert_eq!(kept["calibration"]["map"], fitted["calibration"]["map"]);
    assert_eq!(
        kept["calibration"]["judged"],
        json!({"expectation": "renormalised", "chains": 0, "temperature": 0.0, "given_chains": false})
    );
    // All else is as it was, in its order.
    let mut rest = kept.clone();
    rest.as_object_mut().unwrap().shift_remove("calibration");
    assert_eq!(rest, serde_json::from_str::<Value>(&before).unwrap());

    let scored = score("judge", &[]);
    let inside = scored.iter().filter(|row| {
        let found = &row["judge"]["calibrated"];
        let at = |key: &str| found[key].as_f64().unwrap();
        assert!(at("low") <= at("high") && (1.0..=5.0).contains(&at("score")) && at("level") == 0.8, "{found}");
        (at("low")..=at("high")).contains(&row["score"].as_f64().unwrap())
    });
    assert!(inside.count() >= 42, "of 60 rows at level 0.8");
    for (row, before) in scored.iter().zip(&raw) {
        let mut judge = row["judge"].clone();
        judge.as_object_mut().unwrap().shift_remove("calibrated");
        assert_eq!(judge, before["judge"], "the raw judgement stays what it was");
    }
    // Other ways to judge have no calibration, and the command says so.
    let done = succeed(task.jurist(&["score", "--model", "judge", "--input", "dev.jsonl", "--expectation", "full"]));
    assert!(done.err.contains("no calibrated score") && !done.out.contains("calibrated"), "{}", done.err);
    let done = succeed(task.jurist(&["score", "--model", "judge", "--input", "dev.jsonl", "--phrase", "judge score "]));
    assert!(done.err.contains("no calibrated score") && !done.out.contains("calibrated"), "{}", done.err);

    // `eval` measures it, though not on the rows that it was fitted on.
    let eval = |input: &str, more: &[&str]| {
        let args = ["eval", "--model", "judge", "--input", input, "--resamples", "200", "--json"];
        finish(task.jurist(&[&args[..], more].concat()))
    };
    let done = eval("dev.jsonl", &[]);
    assert!(done.err.contains("was calibrated on these rows") && !done.out.contains("calibrated score"), "{}", done.err);
    let done = eval("train.jsonl", &[]);
    let found: Value = serde_json::from_str(&done.out).unwrap_or_else(|e| panic!("{e}: {}", done.err));
    let own = &found["calibrated score"];
    assert!(own["interval_coverage"].as_f64().unwrap() > 0.6 && own["rmse"].is_number(), "{own}");
    let done = eval("train.jsonl", &["--require", "ci_low(calibrated.interval_coverage)>=0.5"]);
    assert_eq!(done.code, Some(0), "{}", done.err);

    // A bundle carries it (a GGUF file too: gguf.rs), and can be calibrated in place.
    succeed(task.jurist(&["export", "judge", "--out", "bundle", "--weights", "f32"]));
    for (row, own) in score("bundle", &[]).iter().zip(&scored) {
        let (found, own) = (&row["judge"]["calibrated"]["score"], &own["judge"]["calibrated"]["score"]);
        assert!((found.as_f64().unwrap() - own.as_f64().unwrap()).abs() < 0.02, "{found}, {own}");
    }
    succeed(task.jurist(&["calibrate", "--model", "bundle", "--input", "dev.jsonl", "--level", "0.6"]));
    assert_eq!(score("bundle", &[])[0]["judge"]["calibrated"]["level"], 0.6);
    let calibrate = |args: &[&str]| finish(task.jurist(&[&["calibrate", "--input", "dev.jsonl"], args].concat()));
    let refused = calibrate(&["--model", "judge", "--phrase", "judge score "]);
    assert!(refused.code == Some(2) && refused.err.contains("`phrase` is not as in the judge's judge.json"), "{}", refused.err);
    assert_eq!(calibrate(&["--model", "judge", "--output", "kept.json"]).code, Some(0));
    assert!(task.read("kept.json").contains("jurist_calibration"));

    // Training from it makes another judge. Resuming its own run finds its files.
    let from = ["train", "--model-name-or-path", "judge", "--train-file", "train.jsonl", "--max-steps", "1", "--output-dir"];
    succeed(task.jurist(&[&from[..], &["next"]].concat()));
    assert!(!task.read("next/judge.json").contains("calibration"));
    // Requirements on a calibrated score that there cannot be are refused before anything is judged.
    let refused = finish(task.jurist(&["eval", "--model", "next", "--input", "dev.jsonl", "--require", "calibrated.rmse<1"]));
    assert!(refused.code == Some(2) && refused.err.contains("the judge has no calibration"), "{}", refused.err);
}
