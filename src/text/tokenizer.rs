//! A tokenizer loaded from a Hugging Face directory, with its BOS, EOS and other special tokens.

use std::collections::BTreeMap;

use serde_json::Value;

#[cfg(not(target_arch = "wasm32"))]
use super::chat::{TOOL_USE, template_text, templates_of_config};
use super::{Result, TextError, caught, parts};

/// Files by name: the content of a Hugging Face directory in memory (the browser has no directory).
pub type Files = BTreeMap<String, Vec<u8>>;

/// The files that make up a tokenizer. Every checkpoint carries those present byte for byte, except `tokenizer_config.json` where
/// [`TOOL_USE_FILE`] is present too.
pub const TOKENIZER_FILES: [&str; 9] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "generation_config.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
];

/// The file with the chat template for conversations with tools. Its text is moved into the list `chat_template` of
/// `tokenizer_config.json`, which is equivalent.
pub const TOOL_USE_FILE: &str = "additional_chat_templates/tool_use.jinja";

/// Texts that rarely merge with the text after them; see [`Tokenizer::encode_continuation`].
const ANCHORS: [&str; 3] = ["\n", "\u{1}", "."];

/// A Hugging Face tokenizer, its special tokens, and the files it came from.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    files: Files,
    special: BTreeMap<String, String>,
    bos: Option<u32>,
    eos: Vec<u32>,
    vocab_size: usize,
    prepends_space: bool,
}

impl Tokenizer {
    /// Loads the files of a Hugging Face directory. `tokenizer.json` is required. `config.json` is read for the ids of BOS and
    /// EOS but not kept (it belongs to the model). Other names are ignored.
    ///
    /// EOS ids are the union, in this order, of `eos_token_id` (a number or a list) in `generation_config.json` and in
    /// `config.json`, and of `eos_token` in `tokenizer_config.json` or `special_tokens_map.json`. BOS is `bos_token` of the
    /// tokenizer's own files where they mention it, else `bos_token_id`.
    ///
    /// # Errors
    /// A missing `tokenizer.json`, or a malformed file.
    pub fn from_files(files: Files) -> Result<Self> {
        let Some(json) = files.get("tokenizer.json") else {
            return Err(TextError::MissingFile {
                place: "tokenizer".into(),
                file: "tokenizer.json".into(),
                fix: "older models come with `tokenizer.model` only: load them once with transformers and save them \
                      (`AutoTokenizer.from_pretrained(d).save_pretrained(d)`)"
                    .into(),
            });
        };
        let bad = |found: String| TextError::BadFile {
            file: "tokenizer.json".into(),
            found,
            expected: "a Hugging Face fast tokenizer".into(),
        };
        parts::check(json).map_err(bad)?;
        let loaded = caught(|| tokenizers::Tokenizer::from_bytes(json))
            .map_err(|message| bad(format!("its parts do not fit ({message})")))?;
        let mut inner = loaded.map_err(|error| bad(error.to_string()))?;
        // A tokenizer saved with truncation would cut rows silently, and one saved with padding would lengthen them.
        inner.with_truncation(None).map_err(|error| TextError::Make(error.to_string()))?;
        inner.with_padding(None);
        disable_randomness(&mut inner);

        let tokenizer_config = json_object(&files, "tokenizer_config.json")?;
        let special_map = json_object(&files, "special_tokens_map.json")?;
        let special = special_texts(&[&special_map, &tokenizer_config]);
        let mut tokenizer = Tokenizer {
            vocab_size: inner.get_vocab(true).values().max().map_or(0, |&id| (id as usize).saturating_add(1)),
            prepends_space: prepends_space(&inner),
            inner,
            special,
            bos: None,
            eos: Vec::new(),
            files: Files::new(),
        };
        tokenizer.find_bos_and_eos(&files, &[&tokenizer_config, &special_map])?;
        tokenizer.files = files.into_iter().filter(|(name, _)| TOKENIZER_FILES.contains(&name.as_str())).collect();
        Ok(tokenizer)
    }

    /// Loads the bytes of a `tokenizer.json` alone: no special tokens by role, no chat template.
    ///
    /// # Errors
    /// Bytes that are not a Hugging Face fast tokenizer.
    pub fn from_bytes(tokenizer_json: &[u8]) -> Result<Self> {
        Self::from_files(Files::from([("tokenizer.json".to_string(), tokenizer_json.to_vec())]))
    }

