//! The settings that make a model a judge. They are stored beside its weights as `judge.json`. Only [`JudgeSettings::resolve`]
//! decides them:
//!
//! ```text
//! overrides (flags, config) > judge.json of the model > defaults, two of which depend on data and model:
//!   template   plain if every row has a prompt of its own, else judge
//!   chat       whether the tokenizer has a chat template
//! ```

use serde::{Deserialize, Serialize};

use super::{
    DEFAULT_PHRASE, JudgeCalibration, JudgeError, JudgePrompt, PAIR_PHRASE, PAIR_SCALE, Result, Scale, ScoreReads, Template,
};
use crate::data::{Example, Record};
use crate::text::{ChatTemplate, Date, Tokenizer};

/// Name of the file in a model's folder.
pub const JUDGE_FILE: &str = "judge.json";

/// Version of the file format.
const FORMAT: u32 = 1;

/// The default scale of a judge.
pub const DEFAULT_SCALE: &str = "1..5";

/// The words for [`JudgeOverrides::chat`].
pub const CHAT_WORDS: [&str; 3] = ["auto", "always", "never"];

/// A setting given by the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice<T> {
    /// Take the default again, whatever the model's own setting is.
    Auto,
    /// This value.
    Is(T),
}

#[cfg(not(target_arch = "wasm32"))]
impl Choice<Template> {
    /// `auto`, or as [`Template::named`].
    ///
    /// # Errors
    /// As [`Template::named`].
    pub fn named(name: &str) -> Result<Self> {
        Ok(if name == "auto" { Choice::Auto } else { Choice::Is(Template::named(name)?) })
    }
}

impl Choice<bool> {
    /// The choice that one of [`CHAT_WORDS`] means.
    pub fn named(word: &str) -> Option<Self> {
        match word {
            "auto" => Some(Choice::Auto),
            "always" => Some(Choice::Is(true)),
            "never" => Some(Choice::Is(false)),
            _ => None,
        }
    }
}

/// Settings given by the user. A field that is `None` takes the value of the model's own `judge.json`, else the default.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JudgeOverrides {
    pub scale: Option<Scale>,
    pub phrase: Option<String>,
    pub template: Option<Choice<Template>>,
    pub chat: Option<Choice<bool>>,
    pub score_reads: Option<ScoreReads>,
    /// Most tokens of a chain of thought; 0: the judge writes no chains.
    pub max_completion_length: Option<usize>,
    /// The day that the chat template states.
    pub date: Option<Date>,
}

/// Scale, phrase, prompt template and chains of a judge.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JudgeSettings {
    pub format: u32,
    pub scale: Scale,
    /// The words before the score.
    pub phrase: String,
    /// `plain`, `judge`, `pair`, or the name of the file that `template_source` was read from.
    pub template: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template_source: Option<String>,
    /// Whether the prompt goes through the model's chat template.
    pub chat: bool,
    /// Whether the judge writes a chain of thought before the score.
    pub chain: bool,
    /// Most tokens of a chain.
    pub max_completion_length: usize,
    /// Which tokens the score is read from.
    #[serde(default, skip_serializing_if = "reads_prompt")]
    pub score_reads: ScoreReads,
    /// The day that the chat template states. Scoring states the day of the training.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub date: Option<Date>,
    /// What people would give where the judge gives a score, as `jurist calibrate` found it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<JudgeCalibration>,
}

/// The default is not written, so that versions without this key can read such files.
fn reads_prompt(reads: &ScoreReads) -> bool {
    *reads == ScoreReads::Prompt
}

impl JudgeSettings {
    /// Settings of a new judge.
    pub fn new(scale: Scale, phrase: &str, template: &Template, chat: bool) -> Self {
        let (template, template_source) = match template {
            Template::Plain => ("plain".into(), None),
            Template::Judge => ("judge".into(), None),
            Template::Pair => ("pair".into(), None),
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
            calibration: None,
        }
    }

