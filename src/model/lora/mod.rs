//! LoRA: a product of two low-rank matrices is trained and added to a frozen matrix W (Hu et al. 2021, arXiv:2106.09685).
//!
//! ```text
//! y = x Wᵀ + s · (x Aᵀ) Bᵀ        W [out, in] frozen,  A [r, in],  B [out, r],  s = alpha / r  (rsLoRA: alpha / √r)
//!
//! layers.0.qkv                    one group of the frozen model (q, k and v stacked)
//!   A of q, k, v stacked [3r, in]     one product computes u = x Aᵀ for all three
//!   B of q, B of k, B of v            each maps its columns of u to its columns of y
//! ```
//!
//! A is initialised randomly and B with zeros, so that a new adapter changes nothing. [`peft`] reads and writes the files,
//! [`selection`] decides which modules they adapt, [`merged`] is the sum as plain weights.

mod merged;
pub mod peft;
mod selection;

pub use merged::Merged;
pub use peft::AdapterFiles;

use super::config::Config;
use super::error::ModelError;
use super::names::{Group, GroupKind, Groups, Part};
use super::tensors::TensorSet;
use crate::gpu::{Gpu, MemoryKind};
use crate::random::Stream;

/// PEFT's word for every projection of every layer.
pub const ALL_LINEAR: &str = "all-linear";

/// The settings of an adapter, with PEFT's names.
#[derive(Clone, Debug, PartialEq)]
pub struct LoraSettings {
    /// Rank of each update.
    pub r: usize,
    pub alpha: f64,
    /// Share of the inputs of A that is dropped in training.
    pub dropout: f64,
    /// s = alpha / √r instead of alpha / r (Kalajdzievski 2023, arXiv:2312.03732).
    pub rslora: bool,
    /// Names of projections, such as `q_proj` or a longer suffix of `model.layers.0.self_attn.q_proj`; or [`ALL_LINEAR`].
    pub targets: Vec<String>,
}

/// One adapted projection.
#[derive(Clone, Debug, PartialEq)]
pub struct Module {
    /// The name in the model without `.weight`: `model.layers.0.self_attn.q_proj`.
    pub name: String,
    pub r: usize,
    pub alpha: f64,
}

/// s of a module.
pub fn scale(alpha: f64, r: usize, rslora: bool) -> f64 {
    alpha / if rslora { (r as f64).sqrt() } else { r as f64 }
}

/// The name of the projection that `part` of `group` is. `None` for embeddings, norms, biases and the head, which cannot be
/// adapted.
fn module_name<'a>(group: &Group, part: &'a Part) -> Option<&'a str> {
    let name = part.hf_name.strip_suffix(".weight")?;
    (group.kind == GroupKind::Matrix && name.starts_with("model.layers.")).then_some(name)
}

/// Whether `module` is `name`, or ends in a dot and `name`.
fn ends_in(name: &str, module: &str) -> bool {
    module.strip_suffix(name).is_some_and(|head| head.is_empty() || head.ends_with('.'))
}

/// Whether PEFT's `target` selects the projection `module`.
fn selects(target: &str, module: &str) -> bool {
    target == ALL_LINEAR || ends_in(target, module)
}

impl LoraSettings {
    /// The adapted projections of `config`, in the model's order.
    ///
    /// # Errors
    /// A target that selects no projection; the head or the embedding, which cannot be adapted.
    pub fn modules(&self, config: &Config) -> Result<Vec<Module>, ModelError> {
        let groups = Groups::of(config);
        let projections: Vec<&str> =
            groups.list.iter().flat_map(|group| group.parts.iter().filter_map(|part| module_name(group, part))).collect();
        for target in &self.targets {
            if !projections.iter().any(|module| selects(target, module)) {
                return Err(ModelError::BadValue {
                    key: "lora_target_modules".into(),
                    expected: format!(
                        "{ALL_LINEAR}, or projections of the layers such as q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, \
                         down_proj (not the embedding, not the head)"
                    ),
                    found: format!("\"{target}\""),
                });
            }
        }
        let adapted = projections.into_iter().filter(|module| self.targets.iter().any(|target| selects(target, module)));
        Ok(adapted.map(|name| Module { name: name.into(), r: self.r, alpha: self.alpha }).collect())
    }
}

/// The name of a module's A or B in PEFT's files.
fn tensor_name(module: &str, matrix: char) -> String {
    format!("base_model.model.{module}.lora_{matrix}.weight")
}

