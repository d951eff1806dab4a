//! The chains that a judge writes, with the scores behind them. These are read from the cache that the chains were written with,
//! so prompt and chain are computed once.

use super::answer::{AnswerFormat, Decode};
use super::judge::{Judge, PendingRow, ScoreOptions};
use super::plans::Plans;
use super::{JudgeError, Result, ScoreReads};
use crate::model::decoder::Sampler;
use crate::random::threefry2x32;
use crate::rollout::{Chain, Ending, ReadChain, ReadSizes, Reader, RolloutObserver, RolloutSizes};

impl Judge {
    /// Whether scores are read behind written chains, in the rollout. A score that reads its chain alone needs a pass without the
    /// prompt.
    pub(super) fn reads_rollout(&self, options: &ScoreOptions) -> bool {
        self.writes_chains(options) && self.settings.score_reads == ScoreReads::Prompt
    }

    /// The sizes of a rollout of this many prompts, the longest of which has `longest` tokens.
    pub(super) fn rollout_sizes(&self, options: &ScoreOptions, prompts: usize, longest: usize) -> RolloutSizes {
        let group = options.chains.max(1);
        let rows = options.batch_size.max(group).min(prompts * group);
        let read = if self.reads_rollout(options) { self.read_sizes() } else { ReadSizes::default() };
        RolloutSizes { rows, group, prompt: longest, new_tokens: self.settings.max_completion_length, read }
    }

    /// The sizes of what is read behind a chain: its last token, the phrase and a score.
    pub(super) fn read_sizes(&self) -> ReadSizes {
        ReadSizes { tokens: 1 + self.layout().depth(0, self.longest_phrase()), scores: self.tokens.alphabet().len() }
    }

    /// Writes the chains of all rows. Returns the log-probabilities of the scores after each, `[chains][scores]`, if they are read
    /// in the rollout.
    pub(super) async fn write_chains(
        &self,
        plans: &mut Plans,
        rows: &mut [&mut PendingRow],
        options: &ScoreOptions,
        observer: &mut impl RolloutObserver,
    ) -> Result<Option<Vec<Vec<f64>>>> {
        if rows.is_empty() {
            return Ok(None);
        }
        let prompts: Vec<Vec<u32>> = rows.iter().map(|row| row.prompt.clone()).collect();
        let longest_prompt = prompts.iter().map(Vec::len).max().unwrap_or(0);
        let sizes = self.rollout_sizes(options, prompts.len(), longest_prompt);
        let rollout = plans.rollout(&self.gpu, &self.weights, sizes)?;
        let stop = self.answer_format().stop(self.tokenizer.eos_ids(), self.chain_limit(options));
        let (sampler, first_stream) = (drawing(options), first_stream(options));
        let reads = self.reads_rollout(options);
        let reader = ScoreReader {
            format: self.answer_format(),
            closers: rows.iter().map(|row| self.closer(row, options)).collect(),
            paths: if reads { self.tokens.node_paths() } else { Vec::new() },
        };
        let groups = rollout.run_reading(&prompts, first_stream, sampler, &stop, observer, &reader).await?;
        let mut log_probs = Vec::new();
        for ((row, closer), chains) in rows.iter_mut().zip(&reader.closers).zip(groups) {
            for ended in chains {
                log_probs.extend(self.take_chain(row, closer, ended, reads)?);
            }
        }
        Ok(reads.then_some(log_probs))
    }

    /// How the chains of a row are closed. Prompt and chain must leave room for the phrase and the longest branch of a score.
    pub(super) fn closer(&self, row: &PendingRow, options: &ScoreOptions) -> Closer {
        let longest = self.context(options).saturating_sub(self.layout().depth(0, self.longest_phrase()));
        Closer { most_tokens: longest.saturating_sub(row.prompt.len()), ends_in_space: row.ends_in_space }
    }

    /// Adds a chain to its row. Returns the log-probabilities of the scores behind it, if they were read.
    pub(super) fn take_chain(
        &self,
        row: &mut PendingRow,
        closer: &Closer,
        ended: ReadChain,
        reads: bool,
    ) -> Result<Option<Vec<f64>>> {
        let chain = ended.chain.within(closer.most_tokens);
        row.forced.push(chain.ending != Ending::Phrase);
        row.continuations.push(ended.closed);
        row.chains.push(self.tokenizer.text(&chain.body())?.trim().to_string());
        Ok(reads.then(|| self.tokens.log_probs(|node| &ended.stats[node].score_log_probs)))
    }
}

/// How the chains of a call are drawn.
pub(super) fn drawing(options: &ScoreOptions) -> Sampler {
    let key = threefry2x32([options.seed as u32, (options.seed >> 32) as u32], [0, 0]);
    Sampler { temperature: options.chain_temperature(), top_p: options.top_p, top_k: options.top_k, key }
}

/// The random stream of the first chain of the first row.
pub(super) fn first_stream(options: &ScoreOptions) -> u32 {
    (options.first_row * options.chains.max(1)) as u32
}

/// How a row's chains are closed.
pub(super) struct Closer {
    /// Most tokens of a chain.
    pub most_tokens: usize,
    /// Whether the prompt's text ends in white space.
    pub ends_in_space: bool,
}

/// Reads the scores behind each chain of a rollout.
struct ScoreReader<'a> {
    format: AnswerFormat<'a>,
    /// One per row.
    closers: Vec<Closer>,
    /// Those of the score nodes; none if nothing is read.
    paths: Vec<&'a [u32]>,
}

impl Reader for ScoreReader<'_> {
    type Error = JudgeError;

    fn close(&self, row: usize, chain: &Chain) -> Result<Vec<u32>> {
        let Closer { most_tokens, ends_in_space } = self.closers[row];
        self.format.close_sampled(&chain.clone().within(most_tokens), ends_in_space)
    }

    fn paths(&self) -> &[&[u32]] {
        &self.paths
    }

    fn score_tokens(&self) -> &[u32] {
        self.format.tokens.alphabet()
    }
}
