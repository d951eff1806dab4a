//! The judgement of two responses to one instruction.
//!
//! A judge that reads one response scores each alone; the probability that one is better follows from the two distributions,
//! drawn independently. A judge whose template reads both (`pair`, or one of the user's with `response_a` and `response_b`)
//! judges both orders, and the probabilities are averaged, so that a preference for the response that is read first cancels.

use std::cmp::Ordering;

use serde_json::{Map, Value, json};

use super::{JudgeError, JudgePrompt, Scale, ScoreRecord, Template};
use crate::data::{DataError, Example, pairing};
use crate::eval::position::Winner;

/// A smaller difference of two expected scores, or of two probabilities, is none: scores are shown with two decimals.
pub const TIE_MARGIN: f64 = 0.005;

/// Columns of two responses in templates.
const BOTH: [[&str; 2]; 2] = [["response_a", "response_b"], ["orig_response_A", "orig_response_B"]];

/// Columns of one response.
const ONE: [&str; 2] = ["response", "orig_response"];

/// How a judge judges pairs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PairWay {
    /// Each response alone.
    Alone,
    /// Both together, in both orders.
    Together,
}

impl PairWay {
    /// What a judge of this prompt does.
    ///
    /// # Errors
    /// A template of the user's that reads no response, so that both would get the same score.
    pub fn of(prompt: &JudgePrompt) -> Result<Self, JudgeError> {
        let columns = prompt.columns();
        let reads = |name: &&str| columns.iter().any(|column| column.name == *name);
        let is_own = matches!(prompt.template, Template::Own { .. });
        match BOTH.iter().any(|columns| columns.iter().all(&reads)) {
            true => Ok(PairWay::Together),
            false if is_own && !ONE.iter().any(&reads) => {
                let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
                Err(JudgeError::Template {
                    name: prompt.template.name().into(),
                    found: format!(
                        "it reads no response (only {}), so both responses of a pair would get one score",
                        names.join(", ")
                    ),
                    fix: "let it read `response`, or `response_a` and `response_b`".into(),
                })
            }
            false => Ok(PairWay::Alone),
        }
    }

    /// Its word for programs.
    pub fn word(self) -> &'static str {
        match self {
            PairWay::Alone => "alone",
            PairWay::Together => "together",
        }
    }

    /// What the judgements of the two rows are called in the pair's object.
    pub fn names(self) -> [&'static str; 2] {
        match self {
            PairWay::Alone => ["a", "b"],
            PairWay::Together => ["given", "swapped"],
        }
    }

    /// The two rows to judge for a row with a pair: one per response, or one per order.
    ///
    /// # Errors
    /// A row without a pair; columns that cannot be read.
    pub fn rows(self, example: &Example) -> Result<[Example; 2], DataError> {
        let Some(pair) = pairing(&example.row)?.map(crate::data::Pairing::in_given_order) else {
            let fix = "give it `response_a` and `response_b`, `chosen` and `rejected`, or the columns of Preference Collection";
            return Err(example.row.fault("response_a", "the row has no pair of responses", fix));
        };
        let row = |at: usize| {
            let (row, record) = match self {
                PairWay::Alone => pair.alone(&example.row, at)?,
                PairWay::Together => pair.together(&example.row, at == 1)?,
            };
            Ok(Example { row, record })
        };
        Ok([row(0)?, row(1)?])
    }
}

/// The better response, by the first one's score, or probability, minus the second one's.
fn winner_of(difference: f64) -> Winner {
    match difference {
        d if d.abs() < TIE_MARGIN => Winner::Tie,
        d if d > 0.0 => Winner::First,
        _ => Winner::Second,
    }
}

/// Probabilities that A is better, that B is, and that neither is.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Odds {
    a: f64,
    b: f64,
    tie: f64,
}

impl Odds {
    /// Of scores drawn from two distributions over the scale's values in the same order.
    fn of_scores(first: &[f64], second: &[f64]) -> Self {
        let mut odds = Odds { a: 0.0, b: 0.0, tie: 0.0 };
        for (i, p) in first.iter().enumerate() {
            for (k, q) in second.iter().enumerate() {
                match i.cmp(&k) {
                    Ordering::Greater => odds.a += p * q,
                    Ordering::Less => odds.b += p * q,
                    Ordering::Equal => odds.tie += p * q,
                }
            }
        }
        odds
    }

    /// Of a distribution over a scale on which scores above the middle say that the response read first is better.
    fn of_order(scale: &Scale, distribution: &[f64]) -> Self {
        let (values, middle) = (scale.ascending(), f64::midpoint(scale.min(), scale.max()));
        let sum = |order: Ordering| {
            let shares = values.iter().zip(distribution).filter(|(value, _)| value.total_cmp(&middle) == order);
            shares.map(|(_, p)| p).sum::<f64>()
        };
        Odds { a: sum(Ordering::Greater), b: sum(Ordering::Less), tie: sum(Ordering::Equal) }
    }

    fn swapped(self) -> Self {
        Odds { a: self.b, b: self.a, ..self }
    }

