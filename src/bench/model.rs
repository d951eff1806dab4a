//! Times the model: a training step (W1), a rollout (W3), decoding a single chain, scoring prompts, a LoRA step.

use super::clock::{self, Effort};
use super::{BenchError, Group, Measurement, Shape};
use crate::gpu::Gpu;
use crate::model::decoder::{CachePass, CacheSizes, PackedInputs, Pass, PassSizes, PrefillPrompt, PrefillRow, Sampler};
use crate::model::init::Init;
use crate::model::lora::{ALL_LINEAR, Adapter, LoraSettings};
use crate::model::weights::Weights;
use crate::ops::loss_head::TokenLoss;
use crate::rollout::{ReadSizes, Rollout, RolloutSizes, Stop};
use crate::train::objective::optimiser::{Optimiser, OptimiserSettings};

/// Rank of the adapter of the LoRA step.
const LORA_RANK: usize = 8;
/// Tokens of a scoring pass, as a judge packs them.
const SCORE_TOKENS: usize = 4096;
/// Score tokens, such as the digits 0 to 5.
const SCORES: u32 = 6;

const SAMPLER: Sampler = Sampler { temperature: 1.0, top_p: 1.0, top_k: 0, key: [1, 2] };

/// A training step on the GPU.
pub struct TrainingStep {
    gpu: Gpu,
    pub pass: Pass,
    pub optimiser: Optimiser,
    pub batch: PackedInputs,
    steps_done: u64,
}

fn weights(gpu: &Gpu, shape: &Shape) -> Result<Weights, BenchError> {
    Ok(Weights::upload(gpu, &Init::new(shape.config()?, 1))?)
}

/// Arbitrary ids below the vocabulary's size.
fn ids(shape: &Shape, count: usize, salt: usize) -> Vec<u32> {
    (0..count).map(|i| ((i * 7 + salt * 13) % shape.vocab) as u32).collect()
}

/// A model with its optimiser and one batch. The loss is the cross-entropy of every next token.
///
/// # Errors
/// Sizes that do not make a valid model, or exceed the adapter's memory.
pub fn step(gpu: &Gpu, shape: &Shape) -> Result<TrainingStep, BenchError> {
    TrainingStep::new(gpu, &weights(gpu, shape)?, shape, [shape.batch, shape.tokens, shape.tokens])
}

/// A frozen model with an adapter of all projections, its optimiser, and one batch of rows whose last tokens carry loss.
///
/// # Errors
/// As [`step`].
pub fn lora_step(gpu: &Gpu, shape: &Shape) -> Result<TrainingStep, BenchError> {
    let base = weights(gpu, shape)?;
    let (r, targets) = (LORA_RANK, vec![ALL_LINEAR.to_string()]);
    let settings = LoraSettings { r, alpha: 2.0 * r as f64, dropout: 0.0, rslora: false, targets };
    let adapted = base.with_adapter(Adapter::fresh(gpu, &base.config, &settings, 1)?);
    TrainingStep::new(gpu, &adapted, shape, [shape.lora_rows, shape.row_tokens, shape.lora_answer()])
}

/// A forward pass, and the batches of prompts to score with it.
pub struct Scoring {
    pub pass: Pass,
    pub batches: Vec<PackedInputs>,
}

/// Prompts packed as a judge packs them. The scores are read after the last token of each.
///
/// # Errors
/// As [`step`].
pub fn scoring(gpu: &Gpu, shape: &Shape) -> Result<Scoring, BenchError> {
    let rows: Vec<usize> = (0..shape.rows).collect();
    let packed = |rows: &[usize]| {
        let mut batch = PackedInputs::default();
        for row in rows {
            let start = batch.push(&ids(shape, shape.row_tokens, *row));
            batch.push_loss(start + shape.row_tokens as u32 - 1, TokenLoss::default());
        }
        batch
    };
    let batches: Vec<PackedInputs> = rows.chunks((SCORE_TOKENS / shape.row_tokens).max(1)).map(packed).collect();
    let most = |size: fn(&PackedInputs) -> usize| batches.iter().map(size).max().unwrap_or(0);
    let sizes = PassSizes {
        tokens: most(|b| b.ids.len()),
        loss_positions: most(|b| b.loss_positions.len()),
        score_tokens: (0..SCORES.min(shape.vocab as u32)).collect(),
        ..PassSizes::default()
    };
    Ok(Scoring { pass: Pass::new(gpu, &weights(gpu, shape)?, None, sizes)?, batches })
}

