//! What chains earn: the score distribution behind each is read from the policy, rewarded, and compared within its group.

use super::objective::chains;
use super::{PolicyTrainer, Rolled, Speech};
use crate::model::decoder::RowStats;
use crate::ops::loss_head::RowObjective;
use crate::random::Stream;
use crate::train::TrainError;
use crate::train::objective::advantage::advantages;
use crate::train::objective::reward::{Earned, expected, sampled_log_prob};
use crate::train::objective::trainer::StepKey;

/// A chain's reward and what it was made from.
#[derive(Clone, Debug, Default)]
pub struct Rewarded {
    pub earned: Earned,
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
    Draw(&'a dyn Fn(u64) -> f64),
    /// Drawn before, by the policy that wrote the chains; its ratio to the policy now is wanted.
    Drawn(&'a [Vec<Rewarded>]),
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
        rolled: &[Rolled<'_>],
        speech: &Speech<'_>,
        scores: Scores<'_>,
    ) -> Result<Vec<Vec<Rewarded>>, TrainError> {
        let mut read = Vec::new();
        for piece in self.pieces(rolled) {
            self.read(&piece, speech, scores, &mut read).await?;
        }
        Ok(grouped(&mut read.into_iter(), rolled))
    }

    /// Reads one piece and appends what its chains earned.
    async fn read(
        &self,
        rolled: &[Rolled<'_>],
        speech: &Speech<'_>,
        scores: Scores<'_>,
        read: &mut Vec<Rewarded>,
    ) -> Result<(), TrainError> {
        let with_actions = self.start.is_some() || matches!(scores, Scores::Drawn(_));
        let (mut batch, placed) = self.lay(rolled);
        for (chain, placed) in chains(rolled, &placed) {
            if with_actions {
                chain.actions.iter().zip(&placed.before).for_each(|(t, row)| batch.push_row(*row, RowObjective::token(*t, 0.0)));
            }
            placed.nodes.iter().for_each(|node| batch.push_row(*node, RowObjective::default()));
        }
        batch.sort_rows();
        self.pass.read(&batch)?;
        let stats = self.pass.stats(batch.rows.len()).await?;
        let before = match &self.start {
            None => None,
            Some((_, pass)) => {
                pass.run(&batch)?;
                Some(pass.stats(batch.rows.len()).await?)
            }
        };
        let log_p = |stats: &[RowStats], row: &u32| batch.row_at(*row).map_or(0.0, |row| f64::from(stats[row].log_p));
        let reward = &self.settings.reward;
        for (group, placed) in rolled.iter().zip(&placed) {
            for (chain, placed) in group.chains.iter().zip(placed) {
                let number = read.len();
                let actions = &placed.before[..chain.actions.len().min(placed.before.len())];
                let log_probs = self.placement().log_probs(placed, &batch, &stats);
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
                let earned = reward.earned(speech.scale, &log_probs, group.prompt.label(), sampled);
                let e = expected(reward.expectation, speech.scale, &log_probs);
                let mass = log_probs.iter().map(|l| l.exp()).sum();
                let known = Rewarded { earned, kl, expected: e, mass, log_probs, sampled, sampled_log_p, ratio, advantage: 0.0 };
                read.push(known);
            }
        }
        Ok(())
    }

    /// Advantages of every chain among those of its prompt.
    pub fn advantages(&self, rewarded: &mut [Vec<Rewarded>]) {
        rewarded.iter_mut().for_each(|group| self.advantages_of_group(group));
    }

    fn advantages_of_group(&self, rewarded: &mut [Rewarded]) {
        let kl = self.settings.kl;
        let of = |part: &dyn Fn(&Rewarded) -> f64| {
            let rewards: Vec<f64> = rewarded.iter().map(part).collect();
            advantages(&rewards, self.settings.advantage)
        };
        let sum = if self.settings.separate_advantages {
            let part = |i: usize| of(&|r| r.earned.parts()[i] - if i == 0 { kl * r.kl } else { 0.0 });
            let parts: Vec<Vec<f64>> = (0..Earned::default().parts().len()).map(part).collect();
            (0..rewarded.len()).map(|i| parts.iter().map(|p| p[i]).sum()).collect()
        } else {
            of(&|r| r.earned.total() - kl * r.kl)
        };
        rewarded.iter_mut().zip(sum).for_each(|(r, a): (&mut Rewarded, f64)| r.advantage = a);
    }
}

/// The next of `each`, in the groups of these prompts.
pub(super) fn grouped(each: &mut impl Iterator<Item = Rewarded>, rolled: &[Rolled]) -> Vec<Vec<Rewarded>> {
    rolled.iter().map(|group| each.by_ref().take(group.chains.len()).collect()).collect()
}

/// The score that `u` falls on; `None` for the rest of the vocabulary.
fn draw(log_probs: &[f64], u: f64) -> Option<usize> {
    let mut sum = 0.0;
    log_probs.iter().position(|l| {
        sum += l.exp();
        u < sum
    })
}
