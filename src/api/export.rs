//! A trained judge as a bundle: a few files for a web page, or for keeping.

use std::path::Path;

use serde_json::Value;

use super::{Case, Error, WeightDtype, fetch};
use crate::bundle::{self, BundleInput, SHARD_BYTES};
use crate::files::refuse_input;
use crate::judge::{JudgeError, JudgeSettings};
use crate::model::error::ModelError;
use crate::model_folder::ModelFolder;

/// How a judge is exported.
#[derive(Clone, Debug)]
pub struct ExportOptions {
    /// The name that a page shows. `None`: the folder's.
    pub name: Option<String>,
    /// How matrices are stored.
    pub weights: WeightDtype,
    /// Cases to try the judge on, which travel with it; the first 32 count.
    pub examples: Vec<Case>,
}

impl Default for ExportOptions {
    fn default() -> Self {
        ExportOptions { name: None, weights: WeightDtype::F16, examples: Vec::new() }
    }
}

/// What was written.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Bundle {
    /// Parameters of the model.
    pub parameters: u64,
    /// Files of weights.
    pub shards: usize,
    /// Bytes of all files.
    pub bytes: u64,
}

/// Writes the judge in `from` as a bundle to the folder `to`, which must be new, empty, or an earlier bundle. An adapter is added
/// into its model.
///
/// # Errors
/// No judge in `from`; `to` is `from`, or within it; weights that do not fit the format; a folder with anything else in it; a
/// full disk.
pub fn export(from: impl AsRef<Path>, to: impl AsRef<Path>, options: &ExportOptions) -> Result<Bundle, Error> {
    let (from, to) = (from.as_ref(), to.as_ref());
    refuse_input(to, from, "the checkpoint").map_err(ModelError::from)?;
    fetch(from, None)?;
    let folder = ModelFolder::open(from)?;
    let settings = JudgeSettings::of_folder(&folder)?.ok_or_else(|| JudgeError::Settings { found: "there is none".into() })?;
    let judge: Value = serde_json::from_str(&settings.to_json()).map_err(|e| JudgeError::Settings { found: e.to_string() })?;
    let tokenizer = folder.tokenizer()?;
    let model = folder.weights()?.merged()?;
    let full = std::fs::canonicalize(from).unwrap_or_else(|_| from.into());
    let default = full.file_name().map_or("judge".into(), |name| name.to_string_lossy().into_owned());
    let name = options.name.as_deref().unwrap_or(&default);
    let examples = options.examples.iter().map(|case| Value::Object(case.columns().clone())).collect();
    let bundle = BundleInput { name, weights: options.weights, model: model.as_ref(), tokenizer: &tokenizer, judge, examples };
    let manifest = bundle::export(to, &bundle, SHARD_BYTES)?;
    Ok(Bundle { parameters: manifest.parameters, shards: manifest.shards.len(), bytes: manifest.download_bytes() })
}
