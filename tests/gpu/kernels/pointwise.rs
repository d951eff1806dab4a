//! Operations that touch each element once: embedding, rows, rope, SwiGLU, and the random generator.

use jurist::selftest::kernels::pointwise;

use crate::common::*;

#[test]
fn embeddings_gather_and_owners_sum() {
    let mut bench = bench(software());
    for live in [11, 4, 1, 0] {
        made(pointwise::embedding(&mut bench, live, 6));
        made(pointwise::embedding(&mut bench, live, 8));
    }
    all_right(bench);
}

#[test]
fn rows_are_picked_and_handed_back() {
    let mut bench = bench(software());
    for picked in [vec![6u32, 0, 3], vec![2], vec![]] {
        made(pointwise::rows(&mut bench, &picked, 5));
        made(pointwise::rows(&mut bench, &picked, 8));
    }
    all_right(bench);
}

#[test]
fn rope_turns_q_and_k_and_back() {
    let mut bench = bench(software());
    for (head_dim, heads, rotated) in [(6, 9, 8), (8, 9, 8), (16, 4, 3), (20, 3, 2), (128, 3, 2)] {
        made(pointwise::rope(&mut bench, head_dim, heads, rotated));
    }
    all_right(bench);
}

#[test]
fn swiglu_also_where_exp_saturates() {
    let mut bench = bench(software());
    for (tokens, live, width) in [(1, 1, 1), (7, 7, 13), (9, 4, 5), (9, 0, 5), (9, 7, 12), (3, 3, 4)] {
        made(pointwise::swiglu(&mut bench, tokens, live, width));
    }
    all_right(bench);
}

#[test]
fn threefry_agrees_with_the_host() {
    let mut bench = bench(software());
    made(pointwise::threefry(&mut bench));
    all_right(bench);
}
