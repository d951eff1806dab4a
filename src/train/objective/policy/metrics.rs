//! What a step logs, under TRL's names where there is one.

use super::{PromptGroup, ScoredCompletion};
use crate::judge::CompletionSpans;
use crate::model::decoder::{PackedInputs, TokenStats};
use crate::rollout::Ending;
use crate::train::objective::optimiser::StepOutcome;
use crate::train::objective::trainer::StepNumbers;

/// Sums over a step, for the log.
#[derive(Default)]
pub(super) struct MetricSums {
    rewards: Vec<f64>,
    group_stds: Vec<f64>,
    lengths: Vec<f64>,
    terminated: Vec<f64>,
    entropy: f64,
    actions: usize,
    tokens: usize,
    squared_error: f64,
    expected: f64,
    mass: f64,
    /// Weight of the KL divergence in the reward; it is logged if there is one.
    kl_weight: f64,
    kl: f64,
    forced: usize,
    clipped: usize,
    loss: f64,
    off_policy: f64,
    /// ρ of every chain in the steps after the first.
    ratios: Vec<f64>,
}

impl MetricSums {
    pub(super) fn new(kl_weight: f64) -> Self {
        MetricSums { kl_weight, ..MetricSums::default() }
    }

    /// The rewards of whole groups.
    pub(super) fn add_rewards(&mut self, scored: &[Vec<ScoredCompletion>]) {
        for group in scored {
            let rewards: Vec<f64> = group.iter().map(|r| r.parts.total() - self.kl_weight * r.kl).collect();
            let mean = rewards.iter().sum::<f64>() / rewards.len().max(1) as f64;
            let variance = rewards.iter().map(|r| (r - mean).powi(2)).sum::<f64>() / rewards.len().max(1) as f64;
            self.group_stds.push(variance.sqrt());
            self.rewards.extend(rewards);
        }
    }

    /// What a sub_batch of a batch was and said.
    pub(super) fn add(
        &mut self,
        groups: &[PromptGroup],
        scored: &[Vec<ScoredCompletion>],
        spans: &[Vec<CompletionSpans>],
        batch: &PackedInputs,
        stats: &[TokenStats],
    ) {
        for ((group, spans), scored) in groups.iter().zip(spans).zip(scored) {
            for ((chain, spans), reward) in group.chains.iter().zip(spans).zip(scored) {
                self.lengths.push(chain.actions.len() as f64);
                match chain.ending {
                    Ending::Length => self.clipped += 1,
                    _ => self.terminated.push(chain.actions.len() as f64),
                }
                self.forced += usize::from(chain.ending != Ending::Phrase);
                for (log_p, row) in chain.log_ps.iter().zip(&spans.before) {
                    let Some(row) = batch.loss_at(*row) else { continue };
                    self.entropy += f64::from(stats[row].entropy);
                    self.off_policy = self.off_policy.max(f64::from((stats[row].log_p - log_p).abs()));
                }
                self.actions += chain.actions.len();
                self.squared_error += (reward.expected - group.prompt.value).powi(2);
                self.expected += reward.expected;
                self.mass += reward.mass;
                self.kl += reward.kl;
            }
        }
        for (objective, row) in batch.losses.iter().zip(stats) {
            self.loss -= f64::from(objective.weight) * f64::from(row.log_p);
        }
        self.tokens += batch.ids.len();
    }

    /// The probability ratios of chains that an older policy wrote.
    pub(super) fn add_ratios(&mut self, scored: &[Vec<ScoredCompletion>]) {
        self.ratios.extend(scored.iter().flatten().map(|r| r.ratio));
    }

    /// The step's figures. The norm of the gradient is that of the first optimiser step.
    pub(super) fn numbers(&self, outcomes: &[StepOutcome]) -> StepNumbers {
        let grad_norm = outcomes.first().map_or(0.0, |outcome| outcome.grad_norm);
        let applied = outcomes.iter().filter(|outcome| outcome.applied).count() as u64;
        let chains = self.lengths.len().max(1) as f64;
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len().max(1) as f64;
        let edge = |values: &[f64], f: fn(f64, f64) -> f64| values.iter().copied().reduce(f).unwrap_or(0.0);
        let reward = mean(&self.rewards);
        let spread = mean(&self.rewards.iter().map(|r| (r - reward).powi(2)).collect::<Vec<_>>()).sqrt();
        let flat = self.group_stds.iter().filter(|s| **s < 1e-6).count() as f64 / self.group_stds.len().max(1) as f64;
        let mut extra = vec![
            ("reward", reward),
            ("reward_std", spread),
            ("frac_reward_zero_std", flat),
            ("completions/mean_length", mean(&self.lengths)),
            ("completions/min_length", edge(&self.lengths, f64::min)),
            ("completions/max_length", edge(&self.lengths, f64::max)),
            ("completions/mean_terminated_length", mean(&self.terminated)),
            ("completions/clipped_ratio", self.clipped as f64 / chains),
            ("judge/forced", self.forced as f64 / chains),
            ("judge/expected_score", self.expected / chains),
            ("judge/mse", self.squared_error / chains),
            ("judge/score_mass", self.mass / chains),
            ("sampling/log_p_difference", self.off_policy),
        ];
        if self.kl_weight != 0.0 {
            extra.push(("kl", self.kl / chains));
        }
        if !self.ratios.is_empty() {
            extra.push(("ratio/mean", mean(&self.ratios)));
            extra.push(("ratio/max", edge(&self.ratios, f64::max)));
        }
        StepNumbers {
            loss: self.loss,
            entropy: self.entropy / self.actions.max(1) as f64,
            tokens: self.tokens,
            grad_norm,
            applied,
            extra,
        }
    }
}
