//! Dropout: the mask is a function of key, site and index alone.

use jurist::selftest::kernels::dropout::dropout;

use crate::common::*;

#[test]
fn masks_are_those_of_the_reference() {
    let mut checker = checker(cpu_tuning());
    for (n, p, site) in [(1, 0.5, 0), (1000, 0.1, 1), (1000, 0.1, 2), (65, 0.0, 3)] {
        run_check(dropout(&mut checker, n, p, site));
    }
    assert_passes(checker);
}
