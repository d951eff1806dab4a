//! The training pass: forward with statistics at the loss positions, and backward. It is planned once and run on batch after
//! batch.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::backward::BackwardInputs;
use super::batch_tensors::BatchTensors;
use super::project::GradTargets;
use super::{Attention, Recorder, Trace, words};
use crate::gpu::{DispatchTime, Extent, Gpu, KernelTime, MemoryKind, Plan, PlanBuilder, RunParam, RunParams, Tensor};
use crate::model::batch::{BatchLimits, PackedInputs};
use crate::model::error::ModelError;
use crate::model::tensors::TensorSet;
use crate::model::weights::Weights;
use crate::ops::loss_head::{self, LossGradient, LossHead, STATS, TOKEN_LOSS_WORDS};
use crate::ops::rows::NO_ROW;
use crate::ops::{embedding, rmsnorm, rows};

/// Most bytes of the logits of one chunk.
const LOGITS_BYTES: u64 = 32 << 20;

/// Larger f32 numbers are more than 1/128 apart, and the error of a logit, which is a sum of many products, is larger still.
const MAX_LOGIT: f32 = 65_536.0;

/// The maximum sizes of a pass's batches, and its options.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PassSizes {
    /// Most tokens of a batch, T.
    pub tokens: usize,
    /// Most loss positions of a batch, R.
    pub loss_positions: usize,
    /// Ids of the score tokens, K; may be empty.
    pub score_tokens: Vec<u32>,
    /// With a gradient: recompute activations in the backward pass instead of keeping them.
    pub recompute: bool,
    /// With a gradient: apply dropout to the inputs of adapters, as their settings say.
    pub dropout: bool,
}

/// Statistics of the distribution at one loss position.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenStats {
    pub log_sum_exp: f32,
    /// Log-probability of the loss's token.
    pub log_p: f32,
    /// Of the full softmax, in nats.
    pub entropy: f32,
    /// Full-vocabulary log-probability of each score token. NaN where the logits are not finite, or so large (beyond 2^16) that
    /// the rounding of f32 hides their differences.
    pub score_log_probs: Vec<f32>,
}

/// Forward over a packed batch with statistics at its loss positions, and with a gradient also backward.
///
/// The loss may depend on the statistics, as a reward does. A pass with a gradient can therefore be run in two halves that share
/// one forward pass: [`Pass::forward`], then [`Pass::backward`] with other loss positions and losses.
pub struct Pass {
    gpu: Gpu,
    weights: Weights,
    plan: Plan,
    batch: BatchTensors,
    sizes: PassSizes,
    head: HeadTensors,
    backward: Option<BackwardPlan>,
}

/// The inputs of the backward pass, and its start within the plan.
struct BackwardPlan {
    inputs: DecoderBackwardInputs,
    coefficients: Tensor,
    params: BackwardParams,
    /// The random key of dropout, if the pass has dropout.
    dropout_key: Option<[RunParam; 2]>,
    /// Number of steps before it: the forward pass, and the statistics of a batch without a backward pass.
    backward_start: usize,
    /// Tokens of the last batch of [`Pass::forward`], as long as its activations are there.
    forward_ids: Mutex<Option<Vec<u32>>>,
}

/// The run parameters of the backward pass.
#[derive(Clone, Copy)]
struct BackwardParams {
    /// Number of loss positions of [`Pass::forward`], which needs only their statistics; otherwise 0.
    stats_only: RunParam,
    /// Number of distinct tokens of the batch.
    distinct: RunParam,
}

/// What the host writes for the backward pass through the decoder.
struct DecoderBackwardInputs {
    /// `[T]`: the index of each token among the loss positions, or [`NO_ROW`].
    loss_index: Tensor,
    decoder: BackwardInputs,
}

impl DecoderBackwardInputs {
    fn new(plan: &mut PlanBuilder, batch: &BatchTensors, sizes: &PassSizes, vocab: usize, distinct: RunParam) -> Self {
        let max_distinct = sizes.tokens.min(vocab);
        let loss_index = plan.persistent("loss index of each token", sizes.tokens);
        let buckets = (plan.persistent("token buckets", max_distinct * 4), plan.persistent("tokens by id", sizes.tokens));
        let ones = plan.persistent("ones", sizes.tokens);
        let (distinct, recompute) = (Extent::dynamic(distinct, max_distinct as u32), sizes.recompute);
        let decoder = BackwardInputs { spans: batch.spans, buckets, distinct, ones, recompute };
        DecoderBackwardInputs { loss_index, decoder }
    }
}

