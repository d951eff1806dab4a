//! Writing a model, its tokenizer and a judge's settings as one GGUF file, tensor by tensor: the model is never in memory as a
//! whole.

use std::io::Write;
use std::path::Path;

use super::blocks::{BlockFormat, VALUES};
use super::families::{architecture, gguf_name, row_heads, shift, write_keys};
use super::header::Value;
use super::vocabulary::vocabulary;
use super::weights::{GgufModel, ROPE_FACTORS, permuted_row};
use super::{DEFAULT_ALIGNMENT, JUDGE_KEY, MAGIC};
use crate::files::{Draft, FileError};
use crate::model::config::{Config, Rope, RopeScaling};
use crate::model::error::ModelError;
use crate::model::names::{EMBED, TensorSpec, tensors};
use crate::model::quantised::Plane;
use crate::model::source::TensorSource;
use crate::ops::weight_dtype::WeightDtype;
use crate::text::Tokenizer;

/// Values of whole rows that are read and written at a time, at least one row.
const BUFFER: usize = 1 << 18;
/// Of the format and of the scheme of quantisation that are written.
const VERSION: u32 = 3;
const QUANTISATION_VERSION: u64 = 2;

/// What goes into a GGUF file.
pub struct GgufExport<'a> {
    pub name: &'a str,
    /// What the judge is good for.
    pub description: Option<&'a str>,
    /// How matrices are stored: F16, BF16, Q8_0 or Q4_0.
    pub format: BlockFormat,
    pub model: &'a dyn TensorSource,
    pub tokenizer: &'a Tokenizer,
    /// The text of `judge.json`.
    pub judge: &'a str,
}

/// What was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    pub bytes: u64,
    /// Matrices that stayed in F16, because their rows are not whole blocks.
    pub left_in_f16: usize,
}

/// Writes the file `path`, as a whole. An earlier judge there is replaced.
///
/// # Errors
/// A file there that jurist did not write; a tokenizer or a model that llama.cpp has no name for; numbers that are not finite or
/// do not fit; a full disk.
pub fn export(path: &Path, file: &GgufExport) -> Result<Written, ModelError> {
    refuse_foreign(path)?;
    let config = file.model.config();
    let metadata = metadata(config, file)?;
    let factors = rope_factors(config);
    let plan = plan(config, file.format, factors.len());
    let mut header = Vec::new();
    write_header(&mut header, &metadata, &plan);
    let io = |source| ModelError::from(FileError::io("write", path, source));
    let mut out = Draft::create(path)?;
    let mut bytes = 0;
    let mut put = |out: &mut Draft, part: &[u8]| {
        bytes += part.len() as u64;
        out.write_all(part).map_err(io)
    };
    put(&mut out, &header)?;
    for tensor in &plan {
        match &tensor.spec {
            None => put(&mut out, &factors.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>())?,
            Some(spec) => each_chunk(file.model, spec, tensor.format, |part| put(&mut out, part))?,
        }
        put(&mut out, &vec![0; padding(tensor.bytes())])?;
    }
    out.finish()?;
    // Norms and rope factors are F32.
    let left_in_f16 = plan.iter().filter(|t| t.format == BlockFormat::F16 && file.format != BlockFormat::F16).count();
    Ok(Written { bytes, left_in_f16 })
}

/// A file is replaced only if it is a judge of jurist in GGUF.
fn refuse_foreign(path: &Path) -> Result<(), ModelError> {
    let is_judge = || GgufModel::open(path).is_ok_and(|model| model.judge_json().is_ok_and(|judge| judge.is_some()));
    match path.is_file() && !is_judge() {
        true => {
            Err(FileError::in_the_way(path, "it is not a judge that jurist exported; move it away or choose another name").into())
        }
        false => Ok(()),
    }
}

/// A tensor that will be written; without a spec, the factors of Llama 3.1's rope.
struct Planned {
    name: String,
    shape: Vec<usize>,
    format: BlockFormat,
    spec: Option<TensorSpec>,
}

impl Planned {
    fn bytes(&self) -> usize {
        self.shape.iter().product::<usize>() / self.format.values() * self.format.bytes()
    }
}

fn padding(bytes: usize) -> usize {
    bytes.next_multiple_of(DEFAULT_ALIGNMENT) - bytes
}

fn plan(config: &Config, format: BlockFormat, factors: usize) -> Vec<Planned> {
    let of_spec = |spec: TensorSpec| {
        let columns = spec.shape.last().copied().unwrap_or(1);
        // As in bundles: every logit of a score is computed with a tied embedding.
        let keeps_8_bits = spec.name == EMBED && matches!(format, BlockFormat::Q4_0 | BlockFormat::Q4_1);
        let format = if keeps_8_bits { BlockFormat::Q8_0 } else { format };
        let format = match spec.shape.len() {
            1 => BlockFormat::F32,
            _ if columns.is_multiple_of(format.values()) => format,
            _ => BlockFormat::F16,
        };
        Planned { name: gguf_name(config, &spec.name), shape: spec.shape.clone(), format, spec: Some(spec) }
    };
    let rope = Planned { name: ROPE_FACTORS.into(), shape: vec![factors], format: BlockFormat::F32, spec: None };
    let rope = (factors > 0).then_some(rope);
    rope.into_iter().chain(tensors(config).into_iter().map(of_spec)).collect()
}

