//! SwiGLU on the fused gate and up projections (`shaders/swiglu.wgsl`).

use super::{elements, pieces, quartered};
use crate::gpu::{Dispatch, KernelSpec, PlanBuilder, Size, Tensor, Word};

fn spec(entry: &'static str, width: u32) -> KernelSpec {
    KernelSpec::new("swiglu.wgsl", entry, &[("WIDTH", width), quartered(width)])
}

fn record(plan: &mut PlanBuilder, entry: &'static str, tensors: &[Tensor], tokens: Size, width: u32) {
    let size = tokens.times(pieces(width));
    plan.dispatch(Dispatch {
        kernel: spec(entry, width),
        tensors,
        words: &[Word::Size(size)],
        grid: elements(size),
        flops: 10 * u64::from(width / pieces(width)),
        work: size,
    });
}

/// `y[T, F] = silu(gate) · up` of `gate_up[T, 2F]`.
pub fn forward(plan: &mut PlanBuilder, gate_up: Tensor, y: Tensor, tokens: Size, width: u32) {
    record(plan, "forward", &[gate_up, y], tokens, width);
}

/// `dgate_up[T, 2F] = …` from `dy[T, F]`.
pub fn backward(plan: &mut PlanBuilder, gate_up: Tensor, dy: Tensor, dgate_up: Tensor, tokens: Size, width: u32) {
    record(plan, "backward", &[gate_up, dy, dgate_up], tokens, width);
}

pub(super) fn variants() -> Vec<KernelSpec> {
    [37, 36].iter().flat_map(|w| [spec("forward", *w), spec("backward", *w)]).collect()
}
