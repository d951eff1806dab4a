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
mod dry;
mod error;
mod kernel;
mod memory_tracker;
mod plan;
mod profile;
mod tuning;
mod turn;

pub use adapter::{AdapterFacts, Class};
pub use error::GpuError;
pub use kernel::{Bindings, KernelSpec, SHADERS, assemble};
pub use memory_tracker::{MemoryKind, MemoryUsage};
pub use plan::{Dispatch, Extent, Grid, Param, Plan, PlanBuilder, RunParam, RunParams, Tensor};
pub use profile::{KernelTime, Span};
pub use tuning::{Kernels, MatrixUnit, Tuning, Variant};

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures_channel::oneshot;

use adapter::Abilities;
use memory_tracker::{AliasOwner, Entry, MemoryTracker};
use turn::{Turn, Turns};

/// A GPU buffer that outlives plans: a weight, a gradient, a moment. Its length is counted in 32-bit words.
#[derive(Clone, Debug)]
pub struct Buffer {
    pub name: Arc<str>,
    pub words: usize,
    share: Arc<Share>,
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

    /// The device's own buffer.
    fn raw(&self) -> Result<&wgpu::Buffer, GpuError> {
        self.share.raw.as_ref().ok_or(GpuError::Dry)
    }

    /// The same memory under another name, for `words` of it.
    fn part(&self, name: &str, words: usize) -> Buffer {
        Buffer { name: name.into(), words, share: self.share.clone() }
    }

    /// Whether both are the same memory.
    fn is(&self, other: &Buffer) -> bool {
        Arc::ptr_eq(&self.share, &other.share)
    }
}

/// The memory itself, given back with its last clone.
#[derive(Debug)]
struct Share {
    /// `None` in a dry run.
    raw: Option<wgpu::Buffer>,
    turns: Turns,
    owner: AliasOwner,
    _entry: Entry,
}

