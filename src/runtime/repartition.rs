//! The writing and reading end of an internal repartition topic.
//!
//! Not a partitioner of its own: rows go where the default partitioner would put a record whose key the sink's key format wrote, so
//! that a side of a join that is not repartitioned lies in the same partitions. The subtle thing: a table change whose key moved becomes
//! two rows, first the removal under the old key, then the insertion under the new one.

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray};
use arrow::buffer::{BooleanBuffer, ScalarBuffer};
use arrow::compute::interleave;
use arrow::datatypes::Int32Type;
use arrow::error::ArrowError;

use crate::diagnostic::Diagnostic;
use crate::format::{self, Encoded, RecordEncoder, Side};
use crate::operator::{LossKind, StepContext};
use crate::plan::topology::InternalTopic;
use crate::topic::partitioner::partition_for;
use crate::topic::{RawBatch, TopicError, TopicPartition};
use crate::types::{ChangeBatch, OldRows, TopicName};

use super::error::TaskError;
use super::output::{Outputs, Records, by_partition, without_rows};
use super::repartition_payload::PayloadCodec;
use super::rows;

/// A payload above this is cut in two, so that no broker refuses it.
const PAYLOAD_BYTES_MAX: usize = 512 * 1024;

/// Which rows go no further than the repartition.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dropping {
    /// rows with a NULL in a key column
    pub null_keys: bool,
    /// rows that are absent, before and after
    pub absent: bool,
}

/// Writes rows to an internal topic, for one task.
pub(super) struct RepartitionSink {
    topic: TopicName,
    partitions: i32,
    key_count: usize,
    codec: PayloadCodec,
    key: Box<dyn RecordEncoder>,
    dropping: Dropping,
    /// where rows without key go
    keyless_partition: i32,
    /// the column that names the partition of a row, in place of its key
    by_column: Option<usize>,
}

impl RepartitionSink {
    /// The same, but rows go to the partition that a column of theirs names.
    pub fn by_column(self, column: usize) -> Self {
        Self { by_column: Some(column), ..self }
    }

    /// The writing end for the task of `task_partition`.
    ///
    /// # Errors
    /// If the key format cannot hold the key columns.
    pub fn new(topic: &InternalTopic, dropping: Dropping, task_partition: i32) -> Result<Self, Diagnostic> {
        Ok(Self {
            topic: topic.name.clone(),
            partitions: topic.partitions,
            key_count: topic.key_count,
            codec: PayloadCodec::new(&topic.schema, topic.key_count),
            key: format::encoder(&topic.key_format, Side::Key, &topic.schema[..topic.key_count])?,
            dropping,
            keyless_partition: task_partition % topic.partitions,
            by_column: None,
        })
    }

    /// Adds the rows to `out`, one record a partition. `arrivals` is the order of arrival by `seq`, where known.
    ///
    /// # Errors
    /// If Arrow refuses: a defect of ours.
    pub fn write(
        &mut self,
        batch: ChangeBatch,
        arrivals: Option<&[i64]>,
        ctx: &mut StepContext,
        out: &mut Outputs,
    ) -> Result<(), TaskError> {
        let batch = self.split_moved(batch)?;
        let batch = self.drop_rows(batch, ctx)?;
        let named = self.by_column.map(|column| batch.columns[column].as_primitive::<Int32Type>().clone());
        let Encoded { payloads: keys, failures } = if self.partitions == 1 || named.is_some() {
            Encoded { payloads: BinaryArray::new_null(batch.len()), failures: Vec::new() }
        } else {
            self.key.encode(&batch.columns[..self.key_count], None, batch.len())
        };
        for failure in &failures {
            let reason = format!("key for topic '{}': {}", self.topic, failure.reason);
            ctx.lose(batch.meta.offset[failure.row], LossKind::Unencodable, reason);
        }
        let bad: Vec<usize> = failures.iter().map(|f| f.row).collect();
        let keys = if bad.is_empty() { keys } else { keep_keys(&keys, &bad) };
        let batch = without_rows(&batch, &bad)?;
        let (partitions, keyless) = (self.partitions, self.keyless_partition);
        let place = |row: usize| {
            if let Some(named) = &named {
                named.value(row).rem_euclid(partitions)
            } else if keys.is_null(row) {
                keyless
            } else {
                partition_for(keys.value(row), partitions)
            }
        };
        let arrivals: Option<ScalarBuffer<i64>> =
            arrivals.map(|a| batch.meta.seq.iter().map(|&s| a.get(s as usize).copied().unwrap_or(i64::MAX)).collect());
        for (partition, rows) in by_partition(partitions, batch.len(), place) {
            let to = TopicPartition::new(self.topic.clone(), partition);
            match rows {
                None => self.put(&batch, arrivals.as_ref(), &to, out)?,
                Some(rows) => {
                    let arrivals = arrivals.as_ref().map(|a| rows.iter().map(|&r| a[r as usize]).collect());
                    self.put(&batch.take(&rows)?, arrivals.as_ref(), &to, out)?;
                }
            }
        }
        Ok(())
    }

