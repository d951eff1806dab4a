//! The pass that reads statistics of rows and targets from them: a plan that is made once and run on batch after batch.

use std::sync::{Mutex, PoisonError};

use super::backward::BackwardInputs;
use super::front::Front;
use super::project::GradTargets;
use super::{Attention, Recorder, Trace, words};
use crate::gpu::{Extent, Gpu, KernelTime, MemoryKind, Plan, PlanBuilder, RunParam, RunParams, Span, Tensor};
use crate::model::batch::{BatchLimits, PackedInputs};
use crate::model::error::ModelError;
use crate::model::tensors::TensorSet;
use crate::model::weights::Weights;
use crate::ops::loss_head::{self, LossGradient, LossHead, STATS, TOKEN_LOSS_WORDS};
use crate::ops::rows::NO_ROW;
use crate::ops::{embedding, rmsnorm, rows};

/// Bytes that the logits of one chunk may take.
const LOGITS_BYTES: u64 = 32 << 20;

/// What a pass is planned for; batches may be smaller.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PassSizes {
    /// Most tokens of a batch, T.
    pub tokens: usize,
    /// Most rows that carry loss, R.
    pub rows: usize,
    /// Token ids that scores are made of, K; may be empty.
    pub score_tokens: Vec<u32>,
    /// With a gradient: compute activations again on the way back, instead of keeping them.
    pub recompute: bool,
    /// With a gradient: thin the inputs of adapters as their settings say.
    pub dropout: bool,
}

/// From here on the steps of f32 are larger than 1/128, and the errors of a logit, which sums many products, larger still.
const LARGEST_LOGIT: f32 = 65_536.0;

/// What the loss head knows about one row.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenStats {
    pub log_sum_exp: f32,
    /// Log-probability of the objective's token.
    pub log_p: f32,
    /// Of the whole softmax, in nats.
    pub entropy: f32,
    /// Full-vocabulary log-probability of each score token. NaN where the logits are not finite, or so large (beyond 2^16) that
    /// the rounding of f32 hides how far they are apart.
    pub score_log_probs: Vec<f32>,
}

/// Forward over a packed batch, statistics of its rows, and with a gradient also backward.
///
/// A reward may have to be read from the model before there is an objective to learn. So a pass with a gradient can also
/// be run in two halves that share one forward pass: [`Pass::forward`], then [`Pass::backward`] with other rows and objectives.
pub struct Pass {
    gpu: Gpu,
    weights: Weights,
    plan: Plan,
    front: Front,
    sizes: PassSizes,
    head: Head,
    backward: Option<BackwardPlan>,
}

/// What the way back reads, and where it begins.
struct BackwardPlan {
    inputs: DecoderBackwardInputs,
    coefficients: Tensor,
    params: BackwardParams,
    /// The live key of dropout, where the pass drops anything.
    noise: Option<[RunParam; 2]>,
    /// Steps of the plan before it: forward, and statistics of the rows that are only read.
    backward_start: usize,
    /// Tokens of the batch that was read last, while its activations are there.
    read: Mutex<Option<Vec<u32>>>,
}

/// RunParam values of the way back.
#[derive(Clone, Copy)]
struct BackwardParams {
    /// Rows that are read and not learned from.
    to_read: RunParam,
    /// Different tokens of the batch.
    distinct: RunParam,
}

/// What the host fills for the way back through the decoder.
struct DecoderBackwardInputs {
    row_of: Tensor,
    decoder: BackwardInputs,
}

impl DecoderBackwardInputs {
    fn new(plan: &mut PlanBuilder, front: &Front, sizes: &PassSizes, vocab: usize, distinct: RunParam) -> Self {
        let most = sizes.tokens.min(vocab);
        let row_of = plan.persistent("row of each token", sizes.tokens);
        let buckets = (plan.persistent("token buckets", most * 4), plan.persistent("tokens by id", sizes.tokens));
        let ones = plan.persistent("ones", sizes.tokens);
        let (distinct, recompute) = (Extent::dynamic(distinct, most as u32), sizes.recompute);
        DecoderBackwardInputs { row_of, decoder: BackwardInputs { spans: front.spans, buckets, distinct, ones, recompute } }
    }
}

