//! Means over seeds with their intervals, and paired differences of two methods.

use crate::eval::paired::PairedSets;
use crate::random::Stream;

/// Resamples of a bootstrap interval.
const RESAMPLES: u64 = 2000;

/// A mean over seeds; `half` is half of its 95 % t-interval, `None` for a single seed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mean {
    pub mean: f64,
    pub half: Option<f64>,
    pub seeds: usize,
}

impl Mean {
    /// The mean of one value per seed; `None` without any.
    pub fn of(values: &[f64]) -> Option<Mean> {
        let n = values.len() as f64;
        if values.is_empty() {
            return None;
        }
        let mean = values.iter().sum::<f64>() / n;
        let half = (values.len() > 1).then(|| {
            let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0);
            t_quantile(values.len() - 1) * (variance / n).sqrt()
        });
        Some(Mean { mean, half, seeds: values.len() })
    }

    /// The mean and its interval in units of `unit`.
    pub fn per(self, unit: f64) -> Mean {
        Mean { mean: self.mean / unit, half: self.half.map(|half| half / unit), seeds: self.seeds }
    }

    /// True if the interval lies on one side of zero.
    pub fn excludes_zero(&self) -> bool {
        self.half.is_some_and(|half| self.mean.abs() > half)
    }
}

/// The 97.5 % quantile of Student's t.
fn t_quantile(df: usize) -> f64 {
    const TABLE: [f64; 20] = [
        12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110,
        2.101, 2.093, 2.086,
    ];
    TABLE.get(df - 1).copied().unwrap_or(1.96 + 2.4 / df as f64)
}

/// One method's scores for a bootstrap: `[seed][split][row]`.
pub type Scores = Vec<Vec<Vec<f64>>>;

/// The 95 % percentile interval of the difference of Pearson, averaged over splits and seeds, of two methods with the same
/// seeds and rows: seeds are resampled, and the rows of each split, both in pairs. `human` is `[split][row]`.
pub fn paired_bootstrap(human: &[Vec<f64>], a: &Scores, b: &Scores) -> Option<(f64, f64)> {
    fn slices(scores: &Scores) -> Vec<Vec<&[f64]>> {
        scores.iter().map(|sets| sets.iter().map(Vec::as_slice).collect()).collect()
    }
    PairedSets::new(human, &slices(a), &slices(b)).interval(RESAMPLES, |k| {
        let mut stream = Stream::new(k, 0x0063_6f6d_7061_7265);
        let mut resample = |n: usize| (0..n).map(|_| stream.below(n)).collect::<Vec<usize>>();
        (resample(a.len()), human.iter().map(|scores| resample(scores.len())).collect())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_over_seeds() {
        let of = Mean::of(&[0.1, 0.2, 0.3]).unwrap();
        // sd .1, standard error .0577, t 4.303
        assert!((of.mean - 0.2).abs() < 1e-12 && (of.half.unwrap() - 0.2484).abs() < 1e-4 && !of.excludes_zero());
        assert_eq!(Mean::of(&[0.5]).unwrap().half, None);
        assert_eq!(of.per(4.0), Mean { mean: of.mean / 4.0, half: Some(of.half.unwrap() / 4.0), seeds: 3 });
        assert!(Mean::of(&[]).is_none() && Mean::of(&[0.1, 0.11]).is_some_and(|m| m.excludes_zero()));
    }
}
