//! The command tree.

mod bench;
mod calibrate;
mod estimate;
mod gates;
mod pair;
#[cfg(feature = "serve")]
mod serve;
mod split;

use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum};

pub use bench::{BenchArgs, BenchGroup, ShapeArgs};
pub use calibrate::CalibrateArgs;
pub use estimate::EstimateArgs;
pub use gates::GateArgs;
pub use pair::PairArgs;
#[cfg(feature = "serve")]
pub use serve::ServeArgs;
pub use split::DataSplitArgs;

use super::judging::JudgeFlags;
use super::merge::MergeArgs;
use super::plan::PlanArgs;
use super::settings::SettingFlags;
use crate::gpu::Kernels;
use crate::model::weight_policy::WeightPolicy;

/// Train LLM judges on any GPU that wgpu reaches, and measure how well they agree with people.
#[derive(Debug, Parser)]
#[command(name = "jurist", version, propagate_version = true, after_help = EXAMPLES, max_term_width = 120)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,

    /// GPU to use: its name, a part of it, or its index in `jurist doctor`; with several ranks a list with commas, of which the ranks
    /// of a machine take turns [env: JURIST_ADAPTER]
    #[arg(long, global = true, value_name = "NAME|INDEX")]
    pub adapter: Option<String>,

    /// Optional kernels: plain (none), or a list with commas of auto and names from `jurist doctor` [env: JURIST_KERNELS]
    #[arg(long, global = true, value_name = "WHICH")]
    pub kernels: Option<Kernels>,

    /// Base model of an adapter, instead of the one in adapter_config.json: a folder or a name on the Hugging Face hub
    #[arg(long, global = true, value_name = "DIR")]
    pub base: Option<PathBuf>,

    /// Show warnings and errors only
    #[arg(long, short, global = true)]
    pub quiet: bool,
}

const EXAMPLES: &str = "\
Examples:
  jurist doctor
  jurist train --model-name-or-path ./qwen3-0.6b --train-file train.jsonl --output-dir judge --learning-rate 1e-5
  jurist train --config run.toml --resume
  jurist score --model judge --input answers.jsonl > scored.jsonl
  jurist eval scored.jsonl";

#[derive(Debug, Subcommand)]
pub enum Command {
    Train(TrainArgs),
    Score(ScoreArgs),
    Eval(EvalArgs),
    Agree(AgreeArgs),
    Calibrate(Box<CalibrateArgs>),
    Estimate(EstimateArgs),
    Pair(PairArgs),
    Data(DataArgs),
    Export(ExportArgs),
    Merge(MergeArgs),
    #[cfg(feature = "serve")]
    Serve(ServeArgs),
    Doctor(DoctorArgs),
    Demo(DemoArgs),
    Bench(BenchArgs),
    Compare(CompareArgs),
}

/// Train a judge
#[derive(Debug, Args)]
#[command(after_help = TRAIN_EXAMPLES)]
pub struct TrainArgs {
    /// TOML file with settings; environment variables (JURIST_<SETTING>) and flags override it
    #[arg(long, short, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// A setting by its name in the config file; its own flag overrides it. Can be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,

    /// Print the resolved config as TOML and stop
    #[arg(long)]
    pub print_config: bool,

    #[command(flatten)]
    pub plan: PlanArgs,

    #[command(flatten)]
    pub settings: SettingFlags,
}

const TRAIN_EXAMPLES: &str = "\
Examples:
  From a Hugging Face folder:
    jurist train --model-name-or-path ./qwen3-0.6b --train-file train.jsonl --eval-file dev.jsonl --output-dir judge
  From scratch, with a tokenizer trained on the data:
    jurist train --init config.json --vocab-size 2048 --train-file train.jsonl --output-dir judge --learning-rate 3e-3
  With a config file and some settings changed, continuing from the newest checkpoint:
    jurist train --config run.toml --set weight_decay=0.1 --max-steps 2000 --resume
  Will it fit? From a config.json alone, for any GPU of 24 GiB:
    jurist train --dry-run --model-name-or-path config.json --method real --max-length 2048 --max-completion-length 512 \\
                 --any-gpu --memory 24GiB

