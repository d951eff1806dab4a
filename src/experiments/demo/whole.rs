//! One progress for all of the demo, so that the time left is that of the whole from the first seconds on.

use crate::progress::Progress;

/// Steps that the whole counts.
const WHOLE: u64 = 1000;

/// Passes the progress of several stretches of work on as one. A stretch's share is its part of the time, as it was
/// measured on a CPU adapter; elsewhere the estimate is rougher.
pub struct Whole<'a> {
    inner: &'a mut (dyn Progress + Send),
    /// Per mille of each stretch.
    shares: &'a [u64],
    stretch: usize,
    total: u64,
    begun: bool,
}

impl<'a> Whole<'a> {
    /// A whole of stretches with these shares, per mille.
    pub fn new(inner: &'a mut (dyn Progress + Send), shares: &'a [u64]) -> Self {
        Whole { inner, shares, stretch: 0, total: 1, begun: false }
    }

    /// The work that follows belongs to stretch number `n`.
    pub fn enter(&mut self, n: usize) {
        self.stretch = n;
    }

    fn at(&self, done: u64) -> u64 {
        let before: u64 = self.shares.iter().take(self.stretch).sum();
        let share = self.shares.get(self.stretch).copied().unwrap_or(0);
        before + share * done.min(self.total) / self.total
    }
}

impl Progress for Whole<'_> {
    fn begin(&mut self, _what: &str, done: u64, total: u64) {
        self.total = total.max(1);
        if !self.begun {
            self.begun = true;
            self.inner.begin("demo", self.at(done), WHOLE);
        }
    }

    fn step(&mut self, done: u64, loss: f64) {
        self.inner.step(self.at(done), loss);
    }

    fn note(&mut self, line: &str) {
        self.inner.note(line);
    }

    fn warn(&mut self, line: &str) {
        self.inner.warn(line);
    }
}

impl Drop for Whole<'_> {
    fn drop(&mut self) {
        self.inner.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Heard(Vec<u64>, usize);

    impl Progress for Heard {
        fn begin(&mut self, _: &str, done: u64, total: u64) {
            assert_eq!(total, WHOLE);
            self.0.push(done);
            self.1 += 1;
        }

        fn step(&mut self, done: u64, _: f64) {
            self.0.push(done);
        }
    }

    #[test]
    fn stretches_follow_each_other_in_one_count() {
        let mut heard = Heard::default();
        let mut whole = Whole::new(&mut heard, &[300, 700]);
        whole.begin("sft", 0, 10);
        whole.step(5, 1.0);
        whole.end();
        whole.enter(1);
        whole.begin("judging", 0, 7);
        whole.step(7, f64::NAN);
        drop(whole);
        assert_eq!(heard.0, [0, 150, 1000]);
        assert_eq!(heard.1, 1, "one bar");
    }

    #[test]
    fn a_demo_that_goes_on_begins_where_it_was() {
        let mut heard = Heard::default();
        let mut whole = Whole::new(&mut heard, &[300, 700]);
        whole.enter(1);
        whole.begin("real", 3, 6);
        drop(whole);
        assert_eq!(heard.0, [650]);
    }
}
