//! The gated activation on the fused gate and up projections: SwiGLU or GeGLU (`shaders/swiglu.wgsl`).

use super::{elements, vec4_constant, vecs};
use crate::gpu::{Dispatch, Extent, KernelSpec, Param, PlanBuilder, Tensor};

/// The activation of the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    Silu,
    /// GELU in its tanh form.
    Gelu,
}

/// The shape of a gated activation.
#[derive(Clone, Copy, Debug)]
pub struct Gated {
    pub activation: Activation,
    /// Columns of its output, F.
    pub width: u32,
}

impl Gated {
    /// SwiGLU.
    pub fn silu(width: usize) -> Self {
        Gated { activation: Activation::Silu, width: width as u32 }
    }
}

fn spec(entry: &'static str, Gated { activation, width }: Gated) -> KernelSpec {
    let gelu = u32::from(activation == Activation::Gelu);
    KernelSpec::new("swiglu.wgsl", entry, &[("WIDTH", width), vec4_constant(width), ("GELU", gelu)])
}

fn dispatch(plan: &mut PlanBuilder, entry: &'static str, tensors: &[Tensor], tokens: Extent, gated: Gated) {
    let width = gated.width;
    let size = tokens.times(vecs(width));
    plan.dispatch(Dispatch {
        kernel: spec(entry, gated),
        tensors,
        params: &[Param::Extent(size)],
        grid: elements(size),
        flops: 10 * u64::from(width / vecs(width)),
        work: size,
    });
}

/// `y[T, F] = activation(gate) · up` of `gate_up[T, 2F]`.
pub fn record_forward(plan: &mut PlanBuilder, gate_up: Tensor, y: Tensor, tokens: Extent, gated: Gated) {
    dispatch(plan, "forward", &[gate_up, y], tokens, gated);
}

/// `dgate_up[T, 2F] = …` from `dy[T, F]`.
pub fn record_backward(plan: &mut PlanBuilder, gate_up: Tensor, dy: Tensor, dgate_up: Tensor, tokens: Extent, gated: Gated) {
    dispatch(plan, "backward", &[gate_up, dy, dgate_up], tokens, gated);
}

pub(super) fn variants() -> Vec<KernelSpec> {
    let both = |activation, width| ["forward", "backward"].map(|entry| spec(entry, Gated { activation, width }));
    let shapes = [Activation::Silu, Activation::Gelu].into_iter().flat_map(|a| [(a, 37), (a, 36)]);
    shapes.flat_map(|(activation, width)| both(activation, width)).collect()
}
