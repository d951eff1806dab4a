//! Recognises the columns of different tools by their names.
//!
//! | rows of | prompt | parts | chain | label |
//! |---|---|---|---|---|
//! | one's own | `prompt` | `instruction`, `question` or `prompt`, `response`, `reference`, `rubric_from_columns` | `chain`, `feedback`, `rationale` | `score` |
//! | TRL | `prompt`, `messages` | | `completion`, the assistant's last message | `score` |
//! | verl | `prompt` | | | `reward_model.ground_truth` |
//! | Feedback Collection and Bench | `instruction` | `orig_*` | `orig_feedback`, `output` | `orig_score`, the end of `output` |
//! | Prometheus' evaluation files | `instruction` | its sections | `gpt4_feedback` | `gpt4_score`, one an annotator |

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::record::{Grading, Prompt, describe};
use super::{Result, Row};

/// The default column of the label.
pub(super) const SCORE: &str = "score";

/// Columns of the label in rows without `score`, in order of preference.
pub(super) const LABEL_COLUMNS: [&str; 4] = ["orig_score", "gpt4_score", "gpt4_scores", "reward_model.ground_truth"];

/// Columns that hold one score per annotator beside the label.
pub(super) const ANNOTATOR_COLUMNS: [&str; 4] = ["labels", "scores", "gpt4_scores", "gpt4_score"];

/// The column that represents the rubric made of `orig_criteria`, `orig_score1_description` and so on.
pub(super) const CRITERIA: &str = "orig_criteria";

/// Columns that hold only a chain of thought. Two of them in one row are ambiguous.
const CHAIN_COLUMNS: [&str; 4] = ["chain", "feedback", "rationale", "completion"];

/// The words before the score in Prometheus' outputs, and in their variant for regression-aware training.
const SCORE_PHRASES: [&str; 2] = ["[RESULT]", "So the overall score is"];

/// The columns in which the parts of a row were found.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Layout {
    /// The complete prompt.
    pub prompt: Option<&'static str>,
    /// The task given to the model that is judged.
    pub instruction: Option<&'static str>,
    /// The response to judge.
    pub response: Option<&'static str>,
    /// An answer that would get the best score.
    pub reference: Option<&'static str>,
    /// The meaning of the scores.
    pub rubric: Option<&'static str>,
    /// The chain of thought.
    pub chain: Option<Cow<'static, str>>,
    /// The label.
    pub label: Option<Cow<'static, str>>,
    /// The scores of several annotators.
    pub annotators: Option<Cow<'static, str>>,
}

impl Layout {
    /// Each part that was found, with its column.
    pub fn parts(&self) -> impl Iterator<Item = (&'static str, &str)> {
        [
            ("prompt", self.prompt),
            ("instruction", self.instruction),
            ("response", self.response),
            ("reference", self.reference),
            ("rubric", self.rubric),
            ("chain", self.chain.as_deref()),
            ("label", self.label.as_deref()),
            ("annotators", self.annotators.as_deref()),
        ]
        .into_iter()
        .filter_map(|(part, column)| Some((part, column?)))
    }
}

/// The columns of the parts of a grading task.
pub(super) struct PartColumns {
    pub instruction: &'static str,
    pub response: &'static str,
    pub reference: &'static str,
    pub rubric: &'static str,
}

/// Columns of an answer that would get the best score.
const REFERENCES: [&str; 3] = ["reference", "reference_answer", "reference_answers"];

/// The columns of the parts. A row with only one of instruction and response has another layout, which a custom template may
/// read. `chain` is the column named as the chain of thought.
pub(super) fn part_columns(row: &Row, chain: Option<&str>) -> Option<PartColumns> {
    let has = |field: &str| row.get(field).is_some() && chain != Some(field);
    // A `prompt` is the instruction where no other column is. Beside a response it is not a complete prompt.
    let is_instruction = |field: &&str| has(field) && (*field != "prompt" || is_question(row.get("prompt")));
    if has("response")
        && let Some(instruction) = ["instruction", "question", "prompt"].into_iter().find(is_instruction)
    {
        let reference = REFERENCES.into_iter().find(|field| has(field));
        return Some(PartColumns {
            instruction,
            response: "response",
            reference: reference.unwrap_or("reference"),
            rubric: "rubric",
        });
    }
    let original = has("orig_instruction") && has("orig_response");
    original.then_some(PartColumns {
        instruction: "orig_instruction",
        response: "orig_response",
        reference: "orig_reference_answer",
        rubric: CRITERIA,
    })
}

