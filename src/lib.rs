//! `jurist` trains LLM judges with REAL (regression-aware reinforcement learning, arXiv 2603.17145)
//! on any GPU that wgpu reaches, and runs the trained judge anywhere WebGPU runs.
//!
//! ```text
//! text ─► tokens ─► rollouts ─► packed batch ─► logits ─► score distribution ─► loss or reward ─► gradient ─► weights
//! data     text      rollout      train            model         judge                train           ops        train
//!                                                                    │
//!                                                                    └─► score, evidence, report   (judge, eval)
//! ```
//!
//! Every folder is one station of this line, and a value only ever moves to the right. `ARCHITECTURE.md` says who may
//! import whom; `tests/cpu/house.rs` holds it.

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

pub mod bundle;
pub mod data;
pub mod eval;
pub mod gpu;
pub mod judge;
pub mod model;
pub mod ops;
pub mod progress;
pub mod random;
pub mod rollout;
pub mod text;
pub mod train;

#[cfg(test)]
#[path = "../tests/common/skip.rs"]
mod skip;

#[cfg(target_arch = "wasm32")]
pub mod web;

#[cfg(not(target_arch = "wasm32"))]
pub mod bench;
#[cfg(not(target_arch = "wasm32"))]
pub mod cli;
#[cfg(not(target_arch = "wasm32"))]
pub mod doctor;
#[cfg(not(target_arch = "wasm32"))]
pub mod experiments;
#[cfg(not(target_arch = "wasm32"))]
pub mod files;
#[cfg(not(target_arch = "wasm32"))]
mod hub;
#[cfg(not(target_arch = "wasm32"))]
pub mod reference;
#[cfg(not(target_arch = "wasm32"))]
pub mod selftest;
