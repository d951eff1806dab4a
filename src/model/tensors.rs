//! Sets of tensors on the GPU: a model's weights, an adapter's, a gradient, an optimiser's moments.
//!
//! ```text
//! group      [rows, cols]        tensors of one role, stacked by rows (names.rs)
//!   chunk     rows first ..       one buffer, no larger than a binding may be; two where codes and scales are apart
//! ```
//!
//! Most groups are one chunk. An embedding of 151,936 rows is several on an adapter with bindings of 128 MiB; whoever
//! multiplies with it goes chunk by chunk, and nobody else notices.

use super::config::Config;
use super::error::ModelError;
use super::names::{Group, Groups, TensorSpec, specs};
use super::quantised::Plane;
use super::source::{TensorSource, stream_group};
use crate::gpu::{Buffer, Gpu, PlanBuilder, Tensor};
use crate::ops::matrix::{FullChunk, Matrix, Packed, RowChunk, Storage};
use crate::ops::weight_dtype::WeightDtype;

/// Elements moved between host and GPU at a time: 4 MiB.
const PIECE: usize = 1 << 20;
/// Rows of a chunk are a multiple of this, where there is more than one: products with its columns stay aligned.
pub const SLAB_ROWS: usize = 32;

/// The buffers of some groups, in their order.
#[derive(Clone)]
pub struct TensorSet {
    groups: Vec<Group>,
    /// The chunks of each group.
    held: Vec<Vec<MemoryUsage>>,
}

/// Rows of a group in one buffer, or in two.
#[derive(Clone)]
struct MemoryUsage {
    first: usize,
    rows: usize,
    dtype: WeightDtype,
    /// Values in f32, or packed words.
    words: Buffer,
    scales: Option<Buffer>,
}

/// A range of a tensor in a buffer.
struct Piece<'a> {
    buffer: &'a Buffer,
    /// First entry in the buffer.
    start: usize,
    /// First entry within the tensor.
    at: usize,
    len: usize,
}

impl MemoryUsage {
    fn buffers(&self) -> impl Iterator<Item = &Buffer> {
        std::iter::once(&self.words).chain(&self.scales)
    }

    /// Entries of a plane that `values` values have; `None` asks for plain f32.
    fn entries(&self, plane: Option<Plane>, values: usize) -> Option<usize> {
        match (self.dtype, plane) {
            (WeightDtype::F32, None) => Some(values),
            (WeightDtype::F32, Some(_)) | (_, None) => None,
            (dtype, Some(plane)) => Some(dtype.entries(plane, values)),
        }
    }

    fn buffer(&self, plane: Option<Plane>) -> Option<&Buffer> {
        if plane == Some(Plane::Scales) { self.scales.as_ref() } else { Some(&self.words) }
    }
}

/// Rows of the chunks of a `[rows, cols]` group, whose buffers may have `most` words.
fn slab_rows(rows: usize, words_a_row: usize, most: usize) -> usize {
    let fitting = most / words_a_row.max(1);
    if rows <= fitting || fitting < SLAB_ROWS {
        return rows; // one chunk; what does not fit at all is refused by name when its buffer is made
    }
    let chunks = rows.div_ceil(fitting / SLAB_ROWS * SLAB_ROWS);
    rows.div_ceil(chunks).next_multiple_of(SLAB_ROWS)
}

/// Writes elements `start ..` of a group into its chunks, encoded as these are held.
fn write_group(gpu: &Gpu, group: &Group, chunks: &[MemoryUsage], start: usize, values: &[f32]) -> Result<(), ModelError> {
    for chunk in chunks {
        let (first, end) = (chunk.first * group.cols, (chunk.first + chunk.rows) * group.cols);
        let (from, to) = (start.max(first), (start + values.len()).min(end));
        if from >= to {
            continue;
        }
        let (values, at) = (&values[from - start..to - start], from - first);
        match chunk.dtype {
            WeightDtype::F32 => gpu.write(&chunk.words, at, values)?,
            dtype => {
                dtype.check_range(&group.name, from, values)?;
                let (words, scales) = dtype.encode(values);
                gpu.write(&chunk.words, dtype.entries(Plane::Packed, at), &words)?;
                if let Some(buffer) = &chunk.scales {
                    gpu.write(buffer, dtype.entries(Plane::Scales, at), &scales)?;
                }
            }
        }
    }
    Ok(())
}

impl TensorSet {
    /// Zeros in f32 for `groups`; `role` ("gradient", "first moment", …) names the buffers.
    ///
    /// # Errors
    /// Too little GPU memory.
    pub fn zeros(gpu: &Gpu, groups: &[Group], role: &str) -> Result<Self, ModelError> {
        Self::room(gpu, groups, WeightDtype::F32, role)
    }

