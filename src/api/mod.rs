//! The library's door: what a Rust program that scores, trains or exports needs, and no more.

mod case;
#[cfg(not(target_arch = "wasm32"))]
mod dataset;
mod error;
#[cfg(not(target_arch = "wasm32"))]
mod export;
#[cfg(not(target_arch = "wasm32"))]
mod judge;
#[cfg(not(target_arch = "wasm32"))]
mod trainer;

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

pub use crate::gpu::{Gpu, GpuOptions};
pub use crate::judge::{Expectation, ScoreOptions};
pub use crate::ops::weight_dtype::WeightDtype;
pub use crate::progress::Progress;
pub use crate::train::TrainConfig;
pub use crate::train::config::Method;
#[cfg(not(target_arch = "wasm32"))]
pub use crate::train::run::TrainOutcome;

/// Downloads what the Hugging Face cache lacks, where this build can.
#[cfg(all(feature = "hf-hub", not(target_arch = "wasm32")))]
fn fetch(source: &std::path::Path, base: Option<&std::path::Path>) -> Result<(), Error> {
    match crate::hub::Hub::from_env(|name| std::env::var(name).ok()) {
        Some(hub) => Ok(hub.fetch_on(source, base, crate::hub::Wanted::All, &mut ())?),
        None => Ok(()),
    }
}

#[cfg(all(not(feature = "hf-hub"), not(target_arch = "wasm32")))]
fn fetch(_: &std::path::Path, _: Option<&std::path::Path>) -> Result<(), Error> {
    Ok(())
}
