//! The decoder: one parametrised model for Llama, Mistral, Qwen2 and Qwen3, composed of `ops`.
//!
//! ```text
//! ids ─ embed ─► h ──┬─ norm ─ qkv ─ (q/k norm) ─ rope ─ attention ─ o ─┬─ norm ─ gate·up ─ swiglu ─ down ─► + ─► h … norm, head
//!                    └────────────────────── + ◄────────────────────────┘
//! ```
//!
//! [`Recorder::record_forward`] appends the forward pass to a plan and returns a [`Trace`] of the tensors that the backward pass
//! needs. [`Recorder::record_backward`] walks the trace from the last layer to the first. Neither runs anything. `train_pass` and
//! `logits_pass` own plans for packed batches, `decode` owns plans for cached generation: their `forward`, `backward` and `run`
//! run these plans.

mod backward;
mod batch_tensors;
mod decode;
mod forward;
mod logits_pass;
mod project;
mod train_pass;

pub use decode::{CachePass, CacheSizes, Draw, PrefillPrompt, PrefillRow, RowState, Sampler};
pub use logits_pass::LogitsPass;
pub use train_pass::{Pass, PassSizes, TokenStats};

pub use super::batch::PackedInputs;

use project::{LoraActivations, Projection};

use super::config::Config;
use super::weights::Weights;
use crate::gpu::{Extent, PlanBuilder, RunParam, Tensor};
use crate::ops::attention::Heads;
use crate::ops::rmsnorm::Norm;
use crate::ops::rope::Positions;

/// The sizes of a decoder, as kernels take them.
#[derive(Clone, Copy, Debug)]
struct Shape {
    heads: Heads,
    hidden: u32,
    inner: u32,
    vocab: u32,
    eps: f32,
}

impl Shape {
    fn of(config: &Config) -> Self {
        Shape {
            heads: Heads {
                heads: config.num_attention_heads as u32,
                kv_heads: config.num_key_value_heads as u32,
                head_dim: config.head_dim as u32,
                window: config.sliding_window.map(|w| w as u32),
            },
            hidden: config.hidden_size as u32,
            inner: config.intermediate_size as u32,
            vocab: config.vocab_size as u32,
            eps: config.rms_norm_eps as f32,
        }
    }

    /// Columns of the fused q, k, v.
    fn qkv(&self) -> u32 {
        self.heads.total() * self.heads.head_dim
    }

    /// Columns of the attention output.
    fn attended(&self) -> u32 {
        self.heads.heads * self.heads.head_dim
    }

    fn norm(&self) -> Norm {
        Norm::plain(self.hidden, self.eps)
    }

    /// Qwen3's norm of each q and k head. v heads are copied.
    fn head_norm(&self) -> Norm {
        let Heads { heads, kv_heads, head_dim, .. } = self.heads;
        Norm { width: head_dim, heads: self.heads.total(), q_heads: heads, normed: heads + kv_heads, eps: self.eps }
    }
}

/// The inputs of a pass.
#[derive(Clone, Copy, Debug)]
struct Inputs {
    /// `[T]`
    ids: Tensor,
    /// `[T]`, or the KV slots of cached attention.
    positions: (Tensor, Positions),
    /// `[positions, head_dim / 2, 2]`
    rope: Tensor,
    tokens: Extent,
}

/// Which tokens attend to which.
enum Attention<'a> {
    /// By `spans`, `[T]`.
    Packed(Tensor),
    /// By KV slots, `[T]`, over one cache per layer. Sequences have at most `max_length` positions, of which at most `own` follow
    /// the prefix.
    Cached { slots: Tensor, caches: &'a [Tensor], own: u32, max_length: u32 },
}

/// The tensors of one layer that its backward pass needs.
#[derive(Clone, Copy, Debug)]
struct LayerTrace {
    /// `[T, H]`: the input of the layer.
    input: Tensor,
    /// `[T, H]`
    input_normed: Tensor,
    /// `[T, heads, D]`: before the q/k norm, if there is one.
    raw_qkv: Option<Tensor>,
    /// `[T, heads, D]`: after rope.
    qkv: Tensor,
    /// `[T, heads, D]`
    attended: Tensor,
    /// `[T, heads, 2]`; `None` with a cache.
    stats: Option<Tensor>,
    /// `[T, H]`: the residual stream between the two blocks.
    middle: Tensor,
    /// `[T, H]`
    middle_normed: Tensor,
    /// `[T, 2F]`
    gate_up: Tensor,
    /// `[T, F]`
    inner: Tensor,
    lora: LayerLoraActivations,
}

/// The tensors of a layer's adapters that their backward pass needs.
#[derive(Clone, Copy, Debug)]
struct LayerLoraActivations {
    qkv: Option<LoraActivations>,
    o: Option<LoraActivations>,
    gate_up: Option<LoraActivations>,
    down: Option<LoraActivations>,
}

/// The tensors of a forward pass that the backward pass needs.
struct Trace {
    layers: Vec<LayerTrace>,
    /// `[T, H]`: the output of the last layer, before the final norm.
    output: Tensor,
}

/// Words of a tensor `[size, width]`.
fn words(size: Extent, width: u32) -> usize {
    size.max() as usize * width as usize
}

/// The rope table of `config`, a persistent tensor. The host writes [`rope_values`] to it when the plan is built.
fn rope_table(plan: &mut PlanBuilder, config: &Config, positions: usize) -> Tensor {
    plan.persistent("rope table", positions * config.head_dim)
}

fn rope_values(config: &Config, positions: usize) -> Vec<f32> {
    crate::ops::rope::table(&config.inv_freq(), 1.0, positions)
}

/// Records passes of one model into plans.
struct Recorder<'a> {
    weights: &'a Weights,
    shape: Shape,
    /// The random key of dropout, if the pass has dropout.
    dropout_key: Option<[RunParam; 2]>,
}

impl<'a> Recorder<'a> {
    fn new(weights: &'a Weights) -> Self {
        Recorder { weights, shape: Shape::of(&weights.config), dropout_key: None }
    }

    /// The projection by group `index`, for `tokens` tokens.
    fn projection(&self, index: usize, tokens: Extent) -> Projection {
        let group = &self.weights.groups.list[index];
        Projection { group: index, tokens, outputs: group.rows as u32, inputs: group.cols as u32 }
    }
}
