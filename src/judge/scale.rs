//! The grid of scores.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{JudgeError, Result};
use crate::data::{LabelWords, word_value};

/// A label outside the scale by at most this share of its width is off by rounding and counts as its end.
const ROUNDING: f64 = 1e-9;
/// The most scores a range may have.
const LARGEST: usize = 1000;

/// A list of scores, in any order: the text generated for each, and the number it stands for.
///
/// It is written as texts, or as texts and values: `1..5`; `-1..1`; `0..100:10` (in steps of 10); `0..1:0.25`;
/// `0,1,2,3,4=0,0.25,0.5,0.75,1`; `0..4=0..1` (values evenly spaced from 0 to 1); `bad,fair,good=0,1,2`. Texts that are
/// numbers are their own values. Words alone, worst first, have the values 0, 1, 2, …: `bad,fair,good`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Scale {
    texts: Vec<String>,
    values: Vec<f64>,
    /// Indices of the scores in ascending order of their values.
    order: Vec<usize>,
}

/// A label as a distribution over the scores: the label's share of each neighbouring score, linear in the distance; or the mean
/// of several annotators' labels.
#[derive(Clone, Debug, PartialEq)]
pub struct Split {
    /// One score with weight 1 on a grid point, two between grid points, more for several annotators; `(index, weight)`,
    /// weights sum to 1.
    pub weights: Vec<(usize, f64)>,
    /// The nearest score; at equal distance the one with the larger value.
    pub nearest: usize,
}

impl Scale {
    /// A scale from its texts and values.
    ///
    /// # Errors
    /// Fewer than two scores, lists of different length, texts that are blank or equal, values that are not finite or equal.
    pub fn new(texts: Vec<String>, values: Vec<f64>) -> Result<Self> {
        let spec = || render(&texts, &values);
        let fail = |found: String, fix: &str| Err(JudgeError::Scale { spec: spec(), found, fix: fix.into() });
        if texts.len() != values.len() {
            return fail(format!("{} texts and {} values", texts.len(), values.len()), "give one value for each text");
        }
        if texts.len() < 2 {
            return fail(format!("{} score", texts.len()), "a scale needs at least two, such as 1..5");
        }
        for (i, (text, value)) in texts.iter().zip(&values).enumerate() {
            if text.trim().is_empty() || text.trim() != text {
                return fail(format!("the text {text:?}"), "a score's text has no white space around it and is not empty");
            }
            if !value.is_finite() {
                return fail(format!("the value {value} of `{text}`"), "values must be finite");
            }
            if texts[..i].contains(text) {
                return fail(format!("`{text}` is there twice"), "texts must differ");
            }
            if let Some(j) = values[..i].iter().position(|other| other == value) {
                return fail(format!("`{}` and `{text}` both stand for {value}", texts[j]), "values must differ");
            }
        }
        let mut order: Vec<usize> = (0..texts.len()).collect();
        order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
        Ok(Scale { texts, values, order })
    }

    /// The text generated for each score.
    pub fn texts(&self) -> &[String] {
        &self.texts
    }

