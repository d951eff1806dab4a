//! What a decoder is made of: its sizes and switches, and its weights by their Hugging Face names.

use std::collections::BTreeMap;

use super::Error;
use super::attention::Heads;
use super::matmul::add_scaled;
use super::swiglu::Activation;
use crate::random::Stream;

/// One parametrised decoder for Llama, Mistral, Qwen2, Qwen3, SmolLM3 and Gemma 3.
#[derive(Clone, Debug)]
pub struct DecoderConfig {
    pub vocab: usize,
    pub hidden: usize,
    pub layers: Vec<LayerConfig>,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    pub intermediate: usize,
    pub rms_norm_eps: f64,
    /// Multiplies cos and sin (the attention factor of some scalings), normally 1.
    pub rope_scale: f64,
    /// RMSNorm of each q and k head before rotation (Qwen3).
    pub qk_norm: bool,
    /// Bias of the q, k and v projections (Qwen2).
    pub qkv_bias: bool,
    /// The head uses the embedding's matrix.
    pub tied: bool,
    /// Added to the weights of all norms (1 in Gemma).
    pub norm_offset: f64,
    /// The outputs of attention and MLP are normed before the residual stream adds them (Gemma).
    pub output_norms: bool,
    pub activation: Activation,
    /// Multiplies the embedded tokens (√hidden in Gemma).
    pub embedding_scale: f64,
    /// Multiplies q·k; normally 1/√head_dim.
    pub attention_scale: f64,
}

/// What sets a layer apart from the others.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerConfig {
    /// `[head_dim / 2]`, any scaling already applied (see [`super::rope`]); `None`: q and k are not rotated.
    pub inv_freq: Option<Vec<f64>>,
    /// A token sees only keys at positions greater than its own minus this.
    pub window: Option<usize>,
}

impl DecoderConfig {
    /// The attention sizes of a layer.
    pub fn attention(&self, layer: usize) -> Heads {
        Heads {
            heads: self.heads,
            kv_heads: self.kv_heads,
            head_dim: self.head_dim,
            window: self.layers[layer].window,
            scale: self.attention_scale,
        }
    }

    /// The weight of the norm before the MLP. Where outputs are normed, the name of most families is that of another norm.
    pub fn mlp_norm(&self) -> &'static str {
        if self.output_norms { "pre_feedforward_layernorm.weight" } else { "post_attention_layernorm.weight" }
    }

    /// Name of the matrix that turns hidden states into logits.
    pub fn head_name(&self) -> &'static str {
        if self.tied { "model.embed_tokens.weight" } else { "lm_head.weight" }
    }

    /// Every weight with its shape, in the order of the forward. Matrices are `[outputs, inputs]`.
    pub fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let mut all = vec![("model.embed_tokens.weight".to_string(), vec![self.vocab, self.hidden])];
        for layer in 0..self.layers.len() {
            all.extend(self.layer_tensors().into_iter().map(|(name, shape)| (layer_name(layer, name), shape)));
        }
        all.push(("model.norm.weight".to_string(), vec![self.hidden]));
        if !self.tied {
            all.push(("lm_head.weight".to_string(), vec![self.vocab, self.hidden]));
        }
        all
    }

    fn layer_tensors(&self) -> Vec<(&'static str, Vec<usize>)> {
        let (hidden, inner) = (self.hidden, self.intermediate);
        let (q, kv) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        let mut all = vec![
            ("input_layernorm.weight", vec![hidden]),
            ("self_attn.q_proj.weight", vec![q, hidden]),
            ("self_attn.k_proj.weight", vec![kv, hidden]),
            ("self_attn.v_proj.weight", vec![kv, hidden]),
            ("self_attn.o_proj.weight", vec![hidden, q]),
            (self.mlp_norm(), vec![hidden]),
            ("mlp.gate_proj.weight", vec![inner, hidden]),
            ("mlp.up_proj.weight", vec![inner, hidden]),
            ("mlp.down_proj.weight", vec![hidden, inner]),
        ];
        if self.qkv_bias {
            let biases = [("self_attn.q_proj.bias", q), ("self_attn.k_proj.bias", kv), ("self_attn.v_proj.bias", kv)];
            all.extend(biases.map(|(name, n)| (name, vec![n])));
        }
        if self.output_norms {
            all.extend([ATTENTION_OUTPUT_NORM, MLP_OUTPUT_NORM].map(|name| (name, vec![hidden])));
        }
        if self.qk_norm {
            all.extend(["self_attn.q_norm.weight", "self_attn.k_norm.weight"].map(|name| (name, vec![self.head_dim])));
        }
        all
    }

    /// Sizes that fit each other, and exactly the weights of [`DecoderConfig::tensors`].
    pub fn check(&self, weights: &Weights) -> Result<(), Error> {
        self.check_sizes()?;
        let tensors = self.tensors();
        for (name, shape) in &tensors {
            match weights.0.get(name) {
                None => return Err(Error::MissingWeight { name: name.clone(), shape: shape.clone() }),
                Some(w) if w.len() != shape.iter().product::<usize>() => {
                    return Err(Error::WeightLength { name: name.clone(), shape: shape.clone(), found: w.len() });
                }
                Some(_) => {}
            }
        }
        // An ignored weight (a bias, a second norm) would be another model's mathematics.
        match weights.0.keys().find(|name| !tensors.iter().any(|(known, _)| known == *name)) {
            Some(name) => Err(Error::UnexpectedWeight { name: name.clone() }),
            None => Ok(()),
        }
    }

    fn check_sizes(&self) -> Result<(), Error> {
        let sizes = [
            ("vocab", self.vocab),
            ("hidden", self.hidden),
            ("heads", self.heads),
            ("kv_heads", self.kv_heads),
            ("head_dim", self.head_dim),
            ("intermediate", self.intermediate),
        ];
        if let Some((name, _)) = sizes.iter().find(|(_, n)| *n == 0) {
            return Err(Error::Config(format!("{name} is 0, expected at least 1")));
        }
        if !self.heads.is_multiple_of(self.kv_heads) {
            return Err(Error::Config(format!("{} heads cannot share {} key/value heads evenly", self.heads, self.kv_heads)));
        }
        let wrong = self.layers.iter().flat_map(|l| &l.inv_freq).map(Vec::len).find(|found| self.head_dim != 2 * found);
        if let Some(found) = wrong {
            return Err(Error::Config(format!(
                "head_dim {} needs half as many inverse frequencies, found {found}",
                self.head_dim
            )));
        }
        if self.layers.iter().any(|layer| layer.window == Some(0)) {
            return Err(Error::Config("a sliding window of 0 hides a token from itself; leave it out for no window".into()));
        }
        Ok(())
    }
}