/// Times the scoring of all prompts.
pub async fn measure_scoring(gpu: &Gpu, shape: &Shape, effort: Effort) -> Result<Measurement, BenchError> {
    let memory_before = gpu.allocated();
    let scoring = scoring(gpu, shape)?;
    let memory = gpu.allocated() - memory_before;
    let run = async || {
        for batch in &scoring.batches {
            scoring.pass.run(batch)?;
            scoring.pass.stats(batch.loss_positions.len()).await?;
        }
        Ok::<(), BenchError>(())
    };
    let seconds = clock::wall(effort, run).await?;
    Ok(Measurement {
        group: Group::Score,
        name: format!("score {}x{} tokens", shape.rows, shape.row_tokens),
        seconds,
        flops: shape.score_flops(),
        bytes: 0,
        memory,
        tokens: (shape.rows * shape.row_tokens) as u64,
        timestamps: false,
    })
}

/// Times LoRA steps.
pub async fn measure_lora(gpu: &Gpu, shape: &Shape, effort: Effort) -> Result<Measurement, BenchError> {
    let name = format!("LoRA step {}x{}", shape.lora_rows, shape.row_tokens);
    let tokens = (shape.lora_rows * shape.row_tokens) as u64;
    measure_steps(gpu, effort, || lora_step(gpu, shape), (Group::Lora, name, shape.lora_flops(), tokens)).await
}

/// Times steps of one kind, given its group, name, floating-point operations and tokens.
async fn measure_steps(
    gpu: &Gpu,
    effort: Effort,
    plan: impl FnOnce() -> Result<TrainingStep, BenchError>,
    (group, name, flops, tokens): (Group, String, u64, u64),
) -> Result<Measurement, BenchError> {
    let memory_before = gpu.allocated();
    let mut step = plan()?;
    let memory = gpu.allocated() - memory_before;
    let seconds = clock::wall(effort, async || step.run().await).await?;
    Ok(Measurement { group, name, seconds, flops, bytes: 0, memory, tokens, timestamps: false })
}

impl TrainingStep {
    /// `rows` sequences of `tokens`; the last `losses` of each carry the cross-entropy of the next token.
    fn new(gpu: &Gpu, weights: &Weights, shape: &Shape, [rows, tokens, losses]: [usize; 3]) -> Result<Self, BenchError> {
        let settings = OptimiserSettings { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.01, max_grad_norm: 1.0 };
        let optimiser = Optimiser::new(gpu, weights.trainable()?, settings)?;
        let mut batch = PackedInputs::default();
        for sequence in 0..rows {
            let ids = ids(shape, tokens, sequence);
            let start = batch.push(&ids);
            for i in tokens - losses..tokens {
                let next = ids[(i + 1) % ids.len()];
                batch.push_loss(start + i as u32, TokenLoss::token(next, 1.0 / (rows * losses) as f32));
            }
        }
        let sizes = PassSizes { tokens: rows * tokens, loss_positions: rows * losses, ..PassSizes::default() };
        let pass = Pass::new(gpu, weights, Some(&optimiser.gradient), sizes)?;
        Ok(TrainingStep { gpu: gpu.clone(), pass, optimiser, batch, steps_done: 0 })
    }

    /// Forward, backward, clipping and AdamW. Reads the token losses and the gradient norm, as training does.
    pub async fn run(&mut self) -> Result<(), BenchError> {
        self.steps_done += 1;
        self.pass.run(&self.batch)?;
        self.pass.stats(self.batch.loss_positions.len()).await?;
        self.optimiser.step(&self.gpu, 1e-4, self.steps_done).await?;
        Ok(())
    }
}

