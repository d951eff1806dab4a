//! The losses of a step, both terms of the gradient as token losses of one packed batch, and the backward pass.

use super::{Aggregation, AnswerSpec, Completion, PolicyTrainer, PromptGroup, ScoredCompletion};
use crate::judge::{BatchLayout, CompletionSpans};
use crate::model::decoder::{PackedInputs, TokenStats};
use crate::ops::loss_head::TokenLoss;
use crate::ranks::Ranks;
use crate::train::TrainError;
use crate::train::objective::reward::sampled_gradient;

/// Counts of a step, which its means divide by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub completions: usize,
    /// Actions, and one score per completion.
    pub tokens: usize,
}

impl Totals {
    /// Counts the completions of all batches of a step.
    pub fn of(batches: &[Vec<PromptGroup>]) -> Self {
        let completions = || batches.iter().flatten().flat_map(|group| &group.completions);
        Totals { completions: completions().count(), tokens: completions().map(|c| c.actions.len() + 1).sum() }
    }

    /// The sum over all ranks, of which these are the counts of one.
    pub(super) fn of_all_ranks(self, ranks: &Ranks) -> Result<Self, TrainError> {
        let all = ranks.all_gather_numbers(&[self.completions as f64, self.tokens as f64])?;
        let sum = |i: usize| all.iter().filter_map(|counts| counts.get(i)).sum::<f64>() as usize;
        Ok(Totals { completions: sum(0), tokens: sum(1) })
    }
}

impl PolicyTrainer {
    pub(super) fn layout(&self) -> BatchLayout<'_> {
        BatchLayout { tokens: &self.tokens, reads: self.reads }
    }

    /// Packs prompt groups into a batch. Returns it without losses, and the spans of every completion, by group.
    pub fn pack(&self, groups: &[PromptGroup]) -> (PackedInputs, Vec<Vec<CompletionSpans>>) {
        let mut batch = PackedInputs::default();
        let push = |group: &PromptGroup| {
            let continuations: Vec<&[u32]> = group.completions.iter().map(|c| c.continuation.as_slice()).collect();
            self.layout().push(&mut batch, &group.prompt.ids, &continuations)
        };
        let spans = groups.iter().map(push).collect();
        (batch, spans)
    }

    /// The packed batch with the losses of both terms. The loss is minus the reward.
    pub fn losses(
        &self,
        groups: &[PromptGroup],
        scored: &[Vec<ScoredCompletion>],
        answer: &AnswerSpec,
        totals: &Totals,
    ) -> PackedInputs {
        let s = &self.settings;
        let per_completion = 1.0 / totals.completions as f64;
        let per_token = match s.aggregation {
            Aggregation::Sum => per_completion,
            Aggregation::TokenMean => 1.0 / totals.tokens as f64,
        };
        let (mut batch, spans) = self.pack(groups);
        for ((group, spans), scored) in groups.iter().zip(&spans).zip(scored) {
            for ((completion, spans), scored) in group.completions.iter().zip(spans).zip(scored) {
                // Exploration: A ∇ log π of every action.
                let explore = s.exploration * scored.ratio * scored.advantage * per_token;
                for (token, predictor) in completion.actions.iter().zip(&spans.predictors) {
                    let entropy_weight = -(s.entropy_bonus * per_token) as f32;
                    batch.push_loss(*predictor, TokenLoss { entropy_weight, ..TokenLoss::token(*token, explore as f32) });
                }
                // Refinement: β ∇r of the score distribution.
                let refine = s.refinement * scored.ratio * per_completion;
                let mut coefficients = s.reward.gradient(answer.scale, &scored.log_probs, group.prompt.label());
                coefficients.iter_mut().for_each(|c| *c *= refine);
                // A sampled score is an action too.
                if s.reward.samples_score() {
                    let gradient = sampled_gradient(&scored.log_probs, scored.sampled);
                    coefficients.iter_mut().zip(gradient).for_each(|(c, g)| *c += explore * g);
                }
                self.layout().push_scores(spans, &mut batch, &coefficients);
            }
        }
        batch.sort_losses();
        batch
    }

    /// Adds the gradient of a batch's losses to the optimiser's and returns the statistics of its loss positions. `forward_done`: the
    /// batch has the completions that [`PolicyTrainer::rewards`] read last, so the forward pass need not run again.
    ///
    /// # Errors
    /// A batch over the planned sizes, `forward_done` with other completions than those just read, or what the GPU reports.
    pub async fn accumulate_gradient(&self, batch: &PackedInputs, forward_done: bool) -> Result<Vec<TokenStats>, TrainError> {
        if forward_done {
            self.pass.backward(batch)?
        } else {
            self.pass.run(batch)?
        }
        Ok(self.pass.stats(batch.loss_positions.len()).await?)
    }
}

/// All completions with their spans.
pub(super) fn completions<'a>(
    groups: &'a [PromptGroup],
    spans: &'a [Vec<CompletionSpans>],
) -> impl Iterator<Item = (&'a Completion, &'a CompletionSpans)> {
    groups.iter().zip(spans).flat_map(|(group, spans)| group.completions.iter().zip(spans))
}
