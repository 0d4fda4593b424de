//! GROUP BY: a table of groups from the rows of a stream, or from the changes of a table.
//!
//! Windows in time are `window_aggregate`, sessions `session_aggregate`; all three share [`Core`]. The walk of a batch: keys are encoded and
//! arguments evaluated (`aggregate_input`), each row finds its slot (`groups`, `group_store`), accumulators take the updates of a page in
//! one call, and the page becomes output rows or is held back (`aggregate_output`). The subtle thing: a table's input row may have
//! either half; both halves of a row have the same key, which is what [`super::stateless::Regroup`] sees to.

use std::sync::Arc;

use arrow::array::Array;
use arrow::datatypes::{DataType, SchemaRef};

use crate::function::FunctionLimits;
use crate::function::aggregate::{Emit, Slot, Update};
use crate::plan::topology::AggregateSpec;
use crate::state::Store;
use crate::topic::{KeyedSnapshot, TopicError};
use crate::types::ChangeBatch;

use super::aggregate_input::{Inputs, Pending};
use super::aggregate_output::{Emission, Output, values};
use super::group_store::{GroupStore, Layout};
use super::groups::{NO_ROWTIME, Span, WARM_ROWS};
use super::{Operator, OperatorError, Progress, Rest, Step, StepContext};

/// Bytes of output columns that a page aims to stay below.
const PAGE_BYTES: usize = 8 << 20;
/// A page has at least so many rows, however large they are.
const PAGE_MIN_ROWS: usize = 16;

/// A row has one group, see [`Core::warm`].
pub(super) const ONE_GROUP: (usize, i64) = (1, 0);
/// How many look-ups are warmed together where a row has many, if that are not too few rows.
const WARM_LOOKUPS: usize = 256;
const WARM_ROWS_MIN: usize = 8;

/// What all aggregates share: inputs, store, output, and the page being made.
pub(super) struct Core {
    pub layout: Arc<Layout>,
    pub inputs: Inputs,
    pub store: GroupStore,
    pub output: Output,
    pub key_count: usize,
    pub table: bool,
    pub emit_old: bool,
    pub page: Page,
    /// rows before this are near the processor
    warmed: usize,
    /// rows that a page may have, by the size of the last ones
    page_rows: usize,
}

/// Updates of one page, and the output rows they make.
#[derive(Default)]
pub(super) struct Page {
    pub updates: Vec<Update>,
    /// tables: which updates end an output row
    pub emit: Vec<bool>,
    pub emissions: Vec<Emission>,
}

impl Page {
    /// Empties it for the next page.
    pub fn clear(&mut self) {
        self.updates.clear();
        self.emit.clear();
        self.emissions.clear();
    }
}

impl Core {
    /// The core of `spec` over rows of `input`.
    ///
    /// # Errors
    /// If the spec is not one that analysis lets pass.
    pub fn new(spec: &AggregateSpec, limits: &FunctionLimits, input: &SchemaRef) -> Result<Self, OperatorError> {
        let types: Vec<DataType> = input.fields().iter().map(|field| field.data_type().clone()).collect();
        let layout = Arc::new(Layout::new(spec, limits, &types)?);
        Ok(Self {
            inputs: Inputs::new(spec, input)?,
            store: GroupStore::new(layout.clone())?,
            output: Output::new(spec.emit_old, spec.window.is_some()),
            key_count: spec.key_count,
            table: spec.table_input,
            emit_old: spec.emit_old,
            page: Page::default(),
            warmed: 0,
            page_rows: usize::MAX,
            layout,
        })
    }

    /// Opens the batch of a step.
    ///
    /// # Errors
    /// A defect of ours.
    pub fn open(&mut self, step: Step, ctx: &mut StepContext) -> Result<Option<Pending>, OperatorError> {
        let mut batches = step.into_iter().flatten().filter(|batch| !batch.is_empty());
        let Some(batch) = batches.next() else { return Ok(None) };
        if batches.next().is_some() {
            return Err(OperatorError::internal("aggregate", "it has one input port, the step has more"));
        }
        let mut pending = self.inputs.open(batch, self.layout.keys(), ctx)?;
        pending.hashes.extend(pending.keys.iter().map(|key| self.store.groups.hash(key)));
        self.warmed = 0;
        Ok(Some(pending))
    }