impl BackwardPlan {
    fn last(&self) -> std::sync::MutexGuard<'_, Option<Vec<u32>>> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pass {
    /// Plans a pass; with `gradient`, it adds the weight gradients of each batch to it.
    ///
    /// # Errors
    /// Out of memory, a tensor over the adapter's limits, score tokens outside the vocabulary, or a gradient of quantised
    /// weights.
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
        let front = Front::new(&mut plan, weights, sizes.tokens, sizes.rows);
        let back = targets.map(|targets| (targets, BackwardParams { to_read: plan.run_param(), distinct: plan.run_param() }));
        let noisy = sizes.dropout && back.is_some() && weights.adapter().is_some_and(|a| a.settings.dropout > 0.0);
        recorder.noise = noisy.then(|| [plan.run_param(), plan.run_param()]);
        let trace = recorder.forward(&mut plan, front.inputs(), &Attention::Packed(front.spans));
        let head = Head::new(&mut plan, &recorder, &sizes, LOGITS_BYTES.min(gpu.max_binding()));
        let backward = match back {
            None => {
                recorder.statistics(&mut plan, &front, &head, trace.output, front.count);
                None
            }
            Some((targets, params)) => {
                let to_read = Extent::dynamic(params.to_read, sizes.rows as u32);
                recorder.statistics(&mut plan, &front, &head, trace.output, to_read);
                let backward_start = plan.steps();
                let (coefficients, dchosen) = recorder.record_loss_backward(&mut plan, &front, &head, trace.output, targets);
                let inputs = DecoderBackwardInputs::new(&mut plan, &front, &sizes, weights.config.vocab_size, params.distinct);
                recorder.record_backward(&mut plan, &front, &inputs, &trace, targets, dchosen);
                Some(BackwardPlan { inputs, coefficients, params, noise: recorder.noise, backward_start, read: Mutex::new(None) })
            }
        };
        let plan = plan.build(gpu)?;
        front.write_rope(&plan, &weights.config, sizes.tokens)?;
        plan.write(head.score_tokens, &sizes.score_tokens)?;
        if let Some(backward) = backward.as_ref().filter(|_| weights.config.qkv_bias) {
            plan.write(backward.inputs.decoder.ones, &vec![1f32; sizes.tokens])?;
        }
        Ok(Pass { gpu: gpu.clone(), weights: weights.clone(), plan, front, sizes, head, backward })
    }

    /// What this pass was planned for.
    pub fn sizes(&self) -> &PassSizes {
        &self.sizes
    }

    /// Runs one batch, without waiting. With a gradient, it is *added* to.
    ///
    /// # Errors
    /// A batch over the planned sizes, an id outside the vocabulary, a position past the model's context.
    pub fn run(&self, batch: &PackedInputs) -> Result<(), ModelError> {
        let params = self.write(batch)?;
        Ok(self.plan.run(&params)?)
    }

    /// Runs one batch forward up to the statistics of its rows, without waiting and without a gradient.
    ///
    /// # Errors
    /// As [`Pass::run`].
    pub fn forward(&self, batch: &PackedInputs) -> Result<(), ModelError> {
        let mut params = self.write(batch)?;
        let Some(backward) = &self.backward else { return Ok(self.plan.run(&params)?) };
        params.set(backward.params.to_read, batch.rows.len() as u32);
        self.plan.run_steps(&params, 0..backward.backward_start)?;
        *backward.last() = Some(batch.ids.clone());
        Ok(())
    }

    /// Adds the gradient of the batch that was read last: the same tokens, with rows and objectives of its own. Without
    /// waiting. The weights must not have changed in between.
    ///
    /// # Errors
    /// As [`Pass::run`]; tokens that are not those of a batch that was just read; a pass without a gradient.
    pub fn backward(&self, batch: &PackedInputs) -> Result<(), ModelError> {
        let inconsistent = || ModelError::Inconsistent("a batch to learn from that was not read before".into());
        let backward = self.backward.as_ref().ok_or_else(inconsistent)?;
        if backward.last().take().is_none_or(|ids| ids != batch.ids) {
            return Err(inconsistent());
        }
        let params = self.write(batch)?;
        Ok(self.plan.run_steps(&params, backward.backward_start..self.plan.steps())?)
    }

    /// Runs one batch with a timestamp around every kernel; slowest first.
    pub async fn profile(&self, batch: &PackedInputs) -> Result<Vec<KernelTime>, ModelError> {
        let params = self.write(batch)?;
        Ok(self.plan.profile(&params).await?)
    }

    /// As [`Pass::profile`], each dispatch by itself, in order.
    pub async fn timeline(&self, batch: &PackedInputs) -> Result<Vec<Span>, ModelError> {
        let params = self.write(batch)?;
        Ok(self.plan.timeline(&params).await?)
    }

    /// Checks and uploads a batch; returns its run parameters, of which none is a row that is only read.
    fn write(&self, batch: &PackedInputs) -> Result<RunParams, ModelError> {
        let PassSizes { tokens, rows, .. } = self.sizes;
        batch.check(&self.weights.config, BatchLimits { tokens, rows, scores: self.sizes.score_tokens.len() })?;
        let mut params = self.front.write(&self.plan, batch)?;
        self.plan.write(self.head.objectives, &batch.objectives)?;
        if let Some(backward) = &self.backward {
            // Whatever runs now takes the place of a batch that was read.
            *backward.last() = None;
            let sorted = embedding::buckets(&batch.ids);
            let mut row_of = vec![NO_ROW; batch.ids.len()];
            for (r, t) in batch.rows.iter().enumerate() {
                row_of[*t as usize] = r as u32;
            }
            self.plan.write(backward.inputs.row_of, &row_of)?;
            self.plan.write(backward.coefficients, &batch.coefficients)?;
            self.plan.write(backward.inputs.decoder.buckets.0, &sorted.buckets)?;
            self.plan.write(backward.inputs.decoder.buckets.1, &sorted.tokens)?;
            params.set(backward.params.to_read, 0);
            params.set(backward.params.distinct, sorted.buckets.len() as u32);
            let noise = backward.noise.iter().flatten().zip(batch.noise);
            noise.for_each(|(word, key)| params.set(*word, key));
        }
        Ok(params)
    }

    /// Statistics of the last batch's rows. Waits for it.
    pub async fn stats(&self, rows: usize) -> Result<Vec<TokenStats>, ModelError> {
        let width = STATS + self.sizes.score_tokens.len();
        let values: Vec<f32> = self.gpu.read(self.plan.buffer(self.head.stats)?, 0, rows * width).await?;
        let row = |v: &[f32]| {
            let known = v[0].abs() <= LARGEST_LOGIT;
            let score_log_probs = v[STATS..].iter().map(|log_p| if known { *log_p } else { f32::NAN }).collect();
            TokenStats { log_sum_exp: v[0], log_p: v[1], entropy: v[2], score_log_probs }
        };
        Ok(values.chunks_exact(width).map(row).collect())
    }
}