    /// Zeros for `groups`, their matrices held in `dtype`.
    ///
    /// # Errors
    /// Too little GPU memory.
    pub fn room(gpu: &Gpu, groups: &[Group], dtype: WeightDtype, role: &str) -> Result<Self, ModelError> {
        let most = (gpu.max_binding().min(gpu.max_buffer()) / 4) as usize;
        let chunks = |group: &Group| -> Result<Vec<MemoryUsage>, ModelError> {
            let dtype = dtype.of_group(group);
            let words = dtype.entries(Plane::Packed, group.cols);
            let step = slab_rows(group.rows, words, most).max(1);
            let mut chunks = Vec::new();
            for first in (0..group.rows).step_by(step) {
                let rows = step.min(group.rows - first);
                let number = if step < group.rows { format!("[{}]", first / step) } else { String::new() };
                let buffer =
                    |what: &str, words: usize| gpu.buffer(&format!("{}{number}{what} ({role})", group.name), rows * words);
                let scales = dtype.entries(Plane::Scales, group.cols);
                let scales = if scales > 0 { Some(buffer(".scales", scales)?) } else { None };
                chunks.push(MemoryUsage { first, rows, dtype, words: buffer("", words)?, scales });
            }
            Ok(chunks)
        };
        let held = groups.iter().map(chunks).collect::<Result<_, _>>()?;
        Ok(TensorSet { groups: groups.to_vec(), held })
    }

    /// Zeros in f32 for all tensors of a model.
    ///
    /// # Errors
    /// Too little GPU memory.
    pub fn of_model(gpu: &Gpu, config: &Config, role: &str) -> Result<Self, ModelError> {
        Self::zeros(gpu, &Groups::of(config).list, role)
    }

    /// The groups, in order.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// Every tensor by its name in files, in order.
    pub fn specs(&self) -> Vec<TensorSpec> {
        specs(&self.groups)
    }

    /// Fills the set from `source`, piece by piece: packed matrices as they are stored where the dtype is the same,
    /// otherwise by way of f32.
    pub(super) fn upload(&self, gpu: &Gpu, source: &dyn TensorSource) -> Result<(), ModelError> {
        for (group, chunks) in self.groups.iter().zip(&self.held) {
            let Some(held) = chunks.first().map(|chunk| chunk.dtype) else { continue };
            let stored = source.quantisation().map(|dtype| dtype.of_group(group));
            if held.is_quantised() && stored == Some(held) {
                for plane in Plane::ALL {
                    self.upload_plane(gpu, source, group, plane, held.entries(plane, group.cols))?;
                }
            } else {
                let write = |start, values: &[f32]| write_group(gpu, group, chunks, start, values);
                stream_group(source, group, PIECE, write)?;
            }
        }
        Ok(())
    }

    /// Uploads one plane of a quantised group, `width` entries a row, part by part.
    fn upload_plane(
        &self,
        gpu: &Gpu,
        source: &dyn TensorSource,
        group: &Group,
        plane: Plane,
        width: usize,
    ) -> Result<(), ModelError> {
        let mut entries = Vec::new();
        for part in &group.parts {
            let len = part.rows * width;
            for at in (0..len).step_by(PIECE) {
                entries.resize(PIECE.min(len - at), 0);
                source.read_plane(&part.hf_name, plane, at, &mut entries)?;
                self.write_plane(gpu, &part.hf_name, plane, at, &entries)?;
            }
        }
        Ok(())
    }

    /// Group `index`, which is one chunk in f32 (a norm, a bias), as a tensor of a plan.
    pub fn tensor(&self, plan: &mut PlanBuilder, index: usize) -> Tensor {
        plan.import(&self.held[index][0].words)
    }

    /// Group `index`, a matrix, as products read it.
    pub fn matrix(&self, plan: &mut PlanBuilder, index: usize) -> Matrix {
        let chunk = |held: &MemoryUsage| {
            let words = plan.import(&held.words);
            let storage = match held.dtype {
                WeightDtype::F32 => Storage::Full(words),
                dtype => {
                    let scales = held.scales.as_ref().map(|scales| plan.import(scales));
                    Storage::Packed(Packed { dtype, words, scales })
                }
            };
            RowChunk { rows: held.rows as u32, storage }
        };
        Matrix { chunks: self.held[index].iter().map(chunk).collect() }
    }

    /// Group `index` of a set in f32, as products write it.
    pub fn written(&self, plan: &mut PlanBuilder, index: usize) -> Vec<FullChunk> {
        self.held[index].iter().map(|h| FullChunk { rows: h.rows as u32, tensor: plan.import(&h.words) }).collect()
    }

