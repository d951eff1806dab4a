//! `jurist data check`, and files that go straight in: CSV, a folder, real sets with their own columns, Parquet.

use std::path::{Path, PathBuf};

use crate::cli::{Task, finish, lines, skip, succeed};
use serde_json::Value;

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{text}: {e}"))
}

#[test]
fn what_data_check_tells() {
    let task = Task::new(12, 4, true);
    let done = succeed(task.jurist(&["data", "check", "train.jsonl", "--tokenizer", "words", "--phrase", "score"]));
    for part in [
        "train.jsonl: JSON Lines; 12 rows, 0 bad",
        "read: prompt from `prompt`, chain from `chain`, label from `score` (12 rows)",
        "other columns, which a custom template can read: id, quality, verdicts, labels, split",
        "label  rows   share",
        "(the RMSE of a judge that always says the mean)",
        "prompt      tokens    12",
        "rows that repeat an earlier one: 0",
        "train.jsonl:1 with the template plain:",
        "   pos      id  loss  token",
        "target of the score: ",
    ] {
        assert!(done.out.contains(part), "{part} is not in\n{}", done.out);
    }
    // The prompt is read, all behind it is learned.
    let marks = |part: &str| -> Vec<&str> {
        let rows = done.out.lines().filter(|line| line.ends_with(part) && line.split_whitespace().count() == 5);
        rows.map(|line| line.split_whitespace().nth(2).unwrap()).collect()
    };
    assert!(!marks(" prompt").is_empty() && marks(" prompt").iter().all(|mark| *mark == "-"), "{}", done.out);
    assert!(
        [" chain", " phrase", " score"].iter().all(|part| !marks(part).is_empty() && marks(part).iter().all(|m| *m == "yes"))
    );

    // Four rows of the training set, one in other letters, stand in the test set too.
    let rows: Vec<String> = task.read("train.jsonl").lines().take(4).map(str::to_string).collect();
    let first = parsed(&rows[0])["prompt"].as_str().unwrap().to_uppercase();
    task.write("test.jsonl", format!("{}\n{{\"prompt\": \"{first}\", \"score\": 3}}\n", rows[1..].join("\n")));
    let done = succeed(task.jurist(&["data", "check", "train.jsonl", "--against", "test.jsonl", "--json"]));
    let told = parsed(&done.out);
    assert_eq!(told["rows"], 12);
    assert_eq!(
        (&told["against"]["shared"]["exactly"]["rows"], &told["against"]["shared"]["loosely"]["rows"]),
        (&3.into(), &4.into())
    );
    assert_eq!(told["layouts"][0]["columns"]["label"], "score");
}

#[test]
fn bad_rows_are_counted_and_told() {
    let task = Task::new(3, 2, false);
    task.write("rows.csv", "prompt,score\nok,2\nok,2,3\nok,high\n");
    let done = finish(task.jurist(&["data", "check", "rows.csv"]));
    assert_eq!(done.code, Some(1));
    assert!(done.out.contains("rows.csv: CSV; 1 row, 2 bad"), "{}", done.out);
    assert!(done.out.contains("rows.csv:4: field `score`: the text \"high\""), "{}", done.out);
    assert!(done.err.ends_with("error: rows.csv: 2 bad rows\n"), "{}", done.err);
    succeed(task.jurist(&["data", "check", "rows.csv", "--skip-bad"]));
    task.write("high.jsonl", "{\"prompt\": \"ok\", \"score\": 2}\n{\"prompt\": \"high\", \"score\": 7}\n");
    let done = finish(task.jurist(&["data", "check", "high.jsonl"]));
    assert_eq!(done.code, Some(1));
    assert!(done.err.ends_with("error: high.jsonl: 1 label outside the scale\n"), "{}", done.err);
    succeed(task.jurist(&["data", "check", "high.jsonl", "--skip-bad"]));
    succeed(task.jurist(&["data", "check", "high.jsonl", "--scale", "1..7"]));
}

