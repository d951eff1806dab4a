//! One row, and what a judge reads in it.

use std::borrow::Cow;
use std::sync::Arc;

use serde::Serialize;
use serde_json::{Map, Value};

use super::layout::{self, Layout};
use super::{DataError, Place, Result, shorten};

/// One row of a data file, every column kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The column `id` or `idx`, else the number of the line or row.
    pub id: String,
    /// The file's name, for messages.
    pub file: Arc<str>,
    /// Where in it the row begins.
    pub place: Place,
    /// All columns in their order.
    pub fields: Map<String, Value>,
}

/// How rows are to be read: which columns, and what must be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// The column of the label, or the way to it inside an object (`reward_model.ground_truth`). Where a row has no column
    /// `score`, the default, the places where other tools keep it are looked at.
    pub label_column: String,
    /// Whether each row must have a label.
    pub labels: Labels,
    /// The column of the chain of thought; `None` looks for `chain`, `feedback`, `rationale`, `completion`, the last
    /// message of an assistant, and Prometheus' `orig_feedback`, `output` and `gpt4_feedback`.
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
        View { label_column: layout::SCORE.into(), labels: Labels::Required, chain_column: None, chains: Chains::Use }
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
    /// The complete prompt, where the row has one.
    pub prompt: Option<Prompt>,
    /// The parts of an absolute grading task, where the row has them.
    pub grading: Option<Grading>,
    /// The chain of thought before the score, without a score that it ends in. Never blank.
    pub chain: Option<String>,
    /// The label: a finite number, not yet held against a scale. The mean, where several people gave scores.
    pub score: Option<f64>,
    /// The score of each annotator; the label alone where only that is known, empty without a label.
    pub scores: Vec<f64>,
    /// The columns that all this was read from.
    pub layout: Layout,
}

impl Record {
    /// The score that each annotator gave; one where only the label is known, none without a label.
    pub fn annotations(&self) -> &[f64] {
        &self.scores
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
    /// Where the row stands, as messages say it: `file:line`, or `file, row 3` in Parquet.
    pub fn place(&self) -> String {
        format!("{}{}", self.file, self.place)
    }

    /// An error about one of this row's fields.
    pub fn fault(&self, field: &str, found: impl Into<String>, fix: impl Into<String>) -> DataError {
        DataError::Field {
            file: self.file.to_string(),
            place: self.place,
            field: field.into(),
            found: found.into(),
            fix: fix.into(),
        }
    }

    /// What a judge reads in this row.
    ///
    /// - A prompt: `prompt` as a text; `prompt` or `messages` as a list of `{role, content}`; in a row of Prometheus' (with
    ///   `orig_instruction`, `gpt4_score`, or a score at the end of `output`), `instruction`.
    /// - Grading parts: `instruction` (or `question`) and `response`, with `reference`, `reference_answer` or
    ///   `reference_answers` and `rubric` where present; else Prometheus' `orig_*`; else the sections of its prompt.
    /// - A chain of thought: see [`View::chain_column`]. A score that it ends in ("[RESULT] 3", "So the overall score is 3.")
    ///   is cut off.
    /// - A label: [`View::label_column`]; without it and unless another was asked for, `orig_score`, `gpt4_score`, verl's
    ///   `reward_model.ground_truth`, or the score that an answer (`output`, `completion`, last message) ends in. A list
    ///   there, or in `labels`, `scores`, `gpt4_scores`, `gpt4_score` beside its mean, holds several annotators' scores.
    ///
    /// # Errors
    /// A missing or unusable label where required; recognised columns of another type; two columns that could both be the
    /// chain; an empty prompt; an answer that ends in another score than the label's column says.
    pub fn record(&self, view: &View) -> Result<Record> {
        let mut layout = Layout::default();
        let (prompt, answer) = self.prompt(&mut layout)?;
        let grading = self.grading(&mut layout)?;
        let (score, scores) = self.label(view, answer.as_deref(), &mut layout)?;
        let chain = match view.chains {
            Chains::Ignore => None,
            Chains::Use => self.chain(view, answer, score, &mut layout)?,
        };
        Ok(Record { prompt, grading, chain, score, scores, layout })
    }

    pub(super) fn get(&self, field: &str) -> Option<&Value> {
        self.fields.get(field).filter(|value| !value.is_null())
    }

    /// The column of this name, or else what lies at the end of a way with dots.
    fn at(&self, field: &str) -> Option<&Value> {
        self.fields.get(field).or_else(|| {
            let (first, rest) = field.split_once('.')?;
            rest.split('.').try_fold(self.fields.get(first)?, |value, key| value.get(key))
        })
    }

    /// A text column that may be absent or null.
    pub(super) fn text(&self, field: &str) -> Result<Option<String>> {
        match self.get(field) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(other) => Err(self.fault(field, describe(other), "make it a text")),
        }
    }