Ctrl-C finishes the step, writes a checkpoint and exits with code 130. A second Ctrl-C exits at once.";

/// Score rows with a trained judge
///
/// The output has every column of the input, unchanged, and one more: the object `judge` with expected, decoded, probs and mass.
#[derive(Debug, Args)]
#[command(after_help = SCORE_EXAMPLES)]
pub struct ScoreArgs {
    /// Model folder
    #[arg(long, value_name = "DIR")]
    pub model: PathBuf,

    /// Rows to score: JSON Lines, a JSON array, CSV (each plain, .gz or .zst), Parquet, a folder of those, or - for standard
    /// input
    #[arg(long, value_name = "FILE")]
    pub input: PathBuf,

    /// File for the scored rows [default: standard output]. An earlier file is replaced when the last row is done
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,

    /// Column for the judgement. A row that has this column already is an error
    #[arg(long, value_name = "COLUMN", default_value = "judge")]
    pub judge_column: String,

    /// Replace the judgement of rows that have one already
    #[arg(long)]
    pub overwrite_judge: bool,

    /// Continue after the rows that an interrupted command left in --output
    #[arg(long, requires = "output")]
    pub resume: bool,

    #[command(flatten)]
    pub judging: JudgingArgs,
}

const SCORE_EXAMPLES: &str = "\
Examples:
  jurist score --model judge --input answers.jsonl > scored.jsonl
  jurist score --model judge --input answers.jsonl --output scored.jsonl --expectation full
  jurist score --model judge --input scored.jsonl --judge-column second > twice.jsonl
  zcat answers.csv.gz | jurist score --model judge --input -
  jurist score --model judge --input answers.jsonl --output scored.jsonl --resume

Ctrl-C keeps the rows that are done and exits with code 130. A second Ctrl-C exits at once. --resume writes the same bytes as a
command that was not interrupted.";

/// Measure how well a judge agrees with people
///
/// Compares the expected and the decoded score with human scores, with bootstrap intervals, and with baselines that do not read:
/// a constant, the length, the overlap of words.
#[derive(Debug, Args)]
#[command(after_help = EVAL_EXAMPLES)]
pub struct EvalArgs {
    /// Rows that `jurist score` wrote, or - for standard input
    #[arg(value_name = "SCORED", required_unless_present = "model", conflicts_with_all = ["model", "input"])]
    pub scored: Option<PathBuf>,

    /// Model folder, to score and measure in one command
    #[arg(long, value_name = "DIR", requires = "input")]
    pub model: Option<PathBuf>,

    /// Rows with human scores, for --model; - for standard input
    #[arg(long, value_name = "FILE", requires = "model")]
    pub input: Option<PathBuf>,

    /// Column with the judgement that `jurist score` wrote
    #[arg(long, value_name = "COLUMN", default_value = "judge", conflicts_with = "model")]
    pub judge_column: String,

    /// File for the rows that --model scores, as jurist score writes them
    #[arg(long, value_name = "FILE", requires = "model", conflicts_with = "scored")]
    pub output: Option<PathBuf>,

    /// Continue after the rows that an interrupted command left in --output
    #[arg(long, requires = "output")]
    pub resume: bool,

    /// Write an HTML page with tables, charts and examples; an earlier page is replaced
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,

    /// Column of the group of a row; intervals resample whole groups [default: prompt_id, rubric_id or cluster, if present]
    #[arg(long, value_name = "COLUMN")]
    pub cluster: Option<String>,

