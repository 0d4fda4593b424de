//! Which slot holds which group: a hash table of encoded keys (and windows), and the windows in order of their start.
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
    /// see the constants
    pub flags: u8,
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
    /// slots by start of their window, where groups have windows; slots that were freed since may still stand here
    by_start: Option<BTreeMap<i64, Vec<Slot>>>,
    key_heap: usize,
    bucketed: usize,
}

impl GroupTable {
    /// An empty table; `windowed` if groups have windows.
    pub fn new(windowed: bool) -> Self {
        let [a, b, c, d] = HASH_SEEDS;
        Self {
            hasher: RandomState::with_seeds(a, b, c, d),
            index: HashTable::new(),
            heads: Vec::new(),
            vacant: Vec::new(),
            by_start: windowed.then(BTreeMap::new),
            key_heap: 0,
            bucketed: 0,
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
        let hash = mix(hash, window);
        let same = |&slot: &Slot| {
            let head = &self.heads[slot as usize];
            head.hash == hash && head.window == window && head.key() == key
        };
        self.index.find(hash, same).copied()
    }

    /// Gives a slot to a group that has none.
    pub fn insert(&mut self, hash: u64, key: &[u8], window: Span) -> Slot {
        let hash = mix(hash, window);
        let key = Key::new(key);
        self.key_heap += key.heap();
        let head = Head { hash, window, rowtime: NO_ROWTIME, key, flags: LIVE | USED };
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
        if let Some(by_start) = &mut self.by_start {
            by_start.entry(window.start).or_default().push(slot);
            self.bucketed += 1;
        }
        slot
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
        if self.by_start.is_some() {
            push_window(out, head.window.start, head.window.end);
        }
    }

    /// The first window start at or after `from`.
    pub fn next_start(&self, from: i64) -> Option<i64> {
        self.by_start.as_ref()?.range(from..).next().map(|(&start, _)| start)
    }

    /// The groups whose window starts at `start`, in key order.
    pub fn starting_at(&self, start: i64) -> Vec<Slot> {
        let bucket = self.by_start.as_ref().and_then(|by_start| by_start.get(&start));
        let mut slots: Vec<Slot> = bucket.into_iter().flatten().copied().collect();
        slots.retain(|&slot| self.head(slot).is(LIVE) && self.head(slot).window.start == start);
        slots.sort_unstable_by(|&a, &b| self.head(a).key().cmp(self.head(b).key()).then(a.cmp(&b)));
        slots.dedup();
        slots
    }

    /// Removes the windows that start before `before` from the order; gives their slots.
    pub fn take_before(&mut self, before: i64) -> Vec<Slot> {
        let Some(by_start) = &mut self.by_start else { return Vec::new() };
        let mut taken = Vec::new();
        while let Some(first) = by_start.first_entry()
            && *first.key() < before
        {
            let (start, slots) = first.remove_entry();
            self.bucketed -= slots.len();
            let heads = &self.heads;
            let live = |slot: &Slot| heads[*slot as usize].is(LIVE) && heads[*slot as usize].window.start == start;
            taken.extend(slots.into_iter().filter(live));
        }
        taken.sort_unstable();
        taken.dedup();
        taken
    }

    /// Puts a slot back into the order of windows.
    pub fn put_back(&mut self, slot: Slot) {
        let start = self.head(slot).window.start;
        if let Some(by_start) = &mut self.by_start {
            by_start.entry(start).or_default().push(slot);
            self.bucketed += 1;
        }
    }

    /// Renumbers the slots so that none is vacant. Gives the old slot of each new one.
    pub fn compact(&mut self) -> Vec<Slot> {
        let live = (0..self.heads.len() as Slot).filter(|&slot| self.head(slot).is(LIVE));
        let kept: Vec<Slot> = live.collect();
        let mut heads = Vec::with_capacity(kept.len());
        let old = std::mem::take(&mut self.heads);
        heads.extend(old.into_iter().filter(|head| head.is(LIVE)));
        self.index = HashTable::with_capacity(heads.len());
        for (slot, head) in heads.iter().enumerate() {
            self.index.insert_unique(head.hash, slot as Slot, |&other| heads[other as usize].hash);
        }
        if let Some(by_start) = &mut self.by_start {
            by_start.clear();
            for (slot, head) in heads.iter().enumerate() {
                by_start.entry(head.window.start).or_default().push(slot as Slot);
            }
            self.bucketed = heads.len();
        }
        (self.heads, self.vacant) = (heads, Vec::new());
        kept
    }

    /// Bytes held, about.
    pub fn memory(&self) -> usize {
        self.heads.capacity() * size_of::<Head>()
            + self.index.allocation_size()
            + (self.vacant.capacity() + self.bucketed) * size_of::<Slot>()
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
