//! Values as text in Python's form, where Rust's form differs.

use minijinja::value::ValueKind;
use minijinja::{Error, Value};

use super::guard::check_size;

/// The value itself; or, if it is or contains a number that minijinja would print differently, its text as Python's `str`.
pub fn as_text(value: &Value) -> Value {
    if prints_differently(value) { Value::from(repr(value)) } else { value.clone() }
}

/// Whether the value is or contains a number that Python writes with an exponent, or a NaN.
fn prints_differently(value: &Value) -> bool {
    match value.kind() {
        ValueKind::Number if !value.is_integer() => {
            f64::try_from(value.clone()).is_ok_and(|number| number.is_nan() || python_float(number).contains('e'))
        }
        ValueKind::Seq => value.try_iter().is_ok_and(|mut items| items.any(|item| prints_differently(&item))),
        ValueKind::Map => pairs(value).iter().any(|(key, item)| prints_differently(key) || prints_differently(item)),
        _ => false,
    }
}

fn pairs(value: &Value) -> Vec<(Value, Value)> {
    value.as_object().and_then(|object| object.try_iter_pairs()).into_iter().flatten().collect()
}

fn repr(value: &Value) -> String {
    match value.kind() {
        ValueKind::Number if !value.is_integer() => f64::try_from(value.clone()).map_or_else(|_| value.to_string(), python_float),
        ValueKind::Seq => {
            let items: Vec<String> = value.try_iter().into_iter().flatten().map(|item| repr(&item)).collect();
            match (value.is_tuple(), items.len()) {
                (true, 1) => format!("({},)", items[0]),
                (true, _) => format!("({})", items.join(", ")),
                (false, _) => format!("[{}]", items.join(", ")),
            }
        }
        ValueKind::Map => {
            let items: Vec<String> = pairs(value).iter().map(|(key, item)| format!("{}: {}", repr(key), repr(item))).collect();
            format!("{{{}}}", items.join(", "))
        }
        _ => format!("{value:?}"),
    }
}

/// `float.__repr__`.
pub fn python_float(number: f64) -> String {
    if !number.is_finite() {
        return number.to_string().to_lowercase();
    }
    let scientific = format!("{number:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..16).contains(&exponent) {
        let plain = number.to_string();
        return if plain.contains('.') { plain } else { plain + ".0" };
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

/// `markupsafe.escape`: escapes a text for HTML, unless it is already marked as safe.
pub fn escape(value: &Value) -> Result<Value, Error> {
    if value.is_safe() || value.is_undefined() {
        return Ok(value.clone());
    }
    let text = as_text(value).to_string();
    let longer: usize = text.matches(['&', '<', '>', '"', '\'']).count().saturating_mul("&#34;".len());
    check_size(text.len().saturating_add(longer))?;
    let entities = [('&', "&amp;"), ('>', "&gt;"), ('<', "&lt;"), ('\'', "&#39;"), ('"', "&#34;")];
    let escaped = entities.into_iter().fold(text, |text, (character, entity)| text.replace(character, entity));
    Ok(Value::from_safe_string(escaped))
}

/// `str.title`: capitalises the first letter of each run of letters, whatever separates the runs.
pub fn title(text: &str) -> String {
    let mut titled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(is_cased) {
        let word = &rest[start..];
        let (word, after) = word.split_at(word.find(|c| !is_cased(c)).unwrap_or(word.len()));
        titled += &rest[..start];
        // Lower-case the whole word at once, since a sigma at its end has another form.
        let lower = word.to_lowercase();
        for first in word.chars().take(1) {
            let after_first: usize = first.to_lowercase().map(char::len_utf8).sum();
            titled += &titlecase(first);
            titled += &lower[after_first..];
        }
        rest = after;
    }
    titled + rest
}

fn is_cased(c: char) -> bool {
    c.is_lowercase() || c.is_uppercase() || matches!(c, 'ǅ' | 'ǈ' | 'ǋ' | 'ǲ')
}

/// The title-case form of a letter.
fn titlecase(c: char) -> String {
    match c {
        'Ǆ'..='ǆ' => "ǅ".into(),
        'Ǉ'..='ǉ' => "ǈ".into(),
        'Ǌ'..='ǌ' => "ǋ".into(),
        'Ǳ'..='ǳ' => "ǲ".into(),
        // Georgian uses capitals for whole texts only.
        'ა'..='ჿ' => c.into(),
        _ => {
            let mut capitals = c.to_uppercase();
            let first = capitals.next().unwrap_or(c);
            let lower = capitals.flat_map(char::to_lowercase);
            std::iter::once(first).chain(lower).collect()
        }
    }
}

/// `str.splitlines(keepends)`, with all line ends that Python knows.
pub fn splitlines(text: &str, keep_ends: bool) -> Value {
    let mut lines = Vec::new();
    let mut rest = text;
    while let Some((at, end)) = rest.char_indices().find(|(_, c)| ends_line(*c)) {
        let after = if rest[at..].starts_with("\r\n") { at + 2 } else { at + end.len_utf8() };
        lines.push(Value::from(&rest[..if keep_ends { after } else { at }]));
        rest = &rest[after..];
    }
    if !rest.is_empty() {
        lines.push(Value::from(rest));
    }
    Value::from(lines)
}

fn ends_line(c: char) -> bool {
    matches!(c, '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{1c}'..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// The arguments of a format. Numbers that `%s` or `{}` would print differently are replaced by their text. `args` begins with
/// the format.
pub fn format_arguments(mut args: Vec<Value>, braces: bool) -> Vec<Value> {
    let Some(format) = args.first().and_then(Value::as_str).map(str::to_string) else { return args };
    let fields: Vec<bool> = if braces {
        format.replace("{{", "").split('{').skip(1).map(|field| field.starts_with('}')).collect()
    } else {
        let specs = format.replace("%%", "");
        let conversion = |spec: &str| spec.chars().find(|c| c.is_alphabetic()) == Some('s');
        specs.split('%').skip(1).map(conversion).collect()
    };
    // A `*` takes an argument of its own, so the arguments after it no longer match the fields by position.
    if !braces && format.contains('*') {
        return args;
    }
    for (arg, _) in args.iter_mut().skip(1).zip(fields).filter(|(_, prints_text)| *prints_text) {
        *arg = as_text(arg);
    }
    args
}
