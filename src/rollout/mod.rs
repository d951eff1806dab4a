//! Rollouts: for each prompt several chains of thought, sampled in batches over a shared cache.
//!
//! A rollout knows tokens, not scores. A chain ends when it has written the stop phrase, when it samples an EOS, or at its
//! length limit. The random numbers of a chain depend only on the sampler's key, the chain's number and the position, so the
//! same chain is drawn whatever else is in the batch.

mod pool;
mod prefixes;
mod read;
mod run;

use std::sync::Arc;

pub use read::{ReadChain, ReadSizes, Reader};
pub use run::{Continuation, Run};

use crate::gpu::{Buffer, Gpu};
use crate::model::decoder::{CachePass, CacheSizes, Draw, Sampler};
use crate::model::error::ModelError;
use crate::model::weights::Weights;

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
    /// The first ending in `draws` behind the first `searched`: the number of tokens up to and including it, its kind and its
    /// length. There are at most `max_tokens`.
    fn find(&self, draws: &[Draw], searched: usize, max_tokens: usize) -> Option<(usize, Ending, usize)> {
        for end in searched + 1..=draws.len().min(max_tokens) {
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
        (draws.len() >= max_tokens).then_some((max_tokens, Ending::Length, 0))
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

/// The maximum sizes of a rollout that prompts join while it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedSizes {
    /// Chains that advance together.
    pub rows: usize,
    /// Entries of the cache: of running chains, and of prompts that are kept for others that begin alike.
    pub entries: usize,
    /// Positions of a prompt, its chain and what is read after it; at most `entries`.
    pub max_length: usize,
    /// What is read after a chain.
    pub read: ReadSizes,
}

impl SharedSizes {
    fn cache(&self) -> CacheSizes {
        CacheSizes {
            entries: self.entries,
            rows: self.rows,
            prefill: SHARED_PREFILL_TOKENS.max(self.read.tokens),
            // Each chain has as many as it needs, and those that it may run on for.
            own: self.max_length,
            max_length: self.max_length,
            history: MAX_SYNC_INTERVAL + 1,
            scores: self.read.scores,
        }
    }
}

/// Tokens per prefill of a shared cache. Longer prompts take several, between which the chains of others advance.
const SHARED_PREFILL_TOKENS: usize = 1024;

/// How prompts lie in the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    /// Every prompt has a KV block of so many entries, its chains included.
    Blocks(usize),
    /// Prompts and chains have segments of their own length, and prompts that begin alike share their beginning.
    Shared,
}

/// Samples chains for batches of prompts of one model.
pub struct Rollout {
    pass: CachePass,
    sizes: RolloutSizes,
    layout: Layout,
    /// Steps between two reads of the draws, unless the observer asks for another number.
    sync_interval: usize,
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
        let layout = Layout::Blocks(pass.sizes().entries / blocks);
        Ok(Rollout { pass, sizes: sizes.whole_groups(), layout, sync_interval })
    }

    /// Plans a cache that prompts of any number of chains share. Nothing that a chain or a read depends on follows from its
    /// neighbours: every token is computed by the same kernels in the same order, wherever it lies.
    ///
    /// # Errors
    /// As [`Rollout::new`].
    pub fn shared(gpu: &Gpu, weights: &Weights, sizes: SharedSizes) -> Result<Self, ModelError> {
        let pass = CachePass::new(gpu, weights, sizes.cache())?;
        let SharedSizes { rows, max_length, read, .. } = sizes;
        let sizes = RolloutSizes { rows, group: 1, prompt: max_length, new_tokens: max_length, read };
        Ok(Rollout { pass, sizes, layout: Layout::Shared, sync_interval: gpu.tuning().sync_interval as usize })
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
        let (mut run, stop, chains) = (self.begin(), Arc::new(stop.clone()), self.sizes.group);
        for (number, ids) in prompts.iter().enumerate() {
            let first_stream = first_stream.wrapping_add((number * chains) as u32);
            self.push(&mut run, Continuation { ids: ids[..].into(), chains, first_stream, sampler, stop: stop.clone() })?;
        }
        let mut ended = vec![Vec::new(); prompts.len()];
        let mut done = 0;
        while done < prompts.len() {
            self.advance(&mut run, observer, reader).await?;
            let done_before = done;
            for (number, chains) in run.take_done() {
                ended[number] = chains;
                done += 1;
            }
            if done > done_before && !observer.done(done) {
                return Err(ModelError::Stopped.into());
            }
        }
        Ok(ended)
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
        let find = |tokens: &[u32]| {
            let all = stop.find(&draws(tokens), 0, 6);
            // Looked at as they come.
            assert_eq!(all, (1..=tokens.len()).find_map(|n| stop.find(&draws(&tokens[..n]), n - 1, 6)));
            all
        };
        assert_eq!(find(&[1, 7, 8, 9]), Some((3, Ending::Phrase, 2)));
        assert_eq!(find(&[1, 9, 2]), Some((2, Ending::Phrase, 1)));
        assert_eq!(find(&[7, 2, 8]), Some((2, Ending::Eos, 1)));
        assert_eq!(find(&[1, 1, 1]), None);
        assert_eq!(find(&[1, 1, 1, 1, 1, 7, 8]), Some((6, Ending::Length, 0)));
    }

    #[test]
    fn the_beginning_of_a_phrase_is_held_back() {
        let stop = Stop { phrases: vec![vec![7, 8, 9], vec![8]], eos: vec![2], max_tokens: 9 };
        let stable = |tokens: &[u32]| stop.stable_len(&draws(tokens));
        assert_eq!([stable(&[]), stable(&[1]), stable(&[1, 7]), stable(&[1, 7, 8]), stable(&[7, 7])], [0, 1, 1, 1, 1]);
    }
}
