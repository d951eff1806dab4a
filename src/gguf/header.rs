//! The header of a GGUF file: metadata by key, and where each tensor lies. Everything is checked before it is allocated.
//!
//! ```text
//! "GGUF"  version u32  tensors u64  pairs u64
//! pair    key: string, type u32, value                     string: length u64, bytes
//! tensor  name: string, dimensions u32, sizes u64 (the innermost first), format u32, offset u64
//! data    begins at the next multiple of general.alignment
//! ```

use std::collections::BTreeMap;

use super::blocks::BlockFormat;
use super::{DEFAULT_ALIGNMENT, MAGIC};
use crate::model::error::ModelError;

/// More dimensions than ggml has.
const MAX_DIMENSIONS: u32 = 4;
/// More entries than a vocabulary or its merges have. An entry takes more memory than file.
const MAX_ENTRIES: usize = 1 << 22;
/// The shortest pair and the shortest tensor take this many bytes, which bounds their counts by the length of the file.
const SHORTEST_PAIR: usize = 13;
const SHORTEST_TENSOR: usize = 24;

/// A value of the metadata.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Bool(bool),
    Text(String),
    List(Vec<Value>),
}

/// Where a tensor lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// `[rows, cols]`, `[n]`: as PyTorch has them, the innermost last.
    pub shape: Vec<usize>,
    pub format: BlockFormat,
    /// First byte within the file.
    pub start: usize,
    pub bytes: usize,
}

/// The header of one file.
#[derive(Debug)]
pub struct Header {
    pub metadata: BTreeMap<String, Value>,
    pub tensors: BTreeMap<String, TensorInfo>,
}

impl Header {
    /// Reads the header of a whole file.
    ///
    /// # Errors
    /// Not a GGUF file of version 2 or 3, or one that cannot be what it says: the message names the place.
    pub fn parse(file: &[u8]) -> Result<Self, String> {
        let mut reader = Reader { file, at: 0 };
        if reader.take(4, "the magic")? != MAGIC {
            return Err("it does not begin with GGUF".into());
        }
        match reader.u32("the version")? {
            2 | 3 => {}
            version if version.swap_bytes() <= 3 => return Err("it is big-endian; only little-endian files are read".into()),
            version => return Err(format!("its version is {version}; versions 2 and 3 are read")),
        }
        let tensors = reader.count("number of tensors", SHORTEST_TENSOR)?;
        let pairs = reader.count("number of metadata pairs", SHORTEST_PAIR)?;
        let mut metadata = BTreeMap::new();
        for _ in 0..pairs {
            let key = reader.text("a metadata key")?;
            let kind = reader.u32(&key)?;
            let value = reader.value(kind, &key)?;
            if metadata.insert(key.clone(), value).is_some() {
                return Err(format!("metadata key `{key}` stands there twice"));
            }
        }
        let alignment = match metadata.get("general.alignment") {
            None => DEFAULT_ALIGNMENT,
            Some(Value::Unsigned(n)) if n.is_power_of_two() && (1..=1 << 20).contains(n) => *n as usize,
            Some(other) => return Err(format!("`general.alignment` is {other:?}; expected a power of two")),
        };
        let described = (0..tensors).map(|_| reader.tensor()).collect::<Result<Vec<_>, _>>()?;
        let data_start = reader.at.next_multiple_of(alignment);
        let tensors = place(described, data_start, alignment, file.len())?;
        Ok(Header { metadata, tensors })
    }
}

/// A tensor whose offset is not checked yet.
struct Described {
    name: String,
    shape: Vec<usize>,
    format: BlockFormat,
    bytes: usize,
    offset: u64,
}

/// Checks that all tensors lie within the file, aligned, and that none overlaps another.
fn place(
    described: Vec<Described>,
    data_start: usize,
    alignment: usize,
    file_len: usize,
) -> Result<BTreeMap<String, TensorInfo>, String> {
    let mut tensors = BTreeMap::new();
    let mut ranges = Vec::with_capacity(described.len());
    for tensor in described {
        let Described { name, shape, format, bytes, offset } = tensor;
        let start = usize::try_from(offset).ok().and_then(|offset| data_start.checked_add(offset));
        let end = start.and_then(|start| start.checked_add(bytes));
        let (Some(start), Some(end)) = (start, end.filter(|end| *end <= file_len)) else {
            return Err(format!("tensor `{name}` ends after the file does; it is cut off or damaged"));
        };
        if offset % alignment as u64 != 0 {
            return Err(format!("tensor `{name}` begins at offset {offset}, which is not a multiple of {alignment}"));
        }
        ranges.push((start, end, name.clone()));
        if tensors.insert(name.clone(), TensorInfo { shape, format, start, bytes }).is_some() {
            return Err(format!("tensor `{name}` stands there twice"));
        }
    }
    ranges.sort();
    match ranges.windows(2).find(|pair| pair[1].0 < pair[0].1) {
        Some(pair) => Err(format!("tensors `{}` and `{}` overlap", pair[0].2, pair[1].2)),
        None => Ok(tensors),
    }
}