impl BackwardPlan {
    fn forward_ids(&self) -> MutexGuard<'_, Option<Vec<u32>>> {
        self.forward_ids.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pass {
    /// Plans a pass. With `gradient`, each batch adds its weight gradients to it.
    ///
    /// # Errors
    /// Out of memory; a tensor above the adapter's limits; score tokens outside the vocabulary; a gradient of quantised weights.
    pub fn new(gpu: &Gpu, weights: &Weights, gradient: Option<&TensorSet>, sizes: PassSizes) -> Result<Self, ModelError> {
        check_score_tokens(weights, &sizes.score_tokens)?;
        let targets = match gradient {
            None => None,
            Some(gradient) => {
                weights.trainable()?;
                Some(GradTargets::of(weights, gradient))
            }
        };
        let gpu = &gpu.for_memory(MemoryKind::Activations);
        let mut recorder = Recorder::new(weights);
        let mut plan = PlanBuilder::new(gpu.tuning());
        let batch = BatchTensors::new(&mut plan, weights, sizes.tokens, sizes.loss_positions);
        let backward =
            targets.map(|targets| (targets, BackwardParams { stats_only: plan.run_param(), distinct: plan.run_param() }));
        let has_dropout = sizes.dropout && backward.is_some() && weights.adapter().is_some_and(|a| a.settings.dropout > 0.0);
        recorder.dropout_key = has_dropout.then(|| [plan.run_param(), plan.run_param()]);

        let trace = recorder.record_forward(&mut plan, batch.inputs(), &Attention::Packed(batch.spans));
        let head = HeadTensors::new(&mut plan, &recorder, &sizes, LOGITS_BYTES.min(gpu.max_binding()));
        let backward = match backward {
            None => {
                recorder.record_statistics(&mut plan, &batch, &head, trace.output, batch.losses);
                None
            }
            Some((targets, params)) => {
                let stats_only = Extent::dynamic(params.stats_only, sizes.loss_positions as u32);
                recorder.record_statistics(&mut plan, &batch, &head, trace.output, stats_only);
                let backward_start = plan.steps();
                let (coefficients, dgathered) = recorder.record_loss_backward(&mut plan, &batch, &head, trace.output, targets);
                let inputs = DecoderBackwardInputs::new(&mut plan, &batch, &sizes, weights.config.vocab_size, params.distinct);
                recorder.record_decoder_backward(&mut plan, &batch, &inputs, &trace, targets, dgathered);
                let (dropout_key, forward_ids) = (recorder.dropout_key, Mutex::new(None));
                Some(BackwardPlan { inputs, coefficients, params, dropout_key, backward_start, forward_ids })
            }
        };

        let plan = plan.build(gpu)?;
        batch.write_ropes(&plan, &weights.config, sizes.tokens)?;
        plan.write(head.score_tokens, &sizes.score_tokens)?;
        if let Some(backward) = backward.as_ref().filter(|_| weights.config.qkv_bias) {
            plan.write(backward.inputs.decoder.ones, &vec![1f32; sizes.tokens])?;
        }
        Ok(Pass { gpu: gpu.clone(), weights: weights.clone(), plan, batch, sizes, head, backward })
    }

    /// The sizes that this pass was planned for.
    pub fn sizes(&self) -> &PassSizes {
        &self.sizes
    }

    /// Runs one batch without waiting. With a gradient, the batch's gradient is *added* to it.
    ///
    /// # Errors
    /// A batch above the planned sizes; an id outside the vocabulary; a position past the model's context.
    pub fn run(&self, batch: &PackedInputs) -> Result<(), ModelError> {
        let params = self.upload(batch)?;
        Ok(self.plan.run(&params)?)
    }

    /// Runs the forward pass of one batch and the statistics at its loss positions, without waiting.
    ///
    /// # Errors
    /// As [`Pass::run`].
    pub fn forward(&self, batch: &PackedInputs) -> Result<(), ModelError> {
        let mut params = self.upload(batch)?;
        let Some(backward) = &self.backward else { return Ok(self.plan.run(&params)?) };
        params.set(backward.params.stats_only, batch.loss_positions.len() as u32);
        self.plan.run_steps(&params, 0..backward.backward_start)?;
        *backward.forward_ids() = Some(batch.ids.clone());
        Ok(())
    }

    /// Runs the backward pass of the last forward batch and adds its gradient, without waiting. `batch` has the same tokens, and
    /// loss positions and losses of its own. The weights must not have changed since the forward pass.
    ///
    /// # Errors
    /// As [`Pass::run`]; other tokens than those of the last [`Pass::forward`]; a pass without a gradient.
    pub fn backward(&self, batch: &PackedInputs) -> Result<(), ModelError> {
        let no_forward = || ModelError::Inconsistent("a backward pass without a forward pass of the same tokens".into());
        let backward = self.backward.as_ref().ok_or_else(no_forward)?;
        if backward.forward_ids().take().is_none_or(|ids| ids != batch.ids) {
            return Err(no_forward());
        }
        let params = self.upload(batch)?;
        Ok(self.plan.run_steps(&params, backward.backward_start..self.plan.steps())?)
    }

    /// Runs one batch with timestamps around every kernel. Returns the times by kernel, slowest first.
    pub async fn profile(&self, batch: &PackedInputs) -> Result<Vec<KernelTime>, ModelError> {
        let params = self.upload(batch)?;
        Ok(self.plan.profile(&params).await?)
    }

    /// Runs one batch with timestamps around every dispatch. Returns the times in order.
    pub async fn timeline(&self, batch: &PackedInputs) -> Result<Vec<DispatchTime>, ModelError> {
        let params = self.upload(batch)?;
        Ok(self.plan.timeline(&params).await?)
    }

    /// Checks and uploads a batch. Returns its run parameters, with no loss position that needs only statistics.
    fn upload(&self, batch: &PackedInputs) -> Result<RunParams, ModelError> {
        let (tokens, loss_positions, scores) = (self.sizes.tokens, self.sizes.loss_positions, self.sizes.score_tokens.len());
        batch.check(&self.weights.config, BatchLimits { tokens, loss_positions, scores })?;
        let mut params = self.batch.upload(&self.plan, batch)?;
        self.plan.write(self.head.losses, &batch.losses)?;
        if let Some(backward) = &self.backward {
            // The next run overwrites the activations of the last forward batch.
            *backward.forward_ids() = None;
            let sorted = embedding::buckets(&batch.ids);
            let mut loss_index = vec![NO_ROW; batch.ids.len()];
            for (index, position) in batch.loss_positions.iter().enumerate() {
                loss_index[*position as usize] = index as u32;
            }
            self.plan.write(backward.inputs.loss_index, &loss_index)?;
            self.plan.write(backward.coefficients, &batch.coefficients)?;
            self.plan.write(backward.inputs.decoder.buckets.0, &sorted.buckets)?;
            self.plan.write(backward.inputs.decoder.buckets.1, &sorted.tokens)?;
            params.set(backward.params.stats_only, 0);
            params.set(backward.params.distinct, sorted.buckets.len() as u32);
            let dropout_key = backward.dropout_key.iter().flatten().zip(batch.dropout_key);
            dropout_key.for_each(|(param, word)| params.set(*param, word));
        }
        Ok(params)
    }

    /// Statistics at the first `losses` loss positions of the last batch. Waits for it.
    pub async fn stats(&self, losses: usize) -> Result<Vec<TokenStats>, ModelError> {
        let width = STATS + self.sizes.score_tokens.len();
        let values: Vec<f32> = self.gpu.read(self.plan.buffer(self.head.stats)?, 0, losses * width).await?;
        Ok(values.chunks_exact(width).map(token_stats).collect())
    }
}

/// The tensors that all uses of the loss head in a pass share.
struct HeadTensors {
    losses: Tensor,
    score_tokens: Tensor,
    stats: Tensor,
    /// Number of score tokens, K.
    scores: usize,
    /// Most loss positions, R.
    max_losses: usize,
    /// Loss positions per chunk.
    chunk: u32,
}

impl HeadTensors {
    /// `bytes`: the most that the logits of a chunk may take.
    fn new(plan: &mut PlanBuilder, recorder: &Recorder, sizes: &PassSizes, bytes: u64) -> Self {
        let (max_losses, scores) = (sizes.loss_positions, sizes.score_tokens.len());
        HeadTensors {
            losses: plan.persistent("losses", max_losses * TOKEN_LOSS_WORDS),
            score_tokens: plan.persistent("score tokens", scores),
            stats: plan.persistent("loss statistics", max_losses * (STATS + scores)),
            scores,
            max_losses,
            chunk: loss_head::chunk_rows(recorder.shape.vocab, max_losses as u32, bytes),
        }
    }

