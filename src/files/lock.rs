//! One writer at a time.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use super::FileError;
use super::target::{Target, Unfinished};

/// The exclusive right of this process to write a file or folder. It ends when it is dropped or the process ends in any way.
///
/// On systems without file locks taking the lock always succeeds. There the user must not run two processes on one output.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    file: File,
    locked: bool,
    _unfinished: Unfinished,
}

impl Lock {
    /// Locks the file or folder `path` with a lock file beside it.
    ///
    /// # Errors
    /// Another process holds it; its folder cannot be written to.
    pub fn beside(path: &Path) -> Result<Self, FileError> {
        Self::take(Target::of(path)?.lock(), path)
    }

    /// Locks the folder `dir` with a lock file in it.
    ///
    /// # Errors
    /// As [`Lock::beside`].
    pub fn inside(dir: &Path) -> Result<Self, FileError> {
        Self::take(dir.join(".jurist-lock"), dir)
    }

    fn take(path: PathBuf, what: &Path) -> Result<Self, FileError> {
        let (mut file, locked) = match open_locked(&path) {
            Err(e) => return Err(FileError::io("write", what, e)),
            Ok(Opened::Held(pid)) => return Err(FileError::Locked { path: what.into(), pid }),
            Ok(Opened::Ours(file)) => (file, true),
            Ok(Opened::Unlocked(file)) => (file, false),
        };
        let written = file.set_len(0).and_then(|()| write!(file, "{}", std::process::id()));
        written.map_err(|e| FileError::io("write", &path, e))?;
        let _unfinished = Unfinished::new(&path);
        Ok(Lock { path, file, locked, _unfinished })
    }

    /// Whether the system has file locks, so that no other process has this lock.
    pub fn is_exclusive(&self) -> bool {
        self.locked
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Removed before it is unlocked, so that a process that has just opened it sees that and creates a new one.
        let _ = std::fs::remove_file(&self.path);
        let _ = self.file.unlock();
    }
}

/// The result of [`open_locked`].
pub enum Opened {
    Ours(File),
    /// Another process holds the lock; its id, if it can be read.
    Held(Option<u32>),
    /// The file system has no locks.
    Unlocked(File),
}

/// Opens a file, or creates it, and locks it.
pub fn open_locked(path: &Path) -> std::io::Result<Opened> {
    loop {
        let mut file = OpenOptions::new().create(true).read(true).write(true).truncate(false).open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                let _ = file.read_to_string(&mut text); // some systems do not allow reading a locked file
                return Ok(Opened::Held(text.trim().parse().ok()));
            }
            Err(TryLockError::Error(_)) => return Ok(Opened::Unlocked(file)),
        }
        // The last holder may have removed the file after it was opened here and before it was locked.
        let opened = same_file::Handle::from_file(file.try_clone()?)?;
        if same_file::Handle::from_path(path).is_ok_and(|current| current == opened) {
            return Ok(Opened::Ours(file));
        }
    }
}

/// Whether a process holds the lock of the file at `path`.
pub fn is_held(path: &Path) -> bool {
    File::open(path).is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_excludes_others_and_leaves_no_file() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("x");
        for take in [Lock::beside, |p: &Path| Lock::inside(p.parent().unwrap())] {
            let first = take(&path).unwrap();
            let message = take(&path).unwrap_err().to_string();
            assert!(message.contains(&format!("another jurist (process {}) is writing", std::process::id())), "{message}");
            drop(first);
            assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 0);
            drop(take(&path).unwrap());
        }
    }

    #[test]
    fn the_lock_file_of_a_dead_process_is_ignored() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join(".x.jurist-lock"), "12345").unwrap();
        drop(Lock::beside(&root.path().join("x")).unwrap());
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 0);
    }

    /// Among many threads never two have the lock, and each one gets it in the end.
    #[test]
    fn threads_exclude_each_other() {
        use std::sync::atomic::{AtomicUsize, Ordering};
        let root = tempfile::tempdir().unwrap();
        let (path, inside) = (root.path().join("x"), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let _lock = loop {
                            match Lock::beside(&path) {
                                Ok(lock) => break lock,
                                Err(FileError::Locked { .. }) => std::thread::yield_now(),
                                Err(e) => panic!("{e}"),
                            }
                        };
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        inside.fetch_sub(1, Ordering::SeqCst);
                    }
                });
            }
        });
    }
}