/// One judge, the same rows as JSON Lines, CSV and a folder of two files: the same scores.
#[test]
fn every_format_is_scored_alike() {
    let task = Task::new(8, 4, false);
    succeed(task.train("judge", &["--max-steps", "2", "--limit", "6", "--shuffle-seed", "3"]));
    let rows = lines(&task.read("dev.jsonl"));
    let cell = |value: &Value| format!("\"{}\"", value.as_str().map_or(value.to_string(), str::to_string).replace('"', "\"\""));
    let record = |row: &Value| format!("{},{}\n", cell(&row["prompt"]), cell(&row["labels"]));
    let csv: String = rows.iter().map(record).collect();
    task.write("dev.csv", format!("prompt,people\n{csv}"));
    std::fs::create_dir(task.at("folder")).unwrap();
    let line = |row: &Value| format!("{row}\n");
    task.write("folder/a.jsonl", rows[..1].iter().map(line).collect::<String>());
    task.write("folder/b.jsonl", rows[1..].iter().map(line).collect::<String>());
    let scores = |input: &str, more: &[&str]| -> Vec<Value> {
        let done = succeed(task.jurist(&[&["score", "--model", "judge", "--input", input], more].concat()));
        lines(&done.out).iter().map(|row| row["judge"]["expected"].clone()).collect()
    };
    let expected = scores("dev.jsonl", &[]);
    assert_eq!(scores("dev.csv", &["--label-column", "people"]), expected);
    assert_eq!(scores("folder", &[]), expected);
    assert_eq!(scores("folder", &["--limit", "3"]), expected[..3]);
    let eval = ["eval", "--model", "judge", "--input", "dev.csv", "--label-column", "people", "--json"];
    let told = parsed(&succeed(task.jurist(&eval)).out);
    assert_eq!(told["expected score"]["n"], rows.len());
}

/// A real set, in a folder beside the repository, if there is one.
fn real(name: &str) -> PathBuf {
    let shared = std::env::var("JURIST_SHARED").unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../shared").into());
    Path::new(&shared).join("data").join(name)
}

/// Real sets go straight in: their own columns, several annotators, values of their own scale, a template of one's own.
#[test]
fn real_sets_without_preprocessing() {
    let task = Task::new(4, 2, false);
    task.write("pairs.jinja", "{{ sentence1 }} / {{ sentence2 }}");
    let config = parsed(&task.read("config.json"));
    let mut long = config.clone();
    (long["max_position_embeddings"], long["vocab_size"]) = (8192.into(), 1000.into());
    task.write("long.json", long.to_string());
    let sets: [(&str, &[&str], usize, &str); 4] = [
        ("prometheus_vicuna_bench.jsonl.gz", &[], 320, "gpt4_scores"),
        ("prometheus_mt_bench.jsonl.gz", &[], 320, "gpt4_scores"),
        ("saf_english.jsonl.gz", &["--scale", "0..4=0,0.25,0.5,0.75,1"], 2112, ""),
        ("stsb_en.jsonl.gz", &["--scale", "0..5", "--template", "pairs.jinja"], 8628, ""),
    ];
    if let Some(missing) = sets.iter().map(|(name, ..)| real(name)).find(|path| !path.exists()) {
        return skip(format!("there is no {}", missing.display()));
    }
    for (name, judging, rows, annotators) in sets {
        let path = real(name);
        let file = crate::cli::path(&path);
        let done = succeed(task.jurist(&[&["data", "check", file, "--json"], judging].concat()));
        let told = parsed(&done.out);
        assert_eq!((&told["rows"], &told["labels"]["off_scale"]), (&rows.into(), &0.into()), "{name}");
        assert!(told["row"]["error"].is_null(), "{name}: {}", told["row"]);
        assert_eq!(told["layouts"][0]["columns"]["annotators"].as_str().unwrap_or_default(), annotators, "{name}");

        let out = name.split('.').next().unwrap();
        let train = ["train", "--init", "long.json", "--vocab-size", "1000", "--train-file", file, "--output-dir", out];
        let more = ["--max-steps", "1", "--limit", "32", "--max-length", "8192", "--chain-column", "none"];
        succeed(task.jurist(&[&train[..], &more, &["--per-device-train-batch-size", "1"], judging].concat()));
        let part = ["--limit", "5", "--shuffle-seed", "1"];
        let done = succeed(task.jurist(&[&["score", "--model", out, "--input", file], &part[..]].concat()));
        assert!(lines(&done.out).len() == 5 && lines(&done.out).iter().all(|row| row["judge"]["expected"].is_f64()), "{name}");
        let done = succeed(task.jurist(&[&["eval", "--model", out, "--input", file, "--json"], &part[..]].concat()));
        assert_eq!(parsed(&done.out)["expected score"]["n"], 5, "{name}");
    }
}

