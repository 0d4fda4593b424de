//! The memory of a stream-stream join as a store: blocks, write-behind, restore, eviction.
//!
//! Knows entries, not rows. The subtle thing: entries of a chunk that expires before it was ever written behind are dropped there, so that
//! rows that live for less than a second never reach the keyed store.

use std::sync::Arc;

use bytes::Bytes;

use crate::state::Store;
use crate::state::block::{Block, BlockWriter};
use crate::state::encoding::{RESERVED_PREFIX, ROW_VERSION, RowCodec};
use crate::topic::{KeyedSnapshot, KeyedWrites, TopicError};

use super::chunk::{DIRTY, IN_FLIGHT, TAKEN, UNWRITTEN, encode_held};
use super::rows::{ENTRY_BYTES, HELD, JoinRows, NO_TIME, NUMBERS, entry_key, split_key};

impl JoinRows {
    /// Ends a restore, if there was one.
    ///
    /// # Errors
    /// What went wrong in it.
    pub(super) fn begin(&mut self) -> Result<(), TopicError> {
        self.failed.take().map_or(Ok(()), Err)?;
        if std::mem::take(&mut self.restored) { self.queue_waiting() } else { Ok(()) }
    }

    fn put_in_block(&mut self, key: Vec<u8>, row: Vec<u8>, block: &mut BlockWriter) -> Result<(), TopicError> {
        block.push(&key, Some(&row))?;
        self.unwritten_bytes += key.len() + row.len();
        if let Some(Some(old)) = self.unwritten.insert(key.into(), Some(row.into())) {
            self.unwritten_bytes = self.unwritten_bytes.saturating_sub(old.len());
        }
        Ok(())
    }

    fn put_deletes(&mut self, side: usize, block: &mut BlockWriter) -> Result<(), TopicError> {
        for (key, taken) in std::mem::take(&mut self.sides[side].gone) {
            block.push(&key, None)?;
            self.drop_unwritten(key, taken);
        }
        Ok(())
    }

    fn drop_unwritten(&mut self, key: Vec<u8>, taken: bool) {
        let old = match taken {
            true => self.unwritten.insert(key.into(), None),
            false => self.unwritten.remove(key.as_slice()),
        };
        self.unwritten_bytes = self.unwritten_bytes.saturating_sub(old.flatten().map_or(0, |row| row.len()));
    }

    fn put_chunk(&mut self, side: usize, id: u64, block: &mut BlockWriter) -> Result<(), TopicError> {
        let rows = &mut self.sides[side];
        if rows.chunk(id).is_none() {
            return Ok(());
        }
        let ready = rows.ready_of(id);
        let Some(chunk) = rows.chunk(id) else { return Ok(()) };
        chunk.flags &= !DIRTY;
        let (from, held) = (chunk.in_blocks, chunk.held_changed.then(|| encode_held(&chunk.held)));
        let columns = if from < ready { Some(chunk.columns(from, ready)?) } else { None };
        if columns.is_some() {
            chunk.entries.push(from);
            chunk.in_blocks = ready;
        }
        (chunk.held_stored, chunk.held_changed) = (chunk.held_stored || held.is_some(), false);
        let open = ready < chunk.rows();
        if columns.is_none() && held.is_none() && !open {
            return Ok(());
        }
        if let Some(columns) = columns {
            let row = self.sides[side].codec.encode(columns)?;
            self.put_in_block(entry_key(side, id, from), row, block)?;
        }
        if let Some(row) = held {
            self.put_in_block(entry_key(side, id, HELD), row, block)?;
        }
        if open {
            // rows of the step that is being handled
            if let Some(chunk) = self.sides[side].chunk(id) {
                chunk.flags |= DIRTY;
                self.sides[side].dirty.push(id);
            }
        }
        self.mark_unwritten(side, id);
        Ok(())
    }

    fn put_numbers(&mut self, block: &mut BlockWriter) -> Result<(), TopicError> {
        let numbers = self.numbers();
        for (n, value) in numbers.into_iter().enumerate() {
            if value != self.stored_numbers[n] {
                let mut row = vec![ROW_VERSION];
                row.extend_from_slice(&value.to_le_bytes());
                self.put_in_block(number_key(n), row, block)?;
            }
        }
        self.stored_numbers = numbers;
        Ok(())
    }

