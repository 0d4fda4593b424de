//! GROUP BY with tumbling and hopping windows; with EMIT FINAL, one result a window, when it closes.
//!
//! Sessions are `session_aggregate`. Stream time is the greatest row time of all keys, rows dropped for lateness included, and is kept in
//! the store. The subtle thing: windows close row by row (at `end + grace`), whatever the batches; EMIT FINAL loses windows over which
//! stream time jumps beyond their retention, as the reference does, but says so.

use std::collections::VecDeque;

use arrow::array::{ArrayRef, UInt32Array};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::SchemaRef;

use crate::function::FunctionLimits;
use crate::function::aggregate::{Emit, Slot};
use crate::plan::topology::AggregateSpec;
use crate::state::Store;
use crate::topic::TopicError;
use crate::types::{ChangeBatch, OldRows, RowMeta, WindowKind, WindowSpec};

use super::aggregate::Core;
use super::aggregate_input::Pending;
use super::aggregate_output::current;
use super::groups::{OWING, Span};
use super::port::slice;
use super::{LossKind, Operator, OperatorError, Progress, Rest, Step, StepContext};

/// Stream time before the first row.
const NO_TIME: i64 = i64::MIN;

/// GROUP BY with a window in time.
pub struct WindowAggregate {
    core: Core,
    windows: TimeWindows,
    stream_time: Option<i64>,
    pending: Option<Pending>,
    /// the start of the next window of the row at hand, if a page ended within it
    resume_at: Option<i64>,
    finals: Option<Finals>,
}

/// The windows of a WINDOW clause.
struct TimeWindows {
    spec: WindowSpec,
    size_ms: i64,
    advance_ms: i64,
    /// row times of which the first window is the same: `[from, to)`, and its start
    cached: (i64, i64, i64),
}

impl TimeWindows {
    /// Start of the first window that holds `row_time` ≥ 0.
    #[inline]
    fn first_start(&mut self, row_time: i64) -> i64 {
        let (from, to, start) = self.cached;
        if from <= row_time && row_time < to {
            return start;
        }
        let start = self.spec.starts_for(row_time).next().unwrap_or(0);
        let end = start.saturating_add(self.size_ms);
        let from = if start == 0 { 0 } else { end.saturating_sub(self.advance_ms) };
        self.cached = (from, end, start);
        start
    }

    /// How many windows a row has, and the time from one to the next.
    fn hops(&self) -> (usize, i64) {
        (self.size_ms.div_euclid(self.advance_ms).max(1) as usize, self.advance_ms)
    }
}

/// What EMIT FINAL keeps beside the groups.
struct Finals {
    /// windows that start before this have given their results, or are among `due`
    next_start: i64,
    /// groups that are to be given out, with the row that closed their window; about a page of them
    due: VecDeque<(Slot, u32)>,
    /// the row that closed more windows than are noted yet
    closing: Option<Closing>,
    /// start of the window and key of the last result given out
    given: (i64, Vec<u8>),
}

/// A row under which windows close; as many as time has jumped over, so they are noted a page at a time.
#[derive(Clone, Copy)]
struct Closing {
    row: u32,
    /// windows that start before this are lost
    kept_from: i64,
}

impl WindowAggregate {
    /// The aggregate of `spec` over rows of `input`; it must have a tumbling or hopping window.
    ///
    /// # Errors
    /// If the spec is not one that analysis lets pass: a defect of ours.
    pub fn new(spec: &AggregateSpec, limits: &FunctionLimits, input: &SchemaRef) -> Result<Self, OperatorError> {
        let no = |reason: &str| OperatorError::internal("windowed aggregate", reason);
        let window = spec.window.ok_or_else(|| no("the aggregate has no window"))?;
        let (size_ms, advance_ms) = match window.kind {
            WindowKind::Tumbling { size_ms } => (size_ms, size_ms),
            WindowKind::Hopping { size_ms, advance_ms } => (size_ms, advance_ms),
            WindowKind::Session { .. } => return Err(no("sessions are for the session aggregate")),
        };
        if spec.table_input {
            return Err(no("a table cannot be aggregated by windows"));
        }
        let next_start = i64::MIN;
        Ok(Self {
            core: Core::new(spec, limits, input)?,
            windows: TimeWindows { spec: window, size_ms, advance_ms, cached: (0, 0, 0) },
            stream_time: None,
            pending: None,
            resume_at: None,
            finals: spec.emit_final.then(|| Finals {
                next_start,
                due: VecDeque::new(),
                closing: None,
                given: (next_start, Vec::new()),
            }),
        })
    }

