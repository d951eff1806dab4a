//! Tables and charts of tasks that are files: each test set with its floors, and differences with intervals of a bootstrap that
//! draws whole clusters, for all methods in the same resamples.

use std::fmt::Write;

use super::CompareError;
use super::cell::CellResult;
use super::metrics::SplitMetrics;
use super::protocol::Group;
use super::table::{Results, plain};
use super::task_rows::{SetRows, TaskRows};
use super::tasks::{FileTask, TestSet, Way, includes};
use crate::charts::{self, Chart, Mark, Point, Rows};
use crate::eval::clusters::{distinct, rows_by_cluster};
use crate::eval::intervals::{FEWEST_UNITS, enough_units};
use crate::eval::{Measured, pearson, rmse, spearman};
use crate::random::Stream;

/// Resamples of an interval.
const RESAMPLES: u64 = 2000;

/// Stream of the resamples' random numbers.
const STREAM: u64 = 0x0066_696c_6573;

/// A metric of human scores and a judge's.
type MetricOf = fn(&[f64], &[f64]) -> Measured;

/// A figure with its 95 % interval; none where the figure is undefined.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Figure {
    value: f64,
    interval: Option<(f64, f64)>,
}

/// Judges' scores of the rows of one set, and the resamples that all of them share.
struct Sample<'a> {
    human: &'a [f64],
    resamples: Vec<Vec<usize>>,
    /// Whether rows or clusters are too few for intervals that cover what they promise. A protocol may name such sets; their
    /// brackets are the range over resamples, and prove nothing.
    few: bool,
}

impl<'a> Sample<'a> {
    /// The first `rows` rows of a set; those that are `left_out` only if asked for.
    fn new(set: &'a SetRows, rows: usize, with_left_out: bool) -> Self {
        let kept: Vec<usize> = (0..rows.min(set.human.len()))
            .filter(|row| with_left_out || !set.left_out.get(*row).copied().unwrap_or(false))
            .collect();
        let of_kept: Vec<usize> = kept.iter().map(|row| set.clusters.get(*row).copied().unwrap_or(*row)).collect();
        let clusters = rows_by_cluster(kept.len(), Some(&of_kept));
        let draw = |k: u64| {
            let mut stream = Stream::new(k, STREAM);
            (0..clusters.len()).flat_map(|_| clusters[stream.below(clusters.len())].iter().map(|&at| kept[at])).collect()
        };
        let unit = if set.clusters.is_empty() { "row" } else { "cluster" };
        let few = enough_units(clusters.len(), unit).is_err();
        let resamples = std::iter::once(kept.clone()).chain((0..RESAMPLES).map(draw)).collect();
        Sample { human: &set.human, resamples, few }
    }

    /// The metric of each resample, averaged over seeds; the first is that of the rows themselves.
    fn values(&self, of: MetricOf, seeds: &[&[f64]]) -> Vec<Option<f64>> {
        let pick = |scores: &[f64], rows: &[usize]| rows.iter().map(|row| scores[*row]).collect::<Vec<f64>>();
        let value = |rows: &Vec<usize>| {
            let human = pick(self.human, rows);
            let each: Option<Vec<f64>> = seeds.iter().map(|scores| of(&human, &pick(scores, rows)).ok()).collect();
            each.filter(|e| !e.is_empty()).map(|e| e.iter().sum::<f64>() / e.len() as f64)
        };
        self.resamples.iter().map(value).collect()
    }
}

/// The figure of the first value, with the quantiles of the others.
fn figure(values: &[Option<f64>]) -> Option<Figure> {
    let (first, others) = values.split_first()?;
    let mut drawn: Vec<f64> = others.iter().flatten().copied().collect();
    drawn.sort_by(f64::total_cmp);
    let at = |share: f64| drawn.get((share * drawn.len() as f64) as usize).copied();
    // With fewer than half of the resamples the ends would be those of a chosen part.
    let enough = 2 * drawn.len() > others.len();
    Some(Figure { value: (*first)?, interval: at(0.025).zip(at(0.975)).filter(|_| enough) })
}

fn difference(a: &[Option<f64>], b: &[Option<f64>]) -> Option<Figure> {
    let each: Vec<Option<f64>> = a.iter().zip(b).map(|(a, b)| Some((*a)? - (*b)?)).collect();
    figure(&each)
}

