//! One row, and what a judge reads in it.

use std::sync::Arc;

use serde::Serialize;
use serde_json::{Map, Value};

use super::{DataError, Result, shorten};

/// Columns that hold a chain of thought, by habit of different tools.
const CHAIN_COLUMNS: [&str; 4] = ["chain", "feedback", "rationale", "completion"];

/// One row of a data file, every column kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The column `id` or `idx`, else the line number.
    pub id: String,
    /// The file's name, for messages.
    pub file: Arc<str>,
    /// The line where the row begins, from 1.
    pub line: usize,
    /// All columns in their order.
    pub fields: Map<String, Value>,
}

/// How rows are to be read: which columns, and what must be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// The column of the label.
    pub label_column: String,
    /// Whether each row must have a label.
    pub labels: Labels,
    /// The column of the chain of thought; `None` looks for `chain`, `feedback`, `rationale`, `completion`, or the
    /// last message of an assistant.
    pub chain_column: Option<String>,
    /// Whether chains are read at all.
    pub chains: Chains,
}

/// Whether rows must carry a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Labels {
    /// Training and evaluation: no label is an error.
    Required,
    /// Scoring: a label is read where there is one, and null is as good as none.
    Optional,
}

/// Whether chains of thought are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chains {
    /// Read them where they are.
    Use,
    /// The judge will write its own; a column of that name is left alone.
    Ignore,
}

impl Default for View {
    fn default() -> Self {
        View { label_column: "score".into(), labels: Labels::Required, chain_column: None, chains: Chains::Use }
    }
}

impl View {
    /// For scoring: labels optional, chains ignored.
    pub fn for_scoring() -> Self {
        View { labels: Labels::Optional, chains: Chains::Ignore, ..View::default() }
    }
}

/// What a judge reads in a row.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// The complete prompt, where the row has one (column `prompt` or `messages`).
    pub prompt: Option<Prompt>,
    /// The parts of an absolute grading task, where the row has them.
    pub grading: Option<Grading>,
    /// The chain of thought before the score. Never blank.
    pub chain: Option<String>,
    /// The label: a finite number, not yet held against a scale.
    pub score: Option<f64>,
}

impl Record {
    /// What several annotators said; empty where there is one label.
    pub fn annotations(&self) -> &[f64] {
        &[]
    }
}

/// A complete prompt.
#[derive(Clone, Debug, PartialEq)]
pub enum Prompt {
    /// One text.
    Text(String),
    /// A conversation that the judge answers next.
    Messages(Vec<Message>),
}

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Message {
    /// "system", "user", "assistant", or what the chat template knows.
    pub role: String,
    /// The text.
    pub content: String,
}

/// The parts of an absolute grading task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Grading {
    /// What was asked.
    pub instruction: String,
    /// What is to be judged.
    pub response: String,
    /// An answer that would get the best score (`reference` or `reference_answer`).
    pub reference: Option<String>,
    /// What the scores mean.
    pub rubric: Option<String>,
}

impl Row {
    /// Where the row stands, as messages say it: `file:line`.
    pub fn place(&self) -> String {
        format!("{}:{}", self.file, self.line)
    }

    /// An error about one of this row's fields.
    pub fn fault(&self, field: &str, found: impl Into<String>, fix: impl Into<String>) -> DataError {
        DataError::Field {
            file: self.file.to_string(),
            line: self.line,
            field: field.into(),
            found: found.into(),
            fix: fix.into(),
        }
    }

    /// What a judge reads in this row.
    ///
    /// Layouts: `prompt` as a text; `prompt` or `messages` as a list of `{role, content}`; `instruction` and `response` with
    /// optional `reference` (or `reference_answer`) and `rubric`. A row may have both a prompt and the parts. Where
    /// `messages` (or a list in `completion`) ends with the assistant, that message is the chain.
    ///
    /// # Errors
    /// A missing or unusable label where required; recognised columns of another type; two columns that could both be the
    /// chain; an empty prompt.
    pub fn record(&self, view: &View) -> Result<Record> {
        let (prompt, answer) = self.prompt()?;
        Ok(Record { prompt, grading: self.grading()?, chain: self.chain(view, answer)?, score: self.score(view)? })
    }

    fn get(&self, field: &str) -> Option<&Value> {
        self.fields.get(field).filter(|value| !value.is_null())
    }