    /// Column of the category of a row, for the residuals of the page [default: category, data_source or source, if present]
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

const EVAL_EXAMPLES: &str = "\
Examples:
  jurist eval scored.jsonl
  jurist eval --model judge --input dev.jsonl --label-column human --json
  jurist eval --model judge --input anchor.jsonl --record today.json --require 'pearson>=0.8,ci_low(spearman)>=0.7'
  jurist eval --model judge --input anchor.jsonl --against today.json --junit gate.xml";

/// Measure any judge: compare columns of a file (CSV, JSON Lines, a JSON array, Parquet) with human scores
///
/// All agreement metrics with bootstrap intervals; with --judge2 also a paired comparison of two judges. A metric that is not
/// defined for the data, such as a correlation with a constant, is null with a reason, never 0.
#[derive(Debug, Args)]
#[command(after_help = AGREE_EXAMPLES)]
pub struct AgreeArgs {
    /// Files with the columns: CSV, TSV, JSON Lines, a JSON array (each plain, .gz or .zst), Parquet, or - for standard input.
    /// Several files are measured one by one, and the comparison of two judges is corrected with Holm's method
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,

    /// Column with the human score, a number or a word of the scale; rows without one are left out and counted
    #[arg(long, value_name = "COLUMN")]
    pub human: String,

    /// Column with the judge's score, empty where it has none. In JSON and Parquet, a.b is field b of column a
    #[arg(long, value_name = "COLUMN")]
    pub judge: String,

    /// Column of a second judge to compare with, on the rows that both scored
    #[arg(long, value_name = "COLUMN")]
    pub judge2: Option<String>,

    /// Column of the group of a row (a prompt, a rubric); intervals resample whole groups
    #[arg(long, value_name = "COLUMN")]
    pub cluster: Option<String>,

    /// Score scale: 1..5, or words, worst first, as in bad,ok,good or bad,ok,good=0,1,3; fail,pass also reads true and false
    #[arg(long, value_name = "SCALE", default_value = "1..5", allow_hyphen_values = true)]
    pub scale: String,

    /// Column with the response or its length, for the length bias
    #[arg(long, value_name = "COLUMN")]
    pub length: Option<String>,

    /// Columns with more scores of the same judge, for self-consistency
    #[arg(long, value_name = "COLUMN,COLUMN", value_delimiter = ',')]
    pub repeats: Vec<String>,

    /// Score at which a decision changes, for self-consistency [default: the middle of the scale]
    #[arg(long, value_name = "SCORE", requires = "repeats", allow_negative_numbers = true)]
    pub threshold: Option<f64>,

    /// Column with the judge's probabilities, such as judge.probs: a list in the scale's order, an object by score, or, on a scale
    /// of two, the probability of the better one
    #[arg(long, value_name = "COLUMN")]
    pub probs: Option<String>,

    /// Column with the total probability of the score tokens, such as judge.mass
    #[arg(long, value_name = "COLUMN")]
    pub mass: Option<String>,

    /// Bootstrap resamples. With more than 10,000 rows fewer are drawn, and the output says how many
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub resamples: usize,

    /// Share of resamples inside an interval
    #[arg(long, value_name = "SHARE", default_value_t = 0.95)]
    pub level: f64,

    /// Seed of the resamples
    #[arg(long, value_name = "SEED", default_value_t = 0)]
    pub seed: u64,

    /// Leave out rows with an unusable human score, and count an unusable judge score as missing
    #[arg(long)]
    pub skip_bad: bool,

    /// Most bytes that a compressed file may unpack to, such as 64GiB [default: 256 MiB, or 100 times its packed size]
    #[arg(long, value_name = "SIZE", value_parser = crate::data::byte_size)]
    pub max_decompressed: Option<u64>,

    /// Exit with code 1 if the judge has no score for any one row; otherwise only if it has no score at all
    #[arg(long)]
    pub strict: bool,

    /// Print JSON instead of a table
    #[arg(long)]
    pub json: bool,

    /// Column with the name of each row, by which --against tells that the rows are the same; a name that is there twice is refused
    /// [default: id, if present, for telling of names that are there twice]
    #[arg(long, value_name = "COLUMN", help_heading = "Gates")]
    pub id: Option<String>,

