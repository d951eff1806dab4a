//! The only room that names wgpu: adapter, device, kernels and the plan that runs them.
//!
//! ```text
//! Gpu       one device: adapter facts, limits, tuning, the first error it met, a cache of kernels
//! Kernel    one entry point of one WGSL file, assembled with constants, compiled once
//! Plan      a list of dispatches over planned buffers, made once, run every step with live sizes
//! ```
//!
//! Everything that waits is `async`, so that the same code runs in a browser; `pollster` drives it natively.

mod adapter;
mod error;
mod kernel;
mod oneshot;
mod plan;
mod profile;
mod tuning;

pub use adapter::{AdapterFacts, Class};
pub use error::GpuError;
pub use kernel::{KernelSpec, SHADERS, assemble};
pub use plan::{Dispatch, Grid, Live, Plan, PlanBuilder, Size, Tensor, Word};
pub use profile::{KernelTime, Span};
pub use tuning::{Kernels, Tuning, Variant};

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// A GPU buffer that outlives plans: a weight, a gradient, a moment. Its length is counted in 32-bit words.
#[derive(Clone, Debug)]
pub struct Buffer {
    pub(crate) raw: wgpu::Buffer,
    pub name: Arc<str>,
    pub words: usize,
    _share: Arc<Share>,
}

impl Buffer {
    /// Asked of the device, a range past the end would be an error that it never recovers from.
    fn check_range(&self, start: usize, words: usize) -> Result<(), GpuError> {
        match start.checked_add(words) {
            Some(end) if end <= self.words => Ok(()),
            end => {
                let (buffer, end) = (self.name.to_string(), end.unwrap_or(usize::MAX));
                Err(GpuError::OutOfBounds { buffer, start, end, words: self.words })
            }
        }
    }
}

/// A buffer's part of the memory budget, given back with its last clone.
#[derive(Debug)]
struct Share {
    raw: wgpu::Buffer,
    bytes: u64,
    allocated: Arc<Mutex<u64>>,
}

impl Drop for Share {
    fn drop(&mut self) {
        *self.allocated.lock().unwrap_or_else(PoisonError::into_inner) -= self.bytes;
        if cfg!(target_arch = "wasm32") {
            // In a browser a dropped buffer waits for the garbage collector, which does not see the GPU's memory.
            self.raw.destroy();
        }
    }
}

/// Which limits to ask the device for.
#[derive(Clone, Debug, Default)]
pub enum Limits {
    /// All that the adapter has.
    #[default]
    Adapter,
    /// WebGPU's defaults: what every browser gives, and what the tests hold every kernel to.
    Portable,
    /// WebGPU's defaults with at most this many bytes a storage binding.
    Binding(u64),
}

/// How to open a [`Gpu`].
#[derive(Clone, Debug, Default)]
pub struct GpuOptions {
    /// A number of [`Gpu::adapters`], or part of an adapter's name. `None`: the best one.
    pub adapter: Option<String>,
    pub limits: Limits,
    /// Keep the compiler's bounds checks in the shaders. Slower; kernels guard their own edges, and tests turn this on.
    pub checked: bool,
    /// Leave features aside that not every WebGPU device has: the kernels that a browser runs.
    pub basic: bool,
    /// Which optional kernels to use.
    pub kernels: Kernels,
    /// Texts that take the place of shader files, by the file's name: how tests break a kernel. Compiled with checks.
    #[doc(hidden)]
    pub substitutes: Vec<(&'static str, String)>,
    /// Bytes that buffers may take in all on a software adapter, whose memory is the machine's: the system would end the
    /// process rather than refuse. `None`: no limit but the driver's.
    pub software_memory: Option<u64>,
}

struct Shared {
    device: wgpu::Device,
    queue: wgpu::Queue,
    facts: AdapterFacts,
    /// The size of subgroups, if the device has them and it is always the same.
    subgroup: Option<u32>,
    checked: bool,
    substitutes: Vec<(&'static str, String)>,
    memory: Option<u64>,
    allocated: Arc<Mutex<u64>>,
    fault: Arc<Mutex<Option<Fault>>>,
    kernels: Mutex<HashMap<KernelSpec, Arc<kernel::Kernel>>>,
}

enum Fault {
    OutOfMemory,
    Lost(String),
    Rejected(String),
}

/// One opened GPU. Cheap to clone; all clones are the same device.
#[derive(Clone)]
pub struct Gpu {
    shared: Arc<Shared>,
    tuning: Arc<Tuning>,
}

impl Gpu {
    /// The adapters of this machine, best first.
    pub async fn adapters() -> Vec<AdapterFacts> {
        adapter::list().await.iter().map(|a| adapter::facts(&a.get_info())).collect()
    }

