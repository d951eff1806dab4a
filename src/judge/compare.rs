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
    /// Positions of prompts, chains and phrases at which the distributions of the next token were compared.
    pub positions: usize,
    /// At how many of them both judges have the same most likely token.
    pub agreeing: usize,
    /// Kullback-Leibler divergence of the second judge's distribution from the first one's, in nats, summed over the positions.
    divergence: f64,
}

impl JudgeComparison {
    /// The largest difference between the two expected scores of a row.
    pub fn largest_difference(&self) -> f64 {
        self.scores.iter().map(|[a, b]| (a - b).abs()).fold(0.0, f64::max)
    }

    /// Mean Kullback-Leibler divergence per position, in nats; 0 without positions.
    pub fn mean_divergence(&self) -> f64 {
        self.divergence / self.positions.max(1) as f64
    }

    fn add(&mut self, first: &[f32], second: &[f32]) {
        self.positions += 1;
        self.agreeing += usize::from(argmax(first) == argmax(second));
        self.divergence += divergence(first, second);
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
    compare_next_tokens(first, second, &rows, &mut comparison).await?;
    Ok(comparison)
}

/// Compares the distributions of the next token at every position of the rows: prompt, own chain and phrase. Rows that are too
/// long are left out.
async fn compare_next_tokens(first: &Judge, second: &Judge, rows: &[Example], comparison: &mut JudgeComparison) -> Result<()> {
    let context = first.weights.config.max_position_embeddings;
    let sequences = rows.iter().filter_map(|row| first.given_sequence(row).ok());
    let rows: Vec<Vec<u32>> = sequences.filter(|ids| ids.len() <= context).collect();
    let Some(longest) = rows.iter().map(Vec::len).max() else { return Ok(()) };
    let vocab = first.weights.config.vocab_size;
    let positions_per_pass = (LOGITS_BYTES / 4 / vocab).clamp(1, longest);
    let pass = |judge: &Judge| LogitsPass::new(&judge.gpu, &judge.weights, longest, positions_per_pass);
    let passes = [pass(first)?, pass(second)?];
    for ids in &rows {
        let mut batch = PackedInputs::default();
        batch.push(ids);
        let positions: Vec<u32> = (0..ids.len() as u32).collect();
        for chunk in positions.chunks(positions_per_pass) {
            batch.loss_positions = chunk.to_vec();
            let logits = [passes[0].run(&batch).await?, passes[1].run(&batch).await?];
            let of_positions = logits[0].chunks_exact(vocab).zip(logits[1].chunks_exact(vocab));
            of_positions.for_each(|(a, b)| comparison.add(a, b));
        }
    }
    Ok(())
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

/// Kullback-Leibler divergence of the distribution with logits `second` from the one with logits `first`.
fn divergence(first: &[f32], second: &[f32]) -> f64 {
    let log_total = |logits: &[f32]| {
        let largest = logits.iter().fold(f64::NEG_INFINITY, |largest, x| largest.max(f64::from(*x)));
        largest + logits.iter().map(|x| (f64::from(*x) - largest).exp()).sum::<f64>().ln()
    };
    let (a, b) = (log_total(first), log_total(second));
    let one = |(x, y): (&f32, &f32)| {
        let (log_p, log_q) = (f64::from(*x) - a, f64::from(*y) - b);
        log_p.exp() * (log_p - log_q)
    };
    first.iter().zip(second).map(one).sum()
}

/// Index of the largest logit; of equal ones the first.
fn argmax(logits: &[f32]) -> u32 {
    let best = logits.iter().enumerate().fold((0, f32::NEG_INFINITY), |best, (i, x)| if *x > best.1 { (i, *x) } else { best });
    best.0 as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn divergence_is_that_of_manual_arithmetic() {
        // 1/2, 1/2 and 1/4, 3/4.
        let expected = 0.5 * 2f64.ln() + 0.5 * (2.0 / 3.0f64).ln();
        assert!((divergence(&[5.0, 5.0], &[0.0, 3f32.ln()]) - expected).abs() < 1e-7);
        assert_eq!(divergence(&[1.0, 2.0, -30.0], &[1.0, 2.0, -30.0]), 0.0);
        let mut comparison = JudgeComparison::default();
        comparison.add(&[5.0, 5.0], &[0.0, 1.0]);
        comparison.add(&[5.0, 6.0], &[5.0, 6.0]);
        assert_eq!((comparison.positions, comparison.agreeing), (2, 1));
        assert_eq!(comparison.mean_divergence(), divergence(&[5.0, 5.0], &[0.0, 1.0]) / 2.0);
        assert_eq!(JudgeComparison::default().mean_divergence(), 0.0);
    }
}
