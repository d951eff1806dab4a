//! Converts JSON values to template values, and template values to JSON text.

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Error, ErrorKind, Value};
use serde_json::Value as Json;

use super::guard::{check_size, check_width, refused};
use super::python::python_float;

/// Converts a JSON value to a template value. The order of keys is kept.
pub fn json_to_template(json: &Json) -> Value {
    match json {
        Json::Null => Value::from(()),
        Json::Bool(truth) => Value::from(*truth),
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(whole), _) => Value::from(whole),
            (None, Some(whole)) => Value::from(whole),
            (None, None) => Value::from(number.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(text) => Value::from(text.as_str()),
        Json::Array(items) => Value::from(items.iter().map(json_to_template).collect::<Vec<_>>()),
        Json::Object(fields) => Value::from_pairs(fields.iter().map(|(key, field)| (key.as_str(), json_to_template(field)))),
    }
}

/// `json.dumps(value, ensure_ascii, indent, separators, sort_keys)`, with the defaults of transformers in chat templates: texts
/// are escaped only as JSON requires. Undefined is null.
///
/// # Errors
/// Arguments of other types.
pub fn python_json(value: &Value, arguments: Kwargs) -> Result<Value, Error> {
    let indent = match arguments.get::<Option<Value>>("indent")?.filter(|indent| !indent.is_none()) {
        None => None,
        Some(text) if text.as_str().is_some() => text.as_str().map(str::to_string),
        Some(width) => Some(blanks(&width)?),
    };
    let (item, key) = match arguments.get::<Option<Vec<String>>>("separators")?.as_deref() {
        Some([item, key]) => (item.clone(), key.clone()),
        Some(_) => return Err(Error::new(ErrorKind::InvalidOperation, "tojson: `separators` are two texts, as in (',', ':')")),
        None => (if indent.is_some() { "," } else { ", " }.to_string(), ": ".to_string()),
    };
    let ascii = arguments.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false);
    let sorted = arguments.get::<Option<bool>>("sort_keys")?.unwrap_or(false);
    arguments.assert_all_used()?;
    let mut dump = Dump { out: String::new(), indent, item, key, ascii, sorted };
    dump.value(value, 0)?;
    Ok(Value::from(dump.out))
}

/// The blanks of one level of `indent=width`; empty where the width is negative.
fn blanks(width: &Value) -> Result<String, Error> {
    let whole = match width.kind() {
        ValueKind::Bool => i64::from(width.is_true()),
        ValueKind::Number if width.is_integer() => i64::try_from(width.clone()).unwrap_or(i64::MAX),
        _ => return Err(refused(format!("tojson: `indent` is {width}; expected a whole number or a text"))),
    };
    check_width(whole)?;
    Ok(" ".repeat(usize::try_from(whole).unwrap_or(0)))
}

/// Writes JSON in Python's form.
struct Dump {
    out: String,
    indent: Option<String>,
    /// The separators between items, and between a key and its value.
    item: String,
    key: String,
    ascii: bool,
    sorted: bool,
}

impl Dump {
    fn value(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        match value.kind() {
            ValueKind::Undefined | ValueKind::None => self.out += "null",
            ValueKind::Bool => self.out += if value.is_true() { "true" } else { "false" },
            ValueKind::Number if value.is_integer() => self.out += &value.to_string(),
            ValueKind::Number => self.out += &json_float(f64::try_from(value.clone())?),
            ValueKind::Seq | ValueKind::Iterable => {
                let items: Vec<Value> = value.try_iter()?.collect();
                self.bracketed('[', ']', depth, items, |dump, item| dump.value(item, depth + 1))?;
            }
            ValueKind::Map => {
                let entry = |key: Value| Ok((key_text(&key)?, value.get_item(&key)?));
                let mut entries: Vec<(String, Value)> = value.try_iter()?.map(entry).collect::<Result<_, Error>>()?;
                if self.sorted {
                    entries.sort_by(|(a, _), (b, _)| a.cmp(b));
                }
                self.bracketed('{', '}', depth, entries, |dump, (key, item)| {
                    dump.text(key);
                    dump.out += &dump.key;
                    dump.value(item, depth + 1)
                })?;
            }
            _ => self.text(value.as_str().map_or_else(|| value.to_string(), str::to_string).as_str()),
        }
        Ok(())
    }

    fn bracketed<T>(
        &mut self,
        open: char,
        close: char,
        depth: usize,
        items: Vec<T>,
        mut write: impl FnMut(&mut Self, &T) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.out.push(open);
        for (i, item) in items.iter().enumerate() {
            if i > 0 {
                self.out += &self.item;
            }
            self.new_line(depth + 1)?;
            write(self, item)?;
        }
        if !items.is_empty() {
            self.new_line(depth)?;
        }
        self.out.push(close);
        Ok(())
    }

    /// Begins a new line if the output is indented. Indents may be long, so this checks the size of the output so far.
    fn new_line(&mut self, depth: usize) -> Result<(), Error> {
        let width = self.indent.as_ref().map_or(0, |indent| 1 + indent.len().saturating_mul(depth));
        check_size(self.out.len().saturating_add(width))?;
        if let Some(indent) = &self.indent {
            self.out.push('\n');
            self.out += &indent.repeat(depth);
        }
        Ok(())
    }

    fn text(&mut self, text: &str) {
        self.out.push('"');
        for c in text.chars() {
            match c {
                '"' => self.out += "\\\"",
                '\\' => self.out += "\\\\",
                '\n' => self.out += "\\n",
                '\r' => self.out += "\\r",
                '\t' => self.out += "\\t",
                '\u{8}' => self.out += "\\b",
                '\u{c}' => self.out += "\\f",
                c if c < ' ' || (self.ascii && !(' '..='~').contains(&c)) => {
                    let mut units = [0; 2];
                    c.encode_utf16(&mut units).iter().for_each(|unit| self.out += &format!("\\u{unit:04x}"));
                }
                c => self.out.push(c),
            }
        }
        self.out.push('"');
    }
}

/// A key as `json.dumps` writes it.
fn key_text(key: &Value) -> Result<String, Error> {
    Ok(match key.kind() {
        ValueKind::None | ValueKind::Undefined => "null".into(),
        ValueKind::Bool => key.is_true().to_string(),
        ValueKind::Number if !key.is_integer() => json_float(f64::try_from(key.clone())?),
        _ => key.to_string(),
    })
}

/// A number as `json.dumps` writes it.
fn json_float(number: f64) -> String {
    match python_float(number).as_str() {
        "nan" => "NaN".into(),
        "inf" => "Infinity".into(),
        "-inf" => "-Infinity".into(),
        finite => finite.into(),
    }
}
