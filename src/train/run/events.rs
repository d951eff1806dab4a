//! The log as TensorBoard reads it: an event file of scalars, under the tags that transformers uses (`train/loss`,
//! `eval/pearson`).
//!
//! An event file is a list of records, each of which is an event in the encoding of protocol buffers:
//!
//! ```text
//! record   length u64 | masked CRC of the length u32 | event | masked CRC of the event u32        (little endian)
//! event    1 wall_time double | 2 step int64 | 3 file_version string | 5 summary | 10 source_metadata { 1 writer string }
//! summary  1 value { 1 tag string | 2 simple_value float }, once for each scalar
//! ```
//!
//! The CRC is CRC-32C (Castagnoli), masked as ((crc >> 15) | (crc << 17)) + 0xa282ead8. The kept crates that write such files
//! depend on images or on a framework of protocol buffers; six fields do not need one.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use super::log::Metrics;
use crate::files::FileError;
use crate::train::TrainError;
use crate::train::error::io_error;

/// The file in an output folder. TensorBoard looks for `tfevents` in names.
pub const EVENTS: &str = "events.out.tfevents.jurist";

/// What each file begins with, as TensorFlow's own do.
const VERSION: &str = "brain.Event:2";
/// The writer that the first event names.
const WRITER: &str = "jurist.train";

/// The event file of a run, open for appending.
#[derive(Debug)]
pub struct EventFile {
    file: File,
    bytes: u64,
}

impl EventFile {
    /// Opens the file in `output` and truncates it to `bytes` (0 for a new run). The second value is a warning if the file is
    /// shorter than that.
    ///
    /// # Errors
    /// A file of that name that no run wrote; one that cannot be written.
    pub fn open(output: &Path, bytes: u64, wall_time: f64) -> Result<(Self, Option<String>), TrainError> {
        let path = output.join(EVENTS);
        if path.exists() && !is_ours(&path) {
            let problem = "no run wrote it, and this one would overwrite it; move it away";
            return Err(FileError::in_the_way(path, problem).into());
        }
        let failed = |e| io_error("open", &path, e);
        let mut file = OpenOptions::new().create(true).read(true).write(true).truncate(false).open(&path).map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len();
        let warning = (length < bytes).then(|| {
            let name = path.display();
            format!("{name} has {length} bytes and had {bytes} when the checkpoint was written: earlier steps are not in it")
        });
        // A part of a record would hide all that follows it.
        let kept = if length < bytes { 0 } else { bytes };
        file.set_len(kept).map_err(failed)?;
        file.seek(SeekFrom::Start(kept)).map_err(failed)?;
        let mut events = EventFile { file, bytes: kept };
        if kept == 0 {
            events.append(&version(wall_time)).map_err(failed)?;
        }
        Ok((events, warning))
    }

    /// Writes the numbers of a line of the log.
    pub fn write(&mut self, line: &Metrics, wall_time: f64) -> io::Result<()> {
        let scalars = scalars(line);
        let step = line.get("step").unwrap_or_default() as u64;
        self.append(&summary(wall_time, step, &scalars))
    }

    /// Bytes in the file.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Flushes the file to the disk.
    pub fn sync(&self, output: &Path) -> Result<(), TrainError> {
        self.file.sync_all().map_err(|e| io_error("sync", &output.join(EVENTS), e))
    }

    fn append(&mut self, event: &[u8]) -> io::Result<()> {
        let record = record(event);
        self.file.write_all(&record)?;
        self.bytes += record.len() as u64;
        self.file.flush()
    }
}

/// Whether a file begins as the event files of runs do.
pub fn is_ours(path: &Path) -> bool {
    let first = record(&version(0.0));
    let mut start = vec![0; first.len()];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut start));
    // An empty file is one whose first event was not written.
    let is_empty = || std::fs::metadata(path).is_ok_and(|about| about.len() == 0);
    // Up to the time, and after it, without the CRC.
    let (time, end) = (13..21, first.len() - 4);
    (read.is_ok() && start[..time.start] == first[..time.start] && start[time.end..end] == first[time.end..end]) || is_empty()
}

/// The tags and values of a line, with the prefixes of transformers: `eval/` for what an evaluation measures, else `train/`.
fn scalars(line: &Metrics) -> Vec<(String, f32)> {
    let is_evaluation = line.names().any(|name| name.starts_with("eval_"));
    let tag = |name: &str| match name.strip_prefix("eval_") {
        Some(name) => Some(format!("eval/{name}")),
        None if name == "step" || is_evaluation => None,
        None => Some(format!("train/{name}")),
    };
    line.names().filter_map(|name| Some((tag(name)?, line.get(name)? as f32))).collect()
}

/// The first event of a file.
fn version(wall_time: f64) -> Vec<u8> {
    let mut event = time(wall_time);
    text(&mut event, 3, VERSION.as_bytes());
    let mut source = Vec::new();
    text(&mut source, 1, WRITER.as_bytes());
    text(&mut event, 10, &source);
    event
}

