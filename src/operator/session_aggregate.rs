//! GROUP BY with sessions: rows of a key at most a gap apart share a window, which grows and merges with others.
//!
//! A row that changes a session's bounds, or falls into one, takes the old session away (a tombstone) and gives out the new one; with
//! EMIT FINAL a session gives one result when it closes. The subtle thing: a session is late by what it would become *with* the row, so a
//! row far behind stream time still joins a session that is open.

use std::collections::VecDeque;

use arrow::array::{ArrayRef, UInt32Array};
use arrow::buffer::BooleanBuffer;
use arrow::compute::{concat, take};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;

use crate::function::FunctionLimits;
use crate::function::aggregate::{Emit, Slot, Update};
use crate::plan::topology::AggregateSpec;
use crate::state::Store;
use crate::types::{ChangeBatch, OldRows, RowMeta, WindowBounds, WindowKind};

use super::aggregate::{Core, ONE_GROUP};
use super::aggregate_input::Pending;
use super::aggregate_output::{assemble, existed, values};
use super::coalesce::Coalescer;
use super::groups::{GroupTable, OWING, Span};
use super::port::slice;
use super::window_aggregate::Within;
use super::{LossKind, Operator, OperatorError, Progress, Rest, Step, StepContext};

/// Stream time before the first row.
const NO_TIME: i64 = i64::MIN;

/// GROUP BY with a session window.
pub struct SessionAggregate {
    core: Core,
    gap_ms: i64,
    grace_ms: i64,
    retention_ms: i64,
    emit_final: bool,
    stream_time: Option<i64>,
    pending: Option<Pending>,
    page: Page,
    coalescer: Coalescer,
    /// sessions that closed, with the row that closed them; the first ones may be of a page that is through
    due: VecDeque<(Slot, u32)>,
    /// start and key of the last final result given out
    given: (i64, Vec<u8>),
    /// sessions that end before this were closed by earlier rows than the last one that closed any
    closed_before: i64,
    found: Vec<Slot>,
}

/// Output rows of a page, and updates that the accumulators have not seen.
#[derive(Default)]
struct Page {
    updates: Vec<Update>,
    /// accumulators have given so many values
    values: u32,
    rows: Vec<Row>,
    /// old values of sessions, one row each
    old: Vec<Vec<ArrayRef>>,
}

/// An output row: a session, or the tombstone of one.
struct Row {
    input: u32,
    window: Span,
    rowtime: i64,
    /// which value of the accumulators; `None`: a tombstone
    value: Option<u32>,
    /// which of the old values
    old: Option<u32>,
    existed: bool,
}

impl SessionAggregate {
    /// The aggregate of `spec` over rows of `input`; it must have a session window.
    ///
    /// # Errors
    /// If the spec is not one that analysis lets pass: a defect of ours.
    pub fn new(spec: &AggregateSpec, limits: &FunctionLimits, input: &SchemaRef) -> Result<Self, OperatorError> {
        let no = |reason: &str| OperatorError::internal("session aggregate", reason);
        let window = spec.window.ok_or_else(|| no("the aggregate has no window"))?;
        let WindowKind::Session { gap_ms } = window.kind else { return Err(no("its window is no session")) };
        if spec.table_input {
            return Err(no("a table cannot be aggregated by windows"));
        }
        Ok(Self {
            core: Core::new(spec, limits, input)?,
            gap_ms,
            grace_ms: window.grace_ms,
            retention_ms: window.retention_ms,
            emit_final: spec.emit_final,
            stream_time: None,
            pending: None,
            page: Page::default(),
            coalescer: Coalescer::default(),
            due: VecDeque::new(),
            given: (NO_TIME, Vec::new()),
            closed_before: NO_TIME,
            found: Vec::new(),
        })
    }

    fn begin(&mut self) -> Result<(), OperatorError> {
        if self.stream_time.is_some() {
            return Ok(());
        }
        let time = self.core.store.stream_time()?.unwrap_or(NO_TIME);
        self.stream_time = Some(time);
        if self.emit_final {
            self.core.store.load_all()?;
            let (close, kept_after) = (self.close_time(), self.kept_after_ms());
            let groups = &mut self.core.store.groups;
            for slot in groups.live().collect::<Vec<_>>() {
                let end = groups.head(slot).window.end;
                if end >= close {
                    groups.head_mut(slot).flags |= OWING;
                } else {
                    groups.put_in_order(slot, end.saturating_add(kept_after));
                }
            }
        }
        Ok(())
    }

