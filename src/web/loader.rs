//! From the bytes of a bundle to weights on the GPU, piece by piece: no shard is ever whole in wasm memory.

use wasm_bindgen::prelude::wasm_bindgen;

use super::{Engine, Failure, WebJudge};
use crate::bundle::{ArrayPart, Contents, EntryFormat, Manifest, ShardReader, TensorChunk};
use crate::gpu::Gpu;
use crate::model::dtype::first_non_finite;
use crate::model::error::ModelError;
use crate::model::quantised::{Plane, finite_scales};
use crate::model::weights::Weights;
use crate::ops::weight_dtype::WeightDtype;
use crate::text::Tokenizer;

/// Bytes handed to the GPU's queue after which it is asked to take them.
const FLUSH: usize = 16 << 20;

/// How the matrices of a bundle are held: quantised ones as they came, the others in f32, so that all of the judge can be
/// trained, or, with `halves`, as they came too.
pub(super) fn held(stored: WeightDtype, halves: bool) -> WeightDtype {
    if halves || stored.is_quantised() { stored } else { WeightDtype::F32 }
}

/// A judge under way.
#[wasm_bindgen]
pub struct Loader {
    gpu: Gpu,
    manifest: Manifest,
    tokenizer: Tokenizer,
    intake: Intake,
    /// The shard that is being read, and its reader.
    reader: Option<(usize, ShardReader)>,
    queued: usize,
}

/// Puts tensors where they belong.
struct Intake {
    gpu: Gpu,
    weights: Weights,
    contents: Contents,
    part: Option<ArrayPart>,
    values: Vec<f32>,
    entries: Vec<u32>,
}

#[wasm_bindgen]
impl Loader {
    /// Makes room for the judge of `manifest` on the GPU. `tokenizer` is the file that the manifest names. With `halves`,
    /// matrices of f16 and bf16 stay so: half the memory, and training trains an adapter.
    ///
    /// # Errors
    /// `BadBundle`, `LimitTooSmall`, `OutOfMemory`.
    #[wasm_bindgen(constructor)]
    pub fn new(engine: &Engine, manifest: &str, tokenizer: Vec<u8>, halves: bool) -> Result<Loader, Failure> {
        let manifest = Manifest::parse(manifest)?;
        let config = manifest.model()?;
        let tokenizer = Tokenizer::from_files(manifest.tokenizer_files(tokenizer)?)?;
        if tokenizer.vocab_size() > config.vocab_size {
            let (tokens, rows) = (tokenizer.vocab_size(), config.vocab_size);
            let message = format!("The tokenizer has {tokens} tokens, but the model only {rows}: they do not belong together.");
            return Err(Failure::bundle(message));
        }
        let gpu = engine.gpu.clone();
        let stored = manifest.weight_dtype()?;
        let intake = Intake {
            gpu: gpu.clone(),
            weights: Weights::room(&gpu, &config, held(stored, halves))?,
            contents: Contents::new(&config, stored),
            part: None,
            values: Vec::new(),
            entries: Vec::new(),
        };
        Ok(Loader { gpu, manifest, tokenizer, intake, reader: None, queued: 0 })
    }

    /// Takes the next bytes of shard `shard` (its place in the manifest, from 0); shards come one after another.
    ///
    /// # Errors
    /// `BadBundle` where they are not what the manifest says; `OutOfMemory`, `DeviceLost`.
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
        let intake = &mut self.intake;
        reader.push(bytes, |piece| intake.take(file, piece))?;
        self.queued += bytes.len();
        if self.queued >= FLUSH {
            self.gpu.flush();
            self.queued = 0;
        }
        Ok(self.gpu.check()?)
    }

    /// The judge, once all shards have come. Waits until the GPU has everything.
    ///
    /// # Errors
    /// `BadBundle` where something is missing; `OutOfMemory`, `DeviceLost`.
    pub async fn finish(self) -> Result<WebJudge, Failure> {
        let count = self.manifest.shards.len();
        match &self.reader {
            Some((last, reader)) if last + 1 == count => reader.finish()?,
            came => {
                let came = came.as_ref().map_or(0, |(last, _)| last + 1);
                return Err(Failure::bundle(format!("Only {came} of {count} shards came.")));
            }
        }
        self.intake.contents.finish()?;
        if let Some(buffer) = self.intake.weights.base().buffers().first() {
            self.gpu.read::<u32>(buffer, 0, 1).await?;
        }
        WebJudge::new(self.gpu, self.manifest, self.intake.weights, self.tokenizer)
    }
}

impl Intake {
    fn take(&mut self, file: &str, piece: TensorChunk) -> Result<(), ModelError> {
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
                    // Two halves a word, in the order of the file; the reader cuts no word.
                    self.entries.clear();
                    self.entries.extend(words(piece.bytes));
                    self.weights.base().write_plane(&self.gpu, &part.tensor, Plane::Packed, start / 2, &self.entries)?;
                } else {
                    self.weights.base().write(&self.gpu, &part.tensor, start, &self.values)?;
                }
            }
            EntryFormat::Plane(_, plane) => {
                self.entries.clear();
                self.entries.extend(words(piece.bytes));
                if plane == Plane::Scales {
                    finite_scales(&part.tensor, start, &self.entries)?;
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
