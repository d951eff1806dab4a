//! The folder that a run writes into. One process locks it, and files that no run wrote are left alone.
//!
//! A new run refuses a folder that contains a name it will write. Evidence that a run wrote a file or folder:
//!
//! - `checkpoint-N`: runs write every name in it, and it contains the training state of a run;
//! - `jurist.toml`: its first line has the hash of the rest, which differs if the file was made or changed manually;
//! - `metrics.jsonl`: it begins with the log in the checkpoint that the run resumes from;
//! - TensorBoard's event file: its first event names the writer.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::bundle::sha256_hex;
use crate::files::{self, FileError, Lock};
use crate::judge::{JUDGE_FILE, same_judge};
use crate::model::lora::peft::{ADAPTER_CONFIG, ADAPTER_MODEL};
use crate::ranks::Ranks;
use crate::text::TOKENIZER_FILES;
use crate::train::TrainError;
use crate::train::checkpoint::training_state::TRAINING_STATE;
use crate::train::checkpoint::{self, METRICS, RESOLVED_CONFIG, TRAINER_STATE, checkpoint_step};
use crate::train::config::TrainConfig;
use crate::train::error::io_error;
use crate::train::run::events::{self, EVENTS};

/// A run's folder, locked by this process once it exists.
#[derive(Debug)]
pub struct OutputFolder {
    path: PathBuf,
    lock: Option<Lock>,
}

impl OutputFolder {
    /// Locks the folder, if it exists, and removes the unfinished files of a killed run. Nothing is created.
    ///
    /// # Errors
    /// Another process has locked it.
    pub fn claim(path: &Path) -> Result<Self, TrainError> {
        let mut folder = OutputFolder { path: path.into(), lock: None };
        if path.is_dir() {
            folder.lock()?;
        }
        Ok(folder)
    }

    /// As [`OutputFolder::claim`], on rank 0. On the other ranks it is only named.
    pub fn claim_on(path: &Path, ranks: &Ranks) -> Result<Self, TrainError> {
        if ranks.is_first() { OutputFolder::claim(path) } else { Ok(OutputFolder { path: path.into(), lock: None }) }
    }

    /// Creates the folder if it does not exist and locks it; true if it was not locked before.
    ///
    /// # Errors
    /// As [`OutputFolder::claim`]; a folder that cannot be created.
    pub fn create(&mut self) -> Result<bool, TrainError> {
        if self.lock.is_some() {
            return Ok(false);
        }
        fs::create_dir_all(&self.path).map_err(|e| io_error("create", &self.path, e))?;
        self.lock()?;
        Ok(true)
    }

