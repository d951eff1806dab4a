//! The rows that carry loss: gathered from all tokens, and their gradients scattered (`shaders/rows.wgsl`).

use super::{elements, vec4_constant, vecs};
use crate::gpu::{Dispatch, Extent, KernelSpec, Param, PlanBuilder, Tensor};

/// In `row_of` of [`record_scatter`]: this token has no row.
pub const NO_ROW: u32 = u32::MAX;

fn spec(entry: &'static str, width: u32) -> KernelSpec {
    KernelSpec::new("rows.wgsl", entry, &[("WIDTH", width), vec4_constant(width)])
}

fn dispatch(plan: &mut PlanBuilder, entry: &'static str, tensors: [Tensor; 3], count: Extent, width: u32) {
    let size = count.times(vecs(width));
    plan.dispatch(Dispatch {
        kernel: spec(entry, width),
        tensors: &tensors,
        params: &[Param::Extent(size)],
        grid: elements(size),
        flops: 1,
        work: size,
    });
}

/// `y[R, W] = x[rows]`, `rows` being `[R]` token indices.
pub fn record_gather(plan: &mut PlanBuilder, rows: Tensor, x: Tensor, y: Tensor, count: Extent, width: u32) {
    dispatch(plan, "gather", [rows, x, y], count, width);
}

/// `dx[T, W] = dy[row_of]`, zero where `row_of` (`[T]`) is [`NO_ROW`].
pub fn record_scatter(plan: &mut PlanBuilder, row_of: Tensor, dy: Tensor, dx: Tensor, tokens: Extent, width: u32) {
    dispatch(plan, "scatter", [row_of, dy, dx], tokens, width);
}

pub(super) fn variants() -> Vec<KernelSpec> {
    [37, 36].iter().flat_map(|w| [spec("gather", *w), spec("scatter", *w)]).collect()
}
