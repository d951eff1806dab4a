//! Bootstrap intervals, percentile and BCa, of one judge and of the difference of two. Rows that belong together are drawn as
//! clusters.
//!
//! A resample is a count per row. Metrics are computed on counts ([`Tally`]), so one resample serves all metrics and both judges,
//! and nothing is sorted again. Resample k uses random stream k, so a result does not depend on the number of threads or on the
//! other metrics requested.

use super::clusters::distinct;
use super::metrics::{METRICS, Metric, SHARES, figure};
use super::special::{beta_quantile, normal_cdf, normal_quantile};
use super::table::fixed;
use super::{EvalError, Measured, Sample, Tally, Undefined, same_length};
use crate::random::Stream;
use serde_json::{Map, Value, json};

/// Settings of resampling.
#[derive(Clone, Copy, Debug)]
pub struct Bootstrap<'a> {
    /// The number of resamples; 10,000 for published figures. Long columns get fewer: see [`Bootstrap::drawn`].
    pub resamples: usize,
    /// Share of the resamples inside the interval, for example 0.95.
    pub level: f64,
    /// Seed of the resamples.
    pub seed: u64,
    /// The cluster of each row (a prompt, a rubric): whole clusters are drawn. `None`: single rows are drawn.
    pub clusters: Option<&'a [usize]>,
}

impl Default for Bootstrap<'_> {
    fn default() -> Self {
        Bootstrap { resamples: 10_000, level: 0.95, seed: 0, clusters: None }
    }
}

/// Whether an interval can have this confidence level: a share between 0 and 1, both left out.
pub fn is_level(level: f64) -> bool {
    level > 0.0 && level < 1.0
}

/// The fewest rows (clusters, where whole ones are drawn) of an interval by resampling.
///
/// Resamples of few rows spread too little. The percentile interval of a mean of n normal rows reaches z · √((n − 1) / n) of its
/// standard errors, which Student's t with n − 1 degrees of freedom exceeds more often than promised: one of level 0.95 covers
/// 76 % with 3 rows, 84 % with 5 and 90 % with 10. Three rows have 10 different resamples, ten have 92,378.
pub const FEWEST_UNITS: usize = 10;

/// [`Undefined::TooFewUnits`] unless so many rows (or clusters, where these are drawn) are enough for an interval by resampling.
///
/// # Errors
/// As said.
pub fn enough_units(found: usize, unit: &'static str) -> Result<(), Undefined> {
    match found < FEWEST_UNITS {
        true => Err(Undefined::TooFewUnits { unit, found, needed: FEWEST_UNITS }),
        false => Ok(()),
    }
}

/// The largest product of rows and resamples.
const MAX_ROWS_DRAWN: usize = 100_000_000;
/// The fewest resamples.
const MIN_RESAMPLES: usize = 100;
/// With fewer resamples, quantiles are too coarse to be the ends of an interval.
const MIN_FOR_QUANTILES: usize = 1000;
/// The number of groups that the jackknife of BCa leaves out in turn. With at most this many units, each unit is left out alone.
const JACKKNIFE_GROUPS: usize = 1000;

/// How the ends of an interval were computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IntervalMethod {
    /// Quantiles of the resamples.
    Percentile,
    /// Estimate ± z · standard deviation of the resamples, where long columns leave too few resamples for quantiles.
    Normal,
    /// The exact interval of a share (Clopper and Pearson 1934): near 0 and 1 resamples are too much alike, and at the ends
    /// their interval has no width.
    Exact,
}

/// A figure with its interval.
#[derive(Clone, Debug, PartialEq)]
pub struct Interval {
    /// The figure on all rows.
    pub estimate: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// How the ends were computed.
    pub method: IntervalMethod,
    /// The bias-corrected and accelerated interval (Efron 1987), or why it is undefined.
    pub bca: Result<(f64, f64), Undefined>,
    /// Resamples in which the metric was undefined, and which were drawn again.
    pub redrawn: usize,
}

impl Interval {
    /// Its ends as tables show them.
    pub fn ends(&self) -> String {
        format!("{} to {}", fixed(self.low, 3), fixed(self.high, 3))
    }

