//! The metrics of a step, under TRL's names where TRL has one.

use super::{PromptGroup, ScoredCompletion};
use crate::judge::CompletionSpans;
use crate::model::decoder::{PackedInputs, TokenStats};
use crate::ranks::Ranks;
use crate::rollout::Ending;
use crate::train::TrainError;
use crate::train::objective::optimiser::OptimiserOutcome;
use crate::train::objective::step::StepMetrics;

/// Sums over a batch of prompts, or over those of a step, for its metrics.
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
    /// Weight of the KL divergence in the reward; the divergence is logged if this is not 0.
    kl_weight: f64,
    kl: f64,
    forced: usize,
    clipped: usize,
    loss: f64,
    /// The largest difference between an action's log-probability in training and when it was sampled.
    log_p_difference: f64,
    /// ρ of every completion in the optimiser steps after the first.
    ratios: Vec<f64>,
}

impl MetricSums {
    pub(super) fn new(kl_weight: f64) -> Self {
        MetricSums { kl_weight, ..MetricSums::default() }
    }

    /// The sums over all batches of a step, added in their order. `own` are those of this rank's batches.
    pub(super) fn of_all_ranks(own: &[MetricSums], kl_weight: f64, ranks: &Ranks) -> Result<Self, TrainError> {
        let numbers: Vec<f64> = own.iter().flat_map(MetricSums::numbers).collect();
        let all = ranks.all_gather_numbers(&numbers)?.concat();
        let (mut sums, mut numbers) = (MetricSums::new(kl_weight), all.into_iter().peekable());
        while numbers.peek().is_some() {
            sums.append(MetricSums::from_numbers(&mut numbers, kl_weight));
        }
        Ok(sums)
    }

    /// As numbers, for other ranks: each list after its length, then the rest.
    fn numbers(&self) -> Vec<f64> {
        let lists = [&self.rewards, &self.group_stds, &self.lengths, &self.terminated, &self.ratios];
        let mut numbers: Vec<f64> = lists.into_iter().flat_map(|list| [&[list.len() as f64], &list[..]].concat()).collect();
        let counts = [self.actions, self.tokens, self.forced, self.clipped];
        numbers.extend(counts.map(|count| count as f64));
        let values = [self.entropy, self.squared_error, self.expected, self.mass, self.kl, self.loss, self.log_p_difference];
        numbers.extend(values);
        numbers
    }

    /// Reads what [`MetricSums::numbers`] gave.
    fn from_numbers(numbers: &mut impl Iterator<Item = f64>, kl_weight: f64) -> Self {
        let mut list = || -> Vec<f64> {
            let length = numbers.next().unwrap_or(0.0) as usize;
            numbers.take(length).collect()
        };
        let [rewards, group_stds, lengths, terminated, ratios] = std::array::from_fn(|_| list());
        let mut next = || numbers.next().unwrap_or(f64::NAN);
        let [actions, tokens, forced, clipped] = std::array::from_fn(|_| next() as usize);
        let [entropy, squared_error, expected, mass, kl, loss, log_p_difference] = std::array::from_fn(|_| next());
        MetricSums {
            rewards,
            group_stds,
            lengths,
            terminated,
            entropy,
            actions,
            tokens,
            squared_error,
            expected,
            mass,
            kl_weight,
            kl,
            forced,
            clipped,
            loss,
            log_p_difference,
            ratios,
        }
    }

    /// Adds the sums of the next batch.
    fn append(&mut self, next: MetricSums) {
        self.rewards.extend(next.rewards);
        self.group_stds.extend(next.group_stds);
        self.lengths.extend(next.lengths);
        self.terminated.extend(next.terminated);
        self.ratios.extend(next.ratios);
        self.entropy += next.entropy;
        self.actions += next.actions;
        self.tokens += next.tokens;
        self.squared_error += next.squared_error;
        self.expected += next.expected;
        self.mass += next.mass;
        self.kl += next.kl;
        self.forced += next.forced;
        self.clipped += next.clipped;
        self.loss += next.loss;
        self.log_p_difference = self.log_p_difference.max(next.log_p_difference);
    }

