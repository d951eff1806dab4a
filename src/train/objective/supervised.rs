//! The supervised training step: it trains the model on examples and returns metrics. It uses neither files nor clocks.

use crate::gpu::Gpu;
use crate::judge::{BatchLayout, Scale, ScoreReads, ScoreTokens};
use crate::model::decoder::{PackedInputs, Pass, PassSizes};
use crate::model::tensors::TensorSet;
use crate::model::weights::Weights;
use crate::random::Stream;
use crate::ranks::Ranks;
use crate::train::TrainError;
use crate::train::config::TrainConfig;
use crate::train::data::pack::{LossSums, MeanWeights, PackedExamples, Supervision, TrainExample};
use crate::train::objective::gradient_sum::GradientSum;
use crate::train::objective::optimiser::{Optimiser, OptimiserSettings};
use crate::train::objective::step::{OptimiserStep, StepKey, StepMetrics};
use crate::train::objective::tree::TreeOp;

/// Model, optimiser and plans of a supervised run.
pub struct SupervisedTrainer {
    pub gpu: Gpu,
    pub weights: Weights,
    pub optimiser: Optimiser,
    sum: GradientSum,
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

/// Sums over a micro-batch, or over those of a step.
#[derive(Clone, Copy, Default)]
struct BatchSums {
    losses: LossSums,
    tokens: usize,
}

impl BatchSums {
    /// As numbers, for other ranks.
    fn numbers(&self) -> [f64; 5] {
        let LossSums { cross_entropy, squared, entropy, positions } = self.losses;
        [cross_entropy, squared, entropy, positions as f64, self.tokens as f64]
    }

    /// The sums over all micro-batches of a step, added in their order. `own` are those of this rank.
    fn of_all_ranks(own: &[BatchSums], ranks: &Ranks) -> Result<Self, TrainError> {
        let own: Vec<f64> = own.iter().flat_map(BatchSums::numbers).collect();
        let all = ranks.all_gather_numbers(&own)?.concat();
        let mut sums = BatchSums::default();
        for [cross_entropy, squared, entropy, positions, tokens] in all.as_chunks().0 {
            sums.losses.cross_entropy += cross_entropy;
            sums.losses.squared += squared;
            sums.losses.entropy += entropy;
            sums.losses.positions += *positions as usize;
            sums.tokens += *tokens as usize;
        }
        Ok(sums)
    }
}

/// The rows of a step, in micro-batches.
struct StepRows<'a> {
    micro_batches: Vec<&'a [&'a TrainExample]>,
    /// The key of each micro-batch's dropout.
    dropout_keys: Vec<[u32; 2]>,
    targets: usize,
    examples: usize,
}

impl StepRows<'_> {
    fn means(&self) -> MeanWeights {
        MeanWeights { per_target: 1.0 / self.targets as f64, per_example: 1.0 / self.examples as f64 }
    }
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

    /// Cuts `rows` into micro-batches. Their dropout depends on `key` and their place in the step.
    fn step_rows<'a>(&self, rows: &'a [&'a TrainExample], key: StepKey) -> StepRows<'a> {
        let micro_batches: Vec<_> = rows.chunks(self.micro_batch).collect();
        let mut stream = Stream::new(key.seed, key.step ^ DROPOUT_STREAM);
        let mut dropout_key = || {
            let bits = stream.bits();
            [bits as u32, (bits >> 32) as u32]
        };
        let dropout_keys = micro_batches.iter().map(|_| dropout_key()).collect();
        let targets = rows.iter().map(|e| e.targets(self.layout(), &self.supervision)).sum();
        StepRows { micro_batches, dropout_keys, targets, examples: rows.len() }
    }

    /// Runs micro-batch `n` of a step and adds to the gradient, if the pass has one.
    async fn run(&self, rows: &StepRows<'_>, n: usize) -> Result<BatchSums, TrainError> {
        let (layout, supervision, dropout_key) = (self.layout(), &self.supervision, rows.dropout_keys[n]);
        let packed = PackedExamples::new(rows.micro_batches[n], layout, self.shares_prefixes, self.pass.sizes().tokens)?;
        let mut log_probs = Vec::new();
        // Without a gradient the squared error needs no coefficients.
        let trained = Supervision { squared: if self.has_gradient { supervision.squared } else { 0.0 }, ..*supervision };
        if trained.squared != 0.0 {
            // The gradient of the squared error depends on the score distribution.
            let batch = PackedInputs { dropout_key, ..packed.score_positions() };
            self.pass.forward(&batch)?;
            log_probs = packed.log_probs(layout, &batch, &self.pass.stats(batch.loss_positions.len()).await?);
        }
        let batch = PackedInputs { dropout_key, ..packed.losses(layout, &self.scale, &trained, rows.means(), &log_probs) };
        if log_probs.is_empty() {
            self.pass.run(&batch)?
        } else {
            self.pass.backward(&batch)?
        }
        let stats = self.pass.stats(batch.loss_positions.len()).await?;
        let losses = packed.loss_sums(layout, &self.scale, supervision, &batch, &stats);
        Ok(BatchSums { losses, tokens: packed.len() })
    }

    /// The minimised loss of these rows.
    fn loss(&self, sums: &BatchSums, rows: &StepRows) -> f64 {
        let mean = |sum: f64, n: usize| sum / n.max(1) as f64;
        let squared = self.supervision.squared * mean(sums.losses.squared, rows.examples);
        self.supervision.cross_entropy * mean(sums.losses.cross_entropy, rows.targets) + squared
    }
}

