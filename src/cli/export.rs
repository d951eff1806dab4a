//! `jurist export`: a trained judge as a bundle, for the browser and for keeping.

use std::path::PathBuf;

use serde_json::Value;

use super::progress::TerminalProgress;
use super::{CliError, Context, ExportArgs, ExportFormat, Interrupt, print};
use crate::bundle::{Label, MAX_EXAMPLES};
use crate::data::{ColumnOptions, Example, Reader};
use crate::eval::pearson;
use crate::files::refuse_input;
use crate::hub::Wanted;
use crate::judge::{Judge, JudgeExport, JudgeFiles, compare, folder_name};
use crate::model::weight_policy::WeightPolicy;
use crate::ops::weight_dtype::{BLOCK, WeightDtype};
use crate::progress::Progress;
use crate::selftest::Work;
use crate::words::count;

/// Rows that a quantised judge is compared on, at most.
const MOST_COMPARED: usize = 256;
/// Rows that calibrate, at most.
const MOST_CALIBRATED: usize = 256;

/// Writes the bundle and says how large it is, and of quantised weights what they have changed.
pub fn run(args: &ExportArgs, context: &Context) -> Result<(), CliError> {
    if args.format == ExportFormat::Gguf {
        return super::export_gguf::run(args, context);
    }
    let mut progress = context.progress();
    refuse_input(&args.out, &args.checkpoint, "the checkpoint")?;
    let _interrupt = Interrupt::watch(&context.ranks)?;
    let weights = args.weights.parse::<WeightDtype>().map_err(|e| CliError::Usage(format!("--weights: {e}")))?;
    if args.calibrate.is_some() && weights != WeightDtype::Q4 {
        return Err(CliError::Usage("--calibrate: only q4 is rounded by rows; add --weights q4, or leave it out".into()));
    }
    context.fetch(&args.checkpoint, Wanted::All, &mut progress)?;
    let mut judge = JudgeExport::open(&context.open(&args.checkpoint)?)?;
    judge.notes.iter().for_each(|note| progress.note(note));
    let name = args.name.clone().unwrap_or_else(|| folder_name(&args.checkpoint));
    let read = |file: &PathBuf| Reader { columns: ColumnOptions::for_scoring(), ..Reader::default() }.read_path(file);
    let rows = args.examples.as_ref().map(read).transpose()?.map_or(Vec::new(), |rows| rows.examples);
    if rows.len() > MAX_EXAMPLES {
        progress.note(&format!("the first {MAX_EXAMPLES} of {} examples travel with the bundle", rows.len()));
    }
    let examples = rows.iter().take(MAX_EXAMPLES).map(|e| Value::Object(e.row.fields.clone())).collect();
    if weights.is_quantised() {
        let left = weights.left_in_full(judge.config());
        if left > 0 {
            let matrices = if left == 1 { "1 matrix stays".into() } else { format!("{left} matrices stay") };
            progress.note(&format!("{matrices} in f32: the length of the rows is not a multiple of {BLOCK}"));
        }
    }
    if let Some(file) = &args.calibrate {
        let mut rows = read(file)?.examples;
        rows.truncate(MOST_CALIBRATED);
        let gpu = context.gpu(Work::Judging, &mut progress)?;
        let full = JudgeFiles::trained(&context.open(&args.checkpoint)?, WeightPolicy::AS_STORED)?.upload(&gpu)?;
        judge.squares = pollster::block_on(full.input_squares(&rows))?;
    }
    if judge.has_adapter() && weights == WeightDtype::Q4 {
        progress.note("the adapter travels beside the weights: rounded with them to 4 bits, most of it would be lost");
    }
    if weights.is_quantised() {
        let again = format!("calibrate the bundle as well (jurist calibrate --model {})", args.out.display());
        judge.calibration_advice(&again).into_iter().for_each(|advice| progress.warn(&advice));
    }
    let label = Label { name, description: args.description.clone(), examples };
    let manifest = judge.write(&args.out, &label, weights)?;
    print(&format!(
        "{}: {} parameters as {}, {}, {:.2} MB to download\n",
        args.out.display(),
        manifest.parameters,
        weights.name(),
        count(manifest.shards.len(), "shard"),
        manifest.download_bytes() as f64 / 1e6
    ))?;
    match weights.is_quantised() {
        false => Ok(()),
        true if rows.is_empty() => print("agreement with the judge it was made from: not measured, there were no --examples\n"),
        true => print(&agreement(args, context, &rows[..rows.len().min(MOST_COMPARED)], &mut progress)?),
    }
}

/// Above this mean divergence in nats, or if a score moves by more than this part of the scale, the user is warned.
const MOST_DIVERGENCE: f64 = 0.1;
const MOST_MOVED: f64 = 0.05;

/// What quantising has changed, on `rows`: both judges read the chains that the one in full precision writes.
fn agreement(
    args: &ExportArgs,
    context: &Context,
    rows: &[Example],
    progress: &mut TerminalProgress,
) -> Result<String, CliError> {
    let gpu = context.gpu(Work::Judging, progress)?;
    let full = JudgeFiles::trained(&context.open(&args.checkpoint)?, WeightPolicy::AS_STORED)?.upload(&gpu)?;
    let packed = Judge::open(&gpu, &args.out)?;
    let found = pollster::block_on(compare(&full, &packed, rows))?;
    let (a, b): (Vec<f64>, Vec<f64>) = found.scores.iter().map(|[a, b]| (*a, *b)).unzip();
    let pearson = match pearson(&a, &b) {
        Ok(r) => format!("{r:.6}"),
        Err(undefined) => format!("none ({undefined})"),
    };
    let (moved, divergence) = (found.largest_difference(), found.mean_divergence());
    let span = full.settings().scale.max() - full.settings().scale.min();
    if divergence > MOST_DIVERGENCE || moved > MOST_MOVED * span {
        progress.note(&format!(
            "these weights are another judge: an expected score moved by {moved:.2} on {}..{}, and the KL divergence is \
             {divergence:.3}; --weights q8 keeps it nearer",
            full.settings().scale.min(),
            full.settings().scale.max()
        ));
    }
    Ok(format!(
        "agreement with the original judge, on {} with its chains: max |ΔE| {moved:.2e}, Pearson {pearson}, KL {divergence:.2e}, \
         top-1 {} of {}\n",
        count(found.scores.len(), "row"),
        found.agreeing,
        found.positions
    ))
}
