//! Decodes tokens to text as they arrive, without broken characters.

use super::{Result, Tokenizer};

/// Tokens of context that are decoded along with a new one. Enough for any decoder that looks to its left.
const CONTEXT: usize = 8;

/// Decodes a growing list of tokens, one token per call.
///
/// A character may span several tokens, and some decoders treat the first token of a text differently (they drop its leading
/// space). So each new text is the difference between two decodings that begin a few tokens earlier, and it is withheld while it
/// ends in an unfinished character.
#[derive(Clone, Debug)]
pub struct StreamDecoder {
    tokens: Vec<u32>,
    /// Where both decodings begin, and the number of tokens whose text has been returned.
    start: usize,
    returned: usize,
    skip_special: bool,
}

impl StreamDecoder {
    /// A decoder for the tokens after `context` (a prompt; may be empty). The text of the context is not returned.
    pub fn new(context: &[u32], skip_special: bool) -> Self {
        let tokens = context[context.len().saturating_sub(CONTEXT)..].to_vec();
        StreamDecoder { start: 0, returned: tokens.len(), tokens, skip_special }
    }

    /// Takes one more token and returns the text that is certain now (often empty in the middle of a character).
    ///
    /// # Errors
    /// As [`Tokenizer::decode`].
    pub fn push(&mut self, tokenizer: &Tokenizer, id: u32) -> Result<String> {
        self.tokens.push(id);
        let text = self.pending(tokenizer)?;
        if text.is_empty() || text.ends_with(char::REPLACEMENT_CHARACTER) {
            return Ok(String::new());
        }
        self.advance();
        Ok(text)
    }

    /// Returns the withheld text, with an unfinished character as U+FFFD.
    ///
    /// # Errors
    /// As [`Tokenizer::decode`].
    pub fn finish(mut self, tokenizer: &Tokenizer) -> Result<String> {
        let text = self.pending(tokenizer)?;
        self.advance();
        Ok(text)
    }

    fn advance(&mut self) {
        self.start = self.returned;
        self.returned = self.tokens.len();
    }

    fn pending(&self, tokenizer: &Tokenizer) -> Result<String> {
        let before = tokenizer.decode(&self.tokens[self.start..self.returned], self.skip_special)?;
        let after = tokenizer.decode(&self.tokens[self.start..], self.skip_special)?;
        Ok(after[common_prefix(&before, &after)..].to_string())
    }
}

/// Bytes of the longest common prefix, on a character boundary.
fn common_prefix(a: &str, b: &str) -> usize {
    a.chars().zip(b.chars()).take_while(|(x, y)| x == y).map(|(x, _)| x.len_utf8()).sum()
}
