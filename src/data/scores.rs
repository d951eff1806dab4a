//! What a cell says of a score: a number, a word of the scale, nothing, or a list of those, one an annotator.

use serde_json::Value;

/// How a missing score is written in files of others.
const MISSING: [&str; 6] = ["", "nan", "null", "none", "na", "n/a"];

/// What one value says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Said {
    Score(f64),
    /// Null, NaN, or an empty text.
    Missing,
    /// Something that is no score.
    Other,
}

/// The value of a word that stands for a score, such as "pass"; of "true" and "false" too.
pub type Words<'w> = dyn Fn(&str) -> Option<f64> + 'w;

/// What a JSON value says.
pub(super) fn said(value: &Value, words: &Words) -> Said {
    match value {
        Value::Null => Said::Missing,
        Value::String(text) => said_by_text(text, words),
        Value::Bool(truth) => words(if *truth { "true" } else { "false" }).map_or(Said::Other, Said::Score),
        Value::Number(number) => number.as_f64().filter(|n| n.is_finite()).map_or(Said::Other, Said::Score),
        Value::Array(_) | Value::Object(_) => Said::Other,
    }
}

/// What a text says.
pub(super) fn said_by_text(text: &str, words: &Words) -> Said {
    let text = text.trim();
    match (text.parse::<f64>(), words(text)) {
        (Ok(number), _) if number.is_finite() => Said::Score(number),
        (_, Some(value)) => Said::Score(value),
        _ if MISSING.contains(&text.to_lowercase().as_str()) => Said::Missing,
        _ => Said::Other,
    }
}

/// The mean of scores; of large ones too, whose sum is beyond any number. NaN of none.
pub(super) fn mean_score(scores: &[f64]) -> f64 {
    let (sum, count) = (scores.iter().sum::<f64>(), scores.len() as f64);
    if sum.is_finite() { sum / count } else { scores.iter().map(|score| score / count).sum() }
}

/// A list; also one that stands in a text, as in CSV, in the words of JSON, Python or numpy.
pub(super) fn listed(value: &Value) -> Option<Vec<Value>> {
    match value {
        Value::Array(list) => Some(list.clone()),
        Value::String(text) => list_in_text(text),
        _ => None,
    }
}

pub(super) fn list_in_text(text: &str) -> Option<Vec<Value>> {
    let inside = text.trim().strip_prefix('[')?.strip_suffix(']')?;
    if inside.trim().is_empty() {
        return Some(Vec::new());
    }
    let item = |item: &str| Value::from(item.trim().trim_matches(['"', '\'']));
    Some(inside.split(',').map(item).collect())
}

/// No word stands for a score.
pub(super) fn no_words(_: &str) -> Option<f64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_and_texts() {
        let words = |word: &str| (word == "pass").then_some(1.0);
        for (value, expected) in [
            (json!(2.5), Said::Score(2.5)),
            (json!(" 4 "), Said::Score(4.0)),
            (json!("pass"), Said::Score(1.0)),
            (json!(null), Said::Missing),
            (json!("  "), Said::Missing),
            (json!("NaN"), Said::Missing),
            (json!("N/A"), Said::Missing),
            (json!("inf"), Said::Other),
            (json!("4/5"), Said::Other),
            (json!("４"), Said::Other),
            (json!("2024-01-02"), Said::Other),
            (json!(true), Said::Other),
            (json!([4]), Said::Other),
        ] {
            assert_eq!(said(&value, &words), expected, "{value}");
        }
        for text in ["[4, null, 5]", "[4.0, nan, 5.0]", "['4', None, '5']", " [4,,5] "] {
            let list: Vec<Said> = listed(&text.into()).unwrap().iter().map(|item| said(item, &no_words)).collect();
            assert_eq!(list, [Said::Score(4.0), Said::Missing, Said::Score(5.0)], "{text}");
        }
        assert_eq!((listed(&"[]".into()), listed(&"4".into())), (Some(Vec::new()), None));
    }
}
