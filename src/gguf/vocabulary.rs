//! A tokenizer as the metadata of a GGUF file, under the names that llama.cpp has for its parts.

use std::collections::HashMap;

use serde_json::Value as Json;

use super::header::Value;
use super::tokenizer::{GPT2, PRE_TOKENIZERS, SPACE, TokenKind};
use crate::model::error::ModelError;
use crate::text::{ChatTemplate, Tokenizer};

type Pairs = Vec<(String, Value)>;

/// The metadata of `tokenizer`, for an embedding of `rows` rows.
///
/// # Errors
/// A tokenizer that llama.cpp has no name for.
pub(super) fn vocabulary(tokenizer: &Tokenizer, rows: usize) -> Result<Pairs, ModelError> {
    let json = tokenizer.files().get("tokenizer.json").map(Vec::as_slice).unwrap_or_default();
    let json: Json = serde_json::from_slice(json).map_err(|e| ModelError::Json(e.to_string()))?;
    let model = &json["model"];
    if model["type"] != "BPE" {
        return Err(nameless(&format!("its model is {}", model["type"])));
    }
    let special: HashMap<u64, bool> = json["added_tokens"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|token| Some((token["id"].as_u64()?, token["special"].as_bool().unwrap_or(false))))
        .collect();
    let is_sentence_piece = model["byte_fallback"] == true;
    let kind = |id: usize, text: &str| match special.get(&(id as u64)) {
        Some(true) => TokenKind::Control,
        Some(false) => TokenKind::UserDefined,
        None if is_sentence_piece && is_byte(text) => TokenKind::Byte,
        None if model["unk_token"] == text => TokenKind::Unknown,
        None => TokenKind::Normal,
    };
    let (mut texts, mut kinds) = (Vec::new(), Vec::new());
    for id in 0..rows.max(tokenizer.vocab_size()) {
        match tokenizer.id_to_token(id as u32) {
            Some(text) => {
                kinds.push(Value::Signed(kind(id, &text) as i64));
                texts.push(text);
            }
            None => {
                kinds.push(Value::Signed(TokenKind::Unused as i64));
                texts.push(format!("[PAD{id}]"));
            }
        }
    }
    let merges = merges(model);
    let mut pairs: Pairs = Vec::new();
    let mut set = |name: &str, value: Value| pairs.push((format!("tokenizer.ggml.{name}"), value));
    if is_sentence_piece {
        set("model", Value::Text("llama".into()));
        set("add_space_prefix", Value::Bool(space_prefix(&json)?));
        set("scores", Value::List(scores(&texts, &merges).into_iter().map(Value::Float).collect()));
    } else {
        set("model", Value::Text("gpt2".into()));
        set("pre", Value::Text(pre_tokenizer(&json["pre_tokenizer"], model["ignore_merges"] == true)?.into()));
        set("merges", Value::List(merges.iter().map(|(l, r)| Value::Text(format!("{l} {r}"))).collect()));
    }
    set("tokens", Value::List(texts.iter().map(|text| Value::Text(text.clone())).collect()));
    set("token_type", Value::List(kinds));
    for (role, name) in [("bos_token", "bos"), ("eos_token", "eos"), ("unk_token", "unknown"), ("pad_token", "padding")] {
        let id = tokenizer.special_text(role).and_then(|text| tokenizer.token_to_id(text));
        if let Some(id) = id {
            set(&format!("{name}_token_id"), Value::Unsigned(u64::from(id)));
        }
    }
    if let Some(second) = tokenizer.eos_ids().get(1) {
        set("eot_token_id", Value::Unsigned(u64::from(*second)));
    }
    let framed = tokenizer.encode("", true).unwrap_or_default();
    set("add_bos_token", Value::Bool(framed.first().is_some_and(|id| tokenizer.bos_id() == Some(*id))));
    set("add_eos_token", Value::Bool(framed.len() > 1 && framed.last().is_some_and(|id| tokenizer.eos_ids().contains(id))));
    let template = ChatTemplate::source_of(tokenizer).map_err(|e| ModelError::Inconsistent(e.to_string()))?;
    if let Some(source) = template {
        pairs.push(("tokenizer.chat_template".into(), Value::Text(source)));
    }
    Ok(pairs)
}

