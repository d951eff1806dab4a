//! The interface of all sources of weights: files, bytes in memory, a random seed.

use super::config::Config;
use super::error::ModelError;
use super::names::{Group, tensors};
use super::quantised::Plane;
use crate::ops::weight_dtype::WeightDtype;

/// A model's weights by their Hugging Face names. Any range of a tensor can be read, widened to `f32`.
pub trait TensorSource: Send + Sync {
    /// The model that the weights belong to.
    fn config(&self) -> &Config;

    /// Fills `out` with elements `start .. start + out.len()` of `tensor`, row-major.
    ///
    /// # Errors
    /// An unknown name; a range outside the tensor; a value in the range that is NaN or infinite.
    fn read(&self, tensor: &str, start: usize, out: &mut [f32]) -> Result<(), ModelError>;

    /// The dtype that holds the matrix `tensor` as it is stored.
    fn stored_dtype(&self, _tensor: &str) -> WeightDtype {
        WeightDtype::F32
    }

    /// Fills `out` with entries `start ..` of one plane of a quantised matrix, in its stored dtype.
    ///
    /// # Errors
    /// A tensor without such a plane; a range outside it; a scale that is NaN or infinite.
    fn read_plane(&self, tensor: &str, _plane: Plane, _start: usize, _out: &mut [u32]) -> Result<(), ModelError> {
        Err(ModelError::UnknownTensor(format!("{tensor}, quantised")))
    }

    /// Fills `out` with elements `start .. start + out.len()` of a fused `[rows, cols]` group, across its tensors.
    fn read_group(&self, group: &Group, start: usize, out: &mut [f32]) -> Result<(), ModelError> {
        let end = start.saturating_add(out.len());
        if end > group.len() {
            return Err(ModelError::OutOfBounds { tensor: group.name.clone(), len: group.len(), start, end });
        }
        for part in &group.parts {
            let part_start = part.row_offset * group.cols;
            let part_end = part_start + part.rows * group.cols;
            let (from, to) = (start.max(part_start), end.min(part_end));
            if from < to {
                self.read(&part.hf_name, from - part_start, &mut out[from - start..to - start])?;
            }
        }
        Ok(())
    }
}

/// The dtype with the fewest bits of the quantised matrices of `source`, if there are any.
pub fn quantisation(source: &dyn TensorSource) -> Option<WeightDtype> {
    let matrices = tensors(source.config()).into_iter().filter(|spec| spec.shape.len() == 2);
    let dtypes = matrices.map(|spec| source.stored_dtype(&spec.name));
    dtypes.filter(|dtype| dtype.is_quantised()).min_by_key(|dtype| dtype.bits())
}

/// Reads a whole group in order, at most `max_len` elements at a time, and passes them to `take(start, values)`. So a large
/// tensor is never in memory as a whole.
pub fn stream_group<E: From<ModelError>>(
    source: &dyn TensorSource,
    group: &Group,
    max_len: usize,
    mut take: impl FnMut(usize, &[f32]) -> Result<(), E>,
) -> Result<(), E> {
    let mut buffer = vec![0.0; max_len.max(1).min(group.len())];
    let mut start = 0;
    while start < group.len() {
        let len = buffer.len().min(group.len() - start);
        source.read_group(group, start, &mut buffer[..len])?;
        take(start, &buffer[..len])?;
        start += len;
    }
    Ok(())
}