    fn lock(&mut self) -> Result<(), TrainError> {
        let lock = Lock::inside(&self.path)?;
        files::clean(&self.path, &lock, |name| checkpoint_step(name).is_some())?;
        self.lock = Some(lock);
        Ok(())
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Whether runs write files of this name: settings, log, and the files of a judge.
fn is_run_file(name: &str) -> bool {
    const NAMES: [&str; 8] = [
        RESOLVED_CONFIG,
        METRICS,
        EVENTS,
        JUDGE_FILE,
        "config.json",
        ADAPTER_CONFIG,
        ADAPTER_MODEL,
        "model.safetensors.index.json",
    ];
    let weights = name.starts_with("model") && name.ends_with(".safetensors");
    weights || NAMES.contains(&name) || TOKENIZER_FILES.contains(&name)
}

/// Refuses a folder that contains a name which a new run will write. Files of a run that was killed before its first checkpoint
/// are allowed.
///
/// # Errors
/// The first such name.
pub fn refuse_taken(output: &Path) -> Result<(), TrainError> {
    let mut names: Vec<String> = match fs::read_dir(output) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries
            .and_then(|entries| entries.map(|e| Ok(e?.file_name().to_string_lossy().into_owned())).collect())
            .map_err(|e| io_error("list", output, e))?,
    };
    names.sort();
    let problem = |name: &str| match name {
        JUDGE_FILE | "config.json" | ADAPTER_CONFIG => "there is a model in this folder, which a new run would overwrite",
        _ => "this jurist did not write it here (an earlier version may have), and a new run would overwrite it",
    };
    let has_begun = fs::read_to_string(output.join(RESOLVED_CONFIG)).is_ok_and(|text| is_resolved_config(&text));
    let is_events = || events::is_ours(&output.join(EVENTS));
    let left_over =
        |name: &str| has_begun && (name == RESOLVED_CONFIG || name == METRICS && is_log(output) || name == EVENTS && is_events());
    match names.iter().find(|name| is_run_file(name) && !left_over(name)) {
        None => Ok(()),
        Some(name) => {
            let problem = format!("{}; move it away or choose another output_dir", problem(name));
            Err(FileError::in_the_way(output.join(name), problem).into())
        }
    }
}

/// Whether `metrics.jsonl` looks like the log of a run.
fn is_log(output: &Path) -> bool {
    fs::read_to_string(output.join(METRICS)).is_ok_and(|text| log_lines(&text).is_some())
}

/// The lines of a log, without an incomplete last line; `None` for a text with other lines.
fn log_lines(text: &str) -> Option<Vec<Value>> {
    const LINE_START: &str = "{\"step\"";
    let (complete, rest) = text.rsplit_once('\n').unwrap_or(("", text));
    if !rest.starts_with(LINE_START) && !LINE_START.starts_with(rest) {
        return None;
    }
    let parse = |line: &str| serde_json::from_str::<Value>(line).ok().filter(|l| l["step"].is_u64());
    complete.lines().map(parse).collect()
}

/// Refuses a `metrics.jsonl` that is not the log of the checkpoint to resume from, which has `bytes` bytes and these lines.
///
/// # Errors
/// Such a file; one that cannot be read.
pub fn refuse_other_log(output: &Path, bytes: u64, history: &[Value]) -> Result<(), TrainError> {
    let path = output.join(METRICS);
    let text = match fs::read(&path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(io_error("read", &path, e)),
        Ok(text) => String::from_utf8_lossy(&text).into_owned(),
    };
    let lines = log_lines(&text).filter(|lines| {
        let known = lines.len().min(history.len());
        // A log shorter than at the checkpoint may lack lines, and the run continues it. A longer one must have them all.
        lines[..known] == history[..known] && (known == history.len() || (text.len() as u64) < bytes)
    });
    match lines {
        Some(_) => Ok(()),
        None => {
            let problem = "it is not the log of the run to resume, and would be overwritten; move it away";
            Err(FileError::in_the_way(path, problem).into())
        }
    }
}

/// The first name in a folder `checkpoint-N` that no run wrote, which keeps the folder from being replaced or deleted. `None` for
/// a run's checkpoint, complete or damaged, and for an empty folder.
pub fn foreign_in_checkpoint(path: &Path) -> Option<String> {
    let mut names: Vec<String> = Vec::new();
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_state = name == TRAINER_STATE || name == TRAINING_STATE;
        if !entry.file_type().is_ok_and(|t| t.is_file()) || !(is_state || is_run_file(&name)) {
            return Some(name);
        }
        names.push(name);
    }
    let is_ours = || names.iter().any(|n| n == TRAINING_STATE) || checkpoint::read_state(path).is_ok();
    names.first().filter(|_| !is_ours()).cloned()
}

/// Refuses folders with the names of later checkpoints that are not a run's checkpoints.
///
/// # Errors
/// The first such folder.
pub fn refuse_foreign_checkpoints(output: &Path, after: u64) -> Result<(), TrainError> {
    for step in checkpoint::list_checkpoints(output)?.into_iter().filter(|step| *step > after) {
        refuse_foreign_checkpoint(&output.join(checkpoint::checkpoint_name(step)))?;
    }
    Ok(())
}

/// Refuses a folder that is not a run's checkpoint.
///
/// # Errors
/// Such a folder.
pub fn refuse_foreign_checkpoint(path: &Path) -> Result<(), TrainError> {
    match foreign_in_checkpoint(path) {
        None => Ok(()),
        Some(name) => {
            let problem = "no run wrote it, and its folder would be replaced by a checkpoint; move it away";
            Err(FileError::in_the_way(path.join(name), problem).into())
        }
    }
}

