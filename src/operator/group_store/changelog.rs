//! Groups to the outside: changelog blocks, writes behind, restore.
//!
//! Rows are encoded when a block is taken, and again when they are written behind. The subtle thing: what is written behind is what is in
//! memory, so it must be taken right after a block, before anything changes; then it never runs ahead of the changelog.

use std::sync::Arc;

use arrow::array::ArrayRef;
use bytes::Bytes;

use crate::function::aggregate::Slot;
use crate::operator::groups::{BEHIND, DIRTY, IN_FLIGHT, KNOWN, LIVE, UNWRITTEN};
use crate::state::block::{Block, BlockWriter};
use crate::state::encoding::{EncodedRows, RESERVED_PREFIX, RowCodec};
use crate::state::{Store, WRITE_ENTRIES, sort_writes};
use crate::topic::{KeyedSnapshot, KeyedWrites, TopicError};

use super::{GroupStore, stream_time_key};

/// So many groups are put into a block, or taken out of one, at a time: they are looked at several times, and should still be near; and a block
/// may hold half a million.
const BLOCK_PART: usize = 1 << 11;

impl GroupStore {
    /// The rows of these groups as stores have them.
    fn encode(&self, slots: &[Slot]) -> Result<EncodedRows, TopicError> {
        let columns: Vec<ArrayRef> = self.accumulators.iter().flat_map(|a| a.states(slots)).collect();
        let rowtimes: Vec<i64> = slots.iter().map(|&slot| self.groups.head(slot).rowtime).collect();
        self.layout.rows.encode(&columns, &rowtimes)
    }

    /// The entries of the next block: deleted keys, the stream time, then groups, which then count as unwritten.
    fn write_block(&mut self, slots: &[Slot]) -> Result<Bytes, TopicError> {
        let mut writer = BlockWriter::with_capacity(slots.len() + self.deletes.len() + 1, self.dirty_bytes);
        let deletes = (std::mem::take(&mut self.deletes), std::mem::take(&mut self.deletes_behind));
        for (key, behind) in deletes.0.iter().zip(deletes.1) {
            writer.push(key, None)?;
            if behind {
                self.unwritten_bytes += key.len();
                self.unwritten_deletes.push(Bytes::copy_from_slice(key));
            }
        }
        if self.stream_time_dirty
            && let Some(time) = self.stream_time
        {
            let row = stream_time_row(time)?;
            writer.push(&stream_time_key(), Some(&row))?;
            self.stream_time_unwritten = Some((Bytes::from(stream_time_key()), row));
        }
        let mut part = Vec::with_capacity(BLOCK_PART);
        for slots in slots.chunks(BLOCK_PART) {
            part.clear();
            part.extend(slots.iter().copied().filter(|&slot| {
                // a slot that was freed and given out again may stand here twice
                let head = self.groups.head_mut(slot);
                let dirty = head.is(DIRTY);
                head.flags &= !DIRTY;
                dirty
            }));
            self.write_groups(&part, &mut writer)?;
        }
        writer.finish()
    }

    fn write_groups(&mut self, slots: &[Slot], writer: &mut BlockWriter) -> Result<(), TopicError> {
        let rows = self.encode(slots)?;
        for (i, &slot) in slots.iter().enumerate() {
            let row = rows.row(i);
            writer.push_with(|key| self.groups.store_key(slot, key), row)?;
            let head = self.groups.head_mut(slot);
            if !head.is(UNWRITTEN) {
                self.unwritten.push(slot);
                self.unwritten_bytes += super::KEY_BYTES + row.len();
            }
            head.flags |= UNWRITTEN | KNOWN;
        }
        Ok(())
    }

