//! Records between the JSON of test files and the bytes of topics, by the formats that the source declares.
//!
//! Not the product's codecs: inputs must reach these as foreign bytes, and outputs be judged without them. The subtle thing: JSON is
//! written and read as text, so that decimals keep their scale.

use arrow::array::{Array, AsArray};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value;

use crate::catalog::Source;
use crate::format::text::java_double;
use crate::format::{Format, FormatSpec};
use crate::plan::topology::KeyWindow;
use crate::types::{Column, SqlType};

/// The window of a record key, in ms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Window {
    /// inclusive
    pub start: i64,
    /// exclusive for time windows, inclusive for sessions
    pub end: i64,
    /// a session, not a window of fixed size
    pub session: bool,
}

/// A record as test files write it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Record {
    /// null: no key
    pub key: Value,
    /// null: a tombstone
    pub value: Value,
    /// in ms
    pub timestamp: i64,
    /// of a windowed key
    pub window: Option<Window>,
    /// key and base64 text
    pub headers: Vec<(String, Option<String>)>,
}

/// A record as a topic holds it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Stored {
    /// key bytes, window and all
    pub key: Option<Vec<u8>>,
    /// value bytes
    pub value: Option<Vec<u8>>,
    /// in ms
    pub timestamp: i64,
    /// key and bytes
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// offset in its partition
    pub offset: i64,
    /// its partition
    pub partition: i32,
    /// order of arrival over all partitions of the log
    pub arrival: i64,
}

/// The bytes of a record for the topic of `source`; without one, JSON text is written as it is and strings as their text.
///
/// # Errors
/// A format that this release has not, a value that its type cannot be.
pub(super) fn encode(record: &Record, source: Option<&Source>) -> Result<Stored, String> {
    let (key, value) = match source {
        Some(source) => {
            let values: Vec<Column> = source.schema.values().cloned().collect();
            (
                encode_side(&source.key_format, source.schema.keys(), &record.key).map_err(|e| format!("key: {e}"))?,
                encode_side(&source.value_format, &values, &record.value).map_err(|e| format!("value: {e}"))?,
            )
        }
        None => (plain(&record.key), plain(&record.value)),
    };
    let key = key.map(|key| match &record.window {
        Some(window) => windowed(key, window),
        None => key,
    });
    let mut headers = Vec::new();
    for (name, text) in &record.headers {
        let bytes = text.as_ref().map(|t| BASE64.decode(t).map_err(|e| format!("header {name}: {e}"))).transpose()?;
        headers.push((name.clone(), bytes));
    }
    Ok(Stored { key, value, timestamp: record.timestamp, headers, ..Stored::default() })
}

fn plain(value: &Value) -> Option<Vec<u8>> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone().into_bytes()),
        other => Some(other.to_string().into_bytes()),
    }
}

fn windowed(mut key: Vec<u8>, window: &Window) -> Vec<u8> {
    if window.session {
        key.extend(window.end.to_be_bytes());
    }
    key.extend(window.start.to_be_bytes());
    key
}

fn encode_side(spec: &FormatSpec, columns: &[Column], value: &Value) -> Result<Option<Vec<u8>>, String> {
    if value.is_null() {
        return Ok(None);
    }
    match spec.format {
        Format::Json => Ok(Some(value.to_string().into_bytes())),
        Format::Delimited => Ok(plain(value)),
        Format::Kafka => encode_kafka(columns, value).map(Some),
        Format::None => Ok(None),
        other => Err(needs_registry(other)),
    }
}

/// Why a record of this format cannot be made or read.
fn needs_registry(format: Format) -> String {
    if format.uses_registry() {
        format!("{format} needs a schema registry format")
    } else {
        format!("{format} is not built into this release")
    }
}

fn encode_kafka(columns: &[Column], value: &Value) -> Result<Vec<u8>, String> {
    let text = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let bad = || format!("{text} is no {}", columns.first().map_or(String::new(), |c| c.ty.to_string()));
    Ok(match columns.first().map(|c| &c.ty) {
        Some(SqlType::Int) => text.parse::<i32>().map_err(|_| bad())?.to_be_bytes().to_vec(),
        Some(SqlType::BigInt) => text.parse::<i64>().map_err(|_| bad())?.to_be_bytes().to_vec(),
        Some(SqlType::Double) => text.parse::<f64>().map_err(|_| bad())?.to_be_bytes().to_vec(),
        _ => text.into_bytes(),
    })
}

/// What a stored record says, read with the formats of `source`; without one, as text.
///
/// # Errors
/// Bytes that the format cannot have written.
pub(super) fn decode(stored: &Stored, source: Option<&Source>) -> Result<Record, String> {
    let window = source.and_then(|s| s.window);
    let (key, window) = match (&stored.key, window) {
        (Some(key), Some(kind)) => {
            let (key, window) = split_window(key, kind).ok_or("the key has no window, but its source is windowed")?;
            (Some(key), Some(window))
        }
        (key, _) => (key.as_deref(), None),
    };
    let (key, value) = match source {
        Some(source) => {
            let values: Vec<Column> = source.schema.values().cloned().collect();
            (
                decode_side(&source.key_format, source.schema.keys(), key).map_err(|e| format!("key: {e}"))?,
                decode_side(&source.value_format, &values, stored.value.as_deref())
                    .map_err(|e| format!("value: {e}"))?,
            )
        }
        None => (text_or_null(key), text_or_null(stored.value.as_deref())),
    };
    let header = |(name, bytes): &(String, Option<Vec<u8>>)| (name.clone(), bytes.as_ref().map(|b| BASE64.encode(b)));
    let headers = stored.headers.iter().map(header).collect();
    Ok(Record { key, value, timestamp: stored.timestamp, window, headers })
}

