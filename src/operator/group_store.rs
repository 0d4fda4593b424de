//! The store of an aggregate: states in columns by slot in memory, entries of `key → row` to the outside.
//!
//! A row holds the state columns of all calls; a key ends with the window, where there is one. Numbers that are no groups (stream time)
//! stand under the reserved prefix. The subtle thing: windows that are over are not deleted in the changelog: whoever reads it leaves out
//! what the stream time kept beside it has passed ([`Layout::kept_from`]); only under EMIT FINAL, where they may owe a result, they are.

mod changelog;
mod eviction;
mod expiry;
mod layout;
mod sessions;

use std::sync::Arc;

use bytes::Bytes;
use hashbrown::HashSet;

use crate::function::aggregate::{Accumulator, Slot};
use crate::state::encoding::{EncodedRows, RESERVED_PREFIX, RowCodec, split_window};
use crate::state::filter::KeyFilter;
use crate::topic::{KeyedSnapshot, TopicError};

use super::OperatorError;
use super::groups::{BEHIND, DIRTY, GroupTable, KNOWN, Span, USED, Windows};

use expiry::Sweep;
pub(super) use layout::Layout;

/// Bytes that an entry costs in a block beside its key, about.
const ENTRY_BYTES: usize = 24;
/// Bytes of a key in a block, about.
const KEY_BYTES: usize = 16;
/// Rows of the store behind that are loaded at a time.
const LOAD_ROWS: usize = 1 << 11;
/// Name of the number that is the operator's stream time.
const STREAM_TIME: &str = "stream-time";

/// Groups and their states, as a store.
pub(super) struct GroupStore {
    layout: Arc<Layout>,
    /// keys and windows
    pub groups: GroupTable,
    /// states, by slot
    pub accumulators: Vec<Box<dyn Accumulator>>,
    windows: Windows,
    dirty: Vec<Slot>,
    dirty_bytes: usize,
    /// keys to be deleted by the next block, and which of them also in the store behind
    deletes: EncodedRows,
    deletes_behind: Vec<bool>,
    /// keys of windows that are over by what the next block says, to be deleted in the store behind
    over: Vec<Bytes>,
    /// what is written behind next: slots, and deleted keys
    unwritten: Vec<Slot>,
    unwritten_deletes: Vec<Bytes>,
    unwritten_bytes: usize,
    in_flight: Vec<Slot>,
    behind: Option<Arc<dyn KeyedSnapshot>>,
    /// every group that exists is in memory
    complete: bool,
    /// the greatest window start of groups that only the store behind may hold
    outside_start: i64,
    /// groups that only the store behind may hold; `None`: it may hold any
    outside: Option<KeyFilter>,
    /// deleted keys that the store behind may still hold, kept by operators that scan it
    gone: Option<HashSet<Bytes>>,
    deletes_in_flight: Vec<Bytes>,
    /// groups that hold back an output; slots keep their numbers while there are any
    pub owing: usize,
    /// rows read from the store behind, not loaded yet
    loads: Vec<(Slot, Bytes)>,
    stream_time: Option<i64>,
    stream_time_known: bool,
    stream_time_dirty: bool,
    stream_time_unwritten: Option<(Bytes, Bytes)>,
    sweep: Sweep,
    hand: usize,
}

impl GroupStore {
    /// An empty store.
    ///
    /// # Errors
    /// As [`Layout::accumulators`].
    pub fn new(layout: Arc<Layout>) -> Result<Self, OperatorError> {
        let windows = match &layout.spec.window {
            None => Windows::None,
            Some(window) if window.size_ms().is_some() => Windows::Time,
            Some(window) => Windows::sessions(window.retention_ms, layout.spec.emit_final),
        };
        Ok(Self {
            groups: GroupTable::new(windows),
            accumulators: layout.accumulators()?,
            windows,
            dirty: Vec::new(),
            dirty_bytes: 0,
            deletes: EncodedRows::default(),
            deletes_behind: Vec::new(),
            over: Vec::new(),
            unwritten: Vec::new(),
            unwritten_deletes: Vec::new(),
            unwritten_bytes: 0,
            in_flight: Vec::new(),
            behind: None,
            complete: true,
            outside_start: i64::MAX,
            outside: (!windows.are_sessions()).then(KeyFilter::default),
            gone: (windows.are_sessions() || layout.spec.emit_final).then(HashSet::new),
            deletes_in_flight: Vec::new(),
            owing: 0,
            loads: Vec::new(),
            stream_time: None,
            stream_time_known: false,
            stream_time_dirty: false,
            stream_time_unwritten: None,
            sweep: Sweep::default(),
            hand: 0,
            layout,
        })
    }

