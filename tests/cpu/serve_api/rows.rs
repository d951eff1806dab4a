//! `/v1/judge`: rows in, judgements out.

use serde_json::{Value, json};

use super::{Server, Setup, calibration, near};
use crate::http;

fn row(response: &str) -> Value {
    json!({"rubric": "tone", "response": response})
}

#[test]
fn one_row_or_many() {
    let server = Server::start(Setup::default());
    let one = server.post("/v1/judge", &row("good good")).json();
    assert_eq!(one["object"], "judgement");
    near(&one["judge"]["expected"], 3.2);
    let keys: Vec<&str> = one["judge"].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, ["expected", "decoded", "probs", "mass", "feedback", "forced", "error"]);
    assert_eq!((one["how"]["chains"].as_u64(), one["how"]["temperature"].as_f64()), (Some(1), Some(0.0)));
    // As the body of a row, in a list, as lines, and beside options: the same.
    let rows = [row("good good"), row("bad"), json!({"other": 1}), row("refuse")];
    let list = server.post("/v1/judge", &json!(rows)).json();
    let lines = rows.iter().map(|row| row.to_string() + "\n").collect::<String>();
    let of_lines = http::ask(&server.address, "POST", "/v1/judge", "", lines.as_bytes()).json();
    let of_object = server.post("/v1/judge", &json!({"rows": rows, "chains": 1})).json();
    assert_eq!((&list["data"], &list["data"]), (&of_lines["data"], &of_object["data"]));
    assert_eq!(list["data"][0]["judge"], one["judge"]);
    near(&list["data"][1]["judge"]["expected"], 1.2);
    for (n, says) in [(2, "row 3: "), (3, "row 4: the row is too long")] {
        let judge = &list["data"][n]["judge"];
        assert!(judge["expected"].is_null() && judge["error"].as_str().unwrap().starts_with(says), "{judge}");
    }
    // A single row that cannot be judged is an error.
    for (row, says) in [(json!({"other": 1}), "the row: "), (row("refuse"), "too long")] {
        let refused = server.post("/v1/judge", &row);
        assert!(refused.status == 400 && refused.error().contains(says), "{}", refused.text());
    }
}

#[test]
fn options_are_the_flags_of_score() {
    let server = Server::start(Setup::default());
    let ask = |more: Value| {
        let mut body = json!({"rows": [row("good"), row("good")]});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        server.post("/v1/judge", &body)
    };
    let feedback = |more: Value| -> Vec<String> {
        let answer = ask(more).json();
        answer["data"].as_array().unwrap().iter().map(|row| row["judge"]["feedback"].as_str().unwrap().to_string()).collect()
    };
    // Each row has random numbers of its own, by its place.
    assert_eq!(feedback(json!({"temperature": 1, "seed": 1})), ["clear tone weak", "weak tone dull"]);
    let several = ask(json!({"chains": 3})).json();
    assert_eq!((several["data"][0]["chains"].as_array().unwrap().len(), several["how"]["temperature"].as_f64()), (3, Some(1.0)));
    assert_eq!(feedback(json!({"max_completion_length": 1})), ["fine", "fine"]);
    for (more, says) in [
        (json!({"chain": 3}), "`chain` is unknown"),
        (json!({"chains": 0}), "`chains` is 0"),
        (json!({"expectation": "half"}), "renormalised or full"),
        (json!({"rows": []}), "has no rows"),
        (json!({"rows": 3}), ""),
    ] {
        let refused = ask(more.clone());
        assert!(refused.status == 400 && refused.error().contains(says), "{more}: {}", refused.text());
    }
}

/// A calibrated judge says what people would give, of rows that are judged as those were that calibrated it.
#[test]
fn a_calibrated_judge() {
    let server = Server::start(Setup { calibration: Some(calibration()), ..Setup::default() });
    let one = server.post("/v1/judge", &row("good good")).json();
    // The judge says 3.2, and people 1 + 0.5 · 3.2.
    let expected = |low: f64, high: f64| json!({"score": 2.6, "low": low, "high": high, "level": 0.9});
    let calibrated = |judgement: &Value| {
        let mut found = judgement["calibrated"].clone();
        near(&found["score"], 2.6);
        found["score"] = json!(2.6);
        found
    };
    assert_eq!(calibrated(&one["judge"]), expected(2.0, 3.0));
    assert!(one["chains"][0].get("calibrated").is_none(), "a calibration is of the whole row");
    // Of a known kind, and of one that no label came from.
    for (task, low, high) in [("easy", 3.0, 3.0), ("new", 1.0, 5.0)] {
        let mut of_kind = row("good good");
        of_kind["task"] = json!(task);
        let mut expected = expected(low, high);
        expected["group"] = json!(task);
        assert_eq!(calibrated(&server.post("/v1/judge", &of_kind).json()["judge"]), expected);
    }
    let without = |more: Value| {
        let mut body = json!({"row": row("good good")});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let judge = server.post("/v1/judge", &body).json()["judge"].clone();
        near(&judge["expected"], 3.2);
        assert!(judge.get("calibrated").is_none(), "{more}: {judge}");
    };
    [json!({"chains": 2}), json!({"expectation": "full"}), json!({"max_completion_length": 1})].into_iter().for_each(without);
    // In a chat: of the columns of its template, and not of other messages.
    let judged = |more: &Value| server.chat("good good", more).json()["choices"][0]["jurist"].clone();
    assert_eq!(calibrated(&judged(&json!({"metadata": row("good good")}))), expected(2.0, 3.0));
    let other = judged(&json!({}));
    assert!(other["expected"].is_number() && other.get("calibrated").is_none(), "{other}");
}
