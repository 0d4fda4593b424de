//! Groups to the outside: changelog blocks, writes behind, restore.
//!
//! Rows are encoded once, when a block is taken. The subtle thing: blocks are held until their rows are written behind, as slices of
//! them, so that a row that changed since is written as the changelog has it; a block whose rows are all superseded goes at once.

use std::sync::Arc;

use arrow::array::ArrayRef;
use bytes::Bytes;

use crate::function::aggregate::Slot;
use crate::operator::groups::{DIRTY, IN_FLIGHT, KNOWN, UNWRITTEN};
use crate::state::Store;
use crate::state::block::{Block, BlockWriter};
use crate::state::encoding::{RESERVED_PREFIX, RowCodec};
use crate::topic::{KeyedSnapshot, KeyedWrites, TopicError};

use super::{GroupStore, stream_time_key};

/// A block that still holds rows to be written behind.
pub(super) struct HeldBlock {
    block: Block,
    pub(super) bytes: usize,
    live: usize,
}

impl GroupStore {
    /// The slot's row in a block counts no more.
    pub(super) fn unhold(&mut self, slot: Slot) {
        let (number, entry) = std::mem::take(&mut self.in_block[slot as usize]);
        if number == 0 {
            return;
        }
        let held = &mut self.blocks[(number - self.first_block) as usize];
        held.live -= 1;
        let (key, row) = held.block.entry(entry as usize);
        self.unwritten_bytes -= key.len() + row.map_or(0, <[u8]>::len);
        self.drop_dead_blocks();
    }

    fn drop_dead_blocks(&mut self) {
        while self.blocks.front().is_some_and(|held| held.live == 0) {
            self.blocks.pop_front();
            self.first_block += 1;
        }
    }

    /// Notes that these entries of `block` are now the last ones of their slots.
    fn hold(&mut self, block: Block, bytes: usize, entries: impl Iterator<Item = (Slot, usize)>) {
        let mut live = 0;
        for (slot, entry) in entries {
            self.unhold(slot);
            live += 1;
            let (key, row) = block.entry(entry);
            self.unwritten_bytes += key.len() + row.map_or(0, <[u8]>::len);
            // `unhold` may have dropped older blocks, but never changes the number of the next one
            let number = self.first_block + self.blocks.len() as u64;
            self.in_block[slot as usize] = (number, entry as u32);
            let head = self.groups.head_mut(slot);
            if !head.is(UNWRITTEN) {
                self.unwritten.push(slot);
            }
            head.flags = (head.flags & !DIRTY) | UNWRITTEN | KNOWN;
        }
        self.blocks.push_back(HeldBlock { block, bytes, live });
        self.drop_dead_blocks();
    }

    /// The entries of the next block: deleted keys, the stream time, then groups.
    fn write_block(&mut self, slots: &[Slot]) -> Result<(Bytes, usize), TopicError> {
        let columns: Vec<ArrayRef> = self.accumulators.iter().flat_map(|a| a.states(slots)).collect();
        let rowtimes: Vec<i64> = slots.iter().map(|&slot| self.groups.head(slot).rowtime).collect();
        let rows = self.layout.rows.encode(&columns, &rowtimes)?;
        let mut writer = BlockWriter::with_capacity(slots.len() + self.deletes.len() + 1, self.dirty_bytes);
        let mut deletes = std::mem::take(&mut self.deletes);
        deletes.sort_unstable();
        deletes.dedup();
        for key in deletes {
            writer.push(&key, None)?;
            self.unwritten_bytes += key.len();
            self.unwritten_deletes.push(key);
        }
        if self.stream_time_dirty
            && let Some(time) = self.stream_time
        {
            let row = stream_time_row(time)?;
            writer.push(&stream_time_key(), Some(&row))?;
            self.stream_time_unwritten = Some((Bytes::from(stream_time_key()), row));
        }
        let from = writer.len();
        let mut key = Vec::new();
        for (i, &slot) in slots.iter().enumerate() {
            key.clear();
            self.groups.store_key(slot, &mut key);
            writer.push(&key, Some(rows.row(i)))?;
        }
        Ok((writer.finish()?, from))
    }

    fn restore_number(&mut self, key: &[u8], row: Option<&[u8]>) -> Result<(), TopicError> {
        if *key == *stream_time_key()
            && let Some(row) = row
        {
            self.stream_time = Some(RowCodec::rowtime(row)?);
            self.stream_time_unwritten = Some((Bytes::copy_from_slice(key), Bytes::copy_from_slice(row)));
        }
        Ok(())
    }

    fn restore_rows(
        &mut self,
        block: Block,
        bytes: usize,
        slots: &[Slot],
        entries: &[usize],
    ) -> Result<(), TopicError> {
        let all = self.groups.slots();
        self.accumulators.iter_mut().for_each(|a| a.resize(all));
        let rows = entries.iter().filter_map(|&i| block.entry(i).1);
        let rowtimes = self.layout.load(&mut self.accumulators, slots, rows)?;
        for (&slot, rowtime) in slots.iter().zip(rowtimes) {
            self.groups.head_mut(slot).rowtime = rowtime;
        }
        self.hold(block, bytes, slots.iter().copied().zip(entries.iter().copied()));
        Ok(())
    }
}

/// A row without columns whose row time is the stream time.
fn stream_time_row(time: i64) -> Result<Bytes, TopicError> {
    Ok(Bytes::copy_from_slice(RowCodec::new(&[])?.encode(&[], &[time])?.row(0)))
}

impl Store for GroupStore {
    fn name(&self) -> &str {
        &self.layout.spec.store
    }

