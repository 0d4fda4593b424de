//! Which slot holds which group: a hash table of encoded keys (and windows), and the windows in the order in which they expire.
//!
//! Knows no states; `group_store` keeps these by the slots given out here. The subtle thing: the stored hash and a short key stand in the
//! head of a slot itself, so that finding a group costs two places in memory and allocates nothing.

use std::collections::BTreeMap;

use ahash::RandomState;
use hashbrown::HashTable;

use crate::function::aggregate::Slot;
use crate::state::encoding::push_window;

/// Fixed, so that two runs do the same.
const HASH_SEEDS: [u64; 4] =
    [0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7344, 0xa409_3822_299f_31d0, 0x082e_fa98_ec4e_6c89];

/// Changed since the last block.
pub(super) const DIRTY: u8 = 1;
/// In a block that is not written behind.
pub(super) const UNWRITTEN: u8 = 2;
/// Taken to be written behind; the store attached does not hold it yet.
pub(super) const IN_FLIGHT: u8 = 4;
/// Used since the clock's hand came by.
pub(super) const USED: u8 = 8;
/// Holds back an output, or still owes its final one.
pub(super) const OWING: u8 = 16;
/// A block or the store behind may hold it: it must be deleted there when it goes.
pub(super) const KNOWN: u8 = 32;
/// Holds a group.
pub(super) const LIVE: u8 = 64;
/// Sessions: all sessions of its key that exist are in memory.
pub(super) const WHOLE_KEY: u8 = 128;
/// May not leave memory.
pub(super) const PINNED: u8 = DIRTY | UNWRITTEN | IN_FLIGHT | OWING;

/// The row time of a group that took no row in yet, and so has no value.
pub(super) const NO_ROWTIME: i64 = i64::MIN;

/// Longest key kept in the head of its slot, in bytes.
const INLINE_BYTES: usize = 22;

/// A window, in ms; both 0 without one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) struct Span {
    /// inclusive start
    pub start: i64,
    /// end: exclusive for time windows, inclusive for sessions
    pub end: i64,
}

enum Key {
    Inline(u8, [u8; INLINE_BYTES]),
    Heap(Box<[u8]>),
}

impl Key {
    fn new(bytes: &[u8]) -> Self {
        if bytes.len() > INLINE_BYTES {
            return Self::Heap(bytes.into());
        }
        let mut inline = [0; INLINE_BYTES];
        inline[..bytes.len()].copy_from_slice(bytes);
        Self::Inline(bytes.len() as u8, inline)
    }

    #[inline]
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Inline(len, bytes) => &bytes[..usize::from(*len)],
            Self::Heap(bytes) => bytes,
        }
    }

    fn heap(&self) -> usize {
        if let Self::Heap(bytes) = self { bytes.len() } else { 0 }
    }
}

/// What is known of a slot beside its state.
pub(super) struct Head {
    hash: u64,
    /// its window
    pub window: Span,
    /// the greatest row time it took in; [`NO_ROWTIME`] before the first row
    pub rowtime: i64,
    key: Key,
    /// where it stands in the order of windows
    mark: i64,
    /// see the constants
    pub flags: u8,
}

/// What windows groups have, and so how they are hashed and in which order they expire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Windows {
    /// none
    None,
    /// time windows: found by key and window, ordered by start
    Time,
    /// sessions: found by key, ordered by end, which may grow
    Sessions,
}

impl Windows {
    fn mark(self, window: Span) -> i64 {
        if self == Self::Sessions { window.end } else { window.start }
    }

    #[inline]
    fn hash(self, hash: u64, window: Span) -> u64 {
        if self == Self::Time { mix(hash, window) } else { hash }
    }
}

impl Head {
    /// The encoded key, without window.
    pub fn key(&self) -> &[u8] {
        self.key.bytes()
    }

    /// True if one of these flags is set.
    pub fn is(&self, flags: u8) -> bool {
        self.flags & flags != 0
    }
}

