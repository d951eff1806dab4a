//! Measures how well a judge agrees with people. Inputs and outputs are plain numbers: this module does not depend on models,
//! prompts or GPUs.
//!
//! | question | file |
//! |---|---|
//! | Does the judge order items as people do? | [`correlation`] |
//! | Does it give the same scores? | [`agreement`] (errors, labels), [`variance`] (ICC, CCC, Krippendorff) |
//! | Does it use the scale as people do? | [`distribution`] |
//! | Are its probabilities calibrated? | [`probabilities`] |
//! | All metrics at once, by name | [`metrics`] |
//! | Is it better than a trivial baseline? | [`baselines`] |
//! | How certain is a figure? | [`intervals`]; which rows are alike: [`clusters`] |
//! | Is one judge better than another? | [`compare`]; over several sets and seeds: [`paired`] |
//! | What would people say, given its score? | [`recalibration`] |
//! | What is people's mean score, from few labels? | [`estimate`] |
//! | Is it consistent with itself? | [`repeats`]; with the answers swapped: [`position`] |
//! | Does it give the same labels, where these are words? | [`labels`] |
//! | Does it prefer the response that people prefer? | [`pairs`] |
//! | Is it good enough, and still the same judge? | [`gates`], [`drift`] |
//! | All of these for one judge, or for one file of columns | [`evaluation`] |
//! | How are the figures shown? | [`table`], [`report`] |
//!
//! All metrics of two columns are computed from one [`tally::Tally`] of their rows. A resample is a tally too, so a figure and
//! its interval use the same definition.
//!
//! A metric that does not exist for the data (a correlation with a constant, a kappa of one label) is [`Undefined`] with the
//! reason. It is never reported as 0.

pub mod agreement;
pub mod baselines;
pub mod clusters;
pub mod compare;
pub mod correlation;
pub mod distribution;
pub mod drift;
pub mod estimate;
pub mod evaluation;
pub mod faithfulness;
pub mod figures;
pub mod gates;
pub mod intervals;
pub mod labels;
pub mod metrics;
pub mod paired;
pub mod pairs;
mod pairs_page;
pub use pairs_page::PairText;
mod panels;
pub mod position;
pub mod probabilities;
pub mod recalibration;
pub mod repeats;
pub mod report;
mod special;
pub mod table;
pub mod tally;
pub mod variance;

#[cfg(test)]
mod few_labels_tests;
#[cfg(test)]
mod tests;

pub use agreement::{bias, mae, rmse};
pub use correlation::{kendall_tau_b, pearson, spearman};
pub use metrics::{Agreement, Grid, METRICS};
pub use tally::{Sample, Tally};

/// A figure, or the reason why it is undefined.
pub type Measured = Result<f64, Undefined>;

