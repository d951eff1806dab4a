//! Packed matrices: how rows of values are stored in 32-bit words, in bundles and on the GPU.
//!
//! **Quantisation.** A row of a matrix `[out, in]` is cut into blocks of 32 values ([`BLOCK`]) along `in`.
//!
//! - **Q8** has one scale s = max|x| / 127 per block. A value x is stored as the code q = round(x / s), an integer in −127 ..=
//!   127, and is decoded as q s. Codes are symmetric, zero is exact, and −128 is never written. This is Q8_0 of ggml with an
//!   f32 scale: 1.125 bytes per weight.
//! - **Q4** has a scale s and a minimum m per block, both f16. A value is stored as the code q = round((x − m) / s), an integer
//!   in 0 ..= 15, and is decoded as q s + m. This is Q4_1 of ggml: 0.625 bytes per weight. A minimum per block uses all 16
//!   codes wherever the values of a block lie; with the same number of bits a symmetric scale moves a small model about four
//!   times as far (`docs/quantisation.md`). s and m are those of least squared error among a few candidates ([`affine_block`]),
//!   weighted by the squares of what the columns are multiplied with, if these were measured ([`ColumnSquares`]).
//! - **Q4 without minima** is what earlier bundles hold: codes in −7 ..= 7 and an f32 scale, max|x| / 7. It is read, not
//!   written.
//!
//! Codes and scales are two planes of 32-bit words:
//!
//! ```text
//! packed  [out, in · bits / 32]   codes, the first in the lowest bits: 4 (Q8) or 8 (Q4) per word; signed without minima
//! scales  [out, in / 32]          s as f32, or s (low half) and m (high half) as f16
//! ```
//!
//! Both are row-major and no block crosses a row. So stacking matrices by rows (q, k and v in one) is concatenation of each
//! plane, and a tensor may be cut between any two rows.
//!
//! **Error.** Q8: |q s − x| ≤ s / 2 in exact arithmetic; rounding s, x / s and q s to f32 adds less than 127 s 2⁻²². An outlier
//! reduces the precision of the other 31 values of its block only. A block whose scale would be subnormal (all |x| < 127 ·
//! 2⁻¹²⁶) is stored as zeros, because GPUs may flush subnormal numbers. Q4: at most half a step of the range of its block, plus
//! the rounding of s and m to f16.

use std::collections::HashMap;

use half::f16;

use super::config::Config;
use super::error::ModelError;
use super::names::{Group, GroupKind, Groups, Part};
use crate::ops::weight_dtype::{BLOCK, WeightDtype};

/// The two arrays of a quantised matrix. Entries of both have 32 bits. Other packed matrices have no scales.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Plane {
    Packed,
    Scales,
}

impl Plane {
    pub const ALL: [Plane; 2] = [Plane::Packed, Plane::Scales];
}

/// m, the largest code of `bits` bits.
pub fn largest_code(bits: usize) -> i32 {
    (1 << (bits - 1)) - 1
}

#[doc(hidden)]
impl WeightDtype {
    /// Entries of a plane for `values` values, a multiple of [`WeightDtype::block`].
    pub fn entries(self, plane: Plane, values: usize) -> usize {
        match plane {
            Plane::Packed => values * self.bits() / 32,
            Plane::Scales if self.is_quantised() => values / BLOCK,
            Plane::Scales => 0,
        }
    }

    /// The dtype of a tensor of `group` in weights of this dtype. Norms and biases are held in f32, and so are matrices whose
    /// rows are not whole blocks.
    ///
    /// Two tensors keep 8 bits in all quantised weights. The embedding may also be the output head, and every logit of a score
    /// is computed with it; it must be packed because it is the largest matrix of a small model. The values of attention are
    /// few where heads share them, and move a model most: in Q4 they cause a third of its error (`docs/quantisation.md`).
    pub fn of_part(self, group: &Group, part: &Part) -> WeightDtype {
        let wanted = match group.kind {
            GroupKind::Embedding if self.is_quantised() => WeightDtype::Q8,
            GroupKind::Matrix if self == WeightDtype::Q4 && part.hf_name.contains("v_proj") => WeightDtype::Q8,
            GroupKind::Embedding | GroupKind::Matrix => self,
            GroupKind::Norm | GroupKind::Bias => WeightDtype::F32,
        };
        wanted.for_rows_of(group)
    }

