//! A file as named columns, row by row: for figures over a million rows that nobody wants to hold as objects.
//!
//! [`crate::data::Reader`] gives whole rows for a judge to read; here only the columns asked for are looked at, one row is
//! in memory at a time, and the caller keeps what it needs of it. CSV and TSV have a header; everything else is JSON Lines.
//! Both may be gzip, known by its first bytes.

use std::borrow::Cow;
use std::cell::Cell as Shared;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

use super::{DataError, Result, shorten};

/// One row's values of the columns asked for, in that order.
pub struct Cells<'a> {
    file: &'a str,
    line: usize,
    names: &'a [&'a str],
    cells: &'a [Cell<'a>],
}

/// A value as its file has it.
#[derive(Clone, Debug, PartialEq)]
enum Cell<'a> {
    Missing,
    Text(&'a str),
    Json(Value),
}

/// How a missing score is written in files of others.
const MISSING: [&str; 6] = ["", "nan", "null", "none", "na", "n/a"];

impl Cells<'_> {
    /// File and line.
    pub fn place(&self) -> String {
        format!("{}:{}", self.file, self.line)
    }

    /// A number; `None` where the cell is empty, null or NaN. Of a list of numbers (several annotators) the mean.
    ///
    /// # Errors
    /// A cell that is something else, with its file, line and column.
    pub fn number(&self, column: usize) -> Result<Option<f64>> {
        match &self.cells[column] {
            Cell::Missing | Cell::Json(Value::Null) => Ok(None),
            Cell::Text(text) => self.parsed(column, text),
            Cell::Json(Value::String(text)) => self.parsed(column, text),
            Cell::Json(Value::Array(list)) if list.iter().all(Value::is_number) => {
                let numbers: Vec<f64> = list.iter().filter_map(Value::as_f64).collect();
                Ok((!numbers.is_empty()).then(|| numbers.iter().sum::<f64>() / numbers.len() as f64))
            }
            Cell::Json(value) => match value.as_f64() {
                Some(number) => Ok(Some(number)),
                None => Err(self.no_number(column, &value.to_string())),
            },
        }
    }

    fn parsed(&self, column: usize, text: &str) -> Result<Option<f64>> {
        let trimmed = text.trim();
        match trimmed.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(Some(number)),
            Ok(number) if number.is_nan() => Ok(None),
            _ if MISSING.contains(&trimmed.to_lowercase().as_str()) => Ok(None),
            _ => Err(self.no_number(column, trimmed)),
        }
    }

    fn no_number(&self, column: usize, found: &str) -> DataError {
        self.fault(column, format!("expected a number, found {}", shorten(found, 60)), "leave it empty where there is no score")
    }

    /// What is wrong with a cell of this row.
    pub fn fault(&self, column: usize, found: String, fix: &str) -> DataError {
        let (file, field) = (self.file.to_string(), self.names[column].to_string());
        DataError::Field { file, line: self.line, field, found, fix: fix.into() }
    }

    /// The text of a cell, numbers as they are written; `None` where there is nothing.
    pub fn text(&self, column: usize) -> Option<Cow<'_, str>> {
        match &self.cells[column] {
            Cell::Missing | Cell::Json(Value::Null) => None,
            Cell::Text(text) => (!text.is_empty()).then_some(Cow::Borrowed(*text)),
            Cell::Json(Value::String(text)) => Some(Cow::Borrowed(text)),
            Cell::Json(value) => Some(Cow::Owned(value.to_string())),
        }
    }

    /// The JSON of a cell; in CSV it stands as text. `None` where there is nothing.
    ///
    /// # Errors
    /// A text that is no JSON.
    pub fn json(&self, column: usize) -> Result<Option<Value>> {
        match &self.cells[column] {
            Cell::Missing | Cell::Json(Value::Null) => Ok(None),
            Cell::Text(text) if text.trim().is_empty() => Ok(None),
            Cell::Json(value) if !value.is_string() => Ok(Some(value.clone())),
            _ => {
                let text = self.text(column).unwrap_or_default();
                let wrong = |_| self.fault(column, format!("expected JSON, found {}", shorten(&text, 60)), "write [..] or {..}");
                serde_json::from_str(&text).map(Some).map_err(wrong)
            }
        }
    }
}

