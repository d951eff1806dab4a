//! The judge: a model, its tokenizer and its settings. It turns rows into scores.
//!
//! For each row the judge reads the prompt and writes a chain of thought, if it writes chains. It appends the phrase unless the
//! chain ends in it. The next-token distribution there is the score distribution. The score's position is thus known and never
//! searched for in text. Behind a written chain it is read from the cache of the rollout (`chains.rs`), otherwise by a packed
//! pass (`passes.rs`).

use super::answer::AnswerFormat;
use super::plans::{PlanCache, Plans, Sizing};
use super::tokens::check_embedded;
use super::{
    BatchLayout, CalibratedRow, Expectation, JudgeError, JudgePrompt, JudgeSettings, Prediction, Result, ScoreRecord, ScoreTokens,
};
use crate::data::Example;
use crate::gpu::Gpu;
use crate::model::weights::Weights;
use crate::rollout::RolloutObserver;
use crate::text::Tokenizer;

/// Most chains of a row.
const MOST_CHAINS: usize = 1024;

/// The highest temperature.
const HOTTEST: f32 = 100.0;

/// How rows are judged.
#[derive(Clone, Debug, PartialEq)]
pub struct ScoreOptions {
    /// Which expected score is reported.
    pub expectation: Expectation,
    /// Chains of thought a row, 1 to 1024; their distributions are averaged.
    pub chains: usize,
    /// Temperature of the chains, 0 to 100; 0 takes the likeliest token. `None`: 0 for one chain, 1 for several.
    pub temperature: Option<f32>,
    /// Seed of the sampled chains.
    pub seed: u64,
    /// Chains that are written together, at least 1.
    pub batch_size: usize,
    /// Longest prompt plus chain; longer rows are judged with an error.
    pub max_length: usize,
    #[doc(hidden)]
    /// Number of the first row among all that are judged in several calls: each row's chains have random numbers of their own.
    pub first_row: usize,
    #[doc(hidden)]
    /// Read the rows' own chains instead of writing some: what other chains are compared by.
    pub given_chains: bool,
    #[doc(hidden)]
    /// Chains are drawn from the likeliest tokens that have this probability together, above 0 and at most 1.
    pub top_p: f32,
    #[doc(hidden)]
    /// Chains are drawn from this many of the likeliest tokens; 0 for all.
    pub top_k: u32,
    #[doc(hidden)]
    /// Most tokens of a chain, where that is less than in the judge's settings.
    pub most_tokens: Option<usize>,
}

/// Batches of a block. With fewer, an interruption loses less; with more, less time is lost at the end of each block.
const BATCHES_OF_A_BLOCK: usize = 4;

impl ScoreOptions {
    /// Rows that are judged in one call where work is divided over calls, or over ranks.
    pub(crate) fn rows_of_a_block(&self) -> usize {
        (BATCHES_OF_A_BLOCK * self.batch_size / self.chains.max(1)).max(1)
    }
}

impl Default for ScoreOptions {
    fn default() -> Self {
        let max_length = usize::MAX;
        ScoreOptions {
            expectation: Expectation::default(),
            chains: 1,
            temperature: None,
            seed: 0,
            batch_size: 64,
            max_length,
            first_row: 0,
            given_chains: false,
            top_p: 1.0,
            top_k: 0,
            most_tokens: None,
        }
    }
}

#[doc(hidden)]
impl ScoreOptions {
    /// The temperature of the chains: several that were all greedy would be one and the same.
    pub fn chain_temperature(&self) -> f32 {
        self.temperature.unwrap_or(if self.chains > 1 { 1.0 } else { 0.0 })
    }

    /// These options, if every value is within its range.
    ///
    /// # Errors
    /// [`JudgeError::Option`], for the first that is not.
    pub fn checked(&self) -> Result<&Self> {
        let refused = |option, found: String, expected: String| Err(JudgeError::Option { option, found, expected });
        if !(1..=MOST_CHAINS).contains(&self.chains) {
            return refused("chains", self.chains.to_string(), format!("1 to {MOST_CHAINS}"));
        }
        if !(0.0..=HOTTEST).contains(&self.chain_temperature()) {
            let found = self.chain_temperature().to_string();
            return refused("temperature", found, format!("a number from 0 to {HOTTEST}"));
        }
        if self.batch_size == 0 {
            return refused("batch_size", "0".into(), "at least 1".into());
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return refused("top_p", self.top_p.to_string(), "a number above 0, at most 1".into());
        }
        Ok(self)
    }
}

