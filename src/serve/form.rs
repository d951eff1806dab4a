//! The form of an answer: what is written around the chain of thought and the score, and how the score is written.
//!
//! A form is a list of pieces. A schema, a profile or the judge's own words make one; the same pieces are sent whole, streamed
//! as far as they are known, or listed with log-probabilities.

use serde_json::Value;

use crate::judge::{Expectation, Prediction, Scale};

/// A part of an answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Piece {
    /// A text that is always the same.
    Text(String),
    /// The chain of thought; `quoted` inside a JSON string, of at most so many characters.
    Chain {
        quoted: bool,
        most: Option<usize>,
    },
    /// All that the judge writes: chain, phrase and score.
    Whole,
    Score(ScoreForm),
}

/// How a score is written.
#[derive(Clone, Debug, PartialEq)]
pub enum ScoreForm {
    /// The expected score, as a number of this range.
    Expected(Target),
    /// One of these texts, in ascending order of their values in the range: the one nearest to the decoded score. For the
    /// probabilities, a score between two values counts for both, in linear shares, so that their mean stays the expected score.
    Decoded { options: Vec<(String, f64)>, target: Target },
    /// `yes` where the expected score is at the threshold or above, else `no`.
    Threshold { yes: String, no: String },
}

/// A range that the judge's scale is mapped to, linearly; `None` for the scale itself.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Target(pub Option<(f64, f64)>);

impl Target {
    /// A score of the scale, mapped.
    pub fn of(self, score: f64, scale: &Scale) -> f64 {
        let Some((low, high)) = self.0 else { return score };
        let share = (score - scale.min()) / (scale.max() - scale.min());
        // Whole shares give the ends exactly.
        if share >= 1.0 { high } else { (low + share * (high - low)).clamp(low.min(high), low.max(high)) }
    }
}

/// What a row was judged to be.
#[derive(Clone, Copy, Debug)]
pub struct Verdict<'a> {
    pub scale: &'a Scale,
    pub prediction: &'a Prediction,
    pub expectation: Expectation,
    /// The expected score from which a yes-or-no answer is yes.
    pub threshold: f64,
    pub chain: &'a str,
    /// All that the judge wrote.
    pub whole: &'a str,
}

impl Verdict<'_> {
    /// The expected score, within the scale.
    pub fn expected(&self) -> f64 {
        self.prediction.score(self.expectation).clamp(self.scale.min(), self.scale.max())
    }
}

/// A written piece.
#[derive(Clone, Debug, PartialEq)]
pub struct Segment {
    pub text: String,
    pub kind: Kind,
}

/// What a segment is.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    Fixed,
    Chain,
    Whole,
    /// Each text that could stand there, with its probability.
    Score(Vec<(String, f64)>),
}

/// The texts of an answer's pieces.
pub fn segments(form: &[Piece], verdict: &Verdict<'_>) -> Vec<Segment> {
    let segment = |piece: &Piece| match piece {
        Piece::Text(text) => Segment { text: text.clone(), kind: Kind::Fixed },
        Piece::Chain { quoted, most } => Segment { text: written(verdict.chain, *quoted, *most), kind: Kind::Chain },
        Piece::Whole => Segment { text: verdict.whole.into(), kind: Kind::Whole },
        Piece::Score(form) => {
            let (text, alternatives) = form.write(verdict);
            Segment { text, kind: Kind::Score(alternatives) }
        }
    };
    form.iter().map(segment).collect()
}

/// A text as it stands in an answer.
pub fn written(text: &str, quoted: bool, most: Option<usize>) -> String {
    let text: String = match most {
        Some(most) => text.chars().take(most).collect(),
        None => text.into(),
    };
    if quoted { escaped(&text) } else { text }
}

/// The inside of a JSON string. The text of several parts is that of the whole.
fn escaped(text: &str) -> String {
    let quoted = Value::from(text).to_string();
    quoted.get(1..quoted.len() - 1).unwrap_or_default().to_string()
}

