//! RMSNorm, plain and per head (`shaders/rmsnorm.wgsl`).

use super::{elements, row_constants, row_grid, vec4_constant, vecs};
use crate::gpu::{Dispatch, Extent, KernelSpec, Param, PlanBuilder, Tensor, Tuning};

/// Rows that share one partial sum of the weight gradient.
const BLOCK: u32 = 64;

/// The rows that are normed, and their weights.
#[derive(Clone, Copy, Debug)]
pub struct Norm {
    /// Elements per row.
    pub width: u32,
    /// Rows per token; 1 for a plain norm.
    pub heads: u32,
    /// Rows of a token with weight row 0.
    pub q_heads: u32,
    /// Rows of a token that are normed; the others are copied.
    pub normed: u32,
    pub eps: f32,
    /// Added to the weights.
    pub offset: f32,
}

impl Norm {
    /// One weight row for all rows.
    pub fn plain(width: u32, eps: f32) -> Self {
        Norm { width, heads: 1, q_heads: 1, normed: 1, eps, offset: 0.0 }
    }

    /// Weight rows: 1 plain, 2 with separate q and k weights.
    fn sets(&self) -> u32 {
        if self.q_heads < self.normed { 2 } else { 1 }
    }
}

/// What a kernel does with its result besides writing it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Store {
    Write,
    /// Adds what is there.
    Accumulate,
    /// Adds the residual stream.
    Residual,
}

fn spec(entry: &'static str, norm: Norm, store: Store, tuning: &Tuning) -> KernelSpec {
    let [threads_per_row, row_per_workgroup] = row_constants(tuning.threads_per_row);
    let Norm { width, heads, q_heads, normed, .. } = norm;
    KernelSpec::new(
        "rmsnorm.wgsl",
        entry,
        &[
            threads_per_row,
            row_per_workgroup,
            ("WIDTH", width),
            vec4_constant(width),
            ("HEADS", heads),
            ("Q_HEADS", q_heads),
            ("NORMED", normed),
            ("SETS", norm.sets()),
            ("ACCUMULATE", u32::from(store == Store::Accumulate)),
            ("RESIDUAL", u32::from(store == Store::Residual)),
        ],
    )
}

/// `y = norm(x) · w`; x and y are `[rows, width]`.
pub fn record_forward(plan: &mut PlanBuilder, norm: Norm, x: Tensor, w: Tensor, y: Tensor, rows: Extent) {
    dispatch_forward(plan, norm, Store::Write, &[x, w, y], rows);
}

/// `y = residual + norm(x) · w`; x, y and residual are `[rows, width]`.
pub fn record_forward_onto(plan: &mut PlanBuilder, norm: Norm, x: Tensor, w: Tensor, residual: Tensor, y: Tensor, rows: Extent) {
    dispatch_forward(plan, norm, Store::Residual, &[x, w, y, residual], rows);
}

fn dispatch_forward(plan: &mut PlanBuilder, norm: Norm, store: Store, tensors: &[Tensor], rows: Extent) {
    let grid = row_grid(rows, plan.tuning().threads_per_row);
    let kernel = spec("forward", norm, store, plan.tuning());
    plan.dispatch(Dispatch {
        kernel,
        tensors,
        params: &[Param::Extent(rows), Param::F(norm.eps), Param::F(norm.offset)],
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
pub fn record_backward(plan: &mut PlanBuilder, norm: Norm, b: Backward, rows: Extent) {
    let inverse = plan.scratch("norm inverse", rows.max() as usize);
    let grid = row_grid(rows, plan.tuning().threads_per_row);
    let store = if b.accumulate { Store::Accumulate } else { Store::Write };
    let kernel = spec("backward", norm, store, plan.tuning());
    plan.dispatch(Dispatch {
        kernel,
        tensors: &[b.x, b.w, b.dy, b.dx, inverse],
        params: &[Param::Extent(rows), Param::F(norm.eps), Param::F(norm.offset)],
        grid,
        flops: u64::from(norm.width) * 12,
        work: rows,
    });
    let Some(dw) = b.dw else { return };

    // The number of blocks is that of the planned rows: a block past the live rows writes zeros.
    let blocks = rows.max().div_ceil(BLOCK);
    let sets = norm.sets();
    let size = Extent::fixed(blocks * sets * vecs(norm.width));
    let partials = plan.scratch("norm weight partials", (blocks * sets * norm.width) as usize);
    let kernel = spec("weight_partial", norm, Store::Write, plan.tuning());
    plan.dispatch(Dispatch {
        kernel,
        tensors: &[b.x, b.dy, inverse, partials],
        params: &[Param::Extent(rows), Param::Extent(size)],
        grid: elements(size),
        flops: u64::from(norm.width) * 3,
        work: rows,
    });
    let kernel = spec("weight_reduce", norm, Store::Write, plan.tuning());
    let width = Extent::fixed(sets * vecs(norm.width));
    plan.dispatch(Dispatch {
        kernel,
        tensors: &[partials, dw],
        params: &[Param::U(blocks), Param::Extent(width)],
        grid: elements(width),
        flops: u64::from(blocks),
        work: width,
    });
}

pub(super) fn variants(tuning: &Tuning) -> Vec<KernelSpec> {
    let plain = Norm::plain(37, 1e-6);
    let per_head = Norm { heads: 9, q_heads: 7, normed: 8, ..Norm::plain(6, 1e-6) };
    let by_four = [Norm { width: 36, ..plain }, Norm { width: 8, ..per_head }];
    let mut all = Vec::new();
    for norm in [plain, per_head].into_iter().chain(by_four) {
        all.extend([Store::Write, Store::Residual].map(|store| spec("forward", norm, store, tuning)));
        all.extend([Store::Write, Store::Accumulate].map(|store| spec("backward", norm, store, tuning)));
        all.extend(["weight_partial", "weight_reduce"].map(|entry| spec(entry, norm, Store::Write, tuning)));
    }
    all
}