/// Times training steps.
pub async fn measure_step(gpu: &Gpu, shape: &Shape, effort: Effort) -> Result<Measurement, BenchError> {
    let name = format!("training step {}x{}", shape.batch, shape.tokens);
    let tokens = shape.step_tokens() as u64;
    measure_steps(gpu, effort, || step(gpu, shape), (Group::Step, name, shape.step_flops(), tokens)).await
}

/// Times rollouts of one prompt: `samples` chains of `new_tokens` tokens each. No chain stops early.
pub async fn measure_rollout(gpu: &Gpu, shape: &Shape, effort: Effort) -> Result<Measurement, BenchError> {
    let memory_before = gpu.allocated();
    let weights = weights(gpu, shape)?;
    let Shape { samples, prompt, new_tokens, .. } = *shape;
    let rollout = Rollout::new(
        gpu,
        &weights,
        RolloutSizes { rows: samples, group: samples, prompt, new_tokens, read: ReadSizes::default() },
    )?;
    let memory = gpu.allocated() - memory_before;
    let prompts = [ids(shape, prompt, 0)];
    let stop = Stop { phrases: Vec::new(), eos: Vec::new(), max_tokens: new_tokens };
    let seconds = clock::wall(effort, async || rollout.run(&prompts, 0, SAMPLER, &stop, &mut ()).await.map(drop)).await?;
    Ok(Measurement {
        group: Group::Rollout,
        name: format!("rollout {samples} samples, {prompt}+{new_tokens} tokens"),
        seconds,
        flops: shape.rollout_flops(samples),
        // Every step reads the weights once for all chains, and the cache once per chain.
        bytes: 0,
        memory,
        tokens: (samples * new_tokens) as u64,
        timestamps: false,
    })
}

/// A prefilled cache of one prompt, with `rows` chains ready to decode.
pub fn decoder(gpu: &Gpu, shape: &Shape, rows: usize) -> Result<CachePass, BenchError> {
    let weights = weights(gpu, shape)?;
    let sizes = CacheSizes {
        entries: shape.prompt + rows * shape.new_tokens,
        rows,
        prefill: shape.prompt,
        own: shape.new_tokens,
        max_length: shape.prompt + shape.new_tokens,
        history: shape.new_tokens.max(1),
        scores: 0,
    };
    let pass = CachePass::new(gpu, &weights, sizes)?;
    prefill(&pass, shape, rows)?;
    Ok(pass)
}

fn prefill(pass: &CachePass, shape: &Shape, rows: usize) -> Result<(), BenchError> {
    let chain =
        |r: usize| PrefillRow { prompt: 0, at: (shape.prompt + r * shape.new_tokens) as u32, stream: r as u32, sampler: SAMPLER };
    let chains: Vec<PrefillRow> = (0..rows).map(chain).collect();
    let prompt = ids(shape, shape.prompt, 0);
    pass.prefill(&[PrefillPrompt { ids: &prompt, at: 0 }], 0, &chains)?;
    Ok(pass.draw(0, rows, false)?)
}

/// Times a single chain: only tokens after the prompt count.
pub async fn measure_decode(gpu: &Gpu, shape: &Shape, effort: Effort) -> Result<Measurement, BenchError> {
    let memory_before = gpu.allocated();
    let pass = decoder(gpu, shape, 1)?;
    let memory = gpu.allocated() - memory_before;
    let mut samples = Vec::new();
    // The first run is not counted.
    for counted in std::iter::once(false).chain(std::iter::repeat_n(true, effort.samples.max(1))) {
        prefill(&pass, shape, 1)?;
        gpu.wait()?;
        let start = std::time::Instant::now();
        pass.step(1, shape.new_tokens, false)?;
        pass.drawn(1).await?;
        if counted {
            samples.push(start.elapsed().as_secs_f64());
        }
    }
    Ok(Measurement {
        group: Group::Decode,
        name: format!("decode 1 sample, {} tokens behind {}", shape.new_tokens, shape.prompt),
        seconds: clock::median(samples),
        flops: shape.decode_flops(),
        bytes: shape.decode_bytes(),
        memory,
        tokens: shape.new_tokens as u64,
        timestamps: false,
    })
}
