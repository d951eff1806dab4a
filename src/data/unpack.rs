//! Files as they lie on the disk, opened and unpacked: what every reading of a file begins with.
//!
//! gzip and zstd are known by their first bytes, whatever the file is called, and unpacked as they are read. Both decoders are
//! pure Rust. A damaged archive is an error of the reading, and never a shorter file: zstd's checksums are compared here,
//! since the decoder only computes them. Unpacking ends at a limit, since a megabyte of archive may hold gigabytes.

use std::cell::Cell;
use std::fs::File;
use std::io::{BufRead, BufReader, Error, ErrorKind, Read};
use std::path::Path;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};

use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

use super::delimiter::delimiter_in;
use super::{DataError, Result, unreadable};

/// Bytes that are read at a time.
const BUFFER: usize = 1 << 16;

/// How often the text of rows is in memory while they are read, beside the file's own: as a line, as values, as written, and as
/// what a judge reads of it.
const COPIES: usize = 4;

/// Bytes that any archive may unpack to.
const ANY: u64 = 256 << 20;

/// How many times its own size a larger archive may unpack to. Text packs 3 to 30 times as small.
const TIMES: u64 = 100;

/// Files of other kinds, by their first bytes.
const OTHERS: [(&[u8], &str, &str); 4] = [
    (b"PK\x03\x04", "a zip archive or a spreadsheet", "unpack it, or save the sheet as CSV"),
    (b"ARROW1", "an Arrow file", "save it as Parquet or JSON Lines"),
    (b"BZh", "a bzip2 archive", "unpack it first (bunzip2)"),
    (b"\xfd7zXZ\0", "an xz archive", "unpack it first (unxz)"),
];

/// Where a tar archive says that it is one.
const TAR: (usize, &[u8]) = (257, b"ustar");

/// Whether standard input was read: its bytes come once.
static STDIN_READ: AtomicBool = AtomicBool::new(false);

/// How the rows of a file are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Json,
    Csv,
    /// CSV whose name says that tabs stand between cells.
    Tsv,
    Parquet,
}

/// A file that is open.
pub(super) struct Opened {
    /// Its name, for messages.
    pub name: String,
    /// What it was packed with: "gzip" or "zstd".
    pub packing: Option<&'static str>,
    /// How its rows are written.
    pub kind: Kind,
    /// Its bytes, unpacked. `fill_buf` shows the whole file or [`BUFFER`] of it. Errors are said by [`unreadable`].
    pub bytes: Box<dyn BufRead>,
}

/// A file's name, for messages; of `-` that it is standard input.
pub fn name_of(path: &Path) -> String {
    if is_stdin(path) { "standard input".into() } else { path.display().to_string() }
}

fn is_stdin(path: &Path) -> bool {
    path == Path::new("-")
}

/// Opens a file; `-` is standard input. An archive unpacks to at most `most` bytes; `None` allows 256 MiB, and more as long
/// as it is no more than 100 times its packed size.
///
/// # Errors
/// No such file, or a folder; a damaged archive, as far as its beginning shows it; a kind of file that is not read, an archive
/// in an archive among them; standard input for the second time.
pub(super) fn open(path: &Path, most: Option<u64>) -> Result<Opened> {
    let name = name_of(path);
    let fault = |found: &str, fix: &str| DataError::File { file: name.clone(), found: found.into(), fix: fix.into() };
    let plain: Box<dyn Read> = if is_stdin(path) {
        if STDIN_READ.swap(true, Ordering::Relaxed) {
            return Err(fault("it was read already", "save it to a file where it is to be read twice"));
        }
        Box::new(std::io::stdin())
    } else {
        let file = File::open(path)
            .and_then(|f| if f.metadata()?.is_dir() { Err(ErrorKind::IsADirectory.into()) } else { Ok(f) })
            .map_err(|error| fault(&error.to_string(), "check the path"))?;
        Box::new(file)
    };
    let packed = Rc::new(Cell::new(0));
    let mut plain = buffered(Counted { inner: plain, read: packed.clone() }, "cannot be read to its end");
    let limit = Limit { packed, most };
    let (packing, mut bytes): (_, Box<dyn BufRead>) = match packing(plain.fill_buf().map_err(|e| unreadable(&name, &e))?) {
        Some("gzip") => {
            let unpacked = Limited { inner: MultiGzDecoder::new(plain), given: 0, limit };
            (Some("gzip"), Box::new(buffered(unpacked, "damaged gzip archive")))
        }
        Some(zstd) => {
            let frames = Zstd { packed: plain, decoder: FrameDecoder::new() };
            let unpacked = Limited { inner: frames, given: 0, limit };
            (Some(zstd), Box::new(buffered(unpacked, "damaged zstd archive")))
        }
        None => (None, Box::new(plain)),
    };
    let start = bytes.fill_buf().map_err(|e| unreadable(&name, &e))?;
    if let Some((_, found, fix)) = OTHERS.iter().find(|(first, ..)| start.starts_with(first)) {
        return Err(fault(found, fix));
    }
    if is_utf_16(start) {
        return Err(fault("UTF-16 text", "save it as UTF-8"));
    }
    if start.get(TAR.0..).is_some_and(|rest| rest.starts_with(TAR.1)) {
        return Err(fault("a tar archive", "unpack it first (tar -xf), and name a file or the folder"));
    }
    if let (Some(outer), Some(inner)) = (packing, self::packing(start)) {
        return Err(fault(&format!("a {inner} archive inside of a {outer} archive"), "unpack it first"));
    }
    let kind = kind(path, start);
    Ok(Opened { name, packing, kind, bytes })
}

