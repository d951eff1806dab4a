//! The rewards of completions: the score distribution after each is read from the policy, rewarded, and compared within its
//! group.

use super::losses::completions;
use super::{AnswerSpec, PolicyTrainer, PromptGroup};
use crate::model::decoder::TokenStats;
use crate::ops::loss_head::TokenLoss;
use crate::random::Stream;
use crate::train::TrainError;
use crate::train::objective::advantage::advantages;
use crate::train::objective::reward::{RewardParts, expected, sampled_log_prob};
use crate::train::objective::step::StepKey;

/// A completion's reward, and what it is computed from.
#[derive(Clone, Debug, Default)]
pub struct ScoredCompletion {
    pub parts: RewardParts,
    /// Sampled KL divergence from the reference model. The reward is reduced by its weight times this.
    pub kl: f64,
    /// The expected score.
    pub expected: f64,
    /// Total probability of the scores in the full vocabulary.
    pub mass: f64,
    /// Full-vocabulary log-probabilities of the scores, `[scores]`.
    pub log_probs: Vec<f64>,
    /// Index of the sampled score; `None` if something else was sampled.
    pub sampled: Option<usize>,
    /// Log-probability of the sampled score when it was sampled.
    pub sampled_log_p: f64,
    /// ρ; 1 if the current policy sampled the completion.
    pub ratio: f64,
    pub advantage: f64,
}

