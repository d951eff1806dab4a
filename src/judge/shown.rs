//! What a judge would read of rows, without its weights: to be shown and measured.

use super::{JudgeError, JudgeOverrides, JudgePrompt, JudgeSettings, Result, preview};
use crate::data::{Dataset, Example, Percentiles, percentiles};
use crate::text::{SpecialTokens, Tokenizer, word_level};

/// Of more rows than this, the tokens of some are counted, evenly taken.
const MOST_TOKENISED: usize = 5000;
/// Characters of the row's text that are shown where there is no tokenizer.
const MOST_TEXT: usize = 1500;

/// How rows would be judged.
#[derive(Debug)]
pub struct RowView {
    tokenizer: Option<Tokenizer>,
    settings: JudgeSettings,
    prompt: JudgePrompt,
}

/// What was measured, in which unit, with its percentiles.
pub type Length = (&'static str, &'static str, Percentiles);

impl RowView {
    /// By these settings, and the tokenizer where there is one; `note` hears what should be said of them.
    ///
    /// # Errors
    /// As [`JudgeSettings::resolve`]; a template that cannot be read.
    pub fn new(
        stored: Option<JudgeSettings>,
        asked: &JudgeOverrides,
        tokenizer: Option<Tokenizer>,
        rows: &[Example],
        note: impl FnMut(&str),
    ) -> Result<Self> {
        // Without a tokenizer rows are shown as text, of which any tokenizer serves.
        let unknown = SpecialTokens { unk: Some("<unk>".into()), ..SpecialTokens::default() };
        let words = word_level(&["rows"], &unknown)?;
        let known = tokenizer.as_ref().unwrap_or(&words);
        let mut settings = JudgeSettings::resolve(stored, asked, known, rows)?;
        settings.state_date(known)?.as_deref().into_iter().for_each(note);
        let prompt = settings.prompt(known)?;
        Ok(RowView { tokenizer, settings, prompt })
    }

    /// What was resolved.
    pub fn settings(&self) -> &JudgeSettings {
        &self.settings
    }

    /// A row as the model sees it.
    ///
    /// # Errors
    /// A row of which nothing is recognised, or that does not fit the template.
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

    /// Lengths of what the model reads, in characters and, with a tokenizer, in tokens; and of how many rows one was tokenised.
    pub fn lengths(&self, data: &Dataset) -> (Vec<Length>, usize) {
        let characters = |texts: Vec<Option<usize>>| percentiles(texts.into_iter().flatten().collect());
        let rows = || data.examples.iter();
        let count = |text: &str| text.chars().count();
        let mut found = vec![
            ("prompt", "characters", characters(rows().map(|e| self.prompt.text(e).ok().map(|t| count(&t))).collect())),
            (
                "response",
                "characters",
                characters(rows().map(|e| e.record.grading.as_ref().map(|g| count(&g.response))).collect()),
            ),
            ("chain", "characters", characters(rows().map(|e| e.record.chain.as_deref().map(count)).collect())),
        ];
        let mut every = 1;
        if let Some(tokenizer) = &self.tokenizer {
            every = data.examples.len().div_ceil(MOST_TOKENISED).max(1);
            let sampled = || data.examples.iter().step_by(every);
            let prompts = sampled().map(|e| self.prompt.prompt_ids(e, tokenizer).ok().map(|ids| ids.len())).collect();
            let chain = |e: &Example| {
                let (ids, _) = self.prompt.chain_ids(e.record.chain.as_deref()?, true, tokenizer).ok()?;
                Some(ids.len())
            };
            found.push(("prompt", "tokens", characters(prompts)));
            found.push(("chain", "tokens", characters(sampled().map(chain).collect())));
        }
        (found.into_iter().filter_map(|(what, unit, p)| Some((what, unit, p?))).collect(), every)
    }
}
