//! Stream ⋈ stream: rows of one key meet that are at most so far apart in time.
//!
//! Each row is matched with what the other side has kept, oldest first, and is then kept itself until its side's time has passed it by
//! window and grace. Without GRACE PERIOD a row without partner is emitted at once (and again with a partner that comes later); with it the
//! row is held until its window closes (`semantics.md` §5). The subtle thing: which rows a side keeps follows from that side's times
//! alone, so a step's rows enter memory in whole columns before the first of them is matched, and matches only note places.

mod chunk;
mod index;
mod output;
mod rows;
mod store;

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, UInt32Array};
use arrow::buffer::BooleanBuffer;
use arrow::compute::take;

use crate::plan::topology::{JoinKind, StreamJoinSpec};
use crate::state::Store;
use crate::state::encoding::{KeyCodec, null_keys};
use crate::types::ChangeBatch;

use self::index::RowId;
use self::output::Page;
use self::rows::{JoinRows, NO_TIME};
use super::port::{arrow_error, key_names, slice, split_types};
use super::tick::tick;
use super::{LossKind, Operator, OperatorError, Progress, Rest, Step, StepContext};

const NAME: &str = "stream-stream join";
const LEFT: usize = 0;

/// [`crate::plan::topology::OperatorSpec::StreamStreamJoin`]: port 0 the left stream, port 1 the right one.
pub struct StreamStreamJoin {
    key_count: usize,
    key_names: [String; 2],
    /// which sides' rows survive without a partner
    outer: [bool; 2],
    /// rows without partner are held until their window closes
    holds: bool,
    /// how much older and how much newer than a row of that side its partner may be
    reach: [(i64, i64); 2],
    grace_ms: i64,
    rows: JoinRows,
    pending: Option<Pending>,
    pages: u64,
}

/// A step that is being handled.
struct Pending {
    inputs: [Option<Input>; 2],
    /// where the row that is being handled stands
    at: At,
}

/// How far the next row is handled.
#[derive(Clone, Copy)]
enum At {
    /// not at all
    Start,
    /// stream time is moved on; rows whose window closed by it may still be owed. True: some were given
    Closing(bool),
    /// it met so many partners
    Matching(usize),
    /// it is of no record, and closes all windows
    Tick,
}

/// The rows of one port.
pub(super) struct Input {
    batch: ChangeBatch,
    /// the columns, then window bounds, then the row time: what is kept
    columns: Vec<ArrayRef>,
    no_key: Option<BooleanBuffer>,
    slots: Vec<u32>,
    /// where each row is kept; `None`: nowhere
    ids: Vec<Option<RowId>>,
    next: usize,
}

impl StreamStreamJoin {
    /// The join of `spec`.
    ///
    /// # Errors
    /// If the keys differ in type, or a column has a type that no store holds.
    pub fn new(spec: &StreamJoinSpec) -> Result<Self, OperatorError> {
        let (left_keys, _) = split_types(&spec.left, spec.key_count);
        let (right_keys, _) = split_types(&spec.right, spec.key_count);
        if left_keys != right_keys {
            return Err(OperatorError::internal(NAME, format!("keys {left_keys:?} and {right_keys:?} differ")));
        }
        let outer = match spec.kind {
            JoinKind::Inner => [false, false],
            JoinKind::Left => [true, false],
            JoinKind::Right => [false, true],
            JoinKind::Full => [true, true],
        };
        let within = spec.within;
        let types = [&spec.left, &spec.right].map(|s| split_types(s, s.fields().len()).0);
        let keys = KeyCodec::new(&left_keys)?;
        let [left, right] = &types;
        Ok(Self {
            key_count: spec.key_count,
            key_names: [&spec.left, &spec.right].map(|schema| key_names(schema, spec.key_count)),
            outer,
            holds: within.holds_back,
            reach: [(within.before_ms, within.after_ms), (within.after_ms, within.before_ms)],
            grace_ms: within.grace_ms,
            rows: JoinRows::new(spec, keys, [left, right]),
            pending: None,
            pages: 0,
        })
    }

    fn begin(&mut self, step: Step, at: At) -> Result<(), OperatorError> {
        self.rows.begin()?;
        let mut step = step.into_iter();
        let left = self.open(LEFT, step.next().flatten())?;
        let right = self.open(1, step.next().flatten())?;
        self.pending = Some(Pending { inputs: [left, right], at });
        Ok(())
    }