    /// Takes an entry back; `behind`: from the store behind.
    fn restore(&mut self, key: &[u8], row: &[u8], behind: bool) -> Result<(), TopicError> {
        if key.first() == Some(&RESERVED_PREFIX) {
            if let Some(number) = (0..NUMBERS.len()).find(|&n| number_key(n) == key) {
                self.set_number(number, RowCodec::rowtime(row)?);
            }
            return Ok(());
        }
        let (side, id, first) = split_key(key)?;
        match first {
            HELD => self.restore_held(side, id, row)?,
            _ => self.restore_rows((side, id, first), row, !behind)?,
        }
        if let Some(chunk) = self.sides[side].chunk(id).filter(|_| behind) {
            chunk.flags |= TAKEN;
        }
        Ok(())
    }

    /// A block deletes the entries of chunks that expired, always from the first chunk on.
    fn restore_delete(&mut self, key: &[u8]) -> Result<(), TopicError> {
        let (side, id, _) = split_key(key)?;
        let bound = self.bound(side);
        let rows = &mut self.sides[side];
        if rows.first == id
            && let Some(chunk) = rows.chunks.pop_front()
        {
            rows.first += 1;
            chunk.slots.iter().for_each(|&slot| self.index.expire(slot, side, bound));
        }
        self.drop_unwritten(key.to_vec(), true);
        Ok(())
    }
}

fn number_key(number: usize) -> Vec<u8> {
    let mut key = vec![RESERVED_PREFIX];
    key.extend_from_slice(NUMBERS[number].as_bytes());
    key
}

impl Store for JoinRows {
    fn name(&self) -> &str {
        &self.name
    }

    fn take_block(&mut self) -> Result<Option<Bytes>, TopicError> {
        let mut block = BlockWriter::with_capacity(16, self.dirty_bytes);
        // numbers first: a restore expires rows by them
        self.put_numbers(&mut block)?;
        for side in 0..2 {
            self.put_deletes(side, &mut block)?;
            for id in std::mem::take(&mut self.sides[side].dirty) {
                self.put_chunk(side, id, &mut block)?;
            }
        }
        self.dirty_bytes = 0;
        if block.is_empty() { Ok(None) } else { block.finish().map(Some) }
    }

    fn dirty_bytes(&self) -> usize {
        self.dirty_bytes
    }

    fn take_writes(&mut self) -> KeyedWrites {
        for (side, id) in std::mem::take(&mut self.unwritten_chunks) {
            if let Some(chunk) = self.sides[side].chunk(id) {
                chunk.flags = chunk.flags & !UNWRITTEN | IN_FLIGHT | TAKEN;
                self.in_flight_chunks.push((side, id));
            }
        }
        for side in &mut self.sides {
            side.gone.iter_mut().for_each(|(key, taken)| *taken |= self.unwritten.contains_key(key.as_slice()));
        }
        self.unwritten_bytes = 0;
        std::mem::take(&mut self.unwritten).into_iter().collect()
    }

    fn unwritten_bytes(&self) -> usize {
        self.unwritten_bytes + self.unwritten.len() * ENTRY_BYTES
    }

    fn attach(&mut self, behind: Arc<dyn KeyedSnapshot>) {
        let is_new = self.numbers() == [NO_TIME; 4];
        let first = self.behind.replace(behind.clone()).is_none() && is_new;
        for (side, id) in std::mem::take(&mut self.in_flight_chunks) {
            if let Some(chunk) = self.sides[side].chunk(id) {
                chunk.flags &= !IN_FLIGHT;
            }
        }
        if !first {
            return;
        }
        let mut done = Ok(());
        let read = behind.range(&[], None, &mut |key, row| {
            done = self.restore(key, row, true);
            done.is_ok()
        });
        self.restored = true;
        self.failed = read.and(done).err();
    }

    fn apply_block(&mut self, block: &Bytes) -> Result<(), TopicError> {
        self.failed.take().map_or(Ok(()), Err)?;
        self.restored = true;
        let block = Block::open(block)?;
        for (key, row) in block.iter() {
            match row {
                Some(row) => {
                    self.restore(key, row, false)?;
                    self.unwritten_bytes += key.len() + row.len();
                    self.unwritten.insert(Bytes::copy_from_slice(key), Some(Bytes::copy_from_slice(row)));
                    if let Ok((side, id, _)) = split_key(key) {
                        self.mark_unwritten(side, id);
                    }
                }
                None => self.restore_delete(key)?,
            }
        }
        Ok(())
    }

    fn memory(&self) -> usize {
        let chunks = self.sides.iter().flat_map(|side| &side.chunks);
        chunks.map(|c| c.bytes() + c.overhead()).sum::<usize>()
            + self.index.memory()
            + self.waiting_bytes()
            + self.unwritten_bytes()
    }

    fn evict(&mut self, target: usize) -> usize {
        let held = self.memory();
        if held <= target || self.sides.iter().all(|side| side.chunks.is_empty()) {
            return held;
        }
        self.drop_columns(held - target);
        self.memory()
    }
}
