//! From the log-probabilities of the scores to a prediction.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{JudgeError, Result, Scale};
use crate::eval::recalibration::CalibratedScore;

words! {
    /// Which expected score is reported.
    #[derive(Default)]
    pub enum Expectation {
        /// Over the scores only, their probabilities scaled to sum to 1.
        #[default]
        Renormalised = "renormalised",
        /// Over the whole vocabulary: `Σ p(score) · value`, as RAIL and the released REAL code compute it. Probability on other
        /// tokens counts as a value of 0, so it changes when the scale is shifted.
        FullVocabulary = "full",
    }
}

/// The distribution over a scale's scores at the score position, and the scores computed from it.
///
/// RAIL (Lukasik et al., EMNLP Findings 2024): the prediction that minimises squared error is the mean, not the mode; the
/// one that minimises absolute error is the median.
#[derive(Clone, Debug, PartialEq)]
pub struct Prediction {
    /// Probability of each score among the scores, in the scale's order; sums to 1.
    pub probs: Vec<f64>,
    /// Mean of the values under `probs`.
    pub expected: f64,
    /// `Σ p · value` with the probabilities of the full vocabulary.
    pub expected_full: f64,
    /// Smallest value with at least half of `probs` at or below it.
    pub median: f64,
    /// Index of the most probable score; of equal ones the first.
    pub decoded: usize,
    /// Total probability of the scores in the full vocabulary: how certain it is that a score follows at all.
    pub mass: f64,
}

impl Prediction {
    /// From full-vocabulary log-probabilities of the score tokens, in the scale's order.
    ///
    /// # Errors
    /// A number of entries that differs from the scale's; NaN; entries above 0 (beyond rounding); all probabilities 0.
    pub fn from_log_probs(scale: &Scale, log_probs: &[f64]) -> Result<Self> {
        if log_probs.len() != scale.len() {
            let found = format!("{} log-probabilities for {} scores", log_probs.len(), scale.len());
            return Err(JudgeError::Probabilities(found));
        }
        // f32 kernels may exceed 0 slightly.
        if let Some(i) = log_probs.iter().position(|log_p| log_p.is_nan() || *log_p > 1e-3) {
            return Err(JudgeError::Probabilities(format!(
                "log-probability {} of score `{}` is not one; the model's logits are not finite, or too large for f32",
                log_probs[i],
                scale.texts()[i]
            )));
        }
        let largest = log_probs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        if largest == f64::NEG_INFINITY {
            return Err(JudgeError::Probabilities("every score has probability 0".into()));
        }
        // Relative to the largest, so that scores of tiny total probability still have a distribution.
        let relative: Vec<f64> = log_probs.iter().map(|log_p| (log_p - largest).exp()).collect();
        let total: f64 = relative.iter().sum();
        let probs: Vec<f64> = relative.iter().map(|p| p / total).collect();
        let expected = dot(&probs, scale.values());
        let full: Vec<f64> = log_probs.iter().map(|log_p| log_p.exp()).collect();
        Ok(Prediction {
            // Only rounding can take a mean out of the range of its values.
            expected: expected.clamp(scale.min(), scale.max()),
            expected_full: dot(&full, scale.values()),
            median: median(scale, &probs),
            decoded: first_largest(&probs),
            mass: full.iter().sum::<f64>().min(1.0),
            probs,
        })
    }

    /// From full-vocabulary probabilities of the score tokens, in the scale's order.
    ///
    /// # Errors
    /// As [`Prediction::from_log_probs`]; negative entries.
    pub fn from_probs(scale: &Scale, probs: &[f64]) -> Result<Self> {
        let log_probs: Vec<f64> = probs.iter().map(|p| p.ln()).collect();
        Self::from_log_probs(scale, &log_probs)
    }