    /// Opens a port: finds the slots of its rows, and keeps those that will be kept.
    fn open(&mut self, side: usize, batch: Option<ChangeBatch>) -> Result<Option<Input>, OperatorError> {
        let Some(batch) = batch.filter(|b| !b.is_empty()) else { return Ok(None) };
        let rows = batch.len();
        let (times, window) = (&batch.meta.rowtime, batch.meta.window.as_ref());
        let key_columns = &batch.columns[..self.key_count];
        let no_key = null_keys(key_columns, rows);
        let keys = self.rows.encode_keys(&batch)?;
        let counts = |i: usize| batch.is_present(i) && no_key.as_ref().is_none_or(|bits| !bits.value(i));
        let some: Vec<usize> = (0..rows).filter(|&i| counts(i)).collect();
        let mut slots = vec![u32::MAX; rows];
        some.iter().for_each(|&i| slots[i] = self.rows.index.slot(keys.row(i)));
        let kept = self.rows.kept(side, some.iter().map(|&i| times[i]));
        let kept: Vec<u32> = some.iter().zip(kept).filter(|(_, kept)| *kept).map(|(&i, _)| i as u32).collect();
        let mut columns = batch.columns.clone();
        let longs = |values: &arrow::buffer::ScalarBuffer<i64>| Arc::new(Int64Array::new(values.clone(), None));
        if let Some(window) = window.filter(|_| self.rows.windowed) {
            columns.extend([longs(&window.start) as ArrayRef, longs(&window.end)]);
        }
        columns.push(longs(times));
        let mut ids = vec![None; rows];
        if !kept.is_empty() {
            let (columns, slots, times) = if kept.len() == rows {
                (columns.clone(), slots.clone(), times.to_vec())
            } else {
                let by = UInt32Array::from(kept.clone());
                let columns = columns.iter().map(|c| take(c, &by, None)).collect::<Result<_, _>>();
                let slots = kept.iter().map(|&i| slots[i as usize]).collect();
                (columns.map_err(arrow_error(NAME))?, slots, kept.iter().map(|&i| times[i as usize]).collect())
            };
            let first = self.rows.append(side, columns, &slots, &times)?;
            for (n, &i) in kept.iter().enumerate() {
                ids[i as usize] = Some(RowId::new(first.chunk(), first.row() + n as u32));
            }
        }
        Ok(Some(Input { batch, columns, no_key, slots, ids, next: 0 }))
    }

    fn page(&mut self, ctx: &mut StepContext, out: &mut Vec<ChangeBatch>) -> Result<Progress, OperatorError> {
        let Some(mut pending) = self.pending.take() else { return Ok(Progress::Done) };
        self.pages += 1;
        let mut page = Page::new(self.pages, ctx.page_rows);
        let mut done = false;
        while !page.is_full() {
            let Some(port) = pending.next() else {
                done = true;
                break;
            };
            self.row(port, &mut pending, &mut page, ctx)?;
        }
        done |= pending.next().is_none();
        if !page.is_empty() {
            out.push(page.finish(&pending.inputs, &self.rows, self.key_count)?);
        }
        if !done {
            self.pending = Some(pending);
            return Ok(Progress::More);
        }
        for (side, input) in pending.inputs.iter().enumerate() {
            let Some(input) = input else { continue };
            let strays = input.slots.iter().zip(&input.ids).filter(|(slot, id)| id.is_none() && **slot != u32::MAX);
            strays.for_each(|(&slot, _)| self.rows.abandon(side, slot));
        }
        self.rows.expire();
        Ok(Progress::Done)
    }

    /// Handles the next row of a port, or goes on with it, until it is through or the page is full.
    fn row(
        &mut self,
        port: usize,
        pending: &mut Pending,
        page: &mut Page,
        ctx: &mut StepContext,
    ) -> Result<(), OperatorError> {
        let Some(input) = &mut pending.inputs[port] else { return Ok(()) };
        let i = input.next;
        if let At::Tick = pending.at {
            return self.close_all(port, pending, page, ctx);
        }
        let time = input.batch.meta.rowtime[i];
        if let At::Start = pending.at {
            self.rows.stream_time = self.rows.stream_time.max(time);
            if !input.batch.is_present(i) {
                input.next += 1;
                return Ok(());
            }
            if input.no_key.as_ref().is_some_and(|bits| bits.value(i)) {
                if self.outer[port] {
                    page.push_alone((port, i), time);
                } else {
                    let reason = format!("a join needs a key, but {} is NULL", self.key_names[port]);
                    ctx.lose(input.batch.meta.offset[i], LossKind::NullKey, reason);
                }
                input.next += 1;
                return Ok(());
            }
            pending.at = At::Closing(false);
        }
        if let At::Closing(begun) = pending.at {
            let due = self.rows.stream_time;
            if self.holds && time == due && !self.close((port, i), Some(due), begun, page, ctx)? {
                pending.at = At::Closing(true);
                return Ok(());
            }
            pending.at = At::Matching(0);
        }
        if let At::Matching(met) = pending.at {
            let (met, through) = self.matches((port, i), (input.slots[i], time), met, page)?;
            if !through {
                pending.at = At::Matching(met);
                return Ok(());
            }
            self.keep((port, i), input, met == 0, page, ctx);
            pending.at = At::Start;
            input.next += 1;
        }
        Ok(())
    }

