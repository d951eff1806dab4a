//! Python's methods on texts, lists and mappings, and its slices.

use minijinja::value::{Tuple, from_args};
use minijinja::{Error, ErrorKind, State, Value};

use super::guard::{all_guarded, charge, check_size, check_width, guarded};
use super::python;

/// Calls a method that minijinja values do not have.
///
/// # Errors
/// An unknown method, wrong arguments, or a result that is too large.
pub fn call(state: &mut State<'_, '_>, value: &Value, method: &str, args: &[Value]) -> Result<Value, Error> {
    let value = guarded(state, value.clone())?;
    let mut args = all_guarded(state, args.to_vec())?;
    if method == "format" {
        let all = std::iter::once(value.clone()).chain(args).collect();
        args = python::format_arguments(all, true).split_off(1);
    }
    let all: Vec<Value> = std::iter::once(&value).chain(&args).cloned().collect();
    match method {
        "format" => check_format(&all)?,
        "replace" => check_replace(&all)?,
        "join" => check_join(&value, args.first())?,
        _ => {}
    }
    let result = match value.as_str().map(|text| text_method(text, method, &args)) {
        Some(Some(result)) => result?,
        _ => minijinja_contrib::pycompat::unknown_method_callback(state, &value, method, &args)?,
    };
    guarded(state, result)
}

/// Methods of texts that minijinja-contrib lacks; `None` for others.
fn text_method(text: &str, method: &str, args: &[Value]) -> Option<Result<Value, Error>> {
    Some(match method {
        "rsplit" => rsplit(text, args),
        "removeprefix" => from_args(args).map(|(cut,): (&str,)| Value::from(text.strip_prefix(cut).unwrap_or(text))),
        "removesuffix" => from_args(args).map(|(cut,): (&str,)| Value::from(text.strip_suffix(cut).unwrap_or(text))),
        "partition" => {
            from_args(args).and_then(|(by,): (&str,)| separator(by).map(|by| partition(text, text.find(by), by, true)))
        }
        "rpartition" => {
            from_args(args).and_then(|(by,): (&str,)| separator(by).map(|by| partition(text, text.rfind(by), by, false)))
        }
        "ljust" => padded(text, args, |_| 0),
        "rjust" => padded(text, args, |missing| missing),
        // Python puts the odd blank on the left where the width is odd.
        "center" => padded(text, args, |missing| missing / 2 + (missing & width_of(text, missing) & 1)),
        "zfill" => zfill(text, args),
        "casefold" => from_args(args).map(|()| Value::from(text.to_lowercase())),
        "swapcase" => from_args(args).map(|()| Value::from(text.chars().flat_map(swapped).collect::<String>())),
        "title" => from_args(args).map(|()| Value::from(python::title(text))),
        "splitlines" => splitlines(text, args),
        "index" => from_args(args).and_then(|(what,): (&str,)| character_index(text, text.find(what))),
        "rindex" => from_args(args).and_then(|(what,): (&str,)| character_index(text, text.rfind(what))),
        _ => return None,
    })
}

fn width_of(text: &str, missing: usize) -> usize {
    text.chars().count() + missing
}

fn swapped(c: char) -> Vec<char> {
    if c.is_uppercase() { c.to_lowercase().collect() } else { c.to_uppercase().collect() }
}

fn separator(by: &str) -> Result<&str, Error> {
    if by.is_empty() { Err(Error::new(ErrorKind::InvalidOperation, "empty separator")) } else { Ok(by) }
}

fn partition(text: &str, at: Option<usize>, by: &str, first: bool) -> Value {
    let three = match at {
        Some(at) => [&text[..at], by, &text[at + by.len()..]],
        None if first => [text, "", ""],
        None => ["", "", text],
    };
    Value::from(Tuple::from(three.map(Value::from)))
}

fn character_index(text: &str, at: Option<usize>) -> Result<Value, Error> {
    let at = at.ok_or_else(|| Error::new(ErrorKind::InvalidOperation, "substring not found"))?;
    Ok(Value::from(text[..at].chars().count()))
}

