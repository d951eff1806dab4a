//! One row, and what a judge reads in it.

use std::borrow::Cow;
use std::sync::Arc;

use serde::Serialize;
use serde_json::{Map, Value};

use super::column_names::{self, Layout};
use super::pairs::pairing;
use super::scores::{LabelWords, ScoreValue, as_list, mean_score, no_words, score_in};
use super::written::with_member;
use super::{DataError, Result, RowPosition, list_names, shorten};

/// One row of a data file with every column.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The column `id` or `idx`, else the number of the line or row.
    pub id: String,
    /// The file's name, for messages.
    pub file: Arc<str>,
    /// Where the row begins in the file.
    pub position: RowPosition,
    /// All columns in their order. A whole number beyond 64 bits is kept as a text of its digits.
    pub fields: Map<String, Value>,
    /// The row's JSON on one line with the original text of every value, where `fields` would be written differently (`1.50`,
    /// `1e3`, an escaped letter).
    pub written: Option<Box<str>>,
}

/// The columns to read, and which of them are required.
#[derive(Clone, Debug, PartialEq)]
pub struct ColumnOptions {
    /// The column of the label, or its path inside an object (`reward_model.ground_truth`). With the default `score`, rows
    /// without that column are searched for the columns of other tools.
    pub label_column: String,
    /// Whether each row must have a label.
    pub labels: Labels,
    /// The column of the chain of thought; `None` searches for `chain`, `feedback`, `rationale`, `completion`, the last message
    /// of an assistant, and Prometheus' `orig_feedback`, `output` and `gpt4_feedback`.
    pub chain_column: Option<String>,
    /// Whether chains are read at all.
    pub chains: Chains,
    /// What labels that are words stand for.
    pub words: LabelWords,
    /// Whether the label of a row with two responses is its preference, where it has no other label: 1 if the first response
    /// is better, 0 if the second is, 1/2 for a tie.
    pub pairs: bool,
}

/// Whether rows must carry a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Labels {
    /// For training and evaluation: a missing label is an error.
    Required,
    /// For scoring: a label is read where present, and null counts as missing.
    Optional,
    /// No label is read.
    Ignored,
}

/// Whether chains of thought are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chains {
    /// Read them where present.
    Use,
    /// Ignore them: the judge will write its own.
    Ignore,
}

impl Default for ColumnOptions {
    fn default() -> Self {
        ColumnOptions {
            label_column: column_names::SCORE.into(),
            labels: Labels::Required,
            chain_column: None,
            chains: Chains::Use,
            words: LabelWords::default(),
            pairs: false,
        }
    }
}

impl ColumnOptions {
    /// For scoring: labels optional, chains ignored.
    pub fn for_scoring() -> Self {
        ColumnOptions { labels: Labels::Optional, chains: Chains::Ignore, ..ColumnOptions::default() }
    }
}

/// What a judge reads in a row.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// The complete prompt, where the row has one.
    pub prompt: Option<Prompt>,
    /// The parts of an absolute grading task, where the row has them.
    pub grading: Option<Grading>,
    /// The chain of thought without a score at its end. Never blank.
    pub chain: Option<String>,
    /// The label: a finite number, not yet compared with a scale. The mean where several annotators gave scores.
    pub score: Option<f64>,
    /// The score of each annotator; only the label where no others are known; empty without a label.
    pub scores: Vec<f64>,
    /// The columns from which these parts were read.
    pub layout: Layout,
    /// Variables for the chat template beside the messages: `tools` and `documents`, as lists.
    pub chat_variables: Map<String, Value>,
    /// Columns of a grading task beside a complete prompt that does not contain them.
    pub beside_prompt: Vec<&'static str>,
}

impl Record {
    /// The score of each annotator; one entry where only the label is known, empty without a label.
    pub fn annotations(&self) -> &[f64] {
        &self.scores
    }
}

/// A complete prompt.
#[derive(Clone, Debug, PartialEq)]
pub enum Prompt {
    /// One text.
    Text(String),
    /// A conversation that the judge answers.
    Messages(Vec<Message>),
}

/// One message of a conversation as a chat template receives it: every field in its order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Message {
    fields: Map<String, Value>,
}

