//! A model's weights on the GPU: one buffer a fused group, in f32. Gradients and moments have the same form.

use super::config::Config;
use super::error::ModelError;
use super::names::{Group, Groups};
use super::source::{TensorSource, stream_group};
use crate::gpu::{Buffer, Gpu, PlanBuilder, Tensor};

/// Elements moved between host and GPU at a time: 4 MiB.
const PIECE: usize = 1 << 20;

/// One buffer for each group of a model.
#[derive(Clone)]
pub struct Weights {
    pub config: Config,
    pub groups: Groups,
    buffers: Vec<Buffer>,
}

impl Weights {
    /// Zeros in the shape of `config`; `role` ("weights", "gradient", …) names the buffers.
    pub fn zeros(gpu: &Gpu, config: &Config, role: &str) -> Result<Self, ModelError> {
        let groups = Groups::of(config);
        let make = |g: &Group| gpu.buffer(&format!("{} ({role})", g.name), g.len());
        let buffers = groups.list.iter().map(make).collect::<Result<_, _>>()?;
        Ok(Weights { config: config.clone(), groups, buffers })
    }

    /// Uploads `source` piece by piece.
    ///
    /// # Errors
    /// What the source reports (a missing tensor, a value that is not finite), or too little GPU memory.
    pub fn upload(gpu: &Gpu, source: &dyn TensorSource) -> Result<Self, ModelError> {
        let weights = Self::zeros(gpu, source.config(), "weights")?;
        for (group, buffer) in weights.groups.list.iter().zip(&weights.buffers) {
            stream_group(source, group, PIECE, |start, values: &[f32]| {
                gpu.write(buffer, start, values).map_err(ModelError::from)
            })?;
        }
        Ok(weights)
    }

    /// The buffer of group `index`.
    pub fn buffer(&self, index: usize) -> &Buffer {
        &self.buffers[index]
    }

    /// Group `index` as a tensor of a plan.
    pub fn tensor(&self, plan: &mut PlanBuilder, index: usize) -> Tensor {
        plan.import(&self.buffers[index])
    }

    /// All groups with their buffers, in the order of the forward pass.
    pub fn iter(&self) -> impl Iterator<Item = (&Group, &Buffer)> {
        self.groups.list.iter().zip(&self.buffers)
    }

    /// Bytes of all buffers.
    pub fn bytes(&self) -> u64 {
        self.buffers.iter().map(|b| b.words as u64 * 4).sum()
    }

    /// Fills all buffers with zeros.
    pub fn clear(&self, gpu: &Gpu) {
        gpu.clear(&self.buffers);
    }

    /// Makes these weights those of `other`, a model of the same config, on the GPU.
    ///
    /// # Errors
    /// Weights of another size.
    pub fn copy_from(&self, gpu: &Gpu, other: &Weights) -> Result<(), ModelError> {
        let pairs: Vec<_> = other.buffers.iter().zip(&self.buffers).collect();
        Ok(gpu.copy(&pairs)?)
    }

    /// Where the tensor named `hf_name` lies: its buffer, first element and number of elements.
    pub fn locate(&self, hf_name: &str) -> Option<(&Buffer, usize, usize)> {
        self.iter().find_map(|(group, buffer)| {
            let part = group.parts.iter().find(|p| p.hf_name == hf_name)?;
            Some((buffer, part.row_offset * group.cols, part.rows * group.cols))
        })
    }

    /// Reads the tensor named `hf_name` back in pieces, in order.
    pub async fn download(
        &self,
        gpu: &Gpu,
        hf_name: &str,
        mut take: impl FnMut(&[f32]) -> Result<(), ModelError>,
    ) -> Result<(), ModelError> {
        let (buffer, start, len) = self.locate(hf_name).ok_or_else(|| ModelError::UnknownTensor(hf_name.to_string()))?;
        for at in (0..len).step_by(PIECE) {
            take(&gpu.read::<f32>(buffer, start + at, PIECE.min(len - at)).await?)?;
        }
        Ok(())
    }

    /// The whole tensor named `hf_name`.
    pub async fn tensor_values(&self, gpu: &Gpu, hf_name: &str) -> Result<Vec<f32>, ModelError> {
        let mut all = Vec::new();
        self.download(gpu, hf_name, |piece| {
            all.extend_from_slice(piece);
            Ok(())
        })
        .await?;
        Ok(all)
    }
}
