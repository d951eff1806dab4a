//! One judge on rows with human scores: its expected score, its decoded scores, and the baselines.

use serde_json::{Map, Value};

use super::{MeasuredJudge, length_bias_of, mass_figures, probability_figures};
use crate::eval::clusters::clusters_of;
use crate::eval::faithfulness::ChainSwap;
use crate::eval::figures::{Figure, Share, shares, with_ends, without_intervals};
use crate::eval::intervals::Bootstrap;
use crate::eval::recalibration::CalibratedScore;
use crate::eval::report::Role;
use crate::eval::table::{Cell, Table};
use crate::eval::{EvalError, Grid, Undefined, baselines, mean};

/// The row of the mean of the judge's distribution.
const EXPECTED: &str = "expected score";
/// The row of the most probable score.
const DECODED: &str = "decoded score";
/// The row of the calibrated score.
const CALIBRATED: &str = "calibrated score";

/// The rows of an evaluation, column by column.
#[derive(Clone, Debug, Default)]
pub struct JudgedRows {
    /// The human scores.
    pub human: Vec<f64>,
    /// The mean of the judge's distribution; `None` where the row could not be judged.
    pub expected: Vec<Option<f64>>,
    /// The most probable score.
    pub decoded: Vec<Option<f64>>,
    /// The median of the distribution, which minimises the absolute error.
    pub medians: Vec<Option<f64>>,
    /// What a calibration says that people would give. All `None` where there is none, and where it was fitted on these rows.
    pub calibrated: Vec<Option<CalibratedScore>>,
    /// Probabilities in ascending order of the scale's values, with sum 1; `None` where a row has none.
    pub distributions: Vec<Option<Vec<f64>>>,
    /// Probability on score tokens in the full vocabulary, for the rows that have it.
    pub masses: Vec<f64>,
    /// The number of characters of each judged text.
    pub lengths: Vec<usize>,
    /// Share of words that the judged text shares with its reference; `None` if a row lacks one of the two texts.
    pub overlaps: Option<Vec<f64>>,
    /// A column that groups rows: its name and its texts.
    pub clusters: Option<(String, Vec<String>)>,
    /// The words of the scale by ascending value, if it has any.
    pub words: Option<Vec<String>>,
}

/// One row of the table: a judge or a baseline.
#[derive(Clone, Debug)]
pub struct EvaluationRow {
    /// Its name.
    pub name: &'static str,
    /// Whether it is a judge or a baseline.
    pub role: Role,
    /// Its figures.
    pub measured: MeasuredJudge,
    /// Further figures: calibration, score mass and length bias of the expected score; coverage and width of the calibrated
    /// score's intervals.
    pub further: Vec<Figure>,
}

/// All figures of one evaluation.
#[derive(Clone, Debug)]
pub struct JudgeEvaluation {
    /// The judge's expected score, then its decoded and calibrated scores, then the baselines.
    pub judges: Vec<EvaluationRow>,
    /// Each row's human and expected score, where both exist.
    pub pairs: Vec<Option<(f64, f64)>>,
    /// The number of characters of each judged text.
    pub lengths: Vec<usize>,
    /// The scale's values, ascending.
    pub scale: Vec<f64>,
    /// Its words, if it has any.
    words: Option<Vec<String>>,
    /// How the intervals were drawn.
    bootstrap: Value,
    cluster: Option<String>,
}

