//! Supervised examples: given chains and scores in packed batches, with their losses.
//!
//! ```text
//! loss = a · mean over tokens of -log p(token)   +   b · mean over examples of (E - y)²
//!        cross-entropy of chain, phrase, score       squared error of the expected score
//!
//! sft       a = 1, b = 0      cot-raft  a = 1, b = λ      raft  a = 0, b = 1, and no chain
//! ```
//!
//! `judge::BatchLayout` decides where the batch's tokens lie and what they see; this file decides their losses.

use crate::judge::{BatchLayout, CompletionSpans, Expectation, Scale, ScoreReads, rows_alike};
use crate::model::decoder::{PackedInputs, TokenStats};
use crate::ops::loss_head::TokenLoss;
use crate::train::TrainError;
use crate::train::data::examples::LabelledPrompt;
use crate::train::objective::reward::{RewardSettings, expected};

/// A labelled example, prepared for training. Policy-gradient methods use only its prompt.
#[derive(Clone, Debug)]
pub struct TrainExample {
    pub prompt: LabelledPrompt,
    /// The tokens between prompt and score: chain (if any) and phrase.
    pub continuation: Vec<u32>,
}

/// The loss on examples.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Supervision {
    /// Weight of the cross-entropy.
    pub cross_entropy: f64,
    /// Weight of the squared error of the expected score.
    pub squared: f64,
    pub expectation: Expectation,
    /// Cross-entropy of chain, phrase and score only, or of the prompt too.
    pub completion_only: bool,
}

/// The weights of single terms in the means of a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MeanWeights {
    /// 1 / number of tokens with cross-entropy.
    pub per_target: f64,
    /// 1 / number of examples.
    pub per_example: f64,
}

/// Examples in a batch, without losses.
pub struct PackedExamples<'a> {
    batch: PackedInputs,
    spans: Vec<CompletionSpans>,
    examples: &'a [&'a TrainExample],
}

/// The cluster of each example: those whose prompts begin alike are in one.
pub fn clusters_by_prefix(examples: &[TrainExample]) -> Vec<u32> {
    let prompts: Vec<&[u32]> = examples.iter().map(|e| &e.prompt.ids[..]).collect();
    let sizes: Vec<usize> = prompts.iter().map(|prompt| prompt.len()).collect();
    let size = |shared: usize, rows: &[usize]| shared + rows.iter().map(|row| sizes[*row] - shared).sum::<usize>();
    let mut clusters = vec![0; examples.len()];
    for (cluster, group) in rows_alike(&prompts, &sizes, usize::MAX, size).into_iter().enumerate() {
        group.rows.into_iter().for_each(|row| clusters[row] = cluster as u32);
    }
    clusters
}

/// Sums over the loss positions of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LossSums {
    pub cross_entropy: f64,
    pub squared: f64,
    pub entropy: f64,
    /// Number of loss positions.
    pub positions: usize,
}

impl TrainExample {
    /// Number of tokens with cross-entropy.
    pub fn targets(&self, layout: BatchLayout, supervision: &Supervision) -> usize {
        let prompt = if supervision.completion_only { 0 } else { self.prompt.ids.len() - 1 };
        prompt + self.continuation.len() + layout.tokens.path(self.prompt.label.nearest).len()
    }

    /// Most loss positions.
    pub fn loss_positions(&self, layout: BatchLayout, supervision: &Supervision) -> usize {
        let prompt = if supervision.completion_only { 0 } else { self.prompt.ids.len() - 1 };
        prompt + self.continuation.len() + layout.tokens.nodes().len()
    }

    /// Number of tokens in a batch.
    pub fn size(&self, layout: BatchLayout) -> usize {
        layout.size(self.prompt.ids.len(), std::iter::once(self.continuation.len()))
    }
}

