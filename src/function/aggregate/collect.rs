//! COLLECT_LIST and COLLECT_SET: all values, or all distinct ones, in order of arrival, up to a limit.
//!
//! The subtle thing: NULL is a value here; a list gives up its last equal element when a row is taken away, a set never gives up any.

use arrow::array::{ArrayRef, AsArray};
use hashbrown::HashTable;

use super::Slot;
use super::grouped::Kernel;
use super::value::{Kind, Lists, list_range, list_type};
use crate::types::SqlType;

/// Sets up to this size are searched one by one; larger ones have an index.
const INDEXED_FROM: usize = 9;

/// Values by slot.
pub(super) struct Collect<K: Kind, const DISTINCT: bool> {
    kind: K,
    limit: usize,
    lists: Vec<Vec<Option<K::Value>>>,
    /// positions in the slot's list by hash; empty while the list is short, and always for COLLECT_LIST
    indexes: Vec<HashTable<u32>>,
    hasher: ahash::RandomState,
    heap: usize,
}

impl<K: Kind, const DISTINCT: bool> Collect<K, DISTINCT> {
    /// Collects values of `kind`, at most `limit` a group.
    pub fn new(kind: K, limit: Option<usize>) -> Self {
        Self {
            kind,
            limit: limit.unwrap_or(usize::MAX),
            lists: Vec::new(),
            indexes: Vec::new(),
            hasher: ahash::RandomState::with_seeds(1, 2, 3, 4),
            heap: 0,
        }
    }

    fn size(value: &Option<K::Value>) -> usize {
        size_of::<Option<K::Value>>() + value.as_ref().map_or(0, K::heap)
    }

    fn same(a: &Option<K::Value>, b: Option<K::Ref<'_>>) -> bool {
        match (a, b) {
            (Some(a), Some(b)) => K::compare(K::view(a), b).is_eq(),
            (None, None) => true,
            _ => false,
        }
    }

    fn hash(hasher: &ahash::RandomState, value: Option<K::Ref<'_>>) -> u64 {
        value.map_or(0, |value| K::hash(value, hasher))
    }

    fn contains(&self, slot: usize, value: Option<K::Ref<'_>>) -> bool {
        let (list, index) = (&self.lists[slot], &self.indexes[slot]);
        if list.len() < INDEXED_FROM {
            return list.iter().any(|held| Self::same(held, value));
        }
        index.find(Self::hash(&self.hasher, value), |&at| Self::same(&list[at as usize], value)).is_some()
    }

    fn push(&mut self, slot: usize, value: Option<K::Ref<'_>>) {
        if self.lists[slot].len() >= self.limit || (DISTINCT && self.contains(slot, value)) {
            return;
        }
        let owned = value.map(K::own);
        self.heap += Self::size(&owned);
        self.lists[slot].push(owned);
        if DISTINCT {
            self.index(slot);
        }
    }

    /// Indexes the last value; the first time, all of them.
    fn index(&mut self, slot: usize) {
        let (list, index, hasher) = (&self.lists[slot], &mut self.indexes[slot], &self.hasher);
        let hash_at = |at: &u32| Self::hash(hasher, list[*at as usize].as_ref().map(K::view));
        let from = match list.len() {
            ..INDEXED_FROM => return,
            INDEXED_FROM => 0,
            more => more - 1,
        };
        for at in from..list.len() {
            let at = u32::try_from(at).expect("a set in memory has less than 2^32 values");
            index.insert_unique(hash_at(&at), at, hash_at);
        }
    }
}

impl<K: Kind, const DISTINCT: bool> Kernel for Collect<K, DISTINCT> {
    type Args = K::Column;
    type Out = Lists<K>;

    fn resize(&mut self, slots: usize) {
        self.lists.resize(slots, Vec::new());
        if DISTINCT {
            self.indexes.resize(slots, HashTable::new());
        }
    }

    fn reset(&mut self, slot: usize) {
        let list = std::mem::take(&mut self.lists[slot]);
        self.heap -= list.iter().map(Self::size).sum::<usize>();
        if DISTINCT {
            self.indexes[slot] = HashTable::new();
        }
    }

    fn bind(&self, args: &[ArrayRef]) -> K::Column {
        self.kind.column(&args[0])
    }

    fn apply(&mut self, slot: usize, args: &K::Column, row: usize) -> Result<(), String> {
        self.push(slot, K::get(args, row));
        Ok(())
    }

    fn undo(&mut self, slot: usize, args: &K::Column, row: usize) -> Result<(), String> {
        if DISTINCT {
            return Err("COLLECT_SET cannot take rows away".to_owned());
        }
        let value = K::get(args, row);
        let list = &mut self.lists[slot];
        if let Some(at) = list.iter().rposition(|held| Self::same(held, value)) {
            self.heap -= Self::size(&list.remove(at));
        }
        Ok(())
    }

    fn merge(&mut self, into: usize, from: usize) -> Result<(), String> {
        let values = self.lists[from].clone();
        values.iter().for_each(|value| self.push(into, value.as_ref().map(K::view)));
        Ok(())
    }

    fn out(&self) -> Lists<K> {
        Lists::new(&self.kind)
    }

    fn emit(&self, slot: usize, out: &mut Lists<K>) {
        out.push(self.lists[slot].iter().map(Option::as_ref));
    }

    fn finish(&self, out: Lists<K>) -> ArrayRef {
        out.finish(&self.kind)
    }

    fn states(&self, slots: &[Slot]) -> Vec<ArrayRef> {
        let mut out = self.out();
        slots.iter().for_each(|&slot| self.emit(slot as usize, &mut out));
        vec![out.finish(&self.kind)]
    }

    fn state_types(&self) -> Vec<SqlType> {
        vec![list_type(self.kind.ty())]
    }

    fn load(&mut self, slots: &[Slot], states: &[ArrayRef]) {
        let lists = states[0].as_list::<i32>();
        let values = self.kind.column(lists.values());
        let limit = std::mem::replace(&mut self.limit, usize::MAX);
        for (row, &slot) in slots.iter().enumerate() {
            self.reset(slot as usize);
            for at in list_range(lists, row) {
                self.push(slot as usize, K::get(&values, at));
            }
        }
        self.limit = limit;
    }

    fn memory(&self) -> usize {
        let indexed: usize =
            if DISTINCT { self.heap / size_of::<Option<K::Value>>() * 2 * size_of::<u32>() } else { 0 };
        let slots = self.lists.capacity() * size_of::<Vec<Option<K::Value>>>();
        slots + self.indexes.capacity() * size_of::<HashTable<u32>>() + self.heap + indexed
    }
}
