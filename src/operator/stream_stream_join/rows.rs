//! The memory of a stream-stream join: the rows of both sides by key and time, which of them wait for a partner, and the stream times.
//!
//! Decides nothing about matches. To the outside it is entries of bytes: `side, chunk, first row → rows in columns`, `side, chunk, end →
//! held bits`, and numbers. The subtle thing: rows of a step enter their chunk before the step is handled, but only those that were
//! handled ([`SideRows::ready`]) are in the index and go into blocks.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray};
use arrow::datatypes::{DataType, Int64Type};
use bytes::Bytes;

use crate::plan::topology::StreamJoinSpec;
use crate::state::encoding::{EncodedRows, KeyCodec};
use crate::topic::{KeyedSnapshot, TopicError};
use crate::types::{ChangeBatch, WindowBounds};

use super::chunk::{CHUNK_ROWS, Chunk, ChunkCodec, DIRTY, PINNED, TAKEN, UNWRITTEN, USED, concat_columns, damaged};
use super::index::{Entry, Index, RowId};

/// Stream time before the first row.
pub(super) const NO_TIME: i64 = i64::MIN;

/// The place of the held bits of a chunk, after all its rows.
pub(super) const HELD: u32 = u32::MAX;

/// Numbers kept beside the rows.
pub(super) const NUMBERS: [&str; 4] = ["left-time", "right-time", "stream-time", "next-emit"];

/// The rows of one side.
pub(super) struct SideRows {
    /// number of the first chunk
    pub(super) first: u64,
    pub(super) chunks: VecDeque<Chunk>,
    /// rows of the last chunk that were handled
    pub(super) ready: u32,
    /// greatest row time of this side
    pub(super) time: i64,
    /// rows that wait for a partner, first the oldest; those that found one are passed over
    waiting: BinaryHeap<Reverse<(i64, RowId)>>,
    pub(super) codec: ChunkCodec,
    /// chunks that are dirty
    pub(super) dirty: Vec<u64>,
    /// entries of chunks that expired since the last block, and whether the store behind may hold them
    pub(super) gone: Vec<(Vec<u8>, bool)>,
    width: usize,
    /// types of the columns and window bounds
    types: Vec<DataType>,
}

impl SideRows {
    fn new(types: &[DataType], windowed: bool) -> Self {
        let beside = [DataType::Int64, DataType::Int64, DataType::Int64];
        let beside = &beside[if windowed { 0 } else { 2 }..];
        Self {
            first: 0,
            chunks: VecDeque::new(),
            ready: 0,
            time: NO_TIME,
            waiting: BinaryHeap::new(),
            codec: ChunkCodec::new(types.iter().chain(beside).cloned()),
            dirty: Vec::new(),
            gone: Vec::new(),
            width: types.len(),
            types: types.iter().chain(&beside[..beside.len() - 1]).cloned().collect(),
        }
    }

    pub(super) fn chunk(&mut self, id: u64) -> Option<&mut Chunk> {
        self.chunks.get_mut(usize::try_from(id.checked_sub(self.first)?).ok()?)
    }

    /// The chunk of a row in the index.
    pub(super) fn chunk_of(&mut self, row: RowId) -> &mut Chunk {
        let at = (row.chunk() - self.first) as usize;
        &mut self.chunks[at]
    }

    fn next_id(&self) -> u64 {
        self.first + self.chunks.len() as u64
    }

    fn soil(&mut self, id: u64) {
        if let Some(chunk) = self.chunk(id).filter(|c| c.flags & DIRTY == 0) {
            chunk.flags |= DIRTY;
            self.dirty.push(id);
        }
    }

    /// How many rows of a chunk were handled.
    pub(super) fn ready_of(&self, id: u64) -> u32 {
        let at = (id - self.first) as usize;
        if at + 1 == self.chunks.len() { self.ready } else { self.chunks[at].rows() }
    }
}