/// Why a metric is undefined for some data. This is not an error: other metrics of the table remain valid.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Undefined {
    /// Fewer rows than the formula needs.
    #[error("it needs at least {} with a score, and there {}", crate::words::count(*needed, "row"), there(*found, None))]
    TooFewRows {
        /// Rows present.
        found: usize,
        /// Rows needed.
        needed: usize,
    },
    /// The row is the reference of the comparison, or is not compared.
    #[error("it is not compared")]
    NotCompared,
    /// A baseline or a ceiling does not write a chain of thought.
    #[error("no chain of thought is written")]
    NoVerdicts,
    /// The judge errs by the same on every labelled row.
    #[error("the judge's error is the same on every labelled row, so nothing is known of how it varies: label more rows")]
    NoErrors,
    /// Too few rows, or clusters, for an interval by resampling.
    #[error(
        "an interval by resampling needs at least {needed} {unit}s, and there {}: label {} more",
        there(*found, None),
        needed.saturating_sub(*found)
    )]
    TooFewUnits {
        /// What counts: a row or a cluster.
        unit: &'static str,
        /// How many there are.
        found: usize,
        /// How many are needed.
        needed: usize,
    },
    /// An interval that contains no mean that there can be.
    #[error("the whole interval lies outside of the scale: is it the judge's right column, and people's right --scale?")]
    OutsideScale,
    /// All human scores are equal.
    #[error("all human scores are the same")]
    ConstantHuman,
    /// All judge scores are equal.
    #[error("all judge scores are the same")]
    ConstantJudge,
    /// Both columns contain only one and the same value.
    #[error("people and judge use one and the same score throughout")]
    OneLabel,
    /// Label metrics need human scores that are values of the scale.
    #[error("the human score {0} lies between the values of the scale (a mean of annotators?)")]
    BetweenLabels(f64),
    /// Nothing varies between rows or within them.
    #[error("the scores do not vary")]
    NoVariance,
    /// A predictor (such as a response length) is constant.
    #[error("all values of the predictor are the same")]
    ConstantPredictor,
    /// A label metric was requested without a scale.
    #[error("no scale is given")]
    NoScale,
    /// The figure is not a finite f64.
    #[error("the scores are too large to compute it")]
    TooLarge,
    /// Every resample lies on one side of the estimate.
    #[error("all resamples lie on one side of the estimate")]
    OneSided,
    /// A share of 0 or 1 is the same in every resample.
    #[error("every resample has the same value")]
    SameResamples,
    /// The judge never gives this label.
    #[error("the judge gives this label to no row")]
    LabelUnused,
    /// People never give this label.
    #[error("people give this label to no row")]
    LabelAbsent,
    /// The order of two responses cannot matter.
    #[error("each response is judged alone, so that their order cannot matter")]
    OneOrder,
    /// No row has people's preference.
    #[error("no row has a preference of people")]
    NoPreference,
    /// Every preference is a tie.
    #[error("people or the judge see a tie in every pair")]
    AllTies,
    /// No row has repeated answers.
    #[error("no row has two answers")]
    NoRepeats,
    /// The logarithm of a probability of 0.
    #[error("the judge gives probability 0 to a label that people gave")]
    ImpossibleLabel,
    /// Rows with different numbers of answers.
    #[error("the rows have different numbers of answers")]
    Unbalanced,
    /// Too many bootstrap resamples had no value.
    #[error("only {found} of {asked} resamples had a value")]
    TooFewResamples {
        /// Resamples with a value.
        found: usize,
        /// Resamples asked for.
        asked: usize,
    },
}

