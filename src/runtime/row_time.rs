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
    /// the pattern, and the zone of texts that name none
    Text(Box<(Pattern, Zone)>),
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
                let compiled = Pattern::compile(pattern).map_err(|reason| {
                    Diagnostic::user(format!("TIMESTAMP_FORMAT '{pattern}' cannot be used: {reason}"))
                })?;
                Kind::Text(Box::new((compiled, Zone::system())))
            }
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
            Kind::Text(pattern) => Values::Texts(array.as_string::<i32>(), &pattern.0, &pattern.1),
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
                let text = texts.value(row);
                let time = pattern.parse(text, Habit::Formatter).and_then(|fields| fields.instant(zone));
                time.map_err(|reason| {
                    format!("Failed to extract timestamp from row: {} = '{text}': {reason}", self.column)
                })?
            }
        };
        if time < 0 {
            return Err(format!("Failed to extract timestamp from row: {} = {time} is negative", self.column));
        }
        Ok(time)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::types::Column;

    #[test]
    fn texts_are_read_by_the_pattern() {
        let schema = LogicalSchema::new([Column::value("T", SqlType::String), Column::value("N", SqlType::Int)]);
        let spec = |column: &str, format: Option<&str>| TimestampSpec {
            column: column.into(),
            format: format.map(str::to_owned),
        };
        let (index, reader) = RowTimeReader::for_column(&spec("T", Some("yyyy-MM-dd X")), &schema).unwrap();
        let array: ArrayRef =
            Arc::new(StringArray::from(vec![Some("1970-01-02 Z"), Some("soon"), None, Some("1969-12-31 Z")]));
        let times = reader.read(&array);
        assert_eq!((index, times.time(0)), (0, Ok(86_400_000)));
        assert!(times.time(1).unwrap_err().contains("'soon'"));
        assert!(times.time(2).unwrap_err().contains("NULL"));
        assert!(times.time(3).unwrap_err().contains("negative"));
        for (column, format) in [("T", None), ("N", None), ("X", None), ("T", Some("'"))] {
            assert!(RowTimeReader::for_column(&spec(column, format), &schema).is_err());
        }
    }
}
