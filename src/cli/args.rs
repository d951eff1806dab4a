//! The command tree.

mod bench;

use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum};

pub use bench::{BenchArgs, BenchGroup, ShapeArgs};

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

    /// GPU to use, by (part of) its name or its index in `jurist doctor` [env: JURIST_ADAPTER]
    #[arg(long, global = true, value_name = "NAME|INDEX")]
    pub adapter: Option<String>,

    /// Optional kernels: plain, or with commas between them auto and names from `jurist doctor` [env: JURIST_KERNELS]
    #[arg(long, global = true, value_name = "WHICH")]
    pub kernels: Option<Kernels>,

    /// Model of an adapter, in the place of the one that adapter_config.json names: a folder or a name of the hub
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
    Data(DataArgs),
    Export(ExportArgs),
    Merge(MergeArgs),
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
    /// TOML file with settings; environment (JURIST_<SETTING>) and flags override it
    #[arg(long, short, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// One setting by its name in the config file; named flags override it
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
  With a config file, some settings changed, going on from the newest checkpoint:
    jurist train --config run.toml --set weight_decay=0.1 --max-steps 2000 --resume
  Will it fit? From a config.json alone, for any GPU of 24 GiB:
    jurist train --dry-run --model-name-or-path config.json --method real --max-length 2048 --max-completion-length 512 \\
                 --any-gpu --memory 24GiB

Ctrl-C finishes the step, writes a checkpoint and exits with code 130; a second Ctrl-C ends at once.";

/// Score rows with a trained judge
///
/// Every column of the input is kept as it is written; one object `judge` is added: expected, decoded, probs, mass.
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

    /// Where the scored rows go [default: standard output]. An earlier file there is replaced once the last row is done
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,

    /// Column that the judgement goes to; rows that have it already are refused
    #[arg(long, value_name = "COLUMN", default_value = "judge")]
    pub judge_column: String,

    /// Replace the judgement of rows that have one already
    #[arg(long)]
    pub overwrite_judge: bool,

    /// Go on behind the rows that an interrupted command left in --output
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

Ctrl-C keeps the rows that are done and exits with code 130; a second Ctrl-C ends at once. --resume writes the same bytes as a
command that was not interrupted.";

/// Measure how well a judge agrees with people
///
/// The expected and the decoded score side by side, with bootstrap intervals, and beside them what can be had without
/// reading: a constant, the length, the overlap of words.
#[derive(Debug, Args)]
#[command(after_help = EVAL_EXAMPLES)]
pub struct EvalArgs {
    /// Rows that `jurist score` wrote, or - for standard input
    #[arg(value_name = "SCORED", required_unless_present = "model", conflicts_with_all = ["model", "input"])]
    pub scored: Option<PathBuf>,

    /// Model folder, to score and measure in one go
    #[arg(long, value_name = "DIR", requires = "input")]
    pub model: Option<PathBuf>,

    /// Rows with human scores, for --model; - for standard input
    #[arg(long, value_name = "FILE", requires = "model")]
    pub input: Option<PathBuf>,

    /// Column with the judgement that `jurist score` wrote
    #[arg(long, value_name = "COLUMN", default_value = "judge", conflicts_with = "model")]
    pub judge_column: String,

    /// Keep the scored rows of --model here, as jurist score writes them
    #[arg(long, value_name = "FILE", requires = "model")]
    pub output: Option<PathBuf>,

    /// Go on behind the rows that an interrupted command left in --output
    #[arg(long, requires = "output")]
    pub resume: bool,

    /// Write a page with tables, charts and examples; an earlier file there is replaced
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,

    /// Column that says which rows belong together, for the intervals [default: prompt_id, rubric_id or cluster, where there]
    #[arg(long, value_name = "COL")]
    pub cluster: Option<String>,

    /// Column that says of what kind a row is, for the page's residuals [default: category, data_source or source, where there]
    #[arg(long, value_name = "COL")]
    pub category: Option<String>,

    /// Bootstrap resamples of the intervals
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub resamples: usize,

    /// Print JSON instead of a table
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    pub judging: JudgingArgs,
}

const EVAL_EXAMPLES: &str = "\
Examples:
  jurist eval scored.jsonl
  jurist eval --model judge --input dev.jsonl --label-column human --json";

