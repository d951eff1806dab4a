//! A comparison on disk: which cells are finished, which can start, and how one is run: train, score every split, measure, write.

use std::path::{Path, PathBuf};

use super::cell::{CellResult, SplitResult};
use super::metrics::{ChainSwap, SplitMetrics, expected_scores, rounded};
use super::protocol::{CellId, ComparedMethod, Protocol, Run, task_version};
use super::tasks::{VALIDATION, includes};
use super::{CompareError, file_error};
use crate::experiments::demo::{DemoData, TestSplit};
use crate::experiments::synthetic::{SCORE_PHRASE, Split, SyntheticTask};
use crate::files::{self, Lock};
use crate::judge::{JUDGE_FILE, Judge, ScoreOptions, with_swapped_chains};
use crate::train::TrainConfig;
use crate::train::checkpoint::RESOLVED_CONFIG;
use crate::train::config::{Layers, Raw, SettingSource};
use crate::train::run::{RunContext, TrainOutcome, run as train};

/// Rows of a synthetic task that are scored together.
const BATCH_SIZE: usize = 256;

/// A protocol and its two folders: results, which are kept, and work (trained judges), which can be made again.
pub struct Comparison {
    pub protocol: Protocol,
    pub results: PathBuf,
    pub work: PathBuf,
}

/// A cell with what was decided about it.
#[derive(Clone, Copy)]
pub(super) struct Chosen<'a> {
    pub cell: &'a CellId,
    pub method: &'a ComparedMethod,
    pub seed: u64,
    pub learning_rate: f64,
}

/// What a cell's judge was measured by.
pub(super) type Measured = (Vec<SplitResult>, Option<ChainSwap>);

impl Comparison {
    /// The file of a cell's result.
    pub fn result_file(&self, cell: &CellId) -> PathBuf {
        self.results.join("cells").join(format!("{cell}.json"))
    }

    /// The folder of a cell's trained judge.
    pub(super) fn judge_folder(&self, cell: &CellId) -> PathBuf {
        self.work.join(cell.to_string())
    }

    /// True once the cell's result is written.
    pub fn is_done(&self, cell: &CellId) -> bool {
        self.result_file(cell).is_file()
    }

    pub(super) fn has_judge(&self, cell: &CellId) -> bool {
        self.judge_folder(cell).join(JUDGE_FILE).is_file()
    }

    /// The finished cell, if it is finished.
    ///
    /// # Errors
    /// A file that is not a cell's result.
    pub fn read(&self, cell: &CellId) -> Result<Option<CellResult>, CompareError> {
        let path = self.result_file(cell);
        if !path.is_file() {
            return Ok(None);
        }
        let text = std::fs::read_to_string(&path).map_err(file_error("read", &path))?;
        let result = serde_json::from_str(&text).map_err(|e| {
            let found = format!("{e}; remove it, and the cell is made again");
            CompareError::Result { path, found }
        })?;
        Ok(Some(result))
    }

    /// Cells that are not finished, each after its prerequisites. A cell whose judge others start from is among them as long as
    /// that judge is not in the work folder.
    ///
    /// # Errors
    /// Names in the protocol that it does not define.
    pub fn unfinished(&self) -> Result<Vec<CellId>, CompareError> {
        let all = self.protocol.cells()?;
        let mut wanted: Vec<&CellId> = all.iter().filter(|c| !self.is_done(c)).collect();
        let mut next = 0;
        while next < wanted.len() {
            for start in self.start_cells(wanted[next])? {
                if !self.has_judge(&start)
                    && !wanted.contains(&&start)
                    && let Some(known) = all.iter().find(|c| **c == start)
                {
                    wanted.push(known);
                }
            }
            next += 1;
        }
        Ok(all.iter().filter(|c| wanted.contains(c)).cloned().collect())
    }

    /// Whether all prerequisites of a cell are there: results to choose a learning rate by, judges to start from.
    ///
    /// # Errors
    /// As [`Comparison::unfinished`].
    pub fn is_ready(&self, cell: &CellId) -> Result<bool, CompareError> {
        let starts = self.start_cells(cell)?;
        let prerequisites = self.protocol.prerequisites(cell)?;
        Ok(prerequisites.iter().all(|c| if starts.contains(c) { self.has_judge(c) } else { self.is_done(c) }))
    }

    /// The cells whose judges this one starts from or takes chains from.
    fn start_cells(&self, cell: &CellId) -> Result<Vec<CellId>, CompareError> {
        let method = self.protocol.method(&cell.method)?;
        let judge_of = |name: &&String| [&method.start, &method.chains_from].into_iter().flatten().any(|s| s == *name);
        let prerequisites = self.protocol.prerequisites(cell)?.into_iter();
        Ok(prerequisites.filter(|c| judge_of(&&c.method) && matches!(c.run, Run::Seed(_))).collect())
    }

