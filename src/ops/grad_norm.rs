//! The global gradient norm and clip factor (`shaders/grad_norm.wgsl`).

use super::elements;
use crate::gpu::{Dispatch, Extent, Grid, KernelSpec, Param, PlanBuilder, Tensor};

/// Elements per thread of the first stage.
const RUN: u32 = 256;
/// Sums after the second stage.
const SUMS: u32 = 256;
/// Words of a sum: a number and an exponent.
const SUM: usize = 2;

fn spec(entry: &'static str) -> KernelSpec {
    KernelSpec::new("grad_norm.wgsl", entry, &[])
}

/// `result[4] = (norm, clip factor, 1 if the clipped gradient can be applied else 0, 0)` over all `gradients`; `max_norm` 0
/// means no clipping.
pub fn record(plan: &mut PlanBuilder, gradients: &[Tensor], max_norm: f32, result: Tensor) {
    let sizes: Vec<u32> = gradients.iter().map(|g| plan.words(*g) as u32).collect();
    let total: u32 = sizes.iter().map(|n| n.div_ceil(RUN)).sum();
    let partials = plan.scratch("norm partials", SUM * total as usize);
    let sums = plan.scratch("norm sums", SUM * SUMS as usize);
    let mut start = 0;
    for (gradient, size) in gradients.iter().zip(sizes) {
        let runs = Extent::fixed(size.div_ceil(RUN));
        plan.dispatch(Dispatch {
            kernel: spec("squares"),
            tensors: &[*gradient, partials],
            params: &[Param::U(size), Param::U(start)],
            grid: elements(runs),
            flops: u64::from(RUN) * 2,
            work: runs,
        });
        start += runs.max();
    }
    plan.dispatch(Dispatch {
        kernel: spec("reduce"),
        tensors: &[partials, sums],
        params: &[Param::U(total)],
        grid: elements(Extent::fixed(SUMS)),
        flops: 1,
        work: Extent::fixed(total),
    });
    plan.dispatch(Dispatch {
        kernel: spec("finish"),
        tensors: &[sums, result],
        params: &[Param::F(max_norm)],
        grid: Grid::Threads { size: Extent::fixed(1), per: 1 },
        flops: 1,
        work: Extent::fixed(SUMS),
    });
}

pub(super) fn variants() -> Vec<KernelSpec> {
    ["squares", "reduce", "finish"].map(spec).to_vec()
}
