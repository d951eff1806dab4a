//! The global gradient norm and the clip factor.

use super::Bench;
use crate::gpu::{GpuError, Tensor};
use crate::ops::grad_norm;
use crate::reference::grad_norm as spec;
use crate::selftest::rig::{Ran, Rig, random};

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
    pub fn record(rig: &mut Rig, max_norm: f32) -> Self {
        let tensors: Vec<Tensor> = SIZES.iter().map(|n| rig.output("gradient", *n)).collect();
        let norm = rig.output("norm", 4);
        grad_norm::record(&mut rig.plan, &tensors, max_norm, norm);
        Gradients { tensors, norm, max_norm }
    }

    pub fn write(&self, ran: &Ran, gradients: &[Vec<f64>]) -> Result<(), GpuError> {
        self.tensors.iter().zip(gradients).try_for_each(|(tensor, g)| ran.write_floats(*tensor, g))
    }
}

pub(super) async fn checks(b: &mut Bench) -> Result<(), GpuError> {
    norms(b, 0.0).await?;
    extreme_norms(b).await
}

/// Ordinary gradients, with clipping to `max_norm` (0: none).
pub async fn norms(b: &mut Bench, max_norm: f32) -> Result<(), GpuError> {
    norm_of_exponents(b, max_norm, [0; 5]).await
}

/// Gradients whose squares are beyond f32 at either end, tensor by tensor.
pub async fn extreme_norms(b: &mut Bench) -> Result<(), GpuError> {
    let of_exponents =
        [[0, 0, 80, 0, 0], [80; 5], [-90; 5], [-90, 0, -90, -90, -90], [-100, -120, -90, -80, -70], [62, 70, 80, 64, 90]];
    for exponents in of_exponents {
        norm_of_exponents(b, 1.0, exponents).await?;
    }
    Ok(())
}

/// Entries of tensor i are around 2^`exponents[i]`.
async fn norm_of_exponents(b: &mut Bench, max_norm: f32, exponents: [i32; 5]) -> Result<(), GpuError> {
    let mut rig = b.rig();
    let tensors = Gradients::record(&mut rig, max_norm);
    let ran = rig.build(&b.gpu)?;
    let gradients: Vec<Vec<f64>> = (SIZES.iter().zip(exponents).zip(900..))
        .map(|((n, exponent), seed)| random(*n, seed).into_iter().map(|g| g * 2f64.powi(exponent)).collect())
        .collect();
    tensors.write(&ran, &gradients)?;
    ran.plan.run(&ran.lives)?;
    compare(b, &format!("max_norm {max_norm}, exponents {exponents:?}"), &ran, &tensors, &gradients).await
}

/// Compares norm, clip factor and whether the gradient can be applied, which it can.
pub(super) async fn compare(
    b: &mut Bench,
    what: &str,
    ran: &Ran,
    tensors: &Gradients,
    gradients: &[Vec<f64>],
) -> Result<(), GpuError> {
    let norm = spec::global_norm(gradients.iter().map(Vec::as_slice));
    let clip = if tensors.max_norm > 0.0 { spec::clip_coefficient(norm, f64::from(tensors.max_norm)) } else { 1.0 };
    let found = ran.read_floats(tensors.norm).await?;
    // Each on its own scale: the clip factor is much smaller than the norm.
    for (i, (name, expected)) in [("norm", norm), ("clip factor", clip), ("finite", 1.0)].into_iter().enumerate() {
        b.result("gradient norm", &format!("{name}, {what}"), &found[i..=i], &[expected]);
    }
    Ok(())
}