/// An event with scalars.
fn summary(wall_time: f64, step: u64, scalars: &[(String, f32)]) -> Vec<u8> {
    let mut event = time(wall_time);
    // The default of a field is not written.
    if step > 0 {
        key(&mut event, 2, VARINT);
        varint(&mut event, step);
    }
    let mut values = Vec::new();
    for (tag, scalar) in scalars {
        let mut value = Vec::new();
        text(&mut value, 1, tag.as_bytes());
        key(&mut value, 2, FIXED_32);
        value.extend(scalar.to_le_bytes());
        text(&mut values, 1, &value);
    }
    text(&mut event, 5, &values);
    event
}

/// The field of the time.
fn time(wall_time: f64) -> Vec<u8> {
    let mut event = Vec::new();
    key(&mut event, 1, FIXED_64);
    event.extend(wall_time.to_le_bytes());
    event
}

/// Wire types of protocol buffers.
const VARINT: u64 = 0;
const FIXED_64: u64 = 1;
const DELIMITED: u64 = 2;
const FIXED_32: u64 = 5;

fn key(bytes: &mut Vec<u8>, field: u64, wire_type: u64) {
    varint(bytes, field << 3 | wire_type);
}

/// Seven bits a byte, the lowest first; all bytes but the last have the highest bit.
fn varint(bytes: &mut Vec<u8>, mut number: u64) {
    while number > 0x7f {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

/// A string, bytes or a message, after its length.
fn text(bytes: &mut Vec<u8>, field: u64, content: &[u8]) {
    key(bytes, field, DELIMITED);
    varint(bytes, content.len() as u64);
    bytes.extend(content);
}

/// An event as a record.
fn record(event: &[u8]) -> Vec<u8> {
    let length = (event.len() as u64).to_le_bytes();
    [&length[..], &masked_crc(&length).to_le_bytes(), event, &masked_crc(event).to_le_bytes()].concat()
}

fn masked_crc(bytes: &[u8]) -> u32 {
    crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C of every byte.
const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let (mut crc, mut bit) = (byte as u32, 0);
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| (crc >> 8) ^ TABLE[((crc ^ u32::from(*byte)) & 0xff) as usize])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The events of [`EXPECTED`], which TensorBoard 2.21's own writer wrote.
    #[test]
    fn records_are_those_of_tensorboard() {
        // The check value of CRC-32C.
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        let dir = tempfile::tempdir().unwrap();
        let (mut events, warning) = EventFile::open(dir.path(), 0, 1_700_000_000.25).unwrap();
        assert_eq!(warning, None);
        let step = Metrics::at(1, 0.5).with("loss", 2.25).with("grad_norm", f64::NAN).with("rewards/mean", -0.125);
        events.write(&step, 1_700_000_001.5).unwrap();
        events.write(&Metrics::at(300, 1.0).with("eval_loss", 0.0).with("eval_judge/score_mass", 1.0), 1_700_000_002.0).unwrap();
        let written = std::fs::read(dir.path().join(EVENTS)).unwrap();
        assert_eq!(written, include_bytes!("testdata/events.tfevents"));
        assert_eq!(events.bytes(), written.len() as u64);
    }

    #[test]
    fn a_resumed_run_goes_on_where_its_checkpoint_was() {
        let dir = tempfile::tempdir().unwrap();
        let line = |step: u64| Metrics::at(step, 0.5).with("loss", step as f64);
        let (mut events, _) = EventFile::open(dir.path(), 0, 5.0).unwrap();
        events.write(&line(1), 6.0).unwrap();
        let at_checkpoint = events.bytes();
        events.write(&line(2), 7.0).unwrap();
        let whole = std::fs::read(dir.path().join(EVENTS)).unwrap();
        // Killed within a record, and resumed.
        std::fs::write(dir.path().join(EVENTS), &whole[..whole.len() - 3]).unwrap();
        let (mut events, warning) = EventFile::open(dir.path(), at_checkpoint, 8.0).unwrap();
        assert_eq!(warning, None);
        events.write(&line(2), 7.0).unwrap();
        assert_eq!(std::fs::read(dir.path().join(EVENTS)).unwrap(), whole);
        // A file that lost steps begins anew.
        std::fs::write(dir.path().join(EVENTS), &whole[..60]).unwrap();
        let (events, warning) = EventFile::open(dir.path(), at_checkpoint, 8.0).unwrap();
        assert!(warning.unwrap().contains("earlier steps are not in it") && events.bytes() < at_checkpoint);
        std::fs::write(dir.path().join(EVENTS), "my own notes, which are long enough to be mistaken for a record of events")
            .unwrap();
        let refused = EventFile::open(dir.path(), 0, 1.0).unwrap_err().to_string();
        assert!(refused.contains("no run wrote it"), "{refused}");
    }
}