/// Keys to slots.
pub(super) struct GroupTable {
    hasher: RandomState,
    index: HashTable<Slot>,
    heads: Vec<Head>,
    vacant: Vec<Slot>,
    windows: Windows,
    /// slots by the mark in their head; those whose mark is another one meanwhile are stale
    order: BTreeMap<i64, Vec<Slot>>,
    key_heap: usize,
    ordered: usize,
}

impl GroupTable {
    /// An empty table for groups with such windows.
    pub fn new(windows: Windows) -> Self {
        let [a, b, c, d] = HASH_SEEDS;
        Self {
            hasher: RandomState::with_seeds(a, b, c, d),
            index: HashTable::new(),
            heads: Vec::new(),
            vacant: Vec::new(),
            windows,
            order: BTreeMap::new(),
            key_heap: 0,
            ordered: 0,
        }
    }

    /// The hash of an encoded key, without window.
    #[inline]
    pub fn hash(&self, key: &[u8]) -> u64 {
        self.hasher.hash_one(key)
    }

    /// The slot of a group, if it is in memory; `hash` is that of the key.
    #[inline]
    pub fn find(&self, hash: u64, key: &[u8], window: Span) -> Option<Slot> {
        let hash = self.windows.hash(hash, window);
        let same = |&slot: &Slot| {
            let head = &self.heads[slot as usize];
            head.hash == hash && head.window == window && head.key() == key
        };
        self.index.find(hash, same).copied()
    }

    /// Gives a slot to a group that has none.
    pub fn insert(&mut self, hash: u64, key: &[u8], window: Span) -> Slot {
        let (hash, mark) = (self.windows.hash(hash, window), self.windows.mark(window));
        let key = Key::new(key);
        self.key_heap += key.heap();
        let head = Head { hash, window, rowtime: NO_ROWTIME, key, mark, flags: LIVE | USED };
        let slot = match self.vacant.pop() {
            Some(slot) => {
                self.heads[slot as usize] = head;
                slot
            }
            None => {
                self.heads.push(head);
                Slot::try_from(self.heads.len() - 1).expect("less than 2^32 groups fit into memory")
            }
        };
        let heads = &self.heads;
        self.index.insert_unique(hash, slot, |&other| heads[other as usize].hash);
        self.put_in_order(slot, mark);
        slot
    }

    /// Sessions: the slots of all sessions of a key.
    pub fn sessions<'a>(&'a self, hash: u64, key: &'a [u8]) -> impl Iterator<Item = Slot> + 'a {
        let same = move |slot: &Slot| self.head(*slot).hash == hash && self.head(*slot).key() == key;
        self.index.iter_hash(hash).copied().filter(same)
    }

    /// Takes the slot of a group away.
    pub fn remove(&mut self, slot: Slot) {
        let head = &mut self.heads[slot as usize];
        head.flags = 0;
        self.key_heap -= head.key.heap();
        head.key = Key::new(&[]);
        if let Ok(found) = self.index.find_entry(head.hash, |&other| other == slot) {
            found.remove();
        }
        self.vacant.push(slot);
    }

    /// What is known of a slot.
    #[inline]
    pub fn head(&self, slot: Slot) -> &Head {
        &self.heads[slot as usize]
    }

    /// What is known of a slot, to be changed.
    #[inline]
    pub fn head_mut(&mut self, slot: Slot) -> &mut Head {
        &mut self.heads[slot as usize]
    }

    /// Slots in use have numbers below this.
    pub fn slots(&self) -> usize {
        self.heads.len()
    }

    /// Number of groups in memory.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Number of free slots.
    pub fn vacant(&self) -> usize {
        self.vacant.len()
    }