impl Drop for Share {
    fn drop(&mut self) {
        let _turn = self.turns.wait();
        let raw = self.raw.take();
        if cfg!(target_arch = "wasm32") {
            // In a browser a dropped buffer waits for the garbage collector, which does not see the GPU's memory.
            raw.iter().for_each(wgpu::Buffer::destroy);
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
    #[doc(hidden)]
    pub limits: Limits,
    #[doc(hidden)]
    /// Keep the compiler's bounds checks in the shaders. Slower; kernels guard their own edges, and tests turn this on.
    pub checked: bool,
    #[doc(hidden)]
    /// Leave features aside that not every WebGPU device has: the kernels that a browser runs.
    pub basic: bool,
    #[doc(hidden)]
    /// Which optional kernels to use.
    pub kernels: Kernels,
    /// Texts that take the place of shader files, by the file's name: how tests break a kernel. Compiled with checks.
    #[doc(hidden)]
    pub substitutes: Vec<(&'static str, String)>,
    /// Bytes that buffers may take in all on a software adapter, whose memory is the machine's: the system would end the
    /// process rather than refuse. `None`: no limit but the driver's.
    pub software_memory: Option<u64>,
}

/// What does the work; there is none in a dry run.
struct Device {
    device: wgpu::Device,
    queue: wgpu::Queue,
}

struct Shared {
    device: Option<Device>,
    limits: wgpu::Limits,
    turns: Turns,
    facts: AdapterFacts,
    /// What would make this machine faster, where the adapter is a last resort.
    advice: Option<String>,
    abilities: Abilities,
    checked: bool,
    substitutes: Vec<(&'static str, String)>,
    memory: Option<u64>,
    tracker: MemoryTracker,
    /// Bytes written since the queue was last seen to be done.
    staged: AtomicU64,
    /// What a dry run was asked for and its adapter would not give.
    refusals: Mutex<Vec<String>>,
    fault: Arc<Mutex<Option<Fault>>>,
    kernels: Mutex<HashMap<KernelSpec, Arc<kernel::Kernel>>>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        let _turn = self.turns.wait();
        self.kernels.get_mut().unwrap_or_else(PoisonError::into_inner).clear();
        self.device = None;
    }
}

/// A buffer that is being filled and mapped, and what says that it has been.
type Reading = (Share, oneshot::Receiver<Result<(), wgpu::BufferAsyncError>>);

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

/// What is written is staged in buffers that the device frees when it has read them; this much is let wait.
const STAGED: u64 = 16 << 20;

/// Buffers above this size get memory of their own, smaller ones share blocks of it: the blocks' rests would otherwise be a
/// good part of what is held (wgpu's own choice is 128 to 256 MiB). Drivers allow a few thousand pieces of memory.
const BLOCK: u64 = 4 << 20;

#[doc(hidden)]
impl Gpu {
    /// The adapters of this machine, best first.
    pub async fn adapters() -> Vec<AdapterFacts> {
        adapter::list().await.iter().map(|a| adapter::facts(&a.get_info())).collect()
    }

    /// Opens the adapter that `options` names. Its optional kernels are taken on trust: [`Gpu::open`] tries them first.
    ///
    /// # Errors
    /// No adapter at all (with what to install here), no such adapter, or a device that asks for more than it has.
    pub async fn open_untested(options: &GpuOptions) -> Result<Gpu, GpuError> {
        let adapter::Choice { adapter, advice } = adapter::choose(options.adapter.as_deref()).await?;
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
            memory_hints: wgpu::MemoryHints::Manual { suballocated_device_memory_block_size: BLOCK..BLOCK },
            required_features,
            experimental_features,
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
        let memory = options.software_memory.filter(|_| facts.class == Class::Software);
        let shared = Shared {
            limits: device.limits(),
            device: Some(Device { device, queue }),
            turns: Turns::of(adapter.get_info().backend),
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

    /// To be held by whoever calls the device, and while objects of it are dropped.
    fn turn(&self) -> Turn {
        self.shared.turns.wait()
    }

    /// Name, backend, driver and class of the adapter.
    pub fn facts(&self) -> &AdapterFacts {
        &self.shared.facts
    }

    /// What would make this machine faster, for people: there is something to install and nobody asked for this adapter.
    pub(crate) fn advice(&self) -> Option<&str> {
        self.shared.advice.as_deref()
    }

    pub fn tuning(&self) -> &Tuning {
        &self.tuning
    }

    /// Why this adapter does without a variant unless it is asked for by name; `None`: it suits.
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

    /// The same device, for buffers of this memory_kind.
    pub(crate) fn for_memory(&self, memory_kind: MemoryKind) -> Gpu {
        Gpu { memory_kind, ..self.clone() }
    }

    /// The same device, for a plan that may put scratch tensors into these buffers, whose owner needs no values in them while
    /// the plan runs. Plans that use them overwrite each other: a plan that goes on ([`Plan::run_steps`]) after another of
    /// them ran is refused.
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

    /// Bytes of all buffers that are alive.
    pub fn allocated(&self) -> u64 {
        self.held().total()
    }

    /// Buffers that were made since the device was opened, those for reading results back left out.
    pub fn buffers_made(&self) -> u64 {
        self.shared.tracker.made()
    }

    /// Bytes of all buffers that are alive, by what they are for.
    pub fn held(&self) -> MemoryUsage {
        self.shared.tracker.now()
    }

    /// The same when it was most.
    pub fn peak(&self) -> MemoryUsage {
        self.shared.tracker.peak()
    }

    /// Bytes that buffers may still take in a budget ([`GpuOptions::software_memory`]); `None`: there is none.
    pub fn memory_left(&self) -> Option<u64> {
        self.shared.memory.map(|memory| memory.saturating_sub(self.allocated()))
    }

    /// Refuses what the budget has no room for, before any of it is allocated.
    ///
    /// # Errors
    /// [`GpuError::OverBudget`].
    pub(crate) fn afford(&self, bytes: u64) -> Result<(), GpuError> {
        self.shared.tracker.check(bytes, self.shared.memory)
    }

    /// Bytes of scratch tensors that live in aliased buffers, of all plans so far.
    pub fn aliased_bytes(&self) -> u64 {
        self.shared.tracker.aliased_bytes()
    }

    /// Bytes that the device has given out, and those that it holds for it: what buffers take with alignment, and the rests of
    /// blocks. `None`: the device does not say (only Vulkan and DirectX 12 do).
    pub fn reported(&self) -> Option<[u64; 2]> {
        let report = self.shared.device.as_ref()?.device.generate_allocator_report()?;
        Some([report.total_allocated_bytes, report.total_reserved_bytes])
    }

    /// The limits that matter here, as (name, value): for `jurist doctor`.
    pub(crate) fn limits(&self) -> Vec<(&'static str, u64)> {
        let l = &self.shared.limits;
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
        self.check_limits(name, size, usage).or_else(|e| self.refuse(e))?;
        let entry = shared.tracker.enter(self.memory_kind, size, shared.memory)?;
        let descriptor = wgpu::BufferDescriptor { label: Some(name), size, usage, mapped_at_creation: false };
        let _turn = self.turn();
        let raw = shared.device.as_ref().map(|d| d.device.create_buffer(&descriptor));
        let share = Arc::new(Share { raw, turns: shared.turns, owner: AliasOwner::default(), _entry: entry });
        match self.check() {
            Err(GpuError::OutOfMemory { held, .. }) => Err(GpuError::OutOfMemory { what: name.into(), bytes: size, held }),
            Err(other) => Err(other),
            Ok(()) => Ok(Buffer { name: name.into(), words, share }),
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

    /// Uploads `data` to `buffer` from word `offset` on, in pieces that never ask for a large staging buffer; waits where the
    /// device has too many of them. A dry run uploads nothing.
    ///
    /// # Errors
    /// Data that would go past the buffer's end; what the device reported up to now.
    pub fn write<T: bytemuck::Pod>(&self, buffer: &Buffer, offset: usize, data: &[T]) -> Result<(), GpuError> {
        const PIECE: usize = 8 << 20;
        let bytes: &[u8] = bytemuck::cast_slice(data);
        buffer.check_range(offset, bytes.len().div_ceil(4))?;
        let Some(device) = &self.shared.device else { return Ok(()) };
        let _turn = self.turn();
        for (i, piece) in bytes.chunks(PIECE).enumerate() {
            device.queue.write_buffer(buffer.raw()?, (offset * 4 + i * PIECE) as u64, piece);
            let staged = piece.len() as u64 + self.shared.staged.fetch_add(piece.len() as u64, Ordering::Relaxed);
            if staged >= STAGED {
                self.flush();
                self.wait()?;
                self.shared.staged.store(0, Ordering::Relaxed);
            }
        }
        self.check()
    }

    /// Has the queue take what was written up to now, so that it need not keep copies for long.
    pub fn flush(&self) {
        let _turn = self.turn();
        self.shared.device.iter().for_each(|d| _ = d.queue.submit([]));
    }

    /// Copies buffers over others of the same length, on the GPU.
    ///
    /// # Errors
    /// A target that is shorter than its source.
    pub(crate) fn copy(&self, pairs: &[(&Buffer, &Buffer)]) -> Result<(), GpuError> {
        pairs.iter().try_for_each(|(from, to)| to.check_range(0, from.words))?;
        let Some(device) = &self.shared.device else { return Ok(()) };
        let _turn = self.turn();
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
        let _turn = self.turn();
        let mut encoder = device.device.create_command_encoder(&Default::default());
        buffers.iter().filter_map(|b| b.raw().ok()).for_each(|raw| encoder.clear_buffer(raw, 0, None));
        device.queue.submit([encoder.finish()]);
    }

    /// Reads `words` 32-bit words of `buffer` from word `offset` on. Waits for all work submitted before.
    pub async fn read<T: bytemuck::Pod>(&self, buffer: &Buffer, offset: usize, words: usize) -> Result<Vec<T>, GpuError> {
        let mut parts = self.read_many(&[(buffer, offset, words)]).await?;
        Ok(bytemuck::cast_slice(&parts.pop().unwrap_or_default()).to_vec())
    }

    /// Several reads with one wait; the answer holds the raw words of each.
    ///
    /// # Errors
    /// A part past its buffer's end; what the device reported up to now; a dry run, which has no values.
    pub(crate) async fn read_many(&self, parts: &[(&Buffer, usize, usize)]) -> Result<Vec<Vec<u32>>, GpuError> {
        let shared = self.device()?;
        for (buffer, offset, words) in parts {
            buffer.check_range(*offset, *words)?;
        }
        let total: usize = parts.iter().map(|(_, _, words)| words).sum();
        if total == 0 {
            return Ok(parts.iter().map(|_| Vec::new()).collect());
        }
        let (staging, receiver) = self.start_read(shared, parts, total)?;
        // Not held while this waits: the future may move to another thread.
        self.wait()?;
        let mapped = receiver.await;
        self.check()?;
        if !matches!(mapped, Ok(Ok(()))) {
            return Err(GpuError::DeviceLost { reason: "a result could not be read back".into() });
        }
        let _turn = self.turn();
        let staging = staging.raw.as_ref().ok_or(GpuError::Dry)?;
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

    /// Submits copies of `parts` to a new buffer of `total` words, and asks for that to be mapped.
    fn start_read(&self, device: &Device, parts: &[(&Buffer, usize, usize)], total: usize) -> Result<Reading, GpuError> {
        let descriptor = wgpu::BufferDescriptor {
            label: Some("readback"),
            size: total as u64 * 4,
            usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        };
        let entry = self.shared.tracker.enter(MemoryKind::Staging, descriptor.size, None)?;
        let _turn = self.turn();
        let staging = device.device.create_buffer(&descriptor);
        let mut encoder = device.device.create_command_encoder(&Default::default());
        let mut at = 0;
        for (buffer, offset, words) in parts {
            encoder.copy_buffer_to_buffer(buffer.raw()?, *offset as u64 * 4, &staging, at, *words as u64 * 4);
            at += *words as u64 * 4;
        }
        device.queue.submit([encoder.finish()]);
        let (sender, receiver) = oneshot::channel();
        staging.map_async(wgpu::MapMode::Read, .., move |result| {
            let _ = sender.send(result); // nobody waits any more
        });
        let turns = self.shared.turns;
        Ok((Share { raw: Some(staging), turns, owner: AliasOwner::default(), _entry: entry }, receiver))
    }

    /// Waits for all submitted work. In a browser nothing may block, and nothing needs to: awaiting a read is enough.
    pub fn wait(&self) -> Result<(), GpuError> {
        let Some(device) = self.shared.device.as_ref().filter(|_| !cfg!(target_arch = "wasm32")) else { return Ok(()) };
        loop {
            let _turn = self.turn();
            match device.device.poll(wgpu::PollType::wait_indefinitely()) {
                Ok(_) => return Ok(()),
                // OpenGL waits two seconds at most.
                Err(wgpu::PollError::Timeout) => self.check()?,
                Err(e) => return self.check().and(Err(GpuError::DeviceLost { reason: e.to_string() })),
            }
        }
    }

    /// The first error that the device met, if any. It stays: after it no result can be trusted.
    pub fn check(&self) -> Result<(), GpuError> {
        match &*self.shared.fault.lock().unwrap_or_else(PoisonError::into_inner) {
            None => Ok(()),
            Some(Fault::OutOfMemory) => Err(GpuError::OutOfMemory { what: "a buffer".into(), bytes: 0, held: self.held() }),
            Some(Fault::Lost(reason)) => Err(GpuError::DeviceLost { reason: reason.clone() }),
            Some(Fault::Rejected(reason)) => Err(GpuError::Validation { reason: reason.clone() }),
        }
    }

    fn kernel(&self, spec: &KernelSpec) -> Result<Arc<kernel::Kernel>, GpuError> {
        // Taken before the lock on the kernels, by everybody.
        let _turn = self.turn();
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

fn record(slot: &Mutex<Option<Fault>>, fault: Fault) {
    let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
    // A lost device explains all that came before it; otherwise the first error is the cause of the others.
    if slot.is_none() || matches!(fault, Fault::Lost(_)) {
        *slot = Some(fault);
    }
}
