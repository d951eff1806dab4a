//! The rows that carry loss: gathered, and their gradients scattered.

use jurist::selftest::kernels::rows::rows;

use crate::common::*;

#[test]
fn rows_are_gathered_and_scattered() {
    let mut bench = bench(software());
    for picked in [vec![6u32, 0, 3], vec![2], vec![]] {
        made(rows(&mut bench, &picked, 5));
        made(rows(&mut bench, &picked, 8));
    }
    all_right(bench);
}
