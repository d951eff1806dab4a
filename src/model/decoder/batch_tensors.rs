//! What the passes over packed batches share: the tensors of a batch, and logits at loss positions.

use super::{Inputs, Recorder, rope_tables, words, write_ropes};
use crate::gpu::{Extent, Plan, PlanBuilder, RunParam, RunParams, Tensor};
use crate::model::batch::PackedInputs;
use crate::model::config::Config;
use crate::model::error::ModelError;
use crate::model::weights::Weights;
use crate::ops::attention::SPAN_WORDS;
use crate::ops::matmul::Epilogue;
use crate::ops::rope::Positions;
use crate::ops::{matmul, rmsnorm, rows};

/// The tensors and run parameters of a packed batch.
pub(super) struct BatchTensors {
    ids: Tensor,
    positions: Tensor,
    pub spans: Tensor,
    pub loss_positions: Tensor,
    ropes: Vec<Tensor>,
    pub tokens: Extent,
    /// Number of loss positions.
    pub losses: Extent,
    params: BatchParams,
}

/// The run parameters of a packed batch.
struct BatchParams {
    tokens: RunParam,
    losses: RunParam,
}

impl BatchTensors {
    /// For at most `tokens` tokens and `losses` loss positions.
    pub(super) fn new(plan: &mut PlanBuilder, weights: &Weights, tokens: usize, losses: usize) -> Self {
        let params = BatchParams { tokens: plan.run_param(), losses: plan.run_param() };
        BatchTensors {
            ids: plan.persistent("token ids", tokens),
            positions: plan.persistent("positions", tokens),
            spans: plan.persistent("spans", tokens * SPAN_WORDS),
            loss_positions: plan.persistent("loss positions", losses),
            ropes: rope_tables(plan, &weights.config, positions(&weights.config, tokens)),
            tokens: Extent::dynamic(params.tokens, tokens as u32),
            losses: Extent::dynamic(params.losses, losses as u32),
            params,
        }
    }

    pub(super) fn inputs(&self) -> Inputs<'_> {
        let positions = (self.positions, Positions::Plain);
        Inputs { ids: self.ids, positions, ropes: &self.ropes, tokens: self.tokens }
    }

    /// Writes the rope tables, which are the same for all batches, once the plan is built.
    pub(super) fn write_ropes(&self, plan: &Plan, config: &Config, tokens: usize) -> Result<(), ModelError> {
        write_ropes(plan, config, &self.ropes, positions(config, tokens))
    }

    /// Uploads a checked batch. Returns its run parameters.
    pub(super) fn upload(&self, plan: &Plan, batch: &PackedInputs) -> Result<RunParams, ModelError> {
        plan.write(self.ids, &batch.ids)?;
        plan.write(self.positions, &batch.positions)?;
        plan.write(self.spans, &batch.spans)?;
        plan.write(self.loss_positions, &batch.loss_positions)?;
        Ok([(self.params.tokens, batch.ids.len() as u32), (self.params.losses, batch.loss_positions.len() as u32)].into())
    }
}

/// Most positions in a batch of `tokens` tokens: no sequence is longer than the batch.
fn positions(config: &Config, tokens: usize) -> usize {
    config.max_position_embeddings.min(tokens)
}

impl Recorder<'_> {
    /// Gathers `count` rows of the residual stream and applies the final norm. Returns the gathered and the normed rows,
    /// `[rows, H]` each.
    pub(super) fn record_gather_normed(
        &self,
        plan: &mut PlanBuilder,
        rows: Tensor,
        hidden: Tensor,
        count: Extent,
    ) -> (Tensor, Tensor) {
        let width = self.shape.hidden;
        let gathered = plan.scratch("gathered rows", words(count, width));
        rows::record_gather(plan, rows, hidden, gathered, count, width);
        let normed = plan.scratch("normed rows", words(count, width));
        let w = self.weights.tensor(plan, self.weights.groups.final_norm);
        rmsnorm::record_forward(plan, self.shape.norm, gathered, w, normed, count);
        (gathered, normed)
    }

    /// `logits[rows, V]` of `count` rows of the last hidden states: gather, final norm, head.
    pub(super) fn record_logits(&self, plan: &mut PlanBuilder, rows: Tensor, hidden: Tensor, logits: Tensor, count: Extent) {
        let width = self.shape.hidden;
        let (_, normed) = self.record_gather_normed(plan, rows, hidden, count);
        let table = self.weights.matrix(plan, self.weights.groups.output());
        let sizes = [count, Extent::fixed(self.shape.vocab), Extent::fixed(width)];
        matmul::record_forward(plan, normed, &table, logits, sizes, Epilogue::Write);
    }
}
