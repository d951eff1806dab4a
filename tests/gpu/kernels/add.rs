//! One tensor added to another.

use jurist::selftest::kernels::add::sums;

use crate::common::*;

#[test]
fn tensors_are_added() {
    let mut checker = checker(cpu_tuning());
    for length in [1, 4, 63, 64, 257, 70_000] {
        run_check(sums(&mut checker, length));
    }
    assert_passes(checker);
}
