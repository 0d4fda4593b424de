//! Table ⋈ table on the primary key: a change of either side meets the row that the other side has at that moment.
//!
//! Both sides are kept here, by arrival (`semantics.md` §7). The subtle thing is what says nothing: a change of which neither the row
//! before, nor the row after, nor the other side exists; [`verdict`] is the whole of it.

use arrow::array::{ArrayRef, BooleanBufferBuilder};
use arrow::buffer::BooleanBuffer;

use crate::plan::topology::{JoinKind, JoinSpec};
use crate::state::encoding::{KeyCodec, RowCodec};
use crate::state::{KeyedTable, RowRef, Store};
use crate::types::{ChangeBatch, OldRows};

use super::coalesce::Coalescer;
use super::port::{PAGE_BYTES, Picks, Port, Ports, arrow_error, key_names, null_unless, split_types};
use super::{LossKind, Operator, OperatorError, Progress, Rest, Step, StepContext};

const NAME: &str = "table-table join";

/// [`crate::plan::topology::OperatorSpec::TableTableJoin`].
pub struct TableTableJoin {
    kind: JoinKind,
    key_count: usize,
    emit_old: bool,
    keys: KeyCodec,
    sides: [Side; 2],
    pending: Option<Ports>,
    held: Coalescer,
}

struct Side {
    rows: RowCodec,
    table: KeyedTable,
    key_names: String,
}

/// What a change of one side means for the joined row; `None` of it: nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Verdict {
    /// the joined row exists now (else: a tombstone)
    now: bool,
    /// it existed before
    before: bool,
}

/// Joined rows, by what they refer to.
#[derive(Default)]
struct Page {
    /// port and row of the change
    changes: Vec<(usize, usize)>,
    verdicts: Vec<Verdict>,
    /// the changed side's row before
    old: Vec<Option<RowRef>>,
    /// the other side's row
    other: Vec<Option<RowRef>>,
    rowtime: Vec<i64>,
    bytes: usize,
}

/// True if rows of that side survive without a partner.
fn keeps(kind: JoinKind, side: usize) -> bool {
    match kind {
        JoinKind::Inner => false,
        JoinKind::Left => side == 0,
        JoinKind::Right => side == 1,
        JoinKind::Full => true,
    }
}

/// What to say when `port` changed from `old` to `new` while the other side has a row or not.
fn verdict(kind: JoinKind, port: usize, new: bool, old: bool, other: bool) -> Option<Verdict> {
    let (keeps_this, keeps_other) = (keeps(kind, port), keeps(kind, 1 - port));
    let joined = |this: bool| match (keeps_this, keeps_other) {
        (false, false) => this && other,
        (true, false) => this,
        (false, true) => other,
        (true, true) => this || other,
    };
    let silent = if keeps_this { !new && !old && !other } else { !other };
    (!silent).then(|| Verdict { now: joined(new), before: joined(old) })
}

impl TableTableJoin {
    /// The join of `spec`.
    ///
    /// # Errors
    /// If the keys differ in type or a column has a type that no store holds.
    pub fn new(spec: &JoinSpec) -> Result<Self, OperatorError> {
        let (left_keys, left_values) = split_types(&spec.left, spec.key_count);
        let (right_keys, right_values) = split_types(&spec.right, spec.key_count);
        if left_keys != right_keys {
            return Err(OperatorError::internal(NAME, format!("keys {left_keys:?} and {right_keys:?} differ")));
        }
        let side = |values: &[_], store: &str, schema| {
            let key_names = key_names(schema, spec.key_count);
            Ok::<_, OperatorError>(Side { rows: RowCodec::new(values)?, table: KeyedTable::new(store), key_names })
        };
        Ok(Self {
            kind: spec.kind,
            key_count: spec.key_count,
            emit_old: spec.emit_old,
            keys: KeyCodec::new(&left_keys)?,
            sides: [
                side(&left_values, &spec.left_store, &spec.left)?,
                side(&right_values, &spec.right_store, &spec.right)?,
            ],
            pending: None,
            held: Coalescer::default(),
        })
    }

