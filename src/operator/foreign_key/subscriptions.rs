//! Who refers to which right row: a store of `foreign key, left key → version and partition of the left row`, in key order.
//!
//! Asked only for the left keys of one foreign key, page by page; so entries need not be in memory, and clean ones leave it all at once when
//! memory is short. The subtle thing: from then on memory holds what the store behind does not know yet, and a read merges the two.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use hashbrown::HashMap;

use crate::state::block::{Block, BlockWriter};
use crate::state::{Store, WRITE_ENTRIES, sort_writes};
use crate::topic::{KeyedSnapshot, KeyedWrites, TopicError};

/// Changed since the last block.
const DIRTY: u8 = 1;
/// In a block that is not written behind.
const UNWRITTEN: u8 = 2;
/// Taken to be written behind; the store attached does not hold it yet.
const IN_FLIGHT: u8 = 4;
/// Bytes that an entry takes beside its key, about.
const ENTRY_BYTES: usize = 72;
/// Bytes of a row: version and partition.
const ROW_BYTES: usize = 12;

/// The left row that refers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Subscriber {
    /// its version
    pub version: i64,
    /// the partition of its task
    pub partition: i32,
}

impl Subscriber {
    fn row(self) -> [u8; ROW_BYTES] {
        let mut row = [0; ROW_BYTES];
        row[..8].copy_from_slice(&self.version.to_le_bytes());
        row[8..].copy_from_slice(&self.partition.to_le_bytes());
        row
    }

    fn of_row(row: &[u8]) -> Result<Self, TopicError> {
        let damaged = || TopicError::Corrupt("a subscription of a foreign-key join is damaged".into());
        let (version, partition) = row.split_at_checked(8).ok_or_else(damaged)?;
        Ok(Self {
            version: version.try_into().map(i64::from_le_bytes).map_err(|_| damaged())?,
            partition: partition.try_into().map(i32::from_le_bytes).map_err(|_| damaged())?,
        })
    }
}

struct Entry {
    /// `None`: deleted
    subscriber: Option<Subscriber>,
    flags: u8,
}

/// The store.
pub(super) struct Subscriptions {
    name: String,
    entries: BTreeMap<Arc<[u8]>, Entry>,
    key_bytes: usize,
    dirty: Vec<Arc<[u8]>>,
    dirty_bytes: usize,
    /// keys with their rows as of a block
    unwritten: VecDeque<(Arc<[u8]>, Option<Subscriber>)>,
    unwritten_bytes: usize,
    /// so many of them, the first ones, are in flight
    in_flight: usize,
    behind: Option<Arc<dyn KeyedSnapshot>>,
    /// memory holds all there is
    complete: bool,
}

impl Subscriptions {
    /// An empty store.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            entries: BTreeMap::new(),
            key_bytes: 0,
            dirty: Vec::new(),
            dirty_bytes: 0,
            unwritten: VecDeque::new(),
            unwritten_bytes: 0,
            in_flight: 0,
            behind: None,
            complete: true,
        }
    }

    /// Notes or forgets a subscriber; `key` is the foreign key, then the left key.
    pub fn set(&mut self, key: &[u8], subscriber: Option<Subscriber>) {
        if let Some(key) = self.change(key, subscriber, DIRTY) {
            self.dirty_bytes += key.len() + ROW_BYTES;
            self.dirty.push(key);
        }
    }

    /// Sets an entry and a flag of it; gives the key if it had not that flag, `None` too where nothing is to be remembered.
    fn change(&mut self, key: &[u8], subscriber: Option<Subscriber>, flag: u8) -> Option<Arc<[u8]>> {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.subscriber = subscriber;
            let had = entry.flags & flag != 0;
            entry.flags |= flag;
            return if had { None } else { self.entries.get_key_value(key).map(|(key, _)| key.clone()) };
        }
        if subscriber.is_none() && self.complete {
            return None;
        }
        let key: Arc<[u8]> = Arc::from(key);
        self.key_bytes += key.len();
        self.entries.insert(key.clone(), Entry { subscriber, flags: flag });
        Some(key)
    }

    /// Calls `visit` with the left key and the subscriber of those who refer to `foreign_key`, in order of left keys, from the one after
    /// `after` on, at most `limit` times; true if that were all.
    ///
    /// # Errors
    /// If the store behind cannot be read.
    pub fn page(
        &self,
        foreign_key: &[u8],
        after: Option<&[u8]>,
        limit: usize,
        visit: &mut dyn FnMut(&[u8], Subscriber),
    ) -> Result<bool, TopicError> {
        // no key is a prefix of another, so these are all that begin with the foreign key
        let (from, to) = ([foreign_key, after.unwrap_or_default()].concat(), successor(foreign_key));
        let lower = if after.is_some() { Bound::Excluded(&from[..]) } else { Bound::Included(&from[..]) };
        let upper = to.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut memory = self.entries.range::<[u8], _>((lower, upper)).peekable();
        let mut left = limit;
        let mut give = |key: &[u8], subscriber: Subscriber| {
            if left == 0 {
                return false;
            }
            left -= 1;
            visit(&key[foreign_key.len()..], subscriber);
            true
        };
        let (mut full, mut failure) = (false, None);
        if let Some(behind) = self.behind.as_ref().filter(|_| !self.complete) {
            behind.range(&from, to.as_deref(), &mut |key, row| {
                if after.is_some() && key == from {
                    return true;
                }
                while let Some((own, entry)) = memory.next_if(|(own, _)| own[..] < *key) {
                    full |= entry.subscriber.is_some_and(|subscriber| !give(own, subscriber));
                }
                let newer = memory.next_if(|(own, _)| own[..] == *key);
                match newer.map_or_else(|| Subscriber::of_row(row).map(Some), |(_, entry)| Ok(entry.subscriber)) {
                    Ok(subscriber) => full |= subscriber.is_some_and(|subscriber| !give(key, subscriber)),
                    Err(error) => failure = Some(error),
                }
                !full && failure.is_none()
            })?;
        }
        failure.map_or(Ok(()), Err)?;
        while let Some((own, entry)) = memory.next().filter(|_| !full) {
            full |= entry.subscriber.is_some_and(|subscriber| !give(own, subscriber));
        }
        Ok(!full)
    }

    /// Clears a flag of an entry, which leaves memory if nothing keeps it there.
    fn clear(&mut self, key: &[u8], flag: u8) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        entry.flags &= !flag;
        if entry.flags == 0 && entry.subscriber.is_none() {
            self.entries.remove(key);
            self.key_bytes -= key.len();
        }
    }
}

