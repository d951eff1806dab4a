//! The squares of each column of a tensor, summed over its rows.

use jurist::selftest::kernels::column_squares::squares;

use crate::common::*;

#[test]
fn squares_of_columns_are_summed() {
    let mut checker = checker(cpu_tuning());
    for (tokens, width) in [(7, 1), (1, 37), (0, 5), (6, 68), (7, 260)] {
        run_check(squares(&mut checker, tokens, width));
    }
    assert_passes(checker);
}
