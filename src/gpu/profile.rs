//! Where a step's time goes: one run of a plan with a timestamp before and after every dispatch.

use super::plan::Ready;
use super::{Gpu, GpuError, Plan};

/// Time of one kernel variant within a run.
#[derive(Clone, Debug)]
pub struct KernelTime {
    /// File, entry point and constants.
    pub kernel: String,
    pub calls: usize,
    pub seconds: f64,
    /// Floating point operations that its dispatches declared.
    pub flops: u64,
}

impl Plan {
    /// Runs the plan once and measures each kernel, slowest first.
    ///
    /// # Errors
    /// An adapter without timestamps.
    pub async fn profile(&self, live: &[u32]) -> Result<Vec<KernelTime>, GpuError> {
        let gpu: &Gpu = &self.gpu;
        let device = &gpu.shared.device;
        if !device.features().contains(wgpu::Features::TIMESTAMP_QUERY) {
            return Err(GpuError::Validation { reason: format!("{} has no timestamp queries", gpu.facts()) });
        }
        self.write_parameters(live);
        let queries =
            device.create_query_set(&wgpu::QuerySetDescriptor { label: None, ty: wgpu::QueryType::Timestamp, count: 2 });
        let results = gpu.allocate("timestamps", 4, wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC)?;
        let period = f64::from(gpu.shared.queue.get_timestamp_period()) * 1e-9;
        let mut times: Vec<KernelTime> = Vec::new();
        for step in &self.steps {
            let Ready::Dispatch { name, kernel, bind, grid, flops, work, .. } = step else { continue };
            let [x, y] = grid.groups(live);
            if x == 0 || y == 0 {
                continue;
            }
            let mut encoder = device.create_command_encoder(&Default::default());
            let timestamps = wgpu::ComputePassTimestampWrites {
                query_set: &queries,
                beginning_of_pass_write_index: Some(0),
                end_of_pass_write_index: Some(1),
            };
            let descriptor = wgpu::ComputePassDescriptor { label: None, timestamp_writes: Some(timestamps) };
            let mut pass = encoder.begin_compute_pass(&descriptor);
            pass.set_pipeline(&kernel.pipeline);
            pass.set_bind_group(0, bind, &[]);
            pass.dispatch_workgroups(x, y, 1);
            drop(pass);
            encoder.resolve_query_set(&queries, 0..2, &results.raw, 0);
            gpu.shared.queue.submit([encoder.finish()]);
            let ticks: Vec<u64> = gpu.read::<u64>(&results, 0, 4).await?;
            let seconds = ticks[1].saturating_sub(ticks[0]) as f64 * period;
            let flops = flops * u64::from(work.value(live));
            match times.iter_mut().find(|t| t.kernel == *name) {
                Some(t) => {
                    t.calls += 1;
                    t.seconds += seconds;
                    t.flops += flops;
                }
                None => times.push(KernelTime { kernel: name.clone(), calls: 1, seconds, flops }),
            }
        }
        times.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
        Ok(times)
    }
}
