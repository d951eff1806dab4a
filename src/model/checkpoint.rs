//! Weights in safetensors files: mapped into memory natively, given as bytes in a browser.
//!
//! Opening a checkpoint checks everything except the values: that the files are complete, and that names, shapes and types are
//! those of the model in `config.json`. The values are checked for NaN and infinity when they are read.

use std::collections::{BTreeMap, HashMap};

use safetensors::{SafeTensorError, SafeTensors};

use super::config::Config;
use super::dtype::first_non_finite;
use super::error::ModelError;
use super::names::{EMBED, LM_HEAD, TensorSpec, check_layers, tensors};
use super::source::TensorSource;
use crate::ops::weight_dtype::WeightDtype;

/// Names listed in a message before "and n more".
const LISTED: usize = 5;
/// Elements per comparison of an unneeded head with the embedding.
const COMPARED: usize = 1 << 16;

/// The bytes of one safetensors file: a memory map or a buffer.
pub type Bytes = Box<dyn AsRef<[u8]> + Send + Sync>;

/// A checkpoint whose names, shapes and types agree with its `config.json`.
pub struct Checkpoint {
    config: Config,
    shards: Vec<Bytes>,
    locations: HashMap<String, TensorLocation>,
    notes: Vec<String>,
}

/// The location of a tensor in the shards.
struct TensorLocation {
    shard: usize,
    /// First byte within the shard.
    start: usize,
    /// Elements.
    len: usize,
    dtype: WeightDtype,
}

/// A tensor as described in a file's header.
struct StoredTensor {
    file: String,
    shard: usize,
    start: usize,
    shape: Vec<usize>,
    dtype: safetensors::Dtype,
}

impl Checkpoint {
    /// A checkpoint from the names and bytes of its safetensors files. The names are used in messages.
    ///
    /// # Errors
    /// A damaged file; a missing or unexpected tensor; a wrong shape; a type other than f32, f16 and bf16.
    pub fn from_files(config: Config, files: Vec<(String, Bytes)>) -> Result<Self, ModelError> {
        Self::from_files_with_index(config, files, &BTreeMap::new())
    }

    /// As [`Checkpoint::from_files`]. Every tensor must be in the file that `weight_map` says.
    pub(super) fn from_files_with_index(
        config: Config,
        files: Vec<(String, Bytes)>,
        weight_map: &BTreeMap<String, String>,
    ) -> Result<Self, ModelError> {
        let mut stored = BTreeMap::new();
        let mut shards = Vec::with_capacity(files.len());
        for (file, bytes) in files {
            read_header(&file, shards.len(), (*bytes).as_ref(), &mut stored)?;
            shards.push(bytes);
        }
        check_index(&config, weight_map, &stored)?;
        let mut checkpoint = Checkpoint { config, shards, locations: HashMap::new(), notes: Vec::new() };
        let unneeded_head = checkpoint.locate_all(stored)?;
        if let Some(head) = unneeded_head {
            checkpoint.check_unneeded_head(head)?;
        }
        Ok(checkpoint)
    }

    /// Notes for the user: what was ignored, and why.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The type in which the embedding is stored; other tensors may differ.
    pub fn dtype(&self) -> WeightDtype {
        self.locations.get(EMBED).map_or(WeightDtype::F32, |location| location.dtype)
    }