fn padded(text: &str, args: &[Value], left: impl Fn(usize) -> usize) -> Result<Value, Error> {
    let (width, fill): (i64, Option<char>) = from_args(args)?;
    check_width(width)?;
    let missing = usize::try_from(width).unwrap_or(0).saturating_sub(text.chars().count());
    let fill = |times: usize| std::iter::repeat_n(fill.unwrap_or(' '), times).collect::<String>();
    let left = left(missing);
    Ok(Value::from(fill(left) + text + &fill(missing - left)))
}

fn zfill(text: &str, args: &[Value]) -> Result<Value, Error> {
    let (width,): (i64,) = from_args(args)?;
    check_width(width)?;
    let missing = usize::try_from(width).unwrap_or(0).saturating_sub(text.chars().count());
    let sign = usize::from(text.starts_with(['+', '-']));
    Ok(Value::from([&text[..sign], &"0".repeat(missing), &text[sign..]].concat()))
}

/// `str.splitlines(keepends=False)`.
fn splitlines(text: &str, args: &[Value]) -> Result<Value, Error> {
    let (keep, named): (Option<bool>, minijinja::value::Kwargs) = from_args(args)?;
    let keep = keep.map_or_else(|| named.get::<Option<bool>>("keepends"), |keep| Ok(Some(keep)))?;
    named.assert_all_used()?;
    Ok(python::splitlines(text, keep.unwrap_or(false)))
}

/// `str.rsplit(sep=None, maxsplit=-1)`.
fn rsplit(text: &str, args: &[Value]) -> Result<Value, Error> {
    let (by, most, named): (Option<&str>, Option<i64>, minijinja::value::Kwargs) = from_args(args)?;
    let by = by.map_or_else(|| named.get::<Option<&str>>("sep"), |by| Ok(Some(by)))?;
    let most = most.map_or_else(|| named.get::<Option<i64>>("maxsplit"), |most| Ok(Some(most)))?;
    named.assert_all_used()?;
    let most = most.and_then(|most| usize::try_from(most).ok()).unwrap_or(usize::MAX);
    let mut partition: Vec<Value> = match by {
        Some(by) => text.rsplitn(most.saturating_add(1), separator(by)?).map(Value::from).collect(),
        None => {
            let mut partition = Vec::new();
            let mut rest = text.trim_end();
            while !rest.is_empty() {
                let word = rest.rfind(char::is_whitespace).filter(|_| partition.len() < most);
                let start = word.map_or(0, |at| at + rest[at..].chars().next().map_or(0, char::len_utf8));
                let part = if partition.len() < most { &rest[start..] } else { rest };
                partition.push(Value::from(part));
                rest = if partition.len() > most { "" } else { rest[..start].trim_end() };
            }
            partition
        }
    };
    partition.reverse();
    Ok(Value::from(partition))
}

/// Checks the size of a `replace`. The arguments are the text, the old text and the new text.
///
/// # Errors
/// The result would be too large.
pub fn check_replace(args: &[Value]) -> Result<(), Error> {
    let texts: Vec<&str> = args.iter().filter_map(Value::as_str).collect();
    let [text, old, new, ..] = texts[..] else { return Ok(()) };
    check_size(text.matches(old).count().saturating_mul(new.len()))
}

fn check_join(between: &Value, list: Option<&Value>) -> Result<(), Error> {
    let entries = list.and_then(Value::len).unwrap_or(0);
    check_size(entries.saturating_mul(between.as_str().map_or(0, str::len)))
}

