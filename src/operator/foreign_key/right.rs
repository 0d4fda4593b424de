//! The right rows' side of a foreign-key join: keeps who refers to what, and answers.
//!
//! Port 0: what left tasks tell; port 1: records of the right table. The subtle thing: one right row may be answered to a million left rows,
//! so a page may end within a right row; how far it came is the last left key that was answered.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int32Array, Int64Array};
use arrow::datatypes::{Int32Type, Int64Type};

use crate::operator::port::{PAGE_BYTES, Picks, Port, Ports, arrow_error, key_names, null_unless, split_types};
use crate::operator::{LossKind, Operator, OperatorError, Progress, Rest, Step, StepContext};
use crate::plan::foreign_key::ForeignKeySpec;
use crate::state::encoding::{EncodedRows, KeyCodec, RowCodec};
use crate::state::{KeyedTable, RowRef, Store};
use crate::types::ChangeBatch;

use super::Instruction;
use super::subscriptions::{Subscriber, Subscriptions};

const NAME: &str = "foreign-key join (right)";
const TOLD: usize = 0;
const TABLE: usize = 1;

/// [`crate::plan::topology::OperatorSpec::ForeignKeyRight`].
pub struct ForeignKeyRight {
    left_keys: KeyCodec,
    keys: KeyCodec,
    key_name: String,
    rows: RowCodec,
    table: KeyedTable,
    subscriptions: Subscriptions,
    open: Option<Open>,
}

/// A step on its way.
struct Open {
    ports: Ports,
    /// encoded left keys of what was told
    told: EncodedRows,
    /// the right row at hand is being answered: the last left key that got its answer, empty before the first
    answered: Option<Vec<u8>>,
}

/// Answers.
#[derive(Default)]
struct Page {
    /// port and row that caused the answer
    picks: Vec<(usize, usize)>,
    left_keys: Vec<u8>,
    cuts: Vec<Range<usize>>,
    partitions: Vec<i32>,
    versions: Vec<i64>,
    rows: Vec<Option<RowRef>>,
    times: Vec<i64>,
    bytes: usize,
}

impl Page {
    fn push(&mut self, pick: (usize, usize), left_key: &[u8], to: Subscriber, row: Option<RowRef>, time: i64) {
        let start = self.left_keys.len();
        self.left_keys.extend_from_slice(left_key);
        self.cuts.push(start..self.left_keys.len());
        self.picks.push(pick);
        self.partitions.push(to.partition);
        self.versions.push(to.version);
        self.bytes += left_key.len() + row.map_or(0, RowRef::len);
        self.rows.push(row);
        self.times.push(time);
    }

    fn len(&self) -> usize {
        self.picks.len()
    }
}

impl ForeignKeyRight {
    /// The right side of the join of `spec`.
    ///
    /// # Errors
    /// If a column has a type that no store holds.
    pub fn new(spec: &ForeignKeySpec) -> Result<Self, OperatorError> {
        let (left_keys, _) = split_types(&spec.left, spec.left_keys);
        let (keys, values) = split_types(&spec.right, 1);
        Ok(Self {
            left_keys: KeyCodec::new(&left_keys)?,
            keys: KeyCodec::new(&keys)?,
            key_name: key_names(&spec.right, 1),
            rows: RowCodec::new(&values)?,
            table: KeyedTable::new(spec.right_store.as_str()),
            subscriptions: Subscriptions::new(spec.subscription_store.as_str()),
            open: None,
        })
    }

    fn open(&mut self, step: Step, answered: Option<Vec<u8>>) -> Result<(), OperatorError> {
        let mut step = step.into_iter().map(|batch| batch.filter(|batch| !batch.is_empty()));
        let (told, changed) = (step.next().flatten(), step.next().flatten());
        let left_keys = match &told {
            Some(batch) => self.left_keys.encode(&batch.columns[1..=self.left_keys.types().len()], batch.len())?,
            None => EncodedRows::default(),
        };
        let told = told.map(|batch| Port::open(batch, &self.keys, None)).transpose()?;
        let changed = changed.map(|batch| Port::open(batch, &self.keys, Some(&self.rows))).transpose()?;
        self.open = Some(Open { ports: Ports([told, changed]), told: left_keys, answered });
        Ok(())
    }

    fn page(&mut self, ctx: &mut StepContext, out: &mut Vec<ChangeBatch>) -> Result<Progress, OperatorError> {
        let Some(mut open) = self.open.take() else { return Ok(Progress::Done) };
        self.table.settle();
        let (mut page, limit) = (Page::default(), ctx.page_rows.max(1));
        while page.len() < limit && page.bytes < PAGE_BYTES {
            let next = if open.answered.is_some() { Some(TABLE) } else { open.ports.next() };
            match next {
                Some(TOLD) => self.listen(&mut open, &mut page)?,
                Some(_) => self.change(&mut open, &mut page, limit, ctx)?,
                None => break,
            }
        }
        if page.len() > 0 {
            out.push(self.answers(&open.ports, page)?);
        }
        if open.answered.is_none() && open.ports.next().is_none() {
            return Ok(Progress::Done);
        }
        self.open = Some(open);
        Ok(Progress::More)
    }

