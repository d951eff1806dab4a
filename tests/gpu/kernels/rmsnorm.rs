//! RMSNorm: plain, and per head with separate q and k weights.

use jurist::ops::rmsnorm::Norm;
use jurist::selftest::kernels::rmsnorm::{rmsnorm, rmsnorm_per_head, rmsnorm_scaled, rmsnorm_undefined};

use crate::common::*;

const EPS: f32 = 1e-5;

#[test]
fn plain() {
    for tuning in tunings() {
        let mut checker = checker(tuning);
        for (rows, width) in [(1, 2), (1, 64), (5, 6), (130, 33), (64, 100)] {
            run_check(rmsnorm(&mut checker, rows, rows, Norm::plain(width, EPS)));
        }
        for live in [0, 1, 65] {
            run_check(rmsnorm(&mut checker, 70, live, Norm::plain(20, EPS)));
            run_check(rmsnorm(&mut checker, 70, live, Norm { offset: 1.0, ..Norm::plain(33, EPS) }));
        }
        assert_passes(checker);
    }
}

#[test]
fn per_head() {
    for tuning in tunings() {
        let mut checker = checker(tuning);
        for (tokens, q_heads, kv_heads, width) in [(1, 7, 1, 6), (5, 7, 1, 6), (23, 4, 2, 16), (3, 1, 1, 128)] {
            run_check(rmsnorm_per_head(&mut checker, tokens, q_heads, kv_heads, width));
        }
        assert_passes(checker);
    }
}

/// Rows whose squares overflow or vanish in f32, and rows that are not finite.
#[test]
fn extremes() {
    for tuning in tunings() {
        let mut checker = checker(tuning);
        for (exponent, eps) in
            [(61, EPS), (64, EPS), (90, EPS), (100, EPS), (-49, 2e-38), (-60, 2e-38), (-64, EPS), (-110, EPS), (-100, 2e-38)]
        {
            for width in [20, 33] {
                run_check(rmsnorm_scaled(&mut checker, 70, Norm::plain(width, eps), exponent));
            }
            let per_head = Norm { heads: 9, q_heads: 7, normed: 8, ..Norm::plain(6, eps) };
            run_check(rmsnorm_scaled(&mut checker, 18, per_head, exponent));
        }
        for width in [20, 33] {
            run_check(rmsnorm_undefined(&mut checker, Norm::plain(width, EPS)));
        }
        assert_passes(checker);
    }
}