    /// This dtype, if it can hold the rows of `group`.
    pub fn for_rows_of(self, group: &Group) -> WeightDtype {
        if group.cols.is_multiple_of(self.block()) { self } else { WeightDtype::F32 }
    }

    /// Number of matrices in the model's files that stay in f32.
    pub fn left_in_full(self, config: &Config) -> usize {
        let in_full = |group: &&Group| {
            matches!(group.kind, GroupKind::Embedding | GroupKind::Matrix) && self.for_rows_of(group) == WeightDtype::F32
        };
        Groups::of(config).list.iter().filter(in_full).map(|group| group.parts.len()).sum()
    }

    /// Both planes of `values`, which are whole blocks of finite numbers in the range of this dtype.
    pub fn encode(self, values: &[f32]) -> (Vec<u32>, Vec<u32>) {
        match self {
            WeightDtype::F32 => (values.iter().map(|x| x.to_bits()).collect(), Vec::new()),
            WeightDtype::F16 | WeightDtype::Bf16 => {
                let mut bytes = Vec::with_capacity(values.len() * 2);
                self.narrow(values, &mut bytes);
                (bytes.as_chunks::<4>().0.iter().map(|word| u32::from_le_bytes(*word)).collect(), Vec::new())
            }
            WeightDtype::Q8 | WeightDtype::Q4Symmetric => quantise(self.bits(), values),
            WeightDtype::Q4 => quantise_affine(values, &[1.0; BLOCK], 0),
        }
    }

    /// As [`WeightDtype::encode`], of values whose first is in column `column` of a matrix: in Q4, the error of a value counts as
    /// `weights`, `[columns]`, says.
    pub fn encode_weighted(self, values: &[f32], weights: &[f32], column: usize) -> (Vec<u32>, Vec<u32>) {
        match self {
            WeightDtype::Q4 => quantise_affine(values, weights, column),
            _ => self.encode(values),
        }
    }

    /// The values of both planes, which are whole blocks.
    pub fn decode(self, words: &[u32], scales: &[u32]) -> Vec<f32> {
        match self {
            WeightDtype::F32 => words.iter().map(|word| f32::from_bits(*word)).collect(),
            WeightDtype::F16 | WeightDtype::Bf16 => {
                let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
                let mut values = vec![0.0; words.len() * 2];
                self.widen(&bytes, &mut values);
                values
            }
            WeightDtype::Q8 | WeightDtype::Q4Symmetric => dequantise(self.bits(), words, scales),
            WeightDtype::Q4 => dequantise_affine(words, scales),
        }
    }

    /// The first of `values` that is out of range: f16, in which Q4 has its minima, ends at 65,504.
    pub fn first_out_of_range(self, values: &[f32]) -> Option<usize> {
        let has_f16 = matches!(self, WeightDtype::F16 | WeightDtype::Q4);
        values.iter().position(|x| has_f16 && x.abs() > f16::MAX.to_f32())
    }

    /// Checks that `values`, elements `start ..` of `group`, are in the range of this dtype.
    ///
    /// # Errors
    /// The first value out of range.
    pub fn check_range(self, group: &str, start: usize, values: &[f32]) -> Result<(), ModelError> {
        match self.first_out_of_range(values) {
            None => Ok(()),
            Some(at) => {
                let (tensor, value) = (group.to_string(), values[at]);
                Err(ModelError::OutOfRangeForDtype { tensor, index: start + at, value, dtype: self.name() })
            }
        }
    }
}

