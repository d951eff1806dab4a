//! Rotary position embedding: its settings in both forms of `config.json`, and the frequencies that they define.

use super::keys::Keys;
use super::refuse::unsupported;
use crate::model::error::ModelError;

/// `rope_theta` of Gemma's local layers where the file has none.
const LOCAL_THETA: f64 = 10_000.0;
/// The kinds of layers that have a set of parameters each in Gemma.
const KINDS: [&str; 2] = ["sliding_attention", "full_attention"];

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
    /// All frequencies are divided by a factor (the global layers of larger Gemma 3).
    Linear {
        factor: f64,
    },
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
    pub fn read(keys: &Keys, max_positions: usize, default_theta: f64) -> Result<Self, ModelError> {
        let outer_theta = keys.positive("rope_theta")?;
        let (old, new) = read_both_forms(keys)?;
        let Some(inner) = old.or(new) else {
            return Ok(Rope { theta: outer_theta.unwrap_or(default_theta), scaling: RopeScaling::Default });
        };
        refuse_nested(&inner)?;
        let theta = inner.positive("rope_theta")?.or(outer_theta).unwrap_or(default_theta);
        Ok(Rope { theta, scaling: RopeScaling::read(keys, &inner, max_positions, false)? })
    }

    /// Reads the ropes of Gemma's local and global layers: one object for each in `rope_parameters`, or `rope_local_base_freq`
    /// beside `rope_theta` and `rope_scaling`, which are those of global layers.
    pub fn read_local_and_global(keys: &Keys, max_positions: usize, default_theta: f64) -> Result<[Self; 2], ModelError> {
        let (old, new) = read_both_forms(keys)?;
        let (local, global) = match new {
            None => (None, old),
            Some(new) => {
                if let Some(other) = new.names().find(|name| !KINDS.contains(name)) {
                    let found = new.get(other).cloned().unwrap_or_default();
                    return Err(unsupported(&new.name(other), &found, "parameters in sliding_attention and full_attention"));
                }
                let [local, global] = KINDS;
                (new.object(local, "rope_parameters.sliding_attention.")?, new.object(global, "rope_parameters.full_attention.")?)
            }
        };
        let one = |inner: Option<Keys>, outer: &str, default: f64| -> Result<Self, ModelError> {
            let outer = keys.positive(outer)?.unwrap_or(default);
            let Some(inner) = inner else { return Ok(Rope { theta: outer, scaling: RopeScaling::Default }) };
            let theta = inner.positive("rope_theta")?.unwrap_or(outer);
            Ok(Rope { theta, scaling: RopeScaling::read(keys, &inner, max_positions, true)? })
        };
        Ok([one(local, "rope_local_base_freq", LOCAL_THETA)?, one(global, "rope_theta", default_theta)?])
    }

    /// Inverse frequencies in radians per position, `[head_dim / 2]`, in f64.
    ///
    /// Default: theta^(-2i / head_dim). Linear: that, divided by `factor`. Llama 3: frequencies with wavelengths above
    /// `original / low_freq_factor` are divided by `factor`, those with wavelengths below `original / high_freq_factor` stay,
    /// and those in between are interpolated (transformers, `_compute_llama3_parameters`).
    pub fn inv_freq(&self, head_dim: usize) -> Vec<f64> {
        let plain = (0..head_dim / 2).map(|i| self.theta.powf(-2.0 * i as f64 / head_dim as f64));
        match self.scaling {
            RopeScaling::Default => plain.collect(),
            RopeScaling::Linear { factor } => plain.map(|frequency| frequency / factor).collect(),
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

impl RopeScaling {
    /// The scaling of one set of parameters; `linear` says whether a linear factor is built for it.
    fn read(keys: &Keys, inner: &Keys, max_positions: usize, linear: bool) -> Result<Self, ModelError> {
        if let Some(factor) = inner.get("partial_rotary_factor").filter(|f| f.as_f64() != Some(1.0)) {
            return Err(unsupported(&inner.name("partial_rotary_factor"), factor, "1.0"));
        }
        let key = if inner.get("rope_type").is_some() { "rope_type" } else { "type" };
        match inner.text(key)?.unwrap_or("default") {
            "default" => Ok(RopeScaling::Default),
            "llama3" if !linear => read_llama3(keys, inner, max_positions),
            "linear" | "dynamic" | "yarn" if scales_by_one(inner) => Ok(RopeScaling::Default),
            "linear" if linear => {
                let missing = || inner.missing("factor", "a number above 0");
                Ok(RopeScaling::Linear { factor: inner.positive("factor")?.ok_or_else(missing)? })
            }
            _ => {
                let found = inner.get(key).cloned().unwrap_or_default();
                let built = if linear { "default, linear" } else { "default, llama3" };
                Err(unsupported(&inner.name(key), &found, &format!("{built}, and others with a `factor` of 1 alone")))
            }
        }
    }
}

/// The older `rope_scaling` and the newer `rope_parameters`, of which a file has one at most.
fn read_both_forms<'a>(keys: &Keys<'a>) -> Result<(Option<Keys<'a>>, Option<Keys<'a>>), ModelError> {
    let old = keys.object("rope_scaling", "rope_scaling.")?.filter(|old| !old.is_empty());
    let new = keys.object("rope_parameters", "rope_parameters.")?;
    if old.is_some() && new.is_some() {
        return Err(ModelError::Inconsistent("both `rope_scaling` and `rope_parameters` are set; keep one of them".into()));
    }
    Ok((old, new))
}

/// Refuses files with one set of parameters per kind of layer, as Gemma has them.
fn refuse_nested(inner: &Keys) -> Result<(), ModelError> {
    for key in KINDS {
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
