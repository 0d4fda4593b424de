//! Which columns and properties a format takes: the tables that statements are checked against.
//!
//! Encodes nothing. The subtle thing: a MAP in a key is refused for every format before anything else, because maps have no
//! one byte form and equal keys must be equal bytes.

use super::{Format, FormatSpec, Side, Wrapping, delimited};
use crate::diagnostic::Diagnostic;
use crate::types::{Column, ColumnRole, SqlType, backquoted};

/// Says whether the format (with its properties) can hold these columns on that side.
///
/// # Errors
/// Names the format, the column and the type or property that does not fit, and the remedy.
pub fn check(spec: &FormatSpec, side: Side, columns: &[Column]) -> Result<(), Diagnostic> {
    if side == Side::Key
        && let Some(column) = columns.iter().find(|column| column.ty.contains_map())
    {
        return Err(Diagnostic::user(format!(
            "Map keys, including types that contain maps, are not supported as they may lead to unexpected behavior due to \
             inconsistent serialization. Key column name: {}. Column type: {}.",
            backquoted(column.name.as_str()),
            column.ty
        ))
        .help("use a STRUCT, or the values of the map that matter, as the key"));
    }
    check_properties(spec, side)?;
    check_wrapping(spec, side, columns)?;
    refusal(spec.format, columns).map_or(Ok(()), |refusal| Err(refusal.diagnostic(spec, side, columns)))
}

/// True if `format` can hold values of `ty`.
pub fn supports(format: Format, ty: &SqlType) -> bool {
    format != Format::None && unsupported_in(format, ty).is_none()
}

/// The properties a format knows, by ksqlDB's names.
fn known_properties(format: Format) -> &'static [&'static str] {
    match format {
        Format::Delimited => &[delimited::DELIMITER],
        Format::JsonSr | Format::Avro => &["fullSchemaName", "schemaId"],
        Format::Protobuf => {
            &["fullSchemaName", "schemaId", "unwrapPrimitives", "nullableRepresentation", "subjectName"]
        }
        Format::ProtobufNoSr => &["unwrapPrimitives", "nullableRepresentation"],
        Format::Json | Format::Kafka | Format::None => &[],
    }
}

fn check_properties(spec: &FormatSpec, side: Side) -> Result<(), Diagnostic> {
    let known = known_properties(spec.format);
    let unknown: Vec<_> = spec.properties.keys().map(String::as_str).filter(|name| !known.contains(name)).collect();
    if !unknown.is_empty() {
        let message = format!("{} does not support the following configs: [{}]", spec.format, unknown.join(", "));
        let help = match known {
            [] => "remove the property".to_owned(),
            known => format!("remove the property; the format takes: {}", known.join(", ")),
        };
        return Err(Diagnostic::user(message).help(help));
    }
    if spec.format == Format::Delimited {
        delimited::delimiter(spec, side)?;
    }
    Ok(())
}

/// Only formats that can store a lone value column both ways have the choice; keys follow their format's own rule.
fn check_wrapping(spec: &FormatSpec, side: Side, columns: &[Column]) -> Result<(), Diagnostic> {
    let refused = match (spec.format, spec.wrapping) {
        (Format::Delimited | Format::Kafka, Wrapping::Wrapped) => "true",
        (Format::Protobuf, Wrapping::Bare) => "false",
        _ => return Ok(()),
    };
    if side == Side::Key || columns.len() != 1 {
        return Ok(());
    }
    let message = format!("Format '{}' does not support 'WRAP_SINGLE_VALUE' set to '{refused}'.", spec.format);
    Err(Diagnostic::user(message).help("leave WRAP_SINGLE_VALUE out"))
}

/// Why columns do not fit a format.
struct Refusal {
    reason: String,
    help: String,
}

impl Refusal {
    fn diagnostic(self, spec: &FormatSpec, side: Side, columns: &[Column]) -> Diagnostic {
        let side = match side {
            Side::Key => "Key",
            Side::Value => "Value",
        };
        let bare = columns.len() == 1 && spec.wrapping == Wrapping::Bare && has_choice_of_wrapping(spec.format);
        let features = if bare { "UNWRAP_SINGLES" } else { "" };
        Diagnostic::user(format!(
            "{side} format does not support schema.\nformat: {}\nschema: Persistence{{columns={}, features=[{features}]}}\nreason: {}",
            spec.format,
            listed(columns),
            self.reason
        ))
        .help(self.help)
    }
}

fn has_choice_of_wrapping(format: Format) -> bool {
    matches!(format, Format::Json | Format::JsonSr | Format::Avro | Format::ProtobufNoSr)
}

