//! `jurist demo`: the whole path on the synthetic task of `miniature`, from nothing to a judged test set and a page.
//!
//! ```text
//! miniature ─► files ─► sft (from scratch) ─┬─► real          ─┐
//!                                            ├─► reinforce      ├─► judge: four test sets ─► table ─► report.html
//!                                            └─► sft continued ─┘
//! ```
//!
//! It goes through the same files, settings and functions as a user's own run; nothing here trains or judges by itself.

mod data;
mod measure;
mod page;
mod whole;

use std::path::{Path, PathBuf};

use crate::data::Example;
use crate::eval::EvalError;
use crate::experiments::synthetic::{Item, MiniatureError, Sizes, Split, Version};
use crate::files::{FileError, Lock, refuse_foreign, write_own};
use crate::judge::{Judge, JudgeError, ScoreOptions, ScoredRow};
use crate::progress::Progress;
use crate::text::TextError;
use crate::train::TrainError;
use crate::train::config::{Chat, Method, Resume, TrainConfig};
use crate::train::objective::schedule::Decay;
use crate::train::run::{RunContext, TrainOutcome, run as train};

pub use data::{DemoData, TestItems};
use whole::Whole;

pub use measure::{Contender, Table, TestSet};

/// Version of the task that the demo trains on: the harder one, where reading word by word does not do.
const VERSION: Version = Version::H;

/// Per mille of the time that the stages and the judging take, measured with lavapipe on two cores.
const SHARES: [u64; 5] = [380, 180, 150, 220, 70];
const SHARES_QUICK: [u64; 5] = [530, 100, 100, 140, 130];

/// What a demo is asked to do.
#[derive(Clone, Debug)]
pub struct DemoOptions {
    pub output_dir: PathBuf,
    /// Fewer steps and test rows: shows the way, not the result.
    pub quick: bool,
    pub seed: u64,
}

/// What a demo leaves behind.
#[derive(Debug)]
pub struct DemoResult {
    pub table: Table,
    pub report: PathBuf,
    pub judge: PathBuf,
    pub seconds: f64,
}

/// How a demo ended.
#[derive(Debug)]
pub enum DemoEnd {
    Finished(DemoResult),
    /// Interrupted in training; the same command goes on from this checkpoint.
    Interrupted(PathBuf),
}

/// Errors of the demo: those of the rooms it goes through, and files it cannot write.
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
    Miniature(#[from] MiniatureError),
    #[error(transparent)]
    Data(#[from] crate::data::DataError),
}

/// Runs the demo.
///
/// # Errors
/// Whatever training, judging or the disk report; what was trained so far stays and is gone on from.
pub async fn run(options: &DemoOptions, ctx: RunContext<'_>) -> Result<DemoEnd, DemoError> {
    let RunContext { gpu, clock, progress, interrupted } = ctx;
    let began = clock.seconds();
    // One folder a kind of run: a quick demo and a full one never mix.
    let kind = if options.quick { "quick" } else { "full" };
    let folder = options.output_dir.join(format!("{kind}-seed{}", options.seed));
    let sizes = if options.quick { Sizes { test: 200, ..Sizes::full() } } else { Sizes { test: 500, ..Sizes::full() } };
    std::fs::create_dir_all(&folder).map_err(|e| FileError::io("create", &folder, e))?;
    let _lock = Lock::inside(&folder)?;
    // Before the work, not after it.
    let (report, results) = (options.output_dir.join("report.html"), folder.join("results.json"));
    refuse_foreign(&report, page::is_ours)?;
    refuse_foreign(&results, Table::is_json)?;
    let data = DemoData::make(VERSION, options.seed, sizes, &folder)?;
    progress.note(&format!("synthetic judging set: {} rows to learn from, 4 test sets of {}", sizes.train, sizes.test));

    let mut whole = Whole::new(progress, if options.quick { &SHARES_QUICK } else { &SHARES });
    let mut dirs = Vec::new();
    for (n, stage) in Stage::ALL.into_iter().enumerate() {
        whole.note(&format!("{} of {}: {}", n + 1, Stage::ALL.len() + 1, stage.describe()));
        whole.enter(n);
        let config = stage.config(options, &data, &folder);
        let ctx = RunContext { gpu, clock, progress: &mut whole, interrupted };
        if let TrainOutcome::Interrupted { checkpoint } = train(&config, ctx).await? {
            return Ok(DemoEnd::Interrupted(checkpoint));
        }
        dirs.push(PathBuf::from(config.output_dir));
    }
    whole.note(&format!("{0} of {0}: judging the test sets", Stage::ALL.len() + 1));
    whole.enter(Stage::ALL.len());
    let judges = dirs.iter().map(|dir| Judge::open(gpu, dir)).collect::<Result<Vec<_>, _>>()?;
    let contenders = contend(&judges, &data, options.seed, &mut whole).await?;
    drop(whole);
    let table = Table::measure(&data, &contenders, options.seed)?;
    let seconds = clock.seconds() - began;
    let page = page::Page { options, data: &data, contenders: &contenders, table: &table, judge: &judges[1], gpu, seconds };
    page.write(&report, &dirs)?;
    let text = serde_json::to_string_pretty(&table.to_json(options.seed)).unwrap_or_default() + "\n";
    write_own(&results, text.as_bytes(), Table::is_json)?;
    Ok(DemoEnd::Finished(DemoResult { table, report, judge: dirs.swap_remove(1), seconds }))
}

/// The demo's trainings. All after the first start from its judge, and see as many sequences.
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
            Stage::Sft => "supervised, from random weights, on an imperfect teacher's chains and scores",
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

    /// The settings of the study note (`miniature.md` 2), chosen there on validation with the same three learning rates for
    /// every policy-gradient method; nothing was tuned here.
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

/// The judges over all test sets; the first one read in three ways.
async fn contend(judges: &[Judge], data: &DemoData, seed: u64, progress: &mut dyn Progress) -> Result<Vec<Contender>, DemoError> {
    let [sft, real, reinforce, continued] = judges else {
        return Err(JudgeError::Settings { found: "a stage of the demo is missing".into() }.into());
    };
    let ways = [
        (REAL, real, 1, 1.0),
        (SFT, sft, 1, 1.0),
        ("SFT, greedy chain", sft, 1, 0.0),
        ("SFT, 5 chains averaged", sft, 5, 1.0),
        ("SFT continued", continued, 1, 1.0),
        ("reinforce (binary reward)", reinforce, 1, 1.0),
    ];
    let rows: u64 = data.tests.iter().map(|t| t.rows.len() as u64).sum();
    progress.begin("judging", 0, rows * ways.len() as u64);
    let (mut contenders, mut done) = (Vec::new(), 0u64);
    for (name, judge, chains, temperature) in ways {
        let judging = ScoreOptions { chains, temperature: Some(temperature), seed, batch_size: 512, ..ScoreOptions::default() };
        let mut sets = Vec::new();
        for test in &data.tests {
            let judged = judge.judge(&test.rows, &judging, |n| progress.step(done + n as u64, f64::NAN)).await?;
            done += test.rows.len() as u64;
            sets.push(judged);
        }
        contenders.push(Contender::judge(name, data, &sets)?);
    }
    progress.end();
    Ok(contenders)
}

/// Names of the two judges that everything is about.
const REAL: &str = "REAL";
const SFT: &str = "SFT";
