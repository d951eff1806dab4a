//! Initial weights from a config and a seed.
//!
//! Matrices are normal with standard deviation 1/sqrt(fan-in), so that each keeps the scale of its input. The two that write to
//! the residual stream (`o_proj`, `down_proj`) are further divided by sqrt(2 layers), because the stream sums 2 layers terms.
//! The embedding has standard deviation 1/sqrt(hidden) (hidden 64 gives 1/8), so that the first logits of a tied head are of
//! order 1. Norm gains are 1 (with their offset), biases 0.
//!
//! Every tensor has a random stream of its own, keyed by seed and name, and element i depends only on i. So the weights do not
//! depend on the order and the size of reads.

use std::collections::HashMap;

use super::config::Config;
use super::error::ModelError;
use super::names::{EMBED, TensorSpec, tensors};
use super::source::TensorSource;
use crate::ops::weight_dtype::WeightDtype;
use crate::random::threefry2x32;

/// A freshly initialised model.
pub struct Init {
    config: Config,
    seed: u64,
    tensors: HashMap<String, (usize, Fill)>,
    /// The dtype that it claims for its matrices.
    dtype: WeightDtype,
}

/// The initial values of a tensor.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fill {
    Constant(f32),
    /// Normal with mean 0 and this standard deviation.
    Normal(f64),
}

impl Init {
    /// The initial weights of `config` for `seed`. Values are computed when they are read.
    pub fn new(config: Config, seed: u64) -> Self {
        let layers = config.num_hidden_layers;
        let tensors = tensors(&config)
            .into_iter()
            .map(|spec| (spec.name.clone(), (spec.len(), fill(&spec, layers, config.norm_offset))))
            .collect();
        Init { config, seed, tensors, dtype: WeightDtype::F32 }
    }

    /// Stands for a model whose matrices are stored in `dtype`: what a memory plan has in place of its files.
    pub fn in_place_of(self, dtype: WeightDtype) -> Self {
        Init { dtype, ..self }
    }
}

fn fill(spec: &TensorSpec, layers: usize, norm_offset: f64) -> Fill {
    let [_, fan_in] = spec.shape[..] else {
        return Fill::Constant(if spec.name.ends_with(".bias") { 0.0 } else { (1.0 - norm_offset) as f32 });
    };
    let sd = 1.0 / (fan_in as f64).sqrt();
    let to_residual = spec.name.ends_with("o_proj.weight") || spec.name.ends_with("down_proj.weight");
    Fill::Normal(if to_residual && spec.name != EMBED { sd / (2.0 * layers as f64).sqrt() } else { sd })
}

impl TensorSource for Init {
    fn config(&self) -> &Config {
        &self.config
    }

    fn stored_dtype(&self, _tensor: &str) -> WeightDtype {
        self.dtype
    }

    fn read(&self, tensor: &str, start: usize, out: &mut [f32]) -> Result<(), ModelError> {
        let (len, fill) = *self.tensors.get(tensor).ok_or_else(|| ModelError::UnknownTensor(tensor.into()))?;
        let end = start.saturating_add(out.len());
        if end > len {
            return Err(ModelError::OutOfBounds { tensor: tensor.into(), len, start, end });
        }
        match fill {
            Fill::Constant(value) => out.fill(value),
            Fill::Normal(sd) => {
                let key = key(self.seed, tensor);
                for (i, value) in out.iter_mut().enumerate() {
                    *value = (sd * normal(key, (start + i) as u64)) as f32;
                }
            }
        }
        Ok(())
    }
}

/// The key of a tensor's stream: the seed, and a 64-bit FNV-1a hash of the name.
fn key(seed: u64, name: &str) -> [u32; 2] {
    let hash = name.bytes().fold(0xCBF2_9CE4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01B3));
    threefry2x32([seed as u32, (seed >> 32) as u32], [hash as u32, (hash >> 32) as u32])
}

/// Element `index` of a stream of standard normals (Box-Muller on two 32-bit uniforms; absolute value at most 6.7).
fn normal(key: [u32; 2], index: u64) -> f64 {
    let [a, b] = threefry2x32(key, [index as u32, (index >> 32) as u32]);
    let unit = |bits: u32| (f64::from(bits) + 0.5) / 4_294_967_296.0;
    (-2.0 * unit(a).ln()).sqrt() * (std::f64::consts::TAU * unit(b)).cos()
}
