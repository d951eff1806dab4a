//! Training: what a run is asked to do, in which order it sees the data, how fast it learns, and what it leaves behind.
//!
//! ```text
//! config ─► order ─► pack ─► (model, ops: logits, loss, gradient) ─► schedule ─► AdamW ─► checkpoint, log
//! ```
//!
//! One row of data passes these files from left to right. Only `checkpoint`, `training_state` and the TOML
//! side of `config` touch files; they are native only, the rest compiles to wasm.

pub mod advantage;
pub mod config;
pub mod engine;
pub mod error;
pub mod examples;
pub mod log;
pub mod optimiser;
pub mod order;
pub mod pack;
pub mod policy;
pub mod reward;
pub mod schedule;
pub mod trainer;

#[cfg(not(target_arch = "wasm32"))]
pub mod checkpoint;
#[cfg(not(target_arch = "wasm32"))]
pub mod memory;
#[cfg(not(target_arch = "wasm32"))]
mod output;
#[cfg(not(target_arch = "wasm32"))]
pub mod run;
#[cfg(not(target_arch = "wasm32"))]
pub mod start;
#[cfg(not(target_arch = "wasm32"))]
mod tract;
#[cfg(not(target_arch = "wasm32"))]
pub mod training_state;

pub use config::TrainConfig;
pub use error::TrainError;
