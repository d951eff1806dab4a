//! Parquet to rows: structs become objects, lists become lists, so that `messages` and `reward_model` read as in JSON.
//!
//! The record interface of the crate `parquet` is used, without Arrow: rows are what is wanted, and the build is lighter.

use ::parquet::file::reader::{FileReader, SerializedFileReader};
use ::parquet::record::reader::RowIter;
use ::parquet::record::{Field, Row};
use bytes::Bytes;
use serde_json::{Map, Number, Value};

use super::{DataError, Result};

/// The rows of a Parquet file in its order, every column kept.
///
/// # Errors
/// Bytes that are no Parquet, or a part of one (at once); a page that is damaged (at its row).
pub(super) fn rows(name: &str, bytes: Vec<u8>) -> Result<impl Iterator<Item = Result<Map<String, Value>>>> {
    let damaged = damaged(name);
    let reader = SerializedFileReader::new(Bytes::from(bytes)).map_err(&damaged)?;
    let columns = reader.metadata().file_metadata().schema().get_fields().len();
    if columns == 0 {
        let fix = "write it again with its columns".into();
        return Err(DataError::File { file: name.into(), found: "a Parquet file without columns".into(), fix });
    }
    Ok(RowIter::from_file_into(Box::new(reader)).map(move |row| row.map(object).map_err(&damaged)))
}

fn damaged(name: &str) -> impl Fn(::parquet::errors::ParquetError) -> DataError {
    let file = name.to_string();
    move |error| DataError::File {
        file: file.clone(),
        found: format!("damaged Parquet file ({error})"),
        fix: "copy or download the file again".into(),
    }
}

fn object(row: Row) -> Map<String, Value> {
    row.into_columns().into_iter().map(|(name, field)| (name, value(field))).collect()
}

fn value(field: Field) -> Value {
    match field {
        Field::Null => Value::Null,
        Field::Bool(truth) => truth.into(),
        Field::Byte(n) => n.into(),
        Field::Short(n) => n.into(),
        Field::Int(n) => n.into(),
        Field::Long(n) => n.into(),
        Field::UByte(n) => n.into(),
        Field::UShort(n) => n.into(),
        Field::UInt(n) => n.into(),
        Field::ULong(n) => n.into(),
        Field::Float16(x) => number(&x.to_string()),
        // By way of its shortest text: 2.7 stays 2.7, and is not 2.700000047683716.
        Field::Float(x) => number(&x.to_string()),
        Field::Double(x) => number(&x.to_string()),
        Field::Str(text) => Value::String(text),
        // Some writers do not say that their bytes are text.
        Field::Bytes(bytes) => Value::String(String::from_utf8_lossy(bytes.data()).into_owned()),
        Field::Group(row) => Value::Object(object(row)),
        Field::ListInternal(list) => list.elements().iter().cloned().map(value).collect(),
        Field::MapInternal(map) => Value::Object(map.entries().iter().map(|(key, item)| entry(key, item)).collect()),
        // Decimals and times, in the words of the crate.
        other => Value::String(other.to_string()),
    }
}

fn entry(key: &Field, item: &Field) -> (String, Value) {
    let name = match key {
        Field::Str(text) => text.clone(),
        other => other.to_string(),
    };
    (name, value(item.clone()))
}

/// JSON has no NaN: it stays a text, which no label can be.
fn number(text: &str) -> Value {
    text.parse().ok().and_then(Number::from_f64).map_or_else(|| Value::String(text.into()), Value::Number)
}
