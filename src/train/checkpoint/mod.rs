//! Checkpoints: `checkpoint-<step>/` is a Hugging Face model folder with two more files, `training_state.safetensors` (f32
//! weights and AdamW's moments) and `trainer_state.json`. A checkpoint appears whole, by a rename, or not at all.
//!
//! ```text
//! output_dir/
//!   checkpoint-200/   config.json  model.safetensors  tokenizer.json ...   training_state.safetensors  trainer_state.json
//!   metrics.jsonl     one line per step; resuming truncates it to its length at the checkpoint
//!   events.out.tfevents.jurist   the same for TensorBoard, if it is asked for
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

use crate::bundle::manifest_name;
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

/// File of a checkpoint with the state of the run.
pub const TRAINER_STATE: &str = "trainer_state.json";
/// File of an output folder with one JSON line per step.
pub const METRICS: &str = "metrics.jsonl";
/// File of an output folder with the resolved config.
pub const RESOLVED_CONFIG: &str = "jurist.toml";

/// The random number generator, with its number of rounds.
const GENERATOR: &str = "threefry2x32-20";

/// Version of the object `jurist` in `trainer_state.json`.
const FORMAT: u64 = 1;

/// `trainer_state.json`: transformers' keys, for scripts that read them, and jurist's own under `jurist`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainerState {
    pub best_global_step: Option<u64>,
    pub best_metric: Option<f64>,
    /// Name of the best checkpoint's folder inside the output folder (transformers writes a longer path, which is wrong once the
    /// folder is moved).
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

/// What a run needs to resume exactly and transformers has no key for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JuristState {
    pub format: u64,
    pub rng: RngState,
    /// Position in the data.
    pub order: Cursor,
    /// Applied optimiser steps: AdamW's bias correction counts these, without skipped steps.
    pub optimizer_steps: u64,
    /// Steps in a row, up to the last one, whose gradient was not finite.
    pub nonfinite_in_a_row: u64,
    /// All steps whose gradient was not finite.
    pub nonfinite_steps: u64,
    /// Bytes of `metrics.jsonl` that belong to this checkpoint.
    pub metrics_bytes: u64,
    /// Bytes of TensorBoard's event file that belong to this checkpoint.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub events_bytes: u64,
    /// The metric of `best_metric`, once there was an evaluation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub best_metric_name: Option<String>,
    /// Kernel variants and tile sizes. Other choices sum in another order, so the results would differ in rounding.
    pub tuning: Value,
    /// The storage that `base_weights` means, as bundles name it: the meaning of its word `q4` has changed.
    #[serde(default)]
    pub base_format: Option<String>,
    /// Whether rows that begin alike come one after the other: the order of the rows depends on it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub share_prefixes: bool,
    /// Further state of a method.
    pub extra: Map<String, Value>,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// Random numbers are a function of seed, purpose and counter. Step and data position are stored too, so the seed suffices.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RngState {
    pub generator: String,
    pub seed: u64,
}

impl TrainerState {
    /// The state of a run of `total_steps` steps before its first step.
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
                events_bytes: 0,
                best_metric_name: None,
                tuning: Value::Null,
                base_format: config.base_weights.dtype().map(|dtype| manifest_name(dtype).into()),
                share_prefixes: config.share_prefixes,
                extra: Map::new(),
            },
        }
    }

    /// Records the progress of the run.
    pub(in crate::train) fn record_progress(&mut self, counters: Counters, order: Cursor) {
        self.global_step = counters.steps;
        self.epoch = order.epochs();
        self.num_input_tokens_seen = counters.tokens;
        self.jurist.order = order;
        self.jurist.optimizer_steps = counters.applied;
        self.jurist.nonfinite_steps = counters.nonfinite;
        self.jurist.nonfinite_in_a_row = counters.nonfinite_in_a_row;
    }

    /// The counters of the run.
    pub(in crate::train) fn counters(&self) -> Counters {
        Counters {
            steps: self.global_step,
            applied: self.jurist.optimizer_steps,
            tokens: self.num_input_tokens_seen,
            nonfinite: self.jurist.nonfinite_steps,
            nonfinite_in_a_row: self.jurist.nonfinite_in_a_row,
        }
    }

    /// Whether the best metric is one of another name than this.
    pub fn best_of_another(&self, name: &str) -> bool {
        self.jurist.best_metric_name.as_ref().is_some_and(|known| known != name)
    }

    /// Forgets which checkpoint is the best.
    pub fn forget_best(&mut self) {
        (self.best_metric, self.best_global_step, self.best_model_checkpoint) = (None, None, None);
    }

    /// Records the metric of the current step; true if it is the best so far. A value that is not finite never is.
    pub fn record_metric(&mut self, metric: f64, greater_is_better: bool) -> bool {
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
    // Only the canonical spelling: jurist does not write `checkpoint-007` or `checkpoint-+7`.
    (checkpoint_name(step) == name).then_some(step)
}

