//! Which modules an adapter's settings select, by the rules of PEFT 0.21 (`check_target_module_exists` and `get_pattern_key`).
//!
//! Patterns are regular expressions of Python's `re`. They are untrusted: one that needs too many steps is an error.

use fancy_regex::Regex;
use serde_json::Value;

use super::{ALL_LINEAR, ends_in};
use crate::model::error::ModelError;

/// PEFT's targets where `target_modules` is null. They are the same for every supported family; PEFT itself has none for SmolLM3.
const DEFAULT_TARGETS: [&str; 2] = ["q_proj", "v_proj"];
/// Set operations in Rust's character classes, which Python reads as plain characters.
const SET_OPERATIONS: [&str; 4] = ["&&", "~~", "--", "[["];

fn bad(key: &str, expected: &str, found: impl ToString) -> ModelError {
    ModelError::BadValue { key: key.into(), expected: expected.into(), found: found.to_string() }
}

/// The regular expression `text` under `key`, completed by `wrap` as PEFT does it.
fn compile(key: &str, text: &str, wrap: impl Fn(&str) -> String) -> Result<Regex, ModelError> {
    let expected = "a regular expression as Python's `re` has them";
    if SET_OPERATIONS.iter().any(|operation| text.contains(operation)) {
        return Err(bad(key, &format!("{expected}, without {}", SET_OPERATIONS.join(" ")), format!("\"{text}\"")));
    }
    Regex::new(&wrap(text)).map_err(|e| bad(key, expected, format!("\"{text}\" ({e})")))
}

fn is_match(key: &str, regex: &Regex, module: &str) -> Result<bool, ModelError> {
    regex.is_match(module).map_err(|e| bad(key, "a regular expression that takes few steps", format!("{regex} ({e})")))
}

/// A selection of modules by name.
enum NameFilter {
    AllLinear,
    /// Modules with one of these names, or with one of these names after a dot at the end.
    List(Vec<String>),
    /// Modules whose whole name matches.
    Pattern(Regex),
}

impl NameFilter {
    /// Reads the value of `key`. `None` if it is null, missing or empty.
    fn read(key: &str, value: Option<&Value>) -> Result<Option<Self>, ModelError> {
        let expected = "a list of names, or a regular expression";
        match value {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Array(list)) => {
                let texts: Option<Vec<String>> = list.iter().map(|v| v.as_str().map(str::to_string)).collect();
                let texts = texts.ok_or_else(|| bad(key, expected, Value::Array(list.clone())))?;
                Ok(if texts.is_empty() { None } else { Some(NameFilter::List(texts)) })
            }
            Some(Value::String(text)) if text.is_empty() => Ok(None),
            Some(Value::String(text)) if text.eq_ignore_ascii_case(ALL_LINEAR) => Ok(Some(NameFilter::AllLinear)),
            Some(Value::String(text)) => Ok(Some(NameFilter::Pattern(compile(key, text, |text| format!(r"\A(?:{text})\z"))?))),
            Some(other) => Err(bad(key, expected, other)),
        }
    }

    fn selects(&self, key: &str, module: &str) -> Result<bool, ModelError> {
        match self {
            NameFilter::AllLinear => Ok(true),
            NameFilter::List(names) => Ok(names.iter().any(|name| ends_in(name, module))),
            NameFilter::Pattern(regex) => is_match(key, regex, module),
        }
    }
}

/// `layers_to_transform` and `layers_pattern`: a selection of layers by the number in a module's name.
struct LayerFilter {
    numbers: Vec<u64>,
    /// The number is the group `idx` of the first pattern that matches.
    patterns: Vec<Regex>,
}

impl LayerFilter {
    /// `None` if every layer is selected.
    fn read(json: &Value) -> Result<Option<Self>, ModelError> {
        const NUMBERS: &str = "layers_to_transform";
        const PATTERN: &str = "layers_pattern";
        let expected = || bad(NUMBERS, "the number of a layer, or a list of them", &json[NUMBERS]);
        let numbers = match &json[NUMBERS] {
            Value::Null => return Ok(None),
            Value::Array(list) if list.is_empty() => return Ok(None),
            Value::Array(list) => list.iter().map(Value::as_u64).collect::<Option<Vec<u64>>>().ok_or_else(expected)?,
            one => vec![one.as_u64().ok_or_else(expected)?],
        };
        let texts: Vec<&str> = match &json[PATTERN] {
            Value::Null => Vec::new(),
            Value::String(text) if text.is_empty() => Vec::new(),
            Value::String(text) => vec![text],
            Value::Array(list) => {
                let texts: Option<Vec<&str>> = list.iter().map(Value::as_str).collect();
                texts.ok_or_else(|| bad(PATTERN, "text, or a list of texts", &json[PATTERN]))?
            }
            other => return Err(bad(PATTERN, "text, or a list of texts", other)),
        };
        let patterns = match texts[..] {
            [] => vec![compile(PATTERN, "", |_| r"\A.*?\.[^.]*\.(?P<idx>\d+)\.".into())?],
            _ => texts
                .into_iter()
                .map(|text| compile(PATTERN, text, |text| format!(r"\A(?:(?:^|.*?\.){text}\.(?P<idx>\d+)\.)")))
                .collect::<Result<_, _>>()?,
        };
        Ok(Some(LayerFilter { numbers, patterns }))
    }

