//! Matrix products: three layouts, four epilogues, tails in every direction.

use jurist::gpu::Extent;
use jurist::ops::matmul::{self, Epilogue, Layout};
use jurist::ops::matrix::{FullChunk, Matrix};
use jurist::reference::matmul as spec;
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
        let mut bench = bench(tuning);
        for layout in [Layout::Nt, Layout::Nn, Layout::Tn] {
            for shape in SHAPES {
                made(product(&mut bench, layout, shape, Operand::WHOLE));
            }
            for shape in [[11, 6, 5], [12, 20, 8], [68, 228, 12]] {
                for operand in [Operand::CHUNKS, Operand::WINDOWS, Operand::ODD_WINDOWS] {
                    made(product(&mut bench, layout, shape, operand));
                }
                // Only C, then only the bias, cannot be accessed by vec4.
                let odd_output = Operand { columns: [4, 4, 3], ..Operand::WINDOWS };
                made(product(&mut bench, layout, shape, odd_output));
            }
        }
        all_right(bench);
    }
}

#[test]
fn backward() {
    for tuning in tunings() {
        for shape @ [t, n, k] in SHAPES {
            let (x, w, dy) = (random(t * k, 1), random(n * k, 2), random(t * n, 3));
            let (start_x, start_w, start_b) = (random(t * k, 4), random(n * k, 5), random(n, 6));
            let mut rig = Rig::new(&tuning);
            let (gx, gw, gdy) = (rig.floats("x", &x), rig.floats("w", &w), rig.floats("dy", &dy));
            let dx = rig.output("dx", t * k);
            let dx_more = rig.floats("dx more", &start_x);
            let dw = rig.floats("dw", &start_w);
            let db = rig.floats("db", &start_b);
            let ones = rig.floats("ones", &vec![1.0; t]);
            let (matrix, rows) = (&Matrix::full(gw, n as u32), n as u32);
            matmul::record_backward_input(&mut rig.plan, gdy, matrix, dx, sizes(shape), Epilogue::Write);
            matmul::record_backward_input(&mut rig.plan, gdy, matrix, dx_more, sizes(shape), Epilogue::Accumulate);
            matmul::record_backward_weight(&mut rig.plan, gdy, gx, &[FullChunk { rows, tensor: dw }], sizes(shape));
            matmul::record_backward_bias(&mut rig.plan, gdy, ones, db, Extent::fixed(t as u32), Extent::fixed(n as u32));
            let ran = rig.run();
            let expected = spec::linear_dx(&dy, &w, k);
            close(&format!("matmul dx {shape:?}"), &ran.floats(dx), &expected, BACKWARD);
            close("matmul dx accumulate", &ran.floats(dx_more), &sum(&expected, &start_x), BACKWARD);
            close("matmul dw", &ran.floats(dw), &sum(&spec::linear_dw(&dy, &x, k, n), &start_w), BACKWARD);
            close("matmul db", &ran.floats(db), &sum(&spec::linear_db(&dy, n), &start_b), BACKWARD);
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
            let mut rig = Rig::new(&tuning);
            let tokens = Extent::dynamic(rig.live(t as u32), planned as u32);
            let (gx, gw, gdy) = (rig.floats("x", &x), rig.floats("w", &w), rig.floats("dy", &dy));
            let (y, dx, dw) = (rig.output("y", planned * n), rig.output("dx", planned * k), rig.floats("dw", &vec![1.0; n * k]));
            let [n_, k_] = [n, k].map(|x| Extent::fixed(x as u32));
            let (matrix, rows) = (&Matrix::full(gw, n as u32), n as u32);
            matmul::record_forward(&mut rig.plan, gx, matrix, y, [tokens, n_, k_], Epilogue::Write);
            matmul::record_backward_input(&mut rig.plan, gdy, matrix, dx, [tokens, n_, k_], Epilogue::Write);
            matmul::record_backward_weight(&mut rig.plan, gdy, gx, &[FullChunk { rows, tensor: dw }], [tokens, n_, k_]);
            let ran = rig.run();
            let (x, dy) = (&x[..t * k], &dy[..t * n]);
            let (y, dx) = (ran.floats(y), ran.floats(dx));
            close("matmul live y", &y[..t * n], &spec::linear(x, &w, None, k), FORWARD);
            close("matmul live dx", &dx[..t * k], &spec::linear_dx(dy, &w, k), BACKWARD);
            assert!(y[t * n..].iter().chain(&dx[t * k..]).all(|x| *x == UNTOUCHED), "written past the {t} live tokens");
            let expected = sum(&spec::linear_dw(dy, x, k, n), &vec![1.0; n * k]);
            close("matmul live dw", &ran.floats(dw), &expected, BACKWARD);
        }
    }
}