struct Reader<'a> {
    file: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, bytes: usize, what: &str) -> Result<&'a [u8], String> {
        let end = self.at.checked_add(bytes).filter(|end| *end <= self.file.len());
        let end = end.ok_or_else(|| format!("it ends within {what}, at byte {}", self.file.len()))?;
        let taken = &self.file[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], String> {
        let mut bytes = [0; N];
        bytes.copy_from_slice(self.take(N, what)?);
        Ok(bytes)
    }

    fn u32(&mut self, what: &str) -> Result<u32, String> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    fn u64(&mut self, what: &str) -> Result<u64, String> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    /// A count of things that take at least `least` bytes each.
    fn count(&mut self, what: &str, least: usize) -> Result<usize, String> {
        let count = self.u64(what)?;
        let most = (self.file.len() - self.at) / least.max(1);
        usize::try_from(count)
            .ok()
            .filter(|count| *count <= most)
            .ok_or_else(|| format!("{what}: {count}, but the rest of the file has room for {most}"))
    }

    fn text(&mut self, what: &str) -> Result<String, String> {
        let len = self.count(&format!("the length of {what}"), 1)?;
        let bytes = self.take(len, what)?;
        String::from_utf8(bytes.to_vec()).map_err(|_| format!("{what} is not UTF-8"))
    }

    fn value(&mut self, kind: u32, key: &str) -> Result<Value, String> {
        Ok(match kind {
            0 => Value::Unsigned(u64::from(self.array::<1>(key)?[0])),
            1 => Value::Signed(i64::from(i8::from_le_bytes(self.array(key)?))),
            2 => Value::Unsigned(u64::from(u16::from_le_bytes(self.array(key)?))),
            3 => Value::Signed(i64::from(i16::from_le_bytes(self.array(key)?))),
            4 => Value::Unsigned(u64::from(self.u32(key)?)),
            5 => Value::Signed(i64::from(i32::from_le_bytes(self.array(key)?))),
            6 => Value::Float(f64::from(f32::from_le_bytes(self.array(key)?))),
            7 => Value::Bool(self.array::<1>(key)?[0] != 0),
            8 => Value::Text(self.text(&format!("`{key}`"))?),
            9 => {
                let kind = self.u32(key)?;
                if kind == 9 {
                    return Err(format!("`{key}` is a list of lists"));
                }
                let count = self.count(&format!("the length of `{key}`"), shortest(kind))?;
                if count > MAX_ENTRIES {
                    return Err(format!("`{key}` has {count} entries; at most {MAX_ENTRIES} are read"));
                }
                Value::List((0..count).map(|_| self.value(kind, key)).collect::<Result<_, _>>()?)
            }
            10 => Value::Unsigned(self.u64(key)?),
            11 => Value::Signed(i64::from_le_bytes(self.array(key)?)),
            12 => Value::Float(f64::from_le_bytes(self.array(key)?)),
            other => return Err(format!("`{key}` has a value of the unknown type {other}")),
        })
    }

    fn tensor(&mut self) -> Result<Described, String> {
        let name = self.text("the name of a tensor")?;
        let what = format!("tensor `{name}`");
        let dimensions = self.u32(&what)?;
        if !(1..=MAX_DIMENSIONS).contains(&dimensions) {
            return Err(format!("{what} has {dimensions} dimensions; expected 1 to {MAX_DIMENSIONS}"));
        }
        let mut shape = Vec::new();
        for _ in 0..dimensions {
            let size = self.u64(&what)?;
            shape.push(usize::try_from(size).map_err(|_| format!("{what} has a dimension of {size}"))?);
        }
        shape.reverse();
        let id = self.u32(&what)?;
        let format = BlockFormat::from_id(id).map_err(|name| {
            format!("{what} is stored as {name}, which is not read; read are {}", BlockFormat::names().join(", "))
        })?;
        let offset = self.u64(&what)?;
        let values = shape.iter().try_fold(1usize, |product, size| product.checked_mul(*size));
        let values = values.filter(|values| *values > 0).ok_or_else(|| format!("{what} has the shape {shape:?}"))?;
        let row = shape.last().copied().unwrap_or(1);
        if !row.is_multiple_of(format.values()) {
            return Err(format!("{what} has rows of {row} values, and blocks of {} have {}", format.name(), format.values()));
        }
        let bytes = (values / format.values()).checked_mul(format.bytes()).ok_or_else(|| format!("{what} is too large"))?;
        Ok(Described { name, shape, format, bytes, offset })
    }
}