/// Errors of this module: data for which no metric can be computed.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum EvalError {
    /// Two columns of different length.
    #[error("{left} has {left_len} rows and {right} has {right_len}: they must be row by row the same items")]
    Lengths {
        /// Name of the first column.
        left: &'static str,
        /// Its rows.
        left_len: usize,
        /// Name of the second column.
        right: &'static str,
        /// Its rows.
        right_len: usize,
    },
    /// NaN or an infinity in a column.
    #[error("row {row} of {column} is {value}, which is no score: leave an unparsed judge score empty (null)")]
    NotFinite {
        /// Name of the column.
        column: &'static str,
        /// Row, from 0.
        row: usize,
        /// What was found.
        value: f64,
    },
    /// Scale values that are not a scale.
    #[error("a scale needs at least two finite values, each of them once, found {0:?}")]
    Scale(Vec<f64>),
    /// A confidence level that is no share.
    #[error("the confidence level is {0}: expected a share between 0 and 1, such as 0.95")]
    Level(f64),
    /// A share of the rows that is none.
    #[error("the share of the interval is {0}: expected a share between 0 and 1, such as 0.5")]
    Share(f64),
    /// A human score that is not on the scale.
    #[error("row {row} of the human column is {value}, outside the scale {min} to {max}: give the right scale")]
    OffScale {
        /// Row, from 0.
        row: usize,
        /// The score.
        value: f64,
        /// The smallest value of the scale.
        min: f64,
        /// The largest.
        max: f64,
    },
    /// Too few rows with a human score for what is asked.
    #[error("there {} with a human score; {what} needs at least {needed}: label {} more", there(*found, Some(unit)), needed.saturating_sub(*found))]
    TooFewLabels {
        /// What is asked.
        what: &'static str,
        /// What counts: rows or clusters.
        unit: &'static str,
        /// How many there are.
        found: usize,
        /// How many are needed.
        needed: usize,
    },
    /// Too few labels in a draw for what it is drawn for.
    #[error("{labels} labels are {} in a draw, and {what} needs at least {needed}: draw more labels", crate::words::count(*found, unit))]
    TooFewDrawn {
        /// Labels of a draw.
        labels: usize,
        /// What is made of them.
        what: &'static str,
        /// What counts: rows or clusters.
        unit: &'static str,
        /// How many there are.
        found: usize,
        /// How many are needed.
        needed: usize,
    },
    /// No draws.
    #[error("at least one draw is needed")]
    NoDraws,
    /// A draw that leaves too few rows to measure on.
    #[error("{labels} labels leave {} to measure on, and at least {needed} are needed: draw fewer labels", crate::words::count(*found, "row"))]
    TooFewLeft {
        /// Labels of a draw.
        labels: usize,
        /// Rows left.
        found: usize,
        /// Rows needed.
        needed: usize,
    },
    /// A judge that gives all rows the same score which fit a map.
    #[error(
        "the judge gives {value} to all rows that would fit the map, so there is nothing to learn from them: label more rows, or give \
         another --split-seed"
    )]
    ConstantFit {
        /// The score.
        value: f64,
    },
    /// A column that does not vary.
    #[error("all values of {column} are {value}: there is nothing to learn from them; is it the right column?")]
    Constant {
        /// Name of the column.
        column: &'static str,
        /// The value.
        value: f64,
    },
    /// Too few rows to estimate the mean of.
    #[error(
        "there {} without a human score: an estimate is of rows that people did not score, and needs at least {needed} of them",
        there(*found, Some(unit))
    )]
    TooFewUnlabelled {
        /// What counts: rows or clusters.
        unit: &'static str,
        /// How many there are.
        found: usize,
        /// How many are needed.
        needed: usize,
    },
    /// A weight of a row that is none.
    #[error("row {row} of the weight column is {value}: a weight is a number of at least 0")]
    RowWeight {
        /// Row, from 0.
        row: usize,
        /// What was found.
        value: f64,
    },
    /// Weights of rows whose sum is none.
    #[error("the weights of the {rows} rows sum to {sum}: their sum must be a number above 0")]
    WeightSum {
        /// Which rows.
        rows: &'static str,
        /// The sum.
        sum: f64,
    },
    /// A weight of the judge that is no share.
    #[error("the weight of the judge is {0}: expected a number from 0 (labels alone) to 1 (PPI)")]
    JudgeWeight(f64),
    /// A probability row of the wrong length or sum.
    #[error("row {row}: expected {expected} probabilities in [0, 1] that sum to 1, found {found:?}")]
    Probabilities {
        /// Row, from 0.
        row: usize,
        /// Size of the scale.
        expected: usize,
        /// The row.
        found: Vec<f64>,
    },
    /// A mistake in the template of a page.
    #[error("the template {name} is wrong: {found}")]
    Template {
        /// The template.
        name: &'static str,
        /// What is wrong.
        found: String,
    },
}

impl EvalError {
    /// The same error where `labels` of the labels were drawn.
    pub(crate) fn of_draw(self, labels: usize) -> Self {
        match self {
            EvalError::TooFewLabels { what, unit, found, needed } => EvalError::TooFewDrawn { labels, what, unit, found, needed },
            other => other,
        }
    }

    /// Whether an option is out of its range, and not the data.
    pub fn is_usage(&self) -> bool {
        matches!(self, EvalError::Level(_) | EvalError::Share(_) | EvalError::JudgeWeight(_))
    }
}

/// `is 1 row`, `are 2 rows`; `are 2` without a unit.
fn there(found: usize, unit: Option<&str>) -> String {
    let counted = unit.map_or_else(|| found.to_string(), |unit| crate::words::count(found, unit));
    format!("{} {counted}", if found == 1 { "is" } else { "are" })
}

pub(crate) fn same_length(left: &'static str, left_len: usize, right: &'static str, right_len: usize) -> Result<(), EvalError> {
    if left_len == right_len { Ok(()) } else { Err(EvalError::Lengths { left, left_len, right, right_len }) }
}

pub(crate) fn all_finite(column: &'static str, values: &[f64]) -> Result<(), EvalError> {
    match values.iter().position(|v| !v.is_finite()) {
        Some(row) => Err(EvalError::NotFinite { column, row, value: values[row] }),
        None => Ok(()),
    }
}

/// [`Undefined::TooFewRows`] unless there are at least `needed` rows.
pub(crate) fn at_least(needed: usize, found: usize) -> Result<(), Undefined> {
    if found >= needed { Ok(()) } else { Err(Undefined::TooFewRows { found, needed }) }
}

pub(crate) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

pub(crate) fn is_constant(values: &[f64]) -> bool {
    values.windows(2).all(|pair| pair[0] == pair[1])
}
