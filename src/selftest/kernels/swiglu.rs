//! The gated activation.

use super::Bench;
use crate::gpu::{Extent, GpuError};
use crate::ops::swiglu::{self, Activation, Gated};
use crate::reference::swiglu as spec;
use crate::selftest::rig::random;

pub(super) async fn checks(b: &mut Bench) -> Result<(), GpuError> {
    gated(b, 9, 7, 13).await
}

/// SwiGLU and GeGLU.
pub async fn gated(b: &mut Bench, tokens: usize, live: usize, width: usize) -> Result<(), GpuError> {
    let of = |activation| Gated { activation, width: width as u32 };
    gated_of(b, tokens, live, of(Activation::Silu), spec::Activation::Silu, "swiglu").await?;
    gated_of(b, tokens, live, of(Activation::Gelu), spec::Activation::Gelu, "geglu").await
}

/// Forward and backward. The first gates are far from zero, where exp saturates.
async fn gated_of(
    b: &mut Bench,
    tokens: usize,
    live: usize,
    gated: Gated,
    reference: spec::Activation,
    name: &'static str,
) -> Result<(), GpuError> {
    let width = gated.width as usize;
    let (mut gate_up, dy) = (random(tokens * 2 * width, 1), random(tokens * width, 2));
    if width > 1 {
        gate_up[..2].copy_from_slice(&[-120.0, 300.0]);
    }
    let mut rig = b.rig();
    let count = Extent::dynamic(rig.live(live as u32), tokens as u32);
    let (ggu, gdy) = (rig.floats("gate_up", &gate_up), rig.floats("dy", &dy));
    let (y, dgu) = (rig.output("y", tokens * width), rig.output("dgate_up", tokens * 2 * width));
    swiglu::forward(&mut rig.plan, ggu, y, count, gated);
    swiglu::backward(&mut rig.plan, ggu, gdy, dgu, count, gated);
    let ran = rig.start(&b.gpu)?;
    // Row by row, so that the row with the extreme gates does not hide the others.
    let (y, dgu) = (ran.read_floats(y).await?, ran.read_floats(dgu).await?);
    for t in 0..tokens {
        let (mut expected_y, mut expected_dgu) = (Vec::new(), Vec::new());
        if t < live {
            let (gate, up) = gate_up[t * 2 * width..][..2 * width].split_at(width);
            let (dgate, dup) = spec::gated_backward(reference, gate, up, &dy[t * width..][..width]);
            (expected_y, expected_dgu) = (spec::gated(reference, gate, up), [dgate, dup].concat());
        }
        let what = format!("row {t} of {live} of {width}");
        b.live_result(name, &what, &y[t * width..][..width], &expected_y);
        b.live_gradient(&format!("{name} backward"), &what, &dgu[t * 2 * width..][..2 * width], &expected_dgu);
    }
    Ok(())
}
