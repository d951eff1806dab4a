//! The place that an output has asked for, and the names beside it.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

use super::FileError;

/// Links that are followed before they are taken for a circle.
const MOST_LINKS: usize = 40;

/// A path whose last part is no link, taken apart.
#[derive(Debug)]
pub struct Target {
    pub path: PathBuf,
    pub parent: PathBuf,
    name: OsString,
}

impl Target {
    /// Follows links, so that what they point to is replaced and the links stay. What they point to need not exist.
    pub fn of(path: &Path) -> Result<Self, FileError> {
        let mut path = path.to_path_buf();
        for _ in 0..MOST_LINKS {
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

    /// The name beside the target of what is under way in this process.
    pub fn aside(&self, kind: Kind) -> PathBuf {
        let mut name = self.prefix(kind);
        name.push(std::process::id().to_string());
        self.parent.join(name)
    }

    /// The name of the target with an ending behind it, for people to see.
    pub fn with_ending(&self, ending: &str) -> PathBuf {
        let mut name = self.name.clone();
        name.push(ending);
        self.parent.join(name)
    }

    /// The lock of the target.
    pub fn lock(&self) -> PathBuf {
        let mut name = OsString::from(".");
        name.push(&self.name);
        name.push(".jurist-lock");
        self.parent.join(name)
    }

    /// What processes left beside the target.
    pub fn leftovers(&self, kind: Kind) -> Result<Vec<PathBuf>, FileError> {
        let prefix = self.prefix(kind);
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.parent).map_err(|e| FileError::io("list", &self.parent, e))? {
            let name = entry.map_err(|e| FileError::io("list", &self.parent, e))?.file_name();
            let pid = name.as_encoded_bytes().strip_prefix(prefix.as_encoded_bytes());
            if pid.is_some_and(|pid| !pid.is_empty() && pid.iter().all(u8::is_ascii_digit)) {
                found.push(self.parent.join(name));
            }
        }
        Ok(found)
    }

    fn prefix(&self, kind: Kind) -> OsString {
        let mut name = OsString::from(".");
        name.push(&self.name);
        name.push(match kind {
            Kind::New => ".jurist-new-",
            Kind::Old => ".jurist-old-",
        });
        name
    }
}

/// What stands beside a target for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// What will have the target's name, or is being removed.
    New,
    /// What had the target's name, where the system cannot exchange two names in one step.
    Old,
}

/// What this process has under way, to be removed when it is interrupted.
static UNFINISHED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

fn unfinished() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    UNFINISHED.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// A path that is removed when the process is interrupted, for as long as this lives.
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

/// Gives names to what is finished, with [`remove_unfinished`] kept waiting: it would take files out of a folder that has its
/// name already.
pub fn publishing<T>(rename: impl FnOnce() -> T) -> T {
    let _held = unfinished();
    rename()
}

/// Removes what this process has under way. For an interrupted program, as the last thing before it ends: from now on nothing
/// is published.
pub fn remove_unfinished() {
    let all = unfinished();
    for path in all.iter() {
        // A thread may still be writing into a folder; there is nobody left to tell what stays.
        if path.is_dir() {
            let _ = fs::remove_dir_all(path).or_else(|_| fs::remove_dir_all(path));
        } else {
            let _ = fs::remove_file(path);
        }
    }
    std::mem::forget(all); // held until the process ends
}

/// Refuses `output` where it is the same file as `input`, or one of the files in it, whatever names they have. `what` names
/// the input for the message.
///
/// # Errors
/// As said. An input that does not exist is none.
pub fn refuse_input(output: &Path, input: &Path, what: &str) -> Result<(), FileError> {
    // Files and folders only: to look at a pipe would be to wait for its other end.
    let plain = |path: &Path| fs::metadata(path).is_ok_and(|found| found.is_file() || found.is_dir());
    let same = |file: &Path| plain(output) && plain(file) && same_file::is_same_file(output, file).unwrap_or(false);
    let inside = |dir: &Path| fs::read_dir(dir).into_iter().flatten().flatten().any(|entry| same(&entry.path()));
    match same(input) || inside(input) {
        true => Err(FileError::IsInput { path: output.into(), input: format!("{what} {}", input.display()) }),
        false => Ok(()),
    }
}