    /// The settings of a judge: the overrides, else those `stored` beside the model, else the defaults for this tokenizer and
    /// these rows. By default a judge writes no chains of thought. A calibration holds for the stored settings only.
    ///
    /// # Errors
    /// An unreadable chat template.
    pub fn resolve(stored: Option<Self>, overrides: &JudgeOverrides, tokenizer: &Tokenizer, rows: &[Example]) -> Result<Self> {
        let template = match (&overrides.template, &stored) {
            (Some(Choice::Is(template)), _) => template.clone(),
            (None, Some(stored)) => stored.template(),
            (Some(Choice::Auto), _) | (None, None) => template_for(rows),
        };
        let chat = match (&overrides.chat, &stored) {
            (Some(Choice::Is(chat)), _) => *chat,
            (None, Some(stored)) => stored.chat,
            (Some(Choice::Auto), _) | (None, None) => ChatTemplate::of(tokenizer)?.is_some(),
        };
        let pairs = template == Template::Pair;
        let stored = stored.as_ref();
        let (scale, phrase) = Self::inherited_answer(stored, pairs)?;
        let scale = overrides.scale.clone().unwrap_or(scale);
        let phrase = overrides.phrase.as_deref().unwrap_or(phrase);
        let score_reads = overrides.score_reads.or(stored.map(|own| own.score_reads)).unwrap_or_default();
        let chain = overrides.max_completion_length.or(stored.filter(|own| own.chain).map(|own| own.max_completion_length));
        let date = overrides.date.or(stored.and_then(|own| own.date));
        let settings = JudgeSettings { score_reads, date, ..JudgeSettings::new(scale, phrase, &template, chat) };
        let settings = settings.with_chains_up_to(chain.unwrap_or(0));
        let calibration = stored.filter(|own| own.uncalibrated() == settings).and_then(|own| own.calibration.clone());
        Ok(JudgeSettings { calibration, ..settings })
    }

    /// The scale of a judge that starts from `stored`, and the phrase before its score. `pairs`: it compares two responses with the
    /// built-in template. Where only one of the two does, their scores mean different things, and none is taken from `stored`.
    ///
    /// # Errors
    /// A scale that cannot be read; those built in can.
    pub fn inherited_answer(stored: Option<&Self>, pairs: bool) -> Result<(Scale, &str)> {
        Ok(match stored.filter(|own| (own.template() == Template::Pair) == pairs) {
            Some(own) => (own.scale.clone(), &own.phrase),
            None if pairs => (PAIR_SCALE.parse()?, PAIR_PHRASE),
            None => (DEFAULT_SCALE.parse()?, DEFAULT_PHRASE),
        })
    }

    /// Sets today's date if the chat template needs one and none is set. Returns a note for the user in that case.
    ///
    /// # Errors
    /// An unreadable chat template.
    pub fn state_date(&mut self, tokenizer: &Tokenizer) -> Result<Option<String>> {
        let needed = self.chat && self.date.is_none() && ChatTemplate::of(tokenizer)?.is_some_and(|chat| chat.needs_date());
        if !needed {
            return Ok(None);
        }
        let today = Date::today();
        self.date = Some(today);
        Ok(Some(format!("the chat template states the date: {today} (today, in UTC); --date YYYY-MM-DD sets another")))
    }

