//! RMSNorm, plain and per head (`shaders/rmsnorm.wgsl`).

use super::{elements, row_constants, row_grid};
use crate::gpu::{Dispatch, KernelSpec, PlanBuilder, Size, Tensor, Tuning, Word};

/// Rows that share one partial sum of the weight gradient.
const BLOCK: u32 = 64;

/// Which rows are normed and with which weights.
#[derive(Clone, Copy, Debug)]
pub struct Norm {
    /// Elements a row.
    pub width: u32,
    /// Rows a token; 1 for a plain norm.
    pub heads: u32,
    /// Rows of a token with weight row 0.
    pub q_heads: u32,
    /// Rows of a token that are normed at all; the rest is copied.
    pub normed: u32,
    pub eps: f32,
}

impl Norm {
    /// One weight row for all rows.
    pub fn plain(width: u32, eps: f32) -> Self {
        Norm { width, heads: 1, q_heads: 1, normed: 1, eps }
    }

    fn words(&self, rows: Size) -> [Word; 6] {
        let Norm { width, heads, q_heads, normed, eps } = *self;
        [Word::Size(rows), Word::U(width), Word::U(heads), Word::U(q_heads), Word::U(normed), Word::F(eps)]
    }

    /// Weight rows: 1 plain, 2 with separate q and k weights.
    fn sets(&self) -> u32 {
        if self.q_heads < self.normed { 2 } else { 1 }
    }
}

fn spec(entry: &'static str, accumulate: bool, tuning: &Tuning) -> KernelSpec {
    let [lanes, team] = row_constants(tuning);
    KernelSpec::new("rmsnorm.wgsl", entry, &[lanes, team, ("ACCUMULATE", u32::from(accumulate))])
}

/// `y = norm(x) · w`; x and y are `[rows, width]`.
pub fn forward(plan: &mut PlanBuilder, norm: Norm, x: Tensor, w: Tensor, y: Tensor, rows: Size) {
    let grid = row_grid(rows, plan.tuning());
    let kernel = spec("forward", false, plan.tuning());
    plan.dispatch(Dispatch {
        kernel,
        tensors: &[x, w, y],
        words: &norm.words(rows),
        grid,
        flops: u64::from(norm.width) * 4,
        work: rows,
    });
}

/// The tensors of a norm's backward pass.
#[derive(Clone, Copy, Debug)]
pub struct Backward {
    pub x: Tensor,
    pub w: Tensor,
    pub dy: Tensor,
    pub dx: Tensor,
    /// `None` when the weight is frozen.
    pub dw: Option<Tensor>,
    /// `dx += …` instead of `dx = …`.
    pub accumulate: bool,
}

/// `dx = …` or `dx += …`, and `dw += …`.
pub fn backward(plan: &mut PlanBuilder, norm: Norm, b: Backward, rows: Size) {
    let inverse = plan.scratch("norm inverse", rows.max() as usize);
    let grid = row_grid(rows, plan.tuning());
    let kernel = spec("backward", b.accumulate, plan.tuning());
    plan.dispatch(Dispatch {
        kernel,
        tensors: &[b.x, b.w, b.dy, b.dx, inverse],
        words: &norm.words(rows),
        grid,
        flops: u64::from(norm.width) * 12,
        work: rows,
    });
    let Some(dw) = b.dw else { return };

    // Blocks are counted for the planned maximum: a block past the live rows sums nothing and writes zeros.
    let blocks = rows.max().div_ceil(BLOCK);
    let sets = norm.sets();
    let size = Size::fixed(blocks * sets * norm.width);
    let partials = plan.scratch("norm weight partials", size.max() as usize);
    let [r, width, heads, q_heads, normed, _] = norm.words(rows);
    let kernel = spec("weight_partial", false, plan.tuning());
    plan.dispatch(Dispatch {
        kernel,
        tensors: &[b.x, b.dy, inverse, partials],
        words: &[r, width, heads, q_heads, normed, Word::U(sets), Word::Size(size)],
        grid: elements(size),
        flops: u64::from(norm.width) * 3,
        work: rows,
    });
    let kernel = spec("weight_reduce", false, plan.tuning());
    let width = Size::fixed(sets * norm.width);
    plan.dispatch(Dispatch {
        kernel,
        tensors: &[partials, dw],
        words: &[Word::U(blocks), Word::Size(width)],
        grid: elements(width),
        flops: u64::from(blocks),
        work: width,
    });
}

pub(super) fn variants(tuning: &Tuning) -> Vec<KernelSpec> {
    ["forward", "backward", "weight_partial", "weight_reduce"]
        .into_iter()
        .flat_map(|entry| [false, true].map(|accumulate| spec(entry, accumulate, tuning)))
        .collect()
}
