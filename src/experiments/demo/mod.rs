//! `jurist demo`: the whole path on the synthetic task, from random weights to scored test splits and a report.
//!
//! ```text
//! synthetic ─► files ─► sft (from scratch) ─┬─► real          ─┐
//!                                            ├─► reinforce      ├─► score four test splits ─► table ─► report.html
//!                                            └─► sft continued ─┘
//! ```
//!
//! It goes through the same files, settings and functions as a user's own run. Nothing here trains or scores by itself.

mod data;
mod overall;
mod page;
mod table;

use std::path::{Path, PathBuf};

use crate::data::Example;
use crate::eval::EvalError;
use crate::experiments::synthetic::{Item, Split, SplitSizes, SyntheticTaskError, TaskVersion};
use crate::files::{FileError, Lock, refuse_foreign, write_own};
use crate::judge::{Judge, JudgeError, ScoreOptions, ScoredRow};
use crate::progress::Progress;
use crate::text::TextError;
use crate::train::TrainError;
use crate::train::config::{Chat, Method, Resume, TrainConfig};
use crate::train::objective::schedule::Decay;
use crate::train::run::{RunContext, TrainOutcome, run as train};

pub use data::{DemoData, TestSplit};
use overall::OverallProgress;

pub use table::{DemoTable, Predictor, SplitTable};

/// Version of the task that the demo trains on. In the hard one, words without their context do not tell the score.
const TASK_VERSION: TaskVersion = TaskVersion::HARD;

/// Per mille of the time that the stages and the scoring take, measured with lavapipe on two cores.
const STAGE_SHARES: [u64; 5] = [380, 180, 150, 220, 70];
const STAGE_SHARES_QUICK: [u64; 5] = [530, 100, 100, 140, 130];

/// Options of a demo.
#[derive(Clone, Debug)]
pub struct DemoOptions {
    pub output_dir: PathBuf,
    /// Fewer steps and test rows: shows the path, not the result.
    pub quick: bool,
    pub seed: u64,
}

/// The result of a finished demo.
#[derive(Debug)]
pub struct DemoResult {
    pub table: DemoTable,
    pub report: PathBuf,
    pub judge: PathBuf,
    pub seconds: f64,
}

/// How a demo ended.
#[derive(Debug)]
pub enum DemoOutcome {
    Finished(DemoResult),
    /// Interrupted in training; the same command continues from this checkpoint.
    Interrupted(PathBuf),
}