    /// The mean of several predictions of one row, each from its own chain of thought.
    ///
    /// # Errors
    /// No prediction, or predictions of scales of different size.
    pub fn average(scale: &Scale, predictions: &[Prediction]) -> Result<Self> {
        if predictions.is_empty() || predictions.iter().any(|p| p.probs.len() != scale.len()) {
            return Err(JudgeError::Probabilities("nothing to average over this scale".into()));
        }
        let mean = |value: &dyn Fn(&Prediction) -> f64| predictions.iter().map(value).sum::<f64>() / predictions.len() as f64;
        let probs: Vec<f64> = (0..scale.len()).map(|i| mean(&|p| p.probs[i])).collect();
        Ok(Prediction {
            expected: mean(&|p| p.expected),
            expected_full: mean(&|p| p.expected_full),
            median: median(scale, &probs),
            decoded: first_largest(&probs),
            mass: mean(&|p| p.mass),
            probs,
        })
    }

    /// The expected score of the given kind.
    pub fn score(&self, expectation: Expectation) -> f64 {
        match expectation {
            Expectation::Renormalised => self.expected,
            Expectation::FullVocabulary => self.expected_full,
        }
    }
}

/// The object `judge` that `jurist score` adds to a row.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ScoreRecord {
    /// The expected score (RAIL); null if there is an error.
    pub expected: Option<f64>,
    /// The value of the most probable score.
    pub decoded: Option<f64>,
    /// Probability of each score among the scores, by its text, in the scale's order.
    pub probs: Option<Map<String, Value>>,
    /// Total probability of the scores in the full vocabulary.
    pub mass: Option<f64>,
    /// The chain of thought, if one was written.
    pub feedback: Option<String>,
    /// Whether the phrase was forced because the chain did not end in it.
    pub forced: bool,
    /// Why the row has no score.
    pub error: Option<String>,
    /// What people would give, where the judge was calibrated on rows that were judged in the same way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibrated: Option<CalibratedScore>,
}

impl ScoreRecord {
    /// The record of a prediction.
    pub fn new(scale: &Scale, prediction: &Prediction, expectation: Expectation, feedback: Option<String>, forced: bool) -> Self {
        let probs = scale.texts().iter().zip(&prediction.probs).map(|(text, p)| (text.clone(), Value::from(*p))).collect();
        ScoreRecord {
            expected: Some(prediction.score(expectation)),
            decoded: Some(scale.values()[prediction.decoded]),
            probs: Some(probs),
            mass: Some(prediction.mass),
            feedback,
            forced,
            error: None,
            calibrated: None,
        }
    }

    /// Reads the record from an object of a row. Another program may have written it: a key that is missing or has another type
    /// counts as null.
    pub fn read(object: &Map<String, Value>) -> Self {
        let number = |key: &str| object.get(key).and_then(Value::as_f64);
        let text = |key: &str| object.get(key).and_then(Value::as_str).map(String::from);
        ScoreRecord {
            expected: number("expected"),
            decoded: number("decoded"),
            probs: object.get("probs").and_then(Value::as_object).cloned(),
            mass: number("mass"),
            feedback: text("feedback"),
            forced: object.get("forced").and_then(Value::as_bool).unwrap_or_default(),
            error: text("error"),
            calibrated: object.get("calibrated").and_then(|found| serde_json::from_value(found.clone()).ok()),
        }
    }

    /// Each score's text with its probability, in the order of the record; values that are not numbers are left out.
    pub fn probabilities(&self) -> Vec<(String, f64)> {
        self.probs.iter().flatten().filter_map(|(text, p)| Some((text.clone(), p.as_f64()?))).collect()
    }

    /// Probabilities in the scale's order; `None` unless each of its scores has one.
    fn probs_on(&self, scale: &Scale) -> Option<Vec<f64>> {
        scale.texts().iter().map(|text| self.probs.as_ref()?.get(text)?.as_f64()).collect()
    }

    /// Probabilities in ascending order of the scale's values, with a sum of 1; `None` unless each of its scores has one.
    pub fn distribution(&self, scale: &Scale) -> Option<Vec<f64>> {
        let probs = self.probs_on(scale)?;
        let sum: f64 = probs.iter().sum();
        (sum > 0.0).then(|| scale.order().iter().map(|&k| probs[k] / sum).collect())
    }

    /// The median of the distribution over scores.
    pub fn median(&self, scale: &Scale) -> Option<f64> {
        Some(Prediction::from_probs(scale, &self.probs_on(scale)?).ok()?.median)
    }

