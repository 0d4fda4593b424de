//! The batch that flows between operators: rows of a stream, or changes of a table, as Arrow columns.
//!
//! Not a wire format and not a store. The subtle thing: an absent row is not a row of NULLs. A *tombstone* (table) or a
//! NULL-valued record (stream) keeps its key columns and has `present` unset; what its value columns hold then means
//! nothing. Rows keep processing order.

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::buffer::{BooleanBuffer, ScalarBuffer};
use arrow::compute::{filter, take};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;

use super::WindowBounds;

/// Row-aligned facts of a batch beside its columns.
#[derive(Clone, Debug, PartialEq)]
pub struct RowMeta {
    /// row time in ms since the epoch
    pub rowtime: ScalarBuffer<i64>,
    /// place of the row's input row in the step, non-decreasing; two-input operators merge by it
    pub seq: ScalarBuffer<u32>,
    /// offset of the input record each row came from (of its partition and topic: the task's, the input's)
    pub offset: ScalarBuffer<i64>,
    /// window of the row, where the relation is windowed
    pub window: Option<WindowBounds>,
    /// record headers to inherit, `List<Struct<KEY Utf8, VALUE Binary>>`; `None` if no row has any
    pub headers: Option<ArrayRef>,
    /// which rows came with a record key: a record without key is not one whose key columns are all NULL, which only several key
    /// columns can tell apart; `None`: all
    pub keyed: Option<BooleanBuffer>,
}

/// The rows before the change, row-aligned with the new ones.
#[derive(Clone, Debug, PartialEq)]
pub struct OldRows {
    /// same schema as the new rows; key columns are equal
    pub columns: Vec<ArrayRef>,
    /// which old rows exist; `None`: all
    pub present: Option<BooleanBuffer>,
}

/// A batch of changes, in processing order. Columns follow the schema of the operator that made it, key columns first.
#[derive(Clone, Debug, PartialEq)]
pub struct ChangeBatch {
    /// the new rows
    pub columns: Vec<ArrayRef>,
    /// which new rows exist (unset: tombstone or NULL value); `None`: all
    pub present: Option<BooleanBuffer>,
    /// the rows before, where someone downstream asked for them
    pub old: Option<OldRows>,
    /// times, order, windows, headers
    pub meta: RowMeta,
}

impl ChangeBatch {
    /// Number of rows.
    pub fn len(&self) -> usize {
        self.meta.rowtime.len()
    }

    /// True without rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// True if the new row `i` exists.
    pub fn is_present(&self, i: usize) -> bool {
        self.present.as_ref().is_none_or(|p| p.value(i))
    }

    /// True if the old row `i` is known and exists.
    pub fn old_is_present(&self, i: usize) -> bool {
        self.old.as_ref().is_some_and(|old| old.present.as_ref().is_none_or(|p| p.value(i)))
    }

    /// The new rows as a record batch of `schema`, for expressions.
    ///
    /// # Errors
    /// If the columns do not match the schema.
    pub fn to_record_batch(&self, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
        record_batch(schema, self.columns.clone(), self.len())
    }

    /// Rows where `mask` is set, in order.
    ///
    /// # Errors
    /// If `mask` has another length.
    pub fn filter(&self, mask: &BooleanBuffer) -> Result<Self, ArrowError> {
        let mask = BooleanArray::new(mask.clone(), None);
        let indices: Vec<u32> = mask.values().set_indices().map(|i| i as u32).collect();
        let columns = |cols: &[ArrayRef]| cols.iter().map(|c| filter(c, &mask)).collect::<Result<Vec<_>, _>>();
        Ok(Self {
            columns: columns(&self.columns)?,
            present: self.present.as_ref().map(|p| take_bits(p, &indices)),
            old: match &self.old {
                Some(old) => Some(OldRows {
                    columns: columns(&old.columns)?,
                    present: old.present.as_ref().map(|p| take_bits(p, &indices)),
                }),
                None => None,
            },
            meta: self.meta.take(&indices)?,
        })
    }

    /// The rows of these indices, in their order.
    ///
    /// # Errors
    /// If an index is out of range.
    pub fn take(&self, indices: &[u32]) -> Result<Self, ArrowError> {
        let by = UInt32Array::from(indices.to_vec());
        let columns = |cols: &[ArrayRef]| cols.iter().map(|c| take(c, &by, None)).collect::<Result<Vec<_>, _>>();
        Ok(Self {
            columns: columns(&self.columns)?,
            present: self.present.as_ref().map(|p| take_bits(p, indices)),
            old: match &self.old {
                Some(old) => Some(OldRows {
                    columns: columns(&old.columns)?,
                    present: old.present.as_ref().map(|p| take_bits(p, indices)),
                }),
                None => None,
            },
            meta: self.meta.take(indices)?,
        })
    }
}

impl RowMeta {
    /// The facts of these rows, in their order.
    ///
    /// # Errors
    /// If an index is out of range.
    pub fn take(&self, indices: &[u32]) -> Result<Self, ArrowError> {
        let pick = |b: &ScalarBuffer<i64>| indices.iter().map(|&i| b[i as usize]).collect::<ScalarBuffer<i64>>();
        Ok(Self {
            rowtime: pick(&self.rowtime),
            seq: indices.iter().map(|&i| self.seq[i as usize]).collect(),
            offset: pick(&self.offset),
            window: self.window.as_ref().map(|w| WindowBounds { start: pick(&w.start), end: pick(&w.end) }),
            headers: match &self.headers {
                Some(h) => Some(take(h, &UInt32Array::from(indices.to_vec()), None)?),
                None => None,
            },
            keyed: self.keyed.as_ref().map(|bits| take_bits(bits, indices)),
        })
    }
}

/// The bits of these indices, in their order.
pub fn take_bits(bits: &BooleanBuffer, indices: &[u32]) -> BooleanBuffer {
    BooleanBuffer::collect_bool(indices.len(), |i| bits.value(indices[i] as usize))
}

/// A record batch that may have no columns but has rows.
///
/// # Errors
/// If columns and schema do not match.
pub fn record_batch(schema: &SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch, ArrowError> {
    debug_assert!(columns.iter().all(|c| c.len() == rows));
    RecordBatch::try_new_with_options(schema.clone(), columns, &RecordBatchOptions::new().with_row_count(Some(rows)))
}
