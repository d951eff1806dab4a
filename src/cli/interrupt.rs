//! Ctrl-C: the first press asks the run to finish its step and write a checkpoint, the second ends at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::CliError;

/// Whether somebody pressed Ctrl-C.
#[derive(Clone, Debug, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Watches for Ctrl-C from now on; once in a process.
    pub fn watch() -> Result<Self, CliError> {
        let interrupt = Interrupt::default();
        let seen = interrupt.clone();
        ctrlc::set_handler(move || {
            if seen.0.swap(true, Ordering::SeqCst) {
                std::process::exit(130);
            }
            super::say("interrupted: finishing the step and writing a checkpoint; press again to end at once");
        })
        .map_err(|source| CliError::Signal { source })?;
        Ok(interrupt)
    }

    /// True once Ctrl-C was pressed.
    pub fn requested(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}
