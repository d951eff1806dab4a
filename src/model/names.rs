//! The tensors of a model: with their Hugging Face names in files, and fused into groups on the GPU.
//!
//! ```text
//! files                                          groups
//! model.layers.0.self_attn.q_proj.weight [Q, H]  ┐
//! model.layers.0.self_attn.k_proj.weight [K, H]  ├ layers.0.qkv [Q + 2K, H]: one matmul reads x once
//! model.layers.0.self_attn.v_proj.weight [K, H]  ┘
//! ```
//!
//! All matrices are `[out, in]`, row-major. Stacking by rows is therefore concatenation.

use super::config::Config;
use super::error::ModelError;

/// Name and shape of a tensor in files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    pub name: String,
    /// `[out, in]`, or `[n]` for norms and biases.
    pub shape: Vec<usize>,
}

impl TensorSpec {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The kind of a group. Optimiser and quantisation treat the kinds differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupKind {
    Embedding,
    Matrix,
    Norm,
    Bias,
}

/// Tensors of one kind, stacked by rows: `[rows, cols]`. Products read a group as one matrix.
///
/// A norm is `[1, H]`, the pair of q and k norms `[2, head_dim]`, a bias `[n, 1]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    pub name: String,
    pub kind: GroupKind,
    pub rows: usize,
    pub cols: usize,
    pub parts: Vec<Part>,
}

/// One tensor within a group: rows `row_offset .. row_offset + rows`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    pub hf_name: String,
    pub row_offset: usize,
    pub rows: usize,
}

impl Group {
    pub(super) fn new(name: String, kind: GroupKind, cols: usize, parts: Vec<(String, usize)>) -> Self {
        let mut rows = 0;
        let parts = parts
            .into_iter()
            .map(|(hf_name, part_rows)| {
                rows += part_rows;
                Part { hf_name, row_offset: rows - part_rows, rows: part_rows }
            })
            .collect();
        Group { name, kind, rows, cols, parts }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.rows * self.cols
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The shape of `part` in a file.
    pub fn shape_of(&self, part: &Part) -> Vec<usize> {
        match self.kind {
            GroupKind::Embedding | GroupKind::Matrix => vec![part.rows, self.cols],
            GroupKind::Norm => vec![self.cols],
            GroupKind::Bias => vec![part.rows],
        }
    }
}

/// The indices of one layer's groups in [`Groups::list`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerGroups {
    pub input_norm: usize,
    pub qkv: usize,
    pub qkv_bias: Option<usize>,
    pub qk_norm: Option<usize>,
    pub o: usize,
    /// Of what attention adds to the residual stream.
    pub o_norm: Option<usize>,
    /// Before the MLP.
    pub post_norm: usize,
    pub gate_up: usize,
    pub down: usize,
    /// Of what the MLP adds to the residual stream.
    pub down_norm: Option<usize>,
}

/// Every group of a model in the order of the forward pass, and their indices by role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Groups {
    pub list: Vec<Group>,
    pub embed: usize,
    pub layers: Vec<LayerGroups>,
    pub final_norm: usize,
    /// `None`: the head is the embedding.
    pub head: Option<usize>,
}

impl Groups {
    /// The groups of the model that `config` describes.
    pub fn of(config: &Config) -> Self {
        let mut list = Vec::new();
        let mut add = |group: Group| {
            list.push(group);
            list.len() - 1
        };
        let (vocab, hidden) = (config.vocab_size, config.hidden_size);
        let single = |name: &str, kind, rows, hf_name: &str| Group::new(name.into(), kind, hidden, vec![(hf_name.into(), rows)]);
        let embed = add(single("embed", GroupKind::Embedding, vocab, EMBED));
        let layers = (0..config.num_hidden_layers).map(|layer| add_layer(config, layer, &mut add)).collect();
        let final_norm = add(single("final_norm", GroupKind::Norm, 1, "model.norm.weight"));
        let head = (!config.tie_word_embeddings).then(|| add(single("head", GroupKind::Matrix, vocab, LM_HEAD)));
        Groups { list, embed, layers, final_norm, head }
    }

    /// The group that maps the last hidden state to logits: the head, or the embedding where they are tied.
    pub fn output(&self) -> usize {
        self.head.unwrap_or(self.embed)
    }
}

