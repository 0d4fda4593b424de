//! WITH clauses: from what was typed to what it means.
//!
//! Checks names and values, and nothing against the world: whether a topic exists is the engine's to ask. The subtle thing: names are
//! case-insensitive, and literals are converted, so `PARTITIONS = '4'` is fine.

use std::collections::BTreeMap;

use crate::diagnostic::{Diagnostic, Span, suggest};
use crate::format::{Format, FormatSpec, Wrapping};
use crate::plan::topology::KeyWindow;
use crate::sql::ast::{Literal, Property};

/// A checked WITH clause; absent properties are `None`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WithClause {
    /// KAFKA_TOPIC
    pub topic: Option<String>,
    /// KEY_FORMAT (or FORMAT)
    pub key_format: Option<Format>,
    /// VALUE_FORMAT (or FORMAT)
    pub value_format: Option<Format>,
    /// PARTITIONS
    pub partitions: Option<i32>,
    /// REPLICAS
    pub replicas: Option<i16>,
    /// RETENTION_MS
    pub retention_ms: Option<i64>,
    /// TIMESTAMP
    pub timestamp: Option<(String, Span)>,
    /// TIMESTAMP_FORMAT
    pub timestamp_format: Option<String>,
    /// WRAP_SINGLE_VALUE
    pub wrap_single_value: Option<bool>,
    /// KEY_DELIMITER
    pub key_delimiter: Option<String>,
    /// VALUE_DELIMITER
    pub value_delimiter: Option<String>,
    /// WINDOW_TYPE and WINDOW_SIZE
    pub window: Option<KeyWindow>,
    /// QUERY_ID (INSERT INTO)
    pub query_id: Option<String>,
    /// properties of schema formats, key side, by ksqlDB's format property names
    pub key_properties: BTreeMap<String, String>,
    /// the same, value side
    pub value_properties: BTreeMap<String, String>,
    /// KEY_SCHEMA_ID
    pub key_schema_id: Option<i32>,
    /// VALUE_SCHEMA_ID
    pub value_schema_id: Option<i32>,
}

/// Whose WITH clause it is; each takes other properties.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WithOf {
    /// CREATE STREAM / TABLE
    Source,
    /// CREATE … AS SELECT
    Sink,
    /// INSERT INTO … SELECT
    Insert,
}

const SINK: &[&str] = &[
    "KAFKA_TOPIC",
    "KEY_FORMAT",
    "VALUE_FORMAT",
    "FORMAT",
    "PARTITIONS",
    "REPLICAS",
    "RETENTION_MS",
    "TIMESTAMP",
    "TIMESTAMP_FORMAT",
    "WRAP_SINGLE_VALUE",
    "KEY_DELIMITER",
    "VALUE_DELIMITER",
    "VALUE_AVRO_SCHEMA_FULL_NAME",
    "KEY_SCHEMA_FULL_NAME",
    "VALUE_SCHEMA_FULL_NAME",
    "KEY_SCHEMA_ID",
    "VALUE_SCHEMA_ID",
    "KEY_PROTOBUF_NULLABLE_REPRESENTATION",
    "VALUE_PROTOBUF_NULLABLE_REPRESENTATION",
    "CLEANUP_POLICY",
];
const SOURCE_ONLY: &[&str] = &["WINDOW_TYPE", "WINDOW_SIZE", "SOURCE_CONNECTOR", "SOURCED_BY_CONNECTOR"];

/// Reads a WITH clause.
///
/// # Errors
/// Unknown or repeated names, values of the wrong type, properties that exclude each other.
pub fn read(properties: &[Property], of: WithOf) -> Result<WithClause, Diagnostic> {
    let mut with = WithClause::default();
    let mut seen = BTreeMap::new();
    for property in properties {
        let name = property.name.as_str().to_uppercase();
        check_name(&name, property, of)?;
        if seen.insert(name.clone(), property.value_loc.0).is_some() {
            return Err(Diagnostic::user(format!("{name} is given twice in the WITH clause")).at(property.name.span()));
        }
        set(&mut with, &name, property).map_err(|e| e.at(property.value_loc.0))?;
    }
    if seen.contains_key("FORMAT") {
        for other in ["KEY_FORMAT", "VALUE_FORMAT"] {
            if let Some(span) = seen.get(other) {
                return Err(Diagnostic::user(format!(
                    "Cannot supply both '{other}' and 'FORMAT' properties: FORMAT sets both sides"
                ))
                .at(*span)
                .help("use FORMAT alone, or KEY_FORMAT and VALUE_FORMAT"));
            }
        }
    }
    if seen.contains_key("VALUE_AVRO_SCHEMA_FULL_NAME") && seen.contains_key("VALUE_SCHEMA_FULL_NAME") {
        return Err(Diagnostic::user(
            "Cannot supply both 'VALUE_AVRO_SCHEMA_FULL_NAME' and 'VALUE_SCHEMA_FULL_NAME' properties: they say the same thing",
        ));
    }
    window(&mut with, properties)?;
    Ok(with)
}

