//! A cell of a task that is files: training a pretrained model (or not), and judging rows in the protocol's ways.
//!
//! Training resumes from its checkpoints. What was judged of one set in one way is kept in the work folder, so an interruption
//! costs at most that.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::cell::SplitResult;
use super::comparison::{Chosen, Comparison, Measured, refuse_other_settings, text};
use super::metrics::{SplitMetrics, rounded};
use super::protocol::Run;
use super::task_rows::{TaskRows, read_rows};
use super::tasks::{FileTask, VALIDATION, Way, beside, includes};
use super::{CompareError, file_error};
use crate::data::Example;
use crate::files;
use crate::gpu::Gpu;
use crate::judge::{Judge, JudgeError, JudgeFiles, JudgeOverrides, ScoredRow};
use crate::model::error::ModelError;
use crate::model_folder::ModelFolder;
use crate::rollout::Until;
use crate::train::TrainConfig;
use crate::train::config::Raw;
use crate::train::run::start::overrides;
use crate::train::run::{RunContext, TrainOutcome, run as train};

/// A set of rows that a cell is judged on, in one way.
pub(super) struct Judging<'a> {
    pub set: &'a str,
    pub file: PathBuf,
    pub way: &'a Way,
}

/// What is kept of a set that was judged: the adapter and the judge's settings are those of the cell.
#[derive(Serialize, Deserialize)]
struct Kept {
    /// The SHA-256 of the rows.
    rows: String,
    /// What the rows were judged by.
    options: String,
    split: SplitResult,
}

impl Comparison {
    /// The settings of a cell on files. A cell that is not trained has them for its judge's.
    ///
    /// # Errors
    /// Values that a setting does not take, or that do not fit together.
    pub(super) fn file_settings(&self, task: &FileTask, chosen: &Chosen) -> Result<TrainConfig, CompareError> {
        let folder = self.protocol.folder();
        let mut base = vec![("train_file", text(&beside(folder, &task.train)))];
        if let Some(template) = &task.template {
            base.push(("template", text(&beside(folder, template))));
        }
        if chosen.method.start.is_none() {
            base.push(("model_name_or_path", text(&self.base_model()?)));
        }
        base.push(("logging_steps", Raw::Int(1)));
        Ok(self.settings(chosen, base)?.resolve()?)
    }

    /// The pretrained model.
    pub(super) fn base_model(&self) -> Result<PathBuf, CompareError> {
        let base = self.protocol.base.as_ref();
        let base = base.ok_or_else(|| CompareError::Cell("the protocol has no [base] to start from".into()))?;
        let path = beside(self.protocol.folder(), &base.model);
        match path.exists() {
            true => Ok(path),
            false => Err(CompareError::Cell(format!(
                "the base model {} is not there; fetch it first, or correct `model` under [base] in the protocol",
                path.display()
            ))),
        }
    }

    /// What a cell is judged on: for a learning rate validation alone, else all sets in all ways that are its method's. A judge
    /// without chains is judged in the first way only: the others would repeat it.
    pub(super) fn judgings<'a>(&'a self, task: &'a FileTask, chosen: &Chosen, chains: bool) -> Vec<Judging<'a>> {
        let folder = self.protocol.folder();
        let mut all = Vec::new();
        for (n, way) in self.protocol.ways.iter().enumerate() {
            if n == 0 {
                all.push(Judging { set: VALIDATION, file: beside(folder, &task.validation), way });
            }
            let tests = matches!(chosen.cell.run, Run::Seed(_)) && includes(way.methods.as_ref(), &chosen.method.name);
            for set in task.tests.iter().filter(|_| tests && (n == 0 || chains)) {
                if includes(set.methods.as_ref(), &chosen.method.name) && includes(way.sets.as_ref(), &set.name) {
                    all.push(Judging { set: &set.name, file: beside(folder, &set.file), way });
                }
            }
        }
        all
    }