/// Reads the columns called `names` and hands each row to `take`, in the file's order. In JSON Lines `a.b` names the field
/// `b` of the object `a`, unless there is a field called so; a field that a row lacks is empty there.
///
/// # Errors
/// No such file, a damaged archive, another kind of file; a column that is nowhere; a row that is none; and the first error
/// of `take`.
pub fn read_columns(path: &Path, names: &[&str], take: &mut dyn FnMut(&Cells) -> Result<()>) -> Result<()> {
    let name = path.display().to_string();
    let file = File { name: &name };
    let opened = std::fs::File::open(path)
        .and_then(|f| if f.metadata()?.is_dir() { Err(std::io::ErrorKind::IsADirectory.into()) } else { Ok(f) });
    let mut plain = BufReader::with_capacity(1 << 16, opened.map_err(|e| file.fault(e.to_string(), "check the path"))?);
    let start = plain.fill_buf().map_err(|e| file.fault(e.to_string(), "check the path"))?;
    let mut text: Box<dyn BufRead> = match start.starts_with(&[0x1f, 0x8b]) {
        true => Box::new(BufReader::with_capacity(1 << 16, flate2::bufread::MultiGzDecoder::new(plain))),
        false => Box::new(plain),
    };
    let start = text.fill_buf().map_err(|e| file.unreadable(&e))?;
    if start.starts_with(b"PAR1") {
        return Err(file.fault("a Parquet file".into(), "save the columns as CSV or JSON Lines"));
    }
    let mark = if start.starts_with("\u{feff}".as_bytes()) { 3 } else { 0 };
    text.consume(mark);
    let ending = name.to_lowercase();
    let ending = ending.strip_suffix(".gz").unwrap_or(&ending);
    match ending.rsplit('.').next() {
        Some("csv") => csv_rows(&file, text, names, take),
        Some("tsv") => delimited(&file, text, b'\t', names, take),
        _ => json_rows(&file, text, names, take),
    }
}

/// The file, for messages.
struct File<'a> {
    name: &'a str,
}

impl File<'_> {
    fn fault(&self, found: String, fix: &str) -> DataError {
        DataError::File { file: self.name.into(), found, fix: fix.into() }
    }

    fn line(&self, line: usize, found: String, fix: &str) -> DataError {
        DataError::Line { file: self.name.into(), line, found, fix: fix.into() }
    }

    fn unreadable(&self, error: &std::io::Error) -> DataError {
        self.fault(format!("cannot be read to its end ({error})"), "copy or download the file again")
    }

    fn no_column(&self, name: &str, known: &[String]) -> DataError {
        self.fault(format!("no column `{name}`; it has {}", known.join(", ")), "name one of these")
    }
}

fn csv_rows(file: &File, mut text: Box<dyn BufRead>, names: &[&str], take: &mut dyn FnMut(&Cells) -> Result<()>) -> Result<()> {
    // The character that stands most often in the first line, commas first.
    let start = text.fill_buf().map_err(|e| file.unreadable(&e))?;
    let header = start.split(|b| *b == b'\n').next().unwrap_or_default();
    let count = |delimiter: &u8| header.iter().filter(|b| *b == delimiter).count();
    let delimiter = [b'\t', b';', b','].into_iter().max_by_key(count).unwrap_or(b',');
    delimited(file, text, delimiter, names, take)
}

/// What is known of the bytes on their way to the CSV parser.
#[derive(Default)]
struct Passed {
    /// A file with an odd number of quotes has one that is never closed.
    quotes: Shared<usize>,
    /// Whether the file ended, and on a line break.
    ended: Shared<bool>,
    on_break: Shared<bool>,
}

/// Counts, and turns CR LF into LF: the parser would place a row before the LF that ends the row above.
struct Counting<'a, R> {
    inner: R,
    /// A CR that may stand before a LF.
    held: bool,
    passed: &'a Passed,
}

impl<R: Read> Read for Counting<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let from = usize::from(self.held);
        if into.len() <= from {
            return Err(std::io::Error::other("the buffer is too small"));
        }
        let read = self.inner.read(&mut into[from..])?;
        if self.held {
            into[0] = b'\r';
        }
        self.held = false;
        if read == 0 {
            self.passed.ended.set(true);
            return Ok(from);
        }
        let bytes = from + read;
        self.held = into[bytes - 1] == b'\r';
        let end = bytes - usize::from(self.held);
        let mut kept = 0;
        for at in 0..end {
            if into[at] != b'\r' || into.get(at + 1) != Some(&b'\n') || at + 1 == end {
                into[kept] = into[at];
                kept += 1;
            }
        }
        self.passed.quotes.set(self.passed.quotes.get() + into[..kept].iter().filter(|b| **b == b'"').count());
        self.passed.on_break.set(kept > 0 && into[kept - 1] == b'\n');
        // Nothing but a CR, held back: nothing is known of the end yet.
        if kept == 0 { self.read(into) } else { Ok(kept) }
    }
}

