//! Fits a map and its interval on rows that people scored.
//!
//! The clusters are shuffled. A share of them sets the interval, the others choose and fit the map, so that the residuals of the
//! interval are those of rows that the map has not seen. Where the share is too small for any interval, all rows fit the map,
//! and the interval is the whole scale.

use std::collections::{BTreeMap, HashSet};

use super::conformal::{coverage_range, half_width, units_needed};
use super::{GroupWidths, MapKind, Recalibration, RowCounts, ScoreMap};
use crate::eval::clusters::distinct;
use crate::eval::intervals::is_level;
use crate::eval::{EvalError, Measured, all_finite, is_constant, mae, mean, pearson, rmse, same_length};
use crate::random::Stream;

/// The fewest clusters that a map is fitted on.
const FEWEST: usize = 5;

/// The random streams of this module: "cali" in ASCII.
pub(super) const STREAM: u64 = 0x6361_6C69 << 32;

/// Rows with scores of people and of a judge.
#[derive(Clone, Copy, Debug)]
pub struct Labelled<'a> {
    /// People's scores.
    pub human: &'a [f64],
    /// The judge's.
    pub judge: &'a [f64],
    /// The cluster of each row. `None`: each row is one.
    pub clusters: Option<&'a [usize]>,
    /// A column that groups rows, and the group of each row.
    pub groups: Option<(&'a str, &'a [String])>,
}

/// How a calibration is fitted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FitOptions {
    /// The probability with which an interval contains people's score.
    pub level: f64,
    /// The share of the clusters that sets the interval, between 0 and 1.
    pub interval_share: f64,
    /// The map. `None`: the one with the smallest error in cross-validation.
    pub map: Option<MapKind>,
    /// Parts of the cross-validation, at least 2.
    pub folds: usize,
    /// Seed of the shuffles.
    pub seed: u64,
}

impl Default for FitOptions {
    fn default() -> Self {
        FitOptions { level: 0.9, interval_share: 0.5, map: None, folds: 5, seed: 0 }
    }
}

/// A calibration, and how it was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Fitted {
    /// What is stored.
    pub calibration: Recalibration,
    /// Parts of the cross-validation.
    pub folds: usize,
    /// The errors of each kind of map on rows that it was not fitted on, the simplest first.
    pub maps: Vec<MapError>,
    /// Clusters (or rows, where each is its own) in all.
    pub clusters: usize,
    /// Those that set the interval, and how many the level needs.
    pub units: (usize, usize),
    /// The share of the clusters that was to set the interval.
    pub interval_share: f64,
    /// Where the coverage of this very interval lies in 95 of 100 calibrations. `None` with clusters, or without an interval.
    pub coverage: Option<(f64, f64)>,
    /// The same figures on the rows of the interval, which fitted nothing. `None` without such rows.
    pub held_out: Option<HeldOut>,
    /// The groups: name, clusters that set its interval.
    pub groups: Vec<(String, usize)>,
}

/// The cross-validated error of a map.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MapError {
    /// Its kind.
    pub kind: MapKind,
    /// Root mean squared error.
    pub rmse: f64,
    /// Mean absolute error.
    pub mae: f64,
}

