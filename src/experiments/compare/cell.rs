//! One cell: a method trained on a task with a seed, judged on every set, and written down.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::figures::{ChainSwap, Figures, expected, rounded};
use super::protocol::{Method, Protocol, Run, TrialChoice, version};
use super::{CompareError, file_error};
use crate::experiments::demo::{DemoData, TestItems};
use crate::experiments::synthetic::{Miniature, SCORE_PHRASE, Split};
use crate::files::{self, Lock};
use crate::judge::{JUDGE_FILE, Judge, ScoreOptions, with_swapped_chains};
use crate::train::TrainConfig;
use crate::train::config::{Layers, Raw, SettingSource};
use crate::train::run::{RunContext, TrainOutcome, run as train};

/// Rows that are judged together.
const BATCH: usize = 256;

/// What a finished cell says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Cell {
    pub task: String,
    pub method: String,
    pub seed: u64,
    pub learning_rate: f64,
    pub sets: Vec<SetResult>,
    /// On the test set; none for a judge that writes no chains.
    pub chain_swap: Option<ChainSwap>,
}

/// One set of a cell.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SetResult {
    pub name: String,
    pub figures: Figures,
    /// Expected score of each row, to four digits.
    pub scores: Vec<f64>,
}

impl Cell {
    /// The set of this name.
    pub fn set(&self, name: &str) -> Option<&SetResult> {
        self.sets.iter().find(|s| s.name == name)
    }
}

/// Where a comparison's files are: results, which are kept, and work, which can be made again.
pub struct CellPaths {
    pub protocol: Protocol,
    pub results: PathBuf,
    pub work: PathBuf,
}

impl CellPaths {
    /// The result of a cell.
    pub fn file(&self, choice: &TrialChoice) -> PathBuf {
        self.results.join("cells").join(format!("{choice}.json"))
    }

    /// The trained judge of a cell.
    fn folder(&self, choice: &TrialChoice) -> PathBuf {
        self.work.join(choice.to_string())
    }

    /// True once the cell's result is written.
    pub fn is_done(&self, choice: &TrialChoice) -> bool {
        self.file(choice).is_file()
    }

    fn has_judge(&self, choice: &TrialChoice) -> bool {
        self.folder(choice).join(JUDGE_FILE).is_file()
    }

    /// The finished cell, if it is finished.
    ///
    /// # Errors
    /// A file that is none of ours.
    pub fn read(&self, choice: &TrialChoice) -> Result<Option<Cell>, CompareError> {
        let path = self.file(choice);
        if !path.is_file() {
            return Ok(None);
        }
        let text = std::fs::read_to_string(&path).map_err(file_error("read", &path))?;
        let cell = serde_json::from_str(&text).map_err(|e| {
            let found = format!("{e}; remove it, and the cell is made again");
            CompareError::Result { path, found }
        })?;
        Ok(Some(cell))
    }

    /// Cells that are still to be made, in an order in which each comes behind what it needs. A cell whose judge others
    /// start from is among them as long as that judge is not in the work folder.
    ///
    /// # Errors
    /// Names of the protocol that lead nowhere.
    pub fn open(&self) -> Result<Vec<TrialChoice>, CompareError> {
        let all = self.protocol.cells()?;
        let mut wanted: Vec<&TrialChoice> = all.iter().filter(|c| !self.is_done(c)).collect();
        let mut next = 0;
        while next < wanted.len() {
            for need in self.starts(wanted[next])? {
                if !self.has_judge(&need)
                    && !wanted.contains(&&need)
                    && let Some(known) = all.iter().find(|c| **c == need)
                {
                    wanted.push(known);
                }
            }
            next += 1;
        }
        Ok(all.iter().filter(|c| wanted.contains(c)).cloned().collect())
    }

    /// What must be there before this cell can be made: results to choose a rate by, judges to start from.
    ///
    /// # Errors
    /// As [`CellPaths::open`].
    pub fn is_ready(&self, choice: &TrialChoice) -> Result<bool, CompareError> {
        let starts = self.starts(choice)?;
        let needs = self.protocol.needs(choice)?;
        Ok(needs.iter().all(|n| if starts.contains(n) { self.has_judge(n) } else { self.is_done(n) }))
    }

    /// The cells whose judges this one builds on.
    fn starts(&self, choice: &TrialChoice) -> Result<Vec<TrialChoice>, CompareError> {
        let method = self.protocol.method(&choice.method)?;
        let judge_of = |name: &&String| [&method.start, &method.chains_from].into_iter().flatten().any(|s| s == *name);
        Ok(self.protocol.needs(choice)?.into_iter().filter(|n| judge_of(&&n.method) && matches!(n.run, Run::Seed(_))).collect())
    }

    /// The learning rate of a cell: that of its run, the only one, or the best on validation.
    fn rate(&self, method: &Method, run: Run) -> Result<f64, CompareError> {
        if let Run::Rate(rate) = run {
            return Ok(rate);
        }
        let tuned = self.protocol.tuned(method)?;
        let runs = self.protocol.tuning(tuned);
        let mut best = (f64::NEG_INFINITY, tuned.learning_rates[0]);
        for run in &runs {
            let Some(cell) = self.read(run)? else {
                return Err(CompareError::Cell(format!(
                    "{run} is not done, and the learning rate of {} is chosen by it",
                    tuned.name
                )));
            };
            let pearson = cell.set(Split::Validation.name()).and_then(|s| s.figures.pearson).unwrap_or(f64::NEG_INFINITY);
            if pearson > best.0 {
                best = (pearson, cell.learning_rate);
            }
        }
        Ok(best.1)
    }