fn check_name(name: &str, property: &Property, of: WithOf) -> Result<(), Diagnostic> {
    let known: Vec<&str> = match of {
        WithOf::Source => SINK.iter().chain(SOURCE_ONLY).copied().collect(),
        WithOf::Sink => SINK.to_vec(),
        WithOf::Insert => vec!["QUERY_ID"],
    };
    if name == "CLEANUP_POLICY" && of != WithOf::Insert {
        return Err(Diagnostic::user("Invalid config variable in the WITH clause: CLEANUP_POLICY. Users can't set the CLEANUP_POLICY config manually.")
            .at(property.name.span()));
    }
    if known.contains(&name) {
        return Ok(());
    }
    let error =
        Diagnostic::user(format!("Invalid config variable(s) in the WITH clause: {name}")).at(property.name.span());
    Err(match suggest(name, known.iter().copied()) {
        Some(near) => error.help(format!("did you mean {near}?")),
        None => error.help(format!("known here: {}", known.join(", "))),
    })
}

fn set(with: &mut WithClause, name: &str, property: &Property) -> Result<(), Diagnostic> {
    let value = &property.value;
    match name {
        "KAFKA_TOPIC" => {
            let topic = text(name, value)?;
            if topic.is_empty() {
                return Err(Diagnostic::user("KAFKA_TOPIC must not be empty"));
            }
            with.topic = Some(topic);
        }
        "FORMAT" => {
            let format = format(value, name)?;
            with.key_format = Some(format);
            with.value_format = Some(format);
        }
        "KEY_FORMAT" => with.key_format = Some(format(value, name)?),
        "VALUE_FORMAT" => with.value_format = Some(format(value, name)?),
        "PARTITIONS" => with.partitions = Some(positive(name, value)?),
        "REPLICAS" => {
            with.replicas =
                Some(whole(name, value)?.try_into().map_err(|_| wrong(name, "a number of replicas", value))?)
        }
        "RETENTION_MS" => with.retention_ms = Some(whole(name, value)?),
        "TIMESTAMP" => with.timestamp = Some((text(name, value)?, property.value_loc.0)),
        "TIMESTAMP_FORMAT" => with.timestamp_format = Some(text(name, value)?),
        "WRAP_SINGLE_VALUE" => with.wrap_single_value = Some(boolean(name, value)?),
        "KEY_DELIMITER" => with.key_delimiter = Some(delimiter(name, value)?),
        "VALUE_DELIMITER" => with.value_delimiter = Some(delimiter(name, value)?),
        "QUERY_ID" => with.query_id = Some(text(name, value)?),
        "KEY_SCHEMA_ID" => with.key_schema_id = Some(positive(name, value)?),
        "VALUE_SCHEMA_ID" => with.value_schema_id = Some(positive(name, value)?),
        "KEY_SCHEMA_FULL_NAME" => full_name(&mut with.key_properties, name, value)?,
        "VALUE_SCHEMA_FULL_NAME" | "VALUE_AVRO_SCHEMA_FULL_NAME" => full_name(&mut with.value_properties, name, value)?,
        "KEY_PROTOBUF_NULLABLE_REPRESENTATION" => nullable(&mut with.key_properties, name, value)?,
        "VALUE_PROTOBUF_NULLABLE_REPRESENTATION" => nullable(&mut with.value_properties, name, value)?,
        _ => {}
    }
    Ok(())
}

fn full_name(into: &mut BTreeMap<String, String>, name: &str, value: &Literal) -> Result<(), Diagnostic> {
    let full = text(name, value)?;
    if full.trim().is_empty() {
        return Err(Diagnostic::user(format!(
            "{name} cannot be empty. Format configuration: {{fullSchemaName={full}}}"
        )));
    }
    into.insert("fullSchemaName".to_owned(), full);
    Ok(())
}

