//! The dtype in which frozen matrices are held on the GPU.

use serde::{Deserialize, Serialize};

use crate::ops::weight_dtype::WeightDtype;

const AUTO: &str = "auto";

/// How to hold matrices: in the dtype in which they are stored, which loses nothing, or in a given dtype.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "&'static str")]
pub struct WeightPolicy(Option<WeightDtype>);

impl WeightPolicy {
    /// In the dtype in which they are stored.
    pub const AS_STORED: WeightPolicy = WeightPolicy(None);
    /// The values of the flags `--weights` and `--base-weights`.
    pub const WORDS: [&str; 6] = [AUTO, "f32", "bf16", "f16", "q8", "q4"];

    /// The policy named by one of [`WeightPolicy::WORDS`].
    pub fn named(word: &str) -> Option<Self> {
        if word == AUTO { Some(Self::AS_STORED) } else { WeightDtype::from_name(word).map(Self::from) }
    }

    /// The inverse of [`WeightPolicy::named`].
    pub fn name(self) -> &'static str {
        self.0.map_or(AUTO, WeightDtype::name)
    }

    /// The dtype in which to hold matrices that are stored in `stored`.
    pub fn of_stored(self, stored: WeightDtype) -> WeightDtype {
        self.0.unwrap_or(stored)
    }
}

impl From<WeightPolicy> for &'static str {
    fn from(policy: WeightPolicy) -> Self {
        policy.name()
    }
}

impl TryFrom<String> for WeightPolicy {
    type Error = String;

    fn try_from(word: String) -> Result<Self, String> {
        Self::named(&word).ok_or_else(|| format!("`{word}` is none of {}", Self::WORDS.join(", ")))
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
        for word in WeightPolicy::WORDS {
            assert_eq!(WeightPolicy::named(word).unwrap().name(), word);
        }
        let dtype = |word| WeightPolicy::named(word).unwrap().of_stored(WeightDtype::Bf16);
        assert_eq!(["auto", "f32", "q8"].map(dtype), [WeightDtype::Bf16, WeightDtype::F32, WeightDtype::Q8]);
        assert_eq!((WeightPolicy::named("q5"), WeightPolicy::default()), (None, WeightPolicy::AS_STORED));
    }
}
