//! Table functions as FlatMap wants them: for each row the list of its elements.
//!
//! Holds no function itself; they are in `function::table`. The subtle thing: values come as (row, value) pairs and become lists by counting.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ListArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::Field;
use datafusion::error::DataFusionError;

use super::flat_map::TableFunction;
use crate::function::eval::{Failures, Report};
use crate::function::table;

/// A built-in table function.
pub struct BuiltIn(pub table::TableFunction);

impl TableFunction for BuiltIn {
    fn lists(&self, argument: &ArrayRef, report: Report<'_>) -> Result<ListArray, DataFusionError> {
        let mut failures = Failures::new(None);
        let exploded = self.0.evaluate(argument, &mut failures)?;
        for (row, reason) in failures.into_rows() {
            report(row as usize, &reason);
        }
        let mut lengths = vec![0; argument.len()];
        for row in exploded.rows.values() {
            lengths[*row as usize] += 1;
        }
        let item = Arc::new(Field::new("item", exploded.values.data_type().clone(), true));
        Ok(ListArray::new(item, OffsetBuffer::from_lengths(lengths), exploded.values, None))
    }
}
