//! One judge beside another with the same tokenizer and settings: what quantising its weights has changed.

use super::{Judge, Result, ScoreOptions};
use crate::data::Example;
use crate::model::decoder::{LogitsPass, PackedInputs};

/// Bytes that the logits of one pass may take.
const LOGITS_BYTES: usize = 32 << 20;

/// What two judges made of the same rows, each reading the chains that the first one wrote (its likeliest).
#[derive(Clone, Debug, Default)]
pub struct Comparison {
    /// Expected scores of the rows that both could judge: of the first judge, and of the second.
    pub scores: Vec<[f64; 2]>,
    /// Places where a token was forced, or the score stood, and at how many of them both judges' likeliest tokens are the same.
    pub places: usize,
    pub same: usize,
}

impl Comparison {
    /// The largest difference of two expected scores.
    pub fn largest_difference(&self) -> f64 {
        self.scores.iter().map(|[a, b]| (a - b).abs()).fold(0.0, f64::max)
    }
}

/// Has `first` judge `examples`, and `second` read its chains.
///
/// # Errors
/// What the GPU reports. Rows that cannot be judged are left out.
pub async fn compare(first: &Judge, second: &Judge, examples: &[Example]) -> Result<Comparison> {
    let chain = first.settings().chain;
    let written = first.judge(examples, &ScoreOptions::default(), ()).await?;
    let with_chain = |(example, judged): (&Example, &super::ScoredRow)| {
        let mut example = example.clone();
        example.record.chain = chain.then(|| judged.chains.first().cloned()).flatten();
        example
    };
    let judged = |(_, judged): &(&Example, &super::ScoredRow)| judged.prediction.is_some();
    let rows: Vec<Example> = examples.iter().zip(&written).filter(judged).map(with_chain).collect();
    let judging = ScoreOptions { given_chains: chain, ..ScoreOptions::default() };
    let read = [first.judge(&rows, &judging, ()).await?, second.judge(&rows, &judging, ()).await?];
    let mut comparison = Comparison::default();
    let pairs = read[0].iter().zip(&read[1]);
    let score = |judged: &super::ScoredRow| judged.record.expected;
    comparison.scores = pairs.filter_map(|(a, b)| Some([score(a)?, score(b)?])).collect();
    let likeliest = [first.likeliest(&rows).await?, second.likeliest(&rows).await?];
    comparison.places = likeliest[0].len();
    comparison.same = likeliest[0].iter().zip(&likeliest[1]).filter(|(a, b)| a == b).count();
    Ok(comparison)
}

impl Judge {
    /// The likeliest token at every place of the rows' own chains, of the phrase behind them, and of the score. Rows that are
    /// too long have none.
    async fn likeliest(&self, examples: &[Example]) -> Result<Vec<u32>> {
        let context = self.weights.config.max_position_embeddings;
        let read = examples.iter().filter_map(|example| self.given(example).ok());
        let rows: Vec<(Vec<u32>, usize)> = read.filter(|(ids, _)| ids.len() <= context).collect();
        let Some(longest) = rows.iter().map(|(ids, _)| ids.len()).max() else { return Ok(Vec::new()) };
        let vocab = self.weights.config.vocab_size;
        let at_once = (LOGITS_BYTES / 4 / vocab).clamp(1, longest);
        let pass = LogitsPass::new(&self.gpu, &self.weights, longest, at_once)?;
        let mut all = Vec::new();
        for (ids, first) in &rows {
            let mut batch = PackedInputs::default();
            batch.push(ids);
            let places: Vec<u32> = (*first as u32..ids.len() as u32).collect();
            for places in places.chunks(at_once) {
                batch.loss_positions = places.to_vec();
                let logits = pass.run(&batch).await?;
                all.extend(logits.chunks_exact(vocab).map(largest));
            }
        }
        Ok(all)
    }
}

/// The rows, each with the chain that was written for the next one (the last: for the first), to be judged with given chains.
/// `chains` has one a row.
pub fn with_swapped_chains(rows: &[Example], chains: &[Option<String>]) -> Vec<Example> {
    let with = |(i, row): (usize, &Example)| {
        let mut row = row.clone();
        row.record.chain = chains[(i + 1) % chains.len()].clone();
        row
    };
    rows.iter().enumerate().map(with).collect()
}

/// Where the largest of `logits` is; the first of equals.
fn largest(logits: &[f32]) -> u32 {
    let best = logits.iter().enumerate().fold((0, f32::NEG_INFINITY), |best, (i, x)| if *x > best.1 { (i, *x) } else { best });
    best.0 as u32
}
