//! The result of one cell: a training with its measurement, as it is written to `cells/TASK/METHOD/seed-N.json`.

use serde::{Deserialize, Serialize};

use super::metrics::{ChainSwap, SplitMetrics};

/// The result of a cell.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CellResult {
    pub task: String,
    pub method: String,
    pub seed: u64,
    pub learning_rate: f64,
    /// Validation and the four test splits.
    #[serde(rename = "sets")]
    pub splits: Vec<SplitResult>,
    /// On the test split; none for a judge that writes no chains.
    pub chain_swap: Option<ChainSwap>,
}

/// The judge's scores on one split, and their metrics.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SplitResult {
    pub name: String,
    /// The way of judging, where the protocol has several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub way: Option<String>,
    #[serde(rename = "figures")]
    pub metrics: SplitMetrics,
    /// Expected score of each row, to four digits.
    pub scores: Vec<f64>,
}

impl CellResult {
    /// The split of this name; where there are several ways, as the first of them judged it.
    pub fn split(&self, name: &str) -> Option<&SplitResult> {
        self.splits.iter().find(|split| split.name == name)
    }

    /// The split of this name, as it was judged in this way.
    pub fn judged(&self, name: &str, way: &str) -> Option<&SplitResult> {
        self.splits.iter().find(|split| split.name == name && split.way.as_deref() == Some(way))
    }
}
