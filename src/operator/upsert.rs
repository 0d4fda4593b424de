//! Rows of a TABLE topic become changes: each with the row that its key had before.
//!
//! Not a filter for what did not change: every record is a change, also a tombstone for a key never seen. The subtle thing: if nobody
//! downstream asks for old rows, none is looked up: rows are stored for readers only, or not at all.

use arrow::datatypes::SchemaRef;

use crate::state::encoding::{KeyCodec, RowCodec};
use crate::state::{KeyedTable, RowRef, Store, WriteOnlyTable};
use crate::types::{ChangeBatch, OldRows};

use super::port::{PAGE_BYTES, Port, key_names, slice, split_types};
use super::{LossKind, Operator, OperatorError, Progress, Rest, Step, StepContext};

const NAME: &str = "upsert";

/// [`crate::plan::topology::OperatorSpec::Upsert`].
pub struct UpsertOperator {
    key_count: usize,
    key_names: String,
    /// what it stores, if someone asks for it
    kept: Option<Kept>,
    pending: Option<Port>,
}

struct Kept {
    keys: KeyCodec,
    rows: RowCodec,
    table: Table,
}

enum Table {
    /// old rows are asked for
    Known(KeyedTable),
    /// only readers ask
    WriteOnly(WriteOnlyTable),
}

impl UpsertOperator {
    /// An operator for rows of `schema`, of which the first `key_count` columns are the key. `store` is the name of its store; if rows are
    /// neither asked for downstream (`emit_old`) nor by readers (`keep`) it has none.
    ///
    /// # Errors
    /// If a column has a type that no store holds.
    pub fn new(
        store: &str,
        (emit_old, keep): (bool, bool),
        schema: &SchemaRef,
        key_count: usize,
    ) -> Result<Self, OperatorError> {
        let (keys, values) = split_types(schema, key_count);
        let table = match (emit_old, keep) {
            (true, _) => Some(Table::Known(KeyedTable::new(store))),
            (false, true) => Some(Table::WriteOnly(WriteOnlyTable::new(store))),
            (false, false) => None,
        };
        let kept =
            |table| Ok::<_, OperatorError>(Kept { keys: KeyCodec::new(&keys)?, rows: RowCodec::new(&values)?, table });
        let kept = table.map(kept).transpose()?;
        Ok(Self { key_count, key_names: key_names(schema, key_count), kept, pending: None })
    }

    fn drop_rows_without_key(&self, batch: ChangeBatch, ctx: &mut StepContext) -> Result<ChangeBatch, OperatorError> {
        let keys = &batch.columns[..self.key_count.min(batch.columns.len())];
        let Some(no_key) = crate::state::encoding::null_keys(keys, batch.len()) else { return Ok(batch) };
        for i in no_key.set_indices() {
            let reason = format!("a record of a table needs a key, but {} is NULL", self.key_names);
            ctx.lose(batch.meta.offset[i], LossKind::NullKey, reason);
        }
        batch.filter(&!&no_key).map_err(super::port::arrow_error(NAME))
    }

    fn page(&mut self, ctx: &StepContext, out: &mut Vec<ChangeBatch>) -> Result<Progress, OperatorError> {
        let (Some(kept), Some(port)) = (&mut self.kept, &mut self.pending) else { return Ok(Progress::Done) };
        let table = match &mut kept.table {
            Table::Known(table) => table,
            Table::WriteOnly(table) => {
                table.settle();
                (0..port.keys.len()).for_each(|i| table.set(port.keys.row(i), port.stored(i)));
                out.extend(self.pending.take().map(|port| port.batch));
                return Ok(Progress::Done);
            }
        };
        table.settle();
        let mut old: Vec<Option<RowRef>> = Vec::with_capacity(port.keys.len().min(ctx.page_rows));
        let (mut from, mut bytes) = (None, 0);
        while old.len() < ctx.page_rows.max(1) && bytes < PAGE_BYTES && port.next_seq().is_some() {
            let i = port.advance(&[table]);
            from.get_or_insert(i);
            let row = table.replace(port.keys.row(i), port.stored(i))?;
            bytes += row.map_or(0, RowRef::len);
            old.push(row);
        }
        let Some(from) = from else {
            self.pending = None;
            return Ok(Progress::Done);
        };
        let decoded = kept.rows.decode(old.iter().map(|row| row.map(|row| table.row(row))))?;
        let mut batch = slice(&port.batch, from, old.len());
        let mut columns = batch.columns[..self.key_count].to_vec();
        columns.extend(decoded.columns);
        batch.old = Some(OldRows { columns, present: decoded.present });
        out.push(batch);
        if port.next_seq().is_some() {
            return Ok(Progress::More);
        }
        self.pending = None;
        Ok(Progress::Done)
    }
}

impl Operator for UpsertOperator {
    fn process(
        &mut self,
        step: Step,
        ctx: &mut StepContext,
        out: &mut Vec<ChangeBatch>,
    ) -> Result<Progress, OperatorError> {
        for batch in step.into_iter().flatten() {
            let batch = self.drop_rows_without_key(batch, ctx)?;
            match &self.kept {
                _ if batch.is_empty() => {}
                None => out.push(batch),
                Some(kept) => self.pending = Some(Port::open(batch, &kept.keys, Some(&kept.rows))?),
            }
        }
        self.page(ctx, out)
    }

    fn resume(&mut self, ctx: &mut StepContext, out: &mut Vec<ChangeBatch>) -> Result<Progress, OperatorError> {
        self.page(ctx, out)
    }

    fn rest(&self) -> Result<Option<Rest>, OperatorError> {
        Ok(self.pending.as_ref().map(|port| Rest { rows: vec![port.rest()], within: Vec::new() }))
    }

    fn reopen(&mut self, rest: Rest, _: &mut StepContext) -> Result<(), OperatorError> {
        if let (Some(kept), Some(batch)) = (&self.kept, rest.rows.into_iter().flatten().next()) {
            self.pending = Some(Port::open(batch, &kept.keys, Some(&kept.rows))?);
        }
        Ok(())
    }

    fn stores(&mut self) -> Vec<&mut dyn Store> {
        fn store(kept: &mut Kept) -> &mut dyn Store {
            match &mut kept.table {
                Table::Known(table) => table,
                Table::WriteOnly(table) => table,
            }
        }
        self.kept.iter_mut().map(store).collect()
    }
}

#[cfg(test)]
mod tests;
