//! A model in one or more GGUF files: its config, its tokenizer, and its tensors under their Hugging Face names.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::blocks::BlockFormat;
use super::config::config;
use super::families::{gguf_name, row_heads, shift};
use super::header::{Header, Metadata, TensorInfo, Value};
use super::{JUDGE_KEY, tokenizer};
use crate::model::config::Config;
use crate::model::directory::map_file;
use crate::model::dtype::first_non_finite;
use crate::model::error::ModelError;
use crate::model::names::{TensorSpec, check_layers, tensors};
use crate::model::quantised::{Plane, finite_scales};
use crate::model::source::TensorSource;
use crate::ops::weight_dtype::{BLOCK, WeightDtype};
use crate::text::{Files, TextError, Tokenizer};

/// More files than a model is split into.
const MAX_SPLITS: u64 = 1000;
pub(super) const ROPE_FACTORS: &str = "rope_freqs.weight";

/// A model in GGUF files, mapped into memory. Clones share the files.
#[derive(Clone)]
pub struct GgufModel {
    config: Config,
    metadata: Arc<BTreeMap<String, Value>>,
    files: Arc<Vec<(PathBuf, memmap2::Mmap)>>,
    tensors: Arc<HashMap<String, Location>>,
}

/// Where a tensor of the model lies.
#[derive(Clone, Debug)]
struct Location {
    file: usize,
    info: TensorInfo,
    /// The head width of a matrix whose rows are permuted within each head.
    permuted: Option<usize>,
    /// What the file's values have more than Hugging Face's.
    shift: f32,
}

impl GgufModel {
    /// Opens `path`; of a model that is split into several files, `path` is the first one.
    ///
    /// # Errors
    /// Files that are damaged, or not all there; an architecture or a format that is not read, by name.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        let (first, mapped) = read(path)?;
        let metadata = Metadata(&first.metadata);
        let splits = metadata.unsigned("split.count").map_err(|e| e.in_file(path.display().to_string()))?.unwrap_or(1);
        let mut files = vec![(path.to_path_buf(), mapped)];
        let mut header = first;
        let mut found: BTreeMap<String, (usize, TensorInfo)> = BTreeMap::new();
        let mut add = |file: usize, tensors: BTreeMap<String, TensorInfo>| {
            tensors.into_iter().find_map(|(name, info)| found.insert(name.clone(), (file, info)).map(|_| name))
        };
        add(0, std::mem::take(&mut header.tensors));
        for (number, path) in rest_of(path, &header, splits)?.into_iter().enumerate() {
            let (next, mapped) = read(&path)?;
            let at = Metadata(&next.metadata).unsigned("split.no").ok().flatten();
            if at != Some(number as u64 + 1) {
                let reason = format!("its split.no is {at:?}, and expected is {}", number + 1);
                return Err(ModelError::Corrupt { file: path.display().to_string(), reason });
            }
            if let Some(twice) = add(number + 1, next.tensors) {
                let reason = format!("tensor `{twice}` is in an earlier file, too");
                return Err(ModelError::Corrupt { file: path.display().to_string(), reason });
            }
            files.push((path, mapped));
        }
        let factors = found.remove(ROPE_FACTORS);
        let factors = factors.map(|(file, info)| {
            let mut values = vec![0.0; info.shape.iter().product()];
            info.format.decode(&files[file].1[info.start..info.start + info.bytes], 0, &mut values);
            values
        });
        header.tensors = found.iter().map(|(name, (_, info))| (name.clone(), info.clone())).collect();
        let in_file = |e: ModelError| e.in_file(path.display().to_string());
        let config = config(&header, factors.as_deref()).map_err(in_file)?;
        let tensors = locate(&config, &path.display().to_string(), found)?;
        Ok(GgufModel { config, metadata: Arc::new(header.metadata), files: Arc::new(files), tensors: Arc::new(tensors) })
    }

    /// The files that the model is read from.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(|(path, _)| path.as_path())
    }

    /// What the user may want to know: which matrices are decoded.
    pub fn notes(&self) -> Vec<String> {
        let is_decoded = |format: &BlockFormat| format.float().is_none() && !format.held_as().is_quantised();
        let mut decoded: Vec<&str> =
            self.tensors.values().map(|t| t.info.format).filter(is_decoded).map(BlockFormat::name).collect();
        decoded.sort_unstable();
        decoded.dedup();
        match decoded.is_empty() {
            true => Vec::new(),
            false => vec![format!("matrices in {} are decoded to f32; Q8_0, Q4_0 and Q4_1 stay packed", decoded.join(", "))],
        }
    }

    /// The text of `judge.json`, if the file is a judge of jurist.
    ///
    /// # Errors
    /// A key of another type.
    pub fn judge_json(&self) -> Result<Option<String>, ModelError> {
        Ok(Metadata(&self.metadata).text(JUDGE_KEY)?.map(str::to_string))
    }

    /// The tokenizer's files, as a Hugging Face directory would have them.
    ///
    /// # Errors
    /// A kind of tokenizer, or of pre-tokenizer, that is not read, by name.
    pub fn tokenizer_files(&self) -> Result<Files, TextError> {
        tokenizer::files(Metadata(&self.metadata))
    }

    /// The model's tokenizer.
    ///
    /// # Errors
    /// As [`GgufModel::tokenizer_files`].
    pub fn tokenizer(&self) -> Result<Tokenizer, TextError> {
        Tokenizer::from_files(self.tokenizer_files()?)
    }

    fn location(&self, tensor: &str) -> Result<&Location, ModelError> {
        self.tensors.get(tensor).ok_or_else(|| ModelError::UnknownTensor(tensor.into()))
    }

    fn bytes(&self, location: &Location) -> &[u8] {
        let TensorInfo { start, bytes, .. } = location.info;
        &self.files[location.file].1[start..start + bytes]
    }
}