    /// The slot of a group, from memory, from the store behind, or new. Its state may be used after [`Self::load`].
    ///
    /// # Errors
    /// If the store behind cannot be read.
    #[inline]
    pub fn slot(&mut self, hash: u64, key: &[u8], window: Span) -> Result<Slot, TopicError> {
        if let Some(slot) = self.groups.find(hash, key, window) {
            return Ok(slot);
        }
        self.fetch_or_insert(hash, key, window)
    }

    #[cold]
    fn fetch_or_insert(&mut self, hash: u64, key: &[u8], window: Span) -> Result<Slot, TopicError> {
        let slot = self.groups.insert(hash, key, window);
        let elsewhere = !self.complete
            && window.start <= self.outside_start
            && self.outside.as_ref().is_none_or(|outside| outside.contains(place(hash, window)));
        if let Some(behind) = self.behind.as_ref().filter(|_| elsewhere) {
            let mut stored = Vec::with_capacity(key.len() + 16);
            self.groups.store_key(slot, &mut stored);
            if let Some(row) = behind.get(&stored)? {
                let head = self.groups.head_mut(slot);
                head.flags |= KNOWN | BEHIND;
                head.rowtime = RowCodec::rowtime(&row)?;
                self.loads.push((slot, row));
            }
        }
        Ok(slot)
    }

    /// Makes room for all slots, and loads the states that were read from the store behind.
    ///
    /// # Errors
    /// If a row does not read back.
    pub fn load(&mut self) -> Result<(), TopicError> {
        let slots = self.groups.slots();
        self.accumulators.iter_mut().for_each(|a| a.resize(slots));
        if self.loads.is_empty() {
            return Ok(());
        }
        let loads = std::mem::take(&mut self.loads);
        let slots: Vec<Slot> = loads.iter().map(|(slot, _)| *slot).collect();
        let rows = loads.iter().map(|(_, row)| &row[..]);
        self.layout.load(&mut self.accumulators, &slots, rows).map(drop)
    }

    /// Notes that the group changes.
    #[inline]
    pub fn touch(&mut self, slot: Slot) {
        let head = self.groups.head_mut(slot);
        if head.flags & DIRTY == 0 {
            head.flags |= DIRTY | USED;
            self.dirty_bytes += KEY_BYTES + ENTRY_BYTES;
            self.dirty.push(slot);
        }
    }

    /// Removes a group for good: from memory, and from the store behind where it may be there.
    pub fn delete(&mut self, slot: Slot) {
        let head = self.groups.head(slot);
        if head.is(KNOWN) {
            let (behind, mut key) = (head.is(BEHIND), Vec::new());
            self.groups.store_key(slot, &mut key);
            self.delete_key(&key, behind);
        }
        self.forget(slot);
    }

    fn delete_key(&mut self, key: &[u8], behind: bool) {
        self.dirty_bytes += key.len() + ENTRY_BYTES;
        if let Some(gone) = self.gone.as_mut().filter(|_| behind) {
            gone.insert(Bytes::copy_from_slice(key));
        }
        self.deletes.push(key);
        self.deletes_behind.push(behind);
    }

    /// Removes a group whose window is over by the stream time: readers of the changelog know that without being told.
    fn retire(&mut self, slot: Slot) {
        if self.layout.tells_expiry() {
            return self.delete(slot);
        }
        if self.groups.head(slot).is(BEHIND) {
            let mut key = Vec::new();
            self.groups.store_key(slot, &mut key);
            self.retire_key(key.into());
        }
        self.forget(slot);
    }

