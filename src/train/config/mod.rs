//! The settings of a training run, from four layers: defaults, the config file, the environment (`JURIST_<KEY>`), and flags. A
//! later layer wins. Each value is checked against the table in [`keys`], and error messages name its layer. The names are those
//! of transformers and TRL where the meaning is the same.

mod checked;
pub mod choices;
pub mod keys;
mod lora;
pub mod method;
mod policy;
mod suggest;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::judge::{Expectation, Scale, ScoreReads};
use crate::model::lora::ALL_LINEAR;
use crate::model::weight_policy::WeightPolicy;
use crate::train::objective::policy::Aggregation;
use crate::train::objective::schedule::{Decay, Schedule};
pub use choices::{BestMetric, ChainColumn, Chat, Preset, SaveDtype};
pub use keys::{KEYS, Key, Kind, Raw};
pub use method::Method;
pub use suggest::{closest, edit_distance};

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

/// The settings of a training run, under TRL's names where they mean the same.
///
/// A field that is `None` takes the default that its description names. `jurist train --help` lists the same settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainConfig {
    /// How to train. On given judgements: sft (cross-entropy of chain, phrase and score), raft (squared error of the expected
    /// score, no chain), cot-raft (both), tract (cot-raft, then again from the start on chains of its own). On sampled chains:
    /// real (both terms of the generalised policy gradient), reinforce and grpo (is the sampled score right), rl-squared (how
    /// far off it is), rl-prob (probability of the label), rl-log and rl-ranked (scoring rules of the whole distribution).
    pub method: Method,
    /// Hugging Face model folder to start from.
    pub model_name_or_path: Option<String>,
    /// Model of the adapter to start from, in the place of the one that it names.
    pub base: Option<String>,
    /// config.json of a model to start from scratch, weights drawn from `seed`.
    pub init: Option<String>,
    /// tokenizer.json, or a folder with one, when it is not the model's own.
    pub tokenizer: Option<String>,
    /// With `init` and no tokenizer: train a BPE of this size on the training data.
    pub vocab_size: Option<u32>,
    /// Number format of the saved weights [default: the start model's].
    pub save_dtype: Option<SaveDtype>,
    /// With tract: a judge that cot-raft trained before, to write the chains, instead of training it.
    pub chains_from: Option<String>,

    /// Rank of a LoRA adapter: the model stays frozen and the adapter learns; 0 = every weight learns.
    pub lora_r: u32,
    /// The update's weight is alpha / r [default: 2 r].
    pub lora_alpha: Option<f64>,
    /// Share of the adapter's inputs that is dropped; for given judgements only.
    pub lora_dropout: f64,
    /// Projections that are adapted, by commas: all-linear, or q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj.
    pub lora_target_modules: String,
    /// Weigh the update by alpha / sqrt(r).
    pub use_rslora: bool,
    /// How the frozen matrices are held on the GPU; auto = as they are stored.
    pub base_weights: WeightPolicy,

    /// Rows to train on: JSON Lines, a JSON array, CSV (each plain, .gz or .zst), Parquet, or a folder of those.
    pub train_file: String,
    /// Rows to evaluate on.
    pub eval_file: Option<String>,
    /// Column with the human score.
    pub label_column: String,
    /// Column with the chain of thought; auto looks for chain, feedback, rationale; none ignores them.
    pub chain_column: ChainColumn,
    /// Skip and count malformed rows instead of stopping at the first.
    pub skip_bad: bool,
    /// Longest row in tokens; longer ones are counted and skipped.
    pub max_length: u32,
    /// At most this many rows of train_file [default: all].
    pub limit: Option<u64>,
    /// Put the rows of train_file in this seed's order before `limit` cuts them [default: the file's order].
    pub shuffle_seed: Option<u64>,
    /// What an archive may unpack to, such as 64GiB [default: 256 MiB, and more up to 100 times its packed size].
    pub max_decompressed: Option<String>,

    /// Scores: "1..5", "0..4=0..1" (texts 0 to 4 for values 0 to 1), or "bad,fair,good=0,0.5,1" [default: the start model's
    /// judge.json, else 1..5].
    pub scale: Option<String>,
    /// Words between the chain of thought and the score [default: the start model's judge.json, else "So the overall score is
    /// "].
    pub phrase: Option<String>,
    /// Most tokens of a chain of thought (0: twice the longest one in the training data).
    pub max_completion_length: u32,
    /// Prompt template: plain (the row's prompt), judge (built-in grading prompt), a Jinja file, or auto (plain where every row
    /// has a prompt, else judge) [default: the start model's judge.json, else auto].
    pub template: Option<String>,
    /// Wrap prompts in the model's chat template; auto = if it has one [default: the start model's judge.json, else auto].
    pub chat: Option<Chat>,
    /// Day that the chat template states, as YYYY-MM-DD [default: the start model's judge.json, else today where the template
    /// wants one].
    pub date: Option<String>,
    /// What the score is read from: prompt and chain, or the chain alone (the prompt is hidden from it) [default: the start
    /// model's judge.json, else prompt].
    pub score_reads: Option<ScoreReads>,
    /// Learn the judgement only, not the prompt.
    pub completion_only_loss: bool,

    /// Values of the settings below that are not given: exact (the objective's own gradient), paper, or released-code.
    pub preset: Preset,
    /// Chains of thought a prompt (K).
    pub num_generations: u32,
    /// Optimiser steps on the same chains; from the second on both terms weigh the ratio of the chain's probabilities.
    pub num_iterations: u32,
    /// Largest such ratio; 0 = not bounded.
    pub ratio_cap: f64,
    /// Weight of advantage x log-probability of the chain; 0 leaves term 1 out.
    pub exploration_weight: f64,
    /// Weight of the reward's own gradient (beta in the paper); 0 leaves term 2 out [default: preset's].
    pub refinement_weight: Option<f64>,
    /// Weight of the squared error of the expected score, in real's reward and in cot-raft's loss [default: method's, 1].
    pub squared_weight: Option<f64>,
    /// Weight of log p(label) in the reward (lambda in the paper) [default: preset's].
    pub logprob_weight: Option<f64>,
    /// Weight of p(label) in the reward [default: preset's].
    pub prob_weight: Option<f64>,
    /// Weight of the ranked probability score in the reward [default: method's, 0].
    pub ranked_weight: Option<f64>,
    /// Divide advantages by the standard deviation of their group [default: preset's].
    pub normalize_advantages: Option<bool>,
    /// Clip advantages to this size; 0 = never [default: preset's].
    pub advantage_clip: Option<f64>,
    /// Advantages of each part of the reward by itself [default: preset's].
    pub separate_advantages: Option<bool>,
    /// Log-probabilities of a chain summed, or averaged over the batch's tokens [default: preset's].
    pub loss_aggregation: Option<Aggregation>,
    /// Expected score over the scale's tokens only, or over the full vocabulary [default: preset's].
    pub expectation: Option<Expectation>,
    /// Weight of the KL divergence to the start model.
    pub beta: f64,
    /// Weight of an entropy bonus on the chain's tokens.
    pub entropy_coef: f64,
    /// Temperature of the chains; only 1 is sampled from the policy that is trained.
    pub temperature: f64,
    /// Share of the probability that chains are sampled from; below 1 only with released-code [default: preset's].
    pub top_p: Option<f64>,

    /// Highest learning rate.
    pub learning_rate: f64,
    /// Learning rate after the warm-up.
    pub lr_scheduler_type: Decay,
    /// Where linear and cosine end, as a share of learning_rate.
    pub min_lr_ratio: f64,
    /// Warm-up as a share of all steps.
    pub warmup_ratio: f64,
    /// Warm-up in steps.
    pub warmup_steps: u64,
    /// AdamW's decay of weight matrices.
    pub weight_decay: f64,
    /// AdamW's first moment.
    pub adam_beta1: f64,
    /// AdamW's second moment.
    pub adam_beta2: f64,
    /// AdamW's epsilon.
    pub adam_epsilon: f64,
    /// Clip the gradient to this norm; 0 = never.
    pub max_grad_norm: f64,
    /// Stop after this many steps in a row whose gradient was not finite.
    pub max_nonfinite_steps: u64,

    /// Passes over the data.
    pub num_train_epochs: f64,
    /// Number of steps; -1 = by num_train_epochs.
    pub max_steps: i64,
    /// Rows in one packed batch; with sampled chains, prompts.
    pub per_device_train_batch_size: u32,
    /// Rows in one packed batch of the evaluation.
    pub per_device_eval_batch_size: u32,
    /// Packed batches in one step.
    pub gradient_accumulation_steps: u32,
    /// Keep only the input of each layer and compute the rest again on the way back: less memory, about a third more work.
    pub gradient_checkpointing: bool,
    /// With sampled chains: chains that are trained on together; fewer need less memory, and their prompt is computed again for
    /// each batch of them (0: all chains of all prompts of a batch).
    pub chains_per_pass: u32,
    /// Seed of weights and data order.
    pub seed: u64,
    /// Folder for checkpoints, logs and the trained model.
    pub output_dir: String,
    /// Steps between two lines of metrics.jsonl.
    pub logging_steps: u64,
    /// Steps between two evaluations; 0 = at the end only.
    pub eval_steps: u64,
    /// Steps between two checkpoints; 0 = at the end only.
    pub save_steps: u64,
    /// Keep this many checkpoints (the best and the newest always stay) [default: all].
    pub save_total_limit: Option<u64>,
    /// Leave the best checkpoint's weights in output_dir, not the last step's.
    pub load_best_model_at_end: bool,
    /// What the best checkpoint is best at.
    pub metric_for_best_model: BestMetric,
    /// Go on from the newest checkpoint in output_dir (true) or from this one.
    #[serde(skip_serializing_if = "Resume::is_no")]
    pub resume_from_checkpoint: Resume,
    /// GPU to use, by name or index.
    pub adapter: Option<String>,
}