fn delimited(
    file: &File,
    text: Box<dyn BufRead>,
    delimiter: u8,
    names: &[&str],
    take: &mut dyn FnMut(&Cells) -> Result<()>,
) -> Result<()> {
    let passed = Passed::default();
    let counting = Counting { inner: text, held: false, passed: &passed };
    let mut reader = csv::ReaderBuilder::new().delimiter(delimiter).from_reader(counting);
    let failed = |error: csv::Error| {
        let line = error.position().map_or(1, |place| place.line() as usize);
        match error.kind() {
            csv::ErrorKind::Io(error) => file.unreadable(error),
            csv::ErrorKind::UnequalLengths { expected_len, len, .. } => file.line(
                line,
                format!("{len} cells, where the header names {expected_len} columns"),
                "quote cells that hold a comma, a quote or a line break (\"...\")",
            ),
            csv::ErrorKind::Utf8 { err, .. } => file.line(line, format!("not UTF-8 ({err})"), "save the file as UTF-8"),
            _ => file.line(line, error.to_string(), "save it as CSV with a header"),
        }
    };
    let header = reader.headers().map_err(failed)?;
    let known: Vec<String> = header.iter().map(|name| name.trim().to_string()).collect();
    let place = |name: &&str| known.iter().position(|k| k == name).ok_or_else(|| file.no_column(name, &known));
    let places = names.iter().map(place).collect::<Result<Vec<usize>>>()?;
    let mut record = csv::StringRecord::new();
    let (mut line, mut breaks) = (1, 0);
    while reader.read_record(&mut record).map_err(failed)? {
        // From its end, since blank lines may stand before it.
        breaks = record.as_slice().matches('\n').count();
        let open_end = passed.ended.get() && !passed.on_break.get();
        line = (reader.position().line() as usize).saturating_sub(breaks + usize::from(!open_end));
        let cells: Vec<Cell> = places.iter().map(|at| record.get(*at).map_or(Cell::Missing, Cell::Text)).collect();
        take(&Cells { file: file.name, line, names, cells: &cells })?;
    }
    if breaks > 0 && passed.quotes.get() % 2 == 1 {
        let fix = "close it, and write a quote inside a cell twice (\"\")";
        // The break that ends the file stands in the cell then, and ended no row.
        let line = line + usize::from(passed.on_break.get());
        return Err(file.line(line, "the row opens a quote that is never closed".into(), fix));
    }
    Ok(())
}

