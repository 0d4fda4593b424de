//! A batch on its way into an aggregate: encoded keys, evaluated arguments, and which rows count.
//!
//! Knows no groups. The subtle thing: rows that are absent, or have a NULL in their key, are dropped here, the latter with a report.

use arrow::array::{Array, ArrayRef};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::SchemaRef;

use crate::plan::topology::AggregateSpec;
use crate::state::encoding::{EncodedRows, KeyCodec};
use crate::types::ChangeBatch;

use super::computed::{Computed, report};
use super::port::{key_names, slice};
use super::tick::tick;
use super::{LossKind, OperatorError, StepContext};

/// Evaluates what the accumulators of a spec read.
pub(super) struct Inputs {
    computed: Computed,
    /// which computed columns each accumulator reads
    ranges: Vec<std::ops::Range<usize>>,
    carried: Vec<usize>,
    key_count: usize,
    key_names: String,
    table: bool,
    schema: SchemaRef,
}

/// A batch that is being aggregated.
pub(super) struct Pending {
    /// the rows
    pub batch: ChangeBatch,
    /// their encoded keys, without window
    pub keys: EncodedRows,
    /// their hashes
    pub hashes: Vec<u64>,
    /// argument columns of each accumulator
    pub args: Vec<Vec<ArrayRef>>,
    /// the same of the old rows; empty for streams
    pub old_args: Vec<Vec<ArrayRef>>,
    /// rows that count; `None`: all
    pub accepted: Option<BooleanBuffer>,
    /// the next row
    pub next: usize,
    /// its only row is of no record and closes windows
    pub is_tick: bool,
}

impl Inputs {
    /// The inputs of `spec` over rows of `schema`.
    ///
    /// # Errors
    /// If an argument names a column that is not there: a defect of ours.
    pub fn new(spec: &AggregateSpec, schema: &SchemaRef) -> Result<Self, OperatorError> {
        let exprs: Vec<_> = spec.calls.iter().flat_map(|call| call.args.iter().cloned()).collect();
        let mut from = 0;
        let ranges = spec.calls.iter().map(|call| {
            let range = from..from + call.args.len();
            from = range.end;
            range
        });
        Ok(Self {
            ranges: ranges.collect(),
            computed: Computed::new("aggregate", &exprs, schema)?,
            carried: spec.carried.clone(),
            key_count: spec.key_count,
            key_names: key_names(schema, spec.key_count),
            table: spec.table_input,
            schema: schema.clone(),
        })
    }

    /// A row that closes windows.
    pub fn tick(&self, time: i64) -> ChangeBatch {
        tick(self.schema.fields().iter().map(|field| field.data_type()), time, false)
    }

    /// Prepares a batch.
    ///
    /// # Errors
    /// A defect of ours.
    pub fn open(&self, batch: ChangeBatch, keys: &KeyCodec, ctx: &mut StepContext) -> Result<Pending, OperatorError> {
        let rows = batch.len();
        let accepted = self.accept(&batch, ctx);
        let mut failures = Vec::new();
        let present = match (&accepted, &batch.present) {
            (Some(accepted), Some(present)) => Some(accepted & present),
            (one, other) => one.as_ref().or(other.as_ref()).cloned(),
        };
        let args = self.arguments(&batch.columns, rows, present.as_ref(), &mut failures)?;
        report(failures, &batch.meta.offset, ctx);
        let old_args = match batch.old.as_ref().filter(|_| self.table) {
            Some(old) => self.arguments(&old.columns, rows, old.present.as_ref(), &mut Vec::new())?,
            None => Vec::new(),
        };
        let keys = keys.encode(&batch.columns[..self.key_count], rows)?;
        Ok(Pending { batch, keys, hashes: Vec::with_capacity(rows), args, old_args, accepted, next: 0, is_tick: false })
    }

    fn arguments(
        &self,
        columns: &[ArrayRef],
        rows: usize,
        present: Option<&BooleanBuffer>,
        failures: &mut Vec<(usize, String)>,
    ) -> Result<Vec<Vec<ArrayRef>>, OperatorError> {
        let computed = self.computed.evaluate_all(columns, rows, present, failures)?;
        let carried = self.carried.iter().map(|&i| vec![columns[i].clone()]);
        Ok(carried.chain(self.ranges.iter().map(|range| computed[range.clone()].to_vec())).collect())
    }

    /// Streams: rows that are present. Tables: rows of which a half is. Neither with a NULL in the key.
    fn accept(&self, batch: &ChangeBatch, ctx: &mut StepContext) -> Option<BooleanBuffer> {
        let rows = batch.len();
        let there = match (&batch.present, &batch.old) {
            (None, _) => None,
            (Some(present), Some(old)) if self.table => old.present.as_ref().map(|old| old | present),
            (Some(present), _) => Some(present.clone()),
        };
        let keys = &batch.columns[..self.key_count];
        if keys.iter().all(|key| key.logical_null_count() == 0) {
            return there;
        }
        let nulls: Vec<_> = keys.iter().filter_map(|key| key.logical_nulls()).collect();
        let there = there.unwrap_or_else(|| BooleanBuffer::new_set(rows));
        Some(BooleanBuffer::collect_bool(rows, |row| {
            let no_key = nulls.iter().any(|nulls| nulls.is_null(row));
            if no_key && there.value(row) {
                let reason = format!("a group needs a key, but of {} one is NULL", self.key_names);
                ctx.lose(batch.meta.offset[row], LossKind::NullKey, reason);
            }
            there.value(row) && !no_key
        }))
    }
}

impl Pending {
    /// The rows to come, if there are any.
    pub fn rest(&self) -> Option<ChangeBatch> {
        let left = self.batch.len() - self.next;
        (left > 0).then(|| slice(&self.batch, self.next, left))
    }

    /// True if row `row` counts.
    #[inline]
    pub fn counts(&self, row: usize) -> bool {
        self.accepted.as_ref().is_none_or(|accepted| accepted.value(row))
    }

    /// The argument columns of accumulator `i` for rows `from .. to`: of the new rows, and of the old ones.
    pub fn arguments(&self, i: usize, from: usize, to: usize) -> (Vec<ArrayRef>, Vec<ArrayRef>) {
        let cut = |args: &[ArrayRef]| args.iter().map(|arg| arg.slice(from, to - from)).collect();
        (cut(&self.args[i]), self.old_args.get(i).map(|args| cut(args)).unwrap_or_default())
    }
}