impl Default for TrainConfig {
    fn default() -> Self {
        TrainConfig {
            method: Method::default(),
            model_name_or_path: None,
            base: None,
            init: None,
            tokenizer: None,
            vocab_size: None,
            save_dtype: None,
            chains_from: None,
            lora_r: 0,
            lora_alpha: None,
            lora_dropout: 0.0,
            lora_target_modules: ALL_LINEAR.into(),
            use_rslora: false,
            base_weights: WeightPolicy::AS_STORED,
            train_file: String::new(),
            eval_file: None,
            label_column: "score".into(),
            chain_column: ChainColumn::Auto,
            skip_bad: false,
            max_length: 1024,
            limit: None,
            shuffle_seed: None,
            max_decompressed: None,
            scale: None,
            phrase: None,
            max_completion_length: 0,
            template: None,
            chat: None,
            date: None,
            score_reads: None,
            completion_only_loss: true,
            preset: Preset::Exact,
            num_generations: 8,
            num_iterations: 1,
            ratio_cap: 0.0,
            exploration_weight: 1.0,
            refinement_weight: None,
            squared_weight: None,
            logprob_weight: None,
            prob_weight: None,
            ranked_weight: None,
            normalize_advantages: None,
            advantage_clip: None,
            separate_advantages: None,
            loss_aggregation: None,
            expectation: None,
            beta: 0.0,
            entropy_coef: 0.0,
            temperature: 1.0,
            top_p: None,
            learning_rate: 2e-5,
            lr_scheduler_type: Decay::Linear,
            min_lr_ratio: 0.0,
            warmup_ratio: 0.0,
            warmup_steps: 0,
            weight_decay: 0.0,
            adam_beta1: 0.9,
            adam_beta2: 0.999,
            adam_epsilon: 1e-8,
            max_grad_norm: 1.0,
            max_nonfinite_steps: 5,
            num_train_epochs: 3.0,
            max_steps: -1,
            per_device_train_batch_size: 8,
            per_device_eval_batch_size: 8,
            gradient_accumulation_steps: 1,
            gradient_checkpointing: false,
            chains_per_pass: 0,
            seed: 42,
            output_dir: String::new(),
            logging_steps: 1,
            eval_steps: 0,
            save_steps: 500,
            save_total_limit: None,
            load_best_model_at_end: false,
            metric_for_best_model: BestMetric::Loss,
            resume_from_checkpoint: Resume::default(),
            adapter: None,
        }
    }
}

