//! The only module that uses wgpu: adapter, device, kernels, and the plans that run them.
//!
//! ```text
//! Gpu       one device: adapter facts, limits, tuning, the first error of the device, a cache of kernels
//! Kernel    one entry point of one WGSL file, assembled with constants, compiled once
//! Plan      a list of dispatches over planned buffers, built once and run every step with that step's sizes
//! ```
//!
//! Everything that waits is `async`, so that the same code runs in a browser. Natively `pollster` drives it.

mod adapter;
mod device_lock;
mod dry;
mod error;
mod kernel;
mod memory_tracker;
mod plan;
mod profile;
mod tuning;

pub use adapter::{AdapterFacts, Class};
pub use error::GpuError;
pub use kernel::{Bindings, KernelSpec, SHADERS, assemble, assemble_for_browsers};
pub use memory_tracker::{MemoryKind, MemoryUsage};
pub use plan::{Dispatch, Extent, Grid, Param, Plan, PlanBuilder, RunParam, RunParams, Tensor};
pub use profile::{DispatchTime, KernelTime};
pub use tuning::{Kernels, MatrixUnit, Tuning, Variant};

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures_channel::oneshot;

use adapter::Abilities;
use device_lock::{Access, DeviceLock};
use memory_tracker::{AliasOwner, Entry, MemoryTracker};

/// A GPU buffer that outlives plans: a weight, a gradient, a moment. Its length is counted in 32-bit words.
#[derive(Clone, Debug)]
pub struct Buffer {
    pub name: Arc<str>,
    pub words: usize,
    allocation: Arc<Allocation>,
}

impl Buffer {
    /// Checked here because a range past the end is an error from which the device never recovers.
    fn check_range(&self, start: usize, words: usize) -> Result<(), GpuError> {
        match start.checked_add(words) {
            Some(end) if end <= self.words => Ok(()),
            end => {
                let (buffer, end) = (self.name.to_string(), end.unwrap_or(usize::MAX));
                Err(GpuError::OutOfBounds { buffer, start, end, words: self.words })
            }
        }
    }

    /// The wgpu buffer.
    fn raw(&self) -> Result<&wgpu::Buffer, GpuError> {
        self.allocation.raw.as_ref().ok_or(GpuError::Dry)
    }

    /// The first `words` words of the same memory, under another name.
    fn view(&self, name: &str, words: usize) -> Buffer {
        Buffer { name: name.into(), words, allocation: self.allocation.clone() }
    }

    /// Whether both buffers are the same memory.
    fn same_memory(&self, other: &Buffer) -> bool {
        Arc::ptr_eq(&self.allocation, &other.allocation)
    }
}

/// The memory of a buffer. It is freed when the last clone of the buffer is dropped.
#[derive(Debug)]
struct Allocation {
    /// `None` in a dry run.
    raw: Option<wgpu::Buffer>,
    access: Access,
    owner: AliasOwner,
    _entry: Entry,
}

impl Drop for Allocation {
    fn drop(&mut self) {
        let _lock = self.access.lock();
        let raw = self.raw.take();
        if cfg!(target_arch = "wasm32") {
            // In a browser only the garbage collector frees a dropped buffer, and it does not see the GPU's memory.
            raw.iter().for_each(wgpu::Buffer::destroy);
        }
    }
}

/// Which limits to ask the device for.
#[derive(Clone, Debug, Default)]
pub enum Limits {
    /// All that the adapter offers.
    #[default]
    Adapter,
    /// WebGPU's defaults, which every browser offers. The tests run every kernel with them.
    Portable,
    /// WebGPU's defaults with at most this many bytes per storage binding.
    Binding(u64),
}

