//! The table of settings: the one place that knows each key's name, what it may hold, and what it is for. The config
//! file, the environment, the flags, `--help` and the error messages are all made from it.

use std::fmt;

use serde_json::Value;

use super::{BestMetric, Chat, Method, Preset, SaveDtype};
use crate::judge::{Expectation, ScoreReads};
use crate::model::weight_policy::WeightPolicy;
use crate::train::objective::policy::Aggregation;
use crate::train::objective::schedule::Decay;

/// One setting of a training run.
#[derive(Debug)]
pub struct Key {
    /// Name in the config file; `JURIST_<NAME>` in the environment; `--<name>` with hyphens as a flag.
    pub name: &'static str,
    /// Heading under which `--help` lists it.
    pub group: &'static str,
    pub kind: Kind,
    pub help: &'static str,
}

/// What a setting may hold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Any text that is not empty.
    Text,
    /// A file or folder.
    Path,
    /// One of these words.
    OneOf(&'static [&'static str]),
    Flag,
    /// `true`, or a file or folder.
    FlagOrPath,
    /// An integer of at least `min`.
    Int {
        min: i64,
        max: i64,
    },
    /// `max_steps`: an integer of at least 1, or -1 for "not set" as in transformers.
    IntOrUnset,
    /// A finite number in the interval.
    Number(Interval),
}

/// An interval of numbers whose ends may be left out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    pub min: f64,
    pub max: f64,
    pub min_allowed: bool,
    pub max_allowed: bool,
}

impl Interval {
    const fn closed(min: f64, max: f64) -> Self {
        Interval { min, max, min_allowed: true, max_allowed: true }
    }

    const fn above(min: f64, max: f64) -> Self {
        Interval { min, max, min_allowed: false, max_allowed: true }
    }

    const fn half_open(min: f64, max: f64) -> Self {
        Interval { min, max, min_allowed: true, max_allowed: false }
    }

    fn holds(&self, x: f64) -> bool {
        let low = if self.min_allowed { x >= self.min } else { x > self.min };
        let high = if self.max_allowed { x <= self.max } else { x < self.max };
        low && high && x.is_finite()
    }
}

/// A setting's value as somebody wrote it, before it is checked.
#[derive(Clone, Debug)]
pub enum Raw {
    /// Text without a type: a flag or an environment variable.
    Bare(String),
    /// A string of the config file.
    Quoted(String),
    Flag(bool),
    Int(i64),
    Number(f64),
    /// A table, an array, or a date, as it is to be shown.
    Other(String),
}

impl fmt::Display for Raw {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Raw::Bare(text) => write!(f, "{text}"),
            Raw::Quoted(text) => write!(f, "{text:?}"),
            Raw::Flag(flag) => write!(f, "{flag}"),
            Raw::Int(n) => write!(f, "{n}"),
            Raw::Number(x) => write!(f, "{x}"),
            Raw::Other(shown) => write!(f, "{shown}"),
        }
    }
}

impl Raw {
    fn text(&self) -> Option<&str> {
        match self {
            Raw::Bare(text) | Raw::Quoted(text) if !text.trim().is_empty() => Some(text),
            _ => None,
        }
    }

    fn flag(&self) -> Option<bool> {
        match self {
            Raw::Flag(flag) => Some(*flag),
            Raw::Bare(text) => match text.to_ascii_lowercase().as_str() {
                "true" | "1" | "yes" | "on" => Some(true),
                "false" | "0" | "no" | "off" => Some(false),
                _ => None,
            },
            _ => None,
        }
    }

    fn whole(&self) -> Option<i64> {
        match self {
            Raw::Int(n) => Some(*n),
            Raw::Bare(text) => text.trim().replace('_', "").parse().ok(),
            _ => None,
        }
    }

    fn number(&self) -> Option<f64> {
        match self {
            Raw::Number(x) => Some(*x),
            Raw::Int(n) => Some(*n as f64),
            Raw::Bare(text) => text.trim().replace('_', "").parse().ok(),
            _ => None,
        }
    }
}

impl Kind {
    /// The value in the type of this setting, or `None` when `raw` is not one that it may hold.
    pub fn read(&self, raw: &Raw) -> Option<Value> {
        match self {
            // A bare number is a text too: `adapter = 0`.
            Kind::Text if matches!(raw, Raw::Int(_)) => Some(Value::from(raw.to_string())),
            Kind::Text | Kind::Path => raw.text().map(Value::from),
            Kind::OneOf(words) => raw.text().filter(|text| words.contains(text)).map(Value::from),
            Kind::Flag => raw.flag().map(Value::from),
            Kind::FlagOrPath => raw.flag().map(Value::from).or_else(|| raw.text().map(Value::from)),
            Kind::Int { min, max } => raw.whole().filter(|n| (*min..=*max).contains(n)).map(Value::from),
            Kind::IntOrUnset => raw.whole().filter(|n| *n == -1 || *n >= 1).map(Value::from),
            Kind::Number(interval) => raw.number().filter(|x| interval.holds(*x)).map(Value::from),
        }
    }

