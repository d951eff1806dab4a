//! Tokenizers made from scratch, so that nothing has to be downloaded: a byte-level BPE learned from texts, and a word-level
//! tokenizer for synthetic tasks with a known vocabulary.

use serde_json::{Value, json};
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::{AddedToken, PostProcessorWrapper, PreTokenizerWrapper};

use super::{Files, Result, TextError, Tokenizer, caught};

/// The special tokens of a tokenizer made from scratch. Their ids come first, in this order. Absent roles take no id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpecialTokens {
    /// The unknown token. Byte-level BPE does not need it; a word-level tokenizer requires it.
    pub unk: Option<String>,
    /// The padding token of other tools. This crate packs sequences and never pads.
    pub pad: Option<String>,
    /// Begins a text.
    pub bos: Option<String>,
    /// Ends a text.
    pub eos: Option<String>,
    /// Further tokens that are never split.
    pub extra: Vec<String>,
    /// Whether encoding with special tokens puts `bos` first.
    pub add_bos: bool,
}

impl SpecialTokens {
    /// The usual set for a decoder trained from scratch: pad, BOS (put first) and EOS.
    pub fn for_decoder() -> Self {
        SpecialTokens {
            pad: Some("<|pad|>".into()),
            bos: Some("<|bos|>".into()),
            eos: Some("<|eos|>".into()),
            add_bos: true,
            ..Default::default()
        }
    }

