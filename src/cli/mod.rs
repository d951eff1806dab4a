//! The command line: parse, call, print. Results go to stdout, everything else to stderr.
//!
//! Exit codes: 0 done, 1 failed, 2 the command or config cannot be used, 3 a gate is not passed, 130 interrupted.

mod agree;
mod args;
mod bench;
mod calibrate;
mod columns;
mod compare;
mod data;
mod demo;
mod doctor;
mod error;
mod estimate;
mod eval;
mod export;
mod export_gguf;
mod gates;
mod interrupt;
mod judging;
mod merge;
mod outcome;
mod pair;
mod places;
mod plan;
mod printable;
mod progress;
mod repeated_rows;
mod row_hashes;
mod score;
mod score_columns;
pub mod scoring;
#[cfg(feature = "serve")]
mod serve;
mod settings;
mod split;
mod train;

use std::borrow::Cow;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;

use crate::system::free_memory;
#[cfg(feature = "serve")]
pub use args::ServeArgs;
pub use args::{
    AgreeArgs, BenchArgs, BenchGroup, CalibrateArgs, Cli, Command, CompareArgs, DataArgs, DataCheckArgs, DataCommand,
    DataSplitArgs, DemoArgs, DoctorArgs, EstimateArgs, EvalArgs, Expectation, ExportArgs, ExportFormat, GateArgs, JudgingArgs,
    PairArgs, PartArgs, ScoreArgs, ShapeArgs, TrainArgs,
};
pub use error::CliError;
pub use interrupt::{Interrupt, STEP};
pub use judging::JudgeFlags;
pub use merge::MergeArgs;
pub use plan::PlanArgs;
pub use printable::printable;
pub use progress::TerminalProgress;
pub use settings::SettingFlags;

use crate::gpu::{Class, Gpu, GpuOptions, Kernels};
use crate::hub::{self, Wanted};
use crate::model_folder::ModelFolder;
use crate::progress::Progress;
use crate::ranks::Ranks;
use crate::selftest::{Verdict, Work};

/// What every command has at hand.
pub struct Context {
    /// GPU asked for by `--adapter` or `JURIST_ADAPTER`; with several ranks a list of them.
    pub adapter: Option<String>,
    /// Optional kernels asked for by `--kernels`, else by `JURIST_KERNELS`.
    pub kernels: Option<Kernels>,
    /// Model of an adapter, asked for by `--base`.
    pub base: Option<PathBuf>,
    pub quiet: bool,
    /// The processes that work together.
    pub ranks: Ranks,
    /// The environment, read once.
    pub env: Vec<(String, String)>,
    /// When the program began.
    pub started: Instant,
}

impl Context {
    /// Reads the environment and the global flags.
    fn new(adapter: Option<String>, kernels: Option<Kernels>, quiet: bool, env: Vec<(String, String)>) -> Self {
        let from_env = env.iter().find(|(name, value)| name == "JURIST_ADAPTER" && !value.is_empty());
        let adapter = adapter.or_else(|| from_env.map(|(_, value)| value.clone()));
        Context { adapter, kernels, base: None, quiet, ranks: Ranks::alone(), env, started: Instant::now() }
    }

    /// The adapter of this rank.
    fn own_adapter(&self) -> Option<String> {
        self.adapter.as_ref().map(|list| self.ranks.entry(list).to_string())
    }

    fn kernels(&self) -> Result<Kernels, CliError> {
        let from_env = self.env.iter().find(|(name, value)| name == "JURIST_KERNELS" && !value.is_empty());
        match (&self.kernels, from_env) {
            (Some(kernels), _) => Ok(kernels.clone()),
            (None, Some((_, value))) => value.parse().map_err(|e| CliError::Usage(format!("JURIST_KERNELS: {e}"))),
            (None, None) => Ok(Kernels::default()),
        }
    }

    /// Opens the adapter asked for, and says which one it is, and which optional kernels do not work there.
    pub fn gpu(&self, work: Work, progress: &mut dyn Progress) -> Result<Gpu, CliError> {
        let (gpu, _) = self.gpu_with(false, work, progress)?;
        gpu.advice().iter().for_each(|advice| progress.warn(advice));
        Ok(gpu)
    }

