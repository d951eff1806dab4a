//! The random generator.

use jurist::selftest::kernels::threefry;

use crate::common::*;

#[test]
fn answers_are_those_of_the_host() {
    let mut checker = checker(cpu_tuning());
    run_check(threefry::checks(&mut checker));
    assert_passes(checker);
}
