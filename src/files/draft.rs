//! A file that appears whole, in the place of an earlier one.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::lock::{Opened, is_held, open_locked};
use super::target::{Kind, Target, Unfinished};
use super::{FileError, sync_dir};

/// A file under way. Dropped before [`Draft::finish`], it leaves what was there as it was.
#[derive(Debug)]
pub struct Draft {
    path: PathBuf,
    file: File,
    /// None for a pipe, a device and the like: they are written to where they are.
    aside: Option<Aside>,
}

#[derive(Debug)]
struct Aside {
    target: Target,
    path: PathBuf,
    _unfinished: Unfinished,
}

impl Draft {
    /// Begins a file that will be at `path`, and removes what killed processes left of it.
    ///
    /// # Errors
    /// A folder of that name; a file or folder that may not be written to.
    pub fn create(path: &Path) -> Result<Self, FileError> {
        if let Some(file) = open_special(path)? {
            return Ok(Draft { path: path.into(), file, aside: None });
        }
        let target = writable(path)?;
        let failed = |e| FileError::io("write", path, e);
        if !target.parent.is_dir() {
            return Err(failed(io::ErrorKind::NotFound.into()));
        }
        for left in target.leftovers(Kind::New)? {
            if left.is_file() && !is_held(&left) {
                let _ = fs::remove_file(left); // another process may have been faster
            }
        }
        let aside = target.aside(Kind::New);
        let file = match open_locked(&aside).map_err(failed)? {
            Opened::Ours(file) | Opened::Unlocked(file) => file,
            Opened::Held(pid) => return Err(FileError::Locked { path: path.into(), pid }),
        };
        file.set_len(0).map_err(failed)?;
        if let Ok(before) = fs::metadata(&target.path) {
            file.set_permissions(before.permissions()).map_err(failed)?; // as private as what it will replace
        }
        let aside = Aside { target, _unfinished: Unfinished::new(&aside), path: aside };
        Ok(Draft { path: path.into(), file, aside: Some(aside) })
    }

    /// Brings it to the disk and gives it its name.
    ///
    /// # Errors
    /// A full disk; a folder that was taken away. What was there stays.
    pub fn finish(mut self) -> Result<(), FileError> {
        let failed = |e| FileError::io("write", &self.path, e);
        self.file.flush().map_err(failed)?;
        let Some(aside) = &self.aside else { return Ok(()) };
        publish(&self.file, &aside.path, &aside.target).map_err(failed)?;
        let parent = aside.target.parent.clone();
        self.aside = None;
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
        if let Some(aside) = &self.aside {
            let _ = fs::remove_file(&aside.path); // the first error is the one to report
        }
    }
}

/// Gives the finished file at `aside` the target's name, and the mode and owner of what has it now.
pub(super) fn publish(file: &File, aside: &Path, target: &Target) -> io::Result<()> {
    if let Ok(before) = fs::metadata(&target.path) {
        keep_owner(file, &before);
        file.set_permissions(before.permissions())?;
    }
    file.sync_all()?;
    fs::rename(aside, &target.path)
}

/// Gives `file` the owner and group of an earlier one. Who may not keeps the file for himself.
fn keep_owner(file: &File, before: &Metadata) {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let same = file.metadata().is_ok_and(|now| (now.uid(), now.gid()) == (before.uid(), before.gid()));
        if !same {
            let whole = std::os::unix::fs::fchown(file, Some(before.uid()), Some(before.gid()));
            let _ = whole.or_else(|_| std::os::unix::fs::fchown(file, None, Some(before.gid())));
        }
    }
    #[cfg(not(unix))]
    let _ = (file, before);
}

/// Opens what is no file and no folder: a pipe, a device, a standard stream by its name.
pub(super) fn open_special(path: &Path) -> Result<Option<File>, FileError> {
    let Ok(found) = fs::metadata(path) else { return Ok(None) };
    if found.is_dir() || found.is_file() && !is_stream(path) {
        return Ok(None);
    }
    let file = OpenOptions::new().append(true).open(path).map_err(|e| FileError::io("write", path, e))?;
    Ok(Some(file))
}

/// Whether `path` names an open stream of a process. It is written to even where it is a file: whoever opened it holds that file
/// and no other.
pub(super) fn is_stream(path: &Path) -> bool {
    let names = ["/dev/stdout", "/dev/stderr", "/dev/fd", "/proc"];
    names.iter().any(|name| path.starts_with(name))
}

/// The file at `path`, which may be written to if it exists.
pub(super) fn writable(path: &Path) -> Result<Target, FileError> {
    let failed = |e| FileError::io("write", path, e);
    if path.is_dir() {
        return Err(failed(io::ErrorKind::IsADirectory.into()));
    }
    let target = Target::of(path)?;
    // A file that is protected from writing is not replaced behind its owner's back.
    if target.path.exists() {
        OpenOptions::new().append(true).open(&target.path).map_err(failed)?;
    }
    Ok(target)
}

/// Makes `path` a file with these bytes, replacing one that was there. On any error the old one is untouched.
///
/// # Errors
/// As [`Draft::create`] and [`Draft::finish`].
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let mut draft = Draft::create(path)?;
    draft.write_all(bytes).map_err(|e| FileError::io("write", path, e))?;
    draft.finish()
}

/// [`write()`] under a name that the program chose by itself: a file that is there is replaced only where `ours` knows its text.
/// One that has these bytes already is left alone.
///
/// # Errors
/// As [`write()`], and a file that is not ours.
pub fn write_own(path: &Path, bytes: &[u8], ours: impl Fn(&str) -> bool) -> Result<(), FileError> {
    if fs::read(path).is_ok_and(|there| there == bytes) {
        return Ok(());
    }
    refuse_foreign(path, ours)?;
    write(path, bytes)
}

/// Refuses a file that [`write_own`] would not replace; to be asked before hours of work.
///
/// # Errors
/// As said.
pub fn refuse_foreign(path: &Path, ours: impl Fn(&str) -> bool) -> Result<(), FileError> {
    match fs::read(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(FileError::io("read", path, e)),
        Ok(there) if str::from_utf8(&there).is_ok_and(ours) => Ok(()),
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
        fs::write(root.path().join("f.tmp-7"), "of somebody else").unwrap();
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
    fn only_ours_is_replaced() {
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
    fn modes_links_and_special_files_stay() {
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
        // A link to a file, a link to that link, and one to a file that does not exist yet.
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
