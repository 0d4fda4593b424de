//! The tree back to text: canonical SQL on one line that parses to an equal tree.
//!
//! Not the text that was written: keywords are upper case, optional words are written out, names are quoted only where
//! they must be. The subtle thing is the pair of brackets around an operand, which stands only where it is needed to
//! read the same tree again.

mod expr;
mod query;

use std::fmt::{self, Display, Formatter};

use super::ast::{
    AlterSource, AssertSchema, AssertSource, AssertTopic, AssertValues, ColumnConstraint, ColumnDef, ConnectorKind,
    CopyFrom, CopyTo, CreateAs, CreateConnector, CreateSource, Describe, DropSource, ExplainTarget, FieldDef, Ident,
    InsertInto, InsertValues, Print, Property, QueryTarget, Show, SourceKind, Statement, Text, TypeKind, TypeName,
};
use super::keyword::{is_reserved, quote};
use super::lexer::is_identifier;
use crate::types::SqlType;

/// Items with `, ` between them.
struct List<'a, T>(&'a [T]);

impl<T: Display> Display for List<'_, T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (i, item) in self.0.iter().enumerate() {
            write!(f, "{}{item}", if i == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

/// `text` if `wanted`, else nothing.
fn word(wanted: bool, text: &'static str) -> &'static str {
    if wanted { text } else { "" }
}

/// A string literal.
struct Quoted<'a>(&'a str);

impl Display for Quoted<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "'{}'", self.0.replace('\'', "''"))
    }
}

/// The name of a topic or subject: bare where it can be, else a string.
struct Resource<'a>(&'a Text);

impl Display for Resource<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let text = self.0.as_str();
        if is_identifier(text) && !is_reserved(text) { f.write_str(text) } else { Quoted(text).fmt(f) }
    }
}

/// ` (a, b)`, or nothing for an empty list.
struct OptionalList<'a, T>(&'a [T]);

impl<T: Display> Display for OptionalList<'_, T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, " ({})", List(self.0)) }
    }
}

/// ` WITH (a = 1)`, or nothing without properties.
struct With<'a>(&'a [Property]);

impl Display for With<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, " WITH ({})", List(self.0)) }
    }
}

impl Display for Ident {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&quote(&self.name))
    }
}

/// As a string literal.
impl Display for Text {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        Quoted(&self.value).fmt(f)
    }
}

impl Display for SourceKind {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stream => "STREAM",
            Self::Table => "TABLE",
        })
    }
}

impl Display for ConnectorKind {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Source => "SOURCE",
            Self::Sink => "SINK",
        })
    }
}

impl Display for Property {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let name = self.name.as_str();
        if quote(name) == name {
            f.write_str(name)?
        } else {
            Quoted(name).fmt(f)?
        }
        write!(f, " = {}", self.value)
    }
}

impl Display for ColumnConstraint {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key => f.write_str("KEY"),
            Self::PrimaryKey => f.write_str("PRIMARY KEY"),
            Self::Headers => f.write_str("HEADERS"),
            Self::Header(key) => write!(f, "HEADER({key})"),
        }
    }
}

impl Display for ColumnDef {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.ty)?;
        self.constraint.as_ref().map_or(Ok(()), |constraint| write!(f, " {constraint}"))
    }
}

impl Display for FieldDef {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.ty)
    }
}

impl Display for TypeName {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.kind {
            TypeKind::Builtin(SqlType::Decimal(precision, scale)) => write!(f, "DECIMAL({precision}, {scale})"),
            TypeKind::Builtin(ty) => f.write_str(builtin_name(ty)),
            TypeKind::Array(item) => write!(f, "ARRAY<{item}>"),
            TypeKind::Map(key, value) => write!(f, "MAP<{key}, {value}>"),
            TypeKind::Struct(fields) => write!(f, "STRUCT<{}>", List(fields)),
            TypeKind::Custom(name) => name.fmt(f),
        }
    }
}

