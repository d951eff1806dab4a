//! `jurist compare`: methods compared as a protocol says that was written before the first result.
//!
//! ```text
//! protocol.toml ─► cells (task, method, seed) ─► train ─► score the splits ─► cells/H/real/seed-1.json
//!                                                                             └─► tables, page
//! ```
//!
//! A task is a version of the synthetic one, whose judges start from random weights, or files of rows, whose judges are adapters
//! of a pretrained model ([`file_cells`], [`task_rows`], [`file_table`]).
//!
//! The protocol spans a grid of tasks, methods and seeds. A cell of the grid is one training with its measurement. It goes
//! through the files, settings and functions of a user's own run. Its JSON holds no time and no path, so that the same command
//! gives the same bytes. A finished cell is never run again.

mod cell;
mod comparison;
mod estimate;
mod file_cells;
mod file_table;
mod kept_protocol;
mod metrics;
mod page;
mod protocol;
mod statistics;
mod table;
mod task_rows;
mod tasks;

pub use cell::{CellResult, SplitResult};
pub use comparison::Comparison;
pub use estimate::{Estimate, estimate};
pub use page::write_page;
pub use protocol::{CellId, ComparedMethod, Group, Protocol, Run};
pub use table::{Results, refuse_foreign_pages, write_tables};

/// Errors of a comparison: a protocol or result that cannot be used, and those of the modules that it calls.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    #[error("{protocol}: {found}")]
    Protocol { protocol: String, found: String },
    #[error("cannot {action} {}", path.display())]
    File { action: &'static str, path: std::path::PathBuf, source: std::io::Error },
    #[error("{}: {found}", path.display())]
    Result { path: std::path::PathBuf, found: String },
    #[error("{0}")]
    Cell(String),
    #[error(transparent)]
    Files(#[from] crate::files::FileError),
    #[error(transparent)]
    Train(#[from] crate::train::TrainError),
    #[error(transparent)]
    Judge(#[from] crate::judge::JudgeError),
    #[error(transparent)]
    Demo(#[from] crate::experiments::demo::DemoError),
    #[error(transparent)]
    Eval(#[from] crate::eval::EvalError),
}

impl From<crate::train::config::SettingError> for CompareError {
    fn from(error: crate::train::config::SettingError) -> Self {
        CompareError::Train(error.into())
    }
}

fn file_error(action: &'static str, path: &std::path::Path) -> impl FnOnce(std::io::Error) -> CompareError {
    let path = path.to_path_buf();
    move |source| CompareError::File { action, path, source }
}
