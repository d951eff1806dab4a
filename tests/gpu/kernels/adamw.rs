//! AdamW behind gradient clipping.

use jurist::selftest::kernels::adamw::{bad_gradients, steps};

use crate::common::*;

#[test]
fn five_steps_of_adamw_with_clipping() {
    let mut bench = bench(software());
    for max_norm in [0.0, 1.0, 1e6] {
        made(steps(&mut bench, max_norm));
    }
    all_right(bench);
}

#[test]
fn nothing_moves_on_a_bad_gradient() {
    let mut bench = bench(software());
    made(bad_gradients(&mut bench));
    all_right(bench);
}
