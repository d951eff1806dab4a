//! A judge, loaded from wherever it is kept, on the GPU of this machine.

use std::path::{Path, PathBuf};

use super::case::{Case, Score};
use super::{Error, ScoreOptions, WeightDtype, fetch};
use crate::data::Example;
use crate::gpu::{Gpu, GpuOptions};
use crate::judge::{self, JudgeFiles};
use crate::model::weight_policy::WeightPolicy;
use crate::model_folder::ModelFolder;

/// A judge on a GPU.
///
/// The plans that it runs are kept from call to call, those of single cases beside those of the last batch, so a loop over cases
/// makes them once. Calls from several threads are safe; they take turns on the GPU.
///
/// Each call has a twin that is a future, which can be sent to another thread. There is no thread behind it: it waits for the GPU
/// on the thread that polls it, so an executor for many short tasks is the wrong place for it.
///
/// The expected score is that of [RAIL](https://aclanthology.org/2024.findings-emnlp.1): the mean of the score distribution
/// minimises the squared error.
pub struct Judge {
    inner: judge::Judge,
}

impl std::fmt::Debug for Judge {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let mut shown = f.debug_struct("Judge");
        shown.field("scale", &self.scale()).field("writes_chain", &self.writes_chain()).field("gpu", self.gpu());
        shown.finish_non_exhaustive()
    }
}

/// How a judge is loaded.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// An opened GPU, to share with other judges. `None`: the best adapter of this machine.
    pub gpu: Option<Gpu>,
    /// How the weights are held on the GPU. `None`: as they are stored.
    pub weights: Option<WeightDtype>,
    /// The model of an adapter, in place of the one that the adapter names.
    pub base: Option<PathBuf>,
}

impl Judge {
    /// Loads a judge from a folder that training wrote, a bundle, a PEFT adapter, or a name of the Hugging Face hub
    /// (`org/name@revision`), on the best adapter of this machine. Optional kernels that compute something else on that adapter
    /// are left out.
    ///
    /// A name is looked up in the Hugging Face cache; what is missing there is downloaded in builds with the cargo feature
    /// `hf-hub`.
    ///
    /// # Errors
    /// No such judge, damaged files, a model without `judge.json`; no adapter; too little memory.
    pub fn load(source: impl AsRef<Path>) -> Result<Self, Error> {
        Self::load_with(source, LoadOptions::default())
    }

    /// As [`Judge::load`], with options.
    ///
    /// # Errors
    /// As [`Judge::load`].
    pub fn load_with(source: impl AsRef<Path>, options: LoadOptions) -> Result<Self, Error> {
        let (source, base) = (source.as_ref(), options.base.as_deref());
        fetch(source, base, &mut ())?;
        let files = JudgeFiles::trained(
            &ModelFolder::open_on(source, base)?,
            options.weights.map_or(WeightPolicy::AS_STORED, WeightPolicy::from),
        )?;
        let gpu = match options.gpu {
            Some(gpu) => gpu,
            None => Gpu::open(&GpuOptions::default())?,
        };
        files.check_memory(&gpu, &[], &[])?;
        Ok(Judge { inner: files.upload(&gpu)? })
    }

    /// The values of this judge's scale, in its order.
    pub fn scale(&self) -> &[f64] {
        self.inner.settings().scale.values()
    }

    /// Whether this judge writes a chain of thought before its score.
    pub fn writes_chain(&self) -> bool {
        self.inner.settings().chain
    }

    /// The GPU that this judge is on.
    pub fn gpu(&self) -> &Gpu {
        self.inner.gpu()
    }

    /// Scores one case, with one greedy chain of thought if this judge writes one.
    ///
    /// # Errors
    /// A case without the parts that the judge's template needs, or too long for its model ([`Error::is_case`]); what the GPU
    /// reports.
    pub fn score(&self, case: &Case) -> Result<Score, Error> {
        self.score_with(case, &ScoreOptions::default())
    }

    /// As [`Judge::score`], with sampled chains, another seed, or other limits.
    ///
    /// # Errors
    /// As [`Judge::score`]; options out of their range.
    pub fn score_with(&self, case: &Case, options: &ScoreOptions) -> Result<Score, Error> {
        pollster::block_on(self.score_with_async(case, options))
    }

    /// As [`Judge::score`], as a future.
    ///
    /// # Errors
    /// As [`Judge::score`].
    pub async fn score_async(&self, case: &Case) -> Result<Score, Error> {
        self.score_with_async(case, &ScoreOptions::default()).await
    }

    /// As [`Judge::score_with`], as a future.
    ///
    /// # Errors
    /// As [`Judge::score_with`].
    pub async fn score_with_async(&self, case: &Case, options: &ScoreOptions) -> Result<Score, Error> {
        let judged = self.inner.judge_one(&case.example(1)?, options, ()).await?;
        Score::of(judged, &self.inner.settings().scale)
    }

    /// Scores many cases, in batches; one entry per case, in order. A case that cannot be judged has an error of its own, which
    /// names it by its number, from 1 on, or by its place in its file.
    ///
    /// # Errors
    /// What the GPU reports.
    pub fn score_all(&self, cases: &[Case]) -> Result<Vec<Result<Score, Error>>, Error> {
        self.score_all_with(cases, &ScoreOptions::default())
    }

    /// As [`Judge::score_all`], with sampled chains, another seed, or other limits.
    ///
    /// # Errors
    /// As [`Judge::score_all`]; options out of their range.
    pub fn score_all_with(&self, cases: &[Case], options: &ScoreOptions) -> Result<Vec<Result<Score, Error>>, Error> {
        pollster::block_on(self.score_all_with_async(cases, options))
    }

    /// As [`Judge::score_all`], as a future.
    ///
    /// # Errors
    /// As [`Judge::score_all`].
    pub async fn score_all_async(&self, cases: &[Case]) -> Result<Vec<Result<Score, Error>>, Error> {
        self.score_all_with_async(cases, &ScoreOptions::default()).await
    }

    /// As [`Judge::score_all_with`], as a future.
    ///
    /// # Errors
    /// As [`Judge::score_all_with`].
    pub async fn score_all_with_async(&self, cases: &[Case], options: &ScoreOptions) -> Result<Vec<Result<Score, Error>>, Error> {
        let examples: Vec<Result<Example, Error>> = (1..).zip(cases).map(|(number, case)| case.example(number)).collect();
        let good: Vec<Example> = examples.iter().flatten().cloned().collect();
        let mut judged = self.inner.judge(&good, options, ()).await?.into_iter();
        let scale = &self.inner.settings().scale;
        let scores = examples.into_iter().filter_map(|example| match example {
            Err(error) => Some(Err(error)),
            Ok(_) => Some(Score::of(judged.next()?, scale)),
        });
        Ok(scores.collect())
    }
}
