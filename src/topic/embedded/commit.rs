//! Applies a commit: encode, give offsets and numbers, write one batch, let readers see it.
//!
//! Knows no fjall. The subtle thing: all that memory will say after the commit is staged beside it and moved in only when the
//! batch is written, so that a failed commit leaves nothing behind.

use std::sync::Arc;

use ahash::AHashMap;
use bytes::Bytes;

use super::EmbeddedLog;
use super::block::{self, Rows};
use super::index::{Store, Topic, Writer};
use super::keys::{self, Id};
use crate::storage::{Batch, Space};
use crate::topic::batch::rows_within;
use crate::topic::{Append, Commit, Offset, RawBatch, Receipt, StoreId, TopicError, TopicPartition};
use crate::types::TopicName;

/// A block holds at most so many records, so that small ones do not make it slow to cut.
const MAX_BLOCK_ROWS: usize = 1 << 16;
/// Blocks below this size are worth merging.
pub(super) const SMALL_BLOCK_BYTES: usize = 16 << 10;

/// An output, encoded.
struct Encoded {
    to: TopicPartition,
    /// each with its number of records
    blocks: Vec<(Bytes, usize)>,
}

/// What memory will say once the batch is written.
#[derive(Default)]
struct Staged {
    ends: AHashMap<(Id, i32), Offset>,
    stores: AHashMap<StoreId, Store>,
    next_id: Option<Id>,
}

/// See [`crate::topic::Log::commit`].
pub(super) fn commit(log: &EmbeddedLog, commit: Commit) -> Result<Receipt, TopicError> {
    let now_ms = log.clock.now_ms();
    let Commit { outputs, blocks, positions } = commit;
    let outputs: Vec<Encoded> =
        outputs.into_iter().map(|output| encode(log, output, now_ms)).collect::<Result<_, _>>()?;
    for (_, at, position) in &positions {
        log.topic_of(at)?;
        if position.offset < 0 {
            return Err(TopicError::Invalid(format!("position {} in '{at}' is negative", position.offset)));
        }
    }
    blocks.iter().try_for_each(|(store, _)| check_names(store))?;
    positions.iter().try_for_each(|(owner, _, _)| check_name(&owner.0))?;
    log.storage.check_free()?;

    let mut writer = log.writer.lock();
    for (_, at, _) in &positions {
        log.topic_of(at)?;
    }
    let (mut batch, mut staged) = (Batch::default(), Staged::default());
    // Topics are looked up again, for one may have gone while its records were encoded.
    let topics = outputs.iter().map(|o| log.topic_of(&o.to)).collect::<Result<Vec<_>, _>>()?;
    let outputs: Vec<_> = outputs.into_iter().zip(topics).collect();
    let base_offsets =
        outputs.iter().map(|(o, topic)| put_output(o, topic, &mut batch, &mut staged)).collect::<Result<_, _>>()?;
    let block_numbers =
        blocks.into_iter().map(|(id, bytes)| put_block(&writer, &mut batch, &mut staged, id, bytes)).collect();
    for (owner, at, position) in &positions {
        batch.put(Space::Meta, keys::position(owner, at), keys::position_value(*position));
    }
    if let Some(next_id) = staged.next_id {
        batch.put(Space::Meta, keys::NEXT_ID, next_id.to_be_bytes().to_vec());
    }
    log.storage.write(batch)?;
    let grown = publish(&mut writer, staged, &outputs)?;
    drop(writer);
    log.watchers.wake(&grown);
    Ok(Receipt { base_offsets, block_numbers })
}

/// Owners and stores are named in keys, so their names must fit there.
pub(super) fn check_names(store: &StoreId) -> Result<(), TopicError> {
    check_name(&store.owner.0)?;
    check_name(&store.name)
}

fn check_name(name: &str) -> Result<(), TopicError> {
    const MAX_NAME_BYTES: usize = 1024;
    match name.len() <= MAX_NAME_BYTES {
        true => Ok(()),
        false => Err(TopicError::Invalid(format!("the name '{name}' is longer than {MAX_NAME_BYTES} bytes"))),
    }
}