/// Both sides.
pub(super) struct JoinRows {
    pub(super) name: Box<str>,
    pub(super) keys: KeyCodec,
    pub(super) windowed: bool,
    sessions: bool,
    pub(super) index: Index,
    pub(super) sides: [SideRows; 2],
    /// greatest row time of both sides
    pub(super) stream_time: i64,
    /// wall clock before which held rows are not emitted, where that is throttled
    pub(super) next_emit: i64,
    /// how long rows are kept after their time, by the time of their own side
    retention_ms: i64,
    pub(super) behind: Option<Arc<dyn KeyedSnapshot>>,
    /// entries as of the last block that are not written behind
    pub(super) unwritten: BTreeMap<Bytes, Option<Bytes>>,
    pub(super) unwritten_bytes: usize,
    /// chunks with entries in `unwritten`, and those taken from there last
    pub(super) unwritten_chunks: Vec<(usize, u64)>,
    pub(super) in_flight_chunks: Vec<(usize, u64)>,
    /// numbers as of the last block
    pub(super) stored_numbers: [i64; 4],
    pub(super) dirty_bytes: usize,
    /// what went wrong when the store behind was read first
    pub(super) failed: Option<TopicError>,
    /// entries were restored, and those that wait are not yet in order
    pub(super) restored: bool,
    pub(super) hand: usize,
}

impl JoinRows {
    /// No rows yet of the join of `spec`; `types` are the column types of both sides.
    pub(super) fn new(spec: &StreamJoinSpec, keys: KeyCodec, types: [&[DataType]; 2]) -> Self {
        let windowed = spec.windowed;
        Self {
            name: spec.store.as_str().into(),
            keys,
            windowed,
            sessions: spec.sessions,
            index: Index::new(),
            sides: types.map(|types| SideRows::new(types, windowed)),
            stream_time: NO_TIME,
            next_emit: NO_TIME,
            retention_ms: spec.within.retention_ms(),
            behind: None,
            unwritten: BTreeMap::new(),
            unwritten_bytes: 0,
            unwritten_chunks: Vec::new(),
            in_flight_chunks: Vec::new(),
            stored_numbers: [NO_TIME; 4],
            dirty_bytes: 0,
            failed: None,
            restored: false,
            hand: 0,
        }
    }

    /// The keys of rows, with what of their windows must be equal.
    ///
    /// # Errors
    /// If the columns are not those of the key.
    pub(super) fn encode_keys(&self, batch: &ChangeBatch) -> Result<EncodedRows, TopicError> {
        let window = batch.meta.window.as_ref().filter(|_| self.windowed);
        let columns = &batch.columns[..self.keys.types().len()];
        encode_keys(&self.keys, columns, window.map(|w| (w, self.sessions)), batch.len())
    }

    /// How many columns a side has.
    pub(super) fn width(&self, side: usize) -> usize {
        self.sides[side].width
    }

    /// Types of the columns of a side, then of its window bounds, if it has any.
    pub(super) fn types(&self, side: usize) -> &[DataType] {
        &self.sides[side].types
    }

    /// Rows of a side before this have expired.
    pub(super) fn bound(&self, side: usize) -> i64 {
        self.sides[side].time.saturating_sub(self.retention_ms)
    }

    /// Which of the rows with these times a side would keep, if they came after the ones before.
    pub(super) fn kept(&self, side: usize, times: impl Iterator<Item = i64>) -> Vec<bool> {
        let mut greatest = self.sides[side].time;
        let kept = |time: i64| {
            greatest = greatest.max(time);
            time >= greatest.saturating_sub(self.retention_ms)
        };
        times.map(kept).collect()
    }

    /// Puts rows of a step into the open chunk of a side; returns the id of the first one. None of them is in the index yet.
    ///
    /// # Errors
    /// If the columns are not those of the side.
    pub(super) fn append(
        &mut self,
        side: usize,
        columns: Vec<ArrayRef>,
        slots: &[u32],
        times: &[i64],
    ) -> Result<RowId, TopicError> {
        let retention_ms = self.retention_ms;
        let rows = &mut self.sides[side];
        let is_full = |c: &Chunk| {
            let span = c.latest.saturating_sub(c.earliest);
            c.rows() >= CHUNK_ROWS || (c.rows() > 0 && span > retention_ms / 4)
        };
        if rows.chunks.back().is_none_or(is_full) {
            rows.chunks.push_back(Chunk::new());
            rows.ready = 0;
        }
        let id = rows.next_id() - 1;
        let chunk = rows.chunks.back_mut().expect("made above");
        let first = chunk.append(columns, slots, times).map_err(damaged)?;
        chunk.flags |= USED;
        self.dirty_bytes += chunk.pieces.last().map_or(0, |p| p.bytes / p.len.max(1) as usize) * slots.len();
        rows.soil(id);
        Ok(RowId::new(id, first))
    }

    /// A row of the last step is handled: it can be found from now on. It is the next one of its side that was kept.
    pub(super) fn insert(&mut self, side: usize, slot: u32, time: i64, row: RowId) {
        let bound = self.bound(side);
        self.index.insert(slot, side, Entry { time, row }, bound);
        self.sides[side].ready = row.row() + 1;
    }

