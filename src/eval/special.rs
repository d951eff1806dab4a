//! The few special functions that p-values and BCa intervals need, in f64.

use std::f64::consts::SQRT_2;

use libm::erfc;
use statrs::function::{beta::checked_beta_reg, erf::erfc_inv};

/// Probability that Student's t with `df` degrees of freedom lies farther from 0 than `t`.
pub(crate) fn t_two_sided(t: f64, df: f64) -> f64 {
    checked_beta_reg(df / 2.0, 0.5, df / (df + t * t)).unwrap_or(f64::NAN)
}

/// Probability that a standard normal lies farther from 0 than `z`.
pub(crate) fn normal_two_sided(z: f64) -> f64 {
    erfc(z.abs() / SQRT_2)
}

/// Cumulative distribution of the standard normal.
pub(crate) fn normal_cdf(z: f64) -> f64 {
    erfc(-z / SQRT_2) / 2.0
}

/// The z below which a standard normal lies with probability `p`, within ±40, beyond which nothing lies.
pub(crate) fn normal_quantile(p: f64) -> f64 {
    (-SQRT_2 * erfc_inv(2.0 * p)).clamp(-40.0, 40.0)
}

/// The x below which a beta distribution with these parameters lies with probability `p`.
pub(crate) fn beta_quantile(p: f64, a: f64, b: f64) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    loop {
        let middle = low + (high - low) / 2.0;
        if middle <= low || middle >= high {
            return middle;
        }
        // NaN for parameters that are none ends the search.
        if checked_beta_reg(a, b, middle).unwrap_or(f64::NAN) < p { low = middle } else { high = middle }
    }
}

/// The t beyond which, on either side, Student's t with `df` degrees of freedom lies with probability `p`.
pub(crate) fn t_two_sided_quantile(p: f64, df: f64) -> f64 {
    let x = beta_quantile(p, df / 2.0, 0.5);
    (df * (1.0 - x) / x).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of scipy.stats (t.sf, norm.sf, norm.ppf, beta.ppf, t.isf).
    #[test]
    fn values_of_scipy() {
        let near = |found: f64, expected: f64| assert!((found / expected - 1.0).abs() < 1e-12, "{found}, expected {expected}");
        near(t_two_sided(2.0, 10.0), 0.07338803477074037);
        near(t_two_sided(-0.3, 1.0), 0.8144528418445154);
        near(t_two_sided(8.0, 250.0), 4.652801518917548e-14);
        near(normal_two_sided(1.959963984540054), 0.05);
        near(normal_two_sided(0.1), 0.920344325445942);
        near(normal_two_sided(6.0), 1.973175290075389e-09);
        near(normal_two_sided(20.0), 5.507248237212311e-89);
        near(normal_quantile(0.975), 1.959963984540054);
        near(normal_quantile(1e-10), -6.361340902404056);
        assert_eq!(normal_two_sided(0.0), 1.0);
        assert_eq!([0.0, 0.5, 1.0].map(normal_quantile), [-40.0, 0.0, 40.0]);
        near(beta_quantile(0.025, 27.0, 3.0), 0.7723381100555138);
        near(beta_quantile(0.5, 0.5, 40.0), 0.005705999000988439);
        near(t_two_sided_quantile(0.05, 8.0), 2.3060041352041662);
        near(t_two_sided_quantile(0.1, 1.0), 6.313751514675044);
        near(t_two_sided_quantile(0.001, 250.5), 3.3297878351856807);
    }
}
