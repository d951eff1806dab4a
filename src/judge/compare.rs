//! Compares two judges that share tokenizer and settings: how much quantising the weights has changed the scores.

use super::{Judge, Result, ScoreOptions};
use crate::data::Example;
use crate::model::decoder::{LogitsPass, PackedInputs};

/// Bytes that the logits of one pass may take.
const LOGITS_BYTES: usize = 32 << 20;

/// The scores of two judges on the same rows. Both read the chains that the first one wrote greedily.
#[derive(Clone, Debug, Default)]
pub struct JudgeComparison {
    /// Expected scores of the rows that both could score: the first judge's and the second's.
    pub scores: Vec<[f64; 2]>,
    /// Positions of chains, phrases and scores at which the judges' most likely tokens were compared.
    pub positions: usize,
    /// At how many of them both judges have the same most likely token.
    pub agreeing: usize,
}

impl JudgeComparison {
    /// The largest difference between the two expected scores of a row.
    pub fn largest_difference(&self) -> f64 {
        self.scores.iter().map(|[a, b]| (a - b).abs()).fold(0.0, f64::max)
    }
}

/// Scores `examples` with `first`, then scores its chains with both judges.
///
/// # Errors
/// What the GPU reports. Rows that cannot be scored are left out.
pub async fn compare(first: &Judge, second: &Judge, examples: &[Example]) -> Result<JudgeComparison> {
    let chain = first.settings().chain;
    let written = first.judge(examples, &ScoreOptions::default(), ()).await?;
    let with_chain = |(example, scored): (&Example, &super::ScoredRow)| {
        let mut example = example.clone();
        example.record.chain = chain.then(|| scored.chains.first().cloned()).flatten();
        example
    };
    let has_score = |(_, scored): &(&Example, &super::ScoredRow)| scored.prediction.is_some();
    let rows: Vec<Example> = examples.iter().zip(&written).filter(has_score).map(with_chain).collect();
    let options = ScoreOptions { given_chains: chain, ..ScoreOptions::default() };
    let scored = [first.judge(&rows, &options, ()).await?, second.judge(&rows, &options, ()).await?];
    let mut comparison = JudgeComparison::default();
    let pairs = scored[0].iter().zip(&scored[1]);
    let score = |scored: &super::ScoredRow| scored.record.expected;
    comparison.scores = pairs.filter_map(|(a, b)| Some([score(a)?, score(b)?])).collect();
    let argmax = [first.argmax_tokens(&rows).await?, second.argmax_tokens(&rows).await?];
    comparison.positions = argmax[0].len();
    comparison.agreeing = argmax[0].iter().zip(&argmax[1]).filter(|(a, b)| a == b).count();
    Ok(comparison)
}

impl Judge {
    /// The most likely next token at every position of the rows' own chains, of the phrase after them, and of the score. Rows
    /// that are too long are left out.
    async fn argmax_tokens(&self, examples: &[Example]) -> Result<Vec<u32>> {
        let context = self.weights.config.max_position_embeddings;
        let sequences = examples.iter().filter_map(|example| self.given_sequence(example).ok());
        let rows: Vec<(Vec<u32>, usize)> = sequences.filter(|(ids, _)| ids.len() <= context).collect();
        let Some(longest) = rows.iter().map(|(ids, _)| ids.len()).max() else { return Ok(Vec::new()) };
        let vocab = self.weights.config.vocab_size;
        let positions_per_pass = (LOGITS_BYTES / 4 / vocab).clamp(1, longest);
        let pass = LogitsPass::new(&self.gpu, &self.weights, longest, positions_per_pass)?;
        let mut tokens = Vec::new();
        for (ids, first) in &rows {
            let mut batch = PackedInputs::default();
            batch.push(ids);
            let positions: Vec<u32> = (*first as u32..ids.len() as u32).collect();
            for chunk in positions.chunks(positions_per_pass) {
                batch.loss_positions = chunk.to_vec();
                let logits = pass.run(&batch).await?;
                tokens.extend(logits.chunks_exact(vocab).map(argmax));
            }
        }
        Ok(tokens)
    }
}

/// The rows, each with the chain of the next row (the last row has the first row's chain), to be scored with given chains.
/// `chains` has one chain per row.
pub fn with_swapped_chains(rows: &[Example], chains: &[Option<String>]) -> Vec<Example> {
    let with_next_chain = |(i, row): (usize, &Example)| {
        let mut row = row.clone();
        row.record.chain = chains[(i + 1) % chains.len()].clone();
        row
    };
    rows.iter().enumerate().map(with_next_chain).collect()
}

/// Index of the largest logit; of equal ones the first.
fn argmax(logits: &[f32]) -> u32 {
    let best = logits.iter().enumerate().fold((0, f32::NEG_INFINITY), |best, (i, x)| if *x > best.1 { (i, *x) } else { best });
    best.0 as u32
}
