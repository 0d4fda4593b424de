//! JSON values back into Arrow columns, by SQL type: what an HTTP client makes of rows.
//!
//! The inverse of `wire/value`, not a record decoder. The subtle thing: TIME lost its milliseconds on the way, and NaN comes as a string.

use std::str::FromStr;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryBuilder, BooleanArray, Date32Array, Decimal128Array, Decimal256Array, Float64Array, Int32Array,
    Int64Array, ListArray, MapArray, RecordBatch, StringArray, StructArray, Time32MillisecondArray,
    TimestampMillisecondArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field, Schema, i256};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::value::days_of;
use crate::diagnostic::Diagnostic;
use crate::engine::ResultColumn;
use crate::types::{SqlType, change::record_batch};

/// A batch of rows, each a JSON array with a value a column.
///
/// # Errors
/// A row of another length; a value that is none of its column's type.
pub fn batch_from_rows(columns: &[ResultColumn], rows: &[Vec<Value>]) -> Result<RecordBatch, Diagnostic> {
    if let Some(row) = rows.iter().find(|row| row.len() != columns.len()) {
        return Err(Diagnostic::user(format!("a row has {} values for {} columns", row.len(), columns.len())));
    }
    let fields: Vec<_> = columns.iter().map(|c| Field::new(c.name.as_str(), c.ty.to_arrow(), true)).collect();
    let arrays: Result<Vec<_>, _> = columns
        .iter()
        .enumerate()
        .map(|(i, c)| array(&c.ty, &rows.iter().map(|row| &row[i]).collect::<Vec<_>>()))
        .collect();
    record_batch(&Arc::new(Schema::new(fields)), arrays?, rows.len())
        .map_err(|error| Diagnostic::user(format!("rows do not fit their schema: {error}")))
}

/// The column of these values.
///
/// # Errors
/// A value that is not of type `ty`.
pub fn array(ty: &SqlType, values: &[&Value]) -> Result<ArrayRef, Diagnostic> {
    Ok(match ty {
        SqlType::Boolean => Arc::new(collect::<_, BooleanArray>(ty, values, Value::as_bool)?),
        SqlType::Int => Arc::new(collect::<_, Int32Array>(ty, values, |v| v.as_i64()?.try_into().ok())?),
        SqlType::BigInt => Arc::new(collect::<_, Int64Array>(ty, values, Value::as_i64)?),
        SqlType::Double => Arc::new(collect::<_, Float64Array>(ty, values, double)?),
        SqlType::String => Arc::new(collect::<_, StringArray>(ty, values, |v| v.as_str().map(str::to_owned))?),
        SqlType::Bytes => bytes(ty, values)?,
        SqlType::Time => Arc::new(collect::<_, Time32MillisecondArray>(ty, values, |v| time(v.as_str()?))?),
        SqlType::Date => Arc::new(collect::<_, Date32Array>(ty, values, |v| date(v.as_str()?)?.try_into().ok())?),
        SqlType::Timestamp => {
            Arc::new(collect::<_, TimestampMillisecondArray>(ty, values, |v| timestamp(v.as_str()?))?)
        }
        SqlType::Decimal(..) => decimal(ty, values)?,
        SqlType::Array(item) => list(ty, item, values)?,
        SqlType::Map(key, value) => map(ty, key, value, values)?,
        SqlType::Struct(_) => structure(ty, values)?,
    })
}

fn wrong(ty: &SqlType, value: &Value) -> Diagnostic {
    Diagnostic::user(format!("{value} is not a value of type {ty}"))
}

fn collect<T, A: FromIterator<Option<T>>>(
    ty: &SqlType,
    values: &[&Value],
    read: impl Fn(&Value) -> Option<T>,
) -> Result<A, Diagnostic> {
    let one = |v: &&Value| if v.is_null() { Ok(None) } else { read(v).map(Some).ok_or_else(|| wrong(ty, v)) };
    values.iter().map(one).collect()
}

fn double(value: &Value) -> Option<f64> {
    value.as_f64().or_else(|| match value.as_str()? {
        "NaN" => Some(f64::NAN),
        "Infinity" => Some(f64::INFINITY),
        "-Infinity" => Some(f64::NEG_INFINITY),
        _ => None,
    })
}

fn bytes(ty: &SqlType, values: &[&Value]) -> Result<ArrayRef, Diagnostic> {
    let mut builder = BinaryBuilder::new();
    for value in values {
        match value.as_str().map(|text| STANDARD.decode(text)) {
            Some(Ok(bytes)) => builder.append_value(bytes),
            None if value.is_null() => builder.append_null(),
            _ => return Err(wrong(ty, value)),
        }
    }
    Ok(Arc::new(builder.finish()))
}