/// Errors on rows that fitted no map: of the judge's score, and of the calibrated one.
#[derive(Clone, Debug, PartialEq)]
pub struct HeldOut {
    /// Name of the figure; for the judge's score; for the calibrated one.
    pub figures: Vec<(&'static str, Measured, Measured)>,
    /// The mean width of the intervals.
    pub width: f64,
}

impl Fitted {
    /// Fits a calibration. `scale` has the scale's values in ascending order.
    ///
    /// # Errors
    /// Columns of different length; values that are not finite; options out of their range; too few rows, or rows on which
    /// nothing can be fitted.
    pub fn new(rows: &Labelled, scale: &[f64], options: &FitOptions) -> Result<Self, EvalError> {
        check(rows, scale, options)?;
        let clusters: Vec<usize> = rows.clusters.map_or_else(|| (0..rows.human.len()).collect(), <[usize]>::to_vec);
        let needed = units_needed(options.level);
        let mut order = shuffled(&clusters, options.seed, 0);
        let share = (order.len() as f64 * options.interval_share).floor() as usize;
        let of_interval: HashSet<usize> = if share < needed { HashSet::new() } else { order.drain(..share).collect() };
        if order.len() < FEWEST {
            let found = order.len() + of_interval.len();
            let left = |units: usize| units - (units as f64 * options.interval_share).floor() as usize;
            let needed = (found..=found.saturating_mul(1000)).find(|&units| left(units) >= FEWEST).unwrap_or(found + 1);
            let what = "a map beside an interval of that share";
            return Err(EvalError::TooFewLabels { what, unit: unit(rows), found, needed });
        }
        let (interval, map): (Vec<usize>, Vec<usize>) =
            (0..clusters.len()).partition(|&row| of_interval.contains(&clusters[row]));
        let pick = |column: &[f64], rows: &[usize]| rows.iter().map(|&row| column[row]).collect::<Vec<f64>>();
        let fitting = (pick(rows.judge, &map), pick(rows.human, &map));
        if is_constant(&fitting.0) {
            return Err(EvalError::ConstantFit { value: fitting.0[0] });
        }
        let folds = options.folds.clamp(2, order.len());
        let fold_of = folds_of(&map.iter().map(|&row| clusters[row]).collect::<Vec<_>>(), folds, options.seed);
        let maps: Vec<MapError> =
            MapKind::ALL.iter().map(|kind| cross_validated(*kind, &fitting, &fold_of, folds, scale)).collect();
        let best = maps.iter().fold(&maps[0], |best, next| if next.rmse < best.rmse { next } else { best });
        let only_values = rows.human.iter().all(|score| scale.contains(score));
        let mut calibration = Recalibration {
            map: ScoreMap::fit(options.map.unwrap_or(best.kind), &fitting.0, &fitting.1),
            level: options.level,
            only_values,
            half_width: None,
            groups: None,
            rows: RowCounts { map: map.len(), interval: interval.len() },
        };
        let (judge, human) = (pick(rows.judge, &interval), pick(rows.human, &interval));
        let centres: Vec<f64> = judge.iter().map(|score| calibration.centre(*score, scale)).collect();
        let residuals: Vec<f64> = human.iter().zip(&centres).map(|(h, c)| (h - c).abs()).collect();
        let of_rows: Vec<usize> = interval.iter().map(|&row| clusters[row]).collect();
        calibration.half_width = half_width(&residuals, Some(&of_rows), options.level);
        let mut groups = Vec::new();
        if let Some((column, names)) = rows.groups {
            let mut half_widths: BTreeMap<String, Option<f64>> = names.iter().map(|name| (name.clone(), None)).collect();
            for (name, half) in &mut half_widths {
                let own: Vec<usize> = (0..interval.len()).filter(|&k| names[interval[k]] == *name).collect();
                let own_clusters: Vec<usize> = own.iter().map(|&k| of_rows[k]).collect();
                *half = half_width(&pick(&residuals, &own), Some(&own_clusters), options.level);
                groups.push((name.clone(), distinct(own_clusters)));
            }
            calibration.groups = Some(GroupWidths { column: column.into(), half_widths });
        }
        let widths = |k: usize| {
            let group = rows.groups.map(|(_, names)| names[interval[k]].as_str());
            let found = calibration.apply(judge[k], group, scale);
            found.high - found.low
        };
        let held_out = (!interval.is_empty()).then(|| HeldOut {
            figures: FIGURES.iter().map(|(name, figure)| (*name, figure(&human, &judge), figure(&human, &centres))).collect(),
            width: mean(&(0..interval.len()).map(widths).collect::<Vec<_>>()),
        });
        let alone = of_interval.len() == interval.len();
        Ok(Fitted {
            coverage: alone.then(|| coverage_range(interval.len(), options.level)).flatten(),
            clusters: order.len() + of_interval.len(),
            units: (of_interval.len(), needed),
            interval_share: options.interval_share,
            calibration,
            folds,
            maps,
            held_out,
            groups,
        })
    }
}

/// A figure of two columns, people's first.
type Figure = fn(&[f64], &[f64]) -> Measured;

/// The figures of held-out rows.
const FIGURES: [(&str, Figure); 4] = [("rmse", rmse), ("mae", mae), ("bias", crate::eval::bias), ("pearson", pearson)];

fn unit(rows: &Labelled) -> &'static str {
    if rows.clusters.is_some() { "cluster" } else { "row" }
}

