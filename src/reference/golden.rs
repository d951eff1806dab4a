//! The specification against PyTorch: seven tiny Hugging Face checkpoints with the logits, losses and gradients that
//! transformers computed for them. Skipped, with a line saying so, where the files are absent.

use std::path::{Path, PathBuf};

use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

use super::check::assert_close;
use super::decoder_config::LayerConfig;
use super::loss_head::{Loss, Score, cross_entropy, expected_full, expected_renormalised, log_softmax};
use super::loss_head::{squared_error_full, squared_error_renormalised};
use super::rope::{Llama3Scaling, default_inv_freq};
use super::sample::greedy;
use super::swiglu::Activation;
use super::*;

fn golden_folder() -> PathBuf {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared");
    std::env::var("JURIST_SHARED").map_or_else(|_| beside(), PathBuf::from).join("reference/golden")
}

/// A decoder read from its checkpoint, and the tensors to compare with.
struct Golden {
    config: DecoderConfig,
    weights: Weights,
    file: Vec<u8>,
}

impl Golden {
    fn read(folder: &Path) -> Self {
        let json = std::fs::read_to_string(folder.join("checkpoint/config.json")).unwrap();
        let config = decoder_config(&serde_json::from_str(&json).unwrap());
        let bytes = std::fs::read(folder.join("checkpoint/model.safetensors")).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let weights = Weights(tensors.names().iter().map(|name| (name.to_string(), numbers(&tensors, name))).collect());
        Golden { config, weights, file: std::fs::read(folder.join("reference.safetensors")).unwrap() }
    }

    fn tensors(&self) -> SafeTensors<'_> {
        SafeTensors::deserialize(&self.file).unwrap()
    }

    fn get(&self, name: &str) -> Vec<f64> {
        numbers(&self.tensors(), name)
    }

    fn ids(&self, name: &str) -> Vec<u32> {
        self.get(name).iter().map(|&id| id as u32).collect()
    }

    fn scale(&self) -> Vec<Score> {
        self.ids("rail.score_token_ids").into_iter().zip(self.get("rail.score_values")).collect()
    }

    /// The batch through the decoder, with logits for `rows`, and the gradients of `loss` (dL/dlogits by row).
    fn run(&self, batch: &Batch, rows: &[u32], loss: impl Fn(usize, &[f64]) -> Loss) -> (Trace, f64, Gradients) {
        let trace = forward(&self.config, &self.weights, batch, rows).unwrap();
        let losses: Vec<(Loss, &[f64])> =
            trace.logits.chunks_exact(self.config.vocab).enumerate().map(|(r, z)| (loss(r, z), z)).collect();
        let dlogits: Vec<f64> = losses.iter().flat_map(|(l, z)| l.gradient(z)).collect();
        let value = losses.iter().map(|(l, _)| l.value).sum();
        let gradients = backward(&self.config, &self.weights, batch, &trace, &dlogits).unwrap();
        (trace, value, gradients)
    }

    /// Every gradient under `prefix`, within 1e-3 of its tensor's largest entry. Returns the largest deviation of all.
    fn compare_gradients(&self, model: &str, prefix: &str, gradients: &Gradients) -> f64 {
        let start = format!("{prefix}.grad.");
        let names = self.tensors().names().iter().filter(|n| n.starts_with(&start)).count();
        assert_eq!(names, gradients.0.len(), "{model}: one gradient a parameter under {prefix}");
        let mut worst = 0.0f64;
        for (name, found) in &gradients.0 {
            let expected = self.get(&format!("{start}{name}"));
            let largest = expected.iter().fold(0.0f64, |m, g| m.max(g.abs()));
            assert!(largest > 0.0, "{model}: {prefix} {name} is all zero");
            assert_close(&format!("{model}: {prefix} {name}"), found, &expected, 1e-3 * largest);
            let deviation = found.iter().zip(&expected).fold(0.0f64, |m, (a, b)| m.max((a - b).abs()));
            worst = worst.max(deviation / largest);
        }
        worst
    }
}

