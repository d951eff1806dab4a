//! Checks that the shards of a bundle contain its model: every array once, completely, in its shape and type.

use std::collections::HashMap;

use super::{EntryFormat, StoredArray, stored_arrays};
use crate::model::config::Config;
use crate::model::error::ModelError;
use crate::ops::weight_dtype::WeightDtype;

/// The most names in a message before "and n more".
const MAX_LISTED: usize = 5;

/// The position of a part in its array.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArrayPart {
    /// Hugging Face's name of the tensor.
    pub tensor: String,
    /// First entry.
    pub start: usize,
    /// Number of entries.
    pub len: usize,
    pub entries: EntryFormat,
}

/// Takes the headers of all shards in order, and knows which rows are still missing.
pub struct Contents {
    weights: WeightDtype,
    order: Vec<String>,
    arrays: HashMap<String, (StoredArray, usize)>,
}

impl Contents {
    /// A check against the arrays that the shards of a bundle must hold.
    pub fn new(config: &Config, weights: WeightDtype) -> Self {
        let arrays = stored_arrays(config, weights);
        let order = arrays.iter().map(|a| a.name.clone()).collect();
        Contents { weights, order, arrays: arrays.into_iter().map(|a| (a.name.clone(), (a, 0))).collect() }
    }

    /// Takes the next part, as a shard's header describes it. It follows the parts of the same array that came before.
    ///
    /// # Errors
    /// An array that does not belong to the model, has another shape or type, or more rows than it should.
    pub fn add(&mut self, file: &str, name: &str, shape: &[usize], dtype: safetensors::Dtype) -> Result<ArrayPart, ModelError> {
        let Some((array, taken)) = self.arrays.get_mut(name) else {
            return Err(ModelError::UnexpectedTensors { count: 1, names: format!("`{name}` in {file}") });
        };
        let full_shape = array.shape();
        let row: usize = full_shape.iter().skip(1).product();
        let rows_left = full_shape.first().copied().unwrap_or(0) - *taken / row.max(1);
        let matches = shape.len() == full_shape.len()
            && shape.iter().skip(1).eq(full_shape.iter().skip(1))
            && shape.first().is_some_and(|rows| *rows <= rows_left && *rows > 0);
        if !matches {
            let mut expected = full_shape;
            if let Some(first) = expected.first_mut() {
                *first = rows_left;
            }
            return Err(ModelError::Shape { tensor: name.into(), file: file.into(), expected, found: shape.to_vec() });
        }
        let expected_type = array.entries.safetensors_name();
        if dtype.to_string() != expected_type {
            let reason = format!(
                "tensor `{name}` is stored as {dtype}, and weights of {} have it as {expected_type}",
                self.weights.name()
            );
            return Err(ModelError::Corrupt { file: file.into(), reason });
        }
        let len = shape.iter().product();
        let part = ArrayPart { tensor: array.tensor.clone(), start: *taken, len, entries: array.entries };
        *taken += part.len;
        Ok(part)
    }

    /// Checks that all shards together are complete.
    ///
    /// # Errors
    /// An array that is missing or incomplete.
    pub fn finish(&self) -> Result<(), ModelError> {
        let incomplete = |name: &&String| self.arrays.get(*name).is_some_and(|(array, taken)| *taken < array.len());
        let missing: Vec<String> = self.order.iter().filter(incomplete).map(|name| format!("`{name}`")).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let mut names = missing.iter().take(MAX_LISTED).cloned().collect::<Vec<_>>().join(", ");
        if missing.len() > MAX_LISTED {
            names += &format!(" and {} more", missing.len() - MAX_LISTED);
        }
        Err(ModelError::MissingTensors { count: missing.len(), names, hint: ", or some of their rows".into() })
    }
}