fn with_interval(figure: Option<Figure>) -> String {
    match figure {
        None => "–".into(),
        Some(Figure { value, interval: None }) => format!("{value:.3}"),
        Some(Figure { value, interval: Some((low, high)) }) => format!("{value:.3} [{low:.3}, {high:.3}]"),
    }
}

/// A difference with its interval; bold where that excludes zero and is of enough rows.
fn signed(figure: Option<Figure>, few: bool) -> String {
    match figure {
        None => "–".into(),
        Some(Figure { value, interval: None }) => format!("{value:+.3}"),
        Some(Figure { value, interval: Some((low, high)) }) => {
            let text = format!("{value:+.3} [{low:+.3}, {high:+.3}]");
            if !few && (low > 0.0 || high < 0.0) { format!("**{text}**") } else { text }
        }
    }
}

const METRICS: [(&str, MetricOf); 3] = [("Pearson", pearson), ("Spearman", spearman), ("RMSE", rmse)];

/// One predictor of a set: its name, the number of its seeds, and the values of each of [`METRICS`].
struct Predictor {
    title: String,
    seeds: usize,
    values: Vec<Vec<Option<f64>>>,
    /// Of the first seed, for what has no interval.
    metrics: Option<SplitMetrics>,
    is_reference: bool,
}

/// The finished cells of one group on one task.
pub struct FileResults<'a> {
    results: &'a Results<'a>,
    group: &'a Group,
    task: &'a FileTask,
    rows: TaskRows,
}

impl<'a> FileResults<'a> {
    /// `None` before the task's first cell.
    ///
    /// # Errors
    /// A `rows.json` that holds something else.
    pub fn new(results: &'a Results, group: &'a Group, task: &'a FileTask) -> Result<Option<Self>, CompareError> {
        let rows = TaskRows::read(results.comparison, &task.name)?;
        Ok(rows.map(|rows| FileResults { results, group, task, rows }))
    }

    fn cells(&self, method: &str) -> Vec<&CellResult> {
        self.results.cells(self.group, &self.task.name, method)
    }

    /// The predictors of a set, floors first. Methods without a finished cell are left out.
    fn predictors(&self, sample: &Sample, set: &SetRows, way: &Way) -> Result<Vec<Predictor>, CompareError> {
        let values = |seeds: &[&[f64]]| METRICS.iter().map(|(_, of)| sample.values(*of, seeds)).collect::<Vec<_>>();
        let floor = |(name, scores): (&String, &Vec<f64>)| Predictor {
            title: format!("*{name}*"),
            seeds: 0,
            values: values(&[scores]),
            metrics: None,
            is_reference: false,
        };
        let mut all: Vec<Predictor> = set.baselines.iter().map(floor).collect();
        for name in &self.group.methods {
            let cells = self.cells(name);
            let judged: Vec<_> = cells.iter().filter_map(|cell| cell.judged(&set.name, &way.name)).collect();
            if judged.is_empty() {
                continue;
            }
            all.push(Predictor {
                title: self.results.comparison.protocol.method(name)?.title.clone(),
                seeds: judged.len(),
                values: values(&judged.iter().map(|split| &split.scores[..]).collect::<Vec<_>>()),
                metrics: judged.first().map(|split| split.metrics.clone()),
                is_reference: *name == self.group.reference,
            });
        }
        Ok(all)
    }

