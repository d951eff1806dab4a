//! Whether the shards of a bundle are its model: every tensor once, whole, in its shape and type.

use std::collections::HashMap;

use super::WeightFormat;
use crate::model::config::Config;
use crate::model::dtype::Dtype;
use crate::model::error::ModelError;
use crate::model::names::{TensorSpec, tensors};

/// Names listed in a message before "and n more".
const LISTED: usize = 5;

/// Where a part lies in its tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// First element.
    pub start: usize,
    /// Number of elements.
    pub len: usize,
    pub dtype: Dtype,
}

/// Takes the headers of all shards, in order, and knows what is still missing.
pub struct Contents {
    format: WeightFormat,
    order: Vec<String>,
    tensors: HashMap<String, (TensorSpec, usize)>,
}

impl Contents {
    /// What the shards of a bundle must hold.
    pub fn new(config: &Config, format: WeightFormat) -> Self {
        let specs = tensors(config);
        let order = specs.iter().map(|s| s.name.clone()).collect();
        Contents { format, order, tensors: specs.into_iter().map(|s| (s.name.clone(), (s, 0))).collect() }
    }

    /// Takes the next part: what a shard's header says of a tensor. Its place is behind the parts that came before.
    ///
    /// # Errors
    /// A tensor that is not the model's, has another shape or type, or more rows than it should.
    pub fn add(&mut self, file: &str, name: &str, shape: &[usize], dtype: safetensors::Dtype) -> Result<Part, ModelError> {
        let Some((spec, taken)) = self.tensors.get_mut(name) else {
            return Err(ModelError::UnexpectedTensors { count: 1, names: format!("`{name}` in {file}") });
        };
        let row: usize = spec.shape.iter().skip(1).product();
        let rows_left = spec.shape.first().copied().unwrap_or(0) - *taken / row.max(1);
        let fits = shape.len() == spec.shape.len()
            && shape.iter().skip(1).eq(spec.shape.iter().skip(1))
            && shape.first().is_some_and(|rows| *rows <= rows_left && *rows > 0);
        if !fits {
            let mut expected = spec.shape.clone();
            if let Some(first) = expected.first_mut() {
                *first = rows_left;
            }
            return Err(ModelError::Shape { tensor: name.into(), file: file.into(), expected, found: shape.to_vec() });
        }
        let wanted = self.format.dtype(&spec.shape);
        if Dtype::from_safetensors(dtype) != Some(wanted) {
            let reason = format!(
                "tensor `{name}` is stored as {dtype}, and weights of {} have it as {}",
                self.format.name(),
                wanted.safetensors_name()
            );
            return Err(ModelError::Corrupt { file: file.into(), reason });
        }
        let part = Part { start: *taken, len: shape.iter().product(), dtype: wanted };
        *taken += part.len;
        Ok(part)
    }

    /// Says that all shards have come.
    ///
    /// # Errors
    /// A tensor that is missing, or not whole.
    pub fn finish(&self) -> Result<(), ModelError> {
        let open = |name: &&String| self.tensors.get(*name).is_some_and(|(spec, taken)| *taken < spec.len());
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
