//! Output columns of an operator: expressions over its input's columns, or just one of these.
//!
//! Knows rows that are absent, and reports no failure on them. The subtle thing: a plain column is handed on as it is, without a copy and
//! without a record batch.

use arrow::array::ArrayRef;
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::SchemaRef;
use datafusion::logical_expr::Expr;

use crate::function::eval::CompiledExpr;
use crate::types::change::record_batch;

use super::{LossKind, OperatorError, StepContext};

/// A failure of an expression: row and reason.
pub(super) type Failure = (usize, String);

/// Columns to be computed from the columns of `schema`.
#[derive(Clone, Debug)]
pub(super) struct Computed {
    operator: &'static str,
    schema: SchemaRef,
    columns: Vec<Column>,
}

#[derive(Clone, Debug)]
enum Column {
    /// that column of the input
    Input(usize),
    /// an expression, and the input columns it reads
    Expression { compiled: CompiledExpr, reads: Vec<usize> },
}

impl Computed {
    /// Compiles `exprs`, whose columns are named as in `schema`.
    ///
    /// # Errors
    /// If a column is not there: a defect of ours.
    pub fn new(operator: &'static str, exprs: &[Expr], schema: &SchemaRef) -> Result<Self, OperatorError> {
        let columns = exprs.iter().map(|expr| Column::new(expr, schema));
        let columns = columns.collect::<Result<_, _>>().map_err(|e| OperatorError::internal(operator, e))?;
        Ok(Self { operator, schema: schema.clone(), columns })
    }

    /// True if column `i` reads an input column from `from` on.
    pub fn reads_beyond(&self, i: usize, from: usize) -> bool {
        match &self.columns[i] {
            Column::Input(i) => *i >= from,
            Column::Expression { reads, .. } => reads.iter().any(|i| *i >= from),
        }
    }

    /// Columns `range` of the output for `input`; failures on rows that are present are noted.
    ///
    /// # Errors
    /// A defect of ours.
    pub fn evaluate(
        &self,
        range: std::ops::Range<usize>,
        input: &[ArrayRef],
        rows: usize,
        present: Option<&BooleanBuffer>,
        failures: &mut Vec<Failure>,
    ) -> Result<Vec<ArrayRef>, OperatorError> {
        let mut batch = None;
        let mut columns = Vec::with_capacity(range.len());
        for column in &self.columns[range] {
            columns.push(match column {
                Column::Input(i) => input[*i].clone(),
                Column::Expression { compiled, .. } => {
                    let batch = match &batch {
                        Some(batch) => batch,
                        None => batch.insert(self.record_batch(input, rows)?),
                    };
                    let mut report = |row: usize, reason: &str| failures.push((row, reason.to_owned()));
                    compiled.evaluate(batch, present, &mut report).map_err(|e| self.internal(e))?
                }
            });
        }
        Ok(columns)
    }

    /// All columns of the output.
    ///
    /// # Errors
    /// A defect of ours.
    pub fn evaluate_all(
        &self,
        input: &[ArrayRef],
        rows: usize,
        present: Option<&BooleanBuffer>,
        failures: &mut Vec<Failure>,
    ) -> Result<Vec<ArrayRef>, OperatorError> {
        self.evaluate(0..self.columns.len(), input, rows, present, failures)
    }

    fn record_batch(&self, input: &[ArrayRef], rows: usize) -> Result<arrow::array::RecordBatch, OperatorError> {
        record_batch(&self.schema, input.to_vec(), rows).map_err(|e| self.internal(e))
    }

    fn internal(&self, error: impl std::fmt::Display) -> OperatorError {
        OperatorError::internal(self.operator, error)
    }
}

impl Column {
    fn new(expr: &Expr, schema: &SchemaRef) -> Result<Self, datafusion::error::DataFusionError> {
        if let Expr::Column(column) = expr
            && column.relation.is_none()
        {
            return Ok(Self::Input(schema.index_of(&column.name)?));
        }
        let reads = expr.column_refs().into_iter().map(|column| schema.index_of(&column.name));
        let reads = reads.collect::<Result<_, _>>()?;
        Ok(Self::Expression { compiled: CompiledExpr::new(expr, schema)?, reads })
    }
}

/// Reports failures in row order; `offsets` are those of the rows' input records.
pub(super) fn report(mut failures: Vec<Failure>, offsets: &[i64], ctx: &mut StepContext) {
    failures.sort_by_key(|(row, _)| *row);
    for (row, reason) in failures {
        ctx.lose(offsets[row], LossKind::Expression, reason);
    }
}