    /// A JSON object with `estimate`, `low`, `high`, `method`, `bca` (null with a reason where undefined) and `redrawn`.
    pub fn to_json(&self) -> Value {
        let method = match self.method {
            IntervalMethod::Percentile => "percentile",
            IntervalMethod::Normal => "normal",
            IntervalMethod::Exact => "exact",
        };
        let mut object = json!({"estimate": self.estimate, "low": self.low, "high": self.high, "method": method,
            "bca": self.bca.as_ref().ok().map(|(low, high)| json!({"low": low, "high": high})), "redrawn": self.redrawn});
        if let Err(reason) = &self.bca {
            object["bca_undefined"] = json!(reason.to_string());
        }
        object
    }
}

/// A metric's name with its interval, or why it is undefined.
pub type NamedInterval = (&'static str, Result<Interval, Undefined>);

/// A JSON object of the intervals by name. Undefined ones are null, with the reasons under `undefined`.
pub fn to_json(intervals: &[NamedInterval]) -> Value {
    let mut object = Map::new();
    let mut reasons = Map::new();
    for (name, interval) in intervals {
        object.insert((*name).into(), json!(interval.as_ref().ok().map(Interval::to_json)));
        if let Err(reason) = interval {
            reasons.insert((*name).into(), json!(reason.to_string()));
        }
    }
    if !reasons.is_empty() {
        object.insert("undefined".into(), Value::Object(reasons));
    }
    Value::Object(object)
}

/// A statistic that is computed on each resample.
#[derive(Clone, Copy, Debug)]
pub enum Statistic {
    /// A metric of one of the samples.
    Of(usize, Metric),
    /// A metric of the first sample minus the same metric of the second. Its interval is much narrower than two separate
    /// intervals suggest, since both judges see the same easy and hard rows.
    Difference(usize, usize, Metric),
}

impl Statistic {
    fn of(self, tallies: &[Tally]) -> Measured {
        match self {
            Statistic::Of(sample, metric) => figure(metric, &tallies[sample]),
            Statistic::Difference(one, other, metric) => Ok(figure(metric, &tallies[one])? - figure(metric, &tallies[other])?),
        }
    }
}

impl Bootstrap<'_> {
    /// Interval of a metric of two columns.
    ///
    /// # Errors
    /// Columns of different length, or values that are not finite. The inner result is undefined where the metric is undefined,
    /// or where half of the resamples have no value.
    pub fn interval(&self, metric: Metric, human: &[f64], judge: &[f64]) -> Result<Result<Interval, Undefined>, EvalError> {
        self.interval_of_sample(metric, &Sample::new(human, judge, None)?)
    }

    /// Interval of a metric of one sample.
    ///
    /// # Errors
    /// As [`Bootstrap::interval`].
    pub fn interval_of_sample(&self, metric: Metric, sample: &Sample) -> Result<Result<Interval, Undefined>, EvalError> {
        self.single(&[sample], Statistic::Of(0, metric))
    }

    /// Interval of `metric(human, judge) - metric(human, other)` with the same rows drawn for both judges.
    ///
    /// # Errors
    /// As [`Bootstrap::interval`].
    pub fn difference(
        &self,
        metric: Metric,
        human: &[f64],
        judge: &[f64],
        other: &[f64],
    ) -> Result<Result<Interval, Undefined>, EvalError> {
        let (judge, other) = (Sample::new(human, judge, None)?, Sample::new(human, other, None)?);
        self.single(&[&judge, &other], Statistic::Difference(0, 1, metric))
    }

    fn single(&self, samples: &[&Sample], statistic: Statistic) -> Result<Result<Interval, Undefined>, EvalError> {
        let mut found = self.intervals(samples, &[statistic])?;
        Ok(found.pop().unwrap_or(Err(Undefined::NotCompared)))
    }

    /// Intervals of all metrics of one sample.
    ///
    /// # Errors
    /// As [`Bootstrap::intervals`].
    pub fn all(&self, sample: &Sample) -> Result<Vec<NamedInterval>, EvalError> {
        let statistics = METRICS.map(|(_, metric)| Statistic::Of(0, metric));
        let tally = sample.tally();
        let honest =
            |((name, metric), interval): (&(&'static str, Metric), Result<Interval, Undefined>)| match SHARES.contains(name) {
                true => (*name, self.of_share(&figure(*metric, &tally), interval, 0..sample.rows())),
                false => (*name, interval),
            };
        Ok(METRICS.iter().zip(self.intervals(&[sample], &statistics)?).map(honest).collect())
    }

    /// Intervals of the differences of all metrics, the judge's minus the other's.
    ///
    /// # Errors
    /// As [`Bootstrap::intervals`].
    pub fn differences(&self, judge: &Sample, other: &Sample) -> Result<Vec<NamedInterval>, EvalError> {
        let statistics = METRICS.map(|(_, metric)| Statistic::Difference(0, 1, metric));
        Ok(METRICS.iter().map(|(name, _)| *name).zip(self.intervals(&[judge, other], &statistics)?).collect())
    }

    /// How the resamples were drawn, for a report: resamples requested and drawn, level, seed, clusters; and why there are no
    /// intervals, where there are none.
    pub fn to_json(self, rows: usize) -> Value {
        let mut object = json!({"resamples": self.drawn(rows), "resamples_asked": self.resamples, "level": self.level,
            "seed": self.seed, "clusters": self.clusters.map(|clusters| distinct(clusters.iter().copied()))});
        if let Err(reason) = self.enough(rows) {
            object["undefined"] = json!(reason.to_string());
        }
        object
    }

    /// Whether `rows` rows, or their clusters, are enough for intervals.
    fn enough(&self, rows: usize) -> Result<(), Undefined> {
        match self.clusters {
            None => enough_units(rows, "row"),
            Some(clusters) => enough_units(distinct(clusters.iter().copied()), "cluster"),
        }
    }

    /// The number of resamples drawn for `rows` rows: the requested number; for more than 10,000 rows so many that 100 million
    /// rows are drawn in total, but at least 100 (or the requested number). Below 1,000 the interval is a normal one.
    pub fn drawn(&self, rows: usize) -> usize {
        self.resamples.min((MAX_ROWS_DRAWN / rows.max(1)).max(MIN_RESAMPLES))
    }

    /// Intervals of several statistics of samples that have the same rows.
    ///
    /// # Errors
    /// A level that is not a share; samples (or clusters) of different length. An inner result is undefined where the statistic is,
    /// or where half of the resamples have no value.
    pub fn intervals(
        &self,
        samples: &[&Sample],
        statistics: &[Statistic],
    ) -> Result<Vec<Result<Interval, Undefined>>, EvalError> {
        let rows = samples.first().map_or(0, |s| s.rows());
        for sample in samples {
            same_length("the first judge's column", rows, "the second judge's column", sample.rows())?;
        }
        let measure = |times: &[u32]| -> Vec<Measured> {
            let tallies: Vec<Tally> = samples.iter().map(|sample| sample.tally_of(times)).collect();
            statistics.iter().map(|statistic| statistic.of(&tallies)).collect()
        };
        self.intervals_of(rows, &measure)
    }

    /// Intervals of the figures that `measure` computes from how often each of `rows` rows counts.
    ///
    /// # Errors
    /// As [`Bootstrap::intervals`].
    pub(crate) fn intervals_of(&self, rows: usize, measure: &Measure) -> Result<Vec<Result<Interval, Undefined>>, EvalError> {
        if !is_level(self.level) {
            return Err(EvalError::Level(self.level));
        }
        if let Some(clusters) = self.clusters {
            same_length("the human column", rows, "the cluster column", clusters.len())?;
        }
        let estimates = measure(&vec![1; rows]);
        let needed = self.drawn(rows);
        let resamples = if needed == 0 { Err(Undefined::TooFewResamples { found: 0, asked: 0 }) } else { Ok(()) };
        if let Err(none) = self.enough(rows).and(resamples) {
            return Ok(estimates.into_iter().map(|e| e.and(Err(none.clone()))).collect());
        }
        let units = Units::new(rows, self.clusters);
        let resampler = Resampler { units: &units, measure, seed: self.seed };
        let mut drawn: Vec<Vec<f64>> = resampler.parallel_map(needed, &|k| resampler.resample(k));
        // A second and last batch if some resamples had no value.
        let has_gaps = |drawn: &[Vec<f64>]| {
            (0..estimates.len()).any(|s| estimates[s].is_ok() && drawn.iter().filter(|d| d[s].is_finite()).count() < needed)
        };
        if has_gaps(&drawn) {
            drawn.extend(resampler.parallel_map(needed, &|k| resampler.resample(needed + k)));
        }
        let method =
            if needed < self.resamples.min(MIN_FOR_QUANTILES) { IntervalMethod::Normal } else { IntervalMethod::Percentile };
        let groups = units.count.min(JACKKNIFE_GROUPS).min((MAX_ROWS_DRAWN / 5 / rows.max(1)).max(MIN_RESAMPLES));
        let jackknife = match method {
            IntervalMethod::Percentile => resampler.parallel_map(groups, &|g| resampler.without(g, groups)),
            IntervalMethod::Normal | IntervalMethod::Exact => Vec::new(),
        };
        let column = |rows: &[Vec<f64>], s: usize| rows.iter().map(|row| row[s]).collect::<Vec<f64>>();
        let interval = |(s, estimate): (usize, Measured)| {
            self.interval_of(estimate?, &column(&drawn, s), needed, method, &column(&jackknife, s))
        };
        Ok(estimates.into_iter().enumerate().map(interval).collect())
    }

    /// The interval of a share of `rows`, a list of row numbers: the exact one of Clopper and Pearson, however few they are.
    /// Resamples would say less than they should near 0 and 1. Rows of a cluster may be alike, so with clusters it is the wider of
    /// both intervals, and where the share is 0 or 1, the exact one of the clusters.
    ///
    /// Rows that count one half, as ties do, make the exact interval too wide.
    ///
    /// # Errors
    /// A share that is undefined; one between 0 and 1 of too few clusters.
    pub(crate) fn of_share(
        &self,
        share: &Measured,
        resampled: Result<Interval, Undefined>,
        rows: impl Iterator<Item = usize>,
    ) -> Result<Interval, Undefined> {
        let share = share.clone()?;
        let rows: Vec<usize> = rows.collect();
        let at_an_end = share == 0.0 || share == 1.0;
        let n = match self.clusters {
            Some(clusters) if at_an_end => distinct(rows.iter().map(|&row| clusters[row])),
            _ => rows.len(),
        };
        let (low, high) = clopper_pearson(share, n.max(1), self.level);
        let exact = |bca, redrawn| Interval { estimate: share, low, high, method: IntervalMethod::Exact, bca, redrawn };
        let wider = self.clusters.is_some() && !at_an_end;
        let interval = match resampled {
            Err(reason) if wider => return Err(reason),
            Err(reason) => return Ok(exact(Err(reason), 0)),
            Ok(interval) if wider && interval.low <= low && interval.high >= high => return Ok(interval),
            Ok(interval) => interval,
        };
        let bca = if interval.low == interval.high { Err(Undefined::SameResamples) } else { interval.bca };
        let found = exact(bca, interval.redrawn);
        Ok(if wider { Interval { low: low.min(interval.low), high: high.max(interval.high), ..found } } else { found })
    }

    /// The interval from the values of the resamples in their order (NaN: undefined).
    fn interval_of(
        &self,
        estimate: f64,
        drawn: &[f64],
        needed: usize,
        method: IntervalMethod,
        jackknife: &[f64],
    ) -> Result<Interval, Undefined> {
        let mut values: Vec<f64> = Vec::with_capacity(needed);
        let mut redrawn = 0;
        for &value in drawn {
            match (values.len() == needed, value.is_finite()) {
                (true, _) => break,
                (_, true) => values.push(value),
                (_, false) => redrawn += 1,
            }
        }
        if values.len() < needed {
            return Err(Undefined::TooFewResamples { found: values.len(), asked: needed });
        }
        values.sort_unstable_by(f64::total_cmp);
        let tail = (1.0 - self.level) / 2.0;
        if method == IntervalMethod::Normal {
            let mean = super::mean(&values);
            let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (values.len() as f64 - 1.0).max(1.0);
            let reach = -normal_quantile(tail) * variance.sqrt();
            let bca = Err(Undefined::TooFewResamples { found: needed, asked: self.resamples });
            return Ok(Interval { estimate, low: estimate - reach, high: estimate + reach, method, bca, redrawn });
        }
        let (low, high) = (quantile(&values, tail), quantile(&values, 1.0 - tail));
        let bca = bca(estimate, &values, jackknife, tail);
        Ok(Interval { estimate, low, high, method, bca, redrawn })
    }
}

/// The exact interval of a share of `n` rows.
fn clopper_pearson(share: f64, n: usize, level: f64) -> (f64, f64) {
    let (tail, n) = ((1.0 - level) / 2.0, n as f64);
    let (with, without) = (share * n, n - share * n);
    let low = if share == 0.0 { 0.0 } else { beta_quantile(tail, with, without + 1.0) };
    let high = if share == 1.0 { 1.0 } else { beta_quantile(1.0 - tail, with + 1.0, without) };
    (low, high)
}

/// The bias-corrected and accelerated interval. `values` are the resamples in ascending order; `jackknife` the values without
/// each group of rows.
fn bca(estimate: f64, values: &[f64], jackknife: &[f64], tail: f64) -> Result<(f64, f64), Undefined> {
    let (below, equal) = (values.partition_point(|v| *v < estimate), values.partition_point(|v| *v <= estimate));
    let share = (below + equal) as f64 / (2 * values.len()) as f64;
    if share == 0.0 || share == 1.0 {
        // A metric that is equal in all resamples has an interval of width 0.
        let constant = values[0] == estimate && values[values.len() - 1] == estimate;
        return if constant { Ok((estimate, estimate)) } else { Err(Undefined::OneSided) };
    }
    let left: Vec<f64> = jackknife.iter().copied().filter(|v| v.is_finite()).collect();
    super::at_least(2, left.len())?;
    let centre = super::mean(&left);
    let (squares, cubes) = left.iter().map(|v| centre - v).fold((0.0, 0.0), |(s, c), d| (s + d * d, c + d * d * d));
    let acceleration = if squares > 0.0 { cubes / (6.0 * squares.powf(1.5)) } else { 0.0 };
    let bias = normal_quantile(share);
    let end = |z: f64| quantile(values, normal_cdf(bias + (bias + z) / (1.0 - acceleration * (bias + z))));
    Ok((end(normal_quantile(tail)), end(-normal_quantile(tail))))
}

/// The units that are drawn: single rows, or the rows of each cluster.
struct Units {
    count: usize,
    /// The unit of each row, if units are clusters.
    unit_of_row: Option<Vec<u32>>,
}

impl Units {
    fn new(rows: usize, clusters: Option<&[usize]>) -> Self {
        let Some(clusters) = clusters else { return Units { count: rows, unit_of_row: None } };
        let mut names: Vec<usize> = clusters.to_vec();
        names.sort_unstable();
        names.dedup();
        let unit_of_row = clusters.iter().map(|name| names.partition_point(|n| n < name) as u32).collect();
        Units { count: names.len(), unit_of_row: Some(unit_of_row) }
    }

    /// The count of each row, from the count of each unit.
    fn rows(&self, unit_counts: Vec<u32>) -> Vec<u32> {
        match &self.unit_of_row {
            None => unit_counts,
            Some(units) => units.iter().map(|&unit| unit_counts[unit as usize]).collect(),
        }
    }
}

/// Computes the statistics of resamples.
struct Resampler<'a> {
    units: &'a Units,
    measure: &'a Measure<'a>,
    seed: u64,
}

