//! Adds calibrated scores to rows, by a calibration that was kept in a file.

use std::path::Path;

use super::file::{self, CalibrationFile};
use super::refuse_judging;
use crate::cli::outcome::require_judged;
use crate::cli::score_columns::score_at;
use crate::cli::{CalibrateArgs, CliError, TerminalProgress, print_rows};
use crate::data::{DataError, Labels};
use crate::progress::Progress;
use crate::words::count;

/// Adds the calibrated score to every row.
pub fn run(args: &CalibrateArgs, file: &Path, progress: &mut TerminalProgress) -> Result<(), CliError> {
    refuse_judging(&args.judging)?;
    if args.judging.judge.scale.is_some() {
        return Err(CliError::Usage("--scale: the calibration has the scale that it was fitted on".into()));
    }
    let column = args.judge.as_deref().unwrap_or_default();
    let CalibrationFile { scale, fitted, .. } = file::read(file)?;
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
