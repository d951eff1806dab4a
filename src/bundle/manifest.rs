//! `manifest.json`: the description of a bundle.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::{MANIFEST, manifest_name, weight_dtype};
use crate::model::config::Config;
use crate::model::error::ModelError;
use crate::model::lora::AdapterFiles;
use crate::model::lora::peft::ADAPTER_MODEL;
use crate::ops::weight_dtype::WeightDtype;
use crate::text::{Files, Tokenizer};

/// The value of `format`.
const FORMAT: &str = "jurist-bundle";
/// The version of bundles without an adapter, and of those that carry one beside their weights: a reader that does not know
/// adapters must not take such a bundle for its base.
const VERSION: u32 = 1;
const VERSION_WITH_ADAPTER: u32 = 2;
/// The most example rows of a bundle.
pub const MAX_EXAMPLES: usize = 32;
/// The most bytes of a description.
pub const MAX_DESCRIPTION: usize = 4096;

/// One file of a bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    pub file: String,
    pub bytes: u64,
    /// In lower-case hexadecimal.
    pub sha256: String,
}

impl FileEntry {
    /// The entry of a file with these bytes.
    pub fn of(file: &str, bytes: &[u8]) -> Self {
        FileEntry { file: file.into(), bytes: bytes.len() as u64, sha256: sha256_hex(bytes) }
    }

    /// Checks that `bytes` are this file.
    ///
    /// # Errors
    /// Another size, or another hash.
    pub fn check(&self, bytes: &[u8]) -> Result<(), ModelError> {
        let damaged = |reason: String| ModelError::Corrupt { file: self.file.clone(), reason };
        if bytes.len() as u64 != self.bytes {
            return Err(damaged(format!("it has {} bytes, and {MANIFEST} says {}", bytes.len(), self.bytes)));
        }
        match sha256_hex(bytes) {
            found if found == self.sha256 => Ok(()),
            found => Err(damaged(format!("its SHA-256 is {found}, and {MANIFEST} says {}", self.sha256))),
        }
    }
}

/// The tokenizer of a bundle: one file, and the small files around it as texts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenizerEntry {
    #[serde(flatten)]
    pub entry: FileEntry,
    /// The contents of `tokenizer_config.json`, `chat_template.jinja` and similar files by name, as far as the model has them.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub others: Map<String, Value>,
}

impl TokenizerEntry {
    /// The entry of a tokenizer, and the bytes of its `tokenizer.json`. The files around it travel in the manifest. The
    /// vocabulary files of older tokenizers are left out, since `tokenizer.json` contains their content.
    pub fn of(tokenizer: &Tokenizer) -> (Self, Vec<u8>) {
        let mut others = Map::new();
        let mut json = Vec::new();
        for (name, bytes) in tokenizer.files() {
            match name.as_str() {
                "tokenizer.json" => json = bytes.clone(),
                "vocab.json" | "merges.txt" | "tokenizer.model" => {}
                _ => drop(others.insert(name.clone(), String::from_utf8_lossy(bytes).into())),
            }
        }
        (TokenizerEntry { entry: FileEntry::of("tokenizer.json", &json), others }, json)
    }
}

/// A LoRA adapter beside the weights: PEFT's two files, `adapter_config.json` within the manifest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AdapterEntry {
    #[serde(flatten)]
    pub entry: FileEntry,
    pub config: Value,
}

impl AdapterEntry {
    /// The entry of an adapter, and the bytes of its file.
    pub fn of(adapter: &AdapterFiles) -> (Self, Vec<u8>) {
        let bytes = adapter.small_tensor_bytes();
        let config = serde_json::from_str(&adapter.config_json(BASE_IN_BUNDLE)).unwrap_or_default();
        (AdapterEntry { entry: FileEntry::of(ADAPTER_MODEL, &bytes), config }, bytes)
    }

