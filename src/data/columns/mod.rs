//! Reads named columns of a file, row by row, for statistics over a million rows.
//!
//! [`crate::data::Reader`] returns whole rows for a judge. Here only the requested columns are read, one row is in memory at a
//! time, and the caller keeps what it needs. CSV and TSV have a header, JSON is in lines or in one array, and Parquet (a cargo
//! feature) reads only these columns from the disk. Each may be packed (gzip, zstd).

#[cfg(feature = "csv")]
mod csv;
mod json;
#[cfg(feature = "parquet")]
mod parquet;

use std::borrow::Cow;
use std::path::Path;

use serde_json::Value;

use super::scores::{ScoreValue, WordScores, as_list, mean_score, no_words, parse_list, score_in, score_in_text};
use super::unpack::{FileFormat, OpenedFile, open};
use super::{DataError, Result, Row, RowPosition, list_names, shorten, unreadable};

/// One row's values of the requested columns, in the order of the request.
pub struct RowCells<'a> {
    file: &'a str,
    position: RowPosition,
    names: &'a [&'a str],
    cells: &'a [CellValue<'a>],
}

/// A value as the file contains it.
#[derive(Clone, Debug, PartialEq)]
enum CellValue<'a> {
    Missing,
    Text(&'a str),
    Json(Value),
}

impl RowCells<'_> {
    /// The row's location for messages: `file:line`, or `file, row 3` in Parquet.
    pub fn location(&self) -> String {
        format!("{}{}", self.file, self.position)
    }

    /// A number; `None` where the cell is empty, null or NaN. For a list (several annotators), the mean of the scores present.
    ///
    /// # Errors
    /// Any other cell, with its file, position and column.
    pub fn number(&self, column: usize) -> Result<Option<f64>> {
        self.score(column, &no_words)
    }

    /// Like [`RowCells::number`], but a word of `words` counts as its score.
    ///
    /// # Errors
    /// As [`RowCells::number`].
    pub fn score(&self, column: usize, words: &WordScores) -> Result<Option<f64>> {
        let cell = &self.cells[column];
        let (list, one) = match cell {
            CellValue::Missing => return Ok(None),
            CellValue::Text(text) => (parse_list(text), score_in_text(text, words)),
            CellValue::Json(value) => (as_list(value), score_in(value, words)),
        };
        let unfit = || match cell {
            CellValue::Json(value) if !value.is_string() => self.no_number(column, &value.to_string()),
            _ => self.no_number(column, self.text(column).unwrap_or_default().trim()),
        };
        let Some(list) = list else {
            return match one {
                ScoreValue::Score(score) => Ok(Some(score)),
                ScoreValue::Missing => Ok(None),
                ScoreValue::Other => Err(unfit()),
            };
        };
        let mut scores = Vec::new();
        for item in &list {
            match score_in(item, words) {
                ScoreValue::Score(score) => scores.push(score),
                ScoreValue::Missing => {}
                ScoreValue::Other => return Err(unfit()),
            }
        }
        Ok((!scores.is_empty()).then(|| mean_score(&scores)))
    }

    fn no_number(&self, column: usize, found: &str) -> DataError {
        self.fault(column, format!("expected a number, found {}", shorten(found, 60)), "leave it empty where there is no score")
    }

    /// An error about a cell of this row.
    pub fn fault(&self, column: usize, found: String, fix: &str) -> DataError {
        let (file, field) = (self.file.to_string(), self.names[column].into());
        DataError::Field { file, position: self.position, field, found, fix: fix.into() }
    }

    /// The text of a cell, numbers as written; `None` where the cell is empty.
    pub fn text(&self, column: usize) -> Option<Cow<'_, str>> {
        match &self.cells[column] {
            CellValue::Missing | CellValue::Json(Value::Null) => None,
            CellValue::Text(text) => (!text.is_empty()).then_some(Cow::Borrowed(*text)),
            CellValue::Json(Value::String(text)) => Some(Cow::Borrowed(text)),
            CellValue::Json(value) => Some(Cow::Owned(value.to_string())),
        }
    }

    /// The JSON of a cell. In CSV the cell's text is parsed. `None` where the cell is empty.
    ///
    /// # Errors
    /// A text that is not valid JSON.
    pub fn json(&self, column: usize) -> Result<Option<Value>> {
        match &self.cells[column] {
            CellValue::Missing | CellValue::Json(Value::Null) => Ok(None),
            CellValue::Text(text) if text.trim().is_empty() => Ok(None),
            CellValue::Json(value) if !value.is_string() => Ok(Some(value.clone())),
            _ => {
                let text = self.text(column).unwrap_or_default();
                let wrong = |_| self.fault(column, format!("expected JSON, found {}", shorten(&text, 60)), "write [..] or {..}");
                serde_json::from_str(&text).map(Some).map_err(wrong)
            }
        }
    }
}

impl Row {
    /// Whether it has the column, or the dotted path.
    pub fn has(&self, column: &str) -> bool {
        self.lookup(column).is_some()
    }

    /// The names of its columns, for messages.
    pub fn names(&self) -> String {
        list_names(self.fields.keys().map(|name| shorten(name, 40)))
    }

    /// These columns, or dotted paths, of a row that was read whole, as [`read_columns`] reads them.
    pub fn cells<T>(&self, names: &[&str], read: impl FnOnce(&RowCells) -> T) -> T {
        let cell = |name: &&str| self.lookup(name).map_or(CellValue::Missing, |value| CellValue::Json(value.clone()));
        let cells: Vec<CellValue> = names.iter().map(cell).collect();
        read(&RowCells { file: &self.file, position: self.position, names, cells: &cells })
    }
}

