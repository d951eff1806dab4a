//! How a calibration changes with the number of labels: draws some of the labelled rows, calibrates on them, and measures on
//! all others.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::fit::{STREAM, shuffled};
use super::{FitOptions, Fitted, Labelled, MapKind};
use crate::eval::clusters::rows_by_cluster;
use crate::eval::intervals::quantile;
use crate::eval::panels::{Line, LinePoint, Panel, draw};
use crate::eval::table::{Cell, Table, fixed};
use crate::eval::{EvalError, mean, pearson, rmse};
use crate::random::Stream;

/// The fewest rows to measure on.
const FEWEST_LEFT: usize = 20;

/// A learning curve.
#[derive(Clone, Debug)]
pub struct LearningCurve {
    /// The error of the judge's score on all rows.
    pub judge: f64,
    /// The probability with which an interval is to contain people's score.
    pub level: f64,
    /// The width of the scale.
    pub scale: f64,
    /// Draws of each number of labels.
    pub draws: usize,
    /// By the number of labels.
    pub points: Vec<CurvePoint>,
}

/// What so many labels gave.
#[derive(Clone, Debug)]
pub struct CurvePoint {
    /// Labels of a draw; whole clusters may make it a few more.
    pub labels: usize,
    /// Draws on which nothing could be fitted.
    pub failed: usize,
    /// Root mean squared error of the calibrated score, on the rows that were not drawn.
    pub rmse: Spread,
    /// Its correlation with people's.
    pub pearson: Spread,
    /// The share of these rows whose interval contains people's score.
    pub coverage: Spread,
    /// The mean width of the intervals.
    pub width: Spread,
    /// How often each kind of map was taken.
    pub maps: Vec<(MapKind, usize)>,
}

/// The mean of a figure over the draws, and its 5th and 95th percentile.
#[derive(Clone, Copy, Debug)]
pub struct Spread {
    /// The mean.
    pub mean: f64,
    /// The 5th percentile.
    pub low: f64,
    /// The 95th.
    pub high: f64,
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        if values.is_empty() {
            return Spread { mean: f64::NAN, low: f64::NAN, high: f64::NAN };
        }
        Spread { mean: mean(&values), low: quantile(&values, 0.05), high: quantile(&values, 0.95) }
    }

    fn to_json(self) -> Value {
        json!({"mean": self.mean, "p5": self.low, "p95": self.high})
    }
}

impl LearningCurve {
    /// Draws each of these numbers of labels that leaves rows to measure on.
    ///
    /// # Errors
    /// As [`Fitted::new`] on all rows; no number that leaves enough rows; one on which nothing could be fitted.
    pub fn new(
        rows: &Labelled,
        scale: &[f64],
        options: &FitOptions,
        sizes_asked: &[usize],
        draws: usize,
    ) -> Result<Self, EvalError> {
        Fitted::new(rows, scale, options)?;
        let n = rows.human.len();
        let sizes: Vec<usize> = sizes_asked.iter().copied().filter(|size| size + FEWEST_LEFT <= n).collect();
        if draws == 0 {
            return Err(EvalError::NoDraws);
        }
        if sizes.is_empty() {
            let needed = sizes_asked.iter().min().map_or(n, |least| *least) + FEWEST_LEFT;
            return Err(EvalError::TooFewLabels { what: "a learning curve", unit: "row", found: n, needed });
        }
        let clusters: Vec<usize> = rows.clusters.map_or_else(|| (0..n).collect(), <[usize]>::to_vec);
        let mut points = Vec::new();
        for (k, &size) in sizes.iter().enumerate() {
            points.push(point(rows, &clusters, scale, options, (size, k as u64), draws)?);
        }
        let width = scale[scale.len() - 1] - scale[0];
        Ok(LearningCurve {
            judge: rmse(rows.human, rows.judge).unwrap_or(f64::NAN),
            level: options.level,
            scale: width,
            draws,
            points,
        })
    }

    /// A JSON object.
    pub fn to_json(&self) -> Value {
        let point = |point: &CurvePoint| {
            let maps: serde_json::Map<String, Value> =
                point.maps.iter().map(|(kind, times)| (kind.word().to_string(), json!(times))).collect();
            json!({"labels": point.labels, "failed": point.failed, "rmse": point.rmse.to_json(), "pearson": point.pearson.to_json(),
                "coverage": point.coverage.to_json(), "width": point.width.to_json(), "maps": maps})
        };
        let points: Vec<Value> = self.points.iter().map(point).collect();
        json!({"judge_rmse": self.judge, "level": self.level, "draws": self.draws, "points": points})
    }