    /// Every chunk of every group of a set in f32, with the group's index.
    pub fn all(&self, plan: &mut PlanBuilder) -> Vec<(usize, Tensor)> {
        let chunks = self.held.iter().enumerate().flat_map(|(index, chunks)| chunks.iter().map(move |chunk| (index, chunk)));
        chunks.map(|(index, chunk)| (index, plan.import(&chunk.words))).collect()
    }

    /// Every buffer, in order.
    pub fn buffers(&self) -> Vec<&Buffer> {
        self.held.iter().flatten().flat_map(MemoryUsage::buffers).collect()
    }

    /// Bytes of all buffers.
    pub fn bytes(&self) -> u64 {
        self.buffers().iter().map(|b| b.words as u64 * 4).sum()
    }

    /// Fills all buffers with zeros.
    pub fn clear(&self, gpu: &Gpu) {
        gpu.clear(&self.buffers().into_iter().cloned().collect::<Vec<_>>());
    }

    /// Makes this set what `other` is, a set of the same groups held in the same way, on the GPU.
    ///
    /// # Errors
    /// Sets of another size.
    pub fn copy_from(&self, gpu: &Gpu, other: &TensorSet) -> Result<(), ModelError> {
        let pairs: Vec<_> = other.buffers().into_iter().zip(self.buffers()).collect();
        Ok(gpu.copy(&pairs)?)
    }

