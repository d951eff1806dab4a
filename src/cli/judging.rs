//! What `score` and `eval` share: the judge of a folder with the flags applied to its settings, and the rows to judge.

use std::path::Path;

use clap::Args;

use super::repeated_rows::refuse_repeated_rows;
use super::scoring::way_of_judging;
use super::{CliError, Context, Expectation, Interrupt, JudgingArgs, PartArgs, TerminalProgress, row_hashes};
use crate::data::{Chains, ColumnOptions, Dataset, Example, LabelWords, Labels, Reader, judged_text};
use crate::eval::faithfulness::ChainSwap;
use crate::hub::Wanted;
use crate::judge::{
    self, CHAT_WORDS, Choice, Judge, JudgeError, JudgeFiles, JudgeOverrides, JudgeSettings, Scale, ScoreOptions, ScoreRecord,
    Template, with_swapped_chains,
};
use crate::model::error::ModelError;
use crate::progress::Progress;
use crate::rollout::Until;
use crate::selftest::Work;
use crate::text::Date;
use crate::words::count;

/// Prompt and scale of a judge. What is left out is as in the model's own `judge.json`, if it has one.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Judge")]
pub struct JudgeFlags {
    /// Score scale, as in training; labels may be its words [default: the model's, else 1..5]
    #[arg(long, value_name = "SCALE", allow_hyphen_values = true)]
    pub scale: Option<String>,

    /// Words before the score [default: the model's, else "So the overall score is "]
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub phrase: Option<String>,

    /// Prompt template: plain (the row's prompt), judge (built-in grading prompt), pair (built-in prompt for two responses), a
    /// Jinja file, or auto (plain where every row has a prompt, else judge) [default: the model's, else auto]
    #[arg(long, value_name = "NAME|FILE")]
    pub template: Option<String>,

    /// Wrap prompts in the model's chat template; auto: if the model has one [default: the model's, else auto]
    #[arg(long, value_name = "WHEN", value_parser = CHAT_WORDS)]
    pub chat: Option<String>,

    /// Date that the chat template states [default: the judge's, else today if the template uses a date]
    #[arg(long, value_name = "YYYY-MM-DD")]
    pub date: Option<Date>,
}

impl JudgeFlags {
    /// What these flags ask for.
    ///
    /// # Errors
    /// A scale that cannot be one; a template that cannot be read.
    pub fn overrides(&self) -> Result<JudgeOverrides, JudgeError> {
        Ok(JudgeOverrides {
            scale: self.scale.as_deref().map(str::parse).transpose()?,
            phrase: self.phrase.clone(),
            template: self.template.as_deref().map(Choice::<Template>::named).transpose()?,
            chat: self.chat.as_deref().and_then(Choice::<bool>::named),
            date: self.date,
            ..JudgeOverrides::default()
        })
    }

    /// The scale that is given, else that of the judge in `model`, as far as its template is the judge's. A model that cannot be
    /// opened has none; the error is reported when it is opened to judge.
    pub fn scale_of(&self, model: Option<&Path>, context: &Context) -> Result<Option<Scale>, CliError> {
        match &self.scale {
            Some(scale) => Ok(Some(scale.parse()?)),
            None => {
                let pairs = self.compares(model, context);
                let inherited = |own: JudgeSettings| Ok(JudgeSettings::inherited_answer(Some(&own), pairs)?.0);
                stored(model, context).map(inherited).transpose()
            }
        }
    }

    /// Whether the judge compares two responses with the built-in template, so that a label may be a preference.
    pub fn compares(&self, model: Option<&Path>, context: &Context) -> bool {
        match self.template.as_deref() {
            Some(name) => name == Template::Pair.name(),
            None => stored(model, context).is_some_and(|settings| settings.template() == Template::Pair),
        }
    }
}

/// Says how many rows have no label.
pub fn note_unlabelled(file: &str, rows: usize, progress: &mut dyn Progress) {
    if rows > 0 {
        progress.note(&format!("{file}: {} without people's score left out", count(rows, "row")));
    }
}

