//! Rows: what is read in them, what must be refused, and that they come out as they went in.

use std::io::Write;
use std::process::Stdio;

use jurist::data::{ColumnOptions, Example, Labels, Reader, Record};
use jurist::judge::{JudgePrompt, Template};
use jurist::text::Tokenizer;
use serde_json::{Value, json};

use crate::cli::{Done, Task, finish, succeed};
use crate::messages::Messages;

/// A prompt in the words of the tiny tokenizer.
const PROMPT: &str = "rubric tone major plain response voice good judge";

fn read(text: &str) -> Result<Vec<Example>, String> {
    Reader::default().read_str("f", text).map(|data| data.examples).map_err(|error| error.to_string())
}

fn record(row: &str) -> Record {
    read(row).unwrap_or_else(|error| panic!("{row}: {error}")).remove(0).record
}

fn refusal(row: &str) -> String {
    read(row).map(|rows| panic!("{row}: read as {:?}", rows[0].record)).unwrap_or_else(|error| error)
}

/// `jurist data check` of a file with these bytes.
fn check(task: &Task, name: &str, bytes: &[u8], more: &[&str]) -> Done {
    task.write(name, bytes);
    finish(task.jurist(&[&["data", "check", name], more].concat()))
}

fn told(done: &Done) -> Value {
    serde_json::from_str(&done.out).unwrap_or_else(|e| panic!("{e}: {}{}", done.out, done.err))
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(bytes).unwrap();
    packed.finish().unwrap()
}

/// A prompt over the tiny tokenizer, with this chat template if any.
fn judge_prompt(task: &Task, template: Template, chat: Option<&str>) -> JudgePrompt {
    if let Some(chat) = chat {
        task.write("words/chat_template.jinja", chat);
    }
    let tokenizer = Tokenizer::from_dir(&task.at("words")).unwrap();
    JudgePrompt::new(template, "score", "1..5".parse().unwrap(), chat.is_some(), &tokenizer).unwrap()
}

const CHAT: &str = "\
{%- if tools %}{{- '<tools>' }}{%- for tool in tools %}{{- tool | tojson }}{%- endfor %}{{- '</tools>' }}{%- endif %}
{%- if documents is none %}{{- '<no documents>' }}{%- endif %}
{%- for message in messages %}
{{- '<' + message.role + '>' }}
{%- if message.content %}{{- message.content }}{%- endif %}
{%- for call in message.tool_calls or [] %}{{- '<call>' + (call.function | tojson) + '</call>' }}{%- endfor %}
{%- if message.tool_call_id is defined %}{{- '#' + message.tool_call_id + ' of ' + message.name }}{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<assistant>' }}{%- endif %}";

#[test]
fn messages_reach_the_chat_template_whole() {
    let task = Task::new(1, 1, false);
    let call = json!({"id": "c1", "type": "function", "function": {"name": "get", "arguments": {"b": 1, "a": [1.5, "é"]}}});
    let tools = json!([{"type": "function", "function": {"name": "get", "parameters": {"z": {}, "a": null}}}]);
    let messages = json!([
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": null, "tool_calls": [call]},
        {"role": "tool", "content": "7", "tool_call_id": "c1", "name": "get"},
        {"role": "user", "content": [{"type": "text", "text": "So"}, {"type": "text", "text": "?"}]},
    ]);
    let expected = r#"<tools>{"type": "function", "function": {"name": "get", "parameters": {"z": {}, "a": null}}}</tools>"#
        .to_string()
        + r#"<no documents><user>Hi<assistant><call>{"name": "get", "arguments": {"b": 1, "a": [1.5, "é"]}}</call>"#
        + "<tool>7#c1 of get<user>So?<assistant>";
    let chat = judge_prompt(&task, Template::Plain, Some(CHAT));
    for row in [
        json!({"messages": messages, "tools": tools, "score": 3}),
        json!({"prompt": messages, "tools": tools.to_string(), "score": 3}),
        json!({"messages": messages.to_string(), "tools": tools, "score": 3}),
    ] {
        let example = read(&row.to_string()).unwrap().remove(0);
        assert_eq!(chat.text(&example).unwrap(), expected);
    }
    // Without a chat template nobody could write them.
    std::fs::remove_file(task.at("words/chat_template.jinja")).unwrap();
    let plain = judge_prompt(&task, Template::Plain, None);
    let mut told = Messages::new("rows-messages");
    for row in [
        json!({"messages": messages, "score": 3}),
        json!({"messages": [messages[0]], "tools": tools, "score": 3}),
        json!({"prompt": "a", "tools": tools, "score": 3}),
        json!({"prompt": "a", "documents": [{"text": "d"}], "score": 3}),
    ] {
        let error = plain.text(&read(&row.to_string()).unwrap()[0]).unwrap_err().to_string();
        told.add(&row, &error);
    }
    // Nor does every template read what a row offers.
    let graded = json!({"instruction": "i", "response": "r", "tools": tools, "score": 3});
    let asked = json!({"prompt": "a", "documents": [{"text": "d"}], "score": 3});
    let own = Template::Own { name: "own".into(), source: "{{ tools | tojson }}".into() };
    for (template, chat, row, says) in [
        (Template::Judge, None, &graded, Err(())),
        (Template::Judge, Some(CHAT), &graded, Err(())),
        (Template::Plain, Some("{{ messages[0].content }}"), &asked, Err(())),
        (Template::Plain, Some("{{ messages[0].content }}{% if documents %}!{% endif %}"), &asked, Ok("a!")),
        (own, None, &graded, Ok(r#"[{"type": "function", "function": {"name": "get", "parameters": {"z": {}, "a": null}}}]"#)),
    ] {
        let found = judge_prompt(&task, template, chat).text(&read(&row.to_string()).unwrap()[0]).map_err(|e| e.to_string());
        match says {
            Ok(text) => assert_eq!(found.as_deref(), Ok(text)),
            Err(()) => told.add(format!("{chat:?} {row}"), &found.unwrap_err()),
        }
    }
    for row in [
        json!({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "", "tool_calls": [call]}], "score": 1}),
        json!({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}], "score": 1}),
        json!({"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text"}]}], "score": 1}),
        json!({"prompt": [{"role": "user", "content": "a", "tool_calls": [call]}], "response": "r", "score": 1}),
        json!({"messages": [{"role": "user", "content": null}], "score": 1}),
        json!({"messages": [{"role": "user"}], "score": 1}),
    ] {
        let error = refusal(&row.to_string());
        told.add(&row, &error);
    }
    told.check();
}