    fn selects(&self, module: &str) -> Result<bool, ModelError> {
        for pattern in &self.patterns {
            let captures = pattern
                .captures(module)
                .map_err(|e| bad("layers_pattern", "a regular expression that takes few steps", format!("{pattern} ({e})")))?;
            if let Some(captures) = captures {
                let number = captures.name("idx").and_then(|index| index.as_str().parse().ok());
                return Ok(number.is_some_and(|number| self.numbers.contains(&number)));
            }
        }
        Ok(false)
    }
}

/// The modules that an adapter's settings select.
pub(super) struct Selection {
    targets: NameFilter,
    excluded: Option<NameFilter>,
    layers: Option<LayerFilter>,
}

impl Selection {
    /// Reads the selection from `adapter_config.json`.
    ///
    /// # Errors
    /// Values of a wrong type; invalid regular expressions.
    pub fn read(json: &Value) -> Result<Self, ModelError> {
        let default = || NameFilter::List(DEFAULT_TARGETS.map(String::from).to_vec());
        let targets = match &json["target_modules"] {
            Value::Array(list) if list.is_empty() => return Err(bad("target_modules", "names of modules", "none")),
            value => NameFilter::read("target_modules", Some(value))?.unwrap_or_else(default),
        };
        let layers = LayerFilter::read(json)?;
        if layers.is_some() && !matches!(targets, NameFilter::List(_)) {
            return Err(ModelError::Inconsistent(
                "`layers_to_transform` cannot be used where `target_modules` is a text (nor does PEFT take it)".into(),
            ));
        }
        Ok(Selection { targets, excluded: NameFilter::read("exclude_modules", json.get("exclude_modules"))?, layers })
    }

    /// Whether `module` (`model.layers.0.self_attn.q_proj`) is adapted.
    ///
    /// # Errors
    /// A regular expression that takes too many steps.
    pub fn selects(&self, module: &str) -> Result<bool, ModelError> {
        if let Some(excluded) = &self.excluded
            && excluded.selects("exclude_modules", module)?
        {
            return Ok(false);
        }
        if !self.targets.selects("target_modules", module)? {
            return Ok(false);
        }
        self.layers.as_ref().map_or(Ok(true), |layers| layers.selects(module))
    }

    /// The targets, if a list of name suffixes expresses the whole selection; otherwise `None`.
    pub fn names(&self) -> Option<Vec<String>> {
        match (&self.targets, &self.excluded, &self.layers) {
            (NameFilter::AllLinear, None, None) => Some(vec![ALL_LINEAR.into()]),
            (NameFilter::List(names), None, None) => Some(names.clone()),
            _ => None,
        }
    }
}

/// `rank_pattern` or `alpha_pattern`: numbers for single modules. The first pattern that matches counts.
pub(super) struct PatternValues {
    key: &'static str,
    patterns: Vec<(Regex, f64)>,
}

impl PatternValues {
    /// Reads the patterns from `adapter_config.json`.
    ///
    /// # Errors
    /// Values that are not numbers; invalid regular expressions.
    pub fn read(key: &'static str, json: &Value) -> Result<Self, ModelError> {
        let map = match &json[key] {
            Value::Null => return Ok(PatternValues { key, patterns: Vec::new() }),
            Value::Object(map) => map,
            other => return Err(bad(key, "numbers by module", other)),
        };
        let pattern = |(text, number): (&String, &Value)| {
            let regex = compile(key, text, |text| format!(r"\A(?:(.*\.)?({text})$)"))?;
            let number = number.as_f64().filter(|x| x.is_finite());
            Ok((regex, number.ok_or_else(|| bad(key, "numbers by module", &json[key]))?))
        };
        Ok(PatternValues { key, patterns: map.iter().map(pattern).collect::<Result<_, ModelError>>()? })
    }

