//! Errors as the user meets them: one line, causes chained, and an exit code.

use std::error::Error;
use std::io;
use std::path::PathBuf;

use super::printable::{printable, shortened};
use crate::ranks::RankError;
use crate::train::TrainError;

/// What ends a command early.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    #[error(transparent)]
    Train(#[from] TrainError),

    #[error(transparent)]
    Ranks(#[from] RankError),
    #[error(transparent)]
    Gpu(#[from] crate::gpu::GpuError),
    #[error(transparent)]
    Judge(#[from] crate::judge::JudgeError),
    #[error(transparent)]
    Data(#[from] crate::data::DataError),
    #[error(transparent)]
    Eval(#[from] crate::eval::EvalError),
    #[error(transparent)]
    Demo(#[from] crate::experiments::demo::DemoError),
    #[error(transparent)]
    Compare(#[from] crate::experiments::compare::CompareError),
    #[error(transparent)]
    Doctor(#[from] crate::doctor::DoctorError),

    /// A flag that cannot be used, found after the flags were read.
    #[error("{0}")]
    Usage(String),
    #[error(transparent)]
    Bench(#[from] crate::bench::BenchError),

    /// A check found what should not be; its table is already printed.
    #[error("{0}")]
    Failed(String),

    /// Requirements that are not met, or drift; the figures are already printed.
    #[error("{0}")]
    Gate(String),

    /// An output cannot be written.
    #[error(transparent)]
    Files(#[from] crate::files::FileError),

    /// The config file cannot be read.
    #[error("cannot read the config file {}", path.display())]
    ConfigFile { path: PathBuf, source: io::Error },

    /// Ctrl-C in `train`; the work so far is in a checkpoint.
    #[error("interrupted; the run continues from {} with --resume", checkpoint.display())]
    Interrupted { checkpoint: PathBuf },

    /// Ctrl-C elsewhere; the text says where the work so far is.
    #[error("interrupted; {0}")]
    Stopped(String),

    /// Results cannot be written.
    #[error("cannot write the results")]
    Output { source: io::Error },

    /// The system refuses a handler for Ctrl-C.
    #[error("cannot watch for Ctrl-C")]
    Signal { source: ctrlc::Error },
}

impl From<crate::train::config::SettingError> for CliError {
    fn from(error: crate::train::config::SettingError) -> Self {
        CliError::Train(error.into())
    }
}

impl CliError {
    /// 1 failed, 2 command or config, 3 a gate that is not passed, 130 interrupted; 0 where only the reader of our output has gone.
    pub fn exit_code(&self) -> u8 {
        match self {
            CliError::Train(error) if error.is_usage() => 2,
            CliError::ConfigFile { .. } | CliError::Usage(_) => 2,
            CliError::Eval(error) if error.is_usage() => 2,
            CliError::Compare(crate::experiments::compare::CompareError::Protocol { .. }) => 2,
            CliError::Bench(error) if error.is_usage() => 2,
            CliError::Gate(_) => 3,
            CliError::Interrupted { .. } | CliError::Stopped(_) => 130,
            CliError::Output { source } if source.kind() == io::ErrorKind::BrokenPipe => 0,
            _ => 1,
        }
    }

    /// The error, if it is one of working in several ranks.
    pub fn of_ranks(&self) -> Option<&RankError> {
        match self {
            CliError::Ranks(error) | CliError::Train(TrainError::Ranks(error)) => Some(error),
            _ => None,
        }
    }

    /// Whether all ranks end so, in an orderly way.
    pub fn is_orderly(&self) -> bool {
        matches!(self.exit_code(), 0 | 3 | 130)
    }

    /// The error and its causes as they are shown: they cannot steer a terminal, and do not fill it. `None` when there is nothing
    /// to tell (`jurist score ... | head`).
    pub fn message(&self) -> Option<String> {
        let mut message = (self.exit_code() != 0).then(|| chain(self))?;
        if is_disk_full(self) && !message.contains(FREE_SPACE) {
            let then = if matches!(self, CliError::Train(_)) { "continue with --resume" } else { "repeat" };
            message = format!("{message}; {FREE_SPACE} and {then}");
        }
        Some(shortened(&printable(&message)).into_owned())
    }
}

/// What to do about a full disk, as the errors say that know of it themselves.
const FREE_SPACE: &str = "free some space";

/// Whether an error or one of its causes is that of a full disk.
fn is_disk_full(error: &(dyn Error + 'static)) -> bool {
    use io::ErrorKind::{QuotaExceeded, StorageFull};
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.downcast_ref::<io::Error>().is_some_and(|e| matches!(e.kind(), StorageFull | QuotaExceeded)) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// An error and its causes, joined by colons. A cause that its parent has already told is left out.
pub fn chain(error: &dyn Error) -> String {
    let mut message = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let told = error.to_string();
        if !message.contains(&told) {
            message = format!("{message}: {told}");
        }
        cause = error.source();
    }
    message
}