/// Whether the judge in `output` is complete: it has every file of the model in `checkpoint`, byte for byte.
pub fn has_judge_of(output: &Path, checkpoint: &Path) -> bool {
    let is_state = |name: &str| name == TRAINER_STATE || name == TRAINING_STATE;
    let Ok(entries) = fs::read_dir(checkpoint) else { return false };
    let names = entries.flatten().map(|entry| entry.file_name());
    let names: Vec<_> = names.filter(|name| !is_state(&name.to_string_lossy())).collect();
    output.join(JUDGE_FILE).is_file() && names.iter().all(|name| same_file(&output.join(name), &checkpoint.join(name)))
}

/// Whether two files have the same bytes; a `judge.json` that was calibrated since counts as the one that it was.
fn same_file(one: &Path, other: &Path) -> bool {
    let texts = || Some((fs::read_to_string(one).ok()?, fs::read_to_string(other).ok()?));
    let is_judge = one.file_name().is_some_and(|name| name == JUDGE_FILE);
    files::same_bytes(one, other) || (is_judge && texts().is_some_and(|(one, other)| same_judge(&one, &other)))
}

/// The files of a judge that the run wrote at an earlier end: each equals a file of one of the run's checkpoints.
///
/// # Errors
/// A file with a name of the final model's and other contents.
pub fn earlier_judge(output: &Path) -> Result<Vec<PathBuf>, TrainError> {
    let steps = checkpoint::list_checkpoints(output)?;
    let checkpoints: Vec<PathBuf> = steps.iter().map(|step| output.join(checkpoint::checkpoint_name(*step))).collect();
    let mut files = Vec::new();
    for entry in fs::read_dir(output).into_iter().flatten().flatten() {
        let (name, path) = (entry.file_name().to_string_lossy().into_owned(), entry.path());
        if !is_run_file(&name) || [RESOLVED_CONFIG, METRICS, EVENTS].contains(&name.as_str()) {
            continue;
        }
        let known = checkpoints.iter().rev().any(|folder| same_file(&path, &folder.join(&name)));
        if !known {
            let problem = "it is in no checkpoint of this run, so that another wrote it, or it or the checkpoint is damaged, and going \
                           on would overwrite it; move it away";
            return Err(FileError::in_the_way(path, problem).into());
        }
        files.push(path);
    }
    Ok(files)
}

/// The first line of `jurist.toml` up to the hash of the lines below.
const HEADER: &str = "# Written by jurist train, and anew when the run is resumed. SHA-256 of the lines below: ";

/// The text of `jurist.toml`.
fn resolved_config(config: &TrainConfig) -> Result<String, TrainError> {
    let text = config.to_toml()?;
    Ok(format!("{HEADER}{}\n{text}", sha256_hex(text.as_bytes())))
}

/// Whether a text is an unchanged `jurist.toml` of a run.
fn is_resolved_config(text: &str) -> bool {
    let rest = text.strip_prefix(HEADER).and_then(|rest| rest.split_once('\n'));
    rest.is_some_and(|(hash, below)| hash == sha256_hex(below.as_bytes()))
}

