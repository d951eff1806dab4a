//! `report.html`: one self-contained page about one trained judge. No scripts, nothing loaded from elsewhere, light and
//! dark, a data table behind every chart.
//!
//! | part | file |
//! |---|---|
//! | what a report consists of | this file |
//! | what its page shows | `html`, `templates/report.html` |
//! | pages from templates; what all pages share | `template`, `templates/base.html` |
//! | the charts | `charts` |
//! | the charts of errors: confusion, residuals | `errors` |
//! | counting scores into bins | `histogram` |

mod charts;
mod errors;
mod histogram;
mod html;
pub(crate) mod template;

#[cfg(test)]
mod tests;

use super::intervals::NamedInterval;
use super::tally::LabelTable;
use super::{Agreement, EvalError, Measured};

/// Everything the page shows. Empty parts leave their section out.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Heading.
    pub title: String,
    /// One sentence under it: which judge, trained how, on what.
    pub subtitle: String,
    /// A few large figures at the top.
    pub headlines: Vec<Headline>,
    /// What was run, as name and value: model, adapter, seed, command, time.
    pub facts: Vec<(String, String)>,
    /// Charts of figures that this page knows nothing of.
    pub charts: Vec<crate::charts::Chart>,
    /// Training curves; those of one `kind` share a chart.
    pub curves: Vec<Curve>,
    /// The values of the score scale, ascending.
    pub scale: Vec<f64>,
    /// One entry per judged row: human score (the mean, if there are several people) and the judge's expected score.
    pub scores: Vec<(f64, f64)>,
    /// The same of the judge before the last stage of training; empty if there is nothing to compare.
    pub before: Vec<(f64, f64)>,
    /// Metrics of the judge with its baselines and, if known, its ceiling.
    pub metrics: MetricTable,
    /// All other metrics: a row each, a column per judge.
    pub more: MetricTable,
    /// Rows by the labels of people and judge.
    pub confusion: Option<LabelTable>,
    /// Judge minus people in groups of rows; a chart each.
    pub residuals: Vec<Residuals>,
    /// The rows where judge and people are farthest apart, worst first.
    pub worst: Vec<JudgedExample>,
    /// Single rows, shown whole.
    pub examples: Vec<JudgedExample>,
    /// Remarks at the end, a paragraph each.
    pub notes: Vec<String>,
}

/// Judge minus people by a property of the rows.
#[derive(Clone, Debug, Default)]
pub struct Residuals {
    /// By what: "length", "category".
    pub by: String,
    /// The groups from top to bottom.
    pub groups: Vec<ResidualGroup>,
}

/// Rows of one kind.
#[derive(Clone, Debug, PartialEq)]
pub struct ResidualGroup {
    /// What they share.
    pub name: String,
    /// How many.
    pub n: usize,
    /// Mean of judge minus people.
    pub mean: f64,
    /// Its standard error; `None` for one row.
    pub standard_error: Option<f64>,
}

impl ResidualGroup {
    /// A group of differences; `None` if there are none.
    pub fn new(name: &str, residuals: &[f64]) -> Option<Self> {
        let n = residuals.len();
        let mean = (n > 0).then(|| super::mean(residuals))?;
        let squares: f64 = residuals.iter().map(|d| (d - mean).powi(2)).sum();
        let standard_error = (n > 1).then(|| (squares / (n - 1) as f64 / n as f64).sqrt());
        Some(ResidualGroup { name: name.to_string(), n, mean, standard_error })
    }
}

impl Residuals {
    /// Residuals by a length in `unit`: at most eight groups of nearly equal size.
    pub fn by_length(lengths: &[usize], residuals: &[f64], unit: &str) -> Self {
        const GROUPS: usize = 8;
        let mut rows: Vec<(usize, f64)> = lengths.iter().copied().zip(residuals.iter().copied()).collect();
        rows.sort_by_key(|row| row.0);
        let mut groups = Vec::new();
        let mut start = 0;
        for part in 1..=GROUPS {
            let mut end = (rows.len() * part / GROUPS).max(start);
            // Equal lengths stay together.
            while end > start && end < rows.len() && rows[end].0 == rows[end - 1].0 {
                end += 1;
            }
            let (group, name) = match &rows[start..end] {
                [] => continue,
                group => (group, format!("{} to {} {unit}", group[0].0, group[group.len() - 1].0)),
            };
            groups.extend(ResidualGroup::new(&name, &group.iter().map(|row| row.1).collect::<Vec<_>>()));
            start = end;
        }
        Residuals { by: "length".into(), groups }
    }

    /// Residuals by the rows' category, in the order of their names.
    pub fn by_category(by: &str, categories: &[String], residuals: &[f64]) -> Self {
        let mut rows: std::collections::BTreeMap<&str, Vec<f64>> = std::collections::BTreeMap::new();
        categories.iter().zip(residuals).for_each(|(name, d)| rows.entry(name).or_default().push(*d));
        Residuals { by: by.into(), groups: rows.iter().filter_map(|(name, d)| ResidualGroup::new(name, d)).collect() }
    }
}

/// A large figure at the top of the page.
#[derive(Clone, Debug, Default)]
pub struct Headline {
    /// What it is, for example "Pearson r".
    pub label: String,
    /// The figure as it is to be shown.
    pub value: String,
    /// What to compare it with, for example "length baseline 0.08".
    pub detail: String,
}