/// Cuts the window off a key.
pub(super) fn split_window(key: &[u8], kind: KeyWindow) -> Option<(&[u8], Window)> {
    let number = |from: usize| key.get(from..from + 8)?.try_into().ok().map(i64::from_be_bytes);
    match kind {
        KeyWindow::Time { size_ms, .. } => {
            let at = key.len().checked_sub(8)?;
            let start = number(at)?;
            Some((&key[..at], Window { start, end: start.saturating_add(size_ms), session: false }))
        }
        KeyWindow::Session => {
            let at = key.len().checked_sub(16)?;
            Some((&key[..at], Window { start: number(at + 8)?, end: number(at)?, session: true }))
        }
    }
}

fn text_or_null(bytes: Option<&[u8]>) -> Value {
    bytes.map_or(Value::Null, |b| Value::String(String::from_utf8_lossy(b).into_owned()))
}

fn decode_side(spec: &FormatSpec, columns: &[Column], bytes: Option<&[u8]>) -> Result<Value, String> {
    let Some(bytes) = bytes else { return Ok(Value::Null) };
    match spec.format {
        Format::Json => {
            serde_json::from_slice(bytes).map_err(|e| format!("{:?} is no JSON: {e}", text_or_null(Some(bytes))))
        }
        Format::Delimited => Ok(text_or_null(Some(bytes))),
        Format::Kafka => decode_kafka(columns, bytes),
        Format::None => Err(format!("{} bytes, but the format is NONE", bytes.len())),
        other => Err(needs_registry(other)),
    }
}

fn decode_kafka(columns: &[Column], bytes: &[u8]) -> Result<Value, String> {
    let bad = |ty: &SqlType| format!("{} bytes are no {ty}", bytes.len());
    Ok(match columns.first().map(|c| &c.ty) {
        Some(ty @ SqlType::Int) => i32::from_be_bytes(bytes.try_into().map_err(|_| bad(ty))?).into(),
        Some(ty @ SqlType::BigInt) => i64::from_be_bytes(bytes.try_into().map_err(|_| bad(ty))?).into(),
        Some(ty @ SqlType::Double) => {
            let mut text = String::new();
            java_double(f64::from_be_bytes(bytes.try_into().map_err(|_| bad(ty))?), &mut text);
            serde_json::from_str(&text).unwrap_or(Value::String(text))
        }
        _ => text_or_null(Some(bytes)),
    })
}

/// The headers of row `row` of a column of them (`topic::headers_type`).
pub(super) fn headers_of(column: Option<&arrow::array::ArrayRef>, row: usize) -> Vec<(String, Option<Vec<u8>>)> {
    let Some(list) = column.and_then(|c| c.as_list_opt::<i32>()).filter(|l| !l.is_null(row)) else { return Vec::new() };
    let entries = list.value(row);
    let Some(entries) = entries.as_struct_opt() else { return Vec::new() };
    let (keys, values) = (entries.column(0).as_string::<i32>(), entries.column(1).as_binary::<i32>());
    (0..entries.len())
        .map(|i| (keys.value(i).to_owned(), (!values.is_null(i)).then(|| values.value(i).to_vec())))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Wrapping;

    fn round(format: Format, ty: SqlType, text: &str) -> String {
        let (spec, columns) = (FormatSpec::new(format).wrapped(Wrapping::Bare), [Column::value("V", ty)]);
        let value = serde_json::from_str(text).unwrap_or_else(|e| panic!("{text}: {e}"));
        let bytes = encode_side(&spec, &columns, &value).unwrap_or_else(|e| panic!("{text}: {e}"));
        decode_side(&spec, &columns, bytes.as_deref()).unwrap_or_else(|e| panic!("{text}: {e}")).to_string()
    }

    #[test]
    fn what_is_written_is_read() {
        assert_eq!(round(Format::Json, SqlType::Decimal(4, 2), r#"{"V":10.00}"#), r#"{"V":10.00}"#);
        assert_eq!(round(Format::Delimited, SqlType::String, r#""a,b""#), r#""a,b""#);
        assert_eq!(round(Format::Kafka, SqlType::Int, "-1"), "-1");
        assert_eq!(round(Format::Kafka, SqlType::BigInt, r#""9223372036854775807""#), "9223372036854775807");
        assert_eq!(round(Format::Kafka, SqlType::Double, "1"), "1.0");
        assert_eq!(round(Format::Kafka, SqlType::String, "12"), r#""12""#);
        assert_eq!(round(Format::Json, SqlType::Int, "null"), "null");
    }

    #[test]
    fn windows_stand_behind_the_key() {
        for window in [Window { start: 10, end: 30, session: false }, Window { start: 10, end: 17, session: true }] {
            let kind =
                if window.session { KeyWindow::Session } else { KeyWindow::Time { size_ms: 20, hopping: false } };
            let key = windowed(b"k".to_vec(), &window);
            assert_eq!(split_window(&key, kind), Some((&b"k"[..], window)));
        }
        assert_eq!(split_window(b"short", KeyWindow::Session), None);
    }

    #[test]
    fn formats_that_are_not_there_are_named() {
        let error = encode_side(&FormatSpec::new(Format::Avro), &[], &Value::Bool(true)).expect_err("not built");
        assert_eq!(error, "AVRO needs a schema registry format");
    }
}
