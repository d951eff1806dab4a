//! The AdamW update (`shaders/adamw.wgsl`).

use super::{elements, vec4_constant, vecs};
use crate::gpu::{Dispatch, Extent, KernelSpec, Param, PlanBuilder, RunParam, Tensor};

/// The settings of a run.
#[derive(Clone, Copy, Debug)]
pub struct AdamW {
    pub beta1: f32,
    pub beta2: f32,
    pub eps: f32,
}

/// The numbers of a step: run parameters of the plan, as the bits of an f32.
#[derive(Clone, Copy, Debug)]
pub struct StepScalars {
    pub lr: RunParam,
    /// `1 - β1ᵗ` for the t-th applied step, t from 1.
    pub correction1: RunParam,
    /// `sqrt(1 - β2ᵗ)`
    pub correction2: RunParam,
}

/// Parameter, gradient and moments of one tensor.
#[derive(Clone, Copy, Debug)]
pub struct State {
    pub parameter: Tensor,
    pub gradient: Tensor,
    pub m: Tensor,
    pub v: Tensor,
    /// Decoupled weight decay; 0 for norms and biases.
    pub decay: f32,
}

fn spec(length: u32) -> KernelSpec {
    KernelSpec::new("adamw.wgsl", "advance", &[vec4_constant(length)])
}

/// Updates one tensor in place; `norm` is the result of [`super::grad_norm::record`].
pub fn record(plan: &mut PlanBuilder, settings: AdamW, scalars: StepScalars, norm: Tensor, s: State) {
    let length = plan.words(s.parameter) as u32;
    let size = Extent::fixed(vecs(length));
    plan.dispatch(Dispatch {
        kernel: spec(length),
        tensors: &[s.gradient, norm, s.parameter, s.m, s.v],
        params: &[
            Param::Extent(size),
            Param::Run(scalars.lr),
            Param::F(s.decay),
            Param::F(settings.beta1),
            Param::F(settings.beta2),
            Param::F(settings.eps),
            Param::Run(scalars.correction1),
            Param::Run(scalars.correction2),
        ],
        grid: elements(size),
        flops: 14 * u64::from(length / vecs(length).max(1)),
        work: size,
    });
}

pub(super) fn variants() -> Vec<KernelSpec> {
    vec![spec(37), spec(36)]
}
