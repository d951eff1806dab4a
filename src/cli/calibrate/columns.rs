//! Calibrates on columns of a file.

use super::{Rows, file, fit, refuse_judging};
use crate::cli::judging::note_unlabelled;
use crate::cli::score_columns::{ScoreColumns, Wanted};
use crate::cli::{CalibrateArgs, CliError, TerminalProgress};
use crate::data::name_of;
use crate::judge::{DEFAULT_SCALE, Scale};
use crate::progress::Progress;

/// Fits on columns.
pub fn run(args: &CalibrateArgs, progress: &mut TerminalProgress) -> Result<(), CliError> {
    let (Some(human), Some(judge)) = (&args.human, &args.judge) else {
        return Err(CliError::Usage("give --model, or --human and --judge".into()));
    };
    refuse_judging(&args.judging)?;
    let scale: Scale = args.judging.judge.scale.as_deref().unwrap_or(DEFAULT_SCALE).parse()?;
    let wanted = Wanted {
        human,
        judge,
        cluster: args.cluster.as_deref(),
        group: args.group.as_deref(),
        weight: None,
        id: args.id.as_deref(),
        propensity: None,
        scale: &scale,
        skip_bad: args.judging.skip_bad,
        max_decompressed: args.judging.part.max_decompressed,
    };
    let mut all = ScoreColumns::default();
    wanted.read(&args.input, &mut all)?;
    all.check(&args.input, args.judging.strict, progress)?;
    let columns = all.filtered(|row| all.human[row].is_some());
    note_unlabelled(&name_of(&args.input), all.judge.len() - columns.judge.len(), progress);
    let rows = Rows {
        human: columns.human.iter().flatten().copied().collect(),
        clusters: args.cluster.as_ref().map(|_| columns.clusters.clone()),
        groups: args.group.clone().map(|name| (name, columns.groups.clone())),
        judge: columns.judge,
    };
    let Some(fitted) = fit(args, &rows, &scale, progress)? else { return Ok(()) };
    match &args.output {
        Some(output) => file::write(output, &scale, fitted.calibration, progress),
        None => {
            progress.note("--output FILE keeps the calibration, and --apply FILE adds calibrated scores to rows");
            Ok(())
        }
    }
}
