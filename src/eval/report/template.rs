//! HTML from templates. What is printed is escaped, unless it is an image that `charts` drew.

use crate::charts::{self, Chart, readable};
use crate::eval::EvalError;
use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, Error, UndefinedBehavior, Value, context, escape_formatter};

/// What the pages share.
const SHARED: [(&str, &str); 2] =
    [("base.html", include_str!("templates/base.html")), ("figure.html", include_str!("templates/figure.html"))];

/// The template of a page, parsed.
pub struct Template {
    name: &'static str,
    parsed: Result<Environment<'static>, Error>,
}

impl Template {
    /// The name ends in `.html`: that is what makes the values be escaped.
    pub fn new(name: &'static str, source: &'static str) -> Self {
        Template { name, parsed: parsed(name, source) }
    }

    /// The page. The template finds its style as `style`.
    ///
    /// # Errors
    /// A mistake in the template.
    pub fn render(&self, content: Value) -> Result<String, EvalError> {
        let mistake = |error: &Error| EvalError::Template { name: self.name, found: error.to_string() };
        let environment = self.parsed.as_ref().map_err(mistake)?;
        let template = environment.get_template(self.name).map_err(|e| mistake(&e))?;
        template.render(content).map_err(|e| mistake(&e))
    }
}

fn parsed(name: &'static str, source: &'static str) -> Result<Environment<'static>, Error> {
    let mut environment = Environment::new();
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.set_undefined_behavior(UndefinedBehavior::SemiStrict);
    environment.set_formatter(|out, state, value| match value.as_str() {
        Some(text) if !value.is_safe() => escape_formatter(out, state, &Value::from(readable(text))),
        _ => escape_formatter(out, state, value),
    });
    let style = [charts::STYLE, include_str!("templates/style.css")].concat();
    environment.add_global("style", Value::from_safe_string(style));
    for (name, source) in SHARED.into_iter().chain([(name, source)]) {
        environment.add_template(name, source)?;
    }
    Ok(environment)
}

impl From<Chart> for Value {
    fn from(chart: Chart) -> Value {
        context! {
            title => chart.title,
            caption => chart.caption,
            legend => chart.legend,
            svg => Value::from_safe_string(chart.svg),
            header => chart.header,
            rows => chart.rows,
        }
    }
}
