//! The whole decoder, forward and backward, composed of the operations beside it.
//!
//! One layer maps the residual stream x `[T, hidden]` to x + attention + MLP, both behind a norm:
//!
//! ```text
//! n = norm(x)    q, k, v = linear(n)    q, k = rotate(q), rotate(k)    x' = x + linear(attend(q, k, v))
//! m = norm(x')   g, u = linear(m)                                      x'' = x' + linear(silu(g) · u)
//! ```
//!
//! (Qwen3 and Gemma norm each head of q and k before they rotate them. Gemma also norms what attention and MLP add to x,
//! and has GELU in place of silu.) After the last layer one more norm, then logits for the rows that carry loss.
//!
//! The backward walks the same lines from the bottom up. Where the forward reads a value twice, as the residual stream
//! before each norm, its gradient is the sum of both uses.

use super::Error;
use super::attention::Attended;
use super::batch::Batch;
use super::decoder_config::{ATTENTION_OUTPUT_NORM, DecoderConfig, Gradients, MLP_OUTPUT_NORM, Weights, layer_name};
use super::embedding::{gather, scatter_add};
use super::matmul::{add_scaled, linear, linear_db, linear_dw, linear_dx};
use super::rmsnorm::{rmsnorm, rmsnorm_backward};
use super::rope::Tables;
use super::swiglu::{gated, gated_backward};

/// What the forward computed, and the backward reads.
#[derive(Clone, Debug)]
pub struct Trace {
    /// The rows that logits were asked for: `[R]`.
    pub rows: Vec<u32>,
    /// `[R, vocab]`.
    pub logits: Vec<f64>,
    /// The residual stream after the last layer, and the final norm of it: both `[T, hidden]`.
    pub last: Vec<f64>,
    pub normed: Vec<f64>,
    pub layers: Vec<LayerTrace>,
    /// Of each layer that rotates.
    rope: Vec<Option<Tables>>,
}

/// The activations of one layer.
#[derive(Clone, Debug)]
pub struct LayerTrace {
    /// The residual stream as it enters, and its norm: `[T, hidden]`.
    pub x: Vec<f64>,
    pub attention_in: Vec<f64>,
    /// q and k as projected, before norm and rotation: `[T, heads · head_dim]`, `[T, kv_heads · head_dim]`.
    pub q_projected: Vec<f64>,
    pub k_projected: Vec<f64>,
    /// q, k and v as attention reads them.
    pub q: Vec<f64>,
    pub k: Vec<f64>,
    pub v: Vec<f64>,
    pub attended: Attended,
    /// Attention and MLP as projected, before their output norms: `[T, hidden]`.
    pub attention_out: Vec<f64>,
    pub mlp_out: Vec<f64>,
    /// The residual stream after attention, and its norm: `[T, hidden]`.
    pub middle: Vec<f64>,
    pub mlp_in: Vec<f64>,
    /// `[T, intermediate]`.
    pub gate: Vec<f64>,
    pub up: Vec<f64>,
    pub activated: Vec<f64>,
}

/// Runs `batch` through the decoder, with logits for `rows` (token indices; the row of token t predicts token t + 1).
pub fn forward(config: &DecoderConfig, weights: &Weights, batch: &Batch, rows: &[u32]) -> Result<Trace, Error> {
    config.check(weights)?;
    batch.check(config.vocab)?;
    if let Some(&row) = rows.iter().find(|&&row| row as usize >= batch.tokens()) {
        return Err(Error::Row { row, tokens: batch.tokens() });
    }
    let table = |inv_freq: &Vec<f64>| Tables::new(inv_freq, &batch.positions, config.rope_scale);
    let rope = config.layers.iter().map(|layer| layer.inv_freq.as_ref().map(table)).collect();
    let pass = Pass { config, weights, batch, rope };

    let mut x = gather(weights.get("model.embed_tokens.weight")?, &batch.ids, config.hidden);
    x.iter_mut().for_each(|x| *x *= config.embedding_scale);
    let mut layers = Vec::with_capacity(config.layers.len());
    for layer in 0..config.layers.len() {
        let (out, trace) = pass.layer(layer, x)?;
        layers.push(trace);
        x = out;
    }
    let normed = pass.norm("model.norm.weight", &x)?;
    let logits = linear(&gather(&normed, rows, config.hidden), weights.get(config.head_name())?, None, config.hidden);
    Ok(Trace { rows: rows.to_vec(), logits, last: x, normed, layers, rope: pass.rope })
}