/// Where the sampled scores come from.
#[derive(Clone, Copy)]
pub enum ScoreSource<'a> {
    /// They are drawn now. The function gives the number in [0, 1) that draws the score of the batch's `n`-th completion.
    Draw(&'a (dyn Fn(u64) -> f64 + Sync)),
    /// They were drawn earlier, by the policy that sampled the completions; the ratio of the current policy to it is computed.
    Drawn(&'a [Vec<ScoredCompletion>]),
}

/// Separates the random numbers of sampled scores from all others.
const SCORE_STREAM: u64 = 0x5C0_4E00_0000_0000;

impl PolicyTrainer {
    /// The numbers in [0, 1) that draw the scores of batch `batch` of a step.
    pub(super) fn uniforms(&self, key: StepKey, batch: usize) -> impl Fn(u64) -> f64 {
        let first = (batch * self.micro_batch * self.settings.group) as u64;
        move |completion| Stream::new(key.seed, (key.step << 24) ^ (first + completion) ^ SCORE_STREAM).uniform()
    }

    /// Reads the score distribution after every completion and computes its reward. Advantages are left at 0.
    ///
    /// # Errors
    /// Completions over the planned sizes, or what the GPU reports.
    pub async fn rewards(
        &self,
        groups: &[PromptGroup<'_>],
        answer: &AnswerSpec<'_>,
        source: ScoreSource<'_>,
    ) -> Result<Vec<Vec<ScoredCompletion>>, TrainError> {
        let mut scored = Vec::new();
        for sub_batch in self.sub_batches(groups) {
            self.reward_sub_batch(&sub_batch, answer, source, &mut scored).await?;
        }
        Ok(by_group(&mut scored.into_iter(), groups))
    }

    /// Appends the completions of one sub-batch to `scored`, which holds those of the sub-batches before it.
    async fn reward_sub_batch(
        &self,
        groups: &[PromptGroup<'_>],
        answer: &AnswerSpec<'_>,
        source: ScoreSource<'_>,
        scored: &mut Vec<ScoredCompletion>,
    ) -> Result<(), TrainError> {
        let needs_actions = self.reference.is_some() || matches!(source, ScoreSource::Drawn(_));
        let (mut batch, spans) = self.pack(groups);
        for (completion, spans) in completions(groups, &spans) {
            if needs_actions {
                let actions = completion.actions.iter().zip(&spans.predictors);
                actions.for_each(|(token, predictor)| batch.push_loss(*predictor, TokenLoss::token(*token, 0.0)));
            }
            spans.score_nodes.iter().for_each(|node| batch.push_loss(*node, TokenLoss::default()));
        }
        batch.sort_losses();
        self.pass.forward(&batch)?;
        let stats = self.pass.stats(batch.loss_positions.len()).await?;
        let reference_stats = match &self.reference {
            None => None,
            Some((_, pass)) => {
                pass.run(&batch)?;
                Some(pass.stats(batch.loss_positions.len()).await?)
            }
        };
        let log_p = |stats: &[TokenStats], token: &u32| batch.loss_at(*token).map_or(0.0, |row| f64::from(stats[row].log_p));
        let reward = &self.settings.reward;
        for (group, spans) in groups.iter().zip(&spans) {
            for (completion, spans) in group.completions.iter().zip(spans) {
                let number = scored.len();
                let actions = &spans.predictors[..completion.actions.len().min(spans.predictors.len())];
                let log_probs = self.layout().log_probs(spans, &batch, &stats);
                let kl = reference_stats
                    .as_ref()
                    .map_or(0.0, |reference| actions.iter().map(|token| log_p(&stats, token) - log_p(reference, token)).sum());
                let (mut ratio, sampled, sampled_log_p);
                match source {
                    ScoreSource::Draw(uniform) => {
                        ratio = 1.0;
                        sampled = draw(&log_probs, uniform(number as u64));
                        sampled_log_p = sampled_log_prob(&log_probs, sampled);
                    }
                    ScoreSource::Drawn(drawn) => {
                        let drawn = drawn.iter().flatten().nth(number);
                        (sampled, sampled_log_p) = drawn.map_or((None, 0.0), |drawn| (drawn.sampled, drawn.sampled_log_p));
                        let old_log_ps = completion.log_ps.iter().map(|old| f64::from(*old));
                        let mut log_ratio: f64 =
                            actions.iter().zip(old_log_ps).map(|(token, old)| log_p(&stats, token) - old).sum();
                        if reward.samples_score() {
                            log_ratio += sampled_log_prob(&log_probs, sampled) - sampled_log_p;
                        }
                        ratio = log_ratio.exp();
                    }
                }
                if self.settings.ratio_cap > 0.0 {
                    ratio = ratio.min(self.settings.ratio_cap);
                }
                scored.push(ScoredCompletion {
                    parts: reward.parts(answer.scale, &log_probs, group.prompt.label(), sampled),
                    kl,
                    expected: expected(reward.expectation, answer.scale, &log_probs),
                    mass: log_probs.iter().map(|l| l.exp()).sum(),
                    log_probs,
                    sampled,
                    sampled_log_p,
                    ratio,
                    advantage: 0.0,
                });
            }
        }
        Ok(())
    }

    /// Sets the advantage of every completion within its group.
    pub fn advantages(&self, scored: &mut [Vec<ScoredCompletion>]) {
        scored.iter_mut().for_each(|group| self.advantages_of_group(group));
    }

    fn advantages_of_group(&self, group: &mut [ScoredCompletion]) {
        let kl = self.settings.kl;
        let advantages_of = |reward: &dyn Fn(&ScoredCompletion) -> f64| {
            let rewards: Vec<f64> = group.iter().map(reward).collect();
            advantages(&rewards, self.settings.advantage)
        };
        let sums = if self.settings.separate_advantages {
            // The KL divergence counts with the first part.
            let of_part = |i: usize| advantages_of(&|c| c.parts.to_array()[i] - if i == 0 { kl * c.kl } else { 0.0 });
            let parts: Vec<Vec<f64>> = (0..RewardParts::default().to_array().len()).map(of_part).collect();
            (0..group.len()).map(|i| parts.iter().map(|part| part[i]).sum()).collect()
        } else {
            advantages_of(&|c| c.parts.total() - kl * c.kl)
        };
        group.iter_mut().zip(sums).for_each(|(c, a): (&mut ScoredCompletion, f64)| c.advantage = a);
    }
}

/// Takes the next completions from the iterator and arranges them like the completions of `groups`.
pub(super) fn by_group(
    scored: &mut impl Iterator<Item = ScoredCompletion>,
    groups: &[PromptGroup],
) -> Vec<Vec<ScoredCompletion>> {
    groups.iter().map(|group| scored.by_ref().take(group.completions.len()).collect()).collect()
}

/// The index of the score that `u` draws; `None` for the rest of the vocabulary.
fn draw(log_probs: &[f64], u: f64) -> Option<usize> {
    let mut sum = 0.0;
    log_probs.iter().position(|l| {
        sum += l.exp();
        u < sum
    })
}
