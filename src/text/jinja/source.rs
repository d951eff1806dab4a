//! Prepares a template's text for compilation. Text that would overload the parser is refused, and tags that transformers adds to
//! Jinja are replaced by tags that minijinja knows.

use std::ops::Range;

use minijinja::Error;
use minijinja::machinery::{Token, tokenize};
use minijinja::syntax::SyntaxConfig;

use super::guard::{check_size, refused};
use super::python::python_float;

/// The most bytes of a template. The longest known model template has 60,000.
pub const MAX_TEMPLATE_BYTES: usize = 1 << 20;
/// The most operators, brackets and dots in one tag. The parser and the compiler recurse along chains of them.
const MAX_OPERATORS: usize = 300;
/// The most list items and call arguments in one tag.
const MAX_ITEMS: usize = 20_000;
/// The deepest nesting of brackets.
const MAX_BRACKETS: usize = 50;
/// The most `elif`s in a template. They nest in the parser.
const MAX_BRANCHES: usize = 200;
/// The deepest nesting of blocks.
const MAX_BLOCKS: usize = 60;

/// The text to compile.
///
/// # Errors
/// A text that is too long or too deeply nested.
pub fn prepare(source: String, syntax: &SyntaxConfig) -> Result<String, Error> {
    if source.len() > MAX_TEMPLATE_BYTES {
        return Err(refused(format!("it has {} bytes, and {MAX_TEMPLATE_BYTES} is the most allowed", source.len())));
    }
    let mut check = Check::default();
    let mut changes = Vec::new();
    // A text that is not valid Jinja ends the tokens here. The parser then reports why.
    for (token, span) in tokenize(&source, false, syntax.clone()).map_while(Result::ok) {
        check.token(&token).map_err(|error| refused(format!("{} (line {} of the template)", detail(&error), span.start_line)))?;
        let range = span.start_offset as usize..span.end_offset as usize;
        if let Some(text) = replacement(&token, check.in_block, &source[range.clone()]) {
            changes.push((range, text));
        }
    }
    Ok(apply(&source, &changes))
}

/// The replacement of a token, where it has one. `in_block` is the token's position in its tag.
fn replacement(token: &Token<'_>, in_block: usize, written: &str) -> Option<String> {
    match (in_block, token) {
        // `{% generation %}` encloses the assistant's text, for training masks. Its content is rendered unchanged in a scope of
        // its own, as in `{% with %}`.
        (2, Token::Ident("generation")) => Some("with".into()),
        (2, Token::Ident("endgeneration")) => Some("endwith".into()),
        // The compiler folds constants and prints numbers in Rust's form. The result of a filter is not a constant.
        (_, Token::Float(number)) if python_float(*number).contains('e') => Some(format!("({written}|float)")),
        _ => None,
    }
}

fn apply(source: &str, changes: &[(Range<usize>, String)]) -> String {
    let mut text = String::with_capacity(source.len());
    let mut done = 0;
    for (range, new) in changes {
        text += &source[done..range.start];
        text += new;
        done = range.end;
    }
    text + &source[done..]
}

fn detail(error: &Error) -> String {
    error.detail().unwrap_or_default().to_string()
}

/// Counts of the template so far, and of the current tag.
#[derive(Default)]
struct Check {
    /// Tokens since a block tag began; 0 outside.
    in_block: usize,
    operators: usize,
    items: usize,
    brackets: usize,
    branches: usize,
    blocks: usize,
    constants: Constants,
    /// Bytes that the compiler may make from constant expressions, all tags together.
    folded: usize,
}

/// The literals of a tag. The compiler computes constant expressions, so `'x' * 100000000` costs memory before rendering starts.
struct Constants {
    product: u64,
    largest: u64,
    /// Bytes of texts and lists.
    bytes: usize,
    multiplies: bool,
    powers: u32,
}

impl Default for Constants {
    fn default() -> Self {
        Constants { product: 1, largest: 1, bytes: 0, multiplies: false, powers: 0 }
    }
}

