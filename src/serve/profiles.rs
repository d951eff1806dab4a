//! Answer profiles: the form and scale that a tool expects, chosen by the model's name, as in `judge@geval`.
//!
//! Tools that send no `response_format` cut their own JSON, or a word, out of the text. A profile writes that form, and maps the
//! judge's scale to the tool's own.

use super::form::{Piece, ScoreForm, Target};
use crate::judge::Scale;

/// A profile.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Profile {
    pub name: &'static str,
    /// The tool's scale; `None` for the judge's own.
    range: Option<(f64, f64)>,
    shape: Shape,
    /// For `/v1/models` and the docs.
    pub about: &'static str,
}

/// The form of a profile.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Shape {
    /// A JSON object: the key of the chain, that of the score, and that of a boolean.
    Json { chain: &'static str, score: &'static str, whole: bool, pass: Option<&'static str> },
    /// The chain, then the text before and behind a whole score.
    Marked { before: &'static str, after: &'static str },
    /// The chain, then a word by the threshold.
    Graded { before: &'static str, yes: &'static str, no: &'static str },
    /// The expected score alone.
    Number,
}

const fn json(chain: &'static str, score: &'static str) -> Shape {
    Shape::Json { chain, score, whole: false, pass: None }
}

/// Every profile.
pub const PROFILES: [Profile; 11] = [
    Profile { name: "json", range: None, shape: json("reasoning", "score"), about: "{reasoning, score}, the judge's own scale" },
    Profile { name: "number", range: None, shape: Shape::Number, about: "the expected score alone, as a number" },
    Profile {
        name: "geval",
        range: Some((0.0, 10.0)),
        shape: Shape::Json { chain: "reason", score: "score", whole: true, pass: None },
        about: "DeepEval's G-Eval: {reason, score}, whole scores of 0 to 10",
    },
    Profile {
        name: "promptfoo",
        range: Some((0.0, 1.0)),
        shape: Shape::Json { chain: "reason", score: "score", whole: false, pass: Some("pass") },
        about: "promptfoo's llm-rubric: {reason, score, pass}, scores of 0 to 1",
    },
    Profile {
        name: "openevals",
        range: Some((0.0, 1.0)),
        shape: json("reasoning", "score"),
        about: "openevals: {reasoning, score}, scores of 0 to 1",
    },
    Profile {
        name: "langfuse",
        range: Some((0.0, 1.0)),
        shape: json("reasoning", "score"),
        about: "langfuse: {reasoning, score}, scores of 0 to 1",
    },
    Profile {
        name: "ragas",
        range: None,
        shape: Shape::Json { chain: "reason", score: "", whole: false, pass: Some("verdict") },
        about: "a verdict: {reason, verdict}, true or false by the threshold",
    },
    Profile {
        name: "prometheus",
        range: Some((1.0, 5.0)),
        shape: Shape::Marked { before: " [RESULT] ", after: "" },
        about: "prometheus-eval: the chain, then [RESULT] and a whole score of 1 to 5",
    },
    Profile {
        name: "mtbench",
        range: Some((1.0, 10.0)),
        shape: Shape::Marked { before: "\n\nRating: [[", after: "]]" },
        about: "MT-Bench: the chain, then Rating: [[n]], a whole score of 1 to 10",
    },
    Profile {
        name: "inspect",
        range: None,
        shape: Shape::Graded { before: "\n\nGRADE: ", yes: "C", no: "I" },
        about: "inspect_ai's model_graded_qa: the chain, then GRADE: C or GRADE: I by the threshold",
    },
    Profile {
        name: "yesno",
        range: None,
        shape: Shape::Graded { before: "\n\n", yes: "Yes", no: "No" },
        about: "the chain, then Yes or No by the threshold",
    },
];

/// The profile of this name.
pub fn named(name: &str) -> Option<&'static Profile> {
    PROFILES.iter().find(|profile| profile.name == name)
}

impl Profile {
    /// The range that scores are mapped to.
    pub fn target(&self) -> Target {
        Target(self.range)
    }

    pub fn is_json(&self) -> bool {
        matches!(self.shape, Shape::Json { .. })
    }

