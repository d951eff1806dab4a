//! Rotary position embedding.

use jurist::selftest::kernels::rope::rope;

use crate::common::*;

#[test]
fn q_and_k_are_rotated_and_rotated_back() {
    let mut bench = bench(software());
    for (head_dim, heads, rotated) in [(6, 9, 8), (8, 9, 8), (16, 4, 3), (20, 3, 2), (128, 3, 2)] {
        made(rope(&mut bench, head_dim, heads, rotated));
    }
    all_right(bench);
}
