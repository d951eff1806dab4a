//! Where chains and their scores lie in a packed batch. Only this file decides which token sees which.
//!
//! A *branch* is the part of a score's tokens that must be fed to read its last token ([`ScoreTokens::branches`]).
//!
//! ```text
//! the score reads the prompt    prompt ─┬ chain 1, phrase, branch          the prompt is computed once
//!                                       └ chain 2, phrase, branch
//!   scores of several branches  prompt, chain, phrase ─┬ branch 1          the chain is computed once
//!                                                      └ branch 2
//!   rows that begin alike       beginning ─┬ rest 1, branch                the beginning is computed once
//!                                          └ rest 2, branch
//! the score reads the chain     prompt ─┬ chain 1, phrase                  for the chain's own tokens
//!                                       └ chain 2, phrase
//!                               first token, chain 1, phrase ─ branch      for its score: the prompt is hidden
//!                               first token, chain 2, phrase ─ branch
//! ```

use super::ScoreTokens;
use crate::model::decoder::{PackedInputs, TokenStats};

words! {
    /// Which tokens the score is read from.
    #[derive(Default)]
    pub enum ScoreReads {
        /// Prompt and chain, as usual for a language model.
        #[default]
        Prompt = "prompt",
        /// The chain alone. It is computed once more without the prompt, so that only its tokens can determine the score.
        /// The prompt's first token stays, because many models rely on it (BOS).
        Chain = "chain",
    }
}

/// How prompts, continuations and scores are laid into batches. A continuation is a chain (if any) and the phrase.
#[derive(Clone, Copy, Debug)]
pub struct BatchLayout<'a> {
    pub tokens: &'a ScoreTokens,
    pub reads: ScoreReads,
}

/// Where one continuation lies in a batch: indices of the batch's tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompletionSpans {
    /// The prompt's first token. The prompt's other tokens follow it, except for the last, which may be repeated elsewhere.
    pub prompt: u32,
    /// For each token of the continuation, the token that predicts it.
    pub predictors: Vec<u32>,
    /// For each node of [`ScoreTokens`], the token that predicts the score's next token there.
    pub score_nodes: Vec<u32>,
}

