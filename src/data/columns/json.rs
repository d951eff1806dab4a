//! JSON, in lines or in one array: each row is looked through once, and only the fields asked for are built.

use std::borrow::Cow;
use std::io::BufRead;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

use super::{Cell, Cells, DataError, File, Result, RowPosition, Take, shorten};
use crate::data::json::{each_row, without_nan};

/// Rows of a text: one array if that is how it begins, else one object a line. The bare words NaN and Infinity, which Python
/// writes, are nothing, as null is.
///
/// # Errors
/// A row that is no object; an array that breaks off, or that something follows; a column that no row has.
pub(super) fn rows(file: &File, mut text: Box<dyn BufRead>, names: &[&str], take: &mut Take) -> Result<()> {
    let mut rows = Rows { file, names, seen: vec![false; names.len()], known: Vec::new() };
    each_row(file.name, &mut text, &mut |line, row| {
        let cells = rows.cells(row).map_err(|error| syntax(file, line, row, &error))?;
        rows.give(line, cells, take)?;
        Ok(true)
    })?;
    match names.iter().zip(&rows.seen).find(|(_, seen)| !**seen) {
        Some((name, _)) if !rows.known.is_empty() => Err(file.no_column(name, &rows.known)),
        Some(_) => Err(file.fault("no rows in it".into(), "give one JSON object a line, a JSON array, or CSV")),
        None => Ok(()),
    }
}

/// The reading of one text.
struct Rows<'a> {
    file: &'a File<'a>,
    names: &'a [&'a str],
    /// Which of `names` a row has had.
    seen: Vec<bool>,
    /// The fields of the first row.
    known: Vec<String>,
}

impl Rows<'_> {
    /// The cells of one object.
    fn cells(&mut self, row: &[u8]) -> serde_json::Result<Vec<Cell<'static>>> {
        let known = self.known.len();
        self.sound_cells(row).or_else(|error| match without_nan(row) {
            Some(row) => {
                self.known.truncate(known);
                self.sound_cells(&row).map_err(|_| error)
            }
            None => Err(error),
        })
    }

    fn sound_cells(&mut self, row: &[u8]) -> serde_json::Result<Vec<Cell<'static>>> {
        let mut cells = vec![Cell::Missing; self.names.len()];
        let mut reader = serde_json::Deserializer::from_slice(row);
        let keys = if self.known.is_empty() { Some(&mut self.known) } else { None };
        Wanted { names: self.names, cells: &mut cells, keys }.deserialize(&mut reader)?;
        reader.end()?;
        Ok(cells)
    }

    fn give(&mut self, line: usize, cells: Vec<Cell>, take: &mut Take) -> Result<()> {
        cells.iter().zip(&mut self.seen).for_each(|(cell, seen)| *seen |= *cell != Cell::Missing);
        take(&Cells { file: self.file.name, place: RowPosition::Line(line), names: self.names, cells: &cells })
    }
}

/// What is wrong with a row that begins in `line`.
fn syntax(file: &File, line: usize, row: &[u8], error: &serde_json::Error) -> DataError {
    let within = error.line().saturating_sub(1);
    let shown = row.split(|byte| *byte == b'\n').nth(within).unwrap_or_default();
    let what = error.to_string();
    let what = what.split(" at line ").next().unwrap_or_default();
    let shown = String::from_utf8_lossy(shown.trim_ascii());
    let found = format!("not a JSON object ({what} at column {}): {}", error.column(), shorten(&shown, 60));
    file.line(line + within, found, "each line, or each element of an array, must be a JSON object; CSV needs the ending .csv")
}

/// Picks the wanted fields of an object, and skips the others without building them.
struct Wanted<'a, 'c> {
    names: &'a [&'a str],
    cells: &'a mut [Cell<'c>],
    /// Where the object's keys are noted, for a message.
    keys: Option<&'a mut Vec<String>>,
}

impl<'de> DeserializeSeed<'de> for Wanted<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> std::result::Result<(), D::Error> {
        reader.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Wanted<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<M: MapAccess<'de>>(mut self, mut map: M) -> std::result::Result<(), M::Error> {
        let mut twice = vec![false; self.names.len()];
        while let Some(key) = map.next_key::<Cow<str>>()? {
            let inside = |name: &str| name.strip_prefix(&*key).is_some_and(|rest| rest.starts_with('.'));
            if self.names.iter().any(|name| *name == key || inside(name)) {
                let value: Value = map.next_value()?;
                for ((name, cell), twice) in self.names.iter().zip(self.cells.iter_mut()).zip(&mut twice) {
                    if *name == key {
                        if std::mem::replace(twice, true) {
                            return Err(serde::de::Error::custom(format!("the key `{key}` comes twice")));
                        }
                        *cell = Cell::Json(value.clone());
                    } else if let (true, Cell::Missing) = (inside(name), &*cell) {
                        let found = name[key.len() + 1..].split('.').try_fold(&value, |v, part| v.get(part));
                        *cell = found.map_or(Cell::Missing, |v| Cell::Json(v.clone()));
                    }
                }
            } else {
                map.next_value::<IgnoredAny>()?;
            }
            if let Some(keys) = &mut self.keys {
                keys.push(key.into_owned());
            }
        }
        Ok(())
    }
}
