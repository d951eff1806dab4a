//! Progress reports and clocks. The library never prints and never reads a clock; the caller provides both.

/// Seconds since a fixed moment. The command line provides the system's clock, a browser its own.
pub trait Clock {
    fn seconds(&self) -> f64;

    /// Seconds since 1970, for logs that state a time; 0 where that is not known.
    fn since_1970(&self) -> f64 {
        0.0
    }
}

/// A clock that is always 0, for runs whose logs must be reproducible byte for byte.
pub struct NoClock;

impl Clock for NoClock {
    fn seconds(&self) -> f64 {
        0.0
    }
}

/// Receives the progress of a run. By default every method does nothing.
pub trait Progress {
    /// A task of `total` steps begins; `done` of them are already completed.
    fn begin(&mut self, _what: &str, _done: u64, _total: u64) {}
    /// `done` steps are completed; `loss` is that of the last one.
    fn step(&mut self, _done: u64, _loss: f64) {}
    /// The task has ended.
    fn end(&mut self) {}
    /// A message for the user.
    fn note(&mut self, _line: &str) {}
    /// A warning for the user.
    fn warn(&mut self, _line: &str) {}
}

/// Ignores all progress.
pub struct Silent;

impl Progress for Silent {}
