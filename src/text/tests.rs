use serde_json::json;

use super::test_files::shared_tokenizer;
use super::*;

const AWKWARD: [&str; 8] = [
    "",
    " ",
    "plain words",
    "  two  spaces\tand a tab\r\nnew line\n\n",
    "naïve café Ωmega 日本語 한국어 العربية",
    "👩‍👩‍👧 family, 🏳️‍🌈 flag",
    "x=3.14159, 1,000,000 and 2e-5",
    "zero\u{0}byte \u{feff}bom",
];

fn small_bpe(special: &SpecialTokens) -> Tokenizer {
    let texts: Vec<String> =
        (0..200).map(|i| format!("So the overall score is {}. The answer is good, the answer is bad.", i % 5)).collect();
    train_bpe(texts.iter(), 320, special).unwrap()
}

fn files(entries: &[(&str, serde_json::Value)]) -> Files {
    let mut files = small_bpe(&SpecialTokens::default()).files().clone();
    files.remove("tokenizer_config.json");
    files.extend(entries.iter().map(|(name, value)| (name.to_string(), value.to_string().into_bytes())));
    files
}

#[test]
fn bpe_training_is_lossless_and_reproducible() {
    let special = SpecialTokens::for_decoder();
    let tokenizer = small_bpe(&special);
    assert!((260..=320).contains(&tokenizer.vocab_size()));
    for text in AWKWARD {
        let ids = tokenizer.encode(text, false).unwrap();
        assert_eq!(tokenizer.decode(&ids, false).unwrap(), text);
        let mut framed = vec![tokenizer.bos_id().unwrap()];
        framed.extend(&ids);
        assert_eq!(tokenizer.encode(text, true).unwrap(), framed);
    }
    assert_eq!(tokenizer.eos_ids(), [tokenizer.token_to_id("<|eos|>").unwrap()]);
    assert_eq!(tokenizer.files(), small_bpe(&special).files(), "training twice gives other bytes");
}

#[test]
fn word_level_splits_at_white_space() {
    let special = SpecialTokens { unk: Some("<unk>".into()), pad: Some("pad".into()), ..Default::default() };
    let tokenizer = word_level(&["pad", "bos", "score", "1", "2", ","], &special).unwrap();
    assert_eq!(tokenizer.encode("bos score  2 , padding", true).unwrap(), [2, 3, 5, 6, 0]);
    assert_eq!((tokenizer.unk_id(), tokenizer.vocab_size()), (Some(0), 7));
    assert_eq!(tokenizer.decode(&[2, 3, 5], false).unwrap(), "bos score 2");
}

#[test]
fn impossible_tokenizers_are_refused() {
    let unk = SpecialTokens { unk: Some("<unk>".into()), ..Default::default() };
    let cases = [
        (word_level(&["a"], &SpecialTokens::default()), "needs an unknown token"),
        (word_level(&[], &unk), "list of words is empty"),
        (word_level(&["a", "a"], &unk), "\"a\" is listed twice"),
        (word_level(&["a b"], &unk), "holds white space"),
        (train_bpe(["a"].iter(), 100, &unk), "ask for at least 257"),
        (train_bpe(["", ""].iter(), 300, &unk), "every text is empty"),
        (train_bpe(["a"].iter(), 300, &SpecialTokens { add_bos: true, ..Default::default() }), "there is no BOS token"),
        (train_bpe(["a"].iter(), 300, &SpecialTokens { pad: Some(String::new()), ..Default::default() }), "empty text"),
        (Tokenizer::from_bytes(b"{}"), "`tokenizer.json`: "),
        (Tokenizer::from_bytes(b"\x80"), "`tokenizer.json`: "),
        (Tokenizer::from_files(Files::new()), "no `tokenizer.json` found"),
        (Tokenizer::from_files(files(&[("config.json", json!([1]))])), "`config.json`: [1]; expected a JSON object"),
        (Tokenizer::from_files(files(&[("config.json", json!({"eos_token_id": "x"}))])), "`eos_token_id` is \"x\""),
        (Tokenizer::from_files(files(&[("generation_config.json", json!({"eos_token_id": [1, -2]}))])), "`eos_token_id` is -2"),
        (Tokenizer::from_dir(std::path::Path::new("/nowhere")), "the directory does not exist"),
    ];
    for (result, message) in cases {
        let error = result.unwrap_err().to_string();
        assert!(error.contains(message), "{error}\nexpected {message}");
    }
}

