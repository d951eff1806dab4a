//! One error for everything that the library does.

use crate::data::DataError;
use crate::eval::{EvalError, Undefined};
use crate::gpu::GpuError;
use crate::judge::JudgeError;
use crate::model::error::ModelError;
use crate::text::TextError;
use crate::train::TrainError;
use crate::train::config::SettingError;
use crate::train::config::keys::find;
use crate::words::UnknownWord;

/// What went wrong, and what to do about it. The message names the file, the row or the setting.
#[derive(Debug)]
pub struct Error(Kind);

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        match &self.0 {
            Kind::Train(TrainError::Setting(SettingError::Missing { key, why })) => write!(f, "{key} is not set: {why}"),
            kind => f.write_str(&with_fields(&kind.to_string())),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source()
    }
}

/// A message of the command line with the names of fields in the place of its flags.
fn with_fields(message: &str) -> String {
    let mut parts = message.split("--");
    let mut told: String = parts.next().unwrap_or_default().into();
    for part in parts {
        let end = part.find(|c: char| !(c.is_ascii_lowercase() || c == '-')).unwrap_or(part.len());
        let (flag, rest) = part.split_at(end);
        told += &match field(flag) {
            Some(field) => format!("`{field}`{}", rest.strip_prefix(" DIR").unwrap_or(rest)),
            None => format!("--{part}"),
        };
    }
    told
}

/// The field that a flag sets: of a [`TrainConfig`](crate::TrainConfig), or of the options beside it.
fn field(flag: &str) -> Option<String> {
    match flag {
        "resume" => Some("resume_from_checkpoint".into()),
        "weights" | "batch-size" | "chains" => Some(flag.replace('-', "_")),
        _ => find(&flag.replace('-', "_")).map(|key| key.name.into()),
    }
}

#[derive(Debug, thiserror::Error)]
pub(super) enum Kind {
    #[error(transparent)]
    Judge(#[from] JudgeError),
    #[error(transparent)]
    Train(#[from] TrainError),
    #[error(transparent)]
    Data(#[from] DataError),
    #[error(transparent)]
    Eval(#[from] EvalError),
    #[error(transparent)]
    Undefined(#[from] Undefined),
    #[error(transparent)]
    Word(#[from] UnknownWord),
    /// A case that cannot be judged; the sentence says why.
    #[error("{0}")]
    Case(String),
    /// Something was asked for that there is not.
    #[error("{0}")]
    Usage(String),
}

impl Error {
    pub(crate) fn usage(message: String) -> Self {
        Error(Kind::Usage(message))
    }

    /// Whether the case is at fault (no response, too long for the model), so that other cases may do.
    pub fn is_case(&self) -> bool {
        matches!(self.0, Kind::Case(_))
    }

    /// Why a metric does not exist for data that is sound in itself, where that is what went wrong.
    pub fn undefined(&self) -> Option<&Undefined> {
        match &self.0 {
            Kind::Undefined(reason) => Some(reason),
            _ => None,
        }
    }
}

impl<E: Into<Kind>> From<E> for Error {
    fn from(error: E) -> Self {
        Error(error.into())
    }
}

impl From<ModelError> for Kind {
    fn from(error: ModelError) -> Self {
        Kind::Judge(error.into())
    }
}

impl From<GpuError> for Kind {
    fn from(error: GpuError) -> Self {
        ModelError::from(error).into()
    }
}

impl From<TextError> for Kind {
    fn from(error: TextError) -> Self {
        Kind::Judge(error.into())
    }
}

impl From<SettingError> for Kind {
    fn from(error: SettingError) -> Self {
        Kind::Train(error.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_become_fields() {
        for (message, told) in [
            ("name a whole model with --base DIR", "name a whole model with `base`"),
            ("lower --batch-size and --max-length, or --weights q8", "lower `batch_size` and `max_length`, or `weights` q8"),
            ("continue with --resume, or not", "continue with `resume_from_checkpoint`, or not"),
            ("cargo install jurist --features hf-hub", "cargo install jurist --features hf-hub"),
            ("a -- b --- --", "a -- b --- --"),
            ("it ends in --adapter", "it ends in `adapter`"),
        ] {
            assert_eq!(with_fields(message), told);
        }
        let config = crate::TrainConfig { model_name_or_path: Some("m".into()), ..Default::default() };
        let error = Error::from(config.checked().unwrap_err());
        assert_eq!(error.to_string(), "train_file is not set: there is nothing to train on");
    }
}