    /// Loads a Hugging Face directory.
    ///
    /// # Errors
    /// A missing directory, a directory without `tokenizer.json`, unreadable or malformed files.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn from_dir(dir: &std::path::Path) -> Result<Self> {
        Self::from_dirs(dir, dir)
    }

    /// Like [`Tokenizer::from_dir`], with the `config.json` of another directory. An adapter's folder does not have one.
    ///
    /// # Errors
    /// As [`Tokenizer::from_dir`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn from_dirs(dir: &std::path::Path, config_dir: &std::path::Path) -> Result<Self> {
        let place = dir.display().to_string();
        if !dir.join("tokenizer.json").is_file() {
            let fix = if !dir.is_dir() {
                "the directory does not exist"
            } else if dir.join("tokenizer.model").exists() {
                "there is only a `tokenizer.model`: load it once with transformers and save it as a fast tokenizer"
            } else {
                "name the Hugging Face directory of a model, or train a tokenizer"
            };
            return Err(TextError::MissingFile { place, file: "tokenizer.json".into(), fix: fix.into() });
        }
        let mut files = Files::new();
        let own = TOKENIZER_FILES.iter().map(|name| (*name, dir));
        for (name, dir) in own.chain([("config.json", config_dir)]) {
            if let Some(bytes) = read_if_present(&dir.join(name))? {
                files.insert(name.to_string(), bytes);
            }
        }
        let listed = match read_if_present(&dir.join(TOOL_USE_FILE))? {
            Some(tool_use) => list_tool_use(&mut files, &tool_use),
            None => Ok(()),
        };
        listed.and_then(|()| Self::from_files(files)).map_err(|error| match error {
            TextError::BadFile { file, found, expected } => {
                TextError::BadFile { file: dir.join(file).display().to_string(), found, expected }
            }
            other => other,
        })
    }

    /// Writes the files this tokenizer was loaded from into `dir`, byte for byte.
    ///
    /// # Errors
    /// The file system refuses a write.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn save_to(&self, dir: &std::path::Path) -> Result<()> {
        for (name, bytes) in &self.files {
            let path = dir.join(name);
            std::fs::write(&path, bytes).map_err(|source| TextError::Io {
                path: path.display().to_string(),
                action: "write",
                source,
            })?;
        }
        Ok(())
    }

    /// The files this tokenizer was loaded from: those of [`TOKENIZER_FILES`] that were present.
    pub fn files(&self) -> &Files {
        &self.files
    }

    /// Token ids of `text`. With `add_special`, the tokenizer adds its own special tokens around it (a BOS, for most Llamas).
    ///
    /// # Errors
    /// A character outside the vocabulary, where the tokenizer has neither byte tokens nor an unknown token.
    pub fn encode(&self, text: &str, add_special: bool) -> Result<Vec<u32>> {
        let failed = |found| TextError::Tokenizer { action: format!("encode {:?}", shorten(text, 60)), found };
        let encoding = caught(|| self.inner.encode_fast(text, add_special)).map_err(|message| failed(panic_message(&message)))?;
        Ok(encoding.map_err(|error| failed(error.to_string()))?.get_ids().to_vec())
    }

    /// Token ids of `text` as the continuation of another text: without special tokens and without the space that Llama-2-like
    /// tokenizers put before every text. For these, `text` is encoded after an anchor that does not merge with it, and the
    /// anchor's tokens are removed again.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`]; or the tokenizer merges every anchor with the text.
    pub fn encode_continuation(&self, text: &str) -> Result<Vec<u32>> {
        if !self.prepends_space || text.is_empty() {
            return self.encode(text, false);
        }
        for anchor in ANCHORS {
            let anchor_ids = self.encode(anchor, false)?;
            let ids = self.encode(&format!("{anchor}{text}"), false)?;
            if let Some(rest) = ids.strip_prefix(anchor_ids.as_slice()) {
                return Ok(rest.to_vec());
            }
        }
        Err(TextError::Tokenizer {
            action: format!("encode {:?} as a continuation", shorten(text, 60)),
            found: "it puts a space before every text and merges across each separator that was tried".into(),
        })
    }

    /// The text of `ids`. With `skip_special`, special tokens are left out. Bytes that are not UTF-8 become U+FFFD.
    ///
    /// # Errors
    /// The tokenizer's decoder fails.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String> {
        let failed = |found| TextError::Tokenizer { action: format!("decode {} tokens", ids.len()), found };
        let text = caught(|| self.inner.decode(ids, skip_special)).map_err(|message| failed(panic_message(&message)))?;
        text.map_err(|error| failed(error.to_string()))
    }

    /// The largest token id plus one, added tokens included. A model's embedding may have more rows.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// The id of a token by its spelling in the vocabulary (" the" is "Ġthe" in a byte-level vocabulary).
    pub fn token_to_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// A token's spelling in the vocabulary.
    pub fn id_to_token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// A special token's text by its role: "bos_token", "eos_token", "pad_token", "unk_token".
    pub fn special_text(&self, role: &str) -> Option<&str> {
        self.special.get(role).map(String::as_str)
    }

    /// All special tokens by role, as a chat template sees them.
    pub fn special_texts(&self) -> &BTreeMap<String, String> {
        &self.special
    }

    /// The id that begins a text, where the tokenizer has one.
    pub fn bos_id(&self) -> Option<u32> {
        self.bos
    }

    /// The ids that end a text. Generation stops at any of them. May be empty.
    pub fn eos_ids(&self) -> &[u32] {
        &self.eos
    }

    /// The id of the unknown token, where the tokenizer has one.
    pub fn unk_id(&self) -> Option<u32> {
        use tokenizers::models::ModelWrapper;
        let named = match self.inner.get_model() {
            ModelWrapper::WordLevel(model) => Some(model.unk_token.clone()),
            ModelWrapper::BPE(model) => model.unk_token.clone(),
            _ => None,
        };
        named.as_deref().or(self.special_text("unk_token")).and_then(|token| self.token_to_id(token))
    }

    fn find_bos_and_eos(&mut self, files: &Files, texts: &[&Value]) -> Result<()> {
        let mut bos = None;
        for file in ["generation_config.json", "config.json"] {
            let config = json_object(files, file)?;
            for id in ids_of(&config, "eos_token_id", file)? {
                push_new(&mut self.eos, id);
            }
            bos = bos.or(ids_of(&config, "bos_token_id", file)?.first().copied());
        }
        if let Some(id) = self.special_text("eos_token").and_then(|text| self.token_to_id(text)) {
            push_new(&mut self.eos, id);
        }
        let mentioned = texts.iter().any(|config| config.get("bos_token").is_some());
        self.bos = if mentioned { self.special_text("bos_token").and_then(|text| self.token_to_id(text)) } else { bos };
        Ok(())
    }
}

