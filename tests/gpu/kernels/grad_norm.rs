//! The gradient norm and the clip factor.

use jurist::ops::grad_norm;
use jurist::reference::grad_norm as reference;
use jurist::selftest::kernels::grad_norm::{extreme_norms, norms};

use crate::common::*;

#[test]
fn norms_and_clip_factors() {
    for tuning in tunings() {
        let mut checker = checker(tuning);
        for max_norm in [0.0, 1.0, 1e6] {
            run_check(norms(&mut checker, max_norm));
        }
        assert_passes(checker);
    }
}

#[test]
fn gradients_whose_squares_leave_f32() {
    for tuning in tunings() {
        let mut checker = checker(tuning);
        run_check(extreme_norms(&mut checker));
        assert_passes(checker);
    }
}

/// More runs than the second stage has sums, in tensors that are read by vec4 and by single values. One element of the last run
/// may be so large that its square leaves f32.
#[test]
fn many_runs() {
    for tuning in tunings() {
        for (size, large) in [(8192 * 300 + 4, 1.0), (8192 * 2 + 1, 1.0), (8192 * 300 + 4, 1e25), (8192 * 2 + 1, 1e25)] {
            let mut test = TestPlan::new(&tuning);
            let mut gradient = random(size, 17);
            gradient[size - 1] = large;
            let tensor = test.floats("gradient", &gradient);
            let norm = test.output("norm", 4);
            grad_norm::record(&mut test.plan, &[tensor], 0.0, norm);
            let built = test.run();
            let (found, expected) = (built.floats(norm)[0], reference::global_norm([&gradient[..]]));
            assert!((found / expected - 1.0).abs() < FORWARD_TOLERANCE, "{size}: {found}, expected {expected}");
            built.run_again();
            assert_eq!(built.floats(norm)[0], found, "a run repeats to the bit");
        }
    }
}
