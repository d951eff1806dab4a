//! Pairs: rows with two responses to one instruction.
//!
//! | rows of | instruction | responses | preference |
//! |---|---|---|---|
//! | one's own | `instruction`, `question` or `prompt` | `response_a`, `response_b` | `preference`, `preferred` or `winner` |
//! | Preference Collection and Bench | `orig_instruction` | `orig_response_A`, `orig_response_B` | `orig_preference` |
//! | RewardBench, TRL | `prompt`, or the messages before the answer | `chosen`, `rejected` | `chosen` is better |
//!
//! In the last layout the order says which response is better. Where a judge would read them in this order, they are put into one
//! that depends on their texts alone, so that the better one comes first in half of the rows.

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::record::describe;
use super::{Message, Record, Result, Row};

/// The columns of the parts of a pair in prompts: instruction, responses, reference and rubric.
pub const PAIR_COLUMNS: [&str; 5] = ["instruction", "response_a", "response_b", "reference", "rubric"];

/// Columns that say of a row with two responses which is better, or belong to a judgement of both.
const JUDGED: [&str; 15] = [
    "preference",
    "preferred",
    "winner",
    "score",
    "chain",
    "feedback",
    "rationale",
    "completion",
    "output",
    "orig_feedback",
    "orig_feedback_A",
    "orig_feedback_B",
    "orig_preference",
    "orig_score_A",
    "orig_score_B",
];

/// A layout of pairs.
struct PairLayout {
    responses: [&'static str; 2],
    instructions: &'static [&'static str],
    /// Columns of the preference; none where the first response is the better one.
    preferences: &'static [&'static str],
    references: &'static [&'static str],
    rubric: &'static str,
}

/// The known layouts, in the order in which they are looked for.
const LAYOUTS: [PairLayout; 3] = [
    PairLayout {
        responses: ["response_a", "response_b"],
        instructions: &["instruction", "question", "prompt"],
        preferences: &["preference", "preferred", "winner"],
        references: &["reference", "reference_answer", "reference_answers"],
        rubric: "rubric",
    },
    PairLayout {
        responses: ["orig_response_A", "orig_response_B"],
        instructions: &["orig_instruction"],
        preferences: &["orig_preference"],
        references: &["orig_reference_answer"],
        rubric: super::column_names::CRITERIA,
    },
    PairLayout {
        responses: ["chosen", "rejected"],
        instructions: &["instruction", "question", "prompt"],
        preferences: &[],
        references: &["reference", "reference_answer", "reference_answers"],
        rubric: "rubric",
    },
];

