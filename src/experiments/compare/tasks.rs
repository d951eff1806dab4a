//! Tasks of a comparison that are files of rows, as `[[task]]` of a protocol names them, and the ways in which they are judged.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::judge::ScoreOptions;

/// The pretrained model that every method starts from, and the settings of its adapter.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Base {
    /// A folder or a GGUF file, from the protocol's folder.
    pub model: PathBuf,
    /// Settings of `jurist train` for runs that start from it; runs that start from another judge train that one's adapter.
    #[serde(default)]
    pub adapter: toml::Table,
}

/// A task: rows to train on, to choose by, and to test on.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileTask {
    pub name: String,
    pub title: String,
    /// Files of rows, from the protocol's folder.
    pub train: PathBuf,
    pub validation: PathBuf,
    /// A Jinja template, from the protocol's folder.
    pub template: Option<PathBuf>,
    /// What its methods share: scale, chat, length of chains.
    #[serde(default)]
    pub settings: toml::Table,
    /// What only methods on given judgements share, and only those on sampled chains.
    #[serde(default)]
    pub imitation: toml::Table,
    #[serde(default)]
    pub policy: toml::Table,
    #[serde(rename = "test")]
    pub tests: Vec<TestSet>,
}

/// Rows that judges are tested on.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TestSet {
    pub name: String,
    pub title: String,
    /// From the protocol's folder.
    pub file: PathBuf,
    /// The column of what is drawn together by the bootstrap; none: every row by itself.
    pub cluster: Option<String>,
    /// A column that is true in rows without which the metrics are shown a second time.
    pub also_without: Option<String>,
    /// The only methods that are tested on it.
    pub methods: Option<Vec<String>>,
}

/// How rows are judged.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Way {
    pub name: String,
    pub title: String,
    /// 0 takes the likeliest chain.
    pub temperature: f32,
    /// Chains of a row, whose distributions are averaged.
    #[serde(default = "one")]
    pub chains: usize,
    /// At most this many rows of a test set.
    pub rows: Option<usize>,
    /// The only methods that are judged this way.
    pub methods: Option<Vec<String>>,
    /// The only test sets.
    pub sets: Option<Vec<String>>,
}

fn one() -> usize {
    1
}

/// Tokens a second, measured before the protocol was written: what `--estimate` reckons with.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rates {
    /// Forward and backward.
    pub training: f64,
    /// Tokens of chains.
    pub sampling: f64,
    /// Forward alone, of prompts.
    pub reading: f64,
}

/// The name of the rows that learning rates are chosen by.
pub const VALIDATION: &str = "validation";

/// Whether a list that names some includes this one; no list includes all.
pub fn includes(only: Option<&Vec<String>>, name: &str) -> bool {
    only.is_none_or(|names| names.iter().any(|n| n == name))
}

impl FileTask {
    /// Checks the names in the task; `methods` are those of the protocol.
    ///
    /// # Errors
    /// What is wrong, as a text that begins with the task.
    pub fn check(&self, methods: &[&str]) -> Result<(), String> {
        let name = &self.name;
        if self.tests.is_empty() || name.is_empty() || name.contains('/') {
            return Err(format!("task `{name}`: every task needs a name without a slash, and a [[task.test]]"));
        }
        let mut known = vec![VALIDATION];
        for set in &self.tests {
            if known.contains(&set.name.as_str()) || set.name.is_empty() || set.name.contains('/') {
                return Err(format!(
                    "task `{name}`: test set `{}`: every set needs a name of its own, without a slash, and not {VALIDATION}",
                    set.name
                ));
            }
            if let Some(unknown) = set.methods.iter().flatten().find(|m| !methods.contains(&m.as_str())) {
                return Err(format!("task `{name}`: test set `{}` names `{unknown}`, which is no method", set.name));
            }
            known.push(&set.name);
        }
        Ok(())
    }
}

impl Way {
    /// What rows are judged by in this way.
    pub fn options(&self, seed: u64, batch_size: usize) -> ScoreOptions {
        let temperature = Some(self.temperature);
        ScoreOptions { chains: self.chains, temperature, seed, batch_size, ..ScoreOptions::default() }
    }

    /// Checks the names in the way.
    ///
    /// # Errors
    /// What is wrong, as a text that begins with the way.
    pub fn check(&self, methods: &[&str], sets: &[&str]) -> Result<(), String> {
        let name = &self.name;
        if let Some(unknown) = self.methods.iter().flatten().find(|m| !methods.contains(&m.as_str())) {
            return Err(format!("way `{name}` names `{unknown}`, which is no method"));
        }
        if let Some(unknown) = self.sets.iter().flatten().find(|s| !sets.contains(&s.as_str())) {
            return Err(format!("way `{name}` names `{unknown}`, which is no test set"));
        }
        let temperature = self.temperature;
        if !(temperature.is_finite() && temperature >= 0.0) {
            return Err(format!("way `{name}`: temperature {temperature}; expected 0 or more"));
        }
        if self.chains == 0 || self.rows == Some(0) {
            return Err(format!("way `{name}`: expected at least one row and one chain"));
        }
        if self.chains > 1 && temperature == 0.0 {
            return Err(format!("way `{name}`: {} chains at temperature 0 are all the same; raise the temperature", self.chains));
        }
        Ok(())
    }
}

/// A path of the protocol, which is relative to its folder.
pub fn beside(folder: &Path, path: &Path) -> PathBuf {
    folder.join(path)
}
