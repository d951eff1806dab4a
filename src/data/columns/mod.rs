//! A file as named columns, row by row: for figures over a million rows that nobody wants to hold as objects.
//!
//! [`crate::data::Reader`] gives whole rows for a judge to read; here only the columns asked for are looked at, one row is
//! in memory at a time, and the caller keeps what it needs of it. CSV and TSV have a header, JSON stands in lines or in one
//! array, and of Parquet (a cargo feature) only these columns leave the disk. Each may be packed (gzip, zstd).

#[cfg(feature = "csv")]
mod csv;
mod json;
#[cfg(feature = "parquet")]
mod parquet;

use std::borrow::Cow;
use std::path::Path;

use serde_json::Value;

use super::scores::{Said, Words, list_in_text, listed, mean_score, no_words, said, said_by_text};
use super::unpack::{Kind, Opened, open};
use super::{DataError, Result, RowPosition, listing, shorten, unreadable};

/// One row's values of the columns asked for, in that order.
pub struct Cells<'a> {
    file: &'a str,
    place: RowPosition,
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

impl Cells<'_> {
    /// File and line, in Parquet file and row.
    pub fn place(&self) -> String {
        format!("{}{}", self.file, self.place)
    }

    /// A number; `None` where the cell is empty, null or NaN. Of a list (several annotators) the mean of those who gave one.
    ///
    /// # Errors
    /// A cell that is something else, with its file, place and column.
    pub fn number(&self, column: usize) -> Result<Option<f64>> {
        self.score(column, &no_words)
    }

    /// As [`Cells::number`], and a word of `words` is the number that it stands for.
    ///
    /// # Errors
    /// As [`Cells::number`].
    pub fn score(&self, column: usize, words: &Words) -> Result<Option<f64>> {
        let cell = &self.cells[column];
        let (list, one) = match cell {
            Cell::Missing => return Ok(None),
            Cell::Text(text) => (list_in_text(text), said_by_text(text, words)),
            Cell::Json(value) => (listed(value), said(value, words)),
        };
        let unfit = || match cell {
            Cell::Json(value) if !value.is_string() => self.no_number(column, &value.to_string()),
            _ => self.no_number(column, self.text(column).unwrap_or_default().trim()),
        };
        let Some(list) = list else {
            return match one {
                Said::Score(score) => Ok(Some(score)),
                Said::Missing => Ok(None),
                Said::Other => Err(unfit()),
            };
        };
        let mut scores = Vec::new();
        for item in &list {
            match said(item, words) {
                Said::Score(score) => scores.push(score),
                Said::Missing => {}
                Said::Other => return Err(unfit()),
            }
        }
        Ok((!scores.is_empty()).then(|| mean_score(&scores)))
    }

    fn no_number(&self, column: usize, found: &str) -> DataError {
        self.fault(column, format!("expected a number, found {}", shorten(found, 60)), "leave it empty where there is no score")
    }

    /// What is wrong with a cell of this row.
    pub fn fault(&self, column: usize, found: String, fix: &str) -> DataError {
        let (file, field) = (self.file.to_string(), self.names[column].into());
        DataError::Field { file, place: self.place, field, found, fix: fix.into() }
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

/// What is done with a row.
type Take<'t> = dyn FnMut(&Cells) -> Result<()> + 't;

/// Reads the columns called `names` and hands each row to `take`, in the file's order. In JSON and Parquet `a.b` names the
/// field `b` of the object `a`, unless there is a field called so; a field that a row lacks is empty there. What kind of file
/// it is follows as in [`crate::data::Reader::read_path`].
///
/// # Errors
/// No such file, a damaged archive, a file that breaks off, Parquet in a build without it; a column that is nowhere, with
/// those that are; a row that is none; and the first error of `take`.
pub fn read_columns(path: &Path, names: &[&str], take: &mut Take) -> Result<()> {
    read_columns_within(path, names, None, take)
}

/// As [`read_columns`], with the bytes that an archive may unpack to, as in [`crate::data::Reader::max_decompressed`].
///
/// # Errors
/// As [`read_columns`].
pub fn read_columns_within(path: &Path, names: &[&str], max_decompressed: Option<u64>, take: &mut Take) -> Result<()> {
    let mut opened = open(path, max_decompressed)?;
    let name = opened.name.clone();
    let file = File { name: &name };
    if opened.kind == Kind::Parquet {
        return parquet_rows(&file, path, opened, names, take);
    }
    let start = opened.bytes.fill_buf().map_err(|e| file.unreadable(&e))?;
    let mark = if start.starts_with("\u{feff}".as_bytes()) { 3 } else { 0 };
    opened.bytes.consume(mark);
    match opened.kind {
        Kind::Csv | Kind::Tsv => csv_rows(&file, opened, names, take),
        _ => json::rows(&file, opened.bytes, names, take),
    }
}

#[cfg(feature = "csv")]
fn csv_rows(file: &File, opened: Opened, names: &[&str], take: &mut Take) -> Result<()> {
    csv::rows(file, opened.kind, opened.bytes, names, take)
}

#[cfg(not(feature = "csv"))]
fn csv_rows(file: &File, _: Opened, _: &[&str], _: &mut Take) -> Result<()> {
    Err(super::without_csv(file.name))
}

/// The rows of a Parquet file. One that is packed, or a pipe, is held in memory; any other stays on the disk.
#[cfg(feature = "parquet")]
fn parquet_rows(file: &File, path: &Path, opened: Opened, names: &[&str], take: &mut Take) -> Result<()> {
    let from = if opened.packing.is_none() && path.is_file() {
        let disk = std::fs::File::open(path).map_err(|e| file.unreadable(&e))?;
        super::parquet::open(file.name, disk)?
    } else {
        super::parquet::open(file.name, bytes::Bytes::from(opened.all()?))?
    };
    parquet::rows(file, from, names, take)
}

#[cfg(not(feature = "parquet"))]
fn parquet_rows(file: &File, _: &Path, _: Opened, _: &[&str], _: &mut Take) -> Result<()> {
    Err(super::without_parquet(file.name))
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
        DataError::Line { file: self.name.into(), place: RowPosition::Line(line), found, fix: fix.into() }
    }

    fn unreadable(&self, error: &std::io::Error) -> DataError {
        unreadable(self.name, error)
    }

    fn no_column(&self, name: &str, known: &[String]) -> DataError {
        self.fault(
            format!("no column `{name}`; it has {}", listing(known.iter().map(|name| shorten(name, 40)))),
            "name one of these",
        )
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

        // An element begins in the line of its bracket, wherever the array breaks its lines, and whatever its texts hold.
        let array = "\u{feff}\n [{\"human\": 1, \"x\": \"]},{ \\\" [\", \"judge\":\n {\"expected\": 2.5}}\n,\n\n  {\"human\": \"3\"} ]\n\n";
        let rows = read("a.json", array.as_bytes(), &["human", "judge.expected"]).unwrap();
        assert_eq!(rows, [("a.json:2".to_string(), expected.clone()), ("a.json:6".to_string(), missing.clone())]);

        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(b"human;judge\n1;2.5\n").unwrap();
        assert_eq!(read("a.csv.gz", &packed.finish().unwrap(), &["human", "judge"]).unwrap()[0].1, expected);
        assert_eq!(read("a.tsv", b"judge\thuman\n2.5\t1\n", &["human", "judge"]).unwrap()[0].1, expected);
        // A TSV that holds commas: between its cells only where its header has no tab.
        assert_eq!(read("a.tsv", b"judge,human\n2.5,1\n", &["human", "judge"]).unwrap()[0].1, expected);
        assert_eq!(read("a.tsv", b"judge\thuman\t\"a,b,c\"\n2.5\t1\tx,y,z\n", &["human", "judge"]).unwrap()[0].1, expected);
        assert_eq!(read("a.tsv", b"text\n\"a\"\nb, c\n", &[]).unwrap().len(), 2);
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
            ("a.json", "[{\"h\":1,\"j\":2},\n{\"h\":1,\n\"j\":true}]", &["a.json:2: field `j`", "found true"]),
            ("a.json", "[{\"h\":1}]", &["no column `j`; it has h"]),
            ("a.json", "[{\"h\":1,\"j\":2},\n3, 4]", &["a.json:2: not a JSON object (invalid type: integer `3`", "each element"]),
            (
                "a.json",
                "[{\"h\":1,\"j\":2},\n{\"h\":1,\n\"j\"2}, {\"h\":2}]",
                &["a.json:3: not a JSON object (expected `:`", ": \"j\"2}"],
            ),
            ("a.json", "[{\"h\":1,\"j\":2},\n{\"h\":1, {\"h\":2}]", &["a.json:2: not a JSON object (key must be a string"]),
            ("a.json", "[{\"h\":1,\"j\":2},\n{\"h\":1,\n", &["a.json:2: the array is not closed", "cut off"]),
            ("a.json", "[{\"h\":1,\"j\":2}\n", &["a.json:2: the array is not closed"]),
            ("a.json", "[{\"h\":1,\"j\":2},\n]", &["a.json:2: not a JSON object (expected value"]),
            ("a.json", "[{\"h\":1,\"j\":2}\n{\"h\":1,\"j\":2}]", &["a.json:2: no comma between two rows"]),
            ("a.json", "[{\"h\":1,\"j\":2}]\n\n{}", &["a.json:3: something follows the JSON array"]),
            ("a.json", " []", &["no rows in it", "a JSON array"]),
            ("a.jsonl", "\n", &["no rows in it"]),
            (
                "a.parquet",
                "PAR1..",
                if cfg!(feature = "parquet") { &["damaged Parquet file"] } else { &["which this jurist was built without"] },
            ),
            ("a.parquet", "h,j\n1,2\n", &["Parquet"]),
            ("a.csv.gz", "\u{1f}", &["no column `h`"]),
        ] {
            let found = message(name, text, &["h", "j"]);
            assert!(parts.iter().all(|part| found.contains(part)), "{name} {text:?}: {found}");
        }
        let gone = read_columns(Path::new("no such file.csv"), &[], &mut |_| Ok(())).unwrap_err().to_string();
        assert!(gone.contains("no such file.csv"), "{gone}");
    }
}
