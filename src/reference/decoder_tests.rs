use super::*;
use crate::random::Stream;
use crate::reference::check::{assert_close, assert_gradient_at, random};
use crate::reference::decoder_config::LayerConfig;
use crate::reference::matmul::dot;
use crate::reference::rope::default_inv_freq;
use crate::reference::swiglu::Activation;

/// Nothing is a multiple of 4, seven query heads share one key/value head, and the vocabulary is prime.
fn awkward() -> DecoderConfig {
    DecoderConfig {
        vocab: 31,
        hidden: 11,
        layers: vec![layer(Some(1e4), None); 2],
        heads: 7,
        kv_heads: 1,
        head_dim: 6,
        intermediate: 13,
        rms_norm_eps: 1e-5,
        rope_scale: 1.0,
        qk_norm: false,
        qkv_bias: false,
        tied: false,
        norm_offset: 0.0,
        output_norms: false,
        activation: Activation::Silu,
        embedding_scale: 1.0,
        attention_scale: 6f64.sqrt().recip(),
    }
}

fn layer(theta: Option<f64>, window: Option<usize>) -> LayerConfig {
    LayerConfig { inv_freq: theta.map(|theta| default_inv_freq(6, theta)), window }
}

/// Local and global layers, and all that Gemma computes in its own way.
fn gemma() -> DecoderConfig {
    DecoderConfig {
        layers: vec![layer(Some(1e2), Some(2)), layer(Some(1e6), None), layer(Some(1e2), Some(2))],
        tied: true,
        qk_norm: true,
        norm_offset: 1.0,
        output_norms: true,
        activation: Activation::Gelu,
        embedding_scale: 11f64.sqrt(),
        attention_scale: 0.3,
        ..awkward()
    }
}

fn flavours() -> Vec<(&'static str, DecoderConfig)> {
    vec![
        ("llama", awkward()),
        ("llama tied, scaled rope", DecoderConfig { tied: true, rope_scale: 1.1, ..awkward() }),
        ("mistral", DecoderConfig { layers: vec![layer(Some(1e4), Some(3)); 2], ..awkward() }),
        ("qwen2", DecoderConfig { qkv_bias: true, tied: true, ..awkward() }),
        ("qwen3", DecoderConfig { qk_norm: true, tied: true, ..awkward() }),
        ("qwen3 untied", DecoderConfig { qk_norm: true, heads: 4, kv_heads: 2, ..awkward() }),
        ("everything", DecoderConfig { qkv_bias: true, ..gemma() }),
        ("gemma", gemma()),
        ("smollm3", DecoderConfig { layers: vec![layer(Some(1e4), None), layer(None, None)], tied: true, ..awkward() }),
        ("no layer", DecoderConfig { layers: Vec::new(), tied: true, ..awkward() }),
    ]
}

fn mixed_batch() -> Batch {
    let mut batch = Batch::packed(&[&[3, 30, 3]]);
    batch.push_group(&[7, 1, 0], &[&[5, 5], &[12], &[2, 9, 4]]);
    batch.push_sequence(&[17]);
    batch
}

#[test]
fn every_tensor_matches_finite_differences() {
    for (flavour, config) in flavours() {
        for (batch, rows) in [(mixed_batch(), vec![1, 4, 7, 7, 11, 12]), (Batch::packed(&[&[8]]), vec![0])] {
            let weights = Weights::random(&config, 1);
            let trace = forward(&config, &weights, &batch, &rows).unwrap();
            let dlogits = random(trace.logits.len(), 2);
            let gradients = backward(&config, &weights, &batch, &trace, &dlogits).unwrap();
            assert_eq!(gradients.0.len(), config.tensors().len());
            let mut pick = Stream::new(3, 0);
            for (name, tensor) in &weights.0 {
                let entries: Vec<usize> = (0..4).map(|_| pick.below(tensor.len())).collect();
                let mut shifted = weights.clone();
                assert_gradient_at(&format!("{flavour}: {name}"), tensor, &gradients.0[name], &entries, |values| {
                    shifted.0.insert(name.clone(), values.to_vec());
                    dot(&dlogits, &forward(&config, &shifted, &batch, &rows).unwrap().logits)
                });
            }
        }
    }
}

