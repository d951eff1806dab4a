//! Checkpoints: `checkpoint-<step>/` is a Hugging Face model folder with `training_state.safetensors` (f32 weights and
//! AdamW's moments) and `trainer_state.json` beside the weights. A checkpoint appears whole, by a rename, or not at all.
//!
//! ```text
//! output_dir/
//!   checkpoint-200/   config.json  model.safetensors  tokenizer.json ...   training_state.safetensors  trainer_state.json
//!   metrics.jsonl     one line a step; on resume cut back to where the checkpoint stood
//!   jurist.toml       the resolved config
//!   config.json  model.safetensors ...   the trained model, at the end
//! ```

pub(super) mod output;
pub mod training_state;

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::files::{remove_folder, replace_folder};
use crate::model::lora::peft::{ADAPTER_CONFIG, ADAPTER_MODEL};
use crate::train::TrainError;
use crate::train::config::TrainConfig;
use crate::train::config::keys::MOST_ITERATIONS;
use crate::train::data::order::Cursor;
use crate::train::error::{BoxError, io_error};
use crate::train::run::log::MetricsWriter;
use crate::train::steps::Counters;
use output::{foreign_in_checkpoint, refuse_foreign_checkpoint};
use training_state::{Parameter, StateReader, Supply, TRAINING_STATE, write_training_state};

/// File of a checkpoint that says where the run stands.
pub const TRAINER_STATE: &str = "trainer_state.json";
/// File of an output folder with one JSON line a step.
pub const METRICS: &str = "metrics.jsonl";
/// File of an output folder with the resolved config.
pub const RESOLVED_CONFIG: &str = "jurist.toml";

/// The generator of random numbers, by its rounds.
const GENERATOR: &str = "threefry2x32-20";

/// Version of what stands under `jurist` in `trainer_state.json`.
const FORMAT: u64 = 1;

/// `trainer_state.json`: transformers' keys, for the scripts that read them, and ours under `jurist`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainerState {
    pub best_global_step: Option<u64>,
    pub best_metric: Option<f64>,
    /// Name of the best checkpoint's folder inside the output folder (transformers writes a longer path, which breaks
    /// when the folder is moved).
    pub best_model_checkpoint: Option<String>,
    pub epoch: f64,
    pub eval_steps: u64,
    pub global_step: u64,
    pub is_hyper_param_search: bool,
    pub is_local_process_zero: bool,
    pub is_world_process_zero: bool,
    /// The lines of `metrics.jsonl`.
    pub log_history: Vec<Value>,
    pub logging_steps: u64,
    pub max_steps: u64,
    pub num_input_tokens_seen: u64,
    pub num_train_epochs: u64,
    pub save_steps: u64,
    pub stateful_callbacks: Map<String, Value>,
    pub total_flos: f64,
    pub train_batch_size: u64,
    pub trial_name: Option<String>,
    pub trial_params: Option<Value>,
    pub jurist: JuristState,
}

/// What a run needs to go on exactly, and transformers has no key for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JuristState {
    pub format: u64,
    pub rng: RngState,
    /// Place in the data.
    pub order: Cursor,
    /// Steps in which AdamW moved: its bias correction counts these, and not the steps skipped.
    pub optimizer_steps: u64,
    /// Steps in a row, up to now, whose gradient was not finite.
    pub nonfinite_in_a_row: u64,
    /// All steps whose gradient was not finite.
    pub nonfinite_steps: u64,
    /// Bytes of `metrics.jsonl` that belong to this checkpoint.
    pub metrics_bytes: u64,
    /// Kernel variants and tile sizes: other choices add in another order, and the bytes would differ.
    pub tuning: Value,
    /// Whatever else a method keeps (pending rollouts, ...).
    pub extra: Map<String, Value>,
}

/// Random numbers are a function of (seed, purpose, counter): with step and place known, the seed is all there is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RngState {
    pub generator: String,
    pub seed: u64,
}

