//! Where weights come from: files, bytes in memory, or a random seed, all behind one small trait.

use super::config::Config;
use super::error::ModelError;
use super::names::Group;
use super::quantised::Plane;
use crate::ops::weight_dtype::WeightDtype;

/// A model's weights under their Hugging Face names, read in pieces of any size and widened to `f32`.
pub trait TensorSource: Send + Sync {
    /// The model that the weights belong to.
    fn config(&self) -> &Config;

    /// Fills `out` with elements `start .. start + out.len()` of `tensor`, row-major.
    ///
    /// # Errors
    /// An unknown name, a range outside the tensor, or a value among those read that is NaN or infinite.
    fn read(&self, tensor: &str, start: usize, out: &mut [f32]) -> Result<(), ModelError>;

    /// How the matrices are quantised, if they are: which of them is said by [`WeightDtype::of_group`].
    fn quantisation(&self) -> Option<WeightDtype> {
        None
    }

    /// Fills `out` with entries `start ..` of one plane of a quantised matrix, as they are stored (a scale as its bits).
    ///
    /// # Errors
    /// A tensor that has no such plane, a range outside it, or a scale that is NaN or infinite.
    fn read_plane(&self, tensor: &str, _plane: Plane, _start: usize, _out: &mut [u32]) -> Result<(), ModelError> {
        Err(ModelError::UnknownTensor(format!("{tensor}, quantised")))
    }

    /// Fills `out` with elements `start .. start + out.len()` of a fused `[rows, cols]` group, across its parts.
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

/// Hands a whole group to `take(start, values)` in pieces of at most `piece` elements, in order, so that no large
/// tensor is ever held twice.
pub fn stream_group<E: From<ModelError>>(
    source: &dyn TensorSource,
    group: &Group,
    piece: usize,
    mut take: impl FnMut(usize, &[f32]) -> Result<(), E>,
) -> Result<(), E> {
    let mut buffer = vec![0.0; piece.max(1).min(group.len())];
    let mut start = 0;
    while start < group.len() {
        let len = buffer.len().min(group.len() - start);
        source.read_group(group, start, &mut buffer[..len])?;
        take(start, &buffer[..len])?;
        start += len;
    }
    Ok(())
}