fn check(rows: &Labelled, scale: &[f64], options: &FitOptions) -> Result<(), EvalError> {
    let n = rows.human.len();
    same_length("the human column", n, "the judge column", rows.judge.len())?;
    if let Some(clusters) = rows.clusters {
        same_length("the human column", n, "the cluster column", clusters.len())?;
    }
    if let Some((_, names)) = rows.groups {
        same_length("the human column", n, "the group column", names.len())?;
    }
    all_finite("the human column", rows.human)?;
    all_finite("the judge column", rows.judge)?;
    if scale.len() < 2 || !scale.is_sorted() {
        return Err(EvalError::Scale(scale.to_vec()));
    }
    if !is_level(options.level) {
        return Err(EvalError::Level(options.level));
    }
    if !is_level(options.interval_share) {
        return Err(EvalError::Share(options.interval_share));
    }
    let (min, max) = (scale[0], scale[scale.len() - 1]);
    if let Some(row) = rows.human.iter().position(|score| !(min..=max).contains(score)) {
        return Err(EvalError::OffScale { row, value: rows.human[row], min, max });
    }
    let units = rows.clusters.map_or(n, |clusters| distinct(clusters.iter().copied()));
    if units < FEWEST {
        return Err(EvalError::TooFewLabels { what: "a calibration", unit: unit(rows), found: units, needed: FEWEST });
    }
    for (column, values) in [("the human column", rows.human), ("the judge column", rows.judge)] {
        if is_constant(values) {
            return Err(EvalError::Constant { column, value: values[0] });
        }
    }
    Ok(())
}

/// The clusters in a random order.
pub(super) fn shuffled(clusters: &[usize], seed: u64, purpose: u64) -> Vec<usize> {
    let mut seen = HashSet::new();
    let mut order: Vec<usize> = clusters.iter().copied().filter(|cluster| seen.insert(*cluster)).collect();
    Stream::new(seed, STREAM | purpose).shuffle(&mut order);
    order
}

/// The fold of each row; whole clusters are in one.
fn folds_of(clusters: &[usize], folds: usize, seed: u64) -> Vec<usize> {
    let order = shuffled(clusters, seed, 1);
    let fold_of: std::collections::HashMap<usize, usize> = order.into_iter().enumerate().map(|(k, c)| (c, k % folds)).collect();
    clusters.iter().map(|cluster| fold_of[cluster]).collect()
}