#[test]
fn eos_ids_are_the_union_over_all_files() {
    let tokenizer = Tokenizer::from_files(files(&[
        ("generation_config.json", json!({"eos_token_id": [5, 7]})),
        ("config.json", json!({"eos_token_id": 7, "bos_token_id": 9})),
        ("special_tokens_map.json", json!({"eos_token": {"content": "!"}})),
    ]))
    .unwrap();
    assert_eq!(tokenizer.eos_ids(), [5, 7, tokenizer.token_to_id("!").unwrap()]);
    assert_eq!(tokenizer.bos_id(), Some(9));
    assert_eq!(
        tokenizer.files().keys().map(String::as_str).collect::<Vec<_>>(),
        ["generation_config.json", "special_tokens_map.json", "tokenizer.json"]
    );
}

#[test]
fn files_are_saved_byte_for_byte() {
    let tokenizer = Tokenizer::from_files(files(&[("chat_template.jinja", json!("x"))])).unwrap();
    let dir = tempfile::tempdir().unwrap();
    tokenizer.save_to(dir.path()).unwrap();
    assert_eq!(Tokenizer::from_dir(dir.path()).unwrap().files(), tokenizer.files());
}

#[test]
fn streaming_never_breaks_a_character() {
    let tokenizer = small_bpe(&SpecialTokens::default());
    for text in AWKWARD {
        let prompt = tokenizer.encode("before: é", false).unwrap();
        let mut stream = StreamDecoder::new(&prompt, true);
        let mut pieces = Vec::new();
        for id in tokenizer.encode(text, false).unwrap() {
            pieces.push(stream.push(&tokenizer, id).unwrap());
        }
        assert!(pieces.iter().all(|piece| !piece.contains('\u{fffd}')), "{pieces:?}");
        assert_eq!(pieces.concat() + &stream.finish(&tokenizer).unwrap(), text);
    }
    let mut cut = StreamDecoder::new(&[], true);
    let ids = tokenizer.encode("日", false).unwrap();
    assert_eq!(cut.push(&tokenizer, ids[0]).unwrap(), "");
    assert_eq!(cut.finish(&tokenizer).unwrap(), "\u{fffd}");
}

fn template(source: &str) -> Result<ChatTemplate> {
    ChatTemplate::new(source.into(), [("bos_token".to_string(), "<s>".to_string())].into())
}

fn render(source: &str) -> Result<String> {
    let messages = [json!({"role": "user", "content": "it's <b> & \"q\"", "extra": {"z": [1, 2.5, null], "a": true}})];
    template(source)?.render(&messages, &ChatOptions { date: Some(Date::parse("2024-02-29").unwrap()), ..Default::default() })
}

