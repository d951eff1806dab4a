use super::*;
use crate::judge::{Expectation, Prediction};
use crate::serve::form::{Verdict, segments};
use serde_json::json;

const CHAIN: &str = "It says \"hi\".";

/// The answer of a judge whose expected score is 3.9 of 1 to 5, decoded 4.
fn answer(schema: &Value) -> Result<Value, String> {
    answer_with(schema, Target(None))
}

fn answer_with(schema: &Value, target: Target) -> Result<Value, String> {
    let scale: Scale = "1..5".parse().unwrap();
    let prediction = Prediction::from_probs(&scale, &[0.0, 0.1, 0.1, 0.6, 0.2]).unwrap();
    let form = compile(schema, Filler { scale: &scale, target })?;
    let expectation = Expectation::Renormalised;
    let verdict = Verdict { scale: &scale, prediction: &prediction, expectation, threshold: 3.0, chain: CHAIN, whole: "" };
    let text: String = segments(&form, &verdict).into_iter().map(|segment| segment.text).collect();
    Ok(rounded(serde_json::from_str(&text).unwrap_or_else(|e| panic!("{text}: {e}"))))
}

/// The value without the rounding of its numbers.
fn rounded(value: Value) -> Value {
    match value {
        Value::Object(fields) => fields.into_iter().map(|(name, value)| (name, rounded(value))).collect(),
        Value::Number(number) if number.is_f64() => json!((number.as_f64().unwrap() * 1e9).round() / 1e9),
        other => other,
    }
}

fn object(properties: Value, required: Value) -> Value {
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
}

#[test]
fn what_tools_ask_for() {
    let text = json!({"type": "string", "description": "why"});
    // openevals, continuous and boolean.
    let number = object(json!({"reasoning": text, "score": {"type": "number"}}), json!(["reasoning", "score"]));
    assert_eq!(answer(&number), Ok(json!({"reasoning": CHAIN, "score": 3.9})));
    let unit = answer_with(&number, Target(Some((0.0, 1.0)))).unwrap();
    assert!((unit["score"].as_f64().unwrap() - 0.725).abs() < 1e-12, "{unit}");
    let boolean = object(json!({"reasoning": text, "score": {"type": "boolean"}}), json!(["reasoning", "score"]));
    assert_eq!(answer(&boolean), Ok(json!({"reasoning": CHAIN, "score": true})));
    // Pydantic, with references, optional fields and an enum of words.
    let pydantic = json!({
        "$defs": {"Verdict": {"enum": ["fail", "pass"], "title": "Verdict", "type": "string"}},
        "properties": {
            "verdict": {"$ref": "#/$defs/Verdict"},
            "reason": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": null},
            "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
            "steps": {"type": "array", "items": {"type": "string"}},
        },
        "required": ["verdict", "reason", "note", "steps"], "title": "Answer", "type": "object",
    });
    assert_eq!(answer(&pydantic), Ok(json!({"verdict": "pass", "reason": CHAIN, "note": null, "steps": []})));
    // promptfoo's three; keys in the order of the schema.
    let three = object(
        json!({"pass": {"type": "boolean"}, "score": {"type": "number", "minimum": 0, "maximum": 1}, "reason": text}),
        json!(["pass", "score", "reason"]),
    );
    let found = answer(&three).unwrap();
    assert_eq!(found.as_object().unwrap().keys().collect::<Vec<_>>(), ["pass", "score", "reason"]);
    assert!((found["score"].as_f64().unwrap() - 0.725).abs() < 1e-12, "{found}");
}

#[test]
fn scores_are_put_where_the_schema_says() {
    let one = |schema: Value| answer(&object(json!({ "x": schema }), json!(["x"]))).map(|found| found["x"].clone());
    for (schema, expected) in [
        (json!({"type": "integer"}), json!(4)),
        (json!({"type": "integer", "minimum": 1, "maximum": 5}), json!(4)),
        (json!({"type": "integer", "minimum": 0, "maximum": 10}), json!(7)),
        (json!({"enum": [1, 2, 3, 4, 5]}), json!(4)),
        (json!({"enum": ["1", "2", "3", "4", "5"]}), json!("4")),
        (json!({"enum": [0, 0.5, 1.0]}), json!(0.5)),
        (json!({"enum": [0, 1]}), json!(1)),
        (json!({"enum": ["I", "C"]}), json!("C")),
        (json!({"enum": ["No", "Yes", null]}), json!("Yes")),
        (json!({"enum": [true, false]}), json!(true)),
        (json!({"type": ["number", "null"]}), json!(3.9)),
        (json!({"type": "string", "maxLength": 4}), json!("It s")),
        (json!({"type": "object", "properties": {"y": {"type": "integer"}}}), json!({"y": 4})),
        (json!({"allOf": [{"type": "integer"}]}), json!(4)),
    ] {
        assert_eq!(one(schema.clone()), Ok(expected), "{schema}");
    }
}

#[test]
fn what_cannot_be_met_says_why() {
    let number = json!({"type": "number"});
    let text = json!({"type": "string"});
    let recursive = json!({"type": "object", "properties": {"x": {"$ref": "#"}}, "required": ["x"]});
    for (schema, why) in [
        (json!([]), "expected an object"),
        (json!({"type": "integer"}), "`type` is not object"),
        (object(json!({}), json!([])), "no property for the score"),
        (object(json!({"a": number, "b": number}), json!(["a", "b"])), "`b`: a judge has one score"),
        (object(json!({"reason": text, "title": text}), json!(["reason", "title"])), "`title`: a judge has one text"),
        (object(json!({"a": number}), json!(["a", "b"])), "`b` is required and is no property"),
        (object(json!({"a": {"type": "number", "minimum": 2}}), json!(["a"])), "state both `minimum` and `maximum`"),
        (object(json!({"a": {"type": "number", "minimum": 2, "maximum": 1}}), json!(["a"])), "is not below"),
        (object(json!({"a": {"type": "number", "multipleOf": 0.3}}), json!(["a"])), "`multipleOf` is not supported"),
        (object(json!({"a": {"type": "string", "pattern": "x"}}), json!(["a"])), "`pattern` is not supported"),
        (object(json!({"a": {"type": "string", "minLength": 1}}), json!(["a"])), "`minLength` cannot be promised"),
        (object(json!({"a": {"type": "array", "minItems": 1}}), json!(["a"])), "no list"),
        (object(json!({"a": {"enum": ["red", "green"]}}), json!(["a"])), "no numbers, no scores"),
        (object(json!({"a": {"$ref": "#/nowhere"}}), json!(["a"])), "is not in the schema"),
        (object(json!({"a": {}}), json!(["a"])), "states no `type`"),
        (recursive, "objects deep"),
        (json!({"$ref": "#"}), "refers to itself"),
    ] {
        let found = answer(&schema).unwrap_err();
        assert!(found.contains(why), "{schema}: {found}");
    }
    // What may be left out is left out.
    let optional = object(json!({"a": number, "b": number, "c": {"type": "string", "pattern": "x"}}), json!(["b"]));
    assert_eq!(answer(&optional), Ok(json!({"b": 3.9})));
}