/// The errors of a kind of map on each fold, fitted on the others.
fn cross_validated(
    kind: MapKind,
    (judge, human): &(Vec<f64>, Vec<f64>),
    fold_of: &[usize],
    folds: usize,
    scale: &[f64],
) -> MapError {
    let mut predicted = vec![0.0; judge.len()];
    for fold in 0..folds {
        let others = |column: &[f64]| {
            let rows = (0..column.len()).filter(|&row| fold_of[row] != fold);
            rows.map(|row| column[row]).collect::<Vec<f64>>()
        };
        let map = ScoreMap::fit(kind, &others(judge), &others(human));
        for row in (0..judge.len()).filter(|&row| fold_of[row] == fold) {
            predicted[row] = map.at(judge[row]).clamp(scale[0], scale[scale.len() - 1]);
        }
    }
    let errors: Vec<f64> = predicted.iter().zip(human).map(|(p, h)| p - h).collect();
    MapError {
        kind,
        rmse: mean(&errors.iter().map(|e| e * e).collect::<Vec<_>>()).sqrt(),
        mae: mean(&errors.iter().map(|e| e.abs()).collect::<Vec<_>>()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCALE: [f64; 5] = [1.0, 2.0, 3.0, 4.0, 5.0];

    /// `n` rows in clusters of `size`. People's score is a step function of the judge's, with noise that a cluster shares.
    fn rows(n: usize, size: usize, seed: u64) -> (Vec<f64>, Vec<f64>, Vec<usize>) {
        let mut stream = Stream::new(seed, 77);
        let (mut human, mut judge, mut clusters) = (Vec::new(), Vec::new(), Vec::new());
        let mut shared = 0.0;
        for row in 0..n {
            if row % size == 0 {
                shared = 0.4 * stream.normal();
            }
            let score = 1.0 + 4.0 * stream.uniform();
            let level = if score < 3.0 { 1.5 } else { 4.2 };
            let noisy: f64 = level + shared + 0.4 * stream.normal();
            human.push(noisy.round().clamp(1.0, 5.0));
            judge.push(score);
            clusters.push(row / size);
        }
        (human, judge, clusters)
    }

    fn labelled<'a>((human, judge, clusters): &'a (Vec<f64>, Vec<f64>, Vec<usize>)) -> Labelled<'a> {
        Labelled { human, judge, clusters: Some(clusters), groups: None }
    }

    #[test]
    fn the_better_map_is_chosen() {
        let steps = rows(200, 1, 1);
        let found = Fitted::new(&Labelled { clusters: None, ..labelled(&steps) }, &SCALE, &FitOptions::default()).unwrap();
        assert_eq!(found.calibration.map.kind(), MapKind::Isotonic, "{:?}", found.maps);
        assert_eq!((found.calibration.rows, found.units), (RowCounts { map: 100, interval: 100 }, (100, 9)));
        assert!(found.calibration.only_values && found.coverage.is_some());
        let held_out = found.held_out.unwrap();
        let figure = |name: &str| held_out.figures.iter().find(|f| f.0 == name).unwrap().clone();
        assert!(figure("rmse").2.unwrap() < 0.8 * figure("rmse").1.unwrap(), "{held_out:?}");
        assert!(held_out.width > 0.5 && held_out.width < 3.0);

        // A line, and few rows: steps would follow the noise.
        let mut stream = Stream::new(2, 2);
        let judge: Vec<f64> = (0..40).map(|_| stream.uniform()).collect();
        let human: Vec<f64> = judge.iter().map(|s| (1.5 + 3.0 * s + 0.5 * stream.normal()).clamp(1.0, 5.0)).collect();
        let line = Labelled { human: &human, judge: &judge, clusters: None, groups: None };
        let found = Fitted::new(&line, &SCALE, &FitOptions::default()).unwrap();
        assert_eq!(found.calibration.map.kind(), MapKind::Affine, "{:?}", found.maps);
        assert!(!found.calibration.only_values);
        // A judge that is calibrated already, and one map that was asked for.
        let own = Labelled { judge: &human, ..line };
        let kind = |map| Fitted::new(&own, &SCALE, &FitOptions { map, ..FitOptions::default() }).unwrap().calibration.map.kind();
        assert_eq!((kind(None), kind(Some(MapKind::Isotonic))), (MapKind::Identity, MapKind::Isotonic));
    }

    /// Rows that fit and rows that set the interval are disjoint, and so are their clusters.
    #[test]
    fn clusters_are_split_whole() {
        let data = rows(300, 10, 3);
        let found = Fitted::new(&labelled(&data), &SCALE, &FitOptions::default()).unwrap();
        assert_eq!((found.units, found.calibration.rows), ((15, 9), RowCounts { map: 150, interval: 150 }));
        assert_eq!(found.coverage, None);
        let folds = folds_of(&data.2, 5, 0);
        for cluster in 0..30 {
            let of_cluster: HashSet<usize> = (0..300).filter(|&row| data.2[row] == cluster).map(|row| folds[row]).collect();
            assert_eq!(of_cluster.len(), 1);
        }
        assert_eq!((0..5).map(|fold| folds.iter().filter(|f| **f == fold).count()).collect::<Vec<_>>(), [60; 5]);
        // The same seed gives the same split, another one another.
        let again = |seed| Fitted::new(&labelled(&data), &SCALE, &FitOptions { seed, ..FitOptions::default() }).unwrap();
        assert_eq!(again(0), found);
        assert_ne!(again(1).calibration, found.calibration);
    }

    #[test]
    fn too_few_rows_for_an_interval_fit_the_map() {
        let data = rows(17, 1, 4);
        let found = Fitted::new(&labelled(&data), &SCALE, &FitOptions::default()).unwrap();
        assert_eq!((found.calibration.half_width, found.units), (None, (0, 9)));
        assert_eq!((found.calibration.rows, found.held_out, found.coverage), (RowCounts { map: 17, interval: 0 }, None, None));
        let whole = found.calibration.apply(3.0, None, &SCALE);
        assert_eq!((whole.low, whole.high), (1.0, 5.0));
        let data = rows(18, 1, 4);
        assert!(Fitted::new(&labelled(&data), &SCALE, &FitOptions::default()).unwrap().calibration.half_width.is_some());
    }

    #[test]
    fn data_without_a_calibration_are_refused() {
        let good = rows(40, 1, 5);
        let message = |rows: Labelled, options: FitOptions| Fitted::new(&rows, &SCALE, &options).unwrap_err().to_string();
        let (rows, options) = (labelled(&good), FitOptions::default());
        let four = Labelled { human: &good.0[..4], judge: &good.1[..4], clusters: None, groups: None };
        let flat = [3.0; 40];
        let mut off = good.0.clone();
        off[7] = 6.0;
        for (found, part) in [
            (message(four, options), "4 rows with a human score; a calibration needs at least 5"),
            (message(Labelled { clusters: Some(&[1; 40]), ..rows }, options), "1 cluster with a human score"),
            (message(Labelled { judge: &flat, ..rows }, options), "all values of the judge column are 3"),
            (message(Labelled { human: &flat, ..rows }, options), "all values of the human column are 3"),
            (message(Labelled { human: &off, ..rows }, options), "row 7 of the human column is 6, outside the scale 1 to 5"),
            (message(rows, FitOptions { level: 90.0, ..options }), "the confidence level is 90"),
            (message(rows, FitOptions { interval_share: 1.0, ..options }), "the share of the interval is 1"),
            (message(rows, FitOptions { interval_share: 0.95, ..options }), "needs at least 81: label 41 more"),
            (message(Labelled { judge: &good.1[1..], ..rows }, options), "the judge column has 39"),
        ] {
            assert!(found.contains(part), "{found}\nexpected {part}");
        }
    }

    /// The share of new rows inside their interval: whatever the map is, and in each group.
    #[test]
    fn intervals_cover_as_often_as_promised() {
        let draws = 1500;
        let (mut inside, mut of_group, mut grouped) = (0, 0, 0);
        for draw in 0..draws {
            // The last cluster is new.
            let data = rows(21 * 4, 4, 1000 + draw);
            let groups: Vec<String> = (0..21 * 4).map(|row| if row % 4 < 2 { "a".into() } else { "b".into() }).collect();
            let old = 20 * 4;
            let rows = Labelled {
                human: &data.0[..old],
                judge: &data.1[..old],
                clusters: Some(&data.2[..old]),
                groups: Some(("half", &groups[..old])),
            };
            let options = FitOptions { level: 0.8, seed: draw, ..FitOptions::default() };
            let found = Fitted::new(&rows, &SCALE, &options).unwrap().calibration;
            let covers = |group: Option<&str>| {
                let interval = found.apply(data.1[old], group, &SCALE);
                usize::from((interval.low..=interval.high).contains(&data.0[old]))
            };
            inside += covers(None);
            of_group += covers(Some("a"));
            grouped += usize::from(found.groups.unwrap().half_widths.len() == 2);
        }
        let slack = 4.0 * (0.8_f64 * 0.2 / draws as f64).sqrt();
        for found in [inside, of_group] {
            let share = found as f64 / draws as f64;
            assert!(share > 0.8 - slack && share < 0.97, "{share}");
        }
        assert_eq!(grouped, draws as usize);
    }
}