/// Whether a prompt is a single question: a text, or one message. A longer conversation does not fit the parts.
fn is_question(prompt: Option<&Value>) -> bool {
    match prompt {
        Some(Value::String(_)) => true,
        Some(Value::Array(messages)) => messages.len() == 1,
        _ => false,
    }
}

/// The columns of a grading task beside a complete prompt from which nothing was read. Empty if the prompt already contains all
/// their texts, as Prometheus' prompts do.
pub(super) fn beside_prompt(row: &Row, layout: &Layout, prompt: &Prompt) -> Vec<&'static str> {
    if layout.prompt == Some("instruction") {
        return Vec::new();
    }
    let filled = |column: &&str| match row.get(column) {
        Some(Value::String(text)) => !text.trim().is_empty(),
        value => value.is_some(),
    };
    let read = |column: &str| [&layout.chain, &layout.label].into_iter().flatten().any(|known| known == column);
    let columns: Vec<_> =
        ["response", "rubric"].into_iter().chain(REFERENCES).filter(filled).filter(|column| !read(column)).collect();
    if columns.is_empty() {
        return columns;
    }
    let prompt_words = match prompt {
        Prompt::Text(text) => spaced_words(text),
        Prompt::Messages(messages) => messages.iter().map(|message| spaced_words(message.content())).collect(),
    };
    let contained =
        |column: &&str| row.get(column).and_then(Value::as_str).is_some_and(|text| prompt_words.contains(&spaced_words(text)));
    if columns.iter().all(contained) { Vec::new() } else { columns }
}

/// A text with single spaces before, between and after its words.
fn spaced_words(text: &str) -> String {
    text.split_whitespace().fold(" ".to_string(), |words, word| words + word + " ")
}

/// Whether `instruction` is a complete prompt, as in the rows on which Prometheus is trained and evaluated.
pub(super) fn prompt_is_instruction(row: &Row) -> bool {
    let has = |field: &str| row.get(field).is_some();
    let ends_in_score = || row.get("output").and_then(Value::as_str).is_some_and(|text| without_score(text).1.is_some());
    has("instruction") && !has("response") && (has("orig_instruction") || has("gpt4_score") || ends_in_score())
}

/// The rubric of `orig_criteria` and the description of each score.
pub(super) fn rubric_from_columns(row: &Row) -> Result<Option<String>> {
    let Some(criteria) = row.text(CRITERIA)? else { return Ok(None) };
    let mut meanings = Vec::new();
    for score in 1..=10 {
        meanings.extend(row.text(&format!("orig_score{score}_description"))?.map(|meaning| (score.to_string(), meaning)));
    }
    Ok(Some(rubric_text(Some(&criteria), &meanings)))
}

/// The rubric of an object that maps each score (`1`, `score1_description`, `Score 1`) to its meaning, with an optional
/// `criteria`.
///
/// # Errors
/// A meaning that is not a text; a key that does not name a score.
pub(super) fn rubric_from_object(row: &Row, column: &str, meanings: &Map<String, Value>) -> Result<String> {
    let mut criteria = None;
    let mut scores = Vec::new();
    for (key, value) in meanings {
        let Value::String(meaning) = value else {
            return Err(row.fault(column, format!("`{key}` in it is {}", describe(value)), "make it a text"));
        };
        match (key.as_str(), score_of_key(key)) {
            ("criteria" | "criterion" | "description", _) if criteria.is_none() => criteria = Some(meaning.as_str()),
            (_, Some(score)) => scores.push((score.to_string(), meaning.clone())),
            _ => {
                let found = format!("the key `{}` in it names no score", super::shorten(key, 40));
                return Err(row.fault(
                    column,
                    found,
                    "give what each score means by its score, and `criteria`; or make it a text",
                ));
            }
        }
    }
    if scores.is_empty() && criteria.is_none() {
        return Err(row.fault(column, "the object {}", "make it a text"));
    }
    Ok(rubric_text(criteria, &scores))
}

