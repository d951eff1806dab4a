//! The supervised training step: it trains the model on examples and returns metrics. It uses neither files nor clocks.

use crate::gpu::Gpu;
use crate::judge::{BatchLayout, Scale, ScoreReads, ScoreTokens};
use crate::model::decoder::{PackedInputs, Pass, PassSizes};
use crate::model::tensors::TensorSet;
use crate::model::weights::Weights;
use crate::random::Stream;
use crate::train::TrainError;
use crate::train::config::TrainConfig;
use crate::train::data::pack::{LossSums, MeanWeights, PackedExamples, Supervision, TrainExample};
use crate::train::objective::optimiser::{Optimiser, OptimiserSettings};
use crate::train::objective::step::{OptimiserStep, StepKey, StepMetrics};

/// Model, optimiser and plans of a supervised run.
pub struct SupervisedTrainer {
    pub gpu: Gpu,
    pub weights: Weights,
    pub optimiser: Optimiser,
    pass: SupervisedPass,
}

/// Forward and backward passes over batches of examples.
struct SupervisedPass {
    pass: Pass,
    /// Whether the pass computes gradients.
    has_gradient: bool,
    micro_batch: usize,
    /// Whether what prompts of a batch begin with is computed once.
    shares_prefixes: bool,
    supervision: Supervision,
    scale: Scale,
    tokens: ScoreTokens,
    reads: ScoreReads,
}

/// How examples are batched, and their losses.
#[derive(Clone, Copy, Debug)]
pub struct Batching {
    /// Most examples per batch.
    pub micro_batch: usize,
    pub supervision: Supervision,
    /// Compute what prompts of a batch begin with once. Not where the loss is on prompts too: a token with several next tokens
    /// would be several loss positions.
    pub share_prefixes: bool,
}

/// A judge's scores: their values, and where they lie in a batch.
#[derive(Clone, Copy)]
pub struct Scoring<'a> {
    pub scale: &'a Scale,
    pub layout: BatchLayout<'a>,
}

/// Sums over the batches of a step.
#[derive(Default)]
struct StepSums {
    losses: LossSums,
    tokens: usize,
    targets: usize,
    examples: usize,
}

/// The buffers that gradients are added to, and whether activations are recomputed.
struct Backward<'a> {
    gradient: &'a TensorSet,
    recompute: bool,
}

/// Separates the random numbers of dropout from all others.
const DROPOUT_STREAM: u64 = 0xD0_0000_0000_0000;

impl SupervisedPass {
    fn new(
        gpu: &Gpu,
        weights: &Weights,
        backward: Option<Backward>,
        examples: &[TrainExample],
        batching: Batching,
        scoring: Scoring,
    ) -> Result<Self, TrainError> {
        let Batching { micro_batch, supervision, share_prefixes } = batching;
        let shares_prefixes = share_prefixes && (supervision.completion_only || supervision.cross_entropy == 0.0);
        let Scoring { scale, layout } = scoring;
        // The largest `micro_batch` of these examples decides the sizes.
        let largest = |size: &dyn Fn(&TrainExample) -> usize| {
            let mut sizes: Vec<usize> = examples.iter().map(size).collect();
            sizes.sort_unstable_by(|a, b| b.cmp(a));
            sizes.iter().take(micro_batch).sum::<usize>()
        };
        let sizes = PassSizes {
            tokens: largest(&|e| e.size(layout)),
            loss_positions: largest(&|e| e.loss_positions(layout, &supervision)),
            score_tokens: layout.tokens.alphabet().to_vec(),
            recompute: backward.as_ref().is_some_and(|b| b.recompute),
            dropout: true,
        };
        let pass = Pass::new(gpu, weights, backward.as_ref().map(|b| b.gradient), sizes)?;
        let (scale, tokens, reads) = (scale.clone(), layout.tokens.clone(), layout.reads);
        Ok(SupervisedPass {
            pass,
            has_gradient: backward.is_some(),
            micro_batch,
            shares_prefixes,
            supervision,
            scale,
            tokens,
            reads,
        })
    }

