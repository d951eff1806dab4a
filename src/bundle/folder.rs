//! A model's folder on disk, of either kind: a bundle, or a Hugging Face directory.

use std::fs::File;
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;

use super::{Contents, MANIFEST, Manifest};
use crate::model::checkpoint::Checkpoint;
use crate::model::config::Config;
use crate::model::dtype::{Dtype, first_non_finite};
use crate::model::error::ModelError;
use crate::model::source::TensorSource;
use crate::text::{TextError, Tokenizer};

/// A folder that holds a model. Nothing but a bundle's manifest has been read.
pub struct ModelFolder {
    dir: PathBuf,
    bundle: Option<Manifest>,
}

impl ModelFolder {
    /// Looks what kind of folder `dir` is. With a `config.json` it is a Hugging Face directory, whatever lies beside it.
    ///
    /// # Errors
    /// Neither kind; a manifest that cannot be used.
    pub fn open(dir: &Path) -> Result<Self, ModelError> {
        let manifest = dir.join(MANIFEST);
        if dir.join("config.json").is_file() {
            return Ok(ModelFolder { dir: dir.into(), bundle: None });
        }
        if !manifest.is_file() {
            let expected =
                format!("a Hugging Face folder, such as jurist train writes, or a bundle ({MANIFEST}) of jurist export");
            let found = if dir.is_dir() { "there is no config.json in it" } else { "the directory does not exist" };
            return Err(ModelError::Inconsistent(format!("model {}: {found}; expected {expected}", dir.display())));
        }
        let text = std::fs::read_to_string(&manifest).map_err(|e| ModelError::io("read", &manifest, e))?;
        let bundle = Manifest::parse(&text).map_err(|e| e.in_file(dir.display().to_string()))?;
        Ok(ModelFolder { dir: dir.into(), bundle: Some(bundle) })
    }

    /// The manifest, if this is a bundle.
    pub fn manifest(&self) -> Option<&Manifest> {
        self.bundle.as_ref()
    }

    /// The model's tokenizer.
    ///
    /// # Errors
    /// As [`Tokenizer::from_dir`]; a file of a bundle that is not the one its manifest means.
    pub fn tokenizer(&self) -> Result<Tokenizer, TextError> {
        let Some(manifest) = &self.bundle else { return Tokenizer::from_dir(&self.dir) };
        let path = self.dir.join(&manifest.tokenizer.entry.file);
        let bytes =
            std::fs::read(&path).map_err(|source| TextError::Io { path: path.display().to_string(), action: "read", source })?;
        let files = manifest.tokenizer_files(bytes).map_err(|e| TextError::BadFile {
            file: path.display().to_string(),
            found: e.to_string(),
            expected: format!("the file that {MANIFEST} describes"),
        })?;
        Tokenizer::from_files(files)
    }

    /// The text of `judge.json`; `None` where the model is no judge.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn judge_json(&self) -> Result<Option<String>, ModelError> {
        if let Some(manifest) = &self.bundle {
            return Ok(Some(manifest.judge_json()));
        }
        let path = self.dir.join("judge.json");
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(ModelError::io("read", &path, e)),
        }
    }

    /// The weights. Of a bundle, every byte is held against its hash first.
    ///
    /// # Errors
    /// Files that are missing, damaged, or not the model that is described.
    pub fn weights(&self) -> Result<FolderWeights, ModelError> {
        let Some(manifest) = &self.bundle else {
            let checkpoint = Checkpoint::open(&self.dir)?;
            let (dtype, notes) = (checkpoint.dtype(), checkpoint.notes().to_vec());
            return Ok(FolderWeights { source: Box::new(checkpoint), dtype, notes });
        };
        let dtype = manifest.weight_format()?.matrix_dtype();
        let weights = BundleWeights::open(&self.dir, manifest).map_err(|e| e.in_file(self.dir.display().to_string()))?;
        Ok(FolderWeights { source: Box::new(weights), dtype, notes: Vec::new() })
    }
}

/// The weights in a folder.
pub struct FolderWeights {
    pub source: Box<dyn TensorSource>,
    /// Of the matrices.
    pub dtype: Dtype,
    /// What the user may want to know.
    pub notes: Vec<String>,
}

/// The weights of a bundle, mapped into memory.
struct BundleWeights {
    config: Config,
    shards: Vec<memmap2::Mmap>,
    places: std::collections::HashMap<String, Vec<Place>>,
}

/// Where some rows of a tensor lie.
struct Place {
    shard: usize,
    /// First byte within the shard.
    byte: usize,
    /// First element within the tensor, and number of elements.
    start: usize,
    len: usize,
    dtype: Dtype,
}

impl BundleWeights {
    fn open(dir: &Path, manifest: &Manifest) -> Result<Self, ModelError> {
        let config = manifest.model()?;
        let mut contents = Contents::new(&config, manifest.weight_format()?);
        let mut weights = BundleWeights { config, shards: Vec::new(), places: Default::default() };
        for entry in &manifest.shards {
            let path = dir.join(&entry.file);
            let file = File::open(&path).map_err(|e| ModelError::io("open", &path, e))?;
            // SAFETY: read-only; see `model::directory`.
            let map = unsafe { memmap2::Mmap::map(&file) }.map_err(|e| ModelError::io("map into memory", &path, e))?;
            entry.check(&map)?;
            let (header, metadata) = SafeTensors::read_metadata(&map)
                .map_err(|e| ModelError::Corrupt { file: entry.file.clone(), reason: e.to_string() })?;
            let mut tensors: Vec<_> = metadata.tensors().into_iter().collect();
            tensors.sort_by_key(|(_, info)| info.data_offsets);
            for (name, info) in tensors {
                let part = contents.add(&entry.file, &name, &info.shape, info.dtype)?;
                let byte = 8 + header + info.data_offsets.0;
                let place = Place { shard: weights.shards.len(), byte, start: part.start, len: part.len, dtype: part.dtype };
                weights.places.entry(name).or_default().push(place);
            }
            weights.shards.push(map);
        }
        contents.finish()?;
        Ok(weights)
    }
}

impl TensorSource for BundleWeights {
    fn config(&self) -> &Config {
        &self.config
    }

    fn read(&self, tensor: &str, start: usize, out: &mut [f32]) -> Result<(), ModelError> {
        let places = self.places.get(tensor).ok_or_else(|| ModelError::UnknownTensor(tensor.into()))?;
        let len = places.iter().map(|p| p.len).sum();
        let end = start.saturating_add(out.len());
        if end > len {
            return Err(ModelError::OutOfBounds { tensor: tensor.into(), len, start, end });
        }
        for place in places {
            let (from, to) = (start.max(place.start), end.min(place.start + place.len));
            if from < to {
                let width = place.dtype.bytes();
                let first = place.byte + (from - place.start) * width;
                let bytes = &self.shards[place.shard][first..first + (to - from) * width];
                place.dtype.widen(bytes, &mut out[from - start..to - start]);
            }
        }
        match first_non_finite(out) {
            Some(at) => Err(ModelError::NonFinite { tensor: tensor.into(), index: start + at, value: out[at] }),
            None => Ok(()),
        }
    }
}
