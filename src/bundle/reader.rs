//! Reads tensors from a stream of bytes: a safetensors file as a download delivers it, in chunks of any size.
//!
//! Only the header is kept, and the beginning of a word or an element that a chunk has cut.

use safetensors::Dtype as Stored;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::model::error::ModelError;

/// The most bytes of a header. Headers of bundles have about a hundred bytes per tensor.
const MAX_HEADER_BYTES: u64 = 16 << 20;

/// Some elements of a tensor, as stored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TensorChunk<'a> {
    pub tensor: &'a str,
    /// The shape of the whole tensor in this file.
    pub shape: &'a [usize],
    pub dtype: Stored,
    /// The index of the first element in `bytes`.
    pub start: usize,
    /// Whole elements, and whole words of 4 bytes where the tensor consists of such words.
    pub bytes: &'a [u8],
}

/// Reads one shard.
pub struct ShardReader {
    file: String,
    /// The bytes of the file, and the bytes received so far.
    length: u64,
    received: u64,
    /// The beginning of the header, or of an element that was cut.
    pending: Vec<u8>,
    entries: Option<std::vec::IntoIter<HeaderEntry>>,
    current: Option<HeaderEntry>,
    /// Bytes of the current tensor that were passed on.
    passed_on: u64,
}

/// A tensor as the header describes it.
struct HeaderEntry {
    name: String,
    shape: Vec<usize>,
    dtype: Stored,
    width: usize,
    /// The bytes that stay together: an element, or a word.
    unit: usize,
    bytes: u64,
}

#[derive(Deserialize)]
struct RawHeaderEntry {
    dtype: Stored,
    shape: Vec<usize>,
    data_offsets: (u64, u64),
}

impl ShardReader {
    /// A reader of `file`, which has `length` bytes.
    pub fn new(file: &str, length: u64) -> Self {
        ShardReader { file: file.into(), length, received: 0, pending: Vec::new(), entries: None, current: None, passed_on: 0 }
    }

    /// Takes the next bytes of the file and passes complete elements to `sink`. All chunks of a tensor come before those of the
    /// next tensor.
    ///
    /// # Errors
    /// A file that is not a safetensors file or is longer than it should be; an error of `sink`.
    pub fn push<E: From<ModelError>>(
        &mut self,
        mut bytes: &[u8],
        mut sink: impl FnMut(TensorChunk) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.received + bytes.len() as u64 > self.length {
            return Err(self.damaged(format!("more than its {} bytes came", self.length)).into());
        }
        self.received += bytes.len() as u64;
        if self.entries.is_none() {
            let Some(rest) = self.header(bytes)? else { return Ok(()) };
            bytes = rest;
        }
        while !bytes.is_empty() {
            let Some(entry) = &self.current else {
                return Err(self.damaged("it goes on behind its last tensor".into()).into());
            };
            let unit = entry.unit;
            if !self.pending.is_empty() || bytes.len() < unit {
                let (head, tail) = bytes.split_at((unit - self.pending.len()).min(bytes.len()));
                self.pending.extend_from_slice(head);
                bytes = tail;
                if self.pending.len() == unit {
                    let element = std::mem::take(&mut self.pending);
                    self.pass_on(&element, &mut sink)?;
                }
                continue;
            }
            let left = entry.bytes - self.passed_on;
            let whole = (left.min(bytes.len() as u64) as usize) / unit * unit;
            let (head, tail) = bytes.split_at(whole);
            self.pass_on(head, &mut sink)?;
            bytes = tail;
        }
        Ok(())
    }

    /// Checks that the file is complete.
    ///
    /// # Errors
    /// Missing bytes.
    pub fn finish(&self) -> Result<(), ModelError> {
        if self.received < self.length || self.entries.is_none() || self.current.is_some() {
            return Err(self.damaged(format!("only {} of its {} bytes came", self.received, self.length)));
        }
        Ok(())
    }

    fn damaged(&self, reason: String) -> ModelError {
        ModelError::Corrupt { file: self.file.clone(), reason }
    }

