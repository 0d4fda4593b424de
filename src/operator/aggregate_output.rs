//! What an aggregate gives out: a row for each change of a group, or one a group held back until the next flush.
//!
//! Knows no windows but their bounds. The subtle thing: held back are slots, not rows; the new row is read from the states at the flush,
//! only the old row of the first change is kept (a column for each page of groups that changed first).

use arrow::array::{Array, ArrayRef, Int64Array, UInt32Array, new_null_array};
use arrow::buffer::{BooleanBuffer, ScalarBuffer};
use arrow::compute::{interleave, take};
use arrow::error::ArrowError;
use std::sync::Arc;

use crate::function::aggregate::{Accumulator, Slot};
use crate::state::encoding::{EncodedRows, KeyCodec};
use crate::types::{ChangeBatch, OldRows, RowMeta, WindowBounds};

use super::group_store::GroupStore;
use super::groups::{NO_ROWTIME, OWING};
use super::{OperatorError, Progress, StepContext};

/// Groups held back at most; then they are given out before the next flush.
const MAX_HELD: usize = 1 << 18;
/// Marks a slot without an entry.
const NONE: u32 = u32::MAX;

/// One output row in the making.
#[derive(Clone, Copy, Debug)]
pub(super) struct Emission {
    /// the group
    pub slot: Slot,
    /// the input row that caused it
    pub row: u32,
    /// row time of the result
    pub rowtime: i64,
    /// the group had a value before
    pub existed: bool,
}

/// A group held back.
#[derive(Clone, Copy)]
struct Held {
    slot: Slot,
    existed: bool,
    /// offset of the record that changed it last
    offset: i64,
    /// (page of old values, index in it)
    old: (u32, u32),
    /// (batch of headers, row in it) of the last change, if that had any
    headers: (u32, u32),
}

/// Shapes the output of one aggregate.
pub(super) struct Output {
    emit_old: bool,
    windowed: bool,
    /// groups held back; the head of each slot has its place here
    held: Vec<Held>,
    /// how many of `held` are given out, while they are given out page by page
    released: usize,
    old_pages: Vec<Vec<ArrayRef>>,
    headers: Vec<ArrayRef>,
    /// by slot: its last emission on this page
    last: Vec<u32>,
}

impl Output {
    /// Output with WINDOWSTART and WINDOWEND if `windowed`, and with old rows if `emit_old`.
    pub fn new(emit_old: bool, windowed: bool) -> Self {
        let (held, old_pages, headers, last) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { emit_old, windowed, held, released: 0, old_pages, headers, last }
    }

    /// Values before the page: call it before the accumulators see the page's updates.
    ///
    /// They are those of the emissions' slots, each once, in order of first occurrence; `holding`: but for those held back already.
    pub fn before(&mut self, emissions: &[Emission], holding: bool, store: &GroupStore) -> Vec<ArrayRef> {
        if !self.emit_old {
            return Vec::new();
        }
        let slots = store.groups.slots();
        self.last.resize(slots.max(self.last.len()), NONE);
        let mut firsts = Vec::new();
        for emission in emissions {
            let slot = emission.slot as usize;
            if self.last[slot] == NONE && !(holding && store.groups.head(emission.slot).is(OWING)) {
                self.last[slot] = 0;
                firsts.push(emission.slot);
            }
        }
        firsts.iter().for_each(|&slot| self.last[slot as usize] = NONE);
        values(&store.accumulators, &firsts)
    }

    /// The page's rows as they are: `new` are the accumulators' values, one for each emission.
    ///
    /// # Errors
    /// A defect of ours.
    pub fn rows(
        &mut self,
        emissions: &[Emission],
        batch: &ChangeBatch,
        key_count: usize,
        new: Vec<ArrayRef>,
        before: &[ArrayRef],
        store: &GroupStore,
    ) -> Result<ChangeBatch, OperatorError> {
        let rows: Vec<u32> = emissions.iter().map(|e| e.row).collect();
        let whole = rows.len() == batch.len() && rows.iter().enumerate().all(|(i, &row)| i == row as usize);
        let by = UInt32Array::from(rows);
        let pick = |column: &ArrayRef| if whole { Ok(column.clone()) } else { take(column, &by, None) };
        let keys: Vec<_> = batch.columns[..key_count].iter().map(pick).collect::<Result<_, _>>().map_err(internal)?;
        let windows = self.windowed.then(|| windows_of(store, emissions.iter().map(|e| e.slot)));
        let old = match self.emit_old {
            true => Some(self.old_rows(emissions, &keys, &new, before, windows.as_ref(), store).map_err(internal)?),
            false => None,
        };
        let mut meta = if whole { batch.meta.clone() } else { batch.meta.take(by.values()).map_err(internal)? };
        meta.rowtime = emissions.iter().map(|e| e.rowtime).collect();
        meta.window = windows.clone();
        Ok(ChangeBatch { columns: assemble(keys, new, windows.as_ref()), present: None, old, meta })
    }

