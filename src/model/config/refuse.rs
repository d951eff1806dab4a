//! Settings that change the mathematics and are not implemented. They are refused by name, never ignored: a judge that silently
//! computes something else is worse than one that does not load.

use serde_json::Value;

use super::Family;
use super::keys::{Keys, describe};
use crate::model::error::ModelError;

/// A key, its neutral values (those that change nothing), and the supported values for messages. `null` is always neutral.
struct Rule {
    key: &'static str,
    neutral: fn(&Value) -> bool,
    supported: &'static str,
}

const RULES: &[Rule] = &[
    Rule { key: "hidden_act", neutral: is_silu, supported: "silu" },
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
fn is_silu(v: &Value) -> bool {
    matches!(v.as_str(), Some("silu" | "swish")) // transformers has two names for this function
}
fn is_empty(v: &Value) -> bool {
    v.as_object().is_some_and(|o| o.is_empty()) || v.as_array().is_some_and(|a| a.is_empty())
}

/// Refuses the first setting that is not implemented.
///
/// `attention_dropout` is accepted with any value. Attention dropout is never applied, not even in training.
pub fn refuse_unsupported(keys: &Keys, family: Family) -> Result<(), ModelError> {
    for rule in RULES {
        // transformers' Qwen2 always has biases on q, k and v and does not read `attention_bias`.
        if family == Family::Qwen2 && rule.key == "attention_bias" {
            continue;
        }
        if let Some(value) = keys.get(rule.key).filter(|v| !(rule.neutral)(v)) {
            return Err(unsupported(&keys.name(rule.key), value, rule.supported));
        }
    }
    refuse_own_code(keys)
}

/// Refuses `auto_map` for the model: it replaces the model's code with a file of the directory.
fn refuse_own_code(keys: &Keys) -> Result<(), ModelError> {
    let Some(map) = keys.object("auto_map", "auto_map.")? else { return Ok(()) };
    match map.get("AutoModelForCausalLM") {
        Some(code) => Err(unsupported(&map.name("AutoModelForCausalLM"), code, "models without code of their own")),
        None => Ok(()),
    }
}

/// Refuses layers without full attention, and a list of the wrong length.
pub fn refuse_layer_types(keys: &Keys, layers: usize) -> Result<(), ModelError> {
    let Some(types) = keys.texts("layer_types")? else { return Ok(()) };
    if let Some(other) = types.iter().find(|t| **t != "full_attention") {
        return Err(ModelError::Unsupported {
            key: "layer_types".into(),
            found: format!("\"{other}\" for a layer"),
            supported: "full_attention in every layer".into(),
        });
    }
    if types.len() != layers {
        return Err(ModelError::Inconsistent(format!(
            "`layer_types` lists {} layers, `num_hidden_layers` is {layers}; they must agree",
            types.len()
        )));
    }
    Ok(())
}

pub fn unsupported(key: &str, found: &Value, supported: &str) -> ModelError {
    ModelError::Unsupported { key: key.into(), found: describe(found), supported: supported.into() }
}
