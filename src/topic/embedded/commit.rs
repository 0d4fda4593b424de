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
use crate::topic::batch::{bytes_between, rows_within};
use crate::topic::{Append, Commit, Offset, RawBatch, Receipt, StoreId, TopicError, TopicPartition};
use crate::types::TopicName;

/// A block holds at most so many records, so that small ones do not make it slow to cut.
const MAX_BLOCK_ROWS: usize = 1 << 16;
/// Blocks below this size are worth merging.
pub(super) const SMALL_BLOCK_BYTES: usize = 16 << 10;

/// Successive outputs of one partition, encoded.
struct Encoded {
    to: TopicPartition,
    /// the number of records of each output
    rows: Vec<usize>,
    /// each with its number of records; where an output ends is nothing to them
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
    let outputs = encode(log, outputs, now_ms)?;
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
    let mut base_offsets = Vec::new();
    for (output, topic) in &outputs {
        put_outputs(output, topic, &mut batch, &mut staged, &mut base_offsets)?;
    }
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

/// Puts the blocks behind what is there, and gives the first offset of each output.
fn put_outputs(
    outputs: &Encoded,
    topic: &Topic,
    batch: &mut Batch,
    staged: &mut Staged,
    base_offsets: &mut Vec<Offset>,
) -> Result<(), TopicError> {
    let known = topic.partition(&outputs.to)?.bounds().end;
    let end = staged.ends.entry((topic.id, outputs.to.partition)).or_insert(known);
    let mut base = *end;
    for rows in &outputs.rows {
        base_offsets.push(base);
        base += *rows as Offset;
    }
    for (bytes, rows) in &outputs.blocks {
        batch.put(Space::Records, keys::block(topic.id, outputs.to.partition, *end).to_vec(), bytes.clone());
        *end += *rows as Offset;
    }
    Ok(())
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

/// Encodes outputs in their order; those of one partition that follow each other share blocks.
fn encode(log: &EmbeddedLog, outputs: Vec<Append>, now_ms: i64) -> Result<Vec<Encoded>, TopicError> {
    let mut all: Vec<Encoded> = Vec::new();
    let mut gathered = Gathered::new(log.options.block_bytes, now_ms);
    for output in outputs {
        if all.last().is_none_or(|encoded| encoded.to != output.to) {
            log.topic_of(&output.to)?;
            if let Some(before) = all.last_mut() {
                gathered.finish(&mut before.blocks);
            }
            all.push(Encoded { to: output.to.clone(), rows: Vec::new(), blocks: Vec::new() });
        }
        let rows = output.check()?;
        check_record_sizes(log, &output)?;
        let encoded = all.last_mut().expect("one was pushed if there was none");
        encoded.rows.push(rows);
        gathered.add(output, rows, &mut encoded.blocks);
    }
    if let Some(last) = all.last_mut() {
        gathered.finish(&mut last.blocks);
    }
    Ok(all)
}

/// Outputs that become the next block. What a block has taken is let go at once, so that there are never two of all.
struct Gathered {
    block_bytes: usize,
    now_ms: i64,
    /// with the first row and the number of rows that the block takes
    parts: Vec<(RawBatch, usize, usize)>,
    rows: usize,
    bytes: usize,
}

impl Gathered {
    fn new(block_bytes: usize, now_ms: i64) -> Self {
        Self { block_bytes, now_ms, parts: Vec::new(), rows: 0, bytes: 0 }
    }

    /// Adds an output; blocks that got full go to `blocks`.
    fn add(&mut self, output: Append, rows: usize, blocks: &mut Vec<(Bytes, usize)>) {
        let Append { timestamps, keys, values, headers, .. } = output;
        // Offsets come later; the block does not hold them.
        let batch = RawBatch { offsets: Vec::new().into(), timestamps, keys, values, headers, arrivals: None };
        let mut from = 0;
        while from < rows {
            let max_rows = (rows - from).min(MAX_BLOCK_ROWS - self.rows);
            let bytes_left = self.block_bytes.saturating_sub(self.bytes);
            let len = rows_within(&batch.keys, &batch.values, from, max_rows, bytes_left, self.rows == 0);
            if len > 0 {
                self.bytes += bytes_between(&batch.keys, from, len) + bytes_between(&batch.values, from, len);
                self.rows += len;
                self.parts.push((batch.clone(), from, len));
                from += len;
            }
            if from < rows || self.rows == MAX_BLOCK_ROWS {
                self.finish(blocks);
            }
        }
    }

    /// What there is becomes a block.
    fn finish(&mut self, blocks: &mut Vec<(Bytes, usize)>) {
        if self.rows > 0 {
            let parts: Vec<_> =
                self.parts.iter().map(|(batch, from, len)| Rows { batch, from: *from, len: *len }).collect();
            blocks.push((block::encode(&parts, true, self.now_ms), self.rows));
            (self.rows, self.bytes) = (0, 0);
            self.parts.clear();
        }
    }
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