    /// The number each score stands for.
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// Number of scores; at least two.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.texts.len()
    }

    /// Indices of the scores in ascending order of their values.
    pub fn order(&self) -> &[usize] {
        &self.order
    }

    /// The smallest value.
    pub fn min(&self) -> f64 {
        self.values[self.order[0]]
    }

    /// The largest value.
    pub fn max(&self) -> f64 {
        self.values[self.order[self.len() - 1]]
    }

    /// The values in ascending order.
    pub fn ascending(&self) -> Vec<f64> {
        self.order.iter().map(|&k| self.values[k]).collect()
    }

    /// The texts in ascending order of their values, if any of them is not a number.
    pub fn words(&self) -> Option<Vec<String>> {
        let texts: Vec<String> = self.order.iter().map(|&k| self.texts[k].clone()).collect();
        texts.iter().any(|text| text.parse::<f64>().is_err()).then_some(texts)
    }

    /// The value of a word of the scale; case is ignored unless that is ambiguous. If the scale has just the values 0 and 1,
    /// `true` is 1 and `false` is 0.
    pub fn value_of(&self, word: &str) -> Option<f64> {
        word_value(&self.texts, &self.values, word)
    }

    /// The texts with their values, for labels that are words.
    pub fn label_words(&self) -> LabelWords {
        LabelWords::new(&self.texts, &self.values)
    }

    /// The label's share of each score: all of one score, or linear shares of the two scores around it.
    ///
    /// # Errors
    /// NaN and labels outside `[min, max]`.
    pub fn split(&self, label: f64) -> Result<Split> {
        let (min, max) = (self.min(), self.max());
        let slack = (max - min) * ROUNDING;
        // No range contains NaN.
        if !(min - slack..=max + slack).contains(&label) {
            return Err(JudgeError::Label { label, min, max });
        }
        let label = label.clamp(min, max);
        // The first score at or above the label; it is the lowest score only if the label equals it.
        let above = self.order.iter().position(|&i| self.values[i] >= label).unwrap_or(self.len() - 1);
        let upper = self.order[above];
        if above == 0 || self.values[upper] == label {
            return Ok(Split { weights: vec![(upper, 1.0)], nearest: upper });
        }
        let lower = self.order[above - 1];
        let share = (label - self.values[lower]) / (self.values[upper] - self.values[lower]);
        let nearest = if share >= 0.5 { upper } else { lower };
        Ok(Split { weights: vec![(lower, 1.0 - share), (upper, share)], nearest })
    }

    /// The labels of several annotators as one distribution: the mean of their splits. Its nearest score is the one nearest to
    /// their mean.
    ///
    /// # Errors
    /// As [`Scale::split`] for each label; no labels at all.
    pub fn soft(&self, annotations: &[f64]) -> Result<Split> {
        let n = annotations.len() as f64;
        let mut shares = vec![0.0; self.len()];
        for label in annotations {
            self.split(*label)?.weights.iter().for_each(|(score, weight)| shares[*score] += weight / n);
        }
        let nearest = self.split(annotations.iter().sum::<f64>() / n)?.nearest;
        let weights = self.order.iter().filter(|i| shares[**i] > 0.0).map(|i| (*i, shares[*i])).collect();
        Ok(Split { weights, nearest })
    }
}

impl FromStr for Scale {
    type Err = JudgeError;

    fn from_str(spec: &str) -> Result<Self> {
        let fail = |found: String, fix: &str| JudgeError::Scale { spec: spec.into(), found, fix: fix.into() };
        let (texts, values) = match spec.split_once('=') {
            Some((texts, values)) => (texts, Some(values)),
            None => (spec, None),
        };
        let texts = match texts.split_once("..") {
            Some((first, last)) => range(first, last).map_err(|(found, fix)| fail(found, fix))?,
            None => texts.split(',').map(|text| text.trim().to_string()).collect::<Vec<_>>(),
        };
        let number =
            |text: &str, fix: &str| text.trim().parse::<f64>().map_err(|_| fail(format!("`{}` is no number", text.trim()), fix));
        let values = match values {
            None if texts.len() > 1 && texts.iter().all(|text| is_word(text)) => (0..texts.len()).map(|k| k as f64).collect(),
            None => {
                let fix = "give the values behind `=`, as in bad,fair,good=0,1,2";
                texts.iter().map(|text| number(text, fix)).collect::<Result<Vec<_>>>()?
            }
            Some(values) => match values.split_once("..") {
                Some((first, last)) => {
                    let fix = "values behind `=` are numbers: a list, or a range to space them evenly, as in 0..4=0..1";
                    let (first, last) = (number(first, fix)?, number(last, fix)?);
                    let steps = texts.len().max(2) - 1;
                    (0..texts.len()).map(|i| first + (last - first) * i as f64 / steps as f64).collect()
                }
                None => values.split(',').map(|v| number(v, "values behind `=` are numbers")).collect::<Result<_>>()?,
            },
        };
        // Show the scale as the user wrote it.
        Scale::new(texts, values).map_err(|error| match error {
            JudgeError::Scale { found, fix, .. } => JudgeError::Scale { spec: spec.into(), found, fix },
            other => other,
        })
    }
}

/// Whether a score's text is a word.
fn is_word(text: &str) -> bool {
    !text.is_empty() && text.parse::<f64>().is_err()
}

