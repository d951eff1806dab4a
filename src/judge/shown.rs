//! What a judge would read of rows, shown and measured without its weights.

use super::{JudgeError, JudgeOverrides, JudgePrompt, JudgeSettings, Result, preview};
use crate::data::{Dataset, Example, Percentiles, percentiles};
use crate::text::{SpecialTokens, Tokenizer, word_level};

/// The most rows whose tokens are counted; of more rows, an evenly spaced sample is taken.
const MOST_TOKENISED: usize = 5000;
/// Most characters of a prompt that are shown if there is no tokenizer.
const MOST_TEXT: usize = 1500;

/// Shows rows as a judge would read them.
#[derive(Debug)]
pub struct RowView {
    tokenizer: Option<Tokenizer>,
    settings: JudgeSettings,
    prompt: JudgePrompt,
}

/// A measured length: what it is of, its unit, its percentiles.
pub type Length = (&'static str, &'static str, Percentiles);

impl RowView {
    /// A view by the resolved settings and the tokenizer, if there is one. `note` is called with notes for the user.
    ///
    /// # Errors
    /// As [`JudgeSettings::resolve`]; an unreadable template.
    pub fn new(
        stored: Option<JudgeSettings>,
        overrides: &JudgeOverrides,
        tokenizer: Option<Tokenizer>,
        rows: &[Example],
        note: impl FnMut(&str),
    ) -> Result<Self> {
        // Without a tokenizer, rows are shown as text; any tokenizer will do for that.
        let unknown = SpecialTokens { unk: Some("<unk>".into()), ..SpecialTokens::default() };
        let stand_in = word_level(&["rows"], &unknown)?;
        let known = tokenizer.as_ref().unwrap_or(&stand_in);
        let mut settings = JudgeSettings::resolve(stored, overrides, known, rows)?;
        settings.state_date(known)?.as_deref().into_iter().for_each(note);
        let prompt = settings.prompt(known)?;
        Ok(RowView { tokenizer, settings, prompt })
    }

    /// The resolved settings.
    pub fn settings(&self) -> &JudgeSettings {
        &self.settings
    }

    /// A row as the model sees it.
    ///
    /// # Errors
    /// A row without any recognised column, or one that does not fit the template.
    pub fn shown(&self, example: &Example) -> Result<String> {
        let recognised = example.record.prompt.is_some() || example.record.grading.is_some();
        if !recognised && ["plain", "judge"].contains(&self.settings.template.as_str()) {
            return Err(JudgeError::Row {
                place: example.row.location(),
                found: "no column is known as a prompt or as an instruction with its response".into(),
                fix: "write a Jinja template over the row's columns and name it with --template".into(),
            });
        }
        let text = self.prompt.text(example)?;
        let Some(tokenizer) = &self.tokenizer else {
            let cut = text.char_indices().nth(MOST_TEXT).map(|(at, _)| at);
            let rest = cut.map_or(0, |at| text[at..].chars().count());
            let more = if rest > 0 { format!("... ({rest} characters more)") } else { String::new() };
            return Ok(format!("{}{more}\n", &text[..cut.unwrap_or(text.len())]));
        };
        let tokens = self.prompt.score_tokens(tokenizer)?;
        let sequence = self.prompt.sequence(example, &tokens, tokenizer, false)?;
        let share = |(score, weight): &(usize, f64)| format!("{} ({weight:.3})", self.settings.scale.texts()[*score]);
        let target: Vec<String> = sequence.split.weights.iter().map(share).collect();
        Ok(format!("{}target of the score: {}\n", preview(&sequence, tokenizer), target.join(", ")))
    }

    /// Lengths of what the model reads, in characters and, with a tokenizer, in tokens. The second value is the sampling step:
    /// every how many rows one was tokenised.
    pub fn lengths(&self, data: &Dataset) -> (Vec<Length>, usize) {
        let summary = |lengths: Vec<Option<usize>>| percentiles(lengths.into_iter().flatten().collect());
        let rows = || data.examples.iter();
        let count = |text: &str| text.chars().count();
        let mut lengths = vec![
            ("prompt", "characters", summary(rows().map(|e| self.prompt.text(e).ok().map(|t| count(&t))).collect())),
            ("response", "characters", summary(rows().map(|e| e.record.grading.as_ref().map(|g| count(&g.response))).collect())),
            ("chain", "characters", summary(rows().map(|e| e.record.chain.as_deref().map(count)).collect())),
        ];
        let mut step = 1;
        if let Some(tokenizer) = &self.tokenizer {
            step = data.examples.len().div_ceil(MOST_TOKENISED).max(1);
            let sampled = || data.examples.iter().step_by(step);
            let prompts = sampled().map(|e| self.prompt.prompt_ids(e, tokenizer).ok().map(|ids| ids.len())).collect();
            let chain = |e: &Example| {
                let (ids, _) = self.prompt.chain_ids(e.record.chain.as_deref()?, true, tokenizer).ok()?;
                Some(ids.len())
            };
            lengths.push(("prompt", "tokens", summary(prompts)));
            lengths.push(("chain", "tokens", summary(sampled().map(chain).collect())));
        }
        (lengths.into_iter().filter_map(|(what, unit, p)| Some((what, unit, p?))).collect(), step)
    }
}
