//! What readers see of a store: the keyed store behind, overlaid by the changelog blocks committed after it.
//!
//! Not the worker's table, which readers never touch. The subtle thing: the worker only notes blocks; sorting them is the readers' work,
//! outside of the lock that the worker takes, and a [`View`] once taken never changes. What is behind does change, so it is frozen under that
//! lock: then it holds all blocks before those of the overlay, and none that the overlay does not have, too.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};

use crate::topic::{KeyedSnapshot, TopicError};

use super::block::Block;

/// Committed state of one store, for readers of any thread.
pub struct Overlay {
    shared: RwLock<Shared>,
    /// held by the one reader that sorts new blocks
    sorting: Mutex<()>,
}

#[derive(Clone)]
struct Shared {
    behind: Arc<dyn KeyedSnapshot>,
    /// number of the first block that `behind` does not hold
    from: u64,
    /// number of the first block that neither `behind` nor the overlay holds
    next: u64,
    /// blocks that no reader has sorted yet, ascending
    fresh: Vec<(u64, Bytes)>,
    /// sorted entries of older blocks; a later layer is newer
    layers: Arc<[Arc<Layer>]>,
}

/// Entries in key order, a key once.
struct Layer {
    entries: Vec<LayerEntry>,
    /// the lowest block number among them
    oldest: u64,
    /// the highest one
    newest: u64,
    /// bytes held, about
    bytes: usize,
}

#[derive(Clone)]
struct LayerEntry {
    key: Bytes,
    row: Option<Bytes>,
    /// the block it came from
    number: u64,
}

impl Overlay {
    /// The overlay of no blocks over `behind`, which holds all blocks before number `from`.
    pub fn new(behind: Arc<dyn KeyedSnapshot>, from: u64) -> Self {
        let shared = Shared { behind, from, next: from, fresh: Vec::new(), layers: Arc::from([]) };
        Self { shared: RwLock::new(shared), sorting: Mutex::new(()) }
    }

    /// Adds a committed block. Numbers ascend; a block that is here or in the store behind already is passed over.
    ///
    /// # Errors
    /// [`TopicError::Corrupt`] if the block is damaged.
    pub fn apply_block(&self, number: u64, block: &Bytes) -> Result<(), TopicError> {
        Block::open(block)?;
        let mut shared = self.shared.write();
        if number >= shared.next {
            shared.fresh.push((number, block.clone()));
            shared.next = number + 1;
        }
        Ok(())
    }

    /// Number of the first block that is neither here nor in the store behind.
    pub fn next(&self) -> u64 {
        self.shared.read().next
    }

    /// Puts a newer store behind, which holds all blocks before number `upto`; these leave the overlay. One that is older than the store
    /// already behind is passed over.
    pub fn rebase(&self, behind: Arc<dyn KeyedSnapshot>, upto: u64) {
        let mut shared = self.shared.write();
        if upto < shared.from {
            return;
        }
        shared.behind = behind;
        shared.from = upto;
        shared.next = shared.next.max(upto);
        shared.fresh.retain(|(number, _)| *number >= upto);
        if shared.fresh.is_empty() && shared.layers.iter().all(|layer| layer.newest < upto) {
            shared.layers = Arc::from([]);
        }
    }

    /// The state as of the last block applied.
    ///
    /// # Errors
    /// [`TopicError::Corrupt`] if a block is damaged.
    pub fn view(&self) -> Result<View, TopicError> {
        let shared = self.frozen()?;
        if shared.fresh.is_empty() && shared.layers.iter().all(|layer| layer.oldest >= shared.from) {
            return Ok(View { behind: shared.behind, layers: shared.layers });
        }
        self.sorted_view()
    }

    /// Bytes of entries held beyond the store behind, about.
    pub fn memory(&self) -> usize {
        let shared = self.shared.read();
        let layers: usize = shared.layers.iter().map(|layer| layer.bytes).sum();
        layers + shared.fresh.iter().map(|(_, block)| block.len()).sum::<usize>()
    }

    /// What there is, with the store behind as it is now.
    fn frozen(&self) -> Result<Shared, TopicError> {
        let shared = self.shared.read();
        let mut frozen = shared.clone();
        if let Some(behind) = shared.behind.frozen()? {
            frozen.behind = behind;
        }
        Ok(frozen)
    }

    fn sorted_view(&self) -> Result<View, TopicError> {
        let _one_at_a_time = self.sorting.lock();
        let Shared { behind, from, fresh, layers, .. } = self.frozen()?;
        let mut sorted: Vec<Arc<Layer>> = layers.iter().filter_map(|layer| layer.since(from)).collect();
        for (number, block) in &fresh {
            push_layer(&mut sorted, Layer::of_block(*number, block)?);
        }
        let layers: Arc<[Arc<Layer>]> = sorted.into();
        let done = fresh.last().map(|(number, _)| *number);
        let mut shared = self.shared.write();
        shared.fresh.retain(|(number, _)| Some(*number) > done);
        shared.layers = layers.clone();
        Ok(View { behind, layers })
    }
}

