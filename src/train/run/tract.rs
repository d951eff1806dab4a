//! TRACT (two stages): a judge learns from the teacher's chains, writes chains of its own, and then another judge learns
//! from those, **from the same start**, with the human scores behind them.
//!
//! ```text
//! start ─► cot-raft on the teacher's chains ─► one chain a row, sampled ─► chains.jsonl
//! start ─► cot-raft on chains.jsonl ─► the judge
//! ```
//!
//! The teacher's chains leak what their annotator got wrong; a judge that trusts them is let down by its own. The second
//! stage shows the score head the chains that it will meet. Each stage is an ordinary run with its own checkpoints. The chains
//! are written in blocks that outlive an interruption, beside a record of what they are made with, so that a file never holds
//! chains of two judges.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::data::{Example, Row, columns_of};
use crate::files::{self, FileError, Growing, changes, is_unfinished};
use crate::judge::{JUDGE_FILE, Judge, JudgeError, JudgeFiles, JudgeSettings, ScoreOptions};
use crate::model::error::ModelError;
use crate::model_folder::ModelFolder;
use crate::rollout::Until;
use crate::train::TrainError;
use crate::train::checkpoint::output::OutputFolder;
use crate::train::config::{ChainColumn, Resume, TrainConfig};
use crate::train::error::io_error;
use crate::train::run::start::labelled_rows;
use crate::train::run::{RunContext, TrainOutcome, run, run_in};

/// The rows with the judge's own chains.
const CHAINS: &str = "chains.jsonl";
/// What they were made with.
const RECORD: &str = "chains.json";
/// Folder of the first stage.
const FIRST_STAGE: &str = "stage-1";
/// Rows a block: what an interruption costs at most.
const BLOCK: usize = 256;
/// Rows that draw from one seed; a multiple of [`BLOCK`].
const ROWS_A_SEED: usize = 2048;
/// The column that the second stage reads its chains from.
const COLUMN: &str = "chain";

/// Trains as `config` says, whose method is `tract`.
///
/// # Errors
/// As an ordinary run. What was trained and written stays and is gone on from with `--resume`.
pub(in crate::train) async fn train(
    config: &TrainConfig,
    folder: &mut OutputFolder,
    ctx: RunContext<'_>,
) -> Result<TrainOutcome, TrainError> {
    let RunContext { gpu, clock, progress, interrupted } = ctx;
    let output = &folder.path().to_path_buf();
    let chains = output.join(CHAINS);
    if config.resume_from_checkpoint.is_no() {
        refuse_used(output)?;
    }
    let record = if chains.exists() && !is_unfinished(&chains) {
        finished(config, output)?
    } else {
        let first = match &config.chains_from {
            Some(folder) => PathBuf::from(folder),
            None => {
                let stage = stage_one(config, output);
                let done = output.join(FIRST_STAGE).join(JUDGE_FILE).exists();
                if !done || config.resume_from_checkpoint.is_no() {
                    progress.note("stage 1 of 2: the teacher's chains");
                    let ctx = RunContext { gpu, clock, progress, interrupted };
                    if let TrainOutcome::Interrupted { checkpoint } = Box::pin(run(&stage, ctx)).await? {
                        return Ok(TrainOutcome::Interrupted { checkpoint });
                    }
                }
                PathBuf::from(stage.output_dir)
            }
        };
        let model = ModelFolder::open(&first)?;
        let judge = JudgeFiles::trained(&model, config.base_weights)?.upload(gpu)?;
        let record = record(config, &model, judge.settings())?;
        let ctx = RunContext { gpu, clock, progress, interrupted };
        folder.make()?;
        if let Some(checkpoint) = write_chains(config, &judge, &record, output, ctx).await? {
            return Ok(TrainOutcome::Interrupted { checkpoint });
        }
        record
    };
    progress.note("stage 2 of 2: its own chains, from the start again");
    let second = stage_two(config, &chains, &record);
    Box::pin(run_in(folder, &second, RunContext { gpu, clock, progress, interrupted })).await
}

/// Refuses a folder in which a name that a new run will write is taken.
fn refuse_used(output: &Path) -> Result<(), TrainError> {
    let names = [CHAINS.into(), RECORD.into(), format!("{CHAINS}.part"), format!("{CHAINS}.unfinished")];
    match names.iter().map(|name| output.join(name)).find(|path| path.exists()) {
        None => Ok(()),
        Some(path) => {
            let problem = "a run writes its chains there; go on with --resume if one did, or choose another output_dir";
            Err(FileError::in_the_way(path, problem).into())
        }
    }
}

