//! CSV to rows: the first row names the columns, every cell is a text.

use std::collections::HashSet;

use ::csv::{ErrorKind, ReaderBuilder, StringRecord};
use serde_json::{Map, Value};

use super::read::Gather;
use super::written::Parsed;
use super::{DataError, Result, RowPosition};

/// Whether a record has nothing in it, as the rows that a spreadsheet writes below its table.
pub(super) fn is_blank(record: &StringRecord) -> bool {
    record.iter().all(|cell| cell.trim().is_empty())
}

/// What is wrong with a record's length under a header of so many columns; empty cells behind them do not count.
pub(super) fn ragged(record: &StringRecord, columns: usize) -> Option<String> {
    let beyond = record.iter().skip(columns).any(|cell| !cell.trim().is_empty());
    let cells = record.len();
    let cells = if cells == 1 { "1 cell".to_string() } else { format!("{cells} cells") };
    (beyond || record.len() < columns).then(|| format!("{cells}, where the header names {columns} columns"))
}

/// What to do about a ragged record.
pub(super) const QUOTE: &str = "quote cells that hold a comma, a quote or a line break (\"...\")";

/// The columns that a header names, without the empty names behind them.
pub(super) fn named(header: &StringRecord) -> Vec<String> {
    let mut names: Vec<String> = header.iter().map(|name| name.trim().to_string()).collect();
    let named = names.iter().rposition(|name| !name.is_empty()).map_or(0, |last| last + 1);
    names.truncate(named);
    names
}

/// The first of the names that comes twice.
pub(super) fn twice(names: &[String]) -> Option<&str> {
    let mut seen = HashSet::new();
    names.iter().map(String::as_str).find(|name| !seen.insert(*name))
}

/// Gathers the rows of a CSV text, with this character between cells. A row has as many cells as the header; rows with nothing
/// in them are left out.
///
/// # Errors
/// A header that cannot name columns; a quote that is never closed; and, unless `skip_bad`, the first row of another length
/// or that [`super::Row::record`] refuses.
pub(super) fn rows(gather: &mut Gather, text: &str, delimiter: u8) -> Result<()> {
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
        if is_blank(&record) {
            continue;
        }
        if header.is_empty() {
            header = names(gather, line, &record)?;
        } else if let Some(found) = ragged(&record, header.len()) {
            let fault = gather.fault(line, found, QUOTE);
            gather.take(RowPosition::Line(line), Err(fault))?;
        } else {
            let cell = |(name, text): (&String, &str)| (name.clone(), Value::String(text.to_string()));
            let fields: Map<String, Value> = header.iter().zip(&record).map(cell).collect();
            gather.take(RowPosition::Line(line), Ok(Parsed::of(fields)))?;
        }
    }
    Ok(())
}

fn names(gather: &Gather, line: usize, record: &StringRecord) -> Result<Vec<String>> {
    let names = named(record);
    if let Some(twice) = twice(&names) {
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
