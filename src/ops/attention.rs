//! Grouped-query causal attention over packed sequences (`shaders/attention.wgsl`, and for CPU adapters with subgroups
//! `shaders/attention_subgroup.wgsl`).

use super::elements;
use crate::gpu::{Dispatch, Grid, KernelSpec, PlanBuilder, Size, Tensor, Tuning, Word};

/// The shape of an attention layer. `head_dim` must be even.
#[derive(Clone, Copy, Debug)]
pub struct Heads {
    pub heads: u32,
    pub kv_heads: u32,
    pub head_dim: u32,
    /// Sliding window: a token sees itself and the `window - 1` positions before it.
    pub window: Option<u32>,
}

impl Heads {
    /// Heads of the fused q, k, v tensor.
    pub fn total(&self) -> u32 {
        self.heads + 2 * self.kv_heads
    }

    pub(super) fn scale(&self) -> f32 {
        1.0 / (self.head_dim as f32).sqrt()
    }

    pub(super) fn constants(&self) -> Vec<(&'static str, u32)> {
        let lane_width = if self.head_dim.is_multiple_of(4) { 4 } else { 2 };
        vec![
            ("LANE_WIDTH", lane_width),
            ("PIECES", self.head_dim / lane_width),
            ("HEADS", self.heads),
            ("KV_HEADS", self.kv_heads),
            ("WINDOW", self.window.unwrap_or(0)),
            ("WINDOWED", u32::from(self.window.is_some())),
        ]
    }
}

/// Whether the subgroup variant takes these heads: whole vec4s, an even number of them, and registers for a key.
fn by_subgroups(heads: &Heads, tuning: &Tuning) -> bool {
    tuning.subgroups_of_8 && heads.head_dim.is_multiple_of(8) && heads.head_dim <= 128
}

fn spec(entry: &'static str, heads: &Heads, tuning: &Tuning) -> KernelSpec {
    if entry != "prepare" && by_subgroups(heads, tuning) {
        let loads = ("LOADS", heads.head_dim / 8);
        return KernelSpec::new("attention_subgroup.wgsl", entry, &[&heads.constants()[..], &[loads]].concat());
    }
    KernelSpec::new("attention.wgsl", entry, &heads.constants())
}

/// Multiply-adds of a token against an average context are not known to the plan; this guess only splits submissions.
fn flops(heads: &Heads) -> u64 {
    u64::from(heads.head_dim) * 4 * 256
}

fn record(plan: &mut PlanBuilder, h: &Heads, entry: &'static str, tensors: &[Tensor], tokens: Size, heads: u32) {
    let kernel = spec(entry, h, plan.tuning());
    let size = tokens.times(heads);
    let grid = match kernel.needs_subgroups() {
        true => Grid::Tiles { x: tokens, tile_x: 8, y: Size::fixed(heads), tile_y: 1 },
        false => elements(size),
    };
    plan.dispatch(Dispatch {
        kernel,
        tensors,
        words: &[Word::Size(tokens), Word::F(h.scale())],
        grid,
        flops: flops(h),
        work: size,
    });
}

/// `out[T, heads, D] = attention(qkv[T, total, D])`, and `stats[T, heads, 2]` for the way back.
/// `spans` is `[T, 4]`: prefix_start, prefix_len, own_start, query_end.
pub fn forward(plan: &mut PlanBuilder, h: &Heads, qkv: Tensor, spans: Tensor, out: Tensor, stats: Tensor, tokens: Size) {
    record(plan, h, "forward", &[qkv, spans, out, stats], tokens, h.heads);
}

/// The tensors of the backward pass.
#[derive(Clone, Copy, Debug)]
pub struct Backward {
    pub qkv: Tensor,
    pub spans: Tensor,
    pub out: Tensor,
    pub stats: Tensor,
    pub dout: Tensor,
    pub dqkv: Tensor,
}

/// `dqkv[T, total, D] = …` (all heads are written).
pub fn backward(plan: &mut PlanBuilder, h: &Heads, b: Backward, tokens: Size) {
    record(plan, h, "prepare", &[b.out, b.dout, b.stats], tokens, h.heads);
    let tensors = [b.qkv, b.spans, b.dout, b.stats, b.dqkv];
    record(plan, h, "backward_q", &tensors, tokens, h.heads);
    record(plan, h, "backward_kv", &tensors, tokens, h.kv_heads);
}

/// Shapes that take each branch of the kernels: vec4 and vec2 pieces, grouped heads, with and without a window.
pub(super) fn sample_heads() -> Vec<Heads> {
    vec![
        Heads { heads: 4, kv_heads: 2, head_dim: 16, window: None },
        Heads { heads: 7, kv_heads: 1, head_dim: 6, window: Some(5) },
        Heads { heads: 2, kv_heads: 2, head_dim: 128, window: None },
        Heads { heads: 6, kv_heads: 3, head_dim: 8, window: Some(9) },
    ]
}

pub(super) fn variants(tuning: &Tuning) -> Vec<KernelSpec> {
    let entries = ["forward", "prepare", "backward_q", "backward_kv"];
    sample_heads().iter().flat_map(|h| entries.map(|e| spec(e, h, tuning))).collect()
}
