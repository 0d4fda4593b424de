//! A keyed table in memory: encoded key → encoded row, before its changelog and the keyed store behind.
//!
//! Knows no types: keys and rows are bytes of [`super::encoding`]. The subtle thing: an entry is *dirty* until it is in a block, then
//! *unwritten* until it is taken for the store behind, then *in flight* until that store is attached again; only then may it leave memory.

use std::sync::Arc;

use ahash::RandomState;
use bytes::{Bytes, BytesMut};
use hashbrown::{HashMap, HashTable};

use crate::topic::{KeyedSnapshot, KeyedWrites, TopicError};

use super::arena::{Arena, Span};
use super::block::{Block, BlockWriter};
use super::encoding::{EncodedRows, RESERVED_PREFIX, RowCodec};
use super::filter::KeyFilter;
use super::{Store, WRITE_ENTRIES, sort_writes};

/// Changed since the last block.
const DIRTY: u8 = 1;
/// Changed by a block that is not written behind.
const UNWRITTEN: u8 = 2;
/// Taken to be written behind; the store attached does not hold it yet.
const IN_FLIGHT: u8 = 4;
/// Used since the clock's hand came by.
const USED: u8 = 8;
/// May not leave memory.
const PINNED: u8 = DIRTY | UNWRITTEN | IN_FLIGHT;

/// Dead bytes below which a table is not compacted.
const COMPACT_MIN_BYTES: usize = 64 << 10;
/// Bytes of bookkeeping that an entry costs in a block, about.
const BLOCK_ENTRY_BYTES: usize = 9;
/// How many keys to [`KeyedTable::warm`] together: their cache lines should still be there when they are used.
pub const WARM_ROWS: usize = 128;
/// Fixed, so that two runs do the same.
const HASH_SEEDS: [u64; 4] =
    [0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7344, 0xa409_3822_299f_31d0, 0x082e_fa98_ec4e_6c89];

/// A row in a [`KeyedTable`], to be read with [`KeyedTable::row`] until the next call of [`KeyedTable::settle`] or of a [`Store`] method,
/// even if the row was replaced or deleted in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowRef(Span);

impl RowRef {
    /// Bytes of the row.
    pub fn len(self) -> usize {
        self.0.len()
    }

    /// True for a row of no bytes, which the row encoding never makes.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    hash: u64,
    key: Span,
    /// `None`: known to be absent
    row: Option<Span>,
    flags: u8,
}

/// Encoded key → encoded row.
pub struct KeyedTable {
    name: Box<str>,
    hasher: RandomState,
    index: HashTable<u32>,
    entries: Vec<Entry>,
    vacant: Vec<u32>,
    arena: Arena,
    /// entries that are dirty, in order of their first change
    dirty: Vec<u32>,
    dirty_bytes: usize,
    /// entries that are unwritten
    unwritten: Vec<u32>,
    unwritten_bytes: usize,
    in_flight: Vec<u32>,
    /// rows as of the last block, of entries that are both unwritten and dirty
    in_block: Vec<(u32, Option<Span>)>,
    behind: Option<Arc<dyn KeyedSnapshot>>,
    /// every key that exists is in memory: a miss needs no look-up
    complete: bool,
    /// keys that only the store behind may have; `None`: it may have any
    outside: Option<KeyFilter>,
    hand: usize,
}

impl KeyedTable {
    /// An empty table with no store behind.
    pub fn new(name: impl Into<Box<str>>) -> Self {
        let [a, b, c, d] = HASH_SEEDS;
        Self {
            name: name.into(),
            hasher: RandomState::with_seeds(a, b, c, d),
            index: HashTable::new(),
            entries: Vec::new(),
            vacant: Vec::new(),
            arena: Arena::default(),
            dirty: Vec::new(),
            dirty_bytes: 0,
            unwritten: Vec::new(),
            unwritten_bytes: 0,
            in_flight: Vec::new(),
            in_block: Vec::new(),
            behind: None,
            complete: true,
            outside: Some(KeyFilter::default()),
            hand: 0,
        }
    }

