//! A model on disk, whatever it is: a bundle, a Hugging Face directory, a GGUF file, a PEFT adapter, or a name in the Hugging
//! Face cache.

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use sha2::{Digest, Sha256};

use crate::bundle::{AdapterEntry, Contents, EntryFormat, MANIFEST, Manifest, hex};
use crate::gguf::{self, GgufModel};
use crate::hub;
use crate::model::checkpoint::Checkpoint;
use crate::model::config::Config;
use crate::model::directory::{INDEX, SINGLE, map_file};
use crate::model::dtype::first_non_finite;
use crate::model::error::ModelError;
use crate::model::lora::peft::{ADAPTER_CONFIG, ADAPTER_MODEL};
use crate::model::lora::{AdapterFiles, Merged};
use crate::model::names::EMBED;
use crate::model::quantised::{Plane, finite_scales};
use crate::model::source::TensorSource;
use crate::ops::weight_dtype::{BLOCK, WeightDtype};
use crate::text::{TextError, Tokenizer};

/// A folder, or a GGUF file, that holds a model. Nothing but a manifest or the header of a GGUF file has been read.
pub struct ModelFolder {
    /// The folder, or the GGUF file.
    dir: PathBuf,
    bundle: Option<Manifest>,
    gguf: Option<GgufModel>,
    /// The name and folder of the base model, if `dir` is an adapter's folder.
    base: Option<(String, Box<ModelFolder>)>,
}

impl ModelFolder {
    /// Detects the kind of folder. With a `config.json` it is a Hugging Face directory, unless it contains an adapter and no
    /// weights of a model. A hub name (`org/name`, `org/name@revision`) that is not a folder is looked up in the Hugging Face
    /// cache. A PEFT adapter opens together with the base model that it names.
    ///
    /// # Errors
    /// Another folder; a name that is not in the cache; an invalid manifest.
    pub fn open(dir: &Path) -> Result<Self, ModelError> {
        Self::open_on(dir, None)
    }

    /// Like [`ModelFolder::open`], with `base` instead of the model that the adapter in `dir` names.
    ///
    /// # Errors
    /// As [`ModelFolder::open`]; a `base` for a folder that is not an adapter.
    pub fn open_on(dir: &Path, base: Option<&Path>) -> Result<Self, ModelError> {
        crate::files::recover(dir)?;
        let dir = &hub::resolve(dir)?;
        if is_adapter(dir) {
            let (name, base) = base_of(dir, base)?;
            return Ok(ModelFolder { base: Some((name, Box::new(base))), ..Self::at(dir) });
        }
        let folder = Self::open_full_model(dir)?;
        match base {
            None => Ok(folder),
            Some(base) => Err(ModelError::Inconsistent(format!(
                "model {}: it is a whole model and no adapter, so it cannot be put onto {}; leave --base out",
                dir.display(),
                base.display()
            ))),
        }
    }

    /// Opens a model that is not an adapter.
    fn open_full_model(dir: &Path) -> Result<Self, ModelError> {
        let manifest = dir.join(MANIFEST);
        if let Some(file) = gguf_file(dir)? {
            return Ok(ModelFolder { gguf: Some(GgufModel::open(&file)?), ..Self::at(&file) });
        }
        if dir.join("config.json").is_file() {
            return Ok(Self::at(dir));
        }
        if !manifest.is_file() {
            let expected = format!(
                "a Hugging Face folder, such as jurist train writes, a GGUF file, or a bundle ({MANIFEST}) of jurist export"
            );
            let found = if dir.is_dir() { "there is no config.json in it" } else { "the directory does not exist" };
            return Err(ModelError::Inconsistent(format!("model {}: {found}; expected {expected}", dir.display())));
        }
        let text = std::fs::read_to_string(&manifest).map_err(|e| ModelError::io("read", &manifest, e))?;
        let bundle = Manifest::parse(&text).map_err(|e| e.in_file(dir.display().to_string()))?;
        Ok(ModelFolder { bundle: Some(bundle), ..Self::at(dir) })
    }

