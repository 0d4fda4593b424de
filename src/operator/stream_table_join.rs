//! Stream ⋈ table: each row of the stream meets the row that its key has in the table at that moment.
//!
//! Table changes never trigger output, and time plays no part: the table is as it arrived (`semantics.md` §6). The subtle thing: look-ups
//! only note where a row stands in the store's arena, and the rows of a page are decoded once at its end, even if the table has changed
//! them meanwhile.

use arrow::buffer::BooleanBuffer;

use crate::plan::topology::{JoinKind, JoinSpec};
use crate::state::encoding::{KeyCodec, RowCodec};
use crate::state::{KeyedTable, RowRef, Store};
use crate::types::ChangeBatch;

use super::port::{PAGE_BYTES, Picks, Port, Ports, arrow_error, key_names, null_unless, split_types};
use super::{LossKind, Operator, OperatorError, Progress, Rest, Step, StepContext};

const NAME: &str = "stream-table join";
const STREAM: usize = 0;
const TABLE: usize = 1;

/// [`crate::plan::topology::OperatorSpec::StreamTableJoin`]: port 0 the stream, port 1 the changes of the table.
pub struct StreamTableJoin {
    outer: bool,
    key_count: usize,
    stream_key: String,
    table_key: String,
    keys: KeyCodec,
    rows: RowCodec,
    table: KeyedTable,
    pending: Option<Ports>,
}

/// What the rows of a page refer to.
#[derive(Default)]
struct Page {
    stream_rows: Vec<(usize, usize)>,
    table_rows: Vec<Option<RowRef>>,
    bytes: usize,
}

impl StreamTableJoin {
    /// The join of `spec`; its `right_store` keeps the table.
    ///
    /// # Errors
    /// If it is neither INNER nor LEFT, the keys differ in type, or a column has a type that no store holds.
    pub fn new(spec: &JoinSpec) -> Result<Self, OperatorError> {
        let outer = match spec.kind {
            JoinKind::Inner => false,
            JoinKind::Left => true,
            kind => return Err(OperatorError::internal(NAME, format!("{kind} is no join of a stream with a table"))),
        };
        let (left_keys, _) = split_types(&spec.left, spec.key_count);
        let (right_keys, values) = split_types(&spec.right, spec.key_count);
        if left_keys != right_keys {
            return Err(OperatorError::internal(NAME, format!("keys {left_keys:?} and {right_keys:?} differ")));
        }
        Ok(Self {
            outer,
            key_count: spec.key_count,
            stream_key: key_names(&spec.left, spec.key_count),
            table_key: key_names(&spec.right, spec.key_count),
            keys: KeyCodec::new(&right_keys)?,
            rows: RowCodec::new(&values)?,
            table: KeyedTable::new(spec.right_store.as_str()),
            pending: None,
        })
    }

    fn open(&mut self, step: Step) -> Result<(), OperatorError> {
        let mut step = step.into_iter();
        let mut open = |rows: Option<&RowCodec>| match step.next().flatten() {
            Some(batch) if !batch.is_empty() => Port::open(batch, &self.keys, rows).map(Some),
            _ => Ok(None),
        };
        self.pending = Some(Ports([open(None)?, open(Some(&self.rows))?]));
        Ok(())
    }

    fn page(&mut self, ctx: &mut StepContext, out: &mut Vec<ChangeBatch>) -> Result<Progress, OperatorError> {
        let Some(mut ports) = self.pending.take() else { return Ok(Progress::Done) };
        self.table.settle();
        let mut page = Page::default();
        while page.stream_rows.len() < ctx.page_rows.max(1) && page.bytes < PAGE_BYTES {
            match ports.next() {
                Some(STREAM) => self.look_up(ports.port(STREAM), &mut page, ctx)?,
                Some(_) => self.keep(ports.port(TABLE), ctx),
                None => break,
            }
        }
        if !page.stream_rows.is_empty() {
            out.push(self.joined(&ports, page)?);
        }
        if ports.next().is_none() {
            return Ok(Progress::Done);
        }
        self.pending = Some(ports);
        Ok(Progress::More)
    }

    fn look_up(&mut self, port: &mut Port, page: &mut Page, ctx: &mut StepContext) -> Result<(), OperatorError> {
        let i = port.advance(&[&self.table]);
        if !port.batch.is_present(i) {
            return Ok(());
        }
        let lacks_key = port.lacks_key(i);
        if lacks_key && !self.outer {
            let reason = format!("a join needs a key, but {} is NULL", self.stream_key);
            ctx.lose(port.batch.meta.offset[i], LossKind::NullKey, reason);
            return Ok(());
        }
        let found = if lacks_key { None } else { self.table.get(port.keys.row(i))? };
        if found.is_some() || self.outer {
            page.bytes += found.map_or(0, RowRef::len);
            page.stream_rows.push((STREAM, i));
            page.table_rows.push(found);
        }
        Ok(())
    }

    fn keep(&mut self, port: &mut Port, ctx: &mut StepContext) {
        let i = port.advance(&[&self.table]);
        if port.lacks_key(i) {
            let reason = format!("a record of a table needs a key, but {} is NULL", self.table_key);
            ctx.lose(port.batch.meta.offset[i], LossKind::NullKey, reason);
            return;
        }
        match port.stored(i) {
            Some(row) => self.table.put(port.keys.row(i), row),
            None => self.table.delete(port.keys.row(i)),
        }
    }

    fn joined(&self, ports: &Ports, page: Page) -> Result<ChangeBatch, OperatorError> {
        let failed = arrow_error(NAME);
        let picks = Picks::new(page.stream_rows);
        let stream = &ports.0[STREAM].as_ref().expect("a page has rows of the stream").batch;
        let rowtime = picks.iter().map(|(_, i)| stream.meta.rowtime[i]).collect();
        let left = picks.gather([&stream.columns, &[]]).map_err(&failed)?;
        let table_rows = page.table_rows.iter().map(|row| row.map(|row| self.table.row(row)));
        let right = self.rows.decode(table_rows)?;
        let mut columns = left[..self.key_count].to_vec();
        let right_keys = null_unless(&columns, right.present.as_ref()).map_err(&failed)?;
        columns.extend(left);
        columns.extend(right_keys);
        columns.extend(right.columns);
        let meta = ports.gather_meta(&picks, rowtime).map_err(&failed)?;
        Ok(ChangeBatch { columns, present: None::<BooleanBuffer>, old: None, meta })
    }
}

impl Operator for StreamTableJoin {
    fn process(
        &mut self,
        step: Step,
        ctx: &mut StepContext,
        out: &mut Vec<ChangeBatch>,
    ) -> Result<Progress, OperatorError> {
        self.open(step)?;
        self.page(ctx, out)
    }

    fn resume(&mut self, ctx: &mut StepContext, out: &mut Vec<ChangeBatch>) -> Result<Progress, OperatorError> {
        self.page(ctx, out)
    }

    fn rest(&self) -> Result<Option<Rest>, OperatorError> {
        Ok(self.pending.as_ref().map(Ports::rest))
    }

    fn reopen(&mut self, rest: Rest, _: &mut StepContext) -> Result<(), OperatorError> {
        self.open(rest.rows)
    }

    fn stores(&mut self) -> Vec<&mut dyn Store> {
        vec![&mut self.table]
    }
}

#[cfg(test)]
mod tests;
