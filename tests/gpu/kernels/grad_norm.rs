//! The gradient norm and the clip factor.

use jurist::selftest::kernels::grad_norm::{extreme_norms, norms};

use crate::common::*;

#[test]
fn norms_and_clip_factors() {
    let mut bench = bench(software());
    for max_norm in [0.0, 1.0, 1e6] {
        made(norms(&mut bench, max_norm));
    }
    all_right(bench);
}

#[test]
fn gradients_whose_squares_leave_f32() {
    let mut bench = bench(software());
    made(extreme_norms(&mut bench));
    all_right(bench);
}
