//! Directories and files that are there as a whole or not at all.
//!
//! ```text
//! write   <name>.tmp-<pid>      files, then sync them, then the directory
//! rename  <name>             -> <name>.old-<pid>      (only if there is a directory)
//! rename  <name>.tmp-<pid>   -> <name>
//! remove  <name>.old-<pid>
//! ```
//!
//! Killed anywhere, [`recover`] finds one of two pictures: `<name>` exists and the rest is rubbish, or it does not and
//! `.old-<pid>` does: then the second line had run, so `.tmp-<pid>` is complete and takes the name. A file is renamed onto
//! the old one in one step, and a directory to be removed becomes a `.tmp-<pid>` first: of both, leftovers are rubbish.
//! Whether a leftover belongs to a run that still lives is told by a file lock on it, which dies with its process.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use super::error::ModelError;

/// Fills a temporary directory by `fill`, brings it to the disk and gives it the name `path`, replacing the *whole*
/// directory that was there. On any error the old one is untouched and the temporary one is removed.
///
/// Leftovers of dead runs are cleaned first (see [`recover`]).
pub fn atomic_dir<E: From<ModelError>>(path: &Path, fill: impl FnOnce(&Path) -> Result<(), E>) -> Result<(), E> {
    let target = Target::of(path)?;
    fs::create_dir_all(&target.parent).map_err(|e| ModelError::io("create", &target.parent, e))?;
    target.recover()?;
    let pid = std::process::id().to_string();
    let tmp = target.sibling(TMP, &pid);
    fs::create_dir(&tmp).map_err(|e| ModelError::io("create", &tmp, e))?;
    let _lock = hold(&tmp);
    let result =
        fill(&tmp).and_then(|()| sync_tree(&tmp).map_err(E::from)).and_then(|()| target.swap(&tmp, &pid).map_err(E::from));
    if result.is_err() {
        let _ = fs::remove_dir_all(&tmp); // the first error is the one to report; a leftover is cleaned next time
    }
    result
}

/// Makes `path` a file with these bytes, replacing one that was there. On any error the old one is untouched.
pub fn atomic_file(path: &Path, bytes: &[u8]) -> Result<(), ModelError> {
    let target = Target::file(path)?;
    let tmp = target.sibling(TMP, &std::process::id().to_string());
    let write = || {
        let mut file = File::create(&tmp)?;
        let _ = file.try_lock(); // where the system cannot, see `hold`
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&tmp, &target.path)
    };
    if let Err(error) = write() {
        let _ = fs::remove_file(&tmp); // the first error is the one to report
        return Err(ModelError::io("write", path, error));
    }
    sync_dir(&target.parent)?;
    target.remove_unfinished()
}

/// Removes a directory, which is never seen half removed under its own name.
pub fn remove_dir(path: &Path) -> Result<(), ModelError> {
    let target = Target::of(path)?;
    let tmp = target.sibling(TMP, &std::process::id().to_string());
    remove(&tmp)?;
    rename(&target.path, &tmp)?;
    sync_dir(&target.parent)?;
    remove(&tmp)
}

/// [`recover`] for all of a folder: whatever dead runs left of directories whose name `ours` knows.
pub fn recover_within(folder: &Path, ours: impl Fn(&str) -> bool) -> Result<(), ModelError> {
    for entry in fs::read_dir(folder).map_err(|e| ModelError::io("list", folder, e))? {
        let entry = entry.map_err(|e| ModelError::io("list", folder, e))?.file_name();
        let leftover = entry.to_str().and_then(|name| name.rsplit_once('.'));
        let Some((name, mark)) = leftover.filter(|(name, _)| ours(name)) else { continue };
        if mark.starts_with(&format!("{TMP}-")) || mark.starts_with(&format!("{OLD}-")) {
            recover(&folder.join(name))?;
        }
    }
    Ok(())
}

