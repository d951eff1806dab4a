//! Texts to rows: JSON Lines, or one JSON array.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::json::each_row;
use super::record::describe;
use super::written::{Parsed, parse, twice};
use super::{DataError, Record, Result, Row, RowPosition, View, shorten};

/// Reads data files under one view of their columns.
#[derive(Clone, Debug, Default)]
pub struct Reader {
    /// Which columns, and what must be there.
    pub view: View,
    /// Whether bad rows are set aside and counted (`--skip-bad`) instead of ending the reading.
    pub skip_bad: bool,
    /// At most this many good rows; `None` reads all.
    pub limit: Option<usize>,
    /// Puts the rows of a file in this seed's order before `limit` cuts them; `None` keeps the file's.
    pub shuffle_seed: Option<u64>,
    /// Bytes that an archive may unpack to; `None` allows 256 MiB, and more up to 100 times its packed size.
    pub max_decompressed: Option<u64>,
}

/// One good row and what a judge reads in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Example {
    /// The row, every column kept.
    pub row: Row,
    /// The judge's view of it.
    pub record: Record,
}

/// What a file held.
#[derive(Clone, Debug, PartialEq)]
pub struct Dataset {
    /// The file's or folder's name as given.
    pub file: String,
    /// How the rows were written: "JSON Lines, gzip".
    pub format: String,
    /// Good rows in the file's order, unless it was asked to be shuffled; at least one.
    pub examples: Vec<Example>,
    /// Rows set aside, each with its reason; empty unless `skip_bad`.
    pub bad: Vec<DataError>,
}

impl Example {
    /// The text of a column.
    pub fn text(&self, column: &str) -> Option<&str> {
        self.row.fields.get(column).and_then(Value::as_str)
    }

    /// Characters of the response, or of all that a judge reads.
    pub fn characters(&self) -> usize {
        let count = |text: &str| text.chars().count();
        let whole = || self.row.fields.values().filter_map(Value::as_str).map(count).sum();
        self.text("response").or_else(|| self.text("prompt")).map_or_else(whole, count)
    }

    /// The two texts of a row that a judge compares: the response with its reference or else its instruction, or two sentences.
    pub fn compared(&self) -> Option<(&str, &str)> {
        let first = |columns: &[&str]| columns.iter().find_map(|column| self.text(column));
        let other = first(&["reference", "reference_answer", "sentence2", "instruction"])?;
        Some((first(&["response", "sentence1"])?, other))
    }

    /// What was judged, to be shown: the prompt, or the parts of a grading, or every text of the row but that in `judge`.
    pub fn judged(&self) -> String {
        // A `prompt` with a response beside it is one of the parts.
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
    /// The place of the first row without it.
    pub fn texts(&self, column: &str) -> std::result::Result<Vec<String>, String> {
        let text = |example: &Example| match example.row.fields.get(column) {
            None | Some(Value::Null) => Err(example.row.place()),
            Some(Value::String(text)) => Ok(text.clone()),
            Some(value) => Ok(value.to_string()),
        };
        self.examples.iter().map(text).collect()
    }
}

impl Reader {
    /// Reads bytes that should be UTF-8; `name` stands for the file in messages.
    ///
    /// # Errors
    /// Bytes that are no UTF-8 (with their line), and everything [`Reader::read_str`] lists.
    pub fn read_bytes(&self, name: &str, bytes: &[u8]) -> Result<Dataset> {
        self.read_str(name, utf8(name, bytes)?)
    }

    /// Reads rows from a text: JSON Lines, or one JSON array of objects. A byte-order mark, CRLF and blank lines are fine, and
    /// the bare words NaN and Infinity, which Python writes, are null where the row needs no more, and come out as they went in.
    ///
    /// # Errors
    /// Nothing in it, or a page instead of rows; no good row; and, unless `skip_bad`, the first bad row: JSON that does not
    /// parse, a row that is no object or has a key twice, a field that [`Row::record`] refuses. A JSON array that breaks off
    /// ends the reading in any case.
    pub fn read_str(&self, name: &str, text: &str) -> Result<Dataset> {
        let text = rows_not_pages(name, text)?;
        let mut gather = Gather::new(self, name);
        let array = gather.json(text)?;
        gather.finish(if array { "JSON array" } else { "JSON Lines" })
    }
}

/// The texts of the rows of a JSON array or of JSON Lines, as they stand there.
///
/// # Errors
/// An array that breaks off, or that something follows.
pub fn split_rows(name: &str, text: &str) -> Result<Vec<String>> {
    let mut rows = Vec::new();
    each_row(name, &mut text.as_bytes(), &mut |_, row| {
        rows.push(String::from_utf8_lossy(row).into_owned());
        Ok(true)
    })?;
    Ok(rows)
}

/// Bytes as text.
pub(super) fn utf8<'a>(name: &str, bytes: &'a [u8]) -> Result<&'a str> {
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        let fix = "save it as UTF-8".to_string();
        return Err(DataError::File { file: name.into(), found: "UTF-16 text".into(), fix });
    }
    std::str::from_utf8(bytes).map_err(|error| {
        let at = error.valid_up_to();
        DataError::Line {
            file: name.into(),
            place: RowPosition::Line(1 + count_lines(&bytes[..at])),
            found: format!("byte {at} (0x{:02x}) is no UTF-8", bytes[at]),
            fix: "save the file as UTF-8".into(),
        }
    })
}

