//! What is to be judged, and what a judge says of it.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::Error;
use super::error::Kind;
use crate::data::{ColumnOptions, Example, Row, RowPosition};
use crate::eval::recalibration::CalibratedScore;
use crate::judge::{Scale, ScoredRow};

/// One response to be judged, or a whole prompt that the judge answers.
///
/// The columns are those of a data file, so that a judge reads a case as it read its training rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Case {
    row: Row,
    /// Whether it was read from a file, whose place messages name; another is named by its number.
    read: bool,
}

impl Case {
    /// A response to an instruction.
    pub fn new(instruction: impl Into<String>, response: impl Into<String>) -> Self {
        Self::of(Map::new()).column("instruction", instruction.into()).column("response", response.into())
    }

    /// A complete prompt, for judges that were trained on prompts.
    pub fn prompt(prompt: impl Into<String>) -> Self {
        Self::of(Map::new()).column("prompt", prompt.into())
    }

    /// A row of columns, such as one line of a JSON Lines file.
    pub fn row(columns: Map<String, Value>) -> Self {
        Self::of(columns)
    }

    /// What the scores mean.
    pub fn rubric(self, rubric: impl Into<String>) -> Self {
        self.column("rubric", rubric.into())
    }

    /// An answer that deserves the best score.
    pub fn reference(self, reference: impl Into<String>) -> Self {
        self.column("reference", reference.into())
    }

    /// One more column, which a template of one's own may read.
    pub fn column(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.row.fields.insert(name.into(), value.into());
        self.row.written = None;
        self
    }

    /// The columns, in their order.
    pub fn columns(&self) -> &Map<String, Value> {
        &self.row.fields
    }

    fn of(fields: Map<String, Value>) -> Self {
        let row = Row { id: String::new(), file: Arc::from("case"), position: RowPosition::Row(1), fields, written: None };
        Case { row, read: false }
    }

    /// The case as judges read it; it is the `number`th of those that are judged together, from 1 on.
    ///
    /// # Errors
    /// Columns of a kind that cannot be read.
    pub(super) fn example(&self, number: usize) -> Result<Example, Error> {
        let position = if self.read { self.row.position } else { RowPosition::Row(number) };
        let row = Row { position, ..self.row.clone() };
        let record = row.record(&ColumnOptions::for_scoring()).map_err(|e| Kind::Case(e.to_string()))?;
        Ok(Example { row, record })
    }
}

impl From<&Example> for Case {
    fn from(example: &Example) -> Self {
        Case { row: example.row.clone(), read: true }
    }
}

/// What a judge says of a case.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Score {
    /// The mean of the distribution, `Σ value · p`: the judge's score.
    pub expected: f64,
    /// The most probable value: the score that a greedy decoder would write.
    pub decoded: f64,
    /// The median of the distribution.
    pub median: f64,
    /// Each value of the scale with its probability among the scores, in the scale's order; the probabilities sum to 1.
    pub distribution: Vec<(f64, f64)>,
    /// Probability on score tokens in the whole vocabulary. Far below 1 the judge hardly wanted to write a score.
    pub mass: f64,
    /// The chain of thought before the score; of several the first. `None` for a judge that writes none.
    pub chain: Option<String>,
    /// Whether a chain did not come to the score by itself.
    pub forced: bool,
    /// The score that people would give, with an interval, where the judge was calibrated (`jurist calibrate`) on cases that were
    /// scored with the same options.
    pub calibrated: Option<CalibratedScore>,
}

impl Score {
    pub(super) fn of(judged: ScoredRow, scale: &Scale) -> Result<Self, Error> {
        let Some(prediction) = judged.prediction else {
            return Err(Kind::Case(judged.record.error.unwrap_or_default()).into());
        };
        let expected = judged.record.expected.unwrap_or(prediction.expected);
        Ok(Score {
            expected,
            decoded: scale.values()[prediction.decoded],
            median: prediction.median,
            distribution: scale.values().iter().copied().zip(prediction.probs).collect(),
            mass: prediction.mass,
            chain: judged.record.feedback,
            forced: judged.record.forced,
            calibrated: judged.record.calibrated,
        })
    }
}
