//! The reward of a completion, from its score distribution and the human label.
//!
//! Every reward part has a value and a gradient with respect to each score's log-probability:
//!
//! | part              | r                                              | ∂r/∂log p_k                        |
//! |-------------------|------------------------------------------------|------------------------------------|
//! | `squared`         | -(E - y)²,  E = Σ v_k p_k                      | -2 (E - y) p_k v_k                 |
//! |                   | the same over the scores alone, q = p / Σ p    | -2 (E - y) q_k (v_k - E)           |
//! | `log_prob`        | Σ w_k log p_k (log score of the label)         | w_k                                |
//! | `prob`            | Σ w_k p_k                                      | w_k p_k                            |
//! | `ranked`          | -Σ_j (F_j - G_j)², cumulative over the scale   | -2 Σ_j (F_j - G_j) ∂F_j            |
//! | `binary`          | 1 if the *sampled* score is the nearest to y   | 0: depends on the sample only      |
//! | `sampled_squared` | -(sampled score - y)²                          | 0                                  |
//!
//! w is the label's distribution: one score, the two scores next to a number between them, or the mean of several annotators. G
//! is its cumulative form. Parts with a gradient are REAL's kind of reward: they depend on the policy, and their gradient is the
//! *refinement* term. `log_prob` and `ranked` are proper scoring rules: they are maximal if the score distribution equals the
//! label's. The loss head turns this gradient into one of the logits (`shaders/loss_head.wgsl`).

use crate::judge::{Expectation, Scale, Split};

/// Weights of the reward parts; see the table above.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RewardSettings {
    /// Whether E and F are over the scores only or over the whole vocabulary.
    pub expectation: Expectation,
    pub squared: f64,
    /// REAL's λ.
    pub log_prob: f64,
    pub prob: f64,
    /// Ranked probability score (Epstein 1969).
    pub ranked: f64,
    pub binary: f64,
    pub sampled_squared: f64,
}

/// The human label of a row.
#[derive(Clone, Copy, Debug)]
pub struct Label<'a> {
    /// As a distribution over the scores of the scale.
    pub split: &'a Split,
    /// As a number.
    pub value: f64,
}

/// The parts of one completion's reward, multiplied by their weights.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RewardParts {
    pub squared: f64,
    pub log_prob: f64,
    pub prob: f64,
    pub ranked: f64,
    /// `binary` plus `sampled_squared`, which depend on the sampled score.
    pub sampled: f64,
}

impl RewardParts {
    pub fn to_array(self) -> [f64; 5] {
        [self.squared, self.log_prob, self.prob, self.ranked, self.sampled]
    }

    pub fn total(&self) -> f64 {
        self.to_array().iter().sum()
    }
}

/// The scores' probabilities for E and F: renormalised, or of the full vocabulary.
struct ScoreProbs<'a> {
    p: Vec<f64>,
    renormalised: bool,
    scale: &'a Scale,
}

impl<'a> ScoreProbs<'a> {
    fn of(expectation: Expectation, scale: &'a Scale, log_probs: &[f64]) -> Self {
        let renormalised = expectation == Expectation::Renormalised;
        // Relative to the largest, so that scores of tiny total probability still have a distribution.
        let largest = if renormalised { log_probs.iter().copied().fold(f64::NEG_INFINITY, f64::max) } else { 0.0 };
        let mut p: Vec<f64> = log_probs.iter().map(|l| (l - largest).exp()).collect();
        if renormalised {
            let mass: f64 = p.iter().sum();
            p.iter_mut().for_each(|p| *p /= mass);
        }
        ScoreProbs { p, renormalised, scale }
    }

    fn expected(&self) -> f64 {
        self.p.iter().zip(self.scale.values()).map(|(p, v)| p * v).sum()
    }

    /// Adds the gradient of `factor · Σ_k a_k p_k` with respect to each log-probability.
    fn add_gradient_of_sum(&self, a: impl Fn(usize) -> f64, factor: f64, gradient: &mut [f64]) {
        let sum: f64 = if self.renormalised { self.p.iter().enumerate().map(|(k, p)| a(k) * p).sum() } else { 0.0 };
        self.p.iter().enumerate().for_each(|(k, p)| gradient[k] += factor * p * (a(k) - sum));
    }

    /// `F_j - G_j` for each score j, in ascending order of the values.
    fn cumulative_differences(&self, label: &Split) -> Vec<f64> {
        let (mut f, mut g) = (0.0, 0.0);
        let share = |k: usize| label.weights.iter().filter(|(score, _)| *score == k).map(|(_, w)| w).sum::<f64>();
        let difference = |k: &usize| {
            (f, g) = (f + self.p[*k], g + share(*k));
            f - g
        };
        self.scale.order().iter().map(difference).collect()
    }
}

