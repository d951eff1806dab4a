//! The functions that templates may call: Jinja's filters, tests and functions. The arguments and the result of each call are
//! measured.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{FunctionArgs, FunctionResult, Rest, ValueKind, ValueOrKwargs};
use minijinja::{Environment, Error, State, Value, escape_formatter, filters, functions, tests};

use super::guard::{all_guarded, charge, check_size, check_width, guarded, refused};
use super::json::python_json;
use super::methods;
use super::python::{self, as_text};

/// Names of the functions that the rewritten instructions call. A template cannot write them.
pub const GUARD: &str = "\u{1}guard";
pub const GUARD_TWO: &str = "\u{1}guard two";
pub const GUARD_TEXTS: &str = "\u{1}guard texts";
pub const GUARD_ITEM: &str = "\u{1}guard item";
pub const GUARD_PRODUCT: &str = "\u{1}guard product";
pub const SLICE: &str = "\u{1}slice";

/// Refuses arguments whose call would cost more than the sizes of its arguments and its result show.
type Check = fn(&[Value]) -> Result<(), Error>;

/// An environment without templates.
///
/// # Errors
/// None that depend on input; minijinja's syntax builder is fallible.
pub fn environment() -> Result<Environment<'static>, Error> {
    let mut environment = Environment::empty();
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.set_unknown_method_callback(methods::call);
    environment.set_formatter(|out, state, value| {
        let value = guarded(state, value.clone())?;
        charge(state, 1)?;
        escape_formatter(out, state, &as_text(&value))
    });
    add_filters(&mut environment);
    add_tests(&mut environment);
    add_functions(&mut environment);
    environment.add_filter(GUARD, guarded);
    Ok(environment)
}

/// Wraps a function so that its arguments and its result are measured.
fn bounded<F, R, A>(function: F, check: Check) -> impl Fn(&mut State<'_, '_>, Rest<ValueOrKwargs>) -> Result<Value, Error>
where
    F: functions::Function<R, A>,
    R: FunctionResult,
    A: for<'a> FunctionArgs<'a>,
{
    bounded_with(|args| args, function, check)
}

/// Like [`bounded`], with the arguments converted by `convert` first.
fn bounded_with<F, R, A>(
    convert: fn(Vec<Value>) -> Vec<Value>,
    function: F,
    check: Check,
) -> impl Fn(&mut State<'_, '_>, Rest<ValueOrKwargs>) -> Result<Value, Error>
where
    F: functions::Function<R, A>,
    R: FunctionResult,
    A: for<'a> FunctionArgs<'a>,
{
    let function = Value::from_function(function);
    move |state: &mut State<'_, '_>, args: Rest<ValueOrKwargs>| {
        let args = convert(all_guarded(state, args.into_values())?);
        check(&args)?;
        let result = function.call(state, &args)?;
        guarded(state, result)
    }
}

fn no_check(_: &[Value]) -> Result<(), Error> {
    Ok(())
}

