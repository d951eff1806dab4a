//! The AdamW update (`shaders/adamw.wgsl`).

use super::{elements, pieces, quartered};
use crate::gpu::{Dispatch, KernelSpec, Live, PlanBuilder, Size, Tensor, Word};

/// Settings that stay the same over a run.
#[derive(Clone, Copy, Debug)]
pub struct AdamW {
    pub beta1: f32,
    pub beta2: f32,
    pub eps: f32,
}

/// Numbers that change with each step: live values of the plan, all f32 bits.
#[derive(Clone, Copy, Debug)]
pub struct StepScalars {
    pub lr: Live,
    /// `1 - β1ᵗ` for the t-th applied step, t from 1.
    pub correction1: Live,
    /// `sqrt(1 - β2ᵗ)`
    pub correction2: Live,
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
    KernelSpec::new("adamw.wgsl", "advance", &[quartered(length)])
}

/// Updates one tensor in place; `norm` is the result of [`super::grad_norm::grad_norm`].
pub fn advance(plan: &mut PlanBuilder, settings: AdamW, scalars: StepScalars, norm: Tensor, s: State) {
    let length = plan.words(s.parameter) as u32;
    let size = Size::fixed(pieces(length));
    plan.dispatch(Dispatch {
        kernel: spec(length),
        tensors: &[s.gradient, norm, s.parameter, s.m, s.v],
        words: &[
            Word::Size(size),
            Word::Live(scalars.lr),
            Word::F(s.decay),
            Word::F(settings.beta1),
            Word::F(settings.beta2),
            Word::F(settings.eps),
            Word::Live(scalars.correction1),
            Word::Live(scalars.correction2),
        ],
        grid: elements(size),
        flops: 14 * u64::from(length / pieces(length).max(1)),
        work: size,
    });
}

pub(super) fn variants() -> Vec<KernelSpec> {
    vec![spec(37), spec(36)]
}
