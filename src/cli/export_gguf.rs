//! `jurist export --format gguf`: a trained judge as one file for llama.cpp, Ollama and LM Studio.

use super::{CliError, Context, ExportArgs, Interrupt, print};
use crate::files::refuse_input;
use crate::gguf::{BlockFormat, is_gguf};
use crate::hub::Wanted;
use crate::judge::{JudgeExport, folder_name};
use crate::progress::Progress;

/// Writes the file and says how large it is.
pub fn run(args: &ExportArgs, context: &Context) -> Result<(), CliError> {
    let mut progress = context.progress();
    refuse_input(&args.out, &args.checkpoint, "the checkpoint")?;
    let format = BlockFormat::of_weights(&args.weights).ok_or_else(|| {
        CliError::Usage(format!("--weights {}: a GGUF file is written as f16, bf16, q8 (q8_0), q4 (q4_0) or q4_1", args.weights))
    })?;
    if !is_gguf(&args.out) {
        let out = args.out.display();
        return Err(CliError::Usage(format!("--out {out}: the name of a GGUF file ends in .gguf, or no program finds it")));
    }
    if args.calibrate.is_some() {
        return Err(CliError::Usage("--calibrate: a GGUF file is not calibrated; leave it out, or write a bundle".into()));
    }
    if args.examples.is_some() {
        progress.note("--examples: rows do not travel with a GGUF file");
    }
    let _interrupt = Interrupt::watch(&context.ranks)?;
    context.fetch(&args.checkpoint, Wanted::All, &mut progress)?;
    let folder = context.open(&args.checkpoint)?;
    for input in folder.folders() {
        refuse_input(&args.out, input, "the model")?;
    }
    let judge = JudgeExport::open(&folder)?;
    judge.notes.iter().for_each(|note| progress.note(note));
    let name = args.name.clone().unwrap_or_else(|| folder_name(&args.checkpoint));
    if judge.has_adapter() && matches!(format, BlockFormat::Q4_0 | BlockFormat::Q4_1) {
        progress.warn(
            "the adapter is rounded to 4 bits with its model, which takes a short training mostly back: expected scores of such a \
             judge moved by up to 1 on 0..5, and by 0.13 with --weights q8; a bundle (--format bundle --weights q4) carries the \
             adapter beside the weights",
        );
    }
    if matches!(format, BlockFormat::Q8_0 | BlockFormat::Q4_0 | BlockFormat::Q4_1) {
        let again = "calibrate the folder with --weights q8 or q4 before the export";
        judge.calibration_advice(again).into_iter().for_each(|advice| progress.warn(&advice));
    }
    let written = judge.write_gguf(&args.out, &name, args.description.as_deref(), format)?;
    if written.left_in_f16 > 0 {
        progress.note(&format!("{} matrices are F16: their rows are not whole blocks of 32", written.left_in_f16));
    }
    print(&format!("{}: {}, {:.2} MB\n", args.out.display(), format.name(), written.bytes as f64 / 1e6))
}
