//! Files and folders that are either there as a whole or not at all: written under a temporary name beside their place,
//! synced, then renamed. A process that is killed leaves at most a temporary name behind.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::TrainError;

/// Begins the name of a file or folder that is being written.
pub const BEING_WRITTEN: &str = ".tmp-";
/// Begins the name of a folder that is being deleted.
pub const BEING_DELETED: &str = ".old-";

/// Makes `path` a folder with what `fill` writes into the (temporary) folder it is handed. A folder that was there
/// before is replaced. When `fill` fails nothing is left behind and what was there stays.
pub fn atomic_dir(path: &Path, fill: impl FnOnce(&Path) -> Result<(), TrainError>) -> Result<(), TrainError> {
    let temporary = beside(path, BEING_WRITTEN)?;
    remove_if_there(&temporary)?;
    fs::create_dir_all(&temporary).map_err(|e| io_error("create", &temporary, e))?;
    if let Err(error) = fill(&temporary) {
        // The first error is the news; a leftover is cleaned at the next start.
        let _ = fs::remove_dir_all(&temporary);
        return Err(error);
    }
    sync_tree(&temporary)?;
    // A folder cannot be renamed onto one that is not empty: what is there steps aside first.
    let aside = if path.exists() { Some(set_aside(path)?) } else { None };
    fs::rename(&temporary, path).map_err(|e| io_error("rename the finished folder to", path, e))?;
    sync_parent(path)?;
    aside.map_or(Ok(()), |aside| remove_if_there(&aside))
}

/// Makes `path` a file with these bytes, replacing one that was there.
pub fn atomic_file(path: &Path, bytes: &[u8]) -> Result<(), TrainError> {
    let temporary = beside(path, BEING_WRITTEN)?;
    let write = || -> io::Result<()> {
        let mut file = File::create(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    write().map_err(|e| io_error("write", path, e))?;
    sync_parent(path)
}

/// Deletes a folder so that it is never seen half deleted under its own name.
pub fn remove_dir(path: &Path) -> Result<(), TrainError> {
    let aside = set_aside(path)?;
    sync_parent(path)?;
    remove_if_there(&aside)
}

/// Deletes what killed processes left in `dir`: temporary names of things that `ours` recognises by their final name.
/// Returns what was deleted.
pub fn clean_leftovers(dir: &Path, ours: impl Fn(&str) -> bool) -> Result<Vec<PathBuf>, TrainError> {
    let mut cleaned = Vec::new();
    for entry in fs::read_dir(dir).map_err(|e| io_error("list", dir, e))? {
        let path = entry.map_err(|e| io_error("list", dir, e))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let meant = name.strip_prefix(BEING_WRITTEN).or_else(|| name.strip_prefix(BEING_DELETED));
        if meant.is_some_and(&ours) {
            remove_if_there(&path)?;
            cleaned.push(path);
        }
    }
    cleaned.sort();
    Ok(cleaned)
}

/// An IO error with what was being done and to what.
pub(super) fn io_error(action: &'static str, path: &Path, source: io::Error) -> TrainError {
    TrainError::Io { action, path: path.into(), source }
}

fn beside(path: &Path, prefix: &str) -> Result<PathBuf, TrainError> {
    let Some(name) = path.file_name() else {
        let source = io::Error::new(io::ErrorKind::InvalidInput, "the path has no name of its own");
        return Err(io_error("write", path, source));
    };
    let mut temporary = std::ffi::OsString::from(prefix);
    temporary.push(name);
    Ok(path.with_file_name(temporary))
}

fn set_aside(path: &Path) -> Result<PathBuf, TrainError> {
    let aside = beside(path, BEING_DELETED)?;
    remove_if_there(&aside)?;
    fs::rename(path, &aside).map_err(|e| io_error("move aside", path, e))?;
    Ok(aside)
}

fn remove_if_there(path: &Path) -> Result<(), TrainError> {
    let result = match fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e),
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
    };
    result.map_err(|e| io_error("delete", path, e))
}

/// Has every file and folder below `dir` reach the disk.
fn sync_tree(dir: &Path) -> Result<(), TrainError> {
    for entry in fs::read_dir(dir).map_err(|e| io_error("list", dir, e))? {
        let path = entry.map_err(|e| io_error("list", dir, e))?.path();
        if path.is_dir() {
            sync_tree(&path)?;
        } else {
            // Windows syncs only what was opened for writing; elsewhere a read-only file (copied with its mode) syncs too.
            let file = OpenOptions::new().read(true).write(cfg!(windows)).open(&path).map_err(|e| io_error("open", &path, e))?;
            file.sync_all().map_err(|e| io_error("sync", &path, e))?;
        }
    }
    sync_dir(dir)
}

fn sync_parent(path: &Path) -> Result<(), TrainError> {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => sync_dir(Path::new(".")),
        Some(parent) => sync_dir(parent),
        None => Ok(()),
    }
}

/// A rename lasts once the folder that holds the name is synced. Windows has no such call and needs none.
fn sync_dir(dir: &Path) -> Result<(), TrainError> {
    if cfg!(unix) {
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(|e| io_error("sync", dir, e))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn write(name: &'static str, text: &'static str) -> impl FnOnce(&Path) -> Result<(), TrainError> {
        move |dir| fs::write(dir.join(name), text).map_err(|e| io_error("write", dir, e))
    }

    #[test]
    fn a_folder_is_there_as_a_whole_or_not_at_all() {
        let root = tempfile::tempdir().unwrap();
        let target = root.path().join("thing");
        fs::create_dir(root.path().join(".tmp-thing")).unwrap();
        fs::write(root.path().join(".tmp-thing/stale"), "x").unwrap();
        atomic_dir(&target, write("a", "1")).unwrap();
        assert_eq!((names(root.path()), names(&target)), (vec!["thing".into()], vec!["a".into()]));

        let refused = atomic_dir(&target, |dir| {
            fs::write(dir.join("b"), "half").unwrap();
            Err(TrainError::NoRows { why: "test".into() })
        });
        assert!(refused.is_err());
        assert_eq!((names(root.path()), names(&target)), (vec!["thing".into()], vec!["a".into()]));

        atomic_dir(&target, write("b", "2")).unwrap();
        assert_eq!((names(root.path()), names(&target)), (vec!["thing".into()], vec!["b".into()]));
        remove_dir(&target).unwrap();
        assert!(names(root.path()).is_empty());
    }

    #[test]
    fn files_are_replaced() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("f");
        atomic_file(&path, b"1").unwrap();
        atomic_file(&path, b"22").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"22");
        assert_eq!(names(root.path()), ["f"]);
        let message = atomic_file(&root.path().join("no/f"), b"").unwrap_err().to_string();
        assert!(message.starts_with("cannot write "), "{message}");
    }

    #[test]
    fn only_our_leftovers_are_cleaned() {
        let root = tempfile::tempdir().unwrap();
        for name in [".tmp-mine", ".old-mine", ".tmp-yours", "mine"] {
            fs::create_dir(root.path().join(name)).unwrap();
        }
        fs::write(root.path().join(".tmp-mine2"), "").unwrap();
        let cleaned = clean_leftovers(root.path(), |name| name.starts_with("mine")).unwrap();
        assert_eq!(cleaned.len(), 3);
        assert_eq!(names(root.path()), [".tmp-yours", "mine"]);
    }
}
