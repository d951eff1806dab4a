//! People's mean score of many rows, from few rows that people scored and a judge's score of all: prediction-powered inference.
//!
//! The judge's mean on the unlabelled rows is corrected by its mean error on the labelled ones:
//! `θ = λ · mean(judge, unlabelled) + mean(people − λ · judge, labelled)`. Its interval is valid for any judge, and as narrow as
//! the judge is good. λ = 1 is PPI (Angelopoulos et al., Science 2023), λ = 0 the labels alone, and the λ with the smallest
//! variance PPI++ (Angelopoulos, Duchi and Zrnic 2023). What it needs is that the labelled rows were drawn at random.
//!
//! Each figure is a mean with an influence per row: what the row adds to the figure's error. Influences are summed by cluster, so
//! rows of one cluster may be alike, on either side, and the difference of two systems on the same prompts is a paired one.

mod report;
mod simulation;

use std::collections::HashMap;

pub use report::EstimateNames;
pub use simulation::{Simulation, SimulationOptions, SimulationPoint};

use super::clusters::distinct;
use super::intervals::is_level;
use super::special::{normal_quantile, t_two_sided, t_two_sided_quantile};
use super::{EvalError, Undefined, all_finite, is_constant, same_length};

/// The fewest labelled clusters (rows, where each is its own) of an estimate, and the fewest unlabelled ones: how clusters differ
/// is not seen in fewer.
const FEWEST: usize = 5;

/// Scores of one system's rows.
#[derive(Clone, Copy, Debug)]
pub struct ScoredRows<'a> {
    /// People's score, of the labelled rows.
    pub human: &'a [Option<f64>],
    /// The judge's score of every row.
    pub judge: &'a [f64],
    /// The cluster of each row; two systems share their numbers. `None`: each row is one.
    pub clusters: Option<&'a [usize]>,
    /// The weight of each row, where rows stand for more or fewer others. `None`: all weigh the same.
    pub weights: Option<&'a [f64]>,
}

/// From which distribution an interval takes its ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantiles {
    /// Student's t, with a variance that allows for what was estimated. For few labels.
    Student,
    /// The normal distribution, with the plain variance, as ppi-python computes it.
    Normal,
}

/// How intervals are made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EstimateOptions {
    /// The probability with which an interval contains the mean.
    pub level: f64,
    /// The distribution of its ends.
    pub quantiles: Quantiles,
    /// λ, from 0 to 1. `None`: the one with the smallest variance.
    pub weight: Option<f64>,
    /// The ends of people's scale, to which intervals are cut: none loses the mean by that. `None`: they are not cut.
    pub scale: Option<(f64, f64)>,
}

impl Default for EstimateOptions {
    fn default() -> Self {
        EstimateOptions { level: 0.95, quantiles: Quantiles::Student, weight: None, scale: None }
    }
}

/// A figure with its interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// The figure.
    pub value: f64,
    /// Its standard error.
    pub error: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Estimate {
    /// Cut to what a mean can be.
    ///
    /// # Errors
    /// An interval that contains none of it.
    fn within(self, range: Option<(f64, f64)>) -> Result<Self, Undefined> {
        let Some((least, most)) = range else { return Ok(self) };
        if self.high < least || self.low > most {
            return Err(Undefined::OutsideScale);
        }
        let [value, low, high] = [self.value, self.low, self.high].map(|x| x.clamp(least, most));
        Ok(Estimate { value, low, high, ..self })
    }
}

