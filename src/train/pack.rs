//! Packed batches: sequences of different length laid end to end, with no padding, as the decoder reads them.
//!
//! Every token has a *span* `[prefix_start, prefix_len, own_start, query_end]`: token `t` attends to the keys in
//! `prefix_start..prefix_start + prefix_len` and in `own_start..=t`; as a key it is seen by the queries in `t..query_end`.
//!
//! A plain sequence has no prefix. A group of chains from one prompt shares it:
//!
//! ```text
//! prompt   a b c          prefix     chain 1      chain 2
//! chain 1  x y            a b        c x y        c z
//! chain 2  z     tokens   0 1        2 3 4        5 6      positions 0 1 | 2 3 4 | 2 3
//! ```
//!
//! The prompt's last token is repeated at the head of each chain: its logits predict a different next token in each, so
//! it carries loss in each, and no two loss rows ever share a row of hidden states.

use super::TrainError;

/// What a loss row teaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowKind {
    /// A token of text.
    Token,
    /// The score.
    Score,
}

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
    pub kind: RowKind,
    pub split: Split,
    /// The human score for a score row, 0 for a token.
    pub label: f32,
    /// Weight of this row in the loss.
    pub weight: f32,
}

/// One sequence that is trained on by itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Example {
    /// Tokens that are fed.
    pub tokens: Vec<u32>,
    /// How many of them are the prompt.
    pub prompt_len: usize,
    pub targets: Vec<Target>,
}

/// Where an example's score is, and what it should be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScoreTarget {
    /// Index of the score token in the example.
    pub position: usize,
    pub split: Split,
    pub label: f32,
}

impl Example {
    /// A supervised example: `tokens` is the prompt and the judgement to be learned, score included. Every token from
    /// `prompt_len` on is a target (every token but the first, unless `completion_only`), each with weight 1; the last
    /// one is not fed. Fails with the reason when there is nothing to learn or the score is outside the judgement.
    pub fn supervised(
        mut tokens: Vec<u32>,
        prompt_len: usize,
        score: Option<ScoreTarget>,
        completion_only: bool,
    ) -> Result<Example, String> {
        if prompt_len == 0 {
            return Err("the prompt is empty: a first token cannot be predicted".into());
        }
        if prompt_len >= tokens.len() {
            return Err(format!("the prompt has {prompt_len} of {} tokens: nothing is left to learn", tokens.len()));
        }
        if let Some(score) = score.filter(|score| !(prompt_len..tokens.len()).contains(&score.position)) {
            return Err(format!(
                "the score is at token {}, outside the judgement {prompt_len}..{}",
                score.position,
                tokens.len()
            ));
        }
        let start = if completion_only { prompt_len } else { 1 };
        let target = |position: usize| match score.filter(|score| score.position == position) {
            Some(ScoreTarget { split, label, .. }) => Target { position, kind: RowKind::Score, split, label, weight: 1.0 },
            None => Target { position, kind: RowKind::Token, split: Split::one(tokens[position]), label: 0.0, weight: 1.0 },
        };
        let targets = (start..tokens.len()).map(target).collect();
        tokens.pop();
        Ok(Example { tokens, prompt_len, targets })
    }
}

/// A prompt and several chains from it.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    pub prompt: Vec<u32>,
    pub chains: Vec<Chain>,
}

/// What follows a prompt. Target positions are counted from the prompt's first token.
#[derive(Clone, Debug, PartialEq)]
pub struct Chain {
    pub tokens: Vec<u32>,
    pub targets: Vec<Target>,
}

/// A row of logits that carries loss.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LossRow {
    /// Row of hidden states, 0..T. Rows increase strictly within a batch.
    pub row: u32,
    pub kind: RowKind,
    pub split: Split,
    pub label: f32,
    pub weight: f32,
    /// Index into [`PackedBatch::sequences`].
    pub sequence: u32,
}

/// A run of tokens in the batch that belongs together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sequence {
    /// First token in the batch.
    pub start: u32,
    pub len: u32,
    /// Index of the example or group in the caller's list.
    pub source: u32,
    /// Index of the chain in its group; `None` for an example and for a group's shared prefix.
    pub chain: Option<u32>,
}