/// The score of a row, with its prediction and chains.
#[derive(Clone, Debug)]
pub struct ScoredRow {
    pub record: ScoreRecord,
    /// `None` if the row could not be scored.
    pub prediction: Option<Prediction>,
    /// Each chain as text; empty for a judge that writes no chains.
    pub chains: Vec<String>,
    /// The score of each chain (a single one for a judge that writes no chains).
    pub chain_scores: Vec<ChainScore>,
}

/// The score of one chain.
#[derive(Clone, Debug, PartialEq)]
pub struct ChainScore {
    pub prediction: Prediction,
    /// Whether the phrase had to be appended to the chain.
    pub forced: bool,
    /// Chain and phrase.
    pub tokens: Vec<u32>,
}

/// A prompt as tokens, for rows that are judged without an [`Example`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PromptTokens {
    pub ids: Vec<u32>,
    /// Whether the prompt's text ends in white space.
    pub ends_in_space: bool,
    /// A chain to read instead of writing one: its tokens and its text.
    pub chain: Option<(Vec<u32>, String)>,
    /// What messages call the row.
    pub place: String,
    /// What the judge's calibration has to know of the row.
    pub calibrated: CalibratedRow,
}

/// A language model as a judge.
pub struct Judge {
    pub(super) gpu: Gpu,
    pub(super) weights: Weights,
    pub(super) tokenizer: Tokenizer,
    prompt: JudgePrompt,
    pub(super) tokens: ScoreTokens,
    pub(super) settings: JudgeSettings,
    plans: PlanCache,
}

/// A row that is being scored.
pub(super) struct PendingRow {
    pub prompt: Vec<u32>,
    /// Whether the prompt's text ends in white space.
    pub ends_in_space: bool,
    /// For each chain, the tokens between prompt and score.
    pub continuations: Vec<Vec<u32>>,
    pub chains: Vec<String>,
    /// For each chain, whether the phrase had to be appended.
    pub forced: Vec<bool>,
    pub calibrated: CalibratedRow,
}

impl PendingRow {
    fn new((prompt, ends_in_space): (Vec<u32>, bool)) -> Self {
        let (continuations, chains, forced) = (Vec::new(), Vec::new(), Vec::new());
        PendingRow { prompt, ends_in_space, continuations, chains, forced, calibrated: CalibratedRow::Other }
    }
}

impl Judge {
    /// A judge of these parts.
    ///
    /// # Errors
    /// A template or scale that does not fit the tokenizer.
    pub fn new(gpu: &Gpu, weights: &Weights, tokenizer: Tokenizer, settings: JudgeSettings) -> Result<Self> {
        let prompt = settings.prompt(&tokenizer)?;
        let tokens = prompt.score_tokens(&tokenizer)?;
        Ok(Judge { gpu: gpu.clone(), weights: weights.clone(), tokenizer, prompt, tokens, settings, plans: PlanCache::default() })
    }

