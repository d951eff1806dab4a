//! Every operation, forward and backward, on one adapter, compared with the `f64` loops of `reference`.
//!
//! The checks run as in real use: with the adapter's own tuning and unchecked shaders. Their shapes are awkward on purpose:
//! tails in every direction, one row, grouped heads 7:1, a prime vocabulary, fewer live rows than planned. The incoming gradients
//! are random, and accumulated outputs do not start at zero. The tests run the same checks at more shapes.
//!
//! In the checks, `x` are numbers on the host and `gx` is the tensor that holds them on the GPU.

pub mod adamw;
pub mod add;
pub mod attention;
pub mod cached_attention;
pub mod column_squares;
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
use super::test_plan::{TestPlan, UNTOUCHED};
use crate::gpu::{Gpu, GpuError, Tuning};

/// The tolerance of a forward result, relative to its tensor's largest entry.
pub const FORWARD_TOLERANCE: f64 = 5e-5;
/// The tolerance of a gradient, likewise.
pub const BACKWARD_TOLERANCE: f64 = 2e-4;

/// Compares kernels with the reference: the device and the tuning that they run with, the tolerances, and the report so far.
pub struct KernelChecker {
    pub gpu: Gpu,
    pub tuning: Tuning,
    pub forward_tolerance: f64,
    pub backward_tolerance: f64,
    pub report: Report,
}

impl KernelChecker {
    pub fn new(gpu: &Gpu) -> Self {
        let (gpu, tuning) = (gpu.clone(), gpu.tuning().clone());
        KernelChecker {
            gpu,
            tuning,
            forward_tolerance: FORWARD_TOLERANCE,
            backward_tolerance: BACKWARD_TOLERANCE,
            report: Report::default(),
        }
    }

    /// An empty plan for kernels of this tuning.
    pub fn test_plan(&self) -> TestPlan {
        TestPlan::new(&self.tuning)
    }

    /// Compares a result, relative to the largest expected entry.
    pub fn compare_result(&mut self, operation: &str, what: &str, found: &[f64], expected: &[f64]) {
        self.report.compare_relative(operation, what, found, expected, self.forward_tolerance);
    }

    /// Compares a gradient, likewise, with the gradients' tolerance.
    pub fn compare_gradient(&mut self, operation: &str, what: &str, found: &[f64], expected: &[f64]) {
        self.report.compare_relative(operation, what, found, expected, self.backward_tolerance);
    }

    /// Compares values that have no rounding, such as copies.
    pub fn compare_exact(&mut self, operation: &str, what: &str, found: &[f64], expected: &[f64]) {
        self.report.compare(operation, what, found, expected, 0.0);
    }

    /// Checks that something is true.
    pub fn check(&mut self, operation: &str, what: &str, truth: bool) {
        self.report.add(operation, what, if truth { 0.0 } else { f64::INFINITY }, 0.0);
    }

    /// Compares the first, live part of a tensor, and checks that the rest is untouched.
    pub fn compare_live_result(&mut self, operation: &str, what: &str, found: &[f64], expected: &[f64]) {
        let live = expected.len().min(found.len());
        self.compare_result(operation, what, &found[..live], expected);
        self.check_untouched(operation, what, &found[live..]);
    }

    /// As [`KernelChecker::compare_live_result`], for gradients.
    pub fn compare_live_gradient(&mut self, operation: &str, what: &str, found: &[f64], expected: &[f64]) {
        let live = expected.len().min(found.len());
        self.compare_gradient(operation, what, &found[..live], expected);
        self.check_untouched(operation, what, &found[live..]);
    }

    /// As [`KernelChecker::compare_live_result`], for copies.
    pub fn compare_live_exact(&mut self, operation: &str, what: &str, found: &[f64], expected: &[f64]) {
        let live = expected.len().min(found.len());
        self.compare_exact(operation, what, &found[..live], expected);
        self.check_untouched(operation, what, &found[live..]);
    }

    fn check_untouched(&mut self, operation: &str, what: &str, rest: &[f64]) {
        if rest.iter().any(|x| *x != UNTOUCHED) {
            self.report.add(operation, &format!("{what}: written past the live rows"), f64::INFINITY, 0.0);
        }
    }

    /// Reports a device error as a failed check.
    pub(super) fn report_error(&mut self, operation: &str, outcome: Result<(), GpuError>) {
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
    let mut checker = KernelChecker::new(gpu);
    for operation in Operation::ALL {
        let outcome = operation.check(&mut checker).await;
        checker.report_error(operation.name(), outcome);
        if gpu.check().is_err() {
            break;
        }
    }
    Ok(checker.report)
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
    ColumnSquares,
    Add,
}

impl Operation {
    const ALL: [Operation; 17] = [
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
        Operation::ColumnSquares,
        Operation::Add,
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
            Operation::ColumnSquares => "column squares",
            Operation::Add => "add",
        }
    }

    async fn check(self, checker: &mut KernelChecker) -> Result<(), GpuError> {
        match self {
            Operation::Embedding => embedding::checks(checker).await,
            Operation::Rows => rows::checks(checker).await,
            Operation::RmsNorm => rmsnorm::checks(checker).await,
            Operation::Matmul => matmul::checks(checker).await,
            Operation::MatmulPacked => matmul_packed::checks(checker).await,
            Operation::Dropout => dropout::checks(checker).await,
            Operation::Rope => rope::checks(checker).await,
            Operation::Attention => attention::checks(checker).await,
            Operation::CachedAttention => cached_attention::checks(checker).await,
            Operation::Swiglu => swiglu::checks(checker).await,
            Operation::LossHead => loss_head::checks(checker).await,
            Operation::GradNorm => grad_norm::checks(checker).await,
            Operation::AdamW => adamw::checks(checker).await,
            Operation::Threefry => threefry::checks(checker).await,
            Operation::Sample => sample::checks(checker).await,
            Operation::ColumnSquares => column_squares::checks(checker).await,
            Operation::Add => add::checks(checker).await,
        }
    }
}
