//! How a query runs: sub-topologies cut at repartition topics, each a graph of operators with its stores.
//!
//! Pure data that prints itself for EXPLAIN; `lower` makes it, `runtime` walks it. The subtle thing: names of stores and internal topics
//! follow the operator's role in the SQL and are part of the query's physical identity, never a plan's numbering.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::logical_expr::Expr;

use super::foreign_key::ForeignKeySpec;
use crate::format::FormatSpec;
use crate::types::{Column, ColumnName, LogicalSchema, SourceName, TopicName, WindowKind, WindowSpec};

/// A whole query.
#[derive(Clone, Debug)]
pub struct Topology {
    /// sub-topologies, those nearest the sources first
    pub subs: Vec<SubTopology>,
    /// internal topics it needs, with partition counts
    pub internal_topics: Vec<InternalTopic>,
    /// how a pull query reads its result, if it keeps one
    pub materialization: Option<MaterializationSpec>,
}

/// An internal repartition topic, by its role (`Aggregate-GroupBy`, `Join-left`, …).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InternalTopic {
    /// full name, `<consumer group>-<role>-repartition`
    pub name: TopicName,
    /// partitions
    pub partitions: i32,
    /// columns it carries, key columns first
    pub schema: Vec<Column>,
    /// how many of them are the key
    pub key_count: usize,
    /// the format whose key bytes decide the partition of a row: that of the topics it must be co-partitioned with
    pub key_format: FormatSpec,
}

/// One graph of operators between topics; one task a partition.
#[derive(Clone, Debug)]
pub struct SubTopology {
    /// where rows come from
    pub inputs: Vec<InputSpec>,
    /// operators in topological order
    pub nodes: Vec<NodeSpec>,
    /// partitions of its inputs (co-partitioned), and so tasks
    pub partitions: i32,
}

/// Where a node takes rows from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    /// `inputs[i]` of the sub-topology
    Input(usize),
    /// output of `nodes[i]`
    Node(usize),
    /// second output of `nodes[i]`: what a foreign-key join tells the tasks of right rows
    Side(usize),
}

/// An operator in a graph.
#[derive(Clone, Debug)]
pub struct NodeSpec {
    /// what it does
    pub op: OperatorSpec,
    /// its input ports
    pub inputs: Vec<Port>,
    /// columns of its output, key columns first
    pub schema: SchemaRef,
    /// how many of them are the key
    pub key_count: usize,
}

/// An input of a sub-topology.
#[derive(Clone, Debug)]
pub enum InputSpec {
    /// records of a declared source
    Source(SourceInput),
    /// change batches of an internal topic
    Repartition {
        /// index into [`Topology::internal_topics`]
        topic: usize,
        /// columns, key columns first
        schema: SchemaRef,
    },
}

/// How records of a declared source become rows.
#[derive(Clone, Debug)]
pub struct SourceInput {
    /// the source's name, for messages
    pub source: SourceName,
    /// its topic
    pub topic: TopicName,
    /// all declared columns
    pub declared: LogicalSchema,
    /// key format
    pub key_format: FormatSpec,
    /// value format
    pub value_format: FormatSpec,
    /// window of the key, where the source is windowed
    pub window: Option<KeyWindow>,
    /// where the row time comes from
    pub timestamp: Option<TimestampSpec>,
    /// true for a TABLE: records without key are dropped, NULL values are tombstones
    pub is_table: bool,
    /// columns that downstream wants: declared ones and pseudo columns by name, in output order, key columns first
    pub wanted: Vec<ColumnName>,
    /// Arrow schema of `wanted`
    pub schema: SchemaRef,
    /// how many of `wanted` are key columns (all of them are always wanted)
    pub key_count: usize,
    /// true to start where the topic starts, false at its end
    pub from_beginning: bool,
}

/// The window part of a record key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyWindow {
    /// start only; the size in ms gives the end
    Time {
        /// window length in ms
        size_ms: i64,
        /// HOPPING or TUMBLING, for DESCRIBE
        hopping: bool,
    },
    /// end and start
    Session,
}

impl KeyWindow {
    /// The key window that rows of a windowed aggregate get.
    pub fn of(spec: &WindowSpec) -> Self {
        match spec.kind {
            WindowKind::Tumbling { size_ms } => Self::Time { size_ms, hopping: false },
            WindowKind::Hopping { size_ms, .. } => Self::Time { size_ms, hopping: true },
            WindowKind::Session { .. } => Self::Session,
        }
    }

