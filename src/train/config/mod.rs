//! The settings of a training run, from four layers: defaults, the config file, the environment (`JURIST_<KEY>`), and flags. A
//! later layer wins. Each value is checked against the table in [`settings`], and error messages name its layer. The names are
//! those of transformers and TRL where the meaning is the same.

mod checked;
pub mod choices;
pub mod keys;
mod lora;
pub mod method;
mod policy;
pub mod settings;
mod suggest;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::judge::Scale;
use crate::train::objective::schedule::{Decay, Schedule};
pub use choices::{BestMetric, ChainColumn, Chat, GradientSum, GradientTransfer, Preset, ReportTo, SaveDtype};
pub use keys::{Key, Kind, Raw};
pub use method::Method;
pub use settings::{KEYS, TrainConfig};
pub use suggest::closest;

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum SettingSource {
    /// A config file, by its path.
    File(String),
    /// An environment variable, by its name.
    Env(String),
    /// A flag, as the user writes it.
    Flag(String),
}

impl fmt::Display for SettingSource {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let (SettingSource::File(name) | SettingSource::Env(name) | SettingSource::Flag(name)) = self;
        f.write_str(name)
    }
}

/// A setting that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingError {
    #[error("{origin}: unknown setting `{key}`{}", did_you_mean(hint))]
    Unknown { origin: SettingSource, key: String, hint: Option<&'static str> },

    #[error("{origin}: {key} = {found}: expected {expected}{}", did_you_mean(hint))]
    Value { origin: SettingSource, key: &'static str, found: String, expected: String, hint: Option<&'static str> },

    #[error("--set {text}: expected KEY=VALUE, for example --set learning_rate=3e-4")]
    MalformedSet { text: String },

    #[error("{key} is not set: {why}; give --{} or put {key} in the config file", key.replace('_', "-"))]
    Missing { key: &'static str, why: &'static str },

    #[error("{0}")]
    Conflict(String),
}

fn did_you_mean(hint: &Option<&'static str>) -> String {
    hint.map(|word| format!("; did you mean `{word}`?")).unwrap_or_default()
}

/// The setting `resume_from_checkpoint`: `true`, `false`, or a checkpoint's folder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Resume {
    /// `true`: from the newest complete checkpoint in `output_dir`. `false`: a new run.
    Newest(bool),
    /// From the checkpoint in this folder.
    From(String),
}

impl Default for Resume {
    fn default() -> Self {
        Resume::Newest(false)
    }
}

impl Resume {
    /// True for a new run.
    pub fn is_no(&self) -> bool {
        *self == Resume::Newest(false)
    }
}

/// The layers merged so far: each value with its source.
#[derive(Debug, Default)]
pub struct Layers {
    values: BTreeMap<&'static str, (Value, SettingSource)>,
    warnings: Vec<String>,
}

impl Layers {
    /// The text of a key, if a layer sets it.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.values.get(name)?.0.as_str()
    }

    /// Sets one value, in place of an earlier layer's.
    pub fn put(&mut self, name: &str, raw: &Raw, origin: SettingSource) -> Result<(), SettingError> {
        let Some(key) = keys::find(name) else {
            return Err(SettingError::Unknown { origin, key: name.into(), hint: closest(name, names()) });
        };
        let Some(value) = key.kind.read(raw) else {
            let hint = match (&key.kind, raw) {
                (Kind::OneOf(words), Raw::Bare(word) | Raw::Quoted(word)) => closest(word, words.iter().copied()),
                _ => None,
            };
            let expected = key.kind.to_string();
            return Err(SettingError::Value { origin, key: key.name, found: raw.to_string(), expected, hint });
        };
        self.values.insert(key.name, (value, origin));
        Ok(())
    }

    /// Adds the layer of the environment: every `JURIST_<KEY>`. An unknown variable that resembles a setting gives a warning with
    /// the likely meaning; it may belong to something else.
    pub fn put_env(&mut self, vars: impl IntoIterator<Item = (String, String)>) -> Result<(), SettingError> {
        for (name, value) in vars {
            let Some(key) = name.strip_prefix("JURIST_").map(str::to_ascii_lowercase) else { continue };
            if keys::find(&key).is_some() {
                self.put(&key, &Raw::Bare(value), SettingSource::Env(name))?;
            } else if let Some(hint) = closest(&key, names()) {
                let hint = hint.to_ascii_uppercase();
                self.warnings.push(format!("{name} is set but names no setting; did you mean JURIST_{hint}?"));
            }
        }
        Ok(())
    }

    /// Adds one `--set KEY=VALUE`. Hyphens in the key count as underscores.
    pub fn put_set(&mut self, text: &str) -> Result<(), SettingError> {
        let Some((key, value)) = text.split_once('=').filter(|(key, _)| !key.trim().is_empty()) else {
            return Err(SettingError::MalformedSet { text: text.into() });
        };
        let value = value.trim();
        // A value may be quoted as in the config file.
        let bare = value.strip_prefix('"').and_then(|v| v.strip_suffix('"')).unwrap_or(value);
        self.put(&key.trim().replace('-', "_"), &Raw::Bare(bare.into()), SettingSource::Flag("--set".into()))
    }

    /// Adds the layer of a config file. `name` is the file's name, for messages.
    #[cfg(all(feature = "toml", not(target_arch = "wasm32")))]
    pub fn put_toml(&mut self, text: &str, name: &str) -> Result<(), super::TrainError> {
        let origin = SettingSource::File(name.into());
        let table: toml::Table = text.parse().map_err(|e: toml::de::Error| super::TrainError::Toml {
            origin: origin.clone(),
            message: e.to_string().trim_end().to_string(),
        })?;
        // `method` first: if it is misspelt, that is the error to report.
        let (method, rest): (Vec<_>, Vec<_>) = table.into_iter().partition(|(name, _)| name == "method");
        for (key, value) in method.into_iter().chain(rest) {
            self.put(&key, &raw_of_toml(value), origin.clone())?;
        }
        Ok(())
    }

    /// Warnings about settings that are not errors.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The config of these layers, checked as a whole.
    pub fn resolve(&self) -> Result<TrainConfig, SettingError> {
        let config = self.merged()?;
        config.check(true)?;
        Ok(config)
    }

    /// The same for a memory plan, which needs neither an output folder nor rows.
    pub fn resolve_to_plan(&self) -> Result<TrainConfig, SettingError> {
        let config = self.merged()?;
        config.check(false)?;
        Ok(config)
    }

    fn merged(&self) -> Result<TrainConfig, SettingError> {
        let map: Map<String, Value> = self.values.iter().map(|(k, (v, _))| (k.to_string(), v.clone())).collect();
        // Each value fits its key, so this can fail only if the table and the struct disagree; a test checks that.
        serde_json::from_value(Value::Object(map)).map_err(|e| SettingError::Conflict(e.to_string()))
    }
}