impl TrainerState {
    /// The state of a run of `total_steps` steps that has not begun.
    pub fn new(config: &TrainConfig, rows: usize, total_steps: u64) -> Self {
        TrainerState {
            best_global_step: None,
            best_metric: None,
            best_model_checkpoint: None,
            epoch: 0.0,
            eval_steps: config.eval_steps,
            global_step: 0,
            is_hyper_param_search: false,
            is_local_process_zero: true,
            is_world_process_zero: true,
            log_history: Vec::new(),
            logging_steps: config.logging_steps,
            max_steps: total_steps,
            num_input_tokens_seen: 0,
            num_train_epochs: config.num_train_epochs.ceil() as u64,
            save_steps: config.save_steps,
            stateful_callbacks: Map::new(),
            total_flos: 0.0,
            train_batch_size: u64::from(config.per_device_train_batch_size),
            trial_name: None,
            trial_params: None,
            jurist: JuristState {
                format: FORMAT,
                rng: RngState { generator: GENERATOR.into(), seed: config.seed },
                order: Cursor { rows: rows as u64, ..Cursor::default() },
                optimizer_steps: 0,
                nonfinite_in_a_row: 0,
                nonfinite_steps: 0,
                metrics_bytes: 0,
                tuning: Value::Null,
                extra: Map::new(),
            },
        }
    }

    /// Notes where the run stands.
    pub(in crate::train) fn stand_at(&mut self, counters: Counters, order: Cursor) {
        self.global_step = counters.steps;
        self.epoch = order.epochs();
        self.num_input_tokens_seen = counters.tokens;
        self.jurist.order = order;
        self.jurist.optimizer_steps = counters.applied;
        self.jurist.nonfinite_steps = counters.nonfinite;
        self.jurist.nonfinite_in_a_row = counters.nonfinite_in_a_row;
    }

    /// What the run had counted.
    pub(in crate::train) fn counters(&self) -> Counters {
        Counters {
            steps: self.global_step,
            applied: self.jurist.optimizer_steps,
            tokens: self.num_input_tokens_seen,
            nonfinite: self.jurist.nonfinite_steps,
            nonfinite_in_a_row: self.jurist.nonfinite_in_a_row,
        }
    }

    /// Notes an evaluation of the current step; true when it is the best so far. A number that is not finite never is.
    pub fn offer(&mut self, metric: f64, greater_is_better: bool) -> bool {
        let better = self.best_metric.is_none_or(|best| if greater_is_better { metric > best } else { metric < best });
        if metric.is_finite() && better {
            self.best_metric = Some(metric);
            self.best_global_step = Some(self.global_step);
            self.best_model_checkpoint = Some(checkpoint_name(self.global_step));
            return true;
        }
        false
    }
}

/// Name of a step's checkpoint.
pub fn checkpoint_name(step: u64) -> String {
    format!("checkpoint-{step}")
}

/// The step in a checkpoint's name; `None` for any other name.
pub(in crate::train) fn checkpoint_step(name: &str) -> Option<u64> {
    let step = name.strip_prefix("checkpoint-")?.parse().ok()?;
    // Only the canonical spelling: `checkpoint-007` or `checkpoint-+7` are not ours.
    (checkpoint_name(step) == name).then_some(step)
}

/// Writes `output_dir/checkpoint-<global_step>`.
///
/// `write_model` writes the Hugging Face part into the folder it is handed; `supply` hands out the training state one
/// tensor at a time ([`write_training_state`]). When anything fails no checkpoint appears, and older ones stay. A folder of that
/// name that is no checkpoint of a run is not replaced.
pub fn save_checkpoint(
    output_dir: &Path,
    state: &TrainerState,
    parameters: &[Parameter],
    supply: &mut Supply,
    write_model: impl FnOnce(&Path) -> Result<(), BoxError>,
) -> Result<PathBuf, TrainError> {
    let path = output_dir.join(checkpoint_name(state.global_step));
    replace_folder(&path, refuse_foreign_checkpoint, |dir| {
        write_model(dir).map_err(|source| TrainError::Inside { action: "write the model into", path: dir.into(), source })?;
        write_training_state(&dir.join(TRAINING_STATE), parameters, supply)?;
        let json = serde_json::to_string_pretty(state).map_err(|e| bad(&path, format!("its state is not JSON: {e}")))?;
        let file = dir.join(TRAINER_STATE);
        fs::write(&file, json + "\n").map_err(|e| io_error("write", &file, e))
    })?;
    Ok(path)
}

