//! The rows that carry loss: gathered from all tokens, and their gradients scattered.

use super::KernelChecker;
use crate::gpu::{Extent, GpuError};
use crate::ops::rows;
use crate::reference::embedding as reference;
use crate::selftest::test_plan::random;

/// Rows by value and by vec4.
pub(super) async fn checks(checker: &mut KernelChecker) -> Result<(), GpuError> {
    rows(checker, &[6, 0, 3], 5).await?;
    rows(checker, &[6, 0, 3], 8).await
}

/// Gathers the rows of the `picked` of seven tokens, in a plan for three rows, and scatters their gradients.
pub async fn rows(checker: &mut KernelChecker, picked: &[u32], width: usize) -> Result<(), GpuError> {
    let tokens = 7;
    let mut row_of = vec![rows::NO_ROW; tokens];
    picked.iter().enumerate().for_each(|(r, t)| row_of[*t as usize] = r as u32);
    let (x, dy) = (random(tokens * width, 1), random(3 * width, 2));
    let mut test = checker.test_plan();
    let count = Extent::dynamic(test.run_param(picked.len() as u32), 3);
    let (gpicked, grow_of) = (test.words("rows", picked), test.words("row_of", &row_of));
    let (gx, gdy) = (test.floats("x", &x), test.floats("dy", &dy));
    let (y, dx) = (test.output("y", 3 * width), test.output("dx", tokens * width));
    rows::record_gather(&mut test.plan, gpicked, gx, y, count, width as u32);
    rows::record_scatter(&mut test.plan, grow_of, gdy, dx, Extent::fixed(tokens as u32), width as u32);
    let built = test.build_and_run(&checker.gpu)?;
    let (y, gdx) = (built.read_floats(y).await?, built.read_floats(dx).await?);
    checker.compare_live_exact(
        "rows gather",
        &format!("y, {} of {tokens} tokens", picked.len()),
        &y,
        &reference::gather(&x, picked, width),
    );
    let mut expected = vec![0.0; tokens * width];
    reference::scatter_add(&mut expected, picked, &dy[..picked.len() * width], width);
    checker.compare_exact("rows scatter", &format!("dx, {} of {tokens} tokens", picked.len()), &gdx, &expected);
    Ok(())
}
