//! Bundles: what goes in comes out, in files and as a stream, and whatever is wrong with one is said before a number of it is
//! used.

use std::path::Path;

use crate::cli::{Task, finish, lines, succeed, tiny_config};
use jurist::bundle::{ArrayPart, BundleInput, Contents, EntryFormat, Label, Manifest, ShardReader, export, sha256_hex};
use jurist::model::config::Config;
use jurist::model::error::ModelError;
use jurist::model::init::Init;
use jurist::model::names::tensors;
use jurist::model::quantised::ColumnSquares;
use jurist::model::source::TensorSource;
use jurist::model_folder::ModelFolder;
use jurist::ops::weight_dtype::WeightDtype;
use jurist::text::Tokenizer;
use serde_json::{Value, json};

/// Small enough to cut the embedding of the tiny model into parts.
const SMALL_SHARDS: u64 = 4000;

fn model() -> Init {
    Init::new(Config::from_json(&tiny_config().to_string()).unwrap(), 3)
}

/// A bundle of a model with random weights.
fn bundle(dir: &Path, weights: WeightDtype, shard_bytes: u64) -> Manifest {
    let task = Task::new(1, 1, false);
    let tokenizer = Tokenizer::from_dir(&task.at("words")).unwrap();
    let judge = json!({"format": 1, "scale": "1..5", "phrase": "score", "template": "plain", "chat": false, "chain": true, "max_completion_length": 20});
    let examples = vec![json!({"prompt": "rubric", "z": 1, "a": 2})];
    let model = model();
    let bundle = BundleInput {
        label: &Label { name: "tiny".into(), description: None, examples },
        weights,
        model: &model,
        adapter: None,
        squares: &ColumnSquares::default(),
        tokenizer: &tokenizer,
        judge,
    };
    export(dir, &bundle, shard_bytes).unwrap()
}

fn values(source: &dyn TensorSource, name: &str, len: usize) -> Vec<f32> {
    let mut out = vec![0.0; len];
    source.read(name, 0, &mut out).unwrap();
    out
}

/// Every number of the model comes back: exactly as f32, and within half a unit in the last place of the smaller formats
/// (11 significant bits for f16, whose smallest step is 2^-24; 8 for bf16). Norms are exact in all of them.
#[test]
fn weights_come_back_as_they_went_in() {
    let original = model();
    for (format, relative, absolute) in [
        (WeightDtype::F32, 0.0, 0.0),
        (WeightDtype::F16, 2f32.powi(-11), 2f32.powi(-25)),
        (WeightDtype::Bf16, 2f32.powi(-8), 0.0),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let written = bundle(dir.path(), format, SMALL_SHARDS);
        let folder = ModelFolder::open(dir.path()).unwrap();
        assert_eq!(folder.manifest(), Some(&written));
        let stored = folder.weights().unwrap();
        let source = stored.source;
        assert_eq!(stored.dtype, format.float());
        for spec in tensors(original.config()) {
            let (before, after) = (values(&original, &spec.name, spec.len()), values(source.as_ref(), &spec.name, spec.len()));
            let exact = spec.shape.len() == 1;
            for (x, y) in before.iter().zip(&after) {
                let allowed = if exact { 0.0 } else { relative * x.abs() + absolute };
                assert!((x - y).abs() <= allowed, "{format:?} {}: {x} came back as {y}", spec.name);
            }
        }
        // Pieces that begin and end anywhere, across the places where the embedding was cut.
        let whole = values(source.as_ref(), "model.embed_tokens.weight", 97 * 16);
        for (start, len) in [(0, 1), (5, 1000), (900, 652), (1551, 1)] {
            let mut piece = vec![0.0; len];
            source.read("model.embed_tokens.weight", start, &mut piece).unwrap();
            assert_eq!(piece, whole[start..start + len]);
        }
    }
}