    /// How many updates the page at hand should have.
    pub fn page_limit(&self, ctx: &StepContext) -> usize {
        ctx.page_rows.min(self.page_rows).max(1)
    }

    /// Notes a row of a stream for a group; its window's bounds are those of the slot.
    #[inline]
    pub fn take_row(&mut self, slot: Slot, row: usize, rowtime: i64) {
        self.page.updates.push(Update { slot, row: row as u32, undo: false });
        self.emit(slot, row, rowtime);
    }

    /// Notes an output row; its row time is the greatest that the group took in so far.
    #[inline]
    fn emit(&mut self, slot: Slot, row: usize, rowtime: i64) {
        self.store.touch(slot);
        let head = self.store.groups.head_mut(slot);
        let existed = head.rowtime != NO_ROWTIME;
        head.rowtime = head.rowtime.max(rowtime);
        self.page.emissions.push(Emission { slot, row: row as u32, rowtime: head.rowtime, existed });
    }

    /// Has the groups of the next rows near, if it is time to; each row may have several, `hops`: their number, and the time from one
    /// window to the next.
    #[inline]
    pub fn warm(&mut self, pending: &Pending, row: usize, hops: (usize, i64), start: impl FnMut(usize) -> i64) {
        if self.warmed <= row || self.warmed > row + WARM_ROWS {
            self.warm_next(pending, row, hops, start);
        }
    }

    fn warm_next(&mut self, pending: &Pending, row: usize, hops: (usize, i64), mut start: impl FnMut(usize) -> i64) {
        let (windows, advance_ms) = hops;
        let rows = (WARM_LOOKUPS / windows.max(1)).clamp(WARM_ROWS_MIN, WARM_ROWS);
        self.warmed = (row + rows).min(pending.hashes.len());
        let (hashes, mut starts) = (&pending.hashes[row..self.warmed], [0; WARM_ROWS]);
        (row..self.warmed).zip(&mut starts).for_each(|(row, first)| *first = start(row));
        // window by window, since a window's groups are found in one place
        for hop in 0..windows as i64 {
            let starts = starts.iter().map(|first| first + hop * advance_ms);
            self.store.groups.warm(hashes.iter().copied().zip(starts));
        }
    }

    /// Runs the accumulators over the page, made of rows `from .. to` of `pending`, and gives its rows out or holds them back.
    ///
    /// # Errors
    /// If a function fails, or the store behind cannot be read.
    pub fn finish_page(
        &mut self,
        pending: &Pending,
        from: usize,
        to: usize,
        ctx: &mut StepContext,
        out: &mut Vec<ChangeBatch>,
    ) -> Result<(), OperatorError> {
        self.store.load()?;
        if self.page.updates.is_empty() {
            return Ok(());
        }
        let mut page = std::mem::take(&mut self.page);
        let before = self.output.before(&page.emissions, ctx.coalesce, &self.store);
        page.updates.iter_mut().for_each(|update| update.row -= from as u32);
        let emit = match (ctx.coalesce, self.table) {
            (true, _) => Emit::None,
            (false, true) => Emit::Some(&page.emit[..]),
            (false, false) => Emit::All,
        };
        self.update(&page.updates, pending, from, to, emit)?;
        if ctx.coalesce {
            self.output.hold(&page.emissions, &pending.batch, before, &mut self.store);
            if self.output.is_full() {
                while self.output.release(&mut self.store, self.layout.keys(), ctx, out)? == Progress::More {}
            }
        } else {
            let new: Vec<_> = self.store.accumulators.iter_mut().map(|a| a.take_values()).collect();
            self.adapt(new.iter().map(|column| column.get_array_memory_size()).sum(), page.emissions.len());
            let store = &self.store;
            out.push(self.output.rows(&page.emissions, &pending.batch, self.key_count, new, &before, store)?);
        }
        page.clear();
        self.page = page;
        Ok(())
    }