    /// Makes a cell and writes its result: trains (or goes on training), judges, measures. False when interrupted.
    ///
    /// # Errors
    /// Whatever training, judging or the disk report.
    pub async fn make(&self, choice: &TrialChoice, ctx: RunContext<'_>) -> Result<bool, CompareError> {
        let RunContext { gpu, clock, progress, interrupted } = ctx;
        let result = self.file(choice);
        let dir = result.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(dir).map_err(file_error("create", dir))?;
        let _lock = Lock::beside(&result)?;
        let method = self.protocol.method(&choice.method)?;
        for start in self.starts(choice)? {
            if !self.has_judge(&start) {
                progress.note(&format!("{choice} builds on {start}, which comes first"));
                let ctx = RunContext { gpu, clock, progress, interrupted };
                if !Box::pin(self.make(&start, ctx)).await? {
                    return Ok(false);
                }
            }
        }
        let version = version(&choice.task).map_err(CompareError::Cell)?;
        let folder = self.folder(choice);
        let seed = self.protocol.seed(choice.run);
        let rate = self.rate(method, choice.run)?;
        let data = DemoData::make(version, self.protocol.data_seed, self.protocol.sizes(), &folder)?;
        if !self.has_judge(choice) {
            let config = self.config(choice, method, &data, (seed, rate))?;
            let ctx = RunContext { gpu, clock, progress, interrupted };
            if let TrainOutcome::Interrupted { .. } = train(&config, ctx).await? {
                return Ok(false);
            }
        }
        let judge = Judge::open(gpu, &folder)?;
        let validation =
            TestItems::make(&Miniature::new(version, self.protocol.data_seed), Split::Validation, self.protocol.sizes())?;
        let mut sets = Vec::new();
        let mut chain_swap = None;
        for test in std::iter::once(&validation).chain(&data.tests) {
            let judging = ScoreOptions { temperature: Some(1.0), seed, batch_size: BATCH, ..ScoreOptions::default() };
            let judged = judge.judge(&test.rows, &judging, ()).await?;
            let (figures, scores) = Figures::of_judged(&test.items, &judged)?;
            if test.split == Split::Test && judge.settings().chain {
                let chains: Vec<Option<String>> = judged.iter().map(|j| j.chains.first().cloned()).collect();
                let swapped = judge
                    .judge(&with_swapped_chains(&test.rows, &chains), &ScoreOptions { given_chains: true, ..judging }, ())
                    .await?;
                chain_swap = Some(ChainSwap::of(&scores, &expected(&swapped)?)?);
            }
            let scores = scores.iter().map(|s| rounded(*s, 4)).collect();
            sets.push(SetResult { name: test.split.name().into(), figures, scores });
        }
        let cell = Cell { task: choice.task.clone(), method: choice.method.clone(), seed, learning_rate: rate, sets, chain_swap };
        let text = serde_json::to_string(&cell).unwrap_or_default() + "\n";
        files::write(&result, text.as_bytes())?;
        // The rows are made again in a second, and would be kept a hundred times.
        data.remove()?;
        Ok(true)
    }

    /// The settings of a cell's training.
    fn config(
        &self,
        choice: &TrialChoice,
        method: &Method,
        data: &DemoData,
        (seed, rate): (u64, f64),
    ) -> Result<TrainConfig, CompareError> {
        let mut layers = Layers::default();
        let from = || SettingSource::File("the comparison".into());
        let text = |path: &Path| Raw::Quoted(path.display().to_string());
        let mut base = vec![
            ("train_file", text(&data.train)),
            ("output_dir", text(&self.folder(choice))),
            ("phrase", Raw::Quoted(SCORE_PHRASE.into())),
            ("template", Raw::Quoted("plain".into())),
            ("chat", Raw::Quoted("never".into())),
            ("max_completion_length", Raw::Int(version(&choice.task).map_err(CompareError::Cell)?.chain_limit() as i64)),
            ("adam_beta2", Raw::Number(0.98)),
            ("weight_decay", Raw::Number(0.01)),
            ("per_device_eval_batch_size", Raw::Int(BATCH as i64)),
            ("save_total_limit", Raw::Int(1)),
            ("seed", Raw::Int(seed as i64)),
            ("learning_rate", Raw::Number(rate)),
            ("resume_from_checkpoint", Raw::Flag(true)),
        ];
        let judge_of = |name: &String| {
            let starts = self.starts(choice)?;
            let start = starts.iter().find(|s| s.method == *name).map(|s| self.folder(s));
            start.ok_or_else(|| CompareError::Cell(format!("{choice} has no judge of {name} to build on")))
        };
        match &method.start {
            Some(start) => base.push(("model_name_or_path", text(&judge_of(start)?))),
            None => base.extend([("init", text(&data.config)), ("tokenizer", text(&data.tokenizer))]),
        }
        if let Some(writer) = &method.chains_from {
            base.push(("chains_from", text(&judge_of(writer)?)));
        }
        base.iter().try_for_each(|(key, raw)| layers.put(key, raw, from()))?;
        self.protocol.lay(method, &mut layers)?;
        let config = layers.resolve()?;
        // One checkpoint half way: what an interruption costs is a minute.
        Ok(TrainConfig { save_steps: (config.max_steps.max(2) as u64) / 2, ..config })
    }
}
