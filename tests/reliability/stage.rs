//! What all of it is played on: a tiny task, judges trained on it, and what each command makes of them when nothing happens.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::cli::{Task, succeed};

/// 20 rows, 4 a step: 30 steps, a checkpoint every 4.
const RUN: [&str; 6] = ["--per-device-train-batch-size", "4", "--num-train-epochs", "6", "--save-steps", "4"];

/// A comparison of four cells.
const PROTOCOL: &str = r#"
seeds = [1, 2]
data_seed = 1
sizes = { train = 40, validation = 8, test = 8 }
tuning = { task = "H", seed = 9 }
imitation = { max_steps = 2, per_device_train_batch_size = 8 }
policy = { max_steps = 1, per_device_train_batch_size = 4, num_generations = 4 }
[[method]]
name = "sft"
title = "SFT"
settings = { method = "sft" }
learning_rates = [1e-3, 3e-3]
[[group]]
name = "core"
title = "All"
tasks = ["E"]
methods = ["sft"]
champion = "sft"
"#;

/// A command with one output, whose name is given.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Work {
    Train,
    Score,
    Export,
    Merge,
    Report,
    Compare,
}

impl Work {
    pub const ALL: [Work; 6] = [Work::Train, Work::Score, Work::Export, Work::Merge, Work::Report, Work::Compare];

    pub fn name(self) -> &'static str {
        match self {
            Work::Train => "train --resume",
            Work::Score => "score --resume",
            Work::Export => "export over a bundle",
            Work::Merge => "merge",
            Work::Report => "eval --report over a page",
            Work::Compare => "compare",
        }
    }
}

/// What a command leaves, and how long it takes.
pub struct Whole {
    pub files: Tree,
    pub time: Duration,
}

/// The files of a folder by their paths in it; of a file itself the one.
pub type Tree = BTreeMap<String, Vec<u8>>;

pub struct Stage {
    pub task: Task,
    whole: Vec<(Work, Whole)>,
}

impl Stage {
    pub fn new() -> Self {
        let task = Task::new(20, 300, false);
        succeed(task.train("judge", &RUN));
        let lora =
            ["--model", "judge", "--train-file", "train.jsonl", "--output-dir", "adapter", "--lora-r", "2", "--max-steps", "2"];
        succeed(task.jurist(&[&["train"][..], &lora].concat()));
        succeed(task.jurist(&["score", "--model", "judge", "--input", "dev.jsonl", "--output", "scored.jsonl"]));
        let mut stage = Stage { task, whole: Vec::new() };
        for work in Work::ALL {
            let begun = Instant::now();
            let place = stage.place(work, "whole");
            succeed(stage.command(work, &place));
            let time = begun.elapsed();
            stage.whole.push((work, Whole { files: kept(work, &stage.task.at(&place)), time }));
        }
        stage
    }

    /// A name for the output of a command.
    pub fn place(&self, work: Work, base: &str) -> String {
        let kind = format!("{work:?}").to_lowercase();
        let base = format!("{base}-{kind}");
        match work {
            Work::Score => base + ".jsonl",
            Work::Report => base + ".html",
            Work::Compare => {
                // Its results lie beside its protocol.
                std::fs::create_dir_all(self.task.at(&base)).unwrap();
                self.task.write(&format!("{base}/protocol.toml"), PROTOCOL);
                base
            }
            _ => base,
        }
    }

    pub fn command(&self, work: Work, output: &str) -> Command {
        match work {
            Work::Train => self.task.train(output, &[&RUN[..], &["--resume"]].concat()),
            Work::Score => {
                let flags = ["--batch-size", "8", "--resume", "--output", output];
                self.task.jurist(&[&["score", "--model", "judge", "--input", "dev.jsonl"][..], &flags].concat())
            }
            Work::Export => self.task.jurist(&["export", "judge", "--out", output, "--weights", "f32", "--name", "new"]),
            Work::Merge => self.task.jurist(&["merge", "adapter", "--out", output]),
            Work::Report => self.task.jurist(&["eval", "scored.jsonl", "--resamples", "200", "--report", output]),
            Work::Compare => {
                let (config, work) = (format!("{output}/protocol.toml"), format!("{output}/work"));
                self.task.jurist(&["compare", "--config", &config, "--work", &work])
            }
        }
    }

    pub fn whole(&self, work: Work) -> &Whole {
        self.whole.iter().find(|(other, _)| *other == work).map(|(_, whole)| whole).unwrap()
    }
}

/// What of an output must be the same each time: everything but logs with times in them, and what is only on the way.
pub fn kept(work: Work, path: &Path) -> Tree {
    let wanted = |name: &str| match work {
        Work::Train => name.ends_with(".safetensors") || name == "judge.json",
        Work::Compare => name.starts_with("cells/"),
        Work::Report => !name.is_empty(),
        _ => true,
    };
    tree(path).into_iter().filter(|(name, _)| wanted(name)).collect()
}

pub fn tree(path: &Path) -> Tree {
    let mut found = Tree::new();
    let mut open: Vec<PathBuf> = vec![path.to_path_buf()];
    while let Some(next) = open.pop() {
        if next.is_dir() {
            open.extend(std::fs::read_dir(&next).unwrap().map(|entry| entry.unwrap().path()));
        } else if let Ok(bytes) = std::fs::read(&next) {
            let name = next.strip_prefix(path).unwrap().display().to_string();
            found.insert(if name.is_empty() { "file".into() } else { name }, bytes);
        }
    }
    found
}

/// Names that only a command at work has, in a folder and those below it.
pub fn leftovers(path: &Path) -> Vec<String> {
    let mut open = vec![path.to_path_buf()];
    let mut found = Vec::new();
    while let Some(next) = open.pop() {
        for entry in std::fs::read_dir(&next).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if [".tmp", ".old", ".part"].iter().any(|mark| name.contains(mark)) {
                found.push(entry.path().display().to_string());
            } else if entry.path().is_dir() {
                open.push(entry.path());
            }
        }
    }
    found
}

/// The first difference between two trees, in words.
pub fn difference(expected: &Tree, found: &Tree) -> Option<String> {
    for (name, bytes) in expected {
        match found.get(name) {
            None => return Some(format!("{name} is not there")),
            Some(other) if other != bytes => return Some(format!("{name} differs ({} and {} bytes)", bytes.len(), other.len())),
            Some(_) => {}
        }
    }
    found.keys().find(|name| !expected.contains_key(*name)).map(|name| format!("{name} is there too"))
}