    /// Runs the accumulators over updates of rows `from .. to`, which are counted from `from`.
    ///
    /// # Errors
    /// If a function fails.
    pub fn update(
        &mut self,
        updates: &[Update],
        pending: &Pending,
        from: usize,
        to: usize,
        emit: Emit<'_>,
    ) -> Result<(), OperatorError> {
        for (i, accumulator) in self.store.accumulators.iter_mut().enumerate() {
            let (args, old_args) = pending.arguments(i, from, to);
            accumulator.update(updates, &args, &old_args, emit).map_err(OperatorError::Function)?;
        }
        Ok(())
    }

    /// Sizes the next pages by what a row of this one took.
    fn adapt(&mut self, bytes: usize, rows: usize) {
        let bytes_each = (bytes / rows.max(1)).max(1);
        self.page_rows = (PAGE_BYTES / bytes_each).max(PAGE_MIN_ROWS);
    }

    /// Opens rows that were opened before, and so have told their losses.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn reopen(&mut self, step: Step, ctx: &mut StepContext) -> Result<Option<Pending>, OperatorError> {
        let told = ctx.losses.len();
        let opened = self.open(step, ctx);
        ctx.losses.truncate(told);
        opened
    }

    /// Opens a step of one row that closes windows.
    ///
    /// # Errors
    /// A defect of ours.
    pub fn open_tick(&mut self, time: i64, ctx: &mut StepContext) -> Result<Option<Pending>, OperatorError> {
        let row = self.inputs.tick(time);
        let opened = self.reopen(vec![Some(row)], ctx)?;
        Ok(opened.map(|pending| Pending { is_tick: true, ..pending }))
    }

    /// Gives out a page of what is held back.
    ///
    /// # Errors
    /// A defect of ours.
    pub fn flush(&mut self, ctx: &StepContext, out: &mut Vec<ChangeBatch>) -> Result<Progress, OperatorError> {
        self.output.release(&mut self.store, self.layout.keys(), ctx, out)
    }
}

/// GROUP BY without a window.
pub struct Aggregate {
    core: Core,
    pending: Option<Pending>,
}

impl Aggregate {
    /// The aggregate of `spec` over rows of `input`; it must have no window.
    ///
    /// # Errors
    /// If the spec is not one that analysis lets pass: a defect of ours.
    pub fn new(spec: &AggregateSpec, limits: &FunctionLimits, input: &SchemaRef) -> Result<Self, OperatorError> {
        if spec.window.is_some() || spec.emit_final {
            return Err(OperatorError::internal("aggregate", "windows are for the windowed aggregates"));
        }
        Ok(Self { core: Core::new(spec, limits, input)?, pending: None })
    }

    fn page(&mut self, ctx: &mut StepContext, out: &mut Vec<ChangeBatch>) -> Result<Progress, OperatorError> {
        let Some(mut pending) = self.pending.take() else { return Ok(Progress::Done) };
        let (core, from, rows) = (&mut self.core, pending.next, pending.batch.len());
        let limit = core.page_limit(ctx);
        while pending.next < rows && core.page.emissions.len() < limit {
            let row = pending.next;
            pending.next += 1;
            if !pending.counts(row) {
                continue;
            }
            core.warm(&pending, row, ONE_GROUP, |_| 0);
            let slot = core.store.slot(pending.hashes[row], pending.keys.row(row), Span::default())?;
            if core.table {
                core.take_change(slot, row, &pending.batch);
            } else {
                core.take_row(slot, row, pending.batch.meta.rowtime[row]);
            }
        }
        core.finish_page(&pending, from, pending.next, ctx, out)?;
        if pending.next < rows {
            self.pending = Some(pending);
            return Ok(Progress::More);
        }
        Ok(Progress::Done)
    }
}

