//! What a template may cost. minijinja counts instructions ([`STEPS`]), but one instruction can make a text or a list of any
//! size. So every value that an instruction makes or reads is measured here, and what is read and made is summed.

use minijinja::value::ValueKind;
use minijinja::{Error, ErrorKind, State, Value};

/// Instructions of one rendering.
pub const STEPS: u64 = 5_000_000;
/// Bytes that one rendering may read and make, all operations together.
const WORK: usize = 256 << 20;
/// Bytes of one value, with everything inside it.
const LARGEST: usize = 16 << 20;
/// Lists in lists in lists. JSON rows come to 128 at most.
const DEEPEST: usize = 150;
/// What an entry of a list or a mapping counts, beside the texts inside it.
const ENTRY: usize = 16;
/// The largest width, precision or count that a template may ask a text or a list to be filled up to.
const WIDEST: i64 = 10_000;

/// What is left of [`WORK`] in this rendering.
struct Left(usize);

/// Counts `bytes` of work.
///
/// # Errors
/// The rendering has done too much.
pub fn charge(state: &mut State, bytes: usize) -> Result<(), Error> {
    let left = state.get_or_insert_extension(Left(WORK));
    left.0 = left.0.checked_sub(bytes).ok_or_else(|| {
        refused(format!("it handles more than {} MiB of text and lists; shorten what it loops over", WORK >> 20))
    })?;
    Ok(())
}

/// The value, measured and charged. One that computes its items when asked for them becomes a list.
///
/// # Errors
/// A value that is too large, too deep, or holds itself.
pub fn guarded(state: &mut State, value: Value) -> Result<Value, Error> {
    let value = collected(value)?;
    let mut measure = Measure::default();
    measure.add(&value, 0)?;
    charge(state, measure.entries * ENTRY + value.as_str().map_or(0, str::len))?;
    Ok(value)
}

/// Each of `values`, guarded.
///
/// # Errors
/// As [`guarded`].
pub fn all_guarded(state: &mut State, values: Vec<Value>) -> Result<Vec<Value>, Error> {
    values.into_iter().map(|value| guarded(state, value)).collect()
}

/// A lazy sequence may nest, so that reading it recurses without end, or claim any length.
fn collected(value: Value) -> Result<Value, Error> {
    let lazy = match value.kind() {
        ValueKind::Iterable => true,
        ValueKind::Seq => !value.is_tuple() && value.downcast_object_ref::<Vec<Value>>().is_none(),
        _ => false,
    };
    if !lazy {
        return Ok(value);
    }
    fits(value.len().unwrap_or(0).saturating_mul(ENTRY))?;
    let mut items = Vec::new();
    for item in value.try_iter()? {
        items.push(item);
        fits(items.len() * ENTRY)?;
    }
    Ok(Value::from(items))
}

/// Whether so many bytes may be one value.
///
/// # Errors
/// They may not.
pub fn fits(bytes: usize) -> Result<(), Error> {
    match bytes <= LARGEST {
        true => Ok(()),
        false => Err(refused(format!("it makes a value of more than {} MiB; make it smaller", LARGEST >> 20))),
    }
}

/// Whether `count` may be a width, a precision or a number of items to fill up to.
///
/// # Errors
/// It may not.
pub fn narrow(count: i64) -> Result<(), Error> {
    match (-WIDEST..=WIDEST).contains(&count) {
        true => Ok(()),
        false => Err(refused(format!("it asks for a width or count of {count}, and {WIDEST} is the largest allowed"))),
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
        self.bytes += ENTRY + value.as_str().map_or(0, str::len);
        fits(self.bytes)?;
        if depth > DEEPEST {
            return Err(refused(format!("it makes a value that holds itself, or lists nested more than {DEEPEST} deep")));
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
