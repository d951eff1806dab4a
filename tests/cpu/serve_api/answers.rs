//! What is answered: texts, forms, streams, log-probabilities.

use serde_json::{Value, json};

use super::{Server, Setup, chat, near};

#[test]
fn a_chat_gets_chain_phrase_and_score() {
    let server = Server::start(Setup::default());
    let answer = server.chat("good good bad", &json!({})).json();
    let choice = &answer["choices"][0];
    assert_eq!(
        (choice["message"]["content"].as_str(), choice["finish_reason"].as_str()),
        (Some("fine tone clear score 3"), Some("stop"))
    );
    assert_eq!((answer["object"].as_str(), answer["model"].as_str()), (Some("chat.completion"), Some("judge")));
    near(&answer["jurist"]["expected"], 3.2);
    near(&answer["jurist"]["probs"]["3"], 0.8);
    assert_eq!(
        (answer["jurist"]["decoded"].as_f64(), answer["jurist"]["feedback"].as_str()),
        (Some(3.0), Some("fine tone clear"))
    );
    assert_eq!(answer["jurist"]["scale"], json!([1.0, 5.0]));
    assert_eq!(choice["jurist"]["expected"], answer["jurist"]["expected"]);
    assert_eq!(answer["usage"], json!({"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}));
    let again = server.chat("good good bad", &json!({})).json();
    assert!(answer["id"].as_str().unwrap().starts_with("chatcmpl-") && again["id"] != answer["id"]);
    assert_eq!(again["choices"], answer["choices"]);
    // A system's message is kept, text parts are joined.
    let parts = json!([{"role": "developer", "content": "system good"},
                       {"role": "user", "content": [{"type": "text", "text": "good "}, {"type": "text", "text": "good"}]}]);
    let answer = server.post("/v1/chat/completions", &json!({"messages": parts})).json();
    near(&answer["jurist"]["expected"], 4.2);
    assert_eq!(answer["model"], "words");
}

#[test]
fn several_answers_have_chains_of_their_own() {
    let server = Server::start(Setup::default());
    let texts = |answer: &Value| -> Vec<String> {
        let choices = answer["choices"].as_array().unwrap().iter();
        choices.map(|choice| choice["message"]["content"].as_str().unwrap().to_string()).collect()
    };
    let answer = server.chat("good", &json!({"n": 3, "seed": 1})).json();
    assert_eq!(texts(&answer), ["clear tone weak score 2", "weak tone dull score 2", "dull tone fine score 2"]);
    assert_eq!(answer["jurist"]["temperature"], 1.0);
    // Two chains an answer.
    let two = server.chat("good", &json!({"n": 2, "seed": 1, "jurist": {"chains": 2}})).json();
    assert_eq!(texts(&two), ["clear tone weak score 2", "dull tone fine score 2"]);
    assert_eq!((two["choices"][0]["jurist"]["chains"].as_u64(), two["jurist"]["chains"].as_u64()), (Some(2), Some(4)));
    assert_eq!(texts(&server.chat("good", &json!({"n": 2, "temperature": 0})).json()), ["fine tone clear score 2"; 2]);
}

#[test]
fn limits_and_stops_cut_the_answer() {
    let server = Server::start(Setup::default());
    let first = |more: Value| {
        let answer = server.chat("good", &more).json();
        let choice = &answer["choices"][0];
        (choice["message"]["content"].as_str().unwrap().to_string(), choice["finish_reason"].as_str().unwrap().to_string())
    };
    assert_eq!(first(json!({"max_tokens": 4})), ("fine tone score 2".into(), "length".into()));
    assert_eq!(first(json!({"max_completion_tokens": 2, "max_tokens": 9})), ("score 2".into(), "length".into()));
    assert_eq!(first(json!({"max_tokens": 100})).1, "stop");
    assert_eq!(first(json!({"stop": "clear"})), ("fine tone ".into(), "stop".into()));
    assert_eq!(first(json!({"stop": ["nothing", "tone"]})), ("fine ".into(), "stop".into()));
    let refused = server.chat("good", &json!({"max_tokens": 1}));
    assert!(refused.status == 400 && refused.error().contains("`max_tokens` is 1, but the phrase and the score alone take 2"));
}

#[test]
fn a_schema_is_met_by_construction() {
    let server = Server::start(Setup::default());
    let schema = json!({
        "type": "object", "additionalProperties": false, "required": ["reasoning", "score", "ok"],
        "properties": {"reasoning": {"type": "string"}, "score": {"type": "number", "minimum": 0, "maximum": 1}, "ok": {"type": "boolean"}},
    });
    let format = |schema: &Value| json!({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "strict": true, "schema": schema}}});
    let answer = server.chat("good good", &format(&schema)).json();
    let content: Value = serde_json::from_str(answer["choices"][0]["message"]["content"].as_str().unwrap()).unwrap();
    assert_eq!((content["reasoning"].as_str(), content["ok"].as_bool()), (Some("fine tone clear"), Some(true)));
    near(&content["score"], 0.55);
    assert_eq!(answer["jurist"]["threshold"], 3.0);
    // The threshold is the request's, where it has one.
    let mut strict = format(&schema);
    strict["jurist"] = json!({"threshold": 4.5});
    assert!(
        server.chat("good good", &strict).json()["choices"][0]["message"]["content"]
            .as_str()
            .unwrap()
            .ends_with("\"ok\": false}")
    );
    let two = json!({"type": "object", "required": ["a", "b"], "properties": {"a": {"type": "number"}, "b": {"type": "number"}}});
    let refused = server.chat("good", &format(&two));
    assert!(
        refused.status == 400 && refused.error().contains("cannot meet the schema: `b`: a judge has one score"),
        "{}",
        refused.text()
    );
    assert_eq!(refused.json()["error"]["param"], "response_format");
    let object = server.chat("good", &json!({"response_format": {"type": "json_object"}})).json();
    let object: Value = serde_json::from_str(object["choices"][0]["message"]["content"].as_str().unwrap()).unwrap();
    assert_eq!(object["reasoning"], "fine tone clear");
    near(&object["score"], 2.2);
    // A function that has to be called is filled in as a schema.
    let tools = json!([{"type": "function", "function": {"name": "grade", "parameters": schema}}]);
    let called = server
        .chat("good good", &json!({"tools": tools, "tool_choice": {"type": "function", "function": {"name": "grade"}}}))
        .json();
    let choice = &called["choices"][0];
    let function = &choice["message"]["tool_calls"][0]["function"];
    assert_eq!((function["name"].as_str(), choice["finish_reason"].as_str()), (Some("grade"), Some("tool_calls")));
    assert_eq!(serde_json::from_str::<Value>(function["arguments"].as_str().unwrap()).unwrap(), content);
}

#[test]
fn profiles_are_chosen_by_name() {
    let server = Server::start(Setup::default());
    let content = |model: &str| {
        let answer = server.chat("good good good", &json!({ "model": model }));
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()["choices"][0]["message"]["content"].as_str().unwrap().to_string()
    };
    let chain = "fine tone clear";
    assert_eq!(content("words@geval"), format!("{{\"reason\": \"{chain}\", \"score\": 8}}"));
    let promptfoo: Value = serde_json::from_str(&content("judge@promptfoo")).unwrap();
    near(&promptfoo["score"], 0.8);
    assert_eq!((promptfoo["pass"].as_bool(), promptfoo["reason"].as_str()), (Some(true), Some(chain)));
    assert_eq!(content("words@prometheus"), format!("{chain} [RESULT] 4"));
    assert_eq!(content("judge@inspect"), format!("{chain}\n\nGRADE: C"));
    for (name, says) in [
        ("gpt-4o", "this server has \"words\", also called \"judge\""),
        ("judge@nothing", "the profile \"nothing\" does not exist"),
    ] {
        let refused = server.chat("good", &json!({ "model": name }));
        assert!(refused.status == 404 && refused.error().contains(says), "{}", refused.text());
        assert_eq!(refused.json()["error"]["code"], "model_not_found");
    }
    let models = server.get("/v1/models").json();
    let ids: Vec<&str> = models["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap()).collect();
    assert!(ids.contains(&"words") && ids.contains(&"words@geval"), "{ids:?}");
    assert_eq!(server.get("/v1/models/words@geval").status, 200);
    assert_eq!(server.get("/v1/models/other").status, 404);
}

#[test]
fn log_probabilities_reach_every_token() {
    let server = Server::start(Setup::default());
    let answer = server.chat("good", &json!({"logprobs": true, "top_logprobs": 2})).json();
    let content = answer["choices"][0]["logprobs"]["content"].as_array().unwrap();
    let text: String = content.iter().map(|token| token["token"].as_str().unwrap()).collect();
    assert_eq!(Some(text.as_str()), answer["choices"][0]["message"]["content"].as_str());
    let score = content.last().unwrap();
    assert_eq!((score["token"].as_str(), score["top_logprobs"].as_array().unwrap().len()), (Some(" 2"), 2));
    near(&score["logprob"], 0.8f64.ln());
    assert_eq!(score["bytes"], json!([32, 50]));
    // G-Eval looks for the token that is its score, and weighs what could stand there.
    let geval = server.chat("good", &json!({"model": "judge@geval", "logprobs": true, "top_logprobs": 20})).json();
    let content = geval["choices"][0]["logprobs"]["content"].as_array().unwrap();
    let parsed: Value = serde_json::from_str(geval["choices"][0]["message"]["content"].as_str().unwrap()).unwrap();
    let text = parsed["score"].to_string();
    let score = content.iter().find(|token| token["token"].as_str() == Some(&text)).unwrap();
    let weighed =
        |token: &Value| token["token"].as_str().unwrap().parse::<f64>().unwrap() * token["logprob"].as_f64().unwrap().exp();
    let mean: f64 = score["top_logprobs"].as_array().unwrap().iter().map(weighed).sum();
    assert!((mean - 3.0).abs() < 1e-9, "2.2 of 1 to 5 is 3 of 0 to 10, and not {mean}");
    for (more, says) in [
        (json!({"top_logprobs": 2}), "needs `logprobs`"),
        (json!({"logprobs": true, "top_logprobs": 21}), "a whole number from 0 to 20"),
        (json!({"logprobs": true, "jurist": {"chains": 2}}), "those of one chain"),
    ] {
        let refused = server.chat("good", &more);
        assert!(refused.status == 400 && refused.error().contains(says), "{}", refused.text());
    }
}

#[test]
fn completions_have_their_own_shape() {
    let server = Server::start(Setup::default());
    let ask = |body: Value| server.post("/v1/completions", &body);
    let answer = ask(json!({"model": "judge", "prompt": ["good", "good good"], "logprobs": 1})).json();
    assert_eq!(answer["object"], "text_completion");
    let choices = answer["choices"].as_array().unwrap();
    assert_eq!(
        choices.iter().map(|c| c["text"].as_str().unwrap()).collect::<Vec<_>>(),
        ["fine tone clear score 2", "fine tone clear score 3"]
    );
    let logprobs = &choices[1]["logprobs"];
    assert_eq!(logprobs["tokens"], json!(["fine", " tone", " clear", " score", " 3"]));
    assert_eq!(logprobs["text_offset"], json!([0, 4, 9, 15, 21]));
    near(&logprobs["top_logprobs"][4][" 3"], 0.8f64.ln());
    // The same prompt as tokens.
    let tokens = super::tokenizer().encode("good good", true).unwrap();
    let of_tokens = ask(json!({"model": "judge", "prompt": tokens})).json();
    assert_eq!(of_tokens["choices"][0]["text"], choices[1]["text"]);
    assert_eq!(ask(json!({"prompt": [tokens, tokens]})).json()["choices"].as_array().unwrap().len(), 2);
    for (body, says) in [
        (json!({"prompt": "good", "echo": true}), "`echo` is not supported"),
        (json!({"prompt": "good", "suffix": "x"}), "`suffix` is not supported"),
        (json!({"prompt": "good", "best_of": 2}), "`best_of` is not supported"),
        (json!({"prompt": [1.5]}), "expected a text, a list of texts, or tokens"),
        (json!({"prompt": []}), "expected a text"),
        (json!({"prompt": [4_000_000_000_u64]}), ""),
        (json!({}), "has no `prompt`"),
    ] {
        let refused = ask(body.clone());
        assert!(refused.status == 400 && refused.error().contains(says), "{body}: {}", refused.text());
    }
}

#[test]
fn streams_say_the_same() {
    let server = Server::start(Setup::default());
    for more in [
        json!({}),
        json!({"model": "judge@geval"}),
        json!({"n": 2, "seed": 3}),
        json!({"stop": ["clear"]}),
        json!({"logprobs": true, "top_logprobs": 2}),
        json!({"response_format": {"type": "json_object"}}),
    ] {
        let whole = server.chat("good good slow", &more).json();
        let mut body = chat("good good slow", &more);
        body["stream"] = json!(true);
        body["stream_options"] = json!({"include_usage": true});
        let answer = server.post("/v1/chat/completions", &body);
        assert!(answer.header("content-type").unwrap().starts_with("text/event-stream"), "{}", answer.headers);
        let mut chunks = answer.chunks();
        let last = chunks.pop().unwrap();
        assert_eq!((&last["usage"], &last["choices"]), (&whole["usage"], &json!([])));
        for choice in whole["choices"].as_array().unwrap() {
            let own: Vec<&Value> =
                chunks.iter().map(|chunk| &chunk["choices"][0]).filter(|own| own["index"] == choice["index"]).collect();
            let text: String = own.iter().filter_map(|own| own["delta"]["content"].as_str()).collect();
            assert_eq!(Some(text.as_str()), choice["message"]["content"].as_str(), "{more}");
            assert!(own.len() > 2, "tokens come as they are drawn: {own:?}");
            assert_eq!(own[0]["delta"]["role"], "assistant");
            let end = own[own.len() - 1];
            assert_eq!((&end["finish_reason"], &end["jurist"]), (&choice["finish_reason"], &choice["jurist"]));
            let logprobs: Vec<&Value> = own.iter().map(|own| &own["logprobs"]).filter(|found| !found.is_null()).collect();
            assert_eq!(logprobs.first().copied().unwrap_or(&Value::Null), &choice["logprobs"]);
        }
    }
    let body = json!({"prompt": ["good slow", "slow"], "stream": true});
    let chunks = server.post("/v1/completions", &body).chunks();
    let text = |index: u64| -> String {
        let own = chunks.iter().map(|chunk| &chunk["choices"][0]).filter(|choice| choice["index"] == index);
        own.map(|choice| choice["text"].as_str().unwrap()).collect()
    };
    assert_eq!((text(0).as_str(), text(1).as_str()), ("fine tone clear score 2", "fine tone clear score 1"));
    // What cannot be judged has the status of an error, streamed or not.
    let refused = server.chat("refuse", &json!({"stream": true}));
    assert!(refused.status == 400 && refused.error().contains("too long"), "{}", refused.text());
}

#[test]
fn what_would_change_the_answer_is_refused_by_name() {
    let server = Server::start(Setup::default());
    for (more, says) in [
        (json!({"logit_bias": {"5": 1}}), "`logit_bias` is not supported"),
        (json!({"presence_penalty": 0.5}), "`presence_penalty` is not supported"),
        (json!({"functions": [{}]}), "`functions` is not supported"),
        (json!({"temperature": -1}), "`temperature` is -1; expected a number from 0 to 100"),
        (json!({"temperature": "0"}), "`temperature` is \"0\""),
        (json!({"top_p": 0}), "`top_p` is 0"),
        (json!({"n": 0}), "`n` is 0"),
        (json!({"n": 128, "jurist": {"chains": 9}}), "more than 1024 chains"),
        (json!({"stop": ["a"], "model": "judge@geval"}), "`stop` is not supported"),
        (json!({"jurist": {"chain": 3}}), "`jurist.chain` is unknown"),
        (json!({"jurist": {"threshold": 9}}), "from 1 to 5"),
        (json!({"response_format": {"type": "xml"}}), "expected text, json_object or json_schema"),
        (json!({"tool_choice": "required"}), "there are 0 functions"),
        (json!({"messages": []}), "no list of messages"),
        (json!({"messages": [{"role": "user"}]}), "`content` of message 1 is nothing"),
        (json!({"messages": [{"role": "assistant", "content": "x"}]}), "the last message is the assistant's"),
        (json!({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]}), "image_url"),
        (json!({"metadata": {"rubric": "tone"}}), "no `response`"),
        (json!({"stream": 1}), "`stream` is 1; expected true or false"),
    ] {
        let refused = server.chat("good", &more);
        assert!(refused.status == 400 && refused.error().contains(says), "{more}: {}", refused.text());
        assert_eq!(refused.json()["error"]["type"], "invalid_request_error");
    }
    // Unknown fields, and known ones that change nothing, do not matter.
    let harmless = json!({"user": "me", "store": false, "frequency_penalty": 0, "logit_bias": {}, "seed": -1, "metadata": {"run": "7"}, "top_k": -1});
    assert_eq!(server.chat("good", &harmless).status, 200);
    for body in ["", "{", "[1]", "nul"] {
        let refused = crate::http::ask(&server.address, "POST", "/v1/chat/completions", "", body.as_bytes());
        assert_eq!(refused.status, 400, "{body}: {}", refused.text());
    }
}

/// Fields in `metadata` are judged through the judge's own template.
#[test]
fn metadata_fills_the_template() {
    let server = Server::start(Setup::default());
    let answer = server.chat("bad", &json!({"metadata": {"rubric": "tone", "response": "good good"}})).json();
    near(&answer["jurist"]["expected"], 3.2);
    assert_eq!(answer["usage"]["prompt_tokens"], 6);
}