/// Names of all settings.
fn names() -> impl Iterator<Item = &'static str> {
    KEYS.iter().map(|key| key.name)
}

#[cfg(all(feature = "toml", not(target_arch = "wasm32")))]
fn raw_of_toml(value: toml::Value) -> Raw {
    match value {
        toml::Value::String(text) => Raw::Quoted(text),
        toml::Value::Boolean(flag) => Raw::Flag(flag),
        toml::Value::Integer(n) => Raw::Int(n),
        toml::Value::Float(x) => Raw::Number(x),
        toml::Value::Array(_) => Raw::Other("[...]".into()),
        toml::Value::Table(_) => Raw::Other("a table".into()),
        toml::Value::Datetime(date) => Raw::Other(date.to_string()),
    }
}

#[doc(hidden)]
impl TrainConfig {
    /// Checks what no single value shows: missing settings, and conflicts between settings. Only a config `to_run` needs rows and
    /// an output folder.
    fn check(&self, to_run: bool) -> Result<(), SettingError> {
        let reads_rows = to_run || !self.train_file.is_empty();
        let conflict = |message: &str| Err(SettingError::Conflict(message.into()));
        let missing = |key, why| Err(SettingError::Missing { key, why });
        match (&self.model_name_or_path, &self.init) {
            (Some(_), Some(_)) => {
                return conflict("model_name_or_path and init are both set: start from a model or from scratch, not both");
            }
            (None, Some(_)) if self.base.is_some() => {
                return conflict("base is the model of an adapter (model_name_or_path), and init starts from scratch");
            }
            (None, None) => {
                return missing("model_name_or_path", "a run starts from a model folder (or from scratch, with init)");
            }
            (Some(_), None) if self.vocab_size.is_some() => {
                return conflict("vocab_size is for a run from scratch (init): a model brings its own vocabulary");
            }
            (None, Some(_)) if reads_rows && self.tokenizer.is_none() && self.vocab_size.is_none() => {
                return missing("vocab_size", "a run from scratch needs a tokenizer, or the size of one to train on the data");
            }
            _ => {}
        }
        if self.tokenizer.is_some() && self.vocab_size.is_some() {
            return conflict("tokenizer and vocab_size are both set: use a tokenizer or train one, not both");
        }
        if to_run && self.train_file.is_empty() {
            return missing("train_file", "there is nothing to train on");
        }
        if to_run && self.output_dir.is_empty() {
            return missing("output_dir", "the trained model needs a folder");
        }
        self.scale()?;
        if self.warmup_ratio > 0.0 && self.warmup_steps > 0 {
            return conflict("warmup_ratio and warmup_steps are both set: give one");
        }
        if self.min_lr_ratio > 0.0 && self.lr_scheduler_type == Decay::Constant {
            return conflict(
                "min_lr_ratio has no effect with lr_scheduler_type = constant: leave it out, or choose linear or cosine",
            );
        }
        self.check_lora()?;
        self.check_policy()?;
        self.check_evaluation()
    }

