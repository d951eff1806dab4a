//! The few special functions that p-values and BCa intervals need, in f64.

/// ln Γ(x) for x > 0: Stirling's series above 10, reached by Γ(x) = Γ(x + 1) / x.
fn ln_gamma(x: f64) -> f64 {
    let (mut x, mut shift) = (x, 0.0);
    while x < 10.0 {
        shift += x.ln();
        x += 1.0;
    }
    // Bernoulli numbers B_2k / (2k (2k - 1)).
    let series = [1.0 / 12.0, -1.0 / 360.0, 1.0 / 1260.0, -1.0 / 1680.0, 1.0 / 1188.0, -691.0 / 360_360.0, 1.0 / 156.0];
    let inverse = 1.0 / (x * x);
    let tail = series.iter().rev().fold(0.0, |sum, c| sum * inverse + c) / x;
    (x - 0.5) * x.ln() - x + 0.5 * std::f64::consts::TAU.ln() + tail - shift
}

/// Regularised incomplete beta function I_x(a, b), by its continued fraction (Lentz's method).
fn incomplete_beta(x: f64, a: f64, b: f64) -> f64 {
    if x <= 0.0 {
        return 0.0;
    }
    if x >= 1.0 {
        return 1.0;
    }
    // The fraction converges fast below the mean only.
    if x > (a + 1.0) / (a + b + 2.0) {
        return 1.0 - incomplete_beta(1.0 - x, b, a);
    }
    let front = (a * x.ln() + b * (-x).ln_1p() + ln_gamma(a + b) - ln_gamma(a) - ln_gamma(b)).exp() / a;
    let away = |v: f64| if v.abs() < 1e-300 { 1e-300 } else { v };
    let (mut c, mut d) = (1.0, 1.0 / away(1.0 - (a + b) * x / (a + 1.0)));
    let mut fraction = d;
    for k in 1..10_000 {
        let m = f64::from(k);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        d = 1.0 / away(1.0 + even * d);
        c = away(1.0 + even / c);
        fraction *= d * c;
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        d = 1.0 / away(1.0 + odd * d);
        c = away(1.0 + odd / c);
        fraction *= d * c;
        if (d * c - 1.0).abs() < 1e-16 {
            break;
        }
    }
    front * fraction
}

/// Probability that Student's t with `df` degrees of freedom lies farther from 0 than `t`.
pub(crate) fn t_two_sided(t: f64, df: f64) -> f64 {
    incomplete_beta(df / (df + t * t), df / 2.0, 0.5)
}

/// Probability that a standard normal lies farther from 0 than `z`: erfc(|z| / √2), by series near 0 and by continued
/// fraction in the tail.
pub(crate) fn normal_two_sided(z: f64) -> f64 {
    let x = z.abs() / std::f64::consts::SQRT_2;
    let square = x * x;
    if x < 2.0 {
        // erf(x) = 2 / √π · e^(-x²) Σ 2^k x^(2k+1) / (2k + 1)!!
        let (mut term, mut sum, mut odd) = (x, x, 1.0);
        while term > 1e-18 * sum {
            odd += 2.0;
            term *= 2.0 * square / odd;
            sum += term;
        }
        return 1.0 - std::f64::consts::FRAC_2_SQRT_PI * (-square).exp() * sum;
    }
    // erfc(x) = e^(-x²) / √π · 1 / (x + (1/2) / (x + (2/2) / (x + ...))), from the inside out.
    let fraction = (1..=120).rev().fold(x, |inner, k| x + f64::from(k) / 2.0 / inner);
    std::f64::consts::FRAC_2_SQRT_PI / 2.0 * (-square).exp() / fraction
}

/// Cumulative distribution of the standard normal.
pub(crate) fn normal_cdf(z: f64) -> f64 {
    let tail = normal_two_sided(z) / 2.0;
    if z > 0.0 { 1.0 - tail } else { tail }
}

/// The z below which a standard normal lies with probability `p` in (0, 1), by bisection; ±40 beyond all probability.
pub(crate) fn normal_quantile(p: f64) -> f64 {
    // In the upper half 1 - p is exact, and the tail keeps its precision.
    if p > 0.5 {
        return -normal_quantile(1.0 - p);
    }
    let (mut low, mut high) = (-40.0, 0.0);
    while high - low > 1e-15 * f64::abs(low) {
        let middle = f64::midpoint(low, high);
        if middle == low || middle == high {
            break;
        }
        if normal_cdf(middle) < p { low = middle } else { high = middle }
    }
    f64::midpoint(low, high)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of scipy.stats (t.sf, norm.sf, norm.ppf).
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
    }
}
