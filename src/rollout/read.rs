//! Distributions behind chains, read from the cache that the chains were written with: neither prompt nor chain is computed
//! again.
//!
//! A closed chain is the chain and the tokens that close it. The cache has the chain's tokens but the last one drawn. What
//! differs from them, and each path that is read, is fed into the chain's own entries. The paths of a chain are fed one after
//! the other, each over the entries of the one before.

use super::run::{ActiveSequence, Held, Run};
use super::{Chain, Layout, Rollout, fitting};
use crate::model::decoder::{CacheRead, TokenStats};
use crate::model::error::ModelError;
use crate::ops::cached_attention::KvSlot;

/// The maximum sizes of what is read after a chain; 0 if nothing is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadSizes {
    /// Tokens that are fed after a chain, its last drawn one included.
    pub tokens: usize,
    /// Score tokens.
    pub scores: usize,
}

/// Says what is read after each chain. `()` reads nothing.
pub trait Reader {
    type Error: From<ModelError>;

    /// The closed chain: all tokens between the prompt of this index and what is read.
    ///
    /// # Errors
    /// Those of the implementation; they end the rollout.
    fn close(&self, prompt: usize, chain: &Chain) -> Result<Vec<u32>, Self::Error>;

    /// Tokens after the closed chain: the distribution after each path is read.
    fn paths(&self) -> &[&[u32]];

    /// The tokens whose log-probabilities are read.
    fn score_tokens(&self) -> &[u32];
}

impl Reader for () {
    type Error = ModelError;

    fn close(&self, _prompt: usize, _chain: &Chain) -> Result<Vec<u32>, ModelError> {
        Ok(Vec::new())
    }

    fn paths(&self) -> &[&[u32]] {
        &[]
    }

    fn score_tokens(&self) -> &[u32] {
        &[]
    }
}

/// A chain with what was read after it.
#[derive(Clone, Debug, PartialEq)]
pub struct ReadChain {
    pub chain: Chain,
    /// The closed chain.
    pub closed: Vec<u32>,
    /// The distribution after each path.
    pub stats: Vec<TokenStats>,
}

/// A chain that has ended, and whose entries are still in the cache.
pub(super) struct Unread {
    pub prompt: usize,
    /// Its number among the chains of its prompt.
    member: usize,
    pub held: Held,
    /// The slot of the first of `tokens`.
    first: KvSlot,
    tokens: Vec<u32>,
    /// How many of `tokens` are cached; at least one is not.
    cached: usize,
    read: ReadChain,
}

impl Unread {
    /// The chain of `sequence`, closed as `closed`, after the prompt `ids`.
    pub fn new(sequence: &ActiveSequence, ids: &[u32], chain: Chain, closed: Vec<u32>) -> Self {
        let ActiveSequence { prompt, member, held, slot, .. } = *sequence;
        // A row may run on past the end of its chain, as far as others let it. So the token drawn last counts as not cached.
        let in_cache = &chain.draws[..chain.draws.len().saturating_sub(1)];
        let common = closed.iter().zip(in_cache).take_while(|(token, draw)| **token == draw.token).count();
        // Without a token after the prompt, its last one is run again as the chain's own.
        let last = slot.position;
        let (tokens, position, prefix_len) = match closed[..] {
            [] => (ids[ids.len().saturating_sub(1)..].to_vec(), last, slot.prefix_len.min(last)),
            _ => (closed.clone(), last + 1, slot.prefix_len),
        };
        let cached = common.min(tokens.len().saturating_sub(1));
        let first = KvSlot { position, prefix_len, ..slot };
        let read = ReadChain { chain, closed, stats: Vec::new() };
        Unread { prompt, member, held, first, tokens, cached, read }
    }

    /// The read after path number `n`, which is `path`.
    fn read(&self, n: usize, path: &[u32]) -> CacheRead {
        // The first path is fed with the tokens that are not cached. A later one needs none of them, unless it is empty.
        let start = match (n, path) {
            (0, _) => self.cached,
            (_, []) => self.tokens.len() - 1,
            _ => self.tokens.len(),
        };
        let first = KvSlot { position: self.first.position + start as u32, ..self.first };
        CacheRead { first, ids: [&self.tokens[start..], path].concat() }
    }
}

impl Rollout {
    /// Reads after the chains that have ended, if others need their KV blocks or no chain runs any more. Until then they gather,
    /// because many reads at once are faster. Of a shared cache somebody waits for each of them.
    pub(super) async fn read_ended<R: Reader>(&self, run: &mut Run, reader: &R) -> Result<(), R::Error> {
        let is_free = |unread: &Unread| !run.active.iter().any(|chain| chain.held.root == unread.held.root);
        let needed = self.layout == Layout::Shared || (run.has_waiting() && run.unread.iter().any(is_free));
        if !needed && !run.active.is_empty() {
            return Ok(());
        }
        let mut unread = std::mem::take(&mut run.unread);
        for (n, path) in reader.paths().iter().enumerate() {
            let reads: Vec<CacheRead> = unread.iter().map(|unread| unread.read(n, path)).collect();
            let mut start = 0;
            while start < reads.len() {
                let end = start + fitting(reads[start..].iter().map(|read| read.ids.len()), self.pass.sizes().prefill);
                let end = end.min(start + self.pass.sizes().rows);
                let stats = self.pass.read(&reads[start..end], reader.score_tokens()).await?;
                unread[start..end].iter_mut().zip(stats).for_each(|(unread, stats)| unread.read.stats.push(stats));
                start = end;
            }
        }
        for Unread { prompt, member, held, read, .. } in unread {
            run.free(held);
            run.finish(prompt, member, read);
        }
        Ok(())
    }
}