    fn pass_on<E: From<ModelError>>(
        &mut self,
        bytes: &[u8],
        sink: &mut impl FnMut(TensorChunk) -> Result<(), E>,
    ) -> Result<(), E> {
        let Some(entry) = &self.current else { return Ok(()) };
        let start = (self.passed_on / entry.width as u64) as usize;
        sink(TensorChunk { tensor: &entry.name, shape: &entry.shape, dtype: entry.dtype, start, bytes })?;
        self.passed_on += bytes.len() as u64;
        if self.passed_on == entry.bytes {
            self.passed_on = 0;
            self.current = self.entries.as_mut().and_then(Iterator::next);
        }
        Ok(())
    }

    /// Collects the header. Once it is complete, returns the rest of `bytes`.
    fn header<'a>(&mut self, bytes: &'a [u8]) -> Result<Option<&'a [u8]>, ModelError> {
        let already_pending = self.pending.len();
        self.pending.extend_from_slice(&bytes[..bytes.len().min(8_usize.saturating_sub(already_pending))]);
        let Some(first) = self.pending.first_chunk::<8>() else { return Ok(None) };
        if first.starts_with(b"<") {
            return Err(self.damaged("it starts like a web page, so a download has failed".into()));
        }
        let length = u64::from_le_bytes(*first);
        if length > MAX_HEADER_BYTES || length + 8 > self.length {
            return Err(self.damaged(format!("its header should be {length} bytes long, but the file has {}", self.length)));
        }
        let whole = length as usize + 8;
        let bytes = &bytes[self.pending.len() - already_pending..];
        let (head, tail) = bytes.split_at((whole - self.pending.len()).min(bytes.len()));
        self.pending.extend_from_slice(head);
        if self.pending.len() < whole {
            return Ok(None);
        }
        let text = std::mem::take(&mut self.pending);
        let mut entries = self.parse(&text[8..], self.length - whole as u64)?.into_iter();
        self.current = entries.next();
        self.entries = Some(entries);
        Ok(Some(tail))
    }

    /// The tensors of a header, in the order of their bytes, which must fill `data` bytes without a gap.
    fn parse(&self, text: &[u8], data: u64) -> Result<Vec<HeaderEntry>, ModelError> {
        let map: Map<String, Value> =
            serde_json::from_slice(text).map_err(|e| self.damaged(format!("its header is no JSON ({e})")))?;
        let mut tensors = Vec::new();
        for (name, value) in map.into_iter().filter(|(name, _)| name != "__metadata__") {
            let raw: RawHeaderEntry = serde_json::from_value(value)
                .map_err(|e| self.damaged(format!("its header describes tensor `{name}` in a way that is not read ({e})")))?;
            tensors.push((raw.data_offsets, name, raw));
        }
        tensors.sort_by_key(|(offsets, ..)| *offsets);
        let mut end_of_previous = 0;
        let mut entries = Vec::new();
        for ((start, end), name, raw) in tensors {
            let elements = raw.shape.iter().try_fold(1u64, |n, d| n.checked_mul(*d as u64));
            let width = raw.dtype.bitsize() / 8;
            let bytes = elements.and_then(|n| n.checked_mul(width as u64)).filter(|n| *n > 0 && width > 0);
            if start != end_of_previous || bytes.is_none_or(|n| start.checked_add(n) != Some(end)) {
                let reason = format!("the bytes of tensor `{name}` overlap others, leave a gap, or do not fit its shape");
                return Err(self.damaged(reason));
            }
            end_of_previous = end;
            let bytes = end - start;
            let unit = if bytes.is_multiple_of(4) { width.max(4) } else { width };
            entries.push(HeaderEntry { name, shape: raw.shape, dtype: raw.dtype, width, unit, bytes });
        }
        if end_of_previous != data || entries.is_empty() {
            return Err(self.damaged(format!("the tensors in its header have {end_of_previous} bytes, but {data} follow it")));
        }
        Ok(entries)
    }
}
