//! Packed batches: token ids, positions and spans of several sequences laid end to end, without padding.

use super::Error;
use super::attention::{Layout, Span};

/// Sequences concatenated to T tokens. All three are `[T]`; for spans see [`super::attention`].
#[derive(Clone, Debug, Default)]
pub struct Batch {
    pub ids: Vec<u32>,
    pub positions: Vec<u32>,
    pub spans: Vec<Span>,
}

impl Batch {
    /// Independent sequences, one after another.
    pub fn packed(sequences: &[&[u32]]) -> Self {
        let mut batch = Batch::default();
        sequences.iter().for_each(|s| batch.push_sequence(s));
        batch
    }

    /// One prompt, stored once, followed by its continuations; each continuation sees the prompt and itself.
    pub fn shared_prefix(prompt: &[u32], chains: &[&[u32]]) -> Self {
        let mut batch = Batch::default();
        batch.push_group(prompt, chains);
        batch
    }

    /// Appends an independent sequence.
    pub fn push_sequence(&mut self, ids: &[u32]) {
        self.push_group(ids, &[]);
    }

    /// Appends a prompt and its continuations. A continuation's positions go on where the prompt's end.
    pub fn push_group(&mut self, prompt: &[u32], chains: &[&[u32]]) {
        let start = self.ids.len() as u32;
        let prompt_len = prompt.len() as u32;
        let chains_len: usize = chains.iter().map(|c| c.len()).sum();
        // The prompt's keys are read until the end of the last chain.
        let group_end = start + prompt_len + chains_len as u32;
        self.push(prompt, 0, [start, 0, start, group_end]);
        for chain in chains {
            let own = self.ids.len() as u32;
            self.push(chain, prompt_len, [start, prompt_len, own, own + chain.len() as u32]);
        }
    }

    fn push(&mut self, ids: &[u32], first_position: u32, span: Span) {
        self.ids.extend(ids);
        self.positions.extend(first_position..first_position + ids.len() as u32);
        self.spans.extend(std::iter::repeat_n(span, ids.len()));
    }

    /// Number of tokens T.
    pub fn tokens(&self) -> usize {
        self.ids.len()
    }

    /// What attention needs to know.
    pub fn layout(&self) -> Layout<'_> {
        Layout { positions: &self.positions, spans: &self.spans }
    }

    /// Ids inside the vocabulary, one position and one span a token, and no span that looks ahead of its token.
    pub fn check(&self, vocab: usize) -> Result<(), Error> {
        let tokens = self.tokens();
        if self.positions.len() != tokens || self.spans.len() != tokens {
            let (p, s) = (self.positions.len(), self.spans.len());
            return Err(Error::Batch(format!("{tokens} ids, {p} positions and {s} spans; expected one of each a token")));
        }
        for (index, &id) in self.ids.iter().enumerate() {
            if id as usize >= vocab {
                return Err(Error::TokenId { index, id, vocab });
            }
            let [prefix_start, prefix_len, own_start, query_end] = self.spans[index].map(|x| x as usize);
            let ordered =
                prefix_start + prefix_len <= own_start && own_start <= index && index < query_end && query_end <= tokens;
            if !ordered {
                let span = self.spans[index];
                return Err(Error::Batch(format!(
                    "the span {span:?} of token {index} must have prefix_start + prefix_len <= own_start <= {index} < query_end \
                     <= {tokens}"
                )));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_of_a_group_between_sequences() {
        let mut batch = Batch::packed(&[&[9, 9]]);
        batch.push_group(&[1, 2], &[&[3], &[4, 5]]);
        batch.push_sequence(&[6]);
        assert_eq!(batch.ids, [9, 9, 1, 2, 3, 4, 5, 6]);
        assert_eq!(batch.positions, [0, 1, 0, 1, 2, 2, 3, 0]);
        let [sequence, prompt, last] = [[0, 0, 0, 2], [2, 0, 2, 7], [7, 0, 7, 8]];
        assert_eq!(batch.spans, [sequence, sequence, prompt, prompt, [2, 2, 4, 5], [2, 2, 5, 7], [2, 2, 5, 7], last]);
        batch.check(10).unwrap();
    }

    #[test]
    fn bad_batches_are_refused() {
        let good = Batch::packed(&[&[1, 2, 3]]);
        assert!(matches!(good.check(3), Err(Error::TokenId { index: 2, id: 3, vocab: 3 })));
        let mut short = good.clone();
        short.positions.pop();
        assert!(matches!(short.check(9), Err(Error::Batch(_))));
        for span in [[0, 0, 2, 3], [0, 2, 1, 3], [0, 0, 0, 1], [0, 0, 0, 4]] {
            let mut bad = good.clone();
            bad.spans[1] = span;
            assert!(matches!(bad.check(9), Err(Error::Batch(_))), "{span:?}");
        }
    }
}
