//! A study: judges and floors measured against people on the same rows, with intervals, and how the whole is shown.
//!
//! [`JudgedRows`] is what `jurist eval` tells of one judge, [`ColumnStudy`] what `jurist agree` tells of columns of a file. Both
//! measure each judge by [`MeasuredJudge`].

mod columns;
mod page;
mod rows;

pub use columns::{ColumnNames, ColumnStudy, Columns, holm_of, holm_table};
pub use page::PageText;
pub use rows::{JudgeStudy, JudgedRows, StudyRow};

use serde_json::{Map, Value};

use super::intervals::{Bootstrap, NamedInterval, to_json};
use super::{Agreement, EvalError, Grid, Sample};

/// One judge against people, with intervals, over the rows that it scored.
#[derive(Clone, Debug)]
pub struct MeasuredJudge {
    /// Every metric.
    pub agreement: Agreement,
    /// Of each metric that can be measured again on a resample.
    pub intervals: Vec<NamedInterval>,
    /// What the intervals were drawn of: rows resampled, and clusters if there are any.
    pub bootstrap: Value,
}

impl MeasuredJudge {
    /// Compares `judge` (`None`: no score) with `human`, row by row. Clusters of `bootstrap` are those of all rows.
    ///
    /// # Errors
    /// Columns of different length, values that are not finite.
    pub fn measure(human: &[f64], judge: &[Option<f64>], grid: &Grid, bootstrap: &Bootstrap) -> Result<Self, EvalError> {
        let agreement = Agreement::measure(human, judge, grid)?;
        let rows: Vec<usize> = (0..judge.len()).filter(|&row| judge[row].is_some()).collect();
        let people: Vec<f64> = rows.iter().map(|&row| human[row]).collect();
        let scores: Vec<f64> = judge.iter().flatten().copied().collect();
        let clusters = bootstrap.clusters.map(|clusters| rows.iter().map(|&row| clusters[row]).collect::<Vec<_>>());
        let bootstrap = Bootstrap { clusters: clusters.as_deref(), ..*bootstrap };
        Ok(MeasuredJudge {
            intervals: bootstrap.all(&Sample::new(&people, &scores, Some(grid))?)?,
            bootstrap: bootstrap.to_json(rows.len()),
            agreement,
        })
    }

    /// The object of [`Agreement::to_json`], with `intervals`.
    pub fn to_json(&self) -> Map<String, Value> {
        let Value::Object(mut object) = self.agreement.to_json() else { return Map::new() };
        object.insert("intervals".into(), to_json(&self.intervals));
        object
    }
}

/// For each text the number of its cluster: equal texts are one, numbered in their order.
pub fn clusters_of(texts: &[String]) -> Vec<usize> {
    let mut known: Vec<&String> = texts.iter().collect();
    known.sort_unstable();
    known.dedup();
    texts.iter().map(|text| known.partition_point(|k| *k < text)).collect()
}
