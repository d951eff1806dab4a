//! Packed batches: the inputs of a pass of the decoder.

use std::iter::repeat_n;

use super::config::Config;
use super::error::ModelError;
use crate::ops::attention::TokenSpan;
use crate::ops::loss_head::{NO_SCORES, TokenLoss};

/// The maximum sizes of a batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct BatchLimits {
    pub tokens: usize,
    pub loss_positions: usize,
    /// Score tokens, K.
    pub scores: usize,
}

/// A packed batch: sequences of different length in one array, without padding.
///
/// The *span* of a token says which tokens it attends to ([`TokenSpan`]). A plain sequence has no prefix. The chains of one
/// prompt share it as their prefix:
///
/// ```text
/// prompt   a b c          prefix     chain 1      chain 2
/// chain 1  x y            a b        c x y        c z
/// chain 2  z     tokens   0 1        2 3 4        5 6      positions 0 1 | 2 3 4 | 2 3
/// ```
#[derive(Clone, Debug, Default)]
pub struct PackedInputs {
    /// `[T]`
    pub ids: Vec<u32>,
    /// `[T]`
    pub positions: Vec<u32>,
    /// `[T]`
    pub spans: Vec<TokenSpan>,
    /// `[R]`: the loss positions, as indices of tokens in the batch, strictly increasing. The head computes logits only there.
    pub loss_positions: Vec<u32>,
    /// `[R]`: the loss at each loss position.
    pub losses: Vec<TokenLoss>,
    /// `[losses on scores, K]`: `-∂loss/∂log p` of each score token, see [`TokenLoss::scores`].
    pub coefficients: Vec<f32>,
    /// The key of the random numbers of dropout, a different one for each training batch.
    pub dropout_key: [u32; 2],
}

impl PackedInputs {
    /// Appends a plain sequence. Returns the index of its first token in the batch.
    pub fn push(&mut self, ids: &[u32]) -> u32 {
        let start = self.ids.len() as u32;
        let end = start + ids.len() as u32;
        self.ids.extend_from_slice(ids);
        self.positions.extend(0..ids.len() as u32);
        let span = TokenSpan { prefix_start: start, prefix_len: 0, own_start: start, query_end: end };
        self.spans.extend(repeat_n(span, ids.len()));
        start
    }

    /// Appends a prompt and the continuations that share it, so that the prompt's tokens are computed once. The prompt's last
    /// token is repeated at the start of each continuation, because its next token differs there. Returns the index of each
    /// continuation's first token, which is the repeated one.
    ///
    /// An empty prompt has no token to repeat: nothing is appended and no index is returned.
    pub fn push_shared(&mut self, prompt: &[u32], continuations: &[&[u32]]) -> Vec<u32> {
        let Some((last, prefix)) = prompt.split_last() else { return Vec::new() };
        let suffixes: Vec<Vec<u32>> = continuations.iter().map(|c| [&[*last], *c].concat()).collect();
        self.push_suffixes(prefix, &suffixes)
    }

    /// Appends a prefix and the suffixes that share it; none of these may be empty. Returns the index of each suffix's first
    /// token.
    pub fn push_suffixes(&mut self, prefix: &[u32], suffixes: &[Vec<u32>]) -> Vec<u32> {
        let start = self.ids.len() as u32;
        let prefix_len = prefix.len() as u32;
        let total: usize = suffixes.iter().map(Vec::len).sum();
        let end = start + prefix_len + total as u32;
        self.ids.extend_from_slice(prefix);
        self.positions.extend(0..prefix_len);
        let span = TokenSpan { prefix_start: start, prefix_len: 0, own_start: start, query_end: end };
        self.spans.extend(repeat_n(span, prefix.len()));
        let mut heads = Vec::new();
        for suffix in suffixes {
            let own = self.ids.len() as u32;
            let len = suffix.len() as u32;
            self.ids.extend_from_slice(suffix);
            self.positions.extend(prefix_len..prefix_len + len);
            let span = TokenSpan { prefix_start: start, prefix_len, own_start: own, query_end: own + len };
            self.spans.extend(repeat_n(span, suffix.len()));
            heads.push(own);
        }
        heads
    }

    /// Appends a loss position. Positions must be appended in increasing order or sorted by [`PackedInputs::sort_losses`].
    pub fn push_loss(&mut self, position: u32, loss: TokenLoss) {
        self.loss_positions.push(position);
        self.losses.push(loss);
    }

    /// Appends a loss position whose loss depends on the score tokens. `coefficients` are `-∂loss/∂log p` of each, `[K]`.
    pub fn push_scores(&mut self, position: u32, coefficients: &[f64]) {
        let scores = (self.coefficients.len() / coefficients.len().max(1)) as u32;
        self.coefficients.extend(coefficients.iter().map(|c| *c as f32));
        self.push_loss(position, TokenLoss { scores, ..TokenLoss::default() });
    }

