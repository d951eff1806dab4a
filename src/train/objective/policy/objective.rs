//! The losses of a step: both terms of the gradient as objectives of rows in one packed batch, and their way back.

use super::{Aggregation, AnswerSpec, Completion, PolicyTrainer, PromptGroup, ScoredCompletion};
use crate::judge::{BatchLayout, CompletionSpans};
use crate::model::decoder::{PackedInputs, TokenStats};
use crate::ops::loss_head::TokenLoss;
use crate::train::TrainError;
use crate::train::objective::reward::sampled_gradient;

/// What the means of a step divide by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub chains: usize,
    /// Actions and score tokens.
    pub tokens: usize,
}

impl Totals {
    /// Counts all chains of a step.
    pub fn of(all: &[Vec<PromptGroup>]) -> Self {
        let chains = || all.iter().flatten().flat_map(|r| &r.chains);
        Totals { chains: chains().count(), tokens: chains().map(|c| c.actions.len() + 1).sum() }
    }
}

impl PolicyTrainer {
    pub(super) fn layout(&self) -> BatchLayout<'_> {
        BatchLayout { tokens: &self.tokens, reads: self.reads }
    }

    /// Prompts with their chains in a batch, and where each chain is.
    pub fn lay(&self, groups: &[PromptGroup]) -> (PackedInputs, Vec<Vec<CompletionSpans>>) {
        let mut batch = PackedInputs::default();
        let lay = |group: &PromptGroup| {
            let fed: Vec<&[u32]> = group.chains.iter().map(|c| c.fed.as_slice()).collect();
            self.layout().lay(&mut batch, &group.prompt.ids, &fed)
        };
        let spans = groups.iter().map(lay).collect();
        (batch, spans)
    }

    /// The packed batch with both terms as objectives: the loss is minus the reward.
    pub fn objectives(
        &self,
        groups: &[PromptGroup],
        scored: &[Vec<ScoredCompletion>],
        answer: &AnswerSpec,
        totals: &Totals,
    ) -> PackedInputs {
        let s = &self.settings;
        let per_chain = 1.0 / totals.chains as f64;
        let per_token = match s.aggregation {
            Aggregation::Sum => per_chain,
            Aggregation::TokenMean => 1.0 / totals.tokens as f64,
        };
        let (mut batch, spans) = self.lay(groups);
        for ((group, spans), scored) in groups.iter().zip(&spans).zip(scored) {
            for ((chain, spans), reward) in group.chains.iter().zip(spans).zip(scored) {
                let explore = s.exploration * reward.ratio * reward.advantage * per_token;
                for (token, row) in chain.actions.iter().zip(&spans.before) {
                    let entropy_weight = -(s.entropy_bonus * per_token) as f32;
                    batch.push_loss(*row, TokenLoss { entropy_weight, ..TokenLoss::token(*token, explore as f32) });
                }
                let refine = s.refinement * reward.ratio * per_chain;
                let mut of_scores = s.reward.gradient(answer.scale, &reward.log_probs, group.prompt.label());
                of_scores.iter_mut().for_each(|c| *c *= refine);
                if s.reward.samples_score() {
                    let sampled = sampled_gradient(&reward.log_probs, reward.sampled);
                    of_scores.iter_mut().zip(sampled).for_each(|(c, slope)| *c += explore * slope);
                }
                self.layout().push_scores(spans, &mut batch, &of_scores);
            }
        }
        batch.sort_losses();
        batch
    }

    /// Adds the gradient of a batch to the optimiser's and returns what the batch's rows said. `fresh`: its chains are those
    /// that [`PolicyTrainer::rewards`] read last, so that the forward pass need not be run again.
    ///
    /// # Errors
    /// A batch over the planned sizes, other chains than those just read, or what the GPU reports.
    pub async fn accumulate(&self, batch: &PackedInputs, fresh: bool) -> Result<Vec<TokenStats>, TrainError> {
        if fresh {
            self.pass.backward(batch)?
        } else {
            self.pass.run(batch)?
        }
        Ok(self.pass.stats(batch.loss_positions.len()).await?)
    }
}

/// All chains with their places.
pub(super) fn chains<'a>(
    groups: &'a [PromptGroup],
    spans: &'a [Vec<CompletionSpans>],
) -> impl Iterator<Item = (&'a Completion, &'a CompletionSpans)> {
    groups.iter().zip(spans).flat_map(|(group, spans)| group.chains.iter().zip(spans))
}