/// Sequences laid end to end: T tokens in all.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PackedBatch {
    /// `[T]` token ids.
    pub ids: Vec<u32>,
    /// `[T]` position of each token in its sequence, prefix included.
    pub positions: Vec<u32>,
    /// `[T]` of `[prefix_start, prefix_len, own_start, query_end]`.
    pub spans: Vec<[u32; 4]>,
    pub loss_rows: Vec<LossRow>,
    pub sequences: Vec<Sequence>,
}

/// What a batch may hold.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most tokens in the batch.
    pub tokens: usize,
    /// Token ids must be below this: shaders do not check.
    pub vocab: u32,
}

/// Packs examples, each by itself.
pub fn pack(examples: &[Example], limits: Limits) -> Result<PackedBatch, TrainError> {
    check_budget(examples.iter().map(|e| e.tokens.len()).sum(), limits)?;
    let mut batch = PackedBatch::default();
    for (source, example) in examples.iter().enumerate() {
        let fault = |problem| TrainError::Example { example: source, problem };
        let start = batch.ids.len();
        let end = start + example.tokens.len();
        let span = [start as u32, 0, start as u32, end as u32];
        batch.push_tokens(&example.tokens, 0, span, limits.vocab).map_err(fault)?;
        batch.push_sequence(start, source, None);
        batch.push_targets(&example.targets, 0, limits.vocab).map_err(fault)?;
    }
    Ok(batch)
}

/// Packs groups, each prompt once, followed by its chains (see the module's picture).
pub fn pack_groups(groups: &[Group], limits: Limits) -> Result<PackedBatch, TrainError> {
    check_budget(groups.iter().map(group_tokens).sum(), limits)?;
    let mut batch = PackedBatch::default();
    for (source, group) in groups.iter().enumerate() {
        let fault = |problem| TrainError::Example { example: source, problem };
        let Some((&last, prefix)) = group.prompt.split_last() else { return Err(fault("the prompt is empty".into())) };
        let start = batch.ids.len();
        let end = start + group_tokens(group);
        let prefix_len = prefix.len();
        batch.push_tokens(prefix, 0, [start as u32, 0, start as u32, end as u32], limits.vocab).map_err(fault)?;
        if prefix_len > 0 {
            batch.push_sequence(start, source, None);
        }
        for (index, chain) in group.chains.iter().enumerate() {
            let own = batch.ids.len();
            let own_end = own + 1 + chain.tokens.len();
            let span = [start as u32, prefix_len as u32, own as u32, own_end as u32];
            batch.push_tokens(&[last], prefix_len, span, limits.vocab).map_err(fault)?;
            batch.push_tokens(&chain.tokens, prefix_len + 1, span, limits.vocab).map_err(fault)?;
            batch.push_sequence(own, source, Some(index as u32));
            batch.push_targets(&chain.targets, prefix_len, limits.vocab).map_err(fault)?;
        }
    }
    Ok(batch)
}

/// Number of tokens that a group takes in a batch.
pub fn group_tokens(group: &Group) -> usize {
    let chains: usize = group.chains.iter().map(|chain| 1 + chain.tokens.len()).sum();
    group.prompt.len().saturating_sub(1) + chains
}

fn check_budget(needed: usize, limits: Limits) -> Result<(), TrainError> {
    // Spans are u32, whatever was planned.
    let budget = limits.tokens.min(u32::MAX as usize);
    if needed > budget { Err(TrainError::Budget { needed, budget }) } else { Ok(()) }
}

fn check_id(id: u32, vocab: u32) -> Result<(), String> {
    if id < vocab { Ok(()) } else { Err(format!("token id {id} is outside the vocabulary of {vocab}")) }
}

impl PackedBatch {
    /// Number of tokens, T.
    pub fn tokens(&self) -> usize {
        self.ids.len()
    }

    /// Sum of the loss rows' weights: what a mean over targets divides by.
    pub fn weight(&self) -> f64 {
        self.loss_rows.iter().map(|row| f64::from(row.weight)).sum()
    }

    /// Multiplies every weight, for example by 1 / (sum of weights in the whole step).
    pub fn scale_weights(&mut self, factor: f32) {
        self.loss_rows.iter_mut().for_each(|row| row.weight *= factor);
    }

    fn push_tokens(&mut self, tokens: &[u32], first_position: usize, span: [u32; 4], vocab: u32) -> Result<(), String> {
        for (i, &id) in tokens.iter().enumerate() {
            check_id(id, vocab)?;
            self.ids.push(id);
            self.positions.push((first_position + i) as u32);
            self.spans.push(span);
        }
        Ok(())
    }