    /// As [`Context::gpu`], with what was found about each optional kernel; `basic` leaves aside what not every WebGPU
    /// device has.
    fn gpu_with(&self, basic: bool, work: Work, progress: &mut dyn Progress) -> Result<(Gpu, Vec<Verdict>), CliError> {
        let (adapter, software_memory, kernels) = (self.own_adapter(), free_memory(), self.kernels()?);
        let options = GpuOptions { adapter, software_memory, basic, kernels, ..GpuOptions::default() };
        let (gpu, verdicts) = pollster::block_on(crate::selftest::open(&options, work))?;
        progress.note(&format!("adapter: {}", gpu.facts()));
        if let Some(line) = unlike(&self.ranks.all_gather(gpu.facts().to_string().into_bytes())?) {
            progress.warn(&line);
        }
        verdicts.iter().filter(|v| !v.passes()).for_each(|v| progress.warn(&v.to_string()));
        Ok((gpu, verdicts))
    }

    /// Opens a model's folder; the base of an adapter is that of `--base`, if it is given.
    fn open(&self, model: &Path) -> Result<ModelFolder, CliError> {
        Ok(ModelFolder::open_on(model, self.base.as_deref()).map_err(crate::judge::JudgeError::from)?)
    }

    /// Fetches what the Hugging Face cache lacks of `model`, and of the base of an adapter, as far as they are names of the hub. Rank
    /// 0 fetches first, then one rank of each machine: no two write to one cache.
    fn fetch(&self, model: &Path, wanted: Wanted, progress: &mut TerminalProgress) -> Result<(), CliError> {
        let env = |name: &str| self.env.iter().find(|(n, _)| n == name).map(|(_, value)| value.clone());
        let own = match (self.ranks.rank(), self.ranks.local_rank()) {
            (0, _) => 0,
            (_, 0) => 1,
            _ => 2,
        };
        for turn in 0..3 {
            if turn == own {
                hub::fetch(model, self.base.as_deref(), wanted, env, progress).map_err(crate::judge::JudgeError::from)?;
            }
            self.ranks.barrier()?;
        }
        Ok(())
    }

    /// A GPU that counts buffers and makes none, like the adapter asked for or, with `any`, like discrete GPUs in general; and
    /// the memory that is there, where that is known.
    fn dry_gpu(&self, any: bool) -> Result<(Gpu, Option<u64>), CliError> {
        let options = GpuOptions { adapter: self.own_adapter(), kernels: self.kernels()?, ..GpuOptions::default() };
        let gpu = if any { Gpu::dry_of(Class::Discrete, &options)? } else { pollster::block_on(Gpu::dry(&options))? };
        let memory = free_memory().filter(|_| gpu.facts().class == Class::Software);
        Ok((gpu, memory))
    }

    /// Somebody who shows progress on stderr, as far as `--quiet` and the terminal allow. Of several ranks only the first speaks.
    pub fn progress(&self) -> TerminalProgress {
        if self.ranks.is_first() { TerminalProgress::new(self.quiet) } else { TerminalProgress::silent() }
    }
}

/// A warning that a rank has another adapter than rank 0. `adapters` are those of the ranks.
fn unlike(adapters: &[Vec<u8>]) -> Option<String> {
    let rank = adapters.iter().position(|adapter| *adapter != adapters[0])?;
    let adapter = String::from_utf8_lossy(&adapters[rank]);
    Some(format!("rank {rank} has another adapter, {adapter}: results agree to rounding, not byte for byte"))
}

/// Writes a line to standard error. What cannot be written there cannot be reported either.
fn say(line: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{}", printable(line));
}

/// Writes a result to standard output.
fn print(text: &str) -> Result<(), CliError> {
    print_exactly(&printable(text))
}

/// Writes a result to standard output, as indented JSON.
fn print_json(value: &serde_json::Value) -> Result<(), CliError> {
    print(&(serde_json::to_string_pretty(value).unwrap_or_default() + "\n"))
}

/// Writes rows to standard output: to a terminal so that they cannot steer it, to programs byte for byte.
fn print_rows(lines: &str) -> Result<(), CliError> {
    use std::io::IsTerminal;
    if std::io::stdout().is_terminal() { print(lines) } else { print_exactly(lines) }
}

fn print_exactly(text: &str) -> Result<(), CliError> {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|source| CliError::Output { source })
}

