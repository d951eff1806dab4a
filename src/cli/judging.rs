//! What `score` and `eval` share: the judge of a folder with the flags laid over its settings, and rows to judge.

use std::path::Path;

use super::scoring::Follow;
use super::{CliError, Context, Expectation, Interrupt, JudgingArgs, PartArgs, TerminalProgress};
use crate::bundle::{ModelFolder, Wanted};
use crate::data::{Chains, Dataset, Example, Labels, Reader, View};
use crate::doctor::Work;
use crate::eval::faithfulness::ChainSwap;
use crate::files::refuse_input;
use crate::judge::{self, DEFAULT_PHRASE, Judge, JudgeError, JudgeSettings, Judgement, Judging, Template, with_swapped_chains};
use crate::model::error::ModelError;
use crate::text::{ChatTemplate, Tokenizer};
use crate::train::log::Progress;

impl JudgingArgs {
    /// Reads rows; chains in them are left alone, since the judge writes its own, unless they are asked for.
    pub fn rows(&self, file: &Path, labels: Labels, progress: &mut dyn Progress) -> Result<Dataset, CliError> {
        let label_column = self.label_column.clone().unwrap_or_else(|| "score".into());
        let chains = if self.given_chains { Chains::Use } else { Chains::Ignore };
        let view = View { label_column, labels, chain_column: None, chains };
        let PartArgs { limit, shuffle_seed } = self.part;
        let reader = Reader { view, skip_bad: self.skip_bad, limit: limit.map(|n| n as usize), shuffle_seed };
        let rows = reader.read_path(file)?;
        if let Some(first) = rows.bad.first() {
            progress.warn(&format!("{}: {} bad rows skipped, the first: {first}", file.display(), rows.bad.len()));
        }
        Ok(rows)
    }

    /// Refuses an output that is one of the inputs.
    pub fn refuse_inputs(&self, output: &Path, input: &Path, model: &Path) -> Result<(), CliError> {
        refuse_input(output, input, "--input")?;
        refuse_input(output, model, "a file of --model")?;
        if let Some(template) = &self.template {
            refuse_input(output, Path::new(template), "--template")?;
        }
        Ok(())
    }

    /// How rows are judged.
    pub fn judging(&self) -> Judging {
        let several = if self.chains > 1 { 1.0 } else { 0.0 };
        Judging {
            expectation: match self.expectation {
                Expectation::Renormalised => judge::Expectation::Renormalised,
                Expectation::Full => judge::Expectation::FullVocabulary,
            },
            chains: self.chains as usize,
            temperature: self.temperature.unwrap_or(several),
            seed: self.seed,
            batch_size: self.batch_size as usize,
            max_length: self.max_length.map_or(usize::MAX, |n| n as usize),
            given_chains: self.given_chains,
            ..Judging::default()
        }
    }

    /// The model's own settings, where it has them, under the flags.
    fn settings(&self, stored: Option<JudgeSettings>, tokenizer: &Tokenizer) -> Result<JudgeSettings, JudgeError> {
        let has_chat = || Ok::<_, JudgeError>(ChatTemplate::of(tokenizer)?.is_some());
        let mut settings = match stored {
            Some(settings) => settings,
            None => JudgeSettings::new("1..5".parse()?, DEFAULT_PHRASE, &Template::Judge, has_chat()?),
        };
        if let Some(scale) = &self.scale {
            settings.scale = scale.parse()?;
        }
        if let Some(phrase) = &self.phrase {
            settings.phrase = phrase.clone();
        }
        if let Some(template) = &self.template {
            let with = JudgeSettings::new(settings.scale.clone(), &settings.phrase, &Template::named(template)?, settings.chat);
            settings = JudgeSettings { template: with.template, template_source: with.template_source, ..settings };
        }
        match self.chat.as_deref() {
            Some("always") => settings.chat = true,
            Some("never") => settings.chat = false,
            Some(_) => settings.chat = has_chat()?,
            None => {}
        }
        if let Some(most) = self.max_completion_length {
            settings.chain = most > 0;
            settings.max_completion_length = most as usize;
        }
        Ok(settings)
    }

    /// Opens the judge in `model`.
    pub fn open(&self, model: &Path, context: &Context, progress: &mut TerminalProgress) -> Result<Judge, CliError> {
        context.fetch(model, Wanted::All, progress)?;
        // Before the GPU is asked for anything.
        ModelFolder::open(model).map_err(JudgeError::from)?;
        let gpu = context.gpu(Work::Judging, progress)?;
        let judge = Judge::open(&gpu, model, |stored, tokenizer| self.settings(stored, tokenizer))?;
        judge.score_tokens().warnings.iter().for_each(|w| progress.warn(w));
        Ok(judge)
    }

    /// What becomes of the predictions when each row reads the next row's chain; none where the judge writes no chains, or
    /// reads given ones. Only rows that can be judged count.
    pub fn chain_swap(
        &self,
        judge: &Judge,
        (rows, judgements): (&Dataset, &[Judgement]),
        interrupt: &Interrupt,
    ) -> Result<Option<ChainSwap>, CliError> {
        let judging = self.judging();
        if !judge.settings().chain || judging.given_chains {
            return Ok(None);
        }
        let good = rows.examples.iter().zip(judgements).filter(|(_, j)| j.expected.is_some());
        let (rows, own): (Vec<Example>, Vec<Judgement>) = good.map(|(row, j)| (row.clone(), j.clone())).unzip();
        if rows.len() < 2 {
            return Ok(None);
        }
        let judging = Judging { given_chains: true, ..judging };
        let chains: Vec<Option<String>> = own.iter().map(|j| j.feedback.clone()).collect();
        let follow = Follow { interrupt, done: |_: usize| {} };
        let swapped = match pollster::block_on(judge.judge(&with_swapped_chains(&rows, &chains), &judging, follow)) {
            Err(JudgeError::Model(ModelError::Stopped)) => {
                return Err(CliError::Stopped("all rows were judged, and the chains not swapped yet".into()));
            }
            swapped => swapped?,
        };
        let pairs = own.iter().zip(&swapped).filter_map(|(a, b)| Some((a.expected?, b.judgement.expected?)));
        let (before, after): (Vec<f64>, Vec<f64>) = pairs.unzip();
        Ok(Some(ChainSwap::of(&before, &after)?))
    }
}
