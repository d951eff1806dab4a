//! The global gradient norm and clip factor (`shaders/grad_norm.wgsl`).

use super::elements;
use crate::gpu::{Dispatch, Extent, Grid, KernelSpec, Param, PlanBuilder, Tensor};

/// Elements that one thread of the first stage sums.
const RUN: u32 = 256;
/// Sums that are left after the second stage.
const SHORT: u32 = 256;
/// Words of a sum: it comes with an exponent.
const SUM: usize = 2;

fn spec(entry: &'static str) -> KernelSpec {
    KernelSpec::new("grad_norm.wgsl", entry, &[])
}

/// `result[4] = (norm, clip factor, 1 if the clipped gradient can be applied else 0, 0)` over all `gradients`; `max_norm` 0
/// means no clipping.
pub fn grad_norm(plan: &mut PlanBuilder, gradients: &[Tensor], max_norm: f32, result: Tensor) {
    let sizes: Vec<u32> = gradients.iter().map(|g| plan.words(*g) as u32).collect();
    let total: u32 = sizes.iter().map(|n| n.div_ceil(RUN)).sum();
    let partials = plan.scratch("norm partials", SUM * total as usize);
    let short = plan.scratch("norm sums", SUM * SHORT as usize);
    let mut start = 0;
    for (gradient, size) in gradients.iter().zip(sizes) {
        let runs = Extent::fixed(size.div_ceil(RUN));
        plan.dispatch(Dispatch {
            kernel: spec("squares"),
            tensors: &[*gradient, partials],
            words: &[Param::U(size), Param::U(start)],
            grid: elements(runs),
            flops: u64::from(RUN) * 2,
            work: runs,
        });
        start += runs.max();
    }
    plan.dispatch(Dispatch {
        kernel: spec("reduce"),
        tensors: &[partials, short],
        words: &[Param::U(total)],
        grid: elements(Extent::fixed(SHORT)),
        flops: 1,
        work: Extent::fixed(total),
    });
    plan.dispatch(Dispatch {
        kernel: spec("finish"),
        tensors: &[short, result],
        words: &[Param::F(max_norm)],
        grid: Grid::Threads { size: Extent::fixed(1), per: 1 },
        flops: 1,
        work: Extent::fixed(SHORT),
    });
}

pub(super) fn variants() -> Vec<KernelSpec> {
    ["squares", "reduce", "finish"].map(spec).to_vec()
}