/// The expected score E, from the log-probabilities of the scores.
pub fn expected(expectation: Expectation, scale: &Scale, log_probs: &[f64]) -> f64 {
    ScoreProbs::of(expectation, scale, log_probs).expected()
}

impl RewardSettings {
    /// All weights 0.
    pub const NONE: RewardSettings = RewardSettings {
        expectation: Expectation::Renormalised,
        squared: 0.0,
        log_prob: 0.0,
        prob: 0.0,
        ranked: 0.0,
        binary: 0.0,
        sampled_squared: 0.0,
    };

    /// The reward of a completion. `log_probs` are the full-vocabulary log-probabilities of the scores. `sampled` is the index of
    /// the sampled score, or `None` if something else was sampled: that counts as wrong, at the largest distance on the scale.
    pub fn parts(&self, scale: &Scale, log_probs: &[f64], label: Label, sampled: Option<usize>) -> RewardParts {
        let Label { split, value: y } = label;
        let label_mean = |f: &dyn Fn(f64) -> f64| split.weights.iter().map(|(k, w)| w * f(log_probs[*k])).sum::<f64>();
        let part = |weight: f64, value: &dyn Fn() -> f64| if weight == 0.0 { 0.0 } else { weight * value() };
        let probs = ScoreProbs::of(self.expectation, scale, log_probs);
        let hit = || if sampled == Some(split.nearest) { 1.0 } else { 0.0 };
        let furthest = (y - scale.min()).max(scale.max() - y);
        let distance = || sampled.map_or(furthest, |k| scale.values()[k] - y);
        RewardParts {
            squared: part(self.squared, &|| -(probs.expected() - y).powi(2)),
            log_prob: part(self.log_prob, &|| label_mean(&|l| l)),
            prob: part(self.prob, &|| label_mean(&f64::exp)),
            ranked: part(self.ranked, &|| -probs.cumulative_differences(split).iter().map(|d| d * d).sum::<f64>()),
            sampled: part(self.binary, &hit) + part(self.sampled_squared, &|| -distance().powi(2)),
        }
    }

    /// `∂r/∂log p_k` of each score, `[scores]`: the reward's own gradient.
    pub fn gradient(&self, scale: &Scale, log_probs: &[f64], label: Label) -> Vec<f64> {
        let Label { split, value: y } = label;
        let probs = ScoreProbs::of(self.expectation, scale, log_probs);
        let mut gradient = vec![0.0; scale.len()];
        if self.squared != 0.0 {
            let factor = -2.0 * self.squared * (probs.expected() - y);
            probs.add_gradient_of_sum(|k| scale.values()[k], factor, &mut gradient);
        }
        for (k, w) in &split.weights {
            gradient[*k] += self.log_prob * w + self.prob * w * log_probs[*k].exp();
        }
        if self.ranked != 0.0 {
            // Σ_j d_j F_j = Σ_k p_k · Σ_{j ≥ k} d_j, where d_j = F_j - G_j
            let mut tail_sums = vec![0.0; scale.len()];
            let mut sum = 0.0;
            for (k, difference) in scale.order().iter().zip(probs.cumulative_differences(split)).rev() {
                sum += difference;
                tail_sums[*k] = sum;
            }
            probs.add_gradient_of_sum(|k| tail_sums[k], -2.0 * self.ranked, &mut gradient);
        }
        gradient
    }

    /// True if the reward has a gradient of its own.
    pub fn depends_on_policy(&self) -> bool {
        [self.squared, self.log_prob, self.prob, self.ranked].iter().any(|w| *w != 0.0)
    }

    /// True if the reward depends on a sampled score, which is then an action like the chain's tokens.
    pub fn samples_score(&self) -> bool {
        self.binary != 0.0 || self.sampled_squared != 0.0
    }
}

/// `∂ log p(sampled score) / ∂ log p_k`, `[scores]`. The probability that no score is sampled is `1 - Σ p`.
pub fn sampled_gradient(log_probs: &[f64], sampled: Option<usize>) -> Vec<f64> {
    match sampled {
        Some(score) => (0..log_probs.len()).map(|k| if k == score { 1.0 } else { 0.0 }).collect(),
        None => {
            let p: Vec<f64> = log_probs.iter().map(|l| l.exp()).collect();
            let rest = (1.0 - p.iter().sum::<f64>()).max(1e-6);
            p.iter().map(|p| -p / rest).collect()
        }
    }
}

