//! Train LLM judges with REAL (regression-aware reinforcement learning, arXiv 2603.17145) on any GPU that wgpu reaches, and run
//! the trained judge.
//!
//! # Score a response
//!
//! A judge is a folder that [`Trainer`] or `jurist train` wrote, a bundle, a PEFT adapter, or a name of the Hugging Face hub.
//! This one comes with the repository; it reads a synthetic language.
//!
//! ```
//! use jurist::{Case, Judge};
//!
//! # fn main() -> Result<(), jurist::Error> {
//! # let (instruction, response, rubric) = ("write", "sections excellent , phrasing sloppy ,", "clarity minor safety plain");
//! let judge = Judge::load("web/judge")?;
//! let score = judge.score(&Case::new(instruction, response).rubric(rubric))?;
//! println!("{:.2} of {:?}", score.expected, score.distribution);
//! # assert!((1.0..=5.0).contains(&score.expected));
//! # Ok(())
//! # }
//! ```
//!
//! [`Score::expected`] is the mean of the score distribution, so a near miss costs less than a far one. Many cases at once go
//! through [`Judge::score_all`]. A [`Dataset`] reads rows from JSON Lines, CSV or Parquet.
//!
//! # Train a judge
//!
//! ```no_run
//! use jurist::{Method, TrainConfig, Trainer};
//!
//! # fn main() -> Result<(), jurist::Error> {
//! let config = TrainConfig {
//!     method: Method::Real,
//!     model_name_or_path: Some("models/qwen3-0.6b".into()),
//!     train_file: "train.jsonl".into(),
//!     output_dir: "judge".into(),
//!     ..TrainConfig::default()
//! };
//! Trainer::new(config).run()?;
//! # Ok(())
//! # }
//! ```
//!
//! # Compare a judge with people
//!
//! ```
//! use jurist::metrics;
//!
//! let (human, judge) = ([1.0, 2.0, 4.0, 5.0], [1.5, 2.5, 3.0, 4.5]);
//! assert!(metrics::spearman(&human, &judge).is_ok_and(|rho| rho == 1.0));
//! ```
//!
//! # Cargo features
//!
//! | feature | default | what it adds |
//! |---|---|---|
//! | `cli` | yes | the program `jurist` |
//! | `csv` | yes | rows from CSV and TSV |
//! | `serve` | yes | `jurist serve`: a judge over the OpenAI-compatible API |
//! | `toml` | yes | config files |
//! | `parquet` | | rows from Parquet |
//! | `hf-hub` | | downloads from the Hugging Face hub |
//! | `mpi` | | several processes as one run, by an MPI library |
//!
//! `ARCHITECTURE.md` in the repository is a map of the code.

#![warn(missing_docs)]
// The page, the program and the tests use parts of the modules that the public API does not. To see what none of them uses,
// compile without this line.
#![cfg_attr(not(feature = "internals"), allow(dead_code, unused_imports))]
// Ending the program, and writing to a stream that may be gone, is for tests. `cli` prints by functions that return the error.
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::todo,
        clippy::unimplemented,
        clippy::print_stdout,
        clippy::print_stderr,
        clippy::dbg_macro
    )
)]
// A browser has no files, clocks, processes and threads: clippy.toml lists them.
#![cfg_attr(target_arch = "wasm32", deny(clippy::disallowed_methods, clippy::disallowed_types))]
// A browser has one thread: what is shared there need not be Send.
#![cfg_attr(target_arch = "wasm32", allow(clippy::arc_with_non_send_sync))]

#[macro_use]
mod words;

mod api;
pub mod metrics;

pub use api::config;
#[cfg(not(target_arch = "wasm32"))]
pub use api::{Bundle, Dataset, ExportOptions, Judge, LoadOptions, TrainOutcome, Trainer, export};
pub use api::{
    CalibratedScore, Case, Error, Expectation, Gpu, GpuOptions, Method, Progress, Score, ScoreOptions, TrainConfig, WeightDtype,
};

