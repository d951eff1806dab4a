//! Parts of a `tokenizer.json` that the `tokenizers` crate takes on trust: where they do not fit together it panics, at once or
//! at the first text, and in a browser that ends the worker.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

/// How many times longer all normalizers (or all decoders) together may make a text.
const GROWTH: usize = 10_000;

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
    vocab: Longest,
    #[serde(default)]
    merges: Vec<Merge>,
    #[serde(default)]
    continuing_subword_prefix: Option<String>,
}

/// Two tokens that become one.
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

/// Bytes of the longest token of a vocabulary.
#[derive(Default)]
struct Longest(usize);

impl<'de> Deserialize<'de> for Longest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Tokens;
        impl<'de> Visitor<'de> for Tokens {
            type Value = Longest;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a vocabulary")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Longest, A::Error> {
                let mut longest = 0;
                while let Some((token, _)) = map.next_entry::<String, IgnoredAny>()? {
                    longest = longest.max(token.len());
                }
                Ok(Longest(longest))
            }

            // Of a Unigram model, which has no merges.
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Longest, A::Error> {
                while list.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Longest(0))
            }
        }
        deserializer.deserialize_any(Tokens)
    }
}

/// Whether the parts of a `tokenizer.json` fit together, as far as that can be seen without using it.
///
/// # Errors
/// What does not.
pub fn check(json: &[u8]) -> Result<(), String> {
    let file: File = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    for (part, value) in [("normalizer", &file.normalizer), ("decoder", &file.decoder)] {
        growth(value, part)?;
    }
    for part in [&file.normalizer, &file.pre_tokenizer, &file.post_processor, &file.decoder] {
        every(part, &|part| precompiled(part).and_then(|()| template(part)).and_then(|()| lengths(part)))?;
    }
    file.model.map_or(Ok(()), |model| merges(&model))
}

/// Calls `check` on a part and on those inside it.
fn every(part: &Value, check: &dyn Fn(&Value) -> Result<(), String>) -> Result<(), String> {
    check(part)?;
    inside(part).try_for_each(|part| every(part, check))
}

/// The parts of a sequence.
fn inside(part: &Value) -> impl Iterator<Item = &Value> {
    ["normalizers", "pretokenizers", "processors", "decoders"].into_iter().filter_map(|key| part.get(key)?.as_array()).flatten()
}

fn kind(part: &Value) -> &str {
    part.get("type").and_then(Value::as_str).unwrap_or_default()
}

fn precompiled(part: &Value) -> Result<(), String> {
    if kind(part) != "Precompiled" {
        return Ok(());
    }
    let read = spm_precompiled::Precompiled::deserialize(part);
    read.map(|_| ()).map_err(|error| format!("the normalizer's `precompiled_charsmap` cannot be read: {error}"))
}

/// The special tokens of a post-processor's template are defined in it.
fn template(part: &Value) -> Result<(), String> {
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

/// A pre-tokenizer that cuts pieces of no length never ends.
fn lengths(part: &Value) -> Result<(), String> {
    match kind(part) == "FixedLength" && part.get("length").and_then(Value::as_u64) == Some(0) {
        true => Err("the pre-tokenizer `FixedLength` has the length 0".into()),
        false => Ok(()),
    }
}

/// A few replacements of one character by many, one behind another, fill any memory.
fn growth(part: &Value, name: &str) -> Result<(), String> {
    fn factor(part: &Value) -> usize {
        let length = |key: &str| part.get(key).and_then(Value::as_str).map_or(1, |text| text.chars().count());
        let own = match kind(part) {
            "Replace" => length("content"),
            "Prepend" => length("prepend"),
            _ => 1,
        };
        inside(part).map(factor).fold(own.max(1), usize::saturating_mul)
    }
    match factor(part) {
        factor if factor > GROWTH => {
            Err(format!("its {name} may make a text {factor} times as long; at most {GROWTH} is allowed"))
        }
        _ => Ok(()),
    }
}

/// No merge makes a token that is longer than all tokens, and none is shorter than the prefix that is taken off it.
fn merges(model: &Model) -> Result<(), String> {
    let prefix = model.continuing_subword_prefix.as_ref().map_or(0, String::len);
    for (left, right) in model.merges.iter().filter_map(Merge::tokens) {
        if !right.is_char_boundary(prefix) || left.len() + right.len() - prefix > model.vocab.0 {
            return Err(format!("the merge of {left:?} and {right:?} makes a token that is not in the vocabulary"));
        }
    }
    Ok(())
}