    fn roles(&self) -> [(&'static str, Option<&str>); 4] {
        [
            ("unk_token", self.unk.as_deref()),
            ("pad_token", self.pad.as_deref()),
            ("bos_token", self.bos.as_deref()),
            ("eos_token", self.eos.as_deref()),
        ]
    }

    /// The distinct special tokens in the order of their ids.
    fn texts(&self) -> Result<Vec<&str>> {
        let mut texts: Vec<&str> = Vec::new();
        let roles = self.roles();
        for text in roles.iter().filter_map(|(_, text)| *text).chain(self.extra.iter().map(String::as_str)) {
            if text.is_empty() {
                return Err(TextError::Make("a special token is the empty text; give it a name such as `<|bos|>`".into()));
            }
            if !texts.contains(&text) {
                texts.push(text);
            }
        }
        if self.add_bos && self.bos.is_none() {
            return Err(TextError::Make("`add_bos` is set, but there is no BOS token; name one".into()));
        }
        Ok(texts)
    }

    /// `tokenizer_config.json` as transformers reads it.
    fn config(&self) -> Value {
        let mut config = json!({
            "tokenizer_class": "PreTrainedTokenizerFast",
            "clean_up_tokenization_spaces": false,
            "add_bos_token": self.add_bos,
            "add_eos_token": false,
        });
        for (role, text) in self.roles() {
            if let Some(text) = text {
                config[role] = json!(text);
            }
        }
        config
    }

    /// The post-processor that puts BOS first, if `add_bos` is set.
    fn post_processor(&self, id_of: impl Fn(&str) -> Option<u32>) -> Option<Value> {
        let bos = self.bos.as_deref().filter(|_| self.add_bos)?;
        let id = id_of(bos)?;
        let special = |type_id: u32| json!({"SpecialToken": {"id": bos, "type_id": type_id}});
        let sequence = |name: &str, type_id: u32| json!({"Sequence": {"id": name, "type_id": type_id}});
        Some(json!({
            "type": "TemplateProcessing",
            "single": [special(0), sequence("A", 0)],
            "pair": [special(0), sequence("A", 0), special(1), sequence("B", 1)],
            "special_tokens": {bos: {"id": bos, "ids": [id], "tokens": [bos]}},
        }))
    }
}

/// Learns a byte-level BPE tokenizer. The 256 bytes are always in its vocabulary, so every text encodes and decodes back exactly.
///
/// Every digit is its own token and never merges with a space, so that the scores of a scale "1..5" are single tokens in any
/// context. The result depends on the texts only, not on their order or on the number of threads. With little data the vocabulary
/// stays smaller than `vocab_size`, which counts bytes and special tokens too.
///
/// # Errors
/// A vocabulary too small for the bytes and special tokens; no text at all; malformed special tokens.
pub fn train_bpe<S>(texts: impl Iterator<Item = S> + Send, vocab_size: usize, special: &SpecialTokens) -> Result<Tokenizer>
where
    S: AsRef<str> + Send,
{
    let make = |error: tokenizers::Error| TextError::Make(error.to_string());
    let special_texts = special.texts()?;
    let smallest = 256 + special_texts.len();
    if vocab_size < smallest {
        return Err(TextError::Make(format!(
            "a vocabulary of {vocab_size} has no room for 256 bytes and {} special tokens; ask for at least {smallest}",
            special_texts.len()
        )));
    }
    let mut trainer = BpeTrainer::builder()
        .vocab_size(vocab_size)
        .min_frequency(2)
        .show_progress(false)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .special_tokens(special_texts.iter().map(|text| AddedToken::from(*text, true)).collect())
        .build();

    let bytes = ByteLevel::new(false, true, true);
    let mut inner = tokenizers::Tokenizer::new(BPE::default());
    inner.with_pre_tokenizer(Some(PreTokenizerWrapper::Sequence(Sequence::new(vec![
        PreTokenizerWrapper::Digits(Digits::new(true)),
        PreTokenizerWrapper::ByteLevel(bytes),
    ]))));
    inner.with_decoder(Some(bytes));
    let mut characters = 0usize;
    // Counting here keeps a single pass over the iterator.
    let counted = texts.inspect(|text| characters += text.as_ref().len());
    let trained = caught(|| inner.train(&mut as_wrapper(&mut trainer), counted).map(|_| ()));
    trained.map_err(TextError::Make)?.map_err(make)?;
    if characters == 0 {
        return Err(TextError::Make("there is no text to learn from: every text is empty".into()));
    }
    if let Some(post_processor) = special.post_processor(|text| inner.token_to_id(text)) {
        let post_processor: PostProcessorWrapper =
            serde_json::from_value(post_processor).map_err(|error| TextError::Make(error.to_string()))?;
        inner.with_post_processor(Some(post_processor));
    }
    from_parts(inner.to_string(true).map_err(make)?, special)
}

/// `Tokenizer::train` of the general tokenizer takes the general trainer.
fn as_wrapper(trainer: &mut BpeTrainer) -> tokenizers::models::TrainerWrapper {
    tokenizers::models::TrainerWrapper::BpeTrainer(std::mem::take(trainer))
}

/// A word-level tokenizer over a known vocabulary. Text is split at white space, each word is one token, and an unlisted word
/// becomes `special.unk`.
///
/// Special tokens that are not among `words` get the first ids; the words follow in the given order. Decoding joins words with
/// one space.
///
/// # Errors
/// No unknown token, no words, a word listed twice, or a word that is empty or contains white space (it could never match).
pub fn word_level(words: &[&str], special: &SpecialTokens) -> Result<Tokenizer> {
    let Some(unk) = special.unk.as_deref() else {
        return Err(TextError::Make("a word-level tokenizer needs an unknown token, such as `<unk>`".into()));
    };
    if words.is_empty() {
        return Err(TextError::Make("the list of words is empty".into()));
    }
    let special_texts = special.texts()?;
    let mut vocab = serde_json::Map::new();
    let new_specials = special_texts.iter().filter(|text| !words.contains(text));
    for (id, word) in new_specials.chain(words).enumerate() {
        if word.is_empty() || word.contains(char::is_whitespace) {
            return Err(TextError::Make(format!("the word {word:?} is empty or holds white space, and could never match")));
        }
        if vocab.insert((*word).to_string(), json!(id)).is_some() {
            return Err(TextError::Make(format!("the word {word:?} is listed twice")));
        }
    }
    let added: Vec<Value> = special_texts
        .iter()
        .map(|text| {
            // Match whole words only: a special `pad` must not cut `padding` in two.
            json!({"id": vocab[*text], "content": text, "single_word": true, "lstrip": false, "rstrip": false,
                   "normalized": false, "special": true})
        })
        .collect();
    let post_processor = special.post_processor(|text| vocab.get(text).and_then(Value::as_u64).map(|id| id as u32));
    let tokenizer = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": null,
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "post_processor": post_processor,
        "decoder": null,
        "model": {"type": "WordLevel", "vocab": vocab, "unk_token": unk},
    });
    from_parts(tokenizer.to_string(), special)
}

fn from_parts(tokenizer_json: String, special: &SpecialTokens) -> Result<Tokenizer> {
    let config = serde_json::to_vec_pretty(&special.config()).map_err(|error| TextError::Make(error.to_string()))?;
    Tokenizer::from_files(Files::from([
        ("tokenizer.json".to_string(), tokenizer_json.into_bytes()),
        ("tokenizer_config.json".to_string(), config),
    ]))
}