    /// The loss head over `count` normed hidden states.
    fn over(&self, plan: &mut PlanBuilder, recorder: &Recorder, normed: Tensor, count: Extent) -> LossHead {
        LossHead {
            hidden: normed,
            table: recorder.weights.matrix(plan, recorder.weights.groups.output()),
            rows: self.losses,
            score_tokens: self.score_tokens,
            stats: self.stats,
            count,
            width: recorder.shape.hidden,
            vocab: recorder.shape.vocab,
            scores: self.scores as u32,
            chunk: self.chunk,
        }
    }
}

/// The statistics of one position, from what the loss head wrote.
pub(super) fn token_stats(v: &[f32]) -> TokenStats {
    let reliable = v[0].abs() <= MAX_LOGIT;
    let score_log_probs = v[STATS..].iter().map(|log_p| if reliable { *log_p } else { f32::NAN }).collect();
    TokenStats { log_sum_exp: v[0], log_p: v[1], entropy: v[2], score_log_probs }
}

pub(super) fn check_score_tokens(weights: &Weights, tokens: &[u32]) -> Result<(), ModelError> {
    let (allowed, found) = (weights.config.vocab_size - 1, tokens.iter().copied().max().unwrap_or(0) as usize);
    if found > allowed { Err(ModelError::Batch { what: "largest score token", allowed, found }) } else { Ok(()) }
}

impl Recorder<'_> {
    /// Statistics at the first `count` loss positions.
    fn record_statistics(&self, plan: &mut PlanBuilder, batch: &BatchTensors, head: &HeadTensors, hidden: Tensor, count: Extent) {
        let (_, normed) = self.record_gather_normed(plan, batch.loss_positions, hidden, count);
        let head = head.over(plan, self, normed, count);
        loss_head::record(plan, head, None);
    }