/// Runs the program with these arguments (the program's name first) and returns its exit code.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(message) => {
            // Help and version go to stdout with code 0, faults to stderr with code 2. A closed pipe changes nothing.
            let text = message.render().to_string();
            match printable(&text) {
                Cow::Borrowed(_) => {
                    let _ = message.print();
                }
                Cow::Owned(shown) => say(&shown),
            }
            return ExitCode::from(message.exit_code() as u8);
        }
    };
    // A variable that is not Unicode can be no setting of ours.
    let env = std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let mut context = Context { base: cli.base, ..Context::new(cli.adapter, cli.kernels, cli.quiet, env.collect()) };
    // A process that a rank of `compare` starts for a cell has the environment of that rank.
    let is_cell = matches!(&cli.command, Command::Compare(args) if args.cell.is_some());
    let started = if is_cell { Ok(Ranks::alone()) } else { Ranks::started(&context.env) };
    let started = started.map(|ranks| context.ranks = ranks);
    let version = [("the version of jurist".into(), env!("CARGO_PKG_VERSION").into())];
    let started = started.and_then(|()| context.ranks.check_same(&version));
    let done = started.map_err(CliError::from).and_then(|()| dispatch(cli.command, &context));
    match done.and_then(|()| Ok(context.ranks.leave()?)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let message = error.message();
            let tells = tells_user(&error, message.as_deref().unwrap_or_default(), &context.ranks);
            if let Some(message) = message.filter(|_| tells) {
                let rank = context.ranks.rank();
                let of_one = context.ranks.size() > 1 && error.of_ranks().is_none() && !error.is_orderly();
                say(&if of_one { format!("error: rank {rank}: {message}") } else { format!("error: {message}") });
            }
            ExitCode::from(error.exit_code())
        }
    }
}

/// Ends the work of all ranks, which fails with `message`. True on the one rank that tells the user.
fn tells_user(error: &CliError, message: &str, ranks: &Ranks) -> bool {
    match error.of_ranks() {
        Some(told) if told.is_told() => false,
        // All ranks end alike; one that fails meanwhile tells the user itself.
        None if error.is_orderly() => ranks.leave().is_ok() && ranks.is_first(),
        _ => ranks.fail(message),
    }
}

fn dispatch(command: Command, context: &Context) -> Result<(), CliError> {
    let opens_none =
        matches!(command, Command::Agree(_) | Command::Estimate(_) | Command::Demo(_) | Command::Bench(_) | Command::Compare(_));
    if context.base.is_some() && opens_none {
        return Err(CliError::Usage(
            "--base is for commands that open an adapter: train, score, eval, calibrate, pair, serve, data, export, merge, doctor"
                .into(),
        ));
    }
    let processes = context.ranks.size();
    if processes > 1 && !is_divided(&command) {
        return Err(CliError::Usage(format!("{processes} processes were started, and this command works in one: start one")));
    }
    match command {
        Command::Train(args) => train::run(&args, context),
        Command::Score(args) => score::run(&args, context),
        Command::Eval(args) => eval::run(&args, context),
        Command::Agree(args) => agree::run(&args, context),
        Command::Calibrate(args) => calibrate::run(&args, context),
        Command::Estimate(args) => estimate::run(&args, context),
        Command::Pair(args) => pair::run(&args, context),
        Command::Data(args) => data::run(&args, context),
        Command::Export(args) => export::run(&args, context),
        Command::Merge(args) => merge::run(&args, context),
        #[cfg(feature = "serve")]
        Command::Serve(args) => serve::run(&args, context),
        Command::Doctor(args) => doctor::run(&args, context),
        Command::Demo(args) => demo::run(&args, context),
        Command::Bench(args) => bench::run(&args, context),
        Command::Compare(args) => compare::run(&args, context),
    }
}

/// Whether ranks divide the work of a command.
fn is_divided(command: &Command) -> bool {
    match command {
        Command::Train(args) => !args.plan.dry_run && !args.print_config,
        Command::Score(_) | Command::Pair(_) => true,
        Command::Eval(args) => args.scored.is_none(),
        Command::Calibrate(args) => args.model.is_some() && args.apply.is_none(),
        Command::Compare(args) => !args.tables && !args.estimate,
        _ => false,
    }
}

#[cfg(test)]
mod tests;
