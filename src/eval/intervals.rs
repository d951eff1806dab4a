//! Is it luck? Percentile bootstrap intervals, clustered where rows belong together, and paired differences of two judges.

use super::{EvalError, Measured, Undefined, all_finite, same_length};
use crate::random::Stream;

/// A metric of two columns, for example [`crate::eval::pearson`].
pub type Metric = fn(&[f64], &[f64]) -> Measured;

/// How to resample.
#[derive(Clone, Copy, Debug)]
pub struct Bootstrap<'a> {
    /// Resamples; 10,000 for a figure that is quoted.
    pub resamples: usize,
    /// Share of the resamples inside the interval, for example 0.95.
    pub level: f64,
    /// Seed of the resamples.
    pub seed: u64,
    /// For each row the cluster it belongs to (a prompt, a rubric): whole clusters are drawn. `None`: rows are.
    pub clusters: Option<&'a [usize]>,
}

impl Default for Bootstrap<'_> {
    fn default() -> Self {
        Bootstrap { resamples: 10_000, level: 0.95, seed: 0, clusters: None }
    }
}

/// A figure with its percentile interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// On all rows.
    pub estimate: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Resamples in which the metric was undefined and which were drawn again.
    pub redrawn: usize,
}

impl Bootstrap<'_> {
    /// Interval of `metric(human, judge)`.
    ///
    /// # Errors
    /// Columns of different length or with values that are not finite. The inner result is undefined where the metric
    /// is, or where half of the resamples have no value.
    pub fn interval(&self, metric: Metric, human: &[f64], judge: &[f64]) -> Result<Result<Interval, Undefined>, EvalError> {
        self.check(human, &[judge])?;
        Ok(self.resample(human.len(), |rows| metric(&pick(human, rows), &pick(judge, rows))))
    }

    /// Interval of `metric(human, judge) - metric(human, other)` with the same rows drawn for both judges: much narrower
    /// than two separate intervals suggest, since both judges see the same easy and hard rows.
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
        self.check(human, &[judge, other])?;
        Ok(self.resample(human.len(), |rows| {
            let human = pick(human, rows);
            Ok(metric(&human, &pick(judge, rows))? - metric(&human, &pick(other, rows))?)
        }))
    }

    fn check(&self, human: &[f64], judges: &[&[f64]]) -> Result<(), EvalError> {
        all_finite("the human column", human)?;
        for judge in judges {
            same_length("the human column", human.len(), "the judge column", judge.len())?;
            all_finite("the judge column", judge)?;
        }
        match self.clusters {
            Some(clusters) => same_length("the human column", human.len(), "the cluster column", clusters.len()),
            None => Ok(()),
        }
    }

    fn resample(&self, rows: usize, statistic: impl Fn(&[usize]) -> Measured) -> Result<Interval, Undefined> {
        let all: Vec<usize> = (0..rows).collect();
        let estimate = statistic(&all)?;
        let units = self.units(rows);
        let mut values = Vec::with_capacity(self.resamples);
        let mut redrawn = 0;
        // Resample k reads stream k, so the interval never depends on how the work is ordered.
        let mut attempt = 0;
        while values.len() < self.resamples {
            let mut stream = Stream::new(self.seed, BOOTSTRAP | attempt);
            attempt += 1;
            let drawn: Vec<usize> = (0..units.len()).flat_map(|_| units[stream.below(units.len())].iter().copied()).collect();
            match statistic(&drawn) {
                Ok(value) => values.push(value),
                Err(_) if redrawn < self.resamples => redrawn += 1,
                Err(_) => return Err(Undefined::TooFewResamples { found: values.len(), asked: self.resamples }),
            }
        }
        values.sort_by(f64::total_cmp);
        let tail = (1.0 - self.level) / 2.0;
        let (low, high) = match values.is_empty() {
            true => return Err(Undefined::TooFewResamples { found: 0, asked: 0 }),
            false => (quantile(&values, tail), quantile(&values, 1.0 - tail)),
        };
        Ok(Interval { estimate, low, high, redrawn })
    }

    /// What is drawn: single rows, or the rows of each cluster.
    fn units(&self, rows: usize) -> Vec<Vec<usize>> {
        let Some(clusters) = self.clusters else {
            return (0..rows).map(|row| vec![row]).collect();
        };
        let mut by_cluster: std::collections::BTreeMap<usize, Vec<usize>> = std::collections::BTreeMap::new();
        for (row, &cluster) in clusters.iter().enumerate() {
            by_cluster.entry(cluster).or_default().push(row);
        }
        by_cluster.into_values().collect()
    }
}

