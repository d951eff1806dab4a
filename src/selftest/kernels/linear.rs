//! Matrix products and norms.

use super::Bench;
use crate::gpu::{Extent, GpuError, Tensor};
use crate::ops::matmul::{self, Epilogue, Layout, Product, View};
use crate::ops::rmsnorm::{self, Backward, Norm};
use crate::reference::matmul as spec;
use crate::reference::norm as norm_spec;

use crate::selftest::rig::{UNTOUCHED, around_one, random, sum};

const EPS: f64 = 1e-5;

/// Where the matrices A, B, C of a product lie in larger ones, and its scale.
#[derive(Clone, Copy, Debug)]
pub struct Operand {
    /// Rows in front of each.
    pub rows: [usize; 3],
    /// Columns on either side of each.
    pub columns: [usize; 3],
    pub scale: f64,
}

impl Operand {
    /// Nothing around them, scale 1.
    pub const WHOLE: Operand = Operand { rows: [0; 3], columns: [0; 3], scale: 1.0 };
    /// Chunks of longer matrices.
    pub const CHUNKS: Operand = Operand { rows: [3, 5, 2], ..Operand::WHOLE };
    /// Windows whose rows begin where vec4s do if the rows are multiples of 4, scaled.
    pub const WINDOWS: Operand = Operand { rows: [1, 2, 3], columns: [4, 8, 12], scale: -0.75 };
    /// Windows whose rows begin anywhere.
    pub const ODD_WINDOWS: Operand = Operand { rows: [2, 0, 1], columns: [1, 3, 2], scale: 2.5 };
}

/// A matrix in a larger one, which is full of other numbers.
pub(super) struct Window {
    /// All of the larger one.
    pub all: Vec<f64>,
    start: usize,
    shape: [usize; 2],
    stride: usize,
}

impl Window {
    /// Matrix number `i` of a product at `place`.
    pub fn new(shape: [usize; 2], place: &Operand, i: usize, seed: u64) -> Self {
        let stride = shape[1] + 2 * place.columns[i];
        let all = random((shape[0] + place.rows[i]) * stride, seed);
        Window { all, start: place.rows[i] * stride + place.columns[i], shape, stride }
    }

    pub fn view(&self, tensor: Tensor) -> View {
        View { tensor, start: self.start as u32, stride: self.stride as u32 }
    }

    /// The window of a matrix as large as `all`.
    pub fn of(&self, all: &[f64]) -> Vec<f64> {
        (0..self.shape[0]).flat_map(|i| all[self.start + i * self.stride..][..self.shape[1]].to_vec()).collect()
    }

    /// What lies around it, `all` and 0 in its place.
    pub fn around(&self, all: &[f64]) -> Vec<f64> {
        let mut all = all.to_vec();
        (0..self.shape[0]).for_each(|i| all[self.start + i * self.stride..][..self.shape[1]].fill(0.0));
        all
    }
}

/// Tails of the tile in every direction, wide (by vec4) and narrow, one row, one column; chunks, and windows with a scale.
pub(super) async fn products(b: &mut Bench) -> Result<(), GpuError> {
    for layout in [Layout::Nt, Layout::Nn, Layout::Tn] {
        for shape in [[13, 12, 20], [12, 20, 8], [13, 10, 7], [1, 36, 8], [70, 97, 33], [1, 1, 1]] {
            product(b, layout, shape, Operand::CHUNKS).await?;
        }
        for place in [Operand::WINDOWS, Operand::ODD_WINDOWS] {
            product(b, layout, [12, 20, 8], place).await?;
        }
    }
    Ok(())
}

/// `C[M, N]` of one layout with all epilogues.
pub async fn product(b: &mut Bench, layout: Layout, shape: [usize; 3], place: Operand) -> Result<(), GpuError> {
    product_with(b, layout, shape, place, &EPILOGUES).await
}

/// The epilogues that [`product`] checks.
pub const EPILOGUES: [&str; 4] = ["write", "bias", "residual", "accumulate"];

