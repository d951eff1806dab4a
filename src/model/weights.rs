//! A model's weights on the GPU: a buffer a fused group in f32, or two where a matrix is quantised. Gradients and moments have
//! the same form and are always f32.

use super::config::Config;
use super::error::ModelError;
use super::names::{Group, Groups, Part};
use super::quantised::{Plane, Quantisation};
use super::source::{TensorSource, stream_group};
use crate::gpu::{Buffer, Gpu, PlanBuilder, Tensor};
use crate::ops::matrix::{FullSlab, Matrix, Packed};

/// Elements moved between host and GPU at a time: 4 MiB.
const PIECE: usize = 1 << 20;

/// The buffers of each group of a model.
#[derive(Clone)]
pub struct Weights {
    pub config: Config,
    pub groups: Groups,
    quantisation: Option<Quantisation>,
    held: Vec<Held>,
}

/// How a group is held.
#[derive(Clone)]
enum Held {
    Full(Buffer),
    Quantised { form: Quantisation, packed: Buffer, scales: Buffer },
}

impl Held {
    fn buffers(&self) -> Vec<&Buffer> {
        match self {
            Held::Full(buffer) => vec![buffer],
            Held::Quantised { packed, scales, .. } => vec![packed, scales],
        }
    }
}

/// Words of the buffers that weights of `config` take on the GPU, with what each is for.
pub fn buffer_words(config: &Config, quantisation: Option<Quantisation>) -> Vec<(String, usize)> {
    let of_group = |group: &Group| match quantisation.and_then(|q| q.of_group(group)) {
        None => vec![(group.name.clone(), group.len())],
        Some(form) => Plane::ALL.map(|plane| (group.name.clone(), form.entries(plane, group.len()))).to_vec(),
    };
    Groups::of(config).list.iter().flat_map(of_group).collect()
}

impl Weights {
    /// Zeros in the shape of `config`, in f32; `role` ("weights", "gradient", …) names the buffers.
    pub fn zeros(gpu: &Gpu, config: &Config, role: &str) -> Result<Self, ModelError> {
        Self::room(gpu, config, None, role)
    }

    /// Zeros in the shape of `config`, with matrices quantised as said.
    ///
    /// # Errors
    /// Too little GPU memory, or a buffer over the adapter's limits.
    pub fn room(gpu: &Gpu, config: &Config, quantisation: Option<Quantisation>, role: &str) -> Result<Self, ModelError> {
        let groups = Groups::of(config);
        let make = |group: &Group| -> Result<Held, ModelError> {
            let buffer = |what: &str, words: usize| gpu.buffer(&format!("{}{what} ({role})", group.name), words);
            Ok(match quantisation.and_then(|q| q.of_group(group)) {
                None => Held::Full(buffer("", group.len())?),
                Some(form) => Held::Quantised {
                    form,
                    packed: buffer("", form.entries(Plane::Packed, group.len()))?,
                    scales: buffer(".scales", form.entries(Plane::Scales, group.len()))?,
                },
            })
        };
        let held = groups.list.iter().map(make).collect::<Result<_, _>>()?;
        Ok(Weights { config: config.clone(), groups, quantisation, held })
    }

    /// Uploads `source` piece by piece, in f32 however it is stored.
    ///
    /// # Errors
    /// What the source reports (a missing tensor, a value that is not finite), or too little GPU memory.
    pub fn upload(gpu: &Gpu, source: &dyn TensorSource) -> Result<Self, ModelError> {
        Self::upload_with(gpu, source, None)
    }

    /// Uploads `source` piece by piece, its quantised matrices as they are: for judging, not for training.
    ///
    /// # Errors
    /// As [`Weights::upload`].
    pub fn upload_as_stored(gpu: &Gpu, source: &dyn TensorSource) -> Result<Self, ModelError> {
        Self::upload_with(gpu, source, source.quantisation())
    }

    fn upload_with(gpu: &Gpu, source: &dyn TensorSource, quantisation: Option<Quantisation>) -> Result<Self, ModelError> {
        let weights = Self::room(gpu, source.config(), quantisation, "weights")?;
        for (group, held) in weights.groups.list.iter().zip(&weights.held) {
            match held {
                Held::Full(buffer) => stream_group(source, group, PIECE, |start, values: &[f32]| {
                    gpu.write(buffer, start, values).map_err(ModelError::from)
                })?,
                Held::Quantised { form, packed, scales } => {
                    for (plane, buffer) in [(Plane::Packed, packed), (Plane::Scales, scales)] {
                        upload_plane(gpu, source, group, (*form, plane), buffer)?;
                    }
                }
            }
        }
        Ok(weights)
    }

    /// How matrices are quantised, if they are.
    pub fn quantisation(&self) -> Option<Quantisation> {
        self.quantisation
    }

