//! The squares of each column of a tensor, summed over its rows.

use super::KernelChecker;
use crate::gpu::{Extent, GpuError};
use crate::ops::column_squares as op;
use crate::reference::column_squares as reference;
use crate::selftest::test_plan::random;

/// Columns by value and by vec4.
pub(super) async fn checks(checker: &mut KernelChecker) -> Result<(), GpuError> {
    squares(checker, 5, 7).await?;
    squares(checker, 5, 8).await
}

/// Of the first `tokens` of seven rows, added to sums that are not zero.
pub async fn squares(checker: &mut KernelChecker, tokens: usize, width: usize) -> Result<(), GpuError> {
    let (x, before) = (random(7 * width, 1), random(width, 2));
    let mut test = checker.test_plan();
    let count = Extent::dynamic(test.run_param(tokens as u32), 7);
    let (gx, gsums) = (test.floats("x", &x), test.floats("sums", &before));
    op::record(&mut test.plan, gx, gsums, count, width as u32);
    let built = test.build_and_run(&checker.gpu)?;
    let found = built.read_floats(gsums).await?;
    let mut expected = before;
    reference::add(&mut expected, &x[..tokens * width]);
    checker.compare_result("column squares", &format!("{tokens} rows of {width}"), &found, &expected);
    Ok(())
}