    /// The record of a row that could not be scored.
    pub fn failed(error: impl ToString) -> Self {
        ScoreRecord { error: Some(error.to_string()), ..ScoreRecord::default() }
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

fn first_largest(probs: &[f64]) -> usize {
    (0..probs.len()).fold(0, |best, i| if probs[i] > probs[best] { i } else { best })
}

fn median(scale: &Scale, probs: &[f64]) -> f64 {
    let mut below = 0.0;
    for &i in scale.order() {
        below += probs[i];
        // The slack makes the median of two equal halves independent of rounding.
        if below >= 0.5 - 1e-12 {
            return scale.values()[i];
        }
    }
    scale.max()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scale() -> Scale {
        "3,1,2".parse().unwrap()
    }

    #[test]
    fn a_prediction_matches_manual_arithmetic() {
        let p = Prediction::from_probs(&scale(), &[0.1, 0.3, 0.4]).unwrap();
        assert!((p.expected - (0.3 + 0.3 + 0.8) / 0.8).abs() < 1e-12);
        assert!((p.expected_full - 1.4).abs() < 1e-12 && (p.mass - 0.8).abs() < 1e-12);
        assert_eq!((p.decoded, p.median, p.score(Expectation::FullVocabulary)), (2, 2.0, p.expected_full));
        assert!((p.probs.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        let even = Prediction::from_probs(&scale(), &[0.5, 0.5, 0.0]).unwrap();
        assert_eq!((even.decoded, even.median, even.expected), (0, 1.0, 2.0));
    }

    #[test]
    fn tiny_mass_still_has_a_distribution() {
        let p = Prediction::from_log_probs(&scale(), &[-2000.0, -2001.0, f64::NEG_INFINITY]).unwrap();
        assert!(p.mass == 0.0 && (p.probs[0] - 1.0 / (1.0 + (-1f64).exp())).abs() < 1e-12);
    }

    #[test]
    fn predictions_of_several_chains_are_averaged() {
        let a = Prediction::from_probs(&scale(), &[0.2, 0.2, 0.0]).unwrap();
        let b = Prediction::from_probs(&scale(), &[1.0, 0.0, 0.0]).unwrap();
        let mean = Prediction::average(&scale(), &[a, b]).unwrap();
        assert_eq!((mean.expected, mean.decoded, mean.probs), (2.5, 0, vec![0.75, 0.25, 0.0]));
        assert!((mean.mass - 0.7).abs() < 1e-12);
    }

    #[test]
    fn values_that_are_not_probabilities_are_refused() {
        let cases = [
            (vec![0.1, 0.2], "2 log-probabilities for 3 scores"),
            (vec![0.1, f64::NAN, 0.2], "log-probability NaN of score `1`"),
            (vec![0.1, -0.1, 0.2], "log-probability NaN of score `1`"),
            (vec![0.1, 1.1, 0.2], "of score `1` is not one"),
            (vec![0.0, 0.0, 0.0], "every score has probability 0"),
        ];
        for (probs, message) in cases {
            let error = Prediction::from_probs(&scale(), &probs).unwrap_err().to_string();
            assert!(error.contains(message), "{error}\nexpected {message}");
        }
        assert!(Prediction::average(&scale(), &[]).is_err());
    }

    #[test]
    fn the_judge_object_has_its_seven_keys() {
        let prediction = Prediction::from_probs(&scale(), &[0.25, 0.25, 0.5]).unwrap();
        let good = ScoreRecord::new(&scale(), &prediction, Expectation::Renormalised, Some("fine".into()), true);
        assert_eq!(
            serde_json::to_string(&good).unwrap(),
            r#"{"expected":2.0,"decoded":2.0,"probs":{"3":0.25,"1":0.25,"2":0.5},"mass":1.0,"feedback":"fine","forced":true,"error":null}"#
        );
        let bad = serde_json::to_value(ScoreRecord::failed("too long")).unwrap();
        assert_eq!((bad["expected"].is_null(), &bad["error"]), (true, &Value::from("too long")));
    }
}
