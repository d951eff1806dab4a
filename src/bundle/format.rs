//! The storage format of a bundle's weights, and the arrays that its shards hold.

use crate::model::config::Config;
use crate::model::error::ModelError;
use crate::model::names::Groups;
use crate::model::quantised::Plane;
use crate::ops::weight_dtype::WeightDtype;

/// The names that a manifest has for the dtypes of matrices. Norms and biases are f32 in every bundle. `q4` is what earlier
/// versions wrote.
const NAMES: [(&str, WeightDtype); 6] = [
    ("f32", WeightDtype::F32),
    ("f16", WeightDtype::F16),
    ("bf16", WeightDtype::Bf16),
    ("q8", WeightDtype::Q8),
    ("q4_1", WeightDtype::Q4),
    ("q4", WeightDtype::Q4Symmetric),
];

/// The dtype of a bundle's matrices by its name in a manifest.
///
/// # Errors
/// An unknown name.
pub fn weight_dtype(name: &str) -> Result<WeightDtype, ModelError> {
    let found = NAMES.into_iter().find(|(known, _)| *known == name);
    found.map(|(_, dtype)| dtype).ok_or_else(|| ModelError::Unsupported {
        key: "weights".into(),
        found: format!("\"{name}\""),
        supported: NAMES.map(|(name, _)| name).join(", "),
    })
}

/// The name of a dtype in a manifest.
pub fn manifest_name(dtype: WeightDtype) -> &'static str {
    NAMES.into_iter().find(|(_, known)| *known == dtype).map_or("f32", |(name, _)| name)
}

/// The meaning of an array's entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryFormat {
    /// The tensor's values.
    Values(WeightDtype),
    /// One plane of a quantised matrix.
    Plane(WeightDtype, Plane),
}

impl EntryFormat {
    /// Bytes of one entry.
    pub fn bytes(self) -> usize {
        match self {
            EntryFormat::Values(dtype) => dtype.bytes(),
            EntryFormat::Plane(..) => 4,
        }
    }

    /// The name in a safetensors header.
    pub fn safetensors_name(self) -> &'static str {
        match self {
            EntryFormat::Values(dtype) => dtype.safetensors_name(),
            EntryFormat::Plane(_, Plane::Packed) | EntryFormat::Plane(WeightDtype::Q4, Plane::Scales) => "U32",
            EntryFormat::Plane(_, Plane::Scales) => "F32",
        }
    }

    /// The number of entries for `values` values of a tensor.
    pub fn of_values(self, values: usize) -> usize {
        match self {
            EntryFormat::Values(_) => values,
            EntryFormat::Plane(dtype, plane) => dtype.entries(plane, values),
        }
    }
}

/// One array in the shards: a tensor, or a plane of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredArray {
    /// The name in the shard: the tensor's, with the suffix `.scales` for scales.
    pub name: String,
    /// The tensor's Hugging Face name and shape.
    pub tensor: String,
    pub tensor_shape: Vec<usize>,
    pub entries: EntryFormat,
}

impl StoredArray {
    /// The shape in the shard.
    pub fn shape(&self) -> Vec<usize> {
        let mut shape = self.tensor_shape.clone();
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
pub fn stored_arrays(config: &Config, weights: WeightDtype) -> Vec<StoredArray> {
    let mut arrays = Vec::new();
    for group in &Groups::of(config).list {
        for part in &group.parts {
            let tensor_shape = group.shape_of(part);
            let dtype = weights.of_part(group, part);
            let entries = match dtype.is_quantised() {
                true => Plane::ALL.map(|plane| EntryFormat::Plane(dtype, plane)).to_vec(),
                // Half-precision matrices do not have blocks. Tensors other than matrices are small and stay exact.
                false => vec![EntryFormat::Values(if tensor_shape.len() == 2 { weights.float() } else { WeightDtype::F32 })],
            };
            arrays.extend(entries.into_iter().map(|entries| {
                let mut name = part.hf_name.clone();
                if matches!(entries, EntryFormat::Plane(_, Plane::Scales)) {
                    name += ".scales";
                }
                StoredArray { name, tensor: part.hf_name.clone(), tensor_shape: tensor_shape.clone(), entries }
            }));
        }
    }
    arrays
}