    fn open(&mut self, step: Step) -> Result<(), OperatorError> {
        let mut step = step.into_iter();
        let mut open = |side: &Side| match step.next().flatten() {
            Some(batch) if !batch.is_empty() => Port::open(batch, &self.keys, Some(&side.rows)).map(Some),
            _ => Ok(None),
        };
        self.pending = Some(Ports([open(&self.sides[0])?, open(&self.sides[1])?]));
        Ok(())
    }

    fn pages(&mut self, ctx: &mut StepContext, out: &mut Vec<ChangeBatch>) -> Result<Progress, OperatorError> {
        let Some(mut ports) = self.pending.take() else { return Ok(Progress::Done) };
        let pushed = out.len();
        loop {
            self.sides.iter_mut().for_each(|side| side.table.settle());
            let mut page = Page::default();
            while page.changes.len() < ctx.page_rows.max(1) && page.bytes < PAGE_BYTES {
                let Some(port) = ports.next() else { break };
                self.change(port, ports.port(port), &mut page, ctx)?;
            }
            if !page.changes.is_empty() {
                self.emit(&ports, page, ctx, out)?;
            }
            if ports.next().is_none() {
                return Ok(Progress::Done);
            }
            if out.len() > pushed {
                self.pending = Some(ports);
                return Ok(Progress::More);
            }
        }
    }

    fn change(
        &mut self,
        port: usize,
        input: &mut Port,
        page: &mut Page,
        ctx: &mut StepContext,
    ) -> Result<(), OperatorError> {
        let i = input.advance(&[&self.sides[0].table, &self.sides[1].table]);
        if input.lacks_key(i) {
            let reason = format!("a record of a table needs a key, but {} is NULL", self.sides[port].key_names);
            ctx.lose(input.batch.meta.offset[i], LossKind::NullKey, reason);
            return Ok(());
        }
        let key = input.keys.row(i);
        // An inner join never asks for the row before, unless someone downstream does: it saves a look-up behind memory.
        let asked = self.emit_old || ctx.coalesce || keeps(self.kind, port);
        let old = match input.stored(i) {
            row if asked => self.sides[port].table.replace(key, row)?,
            Some(row) => {
                self.sides[port].table.put(key, row);
                None
            }
            None => {
                self.sides[port].table.delete(key);
                None
            }
        };
        let other = self.sides[1 - port].table.get(key)?;
        let new = input.batch.is_present(i);
        let Some(verdict) = verdict(self.kind, port, new, old.is_some(), other.is_some()) else { return Ok(()) };
        let mut rowtime = input.batch.meta.rowtime[i];
        if let Some(other) = other {
            rowtime = rowtime.max(RowCodec::rowtime(self.sides[1 - port].table.row(other))?);
        }
        page.changes.push((port, i));
        page.verdicts.push(verdict);
        page.rowtime.push(rowtime);
        page.bytes += old.map_or(0, RowRef::len) + other.map_or(0, RowRef::len);
        page.old.push(old);
        page.other.push(other);
        Ok(())
    }

    fn emit(
        &mut self,
        ports: &Ports,
        page: Page,
        ctx: &StepContext,
        out: &mut Vec<ChangeBatch>,
    ) -> Result<(), OperatorError> {
        let changes = Picks::new(page.changes.clone());
        let batch = self.joined(ports, &page, &changes)?;
        if !ctx.coalesce && self.held.is_empty() {
            out.push(batch);
            return Ok(());
        }
        let keys = changes.iter().map(|(port, i)| {
            let port = ports.0[port].as_ref().expect("a changed row's port is there");
            port.keys.row(i)
        });
        let last_seq = batch.meta.seq.last().copied().unwrap_or(0);
        self.held.hold(batch, keys, page.verdicts.iter().map(|v| v.before));
        if !ctx.coalesce || self.held.is_full() {
            self.held.drain(ctx.page_rows, last_seq, out).map_err(arrow_error(NAME))?;
        }
        Ok(())
    }

    fn joined(&self, ports: &Ports, page: &Page, changes: &Picks) -> Result<ChangeBatch, OperatorError> {
        let failed = arrow_error(NAME);
        let keys = ports.gather_keys(changes, self.key_count).map_err(&failed)?;
        let mut columns = keys.clone();
        for side in 0..2 {
            columns.extend(self.new_side(side, ports, page, &keys)?);
        }
        let old = match self.emit_old {
            false => None,
            true => {
                let mut columns = keys.clone();
                for side in 0..2 {
                    columns.extend(self.old_side(side, page, &keys)?);
                }
                Some(OldRows { columns, present: bits(page.verdicts.iter().map(|v| v.before)) })
            }
        };
        let meta = ports.gather_meta(changes, page.rowtime.clone()).map_err(&failed)?;
        Ok(ChangeBatch { columns, present: bits(page.verdicts.iter().map(|v| v.now)), old, meta })
    }

