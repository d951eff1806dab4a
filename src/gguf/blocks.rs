//! The block formats of ggml, and what their bytes mean as f32. (ggml, `ggml-common.h` and `ggml-quants.c`)
//!
//! A row is cut into blocks of 32 or 256 values. A block holds codes, a scale d in f16, and in some formats a minimum m:
//!
//! ```text
//! Q4_0  d, 4 bits: d (q - 8)          Q4_1  d, m, 4 bits: d q + m        values j and j + 16 share a byte
//! Q5_0  d, 5 bits: d (q - 16)         Q5_1  d, m, 5 bits: d q + m        the fifth bits are a word of their own
//! Q8_0  d, 8 bits: d q
//! Q4_K, Q5_K   eight parts of 32 values: (d s) q - (dmin m), with s and m of 6 bits per part
//! Q6_K         sixteen parts of 16 values: (d s) (q - 32), with s of 8 bits per part
//! ```

use half::f16;

use crate::model::quantised::affine_word;
use crate::ops::weight_dtype::WeightDtype;

/// How the values of a tensor are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockFormat {
    F32,
    F16,
    Bf16,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q4K,
    Q5K,
    Q6K,
}

use BlockFormat::*;

/// Format, number in a file, name, values and bytes of a block.
const TABLE: [(BlockFormat, u32, &str, usize, usize); 11] = [
    (F32, 0, "F32", 1, 4),
    (F16, 1, "F16", 1, 2),
    (Q4_0, 2, "Q4_0", 32, 18),
    (Q4_1, 3, "Q4_1", 32, 20),
    (Q5_0, 6, "Q5_0", 32, 22),
    (Q5_1, 7, "Q5_1", 32, 24),
    (Q8_0, 8, "Q8_0", 32, 34),
    (Q4K, 12, "Q4_K", 256, 144),
    (Q5K, 13, "Q5_K", 256, 176),
    (Q6K, 14, "Q6_K", 256, 210),
    (Bf16, 30, "BF16", 1, 2),
];

/// Names of the formats that are not read, by their numbers in a file.
const NOT_READ: [(u32, &str); 22] = [
    (9, "Q8_1"),
    (10, "Q2_K"),
    (11, "Q3_K"),
    (15, "Q8_K"),
    (16, "IQ2_XXS"),
    (17, "IQ2_XS"),
    (18, "IQ3_XXS"),
    (19, "IQ1_S"),
    (20, "IQ4_NL"),
    (21, "IQ3_S"),
    (22, "IQ2_S"),
    (23, "IQ4_XS"),
    (24, "I8"),
    (25, "I16"),
    (26, "I32"),
    (27, "I64"),
    (28, "F64"),
    (29, "IQ1_M"),
    (34, "TQ1_0"),
    (35, "TQ2_0"),
    (39, "MXFP4"),
    (40, "NVFP4"),
];

/// Values of a block of the formats that are written.
pub(super) const VALUES: usize = 32;
/// The most values that a block has.
const LARGEST_BLOCK: usize = 256;

impl BlockFormat {
    /// The dtype of formats without blocks.
    pub fn float(self) -> Option<WeightDtype> {
        match self {
            F32 => Some(WeightDtype::F32),
            F16 => Some(WeightDtype::F16),
            Bf16 => Some(WeightDtype::Bf16),
            _ => None,
        }
    }