    /// As DESCRIBE prints it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Time { hopping: false, .. } => "TUMBLING",
            Self::Time { hopping: true, .. } => "HOPPING",
            Self::Session => "SESSION",
        }
    }
}

/// `TIMESTAMP = 'column' [, TIMESTAMP_FORMAT = 'pattern']`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TimestampSpec {
    /// a declared column: BIGINT, TIMESTAMP, or STRING with a pattern
    pub column: ColumnName,
    /// `java.time` pattern for STRING columns
    pub format: Option<String>,
}

/// What a node does. Expressions are bound DataFusion expressions over the node's first input's schema (joins: named).
#[derive(Clone, Debug)]
pub enum OperatorSpec {
    /// keep rows for which the predicate is true; for tables as `semantics.md` §2 (old rows decide tombstones)
    Filter {
        /// BOOLEAN
        predicate: Expr,
        /// true: rows are table changes
        is_table: bool,
    },
    /// compute new columns; the first `key_count` (of the node) are the key
    Project {
        /// one for each output column
        exprs: Vec<Expr>,
        /// true: rows are table changes and old rows, if there, are projected too
        is_table: bool,
        /// how many leading columns of the input are its key; absent rows have these only
        input_keys: usize,
    },
    /// as Project, for table changes that go to a grouping: a change whose key changes becomes two rows, first the old row alone under
    /// the old key, then the new row alone under the new key
    Regroup {
        /// one for each output column; the first `key_count` (of the node) are the grouping key
        exprs: Vec<Expr>,
    },
    /// rows of table functions, zipped; the other columns repeat
    FlatMap {
        /// the calls
        calls: Vec<TableCall>,
        /// columns of the input that are kept, by index; they come first in the output, then one column a call
        keep: Vec<usize>,
    },
    /// latest row per key of a TABLE source or of a join of tables
    Upsert {
        /// store name
        store: String,
        /// true if someone downstream asks for old rows: changes are given out with them
        emit_old: bool,
        /// true if readers ask for the rows; with neither nothing is stored
        keep: bool,
    },
    /// rows to an internal topic, routed by their key columns
    Repartition {
        /// index into [`Topology::internal_topics`]
        topic: usize,
        /// drop rows with a NULL in a key column (GROUP BY), instead of keeping them (PARTITION BY, outer sides of joins)
        drop_null_keys: bool,
        /// drop rows that are absent (NULL value)
        drop_absent: bool,
    },
    /// GROUP BY; input columns: key columns first, then what the arguments read
    Aggregate(AggregateSpec),
    /// stream ⋈ stream within a time
    StreamStreamJoin(StreamJoinSpec),
    /// stream ⋈ table: port 0 stream, port 1 table changes
    StreamTableJoin(JoinSpec),
    /// table ⋈ table on the primary key
    TableTableJoin(JoinSpec),
    /// the left rows' side of a foreign-key join: port 0 records of the left table, port 1 answers
    ForeignKeyLeft(Arc<ForeignKeySpec>),
    /// the right rows' side of a foreign-key join: port 0 what left tasks tell, port 1 records of the right table; output: answers
    ForeignKeyRight(Arc<ForeignKeySpec>),
    /// answers to an internal topic, to the partition that a column names
    Answer {
        /// index into [`Topology::internal_topics`]
        topic: usize,
        /// the column
        partition: usize,
    },
    /// to the sink topic
    Sink(SinkSpec),
    /// to the client of a push query
    Client,
}

/// A table function over a row.
#[derive(Clone, Debug)]
pub struct TableCall {
    /// EXPLODE or CUBE_EXPLODE
    pub function: String,
    /// its argument
    pub arg: Expr,
}

/// GROUP BY with or without a time window.
#[derive(Clone, Debug)]
pub struct AggregateSpec {
    /// store name, `Aggregate-Aggregate-Materialize`
    pub store: String,
    /// how many leading input columns are the grouping key
    pub key_count: usize,
    /// columns carried along beside aggregates: the latest row's value (input column index)
    pub carried: Vec<usize>,
    /// the calls; output columns are key columns, carried columns, then one a call (then WINDOWSTART, WINDOWEND if windowed)
    pub calls: Vec<AggregateCall>,
    /// the window, if any
    pub window: Option<WindowSpec>,
    /// true: input rows are table changes with old rows, calls must undo
    pub table_input: bool,
    /// true: output carries old rows (HAVING and what follows want them)
    pub emit_old: bool,
    /// true: EMIT FINAL
    pub emit_final: bool,
}

