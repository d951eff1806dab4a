//! `jurist compare`: methods side by side on the miniature, as a protocol says that was written before.
//!
//! ```text
//! protocol.toml ─► cells (task, method, seed) ─► train ─► judge four tests ─► cells/H/real/seed-1.json
//!                                                                             └─► tables, page
//! ```
//!
//! A cell is one training with its measurement. It goes through the files, settings and functions of a user's own run; its
//! JSON holds no time and no path, so that the same command gives the same bytes. What is finished is never done again.

mod cell;
mod figures;
mod page;
mod protocol;
mod statistics;
mod table;

pub use cell::{Cell, CellPaths};
pub use page::write_page;
pub use protocol::{Group, Method, Protocol, Run, TrialChoice};
pub use table::{Results, refuse_foreign_pages, write_tables};

/// Errors of a comparison: a protocol or result that cannot be used, and those of the rooms it goes through.
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