/// The estimates of one mean, or of the difference of two.
#[derive(Clone, Debug, PartialEq)]
pub struct Estimates {
    /// Labelled rows of each system.
    pub labelled: Vec<usize>,
    /// Their clusters, of the system with the fewest (rows, where each is its own).
    pub units: usize,
    /// Unlabelled rows of each system.
    pub unlabelled: Vec<usize>,
    /// From the labels alone.
    pub labels: Result<Estimate, Undefined>,
    /// The judge's mean on the unlabelled rows, as if the judge were people. It is not cut to people's scale.
    pub judge: Result<Estimate, Undefined>,
    /// PPI: λ = 1.
    pub ppi: Result<Estimate, Undefined>,
    /// PPI++: λ as tuned, or as asked for.
    pub tuned: Result<Estimate, Undefined>,
    /// λ of each system.
    pub weights: Vec<Result<f64, Undefined>>,
    /// The λ that would be best if it were not kept between 0 and 1.
    pub unbounded: Vec<Result<f64, Undefined>>,
    /// As many labels alone would have the variance of `tuned`.
    pub worth: Result<f64, Undefined>,
    /// The probability of a difference between the judge's means on labelled and unlabelled rows as large as this one, if the
    /// labelled rows were drawn at random; the smallest of the systems.
    pub alike: f64,
}

/// The mean of one system.
///
/// # Errors
/// Columns of different length; values that are not finite; weights or options out of their range; too few labelled rows, or
/// no unlabelled ones.
pub fn mean(rows: &ScoredRows, options: &EstimateOptions) -> Result<Estimates, EvalError> {
    estimates(&[*rows], options)
}

/// The mean of the first system minus that of the second.
///
/// # Errors
/// As [`mean`], for either.
pub fn difference(first: &ScoredRows, second: &ScoredRows, options: &EstimateOptions) -> Result<Estimates, EvalError> {
    estimates(&[*first, *second], options)
}

/// The unit of each row, per system, and how many there are: clusters, which systems may share, or the rows themselves.
fn units_of(systems: &[ScoredRows]) -> (Vec<Vec<usize>>, usize) {
    let (mut known, mut next) = (HashMap::new(), 0);
    let mut new = || {
        next += 1;
        next - 1
    };
    let mut units = Vec::new();
    for rows in systems {
        units.push(match rows.clusters {
            Some(clusters) => clusters.iter().map(|cluster| *known.entry(*cluster).or_insert_with(&mut new)).collect(),
            None => (0..rows.human.len()).map(|_| new()).collect(),
        });
    }
    (units, next)
}

/// A weighted mean and the influence of each unit on it: the sum of its rows' deviations, each by the share of its weight.
#[derive(Clone, Debug)]
struct Mean {
    value: f64,
    influence: Vec<f64>,
}

impl Mean {
    /// The mean of these rows: unit, weight, value.
    fn of(units: usize, rows: impl Iterator<Item = (usize, f64, f64)> + Clone) -> Self {
        let total: f64 = rows.clone().map(|(_, weight, _)| weight).sum();
        let value = rows.clone().map(|(_, weight, value)| weight * value).sum::<f64>() / total;
        let mut influence = vec![0.0; units];
        for (unit, weight, own) in rows {
            influence[unit] += weight / total * (own - value);
        }
        Mean { value, influence }
    }

    /// This and `factor` times the other.
    fn plus(&self, factor: f64, other: &Mean) -> Mean {
        let influence = self.influence.iter().zip(&other.influence).map(|(own, more)| own + factor * more).collect();
        Mean { value: self.value + factor * other.value, influence }
    }

    /// The sum of the products of both influences.
    fn covariance(&self, other: &Mean) -> f64 {
        self.influence.iter().zip(&other.influence).map(|(own, more)| own * more).sum()
    }

    fn variance(&self) -> f64 {
        self.covariance(self)
    }
}

/// The parts of one system's estimates.
struct System {
    /// People's mean on the labelled rows.
    human: Mean,
    /// The judge's mean on the labelled rows.
    judge: Mean,
    /// The judge's mean on the unlabelled rows.
    unlabelled: Mean,
    /// Labelled and unlabelled rows.
    rows: (usize, usize),
    /// Clusters with labelled rows, and with unlabelled ones.
    units: (usize, usize),
    /// λ with the smallest variance, or as asked for.
    weight: Result<f64, Undefined>,
    /// λ with the smallest variance, be it out of bounds.
    unbounded: Result<f64, Undefined>,
    /// Why the labels alone have no interval, and why PPI has none.
    undefined: (Option<Undefined>, Option<Undefined>),
}