    /// A text column that may be absent or null.
    fn text(&self, field: &str) -> Result<Option<String>> {
        match self.get(field) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(other) => Err(self.fault(field, describe(other), "make it a text")),
        }
    }

    /// The prompt, and the assistant's last message where the conversation already has one.
    fn prompt(&self) -> Result<(Option<Prompt>, Option<String>)> {
        if self.get("prompt").is_some() && self.get("messages").is_some() {
            return Err(self.fault("messages", "the row has a `prompt` too", "keep one of the two"));
        }
        let field = if self.get("messages").is_some() { "messages" } else { "prompt" };
        match self.get(field) {
            None => Ok((None, None)),
            Some(Value::String(text)) if field == "prompt" => {
                if text.trim().is_empty() {
                    return Err(self.fault(field, "an empty text", "give the judge something to read, or drop the row"));
                }
                Ok((Some(Prompt::Text(text.clone())), None))
            }
            Some(list @ Value::Array(_)) => {
                let mut messages = self.messages(field, list)?;
                let answered = messages.last().is_some_and(|last| last.role == "assistant");
                let answer = if answered { messages.pop().map(|last| last.content) } else { None };
                if messages.is_empty() {
                    return Err(self.fault(field, "no message before the assistant's", "start with a user's message"));
                }
                Ok((Some(Prompt::Messages(messages)), answer))
            }
            Some(other) => {
                Err(self.fault(field, describe(other), "make it a list of {\"role\", \"content\"}, or (`prompt`) a text"))
            }
        }
    }

    fn messages(&self, field: &str, list: &Value) -> Result<Vec<Message>> {
        let items = list.as_array().map(Vec::as_slice).unwrap_or_default();
        if items.is_empty() {
            return Err(self.fault(field, "an empty list", "give at least one message {\"role\", \"content\"}"));
        }
        let text = |index: usize, item: &Value, key: &str| match item.get(key) {
            Some(Value::String(text)) => Ok(text.clone()),
            found => {
                let found = found.map_or("nothing".to_string(), describe);
                Err(self.fault(field, format!("`{key}` of message {} is {found}", index + 1), "make it a text"))
            }
        };
        let message = |(index, item)| Ok(Message { role: text(index, item, "role")?, content: text(index, item, "content")? });
        items.iter().enumerate().map(message).collect()
    }

    fn grading(&self) -> Result<Option<Grading>> {
        let (instruction, response) = (self.get("instruction").is_some(), self.get("response").is_some());
        // One of the two alone belongs to some other layout, which a template of one's own may know.
        if !(instruction && response) {
            return Ok(None);
        }
        let need = |field: &str| Ok(self.text(field)?.unwrap_or_default());
        let instruction: String = need("instruction")?;
        if instruction.trim().is_empty() {
            return Err(self.fault("instruction", "an empty text", "say what was asked, or drop the row"));
        }
        let reference = if self.get("reference").is_some() { "reference" } else { "reference_answer" };
        let filled = |text: &String| !text.trim().is_empty();
        Ok(Some(Grading {
            instruction,
            // An empty response is a legitimate thing to judge.
            response: need("response")?,
            reference: self.text(reference)?.filter(filled),
            rubric: self.text("rubric")?.filter(filled),
        }))
    }

    fn chain(&self, view: &View, answer: Option<String>) -> Result<Option<String>> {
        if view.chains == Chains::Ignore {
            return Ok(None);
        }
        let chain = match &view.chain_column {
            Some(column) => {
                if !self.fields.contains_key(column) {
                    return Err(self.fault(column, "no such column", format!("the row has {}", self.columns())));
                }
                self.chain_text(column)?
            }
            None => {
                let present: Vec<&str> = CHAIN_COLUMNS.into_iter().filter(|column| self.get(column).is_some()).collect();
                let also_answered = answer.is_some() && !present.is_empty();
                if present.len() > 1 || also_answered {
                    let other = if also_answered { "the assistant's last message" } else { present[1] };
                    let found = format!("`{other}` could be the chain of thought too");
                    return Err(self.fault(present[0], found, "say which with --chain-column"));
                }
                match present.first() {
                    Some(column) => self.chain_text(column)?,
                    None => answer,
                }
            }
        };
        Ok(chain.filter(|chain| !chain.trim().is_empty()))
    }

    /// A chain is a text, or (TRL's `completion`) a list with one message.
    fn chain_text(&self, column: &str) -> Result<Option<String>> {
        match self.get(column) {
            Some(list @ Value::Array(items)) if items.first().is_some_and(Value::is_object) => {
                let mut messages = self.messages(column, list)?;
                if messages.len() != 1 {
                    return Err(self.fault(column, format!("{} messages", messages.len()), "keep the assistant's one message"));
                }
                Ok(messages.pop().map(|message| message.content))
            }
            _ => self.text(column),
        }
    }

    fn score(&self, view: &View) -> Result<Option<f64>> {
        let column = view.label_column.as_str();
        let missing = |found: &str| match view.labels {
            Labels::Optional => Ok(None),
            Labels::Required => Err(self.fault(
                column,
                found,
                format!("name the label's column with --label-column; the row has {}", self.columns()),
            )),
        };
        match self.fields.get(column) {
            None => missing("no such column"),
            Some(Value::Null) => missing("null"),
            Some(value) => self.number(column, value).map(Some),
        }
    }

    /// A number, a numeric text, or a list of those (several annotators: their mean).
    fn number(&self, column: &str, value: &Value) -> Result<f64> {
        let number = match value {
            Value::Number(number) => number.as_f64(),
            Value::String(text) => text.trim().parse::<f64>().ok(),
            Value::Array(list) if !list.is_empty() => {
                let sum: f64 = list.iter().map(|item| self.number(column, item)).sum::<Result<f64>>()?;
                Some(sum / list.len() as f64)
            }
            _ => None,
        };
        number.filter(|number| number.is_finite()).ok_or_else(|| self.fault(column, describe(value), "make it a finite number"))
    }

    fn columns(&self) -> String {
        let names: Vec<String> = self.fields.keys().take(20).map(|name| format!("`{}`", shorten(name, 40))).collect();
        if names.is_empty() { "no column at all".into() } else { names.join(", ") }
    }
}

/// A JSON value as a message shows it: its type and its beginning.
pub(super) fn describe(value: &Value) -> String {
    let kind = match value {
        Value::Null => return "null".into(),
        Value::Bool(_) => "the truth value",
        Value::Number(_) => "the number",
        Value::String(_) => "the text",
        Value::Array(_) => "the list",
        Value::Object(_) => "the object",
    };
    format!("{kind} {}", shorten(&value.to_string(), 40))
}
