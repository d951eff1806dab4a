//! Matrix products with a weight matrix as a model stores it: packed, or cut by rows into chunks.

use super::KernelChecker;
use super::matmul::{EPILOGUES, Operand, Window};
use crate::gpu::{Extent, GpuError, Tensor};
use crate::ops::matmul::{Epilogue, Layout, View, record_backward_input_between, record_forward_between};
use crate::ops::weight_dtype::WeightDtype;
use crate::reference::matmul as reference;
use crate::selftest::stored::{self, Stored};
use crate::selftest::test_plan::{UNTOUCHED, random, sum};

/// One row, tails of the tile in both directions, one column, one block and several; chunks of uneven rows.
pub(super) async fn checks(checker: &mut KernelChecker) -> Result<(), GpuError> {
    for dtype in WeightDtype::PACKED {
        for [m, n, k] in [[1, 36, 32], [13, 12, 64], [9, 1, 32], [70, 97, 96]] {
            product(checker, Stored { dtype, cuts: &[n] }, Layout::Nt, [m, k], Operand::CHUNKS).await?;
            product(checker, Stored { dtype, cuts: &[n] }, Layout::Nn, [m, k], Operand::CHUNKS).await?;
        }
    }
    for dtype in [WeightDtype::F32, WeightDtype::Q8] {
        let how = Stored { dtype, cuts: &[16, 16, 5] };
        product(checker, how, Layout::Nt, [13, 64], Operand::WINDOWS).await?;
        product(checker, how, Layout::Nn, [13, 64], Operand::ODD_WINDOWS).await?;
    }
    Ok(())
}

/// `y[M, N] = x[M, K] · w[N, K]ᵀ` (`Nt`) or `y[M, K] = x[M, N] · w[N, K]` (`Nn`) with all epilogues. w has `how.rows()` rows of
/// `width`; x and y are windows at `operand`, whose scale is not used.
pub async fn product(
    checker: &mut KernelChecker,
    how: Stored<'_>,
    layout: Layout,
    sizes: [usize; 2],
    operand: Operand,
) -> Result<(), GpuError> {
    product_with(checker, how, layout, sizes, operand, &EPILOGUES).await
}

/// As [`product`], with some of [`EPILOGUES`].
pub async fn product_with(
    checker: &mut KernelChecker,
    how: Stored<'_>,
    layout: Layout,
    [m, width]: [usize; 2],
    operand: Operand,
    wanted: &[&str],
) -> Result<(), GpuError> {
    let transposed = layout == Layout::Nt;
    let (inputs, outputs) = if transposed { (width, how.rows()) } else { (how.rows(), width) };
    let operation = format!("matmul {}{}", if transposed { "nt" } else { "nn" }, how.name());
    let (x, y) = (Window::new([m, inputs], &operand, 0, 1), Window::new([m, outputs], &operand, 2, 3));
    let bias = random(outputs, 4);

    let mut test = checker.test_plan();
    let (w, weights) = stored::matrix(&mut test, &how, &stored::blocks(how.rows() * width, 2), width);
    let gx = x.view(test.floats("x", &x.all));
    let gbias = View::of(test.floats("bias", &bias), outputs as u32);
    let gresidual = test.floats("residual", &y.all);
    let mut out: Vec<(&str, Tensor)> = Vec::new();
    for name in EPILOGUES.into_iter().filter(|e| wanted.contains(e)) {
        let (c, epilogue) = match name {
            "accumulate" => (test.floats(name, &y.all), Epilogue::Accumulate),
            "bias" => (test.output(name, y.all.len()), Epilogue::Bias(gbias)),
            "residual" => (test.output(name, y.all.len()), Epilogue::Residual(gresidual)),
            _ => (test.output(name, y.all.len()), Epilogue::Write),
        };
        out.push((name, c));
        let sizes = [m, width].map(|x| Extent::fixed(x as u32));
        match transposed {
            true => record_forward_between(&mut test.plan, gx, &w, y.view(c), sizes, epilogue),
            false => record_backward_input_between(&mut test.plan, gx, &w, y.view(c), sizes, epilogue),
        }
    }
    let built = test.build_and_run(&checker.gpu)?;

    let x = x.of(&x.all);
    let plain = if transposed { reference::linear(&x, &weights, None, width) } else { reference::linear_dx(&x, &weights, width) };
    let biased: Vec<f64> = plain.chunks(outputs).flat_map(|row| sum(row, &bias)).collect();
    let added = sum(&plain, &y.of(&y.all));
    for (name, c) in out {
        let expected = match name {
            "write" => &plain,
            "bias" => &biased,
            _ => &added,
        };
        let (all, what) = (built.read_floats(c).await?, format!("{name}, {m}x{inputs} to {outputs}"));
        match transposed {
            true => checker.compare_result(&operation, &what, &y.of(&all), expected),
            false => checker.compare_gradient(&operation, &what, &y.of(&all), expected),
        }
        let before = if name == "accumulate" { y.all.clone() } else { vec![UNTOUCHED; all.len()] };
        checker.compare_exact(&operation, &format!("{what}, around the window"), &y.around(&all), &y.around(&before));
    }
    Ok(())
}
