//! What a case says of sources and topics after the run (testing-formats.md §1.6).
//!
//! Looks at catalog and log, never at records. The subtle thing: changelogs are no topics here and a repartition topic's payload is private, so
//! of internal topics only the names of repartition topics can be compared.

use regex::Regex;
use serde_json::{Map, Value};

use super::case::{Post, PostFormat, PostKeyFormat, PostSource, PostTopic, PostTopics};
use super::failure::Failure;
use super::world::World;
use crate::catalog::Source;
use crate::format::{Format, FormatSpec, Wrapping};
use crate::plan::topology::KeyWindow;
use crate::sql::ast::{ColumnConstraint, ColumnDef};
use crate::sql::parse_schema;
use crate::types::{Column, ColumnRole, SqlType, TopicName};

/// Checks everything; the first difference is the failure.
///
/// # Errors
/// What differs.
pub(super) fn check(post: &Post, world: &World) -> Result<(), Failure> {
    for wanted in &post.sources {
        source(wanted, world)?;
    }
    match &post.topics {
        Some(wanted) => topics(wanted, world),
        None => Ok(()),
    }
}

fn differs(of: &str, what: &str, expected: impl std::fmt::Display, actual: impl std::fmt::Display) -> Failure {
    Failure::new(format!("{of}: {what} differs")).with([format!("expected  {expected}"), format!("actual    {actual}")])
}

fn source(wanted: &PostSource, world: &World) -> Result<(), Failure> {
    let catalog = world.engine().catalog();
    let of = format!("source {}", wanted.name);
    let Some(found) = catalog.source(&wanted.name) else {
        return Err(Failure::new(format!("{of} does not exist")));
    };
    if !wanted.kind.eq_ignore_ascii_case(found.kind.word()) {
        return Err(differs(&of, "type", &wanted.kind, found.kind.word()));
    }
    if let Some(text) = &wanted.schema {
        schema(&of, text, found, world)?;
    }
    if let Some(format) = &wanted.key_format {
        key_format(&of, format, found)?;
    }
    let value_format = found.value_format.format.name();
    if let Some(format) = wanted.value_format.as_ref().filter(|f| !f.eq_ignore_ascii_case(value_format)) {
        return Err(differs(&of, "value format", format, value_format));
    }
    let sides = [
        ("key features", &wanted.key_features, key_features(found)),
        ("value features", &wanted.value_features, value_features(found)),
    ];
    for (what, features, actual) in sides {
        if let Some(features) = features
            && sorted(features) != sorted(&actual)
        {
            return Err(differs(&of, what, format!("{features:?}"), format!("{actual:?}")));
        }
    }
    match wanted.is_source {
        Some(read_only) if read_only != found.read_only => Err(differs(&of, "isSource", read_only, found.read_only)),
        _ => Ok(()),
    }
}

fn schema(of: &str, text: &str, found: &Source, world: &World) -> Result<(), Failure> {
    let catalog = world.engine().catalog();
    let custom = |name: &str| catalog.types().get(name).cloned();
    let columns = parse_schema(text).and_then(|defs| {
        let column = |def: &ColumnDef| Ok((def.name.name.clone(), def.ty.resolve(&custom)?, role(def)));
        defs.iter().map(column).collect::<Result<Vec<(String, SqlType, &str)>, _>>()
    });
    let columns = columns.map_err(|e| Failure::of(&format!("{of}: the expected schema cannot be read"), &e))?;
    let actual: Vec<_> =
        found.schema.columns().iter().map(|c| (c.name.to_string(), c.ty.clone(), role_name(&c.role))).collect();
    if columns == actual {
        return Ok(());
    }
    Err(differs(of, "schema", text, &found.schema))
}

fn role(def: &ColumnDef) -> &'static str {
    match &def.constraint {
        None => "value",
        Some(ColumnConstraint::Key | ColumnConstraint::PrimaryKey) => "key",
        Some(ColumnConstraint::Headers | ColumnConstraint::Header(_)) => "header",
    }
}

fn role_name(role: &ColumnRole) -> &'static str {
    match role {
        ColumnRole::Key => "key",
        ColumnRole::Value => "value",
        ColumnRole::Header(_) => "header",
    }
}

