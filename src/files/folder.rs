//! Folders that appear and are replaced as a whole.
//!
//! ```text
//! lock      .NAME.jurist-lock
//! write     .NAME.jurist-new-PID       files, then sync them and the folder
//! exchange  .NAME.jurist-new-PID  <->  NAME             in one step: NAME exists at every moment
//! remove    .NAME.jurist-new-PID       which is now the old folder
//! ```
//!
//! Where the system cannot exchange two names, two renames do it, with the old folder at `.NAME.jurist-old-PID`. If the process
//! is killed between them, `NAME` is missing. [`recover`], which every reader may call, then renames the new folder, which is
//! complete, to `NAME`.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::lock::Lock;
use super::target::{Sibling, Target, Unfinished, publishing};
use super::{FileError, crash_point, sync_dir};

/// Fills a new folder beside `path` with `fill`, syncs it to the disk and renames it to `path`. An earlier folder is replaced as
/// a whole; unless it is empty, `may_replace` must agree. On any error the earlier folder stays unchanged, and nothing is left
/// beside it.
///
/// # Errors
/// Those of `fill` and `may_replace`; a file of that name; a folder that another process is writing; a full disk.
pub fn replace_folder<E: From<FileError>>(
    path: &Path,
    may_replace: impl FnOnce(&Path) -> Result<(), E>,
    fill: impl FnOnce(&Path) -> Result<(), E>,
) -> Result<(), E> {
    let target = folder_target(path)?;
    fs::create_dir_all(&target.parent).map_err(|e| FileError::io("create", &target.parent, e))?;
    let lock = Lock::beside(&target.path)?;
    clean_up(&target, &lock)?;
    if !empty(&target.path)? {
        may_replace(&target.path)?;
    }
    let new = target.sibling(Sibling::New);
    let _unfinished = Unfinished::new(&new);
    let filled = fill_folder(&new, fill);
    crash_point("folder-filled");
    let replaced = filled.and_then(|()| swap(&target, &new, exchange, &mut |_| {}).map_err(E::from));
    if replaced.is_err() {
        let _ = remove(&new); // the first error is the one to report
    }
    replaced
}

/// Fills a temporary folder in `dir` with `fill`, syncs it to the disk and moves its files up into `dir`, the file `last` at the
/// end. Existing files must have the same bytes, or `may_replace` must agree. The caller holds the lock of `dir`.
///
/// # Errors
/// Those of `fill`; a file in the way; a full disk. The new files are then removed.
pub fn add_to_folder<E: From<FileError>>(
    dir: &Path,
    (last, may_replace): (&str, &dyn Fn(&Path) -> bool),
    fill: impl FnOnce(&Path) -> Result<(), E>,
) -> Result<(), E> {
    let new = Target::of(&dir.join("files"))?.sibling(Sibling::New);
    let _unfinished = Unfinished::new(&new);
    remove(&new)?;
    let filled = fill_folder(&new, fill);
    crash_point("files-filled");
    let added = filled.and_then(|()| move_up(&new, dir, (last, may_replace)).map_err(E::from));
    if added.is_err() {
        let _ = remove(&new); // the first error is the one to report
    }
    added
}

fn move_up(new: &Path, dir: &Path, (last, may_replace): (&str, &dyn Fn(&Path) -> bool)) -> Result<(), FileError> {
    let mut files = entries(new)?;
    files.sort_by_key(|file| (file.file_name().is_some_and(|name| name == last), file.clone()));
    let destination = |file: &Path| dir.join(file.file_name().unwrap_or_default());
    for file in &files {
        let existing = destination(file);
        if existing.exists() && !may_replace(&existing) && !same_bytes(file, &existing) {
            return Err(FileError::in_the_way(existing, "it was not there when the work began; move it away and repeat"));
        }
    }
    // The last file shows that all others are there, so an earlier one is removed first.
    let last_file = dir.join(last);
    publishing(|| {
        if last_file.is_file() && new.join(last).is_file() {
            fs::remove_file(&last_file).map_err(|e| FileError::io("replace", &last_file, e))?;
        }
        files.iter().try_for_each(|file| {
            if file.file_name().is_some_and(|name| name == last) {
                crash_point("files-but-the-last");
            }
            fs::rename(file, destination(file)).map_err(|e| FileError::io("write", destination(file), e))
        })
    })?;
    crash_point("files-moved");
    sync_dir(dir)?;
    remove(new)
}