/// The texts of `first..last` or `first..last:step`: decimal numbers with as many places as the ends have or the step needs.
fn range(first: &str, last: &str) -> std::result::Result<Vec<String>, (String, &'static str)> {
    let (last, step) = last.split_once(':').unwrap_or((last, "1"));
    let number = |text: &str| {
        let fix = "a range goes from one number to another, such as 1..5, -1..1 or 0..1:0.25";
        Decimal::parse(text.trim()).ok_or_else(|| (format!("`{}` is no number", text.trim()), fix))
    };
    let (first, last) = (number(first)?, number(last)?);
    let not_a_step = || (format!("`{}` is no step", step.trim()), "a step is a number above 0, as in 0..100:10");
    let step = Decimal::parse(step.trim()).filter(|step| step.digits > 0).ok_or_else(not_a_step)?;
    let places = first.places.max(last.places);
    let finest = places.max(step.places);
    let (start, end, step) = (first.digits_at(finest), last.digits_at(finest), step.digits_at(finest));
    if end <= start {
        return Err((format!("{last} is not above {first}"), "write the smaller number first, as in 1..5"));
    }
    let count = (end - start) / step + 1;
    if count > LARGEST as i128 {
        return Err((format!("{count} scores"), "a scale has at most 1000"));
    }
    let score = |n| Decimal { digits: start + n * step, places: finest }.shortened(places).to_string();
    Ok((0..count).map(score).collect())
}

/// A decimal number as it was written: `digits / 10^places`.
#[derive(Clone, Copy)]
struct Decimal {
    digits: i128,
    places: u32,
}

impl Decimal {
    /// Whole numbers of 64 bits with at most nine decimal places.
    fn parse(text: &str) -> Option<Self> {
        let (whole, places) = text.split_once('.').unwrap_or((text, ""));
        let all_digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if !all_digits(whole.strip_prefix(['-', '+']).unwrap_or(whole)) || (text.contains('.') && !all_digits(places)) {
            return None;
        }
        whole.parse::<i64>().ok()?;
        let count = u32::try_from(places.len()).ok().filter(|count| *count <= 9)?;
        Some(Decimal { digits: format!("{whole}{places}").parse().ok()?, places: count })
    }

    /// The digits when written with at least this many places.
    fn digits_at(self, places: u32) -> i128 {
        self.digits * 10i128.pow(places.saturating_sub(self.places))
    }

    /// Without trailing zeros, but with at least `least` places.
    fn shortened(mut self, least: u32) -> Self {
        while self.places > least && self.digits % 10 == 0 {
            self = Decimal { digits: self.digits / 10, places: self.places - 1 };
        }
        self
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sign, one) = (if self.digits < 0 { "-" } else { "" }, 10u128.pow(self.places));
        let digits = self.digits.unsigned_abs();
        match self.places {
            0 => write!(f, "{sign}{digits}"),
            places => write!(f, "{sign}{}.{:0width$}", digits / one, digits % one, width = places as usize),
        }
    }
}

impl TryFrom<String> for Scale {
    type Error = JudgeError;

    fn try_from(spec: String) -> Result<Self> {
        spec.parse()
    }
}

impl From<Scale> for String {
    fn from(scale: Scale) -> String {
        scale.to_string()
    }
}

/// Texts and values in full, so that it parses back to the same scale: `1,2,3=1,2,3`.
impl fmt::Display for Scale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&render(&self.texts, &self.values))
    }
}