impl ScoreForm {
    /// The text, and each text that could stand there with its probability.
    fn write(&self, verdict: &Verdict<'_>) -> (String, Vec<(String, f64)>) {
        let (scale, probs) = (verdict.scale, &verdict.prediction.probs);
        match self {
            ScoreForm::Expected(target) => {
                let values = scale.order().iter().map(|&k| (number(target.of(scale.values()[k], scale)), probs[k]));
                (number(target.of(verdict.expected(), scale)), values.collect())
            }
            ScoreForm::Decoded { options, target } => {
                let mut shares = vec![0.0; options.len()];
                for (value, p) in scale.values().iter().zip(probs) {
                    share_out(options, target.of(*value, scale), *p, &mut shares);
                }
                let decoded = target.of(scale.values()[verdict.prediction.decoded], scale);
                let expected = target.of(verdict.expected(), scale);
                let away = |k: usize, from: f64| (options[k].1 - from).abs();
                // The option nearest to the decoded score; of two, the one nearer to the expected score.
                let better = |best: usize, k: usize| match away(k, decoded) - away(best, decoded) {
                    gap if gap.abs() < 1e-9 => away(k, expected) < away(best, expected),
                    gap => gap < 0.0,
                };
                let best = (0..options.len()).fold(0, |best, k| if better(best, k) { k } else { best });
                let text = options.get(best).map(|(text, _)| text.clone()).unwrap_or_default();
                (text, options.iter().zip(shares).map(|((text, _), p)| (text.clone(), p)).collect())
            }
            ScoreForm::Threshold { yes, no } => {
                let p: f64 = scale.values().iter().zip(probs).filter(|(v, _)| **v >= verdict.threshold).map(|(_, p)| p).sum();
                let text = if verdict.expected() >= verdict.threshold { yes } else { no };
                (text.clone(), vec![(yes.clone(), p), (no.clone(), 1.0 - p)])
            }
        }
    }
}

/// Gives the probability `p` to the options around `value`.
fn share_out(options: &[(String, f64)], value: f64, p: f64, shares: &mut [f64]) {
    let Some(last) = options.len().checked_sub(1) else { return };
    let above = options.iter().position(|(_, option)| *option >= value).unwrap_or(last);
    let upper = options[above].1;
    if above == 0 || upper <= value {
        shares[above] += p;
        return;
    }
    let lower = options[above - 1].1;
    let share = (value - lower) / (upper - lower);
    shares[above - 1] += p * (1.0 - share);
    shares[above] += p * share;
}

/// A number as JSON writes it, a whole one without a point.
pub fn number(value: f64) -> String {
    if value.fract() == 0.0 && value.abs() < 1e15 { format!("{value:.0}") } else { Value::from(value).to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scale() -> Scale {
        "1..5".parse().unwrap()
    }

    fn shown(form: ScoreForm, probs: &[f64]) -> (String, Vec<(String, f64)>) {
        let (scale, prediction) = (scale(), Prediction::from_probs(&scale(), probs).unwrap());
        let expectation = Expectation::Renormalised;
        form.write(&Verdict { scale: &scale, prediction: &prediction, expectation, threshold: 3.0, chain: "", whole: "" })
    }

    fn options(last: u32) -> Vec<(String, f64)> {
        (0..=last).map(|n| (n.to_string(), f64::from(n))).collect()
    }

    #[test]
    fn scores_are_written_on_other_scales() {
        let probs = [0.0, 0.0, 0.1, 0.7, 0.2];
        let (text, values) = shown(ScoreForm::Expected(Target(Some((0.0, 1.0)))), &probs);
        assert!((text.parse::<f64>().unwrap() - 0.775).abs() < 1e-12, "{text}");
        assert_eq!(values[3], ("0.75".into(), 0.7));
        // 4 of 1..5 lies between 7 and 8 of 0..10; the mean of the shares is the expected score.
        let (text, shares) = shown(ScoreForm::Decoded { options: options(10), target: Target(Some((0.0, 10.0))) }, &probs);
        let mean: f64 = shares.iter().map(|(text, p)| text.parse::<f64>().unwrap() * p).sum();
        assert!((mean - 7.75).abs() < 1e-12 && (shares[7].1 - 0.35).abs() < 1e-12);
        assert_eq!(text, "8");
        let yes_no = |p: &[f64]| shown(ScoreForm::Threshold { yes: "true".into(), no: "false".into() }, p);
        assert_eq!(yes_no(&[0.0, 0.0, 1.0, 0.0, 0.0]).0, "true");
        let (text, shares) = yes_no(&[0.4, 0.2, 0.4, 0.0, 0.0]);
        assert!(text == "false" && (shares[0].1 - 0.4).abs() < 1e-12);
    }

    #[test]
    fn texts_are_escaped_part_by_part() {
        let text = "say \"hi\"\n\u{e9}\u{1}\\";
        let parts: String = text.chars().map(|c| written(&c.to_string(), true, None)).collect();
        assert_eq!(parts, written(text, true, None));
        assert_eq!(serde_json::from_str::<String>(&format!("\"{parts}\"")).unwrap(), text);
        assert_eq!(written("\u{e9}ab", true, Some(2)), "\u{e9}a");
        assert_eq!([number(3.0), number(-0.5), number(0.0)], ["3", "-0.5", "0"]);
    }
}