/// A complete checkpoint, open for reading.
#[derive(Debug)]
pub struct Checkpoint {
    pub path: PathBuf,
    pub state: TrainerState,
    pub tensors: StateReader,
}

/// Opens a checkpoint and checks that it is complete: every file there, of the length that its header promises.
pub fn open_checkpoint(path: &Path) -> Result<Checkpoint, TrainError> {
    let state = read_state(path)?;
    if state.jurist.format != FORMAT {
        let format = state.jurist.format;
        return Err(bad(path, format!("its format is {format}, this version of jurist reads {FORMAT}")));
    }
    let named = path.file_name().and_then(|name| name.to_str()).and_then(checkpoint_step);
    if let Some(named) = named.filter(|step| *step != state.global_step) {
        return Err(bad(path, format!("the folder is named after step {named} and holds step {}", state.global_step)));
    }
    check_model_files(path)?;
    Ok(Checkpoint { path: path.into(), state, tensors: StateReader::open(&path.join(TRAINING_STATE))? })
}

/// Reads a checkpoint's `trainer_state.json`.
///
/// # Errors
/// A file that cannot be read or was not written by this program; a counter that no run can have come to, by itself or beside
/// the others; random numbers of another generator.
pub(in crate::train) fn read_state(path: &Path) -> Result<TrainerState, TrainError> {
    let file = path.join(TRAINER_STATE);
    let text = fs::read_to_string(&file).map_err(|e| io_error("read", &file, e))?;
    let damaged = |e: serde_json::Error| bad(path, format!("{TRAINER_STATE} was not written by jurist, or is damaged: {e}"));
    let value: Value = serde_json::from_str(&text).map_err(damaged)?;
    for (field, most) in COUNTERS {
        let found = value.pointer(&format!("/{}", field.replace('.', "/"))).unwrap_or(&Value::Null);
        if !found.is_null() && found.as_u64().is_none_or(|n| n > *most) {
            return Err(bad(path, format!("{TRAINER_STATE}: `{field}` is {found}; expected a whole number of at most {most}")));
        }
    }
    let state: TrainerState = serde_json::from_value(value).map_err(damaged)?;
    match contradiction(&state) {
        None => Ok(state),
        Some(found) => Err(bad(path, format!("{TRAINER_STATE}: {found}"))),
    }
}

/// What in a state contradicts itself.
fn contradiction(state: &TrainerState) -> Option<String> {
    let (jurist, at) = (&state.jurist, state.global_step);
    if jurist.rng.generator != GENERATOR {
        return Some(format!("`jurist.rng.generator` is {:?}; expected {GENERATOR:?}", jurist.rng.generator));
    }
    let pairs = [
        ("global_step", at, "`max_steps`", state.max_steps),
        ("best_global_step", state.best_global_step.unwrap_or(0), "`global_step`", at),
        ("jurist.nonfinite_steps", jurist.nonfinite_steps, "`global_step`", at),
        ("jurist.nonfinite_in_a_row", jurist.nonfinite_in_a_row, "`jurist.nonfinite_steps`", jurist.nonfinite_steps),
        // A step reads a row at least, and ends an epoch at most.
        ("jurist.order.epoch", jurist.order.epoch, "`global_step`", at),
    ];
    if let Some((field, found, other, most)) = pairs.into_iter().find(|(_, small, _, large)| small > large) {
        return Some(format!("`{field}` is {found}; expected at most {most}, which is {other}"));
    }
    // A step moves the weights once for each iteration, or its gradient was not finite.
    let moved = at - jurist.nonfinite_steps;
    let most = moved.saturating_mul(MOST_ITERATIONS.unsigned_abs());
    if !(moved..=most).contains(&jurist.optimizer_steps) {
        let found = jurist.optimizer_steps;
        return Some(format!("`jurist.optimizer_steps` is {found}; expected {moved} to {most} after {moved} steps that moved"));
    }
    let seen = jurist.order.epochs();
    let agrees = (state.epoch - seen).abs() <= 1e-9 * seen.max(1.0);
    (!agrees).then(|| format!("`epoch` is {}; expected {seen}, which `jurist.order` says", state.epoch))
}