    /// Whether these weights are in f32, as `what` needs them.
    ///
    /// # Errors
    /// Quantised weights.
    pub fn need_full(&self, what: &'static str) -> Result<(), ModelError> {
        match self.quantisation {
            None => Ok(()),
            Some(form) => Err(ModelError::Quantised { what, found: form.name() }),
        }
    }

    /// Group `index`, norms or biases, or of weights that are not quantised, as a tensor of a plan.
    ///
    /// Of a quantised matrix it would be the codes alone: whoever asks for matrices by this has asked for
    /// [`Weights::need_full`] before.
    pub fn tensor(&self, plan: &mut PlanBuilder, index: usize) -> Tensor {
        match &self.held[index] {
            Held::Full(buffer) | Held::Quantised { packed: buffer, .. } => plan.import(buffer),
        }
    }

    /// Group `index`, a matrix, as products read it.
    pub fn matrix(&self, plan: &mut PlanBuilder, index: usize) -> Matrix {
        let rows = self.groups.list[index].rows as u32;
        match &self.held[index] {
            Held::Full(buffer) => Matrix::full(plan.import(buffer), rows),
            Held::Quantised { form, packed, scales } => {
                let (words, scales) = (plan.import(packed), Some(plan.import(scales)));
                Matrix::packed(Packed { packing: form.packing(), words, scales }, rows)
            }
        }
    }

    /// Group `index`, a matrix of a gradient, as products write it.
    pub fn slabs(&self, plan: &mut PlanBuilder, index: usize) -> Vec<FullSlab> {
        vec![FullSlab { rows: self.groups.list[index].rows as u32, tensor: self.tensor(plan, index) }]
    }

    /// Every buffer, in the order of the forward pass: one a group, two where it is quantised.
    pub fn buffers(&self) -> Vec<&Buffer> {
        self.held.iter().flat_map(Held::buffers).collect()
    }

    /// Bytes of all buffers.
    pub fn bytes(&self) -> u64 {
        self.buffers().iter().map(|b| b.words as u64 * 4).sum()
    }

    /// Fills all buffers with zeros.
    pub fn clear(&self, gpu: &Gpu) {
        gpu.clear(&self.buffers().into_iter().cloned().collect::<Vec<_>>());
    }

    /// Makes these weights those of `other`, a model of the same config held in the same way, on the GPU.
    ///
    /// # Errors
    /// Weights of another size.
    pub fn copy_from(&self, gpu: &Gpu, other: &Weights) -> Result<(), ModelError> {
        let pairs: Vec<_> = other.buffers().into_iter().zip(self.buffers()).collect();
        Ok(gpu.copy(&pairs)?)
    }

    /// Group, part and buffers of the tensor named `hf_name`.
    fn find(&self, hf_name: &str) -> Option<(&Group, &Part, &Held)> {
        self.groups.list.iter().zip(&self.held).find_map(|(group, held)| {
            let part = group.parts.iter().find(|p| p.hf_name == hf_name)?;
            Some((group, part, held))
        })
    }

    /// Where the tensor named `hf_name` lies: its buffer, first element and number of elements. `None` also where it is
    /// quantised.
    pub fn locate(&self, hf_name: &str) -> Option<(&Buffer, usize, usize)> {
        match self.find(hf_name)? {
            (group, part, Held::Full(buffer)) => Some((buffer, part.row_offset * group.cols, part.rows * group.cols)),
            (_, _, Held::Quantised { .. }) => None,
        }
    }

    /// Where a plane of the quantised tensor named `hf_name` lies: its buffer, first entry and number of entries.
    pub fn locate_plane(&self, hf_name: &str, plane: Plane) -> Option<(&Buffer, usize, usize)> {
        match self.find(hf_name)? {
            (_, _, Held::Full(_)) => None,
            (group, part, Held::Quantised { form, packed, scales }) => {
                let width = form.entries(plane, group.cols);
                let buffer = match plane {
                    Plane::Packed => packed,
                    Plane::Scales => scales,
                };
                Some((buffer, part.row_offset * width, part.rows * width))
            }
        }
    }

    /// Reads the tensor named `hf_name`, which is not quantised, back in pieces, in order.
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

/// Uploads one plane of a quantised group, part by part.
fn upload_plane(
    gpu: &Gpu,
    source: &dyn TensorSource,
    group: &Group,
    (form, plane): (Quantisation, Plane),
    buffer: &Buffer,
) -> Result<(), ModelError> {
    let width = form.entries(plane, group.cols);
    let mut entries = Vec::new();
    for part in &group.parts {
        let (first, len) = (part.row_offset * width, part.rows * width);
        for at in (0..len).step_by(PIECE) {
            entries.resize(PIECE.min(len - at), 0);
            source.read_plane(&part.hf_name, plane, at, &mut entries)?;
            gpu.write(buffer, first + at, &entries)?;
        }
    }
    Ok(())
}
