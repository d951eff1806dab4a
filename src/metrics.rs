//! How well a judge agrees with people: plain slices of scores in, figures out.
//!
//! The columns of a metric have the same length, and every score is finite; anything else is an error that names the row. A
//! metric that does not exist for sound columns, such as a correlation with a constant, is an error with the reason
//! ([`Error::undefined`]). It is never reported as 0.
//!
//! ```
//! use jurist::metrics::{Undefined, interval, quadratic_kappa, spearman};
//!
//! # fn main() -> Result<(), jurist::Error> {
//! let human = [1.0, 2.0, 4.0, 5.0, 3.0, 1.0, 2.0, 4.0, 5.0, 3.0];
//! let judge = [1.2, 2.1, 3.6, 4.9, 3.3, 1.1, 2.2, 3.9, 4.8, 1.9];
//! let scale = [1.0, 2.0, 3.0, 4.0, 5.0];
//! assert!(spearman(&human, &judge)? > 0.9);
//! let kappa = quadratic_kappa(&human, &judge, &scale)?;
//! let range = interval("kappa_quadratic", &human, &judge, Some(&scale), 0.95)?;
//! assert!(range.low < kappa && kappa <= range.high);
//! // Fewer rows have no interval, and a constant judge has no correlation: both are errors with the reason.
//! let few = interval("kappa_quadratic", &human[..5], &judge[..5], Some(&scale), 0.95).unwrap_err();
//! assert!(matches!(few.undefined(), Some(Undefined::TooFewUnits { found: 5, .. })));
//! let constant = spearman(&human, &[3.0; 10]).unwrap_err();
//! assert_eq!(constant.undefined(), Some(&Undefined::ConstantJudge));
//! # Ok(())
//! # }
//! ```

use crate::api::Error;
use crate::eval::intervals::Bootstrap;
use crate::eval::metrics::{METRICS, metric};
use crate::eval::{self, Agreement, Grid, Sample, all_finite, correlation, distribution, same_length, variance};

pub use crate::eval::variance::Level;
pub use crate::eval::{Measured, Undefined};

/// A measure of two columns of the same length, every value finite.
type Measure = fn(&[f64], &[f64]) -> Measured;

fn measured(measure: Measure, human: &[f64], judge: &[f64]) -> Result<f64, Error> {
    same_length("the human column", human.len(), "the judge column", judge.len())?;
    all_finite("the human column", human)?;
    all_finite("the judge column", judge)?;
    finite(measure(human, judge))
}

/// A figure that an `f64` holds.
fn finite(figure: Measured) -> Result<f64, Error> {
    let figure = figure?;
    if figure.is_finite() { Ok(figure) } else { Err(Undefined::TooLarge.into()) }
}

/// Pearson correlation.
///
/// # Errors
/// Columns of different length, scores that are not finite; undefined for fewer than two rows or a constant column.
pub fn pearson(human: &[f64], judge: &[f64]) -> Result<f64, Error> {
    measured(eval::pearson, human, judge)
}

/// Spearman's rho: the Pearson correlation of average ranks.
///
/// # Errors
/// As [`pearson`].
pub fn spearman(human: &[f64], judge: &[f64]) -> Result<f64, Error> {
    measured(eval::spearman, human, judge)
}

/// Kendall's tau-b.
///
/// # Errors
/// As [`pearson`].
pub fn kendall_tau_b(human: &[f64], judge: &[f64]) -> Result<f64, Error> {
    measured(eval::kendall_tau_b, human, judge)
}

/// Mean over pairs of rows with different human scores: 1 for the right order, 1/2 for a tie of the judge, 0 for the wrong order.
///
/// # Errors
/// Columns of different length, scores that are not finite; undefined for fewer than two rows or constant human scores.
pub fn pairwise_accuracy(human: &[f64], judge: &[f64]) -> Result<f64, Error> {
    measured(correlation::pairwise_accuracy, human, judge)
}

/// Mean absolute error.
///
/// # Errors
/// Columns of different length, scores that are not finite; undefined without rows.
pub fn mae(human: &[f64], judge: &[f64]) -> Result<f64, Error> {
    measured(eval::mae, human, judge)
}

/// Root mean squared error.
///
/// # Errors
/// As [`mae`]; undefined where the squares are too large.
pub fn rmse(human: &[f64], judge: &[f64]) -> Result<f64, Error> {
    measured(eval::rmse, human, judge)
}

