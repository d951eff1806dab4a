//! Optional columns of rows: the one that is named, or one of the usual names.

use super::CliError;
use crate::data::Dataset;
use crate::progress::Progress;

/// Columns that group rows, where none is named.
pub const CLUSTERS: [&str; 3] = ["prompt_id", "rubric_id", "cluster"];

/// A column's name and its texts, where every row has it: the one named, or the first of the usual ones that is there.
///
/// # Errors
/// A row without the column that is named.
pub fn column(
    rows: &Dataset,
    named: Option<&str>,
    usual: &[&str],
    progress: &mut dyn Progress,
) -> Result<Option<(String, Vec<String>)>, CliError> {
    match named {
        Some(name) => match rows.texts(name) {
            Ok(texts) => Ok(Some((name.into(), texts))),
            Err(place) => Err(CliError::Failed(format!("{place}: the row has no column `{name}`; every row needs it"))),
        },
        None => {
            for name in usual {
                match rows.texts(name) {
                    Ok(texts) => return Ok(Some((name.to_string(), texts))),
                    Err(place)
                        if rows.examples.iter().any(|row| row.row.fields.get(*name).is_some_and(|text| !text.is_null())) =>
                    {
                        progress.warn(&format!(
                            "{place}: the row has no `{name}`, so that column is not used, though other rows have it"
                        ));
                    }
                    Err(_) => {}
                }
            }
            Ok(None)
        }
    }
}