impl SupervisedTrainer {
    /// Plans steps of `config` over batches of `examples`, which these ranks divide.
    ///
    /// # Errors
    /// Out of memory; the message names the settings to lower.
    pub fn new(
        gpu: &Gpu,
        weights: Weights,
        config: &TrainConfig,
        examples: &[TrainExample],
        scoring: Scoring,
        ranks: &Ranks,
    ) -> Result<Self, TrainError> {
        let optimiser = Optimiser::new(gpu, weights.trainable()?, OptimiserSettings::of(config))?;
        let sum = GradientSum::of(gpu, &optimiser.gradient, config, ranks)?;
        let micro_batch = config.per_device_train_batch_size as usize;
        let batching = Batching { micro_batch, supervision: config.supervision(), share_prefixes: config.share_prefixes };
        let backward = Backward { gradient: &optimiser.gradient, recompute: config.gradient_checkpointing };
        let pass = SupervisedPass::new(gpu, &weights, Some(backward), examples, batching, scoring)?;
        Ok(SupervisedTrainer { gpu: gpu.clone(), weights, optimiser, sum, pass })
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
        let rows = self.pass.step_rows(rows, key);
        let (mut own, mut depth) = (Vec::new(), 0);
        for op in self.sum.ops(rows.micro_batches.len()) {
            match op {
                TreeOp::Compute(n) => own.push(self.pass.run(&rows, n).await?),
                op => self.sum.apply(op, &mut depth).await?,
            }
        }
        self.sum.share().await?;
        let sums = BatchSums::of_all_ranks(&own, self.sum.ranks())?;
        let outcome = self.optimiser.step(&self.gpu, optimiser_step.learning_rate, optimiser_step.t).await?;
        let mut extra = Vec::new();
        if self.pass.supervision.squared != 0.0 {
            extra.push(("judge/mse", sums.losses.squared / rows.examples.max(1) as f64));
        }
        Ok(StepMetrics {
            loss: self.pass.loss(&sums, &rows),
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

    /// The loss over all of `examples`, whose batches these ranks divide.
    ///
    /// # Errors
    /// What the GPU reports; a rank that has failed.
    pub async fn loss(&self, examples: &[TrainExample], ranks: &Ranks) -> Result<f64, TrainError> {
        let examples: Vec<&TrainExample> = examples.iter().collect();
        let rows = self.pass.step_rows(&examples, StepKey::default());
        let mut own = Vec::new();
        for n in ranks.block(rows.micro_batches.len()) {
            own.push(self.pass.run(&rows, n).await?);
        }
        Ok(self.pass.loss(&BatchSums::of_all_ranks(&own, ranks)?, &rows))
    }
}
