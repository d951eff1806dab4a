//! The files of a judge, read from its folder before anything is uploaded to a GPU.

use std::path::Path;

use super::{Judge, JudgeError, JudgeOverrides, JudgeSettings, Result, ScoreOptions};
use crate::bundle::MANIFEST;
use crate::data::Example;
use crate::gguf::is_gguf;
use crate::gpu::{Gpu, MemoryUsage};
use crate::model::error::ModelError;
use crate::model::lora::Adapter;
use crate::model::weight_policy::WeightPolicy;
use crate::model::weights::Weights;
use crate::model_folder::{FolderWeights, ModelFolder};
use crate::ops::weight_dtype::WeightDtype;
use crate::text::Tokenizer;

/// Dtypes that take less memory than f32, in order of increasing loss of precision.
const SMALLER: [WeightDtype; 3] = [WeightDtype::Bf16, WeightDtype::Q8, WeightDtype::Q4];

/// Everything that makes up a judge. The weights are memory-mapped, not read.
pub struct JudgeFiles {
    tokenizer: Tokenizer,
    settings: JudgeSettings,
    weights: FolderWeights,
    policy: WeightPolicy,
    /// Notes for the user.
    pub notes: Vec<String>,
    /// What the user must know.
    pub warnings: Vec<String>,
}

impl JudgeFiles {
    /// A trained judge, with the settings of its `judge.json`.
    ///
    /// # Errors
    /// Missing or damaged files; no `judge.json`.
    pub fn trained(folder: &ModelFolder, policy: WeightPolicy) -> Result<Self> {
        let settings = JudgeSettings::of_folder(folder)?.ok_or_else(|| JudgeError::no_judge(folder))?;
        Ok(JudgeFiles {
            tokenizer: folder.tokenizer()?,
            settings,
            weights: folder.weights()?,
            policy,
            notes: Vec::new(),
            warnings: Vec::new(),
        })
    }

    /// A judge, or a model to be used as one, for these rows: see [`JudgeSettings::resolve`].
    ///
    /// # Errors
    /// Missing or damaged files.
    pub fn resolve(folder: &ModelFolder, policy: WeightPolicy, overrides: &JudgeOverrides, rows: &[Example]) -> Result<Self> {
        let tokenizer = folder.tokenizer()?;
        let stored = JudgeSettings::of_folder(folder)?;
        let was_calibrated = stored.as_ref().is_some_and(|stored| stored.calibration.is_some());
        let mut settings = JudgeSettings::resolve(stored, overrides, &tokenizer, rows)?;
        let notes: Vec<String> = settings.state_date(&tokenizer)?.into_iter().collect();
        let mut warnings: Vec<String> = Vec::new();
        if was_calibrated && settings.calibration.is_none() {
            let line = "the flags make another judge of it than the one that was calibrated: rows get no calibrated score";
            warnings.push(line.into());
        }
        if settings.calibration.is_some() && policy != WeightPolicy::AS_STORED {
            let line = "--weights: the calibration is that of the weights as they are stored, unless the judge was calibrated with this \
                        flag: calibrated scores and their intervals are a little off";
            warnings.push(line.into());
        }
        Ok(JudgeFiles { tokenizer, settings, weights: folder.weights()?, policy, notes, warnings })
    }

    /// Prompt and scale.
    pub fn settings(&self) -> &JudgeSettings {
        &self.settings
    }

    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Uploads the judge to this GPU.
    ///
    /// # Errors
    /// Settings that do not fit the tokenizer; weights that are not finite; too little memory.
    pub fn upload(&self, gpu: &Gpu) -> Result<Judge> {
        self.upload_as(gpu, self.policy)
    }

    fn upload_as(&self, gpu: &Gpu, policy: WeightPolicy) -> Result<Judge> {
        let mut weights = Weights::upload_as(gpu, self.weights.source.as_ref(), policy)?;
        if let Some(files) = &self.weights.adapter {
            weights = weights.with_adapter(Adapter::upload(gpu, &weights.config, files)?);
        }
        Judge::new(gpu, &weights, self.tokenizer.clone(), self.settings.clone())
    }

    /// Refuses to score `rows` if that needs more memory than a software adapter may take. Nothing is allocated.
    ///
    /// # Errors
    /// [`JudgeError::Memory`] with a way to make it fit; settings that do not fit the tokenizer.
    pub fn check_memory(&self, gpu: &Gpu, rows: &[Example], calls: &[ScoreOptions]) -> Result<()> {
        let Some(available) = gpu.memory_left() else { return Ok(()) };
        let usage = self.peak_usage(gpu, self.policy, rows, calls)?;
        if usage.total() <= available {
            return Ok(());
        }
        let mut fix =
            "no form of the weights makes it fit: lower --batch-size and --max-length, take a smaller model, or an adapter \
                       with more memory"
                .to_string();
        for smaller in SMALLER {
            let total = self.peak_usage(gpu, smaller.into(), rows, calls)?.total();
            if total <= available {
                fix = format!("--weights {} needs {} MiB", smaller.name(), total.div_ceil(1 << 20));
                break;
            }
        }
        Err(JudgeError::Memory { needed: usage.total().div_ceil(1 << 20), available: available >> 20, usage: usage.into(), fix })
    }

    /// Peak memory of scoring `rows` in these calls, from a dry run.
    fn peak_usage(&self, gpu: &Gpu, policy: WeightPolicy, rows: &[Example], calls: &[ScoreOptions]) -> Result<MemoryUsage> {
        let dry = gpu.dry_copy();
        let judge = self.upload_as(&dry, policy)?;
        calls.iter().try_for_each(|options| judge.reserve(rows, options))?;
        Ok(dry.peak_usage())
    }
}

/// The tokenizer at a path: a `tokenizer.json`, a bundle, or a folder with tokenizer files.
///
/// # Errors
/// An unreadable file; as [`ModelFolder::open`] and [`ModelFolder::tokenizer`].
pub fn tokenizer_at(path: &Path) -> Result<Tokenizer> {
    if path.is_file() && !is_gguf(path) {
        let bytes = std::fs::read(path).map_err(|e| ModelError::io("read the tokenizer", path, e))?;
        return Ok(Tokenizer::from_bytes(&bytes)?);
    }
    let is_model = is_gguf(path) || path.join(MANIFEST).is_file();
    Ok(if is_model { ModelFolder::open(path)?.tokenizer()? } else { Tokenizer::from_dir(path)? })
}
