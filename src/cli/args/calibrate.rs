//! Flags of `jurist calibrate`.

use std::path::PathBuf;

use clap::Args;

use super::JudgingArgs;
use crate::eval::recalibration::MapKind;

/// The numbers of labels of a learning curve, or of a simulation.
pub(super) const LABELS: &str = "10,30,100,300";

/// Fit a map from a judge's score to people's, with intervals of a known coverage
///
/// Some of the labelled rows choose and fit the map (the score as it is, a line, or isotonic regression, by cross-validation).
/// The others set an interval (split conformal) in which people's score of a new row lies with the probability of --level, for
/// any judge. A judge's calibration is kept in its judge.json: score, serve, the page and exports then give the calibrated score
/// beside the raw one. That of columns is written to a file.
#[derive(Debug, Args)]
#[command(after_help = CALIBRATE_EXAMPLES)]
pub struct CalibrateArgs {
    /// Model folder or bundle to calibrate; the rows of --input are scored with it
    #[arg(long, value_name = "DIR", conflicts_with_all = ["human", "judge_column", "apply"])]
    pub model: Option<PathBuf>,

    /// Rows with human scores (with --apply, any rows): JSON Lines, a JSON array, CSV (each plain, .gz or .zst), Parquet, or - for
    /// standard input
    #[arg(long, value_name = "FILE")]
    pub input: PathBuf,

    /// Column with the human score, a number or a word of the scale; rows without one are left out and counted
    #[arg(long, value_name = "COLUMN", requires = "judge_column", required_unless_present_any = ["model", "apply"])]
    pub human: Option<String>,

    /// Column with the judge's score. In JSON and Parquet, a.b is field b of column a
    #[arg(id = "judge_column", long = "judge", value_name = "COLUMN")]
    pub judge: Option<String>,

    /// File for the calibration [default with --model: its judge.json]; with --apply, file for the rows [default: standard output]
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,

    /// Fit nothing: add the calibrated score of column --judge to every row, by a file that calibrate wrote
    #[arg(long, value_name = "FILE", requires = "judge_column", conflicts_with_all = ["human", "cluster", "group", "learning_curve", "map"])]
    pub apply: Option<PathBuf>,

    /// Column that --apply adds
    #[arg(long, value_name = "COLUMN", default_value = "calibrated", requires = "apply", conflicts_with_all = ["human", "model"])]
    pub column: String,

    /// Probability with which an interval contains people's score
    #[arg(long, value_name = "SHARE", default_value_t = 0.9)]
    pub level: f64,

    /// Column of the group of a row (a prompt, a rubric): whole groups fit the map or set the interval, and count as one [default
    /// with --model: prompt_id, rubric_id or cluster, if present]
    #[arg(long, value_name = "COLUMN")]
    pub cluster: Option<String>,

    /// Column of the kind of a row (a task, a language): intervals keep their level in each kind
    #[arg(long, value_name = "COLUMN")]
    pub group: Option<String>,

    /// Column with the name of each row; a name that is there twice is refused [default: id, if present, and told]
    #[arg(long, value_name = "COLUMN", conflicts_with_all = ["model", "apply"])]
    pub id: Option<String>,

    /// Fit this map, whatever cross-validation finds
    #[arg(long, value_name = "MAP", value_parser = map_kind)]
    pub map: Option<MapKind>,

    /// Share of the labelled rows (or clusters) that sets the interval and fits nothing
    #[arg(long, value_name = "SHARE", default_value_t = 0.5)]
    pub interval_share: f64,

    /// Parts of the cross-validation
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(2..=1000))]
    pub folds: u16,

    /// Seed of the split
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub split_seed: u64,

    /// How much more labels would bring: keep nothing, calibrate on so many of the labels, many times, and measure on the other rows
    #[arg(long, value_name = "N,N", value_delimiter = ',', num_args = 0.., default_missing_values = LABELS.split(','),
          conflicts_with = "output")]
    pub learning_curve: Option<Vec<u32>>,

    /// Draws of each number of labels
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=1 << 20),
          requires = "learning_curve", conflicts_with_all = ["output", "apply"])]
    pub draws: u32,

    /// SVG image of the learning curve; an earlier file is replaced
    #[arg(long, value_name = "FILE", requires = "learning_curve", conflicts_with_all = ["output", "apply"])]
    pub plot: Option<PathBuf>,

    /// Print JSON instead of tables
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    pub judging: JudgingArgs,
}

fn map_kind(text: &str) -> Result<MapKind, String> {
    text.parse().map_err(|e: crate::words::UnknownWord| e.to_string())
}

const CALIBRATE_EXAMPLES: &str = "\
Examples:
  jurist calibrate --model judge --input labelled.jsonl
  jurist calibrate --model judge --input labelled.jsonl --level 0.8 --group task --cluster prompt_id
  jurist calibrate --input verdicts.csv --human rating --judge gpt --output calibration.json
  jurist calibrate --apply calibration.json --input more.csv --judge gpt > calibrated.jsonl
  jurist calibrate --input verdicts.csv --human rating --judge gpt --learning-curve 10,30,100,300 --plot labels.svg";