/// The score that a key of a rubric names.
fn score_of_key(key: &str) -> Option<&str> {
    let key = key.trim();
    let number = ["score", "Score"].into_iter().find_map(|word| key.strip_prefix(word)).unwrap_or(key);
    let score = number.strip_suffix("_description").unwrap_or(number).trim_matches([' ', '_', ':']);
    score.parse::<f64>().is_ok_and(f64::is_finite).then_some(score)
}

/// A rubric in the form of Prometheus' prompts: the criteria in brackets, then one line per score.
fn rubric_text(criteria: Option<&str>, meanings: &[(String, String)]) -> String {
    let criteria = criteria.map(|text| format!("[{}]", text.trim().trim_start_matches('[').trim_end_matches(']')));
    let meanings = meanings.iter().map(|(score, meaning)| format!("Score {score}: {}", meaning.trim()));
    criteria.into_iter().chain(meanings).collect::<Vec<_>>().join("\n")
}

/// Extracts the parts from the sections of a Prometheus prompt for absolute grading.
pub(super) fn parse_sections(row: &Row) -> Option<Grading> {
    if !prompt_is_instruction(row) {
        return None;
    }
    let prompt = row.get("instruction")?.as_str()?;
    let (_, rest) = prompt.split_once("###The instruction to evaluate:")?;
    let (instruction, rest) = rest.split_once("###Response to evaluate:")?;
    let rest = rest.rsplit_once("###Feedback:").map_or(rest, |(rest, _)| rest);
    let (rest, rubric) = match rest.split_once("###Score Rubrics:") {
        Some((rest, rubric)) => (rest, Some(rubric)),
        None => (rest, None),
    };
    let (response, reference) = match rest.split_once("###Reference Answer (Score 5):") {
        Some((response, reference)) => (response, Some(reference)),
        None => (rest, None),
    };
    let filled = |text: Option<&str>| text.map(|text| text.trim().to_string()).filter(|text| !text.is_empty());
    Some(Grading {
        instruction: filled(Some(instruction))?,
        response: response.trim().to_string(),
        reference: filled(reference),
        rubric: filled(rubric),
    })
}

/// The column of the chain; `None` where the row has none, or where the chain is the assistant's last message.
///
/// # Errors
/// Two possible columns.
pub(super) fn chain_column(row: &Row, answered: bool) -> Result<Option<&'static str>> {
    let present: Vec<&'static str> = CHAIN_COLUMNS.into_iter().filter(|column| row.get(column).is_some()).collect();
    let also_answered = answered && !present.is_empty();
    if present.len() > 1 || also_answered {
        let other = if also_answered { "the assistant's last message" } else { present[1] };
        let found = format!("`{other}` could be the chain of thought too");
        return Err(row.fault(present[0], found, "say which with --chain-column"));
    }
    if answered || !present.is_empty() {
        return Ok(present.first().copied());
    }
    // An `output` may be anything. It is a judgement if the row is Prometheus' or if it states a score.
    let output = prompt_is_instruction(row) || row.get("orig_instruction").is_some();
    let known = [("orig_feedback", true), ("output", output), ("gpt4_feedback", true)];
    Ok(known.into_iter().find(|(column, applies)| *applies && row.get(column).is_some()).map(|(column, _)| column))
}

/// The score at the end of an answer, and the answer's column (`None`: the assistant's last message).
pub(super) fn score_of_answer(row: &Row, answer: Option<&str>) -> Option<(Option<&'static str>, f64)> {
    let text = |column: &str| match row.get(column)? {
        Value::String(text) => Some(text.as_str()),
        Value::Array(list) => list.last()?.get("content")?.as_str(),
        _ => None,
    };
    let columns = ["output", "completion"].into_iter().map(|column| (Some(column), text(column)));
    columns.chain([(None, answer)]).find_map(|(column, text)| Some((column, without_score(text?).1?)))
}

/// Splits a judgement into its text without the final score, and that score.
pub(super) fn without_score(text: &str) -> (&str, Option<f64>) {
    let last = SCORE_PHRASES.into_iter().filter_map(|phrase| Some((text.rfind(phrase)?, phrase))).max();
    let Some((start, phrase)) = last else { return (text, None) };
    let number = text[start + phrase.len()..].trim_matches(|c: char| c.is_whitespace() || ".!:*\"'()".contains(c));
    match number.parse::<f64>() {
        Ok(score) if score.is_finite() => (text[..start].trim_end(), Some(score)),
        _ => (text, None),
    }
}