fn numbers(tensors: &SafeTensors, name: &str) -> Vec<f64> {
    let tensor = tensors.tensor(name).unwrap_or_else(|e| panic!("{name}: {e}"));
    match tensor.dtype() {
        Dtype::F32 => tensor.data().as_chunks().0.iter().map(|b| f64::from(f32::from_le_bytes(*b))).collect(),
        Dtype::I64 => tensor.data().as_chunks().0.iter().map(|b| i64::from_le_bytes(*b) as f64).collect(),
        other => panic!("{name} has type {other:?}"),
    }
}

/// Just enough of config.json for these checkpoints; the real reader is `model::config`.
fn decoder_config(json: &Value) -> DecoderConfig {
    let size = |key: &str| json[key].as_u64().map(|n| n as usize);
    let kind = json["model_type"].as_str().unwrap();
    let (hidden, heads) = (size("hidden_size").unwrap(), size("num_attention_heads").unwrap());
    let head_dim = size("head_dim").unwrap_or(hidden / heads);
    let gemma = kind == "gemma3_text";
    let scale = if gemma { json["query_pre_attn_scalar"].as_f64().unwrap() } else { head_dim as f64 };
    let layer = |layer: usize| {
        let of_kind = json["layer_types"][layer].as_str().filter(|_| gemma);
        let inv_freq = inv_freq(of_kind.map_or(&json["rope_parameters"], |kind| &json["rope_parameters"][kind]), head_dim);
        LayerConfig {
            inv_freq: (json["no_rope_layers"][layer] != 0).then_some(inv_freq),
            window: size("sliding_window").filter(|_| of_kind != Some("full_attention")),
        }
    };
    DecoderConfig {
        vocab: size("vocab_size").unwrap(),
        hidden,
        layers: (0..size("num_hidden_layers").unwrap()).map(layer).collect(),
        heads,
        kv_heads: size("num_key_value_heads").unwrap(),
        head_dim,
        intermediate: size("intermediate_size").unwrap(),
        rms_norm_eps: json["rms_norm_eps"].as_f64().unwrap(),
        rope_scale: 1.0,
        qk_norm: gemma || kind == "qwen3",
        qkv_bias: kind == "qwen2",
        tied: json["tie_word_embeddings"].as_bool().unwrap(),
        norm_offset: if gemma { 1.0 } else { 0.0 },
        output_norms: gemma,
        activation: if gemma { Activation::Gelu } else { Activation::Silu },
        embedding_scale: if gemma { (hidden as f64).sqrt() } else { 1.0 },
        attention_scale: scale.sqrt().recip(),
    }
}

/// The frequencies of one set of rope parameters.
fn inv_freq(rope: &Value, head_dim: usize) -> Vec<f64> {
    let number = |key: &str| rope[key].as_f64().unwrap();
    let plain = default_inv_freq(head_dim, number("rope_theta"));
    match rope["rope_type"].as_str().unwrap() {
        "default" => plain,
        "linear" => plain.into_iter().map(|f| f / number("factor")).collect(),
        "llama3" => Llama3Scaling {
            factor: number("factor"),
            low_freq_factor: number("low_freq_factor"),
            high_freq_factor: number("high_freq_factor"),
            original_max_position_embeddings: number("original_max_position_embeddings"),
        }
        .apply(&plain),
        other => panic!("rope type {other}"),
    }
}

/// The committed fixtures of the families that the folder below has none of.
#[test]
fn gemma_and_smollm3_agree_with_pytorch() {
    for model in ["gemma3_local", "smollm3_nope"] {
        let golden = Golden::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/golden").join(model));
        cross_entropy_agrees(model, &golden);
        rail_agrees(model, &golden);
        real_agrees(model, &golden);
        greedy_agrees(model, &golden);
    }
}