/// Brings `path` into order after a run that was killed while saving: the newest complete directory gets the name,
/// leftovers of dead runs go. Call it before reading a checkpoint to resume from.
pub fn recover(path: &Path) -> Result<(), ModelError> {
    let target = Target::of(path)?;
    if target.parent.is_dir() { target.recover() } else { Ok(()) }
}

const TMP: &str = "tmp";
const OLD: &str = "old";

struct Target {
    path: PathBuf,
    parent: PathBuf,
    name: OsString,
}

impl Target {
    /// A directory, or nothing yet.
    fn of(path: &Path) -> Result<Self, ModelError> {
        let target = Self::file(path)?;
        if target.path.exists() && !target.path.is_dir() {
            let found = format!("{} is a file; expected a directory or nothing", target.path.display());
            return Err(ModelError::Inconsistent(found));
        }
        Ok(target)
    }

    fn file(path: &Path) -> Result<Self, ModelError> {
        // A link is followed, so that what it points to is replaced and the link stays.
        let path =
            if path.is_symlink() { fs::canonicalize(path).map_err(|e| ModelError::io("resolve", path, e))? } else { path.into() };
        let Some(name) = path.file_name().map(OsString::from) else {
            return Err(ModelError::Inconsistent(format!("\"{}\" does not end in a name", path.display())));
        };
        let parent = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
            _ => PathBuf::from("."),
        };
        Ok(Target { path, parent, name })
    }

    fn sibling(&self, kind: &str, pid: &str) -> PathBuf {
        let mut name = self.name.clone();
        name.push(format!(".{kind}-{pid}"));
        self.parent.join(name)
    }

    /// Process ids of which a leftover of this `kind` exists.
    fn leftovers(&self, kind: &str) -> Result<Vec<String>, ModelError> {
        let mut prefix = self.name.clone();
        prefix.push(format!(".{kind}-"));
        let mut pids = Vec::new();
        for entry in fs::read_dir(&self.parent).map_err(|e| ModelError::io("list", &self.parent, e))? {
            let name = entry.map_err(|e| ModelError::io("list", &self.parent, e))?.file_name();
            let rest = name.as_encoded_bytes().strip_prefix(prefix.as_encoded_bytes());
            let pid =
                rest.and_then(|r| str::from_utf8(r).ok()).filter(|r| !r.is_empty() && r.bytes().all(|b| b.is_ascii_digit()));
            pids.extend(pid.map(str::to_string));
        }
        Ok(pids)
    }

    fn recover(&self) -> Result<(), ModelError> {
        for pid in self.leftovers(OLD)? {
            let (tmp, old) = (self.sibling(TMP, &pid), self.sibling(OLD, &pid));
            if is_held(&tmp) {
                continue;
            }
            if !self.path.exists() {
                rename(if tmp.exists() { &tmp } else { &old }, &self.path)?;
                sync_dir(&self.parent)?;
            }
            remove(&old)?;
        }
        self.remove_unfinished()
    }

    fn remove_unfinished(&self) -> Result<(), ModelError> {
        for pid in self.leftovers(TMP)? {
            let tmp = self.sibling(TMP, &pid);
            if !is_held(&tmp) {
                remove(&tmp)?;
            }
        }
        Ok(())
    }

    fn swap(&self, tmp: &Path, pid: &str) -> Result<(), ModelError> {
        let old = self.sibling(OLD, pid);
        let replaces = self.path.exists();
        if replaces {
            rename(&self.path, &old)?;
        }
        if let Err(error) = rename(tmp, &self.path) {
            if replaces {
                rename(&old, &self.path)?;
            }
            return Err(error);
        }
        sync_dir(&self.parent)?;
        let _ = fs::remove_dir_all(&old); // the new directory is in place; a leftover is cleaned next time
        Ok(())
    }
}

fn rename(from: &Path, to: &Path) -> Result<(), ModelError> {
    fs::rename(from, to).map_err(|e| ModelError::io("rename", from, e))
}

