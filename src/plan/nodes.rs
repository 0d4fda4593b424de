//! Extension nodes of DataFusion's `LogicalPlan`: what streams add to it.
//!
//! Filters are DataFusion's own; everything that makes or moves a key is a [`StreamNode`]. Pure data. The subtle thing: a node knows how
//! many of its leading columns are the record key, whether its rows are table changes, and the window of its key, so that lowering
//! needs no second look at the SQL.

use std::any::Any;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::{DFSchema, DFSchemaRef};
use datafusion::error::{DataFusionError, Result as DfResult};
use datafusion::logical_expr::{Expr, Extension, LogicalPlan, UserDefinedLogicalNode};

use super::topology::{AggregateCall, JoinKind, JoinWithin, KeyWindow, SinkSpec, TableCall};
use crate::catalog::Source;
use crate::format::FormatSpec;
use crate::types::{ColumnName, WindowSpec};

/// A node of ours in a logical plan.
#[derive(Clone)]
pub struct StreamNode {
    /// what it does
    pub op: StreamOp,
    /// where rows come from
    pub inputs: Vec<LogicalPlan>,
    /// its columns, key columns first
    pub schema: DFSchemaRef,
    /// what lowering needs to know of its rows
    pub shape: Shape,
}

/// Facts about the rows of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// leading columns that are the record key
    pub key_count: usize,
    /// rows are changes of a table
    pub is_table: bool,
    /// window of the key
    pub window: Option<KeyWindow>,
}

/// What a [`StreamNode`] does.
#[derive(Clone, Debug)]
pub enum StreamOp {
    /// records of a declared source; columns are named by `names` (declared or pseudo column, name in the plan)
    TopicScan {
        /// the source
        source: Arc<Source>,
        /// its columns and their names in the plan, in schema order
        names: Vec<(ColumnName, String)>,
        /// start at the beginning of the topic
        from_beginning: bool,
    },
    /// new columns, one expression each
    Project {
        /// in schema order
        exprs: Vec<Expr>,
    },
    /// table functions: the input's columns, then one a call
    FlatMap {
        /// the calls
        calls: Vec<TableCall>,
    },
    /// a new record key for streams, written to an internal topic; columns: the key expressions, then the input's columns
    Rekey {
        /// the new key, in schema order
        keys: Vec<Expr>,
        /// whose bytes decide the partition of a row
        key_format: FormatSpec,
        /// role in the SQL: `Aggregate-GroupBy`, `Join-left`, …
        role: String,
        /// partitions of the internal topic, where they are not those of the input
        partitions: Option<i32>,
        /// drop rows whose new key has a NULL
        drop_null_keys: bool,
        /// drop absent rows
        drop_absent: bool,
        /// table changes: a change of the key becomes an undo for the old and an apply for the new one
        regroup: bool,
        /// false where the new key equals the old one: then nothing moves
        through_topic: bool,
    },
    /// GROUP BY over its input's key columns
    Aggregate {
        /// the calls, after the key columns
        calls: Vec<AggregateCall>,
        /// the window
        window: Option<WindowSpec>,
        /// EMIT FINAL
        emit_final: bool,
    },
    /// stream ⋈ stream on the key columns, within a time
    StreamStreamJoin {
        /// which rows survive
        kind: JoinKind,
        /// how far apart rows may be
        within: JoinWithin,
        /// prefix of store names in n-way joins
        prefix: String,
    },
    /// stream ⋈ table on the key columns
    StreamTableJoin {
        /// which rows survive
        kind: JoinKind,
        /// prefix of store names in n-way joins
        prefix: String,
    },
    /// table ⋈ table on the key columns
    TableTableJoin {
        /// which rows survive
        kind: JoinKind,
        /// prefix of store names in n-way joins
        prefix: String,
    },
    /// table ⋈ table, the left one by an expression of its rows, the right one on its key; columns: those of both sides
    ForeignKeyJoin {
        /// INNER or LEFT
        kind: JoinKind,
        /// prefix of store names in n-way joins
        prefix: String,
        /// what a left row refers to
        foreign_key: Expr,
        /// the column that is a left row's partition
        partition: String,
    },
    /// to the sink topic
    Sink(Box<SinkSpec>),
    /// to the client of a push query
    Client,
}

impl StreamNode {
    /// The node as a plan, with columns of `schema`.
    ///
    /// # Errors
    /// If two columns have one name: a defect of the analyzer.
    pub fn plan(op: StreamOp, inputs: Vec<LogicalPlan>, schema: Schema, shape: Shape) -> DfResult<LogicalPlan> {
        let schema = Arc::new(DFSchema::try_from(schema)?);
        Ok(LogicalPlan::Extension(Extension { node: Arc::new(Self { op, inputs, schema, shape }) }))
    }

    /// The node of ours in a plan, if it is one.
    pub fn of(plan: &LogicalPlan) -> Option<&Self> {
        match plan {
            LogicalPlan::Extension(extension) => extension.node.as_any().downcast_ref(),
            _ => None,
        }
    }

    /// Facts about the rows of any plan of ours.
    pub fn shape_of(plan: &LogicalPlan) -> Shape {
        match plan {
            LogicalPlan::Filter(filter) => Self::shape_of(&filter.input),
            other => Self::of(other).map_or(Shape { key_count: 0, is_table: false, window: None }, |n| n.shape),
        }
    }

