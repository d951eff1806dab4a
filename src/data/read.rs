//! Reads rows from text: JSON Lines, or one JSON array.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::json::each_row;
use super::record::describe;
use super::written::{ParsedRow, duplicate_key, parse};
use super::{ColumnOptions, DataError, Record, Result, Row, RowPosition, shorten};

/// Reads data files with one choice of columns.
#[derive(Clone, Debug, Default)]
pub struct Reader {
    /// The columns to read, and which of them are required.
    pub columns: ColumnOptions,
    /// Whether bad rows are collected (`--skip-bad`) instead of ending the reading.
    pub skip_bad: bool,
    /// The most good rows to read; `None` reads all.
    pub limit: Option<usize>,
    /// The seed that shuffles the rows of a file before `limit` cuts them; `None` keeps the file's order.
    pub shuffle_seed: Option<u64>,
    /// Bytes that an archive may unpack to; `None` allows 256 MiB, or 100 times the packed size if that is more.
    pub max_decompressed: Option<u64>,
}

/// One good row and what a judge reads in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Example {
    /// The row with every column.
    pub row: Row,
    /// The parts that a judge reads.
    pub record: Record,
}

/// The content of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Dataset {
    /// The file's or folder's name as given.
    pub file: String,
    /// The format, such as "JSON Lines, gzip".
    pub format: String,
    /// Good rows, at least one, in the file's order or shuffled.
    pub examples: Vec<Example>,
    /// The errors of bad rows; empty unless `skip_bad`.
    pub bad: Vec<DataError>,
}

impl Example {
    /// The text of a column.
    pub fn text(&self, column: &str) -> Option<&str> {
        self.row.fields.get(column).and_then(Value::as_str)
    }

    /// The number of characters of the response, or of everything that a judge reads.
    pub fn characters(&self) -> usize {
        let count = |text: &str| text.chars().count();
        let whole = || self.row.fields.values().filter_map(Value::as_str).map(count).sum();
        self.text("response").or_else(|| self.text("prompt")).map_or_else(whole, count)
    }

    /// The two texts of a row that a judge compares: the response with its reference, else with its instruction; or two
    /// sentences.
    pub fn compared(&self) -> Option<(&str, &str)> {
        let first = |columns: &[&str]| columns.iter().find_map(|column| self.text(column));
        let other = first(&["reference", "reference_answer", "sentence2", "instruction"])?;
        Some((first(&["response", "sentence1"])?, other))
    }

    /// The judged text for display: the prompt, or the parts of a grading task, or every text of the row except the column
    /// `judge`.
    pub fn judged(&self) -> String {
        // A `prompt` beside a response is one of the parts.
        if let (true, Some(prompt)) = (self.record.prompt.is_some(), self.text("prompt")) {
            return prompt.to_string();
        }
        let fields = self.row.fields.iter().filter(|(name, _)| *name != "judge");
        let shown = |(name, value): (&String, &Value)| Some(format!("{name}: {}", value.as_str()?));
        fields.filter_map(shown).collect::<Vec<_>>().join("\n\n")
    }
}

impl Dataset {
    /// The values of a column as texts.
    ///
    /// # Errors
    /// The location of the first row without it.
    pub fn texts(&self, column: &str) -> std::result::Result<Vec<String>, String> {
        let text = |example: &Example| match example.row.fields.get(column) {
            None | Some(Value::Null) => Err(example.row.location()),
            Some(Value::String(text)) => Ok(text.clone()),
            Some(value) => Ok(value.to_string()),
        };
        self.examples.iter().map(text).collect()
    }
}

impl Reader {
    /// Reads bytes that should be UTF-8; `name` names the file in messages.
    ///
    /// # Errors
    /// Bytes that are not UTF-8 (with their line), and the errors of [`Reader::read_str`].
    pub fn read_bytes(&self, name: &str, bytes: &[u8]) -> Result<Dataset> {
        self.read_str(name, utf8(name, bytes)?)
    }