/// The matrices of one adapted projection, and its columns of u and y.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdaptedPart {
    /// Index of B's group in [`AdapterLayout::groups`].
    pub b: usize,
    pub r: usize,
    /// First column in u of the outputs of its A.
    pub first_rank: usize,
    /// First column in y of its outputs, and their number.
    pub first_row: usize,
    pub rows: usize,
    pub scale: f64,
}

/// The adapted projections of one group of the frozen model.
#[derive(Clone, Debug, PartialEq)]
pub struct AdaptedGroup {
    /// Index of the stacked A's group in [`AdapterLayout::groups`].
    pub a: usize,
    /// Rows of A: the sum of all ranks.
    pub rank: usize,
    pub parts: Vec<AdaptedPart>,
}

/// The tensors of an adapter, and their relation to the groups of the frozen model.
#[derive(Clone, Debug, PartialEq)]
pub struct AdapterLayout {
    pub groups: Vec<Group>,
    /// One entry per group of the frozen model.
    adapted: Vec<Option<AdaptedGroup>>,
}

impl AdapterLayout {
    /// The layout of an adapter of `modules` on `config`.
    pub fn new(config: &Config, modules: &[Module], rslora: bool) -> Self {
        let mut layout = AdapterLayout { groups: Vec::new(), adapted: Vec::new() };
        for group in &Groups::of(config).list {
            let adapted = layout.add(group, modules, rslora);
            layout.adapted.push(adapted);
        }
        layout
    }

    /// Adds the tensors for a group of the frozen model, if any of its projections is adapted.
    fn add(&mut self, group: &Group, modules: &[Module], rslora: bool) -> Option<AdaptedGroup> {
        let find = |part| modules.iter().find(|m| module_name(group, part) == Some(&m.name));
        let adapted: Vec<(&Part, &Module)> = group.parts.iter().filter_map(|part| Some((part, find(part)?))).collect();
        if adapted.is_empty() {
            return None;
        }
        let stacked = adapted.iter().map(|(_, m)| (tensor_name(&m.name, 'A'), m.r)).collect();
        let a = self.groups.len();
        self.groups.push(Group::new(format!("{}.lora_A", group.name), GroupKind::Matrix, group.cols, stacked));
        let mut rank = 0;
        let mut parts = Vec::new();
        for (part, module) in adapted {
            let name = tensor_name(&module.name, 'B');
            let short = module.name.rsplit('.').next().unwrap_or(&module.name);
            parts.push(AdaptedPart {
                b: self.groups.len(),
                r: module.r,
                first_rank: rank,
                first_row: part.row_offset,
                rows: part.rows,
                scale: scale(module.alpha, module.r, rslora),
            });
            let layer = group.name.rsplit_once('.').map_or("", |(layer, _)| layer);
            self.groups.push(Group::new(format!("{layer}.{short}.lora_B"), GroupKind::Matrix, module.r, vec![(name, part.rows)]));
            rank += module.r;
        }
        Some(AdaptedGroup { a, rank, parts })
    }

    /// The adapted projections of group `index` of the frozen model, if there are any.
    pub fn adapted(&self, index: usize) -> Option<&AdaptedGroup> {
        self.adapted.get(index)?.as_ref()
    }
}

/// An adapter on the GPU. Clones share it.
#[derive(Clone)]
pub struct Adapter {
    pub settings: LoraSettings,
    pub modules: Vec<Module>,
    pub layout: AdapterLayout,
    pub set: TensorSet,
}

impl Adapter {
    /// Allocates an adapter as zeros.
    fn allocate(gpu: &Gpu, config: &Config, settings: LoraSettings, modules: Vec<Module>) -> Result<Self, ModelError> {
        let layout = AdapterLayout::new(config, &modules, settings.rslora);
        let set = TensorSet::zeros(&gpu.for_memory(MemoryKind::Weights), &layout.groups, "adapter")?;
        Ok(Adapter { settings, modules, layout, set })
    }

    /// A new adapter: A uniform within ±1/√in (PEFT's and PyTorch's default), B zero.
    ///
    /// # Errors
    /// A target that selects no projection of the model; too little GPU memory.
    pub fn fresh(gpu: &Gpu, config: &Config, settings: &LoraSettings, seed: u64) -> Result<Self, ModelError> {
        let modules = settings.modules(config)?;
        let adapter = Self::allocate(gpu, config, settings.clone(), modules)?;
        if gpu.is_dry() {
            return Ok(adapter);
        }
        let specs = adapter.set.specs();
        for (n, module) in adapter.modules.iter().enumerate() {
            let name = tensor_name(&module.name, 'A');
            let columns = specs.iter().find(|spec| spec.name == name).map_or(1, |spec| spec.shape[1]);
            let bound = 1.0 / (columns as f64).sqrt();
            let mut stream = Stream::new(seed, ADAPTER_STREAM + n as u64);
            let values: Vec<f32> = (0..module.r * columns).map(|_| ((2.0 * stream.uniform() - 1.0) * bound) as f32).collect();
            adapter.set.write(gpu, &name, 0, &values)?;
        }
        Ok(adapter)
    }