impl Core {
    /// Notes a change of a table row: its old half is taken away, its new half taken in, in one step.
    fn take_change(&mut self, slot: Slot, row: usize, batch: &ChangeBatch) {
        let (new, old) = (batch.is_present(row), batch.old_is_present(row));
        let page = &mut self.page;
        for (is_there, undo) in [(old, true), (new, false)] {
            if is_there {
                page.updates.push(Update { slot, row: row as u32, undo });
                page.emit.push(!undo || !new);
            }
        }
        self.emit(slot, row, batch.meta.rowtime[row]);
    }
}

impl Operator for Aggregate {
    fn process(
        &mut self,
        step: Step,
        ctx: &mut StepContext,
        out: &mut Vec<ChangeBatch>,
    ) -> Result<Progress, OperatorError> {
        self.pending = self.core.open(step, ctx)?;
        self.page(ctx, out)
    }

    fn resume(&mut self, ctx: &mut StepContext, out: &mut Vec<ChangeBatch>) -> Result<Progress, OperatorError> {
        self.page(ctx, out)
    }

    fn rest(&self) -> Result<Option<Rest>, OperatorError> {
        Ok(Some(Rest { rows: vec![self.pending.as_ref().and_then(Pending::rest)], within: Vec::new() }))
    }

    fn reopen(&mut self, rest: Rest, ctx: &mut StepContext) -> Result<(), OperatorError> {
        self.pending = self.core.reopen(rest.rows, ctx)?;
        Ok(())
    }

    fn flush(&mut self, ctx: &mut StepContext, out: &mut Vec<ChangeBatch>) -> Result<Progress, OperatorError> {
        self.core.flush(ctx, out)
    }

    fn stores(&mut self) -> Vec<&mut dyn Store> {
        vec![&mut self.core.store]
    }
}

/// Turns stored entries of an aggregate into its output rows, for those who read its store.
pub struct AggregateReader {
    layout: Layout,
    window: bool,
}

impl AggregateReader {
    /// The bound for [`Self::is_kept`] as of the state in `store`; `None`: all of it counts.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn kept_from(&self, store: &dyn KeyedSnapshot) -> Result<Option<i64>, TopicError> {
        self.layout.kept_from(store)
    }

    /// True if the window of a stored key is not over.
    ///
    /// # Errors
    /// If the key does not read back.
    pub fn is_kept(&self, key: &[u8], kept_from: i64) -> Result<bool, TopicError> {
        self.layout.is_kept(key, kept_from)
    }

    /// A reader of the store of `spec`, an aggregate over rows of `input`.
    ///
    /// # Errors
    /// As [`Aggregate::new`].
    pub fn new(spec: &AggregateSpec, limits: &FunctionLimits, input: &SchemaRef) -> Result<Self, OperatorError> {
        let types: Vec<DataType> = input.fields().iter().map(|field| field.data_type().clone()).collect();
        Ok(Self { layout: Layout::new(spec, limits, &types)?, window: spec.window.is_some() })
    }

    /// The output rows of these entries (key bytes, row bytes), in their order; offsets and `seq` are 0.
    ///
    /// # Errors
    /// If an entry does not read back.
    pub fn finish<'a>(
        &self,
        entries: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
    ) -> Result<ChangeBatch, OperatorError> {
        let (keys, rows): (Vec<_>, Vec<_>) = entries.into_iter().unzip();
        let slots: Vec<Slot> = (0..keys.len() as Slot).collect();
        let mut accumulators = self.layout.accumulators()?;
        accumulators.iter_mut().for_each(|accumulator| accumulator.resize(slots.len()));
        let rowtimes = self.layout.load(&mut accumulators, &slots, rows.into_iter())?;
        let (key_columns, windows) = match self.window {
            true => self.layout.keys().decode_windowed(keys).map(|(columns, windows)| (columns, Some(windows)))?,
            false => (self.layout.keys().decode(keys)?, None),
        };
        Ok(super::aggregate_output::rows_of(key_columns, values(&accumulators, &slots), rowtimes.into(), windows))
    }
}

#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;
