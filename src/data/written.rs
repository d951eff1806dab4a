//! Keeps the text of every value of a JSON row, so that rows are written back as they were read.
//!
//! A parsed number has a value but no text: `1.50` would be written as `1.5`, and an id of 23 digits as another number.

use std::collections::HashSet;
use std::io::{Error, Write};

use serde_json::{Map, Value};

use super::json::replace_nan;

/// A parsed row.
pub(super) struct ParsedRow {
    /// The value. A whole number beyond 64 bits is kept as a text of its digits.
    pub value: Value,
    /// The row on one line with the original text of every value, where serde would write `value` differently.
    pub written: Option<Box<str>>,
    /// The syntax error of a row that was read although it contains NaN or Infinity. These became null.
    pub repaired: Option<serde_json::Error>,
}

impl ParsedRow {
    /// A row that was not read from JSON text.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn from_fields(fields: Map<String, Value>) -> Self {
        ParsedRow { value: Value::Object(fields), written: None, repaired: None }
    }
}

/// Parses a row's text.
///
/// # Errors
/// A text that is not valid JSON, even with null for NaN.
pub(super) fn parse(text: &[u8]) -> serde_json::Result<ParsedRow> {
    match serde_json::from_slice(text) {
        Ok(value) => Ok(with_text(text, value)),
        Err(error) => {
            let Some(repaired) = replace_nan(text) else { return Err(error) };
            match serde_json::from_slice(&repaired) {
                Ok(value) => {
                    // The words stay in the text, so that the row is written back with them.
                    let value = with_large_numbers_quoted(&repaired, value);
                    Ok(ParsedRow { value, written: boxed(compact(text)), repaired: Some(error) })
                }
                Err(_) => Err(error),
            }
        }
    }
}

/// The columns of a row's text, as [`super::Reader`] parses it: with null for the words NaN and Infinity. `None` where the text
/// is not an object.
pub fn columns_of(text: &[u8]) -> Option<Map<String, Value>> {
    match parse(text).ok()?.value {
        Value::Object(columns) => Some(columns),
        _ => None,
    }
}

fn with_text(text: &[u8], value: Value) -> ParsedRow {
    let compacted = compact(text);
    if serde_json::to_writer(ExpectedText(&compacted), &value).is_ok() {
        return ParsedRow { value, written: None, repaired: None };
    }
    ParsedRow { value: with_large_numbers_quoted(&compacted, value), written: boxed(compacted), repaired: None }
}

fn with_large_numbers_quoted(text: &[u8], value: Value) -> Value {
    quote_large_numbers(text).and_then(|quoted| serde_json::from_slice(&quoted).ok()).unwrap_or(value)
}

fn boxed(text: Vec<u8>) -> Option<Box<str>> {
    String::from_utf8(text).ok().map(String::into_boxed_str)
}

/// JSON without the white space between its tokens.
fn compact(text: &[u8]) -> Vec<u8> {
    let (mut quoted, mut escaped) = (false, false);
    let keep = |byte: &u8| {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = quoted,
            b'"' => quoted = !quoted,
            _ => {}
        }
        quoted || !byte.is_ascii_whitespace()
    };
    text.iter().copied().filter(keep).collect()
}

/// A writer that accepts only this text; anything else is an error.
struct ExpectedText<'a>(&'a [u8]);

impl Write for ExpectedText<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 = self.0.strip_prefix(bytes).ok_or_else(|| Error::other("another text"))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The text with quotes around whole numbers beyond 64 bits; `None` where it has none.
fn quote_large_numbers(text: &[u8]) -> Option<Vec<u8>> {
    let mut found = false;
    let mut out = Vec::with_capacity(text.len());
    let (mut at, mut quoted) = (0, false);
    while let Some(&byte) = text.get(at) {
        let length = match byte {
            b'"' => {
                quoted = !quoted;
                1
            }
            b'\\' => 2,
            _ if quoted => 1,
            b'-' | b'0'..=b'9' => {
                text[at..].iter().take_while(|b| matches!(b, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E')).count()
            }
            _ => 1,
        };
        let token = &text[at..(at + length).min(text.len())];
        if !quoted && is_large(token) {
            found = true;
            out.extend_from_slice(&[b"\"", token, b"\""].concat());
        } else {
            out.extend_from_slice(token);
        }
        at += length;
    }
    found.then_some(out)
}

fn is_large(token: &[u8]) -> bool {
    let digits = token.strip_prefix(b"-").unwrap_or(token);
    let whole = digits.len() > 18 && digits.iter().all(u8::is_ascii_digit);
    whole && std::str::from_utf8(token).is_ok_and(|text| text.parse::<i64>().is_err() && text.parse::<u64>().is_err())
}

/// The members of a compact JSON object: each key and value as written.
fn members(object: &str) -> Vec<(&str, &str)> {
    let mut found = Vec::new();
    let inside = object.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap_or_default();
    let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
    let (mut start, mut colon) = (0, None);
    for (at, byte) in inside.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = quoted,
            b'"' => quoted = !quoted,
            _ if quoted => {}
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            b':' if depth == 0 && colon.is_none() => colon = Some(at),
            b',' if depth == 0 => {
                found.extend(colon.map(|colon| (&inside[start..colon], &inside[colon + 1..at])));
                (start, colon) = (at + 1, None);
            }
            _ => {}
        }
    }
    found.extend(colon.map(|colon| (&inside[start..colon], &inside[colon + 1..])));
    found
}

