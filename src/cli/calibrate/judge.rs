//! Calibrates a judge on rows that people labelled.

use std::path::Path;

use super::{Rows, file, fit};
use crate::cli::columns::{CLUSTERS, column};
use crate::cli::outcome::require_judged;
use crate::cli::scoring::{Single, Sink, Work, judge_rows};
use crate::cli::{CalibrateArgs, CliError, Context, Interrupt, TerminalProgress, row_hashes};
use crate::data::Dataset;
use crate::eval::clusters::clusters_of;
use crate::hub;
use crate::judge::{JudgeCalibration, JudgeError, JudgeSettings, JudgedWith, Scale, ScoreRecord, store_calibration};
use crate::model::weight_policy::WeightPolicy;
use crate::progress::Progress;

/// Scores the rows, fits, and keeps the calibration beside the judge.
pub fn run(args: &CalibrateArgs, model: &Path, context: &Context, progress: &mut TerminalProgress) -> Result<(), CliError> {
    let interrupt = Interrupt::watch(&context.ranks)?;
    let keeps = args.output.is_none() && args.learning_curve.is_none();
    context.fetch(model, hub::Wanted::Description, progress)?;
    let folder = context.open(model)?;
    let stored = JudgeSettings::of_folder(&folder)?.ok_or_else(|| JudgeError::NoJudge { folder: model.display().to_string() })?;
    if keeps && !model.exists() {
        let fix = "name a folder of your own, or keep the calibration with --output";
        return Err(CliError::Usage(format!(
            "{}: a name of the hub, whose files in the cache are not changed; {fix}",
            model.display()
        )));
    }
    if keeps && folder.dir().is_file() {
        let fix = "calibrate the folder that it was exported from and export it again, or keep the calibration with --output";
        return Err(CliError::Usage(format!("{}: a GGUF file is written once; {fix}", model.display())));
    }
    let data = args.judging.labelled_rows((&args.input, Some(model)), context, progress)?;
    let judge = args.judging.open(model, &data, false, context, progress)?;
    let settings = judge.settings();
    let other = settings.differences(&JudgeSettings { date: stored.date.or(settings.date), ..stored.clone() });
    let chains = (settings.chain, settings.max_completion_length) != (stored.chain, stored.max_completion_length);
    if let (true, Some(other)) = (keeps, other.first().copied().or(chains.then_some("max_completion_length"))) {
        let fix = "leave that flag out, or keep the calibration with --output";
        return Err(CliError::Usage(format!(
            "`{other}` is not as in the judge's judge.json, for which a calibration is kept; {fix}"
        )));
    }
    let options = args.judging.judging();
    let judged_with = JudgedWith::of(settings, &options)
        .ok_or_else(|| CliError::Failed("rows that are judged in this way cannot be calibrated".into()))?;
    let interrupt = interrupt.stops_after(Sink::None.at_interrupt());
    let work = Work {
        judge: &judge,
        judging: options.clone(),
        rows: &data.examples,
        sides: [&data.examples],
        form: &Single,
        column: "judge",
        ranks: &context.ranks,
        interrupt: &interrupt,
    };
    let mut judged: Vec<ScoreRecord> = Vec::new();
    let Some(tally) = judge_rows(&work, Sink::None, progress, |[record]| judged.push(record))? else { return Ok(()) };
    let first = tally.first_error.as_deref();
    require_judged(tally.failed + data.bad.len(), tally.rows + data.bad.len(), args.judging.strict, first)?;
    tally.warn(progress);
    let rows = rows_of(args, &data, &judged, &settings.scale, progress)?;
    let Some(fitted) = fit(args, &rows, &settings.scale, progress)? else { return Ok(()) };
    if let Some(output) = &args.output {
        return file::write(output, &settings.scale, fitted.calibration, progress);
    }
    let calibration =
        JudgeCalibration { fitted: fitted.calibration, judged: judged_with, fitted_on: Some(row_hashes::of_set(&data.examples)) };
    if args.judging.weights != WeightPolicy::AS_STORED {
        progress
            .warn("--weights: the calibration holds where the judge is opened with the same flag, or exported in that format");
    }
    let written = store_calibration(&folder, &calibration)?;
    progress.note(&format!("kept in {}: score and serve add the calibrated score to every row", written.display()));
    Ok(())
}

/// The judged rows with their labels, clusters and groups.
fn rows_of(
    args: &CalibrateArgs,
    data: &Dataset,
    judged: &[ScoreRecord],
    scale: &Scale,
    progress: &mut TerminalProgress,
) -> Result<Rows, CliError> {
    let clusters = column(data, args.cluster.as_deref(), &CLUSTERS, progress)?.map(|(_, texts)| clusters_of(&texts));
    let groups = column(data, args.group.as_deref(), &[], progress)?.map(|(_, texts)| texts);
    let mut rows = Rows {
        clusters: clusters.as_ref().map(|_| Vec::new()),
        groups: args.group.clone().map(|name| (name, Vec::new())),
        ..Rows::default()
    };
    for (row, (example, record)) in data.examples.iter().zip(judged).enumerate() {
        let (Some(human), Some(judge)) = (example.record.score, record.expected) else { continue };
        if !(scale.min()..=scale.max()).contains(&human) {
            return Err(CliError::Failed(format!(
                "{}: the label {human} is outside the scale {} to {}; give the right --scale or --label-column",
                example.row.location(),
                scale.min(),
                scale.max()
            )));
        }
        rows.human.push(human);
        rows.judge.push(judge);
        rows.clusters.iter_mut().zip(&clusters).for_each(|(own, all)| own.push(all[row]));
        rows.groups.iter_mut().zip(&groups).for_each(|((_, own), all)| own.push(all[row].clone()));
    }
    Ok(rows)
}
