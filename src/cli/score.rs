//! `jurist score`: every row comes out as it went in, with one object `judge` added.

use super::outcome::require_judged;
use super::places::Places;
use super::scoring::{Single, Sink, Work, judge_rows};
use super::{CliError, Context, Interrupt, ScoreArgs};
use crate::data::{Dataset, Labels};
use crate::hub;
use crate::progress::Progress;

/// Scores the rows of a file.
pub fn run(args: &ScoreArgs, context: &Context) -> Result<(), CliError> {
    let mut progress = context.progress();
    let interrupt = Interrupt::watch(&context.ranks)?;
    Places::default()
        .reads(Some(&args.input), "--input")
        .reads_judge(Some(&args.model), &args.judging, context)
        .grows(args.output.as_deref(), "--output")
        .check()?;
    context.fetch(&args.model, hub::Wanted::Description, &mut progress)?;
    // Opened before an hour of scoring, so that a problem with it is reported first.
    let sink = match &args.output {
        None => Sink::Printed,
        Some(path) => Sink::open(path, args.resume, &context.ranks)?,
    };
    let rows = args.judging.rows((&args.input, Some(&args.model)), Labels::Optional, context, &mut progress)?;
    if !args.overwrite_judge {
        refuse_column(&rows, &args.judge_column)?;
    }
    let judge = args.judging.open(&args.model, &rows, false, context, &mut progress)?;
    judge.settings().calibration_advice(&args.judging.judging()).into_iter().for_each(|advice| progress.warn(advice));
    let interrupt = interrupt.stops_after(sink.at_interrupt());
    let work = Work {
        judge: &judge,
        judging: args.judging.judging(),
        rows: &rows.examples,
        sides: [&rows.examples],
        form: &Single,
        column: &args.judge_column,
        ranks: &context.ranks,
        interrupt: &interrupt,
    };
    let mut ungrouped = 0;
    let tally = judge_rows(&work, sink, &mut progress, |[judged]| {
        ungrouped += usize::from(judged.calibrated.is_some_and(|calibrated| calibrated.group.is_none()));
    })?;
    let Some(tally) = tally else { return Ok(()) };
    let calibration = judge.settings().calibration.as_ref();
    calibration.and_then(|own| own.fitted.ungrouped(ungrouped)).into_iter().for_each(|line| progress.warn(&line));
    let first = tally.first_error.as_deref();
    require_judged(tally.failed + rows.bad.len(), tally.rows + rows.bad.len(), args.judging.strict, first)?;
    tally.warn(&mut progress);
    Ok(())
}

/// Refuses rows that have the column to which judgements go.
fn refuse_column(rows: &Dataset, column: &str) -> Result<(), CliError> {
    match rows.examples.iter().find(|example| example.row.fields.contains_key(column)) {
        None => Ok(()),
        Some(example) => {
            let fix = "name another with --judge-column, or replace it with --overwrite-judge";
            Err(example.row.fault(column, "the row has this column already", fix).into())
        }
    }
}
