//! A training run as a library call.

use super::{Error, Progress, TrainConfig, TrainOutcome};
use crate::gpu::{Gpu, GpuOptions};
use crate::progress::Silent;
use crate::system::SystemClock;
use crate::train::run::{RunContext, run};

/// A training run, as its [`TrainConfig`] says.
///
/// The output folder is that of `jurist train`: checkpoints, `metrics.jsonl`, and at the end the judge, which
/// [`Judge::load`](crate::Judge::load) opens. A run that ended early goes on with `resume_from_checkpoint`.
pub struct Trainer<'a> {
    config: TrainConfig,
    gpu: Option<Gpu>,
    progress: Box<dyn Progress + 'a>,
    interrupted: Box<dyn Fn() -> bool + 'a>,
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
    pub fn progress(self, progress: impl Progress + 'a) -> Self {
        Trainer { progress: Box::new(progress), ..self }
    }

    /// Asks `interrupted` after every step; on `true` the run writes a checkpoint and ends.
    pub fn interrupted(self, interrupted: impl Fn() -> bool + 'a) -> Self {
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

    /// As [`Trainer::run`], for programs that wait elsewhere. Files are read and written without waiting.
    ///
    /// # Errors
    /// As [`Trainer::run`].
    pub async fn run_async(mut self) -> Result<TrainOutcome, Error> {
        let config = self.config.checked()?;
        let gpu = match self.gpu {
            Some(gpu) => gpu,
            None => Gpu::open(&GpuOptions { adapter: config.adapter.clone(), ..GpuOptions::default() }).await?,
        };
        let ctx = RunContext {
            gpu: &gpu,
            clock: &SystemClock::start(),
            progress: self.progress.as_mut(),
            interrupted: self.interrupted.as_ref(),
        };
        Ok(run(&config, ctx).await?)
    }
}
