//! The tokenizer in a GGUF file as the files of a Hugging Face tokenizer.
//!
//! Two kinds are read. `gpt2` is byte-level BPE: tokens, merges, and the name of a pre-tokenizer, whose regular expressions
//! llama.cpp has in its code (`llama-vocab.cpp`). `llama` is SentencePiece: tokens with scores, the best pair is merged first;
//! its merges follow from the scores, as transformers derives them (`convert_slow_tokenizer.py`, `generate_merges`).

use std::collections::HashMap;

use serde_json::{Map, Value as Json, json};

use super::header::Metadata;
use crate::model::error::ModelError;
use crate::text::{Files, TextError};

type Result<T> = std::result::Result<T, TextError>;

/// What a token is, by its number in `tokenizer.ggml.token_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenKind {
    Normal = 1,
    Unknown = 2,
    Control = 3,
    UserDefined = 4,
    Unused = 5,
    Byte = 6,
}

/// SentencePiece's mark of a space.
pub(super) const SPACE: &str = "\u{2581}";

/// GPT-2's contractions, letters, digits, other characters and white space.
pub(super) const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)";
const LLAMA3: &str = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const PUNCTUATION: &str = r"[\p{P}\$\+<=>\^~\|]+";

/// A pre-tokenizer of byte-level BPE: a text is cut by one regular expression after the other.
pub(super) struct PreTokenizer {
    pub name: &'static str,
    pub patterns: &'static [&'static str],
    /// A word that is a token is not merged.
    pub whole_words: bool,
    /// Whether BOS is put in front where the file does not say.
    adds_bos: bool,
}

pub(super) const PRE_TOKENIZERS: &[PreTokenizer] = &[
    PreTokenizer {
        name: "default",
        patterns: &[PUNCTUATION, GPT2, r"\p{N}+", "[0-9][0-9][0-9]"],
        whole_words: false,
        adds_bos: false,
    },
    PreTokenizer { name: "gpt-2", patterns: &[GPT2], whole_words: false, adds_bos: false },
    PreTokenizer { name: "llama-bpe", patterns: &[LLAMA3], whole_words: true, adds_bos: true },
    PreTokenizer { name: "qwen2", patterns: &[QWEN2], whole_words: false, adds_bos: false },
    PreTokenizer { name: "smollm", patterns: &[r"\p{N}", GPT2], whole_words: false, adds_bos: false },
    PreTokenizer { name: "tekken", patterns: &[TEKKEN], whole_words: true, adds_bos: true },
    PreTokenizer { name: "smaug-bpe", patterns: &[LLAMA3], whole_words: false, adds_bos: false },
];

/// The files of the tokenizer.
///
/// # Errors
/// Metadata that is missing or does not fit together; a kind or a pre-tokenizer that is not read, by name.
pub(super) fn files(metadata: Metadata) -> Result<Files> {
    let tokens = Tokens::read(metadata)?;
    let (model, normalizer, pre_tokenizer, decoder, adds_bos) =
        match metadata.required_text("tokenizer.ggml.model").map_err(bad)? {
            "gpt2" => byte_level(metadata, &tokens)?,
            "llama" => sentence_piece(metadata, &tokens)?,
            other => return Err(unsupported("tokenizer.ggml.model", other, "gpt2, llama")),
        };
    let flag = |name: &str| metadata.boolean(&format!("tokenizer.ggml.add_{name}_token")).map_err(bad);
    let (adds_bos, adds_eos) = (flag("bos")?.unwrap_or(adds_bos), flag("eos")?.unwrap_or(false));
    let special = |id: Option<u32>| id.and_then(|id| Some((id, *tokens.texts.get(id as usize)?)));
    let (bos, eos) = (special(tokens.id(metadata, "bos")?), special(tokens.id(metadata, "eos")?));
    let tokenizer = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": tokens.added(),
        "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": frame(bos.filter(|_| adds_bos), eos.filter(|_| adds_eos)),
        "decoder": decoder,
        "model": model,
    });
    let mut config = Map::new();
    let mut set = |name: &str, value: Json| drop(config.insert(name.into(), value));
    set("tokenizer_class", json!("PreTrainedTokenizerFast"));
    set("clean_up_tokenization_spaces", json!(false));
    for (role, name) in [("bos_token", "bos"), ("eos_token", "eos"), ("unk_token", "unknown"), ("pad_token", "padding")] {
        if let Some((_, text)) = special(tokens.id(metadata, name)?) {
            set(role, json!(text));
        }
    }
    if let Some(template) = metadata.text("tokenizer.chat_template").map_err(bad)? {
        set("chat_template", json!(template));
    }
    let mut ends: Vec<u32> = Vec::new();
    for name in ["eos", "eot", "eom"] {
        ends.extend(tokens.id(metadata, name)?.filter(|id| !ends.contains(id)));
    }
    let generation = json!({"bos_token_id": bos.map(|(id, _)| id), "eos_token_id": ends});
    let bytes = |value: &Json| value.to_string().into_bytes();
    Ok(Files::from([
        ("tokenizer.json".to_string(), bytes(&tokenizer)),
        ("tokenizer_config.json".to_string(), bytes(&Json::Object(config))),
        ("generation_config.json".to_string(), bytes(&generation)),
    ]))
}