impl JudgeEvaluation {
    /// Measures everything. The baselines are fitted on these rows; `bootstrap` takes its clusters from the rows.
    ///
    /// # Errors
    /// Columns of different length, values that are not finite.
    pub fn measure(rows: &JudgedRows, grid: &Grid, bootstrap: &Bootstrap) -> Result<Self, EvalError> {
        let human = &rows.human;
        let numbers = rows.clusters.as_ref().map(|(_, texts)| clusters_of(texts));
        let bootstrap = Bootstrap { clusters: numbers.as_deref(), ..*bootstrap };
        let mut judges = Vec::new();
        let mut add = |name: &'static str, role: Role, judge: &[Option<f64>]| -> Result<(), EvalError> {
            // A label is what the judge decodes.
            let words = rows.words.as_deref().filter(|_| name == DECODED);
            let further = match name {
                EXPECTED => further_figures(rows, grid)?,
                CALIBRATED => interval_figures(rows, &bootstrap)?,
                _ => Vec::new(),
            };
            let measured = MeasuredJudge::measure(human, judge, grid, words, &bootstrap)?;
            judges.push(EvaluationRow { name, role, measured, further });
            Ok(())
        };
        add(EXPECTED, Role::Judge, &rows.expected)?;
        add(DECODED, Role::Judge, &rows.decoded)?;
        if rows.calibrated.iter().any(Option::is_some) {
            let scores: Vec<Option<f64>> = rows.calibrated.iter().map(|found| found.as_ref().map(|c| c.score)).collect();
            add(CALIBRATED, Role::Judge, &scores)?;
        }
        if rows.medians.iter().any(Option::is_some) {
            add("median score", Role::Judge, &rows.medians)?;
        }
        // The baselines are restricted to the rows that the judge scored, so that the figures are comparable.
        let where_judged =
            |values: Vec<f64>| values.into_iter().zip(&rows.expected).map(|(v, e)| e.map(|_| v)).collect::<Vec<_>>();
        if let Ok(constant) = baselines::constant(human, human.len()) {
            add("constant (their mean)", Role::Baseline, &where_judged(constant))?;
        }
        if let Ok(line) = baselines::fit_length(&rows.lengths, human)? {
            add("length (fitted here)", Role::Baseline, &where_judged(line.predict_lengths(&rows.lengths)))?;
        }
        if let Some(overlaps) = &rows.overlaps
            && let Ok(line) = baselines::fit_overlap(overlaps, human)?
        {
            add("word overlap (fitted here)", Role::Baseline, &where_judged(line.predict(overlaps)))?;
        }
        let pairs: Vec<Option<(f64, f64)>> = human.iter().zip(&rows.expected).map(|(h, e)| Some((*h, (*e)?))).collect();
        Ok(JudgeEvaluation {
            pairs,
            lengths: rows.lengths.clone(),
            scale: grid.values().to_vec(),
            words: rows.words.clone(),
            bootstrap: judges.first().map_or(Value::Null, |judge| judge.measured.bootstrap.clone()),
            judges,
            cluster: rows.clusters.as_ref().map(|(name, _)| name.clone()),
        })
    }

    /// All figures of the judge, for gates: those of the expected score by their names, with calibration and chain swap; those of
    /// labels; and those of the decoded and of the calibrated score after `decoded.` and `calibrated.`.
    pub fn figures(&self) -> Vec<Figure> {
        let mut figures = Vec::new();
        for EvaluationRow { name, measured, further, .. } in &self.judges {
            let all = measured.figures().into_iter().chain(further.iter().cloned());
            match *name {
                EXPECTED => figures.extend(all),
                DECODED => {
                    figures.extend(measured.labels.iter().flat_map(|labels| labels.figures.iter().cloned()));
                    figures.extend(all.map(|figure| figure.after("decoded.")));
                }
                CALIBRATED => figures.extend(all.map(|figure| figure.after("calibrated."))),
                _ => {}
            }
        }
        figures
    }

    /// Adds the figures of a chain swap.
    pub fn add_chain_swap(&mut self, swap: ChainSwap) {
        self.judges[0].further.extend([
            Figure::plain("chain_swap_moved", Ok(swap.moved)),
            Figure::plain("chain_swap_follows_chain", swap.follows_chain),
            Figure::plain("chain_swap_follows_prompt", swap.follows_prompt),
        ]);
    }

    /// The `count` rows with the largest error, worst first; ties keep their order.
    pub fn worst(&self, count: usize) -> Vec<usize> {
        let error = |row: usize| self.pairs[row].map(|(h, s)| (s - h).abs());
        let mut order: Vec<(usize, f64)> = (0..self.pairs.len()).filter_map(|row| Some((row, error(row)?))).collect();
        order.sort_by(|a, b| b.1.total_cmp(&a.1));
        order.into_iter().take(count).map(|(row, _)| row).collect()
    }

    /// One object per judge and baseline, with intervals. Figures that need the distribution are in the object of the expected
    /// score.
    pub fn to_json(&self) -> Value {
        let mut object: Map<String, Value> = Map::new();
        for judge in &self.judges {
            let mut figures = judge.measured.to_json();
            judge.further.iter().for_each(|figure| figure.put_into(&mut figures));
            object.insert(judge.name.into(), Value::Object(figures));
        }
        object.insert("bootstrap".into(), self.bootstrap.clone());
        Value::Object(object)
    }

    /// The table for the terminal.
    pub fn to_text(&self) -> String {
        let mut table = Table::new(["agreement with people"].into_iter().chain(self.judges.iter().map(|j| j.name)));
        for name in TERMINAL_METRICS {
            let cell = |judge: &EvaluationRow| {
                let interval = judge.measured.intervals.iter().find(|(known, _)| *known == name).map(|(_, interval)| interval);
                let interval = interval.filter(|_| judge.role == Role::Judge);
                judge.measured.agreement.get(name).map_or(Cell::from(""), |value| with_ends(value, interval))
            };
            table.row([Cell::from(name)].into_iter().chain(self.judges.iter().map(cell)));
        }
        for (column, figure) in self.judges.iter().enumerate().flat_map(|(k, judge)| judge.further.iter().map(move |f| (k, f))) {
            let cell = with_ends(&figure.value, figure.interval.as_ref());
            let before = std::iter::repeat_n("", column).map(Cell::from);
            table.row([Cell::from(figure.name.as_str())].into_iter().chain(before).chain([cell]));
        }
        let first = &self.judges[0].measured.agreement;
        format!("{table}{}n {}, skipped {}\n{}\n", self.labels_text(), first.n, first.n_unparsed, self.how())
    }

    /// Figures and counts of the labels that the judge decodes, where the scale has words.
    fn labels_text(&self) -> String {
        let Some(judge) = self.judges.iter().find(|judge| judge.measured.labels.is_some()) else { return String::new() };
        let (Some(figures), Some(words)) = (&judge.measured.labels, &self.words) else { return String::new() };
        let mut table = Table::new(["decoded labels", "value", "interval"]);
        for figure in &figures.figures {
            table.row([Cell::from(figure.name.as_str())].into_iter().chain(figure.cells()));
        }
        let mut text = format!("\n{table}\n");
        if let Some(counts) = judge.measured.agreement.table() {
            let mut table = Table::new(["people \\ judge"].into_iter().chain(words.iter().map(String::as_str)));
            for (human, word) in words.iter().enumerate() {
                let rows = (0..words.len()).map(|judge| Cell::from(counts.rows(human, judge).to_string()));
                table.row([Cell::from(word.as_str())].into_iter().chain(rows));
            }
            text += &format!("{table}\n");
        }
        text
    }

    /// One sentence on how the intervals were made.
    pub fn how(&self) -> String {
        let number = |key: &str| self.bootstrap[key].as_u64().unwrap_or_default();
        let unit = match &self.cluster {
            Some(column) => format!("the {} groups of `{column}`", number("clusters")),
            None => "rows".into(),
        };
        let intervals = without_intervals(&self.bootstrap)
            .unwrap_or_else(|| format!("95 % intervals: bootstrap over {unit}, {} resamples", number("resamples")));
        format!("{intervals}; baselines are fitted on these rows")
    }
}