    /// Takes one message of a left task.
    fn listen(&mut self, open: &mut Open, page: &mut Page) -> Result<(), OperatorError> {
        let port = open.ports.port(TOLD);
        let i = port.advance(&[&self.table]);
        let columns = &port.batch.columns[1 + self.left_keys.types().len()..];
        let number = columns[2].as_primitive::<Int32Type>().value(i);
        let no_such = || OperatorError::internal(NAME, format!("instruction {number}"));
        let instruction = Instruction::of(number).ok_or_else(no_such)?;
        let (foreign_key, left_key) = (port.keys.row(i), open.told.row(i));
        let subscription = [foreign_key, left_key].concat();
        if instruction == Instruction::Forget {
            self.subscriptions.set(&subscription, None);
            return Ok(());
        }
        let subscriber = Subscriber {
            partition: columns[0].as_primitive::<Int32Type>().value(i),
            version: columns[1].as_primitive::<Int64Type>().value(i),
        };
        self.subscriptions.set(&subscription, Some(subscriber));
        let row = self.table.get(foreign_key)?;
        if row.is_none() && instruction == Instruction::AnswerIfPresent {
            return Ok(());
        }
        let mut time = port.batch.meta.rowtime[i];
        if let Some(row) = row {
            time = time.max(RowCodec::rowtime(self.table.row(row))?);
        }
        page.push((TOLD, i), left_key, subscriber, row, time);
        Ok(())
    }

    /// Takes a change of a right row, or goes on with it: answers to those who refer to it, as many as the page holds.
    fn change(
        &mut self,
        open: &mut Open,
        page: &mut Page,
        limit: usize,
        ctx: &mut StepContext,
    ) -> Result<(), OperatorError> {
        let port = open.ports.port(TABLE);
        let i = port.peek();
        let key = port.keys.row(i);
        if open.answered.is_none() {
            if port.lacks_key(i) {
                let reason = format!("a record of a table needs a key, but {} is NULL", self.key_name);
                ctx.lose(port.batch.meta.offset[i], LossKind::NullKey, reason);
                port.advance(&[]);
                return Ok(());
            }
            match port.stored(i) {
                Some(row) => self.table.put(key, row),
                None => self.table.delete(key),
            }
        }
        let (row, time) = (self.table.get(key)?, port.batch.meta.rowtime[i]);
        let each = row.map_or(1, RowRef::len).max(1);
        let room = (limit - page.len()).min((PAGE_BYTES - page.bytes.min(PAGE_BYTES)) / each + 1);
        let mut last = Vec::new();
        let after = open.answered.take().unwrap_or_default();
        let after = Some(&after[..]).filter(|after| !after.is_empty());
        let all = self.subscriptions.page(key, after, room, &mut |left_key, subscriber| {
            page.push((TABLE, i), left_key, subscriber, row, time);
            last.clear();
            last.extend_from_slice(left_key);
        })?;
        if all {
            port.advance(&[]);
        } else {
            open.answered = Some(last);
        }
        Ok(())
    }

    fn answers(&self, ports: &Ports, page: Page) -> Result<ChangeBatch, OperatorError> {
        let failed = arrow_error(NAME);
        let picks = Picks::new(page.picks);
        let mut columns = self.left_keys.decode(page.cuts.iter().map(|cut| &page.left_keys[cut.clone()]))?;
        columns.push(Arc::new(Int32Array::from(page.partitions)) as ArrayRef);
        columns.push(Arc::new(Int64Array::from(page.versions)));
        let rows = self.rows.decode(page.rows.iter().map(|row| row.map(|row| self.table.row(row))))?;
        let keys = ports.gather_keys(&picks, 1).map_err(&failed)?;
        columns.extend(null_unless(&keys, rows.present.as_ref()).map_err(&failed)?);
        columns.extend(rows.columns);
        let mut meta = ports.gather_meta(&picks, page.times).map_err(&failed)?;
        meta.headers = None;
        Ok(ChangeBatch { columns, present: rows.present, old: None, meta })
    }
}

impl Operator for ForeignKeyRight {
    fn process(
        &mut self,
        step: Step,
        ctx: &mut StepContext,
        out: &mut Vec<ChangeBatch>,
    ) -> Result<Progress, OperatorError> {
        self.open(step, None)?;
        self.page(ctx, out)
    }

    fn resume(&mut self, ctx: &mut StepContext, out: &mut Vec<ChangeBatch>) -> Result<Progress, OperatorError> {
        self.page(ctx, out)
    }

    fn rest(&self) -> Result<Option<Rest>, OperatorError> {
        let Some(open) = &self.open else { return Ok(None) };
        let within = open.answered.clone().unwrap_or_default();
        Ok(Some(Rest { within, ..open.ports.rest() }))
    }

    fn reopen(&mut self, rest: Rest, _: &mut StepContext) -> Result<(), OperatorError> {
        self.open(rest.rows, Some(rest.within).filter(|within| !within.is_empty()))
    }

    fn stores(&mut self) -> Vec<&mut dyn Store> {
        vec![&mut self.table, &mut self.subscriptions]
    }
}
