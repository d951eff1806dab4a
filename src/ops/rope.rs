//! Rotary position embedding (`shaders/rope.wgsl`).

use super::cached_attention::SLOT_WORDS;
use super::{elements, vec4_constant, vecs};
use crate::gpu::{Dispatch, Extent, KernelSpec, Param, PlanBuilder, Tensor};

/// The layout of the positions tensor.
#[derive(Clone, Copy, Debug)]
pub enum Positions {
    /// `[T]`: one word per token.
    Plain,
    /// `[T]` of [`KvSlot`](super::cached_attention::KvSlot), whose second word is the position.
    Slot,
}

/// The heads of the fused `[T, heads, head_dim]` tensor, and how many of them (q and k) are rotated.
#[derive(Clone, Copy, Debug)]
pub struct Rotation {
    pub heads: u32,
    pub rotated: u32,
    pub head_dim: u32,
    /// Rotates by the opposite angle.
    pub backward: bool,
}

/// The host's table `[positions, 2, head_dim / 2]`: a position's cosines, then its sines, computed in f64.
pub fn table(inv_freq: &[f64], attention_factor: f64, positions: usize) -> Vec<f32> {
    let row = |p: usize, of: fn(f64) -> f64| inv_freq.iter().map(move |f| (of(p as f64 * f) * attention_factor) as f32);
    (0..positions).flat_map(|p| row(p, f64::cos).chain(row(p, f64::sin))).collect()
}

fn spec(r: Rotation, positions: Positions) -> KernelSpec {
    let (stride, offset) = match positions {
        Positions::Plain => (1, 0),
        Positions::Slot => (SLOT_WORDS as u32, 1),
    };
    KernelSpec::new(
        "rope.wgsl",
        "rotate",
        &[
            ("HEADS", r.heads),
            ("ROTATED", r.rotated),
            ("PAIRS", r.head_dim / 2),
            vec4_constant(r.head_dim / 2),
            ("POSITION_STRIDE", stride),
            ("POSITION_OFFSET", offset),
        ],
    )
}

/// Rotates the q and k heads of `x` in place.
pub fn record(
    plan: &mut PlanBuilder,
    r: Rotation,
    x: Tensor,
    table: Tensor,
    (positions, kind): (Tensor, Positions),
    tokens: Extent,
) {
    let size = tokens.times(r.rotated * vecs(r.head_dim / 2));
    let sign = if r.backward { -1.0 } else { 1.0 };
    plan.dispatch(Dispatch {
        kernel: spec(r, kind),
        tensors: &[positions, table, x],
        params: &[Param::Extent(size), Param::F(sign)],
        grid: elements(size),
        flops: 6 * u64::from(r.head_dim / 2 / vecs(r.head_dim / 2)),
        work: size,
    });
}

pub(super) fn variants() -> Vec<KernelSpec> {
    let r = Rotation { heads: 9, rotated: 8, head_dim: 6, backward: false };
    let wide = Rotation { head_dim: 16, ..r };
    [r, wide].iter().flat_map(|r| [spec(*r, Positions::Plain), spec(*r, Positions::Slot)]).collect()
}
