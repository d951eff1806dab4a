//! CSV and TSV, record by record: the first row names the columns.

use std::cell::Cell as Shared;
use std::io::{BufRead, Read};

use ::csv::{Error, ErrorKind, ReaderBuilder, StringRecord};

use super::{Cell, Cells, File, Result, RowPosition, Take};
use crate::data::csv::{QUOTE, is_blank, named, ragged, twice};
use crate::data::delimiter::delimiter;
use crate::data::unpack::Kind;

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

/// The columns of a file, and where those asked for stand.
struct Header {
    columns: usize,
    places: Vec<usize>,
}

impl Header {
    fn read(file: &File, line: usize, record: &StringRecord, names: &[&str]) -> Result<Self> {
        let known = named(record);
        if let Some(name) = twice(&known).filter(|name| names.contains(name)) {
            let found = format!("the header names the column `{name}` twice");
            return Err(file.line(line, found, "the first line must name each column once"));
        }
        let place = |name: &&str| known.iter().position(|k| k == name).ok_or_else(|| file.no_column(name, &known));
        let places = names.iter().map(place).collect::<Result<Vec<usize>>>()?;
        Ok(Header { columns: known.len(), places })
    }
}

/// The rows of a CSV or TSV. A row has as many cells as the header; rows with nothing in them are left out.
pub(super) fn rows(file: &File, kind: Kind, mut text: Box<dyn BufRead>, names: &[&str], take: &mut Take) -> Result<()> {
    let delimiter = delimiter(kind, text.fill_buf().map_err(|e| file.unreadable(&e))?);
    let passed = Passed::default();
    let counting = Counting { inner: text, held: false, passed: &passed };
    let mut reader = ReaderBuilder::new().has_headers(false).flexible(true).delimiter(delimiter).from_reader(counting);
    let failed = |error: Error| {
        let line = error.position().map_or(1, |place| place.line() as usize);
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
        // From its end, since blank lines may stand before it.
        breaks = record.as_slice().matches('\n').count();
        let open_end = passed.ended.get() && !passed.on_break.get();
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
        if let Some(found) = ragged(&record, header.columns) {
            return Err(file.line(line, found, QUOTE));
        }
        let cells: Vec<Cell> = header.places.iter().map(|at| record.get(*at).map_or(Cell::Missing, Cell::Text)).collect();
        take(&Cells { file: file.name, place: RowPosition::Line(line), names, cells: &cells })?;
    }
    if header.is_none() {
        Header::read(file, line, &StringRecord::new(), names)?;
    }
    if breaks > 0 && passed.quotes.get() % 2 == 1 {
        let fix = "close it, and write a quote inside a cell twice (\"\")";
        // The break that ends the file stands in the cell then, and ended no row.
        let line = line + usize::from(passed.on_break.get());
        return Err(file.line(line, "the row opens a quote that is never closed".into(), fix));
    }
    Ok(())
}
