//! What is known of a task's rows beside its cells: human scores, clusters and baselines, in `cells/TASK/rows.json`.
//!
//! It is written when the first cell of the task runs. With it, tables can be made where the rows are not, and rows that have
//! changed since are noticed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::comparison::Comparison;
use super::metrics::rounded;
use super::tasks::{FileTask, beside};
use super::{CompareError, file_error};
use crate::bundle::sha256_hex;
use crate::data::{Chains, ColumnOptions, DataError, Example, Reader};
use crate::eval::baselines::{self, Line, word_overlap};
use crate::files;

/// The rows of a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskRows {
    pub task: String,
    /// The SHA-256 of training and validation rows, by name of the file.
    pub files: BTreeMap<String, String>,
    pub sets: Vec<SetRows>,
}

/// The rows of a test set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SetRows {
    pub name: String,
    /// The SHA-256 of its file.
    pub sha256: String,
    pub human: Vec<f64>,
    /// Which rows are drawn together; empty where each is drawn by itself.
    pub clusters: Vec<usize>,
    /// True for rows without which the metrics are shown a second time; empty where there are none.
    pub left_out: Vec<bool>,
    /// Scores of predictors that do not read, fitted on the training rows.
    pub baselines: BTreeMap<String, Vec<f64>>,
}

/// The labelled rows of a file, without their chains.
///
/// # Errors
/// As [`Reader::read_path`]; a file that is not there.
pub fn read_rows(file: &Path) -> Result<Vec<Example>, CompareError> {
    let columns = ColumnOptions { chains: Chains::Ignore, ..ColumnOptions::default() };
    Ok(Reader { columns, ..Reader::default() }.read_path(file)?.examples)
}

impl TaskRows {
    fn file(comparison: &Comparison, task: &str) -> PathBuf {
        comparison.results.join("cells").join(task).join("rows.json")
    }

    /// What is written of a task; `None` before its first cell.
    ///
    /// # Errors
    /// A file that holds something else.
    pub fn read(comparison: &Comparison, task: &str) -> Result<Option<Self>, CompareError> {
        let path = Self::file(comparison, task);
        if !path.is_file() {
            return Ok(None);
        }
        let text = std::fs::read_to_string(&path).map_err(file_error("read", &path))?;
        serde_json::from_str(&text)
            .map(Some)
            .map_err(|e| CompareError::Result { path, found: format!("{e}; remove it, and it is made again") })
    }

    /// Writes what is known of a task's rows, or checks that they are those of the cells that are there.
    ///
    /// # Errors
    /// Rows that cannot be read, or that are not the former ones.
    pub fn keep(comparison: &Comparison, task: &FileTask) -> Result<Self, CompareError> {
        let now = Self::of(comparison.protocol.folder(), task)?;
        let path = Self::file(comparison, &task.name);
        match Self::read(comparison, &task.name)? {
            Some(then) if then == now => {}
            Some(then) => {
                let found = format!(
                    "the rows of {} are not those of its cells ({}): bring the rows back, or move the folder of the cells away",
                    task.name,
                    now.first_difference(&then)
                );
                return Err(CompareError::Result { path, found });
            }
            None => {
                let dir = path.parent().unwrap_or(Path::new("."));
                std::fs::create_dir_all(dir).map_err(file_error("create", dir))?;
                files::write(&path, (serde_json::to_string(&now).unwrap_or_default() + "\n").as_bytes())?;
            }
        }
        Ok(now)
    }

    fn of(folder: &Path, task: &FileTask) -> Result<Self, CompareError> {
        let train = read_rows(&beside(folder, &task.train))?;
        let human = |rows: &[Example]| rows.iter().filter_map(|row| row.record.score).collect::<Vec<f64>>();
        let scores = human(&train);
        let lengths = |rows: &[Example]| rows.iter().map(Example::characters).collect::<Vec<usize>>();
        let mean = scores.iter().sum::<f64>() / scores.len().max(1) as f64;
        let length = baselines::fit_length(&lengths(&train), &scores)?.ok();
        let overlap = overlaps(&train).map(|o| baselines::fit_overlap(&o, &scores)).transpose()?.and_then(Result::ok);
        let mut sets = Vec::new();
        for set in &task.tests {
            let path = beside(folder, &set.file);
            let rows = read_rows(&path)?;
            let mut by_name = BTreeMap::from([("constant".to_string(), vec![mean; rows.len()])]);
            let mut add = |name: &str, line: Option<&Line>, scores: &dyn Fn(&Line) -> Vec<f64>| {
                by_name.extend(line.map(|line| (name.to_string(), scores(line))));
            };
            add("log response length", length.as_ref(), &|line| line.predict_lengths(&lengths(&rows)));
            if let Some(overlaps) = overlaps(&rows) {
                add("word overlap", overlap.as_ref(), &|line| line.predict(&overlaps));
            }
            by_name.values_mut().flatten().for_each(|score| *score = rounded(*score, 4));
            let texts = set.cluster.as_ref().map(|column| column_of(&rows, column)).transpose()?;
            let left_out = match &set.also_without {
                None => Vec::new(),
                Some(column) => column_of(&rows, column)?.iter().map(|value| value == "true").collect(),
            };
            sets.push(SetRows {
                name: set.name.clone(),
                sha256: hash_of(&path)?,
                human: human(&rows),
                clusters: texts.map(|texts| crate::eval::clusters::clusters_of(&texts)).unwrap_or_default(),
                left_out,
                baselines: by_name,
            });
        }
        let mut files = BTreeMap::new();
        for file in [&task.train, &task.validation] {
            files.insert(file.file_name().unwrap_or_default().to_string_lossy().into(), hash_of(&beside(folder, file))?);
        }
        Ok(TaskRows { task: task.name.clone(), files, sets })
    }

    /// What differs between these rows and others, for a message.
    fn first_difference(&self, other: &Self) -> String {
        let file = self.files.iter().find(|(name, hash)| other.files.get(*name) != Some(hash));
        let set = self.sets.iter().find(|set| !other.sets.contains(set));
        match (file, set) {
            (Some((name, _)), _) => name.clone(),
            (None, Some(set)) => format!("test set {}", set.name),
            (None, None) => "a test set is gone".into(),
        }
    }

    /// The rows of a test set.
    pub fn set(&self, name: &str) -> Option<&SetRows> {
        self.sets.iter().find(|set| set.name == name)
    }
}

/// The word overlap of each row's two texts; `None` if a row lacks one of them.
fn overlaps(rows: &[Example]) -> Option<Vec<f64>> {
    rows.iter().map(|row| row.compared().map(|(one, other)| word_overlap(one, other))).collect()
}

/// A column as texts.
fn column_of(rows: &[Example], column: &str) -> Result<Vec<String>, CompareError> {
    let text = |row: &Example| match row.row.fields.get(column) {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(value) if !value.is_null() => Ok(value.to_string()),
        _ => {
            Err(CompareError::Cell(format!("{}: the row has no column `{column}`, which the protocol names", row.row.location())))
        }
    };
    rows.iter().map(text).collect()
}

fn hash_of(file: &Path) -> Result<String, CompareError> {
    Ok(sha256_hex(&std::fs::read(file).map_err(file_error("read", file))?))
}

impl From<DataError> for CompareError {
    fn from(error: DataError) -> Self {
        CompareError::Cell(error.to_string())
    }
}
