//! Holding back changes of a table, one a key: the old row of the first change, everything else of the last.
//!
//! Used by aggregates and table-table joins at their own output when `ctx.coalesce` is set; streams never coalesce. The subtle thing: a
//! key that did not exist before the first change and does not after the last was never there, and says nothing.

use arrow::array::{Array, ArrayRef, new_null_array};
use arrow::buffer::{BooleanBuffer, ScalarBuffer};
use arrow::compute::interleave;
use arrow::error::ArrowError;
use hashbrown::HashTable;

use crate::state::encoding::EncodedRows;

use crate::types::{ChangeBatch, OldRows, RowMeta, WindowBounds};

/// Rows held, superseded ones included, at which the holder should drain.
const FULL_ROWS: usize = 65_536;
/// The same in bytes of columns.
const FULL_BYTES: usize = 32 << 20;

/// Changes held back.
#[derive(Default)]
pub(crate) struct Coalescer {
    batches: Vec<ChangeBatch>,
    hasher: ahash::RandomState,
    /// places in `slots`
    index: HashTable<u32>,
    slots: Vec<Slot>,
    /// the key of each slot
    keys: EncodedRows,
    rows: usize,
    bytes: usize,
}

/// First and last change of a key, as (batch, row).
#[derive(Clone, Copy)]
struct Slot {
    hash: u64,
    first: (usize, usize),
    last: (usize, usize),
    existed: bool,
}

impl Coalescer {
    /// True if nothing is held.
    pub(crate) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// True if it is time to drain.
    pub(crate) fn is_full(&self) -> bool {
        self.rows >= FULL_ROWS || self.bytes >= FULL_BYTES
    }

    /// Holds the rows of `batch`; for each its encoded key, and whether the key had a row before.
    pub(crate) fn hold<'a>(
        &mut self,
        batch: ChangeBatch,
        keys: impl Iterator<Item = &'a [u8]>,
        existed: impl Iterator<Item = bool>,
    ) {
        let number = self.batches.len();
        for (i, (key, existed)) in keys.zip(existed).enumerate() {
            let (at, hash) = ((number, i), self.hasher.hash_one(key));
            let same = |&n: &u32| self.slots[n as usize].hash == hash && self.keys.row(n as usize) == key;
            if let Some(&n) = self.index.find(hash, same) {
                self.slots[n as usize].last = at;
                continue;
            }
            let slots = &self.slots;
            self.index.insert_unique(hash, slots.len() as u32, |&n| slots[n as usize].hash);
            self.slots.push(Slot { hash, first: at, last: at, existed });
            self.keys.push(key);
        }
        let old = batch.old.iter().flat_map(|old| &old.columns);
        self.bytes += batch.columns.iter().chain(old).map(|c| c.get_array_memory_size()).sum::<usize>();
        self.rows += batch.len();
        self.batches.push(batch);
    }

    /// Gives everything out, in the order of the last changes, in batches of at most `page_rows` rows, all at `seq`.
    ///
    /// # Errors
    /// If batches that were held differ in their columns.
    pub(crate) fn drain(&mut self, page_rows: usize, seq: u32, out: &mut Vec<ChangeBatch>) -> Result<(), ArrowError> {
        let batches = std::mem::take(&mut self.batches);
        let slots = std::mem::take(&mut self.slots);
        (self.rows, self.bytes) = (0, 0);
        self.index.clear();
        self.keys.clear();
        // in the order of the last changes, which each are another row
        let mut changed: Vec<Vec<u32>> = batches.iter().map(|batch| vec![u32::MAX; batch.len()]).collect();
        for (n, slot) in slots.iter().enumerate() {
            if slot.existed || batches[slot.last.0].is_present(slot.last.1) {
                changed[slot.last.0][slot.last.1] = n as u32;
            }
        }
        let changed = changed.into_iter().flatten().filter(|&n| n != u32::MAX);
        let slots: Vec<Slot> = changed.map(|n| slots[n as usize]).collect();
        for page in slots.chunks(page_rows.max(1)) {
            out.push(merged(&batches, page, seq)?);
        }
        Ok(())
    }
}

fn merged(batches: &[ChangeBatch], slots: &[Slot], seq: u32) -> Result<ChangeBatch, ArrowError> {
    let first: Vec<_> = slots.iter().map(|slot| slot.first).collect();
    let last: Vec<_> = slots.iter().map(|slot| slot.last).collect();
    let metas = |(batch, row): &(usize, usize)| (&batches[*batch].meta, *row);
    let windowed = batches.iter().all(|b| b.meta.window.is_some());
    let window = |pick: fn(&WindowBounds) -> &ScalarBuffer<i64>| {
        let bounds = last.iter().map(metas).filter_map(|(meta, i)| Some(pick(meta.window.as_ref()?)[i]));
        bounds.collect::<ScalarBuffer<i64>>()
    };
    Ok(ChangeBatch {
        columns: columns(batches, &last, |b| Some(&b.columns))?.unwrap_or_default(),
        present: bits(last.iter().map(|&(batch, row)| batches[batch].is_present(row))),
        old: columns(batches, &first, |b| b.old.as_ref().map(|old| &old.columns))?
            .map(|columns| OldRows { columns, present: bits(slots.iter().map(|slot| slot.existed)) }),
        meta: RowMeta {
            rowtime: last.iter().map(metas).map(|(meta, i)| meta.rowtime[i]).collect(),
            seq: ScalarBuffer::from(vec![seq; slots.len()]),
            offset: last.iter().map(metas).map(|(meta, i)| meta.offset[i]).collect(),
            window: windowed.then(|| WindowBounds { start: window(|w| &w.start), end: window(|w| &w.end) }),
            headers: headers(batches, &last)?,
            keyed: None,
        },
    })
}

fn bits(bits: impl Iterator<Item = bool>) -> Option<BooleanBuffer> {
    let bits: BooleanBuffer = bits.collect();
    (bits.count_set_bits() < bits.len()).then_some(bits)
}

fn columns<'a>(
    batches: &'a [ChangeBatch],
    picks: &[(usize, usize)],
    of: impl Fn(&'a ChangeBatch) -> Option<&'a Vec<ArrayRef>>,
) -> Result<Option<Vec<ArrayRef>>, ArrowError> {
    let Some(sources) = batches.iter().map(of).collect::<Option<Vec<_>>>() else { return Ok(None) };
    let width = sources.first().map_or(0, |columns| columns.len());
    let column = |n: usize| {
        let arrays: Vec<&dyn Array> = sources.iter().map(|columns| columns[n].as_ref()).collect();
        interleave(&arrays, picks)
    };
    (0..width).map(column).collect::<Result<_, _>>().map(Some)
}

fn headers(batches: &[ChangeBatch], picks: &[(usize, usize)]) -> Result<Option<ArrayRef>, ArrowError> {
    let Some(some) = batches.iter().find_map(|b| b.meta.headers.as_ref()) else { return Ok(None) };
    let none = |b: &ChangeBatch| new_null_array(some.data_type(), b.len());
    let sources: Vec<ArrayRef> = batches.iter().map(|b| b.meta.headers.clone().unwrap_or_else(|| none(b))).collect();
    let arrays: Vec<&dyn Array> = sources.iter().map(|a| a.as_ref()).collect();
    interleave(&arrays, picks).map(Some)
}