    /// Checks every stored tensor against the model. Returns the head of a tied model, which it does not need.
    fn locate_all(&mut self, mut stored: BTreeMap<String, StoredTensor>) -> Result<Option<TensorLocation>, ModelError> {
        stored.retain(|name, _| !is_buffer(name));
        let all = stored.len();
        stored = stored.into_iter().filter_map(|(name, tensor)| Some((name_of_text_part(name)?, tensor))).collect();
        if stored.len() < all {
            self.notes.push(format!("{} tensors of the model's image part were ignored", all - stored.len()));
        }
        // The matrix of a tied model may be stored under either name.
        if self.config.tie_word_embeddings && !stored.contains_key(EMBED) {
            stored.remove(LM_HEAD).into_iter().for_each(|head| drop(stored.insert(EMBED.into(), head)));
        }
        check_layers(&self.config, stored.len())?;
        let specs = tensors(&self.config);
        let mut missing = Vec::new();
        for spec in &specs {
            match stored.remove(&spec.name) {
                Some(tensor) => drop(self.locations.insert(spec.name.clone(), locate(spec, &tensor)?)),
                None => missing.push(spec.name.as_str()),
            }
        }
        let head = if self.config.tie_word_embeddings { stored.remove(LM_HEAD) } else { None };
        let unexpected: Vec<&str> = stored.keys().map(String::as_str).collect();
        if !missing.is_empty() {
            return Err(missing_tensors(&missing, &unexpected));
        }
        if !unexpected.is_empty() {
            return Err(ModelError::UnexpectedTensors { count: unexpected.len(), names: list(&unexpected) });
        }
        let shape = vec![self.config.vocab_size, self.config.hidden_size];
        head.map(|tensor| locate(&TensorSpec { name: LM_HEAD.into(), shape }, &tensor)).transpose()
    }

    /// Checks that the head of a tied model is a copy of its embedding. A head that differs means that `config.json` is wrong;
    /// transformers would not tie it either.
    fn check_unneeded_head(&mut self, head: TensorLocation) -> Result<(), ModelError> {
        let len = head.len;
        self.locations.insert(LM_HEAD.into(), head);
        let (mut embed, mut head) = (vec![0.0; COMPARED.min(len)], vec![0.0; COMPARED.min(len)]);
        for start in (0..len).step_by(COMPARED) {
            let count = COMPARED.min(len - start);
            self.read(EMBED, start, &mut embed[..count])?;
            self.read(LM_HEAD, start, &mut head[..count])?;
            if embed[..count] != head[..count] {
                return Err(ModelError::Inconsistent(format!(
                    "`tie_word_embeddings` is true, but the files hold an `{LM_HEAD}` that differs from `{EMBED}`; \
                     set `tie_word_embeddings` to false, or remove the head"
                )));
            }
        }
        self.locations.remove(LM_HEAD);
        self.notes.push(format!("`{LM_HEAD}` is a copy of the embedding and was ignored (the head is tied)"));
        Ok(())
    }
}

impl TensorSource for Checkpoint {
    fn config(&self) -> &Config {
        &self.config
    }

    fn stored_dtype(&self, tensor: &str) -> WeightDtype {
        self.locations.get(tensor).map(|location| location.dtype).unwrap_or_default()
    }

    fn read(&self, tensor: &str, start: usize, out: &mut [f32]) -> Result<(), ModelError> {
        let location = self.locations.get(tensor).ok_or_else(|| ModelError::UnknownTensor(tensor.into()))?;
        let end = start.saturating_add(out.len());
        if end > location.len {
            return Err(ModelError::OutOfBounds { tensor: tensor.into(), len: location.len, start, end });
        }
        let width = location.dtype.bytes();
        let bytes = (*self.shards[location.shard]).as_ref();
        location.dtype.widen(&bytes[location.start + start * width..location.start + end * width], out);
        match first_non_finite(out) {
            Some(at) => Err(ModelError::NonFinite { tensor: tensor.into(), index: start + at, value: out[at] }),
            None => Ok(()),
        }
    }
}

/// Whether the tensor is not a weight but computed from `config.json`.
fn is_buffer(name: &str) -> bool {
    name.ends_with("rotary_emb.inv_freq")
}

/// The name of a tensor in the text part of a model with images; `None` if it belongs to the images.
fn name_of_text_part(name: String) -> Option<String> {
    const IMAGES: [&str; 2] = ["vision_tower.", "multi_modal_projector."];
    let inner = name.strip_prefix("model.").unwrap_or(&name);
    if IMAGES.iter().any(|start| inner.starts_with(start)) {
        return None;
    }
    // transformers 5 writes `model.language_model.layers…` where earlier versions wrote `language_model.model.layers…`.
    let of_text = name.strip_prefix("model.language_model.").map(|rest| format!("model.{rest}"));
    Some(of_text.or_else(|| name.strip_prefix("language_model.").map(String::from)).unwrap_or(name))
}

