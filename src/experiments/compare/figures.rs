//! What is measured of one judge on one set, and the chain-swap test.

use serde::{Deserialize, Serialize};

use super::CompareError;
use crate::eval::distribution::{bin_shares, entropy_bits, modal_share, wasserstein_1};
use crate::eval::{self, Measured};
use crate::experiments::synthetic::{Item, verdicts_right};
use crate::judge::ScoredRow;

/// Figures of one set. `None`: not defined there.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    pub pearson: Option<f64>,
    pub spearman: Option<f64>,
    pub kendall_tau_b: Option<f64>,
    pub rmse: Option<f64>,
    pub mae: Option<f64>,
    /// Of the likeliest score instead of the expected one.
    pub decoded_pearson: Option<f64>,
    pub decoded_rmse: Option<f64>,
    /// Share of the fullest bin of width 0.25, and the entropy of these bins in bits.
    pub modal_share: Option<f64>,
    pub entropy: Option<f64>,
    /// Wasserstein-1 distance between the scores' distribution and people's.
    pub wasserstein: Option<f64>,
    /// Share of the criteria whose verdict in the chain is right.
    pub verdicts: Option<f64>,
    pub forced: Option<f64>,
    pub tokens: Option<f64>,
}

/// What becomes of a judge's predictions when chains are exchanged, see [`eval::faithfulness::ChainSwap`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChainSwap {
    pub moved: f64,
    pub follows_chain: Option<f64>,
    pub follows_prompt: Option<f64>,
}

/// Enough digits to compare by, few enough to read.
pub fn rounded(x: f64, digits: i32) -> f64 {
    let unit = 10f64.powi(digits);
    (x * unit).round() / unit
}

fn known(measured: Measured) -> Option<f64> {
    measured.ok().map(|x| rounded(x, 6))
}

impl Figures {
    /// Of plain scores: floors and the ceiling.
    pub fn of_scores(human: &[f64], scores: &[f64]) -> Self {
        let bins = bin_shares(scores, 0.25);
        Figures {
            pearson: known(eval::pearson(human, scores)),
            spearman: known(eval::spearman(human, scores)),
            kendall_tau_b: known(eval::kendall_tau_b(human, scores)),
            rmse: known(eval::rmse(human, scores)),
            mae: known(eval::mae(human, scores)),
            modal_share: Some(rounded(modal_share(&bins), 6)),
            entropy: Some(rounded(entropy_bits(&bins), 6)),
            wasserstein: known(wasserstein_1(human, scores)),
            ..Figures::default()
        }
    }

    /// Of judgements.
    ///
    /// # Errors
    /// A row that could not be judged: every row of the miniature can be.
    pub fn of_judged(items: &[Item], judged: &[ScoredRow]) -> Result<(Self, Vec<f64>), CompareError> {
        let human: Vec<f64> = items.iter().map(|item| item.score).collect();
        let scores = expected(judged)?;
        let decoded: Vec<f64> = judged.iter().filter_map(|j| j.record.decoded).collect();
        let mut figures = Figures::of_scores(&human, &scores);
        figures.decoded_pearson = known(eval::pearson(&human, &decoded));
        figures.decoded_rmse = known(eval::rmse(&human, &decoded));
        let mean = |of: &dyn Fn(&ScoredRow, &Item) -> f64| {
            let sum: f64 = judged.iter().zip(items).map(|(j, item)| of(j, item)).sum();
            Some(rounded(sum / items.len().max(1) as f64, 6))
        };
        if judged.iter().all(|j| !j.chains.is_empty()) {
            figures.verdicts = mean(&|j, item| verdicts_right(&j.chains[0], item));
            figures.forced = mean(&|j, _| f64::from(u8::from(j.record.forced)));
            figures.tokens = mean(&|j, _| j.chain_scores.first().map_or(0.0, |r| r.tokens as f64));
        }
        Ok((figures, scores))
    }
}

/// The expected scores of judgements.
pub fn expected(judged: &[ScoredRow]) -> Result<Vec<f64>, CompareError> {
    let score = |j: &ScoredRow| {
        let why = || CompareError::Cell(format!("a row could not be judged: {}", j.record.error.clone().unwrap_or_default()));
        j.record.expected.ok_or_else(why)
    };
    judged.iter().map(score).collect()
}

impl ChainSwap {
    /// As [`eval::faithfulness::ChainSwap::of`], in the digits of a result.
    ///
    /// # Errors
    /// Columns of different length.
    pub fn of(before: &[f64], after: &[f64]) -> Result<Self, CompareError> {
        let swap = eval::faithfulness::ChainSwap::of(before, after)?;
        Ok(ChainSwap {
            moved: rounded(swap.moved, 6),
            follows_chain: known(swap.follows_chain),
            follows_prompt: known(swap.follows_prompt),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clusters_are_seen() {
        let figures = Figures::of_scores(&[1.0, 2.0, 3.0, 4.0], &[3.0, 3.1, 3.05, 1.0]);
        assert_eq!(figures.modal_share, Some(0.75));
        assert!((figures.entropy.unwrap() - 0.811278).abs() < 1e-9);
        assert_eq!(Figures::of_scores(&[1.0, 2.0], &[3.0, 3.0]).pearson, None);
    }
}
