//! ASSERT VALUES, NULL VALUES, STREAM and TABLE: compares, and shows the difference.
//!
//! Records are decoded with the source's own formats, expected values bound to its column types, so both are arrays of one row and type. The
//! subtle thing: there is one cursor a topic, not one a source; each ASSERT takes the next record, whoever asked before.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, Int32Array, Int64Array};
use arrow::datatypes::DataType;
use arrow::util::display::array_value_to_string;

use super::failure::Failure;
use super::record::{Stored, Window, split_window};
use super::world::World;
use crate::analyzer::AnalysisContext;
use crate::analyzer::expr_constant::bind_constant;
use crate::analyzer::source;
use crate::catalog::Source;
use crate::diagnostic::Diagnostic;
use crate::engine::settings;
use crate::format::{self, Format, FormatSpec, Side};
use crate::sql::ast::{AssertSource, AssertValues, CreateSource, Expr, Ident};
use crate::types::{Column, ColumnRole, SqlType, TopicName, pseudo};

/// Widest column of a difference.
const CELL_CHARS: usize = 40;

/// How many records of each topic were asserted.
pub(super) type Cursors = BTreeMap<TopicName, usize>;

/// Checks the next record of a source's topic.
///
/// # Errors
/// How it differs, or that there is none.
pub(super) fn values(assert: &AssertValues, world: &World, cursors: &mut Cursors) -> Result<(), Failure> {
    let refused = |e: Diagnostic| Failure::of("the assertion cannot be checked", &e);
    let catalog = world.engine().catalog();
    let source = catalog.expect_source(assert.source.as_str()).map_err(|e| refused(e.at(assert.source.span())))?;
    let wanted = expected(assert, source, world).map_err(refused)?;
    let cursor = cursors.entry(source.topic.clone()).or_default();
    let records = world.records(&source.topic).map_err(refused)?;
    let Some(stored) = records.get(*cursor) else {
        let headline = "Expected another record, but all records have already been read.";
        return Err(Failure::new(headline).with(table(source, &wanted, None)).with(world.losses()));
    };
    *cursor += 1;
    let actual = Actual::read(stored, source).map_err(|e| Failure::new(format!("topic {}: {e}", source.topic)))?;
    let same = actual.tombstone == assert.tombstone
        && wanted.iter().all(|(name, value)| actual.columns.get(name).is_some_and(|found| found == value));
    if same {
        return Ok(());
    }
    Err(Failure::new("Expected record does not match actual.").with(table(source, &wanted, Some(&actual))))
}

/// Columns and the values they must have.
fn expected(assert: &AssertValues, source: &Source, world: &World) -> Result<Vec<(String, ArrayRef)>, Diagnostic> {
    let named: Vec<(String, SqlType)> = if assert.columns.is_empty() {
        let wanted = |c: &&Column| {
            if assert.tombstone { c.role == ColumnRole::Key } else { !matches!(c.role, ColumnRole::Header(_)) }
        };
        source.schema.columns().iter().filter(wanted).map(|c| (c.name.to_string(), c.ty.clone())).collect()
    } else {
        assert.columns.iter().map(|name| named(name, assert, source)).collect::<Result<_, _>>()?
    };
    if named.len() != assert.values.len() {
        let names: Vec<_> = named.iter().map(|(name, _)| name.as_str()).collect();
        return Err(Diagnostic::user(format!(
            "a value is needed for each column: {} columns ({}), {} values",
            names.len(),
            names.join(", "),
            assert.values.len()
        ))
        .at(assert.source.span()));
    }
    let catalog = world.engine().catalog();
    let custom = |name: &str| catalog.types().get(name).cloned();
    let bind = |((name, ty), value): ((String, SqlType), &Expr)| {
        let value = bind_constant(value, &ty, &name, world.engine().registry(), &custom)?;
        let array = value.to_array_of_size(1).map_err(|e| Diagnostic::user(format!("{name}: {e}")))?;
        Ok((name, array))
    };
    named.into_iter().zip(&assert.values).map(bind).collect()
}

