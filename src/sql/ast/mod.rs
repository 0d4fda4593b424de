//! The statements of the dialect as a tree: what was written, with places, and nothing of what it means.
//!
//! Knows no catalog: a source, a custom type or a function is a name here. The subtle thing is [`Loc`]: every node that
//! can be wrong carries one, and all of them compare equal, so two trees are equal when they say the same thing.

mod expr;
mod query;
mod types;

use std::fmt;
use std::hash::{Hash, Hasher};

pub use expr::{BinaryOp, ColumnRef, Expr, ExprKind, Literal, Number, NumberKind, UnaryOp, When};
pub use query::{
    Cte, Emit, EmitClause, Interval, Join, JoinKind, OrderItem, Query, QueryBody, Relation, RelationKind, RowCount,
    Select, SelectItem, TimeUnit, WindowClause, WindowShape, Within,
};
pub use types::{FieldDef, TypeKind, TypeName};

use crate::diagnostic::Span;

/// Where a node stands in the text that was parsed, in bytes. Equal to every other place.
#[derive(Clone, Copy, Default)]
pub struct Loc(pub Span);

impl PartialEq for Loc {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Loc {}

impl Hash for Loc {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

impl From<Span> for Loc {
    fn from(span: Span) -> Self {
        Self(span)
    }
}

impl fmt::Debug for Loc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.0.start, self.0.end)
    }
}

/// A name, folded when it was parsed: upper case unless it was quoted.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Ident {
    /// the name without quotes
    pub name: String,
    /// where it stands
    pub loc: Loc,
}

impl Ident {
    /// A name at a place.
    pub fn new(name: impl Into<String>, span: Span) -> Self {
        Self { name: name.into(), loc: Loc(span) }
    }

    /// The name without quotes.
    pub fn as_str(&self) -> &str {
        &self.name
    }

    /// Where it stands.
    pub fn span(&self) -> Span {
        self.loc.0
    }
}

impl fmt::Debug for Ident {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`@{:?}", self.name, self.loc)
    }
}

/// A text that keeps its case: a string literal, or the name of a topic, subject or variable, quoted or not.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Text {
    /// the text without quotes
    pub value: String,
    /// where it stands
    pub loc: Loc,
}

impl Text {
    /// A text at a place.
    pub fn new(value: impl Into<String>, span: Span) -> Self {
        Self { value: value.into(), loc: Loc(span) }
    }

    /// The text without quotes.
    pub fn as_str(&self) -> &str {
        &self.value
    }

    /// Where it stands.
    pub fn span(&self) -> Span {
        self.loc.0
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}@{:?}", self.value, self.loc)
    }
}

/// STREAM or TABLE.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SourceKind {
    /// facts, each on its own
    Stream,
    /// the newest row of each key
    Table,
}

/// SOURCE or SINK, of a connector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConnectorKind {
    /// brings records in
    Source,
    /// takes records out
    Sink,
}

/// One `name = literal` of a WITH clause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Property {
    /// folded if it was a bare identifier; a string or quoted name keeps its case
    pub name: Ident,
    /// its value
    pub value: Literal,
    /// where the value stands
    pub value_loc: Loc,
}

/// What a column of a CREATE statement is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ColumnConstraint {
    /// KEY
    Key,
    /// PRIMARY KEY
    PrimaryKey,
    /// HEADERS: all headers of the record
    Headers,
    /// HEADER('k'): the last header of that key
    Header(Text),
}

/// A column of a CREATE, ALTER or ASSERT statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnDef {
    /// its name
    pub name: Ident,
    /// its type
    pub ty: TypeName,
    /// KEY, PRIMARY KEY, HEADERS or HEADER; a value column without
    pub constraint: Option<ColumnConstraint>,
    /// from the name to the end of the constraint
    pub loc: Loc,
}

/// `CREATE [OR REPLACE] [SOURCE] STREAM|TABLE [IF NOT EXISTS] name [(columns)] [WITH (…)]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateSource {
    /// OR REPLACE
    pub or_replace: bool,
    /// SOURCE: read-only
    pub read_only: bool,
    /// STREAM or TABLE
    pub kind: SourceKind,
    /// IF NOT EXISTS
    pub if_not_exists: bool,
    /// the new source
    pub name: Ident,
    /// in the order written; empty if there is no list
    pub columns: Vec<ColumnDef>,
    /// in the order written
    pub properties: Vec<Property>,
}

/// `CREATE [OR REPLACE] STREAM|TABLE [IF NOT EXISTS] name [WITH (…)] AS query`.
#[derive(Clone, Debug, PartialEq)]
pub struct CreateAs {
    /// OR REPLACE
    pub or_replace: bool,
    /// STREAM or TABLE
    pub kind: SourceKind,
    /// IF NOT EXISTS
    pub if_not_exists: bool,
    /// the sink
    pub name: Ident,
    /// in the order written
    pub properties: Vec<Property>,
    /// what fills it
    pub query: Query,
}

/// `INSERT INTO stream [WITH (…)] query`.
#[derive(Clone, Debug, PartialEq)]
pub struct InsertInto {
    /// the sink
    pub target: Ident,
    /// in the order written
    pub properties: Vec<Property>,
    /// what is inserted
    pub query: Query,
}

/// `INSERT INTO source [(columns)] VALUES (…), …`.
#[derive(Clone, Debug, PartialEq)]
pub struct InsertValues {
    /// the source
    pub target: Ident,
    /// empty if there is no list
    pub columns: Vec<Ident>,
    /// at least one row; rows may differ in length
    pub rows: Vec<Vec<Expr>>,
}

/// `DROP STREAM|TABLE [IF EXISTS] name [DELETE TOPIC]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DropSource {
    /// STREAM or TABLE
    pub kind: SourceKind,
    /// IF EXISTS
    pub if_exists: bool,
    /// the source
    pub name: Ident,
    /// DELETE TOPIC
    pub delete_topic: bool,
}

