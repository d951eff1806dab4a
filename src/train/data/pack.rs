//! Supervised examples: given judgements, laid into packed batches with their objective.
//!
//! ```text
//! loss = a · mean over tokens of -log p(token)   +   b · mean over examples of (E - y)²
//!        cross-entropy of chain, phrase, score       squared error of the expected score
//!
//! sft       a = 1, b = 0      cot-raft  a = 1, b = λ      raft  a = 0, b = 1, and no chain
//! ```
//!
//! Where the batch's tokens lie and what they see is `judge::BatchLayout`; this file says which of them carry which loss.

use crate::judge::{BatchLayout, CompletionSpans, Expectation, Scale};
use crate::model::decoder::{PackedInputs, TokenStats};
use crate::ops::loss_head::TokenLoss;
use crate::train::TrainError;
use crate::train::data::examples::Prompt;
use crate::train::objective::reward::{RewardSettings, expected};

/// One judgement that is learned as it stands.
#[derive(Clone, Debug)]
pub struct Example {
    pub prompt: Prompt,
    /// Chain (if any) and phrase.
    pub fed: Vec<u32>,
}

/// What is learned from examples.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Supervision {
    /// Weight of the cross-entropy.
    pub cross_entropy: f64,
    /// Weight of the squared error of the expected score.
    pub squared: f64,
    pub expectation: Expectation,
    /// Cross-entropy of the judgement only, or of the prompt too.
    pub completion_only: bool,
}

/// What the means of a step divide by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shares {
    /// One by the number of tokens with cross-entropy.
    pub per_target: f64,
    /// One by the number of examples.
    pub per_example: f64,
}

/// Examples in a batch, before it is said which rows it has.
pub struct PackedExamples<'a> {
    batch: PackedInputs,
    spans: Vec<CompletionSpans>,
    examples: &'a [&'a Example],
}

/// What the rows of a batch said, as sums.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LossSums {
    pub cross_entropy: f64,
    pub squared: f64,
    pub entropy: f64,
    pub rows: usize,
}

impl Example {
    /// Tokens with cross-entropy.
    pub fn targets(&self, layout: BatchLayout, supervision: &Supervision) -> usize {
        let prompt = if supervision.completion_only { 0 } else { self.prompt.ids.len() - 1 };
        prompt + self.fed.len() + layout.tokens.path(self.prompt.label.nearest).len()
    }

    /// Most rows that carry loss.
    pub fn rows(&self, layout: BatchLayout, supervision: &Supervision) -> usize {
        let prompt = if supervision.completion_only { 0 } else { self.prompt.ids.len() - 1 };
        prompt + self.fed.len() + layout.tokens.places().len()
    }

    /// Tokens of its own batch.
    pub fn size(&self, layout: BatchLayout) -> usize {
        layout.size(self.prompt.ids.len(), std::iter::once(self.fed.len()))
    }
}