/// Checks the widths and precisions of a format (`%5.2f`, `{:>5}`): those written in it, and the arguments that a `*` or a nested
/// `{}` takes them from.
///
/// # Errors
/// A width or precision is too large.
pub fn check_format(args: &[Value]) -> Result<(), Error> {
    let Some(format) = args.first().and_then(Value::as_str) else { return Ok(()) };
    let percents: Vec<&str> = format.split('%').skip(1).filter_map(|spec| spec.split(char::is_alphabetic).next()).collect();
    let braces: Vec<&str> = format.split('{').skip(1).collect();
    let written = percents.iter().copied().chain(braces.iter().filter_map(|spec| spec.split('}').next()));
    for digits in written.flat_map(|spec| spec.split(|c: char| !c.is_ascii_digit())).filter(|digits| !digits.is_empty()) {
        check_width(digits.parse().unwrap_or(i64::MAX))?;
    }
    let nested = |spec: &&str| spec.contains(':') && !spec.contains('}');
    let computed = percents.iter().any(|spec| spec.contains('*')) || braces.iter().any(nested);
    let whole = |value: &Value| value.is_integer().then(|| i64::try_from(value.clone()).unwrap_or(i64::MAX));
    if computed { args.iter().skip(1).filter_map(whole).try_for_each(check_width) } else { Ok(()) }
}

/// `value[start:stop:step]` as Python cuts texts and lists. A slice of an undefined value is an empty list.
///
/// # Errors
/// A step of 0, bounds that are not whole numbers, a value that has no items.
pub fn slice(state: &mut State<'_, '_>, value: Value, start: Value, stop: Value, step: Value) -> Result<Value, Error> {
    let bound = |value: &Value| if value.is_none() { Ok(None) } else { i64::try_from(value.clone()).map(Some) };
    let (start, stop, step) = (bound(&start)?, bound(&stop)?, bound(&step)?.unwrap_or(1));
    if step == 0 {
        return Err(Error::new(ErrorKind::InvalidOperation, "cannot slice by step size of 0"));
    }
    if value.is_undefined() || value.is_none() {
        return Ok(Value::from(Vec::<Value>::new()));
    }
    if let Some(text) = value.as_str() {
        charge(state, text.len())?;
        let chars: Vec<char> = text.chars().collect();
        return Ok(Value::from(indices(chars.len(), start, stop, step).map(|i| chars[i]).collect::<String>()));
    }
    let tuple = value.is_tuple();
    let items: Vec<Value> = guarded(state, value)?.try_iter()?.collect();
    let cut: Vec<Value> = indices(items.len(), start, stop, step).map(|i| items[i].clone()).collect();
    Ok(if tuple { Value::from(Tuple::from(cut)) } else { Value::from(cut) })
}

/// The indices that a slice takes, as `range(*slice(start, stop, step).indices(len))`. `step` is not 0.
fn indices(len: usize, start: Option<i64>, stop: Option<i64>, step: i64) -> impl Iterator<Item = usize> {
    let len = len as i128;
    let (lowest, highest) = if step > 0 { (0, len) } else { (-1, len - 1) };
    let within = |bound: Option<i64>, missing: i128| match bound.map(i128::from) {
        None => missing,
        Some(at) if at < 0 => (at + len).max(lowest),
        Some(at) => at.min(highest),
    };
    let (start, stop) = if step > 0 { (within(start, 0), within(stop, len)) } else { (within(start, len - 1), within(stop, -1)) };
    let step = i128::from(step);
    std::iter::successors(Some(start), move |at| Some(at + step))
        .take_while(move |at| if step > 0 { *at < stop } else { *at > stop })
        .filter_map(|at| usize::try_from(at).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compared with Python's `list(range(5))[start:stop:step]`.
    #[test]
    fn slices_match_python() {
        let cut = |start, stop, step| indices(5, start, stop, step).collect::<Vec<_>>();
        assert_eq!(cut(None, None, 1), [0, 1, 2, 3, 4]);
        assert_eq!(cut(None, None, -1), [4, 3, 2, 1, 0]);
        assert_eq!(cut(Some(1), Some(-1), 2), [1, 3]);
        assert_eq!(cut(Some(-2), None, 1), [3, 4]);
        assert_eq!(cut(Some(3), Some(0), -1), [3, 2, 1]);
        assert_eq!(cut(Some(0), Some(2), -1), [0usize; 0]);
        assert_eq!(cut(Some(9), Some(-9), -2), [4, 2, 0]);
        assert_eq!(cut(Some(i64::MIN), Some(i64::MAX), i64::MAX), [0]);
        assert_eq!(cut(Some(i64::MAX), Some(i64::MIN), i64::MIN), [4]);
    }
}
