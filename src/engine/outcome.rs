//! What executing a statement gives: a message, a description, or rows.
//!
//! Plain data without JSON names (those are `wire`'s). The subtle thing: rows may never end; they come through a bounded queue, and
//! dropping [`Rows`] ends the query behind them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::buffer::BooleanBuffer;

use crate::diagnostic::Diagnostic;
use crate::types::{LogicalSchema, SqlType};

/// One executed statement.
pub struct Outcome {
    /// the statement's text, secrets masked
    pub statement: String,
    /// what it gave
    pub kind: OutcomeKind,
    /// warnings to show with it
    pub warnings: Vec<String>,
}

/// What a statement gave.
pub enum OutcomeKind {
    /// nothing to tell: SET, UNSET, DEFINE, UNDEFINE, INSERT VALUES
    Silent,
    /// DDL and query control: done
    Status(Status),
    /// a warning in place of a result (IF NOT EXISTS on an existing name, …)
    Warning(String),
    /// SHOW, DESCRIBE, EXPLAIN
    Description(Description),
    /// SELECT and PRINT
    Rows(Box<Rows>),
    /// RUN SCRIPT and COPY are the client's: it is told what to do
    Client(ClientTask),
}

/// Done DDL: `commandId` is `kind/entity/action`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// `stream`, `table`, `type`, `terminate`, `pause`, `resume`, `topic`
    pub kind: String,
    /// the name in backquotes, or the query id
    pub entity: String,
    /// `create`, `drop`, `execute`, `alter`, …
    pub action: String,
    /// "Stream created", "Created query with ID CSAS_X_3", …
    pub message: String,
    /// the persistent query it made
    pub query_id: Option<String>,
    /// place in the command log
    pub sequence: i64,
}

/// What a client has to do itself, since files are on its side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientTask {
    /// `RUN SCRIPT 'path'`
    RunScript {
        /// as written
        path: String,
    },
    /// `COPY source FROM 'file'`
    CopyFrom {
        /// the target's name
        source: String,
        /// its columns (keys, then values), for mapping fields
        schema: LogicalSchema,
        /// as written
        path: String,
        /// JSON or DELIMITED
        format: String,
    },
    /// `COPY (query) TO 'file'`: run `query`, write its rows
    CopyTo {
        /// the query's text
        query: String,
        /// as written
        path: String,
        /// JSON or DELIMITED
        format: String,
    },
}

/// A column of a result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResultColumn {
    /// its name, unquoted
    pub name: String,
    /// its type
    pub ty: SqlType,
    /// a key column of a pull query's table (the header then says KEY)
    pub is_key: bool,
}

/// What kind of query gave the rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowsKind {
    /// pull query on a table: ends by itself, no final message
    PullTable,
    /// pull query on a stream: ends at the end offsets, "Query Completed"
    PullStream,
    /// push query: endless, or "Limit Reached"
    Push,
    /// PRINT: one STRING column, a line a record
    Print,
}

/// Rows of a query. Dropping it ends the query.
pub struct Rows {
    /// the query's id
    pub query_id: String,
    /// columns of every batch
    pub columns: Vec<ResultColumn>,
    /// push, pull or print
    pub kind: RowsKind,
    /// gives the batches
    pub source: Box<dyn RowSource>,
}

/// One call's worth of rows.
pub enum NextRows {
    /// some rows; `tombstones` set: the row was deleted (key columns hold their values, others NULL)
    Batch {
        /// the rows
        batch: RecordBatch,
        /// which are deletions; `None`: none
        tombstones: Option<BooleanBuffer>,
    },
    /// nothing within the time given; ask again
    Idle,
    /// the end, with the final message, if this kind of query has one
    Done(Option<String>),
    /// the query failed
    Failed(Diagnostic),
}

/// Gives rows to one reader.
pub trait RowSource: Send {
    /// The next rows, waiting at most `timeout`. Blocks the calling thread: call it from a blocking thread.
    fn next(&mut self, timeout: Duration) -> NextRows;

    /// A handle that ends the query from another thread.
    fn canceller(&self) -> Arc<dyn Fn() + Send + Sync>;
}

/// Everything SHOW, DESCRIBE and EXPLAIN tell.
#[derive(Clone, Debug, PartialEq)]
pub enum Description {
    /// SHOW STREAMS
    Streams(Vec<SourceLine>),
    /// SHOW TABLES
    Tables(Vec<SourceLine>),
    /// DESCRIBE name
    Source(Box<SourceDescription>),
    /// SHOW STREAMS EXTENDED, DESCRIBE STREAMS, …
    Sources(Vec<SourceDescription>),
    /// SHOW QUERIES
    Queries(Vec<QueryLine>),
    /// EXPLAIN
    Query(Box<QueryDescription>),
    /// SHOW QUERIES EXTENDED
    QueryDescriptions(Vec<QueryDescription>),
    /// `SHOW TOPICS [EXTENDED]`
    Topics {
        /// the topics
        topics: Vec<TopicLine>,
        /// with consumer counts
        extended: bool,
    },
    /// SHOW PROPERTIES
    Properties(Vec<PropertyLine>),
    /// SHOW FUNCTIONS
    Functions(Vec<FunctionLine>),
    /// DESCRIBE FUNCTION
    Function(Box<FunctionDescription>),
    /// SHOW TYPES: name → type
    Types(BTreeMap<String, SqlType>),
    /// SHOW VARIABLES
    Variables(Vec<(String, String)>),
    /// SHOW CONNECTORS (name, type, class, state)
    Connectors(Vec<[String; 4]>),
    /// ASSERT TOPIC
    AssertTopic {
        /// the topic
        topic: String,
        /// false for NOT EXISTS
        exists: bool,
    },
    /// TERMINATE of a push query
    Terminated {
        /// its id
        query_id: String,
        /// whether it ran
        was_terminated: bool,
    },
}