    /// Names of the settings in which two judges differ, except those of the chain.
    pub fn differences(&self, other: &Self) -> Vec<&'static str> {
        let same = [
            ("scale", self.scale == other.scale),
            ("phrase", self.phrase == other.phrase),
            ("template", self.template() == other.template()),
            ("chat", self.chat == other.chat),
            ("score_reads", self.score_reads == other.score_reads),
            ("date", self.date == other.date),
        ];
        same.into_iter().filter(|(_, same)| !same).map(|(name, _)| name).collect()
    }

    /// The same settings with chains of thought of at most this many tokens; 0: no chains.
    pub fn with_chains_up_to(self, most: usize) -> Self {
        JudgeSettings { chain: most > 0, max_completion_length: most, ..self }
    }

    /// Reads the text of `judge.json`.
    ///
    /// # Errors
    /// Another kind of file, or a later version; a template that is neither built in nor included as text.
    pub fn from_json(text: &str) -> Result<Self> {
        let broken = |found: String| JudgeError::Settings { found };
        let settings: JudgeSettings = serde_json::from_str(text).map_err(|e| broken(e.to_string()))?;
        if settings.format != FORMAT {
            return Err(broken(format!("it has format {}, and this version of jurist reads {FORMAT}", settings.format)));
        }
        if let Some(fault) = settings.calibration.as_ref().and_then(|calibration| calibration.fitted.fault()) {
            return Err(JudgeError::StoredCalibration(fault));
        }
        match (settings.template.as_str(), &settings.template_source) {
            ("plain" | "judge" | "pair", _) | (_, Some(_)) => Ok(settings),
            (other, None) => Err(broken(format!(
                "its `template` is {:?} without a `template_source`; expected plain, judge, pair, or a template's text there",
                other.chars().take(60).collect::<String>()
            ))),
        }
    }

    /// The settings in a model's folder; `None` if the model is not a judge.
    ///
    /// # Errors
    /// As [`JudgeSettings::from_json`]; an unreadable file.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn of_folder(folder: &crate::model_folder::ModelFolder) -> Result<Option<Self>> {
        folder.judge_json()?.map(|text| Self::from_json(&text)).transpose()
    }

    /// The text of `judge.json`.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }

    /// Appends these settings to a record of how something was made.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn append_to(&self, mut record: serde_json::Value) -> serde_json::Value {
        if let (Some(record), Ok(serde_json::Value::Object(settings))) = (record.as_object_mut(), serde_json::to_value(self)) {
            record.extend(settings);
        }
        record
    }

    /// The template that these settings name.
    pub fn template(&self) -> Template {
        match (self.template.as_str(), &self.template_source) {
            (_, Some(source)) => Template::Own { name: self.template.clone(), source: source.clone() },
            ("judge", None) => Template::Judge,
            ("pair", None) => Template::Pair,
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

/// The default template for these rows.
fn template_for(rows: &[Example]) -> Template {
    if rows.iter().all(|row| has_whole_prompt(&row.record)) { Template::Plain } else { Template::Judge }
}

/// Whether a row's prompt is everything the judge has to read. A prompt that is the instruction of a response is not.
fn has_whole_prompt(record: &Record) -> bool {
    let layout = &record.layout;
    let is_instruction = layout.prompt.is_some() && layout.instruction == layout.prompt && layout.response != layout.prompt;
    record.prompt.is_some() && !is_instruction
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{ColumnOptions, Reader};
    use crate::text::{Files, SpecialTokens, word_level};

    fn rows(text: &str) -> Vec<Example> {
        Reader { columns: ColumnOptions::for_scoring(), ..Reader::default() }.read_str("rows.jsonl", text).unwrap().examples
    }

    fn tokenizer(chat: bool) -> Tokenizer {
        let special = SpecialTokens { unk: Some("<unk>".into()), ..SpecialTokens::default() };
        let mut files: Files = word_level(&["a"], &special).unwrap().files().clone();
        if chat {
            files.insert("chat_template.jinja".into(), b"{{ messages[0].content }}".to_vec());
        }
        Tokenizer::from_files(files).unwrap()
    }

    fn stored() -> JudgeSettings {
        let own = Template::Own { name: "own.jinja".into(), source: "{{ a }}".into() };
        let settings = JudgeSettings::new("0..2".parse().unwrap(), "so ", &own, true);
        JudgeSettings { score_reads: ScoreReads::Chain, ..settings }.with_chains_up_to(7)
    }

    const PROMPTS: &str = r#"{"prompt": "p"}"#;
    const PARTS: &str = r#"{"instruction": "i", "response": "r"}"#;

    #[test]
    fn rows_and_tokenizer_decide_the_defaults() {
        let both = format!("{PROMPTS}\n{PARTS}");
        for (text, template) in [(PROMPTS, "plain"), (PARTS, "judge"), (&both, "judge")] {
            for chat in [false, true] {
                let new = JudgeSettings::resolve(None, &JudgeOverrides::default(), &tokenizer(chat), &rows(text)).unwrap();
                assert_eq!((new.template.as_str(), new.chat, new.chain), (template, chat, false), "{text}");
                assert_eq!((new.scale, new.phrase.as_str()), ("1..5".parse().unwrap(), DEFAULT_PHRASE));
            }
        }
    }

    #[test]
    fn overrides_win_over_stored_settings() {
        let resolve = |overrides: &JudgeOverrides| {
            JudgeSettings::resolve(Some(stored()), overrides, &tokenizer(false), &rows(PROMPTS)).unwrap()
        };
        assert_eq!(resolve(&JudgeOverrides::default()), stored());
        let all = JudgeOverrides {
            scale: Some("1..3".parse().unwrap()),
            phrase: Some("then ".into()),
            template: Some(Choice::Auto),
            chat: Some(Choice::Auto),
            score_reads: Some(ScoreReads::Prompt),
            max_completion_length: Some(0),
            date: None,
        };
        let new = JudgeSettings::new("1..3".parse().unwrap(), "then ", &Template::Plain, false);
        assert_eq!(resolve(&all), new);
        assert_eq!(new.differences(&stored()), ["scale", "phrase", "template", "chat", "score_reads"]);
        assert!(new.differences(&new.clone().with_chains_up_to(4)).is_empty());
        let always = JudgeOverrides { chat: Choice::<bool>::named("always"), template: Some(Choice::Is(Template::Judge)), ..all };
        assert_eq!(resolve(&always), JudgeSettings { template: "judge".into(), chat: true, ..new });
        assert_eq!(CHAT_WORDS.map(|word| Choice::<bool>::named(word).is_some()), [true; 3]);
    }

    /// A score from 1 to 5 is no preference. A template of the user's keeps what the start judge has: only its author knows.
    #[test]
    fn a_judge_of_pairs_takes_no_scale_of_grades_and_the_reverse() {
        let grades = JudgeSettings::new("0..2".parse().unwrap(), "so ", &Template::Judge, false);
        let pairs = JudgeSettings::new("X,Y=1,0".parse().unwrap(), "better: ", &Template::Pair, false);
        let of = |stored: &JudgeSettings, template: Template| {
            let overrides = JudgeOverrides { template: Some(Choice::Is(template)), ..JudgeOverrides::default() };
            let new = JudgeSettings::resolve(Some(stored.clone()), &overrides, &tokenizer(false), &rows(PARTS)).unwrap();
            (new.scale, new.phrase)
        };
        let own = Template::Own { name: "own.jinja".into(), source: "{{ response_a }}".into() };
        let answer = |scale: &str, phrase: &str| (scale.parse::<Scale>().unwrap(), phrase.to_string());
        assert_eq!(of(&grades, Template::Pair), answer(PAIR_SCALE, PAIR_PHRASE));
        assert_eq!(of(&pairs, Template::Judge), answer(DEFAULT_SCALE, DEFAULT_PHRASE));
        assert_eq!(of(&pairs, Template::Pair), answer("X,Y=1,0", "better: "));
        assert_eq!((of(&grades, Template::Plain), of(&grades, own)), (answer("0..2", "so "), answer("0..2", "so ")));
    }

    #[test]
    fn a_template_without_a_source_is_an_error() {
        let mut settings = stored();
        assert_eq!(JudgeSettings::from_json(&settings.to_json()).unwrap(), settings);
        settings.template_source = None;
        for name in ["plain", "judge", "pair"] {
            settings.template = name.into();
            assert!(JudgeSettings::from_json(&settings.to_json()).is_ok());
        }
        for name in ["nope.jinja", "Plain", "", "{{ prompt }}"] {
            settings.template = name.into();
            let error = JudgeSettings::from_json(&settings.to_json()).unwrap_err().to_string();
            assert!(
                error.contains(&format!("`template` is {name:?} without a `template_source`; expected plain, judge")),
                "{error}"
            );
        }
    }

    /// If the row has a response, the prompt is not everything the judge has to read.
    #[test]
    fn a_prompt_with_a_response_is_an_instruction() {
        let mut row = rows(PROMPTS).remove(0);
        assert!(has_whole_prompt(&row.record));
        (row.record.layout.instruction, row.record.layout.response) = (Some("prompt"), Some("response"));
        assert!(!has_whole_prompt(&row.record));
        // Prometheus' prompt contains instruction and response.
        (row.record.layout.prompt, row.record.layout.instruction) = (Some("instruction"), Some("instruction"));
        row.record.layout.response = Some("instruction");
        assert!(has_whole_prompt(&row.record));
    }
}
