//! `jurist compare`.
//!
//! Each cell runs in a process of its own, several at a time. A cell that fails does not end the others, and two processes of one
//! thread do more on a software adapter than one process of two threads. The process of a cell reads a pipe from the process that
//! started it, and ends when the pipe does, even where that process is killed.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use super::{CliError, CompareArgs, Context, Interrupt, STEP, print};
use crate::experiments::compare::{
    CellId, CompareError, Comparison, Protocol, Results, estimate, refuse_foreign_pages, write_page, write_tables,
};
use crate::files::{FileError, Lock};
use crate::progress::Progress;
use crate::selftest::Work;
use crate::system::SystemClock;
use crate::train::run::RunContext;
use crate::words::count;

/// Time between two polls of the processes.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

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
        let _lock = lock_results(&comparison)?;
        comparison.keep_protocol()?;
        let interrupt = Interrupt::watch()?.stops_after(STEP);
        schedule(&comparison, args, context, &interrupt, &mut progress)?;
    }
    let results = Results::read(&comparison)?;
    let (tables, page) = (write_tables(&results)?, write_page(&results)?);
    print(&format!("{}\ntables  {}\npage    {}\n", results.to_markdown()?, tables.display(), page.display()))
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
    let interrupt = Interrupt::watch()?.stops_after(STEP);
    let (clock, ranks) = (SystemClock::start(), &context.ranks);
    let ctx = RunContext { gpu: &gpu, clock: &clock, progress, ranks, interrupted: &|| interrupt.requested() };
    match pollster::block_on(comparison.run(cell, ctx))? {
        true => Ok(()),
        false => Err(stopped(&comparison.work.join(cell.to_string()))),
    }
}

/// Runs all unfinished cells, `args.jobs` at a time.
fn schedule(
    comparison: &Comparison,
    args: &CompareArgs,
    context: &Context,
    interrupt: &Interrupt,
    progress: &mut dyn Progress,
) -> Result<(), CliError> {
    let mut waiting = comparison.unfinished()?;
    let (total, began) = (waiting.len(), Instant::now());
    let mut running: Vec<Job> = Vec::new();
    let mut failed = Vec::new();
    let mut done = 0;
    progress.note(&format!("{} to run, {} at a time", count(total, "cell"), args.jobs));
    while !(waiting.is_empty() && running.is_empty()) {
        if !interrupt.requested() {
            while running.len() < args.jobs {
                // The prerequisites of a cell come before it in the list.
                let Some(n) = waiting.iter().position(|c| comparison.is_ready(c).unwrap_or(false)) else { break };
                let cell = waiting.remove(n);
                running.push(spawn(cell, args, context)?);
            }
        }
        if running.is_empty() {
            break;
        }
        std::thread::sleep(POLL_INTERVAL);
        let mut still_running = Vec::new();
        for mut job in running {
            let cell = &job.cell;
            let ended = job.process.try_wait().map_err(|e| CompareError::Cell(format!("cannot follow {cell}: {e}")))?;
            match ended {
                None => still_running.push(job),
                Some(status) if status.success() => {
                    done += 1;
                    let left = began.elapsed().as_secs_f64() / f64::from(done) * (total as f64 - f64::from(done));
                    let took = job.started.elapsed().as_secs();
                    progress.note(&format!("{done} of {total}: {cell} in {took} s, about {:.0} min left", left / 60.0));
                }
                Some(_) if interrupt.requested() => {}
                Some(status) => {
                    progress.warn(&format!("{cell} failed ({status}); the others continue"));
                    failed.push(cell.to_string());
                }
            }
        }
        running = still_running;
    }
    if interrupt.requested() {
        return Err(stopped(&comparison.work));
    }
    match failed.is_empty() {
        true => Ok(()),
        false => Err(CompareError::Cell(format!(
            "{} failed: {}; their messages are above, and the same command tries them again",
            count(failed.len(), "cell"),
            failed.join(", ")
        ))
        .into()),
    }
}

/// The error after Ctrl-C; the work so far is in `folder`.
fn stopped(folder: &Path) -> CliError {
    CliError::Stopped(format!("jurist compare with the same flags continues from {}", folder.display()))
}

/// A process that runs one cell.
struct Job {
    cell: CellId,
    process: Child,
    started: Instant,
    /// The pipe whose end tells the process that this one is gone.
    _pipe: Option<ChildStdin>,
}

/// Ends this process when its standard input ends.
fn end_with_parent() {
    std::thread::spawn(|| {
        while matches!(std::io::stdin().read(&mut [0; 64]), Ok(1..)) {}
        std::process::exit(130);
    });
}

fn spawn(cell: CellId, args: &CompareArgs, context: &Context) -> Result<Job, CliError> {
    let fail = |e: std::io::Error| CompareError::Cell(format!("cannot start a process for {cell}: {e}"));
    let mut command = Command::new(std::env::current_exe().map_err(fail)?);
    command.args(["compare", "--with-parent", "--cell", &cell.to_string()]).arg("--config").arg(&args.config);
    command.arg("--work").arg(&args.work);
    // The progress of several cells at once would not be readable.
    if args.jobs > 1 || context.quiet {
        command.arg("--quiet");
    }
    if let Some(results) = &args.results {
        command.arg("--results").arg(results);
    }
    if let Some(adapter) = &context.adapter {
        command.args(["--adapter", adapter]);
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