/// The settings of the judge in `model`, if there is one.
fn stored(model: Option<&Path>, context: &Context) -> Option<JudgeSettings> {
    let folder = context.open(model?).ok()?;
    JudgeSettings::of_folder(&folder).ok().flatten()
}

impl JudgingArgs {
    /// As [`JudgeFlags::scale_of`].
    pub fn scale(&self, model: Option<&Path>, context: &Context) -> Result<Option<Scale>, CliError> {
        self.judge.scale_of(model, context)
    }

    /// Reads rows for the judge in `model`, if there is one; chains in them are left alone, since the judge writes its own, unless
    /// they are asked for.
    pub fn rows(
        &self,
        (file, model): (&Path, Option<&Path>),
        labels: Labels,
        context: &Context,
        progress: &mut dyn Progress,
    ) -> Result<Dataset, CliError> {
        if context.ranks.size() > 1 && file == Path::new("-") {
            return Err(CliError::Usage("-: only one of the processes has the standard input; give a file".into()));
        }
        let words = self.scale(model, context)?.map_or_else(LabelWords::default, |scale| scale.label_words());
        self.rows_with_words(file, labels, (words, self.judge.compares(model, context)), progress)
    }

    /// As [`JudgingArgs::rows`], with the words that labels may be, and whether they may be preferences.
    pub fn rows_with_words(
        &self,
        file: &Path,
        labels: Labels,
        (words, pairs): (LabelWords, bool),
        progress: &mut dyn Progress,
    ) -> Result<Dataset, CliError> {
        let label_column = self.label_column.clone().unwrap_or_else(|| "score".into());
        let chains = if self.given_chains { Chains::Use } else { Chains::Ignore };
        let columns = ColumnOptions { label_column, labels, chain_column: None, chains, words, pairs };
        let PartArgs { limit, shuffle_seed, max_decompressed } = self.part;
        let limit = limit.map(|n| n as usize);
        let reader = Reader { columns, skip_bad: self.skip_bad, limit, shuffle_seed, max_decompressed };
        let rows = reader.read_path(file)?;
        if let Some(first) = rows.bad.first() {
            progress.warn(&format!("{}: {} skipped, the first: {first}", file.display(), count(rows.bad.len(), "bad row")));
        }
        Ok(rows)
    }

    /// As [`JudgingArgs::rows`], of which those with people's score are kept; the others are counted.
    ///
    /// # Errors
    /// As there; no row with people's score; a row that is there twice.
    pub fn labelled_rows(
        &self,
        (file, model): (&Path, Option<&Path>),
        context: &Context,
        progress: &mut dyn Progress,
    ) -> Result<Dataset, CliError> {
        let mut rows = self.rows((file, model), Labels::Optional, context, progress)?;
        let all = rows.examples.len();
        rows.examples.retain(|example| example.record.score.is_some());
        note_unlabelled(&rows.file, all - rows.examples.len(), progress);
        if rows.examples.is_empty() {
            let column = self.label_column.as_deref().unwrap_or("score");
            let fix = "--label-column names another column of people's scores, and jurist score judges rows without any";
            return Err(CliError::Failed(format!("{}: no row has people's score in `{column}`; {fix}", rows.file)));
        }
        refuse_repeated_rows(&rows.examples, |row| Ok(judged_text(&rows.examples[row], false)))?;
        Ok(rows)
    }

    /// How rows are judged.
    pub fn judging(&self) -> ScoreOptions {
        ScoreOptions {
            expectation: match self.expectation {
                Expectation::Renormalised => judge::Expectation::Renormalised,
                Expectation::Full => judge::Expectation::FullVocabulary,
            },
            chains: self.chains as usize,
            temperature: self.temperature,
            seed: self.seed,
            batch_size: self.batch_size as usize,
            max_length: self.max_length.map_or(usize::MAX, |n| n as usize),
            given_chains: self.given_chains,
            ..ScoreOptions::default()
        }
    }

    /// How rows are judged after chains that were swapped.
    fn judging_swapped(&self) -> ScoreOptions {
        ScoreOptions { given_chains: true, ..self.judging() }
    }

