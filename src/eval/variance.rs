//! Agreement as a share of variance: intraclass correlation, Lin's concordance, Krippendorff's alpha.

use super::{Measured, Undefined, at_least, mean, paired};

/// Shrout & Fleiss (1979) intraclass correlations of single ratings from a two-way analysis of variance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Icc {
    /// ICC(2,1): absolute agreement.
    Absolute,
    /// ICC(3,1): consistency, blind to a constant offset of the judge.
    Consistency,
}

/// Intraclass correlation of people and judge as two raters.
///
/// # Errors
/// Undefined for fewer than two rows or if nothing varies.
pub fn icc(human: &[f64], judge: &[f64], kind: Icc) -> Measured {
    let (human, judge) = paired(human, judge);
    at_least(2, human.len())?;
    let (n, raters) = (human.len() as f64, 2.0);
    let (human_mean, judge_mean) = (mean(human), mean(judge));
    let grand = (human_mean + judge_mean) / 2.0;
    let mut rows = 0.0;
    let mut residual = 0.0;
    for (h, s) in human.iter().zip(judge) {
        let row = (h + s) / 2.0;
        rows += raters * (row - grand).powi(2);
        residual += (h - row - human_mean + grand).powi(2) + (s - row - judge_mean + grand).powi(2);
    }
    let columns = n * ((human_mean - grand).powi(2) + (judge_mean - grand).powi(2));
    let (rows, columns, residual) = (rows / (n - 1.0), columns / (raters - 1.0), residual / (n - 1.0));
    let total = match kind {
        Icc::Absolute => rows + residual + raters * (columns - residual) / n,
        Icc::Consistency => rows + residual,
    };
    if total == 0.0 { Err(Undefined::NoVariance) } else { Ok((rows - residual) / total) }
}

/// Lin's concordance correlation, 2 cov / (var + var + gap²) with population moments.
///
/// # Errors
/// Undefined without rows or if both columns are one and the same constant.
pub fn concordance(human: &[f64], judge: &[f64]) -> Measured {
    let (human, judge) = paired(human, judge);
    at_least(1, human.len())?;
    let (human_mean, judge_mean) = (mean(human), mean(judge));
    let (mut covariance, mut variances) = (0.0, 0.0);
    for (h, s) in human.iter().zip(judge) {
        covariance += (h - human_mean) * (s - judge_mean);
        variances += (h - human_mean).powi(2) + (s - judge_mean).powi(2);
    }
    let n = human.len() as f64;
    let total = variances / n + (human_mean - judge_mean).powi(2);
    if total == 0.0 { Err(Undefined::OneLabel) } else { Ok(2.0 * covariance / n / total) }
}

/// Level of measurement of Krippendorff's alpha: what a disagreement costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    /// Any disagreement costs the same.
    Nominal,
    /// By how many ratings lie between the two labels.
    Ordinal,
    /// By the squared difference of the scale's values.
    Interval,
}

/// Krippendorff's alpha of two raters without missing ratings, 1 - D_o / D_e from the coincidence table. Labels are
/// places on the scale whose values are `scale`.
///
/// # Errors
/// Undefined without rows or if one label is used throughout.
pub(crate) fn krippendorff_alpha(human: &[usize], judge: &[usize], scale: &[f64], level: Level) -> Measured {
    at_least(1, human.len().min(judge.len()))?;
    let labels = scale.len();
    let mut counts = vec![0.0; labels];
    for &label in human.iter().chain(judge) {
        counts[label] += 1.0;
    }
    let distance = |a: usize, b: usize| match level {
        Level::Nominal => f64::from(u8::from(a != b)),
        Level::Interval => (scale[a] - scale[b]).powi(2),
        Level::Ordinal => {
            let (low, high) = (a.min(b), a.max(b));
            (counts[low..=high].iter().sum::<f64>() - (counts[a] + counts[b]) / 2.0).powi(2)
        }
    };
    // Each row gives the pairs (h, s) and (s, h).
    let observed: f64 = human.iter().zip(judge).map(|(&h, &s)| 2.0 * distance(h, s)).sum();
    let mut expected = 0.0;
    for a in 0..labels {
        for b in 0..labels {
            expected += counts[a] * counts[b] * distance(a, b);
        }
    }
    let ratings = 2.0 * human.len() as f64;
    if expected == 0.0 { Err(Undefined::OneLabel) } else { Ok(1.0 - (ratings - 1.0) * observed / expected) }
}