    /// Sessions that end before this are closed.
    fn close_time(&self) -> i64 {
        self.stream_time.unwrap_or(NO_TIME).saturating_sub(self.grace_ms).saturating_sub(self.gap_ms)
    }

    /// Sessions that end before this have expired.
    fn kept_from(&self) -> i64 {
        self.stream_time.unwrap_or(NO_TIME).saturating_sub(self.retention_ms)
    }

    /// The latest end of a session that has not given its result.
    fn last_owing(&self) -> Option<i64> {
        let groups = &self.core.store.groups;
        groups.live().map(|slot| groups.head(slot)).filter(|head| head.is(OWING)).map(|head| head.window.end).max()
    }

    /// How long a session is kept after it closed.
    fn kept_after_ms(&self) -> i64 {
        self.retention_ms.saturating_sub(self.grace_ms).saturating_sub(self.gap_ms).max(0)
    }

    fn page(&mut self, ctx: &mut StepContext, out: &mut Vec<ChangeBatch>) -> Result<Progress, OperatorError> {
        let Some(mut pending) = self.pending.take() else { return Ok(Progress::Done) };
        if self.give_due(&pending.batch.meta, ctx, out)? {
            self.pending = Some(pending);
            return Ok(Progress::More);
        }
        let (from, rows) = (pending.next, pending.batch.len());
        let limit = self.core.page_limit(ctx);
        // Without output rows, updates are what bounds a page. What is due beyond a page is all due by one row, the last.
        while pending.next < rows && self.page.rows.len().max(self.page.updates.len()).max(self.due.len()) < limit {
            let row = pending.next;
            if pending.is_tick {
                self.advance(pending.batch.meta.rowtime[row], row);
                pending.next += 1;
                continue;
            }
            self.core.warm(&pending, row, ONE_GROUP, |_| 0);
            if pending.counts(row) && !self.take(&pending, row, from, ctx)? {
                break;
            }
            pending.next += 1;
        }
        let to = pending.next;
        self.run_updates(&pending, from, to)?;
        if !self.emit_final {
            self.give_rows(&pending, ctx, out)?;
        }
        self.page = Page::default();
        self.core.store.owing += self.due.len();
        let owes = self.give_due(&pending.batch.meta, ctx, out)?;
        self.expire()?;
        if to == rows && !owes {
            return Ok(Progress::Done);
        }
        self.pending = Some(pending);
        Ok(Progress::More)
    }

    /// Takes a row into its session; false if the page must end before it.
    fn take(
        &mut self,
        pending: &Pending,
        row: usize,
        from: usize,
        ctx: &mut StepContext,
    ) -> Result<bool, OperatorError> {
        let time = pending.batch.meta.rowtime[row];
        let (key, hash) = (pending.keys.row(row), pending.hashes[row]);
        let mut found = std::mem::take(&mut self.found);
        // what expired by an earlier row is taken away later only, but is gone for this row
        let near = (time.saturating_sub(self.gap_ms).max(self.kept_from()), time.saturating_add(self.gap_ms));
        self.core.store.sessions(hash, key, near, &mut found)?;
        self.keep_closed(hash, key);
        let takes = self.merge_into(pending, row, (hash, key), &found, from, ctx)?;
        self.found = found;
        Ok(takes)
    }

    /// EMIT FINAL: sessions that gave their result stay until their retention is over, also those just read from the store behind.
    fn keep_closed(&mut self, hash: u64, key: &[u8]) {
        if !self.emit_final {
            return;
        }
        let kept_after = self.kept_after_ms();
        let groups = &mut self.core.store.groups;
        for slot in groups.sessions(hash, key).collect::<Vec<_>>() {
            let mark = groups.head(slot).window.end.saturating_add(kept_after);
            if !groups.head(slot).is(OWING) && groups.mark(slot) < mark {
                groups.put_in_order(slot, mark);
            }
        }
    }

    fn merge_into(
        &mut self,
        pending: &Pending,
        row: usize,
        (hash, key): (u64, &[u8]),
        found: &[Slot],
        from: usize,
        ctx: &mut StepContext,
    ) -> Result<bool, OperatorError> {
        let time = pending.batch.meta.rowtime[row];
        if !self.due.is_empty() && self.due.iter().any(|(slot, _)| found.contains(slot)) {
            return Ok(false);
        }
        self.advance(time, row);
        let mut window = Span { start: time, end: time };
        for &slot in found {
            let session = self.core.store.groups.head(slot).window;
            window = Span { start: window.start.min(session.start), end: window.end.max(session.end) };
        }
        if window.end < self.close_time() {
            self.lose_late(window, time, pending.batch.meta.offset[row], ctx);
            return Ok(true);
        }
        if self.due.iter().any(|(slot, _)| found.contains(slot)) {
            // this very row closed what it merges with: the result without it goes first
            return Ok(false);
        }
        let single = window.start == window.end;
        if !single {
            self.tombstones(pending, row, found, from)?;
        }
        let slot = match found {
            [] => self.core.store.insert_session(hash, key, window),
            [into, later @ ..] => {
                if !later.is_empty() {
                    self.run_updates(pending, from, row)?;
                    self.merge(*into, later)?;
                }
                *into
            }
        };
        let old = if single { self.old_values(pending, row, slot, from)? } else { None };
        self.core.store.rename(slot, window);
        self.put(slot, window, row, from, old, single && !found.is_empty());
        Ok(true)
    }

