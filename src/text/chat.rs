//! Chat templates: the Jinja text that turns a list of messages into the one string a chat model was trained on.
//!
//! Rendering follows `transformers.apply_chat_template`: blocks are trimmed, Python's string methods exist, and so do
//! `raise_exception`, `tojson` (with Python's spacing) and, when a date is given, `strftime_now`.

use std::collections::BTreeMap;
use std::sync::Arc;

use minijinja::{Environment, Error, ErrorKind, Value};
use serde::Serialize;

use super::jinja::{json_to_template, template_environment, template_failure};
use super::tokenizer::json_object;
use super::{Result, TextError, Tokenizer};

/// A chat template, compiled.
#[derive(Clone, Debug)]
pub struct ChatTemplate {
    environment: Arc<Environment<'static>>,
    special: BTreeMap<String, String>,
}

/// What a chat template is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChatOptions {
    /// Ends the text where the assistant's answer begins.
    pub add_generation_prompt: bool,
    /// Qwen3's switch. A judge's chain of thought is its own text before the score, so thinking is off by default;
    /// `None` leaves the variable undefined.
    pub enable_thinking: Option<bool>,
    /// What `strftime_now` answers. `None` leaves the function undefined: templates that test for it (Llama 3.2) then fall
    /// back to a fixed date, and the same row gives the same tokens on any day.
    pub date: Option<Date>,
}

impl Default for ChatOptions {
    fn default() -> Self {
        ChatOptions { add_generation_prompt: true, enable_thinking: Some(false), date: None }
    }
}

impl ChatTemplate {
    /// The template among a tokenizer's files: `chat_template.jinja`, else the key `chat_template` of
    /// `tokenizer_config.json` (a string, or a list of `{name, template}`, of which `default` is taken). `None` where
    /// there is neither: then use [`concatenate`].
    ///
    /// # Errors
    /// A template that is no Jinja, a list without a `default`, a file that is not UTF-8.
    pub fn of(tokenizer: &Tokenizer) -> Result<Option<Self>> {
        let source = match tokenizer.files().get("chat_template.jinja") {
            Some(bytes) => Some(String::from_utf8(bytes.clone()).map_err(|error| TextError::BadFile {
                file: "chat_template.jinja".into(),
                found: error.to_string(),
                expected: "UTF-8 text".into(),
            })?),
            None => template_of_config(&json_object(tokenizer.files(), "tokenizer_config.json")?)?,
        };
        source.map(|source| Self::new(source, tokenizer.special_texts().clone())).transpose()
    }

    /// A template from its Jinja text; `special` are the texts of special tokens by role, such as "bos_token".
    ///
    /// # Errors
    /// A text that is no Jinja.
    pub fn new(source: String, special: BTreeMap<String, String>) -> Result<Self> {
        let mut environment = template_environment().map_err(|error| TextError::Chat(template_failure(&error)))?;
        environment.add_template_owned("chat", source).map_err(|error| TextError::Chat(template_failure(&error)))?;
        Ok(ChatTemplate { environment: Arc::new(environment), special })
    }

    /// The text of `messages` (each `{role, content}`, and whatever else the template reads).
    ///
    /// The template writes every special token itself, a BOS included: encode its text *without* special tokens
    /// (`Tokenizer::encode(text, false)`), as transformers does, or BOS would come twice.
    ///
    /// # Errors
    /// What the template raises (Mistral 0.2 refuses a system role), or what it cannot compute.
    pub fn render<M: Serialize>(&self, messages: &[M], options: &ChatOptions) -> Result<String> {
        self.render_with(messages, &serde_json::Map::new(), options)
    }

    /// [`ChatTemplate::render`] with what else a row offers: `tools` and `documents`, which are none where it has none.
    ///
    /// # Errors
    /// As [`ChatTemplate::render`].
    pub fn render_with<M: Serialize>(
        &self,
        messages: &[M],
        offered: &serde_json::Map<String, serde_json::Value>,
        options: &ChatOptions,
    ) -> Result<String> {
        let mut context: BTreeMap<&str, Value> =
            self.special.iter().map(|(role, text)| (role.as_str(), Value::from(text.as_str()))).collect();
        let messages = serde_json::to_value(messages).map_err(|error| TextError::Chat(error.to_string()))?;
        context.insert("messages", json_to_template(&messages));
        for name in ["tools", "documents"] {
            context.insert(name, offered.get(name).map_or(Value::from(()), json_to_template));
        }
        context.insert("add_generation_prompt", Value::from(options.add_generation_prompt));
        if let Some(enable) = options.enable_thinking {
            context.insert("enable_thinking", Value::from(enable));
        }
        if let Some(date) = options.date {
            let function = move |format: &str| date.format(format).map_err(|e| Error::new(ErrorKind::InvalidOperation, e));
            context.insert("strftime_now", Value::from_function(function));
        }
        let template = self.environment.get_template("chat");
        template.and_then(|template| template.render(context)).map_err(|error| TextError::Chat(template_failure(&error)))
    }
}