    /// The rows of a set in a way: as many as the shortest of its cells has.
    fn sample<'s>(&self, set: &'s SetRows, way: &Way, with_left_out: bool) -> Sample<'s> {
        Sample::new(set, way.rows.unwrap_or(usize::MAX), with_left_out)
    }

    fn sets(&self) -> impl Iterator<Item = (&'a TestSet, &SetRows)> {
        self.task.tests.iter().filter_map(|test| Some((test, self.rows.set(&test.name)?)))
    }

    /// The tables of the group.
    ///
    /// # Errors
    /// Names in the protocol that it does not define.
    pub fn write(&self, page: &mut String) -> Result<(), CompareError> {
        let ways = &self.results.comparison.protocol.ways;
        for (test, set) in self.sets() {
            for (n, way) in ways.iter().enumerate().filter(|(_, way)| includes(way.sets.as_ref(), &test.name)) {
                let sample = self.sample(set, way, true);
                let predictors = self.predictors(&sample, set, way)?;
                if predictors.iter().all(|p| p.seeds == 0) {
                    continue;
                }
                self.write_heading(page, (test, set), way, &sample);
                write_levels(page, &predictors);
                write_differences(page, &predictors, sample.few);
                if n == 0 && set.left_out.iter().any(|out| *out) {
                    let sample = self.sample(set, way, false);
                    let rows = sample.resamples[0].len();
                    let column = test.also_without.as_deref().unwrap_or_default();
                    let _ = writeln!(page, "The same without the rows that are `{column}` ({rows} rows left):\n");
                    // What is kept of a cell besides its scores is of all rows.
                    let fewer = self.predictors(&sample, set, way)?.into_iter().map(|p| Predictor { metrics: None, ..p });
                    write_levels(page, &fewer.collect::<Vec<_>>());
                }
            }
        }
        Ok(())
    }

    fn write_heading(&self, page: &mut String, (test, set): (&TestSet, &SetRows), way: &Way, sample: &Sample) {
        let rows = sample.resamples[0].len();
        let clusters = match &test.cluster {
            None => "rows are drawn one by one".to_string(),
            Some(column) => {
                let clusters = distinct(sample.resamples[0].iter().map(|row| set.clusters[*row]));
                match enough_units(clusters, "cluster") {
                    Ok(()) => format!("drawn by `{column}`, of which there are {clusters}"),
                    Err(_) => format!(
                        "drawn by `{column}`, of which there are {clusters}: too few for intervals, for which \
                         {FEWEST_UNITS} are the fewest; brackets are the range over resamples, and nothing is bold"
                    ),
                }
            }
        };
        let _ = writeln!(page, "### {}, {}\n\n{rows} rows, {clusters}.\n", test.title, way.title);
    }

    /// A chart of each test set: Pearson of the methods, judged in the first way, and the floors.
    ///
    /// # Errors
    /// As [`FileResults::write`].
    pub fn charts(&self, width: f64) -> Result<Vec<Chart>, CompareError> {
        let Some(way) = self.results.comparison.protocol.ways.first() else { return Ok(Vec::new()) };
        let mut all = Vec::new();
        for (test, set) in self.sets() {
            let predictors = self.predictors(&self.sample(set, way, true), set, way)?;
            if predictors.iter().all(|p| p.seeds == 0) {
                continue;
            }
            let floors = predictors.iter().filter(|p| p.seeds == 0);
            let mark = |p: &Predictor| Some(Mark { value: figure(&p.values[0])?.value, name: p.title.trim_matches('*').into() });
            let rows = predictors.iter().filter(|p| p.seeds > 0).map(drawn).collect();
            let label = format!("Pearson by method, {}", test.title);
            let levels = Rows {
                label: &label,
                title: "Pearson r",
                width,
                marks: floors.filter_map(mark).collect(),
                rows,
                ..Rows::default()
            };
            all.push(Chart {
                title: test.title.clone(),
                caption: format!("{}; 95 % intervals over rows (half their width to each side). Dashed: floors.", way.title),
                svg: levels.draw(),
                ..Chart::default()
            });
        }
        Ok(all)
    }
}

/// A method's Pearson on a chart.
fn drawn(predictor: &Predictor) -> charts::Row {
    let point = |f: Figure| Point {
        value: f.value,
        ends: f.interval.map(|(low, high)| (high - low) / 2.0).map(|half| (f.value - half, f.value + half)),
        radius: 5.0,
        class: if predictor.is_reference { "judge" } else { "people" }.into(),
        title: format!("{}: {}", predictor.title, with_interval(Some(f))),
    };
    charts::Row { name: predictor.title.clone(), points: figure(&predictor.values[0]).map(point).into_iter().collect() }
}