    /// Emits all held rows, or goes on with it, and lets rows as old as them expire: they can find no partner any more.
    fn close_all(
        &mut self,
        port: usize,
        pending: &mut Pending,
        page: &mut Page,
        ctx: &StepContext,
    ) -> Result<(), OperatorError> {
        let Some(input) = &mut pending.inputs[port] else { return Ok(()) };
        if !self.close((port, input.next), None, true, page, ctx)? {
            return Ok(());
        }
        let time = input.batch.meta.rowtime[input.next];
        self.rows.sides.iter_mut().for_each(|side| side.time = side.time.max(time));
        input.next += 1;
        pending.at = At::Start;
        Ok(())
    }

    /// Emits held rows whose window is closed at stream time `due` (`None`: all); false if the page is full before all are.
    fn close(
        &mut self,
        by: (usize, usize),
        due: Option<i64>,
        mut emitting: bool,
        page: &mut Page,
        ctx: &StepContext,
    ) -> Result<bool, OperatorError> {
        loop {
            let mut next: Option<(i64, usize, RowId)> = None;
            for side in (0..2).filter(|&side| self.outer[side]) {
                let lasts = self.reach[side].1.saturating_add(self.grace_ms);
                let is_due = |held: i64| due.is_none_or(|due| held.saturating_add(lasts) < due);
                let waiting = self.rows.longest_waiting(side).filter(|(held, _)| is_due(*held));
                if let Some((held, row)) = waiting.filter(|(held, _)| next.is_none_or(|(best, ..)| *held < best)) {
                    next = Some((held, side, row));
                }
            }
            let Some((held, side, row)) = next else { return Ok(true) };
            if !emitting && ctx.outer_emit_interval_ms > 0 {
                if self.rows.next_emit != NO_TIME && ctx.wall_ms < self.rows.next_emit {
                    return Ok(true);
                }
                self.rows.next_emit = ctx.wall_ms.saturating_add(ctx.outer_emit_interval_ms);
            }
            emitting = true;
            if page.is_full() {
                return Ok(false);
            }
            page.push_held(by, (side, row), held, &mut self.rows)?;
            self.rows.give_up(side);
        }
    }

    /// Emits the partners of a row but the first `met`; gives how many it has met now, and whether that is all of them.
    fn matches(
        &mut self,
        (port, i): (usize, usize),
        (slot, time): (u32, i64),
        met: usize,
        page: &mut Page,
    ) -> Result<(usize, bool), OperatorError> {
        let (other, (before, after)) = (1 - port, self.reach[port]);
        let earliest = time.saturating_sub(before).max(0).max(self.rows.bound(other));
        let partners = self.rows.index.timeline(slot, other).between(earliest, time.saturating_add(after));
        for position in partners.start + met..partners.end {
            if page.is_full() {
                return Ok((position - partners.start, false));
            }
            let partner = self.rows.index.timeline(slot, other).at(position);
            if self.holds && self.outer[other] {
                self.rows.release(other, partner.row);
            }
            page.push_pair((port, i), partner.row, time.max(partner.time), &mut self.rows)?;
        }
        Ok((partners.len(), true))
    }

    /// What remains to be done for a row that met its partners: it is held or emitted alone if there were none, and kept.
    fn keep(&mut self, (port, i): (usize, usize), input: &Input, alone: bool, page: &mut Page, ctx: &mut StepContext) {
        let (time, id) = (input.batch.meta.rowtime[i], input.ids[i]);
        let side = &mut self.rows.sides[port];
        side.time = side.time.max(time);
        let open = time.saturating_add(self.reach[port].1) >= self.rows.stream_time;
        match id {
            Some(id) if alone && self.outer[port] && self.holds && open => {
                self.rows.insert(port, input.slots[i], time, id);
                self.rows.hold(port, time, id);
            }
            id => {
                if alone && self.outer[port] {
                    page.push_alone((port, i), time);
                }
                match id {
                    Some(id) => self.rows.insert(port, input.slots[i], time, id),
                    None if alone && !self.outer[port] => self.lose_late(port, input, i, ctx),
                    None => {}
                }
            }
        }
    }