/// What bytes that begin so are packed with.
fn packing(start: &[u8]) -> Option<&'static str> {
    match start {
        [0x1f, 0x8b, ..] => Some("gzip"),
        // A frame of data, or one to skip, with which parallel packers begin.
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Some("zstd"),
        _ => None,
    }
}

/// Whether text begins with UTF-16's byte-order mark, or with two ASCII characters that are two bytes each.
fn is_utf_16(start: &[u8]) -> bool {
    match start {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => true,
        [a, b, c, d, ..] => [a, b, c, d].map(|byte| *byte == 0) == [*a == 0, *a != 0, *a == 0, *a != 0],
        _ => false,
    }
}

/// How the rows are written, by the ending of the name, and where that says nothing by how they begin.
fn kind(path: &Path, start: &[u8]) -> Kind {
    if start.starts_with(b"PAR1") {
        return Kind::Parquet;
    }
    match ending(path).as_str() {
        "parquet" => Kind::Parquet,
        "csv" => Kind::Csv,
        "tsv" => Kind::Tsv,
        "json" | "jsonl" | "ndjson" => Kind::Json,
        _ => {
            let text = start.strip_prefix("\u{feff}".as_bytes()).unwrap_or(start).trim_ascii_start();
            let object = text.first().is_some_and(|byte| b"{[<".contains(byte));
            let columns = delimiter_in(text).is_some() || begins_with_one_name(text);
            if !object && columns { Kind::Csv } else { Kind::Json }
        }
    }
}

/// Whether the first of several lines is one name, as that of a CSV with one column. A number or a word of JSON is none.
fn begins_with_one_name(text: &[u8]) -> bool {
    let Some(end) = text.iter().position(|byte| matches!(byte, b'\n' | b'\r')) else { return false };
    let line = text[..end].trim_ascii();
    let name = line.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")).unwrap_or(line);
    let named = name.first().is_some_and(|first| first.is_ascii_alphabetic() || *first == b'_');
    named
        && name.iter().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(byte))
        && ![&b"true"[..], b"false", b"null", b"NaN", b"Infinity"].contains(&name)
}

impl Opened {
    /// All its bytes.
    ///
    /// # Errors
    /// A damaged archive, or one that unpacks to too much; one whose rows there is no memory for.
    pub fn all(mut self) -> Result<Vec<u8>> {
        let mut all = Vec::new();
        self.bytes.read_to_end(&mut all).map_err(|error| unreadable(&self.name, &error))?;
        // Asked for and given back: where rows are made, memory that is not there would end the process.
        let more = all.len().saturating_mul(COPIES);
        if more > BUFFER && Vec::<u8>::new().try_reserve_exact(more).is_err() {
            let found = format!("{} bytes of rows, which take {more} more while they are read: memory is short", all.len());
            let fix = "split it into smaller files, or free some memory".into();
            return Err(DataError::File { file: self.name, found, fix });
        }
        Ok(all)
    }
}

/// A size such as 64GiB, in bytes.
///
/// # Errors
/// No number with a unit, or one below a megabyte or above 1000 terabytes.
pub fn byte_size(text: &str) -> std::result::Result<u64, String> {
    let expected =
        || format!("`{text}` is no size; expected a number and a unit (MB, MiB, GB, GiB) from 1MB to 1000000GB, such as 24GiB");
    let units = [("gib", 30), ("mib", 20)].map(|(unit, bits)| (unit, (1u64 << bits) as f64));
    let lower = text.to_lowercase();
    let (number, bytes) = units
        .into_iter()
        .chain([("gb", 1e9), ("mb", 1e6)])
        .find_map(|(unit, bytes)| Some((lower.strip_suffix(unit)?, bytes)))
        .ok_or_else(expected)?;
    let size = number.trim().parse::<f64>().map_err(|_| expected())? * bytes;
    if (1e6..1e15).contains(&size) { Ok(size as u64) } else { Err(expected()) }
}

