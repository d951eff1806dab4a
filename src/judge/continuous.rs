//! Rows that join while others are judged: what a server runs.
//!
//! Every row has options of its own: how its chains are drawn, how many, how long. They share a cache, in which the beginnings
//! of recent prompts are kept. What a row gets depends on the row alone: each of its tokens is computed by the same kernels in
//! the same order, whatever is computed beside it, and its random numbers follow from its own seed and number.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::answer::AnswerFormat;
use super::chains::{Closer, drawing, first_stream};
use super::judge::{Judge, PendingRow, PromptTokens, ScoreOptions, ScoredRow};
use super::{JudgeError, Result};
use crate::gpu::GpuError;
use crate::model::decoder::Draw;
use crate::model::error::ModelError;
use crate::rollout::{Chain, Continuation, ReadChain, Reader, Rollout, RolloutObserver, Run, SharedSizes};

/// Positions of a row that are planned for at first. Longer rows are planned for when they come.
const FIRST_LENGTH: usize = 1024;

/// How rows are judged together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContinuousSizes {
    /// Chains that are written together.
    pub chains: usize,
    /// Bytes of the cache, of running chains and of recent prompts. It is larger if a single row needs more, and smaller where
    /// that suffices.
    pub cache_bytes: u64,
}

/// Follows the chains of rows that are judged together.
pub trait Follower {
    /// Tokens drawn between two calls, at most 8; `None` for as many as suit the adapter.
    fn sync_interval(&self) -> Option<usize>;

    /// The draws so far of a row's chain, without the phrase or what may become one.
    fn tokens(&mut self, row: u64, chain: usize, draws: &[Draw]);
}

/// A row that is judged.
struct Row {
    /// The caller's number of it.
    number: u64,
    /// Its chains are added when they have all ended.
    pending: PendingRow,
    options: ScoreOptions,
    closer: Closer,
    /// The number of its first chain in the run.
    first_chain: usize,
}

/// The rollout under way.
struct Live {
    rollout: Rollout,
    run: Run,
    /// Positions of a row that are planned for.
    length: usize,
    /// Chains that the run was given so far.
    chains: usize,
}

/// Judges rows that come and go.
pub struct Continuous {
    sizes: ContinuousSizes,
    live: Option<Live>,
    /// By the number of the prompt in the run.
    rows: BTreeMap<usize, Row>,
    /// Rows that wait until a longer one in front of them can be planned for.
    held: VecDeque<Row>,
}

impl Continuous {
    pub fn new(sizes: ContinuousSizes) -> Self {
        Continuous { sizes, live: None, rows: BTreeMap::new(), held: VecDeque::new() }
    }

    /// Whether rows of these options can join: their scores are read behind chains that this judge writes.
    pub fn takes(judge: &Judge, options: &ScoreOptions) -> bool {
        judge.reads_rollout(options)
    }

    /// Chains that are written, or wait for their turn. Of a row of many chains only those of a turn count: others may join it.
    pub fn chains(&self) -> usize {
        let of_run = |live: &Live| self.rows.keys().map(|prompt| live.run.rows_of(*prompt, self.sizes.chains)).sum::<usize>();
        self.live.as_ref().map_or(0, of_run) + self.held.len()
    }

    /// Prompt tokens that were computed since the cache was made. What prompts share counts once.
    pub fn computed(&self) -> usize {
        self.live.as_ref().map_or(0, |live| live.run.computed())
    }

    /// Adds a row, with the caller's number of it.
    ///
    /// # Errors
    /// Why it cannot be judged.
    pub fn push(
        &mut self,
        judge: &Judge,
        number: u64,
        prompt: &PromptTokens,
        options: &ScoreOptions,
    ) -> std::result::Result<(), String> {
        let options = options.checked().map_err(|e| e.to_string())?.clone();
        let pending = judge.prepare_prompt(prompt, &options)?;
        let closer = judge.closer(&pending, &options);
        self.held.push_back(Row { number, pending, options, closer, first_chain: 0 });
        Ok(())
    }

    /// Nobody wants this row any more.
    pub fn abandon(&mut self, number: u64) {
        self.held.retain(|row| row.number != number);
        let Some((&prompt, _)) = self.rows.iter().find(|(_, row)| row.number == number) else { return };
        self.rows.remove(&prompt);
        self.live.iter_mut().for_each(|live| live.run.abandon(prompt));
    }

    /// Forgets all rows, and the cache: what is left after an error.
    pub fn clear(&mut self) {
        *self = Continuous::new(self.sizes);
    }

    /// Writes some tokens of every chain. Returns the rows that are judged now, with their numbers.
    ///
    /// # Errors
    /// What the GPU reports. The rows are lost then: see [`Continuous::clear`]. A row's own error is that the tokenizer cannot
    /// decode its chain.
    pub async fn advance(&mut self, judge: &Judge, follower: &mut impl Follower) -> Result<Vec<(u64, Result<ScoredRow>)>> {
        self.admit(judge)?;
        let Some(Live { rollout, run, .. }) = &mut self.live else { return Ok(Vec::new()) };
        let reader = RowReader { format: judge.answer_format(), rows: &self.rows, paths: judge.tokens.node_paths() };
        let rows = self.rows.values().map(|row| (row.first_chain, row.number)).collect();
        let mut observer = RowObserver { follower, rows };
        rollout.advance(run, &mut observer, &reader).await?;
        let mut judged = Vec::new();
        for (prompt, chains) in run.take_done() {
            if let Some(row) = self.rows.remove(&prompt) {
                judged.push((row.number, scored(judge, row, chains)));
            }
        }
        Ok(judged)
    }

