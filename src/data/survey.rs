//! Describes a data set: the spread of labels, lengths, repeated rows, and rows of a test set that occur in training data.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};

use sha2::{Digest, Sha256};

use super::{Dataset, Example, Layout, Message, Prompt};

/// If there are more distinct labels than this, they are counted in bins of equal width.
const MAX_BARS: usize = 31;

/// The number of these bins.
const BINS: usize = 20;

/// Columns that identify a row and that no judge reads.
const IDENTITY_COLUMNS: [&str; 5] = ["id", "idx", "split", "data_source", "response_source"];

/// The content of a file, before any judge reads it.
#[derive(Clone, Debug)]
pub struct Survey<'a> {
    /// Each layout with its number of rows, the most common first.
    pub layouts: Vec<(&'a Layout, usize)>,
    /// Columns that are not a known part.
    pub other_columns: Vec<&'a str>,
    /// The labels of the rows that have one.
    pub labels: Vec<f64>,
    /// The histogram of the labels.
    pub bins: Vec<Bin>,
    /// The number of rows with scores of several annotators, and the number of these scores.
    pub annotated: (usize, usize),
    /// Rows that repeat an earlier one, compared exactly and loosely.
    pub same: [Repeated; 2],
    /// Another data set, with the rows that occur in both, compared exactly and loosely.
    pub against: Option<(&'a Dataset, [Repeated; 2])>,
}

impl<'a> Survey<'a> {
    /// Surveys `data`, and searches `other` for its rows.
    pub fn of(data: &'a Dataset, other: Option<&'a Dataset>) -> Self {
        let mut counted: BTreeMap<&Layout, usize> = BTreeMap::new();
        data.examples.iter().for_each(|e| *counted.entry(&e.record.layout).or_default() += 1);
        let mut layouts: Vec<(&Layout, usize)> = counted.into_iter().collect();
        layouts.sort_by_key(|(_, rows)| Reverse(*rows));
        let labels: Vec<f64> = data.examples.iter().filter_map(|e| e.record.score).collect();
        let several = data.examples.iter().filter(|e| e.record.annotations().len() > 1);
        Survey {
            other_columns: other_columns_of(data, &layouts),
            layouts,
            bins: histogram(&labels),
            labels,
            annotated: several.fold((0, 0), |(rows, scores), e| (rows + 1, scores + e.record.annotations().len())),
            same: [false, true].map(|loosely| repeated(data, loosely)),
            against: other.map(|other| (other, [false, true].map(|loosely| shared_with(data, other, loosely)))),
        }
    }

    /// Mean and standard deviation of the labels.
    pub fn moments(&self) -> Option<(f64, f64)> {
        let n = self.labels.len() as f64;
        let mean = self.labels.iter().sum::<f64>() / n;
        let variance = self.labels.iter().map(|label| (label - mean).powi(2)).sum::<f64>() / n;
        (!self.labels.is_empty()).then(|| (mean, variance.sqrt()))
    }
}

/// The most complete row: with a label and a chain, if any row has them.
pub fn most_complete(data: &Dataset) -> Option<&Example> {
    let completeness = |e: &&Example| (e.record.score.is_some(), e.record.chain.is_some());
    let best = data.examples.iter().map(|e| completeness(&e)).max();
    data.examples.iter().find(|e| Some(completeness(e)) == best)
}

/// The columns of the first 100 rows that are not a known part.
fn other_columns_of<'a>(data: &'a Dataset, layouts: &[(&Layout, usize)]) -> Vec<&'a str> {
    let columns = || layouts.iter().flat_map(|(layout, _)| layout.parts().map(|(_, column)| column));
    let described = columns().any(|column| column == "orig_criteria");
    let offered = data.examples.iter().flat_map(|e| e.record.chat_variables.keys().map(String::as_str));
    let mut known: HashSet<&str> =
        columns().flat_map(|column| [column, column.split('.').next().unwrap_or(column)]).chain(offered).collect();
    let names = data.examples.iter().take(100).flat_map(|e| e.row.fields.keys().map(String::as_str));
    let description = |name: &str| described && name.starts_with("orig_score") && name.ends_with("_description");
    names.filter(|name| !description(name) && known.insert(name)).collect()
}

/// One bin of a histogram of labels.
#[derive(Clone, Debug, PartialEq)]
pub struct Bin {
    /// The smallest label of the bin, or the label itself where each label has its own bin.
    pub from: f64,
    /// The upper edge of the bin.
    pub to: f64,
    /// The number of rows.
    pub rows: usize,
}

