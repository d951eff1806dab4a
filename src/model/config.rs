//! `config.json` of a Hugging Face model: the family of the decoder and its sizes.
//!
//! The old form (`rope_theta`, `rope_scaling`, `torch_dtype`) and the form of transformers 5 (`rope_parameters`, `dtype`) are
//! read. The file is written back as it was read: unknown keys are kept in their places. Of a model with images (Gemma 3), the
//! text part alone is read and written. A setting that changes the mathematics
//! and is not implemented is refused by name (see `refuse`).

mod family;
mod keys;
mod layers;
mod refuse;
mod rope;
#[cfg(test)]
mod tests;

pub use family::{Family, name_what_is_missing};
pub use layers::Layer;
pub use rope::{Rope, RopeScaling};

use serde_json::{Map, Value};

use super::error::ModelError;
use crate::ops::swiglu::Activation;
use crate::ops::weight_dtype::WeightDtype;
use keys::{Keys, describe};

/// Most parameters of a model: more than any model of these families has, and few enough that their bytes fit `usize` (4 GiB in
/// a browser). So no product of sizes overflows.
const MAX_PARAMETERS: u128 = if usize::BITS == 32 { 1 << 30 } else { 1 << 42 };
const MAX_LAYERS: usize = 4096;

/// A decoder-only model, as `config.json` describes it.
#[derive(Clone, Debug)]
pub struct Config {
    pub family: Family,
    /// Rows of the embedding, V.
    pub vocab_size: usize,
    /// Width of the residual stream, H.
    pub hidden_size: usize,
    /// Width of the MLP's gated branch, F.
    pub intermediate_size: usize,
    pub num_hidden_layers: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key and value heads; a divisor of the number of query heads.
    pub num_key_value_heads: usize,
    /// Width of one head, even. Not always `hidden_size / num_attention_heads`.
    pub head_dim: usize,
    pub rms_norm_eps: f64,
    /// The rotary embeddings that layers have.
    pub ropes: Vec<Rope>,
    /// One per layer.
    pub layers: Vec<Layer>,
    /// Longest context of the model, in tokens.
    pub max_position_embeddings: usize,
    /// The output head is the embedding, and there is no `lm_head.weight`.
    pub tie_word_embeddings: bool,
    /// RMS norm over each head of q and k (Qwen3, Gemma).
    pub qk_norm: bool,
    /// Biases on q, k and v (Qwen2).
    pub qkv_bias: bool,
    /// Added to the weights of all norms (1 in Gemma).
    pub norm_offset: f64,
    /// RMS norm over what attention and MLP add to the residual stream (Gemma).
    pub output_norms: bool,
    /// The activation of the MLP's gate.
    pub activation: Activation,
    /// Multiplies embedded tokens (√hidden_size in Gemma).
    pub embedding_scale: f64,
    /// Divides the products of queries and keys as its square root: `head_dim`, or Gemma's `query_pre_attn_scalar`.
    pub query_scale: f64,
    pub bos_token_id: Option<u32>,
    /// Every token that ends a text; may be empty.
    pub eos_token_ids: Vec<u32>,
    pub pad_token_id: Option<u32>,
    /// The dtype of the weights according to `config.json`. That of the files takes precedence.
    pub dtype: Option<WeightDtype>,
    file: ConfigFile,
}

/// The file as it was read.
#[derive(Clone, Debug)]
struct ConfigFile {
    text: String,
    map: Map<String, Value>,
}

impl Config {
    /// Reads the text of a `config.json`.
    ///
    /// # Errors
    /// Not JSON; a missing, mistyped or impossible value; a setting that is not implemented.
    pub fn from_json(text: &str) -> Result<Self, ModelError> {
        let value: Value = serde_json::from_str(text).map_err(|e| ModelError::Json(e.to_string()))?;
        let map = match value {
            Value::Object(map) => map,
            other => return Err(ModelError::Json(format!("expected an object, found {}", describe(&other)))),
        };
        if let Some(text_part) = family::text_part(&map) {
            return Self::from_json(&format!("{:#}\n", Value::Object(text_part)));
        }
        let keys = Keys::new(&map);
        let family = Family::read(&keys)?;
        refuse::refuse_unsupported(&keys, family)?;
        let mut config = Self::read_sizes(&keys, family)?;
        config.file = ConfigFile { text: text.to_string(), map };
        config.check_sizes()?;
        Ok(config)
    }

