//! The folder that a run writes into: held by one process, and nothing in it that a run did not write is touched.
//!
//! A new run refuses a folder in which a name that it will write is taken. What proves that a file or folder is a run's:
//!
//! - `checkpoint-N`: every name in it is one that runs write, and the training state beside the weights is ours;
//! - `jurist.toml`: its first line holds the hash of the rest, so that a file which somebody made or changed is told from ours;
//! - `metrics.jsonl`: its beginning is the log in the checkpoint that the run goes on from.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::bundle::sha256_hex;
use crate::files::{self, FileError, Lock};
use crate::judge::JUDGE_FILE;
use crate::model::lora::peft::{ADAPTER_CONFIG, ADAPTER_MODEL};
use crate::text::TOKENIZER_FILES;
use crate::train::TrainError;
use crate::train::checkpoint::training_state::TRAINING_STATE;
use crate::train::checkpoint::{self, METRICS, RESOLVED_CONFIG, TRAINER_STATE, checkpoint_step};
use crate::train::config::TrainConfig;
use crate::train::error::io_error;

/// A run's folder, held by this process once it exists.
#[derive(Debug)]
pub struct OutputFolder {
    path: PathBuf,
    lock: Option<Lock>,
}

impl OutputFolder {
    /// Holds the folder, if there is one, and removes what a killed run left half written. Nothing is made.
    ///
    /// # Errors
    /// Another process holds it.
    pub fn claim(path: &Path) -> Result<Self, TrainError> {
        let mut folder = OutputFolder { path: path.into(), lock: None };
        if path.is_dir() {
            folder.hold()?;
        }
        Ok(folder)
    }

    /// Makes the folder if there is none and holds it; true where it was not held before.
    ///
    /// # Errors
    /// As [`OutputFolder::claim`]; a folder that cannot be made.
    pub fn make(&mut self) -> Result<bool, TrainError> {
        if self.lock.is_some() {
            return Ok(false);
        }
        fs::create_dir_all(&self.path).map_err(|e| io_error("create", &self.path, e))?;
        self.hold()?;
        Ok(true)
    }

    fn hold(&mut self) -> Result<(), TrainError> {
        let lock = Lock::inside(&self.path)?;
        files::clean(&self.path, &lock, |name| checkpoint_step(name).is_some())?;
        self.lock = Some(lock);
        Ok(())
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Whether a run writes a file of this name: settings, log, and the files of a judge.
fn is_run_file(name: &str) -> bool {
    const NAMES: [&str; 7] =
        [RESOLVED_CONFIG, METRICS, JUDGE_FILE, "config.json", ADAPTER_CONFIG, ADAPTER_MODEL, "model.safetensors.index.json"];
    let weights = name.starts_with("model") && name.ends_with(".safetensors");
    weights || NAMES.contains(&name) || TOKENIZER_FILES.contains(&name)
}

/// Refuses a folder in which a name that a new run will write is taken. What a run that was killed before its first checkpoint
/// left is no hindrance.
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
    let begun = fs::read_to_string(output.join(RESOLVED_CONFIG)).is_ok_and(|text| is_resolved_config(&text));
    let left_over = |name: &str| begun && (name == RESOLVED_CONFIG || name == METRICS && is_log(output));
    match names.iter().find(|name| is_run_file(name) && !left_over(name)) {
        None => Ok(()),
        Some(name) => {
            let problem = format!("{}; move it away or choose another output_dir", problem(name));
            Err(FileError::in_the_way(output.join(name), problem).into())
        }
    }
}

/// Whether `metrics.jsonl` is a log, as far as can be told without a checkpoint.
fn is_log(output: &Path) -> bool {
    fs::read_to_string(output.join(METRICS)).is_ok_and(|text| log_lines(&text).is_some())
}

/// The lines of a log, of which the last may be cut; none for a text with other lines.
fn log_lines(text: &str) -> Option<Vec<Value>> {
    const BEGINNING: &str = "{\"step\"";
    let (whole, cut) = text.rsplit_once('\n').unwrap_or(("", text));
    if !cut.starts_with(BEGINNING) && !BEGINNING.starts_with(cut) {
        return None;
    }
    let line = |line: &str| serde_json::from_str::<Value>(line).ok().filter(|l| l["step"].is_u64());
    whole.lines().map(line).collect()
}

/// Refuses a `metrics.jsonl` that is not the log of the checkpoint to go on from, which has `bytes` bytes and these lines.
///
/// # Errors
/// As said.
pub fn refuse_other_log(output: &Path, bytes: u64, history: &[Value]) -> Result<(), TrainError> {
    let path = output.join(METRICS);
    let text = match fs::read(&path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(io_error("read", &path, e)),
        Ok(text) => String::from_utf8_lossy(&text).into_owned(),
    };
    let lines = log_lines(&text).filter(|lines| {
        let known = lines.len().min(history.len());
        // A shorter log has lost lines and is gone on with; one of the checkpoint's length has them all.
        lines[..known] == history[..known] && (known == history.len() || (text.len() as u64) < bytes)
    });
    match lines {
        Some(_) => Ok(()),
        None => {
            let problem = "it is not the log of the run that is gone on with, and would be overwritten; move it away";
            Err(FileError::in_the_way(path, problem).into())
        }
    }
}

/// What keeps a folder called `checkpoint-N` from being replaced or removed: the first thing in it that no run wrote. None for a
/// run's checkpoint, whole or damaged, and for an empty folder.
pub fn foreign_in_checkpoint(path: &Path) -> Option<String> {
    let mut names: Vec<String> = Vec::new();
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let state = name == TRAINER_STATE || name == TRAINING_STATE;
        if !entry.file_type().is_ok_and(|t| t.is_file()) || !(state || is_run_file(&name)) {
            return Some(name);
        }
        names.push(name);
    }
    let ours = || names.iter().any(|n| n == TRAINING_STATE) || checkpoint::read_state(path).is_ok();
    names.first().filter(|_| !ours()).cloned()
}