    /// Adds the rewards of whole groups.
    pub(super) fn add_rewards(&mut self, scored: &[Vec<ScoredCompletion>]) {
        for group in scored {
            let rewards: Vec<f64> = group.iter().map(|c| c.parts.total() - self.kl_weight * c.kl).collect();
            let mean = rewards.iter().sum::<f64>() / rewards.len().max(1) as f64;
            let variance = rewards.iter().map(|r| (r - mean).powi(2)).sum::<f64>() / rewards.len().max(1) as f64;
            self.group_stds.push(variance.sqrt());
            self.rewards.extend(rewards);
        }
    }

    /// Adds a sub-batch: its completions, and the statistics of its loss positions.
    pub(super) fn add(
        &mut self,
        groups: &[PromptGroup],
        scored: &[Vec<ScoredCompletion>],
        spans: &[Vec<CompletionSpans>],
        batch: &PackedInputs,
        stats: &[TokenStats],
    ) {
        for ((group, spans), scored) in groups.iter().zip(spans).zip(scored) {
            for ((completion, spans), scored) in group.completions.iter().zip(spans).zip(scored) {
                self.lengths.push(completion.actions.len() as f64);
                match completion.ending {
                    Ending::Length => self.clipped += 1,
                    _ => self.terminated.push(completion.actions.len() as f64),
                }
                self.forced += usize::from(completion.ending != Ending::Phrase);
                for (log_p, predictor) in completion.log_ps.iter().zip(&spans.predictors) {
                    let Some(row) = batch.loss_at(*predictor) else { continue };
                    self.entropy += f64::from(stats[row].entropy);
                    self.log_p_difference = self.log_p_difference.max(f64::from((stats[row].log_p - log_p).abs()));
                }
                self.actions += completion.actions.len();
                self.squared_error += (scored.expected - group.prompt.value).powi(2);
                self.expected += scored.expected;
                self.mass += scored.mass;
                self.kl += scored.kl;
            }
        }
        for (loss, stats) in batch.losses.iter().zip(stats) {
            self.loss -= f64::from(loss.weight) * f64::from(stats.log_p);
        }
        self.tokens += batch.ids.len();
    }

    /// Adds the probability ratios of completions that an older policy sampled.
    pub(super) fn add_ratios(&mut self, scored: &[Vec<ScoredCompletion>]) {
        self.ratios.extend(scored.iter().flatten().map(|c| c.ratio));
    }

    /// The step's metrics. The gradient norm is that of the first optimiser step.
    pub(super) fn metrics(&self, outcomes: &[OptimiserOutcome]) -> StepMetrics {
        let grad_norm = outcomes.first().map_or(0.0, |outcome| outcome.grad_norm);
        let applied = outcomes.iter().filter(|outcome| outcome.applied).count() as u64;
        let completions = self.lengths.len().max(1) as f64;
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len().max(1) as f64;
        let reduce = |values: &[f64], f: fn(f64, f64) -> f64| values.iter().copied().reduce(f).unwrap_or(0.0);
        let reward = mean(&self.rewards);
        let reward_std = mean(&self.rewards.iter().map(|r| (r - reward).powi(2)).collect::<Vec<_>>()).sqrt();
        let zero_std = self.group_stds.iter().filter(|s| **s < 1e-6).count() as f64 / self.group_stds.len().max(1) as f64;
        let mut extra = vec![
            ("reward", reward),
            ("reward_std", reward_std),
            ("frac_reward_zero_std", zero_std),
            ("completions/mean_length", mean(&self.lengths)),
            ("completions/min_length", reduce(&self.lengths, f64::min)),
            ("completions/max_length", reduce(&self.lengths, f64::max)),
            ("completions/mean_terminated_length", mean(&self.terminated)),
            ("completions/clipped_ratio", self.clipped as f64 / completions),
            ("judge/forced", self.forced as f64 / completions),
            ("judge/expected_score", self.expected / completions),
            ("judge/mse", self.squared_error / completions),
            ("judge/score_mass", self.mass / completions),
            ("sampling/log_p_difference", self.log_p_difference),
        ];
        if self.kl_weight != 0.0 {
            extra.push(("kl", self.kl / completions));
        }
        if !self.ratios.is_empty() {
            extra.push(("ratio/mean", mean(&self.ratios)));
            extra.push(("ratio/max", reduce(&self.ratios, f64::max)));
        }
        StepMetrics {
            loss: self.loss,
            entropy: self.entropy / self.actions.max(1) as f64,
            tokens: self.tokens,
            grad_norm,
            applied,
            extra,
        }
    }
}
