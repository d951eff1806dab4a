//! Writing files and folders so that a reader finds the old version or the new one, never half of one. Every command writes its
//! outputs with these functions.
//!
//! - [`write()`], [`Draft`]: the file is written beside the one that it will replace, synced to the disk and renamed. It keeps
//!   the mode of the earlier file and, where the system allows it, the owner. Links are followed. A pipe or a device is written
//!   to and not replaced.
//! - [`write_own`]: the same for a name that the program chose. It replaces only a file that jurist wrote.
//! - [`replace_folder`], [`add_to_folder`], [`remove_folder`]: the same for folders. The caller decides what may be replaced.
//! - [`Growing`]: a file of rows that are computed over hours. Each row is kept from the moment it is written.
//! - [`Lock`]: one writer at a time. A second writer gets an error with the process id of the first. A lock ends with its
//!   process.
//!
//! Names of temporary files and folders begin with a dot and contain `.jurist-`; nothing else is ever removed. Those of a killed
//! process are removed by the next process that writes there; those of an interrupted one by [`remove_unfinished`].

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
pub use target::{refuse_input, remove_unfinished, require_folder, same_place};

/// Why an output cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// An output in a folder that is not there.
    #[error("cannot write {}: the folder {} does not exist; create it, or name another place", path.display(), folder.display())]
    NoFolder { path: PathBuf, folder: PathBuf },

    #[error("cannot {action} {}: {source}", path.display())]
    Io { action: &'static str, path: PathBuf, source: std::io::Error },

    #[error(
        "no space left on the disk while writing {}: free some space and repeat; what was there before is untouched",
        path.display()
    )]
    DiskFull { path: PathBuf },

    /// A file or folder that would have to be replaced, but may not be jurist's.
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
    /// An I/O error. A full disk is an error of its own, because the remedy differs.
    pub fn io(action: &'static str, path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        let path = path.into();
        match source.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => FileError::DiskFull { path },
            _ => FileError::Io { action, path, source },
        }
    }

    /// The error for a `path` that would have to be replaced, but may not be.
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
