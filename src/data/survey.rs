//! What a data set looks like: spread of labels, lengths, rows that come twice, rows of a test set seen in training.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};

use sha2::{Digest, Sha256};

use super::{Dataset, Example, Layout, Message, Prompt};

/// More different labels than this are counted in bins of equal width.
const MOST_BARS: usize = 31;

/// Bins of labels that are too many to be counted each.
const BINS: usize = 20;

/// Columns that tell rows apart without a judge reading them.
const ASIDE: [&str; 5] = ["id", "idx", "split", "data_source", "response_source"];

/// What a file holds, before any judge reads it.
#[derive(Clone, Debug)]
pub struct Survey<'a> {
    /// Each layout with how many rows have it, the commonest first.
    pub layouts: Vec<(&'a Layout, usize)>,
    /// Columns that are no known part.
    pub aside: Vec<&'a str>,
    /// Of the rows that have one.
    pub labels: Vec<f64>,
    /// The labels, counted.
    pub bins: Vec<Bin>,
    /// Rows with the scores of several annotators, and how many scores that are.
    pub annotated: (usize, usize),
    /// Rows that repeat an earlier one, exactly and loosely.
    pub same: [Repeated; 2],
    /// Another data set, with the rows that also stand there, exactly and loosely.
    pub against: Option<(&'a Dataset, [Repeated; 2])>,
}

impl<'a> Survey<'a> {
    /// Looks through `data`, and for its rows in `other`.
    pub fn of(data: &'a Dataset, other: Option<&'a Dataset>) -> Self {
        let mut counted: BTreeMap<&Layout, usize> = BTreeMap::new();
        data.examples.iter().for_each(|e| *counted.entry(&e.record.layout).or_default() += 1);
        let mut layouts: Vec<(&Layout, usize)> = counted.into_iter().collect();
        layouts.sort_by_key(|(_, rows)| Reverse(*rows));
        let labels: Vec<f64> = data.examples.iter().filter_map(|e| e.record.score).collect();
        let several = data.examples.iter().filter(|e| e.record.annotations().len() > 1);
        Survey {
            aside: columns_aside(data, &layouts),
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

/// The row that shows most: with a label and a chain, where there is one.
pub fn fullest(data: &Dataset) -> Option<&Example> {
    let fullness = |e: &&Example| (e.record.score.is_some(), e.record.chain.is_some());
    let best = data.examples.iter().map(|e| fullness(&e)).max();
    data.examples.iter().find(|e| Some(fullness(e)) == best)
}

/// The columns of the first rows that are no known part.
fn columns_aside<'a>(data: &'a Dataset, layouts: &[(&Layout, usize)]) -> Vec<&'a str> {
    let columns = || layouts.iter().flat_map(|(layout, _)| layout.parts().map(|(_, column)| column));
    let described = columns().any(|column| column == "orig_criteria");
    let offered = data.examples.iter().flat_map(|e| e.record.offered.keys().map(String::as_str));
    let mut known: HashSet<&str> =
        columns().flat_map(|column| [column, column.split('.').next().unwrap_or(column)]).chain(offered).collect();
    let names = data.examples.iter().take(100).flat_map(|e| e.row.fields.keys().map(String::as_str));
    let description = |name: &str| described && name.starts_with("orig_score") && name.ends_with("_description");
    names.filter(|name| !description(name) && known.insert(name)).collect()
}

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
