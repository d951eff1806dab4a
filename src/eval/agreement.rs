//! Does the judge give the same scores as people? Errors on raw scores, agreement and kappa on labels.

use super::{Measured, Undefined, at_least, mean};

/// Mean absolute error.
///
/// # Errors
/// Undefined without rows.
pub fn mae(human: &[f64], judge: &[f64]) -> Measured {
    mean_of_rows(human, judge, |h, s| (s - h).abs())
}

/// Root mean squared error.
///
/// # Errors
/// Undefined without rows.
pub fn rmse(human: &[f64], judge: &[f64]) -> Measured {
    mean_of_rows(human, judge, |h, s| (s - h).powi(2)).map(f64::sqrt)
}

/// Mean of judge - human: positive for a lenient judge.
///
/// # Errors
/// Undefined without rows.
pub fn bias(human: &[f64], judge: &[f64]) -> Measured {
    mean_of_rows(human, judge, |h, s| s - h)
}

/// Share of rows whose labels (places on the scale) differ by at most `steps`.
///
/// # Errors
/// Undefined without rows.
pub(crate) fn label_agreement(human: &[usize], judge: &[usize], steps: usize) -> Measured {
    at_least(1, human.len())?;
    let close = human.iter().zip(judge).filter(|(h, s)| h.abs_diff(**s) <= steps).count();
    Ok(close as f64 / human.len() as f64)
}

/// How a kappa weighs a disagreement of `d` places on the scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weights {
    /// Any disagreement counts 1.
    Unweighted,
    /// d
    Linear,
    /// d²
    Quadratic,
}

/// Cohen's kappa over the full scale of `labels` places: 1 - Σ w O / Σ w E (`sklearn.metrics.cohen_kappa_score`).
///
/// # Errors
/// Undefined without rows, or if both use one and the same label only.
pub(crate) fn kappa(human: &[usize], judge: &[usize], labels: usize, weights: Weights) -> Measured {
    at_least(1, human.len())?;
    let n = human.len() as f64;
    let weight = |h: usize, s: usize| match weights {
        Weights::Unweighted => f64::from(u8::from(h != s)),
        Weights::Linear => h.abs_diff(s) as f64,
        Weights::Quadratic => (h.abs_diff(s) as f64).powi(2),
    };
    let observed: f64 = human.iter().zip(judge).map(|(&h, &s)| weight(h, s)).sum::<f64>() / n;
    let (of_human, of_judge) = (label_shares(human, labels), label_shares(judge, labels));
    let mut expected = 0.0;
    for (h, p) in of_human.iter().enumerate() {
        for (s, q) in of_judge.iter().enumerate() {
            expected += weight(h, s) * p * q;
        }
    }
    if expected == 0.0 { Err(Undefined::OneLabel) } else { Ok(1.0 - observed / expected) }
}

/// The share of rows with each label.
pub(crate) fn label_shares(rows: &[usize], labels: usize) -> Vec<f64> {
    let mut shares = vec![0.0; labels];
    for &label in rows {
        shares[label] += 1.0;
    }
    shares.iter_mut().for_each(|s| *s /= rows.len().max(1) as f64);
    shares
}

fn mean_of_rows(human: &[f64], judge: &[f64], f: impl Fn(f64, f64) -> f64) -> Measured {
    at_least(1, human.len().min(judge.len()))?;
    Ok(mean(&human.iter().zip(judge).map(|(&h, &s)| f(h, s)).collect::<Vec<_>>()))
}
