//! Checks of a `tokenizer.json` that the `tokenizers` crate does not make. Where parts of the file do not fit together, the crate
//! panics at once or at the first text, and in a browser a panic ends the worker.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

/// The largest factor by which all normalizers (or all decoders) together may lengthen a text.
const MAX_GROWTH: usize = 10_000;

/// The file without its vocabulary.
#[derive(Deserialize)]
struct File {
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    pre_tokenizer: Value,
    #[serde(default)]
    post_processor: Value,
    #[serde(default)]
    decoder: Value,
    #[serde(default)]
    model: Option<Model>,
}

#[derive(Deserialize)]
struct Model {
    #[serde(default)]
    vocab: LongestToken,
    #[serde(default)]
    merges: Vec<Merge>,
    #[serde(default)]
    continuing_subword_prefix: Option<String>,
}

/// Two tokens that merge into one.
#[derive(Deserialize)]
#[serde(untagged)]
enum Merge {
    Text(String),
    Pair(String, String),
}

impl Merge {
    fn tokens(&self) -> Option<(&str, &str)> {
        match self {
            Merge::Text(text) => text.split_once(' '),
            Merge::Pair(left, right) => Some((left, right)),
        }
    }
}

/// The length in bytes of the longest token of a vocabulary.
#[derive(Default)]
struct LongestToken(usize);

impl<'de> Deserialize<'de> for LongestToken {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Tokens;
        impl<'de> Visitor<'de> for Tokens {
            type Value = LongestToken;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a vocabulary")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<LongestToken, A::Error> {
                let mut longest = 0;
                while let Some((token, _)) = map.next_entry::<String, IgnoredAny>()? {
                    longest = longest.max(token.len());
                }
                Ok(LongestToken(longest))
            }

            // The vocabulary of a Unigram model is a list. Such a model has no merges.
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<LongestToken, A::Error> {
                while list.next_element::<IgnoredAny>()?.is_some() {}
                Ok(LongestToken(0))
            }
        }
        deserializer.deserialize_any(Tokens)
    }
}

/// Checks that the parts of a `tokenizer.json` fit together, as far as that can be seen without using it.
///
/// # Errors
/// The part that does not fit.
pub fn check(json: &[u8]) -> Result<(), String> {
    let file: File = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    for (part, value) in [("normalizer", &file.normalizer), ("decoder", &file.decoder)] {
        check_growth(value, part)?;
    }
    for part in [&file.normalizer, &file.pre_tokenizer, &file.post_processor, &file.decoder] {
        visit(part, &|part| check_precompiled(part).and_then(|()| check_template(part)).and_then(|()| check_fixed_length(part)))?;
    }
    file.model.map_or(Ok(()), |model| check_merges(&model))
}

/// Calls `check` on a part and on the parts inside it.
fn visit(part: &Value, check: &dyn Fn(&Value) -> Result<(), String>) -> Result<(), String> {
    check(part)?;
    children(part).try_for_each(|part| visit(part, check))
}

/// The parts of a sequence.
fn children(part: &Value) -> impl Iterator<Item = &Value> {
    ["normalizers", "pretokenizers", "processors", "decoders"].into_iter().filter_map(|key| part.get(key)?.as_array()).flatten()
}

fn kind(part: &Value) -> &str {
    part.get("type").and_then(Value::as_str).unwrap_or_default()
}

fn check_precompiled(part: &Value) -> Result<(), String> {
    if kind(part) != "Precompiled" {
        return Ok(());
    }
    let read = spm_precompiled::Precompiled::deserialize(part);
    read.map(|_| ()).map_err(|error| format!("the normalizer's `precompiled_charsmap` cannot be read: {error}"))
}

/// Checks that a post-processor's template defines the special tokens that it names.
fn check_template(part: &Value) -> Result<(), String> {
    if kind(part) != "TemplateProcessing" {
        return Ok(());
    }
    let pieces = ["single", "pair"].into_iter().filter_map(|key| part.get(key)?.as_array()).flatten();
    for id in pieces.filter_map(|piece| piece.get("SpecialToken")?.get("id")?.as_str()) {
        if part.get("special_tokens").and_then(|tokens| tokens.get(id)).is_none() {
            return Err(format!("the post-processor's template names {id:?}, which is not among its `special_tokens`"));
        }
    }
    Ok(())
}

/// Refuses a pre-tokenizer that cuts pieces of length 0: it would never end.
fn check_fixed_length(part: &Value) -> Result<(), String> {
    match kind(part) == "FixedLength" && part.get("length").and_then(Value::as_u64) == Some(0) {
        true => Err("the pre-tokenizer `FixedLength` has the length 0".into()),
        false => Ok(()),
    }
}

/// Refuses long replacements: a few in sequence would exhaust any memory.
fn check_growth(part: &Value, name: &str) -> Result<(), String> {
    fn factor(part: &Value) -> usize {
        let length = |key: &str| part.get(key).and_then(Value::as_str).map_or(1, |text| text.chars().count());
        let own = match kind(part) {
            "Replace" => length("content"),
            "Prepend" => length("prepend"),
            _ => 1,
        };
        children(part).map(factor).fold(own.max(1), usize::saturating_mul)
    }
    match factor(part) {
        factor if factor > MAX_GROWTH => {
            Err(format!("its {name} may make a text {factor} times as long; at most {MAX_GROWTH} is allowed"))
        }
        _ => Ok(()),
    }
}

/// Checks that no merge makes a token longer than the longest token, and that no right token is shorter than the prefix that is
/// removed from it.
fn check_merges(model: &Model) -> Result<(), String> {
    let prefix = model.continuing_subword_prefix.as_ref().map_or(0, String::len);
    for (left, right) in model.merges.iter().filter_map(Merge::tokens) {
        if !right.is_char_boundary(prefix) || left.len() + right.len() - prefix > model.vocab.0 {
            return Err(format!("the merge of {left:?} and {right:?} makes a token that is not in the vocabulary"));
        }
    }
    Ok(())
}
