//! TRACT has two stages. A judge is trained on the teacher's chains and writes chains of its own. A second judge is then trained
//! on those, **from the same start model**, with the human scores.
//!
//! ```text
//! start model ─► cot-raft on the teacher's chains ─► one sampled chain per row ─► chains.jsonl
//! start model ─► cot-raft on chains.jsonl ─► the judge
//! ```
//!
//! The teacher's chains reveal the annotator's mistakes; a judge that relies on them does worse on its own chains. The second
//! stage trains the score on the kind of chains that the judge will write. Each stage is an ordinary run with its own
//! checkpoints. The chains are written in blocks, which survive an interruption, beside a record of how they are made. So a file
//! never contains chains of two judges.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
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
use crate::train::run::start::labelled_examples;
use crate::train::run::{RunContext, TrainOutcome, run, run_in};
use crate::words::count;

/// The rows with the judge's own chains.
const CHAINS: &str = "chains.jsonl";
/// The record of how they were made.
const RECORD: &str = "chains.json";
/// Folder of the first stage.
const FIRST_STAGE: &str = "stage-1";
/// Rows per block. An interruption loses at most one block.
const BLOCK: usize = 256;
/// Rows per seed; a multiple of [`BLOCK`].
const ROWS_PER_SEED: usize = 2048;
/// The column that the second stage reads its chains from.
const COLUMN: &str = "chain";

/// Does the run of `config`, whose method is `tract`.
///
/// # Errors
/// As an ordinary run. Finished work stays and is continued with `--resume`.
pub(in crate::train) async fn train(
    config: &TrainConfig,
    folder: &mut OutputFolder,
    ctx: RunContext<'_>,
) -> Result<TrainOutcome, TrainError> {
    let RunContext { gpu, clock, progress, ranks, interrupted } = ctx;
    let output = &folder.path().to_path_buf();
    let chains = output.join(CHAINS);
    // Rank 0 looks at the files of earlier runs, and writes the chains. All ranks read them.
    if config.resume_from_checkpoint.is_no() && ranks.is_first() {
        refuse_used(output)?;
    }
    let is_finished = ranks.any(ranks.is_first() && chains.exists() && !is_unfinished(&chains))?;
    let written = if is_finished {
        Written { interrupted: None, record: if ranks.is_first() { record_of_finished(config, output)? } else { Value::Null } }
    } else {
        let judge_folder = match &config.chains_from {
            Some(folder) => PathBuf::from(folder),
            None => {
                let stage = stage_one(config, output);
                let is_done = ranks.any(ranks.is_first() && output.join(FIRST_STAGE).join(JUDGE_FILE).exists())?;
                if !is_done || config.resume_from_checkpoint.is_no() {
                    progress.note("stage 1 of 2: the teacher's chains");
                    let ctx = RunContext { gpu, clock, progress, ranks, interrupted };
                    if let TrainOutcome::Interrupted { checkpoint } = Box::pin(run(&stage, ctx)).await? {
                        return Ok(TrainOutcome::Interrupted { checkpoint });
                    }
                }
                PathBuf::from(stage.output_dir)
            }
        };
        if ranks.is_first() {
            let model = ModelFolder::open(&judge_folder)?;
            let judge = JudgeFiles::trained(&model, config.base_weights)?.upload(gpu)?;
            let record = record(config, &model, judge.settings())?;
            let ctx = RunContext { gpu, clock, progress, ranks, interrupted };
            folder.create()?;
            Written { interrupted: write_chains(config, &judge, &record, output, ctx).await?, record }
        } else {
            Written::default()
        }
    };
    let Written { interrupted: unfinished, record } = ranks.broadcast_value(written)?;
    if let Some(checkpoint) = unfinished {
        return Ok(TrainOutcome::Interrupted { checkpoint });
    }
    progress.note("stage 2 of 2: its own chains, from the start again");
    let second = stage_two(config, &chains, &record);
    Box::pin(run_in(folder, &second, RunContext { gpu, clock, progress, ranks, interrupted })).await
}

/// What rank 0 has made of the chains.
#[derive(Default, Serialize, Deserialize)]
struct Written {
    /// The file of the written ones, where it was interrupted.
    interrupted: Option<PathBuf>,
    /// How they are made.
    record: Value,
}

