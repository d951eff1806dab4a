//! Dropout.

use super::KernelChecker;
use crate::gpu::{Extent, GpuError};
use crate::ops::dropout::{self, Dropout};
use crate::reference::dropout as reference;
use crate::selftest::test_plan::{random, sum};

pub(super) async fn checks(checker: &mut KernelChecker) -> Result<(), GpuError> {
    dropout(checker, 300, 0.1, 3).await
}

/// The first `n` of `n + 3` values, written and accumulated.
pub async fn dropout(checker: &mut KernelChecker, n: usize, p: f32, site: u32) -> Result<(), GpuError> {
    const KEY: [u32; 2] = [0x1234_5678, 0x9abc_def0];
    let (x, start) = (random(n + 3, 1), random(n, 2));
    let mut test = checker.test_plan();
    let d = Dropout { p, key: KEY.map(|word| test.run_param(word)), site };
    let size = Extent::dynamic(test.run_param(n as u32), n as u32 + 3);
    let (gx, y, more) = (test.floats("x", &x), test.output("y", n + 3), test.floats("y more", &start));
    dropout::record(&mut test.plan, d, gx, y, size, false);
    dropout::record(&mut test.plan, d, gx, more, Extent::fixed(n as u32), true);
    let built = test.build_and_run(&checker.gpu)?;
    let expected = reference::dropout(&x[..n], f64::from(p), KEY, site);
    checker.compare_live_result("dropout", &format!("y, {n} values, p {p}"), &built.read_floats(y).await?, &expected);
    let found = built.read_floats(more).await?;
    checker.compare_result("dropout", &format!("y accumulate, {n} values, p {p}"), &found, &sum(&expected, &start));
    Ok(())
}
