//! The memory tracker: bytes of all live buffers, by kind. Dry runs and real runs use the same tracker.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::GpuError;

/// The kind of a buffer: what it is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryKind {
    /// Of the model, of an adapter, and of the reference model (the model before training).
    Weights,
    Gradient,
    /// Moments and the other buffers of the update.
    Optimiser,
    /// Buffers of passes over packed batches, mostly values kept for the backward pass.
    Activations,
    /// Keys and values of rollouts, and the other buffers of decoding.
    Cache,
    /// Logits of one chunk of loss positions.
    LossHead,
    /// Buffers for reading results back. Upload buffers are not tracked: they are bounded, and freed before a step begins.
    Staging,
    Other,
}

impl MemoryKind {
    pub const ALL: [MemoryKind; 8] = [
        MemoryKind::Weights,
        MemoryKind::Gradient,
        MemoryKind::Optimiser,
        MemoryKind::Activations,
        MemoryKind::Cache,
        MemoryKind::LossHead,
        MemoryKind::Staging,
        MemoryKind::Other,
    ];

    /// The name in tables.
    pub fn name(self) -> &'static str {
        match self {
            MemoryKind::Weights => "weights",
            MemoryKind::Gradient => "gradient",
            MemoryKind::Optimiser => "optimiser",
            MemoryKind::Activations => "activations",
            MemoryKind::Cache => "cache",
            MemoryKind::LossHead => "loss head",
            MemoryKind::Staging => "staging",
            MemoryKind::Other => "other",
        }
    }
}

/// Bytes by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryUsage([u64; MemoryKind::ALL.len()]);

impl MemoryUsage {
    pub fn of(&self, kind: MemoryKind) -> u64 {
        self.0[kind as usize]
    }

    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}

/// `weights 1.25 GiB, gradient 1.25 GiB`: the kinds with at least one byte, for messages.
impl fmt::Display for MemoryUsage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gib = |bytes: u64| bytes as f64 / (1u64 << 30) as f64;
        let used = MemoryKind::ALL.into_iter().filter(|kind| self.of(*kind) > 0);
        let parts: Vec<String> = used.map(|kind| format!("{} {:.2} GiB", kind.name(), gib(self.of(kind)))).collect();
        f.write_str(if parts.is_empty() { "nothing" } else { "" })?;
        f.write_str(&parts.join(", "))
    }
}

/// The numbers of a tracker.
#[derive(Debug, Default)]
struct Totals {
    now: MemoryUsage,
    /// The usage when its total was largest.
    peak: MemoryUsage,
    /// Bytes of scratch tensors that plans placed in aliased buffers.
    aliased_bytes: u64,
    /// Number of buffers created so far, without staging buffers.
    made: u64,
}

impl Totals {
    fn check(&self, bytes: u64, limit: Option<u64>) -> Result<(), GpuError> {
        let needed = self.now.total().saturating_add(bytes);
        match limit {
            Some(limit) if needed > limit => {
                Err(GpuError::OverBudget { needed: needed.div_ceil(1 << 20), available: limit >> 20, held: self.now })
            }
            _ => Ok(()),
        }
    }
}

/// Shared by a device and all its buffers.
#[derive(Clone, Debug, Default)]
pub(super) struct MemoryTracker(Arc<Mutex<Totals>>);

