//! From the bytes of a bundle to weights on the GPU, piece by piece. No shard is ever whole in wasm memory.

use wasm_bindgen::prelude::wasm_bindgen;

use super::engine::TrainingKernels;
use super::{Engine, Failure, WebJudge};
use crate::bundle::{ArrayPart, Contents, EntryFormat, Manifest, ShardReader, TensorChunk};
use crate::gpu::Gpu;
use crate::model::dtype::first_non_finite;
use crate::model::error::ModelError;
use crate::model::lora::Adapter;
use crate::model::quantised::{Plane, finite_scales};
use crate::model::weights::Weights;
use crate::ops::weight_dtype::WeightDtype;
use crate::text::Tokenizer;

/// Bytes in the GPU's queue after which the queue is submitted.
const FLUSH_BYTES: usize = 16 << 20;

/// The dtype of a bundle's matrices on the GPU. Quantised matrices stay as stored. Others become f32, so that training can change
/// every weight, unless `keep_half_precision` keeps them as stored too.
pub(super) fn dtype_on_gpu(stored: WeightDtype, keep_half_precision: bool) -> WeightDtype {
    if keep_half_precision || stored.is_quantised() { stored } else { WeightDtype::F32 }
}

/// A judge that is being loaded.
#[wasm_bindgen]
pub struct Loader {
    gpu: Gpu,
    training: TrainingKernels,
    manifest: Manifest,
    tokenizer: Tokenizer,
    writer: WeightWriter,
    /// The shard that is being read, and its reader.
    reader: Option<(usize, ShardReader)>,
    /// Bytes in the GPU's queue.
    queued: usize,
}

/// Writes the tensors of a bundle to the GPU.
struct WeightWriter {
    gpu: Gpu,
    weights: Weights,
    contents: Contents,
    part: Option<ArrayPart>,
    values: Vec<f32>,
    entries: Vec<u32>,
}

#[wasm_bindgen]
impl Loader {
    /// Allocates the judge of `manifest` on the GPU. `tokenizer` is the file that the manifest names. With `keep_half_precision`,
    /// matrices in f16 and bf16 stay as stored: they take half the memory, and training trains an adapter.
    ///
    /// # Errors
    /// `BadBundle`, `LimitTooSmall`, `OutOfMemory`.
    #[wasm_bindgen(constructor)]
    pub fn new(engine: &Engine, manifest: &str, tokenizer: Vec<u8>, keep_half_precision: bool) -> Result<Loader, Failure> {
        let manifest = Manifest::parse(manifest)?;
        let config = manifest.model()?;
        let tokenizer = Tokenizer::from_files(manifest.tokenizer_files(tokenizer)?)?;
        if tokenizer.vocab_size() > config.vocab_size {
            let (tokens, rows) = (tokenizer.vocab_size(), config.vocab_size);
            let message = format!("The tokenizer has {tokens} tokens, but the model only {rows}: they do not belong together.");
            return Err(Failure::bundle(message));
        }
        let gpu = engine.gpu();
        let training = engine.for_training(&manifest, keep_half_precision)?;
        let stored = manifest.weight_dtype()?;
        let writer = WeightWriter {
            gpu: gpu.clone(),
            weights: Weights::allocate(&gpu, &config, dtype_on_gpu(stored, keep_half_precision))?,
            contents: Contents::new(&config, stored),
            part: None,
            values: Vec::new(),
            entries: Vec::new(),
        };
        Ok(Loader { gpu, training, manifest, tokenizer, writer, reader: None, queued: 0 })
    }