/// A line of SHOW STREAMS / TABLES.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceLine {
    /// source name
    pub name: String,
    /// its topic
    pub topic: String,
    /// key format
    pub key_format: String,
    /// value format
    pub value_format: String,
    /// has a windowed key
    pub is_windowed: bool,
}

/// Offsets of one partition of a topic that a group reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffsetLine {
    /// the partition
    pub partition: i32,
    /// first offset there
    pub start: i64,
    /// the end
    pub end: i64,
    /// where the group stands
    pub consumed: i64,
}

/// DESCRIBE.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceDescription {
    /// source name
    pub name: String,
    /// true for a table
    pub is_table: bool,
    /// TUMBLING, HOPPING, SESSION
    pub window_type: Option<String>,
    /// columns
    pub schema: LogicalSchema,
    /// timestamp column
    pub timestamp: Option<String>,
    /// key format
    pub key_format: String,
    /// value format
    pub value_format: String,
    /// topic
    pub topic: String,
    /// its partitions
    pub partitions: i32,
    /// its replicas
    pub replication: i16,
    /// the statement that made it
    pub statement: String,
    /// queries that read it
    pub read_queries: Vec<QueryLine>,
    /// queries that write it
    pub write_queries: Vec<QueryLine>,
    /// sources that must be dropped before it
    pub constraints: Vec<String>,
    /// asked with EXTENDED
    pub extended: bool,
    /// runtime statistics as lines
    pub statistics: String,
    /// errors as lines
    pub error_stats: String,
    /// per consumer group: its topics with their offsets
    pub offsets: Vec<(String, Vec<(String, Vec<OffsetLine>)>)>,
}

/// A line of SHOW QUERIES.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryLine {
    /// query id
    pub id: String,
    /// PERSISTENT or PUSH
    pub query_type: String,
    /// RUNNING, ERROR, PAUSED, RESTORING, …
    pub state: String,
    /// while it is RESTORING: how far it is, in words
    pub restoring: Option<String>,
    /// sink name
    pub sink: Option<String>,
    /// sink topic
    pub sink_topic: Option<String>,
    /// its text
    pub text: String,
}

/// EXPLAIN.
#[derive(Clone, Debug, PartialEq)]
pub struct QueryDescription {
    /// the query in short; its id is empty for a statement that does not run
    pub line: QueryLine,
    /// columns of the result
    pub schema: LogicalSchema,
    /// window type of the result
    pub window_type: Option<String>,
    /// sources it reads
    pub sources: Vec<String>,
    /// logical plan, as text
    pub plan: String,
    /// topology, with the topics and stores it creates, as text
    pub topology: String,
    /// properties that were set when it was made
    pub properties: BTreeMap<String, String>,
    /// (time in ms, class, message)
    pub errors: Vec<(i64, String, String)>,
    /// lost records by kind
    pub losses: Vec<(String, u64)>,
    /// its consumer group
    pub consumer_group: Option<String>,
}

/// A line of SHOW TOPICS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicLine {
    /// topic name
    pub name: String,
    /// partitions
    pub partitions: i32,
    /// replicas
    pub replicas: i16,
    /// consumers and consumer groups (EXTENDED)
    pub consumers: (usize, usize),
}

/// A line of SHOW PROPERTIES.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PropertyLine {
    /// name
    pub name: String,
    /// KSQL, KAFKA STREAMS, …
    pub scope: String,
    /// "", SERVER or SESSION
    pub overridden_by: String,
    /// effective value
    pub value: String,
    /// may it be SET
    pub editable: bool,
}

/// A line of SHOW FUNCTIONS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionLine {
    /// name
    pub name: String,
    /// SCALAR, AGGREGATE, TABLE
    pub kind: String,
    /// category
    pub category: String,
}

/// A parameter of a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionParameter {
    /// its name
    pub name: String,
    /// its type
    pub ty: String,
    /// may be repeated
    pub variadic: bool,
}

/// One way to call a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionVariation {
    /// parameters
    pub parameters: Vec<FunctionParameter>,
    /// result type
    pub returns: String,
    /// what it does
    pub description: String,
}

/// DESCRIBE FUNCTION.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionDescription {
    /// name
    pub name: String,
    /// SCALAR, AGGREGATE, TABLE
    pub kind: String,
    /// what it does
    pub description: String,
    /// each way to call it
    pub variations: Vec<FunctionVariation>,
}

/// Why a text stopped being executed: what was done before, and what is wrong.
pub struct ScriptError {
    /// outcomes of the statements before the failed one
    pub done: Vec<Outcome>,
    /// the statement that failed, if one did
    pub statement: Option<String>,
    /// what is wrong
    pub diagnostic: Diagnostic,
}
