//! The columns of a row that a judge's prompt reads, for whoever asks people to fill them in.

use serde_json::{Map, Value, json};

use super::{JudgePrompt, JudgeSettings, Template};

/// The parts of a grading prompt, in the order in which people fill them in.
const PARTS: [&str; 6] = ["instruction", "response", "response_a", "response_b", "reference", "rubric"];
/// The same without an instruction: the response is then read against the rubric, which comes first.
const PARTS_WITHOUT_INSTRUCTION: [&str; 3] = ["rubric", "response", "reference"];
/// What the judge itself gives its template.
const GIVEN: [&str; 2] = ["scores", "phrase"];

/// A column that the prompt reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PromptColumn {
    /// Its name.
    pub name: String,
    /// Whether a row may lack it: the template tests for it.
    pub optional: bool,
}

impl JudgePrompt {
    /// What forms for a judge of these settings are made of, as the page reads it: scale, phrase, template, columns and chains.
    pub fn about(&self, settings: &JudgeSettings) -> Map<String, Value> {
        let column = |PromptColumn { name, optional }| json!({"name": name, "optional": optional});
        let columns: Vec<Value> = self.columns().into_iter().map(column).collect();
        let fields = [
            ("scale", json!({"texts": settings.scale.texts(), "values": settings.scale.values()})),
            ("phrase", json!(settings.phrase)),
            ("template", json!(settings.template)),
            ("columns", columns.into()),
            ("chain", settings.chain.into()),
            ("maxCompletionLength", settings.max_completion_length.into()),
        ];
        fields.into_iter().map(|(name, value)| (name.into(), value)).collect()
    }

    /// The columns that the template reads: the parts of a grading prompt first, then others in the order of their first use.
    /// A template that reads none gets `prompt`, as the template `plain` does.
    pub fn columns(&self) -> Vec<PromptColumn> {
        let variables = match self.template {
            Template::Plain => Vec::new(),
            Template::Judge | Template::Pair | Template::Own { .. } => self.compiled.variables(),
        };
        let given = |name: &str| GIVEN.contains(&name);
        let mut columns: Vec<PromptColumn> = (variables.into_iter().filter(|variable| !given(&variable.name)))
            .map(|variable| PromptColumn { name: variable.name, optional: variable.tested })
            .collect();
        if columns.is_empty() {
            columns.push(PromptColumn { name: "prompt".into(), optional: false });
        }
        let has_instruction = columns.iter().any(|column| column.name == PARTS[0]);
        let order: &[&str] = if has_instruction { &PARTS } else { &PARTS_WITHOUT_INSTRUCTION };
        columns.sort_by_key(|column| order.iter().position(|part| *part == column.name).unwrap_or(order.len()));
        columns
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::DEFAULT_PHRASE;
    use crate::text::{SpecialTokens, word_level};

    /// The columns of a template, an optional one with a question mark.
    fn columns(template: Template) -> String {
        let unknown = SpecialTokens { unk: Some("<unk>".into()), ..SpecialTokens::default() };
        let tokenizer = word_level(&["1", "2"], &unknown).unwrap();
        let prompt = JudgePrompt::new(template, DEFAULT_PHRASE, "1..2".parse().unwrap(), false, &tokenizer).unwrap();
        let columns = prompt.columns().into_iter();
        columns.map(|c| if c.optional { c.name + "?" } else { c.name }).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_form_asks_for_what_the_template_reads() {
        assert_eq!(columns(Template::Plain), "prompt");
        assert_eq!(columns(Template::Judge), "instruction response reference? rubric?");
        assert_eq!(columns(Template::Pair), "instruction response_a response_b reference? rubric?");
        for (source, expected) in [
            (
                "rubric {{ rubric | trim }} of {{ task.name }} {% if notes is defined %}{{ notes }}{% endif %} response {{ response }} \
                 \"{{ phrase }}\" {{ scores | join(\", \") }}",
                "rubric response task notes?",
            ),
            ("rubric {{ rubric }} response {{ response }} judge", "rubric response"),
            ("{{ rubric }}{{ response }}{{ instruction }}", "instruction response rubric"),
            // What the template sets is its own, from there on and as far as its scope goes.
            ("{% set response = response | trim %}{{ response }}", "response"),
            ("{% set n = namespace(x=1) %}{% set n.x = 2 %}{{ response }}", "response"),
            (
                "{% for key, value in notes %}{{ loop.index }}{{ key }}{{ value | tojson(indent=2) }}{% endfor %}{{ key }}",
                "notes key",
            ),
            ("{% with a = b %}{{ a }}{% endwith %}{{ a }}", "b a"),
            ("{% macro show(response) %}{{ response }}{{ tone }}{% endmacro %}{{ show(response) }}", "response tone"),
            ("{% if tone == mood %}{{ range(3) }}{% endif %}{{ response }}", "response tone mood"),
            // Whatever asks for a variable makes it optional.
            ("{% if a and not b %}{% endif %}{{ c or 'none' }}{{ d | default('') }}{{ e | default }}", "a? b? c? d? e?"),
            ("no column at all", "prompt"),
            ("{{ constructor }}{{ __proto__ }}{{ toString }}", "constructor __proto__ toString"),
        ] {
            assert_eq!(columns(Template::Own { name: "own".into(), source: source.into() }), expected, "{source}");
        }
    }
}
