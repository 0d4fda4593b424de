//! Bound expressions, compiled once per query and evaluated over batches.
//!
//! Not the binder (that is `analyzer::expr`). The subtle thing: an expression never fails a batch. A row on which it fails gets NULL
//! (a predicate: false) and is reported with its reason; operands after the failing one are not evaluated for that row.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::buffer::{BooleanBuffer, MutableBuffer};
use arrow::compute::nullif;
use arrow::datatypes::SchemaRef;
use arrow::util::bit_util;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{ColumnarValue, Expr};
use datafusion::scalar::ScalarValue;

use super::compile::compile;

/// An expression over the columns of one schema.
#[derive(Clone, Debug)]
pub struct CompiledExpr {
    root: Arc<dyn Node>,
}

/// Is told of each row on which an expression failed: row in the batch, reason.
pub type Report<'a> = &'a mut dyn FnMut(usize, &str);

/// Why a row failed, in words.
pub type Reason = Cow<'static, str>;

impl CompiledExpr {
    /// Compiles `expr`, whose columns are named as in `schema`.
    ///
    /// # Errors
    /// If a column is not there: a defect of the binder.
    pub fn new(expr: &Expr, schema: &SchemaRef) -> Result<Self, DataFusionError> {
        Ok(Self { root: compile(expr, schema)? })
    }

    /// The value for each row of `batch`; rows that fail are NULL and reported, in row order. Rows outside of `present` (absent rows,
    /// whose columns mean nothing) are never reported and hold anything.
    ///
    /// # Errors
    /// A defect of ours: Arrow refused what analysis let pass.
    pub fn evaluate(
        &self,
        batch: &RecordBatch,
        present: Option<&BooleanBuffer>,
        report: Report<'_>,
    ) -> Result<ArrayRef, DataFusionError> {
        let (value, failed) = self.run(batch, present, report)?;
        let array = value.into_array(batch.num_rows())?;
        Ok(match failed {
            Some(failed) => nullif(&array, &BooleanArray::new(failed, None))?,
            None => array,
        })
    }

    /// The rows of `batch` for which a BOOLEAN expression is true; NULL, failing and absent rows are false.
    ///
    /// # Errors
    /// As [`Self::evaluate`].
    pub fn matches(
        &self,
        batch: &RecordBatch,
        present: Option<&BooleanBuffer>,
        report: Report<'_>,
    ) -> Result<BooleanBuffer, DataFusionError> {
        let (value, failed) = self.run(batch, present, report)?;
        let mut matches = truth(&value, batch.num_rows())?;
        if let Some(failed) = failed {
            matches = &matches & &!&failed;
        }
        Ok(match present {
            Some(present) => &matches & present,
            None => matches,
        })
    }

    fn run(
        &self,
        batch: &RecordBatch,
        present: Option<&BooleanBuffer>,
        report: Report<'_>,
    ) -> Result<(ColumnarValue, Option<BooleanBuffer>), DataFusionError> {
        let frame = Frame::new(batch);
        let Evaluated { value, failed } = self.root.eval(&frame, present)?;
        for (row, reason) in frame.into_reports() {
            report(row as usize, &reason);
        }
        Ok((value, failed))
    }
}

/// What a node gives for the rows of a frame.
#[derive(Clone, Debug)]
pub struct Evaluated {
    /// the values; those of failed and unwanted rows mean nothing
    pub value: ColumnarValue,
    /// the wanted rows that failed; `None`: none
    pub failed: Option<BooleanBuffer>,
}

impl Evaluated {
    /// A value without failures.
    pub fn ok(value: ColumnarValue) -> Self {
        Self { value, failed: None }
    }
}

/// A compiled expression.
///
/// *Rows*: the value has the frame's rows, or is a scalar. *Failure*: a row that fails is in the frame's reports and, unless the
/// node shields it, in the mask; only wanted rows fail. *Errors*: only defects of ours.
pub trait Node: fmt::Debug + Send + Sync {
    /// Evaluates the frame's rows; rows outside of `wanted` neither fail nor matter.
    fn eval(&self, frame: &Frame<'_>, wanted: Option<&BooleanBuffer>) -> Result<Evaluated, DataFusionError>;

    /// False if no row can ever fail or be reported, so that it may be evaluated for rows that do not need it.
    fn can_fail(&self) -> bool;

    /// The value, if it is a constant.
    fn constant(&self) -> Option<&ScalarValue> {
        None
    }

    /// True if it depends on constants alone, so that it may be folded.
    fn is_pure_constant(&self) -> bool {
        false
    }
}

/// The rows that an evaluation runs over, and the failures it has met.
#[derive(Debug)]
pub struct Frame<'a> {
    batch: &'a RecordBatch,
    reports: RefCell<Vec<(u32, Reason)>>,
}

impl<'a> Frame<'a> {
    /// A frame over `batch`.
    pub fn new(batch: &'a RecordBatch) -> Self {
        Self { batch, reports: RefCell::default() }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.batch.num_rows()
    }

