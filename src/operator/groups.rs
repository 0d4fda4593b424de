//! Which slot holds which group: hash tables of encoded keys, one for each window in time, and the groups in the order in which they expire.
//!
//! Knows no states; `group_store` keeps these by the slots given out here. The subtle thing: all that is known of a slot, a short key
//! included, is one cache line, and a table's cell holds the hash, so that finding a group costs two places in memory and allocates nothing.

mod index;

use std::collections::BTreeMap;

use ahash::RandomState;

use crate::function::aggregate::Slot;
use crate::state::encoding::push_window;

use index::Index;

/// Fixed, so that two runs do the same.
const HASH_SEEDS: [u64; 4] =
    [0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7344, 0xa409_3822_299f_31d0, 0x082e_fa98_ec4e_6c89];

/// Changed since the last block.
pub(super) const DIRTY: u16 = 1;
/// In a block that is not written behind.
pub(super) const UNWRITTEN: u16 = 2;
/// Taken to be written behind; the store attached does not hold it yet.
pub(super) const IN_FLIGHT: u16 = 4;
/// Used since the clock's hand came by.
pub(super) const USED: u16 = 8;
/// Holds back an output, or still owes its final one.
pub(super) const OWING: u16 = 16;
/// A block or the store behind may hold it.
pub(super) const KNOWN: u16 = 32;
/// Holds a group.
pub(super) const LIVE: u16 = 64;
/// Sessions: all sessions of its key that exist are in memory.
pub(super) const WHOLE_KEY: u16 = 128;
/// The store behind may hold it: it must be deleted there when it goes.
pub(super) const BEHIND: u16 = 256;
/// May not leave memory.
pub(super) const PINNED: u16 = DIRTY | UNWRITTEN | IN_FLIGHT | OWING;

/// The row time of a group that took no row in yet, and so has no value.
pub(super) const NO_ROWTIME: i64 = i64::MIN;

/// How many look-ups to [`GroupTable::warm`] together: their cache lines should still be there when they are used.
pub(super) const WARM_ROWS: usize = 64;

/// Longest key kept in the head of its slot, in bytes.
const INLINE_BYTES: usize = 21;
/// In the place of a length: the key is a long one.
const LONG: u8 = u8::MAX;
/// No slot.
const NONE: Slot = Slot::MAX;
/// Heads are allocated so many at a time, as powers of two, so that growing moves none of them.
const CHUNK_BITS: u32 = 12;
const CHUNK: usize = 1 << CHUNK_BITS;
/// Sessions expire in so many portions a retention.
const PORTIONS: i64 = 64;

/// A window, in ms; both 0 without one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) struct Span {
    /// inclusive start
    pub start: i64,
    /// end: exclusive for time windows, inclusive for sessions
    pub end: i64,
}

/// What is known of a slot beside its state.
#[repr(align(64))]
pub(super) struct Head {
    /// its window
    pub window: Span,
    /// the greatest row time it took in; [`NO_ROWTIME`] before the first row
    pub rowtime: i64,
    /// where it stands in the order of sessions
    mark: i64,
    hash: u32,
    /// sessions: the next older one of the key; others: for who holds back their output
    pub link: u32,
    /// see the constants
    pub flags: u16,
    key_len: u8,
    key: [u8; INLINE_BYTES],
}

const _: () = assert!(size_of::<Head>() == 64);

impl Head {
    /// True if one of these flags is set.
    #[inline]
    pub fn is(&self, flags: u16) -> bool {
        self.flags & flags != 0
    }

    fn long(&self) -> usize {
        u32::from_le_bytes([self.key[0], self.key[1], self.key[2], self.key[3]]) as usize
    }
}

/// What windows groups have, and so how they are found and in which order they expire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Windows {
    /// none
    None,
    /// time windows: found by window and key, expire by start
    Time,
    /// sessions: found by key, expire by end, which may grow; in portions, unless each is to be had at its very end
    Sessions {
        /// length of a portion in ms
        portion_ms: i64,
    },
}

impl Windows {
    /// Sessions that are kept for `retention_ms`; `exact`: each is to be had at its very end.
    pub fn sessions(retention_ms: i64, exact: bool) -> Self {
        Self::Sessions { portion_ms: if exact { 1 } else { (retention_ms / PORTIONS).max(1) } }
    }