impl System {
    /// `unit` has the unit of each row, of `units` that there are.
    fn new(rows: &ScoredRows, unit: &[usize], units: usize, options: &EstimateOptions) -> Result<Self, EvalError> {
        let weight = |row: usize| rows.weights.map_or(1.0, |weights| weights[row]);
        let (labelled, unlabelled): (Vec<usize>, Vec<usize>) =
            (0..rows.human.len()).filter(|&row| weight(row) > 0.0).partition(|&row| rows.human[row].is_some());
        let count = |own: &[usize]| match rows.clusters {
            None => own.len(),
            Some(_) => distinct(own.iter().map(|&row| unit[row])),
        };
        let own_units = (count(&labelled), count(&unlabelled));
        let unit_name = if rows.clusters.is_some() { "cluster" } else { "row" };
        if own_units.0 < FEWEST {
            return Err(EvalError::TooFewLabels { what: "an estimate", unit: unit_name, found: own_units.0, needed: FEWEST });
        }
        if own_units.1 < FEWEST {
            return Err(EvalError::TooFewUnlabelled { unit: unit_name, found: own_units.1, needed: FEWEST });
        }
        let people = |row: &usize| rows.human[*row].unwrap_or_default();
        let of = |row: &usize, value: f64| (unit[*row], weight(*row), value);
        let human = Mean::of(units, labelled.iter().map(|row| of(row, people(row))));
        let judge = Mean::of(units, labelled.iter().map(|row| of(row, rows.judge[*row])));
        let of_unlabelled = Mean::of(units, unlabelled.iter().map(|row| of(row, rows.judge[*row])));
        let constant =
            |rows: &[usize], value: &dyn Fn(usize) -> f64| is_constant(&rows.iter().map(|&row| value(row)).collect::<Vec<_>>());
        let constant_human = constant(&labelled, &|row| people(&row));
        let constant_judge = constant(&[&labelled[..], &unlabelled[..]].concat(), &|row| rows.judge[row]);
        let constant_error = constant(&labelled, &|row| people(&row) - rows.judge[row]);
        let undefined = match (constant_human, constant_judge, constant_error) {
            (true, ..) => (Some(Undefined::ConstantHuman), Some(Undefined::ConstantHuman)),
            (_, true, _) => (None, Some(Undefined::ConstantJudge)),
            (_, _, true) => (None, Some(Undefined::NoErrors)),
            _ => (None, None),
        };
        let even = rows.weights.is_none_or(|weights| weights.windows(2).all(|pair| pair[0] == pair[1]));
        let apart = count(&(0..rows.human.len()).collect::<Vec<_>>()) == rows.human.len();
        let tuned = if even && apart {
            // ppi-python's: the judge's variance is that of all rows together.
            let all: Vec<f64> = labelled.iter().chain(&unlabelled).map(|&row| rows.judge[row]).collect();
            let middle = super::mean(&all);
            let variance = all.iter().map(|score| (score - middle).powi(2)).sum::<f64>() / (all.len() - 1) as f64;
            let (n, more) = (labelled.len() as f64, unlabelled.len() as f64);
            let covariance: f64 = labelled.iter().map(|row| (people(row) - human.value) * (rows.judge[*row] - judge.value)).sum();
            covariance / n / ((1.0 + n / more) * variance)
        } else {
            // The variance is a parabola in λ.
            let against = judge.plus(-1.0, &of_unlabelled);
            let variance = against.variance();
            if variance > 0.0 { human.covariance(&against) / variance } else { 0.0 }
        };
        let unbounded = undefined.1.clone().map_or(Ok(tuned), Err);
        let weight = options.weight.map_or_else(|| unbounded.clone().map(|best| best.clamp(0.0, 1.0)), Ok);
        let rows = (labelled.len(), unlabelled.len());
        Ok(System { human, judge, unlabelled: of_unlabelled, rows, units: own_units, weight, unbounded, undefined })
    }

