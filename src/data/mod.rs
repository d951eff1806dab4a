//! Rows in: JSON Lines, a JSON array, CSV (each plain, `.gz` or `.zst`), Parquet, or a folder of those; in a browser JSON as
//! text.
//!
//! Every column of a row is kept in its order ([`Row`]), so that `jurist score` can write it back untouched; beside it
//! stands what a judge needs ([`Record`]): a prompt in one of the recognised layouts, a chain of thought, a score. A row of
//! another layout is not an error here: one's own prompt template may read any column.
//!
//! A leaf room: it knows no tokenizer and no scale. Whether a score lies on the scale is the judge's business.

#[cfg(not(target_arch = "wasm32"))]
mod columns;
#[cfg(all(feature = "csv", not(target_arch = "wasm32")))]
mod csv;
#[cfg(not(target_arch = "wasm32"))]
mod delimiter;
#[cfg(not(target_arch = "wasm32"))]
mod files;
mod json;
mod layout;
#[cfg(all(feature = "parquet", not(target_arch = "wasm32")))]
mod parquet;
mod read;
mod record;
mod scores;
mod survey;
#[cfg(not(target_arch = "wasm32"))]
mod unpack;
mod written;

#[cfg(not(target_arch = "wasm32"))]
pub use columns::{Cells, read_columns, read_columns_within};
pub use layout::Layout;
pub use read::{Dataset, Example, Reader, split_rows};
pub use record::{Chains, Grading, Labels, Message, Prompt, Record, Row, View, contradicts};
pub use scores::Words;
pub use survey::{Bin, Percentiles, Repeated, Survey, fullest, histogram, judged_text, percentiles, repeated, shared_with};
#[cfg(not(target_arch = "wasm32"))]
pub use unpack::{byte_size, name_of};
pub use written::columns_of;

/// Where a row begins in its file: behind the file's name in messages, `:3` or `, row 3`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowPosition {
    /// The line, from 1.
    Line(usize),
    /// The row, from 1, where a file has no lines (Parquet).
    Row(usize),
}

impl RowPosition {
    /// The number of the line or row.
    pub fn number(self) -> usize {
        match self {
            RowPosition::Line(number) | RowPosition::Row(number) => number,
        }
    }
}

impl std::fmt::Display for RowPosition {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        match self {
            RowPosition::Line(number) => write!(f, ":{number}"),
            RowPosition::Row(number) => write!(f, ", row {number}"),
        }
    }
}

/// What can be wrong with a data file. Each message names the file and, where there is one, the line or row and the field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DataError {
    /// The file as a whole cannot be used.
    #[error("{file}: {found}; {fix}")]
    File {
        /// The file.
        file: String,
        /// What was found.
        found: String,
        /// What to do.
        fix: String,
    },
    /// What stands at one place is no row.
    #[error("{file}{place}: {found}; {fix}")]
    Line {
        /// The file.
        file: String,
        /// Where in it.
        place: RowPosition,
        /// What was found.
        found: String,
        /// What to do.
        fix: String,
    },
    /// One field of a row cannot be used.
    #[error("{file}{place}: field `{field}`: {found}; {fix}")]
    Field {
        /// The file.
        file: String,
        /// Where in it the row begins.
        place: RowPosition,
        /// The column; boxed, since the errors of all rooms hold this one and should stay small.
        field: Box<str>,
        /// What was found.
        found: String,
        /// What to do.
        fix: String,
    },
}

/// What is said of CSV by a build that cannot read it.
#[cfg(all(not(feature = "csv"), not(target_arch = "wasm32")))]
fn without_csv(file: &str) -> DataError {
    DataError::File {
        file: file.into(),
        found: "a CSV file, which this jurist was built without".into(),
        fix: "turn its cargo feature `csv` on, or save the rows as JSON Lines".into(),
    }
}

/// What is said of Parquet by a build that cannot read it.
#[cfg(all(not(feature = "parquet"), not(target_arch = "wasm32")))]
fn without_parquet(file: &str) -> DataError {
    DataError::File {
        file: file.into(),
        found: "a Parquet file, which this jurist was built without".into(),
        fix: "build it with `cargo install --path . --features parquet`, or save the rows as JSON Lines".into(),
    }
}

/// The room's result.
pub type Result<T> = std::result::Result<T, DataError>;

/// What is said of a file whose bytes do not come.
fn unreadable(file: &str, error: &std::io::Error) -> DataError {
    use std::io::ErrorKind;
    let fix = match error.kind() {
        ErrorKind::Unsupported => "unpack it first (zstd -d)",
        ErrorKind::FileTooLarge => "if it is meant to be so large, raise the limit with --max-decompressed, such as 64GiB",
        _ => "copy or download the file again",
    };
    DataError::File { file: file.into(), found: error.to_string(), fix: fix.into() }
}

/// Names as a message lists them: the first 20.
fn listing(mut names: impl Iterator<Item = String>) -> String {
    const MOST: usize = 20;
    let shown: Vec<String> = names.by_ref().take(MOST).collect();
    match (shown.len(), names.count()) {
        (0, _) => "no column at all".into(),
        (_, 0) => shown.join(", "),
        (_, more) => format!("{} and {more} more", shown.join(", ")),
    }
}

/// At most `chars` characters of `text`, with dots where it was cut: for messages.
fn shorten(text: &str, chars: usize) -> String {
    match text.char_indices().nth(chars) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_string(),
    }
}

#[cfg(test)]
mod tests;
