//! The judge: what a score is, how a row becomes its prompt, and how logits become a prediction.
//!
//! - [`Scale`]: the grid of scores, each with the text that is generated for it and the value it stands for;
//! - [`ScoreTokens`]: the tokens of each score in context, as the model's tokenizer writes them, and the tree they form;
//! - [`AnswerFormat`]: the tokens between prompt and score, including the phrase;
//! - [`BatchLayout`]: where chains and scores lie in a packed batch, and which tokens each of them sees;
//! - [`JudgePrompt`]: turns a row into prompt tokens, and a labelled row into a supervised sequence with known parts;
//! - [`Prediction`]: the distribution over scores, with the expected score (RAIL) and the decoded score;
//! - [`Judge`]: a model with all of this; its [`JudgeSettings`] are stored beside the weights as `judge.json`;
//! - [`JudgeCalibration`]: the score that people would give, for judges that were calibrated;
//! - [`PairRecord`]: the judgement of two responses, scored alone or read together in both orders;
//! - [`compare`]: compares two judges on the same chains.

mod answer;
mod batch_layout;
mod calibration;
mod chains;
mod columns;
mod compare;
mod continuous;
#[cfg(not(target_arch = "wasm32"))]
mod export;
#[cfg(not(target_arch = "wasm32"))]
mod files;
mod input_squares;
#[allow(clippy::module_inception)] // named after its main type
mod judge;
mod logprobs;
mod pair;
mod passes;
mod plans;
mod predict;
mod prompt;
mod scale;
mod settings;
mod shared_prefixes;
mod shown;
mod template;
mod tokens;

pub use answer::{AnswerFormat, Decode};
pub use batch_layout::{BatchLayout, CompletionSpans, ScoreReads};
pub use calibration::{CalibratedRow, JudgeCalibration, JudgedWith};
#[cfg(not(target_arch = "wasm32"))]
pub use calibration::{same_judge, store as store_calibration};
pub use columns::PromptColumn;
pub use compare::{JudgeComparison, compare, with_swapped_chains};
pub use continuous::{Continuous, ContinuousSizes, Follower};
#[cfg(not(target_arch = "wasm32"))]
pub use export::{JudgeExport, folder_name};
#[cfg(not(target_arch = "wasm32"))]
pub use files::{JudgeFiles, tokenizer_at};
pub use judge::{ChainScore, Judge, PromptTokens, ScoreOptions, ScoredRow};
pub use logprobs::{Alternative, TokenLogProb};
pub use pair::{PairRecord, PairWay, TIE_MARGIN};
pub use predict::{Expectation, Prediction, ScoreRecord};
pub use prompt::{DEFAULT_PHRASE, JudgePrompt, Sequence, preview};
pub use scale::{Scale, Split};
pub use settings::{CHAT_WORDS, Choice, DEFAULT_SCALE, JUDGE_FILE, JudgeOverrides, JudgeSettings};
pub use shared_prefixes::{Alike, rows_alike};
pub use shown::{Length, RowView};
pub use template::{PAIR_PHRASE, PAIR_SCALE, Template};
pub use tokens::ScoreTokens;

/// What can go wrong between a row and its score.
#[derive(Debug, thiserror::Error)]
pub enum JudgeError {
    /// A malformed scale.
    #[error("scale `{spec}`: {found}; {fix}")]
    Scale {
        /// The scale as given.
        spec: String,
        /// What is wrong with it.
        found: String,
        /// What to do.
        fix: String,
    },
    /// A label that is not on the scale.
    #[error("label {label} is outside the scale's {min} to {max}; rescale the labels or choose another scale")]
    Label {
        /// The label.
        label: f64,
        /// The smallest value of the scale.
        min: f64,
        /// The largest.
        max: f64,
    },
    /// A score that the tokenizer does not give usable tokens.
    #[error("score `{score}` after {phrase:?}: {found}; {fix}")]
    ScoreToken {
        /// The score's text.
        score: String,
        /// The phrase before it.
        phrase: String,
        /// What the tokenizer makes of it.
        found: String,
        /// What to do.
        fix: String,
    },
    /// A phrase that is too long.
    #[error(
        "the phrase before the score has {bytes} bytes, and {} is the most allowed; shorten --phrase (`phrase` in a config or judge.json)",
        prompt::LONGEST_PHRASE
    )]
    Phrase {
        /// Its length.
        bytes: usize,
    },
    /// Values that are not probabilities.
    #[error("no prediction: {0}")]
    Probabilities(String),
    /// A template that cannot be read or rendered.
    #[error("prompt template {name}: {found}; {fix}")]
    Template {
        /// The template's name or file.
        name: String,
        /// What happened.
        found: String,
        /// What to do.
        fix: String,
    },
    /// A row that does not fit the template.
    #[error("{place}: {found}; {fix}")]
    Row {
        /// `file:line`.
        place: String,
        /// What is missing or wrong.
        found: String,
        /// What to do.
        fix: String,
    },
    /// A model without a `judge.json`.
    #[error(
        "model {folder}: there is no judge.json in it, so it is a model and no judge; train it first, or give the folder of a \
         trained judge"
    )]
    NoJudge {
        /// Its folder.
        folder: String,
    },
    /// A `judge.json` that cannot be used.
    #[error("judge.json: {found}; train the judge again, or give scale, phrase and template as flags and remove the file")]
    Settings {
        /// What is wrong with it.
        found: String,
    },
    /// A calibration in a `judge.json` that cannot be used.
    #[error("judge.json: its `calibration` cannot be used: {0}; write it anew with jurist calibrate, or remove that key")]
    StoredCalibration(&'static str),
    /// An option of scoring that is out of its range.
    #[error("`{option}` is {found}; expected {expected}")]
    Option {
        /// Its name.
        option: &'static str,
        /// Its value.
        found: String,
        /// The range.
        expected: String,
    },
    /// Rows by which no rounding can be weighed.
    #[error("no row can be read to calibrate: {0}; give rows of the judge's task")]
    InputSquares(String),
    /// Scoring needs more memory than a software adapter may take.
    #[error("judging needs {needed} MiB for GPU buffers ({usage}), but only {available} MiB of memory are free; {fix}")]
    Memory {
        /// MiB.
        needed: u64,
        /// MiB.
        available: u64,
        /// Bytes per purpose.
        usage: Box<crate::gpu::MemoryUsage>,
        /// What to do.
        fix: String,
    },
    /// From the model or the GPU.
    #[error(transparent)]
    Model(#[from] crate::model::error::ModelError),
    /// From the tokenizer or its chat template.
    #[error(transparent)]
    Text(#[from] crate::text::TextError),
}

#[cfg(not(target_arch = "wasm32"))]
impl JudgeError {
    fn no_judge(folder: &crate::model_folder::ModelFolder) -> Self {
        JudgeError::NoJudge { folder: folder.dir().display().to_string() }
    }
}

/// Result of this module.
pub type Result<T> = std::result::Result<T, JudgeError>;
