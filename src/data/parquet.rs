//! Reads Parquet rows as JSON. Structs become objects and lists become lists, so that `messages` and `reward_model` read as in
//! JSON.
//!
//! Uses the record interface of the crate `parquet` without Arrow: this module needs rows, and the build is lighter.

use std::sync::Arc;

use ::parquet::file::reader::{ChunkReader, FileReader, SerializedFileReader};
use ::parquet::record::reader::{ReaderIter, TreeBuilder};
use ::parquet::record::{Field, Row};
use ::parquet::schema::types::{SchemaDescriptor, Type};
use serde_json::{Map, Number, Value};

use super::{DataError, Result};

/// Opens a Parquet file, from bytes in memory or from the disk.
///
/// # Errors
/// Bytes that are not a complete Parquet file; a file without columns.
pub(super) fn open(name: &str, from: impl ChunkReader + 'static) -> Result<Box<dyn FileReader>> {
    let reader = SerializedFileReader::new(from).map_err(damaged(name))?;
    if schema(&reader).get_fields().is_empty() {
        let fix = "write it again with its columns".into();
        return Err(DataError::File { file: name.into(), found: "a Parquet file without columns".into(), fix });
    }
    Ok(Box::new(reader))
}

/// The schema of a file.
pub(super) fn schema(file: &dyn FileReader) -> &Type {
    file.metadata().file_metadata().schema()
}

/// The rows of a Parquet file in order, with every column or only those of `projection`, a part of the schema. Other columns are
/// not read from the disk. A row group is opened after the one before it has been read.
///
/// # Errors
/// A damaged page (at its row).
pub(super) fn rows(name: &str, file: Box<dyn FileReader>, projection: Option<Type>) -> impl Iterator<Item = Result<Row>> {
    let damaged = damaged(name);
    let schema = match projection {
        Some(part) => Arc::new(SchemaDescriptor::new(Arc::new(part))),
        None => file.metadata().file_metadata().schema_descr_ptr(),
    };
    let mut groups = 0..file.num_row_groups();
    let mut rows: Option<ReaderIter> = None;
    std::iter::from_fn(move || {
        loop {
            if let Some(row) = rows.as_mut().and_then(Iterator::next) {
                return Some(row.map_err(&damaged));
            }
            let group = file.get_row_group(groups.next()?);
            match group.and_then(|group| TreeBuilder::new().as_iter(schema.clone(), &*group)) {
                Ok(next) => rows = Some(next),
                Err(error) => return Some(Err(damaged(error))),
            }
        }
    })
}

pub(super) fn damaged(name: &str) -> impl Fn(::parquet::errors::ParquetError) -> DataError {
    let file = name.to_string();
    move |error| DataError::File {
        file: file.clone(),
        found: format!("damaged Parquet file ({error})"),
        fix: "copy or download the file again".into(),
    }
}

/// A row as a JSON object.
pub(super) fn json_object(row: Row) -> Map<String, Value> {
    row.into_columns().into_iter().map(|(name, field)| (name, json_value(field))).collect()
}

pub(super) fn json_value(field: Field) -> Value {
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
        // Through its shortest text: 2.7 stays 2.7 and does not become 2.700000047683716.
        Field::Float(x) => number(&x.to_string()),
        Field::Double(x) => Number::from_f64(x).map_or_else(|| Value::String(x.to_string()), Value::Number),
        Field::Str(text) => Value::String(text),
        // Some writers do not declare that their bytes are text.
        Field::Bytes(bytes) => Value::String(String::from_utf8_lossy(bytes.data()).into_owned()),
        Field::Group(row) => Value::Object(json_object(row)),
        Field::ListInternal(list) => list.elements().iter().cloned().map(json_value).collect(),
        Field::MapInternal(map) => Value::Object(map.entries().iter().map(|(key, item)| entry(key, item)).collect()),
        // Decimals and times, as the crate prints them.
        other => Value::String(other.to_string()),
    }
}

fn entry(key: &Field, item: &Field) -> (String, Value) {
    let name = match key {
        Field::Str(text) => text.clone(),
        other => other.to_string(),
    };
    (name, json_value(item.clone()))
}

/// JSON has no NaN. It stays a text, which is not a valid label.
fn number(text: &str) -> Value {
    text.parse().ok().and_then(Number::from_f64).map_or_else(|| Value::String(text.into()), Value::Number)
}