    /// A row waits for a partner.
    pub(super) fn hold(&mut self, side: usize, time: i64, row: RowId) {
        let rows = &mut self.sides[side];
        rows.chunk_of(row).hold(row.row(), true);
        rows.soil(row.chunk());
        rows.waiting.push(Reverse((time, row)));
    }

    /// A row found a partner.
    pub(super) fn release(&mut self, side: usize, row: RowId) {
        let rows = &mut self.sides[side];
        let chunk = rows.chunk_of(row);
        if chunk.held_count > 0 && chunk.hold(row.row(), false) {
            rows.soil(row.chunk());
        }
    }

    /// The time of the row that has waited longest, of a side.
    pub(super) fn longest_waiting(&mut self, side: usize) -> Option<(i64, RowId)> {
        let rows = &mut self.sides[side];
        while let Some(&Reverse((time, row))) = rows.waiting.peek() {
            if row.chunk() >= rows.first && rows.chunk_of(row).is_held(row.row()) {
                return Some((time, row));
            }
            rows.waiting.pop();
        }
        None
    }

    /// The time of the youngest row that waits for a partner, of both sides.
    pub(super) fn last_waiting(&mut self) -> Option<i64> {
        let of_side = |rows: &SideRows| {
            let is_held = |row: RowId| {
                let chunk = row.chunk().checked_sub(rows.first).and_then(|at| rows.chunks.get(at as usize));
                chunk.is_some_and(|chunk| chunk.is_held(row.row()))
            };
            rows.waiting.iter().filter(|Reverse((_, row))| is_held(*row)).map(|Reverse((time, _))| *time).max()
        };
        self.sides.iter().filter_map(of_side).max()
    }

    /// The time of a side at which rows of `time` have expired, if there is one.
    pub(super) fn expires_at(&self, time: i64) -> Option<i64> {
        time.checked_add(self.retention_ms)?.checked_add(1)
    }

    /// Takes the row that has waited longest out.
    pub(super) fn give_up(&mut self, side: usize) {
        if let Some(Reverse((_, row))) = self.sides[side].waiting.pop() {
            self.release(side, row);
        }
    }

    /// Lets go of chunks whose rows have all expired. To be called between steps.
    pub(super) fn expire(&mut self) {
        for side in 0..2 {
            let bound = self.bound(side);
            loop {
                let rows = &mut self.sides[side];
                let over = |c: &&Chunk| c.latest < bound && c.held_count == 0;
                if rows.chunks.front().filter(over).is_none() {
                    break;
                }
                let (id, chunk) = (rows.first, rows.chunks.pop_front().expect("looked at above"));
                rows.first += 1;
                if rows.chunks.is_empty() {
                    rows.ready = 0;
                }
                self.forget(side, id, chunk, bound);
            }
        }
    }

    fn forget(&mut self, side: usize, id: u64, chunk: Chunk, bound: i64) {
        let mut slots = chunk.slots;
        slots.sort_unstable();
        slots.dedup();
        slots.iter().for_each(|&slot| self.index.expire(slot, side, bound));
        let taken = chunk.flags & TAKEN != 0;
        let held = chunk.held_stored.then_some(HELD);
        let gone = &mut self.sides[side].gone;
        for first in chunk.entries.into_iter().chain(held) {
            self.dirty_bytes += ENTRY_BYTES;
            gone.push((entry_key(side, id, first), taken));
        }
    }

    /// The piece that holds a row, which is brought into memory if it is not there.
    ///
    /// # Errors
    /// If the store behind cannot be read.
    pub(super) fn piece_of(&mut self, side: usize, row: RowId) -> Result<&mut super::chunk::Piece, TopicError> {
        let chunk = self.sides[side].chunk_of(row);
        let at = chunk.piece(row.row());
        chunk.flags |= USED;
        if chunk.pieces[at].columns.is_none() {
            self.load(side, row.chunk(), at)?;
        }
        Ok(&mut self.sides[side].chunk_of(row).pieces[at])
    }

