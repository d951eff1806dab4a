//! Files as they lie on the disk, opened and unpacked: what every reading of a file begins with.
//!
//! gzip and zstd are known by their first bytes, whatever the file is called, and unpacked as they are read. Both decoders are
//! pure Rust. A damaged archive is an error of the reading, and never a shorter file: zstd's checksums are compared here,
//! since the decoder only computes them.

use std::fs::File;
use std::io::{BufRead, BufReader, Error, ErrorKind, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

use super::{DataError, Result};

/// Bytes that are read at a time.
const BUFFER: usize = 1 << 16;

/// Files of other kinds, by their first bytes.
const OTHERS: [(&[u8], &str, &str); 3] = [
    (b"PK\x03\x04", "a zip archive or a spreadsheet", "unpack it, or save the sheet as CSV"),
    (b"ARROW1", "an Arrow file", "save it as Parquet or JSON Lines"),
    (b"BZh", "a bzip2 archive", "unpack it first (bunzip2)"),
];

/// A file that is open.
pub(super) struct Opened {
    /// What it was packed with: "gzip" or "zstd".
    pub packing: Option<&'static str>,
    /// Whether it is Parquet, by its first bytes or its ending.
    pub parquet: bool,
    /// The ending of its name: see [`ending`].
    pub ending: String,
    /// Its bytes, unpacked. `fill_buf` shows the whole file or [`BUFFER`] of it. Errors are said by [`unreadable`].
    pub bytes: Box<dyn BufRead>,
}

/// Opens a file.
///
/// # Errors
/// No such file, or a folder; a damaged archive, as far as its beginning shows it; a kind of file that is not read.
pub(super) fn open(path: &Path) -> Result<Opened> {
    let name = path.display().to_string();
    let fault = |found: &str, fix: &str| DataError::File { file: name.clone(), found: found.into(), fix: fix.into() };
    let plain = File::open(path)
        .and_then(|f| if f.metadata()?.is_dir() { Err(ErrorKind::IsADirectory.into()) } else { Ok(f) })
        .map_err(|error| fault(&error.to_string(), "check the path"))?;
    let mut plain = buffered(plain, "cannot be read to its end");
    let (packing, mut bytes): (_, Box<dyn BufRead>) = match plain.fill_buf().map_err(|e| unreadable(&name, &e))? {
        [0x1f, 0x8b, ..] => (Some("gzip"), Box::new(buffered(MultiGzDecoder::new(plain), "damaged gzip archive"))),
        // A frame of data, or one to skip, with which parallel packers begin.
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
            let frames = Zstd { packed: plain, decoder: FrameDecoder::new() };
            (Some("zstd"), Box::new(buffered(frames, "damaged zstd archive")))
        }
        _ => (None, Box::new(plain)),
    };
    let start = bytes.fill_buf().map_err(|e| unreadable(&name, &e))?;
    if let Some((_, found, fix)) = OTHERS.iter().find(|(first, ..)| start.starts_with(first)) {
        return Err(fault(found, fix));
    }
    let ending = ending(path);
    let parquet = start.starts_with(b"PAR1") || ending == "parquet";
    Ok(Opened { packing, parquet, ending, bytes })
}

impl Opened {
    /// All its bytes.
    ///
    /// # Errors
    /// A damaged archive.
    pub fn all(mut self, name: &str) -> Result<Vec<u8>> {
        let mut all = Vec::new();
        self.bytes.read_to_end(&mut all).map_err(|error| unreadable(name, &error))?;
        Ok(all)
    }
}

/// What is said of a file whose bytes do not come.
pub(super) fn unreadable(name: &str, error: &Error) -> DataError {
    let fix =
        if error.kind() == ErrorKind::Unsupported { "unpack it first (zstd -d)" } else { "copy or download the file again" };
    DataError::File { file: name.into(), found: error.to_string(), fix: fix.into() }
}

/// The ending of a file's name in small letters, behind which `.gz` or `.zst` may stand.
pub(super) fn ending(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let name = name.strip_suffix(".gz").or(name.strip_suffix(".zst")).unwrap_or(&name);
    name.rsplit_once('.').map_or(String::new(), |(_, ending)| ending.to_string())
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
                Err(error) if error.kind() == ErrorKind::Unsupported => return Err(error),
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
