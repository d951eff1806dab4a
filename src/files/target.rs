//! The path of an output, and the names of temporary files beside it.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

use sha2::{Digest, Sha256};

use super::FileError;

/// Most bytes of a file name on usual file systems.
const MAX_NAME: usize = 255;

/// Most digits of a process id.
const PROCESS_ID_DIGITS: usize = 10;

/// Links to follow before they are considered a circle.
const MAX_LINKS: usize = 40;

/// A path whose last part is not a link, with its parent and name.
#[derive(Debug)]
pub struct Target {
    pub path: PathBuf,
    pub parent: PathBuf,
    name: OsString,
}

impl Target {
    /// The target of `path`. Links are followed, so that the file is replaced and the links stay. The file need not exist.
    pub fn of(path: &Path) -> Result<Self, FileError> {
        let mut path = path.to_path_buf();
        for _ in 0..MAX_LINKS {
            let Some(name) = path.file_name().map(OsString::from) else {
                return Err(FileError::in_the_way(path, "the path does not end in a name"));
            };
            let parent = match path.parent() {
                Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
                _ => PathBuf::from("."),
            };
            if !path.is_symlink() {
                return Ok(Target { path, parent, name });
            }
            let link = fs::read_link(&path).map_err(|e| FileError::io("resolve", &path, e))?;
            path = parent.join(link);
        }
        Err(FileError::in_the_way(path, "its links lead in a circle"))
    }

    /// Checks that the target's folder is there; `path` is what the user wrote.
    pub fn require_folder(&self, path: &Path) -> Result<(), FileError> {
        match self.parent.is_dir() {
            true => Ok(()),
            false => Err(FileError::NoFolder { path: path.into(), folder: self.parent.clone() }),
        }
    }

    /// The path beside the target of this process's temporary file or folder.
    pub fn sibling(&self, kind: Sibling) -> PathBuf {
        let mut name = self.prefix(kind);
        name.push(std::process::id().to_string());
        self.parent.join(name)
    }

    /// The path of the target with an ending. Unlike a sibling it is visible to users.
    pub fn with_ending(&self, ending: &str) -> PathBuf {
        self.parent.join(self.named("", ending, 0))
    }

    /// The lock file of the target.
    pub fn lock(&self) -> PathBuf {
        self.parent.join(self.named(".", ".jurist-lock", 0))
    }

    /// The target's name between two texts, short enough for `reserved` more bytes. A long name is cut and completed with a hash.
    fn named(&self, before: &str, after: &str, reserved: usize) -> OsString {
        let max = MAX_NAME - before.len() - after.len() - reserved;
        let mut name = OsString::from(before);
        if self.name.len() <= max {
            name.push(&self.name);
        } else {
            let hash: String = Sha256::digest(self.name.as_encoded_bytes())[..8].iter().map(|b| format!("{b:02x}")).collect();
            let whole = self.name.to_string_lossy();
            let mut end = max.saturating_sub(hash.len() + 1).min(whole.len());
            while !whole.is_char_boundary(end) {
                end -= 1;
            }
            name.push(format!("{}~{hash}", &whole[..end]));
        }
        name.push(after);
        name
    }

    /// The siblings of all processes that are there.
    pub fn leftovers(&self, kind: Sibling) -> Result<Vec<PathBuf>, FileError> {
        let prefix = self.prefix(kind);
        let mut leftovers = Vec::new();
        for entry in fs::read_dir(&self.parent).map_err(|e| FileError::io("list", &self.parent, e))? {
            let name = entry.map_err(|e| FileError::io("list", &self.parent, e))?.file_name();
            let pid = name.as_encoded_bytes().strip_prefix(prefix.as_encoded_bytes());
            if pid.is_some_and(|pid| !pid.is_empty() && pid.iter().all(u8::is_ascii_digit)) {
                leftovers.push(self.parent.join(name));
            }
        }
        Ok(leftovers)
    }

    fn prefix(&self, kind: Sibling) -> OsString {
        let after = match kind {
            Sibling::New => ".jurist-new-",
            Sibling::Old => ".jurist-old-",
        };
        self.named(".", after, PROCESS_ID_DIGITS)
    }
}

/// The kind of a temporary file or folder beside a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sibling {
    /// It will have the target's name, or is being removed.
    New,
    /// It had the target's name, where the system cannot exchange two names in one step.
    Old,
}

/// The temporary files and folders of this process, which are removed when it is interrupted.
static UNFINISHED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

fn unfinished() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    UNFINISHED.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// A path that is removed if the process is interrupted before this is dropped.
#[derive(Debug)]
pub struct Unfinished(PathBuf);

impl Unfinished {
    pub fn new(path: &Path) -> Self {
        unfinished().insert(path.into());
        Unfinished(path.into())
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        unfinished().remove(&self.0);
    }
}

/// Runs `rename`, which gives a finished folder its name, while [`remove_unfinished`] waits. Otherwise that function could remove
/// files of a folder that already has its name.
pub fn publishing<T>(rename: impl FnOnce() -> T) -> T {
    let _lock = unfinished();
    rename()
}