fn bad(error: ModelError) -> TextError {
    TextError::BadFile { file: "the GGUF file".into(), found: error.to_string(), expected: "a tokenizer".into() }
}

fn unsupported(key: &str, found: &str, supported: &str) -> TextError {
    bad(ModelError::Unsupported { key: key.into(), found: format!("\"{found}\""), supported: supported.into() })
}

fn inconsistent(found: String) -> TextError {
    bad(ModelError::Inconsistent(found))
}

/// The vocabulary.
struct Tokens<'a> {
    texts: Vec<&'a str>,
    types: Vec<i64>,
}

impl<'a> Tokens<'a> {
    fn read(metadata: Metadata<'a>) -> Result<Self> {
        const TOKENS: &str = "tokenizer.ggml.tokens";
        let missing = || bad(ModelError::MissingKey { key: TOKENS.into(), expected: "a list of strings".into() });
        let texts = metadata.texts(TOKENS).map_err(bad)?.ok_or_else(missing)?;
        let types = metadata.integers("tokenizer.ggml.token_type").map_err(bad)?.unwrap_or_default();
        if !types.is_empty() && types.len() != texts.len() {
            return Err(inconsistent(format!("there are {} tokens and types of {}", texts.len(), types.len())));
        }
        Ok(Tokens { texts, types })
    }

    /// The id of a special token.
    fn id(&self, metadata: Metadata, name: &str) -> Result<Option<u32>> {
        let key = format!("tokenizer.ggml.{name}_token_id");
        let id = metadata.unsigned(&key).map_err(bad)?;
        // Some converters write the largest u32 for "none".
        let id = id.filter(|id| *id != u64::from(u32::MAX));
        match id {
            Some(id) if id >= self.texts.len() as u64 => {
                Err(inconsistent(format!("`{key}` is {id}, and there are {} tokens", self.texts.len())))
            }
            id => Ok(id.map(|id| id as u32)),
        }
    }

    /// Tokens that are found in a text before anything else.
    fn added(&self) -> Vec<Json> {
        let one = |(id, (text, kind)): (usize, (&&str, &i64))| {
            let special = *kind == TokenKind::Control as i64;
            (special || *kind == TokenKind::UserDefined as i64).then(|| {
                json!({"id": id, "content": text, "single_word": false, "lstrip": false, "rstrip": false,
                       "normalized": false, "special": special})
            })
        };
        self.texts.iter().zip(&self.types).enumerate().filter_map(one).collect()
    }

    /// The vocabulary by text; of two tokens of one text the first counts.
    fn ids(&self) -> HashMap<&'a str, usize> {
        let mut ids = HashMap::with_capacity(self.texts.len());
        for (id, text) in self.texts.iter().enumerate() {
            ids.entry(*text).or_insert(id);
        }
        ids
    }

    fn vocab(&self) -> Json {
        let ids = self.ids();
        Json::Object(ids.into_iter().map(|(text, id)| (text.to_string(), json!(id))).collect())
    }
}

/// Model, normalizer, pre-tokenizer, decoder, and whether BOS is put in front by default.
type Parts = (Json, Json, Json, Json, bool);