    /// The table.
    pub fn to_text(&self) -> String {
        let mut table =
            Table::new(["labels", "RMSE", "5 % to 95 %", "Pearson", "covered", "5 % to 95 %", "width", "map taken most"]);
        for point in &self.points {
            let percent = |share: f64| format!("{} %", fixed(100.0 * share, 1));
            let most = point.maps.iter().max_by_key(|(_, times)| *times);
            let most = most.map_or(String::new(), |(kind, times)| format!("{kind} ({times} of {})", self.draws - point.failed));
            table.row([
                Cell::from(point.labels.to_string()),
                fixed(point.rmse.mean, 3).into(),
                format!("{} to {}", fixed(point.rmse.low, 3), fixed(point.rmse.high, 3)).into(),
                fixed(point.pearson.mean, 3).into(),
                percent(point.coverage.mean).into(),
                format!("{} to {}", percent(point.coverage.low), percent(point.coverage.high)).into(),
                fixed(point.width.mean, 2).into(),
                most.into(),
            ]);
        }
        format!(
            "{table}\nThe judge's score as it is: RMSE {}. {} draws of each number of labels, measured on all other rows.\nIntervals of level \
             {}; the scale is {} wide.\n",
            fixed(self.judge, 3),
            self.draws,
            self.level,
            fixed(self.scale, 2)
        )
    }

    /// The image: error, coverage and width over the number of labels.
    pub fn plot(&self, title: &str) -> String {
        let line = |name: &str, figure: fn(&CurvePoint) -> Spread| {
            let point = |point: &CurvePoint| {
                let figure = figure(point);
                LinePoint { labels: point.labels as f64, value: figure.mean, spread: Some((figure.low, figure.high)) }
            };
            vec![Line { name: name.into(), class: "judge", points: self.points.iter().map(point).collect() }]
        };
        draw(
            title,
            &[
                Panel {
                    title: "error of the calibrated score".into(),
                    lines: line("RMSE; bars: 5 % to 95 % of draws", |point| point.rmse),
                    mark: Some((self.judge, "judge as it is".into())),
                    reach: vec![0.0],
                },
                Panel {
                    title: "rows inside of their interval".into(),
                    lines: line("share", |point| point.coverage),
                    mark: Some((self.level, "promised".into())),
                    reach: vec![1.0],
                },
                Panel {
                    title: "width of an interval".into(),
                    lines: line("mean", |point| point.width),
                    mark: Some((self.scale, "whole scale".into())),
                    reach: vec![0.0],
                },
            ],
        )
    }
}

/// The figures of one draw.
struct Drawn {
    rmse: f64,
    pearson: Option<f64>,
    coverage: f64,
    width: f64,
    map: MapKind,
}

fn point(
    rows: &Labelled,
    clusters: &[usize],
    scale: &[f64],
    options: &FitOptions,
    (labels, place): (usize, u64),
    draws: usize,
) -> Result<CurvePoint, EvalError> {
    let mut failed = 0;
    let mut last = None;
    let mut drawn: Vec<Drawn> = Vec::new();
    for draw in 0..draws {
        match one(
            rows,
            clusters,
            scale,
            options,
            labels,
            Stream::new(options.seed, STREAM | (place + 1) << 24 | draw as u64).bits(),
        ) {
            Ok(found) => drawn.push(found),
            Err(error) => (failed, last) = (failed + 1, Some(error)),
        }
    }
    if let (true, Some(error)) = (drawn.is_empty(), last) {
        return Err(error.of_draw(labels));
    }
    let spread = |figure: &dyn Fn(&Drawn) -> Option<f64>| Spread::of(drawn.iter().filter_map(figure).collect());
    Ok(CurvePoint {
        labels,
        failed,
        rmse: spread(&|d| Some(d.rmse)),
        pearson: spread(&|d| d.pearson),
        coverage: spread(&|d| Some(d.coverage)),
        width: spread(&|d| Some(d.width)),
        maps: MapKind::ALL.iter().map(|kind| (*kind, drawn.iter().filter(|d| d.map == *kind).count())).collect(),
    })
}