/// Figures of the rows, from how often each row counts.
pub(crate) type Measure<'m> = dyn Fn(&[u32]) -> Vec<Measured> + Sync + 'm;

/// The random streams of this module: "boot" in ASCII.
const BOOTSTRAP_STREAM: u64 = 0x626F_6F74 << 32;

impl Resampler<'_> {
    /// The statistics of resample `k`; NaN where undefined.
    fn resample(&self, k: usize) -> Vec<f64> {
        let mut stream = Stream::new(self.seed, BOOTSTRAP_STREAM | k as u64);
        let mut times = vec![0; self.units.count];
        for _ in 0..self.units.count {
            times[stream.below(self.units.count)] += 1;
        }
        self.measure(times)
    }

    /// The statistics without group `g` of `groups`.
    fn without(&self, g: usize, groups: usize) -> Vec<f64> {
        self.measure((0..self.units.count).map(|unit| u32::from(unit % groups != g)).collect())
    }

    fn measure(&self, unit_counts: Vec<u32>) -> Vec<f64> {
        let times = self.units.rows(unit_counts);
        (self.measure)(&times).into_iter().map(|figure| figure.unwrap_or(f64::NAN)).collect()
    }

    /// `f` of 0..count in order, computed on all cores.
    #[cfg(not(target_arch = "wasm32"))]
    fn parallel_map(&self, count: usize, f: &(dyn Fn(usize) -> Vec<f64> + Sync)) -> Vec<Vec<f64>> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(count.max(1));
        std::thread::scope(|scope| {
            let part = |t: usize| (count * t / threads)..(count * (t + 1) / threads);
            let workers: Vec<_> = (0..threads).map(|t| scope.spawn(move || part(t).map(f).collect::<Vec<_>>())).collect();
            let joined = workers.into_iter().map(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            joined.flatten().collect()
        })
    }

    #[cfg(target_arch = "wasm32")]
    fn parallel_map(&self, count: usize, f: &(dyn Fn(usize) -> Vec<f64> + Sync)) -> Vec<Vec<f64>> {
        (0..count).map(f).collect()
    }
}

