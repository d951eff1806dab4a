//! The room of outputs: how every command writes its files and folders.
//!
//! - [`write()`], [`Draft`]: a file is written beside the one that it will replace, brought to the disk and renamed. The mode
//!   and, where the system allows, the owner of what was there are kept; links are followed; a pipe or a device is written
//!   to and not replaced.
//! - [`write_own`]: the same for a name that the program chose by itself. It replaces only what it wrote itself.
//! - [`replace_folder`], [`add_to_folder`], [`remove_folder`]: a folder appears whole or not at all, and at every moment a reader
//!   finds the old one or the new one. Whoever calls says what may be replaced.
//! - [`Growing`]: rows that are made over hours, each kept as soon as it is there.
//! - [`Lock`]: one writer at a time; the next one hears its process id. A lock ends with its process.
//!
//! Names of what is under way begin with a dot and hold `.jurist-`; nothing else is ever removed. What a killed process left
//! is removed by the next one that writes there, and what an interrupted one would leave by [`remove_unfinished`].

mod crash;
mod draft;
mod folder;
mod growing;
mod lock;
mod target;

use std::path::{Path, PathBuf};

pub use crash::crash_point;
pub use draft::{Draft, refuse_foreign, write, write_own};
pub use folder::{add_to_folder, clean, empty, recover, remove_folder, replace_folder, same_bytes};
pub use growing::{Growing, changes, companions, is_unfinished, open_stream};
pub use lock::Lock;
pub use target::{refuse_input, remove_unfinished, same_place};

/// What keeps an output from being written.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("cannot {action} {}: {source}", path.display())]
    Io { action: &'static str, path: PathBuf, source: std::io::Error },

    #[error(
        "no space left on the disk while writing {}: free some space and repeat; what was there before is untouched",
        path.display()
    )]
    DiskFull { path: PathBuf },

    /// Something that would have to be replaced and that nobody proved to be ours.
    #[error("{} is in the way: {problem}", path.display())]
    InTheWay { path: PathBuf, problem: String },

    /// An output that is also an input.
    #[error("{}: the output is the same file as {input}, which would be overwritten; choose another output", path.display())]
    IsInput { path: PathBuf, input: String },

    #[error(
        "another jurist{} is writing {}; wait for it, or choose another place",
        pid.map_or(String::new(), |pid| format!(" (process {pid})")),
        path.display()
    )]
    Locked { path: PathBuf, pid: Option<u32> },
}

impl FileError {
    /// An input or output error, with a full disk told apart because the remedy differs.
    pub fn io(action: &'static str, path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        let path = path.into();
        match source.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => FileError::DiskFull { path },
            _ => FileError::Io { action, path, source },
        }
    }

    /// `path` would have to be replaced, and may not.
    pub fn in_the_way(path: impl Into<PathBuf>, problem: impl Into<String>) -> Self {
        FileError::InTheWay { path: path.into(), problem: problem.into() }
    }
}

/// Makes the entries of a folder durable. Windows has no such call and does not need it.
fn sync_dir(dir: &Path) -> Result<(), FileError> {
    if cfg!(unix) {
        let handle = std::fs::File::open(dir).map_err(|e| FileError::io("open", dir, e))?;
        handle.sync_all().map_err(|e| FileError::io("sync", dir, e))?;
    }
    Ok(())
}