#[test]
fn seven_models_agree_with_pytorch() {
    let folder = golden_folder();
    if !folder.is_dir() {
        crate::skip::skip(format!(
            "no golden files at {}; set JURIST_SHARED to the folder that holds reference/golden",
            folder.display()
        ));
        return;
    }
    for model in ["qwen3_tied", "qwen3_untied", "qwen2", "llama", "llama3_rope", "mistral", "mistral_window"] {
        let golden = Golden::read(&folder.join(model));
        cross_entropy_agrees(model, &golden);
        rail_agrees(model, &golden);
        real_agrees(model, &golden);
        greedy_agrees(model, &golden);
    }
}

/// The sequences of `input_ids`, packed, and their length.
fn sequences(golden: &Golden) -> (Batch, Vec<u32>, usize) {
    let ids = golden.ids("input_ids");
    let length = ids.len() / golden.get("rail.targets").len();
    (Batch::packed(&ids.chunks_exact(length).collect::<Vec<_>>()), ids, length)
}

fn cross_entropy_agrees(model: &str, golden: &Golden) {
    let (batch, ids, length) = sequences(golden);
    let rows: Vec<u32> = (0..ids.len() as u32).collect();
    let weight = 1.0 / (ids.len() - ids.len() / length) as f64;
    let (trace, value, gradients) = golden.run(&batch, &rows, |row, z| {
        // The last row of a sequence predicts nothing.
        let target: &[(u32, f64)] = if (row + 1) % length == 0 { &[] } else { &[(ids[row + 1], weight)] };
        cross_entropy(z, target)
    });
    assert_close(&format!("{model}: logits"), &trace.logits, &golden.get("logits"), 1e-4);
    // The committed fixtures have no hidden states.
    if golden.tensors().tensor("hidden_states.0").is_ok() {
        assert_close(&format!("{model}: embeddings"), &trace.layers[0].x, &golden.get("hidden_states.0"), 1e-6);
        assert_close(&format!("{model}: layer 0"), &trace.layers[1].x, &golden.get("hidden_states.1"), 1e-5);
        assert_close(&format!("{model}: final norm"), &trace.normed, &golden.get("hidden_states.2"), 1e-4);
    }
    assert_close(&format!("{model}: ce.loss"), &[value], &golden.get("ce.loss"), 1e-5);
    let off = trace.logits.iter().zip(golden.get("logits")).fold(0.0f64, |m, (a, b)| m.max((a - b).abs()));
    let worst = golden.compare_gradients(model, "ce", &gradients);
    println!("{model}: logits off by {off:.1e}; gradients, of the tensor's largest: ce {worst:.1e}");
}

fn rail_agrees(model: &str, golden: &Golden) {
    let (batch, _, length) = sequences(golden);
    let (scale, targets) = (golden.scale(), golden.get("rail.targets"));
    let rows: Vec<u32> = (1..=targets.len()).map(|n| (n * length) as u32 - 1).collect();
    type Expected = fn(&[f64], &[Score]) -> f64;
    type SquaredError = fn(&[f64], &[Score], f64) -> Loss;
    let variants: [(&str, Expected, SquaredError); 2] =
        [("rail.full", expected_full, squared_error_full), ("rail.renorm", expected_renormalised, squared_error_renormalised)];
    for (prefix, expected, squared_error) in variants {
        let loss = |row: usize, z: &[f64]| squared_error(z, &scale, targets[row]).scaled(1.0 / targets.len() as f64);
        let (trace, value, gradients) = golden.run(&batch, &rows, loss);
        let scores: Vec<f64> = trace.logits.chunks_exact(golden.config.vocab).map(|z| expected(z, &scale)).collect();
        assert_close(&format!("{model}: {prefix}.expected"), &scores, &golden.get(&format!("{prefix}.expected")), 1e-4);
        assert_close(&format!("{model}: {prefix}.loss"), &[value], &golden.get(&format!("{prefix}.loss")), 1e-4);
        println!("  {prefix} {:.1e}", golden.compare_gradients(model, prefix, &gradients));
    }
}

