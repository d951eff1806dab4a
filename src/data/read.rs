//! Files and texts to rows.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::record::describe;
use super::{DataError, Record, Result, Row, View, shorten};

/// Reads data files under one view of their columns.
#[derive(Clone, Debug, Default)]
pub struct Reader {
    /// Which columns, and what must be there.
    pub view: View,
    /// Whether bad rows are set aside and counted (`--skip-bad`) instead of ending the reading.
    pub skip_bad: bool,
    /// At most this many good rows; `None` reads all.
    pub limit: Option<usize>,
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
    /// The file's name as given.
    pub file: String,
    /// Good rows in the file's order; at least one.
    pub examples: Vec<Example>,
    /// Rows set aside, each with its reason; empty unless `skip_bad`.
    pub bad: Vec<DataError>,
}

impl Reader {
    /// Reads a file: `.jsonl`, `.json`, or either with `.gz`. The content decides: what begins with `[` is one JSON array,
    /// everything else is one JSON object a line; gzip is known by its first bytes.
    ///
    /// # Errors
    /// No such file, a damaged archive, and everything [`Reader::read_str`] lists.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn read_path(&self, path: &std::path::Path) -> Result<Dataset> {
        use std::io::Read;
        let name = path.display().to_string();
        let fault = |found: String, fix: &str| DataError::File { file: name.clone(), found, fix: fix.into() };
        if path.is_dir() {
            return Err(fault("is a directory".into(), "name a .jsonl or .json file in it"));
        }
        if let Some(kind) =
            path.extension().and_then(|e| e.to_str()).filter(|e| ["parquet", "csv", "tsv", "zst", "arrow"].contains(e))
        {
            return Err(fault(format!(".{kind} files are not read yet"), "convert it to JSON Lines (one object a line)"));
        }
        let bytes = std::fs::read(path).map_err(|error| fault(error.to_string(), "check the path"))?;
        if !bytes.starts_with(&[0x1f, 0x8b]) {
            return self.read_bytes(&name, &bytes);
        }
        let mut plain = Vec::new();
        flate2::read::MultiGzDecoder::new(bytes.as_slice())
            .read_to_end(&mut plain)
            .map_err(|error| fault(format!("damaged gzip archive ({error})"), "copy or download the file again"))?;
        self.read_bytes(&name, &plain)
    }

    /// Reads bytes that should be UTF-8; `name` stands for the file in messages.
    ///
    /// # Errors
    /// Bytes that are no UTF-8 (with their line), and everything [`Reader::read_str`] lists.
    pub fn read_bytes(&self, name: &str, bytes: &[u8]) -> Result<Dataset> {
        if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
            let fix = "save it as UTF-8".to_string();
            return Err(DataError::File { file: name.into(), found: "UTF-16 text".into(), fix });
        }
        match std::str::from_utf8(bytes) {
            Ok(text) => self.read_str(name, text),
            Err(error) => {
                let at = error.valid_up_to();
                Err(DataError::Line {
                    file: name.into(),
                    line: 1 + bytes[..at].iter().filter(|&&byte| byte == b'\n').count(),
                    found: format!("byte {at} (0x{:02x}) is no UTF-8", bytes[at]),
                    fix: "save the file as UTF-8".into(),
                })
            }
        }
    }

    /// Reads rows from a text: JSON Lines, or one JSON array of objects. A byte-order mark, CRLF and blank lines are fine.
    ///
    /// # Errors
    /// Nothing in it; no good row; and, unless `skip_bad`, the first bad row: JSON that does not parse, a row that is no
    /// object, a field that [`Row::record`] refuses. A JSON array that breaks off ends the reading in any case.
    pub fn read_str(&self, name: &str, text: &str) -> Result<Dataset> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut gather = Gather { reader: self, file: name.into(), examples: Vec::new(), bad: Vec::new() };
        if text.trim_start().starts_with('[') {
            gather.array(text)?
        } else {
            gather.lines(text)?
        }
        let Gather { examples, bad, .. } = gather;
        let file = name.to_string();
        match (examples.is_empty(), bad.first()) {
            (false, _) => Ok(Dataset { file, examples, bad }),
            (true, None) => Err(DataError::File {
                file,
                found: "no rows in it".into(),
                fix: "give one JSON object a line, or a JSON array".into(),
            }),
            (true, Some(first)) => {
                let fix = format!("the first is: {first}");
                Err(DataError::File { file, found: format!("all {} rows are bad", bad.len()), fix })
            }
        }
    }
}

/// The reading of one text.
struct Gather<'a> {
    reader: &'a Reader,
    file: Arc<str>,
    examples: Vec<Example>,
    bad: Vec<DataError>,
}

