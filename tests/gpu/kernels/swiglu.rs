//! SwiGLU and GeGLU.

use jurist::selftest::kernels::swiglu::gated;

use crate::common::*;

#[test]
fn also_where_exp_saturates() {
    let mut bench = bench(software());
    for (tokens, live, width) in [(1, 1, 1), (7, 7, 13), (9, 4, 5), (9, 0, 5), (9, 7, 12), (3, 3, 4)] {
        made(gated(&mut bench, tokens, live, width));
    }
    all_right(bench);
}