fn byte_level(metadata: Metadata, tokens: &Tokens) -> Result<Parts> {
    const PRE: &str = "tokenizer.ggml.pre";
    let name = metadata.text(PRE).map_err(bad)?.unwrap_or("default");
    let known = || PRE_TOKENIZERS.iter().map(|pre| pre.name).collect::<Vec<_>>().join(", ");
    let pre = PRE_TOKENIZERS.iter().find(|pre| pre.name == name).ok_or_else(|| unsupported(PRE, name, &known()))?;
    const MERGES: &str = "tokenizer.ggml.merges";
    let missing = || bad(ModelError::MissingKey { key: MERGES.into(), expected: "a list of strings".into() });
    let merges = metadata.texts(MERGES).map_err(bad)?.ok_or_else(missing)?;
    let split = |merge: &&str| {
        // A part may begin with a space of its own.
        let at = merge.char_indices().skip(1).find(|(_, c)| *c == ' ').map(|(at, _)| at);
        let at = at.ok_or_else(|| inconsistent(format!("the merge {merge:?} has no space in it")))?;
        Ok(json!([&merge[..at], &merge[at + 1..]]))
    };
    let merges = merges.iter().map(split).collect::<Result<Vec<_>>>()?;
    let mut steps: Vec<Json> = Vec::new();
    for pattern in pre.patterns {
        steps.push(json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false}));
    }
    let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false});
    steps.push(byte_level.clone());
    let model = json!({"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                       "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
                       "ignore_merges": pre.whole_words, "vocab": tokens.vocab(), "merges": merges});
    Ok((model, Json::Null, json!({"type": "Sequence", "pretokenizers": steps}), byte_level, pre.adds_bos))
}

fn sentence_piece(metadata: Metadata, tokens: &Tokens) -> Result<Parts> {
    const SCORES: &str = "tokenizer.ggml.scores";
    let missing = || bad(ModelError::MissingKey { key: SCORES.into(), expected: "a list of numbers".into() });
    let scores = metadata.floats(SCORES).map_err(bad)?.ok_or_else(missing)?;
    if scores.len() != tokens.texts.len() {
        return Err(inconsistent(format!("there are {} tokens and {} scores", tokens.texts.len(), scores.len())));
    }
    let spaced = metadata.boolean("tokenizer.ggml.add_space_prefix").map_err(bad)?.unwrap_or(true);
    let replace = json!({"type": "Replace", "pattern": {"String": " "}, "content": SPACE});
    let mut normalizers = Vec::new();
    if spaced {
        normalizers.push(json!({"type": "Prepend", "prepend": SPACE}));
    }
    normalizers.push(replace);
    let mut decoders = vec![
        json!({"type": "Replace", "pattern": {"String": SPACE}, "content": " "}),
        json!({"type": "ByteFallback"}),
        json!({"type": "Fuse"}),
    ];
    if spaced {
        decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    }
    let unknown = tokens.id(metadata, "unknown")?.and_then(|id| tokens.texts.get(id as usize));
    let model = json!({"type": "BPE", "dropout": null, "unk_token": unknown, "continuing_subword_prefix": null,
                       "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true, "ignore_merges": false,
                       "vocab": tokens.vocab(), "merges": merges_of(tokens, &scores)});
    let normalizer = json!({"type": "Sequence", "normalizers": normalizers});
    Ok((model, normalizer, Json::Null, json!({"type": "Sequence", "decoders": decoders}), true))
}

/// Merges from scores: a pair of tokens whose texts together are a token is merged, the one with the best score first.
fn merges_of(tokens: &Tokens, scores: &[f64]) -> Vec<Json> {
    let ids = tokens.ids();
    let mut merges = Vec::new();
    for (whole, score) in tokens.texts.iter().zip(scores) {
        let mut pairs: Vec<(usize, usize, &str, &str)> = Vec::new();
        for (at, _) in whole.char_indices().skip(1) {
            let (left, right) = whole.split_at(at);
            if let (Some(l), Some(r)) = (ids.get(left), ids.get(right)) {
                pairs.push((*l, *r, left, right));
            }
        }
        pairs.sort_unstable();
        merges.extend(pairs.into_iter().map(|(_, _, left, right)| (*score, left, right)));
    }
    // Stable: pairs of one score stay in the order of the vocabulary.
    merges.sort_by(|a, b| b.0.total_cmp(&a.0));
    merges.into_iter().map(|(_, left, right)| json!([left, right])).collect()
}

/// Puts BOS in front and EOS at the end where the file says so.
fn frame(bos: Option<(u32, &str)>, eos: Option<(u32, &str)>) -> Json {
    if bos.is_none() && eos.is_none() {
        return Json::Null;
    }
    let token = |text: &str| json!({"SpecialToken": {"id": text, "type_id": 0}});
    let around = |id: &str| {
        let first = bos.iter().map(|(_, text)| token(text));
        let last = eos.iter().map(|(_, text)| token(text));
        first.chain([json!({"Sequence": {"id": id, "type_id": 0}})]).chain(last).collect::<Vec<_>>()
    };
    let special: Map<String, Json> =
        bos.iter().chain(&eos).map(|(id, text)| (text.to_string(), json!({"id": text, "ids": [id], "tokens": [text]}))).collect();
    let pair = [around("A"), around("B")].concat();
    json!({"type": "TemplateProcessing", "single": around("A"), "pair": pair, "special_tokens": special})
}