/// Measure any judge: columns of a file (CSV, JSON Lines, a JSON array, Parquet) against people
///
/// All agreement metrics with bootstrap intervals; with --judge2 a paired comparison of two judges. What does not exist for
/// the data (a correlation with a constant) is null with the reason, never 0.
#[derive(Debug, Args)]
#[command(after_help = AGREE_EXAMPLES)]
pub struct AgreeArgs {
    /// Files with the columns: CSV, TSV, JSON Lines, a JSON array (each plain, .gz or .zst), Parquet, or - for standard input;
    /// with several, each is measured, and Holm corrects the comparison of two judges
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,

    /// Column with the human score, a number or a word of the scale; rows without one are left out and counted
    #[arg(long, value_name = "COL")]
    pub human: String,

    /// Column with the judge's score, empty where none could be read; in JSON and Parquet also a.b
    #[arg(long, value_name = "COL")]
    pub judge: String,

    /// Column of a second judge to compare with, on the rows that both scored
    #[arg(long, value_name = "COL")]
    pub judge2: Option<String>,

    /// Column that says which rows belong together (a prompt, a rubric): whole groups are resampled
    #[arg(long, value_name = "COL")]
    pub cluster: Option<String>,

    /// The score scale, for labels, kappa and histograms; bad,ok,good=0,1,2 for words, fail,pass=0,1 for true and false too
    #[arg(long, value_name = "SCALE", default_value = "1..5", allow_hyphen_values = true)]
    pub scale: String,

    /// Column with the response or its length, for the length bias
    #[arg(long, value_name = "COL")]
    pub length: Option<String>,

    /// Columns with further answers of the same judge, for self-consistency
    #[arg(long, value_name = "COL,COL", value_delimiter = ',')]
    pub repeats: Vec<String>,

    /// Score at which a decision flips, for self-consistency; the middle of the scale if not given
    #[arg(long, value_name = "SCORE", requires = "repeats", allow_negative_numbers = true)]
    pub threshold: Option<f64>,

    /// Column with the judge's probabilities: a list in the scale's order, or an object by score (judge.probs)
    #[arg(long, value_name = "COL")]
    pub probs: Option<String>,

    /// Column with the probability on score tokens (judge.mass)
    #[arg(long, value_name = "COL")]
    pub mass: Option<String>,

    /// Bootstrap resamples; of more than 10,000 rows fewer are drawn, and the output says how many
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub resamples: usize,

    /// Share of resamples inside an interval
    #[arg(long, value_name = "SHARE", default_value_t = 0.95)]
    pub level: f64,

    /// Seed of the resamples
    #[arg(long, value_name = "SEED", default_value_t = 0)]
    pub seed: u64,

    /// Leave out rows with a bad human score, and count a bad judge score as unparsed
    #[arg(long)]
    pub skip_bad: bool,

    /// What an archive may unpack to, such as 64GiB [default: 256 MiB, and more up to 100 times its packed size]
    #[arg(long, value_name = "SIZE", value_parser = crate::data::byte_size)]
    pub max_decompressed: Option<u64>,

    /// End with code 1 where the judge has no score for a row; without it, where it has none at all
    #[arg(long)]
    pub strict: bool,

    /// Print JSON instead of a table
    #[arg(long)]
    pub json: bool,
}

const AGREE_EXAMPLES: &str = "\
Examples:
  jurist agree verdicts.csv --human rating --judge gpt --cluster prompt_id
  jurist agree verdicts.jsonl --human score --judge judge.expected --judge2 other.score --json
  jurist agree verdicts.parquet --human rating --judge gpt
  jurist agree verdicts.csv --human verdict --judge gpt --scale bad,ok,good=0,1,2
  jurist agree test.jsonl ood.jsonl --human score --judge a --judge2 b      # Holm over both data sets";
/// Look at data before training on it
#[derive(Debug, Args)]
pub struct DataArgs {
    #[command(subcommand)]
    pub command: DataCommand,
}

#[derive(Debug, Subcommand)]
pub enum DataCommand {
    Check(DataCheckArgs),
}