/// Refuses folders that the run will come to write, a checkpoint each, and that are not a run's.
///
/// # Errors
/// The first of them.
pub fn refuse_foreign_checkpoints(output: &Path, after: u64) -> Result<(), TrainError> {
    for step in checkpoint::list_checkpoints(output)?.into_iter().filter(|step| *step > after) {
        refuse_foreign_checkpoint(&output.join(checkpoint::checkpoint_name(step)))?;
    }
    Ok(())
}

/// As [`refuse_foreign_checkpoints`], of one folder.
///
/// # Errors
/// As said.
pub fn refuse_foreign_checkpoint(path: &Path) -> Result<(), TrainError> {
    match foreign_in_checkpoint(path) {
        None => Ok(()),
        Some(name) => {
            let problem = "no run wrote it, and its folder would be replaced by a checkpoint; move it away";
            Err(FileError::in_the_way(path.join(name), problem).into())
        }
    }
}

/// Whether the judge in `output` is whole: it has every file of the model in `checkpoint`, byte for byte.
pub fn has_judge_of(output: &Path, checkpoint: &Path) -> bool {
    let state = |name: &str| name == TRAINER_STATE || name == TRAINING_STATE;
    let Ok(entries) = fs::read_dir(checkpoint) else { return false };
    let names: Vec<_> = entries.flatten().map(|entry| entry.file_name()).filter(|name| !state(&name.to_string_lossy())).collect();
    output.join(JUDGE_FILE).is_file() && names.iter().all(|name| files::same_bytes(&output.join(name), &checkpoint.join(name)))
}

/// The files of the judge that an earlier end of the run left: each is a file of one of the run's checkpoints, byte for byte.
///
/// # Errors
/// A file with a name that the final model will have, and with other bytes.
pub fn earlier_judge(output: &Path) -> Result<Vec<PathBuf>, TrainError> {
    let steps = checkpoint::list_checkpoints(output)?;
    let checkpoints: Vec<PathBuf> = steps.iter().map(|step| output.join(checkpoint::checkpoint_name(*step))).collect();
    let mut found = Vec::new();
    for entry in fs::read_dir(output).into_iter().flatten().flatten() {
        let (name, path) = (entry.file_name().to_string_lossy().into_owned(), entry.path());
        if !is_run_file(&name) || [RESOLVED_CONFIG, METRICS].contains(&name.as_str()) {
            continue;
        }
        let known = checkpoints.iter().rev().any(|folder| files::same_bytes(&path, &folder.join(&name)));
        if !known {
            let problem = "it is in no checkpoint of this run, so that another wrote it, or it or the checkpoint is damaged, and going \
                           on would overwrite it; move it away";
            return Err(FileError::in_the_way(path, problem).into());
        }
        found.push(path);
    }
    Ok(found)
}

/// Before the hash of what follows, in the first line of `jurist.toml`.
const MARK: &str = "# Written by jurist train, and anew when the run is resumed. SHA-256 of the lines below: ";

/// The text of `jurist.toml`.
fn resolved_config(config: &TrainConfig) -> Result<String, TrainError> {
    let text = config.to_toml()?;
    Ok(format!("{MARK}{}\n{text}", sha256_hex(text.as_bytes())))
}

/// Whether a text is that of a `jurist.toml` as a run wrote it.
fn is_resolved_config(text: &str) -> bool {
    let rest = text.strip_prefix(MARK).and_then(|rest| rest.split_once('\n'));
    rest.is_some_and(|(hash, below)| hash == sha256_hex(below.as_bytes()))
}

/// Writes the resolved config into the output folder. False where a file is there that somebody else wrote, or changed: it is
/// left as it is.
///
/// # Errors
/// What the system refuses.
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

    /// Each name that a run writes, taken by somebody; names that it does not write are no hindrance.
    #[test]
    fn a_new_run_touches_nothing_that_is_there() {
        for name in
            ["jurist.toml", "metrics.jsonl", "judge.json", "tokenizer.json", "model-00001-of-00002.safetensors", "vocab.json"]
        {
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join(name), "mine").unwrap();
            let said = message(refuse_taken(dir.path()));
            assert!(said.contains(name) && said.contains("choose another output_dir"), "{said}");
        }
        let dir = tempfile::tempdir().unwrap();
        for name in ["notes.txt", "train.jsonl", "final", "run.toml"] {
            fs::write(dir.path().join(name), "mine").unwrap();
        }
        refuse_taken(dir.path()).unwrap();
        refuse_taken(&dir.path().join("nothing")).unwrap();
    }

    /// What a run left that was killed before its first checkpoint is ours, until somebody changes it.
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
    fn only_the_runs_own_log_is_cut_back() {
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
    fn checkpoints_are_known_by_what_is_in_them() {
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
