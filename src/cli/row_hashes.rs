//! What tells rows apart in the files that `jurist` keeps: hashes of the texts that a judge reads.

use crate::bundle::sha256_hex;
use crate::data::{Example, judged_text};

/// Letters of a hash. Two of a million rows are the same by chance with a probability of 3e-8.
const LETTERS: usize = 16;

/// The hash of each row.
pub fn of_rows(rows: &[Example]) -> Vec<String> {
    rows.iter().map(|row| short(&judged_text(row, false))).collect()
}

/// The hash of all rows together, in whatever order.
pub fn of_set(rows: &[Example]) -> String {
    let mut hashes = of_rows(rows);
    hashes.sort_unstable();
    short(&hashes.concat())
}

/// The hash of all rows in their order, with all that they hold.
pub fn of_list(rows: &[Example]) -> String {
    short(&rows.iter().map(|example| format!("{}\n{:?}\n", example.row.to_json(), example.record)).collect::<String>())
}

fn short(text: &str) -> String {
    sha256_hex(text.as_bytes()).chars().take(LETTERS).collect()
}
