//! CREATE STREAM / CREATE TABLE over a topic, ALTER, and what a declared column may be.
//!
//! Checks the declaration against itself and the catalog; topics are the engine's to look at. The subtle thing: column lists keep the order
//! they were written in, but key columns come first in the schema.

use super::AnalysisContext;
use super::properties::{self, WithClause, key_wrapping, spec, value_wrapping};
use super::sink::check_sides;
use crate::catalog::{Source, SourceKind, taken};
use crate::diagnostic::Diagnostic;
use crate::format::Format;
use crate::plan::topology::TimestampSpec;
use crate::sql::ast::{self, ColumnConstraint, ColumnDef, Ident};
use crate::types::{Column, ColumnRole, LogicalSchema, SqlType, fold, pseudo};

/// A declared source, before its topic was looked at: `partitions` is 0 where the statement does not say.
pub struct BoundSource {
    /// the source
    pub source: Source,
    /// its WITH clause
    pub with: WithClause,
}

/// STREAM or TABLE of the syntax, as the catalog says it.
pub fn kind_of(kind: ast::SourceKind) -> SourceKind {
    match kind {
        ast::SourceKind::Stream => SourceKind::Stream,
        ast::SourceKind::Table => SourceKind::Table,
    }
}

/// Source names may hold letters, digits, `_` and `-`.
///
/// # Errors
/// Names that hold more.
pub fn check_source_name(name: &Ident) -> Result<(), Diagnostic> {
    if name.as_str().chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-') {
        return Ok(());
    }
    Err(Diagnostic::user(format!(
        "Illegal argument at Line: 1: Source names may only contain alphanumeric values, '_' or '-'. Got: '{}'",
        name.as_str()
    ))
    .at(name.span()))
}

/// Binds CREATE STREAM / TABLE.
///
/// # Errors
/// Everything statements.md §4 refuses.
pub fn create(statement: &ast::CreateSource, text: &str, ctx: &AnalysisContext<'_>) -> Result<BoundSource, Diagnostic> {
    let kind = kind_of(statement.kind);
    let at = statement.name.span();
    check_source_name(&statement.name)?;
    let with = properties::read(&statement.properties, properties::WithOf::Source)?;
    if let Some(existing) =
        ctx.catalog.source(statement.name.as_str()).filter(|_| !statement.or_replace && !statement.if_not_exists)
    {
        return Err(Diagnostic::user(taken(kind, existing)).at(at).help("DROP it first, or use CREATE OR REPLACE"));
    }
    if statement.or_replace && statement.read_only {
        return Err(Diagnostic::user(format!(
            "Cannot replace {} '{}': CREATE OR REPLACE is not supported on source {}s.",
            kind.word(),
            statement.name.as_str(),
            kind.word()
        ))
        .at(at));
    }
    let schema = columns(&statement.columns, kind, ctx)?;
    let (key_format, value_format) = formats(&with, &schema, ctx).map_err(|e| e.at(at))?;
    check_table_key(kind, &schema, &key_format.format, &value_format.format).map_err(|e| e.at(at))?;
    if schema.columns().is_empty() {
        return Err(no_columns(&value_format.format).at(at));
    }
    let topic = with.topic.clone().ok_or_else(|| {
        Diagnostic::user("Missing required property \"KAFKA_TOPIC\" which has no default value.")
            .at(at)
            .help("add WITH (KAFKA_TOPIC = 'name', …)")
    })?;
    if with.retention_ms.is_some() && kind == SourceKind::Table && with.window.is_none() {
        return Err(Diagnostic::user(
            "Invalid config variable in the WITH clause: RETENTION_MS. Non-windowed tables do not support retention.",
        )
        .at(at));
    }
    let timestamp = timestamp_spec(&with, &schema)?;
    let source = Source {
        name: statement.name.as_str().into(),
        kind,
        schema,
        topic: topic.into(),
        partitions: with.partitions.unwrap_or(0),
        key_format,
        value_format,
        window: with.window,
        timestamp,
        read_only: statement.read_only,
        created_by: None,
        statement: text.to_owned(),
    };
    Ok(BoundSource { source, with })
}

fn no_columns(format: &Format) -> Diagnostic {
    if format.uses_registry() {
        return Diagnostic::user("The statement does not define any columns, and the schema registry is not configured: KSQL is not configured to use a schema registry.")
            .help("set ksql.schema.registry.url, or list the columns");
    }
    Diagnostic::user("The statement does not define any columns.").help("list them: (name TYPE, …)")
}

