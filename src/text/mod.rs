//! Text to token ids and back: Hugging Face tokenizers, chat templates, and tokenizers made from scratch.
//!
//! This module is a leaf: it does not depend on models, judges or data files. A [`Tokenizer`] keeps the files it was loaded from,
//! so that a saved checkpoint carries them byte for byte.

mod chat;
mod date;
mod jinja;
mod panics;
mod parts;
mod stream;
mod tokenizer;
mod train;

pub use chat::{ChatOptions, ChatTemplate, concatenate};
pub use date::Date;
pub use jinja::{JinjaTemplate, MAX_TEMPLATE_BYTES, Variable, json_to_template, template_failure};
pub use panics::caught;
pub use stream::StreamDecoder;
pub use tokenizer::{Files, TOKENIZER_FILES, TOOL_USE_FILE, Tokenizer};
pub use train::{SpecialTokens, train_bpe, word_level};

/// Errors of tokenizers and chat templates.
#[derive(Debug, thiserror::Error)]
pub enum TextError {
    /// A file of the tokenizer is missing.
    #[error("{place}: no `{file}` found; {fix}")]
    MissingFile {
        /// The directory, or the caller's name for the set of files.
        place: String,
        /// The missing file.
        file: String,
        /// What to do about it.
        fix: String,
    },
    /// A file could not be read or written.
    #[error("{path}: cannot {action}: {source}")]
    Io {
        /// The path in question.
        path: String,
        /// "read" or "write".
        action: &'static str,
        /// The system's error.
        source: std::io::Error,
    },
    /// A file has the wrong content.
    #[error("`{file}`: {found}; expected {expected}")]
    BadFile {
        /// The file's name.
        file: String,
        /// What was found.
        found: String,
        /// What was expected.
        expected: String,
    },
    /// The tokenizer refused a text or a list of ids.
    #[error("the tokenizer cannot {action}: {found}")]
    Tokenizer {
        /// "encode ..." or "decode ...".
        action: String,
        /// The message of the `tokenizers` crate.
        found: String,
    },
    /// A text that is not a date.
    #[error("{found:?} is no date; write it as 2026-11-30")]
    Date {
        /// The given text.
        found: String,
    },
    /// The chat template failed, or it refused these messages.
    #[error("chat template: {0}")]
    Chat(String),
    /// A tokenizer cannot be made from these settings.
    #[error("cannot make a tokenizer: {0}")]
    Make(String),
}

/// The module's result.
pub type Result<T> = std::result::Result<T, TextError>;

#[cfg(test)]
pub(crate) mod test_files {
    use super::Tokenizer;

    /// A tokenizer under `models/` of the shared directory, or `None` with the reason printed.
    pub fn shared_tokenizer(name: &str) -> Option<Tokenizer> {
        let root = std::env::var("JURIST_SHARED").unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../shared").into());
        let dir = std::path::Path::new(&root).join("models").join(name);
        if !dir.join("tokenizer.json").exists() {
            crate::skip::skip(format!("{} has no tokenizer.json (set JURIST_SHARED)", dir.display()));
            return None;
        }
        Some(Tokenizer::from_dir(&dir).unwrap())
    }
}

#[cfg(test)]
mod tests;
