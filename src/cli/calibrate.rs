//! `jurist calibrate`: from a judge's scores to people's, with intervals; for a judge, or for columns that any judge wrote.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::columns::{CLUSTERS, column};
use super::outcome::require_judged;
use super::places::Places;
use super::score_columns::{ScoreColumns, Wanted, score_at};
use super::scoring::{Single, Sink, Work, judge_rows};
use super::{
    CalibrateArgs, CliError, Context, Interrupt, JudgingArgs, TerminalProgress, print, print_json, print_rows, row_hashes,
};
use crate::data::{DataError, Dataset, Labels, name_of};
use crate::eval::evaluation::clusters_of;
use crate::eval::recalibration::{FitOptions, Fitted, Labelled, Recalibration, Rehearsal};
use crate::files::FileError;
use crate::hub;
use crate::judge::{JudgeCalibration, JudgeError, JudgeSettings, JudgedWith, Scale, ScoreRecord, store_calibration};
use crate::model::weight_policy::WeightPolicy;
use crate::progress::Progress;
use crate::words::count;

/// Version of the file.
const FORMAT: u32 = 1;

/// The file of a calibration of columns.
#[derive(Debug, Serialize, Deserialize)]
struct CalibrationFile {
    /// Which says that it is one.
    jurist_calibration: u32,
    scale: Scale,
    #[serde(flatten)]
    fitted: Recalibration,
}

/// Labelled rows.
#[derive(Default)]
struct Rows {
    human: Vec<f64>,
    judge: Vec<f64>,
    clusters: Option<Vec<usize>>,
    groups: Option<(String, Vec<String>)>,
}

/// Calibrates a judge or columns, rehearses that, or applies a calibration.
pub fn run(args: &CalibrateArgs, context: &Context) -> Result<(), CliError> {
    let mut progress = context.progress();
    Places::default()
        .reads(Some(&args.input), "--input")
        .reads(args.apply.as_deref(), "--apply")
        .reads_judge(args.model.as_deref(), &args.judging, context)
        .writes(args.output.as_deref(), "--output")
        .writes(args.plot.as_deref(), "--plot")
        .check()?;
    if let Some(output) = &args.output
        && args.apply.is_none()
    {
        crate::files::refuse_foreign(output, |text| read_calibration(text).is_ok())?;
    }
    match (&args.apply, &args.model) {
        (Some(file), _) => apply(args, file, &mut progress),
        (None, Some(model)) => of_judge(args, model, context, &mut progress),
        (None, None) => of_columns(args, &mut progress),
    }
}

