//! The measured model and batches. The defaults are W1 (training step) and W3 (rollout), which the programs in `benches/peers`
//! run too.

use serde::Serialize;
use serde_json::json;

use super::BenchError;
use crate::model::config::Config;

/// Tokens of an answer in the LoRA step: a phrase and a score.
const LORA_ANSWER: usize = 8;

/// Sizes of the measured model and batches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Shape {
    pub hidden: usize,
    pub layers: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    /// Width of SwiGLU.
    pub ffn: usize,
    pub vocab: usize,
    /// Sequences per training step, and tokens per sequence.
    pub batch: usize,
    pub tokens: usize,
    /// A rollout's prompt tokens, its chains, and the sampled tokens per chain.
    pub prompt: usize,
    pub samples: usize,
    pub new_tokens: usize,
    /// The output matrix is the embedding.
    pub tied: bool,
    /// Scored prompts, rows of a LoRA step, and tokens of each.
    pub rows: usize,
    pub lora_rows: usize,
    pub row_tokens: usize,
    /// Sizes of the square products.
    pub squares: Vec<usize>,
}

impl Default for Shape {
    fn default() -> Self {
        Shape {
            hidden: 256,
            layers: 4,
            heads: 8,
            kv_heads: 4,
            head_dim: 32,
            ffn: 768,
            vocab: 4096,
            batch: 4,
            tokens: 256,
            prompt: 128,
            samples: 16,
            new_tokens: 64,
            tied: false,
            rows: 100,
            lora_rows: 8,
            row_tokens: 98,
            squares: vec![512, 1024],
        }
    }
}

impl Shape {
    /// The same work for a model with the sizes of `config`.
    pub fn of_model(self, config: &Config) -> Self {
        Shape {
            hidden: config.hidden_size,
            layers: config.num_hidden_layers,
            heads: config.num_attention_heads,
            kv_heads: config.num_key_value_heads,
            head_dim: config.head_dim,
            ffn: config.intermediate_size,
            vocab: config.vocab_size,
            tied: config.tie_word_embeddings,
            ..self
        }
    }

    /// The config of the model: a Llama with random weights.
    ///
    /// # Errors
    /// Sizes that do not make a valid model.
    pub fn config(&self) -> Result<Config, BenchError> {
        let sizes = [
            ("--batch", self.batch),
            ("--tokens", self.tokens),
            ("--prompt", self.prompt),
            ("--rows", self.rows),
            ("--lora-rows", self.lora_rows),
            ("--row-tokens", self.row_tokens),
        ];
        for (name, size) in sizes {
            if size == 0 {
                return Err(BenchError::Shape(format!("{name} is 0, expected at least 1")));
            }
        }
        let text = json!({
            "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_act": "silu",
            "vocab_size": self.vocab, "hidden_size": self.hidden, "intermediate_size": self.ffn,
            "num_hidden_layers": self.layers, "num_attention_heads": self.heads, "num_key_value_heads": self.kv_heads,
            "head_dim": self.head_dim, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": self.tied,
            "max_position_embeddings": self.tokens.max(self.prompt + self.new_tokens).max(self.row_tokens),
        });
        Config::from_json(&text.to_string()).map_err(|e| BenchError::Shape(e.to_string()))
    }

    /// Tokens of a training step.
    pub fn step_tokens(&self) -> usize {
        self.batch * self.tokens
    }

    /// Elements of all layer matrices. Every token is multiplied with each of them.
    pub fn layer_weights(&self) -> u64 {
        let qkv = self.hidden * self.head_dim * (self.heads + 2 * self.kv_heads);
        let out = self.heads * self.head_dim * self.hidden;
        (self.layers * (qkv + out + 3 * self.hidden * self.ffn)) as u64
    }

    /// Elements of the output matrix.
    pub fn head_weights(&self) -> u64 {
        (self.hidden * self.vocab) as u64
    }

    /// Floating point operations of causal attention, forward, for one sequence in one layer: one product with the keys and one
    /// with the values per visible pair.
    pub fn attention_flops(&self, tokens: usize) -> u64 {
        let pairs = (tokens * (tokens + 1) / 2) as u64;
        4 * pairs * (self.heads * self.head_dim) as u64
    }

    /// Floating point operations of a training step: every product once in the forward pass and twice in the backward pass.
    /// Recomputation by a kernel is not counted.
    pub fn step_flops(&self) -> u64 {
        let products = 2 * (self.layer_weights() + self.head_weights()) * self.step_tokens() as u64;
        3 * (products + (self.layers * self.batch) as u64 * self.attention_flops(self.tokens))
    }

    /// Floating point operations of the layers for `rows` sequences of [`Shape::row_tokens`], forward.
    fn row_flops(&self, rows: usize) -> u64 {
        let products = 2 * self.layer_weights() * (rows * self.row_tokens) as u64;
        products + (self.layers * rows) as u64 * self.attention_flops(self.row_tokens)
    }

    /// Floating point operations of scoring: forward, and the logits of the last token of each row.
    pub fn score_flops(&self) -> u64 {
        self.row_flops(self.rows) + 2 * self.head_weights() * self.rows as u64
    }

    /// Floating point operations of a LoRA step without those of the adapter: forward, and the gradients of the activations.
    pub fn lora_flops(&self) -> u64 {
        let head = 2 * self.head_weights() * (self.lora_rows * self.lora_answer()) as u64;
        2 * (self.row_flops(self.lora_rows) + head)
    }

    /// Tokens of a row of the LoRA step that carry loss.
    pub fn lora_answer(&self) -> usize {
        self.row_tokens.min(LORA_ANSWER)
    }

    /// Floating point operations of one sampled token after `context` others.
    fn token_flops(&self, context: usize) -> u64 {
        2 * (self.layer_weights() + self.head_weights()) + self.layers as u64 * 4 * (context * self.heads * self.head_dim) as u64
    }

    /// Floating point operations of a rollout of `samples` chains: the prompt once, then each chain token by token.
    pub fn rollout_flops(&self, samples: usize) -> u64 {
        let prompt = 2 * self.layer_weights() * self.prompt as u64
            + 2 * self.head_weights()
            + self.layers as u64 * self.attention_flops(self.prompt);
        prompt + samples as u64 * self.decode_flops()
    }

    /// Floating point operations of the sampled tokens of one chain.
    pub fn decode_flops(&self) -> u64 {
        (0..self.new_tokens).map(|i| self.token_flops(self.prompt + i + 1)).sum()
    }

    /// Bytes that sampling one chain must read: all weights and the cache, per token.
    pub fn decode_bytes(&self) -> u64 {
        let weights = 4 * (self.layer_weights() + self.head_weights());
        let cached = (8 * self.layers * self.kv_heads * self.head_dim) as u64;
        (0..self.new_tokens).map(|i| weights + cached * (self.prompt + i + 1) as u64).sum()
    }
}
