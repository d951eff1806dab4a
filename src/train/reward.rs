//! What a chain earns, from the distribution over scores at its end and the human label; and the same as an objective of
//! the loss head, whose gradient is the derivative of the reward by the logits.
//!
//! REAL's reward depends on the policy, so it has a gradient of its own (the *refinement* term):
//!
//! ```text
//! r = -(E - y)² + λ log π(y) + μ π(y),      E = Σ k π(k)     (renormalised over the scores, or over the vocabulary)
//! ```
//!
//! A label between two scores splits `log π` and `π` linearly over its neighbours. The binary reward, 1 if the *sampled*
//! score is the nearest one to the label, depends on the sample only: its gradient is 0.

use crate::judge::{Expectation, Scale, Split};
use crate::ops::loss_head::{RowObjective, SCORE_FULL, SCORE_RENORMALISED};

/// Weights of the reward's parts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RewardSettings {
    pub expectation: Expectation,
    /// Weight of `-(E - y)²`.
    pub squared: f64,
    /// λ, weight of `log π(y)`.
    pub log_prob: f64,
    /// μ, weight of `π(y)`.
    pub prob: f64,
    /// Weight of `1[sampled score is y]`.
    pub binary: f64,
}

/// The parts of one chain's reward, weights included.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Earned {
    pub squared: f64,
    pub log_prob: f64,
    pub prob: f64,
    pub binary: f64,
}

impl Earned {
    pub fn total(&self) -> f64 {
        self.squared + self.log_prob + self.prob + self.binary
    }
}

/// E of the distribution given by log-probabilities of the scores.
pub fn expected(expectation: Expectation, scale: &Scale, log_probs: &[f64]) -> f64 {
    let top = match expectation {
        Expectation::Renormalised => log_probs.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        Expectation::FullVocabulary => 0.0,
    };
    let weights: Vec<f64> = log_probs.iter().map(|l| (l - top).exp()).collect();
    let mass = match expectation {
        Expectation::Renormalised => weights.iter().sum(),
        Expectation::FullVocabulary => 1.0,
    };
    weights.iter().zip(scale.values()).map(|(w, v)| w * v).sum::<f64>() / mass
}

impl RewardSettings {
    /// The reward of a chain. `log_probs` are the full-vocabulary log-probabilities of the scores; `sampled` is the index of
    /// the sampled score, `None` where no score was sampled or none is wanted.
    pub fn earned(&self, scale: &Scale, log_probs: &[f64], label: (&Split, f64), sampled: Option<usize>) -> Earned {
        let (split, y) = label;
        let over = |f: &dyn Fn(f64) -> f64| split.weights.iter().map(|(k, w)| w * f(log_probs[*k])).sum::<f64>();
        let part = |weight: f64, value: &dyn Fn() -> f64| if weight == 0.0 { 0.0 } else { weight * value() };
        Earned {
            squared: part(self.squared, &|| -(expected(self.expectation, scale, log_probs) - y).powi(2)),
            log_prob: part(self.log_prob, &|| over(&|l| l)),
            prob: part(self.prob, &|| over(&f64::exp)),
            binary: part(self.binary, &|| if sampled == Some(split.nearest) { 1.0 } else { 0.0 }),
        }
    }

    /// `-weight · r` as an objective of the row before the score; `ids` are the scores' tokens.
    pub fn refinement(&self, weight: f64, ids: &[u32], label: (&Split, f64)) -> RowObjective {
        let (split, y) = label;
        let (low, high) = match split.weights[..] {
            [(low, share), (high, rest)] => ((ids[low], share), (ids[high], rest)),
            _ => ((ids[split.nearest], 1.0), (ids[split.nearest], 0.0)),
        };
        let at = |w: f64, share: f64| (weight * w * share) as f32;
        RowObjective {
            a: low.0,
            b: high.0,
            weight_a: at(self.log_prob, low.1),
            weight_b: at(self.log_prob, high.1),
            prob_weight_a: at(self.prob, low.1),
            prob_weight_b: at(self.prob, high.1),
            score_kind: match self.expectation {
                _ if self.squared == 0.0 => 0,
                Expectation::Renormalised => SCORE_RENORMALISED,
                Expectation::FullVocabulary => SCORE_FULL,
            },
            score_weight: (weight * self.squared) as f32,
            label: y as f32,
            entropy_weight: 0.0,
        }
    }

    /// True if the reward has a gradient of its own.
    pub fn depends_on_policy(&self) -> bool {
        self.squared != 0.0 || self.log_prob != 0.0 || self.prob != 0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: RewardSettings =
        RewardSettings { expectation: Expectation::Renormalised, squared: 1.0, log_prob: 0.5, prob: 2.0, binary: 0.0 };

    #[test]
    fn parts_of_a_reward() {
        let scale: Scale = "1..3".parse().unwrap();
        let logs = [0.1f64, 0.2, 0.1].map(f64::ln);
        let split = scale.split(2.5).unwrap();
        let earned = SETTINGS.earned(&scale, &logs, (&split, 2.5), None);
        assert!((earned.squared + 0.25).abs() < 1e-12, "E is 2 after renormalising");
        assert!((earned.log_prob - 0.25 * (0.2f64.ln() + 0.1f64.ln())).abs() < 1e-12);
        assert!((earned.prob - 0.3).abs() < 1e-12);
        let full = RewardSettings { expectation: Expectation::FullVocabulary, ..SETTINGS };
        assert!((full.earned(&scale, &logs, (&split, 2.5), None).squared + (0.8f64 - 2.5).powi(2)).abs() < 1e-12);
    }

    #[test]
    fn binary_looks_at_the_sample_only() {
        let scale: Scale = "1..3".parse().unwrap();
        let binary = RewardSettings { squared: 0.0, log_prob: 0.0, prob: 0.0, binary: 1.0, ..SETTINGS };
        let split = scale.split(2.0).unwrap();
        let of = |sampled| binary.earned(&scale, &[-1.0; 3], (&split, 2.0), sampled).total();
        assert_eq!([of(Some(0)), of(Some(1)), of(None)], [0.0, 1.0, 0.0]);
        assert!(!binary.depends_on_policy());
    }
}
