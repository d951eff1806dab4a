//! Quantised weights as plain loops: what `model::quantised` packs, and what the kernels make of it.

/// Values that share a scale.
const BLOCK: usize = 32;

/// The codes of `values`, blocks of 32: of all integers in −m ..= m, m = 2^(bits − 1) − 1, the one whose multiple of
/// max|x| / m is nearest.
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

/// The codes in `words`: two's complement, the first in the lowest bits.
pub fn unpack(words: &[u32], bits: usize) -> Vec<i32> {
    let all = 1i64 << bits;
    let mut codes = Vec::new();
    for word in words {
        for place in 0..32 / bits {
            let raw = (i64::from(*word) >> (place * bits)) % all;
            codes.push(if raw >= all / 2 { raw - all } else { raw } as i32);
        }
    }
    codes
}

/// The values that codes and the scales of their blocks stand for.
pub fn meaning(codes: &[i32], scales: &[f64]) -> Vec<f64> {
    codes.iter().enumerate().map(|(i, code)| f64::from(*code) * scales[i / BLOCK]).collect()
}