    /// A Hugging Face directory; the other kinds set what they have besides.
    fn at(dir: &Path) -> Self {
        ModelFolder { dir: dir.into(), bundle: None, gguf: None, base: None }
    }

    /// The folder itself; of a name of the hub, where the cache has it.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The folders from which the model is read: its own, and that of an adapter's base.
    pub fn folders(&self) -> Vec<&Path> {
        let base = self.base.iter().map(|(_, base)| base.dir.as_path());
        std::iter::once(self.dir.as_path()).chain(base).collect()
    }

    /// The SHA-256 of the files that determine the model's computation: its description, its tokenizer, its weights and those of
    /// an adapter's base. The files are read as streams.
    ///
    /// # Errors
    /// Files that cannot be read.
    pub fn fingerprint(&self) -> Result<String, ModelError> {
        let mut hash = Sha256::new();
        for path in self.computing()? {
            let failed = |e| ModelError::io("read", &path, e);
            let mut file = File::open(&path).map_err(failed)?;
            let bytes = file.metadata().map_err(failed)?.len();
            hash.update(format!("{:?} {bytes}\n", path.file_name().unwrap_or_default()));
            let mut chunk = vec![0; 1 << 20];
            loop {
                match std::io::Read::read(&mut file, &mut chunk).map_err(failed)? {
                    0 => break,
                    n => hash.update(&chunk[..n]),
                }
            }
        }
        Ok(hex(&hash.finalize()))
    }

    /// The files that decide what the model computes.
    fn computing(&self) -> Result<Vec<PathBuf>, ModelError> {
        let base = self.base.iter().map(|(_, base)| &**base);
        let mut files = Vec::new();
        for model in std::iter::once(self).chain(base) {
            match &model.gguf {
                Some(gguf) => files.extend(gguf.paths().map(Path::to_path_buf)),
                None => files.extend(computation_files(&model.dir)?),
            }
        }
        Ok(files)
    }

    /// The manifest, if this is a bundle.
    pub fn manifest(&self) -> Option<&Manifest> {
        self.bundle.as_ref()
    }