    fn entry(self) -> &'static (BlockFormat, u32, &'static str, usize, usize) {
        let at = TABLE.iter().position(|entry| entry.0 == self).unwrap_or(0);
        &TABLE[at]
    }

    /// The format with this number in a file; otherwise the name of the one that is not read.
    pub fn from_id(id: u32) -> Result<Self, String> {
        if let Some(entry) = TABLE.iter().find(|entry| entry.1 == id) {
            return Ok(entry.0);
        }
        let name = NOT_READ.iter().find(|(number, _)| *number == id).map(|(_, name)| (*name).to_string());
        Err(name.unwrap_or_else(|| format!("the unknown type {id}")))
    }

    /// The dtype that holds its values without loss: packed where its codes and scales are those of a dtype, otherwise a float.
    pub fn held_as(self) -> WeightDtype {
        match self {
            Q8_0 => WeightDtype::Q8,
            Q4_0 | Q4_1 => WeightDtype::Q4,
            _ => self.float().unwrap_or_default(),
        }
    }

    /// The scale word of a block that is held packed, as `model::quantised` has it.
    pub(super) fn scale_word(self, block: &[u8]) -> u32 {
        let scale = f16::from_le_bytes([block[0], block[1]]);
        match self {
            Q4_0 => affine_word(scale, f16::from_f32(-8.0 * scale.to_f32())),
            Q4_1 => affine_word(scale, f16::from_le_bytes([block[2], block[3]])),
            _ => scale.to_f32().to_bits(),
        }
    }

    /// Word `at` of the codes of a block that is held packed.
    pub(super) fn code_word(self, block: &[u8], at: usize) -> u32 {
        let codes = if self == Q4_1 { &block[4..] } else { &block[2..] };
        if self == Q8_0 {
            return u32::from_le_bytes([codes[4 * at], codes[4 * at + 1], codes[4 * at + 2], codes[4 * at + 3]]);
        }
        // Values 0 .. 16 are the low halves of the bytes, the others the high ones.
        let (first, shift) = (at % 2 * 8, at / 2 * 4);
        codes[first..first + 8].iter().rev().fold(0, |word, byte| (word << 4) | u32::from((byte >> shift) & 15))
    }

    /// The number in a file.
    pub fn id(self) -> u32 {
        self.entry().1
    }

    pub fn name(self) -> &'static str {
        self.entry().2
    }

    /// Names of all formats that are read.
    pub fn names() -> Vec<&'static str> {
        TABLE.iter().map(|entry| entry.2).collect()
    }

    /// Values of a block.
    pub fn values(self) -> usize {
        self.entry().3
    }

    /// Bytes of a block.
    pub fn bytes(self) -> usize {
        self.entry().4
    }

    /// Fills `out` with values `start ..` of a tensor whose blocks are `bytes`, which must hold them.
    pub fn decode(self, bytes: &[u8], start: usize, out: &mut [f32]) {
        let (values, size) = (self.values(), self.bytes());
        if let Some(dtype) = self.float() {
            return dtype.widen(&bytes[start * size..(start + out.len()) * size], out);
        }
        let mut block = [0f32; LARGEST_BLOCK];
        let mut done = 0;
        while done < out.len() {
            let (number, skip) = ((start + done) / values, (start + done) % values);
            let raw = &bytes[number * size..(number + 1) * size];
            let take = (values - skip).min(out.len() - done);
            self.decode_block(raw, &mut block[..values]);
            out[done..done + take].copy_from_slice(&block[skip..skip + take]);
            done += take;
        }
    }

    /// Decodes one block of 32 or 256 values.
    fn decode_block(self, raw: &[u8], out: &mut [f32]) {
        let (d, m) = (half_at(raw, 0), half_at(raw, 2));
        match self {
            F32 | F16 | Bf16 => {}
            Q4_0 => pairs(&raw[2..], 0, out, |q| d * (q as f32 - 8.0)),
            Q4_1 => pairs(&raw[4..], 0, out, |q| d * q as f32 + m),
            Q5_0 => pairs(&raw[6..], word_at(raw, 2), out, |q| d * (q as f32 - 16.0)),
            Q5_1 => pairs(&raw[8..], word_at(raw, 4), out, |q| d * q as f32 + m),
            Q8_0 => out.iter_mut().zip(&raw[2..]).for_each(|(x, q)| *x = d * f32::from(*q as i8)),
            Q4K => decode_q4_k(raw, None, &raw[16..144], out),
            Q5K => decode_q4_k(raw, Some(&raw[16..48]), &raw[48..176], out),
            Q6K => decode_q6_k(raw, out),
        }
    }
}

fn half_at(raw: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([raw[at], raw[at + 1]]).to_f32()
}

fn word_at(raw: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([raw[at], raw[at + 1], raw[at + 2], raw[at + 3]])
}

/// 32 codes of 4 bits, the low halves of 16 bytes and then the high ones; bit j of `fifth` is the fifth bit of code j.
fn pairs(codes: &[u8], fifth: u32, out: &mut [f32], meaning: impl Fn(u32) -> f32) {
    for (j, x) in out.iter_mut().enumerate() {
        let byte = u32::from(codes[j % 16]);
        let low = if j < 16 { byte & 0xF } else { byte >> 4 };
        *x = meaning(low | (fifth >> j & 1) << 4);
    }
}

/// The scale and the minimum, 6 bits each, of part `j` of eight.
fn scale_and_min(scales: &[u8], j: usize) -> (f32, f32) {
    let (scale, min) = match j < 4 {
        true => (scales[j] & 63, scales[j + 4] & 63),
        false => (scales[j + 4] & 0xF | (scales[j - 4] >> 6) << 4, scales[j + 4] >> 4 | (scales[j] >> 6) << 4),
    };
    (f32::from(scale), f32::from(min))
}

/// Q4_K, and Q5_K with the fifth bits: bit `part` of `fifth[i]` belongs to value i of the part.
fn decode_q4_k(raw: &[u8], fifth: Option<&[u8]>, codes: &[u8], out: &mut [f32]) {
    let (d, dmin, scales) = (half_at(raw, 0), half_at(raw, 2), &raw[4..16]);
    for part in 0..8 {
        let (scale, min) = scale_and_min(scales, part);
        let (scale, min) = (d * scale, dmin * min);
        for i in 0..32 {
            let byte = codes[part / 2 * 32 + i];
            let low = if part % 2 == 0 { byte & 0xF } else { byte >> 4 };
            let high = fifth.map_or(0, |fifth| fifth[i] >> part & 1) << 4;
            out[part * 32 + i] = scale * f32::from(low | high) - min;
        }
    }
}

fn decode_q6_k(raw: &[u8], out: &mut [f32]) {
    let d = half_at(raw, 208);
    for half in 0..2 {
        let (low, high, scales) = (&raw[half * 64..], &raw[128 + half * 32..], &raw[192 + half * 8..]);
        for quarter in 0..4 {
            for i in 0..32 {
                let byte = low[quarter % 2 * 32 + i];
                let four = if quarter < 2 { byte & 0xF } else { byte >> 4 };
                let two = high[i] >> (2 * quarter) & 3;
                let code = f32::from((four | two << 4) as i8 - 32);
                let scale = d * f32::from(scales[quarter * 2 + i / 16] as i8);
                out[half * 128 + quarter * 32 + i] = scale * code;
            }
        }
    }
}