/// The text of a conversation for a model without a chat template: the contents, an empty line between them, roles
/// dropped. (Encode it *with* special tokens, as any plain text.)
pub fn concatenate<'a>(contents: impl IntoIterator<Item = &'a str>) -> String {
    contents.into_iter().collect::<Vec<_>>().join("\n\n")
}

fn template_of_config(config: &serde_json::Value) -> Result<Option<String>> {
    let bad = |found: String| TextError::BadFile {
        file: "tokenizer_config.json".into(),
        found,
        expected: "`chat_template` as a string or a list of {name, template} with one named \"default\"".into(),
    };
    let entry = match config.get("chat_template") {
        None | Some(serde_json::Value::Null) => return Ok(None),
        Some(serde_json::Value::String(text)) => return Ok(Some(text.clone())),
        Some(serde_json::Value::Array(list)) => {
            let named = list.iter().find(|entry| entry.get("name").and_then(|name| name.as_str()) == Some("default"));
            named.or(if list.len() == 1 { list.first() } else { None })
        }
        Some(_) => None,
    };
    let template = entry.and_then(|entry| entry.get("template")?.as_str());
    template.map(|text| Some(text.to_string())).ok_or_else(|| bad("`chat_template` without a default template".into()))
}

/// A day of the Gregorian calendar, for templates that state one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Date {
    year: i64,
    month: u32,
    day: u32,
}

const MONTHS: [&str; 12] =
    ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December"];
const WEEKDAYS: [&str; 7] = ["Thursday", "Friday", "Saturday", "Sunday", "Monday", "Tuesday", "Wednesday"];

impl Date {
    /// From "YYYY-MM-DD".
    ///
    /// # Errors
    /// Another form, or a day that the calendar does not have.
    pub fn parse(text: &str) -> Result<Self> {
        let bad = || TextError::Chat(format!("{text:?} is no date; write it as 2026-11-30"));
        let mut parts = text.split('-').map(str::parse::<u32>);
        let (Some(Ok(year)), Some(Ok(month)), Some(Ok(day)), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(bad());
        };
        let date = Date { year: i64::from(year), month, day };
        let possible = (1..=9999).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
        if possible && Date::from_days(date.days()) == date { Ok(date) } else { Err(bad()) }
    }

    /// Today in UTC.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn today() -> Self {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Date::from_days((now.as_secs() / 86_400) as i64)
    }

    /// Days since 1970-01-01, counted in years that begin in March so that leap days come last.
    fn days(self) -> i64 {
        let year = if self.month <= 2 { self.year - 1 } else { self.year };
        let month = (i64::from(self.month) + 9) % 12;
        year * 365 + year.div_euclid(4) - year.div_euclid(100)
            + year.div_euclid(400)
            + (153 * month + 2) / 5
            + i64::from(self.day)
            - 719_469
    }

    fn from_days(days: i64) -> Self {
        let mut year = 1970 + days.div_euclid(366) - 1;
        while (Date { year: year + 1, month: 1, day: 1 }).days() <= days {
            year += 1;
        }
        let mut month = 12;
        while (Date { year, month, day: 1 }).days() > days {
            month -= 1;
        }
        Date { year, month, day: (days - Date { year, month, day: 1 }.days() + 1) as u32 }
    }

    /// As Python's `strftime`, for the directives that name a day.
    fn format(self, format: &str) -> std::result::Result<String, String> {
        let (year, month, day) = (self.year, self.month, self.day);
        let month_name = MONTHS[month as usize - 1];
        let weekday = WEEKDAYS[self.days().rem_euclid(7) as usize];
        let mut out = String::new();
        let mut chars = format.chars();
        while let Some(c) = chars.next() {
            if c != '%' {
                out.push(c);
                continue;
            }
            match chars.next() {
                Some('Y') => out += &year.to_string(),
                Some('y') => out += &format!("{:02}", year % 100),
                Some('m') => out += &format!("{month:02}"),
                Some('d') => out += &format!("{day:02}"),
                Some('B') => out += month_name,
                Some('b') => out += &month_name[..3],
                Some('A') => out += weekday,
                Some('a') => out += &weekday[..3],
                // The host gives a day, not an hour: a prompt that changes by the minute could never be repeated.
                Some('H' | 'M' | 'S') => out += "00",
                Some('%') => out.push('%'),
                other => return Err(format!("strftime_now: `%{}` is not supported", other.unwrap_or(' '))),
            }
        }
        Ok(out)
    }
}
