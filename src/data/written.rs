//! A JSON row as it was written: the text of every value kept, so that rows come out as they went in.
//!
//! A parsed number knows its value, not its text: `1.50` would come out as `1.5`, and an id of 23 digits as another number.

use std::collections::HashSet;
use std::io::{Error, Write};

use serde_json::{Map, Value};

use super::json::without_nan;

/// A row's text, read.
pub(super) struct Parsed {
    /// The value. A whole number beyond 64 bits is its digits as a text.
    pub value: Value,
    /// The row on one line with the text of every value as it was, where serde would write `value` otherwise.
    pub written: Option<Box<str>>,
    /// Why the text is no JSON, though it was read: it holds NaN or Infinity, which became null.
    pub repaired: Option<serde_json::Error>,
}

impl Parsed {
    /// A row that was never a text of JSON.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn of(fields: Map<String, Value>) -> Self {
        Parsed { value: Value::Object(fields), written: None, repaired: None }
    }
}

/// Reads a row's text.
///
/// # Errors
/// What is no JSON, even with null for NaN.
pub(super) fn parse(text: &[u8]) -> serde_json::Result<Parsed> {
    match serde_json::from_slice(text) {
        Ok(value) => Ok(with_text(text, value)),
        Err(error) => {
            let Some(repaired) = without_nan(text) else { return Err(error) };
            match serde_json::from_slice(&repaired) {
                Ok(value) => {
                    // The words stay in the text, so that the row comes out with them.
                    let value = with_large_quoted(&repaired, value);
                    Ok(Parsed { value, written: boxed(without_blanks(text)), repaired: Some(error) })
                }
                Err(_) => Err(error),
            }
        }
    }
}

/// The columns of a row's text, as a reader of rows takes them: with null for the words NaN and Infinity. `None` where it is no
/// object.
pub fn columns_of(text: &[u8]) -> Option<Map<String, Value>> {
    match parse(text).ok()?.value {
        Value::Object(columns) => Some(columns),
        _ => None,
    }
}

fn with_text(text: &[u8], value: Value) -> Parsed {
    let compact = without_blanks(text);
    if serde_json::to_writer(Same(&compact), &value).is_ok() {
        return Parsed { value, written: None, repaired: None };
    }
    Parsed { value: with_large_quoted(&compact, value), written: boxed(compact), repaired: None }
}

fn with_large_quoted(text: &[u8], value: Value) -> Value {
    large_quoted(text).and_then(|quoted| serde_json::from_slice(&quoted).ok()).unwrap_or(value)
}

fn boxed(text: Vec<u8>) -> Option<Box<str>> {
    String::from_utf8(text).ok().map(String::into_boxed_str)
}

/// JSON without the white space between its tokens.
fn without_blanks(text: &[u8]) -> Vec<u8> {
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

/// Takes what is written as long as it is the same as this text; anything else is an error.
struct Same<'a>(&'a [u8]);

impl Write for Same<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 = self.0.strip_prefix(bytes).ok_or_else(|| Error::other("another text"))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The text with quotes around whole numbers beyond 64 bits; `None` where there is none.
fn large_quoted(text: &[u8]) -> Option<Vec<u8>> {
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

/// The members of a JSON object without blanks: each key and value as they are written.
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

/// A key as JSON writes it, read.
fn key(written: &str) -> String {
    serde_json::from_str(written).unwrap_or_default()
}

/// The first key that an object without blanks has twice.
pub(super) fn twice(object: &str, fields: &Map<String, Value>) -> Option<String> {
    let members = members(object);
    if members.len() == fields.len() {
        return None;
    }
    let mut seen = HashSet::new();
    members.into_iter().map(|(name, _)| key(name)).find(|name| !seen.insert(name.clone()))
}

/// The object without blanks, and `value`, which is JSON too, behind its other members under the name `column`; what was
/// there under that name is left out.
pub(super) fn with_member(object: &str, column: &str, value: &str) -> String {
    let kept = members(object).into_iter().filter(|(name, _)| key(name) != column);
    let new = (Value::from(column).to_string(), value);
    let all: Vec<String> = kept.map(|(name, value)| format!("{name}:{value}")).chain([format!("{}:{}", new.0, new.1)]).collect();
    format!("{{{}}}", all.join(","))
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
            let compact = String::from_utf8(without_blanks(text.as_bytes())).unwrap();
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
    fn a_member_more() {
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
