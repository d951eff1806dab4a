//! Parquet, row by row: the columns asked for are cut out of the file's schema, and the others stay on the disk.

use std::sync::Arc;

use ::parquet::basic::{ConvertedType, Repetition};
use ::parquet::errors::ParquetError;
use ::parquet::file::reader::FileReader;
use ::parquet::record::{Field, Row};
use ::parquet::schema::types::{Type, TypePtr};
use serde_json::Value;

use super::{Cell, Cells, File, Result, RowPosition, Take};
use crate::data::parquet;

/// Rows of an opened file, numbered from 1.
///
/// # Errors
/// A column that is not in the schema; a damaged page, and the first error of `take`.
pub(super) fn rows(file: &File, from: Box<dyn FileReader>, names: &[&str], take: &mut Take) -> Result<()> {
    let schema = parquet::schema(&*from);
    for name in names {
        if !schema.get_fields().iter().any(|field| leads(field, name)) {
            let known: Vec<String> = schema.get_fields().iter().map(|field| field.name().to_string()).collect();
            return Err(file.no_column(name, &known));
        }
    }
    let part = only(schema, names).map_err(parquet::damaged(file.name))?;
    for (index, row) in parquet::rows(file.name, from, Some(part)).enumerate() {
        let row = row?;
        let cells: Vec<Cell> = names.iter().map(|name| cell(&row, name)).collect();
        take(&Cells { file: file.name, place: RowPosition::Row(index + 1), names, cells: &cells })?;
    }
    Ok(())
}

/// What is left of `name` behind `field` and a dot.
fn behind<'n>(field: &str, name: &'n str) -> Option<&'n str> {
    name.strip_prefix(field)?.strip_prefix('.')
}

/// Whether the columns of a group are fields of an object; those of a list or a map are not.
fn is_struct(group: &Type) -> bool {
    let info = group.get_basic_info();
    let plain = info.converted_type() == ConvertedType::NONE && info.logical_type_ref().is_none();
    group.is_group() && plain && !(info.has_repetition() && info.repetition() == Repetition::REPEATED)
}

/// Whether `name` is `field`, or stands in it. What stands in a map, the rows say.
fn leads(field: &Type, name: &str) -> bool {
    field.name() == name
        || behind(field.name(), name).is_some_and(|rest| match is_struct(field) {
            true => field.get_fields().iter().any(|inner| leads(inner, rest)),
            false => matches!(field.get_basic_info().converted_type(), ConvertedType::MAP | ConvertedType::MAP_KEY_VALUE),
        })
}

/// The schema, or a struct in it, with nothing but what is asked for.
fn only(group: &Type, names: &[&str]) -> std::result::Result<Type, ParquetError> {
    let mut kept: Vec<TypePtr> = Vec::new();
    for field in group.get_fields() {
        let inner: Vec<&str> = names.iter().filter_map(|name| behind(field.name(), name)).collect();
        if is_struct(field) && !names.contains(&field.name()) && leads_any(field, &inner) {
            kept.push(Arc::new(only(field, &inner)?));
        } else if names.iter().any(|name| leads(field, name)) {
            kept.push(field.clone());
        }
    }
    let mut part = Type::group_type_builder(group.name()).with_fields(kept);
    if group.get_basic_info().has_repetition() {
        part = part.with_repetition(group.get_basic_info().repetition());
    }
    part.build()
}

fn leads_any(group: &Type, names: &[&str]) -> bool {
    names.iter().any(|name| group.get_fields().iter().any(|inner| leads(inner, name)))
}

/// The cell called `name`: the column of that name before a field inside of one.
fn cell(row: &Row, name: &str) -> Cell<'static> {
    let mut inside = None;
    for (column, field) in row.get_column_iter() {
        if column == name {
            return Cell::Json(parquet::value(field.clone()));
        }
        if let (None, Some(rest)) = (&inside, behind(column, name)) {
            inside = match field {
                Field::Group(row) => Some(cell(row, rest)).filter(|cell| *cell != Cell::Missing),
                Field::MapInternal(_) => {
                    let map = parquet::value(field.clone());
                    rest.split('.').try_fold(&map, |value: &Value, part| value.get(part)).cloned().map(Cell::Json)
                }
                _ => None,
            };
        }
    }
    inside.unwrap_or(Cell::Missing)
}