    #[cold]
    fn lose_late(&self, port: usize, input: &Input, i: usize, ctx: &mut StepContext) {
        let (side, sides) = (["left", "right"][port], &self.rows.sides);
        let reason = format!(
            "the row of {} came too late to be joined: the {side} side is at {} and keeps rows for {} ms, grace included",
            input.batch.meta.rowtime[i],
            sides[port].time,
            sides[port].time.saturating_sub(self.rows.bound(port)),
        );
        ctx.lose(input.batch.meta.offset[i], LossKind::Late, reason);
    }
}

impl Pending {
    /// The port that has the next row: the lower `seq`; port 0 on a tie.
    fn next(&self) -> Option<usize> {
        let seq = |port: usize| self.inputs[port].as_ref().and_then(|i| i.batch.meta.seq.get(i.next).copied());
        match (seq(LEFT), seq(1)) {
            (Some(left), Some(right)) => Some(usize::from(right < left)),
            (Some(_), None) => Some(LEFT),
            (None, Some(_)) => Some(1),
            (None, None) => None,
        }
    }
}

impl At {
    /// As bytes, for a commit between pages.
    fn encode(self) -> Vec<u8> {
        match self {
            Self::Start => Vec::new(),
            Self::Closing(begun) => vec![1, u8::from(begun)],
            Self::Tick => vec![3],
            Self::Matching(met) => [&[2], (met as u64).to_le_bytes().as_slice()].concat(),
        }
    }

    fn decode(bytes: &[u8]) -> Result<Self, OperatorError> {
        match bytes {
            [] => Ok(Self::Start),
            [3] => Ok(Self::Tick),
            [1, begun @ 0..=1] => Ok(Self::Closing(*begun == 1)),
            [2, met @ ..] if met.len() == 8 => {
                Ok(Self::Matching(met.iter().rev().fold(0, |n, &byte| n << 8 | usize::from(byte))))
            }
            _ => Err(OperatorError::internal(NAME, "the place within a row is of an unknown form")),
        }
    }
}

impl Operator for StreamStreamJoin {
    fn process(
        &mut self,
        step: Step,
        ctx: &mut StepContext,
        out: &mut Vec<ChangeBatch>,
    ) -> Result<Progress, OperatorError> {
        self.begin(step, At::Start)?;
        self.page(ctx, out)
    }

    fn resume(&mut self, ctx: &mut StepContext, out: &mut Vec<ChangeBatch>) -> Result<Progress, OperatorError> {
        self.page(ctx, out)
    }

    fn waits_for_time(&mut self) -> Result<bool, OperatorError> {
        self.rows.begin()?;
        Ok(self.rows.last_waiting().is_some())
    }

    fn close_windows(&mut self, ctx: &mut StepContext, out: &mut Vec<ChangeBatch>) -> Result<Progress, OperatorError> {
        self.rows.begin()?;
        let Some(last) = self.rows.last_waiting() else { return Ok(Progress::Done) };
        let types = &self.rows.types(LEFT)[..self.rows.width(LEFT)];
        // where the grace is longer than time is, no time is passed
        let time = self.rows.expires_at(last).unwrap_or(NO_TIME);
        let row = tick(types.iter(), time, self.rows.windowed);
        self.begin(vec![Some(row), None], At::Tick)?;
        self.page(ctx, out)
    }

    fn rest(&self) -> Result<Option<Rest>, OperatorError> {
        let rest = |input: &Option<Input>| {
            let input = input.as_ref().filter(|input| input.next < input.batch.len())?;
            Some(slice(&input.batch, input.next, input.batch.len() - input.next))
        };
        let rest =
            |pending: &Pending| Rest { rows: pending.inputs.iter().map(rest).collect(), within: pending.at.encode() };
        Ok(self.pending.as_ref().map(rest))
    }

    fn reopen(&mut self, rest: Rest, _: &mut StepContext) -> Result<(), OperatorError> {
        self.begin(rest.rows, At::decode(&rest.within)?)
    }

    fn stores(&mut self) -> Vec<&mut dyn Store> {
        vec![&mut self.rows]
    }
}

#[cfg(test)]
mod tests;
