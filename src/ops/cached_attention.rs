//! Attention over a cache of keys and values (`shaders/cached_attention.wgsl`).

use super::attention::{Heads, sample_heads};
use super::elements;
use crate::gpu::{Dispatch, KernelSpec, PlanBuilder, Size, Tensor, Word};

fn spec(entry: &'static str, heads: &Heads) -> KernelSpec {
    KernelSpec::new("cached_attention.wgsl", entry, &heads.constants())
}

/// Words of a cache for `slots` sequences of at most `max_length` tokens.
pub fn cache_words(h: &Heads, slots: usize, max_length: usize) -> usize {
    slots * max_length * 2 * (h.kv_heads * h.head_dim) as usize
}

/// Stores k and v of `qkv[T, total, D]` into the cache, then `out[T, heads, D]` = attention over it.
/// `place` is `[T, 4]`: slot, position, prefix_slot, prefix_len.
pub fn forward(
    plan: &mut PlanBuilder,
    h: &Heads,
    (qkv, place): (Tensor, Tensor),
    (cache, max_length): (Tensor, u32),
    out: Tensor,
    tokens: Size,
) {
    let words = [Word::Size(tokens), Word::F(h.scale()), Word::U(max_length)];
    let lane_width = if h.head_dim.is_multiple_of(4) { 4 } else { 2 };
    let stored = tokens.times(2 * h.kv_heads * h.head_dim / lane_width);
    plan.dispatch(Dispatch {
        kernel: spec("store", h),
        tensors: &[qkv, place, cache],
        words: &words,
        grid: elements(stored),
        flops: 1,
        work: stored,
    });
    let size = tokens.times(h.heads);
    plan.dispatch(Dispatch {
        kernel: spec("attend", h),
        tensors: &[qkv, place, cache, out],
        words: &words,
        grid: elements(size),
        flops: u64::from(h.head_dim) * 4 * u64::from(max_length) / 2,
        work: size,
    });
}

pub(super) fn variants() -> Vec<KernelSpec> {
    sample_heads().iter().flat_map(|h| ["store", "attend"].map(|e| spec(e, h))).collect()
}
