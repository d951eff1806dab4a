//! The place that an output has asked for, and the names beside it.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

use sha2::{Digest, Sha256};

use super::FileError;

/// Bytes of a name that every usual file system takes.
const LONGEST_NAME: usize = 255;

/// Digits of a process id, at most.
const PROCESS_ID: usize = 10;

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
        self.parent.join(self.named("", ending, 0))
    }

    /// The lock of the target.
    pub fn lock(&self) -> PathBuf {
        self.parent.join(self.named(".", ".jurist-lock", 0))
    }

    /// The target's name between two texts, with room for so many bytes behind them. Of a long name the beginning stands for it,
    /// with a hash.
    fn named(&self, before: &str, after: &str, room: usize) -> OsString {
        let most = LONGEST_NAME - before.len() - after.len() - room;
        let mut name = OsString::from(before);
        if self.name.len() <= most {
            name.push(&self.name);
        } else {
            let hash: String = Sha256::digest(self.name.as_encoded_bytes())[..8].iter().map(|b| format!("{b:02x}")).collect();
            let whole = self.name.to_string_lossy();
            let mut end = most.saturating_sub(hash.len() + 1).min(whole.len());
            while !whole.is_char_boundary(end) {
                end -= 1;
            }
            name.push(format!("{}~{hash}", &whole[..end]));
        }
        name.push(after);
        name
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
        let after = match kind {
            Kind::New => ".jurist-new-",
            Kind::Old => ".jurist-old-",
        };
        self.named(".", after, PROCESS_ID)
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

/// Files and folders only: to look at a pipe would be to wait for its other end.
fn plain(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| found.is_file() || found.is_dir())
}

/// Whether two paths are one file or folder that is there.
fn is_same(a: &Path, b: &Path) -> bool {
    plain(a) && plain(b) && same_file::is_same_file(a, b).unwrap_or(false)
}

/// Whether two paths are one place, whatever their spelling, be something there or not.
pub fn same_place(a: &Path, b: &Path) -> bool {
    let special = |path: &Path| path.exists() && !plain(path);
    let place = |path: &Path| {
        let target = Target::of(path).ok()?;
        Some(fs::canonicalize(&target.parent).ok()?.join(target.name))
    };
    !special(a) && !special(b) && (is_same(a, b) || place(a).is_some_and(|a| Some(a) == place(b)))
}

/// Refuses `output` where it is the same file as `input`, or one of the files below it, whatever names they have. `what` names
/// the input for the message.
///
/// # Errors
/// As said. An input that does not exist is none.
pub fn refuse_input(output: &Path, input: &Path, what: &str) -> Result<(), FileError> {
    let inside = |dir: &Path| fs::read_dir(dir).into_iter().flatten().flatten().any(|entry| is_same(output, &entry.path()));
    let below = |dir: &Path| {
        let (output, dir) = (fs::canonicalize(output), fs::canonicalize(dir));
        plain(dir.as_deref().unwrap_or(input)) && output.is_ok_and(|output| dir.is_ok_and(|dir| output.starts_with(dir)))
    };
    match plain(output) && (is_same(output, input) || inside(input) || below(input)) {
        true => Err(FileError::IsInput { path: output.into(), input: format!("{what} {}", input.display()) }),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_place_by_several_names() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        fs::create_dir(at("d")).unwrap();
        assert!(same_place(&at("new"), &at("d/../new")) && same_place(&at("new"), &at("./new")));
        assert!(!same_place(&at("new"), &at("d/new")) && !same_place(&at("nowhere/x"), &at("new")));
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink("new", at("link")).unwrap();
            assert!(same_place(&at("new"), &at("link")), "a link to what is not there yet");
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

    /// A name that the file system takes has room for all that stands beside it, and two long names do not share it.
    #[test]
    fn long_names_have_companions() {
        let root = tempfile::tempdir().unwrap();
        for length in [3, 226, 231, 240, 255] {
            let of = |end: &str| Target::of(&root.path().join("é".repeat(length)[..length / 2 * 2].to_string() + end)).unwrap();
            let (a, b) = (of(""), of(if length < 255 { "x" } else { "" }));
            for (a, b) in [
                (a.lock(), b.lock()),
                (a.aside(Kind::New), b.aside(Kind::New)),
                (a.aside(Kind::Old), b.aside(Kind::Old)),
                (a.with_ending(".unfinished"), b.with_ending(".unfinished")),
            ] {
                fs::write(&a, "").unwrap();
                assert!(a != b || length == 255, "{}", a.display());
                fs::remove_file(&a).unwrap();
            }
            fs::write(a.aside(Kind::New), "").unwrap();
            assert_eq!(a.leftovers(Kind::New).unwrap(), [a.aside(Kind::New)]);
            fs::remove_file(a.aside(Kind::New)).unwrap();
        }
    }
}