fn check_table_key(kind: SourceKind, schema: &LogicalSchema, key: &Format, value: &Format) -> Result<(), Diagnostic> {
    if kind == SourceKind::Table && schema.key_count() == 0 && !key.uses_registry() {
        let inferred = schema.columns().is_empty() && value.uses_registry();
        if inferred {
            return Ok(());
        }
        return Err(Diagnostic::user("Tables require a PRIMARY KEY. Please define the PRIMARY KEY.")
            .help("mark the key column: (id STRING PRIMARY KEY, …); or use CREATE STREAM"));
    }
    Ok(())
}

/// The schema of a column list.
///
/// # Errors
/// Duplicate or reserved names, wrong kinds of key, wrong types of header columns.
pub fn columns(defs: &[ColumnDef], kind: SourceKind, ctx: &AnalysisContext<'_>) -> Result<LogicalSchema, Diagnostic> {
    let mut out: Vec<Column> = Vec::new();
    for def in defs {
        let name = def.name.as_str();
        if pseudo::is_pseudo(name) {
            return Err(Diagnostic::user(format!("`{name}` is a reserved column name.")).at(def.name.span()));
        }
        if out.iter().any(|c| c.name.as_str() == name) {
            return Err(Diagnostic::user(format!("Duplicate column names: `{name}`")).at(def.name.span()));
        }
        let ty = def.ty.resolve(&|custom| ctx.catalog.types().get(custom).cloned())?;
        let role = role(def, kind, &ty, &out, ctx).map_err(|e| e.at(def.loc.0))?;
        out.push(Column { name: name.into(), ty, role });
    }
    Ok(LogicalSchema::new(out))
}

fn role(
    def: &ColumnDef,
    kind: SourceKind,
    ty: &SqlType,
    before: &[Column],
    ctx: &AnalysisContext<'_>,
) -> Result<ColumnRole, Diagnostic> {
    let name = def.name.as_str();
    let role = match (&def.constraint, kind) {
        (None, _) => return Ok(ColumnRole::Value),
        (Some(ColumnConstraint::Key), SourceKind::Stream) | (Some(ColumnConstraint::PrimaryKey), SourceKind::Table) => {
            return Ok(ColumnRole::Key);
        }
        (Some(ColumnConstraint::Key), SourceKind::Table) => {
            return Err(Diagnostic::user(format!("Column `{name}` is a 'KEY' column: please use 'PRIMARY KEY' for tables. Tables have PRIMARY KEYs, which are unique and NON NULL. Streams have KEYs, which have no uniqueness or NON NULL constraints."))
                .help("write PRIMARY KEY"));
        }
        (Some(ColumnConstraint::PrimaryKey), SourceKind::Stream) => {
            return Err(Diagnostic::user(format!("Column `{name}` is a 'PRIMARY KEY' column: please use 'KEY' for streams. Tables have PRIMARY KEYs, which are unique and NON NULL. Streams have KEYs, which have no uniqueness or NON NULL constraints."))
                .help("write KEY"));
        }
        (Some(ColumnConstraint::Headers), _) => ColumnRole::Header(None),
        (Some(ColumnConstraint::Header(key)), _) => ColumnRole::Header(Some(key.as_str().into())),
    };
    if !ctx.settings.headers_enabled {
        return Err(Diagnostic::user(format!(
            "Cannot create column `{name}`: schema with headers columns is disabled (ksql.headers.columns.enabled)"
        )));
    }
    let wanted = match &role {
        ColumnRole::Header(Some(_)) => SqlType::Bytes,
        _ => SqlType::from_arrow(&crate::topic::headers_type()).unwrap_or(SqlType::Bytes),
    };
    if *ty != wanted {
        let shown = crate::types::schema::ddl_type(&wanted);
        return Err(Diagnostic::user(format!("Invalid type for HEADER column `{name}`: expected {shown}, got {ty}")));
    }
    let others: Vec<&ColumnRole> =
        before.iter().map(|c| &c.role).filter(|r| matches!(r, ColumnRole::Header(_))).collect();
    let exclusive = role == ColumnRole::Header(None) || others.contains(&&ColumnRole::Header(None));
    if !others.is_empty() && exclusive {
        return Err(Diagnostic::user(format!(
            "Schema already contains a HEADERS column; only one is possible, and not beside HEADER('key'): `{name}`"
        )));
    }
    if others.contains(&&role) {
        return Err(Diagnostic::user(format!("Schema already contains a HEADER column of that key: `{name}`")));
    }
    Ok(role)
}

