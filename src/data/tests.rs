use super::*;

fn reader() -> Reader {
    Reader::default()
}

fn one(line: &str) -> Record {
    reader().read_str("a.jsonl", line).unwrap().examples.remove(0).record
}

#[test]
fn plain_rows_keep_their_columns_in_order() {
    let text = "\u{feff}{\"z\": 1, \"prompt\": \"p\", \"a\": [1], \"score\": \"4.5\", \"id\": 7}\r\n\r\n{\"prompt\": \"q\", \"score\": 2}\r\n";
    let data = reader().read_str("a.jsonl", text).unwrap();
    assert_eq!(data.examples.len(), 2);
    let first = &data.examples[0];
    assert_eq!(first.row.fields.keys().collect::<Vec<_>>(), ["z", "prompt", "a", "score", "id"]);
    assert_eq!((first.row.id.as_str(), first.row.line, first.record.score), ("7", 1, Some(4.5)));
    assert_eq!(first.record.prompt, Some(Prompt::Text("p".into())));
    assert_eq!((data.examples[1].row.id.as_str(), data.examples[1].row.place().as_str()), ("3", "a.jsonl:3"));
}

#[test]
fn the_layouts() {
    let grading =
        one(r#"{"instruction":"i","response":"","reference_answer":"r","rubric":"","feedback":"because","score":[3,"4",5]}"#);
    let parts = grading.grading.unwrap();
    assert_eq!((parts.response.as_str(), parts.reference.as_deref(), parts.rubric), ("", Some("r"), None));
    assert_eq!((grading.chain.as_deref(), grading.score), (Some("because"), Some(4.0)));

    let chat = one(r#"{"messages":[{"role":"user","content":"u"},{"role":"assistant","content":"a"}],"score":1}"#);
    assert_eq!(chat.prompt, Some(Prompt::Messages(vec![Message { role: "user".into(), content: "u".into() }])));
    assert_eq!(chat.chain.as_deref(), Some("a"));

    let trl = one(r#"{"prompt":[{"role":"user","content":"u"}],"completion":[{"role":"assistant","content":"c"}],"score":1}"#);
    assert_eq!(trl.chain.as_deref(), Some("c"));

    let own = one(r#"{"sentence1":"s","sentence2":"t","score":1,"chain":" "}"#);
    assert_eq!((own.prompt, own.grading, own.chain), (None, None, None));
}

#[test]
fn columns_can_be_named_and_labels_optional() {
    let view = View { label_column: "gold".into(), chain_column: Some("why".into()), ..View::default() };
    let reader = Reader { view, ..Reader::default() };
    let data = reader.read_str("x", r#"{"prompt":"p","score":"high","gold":2,"why":"w","feedback":"f"}"#).unwrap();
    assert_eq!((data.examples[0].record.score, data.examples[0].record.chain.as_deref()), (Some(2.0), Some("w")));

    let scoring = Reader { view: View::for_scoring(), ..Reader::default() };
    let data = scoring
        .read_str("x", "{\"prompt\":\"p\",\"score\":null,\"chain\":\"a\",\"feedback\":\"b\"}\n{\"prompt\":\"q\"}")
        .unwrap();
    assert!(data.examples.iter().all(|e| e.record.score.is_none() && e.record.chain.is_none()));
}

#[test]
fn arrays_know_their_lines() {
    let text = "\n[\n {\"prompt\": \"a\",\n  \"score\": 1},\n\n {\"prompt\": \"b\", \"score\": 2}\n]\n";
    let data = reader().read_str("a.json", text).unwrap();
    assert_eq!(data.examples.iter().map(|e| e.row.line).collect::<Vec<_>>(), [3, 6]);
    let limited = Reader { limit: Some(1), ..Reader::default() };
    assert_eq!(limited.read_str("a.json", text).unwrap().examples.len(), 1);
}

#[test]
fn skip_bad_sets_rows_aside_with_their_reasons() {
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
        ("", "f: no rows in it"),
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
    let named = Reader { view: View { chain_column: Some("why".into()), ..View::default() }, ..Reader::default() };
    assert!(named.read_str("f", ok).unwrap_err().to_string().contains("field `why`: no such column"));
    let bytes = |bytes: &[u8]| reader().read_bytes("f", bytes).unwrap_err().to_string();
    assert_eq!(bytes(b"{}\n\xff{}"), "f:2: byte 3 (0xff) is no UTF-8; save the file as UTF-8");
    assert_eq!(bytes(b"\xff\xfe{\0"), "f: UTF-16 text; save it as UTF-8");
}

#[cfg(not(target_arch = "wasm32"))]
#[test]
fn files_plain_and_gzipped() {
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
    for path in
        [write("a.jsonl", text.as_bytes()), write("a.jsonl.gz", &packed), write("b.json.gz", &[&packed[..], &packed].concat())]
    {
        assert!(reader().read_path(&path).is_ok(), "{}", path.display());
    }
    let message = |path: &std::path::Path| reader().read_path(path).unwrap_err().to_string();
    assert!(message(&write("cut.jsonl.gz", &packed[..packed.len() / 2])).contains("damaged gzip archive"));
    assert!(message(&write("t.parquet", b"PAR1")).contains(".parquet files are not read yet"));
    assert!(message(dir.path()).contains("is a directory"));
    assert!(message(&dir.path().join("none.jsonl")).contains("check the path"));
}
