//! A model and its adapter, merged into one set of weights.

use super::AdapterFiles;
use crate::model::config::Config;
use crate::model::dtype::first_non_finite;
use crate::model::error::ModelError;
use crate::model::source::TensorSource;

/// W + s B A where the adapter has an update, and W elsewhere. Values are computed when they are read.
pub struct Merged {
    base: Box<dyn TensorSource>,
    adapter: AdapterFiles,
}

impl Merged {
    /// Merges `adapter` into `base`.
    ///
    /// # Errors
    /// An adapter of another model.
    pub fn new(base: Box<dyn TensorSource>, adapter: AdapterFiles) -> Result<Self, ModelError> {
        adapter.check(base.config())?;
        Ok(Merged { base, adapter })
    }
}

impl TensorSource for Merged {
    fn config(&self) -> &Config {
        self.base.config()
    }

    fn read(&self, tensor: &str, start: usize, out: &mut [f32]) -> Result<(), ModelError> {
        self.base.read(tensor, start, out)?;
        self.adapter.add_to(tensor, start, out);
        match first_non_finite(out) {
            Some(at) => Err(ModelError::NonFinite { tensor: tensor.into(), index: start + at, value: out[at] }),
            None => Ok(()),
        }
    }
}