    /// Reads rows from a text: JSON Lines, or one JSON array of objects. A byte-order mark, CRLF and blank lines are allowed. The
    /// bare words NaN and Infinity, which Python writes, count as null where the row does not need the value, and are written
    /// back unchanged.
    ///
    /// # Errors
    /// An empty text, or a web page instead of rows; no good row; and, unless `skip_bad`, the first bad row: invalid JSON, a row
    /// that is not an object or has a key twice, a field that [`Row::record`] refuses. An incomplete JSON array always ends the
    /// reading.
    pub fn read_str(&self, name: &str, text: &str) -> Result<Dataset> {
        let text = text_of_rows(name, text)?;
        let mut collector = RowCollector::new(self, name);
        let array = collector.json(text)?;
        collector.finish(if array { "JSON array" } else { "JSON Lines" })
    }
}

/// The texts of the rows of a JSON array or of JSON Lines, unchanged.
///
/// # Errors
/// An array that is incomplete, or followed by something.
pub fn split_rows(name: &str, text: &str) -> Result<Vec<String>> {
    let mut rows = Vec::new();
    each_row(name, &mut text.as_bytes(), &mut |_, row| {
        rows.push(String::from_utf8_lossy(row).into_owned());
        Ok(true)
    })?;
    Ok(rows)
}

/// Bytes as UTF-8 text.
pub(super) fn utf8<'a>(name: &str, bytes: &'a [u8]) -> Result<&'a str> {
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        let fix = "save it as UTF-8".to_string();
        return Err(DataError::File { file: name.into(), found: "UTF-16 text".into(), fix });
    }
    std::str::from_utf8(bytes).map_err(|error| {
        let at = error.valid_up_to();
        DataError::Line {
            file: name.into(),
            position: RowPosition::Line(1 + count_lines(&bytes[..at])),
            found: format!("byte {at} (0x{:02x}) is no UTF-8", bytes[at]),
            fix: "save the file as UTF-8".into(),
        }
    })
}

/// The text without its byte-order mark.
///
/// # Errors
/// The result of a failed download: a web page, or the pointer that stands for a large file.
pub(super) fn text_of_rows<'a>(name: &str, text: &'a str) -> Result<&'a str> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let fault = |found: &str, fix: &str| Err(DataError::File { file: name.into(), found: found.into(), fix: fix.into() });
    let start: String = text.trim_start().chars().take(16).collect::<String>().to_ascii_lowercase();
    if ["<!doctype", "<html", "<?xml", "<head", "<body"].iter().any(|tag| start.starts_with(tag)) {
        return fault("a web page (HTML or XML), not rows", "download the file itself: an error or login page was saved instead");
    }
    if text.starts_with("version https://git-lfs") {
        return fault("a Git LFS pointer, not the rows themselves", "fetch the file with `git lfs pull`");
    }
    Ok(text)
}

/// Collects the rows of one text.
pub(super) struct RowCollector<'a> {
    reader: &'a Reader,
    file: Arc<str>,
    examples: Vec<Example>,
    bad: Vec<DataError>,
}

impl<'a> RowCollector<'a> {
    pub(super) fn new(reader: &'a Reader, file: &str) -> Self {
        RowCollector { reader, file: file.into(), examples: Vec::new(), bad: Vec::new() }
    }

