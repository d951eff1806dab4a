//! The supported families: one table of their names, of what holds where `config.json` says nothing, and of what their decoders
//! compute. `docs/families.md` says how to add one.

use serde_json::{Map, Value};

use super::keys::Keys;
use crate::model::error::ModelError;
use crate::ops::swiglu::Activation;

/// The supported families. They share one decoder; their differences are the fields of [`Description`] and the layers of a
/// [`super::Config`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Llama 1, 2, 3, and other models with the architecture `LlamaForCausalLM`.
    Llama,
    /// Llama with a sliding window.
    Mistral,
    /// Llama with biases on q, k, v.
    Qwen2,
    /// Llama with an RMS norm on each head of q and k.
    Qwen3,
    /// Llama with layers that do not rotate q and k.
    SmolLm3,
    /// The text part of Gemma 3.
    Gemma3,
}

/// A row of the table. Defaults are those of transformers 5.23 (`configuration_<family>.py`).
pub(super) struct Description {
    family: Family,
    /// `model_type` in `config.json`.
    model_type: &'static str,
    /// The entry of `architectures`.
    architecture: &'static str,
    pub defaults: Defaults,
    /// q, k and v have biases.
    pub qkv_bias: bool,
    /// Each head of q and k is normed before it is rotated.
    pub qk_norm: bool,
    /// Added to the weights of all norms.
    pub norm_offset: f64,
    /// The outputs of attention and MLP are normed before the residual stream adds them.
    pub output_norms: bool,
    pub activation: Activation,
    /// Embedded tokens are multiplied by √hidden_size.
    pub scales_embedding: bool,
    pub layers: LayerRule,
}

/// What holds where `config.json` has no such key.
pub(super) struct Defaults {
    pub vocab_size: Option<usize>,
    pub positions: usize,
    pub heads: Option<usize>,
    /// `None`: as many as query heads. An explicit null means that in every family.
    pub kv_heads: Option<usize>,
    /// `None`: hidden_size / heads.
    pub head_dim: Option<usize>,
    pub rope_theta: f64,
    pub tied: bool,
    pub bos: &'static [u32],
    pub eos: &'static [u32],
    pub pad: &'static [u32],
}

/// How the layers of a model differ from each other.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum LayerRule {
    /// All are alike, with full attention.
    Full,
    /// All are alike, with the window `sliding_window`.
    Windowed,
    /// All are alike; `use_sliding_window` could give some a window, which is not built.
    FullUnlessAsked,
    /// Some do not rotate (`no_rope_layers`, `no_rope_layer_interval`).
    SomeWithoutRope,
    /// Local ones with a window and a rope base of their own, and global ones (`layer_types`).
    LocalAndGlobal,
}

const LLAMA: Description = Description {
    family: Family::Llama,
    model_type: "llama",
    architecture: "LlamaForCausalLM",
    defaults: Defaults {
        vocab_size: None,
        positions: 2048,
        heads: None,
        kv_heads: None,
        head_dim: None,
        rope_theta: 10_000.0,
        tied: false,
        bos: &[1],
        eos: &[2],
        pad: &[],
    },
    qkv_bias: false,
    qk_norm: false,
    norm_offset: 0.0,
    output_norms: false,
    activation: Activation::Silu,
    scales_embedding: false,
    layers: LayerRule::Full,
};

const TABLE: [Description; 6] = [
    LLAMA,
    Description {
        family: Family::Mistral,
        model_type: "mistral",
        architecture: "MistralForCausalLM",
        defaults: Defaults { positions: 4096 * 32, kv_heads: Some(8), ..LLAMA.defaults },
        layers: LayerRule::Windowed,
        ..LLAMA
    },
    Description {
        family: Family::Qwen2,
        model_type: "qwen2",
        architecture: "Qwen2ForCausalLM",
        defaults: Defaults { positions: 32_768, kv_heads: Some(32), bos: &[], eos: &[], ..LLAMA.defaults },
        qkv_bias: true,
        layers: LayerRule::FullUnlessAsked,
        ..LLAMA
    },
    Description {
        family: Family::Qwen3,
        model_type: "qwen3",
        architecture: "Qwen3ForCausalLM",
        defaults: Defaults { positions: 32_768, kv_heads: Some(32), head_dim: Some(128), bos: &[], eos: &[], ..LLAMA.defaults },
        qk_norm: true,
        layers: LayerRule::FullUnlessAsked,
        ..LLAMA
    },
    Description {
        family: Family::SmolLm3,
        model_type: "smollm3",
        architecture: "SmolLM3ForCausalLM",
        defaults: Defaults {
            positions: 32_768,
            kv_heads: Some(4),
            rope_theta: 2_000_000.0,
            tied: true,
            bos: &[128_000],
            eos: &[128_001],
            pad: &[128_004],
            ..LLAMA.defaults
        },
        layers: LayerRule::SomeWithoutRope,
        ..LLAMA
    },
    Description {
        family: Family::Gemma3,
        model_type: "gemma3_text",
        architecture: "Gemma3ForCausalLM",
        defaults: Defaults {
            vocab_size: Some(262_208),
            positions: 131_072,
            heads: Some(8),
            kv_heads: Some(4),
            head_dim: Some(256),
            rope_theta: 1_000_000.0,
            tied: true,
            bos: &[2],
            eos: &[1],
            pad: &[0],
        },
        qkv_bias: false,
        qk_norm: true,
        norm_offset: 1.0,
        output_norms: true,
        activation: Activation::Gelu,
        scales_embedding: true,
        layers: LayerRule::LocalAndGlobal,
    },
];

