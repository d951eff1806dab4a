//! One progress bar for the whole demo, so that its time left covers all stages from the first seconds on.

use crate::progress::Progress;

/// Steps of the overall progress.
const TOTAL: u64 = 1000;

/// Reports the progress of several stages as one. The share of a stage is its part of the time, measured on a CPU adapter. On
/// other adapters the estimate is rougher.
pub struct OverallProgress<'a> {
    inner: &'a mut (dyn Progress + Send),
    /// Share of each stage, per mille.
    shares: &'a [u64],
    stage: usize,
    total: u64,
    begun: bool,
}

impl<'a> OverallProgress<'a> {
    /// Stages with these shares, per mille.
    pub fn new(inner: &'a mut (dyn Progress + Send), shares: &'a [u64]) -> Self {
        OverallProgress { inner, shares, stage: 0, total: 1, begun: false }
    }

    /// The work that follows belongs to stage `n`.
    pub fn enter(&mut self, n: usize) {
        self.stage = n;
    }

    fn overall_step(&self, done: u64) -> u64 {
        let before: u64 = self.shares.iter().take(self.stage).sum();
        let share = self.shares.get(self.stage).copied().unwrap_or(0);
        before + share * done.min(self.total) / self.total
    }
}

impl Progress for OverallProgress<'_> {
    fn begin(&mut self, _what: &str, done: u64, total: u64) {
        self.total = total.max(1);
        if !self.begun {
            self.begun = true;
            self.inner.begin("demo", self.overall_step(done), TOTAL);
        }
    }

    fn step(&mut self, done: u64, loss: f64) {
        self.inner.step(self.overall_step(done), loss);
    }

    fn note(&mut self, line: &str) {
        self.inner.note(line);
    }

    fn warn(&mut self, line: &str) {
        self.inner.warn(line);
    }
}

impl Drop for OverallProgress<'_> {
    fn drop(&mut self) {
        self.inner.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Recorder(Vec<u64>, usize);

    impl Progress for Recorder {
        fn begin(&mut self, _: &str, done: u64, total: u64) {
            assert_eq!(total, TOTAL);
            self.0.push(done);
            self.1 += 1;
        }

        fn step(&mut self, done: u64, _: f64) {
            self.0.push(done);
        }
    }

    #[test]
    fn stages_follow_each_other_in_one_count() {
        let mut recorder = Recorder::default();
        let mut overall = OverallProgress::new(&mut recorder, &[300, 700]);
        overall.begin("sft", 0, 10);
        overall.step(5, 1.0);
        overall.end();
        overall.enter(1);
        overall.begin("judging", 0, 7);
        overall.step(7, f64::NAN);
        drop(overall);
        assert_eq!(recorder.0, [0, 150, 1000]);
        assert_eq!(recorder.1, 1, "one bar");
    }

    #[test]
    fn a_resumed_demo_begins_where_it_stopped() {
        let mut recorder = Recorder::default();
        let mut overall = OverallProgress::new(&mut recorder, &[300, 700]);
        overall.enter(1);
        overall.begin("real", 3, 6);
        drop(overall);
        assert_eq!(recorder.0, [650]);
    }
}
