//! How well a judge agrees with people: plain slices of scores in, figures out.
//!
//! A metric that does not exist for the data, such as a correlation with a constant, is an [`Undefined`] with the reason. It is
//! never reported as 0.
//!
//! ```
//! use jurist::metrics::{interval, quadratic_kappa, spearman};
//!
//! # fn main() -> Result<(), jurist::Error> {
//! let human = [1.0, 2.0, 4.0, 5.0, 3.0];
//! let judge = [1.2, 2.1, 3.6, 4.9, 3.3];
//! let scale = [1.0, 2.0, 3.0, 4.0, 5.0];
//! assert!(spearman(&human, &judge).is_ok_and(|rho| rho == 1.0));
//! assert!(quadratic_kappa(&human, &judge, &scale)?.is_ok_and(|kappa| kappa == 1.0));
//! let range = interval("rmse", &human, &judge, 0.95)?;
//! assert!(range.is_ok_and(|[low, high]| low < high));
//! # Ok(())
//! # }
//! ```

use crate::api::Error;
use crate::eval::intervals::Bootstrap;
use crate::eval::metrics::metric;
use crate::eval::{Agreement, Grid, Sample};

pub use crate::eval::correlation::pairwise_accuracy;
pub use crate::eval::distribution::{sd_ratio, wasserstein_1};
pub use crate::eval::variance::{Level, krippendorff_alpha};
pub use crate::eval::{Measured, Undefined, bias, kendall_tau_b, mae, pearson, rmse, spearman};

/// Cohen's kappa with quadratic weights; each of the judge's scores counts as the nearest value of `scale`, in ascending order.
///
/// # Errors
/// Columns of different length, scores that are not finite, values that are no scale.
pub fn quadratic_kappa(human: &[f64], judge: &[f64], scale: &[f64]) -> Result<Measured, Error> {
    Ok(Sample::new(human, judge, Some(&Grid::new(scale)?))?.tally().kappa_quadratic())
}

/// All metrics of two columns by their names, in the order of tables; a `None` in `judge` is a score that could not be read.
///
/// # Errors
/// As [`quadratic_kappa`].
pub fn agreement(human: &[f64], judge: &[Option<f64>], scale: &[f64]) -> Result<Vec<(&'static str, Measured)>, Error> {
    let all = Agreement::measure(human, judge, &Grid::new(scale)?)?;
    Ok(all.iter().map(|(name, figure)| (name, figure.clone())).collect())
}

/// The bootstrap interval of the metric called `name` in [`agreement`], at a confidence level such as 0.95: 10,000 resamples of
/// the rows, percentile, seed 0.
///
/// # Errors
/// No metric of this name; columns of different length or with scores that are not finite.
pub fn interval(name: &str, human: &[f64], judge: &[f64], level: f64) -> Result<Result<[f64; 2], Undefined>, Error> {
    let metric = metric(name).ok_or_else(|| Error::usage(format!("there is no metric called {name}")))?;
    let found = Bootstrap { level, ..Bootstrap::default() }.interval(metric, human, judge)?;
    Ok(found.map(|interval| [interval.low, interval.high]))
}
