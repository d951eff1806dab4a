//! RMSNorm, plain and per head.

use super::KernelChecker;
use crate::gpu::{Extent, GpuError};
use crate::ops::rmsnorm::{self, Backward, Norm};
use crate::reference::matmul::add_scaled;
use crate::reference::rmsnorm as reference;
use crate::selftest::test_plan::{around_one, random};

const EPS: f64 = 1e-5;

/// Plain norms by value and by vec4, norms per head, and rows whose squares leave f32 or that are not finite.
pub(super) async fn checks(checker: &mut KernelChecker) -> Result<(), GpuError> {
    for (rows, live, width) in [(1, 1, 2), (130, 130, 33), (70, 65, 20)] {
        rmsnorm(checker, rows, live, Norm::plain(width, EPS as f32)).await?;
    }
    rmsnorm(checker, 70, 65, Norm { offset: 1.0, ..Norm::plain(20, EPS as f32) }).await?;
    for (tokens, q_heads, kv_heads, width) in [(5, 7, 1, 6), (3, 1, 1, 128)] {
        rmsnorm_per_head(checker, tokens, q_heads, kv_heads, width).await?;
    }
    for (width, exponent, eps) in [(20, 100, EPS as f32), (33, -60, 2e-38)] {
        rmsnorm_scaled(checker, 5, Norm::plain(width, eps), exponent).await?;
        rmsnorm_undefined(checker, Norm::plain(width, eps)).await?;
    }
    Ok(())
}

/// As in Qwen3: the q heads of a fused token take weight row 0, the k heads take row 1, and the v heads are copied.
pub async fn rmsnorm_per_head(
    checker: &mut KernelChecker,
    tokens: usize,
    q_heads: u32,
    kv_heads: u32,
    width: u32,
) -> Result<(), GpuError> {
    let heads = q_heads + 2 * kv_heads;
    let rows = tokens * heads as usize;
    rmsnorm(checker, rows, rows, Norm { heads, q_heads, normed: q_heads + kv_heads, ..Norm::plain(width, EPS as f32) }).await
}

/// Forward and backward of `live` out of `rows` rows, row by row.
pub async fn rmsnorm(checker: &mut KernelChecker, rows: usize, live: usize, norm: Norm) -> Result<(), GpuError> {
    rmsnorm_against(checker, rows, live, norm, f64::from(norm.eps)).await
}

/// As [`rmsnorm`], compared with the reference at another `eps`, so that a test can see that the difference is reported.
pub async fn rmsnorm_against(
    checker: &mut KernelChecker,
    rows: usize,
    live: usize,
    norm: Norm,
    eps: f64,
) -> Result<(), GpuError> {
    rmsnorm_of(checker, (rows, live), norm, eps, 0).await
}

/// As [`rmsnorm`], with entries around 2^`exponent`.
pub async fn rmsnorm_scaled(checker: &mut KernelChecker, rows: usize, norm: Norm, exponent: i32) -> Result<(), GpuError> {
    rmsnorm_of(checker, (rows, rows), norm, f64::from(norm.eps), exponent).await
}

/// A row that holds an infinity or NaN becomes NaN as a whole; its neighbours stay finite.
pub async fn rmsnorm_undefined(checker: &mut KernelChecker, norm: Norm) -> Result<(), GpuError> {
    let width = norm.width as usize;
    let (mut x, w) = (random(4 * width, 1), around_one(width, 3));
    (x[width], x[3 * width - 1]) = (f64::INFINITY, f64::NAN);
    let mut test = checker.test_plan();
    let (gx, gw, gdy) = (test.floats("x", &x), test.floats("w", &w), test.floats("dy", &x));
    let (gy, gdx) = (test.output("y", 4 * width), test.output("dx", 4 * width));
    rmsnorm::record_forward(&mut test.plan, norm, gx, gw, gy, Extent::fixed(4));
    let back = Backward { x: gx, w: gw, dy: gdy, dx: gdx, dw: None, accumulate: false };
    rmsnorm::record_backward(&mut test.plan, norm, back, Extent::fixed(4));
    let built = test.build_and_run(&checker.gpu)?;
    for (what, tensor) in [("y", gy), ("dx", gdx)] {
        let found = built.read_floats(tensor).await?;
        for (row, values) in found.chunks(width).enumerate() {
            let right = match row {
                1 | 2 => values.iter().all(|v| v.is_nan()),
                _ => values.iter().all(|v| v.is_finite()),
            };
            checker.check("rmsnorm", &format!("{what}, row {row} of two that are not finite"), right);
        }
    }
    Ok(())
}

