//! The judge itself: a model, its tokenizer and its settings; rows in, judgements out.
//!
//! A row's prompt is read, a chain of thought is written if this judge writes one, the phrase is put behind it where it
//! is missing, and the next-token distribution there is the score distribution. The place of the score is known, never
//! searched for in text.

use super::answer::{AnswerFormat, Decode};
use super::plans::{Kept, Plans, Sizing};
use super::tokens::embedded;
use super::{
    BatchLayout, CompletionSpans, Expectation, JudgeError, JudgePrompt, JudgeSettings, Prediction, Result, ScoreRecord,
    ScoreTokens,
};
use crate::data::Example;
use crate::gpu::Gpu;
use crate::model::decoder::{PackedInputs, Pass, PassSizes, Sampler};
use crate::model::error::ModelError;
use crate::model::weights::Weights;
use crate::ops::loss_head::TokenLoss;
use crate::random::threefry2x32;
use crate::rollout::{Ending, RolloutObserver, RolloutSizes};
use crate::text::Tokenizer;

/// Tokens of one scoring pass, unless a single row needs more.
const PASS_TOKENS: usize = 4096;

/// How rows are judged.
#[derive(Clone, Debug, PartialEq)]
pub struct ScoreOptions {
    /// Which expected score is reported.
    pub expectation: Expectation,
    /// Chains of thought a row; their distributions are averaged.
    pub chains: usize,
    /// 0: greedy.
    pub temperature: f32,
    /// Seed of the sampled chains.
    pub seed: u64,
    /// Chains that are written together.
    pub batch_size: usize,
    /// Longest prompt plus chain; longer rows are judged with an error.
    pub max_length: usize,
    #[doc(hidden)]
    /// Number of the first row among all that are judged in several calls: each row's chains have random numbers of their own.
    pub first_row: usize,
    #[doc(hidden)]
    /// Read the rows' own chains instead of writing some: what other chains are compared by.
    pub given_chains: bool,
}

impl Default for ScoreOptions {
    fn default() -> Self {
        let max_length = usize::MAX;
        ScoreOptions {
            expectation: Expectation::default(),
            chains: 1,
            temperature: 0.0,
            seed: 0,
            batch_size: 64,
            max_length,
            first_row: 0,
            given_chains: false,
        }
    }
}

/// A record with what it was made from.
#[derive(Clone, Debug)]
pub struct ScoredRow {
    pub record: ScoreRecord,
    /// `None` where the row could not be judged.
    pub prediction: Option<Prediction>,
    /// Each chain as text; empty for a judge that writes none.
    pub chains: Vec<String>,
    /// What each chain came to (the one reading of a judge that writes none).
    pub readings: Vec<ChainScore>,
}

/// What one chain came to.
#[derive(Clone, Debug, PartialEq)]
pub struct ChainScore {
    pub prediction: Prediction,
    /// Whether the phrase had to be put behind the chain.
    pub forced: bool,
    /// Tokens of chain and phrase.
    pub tokens: usize,
}

/// A model that judges.
pub struct Judge {
    pub(super) gpu: Gpu,
    pub(super) weights: Weights,
    tokenizer: Tokenizer,
    prompt: JudgePrompt,
    tokens: ScoreTokens,
    settings: JudgeSettings,
    plans: Kept,
}

/// A row under way.
struct PendingRow {
    prompt: Vec<u32>,
    ends_in_space: bool,
    /// Everything up to the score, one for each chain, prompt left out.
    continuations: Vec<Vec<u32>>,
    chains: Vec<String>,
    /// Whether the phrase had to be put there, for each chain.
    forced: Vec<bool>,
}

impl PendingRow {
    fn of((prompt, ends_in_space): (Vec<u32>, bool)) -> Self {
        PendingRow { prompt, ends_in_space, continuations: Vec::new(), chains: Vec::new(), forced: Vec::new() }
    }
}