/// How to open a [`Gpu`].
#[derive(Clone, Debug, Default)]
pub struct GpuOptions {
    /// A number of [`Gpu::adapters`], or part of an adapter's name. `None`: the best one.
    pub adapter: Option<String>,
    #[doc(hidden)]
    pub limits: Limits,
    #[doc(hidden)]
    /// Keep the compiler's bounds checks in the shaders: for tests. It is slower, and kernels check their own bounds.
    pub checked: bool,
    #[doc(hidden)]
    /// Use no optional features, so that the kernels are those that a browser runs.
    pub basic: bool,
    #[doc(hidden)]
    /// Which optional kernels to use.
    pub kernels: Kernels,
    /// Texts that replace shader files, by file name: for tests that break a kernel. They are compiled with bounds checks.
    #[doc(hidden)]
    pub substitutes: Vec<(&'static str, String)>,
    /// Total bytes of buffers on a software adapter. Its memory is the machine's, and the system would kill the process instead
    /// of refusing an allocation. `None`: only the driver's limit.
    pub software_memory: Option<u64>,
}

/// Device and queue of wgpu.
struct Device {
    device: wgpu::Device,
    queue: wgpu::Queue,
}

struct Shared {
    /// `None` in a dry run.
    device: Option<Device>,
    limits: wgpu::Limits,
    access: Access,
    facts: AdapterFacts,
    /// What to install for more speed, where the adapter is a last resort.
    advice: Option<String>,
    abilities: Abilities,
    checked: bool,
    substitutes: Vec<(&'static str, String)>,
    memory: Option<u64>,
    tracker: MemoryTracker,
    /// Bytes written since the last wait for the queue.
    staged: AtomicU64,
    /// Errors of a dry run: buffers that the adapter would refuse.
    refusals: Mutex<Vec<String>>,
    fault: Arc<Mutex<Option<Fault>>>,
    kernels: Mutex<HashMap<KernelSpec, Arc<kernel::Kernel>>>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        let _lock = self.access.lock();
        self.kernels.get_mut().unwrap_or_else(PoisonError::into_inner).clear();
        self.device = None;
    }
}

/// A staging buffer that is being filled and mapped, and the receiver that is told when it is.
type PendingRead = (Allocation, oneshot::Receiver<Result<(), wgpu::BufferAsyncError>>);

enum Fault {
    OutOfMemory,
    Lost(String),
    Rejected(String),
}

/// One opened GPU. Cheap to clone; all clones are the same device.
///
/// ```
/// use jurist::{Gpu, GpuOptions, Judge, LoadOptions};
///
/// # fn main() -> Result<(), jurist::Error> {
/// let gpu = Gpu::open(&GpuOptions::default())?;
/// let judge = Judge::load_with("web/judge", LoadOptions { gpu: Some(gpu), ..LoadOptions::default() })?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Gpu {
    shared: Arc<Shared>,
    tuning: Arc<Tuning>,
    memory_kind: MemoryKind,
    /// Buffers that plans may put their scratch tensors into.
    aliased: Arc<[Buffer]>,
}

impl std::fmt::Debug for Gpu {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.debug_struct("Gpu").field("adapter", &self.shared.facts.to_string()).finish_non_exhaustive()
    }
}

/// Bytes of uploads that may be pending. The device stages them in buffers of its own and frees these after reading them.
const MAX_STAGED: u64 = 16 << 20;

/// Buffers above this size get memory of their own; smaller ones share blocks of this size. With wgpu's own block sizes, 128 to
/// 256 MiB, fragmentation would be a large share of the memory in use. Drivers allow a few thousand allocations.
const MEMORY_BLOCK: u64 = 4 << 20;

#[doc(hidden)]
impl Gpu {
    /// The adapters of this machine, best first.
    pub async fn adapters() -> Vec<AdapterFacts> {
        adapter::list().await.iter().map(|a| adapter::facts(&a.get_info())).collect()
    }

    /// Opens the adapter that `options` names, without testing its optional kernels. [`Gpu::open`] tests them first.
    ///
    /// # Errors
    /// No adapter at all (the message says what to install), no such adapter, or a device that the adapter refuses.
    pub async fn open_untested(options: &GpuOptions) -> Result<Gpu, GpuError> {
        let adapter::ChosenAdapter { adapter, advice } = adapter::choose(options.adapter.as_deref()).await?;
        let facts = adapter::facts(&adapter.get_info());
        let limits = match options.limits {
            Limits::Adapter => adapter.limits(),
            Limits::Portable => wgpu::Limits::default(),
            Limits::Binding(bytes) => wgpu::Limits { max_storage_buffer_binding_size: bytes, ..wgpu::Limits::default() },
        };
        let abilities = adapter::abilities(&adapter, options.basic);
        let tuning = Arc::new(Tuning::of(&facts, abilities, &options.kernels)?);
        let (required_features, experimental_features) = adapter::features(&adapter, options);
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("jurist"),
            required_limits: limits,
            memory_hints: wgpu::MemoryHints::Manual { suballocated_device_memory_block_size: MEMORY_BLOCK..MEMORY_BLOCK },
            required_features,
            experimental_features,
            ..Default::default()
        };
        let (device, queue) = adapter
            .request_device(&descriptor)
            .await
            .map_err(|e| GpuError::NoDevice { adapter: facts.to_string(), reason: e.to_string() })?;

