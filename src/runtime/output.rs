//! What a task has made since its last commit: records by partition, and rows for a client.
//!
//! Encodes nothing. The subtle thing: the order of records within a partition is the order of [`Outputs::append`], however many batches
//! they came in. Batches are not joined here: the log gathers them as it encodes, so that no byte is copied for it.

use std::collections::HashMap;

use arrow::array::{ArrayRef, AsArray, BinaryArray, UInt32Array};
use arrow::buffer::ScalarBuffer;
use arrow::compute::take;
use arrow::error::ArrowError;

use crate::topic::{Append, TopicPartition};
use crate::types::{ChangeBatch, TopicName};

/// Records of one batch before they are spread over partitions, row-aligned.
pub(super) struct Records {
    /// row times in ms
    pub timestamps: ScalarBuffer<i64>,
    /// key bytes
    pub keys: BinaryArray,
    /// value bytes
    pub values: BinaryArray,
    /// inherited headers
    pub headers: Option<ArrayRef>,
}

impl Records {
    fn take(&self, indices: &[u32]) -> Result<Self, ArrowError> {
        let by = UInt32Array::from(indices.to_vec());
        Ok(Self {
            timestamps: indices.iter().map(|&i| self.timestamps[i as usize]).collect(),
            keys: take(&self.keys, &by, None)?.as_binary().clone(),
            values: take(&self.values, &by, None)?.as_binary().clone(),
            headers: self.headers.as_ref().map(|h| take(h, &by, None)).transpose()?,
        })
    }
}

/// Outputs of a task that are not committed yet.
#[derive(Default)]
pub(super) struct Outputs {
    appends: Vec<(TopicPartition, Vec<Append>)>,
    places: HashMap<TopicPartition, usize>,
    bytes: usize,
    /// batches for the client of a push query, in order
    pub client: Vec<ChangeBatch>,
    client_rows: usize,
}

impl Outputs {
    /// True if nothing waits for a commit.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0 && self.client.is_empty()
    }

    /// Bytes of the records that wait, about.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Rows for the client that wait.
    pub fn client_rows(&self) -> usize {
        self.client_rows
    }

    /// Adds rows for the client.
    pub fn push_client(&mut self, batch: ChangeBatch) {
        self.client_rows += batch.len();
        self.client.push(batch);
    }

    /// Adds records to one partition.
    pub fn append(&mut self, to: TopicPartition, records: Records) {
        if records.timestamps.is_empty() {
            return;
        }
        let Records { timestamps, keys, values, headers } = records;
        self.bytes += 24 * timestamps.len() + payload_bytes(&keys) + payload_bytes(&values);
        let append = Append { to: to.clone(), timestamps, keys, values, headers };
        match self.places.get(&to) {
            Some(&place) => self.appends[place].1.push(append),
            None => {
                self.places.insert(to.clone(), self.appends.len());
                self.appends.push((to, vec![append]));
            }
        }
    }

    /// Adds records to the partitions that `partition_of` names, row by row.
    ///
    /// # Errors
    /// If Arrow cannot pick rows: a defect of ours.
    pub fn spread(
        &mut self,
        topic: &TopicName,
        partitions: i32,
        records: Records,
        partition_of: impl Fn(usize) -> i32,
    ) -> Result<(), ArrowError> {
        for (partition, rows) in by_partition(partitions, records.timestamps.len(), partition_of) {
            let to = TopicPartition::new(topic.clone(), partition);
            match rows {
                Some(rows) => self.append(to, records.take(&rows)?),
                None => {
                    self.append(to, records);
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// The records as a commit wants them, partition by partition; nothing is left here but the client's rows.
    pub fn take_appends(&mut self) -> Vec<Append> {
        self.places.clear();
        self.bytes = 0;
        self.appends.drain(..).flat_map(|(_, parts)| parts).collect()
    }

    /// The client's rows; none are left here.
    pub fn take_client(&mut self) -> Vec<ChangeBatch> {
        self.client_rows = 0;
        std::mem::take(&mut self.client)
    }
}

/// The rows of each partition that gets any, in order; `None` stands for all rows (and is then the only entry).
pub(super) fn by_partition(
    partitions: i32,
    rows: usize,
    partition_of: impl Fn(usize) -> i32,
) -> Vec<(i32, Option<Vec<u32>>)> {
    if rows == 0 {
        return Vec::new();
    }
    if partitions == 1 {
        return vec![(0, None)];
    }
    // Where the key is that of the input, all rows stay in the partition they came from.
    let first = partition_of(0);
    let Some(other) = (1..rows).find(|&row| partition_of(row) != first) else { return vec![(first, None)] };
    let mut lists: Vec<Vec<u32>> =
        (0..partitions).map(|_| Vec::with_capacity(rows / partitions as usize * 5 / 4)).collect();
    lists[first as usize].extend(0..other as u32);
    for row in other..rows {
        lists[partition_of(row) as usize].push(row as u32);
    }
    let used = lists.into_iter().enumerate().filter(|(_, list)| !list.is_empty());
    used.map(|(p, list)| (p as i32, Some(list))).collect()
}

/// Bytes of all payloads, without the array's own buffers.
fn payload_bytes(array: &BinaryArray) -> usize {
    let offsets = array.value_offsets();
    (offsets[offsets.len() - 1] - offsets[0]) as usize
}

/// The rows of `batch` that are not in `drop` (ascending), or the batch itself if none is.
///
/// # Errors
/// If Arrow cannot filter: a defect of ours.
pub(super) fn without_rows(batch: &ChangeBatch, drop: &[usize]) -> Result<ChangeBatch, ArrowError> {
    if drop.is_empty() {
        return Ok(batch.clone());
    }
    let mut dropped = drop.iter().copied().peekable();
    let keep: Vec<u32> =
        (0..batch.len()).filter(|row| dropped.next_if_eq(row).is_none()).map(|row| row as u32).collect();
    batch.take(&keep)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(values: &[&str]) -> Records {
        Records {
            timestamps: (0..values.len() as i64).collect(),
            keys: values.iter().map(|_| None::<&[u8]>).collect(),
            values: values.iter().map(|v| Some(v.as_bytes())).collect(),
            headers: None,
        }
    }

    #[test]
    fn records_keep_their_order_in_a_partition() {
        let mut out = Outputs::default();
        let topic = TopicName::new("t");
        out.spread(&topic, 2, records(&["a", "b", "c"]), |row| (row % 2) as i32).unwrap();
        out.spread(&topic, 2, records(&["d", "e"]), |_| 0).unwrap();
        let appends = out.take_appends();
        let texts: Vec<(i32, Vec<&[u8]>)> =
            appends.iter().map(|a| (a.to.partition, a.values.iter().flatten().collect())).collect();
        assert_eq!(texts, [(0, vec![&b"a"[..], b"c"]), (0, vec![&b"d"[..], b"e"]), (1, vec![&b"b"[..]])]);
        assert!(out.is_empty());
    }
}
