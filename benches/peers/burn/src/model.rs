//! The measured Llama: hidden 256, 4 layers, 8 query and 4 key heads of 32, SwiGLU 768, vocabulary 4096 untied.

use burn::module::Module;
use burn::nn::{Embedding, EmbeddingConfig, Linear, LinearConfig, RmsNorm, RmsNormConfig};
use burn::tensor::activation::silu;
use burn::tensor::module::attention;
use burn::tensor::ops::AttentionModuleOptions;
use burn::tensor::{Device, Int, Tensor, TensorData};

pub const VOCAB: usize = 4096;
pub const BATCH: usize = 4;
pub const TOKENS: usize = 256;
pub const PROMPT: usize = 128;
pub const SAMPLES: usize = 16;
const HIDDEN: usize = 256;
const LAYERS: usize = 4;
const HEADS: usize = 8;
const KV_HEADS: usize = 4;
const HEAD_DIM: usize = 32;
const FFN: usize = 768;

/// Keys and values of one layer, `[batch, heads, tokens, head_dim]`.
pub struct Cache(Tensor<4>, Tensor<4>);

impl Cache {
    /// One prompt's cache for many samples.
    pub fn repeat(&mut self, samples: usize) {
        self.0 = self.0.clone().repeat_dim(0, samples);
        self.1 = self.1.clone().repeat_dim(0, samples);
    }
}

#[derive(Module, Debug)]
pub struct Llama {
    embed: Embedding,
    layers: Vec<Layer>,
    norm: RmsNorm,
    head: Linear,
    cos: Tensor<2>,
    sin: Tensor<2>,
}

#[derive(Module, Debug)]
struct Layer {
    norm: RmsNorm,
    qkv: Linear,
    out: Linear,
    mlp_norm: RmsNorm,
    gate_up: Linear,
    down: Linear,
}

fn linear(from: usize, to: usize, device: &Device) -> Linear {
    LinearConfig::new(from, to).with_bias(false).init(device)
}

impl Llama {
    pub fn new(device: &Device) -> Self {
        let layer = |_| Layer {
            norm: RmsNormConfig::new(HIDDEN).init(device),
            qkv: linear(HIDDEN, (HEADS + 2 * KV_HEADS) * HEAD_DIM, device),
            out: linear(HEADS * HEAD_DIM, HIDDEN, device),
            mlp_norm: RmsNormConfig::new(HIDDEN).init(device),
            gate_up: linear(HIDDEN, 2 * FFN, device),
            down: linear(FFN, HIDDEN, device),
        };
        let angle = |i: usize| (i / HEAD_DIM) as f64 * 1e4f64.powf(-2.0 * (i % (HEAD_DIM / 2)) as f64 / HEAD_DIM as f64);
        let table = |f: fn(f64) -> f64| {
            let values: Vec<f32> = (0..TOKENS * HEAD_DIM).map(|i| f(angle(i)) as f32).collect();
            Tensor::<2>::from_data(TensorData::new(values, [TOKENS, HEAD_DIM]), device)
        };
        Llama {
            embed: EmbeddingConfig::new(VOCAB, HIDDEN).init(device),
            layers: (0..LAYERS).map(layer).collect(),
            norm: RmsNormConfig::new(HIDDEN).init(device),
            head: linear(HIDDEN, VOCAB, device),
            cos: table(f64::cos),
            sin: table(f64::sin),
        }
    }

    /// Logits `[batch, tokens, vocab]`; continues `cache`, which is filled if it is empty.
    pub fn forward(&self, ids: Tensor<2, Int>, cache: &mut Vec<Cache>) -> Tensor<3> {
        let [_, tokens] = ids.dims();
        let past = cache.first().map_or(0, |c| c.0.dims()[2]);
        let table = |t: &Tensor<2>| t.clone().narrow(0, past, tokens).unsqueeze::<4>();
        let (cos, sin) = (table(&self.cos), table(&self.sin));
        let mut hidden = self.embed.forward(ids);
        let old = std::mem::take(cache);
        let mut old = old.into_iter();
        for layer in &self.layers {
            let (next, kept) = layer.forward(hidden, &cos, &sin, old.next());
            hidden = next;
            cache.push(kept);
        }
        self.head.forward(self.norm.forward(hidden))
    }
}

impl Layer {
    fn forward(&self, x: Tensor<3>, cos: &Tensor<4>, sin: &Tensor<4>, cache: Option<Cache>) -> (Tensor<3>, Cache) {
        let [batch, tokens, _] = x.dims();
        let qkv = self.qkv.forward(self.norm.forward(x.clone()));
        let part = |from: usize, heads: usize| {
            let part = qkv.clone().narrow(2, from * HEAD_DIM, heads * HEAD_DIM);
            part.reshape([batch, tokens, heads, HEAD_DIM]).swap_dims(1, 2)
        };
        let q = rotate(part(0, HEADS), cos, sin);
        let (k, v) = (rotate(part(HEADS, KV_HEADS), cos, sin), part(HEADS + KV_HEADS, KV_HEADS));
        let causal = cache.is_none();
        let (k, v) = match cache {
            Some(Cache(old_k, old_v)) => (Tensor::cat(vec![old_k, k], 2), Tensor::cat(vec![old_v, v], 2)),
            None => (k, v),
        };
        // burn's attention wants as many key heads as query heads.
        let shared = |t: Tensor<4>| {
            let keys = t.dims()[2];
            let t = t.reshape([batch, KV_HEADS, 1, keys * HEAD_DIM]).repeat_dim(2, HEADS / KV_HEADS);
            t.reshape([batch, HEADS, keys, HEAD_DIM])
        };
        let options = AttentionModuleOptions { is_causal: causal, ..Default::default() };
        let mixed = attention(q, shared(k.clone()), shared(v.clone()), None, None, options);
        let x = x + self.out.forward(mixed.swap_dims(1, 2).reshape([batch, tokens, HEADS * HEAD_DIM]));
        let gate_up = self.gate_up.forward(self.mlp_norm.forward(x.clone()));
        let inner = silu(gate_up.clone().narrow(2, 0, FFN)) * gate_up.narrow(2, FFN, FFN);
        (x + self.down.forward(inner), Cache(k, v))
    }
}

/// Rotary positions, the two halves of a head against each other as in Hugging Face's Llama.
fn rotate(x: Tensor<4>, cos: &Tensor<4>, sin: &Tensor<4>) -> Tensor<4> {
    let half = HEAD_DIM / 2;
    let turned = Tensor::cat(vec![x.clone().narrow(3, half, half).neg(), x.clone().narrow(3, 0, half)], 3);
    x * cos.clone() + turned * sin.clone()
}
