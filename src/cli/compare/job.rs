//! A process that runs a cell.

use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::Instant;

use crate::cli::{CliError, CompareArgs, Context};
use crate::experiments::compare::{CellId, CompareError};

/// A process that runs one cell.
pub struct Job {
    pub cell: CellId,
    process: Child,
    started: Instant,
    /// The pipe whose end tells the process that this one is gone.
    _pipe: Option<ChildStdin>,
}

impl Job {
    /// Starts the process. It works alone, on this rank's adapter.
    ///
    /// # Errors
    /// Those of the system.
    pub fn start(cell: CellId, args: &CompareArgs, context: &Context) -> Result<Self, CliError> {
        let fail = |e: std::io::Error| CompareError::Cell(format!("cannot start a process for {cell}: {e}"));
        let mut command = Command::new(std::env::current_exe().map_err(fail)?);
        command.args(["compare", "--with-parent", "--cell", &cell.to_string()]).arg("--config").arg(&args.config);
        command.arg("--work").arg(&args.work);
        // The progress of several cells at once would not be readable.
        if args.jobs > 1 || context.ranks.size() > 1 || context.quiet {
            command.arg("--quiet");
        }
        if let Some(results) = &args.results {
            command.arg("--results").arg(results);
        }
        if let Some(adapter) = context.own_adapter() {
            command.args(["--adapter", &adapter]);
        }
        // llvmpipe's threads, shared out; other adapters do not look at this.
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        if args.jobs > 1 && std::env::var_os("LP_NUM_THREADS").is_none() {
            command.env("LP_NUM_THREADS", (cores / args.jobs).max(1).to_string());
        }
        let mut process = command.stdout(Stdio::null()).stdin(Stdio::piped()).spawn().map_err(fail)?;
        let pipe = process.stdin.take();
        Ok(Job { cell, process, started: Instant::now(), _pipe: pipe })
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// Those of the system.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>, CliError> {
        let cell = &self.cell;
        Ok(self.process.try_wait().map_err(|e| CompareError::Cell(format!("cannot follow {cell}: {e}")))?)
    }

    /// Whole seconds since it was started.
    pub fn seconds(&self) -> u64 {
        self.started.elapsed().as_secs()
    }
}
