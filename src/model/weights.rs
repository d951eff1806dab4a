//! A model's weights on the GPU, with the adapter that is trained beside them, if there is one.

use super::config::Config;
use super::error::ModelError;
use super::lora::Adapter;
use super::names::{Group, Groups};
use super::quantised::Plane;
use super::source::TensorSource;
use super::tensors::{SLAB_ROWS, TensorSet};
use crate::gpu::{Gpu, MemoryKind, PlanBuilder, Tensor};
use crate::ops::matrix::Matrix;
use crate::ops::weight_dtype::WeightDtype;

/// The tensors of a model. Clones share their buffers.
#[derive(Clone)]
pub struct Weights {
    pub config: Config,
    pub groups: Groups,
    dtype: WeightDtype,
    base: TensorSet,
    adapter: Option<Adapter>,
}

impl Weights {
    /// Zeros in the shape of `config`, matrices held in `dtype`.
    ///
    /// # Errors
    /// Too little GPU memory.
    pub fn room(gpu: &Gpu, config: &Config, dtype: WeightDtype) -> Result<Self, ModelError> {
        if gpu.memory_left().is_some() {
            gpu.afford(bytes_on_gpu(gpu, config, dtype)?)?;
        }
        let groups = Groups::of(config);
        let base = TensorSet::room(gpu, &groups.list, dtype, "weights")?;
        Ok(Weights { config: config.clone(), groups, dtype, base, adapter: None })
    }

    /// Uploads `source` piece by piece, in f32 however it is stored.
    ///
    /// # Errors
    /// What the source reports (a missing tensor, a value that is not finite), or too little GPU memory.
    pub fn upload(gpu: &Gpu, source: &dyn TensorSource) -> Result<Self, ModelError> {
        Self::upload_as(gpu, source, WeightDtype::F32)
    }

    /// Uploads `source` piece by piece, matrices in `dtype`. Whoever quantises loses precision, and nobody else: bf16 and
    /// f16 that come from files of the same type are exact.
    ///
    /// # Errors
    /// As [`Weights::upload`]; a value that f16 cannot hold.
    pub fn upload_as(gpu: &Gpu, source: &dyn TensorSource, dtype: WeightDtype) -> Result<Self, ModelError> {
        let weights = Self::room(&gpu.for_memory(MemoryKind::Weights), source.config(), dtype)?;
        if !gpu.is_dry() {
            weights.base.upload(gpu, source)?;
        }
        Ok(weights)
    }

    /// The same model with this adapter in place of any other.
    pub fn with_adapter(&self, adapter: Adapter) -> Self {
        Weights { adapter: Some(adapter), ..self.clone() }
    }

    /// The same model with its adapter switched off.
    pub fn without_adapter(&self) -> Self {
        Weights { adapter: None, ..self.clone() }
    }

    pub fn adapter(&self) -> Option<&Adapter> {
        self.adapter.as_ref()
    }

    /// How matrices are held.
    pub fn dtype(&self) -> WeightDtype {
        self.dtype
    }

    /// The tensors that training changes: the adapter's where there is one, otherwise all.
    ///
    /// # Errors
    /// No adapter, and weights that are not in f32.
    pub fn trainable(&self) -> Result<&TensorSet, ModelError> {
        match (&self.adapter, self.dtype) {
            (Some(adapter), _) => Ok(&adapter.set),
            (None, WeightDtype::F32) => Ok(&self.base),
            (None, dtype) => Err(ModelError::Frozen { found: dtype.name() }),
        }
    }

    /// All tensors of the model itself.
    pub fn base(&self) -> &TensorSet {
        &self.base
    }

    /// Group `index`, a norm or a bias, as a tensor of a plan.
    pub fn tensor(&self, plan: &mut PlanBuilder, index: usize) -> Tensor {
        self.base.tensor(plan, index)
    }

    /// Group `index`, a matrix, as products read it.
    pub fn matrix(&self, plan: &mut PlanBuilder, index: usize) -> Matrix {
        self.base.matrix(plan, index)
    }

    /// Bytes of all buffers.
    pub fn bytes(&self) -> u64 {
        self.base.bytes() + self.adapter.as_ref().map_or(0, |adapter| adapter.set.bytes())
    }
}

/// Bytes of the buffers that weights of `config` would have on `gpu`, matrices held in `dtype`: those of a dry run.
///
/// # Errors
/// None that a dry run knows.
pub fn bytes_on_gpu(gpu: &Gpu, config: &Config, dtype: WeightDtype) -> Result<u64, ModelError> {
    let dry = gpu.dry_copy();
    let _alive = Weights::room(&dry, config, dtype)?;
    Ok(dry.allocated())
}

/// Bytes that a binding must have at least for weights of `config`, matrices held in `dtype`: matrices are cut by rows, but
/// not into fewer than [`SLAB_ROWS`].
pub fn least_binding(config: &Config, dtype: WeightDtype) -> u64 {
    let of_group = |group: &Group| {
        let words = dtype.of_group(group).entries(Plane::Packed, group.cols);
        (words * group.rows.min(SLAB_ROWS)) as u64 * 4
    };
    Groups::of(config).list.iter().map(of_group).max().unwrap_or(0)
}