/// Two responses to one instruction.
#[derive(Clone, Debug, PartialEq)]
pub struct Pairing {
    /// The task given to the models that are compared; `None` where a row of one's own does not say it.
    pub instruction: Option<String>,
    /// The responses, in the order in which a judge reads them.
    pub responses: [String; 2],
    /// Their columns.
    pub columns: [&'static str; 2],
    /// An answer that would be a good one.
    pub reference: Option<String>,
    /// What decides which response is better.
    pub rubric: Option<String>,
    /// 1 where the first response is better, 0 where the second is, 1/2 for a tie, or the share of people who prefer the first.
    pub preference: Option<f64>,
    /// The column of the preference.
    pub label: Option<&'static str>,
}

/// The pair in a row; `None` if the row has none.
///
/// # Errors
/// A recognised column that cannot be read.
pub fn pairing(row: &Row) -> Result<Option<Pairing>> {
    let has = |column: &&str| row.get(column).is_some();
    let Some(layout) = LAYOUTS.iter().find(|layout| layout.responses.iter().all(has)) else { return Ok(None) };
    let [first, second] = layout.responses;
    let (mut responses, before) = match layout.preferences {
        [] => {
            let (chosen, before) = answer(row, first)?;
            let (rejected, other) = answer(row, second)?;
            if before != other {
                let fix = "a pair has two answers to one conversation: let both begin with the same messages";
                return Err(row.fault(second, "its messages before the answer are not those of `chosen`", fix));
            }
            ([chosen, rejected], before)
        }
        _ => ([text(row, first)?, text(row, second)?], None),
    };
    let column = layout.instructions.iter().find(|column| has(column));
    let instruction = match (column, before) {
        (Some(&"prompt"), _) => Some(asked(row)?),
        (Some(column), _) => row.text(column)?,
        (None, Some(before)) => Some(before),
        // A template over columns of one's own may not read it; one that does names what is absent.
        (None, None) if layout.responses == ["response_a", "response_b"] => None,
        (None, None) => {
            let fix = format!("give it one of {}", layout.instructions.join(", "));
            return Err(row.fault(layout.instructions[0], "a pair of responses without what was asked", fix));
        }
    };
    if instruction.as_ref().is_some_and(|text| text.trim().is_empty()) {
        let fix = "say what was asked, or drop the row";
        return Err(row.fault(column.unwrap_or(&first), "an empty text", fix));
    }
    let filled = |text: &String| !text.trim().is_empty();
    let reference = layout.references.iter().find(|column| has(column)).map(|column| row.texts(column)).transpose()?.flatten();
    let rubric = match layout.rubric {
        super::column_names::CRITERIA => super::column_names::rubric_from_columns(row)?,
        column => row.rubric(column)?,
    };
    let label = layout.preferences.iter().find(|column| has(column)).copied();
    let (mut preference, label) = match label {
        None if layout.preferences.is_empty() => (Some(1.0), Some(first)),
        None => (None, None),
        Some(column) => (preference(row, column, layout.responses)?, Some(column)),
    };
    let mut columns = layout.responses;
    if layout.preferences.is_empty() && second_first(instruction.as_deref().unwrap_or_default(), &responses) {
        responses.reverse();
        columns.reverse();
        preference = preference.map(|first| 1.0 - first);
    }
    Ok(Some(Pairing {
        instruction,
        responses,
        columns,
        reference: reference.filter(filled),
        rubric: rubric.filter(filled),
        preference,
        label,
    }))
}

/// A coin that depends on the texts alone.
fn second_first(instruction: &str, responses: &[String; 2]) -> bool {
    let mut hash = Sha256::new();
    for text in [instruction, &responses[0], &responses[1]] {
        hash.update(text.as_bytes());
        hash.update([0]);
    }
    hash.finalize()[0] & 1 == 1
}

/// A response: a text.
fn text(row: &Row, column: &str) -> Result<String> {
    Ok(row.text(column)?.unwrap_or_default())
}

/// The answer in `chosen` or `rejected`: a text, or the last message of a conversation; and the text before it, if there is any.
fn answer(row: &Row, column: &str) -> Result<(String, Option<String>)> {
    let list = match row.get(column) {
        Some(Value::Array(list)) if list.iter().all(Value::is_object) && !list.is_empty() => list,
        // RewardBench 2 has lists, of one answer for `chosen`.
        Some(Value::Array(list)) if matches!(list.as_slice(), [Value::String(_)]) => {
            return Ok((list[0].as_str().unwrap_or_default().into(), None));
        }
        Some(Value::Array(list)) => {
            let found = format!("a list of {}", crate::words::count(list.len(), "answer"));
            return Err(row.fault(column, found, "a pair has one answer on each side: make a row of each pair"));
        }
        _ => return Ok((text(row, column)?, None)),
    };
    let messages = row.messages(column, &Value::Array(list.clone()))?;
    let (last, before) = match messages.split_last() {
        Some((last, before)) if last.role() == "assistant" => (last, before),
        _ => {
            return Err(row.fault(
                column,
                "a conversation that does not end with an answer",
                "end it with the assistant's message",
            ));
        }
    };
    Ok((last.content().into(), (!before.is_empty()).then(|| conversation(before))))
}

/// A `prompt`: a text, or a conversation.
fn asked(row: &Row) -> Result<String> {
    match row.get("prompt") {
        Some(list @ Value::Array(_)) => Ok(conversation(&row.messages("prompt", list)?)),
        _ => text(row, "prompt"),
    }
}

/// Messages as one text: that of a single message, or several with the role before each.
fn conversation(messages: &[Message]) -> String {
    let line = |message: &Message| format!("{}: {}", message.role(), message.content());
    match messages {
        [one] => one.content().into(),
        several => several.iter().map(line).collect::<Vec<_>>().join("\n\n"),
    }
}

/// People's preference: a word for one of the responses or for a tie, or the share of people who prefer the first.
fn preference(row: &Row, column: &str, [first, second]: [&str; 2]) -> Result<Option<f64>> {
    let Some(value) = row.get(column) else { return Ok(None) };
    let share = match value {
        // A whole number is 1 for the first response to some, and to others its place, counted from 0 or from 1.
        Value::Number(number) if number.is_f64() => number.as_f64(),
        Value::String(word) => match word.trim().to_lowercase().as_str() {
            "" => return Ok(None),
            "a" | "model_a" | "response_a" => Some(1.0),
            "b" | "model_b" | "response_b" => Some(0.0),
            "tie" | "same" | "equal" | "both" | "tie (bothbad)" => Some(0.5),
            word if word == first.to_lowercase() => Some(1.0),
            word if word == second.to_lowercase() => Some(0.0),
            word => word.parse().ok().filter(|_| word.contains('.')),
        },
        _ => None,
    };
    match share.filter(|share| (0.0..=1.0).contains(share)) {
        Some(share) => Ok(Some(share)),
        None => {
            let fix = "write A, B or tie, or the share of people who prefer the first response, such as 0.75 or 1.0";
            Err(row.fault(column, describe(value), fix))
        }
    }
}

impl Pairing {
    /// The same pair in the row's own order: with the better response first where the layout says which one that is.
    pub fn in_given_order(mut self) -> Self {
        if self.columns[0] == "rejected" {
            self.responses.reverse();
            self.columns.reverse();
            self.preference = self.preference.map(|first| 1.0 - first);
        }
        self
    }

