//! Packed matrices: how rows of values are stored in 32-bit words, in bundles and on the GPU.
//!
//! **Quantisation.** A row of a matrix `[out, in]` is cut into blocks of 32 values ([`BLOCK`]) along `in`. A block has one scale
//! s = max|x| / m. Each value x is stored as the code q = round(x / s), an integer in −m ..= m, and is decoded as q s. m is 127
//! in Q8 and 7 in Q4. Codes are symmetric, zero is exact, and −m − 1 is never written. Codes and scales are two planes:
//!
//! ```text
//! packed  u32 [out, in · bits / 32]   codes in two's complement, the first in the lowest bits: 4 (Q8) or 8 (Q4) per word
//! scales  f32 [out, in / 32]
//! ```
//!
//! Both are row-major and no block crosses a row. So stacking matrices by rows (q, k and v in one) is concatenation of each
//! plane, and a tensor may be cut between any two rows. Q8 is the scheme of Q8_0 in ggml with an f32 scale: 1.125 bytes per
//! weight. Q4 has 0.625. Q4 does not use the 16th code, as absmax quantisation does not (Dettmers et al. 2022, arXiv:2208.07339,
//! section 2): with it, the largest value of the other sign would be off by a whole step.
//!
//! **Error.** |q s − x| ≤ s / 2 in exact arithmetic; rounding s, x / s and q s to f32 adds less than m s 2⁻²². So an outlier
//! reduces the precision of the other 31 values of its block only. A block whose scale would be subnormal (all |x| < m · 2⁻¹²⁶)
//! is stored as zeros, because GPUs may flush subnormal numbers.

use half::f16;

use super::config::Config;
use super::error::ModelError;
use super::names::{Group, GroupKind, Groups};
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

    /// The dtype of `group` in weights of this dtype. Norms and biases are held in f32, and so are matrices whose rows are not
    /// whole blocks.
    ///
    /// The embedding, which may also be the output head, is Q8 in all quantised weights. It must be packed because it is the
    /// largest matrix of a small model, and it keeps 8 bits because every logit of a score is computed with it.
    pub fn of_group(self, group: &Group) -> WeightDtype {
        let wanted = match group.kind {
            GroupKind::Embedding if self.is_quantised() => WeightDtype::Q8,
            GroupKind::Embedding | GroupKind::Matrix => self,
            GroupKind::Norm | GroupKind::Bias => WeightDtype::F32,
        };
        if group.cols.is_multiple_of(wanted.block()) { wanted } else { WeightDtype::F32 }
    }

    /// Number of matrices in the model's files that stay in f32.
    pub fn left_in_full(self, config: &Config) -> usize {
        let in_full = |group: &&Group| {
            matches!(group.kind, GroupKind::Embedding | GroupKind::Matrix) && self.of_group(group) == WeightDtype::F32
        };
        Groups::of(config).list.iter().filter(in_full).map(|group| group.parts.len()).sum()
    }

    /// Words and scales of `values`, which are whole blocks of finite numbers.
    pub fn encode(self, values: &[f32]) -> (Vec<u32>, Vec<f32>) {
        match self {
            WeightDtype::F32 => (values.iter().map(|x| x.to_bits()).collect(), Vec::new()),
            WeightDtype::F16 | WeightDtype::Bf16 => {
                let mut bytes = Vec::with_capacity(values.len() * 2);
                self.narrow(values, &mut bytes);
                (bytes.as_chunks::<4>().0.iter().map(|word| u32::from_le_bytes(*word)).collect(), Vec::new())
            }
            WeightDtype::Q8 | WeightDtype::Q4 => quantise(self.bits(), values),
        }
    }

    /// The values of `words` and `scales`, which are whole blocks.
    pub fn decode(self, words: &[u32], scales: &[f32]) -> Vec<f32> {
        match self {
            WeightDtype::F32 => words.iter().map(|word| f32::from_bits(*word)).collect(),
            WeightDtype::F16 | WeightDtype::Bf16 => {
                let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
                let mut values = vec![0.0; words.len() * 2];
                self.widen(&bytes, &mut values);
                values
            }
            WeightDtype::Q8 | WeightDtype::Q4 => dequantise(self.bits(), words, scales),
        }
    }

    /// Checks that `values`, elements `start ..` of `group`, are in the range of this dtype: f16 ends at 65,504.
    ///
    /// # Errors
    /// The first value out of range.
    pub(super) fn check_range(self, group: &str, start: usize, values: &[f32]) -> Result<(), ModelError> {
        let largest = f16::MAX.to_f32();
        match values.iter().position(|x| self == WeightDtype::F16 && x.abs() > largest) {
            None => Ok(()),
            Some(at) => {
                let (tensor, value) = (group.to_string(), values[at]);
                Err(ModelError::OutOfRangeForDtype { tensor, index: start + at, value, dtype: self.name() })
            }
        }
    }
}

