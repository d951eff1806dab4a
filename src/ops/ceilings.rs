//! The highest speeds that an adapter reaches: multiply-adds, copies, empty dispatches (`shaders/ceilings.wgsl`). For
//! `jurist bench`; models do not run these.

use crate::gpu::{Dispatch, Extent, Grid, KernelSpec, Param, PlanBuilder, Tensor};

/// The numbers of accumulators per thread that the bench tries.
pub const CHAINS: [u32; 4] = [4, 8, 12, 16];
/// Multiply-adds per iteration, at least.
const UNROLLED: u32 = 64;
/// vec4s per thread of `copy`.
const EACH: u32 = 4;

fn rounds(chains: u32) -> u32 {
    UNROLLED.div_ceil(chains)
}

fn spec(entry: &'static str, constants: &[(&'static str, u32)]) -> KernelSpec {
    KernelSpec::new("ceilings.wgsl", entry, constants)
}

fn multiply_add_spec(chains: u32) -> KernelSpec {
    spec("multiply_add", &[("CHAINS", chains), ("ROUNDS", rounds(chains))])
}

/// `sums[threads] = …`: at least 64 multiply-adds per iteration and thread, in `chains` independent chains. Returns the floating
/// point operations per thread, two per multiply-add.
pub fn record_multiply_add(plan: &mut PlanBuilder, sums: Tensor, threads: Extent, iterations: u32, chains: u32) -> u64 {
    let flops = 2 * u64::from(iterations) * u64::from(rounds(chains) * chains);
    plan.dispatch(Dispatch {
        kernel: multiply_add_spec(chains),
        tensors: &[sums],
        params: &[Param::U(iterations), Param::F(0.999), Param::F(0.001)],
        grid: Grid::Threads { size: threads, per: 64 },
        flops,
        work: threads,
    });
    flops
}

/// `out[size] = source[size]`, in vec4s.
pub fn record_copy(plan: &mut PlanBuilder, source: Tensor, out: Tensor, size: Extent) {
    plan.dispatch(Dispatch {
        kernel: spec("copy", &[("EACH", EACH)]),
        tensors: &[source, out],
        params: &[Param::Extent(size)],
        grid: Grid::Threads { size, per: 64 * EACH },
        flops: 1,
        work: size,
    });
}

/// `out[0] = value`: the smallest dispatch.
pub fn record_nothing(plan: &mut PlanBuilder, out: Tensor, value: u32) {
    let one = Extent::fixed(1);
    let grid = Grid::Threads { size: one, per: 1 };
    plan.dispatch(Dispatch {
        kernel: spec("nothing", &[]),
        tensors: &[out],
        params: &[Param::U(value)],
        grid,
        flops: 1,
        work: one,
    });
}

pub(super) fn variants() -> Vec<KernelSpec> {
    let mut all: Vec<KernelSpec> = CHAINS.iter().map(|c| multiply_add_spec(*c)).collect();
    all.extend([spec("copy", &[("EACH", EACH)]), spec("nothing", &[])]);
    all
}
