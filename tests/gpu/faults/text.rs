//! Tokenizers, templates and words of the command line that come from elsewhere.

use std::path::Path;

use jurist::text::{ChatOptions, ChatTemplate, Date, Files, SpecialTokens, TextError, Tokenizer, train_bpe};
use serde_json::{Value, json};

use crate::cli::{Task, finish, jurist, lines, path, succeed, write};
use crate::messages::Messages;

/// A byte-level BPE with a few merges.
fn bpe() -> Value {
    let special = SpecialTokens::for_decoder();
    let tokenizer = train_bpe(["the score of the answer is the score of the judge"; 50].iter(), 320, &special).unwrap();
    serde_json::from_slice(&tokenizer.files()["tokenizer.json"]).unwrap()
}

/// Characters, without merges.
fn characters() -> Value {
    let vocab: serde_json::Map<String, Value> =
        ["<unk>", "a", "b", "c", "▁", "_"].iter().enumerate().map(|(id, token)| (token.to_string(), json!(id))).collect();
    json!({
        "version": "1.0", "added_tokens": [], "normalizer": null, "pre_tokenizer": null, "post_processor": null, "decoder": null,
        "model": {"type": "BPE", "vocab": vocab, "merges": [], "unk_token": "<unk>"},
    })
}

fn with(mut tokenizer: Value, changes: &[(&str, Value)]) -> Value {
    for (pointer, value) in changes {
        match tokenizer.pointer_mut(pointer) {
            Some(place) => *place = value.clone(),
            None => tokenizer["model"][pointer.rsplit('/').next().unwrap()] = value.clone(),
        }
    }
    tokenizer
}

fn load(json: &str) -> Result<Tokenizer, TextError> {
    Tokenizer::from_bytes(json.as_bytes())
}

#[test]
fn nothing_random_is_left_in_a_tokenizer() {
    let plain = load(&bpe().to_string()).unwrap();
    for dropout in [0.1, 0.5, 1.0] {
        let noisy = load(&with(bpe(), &[("/model/dropout", json!(dropout))]).to_string()).unwrap();
        for _ in 0..20 {
            let text = "the score of the judge is the answer";
            assert_eq!(noisy.encode(text, true).unwrap(), plain.encode(text, true).unwrap(), "dropout {dropout}");
        }
        // What is saved is what was read.
        assert!(String::from_utf8_lossy(&noisy.files()["tokenizer.json"]).contains("dropout"));
    }
}

/// Files with which the `tokenizers` crate panics, or takes all memory.
#[test]
fn tokenizers_that_do_not_fit_together_are_refused() {
    let sequence = |parts: Vec<Value>| json!({"type": "Sequence", "normalizers": parts});
    let replace = |pattern: Value, content: &str| json!({"type": "Replace", "pattern": pattern, "content": content});
    let template = json!({
        "type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}], "special_tokens": {},
    });
    let whole = characters().to_string();
    let ten = replace(json!({"String": "a"}), "aaaaaaaaaa");
    let cases = [
        (
            "a map that is none",
            with(characters(), &[("/normalizer", json!({"type": "Precompiled", "precompiled_charsmap": "AAAA"}))]).to_string(),
        ),
        ("cut short", whole[..whole.find("\"decoder\"").unwrap() + 12].to_string()),
        ("a merge without its token", with(characters(), &[("/model/merges", json!(["a b"]))]).to_string()),
        ("a merge of unknown tokens", with(characters(), &[("/model/merges", json!([["abcabc", "bcabca"]]))]).to_string()),
        (
            "a prefix longer than the token",
            with(characters(), &[("/model/merges", json!(["a b"])), ("/model/continuing_subword_prefix", json!("####"))])
                .to_string(),
        ),
        ("a template with an unknown token", with(characters(), &[("/post_processor", template)]).to_string()),
        ("a text that grows", with(characters(), &[("/normalizer", sequence(vec![ten; 12]))]).to_string()),
        ("a length of 0", with(characters(), &[("/pre_tokenizer", json!({"type": "FixedLength", "length": 0}))]).to_string()),
    ];
    let mut messages = Messages::new("text-tokenizers");
    for (what, file) in cases {
        let error = load(&file).map(|_| ()).unwrap_err().to_string();
        assert!(error.starts_with("`tokenizer.json`: "), "{error}");
        messages.add(what, &error);
    }
    messages.check();
}

