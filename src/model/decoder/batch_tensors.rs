//! What the passes over packed batches share: their inputs, and how rows are read out of the last hidden states.

use super::{Inputs, Recorder, rope_table, rope_values, words};
use crate::gpu::{Extent, Plan, PlanBuilder, RunParam, RunParams, Tensor};
use crate::model::batch::PackedInputs;
use crate::model::config::Config;
use crate::model::error::ModelError;
use crate::model::weights::Weights;
use crate::ops::attention::SPAN_WORDS;
use crate::ops::matmul::Epilogue;
use crate::ops::rope::Positions;
use crate::ops::{matmul, rmsnorm, rows};

/// The parts that every packed pass shares.
pub(super) struct Front {
    ids: Tensor,
    positions: Tensor,
    pub spans: Tensor,
    pub rows: Tensor,
    rope: Tensor,
    pub tokens: Extent,
    /// Of the rows that carry loss.
    pub count: Extent,
    params: FrontLive,
}

/// RunParam values of every packed pass.
struct FrontLive {
    tokens: RunParam,
    rows: RunParam,
}

impl Front {
    pub(super) fn new(plan: &mut PlanBuilder, weights: &Weights, tokens: usize, rows: usize) -> Self {
        let params = FrontLive { tokens: plan.run_param(), rows: plan.run_param() };
        Front {
            ids: plan.persistent("token ids", tokens),
            positions: plan.persistent("positions", tokens),
            spans: plan.persistent("spans", tokens * SPAN_WORDS),
            rows: plan.persistent("loss rows", rows),
            rope: rope_table(plan, &weights.config, positions(&weights.config, tokens)),
            tokens: Extent::dynamic(params.tokens, tokens as u32),
            count: Extent::dynamic(params.rows, rows as u32),
            params,
        }
    }

    pub(super) fn inputs(&self) -> Inputs {
        let positions = (self.positions, Positions::Plain);
        Inputs { ids: self.ids, positions, rope: self.rope, tokens: self.tokens }
    }

    /// Fills what no batch changes, once the plan is built.
    pub(super) fn write_rope(&self, plan: &Plan, config: &Config, tokens: usize) -> Result<(), ModelError> {
        Ok(plan.write(self.rope, &rope_values(config, positions(config, tokens)))?)
    }

    /// Uploads a batch that was checked; its run parameters.
    pub(super) fn write(&self, plan: &Plan, batch: &PackedInputs) -> Result<RunParams, ModelError> {
        plan.write(self.ids, &batch.ids)?;
        plan.write(self.positions, &batch.positions)?;
        plan.write(self.spans, &batch.spans)?;
        plan.write(self.rows, &batch.rows)?;
        Ok([(self.params.tokens, batch.ids.len() as u32), (self.params.rows, batch.rows.len() as u32)].into())
    }
}

/// Positions that a batch of so many tokens can have: no sequence is longer than the batch.
fn positions(config: &Config, tokens: usize) -> usize {
    config.max_position_embeddings.min(tokens)
}

impl Recorder<'_> {
    /// Picks `rows` of the residual stream and norms them: both as `[rows, H]`.
    pub(super) fn chosen(&self, plan: &mut PlanBuilder, rows: Tensor, hidden: Tensor, count: Extent) -> (Tensor, Tensor) {
        let width = self.shape.hidden;
        let chosen = plan.scratch("chosen rows", words(count, width));
        rows::gather(plan, rows, hidden, chosen, count, width);
        let normed = plan.scratch("normed rows", words(count, width));
        let w = self.weights.tensor(plan, self.weights.groups.final_norm);
        rmsnorm::forward(plan, self.shape.norm(), chosen, w, normed, count);
        (chosen, normed)
    }

    /// `logits[R, V]` of `rows` of the last hidden states: gather, final norm, head.
    pub(super) fn logits(&self, plan: &mut PlanBuilder, rows: Tensor, hidden: Tensor, logits: Tensor, count: Extent) {
        let width = self.shape.hidden;
        let (_, normed) = self.chosen(plan, rows, hidden, count);
        let table = self.weights.matrix(plan, self.weights.groups.output());
        let sizes = [count, Extent::fixed(self.shape.vocab), Extent::fixed(width)];
        matmul::forward(plan, normed, &table, logits, sizes, Epilogue::Write);
    }
}