/// Writes the resolved config into the output folder. False if there is a file that no run wrote, or that was changed: it is left
/// as it is.
///
/// # Errors
/// A file that cannot be written.
pub fn write_resolved_config(output: &Path, config: &TrainConfig) -> Result<bool, TrainError> {
    match files::write_own(&output.join(RESOLVED_CONFIG), resolved_config(config)?.as_bytes(), is_resolved_config) {
        Ok(()) => Ok(true),
        Err(FileError::InTheWay { .. }) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message<T: std::fmt::Debug>(result: Result<T, TrainError>) -> String {
        result.unwrap_err().to_string()
    }

    /// Names that a run writes are refused; other names are allowed.
    #[test]
    fn a_new_run_refuses_a_folder_with_names_that_it_will_write() {
        for name in
            ["jurist.toml", "metrics.jsonl", "judge.json", "tokenizer.json", "model-00001-of-00002.safetensors", "vocab.json"]
        {
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join(name), "mine").unwrap();
            let message = message(refuse_taken(dir.path()));
            assert!(message.contains(name) && message.contains("choose another output_dir"), "{message}");
        }
        let dir = tempfile::tempdir().unwrap();
        for name in ["notes.txt", "train.jsonl", "final", "run.toml"] {
            fs::write(dir.path().join(name), "mine").unwrap();
        }
        refuse_taken(dir.path()).unwrap();
        refuse_taken(&dir.path().join("nothing")).unwrap();
    }

    /// Files of a run that was killed before its first checkpoint are ours until they are changed.
    #[test]
    fn a_run_that_was_killed_early_may_begin_again() {
        let dir = tempfile::tempdir().unwrap();
        assert!(write_resolved_config(dir.path(), &TrainConfig::default()).unwrap());
        fs::write(dir.path().join(METRICS), "{\"step\":1,\"loss\":2.0}\n{\"ste").unwrap();
        refuse_taken(dir.path()).unwrap();
        let other = TrainConfig { seed: 9, ..TrainConfig::default() };
        assert!(write_resolved_config(dir.path(), &other).unwrap());

        fs::write(dir.path().join(METRICS), "{\"song\":1}\n").unwrap();
        assert!(message(refuse_taken(dir.path())).contains(METRICS));
        fs::remove_file(dir.path().join(METRICS)).unwrap();

        let changed = fs::read_to_string(dir.path().join(RESOLVED_CONFIG)).unwrap() + "# why: see notes\n";
        fs::write(dir.path().join(RESOLVED_CONFIG), &changed).unwrap();
        assert!(message(refuse_taken(dir.path())).contains(RESOLVED_CONFIG));
        assert!(!write_resolved_config(dir.path(), &TrainConfig::default()).unwrap());
        assert_eq!(fs::read_to_string(dir.path().join(RESOLVED_CONFIG)).unwrap(), changed);
    }

    #[test]
    fn only_the_runs_own_log_is_truncated() {
        let dir = tempfile::tempdir().unwrap();
        let text = "{\"step\":1,\"loss\":2.5}\n{\"step\":2,\"loss\":2.0}\n";
        let history = log_lines(text).unwrap();
        let bytes = text.len() as u64;
        refuse_other_log(dir.path(), bytes, &history).unwrap();
        for (there, fits) in [
            (text.to_string(), true),
            (format!("{text}{{\"step\":3,\"loss\":1.0}}\n{{\"st"), true),
            (text[..25].to_string(), true),
            (String::new(), true),
            ("{\"step\":1,\"loss\":7.0}\n{\"step\":2,\"loss\":2.0}\n".into(), false),
            (format!("{text}a note of mine\n"), false),
            ("my measurements, which are longer than the log of the run that is gone on with\n".into(), false),
        ] {
            fs::write(dir.path().join(METRICS), &there).unwrap();
            assert_eq!(refuse_other_log(dir.path(), bytes, &history).is_ok(), fits, "{there}");
        }
    }

    #[test]
    fn checkpoints_are_recognised_by_their_files() {
        for (names, foreign) in [
            (&[][..], None),
            (&["config.json", "model.safetensors", TRAINING_STATE, "judge.json", "tokenizer.json"], None),
            (&["config.json", TRAINING_STATE, "thesis.txt"], Some("thesis.txt")),
            (&["config.json", "model.safetensors"], Some("config.json or model.safetensors")),
            (&["model.safetensors", "optimizer.pt", TRAINER_STATE], Some("optimizer.pt")),
            (&["model.safetensors", TRAINER_STATE], Some("model.safetensors or trainer_state.json")),
        ] {
            let dir = tempfile::tempdir().unwrap();
            names.iter().for_each(|name| fs::write(dir.path().join(name), "{}").unwrap());
            let found = foreign_in_checkpoint(dir.path());
            assert_eq!(found.is_some(), foreign.is_some(), "{names:?}");
            assert!(found.is_none_or(|name| foreign.unwrap().contains(&name)), "{names:?}");
        }
    }
}