/// Quantile of ascending values, linear between neighbours (numpy's default). `values` must not be empty.
pub(crate) fn quantile(values: &[f64], share: f64) -> f64 {
    let position = share.clamp(0.0, 1.0) * (values.len() - 1) as f64;
    let below = position.floor() as usize;
    let above = (below + 1).min(values.len() - 1);
    values[below] + (position - below as f64) * (values[above] - values[below])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(n: usize, noise: f64) -> (Vec<f64>, Vec<f64>) {
        let mut stream = Stream::new(1, 2);
        let row = |_| {
            let h = stream.normal();
            (h, h + noise * stream.normal())
        };
        (0..n).map(row).unzip()
    }

    #[test]
    fn interval_of_a_mean_matches_the_textbook() {
        let (human, judge) = columns(400, 1.0);
        let interval =
            Bootstrap { resamples: 2000, ..Default::default() }.interval(|t| t.bias(), &human, &judge).unwrap().unwrap();
        let textbook = 2.0 * 1.96 / 20.0;
        assert!(((interval.high - interval.low) / textbook - 1.0).abs() < 0.1, "{interval:?}");
        assert!(interval.low < interval.estimate && interval.estimate < interval.high);
        // A mean is neither biased nor skewed, so both intervals are nearly equal.
        let (low, high) = interval.bca.unwrap();
        assert!((low - interval.low).abs() < 0.02 && (high - interval.high).abs() < 0.02);
    }

    #[test]
    fn few_rows_or_clusters_have_no_interval() {
        let (human, judge) = columns(60, 0.5);
        let of = |clusters: usize| {
            let clusters: Vec<usize> = (0..60).map(|row| row % clusters).collect();
            let bootstrap = Bootstrap { resamples: 100, clusters: Some(&clusters), ..Default::default() };
            bootstrap.interval(|t| t.pearson(), &human, &judge).unwrap()
        };
        let bootstrap = Bootstrap { resamples: 100, ..Default::default() };
        let of_rows = |rows: usize| bootstrap.interval(|t| t.pearson(), &human[..rows], &judge[..rows]).unwrap();
        for found in [3, 9] {
            assert_eq!(of(found).unwrap_err(), Undefined::TooFewUnits { unit: "cluster", found, needed: 10 });
            assert_eq!(of_rows(found).unwrap_err(), Undefined::TooFewUnits { unit: "row", found, needed: 10 });
        }
        assert!(of(10).is_ok() && of_rows(10).is_ok());
        let told = of_rows(9).unwrap_err().to_string();
        assert_eq!(told, "an interval by resampling needs at least 10 rows, and there are 9: label 1 more");
        assert_eq!(bootstrap.to_json(9)["undefined"], told);
        assert!(bootstrap.to_json(10).get("undefined").is_none());
    }

    /// The fewest rows with which a percentile interval of level 0.95 of a mean of normal rows covers it at least nine times in
    /// ten: what Student's t says, and a simulation.
    #[test]
    fn the_fewest_rows_are_those_whose_intervals_nearly_hold() {
        let covers = |rows: usize| {
            let n = rows as f64;
            1.0 - crate::eval::special::t_two_sided(1.959964 * ((n - 1.0) / n).sqrt(), n - 1.0)
        };
        for (rows, expected) in [(3, 0.7494), (5, 0.8454), (FEWEST_UNITS - 1, 0.8982), (FEWEST_UNITS, 0.9040)] {
            assert!((covers(rows) - expected).abs() < 2e-3, "{rows}: {}", covers(rows));
        }
        let bootstrap = Bootstrap { resamples: 400, ..Default::default() };
        let inside = (0..600).filter(|&draw| {
            let mut stream = Stream::new(draw, 3);
            let human: Vec<f64> = (0..FEWEST_UNITS).map(|_| stream.normal()).collect();
            let found = bootstrap.interval(|t| t.bias(), &human, &[0.0; FEWEST_UNITS]).unwrap().unwrap();
            found.low <= 0.0 && found.high >= 0.0
        });
        let share = inside.count() as f64 / 600.0;
        assert!((share - covers(FEWEST_UNITS)).abs() < 0.035, "{share}");
    }

    /// More right rows never give a lower end that is smaller, and 99 of 100 has scipy's exact interval.
    #[test]
    fn intervals_of_shares_are_exact_between_the_ends_too() {
        let bootstrap = Bootstrap { resamples: 400, ..Default::default() };
        let of = |bootstrap: &Bootstrap, right: usize| {
            let rows: Vec<f64> = (0..100).map(|row| f64::from(u8::from(row < right))).collect();
            let measure = |times: &[u32]| {
                let sum: f64 = rows.iter().zip(times).map(|(x, n)| x * f64::from(*n)).sum();
                vec![Ok(sum / f64::from(times.iter().sum::<u32>()))]
            };
            let found = bootstrap.intervals_of(100, &measure).unwrap().pop().unwrap();
            bootstrap.of_share(&measure(&[1; 100])[0], found, 0..100).unwrap()
        };
        let found = of(&bootstrap, 99);
        // scipy.stats.binomtest(99, 100).proportion_ci()
        assert!((found.low - 0.9455406).abs() < 1e-6 && (found.high - 0.9997469).abs() < 1e-6, "{found:?}");
        let lows: Vec<f64> = (0..=100).map(|right| of(&bootstrap, right).low).collect();
        assert!(lows.windows(2).all(|pair| pair[0] < pair[1]));
        // Rows of a cluster are all right or all wrong: the bootstrap's is the wider one.
        let clusters: Vec<usize> = (0..100).map(|row| row / 10).collect();
        let clustered = of(&Bootstrap { clusters: Some(&clusters), ..bootstrap }, 60);
        let exact = of(&bootstrap, 60);
        assert!(clustered.low < exact.low && clustered.high > exact.high, "{clustered:?} {exact:?}");
    }

    /// A correlation near 1 has a long lower tail. BCa shifts towards it, percentiles do not.
    #[test]
    fn bca_moves_a_skewed_interval() {
        let (human, judge) = columns(30, 0.4);
        let interval =
            Bootstrap { resamples: 4000, ..Default::default() }.interval(|t| t.pearson(), &human, &judge).unwrap().unwrap();
        let (low, high) = interval.bca.clone().unwrap();
        assert!(low < interval.low && high < interval.high, "{interval:?}");
    }

    #[test]
    fn clusters_widen_and_pairing_narrows() {
        let (human, judge) = columns(100, 0.5);
        let doubled = |x: &[f64]| [x, x].concat();
        let clusters: Vec<usize> = (0..200).map(|row| row % 100).collect();
        let width = |b: Bootstrap| {
            let i = b.interval(|t| t.pearson(), &doubled(&human), &doubled(&judge)).unwrap().unwrap();
            i.high - i.low
        };
        let plain = Bootstrap { resamples: 1000, ..Default::default() };
        assert!(width(Bootstrap { clusters: Some(&clusters), ..plain }) > 1.2 * width(plain));

        let other: Vec<f64> = judge.iter().zip(&human).map(|(s, h)| 0.9 * s + 0.1 * h).collect();
        let difference = plain.difference(|t| t.pearson(), &human, &other, &judge).unwrap().unwrap();
        assert!(difference.low > 0.0, "{difference:?}");
    }

    #[test]
    fn undefined_resamples_are_drawn_again_and_counted() {
        // In a third of the resamples the only row with another score is absent.
        let (human, mut judge) = (std::array::from_fn::<f64, 10, _>(|row| row as f64), [1.0; 10]);
        judge[9] = 2.0;
        let bootstrap = Bootstrap { resamples: 500, ..Default::default() };
        let interval = bootstrap.interval(|t| t.pearson(), &human, &judge).unwrap().unwrap();
        assert!(interval.redrawn > 0);
        assert_eq!(bootstrap.interval(|t| t.pearson(), &[1.0, 2.0], &[3.0, 3.0]).unwrap(), Err(Undefined::ConstantJudge));
        assert!(bootstrap.interval(|t| t.pearson(), &[1.0, 2.0], &[3.0]).is_err());
        assert!(bootstrap.interval(|t| t.pearson(), &[1.0, f64::NAN], &[3.0, 1.0]).is_err());
        for level in [0.0, 1.0, 95.0, -0.5, f64::NAN] {
            let error = Bootstrap { level, ..bootstrap }.interval(|t| t.pearson(), &human, &judge).unwrap_err();
            assert!(matches!(error, EvalError::Level(_)), "{error}");
        }
    }

    /// The ends of `scipy.stats.binomtest(n, n).proportion_ci(method="exact")` for n = 5, and of 0 of 40.
    #[test]
    fn shares_of_none_and_all_have_exact_intervals() {
        let bootstrap = Bootstrap { resamples: 100, ..Default::default() };
        let grid = crate::eval::Grid::new(&[0.0, 1.0]).unwrap();
        let interval = |human: &[f64], judge: &[f64], bootstrap: Bootstrap| {
            let all = bootstrap.all(&Sample::new(human, judge, Some(&grid)).unwrap()).unwrap();
            all.into_iter().find(|(name, _)| *name == "exact_agreement").unwrap().1.unwrap()
        };
        let right = interval(&[1.0; 5], &[1.0; 5], bootstrap);
        assert_eq!((right.high, right.method), (1.0, IntervalMethod::Exact));
        assert!((right.low - 0.47817624989501856).abs() < 1e-12, "{right:?}");
        let wrong = interval(&[1.0; 40], &[0.0; 40], bootstrap);
        assert!(wrong.low == 0.0 && (wrong.high - 0.08809730287880335).abs() < 1e-12, "{wrong:?}");
        // Rows of one cluster count once.
        let clusters = [7; 5];
        assert!((interval(&[1.0; 5], &[1.0; 5], Bootstrap { clusters: Some(&clusters), ..bootstrap }).low - 0.025).abs() < 1e-12);
    }

    /// With this many rows the mean is normal, and a hundred resamples estimate its width within a fifth.
    #[test]
    fn long_columns_get_fewer_resamples_and_normal_intervals() {
        let (human, judge) = columns(200_000, 1.0);
        let bootstrap = Bootstrap::default();
        assert_eq!([100, 10_000, 100_000, 1_000_000, 9_000_000].map(|n| bootstrap.drawn(n)), [10_000, 10_000, 1000, 100, 100]);
        let interval = bootstrap.interval(|t| t.bias(), &human, &judge).unwrap().unwrap();
        assert_eq!(interval.method, IntervalMethod::Normal);
        let textbook = 2.0 * 1.96 / 200_000_f64.sqrt();
        assert!(((interval.high - interval.low) / textbook - 1.0).abs() < 0.2, "{interval:?}");
        assert!(interval.bca.is_err());
    }
}
