//! Tokenizers and templates from anywhere.
