//! SwiGLU on the fused gate and up projections (`shaders/swiglu.wgsl`).

use super::{elements, vec4_constant, vecs};
use crate::gpu::{Dispatch, Extent, KernelSpec, Param, PlanBuilder, Tensor};

fn spec(entry: &'static str, width: u32) -> KernelSpec {
    KernelSpec::new("swiglu.wgsl", entry, &[("WIDTH", width), vec4_constant(width)])
}

fn dispatch(plan: &mut PlanBuilder, entry: &'static str, tensors: &[Tensor], tokens: Extent, width: u32) {
    let size = tokens.times(vecs(width));
    plan.dispatch(Dispatch {
        kernel: spec(entry, width),
        tensors,
        params: &[Param::Extent(size)],
        grid: elements(size),
        flops: 10 * u64::from(width / vecs(width)),
        work: size,
    });
}

/// `y[T, F] = silu(gate) · up` of `gate_up[T, 2F]`.
pub fn record_forward(plan: &mut PlanBuilder, gate_up: Tensor, y: Tensor, tokens: Extent, width: u32) {
    dispatch(plan, "forward", &[gate_up, y], tokens, width);
}

/// `dgate_up[T, 2F] = …` from `dy[T, F]`.
pub fn record_backward(plan: &mut PlanBuilder, gate_up: Tensor, dy: Tensor, dgate_up: Tensor, tokens: Extent, width: u32) {
    dispatch(plan, "backward", &[gate_up, dy, dgate_up], tokens, width);
}

pub(super) fn variants() -> Vec<KernelSpec> {
    [37, 36].iter().flat_map(|w| [spec("forward", *w), spec("backward", *w)]).collect()
}