/// The tensors of the loss head that all its uses in a pass share.
struct Head {
    objectives: Tensor,
    score_tokens: Tensor,
    stats: Tensor,
    /// Score tokens, K.
    scores: usize,
    /// Most rows, R.
    rows: usize,
    /// Rows a chunk.
    chunk: u32,
}

impl Head {
    /// `bytes`: what the logits of a chunk may take.
    fn new(plan: &mut PlanBuilder, recorder: &Recorder, sizes: &PassSizes, bytes: u64) -> Self {
        let (rows, scores) = (sizes.rows, sizes.score_tokens.len());
        Head {
            objectives: plan.persistent("row objectives", rows * TOKEN_LOSS_WORDS),
            score_tokens: plan.persistent("score tokens", scores),
            stats: plan.persistent("row statistics", rows * (STATS + scores)),
            scores,
            rows,
            chunk: loss_head::chunk_rows(recorder.shape.vocab, rows as u32, bytes),
        }
    }

    /// The head over the normed hidden states of `count` rows.
    fn over(&self, plan: &mut PlanBuilder, recorder: &Recorder, normed: Tensor, count: Extent) -> LossHead {
        LossHead {
            hidden: normed,
            table: recorder.weights.matrix(plan, recorder.weights.groups.output()),
            rows: self.objectives,
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

fn check_score_tokens(weights: &Weights, tokens: &[u32]) -> Result<(), ModelError> {
    let (allowed, found) = (weights.config.vocab_size - 1, tokens.iter().copied().max().unwrap_or(0) as usize);
    if found > allowed { Err(ModelError::Batch { what: "largest score token", allowed, found }) } else { Ok(()) }
}

impl Recorder<'_> {
    /// Statistics of `count` rows of the last hidden states.
    fn statistics(&self, plan: &mut PlanBuilder, front: &Front, head: &Head, hidden: Tensor, count: Extent) {
        let (_, normed) = self.chosen(plan, front.rows, hidden, count);
        let head = head.over(plan, self, normed, count);
        loss_head::record(plan, head, None);
    }

    /// Statistics of the rows, and the gradient of their loss up to the rows of the last hidden states. Returns the
    /// coefficients of scores, which the host fills, and that gradient.
    fn record_loss_backward(
        &self,
        plan: &mut PlanBuilder,
        front: &Front,
        head: &Head,
        hidden: Tensor,
        targets: GradTargets,
    ) -> (Tensor, Tensor) {
        let (count, width, groups) = (front.count, self.shape.hidden, &self.weights.groups);
        let (chosen, normed) = self.chosen(plan, front.rows, hidden, count);
        let loss = head.over(plan, self, normed, count);
        let dnormed = plan.scratch("d normed rows", words(count, width));
        let dtable = targets.matrix(plan, groups.output());
        let coefficients = plan.persistent("score coefficients", head.rows * head.scores);
        loss_head::record(plan, loss, Some(LossGradient { coefficients, dhidden: dnormed, dtable }));
        let dchosen = plan.scratch("d rows", words(count, width));
        let (w, dw) = self.pair(plan, targets, groups.final_norm);
        let b = rmsnorm::Backward { x: chosen, w, dy: dnormed, dx: dchosen, dw, accumulate: false };
        rmsnorm::backward(plan, self.shape.norm(), b, count);
        (coefficients, dchosen)
    }

    /// From the gradient of the rows back through the decoder.
    fn record_backward(
        &self,
        plan: &mut PlanBuilder,
        front: &Front,
        back: &DecoderBackwardInputs,
        trace: &Trace,
        targets: GradTargets,
        dchosen: Tensor,
    ) {
        let width = self.shape.hidden;
        let dh = plan.scratch("d residual stream", words(front.tokens, width));
        rows::scatter(plan, back.row_of, dchosen, dh, front.tokens, width);
        self.backward(plan, front.inputs(), back.decoder, trace, targets, dh);
    }
}