/// Maps a file and reads its header.
fn read(path: &Path) -> Result<(Header, memmap2::Mmap), ModelError> {
    let mapped = map_file(path)?;
    let damaged = |reason| ModelError::Corrupt { file: path.display().to_string(), reason };
    Ok((Header::parse(&mapped).map_err(damaged)?, mapped))
}

/// The other files of a model that is split: `name-00001-of-00003.gguf` and on.
fn rest_of(path: &Path, header: &Header, splits: u64) -> Result<Vec<PathBuf>, ModelError> {
    if splits <= 1 {
        return Ok(Vec::new());
    }
    let problem = |reason: String| ModelError::Corrupt { file: path.display().to_string(), reason };
    if splits > MAX_SPLITS {
        return Err(problem(format!("it says that it is one of {splits} files")));
    }
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let ending = format!("-00001-of-{splits:05}.gguf");
    let number = Metadata(&header.metadata).unsigned("split.no")?.unwrap_or(0);
    let stem = name.strip_suffix(&ending).filter(|_| number == 0).ok_or_else(|| {
        problem(format!("it is file {} of {splits}; name the first one, whose name ends in {ending}", number + 1))
    })?;
    Ok((2..=splits).map(|n| path.with_file_name(format!("{stem}-{n:05}-of-{splits:05}.gguf"))).collect())
}

/// Finds every tensor of the model, and checks its shape.
fn locate(
    config: &Config,
    file: &str,
    mut found: BTreeMap<String, (usize, TensorInfo)>,
) -> Result<HashMap<String, Location>, ModelError> {
    check_layers(config, found.len()).map_err(|error| error.in_file(file.to_string()))?;
    let (mut located, mut missing) = (HashMap::new(), Vec::new());
    for TensorSpec { name, shape } in tensors(config) {
        let own = gguf_name(config, &name);
        let Some((number, info)) = found.remove(&own) else {
            missing.push(own);
            continue;
        };
        if info.shape != shape {
            return Err(ModelError::Shape { tensor: own, file: file.into(), expected: shape, found: info.shape });
        }
        let (permuted, shift) = (row_heads(config, &name), shift(config, &name));
        located.insert(name, Location { file: number, info, permuted, shift });
    }
    if !missing.is_empty() {
        let names = missing.iter().take(5).cloned().collect::<Vec<_>>().join(", ");
        return Err(ModelError::MissingTensors { count: missing.len(), names, hint: String::new() }.in_file(file.to_string()));
    }
    if !found.is_empty() {
        let names = found.keys().take(5).cloned().collect::<Vec<_>>().join(", ");
        return Err(ModelError::UnexpectedTensors { count: found.len(), names }.in_file(file.to_string()));
    }
    Ok(located)
}