/// No shard is larger than asked for, a matrix that is gets cut by rows, and each shard is an ordinary safetensors file.
#[test]
fn shards_are_small_and_plain() {
    let dir = tempfile::tempdir().unwrap();
    let manifest = bundle(dir.path(), WeightDtype::F32, SMALL_SHARDS);
    let mut embedding_rows = Vec::new();
    for entry in &manifest.shards {
        let bytes = std::fs::read(dir.path().join(&entry.file)).unwrap();
        assert!(bytes.len() as u64 <= SMALL_SHARDS, "{} has {} bytes", entry.file, bytes.len());
        assert_eq!((bytes.len() as u64, sha256_hex(&bytes)), (entry.bytes, entry.sha256.clone()));
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        embedding_rows.extend(file.tensor("model.embed_tokens.weight").ok().map(|t| t.shape()[0]));
    }
    assert!(embedding_rows.len() > 1 && embedding_rows.iter().sum::<usize>() == 97, "{embedding_rows:?}");
    // Columns of an example stay in their order.
    assert_eq!(manifest.examples[0].to_string(), r#"{"prompt":"rubric","z":1,"a":2}"#);

    let one = bundle(dir.path(), WeightDtype::F16, jurist::bundle::SHARD_BYTES);
    assert_eq!(one.shards.len(), 1, "a small model is one shard, and the earlier bundle is gone");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 3);
}

/// The stream that the browser reads is cut anywhere; the numbers are those of the files.
#[test]
fn a_stream_in_any_pieces_is_the_same_model() {
    let dir = tempfile::tempdir().unwrap();
    let manifest = bundle(dir.path(), WeightDtype::F16, SMALL_SHARDS);
    let folder = ModelFolder::open(dir.path()).unwrap();
    let source = folder.weights().unwrap().source;
    let config = manifest.model().unwrap();
    for size in [1, 3, 7, 1000, 1 << 20] {
        let mut contents = Contents::new(&config, WeightDtype::F16);
        let mut seen: std::collections::HashMap<String, Vec<f32>> = Default::default();
        for entry in &manifest.shards {
            let bytes = std::fs::read(dir.path().join(&entry.file)).unwrap();
            let mut reader = ShardReader::new(&entry.file, entry.bytes);
            let mut part: Option<ArrayPart> = None;
            for piece in bytes.chunks(size) {
                reader
                    .push(piece, |piece| {
                        if piece.start == 0 {
                            part = Some(contents.add(&entry.file, piece.tensor, piece.shape, piece.dtype)?);
                        }
                        let part = part.as_ref().unwrap();
                        let EntryFormat::Values(dtype) = part.entries else { panic!("f16 is not quantised") };
                        let whole = piece.shape.iter().product::<usize>() * dtype.bytes();
                        assert!(whole % 4 != 0 || piece.bytes.len().is_multiple_of(4), "{}: a word is cut", piece.tensor);
                        let seen = seen.entry(piece.tensor.into()).or_default();
                        assert_eq!(seen.len(), part.start + piece.start);
                        let mut values = vec![0.0; piece.bytes.len() / dtype.bytes()];
                        dtype.widen(piece.bytes, &mut values);
                        seen.extend(values);
                        Ok::<_, ModelError>(())
                    })
                    .unwrap();
            }
            reader.finish().unwrap();
        }
        contents.finish().unwrap();
        for spec in tensors(&config) {
            assert_eq!(seen[&spec.name], values(source.as_ref(), &spec.name, spec.len()), "{size} {}", spec.name);
        }
    }
}

/// Reads a whole shard in pieces of 100 bytes.
fn stream(bytes: &[u8], length: u64) -> Result<(), ModelError> {
    let mut reader = ShardReader::new("s", length);
    bytes.chunks(100).try_for_each(|piece| reader.push(piece, |_| Ok::<_, ModelError>(())))?;
    reader.finish()
}

#[track_caller]
fn says<T>(result: Result<T, impl std::fmt::Display>, needles: &[&str]) {
    let Err(error) = result else { panic!("nothing was refused; expected {needles:?}") };
    let message = error.to_string();
    assert!(needles.iter().all(|n| message.contains(n)), "{message:?} should say {needles:?}");
}

