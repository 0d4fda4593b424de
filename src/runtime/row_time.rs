//! The row time that a column holds: `TIMESTAMP = 'column' [, TIMESTAMP_FORMAT = 'pattern']`.
//!
//! Used by sources, whose rows take it as row time, and by sinks, whose records take it as timestamp. The subtle thing: a negative time is
//! as bad as none.

use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::buffer::{NullBuffer, ScalarBuffer};
use arrow::datatypes::{Int64Type, TimestampMillisecondType};

use crate::diagnostic::Diagnostic;
use crate::function::java_pattern::{Habit, Pattern};
use crate::function::zone::Zone;
use crate::plan::topology::TimestampSpec;
use crate::types::{LogicalSchema, SqlType};

/// How the times of one column are read.
pub(super) struct RowTimeReader {
    column: String,
    kind: Kind,
}

enum Kind {
    BigInt,
    Timestamp,
    Text(Pattern, Zone),
}

impl RowTimeReader {
    /// The reader for the column that `spec` names, with its index in `schema`.
    ///
    /// # Errors
    /// If there is no such column, it has no usable type, or the pattern is not one.
    pub fn for_column(spec: &TimestampSpec, schema: &LogicalSchema) -> Result<(usize, Self), Diagnostic> {
        let name = spec.column.as_str();
        let index = schema.index_of(name).ok_or_else(|| {
            Diagnostic::user(format!(
                "The TIMESTAMP column set in the WITH clause does not exist in the schema: '{name}'"
            ))
        })?;
        let kind = match (&schema.columns()[index].ty, &spec.format) {
            (SqlType::BigInt, _) => Kind::BigInt,
            (SqlType::Timestamp, _) => Kind::Timestamp,
            (SqlType::String, Some(pattern)) => {
                let pattern = Pattern::compile(pattern)
                    .map_err(|reason| Diagnostic::user(format!("TIMESTAMP_FORMAT '{pattern}' is not a pattern: {reason}")))?;
                Kind::Text(pattern, Zone::system())
            },
            _ => {
                return Err(Diagnostic::user(format!(
                    "Timestamp column, {name}, should be LONG(INT64), TIMESTAMP, or a String with a timestamp_format specified."
                )));
            }
        };
        Ok((index, Self { column: name.to_owned(), kind }))
    }

    /// The times in an array of the column.
    pub fn read<'a>(&'a self, array: &'a ArrayRef) -> RowTimes<'a> {
        let values = match &self.kind {
            Kind::BigInt => Values::Numbers(array.as_primitive::<Int64Type>().values()),
            Kind::Timestamp => Values::Numbers(array.as_primitive::<TimestampMillisecondType>().values()),
            Kind::Text(pattern, zone) => Values::Texts(array.as_string::<i32>(), pattern, zone),
        };
        RowTimes { column: &self.column, nulls: array.nulls(), values }
    }
}

/// The times of an array's rows.
pub(super) struct RowTimes<'a> {
    column: &'a str,
    nulls: Option<&'a NullBuffer>,
    values: Values<'a>,
}

enum Values<'a> {
    Numbers(&'a ScalarBuffer<i64>),
    Texts(&'a StringArray, &'a Pattern, &'a Zone),
}

impl RowTimes<'_> {
    /// The time of a row in ms since the epoch, ≥ 0, or why there is none.
    pub fn time(&self, row: usize) -> Result<i64, String> {
        if self.nulls.is_some_and(|n| n.is_null(row)) {
            return Err(format!("Failed to extract timestamp from row: {} is NULL", self.column));
        }
        let time = match &self.values {
            Values::Numbers(numbers) => numbers[row],
            Values::Texts(texts, pattern, zone) => {
                let parsed = pattern.parse(texts.value(row), Habit::Formatter).and_then(|fields| fields.instant(zone));
                parsed.map_err(|reason| {
                    format!("Failed to extract timestamp from row: {} = '{}': {reason}", self.column, texts.value(row))
                })?
            }
        };
        if time < 0 {
            return Err(format!("Failed to extract timestamp from row: {} = {time} is negative", self.column));
        }
        Ok(time)
    }
}
