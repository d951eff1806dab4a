//! Writing a Hugging Face directory tensor by tensor, so that the model is never in memory as a whole.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use super::config::Config;
use super::directory::INDEX;
use super::dtype::{first_non_finite, vanished};
use super::error::ModelError;
use super::names::{TensorSpec, tensors};
use super::shard_layout::{self, Shard};
use super::source::TensorSource;
use crate::files::{FileError, replace_folder};
use crate::ops::weight_dtype::WeightDtype;

/// Elements per read and write.
const WRITE_ELEMENTS: usize = 1 << 18;

/// Writes `config.json`, safetensors and index into an existing directory. The tensors must come in the order of [`tensors`];
/// each may come in several writes. It is not atomic: use it inside [`replace_folder`], as [`save_checkpoint`] does.
pub struct CheckpointWriter {
    dir: PathBuf,
    dtype: WeightDtype,
    shards: std::vec::IntoIter<Shard>,
    file: Option<OpenShard>,
    bytes: Vec<u8>,
}

/// The file that is being written.
struct OpenShard {
    path: PathBuf,
    out: BufWriter<File>,
    tensors: std::vec::IntoIter<TensorSpec>,
    current: Option<TensorSpec>,
    /// Elements of the current tensor already written.
    written: usize,
}

impl CheckpointWriter {
    /// Starts a checkpoint in `dir`. Writes `config.json` and, if there are several shards, the index.
    pub fn create(dir: &Path, config: &Config, dtype: WeightDtype, shard_bytes: u64) -> Result<Self, ModelError> {
        let shards = shard_layout::shards(tensors(config), dtype, shard_bytes);
        write_file(&dir.join("config.json"), config.to_json(dtype).as_bytes())?;
        if let Some(index) = shard_layout::index(&shards, dtype) {
            write_file(&dir.join(INDEX), index.as_bytes())?;
        }
        let mut writer = CheckpointWriter { dir: dir.into(), dtype, shards: shards.into_iter(), file: None, bytes: Vec::new() };
        writer.advance()?;
        Ok(writer)
    }

    /// Appends `values` to `tensor`, which must be the current one.
    ///
    /// # Errors
    /// NaN or infinity, because a broken model is not saved; a value too large for `dtype`, or only values too small for it; a
    /// wrong tensor or too many elements; a full disk.
    pub fn write(&mut self, tensor: &str, values: &[f32]) -> Result<(), ModelError> {
        let Some(OpenShard { path, out, current: Some(spec), written, .. }) = &mut self.file else {
            return Err(ModelError::WriteOrder(format!("`{tensor}` came after the last tensor")));
        };
        if spec.name != tensor {
            return Err(ModelError::WriteOrder(format!("expected `{}`, found `{tensor}`", spec.name)));
        }
        if values.len() > spec.len() - *written {
            return Err(ModelError::WriteOrder(format!("`{tensor}` has {} elements, more came", spec.len())));
        }
        if let Some(at) = first_non_finite(values) {
            return Err(ModelError::NonFinite { tensor: tensor.into(), index: *written + at, value: values[at] });
        }
        self.bytes.clear();
        self.dtype.narrow(values, &mut self.bytes);
        refuse_rounding(tensor, *written, values, &self.bytes, self.dtype)?;
        out.write_all(&self.bytes).map_err(|e| ModelError::io("write", path.as_path(), e))?;
        *written += values.len();
        if *written == spec.len() { self.advance() } else { Ok(()) }
    }

    /// Ends the checkpoint. Every tensor must be complete.
    pub fn finish(self) -> Result<(), ModelError> {
        match self.file.and_then(|file| file.current) {
            Some(spec) => Err(ModelError::WriteOrder(format!("`{}` is not complete", spec.name))),
            None => Ok(()),
        }
    }