fn write_levels(page: &mut String, predictors: &[Predictor]) {
    page.push_str("| | seeds | Pearson | Spearman | RMSE | MAE | decoded r | entropy, bits | forced | tokens |\n");
    page.push_str("|---|---|---|---|---|---|---|---|---|---|\n");
    for predictor in predictors {
        let seeds = if predictor.seeds == 0 { String::new() } else { predictor.seeds.to_string() };
        let figures: Vec<String> = predictor.values.iter().map(|v| with_interval(figure(v))).collect();
        let of = |f: &dyn Fn(&SplitMetrics) -> Option<f64>, digits| match &predictor.metrics {
            Some(metrics) => plain(f(metrics), digits),
            None => String::new(),
        };
        let rest =
            [of(&|m| m.mae, 3), of(&|m| m.decoded_pearson, 3), of(&|m| m.entropy, 2), of(&|m| m.forced, 2), of(&|m| m.tokens, 0)];
        let _ = writeln!(page, "| {} | {seeds} | {} | {} |", predictor.title, figures.join(" | "), rest.join(" | "));
    }
    page.push('\n');
}

fn write_differences(page: &mut String, predictors: &[Predictor], few: bool) {
    let Some(reference) = predictors.iter().find(|p| p.is_reference) else { return };
    let names = METRICS.map(|(name, _)| name).join(" | ");
    let _ = writeln!(page, "**{} minus each**, on the same resamples:\n\n| | {names} |\n|---|---|---|---|", reference.title);
    for other in predictors.iter().filter(|p| !p.is_reference) {
        let each: Vec<String> = reference.values.iter().zip(&other.values).map(|(a, b)| signed(difference(a, b), few)).collect();
        let _ = writeln!(page, "| {} | {} |", other.title, each.join(" | "));
    }
    page.push('\n');
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn set(clusters: Vec<usize>, left_out: Vec<bool>) -> SetRows {
        let human = (0..clusters.len()).map(|n| n as f64).collect();
        let (name, sha256) = ("test".into(), String::new());
        SetRows { name, sha256, human, clusters, left_out, baselines: BTreeMap::new() }
    }

    #[test]
    fn whole_clusters_are_drawn() {
        let rows = set((0..24).map(|row| row / 2).collect(), Vec::new());
        let sample = Sample::new(&rows, usize::MAX, true);
        assert_eq!(sample.resamples.len(), 1 + RESAMPLES as usize);
        assert_eq!(sample.resamples[0], (0..24).collect::<Vec<_>>());
        for drawn in &sample.resamples[1..] {
            assert!(drawn.len() == 24 && drawn.chunks(2).all(|pair| pair[0] % 2 == 0 && pair[1] == pair[0] + 1), "{drawn:?}");
        }
        // Of too few clusters the range is shown, and nothing is bold.
        let few = set((0..24).map(|row| row / 3).collect(), Vec::new());
        assert!(Sample::new(&few, usize::MAX, true).few && !sample.few);
        let difference = Some(Figure { value: 0.5, interval: Some((0.25, 0.75)) });
        assert_eq!(signed(difference, true), "+0.500 [+0.250, +0.750]");
        assert_eq!(signed(difference, false), "**+0.500 [+0.250, +0.750]**");
        // The first rows, and those that are not left out.
        let rows = set(Vec::new(), vec![false, true, false, false]);
        assert!(Sample::new(&set(vec![0; 4], Vec::new()), 3, true).resamples[0] == [0, 1, 2]);
        let few = SetRows { human: vec![0.0, 1.0, 2.0, 3.0], ..rows };
        assert_eq!(Sample::new(&few, usize::MAX, false).resamples[0], [0, 2, 3]);
    }

    #[test]
    fn a_judge_that_is_better_on_every_row_is_better_in_every_resample() {
        let rows = set((0..40).collect(), Vec::new());
        let sample = Sample::new(&rows, usize::MAX, true);
        let good: Vec<f64> = (0..40).map(|n| f64::from(n) + 0.1).collect();
        let bad: Vec<f64> = (0..40).map(|n| f64::from(n) + f64::from(n % 5)).collect();
        let of = |scores: &[f64]| sample.values(rmse, &[scores]);
        let gain = difference(&of(&good), &of(&bad)).unwrap();
        assert!(gain.value < -1.0 && gain.interval.unwrap().1 < 0.0, "{gain:?}");
        assert!(signed(Some(gain), false).starts_with("**-"));
        // A constant has no correlation, and none is shown.
        assert_eq!(figure(&sample.values(pearson, &[&[1.0; 40]])), None);
        assert_eq!(with_interval(None), "–");
    }
}
