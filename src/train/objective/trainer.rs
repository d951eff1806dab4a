//! The supervised training step: examples in, a changed model and a few numbers out. Knows no files and no clock.

use crate::gpu::Gpu;
use crate::judge::{BatchLayout, Scale, ScoreReads, ScoreTokens};
use crate::model::decoder::{PackedInputs, Pass, PassSizes};
use crate::model::tensors::TensorSet;
use crate::model::weights::Weights;
use crate::random::Stream;
use crate::train::TrainError;
use crate::train::config::TrainConfig;
use crate::train::data::pack::{Example, LossSums, PackedExamples, Shares, Supervision};
use crate::train::objective::optimiser::{Optimiser, OptimiserSettings};

/// Model, optimiser and the plans between them.
pub struct Trainer {
    pub gpu: Gpu,
    pub weights: Weights,
    pub optimiser: Optimiser,
    pass: SupervisedPass,
}

/// How a batch of examples is read and learned: the pass, and what the judge's scores are.
struct SupervisedPass {
    pass: Pass,
    /// Whether there is a gradient to add to.
    learns: bool,
    micro_batch: usize,
    supervision: Supervision,
    scale: Scale,
    tokens: ScoreTokens,
    reads: ScoreReads,
}

/// What every random number of a step follows from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StepKey {
    pub seed: u64,
    /// Number of the step, from 0.
    pub step: u64,
}

/// How far a step goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepPace {
    pub learning_rate: f64,
    /// Number of the optimiser step among those that moved the model, from 1: AdamW's bias correction follows from it.
    pub t: u64,
}

/// How examples are put into batches, and what is learned from them.
#[derive(Clone, Copy, Debug)]
pub struct Batching {
    /// Most examples in a batch.
    pub micro_batch: usize,
    pub supervision: Supervision,
}

/// A judge's scores: what they are worth, and where they lie in a batch.
#[derive(Clone, Copy)]
pub struct Scoring<'a> {
    pub scale: &'a Scale,
    pub layout: BatchLayout<'a>,
}

/// What a step or an evaluation found.
#[derive(Clone, Debug, Default)]
pub struct StepNumbers {
    /// What was minimised: for sft the mean cross-entropy, in nats a token.
    pub loss: f64,
    /// Mean entropy of the next-token distribution at the targets, in nats.
    pub entropy: f64,
    pub tokens: usize,
    pub grad_norm: f32,
    /// Optimiser steps that changed the model; one whose gradient was not finite changes nothing.
    pub applied: u64,
    /// More figures for the log, by name.
    pub extra: Vec<(&'static str, f64)>,
}

/// Sums over several batches.
#[derive(Default)]
struct Sums {
    found: LossSums,
    tokens: usize,
    targets: usize,
    examples: usize,
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

/// Where gradients go, and how activations come back.
struct Learning<'a> {
    gradient: &'a TensorSet,
    recompute: bool,
}

/// Keeps the random numbers of dropout apart from all others.
const DROPOUT_STREAM: u64 = 0xD0_0000_0000_0000;

impl SupervisedPass {
    fn new(
        gpu: &Gpu,
        weights: &Weights,
        learning: Option<Learning>,
        examples: &[Example],
        batching: Batching,
        scoring: Scoring,
    ) -> Result<Self, TrainError> {
        let Batching { micro_batch, supervision } = batching;
        let Scoring { scale, layout } = scoring;
        // Tokens and rows that any `micro_batch` of these examples can have: those of the largest.
        let largest = |of: &dyn Fn(&Example) -> usize| {
            let mut sizes: Vec<usize> = examples.iter().map(of).collect();
            sizes.sort_unstable_by(|a, b| b.cmp(a));
            sizes.iter().take(micro_batch).sum::<usize>()
        };
        let sizes = PassSizes {
            tokens: largest(&|e| e.size(layout)),
            loss_positions: largest(&|e| e.rows(layout, &supervision)),
            score_tokens: layout.tokens.alphabet().to_vec(),
            recompute: learning.as_ref().is_some_and(|l| l.recompute),
            dropout: true,
        };
        let pass = Pass::new(gpu, weights, learning.as_ref().map(|l| l.gradient), sizes)?;
        let (scale, tokens, reads) = (scale.clone(), layout.tokens.clone(), layout.reads);
        Ok(SupervisedPass { pass, learns: learning.is_some(), micro_batch, supervision, scale, tokens, reads })
    }

    fn layout(&self) -> BatchLayout<'_> {
        BatchLayout { tokens: &self.tokens, reads: self.reads }
    }

