//! Bundles: a judge as a few plain files that a browser can fetch, check, cache and stream to its GPU.
//!
//! ```text
//! manifest.json             the description: config, scale and template, tokenizer, each shard with its size and SHA-256
//! tokenizer.json
//! adapter_model.safetensors a LoRA adapter beside the weights, if there is one, as PEFT stores it
//! weights-00001.safetensors shards of at most 64 MB: ordinary safetensors, Hugging Face's names, the model's order
//! ```
//!
//! A matrix larger than a shard is cut by rows. Its parts have the same name and lie in consecutive shards.
//!
//! - [`Manifest`]: the content of `manifest.json`, checked as a whole;
//! - [`WeightDtype`](crate::ops::weight_dtype::WeightDtype): the storage of matrices; a quantised matrix (`model::quantised`) is
//!   two arrays, `NAME` with the codes (U32) and `NAME.scales` (F32), in any two shards;
//! - `shards`: the distribution of arrays over shards, and the encoding of their values;
//! - [`ShardReader`]: reads tensors from a stream of bytes in chunks of any size;
//! - [`Contents`]: checks that all shards together are the model that the manifest describes;
//! - `export` writes a bundle. `model_folder` opens it.
//!
//! A bundle is a model on disk, so its errors are [`ModelError`](crate::model::error::ModelError)s.

mod contents;
mod format;
mod manifest;
mod reader;
mod shards;

#[cfg(not(target_arch = "wasm32"))]
mod export;

pub use contents::{ArrayPart, Contents};
pub use format::{EntryFormat, StoredArray, manifest_name, stored_arrays, weight_dtype};
pub use manifest::{AdapterEntry, FileEntry, MAX_EXAMPLES, Manifest, TokenizerEntry, hex, sha256_hex};
pub use reader::{ShardReader, TensorChunk};
pub use shards::{HeldScales, Shard, ShardPart, plan_shards};

#[cfg(not(target_arch = "wasm32"))]
pub use export::{BundleInput, Label, export};

/// The file that makes a folder a bundle.
pub const MANIFEST: &str = "manifest.json";

/// The most bytes of a shard, header included: small enough to fetch again, and far below a browser's limits.
pub const SHARD_BYTES: u64 = 64_000_000;