/// Encodes a tensor in chunks of whole rows, rows of rotated heads in llama.cpp's order.
fn each_chunk(
    model: &dyn TensorSource,
    spec: &TensorSpec,
    format: BlockFormat,
    mut put: impl FnMut(&[u8]) -> Result<(), ModelError>,
) -> Result<(), ModelError> {
    let columns = if spec.shape.len() == 1 { 1 } else { spec.shape.last().copied().unwrap_or(1) };
    // Rows of one head are exchanged among themselves, so that a chunk is a number of whole heads.
    let heads = row_heads(model.config(), &spec.name);
    let unit = heads.unwrap_or(1) * columns;
    let chunk = (BUFFER / unit).max(1) * unit;
    let (mut values, mut sorted, mut bytes) = (Vec::new(), Vec::new(), Vec::new());
    for start in (0..spec.len()).step_by(chunk) {
        values.resize(chunk.min(spec.len() - start), 0.0);
        model.read(&spec.name, start, &mut values)?;
        let shift = shift(model.config(), &spec.name);
        if shift != 0.0 {
            values.iter_mut().for_each(|x| *x += shift);
        }
        if let Some(width) = heads {
            sorted.clone_from(&values);
            for (row, source) in values.chunks_exact(columns).enumerate() {
                let at = permuted_row(row, width) * columns;
                sorted[at..at + columns].copy_from_slice(source);
            }
            std::mem::swap(&mut values, &mut sorted);
        }
        bytes.clear();
        format.encode(&values, &mut bytes).map_err(|at| ModelError::OutOfRangeForDtype {
            tensor: spec.name.clone(),
            index: start + at,
            value: values[at],
            dtype: format.name(),
        })?;
        put(&bytes)?;
    }
    Ok(())
}

/// The factors by which Llama 3.1's frequencies are divided; empty for other models.
fn rope_factors(config: &Config) -> Vec<f32> {
    let Some(rope) = config.ropes.iter().find(|rope| matches!(rope.scaling, RopeScaling::Llama3 { .. })) else {
        return Vec::new();
    };
    let plain = Rope { theta: rope.theta, scaling: RopeScaling::Default }.inv_freq(config.head_dim);
    let scaled = rope.inv_freq(config.head_dim);
    plain.iter().zip(scaled).map(|(plain, scaled)| (plain / scaled) as f32).collect()
}

type Pairs = Vec<(String, Value)>;

fn metadata(config: &Config, file: &GgufExport) -> Result<Pairs, ModelError> {
    let architecture = architecture(config.family);
    let own = write_keys(config)?;
    let text = |text: &str| Value::Text(text.into());
    let size = |n: usize| Value::Unsigned(n as u64);
    let mut pairs: Pairs = vec![
        ("general.architecture".into(), text(architecture)),
        ("general.type".into(), text("model")),
        ("general.name".into(), text(file.name)),
        ("general.file_type".into(), Value::Unsigned(file.format.file_type())),
        ("general.quantization_version".into(), Value::Unsigned(QUANTISATION_VERSION)),
    ];
    pairs.extend(file.description.map(|words| ("general.description".into(), text(words))));
    // The last rope is that of all layers, or of the global ones.
    let theta = config.ropes.last().map_or(0.0, |rope| rope.theta);
    let sizes = [
        ("vocab_size", size(config.vocab_size)),
        ("context_length", size(config.max_position_embeddings)),
        ("embedding_length", size(config.hidden_size)),
        ("block_count", size(config.num_hidden_layers)),
        ("feed_forward_length", size(config.intermediate_size)),
        ("attention.head_count", size(config.num_attention_heads)),
        ("attention.head_count_kv", size(config.num_key_value_heads)),
        ("attention.key_length", size(config.head_dim)),
        ("attention.value_length", size(config.head_dim)),
        ("attention.layer_norm_rms_epsilon", Value::Float(config.rms_norm_eps)),
        ("rope.freq_base", Value::Float(theta)),
        ("rope.dimension_count", size(config.head_dim)),
    ];
    pairs.extend(sizes.into_iter().chain(own).map(|(key, value)| (format!("{architecture}.{key}"), value)));
    pairs.extend(vocabulary(file.tokenizer, config.vocab_size)?);
    pairs.push((JUDGE_KEY.into(), text(file.judge)));
    Ok(pairs)
}