/// What counts in `trainer_state.json`, and the most that it can have come to: what a run counts stays exact in JSON, what is set
/// fits a TOML number.
const COUNTERS: &[(&str, u64)] = &[
    ("global_step", COUNTED),
    ("best_global_step", COUNTED),
    ("num_input_tokens_seen", COUNTED),
    ("jurist.order.epoch", COUNTED),
    ("jurist.order.position", COUNTED),
    ("jurist.order.rows", COUNTED),
    ("jurist.optimizer_steps", COUNTED),
    ("jurist.nonfinite_in_a_row", COUNTED),
    ("jurist.nonfinite_steps", COUNTED),
    ("jurist.metrics_bytes", COUNTED),
    ("jurist.format", SET),
    ("max_steps", SET),
    ("eval_steps", SET),
    ("logging_steps", SET),
    ("save_steps", SET),
    ("num_train_epochs", SET),
    ("train_batch_size", SET),
];
const COUNTED: u64 = 1 << 53;
const SET: u64 = i64::MAX as u64;

/// The Hugging Face part: an adapter; or a config, and one weight file or all shards of an index, each whole.
fn check_model_files(path: &Path) -> Result<(), TrainError> {
    if path.join(ADAPTER_CONFIG).is_file() {
        return StateReader::open(&path.join(ADAPTER_MODEL)).map(drop);
    }
    if !path.join("config.json").is_file() {
        return Err(bad(path, "config.json is missing".into()));
    }
    let index = path.join("model.safetensors.index.json");
    if !index.is_file() {
        return StateReader::open(&path.join("model.safetensors")).map(drop);
    }
    let text = fs::read(&index).map_err(|e| io_error("read", &index, e))?;
    let damaged = || bad(path, "model.safetensors.index.json is damaged".into());
    let json: Value = serde_json::from_slice(&text).map_err(|_| damaged())?;
    let map = json.get("weight_map").and_then(Value::as_object).ok_or_else(damaged)?;
    let mut shards: Vec<&str> = map.values().filter_map(Value::as_str).collect();
    shards.sort_unstable();
    shards.dedup();
    shards.into_iter().try_for_each(|shard| StateReader::open(&path.join(shard)).map(drop))
}

/// Steps of all checkpoints in a folder, complete or not, in order. A folder that is not there has none.
pub fn list_checkpoints(output_dir: &Path) -> Result<Vec<u64>, TrainError> {
    let entries = match fs::read_dir(output_dir) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(|e| io_error("list", output_dir, e))?,
    };
    let mut steps = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|e| io_error("list", output_dir, e))?;
        if let Some(step) = entry.file_name().to_str().and_then(checkpoint_step).filter(|_| entry.path().is_dir()) {
            steps.push(step);
        }
    }
    steps.sort_unstable();
    Ok(steps)
}

/// The newest complete checkpoint, and why newer ones were passed over.
#[derive(Debug)]
pub struct Latest {
    pub checkpoint: Option<Checkpoint>,
    /// Newer checkpoints that are not complete, each with its fault.
    pub passed_over: Vec<TrainError>,
}

/// Finds the newest complete checkpoint.
pub fn latest_checkpoint(output_dir: &Path) -> Result<Latest, TrainError> {
    let mut latest = Latest { checkpoint: None, passed_over: Vec::new() };
    if !output_dir.is_dir() {
        return Ok(latest);
    }
    for step in list_checkpoints(output_dir)?.into_iter().rev() {
        match open_checkpoint(&output_dir.join(checkpoint_name(step))) {
            Ok(checkpoint) => {
                latest.checkpoint = Some(checkpoint);
                break;
            }
            Err(error) => latest.passed_over.push(error),
        }
    }
    Ok(latest)
}

