//! Splits JSON into the texts of its rows, one at a time: lines, or the elements of one array, each with the line where it
//! begins.

use std::io::BufRead;

use serde::de::IgnoredAny;

use super::{DataError, Result, RowPosition, unreadable};

/// Receives a row's line number and text. Returns false to stop.
type RowSink<'t> = dyn FnMut(usize, &[u8]) -> Result<bool> + 't;

/// Passes the text of each row to `sink`: the elements of an array if the first character is `[`, else the lines that are not
/// blank. LF, CR LF and CR end a line. Returns true for an array. `sink` checks that the texts are valid JSON.
///
/// # Errors
/// Bytes that cannot be read; an array that is incomplete, is followed by something, or lacks commas between its rows; and the
/// first error of `sink`.
pub(super) fn each_row(file: &str, text: &mut dyn BufRead, sink: &mut RowSink) -> Result<bool> {
    let mut splitter = RowSplitter { file, text, line: 1 };
    match splitter.skip_blanks()? {
        Some(b'[') => splitter.array(sink).map(|()| true),
        _ => splitter.lines(sink).map(|()| false),
    }
}

struct RowSplitter<'a> {
    file: &'a str,
    text: &'a mut dyn BufRead,
    /// The line of the next character.
    line: usize,
}

impl RowSplitter<'_> {
    fn lines(&mut self, sink: &mut RowSink) -> Result<()> {
        let mut chunk = Vec::new();
        loop {
            chunk.clear();
            let read = self.text.read_until(b'\n', &mut chunk).map_err(|e| unreadable(self.file, &e))?;
            if read == 0 {
                return Ok(());
            }
            let whole = chunk.strip_suffix(b"\n").unwrap_or(&chunk);
            let whole = whole.strip_suffix(b"\r").unwrap_or(whole);
            // A JSON text never contains a bare CR, so a CR always ends a row.
            for row in whole.split(|byte| *byte == b'\r') {
                if !row.trim_ascii().is_empty() && !sink(self.line, row)? {
                    return Ok(());
                }
                self.line += 1;
            }
        }
    }

    /// Splits the array into its elements, so that one is in memory at a time.
    fn array(&mut self, sink: &mut RowSink) -> Result<()> {
        self.text.consume(1);
        let mut element = Vec::new();
        let mut first = true;
        loop {
            match self.skip_blanks()? {
                Some(b']') => break,
                Some(b',') if !first => {
                    self.text.consume(1);
                    self.skip_blanks()?;
                }
                Some(_) if first => {}
                Some(_) => return Err(self.fault("no comma between two rows", "check the JSON array there")),
                None => return Err(self.not_closed()),
            }
            first = false;
            element.clear();
            let closed = take_element(self.text, &mut element).map_err(|e| unreadable(self.file, &e))?;
            let breaks_off = || serde_json::from_slice::<IgnoredAny>(&element).is_err_and(|error| error.is_eof());
            if !closed && breaks_off() {
                return Err(self.not_closed());
            }
            if !sink(self.line, &element)? {
                return Ok(());
            }
            self.line += count_lines(&element);
        }
        self.text.consume(1);
        match self.skip_blanks()? {
            Some(_) => Err(self.fault("something follows the JSON array", "keep one array per file, or one object per line")),
            None => Ok(()),
        }
    }

    /// The next byte that is not white space, not consumed; `None` at the end.
    fn skip_blanks(&mut self) -> Result<Option<u8>> {
        loop {
            let ahead = self.text.fill_buf().map_err(|e| unreadable(self.file, &e))?;
            let blanks = ahead.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
            self.line += count_lines(&ahead[..blanks]);
            let (next, end) = (ahead.get(blanks).copied(), ahead.is_empty());
            self.text.consume(blanks);
            if next.is_some() || end {
                return Ok(next);
            }
        }
    }

    fn not_closed(&self) -> DataError {
        self.fault("the array is not closed", "the file may be cut off; write it again")
    }

    fn fault(&self, found: &str, fix: &str) -> DataError {
        DataError::Line { file: self.file.into(), position: RowPosition::Line(self.line), found: found.into(), fix: fix.into() }
    }
}

/// Moves one element of an array from `text` to `into`: up to its closing bracket, or, for an element without brackets, up to the
/// character after it. Does not check that the element is valid JSON. Returns false if the text ends inside the element.
fn take_element(text: &mut dyn BufRead, into: &mut Vec<u8>) -> std::io::Result<bool> {
    let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
    loop {
        let ahead = text.fill_buf()?;
        if ahead.is_empty() {
            return Ok(false);
        }
        let mut end = None;
        for (at, byte) in ahead.iter().enumerate() {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = quoted,
                b'"' => quoted = !quoted,
                _ if quoted => {}
                b'{' | b'[' => depth += 1,
                b'}' | b']' if depth == 1 => {
                    end = Some(at + 1);
                    break;
                }
                b'}' | b']' if depth > 1 => depth -= 1,
                b',' | b'}' | b']' if depth == 0 && at + into.len() > 0 => {
                    end = Some(at);
                    break;
                }
                _ => {}
            }
        }
        let taken = end.unwrap_or(ahead.len());
        into.extend_from_slice(&ahead[..taken]);
        text.consume(taken);
        if end.is_some() {
            return Ok(true);
        }
    }
}

/// Replaces the words `NaN`, `Infinity` and `-Infinity`, which Python writes into JSON, by `null`. `None` where the text has
/// none.
pub(super) fn replace_nan(text: &[u8]) -> Option<Vec<u8>> {
    let mut found = false;
    let mut out = Vec::with_capacity(text.len());
    let (mut at, mut quoted) = (0, false);
    while let Some(&byte) = text.get(at) {
        let word = [&b"NaN"[..], b"Infinity", b"-Infinity"].into_iter().find(|word| !quoted && text[at..].starts_with(word));
        if let Some(word) = word {
            found = true;
            out.extend_from_slice(b"null");
            at += word.len();
            continue;
        }
        if byte == b'"' {
            quoted = !quoted;
        }
        let taken = if quoted && byte == b'\\' { 2 } else { 1 };
        let end = (at + taken).min(text.len());
        out.extend_from_slice(&text[at..end]);
        at = end;
    }
    found.then_some(out)
}

fn count_lines(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| **byte == b'\n').count()
}