    #[command(flatten)]
    pub gates: GateArgs,
}

const AGREE_EXAMPLES: &str = "\
Examples:
  jurist agree verdicts.csv --human rating --judge gpt --cluster prompt_id
  jurist agree verdicts.jsonl --human score --judge judge.expected --judge2 other.score --json
  jurist agree verdicts.parquet --human rating --judge gpt
  jurist agree verdicts.csv --human verdict --judge gpt --scale bad,ok,good
  jurist agree verdicts.csv --human verdict --judge gpt --scale fail,pass --require 'recall(fail)>=0.9,kappa_unweighted>=0.6'
  jurist agree test.jsonl ood.jsonl --human score --judge a --judge2 b      # Holm over both data sets";

/// Check data before training on it, or split it
#[derive(Debug, Args)]
pub struct DataArgs {
    #[command(subcommand)]
    pub command: DataCommand,
}

#[derive(Debug, Subcommand)]
pub enum DataCommand {
    Check(DataCheckArgs),
    Split(DataSplitArgs),
}

/// Show what jurist reads in a file, and what a model would learn from it
///
/// Prints the format, the meaning of each column, one row as the model sees it with tokens and loss mask, the distribution of the
/// scores, lengths, repeated rows, and rows that are also in another file. Exits with code 1 if a row is bad or a label is
/// outside the scale.
#[derive(Debug, Args)]
#[command(after_help = DATA_CHECK_EXAMPLES)]
pub struct DataCheckArgs {
    /// JSON Lines, a JSON array, CSV (each plain, .gz or .zst), Parquet, a folder of those, or - for standard input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// File with rows that FILE should not contain, such as the test set of a training set
    #[arg(long, value_name = "OTHER")]
    pub against: Option<PathBuf>,

    /// Model folder: for its tokenizer, and the scale, phrase and template of its judge.json
    #[arg(long, value_name = "DIR", conflicts_with = "tokenizer")]
    pub model: Option<PathBuf>,

    /// tokenizer.json, or a folder with one
    #[arg(long, value_name = "PATH")]
    pub tokenizer: Option<PathBuf>,

    /// Print JSON instead of text
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    pub judge: JudgeFlags,

    /// Column of the label
    #[arg(long, value_name = "COLUMN", help_heading = "Rows")]
    pub label_column: Option<String>,

    /// Column of the chain of thought
    #[arg(long, value_name = "COLUMN", help_heading = "Rows")]
    pub chain_column: Option<String>,

    /// Exit with code 0 in spite of bad rows and labels outside the scale
    #[arg(long, help_heading = "Rows")]
    pub skip_bad: bool,

    #[command(flatten)]
    pub part: PartArgs,
}

/// A part of a file's rows.
#[derive(Debug, Args)]
#[command(next_help_heading = "Rows")]
pub struct PartArgs {
    /// At most this many rows
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: Option<u32>,

    /// Shuffle the rows with this seed before --limit
    #[arg(long, value_name = "N")]
    pub shuffle_seed: Option<u64>,

    /// Most bytes that a compressed file may unpack to, such as 64GiB [default: 256 MiB, or 100 times its packed size]
    #[arg(long, value_name = "SIZE", value_parser = crate::data::byte_size)]
    pub max_decompressed: Option<u64>,
}

const DATA_CHECK_EXAMPLES: &str = "\
Examples:
  jurist data check train.jsonl --against test.jsonl
  jurist data check feedback_collection.json.gz --model ./qwen3-0.6b
  jurist data check pairs.csv --template pairs.jinja --scale 0..5 --label-column similarity";

/// Write a trained judge as a bundle or a GGUF file
///
/// A bundle is a folder with a manifest (scale, prompt, sizes, hashes), the tokenizer and weights in shards of at most
/// 64 MB. Every command that takes a model folder takes a bundle.
#[derive(Debug, Args)]
#[command(after_help = EXPORT_EXAMPLES)]
pub struct ExportArgs {
    /// Model folder, or another bundle
    #[arg(value_name = "CHECKPOINT")]
    pub checkpoint: PathBuf,

    /// Folder for the bundle, or the GGUF file. An earlier bundle is replaced, unless the folder holds anything else
    #[arg(long, value_name = "PATH")]
    pub out: PathBuf,