    /// The adapter, from the bytes of its file.
    ///
    /// # Errors
    /// Bytes that are not the file in the manifest; as [`AdapterFiles::parse`]; an adapter of another model.
    pub fn read(&self, bytes: &[u8], config: &Config) -> Result<AdapterFiles, ModelError> {
        self.entry.check(bytes)?;
        let adapter = AdapterFiles::parse(&self.config.to_string(), bytes)?;
        adapter.check(config)?;
        Ok(adapter)
    }
}

/// What PEFT's config calls the weights of the bundle.
const BASE_IN_BUNDLE: &str = ".";

/// The content of `manifest.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    pub format: String,
    pub version: u32,
    /// The name shown to users.
    pub name: String,
    /// What the judge is good for, as its maker says it; at most [`MAX_DESCRIPTION`] bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The name of a [`WeightDtype`].
    pub weights: String,
    pub parameters: u64,
    /// The model's `config.json`.
    pub config: Value,
    /// The judge's `judge.json`.
    pub judge: Value,
    pub tokenizer: TokenizerEntry,
    /// The adapter that the weights need.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapter: Option<AdapterEntry>,
    pub shards: Vec<FileEntry>,
    /// Example rows for trying the judge.
    #[serde(default)]
    pub examples: Vec<Value>,
    /// The version of the program that wrote it.
    pub jurist: String,
}

impl Manifest {
    /// A manifest of this version without shards.
    pub fn new(name: &str, weights: WeightDtype, config: &Config, judge: Value, tokenizer: TokenizerEntry) -> Self {
        let json = config.to_json(weights.float());
        Manifest {
            format: FORMAT.into(),
            version: VERSION,
            name: name.into(),
            description: None,
            weights: manifest_name(weights).into(),
            parameters: config.parameter_count(),
            // The model module writes valid JSON.
            config: serde_json::from_str(&json).unwrap_or_default(),
            judge,
            tokenizer,
            adapter: None,
            shards: Vec::new(),
            examples: Vec::new(),
            jurist: env!("CARGO_PKG_VERSION").into(),
        }
    }

    /// The same with an adapter beside the weights.
    pub fn carry(&mut self, adapter: AdapterEntry) {
        (self.version, self.adapter) = (VERSION_WITH_ADAPTER, Some(adapter));
    }

    /// Parses the text of `manifest.json` and checks everything that does not need the other files.
    ///
    /// # Errors
    /// Text that is not JSON, or another document; a later version; an unknown weight format; a model that is not supported or of
    /// another size; invalid file names; no shards.
    pub fn parse(text: &str) -> Result<Self, ModelError> {
        Self::read(text).map_err(|e| e.in_file(MANIFEST))
    }

