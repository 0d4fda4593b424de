//! The left rows' side of a foreign-key join: tells right tasks who refers to what, and joins their answers.
//!
//! Port 0: records of the left table; port 1: answers. What it tells leaves by [`Operator::side`]. The subtle thing: the stored row's time is
//! not the record's but its version (the record's offset), since that is all that is asked of it.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int32Array, Int64Array, UInt32Array, new_null_array};
use arrow::buffer::BooleanBuffer;
use arrow::compute::{interleave, take};
use arrow::datatypes::{DataType, Int64Type};
use arrow::error::ArrowError;

use crate::operator::computed::{Computed, report};
use crate::operator::port::{PAGE_BYTES, Picks, Port, Ports, arrow_error, key_names, split_types};
use crate::operator::{LossKind, Operator, OperatorError, Progress, Rest, Step, StepContext};
use crate::plan::foreign_key::ForeignKeySpec;
use crate::plan::topology::JoinKind;
use crate::state::encoding::{EncodedRows, KeyCodec, RowCodec};
use crate::state::{KeyedTable, RowRef, Store};
use crate::types::ChangeBatch;

use super::Instruction;

const NAME: &str = "foreign-key join (left)";
const TABLE: usize = 0;
const ANSWERS: usize = 1;

/// [`crate::plan::topology::OperatorSpec::ForeignKeyLeft`].
pub struct ForeignKeyLeft {
    outer: bool,
    key_count: usize,
    key_names: String,
    /// the column that is the partition
    partition: usize,
    keys: KeyCodec,
    rows: RowCodec,
    table: KeyedTable,
    foreign_key: Computed,
    references: KeyCodec,
    right_types: Vec<DataType>,
    open: Option<Open>,
    told: Vec<ChangeBatch>,
}

/// A step on its way.
struct Open {
    ports: Ports,
    /// what the left rows refer to
    foreign_keys: Option<References>,
}

/// Foreign keys, row-aligned with something.
struct References {
    column: ArrayRef,
    encoded: EncodedRows,
}

impl References {
    /// The reference of row `i`; `None` if it is NULL.
    fn of(&self, i: usize) -> Option<&[u8]> {
        self.column.is_valid(i).then(|| self.encoded.row(i))
    }
}

/// What happened, in order.
enum Event {
    /// a left row changed: the row, and which of the page's old rows it replaced
    Change(usize, usize),
    /// an answer to a left row as it is now: the answer's row, and which of the page's present rows
    Answer(usize, usize),
}

#[derive(Default)]
struct Page {
    events: Vec<Event>,
    changed: Vec<usize>,
    old: Vec<Option<RowRef>>,
    current: Vec<RowRef>,
    bytes: usize,
}

/// A result in the making.
struct Joined {
    /// port and row that caused it
    pick: (usize, usize),
    /// where the left columns are: a row of the changes, or one of the page's present rows
    left: (usize, usize),
    /// the answer's row, if it has the right one
    right: Option<u32>,
    present: bool,
}

/// Something to be told to a right task.
struct Told {
    row: usize,
    /// where the reference is: 0 and a left row, or 1 and one of the page's old rows
    reference: (usize, usize),
    instruction: Instruction,
}

impl ForeignKeyLeft {
    /// The left side of the join of `spec`.
    ///
    /// # Errors
    /// If it is neither INNER nor LEFT, or a column has a type that no store holds.
    pub fn new(spec: &ForeignKeySpec) -> Result<Self, OperatorError> {
        let outer = match spec.kind {
            JoinKind::Inner => false,
            JoinKind::Left => true,
            kind => return Err(OperatorError::internal(NAME, format!("{kind} is no foreign-key join"))),
        };
        let (keys, values) = split_types(&spec.left, spec.left_keys);
        let (references, _) = split_types(&spec.right, 1);
        Ok(Self {
            outer,
            key_count: spec.left_keys,
            key_names: key_names(&spec.left, spec.left_keys),
            partition: spec.partition,
            keys: KeyCodec::new(&keys)?,
            rows: RowCodec::new(&values)?,
            table: KeyedTable::new(spec.left_store.as_str()),
            foreign_key: Computed::new(NAME, std::slice::from_ref(&spec.foreign_key), &spec.left)?,
            references: KeyCodec::new(&references)?,
            right_types: spec.right.fields().iter().map(|field| field.data_type().clone()).collect(),
            open: None,
            told: Vec::new(),
        })
    }

