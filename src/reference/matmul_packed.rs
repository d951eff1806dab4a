//! The values of packed weights: codes with a scale per block of 32 (Q8, Q4 without minima) or a scale and a minimum (Q4), and
//! two 16-bit floats per word. The product with a packed matrix is that of `matmul` with these values.
//!
//! ```text
//! Q4:     w_i = code_i · scale + minimum, codes 0 ..= 15
//! others: step = max|x| / m over a block, m = 2^(bits - 1) - 1        code_i = round(x_i / step)        w_i = code_i · step
//! ```

/// Values that share a scale.
const BLOCK: usize = 32;

/// The codes of `values`, block by block: of all integers in −m ..= m the one whose multiple of the step is nearest.
pub fn codes(values: &[f64], bits: usize) -> Vec<i32> {
    let most = (1 << (bits - 1)) - 1;
    let mut codes = Vec::new();
    for block in values.chunks(BLOCK) {
        let step = block.iter().fold(0.0, |m: f64, x| m.max(x.abs())) / f64::from(most);
        for x in block {
            let mut best = 0;
            for code in -most..=most {
                if (f64::from(code) * step - x).abs() < (f64::from(best) * step - x).abs() {
                    best = code;
                }
            }
            codes.push(best);
        }
    }
    codes
}

/// The codes in `words`: two's complement, the first code in the lowest bits.
pub fn unpack(words: &[u32], bits: usize) -> Vec<i32> {
    let all = 1i64 << bits;
    let mut codes = Vec::new();
    for word in words {
        for i in 0..32 / bits {
            let raw = (i64::from(*word) >> (i * bits)) % all;
            codes.push(if raw >= all / 2 { raw - all } else { raw } as i32);
        }
    }
    codes
}

/// The values that codes and the scales of their blocks stand for.
pub fn dequantise(codes: &[i32], scales: &[f64]) -> Vec<f64> {
    codes.iter().enumerate().map(|(i, code)| f64::from(*code) * scales[i / BLOCK]).collect()
}

/// The values of 4-bit codes without signs, for the scale and the minimum of each block, one behind the other in `scales`.
pub fn dequantise_affine(words: &[u32], scales: &[f64]) -> Vec<f64> {
    let codes = words.iter().flat_map(|word| (0..8).map(move |i| word / 16u32.pow(i) % 16));
    codes.enumerate().map(|(i, code)| f64::from(code) * scales[i / BLOCK * 2] + scales[i / BLOCK * 2 + 1]).collect()
}

/// The finite 16-bit floats in `words`, the first in the low half of a word. As in IEEE 754: a sign, `exponent_bits` of
/// exponent (8 in bf16, 5 in f16), and the rest is the fraction.
pub fn halves(words: &[u32], exponent_bits: u32) -> Vec<f64> {
    let fraction_bits = 15 - exponent_bits;
    let bias = (1 << (exponent_bits - 1)) - 1;
    let value = |bits: u32| {
        let sign = if bits >> 15 == 1 { -1.0 } else { 1.0 };
        let exponent = ((bits >> fraction_bits) & ((1 << exponent_bits) - 1)) as i32;
        let fraction = f64::from(bits & ((1 << fraction_bits) - 1)) / f64::from(1 << fraction_bits);
        match exponent {
            0 => sign * fraction * 2f64.powi(1 - bias),
            _ => sign * (1.0 + fraction) * 2f64.powi(exponent - bias),
        }
    };
    words.iter().flat_map(|word| [value(word & 0xFFFF), value(word >> 16)]).collect()
}

#[cfg(test)]
mod tests {
    use super::halves;

    #[test]
    fn halves_written_out() {
        // 1 and -2, and the smallest normal and subnormal numbers of f16.
        assert_eq!(halves(&[0xC000_3F80], 8), [1.0, -2.0]);
        assert_eq!(halves(&[0xC000_3C00, 0x0001_0400], 5), [1.0, -2.0, 2f64.powi(-14), 2f64.powi(-24)]);
    }

    /// Every finite pattern gives what the `half` crate gives.
    #[test]
    fn halves_are_those_of_ieee() {
        for bits in 0..=u16::MAX {
            let (brain, half) = (half::bf16::from_bits(bits), half::f16::from_bits(bits));
            if brain.is_finite() {
                assert_eq!(halves(&[u32::from(bits)], 8)[0], brain.to_f64());
            }
            if half.is_finite() {
                assert_eq!(halves(&[u32::from(bits)], 5)[0], half.to_f64());
            }
        }
    }
}