    /// Trains and measures a cell; `None` when interrupted.
    pub(super) async fn run_on_files(
        &self,
        task: &FileTask,
        chosen: &Chosen<'_>,
        ctx: RunContext<'_>,
    ) -> Result<Option<Measured>, CompareError> {
        // Before hours of work: the rows are those of the cells that are there.
        TaskRows::keep(self, task)?;
        let RunContext { gpu, clock, progress, ranks, interrupted } = ctx;
        let config = self.file_settings(task, chosen)?;
        refuse_other_settings(&self.judge_folder(chosen.cell), &config)?;
        if chosen.method.trained && !self.has_judge(chosen.cell) {
            let ctx = RunContext { gpu, clock, progress, ranks, interrupted };
            if let TrainOutcome::Interrupted { .. } = train(&config, ctx).await? {
                return Ok(None);
            }
        }
        let (judge, rows) = self.judge_of_files(task, chosen, &config, gpu)?;
        drop(rows);
        let mut splits = Vec::new();
        for judging in self.judgings(task, chosen, judge.settings().chain) {
            progress.note(&format!("{}: {} of {}", chosen.cell, judging.way.name, judging.set));
            match self.judged(chosen, &judging, &judge, config.per_device_eval_batch_size, interrupted).await? {
                Some(split) => splits.push(split),
                None => return Ok(None),
            }
        }
        Ok(Some((splits, None)))
    }

    /// The judge of a cell: that of its folder, or the base model with the settings of the protocol.
    fn judge_of_files(
        &self,
        task: &FileTask,
        chosen: &Chosen,
        config: &TrainConfig,
        gpu: &Gpu,
    ) -> Result<(Judge, Vec<Example>), CompareError> {
        let rows = read_rows(&beside(self.protocol.folder(), &task.validation))?;
        let files = if chosen.method.trained {
            let folder = ModelFolder::open(&self.judge_folder(chosen.cell)).map_err(JudgeError::from)?;
            JudgeFiles::trained(&folder, config.base_weights)?
        } else {
            let folder = ModelFolder::open(&self.base_model()?).map_err(JudgeError::from)?;
            let most = Some(config.max_completion_length as usize);
            let asked = JudgeOverrides { max_completion_length: most, ..overrides(config)? };
            JudgeFiles::resolve(&folder, config.base_weights, &asked, &rows)?
        };
        Ok((files.upload(gpu)?, rows))
    }

    /// Judges a set in one way, unless that is kept; `None` when interrupted.
    async fn judged(
        &self,
        chosen: &Chosen<'_>,
        judging: &Judging<'_>,
        judge: &Judge,
        batch_size: u32,
        interrupted: &(dyn Fn() -> bool + Sync),
    ) -> Result<Option<SplitResult>, CompareError> {
        let Judging { set, file, way } = judging;
        let mut rows = read_rows(file)?;
        rows.truncate(way.rows.unwrap_or(usize::MAX));
        let options = way.options(chosen.seed, batch_size as usize);
        let kept_file = self.work.join("judged").join(chosen.cell.to_string()).join(format!("{set}.{}.json", way.name));
        let rows_hash = crate::bundle::sha256_hex(rows.iter().map(|r| r.row.to_json() + "\n").collect::<String>().as_bytes());
        let key = format!("{options:?}");
        if let Some(kept) = read_kept(&kept_file)
            && kept.rows == rows_hash
            && kept.options == key
        {
            return Ok(Some(kept.split));
        }
        let until = Until { stop: interrupted, done: |_: usize| {} };
        let judged: Vec<ScoredRow> = match judge.judge(&rows, &options, until).await {
            Err(JudgeError::Model(ModelError::Stopped)) => return Ok(None),
            judged => judged?,
        };
        let human: Vec<f64> = rows.iter().filter_map(|row| row.record.score).collect();
        let scale = &judge.settings().scale;
        let (metrics, scores) = SplitMetrics::of_judged(&human, &judged, scale.max() - scale.min())?;
        let scores = scores.iter().map(|s| rounded(*s, 4)).collect();
        let split = SplitResult { name: (*set).into(), way: Some(way.name.clone()), metrics, scores };
        let kept = Kept { rows: rows_hash, options: key, split };
        if let Some(dir) = kept_file.parent() {
            std::fs::create_dir_all(dir).map_err(file_error("create", dir))?;
        }
        files::write(&kept_file, (serde_json::to_string(&kept).unwrap_or_default() + "\n").as_bytes())?;
        Ok(Some(kept.split))
    }
}

/// What was kept of a set; a file that is damaged is judged anew.
fn read_kept(file: &Path) -> Option<Kept> {
    serde_json::from_str(&std::fs::read_to_string(file).ok()?).ok()
}