    /// The pieces of an answer.
    pub fn form(&self, scale: &Scale) -> Vec<Piece> {
        let text = |text: &str| Piece::Text(text.into());
        let chain = Piece::Chain { quoted: false, most: None };
        let target = self.target();
        match self.shape {
            Shape::Json { chain, score, whole, pass } => {
                let score_form = if whole { whole_scores(scale, target) } else { ScoreForm::Expected(target) };
                json_form(chain, (!score.is_empty()).then_some((score, score_form)), pass)
            }
            Shape::Marked { before, after } => {
                vec![chain, text(before), Piece::Score(whole_scores(scale, target)), text(after)]
            }
            Shape::Graded { before, yes, no } => {
                vec![chain, text(before), Piece::Score(ScoreForm::Threshold { yes: yes.into(), no: no.into() })]
            }
            Shape::Number => vec![Piece::Score(ScoreForm::Expected(target))],
        }
    }
}

/// `{"reasoning": …, "score": …}`, the JSON where a request asks for no certain one.
pub fn any_json(target: Target) -> Vec<Piece> {
    json_form("reasoning", Some(("score", ScoreForm::Expected(target))), None)
}

fn json_form(chain: &str, score: Option<(&str, ScoreForm)>, pass: Option<&str>) -> Vec<Piece> {
    let mut pieces = vec![Piece::Text(format!("{{\"{chain}\": \"")), Piece::Chain { quoted: true, most: None }];
    let mut before = "\"".to_string();
    if let Some((name, form)) = score {
        pieces.extend([Piece::Text(format!("{before}, \"{name}\": ")), Piece::Score(form)]);
        before.clear();
    }
    if let Some(name) = pass {
        let form = ScoreForm::Threshold { yes: "true".into(), no: "false".into() };
        pieces.extend([Piece::Text(format!("{before}, \"{name}\": ")), Piece::Score(form)]);
        before.clear();
    }
    pieces.push(Piece::Text(format!("{before}}}")));
    pieces
}

/// Whole numbers around the mapped values of the scale.
pub fn whole_scores(scale: &Scale, target: Target) -> ScoreForm {
    let mut values: Vec<f64> = scale.values().iter().map(|v| target.of(*v, scale)).flat_map(|v| [v.floor(), v.ceil()]).collect();
    values.sort_by(f64::total_cmp);
    values.dedup();
    ScoreForm::Decoded { options: values.into_iter().map(|v| (super::form::number(v), v)).collect(), target }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::{Expectation, Prediction};
    use crate::serve::form::{Verdict, segments};
    use serde_json::{Value, json};

    #[test]
    fn each_profile_writes_its_form() {
        let scale: Scale = "1..5".parse().unwrap();
        let prediction = Prediction::from_probs(&scale, &[0.0, 0.0, 0.0, 1.0, 0.0]).unwrap();
        let expectation = Expectation::Renormalised;
        let chain = "It is \"good\".";
        let verdict = Verdict { scale: &scale, prediction: &prediction, expectation, threshold: 3.0, chain, whole: "w" };
        let text = |name: &str| -> String {
            segments(&named(name).unwrap().form(&scale), &verdict).into_iter().map(|segment| segment.text).collect()
        };
        for profile in PROFILES.iter().filter(|profile| profile.is_json()) {
            assert!(serde_json::from_str::<Value>(&text(profile.name)).is_ok(), "{}", text(profile.name));
        }
        let parsed = |name: &str| serde_json::from_str::<Value>(&text(name)).unwrap();
        assert_eq!(parsed("promptfoo"), json!({"reason": chain, "score": 0.75, "pass": true}));
        assert_eq!(parsed("ragas"), json!({"reason": chain, "verdict": true}));
        assert_eq!(parsed("json"), json!({"reasoning": chain, "score": 4}));
        assert!(parsed("geval")["score"].is_u64(), "{}", text("geval"));
        assert_eq!(text("prometheus"), "It is \"good\". [RESULT] 4");
        assert_eq!(text("mtbench"), "It is \"good\".\n\nRating: [[8]]");
        assert_eq!((text("inspect"), text("number")), ("It is \"good\".\n\nGRADE: C".into(), "4".into()));
    }
}
