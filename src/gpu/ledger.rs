//! The ledger: bytes of all buffers that are alive, by what they are for. A dry run keeps the same one as a real run.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::GpuError;

/// What a buffer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
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

impl Role {
    pub const ALL: [Role; 8] = [
        Role::Weights,
        Role::Gradient,
        Role::Optimiser,
        Role::Activations,
        Role::Cache,
        Role::LossHead,
        Role::Staging,
        Role::Other,
    ];

    /// As it stands in a table.
    pub fn name(self) -> &'static str {
        match self {
            Role::Weights => "weights",
            Role::Gradient => "gradient",
            Role::Optimiser => "optimiser",
            Role::Activations => "activations",
            Role::Cache => "cache",
            Role::LossHead => "loss head",
            Role::Staging => "staging",
            Role::Other => "other",
        }
    }
}

/// Bytes by role.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held([u64; Role::ALL.len()]);

impl Held {
    pub fn of(&self, role: Role) -> u64 {
        self.0[role as usize]
    }

    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}

/// `weights 1.25 GiB, gradient 1.25 GiB`: the roles that hold something, for messages.
impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gib = |bytes: u64| bytes as f64 / (1u64 << 30) as f64;
        let there = Role::ALL.into_iter().filter(|role| self.of(*role) > 0);
        let parts: Vec<String> = there.map(|role| format!("{} {:.2} GiB", role.name(), gib(self.of(role)))).collect();
        f.write_str(if parts.is_empty() { "nothing" } else { "" })?;
        f.write_str(&parts.join(", "))
    }
}

/// What is held now, and what was held when it was most.
#[derive(Debug, Default)]
struct Sums {
    now: Held,
    peak: Held,
    /// Bytes of scratch that plans put into lent buffers.
    lodged: u64,
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
pub(super) struct Ledger(Arc<Mutex<Sums>>);

impl Ledger {
    fn sums(&self) -> MutexGuard<'_, Sums> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn now(&self) -> Held {
        self.sums().now
    }

    pub(super) fn peak(&self) -> Held {
        self.sums().peak
    }

    pub(super) fn made(&self) -> u64 {
        self.sums().made
    }

    pub(super) fn lodged(&self) -> u64 {
        self.sums().lodged
    }

    /// Notes `bytes` that took no memory of their own.
    pub(super) fn lodge(&self, bytes: u64) {
        self.sums().lodged += bytes;
    }

    /// Refuses `bytes` with which more than `limit` would be held.
    pub(super) fn check(&self, bytes: u64, limit: Option<u64>) -> Result<(), GpuError> {
        self.sums().check(bytes, limit)
    }

    /// Enters `bytes`, unless more than `limit` would then be held.
    pub(super) fn enter(&self, role: Role, bytes: u64, limit: Option<u64>) -> Result<Entry, GpuError> {
        let mut sums = self.sums();
        sums.check(bytes, limit)?;
        sums.now.0[role as usize] += bytes;
        sums.made += u64::from(role != Role::Staging);
        let needed = sums.now.total();
        if needed > sums.peak.total() {
            sums.peak = sums.now;
        }
        Ok(Entry { ledger: self.clone(), role, bytes })
    }
}

/// A line of the ledger, struck out when it is dropped.
#[derive(Debug)]
pub(super) struct Entry {
    ledger: Ledger,
    role: Role,
    bytes: u64,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.ledger.sums().now.0[self.role as usize] -= self.bytes;
    }
}

/// Whose values a lent buffer holds. Plans that share memory take it in turns: one that goes on where it stopped must find
/// that nobody was there meanwhile.
#[derive(Debug, Default)]
pub(super) struct Tenancy(AtomicU64);

impl Tenancy {
    const NEVER_LENT: u64 = 0;
    const VACANT: u64 = 1;

    /// The number of a new plan.
    pub(super) fn number() -> u64 {
        static NEXT: AtomicU64 = AtomicU64::new(Tenancy::VACANT + 1);
        NEXT.fetch_add(1, Ordering::Relaxed)
    }

    /// From now on somebody else may be in.
    pub(super) fn lend(&self) {
        self.0.store(Self::VACANT, Ordering::Relaxed);
    }

    /// Plan `number` writes.
    pub(super) fn move_in(&self, number: u64) {
        if self.0.load(Ordering::Relaxed) != Self::NEVER_LENT {
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
        let ledger = Ledger::default();
        let weights = ledger.enter(Role::Weights, 100, None).unwrap();
        {
            let _cache = ledger.enter(Role::Cache, 50, Some(150)).unwrap();
            let refused = ledger.enter(Role::Other, 1, Some(150)).unwrap_err();
            assert!(matches!(refused, GpuError::OverBudget { held, .. } if held.of(Role::Cache) == 50));
        }
        let _head = ledger.enter(Role::LossHead, 20, None).unwrap();
        assert_eq!((ledger.now().total(), ledger.peak().total()), (120, 150));
        assert_eq!((ledger.peak().of(Role::Cache), ledger.peak().of(Role::LossHead)), (50, 0));
        drop(weights);
        assert_eq!(ledger.now().to_string(), "loss head 0.00 GiB");
    }

    #[test]
    fn tenants_take_turns() {
        let (buffer, [rollout, pass]) = (Tenancy::default(), [Tenancy::number(), Tenancy::number()]);
        buffer.move_in(rollout);
        assert!(!buffer.is_of(rollout), "nobody keeps books about a buffer that is not lent");
        buffer.lend();
        assert!(!buffer.is_of(pass));
        buffer.move_in(pass);
        assert!(buffer.is_of(pass));
        buffer.move_in(rollout);
        assert!(!buffer.is_of(pass));
    }
}
