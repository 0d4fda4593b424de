//! Table functions in SELECT: each row becomes as many as its longest list.
//!
//! Holds no function itself; `explode` has them. The subtle thing: one row may become a million, so the page counts output rows and may end
//! within an input row; how far it came there is the cursor.

use std::ops::Range;

use arrow::array::{Array, ArrayRef, ListArray, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::Expr;

use crate::function::eval::Report;
use crate::topic::TopicError;
use crate::types::ChangeBatch;

use super::computed::{Computed, report};
use super::port::{PAGE_BYTES, slice};
use super::{Operator, OperatorError, Progress, Rest, Step, StepContext};

const NAME: &str = "flat map";

/// What FlatMap needs of a table function: the lists of its elements.
pub trait TableFunction: Send + Sync {
    /// The elements that each row gives; NULL or empty for none. A row on which the function fails gives none and is reported.
    ///
    /// # Errors
    /// A defect of ours: Arrow refused what analysis let pass.
    fn lists(&self, argument: &ArrayRef, report: Report<'_>) -> Result<ListArray, DataFusionError>;
}

/// Table functions in SELECT: each row becomes as many as its longest list; shorter lists are padded with NULL.
///
/// Absent rows are dropped, and rows without any element are, too. Output columns are the kept ones, then one a call. Streams only.
pub struct FlatMap {
    arguments: Computed,
    functions: Vec<Box<dyn TableFunction>>,
    keep: Vec<usize>,
    open: Option<Open>,
}

/// A batch on its way.
struct Open {
    batch: ChangeBatch,
    lists: Vec<ListArray>,
    /// the row at hand
    row: usize,
    /// elements of it that were given out
    given: usize,
}

impl FlatMap {
    /// Calls `functions[i]` with `arguments[i]` over rows of `input`; `keep` are the input columns that are repeated.
    ///
    /// # Errors
    /// If an argument names a column that is not there: a defect of ours.
    pub fn new(
        functions: Vec<Box<dyn TableFunction>>,
        arguments: &[Expr],
        keep: &[usize],
        input: &SchemaRef,
    ) -> Result<Self, OperatorError> {
        debug_assert_eq!(functions.len(), arguments.len());
        Ok(Self { arguments: Computed::new(NAME, arguments, input)?, functions, keep: keep.to_vec(), open: None })
    }

    fn open(&self, batch: ChangeBatch, ctx: &mut StepContext) -> Result<Open, OperatorError> {
        let internal = |e: DataFusionError| OperatorError::internal(NAME, e);
        let rows = batch.len();
        let mut failures = Vec::new();
        let arguments = self.arguments.evaluate_all(&batch.columns, rows, batch.present.as_ref(), &mut failures)?;
        let mut lists = Vec::with_capacity(arguments.len());
        for (function, argument) in self.functions.iter().zip(&arguments) {
            let mut note = |row: usize, reason: &str| {
                if batch.is_present(row) {
                    failures.push((row, reason.to_owned()));
                }
            };
            lists.push(function.lists(argument, &mut note).map_err(internal)?);
        }
        report(failures, &batch.meta.offset, ctx);
        Ok(Open { batch, lists, row: 0, given: 0 })
    }

    fn page(&mut self, ctx: &StepContext, out: &mut Vec<ChangeBatch>) -> Result<Progress, OperatorError> {
        let Some(open) = &mut self.open else { return Ok(Progress::Done) };
        let kept: usize = self.keep.iter().map(|&i| open.batch.columns[i].get_array_memory_size()).sum();
        let bytes_each = (kept / open.batch.len().max(1)).max(1);
        let page = open.page(&self.keep, ctx.page_rows.min(PAGE_BYTES / bytes_each).max(1));
        let page = page.map_err(|e| OperatorError::internal(NAME, e))?;
        if !page.is_empty() {
            out.push(page);
        }
        if open.row < open.batch.len() {
            return Ok(Progress::More);
        }
        self.open = None;
        Ok(Progress::Done)
    }
}

impl Open {
    /// The next output rows, at most so many. Afterwards the row at hand has elements left, or there is none.
    fn page(&mut self, keep: &[usize], limit: usize) -> Result<ChangeBatch, ArrowError> {
        let mut rows: Vec<u32> = Vec::new();
        let mut elements: Vec<Vec<Option<u32>>> = vec![Vec::new(); self.lists.len()];
        while self.row < self.batch.len() {
            let longest = match self.batch.is_present(self.row) {
                true => self.lists.iter().map(|list| elements_of(list, self.row).len()).max().unwrap_or(0),
                false => 0,
            };
            if self.given < longest {
                if rows.len() == limit {
                    break;
                }
                let to = longest.min(self.given + limit - rows.len());
                rows.extend(std::iter::repeat_n(self.row as u32, to - self.given));
                for (elements, list) in elements.iter_mut().zip(&self.lists) {
                    let own = elements_of(list, self.row);
                    elements.extend((self.given..to).map(|n| (n < own.len()).then(|| (own.start + n) as u32)));
                }
                self.given = to;
                if to < longest {
                    break;
                }
            }
            self.row += 1;
            self.given = 0;
        }
        let by = UInt32Array::from(rows);
        let kept = keep.iter().map(|&i| take(&self.batch.columns[i], &by, None));
        let zipped = self.lists.iter().zip(elements);
        let zipped = zipped.map(|(list, at)| take(list.values(), &UInt32Array::from(at), None));
        Ok(ChangeBatch {
            columns: kept.chain(zipped).collect::<Result<_, _>>()?,
            present: None,
            old: None,
            meta: self.batch.meta.take(by.values())?,
        })
    }
}

fn elements_of(list: &ListArray, row: usize) -> Range<usize> {
    let offsets = list.value_offsets();
    if list.is_null(row) { 0..0 } else { offsets[row] as usize..offsets[row + 1] as usize }
}

impl Operator for FlatMap {
    fn process(
        &mut self,
        step: Step,
        ctx: &mut StepContext,
        out: &mut Vec<ChangeBatch>,
    ) -> Result<Progress, OperatorError> {
        let Some(batch) = step.into_iter().flatten().next() else { return Ok(Progress::Done) };
        self.open = Some(self.open(batch, ctx)?);
        self.page(ctx, out)
    }

    fn resume(&mut self, ctx: &mut StepContext, out: &mut Vec<ChangeBatch>) -> Result<Progress, OperatorError> {
        self.page(ctx, out)
    }

    fn rest(&self) -> Result<Option<Rest>, OperatorError> {
        let Some(open) = &self.open else { return Ok(None) };
        let rows = slice(&open.batch, open.row, open.batch.len() - open.row);
        Ok(Some(Rest { rows: vec![Some(rows)], within: (open.given as u64).to_le_bytes().to_vec() }))
    }

    fn reopen(&mut self, rest: Rest, ctx: &mut StepContext) -> Result<(), OperatorError> {
        let damaged = || TopicError::Corrupt("the cursor of a table function is damaged".into());
        let batch = rest.rows.into_iter().flatten().next().ok_or_else(damaged)?;
        let given = rest.within.try_into().map(u64::from_le_bytes).map_err(|_| damaged())?;
        // losses were told when the rows were first opened
        let told = ctx.losses.len();
        self.open = Some(Open { given: given as usize, ..self.open(batch, ctx)? });
        ctx.losses.truncate(told);
        Ok(())
    }
}