fn key_format(of: &str, wanted: &PostKeyFormat, found: &Source) -> Result<(), Failure> {
    let actual = found.key_format.format.name();
    if !wanted.format.eq_ignore_ascii_case(actual) {
        return Err(differs(of, "key format", &wanted.format, actual));
    }
    let name = |window: Option<&str>| window.unwrap_or("none").to_uppercase();
    let (wanted_type, actual_type) = (name(wanted.window_type.as_deref()), name(found.window.map(KeyWindow::name)));
    if wanted_type != actual_type {
        return Err(differs(of, "window type", wanted_type, actual_type));
    }
    let size = match found.window {
        Some(KeyWindow::Time { size_ms, .. }) => Some(size_ms),
        _ => None,
    };
    match wanted.window_size {
        Some(wanted) if Some(wanted) != size => Err(differs(of, "window size", wanted, format!("{size:?}"))),
        _ => Ok(()),
    }
}

/// A key column alone is written bare wherever the format could also wrap it, and the reference notes that.
fn key_features(source: &Source) -> Vec<String> {
    features(&source.key_format, source.schema.keys())
}

fn value_features(source: &Source) -> Vec<String> {
    let values: Vec<Column> = source.schema.values().cloned().collect();
    features(&source.value_format, &values)
}

fn features(spec: &FormatSpec, columns: &[Column]) -> Vec<String> {
    let both = matches!(spec.format, Format::Json | Format::JsonSr | Format::Avro);
    if both && columns.len() == 1 && spec.wrapping == Wrapping::Bare {
        vec!["UNWRAP_SINGLES".to_owned()]
    } else {
        Vec::new()
    }
}

fn sorted(features: &[String]) -> Vec<&str> {
    let mut all: Vec<&str> = features.iter().map(String::as_str).collect();
    all.sort_unstable();
    all
}

fn topics(wanted: &PostTopics, world: &World) -> Result<(), Failure> {
    let all = world.log().topics().map_err(|e| Failure::of("topics cannot be listed", &e.into()))?;
    if let Some(pattern) = &wanted.blacklist {
        let regex =
            Regex::new(pattern).map_err(|e| Failure::new(format!("the pattern {pattern:?} cannot be read: {e}")))?;
        if let Some(topic) = all.iter().find(|t| regex.is_match(t.name.as_str())) {
            return Err(Failure::new(format!("topic {} is there, but no name may match {pattern:?}", topic.name)));
        }
    }
    for topic in wanted.topics.iter().filter(|t| !t.name.ends_with("-changelog")) {
        let Some(found) = all.iter().find(|t| t.name.as_str() == topic.name) else {
            return Err(Failure::new(format!("topic {} does not exist", topic.name)));
        };
        if let Some(partitions) = topic.partitions.filter(|p| *p != found.partitions) {
            return Err(differs(&format!("topic {}", topic.name), "partition count", partitions, found.partitions));
        }
        if !topic.name.ends_with("-repartition") {
            formats(topic, world)?;
        }
    }
    Ok(())
}

fn formats(wanted: &PostTopic, world: &World) -> Result<(), Failure> {
    let of = format!("topic {}", wanted.name);
    let Some(source) = world.source_of(&TopicName::new(&wanted.name)) else {
        return Err(Failure::new(format!("{of} belongs to no source, its formats are not known")));
    };
    let sides = [
        ("key format", &wanted.key_format, &source.key_format, key_features(source)),
        ("value format", &wanted.value_format, &source.value_format, value_features(source)),
    ];
    for (what, wanted, found, features) in sides {
        let Some(wanted) = wanted else { continue };
        let same = wanted.format.eq_ignore_ascii_case(found.format.name())
            && sorted(&wanted.features) == sorted(&features)
            && same_properties(wanted, found);
        if !same {
            let actual = format!("{} {:?} {features:?}", found.format, found.properties);
            let expected = format!("{} {} {:?}", wanted.format, shown(&wanted.properties), wanted.features);
            return Err(differs(&of, what, expected, actual));
        }
    }
    Ok(())
}

fn same_properties(wanted: &PostFormat, found: &FormatSpec) -> bool {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    wanted.properties.len() == found.properties.len()
        && wanted.properties.iter().all(|(name, value)| found.properties.get(name) == Some(&text(value)))
}

fn shown(properties: &Map<String, Value>) -> String {
    serde_json::to_string(properties).unwrap_or_default()
}
