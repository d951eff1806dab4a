//! Rollouts: for each prompt some chains of thought, sampled in batches over a shared cache.
//!
//! This room knows tokens, not scores: a chain ends when it has written the stop phrase, when it samples an EOS, or at its
//! length limit. Which random numbers a chain gets depends on the sampler's key, its own number and the position alone,
//! so the same chain comes out whatever else is in the batch.

use crate::gpu::{Buffer, Gpu};
use crate::model::decoder::{CachePass, CacheSizes, Draw, PrefillPrompt, PrefillRow, RowState, Sampler};
use crate::model::error::ModelError;
use crate::model::weights::Weights;
use crate::ops::cached_attention::KvSlot;

/// When a chain is over.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    /// Token sequences that each end a chain: the phrase before the score, as it may be written.
    pub phrases: Vec<Vec<u32>>,
    /// Tokens that each end a chain.
    pub eos: Vec<u32>,
    /// Most tokens a chain may draw.
    pub max_tokens: usize,
}

/// How a chain ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It wrote the phrase; its last tokens are one of [`Stop::phrases`].
    Phrase,
    /// Its last token is an EOS.
    Eos,
    /// It was cut at the length limit.
    Length,
}

/// One sampled chain.
#[derive(Clone, Debug, PartialEq)]
pub struct Chain {
    /// Every token drawn, the phrase or EOS included.
    pub draws: Vec<Draw>,
    pub ending: Ending,
    /// Of the draws, how many are the phrase or EOS at the end.
    pub tail: usize,
}

impl Chain {
    /// The drawn tokens without the phrase or EOS that ended it.
    pub fn body(&self) -> Vec<u32> {
        self.draws[..self.draws.len() - self.tail].iter().map(|d| d.token).collect()
    }

    /// The chain if it has at most `most` tokens, else its beginning.
    pub fn within(mut self, most: usize) -> Self {
        if self.draws.len() > most {
            self.draws.truncate(most);
            (self.ending, self.tail) = (Ending::Length, 0);
        }
        self
    }
}

impl Stop {
    /// Where the first ending in `draws` is: number of tokens up to and including it, what it is and how long.
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

    /// How many of a running chain's draws are surely part of what it says: the last ones may begin a phrase.
    fn said(&self, draws: &[Draw]) -> usize {
        let begins = |n: usize| {
            let tail = || draws[draws.len() - n..].iter().map(|d| &d.token);
            self.phrases.iter().any(|p| p.len() > n && p[..n].iter().eq(tail()))
        };
        let longest = self.phrases.iter().map(Vec::len).max().unwrap_or(0);
        let held = (1..longest.min(draws.len() + 1)).rev().find(|n| begins(*n));
        draws.len() - held.unwrap_or(0)
    }
}

/// What a rollout engine is planned for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RolloutSizes {
    /// Chains that advance together.
    pub rows: usize,
    /// Chains of one prompt, at most `rows`.
    pub group: usize,
    /// Longest prompt, in tokens.
    pub prompt: usize,
    /// Most tokens a chain may draw. Behind a long prompt the model's context may leave room for fewer.
    pub new_tokens: usize,
}

impl RolloutSizes {
    /// Prompts that are under way at a time, and chains of each.
    fn kv_blocks(&self) -> (usize, usize) {
        let group = self.group.clamp(1, self.rows.max(1));
        ((self.rows / group).max(1), group)
    }

    /// The same with as many rows as whole groups take.
    pub fn whole_groups(self) -> Self {
        let (prompts, group) = self.kv_blocks();
        RolloutSizes { rows: prompts * group, group, ..self }
    }

    /// The cache that this takes with a model of `context` positions. Every prompt under way has a *kv_block* of entries that lie
    /// together: the prompt, then each of its chains' own tokens. So a group of 8 holds its prompt once, and 8 times what a
    /// chain may draw.
    pub fn cache(&self, context: usize) -> CacheSizes {
        let (prompts, group) = self.kv_blocks();
        let max_length = (self.prompt + self.new_tokens).min(context.max(self.prompt));
        let own = self.new_tokens.min(max_length);
        CacheSizes {
            entries: prompts * (max_length + (group - 1) * own),
            rows: prompts * group,
            prefill: (prompts * self.prompt).min(PREFILL_TOKENS.max(self.prompt)),
            own,
            max_length,
            // A new row draws once before its first step.
            history: MAX_SYNC_INTERVAL + 1,
        }
    }
}

/// Most steps between two looks at what was drawn.
const MAX_SYNC_INTERVAL: usize = 8;

/// Tokens of prompts that are read at once, unless a single prompt is longer: more would only need more memory.
const PREFILL_TOKENS: usize = 4096;

/// Who follows a rollout while it runs, and may end it. A function of the number of prompts that are done is one, and so
/// is `()`, who does not care.
pub trait RolloutObserver {
    /// Tokens that are drawn between two looks, at most 8; `None`: as many as suit the adapter. Fewer come more smoothly, and
    /// cost a wait each.
    fn sync_interval(&self) -> Option<usize> {
        None
    }