/// The row of a GGUF file that is row `row` of the Hugging Face matrix, in heads of `width` rows: there, the two values of a
/// rotated pair are half a head apart; in the file they are neighbours.
pub(super) fn permuted_row(row: usize, width: usize) -> usize {
    let (head, within) = (row / width, row % width);
    let (half, pair) = (within / (width / 2), within % (width / 2));
    head * width + 2 * pair + half
}

impl TensorSource for GgufModel {
    fn config(&self) -> &Config {
        &self.config
    }

    fn read(&self, tensor: &str, start: usize, out: &mut [f32]) -> Result<(), ModelError> {
        let location = self.location(tensor)?;
        let (len, end) = (location.info.shape.iter().product::<usize>(), start.saturating_add(out.len()));
        if end > len {
            return Err(ModelError::OutOfBounds { tensor: tensor.into(), len, start, end });
        }
        let bytes = self.bytes(location);
        each_run(location, start, out.len(), |from, at, len| location.info.format.decode(bytes, from, &mut out[at..at + len]));
        if location.shift != 0.0 {
            out.iter_mut().for_each(|x| *x -= location.shift);
        }
        match first_non_finite(out) {
            None => Ok(()),
            Some(at) => Err(ModelError::NonFinite { tensor: tensor.into(), index: start + at, value: out[at] }),
        }
    }

    fn stored_dtype(&self, tensor: &str) -> WeightDtype {
        self.tensors.get(tensor).map(|location| location.info.format.held_as()).unwrap_or_default()
    }

    fn read_plane(&self, tensor: &str, plane: Plane, start: usize, out: &mut [u32]) -> Result<(), ModelError> {
        let location = self.location(tensor)?;
        let (format, dtype) = (location.info.format, location.info.format.held_as());
        if !dtype.is_quantised() {
            return Err(ModelError::UnknownTensor(format!("{tensor}, quantised")));
        }
        let per_block = dtype.entries(plane, BLOCK);
        let len = location.info.bytes / format.bytes() * per_block;
        let end = start.saturating_add(out.len());
        if end > len {
            return Err(ModelError::OutOfBounds { tensor: tensor.into(), len, start, end });
        }
        let bytes = self.bytes(location);
        let columns = location.info.shape.last().copied().unwrap_or(1);
        for (entry, word) in (start..).zip(out.iter_mut()) {
            let (block, within) = (entry / per_block, entry % per_block);
            let blocks_per_row = columns / BLOCK;
            let row = location.row(block / blocks_per_row);
            let at = (row * blocks_per_row + block % blocks_per_row) * format.bytes();
            let raw = &bytes[at..at + format.bytes()];
            *word = match plane {
                Plane::Scales => format.scale_word(raw),
                Plane::Packed => format.code_word(raw, within),
            };
        }
        match plane {
            Plane::Packed => Ok(()),
            Plane::Scales => finite_scales(dtype, tensor, start, out),
        }
    }
}

impl Location {
    /// The row of the file that is row `row` of the Hugging Face tensor.
    fn row(&self, row: usize) -> usize {
        self.permuted.map_or(row, |width| permuted_row(row, width))
    }
}

/// Calls `run(from, at, len)` for each run of values that lie one after another in the file: `from` in the file, `at` within
/// what was asked for.
fn each_run(location: &Location, start: usize, len: usize, mut run: impl FnMut(usize, usize, usize)) {
    if location.permuted.is_none() {
        return run(start, 0, len);
    }
    // A bias has one value per row.
    let columns = if location.info.shape.len() == 1 { 1 } else { location.info.shape.last().copied().unwrap_or(1) };
    let mut at = 0;
    while at < len {
        let (row, column) = ((start + at) / columns, (start + at) % columns);
        let count = (columns - column).min(len - at);
        run(location.row(row) * columns + column, at, count);
        at += count;
    }
}
