//! The supervised training step: examples in, a changed model and a few numbers out. Knows no files and no clock.

use super::TrainError;
use super::config::TrainConfig;
use super::optimiser::{Optimiser, OptimiserSettings, StepOutcome};
use super::pack::{Example, pack};
use crate::gpu::Gpu;
use crate::model::decoder::{PackedInputs, Pass, PassSizes, RowStats};
use crate::model::weights::Weights;

/// Model, optimiser and the plans between them.
pub struct Trainer {
    pub gpu: Gpu,
    pub weights: Weights,
    pub optimiser: Optimiser,
    pass: Pass,
    micro_batch: usize,
}

/// What a step or an evaluation found.
#[derive(Clone, Debug, Default)]
pub struct StepNumbers {
    /// Weighted mean of the cross-entropy, in nats a target.
    pub loss: f64,
    /// Mean entropy of the next-token distribution at the targets, in nats.
    pub entropy: f64,
    pub tokens: usize,
    pub grad_norm: f32,
    /// False: the gradient was not finite and nothing was changed.
    pub applied: bool,
    /// More figures for the log, by name.
    pub extra: Vec<(&'static str, f64)>,
}

/// Sums over the rows of several batches.
#[derive(Default)]
struct Sums {
    loss: f64,
    weight: f64,
    entropy: f64,
    rows: usize,
    tokens: usize,
}

impl Sums {
    fn add(&mut self, batch: &PackedInputs, stats: &[RowStats]) {
        for (objective, row) in batch.objectives.iter().zip(stats) {
            let (a, b) = (f64::from(objective.weight_a), f64::from(objective.weight_b));
            self.loss -= a * f64::from(row.log_p_a) + b * f64::from(row.log_p_b);
            self.weight += a + b;
            self.entropy += f64::from(row.entropy);
        }
        self.rows += stats.len();
        self.tokens += batch.ids.len();
    }

    fn numbers(&self, outcome: StepOutcome) -> StepNumbers {
        StepNumbers {
            loss: self.loss / self.weight.max(f64::MIN_POSITIVE),
            entropy: self.entropy / self.rows.max(1) as f64,
            tokens: self.tokens,
            grad_norm: outcome.grad_norm,
            applied: outcome.applied,
            extra: Vec::new(),
        }
    }
}

/// AdamW's settings in a config.
pub fn optimiser_settings(config: &TrainConfig) -> OptimiserSettings {
    OptimiserSettings {
        beta1: config.adam_beta1,
        beta2: config.adam_beta2,
        epsilon: config.adam_epsilon,
        weight_decay: config.weight_decay,
        max_grad_norm: config.max_grad_norm,
    }
}

/// Tokens and loss rows that any `batch` of these examples can have: those of the largest.
fn budget(examples: &[Example], batch: usize) -> (usize, usize) {
    let largest = |of: &dyn Fn(&Example) -> usize| {
        let mut sizes: Vec<usize> = examples.iter().map(of).collect();
        sizes.sort_unstable_by(|a, b| b.cmp(a));
        sizes.iter().take(batch).sum::<usize>()
    };
    (largest(&|e| e.tokens.len()), largest(&|e| e.targets.len()))
}

fn pass(
    gpu: &Gpu,
    weights: &Weights,
    gradient: Option<&Weights>,
    examples: &[Example],
    batch: usize,
) -> Result<Pass, TrainError> {
    let (tokens, rows) = budget(examples, batch);
    let sizes = PassSizes { tokens, rows, score_tokens: Vec::new(), score_values: Vec::new() };
    Ok(Pass::new(gpu, weights, gradient, sizes)?)
}

impl Trainer {
    /// Plans steps of `config` over batches of `examples`.
    ///
    /// # Errors
    /// Out of memory: the message names what to lower.
    pub fn new(gpu: &Gpu, weights: Weights, config: &TrainConfig, examples: &[Example]) -> Result<Self, TrainError> {
        let optimiser = Optimiser::new(gpu, &weights, optimiser_settings(config))?;
        let micro_batch = config.per_device_train_batch_size as usize;
        let pass = pass(gpu, &weights, Some(&optimiser.gradient), examples, micro_batch)?;
        Ok(Trainer { gpu: gpu.clone(), weights, optimiser, pass, micro_batch })
    }

    /// One optimiser step on `rows`, in micro-batches; the loss is the mean over all targets of the step. `t` counts the
    /// steps that were applied, this one included.
    ///
    /// # Errors
    /// What packing or the GPU reports.
    pub async fn step(&self, rows: &[&Example], learning_rate: f64, t: u64) -> Result<StepNumbers, TrainError> {
        let targets: usize = rows.iter().map(|e| e.targets.len()).sum();
        let mut sums = Sums::default();
        for micro in rows.chunks(self.micro_batch) {
            let batch = pack(micro, 1.0 / targets as f32, self.pass.sizes().tokens)?;
            self.pass.run(&batch)?;
            sums.add(&batch, &self.pass.stats(batch.rows.len()).await?);
        }
        let outcome = self.optimiser.step(&self.gpu, learning_rate, t).await?;
        Ok(sums.numbers(outcome))
    }
}

/// Measures the loss on held-out examples, with a plan of its own.
pub struct Evaluator {
    pass: Pass,
    micro_batch: usize,
}

impl Evaluator {
    /// Plans for batches of `micro_batch` of these examples.
    pub fn new(gpu: &Gpu, weights: &Weights, examples: &[Example], micro_batch: usize) -> Result<Self, TrainError> {
        let pass = pass(gpu, weights, None, examples, micro_batch)?;
        Ok(Evaluator { pass, micro_batch })
    }

    /// Mean loss over all targets of `examples`.
    pub async fn loss(&self, examples: &[Example]) -> Result<f64, TrainError> {
        let mut sums = Sums::default();
        let all: Vec<&Example> = examples.iter().collect();
        for micro in all.chunks(self.micro_batch) {
            let batch = pack(micro, 1.0, self.pass.sizes().tokens)?;
            self.pass.run(&batch)?;
            sums.add(&batch, &self.pass.stats(batch.rows.len()).await?);
        }
        Ok(sums.loss / sums.weight.max(f64::MIN_POSITIVE))
    }
}
