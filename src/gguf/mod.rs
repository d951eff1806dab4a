//! GGUF files, as llama.cpp, Ollama and LM Studio keep models: one file with metadata, tokenizer and tensors.
//!
//! ```text
//! header     metadata (architecture, sizes, tokenizer, chat template) and where each tensor lies
//! blocks     the block formats of ggml, decoded to f32
//! config     metadata ─► the config.json of the same model
//! tokenizer  metadata ─► the tokenizer.json and tokenizer_config.json of the same tokenizer
//! weights    tensors under their Hugging Face names, as a `TensorSource`
//! export     the other way: a model, its tokenizer (vocabulary) and a judge's settings as one file
//! ```
//!
//! A model from a GGUF file is from then on like one from a Hugging Face folder: the same config, the same names, the same
//! tokenizer files. Little-endian files of versions 2 and 3 are read.
//!
//! Format: `docs/gguf.md` in the ggml repository.

mod blocks;
mod config;
mod export;
mod families;
mod header;
#[cfg(test)]
mod tests;
mod tokenizer;
mod vocabulary;
mod weights;

pub use blocks::BlockFormat;
pub use export::{GgufExport, Written, export};
pub use header::{Header, TensorInfo, Value};
pub use weights::GgufModel;

const MAGIC: &[u8; 4] = b"GGUF";
const DEFAULT_ALIGNMENT: usize = 32;

/// The ending of a GGUF file's name.
pub const ENDING: &str = "gguf";

/// Whether the name of `path` is that of a GGUF file.
pub fn is_gguf(path: &std::path::Path) -> bool {
    path.extension().is_some_and(|ending| ending == ENDING)
}

/// Whether a file's name says that it is a later part of a split model.
pub fn is_later_split(path: &std::path::Path) -> bool {
    let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
    let number = name.rsplit_once("-of-").and_then(|(front, _)| front.rsplit_once('-')).map(|(_, number)| number);
    number.is_some_and(|number| number.len() == 5 && number.parse::<u32>().is_ok_and(|n| n > 1))
}

/// The metadata key under which jurist writes `judge.json` into a GGUF file.
pub const JUDGE_KEY: &str = "jurist.judge";