    /// The learning rate of a cell: that of its run, the only one, or the best on validation.
    fn learning_rate(&self, task: &str, method: &ComparedMethod, run: Run) -> Result<f64, CompareError> {
        if let Run::LearningRate(rate) = run {
            return Ok(rate);
        }
        let tuned = self.protocol.tuned_method(method)?;
        let tuning_cells = self.protocol.tuning_cells(tuned, task);
        let mut best = (f64::NEG_INFINITY, tuned.learning_rates.first().copied().unwrap_or(0.0));
        for cell in &tuning_cells {
            let Some(result) = self.read(cell)? else {
                return Err(CompareError::Cell(format!(
                    "{cell} is not done, and the learning rate of {} is chosen by it",
                    tuned.name
                )));
            };
            let pearson = result.split(VALIDATION).and_then(|s| s.metrics.pearson).unwrap_or(f64::NEG_INFINITY);
            if pearson > best.0 {
                best = (pearson, result.learning_rate);
            }
        }
        Ok(best.1)
    }

    /// Runs a cell and writes its result: trains (or continues training), scores, measures. False when interrupted.
    ///
    /// # Errors
    /// Whatever training, judging or the disk report.
    pub async fn run(&self, cell: &CellId, ctx: RunContext<'_>) -> Result<bool, CompareError> {
        let RunContext { gpu, clock, progress, ranks, interrupted } = ctx;
        let result_file = self.result_file(cell);
        let dir = result_file.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(dir).map_err(file_error("create", dir))?;
        let _lock = Lock::beside(&result_file)?;
        let method = self.protocol.method(&cell.method)?;
        for start in self.start_cells(cell)? {
            if !self.has_judge(&start) {
                progress.note(&format!("{cell} starts from {start}, which is trained first"));
                let ctx = RunContext { gpu, clock, progress, ranks, interrupted };
                if !Box::pin(self.run(&start, ctx)).await? {
                    return Ok(false);
                }
            }
        }
        let seed = self.protocol.seed(cell.run);
        let learning_rate = self.learning_rate(&cell.task, method, cell.run)?;
        let chosen = Chosen { cell, method, seed, learning_rate };
        let ctx = RunContext { gpu, clock, progress, ranks, interrupted };
        let measured = match self.protocol.file_task(&cell.task) {
            Some(task) => self.run_on_files(task, &chosen, ctx).await?,
            None => self.run_on_items(&chosen, ctx).await?,
        };
        let Some((splits, chain_swap)) = measured else { return Ok(false) };
        let result = CellResult { task: cell.task.clone(), method: cell.method.clone(), seed, learning_rate, splits, chain_swap };
        let text = serde_json::to_string(&result).unwrap_or_default() + "\n";
        files::write(&result_file, text.as_bytes())?;
        Ok(true)
    }

    /// Trains and measures a cell of a synthetic task; `None` when interrupted.
    async fn run_on_items(&self, chosen: &Chosen<'_>, ctx: RunContext<'_>) -> Result<Option<Measured>, CompareError> {
        let RunContext { gpu, clock, progress, ranks, interrupted } = ctx;
        let cell = chosen.cell;
        let version = task_version(&cell.task).map_err(CompareError::Cell)?;
        let folder = self.judge_folder(cell);
        let data = DemoData::make(version, self.protocol.data_seed, self.protocol.sizes(), &folder)?;
        let config = self.synthetic_settings(chosen, &data)?.resolve()?;
        refuse_other_settings(&folder, &config)?;
        if !self.has_judge(cell) {
            // One checkpoint half way, so that an interruption costs a minute.
            let config = TrainConfig { save_steps: (config.max_steps.max(2) as u64) / 2, ..config };
            let ctx = RunContext { gpu, clock, progress, ranks, interrupted };
            if let TrainOutcome::Interrupted { .. } = train(&config, ctx).await? {
                return Ok(None);
            }
        }
        let judge = Judge::open(gpu, &folder)?;
        let validation =
            TestSplit::make(&SyntheticTask::new(version, self.protocol.data_seed), Split::Validation, self.protocol.sizes())?;
        let width = version.scale.width();
        let mut splits = Vec::new();
        let mut chain_swap = None;
        for (n, (way, options)) in self.item_ways(chosen).into_iter().enumerate() {
            // A judge without chains answers the same in every way.
            let repeats = n > 0 && !judge.settings().chain;
            let tests: &[TestSplit] = if repeats { &[] } else { &data.tests };
            for test in (n == 0).then_some(&validation).into_iter().chain(tests) {
                let judged = judge.judge(&test.rows, &options, ()).await?;
                let (metrics, scores) = SplitMetrics::of_items(&test.items, &judged, width)?;
                if n == 0 && test.split == Split::Test && judge.settings().chain {
                    let chains: Vec<Option<String>> = judged.iter().map(|j| j.chains.first().cloned()).collect();
                    let options = ScoreOptions { given_chains: true, ..options.clone() };
                    let swapped = judge.judge(&with_swapped_chains(&test.rows, &chains), &options, ()).await?;
                    chain_swap = Some(ChainSwap::of(&scores, &expected_scores(&swapped)?)?);
                }
                let scores = scores.iter().map(|s| rounded(*s, 4)).collect();
                splits.push(SplitResult { name: test.split.name().into(), way: way.clone(), metrics, scores });
            }
        }
        // The rows can be made again in a second. Each of a hundred cells would keep a copy.
        data.remove()?;
        Ok(Some((splits, chain_swap)))
    }

