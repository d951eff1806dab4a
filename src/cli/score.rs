//! `jurist score`: every row comes out as it went in, with one object `judge` added.

use std::io::Write;

use super::{CliError, Context, ScoreArgs};
use crate::data::Labels;

/// Scores the rows of a file.
pub fn run(args: &ScoreArgs, context: &Context) -> Result<(), CliError> {
    let mut progress = context.progress();
    let rows = args.judging.rows(&args.input, Labels::Optional, &mut progress)?;
    let (_, judged) = args.judging.judge(&args.model, &rows, context, &mut progress)?;
    let mut text = String::new();
    for (example, judged) in rows.examples.iter().zip(&judged) {
        let mut fields = example.row.fields.clone();
        let judgement = serde_json::to_value(&judged.judgement).unwrap_or_default();
        fields.insert("judge".into(), judgement);
        text += &serde_json::Value::Object(fields).to_string();
        text.push('\n');
    }
    match &args.output {
        None => super::print(&text),
        Some(path) => {
            // Whole or not at all: a half-written file looks like a finished one.
            let failed = |source| CliError::OutputFile { path: path.clone(), source };
            let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(std::path::Path::new("."));
            let mut file = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
            file.write_all(text.as_bytes()).map_err(failed)?;
            file.persist(path).map_err(|e| failed(e.error))?;
            Ok(())
        }
    }
}