    fn open(&mut self, step: Step, ctx: &mut StepContext) -> Result<(), OperatorError> {
        let mut step = step.into_iter().map(|batch| batch.filter(|batch| !batch.is_empty()));
        let (changed, answers) = (step.next().flatten(), step.next().flatten());
        let mut foreign_keys = None;
        let changed = match changed {
            None => None,
            Some(batch) => {
                let mut failures = Vec::new();
                foreign_keys =
                    Some(self.references(&batch.columns, batch.len(), batch.present.as_ref(), &mut failures)?);
                report(failures, &batch.meta.offset, ctx);
                let mut port = Port::open(batch, &self.keys, None)?;
                port.rows = self.rows.encode(&port.batch.columns[self.key_count..], &port.batch.meta.offset)?;
                Some(port)
            }
        };
        let answers = answers.map(|batch| Port::open(batch, &self.keys, None)).transpose()?;
        self.open = Some(Open { ports: Ports([changed, answers]), foreign_keys });
        Ok(())
    }

    fn references(
        &self,
        columns: &[ArrayRef],
        rows: usize,
        present: Option<&BooleanBuffer>,
        failures: &mut Vec<(usize, String)>,
    ) -> Result<References, OperatorError> {
        let computed = self.foreign_key.evaluate_all(columns, rows, present, failures)?;
        let encoded = self.references.encode(&computed, rows)?;
        let column = computed.into_iter().next().ok_or_else(|| OperatorError::internal(NAME, "no foreign key"))?;
        Ok(References { column, encoded })
    }

    fn page(&mut self, ctx: &mut StepContext, out: &mut Vec<ChangeBatch>) -> Result<Progress, OperatorError> {
        let Some(mut open) = self.open.take() else { return Ok(Progress::Done) };
        self.table.settle();
        let mut page = Page::default();
        while page.events.len() < ctx.page_rows.max(1) && page.bytes < PAGE_BYTES {
            match open.ports.next() {
                Some(TABLE) => self.change(open.ports.port(TABLE), &mut page, ctx)?,
                Some(_) => self.answer(open.ports.port(ANSWERS), &mut page)?,
                None => break,
            }
        }
        self.finish(&open, &page, ctx, out)?;
        if open.ports.next().is_none() {
            return Ok(Progress::Done);
        }
        self.open = Some(open);
        Ok(Progress::More)
    }

    fn change(&mut self, port: &mut Port, page: &mut Page, ctx: &mut StepContext) -> Result<(), OperatorError> {
        let i = port.advance(&[&self.table]);
        if port.lacks_key(i) {
            let reason = format!("a record of a table needs a key, but {} is NULL", self.key_names);
            ctx.lose(port.batch.meta.offset[i], LossKind::NullKey, reason);
            return Ok(());
        }
        let old = self.table.replace(port.keys.row(i), port.stored(i))?;
        if old.is_some() || port.batch.is_present(i) {
            page.bytes += old.map_or(0, RowRef::len);
            page.events.push(Event::Change(i, page.old.len()));
            page.changed.push(i);
            page.old.push(old);
        }
        Ok(())
    }

    fn answer(&mut self, port: &mut Port, page: &mut Page) -> Result<(), OperatorError> {
        let i = port.advance(&[&self.table]);
        let version = port.batch.columns[self.key_count + 1].as_primitive::<Int64Type>().value(i);
        let Some(row) = self.table.get(port.keys.row(i))? else { return Ok(()) };
        if RowCodec::rowtime(self.table.row(row))? == version {
            page.bytes += row.len();
            page.events.push(Event::Answer(i, page.current.len()));
            page.current.push(row);
        }
        Ok(())
    }