    /// The adapter in `files`.
    ///
    /// # Errors
    /// Tensors that do not fit the model; too little GPU memory.
    pub fn upload(gpu: &Gpu, config: &Config, files: &AdapterFiles) -> Result<Self, ModelError> {
        files.check(config)?;
        let adapter = Self::allocate(gpu, config, files.settings.clone(), files.modules.clone())?;
        for spec in adapter.set.specs() {
            adapter.set.write(gpu, &spec.name, 0, files.tensor(&spec.name)?)?;
        }
        Ok(adapter)
    }

    /// A copy with buffers of its own.
    ///
    /// # Errors
    /// Too little GPU memory.
    pub fn copy(&self, gpu: &Gpu) -> Result<Self, ModelError> {
        let set = TensorSet::zeros(&gpu.for_memory(MemoryKind::Weights), &self.layout.groups, "start adapter")?;
        set.copy_from(gpu, &self.set)?;
        Ok(Adapter { set, ..self.clone() })
    }

    /// Reads the adapter's values back, for saving.
    ///
    /// # Errors
    /// Those of the GPU.
    pub async fn download(&self, gpu: &Gpu) -> Result<AdapterFiles, ModelError> {
        let mut tensors = Vec::new();
        for spec in self.set.specs() {
            let values = self.set.tensor_values(gpu, &spec.name).await?;
            tensors.push((spec, values));
        }
        Ok(AdapterFiles::new(self.settings.clone(), self.modules.clone(), tensors))
    }
}

/// The purpose of the first random stream of new adapters, apart from all other purposes.
const ADAPTER_STREAM: u64 = 0x0010_4A00_0000;

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        Config::from_json(
            r#"{"model_type": "qwen3", "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 2,
                "num_key_value_heads": 1, "head_dim": 8, "vocab_size": 50, "max_position_embeddings": 64, "rms_norm_eps": 1e-6,
                "tie_word_embeddings": true, "rope_theta": 10000.0}"#,
        )
        .unwrap()
    }

    fn settings(targets: &[&str]) -> LoraSettings {
        let targets = targets.iter().map(|t| t.to_string()).collect();
        LoraSettings { r: 4, alpha: 8.0, dropout: 0.0, rslora: false, targets }
    }

    #[test]
    fn targets_are_suffixes_of_names() {
        let modules = |targets: &[&str]| settings(targets).modules(&config()).map(|m| m.len()).map_err(|e| e.to_string());
        assert_eq!(modules(&["all-linear"]), Ok(14));
        assert_eq!(modules(&["q_proj", "v_proj"]), Ok(4));
        assert_eq!(modules(&["model.layers.1.mlp.down_proj"]), Ok(1));
        for wrong in ["lm_head", "embed_tokens", "proj", "w1"] {
            assert!(modules(&["q_proj", wrong]).unwrap_err().contains(wrong));
        }
    }

    /// In a fused group every A writes its own columns of u and every B its own columns of y.
    #[test]
    fn parts_of_a_fused_group_do_not_overlap() {
        let config = config();
        let layout = AdapterLayout::new(&config, &settings(&["q_proj", "v_proj"]).modules(&config).unwrap(), true);
        let groups = Groups::of(&config);
        let qkv = layout.adapted(groups.layers[1].qkv).unwrap();
        assert_eq!(qkv.rank, 8);
        let columns: Vec<_> = qkv.parts.iter().map(|p| (p.first_rank, p.first_row, p.rows)).collect();
        assert_eq!(columns, [(0, 0, 16), (4, 24, 8)]);
        assert_eq!(qkv.parts[0].scale, 4.0);
        assert_eq!(layout.groups[qkv.a].parts[1].hf_name, "base_model.model.model.layers.1.self_attn.v_proj.lora_A.weight");
        assert_eq!(layout.groups[qkv.parts[1].b].name, "layers.1.v_proj.lora_B");
        assert!(layout.adapted(groups.layers[1].o).is_none() && layout.adapted(groups.embed).is_none());
    }
}
