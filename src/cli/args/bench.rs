//! The arguments of `jurist bench`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// Measure the adapter's peak rates, and how close kernels, a training step and a rollout come to them
#[derive(Debug, Args)]
#[command(after_help = BENCH_EXAMPLES)]
pub struct BenchArgs {
    /// Measure only these groups, and the ceilings
    #[arg(long, value_enum, value_name = "GROUP", value_delimiter = ',')]
    pub only: Vec<BenchGroup>,

    /// Fewer and shorter samples
    #[arg(long)]
    pub quick: bool,

    /// Use only features that every WebGPU device has, as a browser does
    #[arg(long)]
    pub basic: bool,

    /// Samples of each measurement; the median is reported [default: 7, with --quick 3]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub repeat: Option<u16>,

    /// Print JSON instead of a table
    #[arg(long)]
    pub json: bool,

    /// JSON of an earlier run or of a program in benches/peers; adds a column with its time divided by ours. Can be repeated
    #[arg(long, value_name = "FILE")]
    pub baseline: Vec<PathBuf>,

    /// Time every kernel of a training step and of a rollout step
    #[arg(long)]
    pub profile: bool,

    /// Write the profile as a trace for ui.perfetto.dev
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,

    /// Measure how time and memory grow with tokens, batch, hidden size and samples
    #[arg(long)]
    pub growth: bool,

    /// Leave out a size of --growth that might take longer than this
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..))]
    pub patience: u32,

    /// Write everything, with --profile and --growth, to this Markdown page, and the plots to img/ beside it
    #[arg(long, value_name = "FILE", conflicts_with = "json")]
    pub report: Option<PathBuf>,

    #[command(flatten)]
    pub shape: ShapeArgs,
}

/// Sizes of the measured model and work.
#[derive(Debug, Args)]
#[command(next_help_heading = "Shape")]
pub struct ShapeArgs {
    /// Take hidden size, layers, heads, MLP width and vocabulary of this model: a folder, a GGUF file or a name on the hub. Its
    /// weights are not read; the measured model is a Llama of these sizes with random weights
    #[arg(long, value_name = "DIR|FILE", conflicts_with_all = ["hidden", "layers", "heads", "kv_heads", "head_dim", "ffn", "vocab"])]
    pub model: Option<PathBuf>,
    /// Width of the hidden states
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = size)]
    pub hidden: usize,
    /// Number of layers
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = size)]
    pub layers: usize,
    /// Number of query heads
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = size)]
    pub heads: usize,
    /// Number of key/value heads
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = size)]
    pub kv_heads: usize,
    /// Width of a head
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = size)]
    pub head_dim: usize,
    /// Width of SwiGLU
    #[arg(long, value_name = "N", default_value_t = 768, value_parser = size)]
    pub ffn: usize,
    /// Size of the vocabulary
    #[arg(long, value_name = "N", default_value_t = 4096, value_parser = size)]
    pub vocab: usize,
    /// Sequences of a training step
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = size)]
    pub batch: usize,
    /// Tokens of each sequence
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = size)]
    pub tokens: usize,
    /// Tokens of a rollout's prompt
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = size)]
    pub prompt: usize,
    /// Chains of a rollout
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = size)]
    pub samples: usize,
    /// Tokens that each chain samples
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = size)]
    pub new_tokens: usize,
    /// Prompts that are scored
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = size)]
    pub rows: usize,
    /// Tokens of each scored prompt, and of each row of the LoRA step
    #[arg(long, value_name = "N", default_value_t = 98, value_parser = size)]
    pub row_tokens: usize,
    /// Rows of a LoRA step
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = size)]
    pub lora_rows: usize,
    /// Sizes of the square matrix products; the largest is also a side of the narrow ones
    #[arg(long, value_name = "N", value_delimiter = ',', default_values_t = [512, 1024], value_parser = size)]
    pub square: Vec<usize>,
}

fn size(text: &str) -> Result<usize, String> {
    let expected = || format!("`{text}` is no size; expected a whole number from 1 to 1048576");
    text.parse().ok().filter(|n| (1..=1 << 20).contains(n)).ok_or_else(expected)
}

/// What `--only` takes.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum BenchGroup {
    Ceilings,
    Matmul,
    Attention,
    Norm,
    Swiglu,
    Loss,
    Step,
    Rollout,
    Decode,
    Score,
    Lora,
}

const BENCH_EXAMPLES: &str = "\
Examples:
  jurist bench
  jurist bench --only matmul,step --json > before.json    and later    jurist bench --only matmul,step --baseline before.json
  jurist bench --only step --profile --trace step.json    then open step.json in ui.perfetto.dev
  jurist bench --hidden 1024 --layers 28 --heads 16 --kv-heads 8 --head-dim 128 --ffn 3072 --vocab 151936
  jurist bench --model SmolLM2-135M-Instruct.Q4_1.gguf --only score,lora --profile
  jurist bench --report docs/performance.md";
