//! How the weights of a bundle are stored, and which arrays its shards hold.

use crate::model::config::Config;
use crate::model::dtype::Dtype;
use crate::model::error::ModelError;
use crate::model::form::Form;
use crate::model::names::Groups;
use crate::model::quantised::{Plane, Quantisation};

/// How the matrices of a bundle are stored. Norms and biases are f32 in every format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeightFormat {
    F32,
    F16,
    Bf16,
    Q8,
    Q4,
}

impl WeightFormat {
    /// All formats by their names.
    pub const ALL: [(&'static str, WeightFormat); 5] = [
        ("f32", WeightFormat::F32),
        ("f16", WeightFormat::F16),
        ("bf16", WeightFormat::Bf16),
        ("q8", WeightFormat::Q8),
        ("q4", WeightFormat::Q4),
    ];

    /// The format of this name.
    ///
    /// # Errors
    /// A name that is none.
    pub fn named(name: &str) -> Result<Self, ModelError> {
        let known = WeightFormat::ALL.iter().find(|(known, _)| *known == name);
        known.map(|(_, format)| *format).ok_or_else(|| ModelError::Unsupported {
            key: "weights".into(),
            found: format!("\"{name}\""),
            supported: WeightFormat::ALL.map(|(name, _)| name).join(", "),
        })
    }

    pub fn name(self) -> &'static str {
        match self {
            WeightFormat::F32 => "f32",
            WeightFormat::F16 => "f16",
            WeightFormat::Bf16 => "bf16",
            WeightFormat::Q8 => "q8",
            WeightFormat::Q4 => "q4",
        }
    }

    /// The type of the model's matrices in this format; f32 for quantised ones, which are decoded to that.
    pub fn matrix_dtype(self) -> Dtype {
        match self {
            WeightFormat::F32 | WeightFormat::Q8 | WeightFormat::Q4 => Dtype::F32,
            WeightFormat::F16 => Dtype::F16,
            WeightFormat::Bf16 => Dtype::Bf16,
        }
    }

    /// The same form on the GPU.
    pub fn form(self) -> Form {
        match self {
            WeightFormat::F32 => Form::F32,
            WeightFormat::F16 => Form::F16,
            WeightFormat::Bf16 => Form::Bf16,
            WeightFormat::Q8 => Form::Q8,
            WeightFormat::Q4 => Form::Q4,
        }
    }

    /// How matrices are quantised, if they are.
    pub fn quantisation(self) -> Option<Quantisation> {
        match self {
            WeightFormat::F32 | WeightFormat::F16 | WeightFormat::Bf16 => None,
            WeightFormat::Q8 => Some(Quantisation::Q8),
            WeightFormat::Q4 => Some(Quantisation::Q4),
        }
    }
}

/// What the entries of an array are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entries {
    /// The tensor's values.
    Values(Dtype),
    /// One plane of a quantised matrix.
    Plane(Quantisation, Plane),
}

impl Entries {
    /// Bytes of one entry.
    pub fn bytes(self) -> usize {
        match self {
            Entries::Values(dtype) => dtype.bytes(),
            Entries::Plane(..) => 4,
        }
    }

    /// The name in a safetensors header.
    pub fn safetensors_name(self) -> &'static str {
        match self {
            Entries::Values(dtype) => dtype.safetensors_name(),
            Entries::Plane(_, Plane::Packed) => "U32",
            Entries::Plane(_, Plane::Scales) => "F32",
        }
    }

    /// Entries that `values` values of a tensor have.
    pub fn of_values(self, values: usize) -> usize {
        match self {
            Entries::Values(_) => values,
            Entries::Plane(form, plane) => form.entries(plane, values),
        }
    }
}

/// One array as shards hold it: a tensor, or a plane of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// In the shard: that of the tensor, with `.scales` behind it for the scales.
    pub name: String,
    /// The tensor's Hugging Face name and shape.
    pub tensor: String,
    pub of: Vec<usize>,
    pub entries: Entries,
}

impl Stored {
    /// The shape in the shard.
    pub fn shape(&self) -> Vec<usize> {
        let mut shape = self.of.clone();
        if let Some(last) = shape.last_mut() {
            *last = self.entries.of_values(*last);
        }
        shape
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.shape().iter().product()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Every array of the model that `config` describes, in the model's order, the codes of a matrix before its scales.
pub fn stored(config: &Config, format: WeightFormat) -> Vec<Stored> {
    let mut all = Vec::new();
    for group in &Groups::of(config).list {
        for part in &group.parts {
            let of = group.shape_of(part);
            // What is not a matrix is small, and stays exact.
            let dtype = if of.len() == 2 { format.matrix_dtype() } else { Dtype::F32 };
            let entries = match format.quantisation().and_then(|form| form.of_group(group)) {
                None => vec![Entries::Values(dtype)],
                Some(form) => Plane::ALL.map(|plane| Entries::Plane(form, plane)).to_vec(),
            };
            all.extend(entries.into_iter().map(|entries| {
                let mut name = part.hf_name.clone();
                if matches!(entries, Entries::Plane(_, Plane::Scales)) {
                    name += ".scales";
                }
                Stored { name, tensor: part.hf_name.clone(), of: of.clone(), entries }
            }));
        }
    }
    all
}