    /// `λ · mean(judge, unlabelled) + mean(people − λ · judge, labelled)`.
    fn powered(&self, weight: f64) -> Mean {
        self.human.plus(-weight, &self.judge).plus(weight, &self.unlabelled)
    }

    /// The p-value of the difference between the judge's means on labelled and unlabelled rows: Student's t, with the degrees of
    /// freedom of the labelled rows, which are the fewer.
    fn alike(&self) -> f64 {
        let gap = self.judge.plus(-1.0, &self.unlabelled);
        let units = self.units.0.min(self.units.1).max(2) as f64;
        let variance = gap.variance() * units / (units - 1.0);
        match variance > 0.0 {
            true => t_two_sided(gap.value / variance.sqrt(), units - 1.0),
            false => f64::from(u8::from(gap.value == 0.0)),
        }
    }
}

fn check(rows: &ScoredRows, options: &EstimateOptions) -> Result<(), EvalError> {
    let n = rows.human.len();
    same_length("the human column", n, "the judge column", rows.judge.len())?;
    all_finite("the human column", &rows.human.iter().map(|score| score.unwrap_or_default()).collect::<Vec<_>>())?;
    all_finite("the judge column", rows.judge)?;
    if let Some(clusters) = rows.clusters {
        same_length("the human column", n, "the cluster column", clusters.len())?;
    }
    if let Some(weights) = rows.weights {
        same_length("the human column", n, "the weight column", weights.len())?;
        if let Some(row) = weights.iter().position(|weight| !(weight.is_finite() && *weight >= 0.0)) {
            return Err(EvalError::RowWeight { row, value: weights[row] });
        }
        for labelled in [true, false] {
            let of = |row: &usize| rows.human[*row].is_some() == labelled;
            let own: Vec<usize> = (0..n).filter(of).collect();
            let sum: f64 = own.iter().map(|&row| weights[row]).sum();
            let usable = own.is_empty() || (sum > 0.0 && sum.is_finite());
            if !usable {
                return Err(EvalError::WeightSum { rows: if labelled { "labelled" } else { "unlabelled" }, sum });
            }
        }
    }
    if !is_level(options.level) {
        return Err(EvalError::Level(options.level));
    }
    match options.weight {
        Some(weight) if !(0.0..=1.0).contains(&weight) => Err(EvalError::JudgeWeight(weight)),
        _ => Ok(()),
    }
}