/// Parses the header of one file and adds its tensors to `stored`.
fn read_header(file: &str, shard: usize, bytes: &[u8], stored: &mut BTreeMap<String, StoredTensor>) -> Result<(), ModelError> {
    let (header, metadata) = SafeTensors::read_metadata(bytes)
        .map_err(|error| ModelError::Corrupt { file: file.into(), reason: explain(&error, bytes) })?;
    for (name, info) in metadata.tensors() {
        let start = 8 + header + info.data_offsets.0;
        let tensor = StoredTensor { file: file.into(), shard, start, shape: info.shape.clone(), dtype: info.dtype };
        if let Some(other) = stored.insert(name.clone(), tensor) {
            let reason = format!("tensor `{name}` is in {} as well", other.file);
            return Err(ModelError::Corrupt { file: file.into(), reason });
        }
    }
    Ok(())
}

/// Why a file cannot be read as safetensors, and what to do. The two most common causes are not damage.
fn explain(error: &SafeTensorError, bytes: &[u8]) -> String {
    if bytes.starts_with(b"version https://git-lfs") {
        return "it is a Git LFS pointer, not the file itself (run `git lfs pull`)".into();
    }
    if bytes.first() == Some(&b'<') {
        return "it starts like a web page, so a download has failed".into();
    }
    let size = bytes.len();
    match error {
        SafeTensorError::HeaderTooSmall => format!("it has {size} bytes, too few for a safetensors header"),
        SafeTensorError::InvalidHeaderLength | SafeTensorError::HeaderTooLarge => {
            let length = bytes.first_chunk().map_or(0, |b| u64::from_le_bytes(*b));
            format!("its header should be {length} bytes long, but the file has {size} bytes")
        }
        SafeTensorError::MetadataIncompleteBuffer => {
            format!("the tensors in its header do not fill the file exactly ({size} bytes)")
        }
        SafeTensorError::InvalidOffset(name) => format!("the bytes of tensor `{name}` overlap others or leave a gap"),
        SafeTensorError::TensorInvalidInfo => "a tensor's shape and its number of bytes do not agree".into(),
        other => other.to_string(),
    }
}

/// Checks that every tensor of the index is in the file that the index names. Tensors that the model does not need may be absent.
fn check_index(
    config: &Config,
    weight_map: &BTreeMap<String, String>,
    stored: &BTreeMap<String, StoredTensor>,
) -> Result<(), ModelError> {
    let unneeded = |name: &str| is_buffer(name) || name == LM_HEAD && config.tie_word_embeddings;
    for (name, file) in weight_map {
        if unneeded(name) && !stored.contains_key(name) {
            continue;
        }
        if stored.get(name).is_none_or(|tensor| tensor.file != *file) {
            let reason = format!("the index says that it holds tensor `{name}`, which is not there");
            return Err(ModelError::Corrupt { file: file.clone(), reason });
        }
    }
    Ok(())
}

/// The location of a stored tensor, if its shape and type are right.
fn locate(spec: &TensorSpec, tensor: &StoredTensor) -> Result<TensorLocation, ModelError> {
    if tensor.shape != spec.shape {
        return Err(ModelError::Shape {
            tensor: spec.name.clone(),
            file: tensor.file.clone(),
            expected: spec.shape.clone(),
            found: tensor.shape.clone(),
        });
    }
    let dtype = WeightDtype::from_safetensors(tensor.dtype).ok_or_else(|| ModelError::TensorDtype {
        tensor: spec.name.clone(),
        file: tensor.file.clone(),
        found: tensor.dtype.to_string(),
    })?;
    Ok(TensorLocation { shard: tensor.shard, start: tensor.start, len: spec.len(), dtype })
}

fn missing_tensors(missing: &[&str], unexpected: &[&str]) -> ModelError {
    let hint = if missing == [LM_HEAD] {
        "; if the head is the embedding, set `tie_word_embeddings` to true".into()
    } else if unexpected.is_empty() {
        String::new()
    } else {
        format!("; not part of that model, but there: {}", list(unexpected))
    };
    ModelError::MissingTensors { count: missing.len(), names: list(missing), hint }
}

/// The first [`LISTED`] names, and the number of the others.
fn list(names: &[&str]) -> String {
    let shown = names.iter().take(LISTED).map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(LISTED) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}