/// Scores the rows, fits, and keeps the calibration beside the judge.
fn of_judge(args: &CalibrateArgs, model: &Path, context: &Context, progress: &mut TerminalProgress) -> Result<(), CliError> {
    let interrupt = Interrupt::watch(&context.ranks)?;
    let keeps = args.output.is_none() && args.rehearse.is_none();
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
    let mut data = args.judging.rows((&args.input, Some(model)), Labels::Optional, context, progress)?;
    let all = data.examples.len();
    data.examples.retain(|example| example.record.score.is_some());
    note_unlabelled(args, all - data.examples.len(), progress);
    if data.examples.is_empty() {
        let fix = "--label-column names another column of people's scores";
        return Err(CliError::Failed(format!("{}: no row has people's score; {fix}", name_of(&args.input))));
    }
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
        return keep(output, &settings.scale, fitted.calibration, progress);
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

/// Fits on columns.
fn of_columns(args: &CalibrateArgs, progress: &mut TerminalProgress) -> Result<(), CliError> {
    let (Some(human), Some(judge)) = (&args.human, &args.judge) else {
        return Err(CliError::Usage("give --model, or --human and --judge".into()));
    };
    refuse_judging(&args.judging)?;
    let scale: Scale = args.judging.judge.scale.as_deref().unwrap_or(crate::judge::DEFAULT_SCALE).parse()?;
    let wanted = Wanted {
        human,
        judge,
        cluster: args.cluster.as_deref(),
        group: args.group.as_deref(),
        weight: None,
        propensity: None,
        scale: &scale,
        skip_bad: args.judging.skip_bad,
        max_decompressed: args.judging.part.max_decompressed,
    };
    let mut all = ScoreColumns::default();
    wanted.read(&args.input, &mut all)?;
    all.check(&args.input, args.judging.strict, progress)?;
    let columns = all.filtered(|row| all.human[row].is_some());
    note_unlabelled(args, all.judge.len() - columns.judge.len(), progress);
    let rows = Rows {
        human: columns.human.iter().flatten().copied().collect(),
        clusters: args.cluster.as_ref().map(|_| columns.clusters.clone()),
        groups: args.group.clone().map(|name| (name, columns.groups.clone())),
        judge: columns.judge,
    };
    let Some(fitted) = fit(args, &rows, &scale, progress)? else { return Ok(()) };
    match &args.output {
        Some(output) => keep(output, &scale, fitted.calibration, progress),
        None => {
            progress.note("--output FILE keeps the calibration, and --apply FILE adds calibrated scores to rows");
            Ok(())
        }
    }
}

fn note_unlabelled(args: &CalibrateArgs, rows: usize, progress: &mut TerminalProgress) {
    if rows > 0 {
        progress.note(&format!("{}: {} without people's score left out", name_of(&args.input), count(rows, "row")));
    }
}

/// Flags of a judge do nothing to columns.
fn refuse_judging(judging: &JudgingArgs) -> Result<(), CliError> {
    let given = [
        (judging.judge.phrase.is_some(), "--phrase"),
        (judging.judge.template.is_some(), "--template"),
        (judging.judge.chat.is_some(), "--chat"),
        (judging.judge.date.is_some(), "--date"),
        (judging.weights != WeightPolicy::AS_STORED, "--weights"),
        (judging.expectation != super::Expectation::Renormalised, "--expectation"),
        (judging.chains != 1, "--chains"),
        (judging.temperature.is_some(), "--temperature"),
        (judging.seed != 0, "--seed"),
        (judging.given_chains, "--given-chains"),
        (judging.max_completion_length.is_some(), "--max-completion-length"),
        (judging.label_column.is_some(), "--label-column"),
        (judging.max_length.is_some(), "--max-length"),
        (judging.batch_size != 64, "--batch-size"),
        (judging.part.limit.is_some(), "--limit"),
        (judging.part.shuffle_seed.is_some(), "--shuffle-seed"),
    ];
    match given.iter().find(|(given, _)| *given) {
        Some((_, flag)) => Err(CliError::Usage(format!("{flag} is for --model: columns are taken as they are"))),
        None => Ok(()),
    }
}

/// Fits a calibration and prints it; or rehearses that, and there is none.
fn fit(args: &CalibrateArgs, rows: &Rows, scale: &Scale, progress: &mut TerminalProgress) -> Result<Option<Fitted>, CliError> {
    let labelled = Labelled {
        human: &rows.human,
        judge: &rows.judge,
        clusters: rows.clusters.as_deref(),
        groups: rows.groups.as_ref().map(|(name, groups)| (name.as_str(), &groups[..])),
    };
    let options = FitOptions {
        level: args.level,
        interval_share: args.interval_share,
        map: args.map,
        folds: args.folds.into(),
        seed: args.split_seed,
    };
    let values = scale.ascending();
    let show = |json: Value, text: String| match args.json {
        true => print_json(&json),
        false => print(&text),
    };
    if let Some(sizes) = &args.rehearse {
        let sizes: Vec<usize> = sizes.iter().map(|size| *size as usize).collect();
        let found = Rehearsal::new(&labelled, &values, &options, &sizes, args.draws as usize)?;
        for labels in sizes.iter().filter(|labels| found.points.iter().all(|point| point.labels != **labels)) {
            let rows = count(rows.human.len(), "labelled row");
            progress.warn(&format!("--rehearse {labels}: left out, since there are only {rows}"));
        }
        show(found.to_json(), found.to_text())?;
        if let Some(plot) = &args.plot {
            let title = format!("{}: what more labels bring", name_of(&args.input));
            crate::files::write(plot, found.plot(&title).as_bytes())?;
        }
        return Ok(None);
    }
    let fitted = Fitted::new(&labelled, &values, &options)?;
    let unit = if rows.clusters.is_some() { "cluster" } else { "row" };
    fitted.warnings(unit).iter().for_each(|warning| progress.warn(warning));
    let rows = count(rows.human.len(), "labelled row");
    let clusters = if unit == "cluster" { format!(" in {}", count(fitted.clusters, unit)) } else { String::new() };
    let head = format!("{}: {rows}{clusters}\n\n", name_of(&args.input));
    show(fitted.to_json(unit), head + &fitted.to_text(unit))?;
    Ok(Some(fitted))
}

/// Writes a calibration to a file of its own.
fn keep(output: &Path, scale: &Scale, fitted: Recalibration, progress: &mut TerminalProgress) -> Result<(), CliError> {
    let file = CalibrationFile { jurist_calibration: FORMAT, scale: scale.clone(), fitted };
    let text = serde_json::to_string_pretty(&file).unwrap_or_default() + "\n";
    crate::files::write_own(output, text.as_bytes(), |text| read_calibration(text).is_ok())?;
    progress.note(&format!("kept in {}: --apply adds its calibrated scores to rows", output.display()));
    Ok(())
}

/// The calibration in the text of a file.
fn read_calibration(text: &str) -> Result<CalibrationFile, String> {
    let file: CalibrationFile = serde_json::from_str(text).map_err(|e| e.to_string())?;
    if file.jurist_calibration != FORMAT {
        return Err(format!("it has format {}, and this version of jurist reads {FORMAT}", file.jurist_calibration));
    }
    file.fitted.fault().map_or(Ok(()), |fault| Err(fault.to_string()))?;
    Ok(file)
}

/// Adds the calibrated score to every row.
fn apply(args: &CalibrateArgs, file: &Path, progress: &mut TerminalProgress) -> Result<(), CliError> {
    refuse_judging(&args.judging)?;
    if args.judging.judge.scale.is_some() {
        return Err(CliError::Usage("--scale: the calibration has the scale that it was fitted on".into()));
    }
    let column = args.judge.as_deref().unwrap_or_default();
    let text = std::fs::read_to_string(file).map_err(|e| FileError::io("read", file, e))?;
    let broken = |found| CliError::Failed(format!("{}: it is no calibration of jurist calibrate: {found}", file.display()));
    let CalibrationFile { scale, fitted, .. } = read_calibration(&text).map_err(broken)?;
    let data = args.judging.rows_with_words(&args.input, Labels::Optional, (scale.label_words(), false), progress)?;
    let values = scale.ascending();
    let (mut lines, mut unjudged, mut ungrouped) = (String::new(), 0, 0);
    if let (Some(first), false) = (data.examples.first(), data.examples.iter().any(|example| example.row.has(column))) {
        return Err(CliError::Failed(format!("{}: no column `{column}`; it has {}", data.file, first.row.names())));
    }
    for example in &data.examples {
        if example.row.fields.contains_key(&args.column) {
            let fix = "name another with --column";
            return Err(example.row.fault(&args.column, "the row has this column already", fix).into());
        }
        let group = fitted.groups.as_ref().map_or(column, |groups| &groups.column);
        let (score, group) = example.row.cells(&[column, group], |cells| {
            let group = fitted.groups.as_ref().and_then(|_| cells.text(1).map(String::from));
            Ok::<_, DataError>((score_at(cells, 0, &scale)?, group))
        })?;
        unjudged += usize::from(score.is_none());
        ungrouped += usize::from(score.is_some() && group.is_none());
        let found = score.map(|score| fitted.apply(score, group.as_deref(), &values));
        lines += &(example.row.with_column(&args.column, &serde_json::to_value(found).unwrap_or_default()) + "\n");
    }
    fitted.ungrouped(ungrouped).into_iter().for_each(|line| progress.warn(&line));
    require_judged(unjudged, data.examples.len(), args.judging.strict, None)?;
    if unjudged > 0 {
        progress.warn(&format!("{} without a score in `{column}` got none", count(unjudged, "row")));
    }
    match &args.output {
        Some(output) => Ok(crate::files::write(output, lines.as_bytes())?),
        None => print_rows(&lines),
    }
}
