use super::*;

fn reader() -> Reader {
    Reader::default()
}

fn one(line: &str) -> Record {
    reader().read_str("a.jsonl", line).unwrap().examples.remove(0).record
}

fn user(content: &str) -> Message {
    Message::new(serde_json::json!({"role": "user", "content": content}).as_object().cloned().unwrap())
}

#[test]
fn plain_rows_keep_their_columns_in_order() {
    let text = "\u{feff}{\"z\": 1, \"prompt\": \"p\", \"a\": [1], \"score\": \"4.5\", \"id\": 7}\r\n\r\n{\"prompt\": \"q\", \"score\": 2}\r\n";
    let data = reader().read_str("a.jsonl", text).unwrap();
    assert_eq!(data.examples.len(), 2);
    let first = &data.examples[0];
    assert_eq!(first.row.fields.keys().collect::<Vec<_>>(), ["z", "prompt", "a", "score", "id"]);
    assert_eq!((first.row.id.as_str(), first.row.position.number(), first.record.score), ("7", 1, Some(4.5)));
    assert_eq!(first.record.prompt, Some(Prompt::Text("p".into())));
    assert_eq!((data.examples[1].row.id.as_str(), data.examples[1].row.location().as_str()), ("3", "a.jsonl:3"));
}

#[test]
fn every_layout_is_recognised() {
    let grading =
        one(r#"{"instruction":"i","response":"","reference_answer":"r","rubric":"","feedback":"because","score":[3,"4",5]}"#);
    let parts = grading.grading.unwrap();
    assert_eq!((parts.response.as_str(), parts.reference.as_deref(), parts.rubric), ("", Some("r"), None));
    assert_eq!((grading.chain.as_deref(), grading.score), (Some("because"), Some(4.0)));

    let chat = one(r#"{"messages":[{"role":"user","content":"u"},{"role":"assistant","content":"a"}],"score":1}"#);
    assert_eq!(chat.prompt, Some(Prompt::Messages(vec![user("u")])));
    assert_eq!(chat.chain.as_deref(), Some("a"));

    let trl = one(r#"{"prompt":[{"role":"user","content":"u"}],"completion":[{"role":"assistant","content":"c"}],"score":1}"#);
    assert_eq!(trl.chain.as_deref(), Some("c"));

    let own = one(r#"{"sentence1":"s","sentence2":"t","score":1,"chain":" "}"#);
    assert_eq!((own.prompt, own.grading, own.chain), (None, None, None));
}

#[test]
fn columns_can_be_named_and_labels_optional() {
    let columns = ColumnOptions { label_column: "gold".into(), chain_column: Some("why".into()), ..ColumnOptions::default() };
    let reader = Reader { columns, ..Reader::default() };
    let data = reader.read_str("x", r#"{"prompt":"p","score":"high","gold":2,"why":"w","feedback":"f"}"#).unwrap();
    assert_eq!((data.examples[0].record.score, data.examples[0].record.chain.as_deref()), (Some(2.0), Some("w")));

    let scoring = Reader { columns: ColumnOptions::for_scoring(), ..Reader::default() };
    let data = scoring
        .read_str("x", "{\"prompt\":\"p\",\"score\":null,\"chain\":\"a\",\"feedback\":\"b\"}\n{\"prompt\":\"q\"}")
        .unwrap();
    assert!(data.examples.iter().all(|e| e.record.score.is_none() && e.record.chain.is_none()));
}

#[test]
fn rows_of_an_array_report_their_lines() {
    let text = "\n[\n {\"prompt\": \"a\",\n  \"score\": 1},\n\n {\"prompt\": \"b\", \"score\": 2}\n]\n";
    let data = reader().read_str("a.json", text).unwrap();
    assert_eq!(data.examples.iter().map(|e| e.row.position.number()).collect::<Vec<_>>(), [3, 6]);
    let limited = Reader { limit: Some(1), ..Reader::default() };
    assert_eq!(limited.read_str("a.json", text).unwrap().examples.len(), 1);
}

#[test]
fn skip_bad_collects_bad_rows_with_their_errors() {
    let reader = Reader { skip_bad: true, ..Reader::default() };
    let data = reader.read_str("a", "{\"prompt\":\"p\",\"score\":1}\nnot json\n[1]\n{\"prompt\":\"p\",\"score\":null}").unwrap();
    assert_eq!((data.examples.len(), data.bad.len()), (1, 3));
    assert!(data.bad[2].to_string().starts_with("a:4: field `score`: null"), "{}", data.bad[2]);
    let all_bad = reader.read_str("a", "x\ny").unwrap_err().to_string();
    assert!(all_bad.contains("all 2 rows are bad") && all_bad.contains("a:1"), "{all_bad}");
}

#[test]
fn every_malformed_text_gets_its_message() {
    let ok = r#"{"prompt":"p","score":1}"#;
    let cases: &[(&str, &str)] = &[
        ("", "f: no rows in it; give one JSON object per line, a JSON array, or CSV with a header"),
        ("\u{feff}<!DOCTYPE html>\n<html>", "f: a web page (HTML or XML), not rows; download the file itself"),
        ("version https://git-lfs.github.com/spec/v1\noid", "f: a Git LFS pointer, not the rows themselves"),
        (" \r\n\n", "f: no rows in it"),
        ("[]", "f: no rows in it"),
        ("{\"prompt\":\"p\",\"score\":NaN}", "f:1: not JSON (expected value at column"),
        ("{\"prompt\":\"p\",\"score\":NaN}", "JSON has no NaN or Infinity"),
        ("{\n \"prompt\": 1\n}", "f:1: not JSON (EOF while parsing an object"),
        ("{\n \"prompt\": 1\n}", "an object must stand on one line"),
        ("7", "f:1: the number 7; a row must be a JSON object"),
        ("\"text\"", "f:1: the text \"text\"; a row must be a JSON object"),
        ("[1, 2]", "f:1: the number 1; a row must be a JSON object"),
        ("[{\"prompt\":\"p\",\"score\":1}", "f:1: the array is not closed"),
        ("[{\"prompt\":\"p\",\"score\":1},", "f:1: the array is not closed"),
        ("[{\"prompt\":\"p\",\"score\":1}\n {}]", "f:2: no comma between two rows"),
        ("[{\"prompt\":\"p\",\"score\":1}]\n[]", "f:2: something follows the JSON array"),
        ("[\n{\"prompt\":\"p\",\"score\":}]", "f:2: not JSON (expected value"),
        (
            "{\"prompt\":\"p\"}",
            "f:1: field `score`: no such column; name the label's column with --label-column; the row has `prompt`",
        ),
        ("{}", "the row has no column at all"),
        ("{\"prompt\":\"p\",\"score\":null}", "f:1: field `score`: null"),
        ("{\"prompt\":\"p\",\"score\":\"good\"}", "f:1: field `score`: the text \"good\"; make it a finite number"),
        ("{\"prompt\":\"p\",\"score\":\"nan\"}", "the text \"nan\"; make it a finite number"),
        ("{\"prompt\":\"p\",\"score\":1e999}", "f:1: not JSON (number out of range"),
        ("{\"prompt\":\"p\",\"score\":true}", "the truth value true; make it a finite number"),
        ("{\"prompt\":\"p\",\"score\":[]}", "the list []; make it a finite number"),
        ("{\"prompt\":\"p\",\"score\":\" \"}", "f:1: field `score`: an empty text; name the label's column"),
        ("{\"prompt\":\"p\",\"reward_model\":{\"ground_truth\":\"x\"}}", "field `reward_model.ground_truth`: the text \"x\""),
        ("{\"prompt\":\"p\",\"orig_score\":\"best\"}", "field `orig_score`: the text \"best\"; make it a finite number"),
        (
            "{\"instruction\":\"i\",\"orig_instruction\":\"o\",\"output\":\"f [RESULT] 3\",\"orig_score\":\"4\"}",
            "field `output`: it ends in the score 3, and `orig_score` is 4; correct one of the two",
        ),
        ("{\"prompt\":\"p\",\"score\":[1,\"x\"]}", "the text \"x\"; make it a finite number"),
        ("{\"prompt\":\"\",\"score\":1}", "field `prompt`: an empty text"),
        ("{\"prompt\":5,\"score\":1}", "field `prompt`: the number 5; make it a list of"),
        ("{\"prompt\":[],\"score\":1}", "field `prompt`: an empty list"),
        ("{\"prompt\":[{\"role\":\"user\"}],\"score\":1}", "field `prompt`: `content` of message 1 is nothing; make it a text"),
        ("{\"messages\":[\"hi\"],\"score\":1}", "field `messages`: `role` of message 1 is nothing"),
        (
            "{\"messages\":[{\"role\":\"user\",\"content\":[1]}],\"score\":1}",
            "`content` of message 1 is the list [1]; make it a text",
        ),
        ("{\"messages\":[{\"role\":\"assistant\",\"content\":\"a\"}],\"score\":1}", "no message before the assistant's"),
        ("{\"prompt\":\"p\",\"messages\":[],\"score\":1}", "field `messages`: the row has a `prompt` too"),
        ("{\"instruction\":\"i\",\"response\":3,\"score\":1}", "field `response`: the number 3; make it a text"),
        ("{\"instruction\":\" \",\"response\":\"r\",\"score\":1}", "field `instruction`: an empty text"),
        ("{\"instruction\":\"i\",\"response\":\"r\",\"rubric\":{},\"score\":1}", "field `rubric`: the object {}; make it a text"),
        (
            "{\"prompt\":\"p\",\"chain\":\"a\",\"feedback\":\"b\",\"score\":1}",
            "`feedback` could be the chain of thought too; say which with --chain-column",
        ),
        ("{\"prompt\":\"p\",\"chain\":4,\"score\":1}", "field `chain`: the number 4; make it a text"),
    ];
    for (text, message) in cases {
        let error = reader().read_str("f", text).unwrap_err().to_string();
        assert!(error.contains(message), "{text:?}\n   gave {error}\nexpected {message}");
    }
    let named =
        Reader { columns: ColumnOptions { chain_column: Some("why".into()), ..ColumnOptions::default() }, ..Reader::default() };
    assert!(named.read_str("f", ok).unwrap_err().to_string().contains("field `why`: no such column"));
    let bytes = |bytes: &[u8]| reader().read_bytes("f", bytes).unwrap_err().to_string();
    assert_eq!(bytes(b"{}\n\xff{}"), "f:2: byte 3 (0xff) is no UTF-8; save the file as UTF-8");
    assert_eq!(bytes(b"\xff\xfe{\0"), "f: UTF-16 text; save it as UTF-8");
}

/// The columns of the record's parts, as `jurist data check` reports them.
fn columns(record: &Record) -> Vec<(&str, &str)> {
    record.layout.parts().collect()
}

/// Feedback Collection as published: `instruction` is the whole prompt, `output` the feedback and "[RESULT] n".
#[test]
fn feedback_collection_is_recognised() {
    let row = r#"{"instruction":"Whole prompt.","output":"Misses the point. [RESULT] 2","orig_instruction":"Say hi.",
        "orig_response":"Bye.","orig_reference_answer":"Hi.","orig_criteria":"[Is it polite?]","orig_score1_description":"Rude.",
        "orig_score5_description":"Polite.","orig_feedback":"Misses the point.","orig_score":"2"}"#
        .replace('\n', "");
    let record = one(&row);
    assert_eq!(record.prompt, Some(Prompt::Text("Whole prompt.".into())));
    let parts = record.grading.clone().unwrap();
    assert_eq!(
        (parts.instruction.as_str(), parts.response.as_str(), parts.reference.as_deref()),
        ("Say hi.", "Bye.", Some("Hi."))
    );
    assert_eq!(parts.rubric.as_deref(), Some("[Is it polite?]\nScore 1: Rude.\nScore 5: Polite."));
    assert_eq!((record.chain.as_deref(), record.score, record.annotations()), (Some("Misses the point."), Some(2.0), &[2.0][..]));
    assert_eq!(columns(&record)[5..], [("chain", "orig_feedback"), ("label", "orig_score")]);

    // The variant for regression-aware training, with only the prompt and the answer.
    for end in ["So the overall score is 4.", "So the overall score is **4**", "[RESULT] 4"] {
        let record = one(&serde_json::json!({"instruction": "Whole.", "output": format!("Good.\n{end}")}).to_string());
        assert_eq!(columns(&record), [("prompt", "instruction"), ("chain", "output"), ("label", "output")]);
        assert_eq!((record.chain.as_deref(), record.score), (Some("Good."), Some(4.0)));
    }
    // An `output` without a score has another meaning.
    let other = Reader { columns: ColumnOptions { labels: Labels::Optional, ..ColumnOptions::default() }, ..Reader::default() };
    let data = other.read_str("f", r#"{"instruction":"Add.","output":"The answer is 4."}"#).unwrap();
    assert!(columns(&data.examples[0].record).is_empty());
}

/// Prometheus' evaluation files: three scores of one annotator model, three feedbacks, the prompt in sections.
#[test]
fn prometheus_evaluation_files_are_recognised() {
    let prompt = "###Task Description:\nJudge.\n\n###The instruction to evaluate:\nSay hi.\n\n###Response to evaluate:\nBye.\n\n\
                  ###Reference Answer (Score 5):\nHi.\n\n###Score Rubrics:\n[Polite?]\nScore 1: Rude.\n\n###Feedback: ";
    let row = serde_json::json!({"idx": 7, "instruction": prompt, "gpt4_score": [1, 3, 4], "gpt4_feedback": ["a", "b", "c"]});
    let record = one(&row.to_string());
    assert_eq!((record.score, record.annotations()), (Some(8.0 / 3.0), &[1.0, 3.0, 4.0][..]));
    assert_eq!(record.chain.as_deref(), Some("b"), "the feedback whose score is nearest to the mean");
    let parts = record.grading.clone().unwrap();
    assert_eq!((parts.instruction.as_str(), parts.response.as_str()), ("Say hi.", "Bye."));
    assert_eq!((parts.reference.as_deref(), parts.rubric.as_deref()), (Some("Hi."), Some("[Polite?]\nScore 1: Rude.")));
    assert_eq!(columns(&record)[5..], [("chain", "gpt4_feedback"), ("label", "gpt4_score"), ("annotators", "gpt4_score")]);
}

#[test]
fn annotators_are_read_beside_their_mean() {
    let rounded = one(r#"{"prompt":"p","score":2.67,"gpt4_scores":[3.0,2.0,3.0]}"#);
    assert_eq!((rounded.score, rounded.annotations()), (Some(2.67), &[3.0, 2.0, 3.0][..]));
    let listed = one(r#"{"prompt":"p","score":[3,"4"]}"#);
    assert_eq!((listed.score, listed.annotations()), (Some(3.5), &[3.0, 4.0][..]));
    // A label that is not the mean stands alone, and a list of words has another meaning.
    for row in [r#"{"prompt":"p","score":2,"scores":[5,5]}"#, r#"{"prompt":"p","score":2,"labels":["a","b"]}"#] {
        assert_eq!(one(row).annotations(), [2.0]);
    }
}

#[test]
fn rows_of_verl_and_trl_are_recognised() {
    let verl =
        one(r#"{"data_source":"d","prompt":[{"role":"user","content":"u"}],"reward_model":{"style":"rule","ground_truth":"4"}}"#);
    assert_eq!((verl.score, columns(&verl)), (Some(4.0), vec![("prompt", "prompt"), ("label", "reward_model.ground_truth")]));
    let number = one(r#"{"prompt":"p","reward_model":{"ground_truth":2.5}}"#);
    assert_eq!(number.score, Some(2.5));
    let columns = ColumnOptions { label_column: "extra.people".into(), ..ColumnOptions::default() };
    let named =
        Reader { columns, ..Reader::default() }.read_str("f", r#"{"prompt":"p","score":1,"extra":{"people":[2,3]}}"#).unwrap();
    assert_eq!(named.examples[0].record.score, Some(2.5));

    let chat = one(r#"{"messages":[{"role":"user","content":"u"},{"role":"assistant","content":"Good. [RESULT] 5"}]}"#);
    assert_eq!((chat.chain.as_deref(), chat.score), (Some("Good."), Some(5.0)));
    let completed = one(r#"{"prompt":"p","completion":"Good. So the overall score is 5."}"#);
    assert_eq!((completed.chain.as_deref(), completed.score), (Some("Good."), Some(5.0)));
}

#[test]
fn repeats_histograms_and_percentiles() {
    let row = |prompt: &str, score: f64| format!("{{\"prompt\":\"{prompt}\",\"score\":{score}}}\n");
    let text = [row("Say hi.", 1.0), row("Say hi.", 2.0), row("say  HI", 1.0), row("other", 4.0)].concat();
    let data = reader().read_str("a", &text).unwrap();
    let exactly = repeated(&data, false);
    assert_eq!((exactly.rows, exactly.other_label, exactly.first), (1, 1, Some(("a:1".into(), "a:2".into()))));
    assert_eq!(repeated(&data, true).rows, 2);
    let test = reader().read_str("b", &[row("new", 1.0), row("SAY hi", 1.0)].concat()).unwrap();
    assert_eq!((shared_with(&data, &test, false).rows, shared_with(&data, &test, true).rows), (0, 3));

    let alone = histogram(&[2.0, 1.0, 2.0]);
    assert_eq!(alone, [Bin { from: 1.0, to: 1.0, rows: 1 }, Bin { from: 2.0, to: 2.0, rows: 2 }]);
    let many: Vec<f64> = (0..100).map(f64::from).collect();
    assert_eq!(histogram(&many).iter().map(|bin| bin.rows).collect::<Vec<_>>(), [5; 20]);
    let lengths = percentiles((1..=200).collect()).unwrap();
    assert_eq!((lengths.min, lengths.p50, lengths.p90, lengths.p99, lengths.max), (1, 100, 180, 198, 200));
    assert_eq!(percentiles(Vec::new()), None);
}

#[cfg(not(target_arch = "wasm32"))]
#[test]
fn csv_rows_and_their_errors() {
    let dir = tempfile::tempdir().unwrap();
    let read = |reader: &Reader, name: &str, text: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        reader.read_path(&path)
    };
    let text = "\u{feff}prompt,score,note\r\n\"Say \"\"hi\"\",\nplease.\",4,\r\n\r\nq,2.5,x\r\n";
    let data = read(&reader(), "a.csv", text.as_bytes()).unwrap();
    assert_eq!((data.format.as_str(), data.examples.len()), ("CSV", 2));
    assert_eq!(data.examples[0].record.prompt, Some(Prompt::Text("Say \"hi\",\nplease.".into())));
    assert_eq!(
        data.examples.iter().map(|e| (e.row.position.number(), e.record.score)).collect::<Vec<_>>(),
        [(2, Some(4.0)), (5, Some(2.5))]
    );
    assert_eq!(data.examples[0].row.fields.keys().collect::<Vec<_>>(), ["prompt", "score", "note"]);
    let excel = read(&reader(), "b.csv", b"prompt;score\n\"a;b, c\";1\n").unwrap();
    assert_eq!((excel.format.as_str(), excel.examples[0].record.score), ("CSV with semicolons", Some(1.0)));
    // One column of a TSV may contain commas.
    let one = read(&reader(), "one.tsv", b"score\n\"[3, 4]\"\n").unwrap();
    assert_eq!((one.examples.len(), one.format.as_str()), (1, "CSV with tabs"));
    let tabs = read(&reader(), "c.tsv", b"prompt\tscore\nsay 5\" pipe\t\"[3, 4]\"\n").unwrap();
    assert_eq!(tabs.examples[0].record.annotations(), [3.0, 4.0]);
    let chat = r#"messages,score"#.to_string() + "\n\"[{\"\"role\"\":\"\"user\"\",\"\"content\"\":\"\"u\"\"}]\",3\n";
    let chat = read(&reader(), "d.csv", chat.as_bytes()).unwrap();
    assert!(matches!(&chat.examples[0].record.prompt, Some(Prompt::Messages(list)) if list[0].content() == "u"));

    let cases: &[(&[u8], &str)] = &[
        (b"", "no rows in it"),
        (b"prompt,score\n", "no rows in it; give one JSON object per line, a JSON array, or CSV with a header"),
        (b"prompt,score\np,1\nq,2,3\n", "f.csv:3: 3 cells, where the header names 2 columns; quote cells that hold"),
        (b"prompt,score\np\n", "f.csv:2: 1 cell, where the header names 2 columns"),
        (b"prompt,score\np,1\n\"q,2\nr,3\n", "f.csv:3: the row opens a quote that is never closed"),
        (b"prompt,score,score\np,1,2\n", "f.csv:1: the header names the column `score` twice"),
        (b"What is it?,4\nq,3\n", "f.csv:1: the header holds a number: it seems to be a row"),
        (b"prompt,score\np,high\n", "f.csv:2: field `score`: the text \"high\"; make it a finite number"),
        (b"prompt,score\np,nan\n", "f.csv:2: field `score`: the text \"nan\"; make it a finite number"),
        (b"prompt,score\np,\n", "f.csv:2: field `score`: an empty text"),
        (b"prompt,score\n\xfc,1\n", "f.csv:2: byte 13 (0xfc) is no UTF-8; save the file as UTF-8"),
        (b"<html><body>Not found", "f.csv: a web page (HTML or XML), not rows"),
    ];
    for (text, message) in cases {
        let error = read(&reader(), "f.csv", text).unwrap_err().to_string();
        assert!(error.contains(message), "{}\n   gave {error}\nexpected {message}", String::from_utf8_lossy(text));
    }
    let skipping = Reader { skip_bad: true, ..Reader::default() };
    let data = read(&skipping, "g.csv", b"prompt,score\np,1\nq\nr,x\ns,2\n").unwrap();
    assert_eq!((data.examples.len(), data.bad.len(), data.examples[1].row.position.number()), (2, 2, 5));
}

#[cfg(not(target_arch = "wasm32"))]
#[test]
fn folders_limits_and_shuffling() {
    let dir = tempfile::tempdir().unwrap();
    let rows =
        |from: usize, to: usize| (from..to).map(|n| format!("{{\"prompt\":\"p{n}\",\"score\":{n}}}\n")).collect::<String>();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    let labels = |reader: Reader| {
        let data = reader.read_path(dir.path()).unwrap();
        data.examples.iter().map(|e| e.record.score.unwrap() as usize).collect::<Vec<_>>()
    };
    let message = || reader().read_path(dir.path()).unwrap_err().to_string();
    assert!(message().contains("no data file in it; put .jsonl, .csv or .parquet files there"));
    write("train-0.jsonl", &rows(0, 4));
    write("train-1.csv", "prompt,score\np4,4\np5,5\n");
    write("info.json", "{}");
    assert_eq!(labels(reader()), [0, 1, 2, 3, 4, 5]);
    assert_eq!(reader().read_path(dir.path()).unwrap().format, "JSON Lines; CSV");
    assert_eq!(labels(Reader { limit: Some(5), ..reader() }), [0, 1, 2, 3, 4]);
    assert_eq!(labels(Reader { limit: Some(4), ..reader() }), [0, 1, 2, 3]);
    let shuffled = |seed, limit| labels(Reader { limit, shuffle_seed: Some(seed), ..reader() });
    let all = shuffled(1, None);
    assert!(all != [0, 1, 2, 3, 4, 5] && all != shuffled(2, None), "{all:?}");
    assert_eq!((shuffled(1, None), shuffled(1, Some(3))), (all.clone(), all[..3].to_vec()));
    write("test-0.jsonl", &rows(9, 10));
    assert!(message().contains("a folder with several parts of the data (test, train); name one file"), "{}", message());
}

#[cfg(not(target_arch = "wasm32"))]
#[test]
fn unsupported_formats_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let message = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        reader().read_path(&path).unwrap_err().to_string()
    };
    assert!(message("a.csv", b"PK\x03\x04....").contains("a zip archive or a spreadsheet; unpack it, or save the sheet as CSV"));
    assert!(message("a.arrow", b"ARROW1....").contains("an Arrow file; save it as Parquet or JSON Lines"));
    let parquet = message("a.parquet", b"PAR1 and no more");
    if cfg!(feature = "parquet") {
        assert!(parquet.contains("damaged Parquet file"), "{parquet}");
    } else {
        assert!(
            parquet.contains("which this jurist was built without; build it with `cargo install --path . --features parquet`")
        );
    }
}

#[cfg(not(target_arch = "wasm32"))]
#[test]
fn plain_and_packed_files_read_alike() {
    use std::io::Write;
    let dir = tempfile::tempdir().unwrap();
    let text = "{\"prompt\":\"p\",\"score\":1}\n";
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gz.write_all(text.as_bytes()).unwrap();
    let packed = gz.finish().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    // The output of `zstd` for the text: a frame with one uncompressed block and a checksum.
    let frame = [b"\x28\xb5\x2f\xfd\x04\x58\xc9\x00\x00", text.as_bytes(), b"\xdd\xdc\x27\xe0"].concat();
    // A skippable frame, as parallel packers write first.
    let note = b"\x50\x2a\x4d\x18\x04\x00\x00\x00note";
    for (name, bytes, rows, format) in [
        ("a.jsonl", text.as_bytes(), 1, "JSON Lines"),
        ("a.jsonl.gz", &packed, 1, "JSON Lines, gzip"),
        ("b.json.gz", &[&packed[..], &packed].concat(), 2, "JSON Lines, gzip"),
        ("a.jsonl.zst", &frame, 1, "JSON Lines, zstd"),
        ("misnamed.gz", &frame, 1, "JSON Lines, zstd"),
        ("b.jsonl.zst", &[note, &frame[..], note, &frame, note].concat(), 2, "JSON Lines, zstd"),
    ] {
        let data = reader().read_path(&write(name, bytes)).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!((data.examples.len(), data.format.as_str()), (rows, format), "{name}");
    }
    let message = |path: &std::path::Path| reader().read_path(path).unwrap_err().to_string();
    let mut flipped = frame.clone();
    flipped[30] ^= 1;
    let mut reserved = frame.clone();
    reserved[6] |= 0b110;
    let mut dictionary = frame.clone();
    dictionary.splice(4..6, [0x01, 0x58, 0x07]);
    for (name, bytes, found) in [
        ("cut.jsonl.gz", &packed[..packed.len() / 2], "damaged gzip archive ("),
        ("more.jsonl.gz", &[&packed[..], b"more"].concat(), "damaged gzip archive ("),
        ("cut.jsonl.zst", &frame[..frame.len() / 2], "damaged zstd archive (it ends too early); copy or download the file again"),
        ("no-checksum.jsonl.zst", &frame[..frame.len() - 4], "damaged zstd archive (it ends too early)"),
        ("flipped.jsonl.zst", &flipped, "damaged zstd archive (the checksum is another)"),
        ("more.jsonl.zst", &[&frame[..], b"more"].concat(), "damaged zstd archive (what should be a frame is none)"),
        ("reserved.jsonl.zst", &reserved, "damaged zstd archive (a block cannot be decoded)"),
        ("cut-note.jsonl.zst", &[&frame[..], &note[..10]].concat(), "damaged zstd archive (it ends too early)"),
        ("dictionary.jsonl.zst", &dictionary, "a zstd archive that needs a dictionary; unpack it first"),
        (
            "window.jsonl.zst",
            b"\x28\xb5\x2f\xfd\x00\xa0\x01\x00\x00",
            "a zstd archive with a window of 1024 MiB, more than 128 MiB",
        ),
    ] {
        let said = message(&write(name, bytes));
        assert!(said.contains(&format!("{name}: {found}")), "{name}: {said}");
    }
    assert!(message(&dir.path().join("none.jsonl")).contains("check the path"));
}
