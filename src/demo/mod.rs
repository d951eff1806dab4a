//! `jurist demo`: the whole path on the synthetic task of `miniature`, from nothing to a judged test set and a page.
//!
//! ```text
//! miniature ─► files ─► train (from scratch) ─► judge: four test sets ─► table with floors and ceiling ─► report.html
//! ```
//!
//! It goes through the same files, settings and functions as a user's own run; nothing here trains or judges by itself.

mod data;
mod measure;
mod page;

use std::path::{Path, PathBuf};

use crate::data::Example;
use crate::eval::EvalError;
use crate::judge::{Judge, JudgeError, Judged, Judging};
use crate::miniature::{Item, MiniatureError, Sizes, Split, Version};
use crate::text::TextError;
use crate::train::TrainError;
use crate::train::config::{Resume, TrainConfig};
use crate::train::log::Progress;
use crate::train::run::{Ended, Surroundings, run as train};

pub use data::DemoData;
pub use measure::{Contender, Table, TestSet};

/// Version of the task that the demo trains on: the harder one, where reading word by word does not do.
const VERSION: Version = Version::H;

/// What a demo is asked to do.
#[derive(Clone, Debug)]
pub struct DemoOptions {
    pub output_dir: PathBuf,
    /// A third of the steps and of the test rows.
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
    #[error("cannot write {}: {source}", path.display())]
    Write { path: PathBuf, source: std::io::Error },
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
pub async fn run(options: &DemoOptions, around: Surroundings<'_>) -> Result<DemoEnd, DemoError> {
    let Surroundings { gpu, clock, progress, interrupted } = around;
    let began = clock.seconds();
    // One folder a kind of run: a quick demo and a full one never mix.
    let kind = if options.quick { "quick" } else { "full" };
    let folder = options.output_dir.join(format!("{kind}-seed{}", options.seed));
    let sizes = if options.quick { Sizes { test: 200, ..Sizes::full() } } else { Sizes { test: 500, ..Sizes::full() } };
    let data = DemoData::make(VERSION, options.seed, sizes, &folder)?;
    progress.note(&format!("synthetic judging set: {} rows to learn from, 4 test sets of {}", sizes.train, sizes.test));

    let config = sft_config(options, &data, &folder);
    let around = Surroundings { gpu, clock, progress: &mut *progress, interrupted };
    if let Ended::Interrupted { checkpoint } = train(&config, around).await? {
        return Ok(DemoEnd::Interrupted(checkpoint));
    }
    let judge_dir = PathBuf::from(&config.output_dir);
    let judge = Judge::open(gpu, &judge_dir, |stored, _| {
        stored.ok_or(JudgeError::Settings { found: "the trained judge has none".into() })
    })?;
    let contenders = contend(&judge, &data, options.seed, progress).await?;
    let table = Table::measure(&data, &contenders, options.seed)?;
    let report = options.output_dir.join("report.html");
    let seconds = clock.seconds() - began;
    let page = page::Page { options, data: &data, contenders: &contenders, table: &table, judge: &judge, gpu, seconds };
    page.write(&report, &judge_dir)?;
    Ok(DemoEnd::Finished(DemoResult { table, report, judge: judge_dir, seconds }))
}

/// The settings of the study note (`miniature.md` 2): AdamW (.9, .98), decay .01, 3e-3, cosine to 5 %, batch 64.
fn sft_config(options: &DemoOptions, data: &DemoData, folder: &Path) -> TrainConfig {
    let steps = if options.quick { 300 } else { 1000 };
    let text = |path: &Path| path.display().to_string();
    TrainConfig {
        init: Some(text(&data.config)),
        tokenizer: Some(text(&data.tokenizer)),
        train_file: text(&data.train),
        eval_file: Some(text(&data.validation)),
        output_dir: text(&folder.join("sft")),
        phrase: crate::miniature::SCORE_PHRASE.into(),
        template: "plain".into(),
        chat: "never".into(),
        max_completion_length: 24,
        learning_rate: 3e-3,
        lr_scheduler_type: "cosine".into(),
        min_lr_ratio: 0.05,
        warmup_steps: steps / 10,
        adam_beta2: 0.98,
        weight_decay: 0.01,
        max_steps: steps as i64,
        per_device_train_batch_size: 64,
        per_device_eval_batch_size: 256,
        eval_steps: steps / 5,
        save_steps: steps / 5,
        save_total_limit: Some(1),
        seed: options.seed,
        resume_from_checkpoint: Resume::Newest(true),
        ..TrainConfig::default()
    }
}

/// The judge read in three ways over all test sets.
async fn contend(judge: &Judge, data: &DemoData, seed: u64, progress: &mut dyn Progress) -> Result<Vec<Contender>, DemoError> {
    let ways = [("SFT, one sampled chain", 1, 1.0), ("SFT, greedy chain", 1, 0.0), ("SFT, 5 chains averaged", 5, 1.0)];
    let rows: u64 = data.tests.iter().map(|t| t.rows.len() as u64).sum();
    progress.begin("judging", 0, rows * ways.len() as u64);
    let (mut contenders, mut done) = (Vec::new(), 0u64);
    for (name, chains, temperature) in ways {
        let judging = Judging { chains, temperature, seed, batch_size: 512, ..Judging::default() };
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