/// The number of rows per label, in order; or in 20 bins of equal width if there are more than 31 distinct labels.
pub fn histogram(labels: &[f64]) -> Vec<Bin> {
    let mut sorted = labels.to_vec();
    sorted.sort_by(f64::total_cmp);
    let alone: Vec<Bin> =
        sorted.chunk_by(|a, b| a == b).map(|same| Bin { from: same[0], to: same[0], rows: same.len() }).collect();
    let (Some(low), Some(high)) = (sorted.first(), sorted.last()) else { return Vec::new() };
    if alone.len() <= MAX_BARS {
        return alone;
    }
    let edge = |k: usize| low + (high - low) * k as f64 / BINS as f64;
    let mut bins: Vec<Bin> = (0..BINS).map(|k| Bin { from: edge(k), to: edge(k + 1), rows: 0 }).collect();
    for label in &sorted {
        let bin = ((label - low) / (high - low) * BINS as f64) as usize;
        bins[bin.min(BINS - 1)].rows += 1;
    }
    bins
}

/// Percentiles of text lengths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Percentiles {
    /// The number of texts.
    pub n: usize,
    /// The shortest.
    pub min: usize,
    /// The median.
    pub p50: usize,
    /// The 90th percentile.
    pub p90: usize,
    /// The 99th percentile.
    pub p99: usize,
    /// The longest.
    pub max: usize,
}

/// Nearest-rank percentiles; `None` for an empty list.
pub fn percentiles(mut lengths: Vec<usize>) -> Option<Percentiles> {
    lengths.sort_unstable();
    let n = lengths.len();
    let at = |share: f64| lengths[((share * n as f64).ceil() as usize).clamp(1, n) - 1];
    (n > 0).then(|| Percentiles { n, min: lengths[0], p50: at(0.5), p90: at(0.9), p99: at(0.99), max: lengths[n - 1] })
}

/// Rows that look the same to a judge.
#[derive(Clone, Debug, PartialEq)]
pub struct Repeated {
    /// Rows that repeat an earlier row.
    pub rows: usize,
    /// Repeated rows with a different label.
    pub other_label: usize,
    /// The locations of the first pair.
    pub first: Option<(String, String)>,
}

/// The text that a judge reads in a row, before any template: instruction, response and rubric, or the prompt, or, where neither
/// is recognised, every text except chain, label and identity columns. With `loosely`, case, punctuation and spaces are ignored.
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
            let read = |name: &&str| !IDENTITY_COLUMNS.contains(name) && Some(*name) != chain && Some(*name) != label;
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

/// A message's role and text, followed by the whole message if it has further fields.
fn message_text(message: &Message) -> String {
    let beside = message.beside_text().and_then(|_| serde_json::to_string(message).ok()).unwrap_or_default();
    format!("{}\u{0}{}\u{0}{beside}", message.role(), message.content())
}

/// Rows of `data` that repeat an earlier one.
pub fn repeated(data: &Dataset, loosely: bool) -> Repeated {
    let mut seen: HashMap<[u8; 32], &Example> = HashMap::new();
    let mut found = Repeated { rows: 0, other_label: 0, first: None };
    for example in &data.examples {
        match seen.get(&text_hash(example, loosely)) {
            None => {
                seen.insert(text_hash(example, loosely), example);
            }
            Some(earlier) => count_repeat(&mut found, example, earlier),
        }
    }
    found
}

/// Rows of `data` that also occur in `other`.
pub fn shared_with(data: &Dataset, other: &Dataset, loosely: bool) -> Repeated {
    let others: HashMap<[u8; 32], &Example> = other.examples.iter().rev().map(|e| (text_hash(e, loosely), e)).collect();
    let mut found = Repeated { rows: 0, other_label: 0, first: None };
    for example in &data.examples {
        if let Some(twin) = others.get(&text_hash(example, loosely)) {
            count_repeat(&mut found, example, twin);
        }
    }
    found
}

fn count_repeat(found: &mut Repeated, example: &Example, twin: &Example) {
    found.rows += 1;
    found.other_label += usize::from(example.record.score != twin.record.score);
    found.first.get_or_insert_with(|| (twin.row.location(), example.row.location()));
}

/// The hash of the judged text. Keeping hashes instead of texts saves memory for large files.
fn text_hash(example: &Example, loosely: bool) -> [u8; 32] {
    Sha256::digest(judged_text(example, loosely).as_bytes()).into()
}
