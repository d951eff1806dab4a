//! Which tensor lies in which shard, and how its numbers become bytes. Pure, so that a page can save a bundle too.

use serde_json::{Map, Value, json};

use super::WeightFormat;
use crate::model::config::Config;
use crate::model::dtype::{Dtype, first_non_finite};
use crate::model::error::ModelError;
use crate::model::names::{TensorSpec, tensors};

/// Room for a shard's header, which is written before its size is known exactly: over a hundred bytes a tensor.
const HEADER_PER_TENSOR: u64 = 192;

/// Some rows of a tensor (all of them, unless it is larger than a shard).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardPart {
    pub tensor: String,
    /// Of this part.
    pub shape: Vec<usize>,
    /// Where the part begins in its tensor, in elements.
    pub start: usize,
    pub dtype: Dtype,
}

impl ShardPart {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn bytes(&self) -> u64 {
        self.len() as u64 * self.dtype.bytes() as u64
    }

    /// Appends `values`, elements `at ..` of this part, to `out` as they are stored.
    ///
    /// # Errors
    /// A value that is not finite, or too large for the format.
    pub fn encode(&self, at: usize, values: &[f32], out: &mut Vec<u8>) -> Result<(), ModelError> {
        let tensor = || self.tensor.clone();
        let place = |i: usize| self.start + at + i;
        if let Some(i) = first_non_finite(values) {
            return Err(ModelError::NonFinite { tensor: tensor(), index: place(i), value: values[i] });
        }
        let before = out.len();
        self.dtype.narrow(values, out);
        let mut stored = vec![0.0; values.len()];
        self.dtype.widen(&out[before..], &mut stored);
        match first_non_finite(&stored) {
            None => Ok(()),
            Some(i) => {
                let dtype = self.dtype.config_name();
                Err(ModelError::OutOfRangeForDtype { tensor: tensor(), index: place(i), value: values[i], dtype })
            }
        }
    }
}

/// One shard: its file name, and its parts in the order of their bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shard {
    pub file: String,
    pub parts: Vec<ShardPart>,
}

impl Shard {
    /// Everything in the file before the numbers: length, JSON, padding to 8 bytes.
    pub fn header(&self) -> Vec<u8> {
        let mut map = Map::new();
        map.insert("__metadata__".into(), json!({"format": "pt"}));
        let mut start = 0;
        for part in &self.parts {
            let end = start + part.bytes();
            let entry = json!({"dtype": part.dtype.safetensors_name(), "shape": part.shape, "data_offsets": [start, end]});
            map.insert(part.tensor.clone(), entry);
            start = end;
        }
        let mut text = Value::Object(map).to_string().into_bytes();
        text.resize(text.len().next_multiple_of(8), b' ');
        let mut header = (text.len() as u64).to_le_bytes().to_vec();
        header.extend(text);
        header
    }
}

/// Distributes the tensors of `config` over shards of at most `most` bytes, in the model's order. A matrix that is larger
/// is cut by rows; a single row is never cut.
pub fn plan(config: &Config, format: WeightFormat, most: u64) -> Vec<Shard> {
    let mut shards: Vec<Vec<ShardPart>> = vec![Vec::new()];
    let mut used = 0;
    for spec in tensors(config) {
        let mut row = 0;
        for rows in pieces(&spec, format, most) {
            let part = part(&spec, format, row, rows);
            row += rows;
            let bytes = part.bytes() + HEADER_PER_TENSOR;
            // Parts of one tensor have one name, so they never share a shard.
            let again = shards.last().is_some_and(|s| s.iter().any(|p| p.tensor == part.tensor));
            if used > 0 && (again || used + bytes > most) {
                shards.push(Vec::new());
                used = 0;
            }
            used += bytes;
            if let Some(shard) = shards.last_mut() {
                shard.push(part);
            }
        }
    }
    let file = |i: usize| format!("weights-{:05}.safetensors", i + 1);
    shards.into_iter().enumerate().map(|(i, parts)| Shard { file: file(i), parts }).collect()
}

/// Into how many rows each the parts of a tensor are cut.
fn pieces(spec: &TensorSpec, format: WeightFormat, most: u64) -> Vec<usize> {
    let rows = spec.shape.first().copied().unwrap_or(0);
    let row_bytes = (spec.len() / rows.max(1) * format.dtype(&spec.shape).bytes()) as u64;
    let fit = (most.saturating_sub(2 * HEADER_PER_TENSOR) / row_bytes.max(1)).clamp(1, rows.max(1) as u64) as usize;
    if spec.shape.len() != 2 || fit >= rows {
        return vec![rows];
    }
    (0..rows).step_by(fit).map(|row| fit.min(rows - row)).collect()
}

fn part(spec: &TensorSpec, format: WeightFormat, row: usize, rows: usize) -> ShardPart {
    let mut shape = spec.shape.clone();
    let width: usize = shape.iter().skip(1).product();
    if let Some(first) = shape.first_mut() {
        *first = rows;
    }
    ShardPart { tensor: spec.name.clone(), start: row * width, dtype: format.dtype(&spec.shape), shape }
}
