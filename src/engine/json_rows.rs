//! Rows given as JSON objects, into a source: COPY … FROM and `/inserts-stream`.
//!
//! Uses the JSON format's own decoder for all columns, keys included, so that a value means the same here as in a JSON topic; dates and
//! times may be text too. The subtle thing: a row that is wrong costs itself only, and says which field is wrong.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BinaryArray, BooleanArray};
use arrow::compute::filter;
use serde_json::{Map, Value};

use super::insert;
use super::records::identifier;
use crate::analyzer::relation::internal;
use crate::catalog::Source;
use crate::diagnostic::{Diagnostic, suggest};
use crate::format::{self, Format, FormatSpec, Side, Wrapping};
use crate::function::calendar;
use crate::topic::{Log, NO_TIMESTAMP};
use crate::types::{Column, SqlType, pseudo};

type Answers = Vec<Result<(), Diagnostic>>;

/// Appends all rows that are right; the answer of each is in its place.
///
/// # Errors
/// A target that cannot be written at all.
pub fn insert(source: &Source, rows: Vec<Map<String, Value>>, log: &Arc<dyn Log>) -> Result<Answers, Diagnostic> {
    let mut answers: Answers = Vec::with_capacity(rows.len());
    let (mut payloads, mut times) = (Vec::with_capacity(rows.len()), Vec::with_capacity(rows.len()));
    for row in rows {
        let (answer, payload, time) = match normalized(row, source) {
            Ok((object, time)) => (Ok(()), serde_json::to_vec(&object).ok(), time),
            Err(error) => (Err(error), None, NO_TIMESTAMP),
        };
        answers.push(answer);
        payloads.push(payload);
        times.push(time);
    }
    let columns = as_values(source);
    let wanted: Vec<usize> = (0..columns.len()).collect();
    let spec = FormatSpec::new(Format::Json).wrapped(Wrapping::Wrapped);
    let mut decoder = format::decoder(&spec, Side::Value, &columns, &wanted)?;
    let decoded = decoder.decode(&payloads.iter().map(Option::as_deref).collect::<BinaryArray>());
    for failure in &decoded.failures {
        answers[failure.row] = Err(Diagnostic::user(failure.reason.clone()));
    }
    if source.is_table() {
        check_keys(source, &decoded.columns, &mut answers);
    }
    let good = BooleanArray::from(answers.iter().map(Result::is_ok).collect::<Vec<_>>());
    if good.true_count() > 0 {
        let kept =
            decoded.columns.iter().map(|c| filter(c, &good)).collect::<Result<Vec<ArrayRef>, _>>().map_err(internal)?;
        let times: Vec<i64> = times.iter().zip(&answers).filter(|(_, a)| a.is_ok()).map(|(t, _)| *t).collect();
        insert::append_columns(source, &kept, &times, log)?;
    }
    Ok(answers)
}

/// All columns as fields of one object.
fn as_values(source: &Source) -> Vec<Column> {
    source.schema.columns().iter().map(|c| Column::value(c.name.clone(), c.ty.clone())).collect()
}

fn check_keys(source: &Source, columns: &[ArrayRef], answers: &mut Answers) {
    for (column, array) in source.schema.keys().iter().zip(columns) {
        for row in (0..array.len()).filter(|&row| array.is_null(row)) {
            if answers[row].is_ok() {
                answers[row] = Err(Diagnostic::user(format!(
                    "Value for primary key column(s) {} is required for tables",
                    column.name
                )));
            }
        }
    }
}

/// The object under the names of the columns, with its row time in ms.
fn normalized(row: Map<String, Value>, source: &Source) -> Result<(Map<String, Value>, i64), Diagnostic> {
    let mut object = Map::new();
    let mut time = NO_TIMESTAMP;
    for (field, value) in row {
        let name = identifier(&field);
        let index = source.schema.index_of(&field).or_else(|| source.schema.index_of(&name));
        match index {
            Some(index) => {
                let column = &source.schema.columns()[index];
                object.insert(column.name.to_string(), instant(value, column)?);
            }
            None if name == pseudo::ROWTIME => time = row_time(&value)?,
            None => {
                let error = Diagnostic::user(format!("Column name `{field}` does not exist in {}.", source.name));
                return Err(match suggest(&name, source.schema.columns().iter().map(|c| c.name.as_str())) {
                    Some(near) => error.help(format!("did you mean {near}?")),
                    None => error.help(format!("its columns are {}", source.schema)),
                });
            }
        }
    }
    Ok((object, time))
}

/// A date, time or timestamp that is text becomes the number the JSON format has.
fn instant(value: Value, column: &Column) -> Result<Value, Diagnostic> {
    let Value::String(text) = &value else { return Ok(value) };
    if text.trim().parse::<i64>().is_ok() {
        return Ok(value);
    }
    let parsed = match column.ty {
        SqlType::Timestamp => calendar::parse_timestamp(text),
        SqlType::Date => calendar::parse_date(text),
        SqlType::Time => calendar::parse_time(text),
        _ => return Ok(value),
    };
    let number =
        parsed.ok_or_else(|| Diagnostic::user(format!("field {}: '{text}' is no {}", column.name, column.ty)))?;
    Ok(Value::from(number))
}

fn row_time(value: &Value) -> Result<i64, Diagnostic> {
    let given = match value {
        Value::Number(n) => n.as_i64(),
        Value::String(text) => text.trim().parse().ok().or_else(|| calendar::parse_timestamp(text)),
        _ => None,
    };
    given
        .filter(|t| *t >= 0)
        .ok_or_else(|| Diagnostic::user(format!("ROWTIME must be milliseconds since 1970 or an ISO time, not {value}")))
}