#[cfg(test)]
#[path = "../tests/common/skip.rs"]
mod skip;

#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
pub mod web;

#[cfg(all(feature = "cli", not(target_arch = "wasm32")))]
#[doc(hidden)]
pub use cli::run;

// The modules. They are public for the tests, benches and tools of this repository only.

#[cfg(all(feature = "internals", feature = "cli", not(target_arch = "wasm32")))]
#[doc(hidden)]
pub mod bench;
#[cfg(all(not(feature = "internals"), feature = "cli", not(target_arch = "wasm32")))]
mod bench;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod bundle;
#[cfg(not(feature = "internals"))]
mod bundle;
mod charts;
#[cfg(all(feature = "internals", feature = "cli", not(target_arch = "wasm32")))]
#[doc(hidden)]
pub mod cli;
#[cfg(all(not(feature = "internals"), feature = "cli", not(target_arch = "wasm32")))]
mod cli;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod data;
#[cfg(not(feature = "internals"))]
mod data;
#[cfg(all(feature = "internals", feature = "cli", not(target_arch = "wasm32")))]
#[doc(hidden)]
pub mod doctor;
#[cfg(all(not(feature = "internals"), feature = "cli", not(target_arch = "wasm32")))]
mod doctor;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod eval;
#[cfg(not(feature = "internals"))]
mod eval;
#[cfg(all(feature = "internals", feature = "cli", not(target_arch = "wasm32")))]
#[doc(hidden)]
pub mod experiments;
#[cfg(all(not(feature = "internals"), feature = "cli", not(target_arch = "wasm32")))]
mod experiments;
#[cfg(all(feature = "internals", not(target_arch = "wasm32")))]
#[doc(hidden)]
pub mod files;
#[cfg(all(not(feature = "internals"), not(target_arch = "wasm32")))]
mod files;
#[cfg(all(feature = "internals", not(target_arch = "wasm32")))]
#[doc(hidden)]
pub mod gguf;
#[cfg(all(not(feature = "internals"), not(target_arch = "wasm32")))]
mod gguf;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod gpu;
#[cfg(not(feature = "internals"))]
mod gpu;
#[cfg(all(feature = "internals", not(target_arch = "wasm32")))]
#[doc(hidden)]
pub mod hub;
#[cfg(all(not(feature = "internals"), not(target_arch = "wasm32")))]
mod hub;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod judge;
#[cfg(not(feature = "internals"))]
mod judge;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod model;
#[cfg(not(feature = "internals"))]
mod model;
#[cfg(all(feature = "internals", not(target_arch = "wasm32")))]
#[doc(hidden)]
pub mod model_folder;
#[cfg(all(not(feature = "internals"), not(target_arch = "wasm32")))]
mod model_folder;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod ops;
#[cfg(not(feature = "internals"))]
mod ops;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod progress;
#[cfg(not(feature = "internals"))]
mod progress;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod random;
#[cfg(not(feature = "internals"))]
mod random;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod ranks;
#[cfg(not(feature = "internals"))]
mod ranks;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod reference;
#[cfg(not(feature = "internals"))]
mod reference;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod rollout;
#[cfg(not(feature = "internals"))]
mod rollout;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod selftest;
#[cfg(not(feature = "internals"))]
mod selftest;
#[cfg(all(feature = "internals", feature = "serve", not(target_arch = "wasm32")))]
#[doc(hidden)]
pub mod serve;
#[cfg(all(not(feature = "internals"), feature = "serve", not(target_arch = "wasm32")))]
mod serve;
#[cfg(all(feature = "internals", not(target_arch = "wasm32")))]
#[doc(hidden)]
pub mod system;
#[cfg(all(not(feature = "internals"), not(target_arch = "wasm32")))]
mod system;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod text;
#[cfg(not(feature = "internals"))]
mod text;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod train;
#[cfg(not(feature = "internals"))]
mod train;
