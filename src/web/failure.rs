//! Errors as a page sees them: a code, and one plain sentence about what to do.

use wasm_bindgen::JsValue;

use crate::data::DataError;
use crate::gpu::GpuError;
use crate::judge::JudgeError;
use crate::model::error::ModelError;
use crate::text::TextError;
use crate::train::TrainError;

/// What a promise rejects with: an `Error` with `name` and `message`.
#[derive(Debug)]
pub struct Failure {
    /// `NoWebGpu`, `NoAdapter`, `LimitTooSmall`, `OutOfMemory`, `DeviceLost`, `BadBundle`, `BadRow`, `Stopped`, `Internal`.
    pub code: &'static str,
    pub message: String,
}

impl Failure {
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Failure { code, message: message.into() }
    }

    /// A row, or an option beside it, that cannot be used.
    pub fn row(message: impl Into<String>) -> Self {
        Failure::new("BadRow", message)
    }

    /// A bundle that cannot be used.
    pub fn bundle(message: impl Into<String>) -> Self {
        Failure::new("BadBundle", message)
    }
}

impl From<Failure> for JsValue {
    fn from(failure: Failure) -> JsValue {
        let error = js_sys::Error::new(&failure.message);
        error.set_name(failure.code);
        error.into()
    }
}

/// Bytes as people read them.
pub fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

/// Why something does not fit, and what to do about it.
pub fn over_limit(what: &str, needed: u64, allowed: u64) -> String {
    format!(
        "{what} needs {} in one buffer, but this GPU allows {} here: use a smaller judge, a shorter text, or another browser or GPU.",
        megabytes(needed),
        megabytes(allowed)
    )
}

impl From<GpuError> for Failure {
    fn from(error: GpuError) -> Self {
        match &error {
            GpuError::NoAdapter { .. } | GpuError::NoSuchAdapter { .. } => Failure::new(
                "NoAdapter",
                "This browser offers WebGPU, but no GPU for it: turn on hardware acceleration in its settings, or update the browser and \
                 the graphics driver.",
            ),
            GpuError::NoDevice { reason, .. } => Failure::new(
                "NoAdapter",
                format!("The GPU could not be opened ({reason}): close other pages that use it, then reload this one."),
            ),
            GpuError::BindingTooLarge { what, needed, allowed, .. } | GpuError::BufferTooLarge { what, needed, allowed, .. } => {
                Failure::new("LimitTooSmall", over_limit(&format!("A buffer ({what})"), *needed, *allowed))
            }
            GpuError::OutOfMemory { .. } | GpuError::OverBudget { .. } => Failure::new(
                "OutOfMemory",
                "The GPU has no memory left: close other pages and programs that use it, or choose a smaller judge, then reload this page.",
            ),
            GpuError::DeviceLost { reason } => Failure::new(
                "DeviceLost",
                format!("The GPU was lost ({reason}): reload the page; a sleep, a driver update or a reset can cause this."),
            ),
            GpuError::Validation { .. }
            | GpuError::CannotRun { .. }
            | GpuError::OverPlanned { .. }
            | GpuError::OutOfBounds { .. }
            | GpuError::Overwritten { .. }
            | GpuError::Dry
            | GpuError::Shader { .. } => Failure::new("Internal", error.to_string()),
        }
    }
}

impl From<ModelError> for Failure {
    fn from(error: ModelError) -> Self {
        match error {
            ModelError::Gpu(gpu) => gpu.into(),
            ModelError::CacheTooLarge { needed, allowed, .. } => {
                Failure::new("LimitTooSmall", over_limit("The memory of the chains that run together", needed, allowed))
            }
            ModelError::Stopped => Failure::new("Stopped", "Stopped."),
            ModelError::Batch { .. } => Failure::row(error.to_string()),
            other => Failure::bundle(other.to_string()),
        }
    }
}

impl From<TextError> for Failure {
    fn from(error: TextError) -> Self {
        match &error {
            TextError::Tokenizer { .. } | TextError::Chat(_) => Failure::row(error.to_string()),
            _ => Failure::bundle(error.to_string()),
        }
    }
}

impl From<JudgeError> for Failure {
    fn from(error: JudgeError) -> Self {
        match error {
            JudgeError::Model(model) => model.into(),
            JudgeError::Text(text) => text.into(),
            // A place is `file:line`, and a page's row has no line.
            JudgeError::Row { place, found, fix } => {
                Failure::row(with_fix(format!("{}: {found}", place.strip_suffix(":1").unwrap_or(&place)), &fix))
            }
            JudgeError::Label { .. } => Failure::row(error.to_string()),
            JudgeError::Option { .. } => Failure::row(format!("{error}.")),
            JudgeError::Probabilities(_) => Failure::new("Internal", error.to_string()),
            other => Failure::bundle(other.to_string()),
        }
    }
}

impl From<TrainError> for Failure {
    fn from(error: TrainError) -> Self {
        match error {
            TrainError::Model(model) => model.into(),
            TrainError::Judge(judge) => judge.into(),
            TrainError::Text(text) => text.into(),
            TrainError::Data(data) => data.into(),
            other => Failure::row(other.to_string()),
        }
    }
}

impl From<DataError> for Failure {
    fn from(error: DataError) -> Self {
        // A page's rows have no file and no line.
        Failure::row(match error {
            DataError::File { file, found, fix } | DataError::Line { file, found, fix, .. } => {
                with_fix(format!("{file}: {found}"), &fix)
            }
            DataError::Field { file, field, found, fix, .. } => with_fix(format!("{file}, field `{field}`: {found}"), &fix),
        })
    }
}

/// What is wrong with a row, and what to do about it unless that is a flag of the command line.
fn with_fix(found: String, fix: &str) -> String {
    if fix.contains("--") { format!("{found}.") } else { format!("{found}; {fix}.") }
}
