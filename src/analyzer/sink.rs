//! Where a persistent query writes: the sink's topic, formats and schema, for CREATE … AS and INSERT INTO.
//!
//! Does not ask whether topics exist. The subtle thing: what is not said is inherited from the left-most source, but wrapping is not.

use datafusion::logical_expr::LogicalPlan;

use super::properties::{WithClause, key_wrapping, spec, value_wrapping};
use super::query::{BoundQuery, map_key};
use super::relation::internal;
use super::source::{check_source_name, timestamp_spec};
use super::{AnalysisContext, properties};
use crate::catalog::{QueryKind, Source, SourceKind, taken};
use crate::diagnostic::{Diagnostic, Span};
use crate::format::{self, Format, FormatSpec, Side};
use crate::plan::nodes::{Shape, StreamNode, StreamOp};
use crate::plan::topology::SinkSpec;
use crate::sql::ast;
use crate::types::{Column, LogicalSchema, SqlType};

/// A persistent query, bound to its sink.
pub struct BoundSink {
    /// the whole plan, sink on top
    pub plan: LogicalPlan,
    /// the sink as it will stand in the catalog (CREATE … AS), or as it stands (INSERT INTO)
    pub sink: Source,
    /// which statement
    pub kind: QueryKind,
    /// the WITH clause
    pub with: WithClause,
    /// what was bound below
    pub query: BoundQuery,
}

/// CREATE STREAM / TABLE … AS SELECT.
///
/// # Errors
/// Everything the reference refuses; names that are taken (unless OR REPLACE or IF NOT EXISTS, which the caller handles first).
pub fn create_as(statement: &ast::CreateAs, text: &str, ctx: &AnalysisContext<'_>) -> Result<BoundSink, Diagnostic> {
    let with = properties::read(&statement.properties, properties::WithOf::Sink)?;
    let name = statement.name.as_str();
    check_source_name(&statement.name)?;
    let kind = match statement.kind {
        ast::SourceKind::Stream => SourceKind::Stream,
        ast::SourceKind::Table => SourceKind::Table,
    };
    if let Some(existing) = ctx.catalog.source(name).filter(|_| !statement.or_replace && !statement.if_not_exists) {
        return Err(Diagnostic::user(taken(kind, existing))
            .at(statement.name.span())
            .help("DROP it first, or use CREATE OR REPLACE"));
    }
    let query = persistent_query(&statement.query, name, kind, ctx)?;
    let schema = query.schema.clone();
    let (key_format, value_format) = formats(&with, &query, &schema, ctx).map_err(|e| e.at(statement.name.span()))?;
    let topic = with.topic.clone().unwrap_or_else(|| format!("{}{name}", ctx.settings.topic_prefix));
    check_retention(&with, kind, &query, statement.name.span())?;
    let timestamp = timestamp_spec(&with, &schema)?;
    let sink = Source {
        name: name.into(),
        kind,
        schema,
        topic: topic.into(),
        partitions: with.partitions.unwrap_or(query.partitions),
        key_format,
        value_format,
        window: query.window,
        timestamp,
        read_only: false,
        created_by: None,
        statement: text.to_owned(),
    };
    let kind = if kind == SourceKind::Table { QueryKind::CreateTableAs } else { QueryKind::CreateStreamAs };
    let plan = with_sink(&query, &sink)?;
    Ok(BoundSink { plan, sink, kind, with, query })
}

fn persistent_query(
    query: &ast::Query,
    sink: &str,
    kind: SourceKind,
    ctx: &AnalysisContext<'_>,
) -> Result<BoundQuery, Diagnostic> {
    if let Some(limit) = query.limit {
        let word = if kind == SourceKind::Table { "TABLE" } else { "STREAM" };
        return Err(
            Diagnostic::user(format!("CREATE {word} AS SELECT statements don't support LIMIT clause.")).at(limit.loc.0)
        );
    }
    let bound = super::query::analyze(query, super::select::ListOf::Persistent, sink, ctx)?;
    match (bound.is_table, kind) {
        (true, SourceKind::Stream) => Err(Diagnostic::user(
            "Invalid result type. Your SELECT query produces a TABLE. Please use CREATE TABLE AS SELECT statement instead.",
        )
        .at(query.span())),
        (false, SourceKind::Table) => Err(Diagnostic::user(
            "Invalid result type. Your SELECT query produces a STREAM. Please use CREATE STREAM AS SELECT statement instead.",
        )
        .at(query.span())),
        _ => Ok(bound),
    }
}

