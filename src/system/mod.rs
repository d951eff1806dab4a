//! Queries to the operating system: the time, and the memory that is left.

mod memory;

use std::time::Instant;

pub use memory::free_memory;

use crate::progress::Clock;

/// The system's monotonic clock.
pub struct SystemClock(Instant);

impl SystemClock {
    /// A clock that starts at 0 now.
    pub fn start() -> Self {
        SystemClock(Instant::now())
    }
}

impl Clock for SystemClock {
    fn seconds(&self) -> f64 {
        self.0.elapsed().as_secs_f64()
    }
}