impl Constants {
    fn number(&mut self, number: u64) {
        self.product = self.product.saturating_mul(number.max(1));
        self.largest = self.largest.max(number);
    }

    /// An upper bound in bytes on the tag's constant expressions.
    fn folded_bytes(&self) -> usize {
        if !self.multiplies {
            return 0;
        }
        let power = match self.powers {
            0 => 1,
            1 => self.largest.saturating_pow(u32::try_from(self.largest).unwrap_or(u32::MAX)),
            _ => u64::MAX,
        };
        let repeats = usize::try_from(self.product.saturating_mul(power)).unwrap_or(usize::MAX);
        if repeats > 1 { repeats.saturating_mul(self.bytes) } else { 0 }
    }
}

impl Check {
    fn token(&mut self, token: &Token<'_>) -> Result<(), Error> {
        if self.in_block > 0 {
            self.in_block += 1;
        }
        match token {
            Token::VariableStart | Token::BlockStart => {
                (self.operators, self.items, self.brackets, self.constants) = (0, 0, 0, Constants::default());
                self.in_block = 0;
            }
            Token::VariableEnd | Token::BlockEnd => {
                self.in_block = 0;
                self.folded = self.folded.saturating_add(self.constants.folded_bytes());
                check_size(self.folded)?;
            }
            Token::BracketOpen | Token::ParenOpen | Token::BraceOpen => self.brackets += 1,
            Token::BracketClose | Token::ParenClose | Token::BraceClose => self.brackets = self.brackets.saturating_sub(1),
            Token::Str(text) => self.constants.bytes += text.len(),
            Token::String(text) => self.constants.bytes += text.len(),
            Token::Int(number) => self.constants.number(*number),
            Token::Int128(_) => self.constants.number(u64::MAX),
            _ => {}
        }
        match token {
            Token::BlockStart => self.in_block = 1,
            Token::Mul => self.constants.multiplies = true,
            Token::Pow => self.constants.powers += 1,
            // A list, a tuple, or the arguments of a call.
            Token::BracketOpen | Token::Comma => self.constants.bytes += 16,
            Token::Ident(word) if self.in_block == 2 => self.statement(word),
            _ => {}
        }
        self.operators += usize::from(deepens(token));
        self.items += usize::from(matches!(token, Token::Comma));
        let too_many = [
            (self.operators, MAX_OPERATORS, "operators in one tag"),
            (self.items, MAX_ITEMS, "items in one tag"),
            (self.brackets, MAX_BRACKETS, "brackets inside one another"),
            (self.branches, MAX_BRANCHES, "`elif`s"),
            (self.blocks, MAX_BLOCKS, "blocks inside one another"),
        ];
        match too_many.iter().find(|(count, most, _)| count > most) {
            Some((_, most, what)) => Err(refused(format!("it has more than {most} {what}; write it more simply"))),
            None => Ok(()),
        }
    }

    fn statement(&mut self, word: &str) {
        match word {
            "for" | "if" | "with" | "macro" | "call" | "filter" | "block" | "autoescape" | "generation" => self.blocks += 1,
            "elif" => self.branches += 1,
            _ if word.starts_with("end") && word != "endset" => self.blocks = self.blocks.saturating_sub(1),
            _ => {}
        }
    }
}

/// Whether a token makes an expression deeper.
fn deepens(token: &Token<'_>) -> bool {
    match token {
        Token::Ident(word) => matches!(*word, "not" | "and" | "or" | "if" | "else" | "is" | "in"),
        Token::TemplateData(_) | Token::VariableStart | Token::VariableEnd | Token::BlockStart | Token::BlockEnd => false,
        Token::Str(_) | Token::String(_) | Token::Int(_) | Token::Int128(_) | Token::Float(_) => false,
        Token::Comma | Token::Colon | Token::Assign => false,
        Token::BracketClose | Token::ParenClose | Token::BraceClose | Token::BraceOpen => false,
        _ => true,
    }
}