/// One rollout of the `real` group: where it starts in the packed batch, and where in the padded table.
struct Rollout {
    packed_start: usize,
    padded_start: usize,
    ids: Vec<u32>,
}

/// REAL's surrogate: -Σ A_i log p(t) m / Σ m + β mean (E_i - y)², over rollouts packed without their padding.
fn real_agrees(model: &str, golden: &Golden) {
    let (ids, mask) = (golden.ids("real.input_ids"), golden.get("real.attention_mask"));
    let width = ids.len() / 4;
    let (mut rollouts, mut batch) = (Vec::new(), Batch::default());
    for padded_start in (0..4).map(|i| i * width) {
        let length = mask[padded_start..padded_start + width].iter().sum::<f64>() as usize;
        let own = ids[padded_start..padded_start + length].to_vec();
        rollouts.push(Rollout { packed_start: batch.tokens(), padded_start, ids: own.clone() });
        batch.push_sequence(&own);
    }
    let rows: Vec<u32> = (0..batch.tokens() as u32).collect();
    let (scale, targets, advantages) = (golden.scale(), golden.get("real.targets"), golden.get("real.advantages"));
    let (beta, score_index) = (golden.get("real.beta")[0], golden.ids("real.score_index"));

    for (prefix, mask_name) in [("real.all", "real.response_mask"), ("real.cot", "real.cot_mask")] {
        let action = golden.get(mask_name);
        let actions: f64 = action.iter().sum();
        let loss = |row: usize, z: &[f64]| {
            let i = rollouts.iter().rposition(|r| r.packed_start <= row).unwrap();
            // Row t - 1 predicts token t.
            let t = row - rollouts[i].packed_start + 1;
            if t == rollouts[i].ids.len() {
                return cross_entropy(z, &[]);
            }
            let weight = advantages[i] * action[rollouts[i].padded_start + t] / actions;
            let term1 = cross_entropy(z, &[(rollouts[i].ids[t], weight)]);
            if t != score_index[i] as usize {
                return term1;
            }
            term1.plus(squared_error_full(z, &scale, targets[i]).scaled(beta / 4.0))
        };
        let (trace, value, gradients) = golden.run(&batch, &rows, loss);
        assert_close(&format!("{model}: {prefix}.loss"), &[value], &golden.get(&format!("{prefix}.loss")), 1e-4);
        println!("  {prefix} {:.1e}", golden.compare_gradients(model, prefix, &gradients));
        if prefix == "real.all" {
            log_probs_agree(model, golden, &rollouts, &trace, &action);
        }
    }
}

fn log_probs_agree(model: &str, golden: &Golden, rollouts: &[Rollout], trace: &Trace, response_mask: &[f64]) {
    let mut found = vec![0.0; response_mask.len()];
    for rollout in rollouts {
        for t in 1..rollout.ids.len() {
            let row = (rollout.packed_start + t - 1) * golden.config.vocab;
            let log_p = log_softmax(&trace.logits[row..row + golden.config.vocab]);
            let cell = rollout.padded_start + t;
            found[cell] = log_p[rollout.ids[t] as usize] * response_mask[cell];
        }
    }
    assert_close(&format!("{model}: real.logp"), &found, &golden.get("real.logp"), 1e-4);
}

fn greedy_agrees(model: &str, golden: &Golden) {
    let mut ids = golden.ids("gen.prompt_ids");
    for (expected, gap) in golden.ids("gen.output_ids").into_iter().zip(golden.get("gen.top2_gap")) {
        if gap < 1e-3 {
            return;
        }
        let trace = forward(&golden.config, &golden.weights, &Batch::packed(&[&ids]), &[ids.len() as u32 - 1]).unwrap();
        assert_eq!(greedy(&trace.logits) as u32, expected, "{model}: greedy token {}", ids.len());
        ids.push(expected);
    }
}
