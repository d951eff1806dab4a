//! Flags of `jurist estimate`.

use std::path::PathBuf;

use clap::Args;

use super::calibrate::LABELS;

/// Estimate people's mean score of many rows from few labels and a judge's scores
///
/// Prediction-powered inference: the judge's mean on the rows without a human score is corrected by its error on those with one.
/// The interval is valid for any judge, and narrower than that of the labels alone if the judge is any good. The labelled rows
/// must have been drawn at random. With --by or --versus, the difference of two systems.
#[derive(Debug, Args)]
#[command(after_help = ESTIMATE_EXAMPLES)]
pub struct EstimateArgs {
    /// Files with the rows of one system, read as one: CSV, TSV, JSON Lines, a JSON array (each plain, .gz or .zst), Parquet, or -
    /// for standard input
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,

    /// Column with the human score, a number or a word of the scale, empty in the rows that people did not score
    #[arg(long, value_name = "COLUMN")]
    pub human: String,

    /// Column with the judge's score, in every row; rows without one are left out and counted
    #[arg(long, value_name = "COLUMN")]
    pub judge: String,

    /// Column with two values, one for each system: estimate each, and their difference
    #[arg(long, value_name = "COLUMN", conflicts_with = "versus")]
    pub by: Option<String>,

    /// File with the rows of a second system, for the difference; can be repeated
    #[arg(long, value_name = "FILE")]
    pub versus: Vec<PathBuf>,

    /// Column of the group of a row (a prompt): intervals allow for rows of one group being alike, and two systems with the same
    /// groups are compared group by group
    #[arg(long, value_name = "COLUMN")]
    pub cluster: Option<String>,

    /// Column with the name of each row; a name that is there twice is refused [default: id, if present, and told]
    #[arg(long, value_name = "COLUMN")]
    pub id: Option<String>,

    /// Column with the weight of a row, where rows stand for more or fewer others. Labelled and unlabelled rows are weighed apart
    #[arg(long, value_name = "COLUMN", conflicts_with = "propensity")]
    pub weight: Option<String>,

    /// Column with the chance that a row had of being labelled, between 0 and 1, where rows were labelled more or less often on
    /// purpose. Labelled rows weigh 1 / chance, the others 1 / (1 - chance)
    #[arg(long, value_name = "COLUMN")]
    pub propensity: Option<String>,

    /// Score scale of people: 1..5, or words with their values, as in bad,ok,good=0,1,2
    #[arg(long, value_name = "SCALE", default_value = "1..5", allow_hyphen_values = true)]
    pub scale: String,

    /// Weight of the judge, from 0 (labels alone) to 1 (PPI) [default: the one with the smallest variance]
    #[arg(long, value_name = "X")]
    pub judge_weight: Option<f64>,

    /// Probability with which an interval contains the mean
    #[arg(long, value_name = "SHARE", default_value_t = 0.95)]
    pub level: f64,

    /// Normal intervals with the plain variance, as ppi-python computes them, instead of Student's t
    #[arg(long)]
    pub normal: bool,

    /// On rows that are all labelled: hide all but so many labels, many times, and count how often intervals contain the mean
    #[arg(long, value_name = "N,N", value_delimiter = ',', num_args = 0.., default_missing_values = LABELS.split(','),
          conflicts_with_all = ["by", "versus", "weight", "propensity"])]
    pub simulate: Option<Vec<u32>>,

    /// Draws of each number of labels
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1 << 20), requires = "simulate")]
    pub draws: u32,

    /// Seed of the simulation
    #[arg(long, value_name = "N", default_value_t = 0, requires = "simulate")]
    pub seed: u64,

    /// SVG image of the simulation; an earlier file is replaced
    #[arg(long, value_name = "FILE", requires = "simulate")]
    pub plot: Option<PathBuf>,

    /// Leave out rows with an unusable score, and count them
    #[arg(long)]
    pub skip_bad: bool,

    /// Most bytes that a compressed file may unpack to, such as 64GiB [default: 256 MiB, or 100 times its packed size]
    #[arg(long, value_name = "SIZE", value_parser = crate::data::byte_size)]
    pub max_decompressed: Option<u64>,

    /// Exit with code 1 if the judge has no score for any one row
    #[arg(long)]
    pub strict: bool,

    /// Print JSON instead of tables
    #[arg(long)]
    pub json: bool,
}

const ESTIMATE_EXAMPLES: &str = "\
Examples:
  jurist estimate scored.jsonl --human score --judge judge.expected
  jurist estimate labelled.csv rest.csv --human rating --judge gpt --cluster prompt_id
  jurist estimate both.csv --human rating --judge gpt --by system --cluster prompt_id
  jurist estimate old.jsonl --versus new.jsonl --human score --judge judge.expected --cluster prompt_id
  jurist estimate labelled.csv --human rating --judge gpt --simulate 30,100 --plot coverage.svg";
