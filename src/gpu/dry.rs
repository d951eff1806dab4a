//! Dry runs: the code of a real run over a GPU that counts buffers and makes none.
//!
//! Buffers are entered in the tracker, plans give their scratch tensors slots, and that is all: no kernel is compiled, nothing
//! is written, copied or run, and whoever wants to read a value gets [`GpuError::Dry`]. So what a run will hold is counted by
//! what will hold it, and cannot come to differ from it.

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};

use super::{Abilities, AdapterFacts, Class, Gpu, GpuError, GpuOptions, Limits, MemoryTracker, Shared, Tuning, Turns, adapter};

/// What drivers of discrete GPUs allow a buffer and a binding: 4 GiB, but for a word.
const DISCRETE: u64 = (4 << 30) - 4;

#[doc(hidden)]
impl Gpu {
    /// A dry GPU with limits and tuning of the adapter that `options` means, or of a discrete GPU where there is none.
    /// Optional kernels are taken on trust.
    ///
    /// # Errors
    /// As [`Gpu::open`], but for having no adapter at all.
    pub async fn dry(options: &GpuOptions) -> Result<Gpu, GpuError> {
        let adapter = match adapter::choose(options.adapter.as_deref()).await {
            Ok(choice) => choice.adapter,
            Err(GpuError::NoAdapter { .. }) => return Gpu::dry_discrete(options),
            Err(other) => return Err(other),
        };
        let limits = match options.limits {
            Limits::Adapter => adapter.limits(),
            Limits::Portable => wgpu::Limits::default(),
            Limits::Binding(bytes) => wgpu::Limits { max_storage_buffer_binding_size: bytes, ..wgpu::Limits::default() },
        };
        let (facts, abilities) = (adapter::facts(&adapter.get_info()), adapter::abilities(&adapter, options.basic));
        let tuning = Arc::new(Tuning::of(&facts, abilities, &options.kernels)?);
        Ok(Self::counting(facts, limits, abilities, tuning))
    }

    /// A dry GPU with the limits that discrete GPUs have, whatever is in this machine.
    ///
    /// # Errors
    /// `options` wants kernels that such a GPU does not run.
    pub fn dry_discrete(options: &GpuOptions) -> Result<Gpu, GpuError> {
        let limits = wgpu::Limits { max_storage_buffer_binding_size: DISCRETE, max_buffer_size: DISCRETE, ..Default::default() };
        let (backend, driver) = ("assumed".into(), String::new());
        let facts = AdapterFacts { name: "any discrete GPU".into(), backend, driver, class: Class::Discrete };
        let abilities = Abilities::default();
        let tuning = Arc::new(Tuning::of(&facts, abilities, &options.kernels)?);
        Ok(Self::counting(facts, limits, abilities, tuning))
    }

    fn counting(facts: AdapterFacts, limits: wgpu::Limits, abilities: Abilities, tuning: Arc<Tuning>) -> Gpu {
        let shared = Shared {
            device: None,
            limits,
            turns: Turns::Free,
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

    /// A dry GPU like this one, which may be dry or not, with an empty tracker.
    pub fn dry_copy(&self) -> Gpu {
        let shared = &*self.shared;
        Self::counting(shared.facts.clone(), shared.limits.clone(), shared.abilities, self.tuning.clone())
    }

    /// Whether this GPU counts only.
    pub fn is_dry(&self) -> bool {
        self.shared.device.is_none()
    }

    /// Buffers that went over the adapter's limits in a dry run, which counts them all the same.
    pub fn refusals(&self) -> Vec<String> {
        self.shared.refusals.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A dry run notes what the adapter would not give, and goes on.
    pub(super) fn refuse(&self, error: GpuError) -> Result<(), GpuError> {
        if !self.is_dry() {
            return Err(error);
        }
        self.shared.refusals.lock().unwrap_or_else(PoisonError::into_inner).push(error.to_string());
        Ok(())
    }
}
