//! Who follows long work, and its clock. The library itself never prints and never looks at a clock; both are handed in.

/// Seconds since some fixed moment. The command line hands in the system's clock, a browser its own.
pub trait Clock {
    fn seconds(&self) -> f64;
}

/// A clock that stands still, for runs whose logs are to repeat byte for byte.
pub struct NoClock;

impl Clock for NoClock {
    fn seconds(&self) -> f64 {
        0.0
    }
}

/// Somebody who follows a run. Every method may do nothing.
pub trait Progress {
    /// A stretch of work begins: `total` steps, of which `done` are behind.
    fn begin(&mut self, _what: &str, _done: u64, _total: u64) {}
    /// `done` steps are behind; `loss` is the last one's.
    fn step(&mut self, _done: u64, _loss: f64) {}
    /// The stretch of work is over.
    fn end(&mut self) {}
    /// Something worth a line.
    fn note(&mut self, _line: &str) {}
    /// Something that may need looking at.
    fn warn(&mut self, _line: &str) {}
}

/// Nobody listens.
pub struct Silent;

impl Progress for Silent {}