    /// Hands rows to the rollout. One that needs more positions than are planned waits until those before it are judged, and
    /// those behind it wait for it.
    fn admit(&mut self, judge: &Judge) -> Result<()> {
        while let Some(row) = self.held.front() {
            let context = judge.weights.config.max_position_embeddings;
            let needed = (row.pending.prompt.len() + judge.chain_limit(&row.options) + judge.read_sizes().tokens).min(context);
            if self.live.as_ref().is_none_or(|live| live.length < needed) {
                if !self.rows.is_empty() {
                    return Ok(());
                }
                self.live = None;
                let length = needed.next_power_of_two().max(FIRST_LENGTH).min(context);
                self.live = Some(self.plan(judge, length)?);
            }
            let (Some(live), Some(mut row)) = (&mut self.live, self.held.pop_front()) else { return Ok(()) };
            let of = Continuation {
                ids: row.pending.prompt[..].into(),
                chains: row.options.chains,
                first_stream: first_stream(&row.options),
                sampler: drawing(&row.options),
                stop: Arc::new(judge.answer_format().stop(judge.tokenizer.eos_ids(), judge.chain_limit(&row.options))),
            };
            let prompt = live.rollout.push(&mut live.run, of)?;
            row.first_chain = live.chains;
            live.chains += row.options.chains;
            self.rows.insert(prompt, row);
        }
        Ok(())
    }

    /// A rollout for rows of so many positions, with as many entries as the sizes say, or as the memory has room for.
    fn plan(&self, judge: &Judge, length: usize) -> Result<Live> {
        let (config, gpu) = (&judge.weights.config, &judge.gpu);
        let of_layer = (2 * config.num_key_value_heads * config.head_dim * 4) as u64;
        let most = (gpu.max_binding().min(gpu.max_buffer()) / of_layer)
            .min(self.sizes.cache_bytes / of_layer / config.num_hidden_layers as u64);
        // A running chain and a kept prompt for each row are plenty.
        let mut entries = usize::try_from(most).unwrap_or(usize::MAX).min(2 * self.sizes.chains * length).max(length);
        loop {
            let sizes = SharedSizes { rows: self.sizes.chains, entries, max_length: length, read: judge.read_sizes() };
            match Rollout::shared(gpu, &judge.weights, sizes) {
                Err(ModelError::Gpu(GpuError::OverBudget { .. })) if entries > length => entries = (entries / 2).max(length),
                made => {
                    let rollout = made?;
                    let run = rollout.begin();
                    return Ok(Live { rollout, run, length, chains: 0 });
                }
            }
        }
    }
}

/// The score of a row whose chains have ended.
fn scored(judge: &Judge, mut row: Row, chains: Vec<ReadChain>) -> Result<ScoredRow> {
    let mut log_probs = Vec::with_capacity(chains.len());
    for ended in chains {
        log_probs.extend(judge.take_chain(&mut row.pending, &row.closer, ended, true)?);
    }
    judge.predict(&Ok(row.pending), &row.options, &mut log_probs.into_iter())
}

/// Reads the scores behind the chains of rows.
struct RowReader<'a> {
    format: AnswerFormat<'a>,
    rows: &'a BTreeMap<usize, Row>,
    paths: Vec<&'a [u32]>,
}

impl Reader for RowReader<'_> {
    type Error = JudgeError;

    fn close(&self, prompt: usize, chain: &Chain) -> Result<Vec<u32>> {
        match self.rows.get(&prompt) {
            Some(Row { closer, .. }) => {
                self.format.close_sampled(&chain.clone().within(closer.most_tokens), closer.ends_in_space)
            }
            None => Ok(Vec::new()),
        }
    }

    fn paths(&self) -> &[&[u32]] {
        &self.paths
    }

    fn score_tokens(&self) -> &[u32] {
        self.format.tokens.alphabet()
    }
}

/// Tells a follower which row a chain is of.
struct RowObserver<'a, F> {
    follower: &'a mut F,
    /// The first chain of each row, in ascending order, and its number.
    rows: Vec<(usize, u64)>,
}

impl<F: Follower> RolloutObserver for RowObserver<'_, F> {
    fn sync_interval(&self) -> Option<usize> {
        self.follower.sync_interval()
    }

    fn stable_tokens(&mut self, chain: usize, draws: &[Draw]) -> bool {
        let after = self.rows.partition_point(|(first, _)| *first <= chain);
        if let Some((first, row)) = after.checked_sub(1).and_then(|at| self.rows.get(at)) {
            self.follower.tokens(*row, chain - first, draws);
        }
        true
    }
}