/// Mean of judge minus human: positive for a lenient judge.
///
/// # Errors
/// As [`mae`].
pub fn bias(human: &[f64], judge: &[f64]) -> Result<f64, Error> {
    measured(eval::bias, human, judge)
}

/// Wasserstein-1 distance of the two columns, in units of the scale: the area between their cumulative distributions.
///
/// # Errors
/// As [`mae`].
pub fn wasserstein_1(human: &[f64], judge: &[f64]) -> Result<f64, Error> {
    measured(distribution::wasserstein_1, human, judge)
}

/// Standard deviation of the judge over that of people: below 1 for a judge that hugs the middle.
///
/// # Errors
/// Columns of different length, scores that are not finite; undefined without rows or for constant human scores.
pub fn sd_ratio(human: &[f64], judge: &[f64]) -> Result<f64, Error> {
    measured(distribution::sd_ratio, human, judge)
}

/// Cohen's kappa with quadratic weights; each of the judge's scores counts as the nearest value of `scale`, whose values may
/// stand in any order.
///
/// # Errors
/// Columns of different length, scores that are not finite, values that are no scale; undefined without rows, for human scores
/// between the values of the scale, or if both columns are one and the same constant.
pub fn quadratic_kappa(human: &[f64], judge: &[f64], scale: &[f64]) -> Result<f64, Error> {
    finite(Sample::new(human, judge, Some(&Grid::new(scale)?))?.tally().kappa_quadratic())
}

/// Krippendorff's alpha of units with any number of ratings each; `None` where a rating is missing. Units with fewer than two
/// ratings are left out.
///
/// # Errors
/// Ratings that are not finite; undefined without a unit of two ratings, or if these all are the same.
pub fn krippendorff_alpha(units: &[Vec<Option<f64>>], level: Level) -> Result<f64, Error> {
    for unit in units {
        let ratings: Vec<f64> = unit.iter().copied().flatten().collect();
        all_finite("a unit of ratings", &ratings)?;
    }
    finite(variance::krippendorff_alpha(units, level))
}

/// All metrics of two columns by their names, in the order of tables; a `None` in `judge` is a score that could not be read. The
/// values of `scale` may stand in any order.
///
/// # Errors
/// Columns of different length, scores that are not finite, values that are no scale.
pub fn agreement(human: &[f64], judge: &[Option<f64>], scale: &[f64]) -> Result<Vec<(&'static str, Measured)>, Error> {
    let all = Agreement::measure(human, judge, &Grid::new(scale)?)?;
    Ok(all.iter().map(|(name, figure)| (name, figure.clone())).collect())
}

