//! Profiling: timestamps before and after every dispatch of one run, or around many runs.

use super::plan::PreparedStep;
use super::{Access, Gpu, GpuError, Plan, RunParams};

/// The time of one kernel variant within a run.
#[derive(Clone, Debug)]
pub struct KernelTime {
    /// File, entry point and constants.
    pub kernel: String,
    pub calls: usize,
    pub seconds: f64,
    /// Floating point operations, as its dispatches declare them.
    pub flops: u64,
}

/// When one dispatch ran, by the adapter's clock.
#[derive(Clone, Debug)]
pub struct DispatchTime {
    /// File, entry point and constants.
    pub kernel: String,
    /// Seconds since the first dispatch of the run began.
    pub start: f64,
    pub seconds: f64,
    /// Floating point operations, as the dispatch declares them.
    pub flops: u64,
}

impl KernelTime {
    /// The sums over `spans` by kernel, slowest first.
    pub fn sums(spans: &[DispatchTime]) -> Vec<KernelTime> {
        let mut times: Vec<KernelTime> = Vec::new();
        for span in spans {
            match times.iter_mut().find(|t| t.kernel == span.kernel) {
                Some(t) => {
                    t.calls += 1;
                    t.seconds += span.seconds;
                    t.flops += span.flops;
                }
                None => {
                    let DispatchTime { kernel, seconds, flops, .. } = span.clone();
                    times.push(KernelTime { kernel, calls: 1, seconds, flops });
                }
            }
        }
        times.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
        times
    }
}

/// Timestamps per query set: the limit of WebGPU.
const QUERIES: u32 = 4096;

/// Timestamps on the GPU, in pairs.
struct Stopwatch {
    /// `None` only while it is dropped.
    set: Option<wgpu::QuerySet>,
    access: Access,
    results: super::Buffer,
    used: u32,
}

impl Stopwatch {
    fn new(gpu: &Gpu, pairs: usize) -> Result<Self, GpuError> {
        let count = (2 * pairs as u32).clamp(2, QUERIES);
        let descriptor = wgpu::QuerySetDescriptor { label: None, ty: wgpu::QueryType::Timestamp, count };
        let usage = wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC;
        let results = gpu.allocate("timestamps", 2 * count as usize, usage)?;
        let _lock = gpu.lock();
        let set = Some(gpu.device()?.device.create_query_set(&descriptor));
        Ok(Stopwatch { set, access: gpu.shared.access, results, used: 0 })
    }

    fn full(&self) -> bool {
        self.used + 2 > QUERIES
    }

    /// The next pair of timestamps, for one compute pass.
    fn pair(&mut self) -> Option<wgpu::ComputePassTimestampWrites<'_>> {
        let (query_set, first) = (self.set.as_ref()?, self.used);
        self.used += 2;
        Some(wgpu::ComputePassTimestampWrites {
            query_set,
            beginning_of_pass_write_index: Some(first),
            end_of_pass_write_index: Some(first + 1),
        })
    }

    fn resolve(&self, encoder: &mut wgpu::CommandEncoder) -> Result<(), GpuError> {
        let results = self.results.raw()?;
        self.set.iter().for_each(|set| encoder.resolve_query_set(set, 0..self.used, results, 0));
        Ok(())
    }

    /// Start and end of each pair, in seconds of the adapter's clock.
    async fn read(&self, gpu: &Gpu) -> Result<Vec<[f64; 2]>, GpuError> {
        let period = f64::from(gpu.device()?.queue.get_timestamp_period()) * 1e-9;
        let words = gpu.read::<u32>(&self.results, 0, 2 * self.used as usize).await?;
        let tick = |w: &[u32]| (u64::from(w[1]) << 32 | u64::from(w[0])) as f64 * period;
        Ok(words.chunks_exact(4).map(|w| [tick(&w[..2]), tick(&w[2..])]).collect())
    }
}

impl Drop for Stopwatch {
    fn drop(&mut self) {
        let _lock = self.access.lock();
        self.set = None;
    }
}

#[doc(hidden)]
impl Gpu {
    /// Whether this device has timestamps.
    pub fn has_timestamps(&self) -> bool {
        self.shared.device.as_ref().is_some_and(|d| d.device.features().contains(wgpu::Features::TIMESTAMP_QUERY))
    }
}

impl Plan {
    /// Runs the plan once, with every dispatch in a pass of its own between two timestamps. Returns them in the order of the run.
    ///
    /// # Errors
    /// An adapter without timestamps; run parameters that do not fit, as in [`Plan::run_times`].
    pub async fn timeline(&self, params: &RunParams) -> Result<Vec<DispatchTime>, GpuError> {
        let gpu: &Gpu = &self.gpu;
        if !gpu.has_timestamps() {
            return Err(GpuError::Validation { reason: format!("{} has no timestamp queries", gpu.facts()) });
        }
        let (mut spans, watches) = self.submit_timed(params)?;
        let mut times = Vec::new();
        for watch in &watches {
            times.extend(watch.read(gpu).await?);
        }
        let begin = times.first().map_or(0.0, |t| t[0]);
        for (span, [from, to]) in spans.iter_mut().zip(times) {
            (span.start, span.seconds) = (from - begin, (to - from).max(0.0));
        }
        Ok(spans)
    }

