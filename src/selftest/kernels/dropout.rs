//! Dropout.

use super::Bench;
use crate::gpu::{Extent, GpuError};
use crate::ops::dropout::{self, Dropout};
use crate::reference::dropout as spec;
use crate::selftest::rig::{random, sum};

pub(super) async fn checks(b: &mut Bench) -> Result<(), GpuError> {
    dropout(b, 300, 0.1, 3).await
}

/// The first `n` of `n + 3` values, written and accumulated.
pub async fn dropout(b: &mut Bench, n: usize, p: f32, site: u32) -> Result<(), GpuError> {
    const KEY: [u32; 2] = [0x1234_5678, 0x9abc_def0];
    let (x, start) = (random(n + 3, 1), random(n, 2));
    let mut rig = b.rig();
    let d = Dropout { p, key: KEY.map(|word| rig.live(word)), site };
    let size = Extent::dynamic(rig.live(n as u32), n as u32 + 3);
    let (gx, y, more) = (rig.floats("x", &x), rig.output("y", n + 3), rig.floats("y more", &start));
    dropout::record(&mut rig.plan, d, gx, y, size, false);
    dropout::record(&mut rig.plan, d, gx, more, Extent::fixed(n as u32), true);
    let ran = rig.start(&b.gpu)?;
    let expected = spec::dropout(&x[..n], f64::from(p), KEY, site);
    b.live_result("dropout", &format!("y, {n} values, p {p}"), &ran.read_floats(y).await?, &expected);
    let found = ran.read_floats(more).await?;
    b.result("dropout", &format!("y accumulate, {n} values, p {p}"), &found, &sum(&expected, &start));
    Ok(())
}