    /// The number of `module`, if a pattern matches it.
    ///
    /// # Errors
    /// A regular expression that takes too many steps.
    pub fn of(&self, module: &str) -> Result<Option<f64>, ModelError> {
        for (regex, number) in &self.patterns {
            if is_match(self.key, regex, module)? {
                return Ok(Some(*number));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const Q0: &str = "model.layers.0.self_attn.q_proj";
    const V1: &str = "model.layers.1.self_attn.v_proj";
    const V10: &str = "model.layers.10.self_attn.v_proj";

    /// The expected numbers are those of Python's `re` and PEFT 0.21.
    #[test]
    fn the_first_pattern_that_matches_counts() {
        let cases = [
            (json!({".*v_proj": 64}), [None, Some(64.0), Some(64.0)]),
            (json!({r"layers\.\d+\.self_attn\.v_proj": 64}), [None, Some(64.0), Some(64.0)]),
            (json!({r"layers\.[0-2]\.self_attn\.q_proj": 2}), [Some(2.0), None, None]),
            (json!({"v_proj": 1, ".*": 2}), [Some(2.0), Some(1.0), Some(1.0)]),
            (json!({".*": 2, "v_proj": 1}), [Some(2.0), Some(2.0), Some(2.0)]),
            (json!({"proj": 1, "_proj": 1, "self_attn": 1, "layers.1": 1}), [None, None, None]),
            (json!({"q_proj|layers.1.self_attn.v_proj": 3}), [Some(3.0), Some(3.0), None]),
            (json!({"^model.layers.1.self_attn.v_proj": 3}), [None, Some(3.0), None]),
            (json!({"a)|(model": 3}), [None, None, None]),
            (json!({r"(?!.*q_proj).*proj": 3}), [None, Some(3.0), Some(3.0)]),
            (json!(null), [None, None, None]),
        ];
        for (map, expected) in cases {
            let values = PatternValues::read("alpha_pattern", &json!({"alpha_pattern": map})).unwrap();
            assert_eq!([Q0, V1, V10].map(|module| values.of(module).unwrap()), expected, "{map}");
        }
        for (map, part) in [
            (json!({"*.v_proj": 1}), "*.v_proj"),
            (json!({"(": 1}), "regular expression"),
            (json!({"q": "x"}), "numbers by module"),
            (json!([1]), "numbers by module"),
            (json!({"[a&&b]": 1}), "without"),
        ] {
            let error = PatternValues::read("alpha_pattern", &json!({"alpha_pattern": map})).err().unwrap().to_string();
            assert!(error.contains(part) && error.contains("alpha_pattern"), "{error}");
        }
    }

    #[test]
    fn an_expression_that_takes_too_many_steps_is_an_error() {
        let values = PatternValues::read("rank_pattern", &json!({"rank_pattern": {r"(?=((a|b|ab)*)*c)(x)\3": 1}})).unwrap();
        assert!(values.of(&"ab".repeat(5000)).is_err_and(|e| e.to_string().contains("steps")));
    }

    #[test]
    fn modules_are_selected_as_in_peft() {
        let cases = [
            (json!({"target_modules": ["q_proj"]}), [true, false, false]),
            (json!({"target_modules": ["proj", "layers.1.self_attn.v_proj"]}), [false, true, false]),
            (json!({"target_modules": ".*(q|v)_proj"}), [true, true, true]),
            (json!({"target_modules": "v_proj"}), [false, false, false]),
            (json!({"target_modules": "ALL-linear"}), [true, true, true]),
            (json!({"target_modules": null}), [true, true, true]),
            (json!({}), [true, true, true]),
            (json!({"target_modules": ["v_proj"], "layers_to_transform": [1]}), [false, true, false]),
            (json!({"target_modules": ["q_proj"], "layers_to_transform": 0, "layers_pattern": "layers"}), [true, false, false]),
            (
                json!({"target_modules": ["q_proj"], "layers_to_transform": 0, "layers_pattern": ["h", "layers"]}),
                [true, false, false],
            ),
            (
                json!({"target_modules": ["q_proj"], "layers_to_transform": [0], "layers_pattern": "blocks"}),
                [false, false, false],
            ),
            (json!({"target_modules": ["q_proj"], "layers_to_transform": []}), [true, false, false]),
            (json!({"target_modules": "all-linear", "exclude_modules": ["v_proj"]}), [true, false, false]),
            (json!({"target_modules": ["v_proj"], "exclude_modules": ".*layers.1\\..*"}), [false, false, true]),
        ];
        for (json, expected) in cases {
            let selection = Selection::read(&json).unwrap();
            assert_eq!([Q0, V1, V10].map(|module| selection.selects(module).unwrap()), expected, "{json}");
        }
        for json in [
            json!({"target_modules": []}),
            json!({"target_modules": [1]}),
            json!({"target_modules": "(", "x": 0}),
            json!({"target_modules": ".*q_proj", "layers_to_transform": 0}),
            json!({"target_modules": ["q_proj"], "layers_to_transform": "0"}),
        ] {
            assert!(Selection::read(&json).is_err(), "{json}");
        }
    }
}
