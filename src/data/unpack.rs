//! Opens and unpacks files. Every reader of data files begins here.
//!
//! gzip and zstd are recognised by their first bytes, whatever the file's name, and unpacked while reading. Both decoders are
//! pure Rust. A damaged archive is an error and never a shorter file: zstd's checksums are compared here, since the decoder only
//! computes them. Unpacking stops at a limit, since a megabyte of archive may contain gigabytes.

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

/// Bytes per read.
const BUFFER: usize = 1 << 16;

/// Copies of the rows' text in memory while they are read, in addition to the file's own: as a line, as values, as written, and
/// as a judge reads it.
const COPIES: usize = 4;

/// Bytes that any archive may unpack to.
const ALWAYS_ALLOWED: u64 = 256 << 20;

/// The ratio of unpacked to packed size that a larger archive may reach. Text compresses 3 to 30 times.
const MAX_RATIO: u64 = 100;

/// Unsupported formats by their first bytes.
const UNSUPPORTED: [(&[u8], &str, &str); 4] = [
    (b"PK\x03\x04", "a zip archive or a spreadsheet", "unpack it, or save the sheet as CSV"),
    (b"ARROW1", "an Arrow file", "save it as Parquet or JSON Lines"),
    (b"BZh", "a bzip2 archive", "unpack it first (bunzip2)"),
    (b"\xfd7zXZ\0", "an xz archive", "unpack it first (unxz)"),
];

/// The position and text of a tar archive's signature.
const TAR: (usize, &[u8]) = (257, b"ustar");

/// Whether standard input was read. It can be read only once.
static STDIN_READ: AtomicBool = AtomicBool::new(false);

/// The format of a file's rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileFormat {
    Json,
    Csv,
    /// CSV whose file name says that its delimiter is the tab.
    Tsv,
    Parquet,
}

/// An open file.
pub(super) struct OpenedFile {
    /// Its name, for messages.
    pub name: String,
    /// How it is packed: "gzip" or "zstd".
    pub packing: Option<&'static str>,
    /// The format of its rows.
    pub format: FileFormat,
    /// Its unpacked bytes. `fill_buf` returns the whole file or [`BUFFER`] bytes of it. [`unreadable`] describes its errors.
    pub bytes: Box<dyn BufRead>,
}

/// A file's name, for messages; "standard input" for `-`.
pub fn name_of(path: &Path) -> String {
    if is_stdin(path) { "standard input".into() } else { path.display().to_string() }
}

fn is_stdin(path: &Path) -> bool {
    path == Path::new("-")
}

/// Opens a file; `-` is standard input. An archive may unpack to at most `max_bytes`. `None` allows 256 MiB, or 100 times the
/// packed size if that is more.
///
/// # Errors
/// A missing file, or a folder; an archive whose beginning is damaged; an unsupported format, including an archive in an archive;
/// standard input for the second time.
pub(super) fn open(path: &Path, max_bytes: Option<u64>) -> Result<OpenedFile> {
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
    let mut plain = buffered(CountingReader { inner: plain, read: packed.clone() }, "cannot be read to its end");
    let limit = UnpackLimit { packed, max_bytes };
    let (packing, mut bytes): (_, Box<dyn BufRead>) = match packing(plain.fill_buf().map_err(|e| unreadable(&name, &e))?) {
        Some("gzip") => {
            let unpacked = LimitedReader { inner: MultiGzDecoder::new(plain), unpacked_bytes: 0, limit };
            (Some("gzip"), Box::new(buffered(unpacked, "damaged gzip archive")))
        }
        Some(zstd) => {
            let frames = ZstdReader { packed: plain, decoder: FrameDecoder::new() };
            let unpacked = LimitedReader { inner: frames, unpacked_bytes: 0, limit };
            (Some(zstd), Box::new(buffered(unpacked, "damaged zstd archive")))
        }
        None => (None, Box::new(plain)),
    };
    let start = bytes.fill_buf().map_err(|e| unreadable(&name, &e))?;
    if let Some((_, found, fix)) = UNSUPPORTED.iter().find(|(first, ..)| start.starts_with(first)) {
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
    let format = format_of(path, start);
    Ok(OpenedFile { name, packing, format, bytes })
}

/// How a file is packed, by its first bytes.
fn packing(start: &[u8]) -> Option<&'static str> {
    match start {
        [0x1f, 0x8b, ..] => Some("gzip"),
        // A data frame, or a skippable frame, with which parallel packers begin.
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Some("zstd"),
        _ => None,
    }
}

/// Whether the text begins with UTF-16's byte-order mark, or with two ASCII characters of two bytes each.
fn is_utf_16(start: &[u8]) -> bool {
    match start {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => true,
        [a, b, c, d, ..] => [a, b, c, d].map(|byte| *byte == 0) == [*a == 0, *a != 0, *a == 0, *a != 0],
        _ => false,
    }
}

