//! `jurist compare`.
//!
//! Cells are made by processes of their own, some at a time: a cell that fails takes no other with it, and a software
//! adapter does more with two processes of one thread than with one of two. A cell's process ends with the one that started
//! it, even where that one is killed: it reads a pipe that ends then.

use std::io::Read;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use super::{CliError, CompareArgs, Context, Interrupt, STEP, print};
use crate::experiments::compare::{
    CellPaths, CompareError, Protocol, Results, TrialChoice, refuse_foreign_pages, write_page, write_tables,
};
use crate::files::{FileError, Lock};
use crate::progress::Progress;
use crate::selftest::Work;
use crate::system::SystemClock;
use crate::train::run::RunContext;

/// Between two looks at the processes.
const PAUSE: Duration = Duration::from_millis(200);

/// Runs what is open of a comparison and writes its tables.
pub fn run(args: &CompareArgs, context: &Context) -> Result<(), CliError> {
    let protocol = Protocol::read(&args.config)?;
    let results = args.results.clone().or_else(|| args.config.parent().map(PathBuf::from)).unwrap_or_default();
    let place = CellPaths { protocol, results, work: args.work.clone() };
    let mut progress = context.progress();
    if let Some(cell) = &args.cell {
        if args.with_parent {
            end_with_parent();
        }
        return make(&place, &cell.parse()?, context, &mut progress);
    }
    refuse_foreign_pages(&place)?;
    if !args.tables {
        let _lock = held(&place)?;
        let interrupt = Interrupt::watch()?.stops_after(STEP);
        schedule(&place, args, context, &interrupt, &mut progress)?;
    }
    let results = Results::read(&place)?;
    let (tables, page) = (write_tables(&results)?, write_page(&results)?);
    print(&format!("{}\ntables  {}\npage    {}\n", results.to_markdown()?, tables.display(), page.display()))
}

/// One comparison at a time writes into a folder for results.
fn held(place: &CellPaths) -> Result<Lock, CliError> {
    std::fs::create_dir_all(&place.results).map_err(|e| FileError::io("create", &place.results, e))?;
    Ok(Lock::inside(&place.results)?)
}

/// Makes one cell in this process.
fn make(
    place: &CellPaths,
    choice: &TrialChoice,
    context: &Context,
    progress: &mut super::TerminalProgress,
) -> Result<(), CliError> {
    let gpu = context.gpu(Work::Training, progress)?;
    let interrupt = Interrupt::watch()?.stops_after(STEP);
    let ctx = RunContext { gpu: &gpu, clock: &SystemClock::start(), progress, interrupted: &|| interrupt.requested() };
    match pollster::block_on(place.make(choice, ctx))? {
        true => Ok(()),
        false => Err(CliError::Interrupted { checkpoint: place.work.join(choice.to_string()) }),
    }
}

/// Makes all open cells, `args.jobs` at a time.
fn schedule(
    place: &CellPaths,
    args: &CompareArgs,
    context: &Context,
    interrupt: &Interrupt,
    progress: &mut dyn Progress,
) -> Result<(), CliError> {
    let mut open = place.open()?;
    let (total, began) = (open.len(), Instant::now());
    let mut running: Vec<Running> = Vec::new();
    let mut failed = Vec::new();
    let mut done = 0;
    progress.note(&format!("{total} cells to make, {} at a time", args.jobs));
    while !(open.is_empty() && running.is_empty()) {
        if !interrupt.requested() {
            while running.len() < args.jobs {
                // What others wait for stands before them in the list.
                let Some(n) = open.iter().position(|c| place.is_ready(c).unwrap_or(false)) else { break };
                let choice = open.remove(n);
                running.push(spawn(choice, args, context)?);
            }
        }
        if running.is_empty() {
            break;
        }
        std::thread::sleep(PAUSE);
        let mut still = Vec::new();
        for mut cell in running {
            let choice = &cell.choice;
            let ended = cell.process.try_wait().map_err(|e| CompareError::Cell(format!("cannot follow {choice}: {e}")))?;
            match ended {
                None => still.push(cell),
                Some(status) if status.success() => {
                    done += 1;
                    let left = began.elapsed().as_secs_f64() / f64::from(done) * (total as f64 - f64::from(done));
                    let took = cell.started.elapsed().as_secs();
                    progress.note(&format!("{done} of {total}: {choice} in {took} s, about {:.0} min left", left / 60.0));
                }
                Some(_) if interrupt.requested() => {}
                Some(status) => {
                    progress.warn(&format!("{choice} failed ({status}); the others go on"));
                    failed.push(choice.to_string());
                }
            }
        }
        running = still;
    }
    if interrupt.requested() {
        return Err(CliError::Interrupted { checkpoint: place.work.clone() });
    }
    match failed.is_empty() {
        true => Ok(()),
        false => Err(CompareError::Cell(format!(
            "{} cells failed: {}; what they said is above, and the same command tries again",
            failed.len(),
            failed.join(", ")
        ))
        .into()),
    }
}

/// A process that makes one cell.
struct Running {
    choice: TrialChoice,
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

fn spawn(choice: TrialChoice, args: &CompareArgs, context: &Context) -> Result<Running, CliError> {
    let fail = |e: std::io::Error| CompareError::Cell(format!("cannot start a process for {choice}: {e}"));
    let mut command = Command::new(std::env::current_exe().map_err(fail)?);
    command.args(["compare", "--quiet", "--with-parent", "--cell", &choice.to_string()]).arg("--config").arg(&args.config);
    command.arg("--work").arg(&args.work);
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
    Ok(Running { choice, process, started: Instant::now(), _pipe: pipe })
}
