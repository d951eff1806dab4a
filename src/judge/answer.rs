//! How a chain of thought is closed with the phrase: the same rule for training, scoring and given chains.

use super::{Result, ScoreTokens};
use crate::rollout::{Chain, Ending, Stop};
use crate::text::{TextError, Tokenizer};

/// Decodes tokens to text.
pub trait Decode: Sync {
    /// The text of these tokens, without special ones.
    ///
    /// # Errors
    /// Tokens that the tokenizer cannot decode.
    fn text(&self, ids: &[u32]) -> std::result::Result<String, TextError>;
}

impl Decode for Tokenizer {
    fn text(&self, ids: &[u32]) -> std::result::Result<String, TextError> {
        self.decode(ids, true)
    }
}

/// How an answer is written: a chain of thought, then the phrase, then the score.
#[derive(Clone, Copy)]
pub struct AnswerFormat<'a> {
    pub tokens: &'a ScoreTokens,
    pub decode: &'a dyn Decode,
}

impl AnswerFormat<'_> {
    /// The tokens between prompt and score: those of `chain`, then the phrase. The form of the phrase depends on the text before
    /// it: the chain's text or, if that is empty, the prompt's.
    ///
    /// # Errors
    /// A chain that cannot be decoded.
    pub fn close(&self, chain: &[u32], prompt_ends_in_space: bool) -> Result<Vec<u32>> {
        let text = if chain.is_empty() { String::new() } else { self.decode.text(chain)? };
        let ends_in_space = text.chars().next_back().map_or(prompt_ends_in_space, char::is_whitespace);
        Ok([chain, self.tokens.stem_after(ends_in_space)].concat())
    }

    /// The same for a sampled chain. A chain that ends in the phrase is unchanged.
    ///
    /// # Errors
    /// As [`AnswerFormat::close`].
    pub fn close_sampled(&self, chain: &Chain, prompt_ends_in_space: bool) -> Result<Vec<u32>> {
        match chain.ending {
            Ending::Phrase => Ok(chain.draws.iter().map(|draw| draw.token).collect()),
            Ending::Eos | Ending::Length => self.close(&chain.body(), prompt_ends_in_space),
        }
    }

    /// When a chain is over: at the phrase, at one of the tokens `eos`, or at `max_tokens`.
    pub fn stop(&self, eos: &[u32], max_tokens: usize) -> Stop {
        Stop { phrases: vec![self.tokens.stem.clone(), self.tokens.opening.clone()], eos: eos.to_vec(), max_tokens }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::decoder::Draw;

    /// Token 1 is a space, token 2 a special one, every other a letter.
    struct Toy;

    impl Decode for Toy {
        fn text(&self, ids: &[u32]) -> std::result::Result<String, TextError> {
            Ok(ids.iter().filter(|id| **id != 2).map(|id| if *id == 1 { ' ' } else { 'x' }).collect())
        }
    }

    #[test]
    fn the_phrase_follows_the_text_before_it() {
        let tokens = ScoreTokens::new(vec![vec![20], vec![21]], None, vec![7, 8], vec![8]).unwrap();
        let format = AnswerFormat { tokens: &tokens, decode: &Toy };
        for (chain, prompt_ends_in_space, closed) in [
            (&[][..], true, &[8][..]),
            (&[], false, &[7, 8]),
            (&[5], true, &[5, 7, 8]),
            (&[5], false, &[5, 7, 8]),
            (&[5, 1], false, &[5, 1, 8]),
            // A chain without text counts as empty.
            (&[2], true, &[2, 8]),
            (&[2], false, &[2, 7, 8]),
        ] {
            assert_eq!(format.close(chain, prompt_ends_in_space).unwrap(), closed, "{chain:?} {prompt_ends_in_space}");
        }
    }

    #[test]
    fn a_sampled_chain_loses_its_eos_and_keeps_its_phrase() {
        let tokens = ScoreTokens::new(vec![vec![20], vec![21]], None, vec![7, 8], vec![8]).unwrap();
        let format = AnswerFormat { tokens: &tokens, decode: &Toy };
        let chain = |ids: &[u32], ending, tail| Chain {
            draws: ids.iter().map(|token| Draw { token: *token, log_p: -1.0 }).collect(),
            ending,
            tail,
        };
        for (chain, closed) in [
            (chain(&[5, 7, 8], Ending::Phrase, 2), &[5, 7, 8][..]),
            (chain(&[5, 9], Ending::Eos, 1), &[5, 7, 8]),
            (chain(&[9], Ending::Eos, 1), &[7, 8]),
            (chain(&[5, 1], Ending::Length, 0), &[5, 1, 8]),
        ] {
            assert_eq!(format.close_sampled(&chain, false).unwrap(), closed);
        }
        assert_eq!(format.close_sampled(&chain(&[9], Ending::Eos, 1), true).unwrap(), [8]);
    }
}
