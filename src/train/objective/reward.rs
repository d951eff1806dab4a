//! What a chain earns, from the distribution over scores at its end and the human label.
//!
//! Every part of a reward is one line of value and one line of *slope*, the derivative by each score's log-probability:
//!
//! | part              | r                                              | ∂r/∂log p_k                        |
//! |-------------------|------------------------------------------------|------------------------------------|
//! | `squared`         | -(E - y)²,  E = Σ v_k p_k                      | -2 (E - y) p_k v_k                 |
//! |                   | the same over the scores alone, q = p / Σ p    | -2 (E - y) q_k (v_k - E)           |
//! | `log_prob`        | Σ w_k log p_k (log score of the label)         | w_k                                |
//! | `prob`            | Σ w_k p_k                                      | w_k p_k                            |
//! | `ranked`          | -Σ_j (F_j - G_j)², cumulative over the scale   | -2 Σ_j (F_j - G_j) ∂F_j            |
//! | `binary`          | 1 if the *sampled* score is the nearest to y   | 0: it depends on the sample only   |
//! | `sampled_squared` | -(sampled score - y)²                          | 0                                  |
//!
//! w is the label's distribution: one score, the two neighbours of a number between them, or what several annotators said;
//! G is its cumulative form. Parts with a slope are REAL's kind of reward: they depend on the policy, and the gradient are
//! the *refinement* term. `log_prob` and `ranked` are proper scoring rules: best when the whole distribution is the people's.
//! The loss head turns gradient into gradients of logits (`shaders/loss_head.wgsl`).

use crate::judge::{Expectation, Scale, Split};

/// Weights of the reward's parts; see the table above.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RewardSettings {
    /// Whether E and F are over the scores alone, or over the whole vocabulary.
    pub expectation: Expectation,
    pub squared: f64,
    /// λ of REAL.
    pub log_prob: f64,
    pub prob: f64,
    /// Ranked probability score (Epstein 1969).
    pub ranked: f64,
    pub binary: f64,
    pub sampled_squared: f64,
}

/// What people said of a row.
#[derive(Clone, Copy, Debug)]
pub struct Label<'a> {
    /// Over the scores of the scale.
    pub split: &'a Split,
    /// As one number.
    pub value: f64,
}

/// The parts of one chain's reward, weights included.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RewardParts {
    pub squared: f64,
    pub log_prob: f64,
    pub prob: f64,
    pub ranked: f64,
    /// Of the sampled score: `binary` and `sampled_squared`.
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

/// The scores' probabilities as E and F see them: renormalised, or of the full vocabulary.
struct Shares<'a> {
    p: Vec<f64>,
    renormalised: bool,
    scale: &'a Scale,
}

impl<'a> Shares<'a> {
    fn of(expectation: Expectation, scale: &'a Scale, log_probs: &[f64]) -> Self {
        let renormalised = expectation == Expectation::Renormalised;
        // Relative to the likeliest, so that scores of tiny mass still have a distribution.
        let top = if renormalised { log_probs.iter().copied().fold(f64::NEG_INFINITY, f64::max) } else { 0.0 };
        let mut p: Vec<f64> = log_probs.iter().map(|l| (l - top).exp()).collect();
        if renormalised {
            let mass: f64 = p.iter().sum();
            p.iter_mut().for_each(|p| *p /= mass);
        }
        Shares { p, renormalised, scale }
    }

    fn expected(&self) -> f64 {
        self.p.iter().zip(self.scale.values()).map(|(p, v)| p * v).sum()
    }

    /// Adds the gradient of `slope · Σ_k a_k p_k` by each log-probability.
    fn add_gradient_of_sum(&self, a: impl Fn(usize) -> f64, slope: f64, gradient: &mut [f64]) {
        let sum: f64 = if self.renormalised { self.p.iter().enumerate().map(|(k, p)| a(k) * p).sum() } else { 0.0 };
        self.p.iter().enumerate().for_each(|(k, p)| gradient[k] += slope * p * (a(k) - sum));
    }

    /// `F_j - G_j` for each score up to which both are summed, with the scores it covers.
    fn gaps(&self, label: &Split) -> Vec<f64> {
        let (mut f, mut g) = (0.0, 0.0);
        let share = |k: usize| label.weights.iter().filter(|(score, _)| *score == k).map(|(_, w)| w).sum::<f64>();
        let gap = |k: &usize| {
            (f, g) = (f + self.p[*k], g + share(*k));
            f - g
        };
        self.scale.order().iter().map(gap).collect()
    }
}

/// E of the distribution given by log-probabilities of the scores.
pub fn expected(expectation: Expectation, scale: &Scale, log_probs: &[f64]) -> f64 {
    Shares::of(expectation, scale, log_probs).expected()
}

