//! The pass that measures what enters the projections, so that rounding of their weights can be weighed by it.

use super::batch_tensors::BatchTensors;
use super::{Attention, Recorder};
use crate::gpu::{Gpu, Plan, PlanBuilder, Tensor};
use crate::model::batch::{BatchLimits, PackedInputs};
use crate::model::error::ModelError;
use crate::model::quantised::ColumnSquares;
use crate::model::weights::Weights;
use crate::ops::loss_head::TokenLoss;

/// Forward over packed batches that adds up the squares of each projection's inputs, by input column.
pub struct InputSquaresPass {
    weights: Weights,
    plan: Plan,
    batch: BatchTensors,
    /// The groups of the projections, and `[inputs]` of each.
    sums: Vec<(usize, Tensor)>,
    limits: BatchLimits,
}

impl InputSquaresPass {
    /// Plans for at most `tokens` tokens.
    ///
    /// # Errors
    /// Too little GPU memory.
    pub fn new(gpu: &Gpu, weights: &Weights, tokens: usize) -> Result<Self, ModelError> {
        let mut recorder = Recorder::new(weights);
        let mut plan = PlanBuilder::new(gpu.tuning());
        let batch = BatchTensors::new(&mut plan, weights, tokens, 1);
        let groups = &weights.groups;
        let projections = groups.layers.iter().flat_map(|layer| [layer.qkv, layer.o, layer.gate_up, layer.down]);
        let sums: Vec<(usize, Tensor)> =
            projections.map(|group| (group, plan.persistent("squares of inputs", groups.list[group].cols))).collect();
        recorder.input_squares = sums.iter().copied().collect();
        recorder.record_forward(&mut plan, batch.inputs(), &Attention::Packed(batch.spans));
        let plan = plan.build(gpu)?;
        batch.write_ropes(&plan, &weights.config, tokens)?;
        for (group, sums) in &sums {
            plan.write(*sums, &vec![0f32; groups.list[*group].cols])?;
        }
        let limits = BatchLimits { tokens, loss_positions: 1, scores: 0 };
        Ok(InputSquaresPass { weights: weights.clone(), plan, batch, sums, limits })
    }

    /// Adds the tokens of a batch, which needs no loss positions.
    ///
    /// # Errors
    /// More tokens than planned; ids outside the vocabulary.
    pub fn add(&self, mut batch: PackedInputs) -> Result<(), ModelError> {
        batch.push_loss(0, TokenLoss::default());
        batch.check(&self.weights.config, self.limits)?;
        let params = self.batch.upload(&self.plan, &batch)?;
        Ok(self.plan.run(&params)?)
    }

    /// The squares of all batches.
    ///
    /// # Errors
    /// Those of the GPU; inputs that are not finite, or whose squares f32 cannot hold.
    pub async fn squares(&self) -> Result<ColumnSquares, ModelError> {
        let mut squares = ColumnSquares::default();
        for (group, sums) in &self.sums {
            let group = &self.weights.groups.list[*group];
            let values: Vec<f32> = self.plan.read(*sums, group.cols).await?;
            if let Some(index) = values.iter().position(|x| !x.is_finite()) {
                let tensor = format!("what enters {}", group.name);
                return Err(ModelError::NonFinite { tensor, index, value: values[index] });
            }
            group.parts.iter().for_each(|part| squares.insert(&part.hf_name, &values));
        }
        Ok(squares)
    }
}
