//! `jurist demo`.

use super::{CliError, Context, DemoArgs, Interrupt, STEP, print};
use crate::experiments::demo::{DemoOptions, DemoOutcome, run as demo};
use crate::selftest::Work;
use crate::system::SystemClock;
use crate::train::run::RunContext;

/// Runs the demo and prints its table.
pub fn run(args: &DemoArgs, context: &Context) -> Result<(), CliError> {
    let mut progress = context.progress();
    let gpu = context.gpu(Work::Training, &mut progress)?;
    let interrupt = Interrupt::watch(&context.ranks)?.stops_after(STEP);
    let options = DemoOptions { output_dir: args.output_dir.clone(), quick: args.quick, seed: args.seed };
    let ctx = RunContext {
        gpu: &gpu,
        clock: &SystemClock::start(),
        progress: &mut progress,
        ranks: &context.ranks,
        interrupted: &|| interrupt.requested(),
    };
    match pollster::block_on(demo(&options, ctx))? {
        DemoOutcome::Interrupted(checkpoint) => {
            let again = "jurist demo with the same flags continues from";
            Err(CliError::Stopped(format!("{again} {}", checkpoint.display())))
        }
        DemoOutcome::Finished(result) => print(&format!(
            "{}\n{:.0} s in all\njudge   {}\nreport  {}\n",
            result.table.to_text(),
            result.seconds,
            result.judge.display(),
            result.report.display()
        )),
    }
}
