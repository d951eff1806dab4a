//! Values of weights in files: the names of their float types, and conversions to and from `f32`.
//!
//! A quantised matrix has no bytes for a single value. For Q8 and Q4 these functions refer to the decoded f32.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use crate::ops::weight_dtype::WeightDtype;
use WeightDtype::{Bf16, F16, F32, Q4, Q4Symmetric, Q8};

#[doc(hidden)]
impl WeightDtype {
    /// Bytes of one value.
    pub fn bytes(self) -> usize {
        self.float().bits() / 8
    }

    /// The name in `config.json` (`dtype`, formerly `torch_dtype`).
    pub fn config_name(self) -> &'static str {
        match self {
            F32 | Q8 | Q4 | Q4Symmetric => "float32",
            F16 => "float16",
            Bf16 => "bfloat16",
        }
    }

    /// The inverse of [`WeightDtype::config_name`]; PyTorch's other names and `torch.` in front are accepted.
    pub fn from_config_name(name: &str) -> Option<Self> {
        match name.strip_prefix("torch.").unwrap_or(name) {
            "float32" | "float" => Some(WeightDtype::F32),
            "float16" | "half" => Some(WeightDtype::F16),
            "bfloat16" => Some(WeightDtype::Bf16),
            _ => None,
        }
    }

    /// The name in a safetensors header.
    pub fn safetensors_name(self) -> &'static str {
        match self {
            F32 | Q8 | Q4 | Q4Symmetric => "F32",
            F16 => "F16",
            Bf16 => "BF16",
        }
    }

    /// The dtype of a safetensors type, if it is f32, f16 or bf16.
    pub fn from_safetensors(dtype: safetensors::Dtype) -> Option<Self> {
        match dtype {
            safetensors::Dtype::F32 => Some(WeightDtype::F32),
            safetensors::Dtype::F16 => Some(WeightDtype::F16),
            safetensors::Dtype::BF16 => Some(WeightDtype::Bf16),
            _ => None,
        }
    }

    /// Widens little-endian `bytes` to `out`, exactly. `bytes` may be unaligned (a memory map). Callers pass
    /// `out.len() * self.bytes()` bytes; elements beyond the shorter of the two are not changed.
    pub fn widen(self, bytes: &[u8], out: &mut [f32]) {
        debug_assert_eq!(bytes.len(), out.len() * self.bytes());
        match self {
            F32 | Q8 | Q4 | Q4Symmetric => {
                for (value, raw) in out.iter_mut().zip(bytes.as_chunks::<4>().0) {
                    *value = f32::from_le_bytes(*raw);
                }
            }
            Bf16 => {
                for (value, raw) in out.iter_mut().zip(bytes.as_chunks::<2>().0) {
                    *value = f32::from_bits(u32::from(u16::from_le_bytes(*raw)) << 16);
                }
            }
            F16 => {
                for (value, raw) in out.iter_mut().zip(bytes.as_chunks::<2>().0) {
                    *value = f16::from_le_bytes(*raw).to_f32();
                }
            }
        }
    }

    /// Appends `values` to `out` as little-endian bytes, rounded to nearest, ties to even.
    pub fn narrow(self, values: &[f32], out: &mut Vec<u8>) {
        match self {
            F32 | Q8 | Q4 | Q4Symmetric => out.extend(values.iter().flat_map(|v| v.to_le_bytes())),
            Bf16 => out.extend(values.iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes())),
            F16 => {
                let mut halves = vec![f16::ZERO; values.len()];
                halves.convert_from_f32_slice(values);
                out.extend(halves.iter().flat_map(|v| v.to_le_bytes()));
            }
        }
    }
}

/// Position of the first NaN or infinity, if there is one.
pub fn first_non_finite(values: &[f32]) -> Option<usize> {
    // NaN and infinity have all exponent bits set. The maximum is vectorised; the search would not be.
    let largest = values.iter().fold(0, |largest, v| (v.to_bits() & 0x7FFF_FFFF).max(largest));
    if largest < 0x7F80_0000 { None } else { values.iter().position(|v| !v.is_finite()) }
}

