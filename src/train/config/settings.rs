//! The settings of a training run, each with its name, meaning, default and range: the one list of them.
//!
//! clap does not derive it: a flag is one of the four layers that a setting may come from. See
//! `docs/decisions/017-settings-table.md`.

use serde::{Deserialize, Serialize};

use super::keys::{Interval, Key, Kind, MOST_ITERATIONS, count, whole};
use super::{BestMetric, ChainColumn, Chat, GradientSum, GradientTransfer, Method, Preset, ReportTo, Resume, SaveDtype};
use crate::judge::{Expectation, ScoreReads};
use crate::model::lora::ALL_LINEAR;
use crate::model::weight_policy::WeightPolicy;
use crate::train::objective::policy::Aggregation;
use crate::train::objective::schedule::Decay;

/// Declares the struct of all settings, its defaults, and the table [`KEYS`]. A setting's documentation is its help, each heading
/// that of `--help` over the settings that follow: `name: type = default, kind;`.
macro_rules! settings {
    (
        $(#[$meta:meta])* pub struct $name:ident;
        $(
            heading $heading:literal;
            $($(#[doc = $doc:literal])+ $(#[serde($serde:meta)])? $field:ident: $type:ty = $default:expr, $kind:expr;)+
        )+
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name {
            $($($(#[doc = $doc])+ $(#[serde($serde)])? pub $field: $type,)+)+
        }

        impl Default for $name {
            fn default() -> Self {
                $name { $($($field: $default,)+)+ }
            }
        }

        /// Every setting, in the order in which `--help` and the resolved config show them.
        pub const KEYS: &[Key] = &[
            $($(Key { name: stringify!($field), group: $heading, kind: $kind, doc: concat!($($doc),+) },)+)+
        ];
    };
}

settings! {
    /// The settings of a training run, under TRL's names where they mean the same.
    ///
    /// A field that is `None` takes the default that its description names. `jurist train --help` lists the same settings.
    pub struct TrainConfig;

    heading "Model";
    /// Training method. On given chains and scores: sft (cross-entropy of chain, phrase and score), raft (squared error of the
    /// expected score, no chain), cot-raft (both), tract (cot-raft, then again from the start model on chains that this judge
    /// writes). On sampled chains: real (both terms of the generalised policy gradient); reinforce and grpo (reward: is the
    /// sampled score right), rl-squared (squared error of the sampled score), rl-prob (probability of the label), rl-log and
    /// rl-ranked (scoring rules of the distribution).
    method: Method = Method::default(), Kind::OneOf(Method::WORDS);
    /// Hugging Face model folder to start from.
    model_name_or_path: Option<String> = None, Kind::Path;
    /// Base model of the adapter to start from, instead of the one that it names.
    base: Option<String> = None, Kind::Path;
    /// config.json of a model to train from random weights, drawn with `seed`.
    init: Option<String> = None, Kind::Path;
    /// tokenizer.json, or a folder with one, instead of the model's own.
    tokenizer: Option<String> = None, Kind::Path;
    /// With `init` and no tokenizer: train a BPE tokenizer with this vocabulary size on the training data.
    vocab_size: Option<u32> = None, count(64, 1 << 20);
    /// Number format of the saved weights [default: the start model's].
    save_dtype: Option<SaveDtype> = None, Kind::OneOf(SaveDtype::WORDS);
    /// With tract: a judge, trained before with cot-raft, that writes the chains; otherwise it is trained first.
    chains_from: Option<String> = None, Kind::Path;

    heading "LoRA";
    /// Rank of a LoRA adapter. The model stays frozen and the adapter is trained; 0 = no adapter, all weights are trained.
    lora_r: u32 = 0, count(0, 1 << 12);
    /// The adapter's update is scaled by alpha / r [default: 2 r].
    lora_alpha: Option<f64> = None, Kind::Number(Interval::above(0.0, 1e6));
    /// Dropout rate of the adapter's inputs; not for methods that sample chains.
    lora_dropout: f64 = 0.0, Kind::Number(Interval::half_open(0.0, 1.0));
    /// Projections with an adapter, separated by commas: all-linear, or q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj,
    /// down_proj.
    lora_target_modules: String = ALL_LINEAR.into(), Kind::Text;
    /// Scale the adapter's update by alpha / sqrt(r).
    use_rslora: bool = false, Kind::Flag;
    /// Format of the frozen matrices on the GPU; auto = as they are stored.
    base_weights: WeightPolicy = WeightPolicy::AS_STORED, Kind::OneOf(WeightPolicy::WORDS);

    heading "Data";
    /// Rows to train on: JSON Lines, a JSON array, CSV (each plain, .gz or .zst), Parquet, or a folder of those.
    train_file: String = String::new(), Kind::Path;
    /// Rows to evaluate on.
    eval_file: Option<String> = None, Kind::Path;
    /// Column with the human score, a number or a word of the scale.
    label_column: String = "score".into(), Kind::Text;
    /// Column with the chain of thought; auto looks for chain, feedback and rationale; none reads no chains.
    chain_column: ChainColumn = ChainColumn::Auto, Kind::Text;
    /// Skip and count malformed rows instead of stopping at the first.
    skip_bad: bool = false, Kind::Flag;
    /// Most tokens of a row; longer rows are counted and skipped.
    max_length: u32 = 1024, count(2, 1 << 20);
    /// At most this many rows of train_file [default: all].
    limit: Option<u64> = None, whole(1);
    /// Shuffle the rows of train_file with this seed before `limit` [default: the file's order].
    shuffle_seed: Option<u64> = None, whole(0);
    /// Most bytes that a compressed file may unpack to, such as 64GiB [default: 256 MiB, or 100 times its packed size].
    max_decompressed: Option<String> = None, Kind::Text;

    heading "Judge";
    /// Scores: "1..5", "0..4=0..1" (texts 0 to 4 for values 0 to 1), or "bad,fair,good=0,0.5,1" [default: the start model's
    /// judge.json, else 1..5, and "A,B=1,0" with the template pair].
    scale: Option<String> = None, Kind::Text;
    /// Words between the chain of thought and the score [default: the start model's judge.json, else "So the overall score is "].
    phrase: Option<String> = None, Kind::Text;
    /// Most tokens of a chain of thought (0: twice the longest one in the training data).
    max_completion_length: u32 = 0, Kind::Int { min: 0, max: 1 << 20 };
    /// Prompt template: plain (the row's prompt), judge (built-in grading prompt), pair (built-in prompt for two responses), a Jinja
    /// file, or auto (plain where every row has a prompt, else judge) [default: the start model's judge.json, else auto].
    template: Option<String> = None, Kind::Text;
    /// Wrap prompts in the model's chat template; auto = if it has one [default: the start model's judge.json, else auto].
    chat: Option<Chat> = None, Kind::OneOf(Chat::WORDS);
    /// Date that the chat template states, as YYYY-MM-DD [default: the start model's judge.json, else today if the template uses
    /// a date].
    date: Option<String> = None, Kind::Text;
    /// What the score is read from: prompt and chain, or the chain alone (the prompt is hidden from it) [default: the start
    /// model's judge.json, else prompt].
    score_reads: Option<ScoreReads> = None, Kind::OneOf(ScoreReads::WORDS);
    /// Cross-entropy of chain, phrase and score only; false: of the prompt too.
    completion_only_loss: bool = true, Kind::Flag;

    heading "Policy gradient (sampled chains)";
    /// Values of the settings below that are not given: exact (the objective's own gradient), paper, or released-code.
    preset: Preset = Preset::Exact, Kind::OneOf(Preset::WORDS);
    /// Chains of thought per prompt (K).
    num_generations: u32 = 8, count(2, 1 << 12);
    /// Optimiser steps on the same chains. From the second on, both terms are weighted with the probability ratio of the chain.
    num_iterations: u32 = 1, count(1, MOST_ITERATIONS);
    /// Largest probability ratio of a chain; 0 = no limit.
    ratio_cap: f64 = 0.0, Kind::Number(Interval::closed(0.0, 1e6));
    /// Weight of term 1, advantage x log-probability of the chain; 0 leaves it out.
    exploration_weight: f64 = 1.0, Kind::Number(Interval::closed(0.0, 1e6));
    /// Weight of term 2, the gradient of the reward (beta in the paper); 0 leaves it out [default: preset's].
    refinement_weight: Option<f64> = None, Kind::Number(Interval::closed(0.0, 1e6));
    /// Weight of the squared error of the expected score, in real's reward and in cot-raft's loss [default: method's, 1].
    squared_weight: Option<f64> = None, Kind::Number(Interval::closed(0.0, 1e6));
    /// Weight of log p(label) in the reward (lambda in the paper) [default: preset's].
    logprob_weight: Option<f64> = None, Kind::Number(Interval::closed(0.0, 1e6));
    /// Weight of p(label) in the reward [default: preset's].
    prob_weight: Option<f64> = None, Kind::Number(Interval::closed(0.0, 1e6));
    /// Weight of the ranked probability score in the reward [default: method's, 0].
    ranked_weight: Option<f64> = None, Kind::Number(Interval::closed(0.0, 1e6));
    /// Divide advantages by the standard deviation of their group [default: preset's].
    normalize_advantages: Option<bool> = None, Kind::Flag;
    /// Clip advantages to this size; 0 = no clipping [default: preset's].
    advantage_clip: Option<f64> = None, Kind::Number(Interval::closed(0.0, 1e6));
    /// Compute advantages separately for each part of the reward [default: preset's].
    separate_advantages: Option<bool> = None, Kind::Flag;
    /// Sum the log-probabilities of a chain, or average them over the tokens of the batch [default: preset's].
    loss_aggregation: Option<Aggregation> = None, Kind::OneOf(Aggregation::WORDS);
    /// Probabilities for the expected score: renormalised over the scale's tokens, or of the full vocabulary [default: preset's].
    expectation: Option<Expectation> = None, Kind::OneOf(Expectation::WORDS);
    /// Weight of the KL divergence to the start model.
    beta: f64 = 0.0, Kind::Number(Interval::closed(0.0, 1e6));
    /// Weight of an entropy bonus on the chain's tokens.
    entropy_coef: f64 = 0.0, Kind::Number(Interval::closed(0.0, 1e6));
    /// Sampling temperature of the chains; only with 1 the sampled policy is the trained one.
    temperature: f64 = 1.0, Kind::Number(Interval::above(0.0, 100.0));
    /// Nucleus probability (top-p) of sampled chains; below 1 only with released-code [default: preset's].
    top_p: Option<f64> = None, Kind::Number(Interval::above(0.0, 1.0));

    heading "Optimiser";
    /// Highest learning rate.
    learning_rate: f64 = 2e-5, Kind::Number(Interval::above(0.0, 10.0));
    /// How the learning rate changes after the warm-up.
    lr_scheduler_type: Decay = Decay::Linear, Kind::OneOf(Decay::WORDS);
    /// Final learning rate of linear and cosine, as a share of learning_rate.
    min_lr_ratio: f64 = 0.0, Kind::Number(Interval::half_open(0.0, 1.0));
    /// Warm-up as a share of all steps.
    warmup_ratio: f64 = 0.0, Kind::Number(Interval::closed(0.0, 1.0));
    /// Warm-up in steps.
    warmup_steps: u64 = 0, whole(0);
    /// AdamW's weight decay, of matrices and embeddings.
    weight_decay: f64 = 0.0, Kind::Number(Interval::closed(0.0, 10.0));
    /// AdamW's beta 1, the decay rate of the first moment.
    adam_beta1: f64 = 0.9, Kind::Number(Interval::half_open(0.0, 1.0));
    /// AdamW's beta 2, the decay rate of the second moment.
    adam_beta2: f64 = 0.999, Kind::Number(Interval::half_open(0.0, 1.0));
    /// AdamW's epsilon.
    adam_epsilon: f64 = 1e-8, Kind::Number(Interval::above(0.0, 1.0));
    /// Clip the gradient to this norm; 0 = no clipping.
    max_grad_norm: f64 = 1.0, Kind::Number(Interval::closed(0.0, 1e9));
    /// Stop after this many steps in a row whose gradient was not finite.
    max_nonfinite_steps: u64 = 5, whole(1);

    heading "Run";
    /// Passes over the data.
    num_train_epochs: f64 = 3.0, Kind::Number(Interval::above(0.0, 1e6));
    /// Number of steps; -1 = as num_train_epochs says.
    max_steps: i64 = -1, Kind::IntOrUnset;
    /// Rows per packed batch; with sampled chains, prompts per batch.
    per_device_train_batch_size: u32 = 8, count(1, 1 << 16);
    /// Rows per packed batch of the evaluation.
    per_device_eval_batch_size: u32 = 8, count(1, 1 << 16);
    /// Packed batches per step.
    gradient_accumulation_steps: u32 = 1, count(1, 1 << 16);
    /// Order in which the gradients of these batches are added: tree (the bytes do not depend on the number of ranks; it holds one
    /// more gradient each time their number doubles) or running (as they come; no more memory).
    gradient_sum: GradientSum = GradientSum::Tree, Kind::OneOf(GradientSum::WORDS);
    /// Dtype in which gradients travel between ranks: f32, or bf16 (half the bytes; the result then depends on the number of ranks).
    gradient_transfer: GradientTransfer = GradientTransfer::F32, Kind::OneOf(GradientTransfer::WORDS);
    /// Keep only the inputs of the layers, and compute the other activations again in backward: less memory, about a third more work.
    gradient_checkpointing: bool = false, Kind::Flag;
    /// With sampled chains: chains per training pass. Fewer need less memory, but each pass computes the prompt again; 0 = all chains
    /// of all prompts of a batch.
    chains_per_pass: u32 = 0, count(0, 1 << 12);
    /// Take rows whose prompts begin alike (the same rubric, the same question) four at a time, and compute what rows of a batch
    /// share once. With sampled chains only the order changes: the chains of a prompt share it always.
    share_prefixes: bool = false, Kind::Flag;
    /// Seed of the weights, the row order and the sampled chains.
    seed: u64 = 42, whole(0);
    /// Folder for checkpoints, logs and the trained model.
    output_dir: String = String::new(), Kind::Path;
    /// Steps between two lines of metrics.jsonl.
    logging_steps: u64 = 1, whole(1);
    /// Steps between two evaluations; 0 = at the end only.
    eval_steps: u64 = 0, whole(0);
    /// Steps between two checkpoints; 0 = at the end only.
    save_steps: u64 = 500, whole(0);
    /// Most checkpoints to keep; the best and the newest are always kept [default: all].
    save_total_limit: Option<u64> = None, whole(1);
    /// Write the weights of the best checkpoint to output_dir instead of the last ones.
    load_best_model_at_end: bool = false, Kind::Flag;
    /// Metric that decides which checkpoint is the best.
    metric_for_best_model: BestMetric = BestMetric::Loss, Kind::OneOf(BestMetric::WORDS);
    /// Stop after this many evaluations in a row in which metric_for_best_model has not improved [default: never].
    early_stopping_patience: Option<u64> = None, whole(1);
    /// By more than this the metric must improve to count for early_stopping_patience.
    early_stopping_threshold: f64 = 0.0, Kind::Number(Interval::closed(0.0, 1e9));
    /// Write the log for this program too; tensorboard: an event file in output_dir.
    report_to: ReportTo = ReportTo::None, Kind::OneOf(ReportTo::WORDS);
    /// Resume from the newest checkpoint in output_dir (true), or from this checkpoint.
    #[serde(skip_serializing_if = "Resume::is_no")]
    resume_from_checkpoint: Resume = Resume::default(), Kind::FlagOrPath;
    /// GPU to use, by name or index.
    adapter: Option<String> = None, Kind::Text;
}