    fn mean(self, other: Self) -> Self {
        let mean = |x: f64, y: f64| f64::midpoint(x, y);
        Odds { a: mean(self.a, other.a), b: mean(self.b, other.b), tie: mean(self.tie, other.tie) }
    }

    /// The likeliest of the three.
    fn winner(self) -> Winner {
        if self.tie > self.a.max(self.b) { Winner::Tie } else { winner_of(self.a - self.b) }
    }

    fn to_json(self) -> Value {
        json!({"a": self.a, "b": self.b, "tie": self.tie})
    }
}

/// The judgement of a pair.
#[derive(Clone, Debug, PartialEq)]
pub struct PairRecord {
    way: PairWay,
    /// The judgements of the two rows of [`PairWay::rows`].
    judged: [ScoreRecord; 2],
    odds: Option<Odds>,
    /// The better response; `None` where the pair could not be judged.
    pub winner: Option<Winner>,
    /// The better response in each order, as the responses are named in the row; of a judge that reads both at once.
    pub orders: Option<[Winner; 2]>,
    /// Why the pair could not be judged.
    pub error: Option<String>,
}

impl PairRecord {
    /// The judgement of a pair from those of its two rows.
    pub fn new(way: PairWay, scale: &Scale, judged: [ScoreRecord; 2]) -> Self {
        let error = judged.iter().find_map(|record| record.error.clone());
        let failed = |error: Option<String>, judged| PairRecord { way, judged, odds: None, winner: None, orders: None, error };
        if error.is_some() {
            return failed(error, judged);
        }
        let distributions = [judged[0].distribution(scale), judged[1].distribution(scale)];
        let ([Some(first), Some(second)], [Some(a), Some(b)]) = (&distributions, [judged[0].expected, judged[1].expected]) else {
            return failed(Some("a judgement has no distribution over the scale".into()), judged);
        };
        let (odds, winner, orders) = match way {
            PairWay::Alone => (Odds::of_scores(first, second), winner_of(a - b), None),
            PairWay::Together => {
                let (given, swapped) = (Odds::of_order(scale, first), Odds::of_order(scale, second).swapped());
                let odds = given.mean(swapped);
                (odds, odds.winner(), Some([given.winner(), swapped.winner()]))
            }
        };
        PairRecord { way, judged, odds: Some(odds), winner: Some(winner), orders, error: None }
    }

    /// A pair that could not be judged.
    pub fn failed(way: PairWay, error: impl ToString) -> Self {
        let judged = [ScoreRecord::default(), ScoreRecord::default()];
        PairRecord { way, judged, odds: None, winner: None, orders: None, error: Some(error.to_string()) }
    }

    /// The probability that A is better, with half of the ties.
    pub fn a_wins(&self) -> Option<f64> {
        self.odds.map(|odds| odds.a + odds.tie / 2.0)
    }