/// The planes of `values`, with symmetric codes of `bits` bits.
fn quantise(bits: usize, values: &[f32]) -> (Vec<u32>, Vec<u32>) {
    let (mut packed, mut scales) = (Vec::new(), Vec::new());
    let max_code = largest_code(bits);
    for block in values.as_chunks::<BLOCK>().0 {
        let largest = block.iter().fold(0f32, |largest, x| largest.max(x.abs()));
        let step = largest / max_code as f32;
        let scale = match step {
            _ if !step.is_normal() => 0.0,
            // The division was rounded up. One unit in the last place less keeps the decoded value finite.
            _ if (step * max_code as f32).is_infinite() => step.next_down(),
            _ => step,
        };
        scales.push(scale.to_bits());
        let code = |x: f32| match scale > 0.0 {
            true => ((x / scale).round() as i32).clamp(-max_code, max_code),
            false => 0,
        };
        let mask = u32::MAX >> (32 - bits);
        for values in block.chunks_exact(32 / bits) {
            packed.push(values.iter().rev().fold(0, |word, x| (word << bits) | (code(*x) as u32 & mask)));
        }
    }
    (packed, scales)
}

/// The values of the planes of symmetric codes.
fn dequantise(bits: usize, packed: &[u32], scales: &[u32]) -> Vec<f32> {
    let mut values = vec![0.0; scales.len() * BLOCK];
    let blocks = packed.chunks_exact(BLOCK * bits / 32).zip(scales);
    for ((words, scale), block) in blocks.zip(values.as_chunks_mut::<BLOCK>().0) {
        let scale = f32::from_bits(*scale);
        for (i, x) in block.iter_mut().enumerate() {
            let (word, shift) = (words[i * bits / 32], i * bits % 32);
            // Shifting the code to the highest bits and back extends its sign.
            *x = (((word << (32 - bits - shift)) as i32) >> (32 - bits)) as f32 * scale;
        }
    }
    values
}

/// The least weight of a column, as a share of the mean: a column that calibration never saw is not free.
const LEAST_WEIGHT: f64 = 1e-4;

/// For each projection, the squares of what its input columns were multiplied with in some rows: a wrong weight costs as much.
/// Normed to a mean of 1.
#[derive(Clone, Debug, Default)]
pub struct ColumnSquares(HashMap<String, Vec<f32>>);

impl ColumnSquares {
    /// Sums of squares of the inputs of the matrix `tensor`.
    pub fn insert(&mut self, tensor: &str, sums: &[f32]) {
        let mean = sums.iter().map(|x| f64::from(*x)).sum::<f64>() / sums.len().max(1) as f64;
        let weight = |sum: &f32| if mean > 0.0 { (f64::from(*sum) / mean).max(LEAST_WEIGHT) as f32 } else { 1.0 };
        self.0.insert(tensor.into(), sums.iter().map(weight).collect());
    }

    /// Those of a matrix, `[columns]`, if they were measured.
    pub fn of(&self, tensor: &str) -> Option<&[f32]> {
        self.0.get(tensor).map(Vec::as_slice)
    }
}

/// The largest code of Q4.
const MOST: f32 = 15.0;

/// How many steps the range of a block has in the candidates for its scale, besides 15: a little less puts the extremes beyond
/// the last codes, a little more leaves them inside. As in llama.cpp's `make_qkx2_quants`.
const STEPS: [f32; 6] = [14.4, 14.6, 14.8, 15.2, 15.4, 15.6];

/// Scale and minimum of Q4 with their codes.
struct AffineBlock {
    scale: f16,
    minimum: f16,
    codes: [u8; BLOCK],
    /// Weighted sum of squares.
    error: f32,
}

impl AffineBlock {
    /// Each value takes the nearest code. `weights` are those of the squared errors.
    fn nearest(block: &[f32; BLOCK], weights: &[f32; BLOCK], scale: f32, minimum: f32) -> Self {
        let (scale, minimum) = (f16::from_f32(scale), f16::from_f32(minimum));
        let (s, m) = (scale.to_f32(), minimum.to_f32());
        let inverse = if s > 0.0 { 1.0 / s } else { 0.0 };
        let (mut codes, mut error) = ([0; BLOCK], 0.0);
        for ((x, weight), code) in block.iter().zip(weights).zip(&mut codes) {
            let nearest = ((x - m) * inverse + 0.5).clamp(0.0, MOST) as i32 as f32;
            let off = nearest * s + m - x;
            (*code, error) = (nearest as u8, error + weight * (off * off));
        }
        AffineBlock { scale, minimum, codes, error }
    }

