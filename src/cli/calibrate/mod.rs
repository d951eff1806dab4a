//! `jurist calibrate`: from a judge's scores to people's, with intervals.
//!
//! | what is done | file |
//! |---|---|
//! | fits on a judge's scores of labelled rows, and keeps the calibration beside the judge | [`judge`] |
//! | fits on two columns, whoever wrote them | [`columns`] |
//! | fits nothing: adds the calibrated score to rows | [`apply`] |
//! | the file of a calibration of columns | [`file`] |

mod apply;
mod columns;
mod file;
mod judge;

use serde_json::Value;

use super::places::Places;
use super::{CalibrateArgs, CliError, Context, JudgingArgs, TerminalProgress, print, print_json};
use crate::data::name_of;
use crate::eval::recalibration::{FitOptions, Fitted, Labelled, LearningCurve};
use crate::judge::Scale;
use crate::model::weight_policy::WeightPolicy;
use crate::progress::Progress;
use crate::words::count;

/// Labelled rows.
#[derive(Default)]
struct Rows {
    human: Vec<f64>,
    judge: Vec<f64>,
    clusters: Option<Vec<usize>>,
    groups: Option<(String, Vec<String>)>,
}

/// Calibrates a judge or columns, draws their learning curve, or applies a calibration.
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
        crate::files::refuse_foreign(output, file::is_calibration)?;
    }
    match (&args.apply, &args.model) {
        (Some(file), _) => apply::run(args, file, &mut progress),
        (None, Some(model)) => judge::run(args, model, context, &mut progress),
        (None, None) => columns::run(args, &mut progress),
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

/// Fits a calibration and prints it; with `--learning-curve`, draws that, and there is none.
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
    if let Some(sizes) = &args.learning_curve {
        let sizes: Vec<usize> = sizes.iter().map(|size| *size as usize).collect();
        let found = LearningCurve::new(&labelled, &values, &options, &sizes, args.draws as usize)?;
        for labels in sizes.iter().filter(|labels| found.points.iter().all(|point| point.labels != **labels)) {
            let rows = count(rows.human.len(), "labelled row");
            progress.warn(&format!("--learning-curve {labels}: left out, since there are only {rows}"));
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
