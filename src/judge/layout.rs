//! Where chains and their scores lie in a packed batch: the one place that knows which token sees which.
//!
//! ```text
//! the score reads the prompt    prompt ─┬ chain 1, phrase, beginning of a score      the prompt is computed once
//!                                       └ chain 2, phrase, beginning of a score
//!   scores of many beginnings   prompt, chain, phrase ─┬ beginning 1                 the chain is computed once
//!                                                      └ beginning 2
//! the score reads the chain     prompt ─┬ chain 1, phrase                            for the chain's own tokens
//!                                       └ chain 2, phrase
//!                               first token, chain 1, phrase ─ beginning of a score  for its score: no prompt in sight
//!                               first token, chain 2, phrase ─ beginning of a score
//! ```

use super::ScoreTokens;
use crate::model::decoder::{PackedInputs, TokenStats};

words! {
    /// What the score is read from.
    #[derive(Default)]
    pub enum ScoreReads {
        /// Prompt and chain: as language models do.
        #[default]
        Prompt = "prompt",
        /// The chain alone. It is read once more without the prompt, so that nothing but its tokens can carry the score. The
        /// prompt's first token stays, which many models lean on (BOS).
        Chain = "chain",
    }
}

/// How judgements are laid into batches.
#[derive(Clone, Copy, Debug)]
pub struct BatchLayout<'a> {
    pub tokens: &'a ScoreTokens,
    pub reads: ScoreReads,
}

/// Where one judgement lies: indices of the batch's tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompletionSpans {
    /// The prompt's first token. The others follow it, but for the last, which may be repeated elsewhere.
    pub prompt: u32,
    /// What predicts each token of chain and phrase.
    pub before: Vec<u32>,
    /// What reads each node of the score's tokens.
    pub nodes: Vec<u32>,
}

