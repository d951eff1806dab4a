//! The demo's data as files, in the form that any user's data has.

use std::path::{Path, PathBuf};

use super::{DemoError, Example, Item, Split, SplitSizes, TaskVersion};
use crate::data::Reader;
use crate::experiments::synthetic::{SyntheticTask, config, vocabulary, words};
use crate::files::{FileError, write_own};
use crate::text::{SpecialTokens, word_level};

/// Files to train from, and the test splits in memory.
pub struct DemoData {
    pub train: PathBuf,
    pub validation: PathBuf,
    /// The `config.json` of a model with random weights.
    pub config: PathBuf,
    /// Folder of the word-level tokenizer.
    pub tokenizer: PathBuf,
    pub train_items: Vec<Item>,
    pub tests: Vec<TestSplit>,
    /// Everything that was written.
    files: Vec<PathBuf>,
}

/// The items of one split.
pub struct TestSplit {
    pub split: Split,
    pub items: Vec<Item>,
    /// The same items as rows of a file.
    pub rows: Vec<Example>,
    /// Mean score of many simulated annotators, per item. No judge can do better.
    pub ceiling: Vec<f64>,
}

impl DemoData {
    /// Makes the items of `seed` and writes them below `folder`. The same files, written before, are left as they are.
    ///
    /// # Errors
    /// Other files with these names. They are not replaced.
    pub fn make(version: TaskVersion, seed: u64, sizes: SplitSizes, folder: &Path) -> Result<Self, DemoError> {
        let task = SyntheticTask::new(version, seed);
        let dir = folder.join("data");
        let tokenizer = dir.join("tokenizer");
        std::fs::create_dir_all(&tokenizer).map_err(|e| FileError::io("create", &tokenizer, e))?;
        let mut files = Vec::new();
        let mut write = |name: &str, bytes: &[u8]| {
            let path = dir.join(name);
            files.push(path.clone());
            // Only a file of exactly these bytes counts as ours.
            write_own(&path, bytes, |_| false).map(|()| path)
        };
        let train_items = task.items(Split::Train, sizes.train);
        let train = write("train.jsonl", lines(&train_items).as_bytes())?;
        let validation = write("validation.jsonl", lines(&task.items(Split::Validation, sizes.validation)).as_bytes())?;
        let config = write("config.json", format!("{:#}\n", config(version.scale)).as_bytes())?;
        let special = SpecialTokens {
            unk: Some(words::PAD.into()),
            pad: Some(words::PAD.into()),
            bos: Some(words::BOS.into()),
            add_bos: true,
            ..SpecialTokens::default()
        };
        for (name, bytes) in word_level(&vocabulary(version.scale), &special)?.files() {
            write(&format!("tokenizer/{name}"), bytes)?;
        }

        let mut tests = Vec::new();
        for split in Split::TESTS {
            let test = TestSplit::make(&task, split, sizes)?;
            write(&format!("{}.jsonl", split.name()), lines(&test.items).as_bytes())?;
            tests.push(test);
        }
        Ok(DemoData { train, validation, config, tokenizer, train_items, tests, files })
    }

    /// Removes the files, and their folders unless they hold anything else.
    ///
    /// # Errors
    /// What the system reports.
    pub fn remove(self) -> Result<(), FileError> {
        self.files.iter().try_for_each(|file| std::fs::remove_file(file).map_err(|e| FileError::io("remove", file, e)))?;
        for dir in [Some(self.tokenizer.as_path()), self.tokenizer.parent()].into_iter().flatten() {
            if crate::files::empty(dir)? {
                std::fs::remove_dir(dir).map_err(|e| FileError::io("remove", dir, e))?;
            }
        }
        Ok(())
    }
}

impl TestSplit {
    /// The first items of a split, as rows too.
    pub fn make(task: &SyntheticTask, split: Split, sizes: SplitSizes) -> Result<Self, DemoError> {
        let items = task.items(split, sizes.of(split));
        let reader = Reader::default();
        let rows = reader.read_str(split.name(), &lines(&items))?.examples;
        let ceiling = (0..items.len()).map(|n| task.ceiling(split, n)).collect();
        Ok(TestSplit { split, items, rows, ceiling })
    }
}

fn lines(items: &[Item]) -> String {
    items.iter().map(|item| item.to_row().to_string() + "\n").collect()
}