impl Message {
    /// A message with these fields: `role` is a text; `content` is a text, or null beside tool calls; other fields are passed to
    /// the chat template.
    pub fn new(fields: Map<String, Value>) -> Self {
        Message { fields }
    }

    /// "system", "user", "assistant", "tool", or another role of the chat template.
    pub fn role(&self) -> &str {
        self.text("role")
    }

    /// The text; empty where the message has none (only tool calls).
    pub fn content(&self) -> &str {
        self.text("content")
    }

    /// The first field with content beside the text, such as `tool_calls`.
    pub fn beside_text(&self) -> Option<&'static str> {
        const CONTENT_FIELDS: [&str; 6] =
            ["tool_calls", "function_call", "reasoning_content", "reasoning", "thinking", "tool_call_id"];
        CONTENT_FIELDS.into_iter().find(|field| self.fields.get(*field).is_some_and(|value| !is_empty(value)))
    }

    fn text(&self, field: &str) -> &str {
        self.fields.get(field).and_then(Value::as_str).unwrap_or_default()
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.trim().is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// Whether a chain that ends in the score `stated` contradicts its row's label: `stated` is neither the label nor an annotator's
/// score, nor adjacent to a fractional label (a mean).
pub fn contradicts(stated: f64, label: f64, annotators: &[f64]) -> bool {
    let adjacent = label.fract() != 0.0 && (stated - label).abs() < 1.0;
    stated != label && !adjacent && !annotators.contains(&stated)
}

/// The parts of an absolute grading task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Grading {
    /// The task given to the model that is judged.
    pub instruction: String,
    /// The response to judge.
    pub response: String,
    /// An answer that would get the best score (`reference` or `reference_answer`).
    pub reference: Option<String>,
    /// The meaning of the scores.
    pub rubric: Option<String>,
}

impl Row {
    /// The row's location for messages: `file:line`, or `file, row 3` in Parquet.
    pub fn location(&self) -> String {
        format!("{}{}", self.file, self.position)
    }

    /// The row as one line of JSON, with every value as it was written.
    pub fn to_json(&self) -> String {
        match &self.written {
            Some(text) => text.to_string(),
            None => Value::Object(self.fields.clone()).to_string(),
        }
    }

    /// [`Row::to_json`] with the column `column` appended, replacing a column of the same name. `value` is JSON.
    pub fn with_column(&self, column: &str, value: &Value) -> String {
        with_member(&self.to_json(), column, &value.to_string())
    }

    /// An error about one of this row's fields.
    pub fn fault(&self, field: &str, found: impl Into<String>, fix: impl Into<String>) -> DataError {
        DataError::Field {
            file: self.file.to_string(),
            position: self.position,
            field: field.into(),
            found: found.into(),
            fix: fix.into(),
        }
    }

    /// What a judge reads in this row.
    ///
    /// - A prompt: `prompt` as a text; `prompt` or `messages` as a list of messages (`role`, `content`, and whatever else the
    ///   chat template reads); `instruction` in a Prometheus row (one with `orig_instruction`, `gpt4_score`, or a score at the
    ///   end of `output`). `tools` and `documents` belong to it.
    /// - Grading parts: `instruction` (or `question`, or `prompt` where neither exists) and `response`, with `reference`,
    ///   `reference_answer` or `reference_answers` and `rubric` where present; else Prometheus' `orig_*`; else the sections of
    ///   its prompt. A `prompt` that serves as the instruction is not a complete prompt.
    /// - A chain of thought: see [`ColumnOptions::chain_column`]. A score at its end ("[RESULT] 3", "So the overall score is 3.") is
    ///   removed.
    /// - A label: [`ColumnOptions::label_column`]. Where it is missing and the default, `orig_score`, `gpt4_score`, verl's
    ///   `reward_model.ground_truth`, or the score at the end of an answer (`output`, `completion`, last message). A list there,
    ///   or in `labels`, `scores`, `gpt4_scores`, `gpt4_score` beside its mean, holds the scores of several annotators; missing
    ///   ones (null, NaN, an empty text) are ignored.
    ///
    /// # Errors
    /// A missing or unusable label where required; recognised columns of another type; two possible columns of the chain; an
    /// empty prompt; a chain or answer whose final score differs from the label's column; a label that contradicts its
    /// annotators.
    pub fn record(&self, options: &ColumnOptions) -> Result<Record> {
        let mut layout = Layout::default();
        let parts = column_names::part_columns(self, options.chain_column.as_deref());
        let graded = parts.as_ref().is_some_and(|parts| parts.instruction == "prompt");
        let (prompt, answer) = if graded { (None, None) } else { self.prompt(&mut layout)? };
        let grading = self.grading(parts, &mut layout)?;
        let answer_text = answer.as_ref().map(Message::content);
        let (score, scores) = self.label(options, answer_text, &mut layout)?;
        let chain = match options.chains {
            Chains::Ignore => None,
            Chains::Use => self.chain(options, answer, score.map(|score| (score, scores.as_slice())), &mut layout)?,
        };
        let beside_prompt = prompt.as_ref().map(|prompt| column_names::beside_prompt(self, &layout, prompt)).unwrap_or_default();
        Ok(Record { prompt, grading, chain, score, scores, chat_variables: self.chat_variables()?, layout, beside_prompt })
    }