fn decimal(ty: &SqlType, values: &[&Value]) -> Result<ArrayRef, Diagnostic> {
    let failed = |error: arrow::error::ArrowError| Diagnostic::user(format!("a value is no {ty}: {error}"));
    Ok(match ty.to_arrow() {
        DataType::Decimal128(precision, scale) => {
            let read = |v: &Value| i128::from_str(&unscaled(v, scale)?).ok();
            let array: Decimal128Array = collect(ty, values, read)?;
            Arc::new(array.with_precision_and_scale(precision, scale).map_err(failed)?)
        }
        DataType::Decimal256(precision, scale) => {
            let read = |v: &Value| i256::from_str(&unscaled(v, scale)?).ok();
            let array: Decimal256Array = collect(ty, values, read)?;
            Arc::new(array.with_precision_and_scale(precision, scale).map_err(failed)?)
        }
        other => return Err(Diagnostic::user(format!("{other} holds no DECIMAL"))),
    })
}

/// The digits of a plain decimal at this scale, without the point; `None` if it has more of them.
fn unscaled(value: &Value, scale: i8) -> Option<String> {
    let text = match value {
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
        _ => return None,
    };
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let scale = usize::try_from(scale).ok()?;
    let all_digits = fraction.bytes().all(|b| b.is_ascii_digit());
    (all_digits && fraction.len() <= scale).then(|| format!("{whole}{fraction:0<scale$}"))
}

/// `HH:mm[:ss[.SSS]]` as ms of the day.
fn time(text: &str) -> Option<i32> {
    let mut parts = text.splitn(3, ':');
    let hour: i32 = parts.next()?.parse().ok()?;
    let minute: i32 = parts.next()?.parse().ok()?;
    let (second, fraction) = parts.next().map_or(("0", ""), |s| s.split_once('.').unwrap_or((s, "")));
    let second: i32 = second.parse().ok()?;
    let ms: i32 = format!("{fraction:0<3}").get(..3)?.parse().ok()?;
    let in_range = (0..24).contains(&hour) && (0..60).contains(&minute) && (0..60).contains(&second);
    in_range.then_some(((hour * 60 + minute) * 60 + second) * 1000 + ms)
}

/// `yyyy-MM-dd`, the year with a sign where it has one, as days since the epoch.
fn date(text: &str) -> Option<i64> {
    let negative = text.starts_with('-');
    let mut parts = text.trim_start_matches(['+', '-']).splitn(3, '-');
    let year: i64 = parts.next()?.parse().ok()?;
    let month: i64 = parts.next()?.parse().ok()?;
    let day: i64 = parts.next()?.parse().ok()?;
    let in_range = (1..=12).contains(&month) && (1..=31).contains(&day);
    in_range.then(|| days_of(if negative { -year } else { year }, month, day))
}

/// `yyyy-MM-ddTHH:mm:ss.SSS` as ms since the epoch.
fn timestamp(text: &str) -> Option<i64> {
    let (day, time_of_day) = text.split_once('T')?;
    Some(date(day)? * 86_400_000 + i64::from(time(time_of_day)?))
}

fn nulls(values: &[&Value]) -> NullBuffer {
    values.iter().map(|v| !v.is_null()).collect()
}

fn list(ty: &SqlType, item: &SqlType, values: &[&Value]) -> Result<ArrayRef, Diagnostic> {
    let DataType::List(field) = ty.to_arrow() else { return Err(Diagnostic::user(format!("{ty} is no ARRAY"))) };
    if let Some(bad) = values.iter().find(|v| !v.is_null() && !v.is_array()) {
        return Err(wrong(ty, bad));
    }
    let items: Vec<&Value> = values.iter().filter_map(|v| v.as_array()).flatten().collect();
    let offsets = OffsetBuffer::from_lengths(values.iter().map(|v| v.as_array().map_or(0, Vec::len)));
    Ok(Arc::new(ListArray::new(field, offsets, array(item, &items)?, Some(nulls(values)))))
}

fn map(ty: &SqlType, key: &SqlType, value: &SqlType, values: &[&Value]) -> Result<ArrayRef, Diagnostic> {
    let DataType::Map(field, sorted) = ty.to_arrow() else {
        return Err(Diagnostic::user(format!("{ty} is no MAP")));
    };
    let DataType::Struct(fields) = field.data_type().clone() else {
        return Err(Diagnostic::user(format!("{ty} has no entries")));
    };
    if let Some(bad) = values.iter().find(|v| !v.is_null() && !v.is_object()) {
        return Err(wrong(ty, bad));
    }
    let entries = || values.iter().filter_map(|v| v.as_object()).flatten();
    let keys: Vec<Value> = entries().map(|(k, _)| key_value(key, k)).collect();
    let keys = array(key, &keys.iter().collect::<Vec<_>>())?;
    let items = array(value, &entries().map(|(_, v)| v).collect::<Vec<_>>())?;
    let offsets = OffsetBuffer::from_lengths(values.iter().map(|v| v.as_object().map_or(0, serde_json::Map::len)));
    let entries = StructArray::new(fields, vec![keys, items], None);
    Ok(Arc::new(MapArray::new(field, offsets, entries, Some(nulls(values)), sorted)))
}

