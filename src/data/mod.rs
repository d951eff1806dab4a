//! Reads data files: JSON Lines, a JSON array, CSV (each plain, `.gz` or `.zst`), Parquet, or a folder of those. In a browser:
//! JSON as text.
//!
//! One row of a file turns into these types, in this order:
//!
//! | type | what it holds | made by |
//! |---|---|---|
//! | [`Row`] | every column in its order, so that `jurist score` can write it back unchanged | [`Reader`] |
//! | [`Record`] | what a judge reads in the row: a prompt in one of the known layouts, a chain of thought, a score | [`Row::record`] |
//! | [`Example`] | both | [`Reader`] |
//! | `judge::Sequence` | the tokens of prompt, chain, phrase and score | `JudgePrompt::sequence` |
//! | `train::data::pack::TrainExample` | the tokens of the prompt, its label, and the tokens up to the score | `Preparation::prepare` |
//! | `model::batch::PackedInputs` | the tokens of several examples, as one batch of the GPU | `PackedExamples`, `BatchLayout` |
//!
//! Scoring turns an [`Example`] into a `judge::ScoredRow`. Its `ScoreRecord` is the object that `jurist score` adds to the row.
//!
//! A row of another layout is not an error here, since a custom prompt template may read any column.
//!
//! This module is a leaf: it does not depend on tokenizers or scales. The judge checks whether a score lies on its scale.

mod column_names;
#[cfg(not(target_arch = "wasm32"))]
mod columns;
#[cfg(all(feature = "csv", not(target_arch = "wasm32")))]
mod csv;
#[cfg(not(target_arch = "wasm32"))]
mod delimiter;
#[cfg(not(target_arch = "wasm32"))]
mod files;
mod json;
mod pairs;
#[cfg(all(feature = "parquet", not(target_arch = "wasm32")))]
mod parquet;
mod read;
mod record;
mod scores;
mod split;
mod survey;
#[cfg(not(target_arch = "wasm32"))]
mod unpack;
mod written;

pub use column_names::Layout;
#[cfg(not(target_arch = "wasm32"))]
pub use columns::{RowCells, WantedColumns, read_columns, read_columns_within};
pub use pairs::{PAIR_COLUMNS, Pairing, pairing};
pub use read::{Dataset, Example, Reader, split_rows};
pub use record::{Chains, ColumnOptions, Grading, Labels, Message, Prompt, Record, Row, contradicts};
pub use scores::{LabelWords, WordScores, word_value};
pub use split::{SplitPart, cluster_keys, split_clusters};
pub use survey::{Bin, Percentiles, Repeated, Survey, histogram, judged_text, most_complete, percentiles, repeated, shared_with};
#[cfg(not(target_arch = "wasm32"))]
pub use unpack::{byte_size, name_of};
pub use written::columns_of;

/// Where a row begins in its file. Messages append it to the file's name as `:3` or `, row 3`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowPosition {
    /// The line, counted from 1.
    Line(usize),
    /// The row, counted from 1, where a file has no lines (Parquet).
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

/// Errors of data files. Each message names the file and, where known, the line or row and the field.
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
    /// The text at one position is not a row.
    #[error("{file}{position}: {found}; {fix}")]
    Line {
        /// The file.
        file: String,
        /// Its position in the file.
        position: RowPosition,
        /// What was found.
        found: String,
        /// What to do.
        fix: String,
    },
    /// One field of a row cannot be used.
    #[error("{file}{position}: field `{field}`: {found}; {fix}")]
    Field {
        /// The file.
        file: String,
        /// Where the row begins in the file.
        position: RowPosition,
        /// The column. Boxed, since the errors of all modules contain this one and should stay small.
        field: Box<str>,
        /// What was found.
        found: String,
        /// What to do.
        fix: String,
    },
}

/// The error for CSV in a build without the cargo feature `csv`.
#[cfg(all(not(feature = "csv"), not(target_arch = "wasm32")))]
fn csv_unsupported(file: &str) -> DataError {
    DataError::File {
        file: file.into(),
        found: "a CSV file, which this jurist was built without".into(),
        fix: "turn its cargo feature `csv` on, or save the rows as JSON Lines".into(),
    }
}

/// The error for Parquet in a build without the cargo feature `parquet`.
#[cfg(all(not(feature = "parquet"), not(target_arch = "wasm32")))]
fn parquet_unsupported(file: &str) -> DataError {
    DataError::File {
        file: file.into(),
        found: "a Parquet file, which this jurist was built without".into(),
        fix: "build it with `cargo install --path . --features parquet`, or save the rows as JSON Lines".into(),
    }
}

/// The module's result.
pub type Result<T> = std::result::Result<T, DataError>;

/// The error for a file that cannot be read.
fn unreadable(file: &str, error: &std::io::Error) -> DataError {
    use std::io::ErrorKind;
    let fix = match error.kind() {
        ErrorKind::Unsupported => "unpack it first (zstd -d)",
        ErrorKind::FileTooLarge => "if it is meant to be so large, raise the limit with --max-decompressed, such as 64GiB",
        _ => "copy or download the file again",
    };
    DataError::File { file: file.into(), found: error.to_string(), fix: fix.into() }
}

/// The first 20 names, for messages.
fn list_names(mut names: impl Iterator<Item = String>) -> String {
    const MAX_NAMES: usize = 20;
    let shown: Vec<String> = names.by_ref().take(MAX_NAMES).collect();
    match (shown.len(), names.count()) {
        (0, _) => "no column at all".into(),
        (_, 0) => shown.join(", "),
        (_, more) => format!("{} and {more} more", shown.join(", ")),
    }
}

/// At most `chars` characters of `text`, followed by dots where it was cut. For messages.
fn shorten(text: &str, chars: usize) -> String {
    match text.char_indices().nth(chars) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_string(),
    }
}

#[cfg(test)]
mod tests;
