//! Queries to the operating system: the time, and the memory that is left.

mod memory;

use std::time::{Instant, SystemTime, UNIX_EPOCH};

pub use memory::free_memory;

use crate::progress::Clock;

/// The system's clock: monotonic seconds, and the time of day.
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

    fn since_1970(&self) -> f64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
    }
}
