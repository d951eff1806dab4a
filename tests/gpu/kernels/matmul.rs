//! Matrix products: three layouts, four epilogues, tails in every direction.

use jurist::gpu::Extent;
use jurist::ops::matmul::{self, Epilogue, Layout};
use jurist::ops::matrix::{FullChunk, Matrix};
use jurist::reference::matmul as reference;
use jurist::selftest::kernels::matmul::{Operand, product};

use crate::common::*;

/// T, N (outputs), K (inputs): tails of the 8 x 8 tile, of vec4, both and none; one row, one column, one element.
const SHAPES: [[usize; 3]; 10] = [
    [16, 16, 16],
    [13, 12, 20],
    [13, 10, 7],
    [1, 36, 8],
    [1, 1, 1],
    [9, 1, 64],
    [70, 97, 33],
    [3, 4, 4],
    [65, 24, 12],
    [8, 61, 96],
];

fn sizes([t, n, k]: [usize; 3]) -> [Extent; 3] {
    [t, n, k].map(|x| Extent::fixed(x as u32))
}

/// All layouts and epilogues: whole matrices, rows of longer matrices, and scaled windows with columns around them, as the
/// adapters of single projections in fused matrices have.
#[test]
fn products() {
    for tuning in tunings() {
        let mut checker = checker(tuning);
        for layout in [Layout::Nt, Layout::Nn, Layout::Tn] {
            for shape in SHAPES {
                run_check(product(&mut checker, layout, shape, Operand::WHOLE));
            }
            for shape in [[11, 6, 5], [12, 20, 8], [68, 228, 12]] {
                for operand in [Operand::CHUNKS, Operand::WINDOWS, Operand::ODD_WINDOWS] {
                    run_check(product(&mut checker, layout, shape, operand));
                }
                // Only C, then only the bias, cannot be accessed by vec4.
                let odd_output = Operand { columns: [4, 4, 3], ..Operand::WINDOWS };
                run_check(product(&mut checker, layout, shape, odd_output));
            }
        }
        assert_passes(checker);
    }
}

/// The input gradient of a loss head: K is a vocabulary, and 151,937 are more than the turns that
/// lavapipe makes of a loop.
#[test]
fn k_is_summed_to_its_end() {
    for tuning in tunings() {
        let mut checker = checker(tuning);
        for vocab in [70_001, 151_937] {
            run_check(product(&mut checker, Layout::Nn, [3, 5, vocab], Operand::WHOLE));
        }
        assert_passes(checker);
    }
}

#[test]
fn backward() {
    for tuning in tunings() {
        for shape @ [t, n, k] in SHAPES {
            let (x, w, dy) = (random(t * k, 1), random(n * k, 2), random(t * n, 3));
            let (start_x, start_w, start_b) = (random(t * k, 4), random(n * k, 5), random(n, 6));
            let mut test = TestPlan::new(&tuning);
            let (gx, gw, gdy) = (test.floats("x", &x), test.floats("w", &w), test.floats("dy", &dy));
            let dx = test.output("dx", t * k);
            let dx_more = test.floats("dx more", &start_x);
            let dw = test.floats("dw", &start_w);
            let db = test.floats("db", &start_b);
            let ones = test.floats("ones", &vec![1.0; t]);
            let (matrix, rows) = (&Matrix::full(gw, n as u32), n as u32);
            matmul::record_backward_input(&mut test.plan, gdy, matrix, dx, sizes(shape), Epilogue::Write);
            matmul::record_backward_input(&mut test.plan, gdy, matrix, dx_more, sizes(shape), Epilogue::Accumulate);
            matmul::record_backward_weight(&mut test.plan, gdy, gx, &[FullChunk { rows, tensor: dw }], sizes(shape));
            matmul::record_backward_bias(&mut test.plan, gdy, ones, db, Extent::fixed(t as u32), Extent::fixed(n as u32));
            let built = test.run();
            let expected = reference::linear_dx(&dy, &w, k);
            assert_close(&format!("matmul dx {shape:?}"), &built.floats(dx), &expected, BACKWARD_TOLERANCE);
            assert_close("matmul dx accumulate", &built.floats(dx_more), &sum(&expected, &start_x), BACKWARD_TOLERANCE);
            assert_close(
                "matmul dw",
                &built.floats(dw),
                &sum(&reference::linear_dw(&dy, &x, k, n), &start_w),
                BACKWARD_TOLERANCE,
            );
            assert_close("matmul db", &built.floats(db), &sum(&reference::linear_db(&dy, n), &start_b), BACKWARD_TOLERANCE);
        }
    }
}

/// A plan for many tokens that runs on few, or none: rows past the live ones keep what they held.
#[test]
fn fewer_tokens_than_planned() {
    let (planned, n, k) = (21, 12, 8);
    for tuning in tunings() {
        for t in [0, 1, 8, 13, 21] {
            let (x, w, dy) = (random(planned * k, 1), random(n * k, 2), random(planned * n, 3));
            let mut test = TestPlan::new(&tuning);
            let tokens = Extent::dynamic(test.run_param(t as u32), planned as u32);
            let (gx, gw, gdy) = (test.floats("x", &x), test.floats("w", &w), test.floats("dy", &dy));
            let (y, dx, dw) =
                (test.output("y", planned * n), test.output("dx", planned * k), test.floats("dw", &vec![1.0; n * k]));
            let [n_, k_] = [n, k].map(|x| Extent::fixed(x as u32));
            let (matrix, rows) = (&Matrix::full(gw, n as u32), n as u32);
            matmul::record_forward(&mut test.plan, gx, matrix, y, [tokens, n_, k_], Epilogue::Write);
            matmul::record_backward_input(&mut test.plan, gdy, matrix, dx, [tokens, n_, k_], Epilogue::Write);
            matmul::record_backward_weight(&mut test.plan, gdy, gx, &[FullChunk { rows, tensor: dw }], [tokens, n_, k_]);
            let built = test.run();
            let (x, dy) = (&x[..t * k], &dy[..t * n]);
            let (y, dx) = (built.floats(y), built.floats(dx));
            assert_close("matmul live y", &y[..t * n], &reference::linear(x, &w, None, k), FORWARD_TOLERANCE);
            assert_close("matmul live dx", &dx[..t * k], &reference::linear_dx(dy, &w, k), BACKWARD_TOLERANCE);
            assert!(y[t * n..].iter().chain(&dx[t * k..]).all(|x| *x == UNTOUCHED), "written past the {t} live tokens");
            let expected = sum(&reference::linear_dw(dy, x, k, n), &vec![1.0; n * k]);
            assert_close("matmul live dw", &built.floats(dw), &expected, BACKWARD_TOLERANCE);
        }
    }
}
