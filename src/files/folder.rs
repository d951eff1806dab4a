//! Folders that are there as a whole or not at all.
//!
//! ```text
//! lock      .NAME.jurist-lock
//! write     .NAME.jurist-new-PID       files, then sync them, then the folder
//! exchange  .NAME.jurist-new-PID  <->  NAME             in one step: NAME is there at every moment
//! remove    .NAME.jurist-new-PID       which now is the old one
//! ```
//!
//! Where the system cannot exchange two names, two renames do it with `.NAME.jurist-old-PID` between them. Killed there,
//! `NAME` is missing until [`recover`], which every reader may call, gives the name to the new folder: it is complete.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::lock::Lock;
use super::target::{Kind, Target, Unfinished, publishing};
use super::{FileError, crash_point, sync_dir};

/// Fills a folder beside `path` by `fill`, brings it to the disk and gives it the name `path`. What was there is replaced as a
/// whole, unless it is empty only where `may_replace` agrees. On any error it is untouched, and nothing is left beside it.
///
/// # Errors
/// Those of `fill` and `may_replace`; a file of that name; a folder that another process writes; a full disk.
pub fn replace_folder<E: From<FileError>>(
    path: &Path,
    may_replace: impl FnOnce(&Path) -> Result<(), E>,
    fill: impl FnOnce(&Path) -> Result<(), E>,
) -> Result<(), E> {
    let target = folder(path)?;
    fs::create_dir_all(&target.parent).map_err(|e| FileError::io("create", &target.parent, e))?;
    let lock = Lock::beside(&target.path)?;
    tidy(&target, &lock)?;
    if !empty(&target.path)? {
        may_replace(&target.path)?;
    }
    let new = target.aside(Kind::New);
    let _unfinished = Unfinished::new(&new);
    let made = filled(&new, fill);
    crash_point("folder-filled");
    let made = made.and_then(|()| swap(&target, &new, exchange, &mut |_| {}).map_err(E::from));
    if made.is_err() {
        let _ = remove(&new); // the first error is the one to report
    }
    made
}

/// Fills a folder in `dir` by `fill`, brings it to the disk and moves its files up into `dir`, the one called `last` as the last.
/// A file that is there already must have the same bytes or be one that `may_replace` knows. `dir` is locked by the caller.
///
/// # Errors
/// Those of `fill`; a file in the way; a full disk. What was filled is then removed.
pub fn add_to_folder<E: From<FileError>>(
    dir: &Path,
    (last, may_replace): (&str, &dyn Fn(&Path) -> bool),
    fill: impl FnOnce(&Path) -> Result<(), E>,
) -> Result<(), E> {
    let new = Target::of(&dir.join("files"))?.aside(Kind::New);
    let _unfinished = Unfinished::new(&new);
    remove(&new)?;
    let made = filled(&new, fill);
    crash_point("files-filled");
    let made = made.and_then(|()| move_up(&new, dir, (last, may_replace)).map_err(E::from));
    if made.is_err() {
        let _ = remove(&new); // the first error is the one to report
    }
    made
}

fn move_up(new: &Path, dir: &Path, (last, may_replace): (&str, &dyn Fn(&Path) -> bool)) -> Result<(), FileError> {
    let mut files = entries(new)?;
    files.sort_by_key(|file| (file.file_name().is_some_and(|name| name == last), file.clone()));
    let place = |file: &Path| dir.join(file.file_name().unwrap_or_default());
    for file in &files {
        let there = place(file);
        if there.exists() && !may_replace(&there) && !same_bytes(file, &there) {
            return Err(FileError::in_the_way(there, "it was not there when the work began; move it away and repeat"));
        }
    }
    // Where it is there, all of its files are.
    let end = dir.join(last);
    publishing(|| {
        if end.is_file() && new.join(last).is_file() {
            fs::remove_file(&end).map_err(|e| FileError::io("replace", &end, e))?;
        }
        files.iter().try_for_each(|file| {
            if file.file_name().is_some_and(|name| name == last) {
                crash_point("files-but-the-last");
            }
            fs::rename(file, place(file)).map_err(|e| FileError::io("write", place(file), e))
        })
    })?;
    crash_point("files-moved");
    sync_dir(dir)?;
    remove(new)
}

/// Whether two paths are files of the same bytes. They are read side by side, up to the first difference.
pub fn same_bytes(a: &Path, b: &Path) -> bool {
    let length = |path: &Path| fs::metadata(path).ok().filter(Metadata::is_file).map(|found| found.len());
    length(a).is_some() && length(a) == length(b) && same_streams(a, b).unwrap_or(false)
}

fn same_streams(a: &Path, b: &Path) -> io::Result<bool> {
    let [mut a, mut b] = [File::open(a)?, File::open(b)?];
    let mut pieces = [Vec::new(), Vec::new()];
    loop {
        for (file, piece) in [&mut a, &mut b].into_iter().zip(&mut pieces) {
            piece.clear();
            file.take(1 << 20).read_to_end(piece)?;
        }
        match (pieces[0] == pieces[1], pieces[0].is_empty()) {
            (false, _) => return Ok(false),
            (true, true) => return Ok(true),
            (true, false) => {}
        }
    }
}

/// Removes a folder, which is never seen half removed under its own name. Whoever calls knows that it may go.
///
/// # Errors
/// What the system refuses.
pub fn remove_folder(path: &Path) -> Result<(), FileError> {
    let target = folder(path)?;
    let gone = target.aside(Kind::New);
    remove(&gone)?;
    rename(&target.path, &gone)?;
    crash_point("folder-set-aside");
    sync_dir(&target.parent)?;
    remove(&gone)
}

