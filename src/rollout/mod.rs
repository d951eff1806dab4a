//! Rollouts: for each prompt some chains of thought, sampled in batches over a shared cache.
//!
//! This room knows tokens, not scores: a chain ends when it has written the stop phrase, when it samples an EOS, or at its
//! length limit. Which random numbers a chain gets depends on the sampler's key, its own number and the position alone,
//! so the same chain comes out whatever else is in the batch.

use crate::gpu::Gpu;
use crate::model::decoder::{CachePass, CacheSizes, Draw, PrefillRow, Sampler};
use crate::model::error::ModelError;
use crate::model::weights::Weights;

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
#[derive(Clone, Copy, Debug)]
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

/// Steps between two looks at what was drawn.
const STEPS_A_LOOK: usize = 8;

/// Who follows a rollout while it runs, and may end it. A function of the number of prompts that are done is one, and so
/// is `()`, who does not care.
pub trait Watch {
    /// Tokens that are drawn between two looks. Fewer come more smoothly, and cost a wait each.
    fn tokens_a_look(&self) -> usize {
        STEPS_A_LOOK
    }

    /// After each look: what chain `chain` (counted over all prompts) has said so far, without a phrase or EOS at its end,
    /// finished or begun. `false` ends the rollout with [`ModelError::Stopped`].
    fn said(&mut self, _chain: usize, _draws: &[Draw]) -> bool {
        true
    }

    /// After each wave: so many prompts have their chains. `false` ends the rollout.
    fn done(&mut self, _prompts: usize) -> bool {
        true
    }
}

impl Watch for () {}

impl<F: FnMut(usize)> Watch for F {
    fn done(&mut self, prompts: usize) -> bool {
        self(prompts);
        true
    }
}

/// Samples chains for batches of prompts of one model.
pub struct Rollout {
    pass: CachePass,
    sizes: RolloutSizes,
    /// Prompts of one wave.
    prompts: usize,
}

impl Rollout {
    /// Plans caches for `sizes`.
    ///
    /// # Errors
    /// A prompt longer than the model's context, or out of memory.
    pub fn new(gpu: &Gpu, weights: &Weights, sizes: RolloutSizes) -> Result<Self, ModelError> {
        let group = sizes.group.clamp(1, sizes.rows.max(1));
        let prompts = (sizes.rows / group).max(1);
        let rows = prompts * group;
        // A chain alone continues its prompt's slot; siblings get slots of their own.
        let slots = if group == 1 { prompts } else { prompts + rows };
        let cache = CacheSizes {
            slots,
            rows,
            prefill: prompts * sizes.prompt,
            max_length: (sizes.prompt + sizes.new_tokens).min(weights.config.max_position_embeddings.max(sizes.prompt)),
            history: sizes.new_tokens.max(1),
        };
        let pass = CachePass::new(gpu, weights, cache)?;
        Ok(Rollout { pass, sizes: RolloutSizes { rows, group, ..sizes }, prompts })
    }

    /// What this engine was planned for.
    pub fn sizes(&self) -> RolloutSizes {
        self.sizes
    }

    /// `group` chains for each prompt, in order; chain `c` of prompt `p` has the random stream
    /// `first_stream + p * group + c`.
    ///
    /// # Errors
    /// A prompt longer than planned, ids outside the vocabulary, what the GPU reports, or that `watch` ended it.
    pub async fn run(
        &self,
        prompts: &[Vec<u32>],
        first_stream: u32,
        sampler: Sampler,
        stop: &Stop,
        watch: &mut dyn Watch,
    ) -> Result<Vec<Vec<Chain>>, ModelError> {
        let mut all = Vec::with_capacity(prompts.len());
        for wave in prompts.chunks(self.prompts) {
            let first = all.len() * self.sizes.group;
            let stream = first_stream.wrapping_add(first as u32);
            let mut chains = self.wave(wave, (first, stream), sampler, stop, watch).await?.into_iter();
            for _ in wave {
                all.push(chains.by_ref().take(self.sizes.group).collect());
            }
            if !watch.done(all.len()) {
                return Err(ModelError::Stopped);
            }
        }
        Ok(all)
    }

    async fn wave(
        &self,
        prompts: &[Vec<u32>],
        (first, stream): (usize, u32),
        sampler: Sampler,
        stop: &Stop,
        watch: &mut dyn Watch,
    ) -> Result<Vec<Chain>, ModelError> {
        let group = self.sizes.group;
        let rows: Vec<PrefillRow> = (0..prompts.len() * group)
            .map(|r| PrefillRow {
                prompt: (r / group) as u32,
                slot: if group == 1 { r } else { prompts.len() + r } as u32,
                stream: stream.wrapping_add(r as u32),
            })
            .collect();
        let slices: Vec<&[u32]> = prompts.iter().map(Vec::as_slice).collect();
        self.pass.prefill(&slices, &rows)?;
        let most = stop.max_tokens.min(self.sizes.new_tokens);
        // A chain ends with the context, each where its own prompt lets it; the kernels keep a row that runs on from
        // touching its neighbour's slot.
        let room = |r: usize| most.min(self.pass.sizes().max_length.saturating_sub(prompts[r / group].len()));
        let stops: Vec<Stop> = (0..rows.len()).map(|r| Stop { max_tokens: room(r), ..stop.clone() }).collect();
        let limit = stops.iter().map(|s| s.max_tokens).max().unwrap_or(0);
        let mut done: Vec<Option<Chain>> = vec![None; rows.len()];
        let mut drawn = 0;
        while done.iter().any(Option::is_none) {
            if limit > drawn {
                let steps = watch.tokens_a_look().clamp(1, limit - drawn);
                self.pass.step(rows.len(), steps, sampler)?;
                drawn += steps;
            }
            let draws = self.pass.drawn(rows.len()).await?;
            for (i, ((chain, draws), stop)) in done.iter_mut().zip(draws).zip(&stops).enumerate() {
                if chain.is_some() {
                    continue;
                }
                let found = stop.find(&draws);
                let said = found.map_or_else(|| stop.said(&draws), |(end, _, tail)| end - tail);
                if !watch.said(first + i, &draws[..said]) {
                    return Err(ModelError::Stopped);
                }
                *chain = found.map(|(end, ending, tail)| Chain { draws: draws[..end].to_vec(), ending, tail });
            }
        }
        Ok(done.into_iter().flatten().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draws(tokens: &[u32]) -> Vec<Draw> {
        tokens.iter().map(|t| Draw { token: *t, log_p: -1.0 }).collect()
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
