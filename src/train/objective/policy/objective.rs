//! The losses of a step: both terms of the gradient as objectives of rows in one packed batch, and their way back.

use super::{Aggregation, Closed, PolicyTrainer, Rewarded, Rolled, Speech};
use crate::judge::{Placed, Placement};
use crate::model::decoder::{PackedInputs, RowStats};
use crate::ops::loss_head::RowObjective;
use crate::train::TrainError;
use crate::train::objective::reward::sampled_slopes;

/// What the means of a step divide by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub chains: usize,
    /// Actions and score tokens.
    pub tokens: usize,
}

impl Totals {
    /// Counts all chains of a step.
    pub fn of(all: &[Vec<Rolled>]) -> Self {
        let chains = || all.iter().flatten().flat_map(|r| &r.chains);
        Totals { chains: chains().count(), tokens: chains().map(|c| c.actions.len() + 1).sum() }
    }
}

impl PolicyTrainer {
    pub(super) fn placement(&self) -> Placement<'_> {
        Placement { tokens: &self.tokens, reads: self.reads }
    }

    /// Prompts with their chains in a batch, and where each chain is.
    pub fn lay(&self, rolled: &[Rolled]) -> (PackedInputs, Vec<Vec<Placed>>) {
        let mut batch = PackedInputs::default();
        let lay = |group: &Rolled| {
            let fed: Vec<&[u32]> = group.chains.iter().map(|c| c.fed.as_slice()).collect();
            self.placement().lay(&mut batch, &group.prompt.ids, &fed)
        };
        let placed = rolled.iter().map(lay).collect();
        (batch, placed)
    }

    /// The packed batch with both terms as objectives: the loss is minus the reward.
    pub fn objectives(&self, rolled: &[Rolled], rewarded: &[Vec<Rewarded>], speech: &Speech, totals: &Totals) -> PackedInputs {
        let s = &self.settings;
        let per_chain = 1.0 / totals.chains as f64;
        let per_token = match s.aggregation {
            Aggregation::Sum => per_chain,
            Aggregation::TokenMean => 1.0 / totals.tokens as f64,
        };
        let (mut batch, placed) = self.lay(rolled);
        for ((group, placed), rewarded) in rolled.iter().zip(&placed).zip(rewarded) {
            for ((chain, placed), reward) in group.chains.iter().zip(placed).zip(rewarded) {
                let explore = s.exploration * reward.ratio * reward.advantage * per_token;
                for (token, row) in chain.actions.iter().zip(&placed.before) {
                    let entropy_weight = -(s.entropy_bonus * per_token) as f32;
                    batch.push_row(*row, RowObjective { entropy_weight, ..RowObjective::token(*token, explore as f32) });
                }
                let refine = s.refinement * reward.ratio * per_chain;
                let mut of_scores = s.reward.slopes(speech.scale, &reward.log_probs, group.prompt.label());
                of_scores.iter_mut().for_each(|c| *c *= refine);
                if s.reward.samples_score() {
                    let sampled = sampled_slopes(&reward.log_probs, reward.sampled);
                    of_scores.iter_mut().zip(sampled).for_each(|(c, slope)| *c += explore * slope);
                }
                self.placement().push_scores(placed, &mut batch, &of_scores);
            }
        }
        batch.sort_rows();
        batch
    }

    /// Adds the gradient of a batch to the optimiser's and returns what the batch's rows said. `fresh`: its chains are those
    /// that [`PolicyTrainer::rewards`] read last, so that the forward pass need not be run again.
    ///
    /// # Errors
    /// A batch over the planned sizes, other chains than those just read, or what the GPU reports.
    pub async fn accumulate(&self, batch: &PackedInputs, fresh: bool) -> Result<Vec<RowStats>, TrainError> {
        if fresh {
            self.pass.learn(batch)?
        } else {
            self.pass.run(batch)?
        }
        Ok(self.pass.stats(batch.rows.len()).await?)
    }
}

/// All chains with their places.
pub(super) fn chains<'a>(rolled: &'a [Rolled], placed: &'a [Vec<Placed>]) -> impl Iterator<Item = (&'a Closed, &'a Placed)> {
    rolled.iter().zip(placed).flat_map(|(group, placed)| group.chains.iter().zip(placed))
}
