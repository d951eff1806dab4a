//! Ctrl-C, and other signals that ask a program to end. The first one ends a command at once and removes files that are half
//! written. A command that can stop in an orderly way registers for it, and is asked to stop. The second one always ends it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::{CliError, say};
use crate::files::remove_unfinished;
use crate::ranks::Ranks;

/// Whether Ctrl-C was pressed.
#[derive(Clone, Debug, Default)]
pub struct Interrupt {
    requested: Arc<AtomicBool>,
    /// What the command does before it stops, if it can stop in an orderly way.
    first: Arc<Mutex<Option<&'static str>>>,
}

impl Interrupt {
    /// Watches for Ctrl-C from now on; once in a process. Of several ranks, which all get it, the first speaks.
    pub fn watch(ranks: &Ranks) -> Result<Self, CliError> {
        let interrupt = Interrupt::default();
        let (seen, speaks) = (interrupt.clone(), ranks.is_first());
        let ignored = ignored::signals();
        ctrlc::set_handler(move || {
            let first = *seen.first.lock().unwrap_or_else(PoisonError::into_inner);
            match first {
                Some(first) if seen.request() => {
                    if speaks {
                        say(&format!("interrupted: {first}; press Ctrl-C again to exit at once"));
                    }
                }
                _ => {
                    remove_unfinished();
                    std::process::exit(130);
                }
            }
        })
        .map_err(|source| CliError::Signal { source })?;
        ignored::stay(&ignored);
        Ok(interrupt)
    }

    /// From now on the first press only asks to stop: the command checks [`Interrupt::requested`], and does `first` before it stops.
    pub fn stops_after(self, first: &'static str) -> Self {
        *self.first.lock().unwrap_or_else(PoisonError::into_inner) = Some(first);
        self
    }

    /// Asks the command to stop, as the first press does. False if it was asked before.
    pub fn request(&self) -> bool {
        !self.requested.swap(true, Ordering::SeqCst)
    }

    /// True once Ctrl-C was pressed.
    pub fn requested(&self) -> bool {
        self.requested.load(Ordering::SeqCst)
    }
}

/// What training does after the first Ctrl-C, for the message.
pub const STEP: &str = "finishing the step and writing a checkpoint";

/// Signals that were ignored when the program began stay ignored: `nohup` does that to the end of a terminal, and a shell to the
/// Ctrl-C of what it runs in the background.
#[cfg(unix)]
mod ignored {
    use nix::sys::signal::{SigHandler, Signal, signal};

    /// Of the signals that are watched, those that are ignored now.
    pub fn signals() -> Vec<Signal> {
        let is_ignored = |watched: &Signal| {
            // SAFETY: no handler of ours is installed; the signal is ignored for a moment, and then handled as before.
            let before = unsafe { signal(*watched, SigHandler::SigIgn) };
            let ignored = matches!(before, Ok(SigHandler::SigIgn));
            if let (false, Ok(before)) = (ignored, before) {
                // SAFETY: what is put back is what was there.
                let _ = unsafe { signal(*watched, before) };
            }
            ignored
        };
        [Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM].into_iter().filter(is_ignored).collect()
    }

    /// Ignores them again.
    pub fn stay(signals: &[Signal]) {
        for ignored in signals {
            // SAFETY: to ignore a signal runs no code.
            let _ = unsafe { signal(*ignored, SigHandler::SigIgn) };
        }
    }
}

#[cfg(not(unix))]
mod ignored {
    pub fn signals() -> [(); 0] {
        []
    }

    pub fn stay(_: &[()]) {}
}
