//! SwiGLU and GeGLU.

use jurist::selftest::kernels::swiglu::gated;

use crate::common::*;

#[test]
fn also_where_exp_saturates() {
    let mut checker = checker(cpu_tuning());
    for (tokens, live, width) in [(1, 1, 1), (7, 7, 13), (9, 4, 5), (9, 0, 5), (9, 7, 12), (3, 3, 4)] {
        run_check(gated(&mut checker, tokens, live, width));
    }
    assert_passes(checker);
}
