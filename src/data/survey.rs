//! What a data set looks like: spread of labels, lengths, rows that come twice, rows of a test set seen in training.

use std::collections::HashMap;

use sha2::{Digest, Sha256};

use super::{Dataset, Example, Message, Prompt};

/// More different labels than this are counted in bins of equal width.
const MOST_BARS: usize = 31;

/// Bins of labels that are too many to be counted each.
const BINS: usize = 20;

/// Columns that tell rows apart without a judge reading them.
const ASIDE: [&str; 5] = ["id", "idx", "split", "data_source", "response_source"];

/// Labels counted together.
#[derive(Clone, Debug, PartialEq)]
pub struct Bin {
    /// The smallest label of the bin; the label itself where each is counted alone.
    pub from: f64,
    /// The largest that would fall in it.
    pub to: f64,
    /// How many rows.
    pub rows: usize,
}

/// Rows with each label, in order; in 20 bins of equal width where there are more than 31 different labels.
pub fn histogram(labels: &[f64]) -> Vec<Bin> {
    let mut sorted = labels.to_vec();
    sorted.sort_by(f64::total_cmp);
    let alone: Vec<Bin> =
        sorted.chunk_by(|a, b| a == b).map(|same| Bin { from: same[0], to: same[0], rows: same.len() }).collect();
    let (Some(low), Some(high)) = (sorted.first(), sorted.last()) else { return Vec::new() };
    if alone.len() <= MOST_BARS {
        return alone;
    }
    let edge = |k: usize| low + (high - low) * k as f64 / BINS as f64;
    let mut bins: Vec<Bin> = (0..BINS).map(|k| Bin { from: edge(k), to: edge(k + 1), rows: 0 }).collect();
    for label in &sorted {
        let place = ((label - low) / (high - low) * BINS as f64) as usize;
        bins[place.min(BINS - 1)].rows += 1;
    }
    bins
}

/// Lengths at which that share of the rows is no longer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Percentiles {
    /// How many texts were measured.
    pub n: usize,
    /// The shortest.
    pub min: usize,
    /// Half are no longer.
    pub p50: usize,
    /// 90 of 100.
    pub p90: usize,
    /// 99 of 100.
    pub p99: usize,
    /// The longest.
    pub max: usize,
}

/// Nearest-rank percentiles; `None` of nothing.
pub fn percentiles(mut lengths: Vec<usize>) -> Option<Percentiles> {
    lengths.sort_unstable();
    let n = lengths.len();
    let at = |share: f64| lengths[((share * n as f64).ceil() as usize).clamp(1, n) - 1];
    (n > 0).then(|| Percentiles { n, min: lengths[0], p50: at(0.5), p90: at(0.9), p99: at(0.99), max: lengths[n - 1] })
}

/// Rows that are the same to a judge.
#[derive(Clone, Debug, PartialEq)]
pub struct Repeated {
    /// Rows that come after one that is the same.
    pub rows: usize,
    /// Those of them whose label is another.
    pub other_label: usize,
    /// The places of the first pair.
    pub first: Option<(String, String)>,
}

/// What a judge reads of a row, before any template: instruction, response and rubric, or the prompt, or where neither is
/// recognised every text but chain, label and identity. With `loosely` case, punctuation and spaces do not count.
pub fn judged_text(example: &Example, loosely: bool) -> String {
    let record = &example.record;
    let text = match (&record.grading, &record.prompt) {
        (Some(parts), _) => {
            [parts.instruction.as_str(), &parts.response, parts.rubric.as_deref().unwrap_or_default()].join("\u{0}")
        }
        (None, Some(Prompt::Text(text))) => text.clone(),
        (None, Some(Prompt::Messages(messages))) => messages.iter().map(message_text).collect(),
        (None, None) => {
            let (chain, label) = (record.layout.chain.as_deref(), record.layout.label.as_deref());
            let read = |name: &&str| !ASIDE.contains(name) && Some(*name) != chain && Some(*name) != label;
            let fields = example.row.fields.iter().filter(|(name, _)| read(&name.as_str()));
            fields.filter_map(|(_, value)| value.as_str()).collect::<Vec<_>>().join("\u{0}")
        }
    };
    if !loosely {
        return text;
    }
    let lower = text.to_lowercase();
    lower.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

/// A message's role and text, and all of it where that is not all it says.
fn message_text(message: &Message) -> String {
    let beside = message.beside_text().and_then(|_| serde_json::to_string(message).ok()).unwrap_or_default();
    format!("{}\u{0}{}\u{0}{beside}", message.role(), message.content())
}

/// Rows of `data` that repeat an earlier one.
pub fn repeated(data: &Dataset, loosely: bool) -> Repeated {
    let mut seen: HashMap<[u8; 32], &Example> = HashMap::new();
    let mut found = Repeated { rows: 0, other_label: 0, first: None };
    for example in &data.examples {
        match seen.get(&key(example, loosely)) {
            None => {
                seen.insert(key(example, loosely), example);
            }
            Some(earlier) => note(&mut found, example, earlier),
        }
    }
    found
}

/// Rows of `data` that also stand in `other`.
pub fn shared_with(data: &Dataset, other: &Dataset, loosely: bool) -> Repeated {
    let theirs: HashMap<[u8; 32], &Example> = other.examples.iter().rev().map(|e| (key(e, loosely), e)).collect();
    let mut found = Repeated { rows: 0, other_label: 0, first: None };
    for example in &data.examples {
        if let Some(twin) = theirs.get(&key(example, loosely)) {
            note(&mut found, example, twin);
        }
    }
    found
}

fn note(found: &mut Repeated, example: &Example, twin: &Example) {
    found.rows += 1;
    found.other_label += usize::from(example.record.score != twin.record.score);
    found.first.get_or_insert_with(|| (twin.row.place(), example.row.place()));
}

/// The judged text's hash: of a large file the texts themselves are not kept twice.
fn key(example: &Example, loosely: bool) -> [u8; 32] {
    Sha256::digest(judged_text(example, loosely).as_bytes()).into()
}
