//! A whole expression as one function of the columns it reads, for plans that DataFusion executes itself (pull queries).
//!
//! There DataFusion's own AND, OR and CASE would evaluate around our functions, and a failing row would be NULL at the function only; sealed, it is
//! NULL (a predicate: false) as a whole, as [`super::eval`] has it, though without a report.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{ColumnarValue, Expr, Volatility};

use super::eval::{Evaluated, Failures, Frame, null_where};
use super::udf::{BoundFunction, Call, ErrorRule, Lambda};
use crate::types::SqlType;

/// The name of sealed calls.
const EVALUATE: &str = "EVALUATE";

/// `expr`, of type `ty`, over columns of `schema`, as a call of one function; columns and constants stay as they are.
///
/// # Errors
/// If a column is not there, or is of no SQL type: a defect of the planner.
pub fn seal(expr: Expr, ty: SqlType, schema: &SchemaRef) -> Result<Expr, DataFusionError> {
    if matches!(expr, Expr::Column(_) | Expr::Literal(..)) {
        return Ok(expr);
    }
    let mut names: Vec<String> = expr.column_refs().into_iter().map(|column| column.name.clone()).collect();
    names.sort_unstable();
    let captured = names.into_iter().map(|name| {
        let data_type = schema.field_with_name(&name)?.data_type();
        let ty = SqlType::from_arrow(data_type)
            .ok_or_else(|| DataFusionError::Internal(format!("the column {name} is of no SQL type: {data_type}")))?;
        Ok((name, ty))
    });
    let captured = captured.collect::<Result<Vec<_>, DataFusionError>>()?;
    let volatile = expr.is_volatile();
    let mut sealed = BoundFunction::new(EVALUATE, kernel, vec![], ty.clone(), ErrorRule::Shield);
    if volatile {
        sealed = sealed.volatility(Volatility::Volatile);
    }
    sealed.captured = captured;
    sealed.lambdas = vec![Lambda { params: vec![], body: expr, ty }];
    Ok(sealed.call(vec![]))
}

/// The expression inside a sealed call, over the columns that the call is now given (DataFusion renames these as it moves filters); `None` if it
/// is no sealed call, or is given something else than columns.
pub fn unsealed(expr: &Expr) -> Option<Expr> {
    let Expr::ScalarFunction(call) = expr else { return None };
    let function = (call.func.inner().as_ref() as &dyn std::any::Any).downcast_ref::<BoundFunction>()?;
    let body = &function.lambdas.first().filter(|_| function.name == EVALUATE)?.body;
    let mut given = HashMap::new();
    for ((name, _), arg) in function.captured.iter().zip(&call.args) {
        let Expr::Column(column) = arg else { return None };
        given.insert(name.clone(), column.clone());
    }
    let renamed = body.clone().transform(|node| match &node {
        Expr::Column(column) => match given.get(&column.name) {
            Some(other) => Ok(Transformed::yes(Expr::Column(other.clone()))),
            None => Ok(Transformed::no(node)),
        },
        _ => Ok(Transformed::no(node)),
    });
    renamed.ok().map(|found| found.data)
}

fn kernel(call: &Call<'_>, failures: &mut Failures<'_>) -> Result<ColumnarValue, DataFusionError> {
    let lambda =
        call.lambdas.first().ok_or_else(|| DataFusionError::Internal("a sealed call lacks its expression".into()))?;
    let columns = call.captured.iter().map(|value| value.to_array(call.rows)).collect::<Result<Vec<_>, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(call.rows));
    let batch = RecordBatch::try_new_with_options(Arc::clone(&lambda.schema), columns, &options)?;
    let frame = Frame::new(&batch);
    let Evaluated { value, failed } = lambda.body.eval(&frame, None)?;
    frame.into_reports().into_iter().for_each(|(row, reason)| failures.report(row as usize, reason));
    match failed {
        Some(failed) => null_where(value, call.rows, &failed),
        None => Ok(value),
    }
}