    /// Notes the row's update and output row.
    fn put(&mut self, slot: Slot, window: Span, row: usize, from: usize, old: Option<u32>, existed: bool) {
        self.core.store.touch(slot);
        let groups = &mut self.core.store.groups;
        groups.head_mut(slot).rowtime = window.end;
        if self.emit_final && !groups.head(slot).is(OWING) {
            groups.head_mut(slot).flags |= OWING;
            groups.put_in_order(slot, window.end);
        }
        let value = self.page.values + self.page.updates.len() as u32;
        self.page.updates.push(Update { slot, row: (row - from) as u32, undo: false });
        if !self.emit_final {
            let (input, rowtime) = (row as u32, window.end);
            self.page.rows.push(Row { input, window, rowtime, value: Some(value), old, existed });
        }
    }

    /// Moves stream time on; notes sessions that close.
    fn advance(&mut self, time: i64, row: usize) {
        if self.stream_time.is_some_and(|known| known >= time) {
            return;
        }
        let closed_before = self.close_time();
        self.stream_time = Some(time);
        if !self.emit_final {
            return;
        }
        let close = self.close_time();
        let groups = &mut self.core.store.groups;
        let (mut closing, others): (Vec<Slot>, Vec<Slot>) =
            groups.take_before(close).into_iter().partition(|&slot| groups.head(slot).is(OWING));
        // expired ones go at the end of the page
        others.into_iter().for_each(|slot| groups.put_in_order(slot, groups.mark(slot)));
        closing.retain(|&slot| !self.due.iter().any(|(due, _)| *due == slot));
        if !closing.is_empty() {
            self.closed_before = closed_before;
        }
        in_order(groups, &mut closing);
        self.due.extend(closing.iter().map(|&slot| (slot, row as u32)));
    }

    #[cold]
    fn lose_late(&self, window: Span, time: i64, offset: i64, ctx: &mut StepContext) {
        let reason = format!(
            "the row of {time} came too late for the session from {} to {}: stream time is {}, the grace period {} ms",
            window.start,
            window.end,
            self.stream_time.unwrap_or(NO_TIME),
            self.grace_ms
        );
        ctx.lose(offset, LossKind::Late, reason);
    }

    /// Tombstones of sessions that the row takes up.
    fn tombstones(&mut self, pending: &Pending, row: usize, found: &[Slot], from: usize) -> Result<(), OperatorError> {
        if self.emit_final {
            return Ok(());
        }
        for &slot in found {
            let old = self.old_values(pending, row, slot, from)?;
            let window = self.core.store.groups.head(slot).window;
            self.page.rows.push(Row {
                input: row as u32,
                window,
                rowtime: window.end,
                value: None,
                old,
                existed: true,
            });
        }
        Ok(())
    }

    /// The values of a session before the row, if they are wanted and there are any.
    fn old_values(
        &mut self,
        pending: &Pending,
        row: usize,
        slot: Slot,
        from: usize,
    ) -> Result<Option<u32>, OperatorError> {
        if !self.core.emit_old || self.emit_final || !existed(&self.core.store, slot) {
            return Ok(None);
        }
        self.run_updates(pending, from, row)?;
        self.page.old.push(values(&self.core.store.accumulators, &[slot]));
        Ok(Some(self.page.old.len() as u32 - 1))
    }

    /// Merges later sessions into the first one, oldest first.
    fn merge(&mut self, into: Slot, later: &[Slot]) -> Result<(), OperatorError> {
        for &slot in later {
            for accumulator in &mut self.core.store.accumulators {
                accumulator.merge(into, slot).map_err(OperatorError::Function)?;
            }
            self.core.store.delete(slot);
        }
        Ok(())
    }

