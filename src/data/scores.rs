//! Scores in cells: a number, a word of the scale, nothing, or a list of these with one entry per annotator.

use serde_json::Value;

/// Texts that stand for a missing score.
const MISSING: [&str; 6] = ["", "nan", "null", "none", "na", "n/a"];

/// Words of two, of which the first belongs to `true` and the other to `false`.
const GOOD: [&str; 9] = ["pass", "passed", "yes", "true", "correct", "right", "good", "ok", "accept"];
const BAD: [&str; 9] = ["fail", "failed", "no", "false", "incorrect", "wrong", "bad", "poor", "reject"];

/// The score in one value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum ScoreValue {
    Score(f64),
    /// Null, NaN, or an empty text.
    Missing,
    /// Anything else.
    Other,
}

/// Maps a word to the score that it stands for, such as "pass". Receives "true" and "false" too.
pub type WordScores<'w> = dyn Fn(&str) -> Option<f64> + 'w;

/// The words of a scale with their values, for labels that are words. Empty: labels are numbers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LabelWords {
    texts: Vec<String>,
    values: Vec<f64>,
}

impl LabelWords {
    /// The words `texts`, which stand for `values`.
    pub fn new(texts: &[String], values: &[f64]) -> Self {
        LabelWords { texts: texts.to_vec(), values: values.to_vec() }
    }

    /// The value of a word; see [`word_value`].
    pub fn value_of(&self, word: &str) -> Option<f64> {
        word_value(&self.texts, &self.values, word)
    }

    /// What a label may be instead of `found`, for messages.
    pub(super) fn instead_of(&self, found: &Value) -> String {
        let has_words = self.texts.iter().any(|text| text.parse::<f64>().is_err());
        let is_word = found.is_boolean() || found.as_str().is_some_and(|text| text.trim().parse::<f64>().is_err());
        match (has_words, is_word) {
            (true, _) => format!("make it {} or a finite number", self.texts.join(", ")),
            (false, true) => "make it a finite number, or say what words stand for, as in --scale bad,ok,good=0,1,2".into(),
            (false, false) => "make it a finite number".into(),
        }
    }
}

/// The value of the word `word` among `texts`, each of which stands for one of `values`; case is ignored unless that is
/// ambiguous. If there are just the values 0 and 1, `true` is 1 and `false` is 0, unless the words say the reverse.
pub fn word_value(texts: &[String], values: &[f64], word: &str) -> Option<f64> {
    if let Some(index) = texts.iter().position(|text| text == word) {
        return Some(values[index]);
    }
    let lower = word.to_lowercase();
    let mut matches = (0..texts.len()).filter(|index| texts[*index].to_lowercase() == lower);
    let truth_values = || {
        let word = |value: f64| values.iter().position(|own| *own == value).map(|at| texts[at].to_lowercase());
        let [zero, one] = [0.0, 1.0].map(word);
        let reversed = |zero: &String, one: &String| GOOD.contains(&zero.as_str()) || BAD.contains(&one.as_str());
        values.len() == 2 && zero.zip(one).is_some_and(|(zero, one)| !reversed(&zero, &one))
    };
    match (matches.next(), matches.next(), lower.as_str()) {
        (Some(index), None, _) => Some(values[index]),
        (None, _, "true" | "false") if truth_values() => Some(f64::from(u8::from(lower == "true"))),
        _ => None,
    }
}

/// The score in a JSON value.
pub(super) fn score_in(value: &Value, words: &WordScores) -> ScoreValue {
    match value {
        Value::Null => ScoreValue::Missing,
        Value::String(text) => score_in_text(text, words),
        Value::Bool(truth) => words(if *truth { "true" } else { "false" }).map_or(ScoreValue::Other, ScoreValue::Score),
        Value::Number(number) => number.as_f64().filter(|n| n.is_finite()).map_or(ScoreValue::Other, ScoreValue::Score),
        Value::Array(_) | Value::Object(_) => ScoreValue::Other,
    }
}

/// The score in a text.
pub(super) fn score_in_text(text: &str, words: &WordScores) -> ScoreValue {
    let text = text.trim();
    match (text.parse::<f64>(), words(text)) {
        (Ok(number), _) if number.is_finite() => ScoreValue::Score(number),
        (_, Some(value)) => ScoreValue::Score(value),
        _ if MISSING.contains(&text.to_lowercase().as_str()) => ScoreValue::Missing,
        _ => ScoreValue::Other,
    }
}