impl RewardSettings {
    /// No reward at all, to name the parts that there are.
    pub const NONE: RewardSettings = RewardSettings {
        expectation: Expectation::Renormalised,
        squared: 0.0,
        log_prob: 0.0,
        prob: 0.0,
        ranked: 0.0,
        binary: 0.0,
        sampled_squared: 0.0,
    };

    /// The reward of a chain. `log_probs` are the full-vocabulary log-probabilities of the scores; `sampled` is the index of
    /// the sampled score, `None` where something else was sampled: that is no hit, and as far off as the scale goes.
    pub fn parts(&self, scale: &Scale, log_probs: &[f64], label: Label, sampled: Option<usize>) -> RewardParts {
        let Label { split, value: y } = label;
        let over = |f: &dyn Fn(f64) -> f64| split.weights.iter().map(|(k, w)| w * f(log_probs[*k])).sum::<f64>();
        let part = |weight: f64, value: &dyn Fn() -> f64| if weight == 0.0 { 0.0 } else { weight * value() };
        let shares = Shares::of(self.expectation, scale, log_probs);
        let hit = || if sampled == Some(split.nearest) { 1.0 } else { 0.0 };
        let furthest = (y - scale.min()).max(scale.max() - y);
        let distance = || sampled.map_or(furthest, |k| scale.values()[k] - y);
        RewardParts {
            squared: part(self.squared, &|| -(shares.expected() - y).powi(2)),
            log_prob: part(self.log_prob, &|| over(&|l| l)),
            prob: part(self.prob, &|| over(&f64::exp)),
            ranked: part(self.ranked, &|| -shares.gaps(split).iter().map(|gap| gap * gap).sum::<f64>()),
            sampled: part(self.binary, &hit) + part(self.sampled_squared, &|| -distance().powi(2)),
        }
    }

    /// `∂r/∂log p_k` of each score, `[K]`: the reward's own gradient.
    pub fn gradient(&self, scale: &Scale, log_probs: &[f64], label: Label) -> Vec<f64> {
        let Label { split, value: y } = label;
        let shares = Shares::of(self.expectation, scale, log_probs);
        let mut gradient = vec![0.0; scale.len()];
        if self.squared != 0.0 {
            let slope = -2.0 * self.squared * (shares.expected() - y);
            shares.add_gradient_of_sum(|k| scale.values()[k], slope, &mut gradient);
        }
        for (k, w) in &split.weights {
            gradient[*k] += self.log_prob * w + self.prob * w * log_probs[*k].exp();
        }
        if self.ranked != 0.0 {
            // Σ_j gap_j F_j = Σ_k p_k · (the gaps from k's place on)
            let mut tail = vec![0.0; scale.len()];
            let mut sum = 0.0;
            for (k, gap) in scale.order().iter().zip(shares.gaps(split)).rev() {
                sum += gap;
                tail[*k] = sum;
            }
            shares.add_gradient_of_sum(|k| tail[k], -2.0 * self.ranked, &mut gradient);
        }
        gradient
    }

    /// True if the reward has a gradient of its own.
    pub fn depends_on_policy(&self) -> bool {
        [self.squared, self.log_prob, self.prob, self.ranked].iter().any(|w| *w != 0.0)
    }

    /// True if the reward looks at a sampled score, which is then an action like the chain's tokens.
    pub fn samples_score(&self) -> bool {
        self.binary != 0.0 || self.sampled_squared != 0.0
    }
}

/// `∂ log p(sampled score) / ∂ log p_k`, `[K]`. That no score was sampled has the probability `1 - Σ p`.
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

/// The log-probability of what was sampled.
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
    fn parts_of_a_reward() {
        let scale: Scale = "1..3".parse().unwrap();
        let logs = [0.1f64, 0.2, 0.1].map(f64::ln);
        let split = scale.split(2.5).unwrap();
        let earned = settings(Expectation::Renormalised).parts(&scale, &logs, Label { split: &split, value: 2.5 }, None);
        assert!((earned.squared + 0.25).abs() < 1e-12, "E is 2 after renormalising");
        assert!((earned.log_prob - 0.25 * (0.2f64.ln() + 0.1f64.ln())).abs() < 1e-12);
        assert!((earned.prob - 0.3).abs() < 1e-12);
        // q = .25 .5 .25 against 0 .5 .5: gaps .25, .25, 0
        assert!((earned.ranked + 1.5 * 0.125).abs() < 1e-12, "{}", earned.ranked);
        let full = settings(Expectation::FullVocabulary);
        assert!(
            (full.parts(&scale, &logs, Label { split: &split, value: 2.5 }, None).squared + (0.8f64 - 2.5).powi(2)).abs() < 1e-12
        );
    }

    /// Each slope against a central difference, scores out of order and unevenly spaced, labels of every kind.
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
    fn some_rewards_look_at_the_sample_only() {
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