    /// How items of a synthetic task are judged: in the protocol's ways, without any by one sampled chain. A learning rate is
    /// chosen by the first.
    fn item_ways(&self, chosen: &Chosen) -> Vec<(Option<String>, ScoreOptions)> {
        let ways = &self.protocol.ways;
        if ways.is_empty() {
            let sampled =
                ScoreOptions { temperature: Some(1.0), seed: chosen.seed, batch_size: BATCH_SIZE, ..ScoreOptions::default() };
            return vec![(None, sampled)];
        }
        let most = if matches!(chosen.cell.run, Run::Seed(_)) { ways.len() } else { 1 };
        let wanted = ways[..most].iter().filter(|way| includes(way.methods.as_ref(), &chosen.method.name));
        wanted.map(|way| (Some(way.name.clone()), way.options(chosen.seed, BATCH_SIZE))).collect()
    }

    /// The settings of a cell's training on a synthetic task.
    fn synthetic_settings(&self, chosen: &Chosen, data: &DemoData) -> Result<Layers, CompareError> {
        let version = task_version(&chosen.cell.task).map_err(CompareError::Cell)?;
        let mut base = vec![
            ("train_file", text(&data.train)),
            ("phrase", Raw::Quoted(SCORE_PHRASE.into())),
            ("scale", Raw::Quoted(version.scale.setting())),
            ("template", Raw::Quoted("plain".into())),
            ("chat", Raw::Quoted("never".into())),
            ("max_completion_length", Raw::Int(version.chain_limit() as i64)),
            ("adam_beta2", Raw::Number(0.98)),
            ("weight_decay", Raw::Number(0.01)),
            ("per_device_eval_batch_size", Raw::Int(BATCH_SIZE as i64)),
        ];
        if chosen.method.start.is_none() {
            base.extend([("init", text(&data.config)), ("tokenizer", text(&data.tokenizer))]);
        }
        self.settings(chosen, base)
    }

    /// The settings of a cell's training: `base`, which its task gives, then what all tasks have in common, then those of the
    /// protocol.
    pub(super) fn settings(&self, chosen: &Chosen, base: Vec<(&str, Raw)>) -> Result<Layers, CompareError> {
        let Chosen { cell, method, seed, learning_rate } = *chosen;
        let mut all = base;
        all.extend([
            ("output_dir", text(&self.judge_folder(cell))),
            ("save_total_limit", Raw::Int(1)),
            ("seed", Raw::Int(seed as i64)),
            ("resume_from_checkpoint", Raw::Flag(true)),
        ]);
        if method.trained {
            all.push(("learning_rate", Raw::Number(learning_rate)));
        }
        let judge_of = |name: &String| {
            let starts = self.start_cells(cell)?;
            let start = starts.iter().find(|s| s.method == *name).map(|s| self.judge_folder(s));
            start.ok_or_else(|| CompareError::Cell(format!("{cell} has no judge of {name} to start from")))
        };
        if let Some(start) = &method.start {
            all.push(("model_name_or_path", text(&judge_of(start)?)));
        }
        if let Some(writer) = &method.chains_from {
            all.push(("chains_from", text(&judge_of(writer)?)));
        }
        let mut layers = Layers::default();
        all.iter().try_for_each(|(key, raw)| layers.put(key, raw, SettingSource::File("the comparison".into())))?;
        self.protocol.put_settings(cell, method, &mut layers)?;
        Ok(layers)
    }
}

/// Refuses a folder of the work that was trained, or begun, with other settings than the protocol says now: its figures would be
/// said to be those of this protocol. Of TRACT the folder has the settings of the second stage, so only what both share is asked.
pub(super) fn refuse_other_settings(folder: &Path, config: &TrainConfig) -> Result<(), CompareError> {
    const ASKED: [&str; 9] = [
        "model_name_or_path",
        "learning_rate",
        "max_steps",
        "num_train_epochs",
        "per_device_train_batch_size",
        "base_weights",
        "lora_r",
        "limit",
        "seed",
    ];
    let Ok(written) = std::fs::read_to_string(folder.join(RESOLVED_CONFIG)) else { return Ok(()) };
    let table = |text: &str| text.parse::<toml::Table>().unwrap_or_default();
    let (there, wanted) = (table(&written), table(&config.to_toml()?));
    let Some(key) = ASKED.into_iter().find(|key| there.get(*key) != wanted.get(*key)) else { return Ok(()) };
    let show = |table: &toml::Table| table.get(key).map_or("not set".into(), toml::Value::to_string);
    Err(CompareError::Cell(format!(
        "{}: the judge there was trained with {key} = {}, and the protocol says {}; give this protocol a --work folder of its own, \
         or remove that folder",
        folder.display(),
        show(&there),
        show(&wanted),
    )))
}

/// A path as the value of a setting.
pub(super) fn text(path: &Path) -> Raw {
    Raw::Quoted(path.display().to_string())
}