/// A curve over training steps.
#[derive(Clone, Debug, Default)]
pub struct Curve {
    /// Name in the legend.
    pub name: String,
    /// What is measured, in which unit: the title of the chart. Curves of the same kind share a chart.
    pub kind: String,
    /// (step, value); points that are not finite break the line.
    pub points: Vec<(f64, f64)>,
}

/// Rows of judges and baselines in groups (one per test set), with the same columns throughout.
#[derive(Clone, Debug, Default)]
pub struct MetricTable {
    /// Column heads. The first column is also drawn as a chart.
    pub columns: Vec<String>,
    /// The groups from top to bottom.
    pub groups: Vec<MetricGroup>,
}

/// The rows of one test set.
#[derive(Clone, Debug, Default)]
pub struct MetricGroup {
    /// Name of the test set.
    pub name: String,
    /// Its rows.
    pub rows: Vec<MetricRow>,
}

/// One judge or baseline.
#[derive(Clone, Debug)]
pub struct MetricRow {
    /// Name of the judge or baseline.
    pub name: String,
    /// What it stands for.
    pub role: Role,
    /// One figure per column.
    pub figures: Vec<Figure>,
}

/// What a row of a metric table is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A judge.
    Judge,
    /// A predictor that does not read the text.
    Baseline,
    /// What no judge can exceed, or what a person reaches.
    Ceiling,
}

/// A figure with its interval, if one was made.
#[derive(Clone, Debug)]
pub struct Figure {
    /// The figure, or why there is none.
    pub value: Measured,
    /// Lower and upper end.
    pub interval: Option<(f64, f64)>,
}

/// The metrics of a report's table: key in [`Agreement`] and column head.
pub const MAIN_METRICS: [(&str, &str); 6] = [
    ("pearson", "Pearson r"),
    ("spearman", "Spearman ρ"),
    ("kendall_tau_b", "Kendall τ-b"),
    ("rmse", "RMSE"),
    ("mae", "MAE"),
    ("bias", "bias"),
];

impl MetricRow {
    /// A row of the [`MAIN_METRICS`] of `agreement`.
    pub fn new(name: &str, role: Role, agreement: &Agreement) -> Self {
        let figures = MAIN_METRICS.iter().filter_map(|(key, _)| agreement.get(key).cloned().map(Figure::from));
        MetricRow { name: name.to_string(), role, figures: figures.collect() }
    }

    /// The same with the intervals that are there.
    #[must_use]
    pub fn with_intervals(mut self, intervals: &[NamedInterval]) -> Self {
        for ((key, _), figure) in MAIN_METRICS.iter().zip(&mut self.figures) {
            figure.interval = interval_of(key, intervals);
        }
        self
    }
}

fn interval_of(key: &str, intervals: &[NamedInterval]) -> Option<(f64, f64)> {
    let found = intervals.iter().find(|(name, _)| *name == key)?.1.as_ref().ok()?;
    Some((found.low, found.high))
}

impl MetricTable {
    /// All metrics but the [`MAIN_METRICS`]: a row each, a column for each judge.
    pub fn of_all(judges: &[(&str, &Agreement, &[NamedInterval])]) -> Self {
        let Some((_, first, _)) = judges.first() else { return MetricTable::default() };
        let names = first.iter().map(|(name, _)| name).filter(|name| !MAIN_METRICS.iter().any(|(key, _)| key == name));
        let figure = |name: &str, agreement: &Agreement, intervals: &[NamedInterval]| {
            Some(Figure { value: agreement.get(name)?.clone(), interval: interval_of(name, intervals) })
        };
        let row = |name: &str| MetricRow {
            name: name.replace('_', " "),
            role: Role::Judge,
            figures: judges.iter().filter_map(|(_, agreement, intervals)| figure(name, agreement, intervals)).collect(),
        };
        let rows = names.map(row).collect();
        let columns = judges.iter().map(|(name, _, _)| name.to_string()).collect();
        MetricTable { columns, groups: vec![MetricGroup { name: String::new(), rows }] }
    }

    /// A table with the columns of [`MAIN_METRICS`].
    pub fn new(groups: Vec<MetricGroup>) -> Self {
        MetricTable { columns: MAIN_METRICS.iter().map(|(_, head)| head.to_string()).collect(), groups }
    }
}

impl From<Measured> for Figure {
    fn from(value: Measured) -> Self {
        Figure { value, interval: None }
    }
}

/// One judged row.
#[derive(Clone, Debug, Default)]
pub struct JudgedExample {
    /// What the judge read.
    pub prompt: String,
    /// What it wrote before the score; may be empty.
    pub chain: String,
    /// The human score, if there is one.
    pub human: Option<f64>,
    /// The mean of the judge's distribution.
    pub expected: f64,
    /// The most likely score text.
    pub decoded: String,
    /// Each score text with its probability, in order of the scale.
    pub probabilities: Vec<(String, f64)>,
}

impl Report {
    /// The page.
    ///
    /// # Errors
    /// A mistake in its template.
    pub fn to_html(&self) -> Result<String, EvalError> {
        html::page(self)
    }
}