    fn label(&self) -> &'static str {
        match &self.op {
            StreamOp::TopicScan { .. } => "TopicScan",
            StreamOp::Project { .. } => "Project",
            StreamOp::FlatMap { .. } => "FlatMap",
            StreamOp::Rekey { .. } => "Rekey",
            StreamOp::Aggregate { window: Some(_), .. } => "WindowAggregate",
            StreamOp::Aggregate { .. } => "Aggregate",
            StreamOp::StreamStreamJoin { .. } => "StreamStreamJoin",
            StreamOp::StreamTableJoin { .. } => "StreamTableJoin",
            StreamOp::TableTableJoin { .. } => "TableTableJoin",
            StreamOp::ForeignKeyJoin { .. } => "ForeignKeyJoin",
            StreamOp::Sink(_) => "TopicSink",
            StreamOp::Client => "Client",
        }
    }
}

/// The Arrow schema of a plan.
pub fn arrow_schema_of(plan: &LogicalPlan) -> SchemaRef {
    plan.schema().inner().clone()
}

fn join<T: fmt::Display>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|i| i.to_string()).collect::<Vec<_>>().join(", ")
}

impl fmt::Debug for StreamNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fmt_for_explain(f)
    }
}

impl UserDefinedLogicalNode for StreamNode {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn name(&self) -> &str {
        self.label()
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        self.inputs.iter().collect()
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn check_invariants(&self, _: datafusion::logical_expr::InvariantLevel) -> DfResult<()> {
        Ok(())
    }

    fn expressions(&self) -> Vec<Expr> {
        match &self.op {
            StreamOp::Project { exprs } => exprs.clone(),
            StreamOp::Rekey { keys, .. } => keys.clone(),
            StreamOp::ForeignKeyJoin { foreign_key, .. } => vec![foreign_key.clone()],
            StreamOp::FlatMap { calls } => calls.iter().map(|c| c.arg.clone()).collect(),
            StreamOp::Aggregate { calls, .. } => calls.iter().flat_map(|c| c.args.clone()).collect(),
            _ => Vec::new(),
        }
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.label())?;
        match &self.op {
            StreamOp::TopicScan { source, names, from_beginning } => {
                let start = if *from_beginning { "earliest" } else { "latest" };
                let columns = join(names.iter().map(|(_, name)| name));
                write!(f, ": {} topic={} from={start} columns=[{columns}]", source.name, source.topic)
            }
            StreamOp::Project { exprs } => {
                let named = exprs.iter().zip(self.schema.fields()).map(|(e, c)| format!("{e} AS {}", c.name()));
                write!(f, ": {}", join(named))
            }
            StreamOp::FlatMap { calls } => {
                write!(f, ": {}", join(calls.iter().map(|c| format!("{}({})", c.function, c.arg))))
            }
            StreamOp::Rekey { keys, role, through_topic, .. } => {
                let via = if *through_topic { format!(" through {role}-repartition") } else { String::new() };
                write!(f, ": {}{via}", join(keys))
            }
            StreamOp::Aggregate { calls, window, emit_final } => {
                let calls = calls.iter().map(|c| format!("{}({})", c.function, join(&c.args)));
                write!(f, ": {}", join(calls))?;
                if let Some(window) = window {
                    write!(f, " WINDOW {window}")?;
                }
                if *emit_final { f.write_str(" EMIT FINAL") } else { Ok(()) }
            }
            StreamOp::StreamStreamJoin { kind, within, .. } => write!(f, ": {kind} {within}"),
            StreamOp::StreamTableJoin { kind, .. } | StreamOp::TableTableJoin { kind, .. } => write!(f, ": {kind}"),
            StreamOp::ForeignKeyJoin { kind, foreign_key, .. } => write!(f, ": {kind} on {foreign_key}"),
            StreamOp::Sink(sink) => write!(f, ": {} topic={}", sink.source, sink.topic),
            StreamOp::Client => Ok(()),
        }
    }

    fn with_exprs_and_inputs(
        &self,
        exprs: Vec<Expr>,
        inputs: Vec<LogicalPlan>,
    ) -> DfResult<Arc<dyn UserDefinedLogicalNode>> {
        let mut node = self.clone();
        let wanted = self.expressions().len();
        if exprs.len() != wanted || inputs.len() != self.inputs.len() {
            return Err(DataFusionError::Plan(format!("{} takes {wanted} expressions", self.label())));
        }
        node.inputs = inputs;
        let mut exprs = exprs.into_iter();
        let mut next = |slot: &mut Expr| {
            if let Some(expr) = exprs.next() {
                *slot = expr;
            }
        };
        match &mut node.op {
            StreamOp::Project { exprs: own } | StreamOp::Rekey { keys: own, .. } => own.iter_mut().for_each(next),
            StreamOp::ForeignKeyJoin { foreign_key, .. } => next(foreign_key),
            StreamOp::FlatMap { calls } => calls.iter_mut().for_each(|c| next(&mut c.arg)),
            StreamOp::Aggregate { calls, .. } => {
                calls.iter_mut().flat_map(|c| c.args.iter_mut()).for_each(next);
            }
            _ => {}
        }
        Ok(Arc::new(node))
    }

    fn dyn_hash(&self, state: &mut dyn Hasher) {
        let mut state = state;
        format!("{self:?}").hash(&mut state);
    }

    fn dyn_eq(&self, other: &dyn UserDefinedLogicalNode) -> bool {
        match other.as_any().downcast_ref::<Self>() {
            Some(other) => format!("{self:?}") == format!("{other:?}") && self.inputs == other.inputs,
            None => false,
        }
    }

    fn dyn_ord(&self, _: &dyn UserDefinedLogicalNode) -> Option<std::cmp::Ordering> {
        None
    }
}