    #[cold]
    fn load(&mut self, side: usize, id: u64, piece: usize) -> Result<(), TopicError> {
        let behind = self.behind.clone().ok_or_else(|| damaged("rows are neither in memory nor stored"))?;
        let rows = &mut self.sides[side];
        let chunk = rows.chunk(id).ok_or_else(|| damaged("a chunk is missing"))?;
        let (first, end) = (chunk.pieces[piece].first, chunk.pieces[piece].first + chunk.pieces[piece].len);
        let from = chunk.entries.partition_point(|&e| e <= first).max(1) - 1;
        let entries: Vec<u32> = chunk.entries[from..].iter().copied().take_while(|&e| e < end).collect();
        let mut parts = Vec::new();
        for entry in entries {
            let bytes = behind.get(&entry_key(side, id, entry))?.ok_or_else(|| damaged("stored rows are missing"))?;
            let columns = rows.codec.decode(&bytes)?;
            let len = columns.first().map_or(0, |c| c.len()) as u32;
            let (start, stop) = (first.max(entry), end.min(entry + len));
            if start < stop {
                let slice = |c: &ArrayRef| c.slice((start - entry) as usize, (stop - start) as usize);
                parts.push(columns.iter().map(slice).collect::<Vec<_>>());
            }
        }
        let columns = concat_columns(&parts.iter().collect::<Vec<_>>()).map_err(damaged)?;
        if columns.first().is_none_or(|c| c.len() as u32 != end - first) {
            return Err(damaged("stored rows are incomplete"));
        }
        rows.chunk(id).ok_or_else(|| damaged("a chunk is missing"))?.pieces[piece].columns = Some(columns);
        Ok(())
    }

    /// Takes stored rows back: into their chunk and into the index. `keep`: their columns stay in memory.
    ///
    /// # Errors
    /// If they are damaged.
    pub(super) fn restore_rows(
        &mut self,
        (side, id, first): (usize, u64, u32),
        bytes: &[u8],
        keep: bool,
    ) -> Result<(), TopicError> {
        let rows = &mut self.sides[side];
        let columns = rows.codec.decode(bytes)?;
        let times = columns[columns.len() - 1].as_primitive::<Int64Type>().values().clone();
        let window = self.windowed.then(|| WindowBounds {
            start: columns[rows.width].as_primitive::<Int64Type>().values().clone(),
            end: columns[rows.width + 1].as_primitive::<Int64Type>().values().clone(),
        });
        let key_columns = &columns[..self.keys.types().len()];
        let keys = encode_keys(&self.keys, key_columns, window.as_ref().map(|w| (w, self.sessions)), times.len())?;
        let slots: Vec<u32> = keys.iter().map(|key| self.index.slot(key)).collect();
        if rows.chunks.is_empty() {
            rows.first = id;
        }
        if id == rows.next_id() {
            rows.chunks.push_back(Chunk::new());
        }
        let chunk = rows.chunk(id).filter(|c| c.rows() == first).ok_or_else(|| damaged("rows are out of order"))?;
        chunk.append(columns, &slots, &times).map_err(damaged)?;
        chunk.entries.push(first);
        chunk.in_blocks = chunk.rows();
        if !keep {
            chunk.pieces.iter_mut().for_each(|piece| piece.columns = None);
        }
        rows.ready = rows.chunks.back().map_or(0, Chunk::rows);
        for (i, (&slot, &time)) in slots.iter().zip(times.iter()).enumerate() {
            let entry = Entry { time, row: RowId::new(id, first + i as u32) };
            self.index.insert(slot, side, entry, i64::MIN);
        }
        Ok(())
    }

    /// Takes the held bits of a chunk back.
    ///
    /// # Errors
    /// If they are damaged.
    pub(super) fn restore_held(&mut self, side: usize, id: u64, bytes: &[u8]) -> Result<(), TopicError> {
        let held = super::chunk::decode_held(bytes)?;
        let rows = &mut self.sides[side];
        let chunk = rows.chunk(id).filter(|c| held.len() * 8 <= c.rows() as usize + 7);
        let chunk = chunk.ok_or_else(|| damaged("held rows without their rows"))?;
        chunk.held_count = held.iter().map(|byte| byte.count_ones()).sum();
        chunk.held = held;
        chunk.held_stored = true;
        Ok(())
    }

    /// A slot was made for a row that is not kept: it goes, unless others use it.
    pub(super) fn abandon(&mut self, side: usize, slot: u32) {
        let bound = self.bound(side);
        self.index.expire(slot, side, bound);
    }