    /// Sorts the loss positions in increasing order.
    pub fn sort_losses(&mut self) {
        let mut pairs: Vec<(u32, TokenLoss)> = self.loss_positions.drain(..).zip(self.losses.drain(..)).collect();
        pairs.sort_by_key(|(position, _)| *position);
        (self.loss_positions, self.losses) = pairs.into_iter().unzip();
    }

    /// The index among the loss positions of token `position` of the batch.
    pub fn loss_at(&self, position: u32) -> Option<usize> {
        self.loss_positions.binary_search(&position).ok()
    }

    /// Checks everything that shaders rely on.
    ///
    /// # Errors
    /// Sizes above `limits` or above those of the model; fields that do not fit together.
    pub(super) fn check(&self, config: &Config, limits: BatchLimits) -> Result<(), ModelError> {
        let BatchLimits { tokens, loss_positions, scores } = limits;
        let limit = |what, allowed: usize, found: usize| match found > allowed {
            true => Err(ModelError::Batch { what, allowed, found }),
            false => Ok(()),
        };
        let t = self.ids.len();
        limit("tokens in a batch", tokens, t)?;
        limit("loss positions", loss_positions, self.loss_positions.len())?;
        limit("largest token id", config.vocab_size - 1, self.ids.iter().copied().max().unwrap_or(0) as usize)?;
        let last = self.positions.iter().copied().max().unwrap_or(0) as usize;
        limit("last position (max_position_embeddings - 1)", config.max_position_embeddings - 1, last)?;
        limit("last position (of the pass)", tokens.saturating_sub(1), last)?;
        limit("largest loss position", t.saturating_sub(1), self.loss_positions.iter().copied().max().unwrap_or(0) as usize)?;
        let target = self.losses.iter().map(|loss| loss.token).max().unwrap_or(0);
        limit("largest target token", config.vocab_size - 1, target as usize)?;
        let with_scores = |loss: &&TokenLoss| loss.scores != NO_SCORES;
        let needed = self.losses.iter().filter(with_scores).map(|loss| (loss.scores as usize + 1) * scores).max();
        limit("coefficients of scores", self.coefficients.len(), needed.unwrap_or(0))?;
        limit("coefficients of the loss positions", loss_positions * scores, self.coefficients.len())?;
        let spans_fit = self.spans.iter().enumerate().all(|(i, s)| {
            let i = i as u32;
            s.prefix_start.checked_add(s.prefix_len).is_some_and(|end| end <= s.own_start)
                && s.own_start <= i
                && i < s.query_end
                && s.query_end as usize <= t
        });
        let lengths_fit = self.positions.len() == t
            && self.spans.len() == t
            && self.losses.len() == self.loss_positions.len()
            && self.loss_positions.windows(2).all(|w| w[0] < w[1]);
        if spans_fit && lengths_fit {
            return Ok(());
        }
        Err(ModelError::Inconsistent(
            "a packed batch whose spans, positions, loss positions and losses do not fit together".into(),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keys that token `t` attends to.
    fn keys(batch: &PackedInputs, t: usize) -> Vec<usize> {
        let span = batch.spans[t];
        let prefix = span.prefix_start..span.prefix_start + span.prefix_len;
        prefix.chain(span.own_start..=t as u32).map(|s| s as usize).collect()
    }

    /// Checks that `query_end`, the attention range seen from the key, agrees with the rest of the span.
    fn check_both_directions(batch: &PackedInputs) {
        for t in 0..batch.ids.len() {
            for s in 0..batch.ids.len() {
                let visible = (s..batch.spans[s].query_end as usize).contains(&t);
                assert_eq!(keys(batch, t).contains(&s), visible, "query {t}, key {s}");
            }
        }
    }

    /// Chains that share a prompt have the same keys and positions as when each is packed with the prompt.
    #[test]
    fn shared_prompts_are_equivalent_to_repeated_ones() {
        for prompt in [vec![1], vec![1, 2, 3]] {
            let chains: [&[u32]; 3] = [&[10, 11], &[], &[12, 13, 14]];
            let (mut shared, mut repeated) = (PackedInputs::default(), PackedInputs::default());
            shared.push(&[4, 5, 6]);
            let heads = shared.push_shared(&prompt, &chains);
            check_both_directions(&shared);
            let keys_and_positions = |batch: &PackedInputs, t: usize| -> Vec<(u32, u32)> {
                keys(batch, t).into_iter().map(|s| (batch.ids[s], batch.positions[s])).collect()
            };
            for (chain, head) in chains.iter().zip(heads) {
                let start = repeated.push(&[&prompt[..], chain].concat()) as usize + prompt.len() - 1;
                for j in 0..=chain.len() {
                    let expected = keys_and_positions(&repeated, start + j);
                    assert_eq!(keys_and_positions(&shared, head as usize + j), expected);
                }
            }
            check_both_directions(&repeated);
        }
        assert!(PackedInputs::default().push_shared(&[], &[&[1]]).is_empty());
    }
}