    /// After each look: what chain `chain` (counted over all prompts) has said so far, without a phrase or EOS at its end,
    /// finished or begun. `false` ends the rollout with [`ModelError::Stopped`].
    fn said(&mut self, _chain: usize, _draws: &[Draw]) -> bool {
        true
    }

    /// When prompts were finished: so many have all their chains. `false` ends the rollout.
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

/// Ends a rollout once `stop` says so; `done` hears how many prompts have their chains.
pub struct Until<S, D> {
    pub stop: S,
    pub done: D,
}

impl<S: Fn() -> bool, D: FnMut(usize)> RolloutObserver for Until<S, D> {
    fn said(&mut self, _chain: usize, _draws: &[Draw]) -> bool {
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
    /// Prompts under way at a time.
    prompts: usize,
    /// Steps between two looks, unless who follows wants others.
    sync_interval: usize,
}

/// A chain under way, in the row of its index.
struct ActiveSequence {
    prompt: usize,
    /// Of all chains of the run.
    number: usize,
    stream: u32,
    /// First entry of its own tokens in the cache.
    own: u32,
    /// First entry of the prompt, and its length.
    prefix_start: u32,
    prefix_len: u32,
    draws: Vec<Draw>,
    max_tokens: usize,
}

impl ActiveSequence {
    /// The row's state, after the draws that were read.
    fn state(&self) -> RowState {
        let drawn = self.draws.len() as u32;
        let id = self.draws.last().map_or(0, |d| d.token);
        let ActiveSequence { own, prefix_start, prefix_len, stream, .. } = *self;
        RowState { slot: KvSlot { own, position: prefix_len - 1 + drawn, prefix_start, prefix_len }, stream, drawn, id }
    }
}

impl Rollout {
    /// Plans caches for `sizes`, as [`RolloutSizes::cache`] says.
    ///
    /// # Errors
    /// A prompt longer than the model's context, out of memory, or a cache over the adapter's binding limit.
    pub fn new(gpu: &Gpu, weights: &Weights, sizes: RolloutSizes) -> Result<Self, ModelError> {
        let (prompts, _) = sizes.kv_blocks();
        let pass = CachePass::new(gpu, weights, sizes.cache(weights.config.max_position_embeddings))?;
        let sync_interval = gpu.tuning().sync_interval as usize;
        Ok(Rollout { pass, sizes: sizes.whole_groups(), prompts, sync_interval })
    }

    /// Buffers that hold nothing between two runs, and may be aliased.
    pub fn caches(&self) -> &[Buffer] {
        self.pass.caches()
    }

    /// What this engine was planned for.
    pub fn sizes(&self) -> RolloutSizes {
        self.sizes
    }

    /// `group` chains for each prompt, in order; chain `c` of prompt `p` has the random stream
    /// `first_stream + p * group + c`. A prompt whose chains are all finished makes room for the next one at once.
    ///
    /// # Errors
    /// A prompt longer than planned, ids outside the vocabulary, what the GPU reports, or that `observer` ended it.
    pub async fn run(
        &self,
        prompts: &[Vec<u32>],
        first_stream: u32,
        sampler: Sampler,
        stop: &Stop,
        observer: &mut impl RolloutObserver,
    ) -> Result<Vec<Vec<Chain>>, ModelError> {
        let group = self.sizes.group;
        let cache = self.pass.sizes();
        let kv_block = cache.entries / self.prompts;
        let kv_blocks = || (0..self.prompts).map(|n| (n * kv_block) as u32).rev();
        let mut all: Vec<Vec<Option<Chain>>> = vec![vec![None; group]; prompts.len()];
        let mut free: Vec<u32> = kv_blocks().collect();
        let (mut active, mut next, mut done): (Vec<ActiveSequence>, usize, usize) = (Vec::new(), 0, 0);
        while done < prompts.len() {
            let first = active.len();
            let room = free.len().min((self.sizes.rows - first) / group).min(prompts.len() - next);
            let room = fitting(&prompts[next..next + room], cache.prefill);
            let mut admitted = Vec::new();
            for at in free.split_off(free.len() - room) {
                admitted.push(PrefillPrompt { ids: &prompts[next], at });
                let len = prompts[next].len();
                active.extend((0..group).map(|c| {
                    let number = next * group + c;
                    let stream = first_stream.wrapping_add(number as u32);
                    let own = at + (len + c * cache.own) as u32;
                    // A chain ends with the context, each where its own prompt lets it; the kernels keep a row that runs
                    // on from touching its neighbour's entries.
                    let context = cache.max_length.saturating_sub(len);
                    let max_tokens = stop.max_tokens.min(self.sizes.new_tokens).min(context);
                    ActiveSequence {
                        prompt: next,
                        number,
                        stream,
                        own,
                        prefix_start: at,
                        prefix_len: len as u32,
                        draws: Vec::new(),
                        max_tokens,
                    }
                }));
                next += 1;
            }
            let longest = active.iter().map(|l| l.max_tokens - l.draws.len()).max().unwrap_or(0);
            let mut steps = observer.sync_interval().unwrap_or(self.sync_interval).clamp(1, longest.clamp(1, MAX_SYNC_INTERVAL));
            if !admitted.is_empty() {
                let row = |l: &ActiveSequence| PrefillRow {
                    prompt: ((l.number - active[first].number) / group) as u32,
                    at: l.own,
                    stream: l.stream,
                };
                self.pass.prefill(&admitted, first, &active[first..].iter().map(row).collect::<Vec<_>>())?;
                self.pass.draw(first, active.len() - first, sampler)?;
                steps -= usize::from(first == 0);
            }
            self.pass.step(active.len(), steps, sampler)?;
            self.collect_finished(&mut active, &mut all, stop, observer).await?;
            let finished = |p: usize| all[p].iter().all(Option::is_some);
            let before = done;
            free = kv_blocks().filter(|at| !active.iter().any(|l| l.prefix_start == *at)).collect();
            done = (0..next).filter(|p| finished(*p)).count();
            if done > before && !observer.done(done) {
                return Err(ModelError::Stopped);
            }
        }
        Ok(all.into_iter().map(|chains| chains.into_iter().flatten().collect()).collect())
    }

