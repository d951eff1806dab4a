//! One tensor added to another.

use super::KernelChecker;
use crate::gpu::GpuError;
use crate::ops::add as op;
use crate::reference::add as reference;
use crate::selftest::test_plan::random;

/// By value and by vec4.
pub(super) async fn checks(checker: &mut KernelChecker) -> Result<(), GpuError> {
    sums(checker, 37).await?;
    sums(checker, 260).await
}

/// The sum of two tensors of `length` values. x keeps its values.
pub async fn sums(checker: &mut KernelChecker, length: usize) -> Result<(), GpuError> {
    let (x, y) = (random(length, 1), random(length, 2));
    let mut test = checker.test_plan();
    let (gx, gy) = (test.floats("x", &x), test.floats("y", &y));
    op::record(&mut test.plan, gx, gy);
    let built = test.build_and_run(&checker.gpu)?;
    let mut expected = y;
    reference::add(&x, &mut expected);
    checker.compare_result("add", &format!("y of {length}"), &built.read_floats(gy).await?, &expected);
    checker.compare_exact("add", &format!("x of {length}"), &built.read_floats(gx).await?, &x);
    Ok(())
}