    /// The column at that index.
    pub fn column(&self, index: usize) -> &'a ArrayRef {
        self.batch.column(index)
    }

    /// Takes the failures of one kernel into the reports; gives their mask.
    pub fn note(&self, failures: Failures<'_>) -> Option<BooleanBuffer> {
        if !failures.notes.is_empty() {
            self.reports.borrow_mut().extend(failures.notes.iter().cloned());
        }
        if failures.rows.is_empty() {
            return None;
        }
        let mask = failures.mask(self.rows());
        self.reports.borrow_mut().extend(failures.rows);
        Some(mask)
    }

    /// Reports `reason` for each of these rows.
    pub fn fail_all(&self, rows: &BooleanBuffer, reason: &Reason) {
        self.reports.borrow_mut().extend(rows.set_indices().map(|row| (row as u32, reason.clone())));
    }

    /// The reports, by row; those of one row in the order met.
    pub fn into_reports(self) -> Vec<(u32, Reason)> {
        let mut reports = self.reports.into_inner();
        reports.sort_by_key(|(row, _)| *row);
        reports
    }
}

/// Where a kernel notes rows that fail.
#[derive(Debug)]
pub struct Failures<'a> {
    wanted: Option<&'a BooleanBuffer>,
    rows: Vec<(u32, Reason)>,
    /// reported, though the row goes on
    notes: Vec<(u32, Reason)>,
}

impl<'a> Failures<'a> {
    /// None yet; rows outside of `wanted` will not count.
    pub fn new(wanted: Option<&'a BooleanBuffer>) -> Self {
        Self { wanted, rows: Vec::new(), notes: Vec::new() }
    }

    /// True if the row's value matters.
    #[inline]
    pub fn wants(&self, row: usize) -> bool {
        self.wanted.is_none_or(|wanted| wanted.value(row))
    }

    /// Notes that a row fails; ignored if it is not wanted.
    #[cold]
    pub fn fail(&mut self, row: usize, reason: impl Into<Reason>) {
        if self.wants(row) {
            self.rows.push((row as u32, reason.into()));
        }
    }

    /// Reports something that went wrong inside of a row which goes on (a shielded call in a lambda).
    #[cold]
    pub fn report(&mut self, row: usize, reason: Reason) {
        if self.wants(row) {
            self.notes.push((row as u32, reason));
        }
    }

    /// Notes that each row of `rows` fails.
    pub fn fail_rows(&mut self, rows: &BooleanBuffer, reason: &'static str) {
        for row in rows.set_indices() {
            self.fail(row, reason);
        }
    }

    /// The failures, in the order noted.
    pub fn rows(&self) -> &[(u32, Reason)] {
        &self.rows
    }

    /// What was reported without failing, in the order noted.
    pub fn notes(&self) -> &[(u32, Reason)] {
        &self.notes
    }

    /// The failures, in the order noted.
    pub fn into_rows(self) -> Vec<(u32, Reason)> {
        self.rows
    }

    fn mask(&self, rows: usize) -> BooleanBuffer {
        let mut bits = MutableBuffer::from_len_zeroed(rows.div_ceil(8));
        for (row, _) in &self.rows {
            bit_util::set_bit(bits.as_slice_mut(), *row as usize);
        }
        BooleanBuffer::new(bits.into(), 0, rows)
    }
}

/// Rows in both; `None` stands for all.
pub(crate) fn both(a: Option<&BooleanBuffer>, b: Option<&BooleanBuffer>) -> Option<BooleanBuffer> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a & b),
        (Some(one), None) | (None, Some(one)) => Some(one.clone()),
        (None, None) => None,
    }
}

/// Rows of `wanted` (`None`: all) without `failed`.
pub(crate) fn without(wanted: Option<&BooleanBuffer>, failed: &BooleanBuffer) -> BooleanBuffer {
    match wanted {
        Some(wanted) => wanted & &!failed,
        None => !failed,
    }
}

/// Rows in either; `None` stands for none.
pub(crate) fn either(a: Option<BooleanBuffer>, b: Option<BooleanBuffer>) -> Option<BooleanBuffer> {
    match (a, b) {
        (Some(a), Some(b)) => Some(&a | &b),
        (one, None) | (None, one) => one,
    }
}

/// The rows of a BOOLEAN value that are true (and not NULL).
pub(crate) fn truth(value: &ColumnarValue, rows: usize) -> Result<BooleanBuffer, DataFusionError> {
    Ok(match value {
        ColumnarValue::Scalar(ScalarValue::Boolean(Some(true))) => BooleanBuffer::new_set(rows),
        ColumnarValue::Scalar(_) => BooleanBuffer::new_unset(rows),
        ColumnarValue::Array(array) => {
            let array = array.as_boolean_opt().ok_or_else(|| not_boolean(array))?;
            match array.nulls() {
                Some(nulls) => array.values() & nulls.inner(),
                None => array.values().clone(),
            }
        }
    })
}

/// The rows of a value that are NULL; `None`: none.
pub(crate) fn null_rows(value: &ColumnarValue, rows: usize) -> Option<BooleanBuffer> {
    match value {
        ColumnarValue::Scalar(scalar) => scalar.is_null().then(|| BooleanBuffer::new_set(rows)),
        ColumnarValue::Array(array) => array.nulls().filter(|nulls| nulls.null_count() > 0).map(|nulls| !nulls.inner()),
    }
}

/// `value` with NULL in these rows.
pub(crate) fn null_where(
    value: ColumnarValue,
    rows: usize,
    mask: &BooleanBuffer,
) -> Result<ColumnarValue, DataFusionError> {
    let array = value.into_array(rows)?;
    Ok(ColumnarValue::Array(nullif(&array, &BooleanArray::new(mask.clone(), None))?))
}

fn not_boolean(array: &ArrayRef) -> DataFusionError {
    DataFusionError::Internal(format!("a BOOLEAN was expected, not {}", array.data_type()))
}
