//! Matrix products.

use super::KernelChecker;
use crate::gpu::{Extent, GpuError, PlanBuilder, Tensor};
use crate::ops::matmul::{self, Epilogue, Layout, Product, View, record_backward_weight_between};
use crate::reference::matmul as reference;
use crate::selftest::stored;
use crate::selftest::test_plan::{UNTOUCHED, random, sum};

/// Where the matrices A, B, C of a product lie in larger ones, and the scale of the product.
#[derive(Clone, Copy, Debug)]
pub struct Operand {
    /// Rows before each.
    pub rows: [usize; 3],
    /// Columns on either side of each.
    pub columns: [usize; 3],
    pub scale: f64,
}

impl Operand {
    /// Whole tensors, scale 1.
    pub const WHOLE: Operand = Operand { rows: [0; 3], columns: [0; 3], scale: 1.0 };
    /// Rows of longer matrices.
    pub const CHUNKS: Operand = Operand { rows: [3, 5, 2], ..Operand::WHOLE };
    /// Windows whose rows begin where vec4s do if the rows are multiples of 4, scaled.
    pub const WINDOWS: Operand = Operand { rows: [1, 2, 3], columns: [4, 8, 12], scale: -0.75 };
    /// Windows whose rows begin anywhere.
    pub const ODD_WINDOWS: Operand = Operand { rows: [2, 0, 1], columns: [1, 3, 2], scale: 2.5 };
}

/// A window of a larger matrix, which holds other numbers around it.
pub(super) struct Window {
    /// All of the larger one.
    pub all: Vec<f64>,
    start: usize,
    shape: [usize; 2],
    stride: usize,
}

impl Window {
    /// Matrix number `i` (A, B, C) of a product.
    pub fn new(shape: [usize; 2], operand: &Operand, i: usize, seed: u64) -> Self {
        let stride = shape[1] + 2 * operand.columns[i];
        let all = random((shape[0] + operand.rows[i]) * stride, seed);
        Window { all, start: operand.rows[i] * stride + operand.columns[i], shape, stride }
    }

    pub fn view(&self, tensor: Tensor) -> View {
        View { tensor, start: self.start as u32, stride: self.stride as u32 }
    }

    /// The window of a matrix as large as `all`.
    pub fn of(&self, all: &[f64]) -> Vec<f64> {
        (0..self.shape[0]).flat_map(|i| all[self.start + i * self.stride..][..self.shape[1]].to_vec()).collect()
    }

    /// What lies around it, `all` and 0 in its operand.
    pub fn around(&self, all: &[f64]) -> Vec<f64> {
        let mut all = all.to_vec();
        (0..self.shape[0]).for_each(|i| all[self.start + i * self.stride..][..self.shape[1]].fill(0.0));
        all
    }
}

/// Tails of the tile in every direction, by vec4 and by value; one row, one column; windows with a scale; a weight gradient in
/// chunks.
pub(super) async fn checks(checker: &mut KernelChecker) -> Result<(), GpuError> {
    for layout in [Layout::Nt, Layout::Nn, Layout::Tn] {
        for shape in [[13, 12, 20], [12, 20, 8], [13, 10, 7], [1, 36, 8], [70, 97, 33], [1, 1, 1]] {
            product(checker, layout, shape, Operand::CHUNKS).await?;
        }
        for operand in [Operand::WINDOWS, Operand::ODD_WINDOWS] {
            product(checker, layout, [12, 20, 8], operand).await?;
        }
    }
    weight_gradient(checker, &[16, 16, 5], [13, 10]).await
}

/// `C[M, N]` of one layout with all epilogues.
pub async fn product(checker: &mut KernelChecker, layout: Layout, shape: [usize; 3], operand: Operand) -> Result<(), GpuError> {
    product_with(checker, layout, shape, operand, &EPILOGUES).await
}

/// The epilogues that [`product`] checks.
pub const EPILOGUES: [&str; 4] = ["write", "bias", "residual", "accumulate"];

/// As [`product`], with some of [`EPILOGUES`].
pub async fn product_with(
    checker: &mut KernelChecker,
    layout: Layout,
    shape: [usize; 3],
    operand: Operand,
    wanted: &[&str],
) -> Result<(), GpuError> {
    product_by(checker, layout, shape, operand, wanted, matmul::record_product).await
}

