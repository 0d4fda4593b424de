//! Rewrites blocks of a partition: drops records and joins small blocks, without moving an offset.
//!
//! Never touches the newest block, from which the end is recovered. The subtle thing: each batch of writes leaves the partition
//! whole, with every record that is to stay in exactly one block, so that it may stop or crash after any of them.

use arrow::array::BooleanArray;
use bytes::Bytes;

use super::EmbeddedLog;
use super::block::{self, Rows};
use super::commit::SMALL_BLOCK_BYTES;
use super::index::{Topic, first_offset};
use super::keys;
use super::read::Blocks;
use crate::storage::{Batch, Space};
use crate::topic::batch::rows_within;
use crate::topic::{Offset, RawBatch, TopicError};

/// A block spans fewer offsets than this, so that deltas fit.
const MAX_SPAN: Offset = 1 << 31;

/// What a rewrite did.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rewritten {
    /// records that went
    pub removed: u64,
    /// records that stayed
    pub kept: u64,
}

/// The range of a partition to rewrite.
pub(super) struct Range<'a> {
    pub(super) topic: &'a Topic,
    pub(super) partition: i32,
    /// first offset
    pub(super) from: Offset,
    /// blocks that begin here are not touched any more; at most where the newest block begins
    pub(super) to: Offset,
}

/// Blocks that become one.
#[derive(Default)]
struct Joined {
    /// the keys they have
    sources: Vec<Bytes>,
    parts: Vec<RawBatch>,
    bytes: usize,
    /// records of them went, so that they must be written even if there is one
    changed: bool,
}

/// Rewrites the blocks of `range`; `keep` says which records stay (`None`: all).
///
/// # Errors
/// If the storage cannot be read or written.
pub(super) fn rewrite(
    log: &EmbeddedLog,
    range: &Range<'_>,
    keep: &dyn Fn(&RawBatch) -> Option<BooleanArray>,
) -> Result<Rewritten, TopicError> {
    let snapshot = log.storage.snapshot()?;
    let (mut done, mut joined) = (Rewritten::default(), Joined::default());
    for block in Blocks::find(&snapshot, range.topic.id, range.partition, range.from, range.to)? {
        let block = block?;
        let batch = block.batch()?;
        let kept = match keep(&batch) {
            Some(mask) if mask.true_count() < batch.len() => batch.filter(&mask)?,
            _ => batch.clone(),
        };
        let removed = batch.len() - kept.len();
        done.removed += removed as u64;
        done.kept += kept.len() as u64;
        if removed == 0 && block.byte_size() >= SMALL_BLOCK_BYTES {
            joined.write(log, range)?;
            continue;
        }
        if joined.is_full(log, &kept) {
            joined.write(log, range)?;
        }
        joined.add(keys::block(range.topic.id, range.partition, block.base()).to_vec().into(), kept, removed > 0);
    }
    joined.write(log, range)?;
    drop(snapshot);
    move_start(log, range)?;
    Ok(done)
}

/// The newest block of a partition.
///
/// # Errors
/// If the storage cannot be read.
pub(super) fn newest_block(log: &EmbeddedLog, topic: &Topic, number: i32) -> Result<Option<Offset>, TopicError> {
    let snapshot = log.storage.snapshot()?;
    let (from, to) = (keys::block(topic.id, number, 0), keys::block(topic.id, number, Offset::MAX));
    let newest = snapshot.scan(Space::Records, &from, Some(&to)).next_back();
    newest.map(|entry| keys::block_base(&entry.key()?)).transpose()
}

/// Moves the start to the first block that is there.
///
/// # Errors
/// If the storage cannot be read.
pub(super) fn move_start(log: &EmbeddedLog, range: &Range<'_>) -> Result<(), TopicError> {
    let _writer = log.writer.lock();
    let first = first_offset(&log.storage.snapshot()?, range.topic.id, range.partition)?;
    if let Some((_, partition)) = range.topic.partitions().find(|(number, _)| *number == range.partition) {
        partition.set_start(first.unwrap_or(partition.bounds().end));
    }
    Ok(())
}

impl Joined {
    fn add(&mut self, key: Bytes, kept: RawBatch, changed: bool) {
        self.sources.push(key);
        self.changed |= changed;
        self.bytes += kept.byte_size();
        if !kept.is_empty() {
            self.parts.push(kept);
        }
    }

    /// True if `next` shall not join any more.
    fn is_full(&self, log: &EmbeddedLog, next: &RawBatch) -> bool {
        let first = self.parts.first().and_then(|p| p.offsets.first());
        let too_wide = first.zip(next.end()).is_some_and(|(first, end)| end - first >= MAX_SPAN);
        too_wide || self.bytes + next.byte_size() > log.options.block_bytes
    }

    /// Puts one block in the place of the sources, unless that changes nothing.
    fn write(&mut self, log: &EmbeddedLog, range: &Range<'_>) -> Result<(), TopicError> {
        let Self { sources, parts, changed, .. } = std::mem::take(self);
        if !changed && sources.len() < 2 {
            return Ok(());
        }
        let mut batch = Batch::default();
        sources.into_iter().for_each(|key| batch.remove(Space::Records, key));
        let records = RawBatch::concat(&parts)?;
        let mut from = 0;
        while from < records.len() {
            let rest = records.len() - from;
            let len = rows_within(&records.keys, &records.values, from, rest, log.options.block_bytes, true);
            let offsets = &records.offsets[from..from + len];
            let contiguous = offsets[len - 1] - offsets[0] == len as Offset - 1;
            // Times were given when the records came; what looks like none is one.
            let now_ms = crate::topic::NO_TIMESTAMP;
            let bytes = block::encode(&[Rows { batch: &records, from, len }], contiguous, now_ms);
            batch.put(Space::Records, keys::block(range.topic.id, range.partition, offsets[0]).to_vec(), bytes);
            from += len;
        }
        let _writer = log.writer.lock();
        range.topic.check()?;
        Ok(log.storage.write(batch)?)
    }
}
