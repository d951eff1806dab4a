//! The memory tracker: bytes of all buffers that are alive, by what they are for. A dry run keeps the same one as a real run.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::GpuError;

/// What a buffer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryKind {
    /// Of the model, of an adapter, of the model before training.
    Weights,
    Gradient,
    /// Moments, and what the update needs besides.
    Optimiser,
    /// What passes over packed batches write down, for their way back above all.
    Activations,
    /// Keys and values of rollouts, and what decoding needs besides.
    Cache,
    /// Logits of a chunk of rows.
    LossHead,
    /// What is on its way to the host. What is on its way from there is bounded and gone before a step begins.
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

    /// As it stands in a table.
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

/// Bytes by memory_kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryUsage([u64; MemoryKind::ALL.len()]);

impl MemoryUsage {
    pub fn of(&self, memory_kind: MemoryKind) -> u64 {
        self.0[memory_kind as usize]
    }

    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}

/// `weights 1.25 GiB, gradient 1.25 GiB`: the roles that hold something, for messages.
impl fmt::Display for MemoryUsage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gib = |bytes: u64| bytes as f64 / (1u64 << 30) as f64;
        let there = MemoryKind::ALL.into_iter().filter(|memory_kind| self.of(*memory_kind) > 0);
        let parts: Vec<String> =
            there.map(|memory_kind| format!("{} {:.2} GiB", memory_kind.name(), gib(self.of(memory_kind)))).collect();
        f.write_str(if parts.is_empty() { "nothing" } else { "" })?;
        f.write_str(&parts.join(", "))
    }
}

/// What is held now, and what was held when it was most.
#[derive(Debug, Default)]
struct Sums {
    now: MemoryUsage,
    peak: MemoryUsage,
    /// Bytes of scratch that plans put into aliased buffers.
    aliased_bytes: u64,
    /// Buffers that were ever made, those for one read left out.
    made: u64,
}

impl Sums {
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
pub(super) struct MemoryTracker(Arc<Mutex<Sums>>);

impl MemoryTracker {
    fn sums(&self) -> MutexGuard<'_, Sums> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn now(&self) -> MemoryUsage {
        self.sums().now
    }

    pub(super) fn peak(&self) -> MemoryUsage {
        self.sums().peak
    }

    pub(super) fn made(&self) -> u64 {
        self.sums().made
    }

    pub(super) fn aliased_bytes(&self) -> u64 {
        self.sums().aliased_bytes
    }

    /// Notes `bytes` that took no memory of their own.
    pub(super) fn add_aliased(&self, bytes: u64) {
        self.sums().aliased_bytes += bytes;
    }

    /// Refuses `bytes` with which more than `limit` would be held.
    pub(super) fn check(&self, bytes: u64, limit: Option<u64>) -> Result<(), GpuError> {
        self.sums().check(bytes, limit)
    }

    /// Enters `bytes`, unless more than `limit` would then be held.
    pub(super) fn enter(&self, memory_kind: MemoryKind, bytes: u64, limit: Option<u64>) -> Result<Entry, GpuError> {
        let mut sums = self.sums();
        sums.check(bytes, limit)?;
        sums.now.0[memory_kind as usize] += bytes;
        sums.made += u64::from(memory_kind != MemoryKind::Staging);
        let needed = sums.now.total();
        if needed > sums.peak.total() {
            sums.peak = sums.now;
        }
        Ok(Entry { tracker: self.clone(), memory_kind, bytes })
    }
}

/// A line of the tracker, struck out when it is dropped.
#[derive(Debug)]
pub(super) struct Entry {
    tracker: MemoryTracker,
    memory_kind: MemoryKind,
    bytes: u64,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.tracker.sums().now.0[self.memory_kind as usize] -= self.bytes;
    }
}

/// Whose values a aliased buffer holds. Plans that share memory take it in turns: one that goes on where it stopped must find
/// that nobody was there meanwhile.
#[derive(Debug, Default)]
pub(super) struct AliasOwner(AtomicU64);

impl AliasOwner {
    const NEVER_ALIASED: u64 = 0;
    const NONE: u64 = 1;

    /// The number of a new plan.
    pub(super) fn number() -> u64 {
        static NEXT: AtomicU64 = AtomicU64::new(AliasOwner::NONE + 1);
        NEXT.fetch_add(1, Ordering::Relaxed)
    }

    /// From now on somebody else may be in.
    pub(super) fn lend(&self) {
        self.0.store(Self::NONE, Ordering::Relaxed);
    }

    /// Plan `number` writes.
    pub(super) fn take(&self, number: u64) {
        if self.0.load(Ordering::Relaxed) != Self::NEVER_ALIASED {
            self.0.store(number, Ordering::Relaxed);
        }
    }

    pub(super) fn is_of(&self, number: u64) -> bool {
        self.0.load(Ordering::Relaxed) == number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_and_go_and_the_peak_stays() {
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
    fn owners_take_turns() {
        let (buffer, [rollout, pass]) = (AliasOwner::default(), [AliasOwner::number(), AliasOwner::number()]);
        buffer.take(rollout);
        assert!(!buffer.is_of(rollout), "nobody keeps books about a buffer that is not aliased");
        buffer.lend();
        assert!(!buffer.is_of(pass));
        buffer.take(pass);
        assert!(buffer.is_of(pass));
        buffer.take(rollout);
        assert!(!buffer.is_of(pass));
    }
}