/// Gives a folder that a killed process took the name of its name back, where the system could not exchange the two.
///
/// # Errors
/// What the system refuses.
pub fn recover(path: &Path) -> Result<(), FileError> {
    if path.exists() {
        return Ok(());
    }
    let Ok(target) = Target::of(path) else { return Ok(()) };
    // Where nothing can be listed, nothing can be said either: the reader says that the folder is not there.
    if target.leftovers(Kind::Old).unwrap_or_default().is_empty() {
        return Ok(());
    }
    match Lock::beside(path) {
        // Its writer lives and is about to do it.
        Err(FileError::Locked { .. }) => Ok(()),
        lock => tidy(&target, &lock?),
    }
}

/// Brings everything in `dir` into order that killed processes left of folders whose name `ours` knows. `dir` is locked by the
/// caller.
///
/// # Errors
/// What the system refuses.
pub fn clean(dir: &Path, lock: &Lock, ours: impl Fn(&str) -> bool) -> Result<(), FileError> {
    for entry in entries(dir)? {
        let name = entry.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        let of = name.strip_prefix('.').and_then(|name| name.split_once(".jurist-"));
        if let Some((name, _)) = of.filter(|(name, _)| *name == "files" || ours(name)) {
            tidy(&Target::of(&dir.join(name))?, lock)?;
            // The lock of a writer that was killed goes as one that ends does: by being held and let go.
            if lock.is_exclusive() {
                drop(Lock::beside(&dir.join(name)));
            }
        }
    }
    Ok(())
}

/// Removes what is left of dead writers. Nobody else can be writing, as long as the lock is one.
fn tidy(target: &Target, lock: &Lock) -> Result<(), FileError> {
    if !lock.is_exclusive() {
        return Ok(());
    }
    for old in target.leftovers(Kind::Old)? {
        if !target.path.exists() {
            let new = target.leftovers(Kind::New)?.into_iter().find(|new| pid_of(new) == pid_of(&old));
            rename(new.as_deref().unwrap_or(&old), &target.path)?;
            sync_dir(&target.parent)?;
        }
        remove(&old)?;
    }
    target.leftovers(Kind::New)?.iter().try_for_each(|new| remove(new))
}

fn pid_of(path: &Path) -> Option<&str> {
    path.to_str().and_then(|p| p.rsplit_once('-')).map(|(_, pid)| pid)
}

fn folder(path: &Path) -> Result<Target, FileError> {
    let target = Target::of(path)?;
    match target.path.exists() && !target.path.is_dir() {
        true => Err(FileError::in_the_way(path, "it is a file; expected a folder or nothing")),
        false => Ok(target),
    }
}

/// Whether there is nothing in a folder; true for one that does not exist.
///
/// # Errors
/// A folder that cannot be listed.
pub fn empty(dir: &Path) -> Result<bool, FileError> {
    Ok(!dir.exists() || entries(dir)?.is_empty())
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>, FileError> {
    let found = fs::read_dir(dir).and_then(|entries| entries.map(|e| e.map(|e| e.path())).collect());
    found.map_err(|e| FileError::io("list", dir, e))
}

fn filled<E: From<FileError>>(new: &Path, fill: impl FnOnce(&Path) -> Result<(), E>) -> Result<(), E> {
    fs::create_dir(new).map_err(|e| FileError::io("create", new, e))?;
    fill(new)?;
    Ok(sync_tree(new)?)
}

/// The steps of a swap, for tests that look between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Before,
    OldMoved,
    Replaced,
    Done,
}

fn swap(
    target: &Target,
    new: &Path,
    exchange: fn(&Path, &Path) -> io::Result<()>,
    look: &mut dyn FnMut(Step),
) -> Result<(), FileError> {
    look(Step::Before);
    let old = give_name(target, new, exchange, look)?;
    crash_point("folder-named");
    let Some(old) = old else { return sync_dir(&target.parent) };
    look(Step::Replaced);
    sync_dir(&target.parent)?;
    let _ = remove(&old); // the new folder is in place; a leftover is removed next time
    look(Step::Done);
    Ok(())
}

/// Gives `new` the target's name. Returns where the folder is that had it.
fn give_name(
    target: &Target,
    new: &Path,
    exchange: fn(&Path, &Path) -> io::Result<()>,
    look: &mut dyn FnMut(Step),
) -> Result<Option<PathBuf>, FileError> {
    if !target.path.exists() {
        rename(new, &target.path)?;
        return Ok(None);
    }
    if let Ok(before) = fs::metadata(&target.path) {
        let _ = fs::set_permissions(new, before.permissions()); // a folder of another owner stays as private as ours is
    }
    match publishing(|| exchange(new, &target.path)) {
        Ok(()) => Ok(Some(new.to_path_buf())),
        Err(e) if unknown_here(&e) => {
            let old = target.aside(Kind::Old);
            rename(&target.path, &old)?;
            look(Step::OldMoved);
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

/// The system or the file system cannot exchange names. `EINVAL` is what file systems say that do not know the flag.
fn unknown_here(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::Unsupported | io::ErrorKind::InvalidInput)
}

fn rename(from: &Path, to: &Path) -> Result<(), FileError> {
    publishing(|| fs::rename(from, to)).map_err(|e| FileError::io("rename", from, e))
}

/// Removes a folder or a file of ours; that it is gone already is no error.
fn remove(path: &Path) -> Result<(), FileError> {
    let removed = if path.is_dir() && !path.is_symlink() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(FileError::io("remove", path, e)),
        _ => Ok(()),
    }
}

/// Brings every file below `dir`, and `dir` itself, to the disk.
fn sync_tree(dir: &Path) -> Result<(), FileError> {
    for path in entries(dir)? {
        if path.is_dir() {
            sync_tree(&path)?;
        } else {
            // Windows syncs only what was opened for writing; elsewhere a read-only file (copied with its mode) syncs too.
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
