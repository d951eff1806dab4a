//! Does the judge use the scale as people do? These look at each column alone: they say nothing about whether the right
//! rows get the right scores, so they belong beside a correlation, never alone.

use super::{Measured, Undefined, at_least, is_constant, mean};

/// Shannon entropy of a histogram in bits.
pub fn entropy_bits(shares: &[f64]) -> f64 {
    // + 0: a histogram of one bin has entropy 0, not -0.
    -shares.iter().filter(|p| **p > 0.0).map(|p| p * p.log2()).sum::<f64>() + 0.0
}

/// Share of the most used label: near 1 for a judge whose scores cluster.
pub fn modal_share(shares: &[f64]) -> f64 {
    shares.iter().copied().fold(0.0, f64::max)
}

/// Jensen-Shannon divergence of two histograms over the same bins, in bits: 0 (equal) to 1 (disjoint).
pub fn js_divergence_bits(p: &[f64], q: &[f64]) -> f64 {
    let half = |a: &[f64], b: &[f64]| -> f64 {
        a.iter().zip(b).filter(|(x, _)| **x > 0.0).map(|(x, y)| x * (2.0 * x / (x + y)).log2()).sum()
    };
    ((half(p, q) + half(q, p)) / 2.0).clamp(0.0, 1.0)
}

/// Wasserstein-1 distance of the two columns, in units of the scale: the area between their cumulative distributions.
///
/// # Errors
/// Undefined if a column is empty.
pub fn wasserstein_1(a: &[f64], b: &[f64]) -> Measured {
    at_least(1, a.len().min(b.len()))?;
    let step = |column: &[f64], weight: f64| column.iter().map(|&x| (x, weight)).collect::<Vec<_>>();
    let mut steps = step(a, 1.0 / a.len() as f64);
    steps.extend(step(b, -1.0 / b.len() as f64));
    steps.sort_by(|x, y| x.0.total_cmp(&y.0));
    let (mut gap, mut area) = (0.0, 0.0);
    for pair in steps.windows(2) {
        gap += pair[0].1;
        area += f64::abs(gap) * (pair[1].0 - pair[0].0);
    }
    Ok(area)
}

/// sd(judge) / sd(human): below 1 for a judge that hugs the middle.
///
/// # Errors
/// Undefined without rows or if all human scores are the same.
pub fn sd_ratio(human: &[f64], judge: &[f64]) -> Measured {
    at_least(1, human.len().min(judge.len()))?;
    if is_constant(human) {
        return Err(Undefined::ConstantHuman);
    }
    let spread = |x: &[f64]| {
        let centre = mean(x);
        mean(&x.iter().map(|v| (v - centre).powi(2)).collect::<Vec<_>>()).sqrt()
    };
    Ok(if is_constant(judge) { 0.0 } else { spread(judge) / spread(human) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        assert_eq!(entropy_bits(&[0.5, 0.25, 0.25, 0.0]), 1.5);
        assert_eq!(js_divergence_bits(&[1.0, 0.0], &[0.0, 1.0]), 1.0);
        assert_eq!(js_divergence_bits(&[0.5, 0.5], &[0.5, 0.5]), 0.0);
        assert_eq!(wasserstein_1(&[1.0, 2.0], &[3.0]), Ok(1.5));
        assert_eq!(sd_ratio(&[1.0, 3.0], &[2.0, 3.0]), Ok(0.5));
        assert_eq!(sd_ratio(&[1.0, 3.0], &[2.0, 2.0]), Ok(0.0));
        assert!(wasserstein_1(&[], &[1.0]).is_err());
    }
}
