//! A hash table of slots, open addressing: a cell is a slot with the hash of its key.
//!
//! Knows no keys; who looks up compares them. The subtle thing: a cell's place follows from the hash in it, so that growing the table
//! reads nothing else, and removal moves later cells back instead of leaving graves.

use crate::function::aggregate::Slot;

/// Cells of a cache line.
const LINE_CELLS: usize = 64 / size_of::<u64>();
/// Cells of the first table: there may be a table for each of a million windows, with one group each.
const FIRST_CELLS: usize = 2;

/// Hashes to slots; a hash may be there several times.
#[derive(Default)]
pub(super) struct Index {
    /// 0, or the hash in the upper half and the slot + 1 in the lower
    cells: Vec<u64>,
    len: usize,
}

fn cell(hash: u32, slot: Slot) -> u64 {
    u64::from(hash) << 32 | (u64::from(slot) + 1)
}

fn hash_of(cell: u64) -> u32 {
    (cell >> 32) as u32
}

fn slot_of(cell: u64) -> Slot {
    (cell as u32).wrapping_sub(1)
}

impl Index {
    /// The first slot with this hash that is the `same`.
    #[inline]
    pub fn find(&self, hash: u32, mut same: impl FnMut(Slot) -> bool) -> Option<Slot> {
        let mask = self.cells.len().checked_sub(1)?;
        let mut at = hash as usize & mask;
        loop {
            let found = self.cells[at];
            if found == 0 {
                return None;
            }
            if hash_of(found) == hash && same(slot_of(found)) {
                return Some(slot_of(found));
            }
            at = (at + 1) & mask;
        }
    }

    /// The slot that probably has this hash, to have its head near. Looks as far as one line of memory reaches.
    #[inline]
    pub fn guess(&self, hash: u32) -> Option<Slot> {
        let mask = self.cells.len().checked_sub(1)?;
        for step in 0..LINE_CELLS {
            let found = self.cells[(hash as usize + step) & mask];
            if found == 0 {
                return None;
            }
            if hash_of(found) == hash {
                return Some(slot_of(found));
            }
        }
        None
    }

    /// Adds a slot.
    pub fn insert(&mut self, hash: u32, slot: Slot) {
        if (self.len + 1) * 3 > self.cells.len() * 2 {
            self.grow();
        }
        self.len += 1;
        place(&mut self.cells, cell(hash, slot));
    }

    fn grow(&mut self) {
        let mut cells = vec![0; (self.cells.len() * 2).max(FIRST_CELLS)];
        self.cells.iter().filter(|&&cell| cell != 0).for_each(|&cell| place(&mut cells, cell));
        self.cells = cells;
    }

    fn position(&self, hash: u32, slot: Slot) -> Option<usize> {
        let mask = self.cells.len().checked_sub(1)?;
        let (wanted, mut at) = (cell(hash, slot), hash as usize & mask);
        while self.cells[at] != wanted {
            if self.cells[at] == 0 {
                return None;
            }
            at = (at + 1) & mask;
        }
        Some(at)
    }

    /// Puts a slot in the place of another with the same hash.
    pub fn replace(&mut self, hash: u32, old: Slot, new: Slot) {
        if let Some(at) = self.position(hash, old) {
            self.cells[at] = cell(hash, new);
        }
    }

    /// Takes a slot away, if it is there.
    pub fn remove(&mut self, hash: u32, slot: Slot) {
        let Some(mut hole) = self.position(hash, slot) else { return };
        let mask = self.cells.len() - 1;
        let mut at = (hole + 1) & mask;
        while self.cells[at] != 0 {
            let home = hash_of(self.cells[at]) as usize & mask;
            // it may move into the hole if that lies between its home and its place
            if (at.wrapping_sub(home) & mask) >= (at.wrapping_sub(hole) & mask) {
                self.cells[hole] = self.cells[at];
                hole = at;
            }
            at = (at + 1) & mask;
        }
        self.cells[hole] = 0;
        self.len -= 1;
    }

    /// True without slots.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes held.
    pub fn memory(&self) -> usize {
        self.cells.capacity() * size_of::<u64>()
    }
}

fn place(cells: &mut [u64], cell: u64) {
    let mask = cells.len() - 1;
    let mut at = hash_of(cell) as usize & mask;
    while cells[at] != 0 {
        at = (at + 1) & mask;
    }
    cells[at] = cell;
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_holds_what_a_list_holds(steps in prop::collection::vec((0_u32..24, 0_u32..64, 0_u8..3), 0..200)) {
            let (mut index, mut list) = (Index::default(), Vec::<(u32, Slot)>::new());
            for (hash, slot, what) in steps {
                // hashes that share homes, also at the table's end
                let hash = hash.wrapping_mul(0x0fff_fff1);
                match what {
                    0 if !list.contains(&(hash, slot)) => {
                        index.insert(hash, slot);
                        list.push((hash, slot));
                    }
                    1 => {
                        index.remove(hash, slot);
                        list.retain(|known| *known != (hash, slot));
                    }
                    2 if list.contains(&(hash, slot)) && !list.contains(&(hash, slot + 100)) => {
                        index.replace(hash, slot, slot + 100);
                        list.retain(|known| *known != (hash, slot));
                        list.push((hash, slot + 100));
                    }
                    _ => {}
                }
                for &(hash, slot) in &list {
                    prop_assert_eq!(index.find(hash, |other| other == slot), Some(slot));
                }
                let there = list.contains(&(hash, slot));
                prop_assert_eq!(index.find(hash, |other| other == slot).is_some(), there);
                prop_assert_eq!(index.len, list.len());
            }
        }
    }
}
