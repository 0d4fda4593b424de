//! The store of an aggregate: states in columns by slot in memory, entries of `key → row` to the outside.
//!
//! A row holds the state columns of all calls; a key ends with the window, where there is one. Numbers that are no groups (stream time)
//! stand under the reserved prefix. The subtle thing: rows are encoded only when a block is taken; what is written behind are slices of
//! the blocks, so that it never runs ahead of the changelog.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use bytes::Bytes;
use hashbrown::HashSet;

use crate::function::FunctionLimits;
use crate::function::aggregate::{Accumulator, AccumulatorArgs, Slot, accumulator, carried};
use crate::plan::topology::AggregateSpec;
use crate::state::Store;
use crate::state::block::{Block, BlockWriter};
use crate::state::encoding::{KeyCodec, RESERVED_PREFIX, RowCodec, split_window};
use crate::topic::{KeyedSnapshot, KeyedWrites, TopicError};
use crate::types::SqlType;

use super::OperatorError;
use super::groups::{DIRTY, GroupTable, IN_FLIGHT, KNOWN, LIVE, OWING, PINNED, Span, UNWRITTEN, USED, WHOLE_KEY, Windows};

/// Bytes that an entry costs in a block beside its key, about.
const ENTRY_BYTES: usize = 24;
/// Name of the number that is the operator's stream time.
const STREAM_TIME: &str = "stream-time";
/// Rows of the store behind that one sweep for expired windows looks at.
const SWEEP_ROWS: usize = 2048;

/// How the parts of a stored row belong together.
#[derive(Clone)]
pub(super) struct Layout {
    spec: AggregateSpec,
    limits: FunctionLimits,
    input: Vec<SqlType>,
    keys: KeyCodec,
    rows: RowCodec,
    /// state columns of each accumulator
    widths: Vec<usize>,
}

impl Layout {
    /// The layout of `spec` over input columns of these types.
    ///
    /// # Errors
    /// If a call is not one that analysis lets pass.
    pub fn new(spec: &AggregateSpec, limits: &FunctionLimits, input: &[DataType]) -> Result<Self, OperatorError> {
        let internal = |reason: String| OperatorError::internal("aggregate", reason);
        let types = input.iter().map(|ty| SqlType::from_arrow(ty).ok_or_else(|| internal(format!("no SQL type is {ty}"))));
        let input_types: Vec<SqlType> = types.collect::<Result<_, _>>()?;
        let keys = KeyCodec::new(&input[..spec.key_count])?;
        let mut layout = Self {
            spec: spec.clone(),
            limits: limits.clone(),
            input: input_types,
            keys,
            rows: RowCodec::new(&[])?,
            widths: Vec::new(),
        };
        let states: Vec<Vec<SqlType>> = layout.accumulators()?.iter().map(|a| a.state_types()).collect();
        layout.widths = states.iter().map(Vec::len).collect();
        layout.rows = RowCodec::new(&states.iter().flatten().map(SqlType::to_arrow).collect::<Vec<_>>())?;
        Ok(layout)
    }

    /// Fresh accumulators: one for each carried column, then one a call.
    pub fn accumulators(&self) -> Result<Vec<Box<dyn Accumulator>>, OperatorError> {
        let mut made: Vec<_> = self.spec.carried.iter().map(|&i| carried(&self.input[i])).collect();
        for call in &self.spec.calls {
            let args = AccumulatorArgs {
                function: &call.function,
                arg_types: &call.arg_types,
                literals: &call.literals,
                limits: &self.limits,
            };
            made.push(accumulator(&args).map_err(|e| OperatorError::internal("aggregate", e))?);
        }
        Ok(made)
    }

    /// The codec of group keys.
    pub fn keys(&self) -> &KeyCodec {
        &self.keys
    }