/// The ending of a file's name in small letters, behind which `.gz` or `.zst` may stand.
pub(super) fn ending(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let name = name.strip_suffix(".gz").or(name.strip_suffix(".zst")).unwrap_or(&name);
    name.rsplit_once('.').map_or(String::new(), |(_, ending)| ending.to_string())
}

/// Counts the bytes of a file as they are read.
struct Counted<R> {
    inner: R,
    read: Rc<Cell<u64>>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let read = self.inner.read(into)?;
        self.read.set(self.read.get() + read as u64);
        Ok(read)
    }
}

/// How much may be unpacked.
struct Limit {
    /// Packed bytes that were read so far.
    packed: Rc<Cell<u64>>,
    /// What was asked for.
    most: Option<u64>,
}

/// Unpacked bytes up to a limit, behind which there is an error.
struct Limited<R> {
    inner: R,
    given: u64,
    limit: Limit,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let read = self.inner.read(into)?;
        self.given += read as u64;
        let packed = self.limit.packed.get();
        let most = self.limit.most.unwrap_or_else(|| ANY.max(packed.saturating_mul(TIMES)));
        if self.given > most {
            let found = format!("an archive that unpacks to more than {} MiB ({} KiB of it are read)", most >> 20, packed >> 10);
            return Err(Error::new(ErrorKind::FileTooLarge, found));
        }
        Ok(read)
    }
}

/// Fills a buffer to its end, however little comes at once (from a pipe, from a small block of an archive): the first line of
/// a file tells the delimiter of its columns, and must not be cut.
struct Filling<R> {
    inner: R,
    /// What an error is called.
    failed: &'static str,
}

fn buffered<R: Read>(inner: R, failed: &'static str) -> BufReader<Filling<R>> {
    BufReader::with_capacity(BUFFER, Filling { inner, failed })
}

impl<R: Read> Read for Filling<R> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let mut filled = 0;
        while filled < into.len() {
            match self.inner.read(&mut into[filled..]) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::FileTooLarge) => return Err(error),
                Err(error) => return Err(Error::new(error.kind(), format!("{} ({error})", self.failed))),
            }
        }
        Ok(filled)
    }
}

/// Zstandard's frames, one behind another.
struct Zstd<R> {
    packed: R,
    decoder: FrameDecoder,
}

impl<R: BufRead> Read for Zstd<R> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        loop {
            let read = self.decoder.read(into)?;
            if read > 0 || into.is_empty() {
                return Ok(read);
            }
            if !self.decoder.is_finished() {
                let one = BlockDecodingStrategy::UptoBlocks(1);
                self.decoder.decode_blocks(&mut self.packed, one).map_err(|e| damage(&e, "a block cannot be decoded"))?;
            } else if !self.next_frame()? {
                return Ok(0);
            }
        }
    }
}

impl<R: BufRead> Zstd<R> {
    /// Ends a frame and begins another; false at the end of the file.
    fn next_frame(&mut self) -> std::io::Result<bool> {
        let stored = self.decoder.get_checksum_from_data();
        if stored.is_some() && stored != self.decoder.get_calculated_checksum() {
            return Err(Error::other("the checksum is another"));
        }
        if self.packed.fill_buf()?.is_empty() {
            return Ok(false);
        }
        match self.decoder.reset(&mut self.packed) {
            Ok(()) => Ok(true),
            Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame { length, .. })) => {
                let length = u64::from(length);
                let skipped = std::io::copy(&mut self.packed.by_ref().take(length), &mut std::io::sink())?;
                if skipped == length { Ok(true) } else { Err(Error::other("it ends too early")) }
            }
            Err(FrameDecoderError::WindowSizeTooBig { requested, max }) => {
                let found = format!("a zstd archive with a window of {} MiB, more than {} MiB", requested >> 20, max >> 20);
                Err(Error::new(ErrorKind::Unsupported, found))
            }
            Err(FrameDecoderError::DictNotProvided { .. }) => {
                Err(Error::new(ErrorKind::Unsupported, "a zstd archive that needs a dictionary"))
            }
            Err(error) => Err(damage(&error, "what should be a frame is none")),
        }
    }
}

/// Why a frame does not go on: since the file ends or cannot be read, or for `other` reasons, which the decoder tells in the
/// words of its own states.
fn damage(error: &FrameDecoderError, other: &str) -> Error {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        match error.downcast_ref::<Error>() {
            Some(reading) if reading.kind() == ErrorKind::UnexpectedEof => return Error::other("it ends too early"),
            Some(reading) => return Error::new(reading.kind(), reading.to_string()),
            None => cause = error.source(),
        }
    }
    Error::other(other)
}