impl BatchLayout<'_> {
    /// Tokens that a prompt takes with chains and phrases of these lengths.
    pub fn size(&self, prompt: usize, fed: impl Iterator<Item = usize>) -> usize {
        let branches = self.tokens.branches();
        let beginnings = || branches.iter().map(|b| b.len() + 1).sum::<usize>();
        match (self.reads, branches) {
            (ScoreReads::Prompt, [only]) => prompt + fed.map(|n| n + only.len() + 1).sum::<usize>(),
            (ScoreReads::Prompt, _) => fed.map(|n| prompt + n + beginnings()).sum(),
            (ScoreReads::Chain, _) => prompt + fed.map(|n| n + 1 + n + 1 + beginnings()).sum::<usize>(),
        }
    }

    /// The longest sequence that a judgement takes, in positions.
    pub fn depth(&self, prompt: usize, fed: usize) -> usize {
        prompt + fed + self.tokens.branches().iter().map(Vec::len).max().unwrap_or(0)
    }

    /// Lays a prompt with its chains (phrase included) into the batch. Rows are the caller's to push, in any order, and to
    /// sort at the end.
    pub fn lay(&self, batch: &mut PackedInputs, prompt: &[u32], chains: &[&[u32]]) -> Vec<CompletionSpans> {
        let branches = self.tokens.branches();
        let start = batch.ids.len() as u32;
        let at = |depth: usize, head: u32| head + depth as u32;
        match (self.reads, branches) {
            (ScoreReads::Prompt, [only]) => {
                let whole: Vec<Vec<u32>> = chains.iter().map(|c| [c, &only[..]].concat()).collect();
                let slices: Vec<&[u32]> = whole.iter().map(Vec::as_slice).collect();
                let heads = match slices[..] {
                    // Nobody to share with: one plain sequence.
                    [alone] => vec![batch.push(&[prompt, alone].concat()) + prompt.len() as u32 - 1],
                    _ => batch.push_shared(prompt, &slices),
                };
                let spans = |(head, chain): (u32, &&[u32])| CompletionSpans {
                    prompt: start,
                    before: (0..chain.len()).map(|j| at(j, head)).collect(),
                    nodes: self.tokens.places().map(|(_, depth)| at(chain.len() + depth, head)).collect(),
                };
                heads.into_iter().zip(chains).map(spans).collect()
            }
            (ScoreReads::Prompt, _) => chains.iter().map(|chain| self.lay_tree(batch, prompt, chain)).collect(),
            (ScoreReads::Chain, _) => {
                let heads = batch.push_shared(prompt, chains);
                let first = &prompt[..prompt.len().min(1)];
                let spans = |(head, chain): (u32, &&[u32])| {
                    let nodes = self.lay_tree(batch, first, chain).nodes;
                    CompletionSpans { prompt: start, before: (0..chain.len()).map(|j| at(j, head)).collect(), nodes }
                };
                heads.into_iter().zip(chains).map(spans).collect()
            }
        }
    }

    /// One chain behind its own copy of the prompt, with all beginnings of scores behind it.
    fn lay_tree(&self, batch: &mut PackedInputs, prompt: &[u32], chain: &[u32]) -> CompletionSpans {
        let start = batch.ids.len() as u32;
        let whole = [prompt, chain].concat();
        let slices: Vec<&[u32]> = self.tokens.branches().iter().map(Vec::as_slice).collect();
        let heads = batch.push_shared(&whole, &slices);
        // The last token is repeated at the head of each branch; where it is read does not matter, so at the first.
        let last = whole.len() as u32 - 1;
        let row = |position: u32| if position < last { start + position } else { heads[0] };
        let first = prompt.len() as u32 - 1;
        CompletionSpans {
            prompt: start,
            before: (0..chain.len() as u32).map(|j| row(first + j)).collect(),
            nodes: self.tokens.places().map(|(branch, depth)| heads[branch] + depth as u32).collect(),
        }
    }

    /// Log-probabilities of the scores of a judgement, out of the statistics of the batch's rows, all its nodes among them.
    pub fn log_probs(&self, spans: &CompletionSpans, batch: &PackedInputs, stats: &[TokenStats]) -> Vec<f64> {
        self.tokens.log_probs(|node| match batch.row_at(spans.nodes[node]) {
            Some(row) => &stats[row].score_log_probs,
            None => &[],
        })
    }

    /// Pushes the rows that read a judgement's score, with what its loss says of each score (`-∂loss/∂log p`, `[K]`).
    pub fn push_scores(&self, spans: &CompletionSpans, batch: &mut PackedInputs, coefficients: &[f64]) {
        for (node, of_tokens) in spans.nodes.iter().zip(self.tokens.coefficients(coefficients)) {
            batch.push_scores(*node, &of_tokens);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tokens that `row` sees, in order of position.
    fn seen(batch: &PackedInputs, row: u32) -> Vec<u32> {
        let span = batch.spans[row as usize];
        (span.prefix_start..span.prefix_start + span.prefix_len)
            .chain(span.own_start..=row)
            .map(|t| batch.ids[t as usize])
            .collect()
    }

    fn check(tokens: &ScoreTokens, reads: ScoreReads, prompt: &[u32], chains: &[&[u32]]) {
        let layout = BatchLayout { tokens, reads };
        let mut batch = PackedInputs::default();
        batch.push(&[90, 91]);
        let spans = layout.lay(&mut batch, prompt, chains);
        assert!(batch.ids.len() - 2 <= layout.size(prompt.len(), chains.iter().map(|c| c.len())));
        for (spans, chain) in spans.iter().zip(chains) {
            for (j, row) in spans.before.iter().enumerate() {
                assert_eq!(seen(&batch, *row), [prompt, &chain[..j]].concat(), "before token {j}");
            }
            let text = match reads {
                ScoreReads::Prompt => [prompt, chain].concat(),
                ScoreReads::Chain => [&prompt[..1], chain].concat(),
            };
            for (row, (branch, depth)) in spans.nodes.iter().zip(tokens.places()) {
                let fed = &tokens.branches()[branch][..depth];
                assert_eq!(seen(&batch, *row), [&text, fed].concat(), "node behind {fed:?}");
                assert!(batch.positions[*row as usize] < layout.depth(prompt.len(), chain.len()) as u32);
            }
        }
    }

    #[test]
    fn every_row_sees_what_it_should() {
        let new =
            |paths: &[&[u32]]| ScoreTokens::new(paths.iter().map(|p| p.to_vec()).collect(), Some(50), vec![7], vec![7]).unwrap();
        let single = new(&[&[1], &[2], &[3]]);
        let chained = new(&[&[1, 4], &[1, 5], &[2]]);
        let many = new(&[&[1], &[1, 0], &[2]]);
        for tokens in [single, chained, many] {
            for reads in [ScoreReads::Prompt, ScoreReads::Chain] {
                for prompt in [&[60, 61, 62][..], &[60]] {
                    check(&tokens, reads, prompt, &[&[10, 11, 7], &[7], &[12, 7]]);
                    check(&tokens, reads, prompt, &[&[10, 11, 7]]);
                    check(&tokens, reads, prompt, &[&[]]);
                }
            }
        }
    }
}
