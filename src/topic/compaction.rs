//! What compaction keeps: the latest record of each key. Pure, and the same for every log that compacts.
//!
//! Knows records, not where they are stored. The subtle thing: a record is dropped only for a later one of its key that was noted, so
//! that noting a part of a topic is safe; and a tombstone goes only with everything before it, once it is old.

use ahash::AHashMap;
use arrow::array::{Array, BooleanArray};
use arrow::buffer::BooleanBuffer;

use super::{Offset, RawBatch};

/// What an entry costs beside its key, bytes.
const ENTRY_BYTES: usize = 40;

/// The last offset of each key.
#[derive(Default)]
pub(super) struct Latest {
    offsets: AHashMap<Box<[u8]>, Offset>,
    bytes: usize,
}

impl Latest {
    /// Notes all keys of `batch`, which comes after all batches noted before.
    pub(super) fn note(&mut self, batch: &RawBatch) {
        for (key, offset) in batch.keys.iter().zip(batch.offsets.iter()) {
            let Some(key) = key else { continue };
            match self.offsets.get_mut(key) {
                Some(latest) => *latest = *offset,
                None => {
                    self.bytes += key.len() + ENTRY_BYTES;
                    self.offsets.insert(key.into(), *offset);
                }
            }
        }
    }

    /// Memory it takes, about.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Which records of `batch` stay. Records without a key do; tombstones do if they are not older than `tombstones_from_ms`.
    pub(super) fn keep(&self, batch: &RawBatch, tombstones_from_ms: i64) -> BooleanArray {
        let keep = BooleanBuffer::collect_bool(batch.len(), |row| {
            if batch.keys.is_null(row) {
                return true;
            }
            let later = self.offsets.get(batch.keys.value(row)).is_some_and(|latest| *latest > batch.offsets[row]);
            let old_tombstone = batch.values.is_null(row) && batch.timestamps[row] < tombstones_from_ms;
            !later && !old_tombstone
        });
        BooleanArray::new(keep, None)
    }
}