/// Removes a directory or a file; that another process was faster is no error.
fn remove(path: &Path) -> Result<(), ModelError> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(ModelError::io("remove", path, e)),
        _ => Ok(()),
    }
}

/// Locks a directory for as long as the returned handle lives. Where the system cannot (Windows), nothing is locked, and
/// two processes must not save to one directory at a time.
fn hold(dir: &Path) -> Option<File> {
    File::open(dir).ok().filter(|file| file.try_lock().is_ok())
}

/// Whether a living process holds the lock of `dir`.
fn is_held(dir: &Path) -> bool {
    File::open(dir).is_ok_and(|file| matches!(file.try_lock(), Err(fs::TryLockError::WouldBlock)))
}

/// Brings every file below `dir`, and `dir` itself, to the disk.
fn sync_tree(dir: &Path) -> Result<(), ModelError> {
    for entry in fs::read_dir(dir).map_err(|e| ModelError::io("list", dir, e))? {
        let path = entry.map_err(|e| ModelError::io("list", dir, e))?.path();
        if path.is_dir() {
            sync_tree(&path)?;
        } else {
            // Windows syncs only what was opened for writing; elsewhere a read-only file (copied with its mode) syncs too.
            let file = OpenOptions::new().read(true).write(cfg!(windows)).open(&path);
            let file = file.map_err(|e| ModelError::io("open", &path, e))?;
            file.sync_all().map_err(|e| ModelError::io("sync", &path, e))?;
        }
    }
    sync_dir(dir)
}