    /// The row with one of the responses alone, as `response`.
    ///
    /// # Errors
    /// As [`Row::record`].
    pub fn alone(&self, row: &Row, at: usize) -> Result<(Row, Record)> {
        let mut fields = self.shared(row);
        let response = Value::from(self.responses[at].as_str());
        fields.insert("response".into(), response.clone());
        if fields.contains_key("orig_instruction") {
            fields.insert("orig_response".into(), response);
        }
        self.columns.iter().for_each(|column| drop(fields.shift_remove(*column)));
        with_fields(row, fields)
    }

    /// The row with both responses, as `response_a` and `response_b`, in this order or in the other.
    ///
    /// # Errors
    /// As [`Row::record`].
    pub fn together(&self, row: &Row, swapped: bool) -> Result<(Row, Record)> {
        let mut fields = self.shared(row);
        let order = if swapped { [1, 0] } else { [0, 1] };
        self.columns.iter().for_each(|column| drop(fields.shift_remove(*column)));
        for (at, name) in order.into_iter().zip(["response_a", "response_b"]) {
            fields.insert(name.into(), self.responses[at].as_str().into());
        }
        if self.columns[0].starts_with("orig_") {
            for (at, name) in order.into_iter().zip(self.columns) {
                fields.insert(name.into(), self.responses[at].as_str().into());
            }
        }
        with_fields(row, fields)
    }

    /// The parts in prompts, by [`PAIR_COLUMNS`]; what the row lacks is left out.
    pub fn parts(&self) -> Map<String, Value> {
        let [a, b] = &self.responses;
        let parts = [self.instruction.as_ref(), Some(a), Some(b), self.reference.as_ref(), self.rubric.as_ref()];
        PAIR_COLUMNS.into_iter().zip(parts).filter_map(|(name, text)| Some((name.to_string(), text?.as_str().into()))).collect()
    }

