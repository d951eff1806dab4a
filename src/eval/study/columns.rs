//! Any judge against people, from columns of numbers.

use serde_json::{Map, Value, json};

use super::{Calibration, MeasuredJudge, calibration, length_bias_of, mass_figures};
use crate::eval::compare::{Comparison, holm};
use crate::eval::intervals::{Bootstrap, Interval, Method};
use crate::eval::repeats::Repeats;
use crate::eval::table::{Cell, Table, fixed};
use crate::eval::{Agreement, EvalError, Grid, Measured, Undefined};

/// Columns of one file, row by row the same items; a column that was not asked for is `None`.
#[derive(Clone, Debug, Default)]
pub struct Columns {
    /// What people said.
    pub human: Vec<f64>,
    /// What the judge said; none where no score could be read.
    pub judge: Vec<Option<f64>>,
    /// What another judge said.
    pub judge2: Option<Vec<Option<f64>>>,
    /// The group of each row.
    pub clusters: Option<Vec<usize>>,
    /// How long each response is.
    pub lengths: Option<Vec<Option<f64>>>,
    /// The judge's answer and its repeats.
    pub repeats: Option<Vec<Vec<Option<f64>>>>,
    /// The judge's distributions in ascending order of the scale's values.
    pub probabilities: Option<Vec<Option<Vec<f64>>>>,
    /// Probability on score tokens, of the rows that have it.
    pub masses: Option<Vec<f64>>,
    /// Rows without a human score, which are in no column.
    pub unlabelled: usize,
}

/// What the columns are called.
#[derive(Clone, Debug, Default)]
pub struct ColumnNames {
    /// The file.
    pub file: String,
    /// The column of people.
    pub human: String,
    /// The judge's.
    pub judge: String,
    /// The other judge's.
    pub judge2: Option<String>,
    /// The one that groups rows.
    pub cluster: Option<String>,
}