/// The estimates of one system, or of the difference of two.
fn estimates(rows: &[ScoredRows], options: &EstimateOptions) -> Result<Estimates, EvalError> {
    rows.iter().try_for_each(|rows| check(rows, options))?;
    let (units, total) = units_of(rows);
    let clustered = rows.iter().all(|rows| rows.clusters.is_some());
    let systems = rows.iter().zip(&units).map(|(rows, unit)| System::new(rows, unit, total, options));
    let systems: Vec<System> = systems.collect::<Result<_, EvalError>>()?;
    let all = |why: &dyn Fn(&System) -> Option<Undefined>| systems.iter().find_map(why).map_or(Ok(()), Err);
    // Parameters that each system's figure takes from the labels.
    let figure = |part: &dyn Fn(&System) -> Mean, units: &dyn Fn(&System) -> usize, parameters: usize| {
        let parts: Vec<(Mean, usize)> = systems.iter().map(|system| (part(system), units(system))).collect();
        interval(&parts, clustered, parameters, options)
    };
    let tuned: Result<Vec<f64>, Undefined> = systems.iter().map(|system| system.weight.clone()).collect();
    let weight = |system: &System| system.weight.clone().unwrap_or_default();
    let labelled = |system: &System| system.units.0;
    let fewest = systems.iter().map(labelled).min().unwrap_or_default();
    let no_labels = all(&|system| system.undefined.0.clone());
    let no_ppi = all(&|system| system.undefined.1.clone());
    let parameters = if options.weight.is_some() { 1 } else { 2 };
    let labels = no_labels.and_then(|()| figure(&|system| system.human.clone(), &labelled, 1));
    let powered = no_ppi.clone().and(tuned).and_then(|_| figure(&|system| system.powered(weight(system)), &labelled, parameters));
    let plain = |part: &dyn Fn(&System) -> Mean| difference_of(systems.iter().map(part)).variance();
    let worth = labels
        .clone()
        .and(powered.clone())
        .map(|_| fewest as f64 * plain(&|system| system.human.clone()) / plain(&|system| system.powered(weight(system))));
    let range = options.scale.map(|(low, high)| if systems.len() > 1 { (low - high, high - low) } else { (low, high) });
    let cut = |figure: Result<Estimate, Undefined>| figure.and_then(|figure| figure.within(range));
    Ok(Estimates {
        labelled: systems.iter().map(|system| system.rows.0).collect(),
        units: fewest,
        unlabelled: systems.iter().map(|system| system.rows.1).collect(),
        judge: figure(&|system| system.unlabelled.clone(), &|system| system.units.1, 1),
        ppi: cut(no_ppi.and_then(|()| figure(&|system| system.powered(1.0), &labelled, 1))),
        tuned: cut(powered),
        weights: systems.iter().map(|system| system.weight.clone()).collect(),
        unbounded: systems.iter().map(|system| system.unbounded.clone()).collect(),
        alike: systems.iter().map(System::alike).fold(1.0, f64::min),
        labels: cut(labels),
        worth,
    })
}

/// The first mean, minus the second.
fn difference_of(means: impl Iterator<Item = Mean>) -> Mean {
    means.reduce(|first, second| first.plus(-1.0, &second)).unwrap_or(Mean { value: f64::NAN, influence: Vec::new() })
}

/// The interval of a mean, or of a difference, from each mean with the units that its labels come from.
/// `clustered`: the two may share units.
///
/// With Student's t, a variance of `g` units that fitted `k` parameters is multiplied by g / (g − k) and has g − k degrees of
/// freedom. Two systems without shared units have Welch's degrees of freedom; with shared ones g is the smaller of theirs.
fn interval(
    parts: &[(Mean, usize)],
    clustered: bool,
    parameters: usize,
    options: &EstimateOptions,
) -> Result<Estimate, Undefined> {
    let whole = difference_of(parts.iter().map(|(mean, _)| mean.clone()));
    let tail = (1.0 - options.level) / 2.0;
    let (variance, width) = match options.quantiles {
        Quantiles::Normal => (whole.variance(), -normal_quantile(tail)),
        Quantiles::Student => {
            let freedom = |units: usize| units.saturating_sub(parameters).max(1) as f64;
            let scaled = |variance: f64, units: usize| variance * units as f64 / freedom(units);
            let fewest = parts.iter().map(|(_, units)| *units).min().unwrap_or_default();
            let (variance, df) = if clustered || parts.len() == 1 {
                (scaled(whole.variance(), fewest), freedom(fewest))
            } else {
                let variances: Vec<f64> = parts.iter().map(|(mean, units)| scaled(mean.variance(), *units)).collect();
                let sum: f64 = variances.iter().sum();
                let squares: f64 = variances.iter().zip(parts).map(|(v, (_, units))| v * v / freedom(*units)).sum();
                (sum, if squares > 0.0 { sum * sum / squares } else { freedom(fewest) })
            };
            (variance, t_two_sided_quantile(1.0 - options.level, df))
        }
    };
    if variance <= 0.0 {
        return Err(Undefined::NoVariance);
    }
    let error = variance.sqrt();
    let (low, high) = (whole.value - width * error, whole.value + width * error);
    match low.is_finite() && high.is_finite() {
        true => Ok(Estimate { value: whole.value, error, low, high }),
        false => Err(Undefined::TooLarge),
    }
}

#[cfg(test)]
mod tests;