/// The first reason against these columns.
fn refusal(format: Format, columns: &[Column]) -> Option<Refusal> {
    if format == Format::None && !columns.is_empty() {
        let reason =
            format!("The 'NONE' format can only be used when no columns are defined. Got: {}", listed(columns));
        return Some(Refusal { reason, help: "use JSON or KAFKA, or declare no columns on this side".to_owned() });
    }
    if format == Format::Kafka && columns.len() > 1 {
        let reason = format!("The 'KAFKA' format only supports a single field. Got: {}", listed(columns));
        return Some(Refusal { reason, help: "use JSON or DELIMITED for several columns".to_owned() });
    }
    columns
        .iter()
        .find_map(|column| {
            let unsupported = unsupported_in(format, &column.ty)?;
            let name = backquoted(column.name.as_str());
            let place = if format == Format::Kafka { String::new() } else { format!(", column: {name}") };
            Some(match unsupported {
                Unsupported::Type(ty) => Refusal {
                    reason: format!("The '{format}' format does not support type '{}'{place}", base_name(ty)),
                    help: format!("use JSON, which holds {name} of type {}, or another type", column.ty),
                },
                Unsupported::MapKey => Refusal {
                    reason: match format {
                        Format::Json | Format::JsonSr => "JSON only supports MAP types with STRING keys".to_owned(),
                        Format::Avro => "Avro only supports MAPs with STRING keys".to_owned(),
                        other => format!("{other} format only supports MAP types with STRING keys"),
                    } + &place,
                    help: format!("make the keys of {name} STRING; it is {}", column.ty),
                },
            })
        })
        .or_else(|| if format == Format::Avro { avro_name_refusal(columns) } else { None })
}

enum Unsupported<'a> {
    Type(&'a SqlType),
    /// a MAP whose keys are not STRING
    MapKey,
}

/// The first type inside `ty` that `format` cannot hold.
fn unsupported_in(format: Format, ty: &SqlType) -> Option<Unsupported<'_>> {
    let held = match format {
        Format::None => false,
        Format::Kafka => {
            matches!(ty, SqlType::Int | SqlType::BigInt | SqlType::Double | SqlType::String | SqlType::Bytes)
        }
        Format::Delimited => !matches!(ty, SqlType::Array(_) | SqlType::Map(..) | SqlType::Struct(_)),
        Format::Json | Format::JsonSr | Format::Avro | Format::Protobuf | Format::ProtobufNoSr => true,
    };
    if !held {
        return Some(Unsupported::Type(ty));
    }
    match ty {
        SqlType::Array(item) => unsupported_in(format, item),
        SqlType::Map(key, _) if **key != SqlType::String => Some(Unsupported::MapKey),
        SqlType::Map(_, value) => unsupported_in(format, value),
        SqlType::Struct(fields) => fields.iter().find_map(|field| unsupported_in(format, &field.ty)),
        _ => None,
    }
}

/// Avro's names are ASCII identifiers; a `.` is written as `_`.
fn avro_name_refusal(columns: &[Column]) -> Option<Refusal> {
    let invalid = columns.iter().find_map(|column| invalid_avro_name(column.name.as_str(), &column.ty))?;
    let what = if invalid.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
        "Illegal character in"
    } else {
        "Illegal initial character"
    };
    Some(Refusal {
        reason: format!("Schema is not compatible with Avro: {what}: {invalid}"),
        help: "name columns and fields with letters, digits and _, not beginning with a digit".to_owned(),
    })
}

fn invalid_avro_name<'a>(name: &'a str, ty: &'a SqlType) -> Option<&'a str> {
    let valid_first = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if !valid_first || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.') {
        return Some(name);
    }
    fn inner(ty: &SqlType) -> Option<&str> {
        match ty {
            SqlType::Array(item) => inner(item),
            SqlType::Map(key, value) => inner(key).or_else(|| inner(value)),
            SqlType::Struct(fields) => fields.iter().find_map(|f| invalid_avro_name(f.name.as_str(), &f.ty)),
            _ => None,
        }
    }
    inner(ty)
}

/// The type's name without what is inside it.
fn base_name(ty: &SqlType) -> String {
    match ty {
        SqlType::Array(_) => "ARRAY".to_owned(),
        SqlType::Map(..) => "MAP".to_owned(),
        SqlType::Struct(_) => "STRUCT".to_owned(),
        SqlType::Decimal(..) => "DECIMAL".to_owned(),
        other => other.to_string(),
    }
}

