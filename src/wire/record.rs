//! Raw records as JSON, both ways: what `consume` prints, `produce` takes and `/topics` speaks.
//!
//! Bytes that are UTF-8 are text, others base64 with `keyEncoding` (`valueEncoding`, `encoding`) saying so; so what is read can be
//! written back as it was. No schema: a format is one of the few that need none.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use crate::diagnostic::Diagnostic;
use crate::engine::{RawRecord, ReadRecord};

/// Media type of a record a line.
pub const JSON_LINES: &str = "application/x-ndjson";
/// Header of a read of one partition: the offset to read from next.
pub const NEXT_OFFSET: &str = "x-next-offset";
/// Header of a read of one partition: the offset that its next record will get.
pub const END_OFFSET: &str = "x-end-offset";

/// How bytes become a JSON value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum PartFormat {
    /// text if it is UTF-8, else base64
    #[default]
    Auto,
    /// a JSON text, taken apart
    Json,
    /// 4 bytes, big-endian
    Int,
    /// 8 bytes, big-endian
    BigInt,
    /// 8 bytes, IEEE 754, big-endian
    Double,
    /// always base64
    Base64,
}

/// The names of formats, for help and errors.
pub const FORMAT_NAMES: [&str; 6] = ["STRING", "JSON", "INT", "BIGINT", "DOUBLE", "BASE64"];

impl PartFormat {
    /// The format of that name, in any case; `KAFKA_INT` is `INT`, and so on.
    ///
    /// # Errors
    /// A name that is none.
    pub fn parse(name: &str) -> Result<Self, Diagnostic> {
        let upper = name.to_ascii_uppercase();
        Ok(match upper.strip_prefix("KAFKA_").unwrap_or(&upper) {
            "STRING" | "TEXT" | "DELIMITED" => Self::Auto,
            "JSON" => Self::Json,
            "INT" | "INTEGER" => Self::Int,
            "BIGINT" | "LONG" => Self::BigInt,
            "DOUBLE" => Self::Double,
            "BASE64" | "BYTES" => Self::Base64,
            _ => {
                return Err(Diagnostic::user(format!("There is no record format '{name}'"))
                    .help(format!("use one of {}", FORMAT_NAMES.join(", "))));
            }
        })
    }

    /// The bytes as a value, and true if it is base64. Bytes that are not of the format are shown as [`Self::Auto`] shows them.
    fn value(self, bytes: &[u8]) -> (Value, bool) {
        let typed = match self {
            Self::Auto => None,
            Self::Json => serde_json::from_slice(bytes).ok(),
            Self::Int => bytes.try_into().ok().map(|b| i32::from_be_bytes(b).into()),
            Self::BigInt => bytes.try_into().ok().map(|b| i64::from_be_bytes(b).into()),
            Self::Double => bytes.try_into().ok().map(|b| f64::from_be_bytes(b).into()),
            Self::Base64 => return (STANDARD.encode(bytes).into(), true),
        };
        match (typed, std::str::from_utf8(bytes)) {
            (Some(value), _) => (value, false),
            (None, Ok(text)) => (text.into(), false),
            (None, Err(_)) => (STANDARD.encode(bytes).into(), true),
        }
    }
}

/// A record as JSON: `partition`, `offset`, `timestamp`, `key`, `value`, `headers`.
pub fn to_json(record: &ReadRecord, key: PartFormat, value: PartFormat) -> Value {
    let mut json = Map::new();
    json.insert("partition".into(), record.partition.into());
    json.insert("offset".into(), record.offset.into());
    json.insert("timestamp".into(), record.timestamp.into());
    put_part(&mut json, "key", record.key.as_deref().map(|b| key.value(b)));
    put_part(&mut json, "value", record.value.as_deref().map(|b| value.value(b)));
    json.insert("headers".into(), headers_to_json(&record.headers));
    Value::Object(json)
}

/// A record to append as JSON, which [`from_json`] reads.
pub fn raw_to_json(record: &RawRecord) -> Value {
    let mut json = Map::new();
    if let Some(partition) = record.partition {
        json.insert("partition".into(), partition.into());
    }
    if let Some(timestamp) = record.timestamp {
        json.insert("timestamp".into(), timestamp.into());
    }
    put_part(&mut json, "key", record.key.as_deref().map(|b| PartFormat::Auto.value(b)));
    put_part(&mut json, "value", record.value.as_deref().map(|b| PartFormat::Auto.value(b)));
    json.insert("headers".into(), headers_to_json(&record.headers));
    Value::Object(json)
}

fn headers_to_json(headers: &[(String, Option<Vec<u8>>)]) -> Value {
    let header = |(name, bytes): &(String, Option<Vec<u8>>)| {
        let (value, is_base64) = bytes.as_deref().map_or((Value::Null, false), |b| PartFormat::Auto.value(b));
        let mut json = json!({ "key": name, "value": value });
        if is_base64 {
            json["encoding"] = "base64".into();
        }
        json
    };
    headers.iter().map(header).collect()
}

fn put_part(json: &mut Map<String, Value>, name: &str, part: Option<(Value, bool)>) {
    let (value, is_base64) = part.unwrap_or((Value::Null, false));
    json.insert(name.into(), value);
    if is_base64 {
        json.insert(format!("{name}Encoding"), "base64".into());
    }
}