#[test]
fn templates_support_the_extensions_of_transformers() {
    let cases = [
        ("{{ bos_token }}{{ messages[0].content }}", "<s>it's <b> & \"q\""),
        ("{{ messages[0]['extra'] | tojson }}", r#"{"z": [1, 2.5, null], "a": true}"#),
        ("{{ messages[0].content | tojson }}", r#""it's <b> & \"q\"""#),
        ("{{ {'a': [1]} | tojson(indent=2) }}", "{\n  \"a\": [\n    1\n  ]\n}"),
        ("{% for m in messages %}\n  {% if loop.first %}\n{% break %}\n  {% endif %}\n{% endfor %}\nx\n", "x"),
        (
            "{% set ns = namespace(n=0) %}{% for m in [1,2,3] %}{% if m == 2 %}{% continue %}{% endif %}{% set ns.n = ns.n + m %}{% endfor %}{{ ns.n }}",
            "4",
        ),
        ("{{ strftime_now('%d %b %Y %A %y-%m %B') }}", "29 Feb 2024 Thursday 24-02 February"),
        ("{{ ' a '.strip().upper() }}{{ [1,2,3][::-1] }}{{ enable_thinking }}", "A[3, 2, 1]False"),
        ("{{ pad_token is defined }}", "False"),
    ];
    for (source, text) in cases {
        assert_eq!(render(source).unwrap(), text, "{source}");
    }
    let fails = [
        (
            "{{ raise_exception('System role not supported') }}",
            "chat template: System role not supported (line 1 of the template)",
        ),
        ("{% if %}", "syntax error"),
        ("{{ nothing.at.all }}", "undefined value"),
        ("{{ strftime_now('%Q') }}", "\"%Q\" has a directive that is not supported"),
    ];
    for (source, message) in fails {
        let error = render(source).unwrap_err().to_string();
        assert!(error.contains(message), "{error}\nexpected {message}");
    }
    let dateless = template("{{ strftime_now is defined }}").unwrap();
    assert_eq!(dateless.render::<()>(&[], &ChatOptions::default()).unwrap(), "False");
}

#[test]
fn templates_are_found_in_every_known_file() {
    let found = |entries: &[(&str, serde_json::Value)]| {
        let tokenizer = Tokenizer::from_files(files(entries)).unwrap();
        ChatTemplate::of(&tokenizer).map(|found| found.map(|t| t.render::<()>(&[], &ChatOptions::default()).unwrap()))
    };
    let config = |value| ("tokenizer_config.json", json!({"chat_template": value}));
    assert_eq!(found(&[]).unwrap(), None);
    assert_eq!(found(&[config(json!("a"))]).unwrap().as_deref(), Some("a"));
    let list = json!([{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]);
    assert_eq!(found(&[config(list)]).unwrap().as_deref(), Some("d"));
    assert_eq!(found(&[config(json!("a")), ("chat_template.jinja", json!("j"))]).unwrap().as_deref(), Some("\"j\""));
    let error = found(&[config(json!([{"name": "x"}, {"name": "y"}]))]).unwrap_err().to_string();
    assert!(error.contains("without a default template"), "{error}");
}

#[test]
fn only_dates_of_the_calendar_are_accepted() {
    for good in ["1970-01-01", "2000-02-29", "2026-12-31", "1999-03-01"] {
        assert!(Date::parse(good).is_ok(), "{good}");
    }
    for bad in ["2023-02-29", "2024-13-01", "2024-1", "today", "2024-04-31", "2024-01-00", ""] {
        assert!(Date::parse(bad).is_err(), "{bad}");
    }
    assert!(Date::today() != Date::parse("1970-01-01").unwrap());
}

#[test]
fn stories_tokenizer_continues_without_a_space() {
    let Some(tokenizer) = shared_tokenizer("stories260k") else { return };
    assert_eq!((tokenizer.bos_id(), tokenizer.eos_ids(), tokenizer.vocab_size()), (Some(1), &[2][..], 512));
    let whole = tokenizer.encode("Once upon a time there was", true).unwrap();
    let mut parts = tokenizer.encode("Once upon a time", true).unwrap();
    parts.extend(tokenizer.encode_continuation(" there was").unwrap());
    assert_eq!(parts, whole);
    let mut stream = StreamDecoder::new(&[1], true);
    let pieces: Vec<String> = whole[1..].iter().map(|&id| stream.push(&tokenizer, id).unwrap()).collect();
    assert_eq!(pieces.concat().trim_start(), "Once upon a time there was");
}

#[test]
fn qwen3_template_with_thinking_off() {
    let Some(tokenizer) = shared_tokenizer("qwen3-tokenizer") else { return };
    let template = ChatTemplate::of(&tokenizer).unwrap().unwrap();
    let text = template.render(&[json!({"role": "user", "content": "Hi"})], &ChatOptions::default()).unwrap();
    assert_eq!(text, "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n");
    assert_eq!(
        tokenizer.encode(&text, false).unwrap(),
        [151644, 872, 198, 13048, 151645, 198, 151644, 77091, 198, 151667, 271, 151668, 271]
    );
    assert_eq!(tokenizer.eos_ids(), [151645]);
}