    fn put(
        &mut self,
        batch: &ChangeBatch,
        arrivals: Option<&ScalarBuffer<i64>>,
        to: &TopicPartition,
        out: &mut Outputs,
    ) -> Result<(), TaskError> {
        let payload = self.codec.encode(batch, arrivals)?;
        if payload.len() > PAYLOAD_BYTES_MAX && batch.len() > 1 {
            let (half, rest) = (batch.len() / 2, batch.len() - batch.len() / 2);
            self.put(&rows::slice(batch, 0, half), arrivals.map(|a| a.slice(0, half)).as_ref(), to, out)?;
            return self.put(&rows::slice(batch, half, rest), arrivals.map(|a| a.slice(half, rest)).as_ref(), to, out);
        }
        let latest = batch.meta.rowtime.iter().copied().max().unwrap_or(0);
        let records = Records {
            timestamps: vec![latest].into(),
            keys: BinaryArray::new_null(1),
            values: BinaryArray::from_vec(vec![&payload]),
            headers: None,
        };
        out.append(to.clone(), records);
        Ok(())
    }

    fn drop_rows(&self, batch: ChangeBatch, ctx: &mut StepContext) -> Result<ChangeBatch, ArrowError> {
        let keys = &batch.columns[..self.key_count];
        let drop_null_keys = self.dropping.null_keys && keys.iter().any(|k| k.null_count() > 0);
        let drop_absent = self.dropping.absent && batch.present.is_some();
        if !drop_null_keys && !drop_absent {
            return Ok(batch);
        }
        let mut drop = Vec::new();
        for row in 0..batch.len() {
            let absent = !batch.is_present(row) && !batch.old_is_present(row);
            if self.dropping.absent && absent {
                drop.push(row);
            } else if drop_null_keys && keys.iter().any(|k| k.is_null(row)) {
                ctx.lose(batch.meta.offset[row], LossKind::NullKey, "a grouping key is NULL");
                drop.push(row);
            }
        }
        without_rows(&batch, &drop)
    }

    /// Cuts changes whose old and new row have different keys into two.
    fn split_moved(&mut self, batch: ChangeBatch) -> Result<ChangeBatch, TaskError> {
        let Some(old) = &batch.old else { return Ok(batch) };
        let mut pairs = batch.columns[..self.key_count].iter().zip(&old.columns);
        if pairs.all(|(new, old)| std::sync::Arc::ptr_eq(new, old)) {
            return Ok(batch);
        }
        let new_keys = self.key.encode(&batch.columns[..self.key_count], None, batch.len()).payloads;
        let old_keys = self.key.encode(&old.columns[..self.key_count], None, batch.len()).payloads;
        let both = |row: usize| batch.is_present(row) && batch.old_is_present(row);
        let same = |row: usize| {
            new_keys.is_null(row) == old_keys.is_null(row)
                && (new_keys.is_null(row) || new_keys.value(row) == old_keys.value(row))
        };
        if (0..batch.len()).all(|row| same(row) || (!both(row) && !batch.old_is_present(row))) {
            return Ok(batch);
        }
        let mut halves = Vec::with_capacity(batch.len() + batch.len() / 2);
        for row in 0..batch.len() {
            if same(row) {
                halves.push(Half { row, new: true, old: true });
                continue;
            }
            if batch.old_is_present(row) {
                halves.push(Half { row, new: false, old: true });
            }
            if batch.is_present(row) || !batch.old_is_present(row) {
                halves.push(Half { row, new: true, old: false });
            }
        }
        Ok(split(&batch, old, &halves, self.key_count)?)
    }
}

/// A row of a split batch: which parts of row `row` it carries.
struct Half {
    row: usize,
    new: bool,
    old: bool,
}

fn split(batch: &ChangeBatch, old: &OldRows, halves: &[Half], key_count: usize) -> Result<ChangeBatch, ArrowError> {
    let rows: Vec<u32> = halves.iter().map(|h| h.row as u32).collect();
    let mut result = batch.take(&rows)?;
    // a half that carries only the old row stands under the old key
    let from: Vec<(usize, usize)> = halves.iter().map(|h| (usize::from(!h.new), h.row)).collect();
    let keys: Vec<ArrayRef> = (0..key_count)
        .map(|k| interleave(&[batch.columns[k].as_ref(), old.columns[k].as_ref()], &from))
        .collect::<Result<_, _>>()?;
    result.columns[..key_count].clone_from_slice(&keys);
    result.present =
        Some(BooleanBuffer::collect_bool(halves.len(), |i| halves[i].new && batch.is_present(halves[i].row)));
    if let Some(old_rows) = &mut result.old {
        old_rows.columns[..key_count].clone_from_slice(&keys);
        old_rows.present =
            Some(BooleanBuffer::collect_bool(halves.len(), |i| halves[i].old && batch.old_is_present(halves[i].row)));
    }
    Ok(result)
}

