//! SwiGLU.

use super::Bench;
use crate::gpu::{Extent, GpuError};
use crate::ops::swiglu;
use crate::reference::swiglu as spec;
use crate::selftest::rig::random;

pub(super) async fn checks(b: &mut Bench) -> Result<(), GpuError> {
    swiglu(b, 9, 7, 13).await
}

/// Forward and backward. The first gates are far from zero, where exp saturates.
pub async fn swiglu(b: &mut Bench, tokens: usize, live: usize, width: usize) -> Result<(), GpuError> {
    let (mut gate_up, dy) = (random(tokens * 2 * width, 1), random(tokens * width, 2));
    if width > 1 {
        gate_up[..2].copy_from_slice(&[-120.0, 300.0]);
    }
    let mut rig = b.rig();
    let count = Extent::dynamic(rig.live(live as u32), tokens as u32);
    let (ggu, gdy) = (rig.floats("gate_up", &gate_up), rig.floats("dy", &dy));
    let (y, dgu) = (rig.output("y", tokens * width), rig.output("dgate_up", tokens * 2 * width));
    swiglu::record_forward(&mut rig.plan, ggu, y, count, width as u32);
    swiglu::record_backward(&mut rig.plan, ggu, gdy, dgu, count, width as u32);
    let ran = rig.start(&b.gpu)?;
    // Row by row, so that the row with the extreme gates does not hide the others.
    let (y, dgu) = (ran.read_floats(y).await?, ran.read_floats(dgu).await?);
    for t in 0..tokens {
        let (mut expected_y, mut expected_dgu) = (Vec::new(), Vec::new());
        if t < live {
            let (gate, up) = gate_up[t * 2 * width..][..2 * width].split_at(width);
            let (dgate, dup) = spec::swiglu_backward(gate, up, &dy[t * width..][..width]);
            (expected_y, expected_dgu) = (spec::swiglu(gate, up), [dgate, dup].concat());
        }
        let what = format!("row {t} of {live} of {width}");
        b.live_result("swiglu", &what, &y[t * width..][..width], &expected_y);
        b.live_gradient("swiglu backward", &what, &dgu[t * 2 * width..][..2 * width], &expected_dgu);
    }
    Ok(())
}