/// Removes the temporary files and folders of this process. An interrupted program calls it last: afterwards nothing can be
/// published.
pub fn remove_unfinished() {
    let paths = unfinished();
    for path in paths.iter() {
        // Another thread may still be writing into the folder, so a failed removal is repeated once. Errors cannot be reported.
        if path.is_dir() {
            let _ = fs::remove_dir_all(path).or_else(|_| fs::remove_dir_all(path));
        } else {
            let _ = fs::remove_file(path);
        }
    }
    std::mem::forget(paths); // the lock is held until the process ends
}

/// Whether `path` is a file or a folder. Opening anything else, such as a pipe, could wait for its other end.
fn is_file_or_dir(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.is_file() || metadata.is_dir())
}

/// Whether two paths are the same existing file or folder.
fn is_same(a: &Path, b: &Path) -> bool {
    is_file_or_dir(a) && is_file_or_dir(b) && same_file::is_same_file(a, b).unwrap_or(false)
}

/// Whether two paths mean the same file or folder, which need not exist.
pub fn same_place(a: &Path, b: &Path) -> bool {
    let special = |path: &Path| path.exists() && !is_file_or_dir(path);
    let canonical = |path: &Path| {
        let target = Target::of(path).ok()?;
        Some(fs::canonicalize(&target.parent).ok()?.join(target.name))
    };
    !special(a) && !special(b) && (is_same(a, b) || canonical(a).is_some_and(|a| Some(a) == canonical(b)))
}

/// Checks that the folder of an output is there.
///
/// # Errors
/// A folder that does not exist.
pub fn require_folder(output: &Path) -> Result<(), FileError> {
    Target::of(output)?.require_folder(output)
}

/// Checks that `output` is neither the file or folder `input` nor below it. `what` names the input in the message.
///
/// # Errors
/// An output that is also an input. An input that does not exist is not an error.
pub fn refuse_input(output: &Path, input: &Path, what: &str) -> Result<(), FileError> {
    let inside = |dir: &Path| fs::read_dir(dir).into_iter().flatten().flatten().any(|entry| is_same(output, &entry.path()));
    let below = |dir: &Path| {
        let (output, dir) = (fs::canonicalize(output), fs::canonicalize(dir));
        is_file_or_dir(dir.as_deref().unwrap_or(input)) && output.is_ok_and(|output| dir.is_ok_and(|dir| output.starts_with(dir)))
    };
    match is_file_or_dir(output) && (is_same(output, input) || inside(input) || below(input)) {
        true => Err(FileError::IsInput { path: output.into(), input: format!("{what} {}", input.display()) }),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn different_spellings_of_a_path_are_the_same_place() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        fs::create_dir(at("d")).unwrap();
        assert!(same_place(&at("new"), &at("d/../new")) && same_place(&at("new"), &at("./new")));
        assert!(!same_place(&at("new"), &at("d/new")) && !same_place(&at("nowhere/x"), &at("new")));
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink("new", at("link")).unwrap();
            assert!(same_place(&at("new"), &at("link")), "a link to a file that does not exist yet");
            assert!(!same_place(Path::new("/dev/null"), Path::new("/dev/null")));
        }
    }

    #[test]
    fn files_below_an_input_are_inputs() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        fs::create_dir_all(at("model/checkpoint-4")).unwrap();
        fs::write(at("model/checkpoint-4/x"), "").unwrap();
        fs::write(at("y"), "").unwrap();
        assert!(refuse_input(&at("model/checkpoint-4/x"), &at("model"), "--model").is_err());
        for output in ["y", "model/new", "model/checkpoint-4/new"] {
            refuse_input(&at(output), &at("model"), "--model").unwrap();
        }
    }

    /// For every valid name all names beside it are valid too, and those of two long names differ.
    #[test]
    fn long_names_have_valid_and_distinct_siblings() {
        let root = tempfile::tempdir().unwrap();
        for length in [3, 226, 231, 240, 255] {
            let target =
                |end: &str| Target::of(&root.path().join("é".repeat(length)[..length / 2 * 2].to_string() + end)).unwrap();
            let (a, b) = (target(""), target(if length < 255 { "x" } else { "" }));
            for (a, b) in [
                (a.lock(), b.lock()),
                (a.sibling(Sibling::New), b.sibling(Sibling::New)),
                (a.sibling(Sibling::Old), b.sibling(Sibling::Old)),
                (a.with_ending(".unfinished"), b.with_ending(".unfinished")),
            ] {
                fs::write(&a, "").unwrap();
                assert!(a != b || length == 255, "{}", a.display());
                fs::remove_file(&a).unwrap();
            }
            fs::write(a.sibling(Sibling::New), "").unwrap();
            assert_eq!(a.leftovers(Sibling::New).unwrap(), [a.sibling(Sibling::New)]);
            fs::remove_file(a.sibling(Sibling::New)).unwrap();
        }
    }
}
