//! Reads columns of CSV and TSV, record by record. The first row names the columns.

use std::cell::Cell;
use std::io::{BufRead, Read};

use ::csv::{Error, ErrorKind, ReaderBuilder, StringRecord};

use super::{CellValue, CellsSink, FileName, Result, RowCells, RowPosition, WantedColumns};
use crate::data::csv::{QUOTE_FIX, duplicate, header_names, is_blank, length_error};
use crate::data::delimiter::delimiter;
use crate::data::unpack::FileFormat;

/// State of the byte stream that goes to the CSV parser.
#[derive(Default)]
struct StreamState {
    /// The number of quotes. An odd number means that a quote is never closed.
    quotes: Cell<usize>,
    /// Whether the file has ended, and whether it ended with a line break.
    ended: Cell<bool>,
    ends_in_break: Cell<bool>,
}

/// Counts quotes and turns CR LF into LF. Otherwise the parser would report a row's start before the LF that ends the previous
/// row.
struct LineBreakReader<'a, R> {
    inner: R,
    /// Whether the last byte was a CR that may precede a LF.
    pending_cr: bool,
    state: &'a StreamState,
}

impl<R: Read> Read for LineBreakReader<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let from = usize::from(self.pending_cr);
        if into.len() <= from {
            return Err(std::io::Error::other("the buffer is too small"));
        }
        let read = self.inner.read(&mut into[from..])?;
        if self.pending_cr {
            into[0] = b'\r';
        }
        self.pending_cr = false;
        if read == 0 {
            self.state.ended.set(true);
            return Ok(from);
        }
        let bytes = from + read;
        self.pending_cr = into[bytes - 1] == b'\r';
        let end = bytes - usize::from(self.pending_cr);
        let mut kept = 0;
        for at in 0..end {
            if into[at] != b'\r' || into.get(at + 1) != Some(&b'\n') || at + 1 == end {
                into[kept] = into[at];
                kept += 1;
            }
        }
        self.state.quotes.set(self.state.quotes.get() + into[..kept].iter().filter(|b| **b == b'"').count());
        self.state.ends_in_break.set(kept > 0 && into[kept - 1] == b'\n');
        // Only a CR, which is pending: the end of the file is not known yet.
        if kept == 0 { self.read(into) } else { Ok(kept) }
    }
}

/// The number of columns of a file, and the indices of the requested columns.
struct Header {
    columns: usize,
    indices: Vec<usize>,
}

impl Header {
    fn read(file: &FileName, line: usize, record: &StringRecord, names: WantedColumns) -> Result<Self> {
        let known = header_names(record);
        if let Some(name) = duplicate(&known).filter(|name| names.names.contains(name)) {
            let found = format!("the header names the column `{name}` twice");
            return Err(file.line(line, found, "the first line must name each column once"));
        }
        let index = |(at, name): (usize, &&str)| match known.iter().position(|k| k == name) {
            None if at < names.required => Err(file.no_column(name, &known)),
            // No row has a cell there.
            found => Ok(found.unwrap_or(usize::MAX)),
        };
        let indices = names.names.iter().enumerate().map(index).collect::<Result<Vec<usize>>>()?;
        Ok(Header { columns: known.len(), indices })
    }
}

/// Passes the rows of a CSV or TSV to `sink`. A row has as many cells as the header. Empty rows are left out.
pub(super) fn rows(
    file: &FileName,
    format: FileFormat,
    mut text: Box<dyn BufRead>,
    names: WantedColumns,
    sink: &mut CellsSink,
) -> Result<()> {
    let delimiter = delimiter(format, text.fill_buf().map_err(|e| file.unreadable(&e))?);
    let state = StreamState::default();
    let normalized = LineBreakReader { inner: text, pending_cr: false, state: &state };
    let mut reader = ReaderBuilder::new().has_headers(false).flexible(true).delimiter(delimiter).from_reader(normalized);
    let failed = |error: Error| {
        let line = error.position().map_or(1, |position| position.line() as usize);
        match error.kind() {
            ErrorKind::Io(error) => file.unreadable(error),
            ErrorKind::Utf8 { err, .. } => file.line(line, format!("not UTF-8 ({err})"), "save the file as UTF-8"),
            _ => file.line(line, error.to_string(), "save it as CSV with a header"),
        }
    };
    let mut header: Option<Header> = None;
    let mut record = StringRecord::new();
    let (mut line, mut breaks) = (1, 0);
    while reader.read_record(&mut record).map_err(failed)? {
        // Counted from the row's end, since blank lines may precede the row.
        breaks = record.as_slice().matches('\n').count();
        let open_end = state.ended.get() && !state.ends_in_break.get();
        line = (reader.position().line() as usize).saturating_sub(breaks + usize::from(!open_end));
        let Some(header) = &header else {
            if !is_blank(&record) {
                header = Some(Header::read(file, line, &record, names)?);
            }
            continue;
        };
        if is_blank(&record) {
            continue;
        }
        if let Some(found) = length_error(&record, header.columns) {
            return Err(file.line(line, found, QUOTE_FIX));
        }
        let cells: Vec<CellValue> =
            header.indices.iter().map(|at| record.get(*at).map_or(CellValue::Missing, CellValue::Text)).collect();
        sink(&RowCells { file: file.name, position: RowPosition::Line(line), names: names.names, cells: &cells })?;
    }
    if header.is_none() {
        return Err(file.fault("no rows in it".into(), "give CSV with a header, one JSON object per line, or a JSON array"));
    }
    if breaks > 0 && state.quotes.get() % 2 == 1 {
        let fix = "close it, and write a quote inside a cell twice (\"\")";
        // The final line break is then inside the cell and did not end a row.
        let line = line + usize::from(state.ends_in_break.get());
        return Err(file.line(line, "the row opens a quote that is never closed".into(), fix));
    }
    Ok(())
}
