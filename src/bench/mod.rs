//! `jurist bench`: how fast this adapter can be, and how close the kernels, a training step and a rollout come to that.
//!
//! | question | file |
//! |---|---|
//! | Which model, how many tokens? | [`shape`] |
//! | How long does it take? | [`clock`] |
//! | What are the limits of the adapter? | [`ceilings`] |
//! | How fast are single kernels? | [`cases`] |
//! | How fast are a training step, a rollout, single decoding, scoring, a LoRA step? | [`model`] |
//! | Which kernel takes how much of a step? | [`profile`] |
//! | How does the cost grow? | [`growth`] |
//! | Rows, shares of the ceiling, tables, JSON, baselines | [`row`] |
//! | `docs/performance.md` and its plots | [`page`], [`plot`] |
//!
//! Everything is measured in one process and one run, ceilings first. Figures of different runs are not comparable, because the
//! machine's state may change within a minute.

pub mod cases;
pub mod ceilings;
pub mod clock;
pub mod growth;
pub mod model;
pub mod page;
mod plot;
pub mod profile;
pub mod row;
pub mod shape;

#[cfg(test)]
mod tests;

pub use ceilings::Ceilings;
pub use clock::Effort;
pub use row::{Baseline, Group, Measurement, Results};
pub use shape::Shape;

use std::path::PathBuf;

use crate::gpu::{Gpu, GpuError, Variant};
use crate::model::error::ModelError;
use crate::progress::Progress;

/// Errors of measuring.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error(transparent)]
    Gpu(#[from] GpuError),

    /// Sizes that do not make a valid model.
    #[error("these sizes make no model: {0}")]
    Shape(String),

    /// A file given as a baseline that is not one.
    #[error("{}: {reason}; expected what `jurist bench --json` or a program of benches/peers printed", path.display())]
    Baseline { path: PathBuf, reason: String },

    #[error("{0} has no timestamp queries, so kernels cannot be timed one by one; leave --profile and --trace out")]
    NoTimestamps(String),

    #[error(transparent)]
    Files(#[from] crate::files::FileError),
}

impl BenchError {
    /// True if the command line is invalid.
    pub fn is_usage(&self) -> bool {
        matches!(self, BenchError::Shape(_) | BenchError::Baseline { .. })
    }
}

/// The selection of measurements.
#[derive(Clone, Debug, Default)]
pub struct BenchOptions {
    pub shape: Shape,
    pub effort: Effort,
    /// The device was opened without features that browsers lack.
    pub basic: bool,
    /// The groups to measure in addition to the ceilings; empty: all groups.
    pub only: Vec<Group>,
}

impl BenchOptions {
    /// Whether this group is requested.
    pub fn wants(&self, group: Group) -> bool {
        self.only.is_empty() || self.only.contains(&group)
    }
}

/// Measures the ceilings and every requested group. `since_start` returns the seconds since the program started. It is called
/// after the first training step, before anything else has warmed up the adapter.
pub async fn measure(
    gpu: &Gpu,
    options: &BenchOptions,
    since_start: &dyn Fn() -> f64,
    progress: &mut dyn Progress,
) -> Result<Results, BenchError> {
    let BenchOptions { shape, effort, .. } = options;
    let mut rows = Vec::new();
    let mut first_step = None;
    if options.wants(Group::Step) {
        progress.note("first training step");
        model::step(gpu, shape)?.run().await?;
        first_step = Some(since_start());
    }
    progress.note("ceilings of the adapter");
    let ceilings = ceilings::measure(gpu, *effort).await?;
    let matrix_units = gpu.tuning().has(Variant::MatmulCooperative);
    let cases: Vec<_> = cases::all_cases(shape, matrix_units).into_iter().filter(|c| options.wants(c.group)).collect();
    for case in &cases {
        progress.note(&case.name);
        rows.push(case.measure(gpu, *effort).await?);
    }
    if options.wants(Group::Step) {
        progress.note("training step");
        rows.push(model::measure_step(gpu, shape, *effort).await?);
    }
    if options.wants(Group::Rollout) {
        progress.note("rollout");
        rows.push(model::measure_rollout(gpu, shape, *effort).await?);
    }
    if options.wants(Group::Decode) {
        progress.note("single decode");
        rows.push(model::measure_decode(gpu, shape, *effort).await?);
    }
    if options.wants(Group::Score) {
        progress.note("scoring");
        rows.push(model::measure_scoring(gpu, shape, *effort).await?);
    }
    if options.wants(Group::Lora) {
        progress.note("LoRA step");
        rows.push(model::measure_lora(gpu, shape, *effort).await?);
    }
    Ok(Results::new(gpu, options, ceilings, rows, first_step))
}
