//! Rollouts: for each prompt several chains of thought, sampled in batches over a shared cache.
//!
//! A rollout knows tokens, not scores. A chain ends when it has written the stop phrase, when it samples an EOS, or at its
//! length limit. The random numbers of a chain depend only on the sampler's key, the chain's number and the position, so the
//! same chain is drawn whatever else is in the batch.

mod read;

pub use read::{ReadChain, ReadSizes, Reader};

use read::Unread;

use crate::gpu::{Buffer, Gpu};
use crate::model::decoder::{CachePass, CacheSizes, Draw, PrefillPrompt, PrefillRow, RowState, Sampler};
use crate::model::error::ModelError;
use crate::model::weights::Weights;
use crate::ops::cached_attention::KvSlot;

/// When a chain ends.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    /// Token sequences that end a chain: the phrase before the score in all its tokenisations.
    pub phrases: Vec<Vec<u32>>,
    /// Tokens that end a chain.
    pub eos: Vec<u32>,
    /// Most tokens per chain.
    pub max_tokens: usize,
}

/// How a chain ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// With the phrase: its last tokens are one of [`Stop::phrases`].
    Phrase,
    /// With an EOS as its last token.
    Eos,
    /// At the length limit.
    Length,
}

/// One sampled chain.
#[derive(Clone, Debug, PartialEq)]
pub struct Chain {
    /// Every token drawn, the phrase or EOS included.
    pub draws: Vec<Draw>,
    pub ending: Ending,
    /// Number of draws at the end that are the phrase or EOS.
    pub tail: usize,
}

impl Chain {
    /// The drawn tokens without the phrase or EOS at the end.
    pub fn body(&self) -> Vec<u32> {
        self.draws[..self.draws.len() - self.tail].iter().map(|d| d.token).collect()
    }

    /// The chain, cut to at most `max_tokens` tokens.
    pub fn within(mut self, max_tokens: usize) -> Self {
        if self.draws.len() > max_tokens {
            self.draws.truncate(max_tokens);
            (self.ending, self.tail) = (Ending::Length, 0);
        }
        self
    }
}

impl Stop {
    /// The first ending in `draws`: the number of tokens up to and including it, its kind and its length.
    fn find(&self, draws: &[Draw]) -> Option<(usize, Ending, usize)> {
        for end in 1..=draws.len().min(self.max_tokens) {
            if self.eos.contains(&draws[end - 1].token) {
                return Some((end, Ending::Eos, 1));
            }
            let ends_in = |p: &&Vec<u32>| {
                !p.is_empty() && p.len() <= end && p.iter().zip(&draws[end - p.len()..end]).all(|(t, d)| *t == d.token)
            };
            if let Some(phrase) = self.phrases.iter().find(ends_in) {
                return Some((end, Ending::Phrase, phrase.len()));
            }
        }
        (draws.len() >= self.max_tokens).then_some((self.max_tokens, Ending::Length, 0))
    }

    /// Number of draws of a running chain that certainly belong to its text. The draws after them may begin a phrase.
    fn stable_len(&self, draws: &[Draw]) -> usize {
        let begins_phrase = |n: usize| {
            let tail = || draws[draws.len() - n..].iter().map(|d| &d.token);
            self.phrases.iter().any(|p| p.len() > n && p[..n].iter().eq(tail()))
        };
        let longest = self.phrases.iter().map(Vec::len).max().unwrap_or(0);
        let unstable = (1..longest.min(draws.len() + 1)).rev().find(|n| begins_phrase(*n));
        draws.len() - unstable.unwrap_or(0)
    }
}

/// The maximum sizes of a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RolloutSizes {
    /// Chains that advance together.
    pub rows: usize,
    /// Chains per prompt, at most `rows`.
    pub group: usize,
    /// Tokens of the longest prompt.
    pub prompt: usize,
    /// Most tokens per chain. After a long prompt the model's context may allow fewer.
    pub new_tokens: usize,
    /// What is read after a chain.
    pub read: ReadSizes,
}

impl RolloutSizes {
    /// Number of KV blocks, which is the number of prompts at a time, and of chains per prompt.
    fn blocks_and_group(&self) -> (usize, usize) {
        let group = self.group.clamp(1, self.rows.max(1));
        ((self.rows / group).max(1), group)
    }

