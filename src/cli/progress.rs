//! Progress on stderr: a bar with the time left on a terminal, else a plain line every ten seconds.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressStyle};

use super::{printable, say};
use crate::progress::{Clock, Progress};
use crate::system::SystemClock;
use crate::words::count;

/// Seconds between two plain lines.
const PLAIN_EVERY: f64 = 10.0;

/// Bars by what is counted, with colour and without.
const STEPS: [&str; 2] =
    ["{prefix} {bar:30.cyan/dim} {pos}/{len} {msg} {elapsed} < {eta}", "{prefix} {bar:30} {pos}/{len} {msg} {elapsed} < {eta}"];
const BYTES: [&str; 2] = [
    "{prefix} {bar:30.cyan/dim} {decimal_bytes}/{decimal_total_bytes} {msg} {elapsed} < {eta}",
    "{prefix} {bar:30} {decimal_bytes}/{decimal_total_bytes} {msg} {elapsed} < {eta}",
];

/// Shows a run's progress on stderr.
pub struct TerminalProgress {
    quiet: bool,
    /// Nothing is shown, not even warnings.
    silent: bool,
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
        TerminalProgress { quiet, silent: false, terminal, clock: SystemClock::start(), bar: None, stretch: None }
    }

    /// Shows nothing: another rank does.
    pub fn silent() -> Self {
        TerminalProgress { silent: true, ..TerminalProgress::new(true) }
    }

    fn start(&mut self, what: &str, done: u64, total: u64, [coloured, plain]: [&str; 2]) {
        self.end();
        if self.quiet {
            return;
        }
        if self.terminal {
            let colour = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
            let style = ProgressStyle::with_template(if colour { coloured } else { plain });
            let bar = ProgressBar::new(total).with_position(done).with_prefix(printable(what).into_owned());
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.reset_eta();
            self.bar = Some(bar);
        } else {
            let now = self.clock.seconds();
            self.stretch = Some(Stretch { what: what.into(), total, done_before: done, begun: now, last_line: now });
        }
    }

    /// Moves the bar, or says `line` when it is time for one.
    fn advance(&mut self, done: u64, message: String, line: impl FnOnce(&Stretch, f64) -> String) {
        if let Some(bar) = &self.bar {
            bar.set_message(printable(&message).into_owned());
            bar.set_position(done);
        }
        let now = self.clock.seconds();
        let line = self.stretch.as_mut().filter(|stretch| now - stretch.last_line >= PLAIN_EVERY).map(|stretch| {
            stretch.last_line = now;
            line(stretch, now)
        });
        if let Some(line) = line {
            self.line(&line);
        }
    }

    fn line(&self, line: &str) {
        match &self.bar {
            _ if self.silent => {}
            Some(bar) => bar.suspend(|| say(line)),
            None => say(line),
        }
    }
}

impl Progress for TerminalProgress {
    fn begin(&mut self, what: &str, done: u64, total: u64) {
        self.start(what, done, total, STEPS);
    }

    fn step(&mut self, done: u64, loss: f64) {
        self.advance(done, shown(loss), |stretch, now| stretch.line(done, loss, now));
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

/// A download's stretch is counted in bytes.
impl crate::hub::DownloadWatch for TerminalProgress {
    fn begin(&mut self, model: &str, files: usize, bytes: u64, there: u64) {
        let resumed = if there > 0 { format!(", of which {} are here already", megabytes(there)) } else { String::new() };
        self.note(&format!("fetching {model}: {}, {}{resumed}", count(files, "file"), megabytes(bytes)));
        self.start(&format!("fetching {model}"), there, bytes, BYTES);
    }

    fn received(&mut self, file: &str, number: usize, bytes: u64) {
        self.advance(bytes, format!("{number}: {file}"), |stretch, now| stretch.bytes_line(file, number, bytes, now));
    }

    fn again(&mut self, file: &str, why: &str) {
        self.note(&format!("{file}: {why}; trying again"));
    }

    fn end(&mut self) {
        Progress::end(self);
    }
}

impl Stretch {
    fn line(&self, done: u64, loss: f64, now: f64) -> String {
        let line = format!("{} {done}/{} {}", self.what, self.total, shown(loss));
        line.trim_end().to_string() + &self.left(done, now)
    }

    fn bytes_line(&self, file: &str, number: usize, done: u64, now: f64) -> String {
        let (here, all) = (megabytes(done), megabytes(self.total));
        format!("{} {here} of {all}, file {number}: {file}{}", self.what, self.left(done, now))
    }

    fn left(&self, done: u64, now: f64) -> String {
        if done <= self.done_before {
            return String::new();
        }
        let seconds_each = (now - self.begun) / (done - self.done_before) as f64;
        format!(", {} left", duration(seconds_each * self.total.saturating_sub(done) as f64))
    }
}

/// Bytes for people.
fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
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

    #[test]
    fn a_download_is_counted_in_bytes() {
        let stretch =
            Stretch { what: "fetching a/b".into(), total: 3_000_000, done_before: 1_000_000, begun: 0.0, last_line: 0.0 };
        let line = stretch.bytes_line("model.safetensors", 3, 2_000_000, 60.0);
        assert_eq!(line, "fetching a/b 2.0 MB of 3.0 MB, file 3: model.safetensors, 1m00s left");
    }
}
