//! Supervised examples: a sequence and the targets in it, laid end to end as a packed batch with no padding.
//!
//! The batch itself, its positions and its spans are `model::decoder::PackedInputs`; this file says which rows carry loss.

use super::TrainError;
use crate::model::decoder::PackedInputs;
use crate::ops::loss_head::RowObjective;

/// A target spread over two tokens: `1 - second_share` on `first`, `second_share` on `second`. A label between two
/// scores of the scale is split linearly over both; for everything else the share is 0 and `second` equals `first`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Split {
    pub first: u32,
    pub second: u32,
    pub second_share: f32,
}

impl Split {
    /// All on one token.
    pub fn one(token: u32) -> Self {
        Split { first: token, second: token, second_share: 0.0 }
    }
}

/// A place of an example whose token is to be learned.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Target {
    /// Index of the token, counted from the example's first one; at least 1. It is predicted from `position - 1`, so the
    /// token itself need not be fed: `position` may be the number of tokens.
    pub position: usize,
    pub split: Split,
}

/// One sequence that is trained on by itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Example {
    /// Tokens that are fed.
    pub tokens: Vec<u32>,
    /// In increasing order of position.
    pub targets: Vec<Target>,
}

impl Example {
    /// `tokens` is the prompt and the judgement to be learned, the score at `score.0` included, where the target is spread
    /// as `score.1` says. Every token from `prompt_len` on is a target (every token but the first, unless
    /// `completion_only`); the last one is not fed. Fails with the reason when there is nothing to learn or the score is
    /// outside the judgement.
    pub fn supervised(
        mut tokens: Vec<u32>,
        prompt_len: usize,
        score: Option<(usize, Split)>,
        completion_only: bool,
    ) -> Result<Example, String> {
        if prompt_len == 0 {
            return Err("the prompt is empty: a first token cannot be predicted".into());
        }
        if prompt_len >= tokens.len() {
            return Err(format!("the prompt has {prompt_len} of {} tokens: nothing is left to learn", tokens.len()));
        }
        if let Some((at, _)) = score.filter(|(at, _)| !(prompt_len..tokens.len()).contains(at)) {
            return Err(format!("the score is at token {at}, outside the judgement {prompt_len}..{}", tokens.len()));
        }
        let start = if completion_only { prompt_len } else { 1 };
        let split = |position: usize| match score.filter(|(at, _)| *at == position) {
            Some((_, split)) => split,
            None => Split::one(tokens[position]),
        };
        let targets = (start..tokens.len()).map(|position| Target { position, split: split(position) }).collect();
        tokens.pop();
        Ok(Example { tokens, targets })
    }
}

/// Packs examples, each by itself, with cross-entropy of weight `weight` at every target.
///
/// # Errors
/// More tokens than `budget`. Ids and rows are checked by the pass that runs the batch.
pub fn pack(examples: &[&Example], weight: f32, budget: usize) -> Result<PackedInputs, TrainError> {
    let needed = examples.iter().map(|e| e.tokens.len()).sum();
    if needed > budget {
        return Err(TrainError::Budget { needed, budget });
    }
    let mut batch = PackedInputs::default();
    for example in examples {
        let start = batch.push(&example.tokens);
        for Target { position, split } in &example.targets {
            let objective = RowObjective {
                a: split.first,
                b: split.second,
                weight_a: weight * (1.0 - split.second_share),
                weight_b: weight * split.second_share,
                ..RowObjective::default()
            };
            batch.push_row(start + *position as u32 - 1, objective);
        }
    }
    Ok(batch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn supervised_examples() {
        let split = Split { first: 14, second: 15, second_share: 0.25 };
        let first = Example::supervised(vec![1, 2, 7, 8, 14], 2, Some((4, split)), true).unwrap();
        assert_eq!(first.tokens, [1, 2, 7, 8]);
        let second = Example::supervised(vec![3, 9], 1, None, true).unwrap();
        let batch = pack(&[&first, &second], 0.5, 5).unwrap();
        assert_eq!(batch.ids, [1, 2, 7, 8, 3]);
        assert_eq!(batch.positions, [0, 1, 2, 3, 0]);
        assert_eq!(batch.spans, [[0, 0, 0, 4], [0, 0, 0, 4], [0, 0, 0, 4], [0, 0, 0, 4], [4, 0, 4, 5]]);
        assert_eq!(batch.rows, [1, 2, 3, 4]);
        let objective = |o: &RowObjective| (o.a, o.b, o.weight_a, o.weight_b);
        let objectives: Vec<_> = batch.objectives.iter().map(objective).collect();
        assert_eq!(objectives, [(7, 7, 0.5, 0.0), (8, 8, 0.5, 0.0), (14, 15, 0.375, 0.125), (9, 9, 0.5, 0.0)]);
        assert!(pack(&[&first, &second], 0.5, 4).unwrap_err().to_string().starts_with("the batch needs 5 tokens but 4 were"));
    }

    #[test]
    fn the_whole_text_can_be_learned() {
        let example = Example::supervised(vec![1, 2, 7, 8], 2, None, false).unwrap();
        let targets: Vec<(usize, u32)> = example.targets.iter().map(|t| (t.position, t.split.first)).collect();
        assert_eq!(targets, [(1, 2), (2, 7), (3, 8)]);
    }

    #[test]
    fn faults_are_named() {
        let supervised = |tokens: &[u32], n, score| Example::supervised(tokens.to_vec(), n, score, true).unwrap_err();
        assert!(supervised(&[1, 2], 0, None).starts_with("the prompt is empty"));
        assert!(supervised(&[1, 2], 2, None).ends_with("nothing is left to learn"));
        let score = Some((3, Split::one(1)));
        assert_eq!(supervised(&[1, 2, 3], 1, score), "the score is at token 3, outside the judgement 1..3");
    }
}