    fn retire_key(&mut self, key: Bytes) {
        if let Some(gone) = &mut self.gone {
            gone.insert(key.clone());
        }
        self.over.push(key);
    }

    /// Takes a group out of memory.
    fn forget(&mut self, slot: Slot) {
        self.groups.remove(slot);
        self.accumulators.iter_mut().for_each(|a| a.reset(slot));
    }

    /// The greatest row time that the operator has seen; `None` before the first.
    ///
    /// # Errors
    /// If the store behind cannot be read.
    pub fn stream_time(&mut self) -> Result<Option<i64>, TopicError> {
        if !self.stream_time_known {
            self.stream_time_known = true;
            if self.stream_time.is_none()
                && let Some(behind) = &self.behind
                && let Some(row) = behind.get(&stream_time_key())?
            {
                self.stream_time = Some(RowCodec::rowtime(&row)?);
            }
            if let Some(time) = self.stream_time.filter(|_| self.windows == Windows::Time) {
                // no window that starts later was ever stored
                self.outside_start = self.outside_start.min(time);
            }
        }
        Ok(self.stream_time)
    }

    /// Sets the stream time.
    pub fn set_stream_time(&mut self, time: i64) {
        if self.stream_time != Some(time) {
            self.stream_time = Some(time);
            self.stream_time_known = true;
            self.stream_time_dirty = true;
        }
    }

    /// Reads all groups of the store behind into memory that are not there; for operators that must know them all.
    ///
    /// # Errors
    /// If the store behind cannot be read.
    pub fn load_all(&mut self) -> Result<(), TopicError> {
        let Some(behind) = self.behind.clone().filter(|_| !self.complete) else { return Ok(()) };
        let mut failure = None;
        behind.range(&[], Some(&[RESERVED_PREFIX]), &mut |key, row| {
            let adopted = self.adopt(key, row);
            // in portions, so that there are never two of all
            let full = self.loads.len() >= LOAD_ROWS;
            failure = adopted.and_then(|()| if full { self.load() } else { Ok(()) }).err();
            failure.is_none()
        })?;
        failure.map_or(Ok(()), Err)?;
        self.load()?;
        self.complete = true;
        self.outside = (!self.windows.are_sessions()).then(KeyFilter::default);
        Ok(())
    }

    fn adopt(&mut self, key: &[u8], row: &[u8]) -> Result<(), TopicError> {
        let (group, window) = self.split(key)?;
        let hash = self.groups.hash(group);
        if !self.is_gone(key) && self.groups.find(hash, group, window).is_none() {
            let slot = self.insert_known(hash, group, window);
            self.groups.head_mut(slot).rowtime = RowCodec::rowtime(row)?;
            self.loads.push((slot, Bytes::copy_from_slice(row)));
        }
        Ok(())
    }

    fn is_gone(&self, key: &[u8]) -> bool {
        self.gone.as_ref().is_some_and(|gone| gone.contains(key))
    }

    fn insert_known(&mut self, hash: u64, group: &[u8], window: Span) -> Slot {
        let slot = self.groups.insert(hash, group, window);
        self.groups.head_mut(slot).flags |= if self.complete { KNOWN } else { KNOWN | BEHIND };
        slot
    }

    fn split<'a>(&self, key: &'a [u8]) -> Result<(&'a [u8], Span), TopicError> {
        if self.windows == Windows::None {
            return Ok((key, Span::default()));
        }
        let (group, start, end) = split_window(key)?;
        Ok((group, Span { start, end }))
    }
}

/// The hash of a group for [`GroupStore::outside`], from its key's.
fn place(hash: u64, window: Span) -> u64 {
    match window.start {
        0 => hash,
        start => (hash ^ start as u64).wrapping_mul(0xbf58_476d_1ce4_e5b9).rotate_left(32) ^ hash,
    }
}

/// Under which key the store keeps its operator's stream time.
pub(super) fn stream_time_key() -> Vec<u8> {
    [&[RESERVED_PREFIX], STREAM_TIME.as_bytes()].concat()
}