    /// Statistics at the loss positions, and the gradient of the losses with respect to the last hidden states there. Returns
    /// the tensor of score coefficients, which the host writes, and that gradient.
    fn record_loss_backward(
        &self,
        plan: &mut PlanBuilder,
        batch: &BatchTensors,
        head: &HeadTensors,
        hidden: Tensor,
        targets: GradTargets,
    ) -> (Tensor, Tensor) {
        let (count, width, groups) = (batch.losses, self.shape.hidden, &self.weights.groups);
        let (gathered, normed) = self.record_gather_normed(plan, batch.loss_positions, hidden, count);
        let loss = head.over(plan, self, normed, count);
        let dnormed = plan.scratch("d normed rows", words(count, width));
        let dtable = targets.matrix(plan, groups.output());
        let coefficients = plan.persistent("score coefficients", head.max_losses * head.scores);
        loss_head::record(plan, loss, Some(LossGradient { coefficients, dhidden: dnormed, dtable }));
        let dgathered = plan.scratch("d gathered rows", words(count, width));
        let (w, dw) = self.weight_and_gradient(plan, targets, groups.final_norm);
        let b = rmsnorm::Backward { x: gathered, w, dy: dnormed, dx: dgathered, dw, accumulate: false };
        rmsnorm::record_backward(plan, self.shape.norm, b, count);
        (coefficients, dgathered)
    }

    /// The backward pass through the decoder, from the gradient `dgathered` at the loss positions.
    fn record_decoder_backward(
        &self,
        plan: &mut PlanBuilder,
        batch: &BatchTensors,
        inputs: &DecoderBackwardInputs,
        trace: &Trace,
        targets: GradTargets,
        dgathered: Tensor,
    ) {
        let width = self.shape.hidden;
        let dh = plan.scratch("d residual stream", words(batch.tokens, width));
        rows::record_scatter(plan, inputs.loss_index, dgathered, dh, batch.tokens, width);
        self.record_backward(plan, batch.inputs(), inputs.decoder, trace, targets, dh);
    }
}
