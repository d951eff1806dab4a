//! Progress on stderr: a bar with the time left on a terminal, else a plain line every ten seconds.

use std::io::IsTerminal;
use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};

use crate::train::log::{Clock, Progress};

/// Seconds between two plain lines.
const PLAIN_EVERY: f64 = 10.0;

const COLOURED: &str = "{prefix} {bar:30.cyan/dim} {pos}/{len} {msg} {elapsed} < {eta}";
const PLAIN: &str = "{prefix} {bar:30} {pos}/{len} {msg} {elapsed} < {eta}";

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

/// Shows a run's progress on stderr.
pub struct TerminalProgress {
    quiet: bool,
    terminal: bool,
    clock: SystemClock,
    bar: Option<ProgressBar>,
    stretch: Option<Stretch>,
}

/// A stretch of work under way.
struct Stretch {
    what: String,
    total: u64,
    /// Steps that were done when it began: a resumed run's are not a measure of its speed.
    done_before: u64,
    begun: f64,
    last_line: f64,
}

impl TerminalProgress {
    /// Looks at stderr once: a bar is for terminals only.
    pub fn new(quiet: bool) -> Self {
        let terminal = std::io::stderr().is_terminal();
        TerminalProgress { quiet, terminal, clock: SystemClock::start(), bar: None, stretch: None }
    }

    fn line(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| eprintln!("{line}")),
            None => eprintln!("{line}"),
        }
    }
}

impl Progress for TerminalProgress {
    fn begin(&mut self, what: &str, done: u64, total: u64) {
        self.end();
        if self.quiet {
            return;
        }
        if self.terminal {
            let colour = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
            let style = ProgressStyle::with_template(if colour { COLOURED } else { PLAIN });
            let bar = ProgressBar::new(total).with_position(done).with_prefix(what.to_string());
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.reset_eta();
            self.bar = Some(bar);
        } else {
            let now = self.clock.seconds();
            self.stretch = Some(Stretch { what: what.into(), total, done_before: done, begun: now, last_line: now });
        }
    }

    fn step(&mut self, done: u64, loss: f64) {
        if let Some(bar) = &self.bar {
            bar.set_message(shown(loss));
            bar.set_position(done);
        }
        let now = self.clock.seconds();
        let line = self.stretch.as_mut().filter(|stretch| now - stretch.last_line >= PLAIN_EVERY).map(|stretch| {
            stretch.last_line = now;
            stretch.line(done, loss, now)
        });
        if let Some(line) = line {
            self.line(&line);
        }
    }

    fn end(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        self.stretch = None;
    }

    fn note(&mut self, line: &str) {
        if !self.quiet {
            self.line(line);
        }
    }

    fn warn(&mut self, line: &str) {
        self.line(&format!("warning: {line}"));
    }
}

impl Stretch {
    fn line(&self, done: u64, loss: f64, now: f64) -> String {
        let Stretch { what, total, done_before, begun, .. } = self;
        let mut line = format!("{what} {done}/{total} {}", shown(loss)).trim_end().to_string();
        if done > *done_before {
            let seconds_per_step = (now - begun) / (done - done_before) as f64;
            let left = seconds_per_step * total.saturating_sub(done) as f64;
            line += &format!(", {} left", duration(left));
        }
        line
    }
}

/// Seconds as `45s`, `3m20s`, `2h05m`.
fn duration(seconds: f64) -> String {
    let seconds = seconds.max(0.0).round() as u64;
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
    }
}

/// The loss, for work that has one.
fn shown(loss: f64) -> String {
    if loss.is_finite() { format!("loss {loss:.4}") } else { String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!([0.4, 59.6, 200.0, 7500.0, -3.0].map(duration), ["0s", "1m00s", "3m20s", "2h05m", "0s"]);
    }

    #[test]
    fn time_left_counts_this_run_only() {
        let stretch = Stretch { what: "sft".into(), total: 200, done_before: 100, begun: 5.0, last_line: 5.0 };
        assert_eq!(stretch.line(150, 1.25, 105.0), "sft 150/200 loss 1.2500, 1m40s left");
        assert_eq!(stretch.line(100, 1.25, 105.0), "sft 100/200 loss 1.2500");
    }
}