impl Judge {
    /// Puts a judge together.
    ///
    /// # Errors
    /// A template or scale that does not fit the tokenizer.
    pub fn new(gpu: &Gpu, weights: &Weights, tokenizer: Tokenizer, settings: JudgeSettings) -> Result<Self> {
        let prompt = settings.prompt(&tokenizer)?;
        let tokens = prompt.score_tokens(&tokenizer)?;
        Ok(Judge { gpu: gpu.clone(), weights: weights.clone(), tokenizer, prompt, tokens, settings, plans: Kept::default() })
    }

    /// Opens a trained judge's folder: a bundle, or a Hugging Face directory with `judge.json` beside it. Its matrices stay as
    /// they are stored.
    ///
    /// # Errors
    /// Files that are missing or damaged; settings that do not fit.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn open(gpu: &Gpu, dir: &std::path::Path) -> Result<Self> {
        let folder = crate::model_folder::ModelFolder::open(dir)?;
        super::JudgeFiles::trained(&folder, crate::model::weight_policy::WeightPolicy::AS_STORED)?.upload(gpu)
    }

    /// The GPU that the judge is on.
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

    /// How this judge answers.
    fn format(&self) -> AnswerFormat<'_> {
        AnswerFormat { tokens: &self.tokens, decode: &self.tokenizer }
    }

    /// How this judge's rows lie in batches.
    fn layout(&self) -> BatchLayout<'_> {
        BatchLayout { tokens: &self.tokens, reads: self.settings.score_reads }
    }

    /// Judges rows; the answer has one entry a row, in order. `observer` follows the chains; a function hears how many rows
    /// have theirs.
    ///
    /// A row that cannot be judged (no prompt, too long) gets a record that says why; the others go on.
    ///
    /// # Errors
    /// What the GPU reports, or that `observer` ended it.
    pub async fn judge(
        &self,
        examples: &[Example],
        judging: &ScoreOptions,
        observer: impl RolloutObserver,
    ) -> Result<Vec<ScoredRow>> {
        self.judge_sized(examples, judging, observer, Sizing::Exact).await
    }

    /// Judges one row, on plans that serve rows of about its length: for loops over single rows. The scores are those of
    /// [`Judge::judge`] to rounding.
    ///
    /// # Errors
    /// As [`Judge::judge`].
    pub async fn judge_one(
        &self,
        example: &Example,
        judging: &ScoreOptions,
        observer: impl RolloutObserver,
    ) -> Result<ScoredRow> {
        let judged = self.judge_sized(std::slice::from_ref(example), judging, observer, Sizing::Rounded).await?;
        judged.into_iter().next().ok_or_else(|| JudgeError::Probabilities("the row has no judgement".into()))
    }

    async fn judge_sized(
        &self,
        examples: &[Example],
        judging: &ScoreOptions,
        mut observer: impl RolloutObserver,
        sizing: Sizing,
    ) -> Result<Vec<ScoredRow>> {
        let context = self.weights.config.max_position_embeddings.min(judging.max_length);
        let writes = self.settings.chain && !judging.given_chains;
        let room = if writes { self.settings.max_completion_length } else { 0 };
        let layout = self.layout();
        // The phrase, and the beginning of a score of several tokens.
        let longest_phrase = layout.depth(0, self.tokens.stem.len().max(self.tokens.opening.len()));
        let mut readings = Vec::new();
        for example in examples {
            let prompt = self.prompt.prompt(example, &self.tokenizer).map_err(|e| e.to_string());
            readings.push(prompt.and_then(|prompt| {
                let mut reading = PendingRow::of(prompt);
                if judging.given_chains {
                    self.take_given(example, &mut reading)?;
                } else if !writes {
                    self.take_none(&mut reading)?;
                }
                let vocabulary = self.weights.config.vocab_size;
                embedded(reading.prompt.iter().chain(reading.continuations.iter().flatten()), vocabulary, &self.tokenizer)?;
                // A chain may end early where the prompt is long, but there must be one, and the phrase behind it.
                let given = reading.continuations.iter().map(Vec::len).max();
                let needed = match given {
                    Some(given) => layout.depth(reading.prompt.len(), given),
                    None => reading.prompt.len() + room.min(1) + longest_phrase,
                };
                match needed > context {
                    true => Err(format!(
                        "{}: the row is too long: its prompt of {} tokens needs {needed} with the score, but only {context} fit; \
                         shorten it, or allow up to the {} of the model's context",
                        example.row.location(),
                        reading.prompt.len(),
                        self.weights.config.max_position_embeddings
                    )),
                    false => Ok(reading),
                }
            }));
        }
        let mut open: Vec<&mut PendingRow> = readings.iter_mut().filter_map(|r| r.as_mut().ok()).collect();
        let mut plans = self.plans.take().sized(sizing);
        if writes {
            self.write_chains(&mut plans, &mut open, judging, context.saturating_sub(longest_phrase), &mut observer).await?;
        }
        let log_probs = self.score_log_probs(&mut plans, &open).await?;
        self.plans.put(plans);
        let mut log_probs = log_probs.into_iter();
        readings.iter().map(|r| self.conclude(r, judging, &mut log_probs)).collect()
    }

    /// The row's own chain as the judge's: encoded by itself, as in training, with the phrase behind it.
    fn take_given(&self, example: &Example, reading: &mut PendingRow) -> std::result::Result<(), String> {
        let chain = example.record.chain.as_deref().unwrap_or_default();
        let (tokens, text) = self
            .prompt
            .chain_ids(chain, reading.ends_in_space, &self.tokenizer)
            .map_err(|e| format!("{}: {e}", example.row.location()))?;
        let closed = self.format().close(&tokens, reading.ends_in_space).map_err(|e| e.to_string())?;
        reading.continuations.push(closed);
        reading.chains.push(text);
        reading.forced.push(false);
        Ok(())
    }

    /// The phrase alone: what a judge without a chain of thought answers.
    fn take_none(&self, reading: &mut PendingRow) -> std::result::Result<(), String> {
        reading.continuations.push(self.format().close(&[], reading.ends_in_space).map_err(|e| e.to_string())?);
        reading.forced.push(false);
        Ok(())
    }

    /// A row with its own chain, or none where this judge writes none, up to the score; and where its last prompt token is.
    pub(super) fn given(&self, example: &Example) -> std::result::Result<(Vec<u32>, usize), String> {
        let mut reading = PendingRow::of(self.prompt.prompt(example, &self.tokenizer).map_err(|e| e.to_string())?);
        if self.settings.chain {
            self.take_given(example, &mut reading)?;
        } else {
            self.take_none(&mut reading)?;
        }
        let last = reading.prompt.len().saturating_sub(1);
        Ok((reading.prompt.into_iter().chain(reading.continuations.into_iter().flatten()).collect(), last))
    }

    /// What chains for so many prompts are written with.
    fn rollout_sizes(&self, judging: &ScoreOptions, prompts: usize, longest: usize) -> RolloutSizes {
        let group = judging.chains.max(1);
        let rows = judging.batch_size.max(group).min(prompts * group);
        RolloutSizes { rows, group, prompt: longest, new_tokens: self.settings.max_completion_length }
    }

    /// What rows of these lengths in tokens, with so many continuations in all, are scored with.
    fn pass_sizes(&self, lengths: &[usize], continuations: usize) -> PassSizes {
        let longest = lengths.iter().copied().max().unwrap_or(0);
        let tokens = lengths.iter().sum::<usize>().min(PASS_TOKENS.max(longest));
        let rows = (continuations * self.tokens.places().len()).min(tokens);
        PassSizes { tokens, rows, score_tokens: self.tokens.alphabet().to_vec(), ..PassSizes::default() }
    }

    /// Makes what judging `examples` may take at most, and lets it go: so that a dry run's ledger has seen it.
    ///
    /// # Errors
    /// As [`Judge::judge`].
    pub fn reserve(&self, examples: &[Example], judging: &ScoreOptions) -> Result<()> {
        let context = self.weights.config.max_position_embeddings.min(judging.max_length);
        let chain = if self.settings.chain { self.settings.max_completion_length } else { 0 };
        let fed = chain + self.tokens.stem.len().max(self.tokens.opening.len());
        let mut prompts = Vec::new();
        for example in examples {
            // A row without a prompt is one that cannot be judged: it takes no memory.
            prompts.extend(self.prompt.prompt(example, &self.tokenizer).ok().map(|(ids, _)| ids.len()));
        }
        prompts.retain(|prompt| self.layout().depth(*prompt, fed - chain + chain.min(1)) <= context);
        let longest = prompts.iter().copied().max().unwrap_or(0);
        if longest == 0 {
            return Ok(());
        }
        let mut plans = Plans::default();
        if self.settings.chain {
            plans.rollout(&self.gpu, &self.weights, self.rollout_sizes(judging, prompts.len(), longest))?;
        }
        let of_row = |prompt: &usize| {
            let fed = fed.min(context - prompt);
            self.layout().size(*prompt, std::iter::repeat_n(fed, judging.chains.max(1)))
        };
        let lengths: Vec<usize> = prompts.iter().map(of_row).collect();
        let sizes = self.pass_sizes(&lengths, prompts.len() * judging.chains.max(1));
        plans.pass(&self.gpu, &self.weights, sizes)?;
        Ok(())
    }

    /// Gives the memory of caches and plans back; the next call makes them again.
    pub fn release(&self) {
        drop(self.plans.take());
    }

    /// Writes the chains of all readings; prompt and chain together stay within `longest`.
    async fn write_chains(
        &self,
        plans: &mut Plans,
        readings: &mut [&mut PendingRow],
        judging: &ScoreOptions,
        longest: usize,
        observer: &mut dyn RolloutObserver,
    ) -> Result<()> {
        if readings.is_empty() {
            return Ok(());
        }
        let prompts: Vec<Vec<u32>> = readings.iter().map(|r| r.prompt.clone()).collect();
        let longest_prompt = prompts.iter().map(Vec::len).max().unwrap_or(0);
        let sizes = self.rollout_sizes(judging, prompts.len(), longest_prompt);
        let rollout = plans.rollout(&self.gpu, &self.weights, sizes)?;
        let stop = self.format().stop(self.tokenizer.eos_ids(), self.settings.max_completion_length);
        let key = threefry2x32([judging.seed as u32, (judging.seed >> 32) as u32], [0, 0]);
        let sampler = Sampler { temperature: judging.temperature, top_p: 1.0, top_k: 0, key };
        let first_stream = (judging.first_row * judging.chains.max(1)) as u32;
        let all = rollout.run(&prompts, first_stream, sampler, &stop, observer).await?;
        for (reading, chains) in readings.iter_mut().zip(all) {
            for chain in chains {
                let chain = chain.within(longest - reading.prompt.len());
                reading.forced.push(chain.ending != Ending::Phrase);
                reading.continuations.push(self.format().close_sampled(&chain, reading.ends_in_space)?);
                reading.chains.push(self.tokenizer.text(&chain.body())?.trim().to_string());
            }
        }
        Ok(())
    }

    /// Log-probabilities of the scores behind every continuation of every reading, in order.
    async fn score_log_probs(&self, plans: &mut Plans, readings: &[&mut PendingRow]) -> Result<Vec<Vec<f64>>> {
        let layout = self.layout();
        let length = |r: &PendingRow| layout.size(r.prompt.len(), r.continuations.iter().map(Vec::len));
        let lengths: Vec<usize> = readings.iter().map(|r| length(r)).collect();
        let sizes = self.pass_sizes(&lengths, readings.iter().map(|r| r.continuations.len()).sum());
        let tokens = sizes.tokens;
        if tokens == 0 {
            return Ok(Vec::new());
        }
        let pass = plans.pass(&self.gpu, &self.weights, sizes)?;
        let mut all = Vec::new();
        let (mut batch, mut spans) = (PackedInputs::default(), Vec::new());
        for reading in readings {
            if batch.ids.len() + length(reading) > tokens {
                all.extend(run_scores(pass, layout, std::mem::take(&mut batch), &std::mem::take(&mut spans)).await?);
            }
            let slices: Vec<&[u32]> = reading.continuations.iter().map(Vec::as_slice).collect();
            spans.extend(layout.lay(&mut batch, &reading.prompt, &slices));
        }
        all.extend(run_scores(pass, layout, batch, &spans).await?);
        if readings.len() > 1 {
            self.read_alone(pass, readings, &mut all).await?;
        }
        Ok(all)
    }

    /// Reads again what came to no number, a reading at a time: kernels weigh what a token must not see with zero, and zero
    /// times an infinity of another row is NaN. So a row that has no score takes none from the others.
    async fn read_alone(&self, pass: &Pass, readings: &[&mut PendingRow], log_probs: &mut [Vec<f64>]) -> Result<()> {
        let layout = self.layout();
        let mut start = 0;
        for reading in readings {
            let own = &mut log_probs[start..start + reading.continuations.len()];
            start += own.len();
            if own.iter().flatten().all(|log_p| !log_p.is_nan()) {
                continue;
            }
            let mut batch = PackedInputs::default();
            let slices: Vec<&[u32]> = reading.continuations.iter().map(Vec::as_slice).collect();
            let spans = layout.lay(&mut batch, &reading.prompt, &slices);
            own.clone_from_slice(&run_scores(pass, layout, batch, &spans).await?);
        }
        Ok(())
    }

    fn conclude(
        &self,
        reading: &std::result::Result<PendingRow, String>,
        judging: &ScoreOptions,
        log_probs: &mut impl Iterator<Item = Vec<f64>>,
    ) -> Result<ScoredRow> {
        let failed =
            |e: String| ScoredRow { record: ScoreRecord::failed(e), prediction: None, chains: Vec::new(), readings: Vec::new() };
        let reading = match reading {
            Ok(reading) => reading,
            Err(e) => return Ok(failed(e.clone())),
        };
        let scale = self.prompt.scale();
        let predictions: Result<Vec<Prediction>> =
            log_probs.take(reading.continuations.len()).map(|l| Prediction::from_log_probs(scale, &l)).collect();
        let averaged = predictions.and_then(|p| Ok((Prediction::average(scale, &p)?, p)));
        Ok(match averaged {
            Err(e) => failed(e.to_string()),
            Ok((prediction, each)) => ScoredRow {
                record: ScoreRecord::new(
                    scale,
                    &prediction,
                    judging.expectation,
                    reading.chains.first().cloned(),
                    reading.forced.contains(&true),
                ),
                prediction: Some(prediction),
                chains: reading.chains.clone(),
                readings: (each.into_iter().zip(&reading.forced).zip(&reading.continuations))
                    .map(|((prediction, forced), c)| ChainScore { prediction, forced: *forced, tokens: c.len() })
                    .collect(),
            },
        })
    }
}

async fn run_scores(
    pass: &Pass,
    layout: BatchLayout<'_>,
    mut batch: PackedInputs,
    spans: &[CompletionSpans],
) -> std::result::Result<Vec<Vec<f64>>, ModelError> {
    if spans.is_empty() {
        return Ok(Vec::new());
    }
    spans.iter().flat_map(|p| &p.nodes).for_each(|node| batch.push_row(*node, TokenLoss::default()));
    batch.sort_rows();
    pass.run(&batch)?;
    let stats = pass.stats(batch.rows.len()).await?;
    Ok(spans.iter().map(|p| layout.log_probs(p, &batch, &stats)).collect())
}