    /// Where entries `start .. start + len` of a plane of a tensor lie (`None`: of a tensor in f32), chunk by chunk.
    fn pieces(&self, name: &str, plane: Option<Plane>, start: usize, len: usize) -> Result<Vec<Piece<'_>>, ModelError> {
        let unknown = || ModelError::UnknownTensor(name.into());
        let found = self.groups.iter().zip(&self.held).find_map(|(group, chunks)| {
            let part = group.parts.iter().find(|p| p.hf_name == name)?;
            Some((group, part, chunks))
        });
        let (group, part, chunks) = found.ok_or_else(unknown)?;
        let width = chunks.first().and_then(|chunk| chunk.entries(plane, group.cols)).ok_or_else(unknown)?;
        let (has, end) = (part.rows * width, start.saturating_add(len));
        if end > has {
            return Err(ModelError::OutOfBounds { tensor: name.into(), len: has, start, end });
        }
        let tensor_start = part.row_offset * width;
        let mut pieces = Vec::new();
        for chunk in chunks {
            let (first, last) = (chunk.first * width, (chunk.first + chunk.rows) * width);
            let (from, to) = ((tensor_start + start).max(first), (tensor_start + end).min(last));
            if from < to {
                let buffer = chunk.buffer(plane).ok_or_else(unknown)?;
                pieces.push(Piece { buffer, start: from - first, at: from - tensor_start, len: to - from });
            }
        }
        Ok(pieces)
    }

    /// How the tensor named `name` is held; f32 for a name that is none.
    pub fn dtype_of(&self, name: &str) -> WeightDtype {
        let of_group = |(group, chunks): (&Group, &Vec<MemoryUsage>)| {
            let named = group.parts.iter().any(|part| part.hf_name == name);
            chunks.first().filter(|_| named).map(|chunk| chunk.dtype)
        };
        self.groups.iter().zip(&self.held).find_map(of_group).unwrap_or_default()
    }

    /// Elements of the tensor named `name`, which is in f32.
    ///
    /// # Errors
    /// No such tensor, or a packed one.
    fn len_of(&self, name: &str) -> Result<usize, ModelError> {
        let pieces = self.pieces(name, None, 0, 0);
        let group = self.groups.iter().find_map(|g| Some(g.cols * g.parts.iter().find(|p| p.hf_name == name)?.rows));
        pieces.and(group.ok_or_else(|| ModelError::UnknownTensor(name.into())))
    }

    /// Writes elements `start ..` of the tensor named `name`, which is in f32.
    ///
    /// # Errors
    /// No such tensor, a packed one, or values past its end.
    pub fn write(&self, gpu: &Gpu, name: &str, start: usize, values: &[f32]) -> Result<(), ModelError> {
        for piece in self.pieces(name, None, start, values.len())? {
            let from = piece.at - start;
            gpu.write(piece.buffer, piece.start, &values[from..from + piece.len])?;
        }
        Ok(())
    }

    /// Writes entries `start ..` of one plane of the packed tensor named `name`.
    ///
    /// # Errors
    /// No such tensor, one in f32, or entries past its end.
    pub fn write_plane(&self, gpu: &Gpu, name: &str, plane: Plane, start: usize, entries: &[u32]) -> Result<(), ModelError> {
        for piece in self.pieces(name, Some(plane), start, entries.len())? {
            let from = piece.at - start;
            gpu.write(piece.buffer, piece.start, &entries[from..from + piece.len])?;
        }
        Ok(())
    }

    /// Elements `start .. start + len` of the tensor named `name`, which is in f32.
    ///
    /// # Errors
    /// No such tensor, a packed one, a range past its end, or what the GPU reports.
    pub async fn read(&self, gpu: &Gpu, name: &str, start: usize, len: usize) -> Result<Vec<f32>, ModelError> {
        self.read_words(gpu, self.pieces(name, None, start, len)?).await
    }

    /// Entries `start .. start + len` of one plane of the packed tensor named `name`.
    ///
    /// # Errors
    /// As [`TensorSet::read`], for a tensor in f32.
    pub async fn read_plane(
        &self,
        gpu: &Gpu,
        name: &str,
        plane: Plane,
        start: usize,
        len: usize,
    ) -> Result<Vec<u32>, ModelError> {
        self.read_words(gpu, self.pieces(name, Some(plane), start, len)?).await
    }

    /// Elements `start .. start + len` of the tensor named `name`, decoded where it is packed.
    ///
    /// # Errors
    /// No such tensor, a range past its end, or what the GPU reports.
    pub async fn values(&self, gpu: &Gpu, name: &str, start: usize, len: usize) -> Result<Vec<f32>, ModelError> {
        let dtype = self.dtype_of(name);
        if dtype == WeightDtype::F32 {
            return self.read(gpu, name, start, len).await;
        }
        // Whole blocks, and of these the part that is wanted.
        let (first, end) = (start / dtype.block() * dtype.block(), (start + len).next_multiple_of(dtype.block()));
        let range = |plane| (dtype.entries(plane, first), dtype.entries(plane, end - first));
        let (at, entries) = range(Plane::Packed);
        let words = self.read_plane(gpu, name, Plane::Packed, at, entries).await?;
        let (at, entries) = range(Plane::Scales);
        let scales = if entries > 0 { self.read_plane(gpu, name, Plane::Scales, at, entries).await? } else { Vec::new() };
        let scales: Vec<f32> = scales.into_iter().map(f32::from_bits).collect();
        Ok(dtype.decode(&words, &scales)[start - first..start - first + len].to_vec())
    }

    async fn read_words<T: bytemuck::Pod>(&self, gpu: &Gpu, pieces: Vec<Piece<'_>>) -> Result<Vec<T>, ModelError> {
        let mut all = Vec::new();
        for piece in pieces {
            all.extend(gpu.read::<T>(piece.buffer, piece.start, piece.len).await?);
        }
        Ok(all)
    }

    /// Reads the tensor named `name`, which is in f32, back in pieces, in order.
    ///
    /// # Errors
    /// No such tensor, a packed one, or what the GPU or `take` reports.
    pub async fn download(
        &self,
        gpu: &Gpu,
        name: &str,
        mut take: impl FnMut(&[f32]) -> Result<(), ModelError>,
    ) -> Result<(), ModelError> {
        let len = self.len_of(name)?;
        for at in (0..len).step_by(PIECE) {
            take(&self.read(gpu, name, at, PIECE.min(len - at)).await?)?;
        }
        Ok(())
    }

    /// The whole tensor named `name`.
    ///
    /// # Errors
    /// As [`TensorSet::download`].
    pub async fn tensor_values(&self, gpu: &Gpu, name: &str) -> Result<Vec<f32>, ModelError> {
        let mut all = Vec::new();
        self.download(gpu, name, |piece| {
            all.extend_from_slice(piece);
            Ok(())
        })
        .await?;
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::slab_rows;

    /// Slabs are as few as fit, of nearly the same height, and all but the last a multiple of 32 rows.
    #[test]
    fn tables_are_cut_into_slabs_that_fit() {
        assert_eq!(slab_rows(100, 64, 6400), 100);
        for (rows, width, most) in [(151_936, 512, 33_554_432), (151_936, 1024, 33_554_432), (5000, 64, 262_144), (101, 64, 6400)]
        {
            let step = slab_rows(rows, width, most);
            let chunks = rows.div_ceil(step);
            assert!(step.is_multiple_of(32) && step * width <= most, "{rows} x {width}: {step}");
            assert!(chunks <= (rows * width).div_ceil(most) + 1, "{rows} x {width}: {chunks} chunks");
        }
        // A row that does not fit a binding cannot be helped by chunks.
        assert_eq!(slab_rows(10, 1000, 100), 10);
    }
}
