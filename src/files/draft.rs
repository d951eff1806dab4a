//! A file that appears as a whole and replaces an earlier one.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::lock::{Opened, is_held, open_locked};
use super::target::{Sibling, Target, Unfinished};
use super::{FileError, sync_dir};

/// A file that is being written. If it is dropped before [`Draft::finish`], the earlier file stays unchanged.
#[derive(Debug)]
pub struct Draft {
    path: PathBuf,
    file: File,
    /// `None` for a pipe, a device and the like, which are written to directly.
    temporary: Option<TemporaryFile>,
}

#[derive(Debug)]
struct TemporaryFile {
    target: Target,
    path: PathBuf,
    _unfinished: Unfinished,
}

impl Draft {
    /// Begins a file that will be at `path`. Removes temporary files that killed processes left there.
    ///
    /// # Errors
    /// A folder of that name; a file or folder that may not be written to.
    pub fn create(path: &Path) -> Result<Self, FileError> {
        if let Some(file) = open_special(path)? {
            return Ok(Draft { path: path.into(), file, temporary: None });
        }
        let target = writable(path)?;
        let failed = |e| FileError::io("write", path, e);
        target.require_folder(path)?;
        for leftover in target.leftovers(Sibling::New)? {
            if leftover.is_file() && !is_held(&leftover) {
                let _ = fs::remove_file(leftover); // another process may have removed it already
            }
        }
        let temporary = target.sibling(Sibling::New);
        let file = match open_locked(&temporary).map_err(failed)? {
            Opened::Ours(file) | Opened::Unlocked(file) => file,
            Opened::Held(pid) => return Err(FileError::Locked { path: path.into(), pid }),
        };
        file.set_len(0).map_err(failed)?;
        if let Ok(before) = fs::metadata(&target.path) {
            file.set_permissions(before.permissions()).map_err(failed)?; // as private as the file that it will replace
        }
        let temporary = TemporaryFile { target, _unfinished: Unfinished::new(&temporary), path: temporary };
        Ok(Draft { path: path.into(), file, temporary: Some(temporary) })
    }

    /// Syncs the file to the disk and renames it to its final name.
    ///
    /// # Errors
    /// A full disk; a folder that was removed meanwhile. The earlier file stays.
    pub fn finish(mut self) -> Result<(), FileError> {
        let failed = |e| FileError::io("write", &self.path, e);
        self.file.flush().map_err(failed)?;
        let Some(temporary) = &self.temporary else { return Ok(()) };
        publish(&self.file, &temporary.path, &temporary.target).map_err(failed)?;
        let parent = temporary.target.parent.clone();
        self.temporary = None;
        sync_dir(&parent)
    }
}

impl Write for Draft {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            let _ = fs::remove_file(&temporary.path); // the first error is the one to report
        }
    }
}

/// Renames the finished file at `temporary` to the target's name. It keeps the mode and owner of the file that it replaces.
pub(super) fn publish(file: &File, temporary: &Path, target: &Target) -> io::Result<()> {
    if let Ok(before) = fs::metadata(&target.path) {
        keep_owner(file, &before);
        file.set_permissions(before.permissions())?;
    }
    file.sync_all()?;
    fs::rename(temporary, &target.path)
}

/// Gives `file` the owner and group of an earlier file, as far as the process may do that.
fn keep_owner(file: &File, before: &Metadata) {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let same = file.metadata().is_ok_and(|now| (now.uid(), now.gid()) == (before.uid(), before.gid()));
        if !same {
            let changed = std::os::unix::fs::fchown(file, Some(before.uid()), Some(before.gid()));
            let _ = changed.or_else(|_| std::os::unix::fs::fchown(file, None, Some(before.gid())));
        }
    }
    #[cfg(not(unix))]
    let _ = (file, before);
}

/// Opens a path that is neither a file nor a folder: a pipe, a device, a standard stream by its name. `None` for other paths.
pub(super) fn open_special(path: &Path) -> Result<Option<File>, FileError> {
    let Ok(metadata) = fs::metadata(path) else { return Ok(None) };
    if metadata.is_dir() || metadata.is_file() && !is_stream(path) {
        return Ok(None);
    }
    let file = OpenOptions::new().append(true).open(path).map_err(|e| FileError::io("write", path, e))?;
    Ok(Some(file))
}

/// Whether `path` names an open stream of a process. A stream is written to even if it is a file, because the process that
/// opened it would not see a new file.
pub(super) fn is_stream(path: &Path) -> bool {
    let names = ["/dev/stdout", "/dev/stderr", "/dev/fd", "/proc"];
    names.iter().any(|name| path.starts_with(name))
}

/// The target at `path`, after checking that an existing file may be written to.
pub(super) fn writable(path: &Path) -> Result<Target, FileError> {
    let failed = |e| FileError::io("write", path, e);
    if path.is_dir() {
        return Err(failed(io::ErrorKind::IsADirectory.into()));
    }
    let target = Target::of(path)?;
    // A write-protected file is not replaced, although renaming would be possible.
    if target.path.exists() {
        OpenOptions::new().append(true).open(&target.path).map_err(failed)?;
    }
    Ok(target)
}