/// A confidence interval.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// The bootstrap interval of the metric called `name`, at a confidence level such as 0.95: a percentile interval of resampled
/// rows, with seed 0. Metrics of labels, such as `kappa_quadratic`, need a `scale`.
///
/// 10,000 resamples are drawn. Of more than 10,000 rows fewer are, so that 100 million rows are drawn in all, but never fewer
/// than 100; where these are fewer than 1,000, the interval is the estimate ± z · their standard deviation.
///
/// The names are those of [`agreement`], but for p-values (`…_p`), `…_midpoint`, `pairwise_accuracy_tie_calibrated` and
/// `tie_margin`, which are not resampled.
///
/// # Errors
/// A name that is not one of a resampled metric; a level that is not between 0 and 1; columns of different length, scores that
/// are not finite, values that are not a scale; undefined where the metric is, with fewer than ten rows, or where half of the
/// resamples have no value.
pub fn interval(name: &str, human: &[f64], judge: &[f64], scale: Option<&[f64]>, level: f64) -> Result<Interval, Error> {
    let metric = metric(name).ok_or_else(|| {
        let known: Vec<&str> = METRICS.iter().map(|(name, _)| *name).collect();
        Error::usage(format!("`{name}` is no metric with an interval; expected one of {}", known.join(", ")))
    })?;
    let grid = scale.map(Grid::new).transpose()?;
    let sample = Sample::new(human, judge, grid.as_ref())?;
    let found = Bootstrap { level, ..Bootstrap::default() }.interval_of_sample(metric, &sample)??;
    Ok(Interval { low: found.low, high: found.high })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HUMAN: [f64; 6] = [1.0, 2.0, 4.0, 5.0, 3.0, 3.0];
    const JUDGE: [f64; 6] = [1.5, 2.0, 3.5, 4.0, 3.0, 2.0];
    const SCALE: [f64; 5] = [5.0, 4.0, 3.0, 2.0, 1.0];

    /// Each public function of two columns, beside the one of `eval` whose value it is.
    type Pair = (fn(&[f64], &[f64]) -> Result<f64, Error>, Measure);
    const PAIRS: [Pair; 9] = [
        (pearson, eval::pearson),
        (spearman, eval::spearman),
        (kendall_tau_b, eval::kendall_tau_b),
        (pairwise_accuracy, correlation::pairwise_accuracy),
        (mae, eval::mae),
        (rmse, eval::rmse),
        (bias, eval::bias),
        (wasserstein_1, distribution::wasserstein_1),
        (sd_ratio, distribution::sd_ratio),
    ];

    #[test]
    fn columns_that_are_none_are_refused() {
        for (metric, unchecked) in PAIRS {
            assert_eq!(metric(&HUMAN, &JUDGE).unwrap(), unchecked(&HUMAN, &JUDGE).unwrap());
            let message = |human: &[f64], judge: &[f64]| metric(human, judge).unwrap_err().to_string();
            assert!(message(&HUMAN, &JUDGE[..5]).contains("has 6 rows and the judge column has 5"));
            assert!(message(&HUMAN[..2], &[1.0, f64::NAN]).contains("row 1 of the judge column is NaN"));
            assert!(message(&[f64::INFINITY, 1.0], &JUDGE[..2]).contains("row 0 of the human column is inf"));
            assert!(metric(&[], &[]).unwrap_err().undefined().is_some());
            // What no number holds is not reported as one.
            let large = metric(&[1e300, -1e300, 0.0], &[-1e300, 1e300, 1e300]);
            assert!(large.as_ref().map_or_else(|e| e.undefined().is_some(), |x| x.is_finite()), "{large:?}");
        }
        assert_eq!(rmse(&[1e300, 0.0], &[-1e300, 0.0]).unwrap_err().undefined(), Some(&Undefined::TooLarge));
        let rated = |x: f64| krippendorff_alpha(&[vec![Some(1.0), Some(2.0)], vec![Some(x), None, Some(2.0)]], Level::Interval);
        assert!(rated(f64::NAN).unwrap_err().to_string().contains("is NaN, which is no score"));
        assert!(rated(2.0).is_ok());
    }

    #[test]
    fn a_scale_may_stand_in_any_order() {
        let ascending = [1.0, 2.0, 3.0, 4.0, 5.0];
        let kappa = quadratic_kappa(&HUMAN, &JUDGE, &SCALE).unwrap();
        assert_eq!(kappa, quadratic_kappa(&HUMAN, &JUDGE, &ascending).unwrap());
        let judge = JUDGE.map(Some);
        let all = agreement(&HUMAN, &judge, &SCALE).unwrap();
        assert_eq!(all, agreement(&HUMAN, &judge, &ascending).unwrap());
        assert!(all.contains(&("kappa_quadratic", Ok(kappa))));
        assert!(quadratic_kappa(&HUMAN, &JUDGE, &[1.0, 1.0]).unwrap_err().to_string().contains("a scale needs"));
    }

    #[test]
    fn every_metric_has_an_interval_or_a_reason() {
        let (human, judge) = ([HUMAN; 2].concat(), [JUDGE; 2].concat());
        for (name, figure) in agreement(&HUMAN, &JUDGE.map(Some), &SCALE).unwrap() {
            let found = interval(name, &human, &judge, Some(&SCALE), 0.9);
            match metric(name) {
                Some(_) => {
                    let Interval { low, high } = found.unwrap();
                    assert!(low <= high && figure.is_ok(), "{name}");
                }
                None => {
                    assert!(found.unwrap_err().to_string().contains("is no metric with an interval; expected one of pearson"))
                }
            }
        }
        let without = interval("kappa_quadratic", &human, &judge, None, 0.9).unwrap_err();
        assert_eq!(without.undefined(), Some(&Undefined::NoScale));
        let few = interval("mae", &HUMAN, &JUDGE, None, 0.9).unwrap_err();
        assert_eq!(few.undefined(), Some(&Undefined::TooFewUnits { unit: "row", found: 6, needed: 10 }));
        let wider = |level| interval("mae", &human, &judge, None, level).unwrap();
        assert!(wider(0.99).low <= wider(0.5).low && wider(0.5).high < wider(0.99).high);
        for level in [0.0, 1.0, 95.0, f64::NAN] {
            let error = interval("mae", &HUMAN, &JUDGE, None, level).unwrap_err().to_string();
            assert!(error.contains("expected a share between 0 and 1, such as 0.95"), "{error}");
        }
    }
}
