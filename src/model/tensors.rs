//! Sets of tensors on the GPU: the weights of a model or adapter, a gradient, the moments of an optimiser.
//!
//! ```text
//! group      [rows, cols]        tensors stacked by rows (names.rs)
//!   chunk    rows first ..       one buffer of at most the size of a binding; two buffers (codes and scales) if quantised
//! ```
//!
//! Most groups are one chunk. Tensors of one group in several dtypes are a chunk each. An embedding of 151,936 rows is several
//! chunks on an adapter with bindings of 128 MiB. Only products with it see the chunks.

use super::config::Config;
use super::error::ModelError;
use super::names::{Group, Groups, Part, TensorSpec, specs};
use super::quantised::Plane;
use super::source::{TensorSource, stream_group};
use crate::gpu::{Buffer, Gpu, PlanBuilder, Tensor};
use crate::ops::matrix::{FullChunk, Matrix, Packed, RowChunk, Storage};
use crate::ops::weight_dtype::WeightDtype;

/// Elements per transfer between host and GPU: 4 MiB.
const TRANSFER_ELEMENTS: usize = 1 << 20;
/// Where a group has several chunks, their rows are a multiple of this, so that products over its columns stay aligned.
pub const MIN_CHUNK_ROWS: usize = 32;

/// The buffers of a list of groups, in their order.
#[derive(Clone)]
pub struct TensorSet {
    groups: Vec<Group>,
    /// The chunks of each group.
    chunks: Vec<Vec<Chunk>>,
}

/// Rows `first .. first + rows` of a group, in one or two buffers.
#[derive(Clone)]
struct Chunk {
    first: usize,
    rows: usize,
    dtype: WeightDtype,
    /// Values in f32, or packed words.
    words: Buffer,
    scales: Option<Buffer>,
}

/// A range of a tensor within one buffer.
struct BufferRange<'a> {
    buffer: &'a Buffer,
    /// First entry within the buffer.
    start: usize,
    /// First entry within the tensor.
    tensor_start: usize,
    len: usize,
}

/// The dtype of a tensor of the group that has these chunks.
fn dtype_of_part(part: &Part, chunks: &[Chunk]) -> WeightDtype {
    chunks.iter().find(|chunk| chunk.overlaps(part)).map(|chunk| chunk.dtype).unwrap_or_default()
}

impl Chunk {
    /// Whether it has rows of `part`.
    fn overlaps(&self, part: &Part) -> bool {
        self.first < part.row_offset + part.rows && part.row_offset < self.first + self.rows
    }

    fn buffers(&self) -> impl Iterator<Item = &Buffer> {
        std::iter::once(&self.words).chain(&self.scales)
    }

    /// Entries of a plane for `values` values. The plane `None` is plain f32. `None` is returned for a plane that is not there.
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

/// Neighbouring tensors of a group that share a dtype.
struct Run {
    first: usize,
    rows: usize,
    dtype: WeightDtype,
}

fn runs(group: &Group, dtype_of: impl Fn(&Group, &Part) -> WeightDtype) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for part in &group.parts {
        let dtype = dtype_of(group, part);
        match runs.last_mut() {
            Some(run) if run.dtype == dtype => run.rows += part.rows,
            _ => runs.push(Run { first: part.row_offset, rows: part.rows, dtype }),
        }
    }
    runs
}

/// Rows per chunk of a run of `rows` rows, with at most `max_words` words per buffer.
fn rows_per_chunk(rows: usize, words_per_row: usize, max_words: usize) -> usize {
    let fitting = max_words / words_per_row.max(1);
    if rows <= fitting || fitting < MIN_CHUNK_ROWS {
        return rows; // one chunk; if it is too large, the creation of its buffer fails with a message that names it
    }
    let chunks = rows.div_ceil(fitting / MIN_CHUNK_ROWS * MIN_CHUNK_ROWS);
    rows.div_ceil(chunks).next_multiple_of(MIN_CHUNK_ROWS)
}

