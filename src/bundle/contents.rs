//! Whether the shards of a bundle are its model: every array once, whole, in its shape and type.

use std::collections::HashMap;

use super::{Entries, Stored, stored};
use crate::model::config::Config;
use crate::model::error::ModelError;
use crate::ops::weight_dtype::WeightDtype;

/// Names listed in a message before "and n more".
const LISTED: usize = 5;

/// Where a part lies in its array.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Hugging Face's name of the tensor.
    pub tensor: String,
    /// First entry.
    pub start: usize,
    /// Number of entries.
    pub len: usize,
    pub entries: Entries,
}

/// Takes the headers of all shards, in order, and knows what is still missing.
pub struct Contents {
    weights: WeightDtype,
    order: Vec<String>,
    arrays: HashMap<String, (Stored, usize)>,
}

impl Contents {
    /// What the shards of a bundle must hold.
    pub fn new(config: &Config, weights: WeightDtype) -> Self {
        let arrays = stored(config, weights);
        let order = arrays.iter().map(|a| a.name.clone()).collect();
        Contents { weights, order, arrays: arrays.into_iter().map(|a| (a.name.clone(), (a, 0))).collect() }
    }

    /// Takes the next part: what a shard's header says of an array. Its place is behind the parts that came before.
    ///
    /// # Errors
    /// An array that is not the model's, has another shape or type, or more rows than it should.
    pub fn add(&mut self, file: &str, name: &str, shape: &[usize], dtype: safetensors::Dtype) -> Result<Part, ModelError> {
        let Some((array, taken)) = self.arrays.get_mut(name) else {
            return Err(ModelError::UnexpectedTensors { count: 1, names: format!("`{name}` in {file}") });
        };
        let whole = array.shape();
        let row: usize = whole.iter().skip(1).product();
        let rows_left = whole.first().copied().unwrap_or(0) - *taken / row.max(1);
        let fits = shape.len() == whole.len()
            && shape.iter().skip(1).eq(whole.iter().skip(1))
            && shape.first().is_some_and(|rows| *rows <= rows_left && *rows > 0);
        if !fits {
            let mut expected = whole;
            if let Some(first) = expected.first_mut() {
                *first = rows_left;
            }
            return Err(ModelError::Shape { tensor: name.into(), file: file.into(), expected, found: shape.to_vec() });
        }
        let wanted = array.entries.safetensors_name();
        if dtype.to_string() != wanted {
            let reason =
                format!("tensor `{name}` is stored as {dtype}, and weights of {} have it as {wanted}", self.weights.name());
            return Err(ModelError::Corrupt { file: file.into(), reason });
        }
        let len = shape.iter().product();
        let part = Part { tensor: array.tensor.clone(), start: *taken, len, entries: array.entries };
        *taken += part.len;
        Ok(part)
    }

    /// Says that all shards have come.
    ///
    /// # Errors
    /// An array that is missing, or not whole.
    pub fn finish(&self) -> Result<(), ModelError> {
        let open = |name: &&String| self.arrays.get(*name).is_some_and(|(array, taken)| *taken < array.len());
        let missing: Vec<String> = self.order.iter().filter(open).map(|name| format!("`{name}`")).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let mut names = missing.iter().take(LISTED).cloned().collect::<Vec<_>>().join(", ");
        if missing.len() > LISTED {
            names += &format!(" and {} more", missing.len() - LISTED);
        }
        Err(ModelError::MissingTensors { count: missing.len(), names, hint: ", or some of their rows".into() })
    }
}