fn nameless(found: &str) -> ModelError {
    let names = PRE_TOKENIZERS.iter().map(|pre| pre.name).collect::<Vec<_>>().join(", ");
    ModelError::Unsupported {
        key: "tokenizer.json".into(),
        found: format!("a tokenizer that llama.cpp has no name for ({found})"),
        supported: format!(
            "SentencePiece BPE with byte fallback, and byte-level BPE as {names}; export a bundle (--format bundle)"
        ),
    }
}

/// `<0x0A>`: a token of one byte.
fn is_byte(text: &str) -> bool {
    let digits = text.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
    digits.is_some_and(|digits| digits.len() == 2 && u8::from_str_radix(digits, 16).is_ok())
}

/// Merges are pairs, or texts with a space between the two.
fn merges(model: &Json) -> Vec<(String, String)> {
    let one = |merge: &Json| match merge {
        Json::String(text) => text.split_once(' ').map(|(l, r)| (l.to_string(), r.to_string())),
        pair => Some((pair[0].as_str()?.to_string(), pair[1].as_str()?.to_string())),
    };
    model["merges"].as_array().into_iter().flatten().filter_map(one).collect()
}

/// A token is merged the sooner, the earlier the first merge that makes it.
fn scores(texts: &[String], merges: &[(String, String)]) -> Vec<f64> {
    let mut rank: HashMap<String, usize> = HashMap::new();
    for (at, (left, right)) in merges.iter().enumerate() {
        rank.entry(format!("{left}{right}")).or_insert(at);
    }
    texts.iter().map(|text| rank.get(text).map_or(0.0, |rank| -(*rank as f64) - 1.0)).collect()
}

/// Whether SentencePiece puts a space in front of a text.
fn space_prefix(json: &Json) -> Result<bool, ModelError> {
    let parts = |key: &str| match &json[key]["type"] {
        kind if kind == "Sequence" => json[key]["normalizers"].as_array().or(json[key]["pretokenizers"].as_array()).cloned(),
        Json::Null => None,
        _ => Some(vec![json[key].clone()]),
    };
    let mut prefix = false;
    for part in parts("normalizer").into_iter().chain(parts("pre_tokenizer")).flatten() {
        match part["type"].as_str().unwrap_or_default() {
            "Prepend" if part["prepend"] == SPACE => prefix = true,
            "Replace" if part["pattern"]["String"] == " " && part["content"] == SPACE => {}
            "Metaspace" if part["replacement"] == SPACE => prefix |= part["prepend_scheme"] != "never",
            // Cuts where no token lies across.
            "Split" if part["pattern"]["String"] == " " => {}
            other => return Err(nameless(&format!("its {other} step"))),
        }
    }
    Ok(prefix)
}

/// llama.cpp's name for how a text is cut before byte-level BPE.
fn pre_tokenizer(json: &Json, whole_words: bool) -> Result<&'static str, ModelError> {
    let steps = match json["type"] == "Sequence" {
        true => json["pretokenizers"].as_array().cloned().unwrap_or_default(),
        false => vec![json.clone()],
    };
    let mut patterns: Vec<String> = Vec::new();
    for step in &steps {
        match step["type"].as_str().unwrap_or_default() {
            "Split" if step["behavior"] == "Isolated" && step["invert"] != true => {
                let pattern = step["pattern"]["Regex"].as_str();
                patterns.push(pattern.ok_or_else(|| nameless("a pattern that is not a regular expression"))?.into());
            }
            "Digits" if step["individual_digits"] == true => patterns.push(r"\p{N}".into()),
            "ByteLevel" if step["add_prefix_space"] != true => {
                if step["use_regex"] != false {
                    patterns.push(GPT2.into());
                }
            }
            other => return Err(nameless(&format!("its {other} step"))),
        }
    }
    let same = |ours: &[&str]| ours.len() == patterns.len() && ours.iter().zip(&patterns).all(|(a, b)| plain(a) == plain(b));
    let of_patterns = || PRE_TOKENIZERS.iter().filter(|pre| same(pre.patterns));
    let found = of_patterns().find(|pre| pre.whole_words == whole_words);
    found.map(|pre| pre.name).ok_or_else(|| nameless(&format!("it cuts texts by {patterns:?}")))
}

/// A regular expression in one of the two ways in which contractions are written.
fn plain(pattern: &str) -> String {
    pattern.replace("(?i:'s|'t|'re|'ve|'m|'ll|'d)", "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])")
}