/// The record of a JSON object. A key or value that is no string is the JSON text of it; NULL and absent are none; an `offset` is ignored.
///
/// # Errors
/// What is no object, a number that is none, text that is not base64.
pub fn from_json(json: &Value) -> Result<RawRecord, Diagnostic> {
    if !json.is_object() {
        return Err(Diagnostic::user("A record must be a JSON object").help(r#"write {"key": …, "value": …}"#));
    }
    let number = |field: &str| match &json[field] {
        Value::Null => Ok(None),
        value => value.as_i64().map(Some).ok_or_else(|| Diagnostic::user(format!("'{field}' must be a whole number"))),
    };
    let partition = match number("partition")? {
        None => None,
        Some(n) => Some(i32::try_from(n).map_err(|_| Diagnostic::user(format!("'partition' {n} is out of range")))?),
    };
    let headers: Result<Vec<_>, Diagnostic> = json["headers"].as_array().into_iter().flatten().map(header).collect();
    Ok(RawRecord {
        partition,
        key: bytes(&json["key"], &json["keyEncoding"], "key")?,
        value: bytes(&json["value"], &json["valueEncoding"], "value")?,
        timestamp: number("timestamp")?,
        headers: headers?,
    })
}

fn header(json: &Value) -> Result<(String, Option<Vec<u8>>), Diagnostic> {
    let Some(name) = json["key"].as_str() else { return Err(Diagnostic::user("A header needs a 'key'")) };
    Ok((name.to_owned(), bytes(&json["value"], &json["encoding"], "value")?))
}

fn bytes(value: &Value, encoding: &Value, field: &str) -> Result<Option<Vec<u8>>, Diagnostic> {
    match (value, encoding.as_str()) {
        (Value::Null, _) => Ok(None),
        (Value::String(text), Some("base64")) => STANDARD
            .decode(text)
            .map(Some)
            .map_err(|error| Diagnostic::user(format!("'{field}' is not base64: {error}"))),
        (_, Some(other)) if other != "base64" => {
            Err(Diagnostic::user(format!("'{other}' is no encoding")).help("use base64, or leave it away for text"))
        }
        (Value::String(text), _) => Ok(Some(text.clone().into_bytes())),
        (other, _) => Ok(Some(other.to_string().into_bytes())),
    }
}

/// The record that [`to_json`] with [`PartFormat::Auto`] came from, for clients that read over HTTP.
///
/// # Errors
/// As [`from_json`]; an object without partition, offset or timestamp.
pub fn read_from_json(json: &Value) -> Result<ReadRecord, Diagnostic> {
    let record = from_json(json)?;
    let missing = |field: &str| Diagnostic::user(format!("the server sent a record without '{field}'"));
    Ok(ReadRecord {
        partition: record.partition.ok_or_else(|| missing("partition"))?,
        offset: json["offset"].as_i64().ok_or_else(|| missing("offset"))?,
        timestamp: record.timestamp.ok_or_else(|| missing("timestamp"))?,
        key: record.key,
        value: record.value,
        headers: record.headers,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> ReadRecord {
        ReadRecord {
            partition: 1,
            offset: 7,
            timestamp: 1000,
            key: Some(vec![0, 0, 0, 255]),
            value: Some(b"{\"a\":1.50}".to_vec()),
            headers: vec![("h".into(), Some(b"x".to_vec())), ("n".into(), None), ("b".into(), Some(vec![255]))],
        }
    }

    #[test]
    fn records_survive_as_they_were() {
        let json = to_json(&record(), PartFormat::Auto, PartFormat::Auto);
        assert_eq!(json["value"], "{\"a\":1.50}");
        assert_eq!(json["keyEncoding"], "base64");
        assert_eq!(read_from_json(&json).unwrap(), record());
        let tombstone = ReadRecord { value: None, ..record() };
        assert_eq!(read_from_json(&to_json(&tombstone, PartFormat::Auto, PartFormat::Auto)).unwrap(), tombstone);
    }

    #[test]
    fn formats_take_bytes_apart() {
        let json = to_json(&record(), PartFormat::parse("kafka_int").unwrap(), PartFormat::Json);
        assert_eq!(json["key"], 255);
        assert_eq!(json["value"].to_string(), "{\"a\":1.50}");
        let other = to_json(&record(), PartFormat::BigInt, PartFormat::Int);
        assert_eq!((&other["key"], &other["value"]), (&json!("AAAA/w=="), &json!("{\"a\":1.50}")));
        assert!(PartFormat::parse("AVRO").unwrap_err().help.unwrap().contains("BIGINT"));
    }

    #[test]
    fn objects_are_their_own_text() {
        let taken = from_json(&json!({"value": {"a": [1, null]}, "key": 5})).unwrap();
        assert_eq!(taken.value.as_deref(), Some(&b"{\"a\":[1,null]}"[..]));
        assert_eq!(taken.key.as_deref(), Some(&b"5"[..]));
        assert_eq!((taken.partition, taken.timestamp), (None, None));
        assert!(from_json(&json!([])).is_err());
        assert!(from_json(&json!({"key": "?", "keyEncoding": "base64"})).is_err());
    }
}
