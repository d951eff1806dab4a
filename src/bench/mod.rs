//! `jurist bench`: how fast this adapter could be, and how near to that the kernels, a training step and a rollout come.
//!
//! | question | file |
//! |---|---|
//! | which model, how many tokens? | [`shape`] |
//! | how long does it take? | [`clock`] |
//! | what can the adapter do at all? | [`ceilings`] |
//! | kernels alone | [`cases`] |
//! | a training step, a rollout, one token after another | [`model`] |
//! | which kernel takes how much of a step? | [`profile`] |
//! | how does the cost grow? | [`growth`] |
//! | a row, its share of the ceiling, tables, JSON, other programs' figures | [`row`] |
//! | `docs/performance.md` and its plots | [`page`], [`plot`] |
//!
//! Everything is measured in one process and one run, ceilings first: figures of different runs are not compared, because
//! the machine may not be the same one a minute later.

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
pub use row::{Baseline, Group, Results, Row};
pub use shape::Shape;

use std::path::PathBuf;

use crate::gpu::{Gpu, GpuError, Variant};
use crate::model::error::ModelError;
use crate::progress::Progress;

/// What can go wrong while measuring.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error(transparent)]
    Gpu(#[from] GpuError),

    /// Sizes that make no model.
    #[error("these sizes make no model: {0}")]
    Shape(String),

    /// A file that is given as a baseline and is none.
    #[error("{}: {reason}; expected what `jurist bench --json` or a program of benches/peers printed", path.display())]
    Baseline { path: PathBuf, reason: String },

    #[error("{0} has no timestamp queries, so kernels cannot be timed one by one; leave --profile and --trace out")]
    NoTimestamps(String),

    #[error(transparent)]
    Files(#[from] crate::files::FileError),
}

impl BenchError {
    /// The command cannot be used as it was given.
    pub fn is_usage(&self) -> bool {
        matches!(self, BenchError::Shape(_) | BenchError::Baseline { .. })
    }
}

/// What to measure.
#[derive(Clone, Debug, Default)]
pub struct Options {
    pub shape: Shape,
    pub effort: Effort,
    /// The device was opened without the features that a browser lacks.
    pub basic: bool,
    /// Groups to measure beside the ceilings; empty: all of them.
    pub only: Vec<Group>,
}

impl Options {
    /// Is this group asked for?
    pub fn wants(&self, group: Group) -> bool {
        self.only.is_empty() || self.only.contains(&group)
    }
}

/// Measures the ceilings and every group asked for. `first` is called after the first training step, before anything
/// else has warmed the adapter, and says how long the program has run.
pub async fn measure(
    gpu: &Gpu,
    options: &Options,
    since_start: &dyn Fn() -> f64,
    progress: &mut dyn Progress,
) -> Result<Results, BenchError> {
    let Options { shape, effort, .. } = options;
    let mut rows = Vec::new();
    let mut first_step = None;
    if options.wants(Group::Step) {
        progress.note("first training step");
        model::step(gpu, shape)?.run().await?;
        first_step = Some(since_start());
    }
    progress.note("ceilings of the adapter");
    let ceilings = ceilings::measure(gpu, *effort).await?;
    let units = gpu.tuning().has(Variant::MatmulCooperative);
    let cases: Vec<_> = cases::all(shape, units).into_iter().filter(|c| options.wants(c.group)).collect();
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
    Ok(Results::new(gpu, options, ceilings, rows, first_step))
}