    /// Closes the sequence that began at token `start`.
    fn push_sequence(&mut self, start: usize, source: usize, chain: Option<u32>) {
        let len = (self.ids.len() - start) as u32;
        self.sequences.push(Sequence { start: start as u32, len, source: source as u32, chain });
    }

    /// Adds the targets of the sequence just closed, whose first token has position `first_position`.
    fn push_targets(&mut self, targets: &[Target], first_position: usize, vocab: u32) -> Result<(), String> {
        let Some(&Sequence { start, len, .. }) = self.sequences.last() else { return Ok(()) };
        let sequence = self.sequences.len() as u32 - 1;
        let allowed = first_position + 1..=first_position + len as usize;
        let mut before = first_position;
        for target in targets {
            let &Target { position, kind, split, label, weight } = target;
            if !allowed.contains(&position) {
                let (low, high) = (allowed.start(), allowed.end());
                return Err(format!("target at token {position}, but only {low} to {high} can be predicted"));
            }
            if position <= before {
                return Err(format!("targets must increase, and {position} follows {before}"));
            }
            check_id(split.first, vocab)?;
            check_id(split.second, vocab)?;
            if !(0.0..=1.0).contains(&split.second_share) || !weight.is_finite() || !label.is_finite() {
                return Err(format!(
                    "target at token {position} has a share outside 0..1, or a weight or label that is not finite"
                ));
            }
            before = position;
            let row = start + (position - 1 - first_position) as u32;
            self.loss_rows.push(LossRow { row, kind, split, label, weight, sequence });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { tokens: 64, vocab: 100 };

    fn token(position: usize, id: u32) -> Target {
        Target { position, kind: RowKind::Token, split: Split::one(id), label: 0.0, weight: 1.0 }
    }

    /// Keys that token `t` attends to.
    fn keys(batch: &PackedBatch, t: usize) -> Vec<usize> {
        let [prefix, prefix_len, own, _] = batch.spans[t].map(|x| x as usize);
        (prefix..prefix + prefix_len).chain(own..=t).collect()
    }

    /// `query_end` says the same as the rest of the span, seen from the key: in `s..query_end` are all queries that see
    /// `s`, and outside of it none.
    fn check_both_directions(batch: &PackedBatch) {
        for t in 0..batch.tokens() {
            for s in 0..batch.tokens() {
                let seen = keys(batch, t).contains(&s);
                let in_reach = (s..batch.spans[s][3] as usize).contains(&t);
                assert_eq!(seen, in_reach, "query {t}, key {s}");
            }
        }
        assert!(batch.loss_rows.windows(2).all(|w| w[0].row < w[1].row));
        assert_eq!(batch.sequences.iter().map(|s| s.len as usize).sum::<usize>(), batch.tokens());
    }

    #[test]
    fn supervised_examples() {
        let split = Split { first: 14, second: 15, second_share: 0.25 };
        let score = ScoreTarget { position: 4, split, label: 4.25 };
        let first = Example::supervised(vec![1, 2, 7, 8, 14], 2, Some(score), true).unwrap();
        assert_eq!(first.tokens, [1, 2, 7, 8]);
        let second = Example::supervised(vec![3, 9], 1, None, true).unwrap();
        let batch = pack(&[first, second], LIMITS).unwrap();
        assert_eq!(batch.ids, [1, 2, 7, 8, 3]);
        assert_eq!(batch.positions, [0, 1, 2, 3, 0]);
        assert_eq!(batch.spans, [[0, 0, 0, 4], [0, 0, 0, 4], [0, 0, 0, 4], [0, 0, 0, 4], [4, 0, 4, 5]]);
        let rows: Vec<(u32, u32, RowKind)> = batch.loss_rows.iter().map(|r| (r.row, r.split.first, r.kind)).collect();
        assert_eq!(rows, [(1, 7, RowKind::Token), (2, 8, RowKind::Token), (3, 14, RowKind::Score), (4, 9, RowKind::Token)]);
        assert_eq!(batch.loss_rows[2], LossRow { row: 3, kind: RowKind::Score, split, label: 4.25, weight: 1.0, sequence: 0 });
        assert_eq!(batch.weight(), 4.0);
        check_both_directions(&batch);
    }

    #[test]
    fn the_whole_text_can_be_learned() {
        let example = Example::supervised(vec![1, 2, 7, 8], 2, None, false).unwrap();
        assert_eq!(example.targets, [token(1, 2), token(2, 7), token(3, 8)]);
    }

    #[test]
    fn a_score_may_come_after_the_last_token_fed() {
        let example = Example { tokens: vec![5], prompt_len: 1, targets: vec![token(1, 9)] };
        let batch = pack(&[example], LIMITS).unwrap();
        assert_eq!((batch.tokens(), batch.loss_rows[0].row), (1, 0));
    }

    /// Chains that share their prompt see, predict and are placed exactly as when each is packed with the prompt.
    #[test]
    fn shared_prompts_mean_the_same_as_repeated_ones() {
        for prompt in [vec![1], vec![1, 2, 3]] {
            let n = prompt.len();
            let chain = |tokens: &[u32]| Chain {
                tokens: tokens.to_vec(),
                targets: tokens.iter().chain([&50]).enumerate().map(|(i, &id)| token(n + i, id)).collect(),
            };
            let group = Group { prompt: prompt.clone(), chains: vec![chain(&[10, 11]), chain(&[]), chain(&[12, 13, 14])] };
            let other = Group { prompt: vec![4, 5], chains: vec![Chain { tokens: vec![6], targets: vec![token(2, 6)] }] };
            let shared = pack_groups(&[other.clone(), group.clone()], LIMITS).unwrap();
            check_both_directions(&shared);
            assert_eq!(shared.tokens(), group_tokens(&group) + group_tokens(&other));

            let alone: Vec<Example> = [&other, &group]
                .into_iter()
                .flat_map(|g| {
                    g.chains.iter().map(|c| Example {
                        tokens: [g.prompt.clone(), c.tokens.clone()].concat(),
                        prompt_len: g.prompt.len(),
                        targets: c.targets.clone(),
                    })
                })
                .collect();
            let repeated = pack(&alone, LIMITS).unwrap();
            let view = |batch: &PackedBatch| -> Vec<_> {
                let seen = |row: u32| -> Vec<(u32, u32)> {
                    keys(batch, row as usize).into_iter().map(|s| (batch.ids[s], batch.positions[s])).collect()
                };
                batch.loss_rows.iter().map(|r| (batch.positions[r.row as usize], seen(r.row), r.split)).collect()
            };
            assert_eq!(view(&shared), view(&repeated));
        }
    }

    #[test]
    fn faults_are_named() {
        let supervised = |tokens: &[u32], n, score| Example::supervised(tokens.to_vec(), n, score, true).unwrap_err();
        assert!(supervised(&[1, 2], 0, None).starts_with("the prompt is empty"));
        assert!(supervised(&[1, 2], 2, None).ends_with("nothing is left to learn"));
        let score = ScoreTarget { position: 3, split: Split::one(1), label: 1.0 };
        assert_eq!(supervised(&[1, 2, 3], 1, Some(score)), "the score is at token 3, outside the judgement 1..3");

        let packed = |tokens: &[u32], targets: Vec<Target>| {
            pack(&[Example { tokens: tokens.to_vec(), prompt_len: 1, targets }], LIMITS).unwrap_err().to_string()
        };
        assert_eq!(packed(&[1, 100], vec![]), "example 0: token id 100 is outside the vocabulary of 100");
        assert_eq!(packed(&[1, 2], vec![token(1, 400)]), "example 0: token id 400 is outside the vocabulary of 100");
        assert_eq!(packed(&[1, 2], vec![token(0, 4)]), "example 0: target at token 0, but only 1 to 2 can be predicted");
        assert_eq!(packed(&[1, 2], vec![token(3, 4)]), "example 0: target at token 3, but only 1 to 2 can be predicted");
        assert_eq!(packed(&[1, 2], vec![token(2, 4), token(2, 4)]), "example 0: targets must increase, and 2 follows 2");
        assert!(packed(&[1, 2], vec![Target { weight: f32::NAN, ..token(1, 4) }]).contains("not finite"));
        assert!(packed(&[0; 65], vec![]).starts_with("the batch needs 65 tokens but 64 were planned"));
        let empty = Group { prompt: vec![], chains: vec![] };
        assert_eq!(pack_groups(&[empty], LIMITS).unwrap_err().to_string(), "example 0: the prompt is empty");
    }
}