/// Columns as ksqlDB lists them: ``[`K` STRING KEY, `V` INTEGER]``.
fn listed(columns: &[Column]) -> String {
    let column = |column: &Column| {
        let role = if column.role == ColumnRole::Key { " KEY" } else { "" };
        format!("{} {}{role}", backquoted(column.name.as_str()), column.ty)
    };
    format!("[{}]", columns.iter().map(column).collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::types::SqlField;

    fn error(format: Format, side: Side, columns: &[Column]) -> String {
        check(&FormatSpec::new(format), side, columns).unwrap_err().to_string()
    }

    fn map(key: SqlType) -> SqlType {
        SqlType::Map(Box::new(key), Box::new(SqlType::Double))
    }

    fn in_struct(name: &str, ty: SqlType) -> SqlType {
        SqlType::Struct(Arc::from([SqlField { name: name.into(), ty }]))
    }

    #[test]
    fn type_tables() {
        use Format::{Avro, Delimited, Json, JsonSr, Kafka, None, Protobuf, ProtobufNoSr};
        let nested = [SqlType::Array(Box::new(SqlType::Int)), map(SqlType::String), in_struct("F", SqlType::Int)];
        for format in [Json, JsonSr, Avro, Protobuf, ProtobufNoSr] {
            assert!(nested.iter().all(|ty| supports(format, ty)) && supports(format, &SqlType::Decimal(4, 2)));
            assert!(!supports(format, &SqlType::Array(Box::new(map(SqlType::Int)))), "{format}");
        }
        for format in [Delimited, Kafka, None] {
            assert!(!nested.iter().any(|ty| supports(format, ty)), "{format}");
        }
        assert!(supports(Delimited, &SqlType::Time) && !supports(Kafka, &SqlType::Time));
        assert!(
            supports(Kafka, &SqlType::Bytes) && !supports(Kafka, &SqlType::Boolean) && !supports(None, &SqlType::Int)
        );
    }

    #[test]
    fn errors_name_format_column_type_and_remedy() {
        let key = [Column::key("K", SqlType::Array(Box::new(SqlType::Double)))];
        assert_eq!(
            error(Format::Delimited, Side::Key, &key),
            "Key format does not support schema.\nformat: DELIMITED\nschema: Persistence{columns=[`K` ARRAY<DOUBLE> KEY], \
             features=[]}\nreason: The 'DELIMITED' format does not support type 'ARRAY', column: `K`\nHelp: use JSON, which \
             holds `K` of type ARRAY<DOUBLE>, or another type"
        );
        let two = [Column::value("V0", SqlType::Int), Column::value("V1", SqlType::String)];
        for (format, columns, want) in [
            (
                Format::Kafka,
                &two[..],
                "The 'KAFKA' format only supports a single field. Got: [`V0` INTEGER, `V1` STRING]",
            ),
            (
                Format::Kafka,
                &[Column::value("D", SqlType::Decimal(4, 2))],
                "The 'KAFKA' format does not support type 'DECIMAL'",
            ),
            (
                Format::None,
                &two[..1],
                "The 'NONE' format can only be used when no columns are defined. Got: [`V0` INTEGER]",
            ),
            (
                Format::Json,
                &[Column::value("M", map(SqlType::Int))],
                "JSON only supports MAP types with STRING keys, column: `M`",
            ),
            (
                Format::Protobuf,
                &[Column::value("M", map(SqlType::Int))],
                "PROTOBUF format only supports MAP types with STRING keys",
            ),
            (Format::Avro, &[Column::value("S", in_struct("1a", SqlType::Int))], "Illegal initial character: 1a"),
            (Format::Avro, &[Column::value("a-b", SqlType::Int)], "Illegal character in: a-b"),
        ] {
            let text = error(format, Side::Value, columns);
            assert!(text.starts_with("Value format does not support schema.") && text.contains(want), "{text}");
            assert!(text.contains("\nHelp: "), "{text}");
        }
    }

    #[test]
    fn maps_are_no_keys() {
        for format in [Format::Json, Format::Kafka, Format::Avro, Format::None] {
            let text = error(format, Side::Key, &[Column::key("K", SqlType::Array(Box::new(map(SqlType::Int))))]);
            assert!(text.contains("Key column name: `K`. Column type: ARRAY<MAP<INTEGER, DOUBLE>>."), "{text}");
        }
    }

    #[test]
    fn properties_and_wrapping() {
        let with = |format, name: &str, value: &str| {
            let mut spec = FormatSpec::new(format);
            spec.properties.insert(name.to_owned(), value.to_owned());
            check(&spec, Side::Value, &[]).map_err(|error| error.message)
        };
        assert_eq!(
            with(Format::Json, "delimiter", "|").unwrap_err(),
            "JSON does not support the following configs: [delimiter]"
        );
        assert!(with(Format::Delimited, "delimiter", "||").unwrap_err().contains("VALUE_DELIMITER"));
        assert_eq!(with(Format::Protobuf, "nullableRepresentation", "OPTIONAL"), Ok(()));
        let column = [Column::value("V", SqlType::Int)];
        let spec = FormatSpec::new(Format::Delimited).wrapped(Wrapping::Wrapped);
        let message = check(&spec, Side::Value, &column).unwrap_err().message;
        assert_eq!(message, "Format 'DELIMITED' does not support 'WRAP_SINGLE_VALUE' set to 'true'.");
        assert!(check(&FormatSpec::new(Format::Protobuf).wrapped(Wrapping::Bare), Side::Value, &column).is_err());
        assert!(check(&FormatSpec::new(Format::Json).wrapped(Wrapping::Bare), Side::Value, &column).is_ok());
    }

    #[test]
    fn sides_without_columns_take_any_format() {
        for format in [Format::Json, Format::Kafka, Format::None, Format::Avro, Format::Delimited] {
            assert_eq!(check(&FormatSpec::new(format), Side::Key, &[]), Ok(()));
        }
    }
}