    /// Lets the accumulators see the updates noted so far, of rows `from .. to`.
    fn run_updates(&mut self, pending: &Pending, from: usize, to: usize) -> Result<(), OperatorError> {
        self.core.store.load()?;
        let updates = std::mem::take(&mut self.page.updates);
        if updates.is_empty() {
            return Ok(());
        }
        let emit = if self.emit_final { Emit::None } else { Emit::All };
        self.page.values += updates.len() as u32;
        self.core.update(&updates, pending, from, to, emit)
    }

    /// Gives the rows of the page out, or holds them back.
    fn give_rows(
        &mut self,
        pending: &Pending,
        ctx: &mut StepContext,
        out: &mut Vec<ChangeBatch>,
    ) -> Result<(), OperatorError> {
        let new: Vec<_> = self.core.store.accumulators.iter_mut().map(|a| a.take_values()).collect();
        if self.page.rows.is_empty() {
            return Ok(());
        }
        let batch = self.rows(&pending.batch, &new).map_err(|e| OperatorError::internal("session aggregate", e))?;
        if !ctx.coalesce {
            out.push(batch);
            return Ok(());
        }
        let keys = &batch.columns[..self.core.key_count];
        let keys = self.core.layout.keys().encode_windowed(keys, batch.len(), batch.meta.window.as_ref())?;
        self.coalescer.hold(batch, keys.iter(), self.page.rows.iter().map(|row| row.existed));
        if self.coalescer.is_full() {
            return self.release(ctx, out);
        }
        Ok(())
    }

    fn rows(&self, batch: &ChangeBatch, new: &[ArrayRef]) -> Result<ChangeBatch, ArrowError> {
        let rows = &self.page.rows;
        let inputs: UInt32Array = rows.iter().map(|row| row.input).collect();
        let window = WindowBounds {
            start: rows.iter().map(|row| row.window.start).collect(),
            end: rows.iter().map(|row| row.window.end).collect(),
        };
        let pick = |columns: &[ArrayRef], by: &UInt32Array| {
            columns.iter().map(|column| take(column, by, None)).collect::<Result<Vec<_>, _>>()
        };
        let keys = pick(&batch.columns[..self.core.key_count], &inputs)?;
        let at: UInt32Array = rows.iter().map(|row| row.value).collect();
        let columns = assemble(keys.clone(), pick(new, &at)?, Some(&window));
        let present = BooleanBuffer::collect_bool(rows.len(), |i| rows[i].value.is_some());
        let old = match self.core.emit_old {
            true => {
                let at: UInt32Array = rows.iter().map(|row| row.old).collect();
                let old = assemble(keys, pick(&self.old_columns(new)?, &at)?, Some(&window));
                let present = BooleanBuffer::collect_bool(rows.len(), |i| rows[i].old.is_some());
                Some(OldRows { columns: old, present: Some(present) })
            }
            false => None,
        };
        let caused = batch.meta.take(inputs.values())?;
        let rowtime = rows.iter().map(|row| row.rowtime).collect();
        let all = present.count_set_bits() == rows.len();
        let meta = RowMeta { rowtime, window: Some(window), ..caused };
        Ok(ChangeBatch { columns, present: (!all).then_some(present), old, meta })
    }

    /// The old values of the page as columns.
    fn old_columns(&self, new: &[ArrayRef]) -> Result<Vec<ArrayRef>, ArrowError> {
        let column = |i: usize| {
            let parts: Vec<_> = self.page.old.iter().map(|row| row[i].as_ref()).collect();
            if parts.is_empty() { Ok(new[i].slice(0, 0)) } else { concat(&parts) }
        };
        (0..new.len()).map(column).collect()
    }

    /// Takes up the final results that the first row of the rest made due, from the one after `given` on.
    fn reopen_due(&mut self, given: (i64, Vec<u8>), closed_before: i64) {
        let close = self.close_time();
        let groups = &mut self.core.store.groups;
        let is_due = |&slot: &Slot| {
            let window = groups.head(slot).window;
            let after = (window.start, groups.key(slot)) > (given.0, given.1.as_slice());
            closed_before <= window.end && window.end < close && after
        };
        let mut due: Vec<Slot> = groups.live().filter(is_due).collect();
        in_order(groups, &mut due);
        due.iter().for_each(|&slot| groups.head_mut(slot).flags |= OWING);
        self.core.store.owing += due.len();
        self.due = due.into_iter().map(|slot| (slot, 0)).collect();
        (self.given, self.closed_before) = (given, closed_before);
    }