fn render(texts: &[String], values: &[f64]) -> String {
    let values: Vec<String> = values.iter().map(f64::to_string).collect();
    format!("{}={}", texts.join(","), values.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scale(spec: &str) -> Scale {
        spec.parse().unwrap()
    }

    #[test]
    fn specs_parse_and_print() {
        assert_eq!(scale("1..5").values(), [1.0, 2.0, 3.0, 4.0, 5.0]);
        assert_eq!(scale(" 0..4=0..1").values(), [0.0, 0.25, 0.5, 0.75, 1.0]);
        assert_eq!(scale("0,1,2,3,4=0,0.25,0.5,0.75,1"), scale("0..4=0..1"));
        assert_eq!(scale("-1..1").texts(), ["-1", "0", "1"]);
        assert_eq!(scale("bad, ok,good"), scale("bad,ok,good=0,1,2"));
        let words = scale("good, bad =2,-1.5");
        assert_eq!((words.min(), words.max(), words.order()), (-1.5, 2.0, &[1, 0][..]));
        for spec in ["1..5", "0..4=0..1", "a,b,c=0.1,0.2,0.30000000000000004"] {
            let first = scale(spec);
            assert_eq!(scale(&first.to_string()), first);
            let json = serde_json::to_string(&first).unwrap();
            assert_eq!(serde_json::from_str::<Scale>(&json).unwrap(), first);
        }
    }

    #[test]
    fn labels_split_linearly() {
        let scale = scale("5,1,4,2,3");
        assert_eq!(scale.split(4.0).unwrap(), Split { weights: vec![(2, 1.0)], nearest: 2 });
        let between = scale.split(4.25).unwrap();
        assert_eq!(between, Split { weights: vec![(2, 0.75), (0, 0.25)], nearest: 2 });
        assert_eq!(scale.split(2.5).unwrap().nearest, 4);
        assert_eq!(scale.split(5.0 + 1e-10).unwrap().nearest, 0);
        assert_eq!(scale.split(1.0).unwrap().weights, [(1, 1.0)]);
        for label in [0.9, 5.1, f64::NAN, f64::INFINITY] {
            let error = scale.split(label).unwrap_err().to_string();
            assert!(error.contains("outside the scale's 1 to 5"), "{error}");
        }
    }

    #[test]
    fn several_annotators_make_a_soft_label() {
        let scale = scale("1..5");
        let soft = scale.soft(&[2.0, 4.0, 4.0, 4.5]).unwrap();
        assert_eq!(soft, Split { weights: vec![(1, 0.25), (3, 0.625), (4, 0.125)], nearest: 3 });
        assert_eq!(scale.soft(&[3.0]).unwrap(), scale.split(3.0).unwrap());
        assert!(scale.soft(&[]).is_err() && scale.soft(&[1.0, 7.0]).is_err());
    }

    #[test]
    fn ranges_with_steps() {
        assert_eq!(scale("0..100:25").texts(), ["0", "25", "50", "75", "100"]);
        assert_eq!(scale("1..6:2").texts(), ["1", "3", "5"]);
        assert_eq!(scale("-1..1").texts(), ["-1", "0", "1"]);
        assert_eq!(scale("-10..-2:4").texts(), ["-10", "-6", "-2"]);
        assert_eq!(scale("0..1:0.25").texts(), ["0", "0.25", "0.5", "0.75", "1"]);
        assert_eq!(scale("-0.5..0.5:0.5").texts(), ["-0.5", "0.0", "0.5"]);
        assert_eq!(scale("1.0..2.0:0.5").texts(), ["1.0", "1.5", "2.0"]);
        assert_eq!(scale("0.5..2").texts(), ["0.5", "1.5"]);
        assert_eq!(scale("-1..1:0.5=0..1").values(), [0.0, 0.25, 0.5, 0.75, 1.0]);
        for (spec, message) in [("0..100:0", "`0` is no step"), ("0..10:x", "`x` is no step"), ("1..5:9", "1 score")] {
            let error = spec.parse::<Scale>().unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
    }

    #[test]
    fn impossible_scales_are_refused() {
        let cases = [
            ("", "`` is no number"),
            ("5", "1 score"),
            ("5..1", "1 is not above 5"),
            ("3..3", "3 is not above 3"),
            ("1..x", "`x` is no number"),
            ("1...5", "`.5` is no number"),
            ("1e1..2e1", "`1e1` is no number"),
            ("0..1:0.0000000001", "`0.0000000001` is no step"),
            ("0..1:-0.5", "`-0.5` is no step"),
            ("0..1:0.0001", "10001 scores"),
            ("0..99999", "100000 scores"),
            ("-9223372036854775808..9223372036854775807", "18446744073709551616 scores"),
            ("99999999999999999999..1", "is no number"),
            ("bad,3", "give the values behind `=`"),
            ("bad,,good", "`bad` is no number"),
            ("1,1", "`1` is there twice"),
            ("1,,3", "`` is no number"),
            ("a,,c=1,2,3", "the text \"\""),
            ("a,b=1", "2 texts and 1 values"),
            ("a,b=1,1", "`a` and `b` both stand for 1"),
            ("a,b,c=1..1", "`a` and `b` both stand for 1"),
            ("1,nan", "the value NaN of `nan`"),
            ("a,b=0,inf", "the value inf of `b`"),
            ("a,b=0,x", "`x` is no number"),
            ("a,b=x..1", "`x` is no number"),
        ];
        for (spec, message) in cases {
            let error = spec.parse::<Scale>().unwrap_err().to_string();
            assert!(error.contains(message) && error.starts_with(&format!("scale `{spec}`: ")), "{error}\nexpected {message}");
        }
    }
}
