//! Reads columns of Parquet, row by row. The schema is reduced to the requested columns; the others are not read from the disk.

use std::sync::Arc;

use ::parquet::basic::{ConvertedType, Repetition};
use ::parquet::errors::ParquetError;
use ::parquet::file::reader::FileReader;
use ::parquet::record::{Field, Row};
use ::parquet::schema::types::{Type, TypePtr};
use serde_json::Value;

use super::{CellValue, CellsSink, FileName, Result, RowCells, RowPosition, WantedColumns};
use crate::data::parquet;

/// Passes the rows of an opened file to `sink`, numbered from 1.
///
/// # Errors
/// A column that is not in the schema; a damaged page; and the first error of `sink`.
pub(super) fn rows(file: &FileName, reader: Box<dyn FileReader>, names: WantedColumns, sink: &mut CellsSink) -> Result<()> {
    let WantedColumns { names, required } = names;
    let schema = parquet::schema(&*reader);
    for name in &names[..required] {
        if !schema.get_fields().iter().any(|field| contains_name(field, name)) {
            let known: Vec<String> = schema.get_fields().iter().map(|field| field.name().to_string()).collect();
            return Err(file.no_column(name, &known));
        }
    }
    let projection = project(schema, names).map_err(parquet::damaged(file.name))?;
    for (index, row) in parquet::rows(file.name, reader, Some(projection)).enumerate() {
        let row = row?;
        let cells: Vec<CellValue> = names.iter().map(|name| cell(&row, name)).collect();
        sink(&RowCells { file: file.name, position: RowPosition::Row(index + 1), names, cells: &cells })?;
    }
    Ok(())
}

/// The rest of `name` after `field` and a dot.
fn after_field<'n>(field: &str, name: &'n str) -> Option<&'n str> {
    name.strip_prefix(field)?.strip_prefix('.')
}

/// Whether a group is a struct, whose columns are fields of an object. Lists and maps are not.
fn is_struct(group: &Type) -> bool {
    let info = group.get_basic_info();
    let plain = info.converted_type() == ConvertedType::NONE && info.logical_type_ref().is_none();
    group.is_group() && plain && !(info.has_repetition() && info.repetition() == Repetition::REPEATED)
}

/// Whether `name` is `field` or lies inside it. For a map only the rows can tell.
fn contains_name(field: &Type, name: &str) -> bool {
    field.name() == name
        || after_field(field.name(), name).is_some_and(|rest| match is_struct(field) {
            true => field.get_fields().iter().any(|inner| contains_name(inner, rest)),
            false => matches!(field.get_basic_info().converted_type(), ConvertedType::MAP | ConvertedType::MAP_KEY_VALUE),
        })
}

/// The schema, or a struct in it, reduced to the requested columns.
fn project(group: &Type, names: &[&str]) -> std::result::Result<Type, ParquetError> {
    let mut kept: Vec<TypePtr> = Vec::new();
    for field in group.get_fields() {
        let inner: Vec<&str> = names.iter().filter_map(|name| after_field(field.name(), name)).collect();
        if is_struct(field) && !names.contains(&field.name()) && contains_any(field, &inner) {
            kept.push(Arc::new(project(field, &inner)?));
        } else if names.iter().any(|name| contains_name(field, name)) {
            kept.push(field.clone());
        }
    }
    let mut part = Type::group_type_builder(group.name()).with_fields(kept);
    if group.get_basic_info().has_repetition() {
        part = part.with_repetition(group.get_basic_info().repetition());
    }
    part.build()
}

fn contains_any(group: &Type, names: &[&str]) -> bool {
    names.iter().any(|name| group.get_fields().iter().any(|inner| contains_name(inner, name)))
}

/// The cell called `name`: a column of that name first, else a field inside a column.
fn cell(row: &Row, name: &str) -> CellValue<'static> {
    let mut inside = None;
    for (column, field) in row.get_column_iter() {
        if column == name {
            return CellValue::Json(parquet::json_value(field.clone()));
        }
        if let (None, Some(rest)) = (&inside, after_field(column, name)) {
            inside = match field {
                Field::Group(row) => Some(cell(row, rest)).filter(|cell| *cell != CellValue::Missing),
                Field::MapInternal(_) => {
                    let map = parquet::json_value(field.clone());
                    rest.split('.').try_fold(&map, |value: &Value, part| value.get(part)).cloned().map(CellValue::Json)
                }
                _ => None,
            };
        }
    }
    inside.unwrap_or(CellValue::Missing)
}