    /// The same sizes with `rows` rounded to whole groups.
    pub fn whole_groups(self) -> Self {
        let (blocks, group) = self.blocks_and_group();
        RolloutSizes { rows: blocks * group, group, ..self }
    }

    /// The sizes of the cache for a model with a context of `context` positions. Every active prompt has a *KV block* of
    /// consecutive entries: those of the prompt, then those of each of its chains. So a group of 8 caches its prompt once, and
    /// 8 times the tokens of a chain.
    pub fn cache(&self, context: usize) -> CacheSizes {
        let (blocks, group) = self.blocks_and_group();
        let new_tokens = self.new_tokens + self.read.tokens;
        let max_length = (self.prompt + new_tokens).min(context.max(self.prompt));
        let own = new_tokens.min(max_length);
        CacheSizes {
            entries: blocks * (max_length + (group - 1) * own),
            rows: blocks * group,
            prefill: (blocks * self.prompt).min(PREFILL_TOKENS.max(self.prompt)).max(self.read.tokens),
            own,
            max_length,
            // A new row draws once before its first step.
            history: MAX_SYNC_INTERVAL + 1,
            scores: self.read.scores,
        }
    }
}

/// Most steps between two reads of the draws.
const MAX_SYNC_INTERVAL: usize = 8;

/// Tokens per prefill, unless a single prompt is longer. More would only need more memory.
const PREFILL_TOKENS: usize = 4096;

/// Observes a running rollout and may stop it. Implemented for `FnMut(usize)` (the number of finished prompts) and for `()` (no
/// observer).
pub trait RolloutObserver {
    /// Tokens drawn between two reads, at most 8. `None`: the number that suits the adapter. With fewer, tokens arrive more
    /// smoothly, but each read costs a wait.
    fn sync_interval(&self) -> Option<usize> {
        None
    }

    /// Called after each read with the draws so far of each active chain, without the phrase or EOS at the end or what may
    /// become one. `chain` counts over all prompts. `false` stops the rollout with [`ModelError::Stopped`].
    fn stable_tokens(&mut self, _chain: usize, _draws: &[Draw]) -> bool {
        true
    }

    /// Whether nobody wants this chain any more. It ends where it is, and its row is free for the next prompt.
    fn abandons(&self, _chain: usize) -> bool {
        false
    }

    /// Called when prompts were finished, with the number of prompts whose chains have all ended. `false` stops the rollout.
    fn done(&mut self, _prompts: usize) -> bool {
        true
    }
}

impl RolloutObserver for () {}

impl<F: FnMut(usize)> RolloutObserver for F {
    fn done(&mut self, prompts: usize) -> bool {
        self(prompts);
        true
    }
}

/// Stops a rollout once `stop` returns true. `done` is called with the number of finished prompts.
pub struct Until<S, D> {
    pub stop: S,
    pub done: D,
}

impl<S: Fn() -> bool, D: FnMut(usize)> RolloutObserver for Until<S, D> {
    fn stable_tokens(&mut self, _chain: usize, _draws: &[Draw]) -> bool {
        !(self.stop)()
    }

    fn done(&mut self, prompts: usize) -> bool {
        (self.done)(prompts);
        !(self.stop)()
    }
}

/// Samples chains for batches of prompts of one model.
pub struct Rollout {
    pass: CachePass,
    sizes: RolloutSizes,
    /// Number of KV blocks: prompts at a time.
    blocks: usize,
    /// Steps between two reads of the draws, unless the observer asks for another number.
    sync_interval: usize,
}

/// A chain that is being sampled, in the cache row of its index.
struct ActiveSequence {
    prompt: usize,
    /// Its number among all chains of the run.
    number: usize,
    stream: u32,
    /// First entry of its own tokens in the cache.
    own: u32,
    /// First entry of its prompt, which is the start of its KV block.
    prefix_start: u32,
    prefix_len: u32,
    draws: Vec<Draw>,
    max_tokens: usize,
}

impl ActiveSequence {
    /// The state of its row after the draws that were read.
    fn state(&self) -> RowState {
        let drawn = self.draws.len() as u32;
        let id = self.draws.last().map_or(0, |d| d.token);
        let ActiveSequence { own, prefix_start, prefix_len, stream, .. } = *self;
        RowState { slot: KvSlot { own, position: prefix_len - 1 + drawn, prefix_start, prefix_len }, stream, drawn, id }
    }
}

