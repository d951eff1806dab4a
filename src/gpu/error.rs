//! What can go wrong between jurist and a GPU.

use super::MemoryUsage;

/// Errors of the `gpu` module. Every message says what was requested, what was found and what to do.
#[derive(Debug, thiserror::Error)]
pub enum GpuError {
    #[error("no GPU adapter was found.\n{advice}")]
    NoAdapter { advice: String },

    #[error(
        "no adapter matches `{wanted}`; the adapters here are:\n{list}\nGive --adapter (or JURIST_ADAPTER) a number or part of a name from this list"
    )]
    NoSuchAdapter { wanted: String, list: String },

    #[error("the adapter `{adapter}` refused a device: {reason}")]
    NoDevice { adapter: String, reason: String },

    #[error("the kernels of {variant} need {needs}, which `{adapter}` does not have; ask for auto, plain or others")]
    CannotRun { variant: &'static str, needs: &'static str, adapter: String },

    #[error(
        "{what} needs {needed} bytes in one binding, but `{adapter}` allows {allowed}; use a smaller model or batch, or another adapter (--adapter)"
    )]
    BindingTooLarge { what: String, needed: u64, allowed: u64, adapter: String },

    #[error(
        "{what} needs a buffer of {needed} bytes, but `{adapter}` allows {allowed}; use a smaller model or batch, or another adapter (--adapter)"
    )]
    BufferTooLarge { what: String, needed: u64, allowed: u64, adapter: String },

    #[error(
        "out of GPU memory while making {what} ({bytes} bytes), with {held} held; lower per_device_train_batch_size or max_length, or choose \
         an adapter with more memory (`jurist train --dry-run` shows what a run needs, and which setting saves how much)"
    )]
    OutOfMemory { what: String, bytes: u64, held: MemoryUsage },

    #[error(
        "this needs {needed} MiB for GPU buffers, but only {available} MiB of memory are free ({held} held); hold the weights in fewer bits \
         (--weights q8; in training --base-weights q8 with lora_r), make batches smaller or rows shorter (`jurist train --dry-run` shows what \
         a run needs, and which setting saves how much)"
    )]
    OverBudget { needed: u64, available: u64, held: MemoryUsage },

    #[error(
        "the GPU was lost: {reason}. The last checkpoint is intact; restart with --resume (a driver update, a sleep or a too long kernel can cause this)"
    )]
    DeviceLost { reason: String },

    #[error(
        "the GPU rejected a command: {reason}. This is a defect of jurist or of the driver; `jurist doctor` tells which kernel fails"
    )]
    Validation { reason: String },

    #[error(
        "run parameter {index} is {given}, but the plan was made for at most {planned}; make the plan for more tokens or rows, or give it fewer"
    )]
    OverPlanned { index: usize, given: u32, planned: u32 },

    #[error("{plan} cannot continue: another plan has used the memory that both share since it began; begin it again")]
    Overwritten { plan: String },

    #[error("a dry run has no values: it counts buffers and makes none")]
    Dry,

    #[error("words {start} to {end} of the buffer `{buffer}` were asked for, but it has {words}")]
    OutOfBounds { buffer: String, start: usize, end: usize, words: usize },

    #[error("shader {kernel}: {reason}")]
    Shader { kernel: String, reason: String },
}