    /// An empty table that knows nothing of what the store behind has, and never asks it: a key that is deleted may be there.
    pub(super) fn blind(name: impl Into<Box<str>>) -> Self {
        Self { complete: false, outside: None, ..Self::new(name) }
    }

    /// The row of `key`, from memory or else from the store behind.
    ///
    /// # Errors
    /// If the store behind cannot be read.
    pub fn get(&mut self, key: &[u8]) -> Result<Option<RowRef>, TopicError> {
        let hash = self.hasher.hash_one(key);
        Ok(self.locate(hash, key)?.and_then(|i| self.entries[i as usize].row).map(RowRef))
    }

    /// The rows of many keys, in their order, appended to `out`.
    ///
    /// # Errors
    /// If the store behind cannot be read.
    pub fn get_many(&mut self, keys: &EncodedRows, out: &mut Vec<Option<RowRef>>) -> Result<(), TopicError> {
        out.reserve(keys.len());
        for key in keys.iter() {
            out.push(self.get(key)?);
        }
        Ok(())
    }

    /// The bytes of a row that this table gave out.
    pub fn row(&self, row: RowRef) -> &[u8] {
        self.arena.get(row.0)
    }

    /// Sets the row of `key`, without asking what was there.
    pub fn put(&mut self, key: &[u8], row: &[u8]) {
        self.set(key, Some(row));
    }

    /// Deletes the row of `key`, without asking whether there is one.
    pub fn delete(&mut self, key: &[u8]) {
        self.set(key, None);
    }

    /// Sets or deletes the row of `key`; returns the one before. Deleting what is not there changes nothing.
    ///
    /// # Errors
    /// If the store behind cannot be read.
    pub fn replace(&mut self, key: &[u8], row: Option<&[u8]>) -> Result<Option<RowRef>, TopicError> {
        let hash = self.hasher.hash_one(key);
        let found = self.locate(hash, key)?;
        let old = found.and_then(|i| self.entries[i as usize].row);
        if old.is_some() || row.is_some() {
            let i = found.unwrap_or_else(|| self.insert(hash, key, None));
            self.change(i, row);
        }
        Ok(old.map(RowRef))
    }

    /// A number kept beside the rows under `name`, such as an operator's stream time.
    ///
    /// # Errors
    /// If the store behind cannot be read, or holds something else there.
    pub fn number(&mut self, name: &str) -> Result<Option<i64>, TopicError> {
        match self.get(&reserved_key(name))? {
            Some(row) => RowCodec::rowtime(self.row(row)).map(Some),
            None => Ok(None),
        }
    }

    /// Keeps a number beside the rows under `name`. It is stored as a row without columns whose row time it is.
    pub fn set_number(&mut self, name: &str, value: i64) {
        let mut row = [super::encoding::ROW_VERSION; 9];
        row[1..].copy_from_slice(&value.to_le_bytes());
        self.put(&reserved_key(name), &row);
    }