    /// Runs all `rows` in micro-batches; with a gradient, it is added to. What dropout draws follows from `key`.
    async fn run(&self, rows: &[&Example], key: StepKey) -> Result<Sums, TrainError> {
        let (layout, supervision) = (self.layout(), &self.supervision);
        let mut sums = Sums { examples: rows.len(), ..Sums::default() };
        sums.targets = rows.iter().map(|e| e.targets(layout, supervision)).sum();
        let shares = Shares { per_target: 1.0 / sums.targets as f64, per_example: 1.0 / sums.examples as f64 };
        let mut noise = Stream::new(key.seed, key.step ^ DROPOUT_STREAM);
        for micro in rows.chunks(self.micro_batch) {
            let packed = PackedExamples::new(micro, layout, self.pass.sizes().tokens)?;
            let bits = noise.bits();
            let noise = [bits as u32, (bits >> 32) as u32];
            let mut known = Vec::new();
            // Nothing is pulled at where nothing learns.
            let objective = Supervision { squared: if self.learns { supervision.squared } else { 0.0 }, ..*supervision };
            if objective.squared != 0.0 {
                // What the squared error pulls at depends on where the expected score is.
                let reading = PackedInputs { noise, ..packed.reading() };
                self.pass.forward(&reading)?;
                known = packed.log_probs(layout, &reading, &self.pass.stats(reading.loss_positions.len()).await?);
            }
            let batch = PackedInputs { noise, ..packed.objectives(layout, &self.scale, &objective, shares, &known) };
            if known.is_empty() {
                self.pass.run(&batch)?
            } else {
                self.pass.backward(&batch)?
            }
            let stats = self.pass.stats(batch.loss_positions.len()).await?;
            let found = packed.found(layout, &self.scale, supervision, &batch, &stats);
            sums.found.cross_entropy += found.cross_entropy;
            sums.found.squared += found.squared;
            sums.found.entropy += found.entropy;
            sums.found.rows += found.rows;
            sums.tokens += packed.len();
        }
        Ok(sums)
    }

    /// The loss that was minimised.
    fn loss(&self, sums: &Sums) -> f64 {
        let mean = |sum: f64, n: usize| sum / n.max(1) as f64;
        let squared = self.supervision.squared * mean(sums.found.squared, sums.examples);
        self.supervision.cross_entropy * mean(sums.found.cross_entropy, sums.targets) + squared
    }
}

impl Trainer {
    /// Plans steps of `config` over batches of `examples`, whose scores are `scale`.
    ///
    /// # Errors
    /// Out of memory: the message names what to lower.
    pub fn new(
        gpu: &Gpu,
        weights: Weights,
        config: &TrainConfig,
        examples: &[Example],
        scoring: Scoring,
    ) -> Result<Self, TrainError> {
        let optimiser = Optimiser::new(gpu, weights.trainable()?, optimiser_settings(config))?;
        let micro_batch = config.per_device_train_batch_size as usize;
        let batching = Batching { micro_batch, supervision: config.supervision() };
        let learning = Learning { gradient: &optimiser.gradient, recompute: config.gradient_checkpointing };
        let pass = SupervisedPass::new(gpu, &weights, Some(learning), examples, batching, scoring)?;
        Ok(Trainer { gpu: gpu.clone(), weights, optimiser, pass })
    }

    /// One optimiser step on `rows`, in micro-batches; the loss is the mean over the step. `key` fixes what dropout draws.
    ///
    /// # Errors
    /// What packing or the GPU reports.
    pub async fn step(&self, rows: &[&Example], key: StepKey, pace: StepPace) -> Result<StepNumbers, TrainError> {
        let sums = self.pass.run(rows, key).await?;
        let outcome = self.optimiser.step(&self.gpu, pace.learning_rate, pace.t).await?;
        let mut extra = Vec::new();
        if self.pass.supervision.squared != 0.0 {
            extra.push(("judge/mse", sums.found.squared / sums.examples.max(1) as f64));
        }
        Ok(StepNumbers {
            loss: self.pass.loss(&sums),
            entropy: sums.found.entropy / sums.found.rows.max(1) as f64,
            tokens: sums.tokens,
            grad_norm: outcome.grad_norm,
            applied: u64::from(outcome.applied),
            extra,
        })
    }
}

/// Measures the loss on held-out examples, with a plan of its own.
pub struct Evaluator {
    pass: SupervisedPass,
}

impl Evaluator {
    /// Plans for batches of these examples.
    ///
    /// # Errors
    /// Out of memory.
    pub fn new(
        gpu: &Gpu,
        weights: &Weights,
        examples: &[Example],
        batching: Batching,
        scoring: Scoring,
    ) -> Result<Self, TrainError> {
        Ok(Evaluator { pass: SupervisedPass::new(gpu, weights, None, examples, batching, scoring)? })
    }

    /// The loss over all of `examples`.
    ///
    /// # Errors
    /// What the GPU reports.
    pub async fn loss(&self, examples: &[Example]) -> Result<f64, TrainError> {
        let all: Vec<&Example> = examples.iter().collect();
        Ok(self.pass.loss(&self.pass.run(&all, StepKey::default()).await?))
    }
}