fn named(name: &Ident, assert: &AssertValues, source: &Source) -> Result<(String, SqlType), Diagnostic> {
    let text = name.as_str();
    let pseudo = match text {
        pseudo::ROWTIME | pseudo::ROWOFFSET => Some(SqlType::BigInt),
        pseudo::ROWPARTITION => Some(SqlType::Int),
        pseudo::WINDOWSTART | pseudo::WINDOWEND if source.window.is_some() => Some(SqlType::BigInt),
        _ => None,
    };
    if let Some(ty) = pseudo {
        return Ok((text.to_owned(), ty));
    }
    let Some(column) = source.schema.column(text) else {
        let error = Diagnostic::user(format!("{} has no column {text}", source.name)).at(name.span());
        return Err(error.help(format!("it has {}", source.schema)));
    };
    match column.role {
        ColumnRole::Header(_) => {
            Err(Diagnostic::user(format!("the header column {text} cannot be asserted")).at(name.span()))
        }
        ColumnRole::Value if assert.tombstone => {
            let error = Diagnostic::user(format!("a tombstone has no value, so {text} cannot be asserted"));
            Err(error.at(name.span()).help("list key columns only"))
        }
        _ => Ok((text.to_owned(), column.ty.clone())),
    }
}

/// A record, decoded.
struct Actual {
    columns: BTreeMap<String, ArrayRef>,
    tombstone: bool,
}

impl Actual {
    fn read(stored: &Stored, source: &Source) -> Result<Self, String> {
        let (key, window) = match (&stored.key, source.window) {
            (Some(key), Some(kind)) => {
                let (key, window) =
                    split_window(key, kind).ok_or("the key has no window, but its source is windowed")?;
                (Some(key), Some(window))
            }
            (key, _) => (key.as_deref(), None),
        };
        let values: Vec<Column> = source.schema.values().cloned().collect();
        let mut columns = BTreeMap::new();
        decode(&source.key_format, Side::Key, source.schema.keys(), key, &mut columns)?;
        let absent = decode(&source.value_format, Side::Value, &values, stored.value.as_deref(), &mut columns)?;
        pseudo_columns(stored, window, &mut columns);
        Ok(Self { columns, tombstone: absent })
    }
}

fn pseudo_columns(stored: &Stored, window: Option<Window>, columns: &mut BTreeMap<String, ArrayRef>) {
    let mut put = |name: &str, array: ArrayRef| columns.insert(name.to_owned(), array);
    let number = |n: i64| Arc::new(Int64Array::from(vec![n]));
    put(pseudo::ROWTIME, number(stored.timestamp));
    put(pseudo::ROWOFFSET, number(stored.offset));
    put(pseudo::ROWPARTITION, Arc::new(Int32Array::from(vec![stored.partition])));
    if let Some(window) = window {
        put(pseudo::WINDOWSTART, number(window.start));
        put(pseudo::WINDOWEND, number(window.end));
    }
}

/// Puts the columns of one side in; true if the side is absent.
fn decode(
    spec: &FormatSpec,
    side: Side,
    columns: &[Column],
    bytes: Option<&[u8]>,
    out: &mut BTreeMap<String, ArrayRef>,
) -> Result<bool, String> {
    if columns.is_empty() || spec.format == Format::None {
        return Ok(bytes.is_none());
    }
    let all: Vec<usize> = (0..columns.len()).collect();
    let mut decoder = format::decoder(spec, side, columns, &all).map_err(|e| e.to_string())?;
    let decoded = decoder.decode(&BinaryArray::from_opt_vec(vec![bytes]));
    if let Some(failure) = decoded.failures.first() {
        return Err(format!("a record cannot be read as {}: {}", spec.format, failure.reason));
    }
    for (column, array) in columns.iter().zip(decoded.columns) {
        out.insert(column.name.to_string(), array);
    }
    Ok(bytes.is_none())
}

