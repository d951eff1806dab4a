//! Requests as prompts: rows, conversations and plain texts as tokens.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::error::{ApiError, ApiResult};
use crate::data::{Chains, ColumnOptions, Example, Labels, Reader, split_rows};
use crate::judge::{CalibratedRow, JudgePrompt, JudgeSettings, PairWay, PromptTokens, Result, ScoreTokens, Template};
use crate::text::Tokenizer;

/// How a judge's prompts are made.
#[derive(Clone)]
pub struct Prompts {
    pub settings: JudgeSettings,
    pub tokenizer: Arc<Tokenizer>,
    pub score_tokens: ScoreTokens,
    /// The judge's own template.
    own: JudgePrompt,
    /// A conversation as it is.
    plain: JudgePrompt,
    /// A text as it is, without a chat template.
    raw: JudgePrompt,
}

impl Prompts {
    /// The prompts of a judge.
    ///
    /// # Errors
    /// Settings that do not fit the tokenizer.
    pub fn new(settings: JudgeSettings, tokenizer: Tokenizer) -> Result<Self> {
        let own = settings.prompt(&tokenizer)?;
        let with = |chat: bool| {
            let mut prompt = JudgePrompt::new(Template::Plain, &settings.phrase, settings.scale.clone(), chat, &tokenizer)?;
            prompt.chat_options.date = settings.date;
            Ok::<_, crate::judge::JudgeError>(prompt)
        };
        let (plain, raw) = (with(settings.chat)?, with(false)?);
        let score_tokens = own.score_tokens(&tokenizer)?;
        Ok(Prompts { own, plain, raw, score_tokens, settings, tokenizer: Arc::new(tokenizer) })
    }

    /// What the judge is: its scale, the columns that it reads, its chains. The page makes its forms of it.
    pub fn about(&self) -> Value {
        self.own.about(&self.settings).into()
    }

    /// Whether the judge's template reads a column.
    pub fn reads(&self, column: &str) -> bool {
        self.own.columns().iter().any(|own| own.name == column)
    }

    /// Tokens of the phrase and the score, at most.
    pub fn ending_tokens(&self) -> usize {
        let phrase = self.score_tokens.stem.len().max(self.score_tokens.opening.len());
        let score = (0..self.settings.scale.len()).map(|score| self.score_tokens.path(score).len()).max().unwrap_or(0);
        phrase + score
    }

    /// Whether a prompt is the one for which the judge may be calibrated: its own, or one that does the same.
    fn is_own(&self, prompt: &JudgePrompt) -> bool {
        let plain = self.settings.template() == Template::Plain;
        let same = std::ptr::eq(prompt, &self.plain) || (std::ptr::eq(prompt, &self.raw) && !self.settings.chat);
        std::ptr::eq(prompt, &self.own) || (plain && same)
    }

    fn tokens(&self, prompt: &JudgePrompt, example: &Example, given_chains: bool) -> ApiResult<PromptTokens> {
        let failed = |e: crate::judge::JudgeError| ApiError::bad(without_line(&e.to_string()));
        let (ids, ends_in_space) = prompt.prompt(example, &self.tokenizer).map_err(failed)?;
        let chain = match given_chains {
            false => None,
            true => {
                let chain = example.record.chain.as_deref().unwrap_or_default();
                Some(prompt.chain_ids(chain, ends_in_space, &self.tokenizer).map_err(failed)?)
            }
        };
        let calibrated = if self.is_own(prompt) { self.settings.calibrated_row(example) } else { CalibratedRow::Other };
        Ok(PromptTokens { ids, ends_in_space, chain, place: example.row.file.to_string(), calibrated })
    }

    /// Rows in any layout that `jurist score` reads, through the judge's own template. Each row has its own error.
    pub fn rows(&self, texts: &[String], given_chains: bool) -> Vec<ApiResult<PromptTokens>> {
        let row = |(n, text): (usize, &String)| {
            let name = if texts.len() == 1 { "the row".to_string() } else { format!("row {}", n + 1) };
            self.tokens(&self.own, &read(&name, text, given_chains)?, given_chains)
        };
        texts.iter().enumerate().map(row).collect()
    }

    /// Rows with two responses: how this judge judges them, and the two prompts of each. Each row has its own error.
    ///
    /// # Errors
    /// A template that reads no response.
    pub fn pairs(&self, texts: &[String]) -> ApiResult<(PairWay, Vec<ApiResult<[PromptTokens; 2]>>)> {
        let way = PairWay::of(&self.own).map_err(|e| ApiError::bad(e.to_string()))?;
        let row = |(n, text): (usize, &String)| {
            let name = if texts.len() == 1 { "the row".to_string() } else { format!("row {}", n + 1) };
            let failed = |e: crate::data::DataError| ApiError::bad(without_line(&e.to_string()));
            let columns = ColumnOptions { labels: Labels::Ignored, ..ColumnOptions::for_scoring() };
            let [first, second] = way.rows(&read_with(&name, text, columns)?).map_err(failed)?;
            Ok([self.tokens(&self.own, &first, false)?, self.tokens(&self.own, &second, false)?])
        };
        Ok((way, texts.iter().enumerate().map(row).collect()))
    }