/// Writes `bytes` to `path`, replacing an earlier file. On any error the earlier file stays unchanged.
///
/// # Errors
/// As [`Draft::create`] and [`Draft::finish`].
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let mut draft = Draft::create(path)?;
    draft.write_all(bytes).map_err(|e| FileError::io("write", path, e))?;
    draft.finish()
}

/// [`write()`] for a name that the program chose. An earlier file is replaced only if `ours` recognises its text. A file that
/// already has these bytes is not written.
///
/// # Errors
/// As [`write()`]; a file that is not ours.
pub fn write_own(path: &Path, bytes: &[u8], ours: impl Fn(&str) -> bool) -> Result<(), FileError> {
    if fs::read(path).is_ok_and(|existing| existing == bytes) {
        return Ok(());
    }
    refuse_foreign(path, ours)?;
    write(path, bytes)
}

/// Checks that [`write_own`] could replace a file at `path`. Call it before hours of work.
///
/// # Errors
/// A file that is not ours, or that cannot be read.
pub fn refuse_foreign(path: &Path, ours: impl Fn(&str) -> bool) -> Result<(), FileError> {
    match fs::read(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(FileError::io("read", path, e)),
        Ok(existing) if str::from_utf8(&existing).is_ok_and(ours) => Ok(()),
        Ok(_) => Err(FileError::in_the_way(path, "jurist did not write it, and would have to replace it; move it away")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn files_are_replaced_as_a_whole() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("f");
        fs::write(root.path().join(".f.jurist-new-7"), "of a killed process").unwrap();
        fs::write(root.path().join("f.tmp-7"), "of another program").unwrap();
        for text in ["1", "22"] {
            write(&path, text.as_bytes()).unwrap();
            assert_eq!(
                (fs::read_to_string(&path).unwrap().as_str(), entries(root.path())),
                (text, vec!["f".into(), "f.tmp-7".into()])
            );
        }
        let message = write(&root.path().join("no/f"), b"").unwrap_err().to_string();
        assert!(message.starts_with("cannot write "), "{message}");
        let message = write(root.path(), b"").unwrap_err().to_string();
        assert!(message.contains("is a directory"), "{message}");
    }

    #[test]
    fn an_unfinished_draft_changes_nothing() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("f");
        fs::write(&path, "old").unwrap();
        let mut draft = Draft::create(&path).unwrap();
        draft.write_all(b"half").unwrap();
        assert_eq!(entries(root.path()).len(), 2);
        drop(draft);
        assert_eq!((fs::read_to_string(&path).unwrap().as_str(), entries(root.path())), ("old", vec!["f".to_string()]));
    }

    #[test]
    fn write_own_replaces_only_files_of_jurist() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("README.md");
        let ours = |text: &str| text.starts_with("# Results");
        write_own(&path, b"# Results 1", ours).unwrap();
        write_own(&path, b"# Results 2", ours).unwrap();
        fs::write(&path, "my notes").unwrap();
        let message = write_own(&path, b"# Results 3", ours).unwrap_err().to_string();
        assert!(message.contains("README.md is in the way") && message.contains("move it away"), "{message}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "my notes");
        write_own(&path, b"my notes", ours).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn modes_links_and_special_files_are_kept() {
        use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        let mode = |name: &str| fs::metadata(at(name)).unwrap().permissions().mode() & 0o7777;
        for bits in [0o600, 0o640, 0o666] {
            fs::write(at("f"), "old").unwrap();
            fs::set_permissions(at("f"), fs::Permissions::from_mode(bits)).unwrap();
            write(&at("f"), b"new").unwrap();
            assert_eq!((mode("f"), fs::read_to_string(at("f")).unwrap().as_str()), (bits, "new"));
        }
        // A link to a file, a link to that link, a link to a file that does not exist yet, and a circle.
        symlink("f", at("link")).unwrap();
        symlink(at("link"), at("chain")).unwrap();
        symlink("later", at("dangling")).unwrap();
        symlink("circle", at("circle")).unwrap();
        for (name, file) in [("link", "f"), ("chain", "f"), ("dangling", "later")] {
            write(&at(name), name.as_bytes()).unwrap();
            assert!(at(name).is_symlink() && !at(file).is_symlink());
            assert_eq!(fs::read_to_string(at(file)).unwrap(), name);
        }
        assert!(write(&at("circle"), b"").is_err());
        write(Path::new("/dev/null"), b"x").unwrap();
        assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
        if cfg!(target_os = "linux") {
            let message = write(Path::new("/dev/full"), b"x").unwrap_err().to_string();
            assert!(message.contains("no space left"), "{message}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_pipe_is_written_to() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        let reader = {
            let path = path.clone();
            std::thread::spawn(move || fs::read_to_string(path).unwrap())
        };
        write(&path, b"through").unwrap();
        assert_eq!((reader.join().unwrap().as_str(), entries(root.path()).len()), ("through", 1));
    }
}
