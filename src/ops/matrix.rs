//! Weight matrices as kernels read them: in f32 or packed, in one tensor or cut by rows into chunks.

use super::weight_dtype::WeightDtype;
use crate::gpu::Tensor;

/// A packed matrix `[N, K]`; K is a multiple of 32.
#[derive(Clone, Copy, Debug)]
pub struct Packed {
    /// Any except f32.
    pub dtype: WeightDtype,
    /// `[N, K · bits / 32]`
    pub words: Tensor,
    /// `[N, K / 32]`, if it is quantised.
    pub scales: Option<Tensor>,
}

/// The values of a matrix.
#[derive(Clone, Copy, Debug)]
pub enum Storage {
    /// In f32.
    Full(Tensor),
    Packed(Packed),
}

/// Rows of a matrix that lie in one buffer.
#[derive(Clone, Copy, Debug)]
pub struct RowChunk {
    pub rows: u32,
    pub storage: Storage,
}

/// A weight matrix `[N, K]` as chunks of rows. It has more than one chunk if it is larger than a binding may be. If the rows of
/// all chunks except the last are multiples of 4, products use the same kernels as for one chunk.
#[derive(Clone, Debug)]
pub struct Matrix {
    pub chunks: Vec<RowChunk>,
}

impl Matrix {
    /// `[rows, K]` in f32, in one tensor.
    pub fn full(tensor: Tensor, rows: u32) -> Self {
        Matrix { chunks: vec![RowChunk { rows, storage: Storage::Full(tensor) }] }
    }

    /// `[rows, K]`, packed, in one chunk.
    pub fn packed(packed: Packed, rows: u32) -> Self {
        Matrix { chunks: vec![RowChunk { rows, storage: Storage::Packed(packed) }] }
    }

    /// Each chunk with its first row.
    pub(super) fn placed(&self) -> impl Iterator<Item = (u32, RowChunk)> {
        placed(&self.chunks, |chunk| chunk.rows)
    }
}

/// Rows of a matrix in f32 that lie in one buffer. Gradients, and other matrices that kernels write, are made of these.
#[derive(Clone, Copy, Debug)]
pub struct FullChunk {
    pub rows: u32,
    pub tensor: Tensor,
}

/// Each chunk with its first row.
pub fn placed<S: Copy>(chunks: &[S], rows: impl Fn(&S) -> u32) -> impl Iterator<Item = (u32, S)> {
    chunks.iter().scan(0, move |next, chunk| {
        let first = *next;
        *next += rows(chunk);
        Some((first, *chunk))
    })
}
