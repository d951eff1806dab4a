//! `jurist doctor`: does this adapter compute correct results?
//!
//! `against` compares the decoder with golden values of another implementation; `selftest` compares each operation with the f64
//! reference.

mod adapters;
mod against;
mod golden;

pub use against::{against, against_on};
pub use golden::Golden;

use crate::model::error::ModelError;

/// Errors of the doctor: input that cannot be checked. A failed check is a result, not an error.
#[derive(Debug, thiserror::Error)]
pub enum DoctorError {
    #[error("cannot read {path}: {source}")]
    Io { path: String, source: std::io::Error },

    #[error("{path} is damaged or no safetensors file: {reason}")]
    Damaged { path: String, reason: String },

    #[error("{path}: key `{key}`: {problem}")]
    Key { path: String, key: String, problem: String },

    #[error(transparent)]
    Model(#[from] ModelError),
}

impl From<crate::gpu::GpuError> for DoctorError {
    fn from(e: crate::gpu::GpuError) -> Self {
        DoctorError::Model(e.into())
    }
}