/// Writes elements `start ..` of a group into its chunks, encoded in their dtype.
fn write_group(gpu: &Gpu, group: &Group, chunks: &[Chunk], start: usize, values: &[f32]) -> Result<(), ModelError> {
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
    /// Zeros in f32 for `groups`. `role` ("gradient", "first moment", …) is part of the buffers' names.
    ///
    /// # Errors
    /// Too little GPU memory.
    pub fn zeros(gpu: &Gpu, groups: &[Group], role: &str) -> Result<Self, ModelError> {
        Self::allocate(gpu, groups, |_, _| WeightDtype::F32, role)
    }

    /// Zeros for `groups`, each tensor in the dtype that `dtype_of` says.
    ///
    /// # Errors
    /// Too little GPU memory.
    pub fn allocate(
        gpu: &Gpu,
        groups: &[Group],
        dtype_of: impl Fn(&Group, &Part) -> WeightDtype,
        role: &str,
    ) -> Result<Self, ModelError> {
        let max_words = (gpu.max_binding().min(gpu.max_buffer()) / 4) as usize;
        let chunks = |group: &Group| -> Result<Vec<Chunk>, ModelError> {
            let mut chunks = Vec::new();
            for run in runs(group, &dtype_of) {
                let words = run.dtype.entries(Plane::Packed, group.cols);
                let chunk_rows = rows_per_chunk(run.rows, words, max_words).max(1);
                for first in (run.first..run.first + run.rows).step_by(chunk_rows) {
                    let rows = chunk_rows.min(run.first + run.rows - first);
                    let number = if rows < group.rows { format!("[{}]", chunks.len()) } else { String::new() };
                    let buffer =
                        |what: &str, words: usize| gpu.buffer(&format!("{}{number}{what} ({role})", group.name), rows * words);
                    let scales = run.dtype.entries(Plane::Scales, group.cols);
                    let scales = if scales > 0 { Some(buffer(".scales", scales)?) } else { None };
                    chunks.push(Chunk { first, rows, dtype: run.dtype, words: buffer("", words)?, scales });
                }
            }
            Ok(chunks)
        };
        let chunks = groups.iter().map(chunks).collect::<Result<_, _>>()?;
        Ok(TensorSet { groups: groups.to_vec(), chunks })
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

    /// Fills the set from `source`. Quantised matrices that are stored in the dtype of this set are copied; all others are
    /// converted through f32.
    pub(super) fn upload(&self, gpu: &Gpu, source: &dyn TensorSource) -> Result<(), ModelError> {
        for (group, chunks) in self.groups.iter().zip(&self.chunks) {
            for part in &group.parts {
                let dtype = dtype_of_part(part, chunks);
                if dtype.is_quantised() && source.stored_dtype(&part.hf_name) == dtype {
                    for plane in Plane::ALL {
                        self.upload_plane(gpu, source, part, plane, dtype.entries(plane, group.cols))?;
                    }
                    continue;
                }
                let alone = Group::new(group.name.clone(), group.kind, group.cols, vec![(part.hf_name.clone(), part.rows)]);
                let first = part.row_offset * group.cols;
                let write = |start, values: &[f32]| write_group(gpu, group, chunks, first + start, values);
                stream_group(source, &alone, TRANSFER_ELEMENTS, write)?;
            }
        }
        Ok(())
    }

    /// Uploads one plane of a quantised tensor, with `width` entries per row.
    fn upload_plane(
        &self,
        gpu: &Gpu,
        source: &dyn TensorSource,
        part: &Part,
        plane: Plane,
        width: usize,
    ) -> Result<(), ModelError> {
        let (mut entries, len) = (Vec::new(), part.rows * width);
        for start in (0..len).step_by(TRANSFER_ELEMENTS) {
            entries.resize(TRANSFER_ELEMENTS.min(len - start), 0);
            source.read_plane(&part.hf_name, plane, start, &mut entries)?;
            self.write_plane(gpu, &part.hf_name, plane, start, &entries)?;
        }
        Ok(())
    }

    /// Group `index`, a norm or a bias (one chunk in f32), as a tensor of a plan.
    pub fn tensor(&self, plan: &mut PlanBuilder, index: usize) -> Tensor {
        plan.import(&self.chunks[index][0].words)
    }

    /// Group `index`, a matrix, as an operand of products.
    pub fn matrix(&self, plan: &mut PlanBuilder, index: usize) -> Matrix {
        let row_chunk = |chunk: &Chunk| {
            let words = plan.import(&chunk.words);
            let storage = match chunk.dtype {
                WeightDtype::F32 => Storage::Full(words),
                dtype => {
                    let scales = chunk.scales.as_ref().map(|scales| plan.import(scales));
                    Storage::Packed(Packed { dtype, words, scales })
                }
            };
            RowChunk { rows: chunk.rows as u32, storage }
        };
        Matrix { chunks: self.chunks[index].iter().map(row_chunk).collect() }
    }

    /// The chunks of group `index` of a set in f32, for products that write it.
    pub fn full_chunks(&self, plan: &mut PlanBuilder, index: usize) -> Vec<FullChunk> {
        let full_chunk = |chunk: &Chunk| FullChunk { rows: chunk.rows as u32, tensor: plan.import(&chunk.words) };
        self.chunks[index].iter().map(full_chunk).collect()
    }

    /// Every chunk of every group of a set in f32, with the group's index.
    pub fn all(&self, plan: &mut PlanBuilder) -> Vec<(usize, Tensor)> {
        let chunks = self.chunks.iter().enumerate().flat_map(|(index, chunks)| chunks.iter().map(move |chunk| (index, chunk)));
        chunks.map(|(index, chunk)| (index, plan.import(&chunk.words))).collect()
    }

    /// Every buffer, in order.
    pub fn buffers(&self) -> Vec<&Buffer> {
        self.chunks.iter().flatten().flat_map(Chunk::buffers).collect()
    }

    /// The dtype with the fewest bits of those that are not f32.
    pub fn packed_dtype(&self) -> Option<WeightDtype> {
        let packed = self.chunks.iter().flatten().map(|chunk| chunk.dtype).filter(|dtype| *dtype != WeightDtype::F32);
        packed.min_by_key(|dtype| dtype.bits())
    }

    /// Bytes of all buffers.
    pub fn bytes(&self) -> u64 {
        self.buffers().iter().map(|b| b.words as u64 * 4).sum()
    }

    /// Fills all buffers with zeros.
    pub fn clear(&self, gpu: &Gpu) {
        gpu.clear(&self.buffers().into_iter().cloned().collect::<Vec<_>>());
    }

    /// Copies the values of `other`, a set of the same groups and dtypes, on the GPU.
    ///
    /// # Errors
    /// A set of another size.
    pub fn copy_from(&self, gpu: &Gpu, other: &TensorSet) -> Result<(), ModelError> {
        let pairs: Vec<_> = other.buffers().into_iter().zip(self.buffers()).collect();
        Ok(gpu.copy(&pairs)?)
    }

    /// The buffer ranges of entries `start .. start + len` of a tensor's plane (`None`: of a tensor in f32), in order.
    fn ranges(&self, name: &str, plane: Option<Plane>, start: usize, len: usize) -> Result<Vec<BufferRange<'_>>, ModelError> {
        let unknown = || ModelError::UnknownTensor(name.into());
        let named = self.groups.iter().zip(&self.chunks).find_map(|(group, chunks)| {
            let part = group.parts.iter().find(|p| p.hf_name == name)?;
            Some((group, part, chunks))
        });
        let (group, part, chunks) = named.ok_or_else(unknown)?;
        // All chunks of a tensor share its dtype.
        let of_part = || chunks.iter().filter(|chunk| chunk.overlaps(part));
        let width = of_part().next().and_then(|chunk| chunk.entries(plane, group.cols)).ok_or_else(unknown)?;
        let (entries, end) = (part.rows * width, start.saturating_add(len));
        if end > entries {
            return Err(ModelError::OutOfBounds { tensor: name.into(), len: entries, start, end });
        }
        // Positions within the group.
        let part_start = part.row_offset * width;
        let mut ranges = Vec::new();
        for chunk in of_part() {
            let (first, last) = (chunk.first * width, (chunk.first + chunk.rows) * width);
            let (from, to) = ((part_start + start).max(first), (part_start + end).min(last));
            if from < to {
                let buffer = chunk.buffer(plane).ok_or_else(unknown)?;
                ranges.push(BufferRange { buffer, start: from - first, tensor_start: from - part_start, len: to - from });
            }
        }
        Ok(ranges)
    }

    /// The dtype in which the tensor named `name` is held; f32 if there is no such tensor.
    pub fn dtype_of(&self, name: &str) -> WeightDtype {
        let of_group = |(group, chunks): (&Group, &Vec<Chunk>)| {
            group.parts.iter().find(|part| part.hf_name == name).map(|part| dtype_of_part(part, chunks))
        };
        self.groups.iter().zip(&self.chunks).find_map(of_group).unwrap_or_default()
    }

    /// Elements of the tensor named `name`, which is in f32.
    ///
    /// # Errors
    /// No such tensor, or a packed one.
    fn len_of(&self, name: &str) -> Result<usize, ModelError> {
        let exists = self.ranges(name, None, 0, 0);
        let len = self.groups.iter().find_map(|g| Some(g.cols * g.parts.iter().find(|p| p.hf_name == name)?.rows));
        exists.and(len.ok_or_else(|| ModelError::UnknownTensor(name.into())))
    }

    /// Writes elements `start ..` of the tensor named `name`, which is in f32.
    ///
    /// # Errors
    /// No such tensor; a packed one; values past its end.
    pub fn write(&self, gpu: &Gpu, name: &str, start: usize, values: &[f32]) -> Result<(), ModelError> {
        for range in self.ranges(name, None, start, values.len())? {
            let from = range.tensor_start - start;
            gpu.write(range.buffer, range.start, &values[from..from + range.len])?;
        }
        Ok(())
    }

    /// Writes entries `start ..` of one plane of the packed tensor named `name`.
    ///
    /// # Errors
    /// No such tensor; one in f32; entries past its end.
    pub fn write_plane(&self, gpu: &Gpu, name: &str, plane: Plane, start: usize, entries: &[u32]) -> Result<(), ModelError> {
        for range in self.ranges(name, Some(plane), start, entries.len())? {
            let from = range.tensor_start - start;
            gpu.write(range.buffer, range.start, &entries[from..from + range.len])?;
        }
        Ok(())
    }

    /// Elements `start .. start + len` of the tensor named `name`, which is in f32.
    ///
    /// # Errors
    /// No such tensor; a packed one; a range past its end; an error of the GPU.
    pub async fn read(&self, gpu: &Gpu, name: &str, start: usize, len: usize) -> Result<Vec<f32>, ModelError> {
        self.read_words(gpu, self.ranges(name, None, start, len)?).await
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
        self.read_words(gpu, self.ranges(name, Some(plane), start, len)?).await
    }

    /// Elements `start .. start + len` of the tensor named `name`, decoded if it is packed.
    ///
    /// # Errors
    /// No such tensor; a range past its end; an error of the GPU.
    pub async fn values(&self, gpu: &Gpu, name: &str, start: usize, len: usize) -> Result<Vec<f32>, ModelError> {
        let dtype = self.dtype_of(name);
        if dtype == WeightDtype::F32 {
            return self.read(gpu, name, start, len).await;
        }
        // Whole blocks are read and decoded; the values outside of the range are then cut off.
        let (first, end) = (start / dtype.block() * dtype.block(), (start + len).next_multiple_of(dtype.block()));
        let range = |plane| (dtype.entries(plane, first), dtype.entries(plane, end - first));
        let (from, count) = range(Plane::Packed);
        let words = self.read_plane(gpu, name, Plane::Packed, from, count).await?;
        let (from, count) = range(Plane::Scales);
        let scales = if count > 0 { self.read_plane(gpu, name, Plane::Scales, from, count).await? } else { Vec::new() };
        Ok(dtype.decode(&words, &scales)[start - first..start - first + len].to_vec())
    }

    async fn read_words<T: bytemuck::Pod>(&self, gpu: &Gpu, ranges: Vec<BufferRange<'_>>) -> Result<Vec<T>, ModelError> {
        let mut words = Vec::new();
        for range in ranges {
            words.extend(gpu.read::<T>(range.buffer, range.start, range.len).await?);
        }
        Ok(words)
    }

    /// Reads the tensor named `name`, which is in f32, and passes its values to `take` in order, several at a time.
    ///
    /// # Errors
    /// No such tensor; a packed one; an error of the GPU or of `take`.
    pub async fn download(
        &self,
        gpu: &Gpu,
        name: &str,
        mut take: impl FnMut(&[f32]) -> Result<(), ModelError>,
    ) -> Result<(), ModelError> {
        let len = self.len_of(name)?;
        for start in (0..len).step_by(TRANSFER_ELEMENTS) {
            take(&self.read(gpu, name, start, TRANSFER_ELEMENTS.min(len - start)).await?)?;
        }
        Ok(())
    }

    /// All values of the tensor named `name`.
    ///
    /// # Errors
    /// As [`TensorSet::download`].
    pub async fn tensor_values(&self, gpu: &Gpu, name: &str) -> Result<Vec<f32>, ModelError> {
        let mut tensor = Vec::new();
        self.download(gpu, name, |values| {
            tensor.extend_from_slice(values);
            Ok(())
        })
        .await?;
        Ok(tensor)
    }
}

#[cfg(test)]
mod tests {
    use super::rows_per_chunk;

    /// Chunks are as few as possible, of nearly equal size, and all but the last have a multiple of 32 rows.
    #[test]
    fn matrices_are_cut_into_chunks_that_fit() {
        assert_eq!(rows_per_chunk(100, 64, 6400), 100);
        for (rows, width, max_words) in
            [(151_936, 512, 33_554_432), (151_936, 1024, 33_554_432), (5000, 64, 262_144), (101, 64, 6400)]
        {
            let chunk_rows = rows_per_chunk(rows, width, max_words);
            let chunks = rows.div_ceil(chunk_rows);
            assert!(chunk_rows.is_multiple_of(32) && chunk_rows * width <= max_words, "{rows} x {width}: {chunk_rows}");
            assert!(chunks <= (rows * width).div_ceil(max_words) + 1, "{rows} x {width}: {chunks} chunks");
        }
        // Chunks do not help where a single row is above the limit.
        assert_eq!(rows_per_chunk(10, 1000, 100), 10);
    }
}