fn nullable(into: &mut BTreeMap<String, String>, name: &str, value: &Literal) -> Result<(), Diagnostic> {
    let kind = text(name, value)?.to_uppercase();
    if !["OPTIONAL", "WRAPPER"].contains(&kind.as_str()) {
        return Err(Diagnostic::user(format!(
            "Invalid value {kind} for property {name}: String must be one of: OPTIONAL, WRAPPER"
        )));
    }
    into.insert("nullableRepresentation".to_owned(), kind);
    Ok(())
}

fn window(with: &mut WithClause, properties: &[Property]) -> Result<(), Diagnostic> {
    let find = |name: &str| properties.iter().find(|p| p.name.as_str().eq_ignore_ascii_case(name));
    let size = find("WINDOW_SIZE");
    let Some(kind) = find("WINDOW_TYPE") else {
        return match size {
            Some(p) => Err(Diagnostic::user("WINDOW_SIZE needs WINDOW_TYPE")
                .at(p.name.span())
                .help("add WINDOW_TYPE = 'TUMBLING' or 'HOPPING'")),
            None => Ok(()),
        };
    };
    let name = text("WINDOW_TYPE", &kind.value)?.to_uppercase();
    let size_ms = match size {
        Some(p) => Some(duration(&text("WINDOW_SIZE", &p.value)?).map_err(|e| e.at(p.value_loc.0))?),
        None => None,
    };
    with.window = Some(match (name.as_str(), size_ms) {
        ("SESSION", None) => KeyWindow::Session,
        ("SESSION", Some(_)) => {
            return Err(Diagnostic::user("'WINDOW_SIZE' should not be set for SESSION windows.").at(kind.value_loc.0));
        }
        ("TUMBLING" | "HOPPING", Some(size_ms)) => KeyWindow::Time { size_ms, hopping: name == "HOPPING" },
        ("TUMBLING" | "HOPPING", None) => {
            return Err(Diagnostic::user(format!("{name} windows require 'WINDOW_SIZE' to be provided in the WITH clause. For example: 'WINDOW_SIZE'='10 SECONDS'"))
                .at(kind.value_loc.0));
        }
        _ => {
            return Err(Diagnostic::user(format!(
                "Invalid value {name} for property WINDOW_TYPE: must be one of SESSION, HOPPING, TUMBLING"
            ))
            .at(kind.value_loc.0));
        }
    });
    Ok(())
}

/// `'10 SECONDS'` in ms.
fn duration(text: &str) -> Result<i64, Diagnostic> {
    let bad = |why: &str| {
        Diagnostic::user(format!("Invalid window size '{text}': {why}"))
            .help("write a number and a unit, such as '10 SECONDS'")
    };
    let mut words = text.split_whitespace();
    let (Some(number), Some(unit), None) = (words.next(), words.next(), words.next()) else {
        return Err(bad("Should have a number and a time unit"));
    };
    let number: i64 = number.parse().map_err(|_| bad("Size must be numeric"))?;
    let unit = unit.to_uppercase();
    let per_unit = match unit.strip_suffix('S').unwrap_or(&unit) {
        "DAY" => 86_400_000,
        "HOUR" => 3_600_000,
        "MINUTE" => 60_000,
        "SECOND" => 1000,
        "MILLISECOND" => 1,
        _ => return Err(bad("Unknown time unit")),
    };
    match number.checked_mul(per_unit) {
        Some(ms) if ms > 0 => Ok(ms),
        _ => Err(bad("it must be more than zero")),
    }
}

fn wrong(name: &str, wanted: &str, value: &Literal) -> Diagnostic {
    Diagnostic::user(format!("Invalid value {} for property {name}: it must be {wanted}", shown(value)))
}

fn shown(value: &Literal) -> String {
    match value {
        Literal::Null => "NULL".into(),
        Literal::Boolean(b) => b.to_string(),
        Literal::String(s) => s.clone(),
        Literal::Number(n) => n.text.clone(),
    }
}

fn text(name: &str, value: &Literal) -> Result<String, Diagnostic> {
    match value {
        Literal::Null => Err(wrong(name, "a string", value)),
        other => Ok(shown(other)),
    }
}

fn whole(name: &str, value: &Literal) -> Result<i64, Diagnostic> {
    shown(value).trim().parse().map_err(|_| wrong(name, "a whole number", value))
}

fn positive(name: &str, value: &Literal) -> Result<i32, Diagnostic> {
    match i32::try_from(whole(name, value)?) {
        Ok(n) if n > 0 => Ok(n),
        _ => Err(wrong(name, "a whole number greater than zero", value)),
    }
}