fn add_filters(environment: &mut Environment<'static>) {
    macro_rules! add {
        ($($name:literal => $function:expr, $check:expr;)*) => {
            $(environment.add_filter($name, bounded($function, $check));)*
        };
    }
    add! {
        "abs" => filters::abs, no_check;
        "attr" => filters::attr, no_check;
        "batch" => filters::batch, check_whole_numbers;
        "bool" => filters::bool, no_check;
        "capitalize" => filters::capitalize, no_check;
        "count" => filters::length, no_check;
        "d" => filters::default, no_check;
        "default" => filters::default, no_check;
        "dictsort" => filters::dictsort, no_check;
        "e" => python::escape, no_check;
        "escape" => python::escape, no_check;
        "first" => filters::first, no_check;
        "float" => filters::float, no_check;
        "groupby" => filters::groupby, no_check;
        "indent" => filters::indent, check_indent;
        "int" => filters::int, no_check;
        "items" => filters::items, no_check;
        "last" => filters::last, no_check;
        "length" => filters::length, no_check;
        "lines" => filters::lines, no_check;
        "list" => filters::list, no_check;
        "lower" => filters::lower, no_check;
        "map" => filters::map, no_check;
        "max" => filters::max, no_check;
        "min" => filters::min, no_check;
        "pprint" => filters::pprint, no_check;
        "reject" => filters::reject, no_check;
        "rejectattr" => filters::rejectattr, no_check;
        "replace" => filters::replace, methods::check_replace;
        "reverse" => filters::reverse, no_check;
        "round" => filters::round, check_whole_numbers;
        "safe" => filters::safe, no_check;
        "select" => filters::select, no_check;
        "selectattr" => filters::selectattr, no_check;
        "slice" => filters::slice, check_whole_numbers;
        "sort" => filters::sort, no_check;
        "split" => filters::split, no_check;
        "sum" => filters::sum, check_sum;
        "title" => filters::title, no_check;
        "tojson" => python_json, no_check;
        "trim" => filters::trim, no_check;
        "unique" => filters::unique, no_check;
        "upper" => filters::upper, no_check;
        "zip" => filters::zip, no_check;
    }
    let format = bounded_with(|args| python::format_arguments(args, false), filters::format, methods::check_format);
    environment.add_filter("format", format);
    environment.add_filter("join", bounded_with(items_as_text, filters::join, check_join));
    environment.add_filter("string", bounded_with(first_as_text, filters::string, no_check));
}

fn first_as_text(mut args: Vec<Value>) -> Vec<Value> {
    args.iter_mut().take(1).for_each(|first| *first = as_text(first));
    args
}

/// Arguments of `join` with the items as texts. If `join` takes an attribute of its items, they stay unchanged.
fn items_as_text(mut args: Vec<Value>) -> Vec<Value> {
    let attribute = args.len() > 2 || args.iter().any(Value::is_kwargs);
    if let Some(list) = args.first_mut().filter(|list| !attribute && list.kind() == ValueKind::Seq)
        && let Ok(items) = list.try_iter()
    {
        let items: Vec<Value> = items.map(|item| as_text(&item)).collect();
        *list = Value::from(items);
    }
    args
}

fn add_tests(environment: &mut Environment<'static>) {
    macro_rules! add {
        ($($name:literal => $function:expr;)*) => {
            $(environment.add_test($name, bounded($function, no_check));)*
        };
    }
    add! {
        "boolean" => tests::is_boolean;
        "defined" => tests::is_defined;
        "divisibleby" => tests::is_divisibleby;
        "endingwith" => tests::is_endingwith;
        "eq" => tests::is_eq;
        "equalto" => tests::is_eq;
        "==" => tests::is_eq;
        "escaped" => tests::is_safe;
        "even" => tests::is_even;
        "false" => tests::is_false;
        "filter" => tests::is_filter;
        "float" => tests::is_float;
        "ge" => tests::is_ge;
        ">=" => tests::is_ge;
        "greaterthan" => tests::is_gt;
        "gt" => tests::is_gt;
        ">" => tests::is_gt;
        "in" => tests::is_in;
        "int" => tests::is_integer;
        "integer" => tests::is_integer;
        "iterable" => tests::is_iterable;
        "le" => tests::is_le;
        "<=" => tests::is_le;
        "lessthan" => tests::is_lt;
        "lower" => tests::is_lower;
        "lt" => tests::is_lt;
        "<" => tests::is_lt;
        "mapping" => tests::is_mapping;
        "ne" => tests::is_ne;
        "!=" => tests::is_ne;
        "none" => tests::is_none;
        "number" => tests::is_number;
        "odd" => tests::is_odd;
        "safe" => tests::is_safe;
        "sameas" => tests::is_sameas;
        "sequence" => tests::is_sequence;
        "startingwith" => tests::is_startingwith;
        "string" => tests::is_string;
        "test" => tests::is_test;
        "true" => tests::is_true;
        "undefined" => tests::is_undefined;
        "upper" => tests::is_upper;
    }
}