/// The expected and the actual record below each other.
fn table(source: &Source, wanted: &[(String, ArrayRef)], actual: Option<&Actual>) -> Vec<String> {
    let mut names = vec![pseudo::ROWTIME.to_owned()];
    names.extend(source.schema.columns().iter().map(|c| c.name.to_string()));
    names.extend(
        wanted
            .iter()
            .map(|(name, _)| name.clone())
            .filter(|name| !source.schema.columns().iter().any(|c| c.name.as_str() == name)),
    );
    names.dedup();
    let cell = |value: Option<&ArrayRef>| value.map_or(String::new(), shown);
    let find = |name: &str| wanted.iter().find(|(n, _)| n == name).map(|(_, value)| value);
    let mut rows = vec![("".to_owned(), names.clone())];
    rows.push(("EXPECTED".to_owned(), names.iter().map(|name| cell(find(name))).collect()));
    if let Some(actual) = actual {
        let word = if actual.tombstone { "ACTUAL (tombstone)" } else { "ACTUAL" };
        rows.push((word.to_owned(), names.iter().map(|name| cell(actual.columns.get(name))).collect()));
    }
    let width = |of: usize| rows.iter().map(|(_, cells)| cells[of].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..names.len()).map(width).collect();
    let label = rows.iter().map(|(label, _)| label.len()).max().unwrap_or(0);
    let line = |(name, cells): &(String, Vec<String>)| {
        let cells = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        format!("{name:<label$}  {}", cells.collect::<Vec<_>>().join("  ")).trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

fn shown(array: &ArrayRef) -> String {
    let text = match array.data_type() {
        _ if array.is_null(0) => "NULL".to_owned(),
        DataType::Utf8 => format!("'{}'", array.as_string::<i32>().value(0)),
        _ => array_value_to_string(array, 0).unwrap_or_else(|e| e.to_string()),
    };
    super::compare::clipped(&text, CELL_CHARS)
}

/// Compares a source with the one that the statement would declare.
///
/// # Errors
/// The first attribute that differs.
pub(super) fn source(assert: &AssertSource, text: &str, world: &World) -> Result<(), Failure> {
    let refused = |e: Diagnostic| Failure::of("the assertion cannot be checked", &e);
    let catalog = world.engine().catalog();
    let name = assert.name.as_str();
    let actual = catalog.expect_source(name).map_err(|e| refused(e.at(assert.name.span()).with_text(text)))?;
    let mut without = catalog.as_ref().clone();
    without.remove_source(name);
    let config = settings::merged(world.engine().config(), world.session_properties()).map_err(refused)?;
    let settings = settings::analysis(&config).map_err(refused)?;
    let ctx = AnalysisContext { catalog: &without, registry: world.engine().registry(), settings: &settings };
    let create = CreateSource {
        or_replace: false,
        read_only: false,
        kind: assert.kind,
        if_not_exists: false,
        name: assert.name.clone(),
        columns: assert.columns.clone(),
        properties: assert.properties.clone(),
    };
    let expected = source::create(&create, text, &ctx).map_err(|e| refused(e.with_text(text)))?.source;
    match first_difference(&expected, actual) {
        None => Ok(()),
        Some((what, wanted, found)) => Err(Failure::new(format!(
            "Expected {what} does not match actual for source {name}. Expected: {wanted}, Actual: {found}"
        ))),
    }
}

fn first_difference(expected: &Source, actual: &Arc<Source>) -> Option<(&'static str, String, String)> {
    let format = |spec: &FormatSpec| format!("{} {:?}", spec.format, spec.properties);
    let wrapping = |source: &Source| format!("{:?}", source.value_format.wrapping);
    let window = |source: &Source| source.window.map_or("none".to_owned(), |w| format!("{w:?}"));
    let timestamp = |source: &Source, of: fn(&crate::plan::topology::TimestampSpec) -> Option<String>| {
        source.timestamp.as_ref().and_then(of).unwrap_or_else(|| "none".to_owned())
    };
    type Attribute<'a> = (&'static str, &'a dyn Fn(&Source) -> String);
    let all: [Attribute<'_>; 9] = [
        ("type", &|s| s.kind.word().to_owned()),
        ("schema", &|s| s.schema.to_string()),
        ("kafka topic", &|s| s.topic.to_string()),
        ("key format", &|s| format(&s.key_format)),
        ("value format", &|s| format(&s.value_format)),
        ("value serde features", &wrapping),
        ("window", &window),
        ("timestamp column", &|s| timestamp(s, |t| Some(t.column.to_string()))),
        ("timestamp format", &|s| timestamp(s, |t| t.format.clone())),
    ];
    all.iter().find_map(|(what, of)| {
        let (wanted, found) = (of(expected), of(actual));
        (wanted != found).then_some((*what, wanted, found))
    })
}