    /// Brings what look-ups of these keys will need near the processor. In a table beyond the caches a look-up waits for four places in
    /// memory one after the other; here many keys wait for each place together (upserts over 100,000 keys took 0.4 of the time).
    pub fn warm<'a>(&self, keys: impl Iterator<Item = &'a [u8]>) {
        let mut found: Vec<u32> = Vec::with_capacity(WARM_ROWS);
        for key in keys {
            let first_guess = |&i: &u32| {
                found.push(i);
                true
            };
            self.index.find(self.hasher.hash_one(key), first_guess);
        }
        let entries = || found.iter().map(|&i| &self.entries[i as usize]);
        std::hint::black_box(entries().fold(0, |sum, entry| sum ^ entry.hash));
        let spans = entries().flat_map(|entry| entry.row.into_iter().chain([entry.key]));
        std::hint::black_box(spans.fold(0, |sum, span| sum ^ self.arena.touch(span)));
    }

    /// Gives memory of replaced rows back if there is much of it. Call it between steps: it ends every [`RowRef`].
    pub fn settle(&mut self) {
        if self.arena.dead() > COMPACT_MIN_BYTES && self.arena.dead() * 2 > self.arena.used() {
            self.compact(4);
        }
    }

    /// Number of entries in memory, known absences included.
    pub fn resident(&self) -> usize {
        self.index.len()
    }

    /// The entry of `key`, read through from the store behind on a miss. `None`: there is no such key and no entry needed to know it.
    fn locate(&mut self, hash: u64, key: &[u8]) -> Result<Option<u32>, TopicError> {
        if let Some(i) = self.find(hash, key) {
            self.entries[i as usize].flags |= USED;
            return Ok(Some(i));
        }
        let Some(behind) = self.behind.as_ref().filter(|_| self.may_be_outside(hash)) else { return Ok(None) };
        let row = behind.get(key)?;
        let row = row.map(|row| self.arena.push(&row));
        Ok(Some(self.insert(hash, key, row)))
    }

    /// True if a key that is not in memory may exist.
    fn may_be_outside(&self, hash: u64) -> bool {
        !self.complete && self.outside.as_ref().is_none_or(|outside| outside.contains(hash))
    }

    fn find(&self, hash: u64, key: &[u8]) -> Option<u32> {
        let same = |&i: &u32| {
            let entry = &self.entries[i as usize];
            entry.hash == hash && self.arena.get(entry.key) == key
        };
        self.index.find(hash, same).copied()
    }

    fn insert(&mut self, hash: u64, key: &[u8], row: Option<Span>) -> u32 {
        let entry = Entry { hash, key: self.arena.push(key), row, flags: USED };
        let i = match self.vacant.pop() {
            Some(i) => {
                self.entries[i as usize] = entry;
                i
            }
            None => {
                self.entries.push(entry);
                (self.entries.len() - 1) as u32
            }
        };
        let entries = &self.entries;
        self.index.insert_unique(hash, i, |&j| entries[j as usize].hash);
        i
    }

    fn set(&mut self, key: &[u8], row: Option<&[u8]>) {
        let hash = self.hasher.hash_one(key);
        let i = match self.find(hash, key) {
            Some(i) => i,
            None if row.is_none() && !self.may_be_outside(hash) => return,
            None => self.insert(hash, key, None),
        };
        self.change(i, row);
    }

    fn change(&mut self, i: u32, row: Option<&[u8]>) {
        let new = row.map(|row| self.arena.push(row));
        let entry = &mut self.entries[i as usize];
        let old = std::mem::replace(&mut entry.row, new);
        let (old_len, new_len) = (old.map_or(0, Span::len), new.map_or(0, Span::len));
        let kept = entry.flags & (DIRTY | UNWRITTEN) == UNWRITTEN;
        if entry.flags & DIRTY == 0 {
            self.dirty.push(i);
            self.dirty_bytes += entry.key.len() + new_len + BLOCK_ENTRY_BYTES;
        } else {
            self.dirty_bytes = self.dirty_bytes + new_len - old_len;
        }
        entry.flags |= DIRTY | USED;
        if kept {
            self.in_block.push((i, old));
        } else if let Some(old) = old {
            self.arena.free(old);
        }
    }

    /// Counts what is dirty as in a block.
    fn mark_in_block(&mut self) {
        for (_, row) in std::mem::take(&mut self.in_block) {
            if let Some(row) = row {
                self.arena.free(row);
            }
        }
        for i in std::mem::take(&mut self.dirty) {
            let entry = &mut self.entries[i as usize];
            if entry.flags & UNWRITTEN == 0 {
                self.unwritten.push(i);
                self.unwritten_bytes += entry.key.len() + entry.row.map_or(0, Span::len);
            }
            entry.flags = entry.flags & !DIRTY | UNWRITTEN;
        }
        self.dirty_bytes = 0;
    }

    fn remove(&mut self, i: u32) -> usize {
        let entry = self.entries[i as usize];
        if let Ok(found) = self.index.find_entry(entry.hash, |&j| j == i) {
            found.remove();
        }
        self.vacant.push(i);
        self.arena.free(entry.key);
        if let Some(row) = entry.row {
            self.arena.free(row);
            self.complete = false;
            if let Some(outside) = &mut self.outside {
                outside.insert(entry.hash);
            }
        }
        entry.key.len() + entry.row.map_or(0, Span::len)
    }

    /// Moves the living out of chunks of which at least one byte in `one_in` is dead.
    fn compact(&mut self, one_in: usize) {
        let victims = self.arena.wasteful(one_in);
        if victims.is_empty() {
            return;
        }
        for &i in self.index.iter() {
            let entry = &mut self.entries[i as usize];
            entry.key = self.arena.rescue(entry.key, &victims);
            entry.row = entry.row.map(|row| self.arena.rescue(row, &victims));
        }
        for (_, row) in &mut self.in_block {
            *row = row.map(|row| self.arena.rescue(row, &victims));
        }
        self.arena.clear_chunks(&victims);
    }

    /// Removes clean entries that were not used since the hand came by, until `excess` bytes are free or it went round twice.
    fn sweep(&mut self, excess: usize) {
        let mut freed = self.arena.dead();
        let mut is_vacant = vec![false; self.entries.len()];
        self.vacant.iter().for_each(|&i| is_vacant[i as usize] = true);
        for _ in 0..2 * self.entries.len() {
            if freed >= excess {
                return;
            }
            let i = self.hand % self.entries.len();
            self.hand = i + 1;
            let flags = &mut self.entries[i].flags;
            if is_vacant[i] || *flags & PINNED != 0 {
                continue;
            }
            if *flags & USED != 0 {
                *flags &= !USED;
                continue;
            }
            is_vacant[i] = true;
            freed += self.remove(i as u32) + size_of::<Entry>() + 2 * size_of::<u32>();
        }
    }

    /// Closes the gaps among entries if most are vacant. The lists hold pinned entries only, and are renumbered.
    fn shrink(&mut self) {
        if self.vacant.len() * 4 < self.entries.len() {
            return;
        }
        let mut moved = vec![u32::MAX; self.entries.len()];
        let mut entries = Vec::with_capacity(self.index.len());
        let mut index = HashTable::with_capacity(self.index.len());
        let mut order: Vec<u32> = self.index.iter().copied().collect();
        order.sort_unstable();
        for i in order {
            let entry = self.entries[i as usize];
            moved[i as usize] = entries.len() as u32;
            index.insert_unique(entry.hash, entries.len() as u32, |&j: &u32| {
                let entries: &Vec<Entry> = &entries;
                entries[j as usize].hash
            });
            entries.push(entry);
        }
        for list in [&mut self.dirty, &mut self.unwritten, &mut self.in_flight] {
            list.iter_mut().for_each(|i| *i = moved[*i as usize]);
            list.shrink_to_fit();
        }
        self.in_block.iter_mut().for_each(|(i, _)| *i = moved[*i as usize]);
        (self.entries, self.index, self.vacant, self.hand) = (entries, index, Vec::new(), 0);
    }
}

