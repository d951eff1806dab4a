//! Tensors out of a stream of bytes: a safetensors file as a download hands it over, in pieces of any size.
//!
//! Nothing of the file is kept but its header and the beginning of a word or an element that a piece has cut.

use safetensors::Dtype as Stored;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::model::error::ModelError;

/// A header of ours has about a hundred bytes a tensor; more than this is no header.
const LONGEST_HEADER: u64 = 16 << 20;

/// Some elements of a tensor, as they are stored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Piece<'a> {
    pub tensor: &'a str,
    /// Of the whole tensor in this file.
    pub shape: &'a [usize],
    pub dtype: Stored,
    /// Index of the first element here.
    pub start: usize,
    /// Whole elements, and whole words of 4 bytes where the tensor is nothing but these.
    pub bytes: &'a [u8],
}

/// Reads one shard.
pub struct ShardReader {
    file: String,
    /// Bytes that the file has, and has had so far.
    length: u64,
    taken: u64,
    /// The header's beginning, or the beginning of what was cut.
    kept: Vec<u8>,
    entries: Option<std::vec::IntoIter<Entry>>,
    current: Option<Entry>,
    /// Bytes of the current tensor that have been handed out.
    given: u64,
}

/// A tensor as the header describes it.
struct Entry {
    name: String,
    shape: Vec<usize>,
    dtype: Stored,
    width: usize,
    /// Bytes that are not cut: an element, or a word.
    unit: usize,
    bytes: u64,
}

#[derive(Deserialize)]
struct RawEntry {
    dtype: Stored,
    shape: Vec<usize>,
    data_offsets: (u64, u64),
}

impl ShardReader {
    /// A reader of `file`, which has `length` bytes.
    pub fn new(file: &str, length: u64) -> Self {
        ShardReader { file: file.into(), length, taken: 0, kept: Vec::new(), entries: None, current: None, given: 0 }
    }

    /// The next bytes of the file; `take` gets the elements that are whole now. A tensor's first piece comes before any of
    /// another tensor.
    ///
    /// # Errors
    /// A file that is no safetensors file or longer than it should be; whatever `take` refuses.
    pub fn push<E: From<ModelError>>(&mut self, mut bytes: &[u8], mut take: impl FnMut(Piece) -> Result<(), E>) -> Result<(), E> {
        if self.taken + bytes.len() as u64 > self.length {
            return Err(self.damaged(format!("more than its {} bytes came", self.length)).into());
        }
        self.taken += bytes.len() as u64;
        if self.entries.is_none() {
            let Some(rest) = self.header(bytes)? else { return Ok(()) };
            bytes = rest;
        }
        while !bytes.is_empty() {
            let Some(entry) = &self.current else {
                return Err(self.damaged("it goes on behind its last tensor".into()).into());
            };
            let unit = entry.unit;
            if !self.kept.is_empty() || bytes.len() < unit {
                let (head, tail) = bytes.split_at((unit - self.kept.len()).min(bytes.len()));
                self.kept.extend_from_slice(head);
                bytes = tail;
                if self.kept.len() == unit {
                    let whole = std::mem::take(&mut self.kept);
                    self.hand_out(&whole, &mut take)?;
                }
                continue;
            }
            let left = entry.bytes - self.given;
            let whole = (left.min(bytes.len() as u64) as usize) / unit * unit;
            let (head, tail) = bytes.split_at(whole);
            self.hand_out(head, &mut take)?;
            bytes = tail;
        }
        Ok(())
    }

    /// Says that the file has come to its end.
    ///
    /// # Errors
    /// Bytes that are missing.
    pub fn finish(&self) -> Result<(), ModelError> {
        if self.taken < self.length || self.entries.is_none() || self.current.is_some() {
            return Err(self.damaged(format!("only {} of its {} bytes came", self.taken, self.length)));
        }
        Ok(())
    }

    fn damaged(&self, reason: String) -> ModelError {
        ModelError::Corrupt { file: self.file.clone(), reason }
    }

    fn hand_out<E: From<ModelError>>(&mut self, bytes: &[u8], take: &mut impl FnMut(Piece) -> Result<(), E>) -> Result<(), E> {
        let Some(entry) = &self.current else { return Ok(()) };
        let start = (self.given / entry.width as u64) as usize;
        take(Piece { tensor: &entry.name, shape: &entry.shape, dtype: entry.dtype, start, bytes })?;
        self.given += bytes.len() as u64;
        if self.given == entry.bytes {
            self.given = 0;
            self.current = self.entries.as_mut().and_then(Iterator::next);
        }
        Ok(())
    }

    /// Collects the header; what follows it in `bytes` once it is whole.
    fn header<'a>(&mut self, bytes: &'a [u8]) -> Result<Option<&'a [u8]>, ModelError> {
        let held = self.kept.len();
        self.kept.extend_from_slice(&bytes[..bytes.len().min(8_usize.saturating_sub(held))]);
        let Some(first) = self.kept.first_chunk::<8>() else { return Ok(None) };
        if first.starts_with(b"<") {
            return Err(self.damaged("it starts like a web page, so a download has failed".into()));
        }
        let length = u64::from_le_bytes(*first);
        if length > LONGEST_HEADER || length + 8 > self.length {
            return Err(self.damaged(format!("its header should be {length} bytes long, but the file has {}", self.length)));
        }
        let whole = length as usize + 8;
        let bytes = &bytes[self.kept.len() - held..];
        let (head, tail) = bytes.split_at((whole - self.kept.len()).min(bytes.len()));
        self.kept.extend_from_slice(head);
        if self.kept.len() < whole {
            return Ok(None);
        }
        let text = std::mem::take(&mut self.kept);
        let mut entries = self.parse(&text[8..], self.length - whole as u64)?.into_iter();
        self.current = entries.next();
        self.entries = Some(entries);
        Ok(Some(tail))
    }

    /// The tensors of a header, in the order of their bytes, which must fill `data` bytes without a gap.
    fn parse(&self, text: &[u8], data: u64) -> Result<Vec<Entry>, ModelError> {
        let map: Map<String, Value> =
            serde_json::from_slice(text).map_err(|e| self.damaged(format!("its header is no JSON ({e})")))?;
        let mut found = Vec::new();
        for (name, value) in map.into_iter().filter(|(name, _)| name != "__metadata__") {
            let raw: RawEntry = serde_json::from_value(value)
                .map_err(|e| self.damaged(format!("its header describes tensor `{name}` in a way that is not read ({e})")))?;
            found.push((raw.data_offsets, name, raw));
        }
        found.sort_by_key(|(offsets, ..)| *offsets);
        let mut at = 0;
        let mut entries = Vec::new();
        for ((start, end), name, raw) in found {
            let elements = raw.shape.iter().try_fold(1u64, |n, d| n.checked_mul(*d as u64));
            let width = raw.dtype.bitsize() / 8;
            let bytes = elements.and_then(|n| n.checked_mul(width as u64)).filter(|n| *n > 0 && width > 0);
            if start != at || bytes.is_none_or(|n| start.checked_add(n) != Some(end)) {
                let reason = format!("the bytes of tensor `{name}` overlap others, leave a gap, or do not fit its shape");
                return Err(self.damaged(reason));
            }
            at = end;
            let bytes = end - start;
            let unit = if bytes.is_multiple_of(4) { width.max(4) } else { width };
            entries.push(Entry { name, shape: raw.shape, dtype: raw.dtype, width, unit, bytes });
        }
        if at != data || entries.is_empty() {
            return Err(self.damaged(format!("the tensors in its header have {at} bytes, but {data} follow it")));
        }
        Ok(entries)
    }
}