    /// The columns of a row without what says which response is better, with the parts that both responses share.
    fn shared(&self, row: &Row) -> Map<String, Value> {
        let mut fields = row.fields.clone();
        JUDGED.iter().chain(self.label.as_slice()).for_each(|column| drop(fields.shift_remove(*column)));
        let parts = [
            ("instruction", self.instruction.as_ref()),
            ("reference", self.reference.as_ref()),
            ("rubric", self.rubric.as_ref()),
        ];
        for (name, text) in parts {
            if let Some(text) = text {
                fields.insert(name.into(), text.as_str().into());
            }
        }
        fields
    }
}

/// A row with other columns, and what a judge reads in it. No label and no chain is read.
fn with_fields(row: &Row, fields: Map<String, Value>) -> Result<(Row, Record)> {
    let row = Row { fields, written: None, ..row.clone() };
    let options =
        super::ColumnOptions { labels: super::Labels::Ignored, chains: super::Chains::Ignore, ..super::ColumnOptions::default() };
    let record = row.record(&options)?;
    Ok((row, record))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{ColumnOptions, Labels, Reader};
    use serde_json::json;

    fn row(json: &str) -> Row {
        let columns = ColumnOptions { labels: Labels::Ignored, chains: crate::data::Chains::Ignore, ..ColumnOptions::default() };
        Reader { columns, ..Reader::default() }.read_str("pairs.jsonl", json).unwrap().examples.remove(0).row
    }

    fn pair(json: &str) -> Pairing {
        pairing(&row(json)).unwrap().unwrap().in_given_order()
    }

    const COLLECTION: &str = r#"{"orig_criteria": "Is it kind?", "orig_instruction": "Say hi", "orig_reference_answer": "Hello!",
        "orig_response_A": "Hi", "orig_response_B": "Go", "orig_score_A": "5", "orig_score_B": "1", "orig_preference": "A",
        "instruction": "the whole prompt", "output": "A is kind. [RESULT] A", "input": "", "orig_feedback": "A is kind."}"#;

