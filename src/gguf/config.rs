//! The `config.json` of the model in a GGUF file, from its metadata.

use serde_json::{Map, Value as Json, json};

use super::families::{ARCHITECTURES, read_keys, shortest};
use super::header::{Header, Metadata};
use super::weights::ROPE_FACTORS;
use crate::model::config::{Config, Rope, RopeScaling, name_what_is_missing};
use crate::model::error::ModelError;

/// Llama 3.1 and later: what the factors follow from, but for the largest. (transformers, `_compute_llama3_parameters`)
const LOW_FREQ_FACTOR: f64 = 1.0;
const HIGH_FREQ_FACTOR: f64 = 4.0;
const ORIGINAL_POSITIONS: usize = 8192;

/// The config of the model, as a Hugging Face directory would have it. `rope_factors` are the values of `rope_freqs.weight`.
///
/// # Errors
/// An architecture that is not built, a missing or impossible size, rope scaling that is not built.
pub(super) fn config(header: &Header, rope_factors: Option<&[f32]>) -> Result<Config, ModelError> {
    let metadata = Metadata(&header.metadata);
    let architecture = metadata.required_text("general.architecture")?;
    let family = ARCHITECTURES.iter().find(|(name, _)| *name == architecture).map(|(_, family)| *family);
    let family = family.ok_or_else(|| ModelError::Unsupported {
        key: "general.architecture".into(),
        found: name_what_is_missing(architecture),
        supported: supported_architectures(),
    })?;
    let key = |name: &str| format!("{architecture}.{name}");
    let size = |name: &str| metadata.unsigned(&key(name));
    let required = |name: &str| {
        let missing = || ModelError::MissingKey { key: key(name), expected: "an integer of at least 1".into() };
        size(name)?.ok_or_else(missing)
    };
    let (hidden, heads) = (required("embedding_length")?, required("attention.head_count")?);
    let head_dim = match size("attention.key_length")? {
        Some(width) => width,
        None => hidden / heads.max(1),
    };
    refuse(metadata, architecture, head_dim)?;
    let vocab = header.tensors.get("token_embd.weight").and_then(|t| t.shape.first()).copied();
    let mut map = Map::new();
    let mut set = |name: &str, value: Json| drop(map.insert(name.into(), value));
    set("architectures", json!([family.architecture()]));
    set("model_type", json!(family.model_type()));
    set("vocab_size", json!(vocab.map_or_else(|| required("vocab_size"), |n| Ok(n as u64))?));
    set("hidden_size", json!(hidden));
    set("intermediate_size", json!(required("feed_forward_length")?));
    set("num_hidden_layers", json!(required("block_count")?));
    set("num_attention_heads", json!(heads));
    set("num_key_value_heads", json!(size("attention.head_count_kv")?.unwrap_or(heads)));
    set("head_dim", json!(head_dim));
    set("max_position_embeddings", json!(required("context_length")?));
    let epsilon = metadata.float(&key("attention.layer_norm_rms_epsilon"))?;
    set("rms_norm_eps", json!(epsilon.map_or(1e-6, shortest)));
    let theta = metadata.float(&key("rope.freq_base"))?.map_or(10_000.0, shortest);
    set("rope_theta", json!(theta));
    if let Some(factors) = rope_factors {
        set("rope_scaling", llama3_scaling(theta, head_dim as usize, factors)?);
    }
    set("tie_word_embeddings", json!(!header.tensors.contains_key("output.weight")));
    let token = |name: &str| metadata.unsigned(&format!("tokenizer.ggml.{name}_token_id"));
    for (name, id) in [("bos_token_id", token("bos")?), ("eos_token_id", token("eos")?), ("pad_token_id", token("padding")?)] {
        set(name, json!(id));
    }
    set("dtype", json!("float32"));
    let own = read_keys(family, metadata, &map)?;
    map.extend(own);
    let text = serde_json::to_string_pretty(&Json::Object(map)).map_err(|e| ModelError::Json(e.to_string()))?;
    Config::from_json(&text)
}

/// Refuses what would change the mathematics and is not built.
fn refuse(metadata: Metadata, architecture: &str, head_dim: u64) -> Result<(), ModelError> {
    let unsupported =
        |key: String, found: String, supported: &str| Err(ModelError::Unsupported { key, found, supported: supported.into() });
    let key = |name: &str| format!("{architecture}.{name}");
    if let Some(n) = metadata.unsigned(&key("expert_count"))?.filter(|n| *n > 0) {
        return unsupported(key("expert_count"), n.to_string(), "models without experts");
    }
    if let Some(n) = metadata.unsigned(&key("rope.dimension_count"))?.filter(|n| *n != head_dim) {
        return unsupported(key("rope.dimension_count"), n.to_string(), "rotation of whole heads");
    }
    if let Some(n) = metadata.unsigned(&key("attention.value_length"))?.filter(|n| *n != head_dim) {
        return unsupported(key("attention.value_length"), n.to_string(), "keys and values of one length");
    }
    for name in ["attn_logit_softcapping", "final_logit_softcapping"] {
        if let Some(x) = metadata.float(&key(name))?.filter(|x| *x > 0.0) {
            return unsupported(key(name), x.to_string(), "models without soft-capping");
        }
    }
    Ok(())
}

fn supported_architectures() -> String {
    let mut names = ARCHITECTURES.map(|(name, _)| name).to_vec();
    names.dedup();
    names.join(", ")
}

/// The parameters from which Llama 3.1's factors follow.
///
/// # Errors
/// Factors that do not follow from any.
fn llama3_scaling(theta: f64, head_dim: usize, factors: &[f32]) -> Result<Json, ModelError> {
    let largest = factors.iter().copied().fold(1.0, f32::max);
    let scaling = RopeScaling::Llama3 {
        factor: f64::from(largest),
        low_freq_factor: LOW_FREQ_FACTOR,
        high_freq_factor: HIGH_FREQ_FACTOR,
        original_max_position_embeddings: ORIGINAL_POSITIONS,
    };
    let plain = Rope { theta, scaling: RopeScaling::Default }.inv_freq(head_dim);
    let scaled = Rope { theta, scaling }.inv_freq(head_dim);
    let follows = factors.len() == plain.len()
        && factors.iter().zip(plain.iter().zip(&scaled)).all(|(factor, (plain, scaled))| {
            let expected = plain / scaled;
            (f64::from(*factor) - expected).abs() <= 1e-4 * expected
        });
    if !follows {
        return Err(ModelError::Unsupported {
            key: ROPE_FACTORS.into(),
            found: format!("{} factors up to {largest}", factors.len()),
            supported: "the factors of Llama 3.1 and later".into(),
        });
    }
    Ok(json!({
        "rope_type": "llama3",
        "factor": largest,
        "low_freq_factor": LOW_FREQ_FACTOR,
        "high_freq_factor": HIGH_FREQ_FACTOR,
        "original_max_position_embeddings": ORIGINAL_POSITIONS,
    }))
}
