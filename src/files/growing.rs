//! A file that grows line by line over hours. Its lines survive an interrupted or killed process.
//!
//! ```text
//! NAME.part         the lines so far
//! NAME.unfinished   a note on how the lines are made, as long as lines are missing
//! NAME              an earlier file, until the last line is written
//! ```
//!
//! An interrupted process renames its lines to `NAME` if there is no earlier file, and otherwise leaves them in `NAME.part`. A
//! killed process leaves them in `NAME.part`. A process that resumes continues `NAME.part`, or `NAME` if there is no part.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::draft::{open_special, publish, writable};
use super::lock::Lock;
use super::target::Target;
use super::{FileError, sync_dir};

/// A file that grows line by line and keeps its lines.
#[derive(Debug)]
pub struct Growing {
    /// As the caller named it.
    path: PathBuf,
    target: Target,
    part: PathBuf,
    note: PathBuf,
    /// `Some` once lines are being written.
    file: Option<File>,
    /// Bytes of whole lines.
    bytes: u64,
    /// Whether unfinished lines may take the name, because no earlier file has it.
    free: bool,
    _lock: Lock,
}

impl Growing {
    /// Locks the file without writing anything. `None` for a pipe, a device and the like, which keep no lines.
    ///
    /// # Errors
    /// A folder of that name; a file or folder that may not be written to; another process that is writing it.
    pub fn open(path: &Path) -> Result<Option<Self>, FileError> {
        if special(path) {
            return Ok(None);
        }
        let target = writable(path)?;
        target.require_folder(path)?;
        let (part, note) = (target.with_ending(".part"), target.with_ending(".unfinished"));
        let _lock = Lock::beside(&target.path).map_err(|e| match e {
            FileError::Locked { pid, .. } => FileError::Locked { path: path.into(), pid },
            e => e,
        })?;
        for own in [&part, &note] {
            if fs::symlink_metadata(own).is_ok_and(|metadata| !metadata.is_file()) {
                return Err(FileError::in_the_way(own, "it is no file, and rows are to be kept there; move it away"));
            }
        }
        let free = !target.path.exists();
        Ok(Some(Growing { path: path.into(), target, part, note, file: None, bytes: 0, free, _lock }))
    }

    /// The file with the lines of an earlier process, if there is one.
    pub fn earlier(&self) -> Option<&Path> {
        [&self.part, &self.target.path].into_iter().find(|path| path.is_file()).map(PathBuf::as_path)
    }

    /// `NAME.part`, if an earlier process left it.
    pub fn left_over(&self) -> Option<&Path> {
        self.part.is_file().then_some(self.part.as_path())
    }

    /// The note of the process that began the lines.
    pub fn note(&self) -> Option<String> {
        fs::read_to_string(&self.note).ok()
    }

    /// Whether anything was written.
    pub fn is_begun(&self) -> bool {
        self.file.is_some()
    }

    /// Begins to write, after the first `keep` bytes of [`Growing::earlier`]. `note` says how the lines are made.
    ///
    /// # Errors
    /// A note that is not jurist's; a full disk.
    pub fn begin(&mut self, keep: u64, note: &str, ours: impl Fn(&str) -> bool) -> Result<(), FileError> {
        super::write_own(&self.note, note.as_bytes(), ours)?;
        let from = self.earlier().filter(|_| keep > 0).map(Path::to_path_buf);
        self.free |= from.as_ref() == Some(&self.target.path);
        let failed = |e| FileError::io("write", &self.path, e);
        let continues = from.as_ref() == Some(&self.part);
        let mut file = OpenOptions::new().create(true).write(true).truncate(!continues).open(&self.part).map_err(failed)?;
        if let Ok(before) = fs::metadata(&self.target.path) {
            file.set_permissions(before.permissions()).map_err(failed)?; // as private as the file that it will replace
        }
        if continues {
            file.set_len(keep).map_err(failed)?;
            io::Seek::seek(&mut file, io::SeekFrom::Start(keep)).map_err(failed)?;
        } else if let Some(from) = from {
            let mut earlier = File::open(&from).map_err(|e| FileError::io("open", &from, e))?.take(keep);
            io::copy(&mut earlier, &mut file).map_err(failed)?;
        }
        self.bytes = keep;
        self.file = Some(file);
        Ok(())
    }

