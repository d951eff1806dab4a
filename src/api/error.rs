//! One error for everything that the library does.

use crate::data::DataError;
use crate::eval::EvalError;
use crate::gpu::GpuError;
use crate::judge::JudgeError;
use crate::model::error::ModelError;
use crate::text::TextError;
use crate::train::TrainError;
use crate::train::config::SettingError;

/// What went wrong, and what to do about it. The message names the file, the row or the setting.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Error(Kind);

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