fn builtin_name(ty: &SqlType) -> &'static str {
    match ty {
        SqlType::Boolean => "BOOLEAN",
        SqlType::Int => "INTEGER",
        SqlType::BigInt => "BIGINT",
        SqlType::Double => "DOUBLE",
        SqlType::String => "STRING",
        SqlType::Bytes => "BYTES",
        SqlType::Time => "TIME",
        SqlType::Date => "DATE",
        SqlType::Timestamp => "TIMESTAMP",
        SqlType::Decimal(..) | SqlType::Array(_) | SqlType::Map(..) | SqlType::Struct(_) => "",
    }
}

impl Display for QueryTarget {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("ALL"),
            Self::Id(id) => id.fmt(f),
        }
    }
}

impl Display for Statement {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::CreateSource(create) => create.fmt(f),
            Self::CreateAs(create) => create.fmt(f),
            Self::InsertInto(insert) => insert.fmt(f),
            Self::InsertValues(insert) => insert.fmt(f),
            Self::DropSource(drop) => drop.fmt(f),
            Self::AlterSource(alter) => alter.fmt(f),
            Self::CreateType { if_not_exists, name, ty } => {
                write!(f, "CREATE TYPE {}{name} AS {ty}", word(*if_not_exists, "IF NOT EXISTS "))
            }
            Self::DropType { if_exists, name } => write!(f, "DROP TYPE {}{name}", word(*if_exists, "IF EXISTS ")),
            Self::CreateConnector(create) => create.fmt(f),
            Self::DropConnector { if_exists, name } => {
                write!(f, "DROP CONNECTOR {}{name}", word(*if_exists, "IF EXISTS "))
            }
            Self::Query(query) => query.fmt(f),
            Self::Print(print) => print.fmt(f),
            Self::Terminate(target) => write!(f, "TERMINATE {target}"),
            Self::Pause(target) => write!(f, "PAUSE {target}"),
            Self::Resume(target) => write!(f, "RESUME {target}"),
            Self::Set { name, value } => write!(f, "SET {name} = {value}"),
            Self::Unset { name } => write!(f, "UNSET {name}"),
            Self::AlterSystem { name, value } => write!(f, "ALTER SYSTEM {name} = {value}"),
            Self::Define { name, value } => write!(f, "DEFINE {} = {value}", name.as_str()),
            Self::Undefine { name } => write!(f, "UNDEFINE {}", name.as_str()),
            Self::Explain(ExplainTarget::Query(id)) => write!(f, "EXPLAIN {id}"),
            Self::Explain(ExplainTarget::Statement(statement)) => write!(f, "EXPLAIN {statement}"),
            Self::Describe(describe) => describe.fmt(f),
            Self::Show(show) => show.fmt(f),
            Self::AssertTopic(assert) => assert.fmt(f),
            Self::AssertSchema(assert) => assert.fmt(f),
            Self::CopyFrom(copy) => copy.fmt(f),
            Self::CopyTo(copy) => copy.fmt(f),
            Self::RunScript { path } => write!(f, "RUN SCRIPT {path}"),
            Self::AssertValues(assert) => assert.fmt(f),
            Self::AssertSource(assert) => assert.fmt(f),
        }
    }
}

impl Display for CreateSource {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (replace, source) = (word(self.or_replace, "OR REPLACE "), word(self.read_only, "SOURCE "));
        write!(f, "CREATE {replace}{source}{} {}", self.kind, word(self.if_not_exists, "IF NOT EXISTS "))?;
        write!(f, "{}{}{}", self.name, OptionalList(&self.columns), With(&self.properties))
    }
}

impl Display for CreateAs {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (replace, guard) = (word(self.or_replace, "OR REPLACE "), word(self.if_not_exists, "IF NOT EXISTS "));
        write!(f, "CREATE {replace}{} {guard}{}", self.kind, self.name)?;
        write!(f, "{} AS {}", With(&self.properties), self.query)
    }
}

impl Display for InsertInto {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "INSERT INTO {}{} {}", self.target, With(&self.properties), self.query)
    }
}

impl Display for InsertValues {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "INSERT INTO {}{} VALUES", self.target, OptionalList(&self.columns))?;
        for (i, row) in self.rows.iter().enumerate() {
            write!(f, "{} ({})", word(i > 0, ","), List(row))?;
        }
        Ok(())
    }
}

