//! GGUF files where a model is taken, and as what a judge is exported to.

use std::path::Path;

use tempfile::tempdir;

use crate::cli::*;

const ROWS: &str = "{\"prompt\": \"hello\", \"score\": 5}\n{\"prompt\": \"hello world\", \"score\": 1}\n";

fn fixture() -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/gguf/llama.gguf").display().to_string()
}

fn expected(model: &str, rows: &Path) -> Vec<f64> {
    let scored = succeed(jurist(&["score", "--model", model, "--input", path(rows)]));
    lines(&scored.out).iter().map(|row| row["judge"]["expected"].as_f64().unwrap()).collect()
}

/// LoRA on the file, an export to GGUF, and that file asked with nothing else given: the judge is the same.
#[test]
fn a_judge_goes_in_and_out() {
    let dir = tempdir().unwrap();
    let rows = write(dir.path().join("rows.jsonl"), ROWS);
    let (judge, file) = (dir.path().join("judge"), dir.path().join("judge.gguf"));
    let start = fixture();
    let flags = ["--method", "raft", "--lora-r", "4", "--max-steps", "3", "--learning-rate", "0.01", "--chat", "never"];
    let mut args = vec!["train", "--model-name-or-path", &start, "--train-file", path(&rows), "--output-dir", path(&judge)];
    args.extend(flags);
    succeed(jurist(&args));
    let before = expected(path(&judge), &rows);
    for (weights, allowed) in [("f16", 1e-3), ("bf16", 1e-2), ("q8", 2e-2), ("q4_0", 0.5)] {
        let args = ["export", path(&judge), "--out", path(&file), "--format", "gguf", "--weights", weights];
        let said = succeed(jurist(&args)).out;
        assert!(said.contains("judge.gguf: "), "{said}");
        for (a, b) in before.iter().zip(expected(path(&file), &rows)) {
            assert!((a - b).abs() < allowed, "{weights}: {a} and {b}");
        }
    }
    // A bundle of a GGUF file, and a folder that holds one.
    let bundle = dir.path().join("bundle");
    succeed(jurist(&["export", path(&file), "--out", path(&bundle), "--weights", "f32"]));
    let folder = dir.path().join("folder");
    std::fs::create_dir(&folder).unwrap();
    std::fs::copy(&file, folder.join("model.gguf")).unwrap();
    let scores = expected(path(&file), &rows);
    for other in [&bundle, &folder] {
        for (a, b) in scores.iter().zip(expected(path(other), &rows)) {
            assert!((a - b).abs() < 1e-5, "{a} and {b}");
        }
    }
}

/// The calibrated score of a GGUF file is that of the judge which it was exported from; a new one is kept beside the file.
#[test]
fn a_gguf_file_carries_the_calibration() {
    let dir = tempdir().unwrap();
    let rows = write(dir.path().join("rows.jsonl"), ROWS.repeat(20));
    let (judge, file, kept) = (dir.path().join("judge"), dir.path().join("judge.gguf"), dir.path().join("kept.json"));
    let flags = ["--method", "raft", "--lora-r", "4", "--max-steps", "3", "--learning-rate", "0.01", "--chat", "never"];
    let start = fixture();
    let mut args = vec!["train", "--model-name-or-path", &start, "--train-file", path(&rows), "--output-dir", path(&judge)];
    args.extend(flags);
    succeed(jurist(&args));
    succeed(jurist(&["calibrate", "--model", path(&judge), "--input", path(&rows), "--map", "affine"]));
    succeed(jurist(&["export", path(&judge), "--out", path(&file), "--format", "gguf", "--weights", "f16"]));

    let calibrated = |model: &Path| {
        let scored = succeed(jurist(&["score", "--model", path(model), "--input", path(&rows)]));
        lines(&scored.out).iter().map(|row| row["judge"]["calibrated"]["score"].as_f64().unwrap()).collect::<Vec<_>>()
    };
    for (own, found) in calibrated(&judge).iter().zip(calibrated(&file)) {
        assert!((own - found).abs() < 0.02, "{own} and {found}");
    }
    let again = |more: &[&str]| finish(jurist(&[&["calibrate", "--model", path(&file), "--input", path(&rows)], more].concat()));
    let refused = again(&[]);
    assert!(refused.code == Some(2) && refused.err.contains("a GGUF file is written once"), "{}", refused.err);
    let done = again(&["--output", path(&kept)]);
    assert_eq!(done.code, Some(0), "{}", done.err);
    assert!(std::fs::read_to_string(&kept).unwrap().contains("jurist_calibration"));
}

#[test]
fn what_cannot_be_read_or_written_is_said() {
    let dir = tempdir().unwrap();
    let rows = write(dir.path().join("rows.jsonl"), ROWS);
    let cut = dir.path().join("cut.gguf");
    let file = std::fs::read(fixture()).unwrap();
    std::fs::write(&cut, &file[..file.len() - 100]).unwrap();
    let refused = |args: &[&str]| {
        let done = finish(jurist(args));
        assert!(done.code.is_some_and(|code| code != 0), "{}", done.err);
        done.err
    };
    let err = refused(&["score", "--model", path(&cut), "--input", path(&rows)]);
    assert!(err.contains("cut.gguf") && err.contains("ends after the file does"), "{err}");
    let err = refused(&["export", &fixture(), "--out", path(&dir.path().join("out.gguf")), "--format", "gguf"]);
    assert!(err.contains("judge.json"), "{err}");
    let err = refused(&["export", &fixture(), "--out", path(&dir.path().join("out")), "--format", "gguf"]);
    assert!(err.contains("ends in .gguf"), "{err}");
    // Neither the base of the judge nor another file is replaced.
    let (base, other, judge) = (dir.path().join("base.gguf"), dir.path().join("other.gguf"), dir.path().join("judge"));
    std::fs::copy(fixture(), &base).unwrap();
    std::fs::write(&other, "notes").unwrap();
    let args = ["train", "--method", "raft", "--lora-r", "2", "--max-steps", "1", "--chat", "never"];
    let paths = ["--model-name-or-path", path(&base), "--train-file", path(&rows), "--output-dir", path(&judge)];
    succeed(jurist(&[&args[..], &paths[..]].concat()));
    for (out, said) in [(&base, "the model"), (&other, "not a judge that jurist exported")] {
        let before = std::fs::read(out).unwrap();
        let err = refused(&["export", path(&judge), "--out", path(out), "--format", "gguf"]);
        assert!(err.contains(said), "{err}");
        assert!(before == std::fs::read(out).unwrap());
    }
    std::fs::remove_file(&base).unwrap();
    std::fs::remove_file(&other).unwrap();
    for name in ["a.gguf", "b.gguf"] {
        std::fs::copy(fixture(), dir.path().join(name)).unwrap();
    }
    let err = refused(&["score", "--model", path(dir.path()), "--input", path(&rows)]);
    assert!(err.contains("3 GGUF files are in it"), "{err}");
}
