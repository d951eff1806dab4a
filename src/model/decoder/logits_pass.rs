//! The pass that computes logits.

use super::batch_tensors::BatchTensors;
use super::{Attention, Recorder};
use crate::gpu::{Gpu, Plan, PlanBuilder, Tensor};
use crate::model::batch::{BatchLimits, PackedInputs};
use crate::model::error::ModelError;
use crate::model::weights::Weights;
use crate::ops::loss_head::TokenLoss;

/// Forward over a packed batch, with all logits at its loss positions: for checks and small models.
pub struct LogitsPass {
    weights: Weights,
    plan: Plan,
    batch: BatchTensors,
    logits: Tensor,
    limits: BatchLimits,
}

impl LogitsPass {
    /// Plans for at most `tokens` tokens and `losses` loss positions. The whole of `[losses, V]` is in memory.
    pub fn new(gpu: &Gpu, weights: &Weights, tokens: usize, losses: usize) -> Result<Self, ModelError> {
        let recorder = Recorder::new(weights);
        let mut plan = PlanBuilder::new(gpu.tuning());
        let batch = BatchTensors::new(&mut plan, weights, tokens, losses);
        let trace = recorder.record_forward(&mut plan, batch.inputs(), &Attention::Packed(batch.spans));
        let logits = plan.persistent("logits", losses * weights.config.vocab_size);
        recorder.record_logits(&mut plan, batch.loss_positions, trace.output, logits, batch.losses);
        let plan = plan.build(gpu)?;
        batch.write_ropes(&plan, &weights.config, tokens)?;
        let limits = BatchLimits { tokens, loss_positions: losses, scores: 0 };
        Ok(LogitsPass { weights: weights.clone(), plan, batch, logits, limits })
    }

    /// Logits `[R, V]` at the batch's loss positions. Its losses are not used.
    pub async fn run(&self, batch: &PackedInputs) -> Result<Vec<f32>, ModelError> {
        let losses = vec![TokenLoss::default(); batch.loss_positions.len()];
        let batch = PackedInputs { losses, coefficients: Vec::new(), ..batch.clone() };
        batch.check(&self.weights.config, self.limits)?;
        let params = self.batch.upload(&self.plan, &batch)?;
        self.plan.run(&params)?;
        Ok(self.plan.read(self.logits, batch.loss_positions.len() * self.weights.config.vocab_size).await?)
    }
}
