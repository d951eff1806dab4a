//! Grouped-query causal attention over packed sequences (`shaders/attention.wgsl`; for CPU adapters with subgroups
//! `shaders/attention_subgroup.wgsl`, for GPUs `shaders/attention_tiled.wgsl`).

use super::elements;
use crate::gpu::{Dispatch, Extent, Grid, KernelSpec, Param, PlanBuilder, Tensor, Tuning, Variant};

/// The keys that a token of a packed batch sees, and the end of the queries that see it, as kernels read it
/// (`shaders/lib/spans.wgsl`).
///
/// Token `t` attends to the keys in `prefix_start .. prefix_start + prefix_len` and in `own_start ..= t`. As a key it is seen by
/// the queries in `t .. query_end`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct TokenSpan {
    pub prefix_start: u32,
    pub prefix_len: u32,
    pub own_start: u32,
    pub query_end: u32,
}

/// 32-bit words of a [`TokenSpan`].
pub const SPAN_WORDS: usize = size_of::<TokenSpan>() / 4;

/// The shape of an attention layer. `head_dim` must be even.
#[derive(Clone, Copy, Debug)]
pub struct Heads {
    pub heads: u32,
    pub kv_heads: u32,
    pub head_dim: u32,
    /// Sliding window: a token sees itself and the `window - 1` positions before it.
    pub window: Option<u32>,
    /// Multiplies q·k.
    pub scale: f32,
}

impl Heads {
    /// Heads whose q·k are divided by √head_dim.
    pub fn new(heads: u32, kv_heads: u32, head_dim: u32, window: Option<u32>) -> Self {
        Heads { heads, kv_heads, head_dim, window, scale: 1.0 / (head_dim as f32).sqrt() }
    }

    /// Heads of the fused q, k, v tensor.
    pub fn total(&self) -> u32 {
        self.heads + 2 * self.kv_heads
    }

    /// Values of a `Vec` of the kernels.
    pub(super) fn vec_width(&self) -> u32 {
        if self.head_dim.is_multiple_of(4) { 4 } else { 2 }
    }

    pub(super) fn constants(&self) -> Vec<(&'static str, u32)> {
        vec![
            ("VEC_WIDTH", self.vec_width()),
            ("VECS", self.head_dim / self.vec_width()),
            ("HEADS", self.heads),
            ("KV_HEADS", self.kv_heads),
            ("WINDOW", self.window.unwrap_or(0)),
            ("WINDOWED", u32::from(self.window.is_some())),
        ]
    }
}

/// The kernels of a layer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Implementation {
    /// `attention.wgsl`: one thread per (token, head).
    Plain,
    /// `attention_subgroup.wgsl`, with so many lanes: needs whole vec4s that they can share, and registers for a key.
    Subgroup(u32),
    /// `attention_tiled.wgsl`: needs whole vec4s, and registers for the sums, of which a thread may have so many vec4s.
    Tiled { most_sums: u32 },
}

/// Threads of `attention_tiled.wgsl` along the rows of a tile, and vec4s of a vector that it stages at a time.
const THREADS_Y: u32 = 16;
const CHUNK_VECS: u32 = 8;

/// Chunks of a vector that `attention_tiled.wgsl` stages.
fn chunks(heads: &Heads) -> u32 {
    (heads.head_dim / 4).div_ceil(CHUNK_VECS)
}

/// Rows of a thread of `attention_tiled.wgsl`: two, whose sums feed on the same loads, or one where two have too many sums.
fn rows(entry: &str, heads: &Heads, most_sums: u32) -> u32 {
    let sums = if entry == "backward_kv" { 2 } else { 1 } * chunks(heads);
    if 2 * sums <= most_sums { 2 } else { 1 }
}

impl Implementation {
    fn of(heads: &Heads, tuning: &Tuning) -> Self {
        let shares = |lanes: &u32| heads.head_dim.is_multiple_of(*lanes) && heads.head_dim <= 128;
        if let Some(lanes) = tuning.lanes.filter(shares).filter(|_| tuning.has(Variant::AttentionSubgroup)) {
            Implementation::Subgroup(lanes)
        } else if tuning.has(Variant::AttentionTiled) && heads.head_dim.is_multiple_of(4) && heads.head_dim <= 256 {
            Implementation::Tiled { most_sums: tuning.most_sums }
        } else {
            Implementation::Plain
        }
    }

