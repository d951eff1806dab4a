//! The limits of the adapter (`shaders/ceilings.wgsl`): multiply-adds, copying, and the overhead of each dispatch and each
//! submission.

use serde::Serialize;

use super::BenchError;
use super::clock::{self, Effort};
use crate::gpu::{Class, Extent, Gpu, GpuError, Plan, PlanBuilder, RunParams};
use crate::ops::ceilings as ops;

/// Limits that no kernel can exceed.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Ceilings {
    /// Floating point operations per second of unrolled multiply-adds, two per multiply-add.
    pub flops: f64,
    /// Bytes per second, read and written, of a copy: the better of a kernel and the copy command.
    pub bandwidth: f64,
    /// Bytes per second of the copying kernel.
    pub kernel_bandwidth: f64,
    /// Seconds per further dispatch in a submission.
    pub dispatch: f64,
    /// Seconds per further submission, parameters included, while others are running.
    pub submit: f64,
    /// Seconds from a submission until the host knows that it is done.
    pub round_trip: f64,
}

/// Measures all limits.
pub async fn measure(gpu: &Gpu, effort: Effort) -> Result<Ceilings, BenchError> {
    let mut flops: f64 = 0.0;
    for chains in ops::CHAINS {
        flops = flops.max(arithmetic(gpu, chains, effort).await?);
    }
    let (kernel_bandwidth, command) = copying(gpu, effort).await?;
    let (dispatch, submit, round_trip) = overhead(gpu, effort).await?;
    Ok(Ceilings { flops, bandwidth: kernel_bandwidth.max(command), kernel_bandwidth, dispatch, submit, round_trip })
}

async fn arithmetic(gpu: &Gpu, chains: u32, effort: Effort) -> Result<f64, GpuError> {
    // A few milliseconds per run: enough threads to fill the machine, enough iterations to hide the launch.
    let (threads, iterations) = match gpu.facts().class {
        Class::Software => (1 << 12, 1 << 8),
        Class::Integrated | Class::Web => (1 << 17, 1 << 8),
        Class::Discrete => (1 << 20, 1 << 9),
    };
    let mut plan = PlanBuilder::new(gpu.tuning());
    let out = plan.persistent("sums", threads as usize);
    let flops_per_thread = ops::record_multiply_add(&mut plan, out, Extent::fixed(threads), iterations, chains);
    let plan = plan.build(gpu)?;
    let seconds = clock::plan(gpu, &plan, &RunParams::default(), effort).await?.seconds;
    Ok(f64::from(threads) * flops_per_thread as f64 / seconds)
}

/// Bytes per second of a copying kernel and of the copy command.
async fn copying(gpu: &Gpu, effort: Effort) -> Result<(f64, f64), GpuError> {
    // Larger than caches.
    let target: u64 = if gpu.facts().class == Class::Software { 64 << 20 } else { 512 << 20 };
    let bytes = target.min(gpu.max_binding()).min(gpu.max_buffer()) / 16 * 16;
    let words = (bytes / 4) as usize;
    let mut plan = PlanBuilder::new(gpu.tuning());
    let (source, out) = (plan.persistent("source", words), plan.persistent("copy", words));
    ops::record_copy(&mut plan, source, out, Extent::fixed((bytes / 16) as u32));
    let plan = plan.build(gpu)?;
    let kernel = clock::plan(gpu, &plan, &RunParams::default(), effort).await?.seconds;
    let (source, out) = (plan.buffer(source)?, plan.buffer(out)?);
    let command = clock::wall(effort, async || {
        gpu.copy(&[(source, out)])?;
        gpu.wait()
    })
    .await?;
    let moved = 2.0 * bytes as f64;
    Ok((moved / kernel, moved / command))
}

/// Seconds of a dispatch, of a submission, and of a round trip.
async fn overhead(gpu: &Gpu, effort: Effort) -> Result<(f64, f64, f64), GpuError> {
    const MANY: usize = 256;
    let (few, many) = (empty_dispatches(gpu, 1)?, empty_dispatches(gpu, MANY)?);
    let run = |plan: &Plan, times: usize| -> Result<(), GpuError> {
        (0..times).try_for_each(|_| plan.run(&RunParams::default()))?;
        gpu.wait()
    };
    let round_trip = clock::wall(effort, async || run(&few, 1)).await?;
    let submits = clock::wall(effort, async || run(&few, MANY)).await?;
    let dispatches = clock::wall(effort, async || run(&many, 1)).await?;
    let per_item = |total: f64| ((total - round_trip) / (MANY - 1) as f64).max(0.0);
    Ok((per_item(dispatches), per_item(submits), round_trip))
}

/// A plan of `times` empty dispatches, each dependent on the previous one.
fn empty_dispatches(gpu: &Gpu, times: usize) -> Result<Plan, GpuError> {
    let mut plan = PlanBuilder::new(gpu.tuning());
    let out = plan.persistent("nothing", 1);
    (0..times).for_each(|i| ops::record_nothing(&mut plan, out, i as u32));
    plan.build(gpu)
}