    fn old_rows(
        &mut self,
        emissions: &[Emission],
        keys: &[ArrayRef],
        new: &[ArrayRef],
        before: &[ArrayRef],
        windows: Option<&WindowBounds>,
        store: &GroupStore,
    ) -> Result<OldRows, ArrowError> {
        self.last.resize(store.groups.slots().max(self.last.len()), NONE);
        let mut from = Vec::with_capacity(emissions.len());
        let mut firsts = 0;
        for (i, emission) in emissions.iter().enumerate() {
            let last = std::mem::replace(&mut self.last[emission.slot as usize], i as u32);
            if last == NONE {
                from.push((0, firsts));
                firsts += 1;
            } else {
                from.push((1, last as usize));
            }
        }
        emissions.iter().for_each(|e| self.last[e.slot as usize] = NONE);
        let pairs = before.iter().zip(new);
        let values = pairs.map(|(before, new)| interleave(&[before.as_ref(), new.as_ref()], &from));
        let values = values.collect::<Result<Vec<_>, _>>()?;
        let existed = BooleanBuffer::collect_bool(emissions.len(), |i| emissions[i].existed);
        let present = (existed.count_set_bits() < emissions.len()).then_some(existed);
        Ok(OldRows { columns: assemble(keys.to_vec(), values, windows), present })
    }

    /// Holds the page's groups back.
    pub fn hold(&mut self, emissions: &[Emission], batch: &ChangeBatch, before: Vec<ArrayRef>, store: &mut GroupStore) {
        let page = self.old_pages.len() as u32;
        let headers = batch.meta.headers.as_ref().map_or(NONE, |headers| {
            self.headers.push(headers.clone());
            self.headers.len() as u32 - 1
        });
        let held_before = self.held.len();
        for emission in emissions {
            let (offset, headers) = (batch.meta.offset[emission.row as usize], (headers, emission.row));
            let head = store.groups.head_mut(emission.slot);
            if head.is(OWING) {
                let held = &mut self.held[head.link as usize];
                (held.offset, held.headers) = (offset, headers);
                continue;
            }
            head.flags |= OWING;
            head.link = self.held.len() as u32;
            let old = (page, (self.held.len() - held_before) as u32);
            self.held.push(Held { slot: emission.slot, existed: emission.existed, offset, old, headers });
        }
        store.owing += self.held.len() - held_before;
        if self.emit_old {
            self.old_pages.push(before);
        }
    }

    /// True if so many groups are held that it is time to give them out.
    pub fn is_full(&self) -> bool {
        self.held.len() >= MAX_HELD
    }

    /// Gives out a page of what is held, in order of the first changes.
    ///
    /// # Errors
    /// A defect of ours.
    pub fn release(
        &mut self,
        store: &mut GroupStore,
        keys: &KeyCodec,
        ctx: &StepContext,
        out: &mut Vec<ChangeBatch>,
    ) -> Result<Progress, OperatorError> {
        let page = &self.held[self.released..self.held.len().min(self.released + ctx.page_rows.max(1))];
        if !page.is_empty() {
            out.push(self.release_page(page, store, keys)?);
        }
        for entry in page {
            store.groups.head_mut(entry.slot).flags &= !OWING;
        }
        store.owing -= page.len();
        self.released += page.len();
        if self.released < self.held.len() {
            return Ok(Progress::More);
        }
        self.released = 0;
        self.held = Vec::new();
        self.old_pages.clear();
        self.headers.clear();
        Ok(Progress::Done)
    }