    /// Submits a run with timestamps around every dispatch. The spans returned have no times yet; the stopwatches will have them.
    fn submit_timed(&self, params: &RunParams) -> Result<(Vec<DispatchTime>, Vec<Stopwatch>), GpuError> {
        let gpu: &Gpu = &self.gpu;
        let _lock = gpu.lock();
        let params = &self.begin(params, 0)?;
        let shared = gpu.device()?;
        let encoder = || shared.device.create_command_encoder(&Default::default());
        let mut spans: Vec<DispatchTime> = Vec::new();
        let mut watches = vec![Stopwatch::new(gpu, self.steps.len())?];
        let (mut commands, mut pending) = (encoder(), 0);
        for step in &self.steps {
            let (name, kernel, bind, grid, flops) = match step {
                PreparedStep::Clear(buffer) => {
                    commands.clear_buffer(buffer.raw()?, 0, None);
                    continue;
                }
                PreparedStep::Dispatch { name, kernel, bind, grid, flops, work, .. } => {
                    (name, kernel, bind, grid, flops * u64::from(work.value(params)))
                }
            };
            let [x, y] = grid.groups(params);
            if x == 0 || y == 0 {
                continue;
            }
            if pending > gpu.tuning.flops_per_submit {
                shared.queue.submit([std::mem::replace(&mut commands, encoder()).finish()]);
                pending = 0;
            }
            if watches.last().is_none_or(Stopwatch::full) {
                watches.push(Stopwatch::new(gpu, self.steps.len())?);
            }
            let timestamp_writes = watches.last_mut().and_then(Stopwatch::pair);
            let mut pass = commands.begin_compute_pass(&wgpu::ComputePassDescriptor { label: None, timestamp_writes });
            pass.set_pipeline(&kernel.pipeline);
            pass.set_bind_group(0, bind, &[]);
            pass.dispatch_workgroups(x, y, 1);
            drop(pass);
            pending += flops;
            spans.push(DispatchTime { kernel: name.clone(), start: 0.0, seconds: 0.0, flops });
        }
        watches.iter().try_for_each(|w| w.resolve(&mut commands))?;
        shared.queue.submit([commands.finish()]);
        Ok((spans, watches))
    }

    /// Runs the plan once and measures each kernel, slowest first.
    ///
    /// # Errors
    /// As [`Plan::timeline`].
    pub async fn profile(&self, params: &RunParams) -> Result<Vec<KernelTime>, GpuError> {
        Ok(KernelTime::sums(&self.timeline(params).await?))
    }

    /// Seconds per run, from two timestamps around `times` runs in one submission. `None`: the adapter has no timestamps, or the
    /// plan fills buffers with zeros, which cannot be part of a compute pass.
    ///
    /// # Errors
    /// Run parameters that do not fit, as in [`Plan::run_times`].
    pub async fn seconds(&self, params: &RunParams, times: usize) -> Result<Option<f64>, GpuError> {
        let gpu: &Gpu = &self.gpu;
        if !gpu.has_timestamps() || times == 0 || self.steps.iter().any(|s| matches!(s, PreparedStep::Clear(_))) {
            return Ok(None);
        }
        let pairs = self.submit_timed_whole(params, times)?.read(gpu).await?;
        Ok(pairs.first().map(|[from, to]| (to - from).max(0.0) / times as f64))
    }

    /// Submits `times` runs between two timestamps.
    fn submit_timed_whole(&self, params: &RunParams, times: usize) -> Result<Stopwatch, GpuError> {
        let gpu: &Gpu = &self.gpu;
        let _lock = gpu.lock();
        let params = &self.begin(params, 0)?;
        let shared = gpu.device()?;
        let mut watch = Stopwatch::new(gpu, 1)?;
        let mut commands = shared.device.create_command_encoder(&Default::default());
        let descriptor = wgpu::ComputePassDescriptor { label: None, timestamp_writes: watch.pair() };
        let mut pass = commands.begin_compute_pass(&descriptor);
        for _ in 0..times {
            for step in &self.steps {
                let PreparedStep::Dispatch { kernel, bind, grid, .. } = step else { continue };
                let [x, y] = grid.groups(params);
                if x > 0 && y > 0 {
                    pass.set_pipeline(&kernel.pipeline);
                    pass.set_bind_group(0, bind, &[]);
                    pass.dispatch_workgroups(x, y, 1);
                }
            }
        }
        drop(pass);
        watch.resolve(&mut commands)?;
        shared.queue.submit([commands.finish()]);
        Ok(watch)
    }
}
