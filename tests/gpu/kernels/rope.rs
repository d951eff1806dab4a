//! Rotary position embedding.

use jurist::selftest::kernels::rope::rope;

use crate::common::*;

#[test]
fn q_and_k_are_rotated_and_rotated_back() {
    let mut checker = checker(cpu_tuning());
    for (head_dim, heads, rotated) in [(6, 9, 8), (8, 9, 8), (16, 4, 3), (20, 3, 2), (128, 3, 2)] {
        run_check(rope(&mut checker, head_dim, heads, rotated));
    }
    assert_passes(checker);
}