    fn spec(self, entry: &'static str, heads: &Heads) -> KernelSpec {
        let (file, own) = match self {
            Implementation::Plain => ("attention.wgsl", vec![]),
            Implementation::Subgroup(lanes) => {
                ("attention_subgroup.wgsl", vec![("LANES", lanes), ("LOADS", heads.head_dim / lanes)])
            }
            Implementation::Tiled { most_sums } => {
                ("attention_tiled.wgsl", vec![("CHUNKS", chunks(heads)), ("ROWS", rows(entry, heads, most_sums))])
            }
        };
        KernelSpec::new(file, entry, &[heads.constants(), own].concat())
    }

    /// Its threads own queries, or keys and values.
    fn grid(self, entry: &str, heads: &Heads, tokens: Extent) -> Grid {
        let owners = owners(entry, heads);
        match self {
            Implementation::Plain => elements(tokens.times(owners)),
            Implementation::Subgroup(lanes) => Grid::Tiles { x: tokens, tile_x: lanes, y: Extent::fixed(owners), tile_y: 1 },
            Implementation::Tiled { most_sums } => {
                let tile_x = THREADS_Y * rows(entry, heads, most_sums);
                Grid::Tiles { x: tokens.times(owners / heads.kv_heads), tile_x, y: Extent::fixed(heads.kv_heads), tile_y: 1 }
            }
        }
    }
}

/// Heads of a token that an entry point has threads for.
fn owners(entry: &str, heads: &Heads) -> u32 {
    if entry == "backward_kv" { heads.kv_heads } else { heads.heads }
}

/// A guess of the multiply-adds per token and head: the plan does not know the length of the context. It only decides where
/// submissions are split.
fn flops(heads: &Heads) -> u64 {
    u64::from(heads.head_dim) * 4 * 256
}

fn dispatch(
    plan: &mut PlanBuilder,
    h: &Heads,
    implementation: Implementation,
    entry: &'static str,
    tensors: &[Tensor],
    tokens: Extent,
) {
    plan.dispatch(Dispatch {
        kernel: implementation.spec(entry, h),
        tensors,
        params: &[Param::Extent(tokens), Param::F(h.scale)],
        grid: implementation.grid(entry, h, tokens),
        flops: flops(h),
        work: tokens.times(owners(entry, h)),
    });
}

/// `out[T, heads, D] = attention(qkv[T, total, D])`, and `stats[T, heads, 2]` for the backward pass.
/// `spans` is `[T]` of [`TokenSpan`].
pub fn record_forward(plan: &mut PlanBuilder, h: &Heads, qkv: Tensor, spans: Tensor, out: Tensor, stats: Tensor, tokens: Extent) {
    let implementation = Implementation::of(h, plan.tuning());
    dispatch(plan, h, implementation, "forward", &[qkv, spans, out, stats], tokens);
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
pub fn record_backward(plan: &mut PlanBuilder, h: &Heads, b: Backward, tokens: Extent) {
    let implementation = Implementation::of(h, plan.tuning());
    dispatch(plan, h, Implementation::Plain, "prepare", &[b.out, b.dout, b.stats], tokens);
    let tensors = [b.qkv, b.spans, b.dout, b.stats, b.dqkv];
    dispatch(plan, h, implementation, "backward_q", &tensors, tokens);
    dispatch(plan, h, implementation, "backward_kv", &tensors, tokens);
}

/// Shapes that take each branch of the kernels: vec4 and vec2, grouped heads, with and without a window.
pub(super) fn sample_heads() -> Vec<Heads> {
    vec![
        Heads::new(4, 2, 16, None),
        Heads::new(7, 1, 6, Some(5)),
        Heads::new(2, 2, 128, None),
        Heads::new(6, 3, 8, Some(9)),
        Heads::new(4, 2, 80, Some(9)),
        Heads { scale: 0.1, ..Heads::new(4, 1, 256, Some(9)) },
    ]
}

pub(super) fn variants(tuning: &Tuning) -> Vec<KernelSpec> {
    let of = |h: &Heads| {
        let implementation = Implementation::of(h, tuning);
        let prepare = Implementation::Plain.spec("prepare", h);
        ["forward", "backward_q", "backward_kv"]
            .map(|e| implementation.spec(e, h))
            .into_iter()
            .chain([prepare])
            .collect::<Vec<_>>()
    };
    sample_heads().iter().flat_map(of).collect()
}
