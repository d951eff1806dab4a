//! The squares of each column of a tensor, summed over its rows (`shaders/column_squares.wgsl`).

use super::{elements, vec4_constant, vecs};
use crate::gpu::{Dispatch, Extent, KernelSpec, Param, PlanBuilder, Tensor};

fn spec(width: u32) -> KernelSpec {
    KernelSpec::new("column_squares.wgsl", "accumulate", &[("WIDTH", width), vec4_constant(width)])
}

/// `sums[W] += Σ_t x[t, W]²`, over the rows of `x`, `[T, W]`.
pub fn record(plan: &mut PlanBuilder, x: Tensor, sums: Tensor, tokens: Extent, width: u32) {
    let columns = Extent::fixed(vecs(width));
    plan.dispatch(Dispatch {
        kernel: spec(width),
        tensors: &[x, sums],
        params: &[Param::Extent(tokens)],
        grid: elements(columns),
        flops: 2 * u64::from(tokens.max()),
        work: columns,
    });
}

pub(super) fn variants() -> Vec<KernelSpec> {
    [37, 36].map(spec).into()
}