    /// Loads stored rows into slots.
    ///
    /// # Errors
    /// If a row does not read back.
    pub fn load<'a>(
        &self,
        accumulators: &mut [Box<dyn Accumulator>],
        slots: &[Slot],
        rows: impl Iterator<Item = &'a [u8]>,
    ) -> Result<Vec<i64>, TopicError> {
        let mut decoder = self.rows.decoder(slots.len());
        for row in rows {
            decoder.push(row)?;
        }
        let decoded = decoder.finish()?;
        let mut columns = &decoded.columns[..];
        for (accumulator, width) in accumulators.iter_mut().zip(&self.widths) {
            let (states, rest) = columns.split_at(*width);
            accumulator.load(slots, states);
            columns = rest;
        }
        Ok(decoded.rowtime.to_vec())
    }
}

/// A block that still holds rows to be written behind.
struct HeldBlock {
    block: Block,
    bytes: usize,
    live: usize,
}

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
    /// keys to be deleted by the next block
    deletes: Vec<Bytes>,
    /// where the last row of a slot that was in a block stands: (block number, entry)
    in_block: Vec<(u64, u32)>,
    /// rows of blocks that are written behind next: slots, and deleted keys
    unwritten: Vec<Slot>,
    unwritten_deletes: Vec<Bytes>,
    unwritten_bytes: usize,
    in_flight: Vec<Slot>,
    blocks: VecDeque<HeldBlock>,
    first_block: u64,
    behind: Option<Arc<dyn KeyedSnapshot>>,
    /// every group that exists is in memory
    complete: bool,
    /// the greatest window start of groups that only the store behind may hold
    outside_start: i64,
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