    /// Opens the adapter that `options` names. Its optional kernels are taken on trust: `doctor::open` tries them first.
    ///
    /// # Errors
    /// No adapter at all (with what to install here), no such adapter, or a device that asks for more than it has.
    pub async fn open(options: &GpuOptions) -> Result<Gpu, GpuError> {
        let adapter = adapter::choose(options.adapter.as_deref()).await?;
        let facts = adapter::facts(&adapter.get_info());
        let limits = match options.limits {
            Limits::Adapter => adapter.limits(),
            Limits::Portable => wgpu::Limits::default(),
            Limits::Binding(bytes) => wgpu::Limits { max_storage_buffer_binding_size: bytes, ..wgpu::Limits::default() },
        };
        let optional =
            wgpu::Features::TIMESTAMP_QUERY | if options.basic { wgpu::Features::empty() } else { wgpu::Features::SUBGROUP };
        let features = adapter.features() & optional;
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("jurist"),
            required_limits: limits,
            // Timestamps for profiles, subgroups for one matmul variant; everything runs without them too.
            required_features: features,
            ..Default::default()
        };
        let (device, queue) = adapter
            .request_device(&descriptor)
            .await
            .map_err(|e| GpuError::NoDevice { adapter: facts.to_string(), reason: e.to_string() })?;

        let fault = Arc::new(Mutex::new(None));
        let keep = fault.clone();
        device.on_uncaptured_error(Arc::new(move |e| {
            record(
                &keep,
                match e {
                    wgpu::Error::OutOfMemory { .. } => Fault::OutOfMemory,
                    other => Fault::Rejected(other.to_string()),
                },
            );
        }));
        let keep = fault.clone();
        device.set_device_lost_callback(move |reason, text| {
            if reason != wgpu::DeviceLostReason::Destroyed {
                record(&keep, Fault::Lost(if text.is_empty() { format!("{reason:?}") } else { text }));
            }
        });
        let info = adapter.get_info();
        let fixed = info.subgroup_min_size == info.subgroup_max_size && features.contains(wgpu::Features::SUBGROUP);
        let subgroup = fixed.then_some(info.subgroup_min_size);
        let memory = options.software_memory.filter(|_| facts.class == Class::Software);
        let tuning = Arc::new(Tuning::of(&facts, subgroup, &options.kernels)?);
        let shared = Shared {
            device,
            queue,
            facts,
            subgroup,
            checked: options.checked || !options.substitutes.is_empty(),
            substitutes: options.substitutes.clone(),
            memory,
            allocated: Arc::new(Mutex::new(0)),
            fault,
            kernels: Mutex::new(HashMap::new()),
        };
        Ok(Gpu { shared: Arc::new(shared), tuning })
    }

    /// Name, backend, driver and class of the adapter.
    pub fn facts(&self) -> &AdapterFacts {
        &self.shared.facts
    }

    pub fn tuning(&self) -> &Tuning {
        &self.tuning
    }

    /// Why this adapter's class does without a variant; `None`: it suits.
    pub fn unsuited(&self, variant: Variant) -> Option<&'static str> {
        variant.unsuited(self.shared.facts.class, self.shared.subgroup)
    }

    /// The same device, for plans with another tuning.
    pub fn tuned(&self, tuning: Tuning) -> Gpu {
        Gpu { shared: self.shared.clone(), tuning: Arc::new(tuning) }
    }

    /// The largest storage binding, in bytes.
    pub fn max_binding(&self) -> u64 {
        self.shared.device.limits().max_storage_buffer_binding_size
    }

    /// The largest buffer, in bytes.
    pub fn max_buffer(&self) -> u64 {
        self.shared.device.limits().max_buffer_size
    }