    /// Opens the judge in `model`, for these rows. `swaps`: whether [`JudgingArgs::chain_swap`] follows.
    pub fn open(
        &self,
        model: &Path,
        rows: &Dataset,
        swaps: bool,
        context: &Context,
        progress: &mut TerminalProgress,
    ) -> Result<Judge, CliError> {
        let files = self.files(model, &rows.examples, context, progress)?;
        self.upload(&files, &rows.examples, swaps, context, progress)
    }

    /// The files of the judge in `model`. If it has no template of its own, `rows` decide.
    pub fn files(
        &self,
        model: &Path,
        rows: &[Example],
        context: &Context,
        progress: &mut TerminalProgress,
    ) -> Result<JudgeFiles, CliError> {
        context.fetch(model, Wanted::All, progress)?;
        // Before the GPU is asked for anything.
        let folder = context.open(model)?;
        let max_completion_length = self.max_completion_length.map(|most| most as usize);
        let asked = JudgeOverrides { max_completion_length, ..self.judge.overrides()? };
        let files = JudgeFiles::resolve(&folder, self.weights, &asked, rows)?;
        if context.ranks.size() > 1 {
            let fingerprint = folder.fingerprint().map_err(JudgeError::from)?;
            context.ranks.check_same(&[("the model".into(), fingerprint)])?;
        }
        files.notes.iter().for_each(|note| progress.note(note));
        files.warnings.iter().for_each(|warning| progress.warn(warning));
        Ok(files)
    }

    /// The judge of these files on a GPU, for `rows`.
    pub fn upload(
        &self,
        files: &JudgeFiles,
        rows: &[Example],
        swaps: bool,
        context: &Context,
        progress: &mut TerminalProgress,
    ) -> Result<Judge, CliError> {
        if context.ranks.size() > 1 {
            let way = way_of_judging(files.settings(), &self.judging());
            let mut facts = vec![("the data".to_string(), row_hashes::of_list(rows))];
            facts.extend(way.as_object().into_iter().flatten().map(|(name, value)| (name.clone(), value.to_string())));
            context.ranks.check_same(&facts)?;
        }
        let gpu = context.gpu(Work::Judging, progress)?;
        let calls = [self.judging(), self.judging_swapped()];
        files.check_memory(&gpu, rows, if swaps { &calls } else { &calls[..1] })?;
        let judge = files.upload(&gpu)?;
        judge.score_tokens().warnings.iter().for_each(|w| progress.warn(w));
        Ok(judge)
    }

    /// What becomes of the predictions when each row reads the next row's chain; none where the judge writes no chains, or
    /// reads given ones. Only rows that can be judged count.
    pub fn chain_swap(
        &self,
        judge: &Judge,
        (rows, judgements): (&Dataset, &[ScoreRecord]),
        interrupt: &Interrupt,
    ) -> Result<Option<ChainSwap>, CliError> {
        if !judge.settings().chain || self.given_chains {
            return Ok(None);
        }
        let good = rows.examples.iter().zip(judgements).filter(|(_, j)| j.expected.is_some());
        let (rows, own): (Vec<Example>, Vec<ScoreRecord>) = good.map(|(row, j)| (row.clone(), j.clone())).unzip();
        if rows.len() < 2 {
            return Ok(None);
        }
        let chains: Vec<Option<String>> = own.iter().map(|j| j.feedback.clone()).collect();
        let until = Until { stop: || interrupt.requested(), done: |_: usize| {} };
        let swapped = match pollster::block_on(judge.judge(&with_swapped_chains(&rows, &chains), &self.judging_swapped(), until))
        {
            Err(JudgeError::Model(ModelError::Stopped)) => {
                return Err(CliError::Stopped(
                    "all rows were judged, but the judgements after swapped chains were not finished".into(),
                ));
            }
            swapped => swapped?,
        };
        let pairs = own.iter().zip(&swapped).filter_map(|(a, b)| Some((a.expected?, b.record.expected?)));
        let (before, after): (Vec<f64>, Vec<f64>) = pairs.unzip();
        Ok(Some(ChainSwap::of(&before, &after)?))
    }
}