    /// The model's tokenizer.
    ///
    /// # Errors
    /// As [`Tokenizer::from_dir`]; a bundle's file that does not match its manifest.
    pub fn tokenizer(&self) -> Result<Tokenizer, TextError> {
        match &self.base {
            Some((_, base)) if self.dir.join("tokenizer.json").is_file() => return Tokenizer::from_dirs(&self.dir, &base.dir),
            Some((_, base)) => return base.tokenizer(),
            None => {}
        }
        if let Some(gguf) = &self.gguf {
            return gguf.tokenizer().map_err(|e| match e {
                TextError::BadFile { found, expected, .. } => {
                    TextError::BadFile { file: self.dir.display().to_string(), found, expected }
                }
                other => other,
            });
        }
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

    /// The text of `judge.json`; `None` where the model is not a judge.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn judge_json(&self) -> Result<Option<String>, ModelError> {
        if let Some(manifest) = &self.bundle {
            return Ok(Some(manifest.judge_json()));
        }
        if let Some(gguf) = &self.gguf {
            return gguf.judge_json().map_err(|e| e.in_file(self.dir.display().to_string()));
        }
        let path = self.dir.join("judge.json");
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                self.base.as_ref().map_or(Ok(None), |(_, base)| base.judge_json())
            }
            Err(e) => Err(ModelError::io("read", &path, e)),
        }
    }

    /// Replaces the `judge.json` of a folder, or that in a bundle's manifest, with this text. `is_judge` recognises the text of one:
    /// another file is not replaced. Returns the path of the file that was written.
    ///
    /// # Errors
    /// A GGUF file, which is written once; a file that cannot be written.
    pub fn write_judge_json(&self, text: &str, is_judge: impl Fn(&str) -> bool) -> Result<PathBuf, ModelError> {
        if let Some(manifest) = &self.bundle {
            let judge = serde_json::from_str(text).map_err(|e| ModelError::Json(e.to_string()))?;
            let path = self.dir.join(MANIFEST);
            let is_manifest = |text: &str| Manifest::parse(text).is_ok();
            crate::files::write_own(&path, Manifest { judge, ..manifest.clone() }.to_json().as_bytes(), is_manifest)?;
            return Ok(path);
        }
        if self.gguf.is_some() {
            return Err(ModelError::Inconsistent(format!(
                "model {}: a GGUF file is written once, with its judge.json in it; calibrate the folder that it was exported from and \
                 export it again",
                self.dir.display()
            )));
        }
        let path = self.dir.join("judge.json");
        crate::files::write_own(&path, text.as_bytes(), is_judge)?;
        Ok(path)
    }

    /// The config of a Hugging Face directory, which needs no other file; `None` for bundles and adapters, whose sizes depend on
    /// more.
    ///
    /// # Errors
    /// A `config.json` that cannot be used.
    pub fn config_alone(&self) -> Result<Option<Config>, ModelError> {
        match (&self.bundle, &self.base) {
            (None, None) if self.gguf.is_none() => Config::open(&self.dir).map(Some),
            _ => Ok(None),
        }
    }

    /// The weights. A bundle's files are first compared with their hashes.
    ///
    /// # Errors
    /// Files that are missing, damaged, or do not match the description.
    pub fn weights(&self) -> Result<FolderWeights, ModelError> {
        if let Some((name, base)) = &self.base {
            let adapter = AdapterFiles::open(&self.dir)?;
            let weights = base.weights().map_err(|e| e.in_file(format!("its base model {name} ({})", base_advice(name))))?;
            adapter.check(weights.source.config()).map_err(|e| e.in_file(self.dir.display().to_string()))?;
            let notes = weights.notes.iter().chain(&adapter.notes).cloned().collect();
            return Ok(FolderWeights { adapter: Some(adapter), base: Some(name.clone()), notes, ..weights });
        }
        if let Some(gguf) = &self.gguf {
            let (source, notes) = (Box::new(gguf.clone()), gguf.notes());
            let dtype = source.stored_dtype(EMBED).float();
            return Ok(FolderWeights { source, adapter: None, base: None, dtype, notes });
        }
        let Some(manifest) = &self.bundle else {
            let checkpoint = Checkpoint::open(&self.dir)?;
            let (dtype, notes) = (checkpoint.dtype(), checkpoint.notes().to_vec());
            return Ok(FolderWeights { source: Box::new(checkpoint), adapter: None, base: None, dtype, notes });
        };
        let dtype = manifest.weight_dtype()?.float();
        let weights = BundleWeights::open(&self.dir, manifest).map_err(|e| e.in_file(self.dir.display().to_string()))?;
        let read = |entry: &AdapterEntry| entry.read(&map_file(&self.dir.join(&entry.entry.file))?, weights.config());
        let adapter = manifest.adapter.as_ref().map(read).transpose().map_err(|e| e.in_file(self.dir.display().to_string()))?;
        Ok(FolderWeights { source: Box::new(weights), adapter, base: None, dtype, notes: Vec::new() })
    }
}

/// The GGUF file that `path` is, or the only one in a folder without `config.json`; of a split model, its first file.
///
/// # Errors
/// Several models in one folder.
fn gguf_file(path: &Path) -> Result<Option<PathBuf>, ModelError> {
    let is_gguf = |path: &Path| path.is_file() && gguf::is_gguf(path);
    if is_gguf(path) {
        return Ok(Some(path.into()));
    }
    if !path.is_dir() || path.join("config.json").is_file() || path.join(MANIFEST).is_file() {
        return Ok(None);
    }
    let listed = std::fs::read_dir(path).and_then(|entries| entries.map(|e| e.map(|e| e.path())).collect());
    let mut files: Vec<PathBuf> = listed.map_err(|e| ModelError::io("list", path, e))?;
    files.retain(|file| is_gguf(file) && !gguf::is_later_split(file));
    match files.len() {
        0 | 1 => Ok(files.pop()),
        n => Err(ModelError::Inconsistent(format!("model {}: {n} GGUF files are in it; name one of them", path.display()))),
    }
}

