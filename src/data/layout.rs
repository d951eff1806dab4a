//! Which column is what: the habits of different tools, told apart by the names of their columns.
//!
//! | rows of | prompt | parts | chain | label |
//! |---|---|---|---|---|
//! | one's own | `prompt` | `instruction`, `question` or `prompt`, `response`, `reference`, `rubric` | `chain`, `feedback`, `rationale` | `score` |
//! | TRL | `prompt`, `messages` | | `completion`, the assistant's last message | `score` |
//! | verl | `prompt` | | | `reward_model.ground_truth` |
//! | Feedback Collection and Bench | `instruction` | `orig_*` | `orig_feedback`, `output` | `orig_score`, the end of `output` |
//! | Prometheus' evaluation files | `instruction` | its sections | `gpt4_feedback` | `gpt4_score`, one an annotator |

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::record::{Grading, Prompt, describe};
use super::{Result, Row};

/// The label's column, unless another is asked for.
pub(super) const SCORE: &str = "score";

/// Where the label lies in rows without `score`, in this order.
pub(super) const LABEL_PLACES: [&str; 4] = ["orig_score", "gpt4_score", "gpt4_scores", "reward_model.ground_truth"];

/// Columns that hold one score an annotator beside the label.
pub(super) const ANNOTATOR_COLUMNS: [&str; 4] = ["labels", "scores", "gpt4_scores", "gpt4_score"];

/// The column that stands for the rubric of `orig_criteria` and `orig_score1_description` and so on.
pub(super) const CRITERIA: &str = "orig_criteria";

/// Columns that hold a chain of thought and nothing else. Two of them in a row cannot both be meant.
const CHAIN_COLUMNS: [&str; 4] = ["chain", "feedback", "rationale", "completion"];

/// The words before the score in Prometheus' outputs and in the form of them that regression-aware training uses.
const BEFORE_THE_SCORE: [&str; 2] = ["[RESULT]", "So the overall score is"];

/// The columns in which the parts of a row were found.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Layout {
    /// The complete prompt.
    pub prompt: Option<&'static str>,
    /// What was asked.
    pub instruction: Option<&'static str>,
    /// What is to be judged.
    pub response: Option<&'static str>,
    /// An answer that would get the best score.
    pub reference: Option<&'static str>,
    /// What the scores mean.
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
pub(super) struct Parts {
    pub instruction: &'static str,
    pub response: &'static str,
    pub reference: &'static str,
    pub rubric: &'static str,
}

/// Columns of an answer that would get the best score.
const REFERENCES: [&str; 3] = ["reference", "reference_answer", "reference_answers"];

/// The columns that hold the parts; one of the two needed alone belongs to some other layout, which a template of one's
/// own may know. `chain` is the column that was named as the chain of thought.
pub(super) fn parts(row: &Row, chain: Option<&str>) -> Option<Parts> {
    let has = |field: &str| row.get(field).is_some() && chain != Some(field);
    // A `prompt` is what was asked where nothing else is: with a response beside it, it is no complete prompt.
    let asked = |field: &&str| has(field) && (*field != "prompt" || is_question(row.get("prompt")));
    if has("response")
        && let Some(instruction) = ["instruction", "question", "prompt"].into_iter().find(asked)
    {
        let reference = REFERENCES.into_iter().find(|field| has(field));
        return Some(Parts { instruction, response: "response", reference: reference.unwrap_or("reference"), rubric: "rubric" });
    }
    let original = has("orig_instruction") && has("orig_response");
    original.then_some(Parts {
        instruction: "orig_instruction",
        response: "orig_response",
        reference: "orig_reference_answer",
        rubric: CRITERIA,
    })
}

/// Whether a prompt is one question: a text, or one message. A longer conversation has no place among the parts.
fn is_question(prompt: Option<&Value>) -> bool {
    match prompt {
        Some(Value::String(_)) => true,
        Some(Value::Array(messages)) => messages.len() == 1,
        _ => false,
    }
}

/// The columns of a grading task that stand beside a complete prompt and that nothing was read from; none where the prompt holds
/// the texts of all of them already, as Prometheus' prompts do.
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
    let whole = match prompt {
        Prompt::Text(text) => words_of(text),
        Prompt::Messages(messages) => messages.iter().map(|message| words_of(message.content())).collect(),
    };
    let held = |column: &&str| row.get(column).and_then(Value::as_str).is_some_and(|text| whole.contains(&words_of(text)));
    if columns.iter().all(held) { Vec::new() } else { columns }
}

