//! `jurist compare`.
//!
//! Each cell runs in a process of its own, several at a time. A cell that fails does not end the others, and two processes of one
//! thread do more on a software adapter than one process of two threads. The process of a cell reads a pipe from the process that
//! started it, and ends when the pipe does, even where that process is killed. Several ranks each start
//! processes: see [`schedule`].

mod job;
mod schedule;

use std::io::Read;
use std::path::{Path, PathBuf};

use self::schedule::schedule;
use super::{CliError, CompareArgs, Context, Interrupt, STEP, print};
use crate::bundle::sha256_hex;
use crate::experiments::compare::{
    CellId, Comparison, Protocol, Results, estimate, refuse_foreign_pages, write_page, write_tables,
};
use crate::files::{FileError, Lock};
use crate::selftest::Work;
use crate::system::SystemClock;
use crate::train::run::RunContext;

/// Runs the unfinished cells of a comparison and writes its tables.
pub fn run(args: &CompareArgs, context: &Context) -> Result<(), CliError> {
    let protocol = Protocol::read(&args.config)?;
    let results = args.results.clone().or_else(|| args.config.parent().map(PathBuf::from)).unwrap_or_default();
    let comparison = Comparison { protocol, results, work: args.work.clone() };
    let mut progress = context.progress();
    if let Some(cell) = &args.cell {
        if args.with_parent {
            end_with_parent();
        }
        comparison.keep_protocol()?;
        return run_cell(&comparison, &cell.parse()?, context, &mut progress);
    }
    if args.estimate {
        return print(&estimate(&comparison)?);
    }
    refuse_foreign_pages(&comparison)?;
    if args.tables {
        comparison.check_finished_cells()?;
    } else {
        check_same_protocol(&args.config, context)?;
        let mut _lock = None;
        if context.ranks.is_first() {
            _lock = Some(lock_results(&comparison)?);
            comparison.keep_protocol()?;
        }
        let interrupt = Interrupt::watch(&context.ranks)?.stops_after(STEP);
        schedule(&comparison, args, context, &interrupt, &mut progress)?;
    }
    if !context.ranks.is_first() {
        return Ok(());
    }
    let results = Results::read(&comparison)?;
    let (tables, page) = (write_tables(&results)?, write_page(&results)?);
    print(&format!("{}\ntables  {}\npage    {}\n", results.to_markdown()?, tables.display(), page.display()))
}

/// Checks that all ranks do the same comparison.
fn check_same_protocol(file: &Path, context: &Context) -> Result<(), CliError> {
    let text = std::fs::read(file).map_err(|e| FileError::io("read", file, e))?;
    Ok(context.ranks.check_same(&[("the protocol".into(), sha256_hex(&text))])?)
}

/// One comparison at a time writes into a results folder.
fn lock_results(comparison: &Comparison) -> Result<Lock, CliError> {
    std::fs::create_dir_all(&comparison.results).map_err(|e| FileError::io("create", &comparison.results, e))?;
    Ok(Lock::inside(&comparison.results)?)
}

/// Runs one cell in this process.
fn run_cell(
    comparison: &Comparison,
    cell: &CellId,
    context: &Context,
    progress: &mut super::TerminalProgress,
) -> Result<(), CliError> {
    let gpu = context.gpu(Work::Training, progress)?;
    let interrupt = Interrupt::watch(&context.ranks)?.stops_after(STEP);
    let (clock, ranks) = (SystemClock::start(), &context.ranks);
    let ctx = RunContext { gpu: &gpu, clock: &clock, progress, ranks, interrupted: &|| interrupt.requested() };
    match pollster::block_on(comparison.run(cell, ctx))? {
        true => Ok(()),
        false => Err(stopped(&comparison.work.join(cell.to_string()))),
    }
}

/// The error after Ctrl-C; the work so far is in `folder`.
fn stopped(folder: &Path) -> CliError {
    CliError::Stopped(format!("jurist compare with the same flags continues from {}", folder.display()))
}

/// Ends this process when its standard input ends.
fn end_with_parent() {
    std::thread::spawn(|| {
        while matches!(std::io::stdin().read(&mut [0; 64]), Ok(1..)) {}
        std::process::exit(130);
    });
}