    /// A conversation. Where `metadata` has the columns of the judge's template, these are judged through it; else the messages
    /// are the whole prompt.
    ///
    /// # Errors
    /// Messages that cannot be read; some columns of the template without the others.
    pub fn conversation(
        &self,
        messages: &Value,
        tools: Option<&Value>,
        metadata: Option<&Map<String, Value>>,
    ) -> ApiResult<PromptTokens> {
        if let Some(fields) = self.fields(metadata)? {
            let example = read("metadata", &Value::Object(fields).to_string(), false)?;
            return self.tokens(&self.own, &example, false);
        }
        let mut row = json!({ "messages": with_system(messages)? });
        if let Some(tools) = tools {
            row["tools"] = tools.clone();
        }
        self.tokens(&self.plain, &read("the request", &row.to_string(), false)?, false)
    }

    /// The columns of the judge's template in a request's metadata; `None` where there are none.
    fn fields(&self, metadata: Option<&Map<String, Value>>) -> ApiResult<Option<Map<String, Value>>> {
        let Some(metadata) = metadata.filter(|_| self.settings.template() != Template::Plain) else { return Ok(None) };
        let columns = self.own.columns();
        let named = |name: &str| metadata.get(name).is_some_and(|value| !value.is_null());
        let needed: Vec<&str> = columns.iter().filter(|c| !c.optional).map(|c| c.name.as_str()).collect();
        let there: Vec<&str> = needed.iter().copied().filter(|name| named(name)).collect();
        if there.is_empty() {
            return Ok(None);
        }
        match needed.iter().find(|name| !named(name)) {
            None => Ok(Some(metadata.clone())),
            Some(absent) => {
                let message = format!(
                    "`metadata` has `{}`, which the judge's template reads, but no `{absent}`; give all of {}, or none to have the \
                     messages judged as they are",
                    there.join("`, `"),
                    needed.join(", ")
                );
                Err(ApiError::field("metadata", message))
            }
        }
    }

    /// A text as it is, as `/v1/completions` has it.
    ///
    /// # Errors
    /// A text that is empty or cannot be encoded.
    pub fn text(&self, text: &str) -> ApiResult<PromptTokens> {
        self.tokens(&self.raw, &read("the prompt", &json!({ "prompt": text }).to_string(), false)?, false)
    }

    /// A prompt of tokens.
    ///
    /// # Errors
    /// Tokens outside the vocabulary.
    pub fn ids(&self, ids: Vec<u32>) -> ApiResult<PromptTokens> {
        let failed = |e: crate::text::TextError| ApiError::field("prompt", e.to_string());
        let vocabulary = self.tokenizer.vocab_size();
        if let Some(unknown) = ids.iter().find(|id| **id as usize >= vocabulary) {
            return Err(ApiError::field("prompt", format!("token {unknown} is not in the vocabulary of {vocabulary} tokens")));
        }
        let last = &ids[ids.len().saturating_sub(8)..];
        let ends_in_space = self.tokenizer.decode(last, true).map_err(failed)?.ends_with(char::is_whitespace);
        let (place, calibrated) = ("the prompt".into(), CalibratedRow::Other);
        Ok(PromptTokens { ids, ends_in_space, chain: None, place, calibrated })
    }

    /// The text of tokens, without special ones.
    ///
    /// # Errors
    /// Tokens that cannot be decoded.
    pub fn decode(&self, ids: &[u32]) -> ApiResult<String> {
        self.tokenizer.decode(ids, true).map_err(|e| ApiError::new(axum::http::StatusCode::INTERNAL_SERVER_ERROR, e.to_string()))
    }
}

/// The rows of a body: one object, an array, or JSON Lines.
///
/// # Errors
/// A text that is none of them.
pub fn rows_of(text: &str) -> ApiResult<Vec<String>> {
    split_rows("the body", text).map_err(|e| ApiError::bad(e.to_string()))
}

/// One row. Messages call it `name`.
fn read(name: &str, text: &str, given_chains: bool) -> ApiResult<Example> {
    let chains = if given_chains { Chains::Use } else { Chains::Ignore };
    read_with(name, text, ColumnOptions { labels: Labels::Optional, chains, ..ColumnOptions::default() })
}

fn read_with(name: &str, text: &str, columns: ColumnOptions) -> ApiResult<Example> {
    let failed = |e: crate::data::DataError| ApiError::bad(without_line(&e.to_string()));
    let rows = Reader { columns, ..Reader::default() }.read_str(name, &format!("[{text}]")).map_err(failed)?;
    match <[Example; 1]>::try_from(rows.examples) {
        Ok([example]) => Ok(example),
        Err(rows) => Err(ApiError::bad(format!("{name}: {} objects; expected one", rows.len()))),
    }
}

/// A row of a request has no line number.
fn without_line(error: &str) -> String {
    error.replacen(":1: ", ": ", 1)
}

/// The messages, a developer's as the system's. The last one has to be answered.
fn with_system(messages: &Value) -> ApiResult<Value> {
    let bad = |message: String| ApiError::field("messages", message);
    let Some(list) = messages.as_array().filter(|list| !list.is_empty()) else {
        return Err(bad("`messages` is no list of messages; expected [{\"role\": \"user\", \"content\": \"...\"}]".into()));
    };
    let mut list = list.clone();
    for message in &mut list {
        if message.get("role").and_then(Value::as_str) == Some("developer") {
            message["role"] = "system".into();
        }
    }
    if list.last().and_then(|last| last.get("role")).and_then(Value::as_str) == Some("assistant") {
        return Err(bad(
            "the last message is the assistant's; a judge answers a user's message, and does not continue its own".into()
        ));
    }
    Ok(Value::Array(list))
}
