//! What makes a model a judge, kept beside its weights as `judge.json`.

use serde::{Deserialize, Serialize};

use super::{JudgeError, JudgePrompt, Result, Scale, ScoreReads, Template};
use crate::text::{ChatTemplate, Date, Tokenizer};

/// Name of the file in a model's folder.
pub const JUDGE_FILE: &str = "judge.json";

/// Version of the file.
const FORMAT: u32 = 1;

/// Scale, phrase, prompt and manner of a judge.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JudgeSettings {
    pub format: u32,
    pub scale: Scale,
    /// The words before the score.
    pub phrase: String,
    /// `plain`, `judge`, or the name of the file that `template_source` was read from.
    pub template: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template_source: Option<String>,
    /// Whether the prompt goes through the model's chat template.
    pub chat: bool,
    /// Whether the judge writes a chain of thought before the score.
    pub chain: bool,
    /// Most tokens of a chain.
    pub max_completion_length: usize,
    /// What the score is read from.
    #[serde(default, skip_serializing_if = "reads_prompt")]
    pub score_reads: ScoreReads,
    /// The day that the chat template states. A judge is scored on the day that it was trained with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub date: Option<Date>,
}

/// The ordinary case is not written, so that judges without it stay readable for versions that do not know the key.
fn reads_prompt(reads: &ScoreReads) -> bool {
    *reads == ScoreReads::Prompt
}

impl JudgeSettings {
    /// Settings of a new judge.
    pub fn new(scale: Scale, phrase: &str, template: &Template, chat: bool) -> Self {
        let (template, template_source) = match template {
            Template::Plain => ("plain".into(), None),
            Template::Judge => ("judge".into(), None),
            Template::Own { name, source } => (name.clone(), Some(source.clone())),
        };
        let phrase = phrase.into();
        JudgeSettings {
            format: FORMAT,
            scale,
            phrase,
            template,
            template_source,
            chat,
            chain: false,
            max_completion_length: 0,
            score_reads: ScoreReads::Prompt,
            date: None,
        }
    }

    /// Sets the day that the chat template states: the one that is asked for, else the one that is there, else today where the
    /// template wants one. Returns what to tell the user in that last case.
    ///
    /// # Errors
    /// A chat template that cannot be read.
    pub fn set_date(&mut self, asked: Option<Date>, tokenizer: &Tokenizer) -> Result<Option<String>> {
        self.date = asked.or(self.date);
        let wanted = self.chat && self.date.is_none() && ChatTemplate::of(tokenizer)?.is_some_and(|chat| chat.needs_date());
        if !wanted {
            return Ok(None);
        }
        let today = Date::today();
        self.date = Some(today);
        Ok(Some(format!("the chat template states the date: {today} (today, in UTC); --date YYYY-MM-DD sets another")))
    }

    /// Reads the text of `judge.json`.
    ///
    /// # Errors
    /// Not such a file, or of a later version.
    pub fn from_json(text: &str) -> Result<Self> {
        let broken = |found: String| JudgeError::Settings { found };
        let settings: JudgeSettings = serde_json::from_str(text).map_err(|e| broken(e.to_string()))?;
        match settings.format {
            FORMAT => Ok(settings),
            other => Err(broken(format!("it has format {other}, and this version of jurist reads {FORMAT}"))),
        }
    }

    /// The text of `judge.json`.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }

    /// The template that these settings name.
    pub fn template(&self) -> Template {
        match (self.template.as_str(), &self.template_source) {
            (_, Some(source)) => Template::Own { name: self.template.clone(), source: source.clone() },
            ("judge", None) => Template::Judge,
            _ => Template::Plain,
        }
    }

    /// The prompt of these settings for a tokenizer.
    ///
    /// # Errors
    /// As [`JudgePrompt::new`].
    pub fn prompt(&self, tokenizer: &Tokenizer) -> Result<JudgePrompt> {
        let mut prompt = JudgePrompt::new(self.template(), &self.phrase, self.scale.clone(), self.chat, tokenizer)?;
        prompt.chat_options.date = self.date;
        Ok(prompt)
    }
}