/// Name of the token embedding.
pub const EMBED: &str = "model.embed_tokens.weight";
/// Name of the output head; absent from tied models.
pub const LM_HEAD: &str = "lm_head.weight";

/// The norm before the MLP; in models that norm what attention and MLP add to the residual stream, that of attention's output.
const POST_ATTENTION_NORM: &str = "post_attention_layernorm.weight";
/// Of such models: the norm before the MLP, and that of its output.
const PRE_MLP_NORM: &str = "pre_feedforward_layernorm.weight";
const POST_MLP_NORM: &str = "post_feedforward_layernorm.weight";

fn add_layer(config: &Config, layer: usize, add: &mut impl FnMut(Group) -> usize) -> LayerGroups {
    let (hidden, inner) = (config.hidden_size, config.intermediate_size);
    let (q, kv) = (config.q_rows(), config.kv_rows());
    let mut group = |name: &str, kind, cols, parts: &[(&str, usize)]| {
        let parts = parts.iter().map(|(hf, rows)| (format!("model.layers.{layer}.{hf}"), *rows)).collect();
        add(Group::new(format!("layers.{layer}.{name}"), kind, cols, parts))
    };
    let input_norm = group("input_norm", GroupKind::Norm, hidden, &[("input_layernorm.weight", 1)]);
    let qkv_parts = [("self_attn.q_proj.weight", q), ("self_attn.k_proj.weight", kv), ("self_attn.v_proj.weight", kv)];
    let qkv = group("qkv", GroupKind::Matrix, hidden, &qkv_parts);
    let bias_parts = [("self_attn.q_proj.bias", q), ("self_attn.k_proj.bias", kv), ("self_attn.v_proj.bias", kv)];
    let qkv_bias = config.qkv_bias.then(|| group("qkv_bias", GroupKind::Bias, 1, &bias_parts));
    let norm_parts = [("self_attn.q_norm.weight", 1), ("self_attn.k_norm.weight", 1)];
    let qk_norm = config.qk_norm.then(|| group("qk_norm", GroupKind::Norm, config.head_dim, &norm_parts));
    let o = group("o", GroupKind::Matrix, q, &[("self_attn.o_proj.weight", hidden)]);
    let outputs = config.output_norms;
    let o_norm = outputs.then(|| group("o_norm", GroupKind::Norm, hidden, &[(POST_ATTENTION_NORM, 1)]));
    let post_norm_name = if outputs { PRE_MLP_NORM } else { POST_ATTENTION_NORM };
    let post_norm = group("post_norm", GroupKind::Norm, hidden, &[(post_norm_name, 1)]);
    let gate_up = group("gate_up", GroupKind::Matrix, hidden, &[("mlp.gate_proj.weight", inner), ("mlp.up_proj.weight", inner)]);
    let down = group("down", GroupKind::Matrix, inner, &[("mlp.down_proj.weight", hidden)]);
    let down_norm = outputs.then(|| group("down_norm", GroupKind::Norm, hidden, &[(POST_MLP_NORM, 1)]));
    LayerGroups { input_norm, qkv, qkv_bias, qk_norm, o, o_norm, post_norm, gate_up, down, down_norm }
}

/// Checks that files with `stored` tensors may hold all layers, before any of their names is made: a small file that speaks of
/// thousands of layers should not take the memory of their names.
///
/// # Errors
/// More layers than tensors.
pub fn check_layers(config: &Config, stored: usize) -> Result<(), ModelError> {
    let layers = config.num_hidden_layers;
    if layers <= stored {
        return Ok(());
    }
    Err(ModelError::Inconsistent(format!("the model is said to have {layers} layers, but only {stored} tensors are there")))
}

/// Every tensor in the files of this model, in the order in which they are written.
pub fn tensors(config: &Config) -> Vec<TensorSpec> {
    specs(&Groups::of(config).list)
}

/// Every tensor of `groups`, in their order.
pub fn specs(groups: &[Group]) -> Vec<TensorSpec> {
    let of_group = |group: &Group| {
        let spec = |part: &Part| TensorSpec { name: part.hf_name.clone(), shape: group.shape_of(part) };
        group.parts.iter().map(spec).collect::<Vec<_>>()
    };
    groups.iter().flat_map(of_group).collect()
}