    fn read(text: &str) -> Result<Self, ModelError> {
        if text.trim_start().starts_with('<') {
            return Err(ModelError::Json("it is a web page, so the address is not that of a bundle".into()));
        }
        let value: Value = serde_json::from_str(text).map_err(|e| ModelError::Json(e.to_string()))?;
        let bad = |key: &str, expected: &str, found: String| {
            Err(ModelError::BadValue { key: key.into(), expected: expected.into(), found })
        };
        // Checked before the fields of this version, so that the message names another format or version.
        match value.get("format").and_then(Value::as_str) {
            Some(FORMAT) => {}
            found => return bad("format", &format!("\"{FORMAT}\""), found.map_or("nothing".into(), |f| format!("\"{f}\""))),
        }
        match value.get("version").and_then(Value::as_u64) {
            Some(version) if [VERSION, VERSION_WITH_ADAPTER].map(u64::from).contains(&version) => {}
            found => {
                let expected = format!("{VERSION} or {VERSION_WITH_ADAPTER}; a newer jurist reads newer bundles");
                return bad("version", &expected, found.map_or("nothing".into(), |v| v.to_string()));
            }
        }
        let manifest: Manifest = serde_json::from_value(value).map_err(|e| ModelError::Json(e.to_string()))?;
        manifest.weight_dtype()?;
        let config = manifest.model()?;
        if config.parameter_count() != manifest.parameters {
            let expected = format!("{}, which is what `config` describes", config.parameter_count());
            return bad("parameters", &expected, manifest.parameters.to_string());
        }
        if manifest.shards.is_empty() {
            return bad("shards", "at least one file", "none".into());
        }
        let mut names: Vec<&str> = manifest.files().map(|f| f.file.as_str()).collect();
        for entry in manifest.files() {
            let name = entry.file.as_str();
            // A name that contains a directory could lead anywhere.
            if name.is_empty() || name == MANIFEST || name.starts_with('.') || name.contains(['/', '\\', ':', '?', '#', '%']) {
                return bad("file", "a plain file name", format!("\"{name}\""));
            }
            if entry.sha256.len() != 64 || !entry.sha256.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
                return bad("sha256", &format!("64 lower-case hexadecimal digits for {name}"), format!("\"{}\"", entry.sha256));
            }
        }
        names.sort_unstable();
        if let Some(duplicate) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return bad("file", "every file once", format!("\"{}\" twice", duplicate[0]));
        }
        if manifest.examples.len() > MAX_EXAMPLES {
            return bad("examples", &format!("at most {MAX_EXAMPLES} rows"), manifest.examples.len().to_string());
        }
        check_description(manifest.description.as_deref())?;
        Ok(manifest)
    }

    /// The text of `manifest.json`.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }

    /// The dtype of its matrices.
    ///
    /// # Errors
    /// As [`weight_dtype`].
    pub fn weight_dtype(&self) -> Result<WeightDtype, ModelError> {
        weight_dtype(&self.weights)
    }

    /// The config of the bundle's model.
    ///
    /// # Errors
    /// As [`Config::from_json`].
    pub fn model(&self) -> Result<Config, ModelError> {
        Config::from_json(&self.config.to_string()).map_err(|e| e.in_file("config"))
    }

    /// The text of the judge's `judge.json`.
    pub fn judge_json(&self) -> String {
        self.judge.to_string()
    }

    /// The tokenizer's files by name, from the bytes of `tokenizer.json`. Includes `config.json`, which may name the EOS.
    ///
    /// # Errors
    /// Bytes that are not the file in the manifest.
    pub fn tokenizer_files(&self, tokenizer_json: Vec<u8>) -> Result<Files, ModelError> {
        self.tokenizer.entry.check(&tokenizer_json)?;
        let texts =
            self.tokenizer.others.iter().filter_map(|(name, text)| Some((name.clone(), text.as_str()?.as_bytes().to_vec())));
        let mut files: Files = texts.collect();
        files.insert("config.json".into(), self.config.to_string().into_bytes());
        files.insert("tokenizer.json".into(), tokenizer_json);
        Ok(files)
    }

    /// The bytes of all files except the manifest: the size of a download.
    pub fn download_bytes(&self) -> u64 {
        self.files().fold(0, |sum: u64, f| sum.saturating_add(f.bytes))
    }

    /// Every file except the manifest.
    pub fn files(&self) -> impl Iterator<Item = &FileEntry> {
        std::iter::once(&self.tokenizer.entry).chain(self.adapter.iter().map(|a| &a.entry)).chain(&self.shards)
    }
}

/// Refuses a description that is too long.
pub fn check_description(description: Option<&str>) -> Result<(), ModelError> {
    match description.map_or(0, str::len) {
        0..=MAX_DESCRIPTION => Ok(()),
        found => Err(ModelError::BadValue {
            key: "description".into(),
            expected: format!("at most {MAX_DESCRIPTION} bytes"),
            found: found.to_string(),
        }),
    }
}

/// The SHA-256 of `bytes` in lower-case hexadecimal.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

pub fn hex(digest: &[u8]) -> String {
    digest.iter().map(|b| format!("{b:02x}")).collect()
}
