//! The rows that carry loss: gathered from all tokens, and their gradients scattered.

use super::Bench;
use crate::gpu::{Extent, GpuError};
use crate::ops::rows;
use crate::reference::embedding as spec;
use crate::selftest::rig::random;

/// Rows by value and by vec4.
pub(super) async fn checks(b: &mut Bench) -> Result<(), GpuError> {
    rows(b, &[6, 0, 3], 5).await?;
    rows(b, &[6, 0, 3], 8).await
}

/// Gathers the rows of the `picked` of seven tokens, in a plan for three rows, and scatters their gradients.
pub async fn rows(b: &mut Bench, picked: &[u32], width: usize) -> Result<(), GpuError> {
    let tokens = 7;
    let mut row_of = vec![rows::NO_ROW; tokens];
    picked.iter().enumerate().for_each(|(r, t)| row_of[*t as usize] = r as u32);
    let (x, dy) = (random(tokens * width, 1), random(3 * width, 2));
    let mut rig = b.rig();
    let count = Extent::dynamic(rig.live(picked.len() as u32), 3);
    let (gpicked, grow_of) = (rig.words("rows", picked), rig.words("row_of", &row_of));
    let (gx, gdy) = (rig.floats("x", &x), rig.floats("dy", &dy));
    let (y, dx) = (rig.output("y", 3 * width), rig.output("dx", tokens * width));
    rows::record_gather(&mut rig.plan, gpicked, gx, y, count, width as u32);
    rows::record_scatter(&mut rig.plan, grow_of, gdy, dx, Extent::fixed(tokens as u32), width as u32);
    let ran = rig.start(&b.gpu)?;
    let (y, gdx) = (ran.read_floats(y).await?, ran.read_floats(dx).await?);
    b.live_exact("rows gather", &format!("y, {} of {tokens} tokens", picked.len()), &y, &spec::gather(&x, picked, width));
    let mut expected = vec![0.0; tokens * width];
    spec::scatter_add(&mut expected, picked, &dy[..picked.len() * width], width);
    b.exact("rows scatter", &format!("dx, {} of {tokens} tokens", picked.len()), &gdx, &expected);
    Ok(())
}
