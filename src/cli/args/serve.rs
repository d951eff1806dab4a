//! The flags of `jurist serve`.

use std::path::PathBuf;

use clap::Args;

use super::super::JudgeFlags;
use super::{Expectation, temperature, weight_policy};
use crate::model::weight_policy::WeightPolicy;
use crate::serve::Host;

/// Serve a judge over the OpenAI-compatible API, and the page that judges in a browser
///
/// With --model: POST /v1/judge, /v1/pair, /v1/chat/completions and /v1/completions, GET /v1/models, /health and /metrics. The
/// page is served at / if it is there. Without --model the page alone is served; any other static host works too.
#[derive(Debug, Args)]
#[command(after_help = SERVE_EXAMPLES)]
pub struct ServeArgs {
    /// Judge to serve: a model folder, a bundle, a GGUF file, or a name on the Hugging Face hub
    #[arg(long, value_name = "DIR|FILE")]
    pub model: Option<PathBuf>,

    /// Name of the model for clients [default: the folder's name]
    #[arg(long, value_name = "NAME", requires = "model")]
    pub name: Option<String>,

    #[command(flatten)]
    pub judge: JudgeFlags,

    /// Format of the matrices on the GPU: auto (as they are stored), f32, bf16, f16, or quantised to q8 or q4
    #[arg(long, value_name = "FORMAT", default_value = "auto", value_parser = weight_policy(), help_heading = "Judge")]
    pub weights: WeightPolicy,

    /// Probabilities for the expected score: renormalised over the scale's tokens, or of the full vocabulary
    #[arg(long, value_enum, default_value_t = Expectation::Renormalised, help_heading = "Judge")]
    pub expectation: Expectation,

    /// Chains of thought an answer, unless a request asks for another number; their score distributions are averaged
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024),
          help_heading = "Judge")]
    pub chains: u32,

    /// Sampling temperature, unless a request has one [default: 0 with one chain, 1 with several]
    #[arg(long, value_name = "X", value_parser = temperature, help_heading = "Judge")]
    pub temperature: Option<f32>,

    /// Most tokens of a chain; with 0 the judge writes no chains [default: as trained]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=1 << 20), help_heading = "Judge")]
    pub max_completion_length: Option<u32>,

    /// Expected score from which a yes-or-no answer is yes [default: the middle of the scale]
    #[arg(long, value_name = "SCORE", allow_negative_numbers = true, help_heading = "Judge")]
    pub threshold: Option<f64>,

    /// Rows that may wait; further requests get 429
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=1 << 20),
          help_heading = "Load")]
    pub max_queue: u32,

    /// Chains that are judged together
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1 << 16),
          help_heading = "Load")]
    pub max_batch: u32,

    /// Most memory of the cache of keys and values, such as 4GiB: of chains that run and of recent prompts, whose beginnings
    /// (a rubric, a system prompt) need not be computed again [default: 1 GiB]
    #[arg(long, value_name = "SIZE", value_parser = crate::data::byte_size, help_heading = "Load")]
    pub kv_cache: Option<u64>,

    /// Answer with the same bytes in any company: rows without a chain of thought have a pass each
    #[arg(long, help_heading = "Load")]
    pub batch_invariant: bool,

    /// Seconds from a request to the end of its answer
    #[arg(long, value_name = "SECONDS", default_value_t = 600, value_parser = clap::value_parser!(u32).range(1..=86_400),
          help_heading = "Load")]
    pub max_seconds: u32,

    /// Most bytes of a request's body, such as 4MiB [default: 4 MiB]
    #[arg(long, value_name = "SIZE", value_parser = crate::data::byte_size, help_heading = "Load")]
    pub max_body: Option<u64>,

    /// Folder of the page (in the repository: web, with its engine built by `make web`) [default: web]
    #[arg(long, value_name = "DIR", help_heading = "Page")]
    pub dir: Option<PathBuf>,

    /// A bundle to serve at /bundle/
    #[arg(long, value_name = "DIR", help_heading = "Page")]
    pub bundle: Option<PathBuf>,

    /// Port; 0 chooses a free one
    #[arg(long, value_name = "N", default_value_t = 8080, help_heading = "Network")]
    pub port: u16,

    /// Address to listen on. With --model, any but this machine's own demands --api-key-file
    #[arg(long, value_name = "IP", default_value = "127.0.0.1", help_heading = "Network")]
    pub host: std::net::IpAddr,

    /// Host name to answer to, besides localhost and the address; with a port if a proxy uses another one. Can be repeated
    #[arg(long, value_name = "NAME", help_heading = "Network")]
    pub allow_host: Vec<Host>,

    /// Origin of a page of another site that may ask, such as https://tool.example. Can be repeated
    #[arg(long, value_name = "ORIGIN", value_parser = origin, help_heading = "Network")]
    pub allow_origin: Vec<String>,

    /// File with API keys, one a line; requests must have one as `Authorization: Bearer KEY`
    #[arg(long, value_name = "FILE", requires = "model", help_heading = "Network")]
    pub api_key_file: Option<PathBuf>,
}

/// An origin as browsers write it.
fn origin(text: &str) -> Result<String, String> {
    let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    match host.map(str::parse::<Host>) {
        Some(Ok(_)) => Ok(text.to_ascii_lowercase()),
        _ => Err(format!("{text:?} is no origin; expected one such as https://tool.example")),
    }
}

const SERVE_EXAMPLES: &str = "\
Examples:
  jurist serve --model judge
  jurist serve --model judge.gguf --host 0.0.0.0 --allow-host judge.example --api-key-file keys.txt
  jurist serve --bundle judge-bundle --port 9000      # the page alone
  curl localhost:8080/v1/judge -d '{\"instruction\": \"Say hi\", \"response\": \"Hi!\"}'";