/// Deletes the oldest checkpoints until at most `limit` are left; the newest and the one named `best` always stay, and so does a
/// folder with anything in it that no run wrote. Returns the steps that were deleted.
pub fn rotate_checkpoints(output_dir: &Path, limit: Option<u64>, best: Option<&str>) -> Result<Vec<u64>, TrainError> {
    let Some(limit) = limit else { return Ok(Vec::new()) };
    let steps = list_checkpoints(output_dir)?;
    let Some((&newest, _)) = steps.split_last() else { return Ok(Vec::new()) };
    let surplus = steps.len().saturating_sub(limit.max(1) as usize);
    let ours = |step: &u64| foreign_in_checkpoint(&output_dir.join(checkpoint_name(*step))).is_none();
    let may_go = |step: &u64| *step != newest && Some(checkpoint_name(*step).as_str()) != best && ours(step);
    let deleted: Vec<u64> = steps.iter().copied().filter(may_go).take(surplus).collect();
    deleted.iter().try_for_each(|step| remove_folder(&output_dir.join(checkpoint_name(*step))))?;
    Ok(deleted)
}

/// `metrics.jsonl`, open for appending.
pub type MetricsFile = MetricsWriter<File>;

/// Opens `metrics.jsonl` and cuts it back to `bytes` (0 for a new run), so that steps which a killed run did after its
/// last checkpoint are not there twice. The second value is a warning when the file is shorter than that: it was changed
/// by somebody, and the run goes on from what is there.
pub fn open_metrics(output_dir: &Path, bytes: u64) -> Result<(MetricsFile, Option<String>), TrainError> {
    fs::create_dir_all(output_dir).map_err(|e| io_error("create", output_dir, e))?;
    let path = output_dir.join(METRICS);
    let failed = |e| io_error("open", &path, e);
    let mut file = OpenOptions::new().create(true).read(true).write(true).truncate(false).open(&path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    let warning = (length < bytes).then(|| {
        format!("{} has {length} bytes and had {bytes} when the checkpoint was written: earlier lines are lost", path.display())
    });
    let kept = length.min(bytes);
    file.set_len(kept).map_err(failed)?;
    std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(kept)).map_err(failed)?;
    Ok((MetricsWriter::new(file, kept), warning))
}

/// Has the lines written so far reach the disk; call it before a checkpoint names their length.
pub fn sync_metrics(metrics: &MetricsFile, output_dir: &Path) -> Result<(), TrainError> {
    metrics.sink().sync_all().map_err(|e| io_error("sync", &output_dir.join(METRICS), e))
}

/// The first `bytes` bytes of `metrics.jsonl` as transformers' `log_history`. Lines that are not JSON are left out.
pub fn read_log_history(output_dir: &Path, bytes: u64) -> Result<Vec<Value>, TrainError> {
    let path = output_dir.join(METRICS);
    let file = File::open(&path).map_err(|e| io_error("open", &path, e))?;
    let mut history = Vec::new();
    for line in BufReader::new(file.take(bytes)).lines() {
        let line = line.map_err(|e| io_error("read", &path, e))?;
        history.extend(serde_json::from_str::<Value>(&line).ok());
    }
    Ok(history)
}

/// Words of warning about the settings that changed since the run in `output_dir` began; a file that is gone or cannot be
/// read tells nothing, nor does any to a build without the cargo feature `toml`.
pub fn changed_settings(output_dir: &Path, config: &TrainConfig) -> Vec<String> {
    let text = fs::read_to_string(output_dir.join(RESOLVED_CONFIG)).unwrap_or_default();
    let Some(before) = TrainConfig::from_toml(&text) else { return Vec::new() };
    let changes = config.differences(&before).into_iter();
    changes.map(|change| format!("a setting changed since the run began (now, before): {change}")).collect()
}

fn bad(path: &Path, problem: String) -> TrainError {
    TrainError::Checkpoint { path: path.into(), problem }
}

#[cfg(test)]
mod tests;
