//! Rows and options from JSON texts.

use super::Failure;
use crate::data::{Chains, ColumnOptions, Example, Labels, Reader, split_rows};
use crate::judge::{Expectation, ScoreOptions};
use serde::Deserialize;

/// What a page may set beside rows.
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

/// Chains that are given instead of sampled.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum Given {
    /// The rows' own, in the columns that `jurist score --given-chains` reads.
    OfRows(bool),
    /// These.
    Texts(Vec<String>),
}

impl RequestOptions {
    pub fn parse(text: &str) -> Result<Self, Failure> {
        parse(text)
    }

    /// Whether chains are given.
    pub fn given(&self) -> bool {
        match &self.given_chains {
            None => false,
            Some(Given::OfRows(wanted)) => *wanted,
            Some(Given::Texts(_)) => true,
        }
    }

    /// The options of a judge that runs `batch_size` chains at a time.
    pub fn judging(&self, batch_size: usize) -> Result<ScoreOptions, Failure> {
        let expectation = match self.expectation.as_deref() {
            None | Some("renormalised") => Expectation::Renormalised,
            Some("full") => Expectation::FullVocabulary,
            Some(other) => return Err(Failure::row(format!("`expectation` is \"{other}\"; expected full or renormalised."))),
        };
        let options = ScoreOptions {
            expectation,
            chains: self.chains.unwrap_or(1),
            temperature: self.temperature,
            seed: self.seed,
            batch_size,
            given_chains: self.given(),
            ..ScoreOptions::default()
        };
        Ok(options.checked()?.clone())
    }
}

/// Options from their JSON. An empty text is `{}`.
pub fn parse<T: for<'a> Deserialize<'a>>(text: &str) -> Result<T, Failure> {
    let text = if text.trim().is_empty() { "{}" } else { text };
    serde_json::from_str(text).map_err(|e| Failure::row(format!("the options cannot be used: {e}")))
}

/// The rows of a JSON array or of JSON Lines, as texts.
pub fn split(text: &str) -> Result<Vec<String>, Failure> {
    Ok(split_rows("the rows", text)?)
}

/// Which parts of a row are read: labels for training and agreement, chains if they are given.
pub fn view(labels: Labels, given_chains: bool) -> ColumnOptions {
    ColumnOptions { labels, chains: if given_chains { Chains::Use } else { Chains::Ignore }, ..ColumnOptions::default() }
}

/// One row. Messages call it `name`.
pub fn read(name: &str, text: &str, columns: ColumnOptions) -> Result<Example, Failure> {
    // The reader takes lists too. A row is one object, which may have several lines.
    if text.trim_start().starts_with('[') {
        return Err(Failure::row(format!("{name}: a list; expected one JSON object.")));
    }
    let rows = Reader { columns, ..Reader::default() }.read_str(name, &format!("[{text}]"))?;
    if rows.examples.len() > 1 {
        return Err(Failure::row(format!("{name}: {} objects; expected one.", rows.examples.len())));
    }
    rows.examples.into_iter().next().ok_or_else(|| Failure::row(format!("{name}: there is nothing in it.")))
}

/// Labelled rows. The first row that cannot be used is the error.
pub fn labelled(text: &str, what: &str) -> Result<Vec<Example>, Failure> {
    let rows = split(text)?;
    let read = |(i, row): (usize, &String)| read(&format!("{what} {}", i + 1), row, view(Labels::Required, false));
    rows.iter().enumerate().map(read).collect()
}