/// Families that are known and not built, by the beginning of `model_type` or, in a GGUF file, of the architecture, and what
/// they need. The first that fits counts.
const MISSING: [(&str, &str); 13] = [
    ("gemma3n", "per-layer embeddings, AltUp and LAuReL"),
    ("gemma3", "images; its text part is read where config.json has a `text_config`"),
    ("gemma4", "per-layer embeddings, and keys and values that layers share"),
    ("gemma2", "soft-capping of attention scores and logits"),
    ("gemma", "norms with offset but without output norms"),
    ("qwen3_next", "layers of gated delta nets, gated attention and experts"),
    ("qwen3next", "layers of gated delta nets, gated attention and experts"),
    ("qwen3_5", "layers of gated delta nets (linear attention) and gated attention"),
    ("qwen35", "layers of gated delta nets (linear attention) and gated attention"),
    ("qwen3_moe", "experts"),
    ("qwen3moe", "experts"),
    ("mixtral", "experts"),
    ("phi3", "fused projections of q, k, v, and of gate and up"),
];

/// Of the config of a model with images whose text part is built (`Gemma3ForConditionalGeneration`), the config of that part:
/// `text_config`, with the special tokens and the dtype of the whole where it names none.
pub(super) fn text_part(map: &Map<String, Value>) -> Option<Map<String, Value>> {
    let text_config = map.get("text_config")?.as_object()?;
    let row = TABLE.iter().find(|row| row.family == Family::Gemma3)?;
    if map.get("model_type").and_then(Value::as_str) != Some("gemma3") {
        return None;
    }
    let mut part = text_config.clone();
    part.insert("model_type".into(), row.model_type.into());
    part.insert("architectures".into(), vec![row.architecture].into());
    for key in ["bos_token_id", "eos_token_id", "pad_token_id", "dtype", "torch_dtype", "tie_word_embeddings"] {
        if let (None, Some(value)) = (part.get(key), map.get(key)) {
            part.insert(key.into(), value.clone());
        }
    }
    Some(part)
}

/// An unsupported family for a message: its name, and what it needs if that is known.
pub fn name_what_is_missing(name: &str) -> String {
    match MISSING.iter().find(|(start, _)| name.starts_with(start)) {
        Some((_, needs)) => format!("\"{name}\" (it needs {needs})"),
        None => format!("\"{name}\""),
    }
}

impl Family {
    /// Its row of the table.
    pub(super) fn description(self) -> &'static Description {
        TABLE.iter().find(|row| row.family == self).unwrap_or(&TABLE[0])
    }

    /// `model_type` in `config.json`.
    pub fn model_type(self) -> &'static str {
        self.description().model_type
    }

    /// The entry of `architectures`.
    pub fn architecture(self) -> &'static str {
        self.description().architecture
    }

    /// Reads `model_type` and `architectures`. One of the two is enough; if both are there, they must agree.
    pub(super) fn read(keys: &Keys) -> Result<Self, ModelError> {
        let supported = || format!("{} (as ...ForCausalLM)", TABLE.map(|row| row.model_type).join(", "));
        let unsupported = |key: &str, found: String| ModelError::Unsupported { key: key.into(), found, supported: supported() };
        let find = |is: &dyn Fn(&Description) -> bool| TABLE.iter().find(|row| is(row)).map(|row| row.family);
        let by_type = match keys.text("model_type")? {
            None => None,
            Some(name) => {
                let family = find(&|row| row.model_type == name);
                Some(family.ok_or_else(|| unsupported("model_type", name_what_is_missing(name)))?)
            }
        };
        let architectures = keys.texts("architectures")?.unwrap_or_default();
        let by_architecture = match architectures.first() {
            None => None,
            Some(name) => {
                let family = find(&|row| row.architecture == *name);
                Some(family.ok_or_else(|| unsupported("architectures", format!("\"{name}\"")))?)
            }
        };
        match (by_type, by_architecture) {
            (Some(a), Some(b)) if a != b => Err(ModelError::Inconsistent(format!(
                "`model_type` is \"{}\", but `architectures` is \"{}\"; they must name the same family",
                a.model_type(),
                b.architecture()
            ))),
            (Some(family), _) | (None, Some(family)) => Ok(family),
            (None, None) => Err(keys.missing("model_type", &supported())),
        }
    }
}
