//! Typed access to the keys of a JSON object. A `null` counts as absent, as it does in transformers.

use serde_json::{Map, Value};

use crate::model::error::ModelError;

/// Largest accepted size of one dimension. Real models are far below. A larger size means a damaged file, and with this limit no
/// product of two sizes overflows.
const LARGEST_SIZE: u64 = 1 << 26;

/// A JSON object, and the prefix of its keys in messages ("" or "rope_parameters.").
pub struct Keys<'a> {
    map: &'a Map<String, Value>,
    prefix: &'static str,
}

impl<'a> Keys<'a> {
    pub fn new(map: &'a Map<String, Value>) -> Self {
        Keys { map, prefix: "" }
    }

    /// The value of `key`, unless absent or null.
    pub fn get(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|v| !v.is_null())
    }

    /// Whether the object has the key, even with the value null.
    pub fn has(&self, key: &str) -> bool {
        self.map.contains_key(key)
    }

    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// The keys that are not null.
    pub fn names(&self) -> impl Iterator<Item = &'a str> {
        self.map.iter().filter(|(_, value)| !value.is_null()).map(|(key, _)| key.as_str())
    }

    /// The full name of a key, for messages.
    pub fn name(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    pub fn bad(&self, key: &str, expected: &str, found: &Value) -> ModelError {
        ModelError::BadValue { key: self.name(key), expected: expected.into(), found: describe(found) }
    }

    /// A size: an integer of at least 1.
    pub fn size(&self, key: &str) -> Result<Option<usize>, ModelError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match value.as_u64() {
            Some(n @ 1..=LARGEST_SIZE) => Ok(Some(n as usize)),
            Some(n) if n > LARGEST_SIZE => Err(self.bad(key, &format!("at most {LARGEST_SIZE}"), value)),
            _ => Err(self.bad(key, "an integer of at least 1", value)),
        }
    }

    /// A required size.
    pub fn required_size(&self, key: &str) -> Result<usize, ModelError> {
        self.size(key)?.ok_or_else(|| self.missing(key, "an integer of at least 1"))
    }

    pub fn missing(&self, key: &str, expected: &str) -> ModelError {
        ModelError::MissingKey { key: self.name(key), expected: expected.into() }
    }

    /// A finite number above zero.
    pub fn positive(&self, key: &str) -> Result<Option<f64>, ModelError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match value.as_f64() {
            Some(x) if x.is_finite() && x > 0.0 => Ok(Some(x)),
            _ => Err(self.bad(key, "a number above 0", value)),
        }
    }

    pub fn boolean(&self, key: &str) -> Result<Option<bool>, ModelError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        value.as_bool().map(Some).ok_or_else(|| self.bad(key, "true or false", value))
    }

    pub fn text(&self, key: &str) -> Result<Option<&'a str>, ModelError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        value.as_str().map(Some).ok_or_else(|| self.bad(key, "a string", value))
    }

    /// A nested object. Messages name its keys with `prefix`.
    pub fn object(&self, key: &str, prefix: &'static str) -> Result<Option<Keys<'a>>, ModelError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let map = value.as_object().ok_or_else(|| self.bad(key, "an object", value))?;
        Ok(Some(Keys { map, prefix }))
    }

    /// A list of strings.
    pub fn texts(&self, key: &str) -> Result<Option<Vec<&'a str>>, ModelError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let strings = value.as_array().and_then(|list| list.iter().map(Value::as_str).collect::<Option<Vec<_>>>());
        strings.map(Some).ok_or_else(|| self.bad(key, "a list of strings", value))
    }

    /// Token ids: one integer, a list of integers, or null. Older files write -1 for "none".
    pub fn token_ids(&self, key: &str, default: &[u32]) -> Result<Vec<u32>, ModelError> {
        let Some(value) = self.map.get(key) else { return Ok(default.to_vec()) };
        let token_id = |v: &Value| v.as_i64().filter(|id| (-1..=i64::from(u32::MAX)).contains(id));
        let ids: Option<Vec<i64>> = match value {
            Value::Null => Some(Vec::new()),
            Value::Array(list) => list.iter().map(token_id).collect(),
            single => token_id(single).map(|id| vec![id]),
        };
        let ids = ids.ok_or_else(|| self.bad(key, "a token id or a list of token ids", value))?;
        Ok(ids.into_iter().filter_map(|id| u32::try_from(id).ok()).collect())
    }
}

/// A JSON value for messages: shortened, and with its type if it is an object or a list.
pub fn describe(value: &Value) -> String {
    let text = value.to_string();
    let mut short: String = text.chars().take(60).collect();
    if short.len() < text.len() {
        short.push_str(" ...");
    }
    match value {
        Value::Object(_) => format!("the object {short}"),
        Value::Array(_) => format!("the list {short}"),
        _ => short,
    }
}
