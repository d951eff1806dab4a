//! What chains earn: the score distribution behind each is read from the policy, scored, and compared within its group.

use super::objective::chains;
use super::{AnswerSpec, PolicyTrainer, PromptGroup};
use crate::model::decoder::TokenStats;
use crate::ops::loss_head::TokenLoss;
use crate::random::Stream;
use crate::train::TrainError;
use crate::train::objective::advantage::advantages;
use crate::train::objective::reward::{RewardParts, expected, sampled_log_prob};
use crate::train::objective::trainer::StepKey;

/// A chain's reward and what it was made from.
#[derive(Clone, Debug, Default)]
pub struct ScoredCompletion {
    pub parts: RewardParts,
    /// KL to the start model, subtracted from the reward with its weight.
    pub kl: f64,
    pub expected: f64,
    pub mass: f64,
    /// Full-vocabulary log-probabilities of the scores, `[K]`.
    pub log_probs: Vec<f64>,
    /// Index of the sampled score; `None` where something else was sampled.
    pub sampled: Option<usize>,
    /// Its log-probability when it was sampled.
    pub sampled_log_p: f64,
    /// ρ, 1 for chains of the policy as it is.
    pub ratio: f64,
    pub advantage: f64,
}

/// Where the scores come from that rewards look at.
#[derive(Clone, Copy)]
pub enum Scores<'a> {
    /// Drawn now: the batch's `n`-th chain by this number in [0, 1).
    Draw(&'a (dyn Fn(u64) -> f64 + Sync)),
    /// Drawn before, by the policy that wrote the chains; its ratio to the policy now is wanted.
    Drawn(&'a [Vec<ScoredCompletion>]),
}

/// Keeps the random numbers of sampled scores apart from all others.
const SCORE_STREAM: u64 = 0x5C0_4E00_0000_0000;

impl PolicyTrainer {
    /// The numbers in [0, 1) by which the scores of batch `batch` of a step are drawn.
    pub(super) fn uniforms(&self, key: StepKey, batch: usize) -> impl Fn(u64) -> f64 {
        let first = (batch * self.micro_batch * self.settings.group) as u64;
        move |chain| Stream::new(key.seed, (key.step << 24) ^ (first + chain) ^ SCORE_STREAM).uniform()
    }

    /// Reads the score distribution behind every chain and rewards it, with the score that was sampled there. Advantages are
    /// left at 0.
    ///
    /// # Errors
    /// Chains over the planned sizes, or what the GPU reports.
    pub async fn rewards(
        &self,
        groups: &[PromptGroup<'_>],
        answer: &AnswerSpec<'_>,
        scores: Scores<'_>,
    ) -> Result<Vec<Vec<ScoredCompletion>>, TrainError> {
        let mut read = Vec::new();
        for sub_batch in self.sub_batches(groups) {
            self.read(&sub_batch, answer, scores, &mut read).await?;
        }
        Ok(by_group(&mut read.into_iter(), groups))
    }

    /// Reads one sub_batch and appends what its chains parts.
    async fn read(
        &self,
        groups: &[PromptGroup<'_>],
        answer: &AnswerSpec<'_>,
        scores: Scores<'_>,
        read: &mut Vec<ScoredCompletion>,
    ) -> Result<(), TrainError> {
        let with_actions = self.start.is_some() || matches!(scores, Scores::Drawn(_));
        let (mut batch, spans) = self.lay(groups);
        for (chain, spans) in chains(groups, &spans) {
            if with_actions {
                chain.actions.iter().zip(&spans.before).for_each(|(t, row)| batch.push_row(*row, TokenLoss::token(*t, 0.0)));
            }
            spans.nodes.iter().for_each(|node| batch.push_row(*node, TokenLoss::default()));
        }
        batch.sort_rows();
        self.pass.forward(&batch)?;
        let stats = self.pass.stats(batch.rows.len()).await?;
        let before = match &self.start {
            None => None,
            Some((_, pass)) => {
                pass.run(&batch)?;
                Some(pass.stats(batch.rows.len()).await?)
            }
        };
        let log_p = |stats: &[TokenStats], row: &u32| batch.row_at(*row).map_or(0.0, |row| f64::from(stats[row].log_p));
        let reward = &self.settings.reward;
        for (group, spans) in groups.iter().zip(&spans) {
            for (chain, spans) in group.chains.iter().zip(spans) {
                let number = read.len();
                let actions = &spans.before[..chain.actions.len().min(spans.before.len())];
                let log_probs = self.layout().log_probs(spans, &batch, &stats);
                let kl = before.as_ref().map_or(0.0, |b| actions.iter().map(|row| log_p(&stats, row) - log_p(b, row)).sum());
                let (mut ratio, sampled, sampled_log_p);
                match scores {
                    Scores::Draw(uniform) => {
                        ratio = 1.0;
                        sampled = draw(&log_probs, uniform(number as u64));
                        sampled_log_p = sampled_log_prob(&log_probs, sampled);
                    }
                    Scores::Drawn(before) => {
                        let then = before.iter().flatten().nth(number);
                        (sampled, sampled_log_p) = then.map_or((None, 0.0), |then| (then.sampled, then.sampled_log_p));
                        let moved = actions.iter().zip(&chain.log_ps).map(|(row, old)| log_p(&stats, row) - f64::from(*old));
                        let mut log_ratio: f64 = moved.sum();
                        if reward.samples_score() {
                            log_ratio += sampled_log_prob(&log_probs, sampled) - sampled_log_p;
                        }
                        ratio = log_ratio.exp();
                    }
                }
                if self.settings.ratio_cap > 0.0 {
                    ratio = ratio.min(self.settings.ratio_cap);
                }
                let parts = reward.parts(answer.scale, &log_probs, group.prompt.label(), sampled);
                let e = expected(reward.expectation, answer.scale, &log_probs);
                let mass = log_probs.iter().map(|l| l.exp()).sum();
                let known =
                    ScoredCompletion { parts, kl, expected: e, mass, log_probs, sampled, sampled_log_p, ratio, advantage: 0.0 };
                read.push(known);
            }
        }
        Ok(())
    }

    /// Advantages of every chain among those of its prompt.
    pub fn advantages(&self, scored: &mut [Vec<ScoredCompletion>]) {
        scored.iter_mut().for_each(|group| self.advantages_of_group(group));
    }

    fn advantages_of_group(&self, scored: &mut [ScoredCompletion]) {
        let kl = self.settings.kl;
        let of = |part: &dyn Fn(&ScoredCompletion) -> f64| {
            let rewards: Vec<f64> = scored.iter().map(part).collect();
            advantages(&rewards, self.settings.advantage)
        };
        let sum = if self.settings.separate_advantages {
            let part = |i: usize| of(&|r| r.parts.to_array()[i] - if i == 0 { kl * r.kl } else { 0.0 });
            let parts: Vec<Vec<f64>> = (0..RewardParts::default().to_array().len()).map(part).collect();
            (0..scored.len()).map(|i| parts.iter().map(|p| p[i]).sum()).collect()
        } else {
            of(&|r| r.parts.total() - kl * r.kl)
        };
        scored.iter_mut().zip(sum).for_each(|(r, a): (&mut ScoredCompletion, f64)| r.advantage = a);
    }
}

/// The next of `each`, in the groups of these prompts.
pub(super) fn by_group(each: &mut impl Iterator<Item = ScoredCompletion>, groups: &[PromptGroup]) -> Vec<Vec<ScoredCompletion>> {
    groups.iter().map(|group| each.by_ref().take(group.chains.len()).collect()).collect()
}

/// The score that `u` falls on; `None` for the rest of the vocabulary.
fn draw(log_probs: &[f64], u: f64) -> Option<usize> {
    let mut sum = 0.0;
    log_probs.iter().position(|l| {
        sum += l.exp();
        u < sum
    })
}
