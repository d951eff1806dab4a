//! Rotary position embedding: its settings in both forms of `config.json`, and the frequencies that they define.

use super::keys::Keys;
use super::refuse::unsupported;
use crate::model::error::ModelError;

/// `rope_theta` of all families where the file has none (transformers' `default_theta`).
const DEFAULT_THETA: f64 = 10_000.0;

/// The rotary embedding of a model: base period and scaling.
#[derive(Clone, Debug, PartialEq)]
pub struct Rope {
    pub theta: f64,
    pub scaling: RopeScaling,
}

/// How the frequencies are scaled for longer contexts.
#[derive(Clone, Debug, PartialEq)]
pub enum RopeScaling {
    Default,
    /// Llama 3.1 and later.
    Llama3 {
        factor: f64,
        low_freq_factor: f64,
        high_freq_factor: f64,
        original_max_position_embeddings: usize,
    },
}

impl Rope {
    /// Reads `rope_parameters` (transformers 5) or `rope_theta` + `rope_scaling` (older).
    ///
    /// As in transformers 5, a theta inside either object takes precedence over one outside.
    pub fn read(keys: &Keys, max_positions: usize) -> Result<Self, ModelError> {
        let outer_theta = keys.positive("rope_theta")?;
        let old = keys.object("rope_scaling", "rope_scaling.")?.filter(|old| !old.is_empty());
        let new = keys.object("rope_parameters", "rope_parameters.")?;
        if old.is_some() && new.is_some() {
            return Err(ModelError::Inconsistent("both `rope_scaling` and `rope_parameters` are set; keep one of them".into()));
        }
        let Some(inner) = old.or(new) else {
            return Ok(Rope { theta: outer_theta.unwrap_or(DEFAULT_THETA), scaling: RopeScaling::Default });
        };
        refuse_nested(&inner)?;
        if let Some(factor) = inner.get("partial_rotary_factor").filter(|f| f.as_f64() != Some(1.0)) {
            return Err(unsupported(&inner.name("partial_rotary_factor"), factor, "1.0"));
        }
        let theta = inner.positive("rope_theta")?.or(outer_theta).unwrap_or(DEFAULT_THETA);
        let key = if inner.get("rope_type").is_some() { "rope_type" } else { "type" };
        let scaling = match inner.text(key)?.unwrap_or("default") {
            "default" => RopeScaling::Default,
            "llama3" => read_llama3(keys, &inner, max_positions)?,
            "linear" | "dynamic" | "yarn" if scales_by_one(&inner) => RopeScaling::Default,
            _ => {
                let found = inner.get(key).cloned().unwrap_or_default();
                return Err(unsupported(&inner.name(key), &found, "default, llama3, and others with a `factor` of 1 alone"));
            }
        };
        Ok(Rope { theta, scaling })
    }

    /// Inverse frequencies in radians per position, `[head_dim / 2]`, in f64.
    ///
    /// Default: theta^(-2i / head_dim). Llama 3: frequencies with wavelengths above `original / low_freq_factor` are divided by
    /// `factor`, those with wavelengths below `original / high_freq_factor` stay, and those in between are interpolated
    /// (transformers, `_compute_llama3_parameters`).
    pub fn inv_freq(&self, head_dim: usize) -> Vec<f64> {
        let plain = (0..head_dim / 2).map(|i| self.theta.powf(-2.0 * i as f64 / head_dim as f64));
        match self.scaling {
            RopeScaling::Default => plain.collect(),
            RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position_embeddings } => {
                let original = original_max_position_embeddings as f64;
                plain
                    .map(|frequency| {
                        let turns = original * frequency / std::f64::consts::TAU; // turns within the original context
                        let unscaled = ((turns - low_freq_factor) / (high_freq_factor - low_freq_factor)).clamp(0.0, 1.0);
                        unscaled * frequency + (1.0 - unscaled) * frequency / factor
                    })
                    .collect()
            }
        }
    }
}

/// Refuses files with one set of parameters per kind of layer, as Gemma has them.
fn refuse_nested(inner: &Keys) -> Result<(), ModelError> {
    for key in ["full_attention", "sliding_attention"] {
        if let Some(value) = inner.get(key) {
            return Err(unsupported(&inner.name(key), value, "one set of rope parameters for all layers"));
        }
    }
    Ok(())
}

/// Whether the scaling is a factor of 1 and nothing else. Every kind of scaling then leaves the frequencies unchanged within
/// `max_position_embeddings`.
fn scales_by_one(inner: &Keys) -> bool {
    const NEUTRAL: [&str; 5] = ["type", "rope_type", "factor", "rope_theta", "partial_rotary_factor"];
    inner.get("factor").and_then(|factor| factor.as_f64()) == Some(1.0) && inner.names().all(|key| NEUTRAL.contains(&key))
}

fn read_llama3(keys: &Keys, inner: &Keys, max_positions: usize) -> Result<RopeScaling, ModelError> {
    let required = |key: &str| inner.positive(key)?.ok_or_else(|| inner.missing(key, "a number above 0"));
    let (low, high) = (required("low_freq_factor")?, required("high_freq_factor")?);
    if low >= high {
        return Err(ModelError::Inconsistent(format!(
            "`{}` is {low}, `{}` is {high}; the first must be the smaller one",
            inner.name("low_freq_factor"),
            inner.name("high_freq_factor")
        )));
    }
    const ORIGINAL: &str = "original_max_position_embeddings";
    let (inside, outside) = (inner.size(ORIGINAL)?, keys.size(ORIGINAL)?);
    if let (Some(inside), Some(outside)) = (inside, outside)
        && inside != outside
    {
        return Err(ModelError::Inconsistent(format!("`{}` is {inside}, but `{ORIGINAL}` is {outside}", inner.name(ORIGINAL))));
    }
    Ok(RopeScaling::Llama3 {
        factor: required("factor")?,
        low_freq_factor: low,
        high_freq_factor: high,
        original_max_position_embeddings: inside.or(outside).unwrap_or(max_positions),
    })
}