#[test]
fn broken_streams_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let manifest = bundle(dir.path(), WeightDtype::F32, SMALL_SHARDS);
    let good = std::fs::read(dir.path().join(&manifest.shards[0].file)).unwrap();
    let length = good.len() as u64;
    let header = 8 + u64::from_le_bytes(*good.first_chunk().unwrap()) as usize;
    stream(&good, length).unwrap();
    says(stream(&good[..good.len() - 1], length), &["only", "bytes came"]);
    says(stream(&good[..header], length), &["only"]);
    says(stream(&good[..5], length), &["only 5"]);
    says(stream(&[&good[..], b"x"].concat(), length), &["more than"]);
    says(stream(&[&good[..], b"x"].concat(), length + 1), &["follow it"]);
    says(stream(b"<!doctype html><title>404</title>", length), &["web page"]);
    says(stream(&[&u64::MAX.to_le_bytes()[..], &good[8..]].concat(), length), &["header"]);
    says(stream(&[&good[..8], b"not json", &good[16..]].concat(), length), &["no JSON"]);
    let altered = |from: &str, to: &str| {
        let text = String::from_utf8(good[8..header].to_vec()).unwrap();
        assert!(text.contains(from), "{text}");
        let mut text = text.replacen(from, to, 1).trim_end().to_string();
        while !(text.len()).is_multiple_of(8) {
            text.push(' ');
        }
        let bytes = [&(text.len() as u64).to_le_bytes()[..], text.as_bytes(), &good[header..]].concat();
        stream(&bytes, bytes.len() as u64)
    };
    altered(r#"{"format":"pt"}"#, r#"{"format":"xx"}"#).unwrap();
    says(altered(r#""dtype":"F32""#, r#""dtype":"F16""#), &["do not fit its shape"]);
    says(altered(r#""dtype":"F32""#, r#""dtype":"Q9""#), &["not read"]);
    says(altered(",16]", ",18446744073709551615]"), &["do not fit its shape"]);
    says(altered("[0,", "[4,"), &["leave a gap"]);
}

/// A file that is not the one that the manifest means is found before anything is read from it.
#[test]
fn damaged_files_are_refused() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("b");
    let fresh = || bundle(&dir, WeightDtype::F32, SMALL_SHARDS);
    let open = || ModelFolder::open(&dir).unwrap().weights().map(|_| ());
    let manifest = fresh();
    open().unwrap();
    let shard = dir.join(&manifest.shards[1].file);
    let bytes = std::fs::read(&shard).unwrap();

    std::fs::write(&shard, &bytes[..bytes.len() - 4]).unwrap();
    says(open(), &["weights-00002", "manifest.json says", "download or copy it again"]);
    let mut flipped = bytes.clone();
    *flipped.last_mut().unwrap() ^= 1;
    std::fs::write(&shard, &flipped).unwrap();
    says(open(), &["weights-00002", "SHA-256"]);
    std::fs::remove_file(&shard).unwrap();
    says(open(), &["weights-00002", "open"]);

    fresh();
    std::fs::write(dir.join("tokenizer.json"), "{}").unwrap();
    says(ModelFolder::open(&dir).unwrap().tokenizer().map(|_| ()), &["tokenizer.json", "2 bytes"]);
}

/// Shards whose hashes are right, and which are still not the model.
#[test]
fn shards_of_another_model_are_refused() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("b");
    let manifest = bundle(&dir, WeightDtype::F32, SMALL_SHARDS);
    let with = |change: &dyn Fn(&mut Value)| {
        let mut value: Value = serde_json::from_str(&manifest.to_json()).unwrap();
        change(&mut value);
        std::fs::write(dir.join("manifest.json"), value.to_string()).unwrap();
        ModelFolder::open(&dir).and_then(|folder| folder.weights().map(|_| ()))
    };
    with(&|_| {}).unwrap();
    says(with(&|m| drop(m["shards"].as_array_mut().unwrap().pop())), &["missing", "`model.norm.weight`"]);
    says(with(&|m| drop(m["shards"].as_array_mut().unwrap().remove(0))), &["missing", "embed_tokens", "some of their rows"]);
    says(with(&|m| m["weights"] = "bf16".into()), &["stored as F32", "bf16"]);
    says(
        with(&|m| {
            m["config"]["intermediate_size"] = 20.into();
            m["parameters"] = (manifest.parameters - 2 * 3 * 4 * 16).into();
        }),
        &["shape"],
    );
    says(
        with(&|m| {
            let twice = m["shards"][0].clone();
            m["shards"].as_array_mut().unwrap().push(twice);
        }),
        &["twice"],
    );
}

#[test]
fn manifests_that_cannot_be_used_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let good: Value = serde_json::from_str(&bundle(dir.path(), WeightDtype::F16, SMALL_SHARDS).to_json()).unwrap();
    Manifest::parse(&good.to_string()).unwrap();
    says(Manifest::parse("<html>"), &["manifest.json", "web page"]);
    says(Manifest::parse("{"), &["manifest.json", "JSON"]);
    type Change = fn(&mut Value);
    let cases: &[(Change, &[&str])] = &[
        (|m| m["format"] = "other".into(), &["`format`", "jurist-bundle"]),
        (|m| m["version"] = 3.into(), &["`version`", "newer jurist"]),
        (|m| m["weights"] = "q5".into(), &["q5", "f32, f16, bf16, q8, q4"]),
        (|m| m["weights"] = "int3".into(), &["int3", "f32, f16, bf16"]),
        (|m| m["parameters"] = 5.into(), &["`parameters`", "found 5"]),
        (|m| m["config"]["hidden_act"] = "gelu".into(), &["config", "hidden_act"]),
        (|m| m["shards"] = json!([]), &["`shards`", "at least one"]),
        (|m| m["shards"][0]["file"] = "../weights".into(), &["plain file name", "../weights"]),
        (|m| m["shards"][0]["file"] = "https://x".into(), &["plain file name"]),
        (|m| m["shards"][0]["file"] = "manifest.json".into(), &["plain file name"]),
        (|m| m["shards"][0]["sha256"] = "ABC".into(), &["hexadecimal", "ABC"]),
        (|m| m["shards"][0]["bytes"] = json!(-1), &["JSON"]),
        (|m| m["tokenizer"] = Value::Null, &["JSON"]),
        (|m| m["examples"] = Value::Array(vec![json!({}); 33]), &["`examples`", "32"]),
    ];
    for (change, needles) in cases {
        let mut manifest = good.clone();
        change(&mut manifest);
        says(Manifest::parse(&manifest.to_string()), needles);
    }
}

/// From training to a bundle and back, on the command line: a bundle of f32 judges as the folder does, and training goes
/// on from one.
#[test]
fn a_bundle_is_a_model_folder() {
    let task = Task::new(24, 6, true);
    succeed(task.train("judge", &["--max-steps", "3", "--per-device-train-batch-size", "8"]));
    let said = succeed(task.jurist(&["export", "judge", "--out", "bundle", "--weights", "f32", "--examples", "dev.jsonl"]));
    assert!(said.out.contains("as f32, 1 shard,"), "{}", said.out);
    let manifest = Manifest::parse(&task.read("bundle/manifest.json")).unwrap();
    assert_eq!((manifest.name.as_str(), manifest.examples.len()), ("judge", 6));

    let score = |model: &str, more: &[&str]| {
        let done = succeed(task.jurist(&[&["score", "--model", model, "--input", "dev.jsonl", "-q"], more].concat()));
        lines(&done.out).into_iter().map(|row| row["judge"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(score("judge", &[]), score("bundle", &[]));
    // The rows' own chains are read, and come back as the feedback.
    let given = score("bundle", &["--given-chains"]);
    let rows = lines(&task.read("dev.jsonl"));
    assert!(rows.iter().zip(&given).all(|(row, judge)| row["chain"] == judge["feedback"]), "{given:?}");
    assert_eq!(given, score("judge", &["--given-chains"]));

    let more = ["train", "--model-name-or-path", "bundle", "--train-file", "train.jsonl", "--output-dir", "more"];
    succeed(task.jurist(&[&more[..], &["--phrase", "score", "--max-steps", "1"]].concat()));
    assert!(task.at("more/judge.json").is_file());
    // A bundle may be exported again, in another format.
    let said = succeed(task.jurist(&["export", "bundle", "--out", "half", "--weights", "bf16"]));
    assert!(said.out.contains("as bf16"), "{}", said.out);
}

#[test]
fn what_cannot_be_exported_is_said() {
    let task = Task::new(2, 1, false);
    let refused = |args: &[&str], code: i32, needle: &str| {
        let done = finish(task.jurist(&[&["export"], args].concat()));
        assert!(done.code == Some(code) && done.err.contains(needle), "{args:?}: {done:?}");
    };
    refused(&["words", "--out", "b"], 1, "expected a Hugging Face folder");
    refused(&["words", "--out", "b", "--weights", "q5"], 2, "f32, f16, bf16, q8, q4");
    succeed(task.train("judge", &["--max-steps", "1"]));
    refused(&["judge", "--out", "words"], 1, "no manifest.json of a bundle, so the folder is not replaced");
    std::fs::remove_file(task.at("judge/judge.json")).unwrap();
    refused(&["judge", "--out", "b"], 1, "no judge.json");
    assert!(!task.at("b").exists());
}