/// How many of people's scores are in their row's interval, and how wide the intervals are.
fn interval_figures(rows: &JudgedRows, bootstrap: &Bootstrap) -> Result<Vec<Figure>, EvalError> {
    let inside = |(human, found): (&f64, &Option<CalibratedScore>)| {
        found.as_ref().map(|found| f64::from(u8::from((found.low..=found.high).contains(human))))
    };
    let coverage = Share {
        name: "interval_coverage".into(),
        rows: rows.human.iter().zip(&rows.calibrated).map(inside).collect(),
        without_rows: Undefined::TooFewRows { found: 0, needed: 1 },
    };
    let widths: Vec<f64> = rows.calibrated.iter().flatten().map(|found| found.high - found.low).collect();
    let mut figures = shares(&[coverage], rows.human.len(), bootstrap)?;
    figures.push(Figure::plain("interval_width", Ok(mean(&widths))));
    Ok(figures)
}

/// Calibration, score mass and length bias of the expected score.
fn further_figures(rows: &JudgedRows, grid: &Grid) -> Result<Vec<Figure>, EvalError> {
    let (_, mut found) = probability_figures(&rows.human, &rows.distributions, grid)?;
    found.extend(mass_figures(&rows.masses)?);
    let lengths: Vec<Option<f64>> = rows.lengths.iter().map(|length| Some(*length as f64)).collect();
    found.push(("length_bias", length_bias_of(&rows.human, &rows.expected, &lengths)));
    Ok(found.into_iter().map(|(name, value)| Figure::plain(name, value)).collect())
}

/// The metrics of the terminal's table. The JSON has all.
const TERMINAL_METRICS: [&str; 15] = [
    "pearson",
    "spearman",
    "kendall_tau_b",
    "rmse",
    "mae",
    "bias",
    "pairwise_accuracy",
    "exact_agreement",
    "adjacent_agreement",
    "kappa_quadratic",
    "krippendorff_interval",
    "ccc",
    "wasserstein_1",
    "range_use",
    "modal_share",
];
