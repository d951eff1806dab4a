//! CSV to rows: the first row names the columns, every cell is a text.

use ::csv::{ErrorKind, ReaderBuilder, StringRecord};
use serde_json::{Map, Value};

use super::read::Gather;
use super::{DataError, Place, Result};

/// The character between cells: what stands most often in the first line, commas first.
pub(super) fn delimiter(text: &[u8]) -> u8 {
    let header = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let count = |delimiter: &u8| header.iter().filter(|byte| *byte == delimiter).count();
    [b'\t', b';', b','].into_iter().max_by_key(count).unwrap_or(b',')
}

/// Gathers the rows of a CSV text. A row has as many cells as the header; blank lines are left out.
///
/// # Errors
/// A header that cannot name columns; a quote that is never closed; and, unless `skip_bad`, the first row of another length
/// or that [`super::Row::record`] refuses.
pub(super) fn rows(gather: &mut Gather, text: &str) -> Result<()> {
    let delimiter = delimiter(text.as_bytes());
    let mut reader = ReaderBuilder::new().has_headers(false).flexible(true).delimiter(delimiter).from_reader(text.as_bytes());
    let mut header: Vec<String> = Vec::new();
    let mut record = StringRecord::new();
    while !gather.full() {
        let (start, counted) = (reader.position().byte() as usize, reader.position().line() as usize);
        let more = reader.read_record(&mut record).map_err(|error| failed(gather, &error))?;
        if !more {
            break;
        }
        // The reader's place is behind the last row's end, where line breaks may still follow.
        let breaks = text.as_bytes()[start..].iter().take_while(|byte| matches!(byte, b'\r' | b'\n'));
        let (skipped, line) = breaks.fold((0, counted), |(n, line), byte| (n + 1, line + usize::from(*byte == b'\n')));
        let end = reader.position().byte() as usize;
        if end == text.len() && open_quote(&text.as_bytes()[start + skipped..end], delimiter) {
            let fix = "close it, and write a quote inside a cell twice (\"\")";
            return Err(gather.fault(line, "the row opens a quote that is never closed".into(), fix));
        }
        if header.is_empty() {
            header = names(gather, line, &record)?;
        } else if record.len() != header.len() {
            let cells = if record.len() == 1 { "1 cell".to_string() } else { format!("{} cells", record.len()) };
            let found = format!("{cells}, where the header names {} columns", header.len());
            let fix = "quote cells that hold a comma, a quote or a line break (\"...\")";
            let fault = gather.fault(line, found, fix);
            gather.take(Place::Line(line), Err(fault))?;
        } else {
            let cell = |(name, text): (&String, &str)| (name.clone(), Value::String(text.to_string()));
            let fields: Map<String, Value> = header.iter().zip(&record).map(cell).collect();
            gather.take(Place::Line(line), Ok(Value::Object(fields)))?;
        }
    }
    Ok(())
}

fn names(gather: &Gather, line: usize, record: &StringRecord) -> Result<Vec<String>> {
    let names: Vec<String> = record.iter().map(|name| name.trim().to_string()).collect();
    if let Some(twice) = names.iter().enumerate().find(|(at, name)| names[..*at].contains(name)).map(|(_, name)| name) {
        let found = format!("the header names the column `{twice}` twice");
        return Err(gather.fault(line, found, "the first line must name each column once"));
    }
    if names.iter().any(|name| name.parse::<f64>().is_ok()) {
        let found = "the header holds a number: it seems to be a row".to_string();
        return Err(gather.fault(line, found, "the first line must name the columns, such as prompt,score"));
    }
    Ok(names)
}

/// Whether a row ends inside a quoted cell. A quote opens a cell only at its beginning; `""` inside is one quote.
fn open_quote(row: &[u8], delimiter: u8) -> bool {
    let (mut quoted, mut fresh, mut at) = (false, true, 0);
    while let Some(&byte) = row.get(at) {
        if quoted && byte == b'"' {
            let doubled = row.get(at + 1) == Some(&b'"');
            at += usize::from(doubled);
            quoted = doubled;
        } else if !quoted {
            quoted = fresh && byte == b'"';
            fresh = byte == delimiter;
        }
        at += 1;
    }
    quoted
}

fn failed(gather: &Gather, error: &::csv::Error) -> DataError {
    let line = error.position().map_or(1, |place| place.line() as usize);
    let found = match error.kind() {
        ErrorKind::Utf8 { err, .. } => format!("not UTF-8 ({err})"),
        _ => error.to_string(),
    };
    gather.fault(line, found, "save it as UTF-8 CSV with a header")
}
