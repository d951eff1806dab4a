//! Settings that change the mathematics and are not implemented. They are refused by name, never ignored: a judge that silently
//! computes something else is worse than one that does not load.

use serde_json::Value;

use super::family::Family;
use super::keys::{Keys, describe};
use crate::model::error::ModelError;
use crate::ops::swiglu::Activation;

/// A key, its neutral values (those that change nothing), and the supported values for messages. `null` is always neutral.
struct Rule {
    key: &'static str,
    neutral: fn(&Value) -> bool,
    supported: &'static str,
}

const RULES: &[Rule] = &[
    Rule { key: "attention_bias", neutral: is_false, supported: "false (q, k, v biases only in the Qwen2 family)" },
    Rule { key: "mlp_bias", neutral: is_false, supported: "false" },
    Rule { key: "partial_rotary_factor", neutral: is_one, supported: "1.0" },
    Rule { key: "pretraining_tp", neutral: is_one, supported: "1" },
    Rule { key: "quantization_config", neutral: never, supported: "unquantised weights in f32, f16 or bf16" },
    Rule { key: "compression_config", neutral: never, supported: "unquantised weights in f32, f16 or bf16" },
    Rule { key: "attn_logit_softcapping", neutral: never, supported: "null" },
    Rule { key: "final_logit_softcapping", neutral: never, supported: "null" },
    Rule { key: "num_experts", neutral: is_zero, supported: "dense models (no mixture of experts)" },
    Rule { key: "num_local_experts", neutral: is_zero, supported: "dense models (no mixture of experts)" },
    Rule { key: "n_routed_experts", neutral: is_zero, supported: "dense models (no mixture of experts)" },
    Rule { key: "num_experts_per_tok", neutral: is_zero, supported: "dense models (no mixture of experts)" },
    Rule { key: "moe_intermediate_size", neutral: is_zero, supported: "dense models (no mixture of experts)" },
    Rule { key: "use_mrope", neutral: is_false, supported: "false" },
    Rule { key: "use_bidirectional_attention", neutral: is_false, supported: "false (causal attention)" },
    Rule { key: "is_causal", neutral: is_true, supported: "true" },
    Rule { key: "is_encoder_decoder", neutral: is_false, supported: "false" },
    Rule { key: "add_cross_attention", neutral: is_false, supported: "false" },
    Rule { key: "pruned_heads", neutral: is_empty, supported: "no pruned heads" },
];

/// Keys that transformers does not read in a family: Qwen2 always has biases on q, k and v, and the published SmolLM3 has a
/// `pretraining_tp` of 2.
const NOT_READ: [(Family, &str); 2] = [(Family::Qwen2, "attention_bias"), (Family::SmolLm3, "pretraining_tp")];

fn never(_: &Value) -> bool {
    false
}
fn is_false(v: &Value) -> bool {
    v.as_bool() == Some(false)
}
fn is_true(v: &Value) -> bool {
    v.as_bool() == Some(true)
}
fn is_zero(v: &Value) -> bool {
    v.as_f64() == Some(0.0)
}
fn is_one(v: &Value) -> bool {
    v.as_f64() == Some(1.0)
}
fn is_empty(v: &Value) -> bool {
    v.as_object().is_some_and(|o| o.is_empty()) || v.as_array().is_some_and(|a| a.is_empty())
}

/// Refuses the first setting that is not implemented.
///
/// `attention_dropout` is accepted with any value. Attention dropout is never applied, not even in training.
pub fn refuse_unsupported(keys: &Keys, family: Family) -> Result<(), ModelError> {
    for rule in RULES {
        if NOT_READ.contains(&(family, rule.key)) {
            continue;
        }
        if let Some(value) = keys.get(rule.key).filter(|v| !(rule.neutral)(v)) {
            return Err(unsupported(&keys.name(rule.key), value, rule.supported));
        }
    }
    refuse_activation(keys, family)?;
    refuse_own_code(keys)
}

/// Refuses another activation than the family's. transformers has two names for silu, and Gemma a key of its own.
fn refuse_activation(keys: &Keys, family: Family) -> Result<(), ModelError> {
    let (names, key) = match family.description().activation {
        Activation::Silu => (&["silu", "swish"][..], "hidden_act"),
        Activation::Gelu => (&["gelu_pytorch_tanh"][..], "hidden_activation"),
    };
    match keys.get(key).filter(|v| v.as_str().is_none_or(|name| !names.contains(&name))) {
        Some(value) => Err(unsupported(&keys.name(key), value, names[0])),
        None => Ok(()),
    }
}

/// Refuses windows in families whose layers could have one.
pub fn refuse_windows(keys: &Keys) -> Result<(), ModelError> {
    match keys.get("use_sliding_window") {
        Some(value) if !is_false(value) => Err(unsupported("use_sliding_window", value, "full attention in every layer (false)")),
        _ => Ok(()),
    }
}

/// Refuses windows in the layers from `max_window_layers` on, if there are such layers.
pub fn refuse_some_windows(keys: &Keys, layers: usize) -> Result<(), ModelError> {
    let used = keys.boolean("use_sliding_window")?.unwrap_or(false);
    let window = if keys.has("sliding_window") { keys.size("sliding_window")? } else { Some(4096) };
    let first_windowed = match keys.get("max_window_layers") {
        None => 28,
        Some(value) => value.as_u64().ok_or_else(|| keys.bad("max_window_layers", "an integer of at least 0", value))?,
    };
    let all_full = keys.get("layer_types").is_some() || first_windowed >= layers as u64;
    if used && window.is_some() && !all_full {
        return Err(ModelError::Unsupported {
            key: "use_sliding_window".into(),
            found: format!("true with max_window_layers {first_windowed} of {layers} layers"),
            supported: "full attention in every layer (false)".into(),
        });
    }
    Ok(())
}

/// Refuses `auto_map` for the model: it replaces the model's code with a file of the directory.
fn refuse_own_code(keys: &Keys) -> Result<(), ModelError> {
    let Some(map) = keys.object("auto_map", "auto_map.")? else { return Ok(()) };
    match map.get("AutoModelForCausalLM") {
        Some(code) => Err(unsupported(&map.name("AutoModelForCausalLM"), code, "models without code of their own")),
        None => Ok(()),
    }
}

pub fn unsupported(key: &str, found: &Value, supported: &str) -> ModelError {
    ModelError::Unsupported { key: key.into(), found: describe(found), supported: supported.into() }
}
