//! What the products of `matmul_skinny.wgsl` promise beyond right results of small matrices (`matmul.rs` and `matmul_packed.rs`
//! have those): every tile in every dtype, K of many turns, and sums that do not depend on the number of rows.

use jurist::gpu::{Extent, Tuning, Variant};
use jurist::ops::matmul::{Epilogue, Layout, record_forward};
use jurist::ops::weight_dtype::WeightDtype;
use jurist::reference::matmul as reference;
use jurist::selftest::kernels::matmul::{EPILOGUES, Operand, product_with};
use jurist::selftest::stored::{Stored, matrix};

use crate::common::*;

fn skinny() -> Tuning {
    gpu_tuning().only(Variant::MatmulSkinny)
}

/// Rows that fill a tile and that do not, columns that do not; K of one turn of few threads, of all, and of several turns.
#[test]
fn tiles_in_f32() {
    let mut checker = checker(skinny());
    for m in 1..=8 {
        run_check(product_with(&mut checker, Layout::Nt, [m, 9, 64], Operand::CHUNKS, &EPILOGUES));
    }
    for [n, k] in [[4, 256], [7, 260], [1, 516], [66, 1028]] {
        run_check(product_with(&mut checker, Layout::Nt, [3, n, k], Operand::WINDOWS, &EPILOGUES));
    }
    // C begins anywhere.
    let odd_output = Operand { columns: [4, 4, 3], ..Operand::WINDOWS };
    run_check(product_with(&mut checker, Layout::Nt, [5, 10, 132], odd_output, &EPILOGUES));
    assert_passes(checker);
}

/// `y = x wᵀ` for the first `rows` rows of x: its bits, after a comparison with f64.
fn forward_bits(most_sums: u32, dtype: WeightDtype, rows: usize, [n, k]: [usize; 2]) -> Vec<u32> {
    let x = &random(9 * k, 1)[..rows * k];
    let mut test = TestPlan::new(&Tuning { most_sums, ..skinny() });
    let (w, stored) = matrix(&mut test, &Stored { dtype, cuts: &[n] }, &random(n * k, 2), k);
    let (from, to) = (test.floats("x", x), test.output("y", rows * n));
    let sizes = [rows, n, k].map(|size| Extent::fixed(size as u32));
    record_forward(&mut test.plan, from, &w, to, sizes, Epilogue::Write);
    let kernels: Vec<String> = test.plan.kernels().map(|kernel| kernel.to_string()).collect();
    assert!(kernels.len() == 1 && kernels[0].starts_with("matmul_skinny"), "{kernels:?}");
    let built = test.run();
    let what = format!("{dtype}, {rows} rows of {n}x{k}");
    assert_close(&what, &built.floats(to), &reference::linear(x, &stored, None, k), FORWARD_TOLERANCE);
    let bits = built.words(to);
    built.run_again();
    assert_eq!(built.words(to), bits, "{what}: a second run has other bits");
    bits
}

/// A row has the same bits alone and among others, in every tile, also where tiles of eight rows have too many sums; in f32,
/// nine rows are for another kernel.
#[test]
fn a_row_does_not_depend_on_other_rows() {
    for dtype in [&[WeightDtype::F32], &WeightDtype::PACKED[..]].concat() {
        for [n, k] in [[10, 64], [7, 1056], [37, 2048]] {
            let most = if dtype == WeightDtype::F32 { 8 } else { 9 };
            let all = forward_bits(u32::MAX, dtype, most, [n, k]);
            for (rows, most_sums) in (1..=most).flat_map(|rows| [(rows, 8), (rows, u32::MAX)]) {
                let bits = forward_bits(most_sums, dtype, rows, [n, k]);
                assert_eq!(bits, all[..rows * n], "{dtype}: {rows} rows of {n}x{k}, {most_sums} sums");
            }
        }
    }
}
