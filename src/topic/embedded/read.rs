//! Reads records: finds the block an offset lies in, and hands out what fits.
//!
//! Takes no lock that a writer holds. The subtle thing is how much: a large block is given alone, sharing its memory, while
//! small ones, as low rates leave them, are joined by copying until the limit.

use bytes::Bytes;

use super::EmbeddedLog;
use super::block::Block;
use super::keys::{self, Id};
use crate::storage::{Scan, Snapshot, Space};
use crate::topic::{Fetched, Offset, RawBatch, ReadLimit, TopicError, TopicPartition};

/// From this size on a block is given alone and not copied.
const LARGE_BLOCK_BYTES: usize = 64 << 10;

/// See [`crate::topic::Log::read`].
pub(super) fn read(
    log: &EmbeddedLog,
    at: &TopicPartition,
    from: Offset,
    limit: ReadLimit,
) -> Result<Fetched, TopicError> {
    let topic = log.topic(&at.topic)?;
    let bounds = topic.partition(at)?.bounds();
    if from >= bounds.end {
        return Ok(Fetched { batch: RawBatch::empty(), next: from, end: bounds.end });
    }
    let from = from.max(bounds.start);
    let snapshot = log.storage.snapshot()?;
    let mut taken = Taken { parts: Vec::new(), rows: 0, bytes: 0, next: from };
    let more = take_blocks(Blocks::find(&snapshot, topic.id, at.partition, from, bounds.end)?, &mut taken, limit)?;
    // Records between the last block and the end are gone.
    let next = if more { taken.next } else { bounds.end };
    Ok(Fetched { batch: RawBatch::concat(&taken.parts)?, next, end: bounds.end })
}

/// What a read has gathered.
struct Taken {
    parts: Vec<RawBatch>,
    rows: usize,
    bytes: usize,
    next: Offset,
}

/// Takes what fits; false if the blocks ended.
fn take_blocks(blocks: Blocks<'_>, taken: &mut Taken, limit: ReadLimit) -> Result<bool, TopicError> {
    let max_rows = limit.max_records.max(1);
    for block in blocks {
        let block = block?;
        let large = block.byte_size() >= LARGE_BLOCK_BYTES;
        if large && !taken.parts.is_empty() {
            return Ok(true);
        }
        let batch = block.batch()?;
        let first = batch.offsets.partition_point(|offset| *offset < taken.next);
        if first == batch.len() {
            taken.next = block.end();
            continue;
        }
        let nothing_yet = taken.parts.is_empty();
        let bytes_left = limit.max_bytes.saturating_sub(taken.bytes);
        let rows = batch.rows_within(first, max_rows - taken.rows, bytes_left, nothing_yet);
        if rows > 0 {
            let part = batch.slice(first, rows);
            taken.rows += rows;
            taken.bytes += part.byte_size();
            taken.next = batch.offsets[first + rows - 1] + 1;
            taken.parts.push(part);
        }
        if first + rows < batch.len() {
            return Ok(true);
        }
        taken.next = block.end();
        if large || taken.rows >= max_rows || taken.bytes >= limit.max_bytes {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Blocks of a partition in order.
pub(super) struct Blocks<'a> {
    /// the block that an offset lies in the middle of
    first: Option<(Bytes, Bytes)>,
    rest: Scan<'a>,
}

impl<'a> Blocks<'a> {
    /// The block that holds `from` and those after it, up to those that begin at `to`.
    ///
    /// # Errors
    /// If the storage cannot be read.
    pub(super) fn find(
        snapshot: &'a Snapshot,
        topic: Id,
        partition: i32,
        from: Offset,
        to: Offset,
    ) -> Result<Self, TopicError> {
        let end = keys::block(topic, partition, to);
        let exact = keys::block(topic, partition, from);
        let mut rest = snapshot.scan(Space::Records, &exact, Some(&end));
        // A consumer mostly goes on where a block begins; only otherwise is the one before looked up.
        let next = rest.next().map(|entry| entry.read()).transpose()?;
        if next.as_ref().is_some_and(|(key, _)| key[..] == exact) {
            return Ok(Self { first: next, rest });
        }
        let before = snapshot.scan(Space::Records, &keys::block(topic, partition, 0), Some(&exact)).next_back();
        let Some(before) = before.map(|entry| entry.read()).transpose()? else {
            return Ok(Self { first: next, rest });
        };
        if Block::read(keys::block_base(&before.0)?, before.1.clone())?.end() <= from {
            return Ok(Self { first: next, rest });
        }
        let after = keys::block(topic, partition, from);
        Ok(Self { first: Some(before), rest: snapshot.scan(Space::Records, &after, Some(&end)) })
    }
}

impl Iterator for Blocks<'_> {
    type Item = Result<Block, TopicError>;

    fn next(&mut self) -> Option<Self::Item> {
        let entry = match self.first.take() {
            Some(entry) => Ok(entry),
            None => self.rest.next()?.read(),
        };
        Some(entry.map_err(TopicError::from).and_then(|(key, value)| Block::read(keys::block_base(&key)?, value)))
    }
}