#[test]
#[cfg_attr(feature = "parquet", ignore = "this build reads Parquet")]
fn parquet_is_refused_by_a_build_that_cannot_read_it() {
    let task = Task::new(2, 2, false);
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/data/verl.parquet");
    let done = finish(task.jurist(&["data", "check", crate::cli::path(&file), "--json"]));
    let says = "verl.parquet: a Parquet file, which this jurist was built without; build it with";
    assert!(done.code == Some(1) && done.err.contains(says), "{}", done.err);
}

/// verl's rows, written by pyarrow 26: lists of structs, a struct with nulls, two row groups, zstd; and messages in snappy.
#[test]
#[cfg_attr(not(feature = "parquet"), ignore = "needs --features parquet: make parquet")]
fn parquet() {
    let file = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/data").join(name);
    let task = Task::new(2, 2, false);
    let verl = file("verl.parquet");
    let done = finish(task.jurist(&["data", "check", crate::cli::path(&verl), "--json"]));
    assert_eq!(done.code, Some(0), "{}", done.err);
    let told = parsed(&done.out);
    assert_eq!((&told["format"], &told["rows"]), (&"Parquet".into(), &3.into()));
    let bytes = std::fs::read(&verl).unwrap();
    task.write("cut.parquet", &bytes[..bytes.len() / 2]);
    let cut = finish(task.jurist(&["data", "check", "cut.parquet"]));
    assert!(cut.code == Some(1) && cut.err.contains("cut.parquet: damaged Parquet file"), "{}", cut.err);
    let columns = serde_json::json!({"prompt": "prompt", "label": "reward_model.ground_truth"});
    assert_eq!(told["layouts"][0]["columns"], columns);

    let reader = |name: &str| jurist::data::Reader::default().read_path(&file(name)).unwrap().examples;
    let verl = reader("verl.parquet");
    assert_eq!(verl.iter().map(|e| e.record.score.unwrap()).collect::<Vec<_>>(), [5.0, 4.0, 1.0]);
    let Some(jurist::data::Prompt::Messages(messages)) = &verl[1].record.prompt else { panic!("{:?}", verl[1].record) };
    assert_eq!((messages.len(), messages[0].content()), (1, "Name a colour.\nBlü"));
    assert_eq!(verl[1].row.fields["extra_info"], serde_json::json!({"split": "train", "index": 1, "weight": 0.5}));
    assert_eq!(verl.iter().map(|e| e.row.fields["noise"].to_string()).collect::<Vec<_>>(), ["2.7", "\"NaN\"", "null"]);
    assert!(verl[2].row.location().ends_with("verl.parquet, row 3"), "{}", verl[2].row.location());

    let chat = reader("chat.parquet");
    assert_eq!(chat[0].record.chain.as_deref(), Some("Fine."));
    assert_eq!(chat[1].record.annotations(), [2.0, 1.0, 2.0]);
}