/// A prompt stored once gives the chains the logits, and the weights the gradients, of prompt + chain packed separately.
#[test]
fn shared_prefix_equals_separate_sequences() {
    let (prompt, chains) = ([4u32, 19, 2, 2], [&[6u32, 7, 8][..], &[30], &[1, 0]]);
    let shared = Batch::shared_prefix(&prompt, &chains);
    let whole: Vec<Vec<u32>> = chains.iter().map(|c| [&prompt, *c].concat()).collect();
    let separate = Batch::packed(&whole.iter().map(Vec::as_slice).collect::<Vec<_>>());
    let shared_rows: Vec<u32> = (4..10).collect();
    let separate_rows = [4, 5, 6, 11, 16, 17];
    for (flavour, config) in flavours() {
        let weights = Weights::random(&config, 5);
        let one = forward(&config, &weights, &shared, &shared_rows).unwrap();
        let many = forward(&config, &weights, &separate, &separate_rows).unwrap();
        assert_close(flavour, &one.logits, &many.logits, 1e-12);
        let dlogits = random(one.logits.len(), 6);
        let one = backward(&config, &weights, &shared, &one, &dlogits).unwrap();
        let many = backward(&config, &weights, &separate, &many, &dlogits).unwrap();
        for (name, gradient) in &one.0 {
            assert_close(&format!("{flavour}: {name}"), gradient, &many.0[name], 1e-11);
        }
    }
}

/// What a sequence gets does not depend on its neighbours in the pack, nor on what follows in itself.
#[test]
fn packing_and_the_future_change_nothing() {
    for (flavour, config) in flavours() {
        let weights = Weights::random(&config, 7);
        let logits = |batch: &Batch, rows: &[u32]| forward(&config, &weights, batch, rows).unwrap().logits;
        let packed = logits(&Batch::packed(&[&[1, 2], &[3, 4, 5, 6], &[7]]), &[2, 3]);
        assert_close(flavour, &packed, &logits(&Batch::packed(&[&[3, 4]]), &[0, 1]), 1e-13);
    }
}

#[test]
fn no_rows_no_gradient() {
    let (config, batch) = (awkward(), mixed_batch());
    let weights = Weights::random(&config, 1);
    let trace = forward(&config, &weights, &batch, &[]).unwrap();
    let gradients = backward(&config, &weights, &batch, &trace, &[]).unwrap();
    assert!(gradients.0.values().flatten().all(|g| *g == 0.0));
    let empty = forward(&config, &weights, &Batch::default(), &[]).unwrap();
    backward(&config, &weights, &Batch::default(), &empty, &[]).unwrap();
}

#[test]
fn bad_input_is_refused_by_name() {
    let config = awkward();
    let weights = Weights::random(&config, 1);
    let batch = Batch::packed(&[&[1, 2]]);
    let message =
        |config: &DecoderConfig, weights: &Weights, rows: &[u32]| forward(config, weights, &batch, rows).unwrap_err().to_string();

    let mut fewer = weights.clone();
    fewer.0.remove("model.norm.weight");
    assert!(message(&config, &fewer, &[0]).contains("`model.norm.weight` is missing"));
    let mut shorter = weights.clone();
    shorter.0.insert("model.norm.weight".into(), vec![1.0; 10]);
    assert!(message(&config, &shorter, &[0]).contains("has 10 entries, expected [11]"));
    let mut more = weights.clone();
    more.0.insert("model.layers.0.self_attn.o_proj.bias".into(), vec![0.0; 11]);
    assert!(message(&config, &more, &[0]).contains("o_proj.bias` is not part of"));

    assert!(message(&config, &weights, &[2]).contains("row 2"));
    assert!(message(&DecoderConfig { kv_heads: 2, ..awkward() }, &weights, &[0]).contains("7 heads cannot share 2"));
    assert!(message(&DecoderConfig { head_dim: 5, ..awkward() }, &weights, &[0]).contains("head_dim 5"));
    assert!(message(&DecoderConfig { hidden: 0, ..awkward() }, &weights, &[0]).contains("hidden is 0"));
    assert!(message(&DecoderConfig { layers: vec![layer(None, Some(0))], ..awkward() }, &weights, &[0]).contains("window of 0"));
    let trace = forward(&config, &weights, &batch, &[0]).unwrap();
    assert!(matches!(backward(&config, &weights, &batch, &trace, &[0.0; 30]), Err(Error::LogitsGradient { found: 30, .. })));
}