    /// The columns of one side in the rows as they are now: from the batch where this side changed, else from its store.
    fn new_side(
        &self,
        side: usize,
        ports: &Ports,
        page: &Page,
        keys: &[ArrayRef],
    ) -> Result<Vec<ArrayRef>, OperatorError> {
        let failed = arrow_error(NAME);
        let batch = ports.0[side].as_ref().map(|port| &port.batch);
        let mut decoder = self.sides[side].rows.decoder(page.changes.len());
        let mut picks = Vec::with_capacity(page.changes.len());
        let mut present = BooleanBufferBuilder::new(page.changes.len());
        for (n, &(port, i)) in page.changes.iter().enumerate() {
            let stored = page.other[n].filter(|_| page.verdicts[n].now && port != side);
            let changed = page.verdicts[n].now && port == side && batch.is_some_and(|b| b.is_present(i));
            present.append(changed || stored.is_some());
            picks.push(if changed { (0, i) } else { (1, decoder.len()) });
            match stored {
                _ if changed => {}
                Some(row) => decoder.push(self.sides[side].table.row(row))?,
                None => decoder.push_absent(),
            }
        }
        let stored = decoder.finish()?.columns;
        let changed = batch.map_or(&[][..], |b| &b.columns[self.key_count..]);
        let mut columns = null_unless(keys, all_or(present.finish()).as_ref()).map_err(&failed)?;
        columns.extend(Picks::new(picks).gather([changed, &stored]).map_err(&failed)?);
        Ok(columns)
    }

    /// The columns of one side in the rows as they were.
    fn old_side(&self, side: usize, page: &Page, keys: &[ArrayRef]) -> Result<Vec<ArrayRef>, OperatorError> {
        let row = |n: usize| {
            let row = if page.changes[n].0 == side { page.old[n] } else { page.other[n] };
            row.filter(|_| page.verdicts[n].before).map(|row| self.sides[side].table.row(row))
        };
        let decoded = self.sides[side].rows.decode((0..page.changes.len()).map(row))?;
        let mut columns = null_unless(keys, decoded.present.as_ref()).map_err(arrow_error(NAME))?;
        columns.extend(decoded.columns);
        Ok(columns)
    }
}

/// These bits; `None` if all are set.
fn bits(bits: impl Iterator<Item = bool>) -> Option<BooleanBuffer> {
    all_or(bits.collect())
}

fn all_or(bits: BooleanBuffer) -> Option<BooleanBuffer> {
    (bits.count_set_bits() < bits.len()).then_some(bits)
}

impl Operator for TableTableJoin {
    fn process(
        &mut self,
        step: Step,
        ctx: &mut StepContext,
        out: &mut Vec<ChangeBatch>,
    ) -> Result<Progress, OperatorError> {
        self.open(step)?;
        self.pages(ctx, out)
    }

    fn resume(&mut self, ctx: &mut StepContext, out: &mut Vec<ChangeBatch>) -> Result<Progress, OperatorError> {
        self.pages(ctx, out)
    }

    fn rest(&self) -> Result<Option<Rest>, OperatorError> {
        Ok(self.pending.as_ref().map(Ports::rest))
    }

    fn reopen(&mut self, rest: Rest, _: &mut StepContext) -> Result<(), OperatorError> {
        self.open(rest.rows)
    }

    fn flush(&mut self, ctx: &mut StepContext, out: &mut Vec<ChangeBatch>) -> Result<Progress, OperatorError> {
        self.held.drain(ctx.page_rows, 0, out).map_err(arrow_error(NAME))?;
        Ok(Progress::Done)
    }

    fn stores(&mut self) -> Vec<&mut dyn Store> {
        let [left, right] = &mut self.sides;
        vec![&mut left.table, &mut right.table]
    }
}

#[cfg(test)]
mod tests;