/// A run in progress.
struct Run<'a> {
    prompts: &'a [Vec<u32>],
    first_stream: u32,
    stop: &'a Stop,
    /// The next prompt to start.
    next: usize,
    active: Vec<ActiveSequence>,
    /// The chains that have ended and are still to be read after.
    unread: Vec<Unread>,
    /// `[prompts, group]`: the chains that have ended.
    ended: Vec<Vec<Option<ReadChain>>>,
}

impl Run<'_> {
    /// Number of prompts whose chains have all ended.
    fn done(&self) -> usize {
        self.ended[..self.next].iter().filter(|chains| chains.iter().all(Option::is_some)).count()
    }

    /// The prefill rows of the active chains from `first` on.
    fn prefill_rows(&self, first: usize, group: usize) -> Vec<PrefillRow> {
        let new = &self.active[first..];
        let row = |chain: &ActiveSequence| PrefillRow {
            prompt: ((chain.number - new[0].number) / group) as u32,
            at: chain.own,
            stream: chain.stream,
        };
        new.iter().map(row).collect()
    }
}

impl Rollout {
    /// Plans caches for `sizes`, as in [`RolloutSizes::cache`].
    ///
    /// # Errors
    /// A prompt longer than the model's context; out of memory; a cache above the adapter's binding limit.
    pub fn new(gpu: &Gpu, weights: &Weights, sizes: RolloutSizes) -> Result<Self, ModelError> {
        let (blocks, _) = sizes.blocks_and_group();
        let pass = CachePass::new(gpu, weights, sizes.cache(weights.config.max_position_embeddings))?;
        let sync_interval = gpu.tuning().sync_interval as usize;
        Ok(Rollout { pass, sizes: sizes.whole_groups(), blocks, sync_interval })
    }

    /// The caches. Their values are not needed between two runs, so other plans may reuse their memory.
    pub fn caches(&self) -> &[Buffer] {
        self.pass.caches()
    }

    /// The sizes that this rollout was planned for.
    pub fn sizes(&self) -> RolloutSizes {
        self.sizes
    }

    /// Samples `group` chains for each prompt and returns them in order. Chain `c` of prompt `p` has the random stream
    /// `first_stream + p * group + c`. When all chains of a prompt have ended, the next prompt takes their rows.
    ///
    /// # Errors
    /// A prompt longer than planned; ids outside the vocabulary; an error of the GPU; [`ModelError::Stopped`] if `observer` stops
    /// the rollout.
    pub async fn run(
        &self,
        prompts: &[Vec<u32>],
        first_stream: u32,
        sampler: Sampler,
        stop: &Stop,
        observer: &mut impl RolloutObserver,
    ) -> Result<Vec<Vec<Chain>>, ModelError> {
        let ended = self.run_reading(prompts, first_stream, sampler, stop, observer, &()).await?;
        Ok(ended.into_iter().map(|chains| chains.into_iter().map(|c| c.chain).collect()).collect())
    }

    /// The same, and reads after each chain what `reader` says.
    ///
    /// # Errors
    /// As [`Rollout::run`]; those of `reader`; larger reads than planned.
    pub async fn run_reading<R: Reader>(
        &self,
        prompts: &[Vec<u32>],
        first_stream: u32,
        sampler: Sampler,
        stop: &Stop,
        observer: &mut impl RolloutObserver,
        reader: &R,
    ) -> Result<Vec<Vec<ReadChain>>, R::Error> {
        let ended = vec![vec![None; self.sizes.group]; prompts.len()];
        let mut run = Run { prompts, first_stream, stop, next: 0, active: Vec::new(), unread: Vec::new(), ended };
        let mut done = 0;
        while done < prompts.len() {
            let first = run.active.len();
            let started = self.start_prompts(&mut run);
            let mut steps = self.steps_to_next_read(&run, observer);
            if !started.is_empty() {
                self.pass.prefill(&started, first, &run.prefill_rows(first, self.sizes.group))?;
                self.pass.draw(first, run.active.len() - first, sampler)?;
                // Where all rows are new, their first draw counts as a step.
                steps -= usize::from(first == 0);
            }
            self.pass.step(run.active.len(), steps, sampler)?;
            self.collect_ended(&mut run, observer, reader).await?;
            self.read_ended(&mut run, reader).await?;
            let done_before = done;
            done = run.done();
            if done > done_before && !observer.done(done) {
                return Err(ModelError::Stopped.into());
            }
        }
        Ok(run.ended.into_iter().map(|chains| chains.into_iter().flatten().collect()).collect())
    }