/// What was recognised in a file, and what a model would learn from it
///
/// Its format and which column became what, one row as the model sees it with tokens and loss mask, the scores' spread,
/// lengths, rows that come twice, and rows of another file that stand in this one too. Ends with code 1 where rows are bad.
#[derive(Debug, Args)]
#[command(after_help = DATA_CHECK_EXAMPLES)]
pub struct DataCheckArgs {
    /// JSON Lines, a JSON array, CSV (each plain, .gz or .zst), Parquet, a folder of those, or - for standard input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// Rows that must not stand in FILE: a test set beside a training set
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

    /// End with code 0 in spite of bad rows
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

    /// Put the rows in this seed's order first
    #[arg(long, value_name = "N")]
    pub shuffle_seed: Option<u64>,

    /// What an archive may unpack to, such as 64GiB [default: 256 MiB, and more up to 100 times its packed size]
    #[arg(long, value_name = "SIZE", value_parser = crate::data::byte_size)]
    pub max_decompressed: Option<u64>,
}

const DATA_CHECK_EXAMPLES: &str = "\
Examples:
  jurist data check train.jsonl --against test.jsonl
  jurist data check feedback_collection.json.gz --model ./qwen3-0.6b
  jurist data check pairs.csv --template pairs.jinja --scale 0..5 --label-column similarity";

/// Write a trained judge as a bundle: for a browser, or to keep
///
/// A bundle is a folder with a manifest (scale, prompt, sizes, hashes), the tokenizer and weights in shards of at most
/// 64 MB. Every command that takes a model folder takes a bundle.
#[derive(Debug, Args)]
#[command(after_help = EXPORT_EXAMPLES)]
pub struct ExportArgs {
    /// Model folder, or another bundle
    #[arg(value_name = "CHECKPOINT")]
    pub checkpoint: PathBuf,

    /// Folder for the bundle; an earlier bundle there is replaced, unless there is anything else in the folder. Of gguf: the file
    #[arg(long, value_name = "PATH")]
    pub out: PathBuf,

    /// What is written: a bundle for web pages, or a GGUF file for llama.cpp, Ollama and LM Studio
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = ExportFormat::Bundle)]
    pub format: ExportFormat,

    /// Format of the matrices: f32 (bundles only), f16, bf16, q8 or q4 (quantised: 9 and 5 bits per weight)
    ///
    /// With q8 and q4 the rows of --examples are judged by both, and how far they agree is printed. In a GGUF file, q8 is Q8_0
    /// and q4 is Q4_0.
    #[arg(long, value_name = "FORMAT", default_value = "f16")]
    pub weights: String,

    /// Rows to try the judge on, which travel with it (the first 32)
    #[arg(long, value_name = "FILE")]
    pub examples: Option<PathBuf>,

    /// Name of the judge, for people [default: the folder's name]
    #[arg(long, value_name = "TEXT")]
    pub name: Option<String>,
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
  jurist export judge-bundle --out judge-f32 --weights f32
  jurist score --model judge-bundle --input answers.jsonl";

/// Serve the page that judges in a browser
///
/// Static files with the headers that the page wants, to this machine alone. Any other static host serves them as well.
#[derive(Debug, Args)]
#[command(after_help = SERVE_EXAMPLES)]
pub struct ServeArgs {
    /// Folder of the page (in the repository: web, with its engine built by `make web`)
    #[arg(long, value_name = "DIR", default_value = "web")]
    pub dir: PathBuf,

    /// A bundle to serve at /bundle/
    #[arg(long, value_name = "DIR")]
    pub bundle: Option<PathBuf>,

    /// Port; 0 takes a free one
    #[arg(long, value_name = "N", default_value_t = 8080)]
    pub port: u16,

    /// Address to listen on
    #[arg(long, value_name = "IP", default_value = "127.0.0.1")]
    pub host: std::net::IpAddr,

    /// Host name to answer under, besides localhost and the address; with its port where a proxy has another. Can be given again
    #[arg(long, value_name = "NAME")]
    pub allow_host: Vec<super::hosts::Host>,
}

const SERVE_EXAMPLES: &str = "\
Examples:
  jurist serve
  jurist serve --bundle judge-bundle --port 9000
  jurist serve --host 0.0.0.0 --allow-host judge.example";

