//! Gradient norm, clipping and AdamW.

use jurist::selftest::kernels::optim;

use crate::common::*;

#[test]
fn five_steps_of_adamw_with_clipping() {
    let mut bench = bench(software());
    for max_norm in [0.0, 1.0, 1e6] {
        made(optim::steps(&mut bench, max_norm));
    }
    all_right(bench);
}

#[test]
fn nothing_moves_on_a_bad_gradient() {
    let mut bench = bench(software());
    made(optim::bad_gradients(&mut bench));
    all_right(bench);
}

#[test]
fn norms_of_gradients_whose_squares_leave_f32() {
    let mut bench = bench(software());
    made(optim::extreme_norms(&mut bench));
    all_right(bench);
}