/// The files in `dir` that determine the model's computation, by their names. `judge.json` only describes the prompt and is left
/// out.
fn computation_files(dir: &Path) -> Result<Vec<PathBuf>, ModelError> {
    const NAMES: [&str; 4] = ["config.json", "tokenizer.json", ADAPTER_CONFIG, MANIFEST];
    let listed = std::fs::read_dir(dir).and_then(|entries| entries.map(|e| e.map(|e| e.path())).collect());
    let mut files: Vec<PathBuf> = listed.map_err(|e| ModelError::io("list", dir, e))?;
    let counts = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        path.is_file() && (NAMES.contains(&&*name) || [".safetensors", ".bin"].iter().any(|ending| name.ends_with(ending)))
    };
    files.retain(counts);
    files.sort();
    Ok(files)
}

/// Whether `dir` contains an adapter, and no weights of a full model.
fn is_adapter(dir: &Path) -> bool {
    let has = |file: &str| dir.join(file).is_file();
    has(ADAPTER_CONFIG) && (!has("config.json") || has(ADAPTER_MODEL) && !has(SINGLE) && !has(INDEX))
}

/// The base model for the adapter in `dir`: `given`, or the model that the adapter names.
fn base_of(dir: &Path, given: Option<&Path>) -> Result<(String, ModelFolder), ModelError> {
    let (name, path, origin) = match given {
        Some(base) => (base.display().to_string(), base.to_path_buf(), "--base".to_string()),
        None => {
            let (name, path) = named_base(dir)?;
            let origin = format!("{}: its base_model_name_or_path", dir.join(ADAPTER_CONFIG).display());
            (name, path, origin)
        }
    };
    let unusable = |e: ModelError| match given {
        Some(_) => e.in_file(origin.clone()),
        None => e.in_file(format!("{origin} is \"{name}\" ({})", base_advice(&name))),
    };
    let found = hub::resolve(&path).map_err(unusable)?;
    if is_adapter(&found) {
        let problem = match find_cycle(dir, &found) {
            Some(cycle) => format!("the base models lead in a circle, {cycle}: name a whole model with --base DIR"),
            None => "that is an adapter itself: merge it first (jurist merge), and name the merged model with --base DIR".into(),
        };
        return Err(ModelError::Inconsistent(format!("{origin} is \"{name}\"; {problem}")));
    }
    let base = ModelFolder::open_full_model(&found).map_err(unusable)?;
    Ok((name, base))
}

/// The name of the base model in the adapter's config, and its folder: the path as given, or relative to the adapter's folder or
/// one above it, else a possible hub name.
fn named_base(dir: &Path) -> Result<(String, PathBuf), ModelError> {
    let config = dir.join(ADAPTER_CONFIG);
    let text = std::fs::read_to_string(&config).map_err(|e| ModelError::io("read", &config, e))?;
    let name = AdapterFiles::base_name(&text).map_err(|e| e.in_file(dir.display().to_string()))?;
    let absolute = std::fs::canonicalize(dir).unwrap_or_else(|_| dir.into());
    let mut candidates = std::iter::once(PathBuf::from(&name)).chain(absolute.ancestors().map(|folder| folder.join(&name)));
    let found = candidates.find(|path| path.is_dir()).unwrap_or_else(|| PathBuf::from(&name));
    Ok((name, found))
}

/// The advice for a base model that is missing or cannot be read.
fn base_advice(name: &str) -> &'static str {
    match name.contains("bnb-4bit") {
        true => "name the model that it was quantised from with --base DIR",
        false => "another can be named with --base DIR",
    }
}

