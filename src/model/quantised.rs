//! Quantised matrices: the one format of packed weights, in bundles and on the GPU.
//!
//! A row of a matrix `[out, in]` is cut into blocks of 32 along `in`. A block has one scale s = max|x| / m, and each value
//! x becomes the code q = round(x / s), an integer in −m ..= m; what is meant by it is q s. m is 127 in [`Quantisation::Q8`]
//! and 7 in [`Quantisation::Q4`]: symmetric, zero is exact, and −m − 1 is never written. Codes and scales are two planes:
//!
//! ```text
//! packed  u32 [out, in · bits / 32]   codes in two's complement, the first in the lowest bits: 4 (Q8) or 8 (Q4) a word
//! scales  f32 [out, in / 32]
//! ```
//!
//! Both are row-major and no block crosses a row, so stacking matrices by rows (q, k, v in one) is concatenation in either
//! plane, and a whole tensor may be cut between any two rows. It is the scheme of Q8_0 in ggml with a scale of f32, which is
//! 1.125 bytes a weight; Q4 is 0.625. Q4 leaves the 16th code unused, as absmax quantisation does (Dettmers et al. 2022,
//! arXiv:2208.07339, section 2): with it, the largest value of the other sign would be off by a whole step.
//!
//! **Error.** |q s − x| ≤ s / 2 in exact numbers; rounding s, x / s and q s to f32 adds less than m s 2⁻²². So an outlier
//! costs the 31 values beside it precision, and nobody else. A block whose scale would be subnormal (all |x| < m · 2⁻¹²⁶) is
//! stored as zeros, since GPUs may flush subnormal numbers.

use super::config::Config;
use super::error::ModelError;
use super::names::{Group, Groups, Kind};
use crate::ops::matrix::Packing;

/// Values that share a scale.
pub const BLOCK: usize = 32;

/// How many bits a code has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantisation {
    Q8,
    Q4,
}

/// The two arrays that a quantised matrix is held in; entries of both have 32 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Plane {
    Packed,
    Scales,
}

impl Plane {
    pub const ALL: [Plane; 2] = [Plane::Packed, Plane::Scales];
}

impl Quantisation {
    pub fn name(self) -> &'static str {
        match self {
            Quantisation::Q8 => "q8",
            Quantisation::Q4 => "q4",
        }
    }

    /// How kernels call it.
    pub fn packing(self) -> Packing {
        match self {
            Quantisation::Q8 => Packing::Q8,
            Quantisation::Q4 => Packing::Q4,
        }
    }

    /// Bits of a code.
    pub fn bits(self) -> usize {
        match self {
            Quantisation::Q8 => 8,
            Quantisation::Q4 => 4,
        }
    }

    /// The largest code, m.
    pub fn most(self) -> i32 {
        (1 << (self.bits() - 1)) - 1
    }

    /// Entries of a plane that `values` values have, a multiple of [`BLOCK`].
    pub fn entries(self, plane: Plane, values: usize) -> usize {
        match plane {
            Plane::Packed => values * self.bits() / 32,
            Plane::Scales => values / BLOCK,
        }
    }

    /// How the matrices of `group` are stored in weights of this kind. `None`: in full, because the group is norms or biases,
    /// or because rows are no multiple of [`BLOCK`].
    ///
    /// The embedding, which may be the output head as well, is Q8 in weights of both kinds: it is the largest matrix of a
    /// small model, so that it must be packed, and every logit that a score is read from goes through it.
    pub fn of_group(self, group: &Group) -> Option<Quantisation> {
        let form = match group.kind {
            Kind::Embedding => Quantisation::Q8,
            Kind::Matrix => self,
            Kind::Norm | Kind::Bias => return None,
        };
        group.cols.is_multiple_of(BLOCK).then_some(form)
    }

    /// Matrices of the model's files that have to stay in full.
    pub fn left_in_full(self, config: &Config) -> usize {
        let whole = |group: &&Group| matches!(group.kind, Kind::Embedding | Kind::Matrix) && self.of_group(group).is_none();
        Groups::of(config).list.iter().filter(whole).map(|group| group.parts.len()).sum()
    }

    /// Appends the planes of `values`, whole blocks of finite numbers, to `packed` and `scales`.
    pub fn encode(self, values: &[f32], packed: &mut Vec<u32>, scales: &mut Vec<f32>) {
        let (most, bits) = (self.most(), self.bits());
        for block in values.as_chunks::<BLOCK>().0 {
            let largest = block.iter().fold(0f32, |largest, x| largest.max(x.abs()));
            let step = largest / most as f32;
            let scale = match step {
                _ if !step.is_normal() => 0.0,
                // Rounded up, and too large by a unit in the last place for what is nearly infinite.
                _ if (step * most as f32).is_infinite() => step.next_down(),
                _ => step,
            };
            scales.push(scale);
            let code = |x: f32| match scale > 0.0 {
                true => ((x / scale).round() as i32).clamp(-most, most),
                false => 0,
            };
            let mask = u32::MAX >> (32 - bits);
            for values in block.chunks_exact(32 / bits) {
                packed.push(values.iter().rev().fold(0, |word, x| (word << bits) | (code(*x) as u32 & mask)));
            }
        }
    }

    /// Writes to `out`, whole blocks, what the planes mean: `packed` and `scales` of the same blocks.
    pub fn decode(self, packed: &[u32], scales: &[f32], out: &mut [f32]) {
        let bits = self.bits();
        let blocks = packed.chunks_exact(self.entries(Plane::Packed, BLOCK)).zip(scales);
        for ((words, scale), block) in blocks.zip(out.as_chunks_mut::<BLOCK>().0) {
            for (i, x) in block.iter_mut().enumerate() {
                let (word, place) = (words[i * bits / 32], i * bits % 32);
                // The code goes to the highest bits and back, which brings its sign along.
                *x = (((word << (32 - bits - place)) as i32) >> (32 - bits)) as f32 * scale;
            }
        }
    }
}