    /// Appends whole lines and syncs them to the disk: all of them or none.
    ///
    /// # Errors
    /// A full disk. The earlier lines stay.
    pub fn append(&mut self, lines: &str) -> Result<(), FileError> {
        let Some(file) = &mut self.file else { return Ok(()) };
        let written = file.write_all(lines.as_bytes()).and_then(|()| file.sync_data());
        if let Err(e) = written {
            let _ = file.set_len(self.bytes); // if this fails, a resumed run skips the incomplete line
            return Err(FileError::io("write", &self.path, e));
        }
        self.bytes += lines.len() as u64;
        Ok(())
    }

    /// Whether finishing would replace an earlier file.
    pub fn replaces(&self) -> bool {
        !self.free
    }

    /// Removes the lines and the note. An earlier file stays.
    ///
    /// # Errors
    /// Those of the system.
    pub fn discard(self) -> Result<(), FileError> {
        if self.file.is_none() {
            return Ok(());
        }
        [&self.part, &self.note].into_iter().try_for_each(|own| fs::remove_file(own).map_err(|e| FileError::io("remove", own, e)))
    }

    /// Stops before the last line. Returns the file with the lines so far; `None` if there are none.
    ///
    /// # Errors
    /// Those of the system.
    pub fn stop(self) -> Result<Option<PathBuf>, FileError> {
        let Some(file) = &self.file else { return Ok(None) };
        if self.bytes == 0 {
            self.discard()?;
            return Ok(None);
        }
        if !self.free {
            return Ok(Some(self.part.clone()));
        }
        publish(file, &self.part, &self.target).map_err(|e| FileError::io("write", &self.path, e))?;
        sync_dir(&self.target.parent)?;
        Ok(Some(self.path.clone()))
    }

    /// Renames the finished file to its name.
    ///
    /// # Errors
    /// Those of the system. The lines then stay in `NAME.part`.
    pub fn finish(self) -> Result<(), FileError> {
        let Some(file) = &self.file else { return Ok(()) };
        publish(file, &self.part, &self.target).map_err(|e| FileError::io("write", &self.path, e))?;
        fs::remove_file(&self.note).map_err(|e| FileError::io("remove", &self.note, e))?;
        sync_dir(&self.target.parent)
    }
}

/// Whether `path` is neither a file nor a folder, so that it keeps no lines.
fn special(path: &Path) -> bool {
    // The metadata is read without opening: opening a pipe would wait for its reader.
    fs::metadata(path).is_ok_and(|metadata| !metadata.is_file() && !metadata.is_dir()) || super::draft::is_stream(path)
}

/// The differences between a note and the note that would be written `now`, in words; `None` if there are none. Both are JSON
/// objects. The version of jurist is not compared.
pub fn changes(note: &str, now: &Value) -> Option<String> {
    let before: Map<String, Value> = serde_json::from_str(note).unwrap_or_default();
    let shown = |value: &Value| {
        let text = value.to_string();
        if text.chars().count() > 60 { text.chars().take(60).collect::<String>() + "…" } else { text }
    };
    let changed = before.iter().filter(|(key, was)| *key != "jurist" && now[key.as_str()] != **was);
    let changes: Vec<String> =
        changed.map(|(key, was)| format!("{key} was {} and is now {}", shown(was), shown(&now[key.as_str()]))).collect();
    (!changes.is_empty()).then(|| changes.join("; "))
}

/// The paths of the lines and the note of an unfinished file.
pub fn companions(path: &Path) -> Vec<PathBuf> {
    let endings = |target: Target| [".part", ".unfinished"].map(|ending| target.with_ending(ending)).to_vec();
    Target::of(path).map(endings).unwrap_or_default()
}

/// Whether `path` is unfinished: its last process was interrupted.
pub fn is_unfinished(path: &Path) -> bool {
    Target::of(path).is_ok_and(|target| target.with_ending(".unfinished").is_file())
}