    /// True when a flag may stand without a value (`--skip-bad` for `--skip-bad true`).
    pub fn is_switch(&self) -> bool {
        matches!(self, Kind::Flag | Kind::FlagOrPath)
    }
}

/// What is allowed, as the end of "expected ...".
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Kind::Text => write!(f, "a text that is not empty"),
            Kind::Path => write!(f, "the path of a file or folder"),
            Kind::OneOf(words) => write!(f, "one of {}", words.join(", ")),
            Kind::Flag => write!(f, "true or false"),
            Kind::FlagOrPath => write!(f, "true, false, or the path of a checkpoint"),
            Kind::Int { min, max: i64::MAX } => write!(f, "a whole number of at least {min}"),
            Kind::Int { min, max } => write!(f, "a whole number from {min} to {max}"),
            Kind::IntOrUnset => write!(f, "a whole number of at least 1, or -1 to go by num_train_epochs"),
            Kind::Number(i) => {
                let low = if i.min_allowed { "at least" } else { "above" };
                let high = if i.max_allowed { "at most" } else { "below" };
                write!(f, "a number {low} {} and {high} {}", i.min, i.max)
            }
        }
    }
}

const MODEL: &str = "Model";
const LORA: &str = "LoRA";
const DATA: &str = "Data";
const JUDGE: &str = "Judge";
const POLICY: &str = "Policy gradient (sampled chains)";
const OPTIMISER: &str = "Optimiser";
const RUN: &str = "Run";

const fn whole(min: i64) -> Kind {
    Kind::Int { min, max: i64::MAX }
}

/// Optimiser steps on the same chains.
pub(in crate::train) const MOST_ITERATIONS: i64 = 64;

/// For what is a `u32` on the GPU and in packed batches.
const fn count(min: i64, max: i64) -> Kind {
    Kind::Int { min, max }
}

const fn key(name: &'static str, group: &'static str, kind: Kind, help: &'static str) -> Key {
    Key { name, group, kind, help }
}

