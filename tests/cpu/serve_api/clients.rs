//! What evaluation tools send, as small requests of our own making, and what each reads in the answer.

use serde_json::{Value, json};

use super::{Server, Setup};

/// The content of the answer to a request.
#[track_caller]
fn content(server: &Server, body: &Value) -> String {
    let answer = server.post("/v1/chat/completions", body);
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["choices"][0]["message"]["content"].as_str().unwrap().to_string()
}

fn user(text: &str) -> Value {
    json!([{"role": "user", "content": text}])
}

#[test]
fn deepeval_cuts_json_out_of_the_text() {
    let server = Server::start(Setup::default());
    // Its local model: one user message, a temperature, nothing else.
    let text = content(&server, &json!({"model": "words@geval", "messages": user("good good"), "temperature": 0.0}));
    let cut = &text[text.find('{').unwrap()..=text.rfind('}').unwrap()];
    let parsed: Value = serde_json::from_str(cut).unwrap();
    assert!(parsed["reason"].is_string() && parsed["score"].as_u64().is_some_and(|score| score <= 10), "{parsed}");
    // G-Eval with log-probabilities weighs the tokens that could stand for the score.
    let body =
        json!({"model": "words@geval", "messages": user("good good"), "temperature": 0, "logprobs": true, "top_logprobs": 20});
    let answer = server.post("/v1/chat/completions", &body).json();
    let tokens = answer["choices"][0]["logprobs"]["content"].as_array().unwrap();
    let score = parsed["score"].to_string();
    assert!(tokens.iter().any(|token| token["token"].as_str() == Some(&score)));
}

#[test]
fn promptfoo_reads_reason_score_and_pass() {
    let server = Server::start(Setup::default());
    let messages = json!([{"role": "system", "content": "You are grading output according to a rubric."},
                          {"role": "user", "content": "<Output>good good good</Output> <Rubric>tone</Rubric>"}]);
    let body = json!({"model": "judge@promptfoo", "messages": messages, "max_tokens": 1024, "temperature": 0,
                      "response_format": {"type": "json_object"}});
    let parsed: Value = serde_json::from_str(&content(&server, &body)).unwrap();
    assert!(parsed["pass"].is_boolean() && parsed["reason"].is_string());
    assert!((0.0..=1.0).contains(&parsed["score"].as_f64().unwrap()), "{parsed}");
}

#[test]
fn openevals_and_langchain_send_a_strict_schema() {
    let server = Server::start(Setup::default());
    let schema = |score: Value| {
        json!({"type": "json_schema", "json_schema": {"name": "score", "strict": true, "schema": {
            "type": "object", "additionalProperties": false, "required": ["reasoning", "score"],
            "properties": {"reasoning": {"type": "string", "description": "why"}, "score": score}}}})
    };
    for (score, holds) in [
        (json!({"type": "boolean", "description": "met"}), Value::is_boolean as fn(&Value) -> bool),
        (json!({"type": "number", "description": "from 0 to 1"}), |score| {
            score.as_f64().is_some_and(|s| (0.0..=1.0).contains(&s))
        }),
        (json!({"type": "number", "enum": [0.0, 0.5, 1.0]}), |score| [0.0, 0.5, 1.0].contains(&score.as_f64().unwrap())),
    ] {
        let body = json!({"model": "judge@openevals", "messages": user("good good"), "response_format": schema(score)});
        let parsed: Value = serde_json::from_str(&content(&server, &body)).unwrap();
        assert!(parsed["reasoning"].is_string() && holds(&parsed["score"]), "{parsed}");
    }
    // with_structured_output by a function; langfuse does the same.
    let tools = json!([{"type": "function", "function": {"name": "Score", "description": "", "parameters": {
        "type": "object", "required": ["score", "reasoning"],
        "properties": {"score": {"type": "number"}, "reasoning": {"type": "string"}}}}}]);
    let body = json!({"model": "judge@langfuse", "messages": user("good"), "tools": tools, "parallel_tool_calls": false,
                      "tool_choice": {"type": "function", "function": {"name": "Score"}}});
    let answer = server.post("/v1/chat/completions", &body).json();
    let arguments = answer["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"].as_str().unwrap();
    assert!(serde_json::from_str::<Value>(arguments).unwrap()["score"].is_number());
}

#[test]
fn inspect_and_lm_eval_read_a_word_or_a_number() {
    let server = Server::start(Setup::default());
    let body = json!({"model": "judge@inspect", "messages": user("good good good"), "seed": 42, "max_tokens": 2048});
    let text = content(&server, &body);
    assert!(text.lines().any(|line| line == "GRADE: C"), "{text}");
    // lm-eval's local completions: prompts as a list of tokens, stops, a seed.
    let tokens = super::tokenizer().encode("good", true).unwrap();
    let body =
        json!({"model": "judge@number", "prompt": [tokens], "max_tokens": 256, "temperature": 0, "stop": [], "seed": 1234});
    let answer = server.post("/v1/completions", &body).json();
    assert!(answer["choices"][0]["text"].as_str().unwrap().parse::<f64>().is_ok(), "{answer}");
}

#[test]
fn prometheus_reads_the_result_behind_the_feedback() {
    let server = Server::start(Setup::default());
    let messages = json!([{"role": "system", "content": "You are a fair judge assistant."}, {"role": "user", "content": "good"}]);
    let body = json!({"model": "judge@prometheus", "messages": messages, "max_tokens": 1024, "top_p": 0.9, "temperature": 1.0,
                      "repetition_penalty": 1.0, "seed": 1});
    let text = content(&server, &body);
    let (feedback, score) = text.split_once(" [RESULT] ").unwrap();
    assert!(!feedback.is_empty() && (1..=5).contains(&score.parse::<i32>().unwrap()), "{text}");
}

/// Each snippet of the docs is a part of a script that `make clients` runs.
#[test]
fn snippets_are_those_that_are_run() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let docs = std::fs::read_to_string(root.join("docs/serve.md")).unwrap();
    let mut found = 0;
    for entry in std::fs::read_dir(root.join("scripts/clients")).unwrap() {
        let path = entry.unwrap().path();
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        for part in text.split(" docs: ").skip(1) {
            let snippet = part.split_once('\n').unwrap().1;
            let end = ["# end", "// end"].iter().filter_map(|end| snippet.find(end)).min().unwrap();
            let snippet = snippet[..end].trim_end();
            assert!(docs.contains(snippet), "{}: docs/serve.md has another\n{snippet}", path.display());
            found += 1;
        }
    }
    assert!(found >= 6, "{found} snippets");
}
