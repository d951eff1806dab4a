//! The texts of JSON rows, one at a time: lines, or the elements of one array, each with the line where it begins.

use std::io::BufRead;

use serde::de::IgnoredAny;

use super::{DataError, Result, RowPosition, unreadable};

/// What a row's line and text are handed to; false ends the reading.
type Take<'t> = dyn FnMut(usize, &[u8]) -> Result<bool> + 't;

/// Hands on the text of each row: the elements of an array where the first character is `[`, else the lines that are not
/// blank. LF, CR LF and CR end a line. True for an array. Whether a text is sound JSON is for `take` to say.
///
/// # Errors
/// Bytes that cannot be read; an array that breaks off, that something follows, or whose rows have no comma between them;
/// and the first error of `take`.
pub(super) fn each_row(file: &str, text: &mut dyn BufRead, take: &mut Take) -> Result<bool> {
    let mut texts = Texts { file, text, line: 1 };
    match texts.skip_blanks()? {
        Some(b'[') => texts.array(take).map(|()| true),
        _ => texts.lines(take).map(|()| false),
    }
}

struct Texts<'a> {
    file: &'a str,
    text: &'a mut dyn BufRead,
    /// The line of what comes next.
    line: usize,
}

impl Texts<'_> {
    fn lines(&mut self, take: &mut Take) -> Result<()> {
        let mut chunk = Vec::new();
        loop {
            chunk.clear();
            let read = self.text.read_until(b'\n', &mut chunk).map_err(|e| unreadable(self.file, &e))?;
            if read == 0 {
                return Ok(());
            }
            let whole = chunk.strip_suffix(b"\n").unwrap_or(&chunk);
            let whole = whole.strip_suffix(b"\r").unwrap_or(whole);
            // No text of JSON holds a bare CR, so that it can only end a row.
            for row in whole.split(|byte| *byte == b'\r') {
                if !row.trim_ascii().is_empty() && !take(self.line, row)? {
                    return Ok(());
                }
                self.line += 1;
            }
        }
    }

    /// Cuts the array into its elements, so that one is in memory at a time.
    fn array(&mut self, take: &mut Take) -> Result<()> {
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
                None => return Err(self.open()),
            }
            first = false;
            element.clear();
            let closed = take_element(self.text, &mut element).map_err(|e| unreadable(self.file, &e))?;
            let breaks_off = || serde_json::from_slice::<IgnoredAny>(&element).is_err_and(|error| error.is_eof());
            if !closed && breaks_off() {
                return Err(self.open());
            }
            if !take(self.line, &element)? {
                return Ok(());
            }
            self.line += count_lines(&element);
        }
        self.text.consume(1);
        match self.skip_blanks()? {
            Some(_) => Err(self.fault("something follows the JSON array", "keep one array a file, or one object a line")),
            None => Ok(()),
        }
    }

    /// The next byte that is no blank, not consumed; `None` at the end.
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

    fn open(&self) -> DataError {
        self.fault("the array is not closed", "the file may be cut off; write it again")
    }

    fn fault(&self, found: &str, fix: &str) -> DataError {
        DataError::Line { file: self.file.into(), place: RowPosition::Line(self.line), found: found.into(), fix: fix.into() }
    }
}

/// Moves one element of an array from `text` to `into`: up to the bracket that closes it, or, if it is none that has one, up
/// to what stands behind it. Whether it is sound JSON is not looked at. False where the text ends inside of it.
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

/// The words `NaN`, `Infinity` and `-Infinity`, which Python writes into JSON, replaced by `null`; `None` where there is none.
pub(super) fn without_nan(text: &[u8]) -> Option<Vec<u8>> {
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
