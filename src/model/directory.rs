//! Opening a Hugging Face directory, natively. Files are mapped into memory: opening reads only headers, and weights are paged
//! in when they are uploaded to the GPU.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::Path;

use serde_json::Value;

use super::checkpoint::{Bytes, Checkpoint};
use super::config::Config;
use super::error::ModelError;

/// The file of a checkpoint that has a single one.
pub const SINGLE: &str = "model.safetensors";
/// The index of a checkpoint that has several shards.
pub const INDEX: &str = "model.safetensors.index.json";

impl Checkpoint {
    /// Opens a directory with `config.json` and `model.safetensors`, or shards with their index.
    ///
    /// The files must not be changed in place while the checkpoint is open. Replacing the directory with
    /// [`replace_folder`](crate::files::replace_folder) is allowed. On Windows drop the checkpoint first, because a mapped file
    /// cannot be moved there.
    ///
    /// # Errors
    /// Those of [`Config::from_json`] and [`Checkpoint::from_files`]; a directory without safetensors.
    pub fn open(dir: &Path) -> Result<Self, ModelError> {
        let config = Config::open(dir)?;
        let single = dir.join(SINGLE);
        let index = dir.join(INDEX);
        if single.is_file() {
            return Self::from_files(config, vec![(SINGLE.into(), map(&single)?)]);
        }
        if !index.is_file() {
            return Err(no_weights(dir));
        }
        let weight_map = read_index(&index)?;
        let names: BTreeSet<&String> = weight_map.values().collect();
        let files = names.into_iter().map(|name| Ok((name.clone(), map(&dir.join(name))?)));
        Self::from_files_with_index(config, files.collect::<Result<_, ModelError>>()?, &weight_map)
    }
}

/// Maps a file into memory, read-only. The file must not change while it is mapped.
///
/// # Errors
/// A file that cannot be opened or mapped.
pub fn map_file(path: &Path) -> Result<memmap2::Mmap, ModelError> {
    let file = File::open(path).map_err(|e| ModelError::io("open", path, e))?;
    // SAFETY: the map is read-only. If another process shortens the mapped file, this process ends with a bus error, never with
    // wrong weights.
    unsafe { memmap2::Mmap::map(&file) }.map_err(|e| ModelError::io("map into memory", path, e))
}

fn map(path: &Path) -> Result<Bytes, ModelError> {
    Ok(Box::new(map_file(path)?))
}

/// The `weight_map` of an index: tensor name to plain file name.
///
/// # Errors
/// A file that cannot be read or is not an index.
pub fn read_index(path: &Path) -> Result<BTreeMap<String, String>, ModelError> {
    let text = std::fs::read_to_string(path).map_err(|e| ModelError::io("read", path, e))?;
    let damaged = |reason: &str| ModelError::Corrupt { file: INDEX.into(), reason: reason.into() };
    let index: Value = serde_json::from_str(&text).map_err(|e| damaged(&format!("not valid JSON: {e}")))?;
    let map = index.get("weight_map").and_then(Value::as_object).ok_or_else(|| damaged("it has no `weight_map` object"))?;
    let mut files = BTreeMap::new();
    for (tensor, file) in map {
        let file = file.as_str().ok_or_else(|| damaged(&format!("the file of `{tensor}` is not a string")))?;
        // A name with a directory could be any file of the machine.
        if file.is_empty() || file.contains(['/', '\\']) || file == ".." {
            return Err(damaged(&format!("the file of `{tensor}` is \"{file}\", not a plain file name")));
        }
        files.insert(tensor.clone(), file.to_string());
    }
    Ok(files)
}

fn no_weights(dir: &Path) -> ModelError {
    let has = |test: fn(&str) -> bool| {
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
        entries.map(|e| e.file_name()).any(|name| name.to_str().is_some_and(test))
    };
    let advice = if has(|n| n.starts_with("pytorch_model") && n.ends_with(".bin")) {
        "there is a pytorch_model.bin, which is not read (it can run code); convert it once with transformers: \
         `AutoModelForCausalLM.from_pretrained(dir).save_pretrained(new_dir)`"
    } else if has(|n| n == "adapter_model.safetensors") {
        "this is a PEFT adapter; merge it into its base model first (`merge_and_unload()`)"
    } else if has(|n| n.ends_with(".gguf")) {
        "there is a GGUF file: name the file itself"
    } else if has(|n| n.ends_with(".safetensors")) {
        "expected model.safetensors, or shards with model.safetensors.index.json; other names are not read"
    } else {
        "expected model.safetensors, or shards with model.safetensors.index.json"
    };
    ModelError::NoWeights { dir: dir.display().to_string(), advice: advice.into() }
}