    /// Reads `config.json` in `dir`.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn open(dir: &std::path::Path) -> Result<Self, ModelError> {
        let path = dir.join("config.json");
        let text = std::fs::read_to_string(&path).map_err(|e| ModelError::io("read", &path, e))?;
        Self::from_json(&text).map_err(|e| e.in_file(path.display().to_string()))
    }

    fn read_sizes(keys: &Keys, family: Family) -> Result<Self, ModelError> {
        let hidden_size = keys.required_size("hidden_size")?;
        let row = family.description();
        let or_required = |key: &str, default: Option<usize>| match default {
            Some(default) => Ok(keys.size(key)?.unwrap_or(default)),
            None => keys.required_size(key),
        };
        let heads = or_required("num_attention_heads", row.defaults.heads)?;
        let num_hidden_layers = keys.required_size("num_hidden_layers")?;
        if num_hidden_layers > MAX_LAYERS {
            return Err(too_large("num_hidden_layers", MAX_LAYERS as u128, num_hidden_layers as u128));
        }
        let kv_default = if keys.has("num_key_value_heads") { None } else { row.defaults.kv_heads };
        let max_position_embeddings = keys.size("max_position_embeddings")?.unwrap_or(row.defaults.positions);
        let (ropes, layers) = layers::read(keys, family, num_hidden_layers, max_position_embeddings)?;
        let head_dim = read_head_dim(keys, family, hidden_size, heads)?;
        Ok(Config {
            family,
            vocab_size: or_required("vocab_size", row.defaults.vocab_size)?,
            hidden_size,
            intermediate_size: keys.required_size("intermediate_size")?,
            num_hidden_layers,
            num_attention_heads: heads,
            num_key_value_heads: keys.size("num_key_value_heads")?.or(kv_default).unwrap_or(heads),
            head_dim,
            rms_norm_eps: read_epsilon(keys)?,
            ropes,
            layers,
            max_position_embeddings,
            tie_word_embeddings: keys.boolean("tie_word_embeddings")?.unwrap_or(row.defaults.tied),
            qk_norm: row.qk_norm,
            qkv_bias: row.qkv_bias,
            norm_offset: row.norm_offset,
            output_norms: row.output_norms,
            activation: row.activation,
            embedding_scale: if row.scales_embedding { (hidden_size as f64).sqrt() } else { 1.0 },
            query_scale: read_query_scale(keys, family, head_dim)?,
            bos_token_id: keys.token_ids("bos_token_id", row.defaults.bos)?.first().copied(),
            eos_token_ids: keys.token_ids("eos_token_id", row.defaults.eos)?,
            pad_token_id: keys.token_ids("pad_token_id", row.defaults.pad)?.first().copied(),
            dtype: read_dtype(keys)?,
            file: ConfigFile { text: String::new(), map: Map::new() },
        })
    }

    fn check_sizes(&self) -> Result<(), ModelError> {
        let (heads, kv_heads) = (self.num_attention_heads, self.num_key_value_heads);
        if !heads.is_multiple_of(kv_heads) {
            return Err(ModelError::Inconsistent(format!(
                "`num_attention_heads` is {heads}, `num_key_value_heads` is {kv_heads}; the first must be a multiple of the second"
            )));
        }
        if !self.head_dim.is_multiple_of(2) {
            return Err(ModelError::BadValue {
                key: "head_dim".into(),
                expected: "an even number (rotary embedding turns pairs)".into(),
                found: self.head_dim.to_string(),
            });
        }
        match self.count_parameters() {
            count if count > MAX_PARAMETERS => Err(too_large("number of parameters", MAX_PARAMETERS, count)),
            _ => Ok(()),
        }
    }

    /// Rows of the q matrix: `heads * head_dim`.
    pub fn q_rows(&self) -> usize {
        self.num_attention_heads * self.head_dim
    }

    /// Rows of the k matrix, and of v: `kv_heads * head_dim`.
    pub fn kv_rows(&self) -> usize {
        self.num_key_value_heads * self.head_dim
    }

    /// The inverse rotary frequencies of each rope in radians per position, `[head_dim / 2]`, in f64 (see [`Rope::inv_freq`]).
    pub fn inv_freqs(&self) -> Vec<Vec<f64>> {
        self.ropes.iter().map(|rope| rope.inv_freq(self.head_dim)).collect()
    }

    /// Multiplies the products of queries and keys.
    pub fn attention_scale(&self) -> f64 {
        self.query_scale.sqrt().recip()
    }

    /// Number of parameters; a tied head counts once.
    pub fn parameter_count(&self) -> u64 {
        self.count_parameters() as u64 // at most MAX_PARAMETERS, checked on reading
    }

    /// The count in u128, where a product of three sizes below 2^26 and the number of layers cannot overflow.
    fn count_parameters(&self) -> u128 {
        let [vocab, hidden, inner, layers] =
            [self.vocab_size, self.hidden_size, self.intermediate_size, self.num_hidden_layers].map(|n| n as u128);
        let [heads, kv_heads, width] = [self.num_attention_heads, self.num_key_value_heads, self.head_dim].map(|n| n as u128);
        let (q, qkv) = (heads * width, (heads + 2 * kv_heads) * width);
        let extras = if self.qk_norm { 2 * width } else { 0 } + if self.qkv_bias { qkv } else { 0 };
        let norms = if self.output_norms { 4 } else { 2 };
        let layer = hidden * (qkv + q + 3 * inner + norms) + extras;
        let embeddings = if self.tie_word_embeddings { 1 } else { 2 };
        embeddings * vocab * hidden + layers * layer + hidden
    }

    /// The same model with another vocabulary size and without special tokens, which the tokenizer then defines: for a model
    /// from scratch with a tokenizer trained on the data.
    ///
    /// # Errors
    /// As [`Config::from_json`].
    pub fn with_vocab_size(&self, vocab_size: usize) -> Result<Self, ModelError> {
        let mut map = self.file.map.clone();
        map.insert("vocab_size".into(), vocab_size.into());
        for key in ["bos_token_id", "eos_token_id", "pad_token_id"] {
            map.shift_remove(key);
        }
        Self::from_json(&format!("{:#}\n", Value::Object(map)))
    }

    /// The file as it was read, with every key in its place.
    pub fn raw(&self) -> &Map<String, Value> {
        &self.file.map
    }

    /// The text of a `config.json` for weights stored as `dtype`. It is the text that was read if that already names `dtype`;
    /// otherwise the same keys in the same order with `dtype` (or the older `torch_dtype`) set.
    ///
    /// The dtype must be right because transformers 5 loads weights in the dtype that the config names.
    pub fn to_json(&self, dtype: WeightDtype) -> String {
        if self.dtype == Some(dtype) {
            return self.file.text.clone();
        }
        let mut map = self.file.map.clone();
        let old_form = map.contains_key("torch_dtype") || !map.contains_key("dtype") && !map.contains_key("rope_parameters");
        map.insert(if old_form { "torch_dtype" } else { "dtype" }.into(), dtype.config_name().into());
        if old_form && map.contains_key("dtype") {
            map.insert("dtype".into(), dtype.config_name().into());
        }
        format!("{:#}\n", Value::Object(map))
    }
}