/// What cannot be seen in the file is an error of the text, whatever the crate does.
#[test]
fn a_tokenizer_that_fails_on_a_text_is_an_error() {
    let empty = json!({"type": "Replace", "pattern": {"Regex": " {0,}"}, "content": "_"});
    let normalizer = json!({"type": "Sequence", "normalizers": [empty, {"type": "Prepend", "prepend": "_"}]});
    let tokenizer = load(&with(characters(), &[("/normalizer", normalizer)]).to_string()).unwrap();
    for text in ["abc", "", " ", "a b", "日本"] {
        if let Err(error) = tokenizer.encode(text, true) {
            assert!(error.to_string().contains("cannot encode"), "{error}");
        }
    }
}

#[test]
fn a_panic_of_a_tokenizer_is_not_printed() {
    let task = Task::new(4, 0, false);
    let file = with(characters(), &[("/normalizer", json!({"type": "Precompiled", "precompiled_charsmap": "AAAA"}))]);
    let file = task.write("broken.json", file.to_string());
    let done = finish(task.jurist(&["data", "check", "train.jsonl", "--tokenizer", path(&file)]));
    assert_eq!(done.code, Some(1), "{}", done.err);
    assert!(!done.err.contains("panicked") && done.err.contains("precompiled_charsmap"), "{}", done.err);
}

fn render(source: &str, options: &ChatOptions) -> Result<String, String> {
    let messages = [
        json!({"role": "user", "content": "Hi  there é", "extra": {"b": [1, 2.5, null, 1e20], "a": true}}),
        json!({"role": "assistant", "content": "<think>x</think>\n\nok"}),
    ];
    let template = ChatTemplate::new(source.into(), Default::default()).map_err(|e| e.to_string())?;
    template.render(&messages, options).map_err(|e| e.to_string())
}

/// A model with two templates, in either of the places where transformers keeps them.
#[test]
fn rows_with_tools_take_the_template_for_tools() {
    let listed =
        json!({"chat_template": [{"name": "default", "template": "d"}, {"name": "tool_use", "template": "t{{ tools|length }}"}]});
    let offered = json!({"tools": [{"name": "f"}]});
    let texts = |tokenizer: &Tokenizer| {
        let chat = ChatTemplate::of(tokenizer).unwrap().unwrap();
        let text = |offered: &Value| {
            let messages = [json!({"role": "user", "content": "a"})];
            chat.render_with(&messages, offered.as_object().unwrap(), &ChatOptions::default()).unwrap()
        };
        [text(&json!({})), text(&offered)]
    };
    let task = Task::new(0, 0, false);
    std::fs::create_dir_all(task.at("model/additional_chat_templates")).unwrap();
    task.write("model/tokenizer.json", bpe().to_string());
    task.write("model/tokenizer_config.json", listed.to_string());
    assert_eq!(texts(&Tokenizer::from_dir(&task.at("model")).unwrap()), ["d", "t1"]);
    // A file of its own takes the list's place.
    task.write("model/chat_template.jinja", "file");
    assert_eq!(texts(&Tokenizer::from_dir(&task.at("model")).unwrap()), ["file", "file"]);
    task.write("model/additional_chat_templates/tool_use.jinja", "tools");
    let tokenizer = Tokenizer::from_dir(&task.at("model")).unwrap();
    assert_eq!(texts(&tokenizer), ["file", "tools"]);
    // A saved tokenizer says the same.
    std::fs::create_dir(task.at("saved")).unwrap();
    tokenizer.save_to(&task.at("saved")).unwrap();
    assert_eq!(texts(&Tokenizer::from_dir(&task.at("saved")).unwrap()), ["file", "tools"]);
}