/// The store as the commit so far leaves it; a new one gets a number.
fn staged_store<'a>(writer: &Writer, staged: &'a mut Staged, id: &StoreId) -> (&'a mut Store, bool) {
    let known = staged.stores.get(id).or_else(|| writer.stores.get(id)).copied();
    let store = known.unwrap_or_else(|| {
        let number = staged.next_id.unwrap_or(writer.next_id);
        staged.next_id = Some(number + 1);
        Store { id: number, held: 0, next: 0 }
    });
    (staged.stores.entry(id.clone()).insert_entry(store).into_mut(), known.is_none())
}

fn put_block(writer: &Writer, batch: &mut Batch, staged: &mut Staged, id: StoreId, bytes: Bytes) -> u64 {
    let (store, new) = staged_store(writer, staged, &id);
    let number = store.next;
    store.next += 1;
    if new {
        batch.put(Space::Meta, keys::store(&id), keys::store_value(store.id, store.held));
    }
    batch.put(Space::Changelog, keys::changelog(store.id, number).to_vec(), bytes);
    number
}

fn put_output(output: &Encoded, topic: &Topic, batch: &mut Batch, staged: &mut Staged) -> Result<Offset, TopicError> {
    let known = topic.partition(&output.to)?.bounds().end;
    let end = staged.ends.entry((topic.id, output.to.partition)).or_insert(known);
    let base = *end;
    for (bytes, rows) in &output.blocks {
        batch.put(Space::Records, keys::block(topic.id, output.to.partition, *end).to_vec(), bytes.clone());
        *end += *rows as Offset;
    }
    Ok(base)
}

/// Moves ends and stores to what was written; gives the topics that got records.
fn publish(
    writer: &mut Writer,
    staged: Staged,
    outputs: &[(Encoded, Arc<Topic>)],
) -> Result<Vec<TopicName>, TopicError> {
    let mut grown: Vec<TopicName> = Vec::new();
    for (output, topic) in outputs.iter().filter(|(o, _)| !o.blocks.is_empty()) {
        let partition = topic.partition(&output.to)?;
        if let Some(end) = staged.ends.get(&(topic.id, output.to.partition)) {
            partition.set_end(*end);
        }
        let small = output.blocks.iter().filter(|(bytes, _)| bytes.len() < SMALL_BLOCK_BYTES).count();
        partition.add_small_blocks(small as u32);
        if !grown.contains(&output.to.topic) {
            grown.push(output.to.topic.clone());
        }
    }
    writer.stores.extend(staged.stores);
    writer.next_id = staged.next_id.unwrap_or(writer.next_id);
    Ok(grown)
}

fn encode(log: &EmbeddedLog, output: Append, now_ms: i64) -> Result<Encoded, TopicError> {
    log.topic_of(&output.to)?;
    let rows = output.check()?;
    check_record_sizes(log, &output)?;
    let Append { to, timestamps, keys, values, headers } = output;
    // Offsets come later; the block does not hold them.
    let offsets = Vec::new().into();
    let batch = RawBatch { offsets, timestamps, keys, values, headers, arrivals: None };
    let mut blocks = Vec::new();
    let mut from = 0;
    while from < rows {
        let max_rows = (rows - from).min(MAX_BLOCK_ROWS);
        let len = rows_within(&batch.keys, &batch.values, from, max_rows, log.options.block_bytes, true);
        blocks.push((block::encode(&Rows { batch: &batch, from, len, contiguous: true, now_ms }), len));
        from += len;
    }
    Ok(Encoded { to, blocks })
}

fn check_record_sizes(log: &EmbeddedLog, output: &Append) -> Result<(), TopicError> {
    let limit = log.options.max_record_bytes;
    let (keys, values) = (output.keys.value_offsets(), output.values.value_offsets());
    let all = (keys[keys.len() - 1] - keys[0]) as usize + (values[values.len() - 1] - values[0]) as usize;
    if all <= limit {
        return Ok(());
    }
    for (key, value) in keys.windows(2).zip(values.windows(2)) {
        let size = (key[1] - key[0]) as usize + (value[1] - value[0]) as usize;
        if size > limit {
            let topic = output.to.topic.clone();
            return Err(TopicError::TooLarge { topic, size, limit_name: "record.max.bytes", limit });
        }
    }
    Ok(())
}
