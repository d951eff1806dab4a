//! The errors of training.

use std::path::PathBuf;

use super::config::{SettingError, SettingSource};

/// Any error of a closure that the caller passed in.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What can go wrong while a run is configured, trained, or saved.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// A setting that is unknown, malformed, out of range, missing, or in conflict with another.
    #[error(transparent)]
    Setting(#[from] SettingError),

    /// The config file is not TOML. `message` contains line, column and the offending text.
    #[error("{origin} is not valid TOML: {message}")]
    Toml { origin: SettingSource, message: String },

    /// A file or folder could not be read or written.
    #[error("cannot {action} {}", path.display())]
    Io { action: &'static str, path: PathBuf, source: std::io::Error },

    /// An output that cannot be written, or a file in its place that this program did not write.
    #[cfg(not(target_arch = "wasm32"))]
    #[error(transparent)]
    Files(#[from] crate::files::FileError),

    /// Nothing to train on.
    #[error("no training rows are left; {why}")]
    NoRows { why: String },

    /// The data or settings differ from those of the checkpoint.
    #[error("cannot resume: {what}; resume with the data and settings of the first run, or start again in another output_dir")]
    ResumeMismatch { what: String },

    /// An example that cannot be packed, named by its index.
    #[error("example {example}: {problem}")]
    Example { example: usize, problem: String },

    /// More tokens than the packed batch was planned for.
    #[error("the batch needs {needed} tokens but {budget} were planned; lower per_device_train_batch_size or max_length")]
    Budget { needed: usize, budget: usize },

    /// More micro-batches in a step than its sum was planned for.
    #[error("the sum of gradients needs room for {needed} batches but {budget} were planned")]
    MicroBatches { needed: usize, budget: usize },

    /// The run needs more memory than a software adapter may take.
    #[error("{0}")]
    Memory(String),

    /// Too many steps in a row without a usable gradient.
    #[error(
        "the gradient was not finite in {} in a row, up to step {step}; the model is as it was before them. \
         Lower learning_rate, check the data, or resume from an earlier checkpoint",
        count_steps(.steps)
    )]
    Diverged { steps: u64, step: u64 },

    /// No step changed the model.
    #[error(
        "no step changed the model: no gradient was finite in {}; no judge is written. Check the labels and the \
         scale (scores as large as 1e300 have no finite square), or lower learning_rate",
        count_steps(.steps)
    )]
    Untrained { steps: u64 },

    /// Another rank failed, or the ranks do not fit together.
    #[error(transparent)]
    Ranks(#[from] crate::ranks::RankError),

    /// Errors of the modules that training uses.
    #[error(transparent)]
    Model(#[from] crate::model::error::ModelError),
    #[error(transparent)]
    Judge(#[from] crate::judge::JudgeError),
    #[error(transparent)]
    Text(#[from] crate::text::TextError),
    #[error(transparent)]
    Data(#[from] crate::data::DataError),

    /// A checkpoint that is damaged or belongs to another model.
    #[error("checkpoint {}: {problem}", path.display())]
    Checkpoint { path: PathBuf, problem: String },

    /// A closure of the caller failed while a checkpoint was written or read.
    #[error("cannot {action} {}", path.display())]
    Inside { action: &'static str, path: PathBuf, source: BoxError },
}

impl TrainError {
    /// True if the user's command or config is at fault (exit code 2) and not the run (exit code 1).
    pub fn is_usage(&self) -> bool {
        matches!(self, TrainError::Setting(_) | TrainError::Toml { .. })
    }
}

/// An IO error with the action and its path.
#[cfg(not(target_arch = "wasm32"))]
pub(super) fn io_error(action: &'static str, path: &std::path::Path, source: std::io::Error) -> TrainError {
    TrainError::Io { action, path: path.into(), source }
}

fn count_steps(steps: &u64) -> String {
    crate::words::count(*steps, "step")
}
