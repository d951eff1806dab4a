//! A training run as a library call.

use std::path::Path;

use super::{Error, Progress, TrainConfig, TrainOutcome, fetch};
use crate::gpu::{Gpu, GpuOptions};
use crate::hub::DownloadWatch;
use crate::progress::Silent;
use crate::ranks::Ranks;
use crate::system::SystemClock;
use crate::train::run::{RunContext, run};
use crate::words::count;

/// A training run, as its [`TrainConfig`] says.
///
/// The output folder is that of `jurist train`: checkpoints, `metrics.jsonl`, and at the end the judge, which
/// [`Judge::load`](crate::Judge::load) opens. `resume_from_checkpoint` continues a run that ended early. A start model may be
/// a name of the Hugging Face hub, as for [`Judge::load`](crate::Judge::load).
pub struct Trainer<'a> {
    config: TrainConfig,
    gpu: Option<Gpu>,
    progress: Box<dyn Progress + Send + 'a>,
    interrupted: Box<dyn Fn() -> bool + Send + Sync + 'a>,
}

impl std::fmt::Debug for Trainer<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.debug_struct("Trainer").field("config", &self.config).field("gpu", &self.gpu).finish_non_exhaustive()
    }
}

/// Tells a run's progress what is downloaded for it.
struct Downloads<'a>(&'a mut dyn Progress);

impl DownloadWatch for Downloads<'_> {
    fn begin(&mut self, model: &str, files: usize, bytes: u64, there: u64) {
        let left = bytes.saturating_sub(there) as f64 / 1e6;
        self.0.note(&format!("fetching {model}: {}, {left:.1} MB", count(files, "file")));
    }

    fn again(&mut self, file: &str, why: &str) {
        self.0.note(&format!("{file}: {why}; trying again"));
    }
}

impl<'a> Trainer<'a> {
    /// A run that says nothing and cannot be interrupted.
    pub fn new(config: TrainConfig) -> Self {
        Trainer { config, gpu: None, progress: Box::new(Silent), interrupted: Box::new(|| false) }
    }

    /// Runs on this GPU; without it on the one that `adapter` of the config names, else the best of this machine.
    pub fn gpu(self, gpu: Gpu) -> Self {
        Trainer { gpu: Some(gpu), ..self }
    }

    /// Tells `progress` what happens.
    pub fn progress(self, progress: impl Progress + Send + 'a) -> Self {
        Trainer { progress: Box::new(progress), ..self }
    }

    /// Asks `interrupted` after every step; on `true` the run writes a checkpoint and ends.
    pub fn interrupted(self, interrupted: impl Fn() -> bool + Send + Sync + 'a) -> Self {
        Trainer { interrupted: Box::new(interrupted), ..self }
    }

    /// Trains to the end.
    ///
    /// # Errors
    /// Settings that cannot be used or do not go together; files that are missing or damaged; no adapter; too little memory; a
    /// run that diverged. Checkpoints that were written stay.
    pub fn run(self) -> Result<TrainOutcome, Error> {
        pollster::block_on(self.run_async())
    }

    /// As [`Trainer::run`], as a future. The run is on the thread that polls it, and holds it for all of a step and for reading
    /// and writing files: give it a thread of its own.
    ///
    /// # Errors
    /// As [`Trainer::run`].
    pub async fn run_async(mut self) -> Result<TrainOutcome, Error> {
        let config = self.config.checked()?;
        if let Some(model) = &config.model_name_or_path {
            fetch(Path::new(model), config.base.as_deref().map(Path::new), &mut Downloads(self.progress.as_mut()))?;
        }
        let gpu = match self.gpu {
            Some(gpu) => gpu,
            None => Gpu::open_async(&GpuOptions { adapter: config.adapter.clone(), ..GpuOptions::default() }).await?,
        };
        let ctx = RunContext {
            gpu: &gpu,
            clock: &SystemClock::start(),
            progress: self.progress.as_mut(),
            ranks: &Ranks::alone(),
            interrupted: self.interrupted.as_ref(),
        };
        Ok(run(&config, ctx).await?)
    }
}