fn too_large(key: &str, max: u128, found: u128) -> ModelError {
    ModelError::BadValue { key: key.into(), expected: format!("at most {max}"), found: found.to_string() }
}

fn read_head_dim(keys: &Keys, family: Family, hidden_size: usize, heads: usize) -> Result<usize, ModelError> {
    if let Some(head_dim) = keys.size("head_dim")? {
        return Ok(head_dim);
    }
    if let Some(head_dim) = family.description().defaults.head_dim {
        return Ok(head_dim);
    }
    if !hidden_size.is_multiple_of(heads) {
        return Err(ModelError::Inconsistent(format!(
            "`hidden_size` is {hidden_size}, `num_attention_heads` is {heads}, and there is no `head_dim`; \
             the first must be a multiple of the second"
        )));
    }
    Ok(hidden_size / heads)
}

/// What divides the products of queries and keys as its square root. The key is Gemma's alone, and 256 where it is missing.
fn read_query_scale(keys: &Keys, family: Family, head_dim: usize) -> Result<f64, ModelError> {
    match family {
        Family::Gemma3 => Ok(keys.positive("query_pre_attn_scalar")?.unwrap_or(256.0)),
        _ => Ok(head_dim as f64),
    }
}

/// ε of the norms. Kernels hold it in f32, where a smaller number would be zero.
fn read_epsilon(keys: &Keys) -> Result<f64, ModelError> {
    const KEY: &str = "rms_norm_eps";
    let epsilon = keys.positive(KEY)?.unwrap_or(1e-6);
    match (f64::from(f32::MIN_POSITIVE)..=f64::from(f32::MAX)).contains(&epsilon) {
        true => Ok(epsilon),
        false => Err(ModelError::BadValue {
            key: KEY.into(),
            expected: format!("a number from {:e} to {:e} (it is held in f32)", f32::MIN_POSITIVE, f32::MAX),
            found: epsilon.to_string(),
        }),
    }
}

fn read_dtype(keys: &Keys) -> Result<Option<WeightDtype>, ModelError> {
    for key in ["dtype", "torch_dtype"] {
        if let Some(name) = keys.text(key)? {
            let dtype = WeightDtype::from_config_name(name);
            let refusal = || ModelError::Unsupported {
                key: key.into(),
                found: format!("\"{name}\""),
                supported: "float32, float16, bfloat16".into(),
            };
            return dtype.map(Some).ok_or_else(refusal);
        }
    }
    Ok(None)
}
