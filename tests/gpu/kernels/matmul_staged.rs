//! What the products of `matmul_staged.wgsl` promise beyond right results of small matrices (`matmul.rs` has those): both tiles,
//! sums that do not depend on the tile, on other rows or on a plan's room, and weight gradients in parts of K.

use jurist::gpu::{Extent, PlanBuilder, Tuning, Variant};
use jurist::ops::matmul::{self, Epilogue, Layout, Product};
use jurist::ops::staged::{LARGE, SMALL, record_whole};
use jurist::reference::matmul as reference;
use jurist::selftest::kernels::matmul::{EPILOGUES, Operand, product_by};

use crate::common::*;

fn staged() -> Tuning {
    gpu_tuning().only(Variant::MatmulStaged)
}

fn fixed([m, n, k]: [usize; 3]) -> [Extent; 3] {
    [m, n, k].map(|x| Extent::fixed(x as u32))
}

/// Tails in every direction of both tiles and of a block of 8 steps of K, and less than a block, a quarter of a thread, a tile.
#[test]
fn both_tiles() {
    let mut checker = checker(staged());
    for edge in [SMALL, LARGE] {
        let whole = |plan: &mut PlanBuilder, p| record_whole(plan, p, edge);
        for layout in [Layout::Nt, Layout::Nn, Layout::Tn] {
            for shape in [[132, 140, 28], [68, 64, 40], [8, 128, 16], [4, 4, 4], [36, 260, 12]] {
                run_check(product_by(&mut checker, layout, shape, Operand::CHUNKS, &EPILOGUES, whole));
            }
            run_check(product_by(&mut checker, layout, [68, 36, 20], Operand::WINDOWS, &EPILOGUES, whole));
        }
        // Any number of rows, where their steps of K are contiguous; any number of columns that are.
        for (layout, shape) in [(Layout::Nt, [131, 137, 20]), (Layout::Nt, [1, 1, 4]), (Layout::Nn, [65, 68, 12])] {
            run_check(product_by(&mut checker, layout, shape, Operand::CHUNKS, &EPILOGUES, whole));
        }
        // C begins anywhere.
        let odd_output = Operand { columns: [4, 4, 3], ..Operand::WINDOWS };
        run_check(product_by(&mut checker, Layout::Nt, [70, 72, 12], odd_output, &EPILOGUES, whole));
    }
    // Any number of steps.
    for steps in [1, 7, 9, 127, 129, 300] {
        for edge in [SMALL, LARGE] {
            let whole = |plan: &mut PlanBuilder, p| record_whole(plan, p, edge);
            run_check(product_by(&mut checker, Layout::Tn, [36, 72, steps], Operand::WINDOWS, &["accumulate"], whole));
        }
    }
    assert_passes(checker);
}

/// Values as bits: those of `y = x wᵀ` for these rows of x, by a tile of this edge.
fn forward_bits(x: &[f64], w: &[f64], [n, k]: [usize; 2], edge: u32) -> Vec<u32> {
    let m = x.len() / k;
    let mut test = TestPlan::new(&staged());
    let tensors = [test.floats("x", x), test.floats("w", w), test.output("y", m * n)];
    record_whole(&mut test.plan, Product::whole(Layout::Nt, tensors, fixed([m, n, k]), Epilogue::Write), edge);
    let built = test.run();
    let bits = built.words(tensors[2]);
    built.run_again();
    assert_eq!(built.words(tensors[2]), bits, "a second run has other bits");
    bits
}

/// A row has the same bits in either tile, alone and among others.
#[test]
fn a_row_does_not_depend_on_the_tile_or_on_other_rows() {
    let [m, n, k] = [150, 68, 100];
    let (x, w) = (random(m * k, 1), random(n * k, 2));
    let all = forward_bits(&x, &w, [n, k], LARGE);
    assert_eq!(forward_bits(&x, &w, [n, k], SMALL), all, "the tiles differ");
    for row in [0, 1, 63, 64, 149] {
        let alone = forward_bits(&x[row * k..][..k], &w, [n, k], SMALL);
        assert_eq!(alone, all[row * n..][..n], "row {row} alone");
    }
}

/// The most tokens of [`weight_gradient`].
const TOKENS: usize = 2500;

/// `dw += dyᵀ x / 2` over the first `t` tokens, by a plan with room for `room`: its bits, after a comparison with f64.
fn weight_gradient(t: usize, room: usize, [n, k]: [usize; 2]) -> Vec<u32> {
    let (dy, x, start) = (random(TOKENS * n, 1), random(TOKENS * k, 2), random(n * k, 3));
    let mut test = TestPlan::new(&staged());
    let tokens = Extent::dynamic(test.run_param(t as u32), room as u32);
    let tensors = [test.floats("dy", &dy[..room * n]), test.floats("x", &x[..room * k]), test.floats("dw", &start)];
    let [n_, k_] = [n, k].map(|x| Extent::fixed(x as u32));
    let product = Product::whole(Layout::Tn, tensors, [n_, k_, tokens], Epilogue::Accumulate);
    matmul::record_product(&mut test.plan, Product { scale: 0.5, ..product });
    assert_eq!(test.plan.kernels().count(), 2, "parts, and their sum");
    let built = test.run();
    let half: Vec<f64> = reference::linear_dw(&dy[..t * n], &x[..t * k], k, n).iter().map(|x| 0.5 * x).collect();
    let found = built.floats(tensors[2]);
    assert_close(&format!("dw {n}x{k} of {t} tokens, room for {room}"), &found, &sum(&half, &start), BACKWARD_TOLERANCE);
    built.words(tensors[2])
}

/// No token, fewer than a part has, parts without any, parts that end within a block: the same bits whatever the room.
#[test]
fn weight_gradients_in_parts() {
    let few: &[usize] = &[0, 1, 127, 128, 129, 300, 1000, TOKENS];
    for (shape, tokens) in [([12, 20], few), ([68, 132], &[129, 300])] {
        for t in tokens.iter().copied() {
            let bits = weight_gradient(t, TOKENS, shape);
            assert_eq!(weight_gradient(t, t.max(1), shape), bits, "{t} tokens in a plan without more room");
        }
    }
}
