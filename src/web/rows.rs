//! Rows and options out of JSON texts.

use super::Failure;
use crate::data::{Chains, ColumnOptions, Example, Labels, Reader, split_rows};
use crate::judge::{Expectation, ScoreOptions};
use serde::Deserialize;

/// What a page may ask for beside rows.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct RequestOptions {
    pub chains: Option<usize>,
    pub temperature: Option<f32>,
    pub seed: u64,
    /// `renormalised` (the default) or `full`.
    pub expectation: Option<String>,
    pub given_chains: Option<Given>,
}

/// Chains that are read instead of written.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum Given {
    /// Those of the rows, in the columns where `jurist score --given-chains` looks.
    OfRows(bool),
    /// These.
    Texts(Vec<String>),
}

/// Most chains of a row, as for `jurist score`.
const MOST_CHAINS: usize = 1024;

impl RequestOptions {
    pub fn parse(text: &str) -> Result<Self, Failure> {
        parse(text)
    }

    /// Whether chains are read, not written.
    pub fn given(&self) -> bool {
        match &self.given_chains {
            None => false,
            Some(Given::OfRows(wanted)) => *wanted,
            Some(Given::Texts(_)) => true,
        }
    }

    /// How rows are judged, `batch_size` chains at a time.
    pub fn judging(&self, batch_size: usize) -> Result<ScoreOptions, Failure> {
        let chains = self.chains.unwrap_or(1);
        if !(1..=MOST_CHAINS).contains(&chains) {
            return Err(Failure::row(format!("`chains` is {chains}; expected 1 to {MOST_CHAINS}.")));
        }
        let temperature = self.temperature.unwrap_or(if chains > 1 { 1.0 } else { 0.0 });
        if !(0.0..=100.0).contains(&temperature) {
            return Err(Failure::row(format!("`temperature` is {temperature}; expected a number from 0 to 100.")));
        }
        let expectation = match self.expectation.as_deref() {
            None | Some("renormalised") => Expectation::Renormalised,
            Some("full") => Expectation::FullVocabulary,
            Some(other) => return Err(Failure::row(format!("`expectation` is \"{other}\"; expected full or renormalised."))),
        };
        let given_chains = self.given();
        Ok(ScoreOptions {
            expectation,
            chains,
            temperature,
            seed: self.seed,
            batch_size,
            max_length: usize::MAX,
            given_chains,
            ..ScoreOptions::default()
        })
    }
}

/// Options out of their JSON; an empty text is `{}`.
pub fn parse<T: for<'a> Deserialize<'a>>(text: &str) -> Result<T, Failure> {
    let text = if text.trim().is_empty() { "{}" } else { text };
    serde_json::from_str(text).map_err(|e| Failure::row(format!("the options cannot be used: {e}")))
}

/// The rows of a JSON array or of JSON Lines, as texts.
pub fn split(text: &str) -> Result<Vec<String>, Failure> {
    Ok(split_rows("the rows", text)?)
}

/// Rows as a judge reads them: labels where it learns or is measured, chains where they are to be read.
pub fn view(labels: Labels, given_chains: bool) -> ColumnOptions {
    ColumnOptions { labels, chains: if given_chains { Chains::Use } else { Chains::Ignore }, ..ColumnOptions::default() }
}

/// One row; `name` stands for it in messages.
pub fn read(name: &str, text: &str, columns: ColumnOptions) -> Result<Example, Failure> {
    // The reader takes lists too; a row is one object, which may be written over several lines.
    if text.trim_start().starts_with('[') {
        return Err(Failure::row(format!("{name}: a list; expected one JSON object.")));
    }
    let rows = Reader { columns, ..Reader::default() }.read_str(name, &format!("[{text}]"))?;
    if rows.examples.len() > 1 {
        return Err(Failure::row(format!("{name}: {} objects; expected one.", rows.examples.len())));
    }
    rows.examples.into_iter().next().ok_or_else(|| Failure::row(format!("{name}: there is nothing in it.")))
}

/// Labelled rows; the first that cannot be used ends it.
pub fn labelled(text: &str, what: &str) -> Result<Vec<Example>, Failure> {
    let rows = split(text)?;
    let read = |(i, row): (usize, &String)| read(&format!("{what} {}", i + 1), row, view(Labels::Required, false));
    rows.iter().enumerate().map(read).collect()
}