fn json_rows(file: &File, mut text: Box<dyn BufRead>, names: &[&str], take: &mut dyn FnMut(&Cells) -> Result<()>) -> Result<()> {
    let mut line = Vec::new();
    let mut number = 0;
    let mut seen = vec![false; names.len()];
    let mut known: Vec<String> = Vec::new();
    loop {
        line.clear();
        number += 1;
        if text.read_until(b'\n', &mut line).map_err(|e| file.unreadable(&e))? == 0 {
            break;
        }
        let row = line.trim_ascii();
        if row.is_empty() {
            continue;
        }
        if row.starts_with(b"[") {
            let fix = "write one JSON object a line (jq -c '.[]' does it), or CSV with the ending .csv";
            return Err(file.line(number, "a JSON array".into(), fix));
        }
        let mut cells = vec![Cell::Missing; names.len()];
        let mut reader = serde_json::Deserializer::from_slice(row);
        let keys = if known.is_empty() { Some(&mut known) } else { None };
        let read = Wanted { names, cells: &mut cells, keys }.deserialize(&mut reader).and_then(|()| reader.end());
        if let Err(error) = read {
            let what = error.to_string();
            let what = what.split(" at line ").next().unwrap_or_default();
            let shown = String::from_utf8_lossy(row);
            let found = format!("not a JSON object ({what} at column {}): {}", error.column(), shorten(&shown, 60));
            return Err(file.line(number, found, "write one JSON object a line, or CSV with the ending .csv"));
        }
        cells.iter().zip(&mut seen).for_each(|(cell, seen)| *seen |= *cell != Cell::Missing);
        take(&Cells { file: file.name, line: number, names, cells: &cells })?;
    }
    match names.iter().zip(&seen).find(|(_, seen)| !**seen) {
        Some((name, _)) if !known.is_empty() => Err(file.no_column(name, &known)),
        Some(_) => Err(file.fault("no rows in it".into(), "give one JSON object a line, or CSV")),
        None => Ok(()),
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    type Rows = Vec<(String, Vec<Option<f64>>)>;

    fn read(name: &str, bytes: &[u8], names: &[&str]) -> Result<Rows> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let mut rows = Vec::new();
        read_columns(&path, names, &mut |cells| {
            let numbers = (0..names.len()).map(|k| cells.number(k)).collect::<Result<Vec<_>>>()?;
            rows.push((cells.place().rsplit(['/', '\\']).next().unwrap().to_string(), numbers));
            Ok(())
        })?;
        Ok(rows)
    }

    fn message(name: &str, text: &str, names: &[&str]) -> String {
        read(name, text.as_bytes(), names).unwrap_err().to_string()
    }

    #[test]
    fn the_same_columns_of_every_kind_of_file() {
        let expected = vec![Some(1.0), Some(2.5)];
        let missing = vec![Some(3.0), None];
        let csv = "\u{feff}id,judge,human\r\n\"a\nb\",2.5,1\r\n\"say \"\"x\"\"\",,3\r\n\r\nc,NaN,3";
        let rows = read("a.csv", csv.as_bytes(), &["human", "judge"]).unwrap();
        let place = |k: usize| rows[k].0.as_str();
        assert_eq!([place(0), place(1), place(2)], ["a.csv:2", "a.csv:4", "a.csv:6"]);
        assert_eq!((&rows[0].1, &rows[1].1, &rows[2].1), (&expected, &missing, &missing));

        let json = "{\"human\": [1, 1], \"x\": {\"deep\": [1]}, \"judge\": {\"expected\": 2.5}}\n\n{\"human\": \"3\"}\n";
        let rows = read("a.jsonl", json.as_bytes(), &["human", "judge.expected"]).unwrap();
        assert_eq!(rows, [("a.jsonl:1".to_string(), expected.clone()), ("a.jsonl:3".to_string(), missing.clone())]);

        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(b"human;judge\n1;2.5\n").unwrap();
        assert_eq!(read("a.csv.gz", &packed.finish().unwrap(), &["human", "judge"]).unwrap()[0].1, expected);
        assert_eq!(read("a.tsv", b"judge\thuman\n2.5\t1\n", &["human", "judge"]).unwrap()[0].1, expected);
    }

    #[test]
    fn bad_rows_name_file_line_and_column() {
        for (name, text, parts) in [
            ("a.csv", "h,j\n1,2\n1,good\n", &["a.csv:3: field `j`", "expected a number, found good"][..]),
            ("a.csv", "h,j\n1,inf\n", &["a.csv:2: field `j`", "found inf"]),
            ("a.csv", "h,j\n1,2,3\n", &["a.csv:2: 3 cells", "names 2 columns"]),
            ("a.csv", "h,x\n1,2\n", &["no column `j`; it has h, x"]),
            ("a.csv", "h,j,t\n1,2,a\n1,2,\"b\n1,2,c\n", &["a.csv:3", "never closed"]),
            ("a.jsonl", "{\"h\":1,\"j\":2}\n{\"h\":1,\"j\":true}\n", &["a.jsonl:2: field `j`", "found true"]),
            ("a.jsonl", "{\"h\":1,\"j\":2}\nnothing\n", &["a.jsonl:2: not a JSON object", "nothing"]),
            ("a.jsonl", "{\"h\":1}\n", &["no column `j`; it has h"]),
            ("a.json", "[{\"h\":1}]", &["a.json:1: a JSON array", "one JSON object a line"]),
            ("a.jsonl", "\n", &["no rows in it"]),
            ("a.parquet", "PAR1..", &["a Parquet file"]),
            ("a.csv.gz", "\u{1f}", &["no column `h`"]),
        ] {
            let found = message(name, text, &["h", "j"]);
            assert!(parts.iter().all(|part| found.contains(part)), "{name} {text:?}: {found}");
        }
        let gone = read_columns(Path::new("no such file.csv"), &[], &mut |_| Ok(())).unwrap_err().to_string();
        assert!(gone.contains("no such file.csv"), "{gone}");
    }
}
