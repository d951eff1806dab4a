//! Rows that carry loss: picked out, and their gradients handed back (`shaders/rows.wgsl`).

use super::{elements, pieces, quartered};
use crate::gpu::{Dispatch, KernelSpec, PlanBuilder, Size, Tensor, Word};

/// In the map of [`scatter`]: this token has no row.
pub const NO_ROW: u32 = u32::MAX;

fn spec(entry: &'static str, width: u32) -> KernelSpec {
    KernelSpec::new("rows.wgsl", entry, &[("WIDTH", width), quartered(width)])
}

fn record(plan: &mut PlanBuilder, entry: &'static str, tensors: [Tensor; 3], count: Size, width: u32) {
    let size = count.times(pieces(width));
    plan.dispatch(Dispatch {
        kernel: spec(entry, width),
        tensors: &tensors,
        words: &[Word::Size(size)],
        grid: elements(size),
        flops: 1,
        work: size,
    });
}

/// `y[R, W] = x[rows]`, `rows` being `[R]` token indices.
pub fn gather(plan: &mut PlanBuilder, rows: Tensor, x: Tensor, y: Tensor, count: Size, width: u32) {
    record(plan, "gather", [rows, x, y], count, width);
}

/// `dx[T, W] = dy[row_of]`, zero where `row_of` (`[T]`) is [`NO_ROW`].
pub fn scatter(plan: &mut PlanBuilder, row_of: Tensor, dy: Tensor, dx: Tensor, tokens: Size, width: u32) {
    record(plan, "scatter", [row_of, dy, dx], tokens, width);
}

pub(super) fn variants() -> Vec<KernelSpec> {
    [37, 36].iter().flat_map(|w| [spec("gather", *w), spec("scatter", *w)]).collect()
}
