//! The rows that carry loss: gathered, and their gradients scattered.

use jurist::selftest::kernels::rows::rows;

use crate::common::*;

#[test]
fn rows_are_gathered_and_scattered() {
    let mut checker = checker(cpu_tuning());
    for picked in [vec![6u32, 0, 3], vec![2], vec![]] {
        run_check(rows(&mut checker, &picked, 5));
        run_check(rows(&mut checker, &picked, 8));
    }
    assert_passes(checker);
}