/// Whether two paths are files with the same bytes. They are read in parallel up to the first difference.
pub fn same_bytes(a: &Path, b: &Path) -> bool {
    let length = |path: &Path| fs::metadata(path).ok().filter(Metadata::is_file).map(|metadata| metadata.len());
    length(a).is_some() && length(a) == length(b) && same_streams(a, b).unwrap_or(false)
}

fn same_streams(a: &Path, b: &Path) -> io::Result<bool> {
    let [mut a, mut b] = [File::open(a)?, File::open(b)?];
    let mut chunks = [Vec::new(), Vec::new()];
    loop {
        for (file, chunk) in [&mut a, &mut b].into_iter().zip(&mut chunks) {
            chunk.clear();
            file.take(1 << 20).read_to_end(chunk)?;
        }
        match (chunks[0] == chunks[1], chunks[0].is_empty()) {
            (false, _) => return Ok(false),
            (true, true) => return Ok(true),
            (true, false) => {}
        }
    }
}

/// Removes a folder. It is renamed first, so that a reader never finds half of it. The caller decides that it may be removed.
///
/// # Errors
/// Those of the system.
pub fn remove_folder(path: &Path) -> Result<(), FileError> {
    let target = folder_target(path)?;
    let renamed = target.sibling(Sibling::New);
    remove(&renamed)?;
    rename(&target.path, &renamed)?;
    crash_point("folder-set-aside");
    sync_dir(&target.parent)?;
    remove(&renamed)
}

/// Completes the replacement of the folder `path` if a process was killed between its two renames.
///
/// # Errors
/// Those of the system.
pub fn recover(path: &Path) -> Result<(), FileError> {
    if path.exists() {
        return Ok(());
    }
    let Ok(target) = Target::of(path) else { return Ok(()) };
    // If the parent cannot be listed, the reader will report that the folder does not exist.
    if target.leftovers(Sibling::Old).unwrap_or_default().is_empty() {
        return Ok(());
    }
    match Lock::beside(path) {
        // Its writer is alive and will complete the replacement.
        Err(FileError::Locked { .. }) => Ok(()),
        lock => clean_up(&target, &lock?),
    }
}

/// Cleans up what killed processes left in `dir` of folders whose names `ours` recognises. The caller holds the lock of `dir`.
///
/// # Errors
/// Those of the system.
pub fn clean(dir: &Path, lock: &Lock, ours: impl Fn(&str) -> bool) -> Result<(), FileError> {
    for entry in entries(dir)? {
        let name = entry.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        let temporary = name.strip_prefix('.').and_then(|name| name.split_once(".jurist-"));
        if let Some((name, _)) = temporary.filter(|(name, _)| *name == "files" || ours(name)) {
            clean_up(&Target::of(&dir.join(name))?, lock)?;
            // Taking and dropping the lock of a killed writer removes its file.
            if lock.is_exclusive() {
                drop(Lock::beside(&dir.join(name)));
            }
        }
    }
    Ok(())
}

/// Removes what dead writers left, and completes the replacement that one of them began. The lock, if it is exclusive, guarantees
/// that no process is writing.
fn clean_up(target: &Target, lock: &Lock) -> Result<(), FileError> {
    if !lock.is_exclusive() {
        return Ok(());
    }
    for old in target.leftovers(Sibling::Old)? {
        if !target.path.exists() {
            let new = target.leftovers(Sibling::New)?.into_iter().find(|new| pid_of(new) == pid_of(&old));
            rename(new.as_deref().unwrap_or(&old), &target.path)?;
            sync_dir(&target.parent)?;
        }
        remove(&old)?;
    }
    target.leftovers(Sibling::New)?.iter().try_for_each(|new| remove(new))
}

fn pid_of(path: &Path) -> Option<&str> {
    path.to_str().and_then(|p| p.rsplit_once('-')).map(|(_, pid)| pid)
}

/// The target at `path`, after checking that it is not a file.
fn folder_target(path: &Path) -> Result<Target, FileError> {
    let target = Target::of(path)?;
    match target.path.exists() && !target.path.is_dir() {
        true => Err(FileError::in_the_way(path, "it is a file; expected a folder or nothing")),
        false => Ok(target),
    }
}