    /// Gives out a page of final results, caused by rows of `meta`; true if there are more.
    fn give_due(
        &mut self,
        meta: &RowMeta,
        ctx: &StepContext,
        out: &mut Vec<ChangeBatch>,
    ) -> Result<bool, OperatorError> {
        let count = self.due.len().min(ctx.page_rows.max(1));
        let page: Vec<(Slot, u32)> = self.due.drain(..count).collect();
        let Some(&(last, _)) = page.last() else { return Ok(false) };
        out.push(self.core.final_rows(&page, meta)?);
        let groups = &self.core.store.groups;
        self.given = (groups.head(last).window.start, groups.key(last).to_vec());
        let kept_after = self.kept_after_ms();
        for (slot, _) in page {
            let end = self.core.store.groups.head(slot).window.end;
            self.core.store.groups.put_in_order(slot, end.saturating_add(kept_after));
        }
        Ok(!self.due.is_empty())
    }

    fn expire(&mut self) -> Result<(), OperatorError> {
        let Some(time) = self.stream_time.filter(|time| *time != NO_TIME) else { return Ok(()) };
        self.core.store.set_stream_time(time);
        let before = self.kept_from();
        let mark = if self.emit_final { self.close_time() } else { before };
        Ok(self.core.store.expire_sessions(mark, before)?)
    }

    fn release(&mut self, ctx: &StepContext, out: &mut Vec<ChangeBatch>) -> Result<(), OperatorError> {
        self.coalescer.drain(ctx.page_rows, 0, out).map_err(|e| OperatorError::internal("session aggregate", e))
    }
}

/// Sorts sessions as their final results are given out: by start, then by key.
fn in_order(groups: &GroupTable, slots: &mut [Slot]) {
    slots.sort_by(|&a, &b| {
        let start = |slot| groups.head(slot).window.start;
        start(a).cmp(&start(b)).then_with(|| groups.key(a).cmp(groups.key(b)))
    });
}

impl Operator for SessionAggregate {
    fn process(
        &mut self,
        step: Step,
        ctx: &mut StepContext,
        out: &mut Vec<ChangeBatch>,
    ) -> Result<Progress, OperatorError> {
        self.begin()?;
        self.pending = self.core.open(step, ctx)?;
        self.page(ctx, out)
    }

    fn resume(&mut self, ctx: &mut StepContext, out: &mut Vec<ChangeBatch>) -> Result<Progress, OperatorError> {
        self.page(ctx, out)
    }

    fn rest(&self) -> Result<Option<Rest>, OperatorError> {
        let Some(pending) = &self.pending else { return Ok(None) };
        let owed = self.due.front().map(|(_, row)| *row as usize);
        let first = owed.unwrap_or(pending.next);
        let within = Within {
            taken: first < pending.next,
            is_tick: pending.is_tick,
            resume_at: owed.map(|_| self.closed_before),
            given: owed.map(|_| self.given.clone()),
        };
        let rows = slice(&pending.batch, first, pending.batch.len() - first);
        Ok(Some(Rest { rows: vec![Some(rows)], within: within.encode() }))
    }

    fn reopen(&mut self, rest: Rest, ctx: &mut StepContext) -> Result<(), OperatorError> {
        self.begin()?;
        let within = Within::decode(&rest.within)?;
        self.pending = self.core.reopen(rest.rows, ctx)?;
        if let Some(pending) = &mut self.pending {
            (pending.next, pending.is_tick) = (usize::from(within.taken), within.is_tick);
        }
        if let (Some(given), Some(closed_before)) = (within.given, within.resume_at) {
            self.reopen_due(given, closed_before);
        }
        Ok(())
    }

    fn waits_for_time(&mut self) -> Result<bool, OperatorError> {
        self.begin()?;
        Ok(self.emit_final && self.last_owing().is_some())
    }

    fn close_windows(&mut self, ctx: &mut StepContext, out: &mut Vec<ChangeBatch>) -> Result<Progress, OperatorError> {
        self.begin()?;
        let Some(end) = self.last_owing().filter(|_| self.emit_final) else { return Ok(Progress::Done) };
        let after = self.grace_ms.checked_add(self.gap_ms).and_then(|ms| ms.checked_add(1));
        let Some(time) = after.and_then(|ms| end.checked_add(ms)) else {
            // its grace is longer than time is
            return Ok(Progress::Done);
        };
        self.pending = self.core.open_tick(time, ctx)?;
        self.page(ctx, out)
    }

    fn flush(&mut self, ctx: &mut StepContext, out: &mut Vec<ChangeBatch>) -> Result<Progress, OperatorError> {
        self.release(ctx, out)?;
        Ok(Progress::Done)
    }

    fn stores(&mut self) -> Vec<&mut dyn Store> {
        vec![&mut self.core.store]
    }
}
