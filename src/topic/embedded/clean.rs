//! Forgets: retention by age and size, compaction by key, trimming by hand; and joins small blocks.
//!
//! Works block by block and leaves the newest one, but for retention by age and trimming, which may empty a partition and
//! then note its end. The subtle thing: only the write of each step holds the writer's lock, so commits go on meanwhile.

use super::EmbeddedLog;
use super::block::Block;
use super::index::{Partition, Topic};
use super::keys::{self, Upkeep};
use super::read::Blocks;
use super::rewrite::{Range, move_start, newest_block, rewrite};
use crate::storage::{Batch, Space};
use crate::topic::compaction::Latest;
use crate::topic::{Offset, TopicError, TopicPartition};

/// So many small blocks are worth a look.
const MERGE_AT_SMALL_BLOCKS: u32 = 128;
/// Blocks removed in one batch at most.
const REMOVED_AT_ONCE: usize = 1024;

/// See [`crate::topic::Log::clean`]; the caller has said that it is cleaning.
pub(super) fn clean(log: &EmbeddedLog, now_ms: i64) -> Result<u64, TopicError> {
    let topics: Vec<_> = log.topics.read().values().cloned().collect();
    let mut removed = 0;
    for topic in topics {
        match clean_topic(log, &topic, now_ms) {
            Ok(count) => removed += count,
            // Deleted meanwhile, which is cleaner still.
            Err(TopicError::UnknownTopic(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(removed)
}

/// See [`crate::topic::Log::trim`].
pub(super) fn trim(log: &EmbeddedLog, at: &TopicPartition, before: Offset) -> Result<(), TopicError> {
    let _cleaning = log.cleaning.lock();
    let topic = log.topic(&at.topic)?;
    let bounds = topic.partition(at)?.bounds();
    let before = before.min(bounds.end);
    if before <= bounds.start {
        return Ok(());
    }
    let range = Range { topic: &topic, partition: at.partition, from: bounds.start, to: before };
    remove_first(log, &range, &mut |block| block.end() <= before).map(drop)
}

fn clean_topic(log: &EmbeddedLog, topic: &Topic, now_ms: i64) -> Result<u64, TopicError> {
    let cleanup = &topic.spec.cleanup;
    let mut removed = 0;
    for (number, partition) in topic.partitions() {
        if let Some(retention_ms) = cleanup.retention_ms {
            removed += remove_old(log, topic, number, partition, now_ms.saturating_sub(retention_ms))?;
        }
        if let Some(limit) = cleanup.retention_bytes {
            removed += remove_oversize(log, topic, number, u64::try_from(limit).unwrap_or_default())?;
        }
        if cleanup.compact {
            removed += compact(log, topic, number, partition, now_ms)?;
        }
        merge(log, topic, number, partition)?;
    }
    Ok(removed)
}

/// Removes blocks from the start on whose latest record is older than `from_ms`.
fn remove_old(
    log: &EmbeddedLog,
    topic: &Topic,
    number: i32,
    partition: &Partition,
    from_ms: i64,
) -> Result<u64, TopicError> {
    let bounds = partition.bounds();
    let range = Range { topic, partition: number, from: bounds.start, to: bounds.end };
    remove_first(log, &range, &mut |block| block.max_timestamp() < from_ms)
}

/// Removes blocks from the start on while the partition holds more than `limit` bytes; never the newest.
fn remove_oversize(log: &EmbeddedLog, topic: &Topic, number: i32, limit: u64) -> Result<u64, TopicError> {
    let Some(newest) = newest_block(log, topic, number)? else { return Ok(0) };
    let snapshot = log.storage.snapshot()?;
    let (from, to) = (keys::block(topic.id, number, 0), keys::block(topic.id, number, Offset::MAX));
    let mut bytes = 0;
    for entry in snapshot.scan(Space::Records, &from, Some(&to)) {
        bytes += u64::from(snapshot.size_of(Space::Records, &entry.key()?)?.unwrap_or_default());
    }
    drop(snapshot);
    let range = Range { topic, partition: number, from: 0, to: newest };
    remove_first(log, &range, &mut |block| {
        let over = bytes > limit;
        bytes = bytes.saturating_sub(if over { block.byte_size() as u64 } else { 0 });
        over
    })
}

/// Removes blocks of `range` while `goes` says so; gives the number of their records.
fn remove_first(log: &EmbeddedLog, range: &Range<'_>, goes: &mut dyn FnMut(&Block) -> bool) -> Result<u64, TopicError> {
    let snapshot = log.storage.snapshot()?;
    let (mut batch, mut removed, mut end) = (Batch::default(), 0, range.from);
    for block in Blocks::find(&snapshot, range.topic.id, range.partition, range.from, range.to)? {
        let block = block?;
        if !goes(&block) {
            break;
        }
        removed += block.rows() as u64;
        end = end.max(block.end());
        batch.remove(Space::Records, keys::block(range.topic.id, range.partition, block.base()).to_vec());
        if batch.len() == REMOVED_AT_ONCE {
            write_removed(log, range, std::mem::take(&mut batch), end)?;
        }
    }
    drop(snapshot);
    if removed > 0 {
        write_removed(log, range, batch, end)?;
        move_start(log, range)?;
    }
    Ok(removed)
}

/// Writes a removal of blocks up to `end`, which it notes in case that they were all.
fn write_removed(log: &EmbeddedLog, range: &Range<'_>, mut batch: Batch, end: Offset) -> Result<(), TopicError> {
    let key = keys::of_partition(keys::ENDS, range.topic.id, range.partition);
    batch.put(Space::Meta, key, end.to_be_bytes().to_vec());
    let _writer = log.writer.lock();
    range.topic.check()?;
    Ok(log.storage.write(batch)?)
}

/// Compacts the partition once at least half of its records came since it was compacted last.
fn compact(
    log: &EmbeddedLog,
    topic: &Topic,
    number: i32,
    partition: &Partition,
    now_ms: i64,
) -> Result<u64, TopicError> {
    let Some(newest) = newest_block(log, topic, number)? else { return Ok(0) };
    let mut upkeep = read_upkeep(log, topic, number)?;
    let start = partition.bounds().start;
    let from = upkeep.compacted_to.max(start);
    if newest <= from || ((newest - from) as u64) < upkeep.compacted_records {
        return Ok(0);
    }
    let (latest, to) = latest_offsets(log, topic, number, (from, newest))?;
    let tombstones_from_ms = now_ms.saturating_sub(log.options.tombstone_retention_ms);
    let range = Range { topic, partition: number, from: start, to };
    let done = rewrite(log, &range, &|batch| Some(latest.keep(batch, tombstones_from_ms)))?;
    upkeep.compacted_to = to;
    upkeep.compacted_records = done.kept;
    write_upkeep(log, topic, number, upkeep)?;
    Ok(done.removed)
}

/// The last offsets of keys in `[from, to)`, as far as memory goes; and how far that is.
fn latest_offsets(
    log: &EmbeddedLog,
    topic: &Topic,
    number: i32,
    (from, to): (Offset, Offset),
) -> Result<(Latest, Offset), TopicError> {
    let snapshot = log.storage.snapshot()?;
    let mut latest = Latest::default();
    for block in Blocks::find(&snapshot, topic.id, number, from, to)? {
        let block = block?;
        latest.note(&block.batch()?);
        if latest.bytes() >= log.options.compaction_bytes {
            return Ok((latest, block.end().min(to)));
        }
    }
    Ok((latest, to))
}

/// Joins small blocks once there are many.
fn merge(log: &EmbeddedLog, topic: &Topic, number: i32, partition: &Partition) -> Result<(), TopicError> {
    if !partition.take_small_blocks(MERGE_AT_SMALL_BLOCKS) {
        return Ok(());
    }
    let Some(newest) = newest_block(log, topic, number)? else { return Ok(()) };
    let mut upkeep = read_upkeep(log, topic, number)?;
    let from = upkeep.merged_to.max(partition.bounds().start);
    rewrite(log, &Range { topic, partition: number, from, to: newest }, &|_| None)?;
    upkeep.merged_to = newest;
    write_upkeep(log, topic, number, upkeep)
}

fn read_upkeep(log: &EmbeddedLog, topic: &Topic, number: i32) -> Result<Upkeep, TopicError> {
    let value = log.storage.snapshot()?.get(Space::Meta, &keys::of_partition(keys::UPKEEP, topic.id, number))?;
    value.map_or(Ok(Upkeep::default()), |value| Upkeep::read(&value))
}

fn write_upkeep(log: &EmbeddedLog, topic: &Topic, number: i32, upkeep: Upkeep) -> Result<(), TopicError> {
    let mut batch = Batch::default();
    batch.put(Space::Meta, keys::of_partition(keys::UPKEEP, topic.id, number), upkeep.to_value());
    let _writer = log.writer.lock();
    topic.check()?;
    Ok(log.storage.write(batch)?)
}
