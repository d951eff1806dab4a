//! A model on disk, whatever it is: a bundle, a Hugging Face directory, a GGUF file, a PEFT adapter, or a name in the Hugging
//! Face cache.

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use sha2::{Digest, Sha256};

use crate::bundle::{Contents, Entries, MANIFEST, Manifest, hex};
use crate::gguf::{self, GgufModel};
use crate::hub;
use crate::model::checkpoint::Checkpoint;
use crate::model::config::Config;
use crate::model::directory::{INDEX, SINGLE};
use crate::model::dtype::first_non_finite;
use crate::model::error::ModelError;
use crate::model::lora::peft::{ADAPTER_CONFIG, ADAPTER_MODEL};
use crate::model::lora::{AdapterFiles, Merged};
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
    /// The model that the adapter in `dir` belongs to, if `dir` is an adapter's folder.
    base: Option<(String, Box<ModelFolder>)>,
}

impl ModelFolder {
    /// Looks what kind of folder `dir` is. With a `config.json` it is a Hugging Face directory, unless an adapter lies there
    /// without a model's weights. A name of the hub (`org/name`, `org/name@revision`) that is no folder is looked up in the
    /// Hugging Face cache. A PEFT adapter stands for the model that it names, with itself beside.
    ///
    /// # Errors
    /// Neither kind; a name that the cache does not have; a manifest that cannot be used.
    pub fn open(dir: &Path) -> Result<Self, ModelError> {
        Self::open_on(dir, None)
    }

    /// As [`ModelFolder::open`], with `base` in the place of the model that the adapter in `dir` names.
    ///
    /// # Errors
    /// As [`ModelFolder::open`]; a `base` for what is no adapter.
    pub fn open_on(dir: &Path, base: Option<&Path>) -> Result<Self, ModelError> {
        crate::files::recover(dir)?;
        let dir = &hub::resolve(dir)?;
        if is_adapter(dir) {
            let (name, base) = base_of(dir, base)?;
            return Ok(ModelFolder { base: Some((name, Box::new(base))), ..Self::hugging_face(dir) });
        }
        let folder = Self::open_whole(dir)?;
        match base {
            None => Ok(folder),
            Some(base) => Err(ModelError::Inconsistent(format!(
                "model {}: it is a whole model and no adapter, so it cannot be put onto {}; leave --base out",
                dir.display(),
                base.display()
            ))),
        }
    }

