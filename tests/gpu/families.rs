//! Gemma 3 and SmolLM3 through the program: small GGUF files are trained, scored and exported.

use std::path::Path;

use tempfile::tempdir;

use crate::cli::*;

const ROWS: &str = "{\"prompt\": \"the cat\", \"score\": 5}\n{\"prompt\": \" the cat  in 2\", \"score\": 1}\n";
const FAMILIES: [&str; 2] = ["gemma3", "smollm3"];

fn fixture(family: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/gguf/{family}.gguf")).display().to_string()
}

fn expected(model: &str, rows: &Path) -> Vec<f64> {
    let scored = succeed(jurist(&["score", "--model", model, "--input", path(rows)]));
    lines(&scored.out).iter().map(|row| row["judge"]["expected"].as_f64().unwrap()).collect()
}

/// A step of REAL with an adapter and one of all weights, each after a plan of its memory; then the judge as a bundle and as a
/// GGUF file.
#[test]
fn a_small_judge_of_each_family() {
    for family in FAMILIES {
        let dir = tempdir().unwrap();
        let rows = write(dir.path().join("rows.jsonl"), ROWS);
        let at = |name: &str| dir.path().join(name);
        let start = fixture(family);
        let flags = ["--method", "real", "--max-steps", "2", "--learning-rate", "0.05", "--chat", "never"];
        let sizes = ["--num-generations", "2", "--max-completion-length", "3"];
        for (name, adapter) in [("adapted", &["--lora-r", "2"][..]), ("whole", &[])] {
            let judge = at(name);
            let mut args =
                vec!["train", "--model-name-or-path", &start, "--train-file", path(&rows), "--output-dir", path(&judge)];
            args.extend(flags);
            args.extend(sizes);
            args.extend(adapter);
            let plan = succeed(jurist(&[&args[..], &["--dry-run"]].concat()));
            assert!(plan.out.contains("GiB") || plan.out.contains("MiB"), "{}", plan.out);
            succeed(jurist(&args));
            let before = expected(path(&judge), &rows);
            for (out, format, weights, allowed) in [("judge.gguf", "gguf", "f16", 2e-3), ("bundle", "bundle", "f32", 1e-5)] {
                let out = at(&format!("{name}-{out}"));
                succeed(jurist(&["export", path(&judge), "--out", path(&out), "--format", format, "--weights", weights]));
                for (a, b) in before.iter().zip(expected(path(&out), &rows)) {
                    assert!((a - b).abs() < allowed, "{family}, {name} as {format}: {a} and {b}");
                }
            }
        }
    }
}