    /// Puts the rows that wait in order again, once everything is restored.
    ///
    /// # Errors
    /// If their times cannot be read.
    pub(super) fn queue_waiting(&mut self) -> Result<(), TopicError> {
        for side in 0..2 {
            self.sides[side].waiting.clear();
            let (first, count) = (self.sides[side].first, self.sides[side].chunks.len() as u64);
            for id in first..first + count {
                let rows = &mut self.sides[side];
                let chunk = rows.chunk(id).ok_or_else(|| damaged("a chunk is missing"))?;
                if chunk.held_count == 0 {
                    continue;
                }
                let places: Vec<u32> = (0..chunk.rows()).filter(|&row| chunk.is_held(row)).collect();
                for row in places.into_iter().map(|row| RowId::new(id, row)) {
                    let piece = self.piece_of(side, row)?;
                    let columns = piece.columns.as_ref().ok_or_else(|| damaged("a piece is missing"))?;
                    let times = columns[columns.len() - 1].as_primitive::<Int64Type>();
                    let time = times.value((row.row() - piece.first) as usize);
                    self.sides[side].waiting.push(Reverse((time, row)));
                }
            }
        }
        Ok(())
    }

    /// Lets columns of clean chunks leave memory, oldest first, until `bytes` are free. Used ones stay for one more round.
    pub(super) fn drop_columns(&mut self, bytes: usize) {
        let counts = [self.sides[0].chunks.len(), self.sides[1].chunks.len()];
        let (mut freed, total) = (0, counts[0] + counts[1]);
        for _ in 0..2 * total {
            if freed >= bytes {
                return;
            }
            self.hand = (self.hand + 1) % total;
            let (side, at) = if self.hand < counts[0] { (0, self.hand) } else { (1, self.hand - counts[0]) };
            let chunk = &mut self.sides[side].chunks[at];
            if chunk.flags & PINNED != 0 {
                continue;
            }
            if chunk.flags & USED != 0 {
                chunk.flags &= !USED;
                continue;
            }
            freed += chunk.bytes();
            chunk.pieces.iter_mut().for_each(|piece| piece.columns = None);
        }
    }

    /// Counts the entries of a chunk as unwritten.
    pub(super) fn mark_unwritten(&mut self, side: usize, id: u64) {
        if let Some(chunk) = self.sides[side].chunk(id).filter(|c| c.flags & UNWRITTEN == 0) {
            chunk.flags |= UNWRITTEN;
            self.unwritten_chunks.push((side, id));
        }
    }

    /// The numbers kept beside the rows.
    pub(super) fn numbers(&self) -> [i64; 4] {
        [self.sides[0].time, self.sides[1].time, self.stream_time, self.next_emit]
    }

    pub(super) fn set_number(&mut self, number: usize, value: i64) {
        match number {
            0 | 1 => self.sides[number].time = value,
            2 => self.stream_time = value,
            _ => self.next_emit = value,
        }
        self.stored_numbers[number] = value;
    }

    pub(super) fn waiting_bytes(&self) -> usize {
        self.sides.iter().map(|side| side.waiting.capacity() * size_of::<(i64, RowId)>()).sum()
    }
}

/// Windows of streams are the same if they start together; sessions must end together, too.
fn encode_keys(
    codec: &KeyCodec,
    columns: &[ArrayRef],
    window: Option<(&WindowBounds, bool)>,
    rows: usize,
) -> Result<EncodedRows, TopicError> {
    match window {
        Some((window, false)) => {
            let starts = WindowBounds { start: window.start.clone(), end: window.start.clone() };
            codec.encode_windowed(columns, rows, Some(&starts))
        }
        sessions => codec.encode_windowed(columns, rows, sessions.map(|(window, _)| window)),
    }
}

/// Bytes that an entry costs in a block beside its row, about.
pub(super) const ENTRY_BYTES: usize = 22;

/// `side (1 byte), chunk (8, big endian), first row (4, big endian)`.
pub(super) fn entry_key(side: usize, chunk: u64, first: u32) -> Vec<u8> {
    let mut key = Vec::with_capacity(13);
    key.push(side as u8);
    key.extend_from_slice(&chunk.to_be_bytes());
    key.extend_from_slice(&first.to_be_bytes());
    key
}

/// Side, chunk and first row of an entry.
///
/// # Errors
/// If it is none.
pub(super) fn split_key(key: &[u8]) -> Result<(usize, u64, u32), TopicError> {
    match key {
        [side @ 0..=1, rest @ ..] if rest.len() == 12 => {
            let number = |bytes: &[u8]| bytes.iter().fold(0u64, |n, &byte| n << 8 | u64::from(byte));
            Ok((usize::from(*side), number(&rest[..8]), number(&rest[8..]) as u32))
        }
        _ => Err(damaged("a key of unknown form")),
    }
}