impl Display for DropSource {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (guard, topic) = (word(self.if_exists, "IF EXISTS "), word(self.delete_topic, " DELETE TOPIC"));
        write!(f, "DROP {} {guard}{}{topic}", self.kind, self.name)
    }
}

impl Display for AlterSource {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "ALTER {} {}", self.kind, self.name)?;
        for (i, column) in self.columns.iter().enumerate() {
            write!(f, "{} ADD COLUMN {column}", word(i > 0, ","))?;
        }
        Ok(())
    }
}

impl Display for CreateConnector {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "CREATE {} CONNECTOR {}", self.kind, word(self.if_not_exists, "IF NOT EXISTS "))?;
        write!(f, "{}{}", self.name, With(&self.properties))
    }
}

impl Display for Print {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "PRINT {}{}", Resource(&self.topic), word(self.from_beginning, " FROM BEGINNING"))?;
        if let Some(interval) = self.interval {
            write!(f, " INTERVAL {interval}")?;
        }
        self.limit.map_or(Ok(()), |limit| write!(f, " LIMIT {limit}"))
    }
}

impl Display for Describe {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Source { name, extended } => write!(f, "DESCRIBE {name}{}", word(*extended, " EXTENDED")),
            Self::All { kind, extended } => write!(f, "DESCRIBE {kind}S{}", word(*extended, " EXTENDED")),
            Self::Function(name) => write!(f, "DESCRIBE FUNCTION {name}"),
            Self::Connector(name) => write!(f, "DESCRIBE CONNECTOR {name}"),
        }
    }
}

impl Display for Show {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("SHOW ")?;
        match self {
            Self::Properties => f.write_str("PROPERTIES"),
            Self::Topics { all, extended } => {
                write!(f, "{}TOPICS{}", word(*all, "ALL "), word(*extended, " EXTENDED"))
            }
            Self::Sources { kind, extended } => write!(f, "{kind}S{}", word(*extended, " EXTENDED")),
            Self::Functions => f.write_str("FUNCTIONS"),
            Self::Connectors(None) => f.write_str("CONNECTORS"),
            Self::Connectors(Some(kind)) => write!(f, "{kind} CONNECTORS"),
            Self::ConnectorPlugins => f.write_str("CONNECTOR PLUGINS"),
            Self::Types => f.write_str("TYPES"),
            Self::Variables => f.write_str("VARIABLES"),
            Self::Queries { extended } => write!(f, "QUERIES{}", word(*extended, " EXTENDED")),
        }
    }
}

impl Display for AssertTopic {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let not = word(!self.exists, "NOT EXISTS ");
        write!(f, "ASSERT {not}TOPIC {}{}", Resource(&self.topic), With(&self.properties))?;
        self.timeout.map_or(Ok(()), |timeout| write!(f, " TIMEOUT {timeout}"))
    }
}

impl Display for AssertSchema {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "ASSERT {}SCHEMA", word(!self.exists, "NOT EXISTS "))?;
        if let Some(subject) = &self.subject {
            write!(f, " SUBJECT {}", Resource(subject))?;
        }
        if let Some(id) = self.id {
            write!(f, " ID {id}")?;
        }
        self.timeout.map_or(Ok(()), |timeout| write!(f, " TIMEOUT {timeout}"))
    }
}

impl Display for CopyFrom {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "COPY {} FROM {}{}", self.target, self.path, With(&self.properties))
    }
}

impl Display for CopyTo {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "COPY ({}) TO {}{}", self.query, self.path, With(&self.properties))
    }
}

impl Display for AssertValues {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (null, values) = if self.tombstone { ("NULL ", "KEY") } else { ("", "VALUES") };
        let columns = OptionalList(&self.columns);
        write!(f, "ASSERT {null}VALUES {}{columns} {values} ({})", self.source, List(&self.values))
    }
}

impl Display for AssertSource {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (columns, with) = (OptionalList(&self.columns), With(&self.properties));
        write!(f, "ASSERT {} {}{columns}{with}", self.kind, self.name)
    }
}