/// Everything about one file.
#[derive(Clone, Debug)]
pub struct ColumnStudy {
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
    probabilities: Option<Calibration>,
    mass: Option<[(&'static str, Measured); 2]>,
    /// The words of the scale and how often each met each, where the scale has words.
    labels: Option<(Vec<String>, Vec<Vec<u64>>)>,
}

impl ColumnStudy {
    /// Measures all that there are columns for. `words` are the scale's texts by rising value, where they are words;
    /// `threshold` is what repeats should not cross; `bootstrap` takes its clusters from the columns.
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
        let judge = MeasuredJudge::measure(human, &columns.judge, grid, &bootstrap)?;
        let other = columns.judge2.as_deref();
        let judge2 = other.map(|other| MeasuredJudge::measure(human, other, grid, &bootstrap)).transpose()?;
        let compare = |other: &[Option<f64>]| Comparison::measure(human, &columns.judge, other, grid, &bootstrap);
        let comparison = other.map(compare).transpose()?;
        let counts = |words: Vec<String>| Some((label_counts(&judge.agreement, words.len())?, words));
        Ok(ColumnStudy {
            labels: words.and_then(counts).map(|(counts, words)| (words, counts)),
            scale: grid.values().to_vec(),
            level: bootstrap.level,
            unlabelled: columns.unlabelled,
            judge2,
            comparison,
            length_bias: columns.lengths.as_ref().map(|lengths| length_bias_of(human, &columns.judge, lengths)),
            repeats: columns.repeats.as_ref().map(|rows| Repeats::measure(rows, grid, threshold)).transpose()?,
            probabilities: columns.probabilities.as_ref().map(|rows| calibration(human, rows, grid)).transpose()?,
            mass: columns.masses.as_deref().map(mass_figures).transpose()?,
            judge,
            names,
        })
    }

    /// The judge's figures at the top, by the names of the Python libraries; everything else in objects beside them.
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
        let mut put = |name: &str, value: &Measured| {
            object.insert(name.into(), json!(value.as_ref().ok()));
            if let Err(reason) = value {
                reasons.insert(name.into(), json!(reason.to_string()));
            }
        };
        self.length_bias.iter().for_each(|value| put("length_bias", value));
        self.probabilities.iter().flat_map(|(_, figures)| figures).for_each(|(name, value)| put(name, value));
        self.mass.iter().flatten().for_each(|(name, value)| put(name, value));
        if let Some((rows, _)) = &self.probabilities {
            object.insert("n_probabilities".into(), json!(rows));
            object.insert("probabilities".into(), json!("renormalised over the scale"));
        }
        if !reasons.is_empty() {
            let all = object.entry("undefined").or_insert_with(|| json!({}));
            all.as_object_mut().into_iter().for_each(|all| all.extend(reasons.clone()));
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

    /// The tables of the terminal, and what is to be said of them.
    pub fn to_text(&self) -> String {
        let percent = format!("{} % interval", fixed(100.0 * self.level, 1).trim_end_matches(".0"));
        let mut header = vec![self.names.file.clone(), self.names.judge.clone(), percent.clone()];
        if let Some(other) = &self.names.judge2 {
            header.extend([other.clone(), percent.clone(), format!("{} − {other}", self.names.judge), percent]);
        }
        let mut table = Table::new(header);
        let second = self.judge2.as_ref().zip(self.comparison.as_ref());
        for (k, (name, interval)) in self.judge.intervals.iter().enumerate() {
            let mut row = vec![Cell::from(*name)];
            row.extend(cells(interval));
            if let Some((judge2, comparison)) = second {
                row.extend(cells(&judge2.intervals[k].1));
                row.extend(cells(&comparison.differences[k].1));
            }
            table.row(row);
        }
        let without =
            self.judge.agreement.iter().filter(|(name, _)| !self.judge.intervals.iter().any(|(known, _)| known == name));
        let measured = self.length_bias.iter().map(|value| ("length_bias", value));
        let probabilities = self.probabilities.iter().flat_map(|(_, f)| f).chain(self.mass.iter().flatten());
        for (name, value) in without.chain(measured).chain(probabilities.map(|(name, value)| (*name, value))) {
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

    /// A row for each word of people, a column for each of the judge.
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
        let normal = self.judge.intervals.iter().any(|(_, i)| i.as_ref().is_ok_and(|i| i.method == Method::Normal));
        let how = if normal {
            "estimate ± z · their standard deviation, since there are too many rows for more"
        } else {
            "percentiles; BCa in --json"
        };
        text += &format!("intervals: {} resamples of {unit}, {how}\n", drawn("resamples"));
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

/// How many rows people called the first label of a pair and the judge the second; none where people gave no labels.
fn label_counts(agreement: &Agreement, labels: usize) -> Option<Vec<Vec<u64>>> {
    let table = agreement.table()?;
    Some((0..labels).map(|human| (0..labels).map(|judge| table.rows(human, judge)).collect()).collect())
}

/// A figure and its interval.
fn cells(interval: &Result<Interval, Undefined>) -> [Cell; 2] {
    match interval {
        Ok(i) => [Cell::from(fixed(i.estimate, 3)), Cell::from(format!("{} to {}", fixed(i.low, 3), fixed(i.high, 3)))],
        Err(reason) => [Cell::Missing(reason.to_string()), Cell::from("")],
    }
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

/// The p-value of a comparison, where there is one.
type PValue = fn(&Comparison) -> Option<f64>;

/// The tests of a comparison that Holm corrects over data sets.
const TESTS: [(&str, PValue); 3] = [
    ("sign_flip", |c| c.sign_flip.as_ref().ok().map(|t| t.p)),
    ("williams_pearson", |c| c.pearson.as_ref().ok().map(|t| t.williams.p)),
    ("williams_spearman", |c| c.spearman.as_ref().ok().map(|t| t.williams.p)),
];

/// For each test and file the corrected p; null where the test is undefined, which then does not count among them.
pub fn holm_of(found: &[ColumnStudy]) -> Value {
    let of = |p: PValue| {
        let each: Vec<Option<f64>> = found.iter().map(|f| f.comparison.as_ref().and_then(p)).collect();
        let mut adjusted = holm(&each.iter().flatten().copied().collect::<Vec<_>>()).into_iter();
        each.iter().map(|p| p.and_then(|_| adjusted.next())).collect::<Vec<Option<f64>>>()
    };
    Value::Object(TESTS.iter().map(|(name, p)| (name.to_string(), json!(of(*p)))).collect())
}

/// The table of [`holm_of`].
pub fn holm_table(found: &[ColumnStudy], corrected: &Value) -> String {
    let mut table = Table::new(["p after Holm", "MAE, sign flips", "Pearson, Williams", "Spearman, Williams"]);
    for (k, study) in found.iter().enumerate() {
        let p = |test: &str| corrected[test][k].as_f64().map_or(Cell::from("–"), |p| Cell::from(p_text(p)));
        table.row([Cell::from(study.names.file.as_str())].into_iter().chain(TESTS.iter().map(|(name, _)| p(name))));
    }
    table.to_string()
}
