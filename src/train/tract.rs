//! TRACT (two stages): a judge learns from the teacher's chains, writes chains of its own, and then another judge learns
//! from those, **from the same start**, with the human scores behind them.
//!
//! ```text
//! start ─► cot-raft on the teacher's chains ─► one chain a row, sampled ─► chains.jsonl
//! start ─► cot-raft on chains.jsonl ─► the judge
//! ```
//!
//! The teacher's chains leak what their annotator got wrong; a judge that trusts them is let down by its own. The second
//! stage shows the score head the chains that it will meet. Each stage is an ordinary run with its own checkpoints; the
//! chains are written in helpings that survive an interruption.

use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::TrainError;
use super::config::{Resume, TrainConfig};
use super::error::io_error;
use super::output::OutputFolder;
use super::run::{Ended, Surroundings, run, run_in};
use super::start::labelled_rows;
use crate::bundle::ModelFolder;
use crate::data::Example;
use crate::files::{self, FileError};
use crate::judge::{JUDGE_FILE, Judge, JudgeFiles, Judging};

/// The rows with the judge's own chains.
const CHAINS: &str = "chains.jsonl";
/// Those that are written so far.
const BEGUN: &str = "chains.part.jsonl";
/// Folder of the first stage.
const FIRST_STAGE: &str = "stage-1";
/// Rows a helping.
const HELPING: usize = 2048;
/// The column that the second stage reads its chains from.
const COLUMN: &str = "chain";

/// Trains as `config` says, whose method is `tract`.
///
/// # Errors
/// As an ordinary run. What was trained and written stays and is gone on from with `--resume`.
pub(super) async fn train(
    config: &TrainConfig,
    folder: &mut OutputFolder,
    around: Surroundings<'_>,
) -> Result<Ended, TrainError> {
    let Surroundings { gpu, clock, progress, interrupted } = around;
    let output = &folder.path().to_path_buf();
    let chains = output.join(CHAINS);
    if config.resume_from_checkpoint.is_no() {
        refuse_used(output)?;
    }
    if chains.exists() {
        let rows = labelled_rows(config)?;
        refuse_other_chains(&chains, config, (&rows, rows.len()))?;
    } else {
        let first = match &config.chains_from {
            Some(folder) => PathBuf::from(folder),
            None => {
                let stage = stage_one(config, output);
                let done = output.join(FIRST_STAGE).join(JUDGE_FILE).exists();
                if !done || config.resume_from_checkpoint.is_no() {
                    progress.note("stage 1 of 2: the teacher's chains");
                    let around = Surroundings { gpu, clock, progress, interrupted };
                    if let Ended::Interrupted { checkpoint } = Box::pin(run(&stage, around)).await? {
                        return Ok(Ended::Interrupted { checkpoint });
                    }
                }
                PathBuf::from(stage.output_dir)
            }
        };
        let judge = JudgeFiles::trained(&ModelFolder::open(&first)?, config.weight_policy())?.upload(gpu)?;
        let around = Surroundings { gpu, clock, progress, interrupted };
        folder.make()?;
        if !write_chains(config, &judge, output, around).await? {
            return Ok(Ended::Interrupted { checkpoint: output.join(BEGUN) });
        }
    }
    progress.note("stage 2 of 2: its own chains, from the start again");
    let second = stage_two(config, &chains);
    Box::pin(run_in(folder, &second, Surroundings { gpu, clock, progress, interrupted })).await
}

/// Refuses a folder in which a name that a new run will write is taken.
fn refuse_used(output: &Path) -> Result<(), TrainError> {
    match [CHAINS, BEGUN].iter().map(|name| output.join(name)).find(|path| path.exists()) {
        None => Ok(()),
        Some(path) => {
            let problem = "a run writes its chains there; go on with --resume if one did, or choose another output_dir";
            Err(FileError::in_the_way(path, problem).into())
        }
    }
}

