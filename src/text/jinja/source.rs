//! A template's text before it is compiled: what the parser could not bear is refused, and the tags that transformers adds to
//! Jinja become tags that minijinja knows.

use std::ops::Range;

use minijinja::Error;
use minijinja::machinery::{Token, tokenize};
use minijinja::syntax::SyntaxConfig;

use super::guard::{fits, refused};
use super::python::python_float;

/// Bytes of a template. The longest of known models has 60,000.
pub const LONGEST: usize = 1 << 20;
/// Operators, brackets and dots in one tag: the parser and the compiler recurse along chains of them.
const OPERATORS: usize = 300;
/// Items of lists and arguments of calls in one tag.
const ITEMS: usize = 20_000;
/// Brackets inside brackets.
const BRACKETS: usize = 50;
/// `elif`s in the template, which nest for the parser.
const BRANCHES: usize = 200;
/// Blocks inside blocks.
const BLOCKS: usize = 60;

/// The text to compile.
///
/// # Errors
/// A text that is too long or too deeply nested.
pub fn prepared(source: String, syntax: &SyntaxConfig) -> Result<String, Error> {
    if source.len() > LONGEST {
        return Err(refused(format!("it has {} bytes, and {LONGEST} is the most allowed", source.len())));
    }
    let mut check = Check::default();
    let mut changes = Vec::new();
    // A text that is no Jinja ends the tokens here, and the parser says why.
    for (token, span) in tokenize(&source, false, syntax.clone()).map_while(Result::ok) {
        check.token(&token).map_err(|error| refused(format!("{} (line {} of the template)", detail(&error), span.start_line)))?;
        let place = span.start_offset as usize..span.end_offset as usize;
        if let Some(text) = instead(&token, check.in_block, &source[place.clone()]) {
            changes.push((place, text));
        }
    }
    Ok(changed(&source, &changes))
}

/// What stands for a token, the `in_block`th of its tag.
fn instead(token: &Token<'_>, in_block: usize, written: &str) -> Option<String> {
    match (in_block, token) {
        // `{% generation %}` marks what the assistant says, for training masks. What it encloses is rendered as it is, in a
        // scope of its own, which is what `{% with %}` does.
        (2, Token::Ident("generation")) => Some("with".into()),
        (2, Token::Ident("endgeneration")) => Some("endwith".into()),
        // The compiler joins constants, with numbers as Rust writes them. What comes out of a filter is none.
        (_, Token::Float(number)) if python_float(*number).contains('e') => Some(format!("({written}|float)")),
        _ => None,
    }
}

fn changed(source: &str, changes: &[(Range<usize>, String)]) -> String {
    let mut text = String::with_capacity(source.len());
    let mut done = 0;
    for (place, new) in changes {
        text += &source[done..place.start];
        text += new;
        done = place.end;
    }
    text + &source[done..]
}

fn detail(error: &Error) -> String {
    error.detail().unwrap_or_default().to_string()
}

/// What has been seen of the template, and of the tag that is being read.
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
    /// Bytes that the compiler may make of constant expressions, all tags together.
    folded: usize,
}

/// The literals of a tag. The compiler computes constant expressions, so `'x' * 100000000` costs memory before anything runs.
struct Constants {
    product: u64,
    largest: u64,
    /// Of texts and lists.
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

    /// At most so many bytes come of the tag's constant expressions.
    fn folded(&self) -> usize {
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
                self.folded = self.folded.saturating_add(self.constants.folded());
                fits(self.folded)?;
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
            // A list or a tuple, or the arguments of a call.
            Token::BracketOpen | Token::Comma => self.constants.bytes += 16,
            Token::Ident(word) if self.in_block == 2 => self.statement(word),
            _ => {}
        }
        self.operators += usize::from(chains(token));
        self.items += usize::from(matches!(token, Token::Comma));
        let too_many = [
            (self.operators, OPERATORS, "operators in one tag"),
            (self.items, ITEMS, "items in one tag"),
            (self.brackets, BRACKETS, "brackets inside one another"),
            (self.branches, BRANCHES, "`elif`s"),
            (self.blocks, BLOCKS, "blocks inside one another"),
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
fn chains(token: &Token<'_>) -> bool {
    match token {
        Token::Ident(word) => matches!(*word, "not" | "and" | "or" | "if" | "else" | "is" | "in"),
        Token::TemplateData(_) | Token::VariableStart | Token::VariableEnd | Token::BlockStart | Token::BlockEnd => false,
        Token::Str(_) | Token::String(_) | Token::Int(_) | Token::Int128(_) | Token::Float(_) => false,
        Token::Comma | Token::Colon | Token::Assign => false,
        Token::BracketClose | Token::ParenClose | Token::BraceClose | Token::BraceOpen => false,
        _ => true,
    }
}