/// The fewest bytes that a value of this type takes.
fn shortest(kind: u32) -> usize {
    match kind {
        2 | 3 => 2,
        4..=6 => 4,
        8 | 10..=12 => 8,
        _ => 1,
    }
}

/// Typed access to the metadata of a file.
#[derive(Clone, Copy)]
pub(super) struct Metadata<'a>(pub &'a BTreeMap<String, Value>);

impl<'a> Metadata<'a> {
    fn bad(key: &str, expected: &str, found: &Value) -> ModelError {
        let found: String = format!("{found:?}").chars().take(60).collect();
        ModelError::BadValue { key: key.into(), expected: expected.into(), found }
    }

    pub fn text(self, key: &str) -> Result<Option<&'a str>, ModelError> {
        match self.0.get(key) {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(other) => Err(Self::bad(key, "a string", other)),
        }
    }

    pub fn required_text(self, key: &str) -> Result<&'a str, ModelError> {
        self.text(key)?.ok_or_else(|| ModelError::MissingKey { key: key.into(), expected: "a string".into() })
    }

    pub fn boolean(self, key: &str) -> Result<Option<bool>, ModelError> {
        match self.0.get(key) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(*value)),
            Some(other) => Err(Self::bad(key, "true or false", other)),
        }
    }

    pub fn unsigned(self, key: &str) -> Result<Option<u64>, ModelError> {
        match self.0.get(key) {
            None => Ok(None),
            Some(Value::Unsigned(n)) => Ok(Some(*n)),
            Some(Value::Signed(n)) if *n >= 0 => Ok(Some(*n as u64)),
            Some(other) => Err(Self::bad(key, "an integer from 0 on", other)),
        }
    }

    pub fn float(self, key: &str) -> Result<Option<f64>, ModelError> {
        match self.0.get(key) {
            None => Ok(None),
            Some(Value::Float(x)) if x.is_finite() => Ok(Some(*x)),
            Some(other) => Err(Self::bad(key, "a finite number", other)),
        }
    }

    fn list(self, key: &str) -> Result<Option<&'a [Value]>, ModelError> {
        match self.0.get(key) {
            None => Ok(None),
            Some(Value::List(list)) => Ok(Some(list)),
            Some(other) => Err(Self::bad(key, "a list", other)),
        }
    }

    pub fn texts(self, key: &str) -> Result<Option<Vec<&'a str>>, ModelError> {
        let one = |value: &'a Value| match value {
            Value::Text(text) => Ok(text.as_str()),
            other => Err(Self::bad(key, "a list of strings", other)),
        };
        self.list(key)?.map(|list| list.iter().map(one).collect()).transpose()
    }

    pub fn integers(self, key: &str) -> Result<Option<Vec<i64>>, ModelError> {
        let one = |value: &Value| match value {
            Value::Signed(n) => Ok(*n),
            Value::Unsigned(n) => i64::try_from(*n).map_err(|_| Self::bad(key, "a list of integers", value)),
            other => Err(Self::bad(key, "a list of integers", other)),
        };
        self.list(key)?.map(|list| list.iter().map(one).collect()).transpose()
    }

    /// A list of true and false; `None` also where the value is no list.
    pub fn flags(self, key: &str) -> Result<Option<Vec<bool>>, ModelError> {
        let one = |value: &Value| match value {
            Value::Bool(flag) => Ok(*flag),
            other => Err(Self::bad(key, "a list of true and false", other)),
        };
        match self.0.get(key) {
            Some(Value::List(list)) => list.iter().map(one).collect::<Result<_, _>>().map(Some),
            _ => Ok(None),
        }
    }

    pub fn floats(self, key: &str) -> Result<Option<Vec<f64>>, ModelError> {
        let one = |value: &Value| match value {
            Value::Float(x) if x.is_finite() => Ok(*x),
            other => Err(Self::bad(key, "a list of finite numbers", other)),
        };
        self.list(key)?.map(|list| list.iter().map(one).collect()).transpose()
    }
}