fn formats(
    with: &WithClause,
    schema: &LogicalSchema,
    ctx: &AnalysisContext<'_>,
) -> Result<(crate::format::FormatSpec, crate::format::FormatSpec), Diagnostic> {
    let format = with.key_format.unwrap_or(ctx.settings.default_key_format);
    let key = spec(format, with.key_delimiter.as_deref(), &with.key_properties, with.key_schema_id)?
        .wrapped(key_wrapping(format, schema.key_count()));
    let format = with.value_format.or(ctx.settings.default_value_format).ok_or_else(|| {
        Diagnostic::user("Statement is missing the 'VALUE_FORMAT' property from the WITH clause. Either provide one or set a default via the 'ksql.persistence.default.format.value' config.")
            .help("add VALUE_FORMAT = 'JSON', or the format the topic has")
    })?;
    let values: Vec<Column> = schema.values().cloned().collect();
    let value = spec(format, with.value_delimiter.as_deref(), &with.value_properties, with.value_schema_id)?;
    let value =
        value.wrapped(value_wrapping(format, values.len(), with.wrap_single_value, ctx.settings.wrap_single_values)?);
    if schema.columns().is_empty() {
        return Ok((key, value));
    }
    check_sides(&key, schema.keys(), &value, &values)?;
    Ok((key, value))
}

/// TIMESTAMP and TIMESTAMP_FORMAT against the columns.
///
/// # Errors
/// A column that is not there, or of a type that has no time.
pub fn timestamp_spec(with: &WithClause, schema: &LogicalSchema) -> Result<Option<TimestampSpec>, Diagnostic> {
    let Some((text, span)) = &with.timestamp else {
        return match with.timestamp_format {
            Some(_) => Err(Diagnostic::user("TIMESTAMP_FORMAT needs TIMESTAMP, the column that it is for")),
            None => Ok(None),
        };
    };
    let quoted = text.len() >= 2 && text.starts_with(['`', '"']) && text.ends_with(['`', '"']);
    let name = if quoted { text[1..text.len() - 1].to_owned() } else { fold(text, false) };
    let column = schema.column(&name).or_else(|| schema.column(text)).ok_or_else(|| {
        Diagnostic::user(format!("The TIMESTAMP column set in the WITH clause does not exist in the schema: '{name}'"))
            .at(*span)
    })?;
    let format = with.timestamp_format.clone();
    match (&column.ty, &format) {
        (SqlType::BigInt | SqlType::Timestamp, None) | (SqlType::String, Some(_)) => {}
        (SqlType::String, None) => {
            return Err(Diagnostic::user(format!(
                "A String timestamp field has been specified without also specifying the timestamp_format: '{name}'"
            ))
            .at(*span)
            .help("add TIMESTAMP_FORMAT = 'yyyy-MM-dd''T''HH:mm:ssX', or the pattern the column has"));
        }
        (_, Some(_)) => {
            return Err(Diagnostic::user("'TIMESTAMP_FORMAT' set in the WITH clause can only be used when the timestamp column is of type STRING.").at(*span));
        }
        (other, None) => {
            return Err(Diagnostic::user(format!("Timestamp column, {name}, should be LONG(INT64), TIMESTAMP, or a String with a timestamp_format specified. It is {other}.")).at(*span));
        }
    }
    Ok(Some(TimestampSpec { column: column.name.clone(), format }))
}

/// ALTER: the source with new value columns.
///
/// # Errors
/// Sources that cannot be altered, names that are taken.
pub fn alter(statement: &ast::AlterSource, text: &str, ctx: &AnalysisContext<'_>) -> Result<Source, Diagnostic> {
    let name = statement.name.as_str();
    let at = statement.name.span();
    let source =
        ctx.catalog.source(name).ok_or_else(|| Diagnostic::user(format!("Source {name} does not exist.")).at(at))?;
    if source.kind != kind_of(statement.kind) {
        return Err(Diagnostic::user(format!(
            "Incompatible data source type is {}, but statement was ALTER {}",
            source.kind.word().to_uppercase(),
            kind_of(statement.kind).word().to_uppercase()
        ))
        .at(at));
    }
    if source.read_only {
        return Err(Diagnostic::user(format!(
            "Cannot alter {} '{name}': ALTER operations are not supported on source {}s.",
            source.kind.word(),
            source.kind.word()
        ))
        .at(at));
    }
    if source.created_by.is_some() {
        return Err(Diagnostic::user("ALTER command is not supported for CREATE ... AS statements.")
            .at(at)
            .help("use CREATE OR REPLACE"));
    }
    let mut all = source.schema.columns().to_vec();
    for def in &statement.columns {
        let column = columns(std::slice::from_ref(def), source.kind, ctx)?.columns()[0].clone();
        if all.iter().any(|c| c.name == column.name) {
            return Err(Diagnostic::user(format!(
                "Cannot add column `{}` to schema. A column with the same name already exists.",
                column.name
            ))
            .at(def.name.span()));
        }
        all.push(column);
    }
    let mut altered = source.as_ref().clone();
    altered.schema = LogicalSchema::new(all);
    altered.statement = format!("{}\n{text}", source.statement);
    let values: Vec<Column> = altered.schema.values().cloned().collect();
    check_sides(&altered.key_format, altered.schema.keys(), &altered.value_format, &values)?;
    Ok(altered)
}