    /// Reads what the store knows, before the first row.
    fn begin(&mut self) -> Result<(), OperatorError> {
        if self.stream_time.is_some() {
            return Ok(());
        }
        let time = self.core.store.stream_time()?.unwrap_or(NO_TIME);
        self.stream_time = Some(time);
        let Some(finals) = &mut self.finals else { return Ok(()) };
        self.core.store.load_all()?;
        if time != NO_TIME {
            let closed = time.saturating_sub(self.windows.spec.grace_ms).saturating_sub(self.windows.size_ms);
            finals.next_start = closed.saturating_add(1);
        }
        let groups = &mut self.core.store.groups;
        let owing: Vec<Slot> = groups.live().filter(|&s| groups.head(s).window.start >= finals.next_start).collect();
        owing.into_iter().for_each(|slot| groups.head_mut(slot).flags |= OWING);
        Ok(())
    }

    fn page(&mut self, ctx: &mut StepContext, out: &mut Vec<ChangeBatch>) -> Result<Progress, OperatorError> {
        let Some(mut pending) = self.pending.take() else { return Ok(Progress::Done) };
        if self.give_finals(&pending.batch.meta, ctx, out)? {
            self.pending = Some(pending);
            return Ok(Progress::More);
        }
        let (from, rows) = (pending.next, pending.batch.len());
        let (limit, hops) = (self.core.page_limit(ctx), self.windows.hops());
        // What is due beyond a page is all due by one row, the last: so that it can be told in a word where a page ended.
        while pending.next < rows && self.core.page.emissions.len().max(self.due()) < limit {
            let row = pending.next;
            if pending.is_tick {
                pending.next += usize::from(self.close_all(row, limit, &pending, ctx));
                continue;
            }
            let (windows, times) = (&mut self.windows, &pending.batch.meta.rowtime);
            self.core.warm(&pending, row, hops, |row| windows.first_start(times[row].max(0)));
            if !pending.counts(row) || self.take(&pending, row, limit, ctx)? {
                pending.next += 1;
            }
        }
        // a row that the page ends within counts as one of the page
        let to = pending.next + usize::from(self.resume_at.is_some());
        match &self.finals {
            None => self.core.finish_page(&pending, from, to, ctx, out)?,
            Some(_) => self.core.finish_silently(&pending, from, to)?,
        }
        let owes = self.give_finals(&pending.batch.meta, ctx, out)?;
        self.expire(self.finals.is_some())?;
        if pending.next == rows && !owes {
            return Ok(Progress::Done);
        }
        self.pending = Some(pending);
        Ok(Progress::More)
    }

    /// Takes a row into its windows; false if the page is full before the last one.
    #[inline]
    fn take(
        &mut self,
        pending: &Pending,
        row: usize,
        limit: usize,
        ctx: &mut StepContext,
    ) -> Result<bool, OperatorError> {
        let time = pending.batch.meta.rowtime[row];
        if time < 0 {
            let reason = format!("the row time {time} is before 1970, where no window is");
            ctx.lose(pending.batch.meta.offset[row], LossKind::BadTimestamp, reason);
            return Ok(true);
        }
        let stream_time = self.stream_time.unwrap_or(NO_TIME).max(time);
        if self.stream_time != Some(stream_time) {
            self.stream_time = Some(stream_time);
            self.close(stream_time, row, limit, pending, ctx);
        }
        let (key, hash) = (pending.keys.row(row), pending.hashes[row]);
        let mut start = self.resume_at.take().unwrap_or_else(|| self.windows.first_start(time));
        while start <= time {
            if self.core.page.emissions.len() >= limit {
                self.resume_at = Some(start);
                return Ok(false);
            }
            let end = start.saturating_add(self.windows.size_ms);
            if self.windows.spec.is_closed(end, stream_time) {
                self.lose_late(start, end, stream_time, time, pending.batch.meta.offset[row], ctx);
            } else {
                let slot = self.core.store.slot(hash, key, Span { start, end })?;
                if self.finals.is_some() {
                    self.core.store.groups.head_mut(slot).flags |= OWING;
                }
                self.core.take_row(slot, row, time);
            }
            start += self.windows.advance_ms;
        }
        Ok(true)
    }