/// A file's bytes; `None` where the file does not exist.
#[cfg(not(target_arch = "wasm32"))]
fn read_if_present(path: &std::path::Path) -> Result<Option<Vec<u8>>> {
    let unreadable = |source| TextError::Io { path: path.display().to_string(), action: "read", source };
    if path.is_file() { std::fs::read(path).map(Some).map_err(unreadable) } else { Ok(None) }
}

/// Moves the text of [`TOOL_USE_FILE`] and the default template into the list of templates in `tokenizer_config.json`. As in
/// transformers, template files take precedence over templates in the config.
#[cfg(not(target_arch = "wasm32"))]
fn list_tool_use(files: &mut Files, tool_use: &[u8]) -> Result<()> {
    let mut config = json_object(files, "tokenizer_config.json")?;
    let default = match files.remove("chat_template.jinja") {
        Some(bytes) => Some(template_text("chat_template.jinja", &bytes)?),
        None => templates_of_config(&config)?.0,
    };
    let tool_use = template_text(TOOL_USE_FILE, tool_use)?;
    let named = [default.map(|text| ("default", text)), Some((TOOL_USE, tool_use))].into_iter().flatten();
    config["chat_template"] = named.map(|(name, template)| serde_json::json!({"name": name, "template": template})).collect();
    files.insert("tokenizer_config.json".into(), config.to_string().into_bytes());
    Ok(())
}

