//! How matrices that do not learn are held on the GPU: in f32, in half precision, or quantised; and who decides it.

use serde::{Deserialize, Serialize};

use super::dtype::Dtype;
use super::error::ModelError;
use super::names::{Group, Kind};
use super::quantised::{BLOCK, Plane, Quantisation};
use crate::ops::matrix::Packing;

/// A way to hold a model's matrices. Norms and biases, and matrices whose rows are no whole blocks of 32, are f32 in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    #[default]
    F32,
    Bf16,
    F16,
    Q8,
    Q4,
}

impl Form {
    pub const ALL: [Form; 5] = [Form::F32, Form::Bf16, Form::F16, Form::Q8, Form::Q4];

    pub fn name(self) -> &'static str {
        match self {
            Form::F32 => "f32",
            Form::Bf16 => "bf16",
            Form::F16 => "f16",
            Form::Q8 => "q8",
            Form::Q4 => "q4",
        }
    }

    /// The form of this name.
    pub fn named(name: &str) -> Option<Self> {
        Form::ALL.into_iter().find(|form| form.name() == name)
    }

    /// How the matrices of `group` are packed; `None`: they are f32.
    pub fn of_group(self, group: &Group) -> Option<Packing> {
        let half = |packing| {
            let matrix = matches!(group.kind, Kind::Embedding | Kind::Matrix);
            (matrix && group.cols.is_multiple_of(BLOCK)).then_some(packing)
        };
        match self {
            Form::F32 => None,
            Form::Bf16 => half(Packing::Bf16),
            Form::F16 => half(Packing::F16),
            Form::Q8 => Quantisation::Q8.of_group(group).map(Quantisation::packing),
            Form::Q4 => Quantisation::Q4.of_group(group).map(Quantisation::packing),
        }
    }
}

impl std::str::FromStr for Form {
    type Err = String;

    /// # Errors
    /// A word that names none of them.
    fn from_str(name: &str) -> Result<Self, String> {
        Form::named(name).ok_or_else(|| format!("{name}: expected f32, bf16, f16, q8 or q4"))
    }
}

/// How matrices are to be held: as they are stored, which loses nothing, or in a form of one's own choice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "&'static str")]
pub struct WeightPolicy(Option<Form>);

impl WeightPolicy {
    pub const AS_STORED: WeightPolicy = WeightPolicy(None);
    /// Of the flags `--weights` and `--base-weights`.
    pub const WORDS: [&str; 6] = ["auto", "f32", "bf16", "f16", "q8", "q4"];

    /// The policy that one of [`WeightPolicy::WORDS`] means.
    pub fn named(word: &str) -> Option<Self> {
        if word == "auto" { Some(Self::AS_STORED) } else { Form::named(word).map(Self::from) }
    }

    /// Its word.
    pub fn word(self) -> &'static str {
        self.0.map_or("auto", Form::name)
    }

    /// The form for matrices that are stored in `stored`.
    pub fn form(self, stored: Form) -> Form {
        self.0.unwrap_or(stored)
    }
}

impl From<WeightPolicy> for &'static str {
    fn from(policy: WeightPolicy) -> Self {
        policy.word()
    }
}

impl TryFrom<String> for WeightPolicy {
    type Error = String;

    fn try_from(word: String) -> Result<Self, String> {
        Self::named(&word).ok_or_else(|| format!("`{word}` is none of {}", Self::WORDS.join(", ")))
    }
}

impl From<Form> for WeightPolicy {
    fn from(form: Form) -> Self {
        WeightPolicy(Some(form))
    }
}

impl From<Dtype> for Form {
    fn from(dtype: Dtype) -> Self {
        match dtype {
            Dtype::F32 => Form::F32,
            Dtype::Bf16 => Form::Bf16,
            Dtype::F16 => Form::F16,
        }
    }
}

impl From<Quantisation> for Form {
    fn from(form: Quantisation) -> Self {
        match form {
            Quantisation::Q8 => Form::Q8,
            Quantisation::Q4 => Form::Q4,
        }
    }
}