impl<'a> PackedExamples<'a> {
    /// Lays examples, each by itself, into a batch.
    ///
    /// # Errors
    /// More tokens than `budget`. Ids and rows are checked by the pass that runs the batch.
    pub fn new(examples: &'a [&'a Example], layout: BatchLayout, budget: usize) -> Result<Self, TrainError> {
        let needed = examples.iter().map(|e| e.size(layout)).sum();
        if needed > budget {
            return Err(TrainError::Budget { needed, budget });
        }
        let mut batch = PackedInputs::default();
        let spans = examples.iter().flat_map(|e| layout.lay(&mut batch, &e.prompt.ids, &[&e.fed])).collect();
        Ok(PackedExamples { batch, spans, examples })
    }

    /// The batch that reads the scores' distributions only.
    pub fn reading(&self) -> PackedInputs {
        let mut batch = self.batch.clone();
        self.spans.iter().flat_map(|p| &p.nodes).for_each(|node| batch.push_loss(*node, TokenLoss::default()));
        batch.sort_losses();
        batch
    }

    /// Log-probabilities of each example's scores, out of the statistics of `batch`, one of this layout.
    pub fn log_probs(&self, layout: BatchLayout, batch: &PackedInputs, stats: &[TokenStats]) -> Vec<Vec<f64>> {
        self.spans.iter().map(|p| layout.log_probs(p, batch, stats)).collect()
    }

    /// The batch with its objective. `log_probs` of the scores are needed where the squared error has a weight; without
    /// it they are not looked at.
    pub fn objectives(
        &self,
        layout: BatchLayout,
        scale: &Scale,
        supervision: &Supervision,
        shares: Shares,
        log_probs: &[Vec<f64>],
    ) -> PackedInputs {
        let mut batch = self.batch.clone();
        let per_target = supervision.cross_entropy * shares.per_target;
        let reward =
            RewardSettings { expectation: supervision.expectation, squared: supervision.squared, ..RewardSettings::NONE };
        for (i, (example, spans)) in self.examples.iter().zip(&self.spans).enumerate() {
            for (row, token) in self.tokens(i, supervision) {
                batch.push_loss(row, TokenLoss::token(token, per_target as f32));
            }
            let mut coefficients = vec![0.0; scale.len()];
            example.prompt.label.weights.iter().for_each(|(k, w)| coefficients[*k] += per_target * w);
            if supervision.squared != 0.0 {
                let gradient = reward.gradient(scale, &log_probs[i], example.prompt.label());
                coefficients.iter_mut().zip(gradient).for_each(|(c, s)| *c += shares.per_example * s);
            }
            layout.push_scores(spans, &mut batch, &coefficients);
        }
        batch.sort_losses();
        batch
    }

    /// The rows of example `i` that predict a token of prompt, chain or phrase which is learned, with that token.
    fn tokens(&self, i: usize, supervision: &Supervision) -> impl Iterator<Item = (u32, u32)> {
        let (example, spans) = (self.examples[i], &self.spans[i]);
        let learned = supervision.cross_entropy != 0.0;
        let prompt = if learned && !supervision.completion_only { &example.prompt.ids[1..] } else { &[] };
        let fed = if learned { &example.fed[..] } else { &[] };
        let of_prompt = prompt.iter().zip(spans.prompt..).map(|(token, row)| (row, *token));
        of_prompt.chain(spans.before.iter().zip(fed).map(|(row, token)| (*row, *token)))
    }

    /// What the statistics of `batch`, made by [`PackedExamples::objectives`], say of this loss.
    pub fn found(
        &self,
        layout: BatchLayout,
        scale: &Scale,
        supervision: &Supervision,
        batch: &PackedInputs,
        stats: &[TokenStats],
    ) -> LossSums {
        let mut found = LossSums { rows: stats.len(), ..LossSums::default() };
        found.entropy = stats.iter().map(|s| f64::from(s.entropy)).sum();
        for (i, (example, log_probs)) in self.examples.iter().zip(self.log_probs(layout, batch, stats)).enumerate() {
            for (row, _) in self.tokens(i, supervision) {
                found.cross_entropy -= batch.loss_at(row).map_or(0.0, |row| f64::from(stats[row].log_p));
            }
            found.cross_entropy -= example.prompt.label.weights.iter().map(|(k, w)| w * log_probs[*k]).sum::<f64>();
            found.squared += (expected(supervision.expectation, scale, &log_probs) - example.prompt.value).powi(2);
        }
        found
    }

    /// Tokens in the batch.
    pub fn len(&self) -> usize {
        self.batch.ids.len()
    }

    /// True for a batch of no examples.
    pub fn is_empty(&self) -> bool {
        self.batch.ids.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::{ScoreReads, ScoreTokens};

    const SFT: Supervision =
        Supervision { cross_entropy: 1.0, squared: 0.0, expectation: Expectation::Renormalised, completion_only: true };

    fn example(scale: &Scale, prompt: &[u32], fed: &[u32], value: f64) -> Example {
        let prompt = Prompt { ids: prompt.to_vec(), ends_in_space: false, label: scale.split(value).unwrap(), value };
        Example { prompt, fed: fed.to_vec() }
    }

    #[test]
    fn judgements_and_whole_texts() {
        let scale: Scale = "a,b=1,2".parse().unwrap();
        let tokens = ScoreTokens::new(vec![vec![14], vec![15]], None, vec![8], vec![8]).unwrap();
        let layout = BatchLayout { tokens: &tokens, reads: ScoreReads::Prompt };
        let (first, second) = (example(&scale, &[1, 2], &[7, 8], 1.25), example(&scale, &[3], &[8], 2.0));
        let both = [&first, &second];
        assert_eq!([first.targets(layout, &SFT), second.targets(layout, &SFT)], [3, 2]);
        let laid = PackedExamples::new(&both, layout, 8).unwrap();
        let shares = Shares { per_target: 0.5, per_example: 1.0 };
        let batch = laid.objectives(layout, &scale, &SFT, shares, &[]);
        assert_eq!((&batch.ids[..], &batch.loss_positions[..]), (&[1, 2, 7, 8, 3, 8][..], &[1, 2, 3, 4, 5][..]));
        let targets: Vec<u32> = batch.losses.iter().filter(|o| o.weight == 0.5).map(|o| o.token).collect();
        assert_eq!(targets, [7, 8, 8]);
        assert_eq!(batch.coefficients, [0.375, 0.125, 0.0, 0.5]);
        let whole = laid.objectives(layout, &scale, &Supervision { completion_only: false, ..SFT }, shares, &[]);
        assert_eq!((whole.loss_positions[0], whole.losses[0].token), (0, 2));
        assert!(PackedExamples::new(&both, layout, 4).err().unwrap().to_string().starts_with("the batch needs"));
    }

    #[test]
    fn squared_error_alone_has_rows_for_scores_only() {
        let scale: Scale = "a,b=1,2".parse().unwrap();
        let tokens = ScoreTokens::new(vec![vec![14], vec![15]], None, vec![8], vec![8]).unwrap();
        let layout = BatchLayout { tokens: &tokens, reads: ScoreReads::Prompt };
        let one = example(&scale, &[1, 2], &[8], 2.0);
        let examples = [&one];
        let laid = PackedExamples::new(&examples, layout, 8).unwrap();
        let raft = Supervision { cross_entropy: 0.0, squared: 1.0, ..SFT };
        let even = vec![vec![0.5f64.ln(); 2]];
        let batch = laid.objectives(layout, &scale, &raft, Shares { per_target: 1.0, per_example: 1.0 }, &even);
        assert_eq!(batch.loss_positions, laid.reading().loss_positions);
        // E = 1.5, y = 2: more of b, less of a, by 2 · 0.5 · 0.5 · 0.5.
        assert_eq!(batch.coefficients, [-0.25, 0.25]);
    }
}
