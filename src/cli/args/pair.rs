//! Flags of `jurist pair`.

use std::path::PathBuf;

use clap::Args;

use super::{GateArgs, JudgingArgs};

/// Judge which of two responses is better, and measure that against people's preferences
///
/// Reads rows with response_a and response_b (and preference: A, B or tie), rows of RewardBench (prompt, chosen, rejected) and of
/// Preference Collection (orig_response_A, orig_response_B, orig_preference). A judge of single responses scores both, and the
/// probability that one is better follows from the two distributions. A judge whose template reads both judges both orders, and
/// their mean decides.
#[derive(Debug, Args)]
#[command(after_help = PAIR_EXAMPLES)]
pub struct PairArgs {
    /// Model folder
    #[arg(long, value_name = "DIR")]
    pub model: PathBuf,

    /// Rows with two responses: JSON Lines, a JSON array, CSV (each plain, .gz or .zst), Parquet, a folder of those, or - for
    /// standard input
    #[arg(long, value_name = "FILE")]
    pub input: PathBuf,

    /// File for the rows with the object `pair`: winner, probabilities, and both judgements. An earlier file is replaced when the
    /// last row is done
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,

    /// Continue after the rows that an interrupted command left in --output
    #[arg(long, requires = "output")]
    pub resume: bool,

    /// Write an HTML page with figures and charts; an earlier page is replaced
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,

    /// Column for the judgement. A row that has this column already is an error
    #[arg(long, value_name = "COLUMN", default_value = "pair")]
    pub pair_column: String,

    /// Column of the group of a row; intervals resample whole groups [default: prompt_id, rubric_id or cluster, if present]
    #[arg(long, value_name = "COLUMN")]
    pub cluster: Option<String>,

    /// Column of the category of a row, for an accuracy of each [default: subset, category, data_source or source, if present]
    #[arg(long, value_name = "COLUMN")]
    pub category: Option<String>,

    /// Bootstrap resamples of the intervals
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub resamples: usize,

    /// Print JSON instead of a table
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    pub gates: GateArgs,

    #[command(flatten)]
    pub judging: JudgingArgs,
}

const PAIR_EXAMPLES: &str = "\
Examples:
  jurist pair --model judge --input pairs.jsonl --output judged.jsonl
  jurist pair --model judge --input reward_bench.parquet --template judge --category subset
  jurist pair --model judge --input pairs.jsonl --require 'ci_low(accuracy)>=0.6' --report pairs.html
  jurist train --template pair --model-name-or-path ./qwen3-0.6b --train-file preferences.jsonl --output-dir pair-judge";