/// Refuses a file of chains whose lines are not the first rows with a chain each: the judge would learn from something else, and
/// what somebody else wrote would be overwritten. `expected` is the number of lines; a last one that is cut does not count.
fn refuse_other_chains(path: &Path, config: &TrainConfig, (rows, expected): (&[Example], usize)) -> Result<(), TrainError> {
    let text = std::fs::read_to_string(path).map_err(|e| io_error("read", path, e))?;
    let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
    let same = |(line, row): (&str, &Example)| {
        let chain = serde_json::from_str::<Value>(line).ok().and_then(|v| Some(v[COLUMN].as_str()?.to_string()));
        chain.is_some_and(|chain| with_chain(config, row, &chain) == line)
    };
    let lines = whole.lines().count();
    if lines < expected || lines > rows.len() || !whole.lines().zip(rows).all(same) {
        let problem = "these are not the rows of this run with their chains; move it away or choose another output_dir";
        return Err(FileError::in_the_way(path, problem).into());
    }
    Ok(())
}

fn stage_one(config: &TrainConfig, output: &Path) -> TrainConfig {
    let resume_from_checkpoint = Resume::Newest(!config.resume_from_checkpoint.is_no());
    let output_dir = output.join(FIRST_STAGE).display().to_string();
    TrainConfig { method: "cot-raft".into(), output_dir, resume_from_checkpoint, ..config.clone() }
}

fn stage_two(config: &TrainConfig, chains: &Path) -> TrainConfig {
    let train_file = chains.display().to_string();
    TrainConfig { method: "cot-raft".into(), train_file, chain_column: COLUMN.into(), ..config.clone() }
}

/// Has the judge write one chain for every row; false when interrupted.
async fn write_chains(config: &TrainConfig, judge: &Judge, output: &Path, around: Surroundings<'_>) -> Result<bool, TrainError> {
    let rows = labelled_rows(config)?;
    let path = output.join(BEGUN);
    if path.exists() {
        refuse_other_chains(&path, config, (&rows, 0))?;
    }
    // Whole helpings only: a line that was cut by the interruption belongs to none.
    let lines = std::fs::read_to_string(&path).map_or(0, |text| text.matches('\n').count());
    let done = lines / HELPING * HELPING;
    let kept: String = match done {
        0 => String::new(),
        n => std::fs::read_to_string(&path).map_err(|e| io_error("read", &path, e))?.split_inclusive('\n').take(n).collect(),
    };
    files::write(&path, kept.as_bytes())?;
    let file = std::fs::OpenOptions::new().append(true).open(&path).map_err(|e| io_error("write", &path, e))?;
    let mut file = std::io::BufWriter::new(file);
    around.progress.begin("writing chains", done as u64, rows.len() as u64);
    let mut failed = 0;
    for (helping, some) in rows.chunks(HELPING).enumerate().skip(done / HELPING) {
        // A helping's random numbers are its own, so that one that is written again is the same.
        let seed = config.seed ^ ((helping as u64 + 1) << 32);
        let batch_size = config.per_device_eval_batch_size as usize;
        let judging = Judging { temperature: 1.0, seed, batch_size, ..Judging::default() };
        let before = (helping * HELPING) as u64;
        let judged = judge.judge(some, &judging, |n: usize| around.progress.step(before + n as u64, 0.0)).await?;
        for (row, judged) in some.iter().zip(&judged) {
            failed += usize::from(judged.prediction.is_none());
            let chain = judged.chains.first().map_or("", String::as_str);
            writeln!(file, "{}", with_chain(config, row, chain)).map_err(|e| io_error("write", &path, e))?;
        }
        file.flush().map_err(|e| io_error("write", &path, e))?;
        if (around.interrupted)() && before as usize + some.len() < rows.len() {
            around.progress.end();
            return Ok(false);
        }
    }
    around.progress.end();
    if failed > 0 {
        around.progress.warn(&format!("{failed} of {} rows got no chain: they do not fit the model's context", rows.len()));
    }
    let whole = output.join(CHAINS);
    std::fs::rename(&path, &whole).map_err(|e| io_error("write", &whole, e))?;
    Ok(true)
}

/// The row as it was, with this chain instead of its own, as a line.
fn with_chain(config: &TrainConfig, row: &Example, chain: &str) -> String {
    let mut fields = row.row.fields.clone();
    fields.insert(COLUMN.into(), chain.into());
    if let Some(score) = row.record.score {
        // A label that was taken out of an answer's text must not be lost with it.
        fields.entry(config.label_column.clone()).or_insert(score.into());
    }
    Value::Object(fields).to_string()
}