fn boolean(name: &str, value: &Literal) -> Result<bool, Diagnostic> {
    match shown(value).to_lowercase().as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(wrong(name, "true or false", value)),
    }
}

fn format(value: &Literal, name: &str) -> Result<Format, Diagnostic> {
    let text = text(name, value)?;
    Format::by_name(&text).ok_or_else(|| {
        Diagnostic::user(format!("Unknown format: {}", text.to_uppercase()))
            .help("the formats are JSON, DELIMITED, KAFKA, NONE, AVRO, JSON_SR, PROTOBUF and PROTOBUF_NOSR")
    })
}

fn delimiter(name: &str, value: &Literal) -> Result<String, Diagnostic> {
    let text = text(name, value)?;
    let word = text.to_uppercase();
    if word == "TAB" || word == "SPACE" {
        return Ok(word);
    }
    let blank = text.trim().is_empty();
    if blank {
        return Err(Diagnostic::user(format!("{name} is invalid: Delimiter cannot be empty"))
            .help("if you meant a tab or a space, use the words TAB or SPACE"));
    }
    if text.chars().count() != 1 {
        return Err(Diagnostic::user(format!("Configuration {name} is invalid: Invalid delimiter value: '{text}'. Delimiter must be a single character or TAB,SPACE"))
            .help("for example ';'"));
    }
    Ok(text)
}

/// A format with the properties of a WITH clause for one side.
///
/// # Errors
/// A property that the format lacks.
pub fn spec(
    format: Format,
    delimiter: Option<&str>,
    properties: &BTreeMap<String, String>,
    schema_id: Option<i32>,
) -> Result<FormatSpec, Diagnostic> {
    let mut spec = FormatSpec::new(format);
    let mut unknown = Vec::new();
    let mut put = |key: &str, value: String, ok: bool| {
        if ok {
            spec.properties.insert(key.to_owned(), value);
        } else {
            unknown.push(key.to_owned());
        }
    };
    if let Some(delimiter) = delimiter {
        put("delimiter", delimiter.to_owned(), format == Format::Delimited);
    }
    for (key, value) in properties {
        let ok = match key.as_str() {
            "fullSchemaName" => format.uses_registry(),
            "nullableRepresentation" => matches!(format, Format::Protobuf | Format::ProtobufNoSr),
            _ => false,
        };
        put(key, value.clone(), ok);
    }
    if let Some(id) = schema_id {
        put("schemaId", id.to_string(), format.uses_registry());
    }
    if unknown.is_empty() {
        return Ok(spec);
    }
    Err(Diagnostic::user(format!("{format} does not support the following configs: [{}]", unknown.join(", "))))
}

/// How a lone value column is stored: as the WITH clause says, else as the property says, else as the format does.
///
/// # Errors
/// If the clause asks for what the format or the schema does not have.
pub fn value_wrapping(
    format: Format,
    columns: usize,
    given: Option<bool>,
    by_default: Option<bool>,
) -> Result<Wrapping, Diagnostic> {
    let (can_wrap, can_bare) = match format {
        Format::Delimited | Format::Kafka => (false, true),
        Format::None => (false, false),
        Format::Protobuf => (true, false),
        _ => (true, true),
    };
    let native = FormatSpec::new(format).wrapping;
    if let Some(wrap) = given {
        if !(if wrap { can_wrap } else { can_bare }) {
            return Err(Diagnostic::user(format!(
                "Format '{format}' does not support 'WRAP_SINGLE_VALUE' set to '{wrap}'."
            )));
        }
        if columns != 1 {
            return Err(Diagnostic::user("'WRAP_SINGLE_VALUE' is only valid for single-field value schemas"));
        }
        return Ok(if wrap { Wrapping::Wrapped } else { Wrapping::Bare });
    }
    Ok(match by_default {
        Some(true) if can_wrap => Wrapping::Wrapped,
        Some(false) if can_bare && columns == 1 => Wrapping::Bare,
        _ => native,
    })
}

/// How key columns are stored: one alone is bare where the format can, several are a record.
pub fn key_wrapping(format: Format, columns: usize) -> Wrapping {
    match format {
        Format::Protobuf => Wrapping::Wrapped,
        Format::Kafka | Format::None | Format::Delimited => Wrapping::Bare,
        _ if columns == 1 => Wrapping::Bare,
        _ => Wrapping::Wrapped,
    }
}
