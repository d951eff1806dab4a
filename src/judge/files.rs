//! A judge's folder, read, before anything of it is on a GPU.

use std::path::Path;

use super::{Judge, JudgeError, JudgeOverrides, JudgeSettings, Result, ScoreOptions};
use crate::bundle::MANIFEST;
use crate::data::Example;
use crate::gpu::{Gpu, MemoryUsage};
use crate::model::error::ModelError;
use crate::model::lora::Adapter;
use crate::model::weight_policy::WeightPolicy;
use crate::model::weights::Weights;
use crate::model_folder::{FolderWeights, ModelFolder};
use crate::ops::weight_dtype::WeightDtype;
use crate::text::Tokenizer;

/// Dtypes that hold a model in less memory than f32, the gentlest first.
const SMALLER: [WeightDtype; 3] = [WeightDtype::Bf16, WeightDtype::Q8, WeightDtype::Q4];

/// Everything that a judge is made from. The weights are mapped, not read.
pub struct JudgeFiles {
    tokenizer: Tokenizer,
    settings: JudgeSettings,
    weights: FolderWeights,
    policy: WeightPolicy,
    /// What to tell the user.
    pub notes: Vec<String>,
}

impl JudgeFiles {
    /// A trained judge, as its `judge.json` says.
    ///
    /// # Errors
    /// Files that are missing or damaged; no `judge.json`.
    pub fn trained(folder: &ModelFolder, policy: WeightPolicy) -> Result<Self> {
        let missing = || JudgeError::Settings { found: "there is none".into() };
        let settings = JudgeSettings::of_folder(folder)?.ok_or_else(missing)?;
        Ok(JudgeFiles { tokenizer: folder.tokenizer()?, settings, weights: folder.weights()?, policy, notes: Vec::new() })
    }

    /// A judge, or a model that is to be one, for these rows: see [`JudgeSettings::resolve`].
    ///
    /// # Errors
    /// Files that are missing or damaged.
    pub fn resolve(folder: &ModelFolder, policy: WeightPolicy, asked: &JudgeOverrides, rows: &[Example]) -> Result<Self> {
        let tokenizer = folder.tokenizer()?;
        let mut settings = JudgeSettings::resolve(JudgeSettings::of_folder(folder)?, asked, &tokenizer, rows)?;
        let notes = settings.state_date(&tokenizer)?.into_iter().collect();
        Ok(JudgeFiles { tokenizer, settings, weights: folder.weights()?, policy, notes })
    }

    /// The judge on this GPU.
    ///
    /// # Errors
    /// Settings that do not fit the tokenizer; numbers that are not finite; too little memory.
    pub fn upload(&self, gpu: &Gpu) -> Result<Judge> {
        self.upload_as(gpu, self.policy.of_stored(self.weights.matrix_dtype))
    }

    fn upload_as(&self, gpu: &Gpu, dtype: WeightDtype) -> Result<Judge> {
        let mut weights = Weights::upload_as(gpu, self.weights.source.as_ref(), dtype)?;
        if let Some(files) = &self.weights.adapter {
            weights = weights.with_adapter(Adapter::upload(gpu, &weights.config, files)?);
        }
        Judge::new(gpu, &weights, self.tokenizer.clone(), self.settings.clone())
    }

    /// Refuses to judge `rows` where the memory that a software adapter may take is too small for it. Nothing is allocated.
    ///
    /// # Errors
    /// [`JudgeError::Memory`], with what would help; settings that do not fit the tokenizer.
    pub fn check_memory(&self, gpu: &Gpu, rows: &[Example], judging: &ScoreOptions) -> Result<()> {
        let Some(available) = gpu.memory_left() else { return Ok(()) };
        let dtype = self.policy.of_stored(self.weights.matrix_dtype);
        let held = self.held(gpu, dtype, rows, judging)?;
        if held.total() <= available {
            return Ok(());
        }
        let mut fix =
            "no form of the weights makes it fit: lower --batch-size and --max-length, take a smaller model, or an adapter \
                       with more memory"
                .to_string();
        for smaller in SMALLER {
            let total = self.held(gpu, smaller, rows, judging)?.total();
            if total <= available {
                fix = format!("--weights {} needs {} MiB", smaller.name(), total.div_ceil(1 << 20));
                break;
            }
        }
        Err(JudgeError::Memory { needed: held.total().div_ceil(1 << 20), available: available >> 20, held: held.into(), fix })
    }

    /// What judging `rows` holds when it holds most.
    fn held(&self, gpu: &Gpu, dtype: WeightDtype, rows: &[Example], judging: &ScoreOptions) -> Result<MemoryUsage> {
        let dry = gpu.dry_copy();
        self.upload_as(&dry, dtype)?.reserve(rows, judging)?;
        Ok(dry.peak())
    }
}

/// The tokenizer at a path: a `tokenizer.json`, a bundle, or a folder that may hold nothing else.
///
/// # Errors
/// A file that cannot be read; as [`ModelFolder::open`] and [`ModelFolder::tokenizer`].
pub fn tokenizer_at(path: &Path) -> Result<Tokenizer> {
    if path.is_file() && path.extension().is_none_or(|ending| ending != crate::gguf::ENDING) {
        let bytes = std::fs::read(path).map_err(|e| ModelError::io("read the tokenizer", path, e))?;
        return Ok(Tokenizer::from_bytes(&bytes)?);
    }
    let is_model = path.is_file() || path.join(MANIFEST).is_file();
    Ok(if is_model { ModelFolder::open(path)?.tokenizer()? } else { Tokenizer::from_dir(path)? })
}
