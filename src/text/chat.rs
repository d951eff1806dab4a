//! Chat templates: the Jinja text that turns a list of messages into the one string a chat model was trained on.
//!
//! Rendering follows `transformers.apply_chat_template`: it trims blocks and offers Python's string methods, `raise_exception`,
//! `tojson` (as `json.dumps` writes it), `{% generation %}` and, when a date is given, `strftime_now`.

use std::collections::BTreeMap;
use std::sync::Arc;

use minijinja::{Error, ErrorKind, Value};
use serde::Serialize;

use super::jinja::{JinjaTemplate, json_to_template, template_failure};
use super::panics::caught;
use super::tokenizer::json_object;
use super::{Date, Result, TextError, Tokenizer};

/// The function that returns the date in a template.
const STRFTIME_NOW: &str = "strftime_now";

/// The name of the template for conversations with tools, where a model has several templates.
pub(super) const TOOL_USE: &str = "tool_use";

/// The variables that a row may pass to a chat template beside its messages.
const ROW_VARIABLES: [&str; 2] = ["tools", "documents"];

/// A compiled chat template.
#[derive(Clone, Debug)]
pub struct ChatTemplate {
    template: Arc<JinjaTemplate>,
    /// The template for conversations with tools, where the model has one.
    tool_use: Option<Arc<JinjaTemplate>>,
    special: BTreeMap<String, String>,
}

/// Options of rendering a chat template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChatOptions {
    /// Ends the text where the assistant's answer begins.
    pub add_generation_prompt: bool,
    /// Qwen3's switch. A judge writes its chain of thought as plain text before the score, so thinking is off by default. `None`
    /// leaves the variable undefined.
    pub enable_thinking: Option<bool>,
    /// The date that `strftime_now` returns. `None` leaves the function undefined. Templates that test for the function (Llama
    /// 3.2) then use a fixed date, so the same row gives the same tokens on any day. Templates that do not test for it need a
    /// date: see [`ChatTemplate::needs_date`].
    pub date: Option<Date>,
}

impl Default for ChatOptions {
    fn default() -> Self {
        ChatOptions { add_generation_prompt: true, enable_thinking: Some(false), date: None }
    }
}

impl ChatTemplate {
    /// The template in a tokenizer's files: `chat_template.jinja`, else the key `chat_template` of `tokenizer_config.json`. The
    /// key holds a string or a list of `{name, template}`; in a list, `tool_use` serves conversations with tools and `default`
    /// all others. `None` where there is neither: then use [`concatenate`].
    ///
    /// # Errors
    /// A template that is not valid Jinja, a list without a `default`, a file that is not UTF-8.
    pub fn of(tokenizer: &Tokenizer) -> Result<Option<Self>> {
        let (default, tool_use) = sources(tokenizer)?;
        let Some(default) = default else { return Ok(None) };
        let tool_use = tool_use.map(compiled).transpose()?;
        Ok(Some(ChatTemplate { tool_use, ..Self::new(default, tokenizer.special_texts().clone())? }))
    }

    /// The text of the template for conversations without tools.
    ///
    /// # Errors
    /// As [`ChatTemplate::of`].
    pub fn source_of(tokenizer: &Tokenizer) -> Result<Option<String>> {
        Ok(sources(tokenizer)?.0)
    }

    /// Compiles a template from its Jinja text. `special` maps roles, such as "bos_token", to the texts of special tokens.
    ///
    /// # Errors
    /// A text that is not valid Jinja.
    pub fn new(source: String, special: BTreeMap<String, String>) -> Result<Self> {
        Ok(ChatTemplate { template: compiled(source)?, tool_use: None, special })
    }

    /// Whether the template states today's date without testing whether a date is available, as Mistral Small's does. Such a
    /// template needs [`ChatOptions::date`].
    pub fn needs_date(&self) -> bool {
        self.tool_use.iter().chain([&self.template]).any(|template| template.calls_untested(STRFTIME_NOW))
    }

