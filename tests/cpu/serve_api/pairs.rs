//! `/v1/pair`: rows with two responses in, the better one out.

use serde_json::{Value, json};

use super::{Server, Setup, near};
use crate::http;

fn pair(a: &str, b: &str) -> Value {
    json!({"rubric": "tone", "instruction": "score", "response_a": a, "response_b": b})
}

#[test]
fn one_pair_or_many() {
    let server = Server::start(Setup::default());
    let one = server.post("/v1/pair", &pair("good good", "bad")).json();
    assert_eq!((&one["object"], &one["how"]["responses"]), (&json!("comparison"), &json!("alone")));
    let found = &one["pair"];
    // Scores of 3 (0.8) or 4, and of 1 (0.8) or 2.
    assert_eq!((&found["winner"], &found["error"]), (&json!("A"), &Value::Null));
    near(&found["probs"]["a"], 1.0);
    near(&found["difference"], 2.0);
    near(&found["a"]["expected"], 3.2);
    near(&found["b"]["expected"], 1.2);
    let close = server.post("/v1/pair", &pair("good", "good good")).json();
    // 2 or 3 against 3 or 4: a tie where both are 3.
    near(&close["pair"]["probs"]["tie"], 0.2 * 0.8);
    near(&close["pair"]["probs"]["b"], 1.0 - 0.16);
    assert_eq!(close["pair"]["winner"], "B");
    assert_eq!(server.post("/v1/pair", &pair("good", "good")).json()["pair"]["winner"], "tie");

    // In a list, as lines, beside options, and in the layouts of others: the same.
    let bench = json!({"prompt": "score", "rubric": "tone", "chosen": "good good", "rejected": "bad", "subset": "chat"});
    let rows = [pair("good good", "bad"), bench, json!({"other": 1}), pair("refuse", "good"), pair("bad", "good good")];
    let list = server.post("/v1/pair", &json!(rows)).json();
    let lines = rows.iter().map(|row| row.to_string() + "\n").collect::<String>();
    let of_lines = http::ask(&server.address, "POST", "/v1/pair", "", lines.as_bytes()).json();
    let of_object = server.post("/v1/pair", &json!({"rows": rows, "chains": 1})).json();
    assert_eq!((&list["data"], &list["data"]), (&of_lines["data"], &of_object["data"]));
    let winners: Vec<&Value> = list["data"].as_array().unwrap().iter().map(|row| &row["pair"]["winner"]).collect();
    assert_eq!(winners, [&json!("A"), &json!("A"), &Value::Null, &Value::Null, &json!("B")]);
    for (n, says) in [(2, "row 3: field `response_a`: the row has no pair of responses"), (3, "row 4: the row is too long")] {
        let error = list["data"][n]["pair"]["error"].as_str().unwrap();
        assert!(error.starts_with(says), "{error}");
    }
    assert_eq!(list["usage"]["prompt_tokens"].as_u64().unwrap() % 2, 0);
}

/// Both responses have the random numbers of their pair's place, as on the page.
#[test]
fn both_responses_have_one_seed() {
    let server = Server::start(Setup::default());
    let rows = [pair("good", "bad"), pair("good", "bad")];
    let answer = server.post("/v1/pair", &json!({"rows": rows, "temperature": 1, "seed": 1})).json();
    let chain = |n: usize, side: &str| answer["data"][n]["pair"][side]["feedback"].as_str().unwrap().to_string();
    assert_eq!([chain(0, "a"), chain(0, "b")], ["clear tone weak", "clear tone weak"]);
    assert_eq!([chain(1, "a"), chain(1, "b")], ["weak tone dull", "weak tone dull"]);
}

#[test]
fn what_is_no_pair_is_refused() {
    let server = Server::start(Setup { queue: 8, ..Setup::default() });
    for (body, says) in [
        (json!({"rubric": "tone", "response": "good"}), "the row has no pair of responses"),
        (json!({"chosen": "x", "rejected": "y", "rubric": "tone"}), "a pair of responses without what was asked"),
        (json!({"response_a": "x", "response_b": "y"}), "`rubric`"),
        (json!({"row": pair("good", "bad"), "given_chains": true}), "`given_chains` is unknown"),
        (json!({"row": pair("good", "bad"), "chains": 0}), "`chains` is 0"),
        (json!(vec![pair("good", "bad"); 5]), "the request has 5 rows; send at most 4 at a time"),
        (pair("refuse", "good"), "too long"),
    ] {
        let refused = server.post("/v1/pair", &body);
        assert!(refused.status == 400 && refused.error().contains(says), "{}", refused.text());
    }
    let metrics = server.get("/metrics").text();
    assert!(metrics.contains("endpoint=\"/v1/pair\""), "{metrics}");
}
