//! Reads columns of JSON, in lines or in one array. Each row is parsed once, and only the requested fields are built.

use std::borrow::Cow;
use std::io::BufRead;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

use super::{CellValue, CellsSink, DataError, FileName, Result, RowCells, RowPosition, WantedColumns, shorten};
use crate::data::json::{each_row, replace_nan};

/// Passes the rows of a text to `sink`: the elements of an array if the text begins with one, else one object per line. The bare
/// words NaN and Infinity, which Python writes, count as null.
///
/// # Errors
/// A row that is not an object; an array that is incomplete or followed by something; a column that no row has.
pub(super) fn rows(file: &FileName, mut text: Box<dyn BufRead>, names: WantedColumns, sink: &mut CellsSink) -> Result<()> {
    let WantedColumns { names, required } = names;
    let mut reader = JsonRows { file, names, seen: vec![false; names.len()], known: Vec::new() };
    each_row(file.name, &mut text, &mut |line, row| {
        let cells = reader.cells(row).map_err(|error| syntax(file, line, row, &error))?;
        reader.pass_on(line, cells, sink)?;
        Ok(true)
    })?;
    match names[..required].iter().zip(&reader.seen).find(|(_, seen)| !**seen) {
        Some((name, _)) if !reader.known.is_empty() => Err(file.no_column(name, &reader.known)),
        Some(_) => Err(file.fault("no rows in it".into(), "give one JSON object per line, a JSON array, or CSV")),
        None => Ok(()),
    }
}

/// State of reading one text.
struct JsonRows<'a> {
    file: &'a FileName<'a>,
    names: &'a [&'a str],
    /// Which of `names` have occurred in any row.
    seen: Vec<bool>,
    /// The fields of the first row.
    known: Vec<String>,
}

impl JsonRows<'_> {
    /// The cells of one object.
    fn cells(&mut self, row: &[u8]) -> serde_json::Result<Vec<CellValue<'static>>> {
        let known = self.known.len();
        self.strict_cells(row).or_else(|error| match replace_nan(row) {
            Some(row) => {
                self.known.truncate(known);
                self.strict_cells(&row).map_err(|_| error)
            }
            None => Err(error),
        })
    }

    fn strict_cells(&mut self, row: &[u8]) -> serde_json::Result<Vec<CellValue<'static>>> {
        let mut cells = vec![CellValue::Missing; self.names.len()];
        let mut reader = serde_json::Deserializer::from_slice(row);
        let keys = if self.known.is_empty() { Some(&mut self.known) } else { None };
        FieldSelector { names: self.names, cells: &mut cells, keys }.deserialize(&mut reader)?;
        reader.end()?;
        Ok(cells)
    }

    fn pass_on(&mut self, line: usize, cells: Vec<CellValue>, sink: &mut CellsSink) -> Result<()> {
        cells.iter().zip(&mut self.seen).for_each(|(cell, seen)| *seen |= *cell != CellValue::Missing);
        sink(&RowCells { file: self.file.name, position: RowPosition::Line(line), names: self.names, cells: &cells })
    }
}

/// The error for a row that begins in `line` and is not valid JSON.
fn syntax(file: &FileName, line: usize, row: &[u8], error: &serde_json::Error) -> DataError {
    let within = error.line().saturating_sub(1);
    let shown = row.split(|byte| *byte == b'\n').nth(within).unwrap_or_default();
    let what = error.to_string();
    let what = what.split(" at line ").next().unwrap_or_default();
    let shown = String::from_utf8_lossy(shown.trim_ascii());
    let found = format!("not a JSON object ({what} at column {}): {}", error.column(), shorten(&shown, 60));
    file.line(line + within, found, "each line, or each element of an array, must be a JSON object; CSV needs the ending .csv")
}

/// Builds the requested fields of an object and skips the others.
struct FieldSelector<'a, 'c> {
    names: &'a [&'a str],
    cells: &'a mut [CellValue<'c>],
    /// Collects the object's keys for a message, if set.
    keys: Option<&'a mut Vec<String>>,
}

impl<'de> DeserializeSeed<'de> for FieldSelector<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> std::result::Result<(), D::Error> {
        reader.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for FieldSelector<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<M: MapAccess<'de>>(mut self, mut map: M) -> std::result::Result<(), M::Error> {
        let mut seen = vec![false; self.names.len()];
        while let Some(key) = map.next_key::<Cow<str>>()? {
            let inside = |name: &str| name.strip_prefix(&*key).is_some_and(|rest| rest.starts_with('.'));
            if self.names.iter().any(|name| *name == key || inside(name)) {
                let value: Value = map.next_value()?;
                for ((name, cell), seen) in self.names.iter().zip(self.cells.iter_mut()).zip(&mut seen) {
                    if *name == key {
                        if std::mem::replace(seen, true) {
                            return Err(serde::de::Error::custom(format!("the key `{key}` comes twice")));
                        }
                        *cell = CellValue::Json(value.clone());
                    } else if let (true, CellValue::Missing) = (inside(name), &*cell) {
                        let found = name[key.len() + 1..].split('.').try_fold(&value, |v, part| v.get(part));
                        *cell = found.map_or(CellValue::Missing, |v| CellValue::Json(v.clone()));
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
