//! Compares a LoRA adapter with golden values of PEFT: a directory with `adapter/` and `reference.safetensors`, beside a golden
//! checkpoint.

use std::path::{Path, PathBuf};

use super::DoctorError;
use super::against::{GRADIENT_TOLERANCE, LOGITS_TOLERANCE};
use super::golden::Golden;
use crate::gpu::Gpu;
use crate::model::checkpoint::Checkpoint;
use crate::model::decoder::{LogitsPass, PackedInputs, Pass, PassSizes};
use crate::model::error::ModelError;
use crate::model::lora::{Adapter, AdapterFiles, Merged};
use crate::model::tensors::TensorSet;
use crate::model::weights::Weights;
use crate::ops::loss_head::TokenLoss;
use crate::selftest::Report;

/// The adapters in `dir`: folders whose names begin with `compare_adapter`, in the order of their names.
pub(super) fn adapters_in(dir: &Path) -> Result<Vec<PathBuf>, DoctorError> {
    let entries = std::fs::read_dir(dir).map_err(|e| ModelError::io("read", dir, e))?;
    let is_adapter = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str());
        path.is_dir() && name.is_some_and(|name| name.starts_with("lora"))
    };
    let mut adapters: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(is_adapter).collect();
    adapters.sort();
    Ok(adapters)
}

/// Compares the logits with the adapter, the logits after merging, the cross-entropy of every next token, and its gradient with
/// respect to every A and B. The gradient is computed twice: as in a training step, and with recomputed activations. Both must be
/// equal bit for bit.
pub(super) async fn compare_adapter(gpu: &Gpu, model: &Path, dir: &Path, report: &mut Report) -> Result<(), DoctorError> {
    let checkpoint = || Checkpoint::open(model);
    let name = dir.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let golden = Golden::open(&dir.join("reference.safetensors"))?;
    let files = AdapterFiles::open(&dir.join("adapter"))?;
    let base = checkpoint()?;
    let weights = Weights::upload(gpu, &base)?;
    let weights = weights.with_adapter(Adapter::upload(gpu, &weights.config, &files)?);

    let input = golden.ids("input_ids")?;
    let mut batch = PackedInputs::default();
    for ids in input.rows() {
        batch.push(ids);
    }
    batch.loss_positions = (0..batch.ids.len() as u32).collect();
    let logits = |weights: &Weights| LogitsPass::new(gpu, weights, batch.ids.len(), batch.loss_positions.len());
    let merged = Weights::upload(gpu, &Merged::new(Box::new(checkpoint()?), files)?)?;
    for (key, weights) in [("logits", &weights), ("merged_logits", &merged)] {
        let found = logits(weights)?.run(&batch).await?;
        report.compare("lora.logits", &format!("{name}.{key}"), &found, &golden.floats(key)?.values, LOGITS_TOLERANCE);
    }

    let targets: usize = input.rows().map(|ids| ids.len() - 1).sum();
    let mut batch = PackedInputs::default();
    for ids in input.rows() {
        let start = batch.push(ids);
        for (i, next) in ids[1..].iter().enumerate() {
            batch.push_loss(start + i as u32, TokenLoss::token(*next, 1.0 / targets as f32));
        }
    }
    let trained = weights.trainable()?;
    let mut gradients: Vec<Vec<Vec<f32>>> = Vec::new();
    for recompute in [false, true] {
        let gradient = TensorSet::zeros(gpu, trained.groups(), "gradient")?;
        let sizes = PassSizes { tokens: batch.ids.len(), loss_positions: targets, recompute, ..PassSizes::default() };
        let pass = Pass::new(gpu, &weights, Some(&gradient), sizes)?;
        pass.run(&batch)?;
        let loss = pass.stats(targets).await?.iter().map(|s| -f64::from(s.log_p)).sum::<f64>() / targets as f64;
        let off = (loss - f64::from(golden.scalar("ce.loss")?)).abs();
        report.add("lora.loss", &format!("{name}.ce.loss"), off, LOGITS_TOLERANCE);
        let mut tensors = Vec::new();
        for spec in trained.specs() {
            tensors.push(gradient.tensor_values(gpu, &spec.name).await?);
        }
        gradients.push(tensors);
    }
    for (spec, ours) in trained.specs().iter().zip(&gradients[0]) {
        let key = format!("ce.grad.{}", spec.name);
        report.compare_relative("lora.grad", &key, ours, &golden.floats(&key)?.values, GRADIENT_TOLERANCE);
    }
    let differing = gradients[0].iter().zip(&gradients[1]).filter(|(kept, again)| kept != again).count();
    report.add("lora.recompute", "gradients that differ", differing as f64, 0.0);
    Ok(())
}