/// Receives each row.
type CellsSink<'t> = dyn FnMut(&RowCells) -> Result<()> + 't;

/// Reads the columns called `names` and passes each row to `sink`, in the file's order. In JSON and Parquet `a.b` names the field
/// `b` of the object `a`, unless a field is called `a.b`. A field that a row lacks is empty. The file's format is detected as in
/// [`crate::data::Reader::read_path`].
///
/// # Errors
/// A missing file, a damaged archive, an incomplete file, Parquet in a build without it; a column that no row has, with those
/// that exist; a text that is not a row; and the first error of `sink`.
pub fn read_columns(path: &Path, names: &[&str], sink: &mut CellsSink) -> Result<()> {
    read_columns_within(path, WantedColumns { names, required: names.len() }, None, sink)
}

/// The columns to read.
#[derive(Clone, Copy, Debug)]
pub struct WantedColumns<'a> {
    /// Their names.
    pub names: &'a [&'a str],
    /// So many of the first ones must be there; the others are empty in a file without them.
    pub required: usize,
}

/// Like [`read_columns`], with the limit on unpacked bytes of [`crate::data::Reader::max_decompressed`].
///
/// # Errors
/// As [`read_columns`].
pub fn read_columns_within(path: &Path, names: WantedColumns, max_decompressed: Option<u64>, sink: &mut CellsSink) -> Result<()> {
    let mut opened = open(path, max_decompressed)?;
    let name = opened.name.clone();
    let file = FileName { name: &name };
    if opened.format == FileFormat::Parquet {
        return parquet_rows(&file, path, opened, names, sink);
    }
    let start = opened.bytes.fill_buf().map_err(|e| file.unreadable(&e))?;
    let byte_order_mark = if start.starts_with("\u{feff}".as_bytes()) { 3 } else { 0 };
    opened.bytes.consume(byte_order_mark);
    match opened.format {
        FileFormat::Csv | FileFormat::Tsv => csv_rows(&file, opened, names, sink),
        _ => json::rows(&file, opened.bytes, names, sink),
    }
}

#[cfg(feature = "csv")]
fn csv_rows(file: &FileName, opened: OpenedFile, names: WantedColumns, sink: &mut CellsSink) -> Result<()> {
    csv::rows(file, opened.format, opened.bytes, names, sink)
}

#[cfg(not(feature = "csv"))]
fn csv_rows(file: &FileName, _: OpenedFile, _: WantedColumns, _: &mut CellsSink) -> Result<()> {
    Err(super::csv_unsupported(file.name))
}

/// Passes the rows of a Parquet file to `sink`. A packed file or a pipe is held in memory; any other file stays on the disk.
#[cfg(feature = "parquet")]
fn parquet_rows(file: &FileName, path: &Path, opened: OpenedFile, names: WantedColumns, sink: &mut CellsSink) -> Result<()> {
    let reader = if opened.packing.is_none() && path.is_file() {
        let disk = std::fs::File::open(path).map_err(|e| file.unreadable(&e))?;
        super::parquet::open(file.name, disk)?
    } else {
        super::parquet::open(file.name, bytes::Bytes::from(opened.all()?))?
    };
    parquet::rows(file, reader, names, sink)
}

#[cfg(not(feature = "parquet"))]
fn parquet_rows(file: &FileName, _: &Path, _: OpenedFile, _: WantedColumns, _: &mut CellsSink) -> Result<()> {
    Err(super::parquet_unsupported(file.name))
}

/// The file's name, for messages.
struct FileName<'a> {
    name: &'a str,
}

impl FileName<'_> {
    fn fault(&self, found: String, fix: &str) -> DataError {
        DataError::File { file: self.name.into(), found, fix: fix.into() }
    }

    fn line(&self, line: usize, found: String, fix: &str) -> DataError {
        DataError::Line { file: self.name.into(), position: RowPosition::Line(line), found, fix: fix.into() }
    }

    fn unreadable(&self, error: &std::io::Error) -> DataError {
        unreadable(self.name, error)
    }

    fn no_column(&self, name: &str, known: &[String]) -> DataError {
        self.fault(
            format!("no column `{name}`; it has {}", list_names(known.iter().map(|name| shorten(name, 40)))),
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
            rows.push((cells.location().rsplit(['/', '\\']).next().unwrap().to_string(), numbers));
            Ok(())
        })?;
        Ok(rows)
    }

    fn message(name: &str, text: &str, names: &[&str]) -> String {
        read(name, text.as_bytes(), names).unwrap_err().to_string()
    }

    #[test]
    fn every_format_gives_the_same_columns() {
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

        // An element begins on the line of its bracket, wherever the array breaks its lines, and whatever its texts contain.
        let array = "\u{feff}\n [{\"human\": 1, \"x\": \"]},{ \\\" [\", \"judge\":\n {\"expected\": 2.5}}\n,\n\n  {\"human\": \"3\"} ]\n\n";
        let rows = read("a.json", array.as_bytes(), &["human", "judge.expected"]).unwrap();
        assert_eq!(rows, [("a.json:2".to_string(), expected.clone()), ("a.json:6".to_string(), missing.clone())]);

        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(b"human;judge\n1;2.5\n").unwrap();
        assert_eq!(read("a.csv.gz", &packed.finish().unwrap(), &["human", "judge"]).unwrap()[0].1, expected);
        assert_eq!(read("a.tsv", b"judge\thuman\n2.5\t1\n", &["human", "judge"]).unwrap()[0].1, expected);
        // A TSV that contains commas: they separate cells only where the header has no tab.
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
