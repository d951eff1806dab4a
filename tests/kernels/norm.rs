//! RMSNorm: plain, and per head with separate q and k weights.

use jurist::doctor::kernels::linear::{rms_norm, rms_norm_per_head};
use jurist::ops::rmsnorm::Norm;

use crate::common::*;

const EPS: f32 = 1e-5;

#[test]
fn plain() {
    for tuning in tunings() {
        let mut bench = bench(tuning);
        for (rows, width) in [(1, 2), (1, 64), (5, 6), (130, 33), (64, 100)] {
            made(rms_norm(&mut bench, rows, rows, Norm::plain(width, EPS)));
        }
        for live in [0, 1, 65] {
            made(rms_norm(&mut bench, 70, live, Norm::plain(20, EPS)));
        }
        all_right(bench);
    }
}

#[test]
fn per_head() {
    for tuning in tunings() {
        let mut bench = bench(tuning);
        for (tokens, q_heads, kv_heads, width) in [(1, 7, 1, 6), (5, 7, 1, 6), (23, 4, 2, 16), (3, 1, 1, 128)] {
            made(rms_norm_per_head(&mut bench, tokens, q_heads, kv_heads, width));
        }
        all_right(bench);
    }
}