    /// The first variable in `variables` that the template never reads.
    pub fn unread<'o>(&self, variables: &'o serde_json::Map<String, serde_json::Value>) -> Option<&'o str> {
        let template = self.template_for(variables);
        variables.keys().map(String::as_str).find(|name| !template.reads(name))
    }

    fn template_for(&self, variables: &serde_json::Map<String, serde_json::Value>) -> &JinjaTemplate {
        self.tool_use.as_ref().filter(|_| variables.contains_key("tools")).unwrap_or(&self.template)
    }

    /// Renders `messages` (each `{role, content}`, and whatever else the template reads).
    ///
    /// The template writes every special token itself, including BOS. So encode its text *without* special tokens
    /// (`Tokenizer::encode(text, false)`), as transformers does. Otherwise BOS would come twice.
    ///
    /// # Errors
    /// The template raises an exception (Mistral 0.2 refuses a system role), or rendering fails.
    pub fn render<M: Serialize>(&self, messages: &[M], options: &ChatOptions) -> Result<String> {
        self.render_with(messages, &serde_json::Map::new(), options)
    }

    /// [`ChatTemplate::render`] with further variables of a row: `tools` and `documents`. A variable that is missing from
    /// `variables` is none in the template.
    ///
    /// # Errors
    /// As [`ChatTemplate::render`].
    pub fn render_with<M: Serialize>(
        &self,
        messages: &[M],
        variables: &serde_json::Map<String, serde_json::Value>,
        options: &ChatOptions,
    ) -> Result<String> {
        let mut context: BTreeMap<&str, Value> =
            self.special.iter().map(|(role, text)| (role.as_str(), Value::from(text.as_str()))).collect();
        let messages = serde_json::to_value(messages).map_err(|error| TextError::Chat(error.to_string()))?;
        context.insert("messages", json_to_template(&messages));
        for name in ROW_VARIABLES {
            context.insert(name, variables.get(name).map_or(Value::from(()), json_to_template));
        }
        context.insert("add_generation_prompt", Value::from(options.add_generation_prompt));
        if let Some(enable) = options.enable_thinking {
            context.insert("enable_thinking", Value::from(enable));
        }
        if let Some(date) = options.date {
            let function = move |format: &str| date.format(format).map_err(|e| Error::new(ErrorKind::InvalidOperation, e));
            context.insert(STRFTIME_NOW, Value::from_function(function));
        }
        let text = caught(|| self.template_for(variables).render(Value::from(context))).map_err(TextError::Chat)?;
        text.map_err(|error| TextError::Chat(template_failure(&error)))
    }
}

/// The text of a conversation for a model without a chat template: the contents, separated by empty lines. Roles are dropped.
/// Encode it *with* special tokens, like any plain text.
pub fn concatenate<'a>(contents: impl IntoIterator<Item = &'a str>) -> String {
    contents.into_iter().collect::<Vec<_>>().join("\n\n")
}

fn compiled(source: String) -> Result<Arc<JinjaTemplate>> {
    let template = caught(|| JinjaTemplate::new("chat", source, false)).map_err(TextError::Chat)?;
    template.map(Arc::new).map_err(|error| TextError::Chat(template_failure(&error)))
}

/// The templates among a tokenizer's files: the default one, and the one for conversations with tools.
fn sources(tokenizer: &Tokenizer) -> Result<(Option<String>, Option<String>)> {
    match tokenizer.files().get("chat_template.jinja") {
        Some(bytes) => Ok((Some(template_text("chat_template.jinja", bytes)?), None)),
        None => templates_of_config(&json_object(tokenizer.files(), "tokenizer_config.json")?),
    }
}

/// Decodes a template file.
///
/// # Errors
/// Bytes that are not UTF-8.
pub(super) fn template_text(file: &str, bytes: &[u8]) -> Result<String> {
    let bad = |error: std::str::Utf8Error| TextError::BadFile {
        file: file.into(),
        found: error.to_string(),
        expected: "UTF-8 text".into(),
    };
    Ok(std::str::from_utf8(bytes).map_err(bad)?.to_string())
}

/// The default template of a `tokenizer_config.json`, and the template for conversations with tools.
///
/// # Errors
/// A list without a `default`, a template that is not a text.
pub(super) fn templates_of_config(config: &serde_json::Value) -> Result<(Option<String>, Option<String>)> {
    let (default, tool_use) = match config.get("chat_template") {
        None | Some(serde_json::Value::Null) => return Ok((None, None)),
        Some(serde_json::Value::String(text)) => return Ok((Some(text.clone()), None)),
        Some(serde_json::Value::Array(list)) => (find_named(list, "default"), find_named(list, TOOL_USE)),
        Some(_) => (None, None),
    };
    let text = |entry: &serde_json::Value| entry.get("template")?.as_str().map(str::to_string);
    let bad = |found: &str| TextError::BadFile {
        file: "tokenizer_config.json".into(),
        found: found.into(),
        expected: "`chat_template` as a string or a list of {name, template} with one named \"default\"".into(),
    };
    let default = default.and_then(text).ok_or_else(|| bad("`chat_template` without a default template"))?;
    let tool_use = tool_use.map(|entry| text(entry).ok_or_else(|| bad("a template `tool_use` that is no text"))).transpose()?;
    Ok((Some(default), tool_use))
}

fn find_named<'l>(list: &'l [serde_json::Value], name: &str) -> Option<&'l serde_json::Value> {
    list.iter().find(|entry| entry.get("name").and_then(|found| found.as_str()) == Some(name))
}