/// Adds a layer on top and merges equals, so that there are only some log n of them.
fn push_layer(layers: &mut Vec<Arc<Layer>>, layer: Layer) {
    let mut top = layer;
    while let Some(below) = layers.pop_if(|below| below.entries.len() <= 2 * top.entries.len()) {
        top = Layer::merge(&below, top);
    }
    if !top.entries.is_empty() {
        layers.push(Arc::new(top));
    }
}

impl Layer {
    fn new(entries: Vec<LayerEntry>) -> Self {
        let oldest = entries.iter().map(|e| e.number).min().unwrap_or(u64::MAX);
        let newest = entries.iter().map(|e| e.number).max().unwrap_or(0);
        let entry = |e: &LayerEntry| size_of::<LayerEntry>() + e.key.len() + e.row.as_ref().map_or(0, Bytes::len);
        let bytes = entries.iter().map(entry).sum();
        Self { entries, oldest, newest, bytes }
    }

    fn of_block(number: u64, block: &Bytes) -> Result<Self, TopicError> {
        let block = Block::open(block)?;
        let mut order: Vec<usize> = (0..block.len()).collect();
        order.sort_by(|&a, &b| block.entry(a).0.cmp(block.entry(b).0));
        let entry = |i| {
            let (key, row) = block.shared_entry(i);
            LayerEntry { key, row, number }
        };
        Ok(Self::new(order.into_iter().map(entry).collect()))
    }

    fn merge(below: &Self, above: Self) -> Self {
        let mut merged = Vec::with_capacity(below.entries.len() + above.entries.len());
        let mut old = below.entries.iter().peekable();
        for new in above.entries {
            while let Some(entry) = old.next_if(|entry| entry.key < new.key) {
                merged.push(entry.clone());
            }
            old.next_if(|entry| entry.key == new.key);
            merged.push(new);
        }
        merged.extend(old.cloned());
        Self::new(merged)
    }

    /// The layer without what came before block `from`; `None` if nothing is left.
    fn since(self: &Arc<Self>, from: u64) -> Option<Arc<Self>> {
        if self.oldest >= from {
            return Some(self.clone());
        }
        let entries: Vec<_> = self.entries.iter().filter(|e| e.number >= from).cloned().collect();
        (!entries.is_empty()).then(|| Arc::new(Self::new(entries)))
    }

    fn get(&self, key: &[u8]) -> Option<&LayerEntry> {
        let found = self.entries.binary_search_by(|e| e.key.as_ref().cmp(key));
        found.ok().map(|i| &self.entries[i])
    }

    fn range(&self, from: &[u8], to: Option<&[u8]>) -> &[LayerEntry] {
        let start = self.entries.partition_point(|e| e.key.as_ref() < from);
        let end = to.map_or(self.entries.len(), |to| self.entries.partition_point(|e| e.key.as_ref() < to));
        &self.entries[start..end.max(start)]
    }
}

/// A store as of one commit. Cheap to clone.
#[derive(Clone)]
pub struct View {
    behind: Arc<dyn KeyedSnapshot>,
    layers: Arc<[Arc<Layer>]>,
}

impl KeyedSnapshot for View {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, TopicError> {
        match self.layers.iter().rev().find_map(|layer| layer.get(key)) {
            Some(entry) => Ok(entry.row.clone()),
            None => self.behind.get(key),
        }
    }

    fn range(
        &self,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), TopicError> {
        let mut changed = Changed { layers: self.layers.iter().map(|layer| layer.range(from, to)).collect() };
        let mut go_on = true;
        self.behind.range(from, to, &mut |key, row| {
            go_on = changed.visit_before(Some(key), visit);
            if go_on && !changed.pass(key) {
                go_on = visit(key, row);
            }
            go_on
        })?;
        if go_on {
            changed.visit_before(None, visit);
        }
        Ok(())
    }
}

/// What is left of the layers' ranges, merged as it is read; the last layer wins.
struct Changed<'a> {
    layers: Vec<&'a [LayerEntry]>,
}

impl<'a> Changed<'a> {
    fn first_key(&self) -> Option<&'a [u8]> {
        self.layers.iter().filter_map(|layer| layer.first()).map(|e| e.key.as_ref()).min()
    }

    /// Steps over `key` in all layers; its newest entry, if it is there.
    fn take(&mut self, key: &[u8]) -> Option<&'a LayerEntry> {
        let mut newest = None;
        for layer in &mut self.layers {
            if let Some((first, rest)) = layer.split_first().filter(|(first, _)| first.key == key) {
                newest = Some(first);
                *layer = rest;
            }
        }
        newest
    }

    /// True if the layers have something else to say about `key`, which must not be after their first one. Visits nothing: a row that
    /// replaces it is visited by [`Self::visit_before`] of the next key.
    fn pass(&self, key: &[u8]) -> bool {
        self.first_key() == Some(key)
    }

    /// Visits the rows before `key` (all if `None`); false if `visit` said so.
    fn visit_before(&mut self, key: Option<&[u8]>, visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> bool {
        while let Some(first) = self.first_key().filter(|first| key.is_none_or(|key| *first < key)) {
            let row = self.take(first).and_then(|entry| entry.row.as_ref());
            if row.is_some_and(|row| !visit(first, row)) {
                return false;
            }
        }
        true
    }
}

#[cfg(test)]
mod tests;