    /// The object that `jurist pair` adds to a row.
    pub fn to_json(&self) -> Value {
        let mut object = Map::new();
        object.insert("winner".into(), json!(self.winner.map(Winner::word)));
        object.insert("probs".into(), json!(self.odds.map(Odds::to_json)));
        let [first, second] = &self.judged;
        match self.way {
            PairWay::Alone => {
                let difference = first.expected.zip(second.expected).map(|(a, b)| a - b);
                object.insert("difference".into(), json!(difference));
            }
            PairWay::Together => {
                object.insert("orders".into(), json!(self.orders.map(|orders| orders.map(Winner::word))));
                object.insert("consistent".into(), json!(self.orders.map(|[given, swapped]| given == swapped)));
            }
        }
        for (name, record) in self.way.names().into_iter().zip([first, second]) {
            object.insert(name.into(), serde_json::to_value(record).unwrap_or_default());
        }
        object.insert("error".into(), json!(self.error));
        Value::Object(object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{ColumnOptions, Labels, Reader};
    use crate::judge::{Expectation, Prediction, Template};
    use crate::text::{SpecialTokens, word_level};

    fn scale(spec: &str) -> Scale {
        spec.parse().unwrap()
    }

    fn record(scale: &Scale, probs: &[f64]) -> ScoreRecord {
        let prediction = Prediction::from_probs(scale, probs).unwrap();
        ScoreRecord::new(scale, &prediction, Expectation::Renormalised, None, false)
    }

    fn near(found: &Value, expected: f64) {
        assert!((found.as_f64().unwrap() - expected).abs() < 1e-12, "{found}, expected {expected}");
    }

    #[test]
    fn two_scores_give_probabilities_as_the_page_shows_them() {
        let scale = scale("3,1,2");
        // Values 3, 1, 2: A is 3 or 2, B is 2 or 1.
        let judged = [record(&scale, &[0.5, 0.0, 0.5]), record(&scale, &[0.0, 0.25, 0.75])];
        let pair = PairRecord::new(PairWay::Alone, &scale, judged.clone());
        let json = pair.to_json();
        near(&json["probs"]["a"], 0.5 + 0.5 * 0.25);
        near(&json["probs"]["tie"], 0.5 * 0.75);
        near(&json["probs"]["b"], 0.0);
        near(&json["difference"], 2.5 - 1.75);
        assert_eq!((pair.winner, pair.orders, &json["winner"]), (Some(Winner::First), None, &json!("A")));
        assert!((pair.a_wins().unwrap() - (0.625 + 0.1875)).abs() < 1e-12);
        let [first, second] = judged;
        assert_eq!(PairRecord::new(PairWay::Alone, &scale, [second, first.clone()]).winner, Some(Winner::Second));
        assert_eq!(PairRecord::new(PairWay::Alone, &scale, [first.clone(), first]).winner, Some(Winner::Tie));
    }

    /// The page decides with the same margin.
    #[test]
    fn the_page_has_the_same_margin() {
        assert!(include_str!("../../web/lib/odds.js").contains(&format!("TIE_MARGIN = {TIE_MARGIN};")));
    }

    #[test]
    fn both_orders_are_averaged() {
        let scale = scale("A,tie,B=1,0.5,0");
        // Given: A wins with 0.6. Swapped, the first response (now B) wins with 0.7: B wins.
        let judged = [record(&scale, &[0.6, 0.1, 0.3]), record(&scale, &[0.7, 0.2, 0.1])];
        let pair = PairRecord::new(PairWay::Together, &scale, judged);
        let json = pair.to_json();
        near(&json["probs"]["a"], (0.6 + 0.1) / 2.0);
        near(&json["probs"]["b"], (0.3 + 0.7) / 2.0);
        near(&json["probs"]["tie"], 0.15);
        assert_eq!((pair.winner, pair.orders), (Some(Winner::Second), Some([Winner::First, Winner::Second])));
        assert_eq!((&json["consistent"], &json["orders"]), (&json!(false), &json!(["A", "B"])));
        // A judge that always prefers the first response has no opinion.
        let biased = [record(&scale, &[0.9, 0.0, 0.1]), record(&scale, &[0.9, 0.0, 0.1])];
        assert_eq!(PairRecord::new(PairWay::Together, &scale, biased).winner, Some(Winner::Tie));
        let even = [record(&scale, &[0.2, 0.6, 0.2]), record(&scale, &[0.2, 0.6, 0.2])];
        assert_eq!(PairRecord::new(PairWay::Together, &scale, even).orders, Some([Winner::Tie; 2]));
        let bad = PairRecord::new(PairWay::Together, &scale, [record(&scale, &[0.9, 0.0, 0.1]), ScoreRecord::failed("too long")]);
        assert_eq!((bad.winner, bad.error.as_deref(), bad.to_json()["winner"].is_null()), (None, Some("too long"), true));
    }

    #[test]
    fn templates_decide_how_pairs_are_judged() {
        let unknown = SpecialTokens { unk: Some("<unk>".into()), ..SpecialTokens::default() };
        let tokenizer = word_level(&["1", "2", "A", "B"], &unknown).unwrap();
        let columns = ColumnOptions { labels: Labels::Ignored, ..ColumnOptions::default() };
        let row =
            |json: &str| Reader { columns: columns.clone(), ..Reader::default() }.read_str("a", json).unwrap().examples.remove(0);
        let example = row(r#"{"prompt": "Say hi", "chosen": "Hi", "rejected": "Go", "subset": "chat"}"#);
        let own = |source: &str| Template::Own { name: "own".into(), source: source.into() };
        for (template, scale, way, texts) in [
            (Template::Judge, "1..2", PairWay::Alone, ["## Response\nHi", "## Response\nGo"]),
            (own("{{ instruction }}: {{ response }}"), "1..2", PairWay::Alone, ["Say hi: Hi", "Say hi: Go"]),
            (Template::Pair, "A,B=1,0", PairWay::Together, ["A\nHi\n\n## Response B\nGo", "A\nGo\n\n## Response B\nHi"]),
            (own("{{ response_a }}/{{ response_b }}"), "A,B=1,0", PairWay::Together, ["Hi/Go", "Go/Hi"]),
        ] {
            let prompt = JudgePrompt::new(template, "so ", scale.parse().unwrap(), false, &tokenizer).unwrap();
            assert_eq!(PairWay::of(&prompt).unwrap(), way);
            for (row, text) in way.rows(&example).unwrap().iter().zip(texts) {
                let found = prompt.text(row).unwrap();
                assert!(found.contains(text), "{found}\nexpected {text}");
            }
        }
        let blind = JudgePrompt::new(own("{{ instruction }}"), "so ", "1..2".parse().unwrap(), false, &tokenizer).unwrap();
        let error = PairWay::of(&blind).unwrap_err().to_string();
        assert!(error.contains("it reads no response (only instruction)"), "{error}");
        let error = PairWay::Alone.rows(&row(r#"{"prompt": "p"}"#)).unwrap_err().to_string();
        assert!(error.contains("the row has no pair of responses"), "{error}");
    }
}
