//! Which rows of both sides have which key: keys to slots, and in each slot the rows of either side in order of time.
//!
//! Knows row times and places, no columns. The subtle thing: one look-up serves both sides, and rows of equal time keep their order of
//! arrival, so that matches come out oldest first without sorting.

use std::ops::Range;

use ahash::RandomState;
use hashbrown::HashTable;
use smallvec::SmallVec;

/// Fixed, so that two runs do the same.
const HASH_SEEDS: [u64; 4] =
    [0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7344, 0xa409_3822_299f_31d0, 0x082e_fa98_ec4e_6c89];

/// Expired entries at the front of a timeline below which they stay where they are.
const TRIM_MIN: u32 = 16;

/// Bits of a [`RowId`] that count rows within a chunk.
const ROW_BITS: u32 = 24;

/// A row of one side: its chunk, and its place there. Ascends by arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RowId(u64);

impl RowId {
    /// Row `row` of chunk `chunk`.
    pub(super) fn new(chunk: u64, row: u32) -> Self {
        debug_assert!(row < 1 << ROW_BITS, "a chunk has at most two steps of rows");
        Self(chunk << ROW_BITS | u64::from(row))
    }

    pub(super) fn chunk(self) -> u64 {
        self.0 >> ROW_BITS
    }

    pub(super) fn row(self) -> u32 {
        (self.0 & ((1 << ROW_BITS) - 1)) as u32
    }
}

/// A row in a timeline.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    /// its row time
    pub(super) time: i64,
    /// which row
    pub(super) row: RowId,
}

/// Rows of one key and side, by time, then arrival.
#[derive(Debug, Default)]
pub(super) struct Timeline {
    entries: SmallVec<[Entry; 2]>,
    /// entries before this have expired
    first: u32,
}

impl Timeline {
    /// Positions of the rows from `from` to `to`, both included.
    pub(super) fn between(&self, from: i64, to: i64) -> Range<usize> {
        let first = self.first as usize;
        let live = &self.entries[first..];
        let start = live.partition_point(|e| e.time < from);
        let len = live[start..].partition_point(|e| e.time <= to);
        first + start..first + start + len
    }

    /// The row at a position.
    pub(super) fn at(&self, position: usize) -> Entry {
        self.entries[position]
    }

    fn insert(&mut self, entry: Entry) {
        if self.entries.last().is_none_or(|last| last.time <= entry.time) {
            self.entries.push(entry);
            return;
        }
        let at = self.entries.partition_point(|e| e.time <= entry.time);
        self.entries.insert(at.max(self.first as usize), entry);
    }

    /// Lets go of rows before `bound`; returns how many.
    fn trim(&mut self, bound: i64) -> usize {
        let live = &self.entries[self.first as usize..];
        if live.first().is_none_or(|e| e.time >= bound) {
            return 0;
        }
        let gone = live.partition_point(|e| e.time < bound);
        self.first += gone as u32;
        if self.first as usize == self.entries.len() {
            (self.entries, self.first) = (SmallVec::new(), 0);
        } else if self.first >= TRIM_MIN && self.first as usize * 2 >= self.entries.len() {
            self.entries.drain(..self.first as usize);
            self.entries.shrink_to_fit();
            self.first = 0;
        }
        gone
    }

    fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[derive(Debug)]
struct Slot {
    hash: u64,
    key: SmallVec<[u8; 24]>,
    sides: [Timeline; 2],
    live: bool,
}

/// Keys to timelines.
#[derive(Debug)]
pub(super) struct Index {
    hasher: RandomState,
    table: HashTable<u32>,
    slots: Vec<Slot>,
    vacant: Vec<u32>,
    /// rows in all timelines
    rows: usize,
}

impl Index {
    pub(super) fn new() -> Self {
        let [a, b, c, d] = HASH_SEEDS;
        let hasher = RandomState::with_seeds(a, b, c, d);
        Self { hasher, table: HashTable::new(), slots: Vec::new(), vacant: Vec::new(), rows: 0 }
    }

