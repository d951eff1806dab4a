//! Every operation, forward and backward, on one adapter against the `f64` loops of `reference`.
//!
//! The checks run as in real use: with the adapter's own tuning and unchecked shaders. Their shapes are awkward on purpose
//! (tails in every direction, one row, grouped heads 7:1, a prime vocabulary, fewer live rows than planned); gradients flow
//! in from random numbers, and what is accumulated does not start at zero. The tests run the same checks at more shapes.

pub mod attention;
pub mod linear;
pub mod loss;
pub mod matrix;
pub mod optim;
pub mod pointwise;
pub mod sample;

use super::Report;
use super::rig::{Rig, UNTOUCHED};
use crate::gpu::{Gpu, GpuError, Tuning};

/// How much a forward result may be off, relative to its tensor's largest entry.
pub const FORWARD: f64 = 5e-5;
/// How much a gradient may be off.
pub const BACKWARD: f64 = 2e-4;

/// Where operations are tried: a device, the shape of its kernels, and what has been found.
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

    /// A result: relative to the largest expected entry.
    pub fn result(&mut self, operation: &str, what: &str, found: &[f64], expected: &[f64]) {
        self.report.compare_relative(operation, what, found, expected, self.forward);
    }

    /// A gradient: likewise, with the gradients' tolerance.
    pub fn gradient(&mut self, operation: &str, what: &str, found: &[f64], expected: &[f64]) {
        self.report.compare_relative(operation, what, found, expected, self.backward);
    }

    /// A copy, a sum of few numbers, or something else without rounding.
    pub fn exact(&mut self, operation: &str, what: &str, found: &[f64], expected: &[f64]) {
        self.report.compare(operation, what, found, expected, 0.0);
    }

    /// A yes-or-no question.
    pub fn holds(&mut self, operation: &str, what: &str, truth: bool) {
        self.report.add(operation, what, if truth { 0.0 } else { f64::INFINITY }, 0.0);
    }

    /// Compares the first, live part of a tensor, and holds the rest to what it was before.
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

    /// A check that could not be made, because the device refused, is a failed one.
    pub(super) fn settle(&mut self, operation: &str, outcome: Result<(), GpuError>) {
        if let Err(e) = outcome {
            self.report.add(operation, &e.to_string(), f64::INFINITY, 0.0);
        }
    }
}

/// Checks every operation on `gpu`: one finding an operation and direction. A kernel that does not compile, or that the
/// device rejects, is a finding too; after a lost device the list ends there.
///
/// # Errors
/// A device that had already failed before.
pub async fn kernels(gpu: &Gpu) -> Result<Report, GpuError> {
    gpu.check()?;
    let mut b = Bench::new(gpu);
    for room in Room::ALL {
        let outcome = room.check(&mut b).await;
        b.settle(room.name(), outcome);
        if gpu.check().is_err() {
            break;
        }
    }
    Ok(b.report)
}

/// The files of this folder, in the order in which a token meets them.
#[derive(Clone, Copy)]
enum Room {
    Embedding,
    Norm,
    Linear,
    Matrix,
    Rope,
    Attention,
    Swiglu,
    Loss,
    Optimiser,
    Sampling,
}

impl Room {
    const ALL: [Room; 10] = [
        Room::Embedding,
        Room::Norm,
        Room::Linear,
        Room::Matrix,
        Room::Rope,
        Room::Attention,
        Room::Swiglu,
        Room::Loss,
        Room::Optimiser,
        Room::Sampling,
    ];

    /// The operation that a device error is noted under.
    fn name(self) -> &'static str {
        match self {
            Room::Embedding => "embedding",
            Room::Norm => "rmsnorm",
            Room::Linear => "matmul",
            Room::Matrix => "matmul nt q8",
            Room::Rope => "rope",
            Room::Attention => "attention",
            Room::Swiglu => "swiglu",
            Room::Loss => "loss head",
            Room::Optimiser => "adamw",
            Room::Sampling => "sample",
        }
    }

    async fn check(self, b: &mut Bench) -> Result<(), GpuError> {
        match self {
            Room::Embedding => {
                pointwise::embedding(b, 7, 6).await?;
                pointwise::embedding(b, 7, 8).await?;
                pointwise::rows(b, &[6, 0, 3], 5).await?;
                pointwise::rows(b, &[6, 0, 3], 8).await
            }
            Room::Norm => linear::norms(b).await,
            Room::Linear => linear::products(b).await,
            Room::Matrix => matrix::all(b).await,
            Room::Rope => pointwise::rotations(b).await,
            Room::Attention => attention::layers(b).await,
            Room::Swiglu => pointwise::swiglu(b, 9, 7, 13).await,
            Room::Loss => loss::heads(b).await,
            Room::Optimiser => {
                optim::steps(b, 1.0).await?;
                optim::bad_gradients(b).await?;
                optim::extreme_norms(b).await
            }
            Room::Sampling => {
                pointwise::threefry(b).await?;
                sample::greedy(b).await?;
                sample::draws(b, 131, 40).await
            }
        }
    }
}