/// The position of the largest of the `values` of a tensor if all of them were `stored` as zero although not all are zero. The
/// format is then too small for the tensor. Biases are exempt: one so small does not matter to the sum.
pub fn vanished(tensor: &str, values: &[f32], stored: &[f32]) -> Option<usize> {
    if tensor.ends_with(".bias") || stored.iter().any(|v| *v != 0.0) {
        return None;
    }
    let (at, largest) = values.iter().enumerate().max_by(|a, b| a.1.abs().total_cmp(&b.1.abs()))?;
    (*largest != 0.0).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `values` after a conversion to `dtype` and back.
    fn round_trip(dtype: WeightDtype, values: &[f32]) -> Vec<f32> {
        let mut bytes = Vec::new();
        dtype.narrow(values, &mut bytes);
        let mut back = vec![0.0; values.len()];
        dtype.widen(&bytes, &mut back);
        back
    }

    #[test]
    fn f32_keeps_every_bit() {
        let values = [0.0, -0.0, 1.0, f32::MIN_POSITIVE, 1e-45, f32::MAX, -1.234_567_9e-7];
        let back = round_trip(WeightDtype::F32, &values);
        assert!(values.iter().zip(&back).all(|(a, b)| a.to_bits() == b.to_bits()));
    }

    /// Every 16-bit pattern that is a number is unchanged by a conversion to f32 and back.
    #[test]
    fn halves_round_trip() {
        for dtype in [WeightDtype::F16, WeightDtype::Bf16] {
            let bytes: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
            let mut wide = vec![0.0; 65_536];
            dtype.widen(&bytes, &mut wide);
            let mut back = Vec::new();
            dtype.narrow(&wide, &mut back);
            for (i, value) in wide.iter().enumerate().filter(|(_, v)| !v.is_nan()) {
                assert_eq!(bytes[2 * i..2 * i + 2], back[2 * i..2 * i + 2], "{dtype:?} {i:#06x} {value}");
            }
        }
    }

    #[test]
    fn ties_go_to_even() {
        // bf16 has 8 significant bits: 1 + 2^-8 is half-way between 1 and 1 + 2^-7.
        let bf = round_trip(WeightDtype::Bf16, &[1.0 + 2f32.powi(-8), 1.0 + 3.0 * 2f32.powi(-8), 1.0 + 2f32.powi(-8) + 1e-6]);
        assert_eq!(bf, [1.0, 1.0 + 2f32.powi(-6), 1.0 + 2f32.powi(-7)]);
        // f16 has 11 significant bits: the same with 2^-11. Its smallest subnormal is 2^-24.
        let half = round_trip(
            WeightDtype::F16,
            &[1.0 + 2f32.powi(-11), 1.0 + 3.0 * 2f32.powi(-11), 2f32.powi(-24), 2f32.powi(-25), 65_520.0],
        );
        assert_eq!(half, [1.0, 1.0 + 2f32.powi(-9), 2f32.powi(-24), 0.0, f32::INFINITY]);
    }

    #[test]
    fn non_finite_values_are_found() {
        let mut values = vec![1.0f32; 1000];
        values[10] = f32::MAX;
        values[11] = -0.0;
        assert_eq!(first_non_finite(&values), None);
        values[700] = f32::NEG_INFINITY;
        assert_eq!(first_non_finite(&values), Some(700));
        values[70] = f32::NAN;
        assert_eq!(first_non_finite(&values), Some(70));
    }

    #[test]
    fn dtypes_are_found_by_their_names() {
        for dtype in [WeightDtype::F32, WeightDtype::F16, WeightDtype::Bf16] {
            assert_eq!(WeightDtype::from_config_name(dtype.config_name()), Some(dtype));
        }
        for (name, dtype) in [
            ("torch.bfloat16", WeightDtype::Bf16),
            ("half", WeightDtype::F16),
            ("torch.half", WeightDtype::F16),
            ("torch.float16", WeightDtype::F16),
            ("float", WeightDtype::F32),
            ("torch.float", WeightDtype::F32),
        ] {
            assert_eq!(WeightDtype::from_config_name(name), Some(dtype), "{name}");
        }
        assert_eq!(WeightDtype::from_config_name("float8_e4m3fn"), None);
    }
}
