//! Jinja as transformers uses it for chat templates. Judge prompts use it too.

mod builtins;
mod guard;
mod json;
mod methods;
mod program;
mod python;
mod source;

pub use json::json_to_template;
pub use program::{JinjaTemplate, Variable};
pub use source::MAX_TEMPLATE_BYTES;

use minijinja::{Error, ErrorKind};

/// A template's error in one line: what happened, and on which line of the template.
pub fn template_failure(error: &Error) -> String {
    let what = match (error.detail(), error.kind()) {
        (_, ErrorKind::OutOfFuel) => {
            format!("it takes more than {} steps; shorten its loops", guard::STEPS)
        }
        (Some("recursion limit exceeded"), _) => "it calls itself too deeply; nest less".into(),
        (Some(detail), ErrorKind::InvalidOperation) => detail.to_string(),
        (Some(detail), kind) => format!("{kind}: {detail}"),
        (None, kind) => kind.to_string(),
    };
    match error.line() {
        Some(line) => format!("{what} (line {line} of the template)"),
        None => what,
    }
}
