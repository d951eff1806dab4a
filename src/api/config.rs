//! The types of a [`TrainConfig`](crate::TrainConfig)'s fields.
//!
//! Those that are words in a config file are written and read as these words.
//!
//! ```
//! use jurist::config::{Preset, SaveDtype};
//! use jurist::{TrainConfig, WeightDtype};
//!
//! # fn main() -> Result<(), jurist::config::UnknownWord> {
//! let config = TrainConfig {
//!     preset: Preset::Paper,
//!     lr_scheduler_type: "cosine".parse()?,
//!     save_dtype: Some(SaveDtype::Bfloat16),
//!     base_weights: WeightDtype::Q8.into(),
//!     ..TrainConfig::default()
//! };
//! assert_eq!(config.lr_scheduler_type.to_string(), "cosine");
//! # Ok(())
//! # }
//! ```

pub use crate::judge::{Expectation, ScoreReads};
pub use crate::model::weight_policy::WeightPolicy;
pub use crate::train::config::{BestMetric, ChainColumn, Chat, GradientSum, Method, Preset, ReportTo, Resume, SaveDtype};
pub use crate::train::objective::policy::Aggregation;
pub use crate::train::objective::schedule::Decay;
pub use crate::words::UnknownWord;