/// The planes of `values`, with codes of `bits` bits.
fn quantise(bits: usize, values: &[f32]) -> (Vec<u32>, Vec<f32>) {
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
        scales.push(scale);
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

/// The values of the planes.
fn dequantise(bits: usize, packed: &[u32], scales: &[f32]) -> Vec<f32> {
    let mut values = vec![0.0; scales.len() * BLOCK];
    let blocks = packed.chunks_exact(BLOCK * bits / 32).zip(scales);
    for ((words, scale), block) in blocks.zip(values.as_chunks_mut::<BLOCK>().0) {
        for (i, x) in block.iter_mut().enumerate() {
            let (word, shift) = (words[i * bits / 32], i * bits % 32);
            // Shifting the code to the highest bits and back extends its sign.
            *x = (((word << (32 - bits - shift)) as i32) >> (32 - bits)) as f32 * scale;
        }
    }
    values
}

/// Checks that the scales `start ..` of `tensor`, given as bits, are finite.
///
/// # Errors
/// A scale that is NaN or infinite.
pub fn finite_scales(tensor: &str, start: usize, scales: &[u32]) -> Result<(), ModelError> {
    match scales.iter().position(|bits| !f32::from_bits(*bits).is_finite()) {
        None => Ok(()),
        Some(at) => {
            let tensor = format!("{tensor}.scales");
            Err(ModelError::NonFinite { tensor, index: start + at, value: f32::from_bits(scales[at]) })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Stream;
    use crate::reference::matmul_packed as spec;

    const BOTH: [WeightDtype; 2] = [WeightDtype::Q8, WeightDtype::Q4];

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
        for dtype in BOTH {
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
        for dtype in BOTH {
            let values = random(4 * BLOCK, 9);
            let (packed, scales) = dtype.encode(&values);
            assert_eq!(packed.len(), dtype.entries(Plane::Packed, values.len()));
            assert_eq!(scales.len(), dtype.entries(Plane::Scales, values.len()));
            let wide: Vec<f64> = values.iter().map(|x| f64::from(*x)).collect();
            let codes = spec::codes(&wide, dtype.bits());
            assert_eq!(spec::unpack(&packed, dtype.bits()), codes, "{dtype:?}");
            let scales: Vec<f64> = scales.iter().map(|s| f64::from(*s)).collect();
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
        assert_eq!((packed[0], packed[1], scales[0]), (0x7F02_FF01, 0x0000_0081, 1.0));
        values[..5].copy_from_slice(&[1.0, -1.0, 2.0, 7.0, -7.0]);
        let (packed, scales) = WeightDtype::Q4.encode(&values);
        assert_eq!((packed[0], packed[1], scales[0]), (0x0009_72F1, 0, 1.0));
    }

    /// Zeros are exact in every block. A block of zeros has scale 0, and so has a block whose scale would be subnormal.
    #[test]
    fn zeros_are_exact() {
        for dtype in BOTH {
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
        for dtype in BOTH {
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

    /// Rows are whole blocks, so encoding single rows and encoding stacked rows are equivalent.
    #[test]
    fn stacking_commutes_with_encoding() {
        let (a, b) = (random(2 * BLOCK, 1), random(3 * BLOCK, 2));
        for dtype in BOTH {
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
}