/// Opens a path for which [`Growing::open`] returns `None`.
///
/// # Errors
/// Those of the system.
pub fn open_stream(path: &Path) -> Result<File, FileError> {
    match open_special(path)? {
        Some(file) => Ok(file),
        None => Err(FileError::io("write", path, io::ErrorKind::NotFound.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn open(path: &Path) -> Growing {
        Growing::open(path).unwrap().unwrap()
    }

    fn begun(path: &Path, keep: u64) -> Growing {
        let mut growing = open(path);
        growing.begin(keep, "note", |_| true).unwrap();
        growing
    }

    #[test]
    fn a_stopped_file_can_be_resumed_and_finished() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("f");
        let text = || fs::read_to_string(&path).unwrap();
        let mut growing = begun(&path, 0);
        growing.append("a\nb\n").unwrap();
        assert_eq!(growing.stop().unwrap().as_deref(), Some(path.as_path()));
        assert_eq!((text().as_str(), names(root.path())), ("a\nb\n", vec!["f".to_string(), "f.unfinished".into()]));
        assert!(is_unfinished(&path));

        let growing = open(&path);
        assert_eq!(
            (growing.earlier(), growing.left_over(), growing.note().as_deref()),
            (Some(path.as_path()), None, Some("note"))
        );
        drop(growing);
        let mut growing = begun(&path, 2);
        growing.append("c\n").unwrap();
        growing.finish().unwrap();
        assert_eq!((text().as_str(), names(root.path())), ("a\nc\n", vec!["f".to_string()]));
        assert!(!is_unfinished(&path));
    }

    /// An earlier file stays until the new one is complete. Stopping without lines leaves nothing.
    #[test]
    fn an_earlier_file_stays_until_the_end() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("f");
        fs::write(&path, "old").unwrap();
        assert_eq!(begun(&path, 0).stop().unwrap(), None);
        assert_eq!(names(root.path()), ["f"]);
        let mut growing = begun(&path, 0);
        growing.append("a\n").unwrap();
        let kept = growing.stop().unwrap().unwrap();
        assert_eq!((fs::read_to_string(&path).unwrap().as_str(), fs::read_to_string(&kept).unwrap().as_str()), ("old", "a\n"));
        let growing = open(&path);
        assert_eq!((growing.left_over(), growing.earlier()), (Some(kept.as_path()), Some(kept.as_path())));
        drop(growing);
        let mut growing = begun(&path, 2);
        growing.append("b\n").unwrap();
        growing.finish().unwrap();
        assert_eq!((fs::read_to_string(&path).unwrap().as_str(), names(root.path())), ("a\nb\n", vec!["f".to_string()]));
    }

    /// A killed process leaves an incomplete line and a lock file. Neither prevents a resumed run.
    #[test]
    fn the_lines_of_a_killed_process_are_kept() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("f");
        for (name, text) in [("f.part", "a\nb\nhal"), ("f.unfinished", "note"), (".f.jurist-lock", "99999")] {
            fs::write(root.path().join(name), text).unwrap();
        }
        let mut growing = begun(&path, 4);
        growing.append("c\n").unwrap();
        growing.finish().unwrap();
        assert_eq!((fs::read_to_string(&path).unwrap().as_str(), names(root.path())), ("a\nb\nc\n", vec!["f".to_string()]));
    }

    #[test]
    fn a_folder_with_the_name_of_the_part_or_note_is_in_the_way() {
        for name in ["f.part", "f.unfinished"] {
            let root = tempfile::tempdir().unwrap();
            fs::create_dir(root.path().join(name)).unwrap();
            let error = Growing::open(&root.path().join("f")).err().unwrap().to_string();
            assert!(error.contains(name) && error.contains("is in the way"), "{error}");
        }
    }

    #[test]
    fn one_process_at_a_time() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("f");
        let _first = open(&path);
        let message = Growing::open(&path).unwrap_err().to_string();
        assert!(message.contains("another jurist (process"), "{message}");
        assert!(Growing::open(Path::new("/dev/null")).unwrap().is_none() || !cfg!(unix));
    }
}
