//! Rotary position embedding (`shaders/rope.wgsl`).

use super::elements;
use crate::gpu::{Dispatch, KernelSpec, PlanBuilder, Size, Tensor, Word};

/// Where a token's position is found in the positions tensor.
#[derive(Clone, Copy, Debug)]
pub enum Positions {
    /// `[T]`: one word a token.
    Plain,
    /// `[T, 4]`: the second word of `cached_attention`'s place.
    Place,
}

/// Heads of the fused `[T, heads, head_dim]` tensor, and how many of them (q and k) turn.
#[derive(Clone, Copy, Debug)]
pub struct Rotation {
    pub heads: u32,
    pub rotated: u32,
    pub head_dim: u32,
    /// Backward: turn back.
    pub backward: bool,
}

/// The host's table of `(cos, sin)`: `[positions, head_dim / 2]` pairs of f32, computed in f64.
pub fn table(inv_freq: &[f64], attention_factor: f64, positions: usize) -> Vec<[f32; 2]> {
    let turn = |angle: f64| [(angle.cos() * attention_factor) as f32, (angle.sin() * attention_factor) as f32];
    (0..positions).flat_map(|p| inv_freq.iter().map(move |f| turn(p as f64 * f))).collect()
}

fn spec(r: Rotation, positions: Positions) -> KernelSpec {
    let (stride, offset) = match positions {
        Positions::Plain => (1, 0),
        Positions::Place => (4, 1),
    };
    KernelSpec::new(
        "rope.wgsl",
        "rotate",
        &[
            ("HEADS", r.heads),
            ("ROTATED", r.rotated),
            ("PAIRS", r.head_dim / 2),
            ("POSITION_STRIDE", stride),
            ("POSITION_OFFSET", offset),
        ],
    )
}

/// Rotates the q and k heads of `x` in place.
pub fn rotate(
    plan: &mut PlanBuilder,
    r: Rotation,
    x: Tensor,
    table: Tensor,
    (positions, kind): (Tensor, Positions),
    tokens: Size,
) {
    let size = tokens.times(r.rotated * r.head_dim / 2);
    let sign = if r.backward { -1.0 } else { 1.0 };
    plan.dispatch(Dispatch {
        kernel: spec(r, kind),
        tensors: &[positions, table, x],
        words: &[Word::Size(size), Word::F(sign)],
        grid: elements(size),
        flops: 6,
        work: size,
    });
}

pub(super) fn variants() -> Vec<KernelSpec> {
    let r = Rotation { heads: 9, rotated: 8, head_dim: 6, backward: false };
    vec![spec(r, Positions::Plain), spec(r, Positions::Place)]
}
