//! From the specs of a topology to operators and to readers of their state.
//!
//! Wires nothing: the runtime runs graphs. The subtle thing: repartitions, sinks and clients are no operators, since they do I/O; the runtime
//! makes these itself.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use bytes::Bytes;

use super::Operator;
use crate::diagnostic::{Diagnostic, ErrorClass};
use crate::function::FunctionLimits;
use crate::plan::topology::{NodeSpec, OperatorSpec};
use crate::topic::TopicError;
use crate::types::ChangeBatch;

/// Makes the operator of a node; `inputs` are the schemas of its ports.
///
/// # Errors
/// If an expression does not compile, or the node is not an operator.
pub fn build(
    node: &NodeSpec,
    inputs: &[SchemaRef],
    limits: &Arc<FunctionLimits>,
) -> Result<Box<dyn Operator>, Diagnostic> {
    let _ = (inputs, limits);
    Err(no_operator(&node.op))
}

/// Reads stored rows of an operator as the rows it gave out.
pub enum StateReader {}

impl StateReader {
    /// The rows of these entries of its store, in order; `None` without any.
    ///
    /// # Errors
    /// If a key or row does not read back.
    pub fn decode(&self, entries: &[(Bytes, Bytes)]) -> Result<Option<ChangeBatch>, TopicError> {
        let _ = entries;
        match *self {}
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
    Err(no_operator(&node.op))
}

fn no_operator(op: &OperatorSpec) -> Diagnostic {
    let name = match op {
        OperatorSpec::Repartition { .. } => "a repartition",
        OperatorSpec::Sink(_) => "a sink",
        OperatorSpec::Client => "a client",
        _ => "this node",
    };
    Diagnostic::new(ErrorClass::Query, format!("internal error in topology: {name} is not an operator"))
}
