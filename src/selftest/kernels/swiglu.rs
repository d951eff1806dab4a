//! The gated activation.

use super::KernelChecker;
use crate::gpu::{Extent, GpuError};
use crate::ops::swiglu::{self, Activation, Gated};
use crate::reference::swiglu as reference;
use crate::selftest::test_plan::random;

pub(super) async fn checks(checker: &mut KernelChecker) -> Result<(), GpuError> {
    gated(checker, 9, 7, 13).await
}

/// SwiGLU and GeGLU.
pub async fn gated(checker: &mut KernelChecker, tokens: usize, live: usize, width: usize) -> Result<(), GpuError> {
    let of = |activation| Gated { activation, width: width as u32 };
    gated_of(checker, tokens, live, of(Activation::Silu), reference::Activation::Silu, "swiglu").await?;
    gated_of(checker, tokens, live, of(Activation::Gelu), reference::Activation::Gelu, "geglu").await
}

/// Forward and backward. The first gates are far from zero, where exp saturates.
async fn gated_of(
    checker: &mut KernelChecker,
    tokens: usize,
    live: usize,
    gated: Gated,
    specified: reference::Activation,
    name: &'static str,
) -> Result<(), GpuError> {
    let width = gated.width as usize;
    let (mut gate_up, dy) = (random(tokens * 2 * width, 1), random(tokens * width, 2));
    if width > 1 {
        gate_up[..2].copy_from_slice(&[-120.0, 300.0]);
    }
    let mut test = checker.test_plan();
    let count = Extent::dynamic(test.run_param(live as u32), tokens as u32);
    let (ggu, gdy) = (test.floats("gate_up", &gate_up), test.floats("dy", &dy));
    let (y, dgu) = (test.output("y", tokens * width), test.output("dgate_up", tokens * 2 * width));
    swiglu::record_forward(&mut test.plan, ggu, y, count, gated);
    swiglu::record_backward(&mut test.plan, ggu, gdy, dgu, count, gated);
    let built = test.build_and_run(&checker.gpu)?;
    // Row by row, so that the row with the extreme gates does not hide the others.
    let (y, dgu) = (built.read_floats(y).await?, built.read_floats(dgu).await?);
    for t in 0..tokens {
        let (mut expected_y, mut expected_dgu) = (Vec::new(), Vec::new());
        if t < live {
            let (gate, up) = gate_up[t * 2 * width..][..2 * width].split_at(width);
            let (dgate, dup) = reference::gated_backward(specified, gate, up, &dy[t * width..][..width]);
            (expected_y, expected_dgu) = (reference::gated(specified, gate, up), [dgate, dup].concat());
        }
        let what = format!("row {t} of {live} of {width}");
        checker.compare_live_result(name, &what, &y[t * width..][..width], &expected_y);
        checker.compare_live_gradient(&format!("{name} backward"), &what, &dgu[t * 2 * width..][..2 * width], &expected_dgu);
    }
    Ok(())
}
