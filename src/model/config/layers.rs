//! What sets the layers of a model apart: which of its ropes a layer has, and which window.

use serde_json::Value;

use super::family::{Family, LayerRule};
use super::keys::Keys;
use super::refuse;
use super::rope::Rope;
use crate::model::error::ModelError;

/// Gemma 3, where the file says nothing: the window of local layers, and how often a layer is global.
const GEMMA_WINDOW: usize = 4096;
const GEMMA_PATTERN: usize = 6;
/// SmolLM3, where the file says nothing: every fourth layer does not rotate.
const NO_ROPE_INTERVAL: usize = 4;

const LOCAL: &str = "sliding_attention";
const GLOBAL: &str = "full_attention";

/// A layer, as far as layers of one model differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Index of its rope in [`super::Config::ropes`]; `None`: q and k are not rotated.
    pub rope: Option<usize>,
    /// `Some(w)`: a token attends only to the w latest positions, its own included.
    pub window: Option<usize>,
}

/// The ropes of a model, and its layers.
pub(super) fn read(
    keys: &Keys,
    family: Family,
    layers: usize,
    max_positions: usize,
) -> Result<(Vec<Rope>, Vec<Layer>), ModelError> {
    let row = family.description();
    if row.layers == LayerRule::LocalAndGlobal {
        let window = if keys.has("sliding_window") { keys.size("sliding_window")? } else { Some(GEMMA_WINDOW) };
        let local = Layer { rope: Some(0), window };
        let global = Layer { rope: Some(1), window: None };
        let kinds = read_kinds(keys, layers)?.into_iter().map(|is_global| if is_global { global } else { local });
        return Ok((Rope::read_local_and_global(keys, max_positions, row.defaults.rope_theta)?.to_vec(), kinds.collect()));
    }
    refuse_layer_types(keys, layers)?;
    let rope = Rope::read(keys, max_positions, row.defaults.rope_theta)?;
    let same = |window| vec![Layer { rope: Some(0), window }; layers];
    let list = match row.layers {
        LayerRule::Windowed => same(read_window(keys)?),
        LayerRule::FullUnlessAsked => {
            refuse::refuse_some_windows(keys, layers)?;
            same(None)
        }
        LayerRule::SomeWithoutRope => {
            refuse::refuse_windows(keys)?;
            read_rotated(keys, layers)?.into_iter().map(|rotated| Layer { rope: rotated.then_some(0), window: None }).collect()
        }
        LayerRule::Full | LayerRule::LocalAndGlobal => same(None),
    };
    Ok((vec![rope], list))
}

/// The window of a model whose layers all have it.
fn read_window(keys: &Keys) -> Result<Option<usize>, ModelError> {
    let window = if keys.has("sliding_window") { keys.size("sliding_window")? } else { Some(4096) };
    if let (Some(window), Some(_)) = (window, keys.get("layer_types")) {
        return Err(ModelError::Inconsistent(format!(
            "`sliding_window` is {window}, but `layer_types` says full_attention; set `sliding_window` to null or remove `layer_types`"
        )));
    }
    Ok(window)
}

/// Of each layer, whether it is global: `layer_types`, or every n-th layer by `sliding_window_pattern`.
fn read_kinds(keys: &Keys, layers: usize) -> Result<Vec<bool>, ModelError> {
    let Some(types) = keys.texts("layer_types")? else {
        let pattern = keys.size("sliding_window_pattern")?.unwrap_or(GEMMA_PATTERN);
        return Ok((1..=layers).map(|number| number.is_multiple_of(pattern)).collect());
    };
    if let Some(other) = types.iter().find(|t| ![LOCAL, GLOBAL].contains(t)) {
        return Err(unsupported_type(other, "sliding_attention and full_attention"));
    }
    check_length("layer_types", types.len(), layers)?;
    Ok(types.into_iter().map(|t| t == GLOBAL).collect())
}

/// Of each layer, whether it rotates q and k: `no_rope_layers` (1 for a layer that does), or all but every n-th layer by
/// `no_rope_layer_interval`.
fn read_rotated(keys: &Keys, layers: usize) -> Result<Vec<bool>, ModelError> {
    const KEY: &str = "no_rope_layers";
    let Some(value) = keys.get(KEY) else {
        let interval = keys.size("no_rope_layer_interval")?.unwrap_or(NO_ROPE_INTERVAL);
        return Ok((1..=layers).map(|number| !number.is_multiple_of(interval)).collect());
    };
    let flag = |v: &Value| v.as_u64().filter(|n| *n <= 1).map(|n| n == 1);
    let flags = value.as_array().and_then(|list| list.iter().map(flag).collect::<Option<Vec<bool>>>());
    let mut flags = flags.ok_or_else(|| keys.bad(KEY, "a list of 0 and 1", value))?;
    flags.truncate(layers); // transformers allows a longer list
    check_length(KEY, flags.len(), layers)?;
    Ok(flags)
}

/// Refuses layers without full attention, and a list of the wrong length.
fn refuse_layer_types(keys: &Keys, layers: usize) -> Result<(), ModelError> {
    let Some(types) = keys.texts("layer_types")? else { return Ok(()) };
    match types.iter().find(|t| **t != GLOBAL) {
        Some(other) => Err(unsupported_type(other, "full_attention in every layer")),
        None => check_length("layer_types", types.len(), layers),
    }
}

fn unsupported_type(found: &str, supported: &str) -> ModelError {
    ModelError::Unsupported { key: "layer_types".into(), found: format!("\"{found}\" for a layer"), supported: supported.into() }
}

fn check_length(key: &str, found: usize, layers: usize) -> Result<(), ModelError> {
    match found == layers {
        true => Ok(()),
        false => Err(ModelError::Inconsistent(format!(
            "`{key}` lists {found} layers, `num_hidden_layers` is {layers}; they must agree"
        ))),
    }
}
