//! Compares the decoder with golden values of PyTorch: a directory with `checkpoint/` and `reference.safetensors`. Sizes, score
//! tokens and score values all come from the file.

use std::path::Path;

use super::DoctorError;
use super::golden::Golden;
use crate::gpu::Gpu;
use crate::judge::{Expectation, Scale, Split};
use crate::model::checkpoint::Checkpoint;
use crate::model::decoder::{
    CachePass, CacheSizes, LogitsPass, PackedInputs, Pass, PassSizes, PrefillPrompt, PrefillRow, Sampler, TokenStats,
};
use crate::model::names::tensors;
use crate::model::tensors::TensorSet;
use crate::model::weights::Weights;
use crate::ops::loss_head::TokenLoss;
use crate::selftest::Report;
use crate::train::objective::reward::{Label, RewardSettings, expected};

/// The largest allowed difference of logits.
pub const LOGITS_TOLERANCE: f64 = 1e-4;
/// The largest allowed difference of gradients, relative to the largest entry of their tensor.
pub const GRADIENT_TOLERANCE: f64 = 1e-3;
/// Greedy tokens are compared up to the first position whose two best logits are closer than this.
pub const NEAR_TIE: f32 = 1e-3;

/// Compares the model in `dir/checkpoint`, and the adapters in `dir/lora*`, with `reference.safetensors` on `gpu`.
///
/// # Errors
/// A file that is missing, damaged or inconsistent. Deviations are in the report.
pub async fn against(gpu: &Gpu, dir: &Path) -> Result<Report, DoctorError> {
    against_on(gpu, dir, None).await
}

/// Like [`against`], with the model in `base` instead of `checkpoint/`.
///
/// # Errors
/// As [`against`].
pub async fn against_on(gpu: &Gpu, dir: &Path, base: Option<&Path>) -> Result<Report, DoctorError> {
    let model = base.map_or_else(|| dir.join("checkpoint"), Path::to_path_buf);
    let checkpoint = Checkpoint::open(&model)?;
    let golden = Golden::open(&dir.join("reference.safetensors"))?;
    let weights = Weights::upload(gpu, &checkpoint)?;
    let mut report = Report::default();
    let mut check = GoldenCheck::new(gpu, &weights, &golden)?;
    check.logits(&mut report).await?;
    check.cross_entropy(&mut report).await?;
    check.rail(&mut report).await?;
    check.real(&mut report).await?;
    check.greedy(&mut report).await?;
    for adapter in super::adapters::adapters_in(dir)? {
        super::adapters::compare_adapter(gpu, &model, &adapter, &mut report).await?;
    }
    Ok(report)
}

/// A batch of the file: sequences without padding.
struct Sequences {
    ids: Vec<Vec<u32>>,
    /// The number of columns of the padded batch.
    width: usize,
}

/// A row with a squared error: the label, its weight in the loss, and the kind of expectation.
struct Labelled {
    row: usize,
    value: f64,
    weight: f64,
    expectation: Expectation,
}

struct GoldenCheck<'a> {
    gpu: &'a Gpu,
    weights: &'a Weights,
    golden: &'a Golden,
    gradient: TensorSet,
    score_tokens: Vec<u32>,
    scale: Scale,
    plain: Sequences,
}

impl<'a> GoldenCheck<'a> {
    fn new(gpu: &'a Gpu, weights: &'a Weights, golden: &'a Golden) -> Result<Self, DoctorError> {
        let input = golden.ids("input_ids")?;
        let width = input.shape.get(1).copied().unwrap_or(0);
        if input.shape.len() != 2 || width < 2 {
            return Err(golden.fault("input_ids", format!("expected [batch, at least 2], found {:?}", input.shape)));
        }
        let plain = Sequences { ids: input.rows().map(<[u32]>::to_vec).collect(), width };
        let gradient = TensorSet::of_model(gpu, &weights.config, "gradient")?;
        let score_tokens = golden.ids("rail.score_token_ids")?.values;
        let score_values = golden.floats("rail.score_values")?.values;
        if score_tokens.len() != score_values.len() {
            return Err(golden.fault("rail.score_values", "needs as many values as there are score tokens"));
        }
        let texts = score_tokens.iter().map(u32::to_string).collect();
        let scale = Scale::new(texts, score_values.into_iter().map(f64::from).collect())
            .map_err(|e| golden.fault("rail.score_values", e.to_string()))?;
        Ok(GoldenCheck { gpu, weights, golden, gradient, score_tokens, scale, plain })
    }