    /// Scale and minimum of least squared error for these codes.
    fn refitted(&self, block: &[f32; BLOCK], weights: &[f32; BLOCK]) -> Self {
        let (mut n, mut q, mut qq, mut x, mut qx) = (0.0, 0.0, 0.0, 0.0, 0.0);
        for ((value, weight), code) in block.iter().zip(weights).zip(&self.codes) {
            let code = f32::from(*code);
            let (weighted_code, weighted_value) = (weight * code, weight * value);
            (n, q, qq) = (n + weight, q + weighted_code, qq + weighted_code * code);
            (x, qx) = (x + weighted_value, qx + code * weighted_value);
        }
        let determinant = n * qq - q * q;
        match determinant > 0.0 {
            true => Self::nearest(block, weights, (n * qx - q * x) / determinant, (qq * x - q * qx) / determinant),
            false => Self::nearest(block, weights, 0.0, x / n),
        }
    }
}

/// The best of a few scales and minima, by weighted squared error. Values that were decoded from codes of this kind are found
/// again.
fn affine_block(block: &[f32; BLOCK], weights: &[f32; BLOCK]) -> AffineBlock {
    let low = block.iter().copied().fold(f32::INFINITY, f32::min);
    let range = block.iter().copied().fold(f32::NEG_INFINITY, f32::max) - low;
    let mut best = AffineBlock::nearest(block, weights, range / MOST, low);
    if best.error == 0.0 {
        return best;
    }
    for steps in std::iter::once(MOST).chain(STEPS) {
        let found = AffineBlock::nearest(block, weights, range / steps, low).refitted(block, weights);
        if found.error < best.error {
            best = found;
        }
    }
    best
}

/// The planes of `values` in Q4. Their first is in column `column` of a matrix whose columns have these weights, whole blocks.
fn quantise_affine(values: &[f32], weights: &[f32], column: usize) -> (Vec<u32>, Vec<u32>) {
    let (mut packed, mut scales) = (Vec::with_capacity(values.len() / 8), Vec::with_capacity(values.len() / BLOCK));
    let of_columns = weights.as_chunks::<BLOCK>().0.iter().cycle().skip(column % weights.len() / BLOCK);
    for (block, weights) in values.as_chunks::<BLOCK>().0.iter().zip(of_columns) {
        let AffineBlock { scale, minimum, codes, .. } = affine_block(block, weights);
        scales.push(affine_word(scale, minimum));
        packed.extend(codes.chunks_exact(8).map(|codes| codes.iter().rev().fold(0, |word, code| (word << 4) | u32::from(*code))));
    }
    (packed, scales)
}

/// Scale and minimum of a block as one word.
pub fn affine_word(scale: f16, minimum: f16) -> u32 {
    u32::from(scale.to_bits()) | u32::from(minimum.to_bits()) << 16
}

/// Scale and minimum in a word.
fn affine_of_word(word: u32) -> (f16, f16) {
    (f16::from_bits(word as u16), f16::from_bits((word >> 16) as u16))
}

/// The values of the planes of Q4.
fn dequantise_affine(packed: &[u32], scales: &[u32]) -> Vec<f32> {
    let mut values = Vec::with_capacity(scales.len() * BLOCK);
    for (words, scale) in packed.chunks_exact(BLOCK / 8).zip(scales) {
        let (scale, minimum) = affine_of_word(*scale);
        let value = |code: u32| code as f32 * scale.to_f32() + minimum.to_f32();
        values.extend(words.iter().flat_map(|word| (0..8).map(move |i| value((word >> (4 * i)) & 15))));
    }
    values
}

