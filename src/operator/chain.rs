//! From the specs of a topology to operators and to readers of their state.
//!
//! Wires nothing: the runtime runs graphs. The subtle thing: repartitions, sinks and clients are no operators, since they do I/O; the runtime
//! makes these itself.

use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use bytes::Bytes;

use super::aggregate::{Aggregate, AggregateReader};
use super::explode::BuiltIn;
use super::flat_map::{FlatMap, TableFunction};
use super::foreign_key::left::ForeignKeyLeft;
use super::foreign_key::right::ForeignKeyRight;
use super::session_aggregate::SessionAggregate;
use super::stateless::expr_type;
use super::stateless::{Filter, Project, Regroup};
use super::stream_stream_join::StreamStreamJoin;
use super::stream_table_join::StreamTableJoin;
use super::table_join::TableTableJoin;
use super::upsert::UpsertOperator;
use super::window_aggregate::WindowAggregate;
use super::{Operator, OperatorError};
use crate::diagnostic::{Diagnostic, ErrorClass};
use crate::function::FunctionLimits;
use crate::function::table;
use crate::plan::topology::{NodeSpec, OperatorSpec, TableCall};
use crate::state::encoding::{KeyCodec, RowCodec};
use crate::topic::{KeyedSnapshot, TopicError};
use crate::types::{ChangeBatch, RowMeta, SqlType, WindowKind};

/// Makes the operator of a node; `inputs` are the schemas of its ports.
///
/// # Errors
/// If an expression does not compile, or the node is not an operator.
pub fn build(
    node: &NodeSpec,
    inputs: &[SchemaRef],
    limits: &Arc<FunctionLimits>,
) -> Result<Box<dyn Operator>, Diagnostic> {
    let input = inputs.first().ok_or_else(|| defect("a node without inputs"))?;
    Ok(match &node.op {
        OperatorSpec::Filter { predicate, is_table } => Box::new(Filter::new(predicate, *is_table, input)?),
        OperatorSpec::Project { exprs, is_table, input_keys } => {
            Box::new(Project::new(exprs, *is_table, input, *input_keys, node.key_count)?)
        }
        OperatorSpec::Regroup { exprs } => Box::new(Regroup::new(exprs, node.key_count, input)?),
        OperatorSpec::FlatMap { calls, keep } => Box::new(flat_map(calls, keep, input)?),
        OperatorSpec::Aggregate(spec) => match spec.window.map(|w| w.kind) {
            None => Box::new(Aggregate::new(spec, limits, input)?),
            Some(WindowKind::Session { .. }) => Box::new(SessionAggregate::new(spec, limits, input)?),
            Some(_) => Box::new(WindowAggregate::new(spec, limits, input)?),
        },
        OperatorSpec::Upsert { store, emit_old, keep } => {
            Box::new(UpsertOperator::new(store, (*emit_old, *keep), input, node.key_count)?)
        }
        OperatorSpec::StreamStreamJoin(spec) => Box::new(StreamStreamJoin::new(spec)?),
        OperatorSpec::StreamTableJoin(spec) => Box::new(StreamTableJoin::new(spec)?),
        OperatorSpec::TableTableJoin(spec) => Box::new(TableTableJoin::new(spec)?),
        OperatorSpec::ForeignKeyLeft(spec) => Box::new(ForeignKeyLeft::new(spec)?),
        OperatorSpec::ForeignKeyRight(spec) => Box::new(ForeignKeyRight::new(spec)?),
        OperatorSpec::Answer { .. } => return Err(defect("an answer is not an operator")),
        OperatorSpec::Repartition { .. } => return Err(defect("a repartition is not an operator")),
        OperatorSpec::Sink(_) => return Err(defect("a sink is not an operator")),
        OperatorSpec::Client => return Err(defect("a client is not an operator")),
    })
}

fn flat_map(calls: &[TableCall], keep: &[usize], input: &SchemaRef) -> Result<FlatMap, Diagnostic> {
    let arguments: Vec<_> = calls.iter().map(|call| call.arg.clone()).collect();
    let function = |call: &TableCall| -> Result<Box<dyn TableFunction>, Diagnostic> {
        let ty = expr_type(&call.arg, input).map_err(defect)?;
        let ty = SqlType::from_arrow(&ty).ok_or_else(|| defect("an argument without SQL type"))?;
        match table::TableFunction::resolve(&call.function, &[ty]) {
            Some(Ok((function, _))) => Ok(Box::new(BuiltIn(function))),
            Some(Err(reason)) => Err(defect(reason)),
            None => Err(defect("a table function that is none")),
        }
    };
    let functions = calls.iter().map(function).collect::<Result<Vec<_>, _>>()?;
    Ok(FlatMap::new(functions, &arguments, keep, input)?)
}

