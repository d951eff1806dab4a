//! Rows of a data file.

use std::path::Path;

use super::{Case, Error};
use crate::data::{self, ColumnOptions, Reader};

/// The rows of a data file: JSON Lines, a JSON array, CSV, Parquet (cargo feature `parquet`), plain or packed, or a folder of
/// those. The columns of many tools are recognised.
///
/// ```
/// # fn main() -> Result<(), jurist::Error> {
/// let dataset = jurist::Dataset::read("docs/example.jsonl")?;
/// assert_eq!(dataset.cases().count(), dataset.len());
/// # Ok(())
/// # }
/// ```
pub struct Dataset {
    inner: data::Dataset,
}

impl std::fmt::Debug for Dataset {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.debug_struct("Dataset").field("file", &self.inner.file).field("rows", &self.len()).finish_non_exhaustive()
    }
}

impl Dataset {
    /// Reads a file or folder. Human scores are read where there are some.
    ///
    /// # Errors
    /// No such file, one that is damaged, or a row that cannot be read; the message names the line.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, Error> {
        let reader = Reader { columns: ColumnOptions::for_scoring(), ..Reader::default() };
        Ok(Dataset { inner: reader.read_path(path.as_ref())? })
    }

    /// How many rows there are.
    #[allow(clippy::len_without_is_empty)] // there is at least one
    pub fn len(&self) -> usize {
        self.inner.examples.len()
    }

    /// The rows, as cases for [`Judge::score_all`](crate::Judge::score_all).
    pub fn cases(&self) -> impl Iterator<Item = Case> {
        self.inner.examples.iter().map(Case::from)
    }

    /// The human score of each row; the mean, where several people gave one.
    pub fn scores(&self) -> impl Iterator<Item = Option<f64>> {
        self.inner.examples.iter().map(|example| example.record.score)
    }
}