    /// Goes to the next tensor, and to the next file after the last tensor of this one.
    fn advance(&mut self) -> Result<(), ModelError> {
        if let Some(file) = &mut self.file {
            file.written = 0;
            file.current = file.tensors.next();
            if file.current.is_some() {
                return Ok(());
            }
            file.out.flush().map_err(|e| ModelError::io("write", file.path.as_path(), e))?;
        }
        self.file = match self.shards.next() {
            Some(shard) => Some(OpenShard::create(&self.dir, shard, self.dtype)?),
            None => None,
        };
        Ok(())
    }
}

impl OpenShard {
    fn create(dir: &Path, shard: Shard, dtype: WeightDtype) -> Result<Self, ModelError> {
        let path = dir.join(&shard.file);
        let file = File::create(&path).map_err(|e| ModelError::io("create", &path, e))?;
        let mut out = BufWriter::with_capacity(1 << 20, file);
        out.write_all(&shard_layout::header(&shard, dtype)).map_err(|e| ModelError::io("write", &path, e))?;
        let mut tensors = shard.tensors.into_iter();
        let current = tensors.next();
        Ok(OpenShard { path, out, tensors, current, written: 0 })
    }
}

/// Refuses values that become infinite, or all zero, when rounded to `dtype`: the saved model would be broken. f16 reaches from
/// 6e-8 to 65504, bf16 nearly as far as f32.
fn refuse_rounding(tensor: &str, start: usize, values: &[f32], bytes: &[u8], dtype: WeightDtype) -> Result<(), ModelError> {
    if dtype == WeightDtype::F32 {
        return Ok(());
    }
    let mut stored = vec![0.0; values.len()];
    dtype.widen(bytes, &mut stored);
    match first_non_finite(&stored).or_else(|| vanished(tensor, values, &stored)) {
        Some(at) => Err(ModelError::OutOfRangeForDtype {
            tensor: tensor.into(),
            index: start + at,
            value: values[at],
            dtype: dtype.config_name(),
        }),
        None => Ok(()),
    }
}

/// Writes one file.
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<(), ModelError> {
    std::fs::write(path, bytes).map_err(|e| ModelError::io("write", path, e))
}

/// Writes all tensors of `source` with a [`CheckpointWriter`] into an existing directory. `extras` are further files, such as
/// the tokenizer, by name and bytes.
pub fn write_checkpoint(
    dir: &Path,
    dtype: WeightDtype,
    source: &dyn TensorSource,
    extras: &[(String, Vec<u8>)],
    shard_bytes: u64,
) -> Result<(), ModelError> {
    let config = source.config();
    for (name, bytes) in extras {
        let reserved = name == "config.json" || name == INDEX || name.ends_with(".safetensors");
        if reserved || name.contains(['/', '\\']) || name.is_empty() || name == ".." {
            return Err(ModelError::WriteOrder(format!("\"{name}\" cannot be an extra file of a checkpoint")));
        }
        write_file(&dir.join(name), bytes)?;
    }
    let mut writer = CheckpointWriter::create(dir, config, dtype, shard_bytes)?;
    let mut buffer = Vec::new();
    for spec in tensors(config) {
        for start in (0..spec.len()).step_by(WRITE_ELEMENTS) {
            buffer.resize(WRITE_ELEMENTS.min(spec.len() - start), 0.0);
            source.read(&spec.name, start, &mut buffer)?;
            writer.write(&spec.name, &buffer)?;
        }
    }
    writer.finish()
}

/// Saves a model to `dir`, which must be new or empty. The folder appears when all bytes are on the disk.
///
/// # Errors
/// Those of [`CheckpointWriter::write`] and [`replace_folder`]; a `dir` that is not empty, which is never replaced.
pub fn save_checkpoint(
    dir: &Path,
    dtype: WeightDtype,
    source: &dyn TensorSource,
    extras: &[(String, Vec<u8>)],
    shard_bytes: u64,
) -> Result<(), ModelError> {
    let taken = |dir: &Path| Err(FileError::in_the_way(dir, "it is not empty, and is not replaced; name a new folder").into());
    replace_folder(dir, taken, |tmp| write_checkpoint(tmp, dtype, source, extras, shard_bytes))
}
