//! A model's f64 reference decoder, from any source of weights.

use jurist::model::config::{Config, Layer};
use jurist::model::names::tensors;
use jurist::model::source::TensorSource;
use jurist::ops::swiglu::Activation;
use jurist::reference::decoder_config::LayerConfig;
use jurist::reference::{self, Batch, DecoderConfig, Weights, forward};

pub fn reference_config(config: &Config) -> DecoderConfig {
    let inv_freqs = config.inv_freqs();
    let layer = |l: &Layer| LayerConfig { inv_freq: l.rope.map(|rope| inv_freqs[rope].clone()), window: l.window };
    DecoderConfig {
        vocab: config.vocab_size,
        hidden: config.hidden_size,
        layers: config.layers.iter().map(layer).collect(),
        heads: config.num_attention_heads,
        kv_heads: config.num_key_value_heads,
        head_dim: config.head_dim,
        intermediate: config.intermediate_size,
        rms_norm_eps: config.rms_norm_eps,
        rope_scale: 1.0,
        qk_norm: config.qk_norm,
        qkv_bias: config.qkv_bias,
        tied: config.tie_word_embeddings,
        norm_offset: config.norm_offset,
        output_norms: config.output_norms,
        activation: match config.activation {
            Activation::Silu => reference::swiglu::Activation::Silu,
            Activation::Gelu => reference::swiglu::Activation::Gelu,
        },
        embedding_scale: config.embedding_scale,
        attention_scale: config.attention_scale(),
    }
}

pub fn weights(source: &dyn TensorSource) -> Weights {
    let read = |name: &str, len: usize| {
        let mut values = vec![0.0; len];
        source.read(name, 0, &mut values).unwrap();
        values.into_iter().map(f64::from).collect::<Vec<f64>>()
    };
    Weights(tensors(source.config()).iter().map(|spec| (spec.name.clone(), read(&spec.name, spec.len()))).collect())
}

/// Logits behind the last token of each sequence, each in a batch of its own.
pub fn last_logits(config: &Config, weights: &Weights, sequences: &[Vec<u32>]) -> Vec<Vec<f64>> {
    let one = |ids: &Vec<u32>| {
        let batch = Batch::packed(&[ids]);
        forward(&reference_config(config), weights, &batch, &[ids.len() as u32 - 1]).unwrap().logits
    };
    sequences.iter().map(one).collect()
}
