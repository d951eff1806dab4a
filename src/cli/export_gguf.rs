//! `jurist export --format gguf`: a trained judge as one file for llama.cpp, Ollama and LM Studio.

use super::export::name_of;
use super::{CliError, Context, ExportArgs, Interrupt, print};
use crate::files::refuse_input;
use crate::gguf::{BlockFormat, ENDING, GgufExport, export};
use crate::hub::Wanted;
use crate::judge::{JudgeError, JudgeSettings};
use crate::progress::Progress;

/// Writes the file and says how large it is.
pub fn run(args: &ExportArgs, context: &Context) -> Result<(), CliError> {
    let mut progress = context.progress();
    refuse_input(&args.out, &args.checkpoint, "the checkpoint")?;
    let format = BlockFormat::of_weights(&args.weights).ok_or_else(|| {
        CliError::Usage(format!("--weights {}: a GGUF file is written as f16, bf16, q8 (q8_0) or q4 (q4_0)", args.weights))
    })?;
    if args.out.extension().is_none_or(|ending| ending != ENDING) {
        let out = args.out.display();
        return Err(CliError::Usage(format!("--out {out}: the name of a GGUF file ends in .{ENDING}, or no program finds it")));
    }
    if args.examples.is_some() {
        progress.note("--examples: rows do not travel with a GGUF file");
    }
    let _interrupt = Interrupt::watch()?;
    context.fetch(&args.checkpoint, Wanted::All, &mut progress)?;
    let folder = context.open(&args.checkpoint)?;
    let Some(judge) = folder.judge_json().map_err(JudgeError::from)? else {
        let problem = "there is no judge.json in it; jurist exports judges, such as jurist train writes";
        return Err(CliError::Failed(format!("model {}: {problem}", args.checkpoint.display())));
    };
    JudgeSettings::from_json(&judge)?;
    let tokenizer = folder.tokenizer().map_err(JudgeError::from)?;
    let stored = folder.weights().map_err(JudgeError::from)?;
    stored.notes.iter().for_each(|note| progress.note(note));
    let source = stored.merged().map_err(JudgeError::from)?;
    let name = args.name.clone().unwrap_or_else(|| name_of(&args.checkpoint));
    let file = GgufExport { name: &name, format, model: source.as_ref(), tokenizer: &tokenizer, judge: &judge };
    let written = export(&args.out, &file).map_err(JudgeError::from)?;
    if written.left_in_f16 > 0 {
        progress.note(&format!("{} matrices are F16: their rows are not whole blocks of 32", written.left_in_f16));
    }
    print(&format!("{}: {}, {:.2} MB\n", args.out.display(), format.name(), written.bytes as f64 / 1e6))
}
