//! Training: the settings of a run, its data, its losses and rewards, the loop, and its checkpoints.
//!
//! ```text
//! config ─► data: examples, order, packed batches ─► objective: losses, rewards ─► steps: the loop ─► run: files ─► checkpoint
//! ```
//!
//! `run`, `checkpoint`, `memory` and the TOML side of `config` use files and are native only; the rest compiles to wasm.

pub mod config;
pub mod data;
pub mod error;
pub mod objective;
pub mod steps;

#[cfg(not(target_arch = "wasm32"))]
pub mod checkpoint;
#[cfg(not(target_arch = "wasm32"))]
pub mod memory;
#[cfg(not(target_arch = "wasm32"))]
pub mod run;

pub use config::TrainConfig;
pub use error::TrainError;