/// Where the search for expired windows in the store behind stands.
#[derive(Default)]
struct Sweep {
    /// the next key to look at, while a round runs
    next: Option<Vec<u8>>,
    /// windows that start before this are looked for
    before: i64,
    /// the bound of the last round
    done: Option<i64>,
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
            Some(_) => Windows::Sessions,
        };
        Ok(Self {
            groups: GroupTable::new(windows),
            accumulators: layout.accumulators()?,
            windows,
            dirty: Vec::new(),
            dirty_bytes: 0,
            deletes: Vec::new(),
            in_block: Vec::new(),
            unwritten: Vec::new(),
            unwritten_deletes: Vec::new(),
            unwritten_bytes: 0,
            in_flight: Vec::new(),
            blocks: VecDeque::new(),
            first_block: 1,
            behind: None,
            complete: true,
            outside_start: i64::MAX,
            gone: (windows == Windows::Sessions || layout.spec.emit_final).then(HashSet::new),
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
        if self.in_block.len() < self.groups.slots() {
            self.in_block.resize(self.groups.slots(), (0, 0));
        }
        let elsewhere = !self.complete && window.start <= self.outside_start;
        if let Some(behind) = self.behind.as_ref().filter(|_| elsewhere) {
            let mut stored = Vec::with_capacity(key.len() + 16);
            self.groups.store_key(slot, &mut stored);
            if let Some(row) = behind.get(&stored)? {
                self.groups.head_mut(slot).flags |= KNOWN;
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
        let rowtimes = self.layout.load(&mut self.accumulators, &slots, rows)?;
        for (&slot, rowtime) in slots.iter().zip(rowtimes) {
            self.groups.head_mut(slot).rowtime = rowtime;
        }
        Ok(())
    }

    /// Notes that the group changes.
    #[inline]
    pub fn touch(&mut self, slot: Slot) {
        let head = self.groups.head_mut(slot);
        if head.flags & DIRTY == 0 {
            head.flags |= DIRTY | USED;
            self.dirty_bytes += head.key().len() + ENTRY_BYTES;
            self.dirty.push(slot);
        }
    }

    /// Removes a group for good: from memory, and from the store behind where it may be there.
    pub fn delete(&mut self, slot: Slot) {
        let head = self.groups.head(slot);
        if head.is(KNOWN) {
            let mut key = Vec::new();
            self.groups.store_key(slot, &mut key);
            self.delete_key(key.into());
        }
        self.forget(slot);
    }

    fn delete_key(&mut self, key: Bytes) {
        self.dirty_bytes += key.len() + ENTRY_BYTES;
        if let Some(gone) = &mut self.gone {
            gone.insert(key.clone());
        }
        self.deletes.push(key);
    }

    /// Takes a group out of memory.
    fn forget(&mut self, slot: Slot) {
        self.unhold(slot);
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

    /// Deletes groups that stand before `mark` in the order of windows, but for those that still owe an output; looks on in the store
    /// behind for windows that start (sessions: end) before `before`.
    ///
    /// # Errors
    /// If the store behind cannot be read.
    pub fn expire(&mut self, mark: i64, before: i64) -> Result<(), TopicError> {
        for slot in self.groups.take_before(mark) {
            if self.groups.head(slot).is(OWING) {
                self.groups.put_in_order(slot, self.groups.mark(slot));
            } else {
                self.delete(slot);
            }
        }
        self.sweep_behind(before)
    }

    /// One part of a round through the store behind. A round starts when windows have expired since the last one began.
    fn sweep_behind(&mut self, before: i64) -> Result<(), TopicError> {
        let Some(behind) = self.behind.clone().filter(|_| !self.complete) else { return Ok(()) };
        if self.sweep.next.is_none() {
            let Some(window) = &self.layout.spec.window else { return Ok(()) };
            // a round for each quarter of the retention, so that sweeping costs a fixed share
            if self.sweep.done.is_some_and(|done| before < done.saturating_add(window.retention_ms / 4)) {
                return Ok(());
            }
            (self.sweep.next, self.sweep.before) = (Some(Vec::new()), before);
        }
        let (from, bound) = (self.sweep.next.take().unwrap_or_default(), self.sweep.before);
        let sessions = self.windows == Windows::Sessions;
        let (mut seen, mut next, mut expired) = (0, None, Vec::new());
        behind.range(&from, Some(&[RESERVED_PREFIX]), &mut |key, _| {
            if seen == SWEEP_ROWS {
                next = Some(key.to_vec());
                return false;
            }
            seen += 1;
            if split_window(key).is_ok_and(|(_, start, end)| if sessions { end < bound } else { start < bound }) {
                expired.push(key.to_vec());
            }
            true
        })?;
        for key in expired {
            let (group, start, end) = split_window(&key)?;
            let hash = self.groups.hash(group);
            if self.groups.find(hash, group, Span { start, end }).is_none() && !self.is_gone(&key) {
                self.delete_key(key.into());
            }
        }
        if next.is_none() {
            self.sweep.done = Some(bound);
        }
        self.sweep.next = next;
        Ok(())
    }

    /// Sessions: the slots of all sessions of a key, in order of time; reads them from the store behind if they are not in memory.
    ///
    /// # Errors
    /// If the store behind cannot be read.
    pub fn sessions(&mut self, hash: u64, key: &[u8], out: &mut Vec<Slot>) -> Result<(), TopicError> {
        out.clear();
        out.extend(self.groups.sessions(hash, key));
        let whole = self.complete || out.iter().any(|&slot| self.groups.head(slot).is(WHOLE_KEY));
        if let Some(behind) = self.behind.clone().filter(|_| !whole) {
            // no key is a prefix of another, so these are all keys that begin with `key`
            let (mut to, mut stored) = (key.to_vec(), Vec::new());
            to.extend([0xff; 17]);
            behind.range(key, Some(&to), &mut |key, row| {
                stored.push((key.to_vec(), row.to_vec()));
                true
            })?;
            stored.iter().try_for_each(|(key, row)| self.adopt(key, row))?;
            self.load()?;
            out.clear();
            out.extend(self.groups.sessions(hash, key));
        }
        out.iter().for_each(|&slot| self.groups.head_mut(slot).flags |= WHOLE_KEY | USED);
        out.sort_unstable_by_key(|&slot| self.groups.head(slot).window.start);
        Ok(())
    }

    /// Sessions: gives the group of a slot another window, under which it is stored from now on.
    pub fn rename(&mut self, slot: Slot, window: Span) {
        if self.groups.head(slot).window == window {
            return;
        }
        if self.groups.head(slot).is(KNOWN) {
            let mut key = Vec::new();
            self.groups.store_key(slot, &mut key);
            self.delete_key(key.into());
            self.unhold(slot);
        }
        let head = self.groups.head_mut(slot);
        head.window = window;
        // of its new name nothing is stored yet
        head.flags &= !(KNOWN | IN_FLIGHT);
        self.touch(slot);
    }

    /// Sessions: a new session of a key whose sessions are all in memory.
    pub fn insert_session(&mut self, hash: u64, key: &[u8], window: Span) -> Slot {
        let slot = self.groups.insert(hash, key, window);
        self.in_block.resize(self.groups.slots().max(self.in_block.len()), (0, 0));
        self.groups.head_mut(slot).flags |= WHOLE_KEY;
        slot
    }

    /// Reads all groups of the store behind into memory that are not there; for operators that must know them all.
    ///
    /// # Errors
    /// If the store behind cannot be read.
    pub fn load_all(&mut self) -> Result<(), TopicError> {
        let Some(behind) = self.behind.clone().filter(|_| !self.complete) else { return Ok(()) };
        let mut failure = None;
        behind.range(&[], Some(&[RESERVED_PREFIX]), &mut |key, row| match self.adopt(key, row) {
            Ok(()) => true,
            Err(error) => {
                failure = Some(error);
                false
            }
        })?;
        failure.map_or(Ok(()), Err)?;
        self.load()?;
        self.complete = true;
        Ok(())
    }

    fn adopt(&mut self, key: &[u8], row: &[u8]) -> Result<(), TopicError> {
        let (group, window) = self.split(key)?;
        let hash = self.groups.hash(group);
        if !self.is_gone(key) && self.groups.find(hash, group, window).is_none() {
            let slot = self.insert_known(hash, group, window);
            self.loads.push((slot, Bytes::copy_from_slice(row)));
        }
        Ok(())
    }

    fn is_gone(&self, key: &[u8]) -> bool {
        self.gone.as_ref().is_some_and(|gone| gone.contains(key))
    }

    fn insert_known(&mut self, hash: u64, group: &[u8], window: Span) -> Slot {
        let slot = self.groups.insert(hash, group, window);
        self.in_block.resize(self.groups.slots().max(self.in_block.len()), (0, 0));
        self.groups.head_mut(slot).flags |= KNOWN;
        slot
    }

    fn split<'a>(&self, key: &'a [u8]) -> Result<(&'a [u8], Span), TopicError> {
        if self.windows == Windows::None {
            return Ok((key, Span::default()));
        }
        let (group, start, end) = split_window(key)?;
        Ok((group, Span { start, end }))
    }

    /// The slot's row in a block counts no more.
    fn unhold(&mut self, slot: Slot) {
        let (number, entry) = std::mem::take(&mut self.in_block[slot as usize]);
        if number == 0 {
            return;
        }
        let held = &mut self.blocks[(number - self.first_block) as usize];
        held.live -= 1;
        let (key, row) = held.block.entry(entry as usize);
        self.unwritten_bytes -= key.len() + row.map_or(0, <[u8]>::len);
        self.drop_dead_blocks();
    }

    fn drop_dead_blocks(&mut self) {
        while self.blocks.front().is_some_and(|held| held.live == 0) {
            self.blocks.pop_front();
            self.first_block += 1;
        }
    }

    /// Notes that these entries of `block` are now the last ones of their slots.
    fn hold(&mut self, block: Block, bytes: usize, entries: impl Iterator<Item = (Slot, usize)>) {
        let mut live = 0;
        for (slot, entry) in entries {
            self.unhold(slot);
            live += 1;
            let (key, row) = block.entry(entry);
            self.unwritten_bytes += key.len() + row.map_or(0, <[u8]>::len);
            // `unhold` may have dropped older blocks, but never changes the number of the next one
            let number = self.first_block + self.blocks.len() as u64;
            self.in_block[slot as usize] = (number, entry as u32);
            let head = self.groups.head_mut(slot);
            if !head.is(UNWRITTEN) {
                self.unwritten.push(slot);
            }
            head.flags = (head.flags & !DIRTY) | UNWRITTEN | KNOWN;
        }
        self.blocks.push_back(HeldBlock { block, bytes, live });
        self.drop_dead_blocks();
    }

    /// The entries of the next block: deleted keys, the stream time, then groups.
    fn write_block(&mut self, slots: &[Slot]) -> Result<(Bytes, usize), TopicError> {
        let columns: Vec<ArrayRef> = self.accumulators.iter().flat_map(|a| a.states(slots)).collect();
        let rowtimes: Vec<i64> = slots.iter().map(|&slot| self.groups.head(slot).rowtime).collect();
        let rows = self.layout.rows.encode(&columns, &rowtimes)?;
        let mut writer = BlockWriter::with_capacity(slots.len() + self.deletes.len() + 1, self.dirty_bytes);
        let mut deletes = std::mem::take(&mut self.deletes);
        deletes.sort_unstable();
        deletes.dedup();
        for key in deletes {
            writer.push(&key, None)?;
            self.unwritten_bytes += key.len();
            self.unwritten_deletes.push(key);
        }
        if self.stream_time_dirty
            && let Some(time) = self.stream_time
        {
            let row = stream_time_row(time)?;
            writer.push(&stream_time_key(), Some(&row))?;
            self.stream_time_unwritten = Some((Bytes::from(stream_time_key()), row));
        }
        let from = writer.len();
        let mut key = Vec::new();
        for (i, &slot) in slots.iter().enumerate() {
            key.clear();
            self.groups.store_key(slot, &mut key);
            writer.push(&key, Some(rows.row(i)))?;
        }
        Ok((writer.finish()?, from))
    }

    /// Removes clean groups that were not used since the hand came by, until `count` are gone or it went round twice.
    fn sweep_memory(&mut self, count: usize) {
        let mut left = count;
        for _ in 0..2 * self.groups.slots() {
            if left == 0 {
                return;
            }
            self.hand = (self.hand + 1) % self.groups.slots();
            let slot = self.hand as Slot;
            let head = self.groups.head_mut(slot);
            if !head.is(LIVE) || head.is(PINNED) {
                continue;
            }
            if head.is(USED) {
                head.flags &= !USED;
                continue;
            }
            if self.windows == Windows::Sessions {
                left = left.saturating_sub(self.forget_key(slot));
                continue;
            }
            let start = head.window.start;
            self.outside_start = if self.complete { start } else { self.outside_start.max(start) };
            self.complete = false;
            self.forget(slot);
            left -= 1;
        }
    }

    /// Takes all sessions of a key out of memory, or none if one must stay; returns how many.
    fn forget_key(&mut self, slot: Slot) -> usize {
        let (hash, key) = (self.groups.hash(self.groups.head(slot).key()), self.groups.head(slot).key());
        let slots: Vec<Slot> = self.groups.sessions(hash, key).collect();
        if slots.iter().any(|&slot| self.groups.head(slot).is(PINNED | USED)) {
            return 0;
        }
        self.complete = false;
        slots.iter().for_each(|&slot| self.forget(slot));
        slots.len()
    }

    /// Moves the living together, so that memory of the others is given back.
    fn compact(&mut self) -> Result<(), TopicError> {
        let kept = self.groups.compact();
        let mut moved: Vec<Option<Slot>> = Vec::new();
        moved.resize(self.in_block.len(), None);
        kept.iter().enumerate().for_each(|(new, &old)| moved[old as usize] = Some(new as Slot));
        let fresh = self.layout.accumulators().map_err(|e| TopicError::Invalid(e.to_string()))?;
        let old = std::mem::replace(&mut self.accumulators, fresh);
        let new: Vec<Slot> = (0..kept.len() as Slot).collect();
        for (from, to) in old.iter().zip(&mut self.accumulators) {
            to.resize(kept.len());
            to.load(&new, &from.states(&kept));
        }
        self.in_block = kept.iter().map(|&old| self.in_block[old as usize]).collect();
        for list in [&mut self.dirty, &mut self.unwritten, &mut self.in_flight] {
            *list = list.iter().filter_map(|&slot| moved[slot as usize]).collect();
        }
        self.hand = 0;
        Ok(())
    }
}

fn stream_time_key() -> Vec<u8> {
    [&[RESERVED_PREFIX], STREAM_TIME.as_bytes()].concat()
}

/// A row without columns whose row time is the stream time.
fn stream_time_row(time: i64) -> Result<Bytes, TopicError> {
    Ok(Bytes::copy_from_slice(RowCodec::new(&[])?.encode(&[], &[time])?.row(0)))
}

impl Store for GroupStore {
    fn name(&self) -> &str {
        &self.layout.spec.store
    }

    fn take_block(&mut self) -> Result<Option<Bytes>, TopicError> {
        let mut slots = std::mem::take(&mut self.dirty);
        // a slot that was freed and given out again may stand here twice
        slots.retain(|&slot| {
            let head = self.groups.head_mut(slot);
            let dirty = head.is(DIRTY);
            head.flags &= !DIRTY;
            dirty
        });
        if slots.is_empty() && self.deletes.is_empty() && !self.stream_time_dirty {
            return Ok(None);
        }
        let (block, from) = self.write_block(&slots)?;
        let entries = slots.iter().enumerate().map(|(i, &slot)| (slot, from + i));
        self.hold(Block::open(&block)?, block.len(), entries);
        self.stream_time_dirty = false;
        self.dirty_bytes = 0;
        Ok(Some(block))
    }

    fn dirty_bytes(&self) -> usize {
        let states: usize = self.accumulators.iter().map(|a| a.memory()).sum();
        self.dirty_bytes + self.dirty.len() * (states / self.groups.slots().max(1))
    }

    fn take_writes(&mut self) -> KeyedWrites {
        let deletes = std::mem::take(&mut self.unwritten_deletes);
        let mut writes: KeyedWrites = deletes.iter().map(|key| (key.clone(), None)).collect();
        if self.gone.is_some() {
            self.deletes_in_flight.extend(deletes);
        }
        writes.extend(self.stream_time_unwritten.take().map(|(key, row)| (key, Some(row))));
        for slot in std::mem::take(&mut self.unwritten) {
            let (number, entry) = std::mem::take(&mut self.in_block[slot as usize]);
            if number == 0 {
                continue;
            }
            writes.push(self.blocks[(number - self.first_block) as usize].block.shared_entry(entry as usize));
            let head = self.groups.head_mut(slot);
            head.flags = (head.flags & !UNWRITTEN) | IN_FLIGHT;
            self.in_flight.push(slot);
        }
        self.first_block += self.blocks.len() as u64;
        self.blocks.clear();
        self.unwritten_bytes = 0;
        writes
    }

    fn unwritten_bytes(&self) -> usize {
        self.unwritten_bytes
    }

    fn attach(&mut self, behind: Arc<dyn KeyedSnapshot>) {
        if self.behind.is_none() {
            // A store that fails here will say so at the first look-up.
            let mut empty = true;
            let looked = behind.range(&[], Some(&[RESERVED_PREFIX]), &mut |_, _| {
                empty = false;
                false
            });
            self.complete &= looked.is_ok() && empty;
        }
        self.behind = Some(behind);
        for slot in std::mem::take(&mut self.in_flight) {
            self.groups.head_mut(slot).flags &= !IN_FLIGHT;
        }
        if let Some(gone) = &mut self.gone {
            self.deletes_in_flight.drain(..).for_each(|key| _ = gone.remove(&key));
        }
    }

    fn apply_block(&mut self, block: &Bytes) -> Result<(), TopicError> {
        let opened = Block::open(block)?;
        if !self.dirty.is_empty() {
            return Err(TopicError::Invalid(format!("store '{}' is restored after it was changed", self.name())));
        }
        let (mut slots, mut entries) = (Vec::new(), Vec::new());
        for (i, (key, row)) in opened.iter().enumerate() {
            if key.first() == Some(&RESERVED_PREFIX) {
                self.restore_number(key, row)?;
                continue;
            }
            let (group, window) = self.split(key)?;
            let hash = self.groups.hash(group);
            let found = self.groups.find(hash, group, window);
            match row {
                None => {
                    found.into_iter().for_each(|slot| self.forget(slot));
                    let key = Bytes::copy_from_slice(key);
                    self.unwritten_bytes += key.len();
                    self.gone.iter_mut().for_each(|gone| _ = gone.insert(key.clone()));
                    self.unwritten_deletes.push(key);
                }
                Some(_) => {
                    slots.push(found.unwrap_or_else(|| self.insert_known(hash, group, window)));
                    entries.push(i);
                }
            }
        }
        self.restore_rows(opened, block.len(), &slots, &entries)
    }

    fn memory(&self) -> usize {
        let lists = self.dirty.capacity() + self.unwritten.capacity() + self.in_flight.capacity();
        self.groups.memory()
            + self.accumulators.iter().map(|a| a.memory()).sum::<usize>()
            + self.blocks.iter().map(|held| held.bytes).sum::<usize>()
            + self.deletes.iter().map(|key| key.len() + size_of::<Bytes>()).sum::<usize>()
            + self.unwritten_deletes.iter().map(|key| key.len() + size_of::<Bytes>()).sum::<usize>()
            + self.in_block.capacity() * size_of::<(u64, u32)>()
            + lists * size_of::<Slot>()
    }

    fn evict(&mut self, target: usize) -> usize {
        let mut held = self.memory();
        while held > target && self.groups.len() > 0 {
            let states = held - self.blocks.iter().map(|block| block.bytes).sum::<usize>();
            let bytes_each = (states / self.groups.slots().max(1)).max(1);
            // an eighth more than asked for, so that one compaction serves many small requests
            self.sweep_memory((held - target + target / 8).div_ceil(bytes_each));
            let sparse = self.groups.vacant() > 0 && self.groups.vacant() * 4 >= self.groups.slots();
            if self.owing == 0 && sparse && self.compact().is_err() {
                return self.memory();
            }
            let now = self.memory();
            if now >= held {
                return now;
            }
            held = now;
        }
        held
    }
}

impl GroupStore {
    fn restore_number(&mut self, key: &[u8], row: Option<&[u8]>) -> Result<(), TopicError> {
        if *key == *stream_time_key()
            && let Some(row) = row
        {
            self.stream_time = Some(RowCodec::rowtime(row)?);
            self.stream_time_unwritten = Some((Bytes::copy_from_slice(key), Bytes::copy_from_slice(row)));
        }
        Ok(())
    }

    fn restore_rows(
        &mut self,
        block: Block,
        bytes: usize,
        slots: &[Slot],
        entries: &[usize],
    ) -> Result<(), TopicError> {
        let all = self.groups.slots();
        self.accumulators.iter_mut().for_each(|a| a.resize(all));
        let rows = entries.iter().filter_map(|&i| block.entry(i).1);
        let rowtimes = self.layout.load(&mut self.accumulators, slots, rows)?;
        for (&slot, rowtime) in slots.iter().zip(rowtimes) {
            self.groups.head_mut(slot).rowtime = rowtime;
        }
        self.hold(block, bytes, slots.iter().copied().zip(entries.iter().copied()));
        Ok(())
    }
}
