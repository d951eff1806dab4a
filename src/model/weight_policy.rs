//! The dtype in which frozen matrices are held on the GPU.

use serde::{Deserialize, Serialize};

use super::names::{Group, GroupKind, Part};
use super::source::TensorSource;
use crate::ops::weight_dtype::WeightDtype;
use crate::words::UnknownWord;

const AUTO: &str = "auto";

/// How to hold matrices: in the dtype in which they are stored, which loses nothing, or in a given dtype.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "&'static str")]
pub struct WeightPolicy(Option<WeightDtype>);

impl WeightPolicy {
    /// In the dtype in which they are stored.
    pub const AS_STORED: WeightPolicy = WeightPolicy(None);
    /// The values of the flags `--weights` and `--base-weights`.
    pub const WORDS: &[&str] = &[AUTO, "f32", "bf16", "f16", "q8", "q4"];

    /// Its word: what [`str::parse`] reads.
    pub fn name(self) -> &'static str {
        self.0.map_or(AUTO, WeightDtype::name)
    }

    /// The dtype in which to hold a tensor of `source`.
    pub fn of_part(self, source: &dyn TensorSource, group: &Group, part: &Part) -> WeightDtype {
        match self.0 {
            Some(dtype) => dtype.of_part(group, part),
            None if matches!(group.kind, GroupKind::Norm | GroupKind::Bias) => WeightDtype::F32,
            None => source.stored_dtype(&part.hf_name).for_rows_of(group),
        }
    }

    /// The dtype that is given, if one is.
    pub fn dtype(self) -> Option<WeightDtype> {
        self.0
    }
}

impl From<WeightPolicy> for &'static str {
    fn from(policy: WeightPolicy) -> Self {
        policy.name()
    }
}

impl TryFrom<String> for WeightPolicy {
    type Error = UnknownWord;

    fn try_from(word: String) -> Result<Self, UnknownWord> {
        word.parse()
    }
}

impl std::str::FromStr for WeightPolicy {
    type Err = UnknownWord;

    /// # Errors
    /// A word that means no policy.
    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        let dtype = || WeightDtype::from_name(word).map(Self::from);
        let policy = if word == AUTO { Some(Self::AS_STORED) } else { dtype() };
        policy.ok_or_else(|| UnknownWord::new(word, Self::WORDS))
    }
}

impl std::fmt::Display for WeightPolicy {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.pad(self.name())
    }
}

impl From<WeightDtype> for WeightPolicy {
    fn from(dtype: WeightDtype) -> Self {
        WeightPolicy(Some(dtype))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_found_by_their_words() {
        let policy = |word: &str| word.parse::<WeightPolicy>();
        for word in WeightPolicy::WORDS {
            assert_eq!(policy(word).unwrap().to_string(), *word);
        }
        let dtype = |word| policy(word).unwrap().dtype();
        assert_eq!(["auto", "f32", "q8"].map(dtype), [None, Some(WeightDtype::F32), Some(WeightDtype::Q8)]);
        assert_eq!(policy("q5").unwrap_err().to_string(), "`q5` is none of auto, f32, bf16, f16, q8, q4");
        assert_eq!(WeightPolicy::default(), WeightPolicy::AS_STORED);
    }
}