fn keep_keys(keys: &BinaryArray, drop: &[usize]) -> BinaryArray {
    let mut dropped = drop.iter().copied().peekable();
    keys.iter().enumerate().filter(|(row, _)| dropped.next_if_eq(row).is_none()).map(|(_, key)| key).collect()
}

/// Reads an internal topic.
pub(super) struct RepartitionReader {
    codec: PayloadCodec,
}

impl RepartitionReader {
    /// The reading end.
    pub fn new(topic: &InternalTopic) -> Self {
        Self { codec: PayloadCodec::new(&topic.schema, topic.key_count) }
    }

    /// The rows of these records, in order, but for the first `consumed` rows of the first record; and their order of arrival, if all
    /// records know it.
    ///
    /// # Errors
    /// If a payload is damaged: that is not the user's record but ours, so it stops the query.
    pub fn decode(
        &mut self,
        raw: &RawBatch,
        consumed: u32,
    ) -> Result<(Option<ChangeBatch>, Option<ScalarBuffer<i64>>), TaskError> {
        let mut pieces = Vec::with_capacity(raw.len());
        let mut arrivals: Option<Vec<i64>> = Some(Vec::new());
        for record in 0..raw.len() {
            if raw.values.is_null(record) {
                return Err(TopicError::Corrupt("repartition record: no payload".into()).into());
            }
            let (mut batch, mut arrived) = self.codec.decode(raw.values.value(record), raw.offsets[record])?;
            if record == 0 && consumed > 0 {
                let skip = (consumed as usize).min(batch.len());
                let left = batch.len() - skip;
                batch = rows::slice(&batch, skip, left);
                arrived = arrived.map(|a| a.slice(skip, left));
            }
            match (&mut arrivals, arrived) {
                (Some(all), Some(some)) => all.extend_from_slice(&some),
                _ => arrivals = None,
            }
            pieces.push(batch);
        }
        Ok((rows::join(pieces)?, arrivals.map(Into::into)))
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{AsArray, Int64Array, StringArray};
    use arrow::datatypes::Int64Type;
    use std::sync::Arc;

    use super::*;
    use crate::format::{Format, FormatSpec};
    use crate::types::{Column, RowMeta, SqlType, WindowBounds};

    fn topic(partitions: i32) -> InternalTopic {
        InternalTopic {
            name: "r".into(),
            partitions,
            schema: vec![Column::key("K", SqlType::String), Column::value("V", SqlType::BigInt)],
            key_count: 1,
            key_format: FormatSpec::new(Format::Kafka),
        }
    }

    type Row<'a> = (Option<&'a str>, Option<i64>);

    /// A change for each pair of old and new row; the value `None`: absent.
    fn changes(rows: &[(Row<'_>, Row<'_>)]) -> ChangeBatch {
        let columns = |pick: fn(&(Row<'_>, Row<'_>)) -> (Option<String>, Option<i64>)| -> Vec<ArrayRef> {
            let keys: StringArray = rows.iter().map(|r| pick(r).0).collect();
            let values: Int64Array = rows.iter().map(|r| pick(r).1).collect();
            vec![Arc::new(keys), Arc::new(values)]
        };
        let n = rows.len();
        ChangeBatch {
            columns: columns(|r| (r.1.0.map(str::to_owned), r.1.1)),
            present: Some(rows.iter().map(|r| r.1.1.is_some()).collect()),
            old: Some(OldRows {
                columns: columns(|r| (r.0.0.map(str::to_owned), r.0.1)),
                present: Some(rows.iter().map(|r| r.0.1.is_some()).collect()),
            }),
            meta: RowMeta {
                rowtime: (0..n as i64).collect(),
                seq: (0..n as u32).collect(),
                offset: vec![7; n].into(),
                window: Some(WindowBounds { start: vec![1; n].into(), end: vec![2; n].into() }),
                headers: None,
                keyed: None,
            },
        }
    }