    /// Opens a trained judge's folder: a bundle, or a Hugging Face directory with a `judge.json`. Its matrices keep their stored
    /// dtype.
    ///
    /// # Errors
    /// Missing or damaged files; settings that do not fit.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn open(gpu: &Gpu, dir: &std::path::Path) -> Result<Self> {
        let folder = crate::model_folder::ModelFolder::open(dir)?;
        super::JudgeFiles::trained(&folder, crate::model::weight_policy::WeightPolicy::AS_STORED)?.upload(gpu)
    }

    /// The GPU that holds the judge.
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    pub fn settings(&self) -> &JudgeSettings {
        &self.settings
    }

    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The score tokens and the phrase's tokens in this tokenizer.
    pub fn score_tokens(&self) -> &ScoreTokens {
        &self.tokens
    }

    /// The format of this judge's answers.
    pub(super) fn answer_format(&self) -> AnswerFormat<'_> {
        AnswerFormat { tokens: &self.tokens, decode: &self.tokenizer }
    }

    /// The layout of this judge's rows in batches.
    pub(super) fn layout(&self) -> BatchLayout<'_> {
        BatchLayout { tokens: &self.tokens, reads: self.settings.score_reads }
    }

    /// Scores rows. The result has one entry per row, in order. `observer` follows the chains; a function is told how many rows
    /// have all their chains.
    ///
    /// A row that cannot be scored (no prompt, too long) gets a record with the reason; the others are scored.
    ///
    /// # Errors
    /// What the GPU reports, or that `observer` stopped the rollout.
    pub async fn judge(
        &self,
        examples: &[Example],
        options: &ScoreOptions,
        observer: impl RolloutObserver,
    ) -> Result<Vec<ScoredRow>> {
        self.judge_sized(examples, options, observer, Sizing::Exact).await
    }

    /// Scores one row, with plans that serve all rows of about its length: for loops over single rows. The scores agree with
    /// those of [`Judge::judge`] to rounding.
    ///
    /// # Errors
    /// As [`Judge::judge`].
    pub async fn judge_one(
        &self,
        example: &Example,
        options: &ScoreOptions,
        observer: impl RolloutObserver,
    ) -> Result<ScoredRow> {
        let scored = self.judge_sized(std::slice::from_ref(example), options, observer, Sizing::Rounded).await?;
        scored.into_iter().next().ok_or_else(|| JudgeError::Probabilities("the row has no judgement".into()))
    }

    /// Prepares the rows, writes chains, reads the score distributions, and makes predictions of them.
    async fn judge_sized(
        &self,
        examples: &[Example],
        options: &ScoreOptions,
        mut observer: impl RolloutObserver,
        sizing: Sizing,
    ) -> Result<Vec<ScoredRow>> {
        let options = options.checked()?;
        let rows = examples.iter().map(|example| self.prepare(example, options)).collect();
        self.judge_rows(rows, options, &mut observer, sizing).await
    }

    /// Scores prompts, as [`Judge::judge`] scores rows, with plans that serve all prompts of about their number and length.
    ///
    /// # Errors
    /// As [`Judge::judge`].
    pub async fn judge_prompts(
        &self,
        prompts: &[PromptTokens],
        options: &ScoreOptions,
        mut observer: impl RolloutObserver,
    ) -> Result<Vec<ScoredRow>> {
        let options = options.checked()?;
        let rows = prompts.iter().map(|prompt| self.prepare_prompt(prompt, options)).collect();
        self.judge_rows(rows, options, &mut observer, Sizing::Rounded).await
    }

    async fn judge_rows(
        &self,
        mut rows: Vec<std::result::Result<PendingRow, String>>,
        options: &ScoreOptions,
        observer: &mut impl RolloutObserver,
        sizing: Sizing,
    ) -> Result<Vec<ScoredRow>> {
        let mut valid: Vec<&mut PendingRow> = rows.iter_mut().filter_map(|row| row.as_mut().ok()).collect();
        let mut plans = self.plans.take().sized(sizing);
        let mut read = None;
        if self.writes_chains(options) {
            read = self.write_chains(&mut plans, &mut valid, options, observer).await?;
        }
        let log_probs = match read {
            Some(log_probs) => log_probs,
            None => self.score_log_probs(&mut plans, &valid).await?,
        };
        self.plans.put(plans);
        let mut log_probs = log_probs.into_iter();
        rows.iter().map(|row| self.predict(row, options, &mut log_probs)).collect()
    }

    pub(super) fn writes_chains(&self, options: &ScoreOptions) -> bool {
        self.settings.chain && !options.given_chains && self.chain_limit(options) > 0
    }

    /// Most tokens of a chain.
    pub(super) fn chain_limit(&self, options: &ScoreOptions) -> usize {
        let limit = self.settings.max_completion_length;
        options.most_tokens.map_or(limit, |most| most.min(limit))
    }

    /// Most positions of a row.
    pub(super) fn context(&self, options: &ScoreOptions) -> usize {
        self.weights.config.max_position_embeddings.min(options.max_length)
    }

    /// Tokens of the phrase in its longer form.
    pub(super) fn longest_phrase(&self) -> usize {
        self.tokens.stem.len().max(self.tokens.opening.len())
    }

    /// Encodes a row: its prompt and, unless the judge writes a chain, its continuation. The error says why the row cannot be
    /// scored.
    fn prepare(&self, example: &Example, options: &ScoreOptions) -> std::result::Result<PendingRow, String> {
        let mut row = PendingRow::new(self.prompt.prompt(example, &self.tokenizer).map_err(|e| e.to_string())?);
        row.calibrated = self.settings.calibrated_row(example);
        if options.given_chains {
            self.use_given_chain(example, &mut row)?;
        } else if !self.writes_chains(options) {
            self.use_no_chain(&mut row)?;
        }
        self.checked_row(row, options, &example.row.location())
    }

    /// As [`Judge::prepare`], for a prompt.
    pub(super) fn prepare_prompt(
        &self,
        prompt: &PromptTokens,
        options: &ScoreOptions,
    ) -> std::result::Result<PendingRow, String> {
        let mut row = PendingRow::new((prompt.ids.clone(), prompt.ends_in_space));
        row.calibrated = prompt.calibrated.clone();
        match &prompt.chain {
            Some((tokens, text)) if options.given_chains => {
                let closed = self.answer_format().close(tokens, prompt.ends_in_space).map_err(|e| e.to_string())?;
                row.continuations.push(closed);
                row.chains.push(text.clone());
                row.forced.push(false);
            }
            _ if !self.writes_chains(options) => self.use_no_chain(&mut row)?,
            _ => {}
        }
        self.checked_row(row, options, &prompt.place)
    }

    /// The row, if this model can judge it.
    fn checked_row(&self, row: PendingRow, options: &ScoreOptions, place: &str) -> std::result::Result<PendingRow, String> {
        if row.prompt.is_empty() {
            return Err(format!("{place}: the prompt has no tokens; give the judge something to read"));
        }
        let vocabulary = self.weights.config.vocab_size;
        check_embedded(row.prompt.iter().chain(row.continuations.iter().flatten()), vocabulary, &self.tokenizer)?;
        let (layout, context) = (self.layout(), self.context(options));
        let needed = match row.continuations.iter().map(Vec::len).max() {
            Some(continuation) => layout.depth(row.prompt.len(), continuation),
            // A long prompt may shorten the chain, but there must be room for one token of it and for the phrase.
            None => layout.depth(row.prompt.len(), self.chain_limit(options).min(1) + self.longest_phrase()),
        };
        match needed > context {
            true => Err(format!(
                "{}: the row is too long: its prompt of {} tokens needs {needed} with the score, but only {context} fit; \
                 shorten it, or allow up to the {} of the model's context",
                place,
                row.prompt.len(),
                self.weights.config.max_position_embeddings
            )),
            false => Ok(row),
        }
    }

    /// Takes the row's own chain in place of a written one: encoded separately, as in training, and followed by the phrase.
    fn use_given_chain(&self, example: &Example, row: &mut PendingRow) -> std::result::Result<(), String> {
        let chain = example.record.chain.as_deref().unwrap_or_default();
        let (tokens, text) = self
            .prompt
            .chain_ids(chain, row.ends_in_space, &self.tokenizer)
            .map_err(|e| format!("{}: {e}", example.row.location()))?;
        let continuation = self.answer_format().close(&tokens, row.ends_in_space).map_err(|e| e.to_string())?;
        row.continuations.push(continuation);
        row.chains.push(text);
        row.forced.push(false);
        Ok(())
    }

    /// Takes the phrase alone as continuation, for a judge that writes no chains.
    fn use_no_chain(&self, row: &mut PendingRow) -> std::result::Result<(), String> {
        row.continuations.push(self.answer_format().close(&[], row.ends_in_space).map_err(|e| e.to_string())?);
        row.forced.push(false);
        Ok(())
    }

    /// A row's tokens up to the score, with its own chain if this judge writes chains.
    pub(super) fn given_sequence(&self, example: &Example) -> std::result::Result<Vec<u32>, String> {
        let mut row = PendingRow::new(self.prompt.prompt(example, &self.tokenizer).map_err(|e| e.to_string())?);
        if self.settings.chain {
            self.use_given_chain(example, &mut row)?;
        } else {
            self.use_no_chain(&mut row)?;
        }
        Ok(row.prompt.into_iter().chain(row.continuations.into_iter().flatten()).collect())
    }

    /// Makes the largest plans that scoring `examples` may need, and keeps them as scoring does. A dry run measures memory this
    /// way.
    ///
    /// # Errors
    /// As [`Judge::judge`].
    pub fn reserve(&self, examples: &[Example], options: &ScoreOptions) -> Result<()> {
        self.reserve_sized(examples, options, Sizing::Exact)
    }

    /// Makes the plans with which [`Judge::judge_one`] scores rows as long as `example`, so that their kernels are compiled.
    ///
    /// # Errors
    /// As [`Judge::judge`].
    pub fn reserve_one(&self, example: &Example, options: &ScoreOptions) -> Result<()> {
        self.reserve_sized(std::slice::from_ref(example), options, Sizing::Rounded)
    }

    fn reserve_sized(&self, examples: &[Example], options: &ScoreOptions, sizing: Sizing) -> Result<()> {
        let context = self.context(options);
        let chain = if self.settings.chain { self.settings.max_completion_length } else { 0 };
        let phrase = self.longest_phrase();
        // A row without a prompt cannot be scored and takes no memory.
        let prompt_length = |example: &Example| Some(self.prompt.prompt(example, &self.tokenizer).ok()?.0.len());
        let mut prompts: Vec<usize> = examples.iter().filter_map(prompt_length).collect();
        prompts.retain(|prompt| self.layout().depth(*prompt, phrase + chain.min(1)) <= context);
        let longest = prompts.iter().copied().max().unwrap_or(0);
        if longest == 0 {
            return Ok(());
        }
        let mut plans = self.plans.take().sized(sizing);
        if self.writes_chains(options) {
            plans.rollout(&self.gpu, &self.weights, self.rollout_sizes(options, prompts.len(), longest))?;
        }
        if self.reads_rollout(options) {
            self.plans.put(plans);
            return Ok(());
        }
        let row_length = |prompt: &usize| {
            let continuation = (chain + phrase).min(context - prompt);
            self.layout().size(*prompt, std::iter::repeat_n(continuation, options.chains.max(1)))
        };
        let lengths: Vec<usize> = prompts.iter().map(row_length).collect();
        let sizes = self.pass_sizes(&lengths, prompts.len() * options.chains.max(1));
        plans.pass(&self.gpu, &self.weights, sizes)?;
        self.plans.put(plans);
        Ok(())
    }

    /// The tokens that scoring passes compute for rows whose chains, if any, are given: those that rows share count once.
    #[doc(hidden)]
    pub fn pass_tokens(&self, examples: &[Example], options: &ScoreOptions) -> usize {
        let mut rows: Vec<PendingRow> = examples.iter().filter_map(|example| self.prepare(example, options).ok()).collect();
        self.batch_tokens(&rows.iter_mut().collect::<Vec<_>>())
    }

    pub(super) fn take_plans(&self) -> Plans {
        self.plans.take()
    }

    pub(super) fn put_plans(&self, plans: Plans) {
        self.plans.put(plans);
    }

    /// Frees the memory of caches and plans; the next call makes them again.
    pub fn release(&self) {
        drop(self.plans.take());
    }

    /// The score of a row. Takes the log-probabilities of its continuations from the iterator.
    pub(super) fn predict(
        &self,
        row: &std::result::Result<PendingRow, String>,
        options: &ScoreOptions,
        log_probs: &mut impl Iterator<Item = Vec<f64>>,
    ) -> Result<ScoredRow> {
        let failed = |e: String| ScoredRow {
            record: ScoreRecord::failed(e),
            prediction: None,
            chains: Vec::new(),
            chain_scores: Vec::new(),
        };
        let row = match row {
            Ok(row) => row,
            Err(e) => return Ok(failed(e.clone())),
        };
        let scale = self.prompt.scale();
        let predictions: Result<Vec<Prediction>> =
            log_probs.take(row.continuations.len()).map(|l| Prediction::from_log_probs(scale, &l)).collect();
        let averaged = predictions.and_then(|p| Ok((Prediction::average(scale, &p)?, p)));
        Ok(match averaged {
            Err(e) => failed(e.to_string()),
            Ok((prediction, of_chains)) => ScoredRow {
                record: ScoreRecord {
                    calibrated: self.settings.calibrated(options, &row.calibrated, prediction.score(options.expectation)),
                    ..ScoreRecord::new(
                        scale,
                        &prediction,
                        options.expectation,
                        row.chains.first().cloned(),
                        row.forced.contains(&true),
                    )
                },
                prediction: Some(prediction),
                chains: row.chains.clone(),
                chain_scores: (of_chains.into_iter().zip(&row.forced).zip(&row.continuations))
                    .map(|((prediction, forced), c)| ChainScore { prediction, forced: *forced, tokens: c.clone() })
                    .collect(),
            },
        })
    }
}