    fn finish(
        &mut self,
        open: &Open,
        page: &Page,
        ctx: &mut StepContext,
        out: &mut Vec<ChangeBatch>,
    ) -> Result<(), OperatorError> {
        let old = self.old_references(&open.ports, page)?;
        let (mut joined, mut told) = (Vec::new(), Vec::new());
        for event in &page.events {
            match *event {
                Event::Change(row, n) => {
                    self.decide(open, row, (n, page.old[n].is_some(), old.as_ref()), ctx, &mut joined, &mut told)
                }
                Event::Answer(row, n) => {
                    let port = open.ports.0[ANSWERS].as_ref().expect("an answer's port is there");
                    let found = port.batch.is_present(row);
                    let right = found.then_some(row as u32);
                    joined.push(Joined { pick: (ANSWERS, row), left: (1, n), right, present: found || self.outer });
                }
            }
        }
        if !told.is_empty() {
            let batch = self.tell(open, old.as_ref(), &told).map_err(arrow_error(NAME))?;
            self.told.push(batch);
        }
        if !joined.is_empty() {
            out.push(self.joined(&open.ports, page, &joined)?);
        }
        Ok(())
    }

    /// What the rows that were replaced referred to, row-aligned with `page.old`; `None` if none was replaced.
    fn old_references(&self, ports: &Ports, page: &Page) -> Result<Option<References>, OperatorError> {
        if page.old.iter().all(Option::is_none) {
            return Ok(None);
        }
        let decoded = self.rows.decode(page.old.iter().map(|row| row.map(|row| self.table.row(row))))?;
        let picks = Picks::new(page.changed.iter().map(|&row| (TABLE, row)).collect());
        let mut columns = ports.gather_keys(&picks, self.key_count).map_err(arrow_error(NAME))?;
        columns.extend(decoded.columns);
        // failures on old rows were told when these were new
        let found = self.references(&columns, page.old.len(), decoded.present.as_ref(), &mut Vec::new())?;
        let column = match &decoded.present {
            Some(present) => {
                let absent = arrow::array::BooleanArray::new(!present, None);
                arrow::compute::nullif(&found.column, &absent).map_err(arrow_error(NAME))?
            }
            None => found.column.clone(),
        };
        Ok(Some(References { column, ..found }))
    }

    /// What a change of a left row means; `old`: its place among the old rows, whether it replaced one, what these referred to.
    fn decide(
        &self,
        open: &Open,
        row: usize,
        (n, existed, old): (usize, bool, Option<&References>),
        ctx: &mut StepContext,
        joined: &mut Vec<Joined>,
        told: &mut Vec<Told>,
    ) {
        let port = open.ports.0[TABLE].as_ref().expect("a changed row's port is there");
        let exists = port.batch.is_present(row);
        let before = old.and_then(|old| old.of(n));
        let now = open.foreign_keys.as_ref().filter(|_| exists).and_then(|keys| keys.of(row));
        if before.is_some() && now != before {
            told.push(Told { row, reference: (1, n), instruction: Instruction::Forget });
        }
        if now.is_some() {
            let always = self.outer || before.is_some();
            let instruction = if always { Instruction::AnswerAlways } else { Instruction::AnswerIfPresent };
            told.push(Told { row, reference: (0, row), instruction });
            return;
        }
        if exists && !self.outer {
            let reason = "the row joins nothing: its foreign key is NULL";
            ctx.lose(port.batch.meta.offset[row], LossKind::NullKey, reason);
        }
        // a result is there if the row was, for INNER joins: if it referred to something
        let takes_away = if self.outer { existed } else { before.is_some() };
        if (exists && self.outer) || takes_away {
            joined.push(Joined { pick: (TABLE, row), left: (0, row), right: None, present: exists && self.outer });
        }
    }

