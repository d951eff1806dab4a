//! Flags of gates, which `eval`, `agree` and `pair` share.

use std::path::PathBuf;

use clap::Args;

/// Requirements on figures, and a comparison with an earlier run.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Gates")]
pub struct GateArgs {
    /// Exit with code 3 unless the figures meet these requirements, separated by commas: a figure, its lower end (ci_low) or its
    /// upper end (ci_high), and a bound, as in pearson>=0.8,ci_low(spearman)>=0.7. A figure that is undefined meets none. Can be
    /// repeated
    #[arg(long, value_name = "LIST")]
    pub require: Vec<String>,

    /// Compare with an earlier run of the judge on the same rows, which --record wrote. Exit with code 3 if a paired interval
    /// excludes no change, or if the runs cannot be compared
    #[arg(long, value_name = "FILE")]
    pub against: Option<PathBuf>,

    /// Write the score of every row to this file, for --against; an earlier one is replaced
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,

    /// Write the outcome of --require and --against as JUnit XML; an earlier file is replaced
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,

    /// Write the figures and the outcome as Markdown. An earlier file is replaced, but appended to if it is $GITHUB_STEP_SUMMARY
    #[arg(long, value_name = "FILE", value_parser = summary_file)]
    pub summary: Option<PathBuf>,
}

fn summary_file(text: &str) -> Result<PathBuf, String> {
    match text {
        "" => Err("no file is named; outside of GitHub's workflows $GITHUB_STEP_SUMMARY is empty".into()),
        text => Ok(text.into()),
    }
}
