//! Token embedding; packed tables and tables in chunks are in `matmul_packed.rs`.

use jurist::selftest::kernels::embedding::embedding;

use crate::common::*;

#[test]
fn tokens_are_gathered_and_their_gradients_summed() {
    let mut bench = bench(software());
    for live in [11, 4, 1, 0] {
        made(embedding(&mut bench, live, 6));
        made(embedding(&mut bench, live, 8));
    }
    all_right(bench);
}