impl BatchLayout<'_> {
    /// Batch tokens of a prompt with continuations of these lengths.
    pub fn size(&self, prompt: usize, continuations: impl Iterator<Item = usize>) -> usize {
        let branches = self.tokens.branches();
        let branch_tokens = || branches.iter().map(|b| b.len() + 1).sum::<usize>();
        match (self.reads, branches) {
            (ScoreReads::Prompt, [only]) => prompt + continuations.map(|n| n + only.len() + 1).sum::<usize>(),
            (ScoreReads::Prompt, _) => continuations.map(|n| prompt + n + branch_tokens()).sum(),
            (ScoreReads::Chain, _) => prompt + continuations.map(|n| n + 1 + n + 1 + branch_tokens()).sum::<usize>(),
        }
    }

    /// Positions of the longest sequence of a prompt and a continuation of these lengths.
    pub fn depth(&self, prompt: usize, continuation: usize) -> usize {
        prompt + continuation + self.tokens.branches().iter().map(Vec::len).max().unwrap_or(0)
    }

    /// Appends a prompt and its continuations to the batch. The caller pushes the loss positions, in any order, and sorts
    /// them at the end.
    pub fn push(&self, batch: &mut PackedInputs, prompt: &[u32], continuations: &[&[u32]]) -> Vec<CompletionSpans> {
        let branches = self.tokens.branches();
        let start = batch.ids.len() as u32;
        let predictors = |head: u32, continuation: &[u32]| (0..continuation.len() as u32).map(|j| head + j).collect();
        match (self.reads, branches) {
            (ScoreReads::Prompt, [only]) => {
                let with_branch: Vec<Vec<u32>> = continuations.iter().map(|c| [c, &only[..]].concat()).collect();
                let slices: Vec<&[u32]> = with_branch.iter().map(Vec::as_slice).collect();
                let heads = match slices[..] {
                    // A single continuation shares its prompt with no other: a plain sequence.
                    [single] => vec![batch.push(&[prompt, single].concat()) + prompt.len() as u32 - 1],
                    _ => batch.push_shared(prompt, &slices),
                };
                let spans = |(head, continuation): (u32, &&[u32])| CompletionSpans {
                    prompt: start,
                    predictors: predictors(head, continuation),
                    score_nodes: self.tokens.nodes().map(|(_, depth)| head + (continuation.len() + depth) as u32).collect(),
                };
                heads.into_iter().zip(continuations).map(spans).collect()
            }
            (ScoreReads::Prompt, _) => continuations.iter().map(|c| self.push_tree(batch, prompt, c)).collect(),
            (ScoreReads::Chain, _) => {
                let heads = batch.push_shared(prompt, continuations);
                let first = &prompt[..prompt.len().min(1)];
                let spans = |(head, continuation): (u32, &&[u32])| {
                    let score_nodes = self.push_tree(batch, first, continuation).score_nodes;
                    CompletionSpans { prompt: start, predictors: predictors(head, continuation), score_nodes }
                };
                heads.into_iter().zip(continuations).map(spans).collect()
            }
        }
    }

    /// Batch tokens of [`BatchLayout::push_alike`] for rows of these lengths in tokens, prompt and continuation together.
    pub fn size_alike(&self, shared: usize, rows: impl Iterator<Item = usize>) -> usize {
        let branches = self.tokens.branches();
        let of_row = |row: usize| branches.iter().map(|b| row - shared + b.len()).sum::<usize>();
        shared + rows.map(of_row).sum::<usize>()
    }

    /// Appends rows whose first `shared` tokens are the same, each a prompt and its continuation. Of a row at least the last
    /// token is its own. For scores that read the prompt.
    pub fn push_alike(&self, batch: &mut PackedInputs, shared: usize, rows: &[[&[u32]; 2]]) -> Vec<CompletionSpans> {
        let branches = self.tokens.branches();
        let sequences: Vec<Vec<u32>> = rows.iter().map(|row| row.concat()).collect();
        let suffixes: Vec<Vec<u32>> =
            sequences.iter().flat_map(|s| branches.iter().map(|branch| [&s[shared..], branch].concat())).collect();
        let start = batch.ids.len();
        let heads = batch.push_suffixes(sequences.first().map_or(&[], |s| &s[..shared]), &suffixes);
        let spans = |(row, heads): (usize, &[u32])| {
            let (prompt, sequence) = (rows[row][0], &sequences[row]);
            let in_suffix = |head: u32, position: usize| head + (position - shared) as u32;
            let token_at = |position: usize| match position < shared {
                true => (start + position) as u32,
                false => in_suffix(heads[0], position),
            };
            let node = |(branch, depth): (usize, usize)| in_suffix(heads[branch], sequence.len() - 1 + depth);
            CompletionSpans {
                prompt: start as u32,
                predictors: (prompt.len() - 1..sequence.len() - 1).map(token_at).collect(),
                score_nodes: self.tokens.nodes().map(node).collect(),
            }
        };
        heads.chunks(branches.len()).enumerate().map(spans).collect()
    }

    /// Appends one continuation after its own copy of the prompt, followed by all branches of the scores.
    fn push_tree(&self, batch: &mut PackedInputs, prompt: &[u32], continuation: &[u32]) -> CompletionSpans {
        let start = batch.ids.len() as u32;
        let sequence = [prompt, continuation].concat();
        let branches: Vec<&[u32]> = self.tokens.branches().iter().map(Vec::as_slice).collect();
        let heads = batch.push_shared(&sequence, &branches);
        // The last token is repeated at the head of each branch. All repetitions are equal, so the first serves.
        let last = sequence.len() as u32 - 1;
        let token_at = |position: u32| if position < last { start + position } else { heads[0] };
        let first = prompt.len() as u32 - 1;
        CompletionSpans {
            prompt: start,
            predictors: (0..continuation.len() as u32).map(|j| token_at(first + j)).collect(),
            score_nodes: self.tokens.nodes().map(|(branch, depth)| heads[branch] + depth as u32).collect(),
        }
    }

    /// Log-probabilities of the scores of one continuation, `[scores]`. `stats` are those of the batch's loss positions, which
    /// include all score nodes.
    pub fn log_probs(&self, spans: &CompletionSpans, batch: &PackedInputs, stats: &[TokenStats]) -> Vec<f64> {
        self.tokens.log_probs(|node| match batch.loss_at(spans.score_nodes[node]) {
            Some(row) => &stats[row].score_log_probs,
            None => &[],
        })
    }

    /// Pushes the loss of a continuation's score nodes. `coefficients` are `-∂loss/∂log p` of each score, `[scores]`.
    pub fn push_scores(&self, spans: &CompletionSpans, batch: &mut PackedInputs, coefficients: &[f64]) {
        for (node, of_tokens) in spans.score_nodes.iter().zip(self.tokens.coefficients(coefficients)) {
            batch.push_scores(*node, &of_tokens);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tokens that token number `token` sees, in order of position.
    fn seen(batch: &PackedInputs, token: u32) -> Vec<u32> {
        let span = batch.spans[token as usize];
        (span.prefix_start..span.prefix_start + span.prefix_len)
            .chain(span.own_start..=token)
            .map(|t| batch.ids[t as usize])
            .collect()
    }

    fn check(tokens: &ScoreTokens, reads: ScoreReads, prompt: &[u32], chains: &[&[u32]]) {
        let layout = BatchLayout { tokens, reads };
        let mut batch = PackedInputs::default();
        batch.push(&[90, 91]);
        let spans = layout.push(&mut batch, prompt, chains);
        assert!(batch.ids.len() - 2 <= layout.size(prompt.len(), chains.iter().map(|c| c.len())));
        for (spans, chain) in spans.iter().zip(chains) {
            for (j, predictor) in spans.predictors.iter().enumerate() {
                assert_eq!(seen(&batch, *predictor), [prompt, &chain[..j]].concat(), "before token {j}");
            }
            let text = match reads {
                ScoreReads::Prompt => [prompt, chain].concat(),
                ScoreReads::Chain => [&prompt[..1], chain].concat(),
            };
            for (node, (branch, depth)) in spans.score_nodes.iter().zip(tokens.nodes()) {
                let path = &tokens.branches()[branch][..depth];
                assert_eq!(seen(&batch, *node), [&text, path].concat(), "node after {path:?}");
                assert!(batch.positions[*node as usize] < layout.depth(prompt.len(), chain.len()) as u32);
            }
        }
    }

    #[test]
    fn rows_that_begin_alike_see_the_same_tokens_as_alone() {
        let new =
            |paths: &[&[u32]]| ScoreTokens::new(paths.iter().map(|p| p.to_vec()).collect(), Some(50), vec![7], vec![7]).unwrap();
        let rows: [[&[u32]; 2]; 3] = [[&[60, 61, 62], &[7]], [&[60, 61, 63, 64], &[10, 7]], [&[60, 61], &[7]]];
        for tokens in [new(&[&[1], &[2]]), new(&[&[1, 4], &[1, 5], &[2]]), new(&[&[1, 4], &[2, 4], &[2, 5]])] {
            let layout = BatchLayout { tokens: &tokens, reads: ScoreReads::Prompt };
            for shared in 0..=2 {
                let mut batch = PackedInputs::default();
                batch.push(&[90, 91]);
                let spans = layout.push_alike(&mut batch, shared, &rows);
                assert_eq!(batch.ids.len() - 2, layout.size_alike(shared, rows.iter().map(|r| r.concat().len())));
                for (spans, [prompt, continuation]) in spans.iter().zip(rows) {
                    for (j, predictor) in spans.predictors.iter().enumerate() {
                        assert_eq!(seen(&batch, *predictor), [prompt, &continuation[..j]].concat(), "before token {j}");
                    }
                    for (node, (branch, depth)) in spans.score_nodes.iter().zip(tokens.nodes()) {
                        let path = &tokens.branches()[branch][..depth];
                        assert_eq!(seen(&batch, *node), [prompt, continuation, path].concat(), "node after {path:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn predictors_see_the_prompt_and_score_nodes_see_what_the_score_reads() {
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
