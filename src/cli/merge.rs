//! `jurist merge`: a LoRA adapter added into the model that it belongs to.

use std::path::PathBuf;

use clap::Args;

use super::{CliError, Context, Interrupt, print};
use crate::judge::{JUDGE_FILE, JudgeError};
use crate::model::error::ModelError;
use crate::model::names::tensors;
use crate::model::save::save_checkpoint;
use crate::model::shard_layout::DEFAULT_SHARD_BYTES;
use crate::ops::weight_dtype::WeightDtype;
use crate::progress::Progress;
use crate::words::count;

/// Merge a LoRA adapter into its model, for tools that do not read adapters
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct MergeArgs {
    /// Folder of a PEFT adapter, such as jurist train writes with --lora-r
    #[arg(value_name = "ADAPTER")]
    pub folder: PathBuf,

    /// New folder for the merged model
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,

    /// Number format: float32, bfloat16 or float16 [default: the model's]
    #[arg(long, value_name = "FORMAT")]
    pub dtype: Option<String>,
}

const EXAMPLES: &str = "\
Examples:
  jurist merge runs/lora --out judge
  jurist merge runs/lora --out judge --dtype bfloat16";

/// Writes W + s B A for every adapted projection and all other tensors as they are, tensor by tensor.
pub fn run(args: &MergeArgs, context: &Context) -> Result<(), CliError> {
    let mut progress = context.progress();
    let asked = args.dtype.as_deref().map(|name| {
        let expected = || CliError::Usage(format!("--dtype {name}: expected float32, bfloat16 or float16"));
        WeightDtype::from_config_name(name).ok_or_else(expected)
    });
    let asked = asked.transpose()?;
    let (adapter, out) = (args.folder.display(), args.out.display());
    // Checked before an hour of work, and again before writing.
    if !crate::files::empty(&args.out)? {
        // The lock of a killed merge goes with ours; that of a living one stays.
        let _ = crate::files::Lock::beside(&args.out);
        return Err(CliError::Failed(format!("{out} is not empty; name a new folder for the merged model")));
    }
    let _interrupt = Interrupt::watch(&context.ranks)?;
    let folder = context.open(&args.folder)?;
    let tokenizer = folder.tokenizer().map_err(JudgeError::from)?;
    let stored = folder.weights().map_err(JudgeError::from)?;
    let Some(modules) = stored.adapter.as_ref().map(|a| a.modules.len()) else {
        return Err(CliError::Failed(format!("model {adapter}: it is no adapter, there is nothing to merge")));
    };
    stored.notes.iter().for_each(|note| progress.note(note));
    let dtype = asked.unwrap_or(stored.dtype);
    let source = stored.merged().map_err(JudgeError::from)?;
    let mut extras: Vec<(String, Vec<u8>)> = tokenizer.files().clone().into_iter().collect();
    if let Some(judge) = folder.judge_json().map_err(JudgeError::from)? {
        extras.push((JUDGE_FILE.into(), judge.into_bytes()));
    }
    let saved: Result<(), ModelError> = save_checkpoint(&args.out, dtype, source.as_ref(), &extras, DEFAULT_SHARD_BYTES);
    saved.map_err(JudgeError::from)?;
    let parameters: usize = tensors(source.config()).iter().map(|t| t.len()).sum();
    print(&format!("{out}: {parameters} parameters as {}, {} merged\n", dtype.config_name(), count(modules, "projection")))
}
