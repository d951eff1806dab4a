//! The executable specification: every operation of a decoder-only transformer, and the decoder itself, as plain `f64`
//! loops, forward and backward. The tests and `jurist doctor` compare the WGSL kernels with these functions.
//!
//! Nothing here is fast and nothing is clever: a formula, and the loop that computes it. `shaders/x.wgsl` and `ops/x.rs` are
//! specified in `reference/x.rs`. Read the files in the order in which a token travels:
//!
//! | file             | forward                                          | backward needs                            |
//! |------------------|--------------------------------------------------|-------------------------------------------|
//! | [`embedding`]    | `x = E[id]`                                      | the ids                                   |
//! | [`rmsnorm`]      | y = w · x / rms(x)                               | x                                         |
//! | [`matmul`]       | y = x Wᵀ + b                                     | x for dW, W for dx                        |
//! | [`matmul_packed`] | W from codes and scales                         | nothing: packed weights are frozen        |
//! | [`dropout`]      | y = mask · x / (1 - p)                           | nothing: the mask is drawn again          |
//! | [`rope`]         | rotates pairs of q and k by position             | nothing: the inverse rotation             |
//! | [`attention`]    | softmax(q kᵀ/√d) v over the keys a token may see | q, k, v, out, and one log-sum-exp per row |
//! | [`swiglu`]       | activation(gate) · up                            | gate and up                               |
//! | [`decoder`]      | all of the above, layer by layer                 | the activations kept in its `Trace`       |
//! | [`loss_head`]    | losses of one row of logits                      | the logits                                |
//! | [`grad_norm`]    | gradient clipping                                |                                           |
//! | [`adamw`]        | the update of a weight                           |                                           |
//! | [`sample`]       | a token drawn from a row of logits               |                                           |
//!
//! # Conventions
//!
//! - Matrices are row-major slices; `[T, H]` means T rows of H numbers. Weights are `[outputs, inputs]`, as in PyTorch.
//! - `d` before a name is the derivative of the (scalar) loss by that quantity: `dx` = dL/dx, of the same shape as `x`.
//! - Backward functions *return* gradients. A caller that uses one input several times adds the gradients up (the chain rule's
//!   sum over paths).
//! - The operations trust shapes, token ids and row indices, and panic on wrong ones. [`decoder::forward`] and
//!   [`decoder::backward`] take foreign input and check it first: a bad batch ends in an [`Error`], not in a panic.

pub mod adamw;
pub mod add;
pub mod attention;
pub mod batch;
pub mod column_squares;
pub mod decoder;
pub mod decoder_config;
pub mod dropout;
pub mod embedding;
pub mod grad_norm;
pub mod loss_head;
pub mod matmul;
pub mod matmul_packed;
pub mod rmsnorm;
pub mod rope;
pub mod sample;
pub mod swiglu;

#[cfg(test)]
mod check;
#[cfg(test)]
mod golden;

pub use batch::Batch;
pub use decoder::{Trace, backward, forward};
pub use decoder_config::{DecoderConfig, Gradients, Weights};

/// What can be wrong with a specification, its weights, a batch, or a label.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the decoder specification is inconsistent: {0}")]
    Config(String),
    #[error("weight `{name}` is missing; the specification asks for shape {shape:?}")]
    MissingWeight { name: String, shape: Vec<usize> },
    #[error("weight `{name}` has {found} entries, expected {shape:?}; is it from another model?")]
    WeightLength { name: String, shape: Vec<usize>, found: usize },
    #[error("weight `{name}` is not part of this specification; leave it out, or correct the specification")]
    UnexpectedWeight { name: String },
    #[error("the batch is inconsistent: {0}")]
    Batch(String),
    #[error("token {index} has id {id}, but the vocabulary has {vocab} entries; is the tokenizer of this model?")]
    TokenId { index: usize, id: u32, vocab: usize },
    #[error("logits are asked for at row {row}, but the batch has {tokens} tokens")]
    Row { row: u32, tokens: usize },
    #[error("the gradient of the logits has {found} entries, expected {rows} rows of {vocab}")]
    LogitsGradient { rows: usize, vocab: usize, found: usize },
    #[error("label {label} lies outside the scale {min} to {max}; correct the label or the scale")]
    Label { label: f64, min: f64, max: f64 },
}
