//! Compares any judge with people, from columns of numbers.

use serde_json::{Map, Value, json};

use super::{MeasuredJudge, ProbabilityFigures, length_bias_of, mass_figures, probability_figures};
use crate::eval::compare::{Comparison, holm};
use crate::eval::figures::{Figure, cells, without_intervals};
use crate::eval::intervals::{Bootstrap, Interval, IntervalMethod};
use crate::eval::repeats::Repeats;
use crate::eval::table::{Cell, Table, fixed};
use crate::eval::{Agreement, EvalError, Grid, Measured, Undefined};

/// Columns of one file, row by row the same items. A column that was not requested is `None`.
#[derive(Clone, Debug, Default)]
pub struct Columns {
    /// The human scores.
    pub human: Vec<f64>,
    /// The judge's scores; `None` where no score could be parsed.
    pub judge: Vec<Option<f64>>,
    /// The scores of another judge.
    pub judge2: Option<Vec<Option<f64>>>,
    /// The cluster of each row.
    pub clusters: Option<Vec<usize>>,
    /// The length of each response.
    pub lengths: Option<Vec<Option<f64>>>,
    /// The judge's answer and its repeats.
    pub repeats: Option<Vec<Vec<Option<f64>>>>,
    /// The judge's distributions in ascending order of the scale's values.
    pub probabilities: Option<Vec<Option<Vec<f64>>>>,
    /// Probability on score tokens, for the rows that have it.
    pub masses: Option<Vec<f64>>,
    /// The number of rows without a human score. They are in no column.
    pub unlabelled: usize,
}

/// The names of the file and its columns.
#[derive(Clone, Debug, Default)]
pub struct ColumnNames {
    /// The file.
    pub file: String,
    /// The column of human scores.
    pub human: String,
    /// The judge's column.
    pub judge: String,
    /// The other judge's column.
    pub judge2: Option<String>,
    /// The column that groups rows.
    pub cluster: Option<String>,
}