    /// What to write: a bundle for web pages, or a GGUF file for llama.cpp, Ollama and LM Studio
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = ExportFormat::Bundle)]
    pub format: ExportFormat,

    /// Format of the matrices: f32 (bundles only), f16, bf16, q8 or q4 (quantised: 9 and 5 bits per weight)
    ///
    /// With q8 and q4, both judges score the rows of --examples, and their agreement is printed. In a GGUF file, q8 is Q8_0
    /// and q4 is Q4_0; q4_1 has a minimum per block besides.
    #[arg(long, value_name = "FORMAT", default_value = "f16")]
    pub weights: String,

    /// Rows to try the judge on; the first 32 become part of the bundle
    #[arg(long, value_name = "FILE")]
    pub examples: Option<PathBuf>,

    /// Rows of the judge's task, the first 256: q4 rounds the weights most precisely that matter most on them (bundles only)
    #[arg(long, value_name = "FILE")]
    pub calibrate: Option<PathBuf>,

    /// Display name of the judge [default: the folder's name]
    #[arg(long, value_name = "TEXT")]
    pub name: Option<String>,

    /// What a page says of the judge before it is loaded: what it is good for, and what not
    #[arg(long, value_name = "TEXT")]
    pub description: Option<String>,
}

/// What `jurist export` writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ExportFormat {
    Bundle,
    Gguf,
}

const EXPORT_EXAMPLES: &str = "\
Examples:
  jurist export judge --out judge.gguf --format gguf --weights q8
  jurist export judge --out judge-bundle --examples dev.jsonl
  jurist export judge --out judge-q8 --weights q8 --examples dev.jsonl
  jurist export judge --out judge-q4 --weights q4 --calibrate train.jsonl --examples dev.jsonl
  jurist export judge-bundle --out judge-f32 --weights f32
  jurist score --model judge-bundle --input answers.jsonl";

/// How rows are judged, for `score` and `eval`. What is left out is taken from the model's own `judge.json`, if it has
/// one.
#[derive(Debug, Args)]
pub struct JudgingArgs {
    #[command(flatten)]
    pub judge: JudgeFlags,

    /// Format of the matrices on the GPU: auto (as they are stored), f32, bf16, f16, or quantised to q8 or q4
    #[arg(long, value_name = "FORMAT", default_value = "auto", value_parser = weight_policy(), help_heading = "Judge")]
    pub weights: WeightPolicy,

    /// Probabilities for the expected score: renormalised over the scale's tokens, or of the full vocabulary
    #[arg(long, value_enum, default_value_t = Expectation::Renormalised, help_heading = "Judge")]
    pub expectation: Expectation,

    /// Chains of thought per row; their score distributions are averaged
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024),
          help_heading = "Judge")]
    pub chains: u32,

    /// Sampling temperature of the chains; 0 takes the most likely token [default: 0 with one chain, 1 with several]
    #[arg(long, value_name = "X", value_parser = temperature, help_heading = "Judge")]
    pub temperature: Option<f32>,

    /// Seed of the sampled chains
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = "Judge")]
    pub seed: u64,

    /// Read the chains in the rows (column `chain`, `feedback`, `rationale` or `completion`) instead of writing new ones, to
    /// compare two judges, or a browser with the command line, on the same text
    #[arg(long, conflicts_with_all = ["chains", "temperature", "max_completion_length"], help_heading = "Judge")]
    pub given_chains: bool,

    /// Most tokens of a chain; with 0 the judge writes no chains [default: as trained]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=1 << 20), help_heading = "Judge")]
    pub max_completion_length: Option<u32>,

    /// Column with the human score
    #[arg(long, value_name = "COLUMN", help_heading = "Rows")]
    pub label_column: Option<String>,

    /// Skip and count malformed rows instead of stopping at the first
    #[arg(long, help_heading = "Rows")]
    pub skip_bad: bool,

    /// Exit with code 1 if any row could not be judged; otherwise only if no row could
    #[arg(long, help_heading = "Rows")]
    pub strict: bool,

    #[command(flatten)]
    pub part: PartArgs,

    /// Most tokens of a row; longer rows are counted and skipped
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=1 << 20), help_heading = "Rows")]
    pub max_length: Option<u32>,

    /// Chains that are sampled together
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1 << 16),
          help_heading = "Rows")]
    pub batch_size: u32,
}

