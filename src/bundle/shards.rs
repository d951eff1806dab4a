//! Distributes arrays over shards, and encodes their values. Free of file access, so that a page can save a bundle too.

use super::{EntryFormat, StoredArray, stored_arrays};
use crate::model::config::Config;
use crate::model::dtype::{first_non_finite, vanished};
use crate::model::error::ModelError;
use crate::model::quantised::{ColumnSquares, Plane};
use crate::model::shard_layout::header_of;
use crate::ops::weight_dtype::{BLOCK, WeightDtype};

/// The bytes reserved per tensor for a shard's header, whose exact size is not known while planning: over a hundred bytes per
/// tensor.
const HEADER_PER_TENSOR: u64 = 192;

/// Some rows of an array; all of them unless the array is larger than a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardPart {
    /// The name in the shard.
    pub name: String,
    /// Hugging Face's name of the tensor.
    pub tensor: String,
    /// The stored shape of this part.
    pub shape: Vec<usize>,
    /// The first value of the tensor that it stores, and the number of values.
    pub start: usize,
    pub values: usize,
    pub entries: EntryFormat,
}

impl ShardPart {
    fn bytes(&self) -> u64 {
        self.shape.iter().product::<usize>() as u64 * self.entries.bytes() as u64
    }

    /// Whether it holds scales, which [`HeldScales`] has since their codes were encoded.
    pub fn is_scales(&self) -> bool {
        matches!(self.entries, EntryFormat::Plane(_, Plane::Scales))
    }

    /// Appends the encoded `values` of this part, from value `at`, to `out`. For the codes of a quantised matrix they are whole
    /// blocks, whose scales are held; `squares` weigh their errors. Nothing is appended for scales.
    ///
    /// # Errors
    /// A value that is not finite or too large for the format; values that are all too small for it.
    pub fn encode(
        &self,
        at: usize,
        values: &[f32],
        squares: &ColumnSquares,
        held: &mut HeldScales,
        out: &mut Vec<u8>,
    ) -> Result<(), ModelError> {
        let tensor = || self.tensor.clone();
        let index = |i: usize| self.start + at + i;
        if let Some(i) = first_non_finite(values) {
            return Err(ModelError::NonFinite { tensor: tensor(), index: index(i), value: values[i] });
        }
        let dtype = match self.entries {
            EntryFormat::Values(dtype) => dtype,
            EntryFormat::Plane(_, Plane::Scales) => return Ok(()),
            EntryFormat::Plane(dtype, Plane::Packed) => {
                debug_assert!(values.len().is_multiple_of(dtype.block()));
                dtype.check_range(&self.tensor, self.start + at, values)?;
                let (packed, scales) = match squares.of(&self.tensor) {
                    Some(squares) => dtype.encode_weighted(values, squares, self.start + at),
                    None => dtype.encode(values),
                };
                out.extend(packed.iter().flat_map(|word| word.to_le_bytes()));
                held.add(&self.tensor, scales);
                return Ok(());
            }
        };
        let before = out.len();
        dtype.narrow(values, out);
        let mut decoded = vec![0.0; values.len()];
        dtype.widen(&out[before..], &mut decoded);
        match first_non_finite(&decoded).or_else(|| vanished(&self.tensor, values, &decoded)) {
            None => Ok(()),
            Some(i) => {
                let dtype = dtype.config_name();
                Err(ModelError::OutOfRangeForDtype { tensor: tensor(), index: index(i), value: values[i], dtype })
            }
        }
    }
}

/// The scales of the matrix whose codes were encoded last. Codes and scales are found together, and a matrix's scales come after
/// all of its codes, so they are held until then.
#[derive(Default)]
pub struct HeldScales {
    tensor: String,
    scales: Vec<u32>,
}

impl HeldScales {
    fn add(&mut self, tensor: &str, scales: Vec<u32>) {
        if self.tensor != tensor {
            *self = HeldScales { tensor: tensor.into(), scales: Vec::new() };
        }
        self.scales.extend(scales);
    }

    /// The bytes of `part`, which holds scales.
    ///
    /// # Errors
    /// A part whose codes were not encoded before it.
    pub fn bytes(&self, part: &ShardPart) -> Result<Vec<u8>, ModelError> {
        let range = part.start / BLOCK..(part.start + part.values) / BLOCK;
        let scales = self.scales.get(range).filter(|_| self.tensor == part.tensor);
        let scales = scales.ok_or_else(|| ModelError::UnknownTensor(format!("{}, its scales", part.tensor)))?;
        Ok(scales.iter().flat_map(|scale| scale.to_le_bytes()).collect())
    }
}

/// One shard: its file name, and its parts in the order of their bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shard {
    pub file: String,
    pub parts: Vec<ShardPart>,
}

impl Shard {
    /// The bytes before the values: length, JSON, padding to 8 bytes.
    pub fn header(&self) -> Vec<u8> {
        header_of(self.parts.iter().map(|p| (p.name.as_str(), p.entries.safetensors_name(), &p.shape[..], p.bytes())))
    }
}

/// Distributes the arrays of `config` over shards of at most `max_bytes` bytes, in the model's order. A larger matrix is cut by
/// rows; a single row is never cut.
pub fn plan_shards(config: &Config, weights: WeightDtype, max_bytes: u64) -> Vec<Shard> {
    let mut shards: Vec<Vec<ShardPart>> = vec![Vec::new()];
    let mut used = 0;
    for array in stored_arrays(config, weights) {
        let mut row = 0;
        for rows in row_counts(&array, max_bytes) {
            let part = part(&array, row, rows);
            row += rows;
            let bytes = part.bytes() + HEADER_PER_TENSOR;
            // Parts of one array have one name, so they never share a shard.
            let repeated = shards.last().is_some_and(|s| s.iter().any(|p| p.name == part.name));
            if used > 0 && (repeated || used + bytes > max_bytes) {
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

/// The number of rows of each part of an array.
fn row_counts(array: &StoredArray, max_bytes: u64) -> Vec<usize> {
    let shape = array.shape();
    let rows = shape.first().copied().unwrap_or(0);
    let row_bytes = (array.len() / rows.max(1) * array.entries.bytes()) as u64;
    let fit = (max_bytes.saturating_sub(2 * HEADER_PER_TENSOR) / row_bytes.max(1)).clamp(1, rows.max(1) as u64) as usize;
    if shape.len() != 2 || fit >= rows {
        return vec![rows];
    }
    (0..rows).step_by(fit).map(|row| fit.min(rows - row)).collect()
}

fn part(array: &StoredArray, row: usize, rows: usize) -> ShardPart {
    let mut shape = array.shape();
    if let Some(first) = shape.first_mut() {
        *first = rows;
    }
    let width: usize = array.tensor_shape.iter().skip(1).product();
    let (start, values) = (row * width, rows * width);
    ShardPart { name: array.name.clone(), tensor: array.tensor.clone(), shape, start, values, entries: array.entries }
}