/// The setting `resume_from_checkpoint`: `true`, `false`, or a checkpoint's folder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Resume {
    /// `true`: from the newest complete checkpoint in `output_dir`. `false`: a new run.
    Newest(bool),
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
    pub fn rows_per_step(&self) -> usize {
        self.per_device_train_batch_size as usize * self.gradient_accumulation_steps as usize
    }

    /// Number of steps on `rows` rows, counted as in transformers: the last step of an epoch may have fewer rows, and no step
    /// crosses the end of an epoch.
    pub fn total_steps(&self, rows: usize) -> u64 {
        if self.max_steps > 0 {
            return self.max_steps as u64;
        }
        let steps_per_epoch = rows.div_ceil(self.rows_per_step()) as f64;
        (self.num_train_epochs * steps_per_epoch).ceil() as u64
    }

    /// Number of warm-up steps of a run of `total` steps.
    pub fn warmup(&self, total: u64) -> u64 {
        if self.warmup_steps > 0 { self.warmup_steps } else { (total as f64 * self.warmup_ratio).ceil() as u64 }
    }

    /// The learning rate schedule of a run of `total` steps.
    pub fn schedule(&self, total: u64) -> Schedule {
        let (decay, base) = (self.lr_scheduler_type, self.learning_rate);
        Schedule { decay, base, warmup: self.warmup(total), total, floor: self.min_lr_ratio }
    }

    /// Reads what [`TrainConfig::to_toml`] wrote; `None` for any other text, and in a build without the cargo feature `toml`.
    #[cfg(all(feature = "toml", not(target_arch = "wasm32")))]
    pub fn from_toml(text: &str) -> Option<Self> {
        toml::from_str(text).ok()
    }

    /// Always `None`, because this build lacks the cargo feature `toml`.
    #[cfg(all(not(feature = "toml"), not(target_arch = "wasm32")))]
    pub fn from_toml(_: &str) -> Option<Self> {
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
    pub fn differences(&self, other: &TrainConfig) -> Vec<String> {
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
