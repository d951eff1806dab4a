//! The decoder: one parametrised model for all families, composed of `ops`. What a family does differently is data of the
//! [`Config`] (`docs/families.md`).
//!
//! ```text
//! ids ─ embed ─► h ─┬─ norm ─ qkv ─ (q/k norm) ─ (rope) ─ attention ─ o ─ (norm) ─► + ─► h'
//!                   └──────────────────────────────────────────────────────────────►┘
//!               h' ─┬─ norm ─ gate·up ─ activation ─ down ─ (norm) ─► + ─► h … norm, head
//!                   └────────────────────────────────────────────────►┘
//! ```
//!
//! What is in brackets depends on the family or the layer.
//!
//! [`Recorder::record_forward`] appends the forward pass to a plan and returns a [`Trace`] of the tensors that the backward pass
//! needs. [`Recorder::record_backward`] walks the trace from the last layer to the first. Neither runs anything. `train_pass` and
//! `logits_pass` own plans for packed batches, `decode` and `cache_read` own plans for cached generation: their `forward`,
//! `backward` and `run` run these plans.

mod backward;
mod batch_tensors;
mod cache_read;
mod decode;
mod forward;
mod input_squares;
mod logits_pass;
mod project;
mod train_pass;

pub use cache_read::CacheRead;
pub use decode::{CachePass, CacheSizes, Draw, PrefillPrompt, PrefillRow, RowState, Sampler, Span};
pub use input_squares::InputSquaresPass;
pub use logits_pass::LogitsPass;
pub use train_pass::{Pass, PassSizes, TokenStats};

pub use super::batch::PackedInputs;

use std::collections::HashMap;

use project::{LoraActivations, Projection};

use super::config::{Config, Layer};
use super::error::ModelError;
use super::weights::Weights;
use crate::gpu::{Extent, Plan, PlanBuilder, RunParam, Tensor};
use crate::ops::attention::Heads;
use crate::ops::embedding::Embedding;
use crate::ops::rmsnorm::Norm;
use crate::ops::rope::{self, Positions};
use crate::ops::swiglu::Gated;

/// The sizes of a decoder, as kernels take them.
#[derive(Clone, Copy, Debug)]
struct Shape {
    /// Of every layer, without its window.
    heads: Heads,
    embedding: Embedding,
    /// Of the residual stream.
    norm: Norm,
    mlp: Gated,
    hidden: u32,
    inner: u32,
    vocab: u32,
}

impl Shape {
    fn of(config: &Config) -> Self {
        let (hidden, inner) = (config.hidden_size as u32, config.intermediate_size as u32);
        Shape {
            heads: Heads {
                heads: config.num_attention_heads as u32,
                kv_heads: config.num_key_value_heads as u32,
                head_dim: config.head_dim as u32,
                window: None,
                scale: config.attention_scale() as f32,
            },
            embedding: Embedding { width: hidden, scale: config.embedding_scale as f32 },
            norm: Norm { offset: config.norm_offset as f32, ..Norm::plain(hidden, config.rms_norm_eps as f32) },
            mlp: Gated { activation: config.activation, width: inner },
            hidden,
            inner,
            vocab: config.vocab_size as u32,
        }
    }

    /// The heads of a layer.
    fn heads_of(&self, layer: Layer) -> Heads {
        Heads { window: layer.window.map(|w| w as u32), ..self.heads }
    }

    /// Columns of the fused q, k, v.
    fn qkv(&self) -> u32 {
        self.heads.total() * self.heads.head_dim
    }

    /// Columns of the attention output.
    fn attended(&self) -> u32 {
        self.heads.heads * self.heads.head_dim
    }

    /// The norm of each q and k head. v heads are copied.
    fn head_norm(&self) -> Norm {
        let Heads { heads, kv_heads, head_dim, .. } = self.heads;
        Norm { width: head_dim, heads: self.heads.total(), q_heads: heads, normed: heads + kv_heads, ..self.norm }
    }
}

/// The attention layers of a model that differ.
pub fn attention_layers(config: &Config) -> Vec<Heads> {
    let shape = Shape::of(config);
    let mut layers: Vec<Heads> = Vec::new();
    for layer in &config.layers {
        let heads = shape.heads_of(*layer);
        if layers.iter().all(|known| known.window != heads.window) {
            layers.push(heads);
        }
    }
    layers
}

/// The inputs of a pass.
#[derive(Clone, Copy, Debug)]
struct Inputs<'a> {
    /// `[T]`
    ids: Tensor,
    /// `[T]`, or the KV slots of cached attention.
    positions: (Tensor, Positions),
    /// The table of each rope, `[positions, 2, head_dim / 2]`.
    ropes: &'a [Tensor],
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
    /// `[T, H]`: what attention adds, before its norm, if there is one.
    raw_o: Option<Tensor>,
    /// `[T, H]`: the residual stream between the two blocks.
    middle: Tensor,
    /// `[T, H]`
    middle_normed: Tensor,
    /// `[T, 2F]`
    gate_up: Tensor,
    /// `[T, F]`
    inner: Tensor,
    /// `[T, H]`: what the MLP adds, before its norm, if there is one.
    raw_down: Option<Tensor>,
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

/// The rope tables of `config`, persistent tensors. [`write_ropes`] fills them when the plan is built.
fn rope_tables(plan: &mut PlanBuilder, config: &Config, positions: usize) -> Vec<Tensor> {
    config.ropes.iter().map(|_| plan.persistent("rope table", positions * config.head_dim)).collect()
}

fn write_ropes(plan: &Plan, config: &Config, tables: &[Tensor], positions: usize) -> Result<(), ModelError> {
    for (table, inv_freq) in tables.iter().zip(config.inv_freqs()) {
        plan.write(*table, &rope::table(&inv_freq, 1.0, positions))?;
    }
    Ok(())
}

/// Records passes of one model into plans.
struct Recorder<'a> {
    weights: &'a Weights,
    shape: Shape,
    /// The random key of dropout, if the pass has dropout.
    dropout_key: Option<[RunParam; 2]>,
    /// For each group, the tensor to which the squares of its projection's inputs are added; none unless a pass calibrates.
    input_squares: HashMap<usize, Tensor>,
}

impl<'a> Recorder<'a> {
    fn new(weights: &'a Weights) -> Self {
        Recorder { weights, shape: Shape::of(&weights.config), dropout_key: None, input_squares: HashMap::new() }
    }

    /// Layer `index` of the model.
    fn layer_of(&self, index: usize) -> Layer {
        self.weights.config.layers[index]
    }

    /// The projection by group `index`, for `tokens` tokens.
    fn projection(&self, index: usize, tokens: Extent) -> Projection {
        let group = &self.weights.groups.list[index];
        Projection { group: index, tokens, outputs: group.rows as u32, inputs: group.cols as u32 }
    }
}