/// Every setting, in the order in which `--help` and the resolved config show them.
#[rustfmt::skip]
pub const KEYS: &[Key] = &[
    key("method", MODEL, Kind::OneOf(Method::WORDS), "How to train. On given judgements: sft (cross-entropy of chain, phrase and score), raft (squared error of the expected score, no chain), cot-raft (both), tract (cot-raft, then again from the start on chains of its own). On sampled chains: real (both terms of the generalised policy gradient), reinforce and grpo (is the sampled score right), rl-squared (how far off it is), rl-prob (probability of the label), rl-log and rl-ranked (scoring rules of the whole distribution)"),
    key("model_name_or_path", MODEL, Kind::Path, "Hugging Face model folder to start from"),
    key("base", MODEL, Kind::Path, "Model of the adapter to start from, in the place of the one that it names"),
    key("init", MODEL, Kind::Path, "config.json of a model to start from scratch, weights drawn from `seed`"),
    key("tokenizer", MODEL, Kind::Path, "tokenizer.json, or a folder with one, when it is not the model's own"),
    key("vocab_size", MODEL, count(64, 1 << 20), "With `init` and no tokenizer: train a BPE of this size on the training data"),
    key("save_dtype", MODEL, Kind::OneOf(SaveDtype::WORDS), "Number format of the saved weights [default: the start model's]"),
    key("chains_from", MODEL, Kind::Path, "With tract: a judge that cot-raft trained before, to write the chains, instead of training it"),

    key("lora_r", LORA, count(0, 1 << 12), "Rank of a LoRA adapter: the model stays frozen and the adapter learns; 0 = every weight learns"),
    key("lora_alpha", LORA, Kind::Number(Interval::above(0.0, 1e6)), "The update's weight is alpha / r [default: 2 r]"),
    key("lora_dropout", LORA, Kind::Number(Interval::half_open(0.0, 1.0)), "Share of the adapter's inputs that is dropped; for given judgements only"),
    key("lora_target_modules", LORA, Kind::Text, "Projections that are adapted, by commas: all-linear, or q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj"),
    key("use_rslora", LORA, Kind::Flag, "Weigh the update by alpha / sqrt(r)"),
    key("base_weights", LORA, Kind::OneOf(&WeightPolicy::WORDS), "How the frozen matrices are held on the GPU; auto = as they are stored"),

    key("train_file", DATA, Kind::Path, "Rows to train on: JSON Lines, a JSON array, CSV (each plain, .gz or .zst), Parquet, or a folder of those"),
    key("eval_file", DATA, Kind::Path, "Rows to evaluate on"),
    key("label_column", DATA, Kind::Text, "Column with the human score"),
    key("chain_column", DATA, Kind::Text, "Column with the chain of thought; auto looks for chain, feedback, rationale; none ignores them"),
    key("skip_bad", DATA, Kind::Flag, "Skip and count malformed rows instead of stopping at the first"),
    key("max_length", DATA, count(2, 1 << 20), "Longest row in tokens; longer ones are counted and skipped"),
    key("limit", DATA, whole(1), "At most this many rows of train_file [default: all]"),
    key("shuffle_seed", DATA, whole(0), "Put the rows of train_file in this seed's order before `limit` cuts them [default: the file's order]"),
    key("max_decompressed", DATA, Kind::Text, "What an archive may unpack to, such as 64GiB [default: 256 MiB, and more up to 100 times its packed size]"),

    key("scale", JUDGE, Kind::Text, "Scores: \"1..5\", \"0..4=0..1\" (texts 0 to 4 for values 0 to 1), or \"bad,fair,good=0,0.5,1\" [default: the start model's judge.json, else 1..5]"),
    key("phrase", JUDGE, Kind::Text, "Words between the chain of thought and the score [default: the start model's judge.json, else \"So the overall score is \"]"),
    key("max_completion_length", JUDGE, Kind::Int { min: 0, max: 1 << 20 }, "Most tokens of a chain of thought (0: twice the longest one in the training data)"),
    key("template", JUDGE, Kind::Text, "Prompt template: plain (the row's prompt), judge (built-in grading prompt), a Jinja file, or auto (plain where every row has a prompt, else judge) [default: the start model's judge.json, else auto]"),
    key("chat", JUDGE, Kind::OneOf(Chat::WORDS), "Wrap prompts in the model's chat template; auto = if it has one [default: the start model's judge.json, else auto]"),
    key("date", JUDGE, Kind::Text, "Day that the chat template states, as YYYY-MM-DD [default: the start model's judge.json, else today where the template wants one]"),
    key("score_reads", JUDGE, Kind::OneOf(&ScoreReads::WORDS), "What the score is read from: prompt and chain, or the chain alone (the prompt is hidden from it) [default: the start model's judge.json, else prompt]"),
    key("completion_only_loss", JUDGE, Kind::Flag, "Learn the judgement only, not the prompt"),

    key("preset", POLICY, Kind::OneOf(Preset::WORDS), "Values of the settings below that are not given: exact (the objective's own gradient), paper, or released-code"),
    key("num_generations", POLICY, count(2, 1 << 12), "Chains of thought a prompt (K)"),
    key("num_iterations", POLICY, count(1, MOST_ITERATIONS), "Optimiser steps on the same chains; from the second on both terms weigh the ratio of the chain's probabilities"),
    key("ratio_cap", POLICY, Kind::Number(Interval::closed(0.0, 1e6)), "Largest such ratio; 0 = not bounded"),
    key("exploration_weight", POLICY, Kind::Number(Interval::closed(0.0, 1e6)), "Weight of advantage x log-probability of the chain; 0 leaves term 1 out"),
    key("refinement_weight", POLICY, Kind::Number(Interval::closed(0.0, 1e6)), "Weight of the reward's own gradient (beta in the paper); 0 leaves term 2 out [default: preset's]"),
    key("squared_weight", POLICY, Kind::Number(Interval::closed(0.0, 1e6)), "Weight of the squared error of the expected score, in real's reward and in cot-raft's loss [default: method's, 1]"),
    key("logprob_weight", POLICY, Kind::Number(Interval::closed(0.0, 1e6)), "Weight of log p(label) in the reward (lambda in the paper) [default: preset's]"),
    key("prob_weight", POLICY, Kind::Number(Interval::closed(0.0, 1e6)), "Weight of p(label) in the reward [default: preset's]"),
    key("ranked_weight", POLICY, Kind::Number(Interval::closed(0.0, 1e6)), "Weight of the ranked probability score in the reward [default: method's, 0]"),
    key("normalize_advantages", POLICY, Kind::Flag, "Divide advantages by the standard deviation of their group [default: preset's]"),
    key("advantage_clip", POLICY, Kind::Number(Interval::closed(0.0, 1e6)), "Clip advantages to this size; 0 = never [default: preset's]"),
    key("separate_advantages", POLICY, Kind::Flag, "Advantages of each part of the reward by itself [default: preset's]"),
    key("loss_aggregation", POLICY, Kind::OneOf(Aggregation::WORDS), "Log-probabilities of a chain summed, or averaged over the batch's tokens [default: preset's]"),
    key("expectation", POLICY, Kind::OneOf(&Expectation::WORDS), "Expected score over the scale's tokens only, or over the full vocabulary [default: preset's]"),
    key("beta", POLICY, Kind::Number(Interval::closed(0.0, 1e6)), "Weight of the KL divergence to the start model"),
    key("entropy_coef", POLICY, Kind::Number(Interval::closed(0.0, 1e6)), "Weight of an entropy bonus on the chain's tokens"),
    key("temperature", POLICY, Kind::Number(Interval::above(0.0, 100.0)), "Temperature of the chains; only 1 is sampled from the policy that is trained"),
    key("top_p", POLICY, Kind::Number(Interval::above(0.0, 1.0)), "Share of the probability that chains are sampled from; below 1 only with released-code [default: preset's]"),

    key("learning_rate", OPTIMISER, Kind::Number(Interval::above(0.0, 10.0)), "Highest learning rate"),
    key("lr_scheduler_type", OPTIMISER, Kind::OneOf(Decay::WORDS), "Learning rate after the warm-up"),
    key("min_lr_ratio", OPTIMISER, Kind::Number(Interval::half_open(0.0, 1.0)), "Where linear and cosine end, as a share of learning_rate"),
    key("warmup_ratio", OPTIMISER, Kind::Number(Interval::closed(0.0, 1.0)), "Warm-up as a share of all steps"),
    key("warmup_steps", OPTIMISER, whole(0), "Warm-up in steps"),
    key("weight_decay", OPTIMISER, Kind::Number(Interval::closed(0.0, 10.0)), "AdamW's decay of weight matrices"),
    key("adam_beta1", OPTIMISER, Kind::Number(Interval::half_open(0.0, 1.0)), "AdamW's first moment"),
    key("adam_beta2", OPTIMISER, Kind::Number(Interval::half_open(0.0, 1.0)), "AdamW's second moment"),
    key("adam_epsilon", OPTIMISER, Kind::Number(Interval::above(0.0, 1.0)), "AdamW's epsilon"),
    key("max_grad_norm", OPTIMISER, Kind::Number(Interval::closed(0.0, 1e9)), "Clip the gradient to this norm; 0 = never"),
    key("max_nonfinite_steps", OPTIMISER, whole(1), "Stop after this many steps in a row whose gradient was not finite"),

    key("num_train_epochs", RUN, Kind::Number(Interval::above(0.0, 1e6)), "Passes over the data"),
    key("max_steps", RUN, Kind::IntOrUnset, "Number of steps; -1 = by num_train_epochs"),
    key("per_device_train_batch_size", RUN, count(1, 1 << 16), "Rows in one packed batch; with sampled chains, prompts"),
    key("per_device_eval_batch_size", RUN, count(1, 1 << 16), "Rows in one packed batch of the evaluation"),
    key("gradient_accumulation_steps", RUN, count(1, 1 << 16), "Packed batches in one step"),
    key("gradient_checkpointing", RUN, Kind::Flag, "Keep only the input of each layer and compute the rest again on the way back: less memory, about a third more work"),
    key("chains_per_pass", RUN, count(0, 1 << 12), "With sampled chains: chains that are trained on together; fewer need less memory, and their prompt is computed again for each batch of them (0: all chains of all prompts of a batch)"),
    key("seed", RUN, whole(0), "Seed of weights and data order"),
    key("output_dir", RUN, Kind::Path, "Folder for checkpoints, logs and the trained model"),
    key("logging_steps", RUN, whole(1), "Steps between two lines of metrics.jsonl"),
    key("eval_steps", RUN, whole(0), "Steps between two evaluations; 0 = at the end only"),
    key("save_steps", RUN, whole(0), "Steps between two checkpoints; 0 = at the end only"),
    key("save_total_limit", RUN, whole(1), "Keep this many checkpoints (the best and the newest always stay) [default: all]"),
    key("load_best_model_at_end", RUN, Kind::Flag, "Leave the best checkpoint's weights in output_dir, not the last step's"),
    key("metric_for_best_model", RUN, Kind::OneOf(BestMetric::WORDS), "What the best checkpoint is best at"),
    key("resume_from_checkpoint", RUN, Kind::FlagOrPath, "Go on from the newest checkpoint in output_dir (true) or from this one"),
    key("adapter", RUN, Kind::Text, "GPU to use, by name or index"),
];

/// The table's entry for `name`.
pub fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}