    #[test]
    fn published_layouts_are_read_as_they_are() {
        let collection = pair(&COLLECTION.replace('\n', " "));
        assert_eq!(collection.instruction.as_deref(), Some("Say hi"));
        assert_eq!((collection.responses.each_ref().map(String::as_str), collection.preference), (["Hi", "Go"], Some(1.0)));
        assert_eq!((collection.reference.as_deref(), collection.rubric.as_deref()), (Some("Hello!"), Some("[Is it kind?]")));
        let bench = r#"{"prompt": "Say hi", "chosen": "Hi", "chosen_model": "m", "rejected": "Go", "rejected_model": "n", "subset": "chat", "id": 3}"#;
        let bench = pair(bench);
        assert_eq!((bench.columns, bench.preference, bench.label), (["chosen", "rejected"], Some(1.0), Some("chosen")));
        let talk = r#"{"chosen": [{"role": "user", "content": "Say hi"}, {"role": "assistant", "content": "Hi"}],
            "rejected": [{"role": "user", "content": "Say hi"}, {"role": "assistant", "content": "Go"}]}"#;
        let talk = pair(&talk.replace('\n', " "));
        assert_eq!((talk.instruction.as_deref(), talk.responses), (Some("Say hi"), bench.responses));
        for (value, share) in [("\"b\"", Some(0.0)), ("\"tie\"", Some(0.5)), ("0.75", Some(0.75)), ("null", None), ("\"\"", None)]
        {
            let own = format!("{{\"prompt\": \"p\", \"response_a\": \"x\", \"response_b\": \"y\", \"preference\": {value}}}");
            assert_eq!(pair(&own).preference, share, "{value}");
        }
        assert_eq!(pairing(&row(r#"{"prompt": "p", "chosen": "x"}"#)).unwrap(), None);
    }

    /// Where the layout tells the better response, half of the rows show it first.
    #[test]
    fn the_better_response_is_first_in_half_of_the_rows() {
        let texts = |n: usize| format!("{{\"prompt\": \"question {n}\", \"chosen\": \"good\", \"rejected\": \"bad\"}}");
        let read: Vec<Pairing> = (0..200).map(|n| pairing(&row(&texts(n))).unwrap().unwrap()).collect();
        let first = read.iter().filter(|pair| pair.preference == Some(1.0)).count();
        assert!((70..130).contains(&first), "{first}");
        assert!(read.iter().all(|pair| (pair.preference == Some(1.0)) == (pair.responses[0] == "good")));
        assert!(read.into_iter().all(|pair| pair.in_given_order().responses[0] == "good"));
        let columns = ColumnOptions { pairs: true, ..ColumnOptions::default() };
        let labels: Vec<f64> = (0..20)
            .map(|n| {
                let rows = Reader { columns: columns.clone(), ..Reader::default() }.read_str("a", &texts(n)).unwrap();
                rows.examples[0].record.score.unwrap()
            })
            .collect();
        assert!(labels.contains(&1.0) && labels.contains(&0.0), "{labels:?}");
    }

    #[test]
    fn a_pair_becomes_two_rows_or_two_orders() {
        let row = row(&COLLECTION.replace('\n', " "));
        let pair = pairing(&row).unwrap().unwrap();
        let (alone, record) = pair.alone(&row, 1).unwrap();
        let grading = record.grading.unwrap();
        assert_eq!((grading.instruction.as_str(), grading.response.as_str()), ("Say hi", "Go"));
        assert_eq!((grading.reference.as_deref(), grading.rubric.as_deref()), (Some("Hello!"), Some("[Is it kind?]")));
        let told = ["orig_preference", "output", "orig_feedback", "orig_response_A"];
        assert!(told.iter().all(|column| !alone.fields.contains_key(*column)), "{:?}", alone.fields);
        let (swapped, _) = pair.together(&row, true).unwrap();
        let text = |name: &str| swapped.fields[name].as_str().unwrap().to_string();
        assert_eq!([text("response_a"), text("response_b"), text("orig_response_A")], ["Go", "Hi", "Go"]);
        assert_eq!(pairing(&swapped).unwrap().unwrap().preference, None);
    }

    /// A template may read the rubric and the responses alone.
    #[test]
    fn rows_of_ones_own_need_no_instruction() {
        let row = row(r#"{"rubric": "kind?", "response_a": "x", "response_b": "y"}"#);
        let pair = pairing(&row).unwrap().unwrap();
        assert_eq!(pair.instruction, None);
        let (alone, _) = pair.alone(&row, 1).unwrap();
        assert_eq!(alone.fields, *json!({"rubric": "kind?", "response": "y"}).as_object().unwrap());
        assert!(!pair.parts().contains_key("instruction"));
    }

    #[test]
    fn pairs_that_cannot_be_read_say_why() {
        for (json, part) in [
            (r#"{"chosen": "x", "rejected": "y"}"#, "field `instruction`: a pair of responses without what was asked"),
            (r#"{"prompt": "p", "response_a": "x", "response_b": 3}"#, "field `response_b`: the number 3"),
            (r#"{"prompt": "p", "response_a": "x", "response_b": "y", "winner": "1"}"#, "write A, B or tie"),
            (r#"{"prompt": "p", "response_a": "x", "response_b": "y", "winner": 2}"#, "the number 2; write A, B or tie"),
            (r#"{"prompt": "p", "chosen": ["x"], "rejected": ["y", "z", "w"]}"#, "field `rejected`: a list of 3 answers"),
            (
                r#"{"chosen": [{"role": "user", "content": "p"}], "rejected": [{"role": "user", "content": "p"}]}"#,
                "does not end with an answer",
            ),
        ] {
            let found = pairing(&row(json)).unwrap_err().to_string();
            assert!(found.contains(part), "{found}\nexpected {part}");
        }
    }
}