    /// What comes out at the other end, partition by partition.
    fn through(partitions: i32, batch: ChangeBatch, drop: bool) -> (Vec<ChangeBatch>, usize) {
        let topic = topic(partitions);
        let dropping = Dropping { null_keys: drop, absent: drop };
        let (mut ctx, mut out) = (StepContext::new(), Outputs::default());
        let mut sink = RepartitionSink::new(&topic, dropping, 0).unwrap();
        sink.write(batch, None, &mut ctx, &mut out).unwrap();
        let mut reader = RepartitionReader::new(&topic);
        let read = out.take_appends().into_iter().map(|append| {
            assert_eq!(append.keys.null_count(), append.keys.len());
            let raw = RawBatch {
                offsets: (0..append.values.len() as i64).collect(),
                timestamps: append.timestamps,
                keys: append.keys,
                values: append.values,
                headers: None,
                arrivals: None,
            };
            reader.decode(&raw, 0).unwrap().0.unwrap()
        });
        (read.collect(), ctx.losses.len())
    }

    fn rows(batch: &ChangeBatch) -> Vec<(Option<&str>, Option<i64>, Option<i64>)> {
        let value = |columns: &[ArrayRef], i| columns[1].as_primitive::<Int64Type>().value(i);
        let old = batch.old.as_ref().unwrap();
        let keys = batch.columns[0].as_string::<i32>();
        (0..batch.len())
            .map(|i| {
                let before = batch.old_is_present(i).then(|| value(&old.columns, i));
                (keys.is_valid(i).then(|| keys.value(i)), before, batch.is_present(i).then(|| value(&batch.columns, i)))
            })
            .collect()
    }

    #[test]
    fn a_moved_row_leaves_its_old_key_first() {
        let batch = changes(&[
            ((Some("a"), Some(1)), (Some("a"), Some(2))),
            ((Some("a"), Some(2)), (Some("b"), Some(3))),
            ((Some("x"), None), (Some("c"), Some(4))),
            ((Some("c"), Some(4)), (Some("x"), None)),
        ]);
        let (read, lost) = through(1, batch, true);
        assert_eq!(
            rows(&read[0]),
            [
                (Some("a"), Some(1), Some(2)),
                (Some("a"), Some(2), None),
                (Some("b"), None, Some(3)),
                (Some("c"), None, Some(4)),
                (Some("c"), Some(4), None),
            ]
        );
        assert_eq!(read[0].meta.rowtime[..], [0, 1, 1, 2, 3]);
        assert_eq!(read[0].meta.window.as_ref().unwrap().end[..], [2; 5]);
        assert_eq!(lost, 0);
    }

    #[test]
    fn halves_without_key_and_rows_that_never_were_are_dropped() {
        let batch = changes(&[((Some("a"), Some(1)), (None, Some(2))), ((Some("a"), None), (Some("a"), None))]);
        let (read, lost) = through(1, batch, true);
        assert_eq!((rows(&read[0]), lost), (vec![(Some("a"), Some(1), None)], 1));
    }

    #[test]
    fn both_halves_go_where_their_key_belongs() {
        let batch = changes(&[((Some("a"), Some(1)), (Some("b"), Some(2)))]);
        assert_ne!(partition_for(b"a", 7), partition_for(b"b", 7));
        let (read, _) = through(7, batch, true);
        assert_eq!(read.len(), 2);
        assert!(read.iter().all(|batch| batch.len() == 1));
    }

    #[test]
    fn large_runs_are_cut_and_come_back_whole() {
        let all: Vec<_> = (0..100_000).map(|i| ((Some("a"), None), (Some("a"), Some(i)))).collect();
        let batch = changes(&all);
        let mut out = Outputs::default();
        let topic = topic(1);
        let mut sink = RepartitionSink::new(&topic, Dropping { null_keys: true, absent: true }, 0).unwrap();
        sink.write(batch.clone(), None, &mut StepContext::new(), &mut out).unwrap();
        let appends = out.take_appends();
        let payloads: Vec<&[u8]> = appends.iter().flat_map(|append| append.values.iter().flatten()).collect();
        assert!(payloads.len() > 1 && payloads.iter().all(|payload| payload.len() <= PAYLOAD_BYTES_MAX));
        let (read, _) = through(1, batch, true);
        assert_eq!(read.iter().map(ChangeBatch::len).sum::<usize>(), 100_000);
        assert_eq!(rows(&read[read.len() - 1]).last(), Some(&(Some("a"), None, Some(99_999))));
    }

    #[test]
    fn payloads_of_other_columns_are_refused() {
        let mut other = topic(1);
        other.schema[1] = Column::value("W", SqlType::BigInt);
        let mut codec = PayloadCodec::new(&topic(1).schema, 1);
        let bytes = codec.encode(&changes(&[((Some("a"), None), (Some("a"), Some(1)))]), None).unwrap();
        assert!(codec.decode(&bytes, 0).is_ok());
        assert!(codec.decode(&bytes[..20], 0).is_err());
        assert!(PayloadCodec::new(&other.schema, 1).decode(&bytes, 0).is_err());
    }
}
