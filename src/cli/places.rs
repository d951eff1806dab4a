//! That no output of a command overwrites what it reads, or another output.

use std::path::{Path, PathBuf};

use super::{CliError, Context, JudgingArgs};
use crate::files::{companions, is_unfinished, refuse_input, require_folder, same_place};

/// What a command reads and writes, each with the words that name it.
#[derive(Default)]
pub struct Places<'a> {
    inputs: Vec<(PathBuf, &'static str)>,
    outputs: Vec<(&'a Path, &'static str, Vec<PathBuf>)>,
}

impl<'a> Places<'a> {
    pub fn reads(mut self, path: Option<&Path>, what: &'static str) -> Self {
        self.inputs.extend(path.map(|path| (path.to_path_buf(), what)));
        self
    }

    /// A model's folder, that of the base which an adapter in it names or `--base` does, and a template.
    pub fn reads_judge(self, model: Option<&Path>, judging: &JudgingArgs, context: &Context) -> Self {
        let Some(model) = model else { return self };
        let template = judging.judge.template.as_deref().map(Path::new).filter(|path| path.is_file());
        let mut places = self.reads(Some(model), "a file of --model").reads(template, "--template");
        places = places.reads(context.base.as_deref(), "a file of --base");
        // A file that does not exist cannot be overwritten; opening it reports the problem.
        let folders = context.open(model).map(|folder| folder.folders().into_iter().map(PathBuf::from).collect::<Vec<_>>());
        places.inputs.extend(folders.unwrap_or_default().into_iter().map(|folder| (folder, "a file of the model in")));
        places
    }

    /// A file that is written at once.
    pub fn writes(mut self, path: Option<&'a Path>, what: &'static str) -> Self {
        self.outputs.extend(path.map(|path| (path, what, vec![path.to_path_buf()])));
        self
    }

    /// A file of rows, which grows under names of its own.
    pub fn grows(mut self, path: Option<&'a Path>, what: &'static str) -> Self {
        let names = |path: &Path| std::iter::once(path.to_path_buf()).chain(companions(path)).collect();
        self.outputs.extend(path.map(|path| (path, what, names(path))));
        self
    }

    /// Refuses an output that is an input or whose folder does not exist, and two that are one file.
    pub fn check(&self) -> Result<(), CliError> {
        for (output, what, names) in &self.outputs {
            if *output == Path::new("-") {
                let advice = "/dev/stdout names standard output, and ./- a file";
                return Err(CliError::Usage(format!("{what} -: {advice}")));
            }
            // Rows under way in the folder of a model are no file of it.
            let own = |path: &Path, input: &Path| input.is_dir() && (is_unfinished(output) || path != *output);
            for (path, (input, what)) in names.iter().flat_map(|path| self.inputs.iter().map(move |input| (path, input))) {
                if !own(path, input) {
                    refuse_input(path, input, what)?;
                }
            }
        }
        for (output, ..) in &self.outputs {
            require_folder(output)?;
        }
        for (n, (_, what, names)) in self.outputs.iter().enumerate() {
            for (_, other, others) in &self.outputs[n + 1..] {
                if names.iter().any(|a| others.iter().any(|b| same_place(a, b))) {
                    return Err(CliError::Usage(format!("{what} and {other} name the same file; they need one each")));
                }
            }
        }
        Ok(())
    }
}
