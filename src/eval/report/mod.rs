//! `report.html`: one self-contained page about one trained judge. No scripts, nothing loaded from elsewhere, light and
//! dark, a data table behind every chart.
//!
//! | part | file |
//! |---|---|
//! | what a report consists of | this file |
//! | page, sections, tables | `html` |
//! | the charts | `charts` |
//! | counting scores into bins | `histogram` |
//! | SVG elements, axes, round ticks | `svg` |

mod charts;
mod histogram;
mod html;
pub(crate) mod svg;

#[cfg(test)]
mod tests;

use super::table::{Cell, Table};
use super::{Agreement, Measured};

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
    /// Training curves; those of one `kind` share a chart.
    pub curves: Vec<Curve>,
    /// The values of the score scale, ascending.
    pub scale: Vec<f64>,
    /// One entry a judged row: human score (the mean, if there are several people) and the judge's expected score.
    pub scores: Vec<(f64, f64)>,
    /// The same of the judge before the last stage of training; empty if there is nothing to compare.
    pub before: Vec<(f64, f64)>,
    /// Metrics of the judge with its floors and, if known, its ceiling.
    pub metrics: MetricTable,
    /// Single rows, shown whole.
    pub examples: Vec<Example>,
    /// Remarks at the end, a paragraph each.
    pub notes: Vec<String>,
}

/// A large figure at the top of the page.
#[derive(Clone, Debug, Default)]
pub struct Headline {
    /// What it is, for example "Pearson r".
    pub label: String,
    /// The figure as it is to be shown.
    pub value: String,
    /// What to compare it with, for example "length floor 0.08".
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

/// Rows of judges and floors in groups (one a test set), with the same columns throughout.
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

/// One judge or floor.
#[derive(Clone, Debug)]
pub struct MetricRow {
    /// Name of the judge or floor.
    pub name: String,
    /// What it stands for.
    pub role: Role,
    /// One figure a column.
    pub figures: Vec<Figure>,
}

/// What a row of a metric table stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A judge.
    Judge,
    /// What can be had without reading.
    Floor,
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
}

impl MetricTable {
    /// A table with the columns of [`MAIN_METRICS`].
    pub fn new(groups: Vec<MetricGroup>) -> Self {
        MetricTable { columns: MAIN_METRICS.iter().map(|(_, head)| head.to_string()).collect(), groups }
    }

    /// The same figures as plain text: one table a group, named in the head of its first column.
    pub fn to_text(&self) -> Vec<Table> {
        let text = |group: &MetricGroup| {
            let mut table = Table::new([&group.name].into_iter().chain(&self.columns));
            for row in &group.rows {
                let figures = row.figures.iter().map(|f| Cell::number(&f.value, 3));
                table.row([Cell::from(row.name.as_str())].into_iter().chain(figures));
            }
            table
        };
        self.groups.iter().map(text).collect()
    }
}

impl From<Measured> for Figure {
    fn from(value: Measured) -> Self {
        Figure { value, interval: None }
    }
}

/// One judged row.
#[derive(Clone, Debug, Default)]
pub struct Example {
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
    pub fn to_html(&self) -> String {
        html::page(self)
    }
}