/// The format of the rows: by the ending of the name, else by their beginning.
fn format_of(path: &Path, start: &[u8]) -> FileFormat {
    if start.starts_with(b"PAR1") {
        return FileFormat::Parquet;
    }
    match ending(path).as_str() {
        "parquet" => FileFormat::Parquet,
        "csv" => FileFormat::Csv,
        "tsv" => FileFormat::Tsv,
        "json" | "jsonl" | "ndjson" => FileFormat::Json,
        _ => {
            let text = start.strip_prefix("\u{feff}".as_bytes()).unwrap_or(start).trim_ascii_start();
            let brackets = text.first().is_some_and(|byte| b"{[<".contains(byte));
            let columns = delimiter_in(text).is_some() || begins_with_one_name(text);
            if !brackets && columns { FileFormat::Csv } else { FileFormat::Json }
        }
    }
}

/// Whether the first of several lines is a single name, as in a CSV with one column. A number or a word of JSON is not a name.
fn begins_with_one_name(text: &[u8]) -> bool {
    let Some(end) = text.iter().position(|byte| matches!(byte, b'\n' | b'\r')) else { return false };
    let line = text[..end].trim_ascii();
    let name = line.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")).unwrap_or(line);
    let named = name.first().is_some_and(|first| first.is_ascii_alphabetic() || *first == b'_');
    named
        && name.iter().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(byte))
        && ![&b"true"[..], b"false", b"null", b"NaN", b"Infinity"].contains(&name)
}

impl OpenedFile {
    /// Reads all its bytes.
    ///
    /// # Errors
    /// A damaged archive, or one that unpacks to too much; too little memory for the rows.
    pub fn all(mut self) -> Result<Vec<u8>> {
        let mut all = Vec::new();
        self.bytes.read_to_end(&mut all).map_err(|error| unreadable(&self.name, &error))?;
        // Allocate and free the memory that the rows will need: running out of memory later would end the process.
        let more = all.len().saturating_mul(COPIES);
        if more > BUFFER && Vec::<u8>::new().try_reserve_exact(more).is_err() {
            let found = format!("{} bytes of rows, which take {more} more while they are read: memory is short", all.len());
            let fix = "split it into smaller files, or free some memory".into();
            return Err(DataError::File { file: self.name, found, fix });
        }
        Ok(all)
    }
}

/// Parses a size such as 64GiB to bytes.
///
/// # Errors
/// A text that is not a number with a unit, or a size below a megabyte or above 1000 terabytes.
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

/// The ending of a file's name in lower case, without a final `.gz` or `.zst`.
pub(super) fn ending(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let name = name.strip_suffix(".gz").or(name.strip_suffix(".zst")).unwrap_or(&name);
    name.rsplit_once('.').map_or(String::new(), |(_, ending)| ending.to_string())
}

/// Counts the bytes of a file as they are read.
struct CountingReader<R> {
    inner: R,
    read: Rc<Cell<u64>>,
}

impl<R: Read> Read for CountingReader<R> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let read = self.inner.read(into)?;
        self.read.set(self.read.get() + read as u64);
        Ok(read)
    }
}

/// The limit on unpacked bytes.
struct UnpackLimit {
    /// Packed bytes read so far.
    packed: Rc<Cell<u64>>,
    /// The requested limit.
    max_bytes: Option<u64>,
}

/// Reads unpacked bytes and fails above the limit.
struct LimitedReader<R> {
    inner: R,
    unpacked_bytes: u64,
    limit: UnpackLimit,
}

impl<R: Read> Read for LimitedReader<R> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let read = self.inner.read(into)?;
        self.unpacked_bytes += read as u64;
        let packed = self.limit.packed.get();
        let most = self.limit.max_bytes.unwrap_or_else(|| ALWAYS_ALLOWED.max(packed.saturating_mul(MAX_RATIO)));
        if self.unpacked_bytes > most {
            let found = format!("an archive that unpacks to more than {} MiB ({} KiB of it are read)", most >> 20, packed >> 10);
            return Err(Error::new(ErrorKind::FileTooLarge, found));
        }
        Ok(read)
    }
}

/// Fills each buffer completely, even if the source (a pipe, a small block of an archive) returns little at a time. The first
/// line of a file shows its delimiter and must not be cut.
struct FullReader<R> {
    inner: R,
    /// The text that precedes an error.
    failed: &'static str,
}

fn buffered<R: Read>(inner: R, failed: &'static str) -> BufReader<FullReader<R>> {
    BufReader::with_capacity(BUFFER, FullReader { inner, failed })
}

impl<R: Read> Read for FullReader<R> {
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

/// Reads a sequence of Zstandard frames.
struct ZstdReader<R> {
    packed: R,
    decoder: FrameDecoder,
}

impl<R: BufRead> Read for ZstdReader<R> {
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

impl<R: BufRead> ZstdReader<R> {
    /// Checks the frame's checksum and begins the next frame. Returns false at the end of the file.
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

/// The error of a frame: the file ends or cannot be read, or `other`, since the decoder's own message names its internal states.
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