impl MemoryTracker {
    fn totals(&self) -> MutexGuard<'_, Totals> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn now(&self) -> MemoryUsage {
        self.totals().now
    }

    pub(super) fn peak(&self) -> MemoryUsage {
        self.totals().peak
    }

    pub(super) fn made(&self) -> u64 {
        self.totals().made
    }

    pub(super) fn aliased_bytes(&self) -> u64 {
        self.totals().aliased_bytes
    }

    /// Counts `bytes` of scratch tensors that are placed in aliased buffers.
    pub(super) fn add_aliased(&self, bytes: u64) {
        self.totals().aliased_bytes += bytes;
    }

    /// Refuses `bytes` if they would raise the usage above `limit`.
    pub(super) fn check(&self, bytes: u64, limit: Option<u64>) -> Result<(), GpuError> {
        self.totals().check(bytes, limit)
    }

    /// Enters `bytes`, unless they would raise the usage above `limit`.
    pub(super) fn enter(&self, kind: MemoryKind, bytes: u64, limit: Option<u64>) -> Result<Entry, GpuError> {
        let mut totals = self.totals();
        totals.check(bytes, limit)?;
        totals.now.0[kind as usize] += bytes;
        totals.made += u64::from(kind != MemoryKind::Staging);
        let needed = totals.now.total();
        if needed > totals.peak.total() {
            totals.peak = totals.now;
        }
        Ok(Entry { tracker: self.clone(), kind, bytes })
    }
}

/// An entry of the tracker. Dropping it subtracts its bytes.
#[derive(Debug)]
pub(super) struct Entry {
    tracker: MemoryTracker,
    kind: MemoryKind,
    bytes: u64,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.tracker.totals().now.0[self.kind as usize] -= self.bytes;
    }
}

/// Records which plan last wrote an aliased buffer. A plan that resumes after another plan wrote is rejected with
/// [`GpuError::Overwritten`].
#[derive(Debug, Default)]
pub(super) struct AliasOwner(AtomicU64);

impl AliasOwner {
    const NEVER_ALIASED: u64 = 0;
    const NONE: u64 = 1;

    /// The id of a new plan.
    pub(super) fn new_plan_id() -> u64 {
        static NEXT: AtomicU64 = AtomicU64::new(AliasOwner::NONE + 1);
        NEXT.fetch_add(1, Ordering::Relaxed)
    }

    /// Marks the buffer as aliased. No plan owns its values yet.
    pub(super) fn mark_aliased(&self) {
        self.0.store(Self::NONE, Ordering::Relaxed);
    }

    /// Records that a plan writes the buffer, if the buffer is aliased.
    pub(super) fn set(&self, plan_id: u64) {
        if self.0.load(Ordering::Relaxed) != Self::NEVER_ALIASED {
            self.0.store(plan_id, Ordering::Relaxed);
        }
    }

    pub(super) fn is(&self, plan_id: u64) -> bool {
        self.0.load(Ordering::Relaxed) == plan_id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropped_entries_lower_the_usage_but_not_the_peak() {
        let tracker = MemoryTracker::default();
        let weights = tracker.enter(MemoryKind::Weights, 100, None).unwrap();
        {
            let _cache = tracker.enter(MemoryKind::Cache, 50, Some(150)).unwrap();
            let refused = tracker.enter(MemoryKind::Other, 1, Some(150)).unwrap_err();
            assert!(matches!(refused, GpuError::OverBudget { held, .. } if held.of(MemoryKind::Cache) == 50));
        }
        let _head = tracker.enter(MemoryKind::LossHead, 20, None).unwrap();
        assert_eq!((tracker.now().total(), tracker.peak().total()), (120, 150));
        assert_eq!((tracker.peak().of(MemoryKind::Cache), tracker.peak().of(MemoryKind::LossHead)), (50, 0));
        drop(weights);
        assert_eq!(tracker.now().to_string(), "loss head 0.00 GiB");
    }

    #[test]
    fn the_owner_is_the_plan_that_wrote_last() {
        let (owner, [rollout, pass]) = (AliasOwner::default(), [AliasOwner::new_plan_id(), AliasOwner::new_plan_id()]);
        owner.set(rollout);
        assert!(!owner.is(rollout), "a buffer that is not aliased has no owner");
        owner.mark_aliased();
        assert!(!owner.is(pass));
        owner.set(pass);
        assert!(owner.is(pass));
        owner.set(rollout);
        assert!(!owner.is(pass));
    }
}