/// A key of a JSON object as the value it stands for: what is no text in SQL is JSON inside the quotes.
fn key_value(ty: &SqlType, text: &str) -> Value {
    let is_text = matches!(ty, SqlType::String | SqlType::Bytes | SqlType::Time | SqlType::Date | SqlType::Timestamp);
    let parsed = if is_text { None } else { serde_json::from_str(text).ok() };
    parsed.unwrap_or_else(|| Value::String(text.to_owned()))
}

fn structure(ty: &SqlType, values: &[&Value]) -> Result<ArrayRef, Diagnostic> {
    let (SqlType::Struct(fields), DataType::Struct(arrow_fields)) = (ty, ty.to_arrow()) else {
        return Err(Diagnostic::user(format!("{ty} is no STRUCT")));
    };
    if let Some(bad) = values.iter().find(|v| !v.is_null() && !v.is_object()) {
        return Err(wrong(ty, bad));
    }
    if fields.is_empty() {
        return Ok(Arc::new(StructArray::new_empty_fields(values.len(), Some(nulls(values)))));
    }
    let column = |name: &str| values.iter().map(|v| v.get(name).unwrap_or(&Value::Null)).collect::<Vec<_>>();
    let columns: Result<Vec<_>, _> = fields.iter().map(|f| array(&f.ty, &column(f.name.as_str()))).collect();
    Ok(Arc::new(StructArray::new(arrow_fields, columns?, Some(nulls(values)))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::SqlField;
    use crate::wire::value::write_row_array;

    fn every_type() -> Vec<ResultColumn> {
        let field = |name: &str, ty| SqlField { name: name.into(), ty };
        let types = [
            SqlType::Boolean,
            SqlType::Int,
            SqlType::BigInt,
            SqlType::Decimal(6, 2),
            SqlType::Decimal(60, 3),
            SqlType::Double,
            SqlType::String,
            SqlType::Bytes,
            SqlType::Time,
            SqlType::Date,
            SqlType::Timestamp,
            SqlType::Array(Box::new(SqlType::String)),
            SqlType::Map(Box::new(SqlType::Int), Box::new(SqlType::Double)),
            SqlType::Struct([field("a", SqlType::Int), field("B", SqlType::Array(Box::new(SqlType::Date)))].into()),
        ];
        let column = |(i, ty)| ResultColumn { name: format!("C{i}"), ty, is_key: false };
        types.into_iter().enumerate().map(column).collect()
    }

    #[test]
    fn rows_of_every_type_survive_the_way_out_and_back() {
        let texts = [
            r#"[true,-1,9223372036854775807,-1234.50,123456789012345678901234567890123456789.125,1.5,"é\"","AQI=","01:02:03","2024-02-29","2024-02-29T23:59:59.999",["a",null],{"1":0.5,"2":null},{"a":1,"B":["1969-12-31"]}]"#,
            "[null,null,null,null,null,null,null,null,null,null,null,null,null,null]",
            r#"[false,0,0,-0.05,0.000,"NaN","","","00:00","+10000-01-01","1969-12-31T23:59:59.999",[],{},{"a":null,"B":null}]"#,
        ];
        let rows: Vec<Vec<Value>> = texts.iter().map(|t| serde_json::from_str(t).unwrap()).collect();
        let batch = batch_from_rows(&every_type(), &rows).unwrap();
        for (i, text) in texts.iter().enumerate() {
            let mut out = Vec::new();
            write_row_array(&mut out, &batch, i);
            assert_eq!(String::from_utf8(out).unwrap(), *text);
        }
    }

    #[test]
    fn wrong_values_are_refused_by_name() {
        let refused = |ty: SqlType, value: Value| array(&ty, &[&value]).unwrap_err().message;
        assert_eq!(refused(SqlType::Int, Value::from(3_000_000_000i64)), "3000000000 is not a value of type INTEGER");
        assert!(refused(SqlType::Decimal(4, 1), serde_json::from_str("1.25").unwrap()).contains("DECIMAL(4, 1)"));
        assert!(refused(SqlType::Date, Value::from("2024-13-01")).contains("DATE"));
    }
}