/// The gradient of every weight, from `dlogits` `[R, vocab]` for the rows of `trace`.
///
/// `trace` must come from [`forward`] with the same `config`, `weights` and `batch`.
pub fn backward(
    config: &DecoderConfig,
    weights: &Weights,
    batch: &Batch,
    trace: &Trace,
    dlogits: &[f64],
) -> Result<Gradients, Error> {
    if dlogits.len() != trace.logits.len() {
        return Err(Error::LogitsGradient { rows: trace.rows.len(), vocab: config.vocab, found: dlogits.len() });
    }
    let mut pass = BackwardPass { config, weights, batch, rope: &trace.rope, gradients: Weights::zeros(config) };

    let carried = gather(&trace.normed, &trace.rows, config.hidden);
    let dcarried = pass.linear(config.head_name(), &carried, dlogits, config.hidden)?;
    let mut dnormed = vec![0.0; trace.normed.len()];
    scatter_add(&mut dnormed, &trace.rows, &dcarried, config.hidden);

    let mut dx = pass.norm("model.norm.weight", &trace.last, &dnormed)?;
    for (layer, kept) in trace.layers.iter().enumerate().rev() {
        dx = pass.layer(layer, kept, dx)?;
    }
    // With tied embeddings this adds to what the head left there.
    dx.iter_mut().for_each(|dx| *dx *= config.embedding_scale);
    scatter_add(pass.gradients.get_mut("model.embed_tokens.weight")?, &batch.ids, &dx, config.hidden);
    Ok(pass.gradients)
}

/// The forward of one batch.
struct Pass<'a> {
    config: &'a DecoderConfig,
    weights: &'a Weights,
    batch: &'a Batch,
    rope: Vec<Option<Tables>>,
}

/// The weight of a norm as it multiplies: stored weight + offset.
fn norm_weight(config: &DecoderConfig, weights: &Weights, name: &str) -> Result<Vec<f64>, Error> {
    Ok(weights.get(name)?.iter().map(|w| w + config.norm_offset).collect())
}

impl Pass<'_> {
    fn layer(&self, layer: usize, x: Vec<f64>) -> Result<(Vec<f64>, LayerTrace), Error> {
        let config = self.config;
        let weight = |name: &str| self.weights.get(&layer_name(layer, name));
        let hidden = config.hidden;

        let attention_in = self.norm(&layer_name(layer, "input_layernorm.weight"), &x)?;
        let q_projected = self.project(layer, "self_attn.q_proj", &attention_in)?;
        let k_projected = self.project(layer, "self_attn.k_proj", &attention_in)?;
        let v = self.project(layer, "self_attn.v_proj", &attention_in)?;
        let q = self.prepare(layer, "self_attn.q_norm.weight", &q_projected)?;
        let k = self.prepare(layer, "self_attn.k_norm.weight", &k_projected)?;
        let attended = config.attention(layer).forward(self.batch.layout(), &q, &k, &v);
        let attention_out = linear(&attended.out, weight("self_attn.o_proj.weight")?, None, config.heads * config.head_dim);
        let mut middle = self.output(layer, ATTENTION_OUTPUT_NORM, &attention_out)?;
        add_scaled(&mut middle, 1.0, &x);

        let mlp_in = self.norm(&layer_name(layer, config.mlp_norm()), &middle)?;
        let gate = linear(&mlp_in, weight("mlp.gate_proj.weight")?, None, hidden);
        let up = linear(&mlp_in, weight("mlp.up_proj.weight")?, None, hidden);
        let activated = gated(config.activation, &gate, &up);
        let mlp_out = linear(&activated, weight("mlp.down_proj.weight")?, None, config.intermediate);
        let mut out = self.output(layer, MLP_OUTPUT_NORM, &mlp_out)?;
        add_scaled(&mut out, 1.0, &middle);

        let trace = LayerTrace {
            x,
            attention_in,
            q_projected,
            k_projected,
            q,
            k,
            v,
            attended,
            attention_out,
            mlp_out,
            middle,
            mlp_in,
            gate,
            up,
            activated,
        };
        Ok((out, trace))
    }

    fn norm(&self, name: &str, x: &[f64]) -> Result<Vec<f64>, Error> {
        Ok(rmsnorm(x, &norm_weight(self.config, self.weights, name)?, self.config.rms_norm_eps))
    }

    /// What a block adds to the residual stream: its projection, normed where the model does so.
    fn output(&self, layer: usize, norm: &str, projected: &[f64]) -> Result<Vec<f64>, Error> {
        if self.config.output_norms { self.norm(&layer_name(layer, norm), projected) } else { Ok(projected.to_vec()) }
    }

    /// A q, k or v projection with its bias, where the model has one.
    fn project(&self, layer: usize, name: &str, x: &[f64]) -> Result<Vec<f64>, Error> {
        let tensor = |suffix: &str| self.weights.get(&layer_name(layer, &format!("{name}.{suffix}")));
        let bias = if self.config.qkv_bias { Some(tensor("bias")?) } else { None };
        Ok(linear(x, tensor("weight")?, bias, self.config.hidden))
    }

    /// Projected q or k heads, normed where the model does so, and rotated where the layer does so.
    fn prepare(&self, layer: usize, norm: &str, projected: &[f64]) -> Result<Vec<f64>, Error> {
        let normed = if self.config.qk_norm { self.norm(&layer_name(layer, norm), projected)? } else { projected.to_vec() };
        Ok(self.rope[layer].as_ref().map(|rope| rope.rotate(&normed)).unwrap_or(normed))
    }
}