/// `ALTER STREAM|TABLE name ADD [COLUMN] column type, …`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlterSource {
    /// STREAM or TABLE
    pub kind: SourceKind,
    /// the source
    pub name: Ident,
    /// at least one, without constraint
    pub columns: Vec<ColumnDef>,
}

/// `CREATE SOURCE|SINK CONNECTOR [IF NOT EXISTS] name [WITH (…)]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateConnector {
    /// SOURCE or SINK
    pub kind: ConnectorKind,
    /// IF NOT EXISTS
    pub if_not_exists: bool,
    /// the connector
    pub name: Ident,
    /// in the order written
    pub properties: Vec<Property>,
}

/// `PRINT topic [FROM BEGINNING] [INTERVAL|SAMPLE n] [LIMIT n]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Print {
    /// the topic; case is kept
    pub topic: Text,
    /// FROM BEGINNING
    pub from_beginning: bool,
    /// print each n-th record
    pub interval: Option<RowCount>,
    /// stop after so many records
    pub limit: Option<RowCount>,
}

/// What TERMINATE, PAUSE and RESUME act on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueryTarget {
    /// ALL
    All,
    /// one query, by its folded id
    Id(Ident),
}

/// What EXPLAIN explains.
#[derive(Clone, Debug, PartialEq)]
pub enum ExplainTarget {
    /// a query that runs
    Query(Ident),
    /// a statement that does not
    Statement(Box<Statement>),
}

/// What DESCRIBE describes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Describe {
    /// `DESCRIBE name [EXTENDED]`
    Source {
        /// the source
        name: Ident,
        /// EXTENDED
        extended: bool,
    },
    /// `DESCRIBE STREAMS|TABLES [EXTENDED]`
    All {
        /// STREAMS or TABLES
        kind: SourceKind,
        /// EXTENDED
        extended: bool,
    },
    /// `DESCRIBE FUNCTION name`
    Function(Ident),
    /// `DESCRIBE CONNECTOR name`
    Connector(Ident),
}

/// What `SHOW` (or `LIST`) lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Show {
    /// PROPERTIES
    Properties,
    /// `[ALL] TOPICS [EXTENDED]`
    Topics {
        /// ALL: the hidden ones too
        all: bool,
        /// EXTENDED
        extended: bool,
    },
    /// `STREAMS [EXTENDED]` or `TABLES [EXTENDED]`
    Sources {
        /// STREAMS or TABLES
        kind: SourceKind,
        /// EXTENDED
        extended: bool,
    },
    /// FUNCTIONS
    Functions,
    /// `[SOURCE|SINK] CONNECTORS`
    Connectors(Option<ConnectorKind>),
    /// CONNECTOR PLUGINS
    ConnectorPlugins,
    /// TYPES
    Types,
    /// VARIABLES
    Variables,
    /// `QUERIES [EXTENDED]`
    Queries {
        /// EXTENDED
        extended: bool,
    },
}

/// `ASSERT [NOT EXISTS] TOPIC name [WITH (…)] [TIMEOUT n unit]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssertTopic {
    /// false with NOT EXISTS
    pub exists: bool,
    /// the topic; case is kept
    pub topic: Text,
    /// in the order written
    pub properties: Vec<Property>,
    /// how long to try
    pub timeout: Option<Interval>,
}

