//! AdamW behind gradient clipping.

use jurist::selftest::kernels::adamw::{bad_gradients, steps};

use crate::common::*;

#[test]
fn five_steps_of_adamw_with_clipping() {
    let mut checker = checker(cpu_tuning());
    for max_norm in [0.0, 1.0, 1e6] {
        run_check(steps(&mut checker, max_norm));
    }
    assert_passes(checker);
}

#[test]
fn nothing_moves_on_a_bad_gradient() {
    let mut checker = checker(cpu_tuning());
    run_check(bad_gradients(&mut checker));
    assert_passes(checker);
}
