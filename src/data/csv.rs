//! Reads CSV rows. The first row names the columns, and every cell is a text.

use std::collections::HashSet;

use ::csv::{ErrorKind, ReaderBuilder, StringRecord};
use serde_json::{Map, Value};

use super::read::RowCollector;
use super::written::ParsedRow;
use super::{DataError, Result, RowPosition};
use crate::words::count;

/// Whether a record is empty, like the rows that a spreadsheet writes below its table.
pub(super) fn is_blank(record: &StringRecord) -> bool {
    record.iter().all(|cell| cell.trim().is_empty())
}

/// Describes a record whose length differs from the header's. Empty cells after the last column are ignored.
pub(super) fn length_error(record: &StringRecord, columns: usize) -> Option<String> {
    let beyond = record.iter().skip(columns).any(|cell| !cell.trim().is_empty());
    let cells = count(record.len(), "cell");
    (beyond || record.len() < columns).then(|| format!("{cells}, where the header names {}", count(columns, "column")))
}

/// The advice for a record of the wrong length.
pub(super) const QUOTE_FIX: &str = "quote cells that hold a comma, a quote or a line break (\"...\")";

/// The column names of a header, without empty names at its end.
pub(super) fn header_names(header: &StringRecord) -> Vec<String> {
    let mut check_header: Vec<String> = header.iter().map(|name| name.trim().to_string()).collect();
    let count = check_header.iter().rposition(|name| !name.is_empty()).map_or(0, |last| last + 1);
    check_header.truncate(count);
    check_header
}

/// The first name that occurs twice.
pub(super) fn duplicate(check_header: &[String]) -> Option<&str> {
    let mut seen = HashSet::new();
    check_header.iter().map(String::as_str).find(|name| !seen.insert(*name))
}

/// Collects the rows of a CSV text with the given delimiter. A row has as many cells as the header. Empty rows are left out.
///
/// # Errors
/// A header that does not name columns; a quote that is never closed; and, unless `skip_bad`, the first row of another length or
/// that [`super::Row::record`] refuses.
pub(super) fn rows(collector: &mut RowCollector, text: &str, delimiter: u8) -> Result<()> {
    let mut reader = ReaderBuilder::new().has_headers(false).flexible(true).delimiter(delimiter).from_reader(text.as_bytes());
    let mut header: Vec<String> = Vec::new();
    let mut record = StringRecord::new();
    while !collector.is_full() {
        let (start, counted) = (reader.position().byte() as usize, reader.position().line() as usize);
        let more = reader.read_record(&mut record).map_err(|error| failed(collector, &error))?;
        if !more {
            break;
        }
        // The reader's position is after the last row. Line breaks may still follow.
        let breaks = text.as_bytes()[start..].iter().take_while(|byte| matches!(byte, b'\r' | b'\n'));
        let (skipped, line) = breaks.fold((0, counted), |(n, line), byte| (n + 1, line + usize::from(*byte == b'\n')));
        let end = reader.position().byte() as usize;
        if end == text.len() && ends_in_quote(&text.as_bytes()[start + skipped..end], delimiter) {
            let fix = "close it, and write a quote inside a cell twice (\"\")";
            return Err(collector.fault(line, "the row opens a quote that is never closed".into(), fix));
        }
        if is_blank(&record) {
            continue;
        }
        if header.is_empty() {
            header = check_header(collector, line, &record)?;
        } else if let Some(found) = length_error(&record, header.len()) {
            let fault = collector.fault(line, found, QUOTE_FIX);
            collector.take(RowPosition::Line(line), Err(fault))?;
        } else {
            let cell = |(name, text): (&String, &str)| (name.clone(), Value::String(text.to_string()));
            let fields: Map<String, Value> = header.iter().zip(&record).map(cell).collect();
            collector.take(RowPosition::Line(line), Ok(ParsedRow::from_fields(fields)))?;
        }
    }
    Ok(())
}

fn check_header(collector: &RowCollector, line: usize, record: &StringRecord) -> Result<Vec<String>> {
    let names = header_names(record);
    if let Some(duplicate) = duplicate(&names) {
        let found = format!("the header names the column `{duplicate}` twice");
        return Err(collector.fault(line, found, "the first line must name each column once"));
    }
    if names.iter().any(|name| name.parse::<f64>().is_ok()) {
        let found = "the header holds a number: it seems to be a row".to_string();
        return Err(collector.fault(line, found, "the first line must name the columns, such as prompt,score"));
    }
    Ok(names)
}

/// Whether a row ends inside a quoted cell. A quote opens a cell only at its beginning; `""` inside is one quote.
fn ends_in_quote(row: &[u8], delimiter: u8) -> bool {
    let (mut quoted, mut cell_start, mut at) = (false, true, 0);
    while let Some(&byte) = row.get(at) {
        if quoted && byte == b'"' {
            let doubled = row.get(at + 1) == Some(&b'"');
            at += usize::from(doubled);
            quoted = doubled;
        } else if !quoted {
            quoted = cell_start && byte == b'"';
            cell_start = byte == delimiter;
        }
        at += 1;
    }
    quoted
}

fn failed(collector: &RowCollector, error: &::csv::Error) -> DataError {
    let line = error.position().map_or(1, |position| position.line() as usize);
    let found = match error.kind() {
        ErrorKind::Utf8 { err, .. } => format!("not UTF-8 ({err})"),
        _ => error.to_string(),
    };
    collector.fault(line, found, "save it as UTF-8 CSV with a header")
}