    /// How many final results are to be given out, as far as they are noted.
    pub(super) fn due(&self) -> usize {
        self.finals.as_ref().map_or(0, |finals| finals.due.len())
    }

    /// Closes windows, one after the other, so that none is passed over; false if `limit` results are due before the last one.
    fn close_all(&mut self, row: usize, limit: usize, pending: &Pending, ctx: &mut StepContext) -> bool {
        while let Some(end) = self.next_end() {
            let time = self.windows.spec.closes_at(end).max(self.stream_time.unwrap_or(NO_TIME));
            if !self.windows.spec.is_closed(end, time) {
                // its grace is longer than time is
                break;
            }
            if self.due() >= limit {
                return false;
            }
            self.stream_time = Some(time);
            self.close(time, row, limit, pending, ctx);
        }
        true
    }

    /// End of the first window that has not given its results.
    fn next_end(&self) -> Option<i64> {
        let start = self.core.store.groups.next_start(self.finals.as_ref()?.next_start)?;
        Some(start.saturating_add(self.windows.size_ms))
    }

    #[cold]
    fn lose_late(&self, start: i64, end: i64, stream_time: i64, time: i64, offset: i64, ctx: &mut StepContext) {
        let grace = self.windows.spec.grace_ms;
        let reason = format!(
            "the row of {time} came too late for the window from {start} to {end}: \
             stream time is {stream_time}, the grace period {grace} ms"
        );
        ctx.lose(offset, LossKind::Late, reason);
    }

    /// Windows close, since stream time reaches `stream_time` with this row: notes the results that fall due, but for those beyond `limit`.
    fn close(&mut self, stream_time: i64, row: usize, limit: usize, pending: &Pending, ctx: &mut StepContext) {
        let Some(finals) = &mut self.finals else { return };
        let kept_from = stream_time.saturating_sub(self.windows.spec.retention_ms);
        finals.closing = Some(Closing { row: row as u32, kept_from });
        self.note_due(limit, &pending.batch.meta, ctx);
    }

    /// Notes results of the windows that the closing row closed, one window after the other, until `limit` of them are due.
    fn note_due(&mut self, limit: usize, meta: &RowMeta, ctx: &mut StepContext) {
        let (spec, size_ms) = (&self.windows.spec, self.windows.size_ms);
        let (Some(finals), Some(stream_time)) = (&mut self.finals, self.stream_time) else { return };
        let groups = &mut self.core.store.groups;
        while let Some(Closing { row, kept_from }) = finals.closing.filter(|_| finals.due.len() < limit) {
            let next = groups.next_start(finals.next_start);
            let Some(start) = next.filter(|start| spec.is_closed(start.saturating_add(size_ms), stream_time)) else {
                finals.closing = None;
                return;
            };
            finals.next_start = start + 1;
            let slots = groups.starting_at(start);
            if start >= kept_from {
                self.core.store.owing += slots.len();
                finals.due.extend(slots.into_iter().map(|slot| (slot, row)));
                continue;
            }
            slots.iter().for_each(|&slot| groups.head_mut(slot).flags &= !OWING);
            let (end, retention_ms) = (start.saturating_add(size_ms), spec.retention_ms);
            let reason = format!(
                "the results of {} groups in the window from {start} to {end} are lost: stream time jumped to {stream_time}, \
                 beyond the retention of {retention_ms} ms",
                slots.len(),
            );
            ctx.lose(meta.offset[row as usize], LossKind::Late, reason);
        }
    }