/// As [`product`], with some of [`EPILOGUES`].
pub async fn product_with(
    b: &mut Bench,
    layout: Layout,
    [m, n, k]: [usize; 3],
    place: Operand,
    wanted: &[&str],
) -> Result<(), GpuError> {
    let (operation, tolerance_of_gradients) = match layout {
        Layout::Nt => ("matmul nt", false),
        Layout::Nn => ("matmul nn", true),
        Layout::Tn => ("matmul tn", true),
    };
    let left = Window::new(if layout == Layout::Tn { [k, m] } else { [m, k] }, &place, 0, 1);
    let right = Window::new(if layout == Layout::Nt { [n, k] } else { [k, n] }, &place, 1, 2);
    let out = Window::new([m, n], &place, 2, 3);
    // The bias begins where a row of C does.
    let bias = random(place.columns[2] + n, 4);

    let mut rig = b.rig();
    let (ga, gb) = (rig.floats("a", &left.all), rig.floats("b", &right.all));
    let gbias = View::of(rig.floats("bias", &bias), bias.len() as u32).at_column(place.columns[2] as u32);
    let gresidual = rig.floats("residual", &out.all);
    let mut outputs = Vec::new();
    for name in EPILOGUES.into_iter().filter(|e| wanted.contains(e)) {
        let (c, epilogue) = match name {
            "accumulate" => (rig.floats(name, &out.all), Epilogue::Accumulate),
            "bias" => (rig.output(name, out.all.len()), Epilogue::Bias(gbias)),
            "residual" => (rig.output(name, out.all.len()), Epilogue::Residual(gresidual)),
            _ => (rig.output(name, out.all.len()), Epilogue::Write),
        };
        let [m, n, k] = [m, n, k].map(|x| Extent::fixed(x as u32));
        let (a, b, scale) = (left.view(ga), right.view(gb), place.scale as f32);
        matmul::product(&mut rig.plan, Product { layout, a, b, c: out.view(c), m, n, k, scale, epilogue });
        outputs.push((name, c));
    }
    let ran = rig.start(&b.gpu)?;

    let (a, w) = (left.of(&left.all), right.of(&right.all));
    let mut y = match layout {
        Layout::Nt => spec::linear(&a, &w, None, k),
        Layout::Nn => spec::linear_dx(&a, &w, n),
        Layout::Tn => spec::linear_dw(&a, &w, n, m),
    };
    y.iter_mut().for_each(|y| *y *= place.scale);
    let biased: Vec<f64> = y.chunks(n).flat_map(|row| sum(row, &bias[place.columns[2]..])).collect();
    let added = sum(&y, &out.of(&out.all));
    for (name, c) in outputs {
        let expected = match name {
            "write" => &y,
            "bias" => &biased,
            _ => &added,
        };
        let all = ran.read_floats(c).await?;
        let (found, what) = (out.of(&all), format!("{name}, {m}x{n}x{k}"));
        if tolerance_of_gradients {
            b.gradient(operation, &what, &found, expected);
        } else {
            b.result(operation, &what, &found, expected);
        }
        let before = if name == "accumulate" { out.all.clone() } else { vec![UNTOUCHED; all.len()] };
        b.exact(operation, &format!("{what}, around the window"), &out.around(&all), &out.around(&before));
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
    for (width, exponent, eps) in [(20, 100, EPS as f32), (33, -60, 2e-38)] {
        rms_norm_scaled(b, 5, Norm::plain(width, eps), exponent).await?;
        rms_norm_undefined(b, Norm::plain(width, eps)).await?;
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
    rms_norm_of(b, (rows, live), norm, eps, 0).await
}

/// As [`rms_norm`], of entries around 2^`exponent`.
pub async fn rms_norm_scaled(b: &mut Bench, rows: usize, norm: Norm, exponent: i32) -> Result<(), GpuError> {
    rms_norm_of(b, (rows, rows), norm, f64::from(norm.eps), exponent).await
}

/// A row with an infinity or NaN comes out as NaN as a whole, and its neighbours as ever.
pub async fn rms_norm_undefined(b: &mut Bench, norm: Norm) -> Result<(), GpuError> {
    let width = norm.width as usize;
    let (mut x, w) = (random(4 * width, 1), around_one(width, 3));
    (x[width], x[3 * width - 1]) = (f64::INFINITY, f64::NAN);
    let mut rig = b.rig();
    let (gx, gw, gdy) = (rig.floats("x", &x), rig.floats("w", &w), rig.floats("dy", &x));
    let (gy, gdx) = (rig.output("y", 4 * width), rig.output("dx", 4 * width));
    rmsnorm::forward(&mut rig.plan, norm, gx, gw, gy, Extent::fixed(4));
    let back = Backward { x: gx, w: gw, dy: gdy, dx: gdx, dw: None, accumulate: false };
    rmsnorm::backward(&mut rig.plan, norm, back, Extent::fixed(4));
    let ran = rig.start(&b.gpu)?;
    for (what, tensor) in [("y", gy), ("dx", gdx)] {
        let found = ran.read_floats(tensor).await?;
        for (row, values) in found.chunks(width).enumerate() {
            let right = match row {
                1 | 2 => values.iter().all(|v| v.is_nan()),
                _ => values.iter().all(|v| v.is_finite()),
            };
            b.holds("rms norm", &format!("{what}, row {row} of two that are not finite"), right);
        }
    }
    Ok(())
}

async fn rms_norm_of(b: &mut Bench, (rows, live): (usize, usize), norm: Norm, eps: f64, exponent: i32) -> Result<(), GpuError> {
    let width = norm.width as usize;
    let sets = if norm.q_heads < norm.normed { 2 } else { 1 };
    let (mut x, dy, w) = (random(rows * width, 1), random(rows * width, 2), around_one(sets * width, 3));
    x.iter_mut().for_each(|x| *x *= 2f64.powi(exponent));
    let (dx_start, mut dw) = (random(rows * width, 4), random(sets * width, 5));

    let mut rig = b.rig();
    let count = Extent::dynamic(rig.live(live as u32), rows as u32);
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
