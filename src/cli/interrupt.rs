//! Ctrl-C, and what else asks a program to end. The first press ends a command at once and takes what it has half written away; a
//! command that can stop in good order says so, and is asked to. The second press always ends it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::{CliError, say};
use crate::files::remove_unfinished;

/// Whether somebody pressed Ctrl-C.
#[derive(Clone, Debug, Default)]
pub struct Interrupt {
    requested: Arc<AtomicBool>,
    /// What a command does before it stops, if it can.
    first: Arc<Mutex<Option<&'static str>>>,
}

impl Interrupt {
    /// Watches for Ctrl-C from now on; once in a process.
    pub fn watch() -> Result<Self, CliError> {
        let interrupt = Interrupt::default();
        let seen = interrupt.clone();
        ctrlc::set_handler(move || {
            let first = *seen.first.lock().unwrap_or_else(PoisonError::into_inner);
            match first {
                Some(first) if !seen.requested.swap(true, Ordering::SeqCst) => {
                    say(&format!("interrupted: {first}; press again to end at once"));
                }
                _ => {
                    remove_unfinished();
                    std::process::exit(130);
                }
            }
        })
        .map_err(|source| CliError::Signal { source })?;
        Ok(interrupt)
    }

    /// From now on the first press only asks; whoever works looks at [`Interrupt::requested`] and does `first` before it stops.
    pub fn stops_after(self, first: &'static str) -> Self {
        *self.first.lock().unwrap_or_else(PoisonError::into_inner) = Some(first);
        self
    }

    /// True once Ctrl-C was pressed.
    pub fn requested(&self) -> bool {
        self.requested.load(Ordering::SeqCst)
    }
}

/// What training does before it stops.
pub const STEP: &str = "finishing the step and writing a checkpoint";
