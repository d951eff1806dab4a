//! Weight matrices as a model holds them on the GPU: in f32 or packed, in one tensor or cut by rows into chunks.

use super::test_plan::{TestPlan, random};
use crate::ops::matrix::{FullChunk, Matrix, Packed, RowChunk, Storage};
use crate::ops::weight_dtype::{BLOCK, WeightDtype};
use crate::reference::matmul_packed as reference;

/// How a matrix is stored: its dtype, and the rows of each chunk.
#[derive(Clone, Copy, Debug)]
pub struct Stored<'a> {
    pub dtype: WeightDtype,
    pub cuts: &'a [usize],
}

impl Stored<'_> {
    /// Rows of the whole matrix.
    pub fn rows(&self) -> usize {
        self.cuts.iter().sum()
    }

    /// The suffix of a check's name: " q8", " in chunks".
    pub fn name(&self) -> String {
        let dtype = if self.dtype == WeightDtype::F32 { String::new() } else { format!(" {}", self.dtype.name()) };
        if self.cuts.len() > 1 { dtype + " in chunks" } else { dtype }
    }
}

/// The matrix `values` `[_, width]`, stored as `how` says, and the values that the stored matrix has.
pub fn matrix(test: &mut TestPlan, how: &Stored, values: &[f64], width: usize) -> (Matrix, Vec<f64>) {
    let (mut chunks, mut stored, mut rest) = (Vec::new(), Vec::new(), values);
    for rows in how.cuts {
        let (own, others) = rest.split_at(rows * width);
        rest = others;
        let (storage, decoded) = match how.dtype {
            WeightDtype::F32 => (Storage::Full(test.floats("chunk", own)), own.to_vec()),
            dtype => {
                let (packed, decoded) = packed(test, dtype, own);
                (Storage::Packed(packed), decoded)
            }
        };
        chunks.push(RowChunk { rows: *rows as u32, storage });
        stored.extend(decoded);
    }
    (Matrix { chunks }, stored)
}

/// `values` `[_, width]` in f32, cut into chunks that a kernel may write.
pub fn chunks(test: &mut TestPlan, cuts: &[usize], values: &[f64], width: usize) -> Vec<FullChunk> {
    let mut rest = values;
    let mut cut = |rows: &usize| {
        let (own, others) = rest.split_at(rows * width);
        rest = others;
        FullChunk { rows: *rows as u32, tensor: test.floats("chunk", own) }
    };
    cuts.iter().map(&mut cut).collect()
}

/// `values` packed, and the values that the packed words stand for.
fn packed(test: &mut TestPlan, dtype: WeightDtype, values: &[f64]) -> (Packed, Vec<f64>) {
    let narrow: Vec<f32> = values.iter().map(|x| *x as f32).collect();
    let (words, scales) = dtype.encode(&narrow);
    let wide: Vec<f64> = scales.iter().map(|bits| f64::from(f32::from_bits(*bits))).collect();
    let decoded = match dtype {
        WeightDtype::F32 => values.to_vec(),
        WeightDtype::F16 => reference::halves(&words, 5),
        WeightDtype::Bf16 => reference::halves(&words, 8),
        WeightDtype::Q8 | WeightDtype::Q4Symmetric => reference::dequantise(&reference::unpack(&words, dtype.bits()), &wide),
        WeightDtype::Q4 => reference::dequantise_affine(&words, &reference::halves(&scales, 5)),
    };
    let words = test.words("words", &words);
    let scales = dtype.is_quantised().then(|| test.words("scales", &scales));
    (Packed { dtype, words, scales }, decoded)
}

/// `n` numbers with blocks of each kind: all zero, with an outlier, and of both signs. None of them is subnormal in f16, because
/// some devices read subnormal numbers as 0.
pub fn blocks(n: usize, seed: u64) -> Vec<f64> {
    let mut values: Vec<f64> = random(n, seed).into_iter().map(|x| if x.abs() < 1e-4 { 0.0 } else { x }).collect();
    for (i, block) in values.chunks_mut(BLOCK).enumerate() {
        match i % 5 {
            3 => block.fill(0.0),
            4 => block[i % block.len()] = -40.0,
            _ => {}
        }
    }
    values
}