/// Makes the entries of a directory durable. Windows has no such call and does not need it.
fn sync_dir(dir: &Path) -> Result<(), ModelError> {
    if cfg!(unix) {
        let handle = File::open(dir).map_err(|e| ModelError::io("open", dir, e))?;
        handle.sync_all().map_err(|e| ModelError::io("sync", dir, e))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(dir: &Path, text: &str) -> Result<(), ModelError> {
        fs::write(dir.join("a"), text).map_err(|e| ModelError::io("write", dir, e))
    }

    fn entries(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn content(dir: &Path) -> String {
        fs::read_to_string(dir.join("a")).unwrap()
    }

    #[test]
    fn creates_and_replaces() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("x/model");
        for text in ["one", "two"] {
            atomic_dir(&path, |tmp| write(tmp, text)).unwrap();
            assert_eq!(content(&path), text);
            assert_eq!(entries(path.parent().unwrap()), ["model"]);
        }
    }

    #[test]
    fn a_failed_save_changes_nothing() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("model");
        atomic_dir(&path, |tmp| write(tmp, "good")).unwrap();
        let failed = atomic_dir(&path, |tmp| {
            write(tmp, "half")?;
            Err(ModelError::WriteOrder("stop".into()))
        });
        assert!(failed.is_err());
        assert_eq!((content(&path).as_str(), entries(root.path())), ("good", vec!["model".to_string()]));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_named_and_the_old_directory_stays() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("model");
        atomic_dir(&path, |tmp| write(tmp, "good")).unwrap();
        let full = Path::new("/dev/full");
        let result = atomic_dir(&path, |_| fs::write(full, b"x").map_err(|e| ModelError::io("write", full, e)));
        let message = result.unwrap_err().to_string();
        assert!(message.contains("no space left") && message.contains("untouched"), "{message}");
        assert_eq!((content(&path).as_str(), entries(root.path())), ("good", vec!["model".to_string()]));
    }

    /// The pictures that a kill can leave behind, and what becomes of them.
    #[test]
    fn recovers_from_a_kill() {
        let cases: [(&[&str], Option<&str>); 6] = [
            (&["m", "m.tmp-7"], Some("m")),             // while writing
            (&["m.tmp-7", "m.old-7"], Some("m.tmp-7")), // between the renames
            (&["m", "m.old-7"], Some("m")),             // before the removal
            (&["m.old-7"], Some("m.old-7")),            // someone removed the rest
            (&["m.tmp-7"], None),                       // the very first save
            (&["m", "m.tmp-x", "m.tmp-"], Some("m")),   // names that are not ours stay
        ];
        for (before, survivor) in cases {
            let root = tempfile::tempdir().unwrap();
            for name in before {
                fs::create_dir(root.path().join(name)).unwrap();
                write(&root.path().join(name), name).unwrap();
            }
            recover(&root.path().join("m")).unwrap();
            let path = root.path().join("m");
            assert_eq!(path.exists().then(|| content(&path)).as_deref(), survivor, "{before:?}");
            let left = entries(root.path()).into_iter().filter(|n| !["m", "m.tmp-x", "m.tmp-"].contains(&n.as_str())).count();
            assert_eq!(left, 0, "{before:?}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_living_writer_is_left_alone() {
        let root = tempfile::tempdir().unwrap();
        for name in ["m.tmp-7", "m.old-7"] {
            fs::create_dir(root.path().join(name)).unwrap();
        }
        let lock = hold(&root.path().join("m.tmp-7"));
        recover(&root.path().join("m")).unwrap();
        assert_eq!(entries(root.path()), ["m.old-7", "m.tmp-7"]);
        drop(lock);
        recover(&root.path().join("m")).unwrap();
        assert_eq!(entries(root.path()), ["m"]);
    }

    #[test]
    fn files_are_replaced_as_a_whole() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("f");
        fs::write(root.path().join("f.tmp-7"), "of a killed run").unwrap();
        for text in ["1", "22"] {
            atomic_file(&path, text.as_bytes()).unwrap();
            assert_eq!((fs::read_to_string(&path).unwrap().as_str(), entries(root.path())), (text, vec!["f".to_string()]));
        }
        let message = atomic_file(&root.path().join("no/f"), b"").unwrap_err().to_string();
        assert!(message.starts_with("cannot write "), "{message}");
    }

    #[test]
    fn what_is_removed_does_not_come_back() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("m");
        atomic_dir(&path, |tmp| write(tmp, "x")).unwrap();
        remove_dir(&path).unwrap();
        assert!(entries(root.path()).is_empty());
        // Killed between the renaming and the removal.
        fs::create_dir(root.path().join("m.tmp-7")).unwrap();
        recover(&path).unwrap();
        assert!(entries(root.path()).is_empty());
    }

    #[test]
    fn a_folder_is_recovered_where_the_names_are_ours() {
        let root = tempfile::tempdir().unwrap();
        for name in ["m-1.tmp-7", "m-2", "m-2.old-7", "m-3.tmp-7", "m-3.old-7", "notes.tmp-7", "m-4.txt"] {
            fs::create_dir(root.path().join(name)).unwrap();
        }
        recover_within(root.path(), |name| name.starts_with("m-")).unwrap();
        assert_eq!(entries(root.path()), ["m-2", "m-3", "m-4.txt", "notes.tmp-7"]);
    }

    #[cfg(unix)]
    #[test]
    fn files_that_may_not_be_written_are_saved_too() {
        use std::os::unix::fs::PermissionsExt;
        let root = tempfile::tempdir().unwrap();
        let fill = |tmp: &Path| {
            write(tmp, "x")?;
            fs::set_permissions(tmp.join("a"), fs::Permissions::from_mode(0o444)).map_err(|e| ModelError::io("set", tmp, e))
        };
        atomic_dir(&root.path().join("m"), fill).unwrap();
    }

    #[test]
    fn paths_without_a_name_and_files_are_refused() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), "file").unwrap();
        for path in [Path::new("/"), Path::new(".."), &root.path().join("a")] {
            assert!(atomic_dir(path, |tmp| write(tmp, "x")).is_err(), "{path:?}");
        }
    }
}
