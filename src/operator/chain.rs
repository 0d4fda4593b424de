//! From the specs of a topology to operators and to readers of their state.
//!
//! Wires nothing: the runtime runs graphs. The subtle thing: repartitions, sinks and clients are no operators, since they do I/O; the runtime
//! makes these itself.

use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use bytes::Bytes;

use super::stream_table_join::StreamTableJoin;
use super::table_join::TableTableJoin;
use super::upsert::UpsertOperator;
use super::{Operator, OperatorError};
use crate::diagnostic::{Diagnostic, ErrorClass};
use crate::function::FunctionLimits;
use crate::plan::topology::{NodeSpec, OperatorSpec};
use crate::state::encoding::{KeyCodec, RowCodec};
use crate::topic::TopicError;
use crate::types::{ChangeBatch, RowMeta};

/// Makes the operator of a node; `inputs` are the schemas of its ports.
///
/// # Errors
/// If an expression does not compile, or the node is not an operator.
pub fn build(
    node: &NodeSpec,
    inputs: &[SchemaRef],
    limits: &Arc<FunctionLimits>,
) -> Result<Box<dyn Operator>, Diagnostic> {
    let _ = limits;
    let input = inputs.first().ok_or_else(|| defect("a node without inputs"))?;
    Ok(match &node.op {
        OperatorSpec::Upsert { store, emit_old } => {
            Box::new(UpsertOperator::new(store, *emit_old, input, node.key_count)?)
        }
        OperatorSpec::StreamTableJoin(spec) => Box::new(StreamTableJoin::new(spec)?),
        OperatorSpec::TableTableJoin(spec) => Box::new(TableTableJoin::new(spec)?),
        OperatorSpec::Repartition { .. } => return Err(defect("a repartition is not an operator")),
        OperatorSpec::Sink(_) => return Err(defect("a sink is not an operator")),
        OperatorSpec::Client => return Err(defect("a client is not an operator")),
        _ => return Err(defect("not there yet")),
    })
}

/// Reads stored rows of an operator as the rows it gave out.
pub enum StateReader {
    /// rows of a TABLE source
    Table(TableReader),
}

impl StateReader {
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
        }
    }
}

/// Makes the reader for the state of a node.
///
/// # Errors
/// If the node keeps no readable state.
pub fn reader(
    node: &NodeSpec,
    inputs: &[SchemaRef],
    limits: &Arc<FunctionLimits>,
) -> Result<StateReader, Diagnostic> {
    let _ = (inputs, limits);
    match &node.op {
        OperatorSpec::Upsert { emit_old: true, .. } => {
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
        };
        Ok(ChangeBatch { columns, present: rows.present, old: None, meta })
    }
}

fn defect(what: &str) -> Diagnostic {
    Diagnostic::new(ErrorClass::Query, format!("internal error in topology: {what}"))
}