fn stage_one(config: &TrainConfig, output: &Path) -> TrainConfig {
    let resume_from_checkpoint = Resume::Newest(!config.resume_from_checkpoint.is_no());
    let output_dir = output.join(FIRST_STAGE).display().to_string();
    TrainConfig { method: config.method.stage(), output_dir, resume_from_checkpoint, ..config.clone() }
}

/// The second stage states the day that the chains were written with.
fn stage_two(config: &TrainConfig, chains: &Path, record: &Value) -> TrainConfig {
    let train_file = chains.display().to_string();
    let date = config.date.clone().or_else(|| record["date"].as_str().map(String::from));
    TrainConfig {
        method: config.method.stage(),
        train_file,
        chain_column: ChainColumn::Named(COLUMN.into()),
        date,
        ..config.clone()
    }
}

/// What decides which chains a judge writes: its files, its settings, and how they are sampled.
fn record(config: &TrainConfig, model: &ModelFolder, settings: &JudgeSettings) -> Result<Value, TrainError> {
    Ok(settings.behind(json!({
        "jurist": env!("CARGO_PKG_VERSION"),
        "judge": model.fingerprint()?,
        "base_weights": config.base_weights.name(),
        "seed": config.seed,
        "batch_size": config.per_device_eval_batch_size,
    })))
}

/// Whether a text is such a record.
fn is_record(text: &str) -> bool {
    serde_json::from_str::<Value>(text).is_ok_and(|record| record["jurist"].is_string() && record["judge"].is_string())
}

/// The record of chains that are all written. Refuses those of another judge or of other rows: the second stage would learn from
/// something else than the config says.
fn finished(config: &TrainConfig, output: &Path) -> Result<Value, TrainError> {
    let (path, rows) = (output.join(CHAINS), labelled_rows(config)?);
    if earlier(config, &path, &rows)?.lines < rows.len() {
        return Err(other_rows(&path));
    }
    let known = std::fs::read_to_string(output.join(RECORD)).ok().filter(|text| is_record(text));
    let first = config.chains_from.as_ref().map_or_else(|| output.join(FIRST_STAGE), PathBuf::from);
    // The first stage is not needed any more, and may have been removed.
    let now = match ModelFolder::open(&first) {
        Err(_) => None,
        Ok(model) => {
            let settings = JudgeSettings::of_folder(&model)?;
            settings.map(|settings| record(config, &model, &settings)).transpose()?
        }
    };
    if let (Some(known), Some(now)) = (&known, &now) {
        refuse_other_record(&path, known, now)?;
    }
    let known = known.and_then(|text| serde_json::from_str(&text).ok());
    Ok(known.or(now).unwrap_or_default())
}

/// Refuses to go on with chains that were made with something else than those to come.
fn refuse_other_record(path: &Path, before: &str, now: &Value) -> Result<(), TrainError> {
    match changes(before, now) {
        None => Ok(()),
        Some(changes) => {
            let problem = format!(
                "its chains were written with another judge or other settings ({changes}); give the same ones, or choose another \
                 output_dir"
            );
            Err(FileError::in_the_way(path, problem).into())
        }
    }
}

fn other_rows(path: &Path) -> TrainError {
    let problem = "these are not the rows of this run with their chains; move it away or choose another output_dir";
    FileError::in_the_way(path, problem).into()
}

/// Chains that are there.
#[derive(Default)]
struct Earlier {
    lines: usize,
    /// Whole blocks of them, and their bytes.
    blocks: usize,
    bytes: u64,
}