/// The log-probability of the sampled score, or that no score is sampled.
pub fn sampled_log_prob(log_probs: &[f64], sampled: Option<usize>) -> f64 {
    match sampled {
        Some(score) => log_probs[score],
        None => (1.0 - log_probs.iter().map(|l| l.exp()).sum::<f64>()).max(1e-6).ln(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(expectation: Expectation) -> RewardSettings {
        RewardSettings { expectation, squared: 1.0, log_prob: 0.5, prob: 2.0, ranked: 1.5, ..RewardSettings::NONE }
    }

    #[test]
    fn reward_parts_match_manual_arithmetic() {
        let scale: Scale = "1..3".parse().unwrap();
        let logs = [0.1f64, 0.2, 0.1].map(f64::ln);
        let split = scale.split(2.5).unwrap();
        let parts = settings(Expectation::Renormalised).parts(&scale, &logs, Label { split: &split, value: 2.5 }, None);
        assert!((parts.squared + 0.25).abs() < 1e-12, "E is 2 after renormalising");
        assert!((parts.log_prob - 0.25 * (0.2f64.ln() + 0.1f64.ln())).abs() < 1e-12);
        assert!((parts.prob - 0.3).abs() < 1e-12);
        // q = .25 .5 .25 and w = 0 .5 .5: F - G = .25, .25, 0
        assert!((parts.ranked + 1.5 * 0.125).abs() < 1e-12, "{}", parts.ranked);
        let full = settings(Expectation::FullVocabulary);
        assert!(
            (full.parts(&scale, &logs, Label { split: &split, value: 2.5 }, None).squared + (0.8f64 - 2.5).powi(2)).abs() < 1e-12
        );
    }

    /// Compares each gradient with a central difference; scores out of order and unevenly spaced, labels of every kind.
    #[test]
    fn gradients_are_derivatives() {
        let scale: Scale = "c,a,d,b=3,1,7.5,-2".parse().unwrap();
        let logs = [0.2f64, 0.1, 0.25, 0.05].map(f64::ln);
        let parts =
            [[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0], [1.0, 0.5, 2.0, 1.5]];
        for expectation in [Expectation::Renormalised, Expectation::FullVocabulary] {
            for [squared, log_prob, prob, ranked] in parts {
                let reward = RewardSettings { expectation, squared, log_prob, prob, ranked, ..RewardSettings::NONE };
                for (split, y) in [(scale.split(3.0), 3.0), (scale.split(0.4), 0.4), (scale.soft(&[1.0, 7.5, 7.5]), 16.0 / 3.0)] {
                    let split = split.unwrap();
                    let gradient = reward.gradient(&scale, &logs, Label { split: &split, value: y });
                    for k in 0..4 {
                        let at = |step: f64| {
                            let mut moved = logs;
                            moved[k] += step;
                            reward.parts(&scale, &moved, Label { split: &split, value: y }, None).total()
                        };
                        let difference = (at(1e-5) - at(-1e-5)) / 2e-5;
                        assert!((gradient[k] - difference).abs() < 1e-8, "{reward:?} score {k}: {} {difference}", gradient[k]);
                    }
                }
            }
        }
    }

    #[test]
    fn sampled_scores_have_gradients_of_their_probability() {
        let logs = [0.2f64, 0.3].map(f64::ln);
        for sampled in [Some(0), Some(1), None] {
            for k in 0..2 {
                let at = |step: f64| {
                    let mut moved = logs;
                    moved[k] += step;
                    sampled_log_prob(&moved, sampled)
                };
                let difference = (at(1e-5) - at(-1e-5)) / 2e-5;
                assert!((sampled_gradient(&logs, sampled)[k] - difference).abs() < 1e-8);
            }
        }
    }

    #[test]
    fn sampled_rewards_depend_on_the_sample_only() {
        let scale: Scale = "1..3".parse().unwrap();
        let split = scale.split(2.0).unwrap();
        let of = |reward: RewardSettings, sampled| {
            reward.parts(&scale, &[-1.0; 3], Label { split: &split, value: 2.0 }, sampled).total()
        };
        let binary = RewardSettings { binary: 1.0, ..RewardSettings::NONE };
        assert_eq!([of(binary, Some(0)), of(binary, Some(1)), of(binary, None)], [0.0, 1.0, 0.0]);
        let squared = RewardSettings { sampled_squared: 0.5, ..RewardSettings::NONE };
        assert_eq!([of(squared, Some(0)), of(squared, Some(1)), of(squared, None)], [-0.5, 0.0, -0.5]);
        for reward in [binary, squared] {
            assert!(reward.samples_score() && !reward.depends_on_policy());
            assert_eq!(reward.gradient(&scale, &[-1.0; 3], Label { split: &split, value: 2.0 }), [0.0; 3]);
        }
    }
}
