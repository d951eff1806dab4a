//! The model room.
//!
//! What a Hugging Face directory says (`config`), which tensors it holds (`names`), and how their numbers get in and out:
//! `quantised` is how matrices are packed, `source` is what all weights look like, `checkpoint` reads them from files, `init`
//! makes them from a seed, `save` writes them. On the GPU they are `tensors`, packed as a `weight_policy` says; a model's are its
//! `weights`, with an adapter (`lora`) beside them, and `decoder` runs them: forward, backward, and with a cache.

mod batch;
pub mod checkpoint;
pub mod config;
pub mod decoder;
pub mod dtype;
pub mod error;
pub mod init;
pub mod layout;
pub mod lora;
pub mod names;
pub mod quantised;
pub mod source;
pub mod tensors;
pub mod weight_policy;
pub mod weights;

#[cfg(not(target_arch = "wasm32"))]
#[cfg(not(target_arch = "wasm32"))]
pub mod directory;
#[cfg(not(target_arch = "wasm32"))]
pub mod save;

#[cfg(test)]
mod tests;
