//! Attention over a cache of keys and values (`shaders/cached_attention.wgsl`; on GPUs `shaders/cached_attention_team.wgsl`, and
//! `shaders/cached_attention_split.wgsl` for few rows over a long cache).

use super::attention::{Heads, sample_heads};
use super::{elements, for_gpus};
use crate::gpu::{Dispatch, Extent, Grid, KernelSpec, Param, PlanBuilder, Tensor, Tuning, Variant};

/// With more rows a cache is not split: the rows alone keep a GPU busy, and each would need memory for its parts.
const SPLIT_ROWS: u32 = 64;
/// Values of a split cache that a thread has on their way.
const VALUES_AHEAD: u32 = 8;
/// Threads that share a query, and teams of a workgroup, of `cached_attention_team.wgsl`.
const TEAM: u32 = 8;
/// Bytes of workgroup memory that WebGPU grants.
const WORKGROUP_MEMORY: u32 = 16 << 10;

fn spec(entry: &'static str, heads: &Heads) -> KernelSpec {
    KernelSpec::new("cached_attention.wgsl", entry, &heads.constants())
}

/// The kernel for caches that are not split, and its grid.
fn attend(h: &Heads, tuning: &Tuning, tokens: Extent) -> (KernelSpec, Grid) {
    if !for_gpus(tuning) {
        return (spec("attend", h), elements(tokens.times(h.heads)));
    }
    let vecs = h.head_dim / h.vec_width();
    let mut constants = h.constants();
    // Whether all threads of a team have as many.
    constants.extend([("OWN_VECS", vecs.div_ceil(TEAM)), ("WHOLE", u32::from(vecs.is_multiple_of(TEAM)))]);
    let grid = Grid::Tiles { x: tokens, tile_x: TEAM, y: Extent::fixed(h.heads), tile_y: 1 };
    (KernelSpec::new("cached_attention_team.wgsl", "attend", &constants), grid)
}

fn split_spec(entry: &'static str, heads: &Heads, part: u32) -> KernelSpec {
    let mut constants = heads.constants();
    let group = heads.heads / heads.kv_heads;
    let vecs = heads.head_dim / heads.vec_width();
    constants.extend([("PART", part), ("GROUP_SIZE", group), ("GROUP_VECS", group * vecs)]);
    constants.extend([("GROUP_PART", group * part), ("GROUP_THREADS", group * 64), ("AHEAD", VALUES_AHEAD)]);
    KernelSpec::new("cached_attention_split.wgsl", entry, &constants)
}

/// The positions of a part, if a cache of `max_length` positions is split for `rows` rows.
fn part(h: &Heads, tuning: &Tuning, rows: u32, max_length: u32) -> Option<u32> {
    let part = tuning.cache_part;
    let memory = h.heads / h.kv_heads * 4 * (h.head_dim + part + 64);
    let wanted = tuning.has(Variant::CachedAttentionSplit) && max_length > part && rows <= SPLIT_ROWS;
    (wanted && memory <= WORKGROUP_MEMORY).then_some(part)
}

/// Where the sequence of a token lies in the cache, and the token's position in it, as kernels read it
/// (`shaders/lib/kv_slot.wgsl`; `kv_cache.wgsl` beside it explains the fields).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct KvSlot {
    /// The entry of the first position after the prefix.
    pub own: u32,
    /// The token's position in its sequence.
    pub position: u32,
    /// The entry of the first position of the prefix.
    pub prefix_start: u32,
    pub prefix_len: u32,
}

/// 32-bit words of a [`KvSlot`].
pub const SLOT_WORDS: usize = size_of::<KvSlot>() / 4;

/// A layer's cache.
#[derive(Clone, Copy, Debug)]
pub struct Cache {
    /// `[entries, 2 kv_heads, D]`
    pub tensor: Tensor,
    /// Own entries per sequence, after its prefix.
    pub own: u32,
    /// Positions of a whole sequence, at most.
    pub max_length: u32,
}

/// Words of a cache of `entries` positions.
pub fn cache_words(h: &Heads, entries: usize) -> usize {
    entries * 2 * (h.kv_heads * h.head_dim) as usize
}

/// Stores k and v of `qkv[T, total, D]` into the cache, then `out[T, heads, D]` = attention over it.
/// `slots` is `[T]` of [`KvSlot`].
pub fn record_forward(
    plan: &mut PlanBuilder,
    h: &Heads,
    (qkv, slots): (Tensor, Tensor),
    Cache { tensor: cache, own, max_length }: Cache,
    out: Tensor,
    tokens: Extent,
) {
    let params = [Param::Extent(tokens), Param::F(h.scale), Param::U(own), Param::U(max_length)];
    let stored = tokens.times(2 * h.kv_heads * h.head_dim / h.vec_width());
    plan.dispatch(Dispatch {
        kernel: spec("store", h),
        tensors: &[qkv, slots, cache],
        params: &params,
        grid: elements(stored),
        flops: 1,
        work: stored,
    });
    let size = tokens.times(h.heads);
    let flops = u64::from(h.head_dim) * 4 * u64::from(max_length) / 2;
    let Some(part) = part(h, plan.tuning(), tokens.max(), max_length) else {
        let (kernel, grid) = attend(h, plan.tuning(), tokens);
        return plan.dispatch(Dispatch { kernel, tensors: &[qkv, slots, cache, out], params: &params, grid, flops, work: size });
    };
    let parts = max_length.div_ceil(part);
    let all = (size.max() * parts) as usize;
    let (sums, stats) =
        (plan.scratch("parts of attention", all * h.head_dim as usize), plan.scratch("weights of parts", all * 2));
    let params = [params[0], params[1], params[2], params[3], Param::U(parts)];
    plan.dispatch(Dispatch {
        kernel: split_spec("part", h, part),
        tensors: &[qkv, slots, cache, sums, stats],
        params: &params,
        grid: Grid::Tiles { x: Extent::fixed(parts), tile_x: 1, y: tokens.times(h.kv_heads), tile_y: 1 },
        flops,
        work: size,
    });
    let vecs = size.times(h.head_dim / h.vec_width());
    plan.dispatch(Dispatch {
        kernel: split_spec("combine", h, part),
        tensors: &[slots, sums, stats, out],
        params: &params,
        grid: elements(vecs),
        flops: 4 * u64::from(parts),
        work: vecs,
    });
}

pub(super) fn variants(tuning: &Tuning) -> Vec<KernelSpec> {
    let of = |h: &Heads| {
        let split = part(h, tuning, 1, u32::MAX).map(|part| ["part", "combine"].map(|e| split_spec(e, h, part)));
        [spec("store", h), attend(h, tuning, Extent::fixed(1)).0]
            .into_iter()
            .chain(split.into_iter().flatten())
            .collect::<Vec<_>>()
    };
    sample_heads().iter().flat_map(of).collect()
}
