//! A model's weights on the GPU, and its adapter if it has one.

use super::config::Config;
use super::error::ModelError;
use super::lora::Adapter;
use super::names::{Group, GroupKind, Groups, Part};
use super::quantised::Plane;
use super::source::TensorSource;
use super::tensors::{MIN_CHUNK_ROWS, TensorSet};
use super::weight_policy::WeightPolicy;
use crate::gpu::{Gpu, MemoryKind, PlanBuilder, Tensor};
use crate::ops::matrix::Matrix;
use crate::ops::weight_dtype::WeightDtype;

/// The tensors of a model. Clones share their buffers.
#[derive(Clone)]
pub struct Weights {
    pub config: Config,
    pub groups: Groups,
    base: TensorSet,
    adapter: Option<Adapter>,
}

impl Weights {
    /// Allocates the weights of `config` as zeros, with matrices in `dtype`.
    ///
    /// # Errors
    /// Too little GPU memory.
    pub fn allocate(gpu: &Gpu, config: &Config, dtype: WeightDtype) -> Result<Self, ModelError> {
        Self::allocate_each(gpu, config, |group, part| dtype.of_part(group, part))
    }

    /// Allocates the weights of `config` as zeros, each tensor in the dtype that `dtype_of` says.
    fn allocate_each(
        gpu: &Gpu,
        config: &Config,
        dtype_of: impl Fn(&Group, &Part) -> WeightDtype + Copy,
    ) -> Result<Self, ModelError> {
        let groups = Groups::of(config);
        if gpu.memory_left().is_some() {
            let dry = gpu.dry_copy();
            let _alive = TensorSet::allocate(&dry, &groups.list, dtype_of, "weights")?;
            gpu.afford(dry.allocated())?;
        }
        let base = TensorSet::allocate(gpu, &groups.list, dtype_of, "weights")?;
        Ok(Weights { config: config.clone(), groups, base, adapter: None })
    }

    /// Uploads `source` with all matrices in f32.
    ///
    /// # Errors
    /// An error of the source (a missing tensor, a value that is not finite); too little GPU memory.
    pub fn upload(gpu: &Gpu, source: &dyn TensorSource) -> Result<Self, ModelError> {
        Self::upload_as(gpu, source, WeightDtype::F32.into())
    }

    /// Uploads `source` with matrices held as `policy` says. Only a conversion to fewer bits loses precision.
    ///
    /// # Errors
    /// As [`Weights::upload`]; a value that f16 cannot hold.
    pub fn upload_as(gpu: &Gpu, source: &dyn TensorSource, policy: WeightPolicy) -> Result<Self, ModelError> {
        let gpu_of_weights = gpu.for_memory(MemoryKind::Weights);
        let dtype_of = |group: &Group, part: &Part| policy.of_part(source, group, part);
        let weights = Self::allocate_each(&gpu_of_weights, source.config(), dtype_of)?;
        if !gpu.is_dry() {
            weights.base.upload(gpu, source)?;
        }
        Ok(weights)
    }

    /// The same model with this adapter instead of its own.
    pub fn with_adapter(&self, adapter: Adapter) -> Self {
        Weights { adapter: Some(adapter), ..self.clone() }
    }

    /// The same model without its adapter.
    pub fn without_adapter(&self) -> Self {
        Weights { adapter: None, ..self.clone() }
    }

    pub fn adapter(&self) -> Option<&Adapter> {
        self.adapter.as_ref()
    }

    /// The tensors that training updates: those of the adapter if there is one, otherwise all.
    ///
    /// # Errors
    /// Weights without an adapter that are not in f32.
    pub fn trainable(&self) -> Result<&TensorSet, ModelError> {
        match (&self.adapter, self.base.packed_dtype()) {
            (Some(adapter), _) => Ok(&adapter.set),
            (None, None) => Ok(&self.base),
            (None, Some(dtype)) => Err(ModelError::Frozen { found: dtype.name() }),
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

/// Bytes of the buffers of `config`'s weights on `gpu` with matrices in `dtype`, counted in a dry run.
///
/// # Errors
/// Those of a dry run.
pub fn bytes_on_gpu(gpu: &Gpu, config: &Config, dtype: WeightDtype) -> Result<u64, ModelError> {
    let dry = gpu.dry_copy();
    let _alive = Weights::allocate(&dry, config, dtype)?;
    Ok(dry.allocated())
}

/// The smallest binding, in bytes, for `config`'s weights with matrices in `dtype`. Matrices are cut into chunks of rows, but
/// not of fewer than [`MIN_CHUNK_ROWS`].
pub fn least_binding(config: &Config, dtype: WeightDtype) -> u64 {
    let of_group = |group: &Group| {
        let words = group.parts.iter().map(|part| dtype.of_part(group, part).entries(Plane::Packed, group.cols)).max();
        (words.unwrap_or(0) * group.rows.min(MIN_CHUNK_ROWS)) as u64 * 4
    };
    Groups::of(config).list.iter().map(of_group).max().unwrap_or(0)
}

/// The dtypes of a model's matrices, if they are to be in `dtype` as far as their rows allow.
pub fn matrix_dtypes(config: &Config, dtype: WeightDtype) -> Vec<WeightDtype> {
    let groups = Groups::of(config);
    let matrices = groups.list.iter().filter(|group| matches!(group.kind, GroupKind::Embedding | GroupKind::Matrix));
    let used: Vec<WeightDtype> = matrices.flat_map(|group| group.parts.iter().map(|part| dtype.of_part(group, part))).collect();
    WeightDtype::ALL.into_iter().chain([WeightDtype::Q4Symmetric]).filter(|dtype| used.contains(dtype)).collect()
}
