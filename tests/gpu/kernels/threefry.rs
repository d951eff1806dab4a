//! The random generator.

use jurist::selftest::kernels::threefry;

use crate::common::*;

#[test]
fn answers_are_those_of_the_host() {
    let mut bench = bench(software());
    made(threefry::checks(&mut bench));
    all_right(bench);
}