/// A text with one space before, between and behind its words.
fn words_of(text: &str) -> String {
    text.split_whitespace().fold(" ".to_string(), |words, word| words + word + " ")
}

/// Whether `instruction` is a complete prompt, as in the rows that Prometheus is trained and measured on.
pub(super) fn prompt_is_instruction(row: &Row) -> bool {
    let has = |field: &str| row.get(field).is_some();
    let ends_in_score = || row.get("output").and_then(Value::as_str).is_some_and(|text| without_score(text).1.is_some());
    has("instruction") && !has("response") && (has("orig_instruction") || has("gpt4_score") || ends_in_score())
}

/// `orig_criteria` with the description of each score.
pub(super) fn rubric(row: &Row) -> Result<Option<String>> {
    let Some(criteria) = row.text(CRITERIA)? else { return Ok(None) };
    let mut meanings = Vec::new();
    for score in 1..=10 {
        meanings.extend(row.text(&format!("orig_score{score}_description"))?.map(|meaning| (score.to_string(), meaning)));
    }
    Ok(Some(rubric_text(Some(&criteria), &meanings)))
}

/// A rubric that is an object: what each score means, by the score (`1`, `score1_description`, `Score 1`), and the `criteria`.
///
/// # Errors
/// A meaning that is no text; a key that holds no score.
pub(super) fn rubric_of(row: &Row, column: &str, meanings: &Map<String, Value>) -> Result<String> {
    let mut criteria = None;
    let mut scores = Vec::new();
    for (key, value) in meanings {
        let Value::String(meaning) = value else {
            return Err(row.fault(column, format!("`{key}` in it is {}", describe(value)), "make it a text"));
        };
        match (key.as_str(), score_in(key)) {
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
fn score_in(key: &str) -> Option<&str> {
    let key = key.trim();
    let behind = ["score", "Score"].into_iter().find_map(|word| key.strip_prefix(word)).unwrap_or(key);
    let score = behind.strip_suffix("_description").unwrap_or(behind).trim_matches([' ', '_', ':']);
    score.parse::<f64>().is_ok_and(f64::is_finite).then_some(score)
}

/// A rubric as Prometheus' prompts show it: the criteria in brackets, then a line a score.
fn rubric_text(criteria: Option<&str>, meanings: &[(String, String)]) -> String {
    let criteria = criteria.map(|text| format!("[{}]", text.trim().trim_start_matches('[').trim_end_matches(']')));
    let meanings = meanings.iter().map(|(score, meaning)| format!("Score {score}: {}", meaning.trim()));
    criteria.into_iter().chain(meanings).collect::<Vec<_>>().join("\n")
}

/// The parts out of the sections of a prompt of Prometheus' absolute grading.
pub(super) fn sections(row: &Row) -> Option<Grading> {
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

/// The column of the chain; `None` where there is none, or where it is the assistant's last message.
///
/// # Errors
/// Two columns that could be it.
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
    // An `output` may be anything; it is a judgement where the row is Prometheus' or it says its score.
    let output = prompt_is_instruction(row) || row.get("orig_instruction").is_some();
    let known = [("orig_feedback", true), ("output", output), ("gpt4_feedback", true)];
    Ok(known.into_iter().find(|(column, meant)| *meant && row.get(column).is_some()).map(|(column, _)| column))
}

/// The score that an answer ends in, and the answer's column (`None`: the assistant's last message).
pub(super) fn score_of_answer(row: &Row, answer: Option<&str>) -> Option<(Option<&'static str>, f64)> {
    let text = |column: &str| match row.get(column)? {
        Value::String(text) => Some(text.as_str()),
        Value::Array(list) => list.last()?.get("content")?.as_str(),
        _ => None,
    };
    let columns = ["output", "completion"].into_iter().map(|column| (Some(column), text(column)));
    columns.chain([(None, answer)]).find_map(|(column, text)| Some((column, without_score(text?).1?)))
}

/// A judgement without the score that it ends in, and that score.
pub(super) fn without_score(text: &str) -> (&str, Option<f64>) {
    let last = BEFORE_THE_SCORE.into_iter().filter_map(|words| Some((text.rfind(words)?, words))).max();
    let Some((at, words)) = last else { return (text, None) };
    let said = text[at + words.len()..].trim_matches(|c: char| c.is_whitespace() || ".!:*\"'()".contains(c));
    match said.parse::<f64>() {
        Ok(score) if score.is_finite() => (text[..at].trim_end(), Some(score)),
        _ => (text, None),
    }
}
