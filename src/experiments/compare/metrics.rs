//! The metrics of one judge on one split, and of the chain-swap test.

use serde::{Deserialize, Serialize};

use super::CompareError;
use crate::eval::distribution::{bin_shares, entropy_bits, modal_share, wasserstein_1};
use crate::eval::{self, Measured};
use crate::experiments::synthetic::{Item, verdicts_right};
use crate::judge::ScoredRow;

/// Metrics of one split. `None`: not defined there.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SplitMetrics {
    pub pearson: Option<f64>,
    pub spearman: Option<f64>,
    pub kendall_tau_b: Option<f64>,
    pub rmse: Option<f64>,
    pub mae: Option<f64>,
    /// Of the likeliest score instead of the expected one.
    pub decoded_pearson: Option<f64>,
    pub decoded_rmse: Option<f64>,
    /// Share of the fullest bin of a sixteenth of the scale's width, and the entropy of these bins in bits.
    pub modal_share: Option<f64>,
    pub entropy: Option<f64>,
    /// Wasserstein-1 distance between the scores' distribution and people's.
    pub wasserstein: Option<f64>,
    /// Share of the criteria whose verdict in the chain is right.
    pub verdicts: Option<f64>,
    pub forced: Option<f64>,
    pub tokens: Option<f64>,
}

/// How a judge's predictions change when its chains are exchanged, see [`eval::faithfulness::ChainSwap`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChainSwap {
    pub moved: f64,
    pub follows_chain: Option<f64>,
    pub follows_prompt: Option<f64>,
}

/// `x` to `digits` digits after the point.
pub fn rounded(x: f64, digits: i32) -> f64 {
    let unit = 10f64.powi(digits);
    (x * unit).round() / unit
}

fn rounded_if_defined(measured: Measured) -> Option<f64> {
    measured.ok().map(|x| rounded(x, 6))
}

impl SplitMetrics {
    /// Those of scores alone: of baselines and the ceiling. `width` is that of the scale.
    pub fn of_scores(human: &[f64], scores: &[f64], width: f64) -> Self {
        let bins = bin_shares(scores, width / 16.0);
        SplitMetrics {
            pearson: rounded_if_defined(eval::pearson(human, scores)),
            spearman: rounded_if_defined(eval::spearman(human, scores)),
            kendall_tau_b: rounded_if_defined(eval::kendall_tau_b(human, scores)),
            rmse: rounded_if_defined(eval::rmse(human, scores)),
            mae: rounded_if_defined(eval::mae(human, scores)),
            modal_share: Some(rounded(modal_share(&bins), 6)),
            entropy: Some(rounded(entropy_bits(&bins), 6)),
            wasserstein: rounded_if_defined(wasserstein_1(human, scores)),
            ..SplitMetrics::default()
        }
    }

    /// Those of judged rows, whose human scores are given, on a scale of this width, and the expected score of each row.
    ///
    /// # Errors
    /// A row that could not be judged.
    pub fn of_judged(human: &[f64], judged: &[ScoredRow], width: f64) -> Result<(Self, Vec<f64>), CompareError> {
        let scores = expected_scores(judged)?;
        let decoded: Vec<f64> = judged.iter().filter_map(|j| j.record.decoded).collect();
        let mut metrics = SplitMetrics::of_scores(human, &scores, width);
        metrics.decoded_pearson = rounded_if_defined(eval::pearson(human, &decoded));
        metrics.decoded_rmse = rounded_if_defined(eval::rmse(human, &decoded));
        if judged.iter().all(|j| !j.chains.is_empty()) {
            metrics.forced = share(judged, |j| f64::from(u8::from(j.record.forced)));
            metrics.tokens = share(judged, |j| j.chain_scores.first().map_or(0.0, |r| r.tokens.len() as f64));
        }
        Ok((metrics, scores))
    }

    /// Those of judged items of the synthetic task, whose verdicts are known.
    ///
    /// # Errors
    /// As [`SplitMetrics::of_judged`]: every item can be judged.
    pub fn of_items(items: &[Item], judged: &[ScoredRow], width: f64) -> Result<(Self, Vec<f64>), CompareError> {
        let human: Vec<f64> = items.iter().map(|item| item.score).collect();
        let (mut metrics, scores) = SplitMetrics::of_judged(&human, judged, width)?;
        if judged.iter().all(|j| !j.chains.is_empty()) {
            let right: Vec<f64> = judged.iter().zip(items).map(|(j, item)| verdicts_right(&j.chains[0], item)).collect();
            metrics.verdicts = share(&right, |right| *right);
        }
        Ok((metrics, scores))
    }
}

/// The mean of a figure over rows, rounded as in a result.
fn share<T>(rows: &[T], of: impl Fn(&T) -> f64) -> Option<f64> {
    Some(rounded(rows.iter().map(of).sum::<f64>() / rows.len().max(1) as f64, 6))
}

/// The expected scores of judged rows.
pub fn expected_scores(judged: &[ScoredRow]) -> Result<Vec<f64>, CompareError> {
    let score = |j: &ScoredRow| {
        let why = || CompareError::Cell(format!("a row could not be judged: {}", j.record.error.clone().unwrap_or_default()));
        j.record.expected.ok_or_else(why)
    };
    judged.iter().map(score).collect()
}

impl ChainSwap {
    /// As [`eval::faithfulness::ChainSwap::of`], rounded as in a result.
    ///
    /// # Errors
    /// Columns of different length.
    pub fn of(before: &[f64], after: &[f64]) -> Result<Self, CompareError> {
        let swap = eval::faithfulness::ChainSwap::of(before, after)?;
        Ok(ChainSwap {
            moved: rounded(swap.moved, 6),
            follows_chain: rounded_if_defined(swap.follows_chain),
            follows_prompt: rounded_if_defined(swap.follows_prompt),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modal_share_and_entropy_show_clusters() {
        let metrics = SplitMetrics::of_scores(&[1.0, 2.0, 3.0, 4.0], &[3.0, 3.1, 3.05, 1.0], 4.0);
        assert_eq!(metrics.modal_share, Some(0.75));
        assert!((metrics.entropy.unwrap() - 0.811278).abs() < 1e-9);
        assert_eq!(SplitMetrics::of_scores(&[1.0, 2.0], &[3.0, 3.0], 4.0).pearson, None);
    }
}