fn add_functions(environment: &mut Environment<'static>) {
    environment.add_function("dict", bounded(functions::dict, no_check));
    environment.add_function("namespace", bounded(functions::namespace, no_check));
    environment.add_function("range", bounded(functions::range, check_range));
    environment.add_function("raise_exception", |message: String| -> Result<Value, Error> { Err(refused(message)) });
    environment.add_function(GUARD_TWO, |state: &mut State<'_, '_>, left: Value, right: Value| -> Result<Value, Error> {
        let (left, right) = (guarded(state, left)?, guarded(state, right)?);
        Ok(Value::from(vec![right, left]))
    });
    environment.add_function(GUARD_TEXTS, |state: &mut State<'_, '_>, left: Value, right: Value| -> Result<Value, Error> {
        let (left, right) = (guarded(state, left)?, guarded(state, right)?);
        Ok(Value::from(vec![as_text(&right), as_text(&left)]))
    });
    environment.add_function(GUARD_ITEM, |state: &mut State<'_, '_>, container: Value, item: Value| -> Result<Value, Error> {
        charge(state, container.as_str().map_or(0, str::len))?;
        Ok(Value::from(vec![item, container]))
    });
    environment.add_function(GUARD_PRODUCT, |state: &mut State<'_, '_>, left: Value, right: Value| -> Result<Value, Error> {
        let (left, right) = (guarded(state, left)?, guarded(state, right)?);
        for (repeated, times) in [(&left, &right), (&right, &left)] {
            let size = repeated.as_str().map(str::len).or(repeated.len().map(|entries| entries.saturating_mul(16)));
            if let (Some(size), Some(times)) = (size, times.as_usize()) {
                check_size(size.saturating_mul(times))?;
            }
        }
        Ok(Value::from(vec![right, left]))
    });
    environment.add_function(SLICE, methods::slice);
}

/// Checks every argument that may be a count or a width.
fn check_whole_numbers(args: &[Value]) -> Result<(), Error> {
    args.iter().skip(1).flat_map(numbers_in).try_for_each(check_width)
}

/// The whole numbers of an argument, which may be a set of named arguments.
fn numbers_in(value: &Value) -> Vec<i64> {
    let whole = |value: &Value| match (value.kind(), i64::try_from(value.clone())) {
        (ValueKind::Number, Ok(number)) => Some(number),
        // A number beyond 64 bits is certainly too large.
        (ValueKind::Number, Err(_)) if value.is_integer() => Some(i64::MAX),
        _ => None,
    };
    match value.as_object().and_then(|named| named.try_iter_pairs()) {
        Some(named) => named.filter_map(|(_, value)| whole(&value)).collect(),
        None => whole(value).into_iter().collect(),
    }
}

/// Checks that the bounds can be subtracted from one another.
fn check_range(args: &[Value]) -> Result<(), Error> {
    match args.iter().flat_map(numbers_in).all(|bound| bound.unsigned_abs() < 1 << 32) {
        true => Ok(()),
        false => Err(refused("`range` goes to a bound of more than 32 bits; shorten it")),
    }
}

fn check_indent(args: &[Value]) -> Result<(), Error> {
    check_whole_numbers(args)?;
    let lines = args.first().and_then(Value::as_str).map_or(0, |text| text.lines().count());
    let width = args.iter().skip(1).flat_map(numbers_in).max().unwrap_or(0);
    check_size(lines.saturating_mul(usize::try_from(width).unwrap_or(0)))
}

fn check_join(args: &[Value]) -> Result<(), Error> {
    let entries = args.first().and_then(Value::len).unwrap_or(0);
    let between = args.iter().skip(1).filter_map(Value::as_str).map(str::len).max().unwrap_or(0);
    check_size(entries.saturating_mul(between))
}

/// Refuses sums of texts or lists: they would be rebuilt for each item.
fn check_sum(args: &[Value]) -> Result<(), Error> {
    let Some(list) = args.first().filter(|_| args.len() == 1) else { return Ok(()) };
    match list.try_iter()?.all(|item| matches!(item.kind(), ValueKind::Number | ValueKind::Bool)) {
        true => Ok(()),
        false => Err(refused("`sum` adds numbers only; join texts with `join`, lists with `+`")),
    }
}
