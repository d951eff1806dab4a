//! Matrix products with a weight matrix as a model stores it: packed, in chunks, or both.

use jurist::gpu::{Limits, Variant};
use jurist::ops::matmul::Layout;
use jurist::ops::weight_dtype::WeightDtype;
use jurist::selftest::kernels::KernelChecker;
use jurist::selftest::kernels::embedding::stored_table;
use jurist::selftest::kernels::matmul::{Operand, weight_gradient};
use jurist::selftest::kernels::matmul_packed::product;
use jurist::selftest::stored::Stored;

use crate::common::*;

/// Forward and input gradient: whole and cut tiles, one row (which has a kernel of its own), one block to many, windows whose
/// rows begin anywhere.
#[test]
fn packed_products_and_rows() {
    for tuning in tunings() {
        let mut checker = checker(tuning);
        for dtype in WeightDtype::PACKED {
            for [m, n, k] in [[16, 16, 32], [13, 12, 64], [1, 36, 96], [1, 1, 32], [9, 1, 32], [70, 97, 352]] {
                for layout in [Layout::Nt, Layout::Nn] {
                    run_check(product(&mut checker, Stored { dtype, cuts: &[n] }, layout, [m, k], Operand::WHOLE));
                }
            }
            for operand in [Operand::CHUNKS, Operand::WINDOWS, Operand::ODD_WINDOWS] {
                for layout in [Layout::Nt, Layout::Nn] {
                    run_check(product(&mut checker, Stored { dtype, cuts: &[12] }, layout, [11, 64], operand));
                }
            }
            for width in [32, 160] {
                run_check(stored_table(&mut checker, Stored { dtype, cuts: &[13] }, width));
            }
        }
        assert_passes(checker);
    }
}

/// Many rows of x: where products in f32 are faster, the matrix is unpacked part by part. Here it has two parts, or three chunks;
/// the output is a window, or is accumulated.
#[test]
fn many_rows_of_a_packed_matrix() {
    for tuning in tunings() {
        let mut checker = checker(tuning);
        for dtype in WeightDtype::PACKED {
            for layout in [Layout::Nt, Layout::Nn] {
                run_check(product(&mut checker, Stored { dtype, cuts: &[33_000] }, layout, [33, 32], Operand::WHOLE));
                for operand in [Operand::CHUNKS, Operand::WINDOWS, Operand::ODD_WINDOWS] {
                    run_check(product(&mut checker, Stored { dtype, cuts: &[32, 64, 13] }, layout, [40, 64], operand));
                }
            }
        }
        assert_passes(checker);
    }
}

/// Matrices cut by rows where no tile ends, in all three layouts: the same result as from one chunk.
#[test]
fn chunks() {
    for tuning in tunings() {
        let mut checker = checker(tuning);
        for cuts in [&[16, 16, 5][..], &[5, 1, 31], &[64, 32]] {
            for dtype in [WeightDtype::F32, WeightDtype::Q4, WeightDtype::F16] {
                for operand in [Operand::WHOLE, Operand::WINDOWS] {
                    run_check(product(&mut checker, Stored { dtype, cuts }, Layout::Nt, [13, 64], operand));
                    run_check(product(&mut checker, Stored { dtype, cuts }, Layout::Nn, [13, 64], operand));
                }
                run_check(stored_table(&mut checker, Stored { dtype, cuts }, 32));
            }
            run_check(stored_table(&mut checker, Stored { dtype: WeightDtype::F32, cuts }, 7));
            run_check(weight_gradient(&mut checker, cuts, [13, 12]));
            run_check(weight_gradient(&mut checker, cuts, [6, 7]));
        }
        assert_passes(checker);
    }
}

/// A matrix of 2.5 MiB in chunks, where a buffer may not be larger than 1 MiB.
#[test]
fn a_matrix_larger_than_a_binding() {
    for tuning in tunings() {
        // The parts of a split weight gradient take up to 8 MiB. No GPU's bindings are below WebGPU's 128.
        let gpu = open(Limits::Binding(if tuning.has(Variant::MatmulStaged) { 8 << 20 } else { 1 << 20 }), true);
        let mut checker = KernelChecker {
            tuning,
            forward_tolerance: FORWARD_TOLERANCE,
            backward_tolerance: BACKWARD_TOLERANCE,
            ..KernelChecker::new(&gpu)
        };
        let held = |dtype| Stored { dtype, cuts: &[512, 512, 276] };
        for layout in [Layout::Nt, Layout::Nn] {
            run_check(product(&mut checker, held(WeightDtype::F32), layout, [3, 512], Operand::WHOLE));
            run_check(product(&mut checker, held(WeightDtype::Bf16), layout, [3, 512], Operand::WHOLE));
        }
        run_check(stored_table(&mut checker, held(WeightDtype::F32), 512));
        run_check(weight_gradient(&mut checker, held(WeightDtype::F32).cuts, [3, 512]));
        assert_passes(checker);
    }
}