/// Reads the chains at `path`. Refuses lines that are not the first rows with a chain each, as they would be written now; a last
/// line that is cut does not count.
fn earlier(config: &TrainConfig, path: &Path, rows: &[Example]) -> Result<Earlier, TrainError> {
    let failed = |e| io_error("read", path, e);
    let mut file = BufReader::new(File::open(path).map_err(failed)?);
    let (mut found, mut bytes, mut line) = (Earlier::default(), 0, Vec::new());
    while file.read_until(b'\n', &mut line).map_err(failed)? > 0 && line.ends_with(b"\n") {
        let row = rows.get(found.lines).ok_or_else(|| other_rows(path))?;
        let parsed = columns_of(&line);
        let chain = parsed.as_ref().and_then(|columns| columns.get(COLUMN)?.as_str());
        if chain.is_none_or(|chain| with_chain(config, row, chain).as_bytes() != &line[..line.len() - 1]) {
            return Err(other_rows(path));
        }
        (found.lines, bytes) = (found.lines + 1, bytes + line.len() as u64);
        if found.lines.is_multiple_of(BLOCK) || found.lines == rows.len() {
            (found.blocks, found.bytes) = (found.lines.div_ceil(BLOCK), bytes);
        }
        line.clear();
    }
    Ok(found)
}

/// Has the judge write one chain for every row. Where it was interrupted, the place of those that are kept.
async fn write_chains(
    config: &TrainConfig,
    judge: &Judge,
    record: &Value,
    output: &Path,
    ctx: RunContext<'_>,
) -> Result<Option<PathBuf>, TrainError> {
    let RunContext { progress, interrupted, .. } = ctx;
    let (path, rows) = (output.join(CHAINS), labelled_rows(config)?);
    let Some(mut file) = Growing::open(&path)? else {
        return Err(FileError::in_the_way(path, "it is no file, and chains are to be kept there; move it away").into());
    };
    let there = match file.earlier() {
        None => Earlier::default(),
        Some(there) => {
            // What was begun has its record from the first byte on.
            let note = file.note().filter(|note| is_record(note));
            let note = note.ok_or_else(|| FileError::in_the_way(there, "jurist did not write it; move it away"))?;
            let found = earlier(config, there, &rows)?;
            refuse_other_record(there, &note, record)?;
            found
        }
    };
    let text = serde_json::to_string_pretty(record).unwrap_or_default() + "\n";
    file.begin(there.bytes, &text, is_record)?;
    let total = rows.len() as u64;
    progress.begin("writing chains", ((there.blocks * BLOCK) as u64).min(total), total);
    let mut failed = 0;
    for (block, some) in rows.chunks(BLOCK).enumerate().skip(there.blocks) {
        let before = block * BLOCK;
        let judging = sampling(config, before);
        let until = Until { stop: interrupted, done: |n: usize| progress.step((before + n) as u64, f64::NAN) };
        let judged = match judge.judge(some, &judging, until).await {
            Err(JudgeError::Model(ModelError::Stopped)) => {
                progress.end();
                return Ok(Some(file.stop()?.unwrap_or_else(|| output.into())));
            }
            judged => judged?,
        };
        failed += judged.iter().filter(|judged| judged.prediction.is_none()).count();
        let chain = |n: usize| judged.get(n).and_then(|judged| judged.chains.first()).map_or("", String::as_str);
        let lines: String = some.iter().enumerate().map(|(n, row)| with_chain(config, row, chain(n)) + "\n").collect();
        file.append(&lines)?;
    }
    progress.end();
    if failed > 0 {
        progress.warn(&format!("{failed} of {} rows got no chain: they do not fit the model's context", rows.len()));
    }
    // Before the chains are whole: then they are never without it.
    files::write_own(&output.join(RECORD), text.as_bytes(), is_record)?;
    file.finish()?;
    Ok(None)
}

/// How chains are sampled from row `first` on. A row's random numbers are its own, so that a block that is written again is the
/// same.
fn sampling(config: &TrainConfig, first: usize) -> ScoreOptions {
    let seed = config.seed ^ (((first / ROWS_A_SEED + 1) as u64) << 32);
    let batch_size = config.per_device_eval_batch_size as usize;
    ScoreOptions { temperature: Some(1.0), seed, batch_size, first_row: first % ROWS_A_SEED, ..ScoreOptions::default() }
}

/// The row as it was written, with this chain instead of its own, as a line.
fn with_chain(config: &TrainConfig, row: &Example, chain: &str) -> String {
    let label = row.record.score.filter(|_| !row.row.fields.contains_key(&config.label_column));
    match label {
        None => row.row.with_column(COLUMN, &chain.into()),
        // A label that was taken out of an answer's text must not be lost with it.
        Some(score) => {
            let written = row.row.with_column(&config.label_column, &score.into());
            Row { written: Some(written.into()), ..row.row.clone() }.with_column(COLUMN, &chain.into())
        }
    }
}
