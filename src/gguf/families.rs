//! What is particular to a family in a GGUF file: the name of its architecture, keys of its own, and what the file's tensors are
//! to those of Hugging Face. Names and defaults are llama.cpp's.

use serde_json::{Map, Value as Json, json};

use super::header::{Metadata, Value};
use crate::model::config::{Config, Family, RopeScaling};
use crate::model::error::ModelError;

/// The families by `general.architecture`. Files of Mistral's models say llama.
pub(super) const ARCHITECTURES: [(&str, Family); 6] = [
    ("llama", Family::Llama),
    ("llama", Family::Mistral),
    ("qwen2", Family::Qwen2),
    ("qwen3", Family::Qwen3),
    ("smollm3", Family::SmolLm3),
    ("gemma3", Family::Gemma3),
];

/// Gemma 3, where a file says nothing, as most do: the rope base of local layers, and how often a layer is global.
const LOCAL_BASE: f64 = 10_000.0;
const GLOBAL_EVERY: u64 = 6;
/// Layers of Gemma 3 27B, whose queries are scaled by hidden_size / heads. No file says it.
const LAYERS_OF_27B: u64 = 62;
/// Every fourth layer of SmolLM3 does not rotate. No file says it.
const NO_ROPE_EVERY: usize = 4;

const WINDOW: &str = "attention.sliding_window";
const PATTERN: &str = "attention.sliding_window_pattern";
const LOCAL_BASE_KEY: &str = "rope.freq_base_swa";
const SCALING_TYPE: &str = "rope.scaling.type";
const SCALING_FACTOR: &str = "rope.scaling.factor";

/// The architecture of a family.
pub(super) fn architecture(family: Family) -> &'static str {
    ARCHITECTURES.iter().find(|(_, one)| *one == family).map_or("llama", |(name, _)| name)
}

fn unsupported(key: String, found: String, supported: &str) -> ModelError {
    ModelError::Unsupported { key, found, supported: supported.into() }
}

/// The keys of `config.json` that are the family's own. Windows and scaled ropes of other families are refused.
pub(super) fn read_keys(family: Family, metadata: Metadata, sizes: &Map<String, Json>) -> Result<Map<String, Json>, ModelError> {
    let key = |name: &str| format!("{}.{name}", architecture(family));
    let mut map = Map::new();
    let mut set = |name: &str, value: Json| drop(map.insert(name.into(), value));
    let scaling = metadata.text(&key(SCALING_TYPE))?.filter(|kind| *kind != "none");
    if family != Family::Gemma3 {
        set("hidden_act", json!("silu"));
        if let Some(n) = metadata.unsigned(&key(WINDOW))?.filter(|n| *n > 0) {
            return Err(unsupported(key(WINDOW), n.to_string(), "models without a sliding window"));
        }
        if let Some(other) = scaling {
            let supported = "none, and Llama 3.1's rope_freqs.weight";
            return Err(unsupported(key(SCALING_TYPE), format!("\"{other}\""), supported));
        }
        return Ok(map);
    }
    let (layers, hidden, heads) =
        (number(sizes, "num_hidden_layers"), number(sizes, "hidden_size"), number(sizes, "num_attention_heads"));
    set("hidden_activation", json!("gelu_pytorch_tanh"));
    let scale = if layers == LAYERS_OF_27B { hidden / heads.max(1) } else { number(sizes, "head_dim") };
    set("query_pre_attn_scalar", json!(scale));
    let missing = || ModelError::MissingKey { key: key(WINDOW), expected: "an integer of at least 1".into() };
    set("sliding_window", json!(metadata.unsigned(&key(WINDOW))?.ok_or_else(missing)?));
    let kind = |is_local: bool| json!(if is_local { "sliding_attention" } else { "full_attention" });
    set(
        "layer_types",
        match metadata.flags(&key(PATTERN))? {
            Some(local) => local.into_iter().map(kind).collect(),
            None => {
                let every = metadata.unsigned(&key(PATTERN))?.unwrap_or(GLOBAL_EVERY).max(1);
                (1..=layers).map(|number| kind(!number.is_multiple_of(every))).collect()
            }
        },
    );
    set("rope_local_base_freq", json!(metadata.float(&key(LOCAL_BASE_KEY))?.map_or(LOCAL_BASE, shortest)));
    match scaling {
        None => {}
        Some("linear") => {
            let missing = || ModelError::MissingKey { key: key(SCALING_FACTOR), expected: "a number above 0".into() };
            let factor = shortest(metadata.float(&key(SCALING_FACTOR))?.ok_or_else(missing)?);
            set("rope_scaling", json!({"rope_type": "linear", "factor": factor}));
        }
        Some(other) => return Err(unsupported(key(SCALING_TYPE), format!("\"{other}\""), "none, linear")),
    }
    Ok(map)
}

fn number(map: &Map<String, Json>, key: &str) -> u64 {
    map.get(key).and_then(Json::as_u64).unwrap_or(0)
}

/// The shortest decimal number that is the same f32: files hold `1e-5` as an f32.
pub(super) fn shortest(x: f64) -> f64 {
    (x as f32).to_string().parse().unwrap_or(x)
}