/// The text without its byte-order mark.
///
/// # Errors
/// What a failed download leaves: a page, or the note that stands for a large file.
pub(super) fn rows_not_pages<'a>(name: &str, text: &'a str) -> Result<&'a str> {
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

/// The reading of one text.
pub(super) struct Gather<'a> {
    reader: &'a Reader,
    file: Arc<str>,
    examples: Vec<Example>,
    bad: Vec<DataError>,
}

impl<'a> Gather<'a> {
    pub(super) fn new(reader: &'a Reader, file: &str) -> Self {
        Gather { reader, file: file.into(), examples: Vec::new(), bad: Vec::new() }
    }

    /// All that was read.
    ///
    /// # Errors
    /// No good row.
    pub(super) fn finish(self, format: &str) -> Result<Dataset> {
        let Gather { examples, bad, file, .. } = self;
        let (file, format) = (file.to_string(), format.to_string());
        match (examples.is_empty(), bad.first()) {
            (false, _) => Ok(Dataset { file, format, examples, bad }),
            (true, None) => {
                let fix = "give one JSON object a line, a JSON array, or CSV with a header".into();
                Err(DataError::File { file, found: "no rows in it".into(), fix })
            }
            (true, Some(first)) => {
                let fix = format!("the first is: {first}");
                Err(DataError::File { file, found: format!("all {} rows are bad", bad.len()), fix })
            }
        }
    }

    pub(super) fn full(&self) -> bool {
        self.reader.limit.is_some_and(|limit| self.examples.len() >= limit)
    }

    pub(super) fn fault(&self, line: usize, found: String, fix: &str) -> DataError {
        DataError::Line { file: self.file.to_string(), place: RowPosition::Line(line), found, fix: fix.into() }
    }

    /// The rows of a JSON text; true where it is one array.
    fn json(&mut self, text: &str) -> Result<bool> {
        let file = self.file.clone();
        each_row(&file, &mut text.as_bytes(), &mut |line, row| {
            if self.full() {
                return Ok(false);
            }
            let parsed = parse(row).map_err(|error| self.syntax(line, row, &error));
            self.take(RowPosition::Line(line), parsed)?;
            Ok(true)
        })
    }

    /// One row that begins at `place`, or why there is none.
    pub(super) fn take(&mut self, place: RowPosition, parsed: Result<Parsed>) -> Result<()> {
        let example = parsed.and_then(|parsed| self.example(place, parsed));
        match example {
            Ok(example) => self.examples.push(example),
            Err(error) if self.reader.skip_bad => self.bad.push(error),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn example(&self, place: RowPosition, parsed: Parsed) -> Result<Example> {
        let Parsed { value, written, repaired } = parsed;
        let Value::Object(fields) = value else {
            let fix = "a row must be a JSON object: {\"prompt\": ..., \"score\": ...}";
            return Err(self.fault(place.number(), describe(&value), fix));
        };
        let id = id_of(&fields).unwrap_or_else(|| place.number().to_string());
        let row = Row { id, file: self.file.clone(), place, fields, written };
        if let Some(key) = row.written.as_deref().and_then(|text| twice(text, &row.fields)) {
            return Err(row.fault(&key, "the row has it twice", "keep one of the two"));
        }
        match (row.record(&self.reader.view), repaired) {
            (Ok(record), _) => Ok(Example { row, record }),
            // The null that is refused was a NaN.
            (Err(DataError::Field { found, .. }), Some(error)) if found == "null" => {
                Err(self.not_json(place.number(), &error, "NaN", NO_NAN))
            }
            (Err(error), _) => Err(error),
        }
    }

    /// What is wrong with a row's text that begins in `line`.
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
        // serde_json's own position counts from where it began; the line is told by us.
        let what = error.to_string();
        let what = what.split(" at line ").next().unwrap_or_default();
        self.fault(line, format!("not JSON ({what} at column {}): {}", error.column(), shorten(shown.trim(), 60)), fix)
    }
}

/// What to do about a NaN.
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