/// Refuses a folder that contains a name which a new run will write.
fn refuse_used(output: &Path) -> Result<(), TrainError> {
    let names = [CHAINS.into(), RECORD.into(), format!("{CHAINS}.part"), format!("{CHAINS}.unfinished")];
    match names.iter().map(|name| output.join(name)).find(|path| path.exists()) {
        None => Ok(()),
        Some(path) => {
            let problem = "a run writes its chains there; continue with --resume if one did, or choose another output_dir";
            Err(FileError::in_the_way(path, problem).into())
        }
    }
}

fn stage_one(config: &TrainConfig, output: &Path) -> TrainConfig {
    let resume_from_checkpoint = Resume::Newest(!config.resume_from_checkpoint.is_no());
    let output_dir = output.join(FIRST_STAGE).display().to_string();
    TrainConfig { method: config.method.stage(), output_dir, resume_from_checkpoint, ..config.clone() }
}

/// The second stage states the same day as the judge that wrote the chains.
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

/// Everything that determines a judge's chains: its files, its settings, and the sampling.
fn record(config: &TrainConfig, model: &ModelFolder, settings: &JudgeSettings) -> Result<Value, TrainError> {
    Ok(settings.append_to(json!({
        "jurist": env!("CARGO_PKG_VERSION"),
        "judge": model.fingerprint()?,
        "base_weights": config.base_weights.name(),
        "seed": config.seed,
        "batch_size": config.per_device_eval_batch_size,
    })))
}

/// Whether a text is a record.
fn is_record(text: &str) -> bool {
    serde_json::from_str::<Value>(text).is_ok_and(|record| record["jurist"].is_string() && record["judge"].is_string())
}

/// The record of a finished chains file. Refuses chains of another judge or other rows, which are not the ones that the config
/// asks for.
fn record_of_finished(config: &TrainConfig, output: &Path) -> Result<Value, TrainError> {
    let (path, rows) = (output.join(CHAINS), labelled_examples(config)?);
    if written_chains(config, &path, &rows)?.lines < rows.len() {
        return Err(other_rows(&path));
    }
    let stored = std::fs::read_to_string(output.join(RECORD)).ok().filter(|text| is_record(text));
    let judge_folder = config.chains_from.as_ref().map_or_else(|| output.join(FIRST_STAGE), PathBuf::from);
    // The first stage is no longer needed and may have been removed.
    let current = match ModelFolder::open(&judge_folder) {
        Err(_) => None,
        Ok(model) => {
            let settings = JudgeSettings::of_folder(&model)?;
            settings.map(|settings| record(config, &model, &settings)).transpose()?
        }
    };
    if let (Some(stored), Some(current)) = (&stored, &current) {
        refuse_other_record(&path, stored, current)?;
    }
    let stored = stored.and_then(|text| serde_json::from_str(&text).ok());
    Ok(stored.or(current).unwrap_or_default())
}