impl<'a> PackedExamples<'a> {
    /// Packs examples into a batch. If `shares`, what the prompts of several of them begin with is in the batch once, unless the
    /// score is read from the chain alone.
    ///
    /// # Errors
    /// More tokens than `budget`. The pass that runs the batch checks ids and loss positions.
    pub fn new(examples: &'a [&'a TrainExample], layout: BatchLayout, shares: bool, budget: usize) -> Result<Self, TrainError> {
        let sizes: Vec<usize> = examples.iter().map(|e| e.size(layout)).collect();
        let shares = shares && layout.reads == ScoreReads::Prompt;
        let prompts: Vec<&[u32]> = examples.iter().map(|e| if shares { &e.prompt.ids[..] } else { &[] }).collect();
        let length = |row: &usize| examples[*row].prompt.ids.len() + examples[*row].continuation.len();
        let groups = rows_alike(&prompts, &sizes, budget, |shared, rows| layout.size_alike(shared, rows.iter().map(length)));
        let needed = groups.iter().map(|group| group.tokens).sum();
        if needed > budget {
            return Err(TrainError::Budget { needed, budget });
        }
        let mut batch = PackedInputs::default();
        let mut spans: Vec<(usize, CompletionSpans)> = Vec::new();
        for group in &groups {
            let rows: Vec<[&[u32]; 2]> =
                group.rows.iter().map(|row| [&examples[*row].prompt.ids[..], &examples[*row].continuation[..]]).collect();
            let laid = match rows[..] {
                [[prompt, continuation]] => layout.push(&mut batch, prompt, &[continuation]),
                _ => layout.push_alike(&mut batch, group.shared, &rows),
            };
            spans.extend(group.rows.iter().copied().zip(laid));
        }
        spans.sort_unstable_by_key(|(row, _)| *row);
        let spans = spans.into_iter().map(|(_, span)| span).collect();
        Ok(PackedExamples { batch, spans, examples })
    }

    /// The batch with loss positions at the score nodes only and without losses: it reads the score distributions.
    pub fn score_positions(&self) -> PackedInputs {
        let mut batch = self.batch.clone();
        self.spans.iter().flat_map(|span| &span.score_nodes).for_each(|node| batch.push_loss(*node, TokenLoss::default()));
        batch.sort_losses();
        batch
    }

    /// Log-probabilities of each example's scores, `[examples][scores]`, from the statistics of `batch`, which contains these
    /// examples and their score nodes.
    pub fn log_probs(&self, layout: BatchLayout, batch: &PackedInputs, stats: &[TokenStats]) -> Vec<Vec<f64>> {
        self.spans.iter().map(|span| layout.log_probs(span, batch, stats)).collect()
    }

    /// The batch with its losses. The `log_probs` of the scores are used only if the squared error has a weight.
    pub fn losses(
        &self,
        layout: BatchLayout,
        scale: &Scale,
        supervision: &Supervision,
        means: MeanWeights,
        log_probs: &[Vec<f64>],
    ) -> PackedInputs {
        let mut batch = self.batch.clone();
        let per_target = supervision.cross_entropy * means.per_target;
        let reward =
            RewardSettings { expectation: supervision.expectation, squared: supervision.squared, ..RewardSettings::NONE };
        for (i, (example, spans)) in self.examples.iter().zip(&self.spans).enumerate() {
            for (predictor, token) in self.targets(i, supervision) {
                batch.push_loss(predictor, TokenLoss::token(token, per_target as f32));
            }
            let mut coefficients = vec![0.0; scale.len()];
            example.prompt.label.weights.iter().for_each(|(k, w)| coefficients[*k] += per_target * w);
            if supervision.squared != 0.0 {
                let gradient = reward.gradient(scale, &log_probs[i], example.prompt.label());
                coefficients.iter_mut().zip(gradient).for_each(|(c, g)| *c += means.per_example * g);
            }
            layout.push_scores(spans, &mut batch, &coefficients);
        }
        batch.sort_losses();
        batch
    }

    /// The targets of example `i` in prompt, chain and phrase: (the batch token that predicts it, target token).
    fn targets(&self, i: usize, supervision: &Supervision) -> impl Iterator<Item = (u32, u32)> {
        let (example, spans) = (self.examples[i], &self.spans[i]);
        let learned = supervision.cross_entropy != 0.0;
        let prompt = if learned && !supervision.completion_only { &example.prompt.ids[1..] } else { &[] };
        let continuation = if learned { &example.continuation[..] } else { &[] };
        let in_prompt = prompt.iter().zip(spans.prompt..).map(|(token, predictor)| (predictor, *token));
        in_prompt.chain(spans.predictors.iter().zip(continuation).map(|(predictor, token)| (*predictor, *token)))
    }

    /// The sums of the loss, from the statistics of `batch`, made by [`PackedExamples::losses`].
    pub fn loss_sums(
        &self,
        layout: BatchLayout,
        scale: &Scale,
        supervision: &Supervision,
        batch: &PackedInputs,
        stats: &[TokenStats],
    ) -> LossSums {
        let mut sums = LossSums { positions: stats.len(), ..LossSums::default() };
        sums.entropy = stats.iter().map(|s| f64::from(s.entropy)).sum();
        for (i, (example, log_probs)) in self.examples.iter().zip(self.log_probs(layout, batch, stats)).enumerate() {
            for (predictor, _) in self.targets(i, supervision) {
                sums.cross_entropy -= batch.loss_at(predictor).map_or(0.0, |row| f64::from(stats[row].log_p));
            }
            sums.cross_entropy -= example.prompt.label.weights.iter().map(|(k, w)| w * log_probs[*k]).sum::<f64>();
            sums.squared += (expected(supervision.expectation, scale, &log_probs) - example.prompt.value).powi(2);
        }
        sums
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

    fn example(scale: &Scale, prompt: &[u32], continuation: &[u32], value: f64) -> TrainExample {
        let prompt = LabelledPrompt { ids: prompt.to_vec(), ends_in_space: false, label: scale.split(value).unwrap(), value };
        TrainExample { prompt, continuation: continuation.to_vec() }
    }

    #[test]
    fn losses_of_completions_and_of_whole_texts() {
        let scale: Scale = "a,b=1,2".parse().unwrap();
        let tokens = ScoreTokens::new(vec![vec![14], vec![15]], None, vec![8], vec![8]).unwrap();
        let layout = BatchLayout { tokens: &tokens, reads: ScoreReads::Prompt };
        let (first, second) = (example(&scale, &[1, 2], &[7, 8], 1.25), example(&scale, &[3], &[8], 2.0));
        let both = [&first, &second];
        assert_eq!([first.targets(layout, &SFT), second.targets(layout, &SFT)], [3, 2]);
        let packed = PackedExamples::new(&both, layout, false, 8).unwrap();
        let means = MeanWeights { per_target: 0.5, per_example: 1.0 };
        let batch = packed.losses(layout, &scale, &SFT, means, &[]);
        assert_eq!((&batch.ids[..], &batch.loss_positions[..]), (&[1, 2, 7, 8, 3, 8][..], &[1, 2, 3, 4, 5][..]));
        let targets: Vec<u32> = batch.losses.iter().filter(|o| o.weight == 0.5).map(|o| o.token).collect();
        assert_eq!(targets, [7, 8, 8]);
        assert_eq!(batch.coefficients, [0.375, 0.125, 0.0, 0.5]);
        let whole = packed.losses(layout, &scale, &Supervision { completion_only: false, ..SFT }, means, &[]);
        assert_eq!((whole.loss_positions[0], whole.losses[0].token), (0, 2));
        assert!(PackedExamples::new(&both, layout, false, 4).err().unwrap().to_string().starts_with("the batch needs"));
    }

    #[test]
    fn examples_that_begin_alike_share_their_beginning() {
        let scale: Scale = "a,b=1,2".parse().unwrap();
        let tokens = ScoreTokens::new(vec![vec![14], vec![15]], None, vec![8], vec![8]).unwrap();
        let layout = BatchLayout { tokens: &tokens, reads: ScoreReads::Prompt };
        let prompt = |own: &[u32]| [&(100..120).collect::<Vec<u32>>()[..], own].concat();
        let rows = [
            example(&scale, &prompt(&[1]), &[7, 8], 1.0),
            example(&scale, &[3], &[8], 2.0),
            example(&scale, &prompt(&[2, 3]), &[8], 2.0),
            // The same prompt as the first row's, with another chain.
            example(&scale, &prompt(&[1]), &[9, 8], 1.0),
        ];
        let examples: Vec<&TrainExample> = rows.iter().collect();
        let means = MeanWeights { per_target: 1.0, per_example: 1.0 };
        let alone: usize = rows.iter().map(|row| row.size(layout)).sum();
        let packed = PackedExamples::new(&examples, layout, true, alone).unwrap();
        assert_eq!(packed.len(), 20 + 3 + 3 + 3 + 2);
        let batch = packed.losses(layout, &scale, &SFT, means, &[]);
        assert!(batch.loss_positions.windows(2).all(|pair| pair[0] < pair[1]), "{:?}", batch.loss_positions);
        // Alone, no row repeats its prompt's last token, which `size` counts.
        assert_eq!(PackedExamples::new(&examples, layout, false, alone).unwrap().len(), alone - rows.len());
        // The token at each predictor is what comes before its target, whichever row is asked.
        for (row, spans) in rows.iter().zip(&packed.spans) {
            let before = [row.prompt.ids.last().unwrap(), &row.continuation[0]];
            let found = [spans.predictors[0], *spans.predictors.get(1).unwrap_or(&spans.score_nodes[0])];
            assert_eq!(found.map(|token| &batch.ids[token as usize]), before);
        }
    }

    #[test]
    fn squared_error_alone_has_loss_positions_at_scores_only() {
        let scale: Scale = "a,b=1,2".parse().unwrap();
        let tokens = ScoreTokens::new(vec![vec![14], vec![15]], None, vec![8], vec![8]).unwrap();
        let layout = BatchLayout { tokens: &tokens, reads: ScoreReads::Prompt };
        let one = example(&scale, &[1, 2], &[8], 2.0);
        let examples = [&one];
        let packed = PackedExamples::new(&examples, layout, false, 8).unwrap();
        let raft = Supervision { cross_entropy: 0.0, squared: 1.0, ..SFT };
        let even = vec![vec![0.5f64.ln(); 2]];
        let batch = packed.losses(layout, &scale, &raft, MeanWeights { per_target: 1.0, per_example: 1.0 }, &even);
        assert_eq!(batch.loss_positions, packed.score_positions().loss_positions);
        // E = 1.5, y = 2: more of b, less of a, by 2 · 0.5 · 0.5 · 0.5.
        assert_eq!(batch.coefficients, [-0.25, 0.25]);
    }
}