    /// Gives out a page of final results, caused by rows of `meta`; true if there are more, of which some are noted then.
    fn give_finals(
        &mut self,
        meta: &RowMeta,
        ctx: &mut StepContext,
        out: &mut Vec<ChangeBatch>,
    ) -> Result<bool, OperatorError> {
        let Some(finals) = &mut self.finals else { return Ok(false) };
        let count = finals.due.len().min(ctx.page_rows.max(1));
        let page: Vec<(Slot, u32)> = finals.due.drain(..count).collect();
        let Some(&(last, _)) = page.last() else { return Ok(false) };
        let groups = &self.core.store.groups;
        finals.given = (groups.head(last).window.start, groups.key(last).to_vec());
        out.push(self.core.final_rows(&page, meta)?);
        self.note_due(self.core.page_limit(ctx), meta, ctx);
        Ok(self.due() > 0)
    }

    /// Takes up the final results that the first row of the rest made due, from the one after `given` on.
    fn reopen_finals(&mut self, given: (i64, Vec<u8>), ctx: &mut StepContext) {
        let Some(finals) = &mut self.finals else { return };
        let groups = &mut self.core.store.groups;
        let mut from = given.0;
        while let Some(start) = groups.next_start(from).filter(|&start| start < finals.next_start) {
            for slot in groups.starting_at(start) {
                if (start, groups.key(slot)) > (given.0, given.1.as_slice()) {
                    groups.head_mut(slot).flags |= OWING;
                    if start == given.0 {
                        finals.due.push_back((slot, 0));
                    }
                }
            }
            from = start + 1;
        }
        self.core.store.owing += finals.due.len();
        finals.next_start = given.0.saturating_add(1);
        finals.given = given;
        // what was lost has been told
        finals.closing = Some(Closing { row: 0, kept_from: i64::MIN });
        if let Some(meta) = self.pending.as_ref().map(|pending| pending.batch.meta.clone()) {
            self.note_due(self.core.page_limit(ctx), &meta, ctx);
        }
    }

    fn expire(&mut self, flushed: bool) -> Result<(), OperatorError> {
        let Some(time) = self.stream_time.filter(|time| *time != NO_TIME) else { return Ok(()) };
        self.core.store.set_stream_time(time);
        let before = time.saturating_sub(self.windows.spec.retention_ms);
        Ok(self.core.store.expire_windows(before, flushed)?)
    }
}

/// How far a windowed aggregate is within the first row of its rest.
pub(super) struct Within {
    /// the row itself is through, only results that it made due are not
    pub taken: bool,
    /// it is of no record and closes windows
    pub is_tick: bool,
    /// start of the row's next window
    pub resume_at: Option<i64>,
    /// start of the window and key of the last result given out, if others are due
    pub given: Option<(i64, Vec<u8>)>,
}

impl Within {
    /// Flags, two numbers, a key.
    pub fn encode(&self) -> Vec<u8> {
        let (start, key) = self.given.as_ref().map_or((0, &[][..]), |(start, key)| (*start, key));
        let flag = |bit: bool, at: u8| u8::from(bit) << at;
        let flags = flag(self.taken, 0)
            | flag(self.resume_at.is_some(), 1)
            | flag(self.given.is_some(), 2)
            | flag(self.is_tick, 3);
        let mut bytes = vec![flags];
        bytes.extend_from_slice(&self.resume_at.unwrap_or(0).to_le_bytes());
        bytes.extend_from_slice(&start.to_le_bytes());
        bytes.extend_from_slice(key);
        bytes
    }