/// The metadata that is the family's own, without the architecture in front of its keys.
///
/// # Errors
/// What the file cannot say.
pub(super) fn write_keys(config: &Config) -> Result<Vec<(&'static str, Value)>, ModelError> {
    match config.family {
        Family::Gemma3 => write_gemma(config),
        Family::SmolLm3 => {
            let as_known = |(number, rope): (usize, Option<usize>)| rope.is_some() != (number + 1).is_multiple_of(NO_ROPE_EVERY);
            match config.layers.iter().map(|layer| layer.rope).enumerate().all(as_known) {
                true => Ok(Vec::new()),
                false => Err(unsupported(
                    "no_rope_layers".into(),
                    "another pattern".into(),
                    "in a GGUF file: models whose every fourth layer does not rotate",
                )),
            }
        }
        _ => match config.layers.iter().find_map(|layer| layer.window).filter(|w| *w < config.max_position_embeddings) {
            Some(window) => Err(unsupported(
                "sliding_window".into(),
                window.to_string(),
                "in a GGUF file: models that see their whole context",
            )),
            None => Ok(Vec::new()),
        },
    }
}

fn write_gemma(config: &Config) -> Result<Vec<(&'static str, Value)>, ModelError> {
    let heads = config.num_attention_heads;
    let is_27b = config.num_hidden_layers as u64 == LAYERS_OF_27B;
    let known = if is_27b { config.hidden_size / heads } else { config.head_dim };
    if config.query_scale != known as f64 {
        let supported = format!("in a GGUF file: {known}, which is not written but known");
        return Err(unsupported("query_pre_attn_scalar".into(), config.query_scale.to_string(), &supported));
    }
    // The first global layer tells the pattern; without one, no layer may be global.
    let is_global = |layer: usize| config.layers[layer].rope == Some(1);
    let layers = config.num_hidden_layers;
    let every = (0..layers).find(|layer| is_global(*layer)).map_or(layers + 1, |first| first + 1);
    if (0..layers).any(|layer| is_global(layer) != (layer + 1).is_multiple_of(every)) {
        let supported = "in a GGUF file: every n-th layer with full_attention";
        return Err(unsupported("layer_types".into(), "another pattern".into(), supported));
    }
    let window = config.layers.iter().find_map(|layer| layer.window).unwrap_or(config.max_position_embeddings);
    let [local, global] = [&config.ropes[0], &config.ropes[1]];
    let mut keys = vec![(WINDOW, Value::Unsigned(window as u64)), (LOCAL_BASE_KEY, Value::Float(local.theta))];
    if every as u64 != GLOBAL_EVERY {
        keys.push((PATTERN, Value::Unsigned(every as u64)));
    }
    match global.scaling {
        RopeScaling::Linear { factor } => {
            keys.push((SCALING_TYPE, Value::Text("linear".into())));
            keys.push((SCALING_FACTOR, Value::Float(factor)));
        }
        RopeScaling::Default | RopeScaling::Llama3 { .. } => {}
    }
    match local.scaling {
        RopeScaling::Default => Ok(keys),
        _ => Err(unsupported("rope_parameters.sliding_attention".into(), "scaled".into(), "in a GGUF file: no scaling there")),
    }
}

/// The rows of a head, where a tensor's rows are permuted within each head: llama.cpp rotates neighbours, Hugging Face halves,
/// so the converter of Llama permutes q and k.
pub(super) fn row_heads(config: &Config, name: &str) -> Option<usize> {
    let permutes = matches!(config.family, Family::Llama | Family::Mistral | Family::SmolLm3);
    let is_rotated = name.contains("q_proj") || name.contains("k_proj");
    (permutes && is_rotated).then_some(config.head_dim)
}

/// What a file's tensor has more than Hugging Face's: norms are stored there as they multiply.
pub(super) fn shift(config: &Config, name: &str) -> f32 {
    if name.ends_with("norm.weight") { config.norm_offset as f32 } else { 0.0 }
}

/// The name in a GGUF file of the tensor that Hugging Face calls `name`.
pub(super) fn gguf_name(config: &Config, name: &str) -> String {
    const OUTER: [(&str, &str); 3] = [
        ("model.embed_tokens.weight", "token_embd.weight"),
        ("model.norm.weight", "output_norm.weight"),
        ("lm_head.weight", "output.weight"),
    ];
    const INNER: [(&str, &str); 12] = [
        ("input_layernorm", "attn_norm"),
        ("self_attn.q_proj", "attn_q"),
        ("self_attn.k_proj", "attn_k"),
        ("self_attn.v_proj", "attn_v"),
        ("self_attn.o_proj", "attn_output"),
        ("self_attn.q_norm", "attn_q_norm"),
        ("self_attn.k_norm", "attn_k_norm"),
        ("mlp.gate_proj", "ffn_gate"),
        ("mlp.up_proj", "ffn_up"),
        ("mlp.down_proj", "ffn_down"),
        ("pre_feedforward_layernorm", "ffn_norm"),
        ("post_feedforward_layernorm", "post_ffw_norm"),
    ];
    if let Some((_, own)) = OUTER.iter().find(|(hf, _)| *hf == name) {
        return (*own).into();
    }
    // Where outputs are normed, this is the norm of attention's output, elsewhere the one before the MLP.
    let after_attention = if config.output_norms { "post_attention_norm" } else { "ffn_norm" };
    let of_layer = || {
        let (layer, rest) = name.strip_prefix("model.layers.")?.split_once('.')?;
        let (module, kind) = rest.rsplit_once('.')?;
        let own = match module {
            "post_attention_layernorm" => after_attention,
            _ => INNER.iter().find(|(hf, _)| *hf == module)?.1,
        };
        Some(format!("blk.{layer}.{own}.{kind}"))
    };
    of_layer().unwrap_or_else(|| name.into())
}
