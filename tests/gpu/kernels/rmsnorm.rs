//! RMSNorm: plain, and per head with separate q and k weights.

use jurist::ops::rmsnorm::Norm;
use jurist::selftest::kernels::rmsnorm::{rms_norm, rms_norm_per_head, rms_norm_scaled, rms_norm_undefined};

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
            made(rms_norm(&mut bench, 70, live, Norm { offset: 1.0, ..Norm::plain(33, EPS) }));
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

/// Rows whose squares overflow or vanish in f32, and rows that are not finite.
#[test]
fn extremes() {
    for tuning in tunings() {
        let mut bench = bench(tuning);
        for (exponent, eps) in
            [(61, EPS), (64, EPS), (90, EPS), (100, EPS), (-49, 2e-38), (-60, 2e-38), (-64, EPS), (-110, EPS), (-100, 2e-38)]
        {
            for width in [20, 33] {
                made(rms_norm_scaled(&mut bench, 70, Norm::plain(width, eps), exponent));
            }
            let per_head = Norm { heads: 9, q_heads: 7, normed: 8, ..Norm::plain(6, eps) };
            made(rms_norm_scaled(&mut bench, 18, per_head, exponent));
        }
        for width in [20, 33] {
            made(rms_norm_undefined(&mut bench, Norm::plain(width, EPS)));
        }
        all_right(bench);
    }
}