/// The first key after all that begin with `prefix`; `None`: there is none.
fn successor(prefix: &[u8]) -> Option<Vec<u8>> {
    let end = prefix.iter().rposition(|&byte| byte != 0xff)?;
    let mut next = prefix[..=end].to_vec();
    next[end] += 1;
    Some(next)
}

impl Store for Subscriptions {
    fn name(&self) -> &str {
        &self.name
    }

    fn take_block(&mut self) -> Result<Option<Bytes>, TopicError> {
        if self.dirty.is_empty() {
            return Ok(None);
        }
        let mut block = BlockWriter::with_capacity(self.dirty.len(), self.dirty.len() * ROW_BYTES);
        for key in std::mem::take(&mut self.dirty) {
            let Some(entry) = self.entries.get_mut(&key) else { continue };
            block.push(&key, entry.subscriber.map(Subscriber::row).as_ref().map(|row| &row[..]))?;
            entry.flags = entry.flags & !DIRTY | UNWRITTEN;
            let subscriber = entry.subscriber;
            self.unwritten_bytes += key.len() + ROW_BYTES;
            self.unwritten.push_back((key, subscriber));
        }
        self.dirty_bytes = 0;
        block.finish().map(Some)
    }

    fn dirty_bytes(&self) -> usize {
        self.dirty_bytes
    }

    fn take_writes(&mut self) -> KeyedWrites {
        let (from, to) = (self.in_flight, self.unwritten.len().min(self.in_flight + WRITE_ENTRIES));
        // of a key that several blocks have, the last is written
        let last: HashMap<&[u8], Option<Subscriber>> =
            self.unwritten.range(from..to).map(|(k, s)| (&k[..], *s)).collect();
        let mut writes = KeyedWrites::with_capacity(last.len());
        for (key, subscriber) in last {
            if let Some(entry) = self.entries.get_mut(key) {
                entry.flags = entry.flags & !UNWRITTEN | IN_FLIGHT;
            }
            let row = subscriber.map(|subscriber| Bytes::copy_from_slice(&subscriber.row()));
            writes.push((Bytes::copy_from_slice(key), row));
        }
        sort_writes(&mut writes);
        self.in_flight = to;
        if self.in_flight == self.unwritten.len() {
            self.unwritten_bytes = 0;
        }
        writes
    }

    fn unwritten_bytes(&self) -> usize {
        self.unwritten_bytes
    }

    fn attach(&mut self, behind: Arc<dyn KeyedSnapshot>) {
        if self.behind.is_none() {
            // A store that fails here will say so at the first read.
            self.complete &= behind.is_empty(None).unwrap_or(false);
        }
        self.behind = Some(behind);
        for _ in 0..std::mem::take(&mut self.in_flight) {
            if let Some((key, _)) = self.unwritten.pop_front() {
                self.clear(&key, IN_FLIGHT);
            }
        }
        self.unwritten.shrink_to(WRITE_ENTRIES);
    }

    fn apply_block(&mut self, block: &Bytes) -> Result<(), TopicError> {
        let block = Block::open(block)?;
        if !self.dirty.is_empty() {
            return Err(TopicError::Invalid(format!("store '{}' is restored after it was changed", self.name)));
        }
        for (key, row) in block.iter() {
            let subscriber = row.map(Subscriber::of_row).transpose()?;
            let found = self.change(key, subscriber, UNWRITTEN);
            self.unwritten_bytes += key.len() + ROW_BYTES;
            self.unwritten.push_back((found.unwrap_or_else(|| Arc::from(key)), subscriber));
        }
        Ok(())
    }

    fn memory(&self) -> usize {
        let lists = self.dirty.capacity() * size_of::<Arc<[u8]>>()
            + self.unwritten.capacity() * size_of::<(Arc<[u8]>, Option<Subscriber>)>();
        self.key_bytes + self.entries.len() * ENTRY_BYTES + lists
    }

    fn evict(&mut self, target: usize) -> usize {
        if self.memory() > target {
            let before = self.entries.len();
            self.entries.retain(|key, entry| {
                let stays = entry.flags != 0;
                self.key_bytes -= if stays { 0 } else { key.len() };
                stays
            });
            self.complete &= self.entries.len() == before;
        }
        self.memory()
    }
}