/// One aggregate call.
#[derive(Clone, Debug)]
pub struct AggregateCall {
    /// function name, upper case
    pub function: Arc<str>,
    /// argument expressions over the input columns; empty for COUNT(*)
    pub args: Vec<Expr>,
    /// literal parameters (k of TOPK, n and ignoreNulls of LATEST_BY_OFFSET), as the function declares them
    pub literals: Vec<datafusion::scalar::ScalarValue>,
    /// SQL types of `args`
    pub arg_types: Vec<crate::types::SqlType>,
    /// result type
    pub ty: crate::types::SqlType,
}

/// INNER, LEFT, RIGHT or FULL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum JoinKind {
    /// both sides
    Inner,
    /// all of the left
    Left,
    /// all of the right
    Right,
    /// all of both
    Full,
}

/// A join of two co-partitioned inputs on their (single) key column. Output columns: the key columns, then all columns of port 0, then all
/// columns of port 1, the key columns of both included. The columns of a side without a row are NULL; the key is there whichever side
/// has the row.
#[derive(Clone, Debug)]
pub struct JoinSpec {
    /// which rows without partner survive
    pub kind: JoinKind,
    /// store of the left side's rows (table-table joins)
    pub left_store: String,
    /// store of the right side's rows
    pub right_store: String,
    /// schema of port 0
    pub left: SchemaRef,
    /// schema of port 1
    pub right: SchemaRef,
    /// key columns of both ports (equal)
    pub key_count: usize,
    /// output carries old rows (table-table joins)
    pub emit_old: bool,
}

/// How far apart in time the rows of a stream-stream join may be, in ms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct JoinWithin {
    /// how much older the right row may be
    pub before_ms: i64,
    /// how much newer the right row may be
    pub after_ms: i64,
    /// how long after its end a window takes rows
    pub grace_ms: i64,
    /// true (GRACE PERIOD was given): rows without partner are held until their window closes, else they are emitted at once
    pub holds_back: bool,
}

impl JoinWithin {
    /// How long rows are kept after their time.
    pub fn retention_ms(&self) -> i64 {
        self.before_ms.saturating_add(self.after_ms).saturating_add(self.grace_ms)
    }
}

/// A join of two co-partitioned streams on their (single) key column, and their windows if they have any; columns as in [`JoinSpec`].
#[derive(Clone, Debug)]
pub struct StreamJoinSpec {
    /// which rows without partner survive
    pub kind: JoinKind,
    /// store of both sides' rows
    pub store: String,
    /// schema of port 0
    pub left: SchemaRef,
    /// schema of port 1
    pub right: SchemaRef,
    /// key columns of both ports (equal)
    pub key_count: usize,
    /// keys have windows: of one start, or, with sessions, of one start and end
    pub windowed: bool,
    /// the windows are sessions
    pub sessions: bool,
    /// how far apart rows may be
    pub within: JoinWithin,
}

/// A sink topic.
#[derive(Clone, Debug)]
pub struct SinkSpec {
    /// the sink's name
    pub source: SourceName,
    /// its topic
    pub topic: TopicName,
    /// key and value columns, in order of the node's schema
    pub schema: LogicalSchema,
    /// key format
    pub key_format: FormatSpec,
    /// value format
    pub value_format: FormatSpec,
    /// window of the key
    pub window: Option<KeyWindow>,
    /// output timestamp from a column of the result
    pub timestamp: Option<TimestampSpec>,
}

/// How pull queries read a query's result: a store, then the stateless operators after it.
#[derive(Clone, Debug)]
pub struct MaterializationSpec {
    /// sub-topology that holds the store
    pub sub: usize,
    /// the node that holds it
    pub node: usize,
    /// nodes after it up to the sink, to be applied to what is read
    pub suffix: Vec<usize>,
}

impl fmt::Display for JoinWithin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WITHIN ({} MILLISECONDS, {} MILLISECONDS)", self.before_ms, self.after_ms)?;
        if self.holds_back { write!(f, " GRACE PERIOD {} MILLISECONDS", self.grace_ms) } else { Ok(()) }
    }
}

impl fmt::Display for JoinKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Inner => "INNER",
            Self::Left => "LEFT",
            Self::Right => "RIGHT",
            Self::Full => "FULL",
        })
    }
}
