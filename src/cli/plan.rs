//! `jurist train --dry-run`: what a run would hold on the GPU.

use clap::Args;

use super::{CliError, Context, print};
use crate::ranks::Ranks;
use crate::train::{TrainConfig, memory};

/// Planning memory without running.
#[derive(Debug, Args)]
#[command(next_help_heading = "Memory")]
pub struct PlanArgs {
    /// Print the GPU memory that the run would need, and stop without allocating it; exit with code 1 if it does not fit. Without
    /// --train-file, rows are assumed to be the longest that the settings allow. Of the model, config.json is enough
    #[arg(long)]
    pub dry_run: bool,

    /// With --dry-run: memory that is available, such as 24GiB [default: for software adapters, the machine's free memory]
    #[arg(long, value_name = "SIZE", requires = "dry_run", value_parser = crate::data::byte_size)]
    pub memory: Option<u64>,

    /// With --dry-run: plan for the limits of discrete GPUs instead of this machine's adapter
    #[arg(long, requires = "dry_run", conflicts_with = "adapter")]
    pub any_gpu: bool,

    /// With --dry-run: print JSON instead of a table
    #[arg(long, requires = "dry_run")]
    pub json: bool,

    /// With --dry-run: plan a rank of a run on this many ranks (mpirun -n)
    #[arg(long, value_name = "N", requires = "dry_run", value_parser = clap::value_parser!(u32).range(1..))]
    pub ranks: Option<u32>,
}

/// Prints what a run of `config` would hold; an error where it does not fit.
pub(super) fn run(args: &PlanArgs, config: &TrainConfig, context: &Context) -> Result<(), CliError> {
    let (gpu, there) = context.dry_gpu(args.any_gpu)?;
    let ranks = args.ranks.map_or_else(|| context.ranks.clone(), |size| Ranks::planned(size as usize));
    let plan = memory::plan(&gpu, config, args.memory.or(there), &ranks)?;
    print(&if args.json { format!("{:#}\n", plan.to_json()) } else { plan.to_string() })?;
    plan.advice().map_or(Ok(()), |advice| Err(CliError::Failed(advice)))
}
