//! Dropout (`shaders/dropout.wgsl`).

use super::elements;
use crate::gpu::{Dispatch, Extent, KernelSpec, Param, PlanBuilder, RunParam, Tensor};

/// Which values are dropped: a function of key, site and index.
#[derive(Clone, Copy, Debug)]
pub struct Dropout {
    /// The share of values that become zero, in 0 .. 1.
    pub p: f32,
    /// The random key, another one for every batch.
    pub key: [RunParam; 2],
    /// Distinguishes the dropouts of a model that share a key.
    pub site: u32,
}

fn spec(accumulate: bool) -> KernelSpec {
    KernelSpec::new("dropout.wgsl", "apply", &[("ACCUMULATE", u32::from(accumulate))])
}

/// `y = mask · x / (1 - p)`, or `+=`. The backward pass is the same call, from the gradient of y to the gradient of x.
pub fn record(plan: &mut PlanBuilder, d: Dropout, x: Tensor, y: Tensor, size: Extent, accumulate: bool) {
    plan.dispatch(Dispatch {
        kernel: spec(accumulate),
        tensors: &[x, y],
        params: &[Param::Extent(size), Param::F(d.p), Param::Run(d.key[0]), Param::Run(d.key[1]), Param::U(d.site)],
        grid: elements(size),
        flops: 40,
        work: size,
    });
}

pub(super) fn variants() -> Vec<KernelSpec> {
    vec![spec(false), spec(true)]
}