    fn tell(&self, open: &Open, old: Option<&References>, told: &[Told]) -> Result<ChangeBatch, ArrowError> {
        let port = open.ports.0[TABLE].as_ref().expect("a changed row's port is there");
        let rows: Vec<u32> = told.iter().map(|told| told.row as u32).collect();
        let by = UInt32Array::from(rows.clone());
        let from: Vec<(usize, usize)> = told.iter().map(|told| told.reference).collect();
        let new = open.foreign_keys.as_ref().map(|keys| &keys.column);
        let new = new.ok_or_else(|| ArrowError::InvalidArgumentError("left rows without foreign keys".into()))?;
        let old = old.map_or(new, |old| &old.column);
        let mut columns = vec![interleave(&[new.as_ref(), old.as_ref()], &from)?];
        for column in &port.batch.columns[..self.key_count] {
            columns.push(take(column, &by, None)?);
        }
        columns.push(take(&port.batch.columns[self.partition], &by, None)?);
        columns.push(Arc::new(rows.iter().map(|&row| port.batch.meta.offset[row as usize]).collect::<Int64Array>()));
        columns.push(Arc::new(told.iter().map(|told| told.instruction as i32).collect::<Int32Array>()));
        let mut meta = port.batch.meta.take(&rows)?;
        meta.headers = None;
        Ok(ChangeBatch { columns, present: None, old: None, meta })
    }

    fn joined(&self, ports: &Ports, page: &Page, joined: &[Joined]) -> Result<ChangeBatch, OperatorError> {
        let failed = arrow_error(NAME);
        let changes = Picks::new(joined.iter().map(|joined| joined.pick).collect());
        let mut columns = ports.gather_keys(&changes, self.key_count).map_err(&failed)?;
        let current = self.rows.decode(page.current.iter().map(|row| Some(self.table.row(*row))))?.columns;
        let changed = ports.0[TABLE].as_ref().map_or(&[][..], |port| &port.batch.columns[self.key_count..]);
        let left = Picks::new(joined.iter().map(|joined| joined.left).collect());
        columns.extend(left.gather([changed, &current]).map_err(&failed)?);
        let right: UInt32Array = joined.iter().map(|joined| joined.right).collect();
        let answers = ports.0[ANSWERS].as_ref().map(|port| &port.batch.columns[self.key_count + 2..]);
        for (n, data_type) in self.right_types.iter().enumerate() {
            columns.push(match answers {
                Some(answers) => take(&answers[n], &right, None).map_err(&failed)?,
                None => new_null_array(data_type, joined.len()),
            });
        }
        let times = joined.iter().map(|joined| {
            let (port, row) = joined.pick;
            ports.0[port].as_ref().map_or(0, |port| port.batch.meta.rowtime[row])
        });
        let meta = ports.gather_meta(&changes, times.collect()).map_err(&failed)?;
        let present = BooleanBuffer::collect_bool(joined.len(), |i| joined[i].present);
        let present = (present.count_set_bits() < joined.len()).then_some(present);
        Ok(ChangeBatch { columns, present, old: None, meta })
    }
}

impl Operator for ForeignKeyLeft {
    fn process(
        &mut self,
        step: Step,
        ctx: &mut StepContext,
        out: &mut Vec<ChangeBatch>,
    ) -> Result<Progress, OperatorError> {
        self.open(step, ctx)?;
        self.page(ctx, out)
    }

    fn resume(&mut self, ctx: &mut StepContext, out: &mut Vec<ChangeBatch>) -> Result<Progress, OperatorError> {
        self.page(ctx, out)
    }

    fn side(&mut self) -> Vec<ChangeBatch> {
        std::mem::take(&mut self.told)
    }

    fn rest(&self) -> Result<Option<Rest>, OperatorError> {
        Ok(self.open.as_ref().map(|open| open.ports.rest()))
    }

    fn reopen(&mut self, rest: Rest, ctx: &mut StepContext) -> Result<(), OperatorError> {
        // losses were told when the rows were first opened
        let told = ctx.losses.len();
        self.open(rest.rows, ctx)?;
        ctx.losses.truncate(told);
        Ok(())
    }

    fn stores(&mut self) -> Vec<&mut dyn Store> {
        vec![&mut self.table]
    }
}
