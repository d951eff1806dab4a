//! Token embedding; packed tables and tables in chunks are in `matmul_packed.rs`.

use jurist::selftest::kernels::embedding::embedding;

use crate::common::*;

#[test]
fn tokens_are_gathered_and_their_gradients_summed() {
    let mut checker = checker(cpu_tuning());
    for live in [11, 4, 1, 0] {
        run_check(embedding(&mut checker, live, 6));
        run_check(embedding(&mut checker, live, 8));
    }
    assert_passes(checker);
}
