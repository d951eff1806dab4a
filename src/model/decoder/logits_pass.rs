//! The pass that reads logits.

use super::front::Front;
use super::{Attention, Recorder};
use crate::gpu::{Gpu, Plan, PlanBuilder, Tensor};
use crate::model::batch::{BatchLimits, PackedInputs};
use crate::model::error::ModelError;
use crate::model::weights::Weights;
use crate::ops::loss_head::TokenLoss;

/// Forward over a packed batch, and all logits of the chosen rows: for checks and small models.
pub struct LogitsPass {
    weights: Weights,
    plan: Plan,
    front: Front,
    logits: Tensor,
    most: BatchLimits,
}

impl LogitsPass {
    /// Plans for at most `tokens` tokens and `rows` rows. The logits `[rows, V]` exist as a whole.
    pub fn new(gpu: &Gpu, weights: &Weights, tokens: usize, rows: usize) -> Result<Self, ModelError> {
        let recorder = Recorder::new(weights);
        let mut plan = PlanBuilder::new(gpu.tuning());
        let front = Front::new(&mut plan, weights, tokens, rows);
        let trace = recorder.forward(&mut plan, front.inputs(), &Attention::Packed(front.spans));
        let logits = plan.persistent("logits", rows * weights.config.vocab_size);
        recorder.logits(&mut plan, front.rows, trace.output, logits, front.count);
        let plan = plan.build(gpu)?;
        front.write_rope(&plan, &weights.config, tokens)?;
        let most = BatchLimits { tokens, rows, scores: 0 };
        Ok(LogitsPass { weights: weights.clone(), plan, front, logits, most })
    }

    /// Logits `[R, V]` of the batch's rows; its objectives are not used.
    pub async fn run(&self, batch: &PackedInputs) -> Result<Vec<f32>, ModelError> {
        let objectives = vec![TokenLoss::default(); batch.rows.len()];
        let batch = PackedInputs { objectives, coefficients: Vec::new(), ..batch.clone() };
        batch.check(&self.weights.config, self.most)?;
        let params = self.front.write(&self.plan, &batch)?;
        self.plan.run(&params)?;
        Ok(self.plan.read(self.logits, batch.rows.len() * self.weights.config.vocab_size).await?)
    }
}
