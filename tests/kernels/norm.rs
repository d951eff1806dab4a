//! RMSNorm: plain, and per head with separate q and k weights.

use jurist::gpu::{Size, Tuning};
use jurist::ops::rmsnorm::{self, Backward, Norm};
use jurist::reference::norm as spec;

use crate::common::*;

const EPS: f64 = 1e-5;

#[test]
fn plain() {
    for tuning in tunings() {
        for (rows, width) in [(1, 2), (1, 64), (5, 6), (130, 33), (64, 100)] {
            check(&tuning, rows, rows, Norm::plain(width as u32, EPS as f32), |x, w, _| spec::rms_norm(x, w, EPS));
        }
        for live in [0, 1, 65] {
            check(&tuning, 70, live, Norm::plain(20, EPS as f32), |x, w, _| spec::rms_norm(x, w, EPS));
        }
    }
}

/// Qwen3: the q heads of a fused token take weight row 0, the k heads row 1, the v heads are copied.
#[test]
fn per_head() {
    for tuning in tunings() {
        for (tokens, heads, q_heads, kv_heads, width) in [(1, 9, 7, 1, 6), (5, 9, 7, 1, 6), (23, 8, 4, 2, 16), (3, 3, 1, 1, 128)]
        {
            let norm = Norm { width, heads, q_heads, normed: q_heads + kv_heads, eps: EPS as f32 };
            let rows = tokens * heads as usize;
            check(&tuning, rows, rows, norm, |x, w, head| {
                let (q, k) = w.split_at(width as usize);
                match head {
                    h if h < q_heads => spec::rms_norm(x, q, EPS),
                    h if h < q_heads + kv_heads => spec::rms_norm(x, k, EPS),
                    _ => x.to_vec(),
                }
            });
        }
    }
}

/// Forward and backward of `live` out of `rows` rows against `spec` row by row; the gradient is the reference's own.
fn check(tuning: &Tuning, rows: usize, live: usize, norm: Norm, forward: impl Fn(&[f64], &[f64], u32) -> Vec<f64>) {
    let width = norm.width as usize;
    let sets = if norm.q_heads < norm.normed { 2 } else { 1 };
    let (x, dy, w) = (random(rows * width, 1), random(rows * width, 2), around_one(sets * width, 3));
    let (dx_start, dw_start) = (random(rows * width, 4), random(sets * width, 5));

    let mut rig = Rig::new(tuning);
    let count = Size::live(rig.live(live as u32), rows as u32);
    let (gx, gw, gdy) = (rig.floats("x", &x), rig.floats("w", &w), rig.floats("dy", &dy));
    let (y, dx, dx_frozen) = (rig.output("y", rows * width), rig.output("dx", rows * width), rig.floats("frozen", &dx_start));
    let dw = rig.floats("dw", &dw_start);
    rmsnorm::forward(&mut rig.plan, norm, gx, gw, y, count);
    let back = Backward { x: gx, w: gw, dy: gdy, dx, dw: Some(dw), accumulate: false };
    rmsnorm::backward(&mut rig.plan, norm, back, count);
    let frozen = Backward { dx: dx_frozen, dw: None, accumulate: true, ..back };
    rmsnorm::backward(&mut rig.plan, norm, frozen, count);
    let ran = rig.run();

    let mut expected = [vec![UNTOUCHED; rows * width], vec![UNTOUCHED; rows * width], dx_start.clone()];
    let mut expected_dw = dw_start;
    for row in 0..live {
        let head = row as u32 % norm.heads;
        let at = row * width..(row + 1) * width;
        let (x, dy) = (&x[at.clone()], &dy[at.clone()]);
        expected[0][at.clone()].copy_from_slice(&forward(x, &w, head));
        let dx = if head < norm.normed {
            let set = if head < norm.q_heads { 0 } else { width };
            let (dx, dw) = spec::rms_norm_backward(x, &w[set..set + width], EPS, dy);
            (0..width).for_each(|j| expected_dw[set + j] += dw[j]);
            dx
        } else {
            dy.to_vec()
        };
        expected[1][at.clone()].copy_from_slice(&dx);
        at.zip(dx).for_each(|(i, d)| expected[2][i] += d);
    }
    close(&format!("rmsnorm forward {rows}x{width}"), &ran.floats(y), &expected[0], FORWARD);
    close("rmsnorm dx", &ran.floats(dx), &expected[1], BACKWARD);
    close("rmsnorm dx accumulate, frozen weight", &ran.floats(dx_frozen), &expected[2], BACKWARD);
    close("rmsnorm dw", &ran.floats(dw), &expected_dw, BACKWARD);
}