fn weight_policy() -> impl TypedValueParser<Value = WeightPolicy> {
    PossibleValuesParser::new(WeightPolicy::WORDS).map(|word| word.parse().unwrap_or_default())
}

fn temperature(text: &str) -> Result<f32, String> {
    let expected = || format!("`{text}` is no temperature; expected a number from 0 to 100");
    text.parse().ok().filter(|t| (0.0..=100.0).contains(t)).ok_or_else(expected)
}

/// Over which tokens the expected score is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Expectation {
    /// The scale's tokens, renormalised
    Renormalised,
    /// The full vocabulary: mass outside the scale counts as 0
    Full,
}

/// List adapters and check every kernel against the reference
#[derive(Debug, Args)]
#[command(after_help = DOCTOR_EXAMPLES)]
pub struct DoctorArgs {
    /// Compare with values of PyTorch: a folder with `checkpoint/` and `reference.safetensors`
    #[arg(long, value_name = "DIR")]
    pub against: Option<PathBuf>,

    /// Only list adapters and their limits, with advice on what to install if only OpenGL on the CPU is found
    #[arg(long, conflicts_with = "against")]
    pub list: bool,
}

const DOCTOR_EXAMPLES: &str = "\
Examples:
  jurist doctor --list
  jurist doctor --adapter llvmpipe
  jurist doctor --against golden/qwen3";

/// Train a small judge on a synthetic task, with a report
#[derive(Debug, Args)]
#[command(after_help = DEMO_EXAMPLES)]
pub struct DemoArgs {
    /// Folder for data, models and report.html
    #[arg(long, value_name = "DIR", default_value = "demo")]
    pub output_dir: PathBuf,

    /// A shorter run, which shows the path and not the result
    #[arg(long)]
    pub quick: bool,

    /// Seed of the data, the weights and the row order
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
}

const DEMO_EXAMPLES: &str = "\
Example:
  jurist demo --quick && open demo/report.html";

/// Train and compare methods, as a protocol says
///
/// Each training run is a cell, whose result is a JSON file in the results folder. Finished cells are never run again. Tables and
/// a page are made from the finished cells.
#[derive(Debug, Args)]
#[command(after_help = COMPARE_EXAMPLES)]
pub struct CompareArgs {
    /// The protocol: methods, tasks, seeds
    #[arg(long, short, value_name = "FILE")]
    pub config: PathBuf,

    /// Folder for cells, tables and page [default: the folder of the protocol]
    #[arg(long, value_name = "DIR")]
    pub results: Option<PathBuf>,

    /// Folder for trained models
    #[arg(long, value_name = "DIR", default_value = "target/compare")]
    pub work: PathBuf,

    /// Cells that run at the same time, each in its own process
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=64).map(usize::from))]
    pub jobs: usize,

    /// Run only this cell
    #[arg(long, value_name = "TASK/METHOD/seed-N")]
    pub cell: Option<String>,

    /// Exit when standard input ends
    #[arg(long, hide = true, requires = "cell")]
    pub with_parent: bool,

    /// Run no cells; make the tables and the page of the finished ones
    #[arg(long)]
    pub tables: bool,

    /// Run no cells; print what each unfinished one costs, in tokens and minutes, at the protocol's [rates]
    #[arg(long, conflicts_with_all = ["tables", "cell"])]
    pub estimate: bool,
}

const COMPARE_EXAMPLES: &str = "\
Examples:
  jurist compare --config results/protocol.toml --jobs 2
  jurist compare --config results/protocol.toml --cell H/real/seed-1
  jurist compare --config results/protocol.toml --tables";
