//! Prepares labelled examples for training: as tokens, with their label on the scale.

use crate::data;
use crate::judge::{BatchLayout, JudgeError, JudgePrompt, ScoreTokens};
use crate::text::Tokenizer;
use crate::train::TrainError;
use crate::train::data::pack::TrainExample;
use crate::train::objective::reward::Label;

/// The prepared examples of a file.
#[derive(Debug, Default)]
pub struct Prepared {
    pub examples: Vec<TrainExample>,
    /// The index of each one among the examples that were read.
    pub rows: Vec<usize>,
    /// Number of examples with too many tokens; they are left out, never truncated.
    pub too_long: usize,
    /// The errors of examples left out for another reason, if that is allowed.
    pub bad: Vec<JudgeError>,
    /// Tokens of the longest chain; 0 if no example has one.
    pub longest_chain: usize,
}

impl Prepared {
    /// Drops the examples whose prompt has more than `most` tokens; returns how many.
    pub fn keep_prompts_up_to(&mut self, most: usize) -> usize {
        let fits: Vec<bool> = self.examples.iter().map(|e| e.prompt.ids.len() <= most).collect();
        let mut keep = fits.iter();
        self.examples.retain(|_| keep.next().is_none_or(|fits| *fits));
        let mut keep = fits.iter();
        self.rows.retain(|_| keep.next().is_none_or(|fits| *fits));
        fits.iter().filter(|fits| !**fits).count()
    }
}

/// Most tokens between prompt and score: a chain of `max_tokens` tokens and the phrase.
pub fn longest_continuation(tokens: &ScoreTokens, max_tokens: usize) -> usize {
    max_tokens + tokens.stem.len().max(tokens.opening.len())
}

/// Most tokens of a prompt if a chain of `max_tokens` tokens, the phrase and the score must fit after it.
pub fn longest_prompt(layout: BatchLayout, context: usize, max_tokens: usize) -> usize {
    context.saturating_sub(layout.depth(0, longest_continuation(layout.tokens, max_tokens) + 1))
}

/// The prompt and label of an example.
#[derive(Clone, Debug)]
pub struct LabelledPrompt {
    pub ids: Vec<u32>,
    /// Whether its text ends in white space, which decides the form of the phrase after it.
    pub ends_in_space: bool,
    /// The label as a distribution over the scores.
    pub label: crate::judge::Split,
    /// The label as a number.
    pub value: f64,
}

impl LabelledPrompt {
    /// The label in the form that rewards take.
    pub fn label(&self) -> Label<'_> {
        Label { split: &self.label, value: self.value }
    }
}

/// Turns examples of a file into examples for training.
pub struct Preparation<'a> {
    pub prompt: &'a JudgePrompt,
    pub layout: BatchLayout<'a>,
    pub tokenizer: &'a Tokenizer,
    /// Most tokens of an example.
    pub max_length: usize,
    /// Leave out examples that do not fit the template or the scale, instead of failing.
    pub skip_bad: bool,
}

impl Preparation<'_> {
    /// Prepares all examples.
    ///
    /// # Errors
    /// An example that does not fit the template, or whose label is outside the scale, unless `skip_bad`.
    pub fn prepare(&self, examples: &[data::Example]) -> Result<Prepared, TrainError> {
        let mut prepared = Prepared::default();
        for (index, example) in examples.iter().enumerate() {
            let sequence = match self.prompt.sequence(example, self.layout.tokens, self.tokenizer, false) {
                Ok(sequence) => sequence,
                Err(e) if self.skip_bad => {
                    prepared.bad.push(e);
                    continue;
                }
                Err(e) => return Err(e.into()),
            };
            let continuation = sequence.prompt_len..sequence.score;
            if self.layout.depth(continuation.start, continuation.len()).max(sequence.ids.len()) > self.max_length {
                prepared.too_long += 1;
                continue;
            }
            let (ids, ends_in_space) = self.prompt.prompt(example, self.tokenizer)?;
            if ids.is_empty() {
                let problem = "the prompt is empty: a first token cannot be predicted".into();
                return Err(TrainError::Example { example: index, problem });
            }
            prepared.longest_chain = prepared.longest_chain.max(sequence.chain.len());
            let prompt = LabelledPrompt { ids, ends_in_space, label: sequence.split, value: sequence.label };
            prepared.examples.push(TrainExample { prompt, continuation: sequence.ids[continuation].to_vec() });
            prepared.rows.push(index);
        }
        Ok(prepared)
    }
}