    /// True for sessions.
    pub fn are_sessions(self) -> bool {
        matches!(self, Self::Sessions { .. })
    }
}

/// The groups of one window in time.
#[derive(Default)]
struct Bucket {
    index: Index,
    /// slots given to them; some of them may be others' meanwhile
    slots: Vec<Slot>,
    /// its groups hold something back
    waits: bool,
}

/// Bytes of a bucket beside what it points to: nodes of the map are two thirds full.
const BUCKET_BYTES: usize = size_of::<(i64, Bucket)>() * 3 / 2;

/// Keys to slots.
pub(super) struct GroupTable {
    hasher: RandomState,
    windows: Windows,
    /// without windows: all groups; sessions: the newest one of each key
    index: Index,
    /// time windows, by start
    buckets: BTreeMap<i64, Bucket>,
    chunks: Vec<Vec<Head>>,
    slots: usize,
    live: usize,
    vacant: Vec<Slot>,
    /// sessions by the portion of the mark in their head; those whose mark is another one meanwhile are stale
    order: BTreeMap<i64, Vec<Slot>>,
    ordered: usize,
    long_keys: Vec<Box<[u8]>>,
    long_vacant: Vec<u32>,
    long_bytes: usize,
}

impl GroupTable {
    /// An empty table for groups with such windows.
    pub fn new(windows: Windows) -> Self {
        let [a, b, c, d] = HASH_SEEDS;
        Self {
            hasher: RandomState::with_seeds(a, b, c, d),
            windows,
            index: Index::default(),
            buckets: BTreeMap::new(),
            chunks: Vec::new(),
            slots: 0,
            live: 0,
            vacant: Vec::new(),
            order: BTreeMap::new(),
            ordered: 0,
            long_keys: Vec::new(),
            long_vacant: Vec::new(),
            long_bytes: 0,
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
        match self.windows {
            Windows::None => self.index.find(hash as u32, |slot| self.has_key(slot, key)),
            Windows::Time => self.buckets.get(&window.start)?.index.find(hash as u32, |slot| self.has_key(slot, key)),
            Windows::Sessions { .. } => self.sessions(hash, key).find(|&slot| self.head(slot).window == window),
        }
    }

    /// Brings what look-ups of these (hash, window start) will need near the processor: a look-up waits for two places in memory one
    /// after the other, here many wait together.
    pub fn warm(&self, rows: impl Iterator<Item = (u64, i64)>) {
        let (mut found, mut n, mut at) = ([0; WARM_ROWS], 0, None);
        for (hash, start) in rows.take(WARM_ROWS) {
            let index = match self.windows {
                Windows::Time => {
                    if at.is_none_or(|(known, _)| known != start) {
                        at = self.buckets.get(&start).map(|bucket| (start, &bucket.index));
                    }
                    at.map(|(_, index)| index)
                }
                _ => Some(&self.index),
            };
            if let Some(slot) = index.and_then(|index| index.guess(hash as u32)) {
                found[n] = slot;
                n += 1;
            }
        }
        std::hint::black_box(found[..n].iter().fold(0, |all, &slot| all ^ self.head(slot).flags));
    }

    /// Gives a slot to a group that has none.
    pub fn insert(&mut self, hash: u64, key: &[u8], window: Span) -> Slot {
        let (key_len, key) = self.keep_key(key);
        let (mark, link, flags) = (window.end, NONE, LIVE | USED);
        let head = Head { window, rowtime: NO_ROWTIME, mark, hash: hash as u32, link, flags, key_len, key };
        let slot = match self.vacant.pop() {
            Some(slot) => {
                *self.head_mut(slot) = head;
                slot
            }
            None => self.push(head),
        };
        self.live += 1;
        self.enter(slot);
        if self.windows.are_sessions() {
            self.put_in_order(slot, mark);
        }
        slot
    }

    fn push(&mut self, head: Head) -> Slot {
        if self.slots.is_multiple_of(CHUNK) {
            // the first chunk grows, so that a table of three groups is small
            self.chunks.push(if self.slots == 0 { Vec::new() } else { Vec::with_capacity(CHUNK) });
        }
        self.chunks[self.slots >> CHUNK_BITS].push(head);
        self.slots += 1;
        Slot::try_from(self.slots - 1).ok().filter(|&slot| slot != NONE).expect("less than 2^32 groups fit into memory")
    }

    fn keep_key(&mut self, key: &[u8]) -> (u8, [u8; INLINE_BYTES]) {
        let mut inline = [0; INLINE_BYTES];
        if key.len() <= INLINE_BYTES {
            inline[..key.len()].copy_from_slice(key);
            return (key.len() as u8, inline);
        }
        self.long_bytes += key.len();
        let at = match self.long_vacant.pop() {
            Some(at) => {
                self.long_keys[at as usize] = key.into();
                at
            }
            None => {
                self.long_keys.push(key.into());
                self.long_keys.len() as u32 - 1
            }
        };
        inline[..4].copy_from_slice(&at.to_le_bytes());
        (LONG, inline)
    }

    /// Enters a slot where look-ups find it.
    fn enter(&mut self, slot: Slot) {
        let hash = self.head(slot).hash;
        match self.windows {
            Windows::None => self.index.insert(hash, slot),
            Windows::Time => {
                let bucket = self.buckets.entry(self.head(slot).window.start).or_default();
                bucket.index.insert(hash, slot);
                bucket.slots.push(slot);
            }
            Windows::Sessions { .. } => self.link_in(slot),
        }
    }

    /// Sessions: puts a slot in its place among those of its key, newest first.
    fn link_in(&mut self, slot: Slot) {
        let (hash, start) = (self.head(slot).hash, self.head(slot).window.start);
        let Some(newest) = self.index.find(hash, |other| self.key(other) == self.key(slot)) else {
            return self.index.insert(hash, slot);
        };
        let (mut newer, mut older) = (NONE, newest);
        while older != NONE && self.head(older).window.start > start {
            (newer, older) = (older, self.head(older).link);
        }
        self.head_mut(slot).link = older;
        match newer {
            NONE => self.index.replace(hash, newest, slot),
            _ => self.head_mut(newer).link = slot,
        }
    }

    fn unlink(&mut self, slot: Slot) {
        let (hash, older) = (self.head(slot).hash, self.head(slot).link);
        let Some(newest) = self.index.find(hash, |other| self.key(other) == self.key(slot)) else { return };
        if newest == slot {
            match older {
                NONE => self.index.remove(hash, slot),
                _ => self.index.replace(hash, slot, older),
            }
            return;
        }
        let mut newer = newest;
        while self.head(newer).link != slot {
            newer = self.head(newer).link;
        }
        self.head_mut(newer).link = older;
    }

    /// Sessions: the slots of all sessions of a key, newest first.
    pub fn sessions<'a>(&'a self, hash: u64, key: &[u8]) -> impl Iterator<Item = Slot> + 'a {
        let newest = self.index.find(hash as u32, |slot| self.has_key(slot, key));
        std::iter::successors(newest, |&slot| Some(self.head(slot).link).filter(|&older| older != NONE))
    }

    /// Takes the slot of a group away.
    pub fn remove(&mut self, slot: Slot) {
        let (hash, start) = (self.head(slot).hash, self.head(slot).window.start);
        match self.windows {
            Windows::None => self.index.remove(hash, slot),
            Windows::Time => {
                if let Some(bucket) = self.buckets.get_mut(&start) {
                    bucket.index.remove(hash, slot);
                    if bucket.index.is_empty() {
                        self.buckets.remove(&start);
                    }
                }
            }
            Windows::Sessions { .. } => self.unlink(slot),
        }
        let head = self.head_mut(slot);
        head.flags = 0;
        if head.key_len == LONG {
            head.key_len = 0;
            let at = head.long();
            self.long_bytes -= std::mem::take(&mut self.long_keys[at]).len();
            self.long_vacant.push(at as u32);
        }
        self.vacant.push(slot);
        self.live -= 1;
    }

    /// What is known of a slot.
    #[inline]
    pub fn head(&self, slot: Slot) -> &Head {
        &self.chunks[(slot >> CHUNK_BITS) as usize][slot as usize & (CHUNK - 1)]
    }

    /// What is known of a slot, to be changed.
    #[inline]
    pub fn head_mut(&mut self, slot: Slot) -> &mut Head {
        &mut self.chunks[(slot >> CHUNK_BITS) as usize][slot as usize & (CHUNK - 1)]
    }

    /// The encoded key of a slot, without window.
    #[inline]
    pub fn key(&self, slot: Slot) -> &[u8] {
        let head = self.head(slot);
        match head.key_len {
            LONG => &self.long_keys[head.long()],
            len => &head.key[..usize::from(len)],
        }
    }

    /// True if `key` is that of a slot. Short keys are compared here: calling the C library for a few bytes costs more than they do.
    #[inline]
    fn has_key(&self, slot: Slot, key: &[u8]) -> bool {
        let head = self.head(slot);
        match head.key_len {
            LONG => &self.long_keys[head.long()][..] == key,
            len => usize::from(len) == key.len() && same_bytes(&head.key[..key.len()], key),
        }
    }

    /// Slots in use have numbers below this.
    pub fn slots(&self) -> usize {
        self.slots
    }

    /// Number of groups in memory.
    pub fn len(&self) -> usize {
        self.live
    }

    /// Number of free slots.
    pub fn vacant(&self) -> usize {
        self.vacant.len()
    }

    /// Appends the key of a slot as stores have it: with its window, if groups have any.
    pub fn store_key(&self, slot: Slot, out: &mut Vec<u8>) {
        out.extend_from_slice(self.key(slot));
        if self.windows != Windows::None {
            let window = self.head(slot).window;
            push_window(out, window.start, window.end);
        }
    }

    /// Time windows: the first start at or after `from`.
    pub fn next_start(&self, from: i64) -> Option<i64> {
        self.buckets.range(from..).next().map(|(&start, _)| start)
    }

    /// Time windows: the groups whose window starts at `start`, in key order.
    pub fn starting_at(&self, start: i64) -> Vec<Slot> {
        let slots = self.buckets.get(&start).into_iter().flat_map(|bucket| &bucket.slots).copied();
        let mut slots: Vec<Slot> = slots.filter(|&slot| self.starts_at(slot, start)).collect();
        slots.sort_unstable_by(|&a, &b| self.key(a).cmp(self.key(b)).then(a.cmp(&b)));
        slots.dedup();
        slots
    }

    fn starts_at(&self, slot: Slot, start: i64) -> bool {
        self.head(slot).is(LIVE) && self.head(slot).window.start == start
    }

    /// Time windows: takes the first window away that starts before `before` and owes no output, and gives its groups. They can be found
    /// no more and are to be removed. `again`: also looks at windows that once owed one.
    pub fn take_window(&mut self, before: i64, again: bool) -> Option<Vec<Slot>> {
        let mut done = None;
        let owes = |slots: &[Slot], start| slots.iter().any(|&s| self.starts_at(s, start) && self.head(s).is(OWING));
        let mut waiting = Vec::new();
        for (&start, bucket) in self.buckets.range(..before).filter(|(_, bucket)| again || !bucket.waits) {
            if !owes(&bucket.slots, start) {
                done = Some(start);
                break;
            }
            waiting.push(start);
        }
        waiting.iter().for_each(|start| self.buckets.get_mut(start).into_iter().for_each(|bucket| bucket.waits = true));
        let start = done?;
        let mut slots = self.buckets.remove(&start)?.slots;
        slots.retain(|&slot| self.starts_at(slot, start));
        slots.sort_unstable();
        slots.dedup();
        Some(slots)
    }

    /// Sessions: takes those out of the order that stand before `before` in it, as far as their portion is over; those that have grown
    /// beyond it stay.
    pub fn take_before(&mut self, before: i64) -> Vec<Slot> {
        let mut taken = Vec::new();
        while let Some(first) = self.order.first_entry()
            && (first.key() + 1).saturating_mul(portion(self.windows)) <= before
        {
            let (place, slots) = first.remove_entry();
            self.ordered -= slots.len();
            for slot in slots {
                let head = self.head(slot);
                if !head.is(LIVE) || head.mark.div_euclid(portion(self.windows)) != place {
                    continue;
                }
                let grown = head.window.end.max(head.mark);
                if grown.div_euclid(portion(self.windows)) == place {
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

    /// Sessions: puts a slot (back) into the order, to be taken when `mark` is before the bound.
    pub fn put_in_order(&mut self, slot: Slot, mark: i64) {
        self.head_mut(slot).mark = mark;
        self.order.entry(mark.div_euclid(portion(self.windows))).or_default().push(slot);
        self.ordered += 1;
    }

    /// Where a slot stands in the order.
    pub fn mark(&self, slot: Slot) -> i64 {
        self.head(slot).mark
    }

    /// All groups in memory.
    pub fn live(&self) -> impl Iterator<Item = Slot> + '_ {
        (0..self.slots as Slot).filter(|&slot| self.head(slot).is(LIVE))
    }

    /// Renumbers the slots so that none is vacant. Gives the old slot of each new one. Nothing may be held back.
    pub fn compact(&mut self) -> Vec<Slot> {
        let kept: Vec<Slot> = self.live().collect();
        let old = std::mem::take(&mut self.chunks);
        (self.slots, self.vacant, self.index) = (0, Vec::new(), Index::default());
        self.buckets.clear();
        self.order.clear();
        self.ordered = 0;
        // chunk by chunk, so that there are never two of all
        for head in old.into_iter().flatten().filter(|head| head.is(LIVE)) {
            let mark = head.mark;
            let slot = self.push(Head { link: NONE, ..head });
            self.enter(slot);
            if self.windows.are_sessions() {
                self.put_in_order(slot, mark);
            }
        }
        kept
    }

    /// Bytes held for the groups that are there, about; what vacant slots take is for those to come.
    pub fn memory(&self) -> usize {
        let buckets = self.buckets.values().map(|b| b.index.memory() + b.slots.capacity() * size_of::<Slot>());
        self.live * size_of::<Head>()
            + self.index.memory()
            + buckets.sum::<usize>()
            + self.buckets.len() * BUCKET_BYTES
            + self.ordered * size_of::<Slot>()
            + self.long_bytes
            + (self.long_keys.len() - self.long_vacant.len()) * size_of::<Box<[u8]>>()
    }
}

/// True if two slices of one length are the same; by words that overlap in the middle.
#[inline]
fn same_bytes(a: &[u8], b: &[u8]) -> bool {
    fn same<const N: usize>(a: &[u8], b: &[u8]) -> bool {
        a.first_chunk::<N>() == b.first_chunk::<N>() && a.last_chunk::<N>() == b.last_chunk::<N>()
    }
    match a.len() {
        0..4 => a.iter().eq(b),
        4..8 => same::<4>(a, b),
        8..=16 => same::<8>(a, b),
        17..=24 => a.first_chunk::<16>() == b.first_chunk::<16>() && a.last_chunk::<8>() == b.last_chunk::<8>(),
        _ => a == b,
    }
}

fn portion(windows: Windows) -> i64 {
    match windows {
        Windows::Sessions { portion_ms } => portion_ms,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_with_one_group_takes_little_and_gives_it_back() {
        const WINDOWS: i64 = 10_000;
        let mut table = GroupTable::new(Windows::Time);
        let hash = table.hash(b"k");
        let span = |n: i64| Span { start: 1000 * n, end: 1000 * (n + 1) };
        let slots: Vec<Slot> = (0..WINDOWS).map(|n| table.insert(hash, b"k", span(n))).collect();
        let each = table.memory() / WINDOWS as usize;
        assert!((size_of::<Head>() + size_of::<Bucket>()..=256).contains(&each), "{each} bytes a window");
        for (n, slot) in (0..).zip(slots) {
            assert_eq!(table.find(hash, b"k", span(n)), Some(slot));
            table.remove(slot);
            assert_eq!(
                (table.find(hash, b"k", span(n)), table.next_start(1000 * n)),
                (None, table.next_start(1000 * n + 1))
            );
        }
        assert_eq!((table.next_start(0), table.memory()), (None, 0));
        // in a window that was given back others find a place
        let slot = table.insert(hash, b"k", span(7));
        assert_eq!((table.next_start(0), table.starting_at(7000)), (Some(7000), vec![slot]));
    }
}