    fn release_page(&self, page: &[Held], store: &GroupStore, keys: &KeyCodec) -> Result<ChangeBatch, OperatorError> {
        let slots: Vec<Slot> = page.iter().map(|held| held.slot).collect();
        let mut batch = current(&slots, store, keys, self.windowed)?;
        batch.meta.offset = page.iter().map(|held| held.offset).collect();
        batch.meta.headers = self.held_headers(page).map_err(internal)?;
        if self.emit_old {
            let key_count = keys.types().len();
            let from: Vec<_> = page.iter().map(|held| (held.old.0 as usize, held.old.1 as usize)).collect();
            let values = (0..store.accumulators.len()).map(|i| {
                let pages: Vec<&dyn Array> = self.old_pages.iter().map(|page| page[i].as_ref()).collect();
                interleave(&pages, &from)
            });
            let values = values.collect::<Result<Vec<_>, _>>().map_err(internal)?;
            let existed = BooleanBuffer::collect_bool(page.len(), |i| page[i].existed);
            let present = (existed.count_set_bits() < page.len()).then_some(existed);
            let columns = assemble(batch.columns[..key_count].to_vec(), values, batch.meta.window.as_ref());
            batch.old = Some(OldRows { columns, present });
        }
        Ok(batch)
    }

    fn held_headers(&self, page: &[Held]) -> Result<Option<ArrayRef>, ArrowError> {
        let Some(first) = self.headers.first() else { return Ok(None) };
        let none = new_null_array(first.data_type(), 1);
        let batches: Vec<&dyn Array> = self.headers.iter().map(|h| h.as_ref()).chain([none.as_ref()]).collect();
        let from = page.iter().map(|held| match held.headers {
            (NONE, _) => (self.headers.len(), 0),
            (batch, row) => (batch as usize, row as usize),
        });
        interleave(&batches, &from.collect::<Vec<_>>()).map(Some)
    }
}

/// The rows of these groups as they are now; offsets and `seq` are 0.
///
/// # Errors
/// If a key does not read back.
pub(super) fn current(
    slots: &[Slot],
    store: &GroupStore,
    keys: &KeyCodec,
    windowed: bool,
) -> Result<ChangeBatch, OperatorError> {
    let mut encoded = EncodedRows::with_capacity(slots.len(), 16 * slots.len());
    let (mut starts, mut ends) = (Vec::new(), Vec::new());
    let mut rowtimes = Vec::with_capacity(slots.len());
    if windowed {
        starts.reserve(slots.len());
        ends.reserve(slots.len());
    }
    for &slot in slots {
        let head = store.groups.head(slot);
        encoded.push(store.groups.key(slot));
        rowtimes.push(head.rowtime);
        if windowed {
            starts.push(head.window.start);
            ends.push(head.window.end);
        }
    }
    let key_columns = keys.decode(encoded.iter())?;
    let windows = windowed.then(|| WindowBounds { start: starts.into(), end: ends.into() });
    Ok(rows_of(key_columns, values(&store.accumulators, slots), rowtimes.into(), windows))
}

/// Output rows that no input row stands behind: offsets and `seq` are 0.
pub(super) fn rows_of(
    keys: Vec<ArrayRef>,
    values: Vec<ArrayRef>,
    rowtime: ScalarBuffer<i64>,
    window: Option<WindowBounds>,
) -> ChangeBatch {
    let (seq, offset) = (ScalarBuffer::from(vec![0; rowtime.len()]), ScalarBuffer::from(vec![0; rowtime.len()]));
    ChangeBatch {
        columns: assemble(keys, values, window.as_ref()),
        present: None,
        old: None,
        meta: RowMeta { rowtime, seq, offset, window, headers: None, keyed: None },
    }
}

/// Values of all accumulators for these slots.
pub(super) fn values(accumulators: &[Box<dyn Accumulator>], slots: &[Slot]) -> Vec<ArrayRef> {
    accumulators.iter().map(|accumulator| accumulator.values(slots)).collect()
}

/// Key columns, values, and window bounds where there are any.
pub(super) fn assemble(keys: Vec<ArrayRef>, values: Vec<ArrayRef>, windows: Option<&WindowBounds>) -> Vec<ArrayRef> {
    let mut columns = keys;
    columns.extend(values);
    if let Some(windows) = windows {
        for bounds in [&windows.start, &windows.end] {
            columns.push(Arc::new(Int64Array::new(bounds.clone(), None)));
        }
    }
    columns
}

fn windows_of(store: &GroupStore, slots: impl Iterator<Item = Slot> + Clone) -> WindowBounds {
    let window = |slot| store.groups.head(slot).window;
    WindowBounds {
        start: slots.clone().map(|slot| window(slot).start).collect(),
        end: slots.map(|slot| window(slot).end).collect(),
    }
}

/// True if the group has a value already.
pub(super) fn existed(store: &GroupStore, slot: Slot) -> bool {
    store.groups.head(slot).rowtime != NO_ROWTIME
}

fn internal(error: ArrowError) -> OperatorError {
    OperatorError::internal("aggregate", error)
}