/// Refuses a file whose chains were made in another way than new ones would be.
fn refuse_other_record(path: &Path, stored: &str, current: &Value) -> Result<(), TrainError> {
    match changes(stored, current) {
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

/// The chains in a file.
#[derive(Default)]
struct WrittenChains {
    lines: usize,
    /// Number of complete blocks, and their bytes.
    blocks: usize,
    bytes: u64,
}

/// Reads the chains at `path`. Refuses lines that differ from what would be written now for the first rows, apart from the
/// chains. An incomplete last line does not count.
fn written_chains(config: &TrainConfig, path: &Path, rows: &[Example]) -> Result<WrittenChains, TrainError> {
    let failed = |e| io_error("read", path, e);
    let mut file = BufReader::new(File::open(path).map_err(failed)?);
    let (mut written, mut bytes, mut line) = (WrittenChains::default(), 0, Vec::new());
    while file.read_until(b'\n', &mut line).map_err(failed)? > 0 && line.ends_with(b"\n") {
        let row = rows.get(written.lines).ok_or_else(|| other_rows(path))?;
        let parsed = columns_of(&line);
        let chain = parsed.as_ref().and_then(|columns| columns.get(COLUMN)?.as_str());
        if chain.is_none_or(|chain| with_chain(config, row, chain).as_bytes() != &line[..line.len() - 1]) {
            return Err(other_rows(path));
        }
        (written.lines, bytes) = (written.lines + 1, bytes + line.len() as u64);
        if written.lines.is_multiple_of(BLOCK) || written.lines == rows.len() {
            (written.blocks, written.bytes) = (written.lines.div_ceil(BLOCK), bytes);
        }
        line.clear();
    }
    Ok(written)
}

/// Writes one chain of the judge for every row. Returns the path of the written chains if it was interrupted.
async fn write_chains(
    config: &TrainConfig,
    judge: &Judge,
    record: &Value,
    output: &Path,
    ctx: RunContext<'_>,
) -> Result<Option<PathBuf>, TrainError> {
    let RunContext { progress, interrupted, .. } = ctx;
    let (path, rows) = (output.join(CHAINS), labelled_examples(config)?);
    let Some(mut file) = Growing::open(&path)? else {
        return Err(FileError::in_the_way(path, "it is no file, and chains are to be kept there; move it away").into());
    };
    let written = match file.earlier() {
        None => WrittenChains::default(),
        Some(earlier) => {
            // An unfinished file has its record from the first byte on.
            let note = file.note().filter(|note| is_record(note));
            let note = note.ok_or_else(|| FileError::in_the_way(earlier, "jurist did not write it; move it away"))?;
            let written = written_chains(config, earlier, &rows)?;
            refuse_other_record(earlier, &note, record)?;
            written
        }
    };
    let text = serde_json::to_string_pretty(record).unwrap_or_default() + "\n";
    file.begin(written.bytes, &text, is_record)?;
    let total = rows.len() as u64;
    progress.begin("writing chains", ((written.blocks * BLOCK) as u64).min(total), total);
    let mut failed = 0;
    for (block, block_rows) in rows.chunks(BLOCK).enumerate().skip(written.blocks) {
        let first = block * BLOCK;
        let options = sampling(config, first);
        let until = Until { stop: interrupted, done: |n: usize| progress.step((first + n) as u64, f64::NAN) };
        let scored = match judge.judge(block_rows, &options, until).await {
            Err(JudgeError::Model(ModelError::Stopped)) => {
                progress.end();
                return Ok(Some(file.stop()?.unwrap_or_else(|| output.into())));
            }
            scored => scored?,
        };
        failed += scored.iter().filter(|row| row.prediction.is_none()).count();
        let chain = |n: usize| scored.get(n).and_then(|row| row.chains.first()).map_or("", String::as_str);
        let lines: String = block_rows.iter().enumerate().map(|(n, row)| with_chain(config, row, chain(n)) + "\n").collect();
        file.append(&lines)?;
    }
    progress.end();
    if failed > 0 {
        progress.warn(&format!("{failed} of {} got no chain: the model's context is too short for it", count(rows.len(), "row")));
    }
    // Before the chains are finished, so that finished chains always have a record.
    files::write_own(&output.join(RECORD), text.as_bytes(), is_record)?;
    file.finish()?;
    Ok(None)
}

/// How chains are sampled from row `first` on. A row's random numbers do not depend on the block, so a block that is written
/// again is the same.
fn sampling(config: &TrainConfig, first: usize) -> ScoreOptions {
    let seed = config.seed ^ (((first / ROWS_PER_SEED + 1) as u64) << 32);
    let batch_size = config.per_device_eval_batch_size as usize;
    ScoreOptions { temperature: Some(1.0), seed, batch_size, first_row: first % ROWS_PER_SEED, ..ScoreOptions::default() }
}

/// The row as it was read, with this chain instead of its own, as a JSON line.
fn with_chain(config: &TrainConfig, row: &Example, chain: &str) -> String {
    let label = row.record.score.filter(|_| !row.row.fields.contains_key(&config.label_column));
    match label {
        None => row.row.with_column(COLUMN, &chain.into()),
        // The label may have been read from the text of the old chain, which is replaced.
        Some(score) => {
            let written = row.row.with_column(&config.label_column, &score.into());
            Row { written: Some(written.into()), ..row.row.clone() }.with_column(COLUMN, &chain.into())
        }
    }
}