/// Checks that the scales `start ..` of `tensor`, as they are stored in `dtype`, are finite.
///
/// # Errors
/// A scale or a minimum that is NaN or infinite.
pub fn finite_scales(dtype: WeightDtype, tensor: &str, start: usize, scales: &[u32]) -> Result<(), ModelError> {
    let numbers = |word: u32| match dtype {
        WeightDtype::Q4 => {
            let (scale, minimum) = affine_of_word(word);
            [scale.to_f32(), minimum.to_f32()]
        }
        _ => [f32::from_bits(word), 0.0],
    };
    let found = scales.iter().enumerate().find_map(|(at, word)| Some((at, numbers(*word).into_iter().find(|x| !x.is_finite())?)));
    match found {
        None => Ok(()),
        Some((at, value)) => Err(ModelError::NonFinite { tensor: format!("{tensor}.scales"), index: start + at, value }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Stream;
    use crate::reference::matmul_packed as spec;

    const SYMMETRIC: [WeightDtype; 2] = [WeightDtype::Q8, WeightDtype::Q4Symmetric];

    /// `values` after encoding and decoding.
    fn round_trip(dtype: WeightDtype, values: &[f32]) -> Vec<f32> {
        let (packed, scales) = dtype.encode(values);
        dtype.decode(&packed, &scales)
    }

    fn random(n: usize, seed: u64) -> Vec<f32> {
        let mut stream = Stream::new(seed, 5);
        (0..n).map(|_| stream.normal() as f32).collect()
    }

    /// At every magnitude, decoded values are within half a step of their block.
    #[test]
    fn the_error_is_at_most_half_a_step() {
        for dtype in SYMMETRIC {
            for (seed, size) in [1e-30, 1e-5, 0.02, 1.0, 1e10, 1e37].into_iter().enumerate() {
                let values: Vec<f32> = random(320, seed as u64).iter().map(|x| x * size).collect();
                let back = round_trip(dtype, &values);
                let m = f64::from(largest_code(dtype.bits()));
                for (block, out) in values.chunks(BLOCK).zip(back.chunks(BLOCK)) {
                    let step = block.iter().fold(0f64, |m, x| m.max(f64::from(x.abs()))) / m;
                    let allowed = step * (0.5 + m * 2f64.powi(-22));
                    for (x, y) in block.iter().zip(out) {
                        assert!((f64::from(*x) - f64::from(*y)).abs() <= allowed, "{dtype:?}: {x} was decoded as {y}");
                    }
                }
            }
        }
    }

    /// Compares the planes with the plain loops of the reference: each code is the nearest one, and words hold them in order.
    #[test]
    fn the_planes_are_those_of_the_specification() {
        for dtype in SYMMETRIC {
            let values = random(4 * BLOCK, 9);
            let (packed, scales) = dtype.encode(&values);
            assert_eq!(packed.len(), dtype.entries(Plane::Packed, values.len()));
            assert_eq!(scales.len(), dtype.entries(Plane::Scales, values.len()));
            let wide: Vec<f64> = values.iter().map(|x| f64::from(*x)).collect();
            let codes = spec::codes(&wide, dtype.bits());
            assert_eq!(spec::unpack(&packed, dtype.bits()), codes, "{dtype:?}");
            let scales: Vec<f64> = scales.iter().map(|s| f64::from(f32::from_bits(*s))).collect();
            let decoded = spec::dequantise(&codes, &scales);
            for (x, y) in decoded.iter().zip(round_trip(dtype, &values)) {
                assert_eq!(*x as f32, y, "{dtype:?}");
            }
        }
    }

    /// The first code is in the lowest bits, in two's complement. The expected words were computed manually.
    #[test]
    fn words_hold_codes_from_the_lowest_bits_up() {
        let mut values = [0.0; BLOCK];
        values[..5].copy_from_slice(&[1.0, -1.0, 2.0, 127.0, -127.0]);
        let (packed, scales) = WeightDtype::Q8.encode(&values);
        assert_eq!((packed[0], packed[1], scales[0]), (0x7F02_FF01, 0x0000_0081, 1f32.to_bits()));
        values[..5].copy_from_slice(&[1.0, -1.0, 2.0, 7.0, -7.0]);
        let (packed, scales) = WeightDtype::Q4Symmetric.encode(&values);
        assert_eq!((packed[0], packed[1], scales[0]), (0x0009_72F1, 0, 1f32.to_bits()));
        // The scale 1 and the minimum -2.
        let values: [f32; BLOCK] = std::array::from_fn(|i| (i % 16) as f32 - 2.0);
        let (packed, scales) = WeightDtype::Q4.encode(&values);
        assert_eq!((packed, scales), (vec![0x7654_3210, 0xFEDC_BA98, 0x7654_3210, 0xFEDC_BA98], vec![0xC000_3C00]));
    }

    /// Zeros are exact in every block. A block of zeros has scale 0, and so has a block whose scale would be subnormal.
    #[test]
    fn zeros_are_exact() {
        for dtype in SYMMETRIC {
            assert_eq!(round_trip(dtype, &[0.0; 64]), [0.0; 64]);
            assert_eq!(round_trip(dtype, &[-0.0; 32]), [0.0; 32]);
            assert_eq!(round_trip(dtype, &[f32::MIN_POSITIVE / 2.0; 32]), [0.0; 32]);
            let mut values = random(32, 3);
            values[17] = 0.0;
            assert_eq!(round_trip(dtype, &values)[17], 0.0);
            let huge = [f32::MAX; 32];
            assert!(round_trip(dtype, &huge).iter().all(|x| x.is_finite()));
        }
    }

    /// An outlier is decoded exactly (up to rounding) and reduces the precision of its own block only.
    #[test]
    fn an_outlier_affects_only_its_block() {
        for dtype in SYMMETRIC {
            let mut values: Vec<f32> = random(96, 4).iter().map(|x| x * 0.01).collect();
            let without = round_trip(dtype, &values);
            values[40] = -50.0;
            let with = round_trip(dtype, &values);
            assert!((with[40] + 50.0).abs() < 1e-4);
            assert!(
                with[32..64].iter().enumerate().all(|(i, x)| i == 8 || *x == 0.0),
                "the rest of the block is below half a step"
            );
            assert_eq!((&with[..32], &with[64..]), (&without[..32], &without[64..]));
        }
    }

    /// What Q4 decoded it encodes again, bit for bit: a model that was Q4_1 in a GGUF file loses nothing.
    #[test]
    fn values_on_a_grid_are_found_again() {
        let mut stream = Stream::new(7, 5);
        for size in [1e-6, 1e-3, 1.0, 300.0] {
            let scales: Vec<u32> = (0..64)
                .map(|_| affine_word(f16::from_f64(stream.normal().abs() * size), f16::from_f64(stream.normal() * size * 8.0)))
                .collect();
            let packed: Vec<u32> =
                (0..64 * 4).map(|i| (0xF000_0000 * u32::from(i % 4 == 0)) | (stream.bits() as u32 & 0x0FFF_FFF0)).collect();
            let values = WeightDtype::Q4.decode(&packed, &scales);
            let back = round_trip(WeightDtype::Q4, &values);
            assert!(values == back, "scales of about {size}");
        }
    }

    /// The error of a block is no larger than with its extremes as first and last value.
    #[test]
    fn q4_chooses_scale_and_minimum() {
        let (mut ours, mut plain) = (0.0, 0.0);
        for block in random(64 * BLOCK, 8).as_chunks::<BLOCK>().0 {
            let low = block.iter().copied().fold(f32::INFINITY, f32::min);
            let range = block.iter().copied().fold(f32::NEG_INFINITY, f32::max) - low;
            let (found, extremes) =
                (affine_block(block, &[1.0; BLOCK]), AffineBlock::nearest(block, &[1.0; BLOCK], range / MOST, low));
            assert!(found.error <= extremes.error);
            let decoded = round_trip(WeightDtype::Q4, block);
            let error: f32 = block.iter().zip(decoded).map(|(x, y)| (x - y) * (x - y)).sum();
            assert!((error - found.error).abs() <= 1e-5 * error);
            (ours, plain) = (ours + found.error, plain + extremes.error);
        }
        assert!(ours < 0.9 * plain, "{ours} and {plain}");
        for constant in [0.0, -0.0, 0.25, -3.0] {
            assert_eq!(round_trip(WeightDtype::Q4, &[constant; BLOCK]), [constant; BLOCK]);
        }
        assert!(WeightDtype::Q4.check_range("w", 0, &[-7e4]).is_err());
    }

    /// Rows are whole blocks, so encoding single rows and encoding stacked rows are equivalent.
    #[test]
    fn stacking_commutes_with_encoding() {
        let (a, b) = (random(2 * BLOCK, 1), random(3 * BLOCK, 2));
        for dtype in [WeightDtype::Q8, WeightDtype::Q4, WeightDtype::Q4Symmetric] {
            let (pa, sa) = dtype.encode(&a);
            let (pb, sb) = dtype.encode(&b);
            assert_eq!(dtype.encode(&[&a[..], &b].concat()), ([pa, pb].concat(), [sa, sb].concat()));
        }
    }

    #[test]
    fn every_dtype_decodes_what_it_encoded_within_its_precision() {
        let values = random(3 * BLOCK, 4);
        let tolerances = [0.0, 0.001, 0.01, 0.02, 0.3];
        for (dtype, tolerance) in WeightDtype::ALL.into_iter().zip(tolerances) {
            let (words, scales) = dtype.encode(&values);
            assert_eq!((words.len(), scales.len()), (dtype.entries(Plane::Packed, 96), dtype.entries(Plane::Scales, 96)));
            let back = dtype.decode(&words, &scales);
            assert!(values.iter().zip(&back).all(|(a, b)| (a - b).abs() <= tolerance), "{dtype:?}");
        }
        assert!(WeightDtype::F16.check_range("w", 5, &[1.0, 7e4]).unwrap_err().to_string().contains("element 6"));
        assert!(WeightDtype::Bf16.check_range("w", 5, &[1.0, 7e4]).is_ok());
    }

    /// Weighted by columns, the weighted error falls and the plain one may rise; columns are found from any row's start.
    #[test]
    fn columns_that_matter_are_rounded_more_precisely() {
        let (columns, rows) = (96, 5);
        let values = random(columns * rows, 8);
        let mut squares = ColumnSquares::default();
        squares.insert("w", &(0..columns).map(|c| if c % 7 == 0 { 60.0 } else { 0.5 }).collect::<Vec<f32>>());
        let weights = squares.of("w").unwrap();
        let error = |decoded: &[f32]| -> f64 {
            let of = |(at, (x, y)): (usize, (&f32, &f32))| f64::from(weights[at % columns]) * f64::from(x - y).powi(2);
            values.iter().zip(decoded).enumerate().map(of).sum()
        };
        let decode = |(packed, scales): (Vec<u32>, Vec<u32>)| WeightDtype::Q4.decode(&packed, &scales);
        let weighted = decode(WeightDtype::Q4.encode_weighted(&values, weights, 0));
        let (plain, found) = (error(&round_trip(WeightDtype::Q4, &values)), error(&weighted));
        assert!(found < 0.8 * plain, "{found} and {plain}");
        // In two pieces, of which the second begins in the middle of a row.
        let (first, second) = values.split_at(columns + BLOCK);
        let again = [(first, 0), (second, BLOCK)]
            .map(|(values, column)| decode(WeightDtype::Q4.encode_weighted(values, weights, column)));
        assert_eq!(again.concat(), weighted);
        // Equal weights are none.
        squares.insert("w", &vec![3.0; columns]);
        let equal = decode(WeightDtype::Q4.encode_weighted(&values, squares.of("w").unwrap(), 0));
        assert_eq!(equal, round_trip(WeightDtype::Q4, &values));
    }
}