/// "boot" in ASCII: these streams are no other room's.
const BOOTSTRAP: u64 = 0x626F_6F74 << 32;

fn pick(column: &[f64], rows: &[usize]) -> Vec<f64> {
    rows.iter().map(|&row| column[row]).collect()
}

/// Quantile of ascending values, linear between neighbours (numpy's default). `values` must not be empty.
pub(crate) fn quantile(values: &[f64], share: f64) -> f64 {
    let place = share.clamp(0.0, 1.0) * (values.len() - 1) as f64;
    let below = place.floor() as usize;
    let above = (below + 1).min(values.len() - 1);
    values[below] + (place - below as f64) * (values[above] - values[below])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::{bias, pearson};

    fn columns(n: usize, noise: f64) -> (Vec<f64>, Vec<f64>) {
        let mut stream = Stream::new(1, 2);
        let row = |_| {
            let h = stream.normal();
            (h, h + noise * stream.normal())
        };
        (0..n).map(row).unzip()
    }

    #[test]
    fn interval_of_a_mean_is_the_textbook_one() {
        let (human, judge) = columns(400, 1.0);
        let interval = Bootstrap { resamples: 2000, ..Default::default() }.interval(bias, &human, &judge).unwrap().unwrap();
        let textbook = 2.0 * 1.96 / 20.0;
        assert!(((interval.high - interval.low) / textbook - 1.0).abs() < 0.1, "{interval:?}");
        assert!(interval.low < interval.estimate && interval.estimate < interval.high);
    }

    #[test]
    fn clusters_widen_and_pairing_narrows() {
        let (human, judge) = columns(100, 0.5);
        let doubled = |x: &[f64]| [x, x].concat();
        let clusters: Vec<usize> = (0..200).map(|row| row % 100).collect();
        let width = |b: Bootstrap| {
            let i = b.interval(pearson, &doubled(&human), &doubled(&judge)).unwrap().unwrap();
            i.high - i.low
        };
        let plain = Bootstrap { resamples: 1000, ..Default::default() };
        assert!(width(Bootstrap { clusters: Some(&clusters), ..plain }) > 1.2 * width(plain));

        let other: Vec<f64> = judge.iter().zip(&human).map(|(s, h)| 0.9 * s + 0.1 * h).collect();
        let difference = plain.difference(pearson, &human, &other, &judge).unwrap().unwrap();
        assert!(difference.low > 0.0, "{difference:?}");
    }

    #[test]
    fn undefined_resamples_are_drawn_again_and_counted() {
        let (human, judge) = ([1.0, 2.0, 3.0], [1.0, 2.0, 2.5]);
        let bootstrap = Bootstrap { resamples: 500, ..Default::default() };
        let interval = bootstrap.interval(pearson, &human, &judge).unwrap().unwrap();
        assert!(interval.redrawn > 0);
        assert_eq!(bootstrap.interval(pearson, &[1.0, 2.0], &[3.0, 3.0]).unwrap(), Err(Undefined::ConstantJudge));
        assert!(bootstrap.interval(pearson, &[1.0, 2.0], &[3.0]).is_err());
        assert!(bootstrap.interval(pearson, &[1.0, f64::NAN], &[3.0, 1.0]).is_err());
    }
}
