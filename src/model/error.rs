//! Errors from a Hugging Face directory to a running model.

use std::path::PathBuf;

/// Errors of the `model` module. Every message says what was expected, what was found and, where it helps, what to do.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// Wraps an error with the file it came from.
    #[error("{file}: {source}")]
    InFile { file: String, source: Box<ModelError> },

    #[error("not valid JSON: {0}")]
    Json(String),

    #[error("`{key}` is missing; expected {expected}")]
    MissingKey { key: String, expected: String },

    #[error("`{key}`: expected {expected}, found {found}")]
    BadValue { key: String, expected: String, found: String },

    /// A setting that changes the mathematics and is not implemented.
    #[error("`{key}` is {found}, which is not supported; supported: {supported}")]
    Unsupported { key: String, found: String, supported: String },

    #[error(
        "training every weight needs weights in f32, and these are {found}: train a LoRA adapter on them (lora_r), or start from the checkpoint"
    )]
    Frozen { found: &'static str },

    /// Two settings that contradict each other.
    #[error("{0}")]
    Inconsistent(String),

    #[error("cannot {action} {}: {source}", path.display())]
    Io { action: &'static str, path: PathBuf, source: std::io::Error },

    #[error(
        "no space left on the disk while writing {}: free some space and repeat; a checkpoint that was already there is untouched",
        path.display()
    )]
    DiskFull { path: PathBuf },

    /// An output that cannot be written.
    #[cfg(not(target_arch = "wasm32"))]
    #[error(transparent)]
    Files(#[from] crate::files::FileError),

    /// A model that is given by its name on the hub.
    #[error("model {model}: {found}; {fix}")]
    Hub { model: String, found: String, fix: String },

    #[error("no weights in {dir}: {advice}")]
    NoWeights { dir: String, advice: String },

    /// A safetensors file or a shard index that cannot be what it claims to be.
    #[error("{file} is damaged or incomplete: {reason}; download or copy it again")]
    Corrupt { file: String, reason: String },

    #[error("tensor `{tensor}` in {file} has shape {found:?}; config.json asks for {expected:?}")]
    Shape { tensor: String, file: String, expected: Vec<usize>, found: Vec<usize> },

    #[error("tensor `{tensor}` in {file} is stored as {found}; supported: F32, F16, BF16")]
    TensorDtype { tensor: String, file: String, found: String },

    #[error("{count} tensors that config.json asks for are missing: {names}{hint}")]
    MissingTensors { count: usize, names: String, hint: String },

    #[error("{count} tensors are not part of the model that config.json describes: {names}")]
    UnexpectedTensors { count: usize, names: String },

    #[error("tensor `{tensor}` holds {value} at element {index}: the weights are not usable")]
    NonFinite { tensor: String, index: usize, value: f32 },

    #[error("tensor `{tensor}`: {value} at element {index} does not fit into {dtype}; save as bf16 or f32")]
    OutOfRangeForDtype { tensor: String, index: usize, value: f32, dtype: &'static str },

    #[error("there is no tensor `{0}` here")]
    UnknownTensor(String),

    #[error("tensor `{tensor}` has {len} elements; {start}..{end} was asked for")]
    OutOfBounds { tensor: String, len: usize, start: usize, end: usize },

    #[error("writing a checkpoint: {0}")]
    WriteOrder(String),

    #[error(transparent)]
    Gpu(#[from] crate::gpu::GpuError),

    #[error(
        "the cache of a rollout holds {entries} positions, {} MiB per layer, but one binding of this adapter may have {} MiB; lower \
         the chains that run at a time (per_device_train_batch_size, num_generations; --batch-size, --chains), \
         max_completion_length or max_length, or choose another adapter (--adapter)",
        needed.div_ceil(1 << 20),
        allowed >> 20
    )]
    CacheTooLarge { entries: usize, needed: u64, allowed: u64 },

    /// The caller's observer stopped the work.
    #[error("stopped")]
    Stopped,

    /// A batch that does not fit its pass or the model.
    #[error("{what}: at most {allowed}, but the batch has {found}")]
    Batch { what: &'static str, allowed: usize, found: usize },
}

impl ModelError {
    /// The same error, with the file in which it occurred.
    pub fn in_file(self, file: impl Into<String>) -> Self {
        ModelError::InFile { file: file.into(), source: Box::new(self) }
    }

    /// An I/O error. A full disk is an error of its own, because the remedy differs.
    pub fn io(action: &'static str, path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        let path = path.into();
        match source.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => ModelError::DiskFull { path },
            _ => ModelError::Io { action, path, source },
        }
    }
}