    /// Bytes of all buffers that are alive.
    pub fn allocated(&self) -> u64 {
        *self.shared.allocated.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The limits that matter here, as (name, value): for `jurist doctor`.
    pub fn limits(&self) -> Vec<(&'static str, u64)> {
        let l = self.shared.device.limits();
        vec![
            ("storage binding (bytes)", l.max_storage_buffer_binding_size),
            ("buffer (bytes)", l.max_buffer_size),
            ("storage buffers a stage", u64::from(l.max_storage_buffers_per_shader_stage)),
            ("workgroup memory (bytes)", u64::from(l.max_compute_workgroup_storage_size)),
            ("invocations a workgroup", u64::from(l.max_compute_invocations_per_workgroup)),
            ("workgroups a dimension", u64::from(l.max_compute_workgroups_per_dimension)),
        ]
    }

    /// A zeroed buffer of `words` 32-bit words that outlives plans.
    ///
    /// # Errors
    /// Larger than a binding or a buffer may be, over the memory budget, or out of memory.
    pub fn buffer(&self, name: &str, words: usize) -> Result<Buffer, GpuError> {
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC;
        self.allocate(name, words, usage)
    }

    fn allocate(&self, name: &str, words: usize, usage: wgpu::BufferUsages) -> Result<Buffer, GpuError> {
        let shared = &*self.shared;
        let size = (words.max(4) as u64 * 4).next_multiple_of(16);
        let limits = shared.device.limits();
        let adapter = || shared.facts.name.clone();
        if usage.contains(wgpu::BufferUsages::STORAGE) && size > limits.max_storage_buffer_binding_size {
            let allowed = limits.max_storage_buffer_binding_size;
            return Err(GpuError::BindingTooLarge { what: name.into(), needed: size, allowed, adapter: adapter() });
        }
        if size > limits.max_buffer_size {
            let allowed = limits.max_buffer_size;
            return Err(GpuError::BufferTooLarge { what: name.into(), needed: size, allowed, adapter: adapter() });
        }
        {
            let mut allocated = shared.allocated.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(memory) = shared.memory.filter(|m| *allocated + size > *m) {
                return Err(GpuError::OverBudget { needed: (*allocated + size) >> 20, available: memory >> 20 });
            }
            *allocated += size;
        }
        let raw =
            shared.device.create_buffer(&wgpu::BufferDescriptor { label: Some(name), size, usage, mapped_at_creation: false });
        let share = Arc::new(Share { raw: raw.clone(), bytes: size, allocated: shared.allocated.clone() });
        match self.check() {
            Err(GpuError::OutOfMemory { .. }) => Err(GpuError::OutOfMemory { what: name.into(), bytes: size }),
            Err(other) => Err(other),
            Ok(()) => Ok(Buffer { raw, name: name.into(), words, _share: share }),
        }
    }

    /// Uploads `data` to `buffer` from word `offset` on, in pieces that never ask for a large staging buffer.
    ///
    /// # Errors
    /// Data that would go past the buffer's end; what the device reported up to now.
    pub fn write<T: bytemuck::Pod>(&self, buffer: &Buffer, offset: usize, data: &[T]) -> Result<(), GpuError> {
        const PIECE: usize = 8 << 20;
        let bytes: &[u8] = bytemuck::cast_slice(data);
        buffer.check_range(offset, bytes.len().div_ceil(4))?;
        for (i, piece) in bytes.chunks(PIECE).enumerate() {
            self.shared.queue.write_buffer(&buffer.raw, (offset * 4 + i * PIECE) as u64, piece);
            if bytes.len() > PIECE {
                self.shared.queue.submit([]);
            }
        }
        self.check()
    }

    /// Has the queue take what was written up to now, so that it need not keep copies for long.
    pub fn flush(&self) {
        self.shared.queue.submit([]);
    }

    /// Copies buffers over others of the same length, on the GPU.
    ///
    /// # Errors
    /// A target that is shorter than its source.
    pub fn copy(&self, pairs: &[(&Buffer, &Buffer)]) -> Result<(), GpuError> {
        let mut encoder = self.shared.device.create_command_encoder(&Default::default());
        for (from, to) in pairs {
            to.check_range(0, from.words)?;
            encoder.copy_buffer_to_buffer(&from.raw, 0, &to.raw, 0, from.words as u64 * 4);
        }
        self.shared.queue.submit([encoder.finish()]);
        self.check()
    }

    /// Fills buffers with zeros.
    pub fn clear(&self, buffers: &[Buffer]) {
        let mut encoder = self.shared.device.create_command_encoder(&Default::default());
        buffers.iter().for_each(|b| encoder.clear_buffer(&b.raw, 0, None));
        self.shared.queue.submit([encoder.finish()]);
    }

    /// Reads `words` 32-bit words of `buffer` from word `offset` on. Waits for all work submitted before.
    pub async fn read<T: bytemuck::Pod>(&self, buffer: &Buffer, offset: usize, words: usize) -> Result<Vec<T>, GpuError> {
        let mut parts = self.read_many(&[(buffer, offset, words)]).await?;
        Ok(bytemuck::cast_slice(&parts.pop().unwrap_or_default()).to_vec())
    }

    /// Several reads with one wait; the answer holds the raw words of each.
    ///
    /// # Errors
    /// A part past its buffer's end; what the device reported up to now.
    pub async fn read_many(&self, parts: &[(&Buffer, usize, usize)]) -> Result<Vec<Vec<u32>>, GpuError> {
        let shared = &*self.shared;
        for (buffer, offset, words) in parts {
            buffer.check_range(*offset, *words)?;
        }
        let total: usize = parts.iter().map(|(_, _, words)| words).sum();
        if total == 0 {
            return Ok(parts.iter().map(|_| Vec::new()).collect());
        }
        let descriptor = wgpu::BufferDescriptor {
            label: Some("readback"),
            size: total as u64 * 4,
            usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        };
        let staging = shared.device.create_buffer(&descriptor);
        let mut encoder = shared.device.create_command_encoder(&Default::default());
        let mut at = 0;
        for (buffer, offset, words) in parts {
            encoder.copy_buffer_to_buffer(&buffer.raw, *offset as u64 * 4, &staging, at, *words as u64 * 4);
            at += *words as u64 * 4;
        }
        shared.queue.submit([encoder.finish()]);
        let (sender, receiver) = oneshot::channel();
        staging.map_async(wgpu::MapMode::Read, .., move |result| sender.send(result));
        self.wait()?;
        let mapped = receiver.await;
        self.check()?;
        if !matches!(mapped, Some(Ok(()))) {
            return Err(GpuError::DeviceLost { reason: "a result could not be read back".into() });
        }
        let range = staging.get_mapped_range(..).map_err(|e| GpuError::Validation { reason: e.to_string() })?;
        let mut words: &[u32] = bytemuck::cast_slice(&range);
        let mut out = Vec::with_capacity(parts.len());
        for (_, _, n) in parts {
            let (head, tail) = words.split_at(*n);
            out.push(head.to_vec());
            words = tail;
        }
        drop(range);
        staging.destroy();
        Ok(out)
    }

    /// Waits for all submitted work. In a browser nothing may block, and nothing needs to: awaiting a read is enough.
    pub fn wait(&self) -> Result<(), GpuError> {
        if cfg!(target_arch = "wasm32") {
            return Ok(());
        }
        match self.shared.device.poll(wgpu::PollType::wait_indefinitely()) {
            Ok(_) => Ok(()),
            Err(e) => self.check().and(Err(GpuError::DeviceLost { reason: e.to_string() })),
        }
    }

    /// The first error that the device met, if any. It stays: after it no result can be trusted.
    pub fn check(&self) -> Result<(), GpuError> {
        match &*self.shared.fault.lock().unwrap_or_else(PoisonError::into_inner) {
            None => Ok(()),
            Some(Fault::OutOfMemory) => Err(GpuError::OutOfMemory { what: "a buffer".into(), bytes: self.allocated() }),
            Some(Fault::Lost(reason)) => Err(GpuError::DeviceLost { reason: reason.clone() }),
            Some(Fault::Rejected(reason)) => Err(GpuError::Validation { reason: reason.clone() }),
        }
    }

    fn kernel(&self, spec: &KernelSpec) -> Result<Arc<kernel::Kernel>, GpuError> {
        let mut kernels = self.shared.kernels.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kernel) = kernels.get(spec) {
            return Ok(kernel.clone());
        }
        let kernel = Arc::new(kernel::Kernel::compile(&self.shared.device, spec, &self.shared.substitutes, self.shared.checked)?);
        self.check()?;
        kernels.insert(spec.clone(), kernel.clone());
        Ok(kernel)
    }
}

fn record(slot: &Mutex<Option<Fault>>, fault: Fault) {
    let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
    // A lost device explains all that came before it; otherwise the first error is the cause of the others.
    if slot.is_none() || matches!(fault, Fault::Lost(_)) {
        *slot = Some(fault);
    }
}