impl Store for KeyedTable {
    fn name(&self) -> &str {
        &self.name
    }

    fn take_block(&mut self) -> Result<Option<Bytes>, TopicError> {
        if self.dirty.is_empty() {
            return Ok(None);
        }
        let mut block = BlockWriter::with_capacity(self.dirty.len(), self.dirty_bytes);
        for &i in &self.dirty {
            let entry = &self.entries[i as usize];
            block.push(self.arena.get(entry.key), entry.row.map(|row| self.arena.get(row)))?;
        }
        let block = block.finish()?;
        self.mark_in_block();
        self.settle();
        Ok(Some(block))
    }

    fn dirty_bytes(&self) -> usize {
        self.dirty_bytes
    }

    fn take_writes(&mut self) -> KeyedWrites {
        let taken: Vec<u32> = self.unwritten.drain(..self.unwritten.len().min(WRITE_ENTRIES)).collect();
        // A row that changed after its block must not run ahead of the changelog.
        let in_block: HashMap<u32, Option<Span>> = self.in_block.iter().copied().collect();
        let mut bytes = BytesMut::new();
        let mut cuts = Vec::with_capacity(taken.len());
        for &i in &taken {
            let entry = &mut self.entries[i as usize];
            let row = if entry.flags & DIRTY == 0 { entry.row } else { in_block.get(&i).copied().flatten() };
            bytes.extend_from_slice(self.arena.get(entry.key));
            let key_end = bytes.len();
            if let Some(row) = row {
                bytes.extend_from_slice(self.arena.get(row));
            }
            cuts.push((key_end, row.is_some().then_some(bytes.len())));
            entry.flags = entry.flags & !UNWRITTEN | IN_FLIGHT;
        }
        let (entries, arena) = (&self.entries, &mut self.arena);
        self.in_block.retain(|&(i, row)| {
            let waits = entries[i as usize].flags & UNWRITTEN != 0;
            row.into_iter().filter(|_| !waits).for_each(|row| arena.free(row));
            waits
        });
        self.in_flight.extend(taken);
        if self.unwritten.is_empty() {
            self.unwritten_bytes = 0;
        }
        let (bytes, mut start) = (bytes.freeze(), 0);
        let cut = |(key_end, row_end): (usize, Option<usize>)| {
            let key = bytes.slice(start..key_end);
            let row = row_end.map(|end| bytes.slice(key_end..end));
            start = row_end.unwrap_or(key_end);
            (key, row)
        };
        let mut writes: KeyedWrites = cuts.into_iter().map(cut).collect();
        sort_writes(&mut writes);
        writes
    }

