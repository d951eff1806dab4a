//! Prompt templates: the row's own prompt, the built-in prompts for one response and for two, or a file of the user's.

#[cfg(not(target_arch = "wasm32"))]
use super::{JudgeError, Result};
#[cfg(not(target_arch = "wasm32"))]
use crate::text::MAX_TEMPLATE_BYTES;

/// The built-in grading prompt: the same parts as Prometheus' absolute grading, worded anew.
pub(super) const JUDGE: &str = "\
You judge how well a response does what an instruction asks for.
Read the parts below. Then write a short assessment that says what the response gets right and what it misses\
{% if rubric %}, measured by the rubric and by nothing else{% endif %}.
Close with the words \"{{ phrase | trim }}\" and one of these scores: {{ scores | join(', ') }}.

## Instruction
{{ instruction }}

## Response
{{ response }}
{% if reference %}

## An answer that deserves the best score
{{ reference }}
{% endif %}
{% if rubric %}

## Rubric
{{ rubric }}
{% endif %}

## Assessment

";

/// The phrase before the letter of the better response.
pub const PAIR_PHRASE: &str = "So the better response is ";

/// The scale of pairs: the letter of the better response, whose value is 1 for the first.
pub const PAIR_SCALE: &str = "A,B=1,0";

/// The built-in prompt for two responses to one instruction.
pub(super) const PAIR: &str = "\
You compare two responses to one instruction.
Read the parts below. Then write a short assessment that says what each response gets right and what it misses\
{% if rubric %}, measured by the rubric and by nothing else{% endif %}. The order of the responses says nothing about them.
Close with the words \"{{ phrase | trim }}\" and one of these: {{ scores | join(', ') }}.

## Instruction
{{ instruction }}

## Response A
{{ response_a }}

## Response B
{{ response_b }}
{% if reference %}

## A good answer
{{ reference }}
{% endif %}
{% if rubric %}

## Rubric
{{ rubric }}
{% endif %}

## Assessment

";

/// How a row becomes the text of a prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Template {
    /// The row's own prompt (`prompt` or `messages`), unchanged.
    Plain,
    /// The built-in grading prompt over `instruction`, `response`, and, if present, `reference` and `rubric`.
    Judge,
    /// The built-in prompt over two responses, with the parts of `judge`.
    Pair,
    /// A Jinja template of the user's. It sees every column of the row by its name, `scores` (the scale's texts) and `phrase`.
    /// A missing column is an error, unless the template tests for it with `if`.
    Own {
        /// The file it was read from, for messages.
        name: String,
        /// Its text.
        source: String,
    },
}

impl Template {
    /// Its name for messages: that of the built-in template, or that of the file.
    pub fn name(&self) -> &str {
        match self {
            Template::Plain => "plain",
            Template::Judge => "judge",
            Template::Pair => "pair",
            Template::Own { name, .. } => name,
        }
    }

    /// The template of this name: `plain`, `judge`, `pair`, or the path of a Jinja file.
    ///
    /// # Errors
    /// A file that is not readable as text, or is too long for a template.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn named(name: &str) -> Result<Self> {
        match name {
            "plain" => Ok(Template::Plain),
            "judge" => Ok(Template::Judge),
            "pair" => Ok(Template::Pair),
            path => match bounded_text(path) {
                Ok(source) => Ok(Template::Own { name: path.into(), source }),
                Err(error) => Err(JudgeError::Template {
                    name: path.into(),
                    found: error.to_string(),
                    fix: "name `plain`, `judge`, `pair`, or a Jinja file".into(),
                }),
            },
        }
    }
}

/// The text of a template's file. At most the allowed number of bytes is read.
#[cfg(not(target_arch = "wasm32"))]
fn bounded_text(path: &str) -> std::io::Result<String> {
    use std::io::{Error, ErrorKind, Read};
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(MAX_TEMPLATE_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > MAX_TEMPLATE_BYTES {
        return Err(Error::new(
            ErrorKind::FileTooLarge,
            format!("it has more than {MAX_TEMPLATE_BYTES} bytes, the most allowed"),
        ));
    }
    String::from_utf8(bytes).map_err(|error| Error::new(ErrorKind::InvalidData, error.utf8_error()))
}