    /// The slot of a key, made if there is none.
    pub(super) fn slot(&mut self, key: &[u8]) -> u32 {
        let hash = self.hasher.hash_one(key);
        let slots = &self.slots;
        let same = |&i: &u32| slots[i as usize].hash == hash && slots[i as usize].key.as_slice() == key;
        if let Some(&found) = self.table.find(hash, same) {
            return found;
        }
        let slot = Slot { hash, key: SmallVec::from_slice(key), sides: Default::default(), live: true };
        let at = match self.vacant.pop() {
            Some(at) => {
                self.slots[at as usize] = slot;
                at
            }
            None => {
                self.slots.push(slot);
                (self.slots.len() - 1) as u32
            }
        };
        let slots = &self.slots;
        self.table.insert_unique(hash, at, |&i| slots[i as usize].hash);
        at
    }

    /// The rows of a slot on one side.
    pub(super) fn timeline(&self, slot: u32, side: usize) -> &Timeline {
        &self.slots[slot as usize].sides[side]
    }

    /// Adds a row; rows of its timeline before `bound` have expired.
    pub(super) fn insert(&mut self, slot: u32, side: usize, entry: Entry, bound: i64) {
        let timeline = &mut self.slots[slot as usize].sides[side];
        self.rows -= timeline.trim(bound);
        timeline.insert(entry);
        self.rows += 1;
    }

    /// Lets go of the rows of a slot before `bound`, and of the slot if nothing is left of it.
    pub(super) fn expire(&mut self, slot: u32, side: usize, bound: i64) {
        let found = &mut self.slots[slot as usize];
        if !found.live {
            return;
        }
        self.rows -= found.sides[side].trim(bound);
        if !found.sides.iter().all(Timeline::is_empty) {
            return;
        }
        found.live = false;
        found.key = SmallVec::new();
        let hash = found.hash;
        if let Ok(entry) = self.table.find_entry(hash, |&i| i == slot) {
            entry.remove();
        }
        self.vacant.push(slot);
    }

    /// Bytes held, about.
    pub(super) fn memory(&self) -> usize {
        self.table.allocation_size()
            + self.slots.capacity() * size_of::<Slot>()
            + self.vacant.capacity() * size_of::<u32>()
            + self.rows * size_of::<Entry>() * 3 / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(time: i64, row: u32) -> Entry {
        Entry { time, row: RowId::new(0, row) }
    }

    #[test]
    fn rows_stand_by_time_then_arrival_and_expire() {
        let mut index = Index::new();
        let slot = index.slot(b"k");
        for (row, time) in [5, 3, 5, 4, 3].into_iter().enumerate() {
            index.insert(slot, 0, entry(time, row as u32), i64::MIN);
        }
        let rows = |index: &Index, from, to| {
            let timeline = index.timeline(slot, 0);
            timeline.between(from, to).map(|at| timeline.at(at).row.row()).collect::<Vec<_>>()
        };
        assert_eq!(rows(&index, 0, 9), [1, 4, 3, 0, 2]);
        assert_eq!(rows(&index, 4, 4), [3]);
        index.insert(slot, 0, entry(5, 9), 4);
        assert_eq!(rows(&index, 0, 9), [3, 0, 2, 9]);
        assert_eq!((index.slot(b"k"), index.rows), (slot, 4));
        index.expire(slot, 0, 6);
        index.expire(slot, 0, 6);
        assert_eq!((index.table.len(), index.rows, index.vacant.len()), (0, 0, 1));
        assert_eq!(index.slot(b"other"), slot);
    }

    #[test]
    fn long_timelines_give_memory_back() {
        let mut index = Index::new();
        let slot = index.slot(b"a key that is longer than what stands in its slot");
        for time in 0..10_000 {
            index.insert(slot, 1, entry(time, time as u32), time - 10);
        }
        assert!(index.timeline(slot, 1).entries.len() < 64);
        assert_eq!(index.rows, 11);
        assert_eq!(index.timeline(slot, 1).between(i64::MIN, i64::MAX).len(), 11);
    }
}
