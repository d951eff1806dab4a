//! Rows to supervised examples: tokens, and which of them carry loss with which target.

use crate::data;
use crate::judge::{BatchLayout, JudgeError, JudgePrompt, ScoreTokens};
use crate::text::Tokenizer;
use crate::train::TrainError;
use crate::train::data::pack::Example;
use crate::train::objective::reward::Label;

/// What became of a file's rows.
#[derive(Debug, Default)]
pub struct Prepared {
    pub examples: Vec<Example>,
    /// Index of each example's row in the file's list of good rows.
    pub rows: Vec<usize>,
    /// Rows with more tokens than fit; they are left out, never cut.
    pub too_long: usize,
    /// Rows set aside for another reason, where that is allowed.
    pub bad: Vec<JudgeError>,
    /// Tokens of the longest chain, 0 if no row has one.
    pub longest_chain: usize,
}

impl Prepared {
    /// Leaves out the rows whose prompt has more than `most` tokens; returns how many.
    pub fn keep_prompts_up_to(&mut self, most: usize) -> usize {
        let fits: Vec<bool> = self.examples.iter().map(|e| e.prompt.ids.len() <= most).collect();
        let mut each = fits.iter();
        self.examples.retain(|_| each.next().is_none_or(|fits| *fits));
        let mut each = fits.iter();
        self.rows.retain(|_| each.next().is_none_or(|fits| *fits));
        fits.iter().filter(|fits| !**fits).count()
    }
}

/// Most tokens between prompt and score: a chain of `max_tokens` tokens and the phrase.
pub fn longest_answer(tokens: &ScoreTokens, max_tokens: usize) -> usize {
    max_tokens + tokens.stem.len().max(tokens.opening.len())
}

/// Most tokens of a prompt that leaves room for a chain of `max_tokens` tokens, the phrase and the score.
pub fn room_for_prompt(layout: BatchLayout, context: usize, max_tokens: usize) -> usize {
    context.saturating_sub(layout.depth(0, longest_answer(layout.tokens, max_tokens) + 1))
}

/// A row that a judge answers by itself.
#[derive(Clone, Debug)]
pub struct Prompt {
    pub ids: Vec<u32>,
    /// Whether its text ends in white space: then the phrase behind it has the other form.
    pub ends_in_space: bool,
    /// The label over the scores near it: (index in the scale, weight).
    pub label: crate::judge::Split,
    pub value: f64,
}

impl Prompt {
    /// The label, as rewards look at it.
    pub fn label(&self) -> Label<'_> {
        Label { split: &self.label, value: self.value }
    }
}

/// How rows become examples.
pub struct Preparation<'a> {
    pub prompt: &'a JudgePrompt,
    pub layout: BatchLayout<'a>,
    pub tokenizer: &'a Tokenizer,
    /// Most tokens of a row.
    pub max_length: usize,
    /// Set rows aside that do not fit the template or the scale, instead of stopping.
    pub skip_bad: bool,
}

impl Preparation<'_> {
    /// Prepares all rows.
    ///
    /// # Errors
    /// A row that does not fit the template, or whose label is off the scale, unless `skip_bad`.
    pub fn prepare(&self, rows: &[data::Example]) -> Result<Prepared, TrainError> {
        let mut prepared = Prepared::default();
        for (index, row) in rows.iter().enumerate() {
            let sequence = match self.prompt.sequence(row, self.layout.tokens, self.tokenizer, false) {
                Ok(sequence) => sequence,
                Err(e) if self.skip_bad => {
                    prepared.bad.push(e);
                    continue;
                }
                Err(e) => return Err(e.into()),
            };
            let fed = sequence.prompt_len..sequence.score;
            if self.layout.depth(fed.start, fed.len()).max(sequence.ids.len()) > self.max_length {
                prepared.too_long += 1;
                continue;
            }
            let (ids, ends_in_space) = self.prompt.prompt(row, self.tokenizer)?;
            if ids.is_empty() {
                let problem = "the prompt is empty: a first token cannot be predicted".into();
                return Err(TrainError::Example { example: index, problem });
            }
            prepared.longest_chain = prepared.longest_chain.max(sequence.chain.len());
            let prompt = Prompt { ids, ends_in_space, label: sequence.split, value: sequence.label };
            prepared.examples.push(Example { prompt, fed: sequence.ids[fed].to_vec() });
            prepared.rows.push(index);
        }
        Ok(prepared)
    }
}
