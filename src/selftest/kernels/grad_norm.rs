//! The global gradient norm and the clip factor.

use super::KernelChecker;
use crate::gpu::{GpuError, Tensor};
use crate::ops::grad_norm;
use crate::reference::grad_norm as reference;
use crate::selftest::test_plan::{BuiltTestPlan, TestPlan, random};

/// Sizes around the 256 elements of a thread and the 256 sums of the second stage.
pub const SIZES: [usize; 5] = [1, 255, 257, 4096, 70_000];

/// The gradients of several tensors, and their norm.
pub(super) struct Gradients {
    pub tensors: Vec<Tensor>,
    /// Norm, clip factor, 1 if the clipped gradient can be applied.
    pub norm: Tensor,
    max_norm: f32,
}

impl Gradients {
    /// Tensors of [`SIZES`] and their norm; `max_norm` 0 means no clipping.
    pub fn record(test: &mut TestPlan, max_norm: f32) -> Self {
        let tensors: Vec<Tensor> = SIZES.iter().map(|n| test.output("gradient", *n)).collect();
        let norm = test.output("norm", 4);
        grad_norm::record(&mut test.plan, &tensors, max_norm, norm);
        Gradients { tensors, norm, max_norm }
    }

    pub fn write(&self, built: &BuiltTestPlan, gradients: &[Vec<f64>]) -> Result<(), GpuError> {
        self.tensors.iter().zip(gradients).try_for_each(|(tensor, g)| built.write_floats(*tensor, g))
    }
}

pub(super) async fn checks(checker: &mut KernelChecker) -> Result<(), GpuError> {
    norms(checker, 0.0).await?;
    extreme_norms(checker).await
}

/// Ordinary gradients, with clipping to `max_norm` (0: none).
pub async fn norms(checker: &mut KernelChecker, max_norm: f32) -> Result<(), GpuError> {
    norm_of_exponents(checker, max_norm, [0; 5]).await
}

/// Gradients whose squares are beyond f32 at either end, tensor by tensor.
pub async fn extreme_norms(checker: &mut KernelChecker) -> Result<(), GpuError> {
    let of_exponents =
        [[0, 0, 80, 0, 0], [80; 5], [-90; 5], [-90, 0, -90, -90, -90], [-100, -120, -90, -80, -70], [62, 70, 80, 64, 90]];
    for exponents in of_exponents {
        norm_of_exponents(checker, 1.0, exponents).await?;
    }
    Ok(())
}

/// Entries of tensor i are around 2^`exponents[i]`.
async fn norm_of_exponents(checker: &mut KernelChecker, max_norm: f32, exponents: [i32; 5]) -> Result<(), GpuError> {
    let mut test = checker.test_plan();
    let tensors = Gradients::record(&mut test, max_norm);
    let built = test.build(&checker.gpu)?;
    let gradients: Vec<Vec<f64>> = (SIZES.iter().zip(exponents).zip(900..))
        .map(|((n, exponent), seed)| random(*n, seed).into_iter().map(|g| g * 2f64.powi(exponent)).collect())
        .collect();
    tensors.write(&built, &gradients)?;
    built.plan.run(&built.params)?;
    compare(checker, &format!("max_norm {max_norm}, exponents {exponents:?}"), &built, &tensors, &gradients).await
}

/// Compares norm, clip factor and whether the gradient can be applied, which it can.
pub(super) async fn compare(
    checker: &mut KernelChecker,
    what: &str,
    built: &BuiltTestPlan,
    tensors: &Gradients,
    gradients: &[Vec<f64>],
) -> Result<(), GpuError> {
    let norm = reference::global_norm(gradients.iter().map(Vec::as_slice));
    let clip = if tensors.max_norm > 0.0 { reference::clip_coefficient(norm, f64::from(tensors.max_norm)) } else { 1.0 };
    let found = built.read_floats(tensors.norm).await?;
    // Each on its own scale: the clip factor is much smaller than the norm.
    for (i, (name, expected)) in [("norm", norm), ("clip factor", clip), ("finite", 1.0)].into_iter().enumerate() {
        checker.compare_result("gradient norm", &format!("{name}, {what}"), &found[i..=i], &[expected]);
    }
    Ok(())
}