/// Reads stored rows of an operator as the rows it gave out.
pub enum StateReader {
    /// rows of a TABLE source
    Table(TableReader),
    /// groups of an aggregate
    Groups(Box<AggregateReader>),
}

impl StateReader {
    /// The bound for [`Self::is_kept`] as of the state in `store`; `None`: all of it counts.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn kept_from(&self, store: &dyn KeyedSnapshot) -> Result<Option<i64>, TopicError> {
        match self {
            Self::Table(_) => Ok(None),
            Self::Groups(reader) => reader.kept_from(store),
        }
    }

    /// True if the row of a stored key counts by the bound of [`Self::kept_from`]: its window is not over.
    ///
    /// # Errors
    /// If the key does not read back.
    pub fn is_kept(&self, key: &[u8], kept_from: i64) -> Result<bool, TopicError> {
        match self {
            Self::Table(_) => Ok(true),
            Self::Groups(reader) => reader.is_kept(key, kept_from),
        }
    }

    /// The rows of these entries of its store, in order; `None` without any.
    ///
    /// # Errors
    /// If a key or row does not read back.
    pub fn decode(&self, entries: &[(Bytes, Bytes)]) -> Result<Option<ChangeBatch>, TopicError> {
        if entries.is_empty() {
            return Ok(None);
        }
        match self {
            Self::Table(reader) => reader.decode(entries).map(Some),
            Self::Groups(reader) => {
                let rows = reader.finish(entries.iter().map(|(key, row)| (key.as_ref(), row.as_ref())));
                rows.map(Some).map_err(|e| TopicError::Corrupt(e.to_string()))
            }
        }
    }
}

/// Makes the reader for the state of a node.
///
/// # Errors
/// If the node keeps no readable state.
pub fn reader(node: &NodeSpec, inputs: &[SchemaRef], limits: &Arc<FunctionLimits>) -> Result<StateReader, Diagnostic> {
    match &node.op {
        OperatorSpec::Aggregate(spec) => {
            let input = inputs.first().ok_or_else(|| defect("an aggregate without input"))?;
            Ok(StateReader::Groups(Box::new(AggregateReader::new(spec, limits, input)?)))
        }
        OperatorSpec::Upsert { keep: true, .. } | OperatorSpec::Upsert { emit_old: true, .. } => {
            Ok(StateReader::Table(TableReader::new(&node.schema, node.key_count)?))
        }
        _ => Err(defect("the node keeps no rows that could be read")),
    }
}

/// Reads the store of an [`UpsertOperator`].
pub struct TableReader {
    keys: KeyCodec,
    rows: RowCodec,
}

impl TableReader {
    fn new(schema: &SchemaRef, key_count: usize) -> Result<Self, OperatorError> {
        let types: Vec<DataType> = schema.fields().iter().map(|f| f.data_type().clone()).collect();
        let (keys, values) = types.split_at(key_count);
        Ok(Self { keys: KeyCodec::new(keys)?, rows: RowCodec::new(values)? })
    }

    fn decode(&self, entries: &[(Bytes, Bytes)]) -> Result<ChangeBatch, TopicError> {
        let mut columns = self.keys.decode(entries.iter().map(|(key, _)| key.as_ref()))?;
        let rows = self.rows.decode(entries.iter().map(|(_, row)| Some(row.as_ref())))?;
        columns.extend(rows.columns);
        let meta = RowMeta {
            rowtime: rows.rowtime,
            seq: (0..entries.len() as u32).collect(),
            offset: vec![0; entries.len()].into(),
            window: None,
            headers: None,
            keyed: None,
        };
        Ok(ChangeBatch { columns, present: rows.present, old: None, meta })
    }
}

fn defect(what: impl std::fmt::Display) -> Diagnostic {
    Diagnostic::new(ErrorClass::Query, format!("internal error in topology: {what}"))
}
