//! Limits on the cost of a template. minijinja counts instructions ([`STEPS`]), but one instruction can make a text or a list of
//! any size. So every value that an instruction reads or makes is measured here, and the sizes are summed.

use minijinja::value::ValueKind;
use minijinja::{Error, ErrorKind, State, Value};

/// The most instructions per rendering.
pub const STEPS: u64 = 5_000_000;
/// The most bytes that one rendering may read and make, all operations together.
const MAX_WORK_BYTES: usize = 256 << 20;
/// The most bytes of one value, including everything inside it.
const MAX_VALUE_BYTES: usize = 16 << 20;
/// The deepest nesting of lists. JSON rows reach 128 at most.
const MAX_DEPTH: usize = 150;
/// The bytes counted per entry of a list or a mapping, in addition to the texts inside it.
const ENTRY_BYTES: usize = 16;
/// The largest width, precision or count to which a template may fill up a text or a list.
const MAX_WIDTH: i64 = 10_000;

/// The part of [`MAX_WORK_BYTES`] that this rendering has not used.
struct RemainingWork(usize);

/// Counts `bytes` of work.
///
/// # Errors
/// The rendering exceeds its total.
pub fn charge(state: &mut State, bytes: usize) -> Result<(), Error> {
    let remaining = state.get_or_insert_extension(RemainingWork(MAX_WORK_BYTES));
    remaining.0 = remaining.0.checked_sub(bytes).ok_or_else(|| {
        refused(format!("it handles more than {} MiB of text and lists; shorten what it loops over", MAX_WORK_BYTES >> 20))
    })?;
    Ok(())
}

/// Measures and charges a value. A lazy value becomes a list.
///
/// # Errors
/// A value that is too large or too deep, or that contains itself.
pub fn guarded(state: &mut State, value: Value) -> Result<Value, Error> {
    let value = collected(value)?;
    let mut measure = Measure::default();
    measure.add(&value, 0)?;
    charge(state, measure.entries * ENTRY_BYTES + value.as_str().map_or(0, str::len))?;
    Ok(value)
}

/// Calls [`guarded`] on each of `values`.
///
/// # Errors
/// As [`guarded`].
pub fn all_guarded(state: &mut State, values: Vec<Value>) -> Result<Vec<Value>, Error> {
    values.into_iter().map(|value| guarded(state, value)).collect()
}

/// Collects a lazy sequence into a list. A lazy sequence may nest, so that reading it recurses without end, or report any length.
fn collected(value: Value) -> Result<Value, Error> {
    let lazy = match value.kind() {
        ValueKind::Iterable => true,
        ValueKind::Seq => !value.is_tuple() && value.downcast_object_ref::<Vec<Value>>().is_none(),
        _ => false,
    };
    if !lazy {
        return Ok(value);
    }
    check_size(value.len().unwrap_or(0).saturating_mul(ENTRY_BYTES))?;
    let mut items = Vec::new();
    for item in value.try_iter()? {
        items.push(item);
        check_size(items.len() * ENTRY_BYTES)?;
    }
    Ok(Value::from(items))
}

/// Checks that a value of `bytes` is within the limit.
///
/// # Errors
/// The value is too large.
pub fn check_size(bytes: usize) -> Result<(), Error> {
    match bytes <= MAX_VALUE_BYTES {
        true => Ok(()),
        false => Err(refused(format!("it makes a value of more than {} MiB; make it smaller", MAX_VALUE_BYTES >> 20))),
    }
}

/// Checks that `count` is within the limit of a width, a precision or a number of items.
///
/// # Errors
/// The count is too large.
pub fn check_width(count: i64) -> Result<(), Error> {
    match (-MAX_WIDTH..=MAX_WIDTH).contains(&count) {
        true => Ok(()),
        false => Err(refused(format!("it asks for a width or count of {count}, and {MAX_WIDTH} is the largest allowed"))),
    }
}

/// An error whose whole text is `what`.
pub fn refused(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, what.into())
}

#[derive(Default)]
struct Measure {
    entries: usize,
    bytes: usize,
}

impl Measure {
    fn add(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        self.entries += 1;
        self.bytes += ENTRY_BYTES + value.as_str().map_or(0, str::len);
        check_size(self.bytes)?;
        if depth > MAX_DEPTH {
            return Err(refused(format!("it makes a value that holds itself, or lists nested more than {MAX_DEPTH} deep")));
        }
        match value.kind() {
            ValueKind::Seq | ValueKind::Iterable => value.try_iter()?.try_for_each(|item| self.add(&item, depth + 1)),
            ValueKind::Map => {
                let pairs = value.as_object().and_then(|object| object.try_iter_pairs());
                pairs.into_iter().flatten().try_for_each(|(key, item)| {
                    self.add(&key, depth + 1)?;
                    self.add(&item, depth + 1)
                })
            }
            _ => Ok(()),
        }
    }
}