/// Draws whole clusters until there are enough labels, and calibrates on them.
fn one(
    rows: &Labelled,
    clusters: &[usize],
    scale: &[f64],
    options: &FitOptions,
    labels: usize,
    seed: u64,
) -> Result<Drawn, EvalError> {
    let members: HashMap<usize, Vec<usize>> =
        rows_by_cluster(clusters.len(), Some(clusters)).into_iter().map(|rows| (clusters[rows[0]], rows)).collect();
    let (mut some, mut left) = (Vec::new(), Vec::new());
    for cluster in shuffled(clusters, seed, 2) {
        if some.len() < labels { &mut some } else { &mut left }.extend(&members[&cluster]);
    }
    if left.len() < FEWEST_LEFT {
        return Err(EvalError::TooFewLeft { labels: some.len(), found: left.len(), needed: FEWEST_LEFT });
    }
    let pick = |column: &[f64], rows: &[usize]| rows.iter().map(|&row| column[row]).collect::<Vec<f64>>();
    let (human, judge) = (pick(rows.human, &some), pick(rows.judge, &some));
    let own_clusters: Vec<usize> = some.iter().map(|&row| clusters[row]).collect();
    let group = |row: usize| rows.groups.map(|(_, names)| names[row].as_str());
    let own_groups: Option<Vec<String>> = rows.groups.map(|(_, names)| some.iter().map(|&row| names[row].clone()).collect());
    let drawn = Labelled {
        human: &human,
        judge: &judge,
        clusters: rows.clusters.map(|_| &own_clusters[..]),
        groups: rows.groups.zip(own_groups.as_ref()).map(|((column, _), names)| (column, &names[..])),
    };
    let calibration = Fitted::new(&drawn, scale, &FitOptions { seed, ..*options })?.calibration;
    let given = left.iter().map(|&row| calibration.apply(rows.judge[row], group(row), scale));
    let (mut centres, mut inside, mut width) = (Vec::new(), 0.0, 0.0);
    for (found, &row) in given.zip(&left) {
        inside += f64::from(u8::from((found.low..=found.high).contains(&rows.human[row])));
        width += found.high - found.low;
        centres.push(found.score);
    }
    let people = pick(rows.human, &left);
    let n = left.len() as f64;
    Ok(Drawn {
        rmse: rmse(&people, &centres).unwrap_or(f64::NAN),
        pearson: pearson(&people, &centres).ok(),
        coverage: inside / n,
        width: width / n,
        map: calibration.map.kind(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_labels_make_a_better_calibration() {
        let mut stream = Stream::new(8, 8);
        let judge: Vec<f64> = (0..600).map(|_| 1.0 + 2.0 * stream.uniform()).collect();
        let human: Vec<f64> = judge.iter().map(|s| (2.0 * s - 1.0 + 0.8 * stream.normal()).round().clamp(1.0, 5.0)).collect();
        let rows = Labelled { human: &human, judge: &judge, clusters: None, groups: None };
        let scale = [1.0, 2.0, 3.0, 4.0, 5.0];
        let options = FitOptions::default();
        let found = LearningCurve::new(&rows, &scale, &options, &[10, 40, 300, 900], 60).unwrap();
        assert_eq!(found.points.iter().map(|point| point.labels).collect::<Vec<_>>(), [10, 40, 300]);
        let [few, some, many] = &found.points[..] else { panic!("{found:?}") };
        assert!(few.rmse.mean > some.rmse.mean && some.rmse.mean > many.rmse.mean && few.rmse.mean < found.judge, "{found:?}");
        // Ten labels set no interval.
        assert_eq!((few.coverage.mean, few.width.mean), (1.0, 4.0));
        assert!(some.coverage.mean > 0.88 && many.coverage.mean > 0.88 && many.width.mean < 3.5, "{found:?}");
        assert!(many.coverage.high - many.coverage.low < some.coverage.high - some.coverage.low);
        let (text, image) = (found.to_text(), found.plot("curve"));
        assert!(text.contains("60 draws") && image.contains("promised") && !image.contains("NaN"), "{text}");
        assert_eq!(found.to_json()["points"][2]["labels"], 300);
        // One large cluster may leave nothing to measure on: such draws fail, and are no NaN.
        let clusters: Vec<usize> = (0..600_usize).map(|row| row.saturating_sub(570)).collect();
        let clustered = Labelled { clusters: Some(&clusters), ..rows };
        let found = LearningCurve::new(&clustered, &scale, &options, &[25], 40).unwrap();
        assert!(found.points[0].failed > 10 && !found.to_text().contains("NaN"), "{}", found.to_text());
        let error = LearningCurve::new(&rows, &scale, &options, &[590], 60).unwrap_err().to_string();
        assert!(error.contains("a learning curve needs at least 610"), "{error}");
    }
}