    fn layout(&self) -> BatchLayout<'_> {
        BatchLayout { tokens: &self.tokens, reads: self.reads }
    }

    /// Runs all `rows` in micro-batches and adds to the gradient, if the pass has one. Dropout depends on `key`.
    async fn run(&self, rows: &[&TrainExample], key: StepKey) -> Result<StepSums, TrainError> {
        let (layout, supervision) = (self.layout(), &self.supervision);
        let mut sums = StepSums { examples: rows.len(), ..StepSums::default() };
        sums.targets = rows.iter().map(|e| e.targets(layout, supervision)).sum();
        let means = MeanWeights { per_target: 1.0 / sums.targets as f64, per_example: 1.0 / sums.examples as f64 };
        let mut stream = Stream::new(key.seed, key.step ^ DROPOUT_STREAM);
        for micro_batch in rows.chunks(self.micro_batch) {
            let packed = PackedExamples::new(micro_batch, layout, self.shares_prefixes, self.pass.sizes().tokens)?;
            let bits = stream.bits();
            let dropout_key = [bits as u32, (bits >> 32) as u32];
            let mut log_probs = Vec::new();
            // Without a gradient the squared error needs no coefficients.
            let trained = Supervision { squared: if self.has_gradient { supervision.squared } else { 0.0 }, ..*supervision };
            if trained.squared != 0.0 {
                // The gradient of the squared error depends on the score distribution.
                let batch = PackedInputs { dropout_key, ..packed.score_positions() };
                self.pass.forward(&batch)?;
                log_probs = packed.log_probs(layout, &batch, &self.pass.stats(batch.loss_positions.len()).await?);
            }
            let batch = PackedInputs { dropout_key, ..packed.losses(layout, &self.scale, &trained, means, &log_probs) };
            if log_probs.is_empty() {
                self.pass.run(&batch)?
            } else {
                self.pass.backward(&batch)?
            }
            let stats = self.pass.stats(batch.loss_positions.len()).await?;
            let losses = packed.loss_sums(layout, &self.scale, supervision, &batch, &stats);
            sums.losses.cross_entropy += losses.cross_entropy;
            sums.losses.squared += losses.squared;
            sums.losses.entropy += losses.entropy;
            sums.losses.positions += losses.positions;
            sums.tokens += packed.len();
        }
        Ok(sums)
    }

    /// The minimised loss.
    fn loss(&self, sums: &StepSums) -> f64 {
        let mean = |sum: f64, n: usize| sum / n.max(1) as f64;
        let squared = self.supervision.squared * mean(sums.losses.squared, sums.examples);
        self.supervision.cross_entropy * mean(sums.losses.cross_entropy, sums.targets) + squared
    }
}

impl SupervisedTrainer {
    /// Plans steps of `config` over batches of `examples`.
    ///
    /// # Errors
    /// Out of memory; the message names the settings to lower.
    pub fn new(
        gpu: &Gpu,
        weights: Weights,
        config: &TrainConfig,
        examples: &[TrainExample],
        scoring: Scoring,
    ) -> Result<Self, TrainError> {
        let optimiser = Optimiser::new(gpu, weights.trainable()?, OptimiserSettings::of(config))?;
        let micro_batch = config.per_device_train_batch_size as usize;
        let batching = Batching { micro_batch, supervision: config.supervision(), share_prefixes: config.share_prefixes };
        let backward = Backward { gradient: &optimiser.gradient, recompute: config.gradient_checkpointing };
        let pass = SupervisedPass::new(gpu, &weights, Some(backward), examples, batching, scoring)?;
        Ok(SupervisedTrainer { gpu: gpu.clone(), weights, optimiser, pass })
    }

    /// One optimiser step on `rows`, in micro-batches. The loss is the mean over the step. Dropout depends on `key`.
    ///
    /// # Errors
    /// What packing or the GPU reports.
    pub async fn step(
        &self,
        rows: &[&TrainExample],
        key: StepKey,
        optimiser_step: OptimiserStep,
    ) -> Result<StepMetrics, TrainError> {
        let sums = self.pass.run(rows, key).await?;
        let outcome = self.optimiser.step(&self.gpu, optimiser_step.learning_rate, optimiser_step.t).await?;
        let mut extra = Vec::new();
        if self.pass.supervision.squared != 0.0 {
            extra.push(("judge/mse", sums.losses.squared / sums.examples.max(1) as f64));
        }
        Ok(StepMetrics {
            loss: self.pass.loss(&sums),
            entropy: sums.losses.entropy / sums.losses.positions.max(1) as f64,
            tokens: sums.tokens,
            grad_norm: outcome.grad_norm,
            applied: u64::from(outcome.applied),
            extra,
        })
    }
}

/// Computes the loss on held-out examples, with a plan of its own.
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
        examples: &[TrainExample],
        batching: Batching,
        scoring: Scoring,
    ) -> Result<Self, TrainError> {
        Ok(Evaluator { pass: SupervisedPass::new(gpu, weights, None, examples, batching, scoring)? })
    }

    /// The loss over all of `examples`.
    ///
    /// # Errors
    /// What the GPU reports.
    pub async fn loss(&self, examples: &[TrainExample]) -> Result<f64, TrainError> {
        let rows: Vec<&TrainExample> = examples.iter().collect();
        Ok(self.pass.loss(&self.pass.run(&rows, StepKey::default()).await?))
    }
}