impl Packing {
    /// Entries of a plane that `values` values have, a multiple of [`BLOCK`].
    pub fn entries(self, plane: Plane, values: usize) -> usize {
        match (self, plane) {
            (Packing::Q8, plane) => Quantisation::Q8.entries(plane, values),
            (Packing::Q4, plane) => Quantisation::Q4.entries(plane, values),
            (Packing::Bf16 | Packing::F16, Plane::Packed) => values / 2,
            (Packing::Bf16 | Packing::F16, Plane::Scales) => 0,
        }
    }
}

/// The words and scales of `values`, whole blocks of finite numbers.
pub(super) fn encode(packing: Packing, values: &[f32]) -> (Vec<u32>, Vec<f32>) {
    let (mut words, mut scales) = (Vec::new(), Vec::new());
    let halves = |dtype: Dtype| {
        let mut bytes = Vec::with_capacity(values.len() * 2);
        dtype.narrow(values, &mut bytes);
        bytes.as_chunks::<4>().0.iter().map(|word| u32::from_le_bytes(*word)).collect()
    };
    match packing {
        Packing::Q8 => Quantisation::Q8.encode(values, &mut words, &mut scales),
        Packing::Q4 => Quantisation::Q4.encode(values, &mut words, &mut scales),
        Packing::Bf16 => words = halves(Dtype::Bf16),
        Packing::F16 => words = halves(Dtype::F16),
    }
    (words, scales)
}

/// What `words` and `scales` of whole blocks mean.
pub(super) fn decode(packing: Packing, words: &[u32], scales: &[f32]) -> Vec<f32> {
    let halves = |dtype: Dtype| {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let mut values = vec![0.0; words.len() * 2];
        dtype.widen(&bytes, &mut values);
        values
    };
    let codes = |form: Quantisation| {
        let mut values = vec![0.0; scales.len() * BLOCK];
        form.decode(words, scales, &mut values);
        values
    };
    match packing {
        Packing::Q8 => codes(Quantisation::Q8),
        Packing::Q4 => codes(Quantisation::Q4),
        Packing::Bf16 => halves(Dtype::Bf16),
        Packing::F16 => halves(Dtype::F16),
    }
}

/// Whether `packing` can hold finite `values`, elements `start ..` of `group`: f16 ends at 65,504.
pub(super) fn check_range(packing: Packing, group: &str, start: usize, values: &[f32]) -> Result<(), ModelError> {
    let largest = half::f16::MAX.to_f32();
    match values.iter().position(|x| packing == Packing::F16 && x.abs() > largest) {
        None => Ok(()),
        Some(at) => {
            let (tensor, value) = (group.to_string(), values[at]);
            Err(ModelError::OutOfRangeForDtype { tensor, index: start + at, value, dtype: "f16" })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Stream;

    #[test]
    fn policies_by_their_words() {
        let forms = WeightPolicy::WORDS.map(|word| WeightPolicy::named(word).unwrap().form(Form::Bf16));
        assert_eq!(forms, [Form::Bf16, Form::F32, Form::Bf16, Form::F16, Form::Q8, Form::Q4]);
        assert_eq!((WeightPolicy::named("q5"), WeightPolicy::default()), (None, WeightPolicy::AS_STORED));
    }

    /// Every packing gives back what it took, as far as it can.
    #[test]
    fn what_is_packed_is_unpacked() {
        let mut stream = Stream::new(4, 4);
        let values: Vec<f32> = (0..3 * BLOCK).map(|_| stream.normal() as f32).collect();
        for (packing, off) in [(Packing::Bf16, 0.01), (Packing::F16, 0.001), (Packing::Q8, 0.02), (Packing::Q4, 0.3)] {
            let (words, scales) = encode(packing, &values);
            assert_eq!((words.len(), scales.len()), (packing.entries(Plane::Packed, 96), packing.entries(Plane::Scales, 96)));
            let back = decode(packing, &words, &scales);
            assert!(values.iter().zip(&back).all(|(a, b)| (a - b).abs() < off), "{packing:?}");
        }
        assert!(check_range(Packing::F16, "w", 5, &[1.0, 7e4]).unwrap_err().to_string().contains("element 6"));
        assert!(check_range(Packing::Bf16, "w", 5, &[1.0, 7e4]).is_ok());
    }
}