fn check_retention(with: &WithClause, kind: SourceKind, query: &BoundQuery, span: Span) -> Result<(), Diagnostic> {
    if with.retention_ms.is_some() && kind == SourceKind::Table && query.window.is_none() {
        return Err(Diagnostic::user(
            "Invalid config variable in the WITH clause: RETENTION_MS. Non-windowed tables do not support retention.",
        )
        .at(span));
    }
    Ok(())
}

fn formats(
    with: &WithClause,
    query: &BoundQuery,
    schema: &LogicalSchema,
    ctx: &AnalysisContext<'_>,
) -> Result<(FormatSpec, FormatSpec), Diagnostic> {
    let keys = schema.keys();
    let key = if keys.is_empty() {
        if with.key_format.is_some_and(|f| f != Format::None) && query.keyless {
            return Err(Diagnostic::user("Key format specified for stream without key columns.")
                .help("leave KEY_FORMAT out, or give the stream a key with PARTITION BY"));
        }
        let inherited = if query.keyless { Format::None } else { query.key_format.format };
        spec(
            with.key_format.unwrap_or(inherited),
            with.key_delimiter.as_deref(),
            &with.key_properties,
            with.key_schema_id,
        )?
    } else {
        let inherited = query.key_format.format;
        let format = with.key_format.unwrap_or(if inherited == Format::None {
            ctx.settings.default_key_format
        } else {
            inherited
        });
        let mut key = spec(format, with.key_delimiter.as_deref(), &with.key_properties, with.key_schema_id)?;
        inherit(&mut key, &query.key_format);
        key.wrapped(key_wrapping(format, keys.len()))
    };
    let format = with.value_format.unwrap_or(query.value_format.format);
    let mut value = spec(format, with.value_delimiter.as_deref(), &with.value_properties, with.value_schema_id)?;
    inherit(&mut value, &query.value_format);
    let values: Vec<Column> = schema.values().cloned().collect();
    let value =
        value.wrapped(value_wrapping(format, values.len(), with.wrap_single_value, ctx.settings.wrap_single_values)?);
    check_sides(&key, keys, &value, &values)?;
    Ok((key, value))
}

/// Properties of the source's format go on to the same format of the sink.
fn inherit(spec: &mut FormatSpec, from: &FormatSpec) {
    if spec.format == from.format {
        for name in ["delimiter", "fullSchemaName"] {
            if let Some(value) = from.properties.get(name) {
                spec.properties.entry(name.to_owned()).or_insert_with(|| value.clone());
            }
        }
    }
}

/// Whether the formats can hold these columns.
///
/// # Errors
/// Names format, column and type.
pub fn check_sides(key: &FormatSpec, keys: &[Column], value: &FormatSpec, values: &[Column]) -> Result<(), Diagnostic> {
    if let Some(c) = keys.iter().find(|c| c.ty.contains_map()) {
        return Err(map_key(c.name.as_str(), &c.ty));
    }
    if !keys.is_empty() {
        format::check(key, Side::Key, keys)?;
    }
    format::check(value, Side::Value, values)
}