    fn take_block(&mut self) -> Result<Option<Bytes>, TopicError> {
        let mut slots = std::mem::take(&mut self.dirty);
        // a slot that was freed and given out again may stand here twice
        slots.retain(|&slot| {
            let head = self.groups.head_mut(slot);
            let dirty = head.is(DIRTY);
            head.flags &= !DIRTY;
            dirty
        });
        if slots.is_empty() && self.deletes.is_empty() && !self.stream_time_dirty {
            return Ok(None);
        }
        let (block, from) = self.write_block(&slots)?;
        let entries = slots.iter().enumerate().map(|(i, &slot)| (slot, from + i));
        self.hold(Block::open(&block)?, block.len(), entries);
        self.stream_time_dirty = false;
        self.dirty_bytes = 0;
        Ok(Some(block))
    }

    fn dirty_bytes(&self) -> usize {
        let states: usize = self.accumulators.iter().map(|a| a.memory()).sum();
        self.dirty_bytes + self.dirty.len() * (states / self.groups.slots().max(1))
    }

    fn take_writes(&mut self) -> KeyedWrites {
        let deletes = std::mem::take(&mut self.unwritten_deletes);
        let mut writes: KeyedWrites = deletes.iter().map(|key| (key.clone(), None)).collect();
        if self.gone.is_some() {
            self.deletes_in_flight.extend(deletes);
        }
        writes.extend(self.stream_time_unwritten.take().map(|(key, row)| (key, Some(row))));
        for slot in std::mem::take(&mut self.unwritten) {
            let (number, entry) = std::mem::take(&mut self.in_block[slot as usize]);
            if number == 0 {
                continue;
            }
            writes.push(self.blocks[(number - self.first_block) as usize].block.shared_entry(entry as usize));
            let head = self.groups.head_mut(slot);
            head.flags = (head.flags & !UNWRITTEN) | IN_FLIGHT;
            self.in_flight.push(slot);
        }
        self.first_block += self.blocks.len() as u64;
        self.blocks.clear();
        self.unwritten_bytes = 0;
        writes
    }

    fn unwritten_bytes(&self) -> usize {
        self.unwritten_bytes
    }

    fn attach(&mut self, behind: Arc<dyn KeyedSnapshot>) {
        if self.behind.is_none() {
            // A store that fails here will say so at the first look-up.
            let mut empty = true;
            let looked = behind.range(&[], Some(&[RESERVED_PREFIX]), &mut |_, _| {
                empty = false;
                false
            });
            self.complete &= looked.is_ok() && empty;
        }
        self.behind = Some(behind);
        for slot in std::mem::take(&mut self.in_flight) {
            self.groups.head_mut(slot).flags &= !IN_FLIGHT;
        }
        if let Some(gone) = &mut self.gone {
            self.deletes_in_flight.drain(..).for_each(|key| _ = gone.remove(&key));
        }
    }

    fn apply_block(&mut self, block: &Bytes) -> Result<(), TopicError> {
        let opened = Block::open(block)?;
        if !self.dirty.is_empty() {
            return Err(TopicError::Invalid(format!("store '{}' is restored after it was changed", self.name())));
        }
        let (mut slots, mut entries) = (Vec::new(), Vec::new());
        for (i, (key, row)) in opened.iter().enumerate() {
            if key.first() == Some(&RESERVED_PREFIX) {
                self.restore_number(key, row)?;
                continue;
            }
            let (group, window) = self.split(key)?;
            let hash = self.groups.hash(group);
            let found = self.groups.find(hash, group, window);
            match row {
                None => {
                    found.into_iter().for_each(|slot| self.forget(slot));
                    let key = Bytes::copy_from_slice(key);
                    self.unwritten_bytes += key.len();
                    self.gone.iter_mut().for_each(|gone| _ = gone.insert(key.clone()));
                    self.unwritten_deletes.push(key);
                }
                Some(_) => {
                    slots.push(found.unwrap_or_else(|| self.insert_known(hash, group, window)));
                    entries.push(i);
                }
            }
        }
        self.restore_rows(opened, block.len(), &slots, &entries)
    }

    fn memory(&self) -> usize {
        let lists = self.dirty.capacity() + self.unwritten.capacity() + self.in_flight.capacity();
        self.groups.memory()
            + self.accumulators.iter().map(|a| a.memory()).sum::<usize>()
            + self.blocks.iter().map(|held| held.bytes).sum::<usize>()
            + self.deletes.iter().map(|key| key.len() + size_of::<Bytes>()).sum::<usize>()
            + self.unwritten_deletes.iter().map(|key| key.len() + size_of::<Bytes>()).sum::<usize>()
            + self.in_block.capacity() * size_of::<(u64, u32)>()
            + lists * size_of::<Slot>()
    }

    fn evict(&mut self, target: usize) -> usize {
        let mut held = self.memory();
        while held > target && self.groups.len() > 0 {
            let states = held - self.blocks.iter().map(|block| block.bytes).sum::<usize>();
            let bytes_each = (states / self.groups.slots().max(1)).max(1);
            // an eighth more than asked for, so that one compaction serves many small requests
            self.sweep_memory((held - target + target / 8).div_ceil(bytes_each));
            let sparse = self.groups.vacant() > 0 && self.groups.vacant() * 4 >= self.groups.slots();
            if self.owing == 0 && sparse && self.compact().is_err() {
                return self.memory();
            }
            let now = self.memory();
            if now >= held {
                return now;
            }
            held = now;
        }
        held
    }
}
