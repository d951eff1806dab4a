//! Rows that are there twice, and would count twice: in figures, in the map of a calibration, in people's mean.

use std::collections::HashMap;

use super::{CliError, TerminalProgress};
use crate::data::{DataError, Example, RowCells};
use crate::progress::Progress;
use crate::words::count;

/// The column of rows' names, where none is named.
pub const ID: &str = "id";

/// Fails where two rows have one `id` and the same texts; `text` has those of a row. An `id` alone is not enough: it may be that
/// of a prompt, with an answer in each row. Nor are texts: two people may give the same short answer.
///
/// # Errors
/// The second of two such rows, with the place of the first; what `text` cannot read.
pub fn refuse_repeated_rows(rows: &[Example], text: impl Fn(usize) -> Result<String, DataError>) -> Result<(), CliError> {
    let mut seen: HashMap<(String, String), usize> = HashMap::new();
    for (at, example) in rows.iter().enumerate() {
        let Some(id) = example.row.fields.get(ID).filter(|id| !id.is_null()) else { continue };
        if let Some(first) = seen.insert((id.to_string(), text(at)?), at) {
            return Err(example.row.fault(ID, twice(&id.to_string(), &rows[first].row.location()), FIX).into());
        }
    }
    Ok(())
}

const FIX: &str = "leave one of the two out, for both would count";

fn twice(id: &str, first: &str) -> String {
    format!("the row {id} is there twice, first in {first}")
}

/// The names of rows that are read column by column, from one file or several.
#[derive(Default)]
pub struct RowNames {
    /// By name and kind, the place of the first row.
    seen: HashMap<(String, String), String>,
    /// How many rows have the name of an earlier one, and what the first of them is.
    repeated: usize,
    first: Option<String>,
}

impl RowNames {
    /// Takes the row's name from a column. `kind` tells more rows apart, such as the system of two.
    ///
    /// # Errors
    /// A row with the name of an earlier one, where `refuses`.
    pub fn take(&mut self, cells: &RowCells, column: usize, kind: &str, refuses: bool) -> Result<(), DataError> {
        let Some(name) = cells.text(column) else {
            return match refuses {
                true => Err(cells.fault(column, "no name".into(), "name every row")),
                false => Ok(()),
            };
        };
        let place = cells.location();
        let Some(first) = self.seen.insert((name.to_string(), kind.into()), place.clone()) else { return Ok(()) };
        if refuses {
            return Err(cells.fault(column, twice(&name, &first), FIX));
        }
        self.repeated += 1;
        self.first.get_or_insert_with(|| format!("{name} in {place}, and in {first}"));
        Ok(())
    }

    /// Says how rows with the name of an earlier one count.
    pub fn warn(&self, progress: &mut TerminalProgress) {
        if let Some(first) = &self.first {
            let rows = count(self.repeated, "row");
            progress.warn(&format!(
                "{rows} with the `{ID}` of an earlier row ({first}): each counts. If rows of one `{ID}` are alike, give --cluster {ID}; \
                 if none should be there twice, --id {ID} refuses them"
            ));
        }
    }
}
