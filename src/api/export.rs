//! A trained judge as a bundle: a few files for a web page, or for keeping.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{Case, Error, WeightDtype, fetch};
use crate::bundle::Label;
use crate::files::refuse_input;
use crate::judge::{JudgeExport, folder_name};
use crate::model::error::ModelError;
use crate::model_folder::ModelFolder;

/// How a judge is exported.
#[derive(Clone, Debug)]
pub struct ExportOptions {
    /// The name that a page shows. `None`: the folder's.
    pub name: Option<String>,
    /// What a page says of it before it is loaded: what it is good for, and what not. At most 4,096 bytes.
    pub description: Option<String>,
    /// How matrices are stored.
    pub weights: WeightDtype,
    /// Cases to try the judge on, which travel with it; the first 32 count.
    pub examples: Vec<Case>,
    /// The model of an adapter, in place of the one that the adapter names.
    pub base: Option<PathBuf>,
}

impl Default for ExportOptions {
    fn default() -> Self {
        ExportOptions { name: None, description: None, weights: WeightDtype::F16, examples: Vec::new(), base: None }
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
    let base = options.base.as_deref();
    fetch(from, base, &mut ())?;
    let judge = JudgeExport::open(&ModelFolder::open_on(from, base)?)?;
    let name = options.name.clone().unwrap_or_else(|| folder_name(from));
    let examples = options.examples.iter().map(|case| Value::Object(case.columns().clone())).collect();
    let label = Label { name, description: options.description.clone(), examples };
    let manifest = judge.write(to, &label, options.weights)?;
    Ok(Bundle { parameters: manifest.parameters, shards: manifest.shards.len(), bytes: manifest.download_bytes() })
}