    /// What [`Self::encode`] made.
    ///
    /// # Errors
    /// If it did not.
    pub fn decode(bytes: &[u8]) -> Result<Self, OperatorError> {
        let damaged = || TopicError::Corrupt("the cursor of a windowed aggregate is cut short".into());
        let (head, key) = bytes.split_at_checked(17).ok_or_else(damaged)?;
        let number = |at: usize| head[at..at + 8].try_into().map(i64::from_le_bytes).map_err(|_| damaged());
        let (resume_at, start) = (number(1)?, number(9)?);
        Ok(Self {
            taken: head[0] & 1 != 0,
            is_tick: head[0] & 8 != 0,
            resume_at: (head[0] & 2 != 0).then_some(resume_at),
            given: (head[0] & 4 != 0).then(|| (start, key.to_vec())),
        })
    }
}

impl Core {
    /// Runs the accumulators over the page, made of rows `from .. to` of `pending`, and gives nothing out.
    ///
    /// # Errors
    /// If a function fails, or the store behind cannot be read.
    pub fn finish_silently(&mut self, pending: &Pending, from: usize, to: usize) -> Result<(), OperatorError> {
        self.store.load()?;
        if self.page.updates.is_empty() {
            return Ok(());
        }
        let mut page = std::mem::take(&mut self.page);
        page.updates.iter_mut().for_each(|update| update.row -= from as u32);
        self.update(&page.updates, pending, from, to, Emit::None)?;
        page.clear();
        self.page = page;
        Ok(())
    }

    /// Final results of these groups, each with the input row that closed its window; they owe nothing afterwards.
    ///
    /// # Errors
    /// A defect of ours.
    pub fn final_rows(&mut self, page: &[(Slot, u32)], meta: &RowMeta) -> Result<ChangeBatch, OperatorError> {
        let slots: Vec<Slot> = page.iter().map(|(slot, _)| *slot).collect();
        let rows: UInt32Array = page.iter().map(|(_, row)| *row).collect();
        let mut batch = current(&slots, &self.store, self.layout.keys(), true)?;
        let caused = meta.take(rows.values()).map_err(|e| OperatorError::internal("aggregate", e))?;
        batch.meta = RowMeta { rowtime: batch.meta.rowtime, window: batch.meta.window, ..caused };
        if self.emit_old {
            let none: Vec<ArrayRef> = batch.columns.clone();
            batch.old = Some(OldRows { columns: none, present: Some(BooleanBuffer::new_unset(slots.len())) });
        }
        slots.iter().for_each(|&slot| self.store.groups.head_mut(slot).flags &= !OWING);
        self.store.owing -= slots.len();
        Ok(batch)
    }
}

impl Operator for WindowAggregate {
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
        let owed = self.finals.as_ref().and_then(|finals| Some((finals.due.front()?.1 as usize, &finals.given)));
        let first = owed.map_or(pending.next, |(row, _)| row);
        let within = Within {
            taken: first < pending.next,
            is_tick: pending.is_tick,
            resume_at: self.resume_at,
            given: owed.map(|(_, given)| given.clone()),
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
        self.resume_at = within.resume_at;
        if let Some(given) = within.given {
            self.reopen_finals(given, ctx);
        }
        Ok(())
    }

    fn waits_for_time(&mut self) -> Result<bool, OperatorError> {
        self.begin()?;
        Ok(self.next_end().is_some())
    }

    fn close_windows(&mut self, ctx: &mut StepContext, out: &mut Vec<ChangeBatch>) -> Result<Progress, OperatorError> {
        if !self.waits_for_time()? {
            return Ok(Progress::Done);
        }
        self.pending = self.core.open_tick(self.stream_time.unwrap_or(0), ctx)?;
        self.page(ctx, out)
    }

    fn flush(&mut self, ctx: &mut StepContext, out: &mut Vec<ChangeBatch>) -> Result<Progress, OperatorError> {
        let progress = self.core.flush(ctx, out)?;
        self.expire(progress == Progress::Done)?;
        Ok(progress)
    }

    fn stores(&mut self) -> Vec<&mut dyn Store> {
        vec![&mut self.core.store]
    }
}