/// All figures of one file.
#[derive(Clone, Debug)]
pub struct ColumnEvaluation {
    names: ColumnNames,
    /// The scale's values, ascending.
    scale: Vec<f64>,
    level: f64,
    unlabelled: usize,
    judge: MeasuredJudge,
    judge2: Option<MeasuredJudge>,
    comparison: Option<Comparison>,
    length_bias: Option<Measured>,
    repeats: Option<Repeats>,
    probabilities: Option<ProbabilityFigures>,
    mass: Option<[(&'static str, Measured); 2]>,
    /// The scale's words, and the number of rows per pair of words, where the scale has words.
    labels: Option<(Vec<String>, Vec<Vec<u64>>)>,
}

impl ColumnEvaluation {
    /// Measures everything for which there are columns. `words` are the scale's texts by ascending value, where they are words.
    /// `threshold` is the threshold of the flip rate of repeats. `bootstrap` takes its clusters from the columns.
    ///
    /// # Errors
    /// Columns of different length, values that are not finite.
    pub fn measure(
        names: ColumnNames,
        columns: &Columns,
        grid: &Grid,
        words: Option<Vec<String>>,
        threshold: f64,
        bootstrap: &Bootstrap,
    ) -> Result<Self, EvalError> {
        let human = &columns.human;
        let bootstrap = Bootstrap { clusters: columns.clusters.as_deref(), ..*bootstrap };
        let named = words.as_deref();
        let judge = MeasuredJudge::measure(human, &columns.judge, grid, named, &bootstrap)?;
        let other = columns.judge2.as_deref();
        let judge2 = other.map(|other| MeasuredJudge::measure(human, other, grid, named, &bootstrap)).transpose()?;
        let compare = |other: &[Option<f64>]| Comparison::measure(human, &columns.judge, other, grid, &bootstrap);
        let comparison = other.map(compare).transpose()?;
        let counts = |words: Vec<String>| Some((label_counts(&judge.agreement, words.len())?, words));
        Ok(ColumnEvaluation {
            labels: words.and_then(counts).map(|(counts, words)| (words, counts)),
            scale: grid.values().to_vec(),
            level: bootstrap.level,
            unlabelled: columns.unlabelled,
            judge2,
            comparison,
            length_bias: columns.lengths.as_ref().map(|lengths| length_bias_of(human, &columns.judge, lengths)),
            repeats: columns.repeats.as_ref().map(|rows| Repeats::measure(rows, grid, threshold)).transpose()?,
            probabilities: columns.probabilities.as_ref().map(|rows| probability_figures(human, rows, grid)).transpose()?,
            mass: columns.masses.as_deref().map(mass_figures).transpose()?,
            judge,
            names,
        })
    }

    /// The judge's figures at the top level, named as in the Python libraries; everything else in nested objects.
    pub fn to_json(&self) -> Value {
        let mut object = self.judge.to_json();
        object.insert("file".into(), json!(self.names.file));
        object.insert("human".into(), json!(self.names.human));
        object.insert("judge".into(), json!(self.names.judge));
        object.insert("scale".into(), json!(self.scale));
        object.insert("n_unlabelled".into(), json!(self.unlabelled));
        if let Some((labels, counts)) = &self.labels {
            object.insert("labels".into(), json!(labels));
            object.insert("counts".into(), json!(counts));
        }
        object.insert("bootstrap".into(), self.judge.bootstrap.clone());
        let mut reasons = Map::new();
        let mut add = |name: &str, value: &Measured| {
            object.insert(name.into(), json!(value.as_ref().ok()));
            if let Err(reason) = value {
                reasons.insert(name.into(), json!(reason.to_string()));
            }
        };
        self.length_bias.iter().for_each(|value| add("length_bias", value));
        self.probabilities.iter().flat_map(|(_, figures)| figures).for_each(|(name, value)| add(name, value));
        self.mass.iter().flatten().for_each(|(name, value)| add(name, value));
        if let Some((rows, _)) = &self.probabilities {
            object.insert("n_probabilities".into(), json!(rows));
            object.insert("probabilities".into(), json!("renormalised over the scale"));
        }
        if !reasons.is_empty() {
            let undefined = object.entry("undefined").or_insert_with(|| json!({}));
            undefined.as_object_mut().into_iter().for_each(|undefined| undefined.extend(reasons.clone()));
        }
        if let Some(repeats) = &self.repeats {
            object.insert("repeats".into(), repeats.to_json());
        }
        if let (Some(judge2), Some(comparison)) = (&self.judge2, &self.comparison) {
            let mut second = judge2.to_json();
            second.insert("judge".into(), json!(self.names.judge2));
            object.insert("judge2".into(), Value::Object(second));
            object.insert("comparison".into(), comparison.to_json());
        }
        Value::Object(object)
    }

    /// All figures, for gates: the judge's by their names, the other judge's after `judge2.`, and their differences after
    /// `difference.`.
    pub fn figures(&self) -> Vec<Figure> {
        let mut figures = self.judge.figures();
        let plain = |(name, value): (&'static str, &Measured)| Figure::plain(name, value.clone());
        figures.extend(self.length_bias.iter().map(|value| plain(("length_bias", value))));
        let calibration = self.probabilities.iter().flat_map(|(_, figures)| figures).chain(self.mass.iter().flatten());
        figures.extend(calibration.map(|(name, value)| plain((*name, value))));
        figures.extend(self.repeats.iter().flat_map(Repeats::figures).map(plain));
        let second = self.judge2.iter().flat_map(MeasuredJudge::figures);
        figures.extend(second.map(|figure| Figure { name: format!("judge2.{}", figure.name), ..figure }));
        let differences = self.comparison.iter().flat_map(|comparison| comparison.values.iter().zip(&comparison.differences));
        figures.extend(
            differences.map(|(value, (name, interval))| {
                Figure::resampled(format!("difference.{name}"), value.clone(), interval.clone())
            }),
        );
        figures
    }

    /// The tables and remarks for the terminal.
    pub fn to_text(&self) -> String {
        let percent = format!("{} % interval", fixed(100.0 * self.level, 1).trim_end_matches(".0"));
        let mut header = vec![self.names.file.clone(), self.names.judge.clone(), percent.clone()];
        if let Some(other) = &self.names.judge2 {
            header.extend([other.clone(), percent.clone(), format!("{} − {other}", self.names.judge), percent]);
        }
        let mut table = Table::new(header);
        let second = self.judge2.as_ref().zip(self.comparison.as_ref());
        let resampled = |judge: &MeasuredJudge, name: &str, interval: &Result<Interval, Undefined>| {
            let value = judge.agreement.get(name).cloned();
            cells(&value.unwrap_or_else(|| interval.as_ref().map(|i| i.estimate).map_err(Clone::clone)), Some(interval))
        };
        for (k, (name, interval)) in self.judge.intervals.iter().enumerate() {
            let mut row = vec![Cell::from(*name)];
            row.extend(resampled(&self.judge, name, interval));
            if let Some((judge2, comparison)) = second {
                row.extend(resampled(judge2, name, &judge2.intervals[k].1));
                row.extend(cells(&comparison.values[k], Some(&comparison.differences[k].1)));
            }
            table.row(row);
        }
        for (k, figure) in self.judge.labels.iter().flat_map(|labels| &labels.figures).enumerate() {
            let mut row = vec![Cell::from(figure.name.as_str())];
            row.extend(figure.cells());
            let second = self.judge2.as_ref().and_then(|other| other.labels.as_ref());
            row.extend(second.into_iter().flat_map(|labels| labels.figures[k].cells()));
            table.row(row);
        }
        let without_interval =
            self.judge.agreement.iter().filter(|(name, _)| !self.judge.intervals.iter().any(|(known, _)| known == name));
        let measured = self.length_bias.iter().map(|value| ("length_bias", value));
        let probabilities = self.probabilities.iter().flat_map(|(_, f)| f).chain(self.mass.iter().flatten());
        for (name, value) in without_interval.chain(measured).chain(probabilities.map(|(name, value)| (*name, value))) {
            let mut row = vec![Cell::from(name), cell(name, value), Cell::from("")];
            if let Some((judge2, _)) = second {
                row.extend(judge2.agreement.get(name).map(|value| cell(name, value)));
            }
            table.row(row);
        }
        for (name, value) in self.repeats.iter().flat_map(Repeats::figures) {
            table.row([Cell::from(name), Cell::number(value, 3)]);
        }
        format!("{table}{}{}", self.counts_text(), self.remarks())
    }

    /// One row per word of people, one column per word of the judge.
    fn counts_text(&self) -> String {
        let Some((labels, counts)) = &self.labels else { return String::new() };
        let mut table =
            Table::new([format!("{} \\ {}", self.names.human, self.names.judge)].into_iter().chain(labels.iter().cloned()));
        for (label, row) in labels.iter().zip(counts) {
            table.row([Cell::from(label.as_str())].into_iter().chain(row.iter().map(|n| Cell::from(n.to_string()))));
        }
        format!("\n{table}\n")
    }

    fn remarks(&self) -> String {
        let a = &self.judge.agreement;
        let mut text = format!(
            "n {}, without a judge score {} (coverage {}), without a human score {}\n",
            a.n,
            a.n_unparsed,
            fixed(a.coverage(), 4),
            self.unlabelled
        );
        let drawn = |key: &str| self.judge.bootstrap[key].as_u64().unwrap_or_default();
        let unit = match &self.names.cluster {
            Some(column) => format!("{} clusters of `{column}`", drawn("clusters")),
            None => "rows".to_string(),
        };
        let normal = self.judge.intervals.iter().any(|(_, i)| i.as_ref().is_ok_and(|i| i.method == IntervalMethod::Normal));
        let how = if normal {
            "estimate ± z · their standard deviation, since there are too many rows for more"
        } else {
            "percentiles; BCa in --json"
        };
        text += &match without_intervals(&self.judge.bootstrap) {
            Some(reason) => reason + "\n",
            None => format!("intervals: {} resamples of {unit}, {how}\n", drawn("resamples")),
        };
        let redrawn = self.judge.intervals.iter().filter_map(|(_, i)| i.as_ref().ok()).map(|i| i.redrawn).max().unwrap_or(0);
        if redrawn > 0 {
            text += &format!("up to {redrawn} resamples had no value and were drawn again\n");
        }
        let Some(comparison) = &self.comparison else { return text };
        text += &format!("both judges: n {}\n", comparison.n);
        if let Ok(test) = &comparison.sign_flip {
            let how = if test.exact { "all" } else { "random" };
            text += &format!(
                "mean absolute error, difference {}: p {} ({how} {} sign patterns)\n",
                fixed(test.difference, 4),
                p_text(test.p),
                test.flips
            );
        }
        for (name, tests) in [("Pearson", &comparison.pearson), ("Spearman", &comparison.spearman)] {
            if let Ok(tests) = tests {
                let steiger = tests.steiger.map_or("–".into(), |t| format!("Z {}, p {}", fixed(t.statistic, 3), p_text(t.p)));
                let williams = tests.williams;
                text += &format!(
                    "{name}: Williams t {}, p {}; Steiger {steiger}\n",
                    fixed(williams.statistic, 3),
                    p_text(williams.p)
                );
            }
        }
        text
    }
}

/// The number of rows per pair of labels (people, judge); `None` if the human scores are not labels.
fn label_counts(agreement: &Agreement, labels: usize) -> Option<Vec<Vec<u64>>> {
    let table = agreement.table()?;
    Some((0..labels).map(|human| (0..labels).map(|judge| table.rows(human, judge)).collect()).collect())
}

fn cell(name: &str, value: &Measured) -> Cell {
    match value {
        Ok(p) if name.ends_with("_p") => Cell::from(p_text(*p)),
        other => Cell::number(other, 3),
    }
}

fn p_text(p: f64) -> String {
    match p {
        0.0 => "< 1e-300".into(),
        p if p < 1e-4 => format!("{p:.1e}"),
        p => fixed(p, 4),
    }
}

/// The p-value of a comparison, where defined.
type PValue = fn(&Comparison) -> Option<f64>;

/// The tests of a comparison that Holm corrects over data sets.
const TESTS: [(&str, PValue); 3] = [
    ("sign_flip", |c| c.sign_flip.as_ref().ok().map(|t| t.p)),
    ("williams_pearson", |c| c.pearson.as_ref().ok().map(|t| t.williams.p)),
    ("williams_spearman", |c| c.spearman.as_ref().ok().map(|t| t.williams.p)),
];

/// The corrected p-value of each test and file. It is null where the test is undefined; such a test does not count for the
/// correction.
pub fn holm_of(evaluations: &[ColumnEvaluation]) -> Value {
    let corrected = |p: PValue| {
        let p_values: Vec<Option<f64>> =
            evaluations.iter().map(|evaluation| evaluation.comparison.as_ref().and_then(p)).collect();
        let mut adjusted = holm(&p_values.iter().flatten().copied().collect::<Vec<_>>()).into_iter();
        p_values.iter().map(|p| p.and_then(|_| adjusted.next())).collect::<Vec<Option<f64>>>()
    };
    Value::Object(TESTS.iter().map(|(name, p)| (name.to_string(), json!(corrected(*p)))).collect())
}

/// The table of [`holm_of`].
pub fn holm_table(evaluations: &[ColumnEvaluation], corrected: &Value) -> String {
    let mut table = Table::new(["p after Holm", "MAE, sign flips", "Pearson, Williams", "Spearman, Williams"]);
    for (k, evaluation) in evaluations.iter().enumerate() {
        let p = |test: &str| corrected[test][k].as_f64().map_or(Cell::from("–"), |p| Cell::from(p_text(p)));
        table.row([Cell::from(evaluation.names.file.as_str())].into_iter().chain(TESTS.iter().map(|(name, _)| p(name))));
    }
    table.to_string()
}
