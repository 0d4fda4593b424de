//! A keyed table that its task writes and never reads: rows that only readers of committed state ask for.
//!
//! It looks nothing up and holds no row longer than it must: changes until they are in a block, and blocks until they are written behind. The
//! subtle thing: readers hold the same blocks in their overlay, which counts them, so that they are there once.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use crate::topic::{KeyedSnapshot, KeyedWrites, TopicError};

use super::block::Block;
use super::keyed::KeyedTable;
use super::{Store, WRITE_ENTRIES, sort_writes};

/// Encoded key → encoded row, outwards only.
pub struct WriteOnlyTable {
    name: Box<str>,
    /// changes since the last block
    changed: KeyedTable,
    /// blocks that are not written behind
    blocks: VecDeque<Block>,
    /// so many entries of the first of them are
    taken: usize,
    unwritten_bytes: usize,
}

impl WriteOnlyTable {
    /// An empty table.
    pub fn new(name: impl Into<Box<str>>) -> Self {
        let name = name.into();
        let changed = KeyedTable::blind(name.clone());
        Self { name, changed, blocks: VecDeque::new(), taken: 0, unwritten_bytes: 0 }
    }

    /// Sets the row of `key`, or deletes it, there or not.
    pub fn set(&mut self, key: &[u8], row: Option<&[u8]>) {
        match row {
            Some(row) => self.changed.put(key, row),
            None => self.changed.delete(key),
        }
    }

    /// Gives memory of replaced rows back if there is much of it.
    pub fn settle(&mut self) {
        self.changed.settle();
    }

    fn keep(&mut self, block: &Bytes) -> Result<(), TopicError> {
        let block_bytes = block.len();
        self.blocks.push_back(Block::open(block)?);
        self.unwritten_bytes += block_bytes;
        Ok(())
    }
}

impl Store for WriteOnlyTable {
    fn name(&self) -> &str {
        &self.name
    }

    fn take_block(&mut self) -> Result<Option<Bytes>, TopicError> {
        let Some(block) = self.changed.take_block()? else { return Ok(None) };
        self.changed = KeyedTable::blind(self.name.clone());
        self.keep(&block)?;
        Ok(Some(block))
    }

    fn dirty_bytes(&self) -> usize {
        self.changed.dirty_bytes()
    }

    fn take_writes(&mut self) -> KeyedWrites {
        let mut writes = KeyedWrites::new();
        while let Some(block) = self.blocks.front() {
            let end = block.len().min(self.taken + WRITE_ENTRIES - writes.len());
            writes.extend((self.taken..end).map(|i| block.shared_entry(i)));
            self.taken = end;
            if end < block.len() {
                break;
            }
            self.blocks.pop_front();
            self.taken = 0;
        }
        if self.blocks.is_empty() {
            self.unwritten_bytes = 0;
        }
        // of a key that several blocks have, the last one counts
        sort_writes(&mut writes);
        writes.dedup_by(|later, kept| {
            let same = later.0 == kept.0;
            if same {
                std::mem::swap(later, kept);
            }
            same
        });
        writes
    }

    fn unwritten_bytes(&self) -> usize {
        self.unwritten_bytes
    }

    fn attach(&mut self, _: Arc<dyn KeyedSnapshot>) {}

    fn apply_block(&mut self, block: &Bytes) -> Result<(), TopicError> {
        if self.changed.dirty_bytes() > 0 {
            return Err(TopicError::Invalid(format!("store '{}' is restored after it was changed", self.name)));
        }
        self.keep(block)
    }

    fn memory(&self) -> usize {
        self.changed.memory()
    }

    fn evict(&mut self, _: usize) -> usize {
        self.memory()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::state::keyed::tests::MapStore;

    #[test]
    fn a_delete_is_told_though_nothing_is_known_of_the_key() {
        let mut table = WriteOnlyTable::new("t");
        table.attach(Arc::<MapStore>::default());
        assert!(table.take_block().unwrap().is_none());
        table.set(b"a", None);
        let block = table.take_block().unwrap().expect("a change");
        assert_eq!(Block::open(&block).unwrap().iter().collect::<Vec<_>>(), [(&b"a"[..], None)]);
        assert_eq!(table.take_writes(), [(Bytes::from_static(b"a"), None)]);
        assert!(table.take_writes().is_empty() && table.unwritten_bytes() == 0);
    }

    #[test]
    fn memory_does_not_grow_with_what_is_in_blocks() {
        let mut table = WriteOnlyTable::new("t");
        let (mut most, mut blocks) = (0, 0);
        for n in 0..100_000_u32 {
            table.set(&n.to_be_bytes(), Some(b"some row"));
            if n % 1000 == 999 {
                most = most.max(table.memory());
                blocks += table.take_block().unwrap().expect("changes").len();
            }
        }
        assert!(most < 200_000, "{most} bytes of changes");
        assert!(table.memory() < 1000 && table.unwritten_bytes() == blocks, "{} bytes", table.memory());
        let mut written = 0;
        while table.unwritten_bytes() > 0 {
            let writes = table.take_writes();
            assert!(writes.len() <= WRITE_ENTRIES);
            written += writes.len();
        }
        assert_eq!(written, 100_000);
    }

    proptest! {
        #[test]
        fn blocks_and_writes_are_those_of_a_map(
            changes in prop::collection::vec((0_u8..12, prop::option::weighted(0.7, 0_u8..9), 0_u8..8), 1..120)
        ) {
            let (mut table, mut behind) = (WriteOnlyTable::new("t"), MapStore::default());
            let (mut map, mut pending) = (std::collections::BTreeMap::new(), Vec::new());
            for (key, row, what) in changes {
                let row = row.map(|row| vec![row]);
                table.set(&[key], row.as_deref());
                match row {
                    Some(row) => map.insert(vec![key], Bytes::from(row)),
                    None => map.remove(&vec![key]),
                };
                if what > 4 {
                    pending.extend(table.take_block().unwrap());
                }
                if what > 6 {
                    while table.unwritten_bytes() > 0 {
                        behind = behind.written(table.take_writes());
                    }
                    pending.clear();
                    prop_assert_eq!(&behind.entries, &map);
                } else if what == 6 {
                    // another life, from the blocks that are not written
                    table = WriteOnlyTable::new("t");
                    for block in &pending {
                        table.apply_block(block).unwrap();
                    }
                }
            }
        }
    }
}
