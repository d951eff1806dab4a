//! How the weights of a bundle are stored, and which arrays its shards hold.

use crate::model::config::Config;
use crate::model::error::ModelError;
use crate::model::names::Groups;
use crate::model::quantised::Plane;
use crate::ops::weight_dtype::WeightDtype;

/// The dtype of a bundle's matrices by its name. Norms and biases are f32 in every bundle.
///
/// # Errors
/// A name that is none.
pub fn weight_dtype(name: &str) -> Result<WeightDtype, ModelError> {
    WeightDtype::from_name(name).ok_or_else(|| ModelError::Unsupported {
        key: "weights".into(),
        found: format!("\"{name}\""),
        supported: WeightDtype::ALL.map(WeightDtype::name).join(", "),
    })
}

/// What the entries of an array are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entries {
    /// The tensor's values.
    Values(WeightDtype),
    /// One plane of a quantised matrix.
    Plane(WeightDtype, Plane),
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
            Entries::Plane(dtype, plane) => dtype.entries(plane, values),
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
pub fn stored(config: &Config, weights: WeightDtype) -> Vec<Stored> {
    let mut all = Vec::new();
    for group in &Groups::of(config).list {
        for part in &group.parts {
            let of = group.shape_of(part);
            let held = weights.of_group(group);
            let entries = match held.is_quantised() {
                true => Plane::ALL.map(|plane| Entries::Plane(held, plane)).to_vec(),
                // A file has no blocks of halves. What is not a matrix is small, and stays exact.
                false => vec![Entries::Values(if of.len() == 2 { weights.float() } else { WeightDtype::F32 })],
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
