//! Matrix products and norms.

use super::Bench;
use crate::gpu::{GpuError, Size};
use crate::ops::matmul::{self, Epilogue, Layout, Product};
use crate::ops::rmsnorm::{self, Backward, Norm};
use crate::reference::matmul as spec;
use crate::reference::norm as norm_spec;

use crate::doctor::rig::{UNTOUCHED, around_one, random, sum};

const EPS: f64 = 1e-5;

/// Tails of the tile in every direction, wide (by vec4) and narrow, one row, one column.
pub(super) async fn products(b: &mut Bench) -> Result<(), GpuError> {
    for layout in [Layout::Nt, Layout::Nn, Layout::Tn] {
        for shape in [[13, 12, 20], [12, 20, 8], [13, 10, 7], [1, 36, 8], [70, 97, 33], [1, 1, 1]] {
            product(b, layout, shape, [3, 5, 2]).await?;
        }
    }
    Ok(())
}

/// `C[M, N]` of one layout with all epilogues. Rows of A, C and (in `Tn`) B begin at `starts`, as in chunks of longer
/// matrices.
pub async fn product(b: &mut Bench, layout: Layout, shape: [usize; 3], starts: [usize; 3]) -> Result<(), GpuError> {
    product_with(b, layout, shape, starts, &EPILOGUES).await
}

/// The epilogues that [`product`] checks.
pub const EPILOGUES: [&str; 4] = ["write", "bias", "residual", "accumulate"];

/// As [`product`], with some of [`EPILOGUES`].
pub async fn product_with(
    b: &mut Bench,
    layout: Layout,
    [m, n, k]: [usize; 3],
    starts: [usize; 3],
    wanted: &[&str],
) -> Result<(), GpuError> {
    let starts = [starts[0], if layout == Layout::Tn { starts[1] } else { 0 }, starts[2]];
    let (operation, tolerance_of_gradients) = match layout {
        Layout::Nt => ("matmul nt", false),
        Layout::Nn => ("matmul nn", true),
        Layout::Tn => ("matmul tn", true),
    };
    let a_shape = if layout == Layout::Tn { [k, m] } else { [m, k] };
    let b_shape = if layout == Layout::Nt { [n, k] } else { [k, n] };
    let left = random((a_shape[0] + starts[0]) * a_shape[1], 1);
    let right = random((b_shape[0] + starts[1]) * b_shape[1], 2);
    let (rows, bias) = (random((m + starts[2]) * n, 3), random(n, 4));

    let mut rig = b.rig();
    let (ga, gb) = (rig.floats("a", &left), rig.floats("b", &right));
    let (gbias, gresidual) = (rig.floats("bias", &bias), rig.floats("residual", &rows));
    let mut outputs = Vec::new();
    for name in EPILOGUES.into_iter().filter(|e| wanted.contains(e)) {
        let (c, epilogue) = match name {
            "accumulate" => (rig.floats(name, &rows), Epilogue::Accumulate),
            "bias" => (rig.output(name, rows.len()), Epilogue::Bias(gbias)),
            "residual" => (rig.output(name, rows.len()), Epilogue::Residual(gresidual)),
            _ => (rig.output(name, rows.len()), Epilogue::Write),
        };
        let [ms, ns, ks] = [m, n, k].map(|x| Size::fixed(x as u32));
        let starts = starts.map(|x| x as u32);
        matmul::product(&mut rig.plan, Product { layout, a: ga, b: gb, c, m: ms, n: ns, k: ks, starts, epilogue });
        outputs.push((name, c));
    }
    let ran = rig.start(&b.gpu)?;

    let (left, right) = (&left[starts[0] * a_shape[1]..], &right[starts[1] * b_shape[1]..]);
    let y = match layout {
        Layout::Nt => spec::linear(left, right, None, k),
        Layout::Nn => spec::linear_dx(left, right, n),
        Layout::Tn => spec::linear_dw(left, right, n, m),
    };
    let first = starts[2] * n;
    let biased: Vec<f64> = y.chunks(n).flat_map(|row| sum(row, &bias)).collect();
    let added = sum(&y, &rows[first..]);
    for (name, c) in outputs {
        let expected = match name {
            "write" => &y,
            "bias" => &biased,
            _ => &added,
        };
        let found = ran.read_floats(c).await?;
        let what = format!("{name}, {m}x{n}x{k}");
        if tolerance_of_gradients {
            b.gradient(operation, &what, &found[first..], expected);
        } else {
            b.result(operation, &what, &found[first..], expected);
        }
        let before = if name == "accumulate" { rows[..first].to_vec() } else { vec![UNTOUCHED; first] };
        b.exact(operation, &format!("{what}, rows before the first"), &found[..first], &before);
    }
    Ok(())
}