/// Writes `output_dir/checkpoint-<global_step>`.
///
/// `write_model` writes the Hugging Face files into the folder it is given; `supply` returns the training state one tensor at a
/// time ([`write_training_state`]). If anything fails, no checkpoint appears and older ones stay. A folder of that name that is
/// not a run's checkpoint is not replaced.
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

/// Opens a checkpoint and checks that it is complete: every file exists and has the length that its header states.
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
/// A file that cannot be read or was not written by this program; a counter with an impossible value, or one that contradicts
/// others; another random number generator.
pub(in crate::train) fn read_state(path: &Path) -> Result<TrainerState, TrainError> {
    let file = path.join(TRAINER_STATE);
    let text = fs::read_to_string(&file).map_err(|e| io_error("read", &file, e))?;
    let damaged = |e: serde_json::Error| bad(path, format!("{TRAINER_STATE} was not written by jurist, or is damaged: {e}"));
    let value: Value = serde_json::from_str(&text).map_err(damaged)?;
    for (field, most) in LIMITS {
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

/// The first contradiction in a state.
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
        // A step reads at least one row and ends at most one epoch.
        ("jurist.order.epoch", jurist.order.epoch, "`global_step`", at),
    ];
    if let Some((field, found, other, most)) = pairs.into_iter().find(|(_, small, _, large)| small > large) {
        return Some(format!("`{field}` is {found}; expected at most {most}, which is {other}"));
    }
    // A step changes the weights once per iteration, unless its gradients were not finite.
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

/// The whole numbers in `trainer_state.json`, with their limits: counters are exact in JSON, settings fit a TOML integer.
const LIMITS: &[(&str, u64)] = &[
    ("global_step", LARGEST_COUNT),
    ("best_global_step", LARGEST_COUNT),
    ("num_input_tokens_seen", LARGEST_COUNT),
    ("jurist.order.epoch", LARGEST_COUNT),
    ("jurist.order.position", LARGEST_COUNT),
    ("jurist.order.rows", LARGEST_COUNT),
    ("jurist.optimizer_steps", LARGEST_COUNT),
    ("jurist.nonfinite_in_a_row", LARGEST_COUNT),
    ("jurist.nonfinite_steps", LARGEST_COUNT),
    ("jurist.metrics_bytes", LARGEST_COUNT),
    ("jurist.events_bytes", LARGEST_COUNT),
    ("stateful_callbacks.EarlyStoppingCallback.attributes.early_stopping_patience_counter", LARGEST_COUNT),
    ("jurist.format", LARGEST_SETTING),
    ("max_steps", LARGEST_SETTING),
    ("eval_steps", LARGEST_SETTING),
    ("logging_steps", LARGEST_SETTING),
    ("save_steps", LARGEST_SETTING),
    ("num_train_epochs", LARGEST_SETTING),
    ("train_batch_size", LARGEST_SETTING),
];
const LARGEST_COUNT: u64 = 1 << 53;
const LARGEST_SETTING: u64 = i64::MAX as u64;

/// Checks the Hugging Face files: an adapter; or a config with one weight file or all shards of an index. Each must be complete.
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

/// Steps of all checkpoints in a folder, complete or not, in ascending order. A folder that does not exist has none.
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

/// The newest complete checkpoint, and why newer ones were skipped.
#[derive(Debug)]
pub struct Latest {
    pub checkpoint: Option<Checkpoint>,
    /// Errors of newer checkpoints that are not complete.
    pub skipped: Vec<TrainError>,
}

/// Finds the newest complete checkpoint.
pub fn latest_checkpoint(output_dir: &Path) -> Result<Latest, TrainError> {
    let mut latest = Latest { checkpoint: None, skipped: Vec::new() };
    if !output_dir.is_dir() {
        return Ok(latest);
    }
    for step in list_checkpoints(output_dir)?.into_iter().rev() {
        match open_checkpoint(&output_dir.join(checkpoint_name(step))) {
            Ok(checkpoint) => {
                latest.checkpoint = Some(checkpoint);
                break;
            }
            Err(error) => latest.skipped.push(error),
        }
    }
    Ok(latest)
}

/// Deletes the oldest checkpoints until at most `limit` are left. The newest one, the one named `best`, and folders with files
/// that no run wrote always stay. Returns the steps of the deleted checkpoints.
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

/// Opens `metrics.jsonl` and truncates it to `bytes` (0 for a new run), so that steps after the last checkpoint of a killed run
/// do not occur twice. The second value is a warning if the file is shorter than that: it was changed, and the run appends to it.
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

/// Flushes the lines written so far to the disk. Call this before a checkpoint stores their length.
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

/// Warnings about settings that changed since the run in `output_dir` began. There are none if the file is missing or unreadable,
/// or in a build without the cargo feature `toml`.
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