/// Each with what jinja2 3.1 makes of it in the environment of transformers.
#[test]
fn templates_are_rendered_as_transformers_does() {
    let cases = [
        // The tags that transformers adds.
        ("{% for m in messages %}\n  {% generation %}\n{{ m.role }}\n  {% endgeneration %}\n{% endfor %}|", "user\nassistant\n|"),
        ("a  {%- generation -%}  x {{ 1 }}  {%- endgeneration -%}  b", "ax 1b"),
        ("{% generation %}{% set q = 1 %}{{ q }}{% endgeneration %}{{ q is defined }}", "1False"),
        (
            "{# {% generation %} #}{{ '{% generation %}' }}{% raw %}{% generation %}{% endraw %}",
            "{% generation %}{% generation %}",
        ),
        ("{% for m in messages %}{% if loop.index == 2 %}{% break %}{% endif %}{{ m.role }}{% endfor %}", "user"),
        // tojson
        ("{{ messages[0].extra | tojson }}", r#"{"b": [1, 2.5, null, 1e+20], "a": true}"#),
        ("{{ messages[0].extra | tojson(sort_keys=true) }}", r#"{"a": true, "b": [1, 2.5, null, 1e+20]}"#),
        ("{{ messages[0].extra | tojson(separators=(',', ':')) }}", r#"{"b":[1,2.5,null,1e+20],"a":true}"#),
        ("{{ [1, {}, []] | tojson(indent=2) }}", "[\n  1,\n  {},\n  []\n]"),
        (
            "{{ '<é\u{7f}\n>' | tojson }}{{ 'é\u{1f600}' | tojson(ensure_ascii=true) }}",
            "\"<é\u{7f}\\n>\"\"\\u00e9\\ud83d\\ude00\"",
        ),
        ("{{ [1.0, 1e-5, 1e16, -0.5] | tojson }}", "[1.0, 1e-05, 1e+16, -0.5]"),
        (
            "{{ [1] | tojson(indent=-1) }}|{{ [1] | tojson(indent=true) }}|{{ [1] | tojson(indent='é') }}",
            "[\n1\n]|[\n 1\n]|[\né1\n]",
        ),
        ("{{ [1] | tojson(indent=100) | length }}", "105"),
        // Numbers, as `str` and `repr` write them.
        ("{{ 1e16 }} {{ 1e-5 }} {{ 0.0001 }} {{ 1e15 }} {{ -2.5e-7 }}", "1e+16 1e-05 0.0001 1000000000000000.0 -2.5e-07"),
        ("{{ [1e16, 'a', (1e-5,), {'k': 1e22}] }}{{ 1e16 ~ '|' ~ [1e-5] }}", "[1e+16, 'a', (1e-05,), {'k': 1e+22}]1e+16|[1e-05]"),
        ("{{ [1e16, 2] | join('-') }}{{ 1e16 | string | length }}{{ messages[0].extra.b }}", "1e+16-25[1, 2.5, None, 1e+20]"),
        (
            "{{ '%s %.1f %%s %s' | format(1e16, 1e-5, 1e-5) }} {{ '{} {:.1f} {}'.format(1e16, 1e16, [1e-5]) }}",
            "1e+16 0.0 %s 1e-05 1e+16 10000000000000000.0 [1e-05]",
        ),
        // markupsafe's entities.
        ("{{ '<\\'&\\\">' | e }}{{ ('<' | escape) | e }}{{ 1e16 | e }}", "&lt;&#39;&amp;&#34;&gt;&lt;1e+16"),
        // str.title, and Jinja's filter of that name, which splits at white space and brackets only.
        ("{{ 'a,b it\\'s 3rd ǆx ßa ΑΣ'.title() }}|{{ 'a,b it\\'s x-y' | title }}", "A,B It'S 3Rd ǅx Ssa Ας|A,b It's X-Y"),
        (
            "{{ 'a\u{2028}b\\r\\nc\\rd\u{85}e\u{c}f\u{1d}\\n'.splitlines() | join(',') }}|{{ 'a\\r\\nb\u{b}'.splitlines(true) | map('length') | list }}",
            "a,b,c,d,e,f,|[3, 2]",
        ),
        ("{{ ''.splitlines() }}{{ 'a\\n\\nb'.splitlines(keepends=true) | length }}", "[]3"),
        // Python's methods.
        (
            "{{ 'a,b,c'.rsplit(',', 1) }}{{ ' a  b '.rsplit() }}{{ ' a  b c '.rsplit(none, 1) }}",
            "['a,b', 'c']['a', 'b'][' a  b', 'c']",
        ),
        ("{{ messages[1].content.split('</think>')[-1].lstrip('\n') }}", "ok"),
        ("{{ 'x'.ljust(3) }}|{{ 'ab'.center(5, '*') }}|{{ '-5'.zfill(4) }}|{{ 'abc'.removeprefix('a') }}", "x  |**ab*|-005|bc"),
        ("{% for k, v in messages[0].extra.items() %}{{ k }};{% endfor %}{{ messages[0].get('no', 3) }}", "b;a;3"),
        ("{{ 'abcdef'[::-2] }}{{ 'abc'[0:2:-1] }}{{ [1, 2, 3][-2:] }}{{ messages[1:] | length }}", "fdb[2, 3]1"),
        // Values that are measured on their way come out as they were.
        (
            "{% set x %}a{{ 1 + 1 }}b{% endset %}{{ x ~ x }}{{ 'a' * 3 }}{{ [1] * 2 + [3] }}{{ 7 // 2 }}{{ 1 < 2 < 3 }}",
            "a2ba2baaa[1, 1, 3]3True",
        ),
        ("{% macro r(n) %}{{ n }}{% if n > 0 %}{{ r(n - 1) }}{% endif %}{% endmacro %}{{ r(8) }}", "876543210"),
        (
            "{% for x in [[1, [2]], 3] recursive %}{% if x is iterable %}({{ loop(x) }}){% else %}{{ x }}{% endif %}{% endfor %}",
            "(1(2))3",
        ),
        (
            "{% set ns = namespace(n=0) %}{% for m in messages[::-1] %}{% set ns.n = ns.n + loop.index %}{% endfor %}{{ ns.n }}",
            "3",
        ),
        (
            "{{ messages | map(attribute='role') | join(', ') }}{{ messages | selectattr('role', 'equalto', 'user') | list | length }}",
            "user, assistant1",
        ),
        (
            "{{ '%s-%03d' | format('a', 5) }}{{ '{}:{:>4}'.format('a', 5) }}{{ 'year 2000000 {:,}'.format(1234567) }}",
            "a-005a:   5year 2000000 1,234,567",
        ),
    ];
    for (source, text) in cases {
        assert_eq!(render(source, &ChatOptions::default()).as_deref(), Ok(text), "{source}");
    }
}

/// Templates that would take all memory, all time, or the stack.
#[test]
fn templates_are_bounded() {
    let many = |text: &str| text.repeat(20_000);
    let grow = |step: &str| {
        format!(
            "{{% set ns = namespace(s=['x']) %}}{{% for i in range(100) %}}{{% set ns.s = {step} %}}{{% endfor %}}{{{{ ns.s }}}}"
        )
    };
    let cases = [
        "{% set n = namespace() %}{% set n.x = n %}{{ n }}".into(),
        "{% set n = namespace() %}{% set n.x = n %}{{ n ~ '' }}{{ n | tojson }}".into(),
        format!("{{{{ {}1 }}}}", many("-")),
        format!("{{{{ {}1 }}}}", many("not ")),
        format!("{{{{ {}1 }}}}", many("1 + ")),
        format!("{{{{ {}1 }}}}", many("1 if 1 else ")),
        format!("{{{{ a{} }}}}", many(".b")),
        format!("{{{{ a{} }}}}", many("|e")),
        format!("{{{{ {}1 }}}}", many("(")),
        format!("{{{{ {} }}}}", many("[")),
        many("{% if 1 %}"),
        format!("{{% if 0 %}}{}{{% endif %}}", many("{% elif 0 %}")),
        "x".repeat(2 << 20),
        "{{ '%.70000f' | format(1) }}".into(),
        "{{ '%198552928498616606d' | format(1) }}".into(),
        "{{ '%*d' | format(1985529284, 1) }}".into(),
        "{{ '{:198552928498616606}'.format(1) }}".into(),
        "{{ '{:{}}'.format(1, 1985529284) }}".into(),
        "{{ [1] | batch(1000000000, 2) }}".into(),
        "{{ [1] | slice(1000000000) }}".into(),
        "{{ 'a' | indent(1000000000) }}".into(),
        "{{ 'a'.center(1000000000) }}".into(),
        "{{ [1] | tojson(indent=10**9) }}".into(),
        "{{ [1] | tojson(indent=10001) }}".into(),
        "{{ [1] | tojson(indent=1.5) }}".into(),
        "{{ (range(2000) | list) | tojson(indent=10000) }}".into(),
        "{{ (range(2000) | list) | tojson(indent='x' * 10000) }}".into(),
        "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}".into(),
        "{{ 'x' * 1000000000 }}".into(),
        "{% set n = 10 ** 9 %}{{ 'x' * n }}".into(),
        "{% set n = 90000000 %}{{ (1, 2) * n }}".into(),
        "{% set n = 90000000 %}{{ ([1] * n) | length }}".into(),
        grow("ns.s ~ ns.s"),
        grow("ns.s + ns.s"),
        grow("[ns.s, ns.s]"),
        format!("{{% for i in range(9) %}}{}{{% endfor %}}", grow("[ns.s]").replace("range(100)", "range(100000)")),
        "{% set ns = namespace(s='x') %}{% for i in range(60) %}{% set x %}{{ ns.s }}{{ ns.s }}{% endset %}{% set ns.s = x %}{% endfor %}".into(),
        format!("{{% set x %}}{{% for i in range(100000) %}}{}{{% endfor %}}{{% endset %}}", "y".repeat(100_000)),
        "{% set s = 'a' * 10000 %}{{ s.replace('a', s) }}".into(),
        "{% set s = 'a' * 10000 %}{{ s | replace('', s) }}".into(),
        "{% set s = 'a' * 10000 %}{{ s | list | join(s) }}".into(),
        "{% macro m(n) %}{{ m(n) }}{% endmacro %}{{ m(1) }}".into(),
        "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}".into(),
        "{% include 'chat' %}".into(),
    ];
    let mut messages = Messages::new("text-templates");
    for source in cases {
        let source: String = source;
        let shown = &source[..source.len().min(100)];
        let error = render(&source, &ChatOptions::default()).expect_err(shown);
        assert!(error.starts_with("chat template: ") && error.len() < 400, "{error}");
        messages.add(shown, &error);
    }
    messages.check();
}

#[test]
fn a_template_that_states_the_date_has_one() {
    let on = |day: &str| ChatOptions { date: Some(Date::parse(day).unwrap()), ..ChatOptions::default() };
    let format = "{{ strftime_now('%d %b %Y %j %-d %H:%M:%S.%f %p %a %A %B %y %m %U %w %%|%Z|%z|%c') }}";
    // datetime(2024, 2, 29).strftime(…)
    let python = "29 Feb 2024 060 29 00:00:00.000000 AM Thu Thursday February 24 02 08 4 %|||Thu Feb 29 00:00:00 2024";
    assert_eq!(render(format, &on("2024-02-29")).as_deref(), Ok(python));
    let needs = |source: &str| ChatTemplate::new(source.into(), Default::default()).unwrap().needs_date();
    assert!(needs("{{ strftime_now('%d') }}") && needs("{% macro m() %}{{ strftime_now('%d') }}{% endmacro %}{{ m() }}"));
    let guarded = "{% if strftime_now is defined %}{{ strftime_now('%d') }}{% else %}26 Jul 2024{% endif %}";
    assert!(!needs(guarded) && !needs("{{ messages }}"));
    assert_eq!(render(guarded, &ChatOptions::default()).as_deref(), Ok("26 Jul 2024"));
    assert_eq!(render("{{ strftime_now('Timezone: %Y') }}", &on("2024-02-29")).as_deref(), Ok("Timezone: 2024"));
    assert!(render("{{ strftime_now('%Q') }}", &on("2024-02-29")).unwrap_err().contains("not supported"));
}

/// Trained and scored with one day, which is said once and can be set.
#[test]
fn the_date_of_a_judge_is_kept() {
    let task = Task::new(8, 3, false);
    let chat = "{{ messages[0].content }}{% if strftime_now('%Y') == '1999' %} bos{% endif %}";
    write(task.at("words").join("chat_template.jinja"), chat);
    let check = |more: &[&str]| {
        succeed(task.jurist(&[&["data", "check", "train.jsonl", "--tokenizer", "words", "--skip-bad"], more].concat()))
    };
    let said = "the chat template states the date: ";
    assert!(check(&[]).err.contains(said));
    assert!(!check(&["--date", "1999-12-31"]).err.contains(said));
    assert!(!check(&["--chat", "never"]).err.contains(said));
    let bad = finish(task.jurist(&["data", "check", "train.jsonl", "--tokenizer", "words", "--date", "1999-02-29"]));
    assert!(bad.code == Some(2) && bad.err.contains("is no date"), "{}", bad.err);

    succeed(task.train("out", &["--max-steps", "1", "--date", "1999-12-31", "--method", "raft"]));
    let judge: Value = serde_json::from_str(&task.read("out/judge.json")).unwrap();
    assert_eq!(judge["date"], "1999-12-31");
    let scored = succeed(task.jurist(&["score", "--model", "out", "--input", "dev.jsonl"]));
    assert!(!scored.err.contains(said), "{}", scored.err);
    let other = succeed(task.jurist(&["score", "--model", "out", "--input", "dev.jsonl", "--date", "2020-01-01"]));
    assert_ne!(lines(&scored.out)[0]["judge"]["expected"], lines(&other.out)[0]["judge"]["expected"]);
}

#[test]
fn scales_may_begin_with_a_minus() {
    let task = Task::new(0, 0, false);
    task.write("rows.jsonl", "{\"prompt\": \"a\", \"score\": -1}\n{\"prompt\": \"b\", \"score\": 0.5}\n");
    task.write("verdicts.csv", "human,judge\n-1,0\n0,0\n1,1\n0.5,1\n");
    for scale in ["-1..1", "-1,0,1", "-1..1:0.5", "-2..2=-1..1"] {
        succeed(task.jurist(&["data", "check", "rows.jsonl", "--scale", scale]));
        let agree = ["agree", "verdicts.csv", "--human", "human", "--judge", "judge", "--resamples", "10", "--scale", scale];
        succeed(task.jurist(&agree));
        let files = ["--model-name-or-path", "m", "--train-file", "rows.jsonl", "--output-dir", "out"];
        let asked = ["train", "--print-config", "--scale", scale, "--phrase", "- score: "];
        let printed = succeed(task.jurist(&[&asked[..], &files].concat()));
        assert!(printed.out.contains(&format!("scale = \"{scale}\"")) && printed.out.contains("- score: "), "{}", printed.out);
    }
    let done = finish(task.jurist(&["score", "--model", "nowhere", "--input", "rows.jsonl", "--scale", "-1..1"]));
    assert!(done.err.contains("nowhere"), "{}", done.err);
}

#[test]
fn ids_that_mean_no_token_are_no_token() {
    let base: Files = Files::from([("tokenizer.json".to_string(), bpe().to_string().into_bytes())]);
    let eos = |file: &str, config: Value| {
        let mut files = base.clone();
        files.insert(file.into(), config.to_string().into_bytes());
        Tokenizer::from_files(files).map(|tokenizer| (tokenizer.eos_ids().to_vec(), tokenizer.bos_id()))
    };
    for file in ["config.json", "generation_config.json"] {
        assert_eq!(eos(file, json!({"eos_token_id": -1, "bos_token_id": -1})).unwrap(), (vec![], None));
        assert_eq!(eos(file, json!({"eos_token_id": [-1, 5, null]})).unwrap(), (vec![5], None));
        assert_eq!(eos(file, json!({"eos_token_id": [], "bos_token_id": null})).unwrap(), (vec![], None));
        assert!(eos(file, json!({"eos_token_id": -7})).unwrap_err().to_string().contains("`eos_token_id` is -7"));
    }
}

/// One row of three has a token that the model has no embedding for.
#[test]
fn a_token_beyond_the_embedding_is_its_rows_error() {
    let task = Task::new(8, 3, false);
    succeed(task.train("out", &["--max-steps", "1", "--method", "raft"]));
    let file = task.at("out").join("tokenizer.json");
    let mut tokenizer: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    let words = tokenizer["model"]["vocab"].as_object().unwrap().len();
    tokenizer["model"]["vocab"]["zzz"] = json!(words.max(97));
    write(&file, tokenizer.to_string());
    let mut rows = lines(&task.read("dev.jsonl"));
    rows[1]["prompt"] = json!(format!("{} zzz", rows[1]["prompt"].as_str().unwrap()));
    task.write("rows.jsonl", rows.iter().map(|row| row.to_string() + "\n").collect::<String>());
    let done = succeed(task.jurist(&["score", "--model", "out", "--input", "rows.jsonl"]));
    let judged = lines(&done.out);
    assert_eq!(judged.len(), 3);
    let error = judged[1]["judge"]["error"].as_str().unwrap();
    assert!(error.contains("`zzz`") && error.contains("embedding"), "{error}");
    let before = lines(&succeed(task.jurist(&["score", "--model", "out", "--input", "dev.jsonl"])).out);
    for row in [0, 2] {
        let [with, without] = [&judged, &before].map(|rows| rows[row]["judge"]["expected"].as_f64().unwrap());
        assert!((with - without).abs() < 1e-6, "{with} {without}");
    }
}

/// Names and contents of files never steer the terminal.
#[test]
fn what_a_file_says_is_printed_harmlessly() {
    let task = Task::new(0, 0, false);
    let evil = "\u{1b}[2J\u{9b}31m\u{202e}\u{7}\r";
    let name = format!("rows{}.jsonl", evil.replace('\r', ""));
    task.write(&name, json!({"prompt": evil, "score": evil, "response": evil}).to_string() + "\n{\"a\u{1b}[2J\": 1}\n");
    task.write("good.jsonl", json!({"prompt": format!("a {evil}"), "score": 3, evil: 1}).to_string() + "\n");
    task.write("verdicts.csv", format!("human,{evil}\n1,x{evil}\n2,2\n"));
    task.write("mine.jinja", format!("{{{{ raise_exception('{}') }}}}", evil.replace('\r', "")));
    let runs: [&[&str]; 6] = [
        &["data", "check", &name],
        &["data", "check", "good.jsonl"],
        &["data", "check", "good.jsonl", "--template", "mine.jinja"],
        &["agree", "verdicts.csv", "--human", "human", "--judge", evil],
        &["score", "--model", evil, "--input", "good.jsonl"],
        &["train", "--config", evil],
    ];
    for args in runs {
        let done = finish(jurist_in(task.dir.path(), args));
        let steers = |c: &char| c.is_control() && !['\n', '\t'].contains(c) || *c == '\u{202e}';
        assert_eq!(done.err.chars().find(steers), None, "{args:?}: {}", done.err);
        assert_eq!(done.out.chars().find(steers), None, "{args:?}: {}", done.out);
    }
}

fn jurist_in(dir: &Path, args: &[&str]) -> std::process::Command {
    let mut command = jurist(args);
    command.current_dir(dir);
    command
}