    /// Reads what was drawn, moves finished chains from `active` to `all`, and closes the gaps that they leave.
    async fn collect_finished(
        &self,
        active: &mut Vec<ActiveSequence>,
        all: &mut [Vec<Option<Chain>>],
        stop: &Stop,
        observer: &mut impl RolloutObserver,
    ) -> Result<(), ModelError> {
        let drawn = self.pass.drawn(active.len()).await?;
        let before = active.len();
        let mut running = Vec::with_capacity(before);
        for (mut line, (count, draws)) in active.drain(..).zip(drawn) {
            let new = count.saturating_sub(line.draws.len());
            line.draws.extend(&draws[draws.len().saturating_sub(new)..]);
            let own = Stop { max_tokens: line.max_tokens, ..stop.clone() };
            let found = own.find(&line.draws);
            let said = found.map_or_else(|| own.said(&line.draws), |(end, _, tail)| end - tail);
            if !observer.said(line.number, &line.draws[..said]) {
                return Err(ModelError::Stopped);
            }
            match found {
                None => running.push(line),
                Some((end, ending, tail)) => {
                    line.draws.truncate(end);
                    all[line.prompt][line.number % self.sizes.group] = Some(Chain { draws: line.draws, ending, tail });
                }
            }
        }
        *active = running;
        if active.len() < before {
            self.pass.arrange(0, &active.iter().map(ActiveSequence::state).collect::<Vec<_>>())?;
        }
        Ok(())
    }
}

/// How many of these prompts, from the first on, hold at most `tokens` together; at least one, whose length is checked when
/// it is read.
fn fitting(prompts: &[Vec<u32>], tokens: usize) -> usize {
    let mut sum = 0;
    let fit = prompts.iter().take_while(|p| {
        sum += p.len();
        sum <= tokens
    });
    fit.count().max(1).min(prompts.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draws(tokens: &[u32]) -> Vec<Draw> {
        tokens.iter().map(|t| Draw { token: *t, log_p: -1.0 }).collect()
    }

    #[test]
    fn prompts_are_prefilled_in_batches() {
        let prompts = [vec![0; 5], vec![0; 4], vec![0; 2]];
        assert_eq!([9, 10, 11, 8, 3].map(|tokens| fitting(&prompts, tokens)), [2, 2, 3, 1, 1]);
        assert_eq!(fitting(&[], 9), 0);
    }

    /// A group of 8 behind a prompt of 2,048 tokens: the prompt once, and 8 times 1,024. A chain alone needs both, and the
    /// context cuts the last chain of a kv_block, whose prompt may be the longest.
    #[test]
    fn a_group_holds_its_prompt_once() {
        let of = |group, rows, context| {
            let sizes = RolloutSizes { rows, group, prompt: 2048, new_tokens: 1024 }.cache(context);
            (sizes.entries, sizes.rows, sizes.max_length)
        };
        assert_eq!(of(8, 8, 40_960), (2048 + 8 * 1024, 8, 3072));
        assert_eq!(of(8, 30, 40_960), (3 * (2048 + 8 * 1024), 24, 3072), "three prompts at a time");
        assert_eq!(of(1, 4, 40_960), (4 * (2048 + 1024), 4, 3072));
        assert_eq!(of(1, 4, 2500), (4 * 2500, 4, 2500));
        assert_eq!(of(2, 2, 2500), (2500 + 1024, 2, 2500));
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
        let said = |tokens: &[u32]| stop.said(&draws(tokens));
        assert_eq!([said(&[]), said(&[1]), said(&[1, 7]), said(&[1, 7, 8]), said(&[7, 7])], [0, 1, 1, 1, 1]);
    }
}