    /// Starts as many of the next prompts as there are free KV blocks and rows, and as one prefill takes. Adds their chains to
    /// `run.active` and returns them for the prefill.
    fn start_prompts<'a>(&self, run: &mut Run<'a>) -> Vec<PrefillPrompt<'a>> {
        let (group, cache) = (self.sizes.group, self.pass.sizes());
        let mut free = self.free_blocks(run);
        let free_rows = self.sizes.rows - run.active.len();
        let count = free.len().min(free_rows / group).min(run.prompts.len() - run.next);
        let count = fitting(run.prompts[run.next..run.next + count].iter().map(Vec::len), cache.prefill);
        let mut started = Vec::new();
        for block in free.split_off(free.len() - count) {
            let (prompt, ids) = (run.next, &run.prompts[run.next]);
            started.push(PrefillPrompt { ids, at: block });
            // A chain ends at the latest with the context, at a length that depends on its prompt. A row that runs on until the
            // next read is kept by the kernels from writing to the entries of others.
            let context = cache.max_length.saturating_sub(ids.len());
            let max_tokens = run.stop.max_tokens.min(self.sizes.new_tokens).min(context);
            run.active.extend((0..group).map(|c| {
                let number = prompt * group + c;
                ActiveSequence {
                    prompt,
                    number,
                    stream: run.first_stream.wrapping_add(number as u32),
                    own: block + (ids.len() + c * cache.own) as u32,
                    prefix_start: block,
                    prefix_len: ids.len() as u32,
                    draws: Vec::new(),
                    max_tokens,
                }
            }));
            run.next += 1;
        }
        started
    }

    /// The first entries of the KV blocks without an active or unread chain, in descending order.
    fn free_blocks(&self, run: &Run) -> Vec<u32> {
        let block_entries = self.pass.sizes().entries / self.blocks;
        let blocks = (0..self.blocks).map(|n| (n * block_entries) as u32).rev();
        let in_use: Vec<u32> =
            run.active.iter().map(|chain| chain.prefix_start).chain(run.unread.iter().map(Unread::block)).collect();
        blocks.filter(|block| !in_use.contains(block)).collect()
    }

    /// Steps until the next read of the draws: no more than the longest chain still needs.
    fn steps_to_next_read(&self, run: &Run, observer: &impl RolloutObserver) -> usize {
        let longest = run.active.iter().map(|chain| chain.max_tokens - chain.draws.len()).max().unwrap_or(0);
        observer.sync_interval().unwrap_or(self.sync_interval).clamp(1, longest.clamp(1, MAX_SYNC_INTERVAL))
    }

    /// Reads the draws, moves the chains that have ended from `run.active` to `run.ended`, and closes the gaps between the rows
    /// of the others.
    async fn collect_ended<R: Reader>(
        &self,
        run: &mut Run<'_>,
        observer: &mut impl RolloutObserver,
        reader: &R,
    ) -> Result<(), R::Error> {
        let drawn = self.pass.drawn(run.active.len()).await?;
        let active_before = run.active.len();
        let mut running = Vec::with_capacity(active_before);
        for (mut chain, (count, draws)) in run.active.drain(..).zip(drawn) {
            let new = count.saturating_sub(chain.draws.len());
            chain.draws.extend(&draws[draws.len().saturating_sub(new)..]);
            let stop = Stop { max_tokens: chain.max_tokens, ..run.stop.clone() };
            let abandoned = || observer.abandons(chain.number).then_some((chain.draws.len(), Ending::Length, 0));
            let end = stop.find(&chain.draws).or_else(abandoned);
            let stable = end.map_or_else(|| stop.stable_len(&chain.draws), |(end, _, tail)| end - tail);
            if !observer.stable_tokens(chain.number, &chain.draws[..stable]) {
                return Err(ModelError::Stopped.into());
            }
            match end {
                None => running.push(chain),
                Some((end, ending, tail)) => {
                    chain.draws.truncate(end);
                    let (prompt, member) = (chain.prompt, chain.number % self.sizes.group);
                    let ended = Chain { draws: std::mem::take(&mut chain.draws), ending, tail };
                    let closed = reader.close(prompt, &ended)?;
                    if !reader.paths().is_empty() {
                        run.unread.push(Unread::new(&chain, member, &run.prompts[prompt], &ended, &closed));
                    }
                    run.ended[prompt][member] = Some(ReadChain { chain: ended, closed, stats: Vec::new() });
                }
            }
        }
        run.active = running;
        if run.active.len() < active_before {
            self.pass.set_rows(0, &run.active.iter().map(ActiveSequence::state).collect::<Vec<_>>())?;
        }
        Ok(())
    }
}

