//! An evaluation: judges and baselines compared with people on the same rows, with intervals, and its tables and pages.
//!
//! [`JudgeEvaluation`] is the result of `jurist eval` for one judge, [`ColumnEvaluation`] that of `jurist agree` for columns of a
//! file. Both measure each judge with [`MeasuredJudge`].

mod columns;
mod page;
mod rows;

pub use columns::{ColumnEvaluation, ColumnNames, Columns, holm_of, holm_table};
pub use page::PageText;
pub use rows::{EvaluationRow, JudgeEvaluation, JudgedRows};

use serde_json::{Map, Value};

use super::correlation::length_bias;
use super::figures::Figure;
use super::intervals::{Bootstrap, NamedInterval, to_json};
use super::labels::LabelFigures;
use super::probabilities::{probability_metrics, score_mass};
use super::{Agreement, EvalError, Grid, Measured, Sample};

/// One judge compared with people, with intervals, over the rows that it scored.
#[derive(Clone, Debug)]
pub struct MeasuredJudge {
    /// Every metric.
    pub agreement: Agreement,
    /// The interval of each metric that can be computed on a resample.
    pub intervals: Vec<NamedInterval>,
    /// Figures of labels, where the scale has words.
    pub labels: Option<LabelFigures>,
    /// How the intervals were drawn: the resamples, and the number of clusters if there are any.
    pub bootstrap: Value,
}

impl MeasuredJudge {
    /// Compares `judge` (`None`: no score) with `human`, row by row. `words` are those of the scale by ascending value, if it has
    /// any. The clusters of `bootstrap` cover all rows.
    ///
    /// # Errors
    /// Columns of different length, values that are not finite.
    pub fn measure(
        human: &[f64],
        judge: &[Option<f64>],
        grid: &Grid,
        words: Option<&[String]>,
        bootstrap: &Bootstrap,
    ) -> Result<Self, EvalError> {
        let agreement = Agreement::measure(human, judge, grid)?;
        let rows: Vec<usize> = (0..judge.len()).filter(|&row| judge[row].is_some()).collect();
        let people: Vec<f64> = rows.iter().map(|&row| human[row]).collect();
        let scores: Vec<f64> = judge.iter().flatten().copied().collect();
        let clusters = bootstrap.clusters.map(|clusters| rows.iter().map(|&row| clusters[row]).collect::<Vec<_>>());
        let bootstrap = Bootstrap { clusters: clusters.as_deref(), ..*bootstrap };
        Ok(MeasuredJudge {
            intervals: bootstrap.all(&Sample::new(&people, &scores, Some(grid))?)?,
            labels: words.map(|words| LabelFigures::measure(&people, &scores, grid, words, &bootstrap)).transpose()?,
            bootstrap: bootstrap.to_json(rows.len()),
            agreement,
        })
    }

    /// The object of [`Agreement::to_json`], with `intervals`, and `per_label` where the scale has words.
    pub fn to_json(&self) -> Map<String, Value> {
        let Value::Object(mut object) = self.agreement.to_json() else { return Map::new() };
        object.insert("intervals".into(), to_json(&self.intervals));
        if let Some(labels) = &self.labels {
            labels.put_into(&mut object);
        }
        object
    }

    /// All figures of this judge, for gates.
    pub fn figures(&self) -> Vec<Figure> {
        let a = &self.agreement;
        let counts = [("n", a.n as f64), ("n_unparsed", a.n_unparsed as f64), ("coverage", a.coverage())];
        let figure = |(name, value): (&'static str, &Measured)| {
            let interval = self.intervals.iter().find(|(known, _)| *known == name).map(|(_, interval)| interval.clone());
            Figure { name: name.into(), value: value.clone(), interval }
        };
        let of_labels = self.labels.iter().flat_map(|labels| labels.figures.iter().cloned());
        counts
            .map(|(name, value)| Figure::plain(name, Ok(value)))
            .into_iter()
            .chain(a.iter().map(figure))
            .chain(of_labels)
            .collect()
    }
}

/// The number of rows with probabilities, and their metrics by name.
type ProbabilityFigures = (usize, Vec<(&'static str, Measured)>);

/// Metrics of the probabilities of the rows that have them.
fn probability_figures(human: &[f64], rows: &[Option<Vec<f64>>], grid: &Grid) -> Result<ProbabilityFigures, EvalError> {
    let (human, probabilities): (Vec<f64>, Vec<Vec<f64>>) =
        human.iter().zip(rows).filter_map(|(h, p)| Some((*h, p.clone()?))).unzip();
    Ok((human.len(), probability_metrics(&probabilities, &human, grid)?))
}

/// Mean and 5th percentile of the probability on score tokens.
fn mass_figures(masses: &[f64]) -> Result<[(&'static str, Measured); 2], EvalError> {
    let mass = score_mass(masses)?;
    Ok([("score_mass_mean", mass.mean), ("score_mass_p5", mass.p5)])
}

/// The length bias of the rows that have both a judge's score and a length.
fn length_bias_of(human: &[f64], judge: &[Option<f64>], lengths: &[Option<f64>]) -> Measured {
    let (mut people, mut scores, mut length) = (Vec::new(), Vec::new(), Vec::new());
    for ((h, s), l) in human.iter().zip(judge).zip(lengths) {
        if let (Some(s), Some(l)) = (s, l) {
            people.push(*h);
            scores.push(*s);
            length.push(*l);
        }
    }
    length_bias(&people, &scores, &length)
}