    /// A model that is no adapter.
    fn open_whole(dir: &Path) -> Result<Self, ModelError> {
        let manifest = dir.join(MANIFEST);
        if let Some(file) = gguf_file(dir)? {
            return Ok(ModelFolder { gguf: Some(GgufModel::open(&file)?), ..Self::hugging_face(&file) });
        }
        if dir.join("config.json").is_file() {
            return Ok(Self::hugging_face(dir));
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
        Ok(ModelFolder { bundle: Some(bundle), ..Self::hugging_face(dir) })
    }

    fn hugging_face(dir: &Path) -> Self {
        ModelFolder { dir: dir.into(), bundle: None, gguf: None, base: None }
    }

    /// The folder itself; of a name of the hub, where the cache has it.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The folders that the model is read from: its own, and that of an adapter's base.
    pub fn folders(&self) -> Vec<&Path> {
        let base = self.base.iter().map(|(_, base)| base.dir.as_path());
        std::iter::once(self.dir.as_path()).chain(base).collect()
    }

    /// SHA-256 over the files that decide what the model computes: its description, its tokenizer, its weights and those of an
    /// adapter's base. They are read as streams.
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
            let mut piece = vec![0; 1 << 20];
            loop {
                match std::io::Read::read(&mut file, &mut piece).map_err(failed)? {
                    0 => break,
                    n => hash.update(&piece[..n]),
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
                None => files.extend(computing(&model.dir)?),
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
    /// As [`Tokenizer::from_dir`]; a file of a bundle that is not the one its manifest means.
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

    /// The text of `judge.json`; `None` where the model is no judge.
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

    /// The config of a Hugging Face directory, in which nothing else need be; `None` for bundles and adapters, whose sizes
    /// depend on more.
    ///
    /// # Errors
    /// A `config.json` that cannot be used.
    pub fn config_alone(&self) -> Result<Option<Config>, ModelError> {
        match (&self.bundle, &self.base) {
            (None, None) if self.gguf.is_none() => Config::open(&self.dir).map(Some),
            _ => Ok(None),
        }
    }

    /// The weights. Of a bundle, every byte is held against its hash first.
    ///
    /// # Errors
    /// Files that are missing, damaged, or not the model that is described.
    pub fn weights(&self) -> Result<FolderWeights, ModelError> {
        if let Some((name, base)) = &self.base {
            let adapter = AdapterFiles::open(&self.dir)?;
            let weights = base.weights().map_err(|e| e.in_file(format!("its base model {name} ({})", another_base(name))))?;
            adapter.check(weights.source.config()).map_err(|e| e.in_file(self.dir.display().to_string()))?;
            let notes = weights.notes.iter().chain(&adapter.notes).cloned().collect();
            return Ok(FolderWeights { adapter: Some(adapter), base: Some(name.clone()), notes, ..weights });
        }
        if let Some(gguf) = &self.gguf {
            let matrix_dtype = gguf.matrix_dtype();
            let (source, notes) = (Box::new(gguf.clone()), gguf.notes());
            return Ok(FolderWeights { source, adapter: None, base: None, dtype: matrix_dtype.float(), matrix_dtype, notes });
        }
        let Some(manifest) = &self.bundle else {
            let checkpoint = Checkpoint::open(&self.dir)?;
            let (dtype, matrix_dtype, notes) = (checkpoint.dtype(), checkpoint.matrix_dtype(), checkpoint.notes().to_vec());
            return Ok(FolderWeights { source: Box::new(checkpoint), adapter: None, base: None, dtype, matrix_dtype, notes });
        };
        let matrix_dtype = manifest.weight_dtype()?;
        let dtype = matrix_dtype.float();
        let weights = BundleWeights::open(&self.dir, manifest).map_err(|e| e.in_file(self.dir.display().to_string()))?;
        Ok(FolderWeights { source: Box::new(weights), adapter: None, base: None, dtype, matrix_dtype, notes: Vec::new() })
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

/// The files in `dir` that decide what a model computes, by their names; `judge.json` says how it is asked, and is not one.
fn computing(dir: &Path) -> Result<Vec<PathBuf>, ModelError> {
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

/// Whether an adapter lies in `dir`, and no weights of a whole model.
fn is_adapter(dir: &Path) -> bool {
    let has = |file: &str| dir.join(file).is_file();
    has(ADAPTER_CONFIG) && (!has("config.json") || has(ADAPTER_MODEL) && !has(SINGLE) && !has(INDEX))
}

/// The model for the adapter in `dir`: `given`, or what the adapter names.
fn base_of(dir: &Path, given: Option<&Path>) -> Result<(String, ModelFolder), ModelError> {
    let (name, place, whose) = match given {
        Some(base) => (base.display().to_string(), base.to_path_buf(), "--base".to_string()),
        None => {
            let (name, place) = named_base(dir)?;
            let whose = format!("{}: its base_model_name_or_path", dir.join(ADAPTER_CONFIG).display());
            (name, place, whose)
        }
    };
    let unusable = |e: ModelError| match given {
        Some(_) => e.in_file(whose.clone()),
        None => e.in_file(format!("{whose} is \"{name}\" ({})", another_base(&name))),
    };
    let found = hub::resolve(&place).map_err(unusable)?;
    if is_adapter(&found) {
        let problem = match circle(dir, &found) {
            Some(way) => format!("the base models lead in a circle, {way}: name a whole model with --base DIR"),
            None => "that is an adapter itself: merge it first (jurist merge), and name the merged model with --base DIR".into(),
        };
        return Err(ModelError::Inconsistent(format!("{whose} is \"{name}\"; {problem}")));
    }
    let base = ModelFolder::open_whole(&found).map_err(unusable)?;
    Ok((name, base))
}

/// The name that the adapter in `dir` has for its base model, and the folder that it means: as given or as seen from the
/// adapter's folder or one above it, else what may be a name of the hub.
fn named_base(dir: &Path) -> Result<(String, PathBuf), ModelError> {
    let config = dir.join(ADAPTER_CONFIG);
    let text = std::fs::read_to_string(&config).map_err(|e| ModelError::io("read", &config, e))?;
    let name = AdapterFiles::base_name(&text).map_err(|e| e.in_file(dir.display().to_string()))?;
    let whole = std::fs::canonicalize(dir).unwrap_or_else(|_| dir.into());
    let mut places = std::iter::once(PathBuf::from(&name)).chain(whole.ancestors().map(|place| place.join(&name)));
    let found = places.find(|place| place.is_dir()).unwrap_or_else(|| PathBuf::from(&name));
    Ok((name, found))
}

/// What to do about a base model that is not there or cannot be read.
fn another_base(name: &str) -> &'static str {
    match name.contains("bnb-4bit") {
        true => "name the model that it was quantised from with --base DIR",
        false => "another can be named with --base DIR",
    }
}

/// The way from the adapter in `dir` over the base `next` and the base of that back to where it has been, if it comes there.
fn circle(dir: &Path, next: &Path) -> Option<String> {
    let whole = |dir: &Path| std::fs::canonicalize(dir).unwrap_or_else(|_| dir.into());
    let mut way = vec![whole(dir)];
    let mut next = next.to_path_buf();
    while is_adapter(&next) {
        let here = whole(&next);
        if let Some(start) = way.iter().position(|been| *been == here) {
            let steps = way[start..].iter().chain([&here]).map(|dir| dir.display().to_string());
            return Some(steps.collect::<Vec<_>>().join(" -> "));
        }
        way.push(here);
        next = named_base(&next).ok().and_then(|(_, place)| hub::resolve(&place).ok())?;
    }
    None
}

/// The weights in a folder.
pub struct FolderWeights {
    pub source: Box<dyn TensorSource>,
    /// What is to be put onto them.
    pub adapter: Option<AdapterFiles>,
    /// The name that the adapter has for them.
    pub base: Option<String>,
    /// Of the embedding: the type in which a judge that is trained from these is saved.
    pub dtype: WeightDtype,
    /// The one that holds all matrices as they are stored.
    pub matrix_dtype: WeightDtype,
    /// What the user may want to know.
    pub notes: Vec<String>,
}

impl FolderWeights {
    /// The weights with their adapter added in, if there is one.
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
    /// The parts of each array by its tensor, and by its plane where it is one.
    places: HashMap<(String, Option<Plane>), Vec<ModelLocation>>,
}

/// Where some rows of an array lie.
struct ModelLocation {
    shard: usize,
    /// First byte within the shard.
    byte: usize,
    /// First entry within the array, and number of entries.
    start: usize,
    len: usize,
    entries: Entries,
}

impl BundleWeights {
    fn open(dir: &Path, manifest: &Manifest) -> Result<Self, ModelError> {
        let config = manifest.model()?;
        let dtype = manifest.weight_dtype()?;
        let mut contents = Contents::new(&config, dtype);
        let mut weights = BundleWeights { config, dtype, shards: Vec::new(), places: HashMap::new() };
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
                let place =
                    ModelLocation { shard: weights.shards.len(), byte, start: part.start, len: part.len, entries: part.entries };
                let plane = match part.entries {
                    Entries::Values(_) => None,
                    Entries::Plane(_, plane) => Some(plane),
                };
                weights.places.entry((part.tensor, plane)).or_default().push(place);
            }
            weights.shards.push(map);
        }
        contents.finish()?;
        Ok(weights)
    }
}

impl BundleWeights {
    /// Hands `take` the bytes of entries `start .. start + len` of an array, part by part: where they begin in the range, how
    /// they are stored, and the bytes.
    fn pieces(
        &self,
        tensor: &str,
        plane: Option<Plane>,
        (start, len): (usize, usize),
        mut take: impl FnMut(usize, Entries, &[u8]),
    ) -> Result<(), ModelError> {
        let places = self.places.get(&(tensor.to_string(), plane)).ok_or_else(|| ModelError::UnknownTensor(tensor.into()))?;
        let has = places.iter().map(|p| p.len).sum();
        let end = start.saturating_add(len);
        if end > has {
            return Err(ModelError::OutOfBounds { tensor: tensor.into(), len: has, start, end });
        }
        for place in places {
            let (from, to) = (start.max(place.start), end.min(place.start + place.len));
            if from < to {
                let width = place.entries.bytes();
                let first = place.byte + (from - place.start) * width;
                take(from - start, place.entries, &self.shards[place.shard][first..first + (to - from) * width]);
            }
        }
        Ok(())
    }

    /// Values `start ..` of a quantised matrix, decoded: the blocks around them, and of these the part that is wanted.
    fn decoded(&self, dtype: WeightDtype, tensor: &str, start: usize, out: &mut [f32]) -> Result<(), ModelError> {
        let blocks_there: usize =
            self.places.get(&(tensor.to_string(), Some(Plane::Scales))).into_iter().flatten().map(|p| p.len).sum();
        let (len, end) = (blocks_there * BLOCK, start.saturating_add(out.len()));
        if end > len {
            return Err(ModelError::OutOfBounds { tensor: tensor.into(), len, start, end });
        }
        let blocks = start / BLOCK..end.div_ceil(BLOCK);
        let a_block = dtype.entries(Plane::Packed, BLOCK);
        let (mut packed, mut scales) = (vec![0; blocks.len() * a_block], vec![0; blocks.len()]);
        self.read_plane(tensor, Plane::Packed, blocks.start * a_block, &mut packed)?;
        self.read_plane(tensor, Plane::Scales, blocks.start, &mut scales)?;
        let scales: Vec<f32> = scales.into_iter().map(f32::from_bits).collect();
        let values = dtype.decode(&packed, &scales);
        let before = start - blocks.start * BLOCK;
        out.copy_from_slice(&values[before..before + out.len()]);
        Ok(())
    }

    /// How `tensor` is quantised, if it is.
    fn quantised(&self, tensor: &str) -> Option<WeightDtype> {
        let places = self.places.get(&(tensor.to_string(), Some(Plane::Packed)))?;
        places.iter().find_map(|place| match place.entries {
            Entries::Values(_) => None,
            Entries::Plane(dtype, _) => Some(dtype),
        })
    }
}

impl TensorSource for BundleWeights {
    fn config(&self) -> &Config {
        &self.config
    }

    fn read(&self, tensor: &str, start: usize, out: &mut [f32]) -> Result<(), ModelError> {
        if let Some(dtype) = self.quantised(tensor) {
            return self.decoded(dtype, tensor, start, out);
        }
        self.pieces(tensor, None, (start, out.len()), |at, entries, bytes| {
            if let Entries::Values(dtype) = entries {
                dtype.widen(bytes, &mut out[at..at + bytes.len() / dtype.bytes()]);
            }
        })?;
        match first_non_finite(out) {
            Some(at) => Err(ModelError::NonFinite { tensor: tensor.into(), index: start + at, value: out[at] }),
            None => Ok(()),
        }
    }

    fn quantisation(&self) -> Option<WeightDtype> {
        Some(self.dtype).filter(|dtype| dtype.is_quantised())
    }

    fn read_plane(&self, tensor: &str, plane: Plane, start: usize, out: &mut [u32]) -> Result<(), ModelError> {
        self.pieces(tensor, Some(plane), (start, out.len()), |at, _, bytes| {
            for (entry, raw) in out[at..].iter_mut().zip(bytes.as_chunks::<4>().0) {
                *entry = u32::from_le_bytes(*raw);
            }
        })?;
        match plane {
            Plane::Packed => Ok(()),
            Plane::Scales => finite_scales(tensor, start, out),
        }
    }
}