/// The cycle of base models that starts at the adapter in `dir` and its base `next`, if there is one.
fn find_cycle(dir: &Path, next: &Path) -> Option<String> {
    let absolute = |dir: &Path| std::fs::canonicalize(dir).unwrap_or_else(|_| dir.into());
    let mut visited = vec![absolute(dir)];
    let mut next = next.to_path_buf();
    while is_adapter(&next) {
        let current = absolute(&next);
        if let Some(start) = visited.iter().position(|folder| *folder == current) {
            let steps = visited[start..].iter().chain([&current]).map(|dir| dir.display().to_string());
            return Some(steps.collect::<Vec<_>>().join(" -> "));
        }
        visited.push(current);
        next = named_base(&next).ok().and_then(|(_, path)| hub::resolve(&path).ok())?;
    }
    None
}

/// The weights in a folder.
pub struct FolderWeights {
    pub source: Box<dyn TensorSource>,
    /// The adapter of these weights.
    pub adapter: Option<AdapterFiles>,
    /// The adapter's name for these weights.
    pub base: Option<String>,
    /// The dtype of the embedding. A judge trained from these weights is saved in it.
    pub dtype: WeightDtype,
    /// Notes for the user.
    pub notes: Vec<String>,
}

impl FolderWeights {
    /// The weights with their adapter merged, if there is one.
    ///
    /// # Errors
    /// An adapter of another model.
    pub fn merged(self) -> Result<Box<dyn TensorSource>, ModelError> {
        match self.adapter {
            None => Ok(self.source),
            Some(adapter) => Ok(Box::new(Merged::new(self.source, adapter)?)),
        }
    }
}

/// The weights of a bundle, mapped into memory.
struct BundleWeights {
    config: Config,
    dtype: WeightDtype,
    shards: Vec<memmap2::Mmap>,
    /// The stored parts of each tensor, or of each plane of a quantised tensor.
    parts: HashMap<(String, Option<Plane>), Vec<StoredPart>>,
}

/// The location of some rows of an array.
struct StoredPart {
    shard: usize,
    /// First byte within the shard.
    byte: usize,
    /// First entry within the array, and number of entries.
    start: usize,
    len: usize,
    entries: EntryFormat,
}

impl BundleWeights {
    fn open(dir: &Path, manifest: &Manifest) -> Result<Self, ModelError> {
        let config = manifest.model()?;
        let dtype = manifest.weight_dtype()?;
        let mut contents = Contents::new(&config, dtype);
        let mut weights = BundleWeights { config, dtype, shards: Vec::new(), parts: HashMap::new() };
        for entry in &manifest.shards {
            let path = dir.join(&entry.file);
            let map = map_file(&path)?;
            entry.check(&map)?;
            let (header, metadata) = SafeTensors::read_metadata(&map)
                .map_err(|e| ModelError::Corrupt { file: entry.file.clone(), reason: e.to_string() })?;
            let mut tensors: Vec<_> = metadata.tensors().into_iter().collect();
            tensors.sort_by_key(|(_, info)| info.data_offsets);
            for (name, info) in tensors {
                let part = contents.add(&entry.file, &name, &info.shape, info.dtype)?;
                let byte = 8 + header + info.data_offsets.0;
                let stored =
                    StoredPart { shard: weights.shards.len(), byte, start: part.start, len: part.len, entries: part.entries };
                let plane = match part.entries {
                    EntryFormat::Values(_) => None,
                    EntryFormat::Plane(_, plane) => Some(plane),
                };
                weights.parts.entry((part.tensor, plane)).or_default().push(stored);
            }
            weights.shards.push(map);
        }
        contents.finish()?;
        Ok(weights)
    }
}

