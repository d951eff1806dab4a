//! Times the model: a training step (W1), a rollout (W3), decoding a single chain.

use super::clock::{self, Effort};
use super::{BenchError, Group, Measurement, Shape};
use crate::gpu::Gpu;
use crate::model::decoder::{CachePass, CacheSizes, PackedInputs, Pass, PassSizes, PrefillPrompt, PrefillRow, Sampler};
use crate::model::init::Init;
use crate::model::weights::Weights;
use crate::ops::loss_head::TokenLoss;
use crate::rollout::{ReadSizes, Rollout, RolloutSizes, Stop};
use crate::train::objective::optimiser::{Optimiser, OptimiserSettings};

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
    let weights = weights(gpu, shape)?;
    let settings = OptimiserSettings { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.01, max_grad_norm: 1.0 };
    let optimiser = Optimiser::new(gpu, weights.trainable()?, settings)?;
    let tokens = shape.step_tokens();
    let mut batch = PackedInputs::default();
    for sequence in 0..shape.batch {
        let ids = ids(shape, shape.tokens, sequence);
        let start = batch.push(&ids);
        for i in 0..ids.len() {
            let next = ids[(i + 1) % ids.len()];
            let objective = TokenLoss::token(next, 1.0 / tokens as f32);
            batch.push_loss(start + i as u32, objective);
        }
    }
    let sizes = PassSizes { tokens, loss_positions: tokens, ..PassSizes::default() };
    let pass = Pass::new(gpu, &weights, Some(&optimiser.gradient), sizes)?;
    Ok(TrainingStep { gpu: gpu.clone(), pass, optimiser, batch, steps_done: 0 })
}

impl TrainingStep {
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
    let memory_before = gpu.allocated();
    let mut step = step(gpu, shape)?;
    let memory = gpu.allocated() - memory_before;
    let seconds = clock::wall(effort, async || step.run().await).await?;
    Ok(Measurement {
        group: Group::Step,
        name: format!("training step {}x{}", shape.batch, shape.tokens),
        seconds,
        flops: shape.step_flops(),
        bytes: 0,
        memory,
        tokens: shape.step_tokens() as u64,
        timestamps: false,
    })
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
    let chain = |r: usize| PrefillRow { prompt: 0, at: (shape.prompt + r * shape.new_tokens) as u32, stream: r as u32 };
    let chains: Vec<PrefillRow> = (0..rows).map(chain).collect();
    let prompt = ids(shape, shape.prompt, 0);
    pass.prefill(&[PrefillPrompt { ids: &prompt, at: 0 }], 0, &chains)?;
    Ok(pass.draw(0, rows, SAMPLER)?)
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
        pass.step(1, shape.new_tokens, SAMPLER)?;
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
