//! Adds one tensor to another (`shaders/add.wgsl`).

use super::{elements, vec4_constant, vecs};
use crate::gpu::{Dispatch, Extent, KernelSpec, Param, PlanBuilder, Tensor};

fn spec(length: u32) -> KernelSpec {
    KernelSpec::new("add.wgsl", "accumulate", &[vec4_constant(length)])
}

/// `y[N] = x[N] + y[N]`.
pub fn record(plan: &mut PlanBuilder, x: Tensor, y: Tensor) {
    let length = plan.words(y) as u32;
    let size = Extent::fixed(vecs(length));
    plan.dispatch(Dispatch {
        kernel: spec(length),
        tensors: &[x, y],
        params: &[Param::Extent(size)],
        grid: elements(size),
        flops: u64::from(length / vecs(length).max(1)),
        work: size,
    });
}

pub(super) fn variants() -> Vec<KernelSpec> {
    vec![spec(37), spec(36)]
}