/// Parses a key of JSON text.
fn parse_key(written: &str) -> String {
    serde_json::from_str(written).unwrap_or_default()
}

/// The first key that occurs twice in a compact object.
pub(super) fn duplicate_key(object: &str, fields: &Map<String, Value>) -> Option<String> {
    let members = members(object);
    if members.len() == fields.len() {
        return None;
    }
    let mut seen = HashSet::new();
    members.into_iter().map(|(name, _)| parse_key(name)).find(|name| !seen.insert(name.clone()))
}

/// Appends the member `column` to a compact object, replacing a member of the same name. `value` is JSON.
pub(super) fn with_member(object: &str, column: &str, value: &str) -> String {
    let kept = members(object).into_iter().filter(|(name, _)| parse_key(name) != column);
    let name = Value::from(column);
    let members: Vec<String> = kept.map(|(name, value)| format!("{name}:{value}")).chain([format!("{name}:{value}")]).collect();
    format!("{{{}}}", members.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str) -> String {
        let parsed = parse(text.as_bytes()).unwrap();
        parsed.written.map_or_else(|| parsed.value.to_string(), String::from)
    }

    #[test]
    fn every_value_keeps_its_text() {
        for (text, expected) in [
            (r#"{"id": 12345678901234567890123, "x": -0, "y": 1.50, "z": 1E5}"#, None),
            (r#"{"a": "\u00e9\/\ud83d\ude00 \" { , : } [", "b": [1, {"c" : 1.0}], "a b": ""}"#, None),
            ("{\n \"a\" : 1.10 ,\r\n\t\"b\": \"x y\"}", Some(r#"{"a":1.10,"b":"x y"}"#)),
            (r#"{"a": NaN, "b": [1, -Infinity, "NaN\" NaN"], "c": 1.50}"#, None),
            (r#"{"a": 18446744073709551615, "b": 0.1, "c": "é"}"#, None),
            ("{}", None),
        ] {
            if expected.is_none() {
                let columns = columns_of(written(text).as_bytes());
                assert_eq!(columns, columns_of(text.as_bytes()), "what comes out is read as what went in");
            }
            let compact = String::from_utf8(compact(text.as_bytes())).unwrap();
            assert_eq!(written(text), expected.unwrap_or(&compact), "{text}");
        }
        assert!(parse(br#"{"a":1,"b":"NaN"}"#).unwrap().written.is_none(), "kept only where it says more");
        assert!(parse(b"{\"a\": NaN x}").is_err() && parse(b"{\"a\": nan}").is_err());
    }

    #[test]
    fn whole_numbers_keep_their_digits() {
        let value =
            parse(br#"{"a": [-99999999999999999999, 7], "b": 1e30, "c": "\"5", "d": 18446744073709551616}"#).unwrap().value;
        assert_eq!(value["a"], serde_json::json!(["-99999999999999999999", 7]));
        assert_eq!((&value["c"], &value["d"]), (&"\"5".into(), &"18446744073709551616".into()));
        assert!(value["b"].is_f64());
    }

    #[test]
    fn a_member_is_appended_or_replaced() {
        for (object, expected) in [
            ("{}", r#"{"judge":{"e":1}}"#),
            (r#"{"a":1.0,"b":[{"x":","},2]}"#, r#"{"a":1.0,"b":[{"x":","},2],"judge":{"e":1}}"#),
            (r#"{"judge":{"a":[1,2]},"\"}":"\\"}"#, r#"{"\"}":"\\","judge":{"e":1}}"#),
            (r#"{"jud\u0067e":3,"c":1}"#, r#"{"c":1,"judge":{"e":1}}"#),
        ] {
            assert_eq!(with_member(object, "judge", r#"{"e":1}"#), expected);
        }
    }
}