    /// The prompt, and the assistant's last message where the conversation already has one.
    fn prompt(&self, layout: &mut Layout) -> Result<(Option<Prompt>, Option<String>)> {
        if self.get("prompt").is_some() && self.get("messages").is_some() {
            return Err(self.fault("messages", "the row has a `prompt` too", "keep one of the two"));
        }
        let field = match (self.get("messages").is_some(), self.get("prompt").is_some()) {
            (true, _) => "messages",
            (_, true) => "prompt",
            _ if layout::prompt_is_instruction(self) => "instruction",
            _ => return Ok((None, None)),
        };
        layout.prompt = Some(field);
        // CSV has texts only.
        let parsed = match self.get(field) {
            Some(Value::String(text)) if field == "messages" => serde_json::from_str(text).ok(),
            _ => None,
        };
        match parsed.as_ref().or_else(|| self.get(field)) {
            None => Ok((None, None)),
            Some(Value::String(text)) if field != "messages" => {
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

    /// The parts of an absolute grading task.
    fn grading(&self, layout: &mut Layout) -> Result<Option<Grading>> {
        let Some(parts) = layout::parts(self) else {
            let Some(grading) = layout::sections(self) else { return Ok(None) };
            (layout.instruction, layout.response) = (Some("instruction"), Some("instruction"));
            layout.reference = grading.reference.as_ref().map(|_| "instruction");
            layout.rubric = grading.rubric.as_ref().map(|_| "instruction");
            return Ok(Some(grading));
        };
        let need = |field: &str| Ok(self.text(field)?.unwrap_or_default());
        let instruction: String = need(parts.instruction)?;
        if instruction.trim().is_empty() {
            return Err(self.fault(parts.instruction, "an empty text", "say what was asked, or drop the row"));
        }
        let filled = |text: &String| !text.trim().is_empty();
        let grading = Grading {
            instruction,
            // An empty response is a legitimate thing to judge.
            response: need(parts.response)?,
            reference: self.texts(parts.reference)?.filter(filled),
            rubric: match parts.rubric {
                layout::CRITERIA => layout::rubric(self)?,
                field => self.text(field)?.filter(filled),
            },
        };
        (layout.instruction, layout.response) = (Some(parts.instruction), Some(parts.response));
        layout.reference = grading.reference.as_ref().map(|_| parts.reference);
        layout.rubric = grading.rubric.as_ref().map(|_| parts.rubric);
        Ok(Some(grading))
    }

    /// A text, or several in a list, with a blank line between them.
    fn texts(&self, field: &str) -> Result<Option<String>> {
        match self.get(field) {
            Some(Value::Array(list)) if list.iter().all(Value::is_string) => {
                Ok(Some(list.iter().filter_map(Value::as_str).collect::<Vec<_>>().join("\n\n")))
            }
            _ => self.text(field),
        }
    }

    fn chain(&self, view: &View, answer: Option<String>, label: Option<f64>, layout: &mut Layout) -> Result<Option<String>> {
        let column = match &view.chain_column {
            Some(column) if !self.fields.contains_key(column) => {
                return Err(self.fault(column, "no such column", format!("the row has {}", self.columns())));
            }
            Some(column) => Some(Cow::Owned(column.clone())),
            None => layout::chain_column(self, answer.is_some())?.map(Cow::Borrowed),
        };
        let text = match &column {
            None => answer,
            Some(column) => self.chain_text(column, label)?,
        };
        let Some(text) = text else { return Ok(None) };
        let (chain, _) = layout::without_score(&text);
        if chain.trim().is_empty() {
            return Ok(None);
        }
        layout.chain = column.or(layout.prompt.map(Cow::Borrowed));
        Ok(Some(chain.to_string()))
    }

    /// A chain is a text, or (TRL's `completion`) a list with one message, or (Prometheus' `gpt4_feedback`) a list of texts,
    /// one an annotator: then it is the text of the first annotator whose score is nearest to the label.
    fn chain_text(&self, column: &str, label: Option<f64>) -> Result<Option<String>> {
        match self.get(column) {
            Some(list @ Value::Array(items)) if items.first().is_some_and(Value::is_object) => {
                let mut messages = self.messages(column, list)?;
                if messages.len() != 1 {
                    return Err(self.fault(column, format!("{} messages", messages.len()), "keep the assistant's one message"));
                }
                Ok(messages.pop().map(|message| message.content))
            }
            Some(Value::Array(items)) if !items.is_empty() && items.iter().all(Value::is_string) => {
                let scores = self.companion().map(|(_, scores)| scores).unwrap_or_default();
                let far = |index: usize| match (scores.get(index), label) {
                    (Some(score), Some(label)) => (score - label).abs(),
                    _ => 0.0,
                };
                let nearest = (0..items.len()).min_by(|a, b| far(*a).total_cmp(&far(*b))).unwrap_or(0);
                Ok(items[nearest].as_str().map(str::to_string))
            }
            _ => self.text(column),
        }
    }

    /// The label, and every annotator's score.
    fn label(&self, view: &View, answer: Option<&str>, layout: &mut Layout) -> Result<(Option<f64>, Vec<f64>)> {
        let column = view.label_column.as_str();
        let absent = |value: &&Value| value.is_null() || value.as_str().is_some_and(|text| text.trim().is_empty());
        let present = |column: &str| self.at(column).filter(|value| !absent(value)).is_some();
        let place = if present(column) {
            Some(Cow::Owned(column.to_string()))
        } else if column == layout::SCORE {
            layout::LABEL_PLACES.into_iter().find(|place| present(place)).map(Cow::Borrowed)
        } else {
            None
        };
        let Some(place) = place else {
            if column == layout::SCORE
                && let Some((place, score)) = layout::score_of_answer(self, answer)
            {
                layout.label = Some(Cow::Borrowed(place.or(layout.prompt).unwrap_or("messages")));
                return Ok((Some(score), vec![score]));
            }
            let found = match self.at(column) {
                _ if view.labels == Labels::Optional => return Ok((None, Vec::new())),
                None => "no such column",
                Some(Value::Null) => "null",
                Some(_) => "an empty text",
            };
            let fix = format!("name the label's column with --label-column; the row has {}", self.columns());
            return Err(self.fault(column, found, fix));
        };
        let value = self.at(&place).unwrap_or(&Value::Null);
        let mut scores = self.numbers(&place, value)?;
        let mean = scores.iter().sum::<f64>() / scores.len() as f64;
        if scores.len() > 1 {
            layout.annotators = Some(place.clone());
        } else if column == layout::SCORE
            && let Some((companion, several)) = self.companion()
        {
            // Only a list whose mean the label is can be what it was made from; two decimals may have been kept.
            let their_mean = several.iter().sum::<f64>() / several.len() as f64;
            if several.len() > 1 && (their_mean - mean).abs() < 0.006 {
                layout.annotators = Some(Cow::Borrowed(companion));
                scores = several;
            }
        }
        if place == "orig_score"
            && let Some(("output", said)) = layout::score_of_answer(self, None).map(|(column, said)| (column.unwrap_or(""), said))
            && said != mean
        {
            let found = format!("it ends in the score {said}, and `orig_score` is {mean}");
            return Err(self.fault("output", found, "correct one of the two, or drop the row"));
        }
        layout.label = Some(place);
        Ok((Some(mean), scores))
    }

    /// The scores of several annotators in a column beside the label.
    fn companion(&self) -> Option<(&'static str, Vec<f64>)> {
        let list = |column: &&str| self.get(column).is_some_and(|value| value.as_array().is_some_and(|list| !list.is_empty()));
        let column = layout::ANNOTATOR_COLUMNS.into_iter().find(list)?;
        // A list of anything but numbers under such a name is somebody else's.
        Some((column, self.numbers(column, self.get(column)?).ok()?))
    }

    /// A number, a numeric text, or a list of those. Never empty.
    fn numbers(&self, column: &str, value: &Value) -> Result<Vec<f64>> {
        let listed = match value {
            Value::Array(_) => Some(value.clone()),
            // CSV has texts only.
            Value::String(text) if text.trim_start().starts_with('[') => serde_json::from_str(text).ok(),
            _ => None,
        };
        match listed.as_ref().and_then(Value::as_array) {
            Some(list) if !list.is_empty() => list.iter().map(|item| self.number(column, item)).collect(),
            _ => Ok(vec![self.number(column, value)?]),
        }
    }

    fn number(&self, column: &str, value: &Value) -> Result<f64> {
        let number = match value {
            Value::Number(number) => number.as_f64(),
            Value::String(text) => text.trim().parse::<f64>().ok(),
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
