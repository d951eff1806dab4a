//! The character between the cells of CSV and TSV.

use super::unpack::FileFormat;

/// The delimiter of a file. In CSV it is the one that occurs most often in the header outside of quotes; a comma wins a tie. In
/// TSV it is the tab, unless the header has no tab and another delimiter.
pub(super) fn delimiter(kind: FileFormat, text: &[u8]) -> u8 {
    match kind {
        FileFormat::Tsv if counts(text)[TAB] > 0 => b'\t',
        FileFormat::Tsv => delimiter_in(text).unwrap_or(b'\t'),
        _ => delimiter_in(text).unwrap_or(b','),
    }
}

/// The delimiter that occurs most often in the header outside of quotes; `None` where the header has none.
pub(super) fn delimiter_in(text: &[u8]) -> Option<u8> {
    let (count, delimiter) = counts(text).into_iter().zip(DELIMITERS).max_by_key(|(count, _)| *count)?;
    (count > 0).then_some(delimiter)
}

/// How often each delimiter occurs in the header outside of quotes. A quote that is never closed counts as an ordinary character.
fn counts(text: &[u8]) -> [usize; 3] {
    counts_outside_quotes(text).unwrap_or_else(|| {
        let line = text.split(|byte| matches!(byte, b'\n' | b'\r')).next().unwrap_or_default();
        DELIMITERS.map(|delimiter| line.iter().filter(|byte| **byte == delimiter).count())
    })
}

/// The known delimiters. In a tie the last one wins.
const DELIMITERS: [u8; 3] = [b'\t', b';', b','];
/// The index of the tab in [`DELIMITERS`].
const TAB: usize = 0;

/// How often each delimiter occurs in the first record outside of quotes; `None` where a quote is not closed.
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
