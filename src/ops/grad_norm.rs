//! The global gradient norm and clip factor (`shaders/grad_norm.wgsl`).

use super::{elements, for_gpus, row_constants, row_grid, vec4_constant, vecs};
use crate::gpu::{Dispatch, Extent, Grid, KernelSpec, Param, PlanBuilder, Tensor, Tuning};

/// Sums after the second stage.
const SUMS: u32 = 256;
/// Words of a sum: a number and an exponent.
const SUM: usize = 2;

/// How the kernels run.
struct Shape {
    /// Elements of a run, each of which leaves one sum to the second stage.
    run: u32,
    threads_per_run: u32,
    /// Loads that a thread has on their way: see `shaders/lib/ahead.wgsl`.
    ahead: u32,
    /// Whether runs are read by vec4 where the size of their tensor allows it.
    wide: bool,
}

impl Shape {
    fn of(tuning: &Tuning) -> Self {
        match for_gpus(tuning) {
            true => Shape { run: 8192, threads_per_run: 64, ahead: 8, wide: true },
            false => Shape { run: 256, threads_per_run: 1, ahead: 1, wide: false },
        }
    }

    /// The Vecs of a tensor of `size` elements.
    fn vecs(&self, size: u32) -> u32 {
        if self.wide { vecs(size) } else { size }
    }

    fn squares(&self, size: u32) -> KernelSpec {
        let vec4 = if self.wide { vec4_constant(size) } else { ("VEC4", 0) };
        let run = self.run / if vec4.1 == 1 { 4 } else { 1 };
        let constants = [&row_constants(self.threads_per_run)[..], &[vec4, ("RUN", run), ("AHEAD", self.ahead)]].concat();
        KernelSpec::new("grad_norm.wgsl", "squares", &constants)
    }

    fn stage(&self, entry: &'static str) -> KernelSpec {
        KernelSpec::new("grad_norm.wgsl", entry, &[("AHEAD", self.ahead)])
    }
}

/// `result[4] = (norm, clip factor, 1 if the clipped gradient can be applied else 0, 0)` over all `gradients`; `max_norm` 0
/// means no clipping.
pub fn record(plan: &mut PlanBuilder, gradients: &[Tensor], max_norm: f32, result: Tensor) {
    let shape = Shape::of(plan.tuning());
    let sizes: Vec<u32> = gradients.iter().map(|g| plan.words(*g) as u32).collect();
    let total: u32 = sizes.iter().map(|n| n.div_ceil(shape.run)).sum();
    let partials = plan.scratch("norm partials", SUM * total as usize);
    let sums = plan.scratch("norm sums", SUM * SUMS as usize);
    let mut start = 0;
    for (gradient, size) in gradients.iter().zip(sizes) {
        let runs = Extent::fixed(size.div_ceil(shape.run));
        plan.dispatch(Dispatch {
            kernel: shape.squares(size),
            tensors: &[*gradient, partials],
            params: &[Param::U(shape.vecs(size)), Param::U(start)],
            grid: row_grid(runs, shape.threads_per_run),
            flops: u64::from(shape.run) * 2,
            work: runs,
        });
        start += runs.max();
    }
    plan.dispatch(Dispatch {
        kernel: shape.stage("reduce"),
        tensors: &[partials, sums],
        params: &[Param::U(total)],
        grid: elements(Extent::fixed(SUMS)),
        flops: 1,
        work: Extent::fixed(total),
    });
    plan.dispatch(Dispatch {
        kernel: shape.stage("finish"),
        tensors: &[sums, result],
        params: &[Param::F(max_norm)],
        grid: Grid::Threads { size: Extent::fixed(1), per: 1 },
        flops: 1,
        work: Extent::fixed(SUMS),
    });
}

pub(super) fn variants(tuning: &Tuning) -> Vec<KernelSpec> {
    let shape = Shape::of(tuning);
    vec![shape.squares(36), shape.squares(37), shape.stage("reduce"), shape.stage("finish")]
}
