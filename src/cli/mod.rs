//! The command line: parse, call, print. Results go to stdout, everything else to stderr.
//!
//! Exit codes: 0 done, 1 failed, 2 the command or config cannot be used, 130 interrupted after a checkpoint.

mod args;
mod error;
mod interrupt;
mod progress;
mod settings;
mod train;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;

pub use args::{Cli, Command, DemoArgs, DoctorArgs, EvalArgs, Expectation, Predicted, ScoreArgs, TrainArgs};
pub use error::CliError;
pub use interrupt::Interrupt;
pub use progress::{SystemClock, TerminalProgress};
pub use settings::SettingFlags;

/// What every command has at hand.
pub struct Context {
    /// GPU asked for by `--adapter` or `JURIST_ADAPTER`.
    pub adapter: Option<String>,
    pub quiet: bool,
    /// The environment, read once.
    pub env: Vec<(String, String)>,
}

impl Context {
    /// Reads the environment and the global flags.
    fn new(adapter: Option<String>, quiet: bool, env: Vec<(String, String)>) -> Self {
        let from_env = env.iter().find(|(name, value)| name == "JURIST_ADAPTER" && !value.is_empty());
        let adapter = adapter.or_else(|| from_env.map(|(_, value)| value.clone()));
        Context { adapter, quiet, env }
    }

    /// Somebody who shows progress on stderr, as far as `--quiet` and the terminal allow.
    pub fn progress(&self) -> TerminalProgress {
        TerminalProgress::new(self.quiet)
    }
}

/// Runs the program with these arguments (the program's name first) and returns its exit code.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(message) => {
            // Help and version go to stdout with code 0, faults to stderr with code 2. A closed pipe changes nothing.
            let _ = message.print();
            return ExitCode::from(message.exit_code() as u8);
        }
    };
    // A variable that is not Unicode can be no setting of ours.
    let env = std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let context = Context::new(cli.adapter, cli.quiet, env.collect());
    match dispatch(cli.command, &context) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if let Some(message) = error.message() {
                eprintln!("error: {message}");
            }
            ExitCode::from(error.exit_code())
        }
    }
}

fn dispatch(command: Command, context: &Context) -> Result<(), CliError> {
    match command {
        Command::Train(args) => train::run(&args, context),
        Command::Score(_) => Err(CliError::NotWired { command: "score" }),
        Command::Eval(_) => Err(CliError::NotWired { command: "eval" }),
        Command::Doctor(_) => Err(CliError::NotWired { command: "doctor" }),
        Command::Demo(_) => Err(CliError::NotWired { command: "demo" }),
    }
}

#[cfg(test)]
mod tests;