    /// The collected rows.
    ///
    /// # Errors
    /// No good row.
    pub(super) fn finish(self, format: &str) -> Result<Dataset> {
        let RowCollector { examples, bad, file, .. } = self;
        let (file, format) = (file.to_string(), format.to_string());
        match (examples.is_empty(), bad.first()) {
            (false, _) => Ok(Dataset { file, format, examples, bad }),
            (true, None) => {
                let fix = "give one JSON object per line, a JSON array, or CSV with a header".into();
                Err(DataError::File { file, found: "no rows in it".into(), fix })
            }
            (true, Some(first)) => {
                let fix = if bad.len() == 1 { first.to_string() } else { format!("the first is: {first}") };
                Err(DataError::File {
                    file,
                    found: match bad.len() {
                        1 => "its only row is bad".into(),
                        rows => format!("all {rows} rows are bad"),
                    },
                    fix,
                })
            }
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.reader.limit.is_some_and(|limit| self.examples.len() >= limit)
    }

    pub(super) fn fault(&self, line: usize, found: String, fix: &str) -> DataError {
        DataError::Line { file: self.file.to_string(), position: RowPosition::Line(line), found, fix: fix.into() }
    }

    /// Collects the rows of a JSON text. Returns true for an array.
    fn json(&mut self, text: &str) -> Result<bool> {
        let file = self.file.clone();
        each_row(&file, &mut text.as_bytes(), &mut |line, row| {
            if self.is_full() {
                return Ok(false);
            }
            let parsed = parse(row).map_err(|error| self.syntax(line, row, &error));
            self.take(RowPosition::Line(line), parsed)?;
            Ok(true)
        })
    }

    /// Takes one row that begins at `position`, or its error.
    pub(super) fn take(&mut self, position: RowPosition, parsed: Result<ParsedRow>) -> Result<()> {
        let example = parsed.and_then(|parsed| self.example(position, parsed));
        match example {
            Ok(example) => self.examples.push(example),
            Err(error) if self.reader.skip_bad => self.bad.push(error),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn example(&self, position: RowPosition, parsed: ParsedRow) -> Result<Example> {
        let ParsedRow { value, written, repaired } = parsed;
        let Value::Object(fields) = value else {
            let fix = "a row must be a JSON object: {\"prompt\": ..., \"score\": ...}";
            return Err(self.fault(position.number(), describe(&value), fix));
        };
        let id = id_of(&fields).unwrap_or_else(|| position.number().to_string());
        let row = Row { id, file: self.file.clone(), position, fields, written };
        if let Some(key) = row.written.as_deref().and_then(|text| duplicate_key(text, &row.fields)) {
            return Err(row.fault(&key, "the row has it twice", "keep one of the two"));
        }
        match (row.record(&self.reader.columns), repaired) {
            (Ok(record), _) => Ok(Example { row, record }),
            // The refused null was a NaN.
            (Err(DataError::Field { found, .. }), Some(error)) if found == "null" => {
                Err(self.not_json(position.number(), &error, "NaN", NO_NAN))
            }
            (Err(error), _) => Err(error),
        }
    }

    /// The syntax error of a row that begins in `line`.
    fn syntax(&self, line: usize, text: &[u8], error: &serde_json::Error) -> DataError {
        let within = error.line().saturating_sub(1);
        let text = String::from_utf8_lossy(text);
        let shown = text.lines().nth(within).unwrap_or_default();
        let fix = if ["NaN", "Infinity"].iter().any(|word| shown.contains(word)) {
            NO_NAN
        } else if shown.trim_end() == "{" {
            "an object must stand on one line (JSON Lines), or all of them in one array [...]"
        } else if line == 1 && !shown.trim_start().starts_with('{') {
            "each line must be one JSON object; CSV needs the ending .csv, or a header of several columns"
        } else {
            "each line must be one JSON object"
        };
        self.not_json(line + within, error, shown, fix)
    }

    fn not_json(&self, line: usize, error: &serde_json::Error, shown: &str, fix: &str) -> DataError {
        // serde_json counts lines from the row's beginning, so its line is removed here.
        let what = error.to_string();
        let what = what.split(" at line ").next().unwrap_or_default();
        self.fault(line, format!("not JSON ({what} at column {}): {}", error.column(), shorten(shown.trim(), 60)), fix)
    }
}

/// The advice for a NaN.
const NO_NAN: &str = "JSON has no NaN or Infinity: drop the field or the row";

fn id_of(fields: &Map<String, Value>) -> Option<String> {
    ["id", "idx"].iter().find_map(|key| match fields.get(*key) {
        Some(Value::String(text)) => Some(text.clone()),
        Some(Value::Number(number)) => Some(number.to_string()),
        _ => None,
    })
}

fn count_lines(bytes: &[u8]) -> usize {
    bytes.iter().filter(|&&byte| byte == b'\n').count()
}