    async fn logits(&mut self, report: &mut Report) -> Result<(), DoctorError> {
        let mut batch = PackedInputs::default();
        self.plain.ids.iter().for_each(|ids| {
            batch.push(ids);
        });
        batch.loss_positions = (0..batch.ids.len() as u32).collect();
        let pass = LogitsPass::new(self.gpu, self.weights, batch.ids.len(), batch.ids.len())?;
        let ours = pass.run(&batch).await?;
        report.compare("logits", "logits", &ours, &self.golden.floats("logits")?.values, LOGITS_TOLERANCE);
        Ok(())
    }

    /// Runs a batch forward and backward and compares every gradient with `<prefix>.grad.<parameter>`. For `labels`, the score
    /// distribution is read after the forward pass and its loss gradient is computed from it, as in training.
    async fn gradients(
        &mut self,
        report: &mut Report,
        prefix: &str,
        mut batch: PackedInputs,
        labels: &[Labelled],
    ) -> Result<(Vec<TokenStats>, Vec<f32>), DoctorError> {
        let (rows, score_tokens) = (batch.loss_positions.len(), self.score_tokens.clone());
        let sizes = PassSizes { tokens: batch.ids.len(), loss_positions: rows, score_tokens, ..PassSizes::default() };
        let pass = Pass::new(self.gpu, self.weights, Some(&self.gradient), sizes)?;
        self.gradient.clear(self.gpu);
        pass.forward(&batch)?;
        let stats = pass.stats(rows).await?;
        let mut expected_scores = Vec::new();
        for label in labels {
            let log_probs: Vec<f64> = stats[label.row].score_log_probs.iter().map(|l| f64::from(*l)).collect();
            let reward = RewardSettings { expectation: label.expectation, squared: label.weight, ..RewardSettings::NONE };
            let split = Split { weights: Vec::new(), nearest: 0 };
            let gradient = reward.gradient(&self.scale, &log_probs, Label { split: &split, value: label.value });
            batch.losses[label.row].scores = (batch.coefficients.len() / gradient.len()) as u32;
            batch.coefficients.extend(gradient.iter().map(|c| *c as f32));
            expected_scores.push(expected(label.expectation, &self.scale, &log_probs) as f32);
        }
        pass.backward(&batch)?;
        let group = format!("{prefix}.grad");
        for spec in tensors(&self.weights.config) {
            let key = format!("{group}.{}", spec.name);
            let ours = self.gradient.tensor_values(self.gpu, &spec.name).await?;
            report.compare_relative(&group, &key, &ours, &self.golden.floats(&key)?.values, GRADIENT_TOLERANCE);
        }
        Ok((stats, expected_scores))
    }

    fn compare_scalar(&self, report: &mut Report, key: &str, ours: f64) -> Result<(), DoctorError> {
        let theirs = self.golden.scalar(key)?;
        // Losses are sums of many terms, so their difference is relative above 1.
        let scale = f64::from(theirs).abs().max(1.0);
        report.add("losses", key, (ours - f64::from(theirs)).abs() / scale, LOGITS_TOLERANCE);
        Ok(())
    }

