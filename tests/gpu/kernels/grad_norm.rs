//! The gradient norm and the clip factor.

use jurist::selftest::kernels::grad_norm::{extreme_norms, norms};

use crate::common::*;

#[test]
fn norms_and_clip_factors() {
    let mut checker = checker(cpu_tuning());
    for max_norm in [0.0, 1.0, 1e6] {
        run_check(norms(&mut checker, max_norm));
    }
    assert_passes(checker);
}

#[test]
fn gradients_whose_squares_leave_f32() {
    let mut checker = checker(cpu_tuning());
    run_check(extreme_norms(&mut checker));
    assert_passes(checker);
}