    /// Up to so many groups that are to be written behind.
    fn next_unwritten(&mut self) -> Vec<Slot> {
        let mut slots = Vec::with_capacity(self.unwritten.len().min(WRITE_ENTRIES));
        while slots.len() < WRITE_ENTRIES
            && let Some(slot) = self.unwritten.pop()
        {
            let head = self.groups.head_mut(slot);
            if head.is(LIVE) && head.is(UNWRITTEN) {
                head.flags = (head.flags & !UNWRITTEN) | IN_FLIGHT | BEHIND;
                slots.push(slot);
            }
        }
        slots
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

    fn restore_rows(&mut self, block: &Block, slots: &[Slot], entries: &[usize]) -> Result<(), TopicError> {
        let all = self.groups.slots();
        self.accumulators.iter_mut().for_each(|a| a.resize(all));
        let rows = entries.iter().filter_map(|&i| block.entry(i).1);
        let rowtimes = self.layout.load(&mut self.accumulators, slots, rows)?;
        for ((&slot, &entry), rowtime) in slots.iter().zip(entries).zip(rowtimes) {
            let head = self.groups.head_mut(slot);
            head.rowtime = rowtime;
            if !head.is(UNWRITTEN) {
                head.flags |= UNWRITTEN;
                self.unwritten.push(slot);
                let (key, row) = block.entry(entry);
                self.unwritten_bytes += key.len() + row.map_or(0, <[u8]>::len);
            }
        }
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
        let over = std::mem::take(&mut self.over);
        self.unwritten_bytes += over.iter().map(Bytes::len).sum::<usize>();
        self.unwritten_deletes.extend(over);
        let mut slots = std::mem::take(&mut self.dirty);
        let none = !slots.iter().any(|&slot| self.groups.head(slot).is(DIRTY));
        if none && self.deletes.is_empty() && !self.stream_time_dirty {
            return Ok(None);
        }
        let block = self.write_block(&slots)?;
        self.stream_time_dirty = false;
        self.dirty_bytes = 0;
        slots.clear();
        self.dirty = slots;
        Ok(Some(block))
    }

    fn dirty_bytes(&self) -> usize {
        if self.dirty.is_empty() {
            return self.dirty_bytes;
        }
        let states: usize = self.accumulators.iter().map(|a| a.memory()).sum();
        self.dirty_bytes + self.dirty.len() * (states / self.groups.slots().max(1))
    }

    fn take_writes(&mut self) -> KeyedWrites {
        debug_assert!(self.dirty.is_empty() && self.deletes.is_empty(), "written behind before it is committed");
        let deletes = std::mem::take(&mut self.unwritten_deletes);
        let mut writes: KeyedWrites = deletes.iter().map(|key| (key.clone(), None)).collect();
        if self.gone.is_some() {
            self.deletes_in_flight.extend(deletes);
        }
        writes.extend(self.stream_time_unwritten.take().map(|(key, row)| (key, Some(row))));
        let slots = self.next_unwritten();
        let rows = self.encode(&slots).expect("the states fit their own layout");
        let (mut bytes, mut cuts) = (Vec::new(), Vec::with_capacity(slots.len()));
        for (i, &slot) in slots.iter().enumerate() {
            self.groups.store_key(slot, &mut bytes);
            let key_end = bytes.len();
            bytes.extend_from_slice(rows.row(i));
            cuts.push((key_end, bytes.len()));
        }
        let (mut bytes, mut start) = (Bytes::from(bytes), 0);
        for (key_end, row_end) in cuts {
            let key = bytes.split_to(key_end - start);
            writes.push((key, Some(bytes.split_to(row_end - key_end))));
            start = row_end;
        }
        // of a key that was deleted and came again, the row stays last
        sort_writes(&mut writes);
        self.in_flight.extend(slots);
        if self.unwritten.is_empty() {
            self.unwritten_bytes = 0;
        }
        writes
    }

    fn unwritten_bytes(&self) -> usize {
        self.unwritten_bytes
    }

    fn attach(&mut self, behind: Arc<dyn KeyedSnapshot>) {
        if self.behind.is_none() {
            // A store that fails here will say so at the first look-up.
            self.complete &= behind.is_empty(Some(&[RESERVED_PREFIX])).unwrap_or(false);
            self.outside.take_if(|_| !self.complete);
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
            if slots.len() == BLOCK_PART {
                self.restore_rows(&opened, &slots, &entries)?;
                slots.clear();
                entries.clear();
            }
        }
        self.restore_rows(&opened, &slots, &entries)
    }

    fn memory(&self) -> usize {
        let lists = self.dirty.capacity() + self.unwritten.capacity() + self.in_flight.capacity();
        let keys = self.over.iter().chain(&self.unwritten_deletes).chain(&self.deletes_in_flight);
        self.groups.memory()
            + self.states_memory()
            + self.deletes.memory()
            + self.outside.as_ref().map_or(0, |outside| outside.memory())
            + keys.map(|key| key.len() + size_of::<Bytes>()).sum::<usize>()
            + lists * size_of::<Slot>()
    }

    fn evict(&mut self, target: usize) -> usize {
        let mut held = self.memory();
        loop {
            let pinned = self.dirty.len().max(self.unwritten.len()).max(self.in_flight.len()).max(self.owing);
            let clean = self.groups.len().saturating_sub(pinned);
            if held <= target || clean == 0 {
                break;
            }
            let bytes_each = (held / self.groups.len()).max(1);
            self.sweep_memory((held - target).div_ceil(bytes_each).min(clean));
            let now = self.memory();
            if now >= held {
                break;
            }
            held = now;
        }
        // vacant slots wait for new groups, but not too many
        let sparse = self.groups.vacant() > 0 && self.groups.vacant() * 3 >= self.groups.slots();
        if self.owing == 0 && sparse && self.compact().is_err() {
            return self.memory();
        }
        self.memory()
    }
}

impl GroupStore {
    /// Bytes of states, without what vacant slots take.
    fn states_memory(&self) -> usize {
        let all: usize = self.accumulators.iter().map(|a| a.memory()).sum();
        (all as u128 * self.groups.len() as u128 / self.groups.slots().max(1) as u128) as usize
    }
}
