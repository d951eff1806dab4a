//! SwiGLU.

use super::KernelChecker;
use crate::gpu::{Extent, GpuError};
use crate::ops::swiglu;
use crate::reference::swiglu as reference;
use crate::selftest::test_plan::random;

pub(super) async fn checks(checker: &mut KernelChecker) -> Result<(), GpuError> {
    swiglu(checker, 9, 7, 13).await
}

/// Forward and backward. The first gates are far from zero, where exp saturates.
pub async fn swiglu(checker: &mut KernelChecker, tokens: usize, live: usize, width: usize) -> Result<(), GpuError> {
    let (mut gate_up, dy) = (random(tokens * 2 * width, 1), random(tokens * width, 2));
    if width > 1 {
        gate_up[..2].copy_from_slice(&[-120.0, 300.0]);
    }
    let mut test = checker.test_plan();
    let count = Extent::dynamic(test.run_param(live as u32), tokens as u32);
    let (ggu, gdy) = (test.floats("gate_up", &gate_up), test.floats("dy", &dy));
    let (y, dgu) = (test.output("y", tokens * width), test.output("dgate_up", tokens * 2 * width));
    swiglu::record_forward(&mut test.plan, ggu, y, count, width as u32);
    swiglu::record_backward(&mut test.plan, ggu, gdy, dgu, count, width as u32);
    let built = test.build_and_run(&checker.gpu)?;
    // Row by row, so that the row with the extreme gates does not hide the others.
    let (y, dgu) = (built.read_floats(y).await?, built.read_floats(dgu).await?);
    for t in 0..tokens {
        let (mut expected_y, mut expected_dgu) = (Vec::new(), Vec::new());
        if t < live {
            let (gate, up) = gate_up[t * 2 * width..][..2 * width].split_at(width);
            let (dgate, dup) = reference::swiglu_backward(gate, up, &dy[t * width..][..width]);
            (expected_y, expected_dgu) = (reference::swiglu(gate, up), [dgate, dup].concat());
        }
        let what = format!("row {t} of {live} of {width}");
        checker.compare_live_result("swiglu", &what, &y[t * width..][..width], &expected_y);
        checker.compare_live_gradient("swiglu backward", &what, &dgu[t * 2 * width..][..2 * width], &expected_dgu);
    }
    Ok(())
}