    /// Appends the key of a slot as stores have it: with its window, if groups have any.
    pub fn store_key(&self, slot: Slot, out: &mut Vec<u8>) {
        let head = self.head(slot);
        out.extend_from_slice(head.key());
        if self.windows != Windows::None {
            push_window(out, head.window.start, head.window.end);
        }
    }

    /// Time windows: the first start at or after `from`.
    pub fn next_start(&self, from: i64) -> Option<i64> {
        self.order.range(from..).next().map(|(&start, _)| start)
    }

    /// Time windows: the groups whose window starts at `start`, in key order.
    pub fn starting_at(&self, start: i64) -> Vec<Slot> {
        let slots = self.order.get(&start).into_iter().flatten().copied();
        let mut slots: Vec<Slot> = slots.filter(|&slot| self.stands_at(slot, start)).collect();
        slots.sort_unstable_by(|&a, &b| self.head(a).key().cmp(self.head(b).key()).then(a.cmp(&b)));
        slots.dedup();
        slots
    }

    fn stands_at(&self, slot: Slot, mark: i64) -> bool {
        self.head(slot).is(LIVE) && self.head(slot).mark == mark
    }

    /// Takes the groups out of the order that stand before `before` in it; sessions that have grown beyond it stay.
    pub fn take_before(&mut self, before: i64) -> Vec<Slot> {
        let mut taken = Vec::new();
        while let Some(first) = self.order.first_entry()
            && *first.key() < before
        {
            let (mark, slots) = first.remove_entry();
            self.ordered -= slots.len();
            for slot in slots {
                let grown = self.windows.mark(self.head(slot).window).max(mark);
                if !self.stands_at(slot, mark) {
                    continue;
                }
                if grown < before {
                    taken.push(slot);
                } else {
                    self.put_in_order(slot, grown);
                }
            }
        }
        taken.sort_unstable();
        taken.dedup();
        taken
    }

    /// Puts a slot (back) into the order, to be taken when `mark` is before the bound.
    pub fn put_in_order(&mut self, slot: Slot, mark: i64) {
        if self.windows == Windows::None {
            return;
        }
        self.heads[slot as usize].mark = mark;
        self.order.entry(mark).or_default().push(slot);
        self.ordered += 1;
    }

    /// Where a slot stands in the order.
    pub fn mark(&self, slot: Slot) -> i64 {
        self.head(slot).mark
    }

    /// All groups in memory.
    pub fn live(&self) -> impl Iterator<Item = Slot> + '_ {
        (0..self.heads.len() as Slot).filter(|&slot| self.head(slot).is(LIVE))
    }

    /// Renumbers the slots so that none is vacant. Gives the old slot of each new one.
    pub fn compact(&mut self) -> Vec<Slot> {
        let kept: Vec<Slot> = self.live().collect();
        let mut heads = Vec::with_capacity(kept.len());
        let old = std::mem::take(&mut self.heads);
        heads.extend(old.into_iter().filter(|head| head.is(LIVE)));
        self.index = HashTable::with_capacity(heads.len());
        for (slot, head) in heads.iter().enumerate() {
            self.index.insert_unique(head.hash, slot as Slot, |&other| heads[other as usize].hash);
        }
        (self.heads, self.vacant) = (heads, Vec::new());
        self.order.clear();
        self.ordered = 0;
        (0..self.heads.len() as Slot).for_each(|slot| self.put_in_order(slot, self.head(slot).mark));
        kept
    }

    /// Bytes held, about.
    pub fn memory(&self) -> usize {
        self.heads.capacity() * size_of::<Head>()
            + self.index.allocation_size()
            + (self.vacant.capacity() + self.ordered) * size_of::<Slot>()
            + self.key_heap
    }
}

/// The hash of key and window.
#[inline]
fn mix(hash: u64, window: Span) -> u64 {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    let bounds = (window.start as u64).wrapping_mul(ODD) ^ (window.end as u64).rotate_left(32);
    (hash ^ bounds).wrapping_mul(ODD).rotate_left(29) ^ hash
}
