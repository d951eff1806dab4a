//! Every operation, forward and backward, on one adapter, compared with the `f64` loops of `reference`.
//!
//! The checks run as in real use: with the adapter's own tuning and unchecked shaders. Their shapes are awkward on purpose:
//! tails in every direction, one row, grouped heads 7:1, a prime vocabulary, fewer live rows than planned. The incoming gradients
//! are random, and accumulated outputs do not start at zero. The tests run the same checks at more shapes.

pub mod adamw;
pub mod attention;
pub mod cached_attention;
pub mod dropout;
pub mod embedding;
pub mod grad_norm;
pub mod loss_head;
pub mod matmul;
pub mod matmul_packed;
pub mod rmsnorm;
pub mod rope;
pub mod rows;
pub mod sample;
pub mod swiglu;
pub mod threefry;

use super::Report;
use super::rig::{Rig, UNTOUCHED};
use crate::gpu::{Gpu, GpuError, Tuning};

/// The tolerance of a forward result, relative to its tensor's largest entry.
pub const FORWARD: f64 = 5e-5;
/// The tolerance of a gradient, likewise.
pub const BACKWARD: f64 = 2e-4;

/// A device to check operations on, the tuning of its kernels, the tolerances, and the findings so far.
pub struct Bench {
    pub gpu: Gpu,
    pub tuning: Tuning,
    pub forward: f64,
    pub backward: f64,
    pub report: Report,
}

impl Bench {
    pub fn new(gpu: &Gpu) -> Self {
        let (gpu, tuning) = (gpu.clone(), gpu.tuning().clone());
        Bench { gpu, tuning, forward: FORWARD, backward: BACKWARD, report: Report::default() }
    }

    pub fn rig(&self) -> Rig {
        Rig::new(&self.tuning)
    }

    /// Compares a result, relative to the largest expected entry.
    pub fn result(&mut self, operation: &str, what: &str, found: &[f64], expected: &[f64]) {
        self.report.compare_relative(operation, what, found, expected, self.forward);
    }

    /// Compares a gradient, likewise, with the gradients' tolerance.
    pub fn gradient(&mut self, operation: &str, what: &str, found: &[f64], expected: &[f64]) {
        self.report.compare_relative(operation, what, found, expected, self.backward);
    }

    /// Compares values that have no rounding, such as copies.
    pub fn exact(&mut self, operation: &str, what: &str, found: &[f64], expected: &[f64]) {
        self.report.compare(operation, what, found, expected, 0.0);
    }

    /// Checks that something is true.
    pub fn holds(&mut self, operation: &str, what: &str, truth: bool) {
        self.report.add(operation, what, if truth { 0.0 } else { f64::INFINITY }, 0.0);
    }

    /// Compares the first, live part of a tensor, and checks that the rest is untouched.
    pub fn live_result(&mut self, operation: &str, what: &str, found: &[f64], expected: &[f64]) {
        let live = expected.len().min(found.len());
        self.result(operation, what, &found[..live], expected);
        self.untouched(operation, what, &found[live..]);
    }

    /// As [`Bench::live_result`], for gradients.
    pub fn live_gradient(&mut self, operation: &str, what: &str, found: &[f64], expected: &[f64]) {
        let live = expected.len().min(found.len());
        self.gradient(operation, what, &found[..live], expected);
        self.untouched(operation, what, &found[live..]);
    }

    /// As [`Bench::live_result`], for copies.
    pub fn live_exact(&mut self, operation: &str, what: &str, found: &[f64], expected: &[f64]) {
        let live = expected.len().min(found.len());
        self.exact(operation, what, &found[..live], expected);
        self.untouched(operation, what, &found[live..]);
    }

    fn untouched(&mut self, operation: &str, what: &str, rest: &[f64]) {
        if rest.iter().any(|x| *x != UNTOUCHED) {
            self.report.add(operation, &format!("{what}: written past the live rows"), f64::INFINITY, 0.0);
        }
    }

    /// Reports a device error as a failed check.
    pub(super) fn settle(&mut self, operation: &str, outcome: Result<(), GpuError>) {
        if let Err(e) = outcome {
            self.report.add(operation, &e.to_string(), f64::INFINITY, 0.0);
        }
    }
}

/// Checks every operation on `gpu`: one finding per operation and direction. A kernel that does not compile, or that the device
/// rejects, is a finding too. After a lost device the list ends.
///
/// # Errors
/// A device that had already failed before.
pub async fn kernels(gpu: &Gpu) -> Result<Report, GpuError> {
    gpu.check()?;
    let mut b = Bench::new(gpu);
    for operation in Operation::ALL {
        let outcome = operation.check(&mut b).await;
        b.settle(operation.name(), outcome);
        if gpu.check().is_err() {
            break;
        }
    }
    Ok(b.report)
}

/// The operations, in the order in which a token meets them.
#[derive(Clone, Copy)]
enum Operation {
    Embedding,
    Rows,
    RmsNorm,
    Matmul,
    MatmulPacked,
    Dropout,
    Rope,
    Attention,
    CachedAttention,
    Swiglu,
    LossHead,
    GradNorm,
    AdamW,
    Threefry,
    Sample,
}

impl Operation {
    const ALL: [Operation; 15] = [
        Operation::Embedding,
        Operation::Rows,
        Operation::RmsNorm,
        Operation::Matmul,
        Operation::MatmulPacked,
        Operation::Dropout,
        Operation::Rope,
        Operation::Attention,
        Operation::CachedAttention,
        Operation::Swiglu,
        Operation::LossHead,
        Operation::GradNorm,
        Operation::AdamW,
        Operation::Threefry,
        Operation::Sample,
    ];

    /// The name under which a device error is reported.
    fn name(self) -> &'static str {
        match self {
            Operation::Embedding => "embedding",
            Operation::Rows => "rows gather",
            Operation::RmsNorm => "rmsnorm",
            Operation::Matmul => "matmul",
            Operation::MatmulPacked => "matmul nt q8",
            Operation::Dropout => "dropout",
            Operation::Rope => "rope",
            Operation::Attention => "attention",
            Operation::CachedAttention => "cached attention",
            Operation::Swiglu => "swiglu",
            Operation::LossHead => "loss head",
            Operation::GradNorm => "gradient norm",
            Operation::AdamW => "adamw",
            Operation::Threefry => "threefry",
            Operation::Sample => "sample",
        }
    }

    async fn check(self, b: &mut Bench) -> Result<(), GpuError> {
        match self {
            Operation::Embedding => embedding::checks(b).await,
            Operation::Rows => rows::checks(b).await,
            Operation::RmsNorm => rmsnorm::checks(b).await,
            Operation::Matmul => matmul::checks(b).await,
            Operation::MatmulPacked => matmul_packed::checks(b).await,
            Operation::Dropout => dropout::checks(b).await,
            Operation::Rope => rope::checks(b).await,
            Operation::Attention => attention::checks(b).await,
            Operation::CachedAttention => cached_attention::checks(b).await,
            Operation::Swiglu => swiglu::checks(b).await,
            Operation::LossHead => loss_head::checks(b).await,
            Operation::GradNorm => grad_norm::checks(b).await,
            Operation::AdamW => adamw::checks(b).await,
            Operation::Threefry => threefry::checks(b).await,
            Operation::Sample => sample::checks(b).await,
        }
    }
}