/// `ASSERT [NOT EXISTS] SCHEMA [SUBJECT s] [ID n] [TIMEOUT n unit]`; at least one of SUBJECT and ID.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssertSchema {
    /// false with NOT EXISTS
    pub exists: bool,
    /// the subject; case is kept
    pub subject: Option<Text>,
    /// the schema's id
    pub id: Option<RowCount>,
    /// how long to try
    pub timeout: Option<Interval>,
}

/// `COPY source FROM 'file' [WITH (…)]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyFrom {
    /// the source to fill
    pub target: Ident,
    /// the file
    pub path: Text,
    /// in the order written
    pub properties: Vec<Property>,
}

/// `COPY (query) TO 'file' [WITH (…)]`.
#[derive(Clone, Debug, PartialEq)]
pub struct CopyTo {
    /// whose rows are written
    pub query: Query,
    /// the file
    pub path: Text,
    /// in the order written
    pub properties: Vec<Property>,
}

/// `ASSERT VALUES source [(columns)] VALUES (…)`, or with `tombstone` `ASSERT NULL VALUES source [(columns)] KEY (…)`;
/// test grammar only.
#[derive(Clone, Debug, PartialEq)]
pub struct AssertValues {
    /// the record is a tombstone, and `values` are its key
    pub tombstone: bool,
    /// the source
    pub source: Ident,
    /// empty if there is no list
    pub columns: Vec<Ident>,
    /// what the next record holds
    pub values: Vec<Expr>,
}

/// `ASSERT STREAM|TABLE name [(columns)] [WITH (…)]`; test grammar only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssertSource {
    /// STREAM or TABLE
    pub kind: SourceKind,
    /// the source
    pub name: Ident,
    /// empty if there is no list
    pub columns: Vec<ColumnDef>,
    /// in the order written
    pub properties: Vec<Property>,
}

/// One statement.
#[derive(Clone, Debug, PartialEq)]
pub enum Statement {
    /// CREATE STREAM, CREATE TABLE
    CreateSource(CreateSource),
    /// CREATE STREAM AS, CREATE TABLE AS
    CreateAs(CreateAs),
    /// INSERT INTO … SELECT
    InsertInto(InsertInto),
    /// INSERT INTO … VALUES
    InsertValues(InsertValues),
    /// DROP STREAM, DROP TABLE
    DropSource(DropSource),
    /// ALTER STREAM, ALTER TABLE
    AlterSource(AlterSource),
    /// CREATE TYPE
    CreateType {
        /// IF NOT EXISTS
        if_not_exists: bool,
        /// the new name
        name: Ident,
        /// what it stands for
        ty: TypeName,
    },
    /// DROP TYPE
    DropType {
        /// IF EXISTS
        if_exists: bool,
        /// the name
        name: Ident,
    },
    /// CREATE CONNECTOR
    CreateConnector(CreateConnector),
    /// DROP CONNECTOR
    DropConnector {
        /// IF EXISTS
        if_exists: bool,
        /// the connector
        name: Ident,
    },
    /// SELECT: a push query with EMIT, a pull query without
    Query(Query),
    /// PRINT
    Print(Print),
    /// TERMINATE
    Terminate(QueryTarget),
    /// PAUSE
    Pause(QueryTarget),
    /// RESUME
    Resume(QueryTarget),
    /// `SET 'name' = 'value'`
    Set {
        /// the property
        name: Text,
        /// its value
        value: Text,
    },
    /// `UNSET 'name'`
    Unset {
        /// the property
        name: Text,
    },
    /// `ALTER SYSTEM 'name' = 'value'`
    AlterSystem {
        /// the property
        name: Text,
        /// its value
        value: Text,
    },
    /// `DEFINE name = 'value'`
    Define {
        /// the variable, as written
        name: Text,
        /// its value
        value: Text,
    },
    /// `UNDEFINE name`
    Undefine {
        /// the variable, as written
        name: Text,
    },
    /// EXPLAIN
    Explain(ExplainTarget),
    /// DESCRIBE
    Describe(Describe),
    /// SHOW, LIST
    Show(Show),
    /// ASSERT TOPIC
    AssertTopic(AssertTopic),
    /// ASSERT SCHEMA
    AssertSchema(AssertSchema),
    /// COPY … FROM
    CopyFrom(CopyFrom),
    /// COPY … TO
    CopyTo(CopyTo),
    /// `RUN SCRIPT 'path'`; test grammar only
    RunScript {
        /// the file
        path: Text,
    },
    /// ASSERT VALUES, ASSERT NULL VALUES; test grammar only
    AssertValues(AssertValues),
    /// ASSERT STREAM, ASSERT TABLE; test grammar only
    AssertSource(AssertSource),
}
