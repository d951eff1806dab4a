//! `jurist export`: a trained judge as a bundle, for the browser and for keeping.

use std::path::Path;

use serde_json::Value;

use super::{CliError, Context, ExportArgs};
use crate::bundle::{Exported, MOST_EXAMPLES, ModelFolder, SHARD_BYTES, WeightFormat, export};
use crate::data::{Reader, View};
use crate::judge::{JudgeError, JudgeSettings};
use crate::train::log::Progress;

/// Writes the bundle and says how large it is.
pub fn run(args: &ExportArgs, context: &Context) -> Result<(), CliError> {
    let mut progress = context.progress();
    let model = args.checkpoint.display();
    let weights = WeightFormat::named(&args.weights).map_err(|e| CliError::Usage(format!("--weights: {e}")))?;
    let folder = ModelFolder::open(&args.checkpoint).map_err(JudgeError::from)?;
    let Some(judge) = folder.judge_json().map_err(JudgeError::from)? else {
        let problem = "there is no judge.json in it; a bundle holds a judge, such as jurist train writes";
        return Err(CliError::Failed(format!("model {model}: {problem}")));
    };
    JudgeSettings::from_json(&judge)?;
    let judge: Value = serde_json::from_str(&judge).map_err(|e| JudgeError::Settings { found: e.to_string() })?;
    let tokenizer = folder.tokenizer().map_err(JudgeError::from)?;
    let stored = folder.weights().map_err(JudgeError::from)?;
    stored.notes.iter().for_each(|note| progress.note(note));
    let name = match &args.name {
        Some(name) => name.clone(),
        None => name_of(&args.checkpoint),
    };
    let examples = match &args.examples {
        None => Vec::new(),
        Some(file) => examples(file, &mut progress)?,
    };
    let bundle = Exported { name: &name, weights, model: stored.source.as_ref(), tokenizer: &tokenizer, judge, examples };
    let manifest = export(&args.out, &bundle, SHARD_BYTES).map_err(JudgeError::from)?;
    super::print(&format!(
        "{}: {} parameters as {}, {} shards, {:.2} MB to download\n",
        args.out.display(),
        manifest.parameters,
        manifest.weights,
        manifest.shards.len(),
        manifest.download_bytes() as f64 / 1e6
    ))
}

/// The name of a checkpoint's folder.
fn name_of(checkpoint: &Path) -> String {
    let full = std::fs::canonicalize(checkpoint).unwrap_or_else(|_| checkpoint.into());
    full.file_name().map_or("judge".into(), |name| name.to_string_lossy().into_owned())
}

/// The first rows of a file, every column kept.
fn examples(file: &Path, progress: &mut dyn Progress) -> Result<Vec<Value>, CliError> {
    let rows = Reader { view: View::for_scoring(), skip_bad: false, limit: None }.read_path(file)?;
    if rows.examples.len() > MOST_EXAMPLES {
        progress.note(&format!("{}: the first {MOST_EXAMPLES} of {} rows are taken", file.display(), rows.examples.len()));
    }
    Ok(rows.examples.into_iter().take(MOST_EXAMPLES).map(|e| Value::Object(e.row.fields)).collect())
}