/// INSERT INTO … SELECT.
///
/// # Errors
/// Targets that cannot be written, schemas that differ.
pub fn insert_into(statement: &ast::InsertInto, ctx: &AnalysisContext<'_>) -> Result<BoundSink, Diagnostic> {
    let with = properties::read(&statement.properties, properties::WithOf::Insert)?;
    let name = statement.target.as_str();
    let at = statement.target.span();
    let sink = ctx.catalog.expect_source(name).map_err(|e| e.at(at))?;
    if sink.is_table() {
        return Err(Diagnostic::user(format!(
            "INSERT INTO can only be used to insert into a stream. {name} is a table."
        ))
        .at(at));
    }
    if sink.read_only {
        return Err(Diagnostic::user(format!("Cannot insert into read-only stream: {name}")).at(at));
    }
    if sink.schema.headers().next().is_some() {
        return Err(Diagnostic::user(format!("Cannot insert into {name} because it has header columns")).at(at));
    }
    let query = super::query::analyze(&statement.query, super::select::ListOf::Persistent, name, ctx)?;
    if let Some(limit) = statement.query.limit {
        return Err(Diagnostic::user("INSERT INTO statements don't support LIMIT clause.").at(limit.loc.0));
    }
    if query.is_table {
        return Err(Diagnostic::user(format!("Incompatible data sink and query result. Data sink ({name}) type is KSTREAM but select query result is KTABLE."))
            .at(statement.query.span()));
    }
    check_compatible(&query.schema, &sink.schema).map_err(|e| e.at(statement.query.span()))?;
    let plan = with_sink(&query, sink)?;
    Ok(BoundSink { plan, sink: sink.as_ref().clone(), kind: QueryKind::InsertInto, with, query })
}

fn check_compatible(result: &LogicalSchema, sink: &LogicalSchema) -> Result<(), Diagnostic> {
    let fits = |a: &Column, b: &Column| a.role == b.role && a.name == b.name && (a.ty == b.ty || widens(&a.ty, &b.ty));
    let same = result.columns().len() == sink.columns().len()
        && result.columns().iter().zip(sink.columns()).all(|(a, b)| fits(a, b));
    if same {
        return Ok(());
    }
    Err(Diagnostic::user(format!(
        "Incompatible schema between results and sink.\nResult schema is {result}\nSink schema is {sink}"
    ))
    .help("select the sink's columns in its order, under its names (AS) and types (CAST)"))
}

fn widens(from: &SqlType, to: &SqlType) -> bool {
    match (from, to) {
        (SqlType::Decimal(p1, s1), SqlType::Decimal(p2, s2)) => s1 <= s2 && p1 - s1 <= p2 - s2,
        (SqlType::Int, SqlType::Decimal(p, s)) => p - s >= 10,
        (SqlType::BigInt, SqlType::Decimal(p, s)) => p - s >= 19,
        _ => false,
    }
}

/// The query's plan with the sink on top; columns whose type is narrower than the sink's are cast.
fn with_sink(query: &BoundQuery, sink: &Source) -> Result<LogicalPlan, Diagnostic> {
    let key_count = query.schema.key_count();
    let shape = Shape { key_count, is_table: query.is_table, window: query.window };
    let spec = SinkSpec {
        source: sink.name.clone(),
        topic: sink.topic.clone(),
        schema: sink.schema.clone(),
        key_format: sink.key_format.clone(),
        value_format: sink.value_format.clone(),
        window: query.window,
        timestamp: sink.timestamp.clone(),
    };
    let mut plan = query.plan.clone();
    let narrower = query.schema.columns().iter().zip(sink.schema.columns()).any(|(a, b)| a.ty != b.ty);
    if narrower {
        let columns = query.schema.columns().iter().zip(sink.schema.columns());
        let exprs = columns
            .map(|(a, b)| super::expr::widen(super::relation::column(a.name.as_str()), &a.ty, &b.ty))
            .collect::<Vec<_>>();
        let schema = sink.schema.to_arrow().as_ref().clone();
        plan = StreamNode::plan(StreamOp::Project { exprs }, vec![plan], schema, shape).map_err(internal)?;
    }
    let schema = sink.schema.to_arrow().as_ref().clone();
    StreamNode::plan(StreamOp::Sink(Box::new(spec)), vec![plan], schema, shape).map_err(internal)
}