    async fn cross_entropy(&mut self, report: &mut Report) -> Result<(), DoctorError> {
        let targets = self.plain.ids.len() * (self.plain.width - 1);
        let weight = 1.0 / targets as f32;
        let mut batch = PackedInputs::default();
        for ids in &self.plain.ids {
            let start = batch.push(ids);
            for (i, next) in ids[1..].iter().enumerate() {
                batch.push_loss(start + i as u32, TokenLoss::token(*next, weight));
            }
        }
        let (stats, _) = self.gradients(report, "ce", batch, &[]).await?;
        let loss = stats.iter().map(|s| -f64::from(s.log_p)).sum::<f64>() / targets as f64;
        self.compare_scalar(report, "ce.loss", loss)
    }

    async fn rail(&mut self, report: &mut Report) -> Result<(), DoctorError> {
        let labels = self.golden.floats("rail.targets")?.values;
        if labels.len() != self.plain.ids.len() {
            return Err(self.golden.fault("rail.targets", "needs one label a sequence"));
        }
        for (prefix, expectation) in [("rail.full", Expectation::FullVocabulary), ("rail.renorm", Expectation::Renormalised)] {
            let mut batch = PackedInputs::default();
            let mut labelled = Vec::new();
            for (row, (ids, label)) in self.plain.ids.iter().zip(&labels).enumerate() {
                let start = batch.push(ids);
                batch.push_loss(start + ids.len() as u32 - 1, TokenLoss::default());
                labelled.push(Labelled { row, value: f64::from(*label), weight: 1.0 / labels.len() as f64, expectation });
            }
            let (_, expected) = self.gradients(report, prefix, batch, &labelled).await?;
            let key = format!("{prefix}.expected");
            report.compare("expected score", &key, &expected, &self.golden.floats(&key)?.values, LOGITS_TOLERANCE);
            self.compare_scalar(report, &format!("{prefix}.loss"), mean_square(&expected, &labels))?;
        }
        Ok(())
    }

    /// The surrogate loss of REAL with given advantages: sum(-A log p m) / sum(m) + beta mean (E - y)².
    async fn real(&mut self, report: &mut Report) -> Result<(), DoctorError> {
        let golden = self.golden;
        let real = Real::read(golden)?;
        for (prefix, mask_key) in [("real.all", "real.response_mask"), ("real.cot", "real.cot_mask")] {
            let mask = golden.floats(mask_key)?;
            if mask.shape != [real.sequences.ids.len(), real.sequences.width] {
                return Err(golden.fault(mask_key, format!("has shape {:?}, unlike real.input_ids", mask.shape)));
            }
            let total: f32 = mask.values.iter().sum();
            let masks: Vec<&[f32]> = mask.rows().collect();
            let (batch, labelled) = real.batch(&masks, total);
            let weights: Vec<f64> = batch.losses.iter().map(|o| f64::from(o.weight)).collect();
            let (stats, expected) = self.gradients(report, prefix, batch, &labelled).await?;
            let pg: f64 = weights.iter().zip(&stats).map(|(weight, row)| -weight * f64::from(row.log_p)).sum();
            let mse = mean_square(&expected, &real.labels);
            report.compare(
                "expected score",
                "real.expected",
                &expected,
                &golden.floats("real.expected")?.values,
                LOGITS_TOLERANCE,
            );
            self.compare_scalar(report, &format!("{prefix}.pg_loss"), pg)?;
            self.compare_scalar(report, &format!("{prefix}.loss"), pg + f64::from(real.beta) * mse)?;
        }
        Ok(())
    }