/// The number of sequences of these lengths, from the first on, that have at most `max_tokens` tokens together; at least one,
/// whose length the prefill checks.
fn fitting(lengths: impl ExactSizeIterator<Item = usize>, max_tokens: usize) -> usize {
    let (count, mut sum) = (lengths.len(), 0);
    let fit = lengths.take_while(|length| {
        sum += length;
        sum <= max_tokens
    });
    fit.count().max(1).min(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draws(tokens: &[u32]) -> Vec<Draw> {
        tokens.iter().map(|t| Draw { token: *t, log_p: -1.0 }).collect()
    }

    #[test]
    fn prompts_are_prefilled_in_batches() {
        assert_eq!([9, 10, 11, 8, 3].map(|tokens| fitting([5, 4, 2].into_iter(), tokens)), [2, 2, 3, 1, 1]);
        assert_eq!(fitting([].into_iter(), 9), 0);
    }

    /// A group of 8 with a prompt of 2,048 tokens caches the prompt once and 8 times 1,024 tokens. A single chain needs both. The
    /// context limits the last chain of a KV block, whose prompt may be the longest.
    #[test]
    fn a_group_caches_its_prompt_once() {
        let cache = |group, rows, context| {
            let sizes = RolloutSizes { rows, group, prompt: 2048, new_tokens: 1024, read: ReadSizes::default() }.cache(context);
            (sizes.entries, sizes.rows, sizes.max_length)
        };
        assert_eq!(cache(8, 8, 40_960), (2048 + 8 * 1024, 8, 3072));
        assert_eq!(cache(8, 30, 40_960), (3 * (2048 + 8 * 1024), 24, 3072), "three prompts at a time");
        assert_eq!(cache(1, 4, 40_960), (4 * (2048 + 1024), 4, 3072));
        assert_eq!(cache(1, 4, 2500), (4 * 2500, 4, 2500));
        assert_eq!(cache(2, 2, 2500), (2500 + 1024, 2, 2500));
    }

    #[test]
    fn the_first_ending_counts() {
        let stop = Stop { phrases: vec![vec![7, 8], vec![9]], eos: vec![2], max_tokens: 6 };
        assert_eq!(stop.find(&draws(&[1, 7, 8, 9])), Some((3, Ending::Phrase, 2)));
        assert_eq!(stop.find(&draws(&[1, 9, 2])), Some((2, Ending::Phrase, 1)));
        assert_eq!(stop.find(&draws(&[7, 2, 8])), Some((2, Ending::Eos, 1)));
        assert_eq!(stop.find(&draws(&[1, 1, 1])), None);
        assert_eq!(stop.find(&draws(&[1, 1, 1, 1, 1, 7, 8])), Some((6, Ending::Length, 0)));
    }

    #[test]
    fn the_beginning_of_a_phrase_is_held_back() {
        let stop = Stop { phrases: vec![vec![7, 8, 9], vec![8]], eos: vec![2], max_tokens: 9 };
        let stable = |tokens: &[u32]| stop.stable_len(&draws(tokens));
        assert_eq!([stable(&[]), stable(&[1]), stable(&[1, 7]), stable(&[1, 7, 8]), stable(&[7, 7])], [0, 1, 1, 1, 1]);
    }
}
