//! Weight matrices as kernels read them: in f32 or packed, in one tensor or cut by rows into several.

use crate::gpu::Tensor;

/// How the values of a packed matrix are stored. A row is whole blocks of 32 values in every packing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// Codes of 8 bits with a scale a block, as `model::quantised` writes them.
    Q8,
    /// The same with 4 bits.
    Q4,
    /// bf16, two values a word, the first in the low half.
    Bf16,
    /// f16, likewise.
    F16,
}

impl Packing {
    pub const ALL: [Packing; 4] = [Packing::Q8, Packing::Q4, Packing::Bf16, Packing::F16];

    pub fn name(self) -> &'static str {
        match self {
            Packing::Q8 => "q8",
            Packing::Q4 => "q4",
            Packing::Bf16 => "bf16",
            Packing::F16 => "f16",
        }
    }

    /// Bits of a value, scales not counted.
    pub fn bits(self) -> u32 {
        match self {
            Packing::Q8 => 8,
            Packing::Q4 => 4,
            Packing::Bf16 | Packing::F16 => 16,
        }
    }

    /// Whether each block of 32 values has a scale.
    pub fn scaled(self) -> bool {
        matches!(self, Packing::Q8 | Packing::Q4)
    }

    /// The constants of `shaders/lib/codes.wgsl`.
    pub(super) fn constants(self) -> [(&'static str, u32); 2] {
        let name = match self {
            Packing::Q8 => "Q8",
            Packing::Q4 => "Q4",
            Packing::Bf16 => "BF16",
            Packing::F16 => "F16",
        };
        [(name, 1), ("HALF", u32::from(!self.scaled()))]
    }
}

/// A packed matrix `[N, K]`; K is a multiple of 32.
#[derive(Clone, Copy, Debug)]
pub struct Packed {
    pub packing: Packing,
    /// `[N, K · bits / 32]`
    pub words: Tensor,
    /// `[N, K / 32]`, in the packings that have them.
    pub scales: Option<Tensor>,
}

/// The values of a matrix.
#[derive(Clone, Copy, Debug)]
pub enum Cells {
    /// In f32.
    Full(Tensor),
    Packed(Packed),
}

/// Rows of a matrix that lie in one buffer.
#[derive(Clone, Copy, Debug)]
pub struct Slab {
    pub rows: u32,
    pub cells: Cells,
}

/// A weight matrix `[N, K]`: slabs one below the other, more than one where it is larger than a binding may be. Where the
/// rows of all slabs but the last are multiples of 4, products take the same paths as for one.
#[derive(Clone, Debug)]
pub struct Matrix {
    pub slabs: Vec<Slab>,
}

impl Matrix {
    /// `[rows, K]` in f32, in one tensor.
    pub fn full(tensor: Tensor, rows: u32) -> Self {
        Matrix { slabs: vec![Slab { rows, cells: Cells::Full(tensor) }] }
    }

    /// `[rows, K]`, packed, in one piece.
    pub fn packed(packed: Packed, rows: u32) -> Self {
        Matrix { slabs: vec![Slab { rows, cells: Cells::Packed(packed) }] }
    }

    /// Each slab with its first row.
    pub(super) fn placed(&self) -> impl Iterator<Item = (u32, Slab)> {
        placed(&self.slabs, |slab| slab.rows)
    }
}

/// Rows of a matrix in f32 that lie in one buffer: what gradients and other things that are written consist of.
#[derive(Clone, Copy, Debug)]
pub struct FullSlab {
    pub rows: u32,
    pub tensor: Tensor,
}

/// Each slab with its first row.
pub fn placed<S: Copy>(slabs: &[S], rows: impl Fn(&S) -> u32) -> impl Iterator<Item = (u32, S)> {
    slabs.iter().scan(0, move |next, slab| {
        let first = *next;
        *next += rows(slab);
        Some((first, *slab))
    })
}