    /// Variables for the chat template. CSV and some JSON contain them as JSON text.
    fn chat_variables(&self) -> Result<Map<String, Value>> {
        let mut variables = Map::new();
        for column in ["tools", "documents"] {
            let parsed = self.get(column).and_then(Value::as_str).map(serde_json::from_str::<Value>);
            let value = match (&parsed, self.get(column)) {
                (Some(Ok(value)), _) => value,
                (Some(Err(_)), _) | (None, None) => continue,
                (None, Some(value)) => value,
            };
            // Other values under these names have another meaning.
            if value.as_array().is_some_and(|list| !list.is_empty() && list.iter().all(Value::is_object)) {
                variables.insert(column.into(), value.clone());
            }
        }
        Ok(variables)
    }

    pub(super) fn get(&self, field: &str) -> Option<&Value> {
        self.fields.get(field).filter(|value| !value.is_null())
    }

    /// The column of this name, or else the value at the dotted path.
    pub(super) fn lookup(&self, field: &str) -> Option<&Value> {
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

    /// The prompt, and the assistant's last message if the conversation ends with one.
    fn prompt(&self, layout: &mut Layout) -> Result<(Option<Prompt>, Option<Message>)> {
        if self.get("prompt").is_some() && self.get("messages").is_some() {
            return Err(self.fault("messages", "the row has a `prompt` too", "keep one of the two"));
        }
        let field = match (self.get("messages").is_some(), self.get("prompt").is_some()) {
            (true, _) => "messages",
            (_, true) => "prompt",
            _ if column_names::prompt_is_instruction(self) => "instruction",
            _ => return Ok((None, None)),
        };
        layout.prompt = Some(field);
        // CSV cells are texts.
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
                let answered = messages.last().is_some_and(|last| last.role() == "assistant");
                let answer = if answered { messages.pop() } else { None };
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

    pub(super) fn messages(&self, field: &str, list: &Value) -> Result<Vec<Message>> {
        let items = list.as_array().map(Vec::as_slice).unwrap_or_default();
        if items.is_empty() {
            return Err(self.fault(field, "an empty list", "give at least one message {\"role\", \"content\"}"));
        }
        items.iter().enumerate().map(|(index, item)| self.message(field, index + 1, item)).collect()
    }

    /// A message with its content as one text; `number` counts from 1.
    fn message(&self, field: &str, number: usize, item: &Value) -> Result<Message> {
        let unfit = |key: &str| {
            let found = item.get(key).map_or("nothing".to_string(), describe);
            self.fault(field, format!("`{key}` of message {number} is {found}"), "make it a text")
        };
        let Some(Value::String(_)) = item.get("role") else { return Err(unfit("role")) };
        let mut fields = item.as_object().cloned().unwrap_or_default();
        match item.get("content") {
            Some(Value::String(_)) => {}
            Some(Value::Array(parts)) if parts.iter().all(|part| part.get("type").is_some()) => {
                fields["content"] = self.join_parts(field, number, parts)?.into();
            }
            None | Some(Value::Null) if Message::new(fields.clone()).beside_text().is_some() => {}
            _ => return Err(unfit("content")),
        }
        Ok(Message::new(fields))
    }

    /// Joins the parts of a content, all of them texts, without a separator.
    fn join_parts<'p>(&self, field: &str, number: usize, parts: &'p [Value]) -> Result<String> {
        let text = |(index, part): (usize, &'p Value)| {
            let kind = part.get("type").and_then(Value::as_str).unwrap_or_default();
            match part.get("text") {
                Some(Value::String(text)) if ["text", "input_text", "output_text"].contains(&kind) => Ok(text.as_str()),
                _ => {
                    let found = format!("part {} of message {number} is of the type \"{}\"", index + 1, shorten(kind, 40));
                    Err(self.fault(field, found, "keep parts {\"type\": \"text\", \"text\": ...}: a judge reads text alone"))
                }
            }
        };
        parts.iter().enumerate().map(text).collect()
    }

    /// The parts of an absolute grading task.
    fn grading(&self, columns: Option<column_names::PartColumns>, layout: &mut Layout) -> Result<Option<Grading>> {
        let Some(parts) = columns else {
            let Some(grading) = column_names::parse_sections(self) else { return Ok(None) };
            (layout.instruction, layout.response) = (Some("instruction"), Some("instruction"));
            layout.reference = grading.reference.as_ref().map(|_| "instruction");
            layout.rubric = grading.rubric.as_ref().map(|_| "instruction");
            return Ok(Some(grading));
        };
        let need = |field: &str| Ok(self.text(field)?.unwrap_or_default());
        let instruction: String = match parts.instruction {
            "prompt" => self.prompt_as_instruction()?,
            field => need(field)?,
        };
        if instruction.trim().is_empty() {
            return Err(self.fault(parts.instruction, "an empty text", "say what was asked, or drop the row"));
        }
        let filled = |text: &String| !text.trim().is_empty();
        let grading = Grading {
            instruction,
            // An empty response may be judged too.
            response: need(parts.response)?,
            reference: self.texts(parts.reference)?.filter(filled),
            rubric: match parts.rubric {
                column_names::CRITERIA => column_names::rubric_from_columns(self)?,
                field => self.rubric(field)?.filter(filled),
            },
        };
        (layout.instruction, layout.response) = (Some(parts.instruction), Some(parts.response));
        layout.reference = grading.reference.as_ref().map(|_| parts.reference);
        layout.rubric = grading.rubric.as_ref().map(|_| parts.rubric);
        Ok(Some(grading))
    }

    /// A `prompt` that serves as the instruction: a text, or one message.
    fn prompt_as_instruction(&self) -> Result<String> {
        match self.get("prompt") {
            Some(list @ Value::Array(_)) => {
                let messages = self.messages("prompt", list)?;
                if let Some(field) = messages.iter().find_map(Message::beside_text) {
                    let found = format!("the message has `{field}`, which is no part of an instruction");
                    return Err(self.fault("prompt", found, "put its text into `content`, or drop the field"));
                }
                Ok(messages.first().map(|one| one.content().to_string()).unwrap_or_default())
            }
            _ => Ok(self.text("prompt")?.unwrap_or_default()),
        }
    }

    /// A rubric: a text, or an object with the meaning of each score, converted to the form of Prometheus' prompts.
    pub(super) fn rubric(&self, field: &str) -> Result<Option<String>> {
        match self.get(field) {
            Some(Value::Object(meanings)) => Ok(Some(column_names::rubric_from_object(self, field, meanings)?)),
            Some(Value::String(text)) if text.trim_start().starts_with('{') => match serde_json::from_str(text) {
                Ok(meanings) => Ok(Some(column_names::rubric_from_object(self, field, &meanings)?)),
                Err(_) => Ok(Some(text.clone())),
            },
            _ => self.text(field),
        }
    }

    /// A text, or a list of texts joined by blank lines.
    pub(super) fn texts(&self, field: &str) -> Result<Option<String>> {
        match self.get(field) {
            Some(Value::Array(list)) if list.iter().all(Value::is_string) => {
                Ok(Some(list.iter().filter_map(Value::as_str).collect::<Vec<_>>().join("\n\n")))
            }
            _ => self.text(field),
        }
    }

    /// The chain without the score at its end. That score must not contradict the label and its annotators.
    fn chain(
        &self,
        options: &ColumnOptions,
        answer: Option<Message>,
        label: Option<(f64, &[f64])>,
        layout: &mut Layout,
    ) -> Result<Option<String>> {
        let column = match &options.chain_column {
            Some(column) if !self.fields.contains_key(column) => {
                return Err(self.fault(column, "no such column", format!("the row has {}", self.columns())));
            }
            Some(column) => Some(Cow::Owned(column.clone())),
            None => column_names::chain_column(self, answer.is_some())?.map(Cow::Borrowed),
        };
        let text = match (&column, answer) {
            (Some(column), _) => self.chain_text(column, label.map(|(label, _)| label))?,
            (None, None) => None,
            (None, Some(answer)) => Some(self.answer_text(&answer, layout)?),
        };
        let Some(text) = text else { return Ok(None) };
        let column = column.or(layout.prompt.map(Cow::Borrowed));
        let (chain, stated) = column_names::without_score(&text);
        if let (Some(stated), Some((label, annotators))) = (stated, label)
            && contradicts(stated, label, annotators)
        {
            let label_column = layout.label.as_deref().unwrap_or(column_names::SCORE);
            let found = format!("it ends in the score {stated}, and `{label_column}` is {label}");
            return Err(self.fault(column.as_deref().unwrap_or("chain"), found, "correct one of the two, or drop the row"));
        }
        if chain.trim().is_empty() {
            return Ok(None);
        }
        layout.chain = column;
        Ok(Some(chain.to_string()))
    }

    /// The text of the assistant's last message.
    fn answer_text(&self, answer: &Message, layout: &Layout) -> Result<String> {
        match answer.beside_text() {
            None => Ok(answer.content().to_string()),
            Some(field) => {
                let found = format!("the assistant's last message has `{field}`, which is no part of a chain of thought");
                let fix = "put its text into `content`, let the messages end before it, or name another --chain-column";
                Err(self.fault(layout.prompt.unwrap_or("messages"), found, fix))
            }
        }
    }

    /// The text of a chain: a text, or (TRL's `completion`) a list with one message, or (Prometheus' `gpt4_feedback`) a list with
    /// one text per annotator. Of such a list, the text of the first annotator whose score is nearest to the label.
    fn chain_text(&self, column: &str, label: Option<f64>) -> Result<Option<String>> {
        match self.get(column) {
            Some(list @ Value::Array(items)) if items.first().is_some_and(Value::is_object) => {
                let mut messages = self.messages(column, list)?;
                if messages.len() != 1 {
                    return Err(self.fault(column, format!("{} messages", messages.len()), "keep the assistant's one message"));
                }
                messages.pop().map(|message| self.answer_text(&message, &Layout::default())).transpose()
            }
            Some(Value::Array(items)) if !items.is_empty() && items.iter().all(Value::is_string) => {
                let scores = self.annotator_scores().map(|(_, scores)| scores).unwrap_or_default();
                let distance = |index: usize| match (scores.get(index), label) {
                    (Some(Some(score)), Some(label)) => (score - label).abs(),
                    (Some(None), _) => f64::INFINITY,
                    _ => 0.0,
                };
                let nearest = (0..items.len()).min_by(|a, b| distance(*a).total_cmp(&distance(*b))).unwrap_or(0);
                Ok(items[nearest].as_str().map(str::to_string))
            }
            _ => self.text(column),
        }
    }

    /// The label, and every annotator's score.
    fn label(&self, options: &ColumnOptions, answer: Option<&str>, layout: &mut Layout) -> Result<(Option<f64>, Vec<f64>)> {
        if options.labels == Labels::Ignored {
            return Ok((None, Vec::new()));
        }
        let column = options.label_column.as_str();
        let optional = options.labels == Labels::Optional;
        let absent = |value: &&Value| match value {
            Value::String(text) => text.trim().is_empty() || (optional && score_in(value, &no_words) == ScoreValue::Missing),
            other => other.is_null(),
        };
        let present = |column: &str| self.lookup(column).filter(|value| !absent(value)).is_some();
        let label_column = if present(column) {
            Some(Cow::Owned(column.to_string()))
        } else if column == column_names::SCORE {
            column_names::LABEL_COLUMNS.into_iter().find(|label_column| present(label_column)).map(Cow::Borrowed)
        } else {
            None
        };
        let Some(label_column) = label_column else {
            if let (true, Some(pair)) = (options.pairs && column == column_names::SCORE, pairing(self)?)
                && let (Some(preference), Some(label)) = (pair.preference, pair.label)
            {
                layout.label = Some(Cow::Borrowed(label));
                return Ok((Some(preference), vec![preference]));
            }
            if column == column_names::SCORE
                && let Some((answer_column, score)) = column_names::score_of_answer(self, answer)
            {
                layout.label = Some(Cow::Borrowed(answer_column.or(layout.prompt).unwrap_or("messages")));
                return Ok((Some(score), vec![score]));
            }
            let found = match self.lookup(column) {
                _ if options.labels == Labels::Optional => return Ok((None, Vec::new())),
                None => "no such column",
                Some(Value::Null) => "null",
                Some(_) => "an empty text",
            };
            let two = if !options.pairs && pairing(self)?.is_some() {
                "compare its two responses with --template pair, or "
            } else {
                ""
            };
            let fix = format!("{two}name the label's column with --label-column; the row has {}", self.columns());
            return Err(self.fault(column, found, fix));
        };
        let value = self.lookup(&label_column).unwrap_or(&Value::Null);
        let mut scores: Vec<f64> = self.numbers(&label_column, value, &options.words)?.into_iter().flatten().collect();
        if scores.is_empty() {
            let fault = || self.fault(&label_column, describe(value), options.words.instead_of(value) + ", or a list of them");
            return if optional { Ok((None, Vec::new())) } else { Err(fault()) };
        }
        let mean = mean_score(&scores);
        if scores.len() > 1 {
            layout.annotators = Some(label_column.clone());
        } else if column == column_names::SCORE
            && let Some((scores_column, several)) = self.annotator_scores()
            && scores_column != label_column
        {
            let several: Vec<f64> = several.into_iter().flatten().collect();
            let their_mean = mean_score(&several);
            // The mean may have been rounded to two decimals. If the label is not the mean of the scores (a median, a majority, a
            // label on another scale), the label stands alone.
            if several.len() > 1 && (their_mean - mean).abs() < ROUNDING {
                layout.annotators = Some(Cow::Borrowed(scores_column));
                scores = several;
            }
        }
        if (label_column == "orig_score" || (column == column_names::SCORE && options.chains == Chains::Use))
            && let Some((answer_column, stated)) = column_names::score_of_answer(self, answer)
            && contradicts(stated, mean, &scores)
        {
            let found = format!("it ends in the score {stated}, and `{label_column}` is {mean}");
            let field = answer_column.or(layout.prompt).unwrap_or("messages");
            return Err(self.fault(field, found, "correct one of the two, or drop the row"));
        }
        layout.label = Some(label_column);
        Ok((Some(mean), scores))
    }

    /// The scores of several annotators in a column beside the label; `None` for a missing score.
    fn annotator_scores(&self) -> Option<(&'static str, Vec<Option<f64>>)> {
        let list = |column: &&str| self.get(column).and_then(as_list).is_some_and(|list| !list.is_empty());
        let column = column_names::ANNOTATOR_COLUMNS.into_iter().find(list)?;
        // A list of anything but numbers under such a name has another meaning.
        Some((column, self.numbers(column, self.get(column)?, &LabelWords::default()).ok()?))
    }

    /// A number, a numeric text, a word, or a list of these in which some may be missing.
    fn numbers(&self, column: &str, value: &Value, words: &LabelWords) -> Result<Vec<Option<f64>>> {
        let unfit = |value: &Value| self.fault(column, describe(value), words.instead_of(value));
        let number = |item: &Value| match score_in(item, &|word| words.value_of(word)) {
            ScoreValue::Score(score) => Ok(Some(score)),
            ScoreValue::Missing => Ok(None),
            ScoreValue::Other => Err(unfit(item)),
        };
        match as_list(value) {
            Some(list) => list.iter().map(number).collect(),
            None => match number(value)? {
                Some(score) => Ok(vec![Some(score)]),
                None => Err(unfit(value)),
            },
        }
    }

    fn columns(&self) -> String {
        list_names(self.fields.keys().map(|name| format!("`{}`", shorten(name, 40))))
    }
}

/// The largest rounding error of a mean of annotators.
const ROUNDING: f64 = 0.006;

/// A JSON value for messages: its type and its beginning.
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