#[test]
fn no_part_of_a_grading_is_left_out_in_silence() {
    let task = Task::new(1, 1, false);
    let row = |response: &str| json!({"prompt": "2 + 2?", "response": response, "score": 4}).to_string();
    let judge = judge_prompt(&task, Template::Judge, None);
    let text = |response: &str| judge.text(&read(&row(response)).unwrap()[0]).unwrap();
    assert!(text("4").contains("## Instruction\n2 + 2?\n\n## Response\n4\n") && text("4") != text("cat"));
    let own = Template::Own { name: "own".into(), source: "{{ prompt }}".into() };
    assert_eq!(judge_prompt(&task, own, None).text(&read(&row("4")).unwrap()[0]).unwrap(), "2 + 2?");
    let chat = record(r#"{"prompt": [{"role": "user", "content": "Q"}], "response": "A", "feedback": "f", "score": 1}"#);
    assert_eq!((chat.grading.unwrap().instruction.as_str(), chat.chain.as_deref(), chat.prompt), ("Q", Some("f"), None));

    // The default template follows.
    let done = check(&task, "helpful.jsonl", format!("{}\n", row("cat")).as_bytes(), &["--json"]);
    let found = told(&done);
    assert_eq!(found["layouts"][0]["columns"], json!({"instruction": "prompt", "response": "response", "label": "score"}));
    assert_eq!(found["template"], "judge");

    let plain = judge_prompt(&task, Template::Plain, None);
    let mut messages = Messages::new("rows-gradings");
    for row in [
        row("4"),
        r#"{"prompt":"p","instruction":"i","response":"r","score":1}"#.into(),
        r#"{"prompt":"p","rubric":"r","score":1}"#.into(),
        r#"{"prompt":"p","reference_answer":"r","score":1}"#.into(),
        r#"{"messages":[{"role":"user","content":"a"}],"response":"r","score":1}"#.into(),
        r#"{"prompt":[{"role":"user","content":"a"},{"role":"assistant","content":"b"},{"role":"user","content":"c"}],"response":"r","score":1}"#.into(),
    ] {
        let error = plain.text(&read(&row).unwrap()[0]).unwrap_err().to_string();
        messages.add(&row, &error);
    }
    messages.check();
    // A chain in that column, Prometheus' complete prompt, and TRL's completion stay what they are.
    let columns = ColumnOptions { chain_column: Some("response".into()), ..ColumnOptions::default() };
    let reader = Reader { columns, ..Reader::default() };
    let chain = reader.read_str("f", r#"{"prompt":"p","response":"because","score":1}"#).unwrap().examples.remove(0);
    assert_eq!((chain.record.chain.as_deref(), plain.text(&chain).unwrap().as_str()), (Some("because"), "p"));
    for row in [
        r#"{"prompt":"p","completion":"c","score":1}"#,
        r#"{"instruction":"Whole.","orig_instruction":"i","orig_response":"r","orig_criteria":"c","orig_score":"1"}"#,
        r#"{"prompt":"p","rubric":"","response":null,"score":1}"#,
    ] {
        plain.text(&read(row).unwrap()[0]).unwrap();
    }
}

#[test]
fn a_rubric_may_be_an_object() {
    let rubric = |rubric: Value| {
        let row = json!({"instruction": "i", "response": "r", "rubric": rubric, "score": 1}).to_string();
        read(&row).map(|rows| rows[0].record.grading.clone().unwrap().rubric.unwrap())
    };
    for (given, text) in [
        (json!({"1": "bad", "5": " good "}), "Score 1: bad\nScore 5: good"),
        (
            json!({"criteria": "Polite?", "score1_description": "no", "score2_description": "yes"}),
            "[Polite?]\nScore 1: no\nScore 2: yes",
        ),
        (json!({"Score 1": "no", "score_2": "yes", "criteria": "[c]"}), "[c]\nScore 1: no\nScore 2: yes"),
        (json!("{\"0.5\": \"half\"}"), "Score 0.5: half"),
        (json!("{free text}"), "{free text}"),
    ] {
        assert_eq!(rubric(given.clone()).unwrap(), text, "{given}");
    }
    let mut messages = Messages::new("rows-rubrics");
    for given in [json!({"1": 5}), json!({"good": "x"}), json!({}), json!([1])] {
        messages.add(&given, &rubric(given.clone()).unwrap_err());
    }
    messages.check();
}

#[test]
fn annotators_who_gave_no_score_are_missing() {
    for (row, label, scores) in [
        (r#"{"prompt":"p","score":4.5,"labels":[4,null,5]}"#, 4.5, &[4.0, 5.0][..]),
        (r#"{"prompt":"p","score":[4,null,5]}"#, 4.5, &[4.0, 5.0]),
        (r#"{"prompt":"p","score":[4,NaN,"",5,"nan"]}"#, 4.5, &[4.0, 5.0]),
        (r#"{"prompt":"p","score":"[4.0, nan, 5.0]"}"#, 4.5, &[4.0, 5.0]),
        (r#"{"prompt":"p","score":[null,3]}"#, 3.0, &[3.0]),
        (r#"{"prompt":"p","score":4.5,"labels":"[4, None, 5]"}"#, 4.5, &[4.0, 5.0]),
        (r#"{"prompt":"p","score":4,"labels":[4,4,5]}"#, 4.0, &[4.0]),
        (r#"{"prompt":"p","score":4,"labels":[null]}"#, 4.0, &[4.0]),
        (r#"{"prompt":"p","score":75,"labels":[4,4]}"#, 75.0, &[75.0]),
    ] {
        let record = record(row);
        assert_eq!((record.score, record.scores.as_slice()), (Some(label), scores), "{row}");
    }
    let mut messages = Messages::new("rows-annotators");
    for row in [
        r#"{"prompt":"p","score":[null,"nan"]}"#,
        r#"{"prompt":"p","score":"4/5"}"#,
        r#"{"prompt":"p","score":"４"}"#,
        r#"{"prompt":"p","Score":4}"#,
    ] {
        messages.add(row, &refusal(row));
    }
    messages.check();
    // The feedback belongs to the annotator in its own place, whoever else is missing.
    let own = record(r#"{"instruction":"w","gpt4_score":[null,5,1,5],"gpt4_feedback":["a","b","c","d"]}"#);
    assert_eq!(own.chain.as_deref(), Some("b"));
    let scoring = Reader { columns: ColumnOptions { labels: Labels::Optional, ..ColumnOptions::default() }, ..Reader::default() };
    for label in ["null", "NaN", "\"\"", "\"n/a\"", "[null]", "[]"] {
        let rows = scoring.read_str("f", &format!(r#"{{"prompt":"p","score":{label}}}"#)).unwrap();
        assert_eq!(rows.examples[0].record.score, None, "{label}");
    }
}

#[test]
fn a_chain_that_ends_in_another_score_contradicts_the_label() {
    for column in ["chain", "feedback", "rationale", "completion"] {
        for end in ["[RESULT] 2", "So the overall score is 2.", "[RESULT] **2**"] {
            let row = |score: &str| format!(r#"{{"prompt":"p","{column}":"Good. {end}","score":{score}}}"#);
            let error = refusal(&row("5"));
            assert!(error.contains(&format!("field `{column}`: it ends in the score 2, and `score` is 5")), "{error}");
            for score in ["2", "2.25", "[2, 5]"] {
                assert_eq!(record(&row(score)).chain.as_deref(), Some("Good."), "{score}");
            }
        }
    }
    for row in [
        r#"{"messages":[{"role":"user","content":"u"},{"role":"assistant","content":"Good. [RESULT] 2"}],"score":5}"#,
        r#"{"prompt":"p","completion":[{"role":"assistant","content":"Good. [RESULT] 2"}],"score":5}"#,
        r#"{"instruction":"i","orig_instruction":"o","orig_feedback":"Good.","output":"Good. [RESULT] 2","score":5}"#,
        r#"{"instruction":"i","orig_feedback":"Good. [RESULT] 2","orig_instruction":"o","orig_score":"5"}"#,
    ] {
        let error = refusal(row);
        assert!(error.contains("it ends in the score 2, and `"), "{row}: {error}");
    }
    // The phrase of one's own judge, and its words.
    let task = Task::new(1, 1, false);
    let prompt = judge_prompt(&task, Template::Plain, None);
    let tokenizer = Tokenizer::from_dir(&task.at("words")).unwrap();
    let tokens = prompt.score_tokens(&tokenizer).unwrap();
    let sequence = |score: &str| {
        let row = format!(r#"{{"prompt":"{PROMPT}","chain":"tone ok score 2","score":{score}}}"#);
        prompt.sequence(&read(&row).unwrap()[0], &tokens, &tokenizer, false).map_err(|error| error.to_string())
    };
    assert!(sequence("5").unwrap_err().contains("the chain of thought ends in the score 2, and the label is 5"));
    assert!(sequence("2").is_ok() && sequence("2.5").is_ok() && sequence("[2, 4]").is_ok());
}

#[test]
fn values_come_out_as_they_went_in() {
    let task = Task::new(4, 1, false);
    succeed(task.train("judge", &["--max-steps", "1"]));
    let score = |input: &str, more: &[&str]| task.jurist(&[&["score", "--model", "judge", "--input", input], more].concat());
    let kept = format!(
        r#""id":12345678901234567890123,"w":[NaN,-Infinity],"x":1.50,"y":[1E5,-0,{{"z":0.10}}],"t":"\u00e9\/","prompt":"{PROMPT}""#
    );
    task.write("rows.jsonl", format!("{{{kept}}}\n"));
    let out = succeed(score("rows.jsonl", &[])).out;
    assert!(out.starts_with(&format!("{{{kept},\"judge\":{{\"expected\":")), "{out}");
    task.write("scored.jsonl", &out);
    task.write("rows.json", format!("[\n  {{\n    {}\n  }}\n]\n", kept.replace("\",\"", "\",\n   \"")));
    assert_eq!(succeed(score("rows.json", &[])).out, out);
    task.write("rows.csv", format!("id,x,prompt\n12345678901234567890123,1.50,{PROMPT}\n"));
    let csv = succeed(score("rows.csv", &[])).out;
    assert!(csv.starts_with(r#"{"id":"12345678901234567890123","x":"1.50","prompt":"#), "{csv}");

    // A CSV of one column needs no name to be known.
    let mut column = score("-", &[]);
    let file = task.write("column", format!("prompt\n{PROMPT}\n"));
    column.stdin(Stdio::from(std::fs::File::open(file).unwrap()));
    assert!(succeed(column).out.starts_with(&format!("{{\"prompt\":\"{PROMPT}\",")));
    let mut words = score("-", &[]);
    let file = task.write("text", "no rows at all\n");
    words.stdin(Stdio::from(std::fs::File::open(file).unwrap()));
    let refused = finish(words);
    assert!(refused.code == Some(1) && refused.err.contains("CSV needs the ending .csv"), "{}", refused.err);

    // From standard input, plain and packed.
    for bytes in
        [task.read("rows.jsonl").into_bytes(), task.read("rows.json").into_bytes(), gzip(task.read("rows.jsonl").as_bytes())]
    {
        let file = task.write("piped", &bytes);
        let mut command = score("-", &[]);
        command.stdin(Stdio::from(std::fs::File::open(file).unwrap()));
        assert_eq!(succeed(command).out, out);
    }

    let refused = finish(score("scored.jsonl", &[]));
    assert!(refused.code == Some(1) && refused.out.is_empty(), "{}", refused.err);
    assert!(refused.err.contains("scored.jsonl:1: field `judge`: the row has this column already"), "{}", refused.err);
    assert_eq!(succeed(score("scored.jsonl", &["--overwrite-judge"])).out, out);
    let second = succeed(score("scored.jsonl", &["--judge-column", "second"])).out;
    assert!(second.starts_with(&out.trim_end()[..out.trim_end().len() - 1]), "{second}");
    let row = jurist::data::columns_of(second.trim_end().as_bytes()).unwrap();
    assert_eq!((&row["second"], &row["w"]), (&row["judge"], &json!([null, null])));
    task.write("twice.jsonl", second.replacen(r#""x":1.50"#, r#""score":3"#, 1));
    succeed(task.jurist(&["eval", "twice.jsonl", "--judge-column", "second", "--scale", "1..5", "--json"]));

    // A template sees all digits of a number.
    let own = Template::Own { name: "own".into(), source: "{{ id }}".into() };
    let row = Reader { columns: ColumnOptions::for_scoring(), ..Reader::default() }
        .read_path(&task.at("rows.jsonl"))
        .unwrap()
        .examples
        .remove(0);
    assert_eq!(judge_prompt(&task, own, None).text(&row).unwrap(), "12345678901234567890123");
    let error = refusal(r#"{"prompt":"p","score":1,"score":5}"#);
    assert!(error.contains("field `score`: the row has it twice"), "{error}");
}

#[test]
fn files_of_every_kind_are_read_or_named() {
    let task = Task::new(1, 1, false);
    let row = "{\"prompt\": \"p\", \"score\": 4}";
    let utf16 = |text: &str, mark: bool| -> Vec<u8> {
        let units = mark.then_some(0xfeff).into_iter().chain(text.encode_utf16());
        units.flat_map(u16::to_le_bytes).collect()
    };
    let nested = format!("{{\"prompt\": \"p\", \"x\": {}1{}}}\n", "[".repeat(500), "]".repeat(500));
    let cases: &[(&str, Vec<u8>)] = &[
        ("nbsp.json", b"\xc2\xa0[".to_vec()),
        ("nbsp-row.jsonl", format!("\u{a0}{row}").into_bytes()),
        ("wide.json", "\u{3000}[\u{2028}]".as_bytes().to_vec()),
        ("mark.jsonl", utf16(row, true)),
        ("bare.jsonl", utf16(row, false)),
        ("bare.csv", utf16("prompt,score\np,4\n", false)),
        ("deep.jsonl", nested.into_bytes()),
        ("twice.csv", b"prompt,score,score\np,1,2\n".to_vec()),
        ("ragged.csv", b"prompt,score,,\np,1,,x\n".to_vec()),
        ("twice.gz", gzip(&gzip(row.as_bytes()))),
        ("rows.xz", b"\xfd7zXZ\0rows".to_vec()),
        ("rows.tar", [vec![b'x'; 257], b"ustar\0".to_vec()].concat()),
        ("truth.jsonl", b"{\"prompt\":\"p\",\"score\":true}\n".to_vec()),
        ("empty.json", b"".to_vec()),
    ];
    let mut messages = Messages::new("rows-files").place(task.dir.path(), "[folder]");
    for (name, bytes) in cases {
        let done = check(&task, name, bytes, &["--label-column", "score"]);
        assert_eq!(done.code, Some(1), "{name}: {}", done.err);
        messages.add(name, &done.err);
    }
    messages.check();
    let labels = |name: &str, bytes: &[u8]| {
        let done = check(&task, name, bytes, &["--json"]);
        assert_eq!(done.code, Some(0), "{name}: {}", done.err);
        let found = told(&done);
        (
            found["rows"].as_u64().unwrap(),
            found["labels"]["mean"].as_f64().unwrap(),
            found["format"].as_str().unwrap().to_string(),
        )
    };
    let lf = "prompt,score\np,4\nq,2\n";
    for (name, text, format) in [
        ("a.csv", "\u{feff}prompt,score,,\r\np,4,,\r\nq,2,,\r\n,,,\r\n", "CSV"),
        ("b.csv", "prompt,score\np,4,\nq,2,,\n", "CSV"),
        ("c.csv", &lf.replace('\n', "\r"), "CSV"),
        ("d.jsonl", "{\"prompt\":\"p\",\"score\":4}\r{\"prompt\":\"q\",\"score\":2}\r", "JSON Lines"),
        ("e.json", "[\n{\"prompt\":\n\"p\",\"score\":3}\n]", "JSON array"),
        ("f.csv", "\"prompt; a; b\",prompt,score\nx,p,4\ny,q,2\n", "CSV"),
        ("g.csv", "\"a,\nb,c\";prompt;score\nx;p;4\ny;q;2\n", "CSV with semicolons"),
        ("h", lf, "CSV"),
        ("i.txt", &lf.replace(',', "\t"), "CSV with tabs"),
        ("j.data", "\n {\"prompt\":\"p\",\"score\":3}", "JSON Lines"),
        ("k.jsonl", "{\"prompt\":\"p\",\"score\":\" 3 \",\"note\":NaN}", "JSON Lines"),
    ] {
        let rows = if ["e.json", "j.data", "k.jsonl"].contains(&name) { 1 } else { 2 };
        assert_eq!(labels(name, text.as_bytes()), (rows, 3.0, format.to_string()), "{name}");
    }
    // Both readers know the same kinds by their content.
    for bytes in [
        lf.as_bytes().to_vec(),
        gzip(lf.as_bytes()),
        format!("[{row}, {row}]").into_bytes(),
        format!("{row}\n{row}\n").into_bytes(),
    ] {
        let file = task.write("piped", &bytes);
        for args in [&["data", "check", "-"][..], &["agree", "-", "--human", "score", "--judge", "score", "--resamples", "2"]] {
            let mut command = task.jurist(args);
            command.stdin(Stdio::from(std::fs::File::open(&file).unwrap()));
            assert!(succeed(command).out.contains("standard input"), "{args:?}");
        }
    }
    let twice = finish(task.jurist(&["data", "check", "-", "--against", "-"]));
    assert!(twice.code == Some(1) && twice.err.contains("standard input: "), "{}", twice.err);
}

/// No text of a file makes the readers panic: seeds, with bytes changed, left out and put in.
#[test]
fn changed_bytes_are_read_or_refused() {
    let dir = tempfile::tempdir().unwrap();
    let seeds: [&[u8]; 6] = [
        b"\xc2\xa0[{\"prompt\": \"p\\u00e9\", \"score\": [4, NaN, 1e3], \"tools\": \"[{}]\"}]",
        "{\"messages\": [{\"role\": \"user\", \"content\": [{\"type\": \"text\", \"text\": \"é\"}]}], \"score\": 12345678901234567890123}\n".as_bytes(),
        "prompt,score,,\n\"a \"\"b\"\" é\",\"[4, None]\",,\n,,,\n".as_bytes(),
        "{\"prompt\":\"p\",\"response\":\"r\",\"rubric\":{\"1\":\"é\"},\"chain\":\"x [RESULT] 3\",\"score\":3}".as_bytes(),
        "{\"instruction\":\"###The instruction to evaluate: é ###Response to evaluate: b\",\"gpt4_score\":[1,null],\"gpt4_feedback\":[\"a\",\"b\"]}".as_bytes(),
        b"\xef\xbb\xbfa;b\r\"c;\r\n",
    ];
    let mut state = 1_u64;
    let mut next = |below: usize| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) as usize % below
    };
    let readers =
        [Reader { skip_bad: true, ..Reader::default() }, Reader { columns: ColumnOptions::for_scoring(), ..Reader::default() }];
    for round in 0..4000 {
        let mut bytes = seeds[round % seeds.len()].to_vec();
        for _ in 0..=next(4) {
            let at = next(bytes.len());
            match next(4) {
                0 => bytes[at] = next(256) as u8,
                1 => bytes.truncate(at + 1),
                2 => bytes.insert(at, b"[]{}\",:\\\n\r\xa0\xc2N0"[next(14)]),
                _ => {
                    bytes.remove(at);
                }
            }
            if bytes.is_empty() {
                bytes.push(b'[');
            }
        }
        for reader in &readers {
            let read = reader.read_bytes("f", &bytes);
            for example in read.iter().flat_map(|data| &data.examples) {
                let line = example.row.with_column("judge", &json!({"expected": 1}));
                let back: Value = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{line}: {e}"));
                assert!(back["judge"]["expected"] == 1 && !line.contains('\n'), "{line}");
            }
        }
        if round % 8 == 0 {
            let file = dir.path().join(["a.csv", "b.json", "c"][round / 8 % 3]);
            std::fs::write(&file, &bytes).unwrap();
            let _ = readers[0].read_path(&file);
            let _ = jurist::data::read_columns(&file, &["score", "a"], &mut |cells| cells.number(0).map(|_| ()));
        }
    }
}

#[test]
fn wide_rows_take_no_longer_than_their_length() {
    let task = Task::new(1, 1, false);
    let count = 200_000;
    let names: String = (0..count).map(|n| format!(",c{n}")).collect();
    let cells = ",x".repeat(count);
    let csv = format!("prompt,score{names}\np,4{cells}\nq,2{cells}\n");
    let fields: String = (0..count).map(|n| format!(", \"c{n}\": {n}.50")).collect();
    let json = format!("{{\"prompt\": \"p\", \"score\": 4{fields}}}\n");
    for (name, text) in [("wide.csv", &csv), ("wide.jsonl", &json)] {
        let started = std::time::Instant::now();
        let done = check(&task, name, text.as_bytes(), &["--json"]);
        assert_eq!(done.code, Some(0), "{}", done.err);
        let agree = ["agree", name, "--human", "score", "--judge", "score", "--resamples", "2"];
        succeed(task.jurist(&agree));
        assert!(started.elapsed().as_secs() < 20, "{name}: {:?}", started.elapsed());
    }
    let missing = finish(task.jurist(&["agree", "wide.csv", "--human", "gone", "--judge", "score"]));
    assert!(missing.err.len() < 1000 && missing.err.contains("more"), "{}", missing.err.len());
}

#[test]
fn archives_unpack_to_a_limit() {
    let task = Task::new(1, 1, false);
    let row = format!("{{\"prompt\": \"p\", \"score\": 4, \"x\": \"{}\"}}\n", "y".repeat(1_200_000));
    let packed = gzip(row.as_bytes());
    for (name, bytes) in
        [("one.jsonl.gz", packed.repeat(2)), ("rows.csv.gz", gzip(format!("score,x\n4,{}\n", "y".repeat(2_500_000)).as_bytes()))]
    {
        task.write(name, &bytes);
        for args in [
            &["data", "check", name][..],
            &["agree", name, "--human", "score", "--judge", "score", "--resamples", "2"],
            &["eval", name, "--scale", "1..5"],
            &["train", "--init", "config.json", "--tokenizer", "words", "--train-file", name, "--output-dir", "out"],
        ] {
            let done = finish(task.jurist(&[args, &["--max-decompressed", "2MB"]].concat()));
            assert_eq!(done.code, Some(1), "{args:?}: {}", done.err);
            assert!(
                done.err.contains("an archive that unpacks to more than 1 MiB")
                    && done.err.contains("raise the limit with --max-decompressed"),
                "{}",
                done.err
            );
        }
    }
    succeed(task.jurist(&["data", "check", "one.jsonl.gz", "--max-decompressed", "3MB"]));
    let wrong = finish(task.jurist(&["data", "check", "one.jsonl.gz", "--max-decompressed", "much"]));
    assert!(wrong.code == Some(2) && wrong.err.contains("is no size; expected"), "{}", wrong.err);
    // By default a small archive may be 256 MiB long, and not more.
    let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    for _ in 0..257 {
        bomb.write_all(&vec![b'\n'; 1 << 20]).unwrap();
    }
    task.write("bomb.jsonl.gz", bomb.finish().unwrap());
    for args in [&["data", "check", "bomb.jsonl.gz"][..], &["agree", "bomb.jsonl.gz", "--human", "a", "--judge", "b"]] {
        let done = finish(task.jurist(args));
        assert!(done.code == Some(1) && done.err.contains("more than 256 MiB"), "{}", done.err);
    }
}

#[test]
fn agree_takes_missing_scores_and_words() {
    let task = Task::new(1, 1, false);
    let agree = |name: &str, text: &str, more: &[&str]| {
        task.write(name, text);
        let args = ["agree", name, "--human", "h", "--judge", "j", "--resamples", "10", "--json"];
        finish(task.jurist(&[&args[..], more].concat()))
    };
    let numbers = "{\"h\": NaN, \"j\": 3}\n{\"h\": 4, \"j\": NaN}\n{\"h\": 4, \"j\": null}\n{\"h\": -Infinity, \"j\": 1}\n\
                   {\"h\": 4, \"j\": 5}\n{\"h\": [2, null, 2], \"j\": 2}\n{\"h\": \"n/a\", \"j\": 2}\n{\"h\": 5, \"j\": \"\"}\n";
    let found = told(&agree("numbers.jsonl", numbers, &[]));
    assert_eq!([&found["n"], &found["n_unparsed"], &found["n_unlabelled"]], [&json!(2), &json!(3), &json!(3)]);
    let array = format!("[{}]", numbers.trim_end().replace('\n', ",\n"));
    assert_eq!(told(&agree("numbers.json", &array, &[]))["n"], 2);

    let words = [("bad", "bad"), ("ok", "bad"), ("good", "good"), ("ok", "ok"), ("Good", "GOOD")];
    let scale = ["--scale", "bad,ok,good=0,1,2"];
    let csv: String = words.iter().map(|(h, j)| format!("{h}, {j} \n")).collect();
    let jsonl: String = words.iter().map(|(h, j)| format!("{}\n", json!({"h": h, "j": j}))).collect();
    for (name, text) in
        [("words.csv", format!("h,j\n{csv},\nnone,bad\n")), ("words.jsonl", jsonl + "{\"h\": null, \"j\": \"bad\"}\n")]
    {
        let found = told(&agree(name, &text, &scale));
        assert_eq!((&found["n"], &found["n_unlabelled"]), (&json!(5), &json!(1)), "{name}");
        assert_eq!(found["labels"], json!(["bad", "ok", "good"]));
        assert_eq!(found["counts"], json!([[1, 0, 0], [1, 1, 0], [0, 0, 2]]));
        // Observed agreement 0.8, by chance (1 * 2 + 2 * 1 + 2 * 2) / 25.
        let kappa = found["kappa_unweighted"].as_f64().unwrap();
        assert!((kappa - (0.8 - 0.32) / 0.68).abs() < 1e-12, "{kappa}");
    }
    for (scale, cells) in [
        ("fail,pass=0,1", ["\"pass\"", "\"Fail\""]),
        ("false,true=0,1", ["true", "false"]),
        ("fail,pass=0,1", ["true", "false"]),
        ("no,yes=1,2", ["\"yes\"", "\"no\""]),
    ] {
        let [a, b] = cells;
        let text = format!("{{\"h\": {a}, \"j\": {a}}}\n{{\"h\": {b}, \"j\": {b}}}\n{{\"h\": {a}, \"j\": {b}}}\n");
        let found = told(&agree("two.jsonl", &text, &["--scale", scale]));
        assert_eq!(found["counts"], json!([[1, 0], [1, 1]]), "{scale} {cells:?}");
    }
    let mut messages = Messages::new("rows-agree");
    for (text, scale) in [
        ("{\"h\": \"fine\", \"j\": \"ok\"}", scale[1]),
        ("{\"h\": true, \"j\": true}", "1..5"),
        ("{\"h\": true, \"j\": true}", "no,yes=1,2"),
        ("{\"h\": 1, \"h\": 2, \"j\": 1}", "1..5"),
    ] {
        let done = agree("two.jsonl", text, &["--scale", scale]);
        assert_eq!(done.code, Some(1), "{}", done.err);
        messages.add(format!("{text} on {scale}"), &done.err);
    }
    messages.check();
    let done = agree("twice.csv", "h,j,h\n1,2,3\n", &[]);
    assert!(done.code == Some(1) && done.err.contains("names the column `h` twice"), "{}", done.err);
    let quoted = "id,\"Q1; clarity; 1-5\",\"Q2; tone; 1-5\",j\na,1,2,3\nb,2,1,2\n";
    task.write("form.csv", quoted);
    succeed(task.jurist(&["agree", "form.csv", "--human", "Q1; clarity; 1-5", "--judge", "j", "--resamples", "10"]));
}

/// A prompt that holds the texts of the other columns, as Prometheus' do, is all that there is to read.
#[test]
fn a_prompt_that_holds_every_part_is_plain() {
    let task = Task::new(0, 0, false);
    let row = |response: &str| {
        let prompt = "###Instruction: say hi\n###Response:\nwell  hi\n###Rubric: [polite]";
        json!({"prompt": prompt, "instruction": "say hi", "response": response, "rubric": "[polite]", "score": 3}).to_string()
    };
    for (response, held) in [("well hi", true), ("goodbye", false), ("el", false)] {
        task.write("rows.jsonl", row(response));
        let told = finish(task.jurist(&["data", "check", "rows.jsonl", "--template", "plain", "--json"])).out;
        let told: Value = serde_json::from_str(&told).unwrap();
        assert_eq!(told["row"]["error"].is_null(), held, "{response}: {}", told["row"]);
    }
}