/// Errors of the demo: those of the modules that it calls.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    #[error(transparent)]
    Files(#[from] crate::files::FileError),
    #[error(transparent)]
    Train(#[from] TrainError),
    #[error(transparent)]
    Judge(#[from] JudgeError),
    #[error(transparent)]
    Text(#[from] TextError),
    #[error(transparent)]
    Eval(#[from] EvalError),
    #[error(transparent)]
    SyntheticTask(#[from] SyntheticTaskError),
    #[error(transparent)]
    Data(#[from] crate::data::DataError),
}

/// Runs the demo.
///
/// # Errors
/// What training, scoring or the disk report. Checkpoints stay, and the next demo continues from them.
pub async fn run(options: &DemoOptions, ctx: RunContext<'_>) -> Result<DemoOutcome, DemoError> {
    let RunContext { gpu, clock, progress, ranks, interrupted } = ctx;
    let began = clock.seconds();
    // One folder per kind of run, so that a quick demo and a full one never mix.
    let kind = if options.quick { "quick" } else { "full" };
    let folder = options.output_dir.join(format!("{kind}-seed{}", options.seed));
    let sizes = if options.quick {
        SplitSizes { test: 200, ..SplitSizes::full() }
    } else {
        SplitSizes { test: 500, ..SplitSizes::full() }
    };
    std::fs::create_dir_all(&folder).map_err(|e| FileError::io("create", &folder, e))?;
    let _lock = Lock::inside(&folder)?;
    // Before the work, not after it.
    let (report, results) = (options.output_dir.join("report.html"), folder.join("results.json"));
    refuse_foreign(&report, page::is_ours)?;
    refuse_foreign(&results, DemoTable::is_json)?;
    let data = DemoData::make(TASK_VERSION, options.seed, sizes, &folder)?;
    progress.note(&format!("synthetic data: {} training rows, 4 test splits of {} rows", sizes.train, sizes.test));

    let mut overall = OverallProgress::new(progress, if options.quick { &STAGE_SHARES_QUICK } else { &STAGE_SHARES });
    let mut dirs = Vec::new();
    for (n, stage) in Stage::ALL.into_iter().enumerate() {
        overall.note(&format!("{} of {}: {}", n + 1, Stage::ALL.len() + 1, stage.describe()));
        overall.enter(n);
        let config = stage.config(options, &data, &folder);
        let ctx = RunContext { gpu, clock, progress: &mut overall, ranks, interrupted };
        if let TrainOutcome::Interrupted { checkpoint } = train(&config, ctx).await? {
            return Ok(DemoOutcome::Interrupted(checkpoint));
        }
        dirs.push(PathBuf::from(config.output_dir));
    }
    overall.note(&format!("{0} of {0}: scoring the test splits", Stage::ALL.len() + 1));
    overall.enter(Stage::ALL.len());
    let judges = dirs.iter().map(|dir| Judge::open(gpu, dir)).collect::<Result<Vec<_>, _>>()?;
    let predictors = score_test_splits(&judges, &data, options.seed, &mut overall).await?;
    drop(overall);
    let table = DemoTable::measure(&data, &predictors, options.seed)?;
    let seconds = clock.seconds() - began;
    let page = page::Page { options, data: &data, predictors: &predictors, table: &table, judge: &judges[1], gpu, seconds };
    page.write(&report, &dirs)?;
    let text = serde_json::to_string_pretty(&table.to_json(options.seed)).unwrap_or_default() + "\n";
    write_own(&results, text.as_bytes(), DemoTable::is_json)?;
    Ok(DemoOutcome::Finished(DemoResult { table, report, judge: dirs.swap_remove(1), seconds }))
}

/// The training runs of the demo. All after the first start from its judge, and see the same number of sequences.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Sft,
    Real,
    Reinforce,
    SftContinued,
}

impl Stage {
    const ALL: [Stage; 4] = [Stage::Sft, Stage::Real, Stage::Reinforce, Stage::SftContinued];

    fn describe(self) -> &'static str {
        match self {
            Stage::Sft => "supervised, from random weights, on the chains and scores of an imperfect teacher",
            Stage::Real => "REAL, from the supervised judge",
            Stage::Reinforce => "policy gradient with binary reward, from the same judge",
            Stage::SftContinued => "supervised training continued, from the same judge",
        }
    }

    fn folder(self) -> &'static str {
        match self {
            Stage::Sft => "sft",
            Stage::Real => "real",
            Stage::Reinforce => "reinforce",
            Stage::SftContinued => "sft-continued",
        }
    }

    /// The settings of a stage. The learning rates were chosen on validation with an implementation in PyTorch, from the same three
    /// for every policy-gradient method.
    fn config(self, options: &DemoOptions, data: &DemoData, folder: &Path) -> TrainConfig {
        let text = |path: &Path| path.display().to_string();
        let steps = match (self, options.quick) {
            (Stage::Sft, false) => 1000,
            (Stage::Sft, true) => 300,
            (_, false) => 200,
            (_, true) => 25,
        };
        let common = TrainConfig {
            train_file: text(&data.train),
            eval_file: Some(text(&data.validation)),
            output_dir: text(&folder.join(self.folder())),
            phrase: Some(crate::experiments::synthetic::SCORE_PHRASE.into()),
            template: Some("plain".into()),
            chat: Some(Chat::Never),
            max_completion_length: 20,
            adam_beta2: 0.98,
            weight_decay: 0.01,
            max_steps: steps,
            per_device_eval_batch_size: 400,
            eval_steps: steps as u64 / 5,
            save_steps: steps as u64 / 5,
            save_total_limit: Some(1),
            seed: options.seed,
            resume_from_checkpoint: Resume::Newest(true),
            ..TrainConfig::default()
        };
        if self == Stage::Sft {
            return TrainConfig {
                init: Some(text(&data.config)),
                tokenizer: Some(text(&data.tokenizer)),
                learning_rate: 3e-3,
                lr_scheduler_type: Decay::Cosine,
                min_lr_ratio: 0.05,
                warmup_steps: steps as u64 / 10,
                per_device_train_batch_size: 64,
                ..common
            };
        }
        let start = TrainConfig {
            model_name_or_path: Some(text(&folder.join(Stage::Sft.folder()))),
            lr_scheduler_type: Decay::Constant,
            warmup_steps: 10,
            ..common
        };
        match self {
            Stage::SftContinued => TrainConfig { learning_rate: 1e-3, per_device_train_batch_size: 256, ..start },
            Stage::Reinforce => TrainConfig {
                method: Method::Reinforce,
                learning_rate: 1e-4,
                per_device_train_batch_size: 32,
                num_generations: 8,
                ..start
            },
            _ => TrainConfig {
                method: Method::Real,
                learning_rate: 3e-4,
                per_device_train_batch_size: 32,
                num_generations: 8,
                ..start
            },
        }
    }
}

/// The scores of all judges on all test splits; the first judge reads its chains in three ways.
async fn score_test_splits(
    judges: &[Judge],
    data: &DemoData,
    seed: u64,
    progress: &mut dyn Progress,
) -> Result<Vec<Predictor>, DemoError> {
    let [sft, real, reinforce, continued] = judges else {
        return Err(JudgeError::Settings { found: "a stage of the demo is missing".into() }.into());
    };
    let readings = [
        (REAL, real, 1, 1.0),
        (SFT, sft, 1, 1.0),
        ("SFT, greedy chain", sft, 1, 0.0),
        ("SFT, 5 chains averaged", sft, 5, 1.0),
        ("SFT continued", continued, 1, 1.0),
        ("reinforce (binary reward)", reinforce, 1, 1.0),
    ];
    let rows: u64 = data.tests.iter().map(|t| t.rows.len() as u64).sum();
    progress.begin("judging", 0, rows * readings.len() as u64);
    let (mut predictors, mut done) = (Vec::new(), 0u64);
    for (name, judge, chains, temperature) in readings {
        let options = ScoreOptions { chains, temperature: Some(temperature), seed, batch_size: 512, ..ScoreOptions::default() };
        let mut splits = Vec::new();
        for test in &data.tests {
            let judged = judge.judge(&test.rows, &options, |n| progress.step(done + n as u64, f64::NAN)).await?;
            done += test.rows.len() as u64;
            splits.push(judged);
        }
        predictors.push(Predictor::judge(name, data, &splits)?);
    }
    progress.end();
    Ok(predictors)
}

/// Names of the two judges that the report compares.
const REAL: &str = "REAL";
const SFT: &str = "SFT";