async fn rmsnorm_of(
    checker: &mut KernelChecker,
    (rows, live): (usize, usize),
    norm: Norm,
    eps: f64,
    exponent: i32,
) -> Result<(), GpuError> {
    let width = norm.width as usize;
    let sets = if norm.q_heads < norm.normed { 2 } else { 1 };
    let (mut x, dy, w) = (random(rows * width, 1), random(rows * width, 2), around_one(sets * width, 3));
    x.iter_mut().for_each(|x| *x *= 2f64.powi(exponent));
    let (dx_start, mut dw) = (random(rows * width, 4), random(sets * width, 5));

    let mut test = checker.test_plan();
    let count = Extent::dynamic(test.run_param(live as u32), rows as u32);
    let (gx, gw, gdy) = (test.floats("x", &x), test.floats("w", &w), test.floats("dy", &dy));
    let (gy, gdx, more) = (test.output("y", rows * width), test.output("dx", rows * width), test.floats("dx more", &dx_start));
    let (gdw, onto) = (test.floats("dw", &dw), test.output("y onto", rows * width));
    rmsnorm::record_forward(&mut test.plan, norm, gx, gw, gy, count);
    rmsnorm::record_forward_onto(&mut test.plan, norm, gx, gw, gdy, onto, count);
    let back = Backward { x: gx, w: gw, dy: gdy, dx: gdx, dw: Some(gdw), accumulate: false };
    rmsnorm::record_backward(&mut test.plan, norm, back, count);
    let frozen = Backward { dx: more, dw: None, accumulate: true, ..back };
    rmsnorm::record_backward(&mut test.plan, norm, frozen, count);
    let built = test.build_and_run(&checker.gpu)?;

    let (mut y, mut dx, mut dx_more) = (Vec::new(), Vec::new(), dx_start);
    for row in 0..live {
        let head = row as u32 % norm.heads;
        let at = row * width..(row + 1) * width;
        let (x, dy) = (&x[at.clone()], &dy[at.clone()]);
        if head >= norm.normed {
            y.extend_from_slice(x);
            dx.extend_from_slice(dy);
            continue;
        }
        let set = if head < norm.q_heads { 0 } else { width };
        let w: Vec<f64> = w[set..set + width].iter().map(|w| w + f64::from(norm.offset)).collect();
        y.extend(reference::rmsnorm(x, &w, eps));
        let (row_dx, row_dw) = reference::rmsnorm_backward(x, &w, eps, dy);
        dx.extend(row_dx);
        add_scaled(&mut dw[set..set + width], 1.0, &row_dw);
    }
    add_scaled(&mut dx_more[..live * width], 1.0, &dx);
    let mut y_onto = y.clone();
    add_scaled(&mut y_onto, 1.0, &dy[..live * width]);

    let (forward, backward) =
        if sets == 2 { ("rmsnorm per head", "rmsnorm per head backward") } else { ("rmsnorm", "rmsnorm backward") };
    let shape = format!("{live} of {rows} rows of {width}");
    checker.compare_live_result(forward, &format!("y, {shape}"), &built.read_floats(gy).await?, &y);
    checker.compare_live_result(
        forward,
        &format!("y onto the residual stream, {shape}"),
        &built.read_floats(onto).await?,
        &y_onto,
    );
    checker.compare_live_gradient(backward, &format!("dx, {shape}"), &built.read_floats(gdx).await?, &dx);
    checker.compare_gradient(backward, &format!("dx accumulate, {shape}"), &built.read_floats(more).await?, &dx_more);
    checker.compare_gradient(backward, &format!("dw, {shape}"), &built.read_floats(gdw).await?, &dw);
    Ok(())
}
