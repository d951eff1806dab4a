//! JSON, in lines or in one array: each row is looked through once, and only the fields asked for are built.

use std::borrow::Cow;
use std::io::BufRead;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

use super::{Cell, Cells, DataError, File, Place, Result, Take, shorten};

/// Rows of a text: one array if that is how it begins, else one object a line.
///
/// # Errors
/// A row that is no object; an array that breaks off, or that something follows; a column that no row has.
pub(super) fn rows(file: &File, mut text: Box<dyn BufRead>, names: &[&str], take: &mut Take) -> Result<()> {
    let mut rows = Rows { file, names, seen: vec![false; names.len()], known: Vec::new() };
    let mut line = 1;
    match skip_blanks(&mut text, &mut line).map_err(|e| file.unreadable(&e))? {
        Some(b'[') => rows.array(text, line, take)?,
        _ => rows.lines(text, line, take)?,
    }
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
    fn lines(&mut self, mut text: Box<dyn BufRead>, first: usize, take: &mut Take) -> Result<()> {
        let mut line = Vec::new();
        for number in first.. {
            line.clear();
            if text.read_until(b'\n', &mut line).map_err(|e| self.file.unreadable(&e))? == 0 {
                break;
            }
            let row = line.trim_ascii();
            if !row.is_empty() {
                let fix = "write one JSON object a line, or CSV with the ending .csv";
                let file = self.file;
                let cells = self.cells(row).map_err(|e| syntax(file, number, row, &e, fix))?;
                self.give(number, cells, take)?;
            }
        }
        Ok(())
    }

    /// Cuts the array into its elements, so that one is in memory at a time and each knows the line where it begins.
    fn array(&mut self, mut text: Box<dyn BufRead>, mut line: usize, take: &mut Take) -> Result<()> {
        let file = self.file;
        let unreadable = |e: std::io::Error| file.unreadable(&e);
        let open = |line| file.line(line, "the array is not closed".into(), "the file may be cut off; write it again");
        text.consume(1);
        let mut element = Vec::new();
        let mut first = true;
        loop {
            match skip_blanks(&mut text, &mut line).map_err(unreadable)? {
                Some(b']') => break,
                Some(b',') if !first => {
                    text.consume(1);
                    skip_blanks(&mut text, &mut line).map_err(unreadable)?;
                }
                Some(_) if first => {}
                Some(_) => return Err(file.line(line, "no comma between two rows".into(), "check the JSON array there")),
                None => return Err(open(line)),
            }
            first = false;
            element.clear();
            let whole = take_element(&mut text, &mut element).map_err(unreadable)?;
            let cells = match self.cells(&element) {
                Err(error) if !whole && error.is_eof() => return Err(open(line)),
                Err(error) => {
                    let within = error.line().saturating_sub(1);
                    let shown = element.split(|byte| *byte == b'\n').nth(within).unwrap_or_default();
                    let fix = "each element of the array must be a JSON object";
                    return Err(syntax(file, line + within, shown, &error, fix));
                }
                Ok(cells) => cells,
            };
            self.give(line, cells, take)?;
            line += count_lines(&element);
        }
        text.consume(1);
        match skip_blanks(&mut text, &mut line).map_err(unreadable)? {
            Some(_) => {
                let fix = "keep one array a file, or one object a line";
                Err(file.line(line, "something follows the JSON array".into(), fix))
            }
            None => Ok(()),
        }
    }

    /// The cells of one object.
    fn cells(&mut self, row: &[u8]) -> serde_json::Result<Vec<Cell<'static>>> {
        let mut cells = vec![Cell::Missing; self.names.len()];
        let mut reader = serde_json::Deserializer::from_slice(row);
        let keys = if self.known.is_empty() { Some(&mut self.known) } else { None };
        Wanted { names: self.names, cells: &mut cells, keys }.deserialize(&mut reader)?;
        reader.end()?;
        Ok(cells)
    }

    fn give(&mut self, line: usize, cells: Vec<Cell>, take: &mut Take) -> Result<()> {
        cells.iter().zip(&mut self.seen).for_each(|(cell, seen)| *seen |= *cell != Cell::Missing);
        take(&Cells { file: self.file.name, place: Place::Line(line), names: self.names, cells: &cells })
    }
}

/// What is wrong with a row; `line` is where the error stands, and `shown` the text there.
fn syntax(file: &File, line: usize, shown: &[u8], error: &serde_json::Error, fix: &str) -> DataError {
    let what = error.to_string();
    let what = what.split(" at line ").next().unwrap_or_default();
    let shown = String::from_utf8_lossy(shown.trim_ascii());
    let found = format!("not a JSON object ({what} at column {}): {}", error.column(), shorten(&shown, 60));
    file.line(line, found, fix)
}

/// The next byte that is no blank, not consumed; `line` counts the breaks on the way. `None` at the end.
fn skip_blanks(text: &mut dyn BufRead, line: &mut usize) -> std::io::Result<Option<u8>> {
    loop {
        let ahead = text.fill_buf()?;
        let blanks = ahead.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        *line += count_lines(&ahead[..blanks]);
        let (next, end) = (ahead.get(blanks).copied(), ahead.is_empty());
        text.consume(blanks);
        if next.is_some() || end {
            return Ok(next);
        }
    }
}

/// Moves one element of an array from `text` to `into`: up to the bracket that closes it, or, if it is none that has one, up
/// to what stands behind it. Whether it is sound JSON is not looked at. False where the text ends inside of it.
fn take_element(text: &mut dyn BufRead, into: &mut Vec<u8>) -> std::io::Result<bool> {
    let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
    loop {
        let ahead = text.fill_buf()?;
        if ahead.is_empty() {
            return Ok(false);
        }
        let mut end = None;
        for (at, byte) in ahead.iter().enumerate() {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = quoted,
                b'"' => quoted = !quoted,
                _ if quoted => {}
                b'{' | b'[' => depth += 1,
                b'}' | b']' if depth == 1 => {
                    end = Some(at + 1);
                    break;
                }
                b'}' | b']' if depth > 1 => depth -= 1,
                b',' | b'}' | b']' if depth == 0 && at + into.len() > 0 => {
                    end = Some(at);
                    break;
                }
                _ => {}
            }
        }
        let taken = end.unwrap_or(ahead.len());
        into.extend_from_slice(&ahead[..taken]);
        text.consume(taken);
        if end.is_some() {
            return Ok(true);
        }
    }
}

fn count_lines(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| **byte == b'\n').count()
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
        while let Some(key) = map.next_key::<Cow<str>>()? {
            let inside = |name: &str| name.strip_prefix(&*key).is_some_and(|rest| rest.starts_with('.'));
            if self.names.iter().any(|name| *name == key || inside(name)) {
                let value: Value = map.next_value()?;
                for (name, cell) in self.names.iter().zip(self.cells.iter_mut()) {
                    if *name == key {
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
