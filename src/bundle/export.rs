//! Writing a bundle from a model's folder, shard by shard: the model is never in memory as a whole.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::manifest::hex;
use super::{FileEntry, MANIFEST, MOST_EXAMPLES, Manifest, Shard, TokenizerEntry, WeightFormat, plan};
use crate::model::atomic::atomic_dir;
use crate::model::error::ModelError;
use crate::model::source::TensorSource;
use crate::text::Tokenizer;

/// Values read and written at a time: whole blocks of quantised matrices.
const PIECE: usize = 1 << 18;

/// What goes into a bundle.
pub struct Exported<'a> {
    pub name: &'a str,
    pub weights: WeightFormat,
    pub model: &'a dyn TensorSource,
    pub tokenizer: &'a Tokenizer,
    /// The judge's `judge.json`.
    pub judge: Value,
    /// At most [`MOST_EXAMPLES`] rows.
    pub examples: Vec<Value>,
}

/// Writes a bundle to `dir`, atomically, in shards of at most `most` bytes. An earlier bundle there is replaced.
///
/// # Errors
/// A folder that holds something else; numbers that are not finite or do not fit the format; a full disk.
pub fn export(dir: &Path, bundle: &Exported, most: u64) -> Result<Manifest, ModelError> {
    refuse_foreign_dir(dir)?;
    let config = bundle.model.config();
    let (tokenizer, json) = TokenizerEntry::of(bundle.tokenizer);
    let mut manifest = Manifest::new(bundle.name, bundle.weights, config, bundle.judge.clone(), tokenizer);
    manifest.examples = bundle.examples.iter().take(MOST_EXAMPLES).cloned().collect();
    atomic_dir(dir, |tmp| {
        let put = |file: &str, bytes: &[u8]| {
            let path = tmp.join(file);
            std::fs::write(&path, bytes).map_err(|e| ModelError::io("write", path, e))
        };
        put(&manifest.tokenizer.entry.file, &json)?;
        for shard in plan(config, bundle.weights, most) {
            manifest.shards.push(write_shard(tmp, &shard, bundle.model)?);
        }
        put(MANIFEST, manifest.to_json().as_bytes())
    })?;
    Ok(manifest)
}

fn write_shard(dir: &Path, shard: &Shard, model: &dyn TensorSource) -> Result<FileEntry, ModelError> {
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
        for at in (0..part.values).step_by(PIECE) {
            values.resize(PIECE.min(part.values - at), 0.0);
            model.read(&part.tensor, part.start + at, &mut values)?;
            bytes.clear();
            part.encode(at, &values, &mut bytes)?;
            write(&bytes)?;
        }
    }
    out.flush().map_err(failed)?;
    Ok(FileEntry { file: shard.file.clone(), bytes: total, sha256: hex(&hash.finalize()) })
}

/// Replacing a folder deletes what is in it; only an empty one or an earlier bundle may go.
fn refuse_foreign_dir(dir: &Path) -> Result<(), ModelError> {
    let Ok(mut entries) = std::fs::read_dir(dir) else { return Ok(()) };
    if entries.next().is_some() && !dir.join(MANIFEST).is_file() {
        return Err(ModelError::Inconsistent(format!(
            "{} holds files but no {MANIFEST}, so it is no bundle and is not replaced; choose another folder",
            dir.display()
        )));
    }
    Ok(())
}