    /// The scale of the setting `scale`, if it is given.
    pub fn scale(&self) -> Result<Option<Scale>, SettingError> {
        let parse = |text: &str| text.parse().map_err(|e: crate::judge::JudgeError| SettingError::Conflict(e.to_string()));
        self.scale.as_deref().map(parse).transpose()
    }

    fn check_evaluation(&self) -> Result<(), SettingError> {
        let conflict = |message: String| Err(SettingError::Conflict(message));
        if self.eval_file.is_none() {
            if self.eval_steps > 0 {
                return conflict(format!("eval_steps = {} needs an eval_file", self.eval_steps));
            }
            if self.load_best_model_at_end {
                return conflict("load_best_model_at_end needs an eval_file".into());
            }
            if self.early_stopping_patience.is_some() {
                return conflict("early_stopping_patience needs an eval_file".into());
            }
        }
        match self.early_stopping_patience {
            Some(_) if self.eval_steps == 0 => {
                return conflict("early_stopping_patience needs eval_steps of at least 1".into());
            }
            None if self.early_stopping_threshold > 0.0 => {
                return conflict("early_stopping_threshold has no effect without early_stopping_patience".into());
            }
            _ => {}
        }
        if self.load_best_model_at_end {
            if self.eval_steps == 0 {
                return conflict("load_best_model_at_end needs eval_steps of at least 1".into());
            }
            if !self.save_steps.is_multiple_of(self.eval_steps) {
                let (save, eval) = (self.save_steps, self.eval_steps);
                return conflict(format!(
                    "load_best_model_at_end needs save_steps ({save}) to be a multiple of eval_steps ({eval}): only an evaluated \
                     checkpoint can be the best"
                ));
            }
        }
        Ok(())
    }

    /// Rows per step (the last step of an epoch may have fewer).
    pub(crate) fn rows_per_step(&self) -> usize {
        self.per_device_train_batch_size as usize * self.gradient_accumulation_steps as usize
    }

    /// Number of steps on `rows` rows, counted as in transformers: the last step of an epoch may have fewer rows, and no step
    /// crosses the end of an epoch.
    pub(crate) fn total_steps(&self, rows: usize) -> u64 {
        if self.max_steps > 0 {
            return self.max_steps as u64;
        }
        let steps_per_epoch = rows.div_ceil(self.rows_per_step()) as f64;
        (self.num_train_epochs * steps_per_epoch).ceil() as u64
    }

    /// Number of warm-up steps of a run of `total` steps.
    pub(crate) fn warmup(&self, total: u64) -> u64 {
        if self.warmup_steps > 0 { self.warmup_steps } else { (total as f64 * self.warmup_ratio).ceil() as u64 }
    }

    /// The learning rate schedule of a run of `total` steps.
    pub(crate) fn schedule(&self, total: u64) -> Schedule {
        let (decay, base) = (self.lr_scheduler_type, self.learning_rate);
        Schedule { decay, base, warmup: self.warmup(total), total, floor: self.min_lr_ratio }
    }

    /// Reads what [`TrainConfig::to_toml`] wrote; `None` for any other text, and in a build without the cargo feature `toml`.
    #[cfg(all(feature = "toml", not(target_arch = "wasm32")))]
    pub(crate) fn from_toml(text: &str) -> Option<Self> {
        toml::from_str(text).ok()
    }

    /// Always `None`, because this build lacks the cargo feature `toml`.
    #[cfg(all(not(feature = "toml"), not(target_arch = "wasm32")))]
    pub(crate) fn from_toml(_: &str) -> Option<Self> {
        None
    }

    /// The resolved config as a TOML text: every setting that has a value, always in the same order, so that equal configs give
    /// equal bytes. `resume_from_checkpoint` is left out, because it does not change what is trained.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn to_toml(&self) -> Result<String, SettingError> {
        let config = TrainConfig { resume_from_checkpoint: Resume::default(), ..self.clone() };
        toml::to_string(&config).map_err(|e| SettingError::Conflict(format!("the config cannot be written as TOML: {e}")))
    }

    /// The settings in which two configs differ, each as `key: mine, theirs`, for a warning on resume.
    pub(crate) fn differences(&self, other: &TrainConfig) -> Vec<String> {
        let (Ok(Value::Object(mine)), Ok(Value::Object(theirs))) = (serde_json::to_value(self), serde_json::to_value(other))
        else {
            return Vec::new();
        };
        let show = |value: Option<&Value>| value.filter(|v| !v.is_null()).map_or("not set".into(), Value::to_string);
        names()
            .filter(|name| *name != "resume_from_checkpoint" && mine.get(*name) != theirs.get(*name))
            .map(|name| format!("{name}: {}, {}", show(mine.get(name)), show(theirs.get(name))))
            .collect()
    }
}