/// The norms of the outputs of attention and MLP, where there are any.
pub const ATTENTION_OUTPUT_NORM: &str = "post_attention_layernorm.weight";
pub const MLP_OUTPUT_NORM: &str = "post_feedforward_layernorm.weight";

/// `model.layers.N.` before a name.
pub fn layer_name(layer: usize, name: &str) -> String {
    format!("model.layers.{layer}.{name}")
}

/// Tensors by Hugging Face name, row-major.
#[derive(Clone, Debug, Default)]
pub struct Weights(pub BTreeMap<String, Vec<f64>>);

/// dL/dW for every weight, under the weight's name.
pub type Gradients = Weights;

impl Weights {
    /// All tensors of `config`, zero.
    pub fn zeros(config: &DecoderConfig) -> Self {
        let zeros = |(name, shape): (String, Vec<usize>)| (name, vec![0.0; shape.iter().product()]);
        Weights(config.tensors().into_iter().map(zeros).collect())
    }

    /// Random weights that leave no symmetry for an error to hide in: norms (with their offset) around 1, biases around 0, matrices
    /// with variance 1 / inputs, so that activations keep their size.
    pub fn random(config: &DecoderConfig, seed: u64) -> Self {
        let mut weights = BTreeMap::new();
        for (index, (name, shape)) in config.tensors().into_iter().enumerate() {
            let mut stream = Stream::new(seed, index as u64);
            let (mean, spread) = match shape.as_slice() {
                [_] if name.ends_with("norm.weight") => (1.0 - config.norm_offset, 0.2),
                [_, inputs] => (0.0, 1.0 / (*inputs as f64).sqrt()),
                _ => (0.0, 0.1),
            };
            let count = shape.iter().product();
            weights.insert(name, (0..count).map(|_| mean + spread * stream.normal()).collect());
        }
        Weights(weights)
    }

    /// The tensor called `name`.
    pub fn get(&self, name: &str) -> Result<&[f64], Error> {
        let missing = || Error::MissingWeight { name: name.to_string(), shape: Vec::new() };
        self.0.get(name).map(Vec::as_slice).ok_or_else(missing)
    }

    /// The tensor called `name`, for writing.
    pub fn get_mut(&mut self, name: &str) -> Result<&mut [f64], Error> {
        let missing = || Error::MissingWeight { name: name.to_string(), shape: Vec::new() };
        self.0.get_mut(name).map(Vec::as_mut_slice).ok_or_else(missing)
    }

    /// `self[name] += tensor`.
    pub fn add(&mut self, name: &str, tensor: &[f64]) -> Result<(), Error> {
        add_scaled(self.get_mut(name)?, 1.0, tensor);
        Ok(())
    }
}