/// The mean of scores, even if their sum overflows. NaN for an empty list.
pub(super) fn mean_score(scores: &[f64]) -> f64 {
    let (sum, count) = (scores.iter().sum::<f64>(), scores.len() as f64);
    if sum.is_finite() { sum / count } else { scores.iter().map(|score| score / count).sum() }
}

/// A list, or a text that contains one (as in CSV) in the notation of JSON, Python or numpy.
pub(super) fn as_list(value: &Value) -> Option<Vec<Value>> {
    match value {
        Value::Array(list) => Some(list.clone()),
        Value::String(text) => parse_list(text),
        _ => None,
    }
}

pub(super) fn parse_list(text: &str) -> Option<Vec<Value>> {
    let inside = text.trim().strip_prefix('[')?.strip_suffix(']')?;
    if inside.trim().is_empty() {
        return Some(Vec::new());
    }
    let item = |item: &str| Value::from(item.trim().trim_matches(['"', '\'']));
    Some(inside.split(',').map(item).collect())
}

/// A [`WordScores`] without words.
pub(super) fn no_words(_: &str) -> Option<f64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// `true` is the better word, so a scale that names it first has no place for it.
    #[test]
    fn truth_values_are_not_read_in_reverse() {
        let value = |texts: [&str; 2], word: &str| word_value(&texts.map(String::from), &[0.0, 1.0], word);
        assert_eq!((value(["fail", "pass"], "true"), value(["fail", "pass"], "False")), (Some(1.0), Some(0.0)));
        assert_eq!(value(["left", "right hand"], "true"), Some(1.0));
        for texts in [["pass", "fail"], ["Yes", "No"], ["correct", "incorrect"], ["ok", "other"]] {
            assert_eq!((value(texts, "true"), value(texts, "false")), (None, None), "{texts:?}");
        }
        assert_eq!(value(["true", "false"], "true"), Some(0.0), "a word of the scale is that word");
    }

    #[test]
    fn words_have_values() {
        let texts = ["fail", "Pass"].map(String::from);
        let words = LabelWords::new(&texts, &[0.0, 1.0]);
        for (word, value) in [("fail", Some(0.0)), ("PASS", Some(1.0)), ("true", Some(1.0)), ("False", Some(0.0)), ("ok", None)] {
            assert_eq!(words.value_of(word), value, "{word}");
        }
        assert_eq!(LabelWords::new(&texts, &[1.0, 2.0]).value_of("true"), None);
        let numbers = LabelWords::default();
        assert_eq!(words.instead_of(&json!("ok")), "make it fail, Pass or a finite number");
        assert_eq!(numbers.instead_of(&json!([])), "make it a finite number");
        assert!(numbers.instead_of(&json!("ok")).ends_with("as in --scale bad,ok,good=0,1,2"));
    }

    #[test]
    fn scores_are_read_from_values_and_texts() {
        let words = |word: &str| (word == "pass").then_some(1.0);
        for (value, expected) in [
            (json!(2.5), ScoreValue::Score(2.5)),
            (json!(" 4 "), ScoreValue::Score(4.0)),
            (json!("pass"), ScoreValue::Score(1.0)),
            (json!(null), ScoreValue::Missing),
            (json!("  "), ScoreValue::Missing),
            (json!("NaN"), ScoreValue::Missing),
            (json!("N/A"), ScoreValue::Missing),
            (json!("inf"), ScoreValue::Other),
            (json!("4/5"), ScoreValue::Other),
            (json!("４"), ScoreValue::Other),
            (json!("2024-01-02"), ScoreValue::Other),
            (json!(true), ScoreValue::Other),
            (json!([4]), ScoreValue::Other),
        ] {
            assert_eq!(score_in(&value, &words), expected, "{value}");
        }
        for text in ["[4, null, 5]", "[4.0, nan, 5.0]", "['4', None, '5']", " [4,,5] "] {
            let list: Vec<ScoreValue> = as_list(&text.into()).unwrap().iter().map(|item| score_in(item, &no_words)).collect();
            assert_eq!(list, [ScoreValue::Score(4.0), ScoreValue::Missing, ScoreValue::Score(5.0)], "{text}");
        }
        assert_eq!((as_list(&"[]".into()), as_list(&"4".into())), (Some(Vec::new()), None));
    }
}