    /// Greedy continuation with the KV cache.
    async fn greedy(&mut self, report: &mut Report) -> Result<(), DoctorError> {
        let prompt = self.golden.ids("gen.prompt_ids")?.values;
        let theirs = self.golden.ids("gen.output_ids")?.values;
        let gaps = self.golden.floats("gen.top2_gap")?.values;
        let sizes = CacheSizes {
            entries: prompt.len() + theirs.len(),
            rows: 1,
            prefill: prompt.len(),
            own: theirs.len(),
            max_length: prompt.len() + theirs.len(),
            history: theirs.len(),
            scores: 0,
        };
        let pass = CachePass::new(self.gpu, self.weights, sizes)?;
        let chain = PrefillRow { prompt: 0, at: prompt.len() as u32, stream: 0, sampler: Sampler::GREEDY };
        pass.prefill(&[PrefillPrompt { ids: &prompt, at: 0 }], 0, &[chain])?;
        pass.draw(0, 1, false)?;
        pass.step(1, theirs.len().saturating_sub(1), false)?;
        let (_, ours) = pass.drawn(1).await?.pop().unwrap_or_default();
        let comparable = gaps.iter().position(|g| *g < NEAR_TIE).unwrap_or(theirs.len()).min(theirs.len());
        let wrong = (0..comparable).find(|i| ours.get(*i).map(|d| d.token) != Some(theirs[*i]));
        let worst = match wrong {
            Some(i) => format!("token {i} differs"),
            None => format!("{comparable} of {} tokens, then a near-tie", theirs.len()),
        };
        let worst = if wrong.is_none() && comparable == theirs.len() { format!("all {comparable} tokens") } else { worst };
        report.add("greedy", &worst, if wrong.is_some() { 1.0 } else { 0.0 }, 0.0);
        Ok(())
    }
}

fn mean_square(a: &[f32], b: &[f32]) -> f64 {
    let sum: f64 = a.iter().zip(b).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum();
    sum / a.len().max(1) as f64
}

/// The `real.*` inputs of the file.
struct Real {
    sequences: Sequences,
    /// The index of the score token in each sequence.
    score_index: Vec<u32>,
    labels: Vec<f32>,
    advantages: Vec<f32>,
    beta: f32,
}

impl Real {
    fn read(golden: &Golden) -> Result<Self, DoctorError> {
        let input = golden.ids("real.input_ids")?;
        let mask = golden.ids("real.attention_mask")?;
        let (score_index, labels) = (golden.ids("real.score_index")?.values, golden.floats("real.targets")?.values);
        let (advantages, beta) = (golden.floats("real.advantages")?.values, golden.scalar("real.beta")?);
        let n = input.shape.first().copied().unwrap_or(0);
        if input.shape.len() != 2 || mask.shape != input.shape {
            return Err(golden.fault("real.attention_mask", "must have the shape of real.input_ids"));
        }
        if [score_index.len(), labels.len(), advantages.len()].iter().any(|l| *l != n) {
            return Err(golden.fault("real.score_index", "needs one score index, target and advantage a sequence"));
        }
        let kept = |(ids, mask): (&[u32], &[u32])| ids.iter().zip(mask).filter(|(_, m)| **m != 0).map(|(i, _)| *i).collect();
        let ids: Vec<Vec<u32>> = input.rows().zip(mask.rows()).map(kept).collect();
        if ids.iter().zip(&score_index).any(|(ids, s)| *s == 0 || *s as usize >= ids.len()) {
            return Err(golden.fault("real.score_index", "is outside its sequence"));
        }
        Ok(Real { sequences: Sequences { ids, width: input.shape[1] }, score_index, labels, advantages, beta })
    }

    fn batch(&self, masks: &[&[f32]], total: f32) -> (PackedInputs, Vec<Labelled>) {
        let mut labelled = Vec::new();
        let mut batch = PackedInputs::default();
        for (i, ids) in self.sequences.ids.iter().enumerate() {
            let start = batch.push(ids);
            for t in 1..ids.len() {
                let is_score = t as u32 == self.score_index[i];
                let weight = self.advantages[i] * masks[i][t] / total;
                if weight == 0.0 && masks[i][t] == 0.0 && !is_score {
                    continue;
                }
                if is_score {
                    let weight = f64::from(self.beta) / self.labels.len() as f64;
                    let value = f64::from(self.labels[i]);
                    labelled.push(Labelled {
                        row: batch.loss_positions.len(),
                        value,
                        weight,
                        expectation: Expectation::FullVocabulary,
                    });
                }
                batch.push_loss(start + t as u32 - 1, TokenLoss::token(ids[t], weight));
            }
        }
        (batch, labelled)
    }
}