/// The backward of one batch. Each method takes dL/d(its output), adds the gradients of its weights to `gradients`, and
/// returns dL/d(its input).
struct BackwardPass<'a> {
    config: &'a DecoderConfig,
    weights: &'a Weights,
    batch: &'a Batch,
    rope: &'a [Option<Tables>],
    gradients: Gradients,
}

impl BackwardPass<'_> {
    fn layer(&mut self, layer: usize, kept: &LayerTrace, dout: Vec<f64>) -> Result<Vec<f64>, Error> {
        let hidden = self.config.hidden;
        let name = |name: &str| layer_name(layer, name);

        // out = middle + norm(down(activation(gate) · up))
        let dmlp_out = self.output(&name(MLP_OUTPUT_NORM), &kept.mlp_out, &dout)?;
        let dactivated = self.linear(&name("mlp.down_proj.weight"), &kept.activated, &dmlp_out, self.config.intermediate)?;
        let (dgate, dup) = gated_backward(self.config.activation, &kept.gate, &kept.up, &dactivated);
        let mut dmlp_in = self.linear(&name("mlp.gate_proj.weight"), &kept.mlp_in, &dgate, hidden)?;
        add_scaled(&mut dmlp_in, 1.0, &self.linear(&name("mlp.up_proj.weight"), &kept.mlp_in, &dup, hidden)?);
        let mut dmiddle = self.norm(&name(self.config.mlp_norm()), &kept.middle, &dmlp_in)?;
        add_scaled(&mut dmiddle, 1.0, &dout);

        // middle = x + norm(o(attend(q, k, v)))
        let q_width = self.config.heads * self.config.head_dim;
        let dattention_out = self.output(&name(ATTENTION_OUTPUT_NORM), &kept.attention_out, &dmiddle)?;
        let dattended = self.linear(&name("self_attn.o_proj.weight"), &kept.attended.out, &dattention_out, q_width)?;
        let qkv = (&kept.q[..], &kept.k[..], &kept.v[..]);
        let (dq, dk, dv) = self.config.attention(layer).backward(self.batch.layout(), qkv, &kept.attended, &dattended);
        let dq = self.prepare(layer, "self_attn.q_norm.weight", &kept.q_projected, &dq)?;
        let dk = self.prepare(layer, "self_attn.k_norm.weight", &kept.k_projected, &dk)?;
        let mut dattention_in = self.project(&name("self_attn.q_proj"), &kept.attention_in, &dq)?;
        add_scaled(&mut dattention_in, 1.0, &self.project(&name("self_attn.k_proj"), &kept.attention_in, &dk)?);
        add_scaled(&mut dattention_in, 1.0, &self.project(&name("self_attn.v_proj"), &kept.attention_in, &dv)?);
        let mut dx = self.norm(&name("input_layernorm.weight"), &kept.x, &dattention_in)?;
        add_scaled(&mut dx, 1.0, &dmiddle);
        Ok(dx)
    }

    fn linear(&mut self, name: &str, x: &[f64], dy: &[f64], inputs: usize) -> Result<Vec<f64>, Error> {
        let weight = self.weights.get(name)?;
        self.gradients.add(name, &linear_dw(dy, x, inputs, weight.len() / inputs))?;
        Ok(linear_dx(dy, weight, inputs))
    }

    fn norm(&mut self, name: &str, x: &[f64], dy: &[f64]) -> Result<Vec<f64>, Error> {
        let weight = norm_weight(self.config, self.weights, name)?;
        let (dx, dw) = rmsnorm_backward(x, &weight, self.config.rms_norm_eps, dy);
        self.gradients.add(name, &dw)?;
        Ok(dx)
    }

    fn output(&mut self, norm: &str, projected: &[f64], dy: &[f64]) -> Result<Vec<f64>, Error> {
        if self.config.output_norms { self.norm(norm, projected, dy) } else { Ok(dy.to_vec()) }
    }

    fn project(&mut self, name: &str, x: &[f64], dy: &[f64]) -> Result<Vec<f64>, Error> {
        if self.config.qkv_bias {
            let bias = format!("{name}.bias");
            let outputs = self.weights.get(&bias)?.len();
            self.gradients.add(&bias, &linear_db(dy, outputs))?;
        }
        self.linear(&format!("{name}.weight"), x, dy, self.config.hidden)
    }

    fn prepare(&mut self, layer: usize, norm: &str, projected: &[f64], dy: &[f64]) -> Result<Vec<f64>, Error> {
        let dnormed = self.rope[layer].as_ref().map_or_else(|| dy.to_vec(), |rope| rope.rotate_backward(dy));
        if self.config.qk_norm { self.norm(&layer_name(layer, norm), projected, &dnormed) } else { Ok(dnormed) }
    }
}

#[cfg(test)]
#[path = "decoder_tests.rs"]
mod tests;