/// The JSON object in `files[name]`, or an empty object where the file is missing.
pub(super) fn json_object(files: &Files, name: &str) -> Result<Value> {
    let Some(bytes) = files.get(name) else { return Ok(Value::Object(Default::default())) };
    let bad = |found: String| TextError::BadFile { file: name.into(), found, expected: "a JSON object".into() };
    match serde_json::from_slice(bytes) {
        Ok(value @ Value::Object(_)) => Ok(value),
        Ok(other) => Err(bad(shorten(&other.to_string(), 60))),
        Err(error) => Err(bad(error.to_string())),
    }
}

/// Makes encoding deterministic: a BPE saved with dropout skips merges at random, and a Unigram model may sample its tokens.
fn disable_randomness(inner: &mut tokenizers::Tokenizer) {
    use tokenizers::models::ModelWrapper;
    let deterministic = match inner.get_model() {
        ModelWrapper::BPE(model) if model.dropout.is_some() => {
            let mut model = model.clone();
            model.dropout = None;
            ModelWrapper::BPE(model)
        }
        ModelWrapper::Unigram(model) if model.alpha.is_some() || model.nbest_size.is_some() => {
            let mut model = model.clone();
            (model.alpha, model.nbest_size) = (None, None);
            ModelWrapper::Unigram(model)
        }
        _ => return,
    };
    inner.with_model(deterministic);
}

/// The message for a panic inside the tokenizer.
fn panic_message(message: &str) -> String {
    format!("the parts of its tokenizer.json do not fit together ({message}); take the file that the model was published with")
}

/// Token ids under `key`: a number, a list of numbers, or nothing. Some files write -1 or null for an absent token.
fn ids_of(config: &Value, key: &str, file: &str) -> Result<Vec<u32>> {
    let absent = |value: &&Value| value.is_null() || value.as_i64() == Some(-1);
    let one = |value: &Value| {
        value.as_u64().and_then(|id| u32::try_from(id).ok()).ok_or_else(|| TextError::BadFile {
            file: file.into(),
            found: format!("`{key}` is {}", shorten(&value.to_string(), 60)),
            expected: "a token id or a list of token ids".into(),
        })
    };
    match config.get(key) {
        None => Ok(Vec::new()),
        Some(Value::Array(list)) => list.iter().filter(|value| !absent(value)).map(one).collect(),
        Some(value) => Some(value).filter(|value| !absent(value)).into_iter().map(one).collect(),
    }
}

/// Texts of the special tokens by role. Values are strings or `{"content": ...}`. Later configs override earlier ones.
fn special_texts(configs: &[&Value]) -> BTreeMap<String, String> {
    let mut texts = BTreeMap::new();
    for config in configs {
        for role in ["bos_token", "eos_token", "pad_token", "unk_token", "sep_token", "cls_token", "mask_token"] {
            let value = config.get(role);
            if let Some(text) = value.and_then(Value::as_str).or_else(|| value?.get("content")?.as_str()) {
                texts.insert(role.to_string(), text.to_string());
            }
        }
    }
    texts
}

/// Whether the tokenizer puts a space before every text. Llama 2 and Mistral do so in their normalizer or pre-tokenizer.
fn prepends_space(inner: &tokenizers::Tokenizer) -> bool {
    let parts = [serde_json::to_value(inner.get_normalizer()), serde_json::to_value(inner.get_pre_tokenizer())];
    parts.iter().flatten().any(part_prepends)
}

fn part_prepends(part: &Value) -> bool {
    let text = |key: &str| part.get(key).and_then(Value::as_str);
    let here = match text("type") {
        Some("Prepend") => true,
        Some("Metaspace") => text("prepend_scheme") != Some("never"),
        Some("ByteLevel") => part.get("add_prefix_space") == Some(&Value::Bool(true)),
        _ => false,
    };
    let nested = ["normalizers", "pretokenizers"].iter().filter_map(|key| part.get(*key)?.as_array());
    here || nested.flatten().any(part_prepends)
}

fn push_new(ids: &mut Vec<u32>, id: u32) {
    if !ids.contains(&id) {
        ids.push(id);
    }
}

/// At most `chars` characters of `text`, followed by dots where it was cut. For error messages.
pub(super) fn shorten(text: &str, chars: usize) -> String {
    match text.char_indices().nth(chars) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_string(),
    }
}
