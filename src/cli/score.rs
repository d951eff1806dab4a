//! `jurist score`: every row comes out as it went in, with one object `judge` added.

use std::io::Write;
use std::path::Path;

use super::{CliError, Context, ScoreArgs};
use crate::data::{Dataset, Labels};

/// Scores the rows of a file.
pub fn run(args: &ScoreArgs, context: &Context) -> Result<(), CliError> {
    let mut progress = context.progress();
    // Opened first: that it cannot be written is not to be told after an hour of judging.
    let output = args.output.as_deref().map(OutputFile::create).transpose()?;
    let rows = args.judging.rows(&args.input, Labels::Optional, &mut progress)?;
    if !args.overwrite_judge {
        refuse_column(&rows, &args.judge_column)?;
    }
    let (_, judged) = args.judging.judge(&args.model, &rows, context, &mut progress)?;
    let mut text = String::new();
    for (example, judged) in rows.examples.iter().zip(&judged) {
        let judgement = serde_json::to_value(&judged.judgement).unwrap_or_default();
        text += &example.row.with_column(&args.judge_column, &judgement);
        text.push('\n');
    }
    match output {
        None => super::print(&text),
        Some(file) => file.write(text.as_bytes()),
    }
}

/// Refuses rows that have the column to which judgements go.
fn refuse_column(rows: &Dataset, column: &str) -> Result<(), CliError> {
    match rows.examples.iter().find(|example| example.row.fields.contains_key(column)) {
        None => Ok(()),
        Some(example) => {
            let fix = "name another with --judge-column, or replace it with --overwrite-judge";
            Err(example.row.fault(column, "the row has this column already", fix).into())
        }
    }
}

/// A file that appears whole or not at all: a half-written one looks like a finished one.
struct OutputFile<'a> {
    path: &'a Path,
    temporary: tempfile::NamedTempFile,
}

impl<'a> OutputFile<'a> {
    fn create(path: &'a Path) -> Result<Self, CliError> {
        let failed = |source| CliError::OutputFile { path: path.into(), source };
        if path.is_dir() {
            return Err(failed(std::io::ErrorKind::IsADirectory.into()));
        }
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // As any other file that a program makes; a temporary one would be the owner's alone.
        #[cfg(unix)]
        let mut builder = tempfile::Builder::new();
        #[cfg(not(unix))]
        let builder = tempfile::Builder::new();
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        Ok(OutputFile { path, temporary: builder.tempfile_in(folder).map_err(failed)? })
    }

    fn write(mut self, bytes: &[u8]) -> Result<(), CliError> {
        let failed = |source| CliError::OutputFile { path: self.path.into(), source };
        self.temporary.write_all(bytes).map_err(failed)?;
        self.temporary.persist(self.path).map_err(|e| failed(e.error))?;
        Ok(())
    }
}
