//! Flags of `jurist data split`.

use std::path::PathBuf;

use clap::Args;

/// Split rows into files for training, development and testing, so that rows which belong together are in one file
///
/// Rows of one cluster stay together: with --cluster those with the same text in that column, else those with the same
/// instruction or prompt. Rows that read the same, ignoring case, punctuation and spaces, stay together in any case. Equal
/// rows, shares and seed give equal files.
#[derive(Debug, Args)]
#[command(after_help = SPLIT_EXAMPLES)]
pub struct DataSplitArgs {
    /// JSON Lines, a JSON array, CSV (each plain, .gz or .zst), Parquet, a folder of those, or - for standard input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// Folder for the files, NAME.jsonl for each part; files that are there already are refused
    #[arg(long, value_name = "DIR")]
    pub output_dir: PathBuf,

    /// Names of the parts, with their shares of the rows
    #[arg(long, value_name = "NAME=SHARE,...", default_value = "train=0.8,dev=0.1,test=0.1")]
    pub parts: String,

    /// Column of the cluster of a row [default: prompt_id, rubric_id or cluster, if present, else the instruction or prompt]
    #[arg(long, value_name = "COLUMN")]
    pub cluster: Option<String>,

    /// Seed of the clusters' order
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,

    /// Skip and count malformed rows instead of stopping at the first
    #[arg(long)]
    pub skip_bad: bool,

    /// Most bytes that a compressed file may unpack to, such as 64GiB [default: 256 MiB, or 100 times its packed size]
    #[arg(long, value_name = "SIZE", value_parser = crate::data::byte_size)]
    pub max_decompressed: Option<u64>,

    /// Print JSON instead of a table
    #[arg(long)]
    pub json: bool,
}

const SPLIT_EXAMPLES: &str = "\
Examples:
  jurist data split rows.jsonl --output-dir parts --cluster prompt_id
  jurist data split feedback.json.gz --output-dir parts --parts train=0.9,dev=0.1 --seed 7";
