//! The sink of a query: rows to records of its topic.
//!
//! Appends nothing itself; records go to the task's [`Outputs`] and out with its commit. The subtle thing: a windowed row is placed by its
//! bare key, and its record key ends in the window.

use arrow::array::Array;
use arrow::buffer::ScalarBuffer;
use arrow::error::ArrowError;

use crate::diagnostic::Diagnostic;
use crate::format::key::encode_windowed;
use crate::format::{self, DecodeFailure, Encoded, RecordEncoder, Side};
use crate::operator::{LossKind, StepContext};
use crate::plan::topology::{KeyWindow, SinkSpec};
use crate::topic::partitioner::partition_for;
use crate::types::{ChangeBatch, TopicName};

use super::error::TaskError;
use super::output::{Outputs, Records, without_rows};
use super::row_time::RowTimeReader;

/// Writes the rows of one query's result, for one task.
pub(super) struct SinkNode {
    topic: TopicName,
    partitions: i32,
    key_count: usize,
    key: Box<dyn RecordEncoder>,
    value: Box<dyn RecordEncoder>,
    window: Option<KeyWindow>,
    /// column of the result that gives the record's timestamp
    timestamp: Option<(usize, RowTimeReader)>,
    /// where records without key go: one place a task, so that their order is kept
    keyless_partition: i32,
}

impl SinkNode {
    /// The sink for the task of `task_partition`; its topic has `partitions` partitions.
    ///
    /// # Errors
    /// If a format cannot hold the columns.
    pub fn new(spec: &SinkSpec, partitions: i32, task_partition: i32) -> Result<Self, Diagnostic> {
        let key_count = spec.schema.key_count();
        let (keys, values) = spec.schema.columns().split_at(key_count);
        let timestamp = match &spec.timestamp {
            Some(timestamp) => {
                let (index, reader) = RowTimeReader::for_column(timestamp, &spec.schema)?;
                Some((index, reader))
            }
            None => None,
        };
        Ok(Self {
            topic: spec.topic.clone(),
            partitions,
            key_count,
            key: format::encoder(&spec.key_format, Side::Key, keys)?,
            value: format::encoder(&spec.value_format, Side::Value, values)?,
            window: spec.window,
            timestamp,
            keyless_partition: task_partition % partitions,
        })
    }

    /// Encodes the rows and adds them to `out`; rows that no format writes are losses.
    ///
    /// # Errors
    /// If Arrow refuses: a defect of ours.
    pub fn write(&mut self, batch: ChangeBatch, ctx: &mut StepContext, out: &mut Outputs) -> Result<(), TaskError> {
        let (batch, timestamps) = self.row_times(batch, ctx)?;
        let (keys, values) = batch.columns.split_at(self.key_count);
        let Encoded { payloads: key_bytes, mut failures } =
            self.key.encode(keys, batch.meta.keyed.as_ref(), batch.len());
        let value = self.value.encode(values, batch.present.as_ref(), batch.len());
        failures.extend(value.failures);
        if !failures.is_empty() {
            let good = self.lose(&batch, failures, ctx)?;
            return if good.is_empty() { Ok(()) } else { self.write(good, ctx, out) };
        }
        let bare = key_bytes.clone();
        let keys = match (self.window, &batch.meta.window) {
            (Some(kind), Some(bounds)) => encode_windowed(&key_bytes, bounds, kind == KeyWindow::Session),
            _ => key_bytes,
        };
        let records = Records { timestamps, keys, values: value.payloads, headers: batch.meta.headers.clone() };
        let (partitions, keyless) = (self.partitions, self.keyless_partition);
        Ok(out.spread(&self.topic, partitions, records, |row| {
            if bare.is_null(row) { keyless } else { partition_for(bare.value(row), partitions) }
        })?)
    }

    /// Record timestamps, without the rows whose timestamp column holds none. Tombstones keep the computed time.
    fn row_times(
        &mut self,
        batch: ChangeBatch,
        ctx: &mut StepContext,
    ) -> Result<(ChangeBatch, ScalarBuffer<i64>), ArrowError> {
        let Some((column, reader)) = &self.timestamp else {
            let times = batch.meta.rowtime.clone();
            return Ok((batch, times));
        };
        let read = reader.read(&batch.columns[*column]);
        let mut times = Vec::with_capacity(batch.len());
        let mut drop = Vec::new();
        for row in 0..batch.len() {
            match read.time(row) {
                _ if !batch.is_present(row) => times.push(batch.meta.rowtime[row]),
                Ok(time) => times.push(time),
                Err(reason) => {
                    ctx.lose(batch.meta.offset[row], LossKind::BadTimestamp, reason);
                    drop.push(row);
                }
            }
        }
        Ok((without_rows(&batch, &drop)?, times.into()))
    }

    fn lose(
        &self,
        batch: &ChangeBatch,
        mut failures: Vec<DecodeFailure>,
        ctx: &mut StepContext,
    ) -> Result<ChangeBatch, ArrowError> {
        failures.sort_by_key(|f| f.row);
        failures.dedup_by_key(|f| f.row);
        for failure in &failures {
            ctx.lose(
                batch.meta.offset[failure.row],
                LossKind::Unencodable,
                format!("row for topic '{}': {}", self.topic, failure.reason),
            );
        }
        without_rows(batch, &failures.iter().map(|f| f.row).collect::<Vec<_>>())
    }
}
