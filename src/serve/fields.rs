//! The fields of a request's body, each read with an error that names it. Null counts as absent; fields that nobody reads are
//! ignored.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use super::error::{ApiError, ApiResult};
use super::limits::parse;

/// The fields of a body.
pub struct Fields(Map<String, Value>);

impl Fields {
    /// The fields of a JSON object.
    ///
    /// # Errors
    /// A body that is none.
    pub fn parse(body: &[u8]) -> ApiResult<Self> {
        match parse::<Value>(body)? {
            Value::Object(fields) => Ok(Fields(fields)),
            _ => Err(ApiError::bad("the body of the request is no JSON object")),
        }
    }

    pub fn of(fields: Map<String, Value>) -> Self {
        Fields(fields)
    }

    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    pub fn take(&mut self, name: &str) -> Option<Value> {
        self.0.remove(name).filter(|value| !value.is_null())
    }

    fn unfit<T>(&self, name: &str, expected: &str) -> ApiResult<T> {
        let found = self.get(name).map(short).unwrap_or_default();
        Err(ApiError::field(name, format!("`{name}` is {found}; expected {expected}")))
    }

    pub fn text(&self, name: &str) -> ApiResult<Option<&str>> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => self.unfit(name, "a text"),
        }
    }

    pub fn flag(&self, name: &str) -> ApiResult<bool> {
        match self.get(name) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(_) => self.unfit(name, "true or false"),
        }
    }

    pub fn number(&self, name: &str, range: RangeInclusive<f64>) -> ApiResult<Option<f64>> {
        let Some(value) = self.get(name) else { return Ok(None) };
        match value.as_f64().filter(|number| range.contains(number)) {
            Some(number) => Ok(Some(number)),
            None => self.unfit(name, &format!("a number from {} to {}", range.start(), range.end())),
        }
    }

    pub fn whole(&self, name: &str, range: RangeInclusive<u64>) -> ApiResult<Option<u64>> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let whole = value.as_u64().or_else(|| value.as_f64().filter(|n| n.fract() == 0.0 && *n >= 0.0).map(|n| n as u64));
        match whole.filter(|number| range.contains(number)) {
            Some(number) => Ok(Some(number)),
            None => self.unfit(name, &format!("a whole number from {} to {}", range.start(), range.end())),
        }
    }

    /// Any whole number of 64 bits, with a sign or without.
    pub fn seed(&self, name: &str) -> ApiResult<u64> {
        let Some(value) = self.get(name) else { return Ok(0) };
        match value.as_u64().or_else(|| value.as_i64().map(|seed| seed as u64)) {
            Some(seed) => Ok(seed),
            None => self.unfit(name, "a whole number of 64 bits"),
        }
    }

    /// An object.
    pub fn object(&self, name: &str) -> ApiResult<Option<&Map<String, Value>>> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Object(fields)) => Ok(Some(fields)),
            Some(_) => self.unfit(name, "an object"),
        }
    }

    /// One text, or a list of at most `most`.
    pub fn texts(&self, name: &str, most: usize) -> ApiResult<Vec<String>> {
        let expected = || format!("a text, or a list of at most {most}");
        match self.get(name) {
            None => Ok(Vec::new()),
            Some(Value::String(text)) => Ok(vec![text.clone()]),
            Some(Value::Array(list)) if list.len() <= most => {
                let texts: Option<Vec<String>> = list.iter().map(|text| text.as_str().map(String::from)).collect();
                texts.map_or_else(|| self.unfit(name, &expected()), Ok)
            }
            Some(_) => self.unfit(name, &expected()),
        }
    }

    /// Refuses fields beside these.
    ///
    /// # Errors
    /// The first other field, by name.
    pub fn only(&self, known: &[&str]) -> ApiResult<()> {
        match self.0.keys().find(|name| !known.contains(&name.as_str())) {
            None => Ok(()),
            Some(name) => Err(ApiError::field(name, format!("`{name}` is unknown; there are {}", known.join(", ")))),
        }
    }

    /// Moves fields into an object of their own.
    pub fn nest(&mut self, object: &str, names: &[&str]) {
        let moved: Map<String, Value> = names.iter().filter_map(|name| Some((name.to_string(), self.take(name)?))).collect();
        self.0.insert(object.into(), Value::Object(moved));
    }

    /// Refuses fields that would change the answer, unless they have a value that changes nothing.
    ///
    /// # Errors
    /// The first such field, by name.
    pub fn refuse(&self, refused: &[(&str, &[f64], &str)]) -> ApiResult<()> {
        for (name, harmless, advice) in refused {
            let changes = self.get(name).is_some_and(|value| match value {
                Value::Bool(flag) => *flag,
                Value::Number(number) => !number.as_f64().is_some_and(|number| harmless.contains(&number)),
                Value::Array(list) => !list.is_empty(),
                Value::Object(fields) => !fields.is_empty(),
                Value::String(text) => !text.is_empty(),
                Value::Null => false,
            });
            if changes {
                return Err(ApiError::unsupported(name, advice));
            }
        }
        Ok(())
    }
}

/// A value in a message.
pub fn short(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text,
    }
}
