//! The bundle room: a judge as a few plain files that a browser can fetch, check, cache and stream to its GPU.
//!
//! ```text
//! manifest.json             what it is: config, scale and template, tokenizer, each shard with its size and SHA-256
//! tokenizer.json
//! weights-00001.safetensors shards of at most 64 MB: ordinary safetensors, Hugging Face's names, the model's order
//! ```
//!
//! A matrix that is larger than a shard is cut by rows: its parts have the same name, one in each of consecutive shards.
//!
//! - [`Manifest`]: what `manifest.json` says, checked as a whole;
//! - [`WeightDtype`](crate::ops::weight_dtype::WeightDtype): how matrices are stored; a quantised one (`model::quantised`) is two
//!   arrays, `NAME` with the codes (U32) and `NAME.scales` (F32), in any two shards;
//! - `shards`: which array goes where, and how its numbers are written;
//! - [`ShardReader`]: tensors out of a stream of bytes, whatever the pieces in which it comes;
//! - [`Contents`]: whether all shards together are the model that the manifest describes;
//! - `export` writes one. `model_folder` opens it.
//!
//! A bundle is a model on disk, so its faults are [`ModelError`](crate::model::error::ModelError)s.

mod contents;
mod format;
mod manifest;
mod reader;
mod shards;

#[cfg(not(target_arch = "wasm32"))]
mod export;

pub use contents::{Contents, Part};
pub use format::{Entries, Stored, stored, weight_dtype};
pub use manifest::{FileEntry, MOST_EXAMPLES, Manifest, TokenizerEntry, hex, sha256_hex};
pub use reader::{Piece, ShardReader};
pub use shards::{Shard, ShardPart, plan};

#[cfg(not(target_arch = "wasm32"))]
pub use export::{Exported, export};

/// Name of the file that makes a folder a bundle.
pub const MANIFEST: &str = "manifest.json";

/// Most bytes of a shard, header included: small enough to fetch again, and far below what a browser may hold.
pub const SHARD_BYTES: u64 = 64_000_000;