/// How rows are judged, for `score` and `eval`. What is left out is taken from the model's own `judge.json`, if it has
/// one.
#[derive(Debug, Args)]
pub struct JudgingArgs {
    #[command(flatten)]
    pub judge: JudgeFlags,

    /// How matrices are held on the GPU: auto (as they are stored), f32, bf16, f16, or in fewer bits q8 or q4
    #[arg(long, value_name = "FORMAT", default_value = "auto", value_parser = weight_policy(), help_heading = "Judge")]
    pub weights: WeightPolicy,

    /// Expected score over the scale's tokens only, or over the full vocabulary
    #[arg(long, value_enum, default_value_t = Expectation::Renormalised, help_heading = "Judge")]
    pub expectation: Expectation,

    /// Chains of thought a row, their distributions averaged
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024),
          help_heading = "Judge")]
    pub chains: u32,

    /// Temperature of the chains; 0 takes the likeliest token [default: 0 with one chain, 1 with several]
    #[arg(long, value_name = "X", value_parser = temperature, help_heading = "Judge")]
    pub temperature: Option<f32>,

    /// Seed of the chains
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = "Judge")]
    pub seed: u64,

    /// Read the rows' own chains (column `chain`, `feedback`, `rationale` or `completion`) instead of writing some: for
    /// comparing two judges, or a browser with the command line, on the same words
    #[arg(long, conflicts_with_all = ["chains", "temperature", "max_completion_length"], help_heading = "Judge")]
    pub given_chains: bool,

    /// Most tokens of a chain; with 0 the judge writes none [default: as trained]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=1 << 20), help_heading = "Judge")]
    pub max_completion_length: Option<u32>,

    /// Column with the human score
    #[arg(long, value_name = "COLUMN", help_heading = "Rows")]
    pub label_column: Option<String>,

    /// Skip and count malformed rows instead of stopping at the first
    #[arg(long, help_heading = "Rows")]
    pub skip_bad: bool,

    /// End with code 1 where any row could not be judged; without it, where none could
    #[arg(long, help_heading = "Rows")]
    pub strict: bool,

    #[command(flatten)]
    pub part: PartArgs,

    /// Longest row in tokens; longer ones are counted and skipped
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=1 << 20), help_heading = "Rows")]
    pub max_length: Option<u32>,

    /// Chains that are written together
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
    /// Compare with PyTorch: a folder with `checkpoint/` and `reference.safetensors`
    #[arg(long, value_name = "DIR")]
    pub against: Option<PathBuf>,

    /// List adapters and their limits only, and what to install where OpenGL on the CPU is all there is (`advice: …`)
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

    /// A shorter run
    #[arg(long)]
    pub quick: bool,

    /// Seed of data, weights and order
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
}

const DEMO_EXAMPLES: &str = "\
Example:
  jurist demo --quick && open demo/report.html";

/// Train and measure methods side by side, as a protocol says
///
/// Each training is a cell, written as JSON below the results' folder; finished cells are never done again. Tables and a
/// page are made from what is there.
#[derive(Debug, Args)]
#[command(after_help = COMPARE_EXAMPLES)]
pub struct CompareArgs {
    /// The protocol: methods, tasks, seeds
    #[arg(long, short, value_name = "FILE")]
    pub config: PathBuf,

    /// Folder for cells, tables and page [default: the protocol's]
    #[arg(long, value_name = "DIR")]
    pub results: Option<PathBuf>,

    /// Folder for models, which can be made again
    #[arg(long, value_name = "DIR", default_value = "target/compare")]
    pub work: PathBuf,

    /// Cells made at the same time, each by a process of its own
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=64).map(usize::from))]
    pub jobs: usize,

    /// Make this one only
    #[arg(long, value_name = "TASK/METHOD/seed-N")]
    pub cell: Option<String>,

    /// End when standard input does
    #[arg(long, hide = true, requires = "cell")]
    pub with_parent: bool,

    /// Make nothing, only the tables of what is there
    #[arg(long)]
    pub tables: bool,
}

const COMPARE_EXAMPLES: &str = "\
Examples:
  jurist compare --config results/protocol.toml --jobs 2
  jurist compare --config results/protocol.toml --cell H/real/seed-1
  jurist compare --config results/protocol.toml --tables";