pub(super) async fn norms(b: &mut Bench) -> Result<(), GpuError> {
    for (rows, live, width) in [(1, 1, 2), (130, 130, 33), (70, 65, 20)] {
        rms_norm(b, rows, live, Norm::plain(width, EPS as f32)).await?;
    }
    for (tokens, q_heads, kv_heads, width) in [(5, 7, 1, 6), (3, 1, 1, 128)] {
        rms_norm_per_head(b, tokens, q_heads, kv_heads, width).await?;
    }
    Ok(())
}

/// Qwen3: the q heads of a fused token take weight row 0, the k heads row 1, the v heads are copied.
pub async fn rms_norm_per_head(b: &mut Bench, tokens: usize, q_heads: u32, kv_heads: u32, width: u32) -> Result<(), GpuError> {
    let heads = q_heads + 2 * kv_heads;
    let rows = tokens * heads as usize;
    rms_norm(b, rows, rows, Norm { width, heads, q_heads, normed: q_heads + kv_heads, eps: EPS as f32 }).await
}

/// Forward and backward of `live` out of `rows` rows, row by row.
pub async fn rms_norm(b: &mut Bench, rows: usize, live: usize, norm: Norm) -> Result<(), GpuError> {
    rms_norm_against(b, rows, live, norm, f64::from(norm.eps)).await
}

/// As [`rms_norm`], against a specification with an `eps` of its own: a test sees that another one is noticed.
pub async fn rms_norm_against(b: &mut Bench, rows: usize, live: usize, norm: Norm, eps: f64) -> Result<(), GpuError> {
    let width = norm.width as usize;
    let sets = if norm.q_heads < norm.normed { 2 } else { 1 };
    let (x, dy, w) = (random(rows * width, 1), random(rows * width, 2), around_one(sets * width, 3));
    let (dx_start, mut dw) = (random(rows * width, 4), random(sets * width, 5));

    let mut rig = b.rig();
    let count = Size::live(rig.live(live as u32), rows as u32);
    let (gx, gw, gdy) = (rig.floats("x", &x), rig.floats("w", &w), rig.floats("dy", &dy));
    let (gy, gdx, more) = (rig.output("y", rows * width), rig.output("dx", rows * width), rig.floats("dx more", &dx_start));
    let gdw = rig.floats("dw", &dw);
    rmsnorm::forward(&mut rig.plan, norm, gx, gw, gy, count);
    let back = Backward { x: gx, w: gw, dy: gdy, dx: gdx, dw: Some(gdw), accumulate: false };
    rmsnorm::backward(&mut rig.plan, norm, back, count);
    let frozen = Backward { dx: more, dw: None, accumulate: true, ..back };
    rmsnorm::backward(&mut rig.plan, norm, frozen, count);
    let ran = rig.start(&b.gpu)?;

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
        let w = &w[set..set + width];
        y.extend(norm_spec::rms_norm(x, w, eps));
        let (row_dx, row_dw) = norm_spec::rms_norm_backward(x, w, eps, dy);
        dx.extend(row_dx);
        spec::add_scaled(&mut dw[set..set + width], 1.0, &row_dw);
    }
    spec::add_scaled(&mut dx_more[..live * width], 1.0, &dx);

    let (forward, backward) =
        if sets == 2 { ("rmsnorm per head", "rmsnorm per head backward") } else { ("rmsnorm", "rmsnorm backward") };
    let shape = format!("{live} of {rows} rows of {width}");
    b.live_result(forward, &format!("y, {shape}"), &ran.read_floats(gy).await?, &y);
    b.live_gradient(backward, &format!("dx, {shape}"), &ran.read_floats(gdx).await?, &dx);
    b.gradient(backward, &format!("dx accumulate, {shape}"), &ran.read_floats(more).await?, &dx_more);
    b.gradient(backward, &format!("dw, {shape}"), &ran.read_floats(gdw).await?, &dw);
    Ok(())
}
