//! The public API: what a Rust program that scores, trains or exports needs, and no more.

mod case;
pub mod config;
#[cfg(not(target_arch = "wasm32"))]
mod dataset;
mod error;
#[cfg(not(target_arch = "wasm32"))]
mod export;
#[cfg(not(target_arch = "wasm32"))]
mod gpu;
#[cfg(not(target_arch = "wasm32"))]
mod judge;
#[cfg(not(target_arch = "wasm32"))]
mod trainer;

#[cfg(not(target_arch = "wasm32"))]
use std::path::Path;

pub use case::{Case, Score};
pub use error::Error;

#[cfg(not(target_arch = "wasm32"))]
pub use dataset::Dataset;
#[cfg(not(target_arch = "wasm32"))]
pub use export::{Bundle, ExportOptions, export};
#[cfg(not(target_arch = "wasm32"))]
pub use judge::{Judge, LoadOptions};
#[cfg(not(target_arch = "wasm32"))]
pub use trainer::Trainer;

#[cfg(not(target_arch = "wasm32"))]
use crate::hub::{self, DownloadWatch, Wanted};

pub use crate::eval::recalibration::CalibratedScore;
pub use crate::gpu::{Gpu, GpuOptions};
pub use crate::judge::{Expectation, ScoreOptions};
pub use crate::ops::weight_dtype::WeightDtype;
pub use crate::progress::Progress;
pub use crate::train::TrainConfig;
pub use crate::train::config::Method;
#[cfg(not(target_arch = "wasm32"))]
pub use crate::train::run::TrainOutcome;

/// Downloads what the Hugging Face cache lacks, where this build can.
#[cfg(not(target_arch = "wasm32"))]
fn fetch(source: &Path, base: Option<&Path>, watch: &mut dyn DownloadWatch) -> Result<(), Error> {
    Ok(hub::fetch(source, base, Wanted::All, |name| std::env::var(name).ok(), watch)?)
}
