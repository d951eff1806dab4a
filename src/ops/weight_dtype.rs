//! The dtype of a weight matrix: in files, in bundles, on the GPU and in kernels.
//!
//! The names in `config.json` and safetensors are in `model::dtype`, the packing of blocks in `model::quantised`.

use crate::words::UnknownWord;

/// Values of a row that are packed together, and that share a scale if the matrix is quantised.
pub const BLOCK: usize = 32;

/// How the values of a matrix are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum WeightDtype {
    /// One value per word.
    #[default]
    F32,
    /// Two values per word, the first in the low half.
    F16,
    /// Likewise.
    Bf16,
    /// Codes of 8 bits with a scale per block, as `model::quantised` writes them.
    Q8,
    /// Codes of 4 bits with a scale and a minimum per block.
    Q4,
    /// Codes of 4 bits with a scale per block: the Q4 of earlier bundles, which is read but not written.
    Q4Symmetric,
}

impl WeightDtype {
    /// The dtypes that weights are written in.
    pub const ALL: [WeightDtype; 5] = [WeightDtype::F32, WeightDtype::F16, WeightDtype::Bf16, WeightDtype::Q8, WeightDtype::Q4];
    /// The dtypes that kernels read packed.
    pub const PACKED: [WeightDtype; 5] =
        [WeightDtype::Q8, WeightDtype::Q4, WeightDtype::Q4Symmetric, WeightDtype::Bf16, WeightDtype::F16];

    /// The name in flags, settings, manifests and messages.
    pub fn name(self) -> &'static str {
        match self {
            WeightDtype::F32 => "f32",
            WeightDtype::F16 => "f16",
            WeightDtype::Bf16 => "bf16",
            WeightDtype::Q8 => "q8",
            WeightDtype::Q4 => "q4",
            WeightDtype::Q4Symmetric => "q4 without minima",
        }
    }

    /// The inverse of [`WeightDtype::name`], for the dtypes that are written.
    pub fn from_name(name: &str) -> Option<Self> {
        WeightDtype::ALL.into_iter().find(|dtype| dtype.name() == name)
    }

    /// Bits of a value, scales not counted.
    pub fn bits(self) -> usize {
        match self {
            WeightDtype::F32 => 32,
            WeightDtype::F16 | WeightDtype::Bf16 => 16,
            WeightDtype::Q8 => 8,
            WeightDtype::Q4 | WeightDtype::Q4Symmetric => 4,
        }
    }

    /// The length of a row in kernels is a multiple of this.
    pub fn block(self) -> usize {
        if self == WeightDtype::F32 { 1 } else { BLOCK }
    }

    /// Whether values are codes, and each block has a scale.
    pub fn is_quantised(self) -> bool {
        matches!(self, WeightDtype::Q8 | WeightDtype::Q4 | WeightDtype::Q4Symmetric)
    }

    /// The type of a single value: codes are decoded to f32.
    pub fn float(self) -> Self {
        if self.is_quantised() { WeightDtype::F32 } else { self }
    }

    /// The constants of `shaders/lib/packing.wgsl`, which unpacks all dtypes except f32.
    pub(super) fn constants(self) -> [(&'static str, u32); 3] {
        let name = match self {
            WeightDtype::F32 => "F32",
            WeightDtype::F16 => "F16",
            WeightDtype::Bf16 => "BF16",
            WeightDtype::Q8 => "Q8",
            WeightDtype::Q4 | WeightDtype::Q4Symmetric => "Q4",
        };
        let affine = u32::from(self == WeightDtype::Q4);
        [(name, 1), ("HALF", u32::from(!self.is_quantised())), ("AFFINE", affine)]
    }
}

impl std::str::FromStr for WeightDtype {
    type Err = UnknownWord;

    /// # Errors
    /// A word that names none of them.
    fn from_str(name: &str) -> Result<Self, UnknownWord> {
        WeightDtype::from_name(name).ok_or_else(|| UnknownWord::new(name, &["f32", "f16", "bf16", "q8", "q4"]))
    }
}

impl std::fmt::Display for WeightDtype {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for dtype in WeightDtype::ALL {
            assert_eq!(WeightDtype::from_name(dtype.name()), Some(dtype));
            assert_eq!(WeightDtype::PACKED.contains(&dtype), dtype != WeightDtype::F32);
        }
        let names = WeightDtype::ALL.map(WeightDtype::name).join(", ");
        assert_eq!("q5".parse::<WeightDtype>().unwrap_err().to_string(), format!("`q5` is none of {names}"));
    }
}