        let fault = Arc::new(Mutex::new(None));
        let slot = fault.clone();
        device.on_uncaptured_error(Arc::new(move |e| {
            record_fault(
                &slot,
                match e {
                    wgpu::Error::OutOfMemory { .. } => Fault::OutOfMemory,
                    other => Fault::Rejected(other.to_string()),
                },
            );
        }));
        let slot = fault.clone();
        device.set_device_lost_callback(move |reason, text| {
            if reason != wgpu::DeviceLostReason::Destroyed {
                record_fault(&slot, Fault::Lost(if text.is_empty() { format!("{reason:?}") } else { text }));
            }
        });
        let memory = options.software_memory.filter(|_| facts.class == Class::Software);
        let shared = Shared {
            limits: device.limits(),
            device: Some(Device { device, queue }),
            access: Access::of(adapter.get_info().backend),
            facts,
            advice,
            abilities,
            checked: options.checked || !options.substitutes.is_empty(),
            substitutes: options.substitutes.clone(),
            memory,
            tracker: MemoryTracker::default(),
            staged: AtomicU64::new(0),
            refusals: Mutex::new(Vec::new()),
            fault,
            kernels: Mutex::new(HashMap::new()),
        };
        Ok(Gpu::of(shared, tuning))
    }

    fn of(shared: Shared, tuning: Arc<Tuning>) -> Gpu {
        Gpu { shared: Arc::new(shared), tuning, memory_kind: MemoryKind::Other, aliased: Arc::new([]) }
    }

    fn device(&self) -> Result<&Device, GpuError> {
        self.shared.device.as_ref().ok_or(GpuError::Dry)
    }

    /// The lock to hold while calling the device and while dropping objects of it.
    fn lock(&self) -> DeviceLock {
        self.shared.access.lock()
    }

    /// Name, backend, driver and class of the adapter.
    pub fn facts(&self) -> &AdapterFacts {
        &self.shared.facts
    }

    /// What to install for more speed, where the adapter is a last resort that was not asked for.
    pub(crate) fn advice(&self) -> Option<&str> {
        self.shared.advice.as_deref()
    }

    pub fn tuning(&self) -> &Tuning {
        &self.tuning
    }

    /// Why this adapter does not use a variant by default. `None`: it does.
    pub(crate) fn unsuited(&self, variant: Variant) -> Option<String> {
        variant.unsuited(self.shared.facts.class, self.shared.abilities)
    }

    /// Whether this adapter can run a variant. Only a device that was opened with it by name can run `MatmulCooperative`.
    pub fn runs(&self, variant: Variant) -> bool {
        variant.runs(self.shared.abilities)
    }

    /// The same device, for plans with another tuning.
    pub fn tuned(&self, tuning: Tuning) -> Gpu {
        Gpu { tuning: Arc::new(tuning), ..self.clone() }
    }

    /// Whether both are one device.
    pub fn same_device(&self, other: &Gpu) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    /// The same device, for plans without optional kernels.
    pub fn plain(&self) -> Gpu {
        self.tuned(Tuning { variants: Default::default(), ..self.tuning().clone() })
    }

    /// The same device, for buffers of this kind.
    pub(crate) fn for_memory(&self, memory_kind: MemoryKind) -> Gpu {
        Gpu { memory_kind, ..self.clone() }
    }

    /// The same device, for a plan that may place its scratch tensors in these buffers. Their owner must need no values in them
    /// while the plan runs. Plans that share buffers overwrite each other: [`Plan::run_steps`] refuses to resume a plan after
    /// another one has run.
    pub fn reusing_memory_of(&self, buffers: &[Buffer]) -> Gpu {
        Gpu { aliased: buffers.into(), ..self.clone() }
    }

    /// The largest storage binding, in bytes.
    pub(crate) fn max_binding(&self) -> u64 {
        self.shared.limits.max_storage_buffer_binding_size
    }

    /// The largest buffer, in bytes.
    pub(crate) fn max_buffer(&self) -> u64 {
        self.shared.limits.max_buffer_size
    }

    /// Bytes of all live buffers.
    pub fn allocated(&self) -> u64 {
        self.memory_usage().total()
    }

    /// Number of buffers created since the device was opened, without those for reading results back.
    pub fn buffers_made(&self) -> u64 {
        self.shared.tracker.made()
    }

    /// Bytes of all live buffers, by kind.
    pub fn memory_usage(&self) -> MemoryUsage {
        self.shared.tracker.now()
    }

    /// The usage when its total was largest.
    pub fn peak_usage(&self) -> MemoryUsage {
        self.shared.tracker.peak()
    }

    /// Bytes left in the budget ([`GpuOptions::software_memory`]). `None`: there is no budget.
    pub fn memory_left(&self) -> Option<u64> {
        self.shared.memory.map(|memory| memory.saturating_sub(self.allocated()))
    }

    /// Checks that `bytes` fit the budget, before any of them are allocated.
    ///
    /// # Errors
    /// [`GpuError::OverBudget`].
    pub(crate) fn afford(&self, bytes: u64) -> Result<(), GpuError> {
        self.shared.tracker.check(bytes, self.shared.memory)
    }

    /// Bytes of scratch tensors in aliased buffers, of all plans so far.
    pub fn aliased_bytes(&self) -> u64 {
        self.shared.tracker.aliased_bytes()
    }

    /// Bytes that the device has allocated for buffers (with alignment), and bytes that it has reserved (with the unused parts
    /// of blocks). `None`: the device does not report them; only Vulkan and DirectX 12 do.
    pub fn reported(&self) -> Option<[u64; 2]> {
        let report = self.shared.device.as_ref()?.device.generate_allocator_report()?;
        Some([report.total_allocated_bytes, report.total_reserved_bytes])
    }

    /// The limits that matter to kernels, as (name, value): for `jurist doctor`.
    pub(crate) fn limits(&self) -> Vec<(&'static str, u64)> {
        let l = &self.shared.limits;
        vec![
            ("storage binding (bytes)", l.max_storage_buffer_binding_size),
            ("buffer (bytes)", l.max_buffer_size),
            ("storage buffers per stage", u64::from(l.max_storage_buffers_per_shader_stage)),
            ("workgroup memory (bytes)", u64::from(l.max_compute_workgroup_storage_size)),
            ("invocations per workgroup", u64::from(l.max_compute_invocations_per_workgroup)),
            ("workgroups per dimension", u64::from(l.max_compute_workgroups_per_dimension)),
        ]
    }

    /// A zeroed buffer of `words` 32-bit words that outlives plans.
    ///
    /// # Errors
    /// A size above the limit of bindings or buffers or above the memory budget; out of memory.
    pub fn buffer(&self, name: &str, words: usize) -> Result<Buffer, GpuError> {
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC;
        self.allocate(name, words, usage)
    }

    fn allocate(&self, name: &str, words: usize, usage: wgpu::BufferUsages) -> Result<Buffer, GpuError> {
        let shared = &*self.shared;
        let size = (words.max(4) as u64 * 4).next_multiple_of(16);
        self.check_limits(name, size, usage).or_else(|e| self.refuse(e))?;
        let entry = shared.tracker.enter(self.memory_kind, size, shared.memory)?;
        let descriptor = wgpu::BufferDescriptor { label: Some(name), size, usage, mapped_at_creation: false };
        let _lock = self.lock();
        let raw = shared.device.as_ref().map(|d| d.device.create_buffer(&descriptor));
        let allocation = Arc::new(Allocation { raw, access: shared.access, owner: AliasOwner::default(), _entry: entry });
        match self.check() {
            Err(GpuError::OutOfMemory { held, .. }) => Err(GpuError::OutOfMemory { what: name.into(), bytes: size, held }),
            Err(other) => Err(other),
            Ok(()) => Ok(Buffer { name: name.into(), words, allocation }),
        }
    }

    fn check_limits(&self, name: &str, needed: u64, usage: wgpu::BufferUsages) -> Result<(), GpuError> {
        let (what, adapter) = (name.to_string(), self.shared.facts.name.clone());
        let (binding, buffer) = (self.max_binding(), self.max_buffer());
        if usage.contains(wgpu::BufferUsages::STORAGE) && needed > binding {
            return Err(GpuError::BindingTooLarge { what, needed, allowed: binding, adapter });
        }
        if needed > buffer {
            return Err(GpuError::BufferTooLarge { what, needed, allowed: buffer, adapter });
        }
        Ok(())
    }

    /// Uploads `data` to `buffer` from word `offset` on. It goes in small chunks, so that no large staging buffer is needed, and
    /// waits where too many are pending. A dry run uploads nothing.
    ///
    /// # Errors
    /// Data that would go past the buffer's end; an error of the device so far.
    pub fn write<T: bytemuck::Pod>(&self, buffer: &Buffer, offset: usize, data: &[T]) -> Result<(), GpuError> {
        const CHUNK: usize = 8 << 20;
        let bytes: &[u8] = bytemuck::cast_slice(data);
        buffer.check_range(offset, bytes.len().div_ceil(4))?;
        let Some(device) = &self.shared.device else { return Ok(()) };
        let _lock = self.lock();
        for (i, chunk) in bytes.chunks(CHUNK).enumerate() {
            device.queue.write_buffer(buffer.raw()?, (offset * 4 + i * CHUNK) as u64, chunk);
            let staged = chunk.len() as u64 + self.shared.staged.fetch_add(chunk.len() as u64, Ordering::Relaxed);
            if staged >= MAX_STAGED {
                self.flush();
                self.wait()?;
                self.shared.staged.store(0, Ordering::Relaxed);
            }
        }
        self.check()
    }

    /// Submits pending uploads, so that the queue need not keep copies of them for long.
    pub fn flush(&self) {
        let _lock = self.lock();
        self.shared.device.iter().for_each(|d| _ = d.queue.submit([]));
    }

    /// Copies each source (first) over its target (second) of the same length, on the GPU.
    ///
    /// # Errors
    /// A target that is shorter than its source.
    pub(crate) fn copy(&self, pairs: &[(&Buffer, &Buffer)]) -> Result<(), GpuError> {
        pairs.iter().try_for_each(|(from, to)| to.check_range(0, from.words))?;
        let Some(device) = &self.shared.device else { return Ok(()) };
        let _lock = self.lock();
        let mut encoder = device.device.create_command_encoder(&Default::default());
        for (from, to) in pairs {
            encoder.copy_buffer_to_buffer(from.raw()?, 0, to.raw()?, 0, from.words as u64 * 4);
        }
        device.queue.submit([encoder.finish()]);
        self.check()
    }

    /// Fills buffers with zeros.
    pub fn clear(&self, buffers: &[Buffer]) {
        let Some(device) = &self.shared.device else { return };
        let _lock = self.lock();
        let mut encoder = device.device.create_command_encoder(&Default::default());
        buffers.iter().filter_map(|b| b.raw().ok()).for_each(|raw| encoder.clear_buffer(raw, 0, None));
        device.queue.submit([encoder.finish()]);
    }

    /// Reads `words` 32-bit words of `buffer` from word `offset` on. Waits for all work submitted earlier.
    pub async fn read<T: bytemuck::Pod>(&self, buffer: &Buffer, offset: usize, words: usize) -> Result<Vec<T>, GpuError> {
        let mut ranges = self.read_many(&[(buffer, offset, words)]).await?;
        Ok(bytemuck::cast_slice(&ranges.pop().unwrap_or_default()).to_vec())
    }

    /// Reads several ranges (buffer, first word, number of words) with one wait. Returns the raw words of each.
    ///
    /// # Errors
    /// A range past its buffer's end; an error of the device so far; a dry run, which has no values.
    pub(crate) async fn read_many(&self, ranges: &[(&Buffer, usize, usize)]) -> Result<Vec<Vec<u32>>, GpuError> {
        let shared = self.device()?;
        for (buffer, offset, words) in ranges {
            buffer.check_range(*offset, *words)?;
        }
        let total: usize = ranges.iter().map(|(_, _, words)| words).sum();
        if total == 0 {
            return Ok(ranges.iter().map(|_| Vec::new()).collect());
        }
        let (staging, receiver) = self.start_read(shared, ranges, total)?;
        // The lock is not held across `await`: the future may move to another thread.
        self.wait()?;
        let mapped = receiver.await;
        self.check()?;
        if !matches!(mapped, Ok(Ok(()))) {
            return Err(GpuError::DeviceLost { reason: "a result could not be read back".into() });
        }
        let _lock = self.lock();
        let staging = staging.raw.as_ref().ok_or(GpuError::Dry)?;
        let mapped = staging.get_mapped_range(..).map_err(|e| GpuError::Validation { reason: e.to_string() })?;
        let mut rest: &[u32] = bytemuck::cast_slice(&mapped);
        let mut values = Vec::with_capacity(ranges.len());
        for (_, _, words) in ranges {
            let (head, tail) = rest.split_at(*words);
            values.push(head.to_vec());
            rest = tail;
        }
        drop(mapped);
        staging.destroy();
        Ok(values)
    }

    /// Submits copies of `ranges` to a new staging buffer of `total` words and requests its mapping.
    fn start_read(&self, device: &Device, ranges: &[(&Buffer, usize, usize)], total: usize) -> Result<PendingRead, GpuError> {
        let descriptor = wgpu::BufferDescriptor {
            label: Some("readback"),
            size: total as u64 * 4,
            usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        };
        let entry = self.shared.tracker.enter(MemoryKind::Staging, descriptor.size, None)?;
        let _lock = self.lock();
        let staging = device.device.create_buffer(&descriptor);
        let mut encoder = device.device.create_command_encoder(&Default::default());
        let mut at = 0;
        for (buffer, offset, words) in ranges {
            encoder.copy_buffer_to_buffer(buffer.raw()?, *offset as u64 * 4, &staging, at, *words as u64 * 4);
            at += *words as u64 * 4;
        }
        device.queue.submit([encoder.finish()]);
        let (sender, receiver) = oneshot::channel();
        staging.map_async(wgpu::MapMode::Read, .., move |result| {
            let _ = sender.send(result); // the receiver may have been dropped
        });
        let access = self.shared.access;
        Ok((Allocation { raw: Some(staging), access, owner: AliasOwner::default(), _entry: entry }, receiver))
    }

    /// Waits for all submitted work. In a browser it returns at once: blocking is not allowed there, and awaiting a read is
    /// enough.
    pub fn wait(&self) -> Result<(), GpuError> {
        let Some(device) = self.shared.device.as_ref().filter(|_| !cfg!(target_arch = "wasm32")) else { return Ok(()) };
        loop {
            let _lock = self.lock();
            match device.device.poll(wgpu::PollType::wait_indefinitely()) {
                Ok(_) => return Ok(()),
                // OpenGL waits for at most two seconds.
                Err(wgpu::PollError::Timeout) => self.check()?,
                Err(e) => return self.check().and(Err(GpuError::DeviceLost { reason: e.to_string() })),
            }
        }
    }

    /// The first error of the device, if any. It stays, because no result after it can be trusted.
    pub fn check(&self) -> Result<(), GpuError> {
        match &*self.shared.fault.lock().unwrap_or_else(PoisonError::into_inner) {
            None => Ok(()),
            Some(Fault::OutOfMemory) => {
                Err(GpuError::OutOfMemory { what: "a buffer".into(), bytes: 0, held: self.memory_usage() })
            }
            Some(Fault::Lost(reason)) => Err(GpuError::DeviceLost { reason: reason.clone() }),
            Some(Fault::Rejected(reason)) => Err(GpuError::Validation { reason: reason.clone() }),
        }
    }

    fn kernel(&self, spec: &KernelSpec) -> Result<Arc<kernel::Kernel>, GpuError> {
        // Every thread takes the device lock before the lock on the kernels.
        let _lock = self.lock();
        let mut kernels = self.shared.kernels.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kernel) = kernels.get(spec) {
            return Ok(kernel.clone());
        }
        let kernel =
            Arc::new(kernel::Kernel::compile(&self.device()?.device, spec, &self.shared.substitutes, self.shared.checked)?);
        self.check()?;
        kernels.insert(spec.clone(), kernel.clone());
        Ok(kernel)
    }
}

fn record_fault(slot: &Mutex<Option<Fault>>, fault: Fault) {
    let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
    // A lost device explains all earlier errors; otherwise the first error is the cause of the later ones.
    if slot.is_none() || matches!(fault, Fault::Lost(_)) {
        *slot = Some(fault);
    }
}