    fn unwritten_bytes(&self) -> usize {
        self.unwritten_bytes
    }

    fn attach(&mut self, behind: Arc<dyn KeyedSnapshot>) {
        if self.behind.is_none() {
            // A store that fails here will say so at the first look-up.
            self.complete &= behind.is_empty(None).unwrap_or(false);
            self.outside.take_if(|_| !self.complete);
        }
        self.behind = Some(behind);
        for i in std::mem::take(&mut self.in_flight) {
            let entry = &mut self.entries[i as usize];
            entry.flags &= !IN_FLIGHT;
            let useless = entry.row.is_none() && entry.flags & PINNED == 0 && self.complete;
            if useless {
                self.remove(i);
            }
        }
    }

    fn apply_block(&mut self, block: &Bytes) -> Result<(), TopicError> {
        let block = Block::open(block)?;
        if !self.dirty.is_empty() {
            return Err(TopicError::Invalid(format!("store '{}' is restored after it was changed", self.name)));
        }
        for (key, row) in block.iter() {
            self.set(key, row);
        }
        self.mark_in_block();
        self.settle();
        Ok(())
    }

    fn memory(&self) -> usize {
        let lists =
            self.dirty.capacity() + self.unwritten.capacity() + self.in_flight.capacity() + self.vacant.capacity();
        self.arena.allocated()
            + self.entries.capacity() * size_of::<Entry>()
            + self.index.allocation_size()
            + lists * size_of::<u32>()
            + self.outside.as_ref().map_or(0, KeyFilter::memory)
            + self.in_block.capacity() * size_of::<(u32, Option<Span>)>()
    }

    fn evict(&mut self, target: usize) -> usize {
        let pinned = self.dirty.len().max(self.unwritten.len()).max(self.in_flight.len());
        if pinned == self.resident() && self.arena.dead() == 0 {
            return self.memory();
        }
        // What an entry gives back is an estimate, so ask again while it helps.
        let mut held = self.memory();
        while held > target {
            // An eighth more than asked for, so that one compaction serves many small requests.
            self.sweep(held - target + target / 8);
            self.compact(8);
            self.shrink();
            let now = self.memory();
            if now >= held {
                return now;
            }
            held = now;
        }
        held
    }
}

fn reserved_key(name: &str) -> Vec<u8> {
    let mut key = Vec::with_capacity(1 + name.len());
    key.push(RESERVED_PREFIX);
    key.extend_from_slice(name.as_bytes());
    key
}

#[cfg(test)]
pub(crate) mod tests;
