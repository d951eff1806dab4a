//! Writes a bundle from a model's folder, shard by shard. The model is never in memory as a whole.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::manifest::check_description;
use super::manifest::hex;
use super::{AdapterEntry, FileEntry, HeldScales, MANIFEST, MAX_EXAMPLES, Manifest, Shard, TokenizerEntry, plan_shards};
use crate::files::{FileError, replace_folder};
use crate::model::error::ModelError;
use crate::model::lora::AdapterFiles;
use crate::model::quantised::ColumnSquares;
use crate::model::source::TensorSource;
use crate::ops::weight_dtype::WeightDtype;
use crate::text::Tokenizer;

/// Values read and written at a time: whole blocks of quantised matrices.
const CHUNK_VALUES: usize = 1 << 18;

/// What a page shows of a bundle before it is loaded, and offers to try it on.
#[derive(Clone, Debug, Default)]
pub struct Label {
    pub name: String,
    /// What the judge is good for.
    pub description: Option<String>,
    /// The first [`MAX_EXAMPLES`] rows count.
    pub examples: Vec<Value>,
}

/// The content of a bundle to write.
pub struct BundleInput<'a> {
    pub label: &'a Label,
    pub weights: WeightDtype,
    pub model: &'a dyn TensorSource,
    /// An adapter that travels beside the weights instead of being added to them.
    pub adapter: Option<&'a AdapterFiles>,
    /// What the weights of projections were multiplied with in calibration; empty without one.
    pub squares: &'a ColumnSquares,
    pub tokenizer: &'a Tokenizer,
    /// The judge's `judge.json`.
    pub judge: Value,
}

/// Writes a bundle to `dir` atomically, in shards of at most `max_bytes` bytes. An earlier bundle there is replaced if the folder
/// contains nothing else.
///
/// # Errors
/// A folder with other content; numbers that are not finite or do not fit the format; a full disk.
pub fn export(dir: &Path, bundle: &BundleInput, max_bytes: u64) -> Result<Manifest, ModelError> {
    let config = bundle.model.config();
    check_description(bundle.label.description.as_deref())?;
    let (tokenizer, json) = TokenizerEntry::of(bundle.tokenizer);
    let mut manifest = Manifest::new(&bundle.label.name, bundle.weights, config, bundle.judge.clone(), tokenizer);
    manifest.description = bundle.label.description.clone();
    manifest.examples = bundle.label.examples.iter().take(MAX_EXAMPLES).cloned().collect();
    replace_folder(dir, refuse_foreign, |tmp| {
        let write = |file: &str, bytes: &[u8]| {
            let path = tmp.join(file);
            std::fs::write(&path, bytes).map_err(|e| ModelError::io("write", path, e))
        };
        write(&manifest.tokenizer.entry.file, &json)?;
        if let Some(adapter) = bundle.adapter {
            let (entry, bytes) = AdapterEntry::of(adapter);
            write(&entry.entry.file, &bytes)?;
            manifest.carry(entry);
        }
        let mut held = HeldScales::default();
        for shard in plan_shards(config, bundle.weights, max_bytes) {
            manifest.shards.push(write_shard(tmp, &shard, (bundle.model, bundle.squares), &mut held)?);
        }
        write(MANIFEST, manifest.to_json().as_bytes())
    })?;
    Ok(manifest)
}

fn write_shard(
    dir: &Path,
    shard: &Shard,
    (model, squares): (&dyn TensorSource, &ColumnSquares),
    held: &mut HeldScales,
) -> Result<FileEntry, ModelError> {
    let path = dir.join(&shard.file);
    let failed = |e| ModelError::io("write", &path, e);
    let mut out = BufWriter::with_capacity(1 << 20, File::create(&path).map_err(failed)?);
    let (mut hash, mut total) = (Sha256::new(), 0);
    let mut write = |bytes: &[u8]| {
        hash.update(bytes);
        total += bytes.len() as u64;
        out.write_all(bytes).map_err(failed)
    };
    write(&shard.header())?;
    let (mut values, mut bytes) = (Vec::new(), Vec::new());
    for part in &shard.parts {
        if part.is_scales() {
            write(&held.bytes(part)?)?;
            continue;
        }
        for at in (0..part.values).step_by(CHUNK_VALUES) {
            values.resize(CHUNK_VALUES.min(part.values - at), 0.0);
            model.read(&part.tensor, part.start + at, &mut values)?;
            bytes.clear();
            part.encode(at, &values, squares, held, &mut bytes)?;
            write(&bytes)?;
        }
    }
    out.flush().map_err(failed)?;
    Ok(FileEntry { file: shard.file.clone(), bytes: total, sha256: hex(&hash.finalize()) })
}

/// Replacing a folder deletes its content, so each file must be one that the bundle's manifest names, with the bytes that it
/// describes.
fn refuse_foreign(dir: &Path) -> Result<(), ModelError> {
    let foreign = |path: &Path, problem: String| {
        let problem = format!("{problem}, so the folder is not replaced; move it away or choose another folder");
        ModelError::from(FileError::in_the_way(path, problem))
    };
    let manifest = dir.join(MANIFEST);
    let text = match std::fs::read_to_string(&manifest) {
        Ok(text) => text,
        Err(_) => return Err(foreign(dir, format!("it holds files but no {MANIFEST} of a bundle"))),
    };
    let earlier = Manifest::parse(&text).map_err(|e| foreign(&manifest, format!("it is no bundle's ({e})")))?;
    for entry in std::fs::read_dir(dir).map_err(|e| ModelError::io("list", dir, e))? {
        let path = entry.map_err(|e| ModelError::io("list", dir, e))?.path();
        let named = earlier.files().find(|f| path.file_name().is_some_and(|name| name == f.file.as_str()));
        let plain = path.is_file() && !path.is_symlink();
        match named {
            _ if path == manifest && plain => {}
            Some(entry) if plain => {
                let bytes = std::fs::read(&path).map_err(|e| ModelError::io("read", &path, e))?;
                entry.check(&bytes).map_err(|e| foreign(&path, format!("it is not the file of the bundle there ({e})")))?;
            }
            _ => return Err(foreign(&path, format!("the bundle there has no such file in its {MANIFEST}"))),
        }
    }
    Ok(())
}