    /// Takes the next bytes of shard `shard` (its index in the manifest). Shards come one after another.
    ///
    /// # Errors
    /// `BadBundle` if they are not what the manifest says; `OutOfMemory`, `DeviceLost`.
    pub fn push(&mut self, shard: usize, bytes: &[u8]) -> Result<(), Failure> {
        let next = match &self.reader {
            Some((current, _)) if *current == shard => None,
            Some((current, reader)) => {
                reader.finish()?;
                Some(current + 1)
            }
            None => Some(0),
        };
        if let Some(next) = next {
            let Some(entry) = self.manifest.shards.get(shard).filter(|_| shard == next) else {
                return Err(Failure::bundle(format!(
                    "Shard {shard} came where {next} was due; this judge has {}.",
                    self.manifest.shards.len()
                )));
            };
            self.reader = Some((shard, ShardReader::new(&entry.file, entry.bytes)));
        }
        let Some((_, reader)) = &mut self.reader else { return Ok(()) };
        let file = &self.manifest.shards[shard].file;
        let writer = &mut self.writer;
        reader.push(bytes, |piece| writer.write(file, piece))?;
        self.queued += bytes.len();
        if self.queued >= FLUSH_BYTES {
            self.gpu.flush();
            self.queued = 0;
        }
        Ok(self.gpu.check()?)
    }

    /// Takes the bytes of the adapter that the manifest names.
    ///
    /// # Errors
    /// `BadBundle` if they are not what the manifest says; `OutOfMemory`.
    pub fn adapter(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let Some(entry) = &self.manifest.adapter else { return Ok(()) };
        let weights = &self.writer.weights;
        let adapter = entry.read(bytes, &weights.config)?;
        self.writer.weights = weights.with_adapter(Adapter::upload(&self.gpu, &weights.config, &adapter)?);
        Ok(())
    }

    /// The judge, after all shards have come, and the adapter if there is one. Waits until the GPU has every weight.
    ///
    /// # Errors
    /// `BadBundle` if something is missing; `OutOfMemory`, `DeviceLost`.
    pub async fn finish(self) -> Result<WebJudge, Failure> {
        let count = self.manifest.shards.len();
        match &self.reader {
            Some((last, reader)) if last + 1 == count => reader.finish()?,
            came => {
                let came = came.as_ref().map_or(0, |(last, _)| last + 1);
                return Err(Failure::bundle(format!("Only {came} of {count} shards came.")));
            }
        }
        self.writer.contents.finish()?;
        if self.manifest.adapter.is_some() && self.writer.weights.adapter().is_none() {
            return Err(Failure::bundle("The adapter that this judge needs did not come.".to_string()));
        }
        if let Some(buffer) = self.writer.weights.base().buffers().first() {
            self.gpu.read::<u32>(buffer, 0, 1).await?;
        }
        WebJudge::new(self.gpu, self.training, self.manifest, self.writer.weights, self.tokenizer)
    }
}

impl WeightWriter {
    fn write(&mut self, file: &str, piece: TensorChunk) -> Result<(), ModelError> {
        let known = if piece.start == 0 { None } else { self.part.take() };
        let part = match known {
            Some(part) => part,
            None => self.contents.add(file, piece.tensor, piece.shape, piece.dtype)?,
        };
        let start = part.start + piece.start;
        match part.entries {
            EntryFormat::Values(dtype) => {
                self.values.resize(piece.bytes.len() / dtype.bytes(), 0.0);
                dtype.widen(piece.bytes, &mut self.values);
                if let Some(at) = first_non_finite(&self.values) {
                    let (tensor, value) = (piece.tensor.to_string(), self.values[at]);
                    return Err(ModelError::NonFinite { tensor, index: start + at, value });
                }
                if self.weights.base().dtype_of(&part.tensor) != WeightDtype::F32 {
                    // A word has two numbers, in the order of the file. The reader never splits a word.
                    self.entries.clear();
                    self.entries.extend(words(piece.bytes));
                    self.weights.base().write_plane(&self.gpu, &part.tensor, Plane::Packed, start / 2, &self.entries)?;
                } else {
                    self.weights.base().write(&self.gpu, &part.tensor, start, &self.values)?;
                }
            }
            EntryFormat::Plane(dtype, plane) => {
                self.entries.clear();
                self.entries.extend(words(piece.bytes));
                if plane == Plane::Scales {
                    finite_scales(dtype, &part.tensor, start, &self.entries)?;
                }
                self.weights.base().write_plane(&self.gpu, &part.tensor, plane, start, &self.entries)?;
            }
        }
        self.part = Some(part);
        Ok(())
    }
}

fn words(bytes: &[u8]) -> impl Iterator<Item = u32> {
    bytes.as_chunks::<4>().0.iter().map(|raw| u32::from_le_bytes(*raw))
}