/// Checks the bits of scales `start ..` of `tensor`: no code makes a number of a scale that is none.
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
    use crate::reference::quantised as spec;

    const BOTH: [Quantisation; 2] = [Quantisation::Q8, Quantisation::Q4];

    fn planes(form: Quantisation, values: &[f32]) -> (Vec<u32>, Vec<f32>) {
        let (mut packed, mut scales) = (Vec::new(), Vec::new());
        form.encode(values, &mut packed, &mut scales);
        (packed, scales)
    }

    fn through(form: Quantisation, values: &[f32]) -> Vec<f32> {
        let (packed, scales) = planes(form, values);
        let mut out = vec![f32::NAN; values.len()];
        form.decode(&packed, &scales, &mut out);
        out
    }

    fn random(n: usize, seed: u64) -> Vec<f32> {
        let mut stream = Stream::new(seed, 5);
        (0..n).map(|_| stream.normal() as f32).collect()
    }

    /// At every magnitude, values come back within half a step of their block.
    #[test]
    fn nothing_is_off_by_more_than_half_a_step() {
        for form in BOTH {
            for (seed, size) in [1e-30, 1e-5, 0.02, 1.0, 1e10, 1e37].into_iter().enumerate() {
                let values: Vec<f32> = random(320, seed as u64).iter().map(|x| x * size).collect();
                let back = through(form, &values);
                let m = f64::from(form.most());
                for (block, out) in values.chunks(BLOCK).zip(back.chunks(BLOCK)) {
                    let step = block.iter().fold(0f64, |m, x| m.max(f64::from(x.abs()))) / m;
                    let allowed = step * (0.5 + m * 2f64.powi(-22));
                    for (x, y) in block.iter().zip(out) {
                        assert!((f64::from(*x) - f64::from(*y)).abs() <= allowed, "{form:?}: {x} came back as {y}");
                    }
                }
            }
        }
    }

    /// The packed form against the plain loops: the code is the nearest of all codes, and words hold them in order.
    #[test]
    fn the_planes_are_those_of_the_specification() {
        for form in BOTH {
            let values = random(4 * BLOCK, 9);
            let (packed, scales) = planes(form, &values);
            assert_eq!(packed.len(), form.entries(Plane::Packed, values.len()));
            assert_eq!(scales.len(), form.entries(Plane::Scales, values.len()));
            let wide: Vec<f64> = values.iter().map(|x| f64::from(*x)).collect();
            let codes = spec::codes(&wide, form.bits());
            assert_eq!(spec::unpack(&packed, form.bits()), codes, "{form:?}");
            let scales: Vec<f64> = scales.iter().map(|s| f64::from(*s)).collect();
            let meant = spec::meaning(&codes, &scales);
            for (x, y) in meant.iter().zip(through(form, &values)) {
                assert_eq!(*x as f32, y, "{form:?}");
            }
        }
    }

    /// By hand: the first code lies in the lowest bits, in two's complement.
    #[test]
    fn words_by_hand() {
        let mut values = [0.0; BLOCK];
        values[..5].copy_from_slice(&[1.0, -1.0, 2.0, 127.0, -127.0]);
        let (packed, scales) = planes(Quantisation::Q8, &values);
        assert_eq!((packed[0], packed[1], scales[0]), (0x7F02_FF01, 0x0000_0081, 1.0));
        values[..5].copy_from_slice(&[1.0, -1.0, 2.0, 7.0, -7.0]);
        let (packed, scales) = planes(Quantisation::Q4, &values);
        assert_eq!((packed[0], packed[1], scales[0]), (0x0009_72F1, 0, 1.0));
    }

    /// Zeros are exact, whatever stands beside them; a block of nothing else has scale 0, and one of subnormal steps too.
    #[test]
    fn zeros_stay() {
        for form in BOTH {
            assert_eq!(through(form, &[0.0; 64]), [0.0; 64]);
            assert_eq!(through(form, &[-0.0; 32]), [0.0; 32]);
            assert_eq!(through(form, &[f32::MIN_POSITIVE / 2.0; 32]), [0.0; 32]);
            let mut values = random(32, 3);
            values[17] = 0.0;
            assert_eq!(through(form, &values)[17], 0.0);
            let huge = [f32::MAX; 32];
            assert!(through(form, &huge).iter().all(|x| x.is_finite()));
        }
    }

    /// An outlier comes back exactly (to rounding) and takes precision from its own block alone.
    #[test]
    fn an_outlier_stays_in_its_block() {
        for form in BOTH {
            let mut values: Vec<f32> = random(96, 4).iter().map(|x| x * 0.01).collect();
            let without = through(form, &values);
            values[40] = -50.0;
            let with = through(form, &values);
            assert!((with[40] + 50.0).abs() < 1e-4);
            assert!(
                with[32..64].iter().enumerate().all(|(i, x)| i == 8 || *x == 0.0),
                "the rest of the block is below half a step"
            );
            assert_eq!((&with[..32], &with[64..]), (&without[..32], &without[64..]));
        }
    }

    /// Rows are whole blocks, so encoding rows one by one or stacked is the same.
    #[test]
    fn stacking_commutes() {
        let (a, b) = (random(2 * BLOCK, 1), random(3 * BLOCK, 2));
        for form in BOTH {
            let (pa, sa) = planes(form, &a);
            let (pb, sb) = planes(form, &b);
            assert_eq!(planes(form, &[&a[..], &b].concat()), ([pa, pb].concat(), [sa, sb].concat()));
        }
    }
}