impl Gather<'_> {
    fn full(&self) -> bool {
        self.reader.limit.is_some_and(|limit| self.examples.len() >= limit)
    }

    fn fault(&self, line: usize, found: String, fix: &str) -> DataError {
        DataError::Line { file: self.file.to_string(), line, found, fix: fix.into() }
    }

    fn lines(&mut self, text: &str) -> Result<()> {
        for (index, line) in text.lines().enumerate() {
            if self.full() {
                break;
            }
            if !line.trim().is_empty() {
                let value = serde_json::from_str(line).map_err(|error| self.syntax(index + 1, line, &error));
                self.take(index + 1, value)?;
            }
        }
        Ok(())
    }

    /// Walks over the array element by element, so that each row knows the line where it begins.
    fn array(&mut self, text: &str) -> Result<()> {
        let bytes = text.as_bytes();
        let mut at = skip_space(bytes, 0) + 1;
        let mut line = 1 + count_lines(&bytes[..at]);
        let mut first = true;
        loop {
            let next = skip_space(bytes, at);
            line += count_lines(&bytes[at..next]);
            at = next;
            match bytes.get(at) {
                Some(b']') => break,
                Some(b',') if !first => {
                    let next = skip_space(bytes, at + 1);
                    line += count_lines(&bytes[at..next]);
                    at = next;
                }
                Some(_) if first => {}
                Some(_) => return Err(self.fault(line, "no comma between two rows".into(), "check the JSON array there")),
                None => {
                    return Err(self.fault(line, "the array is not closed".into(), "the file may be cut off; write it again"));
                }
            }
            if self.full() {
                return Ok(());
            }
            first = false;
            let mut stream = serde_json::Deserializer::from_str(&text[at..]).into_iter::<Value>();
            let value = match stream.next() {
                Some(Ok(value)) => value,
                Some(Err(error)) => {
                    let within = error.line().saturating_sub(1);
                    let shown = text[at..].lines().nth(within).unwrap_or_default();
                    return Err(self.syntax(line + within, shown, &error));
                }
                None => {
                    return Err(self.fault(line, "the array is not closed".into(), "the file may be cut off; write it again"));
                }
            };
            let end = at + stream.byte_offset();
            self.take(line, Ok(value))?;
            line += count_lines(&bytes[at..end]);
            at = end;
        }
        let rest = skip_space(bytes, at + 1);
        if rest < bytes.len() {
            let line = line + count_lines(&bytes[at..rest]);
            return Err(self.fault(
                line,
                "something follows the JSON array".into(),
                "keep one array a file, or one object a line",
            ));
        }
        Ok(())
    }

    fn take(&mut self, line: usize, value: Result<Value>) -> Result<()> {
        let example = value.and_then(|value| self.example(line, value));
        match example {
            Ok(example) => self.examples.push(example),
            Err(error) if self.reader.skip_bad => self.bad.push(error),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn example(&self, line: usize, value: Value) -> Result<Example> {
        let Value::Object(fields) = value else {
            return Err(self.fault(line, describe(&value), "a row must be a JSON object: {\"prompt\": ..., \"score\": ...}"));
        };
        let row = Row { id: id_of(&fields).unwrap_or_else(|| line.to_string()), file: self.file.clone(), line, fields };
        let record = row.record(&self.reader.view)?;
        Ok(Example { row, record })
    }

    fn syntax(&self, line: usize, shown: &str, error: &serde_json::Error) -> DataError {
        let fix = if ["NaN", "Infinity"].iter().any(|word| shown.contains(word)) {
            "JSON has no NaN or Infinity: drop the field or the row"
        } else if shown.trim_end() == "{" {
            "an object must stand on one line (JSON Lines), or all of them in one array [...]"
        } else {
            "each line must be one JSON object"
        };
        // serde_json's own position counts from where it began; the line is told by us.
        let what = error.to_string();
        let what = what.split(" at line ").next().unwrap_or_default();
        self.fault(line, format!("not JSON ({what} at column {}): {}", error.column(), shorten(shown.trim(), 60)), fix)
    }
}

fn id_of(fields: &Map<String, Value>) -> Option<String> {
    ["id", "idx"].iter().find_map(|key| match fields.get(*key) {
        Some(Value::String(text)) => Some(text.clone()),
        Some(Value::Number(number)) => Some(number.to_string()),
        _ => None,
    })
}

fn skip_space(bytes: &[u8], from: usize) -> usize {
    from + bytes[from.min(bytes.len())..].iter().take_while(|byte| byte.is_ascii_whitespace()).count()
}

fn count_lines(bytes: &[u8]) -> usize {
    bytes.iter().filter(|&&byte| byte == b'\n').count()
}