/// Whether a folder is empty or does not exist.
///
/// # Errors
/// A folder that cannot be listed.
pub fn empty(dir: &Path) -> Result<bool, FileError> {
    Ok(!dir.exists() || entries(dir)?.is_empty())
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>, FileError> {
    let entries = fs::read_dir(dir).and_then(|entries| entries.map(|e| e.map(|e| e.path())).collect());
    entries.map_err(|e| FileError::io("list", dir, e))
}

/// Creates the folder `new`, fills it with `fill` and syncs it to the disk.
fn fill_folder<E: From<FileError>>(new: &Path, fill: impl FnOnce(&Path) -> Result<(), E>) -> Result<(), E> {
    fs::create_dir(new).map_err(|e| FileError::io("create", new, e))?;
    fill(new)?;
    Ok(sync_tree(new)?)
}

/// The steps of [`swap`], for tests that interrupt it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SwapStep {
    Before,
    OldMoved,
    Replaced,
    Done,
}

/// Replaces the target with the folder `new`.
fn swap(
    target: &Target,
    new: &Path,
    exchange: fn(&Path, &Path) -> io::Result<()>,
    on_step: &mut dyn FnMut(SwapStep),
) -> Result<(), FileError> {
    on_step(SwapStep::Before);
    let old = give_name(target, new, exchange, on_step)?;
    crash_point("folder-named");
    let Some(old) = old else { return sync_dir(&target.parent) };
    on_step(SwapStep::Replaced);
    sync_dir(&target.parent)?;
    let _ = remove(&old); // the new folder is in place; the next writer removes the old one
    on_step(SwapStep::Done);
    Ok(())
}

/// Renames `new` to the target's name. Returns the path of the folder that had this name, if there was one.
fn give_name(
    target: &Target,
    new: &Path,
    exchange: fn(&Path, &Path) -> io::Result<()>,
    on_step: &mut dyn FnMut(SwapStep),
) -> Result<Option<PathBuf>, FileError> {
    if !target.path.exists() {
        rename(new, &target.path)?;
        return Ok(None);
    }
    if let Ok(before) = fs::metadata(&target.path) {
        let _ = fs::set_permissions(new, before.permissions()); // on an error the new folder keeps its own mode
    }
    match publishing(|| exchange(new, &target.path)) {
        Ok(()) => Ok(Some(new.to_path_buf())),
        Err(e) if is_unsupported(&e) => {
            let old = target.sibling(Sibling::Old);
            rename(&target.path, &old)?;
            on_step(SwapStep::OldMoved);
            if let Err(error) = rename(new, &target.path) {
                rename(&old, &target.path)?;
                return Err(error);
            }
            Ok(Some(old))
        }
        Err(e) => Err(FileError::io("replace", &target.path, e)),
    }
}

/// Exchanges two names in one step.
#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
fn exchange(a: &Path, b: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    Ok(renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE)?)
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
fn exchange(_: &Path, _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Whether the system or the file system cannot exchange names. File systems that do not know the flag return `EINVAL`.
fn is_unsupported(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::Unsupported | io::ErrorKind::InvalidInput)
}

fn rename(from: &Path, to: &Path) -> Result<(), FileError> {
    publishing(|| fs::rename(from, to)).map_err(|e| FileError::io("rename", from, e))
}

/// Removes a folder or file if it exists.
fn remove(path: &Path) -> Result<(), FileError> {
    let removed = if path.is_dir() && !path.is_symlink() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(FileError::io("remove", path, e)),
        _ => Ok(()),
    }
}

/// Syncs `dir` and everything in it to the disk.
fn sync_tree(dir: &Path) -> Result<(), FileError> {
    for path in entries(dir)? {
        if path.is_dir() {
            sync_tree(&path)?;
        } else {
            // Windows syncs only files that are open for writing. Elsewhere a read-only file (copied with its mode) syncs too.
            let file: File =
                OpenOptions::new().read(true).write(cfg!(windows)).open(&path).map_err(|e| FileError::io("open", &path, e))?;
            file.sync_all().map_err(|e| FileError::io("sync", &path, e))?;
        }
    }
    sync_dir(dir)
}

#[cfg(test)]
#[path = "folder_tests.rs"]
mod tests;
