//! Models: files, weights on the GPU, and the decoder.
//!
//! `config` reads `config.json` and `names` lists the tensors. `source` is the interface of all weights: `checkpoint` reads them
//! from files, `init` draws them from a seed, `save` writes them. `quantised` packs matrices. On the GPU weights are `tensors`,
//! held as a `weight_policy` says. A model has `weights` and may have an adapter (`lora`). `decoder` runs them: forward,
//! backward, and with a cache.

mod batch;
pub mod checkpoint;
pub mod config;
pub mod decoder;
pub mod dtype;
pub mod error;
pub mod init;
pub mod lora;
pub mod names;
pub mod quantised;
pub mod shard_layout;
pub mod source;
pub mod tensors;
pub mod weight_policy;
pub mod weights;

#[cfg(not(target_arch = "wasm32"))]
pub mod directory;
#[cfg(not(target_arch = "wasm32"))]
pub mod save;

#[cfg(test)]
pub(crate) mod tests;
