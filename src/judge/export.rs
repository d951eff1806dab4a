//! A trained judge on its way into a bundle or a GGUF file.

use std::path::Path;

use serde_json::Value;

use super::{JudgeError, JudgeSettings, Result};
use crate::bundle::{self, BundleInput, Label, Manifest, SHARD_BYTES};
use crate::gguf::{self, BlockFormat, GgufExport, Written};
use crate::model::config::Config;
use crate::model::lora::AdapterFiles;
use crate::model::quantised::ColumnSquares;
use crate::model::source::TensorSource;
use crate::model_folder::ModelFolder;
use crate::ops::weight_dtype::WeightDtype;
use crate::text::Tokenizer;

/// What a bundle or a GGUF file is made from. An adapter is added to its model, except in a bundle of 4 bits: rounding would take
/// most of a short update back, so the adapter travels beside the weights there.
pub struct JudgeExport {
    /// `judge.json` as it is.
    judge: Value,
    tokenizer: Tokenizer,
    /// The model with its adapter added, if it has one.
    model: Box<dyn TensorSource>,
    /// The model without it, and the adapter.
    parts: Option<(Box<dyn TensorSource>, AdapterFiles)>,
    /// What calibration measured; empty without one.
    pub squares: ColumnSquares,
    /// What to tell the user.
    pub notes: Vec<String>,
}

impl JudgeExport {
    /// Reads all of a judge but its weights.
    ///
    /// # Errors
    /// A model that is no judge; files that are missing or damaged.
    pub fn open(folder: &ModelFolder) -> Result<Self> {
        let judge = folder.judge_json()?.ok_or_else(|| JudgeError::no_judge(folder))?;
        JudgeSettings::from_json(&judge)?;
        let judge = serde_json::from_str(&judge).map_err(|e| JudgeError::Settings { found: e.to_string() })?;
        let tokenizer = folder.tokenizer()?;
        let stored = folder.weights()?;
        let notes = stored.notes.clone();
        let parts = match stored.adapter.is_some() {
            true => {
                let again = folder.weights()?;
                again.adapter.map(|adapter| (again.source, adapter))
            }
            false => None,
        };
        let model = stored.merged()?;
        Ok(JudgeExport { judge, tokenizer, model, parts, squares: ColumnSquares::default(), notes })
    }

    /// Whether it is an adapter on a model.
    pub fn has_adapter(&self) -> bool {
        self.parts.is_some()
    }

    /// What to tell where a calibrated judge is written with rounded weights. `again` says how to calibrate what is written.
    pub fn calibration_advice(&self, again: &str) -> Option<String> {
        let calibrated = self.judge.get("calibration").is_some();
        calibrated.then(|| format!("its calibration was made with other weights, which score a little differently; {again}"))
    }

    /// The sizes of the model.
    pub fn config(&self) -> &Config {
        self.model.config()
    }

    /// Writes the bundle `to`.
    ///
    /// # Errors
    /// As [`bundle::export`].
    pub fn write(&self, to: &Path, label: &Label, weights: WeightDtype) -> Result<Manifest> {
        let (tokenizer, judge, squares) = (&self.tokenizer, self.judge.clone(), &self.squares);
        let (model, adapter) = match &self.parts {
            Some((base, adapter)) if weights == WeightDtype::Q4 => (base.as_ref(), Some(adapter)),
            _ => (self.model.as_ref(), None),
        };
        let bundle = BundleInput { label, weights, model, adapter, squares, tokenizer, judge };
        Ok(bundle::export(to, &bundle, SHARD_BYTES)?)
    }

    /// Writes the GGUF file `to`.
    ///
    /// # Errors
    /// As [`gguf::export`].
    pub fn write_gguf(&self, to: &Path, name: &str, description: Option<&str>, format: BlockFormat) -> Result<Written> {
        let (model, tokenizer, judge) = (self.model.as_ref(), &self.tokenizer, self.judge.to_string());
        Ok(gguf::export(to, &GgufExport { name, description, format, model, tokenizer, judge: &judge })?)
    }
}

/// The name of a judge that nobody gave one: its folder's.
pub fn folder_name(folder: &Path) -> String {
    let full = std::fs::canonicalize(folder).unwrap_or_else(|_| folder.into());
    full.file_name().map_or("judge".into(), |name| name.to_string_lossy().into_owned())
}
