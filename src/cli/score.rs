//! `jurist score`: every row comes out as it went in, with one object `judge` added.

use serde_json::Value;

use super::outcome::require_judged;
use super::scoring::{ROWS, Sink, Work, judge_rows};
use super::{CliError, Context, Interrupt, ScoreArgs};
use crate::data::{Example, Labels};
use crate::judge::Judgement;
use crate::train::log::Progress;

/// The column of the judgement.
pub const COLUMN: &str = "judge";

/// Scores the rows of a file.
pub fn run(args: &ScoreArgs, context: &Context) -> Result<(), CliError> {
    let mut progress = context.progress();
    let interrupt = Interrupt::watch()?;
    if let Some(output) = &args.output {
        args.judging.refuse_inputs(output, &args.input, &args.model)?;
    }
    // Opened first: that it cannot be written is not to be told after an hour of judging.
    let sink = match &args.output {
        None => Sink::Printed,
        Some(path) => Sink::open(path, args.resume)?,
    };
    let rows = args.judging.rows(&args.input, Labels::Optional, &mut progress)?;
    let judge = args.judging.open(&args.model, context, &mut progress)?;
    let interrupt = interrupt.stops_after(ROWS);
    let work = Work {
        judge: &judge,
        judging: args.judging.judging(),
        rows: &rows.examples,
        column: COLUMN,
        line: &scored_line,
        interrupt: &interrupt,
    };
    let tally = judge_rows(&work, sink, &mut progress, |_| {})?;
    let first = tally.first_error.as_deref();
    if let Some(error) = first {
        progress.warn(&format!("{} of {} rows could not be judged, the first: {error}", tally.failed, tally.rows));
    }
    require_judged(tally.failed + rows.bad.len(), tally.rows + rows.bad.len(), args.judging.strict, first)
}

/// A row with its judgement.
pub fn scored_line(row: &Example, judgement: &Judgement) -> String {
    let mut fields = row.row.fields.clone();
    fields.insert(COLUMN.into(), serde_json::to_value(judgement).unwrap_or_default());
    Value::Object(fields).to_string()
}
