//! The demo's data as files, in the form that any user's data has.

use std::path::{Path, PathBuf};

use super::{DemoError, Example, Item, Sizes, Split, Version};
use crate::data::Reader;
use crate::experiments::synthetic::{Miniature, config, vocabulary, words};
use crate::files::{FileError, write_own};
use crate::text::{SpecialTokens, word_level};

/// Files to train from, and test sets in memory.
pub struct DemoData {
    pub train: PathBuf,
    pub validation: PathBuf,
    /// A fresh model's `config.json`.
    pub config: PathBuf,
    /// Folder of the word-level tokenizer.
    pub tokenizer: PathBuf,
    pub train_items: Vec<Item>,
    pub tests: Vec<TestItems>,
    /// Everything that was written.
    files: Vec<PathBuf>,
}

/// One test set.
pub struct TestItems {
    pub split: Split,
    pub items: Vec<Item>,
    /// The same items as rows of a file.
    pub rows: Vec<Example>,
    /// Mean score of many simulated annotators, per item: what no judge can beat.
    pub ceiling: Vec<f64>,
}

impl DemoData {
    /// Makes the items of `seed` and writes them below `folder`. The same files, written before, are left as they are.
    ///
    /// # Errors
    /// Other files with these names, which are not replaced.
    pub fn make(version: Version, seed: u64, sizes: Sizes, folder: &Path) -> Result<Self, DemoError> {
        let task = Miniature::new(version, seed);
        let dir = folder.join("data");
        let tokenizer = dir.join("tokenizer");
        std::fs::create_dir_all(&tokenizer).map_err(|e| FileError::io("create", &tokenizer, e))?;
        let mut files = Vec::new();
        let mut write = |name: &str, bytes: &[u8]| {
            let path = dir.join(name);
            files.push(path.clone());
            // A file of these bytes is the only one that is ours.
            write_own(&path, bytes, |_| false).map(|()| path)
        };
        let train_items = task.items(Split::Train, sizes.train);
        let train = write("train.jsonl", lines(&train_items).as_bytes())?;
        let validation = write("validation.jsonl", lines(&task.items(Split::Validation, sizes.validation)).as_bytes())?;
        let config = write("config.json", format!("{:#}\n", config()).as_bytes())?;
        let special = SpecialTokens {
            unk: Some(words::PAD.into()),
            pad: Some(words::PAD.into()),
            bos: Some(words::BOS.into()),
            add_bos: true,
            ..SpecialTokens::default()
        };
        for (name, bytes) in word_level(&vocabulary(), &special)?.files() {
            write(&format!("tokenizer/{name}"), bytes)?;
        }

        let mut tests = Vec::new();
        for split in Split::TESTS {
            let test = TestItems::make(&task, split, sizes)?;
            write(&format!("{}.jsonl", split.name()), lines(&test.items).as_bytes())?;
            tests.push(test);
        }
        Ok(DemoData { train, validation, config, tokenizer, train_items, tests, files })
    }

    /// Removes the files again, and their folders unless somebody put something there.
    ///
    /// # Errors
    /// What the system refuses.
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

impl TestItems {
    /// The first items of a split, as rows too.
    pub fn make(task: &Miniature, split: Split, sizes: Sizes) -> Result<Self, DemoError> {
        let items = task.items(split, sizes.of(split));
        let reader = Reader::default();
        let rows = reader.read_str(split.name(), &lines(&items))?.examples;
        let ceiling = (0..items.len()).map(|n| task.ceiling(split, n)).collect();
        Ok(TestItems { split, items, rows, ceiling })
    }
}

fn lines(items: &[Item]) -> String {
    items.iter().map(|item| item.to_row().to_string() + "\n").collect()
}