fn write_header(out: &mut Vec<u8>, metadata: &Pairs, plan: &[Planned]) {
    out.extend(MAGIC);
    out.extend(VERSION.to_le_bytes());
    out.extend((plan.len() as u64).to_le_bytes());
    out.extend((metadata.len() as u64).to_le_bytes());
    for (key, value) in metadata {
        put_text(out, key);
        out.extend(kind(value).to_le_bytes());
        put_value(out, value);
    }
    let mut offset = 0u64;
    for tensor in plan {
        put_text(out, &tensor.name);
        out.extend((tensor.shape.len() as u32).to_le_bytes());
        tensor.shape.iter().rev().for_each(|size| out.extend((*size as u64).to_le_bytes()));
        out.extend(tensor.format.id().to_le_bytes());
        out.extend(offset.to_le_bytes());
        offset += (tensor.bytes() + padding(tensor.bytes())) as u64;
    }
    out.resize(out.len() + padding(out.len()), 0);
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

/// The type of a value in a file. llama.cpp wants sizes as u32, token types as i32, and numbers as f32.
fn kind(value: &Value) -> u32 {
    match value {
        Value::Unsigned(_) => 4,
        Value::Signed(_) => 5,
        Value::Float(_) => 6,
        Value::Bool(_) => 7,
        Value::Text(_) => 8,
        Value::List(_) => 9,
    }
}

fn put_value(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Unsigned(n) => out.extend((*n as u32).to_le_bytes()),
        Value::Signed(n) => out.extend((*n as i32).to_le_bytes()),
        Value::Float(x) => out.extend((*x as f32).to_le_bytes()),
        Value::Bool(b) => out.push(u8::from(*b)),
        Value::Text(text) => put_text(out, text),
        Value::List(list) => {
            out.extend(list.first().map_or(8, kind).to_le_bytes());
            out.extend((list.len() as u64).to_le_bytes());
            list.iter().for_each(|value| put_value(out, value));
        }
    }
}

/// Formats that are written.
impl BlockFormat {
    /// The number of llama.cpp's `general.file_type`.
    fn file_type(self) -> u64 {
        match self {
            BlockFormat::F16 => 1,
            BlockFormat::Q4_0 => 2,
            BlockFormat::Q4_1 => 3,
            BlockFormat::Q8_0 => 7,
            BlockFormat::Bf16 => 32,
            _ => 0,
        }
    }

    /// The format of `export --weights`: f16, bf16, q8 (q8_0), q4 (q4_0), q4_1.
    pub fn of_weights(word: &str) -> Option<Self> {
        match word {
            "f16" => Some(BlockFormat::F16),
            "bf16" => Some(BlockFormat::Bf16),
            "q8" | "q8_0" => Some(BlockFormat::Q8_0),
            "q4" | "q4_0" => Some(BlockFormat::Q4_0),
            "q4_1" => Some(BlockFormat::Q4_1),
            _ => None,
        }
    }

    /// Appends whole blocks of finite values. Q8_0 and Q4_0 as ggml does (`quantize_row_q8_0_ref`, `quantize_row_q4_0_ref`).
    ///
    /// # Errors
    /// The position of a value that does not fit.
    fn encode(self, values: &[f32], out: &mut Vec<u8>) -> Result<(), usize> {
        if let Some(dtype) = self.float() {
            let start = out.len();
            dtype.narrow(values, out);
            let mut back = vec![0.0; values.len()];
            dtype.widen(&out[start..], &mut back);
            return back.iter().position(|x| !x.is_finite()).map_or(Ok(()), Err);
        }
        if self == BlockFormat::Q4_1 {
            return encode_affine(values, out);
        }
        for (number, block) in values.as_chunks::<VALUES>().0.iter().enumerate() {
            // Of the largest magnitude, with its sign.
            let largest = block.iter().fold(0f32, |largest, x| if x.abs() > largest.abs() { *x } else { largest });
            let scale = if self == BlockFormat::Q4_0 { largest / -8.0 } else { largest.abs() / 127.0 };
            let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
            let stored = half::f16::from_f32(scale);
            if !stored.is_finite() {
                return Err(number * VALUES);
            }
            out.extend(stored.to_le_bytes());
            match self {
                BlockFormat::Q4_0 => {
                    let code = |x: f32| ((x * inverse + 8.5) as i32).clamp(0, 15) as u8;
                    out.extend((0..VALUES / 2).map(|j| code(block[j]) | code(block[j + VALUES / 2]) << 4));
                }
                _ => out.extend(block.iter().map(|x| (x * inverse).round() as i8 as u8)),
            }
        }
        Ok(())
    }
}

/// Appends blocks of Q4_1, with the scales and minima of our own Q4.
///
/// # Errors
/// The position of a value that does not fit.
fn encode_affine(values: &[f32], out: &mut Vec<u8>) -> Result<(), usize> {
    let dtype = WeightDtype::Q4;
    if let Some(at) = dtype.first_out_of_range(values) {
        return Err(at);
    }
    let (words, scales) = dtype.encode(values);
    for (words, scale) in words.chunks_exact(dtype.entries(Plane::Packed, VALUES)).zip(scales) {
        let code = |i: usize| (words[i / 8] >> (i % 8 * 4)) as u8 & 15;
        out.extend(scale.to_le_bytes());
        out.extend((0..VALUES / 2).map(|j| code(j) | code(j + VALUES / 2) << 4));
    }
    Ok(())
}