/// As [`product_with`], recorded by another function than [`matmul::record_product`].
pub async fn product_by(
    checker: &mut KernelChecker,
    layout: Layout,
    [m, n, k]: [usize; 3],
    operand: Operand,
    wanted: &[&str],
    record: impl Fn(&mut PlanBuilder, Product),
) -> Result<(), GpuError> {
    let (operation, tolerance_of_gradients) = match layout {
        Layout::Nt => ("matmul nt", false),
        Layout::Nn => ("matmul nn", true),
        Layout::Tn => ("matmul tn", true),
    };
    let left = Window::new(if layout == Layout::Tn { [k, m] } else { [m, k] }, &operand, 0, 1);
    let right = Window::new(if layout == Layout::Nt { [n, k] } else { [k, n] }, &operand, 1, 2);
    let out = Window::new([m, n], &operand, 2, 3);
    // The bias begins where a row of C does.
    let bias = random(operand.columns[2] + n, 4);

    let mut test = checker.test_plan();
    let (ga, gb) = (test.floats("a", &left.all), test.floats("b", &right.all));
    let gbias = View::of(test.floats("bias", &bias), bias.len() as u32).at_column(operand.columns[2] as u32);
    let gresidual = test.floats("residual", &out.all);
    let mut outputs = Vec::new();
    for name in EPILOGUES.into_iter().filter(|e| wanted.contains(e)) {
        let (c, epilogue) = match name {
            "accumulate" => (test.floats(name, &out.all), Epilogue::Accumulate),
            "bias" => (test.output(name, out.all.len()), Epilogue::Bias(gbias)),
            "residual" => (test.output(name, out.all.len()), Epilogue::Residual(gresidual)),
            _ => (test.output(name, out.all.len()), Epilogue::Write),
        };
        let [m, n, k] = [m, n, k].map(|x| Extent::fixed(x as u32));
        let (a, b, scale) = (left.view(ga), right.view(gb), operand.scale as f32);
        record(&mut test.plan, Product { layout, a, b, c: out.view(c), m, n, k, scale, epilogue });
        outputs.push((name, c));
    }
    let built = test.build_and_run(&checker.gpu)?;

    let (a, w) = (left.of(&left.all), right.of(&right.all));
    let mut y = match layout {
        Layout::Nt => reference::linear(&a, &w, None, k),
        Layout::Nn => reference::linear_dx(&a, &w, n),
        Layout::Tn => reference::linear_dw(&a, &w, n, m),
    };
    y.iter_mut().for_each(|y| *y *= operand.scale);
    let biased: Vec<f64> = y.chunks(n).flat_map(|row| sum(row, &bias[operand.columns[2]..])).collect();
    let added = sum(&y, &out.of(&out.all));
    for (name, c) in outputs {
        let expected = match name {
            "write" => &y,
            "bias" => &biased,
            _ => &added,
        };
        let all = built.read_floats(c).await?;
        let (found, what) = (out.of(&all), format!("{name}, {m}x{n}x{k}"));
        if tolerance_of_gradients {
            checker.compare_gradient(operation, &what, &found, expected);
        } else {
            checker.compare_result(operation, &what, &found, expected);
        }
        let before = if name == "accumulate" { out.all.clone() } else { vec![UNTOUCHED; all.len()] };
        checker.compare_exact(operation, &format!("{what}, around the window"), &out.around(&all), &out.around(&before));
    }
    Ok(())
}

/// `dw[N, K] += dy[T, N]ᵀ · x[T, K]` into chunks.
pub async fn weight_gradient(checker: &mut KernelChecker, cuts: &[usize], [t, k]: [usize; 2]) -> Result<(), GpuError> {
    let n = cuts.iter().sum();
    let (dy, x, start) = (random(t * n, 1), random(t * k, 2), random(n * k, 3));
    let mut test = checker.test_plan();
    let (gdy, gx) = (test.floats("dy", &dy), test.floats("x", &x));
    let dw = stored::chunks(&mut test, cuts, &start, k);
    let (dy_view, x_view) = (View::of(gdy, n as u32), View::of(gx, k as u32));
    record_backward_weight_between(&mut test.plan, dy_view, x_view, &dw, [t, k].map(|x| Extent::fixed(x as u32)));
    let built = test.build_and_run(&checker.gpu)?;
    let mut found = Vec::new();
    for chunk in &dw {
        found.extend(built.read_floats(chunk.tensor).await?);
    }
    let expected = sum(&reference::linear_dw(&dy, &x, k, n), &start);
    checker.compare_gradient("matmul tn in chunks", &format!("dw, {n}x{t}x{k}"), &found, &expected);
    Ok(())
}
