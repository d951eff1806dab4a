//! The character between the cells of CSV and TSV.

use super::unpack::Kind;

/// The character between cells. In CSV it is what stands most often in the header outside of quotes, commas first. A TSV has
/// tabs, unless its header has none and others in their place.
pub(super) fn delimiter(kind: Kind, text: &[u8]) -> u8 {
    match kind {
        Kind::Tsv if counts(text)[TAB] > 0 => b'\t',
        Kind::Tsv => delimiter_in(text).unwrap_or(b'\t'),
        _ => delimiter_in(text).unwrap_or(b','),
    }
}

/// The delimiter that stands most often in the header outside of quotes; `None` where the header has none.
pub(super) fn delimiter_in(text: &[u8]) -> Option<u8> {
    let (count, delimiter) = counts(text).into_iter().zip(DELIMITERS).max_by_key(|(count, _)| *count)?;
    (count > 0).then_some(delimiter)
}

/// How often each delimiter stands in the header outside of quotes. A quote that is never closed is a character like any other.
fn counts(text: &[u8]) -> [usize; 3] {
    counts_outside_quotes(text).unwrap_or_else(|| {
        let line = text.split(|byte| matches!(byte, b'\n' | b'\r')).next().unwrap_or_default();
        DELIMITERS.map(|delimiter| line.iter().filter(|byte| **byte == delimiter).count())
    })
}

/// What may stand between cells; of those that stand equally often, the last.
const DELIMITERS: [u8; 3] = [b'\t', b';', b','];
/// The place of the tab among them.
const TAB: usize = 0;

/// How often each delimiter stands in the first record outside of quotes; `None` where a quote is not closed.
fn counts_outside_quotes(text: &[u8]) -> Option<[usize; 3]> {
    let mut counts = [0; 3];
    let mut quoted = false;
    for byte in text {
        match byte {
            b'"' => quoted = !quoted,
            b'\n' | b'\r' if !quoted => return Some(counts),
            byte if !quoted => DELIMITERS.iter().zip(&mut counts).for_each(|(d, count)| *count += usize::from(d == byte)),
            _ => {}
        }
    }
    (!quoted).then_some(counts)
}
