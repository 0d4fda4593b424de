//! Events as keys and values in any format, and the statement that declares them.
//!
//! Encodes with the formats' own encoders, so what is made here is what a query reads. The subtle thing: where the value's format has no
//! STRUCT, its fields become columns of their own (`address_city`), in the records and in the statement alike.

use arrow::array::BinaryArray;

use super::Outlet;
use super::cell::{Cell, array};
use crate::diagnostic::{Diagnostic, suggest};
use crate::format::{self, Encoded, Format, FormatSpec, RecordEncoder, Side, Wrapping};
use crate::types::{Column, SqlType};

/// Where a column's cells are found in an event.
#[derive(Clone, Copy)]
struct Place {
    column: usize,
    field: Option<usize>,
}

impl Place {
    fn of<'a>(&self, cells: &'a [Cell]) -> Option<&'a Cell> {
        match (&cells[self.column], self.field) {
            (Cell::Row(row), Some(field)) => row.get(field),
            (cell, None) => Some(cell),
            _ => None,
        }
    }
}

/// Columns of one side with their encoder.
struct SideWriter {
    columns: Vec<Column>,
    places: Vec<Place>,
    encoder: Box<dyn RecordEncoder>,
}

impl SideWriter {
    fn new(format: Format, side: Side, columns: Vec<(Place, Column)>) -> Result<Self, Diagnostic> {
        let spec = match side {
            Side::Key => FormatSpec::new(format).wrapped(Wrapping::Bare),
            Side::Value => FormatSpec::new(format),
        };
        let (places, columns): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
        let encoder = format::encoder(&spec, side, &columns)?;
        Ok(Self { columns, places, encoder })
    }

    fn write(&mut self, events: &[Vec<Cell>]) -> Result<BinaryArray, Diagnostic> {
        let arrays: Vec<_> = self
            .columns
            .iter()
            .zip(&self.places)
            .map(|(column, place)| array(&column.ty, &events.iter().filter_map(|e| place.of(e)).collect::<Vec<_>>()))
            .collect();
        let Encoded { payloads, failures } = self.encoder.encode(&arrays, None, events.len());
        match failures.into_iter().next() {
            None => Ok(payloads),
            Some(failure) => Err(Diagnostic::user(format!("a record cannot be written: {}", failure.reason))),
        }
    }
}

/// Writes the events of one outlet.
pub struct RecordWriter {
    is_table: bool,
    formats: (Format, Format),
    key: SideWriter,
    value: SideWriter,
}

impl RecordWriter {
    /// A writer of an outlet's events; `key` names another column as the key. Without key format, key and value are as they are by default.
    ///
    /// # Errors
    /// A column that is not there; a format that cannot hold the columns.
    pub fn new(
        outlet: &Outlet,
        key: Option<&str>,
        key_format: Format,
        value_format: Format,
    ) -> Result<Self, Diagnostic> {
        let named = key.unwrap_or(outlet.key);
        let key_column =
            outlet.columns.iter().position(|(name, _)| name.eq_ignore_ascii_case(named)).ok_or_else(|| {
                let names = || outlet.columns.iter().map(|(name, _)| *name);
                let error = Diagnostic::user(format!("There is no column '{named}' to be the key"));
                match suggest(&named.to_lowercase(), names()) {
                    Some(near) => error.help(format!("did you mean {near}?")),
                    None => error.help(format!("give one of {}", names().collect::<Vec<_>>().join(", "))),
                }
            })?;
        // Without keys all columns are in the value.
        let has_key = key_format != Format::None;
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        for (column, (name, ty)) in outlet.columns.iter().enumerate() {
            if has_key && column == key_column {
                keys.push((Place { column, field: None }, Column::key(*name, ty.clone())));
            } else {
                values.extend(value_columns(column, name, ty, value_format));
            }
        }
        Ok(Self {
            is_table: outlet.is_table && has_key && key.is_none(),
            formats: (key_format, value_format),
            key: SideWriter::new(key_format, Side::Key, keys)?,
            value: SideWriter::new(value_format, Side::Value, values)?,
        })
    }

    /// Keys and values of these events, in order.
    ///
    /// # Errors
    /// A value that the format cannot write.
    pub fn write(&mut self, events: &[Vec<Cell>]) -> Result<(BinaryArray, BinaryArray), Diagnostic> {
        Ok((self.key.write(events)?, self.value.write(events)?))
    }

    /// True if records have keys.
    pub fn has_keys(&self) -> bool {
        !self.key.columns.is_empty()
    }

    /// The statement that declares a topic of these records.
    pub fn statement(&self, topic: &str, partitions: i32) -> String {
        let word = if self.is_table { "TABLE" } else { "STREAM" };
        let key_word = if self.is_table { " PRIMARY KEY" } else { " KEY" };
        let keys = self.key.columns.iter().map(|c| format!("{} {}{key_word}", c.name, sql_type(&c.ty)));
        let values = self.value.columns.iter().map(|c| format!("{} {}", c.name, sql_type(&c.ty)));
        let columns: Vec<String> = keys.chain(values).collect();
        let (key, value) = self.formats;
        format!(
            "CREATE {word} {} ({})\n  WITH (KAFKA_TOPIC = '{topic}', KEY_FORMAT = '{key}', VALUE_FORMAT = '{value}', PARTITIONS = {partitions});",
            source_name(topic),
            columns.join(", ")
        )
    }
}

/// The value columns that a column becomes.
fn value_columns(column: usize, name: &'static str, ty: &SqlType, format: Format) -> Vec<(Place, Column)> {
    match ty {
        SqlType::Struct(fields) if format == Format::Delimited => {
            let part = |(i, field): (usize, &crate::types::SqlField)| {
                let name = format!("{name}_{}", field.name);
                (Place { column, field: Some(i) }, Column::value(name, field.ty.clone()))
            };
            fields.iter().enumerate().map(part).collect()
        }
        _ => vec![(Place { column, field: None }, Column::value(name, ty.clone()))],
    }
}

/// A type as one writes it, names of fields bare.
fn sql_type(ty: &SqlType) -> String {
    match ty {
        SqlType::Struct(fields) => {
            let fields: Vec<String> = fields.iter().map(|f| format!("{} {}", f.name, sql_type(&f.ty))).collect();
            format!("STRUCT<{}>", fields.join(", "))
        }
        other => other.to_string(),
    }
}

/// A topic's name as that of a source.
fn source_name(topic: &str) -> String {
    let plain = topic.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && topic.starts_with(|c: char| c.is_ascii_alphabetic());
    if plain { topic.to_owned() } else { format!("`{topic}`") }
}
