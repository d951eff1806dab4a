//! Dry runs: the code of a real run on a GPU that counts buffers and allocates none.
//!
//! Buffers are entered in the memory tracker, and plans assign slots to their scratch tensors. No kernel is compiled, nothing
//! is written, copied or run, and reading a value returns [`GpuError::Dry`]. The counts cannot differ from those of a real run,
//! because the same constructors make them.

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};

use super::{Abilities, Access, AdapterFacts, Class, Gpu, GpuError, GpuOptions, Limits, MemoryTracker, Shared, Tuning, adapter};

/// The largest buffer and binding that drivers of discrete GPUs allow, in bytes: 4 GiB less one word.
const DISCRETE_LIMIT: u64 = (4 << 30) - 4;

#[doc(hidden)]
impl Gpu {
    /// A dry GPU with the limits and tuning of the adapter that `options` names, or of a discrete GPU where the machine has
    /// none. Optional kernels are not tested.
    ///
    /// # Errors
    /// As [`Gpu::open`], except that a machine without an adapter is not an error.
    pub async fn dry(options: &GpuOptions) -> Result<Gpu, GpuError> {
        let adapter = match adapter::choose(options.adapter.as_deref()).await {
            Ok(chosen) => chosen.adapter,
            Err(GpuError::NoAdapter { .. }) => return Gpu::dry_of(Class::Discrete, options),
            Err(other) => return Err(other),
        };
        let limits = match options.limits {
            Limits::Adapter => adapter.limits(),
            Limits::Portable => wgpu::Limits::default(),
            Limits::Binding(bytes) => wgpu::Limits { max_storage_buffer_binding_size: bytes, ..wgpu::Limits::default() },
        };
        let (facts, abilities) = (adapter::facts(&adapter.get_info()), adapter::abilities(&adapter, options.basic));
        let tuning = Arc::new(Tuning::of(&facts, abilities, &options.kernels)?);
        Ok(Self::without_device(facts, limits, abilities, tuning))
    }

    /// A dry GPU with the tuning of this class and the limits of discrete GPUs, whatever this machine has.
    ///
    /// # Errors
    /// `options` asks for kernels that such a GPU cannot run.
    pub fn dry_of(class: Class, options: &GpuOptions) -> Result<Gpu, GpuError> {
        let limits = wgpu::Limits {
            max_storage_buffer_binding_size: DISCRETE_LIMIT,
            max_buffer_size: DISCRETE_LIMIT,
            ..Default::default()
        };
        let (backend, driver) = ("assumed".into(), String::new());
        let facts = AdapterFacts { name: format!("any {class} GPU"), backend, driver, class };
        let abilities = Abilities::default();
        let tuning = Arc::new(Tuning::of(&facts, abilities, &options.kernels)?);
        Ok(Self::without_device(facts, limits, abilities, tuning))
    }

    fn without_device(facts: AdapterFacts, limits: wgpu::Limits, abilities: Abilities, tuning: Arc<Tuning>) -> Gpu {
        let shared = Shared {
            device: None,
            limits,
            access: Access::AnyThread,
            facts,
            advice: None,
            abilities,
            checked: false,
            substitutes: Vec::new(),
            memory: None,
            tracker: MemoryTracker::default(),
            staged: AtomicU64::new(0),
            refusals: Mutex::new(Vec::new()),
            fault: Arc::new(Mutex::new(None)),
            kernels: Mutex::new(HashMap::new()),
        };
        Gpu::of(shared, tuning)
    }

    /// A dry GPU with the limits and tuning of this one and an empty tracker. This one may be dry too.
    pub fn dry_copy(&self) -> Gpu {
        let shared = &*self.shared;
        Self::without_device(shared.facts.clone(), shared.limits.clone(), shared.abilities, self.tuning.clone())
    }

    /// Whether this GPU only counts buffers.
    pub fn is_dry(&self) -> bool {
        self.shared.device.is_none()
    }

    /// The errors of a dry run about buffers above the adapter's limits. These buffers are counted nevertheless.
    pub fn refusals(&self) -> Vec<String> {
        self.shared.refusals.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A dry run records the error and goes on; a real run returns it.
    pub(super) fn refuse(&self, error: GpuError) -> Result<(), GpuError> {
        if !self.is_dry() {
            return Err(error);
        }
        self.shared.refusals.lock().unwrap_or_else(PoisonError::into_inner).push(error.to_string());
        Ok(())
    }
}