impl BundleWeights {
    /// Passes the bytes of entries `start .. start + len` of an array to `sink`, part by part: their position in the range, their
    /// format, and the bytes.
    fn for_each_part(
        &self,
        tensor: &str,
        plane: Option<Plane>,
        (start, len): (usize, usize),
        mut sink: impl FnMut(usize, EntryFormat, &[u8]),
    ) -> Result<(), ModelError> {
        let parts = self.parts.get(&(tensor.to_string(), plane)).ok_or_else(|| ModelError::UnknownTensor(tensor.into()))?;
        let has = parts.iter().map(|p| p.len).sum();
        let end = start.saturating_add(len);
        if end > has {
            return Err(ModelError::OutOfBounds { tensor: tensor.into(), len: has, start, end });
        }
        for part in parts {
            let (from, to) = (start.max(part.start), end.min(part.start + part.len));
            if from < to {
                let width = part.entries.bytes();
                let first = part.byte + (from - part.start) * width;
                sink(from - start, part.entries, &self.shards[part.shard][first..first + (to - from) * width]);
            }
        }
        Ok(())
    }

    /// Decodes values `start ..` of a quantised matrix: decodes the blocks around them and keeps the requested part.
    fn read_quantised(&self, dtype: WeightDtype, tensor: &str, start: usize, out: &mut [f32]) -> Result<(), ModelError> {
        let block_count: usize =
            self.parts.get(&(tensor.to_string(), Some(Plane::Scales))).into_iter().flatten().map(|p| p.len).sum();
        let (len, end) = (block_count * BLOCK, start.saturating_add(out.len()));
        if end > len {
            return Err(ModelError::OutOfBounds { tensor: tensor.into(), len, start, end });
        }
        let blocks = start / BLOCK..end.div_ceil(BLOCK);
        let words_per_block = dtype.entries(Plane::Packed, BLOCK);
        let (mut packed, mut scales) = (vec![0; blocks.len() * words_per_block], vec![0; blocks.len()]);
        self.read_plane(tensor, Plane::Packed, blocks.start * words_per_block, &mut packed)?;
        self.read_plane(tensor, Plane::Scales, blocks.start, &mut scales)?;
        let values = dtype.decode(&packed, &scales);
        let offset = start - blocks.start * BLOCK;
        out.copy_from_slice(&values[offset..offset + out.len()]);
        Ok(())
    }

    /// The dtype of `tensor`, if it is quantised.
    fn quantised_dtype(&self, tensor: &str) -> Option<WeightDtype> {
        let parts = self.parts.get(&(tensor.to_string(), Some(Plane::Packed)))?;
        parts.iter().find_map(|part| match part.entries {
            EntryFormat::Values(_) => None,
            EntryFormat::Plane(dtype, _) => Some(dtype),
        })
    }
}

impl TensorSource for BundleWeights {
    fn config(&self) -> &Config {
        &self.config
    }

    fn read(&self, tensor: &str, start: usize, out: &mut [f32]) -> Result<(), ModelError> {
        if let Some(dtype) = self.quantised_dtype(tensor) {
            return self.read_quantised(dtype, tensor, start, out);
        }
        self.for_each_part(tensor, None, (start, out.len()), |at, entries, bytes| {
            if let EntryFormat::Values(dtype) = entries {
                dtype.widen(bytes, &mut out[at..at + bytes.len() / dtype.bytes()]);
            }
        })?;
        match first_non_finite(out) {
            Some(at) => Err(ModelError::NonFinite { tensor: tensor.into(), index: start + at, value: out[at] }),
            None => Ok(()),
        }
    }

    fn stored_dtype(&self, tensor: &str) -> WeightDtype {
        self.quantised_dtype(tensor).unwrap_or(self.dtype.float())
    }

    fn read_plane(&self, tensor: &str, plane: Plane, start: usize, out: &mut [u32]) -> Result<(), ModelError> {
        self.for_each_part(tensor, Some(plane), (start, out.len()), |at, _, bytes| {
            for (entry, raw) in out[at..].iter_mut().zip(bytes.as_chunks::<4>().0) {
                *entry = u32::from_le_bytes(*raw);
            }
        })?;
        match plane {
            Plane::Packed => Ok(()),
            Plane::Scales => finite_scales(self.quantised_dtype(tensor).unwrap_or_default(), tensor, start, out),
        }
    }
}
