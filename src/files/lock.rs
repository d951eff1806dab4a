//! One writer at a time.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use super::FileError;
use super::target::{Target, Unfinished};

/// Holds a place for this process. It ends with this value, or with the process however that ends.
///
/// Where the system has no file locks, everybody gets one, and two processes must not write to one place at a time.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    file: File,
    locked: bool,
    _unfinished: Unfinished,
}

impl Lock {
    /// Locks the file or folder `path` by a file beside it.
    ///
    /// # Errors
    /// Another process holds it; its folder cannot be written to.
    pub fn beside(path: &Path) -> Result<Self, FileError> {
        Self::take(Target::of(path)?.lock(), path)
    }

    /// Locks the folder `dir` by a file in it.
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

    /// Whether the system keeps others out.
    pub fn is_exclusive(&self) -> bool {
        self.locked
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Removed before it is unlocked: whoever opened it meanwhile sees that it is gone and makes another.
        let _ = std::fs::remove_file(&self.path);
        let _ = self.file.unlock();
    }
}

/// A file that was opened to be locked.
pub enum Opened {
    Ours(File),
    /// Another process has it, this one if it says so.
    Held(Option<u32>),
    /// The system has no locks here.
    Unlocked(File),
}

/// Opens a file, made if need be, and locks it.
pub fn open_locked(path: &Path) -> std::io::Result<Opened> {
    loop {
        let mut file = OpenOptions::new().create(true).read(true).write(true).truncate(false).open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                let _ = file.read_to_string(&mut text); // not everywhere may others read what is locked
                return Ok(Opened::Held(text.trim().parse().ok()));
            }
            Err(TryLockError::Error(_)) => return Ok(Opened::Unlocked(file)),
        }
        // The last holder may have removed it between our opening and our locking.
        let opened = same_file::Handle::from_file(file.try_clone()?)?;
        if same_file::Handle::from_path(path).is_ok_and(|there| there == opened) {
            return Ok(Opened::Ours(file));
        }
    }
}

/// Whether a living process holds the lock of the file at `path`.
pub fn is_held(path: &Path) -> bool {
    File::open(path).is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_and_nothing_is_left() {
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

    /// What a killed process left holds nobody up.
    #[test]
    fn a_dead_process_holds_nothing() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join(".x.jurist-lock"), "12345").unwrap();
        drop(Lock::beside(&root.path().join("x")).unwrap());
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 0);
    }

    /// Many at once: never two, and each of them gets it in the end.
    #[test]
    fn threads_take_turns() {
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
