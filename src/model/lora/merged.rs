//! A model and its adapter as one set of weights.

use super::AdapterFiles;
use crate::model::config::Config;
use crate::model::error::ModelError;
use crate::model::names::tensors;
use crate::model::source::TensorSource;

/// W + s B A wherever the adapter has an update, and W elsewhere. Nothing is computed before it is read.
pub struct Merged {
    base: Box<dyn TensorSource>,
    adapter: AdapterFiles,
    /// Columns of the adapted tensors, by name.
    columns: std::collections::HashMap<String, usize>,
}

impl Merged {
    /// Puts `adapter` onto `base`.
    ///
    /// # Errors
    /// An adapter of another model.
    pub fn new(base: Box<dyn TensorSource>, adapter: AdapterFiles) -> Result<Self, ModelError> {
        adapter.check(base.config())?;
        let specs = tensors(base.config()).into_iter().filter(|spec| adapter.adapts(&spec.name));
        let columns = specs.map(|spec| (spec.name.clone(), spec.shape[1])).collect();
        Ok(Merged { base, adapter, columns })
    }
}

impl TensorSource for Merged {
    fn config(&self) -> &Config {
        self.base.config()
    }

    fn read(&self, tensor: &str, start: usize, out: &mut [f32]) -> Result<(), ModelError> {
        self.base.read(tensor, start, out)?;
        let Some(columns) = self.columns.get(tensor).copied() else { return Ok(()) };
        let end = start + out.len();
        let mut update = vec![0.0; columns];
        for row in start / columns..end.div_ceil(columns) {
            update.fill(0.0);
            self.adapter.add_row(tensor, row, &mut update);
            let (from, to) = (start.max(row * columns), end.min((row + 1) * columns));
            let update = &update[from - row * columns..to - row * columns];
            for (w, d) in out[from - start..to - start].iter_mut().zip(update) {
                *w = (f64::from(*w) + d) as f32;
            }
        }
        Ok(())
    }
}
